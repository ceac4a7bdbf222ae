"""A training run: a checkpoint directory that the same command opens again and goes on with."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ldf_video.errors import CheckpointError, UsageError
from ldf_video.models import build
from ldf_video.options import CHECKS, flag, unchanged
from ldf_video.progress import Progress
from ldf_video.runs.devices import choose_precision
from ldf_video.runs.held_out import RULE
from ldf_video.store.reader import StoreReader
from ldf_video.training import checkpoints
from ldf_video.training.config import TrainConfig, check_parts
from ldf_video.training.optim import check_optimizer
from ldf_video.training.ranks import Ranks
from ldf_video.training.tracking import check_tracker

Options = dict[str, Any]
Meaning = Callable[[str, Any, Options], Any]

LENGTH = ("steps", "minutes")
FREE = ("tracker", "frames_store")
"""Options that change no result: they may be others when a run goes on, and are remembered."""
TRAINING: tuple[str, ...] = ("batch_size", "learning_rate", "optimizer", "mixed_precision")
TRAINING += ("gradient_checkpointing", "accumulate", "seed")
BOTH = "got --steps and --minutes: give one of the two"


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
    config: dict[str, Any]
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
    directory: Path,
    kind: str,
    *,
    given: Mapping[str, Any],
    resume: bool,
    make: Callable[[Options], dict[str, Any]],
    mean: Meaning = lambda name, value, config: value,
    ranks: Ranks | None = None,
) -> Iterator[Run]:
    """Open a run, or start one, and hold its lock; the first of several processes does it for all.

    Args:
        directory: of the checkpoint.
        kind: "frame" or "top".
        given: the options that were asked for, None where one was not: a run that goes on keeps
            its own value there.
        resume: False moves a run that is there aside.
        make: makes a fresh run's config from the given options, a "seed" always among them; called
            before anything is made or moved, so that what it refuses leaves no trace.
        mean: what an option's value comes to in a run of that config, as `settings_of` has it.
        ranks: the processes that train together.

    Yields:
        The run.

    Raises:
        CheckpointError: another process trains there, the directory holds something else, an
            option means something else than the run has, or it has trained for longer already.
        UsageError: `make` refuses the options.
    """
    asked = {name: value for name, value in given.items() if value is not None}
    with ExitStack() as stack:
        opening = _open(directory, kind, asked=asked, resume=resume, make=make, mean=mean)
        yield (ranks or Ranks()).of_first(lambda: stack.enter_context(opening))


@contextmanager
def _open(
    directory: Path,
    kind: str,
    *,
    asked: Options,
    resume: bool,
    make: Callable[[Options], dict[str, Any]],
    mean: Meaning,
) -> Iterator[Run]:
    goes_on = resume and _holds_run(directory)
    fresh, aside = {}, None
    if not goes_on:
        options = {"seed": secrets.randbelow(2**31)} | asked
        # Options that mean nothing fail here, before anything is made or moved.
        fresh = {"kind": kind, **make(options), "options": options}
    if _holds_run(directory) and not resume:
        with checkpoints.lock(directory):
            pass  # nobody is training there
        aside = checkpoints.move_aside(directory)
    with checkpoints.lock(directory):
        if goes_on:
            yield _resumed(directory, kind, asked=asked, mean=mean)
            return
        if _holds_run(directory):
            raise CheckpointError(f"another training has just begun in {directory}: go on with it")
        checkpoints.save_config(directory, fresh)
        yield Run(directory, fresh, fresh=True, done=False, aside=aside)


def _resumed(directory: Path, kind: str, *, asked: Options, mean: Meaning) -> Run:
    """The run that stands there, as it goes on."""
    config = checkpoints.load_config(directory, kind=kind)
    _check_unchanged(directory, config, asked, mean)
    state = checkpoints.load_state(directory, mapped=True)
    config = _with_length(directory, config, asked, state)
    config["options"] = config.get("options", {}) | {k: asked[k] for k in FREE if k in asked}
    return Run(directory, config, fresh=False, done=_is_done(config, state))


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
            f"{found['clips']:,}, not the same: --init {run.directory} --out NEW goes on from its "
            "weights with these, --no-resume starts anew; or bring those clips back"
        )
    config = {name: value for name, value in run.config.items() if name != "format_version"}
    checkpoints.save_config(run.directory, config)
    return dict(known)


def _is_done(config: Mapping[str, Any], state: Mapping[str, Any] | None) -> bool:
    """Whether a run was finished and is not to be longer now."""
    if state is None or not state["done"]:
        return False
    known = {name: config.get("training", {}).get(name) for name in ("steps", "minutes")}
    return known == dict.fromkeys(known) or _share(known, state) >= 1


def _share(length: Mapping[str, Any], state: Mapping[str, Any]) -> float:
    """How much of a length is done."""
    training = TrainConfig(steps=length.get("steps"), minutes=length.get("minutes"))
    return training.progress(step=state["step"], elapsed_seconds=state["elapsed_seconds"])


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


def settings_of(config: Mapping[str, Any]) -> Options:
    """What a run has of each option that its result depends on, all filled in.

    Those that it has none of are left out.
    """
    training, model, frames = (config.get(part, {}) for part in ("training", "model", "frames"))
    has = {name: training.get(name) for name in TRAINING if name in training}
    if "height" in frames:
        has |= {"size": f"{frames['width']}x{frames['height']}"}
    has |= {name: frames[name] for name in ("fps", "crop") if name in frames}
    has |= {"preset": build.preset_of(model), "kind": build.kind_of(model)}
    has |= {"width": model.get("base_width"), "window": model.get("window")}
    has["latent_noise"] = config.get("game", {}).get("latent_noise")
    has["max_memory"] = config.get("memory", {}).get("budget_bytes")
    has["init"] = config.get("init", {}).get("fingerprint")
    return {name: value for name, value in has.items() if value is not None}


def _check_unchanged(directory: Path, config: Options, asked: Options, mean: Meaning) -> None:
    has, typed = settings_of(config), config.get("options", {})
    for name, value in asked.items():
        if name in (*LENGTH, *FREE) or value in ("auto", typed.get(name)):
            continue
        meant = CHECKS.get(name, unchanged)(flag(name), value)
        if mean(name, meant, config) != has.get(name):
            raise CheckpointError(
                f"the run in {directory} has {_option(name, typed.get(name, has.get(name)))}, "
                f"asked for {_option(name, value)}: "
                "drop the option to go on with the run, or start anew with --no-resume"
            )


def _with_length(
    directory: Path, config: Options, asked: Options, state: Mapping[str, Any] | None
) -> Options:
    """A run's config with the steps or minutes that are asked for now, if any are.

    Raises:
        UsageError: both are asked for.
        CheckpointError: it has trained for so long already.
    """
    length = {name: asked[name] for name in LENGTH if name in asked}
    if len(length) > 1:
        raise UsageError(BOTH)
    training = config.get("training", {})
    if not length or all(training.get(name) == value for name, value in length.items()):
        return config
    (name,) = length
    if state is not None and _share(length, state) >= 1:
        done = {"steps": state["step"], "minutes": round(state["elapsed_seconds"] / 60, 2)}
        raise CheckpointError(
            f"the run in {directory} has trained for {done[name]:,} {name}, asked for "
            f"{_option(name, length[name])}: ask for more to go on, or start anew with --no-resume"
        )
    none = dict.fromkeys(LENGTH)
    options = {k: v for k, v in config.get("options", {}).items() if k not in LENGTH} | length
    return config | {"training": training | none | length, "options": options}


def _option(name: str, value: object) -> str:
    return f"no {flag(name)}" if value is None else f"{flag(name)} {value}"


def finished_line(run: Run, progress: Progress) -> str:
    """What to say of a run whose budget is used."""
    return (
        f"{progress.name}: {run.directory} is finished ({_length(run)}); more --steps or --minutes "
        "go on with it, --no-resume starts anew and keeps it aside"
    )


def _length(run: Run) -> str:
    training = run.config["training"]
    return (
        f"{training['steps']:,} steps" if training["steps"] else f"{training['minutes']:g} minutes"
    )


def budget(options: Options, *, device: str) -> Options:
    """Fill in how long to train where nothing is said: 10 minutes on a CPU, 5 on a GPU.

    Raises:
        UsageError: both are given.
    """
    if "steps" in options and "minutes" in options:
        raise UsageError(BOTH)
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
    progress.say(
        f"{progress.name}: {'starting' if run.fresh else 'going on'} in {run.directory}: "
        f"{data}, {held_out}, {_length(run)}, batches of {training['batch_size']}, "
        f"seed {training['seed']}"
    )
