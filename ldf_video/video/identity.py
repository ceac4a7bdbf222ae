"""What identifies the content of a source, and what shows that its files have changed."""

from __future__ import annotations

import contextlib
import hashlib
import os
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ldf_video.errors import ReadError
from ldf_video.video.archives import ArchivePath
from ldf_video.video.files import RemotePath, reason_of
from ldf_video.video.folders import files_below

if TYPE_CHECKING:
    from collections.abc import Callable

    from ldf_video.video.files import Location
    from ldf_video.video.sources import Source

_MOST_STAMPED = 1000  # files of a folder, of which all are looked at again at each clip
_BLOCK_BYTES = 2**18


def source_digest(source: Source, *, alive: Callable[[], None] = lambda: None) -> str:
    """Returns what identifies a source's content, 64 hex digits.

    Of a file it is the sha256 of its bytes; of a series the sha256 of its pictures' sha256, 32
    bytes each, in order; of a part of a file the sha256 of its sha256 and of the part's path.
    Of a folder it is that of the names and the sha256 of its files. `alive` is called after every
    block of a file, as a sign of life.

    Raises:
        ReadError: if a file cannot be read.
    """
    if source.part is not None and source.part.problem:
        raise ReadError(source.part.problem)
    if source.series is None:
        if source.is_folder:
            whole = _folder_digest(source.path, alive)
        else:
            whole = _file_digest(source.path, alive)
        if source.inner:
            whole = hashlib.sha256(whole + source.inner.encode()).digest()
        return whole.hex()
    digest = hashlib.sha256()
    for path in source.files():
        try:
            digest.update(_file_digest(path, alive))
        except ReadError as error:
            raise ReadError(f"{path.name}: {error}") from error
    return digest.hexdigest()


def source_stamp(source: Source, *, alive: Callable[[], None] = lambda: None) -> str:
    """Returns what changes with the size or time of any file of a source, as it is now.

    Behind a URL, where each look is a request, it is empty. `alive` is called after every file.
    """
    if isinstance(source.root, RemotePath):
        return ""
    stamp = hashlib.sha256()
    for path in islice(source.files(), None if source.series else _MOST_STAMPED):
        found = "gone"
        with contextlib.suppress(OSError):
            status = os.stat(path.archive if isinstance(path, ArchivePath) else str(path))
            found = f"{status.st_size} {status.st_mtime_ns}"  # inodes change on some networks
        stamp.update(f"{found}\n".encode())
        alive()
    return stamp.hexdigest()


def _file_digest(path: Location, alive: Callable[[], None]) -> bytes:
    digest, block = hashlib.sha256(), memoryview(bytearray(_BLOCK_BYTES))
    try:
        with path.open("rb") as file:
            while num_bytes := file.readinto(block):
                digest.update(block[:num_bytes])
                alive()
    except OSError as error:
        raise ReadError(f"cannot be read: {reason_of(error)}") from error
    return digest.digest()


def _folder_digest(folder: Location, alive: Callable[[], None]) -> bytes:
    digest = hashlib.sha256()
    root = Path(str(folder))  # behind a URL it is no folder that can be read
    for path in files_below(root) if root.is_dir() else ():
        digest.update(path.relative_to(root).as_posix().encode(errors="surrogateescape"))
        digest.update(_file_digest(path, alive))
    return digest.digest()
