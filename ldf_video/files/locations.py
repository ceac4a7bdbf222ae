"""Where clips lie: a path of this machine, or a URL of a file system that fsspec knows.

The only user of fsspec. A `RemotePath` has what reading needs of `pathlib.Path`, so the rest of
this room need not know which of the two it has.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import re
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from ldf_video.errors import UsageError
from ldf_video.files.archives import ArchivePath, archive_place, read_archive

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

UNKNOWN = -1
GONE_OR_CLOSED = (errno.ENOENT, errno.EACCES)  # what a RemoteError has that is of the file alone
BLOCK_BYTES = 2**20  # what is asked of the network at once; backends' own are up to 50 MiB
_BUFFER_BYTES = 2**16
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(::[^/]*)?://")
_TIMES = ("mtime", "LastModified", "last_modified", "updated", "modified", "created")
_VERSIONS = ("ETag", "etag", "md5Hash", "md5", "crc32c", "checksum", "CRC")


class RemoteError(OSError):
    """A file system behind a URL failed, which says nothing about the file. One line."""


class Entry(NamedTuple):
    """What a folder holds under one name.

    Attributes:
        name: without the folder.
        size: in bytes; -1 if unknown.
        mtime_ns: time of the last change in nanoseconds, or a number of 63 bits that changes with
            the content; 0 if the file system tells neither, -1 if the file could not be looked at.
        is_folder: whether it is one; else it is a file.
        identity: of a folder to which several ways may lead, what is the same on all of them.
    """

    name: str
    size: int
    mtime_ns: int
    is_folder: bool
    identity: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class RemotePath:
    """A file or folder of a file system that fsspec knows.

    Attributes:
        url: of the folder, or the file, that was given; links such as
            `zip://clips::s3://bucket/all.zip` are kept as they are.
        relative: from there on, POSIX; empty for the place itself.
    """

    url: str
    relative: str = ""

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(self.url, f"{self.relative}/{name}".strip("/")) if name else self

    def __str__(self) -> str:
        if not self.relative:
            return self.url
        first, *links = self.url.split("::")
        return "::".join([f"{first.rstrip('/')}/{self.relative}", *links])

    @property
    def name(self) -> str:
        """The last part; empty for the root of a file system."""
        return self.relative.rpartition("/")[2] if self.relative else _split(self.url)[1]

    @property
    def suffix(self) -> str:
        return os.path.splitext(self.name)[1]

    @property
    def parent(self) -> RemotePath:
        if self.relative:
            return RemotePath(self.url, self.relative.rpartition("/")[0])
        return RemotePath(_split(self.url)[0])

    def open(self, mode: str = "rb") -> io.BufferedReader:
        """Opens the file to be read, with at most a few MiB of it in memory.

        Raises:
            RemoteError: for whatever the file system raises, here and at every read.
        """
        assert mode == "rb"
        with _remote_errors():
            system, path = self._connect()
            file = system.open(path, "rb", block_size=BLOCK_BYTES, cache_type="readahead")
            return io.BufferedReader(_RemoteFile(file, system), _BUFFER_BYTES)

    def is_dir(self) -> bool:
        """Returns whether it is a folder; False where that cannot be told."""
        with contextlib.suppress(OSError):
            entry = look_at(self)
            return entry is not None and entry.is_folder
        return False

    def _connect(self) -> tuple[Any, str]:
        """The file system, which fsspec keeps and gives again, and the path within it."""
        import fsspec  # slow to load, and not needed for the files of this machine

        system, path = fsspec.core.url_to_fs(self.url)
        return system, f"{path.rstrip('/')}/{self.relative}" if self.relative else path


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
        except OSError:
            return None
    if isinstance(place, ArchivePath):
        return _packed_entry(place) if place.exists() else None
    _check_protocols(place.url)
    try:
        with _remote_errors():
            system, path = place._connect()
            system.invalidate_cache(path)
            entry = _remote_entry(place.name, system.info(path))
    except RemoteError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    if entry is None:
        raise RemoteError("neither a file nor a folder")
    return entry


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
        found = _local_entries(folder) if isinstance(folder, Path) else _remote_entries(folder)
    return [entry for entry in found if entry is not None and not entry.name.startswith(".")]


def reason_of(error: Exception) -> str:
    """Returns the first line of what an error says, for one that may say nothing."""
    said = str(getattr(error, "strerror", None) or error).strip() or type(error).__name__
    return said.splitlines()[0]


def is_remote_failure(error: BaseException | None) -> bool:
    """Returns whether an error goes back to a RemoteError."""
    while error is not None and not isinstance(error, RemoteError):
        error = error.__cause__
    return error is not None


class _RemoteFile(io.RawIOBase):
    """A file of fsspec with a position of its own: some file systems share theirs among readers."""

    def __init__(self, file: Any, system: Any) -> None:
        super().__init__()
        self._file, self._position = file, 0
        self._system = system  # archives close where nobody refers to them
        self._size = file.seek(0, io.SEEK_END)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        position = offset + (0, self._position, self._size)[whence]
        if position < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._position = position
        return position

    def readinto(self, buffer: Any) -> int:
        if self._position >= self._size:
            return 0
        with _remote_errors():
            self._file.seek(self._position)
            data = self._file.read(len(buffer))
        if not data:
            raise RemoteError(f"it ended after {self._position:,} of {self._size:,} bytes")
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            with contextlib.suppress(Exception):  # nothing was written: there is nothing to lose
                self._file.close()
        super().close()


@contextlib.contextmanager
def _remote_errors() -> Iterator[None]:
    """Turns what file systems raise, each its own, into RemoteError."""
    try:
        yield
    except RemoteError:
        raise
    except (FileNotFoundError, PermissionError) as error:  # often with a path in place of a reason
        number = errno.ENOENT if isinstance(error, FileNotFoundError) else errno.EACCES
        raise RemoteError(number, os.strerror(number)) from error
    # A boundary: botocore, aiohttp and others derive their errors from Exception alone.
    except Exception as error:
        raise RemoteError(reason_of(error)) from error


def _check_protocols(url: str) -> None:
    """Checks that fsspec can open each link of a URL."""
    import fsspec

    for link in url.split("::"):
        protocol = link.partition("://")[0]
        try:
            fsspec.get_filesystem_class(protocol)
        except (ImportError, ValueError) as error:
            advice = "expected a path, or a URL that fsspec knows, such as s3://bucket/clips"
            if isinstance(error, ImportError):
                advice = f"reading from {protocol}:// needs that package; install it with pip"
            raise UsageError(f"{url}: {reason_of(error)}; {advice}") from error


def _split(url: str) -> tuple[str, str]:
    """The URL of the folder that holds what a URL names, and the name within it."""
    links = url.split("::")
    index = next(number for number, link in enumerate(links) if "://" in link)
    protocol, _, path = links[index].partition("://")
    folder, slash, name = path.rstrip("/").rpartition("/")
    links[index] = f"{protocol}://{folder}{slash}"
    return "::".join(links), name


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


def _remote_entries(folder: RemotePath) -> Iterator[Entry | None]:
    with _remote_errors():
        system, path = folder._connect()
        system.invalidate_cache(path)
        here = f"/{path.strip('/')}".rstrip("/")
        for listed in system.ls(path, detail=True):
            place, _, name = f"/{listed['name'].strip('/')}".rpartition("/")
            if not name or place != here:  # the folder itself, or what lies elsewhere
                continue
            info = listed
            if listed.get("islink"):
                try:
                    info = system.info(listed["name"])
                except OSError:
                    info = {"type": "file"}  # it leads nowhere: reading it will say so
                if info["type"] == "directory":
                    continue
            yield _remote_entry(name, info)
        system.invalidate_cache(path)  # a listing of a million files is large


def _remote_entry(name: str, info: Mapping[str, Any]) -> Entry | None:
    if info["type"] not in ("file", "link", "directory"):
        return None
    size = info.get("size")
    size = UNKNOWN if size is None else int(size)
    return Entry(name, size, _stamp(info), is_folder=info["type"] == "directory")


def _stamp(info: Mapping[str, Any]) -> int:
    """See `Entry.mtime_ns`."""
    for key in _TIMES:
        if (time_ns := _nanoseconds(info.get(key))) is not None:
            return time_ns
    version = next((info[key] for key in _VERSIONS if info.get(key)), None)
    if version is None:
        return 0
    digest = hashlib.sha256(str(version).encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _nanoseconds(time: object) -> int | None:
    """A time as file systems give it, each its own way: seconds, a date, a date as text."""
    if isinstance(time, str):
        with contextlib.suppress(ValueError):
            time = datetime.fromisoformat(time)
    if isinstance(time, datetime):
        time = (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    return int(time * 1e9) if isinstance(time, (int, float)) else None
