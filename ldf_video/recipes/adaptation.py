"""Which frame model encodes clips where none is named: an own, a shipped or an adapted one."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ldf_video.clips.probe import has_times
from ldf_video.errors import CheckpointError, ReadError, StoreError, counted
from ldf_video.files.layout import layout_of
from ldf_video.levels.frame_level import frame_run_config
from ldf_video.models import build
from ldf_video.models.frame import FrameModel
from ldf_video.options.option import DEFAULT_SHIPPED
from ldf_video.options.reading import Encode
from ldf_video.options.trainings import TrainFrame
from ldf_video.readers.clips import ClipReader
from ldf_video.recipes.train_frame import train_frame
from ldf_video.runs import zoo
from ldf_video.runs.run import kept_options
from ldf_video.runs.training import default_minutes, find_origin
from ldf_video.sources.search import is_own
from ldf_video.sources.source import Source
from ldf_video.store.format import STORE_JSON, read_store_json
from ldf_video.training import checkpoints
from ldf_video.training.ranks import Ranks
from ldf_video.video.geometry import Geometry, geometry_of
from ldf_video.video.pixels import from_model, psnr_db, to_model

Frames = npt.NDArray[np.uint8]

POOR_FIT_DB = 20.0
"""Below this a frame model plainly does not know such frames."""
MARK = ".adapting"
"""In checkpoints/frame while a model is adapted there: the name of the one that it began as."""
SLOW_SIDE, SLOW_BATCH = 32, 16
"""Of frames without CUDA: larger ones take a top model four times as long and more to learn."""
SOURCES, READ_FRAMES, STEP = 8, 1024, 8
"""Of the sample: from how many sources, how many frames are read, and one in how many is taken."""
EMPTY_LEVELS = 8.0
"""Frames that spread less tell nothing: black ones before a film come back from any model."""


@dataclass(frozen=True)
class Asked:
    """An encode that names no frame model: its options, what was found of its clips, a device.

    `size` is that of the frames, by itself the largest that the device can learn from.
    """

    options: Encode
    sources: Sequence[Source]
    device: str
    size: str | None = None

    @property
    def minutes(self) -> float | None:
        """To adapt for, None for the usual time, 0 for none."""
        return self.options.adapt_minutes

    def training(self, name: str, **options: Any) -> TrainFrame:
        """The options of a training that adapts a shipped model to the clips."""
        return TrainFrame(
            self.options.clips,
            out=zoo.OWN_FRAME,
            init=name,
            fps=self.options.fps,
            crop=self.options.crop,
            **layout_of(self.options).settings(),
            quiet=self.options.quiet,
            **options,
        )

    def maker_of_store(self) -> str:
        """The fingerprint of the model that made the store; none where a new one is begun."""
        out = Path(self.options.out)
        if self.options.overwrite or not (out / STORE_JSON).exists():
            return ""
        return str(read_store_json(out)[0].settings.get("weights"))


@dataclass(frozen=True)
class _Choice:
    """A directory, what is said of it, and the shipped model to adapt into it, if one is."""

    directory: Path
    line: str = ""
    adapt: str = ""


def own_or_adapted(asked: Asked, ranks: Ranks, *, say: Callable[[str], None]) -> Path:
    """The directory of the frame model for clips where none is named.

    An own one in checkpoints/frame, else the one that made the store, else the shipped one that
    brings a sample of the clips back best. Where that is under 20 dB, it is adapted first, by
    train-frame in checkpoints/frame; a kill leaves a mark there, by which the same call goes on.

    Raises:
        StoreError: the store was made by a model that is not there any more.
        CheckpointError: an adaptation that was begun cannot go on.
    """
    choice = ranks.of_first(lambda: _choose(asked))
    if choice.line:
        say(f"encode: {choice.line}")
    if choice.adapt:
        _adapt(asked, choice.adapt, ranks)
    return choice.directory


def _choose(asked: Asked) -> _Choice:
    own, mark, made = zoo.OWN_FRAME, zoo.OWN_FRAME / MARK, asked.maker_of_store()
    begun = mark.read_text().strip() if mark.is_file() and asked.minutes != 0 else ""
    usable = not mark.is_file() or (own / checkpoints.WEIGHTS).is_file()
    if not begun and (own / checkpoints.CONFIG).is_file() and usable:
        return _Choice(own)
    shipped = zoo.shipped_of("frame")
    for name, directory in shipped.items():
        if made and not begun and checkpoints.latents_fingerprint_of(directory) == made:
            return _Choice(directory, f"no {own}, using the shipped {name} as before")
    if made:
        raise StoreError(
            f"{asked.options.out} was made by other settings, by a frame model {made[:12]} that is "
            f"not in {own}; use another --out, or --overwrite to move it aside"
        )
    if begun:
        return _Choice(own, f"going on with adapting {begun} to these clips in {own}", begun)
    trials = _trials(asked, shipped)
    if not trials:  # nothing can be read, which is told where it is tried for good
        return _Choice(zoo.find_model(None, "frame")[0])
    return _best(asked, shipped, trials)


@dataclass(frozen=True)
class _Trial:
    """A shipped model at the size that this device can learn from, and how it did in dB."""

    model: FrameModel
    config: dict[str, Any]
    as_shipped: bool
    psnr_db: float


def _trials(asked: Asked, shipped: dict[str, Path]) -> dict[str, _Trial]:
    """How well each shipped model brings a sample back, the best first."""
    samples: dict[Geometry, Frames] = {}
    trials = {}
    for name in shipped:
        origin = find_origin(name, "frame")
        known = origin.model.config
        own, is_fast = f"{known.width}x{known.height}", asked.device == "cuda"
        is_small = is_fast or max(known.height, known.width) <= SLOW_SIDE
        size: str | int | None = None if is_small else SLOW_SIDE
        if asked.size is not None:
            size, is_small = asked.size, asked.size == own
        options = asked.training(name, seed=secrets.randbelow(2**31), size=size)
        config = frame_run_config(options, device=asked.device, ranks=Ranks(), origin=origin)
        geometry = replace(geometry_of(config), fps=None)
        if geometry not in samples:
            samples[geometry] = _sample(asked.sources, geometry)
        if not len(samples[geometry]):
            return {}
        model = build.frame_model(config["model"])
        model.load_state_dict(origin.model.state_dict(), strict=False)  # a linear map may be new
        fit = _psnr_db(model.eval().to(asked.device), samples[geometry], asked.device)
        config = {"kind": "frame", **config, "options": kept_options(options)}
        trials[name] = _Trial(model, config, is_small and name == DEFAULT_SHIPPED, fit)
    return dict(sorted(trials.items(), key=lambda item: -item[1].psnr_db))


def shipped_fits(asked: Asked) -> dict[str, float]:
    """How well each shipped frame model brings a sample of the clips back, in dB, the best first.

    Empty where nothing can be read.
    """
    trials = _trials(asked, zoo.shipped_of("frame"))
    return {name: trial.psnr_db for name, trial in trials.items()}


def _best(asked: Asked, shipped: dict[str, Path], trials: dict[str, _Trial]) -> _Choice:
    name, best = next(iter(trials.items()))
    fits = ", ".join(f"{other} {trial.psnr_db:.1f} dB" for other, trial in trials.items())
    own, is_poor = zoo.OWN_FRAME, best.psnr_db < POOR_FIT_DB
    if is_poor and asked.minutes != 0:
        minutes = default_minutes(asked.device) if asked.minutes is None else asked.minutes
        return _Choice(
            own,
            f"no shipped model brings a sample of these clips back at {POOR_FIT_DB:g} dB "
            f"({fits}): first adapting {name} to them in {own}, for {counted(minutes, 'minute')}; "
            "--adapt-minutes M takes M, 0 goes on without",
            name,
        )
    line = f"no {own}, using the shipped {name}, which shows a sample of the clips best ({fits})"
    if is_poor:
        line = f"warning: {line}: under {POOR_FIT_DB:g} dB, and --adapt-minutes 0 leaves it so"
    if best.as_shipped:
        return _Choice(shipped[name], line)
    checkpoints.save_weights(own, best.model.state_dict())
    checkpoints.save_config(own, best.config)
    size = best.model.config
    return _Choice(own, f"{line}; at {size.width}x{size.height} it is {own} from now on")


def some_of(sources: Sequence[Source]) -> list[Source]:
    """At most `SOURCES` of them, spread over all, none that ldf-video wrote itself."""
    places = {int(place) for place in np.linspace(0, len(sources) - 1, SOURCES)}
    some = (sources[place] for place in sorted(places))
    return [source for source in some if not is_own(source)]


def own_rates(sources: Sequence[Source]) -> list[Fraction]:
    """Frames a second of some videos, each once; frames of arrays and of pictures have none."""
    rates = set()
    with ClipReader(Geometry(8, 8), most_frames=2) as reader:
        for source in some_of(sources):
            with contextlib.suppress(ReadError):
                if has_times(source):
                    for clip in reader.open_clips(source):
                        rates |= {clip.fps} if len([*clip.frames]) == 2 else set()
    return sorted(rates)


def _sample(sources: Sequence[Source], geometry: Geometry) -> Frames:
    """Frames (N, H, W, 3) of some sources; none where none of those can be read."""
    some = some_of(sources)
    taken: list[Frames] = []
    with ClipReader(geometry, most_frames=READ_FRAMES // max(1, len(some))) as reader:
        for source in some:
            with contextlib.suppress(ReadError):
                clips = reader.open_clips(source)
                each = chain.from_iterable(clip.frames for clip in clips)
                taken.extend(islice(each, 0, None, STEP))
    if not taken:
        return np.zeros((0, geometry.height, geometry.width, 3), np.uint8)
    frames = np.stack(taken)
    full = frames.std(axis=(1, 2, 3)) >= EMPTY_LEVELS
    return frames[full] if full.any() else frames


@torch.inference_mode()
def _psnr_db(model: FrameModel, frames: Frames, device: str) -> float:
    errors = []
    for part in np.array_split(frames, max(1, len(frames) // SLOW_BATCH)):
        again = from_model(model.generator(model.encoder(to_model(part, device=device))))
        errors.append(len(part) * float(np.square(again.astype(np.float64) - part).mean()))
    return psnr_db(sum(errors) / len(frames))


def _adapt(asked: Asked, name: str, ranks: Ranks) -> None:
    """Train the model in checkpoints/frame, from the shipped one on or from where it stopped."""
    mark, fast = zoo.OWN_FRAME / MARK, asked.device == "cuda"

    def begin() -> None:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text(name)

    ranks.of_first(begin)
    size, batch_size = (None, None) if fast else (SLOW_SIDE, SLOW_BATCH)
    budget = {"minutes": asked.minutes, "batch_size": batch_size}
    try:
        train_frame(asked.training(name, size=size, device=asked.device, **budget))
    except CheckpointError as error:
        raise CheckpointError(
            f"adapting {name} to these clips does not go on: {error}; ldf-video train-frame "
            f"{asked.options.clips} --init {name} --no-resume begins anew"
        ) from error
    ranks.of_first(mark.unlink)
