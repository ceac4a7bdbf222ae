"""Which formats are read: how each is recognised, how it opens, and what it needs.

To add a format, write a module that opens it as a sequence of `Media`, and add a row to `FORMATS`.
"""

from __future__ import annotations

import contextlib
import importlib.util
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from ldf_video.arrays.frame_array import ArrayClips, FrameArray
from ldf_video.arrays.hdf5 import MAGIC, open_hdf5
from ldf_video.arrays.npy import ARRAY_SUFFIX, MEMBERS_SUFFIX, open_frames, open_npy, open_npz
from ldf_video.arrays.tiff_stack import needs_tifffile, open_tiff
from ldf_video.arrays.zarr_store import open_zarr
from ldf_video.clips.actions import OFF
from ldf_video.clips.datasets import clips_of
from ldf_video.clips.lerobot import content_of_episodes, is_lerobot, open_episodes
from ldf_video.clips.series_media import SeriesMedia
from ldf_video.errors import ReadError, reason_of
from ldf_video.files.archives import (
    ArchivePath,
    is_archive_name,
    is_packed,
    is_zarr_archive,
    read_archive,
)
from ldf_video.files.folders import ZARR_FILES, ZARR_SUFFIX
from ldf_video.files.not_clips import FOREIGN_BYTES, describe_foreign
from ldf_video.video.decode import open_media
from ldf_video.video.pictures import picture_kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ldf_video.arrays.frame_array import NumberArray
    from ldf_video.files.locations import Location
    from ldf_video.sources.source import Source
    from ldf_video.video.media import Media


_USER_BLOCKS = (0, 512, 1024, 2048, 4096)  # bytes of others before an HDF5 file, if any


