"""The writer of a store, or of one process's share of its parts."""

from __future__ import annotations

import time
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from ldf_video.errors import StoreError
from ldf_video.store.format import (
    StoreSpec,
    find_difference,
    find_differing_part,
    find_parts,
    part_path,
)
from ldf_video.store.manifest import Manifest
from ldf_video.store.parts import PartWriter, move_aside, share_sources, write_error
from ldf_video.store.records import FINISHED, ClipRecord, SourceRecord
from ldf_video.store.shards import Rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ldf_video.arrays.conditions import Column, Conditions

MIB = 1 << 20
GIB = 1 << 30

_NO_INFO: Mapping[str, Any] = MappingProxyType({})
_MAX_CLIP_ID = 200


class StoreWriter:
    """Writes a store, alone or as one of several processes; readers see each commit whole.

    A commit comes every `commit_seconds` or `commit_bytes`, whichever is first, from inside the
    calls that add something, and at the end. A kill at any instant loses what came after the last
    one and nothing else. Use it from one thread, as a context manager: Ctrl-C or another error
    still commits what is there. Where the disk is full or fails, nothing of a commit is kept and
    the writer ends: that call, and each one after it that adds or commits, raises StoreError.

    Process `rank` of `num_ranks` writes part `rank`, which takes new clips, and every other part of
    an earlier run whose number modulo `num_ranks` is `rank`. It also looks up what the parts of
    other processes have committed: a clip that is finished there needs no encoding, and a source
    may point at it. Rank 0 opens first, then all others, then each may look up and write.

    Attributes:
        path: the store's directory.
        moved_to: where `overwrite` put the store that was there, or None.
        repaired: one line on committed rows that the disk has lost, for instance in a copy cut
            short: opening the store dropped them, and their clips are encoded again; "" else.
    """

    def __init__(
        self,
        path: Path,
        spec: StoreSpec,
        *,
        info: Mapping[str, Any] = _NO_INFO,
        overwrite: bool = False,
        retry: bool = False,
        rank: int = 0,
        num_ranks: int = 1,
        commit_seconds: float = 2.0,
        commit_bytes: int = 64 * MIB,
        shard_bytes: int = GIB,
    ) -> None:
        """Create a store, or open one made by the same settings and cut what was not committed.

        The directory and its parents are made. `info` (JSON values) only informs; it is kept from
        the store's creation. `overwrite` moves a store aside that differs from `spec` or whose
        store.json cannot be read; one that fits is kept and continued. Rank 0 does. With `retry`,
        sources in quarantine count as unknown. A commit comes when rows of `commit_bytes` are
        held, a new shard at `shard_bytes`.

        Raises:
            StoreError: the directory is in use, holds something else, a store that differs or is
                damaged, or cannot be written.
        """
        self.path, self._spec, self._retry = Path(path), spec, retry
        self._rank, self._num_ranks = rank, num_ranks
        self._commit_seconds, self._commit_bytes = commit_seconds, commit_bytes
        self.moved_to = self._make_way(overwrite=overwrite)
        self._root = self.path.resolve()
        numbers = {part for part in find_parts(self._root) if part % num_ranks == rank} | {rank}
        self._own: dict[int, PartWriter] = {}
        lines = []
        with ExitStack() as stack:
            for number in sorted(numbers):
                directory = part_path(self.path, number)
                part = PartWriter(directory, spec, info=info, shard_bytes=shard_bytes)
                stack.callback(part.close)
                self._own[number] = part
                if part.repaired:
                    lines.append(f"{directory.name}: " * (number > 0) + part.repaired)
            self._opened = stack.pop_all()
        self._foreign: list[Manifest] | None = None  # of parts of other processes
        self.repaired = "; ".join(lines)
        self._last_commit = time.monotonic()

    def _make_way(self, *, overwrite: bool) -> Path | None:
        check = find_difference if self._rank else find_differing_part
        problem = check(self.path, self._spec)
        if not problem:
            return None
        if not overwrite or self._rank:
            raise StoreError(f"{problem}; use another --out, or --overwrite to move it aside")
        try:
            return move_aside(self.path)
        except OSError as error:
            raise write_error(self.path, error) from error

    # What is there; where a manifest is damaged, look-ups raise StoreError

    def owners(self, sources: Sequence[str], sizes: Sequence[int]) -> list[int]:
        """The rank that is to bring each source in, the same in every process; see `share_sources`.

        `sources` are all paths relative to CLIPS, POSIX, in one order that all processes share,
        `sizes` their bytes. Call it when all have opened the store and none has written yet.
        """
        return share_sources(self._root, sources, sizes, num_ranks=self._num_ranks)

    def is_current(self, source: str, *, size: int, mtime_ns: int) -> bool:
        """Whether a source need not be read: unchanged, and its clips finished or it in quarantine.

        It is one that this process owns. One in quarantine is not current with `retry`.
        """
        record = self._part_that(lambda part: part.source(source)).source(source)
        if record is None or (record.size, record.mtime_ns) != (size, mtime_ns):
            return False
        if record.reason is not None and self._retry:
            return False
        return all(map(self.has_clip, record.clip_ids))

    def has_clip(self, clip_id: str) -> bool:
        """Whether a clip is finished, complete or salvaged, in any part; a partial one is not."""
        records = (part.clip(clip_id) for part in self._own.values())
        if any(record.status in FINISHED for record in records if record is not None):
            return True
        if self._foreign is None:
            # Not before the first look-up: by then every process has made its parts.
            parts = find_parts(self._root).items()
            others = [path for number, path in parts if number not in self._own]
            self._foreign = [Manifest(path, foreign=True) for path in others]
            for manifest in self._foreign:
                self._opened.callback(manifest.close)
        foreign = (manifest.clip(clip_id) for manifest in self._foreign)
        return any(record.status in FINISHED for record in foreign if record is not None)

    def committed_frames(self, clip_id: str) -> int:
        """Frames of a clip that would survive a kill: where to resume it; 0 if unknown here."""
        record = self._part_that(lambda part: part.clip(clip_id)).clip(clip_id)
        return 0 if record is None else record.num_frames

    def _part_that(self, knows: Callable[[PartWriter], object]) -> PartWriter:
        """The part that knows something, else the one where new things go."""
        home = self._own[self._rank]
        others = (part for part in self._own.values() if part is not home)
        return next(filter(knows, others), home)

    # Adding

    def begin_conditions(
        self, clip_id: str, columns: Sequence[Column], *, usual: Sequence[str] = ()
    ) -> str:
        """See that what is known of a clip's frames fits the store; "", or why it does not.

        Where the store has no columns yet, they will be those that `usual` names, or the clip's.
        """
        return self._part_that(lambda part: part.clip(clip_id)).conditions.begin(columns, usual)

    def append(
        self,
        clip_id: str,
        rows: Rows,
        *,
        fps: Fraction,
        conditions: Conditions | None = None,
    ) -> None:
        """Add rows after a clip's committed and pending ones; clips may interleave.

        Args:
            clip_id: ASCII, at most 200 characters.
            rows: shape (n, *item_shape) of the store's dtype; copied.
            fps: frames a second.
            conditions: what is known of these n frames, in columns that `begin_conditions` took.

        Raises:
            ValueError: another shape or dtype, a finished clip, or a bad id or rate.
        """
        part, clip = self._clip_to_change(_checked_id(clip_id))
        if clip.status in FINISHED:
            raise ValueError(f"clip {clip_id} is {clip.status}: nothing can be added to it")
        if rows.shape[1:] != self._spec.item_shape or rows.dtype != self._spec.numpy_dtype:
            raise ValueError(
                f"rows {rows.shape} of {rows.dtype}:"
                f" expected (n, *{self._spec.item_shape}) of {self._spec.dtype}"
            )
        if conditions is not None and len(conditions.values) != len(rows):
            raise ValueError(f"conditions of {len(conditions.values)} frames: expected {len(rows)}")
        clip.fps = _checked_fps(fps)
        known = None if conditions is None else part.conditions.coded(conditions)
        clip.conditions.append(known)
        block = np.array(rows, dtype=self._spec.numpy_dtype, order="C")
        clip.blocks.append(block)
        part.clips[clip_id] = clip
        part.pending_bytes += block.nbytes
        self.commit_if_due()

    def add_cuts(self, clip_id: str, frames: Sequence[int]) -> None:
        """Note frames of a clip, which has rows, that begin another shot; some may be known.

        Raises:
            ValueError: the clip has no rows, or is finished.
        """
        part, clip = self._clip_to_change(clip_id)
        if clip.status in FINISHED or not (clip.num_frames or clip.blocks):
            raise ValueError(f"clip {clip_id} is {clip.status}: expected one that is being added")
        clip.cuts += frames
        part.clips[clip_id] = clip

    def finish_clip(
        self,
        clip_id: str,
        *,
        fps: Fraction,
        status: Literal["complete", "salvaged"] = "complete",
    ) -> None:
        """Say that a clip has all its frames: with the next commit readers may see it.

        "salvaged" is one of which some frames could not be read.

        Raises:
            ValueError: the clip has no frames or is finished, or the rate or status is none.
        """
        part, clip = self._clip_to_change(clip_id)
        if status not in FINISHED or clip.status in FINISHED:
            raise ValueError(f"clip {clip_id} is {clip.status}: it cannot become {status}")
        if not clip.num_frames and not any(map(len, clip.blocks)):
            raise ValueError(f"clip {clip_id} has no frames: expected one or more, or no clip")
        clip.fps, clip.status = _checked_fps(fps), status
        part.clips[clip_id] = clip
        self.commit_if_due()

    def _clip_to_change(self, clip_id: str) -> tuple[PartWriter, ClipRecord]:
        self._check_usable()
        part = self._part_that(lambda part: part.clip(clip_id))
        return part, part.clip(clip_id) or ClipRecord()

    def set_source(self, source: str, *, size: int, mtime_ns: int, clip_ids: Sequence[str]) -> None:
        """Replace what a source points at, and lift its quarantine.

        Its clips may be finished before or after, in any part; the source is current once all are.
        Set when its reading begins, it stays with this part whatever processes come later.

        Raises:
            ValueError: no clips.
        """
        unique = tuple(dict.fromkeys(map(_checked_id, clip_ids)))
        if not unique:
            raise ValueError(
                f"source {source!r} has no clips: expected one or more, or a quarantine"
            )
        self._put_source(source, SourceRecord(size, mtime_ns, unique))

    def quarantine(
        self, source: str, *, size: int, mtime_ns: int, reason: str, clip_ids: Sequence[str] = ()
    ) -> None:
        """Put a source that cannot be read aside, with the reason.

        It then points at `clip_ids` alone: those of its clips that are good, if there are any.
        """
        unique = tuple(dict.fromkeys(map(_checked_id, clip_ids)))
        self._put_source(source, SourceRecord(size, mtime_ns, unique, reason))

    def _put_source(self, source: str, record: SourceRecord) -> None:
        self._check_usable()
        self._part_that(lambda part: part.source(source)).sources[source] = record
        self.commit_if_due()

    def set_labels(self, labels: Mapping[str, str]) -> None:
        """Commit, then replace what the user calls some sources of this process; "" for nothing."""
        with self._own[self._rank].changing() as manifest:
            manifest.put_labels(labels)

    def drop_clip(self, clip_id: str) -> None:
        """Commit, then forget the frames of an unfinished clip, because they are not right.

        Raises:
            ValueError: the clip is finished.
        """
        part, clip = self._clip_to_change(clip_id)
        if clip.status in FINISHED:
            raise ValueError(f"clip {clip_id} is {clip.status}: expected one that is not finished")
        with part.changing() as manifest:
            manifest.drop_frames({clip_id: 0})

    def forget_missing(self, present: Sequence[str]) -> None:
        """Commit, then forget every source and quarantine of this process that is not `present`.

        Clips stay on disk; those that no source points at are no longer read. Should the source
        come back, it costs one hash. `present` has the sources of other processes too.
        """
        for part in self._own.values():
            with part.changing() as manifest:
                manifest.keep_sources(present)

    # Committing

    def commit(self) -> None:
        """Make all that was added durable and visible to readers that open from now on."""
        for part in self._own.values():
            part.commit()
        self._last_commit = time.monotonic()

    def commit_if_due(self) -> None:
        """Commit where the last time is `commit_seconds` ago, or `commit_bytes` are held.

        Each call that adds something does so; who adds seldom calls this now and then.
        """
        late = time.monotonic() - self._last_commit >= self._commit_seconds
        pending_bytes = sum(part.pending_bytes for part in self._own.values())
        if late or pending_bytes >= self._commit_bytes:
            self.commit()

    def _check_usable(self) -> None:
        for part in self._own.values():
            part.check_usable()

    def close(self) -> None:
        """Commit, unless a commit has failed, and free the store; a second time does nothing."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _checked_id(clip_id: str) -> str:
    """An id that every part and reader can hold, else a ValueError."""
    if not (0 < len(clip_id) <= _MAX_CLIP_ID and clip_id.isascii() and clip_id.isprintable()):
        raise ValueError(
            f"clip id {clip_id!r}: expected 1 to {_MAX_CLIP_ID} printable ASCII characters"
        )
    return clip_id


def _checked_fps(fps: Fraction) -> Fraction:
    if fps <= 0:
        raise ValueError(f"{fps} frames a second: expected a positive rate")
    return Fraction(fps)
