"""Checking every row of a store against its manifest."""

from __future__ import annotations

import zlib
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ldf_video.errors import StoreError
from ldf_video.store.format import StoreSpec, read_store_json
from ldf_video.store.manifest import reading
from ldf_video.store.parts import find_differing_part, find_parts
from ldf_video.store.shards import Rows, count_rows, map_rows

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

_BLOCK_BYTES = 8 << 20


class _Extent(NamedTuple):
    clip_id: str
    first_frame: int
    shard: int
    start: int
    num_frames: int
    crc32: int

    def __str__(self) -> str:
        frames = f"{self.first_frame} to {self.first_frame + self.num_frames}"
        return f"clip {self.clip_id}, frames {frames}, in shard {self.shard} from row {self.start}"


def verify_store(path: Path) -> list[str]:
    """Read every committed row of a store and list what is wrong with it.

    Checked: each extent lies inside its shard, overlaps no other and has its checksum; each clip's
    extents cover it without a gap; all parts are made by the same settings. A store that
    `StoreReader` refuses can be checked too. Reads as much as the store holds.

    Args:
        path: the store's directory.

    Returns:
        One line a problem, none for a sound store.

    Raises:
        StoreError: there is no store here, or a store.json or manifest cannot be read.
    """
    path = Path(path)
    spec, _ = read_store_json(path)
    problem = find_differing_part(path, spec)
    problems = [problem] if problem else []
    for number, part in find_parts(path).items():
        found = _check_part(part, spec)
        problems += [f"{part.name}: {problem}" if number else problem for problem in found]
    return problems


def _check_part(path: Path, spec: StoreSpec) -> list[str]:
    query = f"SELECT {', '.join(_Extent._fields)} FROM extents ORDER BY shard, start"
    with reading(path) as connection:
        extents = [_Extent(*row) for row in connection.execute(query)]
        problems = [*_check_types(extents)]
        if problems:
            return problems
        problems += _check_coverage(connection, extents)
    return [*problems, *_check_shards(path, spec, extents)]


def _check_types(extents: list[_Extent]) -> Iterator[str]:
    for extent in extents:
        numbers = extent[1:]
        if not all(isinstance(number, int) and number >= 0 for number in numbers) or not numbers[3]:
            yield f"extent {tuple(extent)} cannot be"


def _check_coverage(connection: sqlite3.Connection, extents: list[_Extent]) -> Iterator[str]:
    by_clip: dict[str, list[_Extent]] = defaultdict(list)
    for extent in extents:
        by_clip[extent.clip_id].append(extent)
    for clip_id, num_frames in connection.execute("SELECT clip_id, num_frames FROM clips"):
        frame = 0
        for extent in sorted(by_clip.pop(clip_id, []), key=lambda extent: extent.first_frame):
            if extent.first_frame != frame:
                yield f"{extent}: expected frame {frame} next"
            frame = extent.first_frame + extent.num_frames
        if frame != num_frames:
            yield f"clip {clip_id} has {num_frames} frames, its extents {frame}"
    yield from (f"clip {clip_id} has extents but no row" for clip_id in by_clip)


def _check_shards(path: Path, spec: StoreSpec, extents: list[_Extent]) -> Iterator[str]:
    by_shard: dict[int, list[_Extent]] = defaultdict(list)
    for extent in extents:
        by_shard[extent.shard].append(extent)
    for shard, inside in by_shard.items():
        try:
            held = count_rows(path, spec, shard=shard)
            rows = map_rows(path, spec, shard=shard, num_rows=held)
        except StoreError as error:
            yield str(error)
            continue
        end = 0
        for extent in inside:
            if extent.start < end:
                yield f"{extent}: overlaps the one before, which ends at row {end}"
            end = max(end, extent.start + extent.num_frames)
            if end > held:
                yield f"{extent}: the shard holds {held} rows"
            elif _checksum(rows, extent) != extent.crc32:
                yield f"{extent}: its checksum is wrong"


def _checksum(rows: Rows, extent: _Extent) -> int:
    crc, end = 0, extent.start + extent.num_frames
    step = max(1, _BLOCK_BYTES // rows[0].nbytes)
    for first in range(extent.start, end, step):
        crc = zlib.crc32(rows[first : min(first + step, end)].view(np.uint8).data, crc)
    return crc
