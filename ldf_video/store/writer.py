"""The one writer of a store: buffers rows, and commits many clips' rows at once."""

from __future__ import annotations

import errno
import sqlite3
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from filelock import FileLock, Timeout

from ldf_video.errors import StoreError
from ldf_video.store.format import (
    STORE_JSON,
    StoreSpec,
    describe_difference,
    read_store_json,
    write_store_json,
)
from ldf_video.store.manifest import (
    FINISHED,
    MANIFEST,
    ClipRecord,
    Manifest,
    SourceRecord,
    Summary,
    create_manifest,
    last_position,
    summarize,
)
from ldf_video.store.shards import Rows, ShardWriter, count_rows, cut_after, shard_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

MIB = 1 << 20
GIB = 1 << 30

_LOCK = ".lock"
# What a kill can leave before a new store has its store.json.
_UNBORN = {_LOCK, MANIFEST, f"{MANIFEST}-journal", f"{STORE_JSON}.tmp"}
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_MAX_CLIP_ID = 200
_NO_INFO: Mapping[str, Any] = MappingProxyType({})


@dataclass
class _OpenClip:
    """A clip as the next commit will leave it: what is committed, and the blocks that are not."""

    record: ClipRecord  # num_frames: the committed ones
    blocks: list[Rows] = field(default_factory=list)

    @property
    def num_pending(self) -> int:
        return sum(map(len, self.blocks))


