"""Letting go of rows that a store has lost, so that the next writer makes them anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ldf_video.store.extents import clip_of, find_damage, read_extents
from ldf_video.store.format import StoreSpec
from ldf_video.store.manifest import Manifest, reading
from ldf_video.store.shards import ShardFile, cut_rows, look_at, shard_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NOTHING = ShardFile(num_rows=0, counted=-1)


@dataclass(frozen=True)
class _Torn:
    """A shard that does not hold what its manifest counts, or whose header is not its own."""

    shard: int
    file: ShardFile


def repair_torn(root: Path, spec: StoreSpec, manifest: Manifest) -> str:
    """Make a part's manifest and headers agree with the rows that its shards still hold.

    In a shard that is missing, too short or has no header of its rows, each extent stays if its
    checksum says that it is whole. A clip that lost one is partial from there on.

    Args:
        root: the part's directory, which is locked.
        spec: of its rows.
        manifest: of the part.

    Returns:
        One line on what was let go or mended, "" if nothing was.

    Raises:
        StoreError: the manifest is damaged, or a shard cannot be read.
        OSError, sqlite3.Error: the part cannot be read or written.
    """
    torn = list(_find_torn(root, spec, manifest))
    if not torn:
        return ""
    lost: dict[str, int] = {}
    for damaged in torn:
        for clip_id, frame in _find_lost(root, spec, damaged):
            lost[clip_id] = min(frame, lost.get(clip_id, frame))
    with manifest.transaction():
        num_clips, num_frames = manifest.drop_frames(lost)
    left = manifest.shard_ends()
    for damaged in torn:  # the manifest first: a kill between them leaves headers alone to mend
        if damaged.shard in left:
            cut_rows(root, spec, shard=damaged.shard, num_rows=damaged.file.num_rows)
    names = _name_shards(root, [damaged.shard for damaged in torn])
    if not lost:
        return f"the header of {names} was wrong and is mended: no frame is lost"
    clips = f"{num_clips:,} clip{'s' * (num_clips != 1)}"
    frames = f"{num_frames:,} frame{'s' * (num_frames != 1)}"
    hold = "holds" if len(torn) == 1 else "hold"
    return f"{clips} lost {frames} that {names} no longer {hold}: they are encoded anew"


def _find_torn(root: Path, spec: StoreSpec, manifest: Manifest) -> Iterator[_Torn]:
    ends = manifest.shard_ends()
    for shard, num_rows in ends.items():
        file = look_at(root, spec, shard=shard) or _NOTHING
        # the last shard's header is behind or ahead after any kill
        lies = file.counted < 0 or (file.counted != file.num_rows and shard != max(ends))
        if lies or file.num_rows < num_rows:
            yield _Torn(shard, file)


def _find_lost(root: Path, spec: StoreSpec, torn: _Torn) -> Iterator[tuple[str, int]]:
    with reading(root) as connection:
        extents = read_extents(connection, first_shard=torn.shard, last_shard=torn.shard)
    for extent, _ in find_damage(root, spec, extents, num_rows=torn.file.num_rows):
        yield clip_of(extent), int(extent["first_frame"])


def _name_shards(root: Path, shards: list[int]) -> str:
    first = shard_path(root, shards[0]).name
    more = len(shards) - 1
    return first if not more else f"{first} and {more:,} more shard{'s' * (more != 1)}"
