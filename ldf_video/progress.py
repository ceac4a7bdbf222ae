"""Progress of long work: a bar on a terminal, plain lines every few seconds elsewhere.

Errors of the stream (a closed pipe, a dead terminal, a full disk under the log, no stream at all)
are ignored: reporting never fails the work.
"""

from __future__ import annotations

import os
import re
import sys
import time
from contextlib import suppress
from typing import Any, Self, TextIO

from tqdm import tqdm

PLAIN_LINE_SECONDS = 5.0
SLOWEST_RATE = 0.1
"""A second; below it seconds are said, of each."""
USUAL_WIDTH = 80
"""Columns of a terminal that does not know its width."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # names of files may hold such characters


class _Stream:
    """A stream that never fails."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.encoding = getattr(stream, "encoding", None)  # which tqdm draws by

    def _ask(self, method: str, *arguments: Any) -> Any:
        with suppress(OSError, ValueError, AttributeError):  # ValueError: it is closed
            return getattr(self._stream, method)(*arguments)

    def write(self, text: str) -> None:
        self._ask("write", text)

    def flush(self) -> None:
        self._ask("flush")

    def isatty(self) -> bool:
        return bool(self._ask("isatty"))

    def write_at_once(self, text: str) -> None:
        """Past Python's buffers, which are not to be entered twice."""
        with suppress(OSError, TypeError):
            os.write(self._ask("fileno"), text.encode())

    def width(self) -> int:
        """Columns of the terminal."""
        with suppress(OSError, TypeError):
            return os.get_terminal_size(self._ask("fileno")).columns or USUAL_WIDTH
        return USUAL_WIDTH

    def __eq__(self, other: object) -> bool:
        """Whether both write to one stream: inner work must not disturb the outer bar."""
        return isinstance(other, _Stream) and other._stream is self._stream

    def __hash__(self) -> int:
        return id(self._stream)


class Progress:
    """Reports how far some work is, with its rate and the remaining time.

    Args:
        name: of the work.
        unit: of what is counted, in the plural.
        total: how many there will be; None where that is not known or `share` is given.
        quiet: report nothing.
        stream: to write to; standard error by default, so that output stays clean.
    """

    def __init__(
        self,
        name: str,
        *,
        unit: str,
        total: int | None = None,
        quiet: bool = False,
        stream: TextIO | None = None,
    ) -> None:
        self.name, self.unit, self.total, self.quiet = name, unit, total, quiet
        self._stream = _Stream(stream or sys.stderr)
        self._started = self._reported = time.monotonic()
        self._first: int | None = None
        self._first_share = 0.0
        self._count = 0
        self._note = ""
        self._bar: tqdm | None = None
        self._draws_bar = not quiet and self._stream.isatty()

    def update(self, count: int, *, share: float | None = None, note: str = "") -> None:
        """Report that `count` are done, `share` in [0, 1] of all; at most one line every 5 s."""
        if share is None:
            share = count / self.total if self.total else 0.0
        if self._first is None:
            self._first, self._first_share = count, share
            self._started = time.monotonic()
        self._count, self._note = count, note or self._note
        if self.quiet:
            return
        now = time.monotonic()
        if self._draws_bar and self._bar is None:
            # Only now: work within this work may draw its own bar.
            self._bar = tqdm(
                total=1.0,
                file=self._stream,
                ncols=self._stream.width(),
                bar_format="{desc} {bar} {postfix}",
            )
        if self._bar is not None:
            if now - self._reported > 0.1:
                self._bar.ncols = self._stream.width()
                self._bar.n = min(share, 1.0)
                self._bar.set_description_str(self.name, refresh=False)
                self._bar.set_postfix_str(self._line(share), refresh=True)
                self._reported = now
        elif now - self._reported > PLAIN_LINE_SECONDS:
            self._print(f"{self.name}: {self._line(share)}")
            self._reported = now

    def add(self, count: int) -> None:
        """Report that `count` more are done."""
        self.update(self._count + count)

    def say(self, text: str) -> None:
        """Print a line without disturbing the bar; what would end it or steer a terminal shows."""
        if self.quiet:
            return
        text = _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            self._print(text)

    def say_at_once(self, text: str) -> None:
        """Print a plain line from the handler of a signal."""
        if not self.quiet:
            below_bar = "" if self._bar is None else "\n"
            self._stream.write_at_once(f"{below_bar}{text}\n")

    def _print(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()

    def _line(self, share: float) -> str:
        seconds = max(time.monotonic() - self._started, 1e-9)
        rate = (self._count - (self._first or 0)) / seconds
        done = f"{self._count:,}" + (f"/{self.total:,}" if self.total else "")
        line = f"{done} {self.unit}"
        if rate >= SLOWEST_RATE:
            line += f", {rate:,.1f}/s"
        elif rate > 0:
            line += f", {1 / rate:,.0f} s a {self.unit.removesuffix('s')}"
        gained = share - self._first_share
        if gained > 0 and share <= 1:
            line += f", {_clock(seconds * (1 - share) / gained)} left"
        return f"{line}  {self._note}".rstrip()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        if self._bar is not None:
            self._bar.close()


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
