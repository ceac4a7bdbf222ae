"""The writer of one part: holds rows until a commit, and commits many clips' rows at once."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ldf_video.errors import StoreError
from ldf_video.output import PARTS
from ldf_video.store.check import repair_shards
from ldf_video.store.format import STORE_JSON, StoreSpec, write_store_json
from ldf_video.store.manifest import (
    MANIFEST,
    ClipRecord,
    Manifest,
    SourceRecord,
    create_manifest,
    last_position,
)
from ldf_video.store.parts import acquire, check_directory, find_difference, write_error
from ldf_video.store.shards import Rows, ShardWriter, cut_after

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass
class PendingClip:
    """A clip as the next commit will leave it: what is committed, and the blocks that are not."""

    record: ClipRecord  # num_frames: the committed ones
    blocks: list[Rows] = field(default_factory=list)

    @property
    def num_frames(self) -> int:
        """Committed and pending ones."""
        return self.record.num_frames + sum(map(len, self.blocks))


class PartWriter:
    """Writes one part, alone, and knows nothing of the others; `StoreWriter` has the contract.

    Attributes:
        clips: what the next commit changes of clips, by id.
        sources: what the next commit sets of sources, by name.
        pending_bytes: of rows that the next commit will write.
        repaired: one line on committed rows that are lost and the clips they belonged to; "" else.
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
        self.clips: dict[str, PendingClip] = {}
        self.sources: dict[str, SourceRecord] = {}
        self.pending_bytes = 0
        self._broken = False
        self._closed = False
        try:
            check_directory(path)
            self._root.mkdir(parents=True, exist_ok=True)
            with ExitStack() as stack:
                stack.callback(acquire(path).release)
                self._prepare(info)
                self._manifest = Manifest(self._root)
                stack.callback(self._manifest.close)
                self.repaired = repair_shards(self._root, spec, self._manifest)
                position = last_position(self._manifest.shard_ends())
                cut_after(self._root, spec, position=position)
                self._opened = stack.pop_all()
        except (OSError, sqlite3.Error) as error:
            raise write_error(self._path, error) from error
        self._shards = ShardWriter(self._root, spec, position=position, shard_bytes=shard_bytes)

    def _prepare(self, info: Mapping[str, Any]) -> None:
        for abandoned in self._root.glob(PARTS):
            abandoned.unlink(missing_ok=True)
        if not (self._root / STORE_JSON).exists():
            create_manifest(self._root)
            write_store_json(self._root, self._spec, info=info)
            return
        problem = find_difference(self._path, self._spec)
        if problem:
            raise StoreError(f"{problem}; use another --out, or --overwrite to move it aside")
        if not (self._root / MANIFEST).exists():
            raise StoreError(
                f"{self._path} has no {MANIFEST}: the store is damaged, use another --out"
            )

    # What is there

    def clip(self, clip_id: str) -> ClipRecord | None:
        """A clip of this part: its committed frames, and its status as of the next commit."""
        pending = self.clips.get(clip_id)
        return self._manifest.clip(clip_id) if pending is None else pending.record

    def source(self, source: str) -> SourceRecord | None:
        """What a source of this part gave, as of the next commit."""
        return self.sources.get(source) or self._manifest.source(source)

    def pending_clip(self, clip_id: str) -> PendingClip:
        """A clip to be changed; it is in the next commit once it is put into `clips`."""
        pending = self.clips.get(clip_id)
        if pending is None:
            record = self._manifest.clip(clip_id) or ClipRecord(0, Fraction(1), "partial")
            pending = PendingClip(record)
        return pending

    # Committing

    def commit(self) -> None:
        """Make all that was added durable; after an error nothing of it is, and the writer ends."""
        self.check_usable()
        if self.clips or self.sources:
            with self._writing():
                self._write()

    def _write(self) -> None:
        runs = {clip_id: self._shards.append(clip.blocks) for clip_id, clip in self.clips.items()}
        self._shards.sync()  # rows are on disk before the manifest points at them
        records = {
            clip_id: replace(clip.record, num_frames=clip.num_frames)
            for clip_id, clip in self.clips.items()
        }
        with self._manifest.transaction():
            for clip_id, clip in self.clips.items():
                first = clip.record.num_frames
                self._manifest.add_runs(clip_id, runs[clip_id], first_frame=first)
            self._manifest.put_clips(records)
            self._manifest.put_sources(self.sources)
        self._shards.keep()
        # From now on they are looked up in the manifest: memory must not grow with their number.
        self.clips = {}
        self.sources = {}
        self.pending_bytes = 0

    @contextmanager
    def changing(self) -> Iterator[Manifest]:
        """Commit, then change the manifest, all at once or not at all."""
        self.commit()
        with self._writing(), self._manifest.transaction():
            yield self._manifest

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
        """Raise StoreError where a commit has failed or the part is closed."""
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
            self._opened.close()
