"""Files in a zip or tar archive of this machine, read where they lie: nothing is unpacked."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import posixpath
import tarfile
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from ldf_video.errors import reason_of
from ldf_video.files.folders import is_zarr
from ldf_video.files.inflated import GZIP, RAW, Checkpoints, Inflated, Window

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
_KEPT_ARCHIVES = 8
_BUFFER_BYTES = 2**16
_BOMB_BYTES, _BOMB_RATIO = 2**30, 200
_LOCAL_HEADER = 30  # bytes, of which 26 to 29 say how long what follows is (APPNOTE.TXT, 4.3.7)
_ENCRYPTED = 1
_ERRORS = (zipfile.BadZipFile, tarfile.TarError, EOFError, ValueError, NotImplementedError)


class ArchiveError(OSError):
    """An archive, or a member of one, that is not read. One line."""


class Member(NamedTuple):
    """A file in an archive.

    Attributes:
        begin: where its header (zip) or its bytes (tar) begin.
        size: in bytes, unpacked.
        packed: in bytes, as it lies in the archive.
        stamp: a number that changes with its content.
        is_deflated: whether it is packed.
        fault: why it is not read, else "".
    """

    begin: int
    size: int
    packed: int
    stamp: int
    is_deflated: bool = False
    fault: str = ""


@dataclass
class Archive:
    """What an archive holds, found once.

    Attributes:
        path: of the archive.
        members: by their path within it.
        folders: what each holds: files and, with a slash behind them, folders.
        fault: what is wrong with some of it, "" for nothing.
    """

    path: Path
    members: dict[str, Member] = field(default_factory=dict)
    folders: dict[str, set[str]] = field(default_factory=lambda: {"": set()})
    fault: str = ""
    _checkpoints: Checkpoints | None = None  # of a tar that is packed as a whole

    def open(self, name: str) -> io.BufferedReader:
        """Opens a member; memory does not grow with its size."""
        member = self.members.get(name)
        if member is None:
            raise FileNotFoundError(2, "no such file in the archive")
        if member.fault:
            raise ArchiveError(member.fault)
        raw = open_whole(self.path, self._checkpoints)
        try:
            begin = member.begin
            if self.path.suffix.lower() == ".zip":
                begin = begin_of(raw, begin)
            if member.is_deflated:
                packed = Window(raw, begin, member.packed)
                return io.BufferedReader(Inflated(packed, member.size, RAW), _BUFFER_BYTES)
            return io.BufferedReader(Window(raw, begin, member.size), _BUFFER_BYTES)
        except BaseException:
            raw.close()
            raise

    def add(self, name: str, member: Member) -> None:
        """Adds a file, and the folders that it lies in."""
        self.members[name] = member
        while name:
            folder, _, last = name.rpartition("/")
            known = folder in self.folders
            self.folders.setdefault(folder, set()).add(last)
            if known:
                break
            name = folder

    def leave_out(self, names: Iterable[str]) -> None:
        """Says which members are none of a folder."""
        outside = list(names)
        if outside and not self.fault:
            self.fault = (
                f"{len(outside):,} of its files would lie outside of it, such as {outside[0]!r}: "
                "left out"
            )


def open_whole(path: Path, checkpoints: Checkpoints | None) -> BinaryIO:
    """Opens an archive, or what it is packed of, where that is kept in `checkpoints`."""
    file = path.open("rb")
    if checkpoints is None:
        return file
    return io.BufferedReader(Inflated(file, None, GZIP, checkpoints), _BUFFER_BYTES)


def begin_of(file: BinaryIO, header: int) -> int:
    """Returns where the bytes of a zip's member begin: behind its own header, of this place."""
    file.seek(header)
    own = file.read(_LOCAL_HEADER)
    sizes = (int.from_bytes(own[place : place + 2], "little") for place in (26, 28))
    return header + _LOCAL_HEADER + sum(sizes)


def fault_of(error: Exception) -> str:
    """Returns what is wrong with an archive, of what zipfile, tarfile or zlib says."""
    if str(error) == "File is not a zip file":
        return "its list of files, at its end, is missing; copy it again"
    return reason_of(error) if str(error) else "it ends early"


def is_archive_name(name: str) -> bool:
    """Returns whether a file is one by its suffix; what else is packed is no archive of clips."""
    return name.lower().endswith(ARCHIVE_SUFFIXES)


def is_zarr_archive(path: object) -> bool:
    """Returns whether a place is a file that is a zarr store, whose files are pieces of arrays."""
    if not isinstance(path, Path) or path.suffix.lower() != ".zip":
        return False
    with contextlib.suppress(OSError):
        folders = read_archive(path).folders
        if is_zarr("", folders[""]):
            return True
        # A folder that was packed as a whole lies in the archive under its own name.
        inner = any(is_zarr(name, folders[name]) for name in folders[""] & folders.keys())
        return is_zarr(path.stem, ()) and not inner
    return False


