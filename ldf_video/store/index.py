"""Which clips a store holds and where their rows lie, from the manifests of all its parts."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from ldf_video.errors import StoreError
from ldf_video.store.manifest import read_records, reading

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Ints = npt.NDArray[np.int64]
Ids = npt.NDArray[np.bytes_]
Records = npt.NDArray[np.void]

_MOST = 1 << 48  # above any shard or row; sums of two cannot overflow
_LAST_ASCII = 127
_PLACE = np.dtype([(name, np.int64) for name in ("clip", "shard", "start", "num_frames")])


class UsedShard(NamedTuple):
    """The first rows of one shard of one part, as far as clips reach."""

    part: Path
    shard: int
    num_rows: int


class _Tables(NamedTuple):
    """The tables of one part's manifest, all of one moment."""

    source_clips: Ids  # that its sources point at
    clips: Records  # finished ones, by id
    extents: Records  # by the id of their clip and its frames


def read_index(parts: Sequence[Path]) -> tuple[Records, Records, list[UsedShard]]:
    """Read which clips a store holds and where their rows are.

    A clip is held if it is finished in some part and a source of some part points at it. Where
    several parts have finished it, all with the same bytes, the first of them counts.

    Args:
        parts: directories of all parts.

    Returns:
        Records (clips,) of `id`, `num_frames`, `fps_num` and `fps_den`, ordered by id; records
        (extents,) of `clip`, `shard`, `start` and `num_frames`, in the order of the clips' frames,
        where `clip` and `shard` are positions in the other two; the shards in use.

    Raises:
        StoreError: a manifest is damaged or missing.
    """
    tables = [_read_tables(part) for part in parts]
    wanted = np.concatenate([table.source_clips for table in tables])
    wanted.sort()
    clips: list[Records] = []
    extents: list[Records] = []
    shards: list[UsedShard] = []
    for part in parts:
        held, places = _hold(tables.pop(0), wanted, part)  # nothing else keeps whole tables
        if len(parts) > 1:  # the rest is for the parts that follow
            wanted = wanted[_find(wanted, held["id"]) < 0]
        used, numbers = np.unique(places["shard"], return_inverse=True)
        num_rows = np.zeros(len(used), np.int64)
        np.maximum.at(num_rows, numbers, places["start"] + places["num_frames"])
        places["shard"] = numbers + len(shards)
        places["clip"] += sum(map(len, clips))
        shards += map(UsedShard, repeat(part), used.tolist(), num_rows.tolist())
        clips.append(held)
        extents.append(places)
    if len(parts) == 1:
        return clips[0], extents[0], shards
    order = np.argsort(np.concatenate([held["id"] for held in clips]))
    places = np.concatenate(extents)
    places["clip"] = np.argsort(order)[places["clip"]]
    return np.concatenate(clips)[order], places[np.argsort(places["clip"], kind="stable")], shards


def _read_tables(part: Path) -> _Tables:
    # Whole tables, joined here: SQLite would take four times as long over hashes as keys.
    with reading(part) as connection:
        connection.text_factory = bytes  # a million calls the fewer
        return _Tables(
            source_clips=read_records(connection, "sources")["id"],
            clips=read_records(
                connection,
                "clips WHERE status IN ('complete', 'salvaged') ORDER BY clip_id",
                "num_frames",
                "fps_num",
                "fps_den",
            ),
            extents=read_records(
                connection,
                "extents ORDER BY clip_id, first_frame",
                "first_frame",
                "shard",
                "start",
                "num_frames",
            ),
        )


def _hold(tables: _Tables, wanted: Ids, part: Path) -> tuple[Records, Records]:
    """The clips of a part that are wanted, and where their rows are."""
    _, clips, extents = tables
    del tables
    clips = clips[_find(clips["id"], wanted) >= 0]
    clip = _find(extents["id"], clips["id"])
    extents, clip = extents[clip >= 0], clip[clip >= 0]
    problem = _find_problem(clips, extents, clip)
    if problem:
        raise StoreError(f"{part} is damaged: its manifest has {problem}; use another store")
    places = np.empty(len(extents), _PLACE)
    places["clip"] = clip
    for name in ("shard", "start", "num_frames"):
        places[name] = extents[name]
    return clips, places


def _find(ids: Ids, known: Ids) -> Ints:
    """The place of each id in `known`, which is sorted, or -1."""
    if not len(known):
        return np.full(len(ids), -1)
    if len(ids) == len(known) and (ids == known).all():  # a clip an extent, or a source
        return np.arange(len(ids))
    place = np.searchsorted(known, ids).clip(max=len(known) - 1)
    return np.where(known[place] == ids, place, -1)


def _find_problem(clips: Records, extents: Records, clip: Ints) -> str:
    for name in ("num_frames", "fps_num", "fps_den"):
        if (clips[name] < 1).any():
            return f"a clip whose {name} is below 1"
    for name, least in (("shard", 0), ("start", 0), ("num_frames", 1)):
        if ((extents[name] < least) | (extents[name] > _MOST)).any():
            return f"an extent whose {name} cannot be"
    if len(clips) and clips["id"].copy().view(np.uint8).max() > _LAST_ASCII:
        return "a clip whose id is not ASCII"
    twice = (clips["id"][1:] == clips["id"][:-1]).any()
    expected = _starts(extents["num_frames"]) - _starts(clips["num_frames"])[clip]
    if twice or (extents["first_frame"] != expected).any():
        return "a clip twice, or one whose extents leave out or repeat frames"
    if extents["num_frames"].sum() != clips["num_frames"].sum():
        return "a clip without its last extent"
    return ""


def _starts(lengths: Ints) -> Ints:
    return np.cumsum(lengths) - lengths
