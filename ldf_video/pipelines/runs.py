"""A training run: a checkpoint directory that the same command opens again and goes on with."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ldf_video.errors import CheckpointError, UsageError
from ldf_video.store.reader import StoreReader
from ldf_video.training import checkpoints

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
) -> Iterator[Run]:
    """Open a run, or start one, and hold its lock.

    Args:
        directory: of the checkpoint.
        kind: "frame" or "top".
        given: the options that were asked for, None where one was not: a run that goes on keeps
            its own value there.
        resume: False moves a run that is there aside.
        build: makes a fresh run's config from the given options, a "seed" always among them; called
            before anything is made or moved, so that what it refuses leaves no trace.

    Yields:
        The run.

    Raises:
        CheckpointError: another process trains there, the directory holds something else, or an
            option differs from the run's.
        UsageError: `build` refuses the options.
    """
    asked = {name: value for name, value in given.items() if value is not None}
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
            yield Run(directory, config, fresh=False, done=_is_done(directory))
            return
        checkpoints.save_config(directory, fresh)
        yield Run(directory, fresh, fresh=True, done=False)


def check_data(run: Run, reader: StoreReader, *, source: str) -> None:
    """Remember what a run learns from, or see that it is still the same.

    Args:
        run: opened; the first time, its config.json is written again.
        reader: of the store that it draws from.
        source: where that comes from, for the error.

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


def _is_done(directory: Path) -> bool:
    """Whether the budget is used; the state itself is not kept in memory."""
    state = checkpoints.load_state(directory)
    return bool(state and state["done"])


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
