"""Numbered pictures of one folder that make one clip: which they are, and in which order."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from itertools import count, pairwise
from typing import TYPE_CHECKING, NamedTuple

from ldf_video.arrays.npy import ARRAY_SUFFIX, is_frame_file
from ldf_video.sources.name_numbers import (
    NUMBER,
    Column,
    Key,
    columns_of,
    natural_key,
    with_standard_times,
    with_year_first,
)
from ldf_video.video.pictures import JPEG_SUFFIXES, is_animated

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ldf_video.files.locations import Location

PICTURE_SUFFIXES = frozenset(
    {
        *(*JPEG_SUFFIXES, ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".gif", ".tga", ".exr"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".pam", ".jp2", ".j2k", ".jxl", ".avif", ".heic"),
        *(".heif", ".dds", ".dpx", ".pcx", ".sgi", ".hdr", ".qoi"),
    }
)
_SAME = dict.fromkeys(JPEG_SUFFIXES, ".jpg") | {".tif": ".tiff"}

_MIN_COUNTER = 10_000
_MAY_BE_ANIMATED = (".gif", ".webp", ".tif", ".tiff", ".avif")  # an APNG mostly is not called .png
_HEXADECIMAL = re.compile(r"(|.*(?:[^0-9A-Za-z]|0x))([0-9a-f]{4,}|[0-9A-F]{4,})")
_COPY = re.compile(
    r"(?P<name>.*[^-_ 0-9])(?:[-_ ]?\((?:(?P<one>[12])|\d+)\)|[-_ ]?(?:(?P<two>2)|\d+))"
)


class Series(NamedTuple):
    """Pictures whose names are alike but for a number; see `find_numbered`.

    Attributes:
        names: of the files, two or more, by number; equal numbers by code points.
        pattern: their names with a star in place of what differs: `frame_*.png`.
    """

    names: tuple[str, ...]
    pattern: str


def find_series(folder: Location, names: Iterable[str]) -> list[Series]:
    """Groups the files of a folder, by their names, into series; gaps in the numbers do not matter.

    A series is of one suffix (that of a still picture, or .npy where each file holds one frame) or
    of others that mean the same, in small letters or large. Where its first file is an animation, a
    stack of pages or an array of several frames, none of them is a frame and it is no series.
    """
    taken = set(names)
    series = []
    for kind, suffixes in _by_kind(taken).items():
        for stems, shown in find_numbered(list(suffixes)):
            members = tuple(stem + suffixes[stem] for stem in stems)
            first = folder / members[0]
            if not is_frame_file(first) if kind.lower() == ARRAY_SUFFIX else is_animated(first):
                continue
            own = {suffixes[stem] for stem in stems}
            suffix = own.pop() if len(own) == 1 else kind
            stars = next(n for n in count() if shown + n * "*" + suffix not in taken)
            pattern = shown + stars * "*" + suffix  # a file may be called that, too
            taken.add(pattern)
            series.append(Series(members, pattern))
    return series


def all_pictures(folder: Location, names: Iterable[str]) -> list[Series]:
    """Makes all pictures of a folder one series, in natural order, whatever their names and kinds.

    Animations and stacks of pages, and a picture that is alone, are left out.
    """
    taken = set(names)
    pictures = [name for name in taken if _is_still(folder, name)]
    pictures.sort(key=lambda name: (natural_key(os.path.splitext(name)[0]), name))
    if len(pictures) < 2:
        return []
    stars = next(n for n in count(1) if n * "*" not in taken)
    return [Series(tuple(pictures), stars * "*")]


def _is_still(folder: Location, name: str) -> bool:
    suffix = os.path.splitext(name)[1].lower()
    return suffix in PICTURE_SUFFIXES and not (
        suffix in _MAY_BE_ANIMATED and is_animated(folder / name)
    )


def _by_kind(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """The stems of pictures by the suffix in small letters, each with its own suffix.

    Suffixes that mean the same are one kind, but where two pictures differ in nothing else.
    """
    stems = defaultdict[str, list[str]](list)
    for name in sorted(names):
        stem, suffix = os.path.splitext(name)
        if suffix.lower() in (*PICTURE_SUFFIXES, ARRAY_SUFFIX):
            stems[suffix].append(stem)
    kinds = dict[str, dict[str, str]]()
    for suffix in sorted(stems, reverse=True):  # small letters before large ones
        own = dict.fromkeys(stems[suffix], suffix)
        kind = _SAME.get(suffix.lower(), suffix.lower())
        if own.keys() & kinds.get(kind, {}).keys():
            kind = suffix
        kinds.setdefault(kind, {}).update(own)
    return kinds


def find_numbered(stems: Sequence[str]) -> list[Series]:
    """Groups names, without suffixes, that are alike but for their numbers; one is no group.

    What counts as one number: a decimal, a date, a time, and a part of a second behind it. Where
    one number differs it counts. Where several do, the first counts if it is another in (nearly)
    every name; else each of its values is a clip of its own, within which the next decides. A
    number behind "cam" or "view" comes first, one behind "t" or "frame" last if it has the most
    values. Capitals do not matter where no two names differ in nothing else.

    Returns:
        The groups; the numbers in a name count by value, then the names by code points.
    """
    found, others = _find_hexadecimal(stems)
    standard = [with_standard_times(name) for name in others]
    for places in _alike(standard):
        group = [others[place] for place in places]
        dated = with_year_first([standard[place] for place in places])
        parts = [NUMBER.split(name) for name in dated]
        columns = columns_of(parts[0][::2], [own[1::2] for own in parts])
        for clip in _clips(range(len(group)), columns):
            rows = _across_overflow(_by_number(clip, columns, group), columns)
            names = [group[row] for row in rows]
            is_rewritten = names != [dated[row] for row in rows]
            pattern = _pattern_around(names) if is_rewritten else _pattern(names[0], columns, rows)
            found.append(Series(tuple(names), pattern))
    return _with_unnumbered(found, stems)


def _alike(names: Sequence[str]) -> Iterator[list[int]]:
    """Groups the places of names that have the same text around their numbers, two or more."""
    groups = dict[tuple[str, ...], list[int]]()
    for place, name in enumerate(names):
        groups.setdefault(tuple(NUMBER.split(name.casefold())[::2]), []).append(place)
    for places in groups.values():
        if len({names[place].casefold() for place in places}) == len(places):
            cases = [places]
        else:  # on a file system that tells capitals from small letters
            exact = defaultdict[tuple[str, ...], list[int]](list)
            for place in places:
                exact[tuple(NUMBER.split(names[place])[::2])].append(place)
            cases = list(exact.values())
        yield from (own for own in cases if len(own) > 1 and NUMBER.search(names[own[0]]))


def _clips(rows: Sequence[int], columns: list[Column]) -> Iterator[Sequence[int]]:
    """Groups names by the numbers that say which clip they are of."""
    num_values = {id(column): column.num_values(rows) for column in columns}
    differing = [column for column in columns if num_values[id(column)] > 1]
    most = max((num_values[id(column)] for column in differing), default=0)
    differing.sort(key=lambda c: (not c.is_view, c.is_frame and num_values[id(c)] == most))
    if len(differing) > 1 and not differing[0].is_counter(rows):
        clips = dict[Key, list[int]]()
        for row in rows:
            clips.setdefault(differing[0].values[row], []).append(row)
        for clip in reversed(clips.values()):
            yield from _clips(clip, columns)
    elif len(rows) > 1:
        yield rows


def _by_number(
    rows: Sequence[int], columns: Sequence[Column], names: Sequence[str]
) -> Sequence[int]:
    return sorted(rows, key=lambda row: ([c.values[row] for c in columns], names[row]))


def _across_overflow(rows: Sequence[int], columns: Sequence[Column]) -> Sequence[int]:
    """Begins behind the gap where a camera's counter went from 9999 to 0001 within a recording."""
    differing = [column for column in columns if column.num_values(rows) > 1]
    texts = [differing[0].texts[row] for row in rows] if len(differing) == 1 else [""]
    size = 10 ** len(texts[-1])
    is_over = texts[-1] == str(size - 1) and texts[0].isdigit() and int(texts[0]) <= 1
    if not is_over or size < _MIN_COUNTER or len({len(text) for text in texts}) > 1:
        return rows
    gaps = [int(b) - int(a) for a, b in pairwise(texts)]
    begin = gaps.index(max(gaps)) + 1 if max(gaps) > size // 2 else 0
    return [*rows[begin:], *rows[:begin]]


