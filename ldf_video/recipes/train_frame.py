"""train-frame: clips -> a store of frames -> a frame model."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import torch

from ldf_video.errors import CheckpointError, StoreError, counted
from ldf_video.files.layout import layout_of
from ldf_video.intake.frames_store import check_frames_store, frames_spec, store_frames
from ldf_video.intake.known import holds_clips
from ldf_video.levels.frame_level import RESIDENT_SHARE, FrameLevel, frame_run_config
from ldf_video.levels.memory import bytes_of, fit_memory, plan_line, stay_inside
from ldf_video.levels.rolled_level import VIDEOS, RolledLevel, roll, rolled_settings
from ldf_video.models import build
from ldf_video.models.rolled import RolledGame
from ldf_video.options.trainings import TrainFrame
from ldf_video.progress import Progress
from ldf_video.runs.command import check_folders, choose_device, out_of_memory, own_state
from ldf_video.runs.held_out import Split, split
from ldf_video.runs.run import Run, Settings, check_data, kept_options, open_run, path_from
from ldf_video.runs.training import (
    announce,
    announce_finished,
    find_origin,
    start_from_origin,
    train,
)
from ldf_video.runs.zoo import find_model, find_reference, load_top_model
from ldf_video.sources.search import find_sources, search
from ldf_video.store.format import STORE_JSON
from ldf_video.store.reader import StoreReader
from ldf_video.training import checkpoints
from ldf_video.training.graphs import find_recorder
from ldf_video.training.metrics import check_tracker
from ldf_video.training.ranks import Ranks, join_ranks
from ldf_video.video.geometry import geometry_of


@own_state()
@out_of_memory("a smaller --batch-size or --size")
def train_frame(options: TrainFrame) -> Path:
    """Train a frame model on every readable frame of the clips; see `ldf_video.api.train_frame`."""
    device = choose_device(options.device)
    ranks = join_ranks(device)
    quiet = options.quiet or not ranks.is_first
    ranks.of_first(lambda: _check_places(options))
    with (
        open_run(
            options,
            "frame",
            make=lambda asked: _fresh_config(asked, device=device, ranks=ranks),
            resolve=_resolve,
            ranks=ranks,
        ) as run,
        Progress("train-frame", unit="steps", quiet=quiet) as progress,
        stay_inside(run.config, device) as workers,
    ):
        data = _read_clips(options, run, workers, ranks, progress)
        if data is None or run.done:
            announce_finished(progress, run)
            return run.directory
        ranks.of_first(lambda: _keep_finished(run, progress))
        rolled = _roll(run, device, ranks, progress) if "top_model" in run.config else None
        announce(progress, run, data=_data_line(run, data), held_out=data.said)
        training = run.training
        torch.manual_seed(training.seed)
        game = run.built(lambda config: build.frame_game(config["model"], config["game"]))
        start_from_origin(game, run, progress)
        has_budget = "memory" in run.config
        size, seed, held_out = training.batch_size, training.seed, data.held_out
        if rolled is None:
            share = 0.0 if has_budget else RESIDENT_SHARE
            level = FrameLevel(
                game,
                data.known,
                batch_size=size,
                seed=seed,
                held_out=held_out,
                resident_share=share,
            )
        else:
            assert isinstance(game, RolledGame)
            level = RolledLevel(
                game, data.known, rolled, batch_size=size, seed=seed, held_out=held_out
            )
        # what a recording takes is in no plan, and it takes batches of frames alone
        is_recorded = not has_budget and rolled is None
        recorder = find_recorder(device, training, ranks) if is_recorded else None
        draw = level.draw_sheet
        train(level, run, progress, device=device, ranks=ranks, draw=draw, recorder=recorder)
    return run.directory


def _check_places(options: TrainFrame) -> None:
    """Check what is read and written: a mistyped path fails before anything is written."""
    search(options.clips)
    store = None if options.frames_store is None else Path(options.frames_store)
    places = [("--out", Path(options.out)), ("--frames-store", store)]
    check_folders(places, inputs=[options.clips])
    check_tracker(options.tracker)
    if options.max_memory is not None:
        bytes_of(options.max_memory)


def _resolve(name: str, value: Any, config: Settings) -> Any:
    """What an option's value comes to in a run, see `open_run`."""
    for option, kind in (("init", "frame"), ("top_model", "top")):
        if name == option and option in config:
            return find_origin(value, kind).fingerprint
    return bytes_of(value) if name == "max_memory" else value


