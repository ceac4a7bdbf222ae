"""train-top: a store of latents -> a top model. The videos are not needed any more."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from ldf_video.errors import CheckpointError, counted
from ldf_video.levels.conditions import described
from ldf_video.levels.latents import latent_statistics, maker_of, open_latents, whole_windows
from ldf_video.levels.top_level import TopLevel
from ldf_video.levels.top_settings import top_run_config, window_of
from ldf_video.models import build
from ldf_video.models.few import FewGame
from ldf_video.models.flow_config import ColumnConfig
from ldf_video.models.frame import FrameModel
from ldf_video.options.trainings import TrainTop
from ldf_video.progress import Progress
from ldf_video.runs.command import check_folders, choose_device, out_of_memory, own_state
from ldf_video.runs.held_out import Split, split
from ldf_video.runs.run import Run, Settings, check_data, open_run
from ldf_video.runs.training import (
    announce,
    announce_finished,
    find_origin,
    start_from_origin,
    train,
)
from ldf_video.runs.zoo import Loaded, find_reference, frame_model_of, reference_to
from ldf_video.store.reader import StoreReader
from ldf_video.training import checkpoints
from ldf_video.training.metrics import check_tracker
from ldf_video.training.ranks import Ranks, join_ranks

FEW_UPDATES = 200
"""A training by the clock that made fewer says so: 14 gave smears, 142 shapes that jump."""
FEW_MORE = 20
"""The same of one that goes on with a flow as it was: on other clips 150 did more than 400 from
nothing."""
SAME = ("block", "columns", "renewed")
"""Settings of a model; what is another there than in the model of `--init` is learned late."""


@own_state()
@out_of_memory("a smaller --batch-size or --window")
def train_top(options: TrainTop) -> Path:
    """Train a top model on a store of latents; see `ldf_video.api.train_top`."""
    device = choose_device(options.device)
    check_tracker(options.tracker)
    ranks = join_ranks(device)
    ranks.of_first(
        lambda: open_latents(Path(options.latents)).num_clips
    )  # what is wrong is said once
    stored = open_latents(Path(options.latents))

    def seen_by(config: Settings) -> StoreReader:
        """The clips of a run; one that began before cuts were found sees them whole."""
        return stored.at_cuts() if config.get("cuts") == "auto" else stored

    places = [("--out", Path(options.out))]
    ranks.of_first(lambda: check_folders(places, inputs=[options.latents]))

    def resolve(name: str, value: Any, config: Settings) -> Any:
        if name == "init" and "init" in config:
            return find_origin(value, "top").fingerprint
        if name == "window":
            longest = int(seen_by(config).lengths.max())
            block = config.get("options", {}).get("block")
            return window_of(value, like=config["model"], longest=longest, block=block)[0]
        if name == "strides":
            return list(map(int, value.split(",")))
        return value

    with (
        open_run(
            options,
            "top",
            make=lambda asked: _fresh_config(asked, seen_by, device=device, ranks=ranks),
            resolve=resolve,
            ranks=ranks,
        ) as run,
        Progress("train-top", unit="steps", quiet=options.quiet or not ranks.is_first) as progress,
    ):
        latents = seen_by(run.config)
        _check_same_latents(run, latents)
        source = str(options.latents)
        began = ranks.of_first(lambda: check_data(run, latents, source=source))
        if run.done:
            announce_finished(progress, run)
            return run.directory
        data = split(latents, rule=began.get("held_out"))
        cuts = latents.num_clips - stored.num_clips
        announce(progress, run, data=_data_line(run, data, cuts), held_out=data.said)
        if int(latents.lengths.max()) < run.config["model"]["window"]:
            progress.say(
                "train-top: warning: every clip is one frame long, there is no motion to learn"
            )
        training = run.training
        torch.manual_seed(training.seed)
        top = run.built(lambda config: build.top_model(config["model"]))
        game = build.top_game(top, run.config.get("game", {}))
        start_from_origin(
            game, run, progress, windows=lambda: whole_windows(data.known, top.config.window)
        )
        if not isinstance(game, FewGame):
            top.set_statistics(*latent_statistics(data.known, seed=training.seed))
        level = TopLevel(
            game,
            data.known,
            batch_size=training.batch_size,
            seed=training.seed,
            held_out=data.held_out,
            frame_model=_frame_model_for_pictures(run, device=device) if ranks.is_first else None,
            fps=Fraction(run.config["fps"]),
        )
        trainer = train(level, run, progress, device=device, ranks=ranks, draw=level.draw)
        if training.minutes is not None and trainer.step < FEW_UPDATES:
            _warn_of_few(trainer.step, run, progress)
    return run.directory


def _warn_of_few(step: int, run: Run, progress: Progress) -> None:
    """Say that updates were few, unless they were enough for what a model of `--init` lacked."""
    known, model = run.config.get("init", {}), run.config["model"]
    found = find_reference(known, "top", beside=run.directory)[0] if known else None
    like = {} if found is None else checkpoints.load_config(found)["model"]
    lacking = "to learn motion, so videos will be rough"
    if model.get("columns"):
        lacking += " and may not do what they are told"
    if like and all((like.get(name) or None) == (model.get(name) or None) for name in SAME):
        if step >= FEW_MORE:
            return
        lacking = f"to learn these clips, so videos will be much like those of {known['from']}"
    progress.say(
        f"train-top: warning: {step:,} updates are few {lacking}; the same command with more "
        "--minutes goes on from here"
    )


def _fresh_config(
    options: TrainTop, seen_by: Callable[[Settings], StoreReader], *, device: str, ranks: Ranks
) -> Settings:
    origin, cuts = None, {"cuts": options.cuts or "auto"}
    latents = seen_by(cuts)
    if options.init is not None:
        origin = find_origin(str(options.init), "top", out=Path(options.out))
    config = top_run_config(options, latents, device=device, ranks=ranks, origin=origin)
    return config | cuts | {"frame_model": _frame_reference(options, latents)}


def _data_line(run: Run, data: Split, cuts: int) -> str:
    latents, model = data.known, run.config["model"]
    block = f" in blocks of {model['block']}" if "block" in model else ""
    strides = model.get("strides", [1])
    block += f", strides {', '.join(map(str, strides))}" if len(strides) > 1 else ""
    columns = [described(ColumnConfig(**column)) for column in model.get("columns", ())]
    block += f", told {', '.join(columns)}" if columns else ""
    return (
        f"{counted(latents.num_frames, 'latent')} of {counted(latents.num_clips, 'clip')}"
        f"{f' between {cuts:,} cuts' if cuts else ''}, {model['kind']}, "
        f"windows of {model['window']} frames{block}"
    )


def _frame_reference(options: TrainTop, latents: StoreReader) -> dict[str, str]:
    """Where the frame model of a store's latents stands, for the top model."""
    wanted = maker_of(latents)
    found, _ = find_reference(
        wanted,
        "frame",
        beside=Path(options.latents),
        known_by=checkpoints.latents_fingerprint_of,
    )
    if found is None:
        return {name: wanted[name] for name in ("fingerprint", "path")}
    return wanted | {"relative": reference_to(found, beside=Path(options.out))["relative"]}


def _check_same_latents(run: Run, latents: StoreReader) -> None:
    known, found = run.config["latents"]["fingerprint"], latents.spec.fingerprint
    if known != found:
        raise CheckpointError(
            f"the run in {run.directory} learns latents {known[:12]}, the store holds "
            f"{found[:12]}: name the store it began with, or start anew with --no-resume"
        )


def _frame_model_for_pictures(run: Run, *, device: str) -> Loaded[FrameModel] | None:
    """The frame model that decodes sheets while training, if it is at hand."""
    try:
        return frame_model_of(run.config, beside=run.directory, device=device)
    except CheckpointError:
        return None
