"""What frames must look like: size, crop and rate, and the part of a source that this takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, NamedTuple

from ldf_video.errors import UsageError
from ldf_video.options.option import Crop

SQUARE = Fraction(1)
"""The sample aspect ratio of ordinary pixels: as wide as they are high."""

MAX_SIDE = 4096


class Box(NamedTuple):
    """A part of a frame in whole pixels; rows [top, top + height), columns [left, left + width)."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Geometry:
    """The shape and rate that every frame of every clip is brought to.

    Attributes:
        height: rows of a frame, in [1, 4096].
        width: columns of a frame, in [1, 4096].
        crop: "centre" takes the largest centred part of the target's aspect, as the source shows
            it, "none" squeezes the whole.
        fps: frames a second after resampling in time; None keeps every frame at the source's rate.

    Raises:
        UsageError: if a field is out of range.
    """

    height: int
    width: int
    crop: Crop = "centre"
    fps: Fraction | None = None

    def __post_init__(self) -> None:
        if not (1 <= self.height <= MAX_SIDE and 1 <= self.width <= MAX_SIDE):
            raise UsageError(
                f"got a frame size of {self.height}x{self.width}, expected sides from 1 to "
                f"{MAX_SIDE}; give a size in that range"
            )
        if self.crop not in ("centre", "none"):
            raise UsageError(f"got crop {self.crop!r}, expected centre or none; give one of them")
        if self.fps is not None and self.fps <= 0:
            raise UsageError(
                f"got {self.fps} frames a second, expected more than 0; give a positive rate"
            )

    def settings(self) -> dict[str, object]:
        """Returns all that changes pixels or times, ready for JSON and so for fingerprints."""
        fps = None if self.fps is None else f"{self.fps.numerator}/{self.fps.denominator}"
        size = {"height": self.height, "width": self.width}
        return {**size, "crop": self.crop, "filter": "area", "fps": fps}

    def box(self, height: int, width: int, *, sample_aspect_ratio: Fraction = SQUARE) -> Box:
        """Returns the part of a source frame (upright, in pixels) that becomes the whole target.

        The largest centred part of the target's shape, as it is shown. Sides round to the nearest
        pixel and stay in [1, source side]; an odd margin leaves its larger half below and right.
        """
        if self.crop == "none":
            return Box(0, 0, height, width)
        rows = self.height * sample_aspect_ratio.numerator
        columns = self.width * sample_aspect_ratio.denominator
        box_height = min(height, max(1, _rounded_ratio(width * rows, columns)))
        box_width = min(width, max(1, _rounded_ratio(height * columns, rows)))
        return Box((height - box_height) // 2, (width - box_width) // 2, box_height, box_width)

    def whole_size(self, height: int, width: int, *, box: Box) -> tuple[int, int] | None:
        """Returns rows and columns of a whole source frame where its box has the target's size.

        None where the box has fewer pixels than the target: frames are enlarged, and cut before.
        """
        if box.height * box.width < self.height * self.width:
            return None
        return (
            max(self.height, _rounded_ratio(height * self.height, box.height)),
            max(self.width, _rounded_ratio(width * self.width, box.width)),
        )


def make_geometry(*, size: str | int, fps: str | float | None, crop: Crop | None) -> Geometry:
    """The geometry of the values of `--size`, `--fps` and `--crop`."""
    return with_options(Geometry(*parse_size(size)), fps=fps, crop=crop)


def with_options(geometry: Geometry, *, fps: str | float | None, crop: Crop | None) -> Geometry:
    """A geometry with the values of `--fps` and `--crop` where they are given."""
    return replace(
        geometry,
        fps=geometry.fps if fps is None else Fraction(fps),
        crop=geometry.crop if crop is None else crop,
    )


def parse_size(size: str | int) -> tuple[int, int]:
    """The value of `--size`, `64x32` (width x height) -> (height, width)."""
    width, height = str(size).split("x")
    return int(height), int(width)


def geometry_of(config: dict[str, Any]) -> Geometry:
    """The geometry that a frame model's config names."""
    known = config["frames"]
    fps = None if known["fps"] is None else Fraction(known["fps"])
    return Geometry(known["height"], known["width"], crop=known["crop"], fps=fps)


def _rounded_ratio(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)
