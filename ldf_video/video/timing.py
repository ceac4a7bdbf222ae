"""When frames show, and the same motion at another rate."""

from __future__ import annotations

import itertools
from collections import deque
from fractions import Fraction
from typing import TYPE_CHECKING, TypeAlias

from ldf_video.errors import ReadError, TruncatedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import av

# Matroska and FLV round times to a millisecond: half of one must not cost or repeat a frame.
TOLERANCE_SECONDS = Fraction(1, 2000)
# A longer gap is a broken clock, not a still picture, which would be repeated for hours.
MAX_GAP_SECONDS = Fraction(600)
# Frames that are decoded ahead, but only where a time is not what it should be.
_AHEAD = 8
_LONG_STEP = Fraction(3, 2)
_MOST_STEPS = 64  # that are remembered
_Timed: TypeAlias = "tuple[av.VideoFrame, Fraction]"


def timed(
    frames: Iterable[av.VideoFrame], *, native_fps: Fraction
) -> Iterator[tuple[av.VideoFrame, Fraction]]:
    """Yields frames with their start times in seconds, the first at 0, always increasing.

    Times are the container's (pts). One that is missing, repeated, behind its predecessor or far
    ahead of its successors is replaced by one between its neighbours. Times in the order of
    decoding, as AVI has them for pictures that wait for others, are replaced by those at which
    frames come out of the decoder. Where times start again, or leap ahead by more than ten minutes,
    the frame comes one nominal step after its predecessor, and later times move with it. An error
    of `frames` comes after those before it.
    """
    upcoming, clock = _Upcoming(frames), _Clock(1 / native_fps)
    while (frame := upcoming.pop()) is not None:
        yield frame, clock.start(frame, upcoming)
    if upcoming.error is not None:
        raise upcoming.error


def shown_seconds(frame: av.VideoFrame, *, native_fps: Fraction) -> Fraction:
    """Returns how long the last frame shows: as its file says, else one nominal step.

    FFmpeg guesses less than half a step where a file says nothing.
    """
    if frame.duration and frame.time_base is not None:
        seconds = min(frame.duration * frame.time_base, MAX_GAP_SECONDS)
        return max(seconds, 1 / native_fps) if 2 * seconds * native_fps < 1 else seconds
    return 1 / native_fps


def resample(
    frames: Iterable[av.VideoFrame], *, native_fps: Fraction, fps: Fraction
) -> Iterator[av.VideoFrame]:
    """Yields for output k the last frame that starts at or before k / fps seconds.

    A single frame is a still picture and comes once; else as `resample_timed`.
    """
    pairs = timed(frames, native_fps=native_fps)
    first = list(itertools.islice(pairs, 1))
    try:
        second = list(itertools.islice(pairs, 1))
    except TruncatedError:
        yield from (frame for frame, _ in first)
        raise
    if not second:
        yield from (frame for frame, _ in first)
        return
    pairs = itertools.chain(first, second, pairs)
    yield from resample_timed(pairs, native_fps=native_fps, fps=fps)


def resample_timed(
    pairs: Iterable[_Timed],
    *,
    native_fps: Fraction,
    fps: Fraction,
    end: Fraction | None = None,
) -> Iterator[av.VideoFrame]:
    """Yields for output k the last frame that starts at or before k / fps seconds, until `end`.

    `pairs` are frames and when they start. A frame is yielded again (the same object) while it is
    held, and not at all when the next one starts before an output is due. A TruncatedError of
    `pairs` comes after what was held has been given.
    """
    held: av.VideoFrame | None = None
    damage: TruncatedError | None = None
    start = Fraction(0)
    latest, step = TOLERANCE_SECONDS, 1 / fps  # when a frame may start to show in the next output
    try:
        for frame, start in pairs:
            while held is not None and latest < (start if end is None else min(end, start)):
                yield held
                latest += step
            held = frame
    except TruncatedError as error:
        damage = error
    if held is not None:
        shown = start + shown_seconds(held, native_fps=native_fps)
        while latest < (shown if end is None else min(end, shown)):
            yield held
            latest += step
    if damage is not None:
        raise damage


class _Upcoming:
    """Frames, the next of which may be looked at before they are taken."""

    def __init__(self, frames: Iterable[av.VideoFrame]) -> None:
        self._frames = iter(frames)
        self._ahead: deque[av.VideoFrame] = deque()
        self.error: ReadError | None = None  # that ended the frames

    def pop(self) -> av.VideoFrame | None:
        return self._ahead.popleft() if self._ahead else self._decoded()

    def peek(self) -> Sequence[av.VideoFrame]:
        """Returns the next frames, fewer than `_AHEAD` at the end."""
        while len(self._ahead) < _AHEAD and (frame := self._decoded()) is not None:
            self._ahead.append(frame)
        return self._ahead

    def _decoded(self) -> av.VideoFrame | None:
        if self.error is None:
            try:
                return next(self._frames, None)
            except ReadError as error:
                self.error = error
        return None


