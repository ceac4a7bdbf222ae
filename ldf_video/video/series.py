"""Numbered pictures of one folder that make one clip: which they are, and in which order."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain, count, pairwise
from statistics import median
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from ldf_video.video.pictures import JPEG_SUFFIXES, is_animated

if TYPE_CHECKING:
    from ldf_video.video.files import Location

PICTURE_SUFFIXES = frozenset(
    {
        *(*JPEG_SUFFIXES, ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".gif", ".tga", ".exr"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".pam", ".jp2", ".j2k", ".jxl", ".avif", ".heic"),
        *(".heif", ".dds", ".dpx", ".pcx", ".sgi", ".hdr", ".qoi"),
    }
)
_SAME = dict.fromkeys(JPEG_SUFFIXES, ".jpg") | {".tif": ".tiff"}

_Key: TypeAlias = tuple[Decimal, ...]

# A decimal may have an exponent, as in 1e-05; a minus counts where no other sign can be meant.
_NUMBER = re.compile(r"((?:(?<![^_= (])-)?[0-9]+(?:\.[0-9]+)?(?:[eE][+-][0-9]+)?)")
_VIEW = re.compile(r"(?i)(cam|camera|view)[-_ ]?$")
_YEAR = r"(19|20)[0-9]{2}"
_MONTH, _DAY = r"(0[1-9]|1[0-2])", r"(0[1-9]|[12][0-9]|3[01])"
_HOUR, _MINUTE, _SECOND = r"([01][0-9]|2[0-3])", r"[0-5][0-9]", r"([0-5][0-9]|60)"
_TO_THE_SECOND = [
    [_YEAR, _MONTH, _DAY, _HOUR, _MINUTE, _SECOND],
    [_YEAR + _MONTH + _DAY, _HOUR, _MINUTE, _SECOND],
    [_YEAR + _MONTH + _DAY, _HOUR + _MINUTE + _SECOND],
    [_YEAR + _MONTH + _DAY + _HOUR + _MINUTE + _SECOND],
    [_HOUR, _MINUTE, _SECOND],
    [r"1[0-9]{9}"],  # seconds since 1970
]
_COARSER = [
    [_YEAR + _MONTH + _DAY, _HOUR + _MINUTE + _SECOND + r"[0-9]{3}"],  # to the millisecond
    [_YEAR, _MONTH, _DAY, _HOUR, _MINUTE],
    [_YEAR + _MONTH + _DAY, _HOUR, _MINUTE],
    [_YEAR, _MONTH, _DAY],
]
_SAME_RECORDING_SECONDS = 10
_COUNTER_SHARE = 0.9
_EVEN_STEPS = 3


class Series(NamedTuple):
    """Pictures whose names are alike but for a number; see `_find_numbered`.

    Attributes:
        names: of the files, two or more, by number; equal numbers by code points.
        pattern: their names with a star in place of what differs: `frame_*.png`.
    """

    names: tuple[str, ...]
    pattern: str


def find_series(folder: Location, names: Iterable[str]) -> list[Series]:
    """Groups the files of a folder, by their names, into series; gaps in the numbers do not matter.

    A series is of one suffix (that of a still picture) or of others that mean the same, in small
    letters or large. Where its first file is an animation, or a stack of pages, none of them is a
    frame and it is no series.
    """
    taken = set(names)
    series = []
    for kind, suffixes in _by_kind(taken).items():
        for stems, shown in _find_numbered(list(suffixes)):
            members = tuple(stem + suffixes[stem] for stem in stems)
            if is_animated(folder / members[0]):
                continue
            own = {suffixes[stem] for stem in stems}
            suffix = own.pop() if len(own) == 1 else kind
            stars = next(n for n in count() if shown + n * "*" + suffix not in taken)
            pattern = shown + stars * "*" + suffix  # a file may be called that, too
            taken.add(pattern)
            series.append(Series(members, pattern))
    return series


def _by_kind(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """The stems of pictures by the suffix in small letters, each with its own suffix.

    Suffixes that mean the same are one kind, but where two pictures differ in nothing else.
    """
    stems = defaultdict[str, list[str]](list)
    for name in sorted(names):
        stem, suffix = os.path.splitext(name)
        if suffix.lower() in PICTURE_SUFFIXES:
            stems[suffix].append(stem)
    kinds = dict[str, dict[str, str]]()
    for suffix in sorted(stems, reverse=True):  # small letters before large ones
        own = dict.fromkeys(stems[suffix], suffix)
        kind = _SAME.get(suffix.lower(), suffix.lower())
        if own.keys() & kinds.get(kind, {}).keys():
            kind = suffix
        kinds.setdefault(kind, {}).update(own)
    return kinds


@dataclass(frozen=True)
class _Column:
    """One number of every name of a group: the text before it, its own text, its value."""

    before: str
    texts: tuple[str, ...]
    values: tuple[_Key, ...]

    def differs(self, rows: Sequence[int]) -> bool:
        return len({self.values[row] for row in rows}) > 1

    def is_counter(self, rows: Sequence[int]) -> bool:
        """Whether hardly two of the names have the same number."""
        return len({self.values[row] for row in rows}) >= _COUNTER_SHARE * len(rows)

    @property
    def is_view(self) -> bool:
        return _VIEW.search(self.before) is not None


def _find_numbered(names: Sequence[str]) -> list[Series]:
    """Groups names, without suffixes, that are alike but for their numbers; one is no group.

    What counts as one number: a decimal, a date, a time, and a part of a second behind it. Where
    one number differs it counts. Where several do, the first counts if it is another in (nearly)
    every name; else each of its values is a clip of its own, within which the next decides. A
    number behind "cam" or "view" comes first.

    Returns:
        The groups; the numbers in a name count by value, then the names by code points.
    """
    alike = dict[tuple[str, ...], dict[str, list[str]]]()
    for name in names:
        parts = _NUMBER.split(name)
        if len(parts) > 1:
            alike.setdefault(tuple(parts[::2]), {})[name] = parts[1::2]
    found = []
    for texts, numbers in alike.items():
        if len(numbers) > 1:
            columns = _columns(texts, list(numbers.values()))
            clips = _clips(range(len(numbers)), columns)
            found += [_numbered(list(numbers), columns, rows, texts[-1]) for rows in clips]
    return found


def _clips(rows: Sequence[int], columns: list[_Column]) -> Iterator[Sequence[int]]:
    """Groups names by the numbers that say which clip they are of."""
    differing = [column for column in columns if column.differs(rows)]
    differing.sort(key=lambda column: not column.is_view)
    if len(differing) > 1 and not differing[0].is_counter(rows):
        clips = dict[_Key, list[int]]()
        for row in rows:
            clips.setdefault(differing[0].values[row], []).append(row)
        for clip in reversed(clips.values()):
            yield from _clips(clip, columns)
    elif len(rows) > 1:
        yield rows


def _numbered(names: list[str], columns: list[_Column], rows: Sequence[int], end: str) -> Series:
    rows = sorted(rows, key=lambda row: ([c.values[row] for c in columns], names[row]))
    pattern = ""
    for column in columns:
        same = len({column.texts[row] for row in rows}) == 1
        pattern += column.before + (column.texts[rows[0]] if same else "*")
    return Series(tuple(names[row] for row in rows), pattern + end)


def _columns(texts: Sequence[str], numbers: Sequence[Sequence[str]]) -> list[_Column]:
    """The numbers of names whose other parts are the same, those that belong together as one."""
    columns = []
    for place, before in enumerate(texts[:-1]):
        columns += _numbers(before, [own[place] for own in numbers])
    return _with_decimals(_with_times(columns))


def _numbers(before: str, texts: Sequence[str]) -> list[_Column]:
    """One column of numbers; two where each has a dot, which may only separate two integers."""
    if all(text[0] == "-" for text in texts):
        before, texts = before + "-", [text[1:] for text in texts]
    halves = [text.partition(".") for text in texts]
    if all(whole.isdigit() and part.isdigit() for whole, _, part in halves):
        wholes, _, parts = zip(*halves, strict=True)
        return [_column(before, wholes), _column(".", parts)]
    return [_column(before, texts)]


def _column(before: str, texts: Sequence[str]) -> _Column:
    return _Column(before, tuple(texts), tuple((Decimal(text),) for text in texts))


def _joined(columns: Sequence[_Column]) -> _Column:
    """Several numbers as one, the first of the greatest weight."""
    first, *others = columns
    texts = tuple(
        first.texts[row] + "".join(other.before + other.texts[row] for other in others)
        for row in range(len(first.texts))
    )
    values = zip(*(column.values for column in columns), strict=True)
    return _Column(first.before, texts, tuple(tuple(chain(*value)) for value in values))


def _with_times(columns: list[_Column]) -> list[_Column]:
    """Joins the numbers of each date and time."""
    found = list[_Column]()
    while columns:
        length = _length_of(_TO_THE_SECOND, columns)
        if length and len(columns) > length and _is_within_a_second(columns[: length + 1]):
            length += 1
        length = max(length, _length_of(_COARSER, columns), 1)
        found.append(_joined(columns[:length]))
        columns = columns[length:]
    return found


def _length_of(shapes: Sequence[Sequence[str]], columns: Sequence[_Column]) -> int:
    """How many columns the longest date or time takes that they begin with; 0 for none."""

    def fits(shape: Sequence[str]) -> bool:
        own = columns[: len(shape)]
        return (
            len(own) == len(shape)
            and all(
                re.fullmatch(pattern, text)
                for pattern, column in zip(shape, own, strict=True)
                for text in set(column.texts)
            )
            and (shape[0] != _HOUR or _is_even(_stamps(own)))  # else scene, shot and frame
        )

    return max((len(shape) for shape in shapes if fits(shape)), default=0)


def _is_within_a_second(columns: Sequence[_Column]) -> bool:
    """Whether the last number is a part of a second, behind a time to the second.

    Where the times lie far apart and the number begins again in each, it counts a clip's frames.
    """
    *time, part = columns
    if not re.fullmatch(r"[-_., s]+", part.before):
        return False
    steps = _steps(_stamps(time))
    if not steps or part.is_counter(range(len(part.texts))):
        return True
    return median(steps) <= _SAME_RECORDING_SECONDS


def _stamps(time: Sequence[_Column]) -> set[Decimal]:
    """Times to the second as numbers of seconds, right within a month."""
    stamps = set[Decimal]()
    for texts in zip(*(column.texts for column in time), strict=True):
        digits = "".join(texts)
        seconds = int(digits)  # since 1970
        if len(digits) != 10:
            days, hours = int(digits[:-6] or 0), int(digits[-6:-4])
            seconds = ((days * 24 + hours) * 60 + int(digits[-4:-2])) * 60 + int(digits[-2:])
        stamps.add(Decimal(seconds))
    return stamps


def _steps(values: set[Decimal]) -> list[Decimal]:
    return [b - a for a, b in pairwise(sorted(values))]


def _is_even(values: set[Decimal]) -> bool:
    steps = _steps(values)
    return not steps or max(steps) <= _EVEN_STEPS * median(steps)


def _with_decimals(columns: list[_Column]) -> list[_Column]:
    """Joins whole numbers and what follows their dots, where these are decimals."""
    found = list[_Column]()
    for column in columns:
        last = column
        if found and column.before == "." and _is_fraction(found[-1], column):
            whole = found.pop()
            texts = [f"{a}.{b}" for a, b in zip(whole.texts, column.texts, strict=True)]
            last = _column(whole.before, texts)
        found.append(last)
    return found


def _is_fraction(whole: _Column, part: _Column) -> bool:
    """Whether what follows a dot is a part of the number before, not a counter of its own.

    1.9 and 1.10 are no decimals. Nor are 1.0001, 1.0002, ... and then 2.0001: they count.
    """
    if not all(text.isdigit() for text in (*whole.texts, *part.texts)):
        return False
    widths = {len(text) for text in part.texts}
    if len(widths) > 1:
        return not any(len(text) > 1 and text[-1] == "0" for text in part.texts)
    if not whole.differs(range(len(whole.texts))):
        return False  # either way their order is the same
    values = {Decimal(f"{a}.{b}") for a, b in zip(whole.texts, part.texts, strict=True)}
    return _is_even(values) or median(_steps(values)) != Decimal(1).scaleb(-widths.pop())
