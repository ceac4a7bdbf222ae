"""How a run is trained: its settings, `--init` (the weights that it starts from), its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import Tensor

from ldf_video.errors import CheckpointError, UsageError, counted
from ldf_video.models import build
from ldf_video.models.few import FewGame
from ldf_video.models.flow import FlowTop
from ldf_video.models.frame import FrameModel
from ldf_video.models.game import Game
from ldf_video.models.keep_past import keep_past, with_block
from ldf_video.models.rolled import RolledGame
from ldf_video.models.top import TopModel
from ldf_video.options.trainings import CPU_MINUTES, GPU_MINUTES, Training
from ldf_video.progress import Progress
from ldf_video.runs import hub
from ldf_video.runs.command import choose_precision
from ldf_video.runs.curve import SHEET, write_curve
from ldf_video.runs.run import LENGTH, Run, Settings
from ldf_video.runs.zoo import (
    Loaded,
    find_model,
    find_reference,
    load_frame_model,
    load_top_model,
    reference_to,
)
from ldf_video.training import checkpoints
from ldf_video.training.config import TrainConfig
from ldf_video.training.graphs import CudaGraphs
from ldf_video.training.loop import Trainer
from ldf_video.training.optim import check_optimizer
from ldf_video.training.ranks import Ranks
from ldf_video.training.update import Level
from ldf_video.video.geometry import Geometry


def default_minutes(device: str) -> float:
    """How long a training takes by itself."""
    return CPU_MINUTES if device == "cpu" else GPU_MINUTES


def training_config(
    options: Training, *, device: str, ranks: Ranks, defaults: Settings, cpu_gains: bool = False
) -> TrainConfig:
    """How a fresh run is trained: every option that has the name of one of its settings is one.

    `defaults` are those of settings for which a level has its own; `cpu_gains` says whether its
    updates gain by bf16 on a CPU that has it.

    Raises:
        UsageError: an optimizer or a precision cannot be had, or options do not go together.
    """
    given = {setting.name: getattr(options, setting.name, None) for setting in fields(TrainConfig)}
    chosen = defaults | {name: value for name, value in given.items() if value is not None}
    if not chosen.keys() & set(LENGTH):
        chosen["minutes"] = default_minutes(device)
    asked = options.mixed_precision or "auto"
    precision = choose_precision(asked, device=device, cpu_gains=cpu_gains)
    training = TrainConfig(**chosen | {"mixed_precision": precision})
    check_optimizer(training.optimizer)
    training.parts(ranks)
    return training


def find_origin(asked: str, kind: str, *, out: Path | None = None) -> Loaded[Any]:
    """The averaged model that `--init` means (a shipped name, or a directory), on the CPU.

    A fresh run's `out` must not be where the model stands. `kind` is "frame" or "top".

    Raises:
        UsageError: it stands in `out`, and would be moved aside or written over.
        CheckpointError: there is none of that name or kind, or it is damaged.
    """
    directory, _ = find_model(asked, kind)
    if out is not None and directory.resolve().is_relative_to(out.resolve()):
        raise UsageError(
            f"--init {asked}: it stands in --out {out}: name another --out for the new run"
        )
    load = load_frame_model if kind == "frame" else load_top_model
    return load(directory, device="cpu")


def origin_settings(options: Training, origin: Loaded[Any]) -> dict[str, dict[str, str]]:
    """What the config of a fresh run remembers of the model that it starts from."""
    where = reference_to(origin.directory, beside=Path(options.out))
    asked = hub.name_of(origin.directory) or str(options.init)  # with the commit
    return {"init": {"from": asked, "fingerprint": origin.fingerprint, **where}}


def check_frame_origin(
    asked: str, origin: Loaded[FrameModel], *, preset: str, geometry: Geometry
) -> None:
    """See that a frame model's weights fit what is to be trained; a UsageError says what not."""
    has, shape = build.preset_of(origin.config["model"]), origin.model.config
    if preset != has:
        raise UsageError(f"--init {asked}: it has --preset {has}, asked for --preset {preset}")
    if preset == "paper" and (shape.height, shape.width) != (geometry.height, geometry.width):
        raise UsageError(
            f"--init {asked}: the paper's networks fit one size, {shape.width}x{shape.height}, "
            f"asked for --size {geometry.width}x{geometry.height}"
        )


def check_top_origin(
    asked: str,
    origin: Loaded[TopModel],
    *,
    kind: str,
    latent_shape: tuple[int, int, int],
    window: int,
) -> None:
    """See that a top model's weights fit what is to be trained; a UsageError says what not."""
    has, shape = build.kind_of(origin.config["model"]), origin.model.config
    if kind != has:
        raise UsageError(f"--init {asked}: it has --kind {has}, asked for --kind {kind}")
    if tuple(shape.latent_shape) != latent_shape:
        raise UsageError(
            f"--init {asked}: it makes latents of {tuple(shape.latent_shape)}, the store holds "
            f"{latent_shape}: start without it, or encode at the size of its frame model"
        )
    if shape.window != window:
        raise UsageError(
            f"--init {asked}: it has windows of {shape.window} frames, --window and the longest "
            f"clip give {window}: start without it, or bring longer clips"
        )


