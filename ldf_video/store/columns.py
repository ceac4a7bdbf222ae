"""What the manifests of a store's parts say about its clips, as columns of numbers."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from itertools import repeat
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from ldf_video.errors import StoreError
from ldf_video.store.manifest import reading

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Ints = npt.NDArray[np.int64]

_MOST = 1 << 48  # above any shard or row; sums of two cannot overflow
_LAST_ASCII = 127

# Whole tables, joined here: SQLite would take four times as long over hashes as keys.
_CLIPS = """
SELECT clip_id, num_frames, fps_num, fps_den FROM clips
WHERE status IN ('complete', 'salvaged') ORDER BY clip_id"""
_EXTENTS = """
SELECT clip_id, first_frame, shard, start, num_frames FROM extents ORDER BY clip_id, first_frame"""
_WIDTH = "SELECT max(length(CAST(clip_id AS BLOB))) FROM"


@dataclass(frozen=True)
class Columns:
    """A store's finished clips: columns by clip, and by extent in the order of the clips' frames.

    Attributes:
        ids: of the clips, in order.
        lengths: frames of each clip.
        fps_num: of each clip's frames a second, and
        fps_den: its denominator.
        first_frame: each clip's first frame in the order of all frames.
        first_extent: each clip's first extent, and
        num_extents: how many it has.
        extent_frame: each extent's first frame in the order of all frames, and
        extent_end: where it ends in that order.
        extent_shard: its shard's place among the shards in use.
        extent_row: its first row in the shard.
    """

    ids: npt.NDArray[np.bytes_]
    lengths: Ints
    fps_num: Ints
    fps_den: Ints
    first_frame: Ints
    first_extent: Ints
    num_extents: Ints
    extent_frame: Ints
    extent_end: Ints
    extent_shard: Ints
    extent_row: Ints


class UsedShard(NamedTuple):
    """The first rows of one shard of one part, as far as clips reach."""

    part: Path
    shard: int
    num_rows: int


class _Tables(NamedTuple):
    """What one part's manifest says at one moment."""

    source_clips: npt.NDArray[np.bytes_]  # the clips that its sources point at, sorted
    clips: npt.NDArray[np.void]
    extents: npt.NDArray[np.void]


def read_columns(parts: Sequence[Path]) -> tuple[Columns, list[UsedShard]]:
    """Read which clips a store holds, ordered by id, and where their rows are.

    A clip is held if it is finished in some part and a source of some part points at it. Where
    several parts have finished it, all with the same bytes, the first of them counts.

    Args:
        parts: directories of all parts.

    Returns:
        The columns, and the shards that they number.

    Raises:
        StoreError: a manifest is damaged or missing.
    """
    tables = [_read_tables(part) for part in parts]
    wanted = tables[0].source_clips
    if len(parts) > 1:
        wanted = _unique(np.concatenate([table.source_clips for table in tables]))
    pieces: list[Columns] = []
    shards: list[UsedShard] = []
    for part in parts:
        piece = _held(tables.pop(0), wanted, part)  # nothing else keeps whole tables
        used, places = np.unique(piece.extent_shard, return_inverse=True)
        ends = np.zeros(len(used), np.int64)
        np.maximum.at(ends, places, piece.extent_row + piece.extent_end - piece.extent_frame)
        pieces.append(replace(piece, extent_shard=places + len(shards)))
        shards += map(UsedShard, repeat(part), used.tolist(), ends.tolist())
        if len(parts) > 1:  # the rest is for the parts that follow
            wanted = wanted[_find(wanted, piece.ids) < 0]
    return _merge(pieces), shards


def _read_tables(part: Path) -> _Tables:
    with reading(part) as connection:
        connection.text_factory = bytes  # a million calls the fewer
        queries = [f"{_WIDTH} {name}" for name in ("clips", "extents", "sources")]
        width = max(connection.execute(query).fetchone()[0] or 1 for query in queries)

        def table(query: str, *columns: str) -> npt.NDArray[np.void]:
            dtype = np.dtype([("id", f"S{width}"), *((name, "i8") for name in columns)])
            return np.fromiter(connection.execute(query), dtype)

        return _Tables(
            source_clips=_unique(table("SELECT clip_id FROM sources")["id"]),
            clips=table(_CLIPS, "num_frames", "fps_num", "fps_den"),
            extents=table(_EXTENTS, "first_frame", "shard", "start", "num_frames"),
        )


