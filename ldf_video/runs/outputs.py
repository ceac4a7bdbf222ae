"""Checks of output paths, made before the work: they can be written, and are no input."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from ldf_video.errors import LdfError, UsageError
from ldf_video.video.files import Location, locate
from ldf_video.video.sources import Source

Identity = tuple[int, int]


def check_files(
    outputs: Iterable[tuple[str, Path | None]], *, inputs: Iterable[Source | str | Path]
) -> None:
    """Check that files can be written and are no input, by whatever name; touches nothing.

    Args:
        outputs: options, and the file that each names; None where it is not given.
        inputs: sources and files that are read.

    Raises:
        UsageError: one is an input, or what another option writes, or something else is in the way.
        LdfError: there may be no file at such a place.
    """
    written: dict[Identity | str, tuple[str, Path]] = {}
    for option, path in outputs:
        if path is None:
            continue
        there = _status(option, path)
        if there is not None and stat.S_ISDIR(there.st_mode):
            raise UsageError(f"got output {path}, which is a directory; give a file name")
        if there is not None and not stat.S_ISREG(there.st_mode):
            raise UsageError(f"got output {path}, which is no regular file; give another file name")
        _check_place(option, path)
        key = os.path.realpath(path) if there is None else (there.st_dev, there.st_ino)
        if key in written:
            raise UsageError(f"{option} {path}: {written[key][0]} writes it, too; name another")
        written[key] = option, path
    if all(isinstance(key, str) for key in written):
        return  # what is not there yet is no input
    for place in inputs:
        for file in _files_of(place):
            identity = _identity(file)
            if identity is not None and identity in written:
                which = f"which is the input {file}"
                if isinstance(place, Source) and place.series is not None:
                    which = f"a file of the input {place.series.folder}"
                path = written[identity][1]
                raise UsageError(f"got output {path}, {which}; give another file name")


def check_folders(
    outputs: Iterable[tuple[str, Path | None]], *, inputs: Iterable[str | Path]
) -> None:
    """Check that directories can be written in and are no input themselves; touches nothing.

    Args:
        outputs: options, and the directory that each names; None where it is not given.
        inputs: files and directories that are read; an output may lie within one.

    Raises:
        UsageError: one is an input, or a file is in the way.
        LdfError: there may be no directory at such a place.
    """
    read = {_identity(path): path for path in inputs}
    for option, path in outputs:
        if path is None:
            continue
        there = _status(option, path)
        if there is not None and (there.st_dev, there.st_ino) in read:
            named = read[there.st_dev, there.st_ino]
            raise UsageError(f"{option} {path}: it is the input {named}; name another directory")
        if there is not None and not stat.S_ISDIR(there.st_mode):
            raise UsageError(f"{option} {path}: a file is in the way; name a directory")
        _check_place(option, path)


def _files_of(place: Source | str | Path) -> list[Path]:
    """The files of this machine that belong to an input."""
    if not isinstance(place, Source):
        places: Iterable[Location] = [locate(place)]
    else:
        places = [place.path] if place.series is None else place.series.paths()
    return [path for path in places if isinstance(path, Path)]


def _identity(path: str | Path) -> Identity | None:
    """The device and inode of a file or directory, equal for all its names; None for nothing."""
    try:
        there = os.stat(path)
    except (OSError, ValueError):
        return None
    return there.st_dev, there.st_ino


def _status(option: str, path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:  # a null byte, a name too long, a closed directory
        raise _cannot(option, path, getattr(error, "strerror", None) or str(error)) from None


def _check_place(option: str, path: Path) -> None:
    """Check that what is to be at `path` can be made or replaced."""
    if path.exists() and not os.access(path, os.W_OK):
        raise _cannot(option, path, "it is there and may not be written")
    place = path.absolute().parent
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise UsageError(f"{option} {path}: {place} is a file; write elsewhere")
    if not os.access(place, os.W_OK | os.X_OK):
        raise _cannot(option, path, f"no permission to write in {place}")


def _cannot(option: str, path: Path, reason: str) -> LdfError:
    return LdfError(f"{option} {path}: {reason}; write elsewhere")
