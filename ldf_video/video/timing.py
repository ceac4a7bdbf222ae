"""When frames show, and the same motion at another rate."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from ldf_video.errors import TruncatedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import av

# Matroska and FLV round times to a millisecond: half of one must not cost or repeat a frame.
TOLERANCE_SECONDS = Fraction(1, 2000)
# A longer gap is a broken clock, not a still picture; following it would repeat one frame for
# hours.
MAX_GAP_SECONDS = Fraction(600)


class Clock:
    """Start times of successive frames in seconds, the first at 0, always increasing.

    Times are the container's (pts). Where one is missing, does not advance, or leaps ahead by more
    than ten minutes, the frame comes one nominal step after its predecessor, and later times move
    with it.
    """

    def __init__(self, native_fps: Fraction) -> None:
        self._step = 1 / native_fps
        self._offset = Fraction(0)
        self._last: Fraction | None = None

    def start(self, frame: av.VideoFrame) -> Fraction:
        """Returns when `frame` starts, in seconds; call once a frame, in order."""
        expected = Fraction(0) if self._last is None else self._last + self._step
        start = expected
        if frame.pts is not None and frame.time_base is not None:
            raw = frame.pts * frame.time_base
            start = raw + self._offset
            advances = self._last is not None and 0 < start - self._last <= MAX_GAP_SECONDS
            if not advances:
                self._offset, start = expected - raw, expected
        self._last = start
        return start

    def length(self, frame: av.VideoFrame) -> Fraction:
        """Returns how long a last frame shows, in seconds: as its file says, else a step.

        Less than half a step is FFmpeg's guess where a file says nothing.
        """
        if frame.duration and frame.time_base is not None:
            seconds = min(frame.duration * frame.time_base, MAX_GAP_SECONDS)
            return seconds if seconds >= self._step / 2 else self._step
        return self._step


def resample(
    frames: Iterable[av.VideoFrame], *, native_fps: Fraction, fps: Fraction
) -> Iterator[av.VideoFrame]:
    """Yields for output k the last frame that starts at or before k / fps seconds.

    A frame is yielded again (the same object) while it is held, and not at all when the next one
    starts before an output is due. A single frame is a still picture and comes once.

    Args:
        frames: decoded frames in order of display.
        native_fps: nominal rate, for frames without a time of their own.
        fps: rate of the outputs.

    Raises:
        TruncatedError: passed on from `frames`, after what was held has been given.
    """
    clock = Clock(native_fps)
    held: av.VideoFrame | None = None
    num_inputs = num_outputs = 0
    damage: TruncatedError | None = None
    end = Fraction(0)
    source = iter(frames)
    while True:
        try:
            frame = next(source, None)
        except TruncatedError as error:
            damage, frame = error, None
        if frame is None:
            break
        start = clock.start(frame)
        while held is not None and num_outputs / fps < start - TOLERANCE_SECONDS:
            yield held
            num_outputs += 1
        held, end = frame, start + clock.length(frame)
        num_inputs += 1
    if held is not None and num_inputs == 1:
        yield held
    while num_inputs > 1 and held is not None and num_outputs / fps < end - TOLERANCE_SECONDS:
        yield held
        num_outputs += 1
    if damage is not None:
        raise damage
