"""The files under CLIPS, in an order that people expect, and what identifies their content."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ldf_video.errors import ReadError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UNKNOWN = -1


@dataclass(frozen=True)
class Source:
    """One file that may hold clips.

    Attributes:
        path: where it is.
        name: POSIX path relative to CLIPS, or the file's own name when CLIPS is a file.
        size: in bytes; -1 if the file could not be looked at.
        mtime_ns: time of the last change in nanoseconds; -1 if the file could not be looked at.
    """

    path: Path
    name: str
    size: int
    mtime_ns: int


def find_sources(clips: Path) -> list[Source]:
    """Lists every regular file under `clips` (or `clips` itself) in natural order of names.

    Names that start with a dot are hidden, and so is all below a hidden directory. Links are
    followed, each real directory once, so loops end. A file that cannot be looked at is listed all
    the same (size and time -1): reading it will say why.

    Raises:
        UsageError: if `clips` does not exist, is neither file nor directory, or holds no file.
    """
    if clips.is_file():
        return [_source(clips, clips.name)]
    if not clips.is_dir():
        state = "is neither a file nor a directory" if clips.exists() else "does not exist"
        raise UsageError(
            f"{clips} {state}; expected a video or a directory of videos; check the path"
        )
    found = [_source(path, path.relative_to(clips).as_posix()) for path in _walk(clips)]
    if not found:
        raise UsageError(
            f"{clips} holds no file; expected at least one video; put your clips there"
        )
    return sorted(found, key=lambda source: natural_key(source.name))


def natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Returns a sort key that puts clip2 before clip10; ties fall back to code points."""
    parts = re.split(r"([0-9]+)", name.casefold())
    return [
        (1, 0, part) if i % 2 == 0 else (0, int(part), "") for i, part in enumerate(parts)
    ], name


def source_digest(source: Source) -> str:
    """Returns the sha256 of the source's bytes as 64 hex digits, read in blocks.

    Raises:
        ReadError: if the file cannot be read.
    """
    try:
        with source.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ReadError(f"cannot be read: {error.strerror or error}") from error


def _source(path: Path, name: str) -> Source:
    try:
        status = path.stat()
    except OSError:
        return Source(path, name, UNKNOWN, UNKNOWN)
    return Source(path, name, status.st_size, status.st_mtime_ns)


def _walk(root: Path) -> Iterator[Path]:
    seen: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        directory = waiting.pop()
        try:
            status = directory.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            names = sorted(os.listdir(directory), key=natural_key)
        except OSError:
            continue  # vanished, or closed to us: it holds nothing that could be reported
        paths = [directory / name for name in names if not name.startswith(".")]
        # Reversed, as the last in is the first out: of two ways to a directory the first counts.
        waiting += [path for path in reversed(paths) if os.path.isdir(path)]
        yield from (
            path for path in paths if not os.path.isdir(path) and _is_regular_or_unknown(path)
        )


def _is_regular_or_unknown(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True
