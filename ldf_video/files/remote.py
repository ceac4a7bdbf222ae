"""Files and folders behind a URL: whatever fsspec knows. The only user of fsspec."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ldf_video.errors import UsageError, reason_of
from ldf_video.files.entry import UNKNOWN, Entry
from ldf_video.files.inflated import Part

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

GONE_OR_CLOSED = (errno.ENOENT, errno.EACCES)  # what a RemoteError has that is of the file alone
BLOCK_BYTES = 2**20  # what is asked of the network at once; backends' own are up to 50 MiB
_BUFFER_BYTES = 2**16
_TIMES = ("mtime", "LastModified", "last_modified", "updated", "modified", "created")
_VERSIONS = ("ETag", "etag", "md5Hash", "md5", "crc32c", "checksum", "CRC")


class RemoteError(OSError):
    """A file system behind a URL failed, which says nothing about the file. One line."""


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
            size = file.seek(0, io.SEEK_END)
            return io.BufferedReader(_RemoteFile(file, size, system), _BUFFER_BYTES)

    def is_dir(self) -> bool:
        """Returns whether it is a folder; False where that cannot be told."""
        with contextlib.suppress(OSError):
            entry = self.look()
            return entry is not None and entry.is_folder
        return False

    def look(self) -> Entry | None:
        """Returns what is there; see `locations.look_at`."""
        _check_protocols(self.url)
        try:
            with _remote_errors():
                system, path = self._connect()
                system.invalidate_cache(path)
                entry = _remote_entry(self.name, system.info(path))
        except RemoteError as error:
            if error.errno == errno.ENOENT:
                return None
            raise
        if entry is None:
            raise RemoteError("neither a file nor a folder")
        return entry

    def entries(self) -> Iterator[Entry | None]:
        """Yields what the folder holds, hidden names too, None for special files.

        Raises:
            RemoteError: if it cannot be listed.
        """
        with _remote_errors():
            system, path = self._connect()
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

    def _connect(self) -> tuple[Any, str]:
        """The file system, which fsspec keeps and gives again, and the path within it."""
        import fsspec  # slow to load, and not needed for the files of this machine

        system, path = fsspec.core.url_to_fs(self.url)
        return system, f"{path.rstrip('/')}/{self.relative}" if self.relative else path


def is_remote_failure(error: BaseException | None) -> bool:
    """Returns whether an error goes back to a RemoteError."""
    while error is not None and not isinstance(error, RemoteError):
        error = error.__cause__
    return error is not None


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


class _RemoteFile(Part):
    """A file of fsspec with a position of its own: some file systems share theirs among readers."""

    def __init__(self, file: Any, size: int, system: Any) -> None:
        super().__init__(file, size)
        self._system = system  # archives close where nobody refers to them

    def _bytes(self, num_bytes: int) -> bytes:
        with _remote_errors():
            self._file.seek(self._position)
            data: bytes = self._file.read(num_bytes)
        if not data:
            raise RemoteError(f"it ended after {self._position:,} of {self._size:,} bytes")
        return data

    def close(self) -> None:
        with contextlib.suppress(Exception):  # nothing was written: there is nothing to lose
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