class StoreWriter:
    """Writes a store, alone; readers see each commit whole.

    A commit comes every `commit_seconds` or `commit_bytes`, whichever is first, from inside the
    calls that add something, and at the end. A kill at any instant loses what came after the last
    one and nothing else. Use it from one thread, as a context manager: Ctrl-C or another error
    still commits what is there.

    Attributes:
        moved_to: where `overwrite` put the store that was there, or None.
    """

    def __init__(
        self,
        path: Path,
        spec: StoreSpec,
        *,
        info: Mapping[str, Any] = _NO_INFO,
        overwrite: bool = False,
        retry: bool = False,
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
                read; a store that fits is kept and continued.
            retry: treat sources in quarantine as unknown.
            commit_seconds: time between commits.
            commit_bytes: rows held in memory between commits.
            shard_bytes: size at which a new shard begins.

        Raises:
            StoreError: the directory is in use, holds something else, a store that differs or is
                damaged, or cannot be written.
        """
        self._path = Path(path)
        self._root = self._path.resolve()  # a linked directory is moved and made where it really is
        self._spec = spec
        self._retry = retry
        self._commit_seconds = commit_seconds
        self._commit_bytes = commit_bytes
        self.moved_to: Path | None = None
        self._clips: dict[str, _OpenClip] = {}
        self._sources: dict[str, SourceRecord] = {}
        self._pending_bytes = 0
        self._broken = False
        self._closed = False
        self._counted: Summary | None = None
        try:
            self._check_directory()
            self._lock = self._acquire()
            try:
                self._prepare(info, overwrite=overwrite)
                self._manifest, self._shards = self._recover(shard_bytes)
            except BaseException:
                self._lock.release()
                raise
        except (OSError, sqlite3.Error) as error:
            raise self._write_error(error) from error
        self._last_commit = time.monotonic()

    # Opening

    def _check_directory(self) -> None:
        if self._root.exists() and not self._root.is_dir():
            raise StoreError(f"{self._path} is a file: expected a directory, use another --out")
        self._root.mkdir(parents=True, exist_ok=True)
        names = {entry.name for entry in self._root.iterdir()}
        if STORE_JSON not in names and not names <= _UNBORN:
            raise StoreError(
                f"{self._path} holds files but no store (for instance {min(names - _UNBORN)}):"
                " expected an empty directory or a store, use another --out"
            )

    def _acquire(self) -> FileLock:
        lock = FileLock(self._root / _LOCK)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise StoreError(
                f"{self._path} is in use by another process:"
                " wait for it to end, or use another --out"
            ) from None
        return lock

    def _prepare(self, info: Mapping[str, Any], *, overwrite: bool) -> None:
        if (self._root / STORE_JSON).exists():
            problem = self._problem()
            if problem and not overwrite:
                raise StoreError(f"{problem}; use another --out, or --overwrite to move it aside")
            if not problem:
                return
            self._move_aside()
        create_manifest(self._root)
        write_store_json(self._root, self._spec, info=info)

    def _problem(self) -> str:
        try:
            found, _ = read_store_json(self._root)
        except StoreError as error:
            return str(error)
        difference = describe_difference(found, self._spec)
        return difference and f"{self._path} was made by other settings, {difference}"

    def _move_aside(self) -> None:
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        base = self._path if self._path.name else self._root
        names = [
            f"{base.name}.old-{stamp}",
            *(f"{base.name}.old-{stamp}-{i}" for i in range(2, 1000)),
        ]
        aside = next(name for name in names if not self._root.with_name(name).exists())
        self._root.rename(self._root.with_name(aside))
        self.moved_to = (
            self._root.with_name(aside) if self._path.is_symlink() else base.with_name(aside)
        )
        old_lock = self._lock
        self._root.mkdir()
        self._lock = self._acquire()
        old_lock.release()

    def _recover(self, shard_bytes: int) -> tuple[Manifest, ShardWriter]:
        if not (self._root / MANIFEST).exists():
            raise StoreError(
                f"{self._path} has no {MANIFEST}: the store is damaged, use another --out"
            )
        manifest = Manifest(self._root)
        try:
            ends = manifest.shard_ends()
            for shard, num_rows in ends.items():
                held = count_rows(self._root, self._spec, shard=shard)
                if not 0 < num_rows <= held:
                    raise StoreError(
                        f"{shard_path(self._path, shard)} holds {held} rows, its manifest counts"
                        f" {num_rows}: the store is damaged, use another --out"
                    )
            position = last_position(ends)
            cut_after(self._root, self._spec, position=position)
        except BaseException:
            manifest.close()
            raise
        shards = ShardWriter(self._root, self._spec, position=position, shard_bytes=shard_bytes)
        return manifest, shards

    # What is there

    def is_current(self, source: str, *, size: int, mtime_ns: int) -> bool:
        """Whether a source need not be read: unchanged, and its clips finished or it in quarantine.

        Args:
            source: path relative to CLIPS, POSIX.
            size: bytes now.
            mtime_ns: time of last change now.

        Returns:
            False also for a source in quarantine where the writer was opened with `retry`.
        """
        record = self._sources.get(source) or self._manifest.source(source)
        if record is None or (record.size, record.mtime_ns) != (size, mtime_ns):
            return False
        if record.reason is not None:
            return not self._retry
        return all(map(self.has_clip, record.clip_ids))

    def has_clip(self, clip_id: str) -> bool:
        """Whether a clip is finished, complete or salvaged; a partial one is not."""
        return self._find(clip_id).record.status in FINISHED

    def committed_frames(self, clip_id: str) -> int:
        """Frames of a clip that would survive a kill: where to resume it; 0 if unknown."""
        return self._find(clip_id).record.num_frames

    def _find(self, clip_id: str) -> _OpenClip:
        if clip_id in self._clips:
            return self._clips[clip_id]
        return _OpenClip(self._manifest.clip(clip_id) or ClipRecord(0, Fraction(1), "partial"))

    @property
    def num_clips(self) -> int:
        """Finished clips of current sources, as of the last commit."""
        return self._summary().num_clips

    @property
    def num_frames(self) -> int:
        """Frames of those clips."""
        return self._summary().num_frames

    @property
    def num_bytes(self) -> int:
        """Bytes of those frames' rows."""
        return self._summary().num_frames * self._spec.row_bytes

    @property
    def num_quarantined(self) -> int:
        """Sources in quarantine, as of the last commit."""
        return self._summary().num_quarantined

    def _summary(self) -> Summary:
        if self._counted is None or not self._closed:
            self._counted = summarize(self._root)
        return self._counted

    # Adding

    def append(self, clip_id: str, rows: Rows, *, fps: Fraction) -> None:
        """Add rows after a clip's committed and pending ones; clips may interleave.

        Args:
            clip_id: ASCII, at most 200 characters.
            rows: shape (n, *item_shape) of the store's dtype; copied.
            fps: frames a second.

        Raises:
            ValueError: another shape or dtype, a finished clip, or a bad id or rate.
            StoreError: the disk is full, or the writer has failed or is closed.
        """
        self._check_usable()
        clip = self._find(clip_id)
        if clip.record.status in FINISHED:
            raise ValueError(f"clip {clip_id} is {clip.record.status}: nothing can be added to it")
        if rows.shape[1:] != self._spec.item_shape or rows.dtype != self._spec.numpy_dtype:
            raise ValueError(
                f"rows {rows.shape} of {rows.dtype}:"
                f" expected (n, *{self._spec.item_shape}) of {self._spec.dtype}"
            )
        clip.record = replace(clip.record, fps=_checked_fps(fps))
        self._clips[_checked_id(clip_id)] = clip
        block = np.array(rows, dtype=self._spec.numpy_dtype, order="C")
        clip.blocks.append(block)
        self._pending_bytes += block.nbytes
        self._commit_if_due()

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
            StoreError: the disk is full, or the writer has failed or is closed.
        """
        self._check_usable()
        clip = self._find(clip_id)
        if status not in FINISHED or clip.record.status in FINISHED:
            raise ValueError(f"clip {clip_id} is {clip.record.status}: it cannot become {status}")
        if not clip.record.num_frames + clip.num_pending:
            raise ValueError(f"clip {clip_id} has no frames: expected one or more, or no clip")
        clip.record = replace(clip.record, fps=_checked_fps(fps), status=status)
        self._clips[clip_id] = clip
        self._commit_if_due()

    def set_source(self, source: str, *, size: int, mtime_ns: int, clip_ids: Sequence[str]) -> None:
        """Replace what a source points at, and lift its quarantine.

        Its clips may be finished before or after. A source is current once all of them are.

        Raises:
            ValueError: no clips.
            StoreError: the disk is full, or the writer has failed or is closed.
        """
        unique = tuple(dict.fromkeys(map(_checked_id, clip_ids)))
        if not unique:
            raise ValueError(
                f"source {source!r} has no clips: expected one or more, or a quarantine"
            )
        self._put_source(source, SourceRecord(size, mtime_ns, unique))

    def quarantine(self, source: str, *, size: int, mtime_ns: int, reason: str) -> None:
        """Put a source that cannot be read aside, with the reason; it then points at no clip.

        Raises:
            StoreError: the disk is full, or the writer has failed or is closed.
        """
        self._put_source(source, SourceRecord(size, mtime_ns, (), reason))

    def _put_source(self, source: str, record: SourceRecord) -> None:
        self._check_usable()
        self._sources[source] = record
        self._commit_if_due()

    def forget_missing(self, present: Iterable[str]) -> None:
        """Commit, then forget every source and quarantine that is not `present`.

        Clips stay on disk; those that no source points at are no longer read. Should the source
        come back, it costs one hash.

        Raises:
            StoreError: the disk is full, or the writer has failed or is closed.
        """
        self.commit()
        with self._writing(), self._manifest.transaction():
            self._manifest.keep_sources(present)

    # Committing

    def commit(self) -> None:
        """Make all that was added durable and visible to readers that open from now on.

        Raises:
            StoreError: the disk is full or fails; nothing of this commit is kept, the writer ends.
        """
        self._check_usable()
        if self._clips or self._sources:
            with self._writing():
                self._write()
        self._last_commit = time.monotonic()

    def _write(self) -> None:
        runs = {clip_id: self._shards.append(clip.blocks) for clip_id, clip in self._clips.items()}
        self._shards.sync()  # rows are on disk before the manifest points at them
        records = {
            clip_id: replace(clip.record, num_frames=clip.record.num_frames + clip.num_pending)
            for clip_id, clip in self._clips.items()
        }
        with self._manifest.transaction():
            for clip_id, clip in self._clips.items():
                first = clip.record.num_frames
                self._manifest.add_runs(clip_id, runs[clip_id], first_frame=first)
            self._manifest.put_clips(records)
            self._manifest.put_sources(self._sources)
        self._shards.keep()
        # From now on they are looked up in the manifest: memory must not grow with their number.
        self._clips = {}
        self._sources = {}
        self._pending_bytes = 0

    def _commit_if_due(self) -> None:
        late = time.monotonic() - self._last_commit >= self._commit_seconds
        if late or self._pending_bytes >= self._commit_bytes:
            self.commit()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        # Whatever interrupts a commit, Ctrl-C included, what is in memory may be half-committed: it
        # must not be committed again. The next open starts from what the manifest says.
        self._broken = True
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            with suppress(OSError, StoreError):
                self._shards.undo()
            raise self._write_error(error) from error
        self._broken = False

    def _write_error(self, error: OSError | sqlite3.Error) -> StoreError:
        if isinstance(error, OSError):
            full, why = error.errno in _DISK_FULL, error.strerror or str(error)
        else:
            full, why = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL, str(error)
        what = "disk full" if full else "cannot write"
        return StoreError(
            f"{what} at {self._path} ({why}):"
            " what was committed is safe, make room or use another --out"
        )

    def _check_usable(self) -> None:
        if self._broken or self._closed:
            raise StoreError(f"the writer of {self._path} has ended: open the store again to go on")

    # Ending

    def close(self) -> None:
        """Commit, unless a commit has failed, and free the store; a second time does nothing.

        Raises:
            StoreError: the disk is full or fails.
        """
        if self._closed:
            return
        try:
            if not self._broken:
                self.commit()
        finally:
            self._closed = True
            self._shards.close()
            self._manifest.close()
            self._lock.release()

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
    if not (0 < len(clip_id) <= _MAX_CLIP_ID and clip_id.isascii() and clip_id.isprintable()):
        raise ValueError(
            f"clip id {clip_id!r}: expected 1 to {_MAX_CLIP_ID} printable ASCII characters"
        )
    return clip_id


def _checked_fps(fps: Fraction) -> Fraction:
    if fps <= 0:
        raise ValueError(f"{fps} frames a second: expected a positive rate")
    return Fraction(fps)
