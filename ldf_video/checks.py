"""Checks of single values: from what a user gives to what a command gets, or an error.

A check takes an option as users write it and its value. It returns the value in its one form: whole
numbers as int, others as float, sizes as `WxH`, frame rates as fractions.
"""

from __future__ import annotations

import contextlib
import errno
import math
import numbers
import os
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

from ldf_video.errors import UsageError

Check = Callable[[str, Any], Any]

_PART = r"[A-Za-z0-9][\w.-]*"
"""Of a repository's name: its user, or what that one called it."""

LARGEST, MOST, WIDEST = 2**63 - 1, 2**31 - 1, 2**16
"""Limits of whole numbers: of any, of what is held at once, of what is multiplied by itself."""
SLOWEST, FASTEST = Fraction(1, 1000), 10_000
"""Limits of frame rates; FFmpeg writes no slower video."""


def wrong(option: str, value: object, expected: str) -> UsageError:
    """The error of a value that means nothing."""
    shown: object = value if isinstance(value, str | bool | numbers.Number) else repr(value)
    if isinstance(value, float) and value.is_integer():  # 0 was typed, and not 0.0
        shown = int(value)
    return UsageError(f"{option} {shown}: expected {expected}")


def is_number(value: Any) -> bool:
    """Whether a value is a real number, also one of numpy's; True and False are none."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def integer(least: int, most: int = LARGEST, *, multiple_of: int = 1) -> Check:
    """A whole number from `least` to `most`: an int, one of numpy's, or a float that is whole."""

    def check(option: str, value: Any) -> int:
        expected = f"{least} or more"
        if not is_number(value):
            raise wrong(option, repr(value), f"{expected}, a whole number")
        if value > most:
            raise wrong(option, value, f"{expected}, at most {most:,}")
        if not value >= least or int(value) != value:
            raise wrong(option, value, expected + (", a whole number" if value > least else ""))
        if value % multiple_of:
            raise wrong(option, value, f"a multiple of {multiple_of}")
        return int(value)

    return check


def number(expected: str, holds: Callable[[float], bool]) -> Check:
    """A finite number, whole or not, for which a condition holds."""

    def check(option: str, value: Any) -> float:
        if not is_number(value):
            raise wrong(option, repr(value), f"{expected}, a number")
        given = math.inf
        with contextlib.suppress(OverflowError):
            given = float(value)
        if math.isfinite(given) and holds(given):
            return given
        raise wrong(option, value, expected)

    return check


def pairs(option: str, value: Any) -> tuple[str, ...]:
    """Texts of the form `NAME=VALUE`: one, several, or a mapping from names to values."""
    if isinstance(value, Mapping):
        value = [f"{name}={of_name}" for name, of_name in value.items()]
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list | tuple):
        raise wrong(option, value, "NAME=VALUE")
    for pair in listed:
        name, sign, of_name = pair.partition("=") if isinstance(pair, str) else ("", "", "")
        if not (name.strip() and sign and of_name.strip()):
            raise wrong(option, pair, "NAME=VALUE, such as left=1 or action=left")
    return tuple(listed)


def one_of(choices: Any) -> Check:
    """One of a Literal's strings."""
    *others, last = get_args(choices)

    def check(option: str, value: Any) -> str:
        if isinstance(value, str) and value in (*others, last):
            return str(value)
        raise wrong(option, value, f"{', '.join(others)} or {last}" if others else last)

    return check


def boolean(option: str, value: Any) -> bool:
    """True or False, also numpy's."""
    if isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"):
        return bool(value)
    raise wrong(option, value, "True or False")


def place(option: str, value: Any) -> str | Path:
    """A path, a URL or a model's name; `~` is the home directory."""
    if not isinstance(value, str | bytes | os.PathLike):
        raise wrong(option, value, "a path")
    where = os.path.expanduser(os.fsdecode(value))
    if not where or "\0" in where:
        raise wrong(option, repr(where), "a path")
    try:
        os.stat(where)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG and "://" not in where:
            raise wrong(option, where, "a shorter name") from None
    return Path(where) if isinstance(value, Path) else where


