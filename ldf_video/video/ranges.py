"""Times of a film, and the range of it that is a clip."""

from __future__ import annotations

from fractions import Fraction


def clock(seconds: Fraction | float) -> str:
    """Seconds as people write them, to the millisecond: `0:07.25`, `1:02:03`."""
    thousandths = round(seconds * 1000)
    minutes, rest = divmod(thousandths, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 1000:06.3f}".rstrip("0").rstrip(".")
    return f"{hours}:{minutes:02}:{text}" if hours else f"{minutes}:{text}"
