"""Where clips lie: a path of this machine, or a URL of a file system that fsspec knows.

A `RemotePath` has what reading needs of `pathlib.Path`, so the rest of the package need not know
which of the two it has.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ldf_video.files.archives import ArchivePath, archive_place, read_archive
from ldf_video.files.entry import UNKNOWN, Entry
from ldf_video.files.remote import RemotePath

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(::[^/]*)?://")
Location: TypeAlias = Path | RemotePath | ArchivePath


def locate(place: str | Location) -> Location:
    """Returns the location that a user names: a path, or a URL such as `s3://bucket/clips`.

    `clips.zip::walk`, and `zip://walk::clips.zip`, is a place in an archive of this machine.
    """
    if isinstance(place, str):
        if (packed := archive_place(place)) is not None:
            return packed
        return RemotePath(place) if _URL.match(place) else Path(place)
    return place


def join(root: Location, name: str) -> Location:
    """Returns the place that a path relative to a folder leads to, also into its archives."""
    if isinstance(root, Path) and (packed := archive_place(name)) is not None:
        return ArchivePath(root / packed.archive, packed.member)
    return root / name


def split_inner(place: str | Location) -> tuple[Location, str]:
    """Splits what a user names into a location and a place within it: `play.h5::data/*/obs/image`.

    Links of a URL, such as `zip://clips::s3://bucket/all.zip`, are none, nor is a file that is
    really called so. The place is empty where none is named. Of an archive, all of it or a place
    in it, the location is an `ArchivePath`.
    """
    packed = place if isinstance(place, ArchivePath) else archive_place(str(place))
    if packed is not None and not os.path.exists(str(place)):
        file, mark, inner = packed.member.rpartition("::")
        if mark and not packed.exists():
            return ArchivePath(packed.archive, file), inner
        return packed, ""
    where, _, inner = str(place).rpartition("::")
    is_link = "://" in inner or (isinstance(place, Path | str) and os.path.exists(place))
    if where and inner and not is_link:
        return Path(where) if isinstance(place, Path) else locate(where), inner
    return locate(place), ""


def look_at(place: Location) -> Entry | None:
    """Returns what is there; None for nothing, and for what is neither a file nor a directory.

    Raises:
        RemoteError: for whatever the file system behind a URL raises.
        UsageError: if fsspec does not know the protocol, or lacks the package for it.
    """
    if isinstance(place, Path):
        try:
            return _local_entry(place.name, place.stat())
        except (OSError, ValueError):  # a name that no file can have
            return None
    if isinstance(place, ArchivePath):
        return _packed_entry(place) if place.exists() else None
    return place.look()


def list_folder(folder: Location) -> list[Entry]:
    """Returns what a folder holds, in any order, without hidden names and special files.

    Links are followed; behind a URL, where they may lead in a circle, those to folders are not.

    Raises:
        OSError: if it cannot be listed; behind a URL RemoteError, with `errno.ENOENT` if gone.
    """
    if isinstance(folder, ArchivePath):
        names = read_archive(folder.archive).folders.get(folder.member, ())
        found: Iterable[Entry | None] = (_packed_entry(folder / name) for name in names)
    else:
        found = _local_entries(folder) if isinstance(folder, Path) else folder.entries()
    return [entry for entry in found if entry is not None and not entry.name.startswith(".")]


def _packed_entry(place: ArchivePath) -> Entry:
    member = read_archive(place.archive).members.get(place.member)
    if member is None:
        return Entry(place.name, 0, 0, is_folder=True)
    return Entry(place.name, member.size, member.stamp, is_folder=False)


def _local_entries(folder: Path) -> Iterator[Entry | None]:
    with os.scandir(folder) as names:
        for name in names:
            try:
                yield _local_entry(name.name, name.stat())
            except OSError:
                yield Entry(name.name, UNKNOWN, UNKNOWN, is_folder=False)


def _local_entry(name: str, status: os.stat_result) -> Entry | None:
    is_folder = stat.S_ISDIR(status.st_mode)
    if not is_folder and not stat.S_ISREG(status.st_mode):
        return None
    identity = (status.st_dev, status.st_ino) if is_folder else None
    return Entry(name, status.st_size, status.st_mtime_ns, is_folder, identity)
