"""Progress: plain lines where nobody watches, a bar on a terminal, nothing when quiet."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import sys
import termios

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
    clock[0] = 59.6
    progress.update(1149, share=0.75)
    clock[0] = 3661.0
    progress.update(2000, share=0.75)
    assert stream.getvalue().splitlines() == [
        "train: 1,020 steps, 2.0/s, 0:10 left  loss 0.1",
        "train: 1,149 steps, 2.5/s, 1:00 left  loss 0.1",
        "train: 2,000 steps, 0.3/s, 1:01:01 left  loss 0.1",
    ]


def test_what_is_slow_is_said_in_seconds_of_each(clock: list[float]) -> None:
    stream = io.StringIO()
    progress = Progress("train", unit="steps", total=9, stream=stream)
    for seconds, count in ((0.0, 0), (6.0, 0), (24.0, 1), (50.0, 5)):
        clock[0] = seconds
        progress.update(count)
    assert stream.getvalue().splitlines() == [
        "train: 0/9 steps",
        "train: 1/9 steps, 24 s a step, 3:12 left",
        "train: 5/9 steps, 0.1/s, 0:40 left",
    ]


def test_a_name_can_neither_end_a_line_nor_steer_the_terminal(clock: list[float]) -> None:
    stream = io.StringIO()
    with Progress("encode", unit="frames", quiet=False, stream=stream) as progress:
        progress.say("unreadable a\nb\x1b[31m\u202fé.mp4")
    assert stream.getvalue() == "unreadable a\\nb\\x1b[31m\u202fé.mp4\n"


def test_quiet_says_nothing(clock: list[float]) -> None:
    stream = Terminal()
    with Progress("encode", unit="frames", quiet=True, stream=stream) as progress:
        progress.say("hello")
        clock[0] = 100.0
        progress.update(5)
    assert stream.getvalue() == ""


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


class Broken(io.StringIO):
    """A stream whose other end is gone."""

    def __init__(self, error: Exception, *, is_terminal: bool) -> None:
        super().__init__()
        self.error, self.is_terminal = error, is_terminal

    def isatty(self) -> bool:
        return self.is_terminal

    def write(self, text: str) -> int:
        raise self.error

    def flush(self) -> None:
        raise self.error


FULL = OSError(28, "No space left on device")
CLOSED = io.StringIO()
CLOSED.close()
GONE = [
    None,
    CLOSED,
    *(
        Broken(error, is_terminal=is_terminal)
        for error in (BrokenPipeError(32, "Broken pipe"), OSError(5, "Input/output error"), FULL)
        for is_terminal in (False, True)
    ),
]


@pytest.mark.parametrize("stream", GONE)
def test_what_cannot_be_said_ends_no_work(
    clock: list[float], monkeypatch: pytest.MonkeyPatch, stream: io.StringIO | None
) -> None:
    """All that work says, and what works within it."""
    monkeypatch.setattr(sys, "stderr", stream)
    with Progress("encode", unit="frames", total=10) as progress:
        progress.say("begins")
        progress.say_at_once("stops")
        for second in range(20):
            clock[0] = float(second)
            progress.update(second)
            progress.say("goes on")
        with Progress("inner", unit="frames") as inner:
            inner.update(1)


def test_what_cannot_wait_is_said_unless_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    for quiet in (True, False):
        with Progress("encode", unit="frames", quiet=quiet) as progress:
            progress.say_at_once("stops")
    assert capfd.readouterr().err == "stops\n"


def test_a_log_is_gone_on_with_once_there_is_room_again(clock: list[float]) -> None:
    class Full(io.StringIO):
        is_full = False

        def write(self, text: str) -> int:
            if self.is_full:
                raise FULL
            return super().write(text)

    stream = Full()
    progress = Progress("encode", unit="frames", stream=stream)
    for line in ("one", "two", "three"):
        stream.is_full = line == "two"
        progress.say(line)
    assert stream.getvalue() == "one\nthree\n"


@pytest.mark.parametrize("columns", [0, 1, 30, 200])
def test_a_terminal_of_any_width_or_none_shows_how_far_it_is(
    clock: list[float], columns: int
) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 0, columns, 0, 0))
    with os.fdopen(theirs, "w") as stream:
        with Progress("encode", unit="frames", total=10, stream=stream) as progress:
            progress.update(0)
            clock[0] = 1.0
            progress.update(5)
            progress.say("hello")
        shown = ""
        while not shown.endswith("\r\n") or "hello" not in shown:
            shown += os.read(ours, 10_000).decode()
    os.close(ours)
    assert ("5/10 frames, 5.0/s" in shown) is (columns != 1)


def test_work_that_has_not_begun_draws_no_bar() -> None:
    stream = Terminal()
    with Progress("encode", unit="frames", stream=stream) as progress:
        progress.say("hello")
    assert stream.getvalue() == "hello\n"
