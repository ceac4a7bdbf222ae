"""train-frame: clips -> a store of frames -> a frame model."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ldf_video.errors import CheckpointError, StoreError, UsageError
from ldf_video.intake.claim import holds_clips
from ldf_video.intake.frame_store import check_frames_store, frames_spec, store_frames
from ldf_video.levels.frame_supply import RESIDENT_SHARE, Frames, FrameSupply
from ldf_video.levels.memory import RandomFrames, bytes_of, fit_memory, plan_line, stay_inside
from ldf_video.models import build
from ldf_video.models.frame import FrameGame, FrameModel
from ldf_video.models.game import Part
from ldf_video.progress import Progress
from ldf_video.runs.curve import SHEET, write_curve
from ldf_video.runs.devices import choose_device, out_of_memory
from ldf_video.runs.framing import geometry_of, make_geometry
from ldf_video.runs.held_out import split
from ldf_video.runs.origin import (
    check_frame_origin,
    find_origin,
    origin_settings,
    start_from_origin,
)
from ldf_video.runs.outputs import check_folders
from ldf_video.runs.own_state import own_state
from ldf_video.runs.run import (
    Options,
    Run,
    announce,
    check_data,
    finished_line,
    open_run,
    training_config,
)
from ldf_video.runs.zoo import Loaded
from ldf_video.store.format import STORE_JSON
from ldf_video.training import checkpoints
from ldf_video.training.config import Cadence, TrainConfig
from ldf_video.training.graphs import find_recorder
from ldf_video.training.loop import Trainer
from ldf_video.training.ranks import Ranks, join_ranks
from ldf_video.training.tracking import check_tracker
from ldf_video.training.update import frame_indices
from ldf_video.video.pixels import from_model, psnr_db, to_model
from ldf_video.video.sources import find_sources, search
from ldf_video.video.write import write_sheet

FEWEST_FRAMES = 4
"""In each part of a batch: the moments of its latents are estimated from two halves."""
SHOWN, SHEET_PAIRS = 16, 4
"""Frames in a row of a picture; rows of real frames in the final one."""
MEASURED_FRAMES = 256
"""Held-out frames that a loss is the mean of, and frames that batch statistics are taken from."""


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
        """Make the level.

        Args:
            game: what is played.
            frames: to learn from.
            batch_size: frames an update.
            seed: of what an update sees.
            held_out: frames to measure on, if there are any.
            resident_share: of a GPU's free memory that frames may take.
        """
        self.game = game
        if not torch.backends.mps.is_available():  # as frames come: there is less to rearrange
            game.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._supply = FrameSupply(frames, batch_size=batch_size, seed=seed, share=resident_share)
        self._held_out = None if held_out is None else _some_frames(held_out, MEASURED_FRAMES)
        self._calibration = _some_frames(frames, MEASURED_FRAMES)

    def batch(self, step: int, part: Part, device: torch.device) -> Tensor:
        """Random frames (B, 3, H, W) in [-1, 1]."""
        return self._supply.batch(step, part, device)

    def calibration(self, device: torch.device) -> Tensor:
        """The same random frames each time."""
        return to_model(self._calibration, device=device)

    @torch.inference_mode()
    def evaluate(self, model: FrameModel) -> Mapping[str, float]:
        """How well held-out frames come back: as `pixels` in the game, and in dB."""
        return {} if self._held_out is None else self._measured(model, self._held_out)

    def _measured(self, model: FrameModel, known: npt.NDArray[Any]) -> dict[str, float]:
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
        seen = self._measured(model, self._calibration)
        return f"frames that it learns from come back at {seen['psnr_db']:.1f} dB"

    @torch.inference_mode()
    def draw(self, model: FrameModel, path: Path) -> npt.NDArray[np.uint8]:
        """Rows of real frames, their reconstructions, and frames decoded from the prior."""
        device = next(model.parameters()).device
        known = self._calibration if self._held_out is None else self._held_out
        x = to_model(known[:SHOWN], device=device)
        noise = torch.Generator().manual_seed(0)
        z = torch.randn((len(x), *model.config.latent_shape), generator=noise).to(device)
        rows = [x, model.generator(model.encoder(x)), model.generator(z)]
        return write_sheet(path.with_suffix(".png"), [from_model(row) for row in rows], upscale=3)

    @torch.inference_mode()
    def draw_sheet(self, model: FrameModel, path: Path) -> None:
        """Write a large sheet: pairs of rows of real frames and reconstructions, then samples."""
        device = next(model.parameters()).device
        known = self._calibration if self._held_out is None else self._held_out
        rows: list[npt.NDArray[np.uint8]] = []
        for frames in known[: SHEET_PAIRS * SHOWN].reshape(SHEET_PAIRS, SHOWN, *known.shape[1:]):
            again = model.generator(model.encoder(to_model(frames, device=device)))
            rows += [frames, from_model(again)]
        noise = torch.Generator().manual_seed(0)
        for _ in range(SHEET_PAIRS):
            z = torch.randn((SHOWN, *model.config.latent_shape), generator=noise)
            rows.append(from_model(model.generator(z.to(device))))
        write_sheet(path, rows, upscale=2 if model.config.width <= 64 else 1)


def _some_frames(store: Frames, count: int) -> npt.NDArray[Any]:
    """Frames (count, H, W, 3), the same ones each time."""
    return store.frames_at(frame_indices(0, 0, num_frames=store.num_frames, batch_size=count))


@own_state()
@out_of_memory("a smaller --batch-size or --size")
def train_frame(
    clips: str | Path,
    *,
    out: str | Path = "checkpoints/frame",
    size: str | int | None = None,
    preset: str | None = None,
    width: int | None = None,
    latent_noise: float | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    optimizer: str | None = None,
    mixed_precision: str | None = None,
    gradient_checkpointing: bool | None = None,
    accumulate: int | None = None,
    fps: str | float | None = None,
    crop: str | None = None,
    seed: int | None = None,
    resume: bool = True,
    tracker: str | None = None,
    frames_store: str | Path | None = None,
    init: str | Path | None = None,
    max_memory: str | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> Path:
    """Train a frame model on every readable frame of the clips; see `ldf_video.api.train_frame`."""
    device = choose_device(device)
    given = {
        "size": size,
        "preset": preset,
        "width": width,
        "latent_noise": latent_noise,
        "steps": steps,
        "minutes": minutes,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "optimizer": optimizer,
        "mixed_precision": mixed_precision,
        "gradient_checkpointing": gradient_checkpointing,
        "accumulate": accumulate,
        "max_memory": max_memory,
        "fps": fps,
        "crop": crop,
        "seed": seed,
        "init": None if init is None else str(init),
        "tracker": tracker,
        "frames_store": None if frames_store is None else _seen_from(Path(out), frames_store),
    }
    ranks = join_ranks(device)

    def check_input() -> None:  # a mistyped path fails before anything is written
        search(clips)
        _check_folders(clips, out=out, frames_store=frames_store)
        check_tracker(tracker)
        if max_memory is not None:
            bytes_of(max_memory)

    ranks.of_first(check_input)

    def build_config(options: Options) -> dict[str, Any]:
        origin = None
        if "init" in options:
            origin = find_origin(options["init"], "frame", out=Path(out))
        config = frame_run_config(options, out=Path(out), device=device, ranks=ranks, origin=origin)
        if frames_store is not None:  # before an old run is moved aside for it
            check_frames_store(Path(frames_store), frames_spec(geometry_of(config)))
        if "max_memory" in options:
            return _within_memory(config, options, device=device, ranks=ranks)
        return config

    with (
        open_run(
            Path(out),
            "frame",
            given=given,
            resume=resume,
            make=build_config,
            mean=_meaning,
            ranks=ranks,
        ) as run,
        Progress("train-frame", unit="steps", quiet=quiet or not ranks.is_first) as progress,
    ):
        config = run.config
        store = ranks.of_first(partial(_place_of_frames, run, clips))
        if run.done and not (store / STORE_JSON).exists():  # nothing to compare the clips with
            progress.say(finished_line(run, progress))
            return run.directory
        budgeted = "memory" in config
        if run.fresh and budgeted:
            progress.say(plan_line(config))
        frames = store_frames(
            clips,
            store,
            geometry_of(config),
            progress,
            ranks,
            workers=stay_inside(config, device),
        )
        check = partial(check_data, run, frames, source=str(clips))
        parts = split(frames, rule=ranks.of_first(check).get("held_out"))
        if run.done:
            progress.say(finished_line(run, progress))
            return run.directory
        training, known = TrainConfig(**config["training"]), parts.known
        del frames, check  # of a million clips the list alone takes some 200 MB
        ranks.of_first(partial(_keep_finished, run, progress))
        data = (
            f"{known.num_frames:,} frames of {known.num_clips:,} clips, "
            f"{config['model']['width']}x{config['model']['height']}"
        )
        announce(progress, run, data=data, held_out=parts.said)
        torch.manual_seed(training.seed)
        try:
            game = build.frame_game(config["model"], config["game"])
        except (TypeError, ValueError) as error:
            raise CheckpointError(
                f"{run.directory} cannot be gone on with, its config.json is of another version: "
                f"{error}; --no-resume starts anew and keeps the old run"
            ) from None
        start_from_origin(game, run, progress)
        level = FrameLevel(
            game,
            known,
            batch_size=training.batch_size,
            seed=training.seed,
            held_out=parts.held_out,
            resident_share=0.0 if budgeted else RESIDENT_SHARE,
        )
        trainer = Trainer(
            level,
            run.directory,
            config=training,
            device=device,
            cadence=Cadence(),
            ranks=ranks,
            tracker=run.tracker,
            # what a recording takes is in no plan
            recorder=None if budgeted else find_recorder(device, training, ranks),
        )
        trainer.run(progress)
        if ranks.is_first:
            with trainer.reporting():
                level.draw_sheet(trainer.averaged, run.directory / SHEET)
                write_curve(run.directory)
    return Path(out)


def _keep_finished(run: Run, progress: Progress) -> None:
    kept = checkpoints.keep_finished(run.directory)
    if kept is not None:
        progress.say(f"train-frame: latents and top models that it has made go on with {kept}")


def _check_folders(clips: str | Path, *, out: str | Path, frames_store: str | Path | None) -> None:
    store = None if frames_store is None else Path(frames_store)
    check_folders([("--out", Path(out)), ("--frames-store", store)], inputs=[clips])


def _meaning(name: str, value: Any, config: Options) -> Any:
    """What an option's value comes to in a run, see `open_run`."""
    if name == "init" and "init" in config:
        return find_origin(value, "frame").fingerprint
    return bytes_of(value) if name == "max_memory" else value


