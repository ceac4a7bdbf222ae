"""Checking one part of a store: its manifest, and every row that it points at."""

from __future__ import annotations

import heapq
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from ldf_video.errors import StoreError
from ldf_video.store.extents import (
    SOUND,
    SOUND_ID,
    Extents,
    clip_of,
    describe,
    find_damage,
    num_unreachable,
    read_extents,
)
from ldf_video.store.manifest import FINISHED, reading
from ldf_video.store.shards import ShardFile, look_at, shard_path

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ldf_video.store.format import StoreSpec

_MOST_EXTENTS = 1 << 18  # in memory at a time, unless one shard has more
_RATE = ("fps_num", "fps_den")
_MOST_LINES = 1000  # of problems that are spelled out


_SOUND_CLIP = " AND ".join(
    [
        SOUND_ID,
        *(f"typeof({name}) = 'integer' AND {name} > 0" for name in ("num_frames", *_RATE)),
        f"status IN {('partial', *FINISHED)}",
    ]
)


@dataclass
class Findings:
    """What the parts that were checked gave.

    Attributes:
        num_clips: in the manifests, finished or not.
        num_frames: of all extents.
        num_unreachable_rows: inside the shards, that no extent has.
        num_problems: all of them.
        problems: a line for each of the first 1,000.
        prefix: what the lines of the current part begin with.
        lost: by clip, the first frame from which on it is to be made anew; of the current part.
    """

    num_clips: int = 0
    num_frames: int = 0
    num_unreachable_rows: int = 0
    num_problems: int = 0
    problems: list[str] = field(default_factory=list)
    prefix: str = ""
    lost: dict[str, int] = field(default_factory=dict)

    def add(self, problem: str, *, clip_id: str | None = None, frame: int = 0) -> None:
        """Take note of a problem, and of the clip that it damages from a frame on."""
        self.num_problems += 1
        if len(self.problems) < _MOST_LINES:
            self.problems.append(f"{self.prefix}{problem}")
        if clip_id is not None:
            self.lost[clip_id] = min(frame, self.lost.get(clip_id, frame))


def check_part(part: Path, spec: StoreSpec, found: Findings) -> None:
    """Check one part, also beside its writer: the manifest is never held open for long.

    Args:
        part: its directory.
        spec: of its rows.
        found: takes what is found; `lost` is of this part alone.

    Raises:
        StoreError: the manifest cannot be read.
    """
    found.lost = {}
    with reading(part) as connection:
        for (line,) in connection.execute("PRAGMA quick_check"):
            # SQLite 3.40 finds NULL where a key's columns do not come first, and there is none
            if line != "ok" and not line.startswith("NULL value in "):
                found.add(f"the manifest: {line}")
        _check_values(connection, found)
        _check_coverage(connection, found)
        query = f"SELECT shard, count(*) FROM extents WHERE {SOUND} GROUP BY shard ORDER BY shard"
        counts = dict(connection.execute(query))
    for first, last in _groups(counts):
        with reading(part) as connection:
            extents = read_extents(connection, first_shard=first, last_shard=last)
        borders = np.flatnonzero(np.diff(extents["shard"])) + 1
        for inside in np.split(extents, borders) if len(extents) else []:
            _check_shard(part, spec, inside, found, is_last=inside["shard"][0] == max(counts))


def _groups(counts: dict[int, int]) -> Iterator[tuple[int, int]]:
    """Neighbouring shards, as many as fit into memory with their extents: the first, the last."""
    first = last = -1
    num_extents = 0
    for shard, count in counts.items():
        if first >= 0 and num_extents + count > _MOST_EXTENTS:
            yield first, last
            first, num_extents = -1, 0
        first, last = (first if first >= 0 else shard), shard
        num_extents += count
    if first >= 0:
        yield first, last


def _check_values(connection: sqlite3.Connection, found: Findings) -> None:
    for row in connection.execute(f"SELECT * FROM extents WHERE NOT ({SOUND})"):
        found.add(f"extent {row} cannot be", clip_id=row[0])
    for row in connection.execute(f"SELECT * FROM clips WHERE NOT ({_SOUND_CLIP})"):
        found.add(f"clip {row} cannot be", clip_id=row[0])


def _check_coverage(connection: sqlite3.Connection, found: Findings) -> None:
    """Each clip's extents follow each other from frame 0 to its end."""
    clips = connection.execute(
        f"SELECT clip_id, -1, num_frames FROM clips WHERE {_SOUND_CLIP} ORDER BY clip_id"
    )
    extents = connection.execute(
        f"SELECT clip_id, first_frame, num_frames FROM extents WHERE {SOUND}"
        " ORDER BY clip_id, first_frame"
    )
    for clip_id, rows in groupby(heapq.merge(clips, extents), key=itemgetter(0)):
        (_, first, length), *its_extents = rows
        if first >= 0:
            found.add(f"clip {clip_id} has extents but no row", clip_id=clip_id)
            continue
        found.num_clips += 1
        frame = 0
        for _, first, num_frames in its_extents:
            if first != frame:
                problem = f"clip {clip_id} has an extent from frame {first}: expected frame {frame}"
                found.add(f"{problem} next", clip_id=clip_id, frame=min(first, frame))
            frame = first + num_frames
        if frame != length:
            problem = f"clip {clip_id} has {length} frames, its extents {frame}"
            found.add(problem, clip_id=clip_id, frame=min(frame, length))


def _check_shard(
    part: Path, spec: StoreSpec, extents: Extents, found: Findings, *, is_last: bool
) -> None:
    shard = int(extents["shard"][0])
    found.num_frames += int(extents["num_frames"].sum())
    path = shard_path(part, shard)
    try:
        file = look_at(part, spec, shard=shard)
        if file is None:
            found.add(f"{path} is missing")
            file = ShardFile(num_rows=0, counted=0)
        elif file.counted < 0:
            found.add(f"{path} has no header of these rows")
        for extent, problem in find_damage(part, spec, extents, num_rows=file.num_rows):
            first = int(extent["first_frame"])
            found.add(f"{describe(extent)}: {problem}", clip_id=clip_of(extent), frame=first)
        # behind the last extent of the last shard a writer is at work
        found.num_unreachable_rows += num_unreachable(
            extents, num_rows=0 if is_last else file.num_rows
        )
    except (StoreError, OSError) as error:  # not to be let go: the disk may come back
        found.add(str(error))


def count_unused(parts: Sequence[Path]) -> int:
    """Count the clips to which no source of any part points.

    Raises:
        StoreError: a manifest cannot be read.
    """
    num_unused = 0
    wanted = "SELECT DISTINCT clip_id, 0 FROM sources ORDER BY clip_id"
    held = "SELECT clip_id, 1 FROM clips ORDER BY clip_id"
    with ExitStack() as stack:
        connections = [stack.enter_context(reading(part)) for part in parts]
        rows: list[Iterator[Any]] = [
            connection.execute(query) for connection in connections for query in (wanted, held)
        ]
        for _, group in groupby(heapq.merge(*rows), key=itemgetter(0)):
            kinds = [kind for _, kind in group]
            num_unused += len(kinds) if min(kinds) else 0
    return num_unused
