"""What the values of options may be, for the command line and the Python API alike.

A table of checks by an option's name, and a decorator that applies it before anything is made.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import inspect
import math
import numbers
import os
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar, get_args

from ldf_video.errors import UsageError

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "no", "bf16", "fp16"]
Preset = Literal["default", "paper"]
Kind = Literal["flow", "mlp"]
Optimizer = Literal["muon", "adam", "adam8bit"]
TrackerName = Literal["tensorboard"]
Crop = Literal["centre", "none"]
Reader = Literal["auto", "pyav", "decord"]
Engine = Literal["local", "ray"]

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Check = Callable[[str, Any], Any]
"""From an option as users write it and its value to the value as it is meant."""

LARGEST, MOST, WIDEST = 2**63 - 1, 2**31 - 1, 2**16
"""Of whole numbers; of what is held at once; of what is multiplied by itself."""
SLOWEST, FASTEST = Fraction(1, 1000), 10_000
"""Frames a second; FFmpeg writes no slower film."""
FLAGS = {"clips": "CLIPS", "path": "PATH", "num_frames": "--frames", "start_from": "--from"}
FLAGS["json_file"] = "--json"
"""Options that users write otherwise than Python has them."""
OLD_NAMES = {"output": "out", "frames": "num_frames"}
"""What parameters were called before, or are on the command line; still taken by name."""


def flag(name: str) -> str:
    """An option as users write it."""
    return FLAGS.get(name, "--" + name.replace("_", "-"))


def wrong(option: str, value: object, expected: str) -> UsageError:
    """The error of a value that means nothing."""
    shown = value if isinstance(value, str | bool | numbers.Number) else repr(value)
    return UsageError(f"{option} {shown}: expected {expected}")


def is_number(value: Any) -> bool:
    """Whether it is a number on a line, also numpy's; True and False are none."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def whole(least: int, most: int = LARGEST) -> Check:
    """A whole number from `least` to `most`: an int, numpy's, or a float that is one."""

    def check(option: str, value: Any) -> int:
        if is_number(value) and least <= value <= most and int(value) == value:
            return int(value)
        expected = f"{least} or more"
        if not is_number(value):
            raise wrong(option, repr(value), f"{expected}, a whole number")
        if value > most:
            raise wrong(option, value, f"{expected}, at most {most:,}")
        raise wrong(option, value, expected + (", a whole number" if value > least else ""))

    return check


def number(expected: str, holds: Callable[[float], bool]) -> Check:
    """A finite number, whole or not, of which something holds."""

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


def one_of(choices: Any) -> Check:
    """One of a Literal's strings."""
    *others, last = get_args(choices)

    def check(option: str, value: Any) -> str:
        if isinstance(value, str) and value in (*others, last):
            return str(value)
        raise wrong(option, value, f"{', '.join(others)} or {last}" if others else last)

    return check


def switch(option: str, value: Any) -> bool:
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


def size(option: str, value: Any) -> str:
    """`64`, 64 or `64x36` (width x height) -> `64x36`."""
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    parts = re.fullmatch(r"0*(\d{1,6})(?:[xX]0*(\d{1,6}))?", str(value), re.ASCII)
    if not (is_whole or isinstance(value, str)) or not parts or "0" in parts.groups():
        raise wrong(option, value, "a number or WIDTHxHEIGHT, in pixels")
    return f"{parts[1]}x{parts[2] or parts[1]}"


def rate(option: str, value: Any) -> str:
    """`15`, 29.97 or `30000/1001` frames a second -> a fraction such as `15/1`."""
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


def unchanged(option: str, value: Any) -> Any:
    """Whatever it is."""
    return value


def text(option: str, value: Any) -> str:
    """Words that are looked at later."""
    if isinstance(value, str):
        return value
    raise wrong(option, value, "text")


CHECKS: dict[str, Check] = {
    **dict.fromkeys(("num_frames", "steps"), whole(1)),
    **dict.fromkeys(("accumulate", "batch_size", "num_clips", "num_videos"), whole(1, MOST)),
    "upscale": whole(1, WIDEST),
    **dict.fromkeys(("learning_rate", "minutes"), number("more than 0", lambda value: value > 0)),
    "adapt_minutes": number("0 or more", lambda value: value >= 0),
    "latent_noise": number("0 to 10", lambda value: 0 <= value <= 10),
    "window": whole(2, MOST),
    "width": whole(8, WIDEST),
    **dict.fromkeys(("seed", "skip", "workers"), whole(0)),
    "size": size,
    "fps": rate,
    "max_memory": text,
    "device": one_of(Device),
    "mixed_precision": one_of(Precision),
    "preset": one_of(Preset),
    "kind": one_of(Kind),
    "optimizer": one_of(Optimizer),
    "tracker": one_of(TrackerName),
    "crop": one_of(Crop),
    "reader": one_of(Reader),
    "engine": one_of(Engine),
    **dict.fromkeys(("gradient_checkpointing", "overwrite", "quiet", "resume"), switch),
    **dict.fromkeys(("retry", "strict", "verify"), switch),
    **dict.fromkeys(("clips", "path", "real", "generated", "train", "start_from"), place),
    **dict.fromkeys(("out", "latents", "frames_store", "json_file"), place),
    **dict.fromkeys(("frame_model", "top_model", "init", "judge", "reference", "compare"), place),
}
"""By the names of the API's parameters."""


def checked(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Check the arguments of a command before it is called; old names are taken too.

    None stands for the default. The command gets whole numbers as int, others as float, sizes as
    `WxH`, rates as fractions.

    Raises:
        UsageError: a value means nothing, or an option was given by two names.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*arguments: Parameters.args, **options: Parameters.kwargs) -> Result:
        renamed = {name: OLD_NAMES.get(name, name) for name in options}
        if len(set(renamed.values())) < len(renamed):
            raise UsageError(f"got {' and '.join(renamed)}: give one name of an option only")
        bound = signature.bind(*arguments, **{renamed[n]: v for n, v in options.items()})
        for name, value in list(bound.arguments.items()):
            default = signature.parameters[name].default
            if value is None and default is not inspect.Parameter.empty:
                bound.arguments[name] = default
            else:
                bound.arguments[name] = CHECKS[name](flag(name), value)
        return function(*bound.args, **bound.kwargs)

    return call
