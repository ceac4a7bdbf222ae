from __future__ import annotations

import itertools
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import pytest
from clip_files import at_rate, barcodes, numbers_of, write_clip, write_with_times

from ldf_video.errors import ReadError, TruncatedError
from ldf_video.video.timing import resample, timed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

RATE = Fraction(10)


def _frame(pts: int | None, *, dts: int | None = None, duration: int = 0) -> av.VideoFrame:
    frame = av.VideoFrame(2, 2, "rgb24")
    frame.pts, frame.dts, frame.time_base, frame.duration = pts, dts, Fraction(1, 100), duration
    return frame


def _starts(times: Sequence[int | None], dts: Sequence[int | None] = ()) -> list[Fraction]:
    frames = [_frame(p, dts=d) for p, d in itertools.zip_longest(times, dts)]
    return [100 * start for _, start in timed(frames, native_fps=RATE)]


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
        ([0, 10, 10, 30, 40], [0, 10, 20, 30, 40]),  # doubled
        ([0, 10, 10, 20, 30], [0, 10, 15, 20, 30]),  # one too many
        ([0, 10, 10, 10, 40, 50], [0, 10, 20, 30, 40, 50]),
        ([0, 10, 5, 30, 40], [0, 10, 20, 30, 40]),  # a step back
        ([0, 10, 0, 30, 40], [0, 10, 20, 30, 40]),
        ([0, 10, 9_000, 30, 40], [0, 10, 20, 30, 40]),  # one wild
        ([0, 10, 9_000, 9_010, 40, 50], [0, 10, 20, 30, 40, 50]),
        ([0, 10, -9_000, 30, 40], [0, 10, 20, 30, 40]),
        ([0, 10, 20, 9_000], [0, 10, 20, 9_000]),
        ([0, 10, 9_000, 30], [0, 10, 20, 30]),
        ([0, 10, 300, 295, 310], [0, 10, 300, 305, 310]),  # a leap, and then one back
        ([0, 10, 300, 0, 10, 20], [0, 10, 300, 310, 320, 330]),
        ([0, 10, 20, 30, 0, 10, 20, 30], [0, 10, 20, 30, 40, 50, 60, 70]),
        ([0, 10, 2**33, 2**33 + 10, 0, 10], [0, 10, 20, 30, 40, 50]),
        ([0, *[10] * 20, 210, 220], list(range(0, 230, 10))),  # a clock that stood still
        ([0, *[100] * 10, 110, 120], list(range(0, 130, 10))),  # frames that came late, at once
    ],
)
def test_times_start_at_zero_and_always_advance(
    times: list[int | None], expected: list[int]
) -> None:
    assert _starts(times) == expected


@pytest.mark.parametrize(
    ("frames", "shown"),
    [
        ([_frame(0), _frame(10, duration=40)], [0, 1, 1, 1, 1]),  # the last as long as it says
        ([_frame(0), _frame(3), _frame(6), _frame(20)], [0, 2, 3]),
        ([], []),
    ],
)
def test_frames_are_held_or_left_out_by_time(frames: list[av.VideoFrame], shown: list[int]) -> None:
    outputs = resample(frames, native_fps=RATE, fps=Fraction(10))
    assert [frames.index(frame) for frame in outputs] == shown


@pytest.mark.parametrize(
    "order",
    [
        [0, 3, 2, 4, 1, 7, 6, 8, 5, 9],  # three B-frames, one of them a reference
        [0, 2, 1, 4, 3, 6, 5, 7],
        [0, 2, 3, 1, 5, 6, 4, 7],
        [0, 4, 3, 5, 2, 7, 6, 8, 1, 9],
        [1, 0, 3, 2, 5, 4, 6],
    ],
)
def test_times_in_the_order_of_decoding_give_way_to_those_of_coming_out(order: list[int]) -> None:
    count = len(order)
    dts = [10 * k + 20 for k in range(count - 2)]
    expected = [10 * k for k in range(count)]
    assert _starts([10 * k for k in order], [*dts, None, None]) == expected
    outputs = _starts([10 * k for k in order])  # where nothing else is known
    assert all(before < after for before, after in itertools.pairwise(outputs))
    assert outputs[-1] <= 20 * count


