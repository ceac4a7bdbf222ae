"""The lower level: how a frame model is trained, and its game on random frames."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ldf_video.errors import UsageError
from ldf_video.files.layout import layout_of
from ldf_video.models import build
from ldf_video.models.frame import FrameGame, FrameModel
from ldf_video.models.game import Batch, Part
from ldf_video.options.trainings import PAPER_RATE, RATE, ROLLED_RATE, TrainFrame
from ldf_video.runs.run import Settings
from ldf_video.runs.training import check_frame_origin, origin_settings, training_config
from ldf_video.runs.zoo import Loaded
from ldf_video.training.ranks import Ranks
from ldf_video.training.update import frame_indices
from ldf_video.video.geometry import make_geometry
from ldf_video.video.pixels import from_model, psnr_db, to_model
from ldf_video.video.sheet import write_sheet

SHOWN, SHEET_PAIRS = 16, 4
"""Frames in a row of a picture; rows of real frames in the final one."""
MEASURED_FRAMES = 256
"""Held-out frames that a loss is the mean of, and frames that batch statistics are taken from."""
RESIDENT_SHARE = 0.1
"""Of a GPU's free memory that frames may take before they are left in main memory."""
CHUNK_FRAMES = 4096
"""Frames that are copied to a GPU at once."""
FEWEST_FRAMES = 4
"""In each part of a batch: batch norms of the paper's preset see no other frames."""
DEFAULTS = {
    "default": {"optimizer": "muon", "learning_rate": RATE},
    "paper": {"optimizer": "adam", "learning_rate": PAPER_RATE},
    "rolled": {"optimizer": "adam", "learning_rate": ROLLED_RATE},
}
"""Settings of a training, by preset; "rolled": with a top model."""


def frame_run_config(
    options: TrainFrame, *, device: str, ranks: Ranks, origin: Loaded[FrameModel] | None = None
) -> Settings:
    """Everything that a fresh run is made by, from its options and the model of `--init`.

    Raises:
        UsageError: options do not go together, or not with that model.
    """
    like = {} if origin is None else origin.config["model"]
    shape: Any = None if origin is None else origin.model.config
    usual = "32x32" if shape is None else f"{shape.width}x{shape.height}"
    geometry = make_geometry(size=options.size or usual, fps=options.fps, crop=options.crop)
    preset = options.preset or build.preset_of(like)
    if origin is not None:
        check_frame_origin(str(options.init), origin, preset=preset, geometry=geometry)
    for flag, value in (("--width", options.width), ("--latent-noise", options.latent_noise)):
        if value is not None and preset != "default":
            raise UsageError(f"{flag} {value}: --preset {preset} has no such thing: drop it")
    if origin is not None and options.width is not None and options.width != shape.base_width:
        raise UsageError(
            f"--width {options.width}: the model of --init has {shape.base_width}, which stays: "
            "drop it"
        )
    try:
        model, game = build.frame_settings(
            preset,
            height=geometry.height,
            width=geometry.width,
            like=like,
            base_width=options.width,
            latent_noise=options.latent_noise,
        )
    except ValueError as error:
        raise UsageError(f"--size: {error}") from None
    defaults = DEFAULTS[preset if options.top_model is None else "rolled"]
    training = training_config(options, device=device, ranks=ranks, defaults=defaults)
    fewest = FEWEST_FRAMES * training.accumulate
    if training.batch_size < fewest:
        parts = f" with --accumulate {training.accumulate}" * (training.accumulate > 1)
        raise UsageError(f"--batch-size {training.batch_size}{parts}: expected {fewest} or more")
    begun = {} if origin is None else origin_settings(options, origin)
    return {
        "model": model,
        "game": game,
        "training": asdict(training),
        "frames": {**geometry.settings(), **layout_of(options).settings()},
        **begun,
    }


class Frames(Protocol):
    """Frames by number."""

    @property
    def num_frames(self) -> int: ...

    def frames_at(self, numbers: npt.NDArray[Any], /) -> npt.NDArray[Any]:
        """Frames (N, H, W, 3), uint8."""
        ...


