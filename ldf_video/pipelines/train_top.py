"""train-top: a store of latents -> a top model. The videos are not needed any more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ldf_video.errors import CheckpointError, StoreError, UsageError
from ldf_video.models import build
from ldf_video.models.flow import FlowTop
from ldf_video.models.frame import FrameModel
from ldf_video.models.game import Game
from ldf_video.models.noise import Noise, Part
from ldf_video.models.top import TopModel
from ldf_video.pipelines.curve import SHEET, write_curve
from ldf_video.pipelines.devices import choose_device, out_of_memory
from ldf_video.pipelines.frechet import frechet_distance
from ldf_video.pipelines.held_out import split
from ldf_video.pipelines.origin import (
    check_top_origin,
    find_origin,
    origin_settings,
    start_from_origin,
)
from ldf_video.pipelines.runs import Options, announce, check_data, open_run, training_config
from ldf_video.pipelines.zoo import Loaded, load_matching_frame_model
from ldf_video.progress import Progress
from ldf_video.store.reader import StoreReader
from ldf_video.training import checkpoints
from ldf_video.training.config import TrainConfig
from ldf_video.training.loop import Trainer
from ldf_video.training.ranks import Ranks, join_ranks
from ldf_video.training.samplers import Integers, frame_indices, windows
from ldf_video.training.tracking import check_tracker
from ldf_video.video.pixels import from_model
from ldf_video.video.write import VideoWriter, tile, write_sheet

DEFAULT_WINDOW = {"flow": 16, "mlp": 5}
DEFAULT_BLOCK = 4
STATISTICS_FRAMES = 65_536
"""Frames from which the mean and spread of latents are taken at most."""
MEASURED_WINDOWS = 1024
"""Held-out windows that a loss is taken over."""
SHOWN = 9
"""Videos in a sheet and an mp4 of a training."""

Batch = tuple[Tensor, Tensor]


class TopLevel:
    """The upper level as the training loop sees it: a game on windows of latents."""

    def __init__(
        self,
        game: Game,
        latents: StoreReader,
        *,
        batch_size: int,
        seed: int,
        held_out: StoreReader | None = None,
        frame_model: Loaded[FrameModel] | None = None,
        fps: Fraction = Fraction(25),
    ) -> None:
        """Args: latents to learn from and others to measure on; what decodes them, at what rate."""
        assert isinstance(game.model, TopModel)
        self.game = game
        self.latents, self.batch_size, self.seed = latents, batch_size, seed
        self.score = "velocity" if isinstance(game.model, FlowTop) else "latent_frechet"
        self._window = game.model.config.window
        self._held_out = held_out
        self._frame_model, self._fps = frame_model, fps

    def batch(self, step: int, part: Part, device: torch.device) -> Batch:
        """Random windows (B, window, C, H, W) and which of their frames are real (B, window)."""
        clips, starts = windows(
            self.seed,
            step,
            lengths=self.latents.lengths,
            window=self._window,
            batch_size=self.batch_size,
        )
        return self._read(self.latents, part.of(clips), part.of(starts), device)

    def _read(
        self, store: StoreReader, clips: Integers, starts: Integers, device: torch.device
    ) -> Batch:
        values, mask = store.windows(clips, starts, length=self._window)
        latents = torch.from_numpy(values).to(device).float()
        return latents, torch.from_numpy(mask).to(device)

    def calibration(self, device: torch.device) -> None:
        """No top model has batch statistics."""

    @torch.inference_mode()
    def evaluate(self, model: TopModel) -> Mapping[str, float]:
        """The flow's loss on held-out windows; of an mlp, how far its sequences are from them."""
        if self._held_out is None:
            return {}
        device = model.latent_mean.device
        count = min(MEASURED_WINDOWS, 8 * self._held_out.num_frames)
        clips, starts = windows(
            0, 0, lengths=self._held_out.lengths, window=self._window, batch_size=count
        )
        latents, mask = self._read(self._held_out, clips, starts, device)
        if isinstance(model, FlowTop):
            parts = zip(latents.split(64), mask.split(64), strict=True)
            errors = [
                (len(x), model.loss(x, m, noise=Noise(i))[1]["velocity"].item())
                for i, (x, m) in enumerate(parts)
            ]
            return {"velocity": sum(n * value for n, value in errors) / count}
        whole = latents[mask.all(1)]
        if len(whole) < 2:
            return {}
        real = model.standardise(whole).flatten(1)
        made = torch.cat([*model.sample(self._window, [_generator(i) for i in range(len(whole))])])
        fake = model.standardise(made).flatten(1)
        distance = frechet_distance(real.double().cpu().numpy(), fake.double().cpu().numpy())
        return {"latent_frechet": distance}

    @torch.inference_mode()
    def draw(self, model: TopModel, path: Path) -> npt.NDArray[np.uint8] | None:
        """Generated clips: a sheet with a row each, and an mp4 of them side by side.

        Nothing where the frame model that decodes them is gone.
        """
        if self._frame_model is None:
            return None
        generators = [_generator(i) for i in range(SHOWN)]
        latents = torch.cat(list(model.sample(self._window, generators)), dim=1)
        decode = self._frame_model.model.generator
        videos = np.stack([from_model(decode(sequence)) for sequence in latents])
        with VideoWriter(path.with_suffix(".mp4"), fps=self._fps) as writer:
            writer.write(tile(videos))
        return write_sheet(path.with_suffix(".png"), list(videos), upscale=3)


