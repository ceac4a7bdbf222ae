"""Checking every row of a store against its manifest, and letting go of what is damaged."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from ldf_video.errors import StoreError
from ldf_video.store.format import StoreSpec, read_store_json
from ldf_video.store.manifest import look_into
from ldf_video.store.part_check import Findings, check_part, count_unused
from ldf_video.store.parts import acquire, find_difference, find_parts, write_error
from ldf_video.store.repair import repair_torn


@dataclass(frozen=True)
class Verified:
    """What a check of a store found.

    Attributes:
        num_clips: in all parts, also those not finished and those that no source points at.
        num_frames: of all extents, each of which was read where its shard holds it.
        num_bytes: of those frames' rows.
        num_unused_clips: to which no source points; no problem, their sources may come back.
        num_unreachable_rows: inside the shards, of clips that were let go; no problem.
        num_problems: all that is wrong.
        problems: a line for each of the first 1,000.
        num_lost_clips: of which `drop_damaged` let frames go.
        num_lost_frames: that it let go.
    """

    num_clips: int
    num_frames: int
    num_bytes: int
    num_unused_clips: int
    num_unreachable_rows: int
    num_problems: int
    problems: tuple[str, ...]
    num_lost_clips: int = 0
    num_lost_frames: int = 0


def verify_store(path: Path) -> Verified:
    """Read every committed row of a store and find what is wrong with it; change nothing.

    Checked: each extent lies inside its shard, overlaps no other and has its checksum; each clip's
    extents cover it without a gap; all parts are made by the same settings. A store that
    `StoreReader` refuses can be checked too, and one that is being written. Reads as much as the
    store holds; memory does not grow with it.

    Args:
        path: the store's directory.

    Returns:
        What was found; no problems in a sound store.

    Raises:
        StoreError: there is no store here, or a store.json or manifest cannot be read.
    """
    return _verify(Path(path), drop=False)


def drop_damaged(path: Path) -> Verified:
    """Verify a store and let go of what is damaged, so that the next writer makes it anew.

    A clip goes back to the frames before its first damaged extent and is then partial, or unknown.
    What is sound stays; of the shards nothing but a wrong header is written.

    Args:
        path: the store's directory.

    Returns:
        What was found, and how much was let go.

    Raises:
        StoreError: as for `verify_store`, or a part is in use, made otherwise, or not writable.
    """
    return _verify(Path(path), drop=True)


def _verify(path: Path, *, drop: bool) -> Verified:
    spec, _ = read_store_json(path)
    parts = find_parts(path)
    found = Findings()
    num_lost_clips = num_lost_frames = 0
    with ExitStack() as locks:
        for number, part in parts.items():
            if drop:
                locks.callback(_locked(part).release)
            found.prefix = f"{part.name}: " if number else ""
            problem = find_difference(part, spec)
            if problem:  # rows of another size: nothing in them can be checked
                found.add(problem)
                continue
            check_part(part, spec, found)
            if drop:
                num_clips, num_frames = _drop(part, spec, found.lost)
                num_lost_clips += num_clips
                num_lost_frames += num_frames
        num_unused_clips = count_unused(list(parts.values()))
    return Verified(
        num_clips=found.num_clips,
        num_frames=found.num_frames,
        num_bytes=found.num_frames * spec.row_bytes,
        num_unused_clips=num_unused_clips,
        num_unreachable_rows=found.num_unreachable_rows,
        num_problems=found.num_problems,
        problems=tuple(found.problems),
        num_lost_clips=num_lost_clips,
        num_lost_frames=num_lost_frames,
    )


def _locked(part: Path) -> FileLock:
    try:
        return acquire(part)
    except OSError as error:
        raise write_error(part, error) from error


def _drop(part: Path, spec: StoreSpec, lost: dict[str, int]) -> tuple[int, int]:
    manifest = look_into(part)
    try:
        with manifest.transaction():
            dropped = manifest.drop_frames(lost)
        with suppress(StoreError):  # what cannot be read now is among the problems
            repair_torn(part, spec, manifest)  # headers: so that readers open it
    except (OSError, sqlite3.Error) as error:
        raise write_error(part, error) from error
    finally:
        manifest.close()
    return dropped