def start_from_origin(
    game: Game, run: Run, progress: Progress, *, windows: Callable[[], Tensor] | None = None
) -> None:
    """Give a fresh game the weights of the model that its run's config names, if it names one.

    An own run's state, never one of a model hub, also has what is trained beside the model, above
    all D: of that, what has the same name and shape is taken over. D's last layer, where it sees
    the whole frame, fits no other size; the pressure on D is no weight and begins anew. A run that
    has a state goes on from that. A game of few passes takes it for the teacher, with what it
    standardises latents by; `windows` gives whole ones for that, as a teacher keeps its past. A
    game of rolled latents takes it for the teacher, too. A flow of other blocks is made one that
    keeps its past, with blocks of the game's length.

    Raises:
        CheckpointError: the model is gone, or is not the one that the run began with.
    """
    known = run.config.get("init")
    if known is None or (run.directory / checkpoints.STATE).is_file():
        return
    kind = run.config["kind"]
    found, _ = find_reference(known, kind, beside=run.directory)
    origin = find_origin(str(found or known["from"]), kind)
    if origin.fingerprint != known["fingerprint"]:
        raise CheckpointError(
            f"--init {known['from']} was {known['fingerprint'][:12]} when the run began and is now "
            f"{origin.fingerprint[:12]}: start anew with --no-resume"
        )
    if isinstance(game, FewGame):
        assert windows is not None
        game.teach(_keeping(origin.model, windows))
        progress.say(f"{progress.name}: the flow of {known['from']} is the teacher")
        return
    first, model = origin.model, game.model
    if isinstance(model, FlowTop) and model.config.block != first.config.block:
        assert windows is not None
        first = with_block(_keeping(first, windows), model.config.block)
    missing, unknown = model.load_state_dict(first.state_dict(), strict=False)
    # An older model has no linear map, one of a single rate no strides: the new ones stay 0.
    assert not unknown
    assert all(".linear." in name or name.startswith("condition.") for name in missing)
    state = None if hub.name_of(origin.directory) else checkpoints.load_state(origin.directory)
    saved: dict[str, Tensor] = {} if state is None else state["networks"]
    beside = {
        name: saved[name]
        for name, weight in game.named_parameters()
        if not name.startswith("model.") and name in saved and saved[name].shape == weight.shape
    }
    game.load_state_dict(beside, strict=False)
    if isinstance(game, RolledGame):
        game.teach()
    also = "" if beside else ", what plays against it is new"
    progress.say(f"{progress.name}: the weights are those of {known['from']} at first{also}")


def _keeping(flow: FlowTop, windows: Callable[[], Tensor]) -> FlowTop:
    return flow if flow.config.kept else keep_past(flow, windows())


def announce(progress: Progress, run: Run, *, data: str, held_out: str) -> None:
    """Say what a training starts from and how long it takes."""
    training = run.training
    progress.say(
        f"{progress.name}: {'starting' if run.fresh else 'going on'} in {run.directory}: "
        f"{data}, {held_out}, {_length(training)}, batches of {training.batch_size}, "
        f"seed {training.seed}"
    )


def announce_finished(progress: Progress, run: Run) -> None:
    """Say that a run's budget is used, and how it can go on."""
    progress.say(
        f"{progress.name}: {run.directory} is finished ({_length(run.training)}); more --steps or "
        "--minutes go on with it, --no-resume starts anew and keeps it aside"
    )


def _length(training: TrainConfig) -> str:
    if training.steps:
        return counted(training.steps, "step")
    return counted(training.minutes or 0.0, "minute")


def train(
    level: Level,
    run: Run,
    progress: Progress,
    *,
    device: str,
    ranks: Ranks,
    draw: Callable[[Any, Path], object],
    recorder: CudaGraphs | None = None,
) -> Trainer:
    """Train a run to its end; the first process leaves its curves and what it does as pictures.

    `draw` draws an averaged model to a path. Errors as of `Trainer` and its `run`.
    """
    trainer = Trainer(
        level,
        run.directory,
        config=run.training,
        device=device,
        ranks=ranks,
        tracker=run.tracker,
        recorder=recorder,
    )
    trainer.run(progress)
    if ranks.is_first:
        with trainer.reporting():
            draw(trainer.average.module, run.directory / SHEET)
            write_curve(run.directory)
    return trainer