def _seen_from(out: Path, frames_store: str | Path) -> str:
    """A store of frames as a run remembers it: a path from its own directory."""
    return Path(os.path.relpath(Path(frames_store).resolve(), out.resolve())).as_posix()


def _place_of_frames(run: Run, clips: str | Path) -> Path:
    """Where a run's frames lie: as asked now or when it began, else in `frames/`.

    A run that was started anew takes over the frames of the one that it moved aside, if they are
    such as it needs: they are not decoded again.
    """
    if run.aside is not None and "frames_store" not in run.config["options"]:
        with contextlib.suppress(CheckpointError, StoreError):  # what is damaged stays there
            _take_over_frames(run, run.aside, clips)
    return _frames_in(run.directory, run.config["options"])


def _take_over_frames(run: Run, aside: Path, clips: str | Path) -> None:
    before = checkpoints.load_config(aside, kind="frame")
    place = _frames_in(aside, before.get("options", {}))
    if before["frames"] == run.config["frames"] and holds_clips(place, find_sources(clips)):
        if place != aside / "frames":
            run.config["options"]["frames_store"] = _seen_from(run.directory, place)
        elif not (run.directory / "frames").exists():
            place.rename(run.directory / "frames")


def _frames_in(directory: Path, options: Options) -> Path:
    if "frames_store" not in options:
        return directory / "frames"
    return Path(os.path.normpath(directory.resolve() / options["frames_store"]))


