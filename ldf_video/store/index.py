"""The index of a store: which clips it holds, and where their rows are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ldf_video.errors import StoreError
from ldf_video.store.extents import read_records
from ldf_video.store.manifest import has_conditions, reading
from ldf_video.store.records import FINISHED
from ldf_video.store.shards import Rows, map_rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ldf_video.store.conditions import ConditionReader
    from ldf_video.store.format import StoreSpec

Ints = npt.NDArray[np.int64]
Ids = npt.NDArray[np.bytes_]
Records = npt.NDArray[np.void]

_MOST = 1 << 48  # above any shard or row; sums of two cannot overflow
_LAST_ASCII = 127
_PLACE = np.dtype([(name, np.int64) for name in ("clip", "shard", "start", "num_frames", "told")])
_LEFT_JOIN = """
(SELECT e.clip_id, e.first_frame, e.shard, e.start, e.num_frames, c.crc32 IS NOT NULL AS told
 FROM extents e LEFT JOIN conditions c USING (clip_id, first_frame))"""


def read_index(
    parts: Sequence[Path], spec: StoreSpec, told: ConditionReader
) -> tuple[Records, Records, list[Rows]]:
    """Read which clips a store holds and where their rows are; `told` maps their conditions.

    A clip is held if it is finished in some part and a source of some part points at it. Where
    several parts have finished it, all with the same bytes, the first of them counts.

    Returns:
        Records (clips,) of `id`, `num_frames`, `fps_num` and `fps_den`, ordered by id; records
        (extents,) of `clip`, `shard`, `start`, `num_frames` and whether they are `told`, in the
        order of the clips' frames, where `clip` and `shard` are positions in the other two; the
        shards in use, mapped.
    """
    ids: list[Ids] = []
    for part in parts:
        with reading(part) as connection:
            ids.append(read_records(connection, "sources")["id"])
    wanted = np.sort(np.concatenate(ids))
    clips: list[Records] = []
    extents: list[Records] = []
    shards: list[Rows] = []
    for number, part in enumerate(parts):
        held, places = _read_held(part, wanted)
        wanted = wanted[find(wanted, held["id"]) < 0]  # the rest is for the parts that follow
        used, numbers = np.unique(places["shard"], return_inverse=True)
        num_rows, num_told = np.zeros((2, len(used)), np.int64)
        ends = places["start"] + places["num_frames"]
        np.maximum.at(num_rows, numbers, ends)
        np.maximum.at(num_told, numbers, ends * places["told"])
        places["shard"] = numbers + len(shards)
        places["clip"] += sum(map(len, clips))
        counts = num_rows.tolist(), num_told.tolist()
        for shard, count, count_told in zip(used.tolist(), *counts, strict=True):
            shards.append(map_rows(part, spec, shard=shard, num_rows=count))
            told.map(number, part, shard=shard, num_rows=count_told)
        clips.append(held)
        extents.append(places)
    if len(parts) == 1:
        return clips[0], extents[0], shards
    order = np.argsort(np.concatenate([held["id"] for held in clips]))
    places = np.concatenate(extents)
    places["clip"] = np.argsort(order)[places["clip"]]
    return np.concatenate(clips)[order], places[np.argsort(places["clip"], kind="stable")], shards


def _read_held(part: Path, wanted: Ids) -> tuple[Records, Records]:
    """The finished clips of a part that are wanted, and where their rows are."""
    # Whole tables, joined here: SQLite would take four times as long over hashes as keys.
    with reading(part) as connection:
        finished = f"clips WHERE status IN {FINISHED} ORDER BY clip_id"
        clips = read_records(connection, finished, "num_frames", "fps_num", "fps_den")
        numbers = ["first_frame", "shard", "start", "num_frames"]
        table = "extents"
        if is_told := has_conditions(connection):
            table, numbers = _LEFT_JOIN, [*numbers, "told"]
        extents = read_records(connection, f"{table} ORDER BY clip_id, first_frame", *numbers)
    clips = clips[find(clips["id"], wanted) >= 0]
    clip = find(extents["id"], clips["id"])
    extents, clip = extents[clip >= 0], clip[clip >= 0]
    problem = _find_problem(clips, extents, clip)
    if problem:
        raise StoreError(f"{part} is damaged: its manifest has {problem}; use another store")
    places = np.empty(len(extents), _PLACE)
    places["clip"] = clip
    for name in ("shard", "start", "num_frames"):
        places[name] = extents[name]
    places["told"] = extents["told"] if is_told else 0
    return clips, places


def find(ids: Ids, known: Ids) -> Ints:
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
    expected = offsets(extents["num_frames"]) - offsets(clips["num_frames"])[clip]
    if twice or (extents["first_frame"] != expected).any():
        return "a clip twice, or one whose extents leave out or repeat frames"
    if extents["num_frames"].sum() != clips["num_frames"].sum():
        return "a clip without its last extent"
    return ""


def offsets(lengths: Ints) -> Ints:
    """The place of the first of each of several runs that follow each other."""
    return np.cumsum(lengths) - lengths
