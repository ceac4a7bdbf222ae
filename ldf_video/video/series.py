"""Numbered pictures of one folder that make one clip: which they are, and their frames."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import av

from ldf_video.errors import ReadError
from ldf_video.video.decode import open_media
from ldf_video.video.numbered import find_numbered
from ldf_video.video.pictures import (
    JPEG_SUFFIXES,
    PictureMedia,
    is_animated,
    is_picture,
    read_picture,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ldf_video.video.files import Location

PICTURE_SUFFIXES = frozenset(
    {
        *(*JPEG_SUFFIXES, ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".gif", ".tga", ".exr"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".pam", ".jp2", ".j2k", ".jxl", ".avif", ".heic"),
        *(".heif", ".dds", ".dpx", ".pcx", ".sgi", ".hdr", ".qoi"),
    }
)
_SAME = dict.fromkeys(JPEG_SUFFIXES, ".jpg") | {".tif": ".tiff"}


@dataclass(frozen=True)
class Series:
    """Pictures whose names are alike but for a number; see `find_numbered`.

    Attributes:
        folder: where they are.
        names: of the files, two or more, by number; equal numbers by code points.
        pattern: their names with a star in place of what differs: `frame_*.png`.
    """

    folder: Location
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
        for stems, shown in find_numbered(list(suffixes)):
            members = tuple(stem + suffixes[stem] for stem in stems)
            if is_animated(folder / members[0]):
                continue
            own = {suffixes[stem] for stem in stems}
            suffix = own.pop() if len(own) == 1 else kind
            stars = next(n for n in count() if shown + n * "*" + suffix not in taken)
            pattern = shown + stars * "*" + suffix  # a file may be called that, too
            taken.add(pattern)
            series.append(Series(folder, members, pattern))
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


class SeriesMedia(PictureMedia):
    """Numbered pictures as one clip."""

    has_times = False

    def __init__(self, series: Series) -> None:
        """Reads nothing yet."""
        super().__init__(series.folder / series.names[0])
        self._series = series
        self._num_all = len(series.names)

    def _pictures(self) -> Iterator[av.VideoFrame]:
        for name in self._series.names[self._num_read :]:
            path = self._series.folder / name
            try:
                if is_picture(path):
                    frame = self._frame(read_picture(path))
                else:
                    with open_media(path) as media:
                        frame = next(media.frames())
            except ReadError as error:
                raise ReadError(f"{name}: {error}") from error
            yield frame
