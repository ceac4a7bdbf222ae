"""The models that are judged, and the frames that they make."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ldf_video.errors import ReadError, UsageError
from ldf_video.evaluation.draw import CLIP_FRAMES
from ldf_video.models.frame import FrameModel
from ldf_video.models.top import TopModel
from ldf_video.readers.clips import frame_size
from ldf_video.runs.framing import checked_geometry, parse_size
from ldf_video.runs.zoo import (
    Loaded,
    find_frame_model,
    find_top_model,
    frame_model_of,
    load_frame_model,
    load_top_model,
)
from ldf_video.training import checkpoints
from ldf_video.video.geometry import Geometry
from ldf_video.video.sources import Source


@dataclass(frozen=True)
class Models:
    """What is judged, beside clips on disk."""

    top: Loaded[TopModel] | None
    frame_of_top: Loaded[FrameModel] | None
    frame: Loaded[FrameModel] | None

    def files(self) -> list[Path]:
        """What they were read from."""
        loaded = (self.top, self.frame_of_top, self.frame)
        names = (checkpoints.CONFIG, checkpoints.WEIGHTS)
        return [model.directory / name for model in loaded if model is not None for name in names]


def load_models(
    top_model: str | Path | None,
    frame_model: str | Path | None,
    *,
    default: bool,
    skip: int,
    device: str,
) -> Models:
    """The models that were asked for; by `default`, without any, the top model of `generate`."""
    top = frame_of_top = frame = None
    if top_model is not None or (default and frame_model is None):
        top = load_top_model(find_top_model(top_model)[0], device=device)
        _check_top(top, skip)
        frame_of_top = frame_model_of(top, device=device)
    if frame_model is not None:
        frame = load_frame_model(find_frame_model(frame_model)[0], device=device)
    return Models(top, frame_of_top, frame)


def choose_geometry(models: Models, size: str | int | None, sources: list[Source]) -> Geometry:
    """What all clips are brought to: as a model's were (a top model's first), SIZE, or as they are.

    Raises:
        UsageError: the models, or a model and SIZE, want frames of different sizes.
    """
    asked = None if size is None else parse_size(size)
    wanted = []
    if models.top is not None and models.frame_of_top is not None:
        own = models.top if "frames" in models.top.config else models.frame_of_top
        wanted.append(checked_geometry(own))
    if models.frame is not None:
        wanted.append(checked_geometry(models.frame))
    if not wanted:
        return Geometry(*(asked or _size_of_first(sources)))
    height, width = wanted[0].height, wanted[0].width
    if (wanted[-1].height, wanted[-1].width) != (height, width):
        raise UsageError(
            f"--frame-model: its frames are {wanted[-1].width}x{wanted[-1].height}, the top "
            f"model's {width}x{height}; evaluate one after the other"
        )
    if asked not in (None, (height, width)):
        raise UsageError(f"--size {size}: the model makes {width}x{height}; leave it out")
    return wanted[0]


def _size_of_first(sources: list[Source]) -> tuple[int, int]:
    """Height and width of the first source that can be read."""
    reasons = []
    for source in sources:
        try:
            return frame_size(source)
        except ReadError as error:
            reasons.append(f"{source.name}: {error}")
    raise ReadError(f"{sources[0].root}: none of {len(sources):,} sources: {reasons[0]}")


def _check_top(top: Loaded[TopModel], skip: int) -> None:
    """Refuse a top model that only makes clips too short to be judged after `skip` frames.

    Raises:
        UsageError: it is one.
    """
    fixed = top.model.fixed_frames
    if fixed is not None and skip and fixed < skip + CLIP_FRAMES:
        raise UsageError(
            f"--skip {skip}: {top.directory} makes clips of {fixed} frames, expected "
            f"{fixed - CLIP_FRAMES} or less"
        )
    if fixed is not None and fixed < CLIP_FRAMES:
        raise UsageError(
            f"--top-model {top.directory}: it makes clips of {fixed} frames, expected "
            f"{CLIP_FRAMES} or more; train-top --window {CLIP_FRAMES}"
        )
