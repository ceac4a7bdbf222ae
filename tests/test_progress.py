"""Progress: plain lines where nobody watches, a bar on a terminal, nothing when quiet."""

from __future__ import annotations

import io

import pytest

from ldf_video import progress as room
from ldf_video.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the test sets."""
    now = [0.0]
    monkeypatch.setattr(room.time, "monotonic", lambda: now[0])
    return now


def test_plain_lines_come_every_few_seconds_with_rate_and_time_left(clock: list[float]) -> None:
    stream = io.StringIO()
    with Progress("encode", unit="frames", total=4000, stream=stream) as progress:
        for second in range(13):
            clock[0] = float(second)
            progress.update(second * 100)
    assert stream.getvalue().splitlines() == [
        "encode: 600/4,000 frames, 100.0/s, 0:34 left",
        "encode: 1,200/4,000 frames, 100.0/s, 0:28 left",
    ]


def test_a_resumed_rate_counts_from_where_it_started(clock: list[float]) -> None:
    stream = io.StringIO()
    progress = Progress("train", unit="steps", stream=stream)
    progress.update(1000, share=0.5)
    clock[0] = 10.0
    progress.update(1020, share=0.75, note="loss 0.1")
    assert stream.getvalue() == "train: 1,020 steps, 2.0/s, 0:10 left  loss 0.1\n"


def test_quiet_says_nothing(clock: list[float]) -> None:
    stream = Terminal()
    with Progress("encode", unit="frames", quiet=True, stream=stream) as progress:
        progress.say("hello")
        clock[0] = 100.0
        progress.update(5)
    assert stream.getvalue() == ""


def test_lines_are_said_at_once() -> None:
    stream = io.StringIO()
    Progress("encode", unit="frames", stream=stream).say("hello")
    assert stream.getvalue() == "hello\n"


def test_a_terminal_gets_a_bar_and_whole_lines(clock: list[float]) -> None:
    stream = Terminal()
    with Progress("encode", unit="frames", total=10, stream=stream) as progress:
        progress.update(0)
        clock[0] = 1.0
        progress.update(5)
        progress.say("hello")
    shown = stream.getvalue()
    assert "5/10 frames, 5.0/s, 0:01 left" in shown
    assert "hello\n" in shown
    assert "\r" in shown


def test_work_that_has_not_begun_draws_no_bar() -> None:
    stream = Terminal()
    with Progress("encode", unit="frames", stream=stream) as progress:
        progress.say("hello")
    assert stream.getvalue() == "hello\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3661, "1:01:01")]
)
def test_clock(seconds: float, text: str) -> None:
    assert room._clock(seconds) == text
