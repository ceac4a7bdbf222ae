from __future__ import annotations

from fractions import Fraction

import av
import pytest

from ldf_video.video.timing import Clock, resample

RATE = Fraction(10)


def _frame(pts: int | None, *, duration: int = 0) -> av.VideoFrame:
    frame = av.VideoFrame(2, 2, "rgb24")
    frame.pts, frame.time_base, frame.duration = pts, Fraction(1, 100), duration
    return frame


def _starts(times: list[int | None]) -> list[Fraction]:
    clock = Clock(RATE)
    return [100 * clock.start(_frame(pts)) for pts in times]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([50, 60, 75], [0, 10, 25]),
        ([None, None, None], [0, 10, 20]),
        ([0, None, 25], [0, 10, 25]),
        ([0, 10, 0, 10, 20], [0, 10, 20, 30, 40]),  # a stream that starts again
        ([0, 0, 0], [0, 10, 20]),
        ([0, 10, 10**9, 10**9 + 7], [0, 10, 20, 27]),
        ([0, 60_000], [0, 60_000]),  # ten minutes of one picture may be meant
    ],
)
def test_times_start_at_zero_and_always_advance(
    times: list[int | None], expected: list[int]
) -> None:
    assert _starts(times) == expected


def test_the_last_frame_shows_as_long_as_its_file_says() -> None:
    frames = [_frame(0), _frame(10, duration=40)]
    outputs = list(resample(frames, native_fps=RATE, fps=Fraction(10)))
    assert [frames.index(frame) for frame in outputs] == [0, 1, 1, 1, 1]


def test_a_frame_between_two_outputs_is_left_out() -> None:
    frames = [_frame(0), _frame(3), _frame(6), _frame(20)]
    outputs = list(resample(frames, native_fps=RATE, fps=Fraction(10)))
    assert [frames.index(frame) for frame in outputs] == [0, 2, 3]


def test_no_frame_gives_no_output() -> None:
    assert list(resample([], native_fps=RATE, fps=RATE)) == []
