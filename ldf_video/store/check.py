"""Checking a store's rows against its manifest, and dropping those that are damaged or lost."""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from itertools import accumulate, groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ldf_video.errors import StoreError
from ldf_video.store.conditions import lost_conditions
from ldf_video.store.extents import VALID_CLIP, VALID_EXTENT, read_extents
from ldf_video.store.format import StoreSpec, find_difference, find_parts, read_store_json
from ldf_video.store.manifest import Manifest, reading, select
from ldf_video.store.parts import acquire, repair_shards, write_error
from ldf_video.store.shards import find_damage, inspect_shard, shard_path

_MOST_LINES = 1000  # of problems that are spelled out
_MOST_EXTENTS = 1 << 18  # in memory at a time, and those of one shard more


@dataclass
class Verified:
    """What a check of a store found."""

    num_clips: int = 0  # in all parts, also those not finished and those that no source points at
    num_frames: int = 0  # of all extents, each of which was read where its shard holds it
    num_bytes: int = 0  # of those frames' rows
    num_unused_clips: int = 0  # that no source points at; no problem, their sources may come back
    num_unreachable_rows: int = 0  # inside the shards, of clips that were dropped; no problem
    num_problems: int = 0
    problems: tuple[str, ...] = ()  # a line for each of the first 1,000
    num_lost_clips: int = 0  # of which `drop_damaged` dropped frames
    num_lost_frames: int = 0  # that it dropped


class _Problem(NamedTuple):
    """What is wrong, and the clip that it damages from a frame on."""

    line: str
    clip_id: str | None = None
    frame: int = 0


def verify_store(path: Path) -> Verified:
    """Read every committed row of a store and find what is wrong with it; change nothing.

    Checked: each extent lies inside its shard, overlaps no other and has its checksum; each clip's
    extents cover it without a gap; all parts are made by the same settings. A store that
    `StoreReader` refuses can be checked too, and one that is being written. Memory does not grow
    with the store.

    Raises:
        StoreError: there is no store here, or a store.json or manifest cannot be read.
    """
    return _verify(Path(path), drop=False)


def drop_damaged(path: Path) -> Verified:
    """Verify a store and drop what is damaged, so that the next writer encodes it again.

    A clip keeps the frames before its first damaged extent and is then partial; without any it is
    forgotten. Sound clips stay. In the shards only wrong headers are rewritten.

    Raises:
        StoreError: as for `verify_store`, or a part is in use, made otherwise, or not writable.
    """
    return _verify(Path(path), drop=True)


def _verify(path: Path, *, drop: bool) -> Verified:
    spec, _ = read_store_json(path)
    parts = find_parts(path)
    found = Verified()
    with ExitStack() as locks:
        for number, part in parts.items():
            if drop:
                locks.callback(acquire(part).release)
            lost: dict[str, int] = {}  # the first damaged frame of each damaged clip
            difference = find_difference(part, spec)  # rows of another size cannot be checked
            for problem in [_Problem(difference)] if difference else _check_part(part, spec, found):
                found.num_problems += 1
                if found.num_problems <= _MOST_LINES:
                    prefix = f"{part.name}: " if number else ""
                    found.problems += (f"{prefix}{problem.line}",)
                if problem.clip_id is not None:
                    frame = lost.get(problem.clip_id, problem.frame)
                    lost[problem.clip_id] = min(frame, problem.frame)
            if drop and not difference:
                found.num_lost_clips += len(lost)
                found.num_lost_frames += _drop(part, spec, lost)
        found.num_unused_clips = _count_unused(list(parts.values()))
    found.num_bytes = found.num_frames * spec.row_bytes
    return found


def _drop(part: Path, spec: StoreSpec, lost: Mapping[str, int]) -> int:
    try:
        with closing(Manifest(part)) as manifest:
            with manifest.transaction():
                num_frames = manifest.drop_frames(lost)
            with suppress(StoreError):  # what cannot be read now is among the problems
                repair_shards(part, spec, manifest)  # headers: so that readers open it
    except (OSError, sqlite3.Error) as error:
        raise write_error(part, error) from error
    return num_frames


def _count_unused(parts: Sequence[Path]) -> int:
    """Count the clips to which no source of any part points."""
    wanted = "SELECT DISTINCT clip_id, 0 FROM sources ORDER BY clip_id"
    held = "SELECT clip_id, 1 FROM clips ORDER BY clip_id"
    rows = heapq.merge(*(select([part], query) for part in parts for query in (wanted, held)))
    num_unused = 0
    for _, group in groupby(rows, key=itemgetter(0)):
        kinds = [kind for _, kind in group]
        num_unused += len(kinds) if min(kinds) else 0
    return num_unused


