"""What identifies the content of a source, and what shows that its files have changed."""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import replace
from itertools import chain, islice
from typing import TYPE_CHECKING

from ldf_video.errors import ReadError, reason_of
from ldf_video.files.archives import ArchivePath
from ldf_video.files.remote import RemotePath

if TYPE_CHECKING:
    from collections.abc import Callable

    from ldf_video.files.locations import Location
    from ldf_video.sources.source import Source

_OFF = "off"  # of the actions within a source, where a file beside it tells
_MOST_STAMPED = 1000  # files of a folder, of which all are looked at again at each clip
_BLOCK_BYTES = 2**18


def source_digest(source: Source, *, alive: Callable[[], None] = lambda: None) -> str:
    """Returns what identifies a source's content, 64 hex digits.

    Of a file it is the sha256 of its bytes; of a series the sha256 of its pictures' sha256, 32
    bytes each, in order. Of a file that holds arrays by name it is that of the arrays that are
    clips, as they lie in it: what else it holds is not read. `alive` is called after every block,
    as a sign of life. Where a file tells of its frames, its sha256 is part of it.

    Raises:
        ReadError: if a file cannot be read.
    """
    if source.part is not None and source.part.problem:
        raise ReadError(source.part.problem)
    if source.conditions_path is not None:
        layout = replace(source.layout, actions=_OFF)
        pixels = source_digest(replace(source, conditions="", layout=layout), alive=alive)
        told = _bytes_digest(source.conditions_path, alive)
        return hashlib.sha256(bytes.fromhex(pixels) + told).hexdigest()
    if source.series is None:
        return _file_digest(source, alive).hex()
    digest = hashlib.sha256()
    for path in source.files():
        try:
            digest.update(_bytes_digest(path, alive))
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
    files = islice(source.files(), None if source.series else _MOST_STAMPED)
    told = source.conditions_path
    for path in chain(files, () if told is None else (told,)):
        found = "gone"
        with contextlib.suppress(OSError):
            status = os.stat(path.archive if isinstance(path, ArchivePath) else str(path))
            found = f"{status.st_size} {status.st_mtime_ns}"  # inodes change on some networks
        stamp.update(f"{found}\n".encode())
        alive()
    return stamp.hexdigest()


def _file_digest(source: Source, alive: Callable[[], None]) -> bytes:
    from ldf_video.clips.formats import format_of  # loads the decoders, which takes a while

    content = format_of(source).content
    if content is None:
        return _bytes_digest(source.path, alive)
    digest = hashlib.sha256()
    try:
        for block in content(source):
            digest.update(len(block).to_bytes(8, "little") + block)
            alive()
    except OSError as error:
        raise ReadError(f"cannot be read: {reason_of(error)}") from error
    return digest.digest()


def _bytes_digest(path: Location, alive: Callable[[], None]) -> bytes:
    digest, block = hashlib.sha256(), memoryview(bytearray(_BLOCK_BYTES))
    try:
        with path.open("rb") as file:
            while num_bytes := file.readinto(block):
                digest.update(block[:num_bytes])
                alive()
    except OSError as error:
        raise ReadError(f"cannot be read: {reason_of(error)}") from error
    return digest.digest()
