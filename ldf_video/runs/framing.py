"""What frames are brought to: between options, configs and the video room's geometry."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

from ldf_video.video.geometry import Crop, Geometry


def make_geometry(*, size: str | int, fps: str | float | None, crop: Crop | None) -> Geometry:
    """The geometry of the values of `--size`, `--fps` and `--crop`.

    Raises:
        UsageError: frames of such a size are not possible.
    """
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
    settings = config["frames"]
    fps = settings["fps"]
    return Geometry(
        settings["height"],
        settings["width"],
        crop=settings["crop"],
        fps=None if fps is None else Fraction(fps),
    )