class Look:
    """What shows of a source before it is opened.

    Attributes:
        source: that is looked at.
        suffix: of its name, in small letters, such as ".npy".
    """

    def __init__(self, source: Source) -> None:
        self.source, self.suffix = source, source.path.suffix.lower()

    @cached_property
    def head(self) -> bytes:
        """The first bytes of a file, 4096 and some behind an HDF5 user block; b"" if none."""
        with contextlib.suppress(OSError), self.source.path.open("rb") as file:
            return file.read(_USER_BLOCKS[-1] + len(MAGIC))
        return b""

    @property
    def first_member(self) -> str:
        """The name of the first file in a zip archive; "" where it is none, or empty."""
        if not self.head.startswith(b"PK\x03\x04"):
            return ""
        num_bytes = int.from_bytes(self.head[26:28], "little")  # APPNOTE.TXT, 4.3.7
        return self.head[30 : 30 + num_bytes].decode(errors="replace")


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
        has_inner: whether what is in it has paths, of which a user may name some.
        has_times: whether clips say when their frames are shown.
        is_film: whether decord may be asked to read it.
        content: yields what identifies the clips of a source, where that is not all bytes of its
            file; None where it is.
        package: that is imported to read it, beside those that are always installed; "" for none.
        extra: of ldf-video, which installs that package.
        has_cameras: whether there may be several, of which a user may name one.
        has_actions: whether it may hold what tells of frames beside them.
    """

    name: str
    recognises: Callable[[Look], bool]
    opens: Callable[[Source, int], contextlib.AbstractContextManager[Sequence[Media]]]
    is_many: bool = False
    has_inner: bool = False
    has_times: bool = False
    is_film: bool = False
    content: Callable[[Source], Iterator[bytes]] | None = None
    package: str = ""
    extra: str = ""
    has_cameras: bool = False
    has_actions: bool = False


def _actions_of(source: Source) -> str:
    """What of a file tells of its frames, see `Layout.actions`; one beside it goes before that."""
    return OFF if source.conditions else source.layout.actions


@contextlib.contextmanager
def _open_series(source: Source, threads: int) -> Iterator[Sequence[Media]]:
    assert source.series is not None
    if all(path.suffix.lower() == ARRAY_SUFFIX for path in source.files()):
        with open_frames(list(source.files())) as array:
            layout = replace(source.layout, axes="TYXC"[: len(array.shape)])
            yield ArrayClips([FrameArray(array, layout)], container="npy")
        return
    yield [SeriesMedia(source.path, source.series, source.layout)]


@contextlib.contextmanager
def _open_array(source: Source, threads: int) -> Iterator[Sequence[Media]]:
    with open_npy(source.path) as array:
        yield ArrayClips([FrameArray(array, source.layout)], container="npy")


@contextlib.contextmanager
def _open_arrays(
    source: Source,
    threads: int,
    *,
    container: str,
    opens: Callable[[Location], contextlib.AbstractContextManager[Sequence[NumberArray]]],
) -> Iterator[Sequence[Media]]:
    with opens(source.path) as arrays:
        yield clips_of(arrays, source, container=container, actions=_actions_of(source))


def _content_of_arrays(source: Source) -> Iterator[bytes]:
    with open_source(source) as clips:
        assert isinstance(clips, ArrayClips)
        yield from clips.content()


def _content_of_episodes(source: Source) -> Iterator[bytes]:
    _check_installed(format_of(source))
    yield from content_of_episodes(source.path, actions=_actions_of(source))


def _is_archive(look: Look) -> bool:
    """Whether it is an archive of which reading has something to say; else it was searched."""
    path = look.source.path
    is_here = isinstance(path, Path | ArchivePath)
    return is_here and is_archive_name(path.name) and not _is_zarr_zip(look)


def _is_zarr_zip(look: Look) -> bool:
    path = look.source.path
    is_named = path.name.lower().endswith(f"{ZARR_SUFFIX}.zip")
    return is_named or look.first_member in ZARR_FILES or is_zarr_archive(path)


@contextlib.contextmanager
def _open_archive(source: Source, threads: int) -> Iterator[Sequence[Media]]:
    if not isinstance(source.path, Path):
        raise ReadError("an archive in an archive: unpack it")
    try:
        archive = read_archive(source.path)
    except OSError as error:
        head = Look(source).head
        foreign = "" if is_packed(head) else describe_foreign(head[:FOREIGN_BYTES])
        raise ReadError(foreign or f"cannot be read: {reason_of(error)}") from error
    inside = next(iter(archive.members), "")
    advice = f"an archive: name a file in it, as {source.path.name}::{inside}"
    raise ReadError(archive.fault or (advice if inside else "an archive that holds no file"))
    yield []


@contextlib.contextmanager
def _open_film(source: Source, threads: int) -> Iterator[Sequence[Media]]:
    with open_media(source.path, threads=threads) as media:
        yield [media]


_of_arrays = partial(
    Format,
    is_many=True,
    has_inner=True,
    content=_content_of_arrays,
    has_cameras=True,
    has_actions=True,
)

FORMATS = (
    Format("numbered pictures", lambda look: look.source.series is not None, _open_series),
    Format("a .npy array", lambda look: look.suffix == ARRAY_SUFFIX, _open_array, is_many=True),
    Format("an archive", _is_archive, _open_archive),
    _of_arrays(
        "an .npz archive",
        lambda look: look.suffix == MEMBERS_SUFFIX or look.first_member.endswith(ARRAY_SUFFIX),
        partial(_open_arrays, container="npz", opens=open_npz),
    ),
    _of_arrays(
        "an HDF5 file",
        lambda look: any(look.head.startswith(MAGIC, size) for size in _USER_BLOCKS),
        partial(_open_arrays, container="hdf5", opens=open_hdf5),
        package="h5py",
        extra="hdf5",
    ),
    _of_arrays(
        "a zarr store",
        lambda look: look.source.is_folder or _is_zarr_zip(look),
        partial(_open_arrays, container="zarr", opens=open_zarr),
        package="zarr",
        extra="zarr",
    ),
    Format(
        "a film of a LeRobot data set",
        lambda look: look.suffix == ".mp4" and is_lerobot(look.source.path),
        lambda source, threads: open_episodes(
            source.path, threads=threads, actions=_actions_of(source)
        ),
        is_many=True,
        has_times=True,
        content=_content_of_episodes,
        package="pyarrow",
        extra="lerobot",
        has_cameras=True,
        has_actions=True,
    ),
    Format(
        "a TIFF stack",
        lambda look: (
            picture_kind(look.head) == "tiff"
            and (bool(look.source.layout.levels) or needs_tifffile(look.source.path))
        ),
        lambda source, threads: open_tiff(source.path, source.layout),
        is_many=True,
        package="tifffile",
        extra="tiff",
        has_cameras=True,
    ),
    # The last: whatever FFmpeg or Pillow makes of it, or its true name.
    Format("a video", lambda look: True, _open_film, has_times=True, is_film=True),
)
"""All formats; the first that recognises a source opens it."""


def format_of(source: Source) -> Format:
    """Returns the format of a source; a video, where no other recognises it."""
    look = Look(source)
    return next(known for known in FORMATS if known.recognises(look))


def _check_installed(found: Format) -> None:
    if found.package and importlib.util.find_spec(found.package) is None:
        raise ReadError(
            f"{found.name}, which {found.package} reads: pip install 'ldf-video[{found.extra}]'"
        )


@contextlib.contextmanager
def open_source(source: Source, *, threads: int = 0) -> Iterator[Sequence[Media]]:
    """Opens all clips of a source; see `Format.opens`.

    Raises:
        ReadError: if it cannot be read, or the package for it is not installed.
    """
    if source.part is not None and source.part.problem:
        raise ReadError(source.part.problem)
    found = format_of(source)
    _check_installed(found)
    if source.inner and not found.has_inner:
        raise ReadError(
            f"{found.name}: nothing in it has a path, so ::{source.inner} names nothing"
        )
    with found.opens(source, threads) as clips:
        yield clips
