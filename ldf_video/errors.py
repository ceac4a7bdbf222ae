"""Errors that a user can act on: one line with what was got, what was expected, what to do.

And how a line counts things, and what it takes from an error of others.
"""

from __future__ import annotations

from typing import Any


class LdfError(Exception):
    """Base of all errors raised on purpose; the command line prints it and exits 1.

    Attributes:
        reported_elsewhere: whether another process, launched together with this one, prints it.
    """

    reported_elsewhere = False


class UsageError(LdfError):
    """The options or arguments cannot mean anything; the command line exits 2."""


class ReadError(LdfError):
    """A source cannot be read; its message is the reason that goes into the quarantine."""


class TruncatedError(ReadError):
    """A source is not whole: all of its frames that can be read have been given before."""


class OutputError(LdfError):
    """The work is done and cannot be written.

    Attributes:
        result: what it gave, which is not lost.
    """

    def __init__(self, message: str, result: Any) -> None:
        super().__init__(message)
        self.result = result


class StoreError(LdfError):
    """A store is damaged, locked, of another format, or made by other settings."""


class CheckpointError(LdfError):
    """A checkpoint is missing, damaged, or belongs to other settings."""


class WriteError(LdfError):
    """A file cannot be written; what was there before is kept."""


def counted(number: float, unit: str) -> str:
    """`1 clip`, `2,000 clips`, `0.5 minutes`."""
    shown = f"{number:g}" if isinstance(number, float) else f"{number:,}"
    return f"{shown} {unit}" + ("" if number == 1 else "s")


def reason_of(error: Exception) -> str:
    """Returns the first line of what an error says, for one that may say nothing."""
    said = str(getattr(error, "strerror", None) or error).strip() or type(error).__name__
    return said.splitlines()[0]