def _generator(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


@out_of_memory("a smaller --batch-size or --window")
def train_top(
    *,
    latents: str | Path = "latents",
    out: str | Path = "checkpoints/top",
    kind: str | None = None,
    window: int | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    optimizer: str | None = None,
    mixed_precision: str | None = None,
    seed: int | None = None,
    resume: bool = True,
    tracker: str | None = None,
    init: str | Path | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> Path:
    """Train a top model on a store of latents; see `ldf_video.api.train_top`."""
    device = choose_device(device)
    check_tracker(tracker)
    ranks = join_ranks(device)
    ranks.of_first(lambda: open_latents(Path(latents)).num_clips)  # what is wrong is said once
    reader = open_latents(Path(latents))
    given = {
        "kind": kind,
        "window": window,
        "steps": steps,
        "minutes": minutes,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "optimizer": optimizer,
        "mixed_precision": mixed_precision,
        "seed": seed,
        "init": None if init is None else str(init),
    }

    def build_config(options: Options) -> dict[str, Any]:
        origin = None
        if "init" in options and (not resume or not (Path(out) / checkpoints.CONFIG).exists()):
            origin = find_origin(options["init"], "top", out=Path(out))
        return top_run_config(options, reader, device=device, ranks=ranks, origin=origin)

    with (
        open_run(
            Path(out), "top", given=given, resume=resume, build=build_config, ranks=ranks
        ) as run,
        Progress("train-top", unit="steps", quiet=quiet or not ranks.is_first) as progress,
    ):
        config = run.config
        _check_same_latents(run.directory, config, reader)
        if run.done:
            progress.say(f"{out} is finished; --no-resume starts anew and keeps it aside")
            return run.directory
        ranks.of_first(lambda: check_data(run, reader, source=str(latents)))
        training = TrainConfig(**config["training"])
        known, held_out = split(reader)
        announce(
            progress,
            run,
            data=f"{known.num_frames:,} latents of {known.num_clips:,} clips, "
            f"{config['model']['kind']}, windows of {config['model']['window']} frames",
            held_out=held_out,
        )
        if int(reader.lengths.max()) < config["model"]["window"]:
            progress.say(
                "train-top: warning: every clip is one frame long, there is no motion to learn"
            )
        torch.manual_seed(training.seed)
        top = build.top_model(config["model"])
        game = build.top_game(top, config.get("game", {}))
        start_from_origin(game, run, progress)
        top.set_statistics(*latent_statistics(known, seed=training.seed))
        level = TopLevel(
            game,
            known,
            batch_size=training.batch_size,
            seed=training.seed,
            held_out=held_out,
            frame_model=_frame_model_for_pictures(config, device=device)
            if ranks.is_first
            else None,
            fps=Fraction(config["fps"]),
        )
        trainer = Trainer(
            level, run.directory, config=training, device=device, ranks=ranks, tracker=tracker
        )
        trainer.run(progress)
        if ranks.is_first:
            averaged: Any = trainer.average.module
            level.draw(averaged, run.directory / SHEET)
            write_curve(run.directory)
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


def top_run_config(
    options: Options,
    reader: StoreReader,
    *,
    device: str,
    ranks: Ranks,
    origin: Loaded[TopModel] | None = None,
) -> dict[str, Any]:
    """Everything that a fresh run is made by, from the options and the model of `--init`."""
    like = {} if origin is None else origin.config["model"]
    kind = options.get("kind", build.kind_of(like))
    if kind not in build.KINDS:
        raise UsageError(f"--kind {kind}: expected {' or '.join(build.KINDS)}")
    longest = int(reader.lengths.max())
    window, block = fit_window(
        options.get("window", like.get("window", DEFAULT_WINDOW[kind])), longest=longest
    )
    if origin is not None:
        shape = _latent_shape(reader)
        check_top_origin(options["init"], origin, kind=kind, latent_shape=shape, window=window)
        block = like.get("block", block)
    defaults = {"learning_rate": 5e-4, "beta1": 0.9}
    if kind == "mlp":
        defaults = {"learning_rate": 2e-4, "beta1": 0.5, "beta2": 0.999}
    training = training_config(options, device=device, ranks=ranks, defaults=defaults)
    model, game = build.top_settings(
        kind, latent_shape=_latent_shape(reader), window=window, block=block, like=like
    )
    return {
        "model": model,
        "game": game,
        "training": asdict(training),
        "latents": {"fingerprint": reader.spec.fingerprint},
        "frames": {k: v for k, v in reader.spec.settings.items() if k != "weights"},
        "fps": str(_usual_fps(reader)),
        "frame_model": {
            "fingerprint": str(reader.spec.settings["weights"]),
            "path": str(reader.info.get("frame_model", "checkpoints/frame")),
        },
        **({} if origin is None else {"init": origin_settings(options["init"], origin)}),
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
