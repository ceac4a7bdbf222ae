"""A training run: a checkpoint directory that the same command opens again and goes on with."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ldf_video.errors import CheckpointError, UsageError
from ldf_video.pipelines.devices import choose_precision
from ldf_video.pipelines.held_out import RULE
from ldf_video.progress import Progress
from ldf_video.store.reader import StoreReader
from ldf_video.training import checkpoints
from ldf_video.training.config import TrainConfig, check_parts
from ldf_video.training.optimizers import check_optimizer
from ldf_video.training.ranks import Ranks

Options = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """An opened run.

    Attributes:
        directory: of the checkpoint.
        config: what config.json says, defaults filled in.
        fresh: whether it was started now.
        done: whether its budget is already used.
    """

    directory: Path
    config: dict[str, Any]
    fresh: bool
    done: bool


@contextmanager
def open_run(
    directory: Path,
    kind: str,
    *,
    given: Mapping[str, Any],
    resume: bool,
    build: Callable[[Options], dict[str, Any]],
    ranks: Ranks | None = None,
) -> Iterator[Run]:
    """Open a run, or start one, and hold its lock; the first of several processes does it for all.

    Args:
        directory: of the checkpoint.
        kind: "frame" or "top".
        given: the options that were asked for, None where one was not: a run that goes on keeps
            its own value there.
        resume: False moves a run that is there aside.
        build: makes a fresh run's config from the given options, a "seed" always among them; called
            before anything is made or moved, so that what it refuses leaves no trace.
        ranks: the processes that train together.

    Yields:
        The run.

    Raises:
        CheckpointError: another process trains there, the directory holds something else, or an
            option differs from the run's.
        UsageError: `build` refuses the options.
    """
    asked = {name: value for name, value in given.items() if value is not None}
    with ExitStack() as stack:
        opening = _open(directory, kind, asked=asked, resume=resume, build=build)
        yield (ranks or Ranks()).of_first(lambda: stack.enter_context(opening))


@contextmanager
def _open(
    directory: Path,
    kind: str,
    *,
    asked: Options,
    resume: bool,
    build: Callable[[Options], dict[str, Any]],
) -> Iterator[Run]:
    options = dict(asked)
    options.setdefault("seed", secrets.randbelow(2**31))
    # Options that mean nothing fail here, before anything is made or moved.
    fresh = {"kind": kind, **build(options), "options": options}
    if _holds_run(directory) and not resume:
        with checkpoints.lock(directory):
            pass  # nobody is training there
        checkpoints.move_aside(directory)
    with checkpoints.lock(directory):
        if _holds_run(directory):
            config = checkpoints.load_config(directory, kind=kind)
            _check_unchanged(directory, config.get("options", {}), asked)
            yield Run(directory, config, fresh=False, done=checkpoints.is_done(directory))
            return
        checkpoints.save_config(directory, fresh)
        yield Run(directory, fresh, fresh=True, done=False)


def check_data(run: Run, reader: StoreReader, *, source: str) -> dict[str, Any]:
    """Remember what a run learns from, or see that it is still the same.

    Args:
        run: opened; the first time, its config.json is written again.
        reader: of the store that it draws from.
        source: where that comes from, for the error.

    Returns:
        What the run remembers of it, by which rule clips are held out among that.

    Raises:
        CheckpointError: the store holds other clips than when the run began.
    """
    digest = hashlib.sha256()
    for clip_id, length in zip(reader.clip_ids, reader.lengths, strict=True):
        digest.update(f"{clip_id} {length}\n".encode())
    found = {
        "clips": reader.num_clips,
        "frames": reader.num_frames,
        "digest": digest.hexdigest(),
        "held_out": RULE,
    }
    known = run.config.setdefault("data", found)
    if known["digest"] != found["digest"]:
        raise CheckpointError(
            f"the run in {run.directory} began with {known['frames']:,} frames of "
            f"{known['clips']:,} clips, {source} now gives {found['frames']:,} of "
            f"{found['clips']:,}, not the same: bring those clips back, or start anew with "
            "--no-resume"
        )
    config = {name: value for name, value in run.config.items() if name != "format_version"}
    checkpoints.save_config(run.directory, config)
    return dict(known)


def _holds_run(directory: Path) -> bool:
    """Whether a run stands there.

    Raises:
        CheckpointError: something else does.
    """
    if not directory.exists():
        return False
    if not directory.is_dir():
        raise CheckpointError(f"{directory} is a file, expected a directory for the checkpoint")
    if (directory / checkpoints.CONFIG).exists():
        return True
    others = sorted(p.name for p in directory.iterdir() if not p.name.startswith("."))
    if others:
        raise CheckpointError(
            f"{directory} holds {others[0]} and no {checkpoints.CONFIG}: "
            "it is not a checkpoint, name another --out"
        )
    return False


def _check_unchanged(directory: Path, stored: Options, asked: Options) -> None:
    for name, value in asked.items():
        if stored.get(name) != value:
            raise CheckpointError(
                f"the run in {directory} has {_option(name, stored.get(name))}, "
                f"asked for {_option(name, value)}: "
                "drop the option to go on with the run, or start anew with --no-resume"
            )


def _option(name: str, value: object) -> str:
    flag = "--" + name.replace("_", "-")
    return f"no {flag}" if value is None else f"{flag} {value}"


def budget(options: Options, *, device: str) -> Options:
    """Fill in how long to train where nothing is said: 10 minutes on a CPU, 5 on a GPU.

    Raises:
        UsageError: both are given, or one that is no time at all.
    """
    for name in ("steps", "minutes", "learning_rate"):
        if name in options and not options[name] > 0:
            raise UsageError(f"--{name.replace('_', '-')} {options[name]}: expected more than 0")
    if "steps" in options and "minutes" in options:
        raise UsageError("got --steps and --minutes: give one of the two")
    if "steps" in options or "minutes" in options:
        return options
    return options | {"minutes": 10.0 if device == "cpu" else 5.0}


def training_config(
    options: Options, *, device: str, ranks: Ranks, defaults: Mapping[str, Any]
) -> TrainConfig:
    """How a fresh run is trained, from the options that were given.

    Args:
        options: those, a "seed" among them.
        device: that it is for.
        ranks: the processes that train together.
        defaults: of TrainConfig's fields, where a level has its own.

    Raises:
        UsageError: one of them means nothing, or they do not go together.
    """
    chosen = budget(options, device=device)
    names = ("batch_size", "learning_rate", "optimizer", "accumulate", "gradient_checkpointing")
    given = {name: options[name] for name in names if name in options}
    training = TrainConfig(
        **{
            **defaults,
            **given,
            "steps": chosen.get("steps"),
            "minutes": chosen.get("minutes"),
            "mixed_precision": choose_precision(
                options.get("mixed_precision", "auto"), device=device
            ),
            "seed": options["seed"],
        }
    )
    check_optimizer(training.optimizer)
    check_parts(training, ranks)
    return training


def announce(progress: Progress, run: Run, *, data: str, held_out: str) -> None:
    """Say what a training starts from and how long it takes."""
    training = run.config["training"]
    length = (
        f"{training['steps']:,} steps" if training["steps"] else f"{training['minutes']:g} minutes"
    )
    progress.say(
        f"{progress.name}: {'starting' if run.fresh else 'going on'} in {run.directory}: "
        f"{data}, {held_out}, {length}, batches of {training['batch_size']}, "
        f"seed {training['seed']}"
    )
