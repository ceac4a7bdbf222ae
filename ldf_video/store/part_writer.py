"""The writer of one part: holds rows until a commit, and commits many clips' rows at once."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ldf_video.errors import StoreError
from ldf_video.output import PARTS
from ldf_video.store.format import STORE_JSON, StoreSpec, write_store_json
from ldf_video.store.manifest import (
    FINISHED,
    MANIFEST,
    ClipRecord,
    Manifest,
    SourceRecord,
    create_manifest,
    last_position,
)
from ldf_video.store.parts import acquire, check_directory, find_difference, write_error
from ldf_video.store.repair import repair_torn
from ldf_video.store.shards import Rows, ShardWriter, cut_after

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_MAX_CLIP_ID = 200


@dataclass
class _OpenClip:
    """A clip as the next commit will leave it: what is committed, and the blocks that are not."""

    record: ClipRecord  # num_frames: the committed ones
    blocks: list[Rows] = field(default_factory=list)

    @property
    def num_pending(self) -> int:
        return sum(map(len, self.blocks))


class PartWriter:
    """Writes one part, alone, and knows nothing of the others; `StoreWriter` has the contract.

    Attributes:
        pending_bytes: of rows that the next commit will write.
        repaired: one line on rows that were committed and are lost, and what was let go; "" else.
    """

    def __init__(
        self, path: Path, spec: StoreSpec, *, info: Mapping[str, Any], shard_bytes: int
    ) -> None:
        """Create a part, or open one made by the same settings; cut what was not committed.

        Raises:
            StoreError: the directory is in use, holds something else, a part that differs or is
                damaged, or cannot be written.
        """
        self._path = path
        self._root = path.resolve()
        self._spec = spec
        self.pending_bytes = 0
        self.repaired = ""
        self._clips: dict[str, _OpenClip] = {}
        self._sources: dict[str, SourceRecord] = {}
        self._broken = False
        self._closed = False
        try:
            check_directory(path)
            self._root.mkdir(parents=True, exist_ok=True)
            self._lock = acquire(path)
            try:
                self._prepare(info)
                self._manifest, self._shards = self._recover(shard_bytes)
            except BaseException:
                self._lock.release()
                raise
        except (OSError, sqlite3.Error) as error:
            raise write_error(self._path, error) from error

    # Opening

    def _prepare(self, info: Mapping[str, Any]) -> None:
        for left in self._root.glob(PARTS):
            left.unlink(missing_ok=True)
        if not (self._root / STORE_JSON).exists():
            create_manifest(self._root)
            write_store_json(self._root, self._spec, info=info)
            return
        problem = find_difference(self._path, self._spec)
        if problem:
            raise StoreError(f"{problem}; use another --out, or --overwrite to move it aside")

    def _recover(self, shard_bytes: int) -> tuple[Manifest, ShardWriter]:
        if not (self._root / MANIFEST).exists():
            raise StoreError(
                f"{self._path} has no {MANIFEST}: the store is damaged, use another --out"
            )
        manifest = Manifest(self._root)
        try:
            self.repaired = repair_torn(self._root, self._spec, manifest)
            position = last_position(manifest.shard_ends())
            cut_after(self._root, self._spec, position=position)
        except BaseException:
            manifest.close()
            raise
        shards = ShardWriter(self._root, self._spec, position=position, shard_bytes=shard_bytes)
        return manifest, shards

    # What is there

    def clip(self, clip_id: str) -> ClipRecord | None:
        """A clip that was begun here: its committed frames, and its status with the next commit."""
        opened = self._clips.get(clip_id)
        return self._manifest.clip(clip_id) if opened is None else opened.record

    def source(self, source: str) -> SourceRecord | None:
        """What a source of this part gave, with the next commit."""
        return self._sources.get(source) or self._manifest.source(source)

    def _open(self, clip_id: str) -> _OpenClip:
        opened = self._clips.get(clip_id)
        if opened is None:
            record = self._manifest.clip(clip_id) or ClipRecord(0, Fraction(1), "partial")
            opened = _OpenClip(record)
        return opened

    # Adding

    def append(self, clip_id: str, rows: Rows, *, fps: Fraction) -> None:
        """See `StoreWriter.append`."""
        self.check_usable()
        clip = self._open(clip_id)
        if clip.record.status in FINISHED:
            raise ValueError(f"clip {clip_id} is {clip.record.status}: nothing can be added to it")
        if rows.shape[1:] != self._spec.item_shape or rows.dtype != self._spec.numpy_dtype:
            raise ValueError(
                f"rows {rows.shape} of {rows.dtype}:"
                f" expected (n, *{self._spec.item_shape}) of {self._spec.dtype}"
            )
        clip.record = replace(clip.record, fps=_checked_fps(fps))
        self._clips[checked_id(clip_id)] = clip
        block = np.array(rows, dtype=self._spec.numpy_dtype, order="C")
        clip.blocks.append(block)
        self.pending_bytes += block.nbytes

    def finish_clip(
        self, clip_id: str, *, fps: Fraction, status: Literal["complete", "salvaged"]
    ) -> None:
        """See `StoreWriter.finish_clip`."""
        self.check_usable()
        clip = self._open(clip_id)
        if status not in FINISHED or clip.record.status in FINISHED:
            raise ValueError(f"clip {clip_id} is {clip.record.status}: it cannot become {status}")
        if not clip.record.num_frames + clip.num_pending:
            raise ValueError(f"clip {clip_id} has no frames: expected one or more, or no clip")
        clip.record = replace(clip.record, fps=_checked_fps(fps), status=status)
        self._clips[clip_id] = clip

    def put_source(self, source: str, record: SourceRecord) -> None:
        """Replace what a source gave."""
        self.check_usable()
        self._sources[source] = record

    def keep_sources(self, present: Iterable[str]) -> None:
        """Commit, then forget every source and quarantine that is not `present`."""
        self.commit()
        with self._writing(), self._manifest.transaction():
            self._manifest.keep_sources(present)

    def drop_clip(self, clip_id: str) -> None:
        """Commit, then forget what was begun of a clip."""
        self.commit()
        record = self.clip(clip_id)
        if record is not None and record.status in FINISHED:
            raise ValueError(
                f"clip {clip_id} is {record.status}: expected one that is not finished"
            )
        with self._writing(), self._manifest.transaction():
            self._manifest.drop_frames({clip_id: 0})

    # Committing

    def commit(self) -> None:
        """Make all that was added durable; after an error nothing of it is, and the writer ends."""
        self.check_usable()
        if self._clips or self._sources:
            with self._writing():
                self._write()

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
        self.pending_bytes = 0

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
            raise write_error(self._path, error) from error
        self._broken = False

    def check_usable(self) -> None:
        """See that no commit has failed and the part is open.

        Raises:
            StoreError: one has, or it is not.
        """
        if self._broken or self._closed:
            raise StoreError(f"the writer of {self._path} has ended: open the store again to go on")

    def close(self) -> None:
        """Commit, unless a commit has failed, and free the part; a second time does nothing."""
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


def checked_id(clip_id: str) -> str:
    """Give back an id that every part and reader can hold.

    Raises:
        ValueError: it is none.
    """
    if not (0 < len(clip_id) <= _MAX_CLIP_ID and clip_id.isascii() and clip_id.isprintable()):
        raise ValueError(
            f"clip id {clip_id!r}: expected 1 to {_MAX_CLIP_ID} printable ASCII characters"
        )
    return clip_id


def _checked_fps(fps: Fraction) -> Fraction:
    if fps <= 0:
        raise ValueError(f"{fps} frames a second: expected a positive rate")
    return Fraction(fps)