def _check_part(part: Path, spec: StoreSpec, found: Verified) -> Iterator[_Problem]:
    """Check one part and count what it holds.

    Its writer may be at work: no read transaction on the manifest lasts long.
    """
    with reading(part) as connection:
        for (line,) in connection.execute("PRAGMA quick_check"):
            # SQLite 3.40 finds NULL where a key's columns do not come first: there is none
            if line != "ok" and not line.startswith("NULL value in "):
                yield _Problem(f"the manifest: {line}")
        for table, valid in (("extent", VALID_EXTENT), ("clip", VALID_CLIP)):
            for row in connection.execute(f"SELECT * FROM {table}s WHERE NOT ({valid})"):
                yield _Problem(f"{table} {row} cannot be", row[0])
        yield from _check_coverage(connection, found)
        counted = f"extents WHERE {VALID_EXTENT} GROUP BY shard ORDER BY shard"
        counts = dict(connection.execute(f"SELECT shard, count(*) FROM {counted}"))
    # A manifest has no index by shard: neighbours are read together, as many as memory allows.
    groups = groupby(
        zip(counts, accumulate(counts.values()), strict=True),
        key=lambda item: item[1] // _MOST_EXTENTS,
    )
    for _, group in groups:
        shards = [shard for shard, _ in group]
        extents = read_extents(part, shards[0], shards[-1])
        borders = np.flatnonzero(np.diff(extents["shard"])) + 1
        for own in np.split(extents, borders):
            if len(own):  # else a writer has dropped them meanwhile
                is_last = int(own["shard"][0]) == max(counts)
                yield from _check_shard(part, spec, own, found, is_last=is_last)
    yield from _check_conditions(part)


def _check_conditions(part: Path) -> Iterator[_Problem]:
    """The conditions of each extent have their checksum; without them its frames are lost, too."""
    try:
        for extent, problem in lost_conditions(part):
            first, clip_id = int(extent["first_frame"]), extent["id"].decode()
            frames = f"{first} to {first + extent['num_frames']}"
            line = f"clip {clip_id}, conditions of frames {frames}: {problem}"
            yield _Problem(line, clip_id, first)
    except (StoreError, OSError) as error:
        yield _Problem(str(error))


def _check_coverage(connection: sqlite3.Connection, found: Verified) -> Iterator[_Problem]:
    """Each clip's extents follow each other from frame 0 to its end."""
    clips = connection.execute(
        f"SELECT clip_id, -1, num_frames FROM clips WHERE {VALID_CLIP} ORDER BY clip_id"
    )
    extents = connection.execute(
        f"SELECT clip_id, first_frame, num_frames FROM extents WHERE {VALID_EXTENT}"
        " ORDER BY clip_id, first_frame"
    )
    for clip_id, rows in groupby(heapq.merge(clips, extents), key=itemgetter(0)):
        (_, first, length), *its_extents = rows
        if first >= 0:
            yield _Problem(f"clip {clip_id} has extents but no row", clip_id)
            continue
        found.num_clips += 1
        frame = 0
        for _, first, num_frames in its_extents:
            if first != frame:
                line = f"clip {clip_id} has an extent from frame {first}: expected frame"
                yield _Problem(f"{line} {frame} next", clip_id, min(first, frame))
            frame = first + num_frames
        if frame != length:
            line = f"clip {clip_id} has {length} frames, its extents {frame}"
            yield _Problem(line, clip_id, min(frame, length))


def _check_shard(
    part: Path, spec: StoreSpec, extents: npt.NDArray[np.void], found: Verified, *, is_last: bool
) -> Iterator[_Problem]:
    """Each of a shard's extents lies in it, overlaps no other and has its checksum."""
    found.num_frames += int(extents["num_frames"].sum())
    shard = int(extents["shard"][0])
    path = shard_path(part, shard)
    try:
        file = inspect_shard(part, spec, shard=shard)
        if file is None:
            yield _Problem(f"{path} is missing")
        elif file.header_rows < 0:
            yield _Problem(f"{path} has no header of these rows")
        num_rows = 0 if file is None else file.num_rows
        for extent, problem in find_damage(path, spec, extents, num_rows=num_rows):
            first, clip_id = int(extent["first_frame"]), extent["id"].decode()
            frames = f"{first} to {first + extent['num_frames']}"
            place = f"in shard {shard} from row {extent['start']}"
            yield _Problem(f"clip {clip_id}, frames {frames}, {place}: {problem}", clip_id, first)
    except (StoreError, OSError) as error:  # drop nothing: the disk may come back
        yield _Problem(str(error))
        return
    # behind the last extent of the last shard a writer is at work
    stops = np.maximum.accumulate(extents["start"] + extents["num_frames"])
    end = int(stops[-1]) if is_last else max(num_rows, int(stops[-1]))
    gaps = np.append(extents["start"], end) - np.insert(stops, 0, 0)
    found.num_unreachable_rows += int(gaps.clip(min=0).sum())