def _within_memory(
    config: dict[str, Any], options: Options, *, device: str, ranks: Ranks
) -> dict[str, Any]:
    """The config of a run that stays inside its `--max-memory`, tried on random frames."""

    def level(batch_size: int) -> FrameLevel:
        game = build.frame_game(config["model"], config["game"])
        frames = RandomFrames(config["frames"]["height"], config["frames"]["width"])
        return FrameLevel(game, frames, batch_size=batch_size, seed=0, resident_share=0.0)

    return fit_memory(
        config, options, device=device, ranks=ranks, fewest=FEWEST_FRAMES, make_level=level
    )


def frame_run_config(
    options: Options,
    *,
    out: Path,
    device: str,
    ranks: Ranks,
    origin: Loaded[FrameModel] | None = None,
) -> dict[str, Any]:
    """Everything that a fresh run is made by, from the options and the model of `--init`."""
    known = None if origin is None else origin.model.config
    size = "32" if known is None else f"{known.width}x{known.height}"
    geometry = make_geometry(
        size=options.get("size", size), fps=options.get("fps"), crop=options.get("crop")
    )
    like = {} if origin is None else origin.config["model"]
    preset = options.get("preset", build.preset_of(like))
    if origin is not None:
        check_frame_origin(options["init"], origin, preset=preset, geometry=geometry)
    _check_grid_options(options, preset=preset, known=known)
    try:
        model, game = build.frame_settings(
            preset,
            height=geometry.height,
            width=geometry.width,
            like=like,
            base_width=options.get("width"),
            latent_noise=options.get("latent_noise"),
        )
    except ValueError as error:
        raise UsageError(f"--size: {error}") from None
    defaults = {"learning_rate": 1e-3, "optimizer": "muon"}
    if preset == "paper":
        defaults = {"learning_rate": 2e-4, "optimizer": "adam"}
    training = training_config(options, device=device, ranks=ranks, defaults=defaults)
    if training.batch_size < FEWEST_FRAMES * training.accumulate:
        accumulated = f" with --accumulate {training.accumulate}" * (training.accumulate > 1)
        raise UsageError(
            f"--batch-size {training.batch_size}{accumulated}: "
            f"expected {FEWEST_FRAMES * training.accumulate} or more"
        )
    return {
        "model": model,
        "game": game,
        "training": asdict(training),
        "frames": geometry.settings(),
        **({} if origin is None else {"init": origin_settings(options["init"], origin, out=out)}),
    }


def _check_grid_options(options: Options, *, preset: str, known: Any) -> None:
    """See that what only the default networks and their game have is asked for only there.

    Args:
        options: those that were given.
        preset: of the run.
        known: config of the model of `--init`, if there is one.

    Raises:
        UsageError: it is not, or means nothing.
    """
    width, noise = options.get("width"), options.get("latent_noise")
    for flag, value in (("--width", width), ("--latent-noise", noise)):
        if value is not None and preset != "default":
            raise UsageError(f"{flag} {value}: --preset {preset} has no such thing: drop it")
    if width is not None and width % 8:
        raise UsageError(f"--width {width}: expected a multiple of 8")
    if width is not None and known is not None and width != known.base_width:
        raise UsageError(
            f"--width {width}: the model of --init has {known.base_width}, which stays: drop it"
        )