class FrameLevel:
    """The lower level as the training loop sees it: a game on single frames."""

    score = "pixels"

    def __init__(
        self,
        game: FrameGame,
        frames: Frames,
        *,
        batch_size: int,
        seed: int,
        held_out: Frames | None = None,
        resident_share: float = RESIDENT_SHARE,
    ) -> None:
        """Args: the game; frames to learn from and others to measure on; see `FrameSupply`."""
        self.game = game
        if not torch.backends.mps.is_available():  # the layout of frames as they come
            game.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._supply = FrameSupply(frames, batch_size=batch_size, seed=seed, share=resident_share)
        self._calibration = _some_frames(frames)
        self._held_out = None if held_out is None else _some_frames(held_out)

    @property
    def _shown(self) -> npt.NDArray[Any]:
        return self._calibration if self._held_out is None else self._held_out

    def batch(self, step: int, part: Part, device: torch.device) -> Batch:
        """Random frames (B, 3, H, W) in [-1, 1]."""
        return self._supply.batch(step, part, device)

    def calibration(self, device: torch.device) -> Tensor:
        """The same random frames each time."""
        return to_model(self._calibration, device=device)

    @torch.inference_mode()
    def evaluate(self, model: FrameModel) -> Mapping[str, float]:
        """The pixel loss of held-out frames, as the game has it, and their PSNR in dB."""
        return {} if self._held_out is None else self._measure(model, self._held_out)

    def _measure(self, model: FrameModel, known: npt.NDArray[Any]) -> dict[str, float]:
        losses, squares, device = [], [], next(model.parameters()).device
        for frames in np.array_split(known, max(1, len(known) // 16)):
            x = to_model(frames, device=device)
            y = model.generator(model.encoder(x))
            losses.append(len(x) * self.game.pixel_loss(y, x).item())
            error = from_model(y).astype(np.float64) - frames
            squares.append(len(x) * float(np.square(error).mean()))
        return {"pixels": sum(losses) / len(known), "psnr_db": psnr_db(sum(squares) / len(known))}

    @torch.inference_mode()
    def describe(self, model: FrameModel, values: Mapping[str, float]) -> str:
        """The PSNR of held-out frames, or of some that are learned from."""
        if "psnr_db" in values:
            return f"held-out frames come back at {values['psnr_db']:.1f} dB"
        seen = self._measure(model, self._calibration)
        return f"frames that it learns from come back at {seen['psnr_db']:.1f} dB"

    def draw(self, model: FrameModel, path: Path) -> npt.NDArray[np.uint8]:
        """Rows of real frames, their reconstructions, and frames decoded from the prior."""
        return self._draw(model, path.with_suffix(".png"), rows=1, upscale=3)

    def draw_sheet(self, model: FrameModel, path: Path) -> None:
        """A large sheet: pairs of rows of real frames and reconstructions, then samples."""
        self._draw(model, path, rows=SHEET_PAIRS, upscale=2 if model.config.width <= 64 else 1)

    @torch.inference_mode()
    def _draw(
        self, model: FrameModel, path: Path, *, rows: int, upscale: int
    ) -> npt.NDArray[np.uint8]:
        device, drawn = next(model.parameters()).device, []
        for frames in np.split(self._shown[: rows * SHOWN], rows):
            reconstructed = model.generator(model.encoder(to_model(frames, device=device)))
            drawn += [frames, from_model(reconstructed)]
        noise = torch.Generator().manual_seed(0)
        for _ in range(rows):
            z = torch.randn((SHOWN, *model.config.latent_shape), generator=noise)
            drawn.append(from_model(model.generator(z.to(device))))
        return write_sheet(path, drawn, upscale=upscale)


def _some_frames(frames: Frames) -> npt.NDArray[Any]:
    """`MEASURED_FRAMES` random frames (N, H, W, 3), the same ones each time."""
    total = frames.num_frames
    return frames.frames_at(frame_indices(0, 0, num_frames=total, batch_size=MEASURED_FRAMES))


class FrameSupply:
    """Random frames of each update, a function of (seed, number of the update, part).

    On a GPU all frames lie in its memory if they fit a share of what is free, else those of the
    next update are read while this one runs. On a CPU they are read when they are asked for: no
    core is idle then.
    """

    def __init__(
        self, frames: Frames, *, batch_size: int, seed: int, share: float = RESIDENT_SHARE
    ) -> None:
        """Args: frames; how many an update takes; the seed; share of a GPU's memory, 0 for none."""
        self._frames, self._batch_size, self._seed, self._share = frames, batch_size, seed, share
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self._begun: dict[Part, tuple[int, Future[npt.NDArray[Any]]]] = {}
        self._resident: Tensor | None = None
        self._is_decided = False  # whether they are resident

    def batch(self, number: int, part: Part, device: torch.device) -> Tensor:
        """The frames (B, 3, H, W) in [-1, 1] of a part, the channels of a pixel side by side.

        Args:
            number: of the update.
            part: of its batch.
            device: where they go.
        """
        if device.type == "cuda" and not self._is_decided:
            self._is_decided = True
            free, _ = torch.cuda.mem_get_info(device)
            self._resident = resident(self._frames, device, limit=int(self._share * free))
        pixels: npt.NDArray[Any] | Tensor
        if self._resident is not None:
            numbers = torch.from_numpy(self._numbers(number, part)).pin_memory()
            pixels = self._resident[numbers.to(device, non_blocking=True)]  # nothing waits for it
        elif device.type == "cuda":
            pixels = torch.from_numpy(self.read_ahead(number, part)).pin_memory()
        else:
            pixels = self._read(number, part)
        return to_model(pixels, device=device, channels_last=device.type != "mps")

    def read_ahead(self, number: int, part: Part) -> npt.NDArray[Any]:
        """The frames of a part, uint8; those of the next update begin to be read in a thread."""
        begun, frames = self._begun.pop(part, (None, None))
        got = frames.result() if frames and begun == number else self._read(number, part)
        self._begun[part] = (number + 1, self._pool.submit(self._read, number + 1, part))
        return got

    def _read(self, number: int, part: Part) -> npt.NDArray[Any]:
        return self._frames.frames_at(self._numbers(number, part))

    def _numbers(self, number: int, part: Part) -> npt.NDArray[np.int64]:
        total, size = self._frames.num_frames, self._batch_size
        return part.rows(frame_indices(self._seed, number, num_frames=total, batch_size=size))


def resident(frames: Frames, device: torch.device, *, limit: int) -> Tensor | None:
    """All frames (N, H, W, 3), uint8, in a device's memory; None if they exceed `limit` bytes."""
    first = frames.frames_at(np.zeros(1, np.int64))
    if frames.num_frames * first.nbytes > limit:
        return None
    held = torch.empty((frames.num_frames, *first.shape[1:]), dtype=torch.uint8, device=device)
    for start in range(0, len(held), CHUNK_FRAMES):
        numbers = np.arange(start, min(start + CHUNK_FRAMES, len(held)))
        held[numbers[0] : numbers[-1] + 1] = torch.from_numpy(frames.frames_at(numbers))
    return held
