"""A training run: a checkpoint directory that the same command opens again and goes on with."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from ldf_video.errors import CheckpointError, UsageError, counted
from ldf_video.files.layout import OFF as LAYOUT_OFF
from ldf_video.models import build
from ldf_video.options.option import flag
from ldf_video.options.trainings import Training
from ldf_video.output import reason
from ldf_video.runs.held_out import RULE
from ldf_video.store.reader import StoreReader
from ldf_video.training import checkpoints
from ldf_video.training.config import TrainConfig, share_of_budget
from ldf_video.training.metrics import check_tracker
from ldf_video.training.ranks import Ranks

Settings = dict[str, Any]
"""Options by name, or what config.json holds."""
Resolve = Callable[[str, Any, Settings], Any]
Asked = TypeVar("Asked", bound=Training)
Made = TypeVar("Made")

NOT_KEPT = ("clips", "latents", "out", "resume", "device", "quiet")
"""Options of a call that a run does not remember."""
LISTED_FIRST = ("seed", "size", "preset", "width", "latent_noise", "kind", "window")
"""In config.json, and so in what `info` prints."""
LENGTH = ("steps", "minutes")
FREE = ("tracker", "frames_store")
"""Options that change no result: they may be others when a run goes on, and are remembered."""


@dataclass(frozen=True)
class Run:
    """An opened run: the directory of its checkpoint, and what config.json says.

    Attributes:
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

    @property
    def training(self) -> TrainConfig:
        """How it is trained; errors as of `built`."""
        return self.built(lambda config: TrainConfig(**config["training"]))

    def built(self, build: Callable[[Settings], Made]) -> Made:
        """What is built from its config.

        Raises:
            CheckpointError: the config is damaged, or of another version.
        """
        try:
            return build(self.config)
        except (TypeError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"{self.directory} cannot be gone on with, its config.json is of another version: "
                f"{reason(error)}; --no-resume starts anew and keeps the old run"
            ) from None


@contextmanager
def open_run(
    options: Asked,
    kind: str,
    *,
    make: Callable[[Asked], Settings],
    resolve: Resolve = lambda name, value, config: value,
    ranks: Ranks | None = None,
) -> Iterator[Run]:
    """Open a run, or start one, and hold its lock; the first of several processes does it for all.

    Args:
        options: of the command. A run that goes on keeps its own values of those that are None.
        kind: "frame" or "top".
        make: a fresh run's config, from the options with a seed; called before anything is made or
            moved, so that what it refuses leaves no trace.
        resolve: what the value of an option comes to in a run of that config.
        ranks: the processes that train together.

    Raises:
        CheckpointError: another process trains there, the directory holds something else, an
            option means something else than the run has, or it has trained for longer already.
        UsageError: `make` refuses the options.
    """
    with ExitStack() as held:
        yield (ranks or Ranks()).of_first(lambda: _open(held, options, kind, make, resolve))


def _open(
    held: ExitStack,
    options: Asked,
    kind: str,
    make: Callable[[Asked], Settings],
    resolve: Resolve,
) -> Run:
    directory = Path(options.out)
    if options.resume and _holds_run(directory):
        held.enter_context(checkpoints.lock(directory))
        return _resumed(directory, kind, kept_options(options), resolve)
    if options.seed is None:
        options = replace(options, seed=secrets.randbelow(2**31))
    fresh = {"kind": kind, **make(options), "options": kept_options(options)}
    aside = None
    if _holds_run(directory) and not options.resume:
        with checkpoints.lock(directory):
            pass  # nobody is training there
        aside = checkpoints.move_aside(directory)
    held.enter_context(checkpoints.lock(directory))
    if _holds_run(directory):
        raise CheckpointError(f"another training has just begun in {directory}: go on with it")
    checkpoints.save_config(directory, fresh)
    return Run(directory, fresh, fresh=True, done=False, aside=aside)


def kept_options(options: Training) -> Settings:
    """The options that were given, as config.json remembers them."""
    given = dict.fromkeys(LISTED_FIRST) | vars(options)
    kept = {n: value for n, value in given.items() if value is not None and n not in NOT_KEPT}
    kept |= {name: str(kept[name]) for name in ("init", "top_model") if name in kept}
    if "frames_store" in kept:
        kept["frames_store"] = path_from(Path(options.out), kept["frames_store"])
    return kept