def test_few_frames_are_decoded_ahead_and_none_where_times_are_even() -> None:
    given: list[int] = []

    def frames(times: Sequence[int]) -> Iterator[av.VideoFrame]:
        for time in times:
            given.append(time)
            yield _frame(time)

    even = timed(frames(range(0, 1000, 10)), native_fps=RATE)
    for count, _ in enumerate(even, start=1):
        assert len(given) == count
    given.clear()
    uneven = timed(frames([k * k for k in range(100)]), native_fps=RATE)
    for count, _ in enumerate(uneven, start=1):
        assert len(given) <= count + 8


@pytest.mark.parametrize("error", [TruncatedError("cut"), ReadError("the network is gone")])
def test_an_error_that_is_met_ahead_comes_in_its_turn(error: ReadError) -> None:
    def frames() -> Iterator[av.VideoFrame]:
        yield from (_frame(0), _frame(100), _frame(300))
        raise error

    starts: list[Fraction] = []
    with pytest.raises(type(error)):
        starts.extend(100 * start for _, start in timed(frames(), native_fps=RATE))
    assert starts == [0, 100, 300]


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"bf": "3"}),
        ("libx264", {"bf": "2", "b-pyramid": "none"}),
        ("mpeg4", {"bf": "2"}),
        ("mpeg4", {}),
        ("mpeg2video", {"bf": "2"}),
        ("mjpeg", {}),
    ],
)
@pytest.mark.parametrize("size", [1, 6])  # 384 x 288 pixels are decoded by several threads
def test_avi_has_no_times_and_all_frames(
    tmp_path: Path, codec: str, options: dict[str, str], size: int
) -> None:
    images = barcodes(range(30), height=48 * size, width=64 * size)
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = write_clip(
        tmp_path / "a.avi", images, codec=codec, pix_fmt=pix_fmt, codec_options=options
    )
    assert numbers_of(path, at_rate(25)) == list(range(30))
    assert numbers_of(path, at_rate(50)) == [k // 2 for k in range(60)]


def test_matroska_with_times_in_the_order_of_decoding(tmp_path: Path) -> None:
    path = write_with_times(tmp_path / "a.mkv", barcodes(range(60)), range(60), bf="3")
    assert numbers_of(path, at_rate(25)) == list(range(60))
    assert numbers_of(path, at_rate(5)) == list(range(0, 60, 5))


@pytest.mark.parametrize(
    "hiccups",
    [
        {k: k - 1 for k in range(9, 200, 10)},  # doubled
        {k: k - 3 for k in range(9, 200, 10)},  # steps back
        {100: 3000},
        {100: 3000, 101: 3001},
        {100: 0},
        {50: 52, 51: 51, 52: 50},
    ],
)
def test_a_hiccup_costs_no_other_frame_its_time(hiccups: dict[int, int]) -> None:
    frames = [_frame(4 * hiccups.get(k, k)) for k in range(200)]
    for fps, step in ((25, 1), (5, 5)):
        outputs = resample(frames, native_fps=Fraction(25), fps=Fraction(fps))
        numbers = [frames.index(frame) for frame in outputs]
        assert len(numbers) == 200 // step
        wrong = {step * k for k, number in enumerate(numbers) if number != step * k}
        assert wrong <= set(hiccups)


@pytest.mark.parametrize("start", [2**33 // 3600 - 20, 2**33 // 3600 - 1])  # of 90,000 a second
def test_a_clock_of_mpeg_that_starts_again_costs_nothing(tmp_path: Path, start: int) -> None:
    path = write_clip(tmp_path / "a.ts", barcodes(range(60)), pts=range(start, start + 60))
    assert numbers_of(path, at_rate(25)) == list(range(60))
    assert numbers_of(path, at_rate(5)) == list(range(0, 60, 5))