def frame_size(option: str, value: Any) -> str:
    """`64`, 64 or `64x36` (width x height) -> `64x36`."""
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    parts = re.fullmatch(r"0*(\d{1,6})(?:[xX]0*(\d{1,6}))?", str(value), re.ASCII)
    if not (is_whole or isinstance(value, str)) or not parts or "0" in parts.groups():
        raise wrong(option, value, "a number or WIDTHxHEIGHT, in pixels")
    return f"{parts[1]}x{parts[2] or parts[1]}"


def rising(option: str, value: Any) -> str:
    """`1,2,4`, or whole numbers in a list -> the same as a text."""
    given = value.split(",") if isinstance(value, str) else value
    with contextlib.suppress(TypeError, ValueError):
        numbers_of = [integer(1, FASTEST)(option, int(n)) for n in given]
        if numbers_of[0] == 1 and numbers_of == sorted(set(numbers_of)):
            return ",".join(map(str, numbers_of))
    raise wrong(option, value, "1, then larger and larger whole numbers, such as 1,2,4")


def axis_letters(option: str, value: Any) -> str:
    """Letters of N, T, Y, X and C, each once, rows and columns among them -> capitals; `auto`."""
    letters = value.upper() if isinstance(value, str) else ""
    if letters == "AUTO":
        return "auto"
    if set("YX") <= set(letters) <= set("NTYXC") and len(set(letters)) == len(letters):
        return letters
    raise wrong(
        option,
        value,
        "letters, each once: N clips, T frames, Y rows, X columns, C channels, such as TNYX",
    )


def level_range(option: str, value: Any) -> str:
    """`0:4095`, the numbers of black and white -> as short as they can be written; `auto`."""
    if value == "auto":
        return "auto"
    parts = value.split(":") if isinstance(value, str) else []
    with contextlib.suppress(TypeError, ValueError):
        low, high = map(float, parts)
        if math.isfinite(low) and math.isfinite(high) and low != high:
            return f"{low:.9g}:{high:.9g}"
    raise wrong(option, value, "LOW:HIGH, the numbers that are black and white, such as 0:4095")


def action_places(option: str, value: Any) -> str:
    """Paths of arrays, with commas between, each with `@0` or `@1` or without; `off`, `auto`."""
    places = value.split(",") if isinstance(value, str) else [""]
    for place in places:
        path, at, lead = place.strip().rpartition("@")
        if not (path if at else lead) or (at and lead not in ("0", "1")):
            raise wrong(
                option,
                value,
                "paths of arrays with commas between them, such as data/*/actions, each with @0 "
                "where a row tells of its own frame, or @1 where it led to the next; off or auto",
            )
    return str(value)


def frame_rate(option: str, value: Any) -> str:
    """`15`, 29.97 or `30000/1001` frames per second -> a fraction such as `15/1`."""
    text = str(value)
    fps = Fraction(0)
    if (is_number(value) or isinstance(value, str)) and re.fullmatch(
        r"[\d./]{1,40}", text, re.ASCII
    ):
        with contextlib.suppress(ValueError, ZeroDivisionError):  # 1.2.3, or 1/0
            fps = Fraction(text).limit_denominator(100_000)
    if not SLOWEST <= fps <= FASTEST:
        limits = f", {SLOWEST} to {FASTEST:,}" if fps > 0 else ""
        raise wrong(option, value, f"a positive number such as 15 or 30000/1001{limits}")
    return f"{fps.numerator}/{fps.denominator}"


def repository(option: str, value: Any) -> str:
    """`user/name`, a repository of a model hub."""
    if isinstance(value, str) and re.fullmatch(rf"{_PART}/{_PART}", value, re.ASCII):
        return value
    raise wrong(option, value, "USER/NAME, letters, digits and any of . - _ in each")


def license_id(option: str, value: Any) -> str:
    """A licence by the name that a model hub has for it."""
    if isinstance(value, str) and re.fullmatch(r"[a-z][a-z0-9.+-]*", value, re.ASCII):
        return value
    raise wrong(option, value, "a name such as mit, apache-2.0, cc-by-4.0 or other")


def text(option: str, value: Any) -> str:
    """A string; what it means is checked by who reads it."""
    if isinstance(value, str):
        return value
    raise wrong(option, value, "text")