def files_below(folder: Path | ArchivePath) -> Iterator[Path | ArchivePath]:
    """Yields all files below a folder, hidden ones too, in an order that is the same everywhere."""
    if isinstance(folder, ArchivePath):
        start = f"{folder.member}/" if folder.member else ""
        packed = (name for name in read_archive(folder.archive).members if name.startswith(start))
        for name in sorted(packed, key=lambda name: name.split("/")):
            yield ArchivePath(folder.archive, name)
        return
    with os.scandir(folder) as names:
        entries = sorted(names, key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_dir():
            yield from files_below(folder / entry.name)
        else:
            yield folder / entry.name


def is_packed(head: bytes) -> bool:
    """Returns whether a file begins as an archive does, that of a tar apart."""
    return head.startswith((b"PK", b"\x1f\x8b"))


def read_archive(path: Path) -> Archive:
    """Returns what an archive holds; the last few are kept.

    Raises:
        OSError: if it cannot be read, or is none; the message is one line.
    """
    status = path.stat()
    return _read_archive(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(_KEPT_ARCHIVES)
def _read_archive(path: Path, size: int, mtime_ns: int) -> Archive:
    archive = Archive(path)
    try:
        if path.suffix.lower() == ".zip":
            archive.leave_out(_read_zip(archive, size))
        else:
            archive.leave_out(_read_tar(archive))
    except _ERRORS as error:
        raise ArchiveError(f"a damaged archive: {fault_of(error)}") from error
    return archive


def _read_zip(archive: Archive, num_bytes: int) -> Iterator[str]:
    total = 0
    with zipfile.ZipFile(archive.path) as file:
        for info in file.infolist():
            total += info.compress_size
            if info.filename.endswith("/"):  # is_dir() fails where there is no name
                continue
            name = _inside(info.filename)
            if name is None:
                yield info.filename
                continue
            date = zlib.crc32(repr(info.date_time).encode()) >> 1
            archive.add(
                name,
                Member(
                    *(info.header_offset, info.file_size, info.compress_size),
                    stamp=info.CRC << 31 | date,
                    is_deflated=info.compress_type == zipfile.ZIP_DEFLATED,
                    fault=_zip_fault(info),
                ),
            )
    if total > num_bytes:
        raise ArchiveError("its members overlap, as those of a zip bomb")


def _zip_fault(info: zipfile.ZipInfo) -> str:
    if info.flag_bits & _ENCRYPTED:
        return "it is encrypted: unpack the archive with its password"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"it is packed by method {info.compress_type} of zip: unpack the archive"
    if info.file_size > max(_BOMB_BYTES, _BOMB_RATIO * info.compress_size):
        sizes = f"{info.compress_size:,} bytes to {info.file_size:,}"
        return f"it unpacks from {sizes}, as a zip bomb does: unpack the archive if you trust it"
    return ""


def _read_tar(archive: Archive) -> Iterator[str]:
    if not archive.path.name.lower().endswith(".tar"):
        archive._checkpoints = Checkpoints()
    links = list[tuple[str, str]]()
    with contextlib.closing(open_whole(archive.path, archive._checkpoints)) as file:
        tar = tarfile.TarFile(fileobj=file)
        try:
            for info in tar:
                name = _inside(info.name)
                if info.isdir():
                    continue
                if name is None:
                    yield info.name
                elif info.issparse():
                    fault = "it has holes: unpack the archive"
                    archive.add(name, Member(info.offset_data, info.size, 0, 0, fault=fault))
                elif info.isreg():
                    stamp = int(info.mtime * 1e9)
                    archive.add(name, Member(info.offset_data, info.size, info.size, stamp))
                elif info.islnk():
                    links.append((name, info.linkname))
                elif info.issym():
                    links.append((name, posixpath.join(posixpath.dirname(name), info.linkname)))
        except (tarfile.TarError, OSError) as error:
            if not archive.members:
                raise
            archive.fault = f"a damaged archive: {error}; what comes before is read"
    for name, target in links:
        member = archive.members.get(_inside(target) or "")
        if member is not None:
            archive.add(name, member)


def _inside(name: str) -> str | None:
    """A member's path without what changes nothing; None if it leads out of the archive."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    if name.startswith(("/", "\\")) or ".." in parts or not parts or parts[0][1:] == ":":
        return None
    return "/".join(parts)


@dataclass(frozen=True, slots=True)
class ArchivePath:
    """A file or folder in an archive; has what reading needs of `pathlib.Path`.

    Attributes:
        archive: the file.
        member: POSIX path in it; empty for all of it.
    """

    archive: Path
    member: str = ""

    def __truediv__(self, name: str) -> ArchivePath:
        return ArchivePath(self.archive, f"{self.member}/{name}".strip("/")) if name else self

    def __str__(self) -> str:
        return f"{self.archive}::{self.member}"

    @property
    def name(self) -> str:
        """The last part; of the whole archive, its file's."""
        return self.member.rpartition("/")[2] or self.archive.name

    @property
    def suffix(self) -> str:
        return os.path.splitext(self.name)[1]

    @property
    def parent(self) -> ArchivePath:
        return ArchivePath(self.archive, self.member.rpartition("/")[0])

    def open(self, mode: str = "rb") -> io.BufferedReader:
        """Opens the file to be read; an OSError says in one line why that is not possible."""
        assert mode == "rb"
        return read_archive(self.archive).open(self.member)

    def is_dir(self) -> bool:
        """Returns whether it is a folder; False where that cannot be told."""
        with contextlib.suppress(OSError):
            return self.member in read_archive(self.archive).folders
        return False

    def exists(self) -> bool:
        """Returns whether it is there; False where that cannot be told."""
        with contextlib.suppress(OSError):
            return self.is_dir() or self.member in read_archive(self.archive).members
        return False


def archive_place(text: str) -> ArchivePath | None:
    """Returns what `clips.zip::walk`, or `zip://walk::clips.zip`, names; None for other places."""
    protocol, mark, rest = text.partition("://")
    if mark and protocol in ("zip", "tar"):
        member, _, archive = rest.rpartition("::")
    else:
        archive, mark, member = text.partition("::")
    if not mark or "://" in archive or not is_archive_name(archive):
        return None
    if is_zarr_archive(Path(archive)):
        return None
    return ArchivePath(Path(archive), member.strip("/"))
