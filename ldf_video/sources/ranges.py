"""The range of a file that is a clip: a row of a table of clips, in seconds of what is shown."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from ldf_video.errors import ReadError, TruncatedError
from ldf_video.video.timing import TOLERANCE_SECONDS, resample_timed, shown_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import av

_TIME = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:[.,]\d{1,6})?)", re.ASCII)
_MOST_SECONDS = 10**7
_T = TypeVar("_T")
_Timed: TypeAlias = "tuple[av.VideoFrame, Fraction]"


@dataclass(frozen=True, slots=True)
class Range:
    """From when to when a file is read, from the start of its first frame on.

    Attributes:
        start: in seconds, 0 or more.
        end: in seconds, above `start`; None for the end of the file.
        fps: frames a second at which it is read, None as everything else is.
        label: what the user calls it; changes no frame.
        problem: why nothing can be read, "" if it can.
    """

    start: Fraction = Fraction(0)
    end: Fraction | None = None
    fps: Fraction | None = None
    label: str = ""
    problem: str = ""

    @property
    def suffix(self) -> str:
        """What tells it from other ranges of the file: `@12.5-30`, `@12.5-30/15`; "" if whole."""
        end = "" if self.end is None else _decimal(self.end)
        rate = "" if self.fps is None else f"/{self.fps.numerator}"
        if self.fps is not None and self.fps.denominator > 1:
            rate += f":{self.fps.denominator}"
        times = f"{_decimal(self.start)}-{end}" if self.start or end else ""
        return f"@{times}{rate}" if times or rate else ""

    def to_json(self) -> list[Any]:
        """Returns plain values of which `from_json` makes the same range."""
        times = (None if value is None else str(value) for value in (self.end, self.fps))
        return [str(self.start), *times, self.label, self.problem]

    @classmethod
    def from_json(cls, values: list[Any]) -> Range:
        start, end, fps, label, problem = values
        end, fps = (None if value is None else Fraction(value) for value in (end, fps))
        return cls(Fraction(start), end, fps, label, problem)

    def of_timed(
        self,
        timed: Iterable[_Timed],
        *,
        native_fps: Fraction,
        fps: Fraction | None,
    ) -> Iterator[av.VideoFrame]:
        """Yields the frames of the range, of frames and the seconds when they start.

        Without `fps` they are those that start in it, or the one that shows all the time. With it
        they are those that show at its start, 1 / fps later, and so on.

        Raises:
            ReadError: the file ends before the range.
            TruncatedError: after all frames, if the file ends within it.
        """
        pairs = self._around(timed, native_fps)
        length = None if self.end is None else self.end - self.start
        if fps is None:
            return self._begun_within(pairs, length)
        return resample_timed(pairs, native_fps=native_fps, fps=fps, end=length)

    def _around(self, timed: Iterable[_Timed], native_fps: Fraction) -> Iterator[_Timed]:
        """Yields frames with their starts from the range's on: one before it to one behind."""
        before: _Timed | None = None
        until = Fraction(0)
        for frame, start in timed:
            until = start + shown_seconds(frame, native_fps=native_fps)
            if start < self.start - TOLERANCE_SECONDS:
                before = frame, start - self.start
                continue
            if before is not None:
                yield before
                before = None
            yield frame, max(start - self.start, Fraction(0))
            if self.end is not None and start >= self.end - TOLERANCE_SECONDS:
                return
        if until <= self.start + TOLERANCE_SECONDS:
            raise ReadError(f"its start {clock(self.start)} is past the end, {clock(until)}")
        if before is not None:
            yield before
        if self.end is not None and self.end > until + 1 / native_fps + TOLERANCE_SECONDS:
            raise TruncatedError(f"the file ends at {clock(until)}, the range at {clock(self.end)}")

    @staticmethod
    def _begun_within(pairs: Iterable[_Timed], length: Fraction | None) -> Iterator[av.VideoFrame]:
        """Yields the frames that start in the range; the one before it where there are none."""
        before: av.VideoFrame | None = None
        num_frames = 0
        for frame, start in pairs:
            if start < 0:
                before = frame
            elif length is None or start < length - TOLERANCE_SECONDS:
                num_frames += 1
                yield frame
        if not num_frames and before is not None:
            yield before

    def numbers(self, fps: Fraction) -> tuple[int, int | None]:
        """First frame and end, half-open, of frames that carry no times but play at a rate."""
        first = _ceil((self.start - TOLERANCE_SECONDS) * fps)
        end = None if self.end is None else _ceil((self.end - TOLERANCE_SECONDS) * fps)
        return max(first, 0), end

    def of_untimed(self, frames: Iterable[_T], *, fps: Fraction) -> Iterator[_T]:
        """Yields frames, which begin with the first of the range, up to its end.

        Raises:
            ReadError: there is none.
            TruncatedError: after all frames, if the file ends within it.
        """
        first, end = self.numbers(fps)
        number = first
        for frame in frames:
            if number == end:
                return
            yield frame
            number += 1
        if number == first:
            raise ReadError(f"its start {clock(self.start)} is past the end")
        if end is not None and number < end - 1:
            ends = clock(number / fps)
            raise TruncatedError(f"the file ends at {ends}, the range at {clock(self.end or 0)}")


def parse_seconds(text: str) -> Fraction:
    """Returns the seconds that are written as `75.5`, `1:15.5` or `0:01:15.5`.

    Raises:
        ValueError: it is no time.
    """
    found = _TIME.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no time: expected seconds or h:mm:ss, such as 75.5 or 1:15")
    hours, minutes, seconds = found[1], found[2], Fraction(found[3].replace(",", "."))
    if (minutes and seconds >= 60) or (hours and int(minutes) >= 60):
        raise ValueError(f"{text!r} is no time: more than 59 minutes or seconds behind a colon")
    total = 3600 * int(hours or 0) + 60 * int(minutes or 0) + seconds
    if total > _MOST_SECONDS:
        raise ValueError(f"{text!r} is no time of a video")
    return total


def clock(seconds: Fraction | float) -> str:
    """Seconds as people write them, to the millisecond: `0:07.25`, `1:02:03`."""
    thousandths = round(seconds * 1000)
    minutes, rest = divmod(thousandths, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 1000:06.3f}".rstrip("0").rstrip(".")
    return f"{hours}:{minutes:02}:{text}" if hours else f"{minutes}:{text}"


def _decimal(seconds: Fraction) -> str:
    text = f"{Decimal(seconds.numerator) / Decimal(seconds.denominator):.6f}"
    return text.rstrip("0").rstrip(".")


def _ceil(value: Fraction) -> int:
    return -(-value.numerator // value.denominator)
