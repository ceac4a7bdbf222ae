"""What frames are brought to: between options, configs and the video room's geometry."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

from ldf_video import options
from ldf_video.errors import UsageError
from ldf_video.video.geometry import Geometry


def make_geometry(*, size: str | int, fps: str | float | None, crop: str | None) -> Geometry:
    """The geometry of `--size`, `--fps` and `--crop`.

    Raises:
        UsageError: one of them means nothing.
    """
    height, width = parse_size(size)
    try:
        geometry = Geometry(height, width)
    except ValueError as error:
        raise UsageError(f"--size {size}: {error}") from None
    return with_options(geometry, fps=fps, crop=crop)


def with_options(geometry: Geometry, *, fps: str | float | None, crop: str | None) -> Geometry:
    """A geometry with `--fps` and `--crop` put in where they are given."""
    if crop is not None:
        if crop not in ("centre", "none"):
            raise UsageError(f"--crop {crop}: expected centre or none")
        geometry = replace(geometry, crop=crop)  # type: ignore[arg-type]
    return geometry if fps is None else replace(geometry, fps=parse_fps(fps))


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


def parse_size(asked: str | int) -> tuple[int, int]:
    """`64` or `64x32` (width x height) -> (height, width).

    Raises:
        UsageError: it is neither.
    """
    width, height = options.size("--size", asked).split("x")
    return int(height), int(width)


def parse_fps(asked: str | float) -> Fraction:
    """`15`, `29.97` or `30000/1001` frames a second -> a fraction.

    Raises:
        UsageError: it is none of these, or not positive.
    """
    return Fraction(options.rate("--fps", asked))