# -- the config of a fresh run -------------------------------------------------------------------


def _fresh_config(options: TrainFrame, *, device: str, ranks: Ranks) -> Settings:
    origin = None
    if options.init is not None:
        origin = find_origin(str(options.init), "frame", out=Path(options.out))
    config = frame_run_config(options, device=device, ranks=ranks, origin=origin)
    if options.top_model is not None:
        top = load_top_model(find_model(options.top_model, "top")[0], device="cpu")
        config |= rolled_settings(options, origin, top, frames=config["frames"])
    if options.frames_store is not None:  # before an old run is moved aside for it
        spec = frames_spec(geometry_of(config), layout_of(config["frames"]))
        check_frames_store(Path(options.frames_store), spec)
    if options.max_memory is not None:
        return fit_memory(config, kept_options(options), device=device, ranks=ranks)
    return config


# -- the frames of a run -------------------------------------------------------------------------


def _read_clips(
    options: TrainFrame, run: Run, workers: int | None, ranks: Ranks, progress: Progress
) -> Split | None:
    """The frames of the clips; None where those of a finished run are gone and need not be read."""
    place = ranks.of_first(lambda: _place_of_frames(run, options.clips))
    if run.done and not (place / STORE_JSON).exists():
        return None
    if run.fresh and "memory" in run.config:
        progress.say(plan_line(run.config))
    geometry, layout = geometry_of(run.config), layout_of(run.config["frames"])
    frames = store_frames(
        options.clips, place, geometry, progress, ranks, workers=workers, layout=layout
    )
    data = ranks.of_first(lambda: check_data(run, frames, source=str(options.clips)))
    return split(frames, rule=data.get("held_out"))


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
            run.config["options"]["frames_store"] = path_from(run.directory, place)
        elif not (run.directory / "frames").exists():
            place.rename(run.directory / "frames")


def _frames_in(directory: Path, options: Settings) -> Path:
    if "frames_store" not in options:
        return directory / "frames"
    return Path(os.path.normpath(directory.resolve() / options["frames_store"]))


# -- what a top model makes ----------------------------------------------------------------------


def _roll(run: Run, device: str, ranks: Ranks, progress: Progress) -> StoreReader:
    """The videos that the run's top model makes, in the run's folder.

    Raises:
        CheckpointError: it has not made all of them, and is gone.
    """
    place = run.directory / "rolled"
    ranks.of_first(lambda: _roll_what_lacks(run, place, device, progress))
    return StoreReader(place)


def _roll_what_lacks(run: Run, place: Path, device: str, progress: Progress) -> None:
    if (place / STORE_JSON).exists() and StoreReader(place).num_clips == VIDEOS:
        return
    wanted = run.config["top_model"]
    found, _ = find_reference(wanted, "top", beside=run.directory)
    if found is None:
        raise CheckpointError(
            f"--top-model {wanted['path']} was {wanted['fingerprint'][:12]} when the run began and "
            "is gone: bring it back, or start anew with --no-resume"
        )
    named = run.config["options"].get("top_model", found)
    progress.say(f"train-frame: {named} makes {VIDEOS} videos in {place}")
    with Progress("roll", unit="videos", quiet=progress.quiet) as videos:
        roll(load_top_model(found, device=device).model, place, run.config, videos, count=VIDEOS)


# -- the run -------------------------------------------------------------------------------------


def _keep_finished(run: Run, progress: Progress) -> None:
    kept = checkpoints.keep_finished(run.directory)
    if kept is None:
        return
    if "top_model" in run.config:  # E stays as it is, and so do its latents
        progress.say(f"train-frame: the decoder as it was is kept in {kept}")
    else:
        progress.say(f"train-frame: latents and top models that it has made go on with {kept}")


def _data_line(run: Run, data: Split) -> str:
    frames, model = data.known, run.config["model"]
    size = f"{model['width']}x{model['height']}"
    return f"{counted(frames.num_frames, 'frame')} of {counted(frames.num_clips, 'clip')}, {size}"