def _pattern(name: str, columns: Sequence[Column], rows: Sequence[int]) -> str:
    """A name, with a star in place of each number that differs."""
    pattern, begin = "", 0
    for column in columns:
        texts = [column.texts[row] for row in rows]
        pattern += name[begin : begin + len(column.before)]
        pattern += texts[0] if len(set(texts)) == 1 else "*"
        begin += len(column.before) + len(texts[0])
    return pattern + name[begin:]


def _pattern_around(names: Sequence[str]) -> str:
    """What names begin and end with, with a star between."""
    start = os.path.commonprefix(names)  # noqa: RUF071  # of names, not of paths
    ends = [name[: len(start) - 1 : -1] if start else name[::-1] for name in names]
    return f"{start}*{os.path.commonprefix(ends)[::-1]}"  # noqa: RUF071


def _find_hexadecimal(names: Sequence[str]) -> tuple[list[Series], list[str]]:
    """Groups names that count in base 16; and the names that are no numbers of base 16.

    Numbers that are far apart are hashes: each such picture is alone, whatever digits it has.
    """
    groups = defaultdict[tuple[str, int], dict[str, int]](dict)
    for name in names:
        if parts := _HEXADECIMAL.fullmatch(name):
            groups[parts[1], len(parts[2])][name] = int(parts[2], 16)
    found, taken = list[Series](), set[str]()
    for values in groups.values():
        num_letters = sum(not name[-1].isdigit() for name in values)
        if not len(values) // 10 < num_letters < len(values) - len(values) // 10 or len(values) < 4:
            continue
        taken.update(values)
        if max(values.values()) - min(values.values()) < 2 * len(values):
            own = sorted(values, key=values.__getitem__)
            found.append(Series(tuple(own), _pattern_around(own)))
    return found, [name for name in names if name not in taken]


def _with_unnumbered(found: list[Series], names: Iterable[str]) -> list[Series]:
    """Puts the first file, which has no number, before its copies: scan, scan (2), scan (3)."""
    others = set(names).difference(*(series.names for series in found))
    whole = []
    for series in found:
        copies = [_COPY.fullmatch(name) for name in series.names]
        bases = {copy and copy["name"] for copy in copies}
        base = bases.pop()
        if base in others and not bases and copies[0] and (copies[0]["one"] or copies[0]["two"]):
            own = (base, *series.names)
            whole.append(Series(own, _pattern_around(own)))
        else:
            whole.append(series)
    return whole
