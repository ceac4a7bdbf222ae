"""The writer of a store, or of one process's share of its parts."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from ldf_video.errors import StoreError
from ldf_video.store.format import StoreSpec
from ldf_video.store.manifest import FINISHED, Manifest, SourceRecord
from ldf_video.store.part_writer import PartWriter
from ldf_video.store.parts import (
    find_difference,
    find_differing_part,
    find_parts,
    move_aside,
    part_path,
    share_sources,
    write_error,
)
from ldf_video.store.shards import Rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

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

        Args:
            path: the store's directory; it and its parents are made.
            spec: what the store holds and what produced it.
            info: JSON values that only inform; kept from the store's creation.
            overwrite: move aside a store that differs from `spec` or whose store.json cannot be
                read; a store that fits is kept and continued. Rank 0 does.
            retry: treat sources in quarantine as unknown.
            rank: of this process among those that write together.
            num_ranks: number of them.
            commit_seconds: time between commits.
            commit_bytes: rows held in memory between commits.
            shard_bytes: size at which a new shard begins.

        Raises:
            StoreError: the directory is in use, holds something else, a store that differs or is
                damaged, or cannot be written.
        """
        self.path = Path(path)
        self._spec = spec
        self._retry = retry
        self._rank = rank
        self._num_ranks = num_ranks
        self._commit_seconds = commit_seconds
        self._commit_bytes = commit_bytes
        self.moved_to = self._make_way(overwrite=overwrite)
        self._root = self.path.resolve()
        numbers = {part for part in find_parts(self._root) if part % num_ranks == rank} | {rank}
        self._own: dict[int, PartWriter] = {}
        with ExitStack() as stack:
            for part in sorted(numbers):
                directory = part_path(self.path, part)
                writer = PartWriter(directory, spec, info=info, shard_bytes=shard_bytes)
                stack.callback(writer.close)
                self._own[part] = writer
            self._opened = stack.pop_all()
        self._foreign: list[Manifest] | None = None
        self.repaired = "; ".join(
            f"{part_path(self.path, part).name}: {writer.repaired}" if part else writer.repaired
            for part, writer in self._own.items()
            if writer.repaired
        )
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

    # What is there

    def owners(self, sources: Sequence[str], sizes: Sequence[int]) -> list[int]:
        """Which process is to bring each source in, the same answer in every process.

        A source that a part knows stays with that part. New ones go, the largest first, to the
        process with the fewest bytes so far, those of known sources included. Call it when all
        processes have opened the store and none has written yet.

        Args:
            sources: all paths relative to CLIPS, POSIX, in one order that all processes share.
            sizes: bytes of each.

        Returns:
            A rank for each.

        Raises:
            StoreError: a manifest is damaged.
        """
        return share_sources(self._root, sources, sizes, num_ranks=self._num_ranks)

    def is_current(self, source: str, *, size: int, mtime_ns: int) -> bool:
        """Whether a source need not be read: unchanged, and its clips finished or it in quarantine.

        Args:
            source: path relative to CLIPS, POSIX; one that this process owns.
            size: bytes now.
            mtime_ns: time of last change now.

        Returns:
            False also for a source in quarantine where the writer was opened with `retry`.
        """
        record = self._part_of_source(source).source(source)
        if record is None or (record.size, record.mtime_ns) != (size, mtime_ns):
            return False
        if record.reason is not None:
            return not self._retry
        return all(map(self.has_clip, record.clip_ids))

    def has_clip(self, clip_id: str) -> bool:
        """Whether a clip is finished, complete or salvaged, in any part; a partial one is not.

        Raises:
            StoreError: a manifest is damaged.
        """
        if self._foreign is None:
            # Not before the first look-up: by then every process has made its parts.
            parts = find_parts(self._root).items()
            others = [path for part, path in parts if part not in self._own]
            self._foreign = [Manifest(path, foreign=True) for path in others]
            for manifest in self._foreign:
                self._opened.callback(manifest.close)
        places: list[PartWriter | Manifest] = [*self._own.values(), *self._foreign]
        records = (place.clip(clip_id) for place in places)
        return any(record is not None and record.status in FINISHED for record in records)

    def committed_frames(self, clip_id: str) -> int:
        """Frames of a clip that would survive a kill: where to resume it; 0 if unknown here."""
        record = self._part_of_clip(clip_id).clip(clip_id)
        return 0 if record is None else record.num_frames

    def _part_of_clip(self, clip_id: str) -> PartWriter:
        return self._part_that(lambda part: part.clip(clip_id) is not None)

    def _part_of_source(self, source: str) -> PartWriter:
        return self._part_that(lambda part: part.source(source) is not None)

    def _part_that(self, knows: Callable[[PartWriter], bool]) -> PartWriter:
        """The part that knows something, else the one where new things go."""
        home = self._own[self._rank]
        others = (part for part in self._own.values() if part is not home)
        return next(filter(knows, others), home)

    # Adding

    def append(self, clip_id: str, rows: Rows, *, fps: Fraction) -> None:
        """Add rows after a clip's committed and pending ones; clips may interleave.

        Args:
            clip_id: ASCII, at most 200 characters.
            rows: shape (n, *item_shape) of the store's dtype; copied.
            fps: frames a second.

        Raises:
            ValueError: another shape or dtype, a finished clip, or a bad id or rate.
        """
        self._check_usable()
        part = self._part_of_clip(_checked_id(clip_id))
        clip = part.pending_clip(clip_id)
        if clip.record.status in FINISHED:
            raise ValueError(f"clip {clip_id} is {clip.record.status}: nothing can be added to it")
        if rows.shape[1:] != self._spec.item_shape or rows.dtype != self._spec.numpy_dtype:
            raise ValueError(
                f"rows {rows.shape} of {rows.dtype}:"
                f" expected (n, *{self._spec.item_shape}) of {self._spec.dtype}"
            )
        clip.record = replace(clip.record, fps=_checked_fps(fps))
        block = np.array(rows, dtype=self._spec.numpy_dtype, order="C")
        clip.blocks.append(block)
        part.clips[clip_id] = clip
        part.pending_bytes += block.nbytes
        self.commit_if_due()

    def finish_clip(
        self,
        clip_id: str,
        *,
        fps: Fraction,
        status: Literal["complete", "salvaged"] = "complete",
    ) -> None:
        """Say that a clip has all its frames: with the next commit readers may see it.

        Args:
            clip_id: a clip with at least one frame.
            fps: frames a second.
            status: "salvaged" where only a prefix could be read.

        Raises:
            ValueError: the clip has no frames or is finished, or the rate or status is none.
        """
        self._check_usable()
        part = self._part_of_clip(clip_id)
        clip = part.pending_clip(clip_id)
        if status not in FINISHED or clip.record.status in FINISHED:
            raise ValueError(f"clip {clip_id} is {clip.record.status}: it cannot become {status}")
        if not clip.num_frames:
            raise ValueError(f"clip {clip_id} has no frames: expected one or more, or no clip")
        clip.record = replace(clip.record, fps=_checked_fps(fps), status=status)
        part.clips[clip_id] = clip
        self.commit_if_due()

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

    def quarantine(self, source: str, *, size: int, mtime_ns: int, reason: str) -> None:
        """Put a source that cannot be read aside, with the reason; it then points at no clip."""
        self._put_source(source, SourceRecord(size, mtime_ns, (), reason))

    def _put_source(self, source: str, record: SourceRecord) -> None:
        self._check_usable()
        self._part_of_source(source).sources[source] = record
        self.commit_if_due()

    def drop_clip(self, clip_id: str) -> None:
        """Commit, then forget the frames of an unfinished clip, because they are not right.

        Raises:
            ValueError: the clip is finished.
        """
        self._check_usable()
        part = self._part_of_clip(clip_id)
        record = part.clip(clip_id)
        if record is not None and record.status in FINISHED:
            raise ValueError(
                f"clip {clip_id} is {record.status}: expected one that is not finished"
            )
        with part.changing() as manifest:
            manifest.drop_frames({clip_id: 0})

    def forget_missing(self, present: Sequence[str]) -> None:
        """Commit, then forget every source and quarantine of this process that is not `present`.

        Clips stay on disk; those that no source points at are no longer read. Should the source
        come back, it costs one hash.

        Args:
            present: all sources, those of other processes too.
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