def path_from(directory: Path, place: str | Path) -> str:
    """A path as a run remembers it: from its own directory."""
    return Path(os.path.relpath(Path(place).resolve(), directory.resolve())).as_posix()


def _resumed(directory: Path, kind: str, asked: Settings, resolve: Resolve) -> Run:
    """The run that stands there, as it goes on."""
    config = checkpoints.load_config(directory, kind=kind)
    _check_unchanged(directory, config, asked, resolve)
    state = checkpoints.load_state(directory, mapped=True)
    config = _with_length(directory, config, asked, state)
    config["options"] = config.get("options", {}) | {k: asked[k] for k in FREE if k in asked}
    return Run(directory, config, fresh=False, done=_is_done(config, state))


def check_data(run: Run, reader: StoreReader, *, source: str) -> Settings:
    """Remember what a run learns from, or see that it is still the same; config.json is written.

    Returns what the run remembers of it, by which rule clips are held out among that. `source` is
    what the error calls it.

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
            f"the run in {run.directory} began with {counted(known['frames'], 'frame')} of "
            f"{counted(known['clips'], 'clip')}, {source} now gives {found['frames']:,} of "
            f"{found['clips']:,}, not the same: --init {run.directory} --out NEW goes on from its "
            "weights with these, --no-resume starts anew; or bring those clips back"
        )
    config = {name: value for name, value in run.config.items() if name != "format_version"}
    checkpoints.save_config(run.directory, config)
    return dict(known)


def _is_done(config: Settings, state: Mapping[str, Any] | None) -> bool:
    """Whether a run was finished and is not to be longer now."""
    return state is not None and state["done"] and _is_used(config.get("training", {}), state)


def _is_used(length: Settings, state: Mapping[str, Any]) -> bool:
    """Whether a run has trained for so many steps or minutes."""
    steps, minutes = (length.get(name) for name in LENGTH)
    step, seconds = state["step"], state["elapsed_seconds"]
    if steps is None and minutes is None:
        return True
    return share_of_budget(steps, minutes, step=step, elapsed_seconds=seconds) >= 1


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


def _settings_of(config: Settings) -> Settings:
    """What a run has of each option that its result depends on, all filled in.

    An option has the name of a setting of the model, the game, the training or the frames, or
    stands below. Those that the run has none of are left out.
    """
    model, frames = config.get("model", {}), config.get("frames", {})
    has = (LAYOUT_OFF if frames else {}) | frames | model
    has |= config.get("game", {}) | config.get("training", {})
    has |= {"preset": build.preset_of(model), "kind": build.kind_of(model)}
    has["cuts"] = config.get("cuts", "off")
    has["conditions"] = "auto" if model.get("columns") else "off"
    has["width"] = model.get("base_width")
    has["few"] = "few" in config.get("game", {})
    has["max_memory"] = config.get("memory", {}).get("budget_bytes")
    for name in ("init", "top_model"):
        has[name] = config.get(name, {}).get("fingerprint")
    if "height" in frames:
        has["size"] = f"{frames['width']}x{frames['height']}"
    return {name: value for name, value in has.items() if value is not None}


def _check_unchanged(directory: Path, config: Settings, asked: Settings, resolve: Resolve) -> None:
    has, typed = _settings_of(config), config.get("options", {})
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
    if state is not None and _is_used(length, state):
        done = {"steps": state["step"], "minutes": round(state["elapsed_seconds"] / 60, 2)}
        raise CheckpointError(
            f"the run in {directory} has trained for {done[name]:,} {name}, asked for "
            f"{_option(name, length[name])}: ask for more to go on, or start anew with --no-resume"
        )
    options = {k: v for k, v in config.get("options", {}).items() if k not in LENGTH} | length
    return config | {"training": training | dict.fromkeys(LENGTH) | length, "options": options}


def _option(name: str, value: object) -> str:
    return f"no {flag(name)}" if value is None else f"{flag(name)} {value}"