class _Clock:
    """Gives each frame in turn its time, in seconds."""

    def __init__(self, step: Fraction) -> None:
        """Takes the nominal time between two frames."""
        self._step, self._long_step = step, _LONG_STEP * step
        self._offset = self._first_offset = Fraction(0)  # added to the container's times
        self._last: Fraction | None = None  # when the last frame starts
        self._last_frame: av.VideoFrame | None = None
        self._by_dts = False  # whether frames are timed by when they come out of the decoder
        # What the usual frame needs: it comes some ticks after the last, whose time is its ticks'.
        self._ticks: int | None = None
        self._base: Fraction | None = None  # of those ticks
        self._steps: dict[int, Fraction] = {}  # seconds of so many of them

    def start(self, frame: av.VideoFrame, upcoming: _Upcoming) -> Fraction:
        step, last = self._usual_step(frame), self._last
        if step is not None and last is not None:
            self._ticks = self._ticks_of(frame)
            self._last = start = last + step
        else:
            self._last = start = self._looked_at(frame, upcoming)
            self._ticks = self._ticks_of(frame) if self._time(frame) == start else None
            if frame.time_base != self._base:
                self._base, self._steps = frame.time_base, {}
        self._last_frame = frame
        return start

    def _usual_step(self, frame: av.VideoFrame) -> Fraction | None:
        """Returns by how much a frame starts after the last one, where nothing is wrong.

        To look them up spares most of the arithmetic of fractions, which is exact and slow.
        """
        ticks, before = self._ticks_of(frame), self._ticks
        if ticks is None or before is None or self._base is None or frame.time_base != self._base:
            return None
        step = self._steps.get(ticks - before)
        if step is None:
            step = (ticks - before) * self._base
            if not 0 < step <= self._long_step:
                return None
            if len(self._steps) == _MOST_STEPS:
                self._steps.clear()
            self._steps[ticks - before] = step
        return step

    def _ticks_of(self, frame: av.VideoFrame) -> int | None:
        return frame.dts if self._by_dts else frame.pts

    def _looked_at(self, frame: av.VideoFrame, upcoming: _Upcoming) -> Fraction:
        """Returns when `frame` starts, whatever is wrong with its time."""
        time, last = self._time(frame), self._last
        if last is None:
            start = Fraction(0)
            self._offset -= time or 0
            self._first_offset = self._offset
        elif time is None:
            start = last + self._step
        elif last < time <= last + self._long_step:
            start = time
        elif last < (unmoved := time - self._offset + self._first_offset) <= last + self._long_step:
            # After many frames of one time all is as it was.
            start, self._offset = unmoved, self._first_offset
        else:
            start = self._repaired(last, time, frame, upcoming)
        return start

    def _time(self, frame: av.VideoFrame) -> Fraction | None:
        seconds = _seconds(frame, self._ticks_of(frame))
        return None if seconds is None else seconds + self._offset

    def _repaired(
        self, last: Fraction, time: Fraction, frame: av.VideoFrame, upcoming: _Upcoming
    ) -> Fraction:
        """Returns the start of a frame whose time leaps ahead, or does not advance."""
        following = [then for one in upcoming.peek() if (then := self._time(one)) is not None]
        times = [time, *following]
        num_same = sum(1 for _ in itertools.takewhile(lambda then: then == time, times))
        if num_same > 1 and last < time <= last + num_same * self._long_step:  # late, all at once
            return self._between(last, time, num_same)
        odd = next((k for k in range(1, len(times)) if times[k] <= times[k - 1]), 0)
        rise_without_this = bool(following) and _rise([last, *following])
        # If two do not rise, one of them is wrong: this one, if it is far from all others.
        is_right = time > last and (
            odd == 0
            or (
                _rise(times[:odd] + times[odd + 1 :])
                and not (rise_without_this and time - times[odd] > self._long_step)
            )
        )
        if is_right:
            return self._accepted(last, time)
        if rise_without_this:
            return self._between(last, following[0], 2)
        if odd and self._switch_to_dts(last, [frame, *upcoming.peek()]):
            switched = self._time(frame)
            assert switched is not None
            return switched
        # Several are wrong, if as many fit before the first that is right; else times start again.
        right = (
            (count, then)
            for count, then in enumerate(following, 2)
            if last < then and not last < time <= then
        )
        count, then = next(right, (0, last))
        if count and 2 * (then - last) >= count * self._step:
            return self._between(last, then, count)
        return self._accepted(last, time)

    def _between(self, last: Fraction, then: Fraction, num_frames: int) -> Fraction:
        """Returns the time of the first of `num_frames` that lead to a time: at most a step on."""
        return last + min(self._step, (then - last) / num_frames)

    def _accepted(self, last: Fraction, time: Fraction) -> Fraction:
        """Returns a time, or where it cannot be, the next step, with which later times move."""
        if 0 < time - last <= MAX_GAP_SECONDS:
            return time
        self._offset += last + self._step - time
        return last + self._step

    def _switch_to_dts(self, last: Fraction, frames: Sequence[av.VideoFrame]) -> bool:
        """Goes by dts, when frames come out of the decoder, from here on if these times rise."""
        assert self._last_frame is not None
        rising: list[Fraction] = []
        for frame in (self._last_frame, *frames):
            if (time := _seconds(frame, frame.dts)) is None:
                break
            rising.append(time)
        if self._by_dts or len(rising) < 3 or not _rise(rising):
            return False
        self._by_dts, self._offset = True, last - rising[0]
        self._first_offset = self._offset
        return True


def _seconds(frame: av.VideoFrame, ticks: int | None) -> Fraction | None:
    base = frame.time_base  # made anew each time
    return None if ticks is None or base is None else ticks * base


def _rise(times: Sequence[Fraction]) -> bool:
    return all(before < after for before, after in itertools.pairwise(times))
