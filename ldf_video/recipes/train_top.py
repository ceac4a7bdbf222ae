"""train-top: a store of latents -> a top model. The videos are not needed any more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from ldf_video.errors import CheckpointError
from ldf_video.levels.latents import (
    latent_shape,
    latent_statistics,
    open_latents,
    usual_fps,
)
from ldf_video.levels.top_level import TopLevel
from ldf_video.models import build
from ldf_video.models.frame import FrameModel
from ldf_video.models.top import TopModel
from ldf_video.progress import Progress
from ldf_video.runs.curve import SHEET, write_curve
from ldf_video.runs.devices import choose_device, out_of_memory
from ldf_video.runs.held_out import split
from ldf_video.runs.origin import (
    check_top_origin,
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
from ldf_video.runs.zoo import (
    OWN_FRAME,
    Loaded,
    find_reference,
    frame_model_of,
    reference_to,
)
from ldf_video.store.reader import StoreReader
from ldf_video.training.config import TrainConfig
from ldf_video.training.loop import Trainer
from ldf_video.training.ranks import Ranks, join_ranks
from ldf_video.training.tracking import check_tracker

DEFAULT_WINDOW = {"flow": 16, "mlp": 5}
DEFAULT_BLOCK = 4
FEW_UPDATES = 200
"""A training by the clock that made fewer says so: 14 gave smears, 142 shapes that jump."""


@own_state()
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
    ranks.of_first(lambda: check_folders([("--out", Path(out))], inputs=[latents]))
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
        "tracker": tracker,
    }

    def build_config(options: Options) -> dict[str, Any]:
        origin = None
        if "init" in options:
            origin = find_origin(options["init"], "top", out=Path(out))
        config = top_run_config(
            options, reader, out=Path(out), device=device, ranks=ranks, origin=origin
        )
        config["frame_model"] = _frame_reference(reader, latents=Path(latents), out=Path(out))
        return config

    def mean(name: str, value: Any, config: Options) -> Any:
        if name == "init" and "init" in config:
            return find_origin(value, "top").fingerprint
        if name == "window":
            longest = int(reader.lengths.max())
            return window_of(value, like=config["model"], longest=longest)[0]
        return value

    with (
        open_run(
            Path(out),
            "top",
            given=given,
            resume=resume,
            make=build_config,
            mean=mean,
            ranks=ranks,
        ) as run,
        Progress("train-top", unit="steps", quiet=quiet or not ranks.is_first) as progress,
    ):
        config = run.config
        _check_same_latents(run.directory, config, reader)
        began = ranks.of_first(lambda: check_data(run, reader, source=str(latents)))
        if run.done:
            progress.say(finished_line(run, progress))
            return run.directory
        parts = split(reader, rule=began.get("held_out"))
        training, known = TrainConfig(**config["training"]), parts.known
        announce(
            progress,
            run,
            data=f"{known.num_frames:,} latents of {known.num_clips:,} clips, "
            f"{_shape_line(config['model'])}",
            held_out=parts.said,
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
            held_out=parts.held_out,
            frame_model=_frame_model_for_pictures(run, device=device) if ranks.is_first else None,
            fps=Fraction(config["fps"]),
        )
        trainer = Trainer(
            level, run.directory, config=training, device=device, ranks=ranks, tracker=run.tracker
        )
        trainer.run(progress)
        if training.minutes is not None and trainer.step < FEW_UPDATES and "init" not in config:
            progress.say(
                f"train-top: warning: {trainer.step:,} updates are few to learn motion, so videos "
                f"will be rough; the same command with more than --minutes {training.minutes:g} "
                "goes on from here"
            )
        if ranks.is_first:
            with trainer.reporting():
                level.draw(trainer.averaged, run.directory / SHEET)
                write_curve(run.directory)
    return Path(out)


def top_run_config(
    options: Options,
    reader: StoreReader,
    *,
    out: Path,
    device: str,
    ranks: Ranks,
    origin: Loaded[TopModel] | None = None,
) -> dict[str, Any]:
    """Everything that a fresh run is made by, from the options and the model of `--init`."""
    like = {} if origin is None else origin.config["model"]
    kind = options.get("kind", build.kind_of(like))
    longest = int(reader.lengths.max())
    window = options.get("window", like.get("window", DEFAULT_WINDOW[kind]))
    window, block = window_of(window, like={**like, "kind": kind}, longest=longest)
    if origin is not None:
        check_top_origin(
            options["init"], origin, kind=kind, latent_shape=latent_shape(reader), window=window
        )
        block = like.get("block", block)
    rate = 1e-3 if options.get("optimizer", "muon") == "muon" else 2e-3
    defaults = {"learning_rate": rate, "beta1": 0.9, "optimizer": "muon"}
    if kind == "mlp":
        defaults = {"learning_rate": 2e-4, "beta1": 0.5, "beta2": 0.999, "optimizer": "adam"}
    training = training_config(options, device=device, ranks=ranks, defaults=defaults)
    model, game = build.top_settings(
        kind, latent_shape=latent_shape(reader), window=window, block=block, like=like
    )
    return {
        "model": model,
        "game": game,
        "training": asdict(training),
        "latents": {"fingerprint": reader.spec.fingerprint},
        "frames": {k: v for k, v in reader.spec.settings.items() if k != "weights"},
        "fps": str(usual_fps(reader)),
        **({} if origin is None else {"init": origin_settings(options["init"], origin, out=out)}),
    }


def window_of(window: int, *, like: Mapping[str, Any], longest: int) -> tuple[int, int]:
    """Window and block (frames) of a top model that may be asked for more than clips can fill.

    An mlp has no blocks, and a model like another one has its window.
    """
    if like.get("kind") == "mlp" or (window == like.get("window") and window <= longest):
        return max(min(window, longest), 2), 1
    return fit_window(window, longest=longest)


def fit_window(window: int, *, longest: int) -> tuple[int, int]:
    """Window and block (frames) of a flow that training can fill: at most the longest clip.

    A position of the window that no clip ever reaches would stay untrained, and a video that is
    rolled forward would meet it. From 8 frames on the window is rounded down to whole blocks of 4:
    a block of 1 frame takes four times the passes and has no noise that its frames share. Under
    that the block is the largest of which the window holds two or more, and a whole number.
    """
    usable = max(min(window, longest), 2)
    if usable >= 2 * DEFAULT_BLOCK:
        return usable - usable % DEFAULT_BLOCK, DEFAULT_BLOCK
    return usable, max(b for b in range(1, DEFAULT_BLOCK) if usable % b == 0 and usable >= 2 * b)


def _shape_line(model: Mapping[str, Any]) -> str:
    """The kind of a top model and what it sees at once, for people."""
    block = f" in blocks of {model['block']}" if "block" in model else ""
    return f"{model['kind']}, windows of {model['window']} frames{block}"


def _frame_reference(reader: StoreReader, *, latents: Path, out: Path) -> dict[str, str]:
    """Where the frame model of a store's latents stands, for a top model in `out`."""
    wanted = {
        "fingerprint": str(reader.spec.settings["weights"]),
        "path": str(reader.info.get("frame_model", OWN_FRAME)),
    }
    if "frame_model_relative" in reader.info:
        wanted["relative"] = str(reader.info["frame_model_relative"])
    found, _ = find_reference(wanted, "frame", beside=latents)
    if found is None:
        return {name: wanted[name] for name in ("fingerprint", "path")}
    return wanted | {"relative": reference_to(found, beside=out)["relative"]}


def _check_same_latents(directory: Path, config: dict[str, Any], reader: StoreReader) -> None:
    known, found = config["latents"]["fingerprint"], reader.spec.fingerprint
    if known != found:
        raise CheckpointError(
            f"the run in {directory} learns latents {known[:12]}, the store holds {found[:12]}: "
            "name the store it began with, or start anew with --no-resume"
        )


def _frame_model_for_pictures(run: Run, *, device: str) -> Loaded[FrameModel] | None:
    """The frame model that decodes sheets while training, if it is at hand."""
    try:
        return frame_model_of(run.config, beside=run.directory, device=device)
    except CheckpointError:
        return None