def _unique(ids: npt.NDArray[np.bytes_]) -> npt.NDArray[np.bytes_]:
    """Sorted, each once; numpy's own hashes them first, which takes five times as long."""
    ids = np.sort(ids)
    new = np.ones(len(ids), bool)
    new[1:] = ids[1:] != ids[:-1]
    return ids[new]


def _held(table: _Tables, wanted: npt.NDArray[np.bytes_], part: Path) -> Columns:
    _, clips, extents = table
    del table
    clips = clips[_find(clips["id"], wanted) >= 0]
    clip = _find(extents["id"], clips["id"])
    extents, clip = extents[clip >= 0], clip[clip >= 0]
    problem = _find_problem(clips, extents, clip)
    if problem:
        raise StoreError(f"{part} is damaged: its manifest has {problem}; use another store")
    return _columns(clips, extents, clip)


def _merge(pieces: list[Columns]) -> Columns:
    """All parts' clips as one, ordered by id."""
    if len(pieces) == 1:
        return pieces[0]
    frames = _starts(np.array([piece.lengths.sum() for piece in pieces]))
    extents = _starts(np.array([len(piece.extent_row) for piece in pieces]))
    moved = [
        replace(
            piece,
            first_frame=piece.first_frame + frame,
            first_extent=piece.first_extent + extent,
            extent_frame=piece.extent_frame + frame,
            extent_end=piece.extent_end + frame,
        )
        for piece, frame, extent in zip(pieces, frames, extents, strict=True)
    ]
    names = [field.name for field in fields(Columns)]
    joined = Columns(*(np.concatenate([getattr(piece, name) for piece in moved]) for name in names))
    return take(joined, np.argsort(joined.ids))


def _find(ids: npt.NDArray[np.bytes_], known: npt.NDArray[np.bytes_]) -> Ints:
    """The place of each id in `known`, which is sorted, or -1."""
    if not len(known):
        return np.full(len(ids), -1)
    if len(ids) == len(known) and (ids == known).all():  # a clip an extent, or a source
        return np.arange(len(ids))
    place = np.searchsorted(known, ids).clip(max=len(known) - 1)
    return np.where(known[place] == ids, place, -1)


def _find_problem(clips: npt.NDArray[np.void], extents: npt.NDArray[np.void], clip: Ints) -> str:
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


def _columns(clips: npt.NDArray[np.void], extents: npt.NDArray[np.void], clip: Ints) -> Columns:
    joined = np.zeros(len(extents), bool)  # goes on where the one before ended: one run of rows
    ends = extents["start"] + extents["num_frames"]
    joined[1:] = (
        (clip[1:] == clip[:-1])
        & (extents["shard"][1:] == extents["shard"][:-1])
        & (extents["start"][1:] == ends[:-1])
    )
    num_extents = np.bincount(clip[~joined], minlength=len(clips))
    extent_frame = _starts(extents["num_frames"])[~joined]
    last = np.ones(len(extents), bool)
    last[:-1] = ~joined[1:]
    return Columns(
        ids=clips["id"].copy(),
        lengths=clips["num_frames"].copy(),
        fps_num=clips["fps_num"].copy(),
        fps_den=clips["fps_den"].copy(),
        first_frame=_starts(clips["num_frames"]),
        first_extent=_starts(num_extents),
        num_extents=num_extents,
        extent_frame=extent_frame,
        extent_end=np.cumsum(extents["num_frames"])[last],
        extent_shard=extents["shard"][~joined],
        extent_row=extents["start"][~joined],
    )


def take(clips: Columns, chosen: Ints) -> Columns:
    """The columns of some clips (n,), by their numbers, in that order."""
    lengths, num_extents = clips.lengths[chosen], clips.num_extents[chosen]
    first_frame, first_extent = _starts(lengths), _starts(num_extents)
    owner = np.repeat(np.arange(len(chosen)), num_extents)  # of each extent that stays
    extent = (clips.first_extent[chosen] - first_extent)[owner] + np.arange(len(owner))
    moved = (first_frame - clips.first_frame[chosen])[owner]
    return Columns(
        ids=clips.ids[chosen],
        lengths=lengths,
        fps_num=clips.fps_num[chosen],
        fps_den=clips.fps_den[chosen],
        first_frame=first_frame,
        first_extent=first_extent,
        num_extents=num_extents,
        extent_frame=clips.extent_frame[extent] + moved,
        extent_end=clips.extent_end[extent] + moved,
        extent_shard=clips.extent_shard[extent],
        extent_row=clips.extent_row[extent],
    )


def _starts(lengths: Ints) -> Ints:
    return np.cumsum(lengths) - lengths
