"""train-top: a store of latents -> a top model. The videos are not needed any more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from ldf_video.errors import CheckpointError, StoreError, UsageError
from ldf_video.models.flow import FlowConfig, FlowTop
from ldf_video.models.frame import FrameModel
from ldf_video.pipelines.devices import choose_device, choose_precision, out_of_memory
from ldf_video.pipelines.runs import Options, budget, check_data, open_run
from ldf_video.pipelines.zoo import Loaded, load_matching_frame_model
from ldf_video.progress import Progress
from ldf_video.store.reader import StoreReader
from ldf_video.training.loop import Logs, Player, Tick, TrainConfig, Trainer
from ldf_video.training.samplers import frame_indices, windows
from ldf_video.video.pixels import from_model
from ldf_video.video.write import write_sheet

DEFAULT_WINDOW = 16
DEFAULT_BLOCK = 4
STATISTICS_FRAMES = 65_536
"""Frames from which the mean and spread of latents are taken at most."""

Batch = tuple[Tensor, Tensor]


class TopLevel:
    """The upper level as the training loop sees it."""

    def __init__(
        self,
        top: FlowTop,
        latents: StoreReader,
        *,
        batch_size: int,
        seed: int,
        frame_model: Loaded[FrameModel] | None,
    ) -> None:
        self.latents, self.batch_size, self.seed = latents, batch_size, seed
        self.networks: nn.Module = top
        self.exported: nn.Module = top
        self.players: Sequence[Player] = (Player("flow", [top], self._loss),)
        self._top = top
        self._frame_model = frame_model

    def batch(self, step: int, device: torch.device) -> Batch:
        """Random windows (B, window, C, H, W) and which of their frames are real (B, window)."""
        length = self._top.config.window
        clips, starts = windows(
            self.seed,
            step,
            lengths=self.latents.lengths,
            window=length,
            batch_size=self.batch_size,
        )
        values, mask = self.latents.windows(clips, starts, length=length)
        latents = torch.from_numpy(values).to(device).float()
        return latents, torch.from_numpy(mask).to(device)

    def _loss(self, batch: Batch, tick: Tick) -> tuple[Tensor, Logs]:
        latents, mask = batch
        return self._top.loss(latents, mask, noise=tick.noise)

    @torch.no_grad()
    def draw(self, exported: nn.Module, path: Path) -> None:
        """Generated clips, a row each; nothing where the frame model that decodes them is gone."""
        if self._frame_model is None:
            return
        top = cast("FlowTop", exported)
        generators = [torch.Generator().manual_seed(i) for i in range(10)]
        latents = torch.cat(list(top.sample(top.config.window, generators)), dim=1)
        decode = self._frame_model.model.generator
        rows = [from_model(decode(sequence)) for sequence in latents]  # each (window, H, W, 3)
        write_sheet(path, rows, upscale=3)


@out_of_memory("a smaller --batch-size or --window")
def train_top(
    *,
    latents: str | Path = "latents",
    out: str | Path = "checkpoints/top",
    window: int | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    mixed_precision: str | None = None,
    seed: int | None = None,
    resume: bool = True,
    device: str = "auto",
    quiet: bool = False,
) -> Path:
    """Train a top model on a store of latents; see `ldf_video.api.train_top`."""
    device = choose_device(device)
    reader = open_latents(Path(latents))
    given = {
        "window": window,
        "steps": steps,
        "minutes": minutes,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "mixed_precision": mixed_precision,
        "seed": seed,
    }

    def build(options: Options) -> dict[str, Any]:
        return top_run_config(options, reader, device=device)

    with open_run(Path(out), "top", given=given, resume=resume, build=build) as run:
        config = run.config
        with Progress("train-top", unit="steps", quiet=quiet) as progress:
            _check_same_latents(run.directory, config, reader)
            if run.done:
                progress.say(f"{out} is finished; --no-resume starts anew and keeps it aside")
                return run.directory
            check_data(run, reader, source=str(latents))
            training = TrainConfig(**config["training"])
            _announce(progress, run.directory, config, reader, resumed=not run.fresh)
            torch.manual_seed(training.seed)
            top = FlowTop(FlowConfig(**{k: v for k, v in config["model"].items() if k != "kind"}))
            top.set_statistics(*latent_statistics(reader, seed=training.seed))
            level = TopLevel(
                top,
                reader,
                batch_size=training.batch_size,
                seed=training.seed,
                frame_model=_frame_model_for_pictures(config, device=device),
            )
            Trainer(level, run.directory, config=training, device=device).run(progress)
    return Path(out)


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


def top_run_config(options: Options, reader: StoreReader, *, device: str) -> dict[str, Any]:
    """Everything that a fresh run is made by, from the options that were given."""
    window, block = fit_window(
        options.get("window", DEFAULT_WINDOW), longest=int(reader.lengths.max())
    )
    chosen = budget(options, device=device)
    training = TrainConfig(
        steps=chosen.get("steps"),
        minutes=chosen.get("minutes"),
        batch_size=options.get("batch_size", 64),
        learning_rate=options.get("learning_rate", 5e-4),
        beta1=0.9,
        mixed_precision=choose_precision(options.get("mixed_precision", "auto"), device=device),
        seed=options["seed"],
    )
    model = FlowConfig(latent_shape=_latent_shape(reader), window=window, block=block)
    return {
        "model": {"kind": "flow", **asdict(model)},
        "training": asdict(training),
        "latents": {"fingerprint": reader.spec.fingerprint},
        "frames": {k: v for k, v in reader.spec.settings.items() if k != "weights"},
        "fps": str(_usual_fps(reader)),
        "frame_model": {
            "fingerprint": str(reader.spec.settings["weights"]),
            "path": str(reader.info.get("frame_model", "checkpoints/frame")),
        },
    }


def fit_window(window: int, *, longest: int) -> tuple[int, int]:
    """Window and block (frames) that training can fill: at most the longest clip.

    A position of the window that no clip ever reaches would stay untrained, and a video that is
    rolled forward would meet it. The block is the largest of up to 4 frames of which the window
    holds two or more, and a whole number.

    Raises:
        UsageError: the window is under 2 frames.
    """
    if window < 2:
        raise UsageError(f"--window {window}: expected 2 frames or more")
    usable = max(min(window, longest), 2)
    fitting = (b for b in range(1, DEFAULT_BLOCK + 1) if usable % b == 0 and usable >= 2 * b)
    return usable, max(fitting)


def latent_statistics(reader: StoreReader, *, seed: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of latents, each (C, H, W): of all, or of a random sample."""
    count = min(STATISTICS_FRAMES, reader.num_frames)
    indices = np.arange(count)
    if count < reader.num_frames:
        indices = frame_indices(seed, 0, num_frames=reader.num_frames, batch_size=count)
    total = np.zeros(reader.spec.item_shape)
    squares = np.zeros(reader.spec.item_shape)
    for part in np.array_split(np.sort(indices), max(1, count // 4096)):
        rows = reader.frames_at(part).astype(np.float64)
        total += rows.sum(0)
        squares += np.square(rows).sum(0)
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - np.square(mean), 0))
    return torch.from_numpy(mean).float(), torch.from_numpy(std).float()


