"""Numbered pictures of one folder that make one clip."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ldf_video.video.pictures import is_animated

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ldf_video.video.files import Location

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
_SUFFIXES = tuple(PICTURE_SUFFIXES)
_NUMBERED = re.compile(r"(?s)(.*?)([0-9]+)(\.[^.]*)")


@dataclass(frozen=True)
class Series:
    """Pictures whose names differ in one number alone, the last thing before the suffix.

    Attributes:
        folder: where they are.
        names: of the files, two or more, by number; equal numbers by code points.
        pattern: their names with a star in place of the number: `frame_*.png`.
    """

    folder: Location
    names: tuple[str, ...]
    pattern: str

    def paths(self) -> Iterator[Location]:
        """Yields the files in order."""
        return (self.folder / name for name in self.names)


def find_series(folder: Location, names: Iterable[str]) -> list[Series]:
    """Groups the files of a folder into series; gaps between numbers are none of its business.

    A group is all names of one stem and one suffix (that of a still picture), at least two. Where
    the first is an animation none of them is a frame, and the group is no series.

    Args:
        folder: where the files are.
        names: of the regular files in it.
    """
    taken, groups = set(), dict[tuple[str, str], list[tuple[int, str]]]()
    for name in names:
        if not name.lower().endswith(_SUFFIXES):
            continue
        parts = _NUMBERED.fullmatch(name)
        if parts is None:
            taken.add(name)
        else:
            groups.setdefault((parts[1], parts[3]), []).append((int(parts[2]), name))
    series = []
    for (stem, suffix), members in groups.items():
        members.sort()
        if len(members) > 1 and not is_animated(folder / members[0][1]):
            star = "*"
            while stem + star + suffix in taken:  # a file may be called that, too
                star += "*"
            ordered = tuple(name for _, name in members)
            series.append(Series(folder, ordered, stem + star + suffix))
    return series
