"""Latents: the store that a top model learns from, and the way from its latents to frames."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ldf_video.errors import StoreError
from ldf_video.levels.ahead import ahead
from ldf_video.models.frame import FrameModel
from ldf_video.options.option import FRAME_MODEL
from ldf_video.store.reader import StoreReader
from ldf_video.training.update import frame_indices, windows
from ldf_video.video.pixels import from_model

Frames = npt.NDArray[np.uint8]

STATISTICS_FRAMES = 65_536
"""Frames from which the mean and spread of latents are taken at most."""
SHOWN_WINDOWS = 256
"""Windows from which a flow learns to keep its past."""
DECODED_AT_ONCE = 16
"""Frames, of all videos together: a block of one video is too few to keep a processor busy."""
BLOCKS_AHEAD = 8
"""Sampled blocks that wait to be decoded: two batches of one video."""
DECODED_AHEAD = 2
"""Decoded batches that wait to be written."""


def open_latents(path: Path) -> StoreReader:
    """Open a store of latents that holds something.

    Raises:
        StoreError: it does not exist, is of another kind, or is empty.
    """
    if not path.exists():
        raise StoreError(f"no latents at {path}: run ldf-video encode CLIPS first")
    reader = StoreReader(path)
    if reader.spec.kind != "latents":
        raise StoreError(f"{path} holds {reader.spec.kind}, expected latents")
    if not reader.num_frames:
        raise StoreError(f"{path} holds no finished clip: run ldf-video encode CLIPS first")
    return reader


def maker_of(latents: StoreReader) -> dict[str, str]:
    """The fingerprint of the frame model that made a store's latents, and where it stood."""
    made = {
        "fingerprint": str(latents.spec.settings["weights"]),
        "path": str(latents.info.get("frame_model", FRAME_MODEL)),
    }
    if "frame_model_relative" in latents.info:
        made["relative"] = str(latents.info["frame_model_relative"])
    return made


def latent_statistics(reader: StoreReader, *, seed: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of latents, each (C, H, W): of all, or of a random sample."""
    count = min(STATISTICS_FRAMES, reader.num_frames)
    indices = np.arange(count)
    if count < reader.num_frames:
        indices = frame_indices(seed, 0, num_frames=reader.num_frames, batch_size=count)
    total, squares = np.zeros((2, *reader.spec.item_shape))
    for part in np.array_split(np.sort(indices), max(1, count // 4096)):
        rows = reader.frames_at(part).astype(np.float64)
        total += rows.sum(0)
        squares += np.square(rows).sum(0)
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - np.square(mean), 0))
    return torch.from_numpy(mean).float(), torch.from_numpy(std).float()


def whole_windows(reader: StoreReader, window: int) -> Tensor:
    """Some windows (N, window, C, H, W) without padding, always the same.

    Raises:
        StoreError: no clip is long enough.
    """
    clips, starts = windows(0, 0, lengths=reader.lengths, window=window, batch_size=SHOWN_WINDOWS)
    values, mask = reader.windows(clips, starts, length=window)
    whole = mask.all(1)
    if not whole.any():
        raise StoreError(f"no clip has {window} frames, the top model's window: bring longer clips")
    return torch.from_numpy(values[whole]).float()


def latent_shape(reader: StoreReader) -> tuple[int, int, int]:
    """Channels, rows and columns of one frame's latent."""
    channels, rows, columns = reader.spec.item_shape
    return channels, rows, columns


def usual_fps(reader: StoreReader) -> Fraction:
    """The middle of (at most a thousand) clips' frame rates."""
    some = np.linspace(0, reader.num_clips - 1, min(reader.num_clips, 1000)).astype(int)
    rates = sorted(reader.fps(int(clip)) for clip in some)
    return rates[len(rates) // 2]


def video_generator(seed: int, video: int) -> torch.Generator:
    """The source of chance of one video: it does not depend on how many others there are."""
    state = np.random.SeedSequence([seed, video]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


@contextmanager
def rolled_frames(frame: FrameModel, blocks: Iterator[Tensor]) -> Iterator[Iterator[Frames]]:
    """Frames of what a top model makes, as `decode` gives them, one after the other.

    On a CPU the two models work in a thread each, ahead of the caller, who writes. Each has half of
    torch's threads: one video at a time is too little work for more. What is made depends on no
    timing, and what waits is a few blocks whatever the length.
    """
    if next(frame.parameters()).device.type != "cpu":
        yield decode(frame, blocks)
        return
    threads = max(1, torch.get_num_threads() // 2)
    with (
        ahead(blocks, count=BLOCKS_AHEAD, threads=threads) as sampled,
        ahead(decode(frame, sampled), count=DECODED_AHEAD, threads=threads) as frames,
    ):
        yield frames


@torch.inference_mode()
def decode(
    model: FrameModel,
    blocks: Iterator[Tensor],
    *,
    before: Frames | None = None,
    at_once: int = DECODED_AT_ONCE,
) -> Iterator[Frames]:
    """Latents (N, n, C, H, W) a block -> frames (N, m, H, W, 3) uint8, of some blocks together.

    Args:
        model: made the latents.
        blocks: in the order of time.
        before: the frames (N, H, W, 3) that are shown before the first of them, if any are.
        at_once: latents that are decoded together at least, but for the last; 1: each block as it
            comes.
    """
    for latents in _together(blocks, at_once):
        videos, count = latents.shape[:2]
        frames = from_model(model.decode(latents.flatten(0, 1)))
        frames = frames.reshape(videos, count, *frames.shape[1:])
        if model.hold:
            before = hold(frames, before, levels=model.hold)
        yield frames


def hold(frames: Frames, before: Frames | None, *, levels: int) -> Frames:
    """Show a pixel as it was shown before where it has hardly changed; `frames` are changed.

    What stands still would flicker by a level or two, as latents of neighbouring frames are never
    quite equal. What changes slowly is followed in steps.

    Args:
        frames: of some videos, (N, T, H, W, 3), T at least 1.
        before: what was shown before the first of them, (N, H, W, 3), or None.
        levels: of 255, within which all three colours of a pixel must be to stay.

    Returns:
        What was shown last, (N, H, W, 3), a copy.
    """
    for now in np.moveaxis(frames, 1, 0):
        if before is not None:
            change = np.abs(now.astype(np.int16) - before).max(-1, keepdims=True)
            np.copyto(now, before, where=change <= levels)
        before = now
    assert before is not None
    return before.copy()


def _together(blocks: Iterator[Tensor], at_once: int) -> Iterator[Tensor]:
    """The same latents, at least `at_once` of them at a time but for the last."""
    held: list[Tensor] = []
    for latents in blocks:
        held.append(latents)
        if sum(block.shape[0] * block.shape[1] for block in held) >= at_once:
            yield torch.cat(held, dim=1)
            held = []
    if held:
        yield torch.cat(held, dim=1)
