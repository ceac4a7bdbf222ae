"""The parts of a store: where they are, whether they fit together, which process writes which."""

from __future__ import annotations

import errno
import heapq
import sqlite3
from contextlib import ExitStack
from datetime import datetime
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from ldf_video.errors import StoreError
from ldf_video.output import FULL, PARTS, reason, remedy
from ldf_video.store.format import STORE_JSON, StoreSpec, describe_difference, read_store_json
from ldf_video.store.manifest import MANIFEST, select

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LOCK = ".lock"
NOBODY = -1

_UNBORN = {LOCK, MANIFEST, f"{MANIFEST}-journal"}
"""What a kill can leave before a new part has its store.json."""


def check_directory(path: Path, *, option: str = "--out") -> None:
    """See that a directory, which `option` names, is a store or empty, or that there is none.

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

    Raises:
        StoreError: the directory cannot be read.
    """
    try:
        paths = [path for path in root.glob("part-*") if (path / STORE_JSON).is_file()]
    except OSError as error:
        raise StoreError(f"{root} cannot be read ({error.strerror}): check the path") from error
    numbers = (path.name.removeprefix("part-") for path in paths)
    parts = {int(number) for number in numbers if number.isdecimal()} - {0}
    found = {part: part_path(root, part) for part in sorted(parts)}
    # part-00001 is no name that we give
    return {0: root, **{part: path for part, path in found.items() if path in paths}}


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
        StoreError: another process has it, or the file system has no locks.
    """
    lock = FileLock(path.resolve() / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise StoreError(
            f"{path} is in use by another process: wait for it to end, or use another --out"
        ) from None
    except OSError as error:
        raise write_error(path, error) from error
    return lock


def move_aside(path: Path) -> Path:
    """Rename a store, all its parts in it, to `NAME.old-DATE` beside it, and return where it is.

    Behind a link, what it points at moves.

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


def share_sources(
    root: Path, sources: Sequence[str], sizes: Sequence[int], *, num_ranks: int
) -> list[int]:
    """Give each source to a process: a known one to its part's, new ones by size.

    New sources go, the largest first, to the process with the fewest bytes so far: shares come
    close to equal (Graham, 1969), and no long video is begun last. A source of no or of unknown
    size counts one byte, so that these spread too. See `StoreWriter.owners`.
    """
    if num_ranks == 1:
        return [0] * len(sources)
    owners = known_owners(root, sources, num_ranks=num_ranks)
    weights = [max(size, 1) for size in sizes]
    loads = [0] * num_ranks
    for owner, weight in zip(owners, weights, strict=True):
        if owner != NOBODY:
            loads[owner] += weight
    heap = [(load, rank) for rank, load in enumerate(loads)]
    heapq.heapify(heap)
    new = [place for place, owner in enumerate(owners) if owner == NOBODY]
    for place in sorted(new, key=lambda place: -weights[place]):  # stable: equal ones in order
        load, rank = heap[0]
        owners[place] = rank
        heapq.heapreplace(heap, (load + weights[place], rank))
    return owners


def known_owners(root: Path, sources: Sequence[str], *, num_ranks: int) -> list[int]:
    """The process that has the part of each source; NOBODY for one that no part knows.

    Part p is that of process p mod `num_ranks`.
    """
    owners = [NOBODY] * len(sources)
    places = {source: place for place, source in enumerate(sources)}
    query = "SELECT source FROM sources UNION SELECT source FROM quarantine"
    for part, path in reversed(find_parts(root).items()):  # the lowest part has it
        for (source,) in select([path], query):
            if source in places:
                owners[places[source]] = part % num_ranks
    return owners
