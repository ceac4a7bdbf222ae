"""The two levels by core time: a frame model, the latents of all clips, a top model of them.

What `train-frame`, `encode` and `train-top` do, in one process and on arrays, so that every second
of the core can be counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from arrays import FramesOf, WindowsOf
from experiment import Clips, Mark, counted, seconds_in, train
from numpy.typing import NDArray

from ldf_video.errors import LdfError
from ldf_video.levels.frame_level import DEFAULTS as FRAME_DEFAULTS
from ldf_video.levels.frame_level import FrameLevel
from ldf_video.levels.latents import decode, video_generator
from ldf_video.levels.top_settings import DEFAULTS as TOP_DEFAULTS
from ldf_video.levels.top_settings import fit_window
from ldf_video.models import build
from ldf_video.models.frame import FrameModel
from ldf_video.models.grid import GridModel
from ldf_video.models.inference import GridInference
from ldf_video.models.rollout import Rollout
from ldf_video.models.top import TopModel
from ldf_video.output import write_atomically
from ldf_video.training.config import TrainConfig
from ldf_video.video.pixels import to_model

PRECISION = "bf16"
AT_ONCE = 256
SECONDS, LATENTS = "encode.json", "latents.npy"


@dataclass(frozen=True)
class Lower:
    """A trained lower level, and what it has cost so far."""

    model: FrameModel
    latents: NDArray[Any]  # of all clips, (N, T, C, h, w)
    core_seconds: float


def train_lower(
    preset: str,
    clips: Clips,
    test: Clips,
    directory: Path,
    *,
    minutes: float,
    seed: int,
    encoded: int | None = None,
) -> Lower:
    """Train a frame model on all frames for some core minutes, and encode all clips or the first.

    Args:
        preset: of the frame model.
        clips: to learn from, (N, T, H, W, 3).
        test: others, of which the PSNR is reported.
        directory: of the run.
        minutes: core minutes, without those of encoding.
        seed: of the training.
        encoded: number of clips, as encoding is long beside short trainings.

    Raises:
        LdfError: the directory has the latents of another number of clips.
    """
    torch.manual_seed(seed)
    height, width = clips.shape[2:4]
    model, game_settings = build.frame_settings(preset, height=height, width=width)
    game = build.frame_game(model, game_settings)
    # The paper's networks learn most from many small batches.
    config = TrainConfig(
        minutes=minutes,
        batch_size=16 if preset == "paper" else 64,
        mixed_precision=PRECISION,
        seed=seed,
        **FRAME_DEFAULTS[preset],
    )
    level = FrameLevel(
        game, FramesOf(clips), batch_size=config.batch_size, seed=seed, held_out=FramesOf(test)
    )
    marks = train(level, directory, config)
    frame = marks[-1].load(build.frame_model(model))
    assert isinstance(frame, FrameModel)
    path = directory / LATENTS
    if not (path.is_file() and (directory / SECONDS).is_file()):
        (directory / SECONDS).unlink(missing_ok=True)  # of encoding that was stopped
        with counted(directory / SECONDS):
            write_array(path, encode(frame, clips[:encoded]))
    latents, wanted = np.load(path, mmap_mode="r"), len(clips[:encoded])
    if len(latents) != wanted:
        raise LdfError(
            f"{path} has latents of {len(latents):,} clips, asked for {wanted:,}: name other --runs"
        )
    seconds = marks[-1].core_seconds + seconds_in(directory / SECONDS)
    return Lower(frame, latents, seconds)


def write_array(path: Path, values: NDArray[Any]) -> None:
    """Write a .npy file, whole or not at all."""

    def write(partial: Path) -> None:
        with partial.open("wb") as file:
            np.save(file, values)

    write_atomically(path, write)


@torch.inference_mode()
def encode(frame: FrameModel, clips: Clips) -> NDArray[np.float16]:
    """E of clips (N, T, H, W, 3), as a store keeps it: (N, T, C, h, w)."""
    encoder: Any = frame.encoder
    if isinstance(frame, GridModel):
        encoder = GridInference(frame.encoder)
    frames = clips.reshape(-1, *clips.shape[2:])
    parts = [
        encoder(to_model(frames[start : start + AT_ONCE])).half().numpy()
        for start in range(0, len(frames), AT_ONCE)
    ]
    return np.concatenate(parts).reshape(*clips.shape[:2], *parts[0].shape[1:])


@dataclass(frozen=True)
class Pair:
    """A frame model and a top model as it was at a mark."""

    frame: FrameModel
    top: TopModel
    mark: Mark
    core_seconds: float  # of both levels and of encoding

    @torch.inference_mode()
    def sample(self, count: int, *, seed: int) -> Clips:
        """Clips (count, T, H, W, 3)."""
        self.mark.load(self.top)
        window = self.top.config.window
        parts = []
        for start in range(0, count, AT_ONCE):
            numbers = range(start, min(start + AT_ONCE, count))
            generators = [video_generator(seed, number) for number in numbers]
            blocks: Iterator[Any] = self.top.sample(Rollout(window), generators)
            parts.append(np.concatenate(list(decode(self.frame, blocks)), axis=1))
        return np.concatenate(parts)


def train_upper(
    kind: str,
    lower: Lower,
    directory: Path,
    *,
    minutes: float,
    seed: int,
    few: int | None = None,
    mark_seconds: float = 60.0,
) -> list[Pair]:
    """Train a top model on latents for what is left of `minutes` in all.

    Args:
        kind: "flow" or "mlp".
        lower: what it stands on; its seconds count.
        directory: of the run.
        minutes: core minutes of both levels and of encoding.
        seed: of the training.
        few: number of clips that it sees, drawn by the seed; all without it.
        mark_seconds: core time between marks.
    """
    seen = lower.latents if few is None else lower.latents[few_of(len(lower.latents), few, seed)]
    latents = torch.from_numpy(np.array(seen)).float()
    _, length, *shape = latents.shape
    window, block = (length, 1) if kind == "mlp" else fit_window(length, longest=length)
    model, settings = build.top_settings(
        kind, latent_shape=tuple(shape), window=window, block=block
    )
    torch.manual_seed(seed)
    top = build.top_model(model)
    top.set_statistics(latents.mean((0, 1)), latents.std((0, 1)))
    config = TrainConfig(
        minutes=max(minutes - lower.core_seconds / 60, 0.01),
        mixed_precision=PRECISION,
        seed=seed,
        **TOP_DEFAULTS[kind],
    )
    game = build.top_game(top, settings)
    level = WindowsOf(game, latents, batch_size=config.batch_size, seed=seed)
    marks = train(level, directory, config, mark_seconds=mark_seconds)
    shown = build.top_model(model)
    return [Pair(lower.model, shown, m, lower.core_seconds + m.core_seconds) for m in marks]


def few_of(total: int, few: int, seed: int) -> NDArray[np.int64]:
    """Numbers of `few` of `total` clips, in order; those of a smaller number are among them."""
    return np.sort(np.random.default_rng(seed).permutation(total)[:few])