def _latent_shape(reader: StoreReader) -> tuple[int, int, int]:
    channels, rows, columns = reader.spec.item_shape
    return channels, rows, columns


def _usual_fps(reader: StoreReader) -> Fraction:
    """The middle of (at most a thousand) clips' frame rates."""
    some = np.linspace(0, reader.num_clips - 1, min(reader.num_clips, 1000)).astype(int)
    rates = sorted(reader.fps(int(clip)) for clip in some)
    return rates[len(rates) // 2]


def _check_same_latents(directory: Path, config: dict[str, Any], reader: StoreReader) -> None:
    known, found = config["latents"]["fingerprint"], reader.spec.fingerprint
    if known != found:
        raise CheckpointError(
            f"the run in {directory} learns latents {known[:12]}, the store holds {found[:12]}: "
            "name the store it began with, or start anew with --no-resume"
        )


def _frame_model_for_pictures(config: dict[str, Any], *, device: str) -> Loaded[FrameModel] | None:
    """The frame model that decodes sheets while training, if it is at hand."""
    try:
        return load_matching_frame_model(config["frame_model"], device=device)
    except CheckpointError:
        return None


def _announce(
    progress: Progress, out: Path, config: dict[str, Any], reader: StoreReader, *, resumed: bool
) -> None:
    training, model = config["training"], config["model"]
    length = (
        f"{training['steps']:,} steps" if training["steps"] else f"{training['minutes']:g} minutes"
    )
    progress.say(
        f"train-top: {'going on' if resumed else 'starting'} in {out}: "
        f"{reader.num_frames:,} latents of {reader.num_clips:,} clips, "
        f"windows of {model['window']} frames, {length}, batches of {training['batch_size']}, "
        f"seed {training['seed']}"
    )
    if int(reader.lengths.max()) < model["window"]:
        progress.say(
            "train-top: warning: every clip is one frame long, there is no motion to learn"
        )
