"""Which formats are read: how each is recognised, how it opens, and what it needs.

To add a format, write a module that opens it as a sequence of `Media`, and add a row to `FORMATS`.
"""

from __future__ import annotations

import contextlib
import importlib.util
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ldf_video.errors import ReadError
from ldf_video.video.archives import is_archive_name, is_packed, read_archive
from ldf_video.video.arrays import ARRAY_SUFFIX, ArrayClips, open_array
from ldf_video.video.decode import open_media
from ldf_video.video.files import reason_of
from ldf_video.video.not_clips import FOREIGN_BYTES, describe_foreign
from ldf_video.video.series_media import SeriesMedia

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ldf_video.video.media import Media
    from ldf_video.video.sources import Source


class Look:
    """What shows of a source before it is opened.

    Attributes:
        source: that is looked at.
        suffix: of its name, in small letters, such as ".npy".
    """

    def __init__(self, source: Source) -> None:
        """Reads nothing yet."""
        self.source, self.suffix = source, source.path.suffix.lower()

    @cached_property
    def head(self) -> bytes:
        """The first bytes of a file, as many as `describe_foreign` needs; b"" if there are none."""
        with contextlib.suppress(OSError), self.source.path.open("rb") as file:
            return file.read(FOREIGN_BYTES)
        return b""


@dataclass(frozen=True)
class Format:
    """One way in which files hold clips.

    Attributes:
        name: for people, with an article.
        recognises: whether a source is of this format. What its name tells is asked before what is
            in it: behind a URL each look is a request.
        opens: opens all clips of a source, with as many threads for a decoder as asked (0: by the
            size of its pictures), in memory that does not grow with their length. Runs in the
            process that reads. Raises a ReadError, a short reason without the path.
        is_many: whether a source can hold several clips; they are numbered, and counted before they
            are read. Else it is one clip.
        has_times: whether clips say when their frames are shown.
        is_film: whether decord may be asked to read it.
        package: that is imported to read it, beside those that are always installed; "" for none.
        extra: of ldf-video, which installs that package.
    """

    name: str
    recognises: Callable[[Look], bool]
    opens: Callable[[Source, int], contextlib.AbstractContextManager[Sequence[Media]]]
    is_many: bool = False
    has_times: bool = False
    is_film: bool = False
    package: str = ""
    extra: str = ""


@contextlib.contextmanager
def _open_series(source: Source, threads: int) -> Iterator[Sequence[Media]]:
    assert source.series is not None
    yield [SeriesMedia(source.path, source.series)]


@contextlib.contextmanager
def _open_array(source: Source, threads: int) -> Iterator[Sequence[Media]]:
    yield ArrayClips(open_array(source.path))


def _is_archive(look: Look) -> bool:
    """Whether it is an archive of which reading has something to say; else it was searched."""
    return isinstance(look.source.path, Path) and is_archive_name(look.source.path.name)


@contextlib.contextmanager
def _open_archive(source: Source, threads: int) -> Iterator[Sequence[Media]]:
    assert isinstance(source.path, Path)
    try:
        archive = read_archive(source.path)
    except OSError as error:
        head = Look(source).head
        foreign = "" if is_packed(head) else describe_foreign(head)
        raise ReadError(foreign or f"cannot be read: {reason_of(error)}") from error
    inside = next(iter(archive.members), "")
    advice = f"an archive: name a file in it, as {source.path.name}::{inside}"
    raise ReadError(archive.fault or (advice if inside else "an archive that holds no file"))
    yield []


@contextlib.contextmanager
def _open_film(source: Source, threads: int) -> Iterator[Sequence[Media]]:
    with open_media(source.path, threads=threads) as media:
        yield [media]


FORMATS = (
    Format("numbered pictures", lambda look: look.source.series is not None, _open_series),
    Format("a .npy array", lambda look: look.suffix == ARRAY_SUFFIX, _open_array, is_many=True),
    Format("an archive", _is_archive, _open_archive),
    # The last: whatever FFmpeg or Pillow makes of it, or its true name.
    Format("a video", lambda look: True, _open_film, has_times=True, is_film=True),
)
"""All formats; the first that recognises a source opens it."""


def format_of(source: Source) -> Format:
    """Returns the format of a source; a video, where no other recognises it."""
    look = Look(source)
    return next(known for known in FORMATS if known.recognises(look))


@contextlib.contextmanager
def open_source(source: Source, *, threads: int = 0) -> Iterator[Sequence[Media]]:
    """Opens all clips of a source; see `Format.opens`.

    Raises:
        ReadError: if it cannot be read, or the package for it is not installed.
    """
    found = format_of(source)
    if found.package and importlib.util.find_spec(found.package) is None:
        raise ReadError(
            f"{found.name}, which {found.package} reads: pip install 'ldf-video[{found.extra}]'"
        )
    with found.opens(source, threads) as clips:
        yield clips
