"""A training run: a checkpoint directory that the same command opens again and goes on with."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from ldf_video.errors import CheckpointError, UsageError
from ldf_video.models import build
from ldf_video.options import CPU_MINUTES, GPU_MINUTES, Training, flag
from ldf_video.progress import Progress
from ldf_video.runs.command import choose_precision
from ldf_video.runs.held_out import RULE
from ldf_video.store.reader import StoreReader
from ldf_video.training import checkpoints
from ldf_video.training.config import TrainConfig, check_parts, share_of_budget
from ldf_video.training.optim import check_optimizer
from ldf_video.training.ranks import Ranks
from ldf_video.training.tracking import check_tracker

Settings = dict[str, Any]
"""Options by name, or what config.json holds."""
Asked = TypeVar("Asked", bound=Training)

NOT_KEPT = ("clips", "latents", "out", "resume", "device", "quiet")
"""Options of a call that a run does not remember."""
LISTED_FIRST = ("seed", "size", "preset", "width", "latent_noise", "kind", "window")
"""In config.json, and so in what `info` prints."""
LENGTH = ("steps", "minutes")
FREE = ("tracker", "frames_store")
"""Options that change no result: they may be others when a run goes on, and are remembered."""


@dataclass(frozen=True)
class Run:
    """An opened run.

    Attributes:
        directory: of the checkpoint.
        config: what config.json says, defaults filled in.
        fresh: whether it was started now.
        done: whether its budget is already used.
        aside: where the run that stood there before was moved to, if it was now.
    """

    directory: Path
    config: Settings
    fresh: bool
    done: bool
    aside: Path | None = None

    @property
    def tracker(self) -> str | None:
        """The tracker that it has, where that is installed here."""
        known: str | None = self.config.get("options", {}).get("tracker")
        with contextlib.suppress(UsageError):
            check_tracker(known)
            return known
        return None


@contextmanager
def open_run(
    options: Asked,
    kind: str,
    *,
    make: Callable[[Asked], Settings],
    resolve: Callable[[str, Any, Settings], Any] = lambda name, value, config: value,
    ranks: Ranks | None = None,
) -> Iterator[Run]:
    """Open a run, or start one, and hold its lock; the first of several processes does it for all.

    Args:
        options: of the command. A run that goes on keeps its own values of those that are None.
        kind: "frame" or "top".
        make: makes a fresh run's config from the options, with a seed; called before anything is
            made or moved, so that what it refuses leaves no trace.
        resolve: what an option's value comes to in a run of that config, as `settings_of` has it.
        ranks: the processes that train together.

    Yields:
        The run.

    Raises:
        CheckpointError: another process trains there, the directory holds something else, an
            option means something else than the run has, or it has trained for longer already.
        UsageError: `make` refuses the options.
    """
    with ExitStack() as stack:
        opening = _open(options, kind, make, resolve)
        yield (ranks or Ranks()).of_first(lambda: stack.enter_context(opening))


@contextmanager
def _open(
    options: Asked,
    kind: str,
    make: Callable[[Asked], Settings],
    resolve: Callable[[str, Any, Settings], Any],
) -> Iterator[Run]:
    directory = Path(options.out)
    goes_on = options.resume and _holds_run(directory)
    fresh, aside = {}, None
    if not goes_on:
        if options.seed is None:
            options = replace(options, seed=secrets.randbelow(2**31))
        # Options that mean nothing fail here, before anything is made or moved.
        fresh = {"kind": kind, **make(options), "options": kept_options(options)}
    if _holds_run(directory) and not options.resume:
        with checkpoints.lock(directory):
            pass  # nobody is training there
        aside = checkpoints.move_aside(directory)
    with checkpoints.lock(directory):
        if goes_on:
            yield _resumed(directory, kind, kept_options(options), resolve)
            return
        if _holds_run(directory):
            raise CheckpointError(f"another training has just begun in {directory}: go on with it")
        checkpoints.save_config(directory, fresh)
        yield Run(directory, fresh, fresh=True, done=False, aside=aside)


def kept_options(options: Training) -> Settings:
    """The options that were given, as config.json remembers them."""
    given = dict.fromkeys(LISTED_FIRST) | vars(options)
    kept = {n: value for n, value in given.items() if value is not None and n not in NOT_KEPT}
    if "init" in kept:
        kept["init"] = str(kept["init"])
    if "frames_store" in kept:
        kept["frames_store"] = path_from(Path(options.out), kept["frames_store"])
    return kept


def path_from(directory: Path, place: str | Path) -> str:
    """A path as a run remembers it: from its own directory."""
    return Path(os.path.relpath(Path(place).resolve(), directory.resolve())).as_posix()


def _resumed(
    directory: Path, kind: str, asked: Settings, resolve: Callable[[str, Any, Settings], Any]
) -> Run:
    """The run that stands there, as it goes on."""
    config = checkpoints.load_config(directory, kind=kind)
    _check_unchanged(directory, config, asked, resolve)
    state = checkpoints.load_state(directory, mapped=True)
    config = _with_length(directory, config, asked, state)
    config["options"] = config.get("options", {}) | {k: asked[k] for k in FREE if k in asked}
    return Run(directory, config, fresh=False, done=_is_done(config, state))


def check_data(run: Run, reader: StoreReader, *, source: str) -> Settings:
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
            f"{found['clips']:,}, not the same: --init {run.directory} --out NEW goes on from its "
            "weights with these, --no-resume starts anew; or bring those clips back"
        )
    config = {name: value for name, value in run.config.items() if name != "format_version"}
    checkpoints.save_config(run.directory, config)
    return dict(known)


def _is_done(config: Settings, state: Mapping[str, Any] | None) -> bool:
    """Whether a run was finished and is not to be longer now."""
    if state is None or not state["done"]:
        return False
    length = {name: config.get("training", {}).get(name) for name in LENGTH}
    return length == dict.fromkeys(LENGTH) or _share_done(length, state) >= 1


def _share_done(length: Settings, state: Mapping[str, Any]) -> float:
    return share_of_budget(
        length.get("steps"),
        length.get("minutes"),
        step=state["step"],
        elapsed_seconds=state["elapsed_seconds"],
    )


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


def settings_of(config: Settings) -> Settings:
    """What a run has of each option that its result depends on, all filled in.

    An option has the name of a setting of the model, the game, the training or the frames, or
    stands below. Those that the run has none of are left out.
    """
    model, frames = config.get("model", {}), config.get("frames", {})
    has: Settings = {}
    for part in (frames, model, config.get("game", {}), config.get("training", {})):
        has |= part
    has |= {"preset": build.preset_of(model), "kind": build.kind_of(model)}
    has["width"] = model.get("base_width")
    has["max_memory"] = config.get("memory", {}).get("budget_bytes")
    has["init"] = config.get("init", {}).get("fingerprint")
    if "height" in frames:
        has["size"] = f"{frames['width']}x{frames['height']}"
    return {name: value for name, value in has.items() if value is not None}


def _check_unchanged(
    directory: Path,
    config: Settings,
    asked: Settings,
    resolve: Callable[[str, Any, Settings], Any],
) -> None:
    has, typed = settings_of(config), config.get("options", {})
    for name, value in asked.items():
        if name in (*LENGTH, *FREE) or value in ("auto", typed.get(name)):
            continue
        if resolve(name, value, config) != has.get(name):
            raise CheckpointError(
                f"the run in {directory} has {_option(name, typed.get(name, has.get(name)))}, "
                f"asked for {_option(name, value)}: "
                "drop the option to go on with the run, or start anew with --no-resume"
            )


def _with_length(
    directory: Path, config: Settings, asked: Settings, state: Mapping[str, Any] | None
) -> Settings:
    """A run's config with the steps or minutes that are asked for now, if any are.

    Raises:
        CheckpointError: it has trained for so long already.
    """
    length = {name: asked[name] for name in LENGTH if name in asked}
    training = config.get("training", {})
    if all(training.get(name) == value for name, value in length.items()):
        return config
    (name,) = length
    if state is not None and _share_done(length, state) >= 1:
        done = {"steps": state["step"], "minutes": round(state["elapsed_seconds"] / 60, 2)}
        raise CheckpointError(
            f"the run in {directory} has trained for {done[name]:,} {name}, asked for "
            f"{_option(name, length[name])}: ask for more to go on, or start anew with --no-resume"
        )
    options = {k: v for k, v in config.get("options", {}).items() if k not in LENGTH} | length
    return config | {"training": training | dict.fromkeys(LENGTH) | length, "options": options}


def _option(name: str, value: object) -> str:
    return f"no {flag(name)}" if value is None else f"{flag(name)} {value}"


def default_minutes(device: str) -> float:
    """How long a training takes where neither steps nor minutes are given."""
    return CPU_MINUTES if device == "cpu" else GPU_MINUTES


def training_config(
    options: Training, *, device: str, ranks: Ranks, defaults: Settings
) -> TrainConfig:
    """How a fresh run is trained: every option that has the name of one of its settings is one.

    Args:
        options: those that were given, a seed among them.
        device: that it is for.
        ranks: the processes that train together.
        defaults: of settings, where a level has its own.

    Raises:
        UsageError: an optimizer or a precision cannot be had, or options do not go together.
    """
    given = {setting.name: getattr(options, setting.name, None) for setting in fields(TrainConfig)}
    chosen = defaults | {name: value for name, value in given.items() if value is not None}
    if not chosen.keys() & set(LENGTH):
        chosen["minutes"] = default_minutes(device)
    precision = choose_precision(options.mixed_precision or "auto", device=device)
    training = TrainConfig(**chosen | {"mixed_precision": precision})
    check_optimizer(training.optimizer)
    check_parts(training, ranks)
    return training


def announce(progress: Progress, run: Run, *, data: str, held_out: str) -> None:
    """Say what a training starts from and how long it takes."""
    training = run.config["training"]
    progress.say(
        f"{progress.name}: {'starting' if run.fresh else 'going on'} in {run.directory}: "
        f"{data}, {held_out}, {_length(run)}, batches of {training['batch_size']}, "
        f"seed {training['seed']}"
    )


def announce_finished(progress: Progress, run: Run) -> None:
    """Say that a run's budget is used, and how it can go on."""
    progress.say(
        f"{progress.name}: {run.directory} is finished ({_length(run)}); more --steps or --minutes "
        "go on with it, --no-resume starts anew and keeps it aside"
    )


def _length(run: Run) -> str:
    training = run.config["training"]
    return (
        f"{training['steps']:,} steps" if training["steps"] else f"{training['minutes']:g} minutes"
    )
