"""The sources under CLIPS, in an order that people expect, and what identifies their content."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ldf_video.errors import ReadError, UsageError
from ldf_video.video.series import Series, find_series

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UNKNOWN = -1


@dataclass(frozen=True)
class Source:
    """One file that may hold clips, or one series of numbered pictures.

    Attributes:
        path: where it is; of a series, its folder.
        name: POSIX path relative to CLIPS, or the file's own name when CLIPS is a file. A series is
            named by the path of its folder and its pattern, such as `walk/frame_*.png`.
        size: in bytes, of all pictures together; -1 if the file could not be looked at.
        mtime_ns: time of the last change in nanoseconds; -1 if the file could not be looked at. A
            series has a number in its place that changes with any picture's name, size or time.
        series: the pictures, None for a file.
    """

    path: Path
    name: str
    size: int
    mtime_ns: int
    series: Series | None = None


def find_sources(clips: Path) -> list[Source]:
    """Lists all that may be read under `clips` (or `clips` itself) in natural order of names.

    Each series of numbered pictures (see `find_series`) is one source, each other regular file is
    one. Names that start with a dot are hidden, and so is all below a hidden directory. Links are
    followed, each real directory once, so loops end. A file that cannot be looked at is listed all
    the same (size and time -1): reading it will say why.

    Raises:
        UsageError: if `clips` does not exist, is neither file nor directory, or holds no file.
    """
    if clips.is_file():
        return [_file_source(clips, clips.name)]
    if not clips.is_dir():
        state = "is neither a file nor a directory" if clips.exists() else "does not exist"
        raise UsageError(
            f"{clips} {state}; expected a video or a directory of videos; check the path"
        )
    found = [
        source for folder, names in _walk(clips) for source in _sources_in(folder, names, clips)
    ]
    if not found:
        raise UsageError(
            f"{clips} holds no file; expected at least one video; put your clips there"
        )
    return sorted(found, key=lambda source: natural_key(source.name))


def folder_series(folder: Path) -> Series:
    """Returns the only series of numbered pictures in a folder, for who names the folder itself.

    Raises:
        ReadError: if there is none, or more than one.
    """
    try:
        names = [name for name in os.listdir(folder) if not name.startswith(".")]
    except OSError as error:
        raise ReadError(f"cannot be read: {error.strerror or error}") from error
    series = find_series(folder, [n for n in names if _is_regular_or_unknown(folder / n)])
    if len(series) != 1:
        found = f"{len(series):,} series" if series else "no series"
        raise ReadError(f"a directory with {found} of numbered pictures, expected one")
    return series[0]


def natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Returns a sort key that puts clip2 before clip10; ties fall back to code points."""
    parts = re.split(r"([0-9]+)", name.casefold())
    return [
        (1, 0, part) if i % 2 == 0 else (0, int(part), "") for i, part in enumerate(parts)
    ], name


def source_digest(source: Source) -> str:
    """Returns what identifies a source's content, 64 hex digits; files are read in blocks.

    Of a file it is the sha256 of its bytes; of a series the sha256 of its pictures' sha256, 32
    bytes each, in order.

    Raises:
        ReadError: if a file cannot be read.
    """
    if source.series is None:
        return _file_digest(source.path).hex()
    digest = hashlib.sha256()
    for path in source.series.paths():
        try:
            digest.update(_file_digest(path))
        except ReadError as error:
            raise ReadError(f"{path.name}: {error}") from error
    return digest.hexdigest()


def _file_digest(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise ReadError(f"cannot be read: {error.strerror or error}") from error


def _sources_in(folder: Path, names: list[str], clips: Path) -> Iterator[Source]:
    all_series = find_series(folder, names)
    in_series = {name for series in all_series for name in series.names}
    place = folder.relative_to(clips)
    for series in all_series:
        yield _series_source(series, (place / series.pattern).as_posix())
    for name in names:
        if name not in in_series:
            yield _file_source(folder / name, (place / name).as_posix())


def _file_source(path: Path, name: str) -> Source:
    return Source(path, name, *_size_and_time(path))


def _series_source(series: Series, name: str) -> Source:
    total_bytes, listing = 0, hashlib.sha256()
    for path in series.paths():
        num_bytes, mtime_ns = _size_and_time(path)
        total_bytes += max(num_bytes, 0)
        listing.update(f"{path.name}/{num_bytes}/{mtime_ns}/".encode(errors="surrogateescape"))
    # Of the latest time alone a swap of two pictures, or an older one in place of another, is not
    # seen. 63 bits: SQLite's integers have a sign.
    stamp = int.from_bytes(listing.digest()[:8], "big") >> 1
    return Source(series.folder, name, total_bytes, stamp, series)


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return UNKNOWN, UNKNOWN
    return status.st_size, status.st_mtime_ns


def _walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yields each directory, once, with the names of its regular files."""
    seen: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        directory = waiting.pop()
        try:
            status = directory.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            names = [name for name in os.listdir(directory) if not name.startswith(".")]
        except OSError:
            continue  # vanished, or closed to us: it holds nothing that could be reported
        folders = [name for name in names if os.path.isdir(directory / name)]
        # Reversed, as the last in is the first out: of two ways to a directory the first counts.
        folders.sort(key=natural_key, reverse=True)
        waiting += [directory / name for name in folders]
        files = set(names).difference(folders)
        yield directory, [name for name in files if _is_regular_or_unknown(directory / name)]


def _is_regular_or_unknown(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True
