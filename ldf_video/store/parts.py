"""The parts of a store: where they are, whether they fit together, how they lock and move aside."""

from __future__ import annotations

import errno
import re
import sqlite3
from contextlib import ExitStack
from datetime import datetime
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from ldf_video.errors import StoreError
from ldf_video.output import FULL, PARTS, reason, remedy
from ldf_video.store.format import STORE_JSON, StoreSpec, describe_difference, read_store_json
from ldf_video.store.manifest import MANIFEST

if TYPE_CHECKING:
    from pathlib import Path

LOCK = ".lock"
_UNBORN = {LOCK, MANIFEST, f"{MANIFEST}-journal"}
"""What a kill can leave before a new part has its store.json."""


def check_directory(path: Path, *, option: str = "--out") -> None:
    """See that a directory is a store or empty, or that there is none; touches nothing.

    Args:
        path: of the store.
        option: that names it.

    Raises:
        StoreError: a file is there, or other files are in it.
        OSError: it cannot be read.
    """
    if not path.exists():
        return
    if not path.is_dir():
        raise StoreError(f"{path} is a file: expected a directory, use another {option}")
    names = {entry.name for entry in path.iterdir() if not entry.match(PARTS)}
    if STORE_JSON not in names and not names <= _UNBORN:
        raise StoreError(
            f"{path} holds files but no store (for instance {min(names - _UNBORN)}):"
            f" expected an empty directory or a store, use another {option}"
        )


def part_path(root: Path, part: int) -> Path:
    """The directory of a part; part 0 is the store's own."""
    return root / f"part-{part:04d}" if part else root


def find_parts(root: Path) -> dict[int, Path]:
    """The parts of a store by number, part 0 first.

    A directory without a store.json, which a kill can leave, is none yet.

    Args:
        root: the store's directory.

    Raises:
        StoreError: the directory cannot be read.
    """
    try:
        paths = [path for path in root.glob("part-*") if (path / STORE_JSON).is_file()]
    except OSError as error:
        raise StoreError(f"{root} cannot be read ({error.strerror}): check the path") from error
    found = ((path, re.fullmatch(r"part-(\d{4,9})", path.name)) for path in paths)
    numbered = [(int(match[1]), path) for path, match in found if match]
    # part-00001 is no name that we give
    parts = {part for part, path in numbered if path == part_path(root, part)}
    return {part: part_path(root, part) for part in (0, *sorted(parts - {0}))}


def find_difference(path: Path, spec: StoreSpec) -> str:
    """Say how one part, or what its store.json holds, differs from what is asked; "" if it fits."""
    try:
        found, _ = read_store_json(path)
    except StoreError as error:
        return str(error)
    difference = describe_difference(found, spec)
    return difference and f"{path} was made by other settings, {difference}"


def find_differing_part(root: Path, spec: StoreSpec) -> str:
    """Say how the first part that does not fit differs; "" where all fit, or there is no store."""
    if not (root / STORE_JSON).exists():
        return ""
    differences = (find_difference(path, spec) for path in find_parts(root).values())
    return next(filter(None, differences), "")


def acquire(path: Path) -> FileLock:
    """Take the lock of a part's directory, which exists.

    Raises:
        StoreError: another process has it.
    """
    lock = FileLock(path.resolve() / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise StoreError(
            f"{path} is in use by another process: wait for it to end, or use another --out"
        ) from None
    return lock


def move_aside(path: Path) -> Path:
    """Rename a store, all its parts in it, to `NAME.old-DATE` beside it.

    Args:
        path: the store's directory; behind a link, what it points at moves.

    Returns:
        Where it is now.

    Raises:
        StoreError: a part is in use.
        OSError: it cannot be renamed.
    """
    root = path.resolve()
    base = path if path.name else root
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    endings = ["", *(f"-{number}" for number in range(2, 1000))]
    names = [f"{base.name}.old-{stamp}{ending}" for ending in endings]
    with ExitStack() as locks:
        for part in find_parts(path).values():
            locks.callback(acquire(part).release)
        aside = next(name for name in names if not root.with_name(name).exists())
        root.rename(root.with_name(aside))
    return root.with_name(aside) if path.is_symlink() else base.with_name(aside)


def write_error(path: Path, error: OSError | sqlite3.Error) -> StoreError:
    """Say in one line why a store could not be written, and whether its disk is full."""
    if isinstance(error, sqlite3.Error):
        full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        error = OSError(errno.ENOSPC if full else None, str(error))
    what = "disk full" if error.errno in FULL else "cannot write"
    todo = remedy(error, elsewhere="use another --out")
    return StoreError(f"{what} at {path} ({reason(error)}): what was committed is safe, {todo}")
