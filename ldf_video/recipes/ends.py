"""What `generate` and `interpolate` share: clips at a video's ends, what is said of a model."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from ldf_video.arrays.conditions import Column, Conditions
from ldf_video.errors import CheckpointError, ReadError, TruncatedError, UsageError
from ldf_video.files.archives import ArchivePath
from ldf_video.files.layout import UNSAID, Layout
from ldf_video.files.locations import split_inner
from ldf_video.models.build import KINDS
from ldf_video.models.flow import FlowTop
from ldf_video.models.top import TopModel
from ldf_video.options.sampling import Pair
from ldf_video.readers.clips import ClipReader
from ldf_video.runs.zoo import OWN_FRAME, OWN_TOP, Loaded, find_model, load_top_model
from ldf_video.sources.folder import folder_series, named_source
from ldf_video.sources.search import find_sources
from ldf_video.sources.source import Source
from ldf_video.training import checkpoints
from ldf_video.training.update import span
from ldf_video.video.geometry import Geometry
from ldf_video.video.media import DEFAULT_FPS

Frames = npt.NDArray[np.uint8]

MAX_FPS = 120
"""Of a video that is watched: some stores hold a time base of 1/1000 s for a rate."""
NO_OTHER_RATE = Fraction(1, 500)
"""A change of speed that nobody sees: 30 for 30000/1001."""


def named_clip(path: str | Path, said: str, *, layout: Layout = UNSAID) -> Source:
    """The file, or the series of pictures in a folder, that an option names.

    Args:
        path: what was given.
        said: the option, as errors name it.
        layout: how it is read.

    Raises:
        UsageError: there is none.
        ReadError: the folder holds no series, or several.
    """
    packed, inner = split_inner(path)
    path = Path(path)
    if path.is_file() or (inner and isinstance(packed, Path) and packed.exists()):
        return find_sources(path, layout=layout)[0]
    if isinstance(packed, ArchivePath) and packed.exists():
        return replace(named_source(packed), layout=layout)
    if not path.is_dir():
        there = "" if path.exists() else "there is no such file; "
        raise UsageError(f"{said} {path}: {there}expected a video or a picture")
    try:
        return replace(folder_series(path, layout=layout), layout=layout)
    except ReadError as error:
        raise ReadError(f"{said} {path}: {error}") from None


class Part(NamedTuple):
    """Some frames of a clip.

    Attributes:
        frames: (n, H, W, 3).
        known: what is known of them.
    """

    frames: Frames
    known: Conditions


def last_frames(
    clip: Source, geometry: Geometry, count: int, *, said: str, stride: int = 1
) -> Part:
    """The last frames (up to `count`) of the first clip of a source.

    With a `stride` every so-manyth frame, the clip's last one among them.

    Raises:
        ReadError: it has none that can be read.
    """
    frames, known = _some_frames(clip, geometry, span(count, stride), newest=True, said=said)
    taken = slice((len(frames) - 1) % stride, None, stride)
    return Part(frames[taken], Conditions(known.columns, known.values[taken]))


def first_frame(clip: Source, geometry: Geometry, *, said: str) -> Frames:
    """The first frame likewise, (1, H, W, 3)."""
    return _some_frames(clip, geometry, 1, newest=False, said=said).frames


def _some_frames(clip: Source, geometry: Geometry, count: int, *, newest: bool, said: str) -> Part:
    found: deque[Frames] = deque(maxlen=count)
    told: deque[list[float | None]] = deque(maxlen=count)
    columns: tuple[Column, ...] = ()
    try:
        with ClipReader(geometry) as reader:
            for stream in reader.open_clips(clip):
                columns = stream.columns
                for frame in stream.frames if newest else islice(stream.frames, count):
                    found.append(frame)
                    told.append(stream.told())
                if found:  # else it is a bad one of several
                    break
    except TruncatedError:
        pass  # what can be read of it counts
    except ReadError as error:
        raise ReadError(f"{said} {clip.path}: {error}") from None
    if not found:
        raise ReadError(f"{said} {clip.path}: it has no frames")
    values = np.array([*told], np.float32).reshape(len(found), len(columns))  # None becomes NaN
    return Part(np.stack(found), Conditions(columns, values))


def shown_rate(top: Loaded[TopModel], fps: str | float | None) -> Fraction:
    """Frames a second of a file: as asked, else as the top model learned."""
    if fps is not None:
        return Fraction(fps)
    learned = top.fps()
    return learned if learned <= MAX_FPS else DEFAULT_FPS


def stride_of(top: Loaded[TopModel], fps: str | float | None) -> int:
    """That of the strides which a top model knows whose rate is nearest to what was asked for."""
    if fps is None or len(top.model.strides) == 1:
        return 1
    learned = top.fps()
    if learned > MAX_FPS:  # nobody knows
        return 1
    return min(top.model.strides, key=lambda n: abs(math.log(Fraction(fps) * n / learned)))


def rates_of(top: Loaded[TopModel]) -> str:
    """The frame rates that a top model knows, in words."""
    learned = top.fps()
    if len(top.model.strides) == 1:
        return f"knows one rate, {float(learned):g} frames a second"
    rates = ", ".join(f"{float(learned / stride):g}" for stride in top.model.strides)
    return f"knows the rates {rates} frames a second"


def known_stride(top: Loaded[TopModel], fps: str | float | None) -> int:
    """The stride of a rate that a top model knows.

    Raises:
        UsageError: it does not know that rate.
    """
    stride = stride_of(top, fps)
    if fps is not None and abs(Fraction(fps) * stride / top.fps() - 1) > NO_OTHER_RATE:
        raise UsageError(
            f"--fps {float(Fraction(fps)):g}: {top.directory} {rates_of(top)}; give one of these"
        )
    return stride


def speed_note(top: Loaded[TopModel], fps: str | float | None, path: Path) -> str | None:
    """What to say where a file shall play at another rate than any that the top model learned."""
    if fps is None or path.suffix.lower() == ".png":  # a sheet has no rate
        return None
    try:
        learned = top.fps()
    except CheckpointError:  # nobody knows
        return None
    made = learned / stride_of(top, fps)
    ratio = Fraction(fps) / made
    if learned > MAX_FPS or abs(ratio - 1) <= NO_OTHER_RATE:
        return None
    plays = f"plays {float(ratio):.3g} times as fast"
    knows = f"{top.directory} {rates_of(top)}"
    if len(top.model.strides) == 1:
        return f"{knows}: --fps changes the file's alone, which {plays}"
    return f"{knows}: the nearest to --fps is {float(made):g}, so the file {plays}"


def load_sampler(options: Pair, *, device: str) -> tuple[Loaded[TopModel], bool]:
    """The top model that a command samples, with the passes asked for, and whether it is shipped.

    Raises:
        UsageError: it takes no other number of passes.
    """
    directory, shipped = find_model(options.top_model, "top", shipped=options.shipped)
    top = load_top_model(directory, device=device)
    if options.steps_per_block is not None:
        _take_steps(top, options.steps_per_block)
    return top, shipped


def _take_steps(top: Loaded[TopModel], steps: int) -> None:
    said = f"--steps-per-block {steps}"
    if not isinstance(top.model, FlowTop):
        refuse_fixed(top, said, "take several passes")
    config = top.model.config
    if config.renewed:
        raise UsageError(
            f"{said}: {top.directory} learned to make a block in {config.sampling_steps}, no other "
            f"number; name the flow that it learned from, {top.config['init']['from']}, as "
            "--top-model"
        )
    first = math.ceil(steps * config.first_steps / config.sampling_steps)
    top.model.config = replace(config, sampling_steps=steps, first_steps=first)


def shipped_line(command: str, name: str, decoded_by: Path) -> str:
    """Which shipped pair is used, and whether it leaves an own frame model aside."""
    line = f"{command}: no {OWN_TOP}, using the shipped {name}"
    if decoded_by == OWN_FRAME:
        return f"{line}, decoded by {OWN_FRAME}"
    if not (OWN_FRAME / checkpoints.CONFIG).is_file():
        return line
    return f"{line} with its own frame model, not {OWN_FRAME}: train-top learns your clips"


def others_than(top: Loaded[TopModel]) -> str:
    """What to type for a top model of another kind."""
    kinds = (other for other in KINDS if other != top.config["model"]["kind"])
    return "train-top " + " or ".join(f"--kind {other}" for other in kinds)


def flow_to_a_frame(top: Loaded[TopModel], said: str, wish: str) -> FlowTop:
    """The flow of a top model, which can lead to a frame that is known.

    Raises:
        UsageError: it is none, or its blocks hold no other frame that could be made to fit.
    """
    if not isinstance(top.model, FlowTop):
        refuse_fixed(top, said, wish)
    if top.model.config.block == 1:
        raise UsageError(
            f"{said}: {top.directory} makes one frame at a time and cannot lead to a known one; "
            "train-top --window 8 or more can, on clips of as many frames"
        )
    return top.model


def refuse_fixed(top: Loaded[TopModel], said: str, wish: str) -> NoReturn:
    """Say that a top model of a fixed number of frames cannot do something.

    Raises:
        UsageError: always.
    """
    raise UsageError(
        f"{said}: {top.directory} is of the kind {top.config['model']['kind']} and cannot {wish}; "
        f"{others_than(top)} can"
    )
