"""Where a training's frames wait for their update: on the GPU, read ahead, or in the store."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ldf_video.models.game import Part
from ldf_video.training.update import frame_indices
from ldf_video.video.pixels import to_model

RESIDENT_SHARE = 0.1
"""Of a GPU's free memory that frames may take before they are left in main memory."""
CHUNK_FRAMES = 4096
"""Frames that are copied to a GPU at once."""


class Frames(Protocol):
    """Frames by number."""

    @property
    def num_frames(self) -> int:
        """How many there are."""
        ...

    def frames_at(self, numbers: npt.NDArray[Any], /) -> npt.NDArray[Any]:
        """Frames (N, H, W, 3), uint8."""
        ...


class FrameSupply:
    """Random frames of each update, a function of (seed, number of the update, part).

    On a GPU all frames lie in its memory if they fit a share of what is free, else those of the
    next update are read while this one runs. Elsewhere they are read when they are asked for: no
    core is idle then.
    """

    def __init__(
        self, frames: Frames, *, batch_size: int, seed: int, share: float = RESIDENT_SHARE
    ) -> None:
        """Args: frames; how many an update takes; the seed; share of a GPU's memory, 0 for none."""
        self._draw = _Draw(frames, batch_size=batch_size, seed=seed)
        self._frames, self._share = frames, share
        self._ahead = ReadAhead(self._draw.read)
        self._resident: Tensor | None = None
        self._is_known = False  # whether they fit

    def batch(self, number: int, part: Part, device: torch.device) -> Tensor:
        """The frames (B, 3, H, W) in [-1, 1] of a part, the channels of a pixel side by side.

        Args:
            number: of the update.
            part: of its batch.
            device: where they go.
        """
        if device.type == "cuda" and not self._is_known:
            self._is_known = True
            free, _ = torch.cuda.mem_get_info(device)
            self._resident = resident(self._frames, device, limit=int(self._share * free))
        pixels: npt.NDArray[Any] | Tensor
        if self._resident is not None:
            numbers = torch.from_numpy(self._draw.numbers(number, part)).pin_memory()
            pixels = self._resident[numbers.to(device, non_blocking=True)]  # nothing waits for it
        elif device.type == "cuda":
            pixels = torch.from_numpy(self._ahead(number, part)).pin_memory()
        else:
            pixels = self._draw.read(number, part)
        return to_model(pixels, device=device, channels_last=device.type != "mps")


class _Draw:
    """Which frames are drawn for a part of an update."""

    def __init__(self, frames: Frames, *, batch_size: int, seed: int) -> None:
        self._frames, self._batch_size, self._seed = frames, batch_size, seed

    def numbers(self, number: int, part: Part) -> npt.NDArray[np.int64]:
        total, size = self._frames.num_frames, self._batch_size
        return part.rows(frame_indices(self._seed, number, num_frames=total, batch_size=size))

    def read(self, number: int, part: Part) -> npt.NDArray[Any]:
        return self._frames.frames_at(self.numbers(number, part))


class ReadAhead:
    """Reads what comes next in a thread: after update number n, that is n + 1."""

    def __init__(self, read: Callable[[int, Part], npt.NDArray[Any]]) -> None:
        """Args: what reads the frames of a part of an update's batch."""
        self._read = read
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self._begun: dict[Part, tuple[int, Future[npt.NDArray[Any]]]] = {}

    def __call__(self, number: int, part: Part) -> npt.NDArray[Any]:
        """What `read` gives, and begin to read the same part of the next one.

        Raises:
            Whatever `read` raised.
        """
        begun, frames = self._begun.pop(part, (None, None))
        got = frames.result() if frames and begun == number else self._read(number, part)
        self._begun[part] = (number + 1, self._pool.submit(self._read, number + 1, part))
        return got


def resident(frames: Frames, device: torch.device, *, limit: int) -> Tensor | None:
    """All frames (N, H, W, 3), uint8, in a device's memory; None where they exceed the limit.

    Args:
        frames: to copy there.
        device: where to.
        limit: in bytes.
    """
    first = frames.frames_at(np.zeros(1, np.int64))
    if frames.num_frames * first.nbytes > limit:
        return None
    held = torch.empty((frames.num_frames, *first.shape[1:]), dtype=torch.uint8, device=device)
    for start in range(0, len(held), CHUNK_FRAMES):
        numbers = np.arange(start, min(start + CHUNK_FRAMES, len(held)))
        held[numbers[0] : numbers[-1] + 1] = torch.from_numpy(frames.frames_at(numbers))
    return held
