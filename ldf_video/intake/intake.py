"""Sources into the store of one process: readers, batches and clips on their way.

Readers in processes of their own give frames, `Batcher` has them transformed, and each clip's rows
go to the store in the order of its frames. What the store already has is not asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from ldf_video.intake.batches import Batcher, Rows, Transform
from ldf_video.intake.report import Reach, Report
from ldf_video.progress import Progress
from ldf_video.readers.events import (
    ClipBegun,
    ClipEnded,
    Event,
    FramesRead,
    SourceEnded,
    SourceFailed,
)
from ldf_video.readers.pool import ReaderPool
from ldf_video.runs.devices import MAX_WORKERS, num_cores
from ldf_video.store.writer import StoreWriter
from ldf_video.video.geometry import Geometry
from ldf_video.video.read import SKIP, Reader
from ldf_video.video.series import PICTURE_SUFFIXES
from ldf_video.video.sources import Source, is_own


def choose_workers(asked: int | None, *, num_sources: int) -> int:
    """How many processes read: as asked, else one a core, 16 at most; no more than sources."""
    most = min(num_cores(), MAX_WORKERS) if asked is None else asked
    return min(most, num_sources)


def take_in(
    sources: Sequence[Source],
    writer: StoreWriter,
    geometry: Geometry,
    *,
    transform: Transform,
    batch_size: int,
    progress: Progress,
    reader: Reader = "auto",
    workers: int | None = None,
) -> Report:
    """Bring the store up to date with these sources, each a source of this writer; see `ingest`."""
    with Batcher(transform, batch_size=batch_size) as batcher:
        intake = _Intake(sources, writer, batcher, progress)
        intake.run(geometry, reader=reader, workers=workers)
    return intake.report


class _Clip:
    """One clip on its way into the store, from the frames that it has there on."""

    def __init__(
        self,
        writer: StoreWriter,
        clip_id: str,
        begun: ClipBegun,
        *,
        on_new: Callable[[int], None],
    ) -> None:
        self._writer, self._clip_id, self._fps = writer, clip_id, begun.fps
        self._on_new = on_new

    def take(self, rows: Rows) -> None:
        """Add the next rows."""
        self._writer.append(self._clip_id, rows, fps=self._fps)
        self._on_new(len(rows))

    def leave(self, *, are_rows_good: bool) -> None:
        """Commit what came of the clip, for where it or a copy is gone on with, or forget it."""
        if are_rows_good:
            self._writer.commit()
        elif not self._writer.has_clip(self._clip_id):
            self._writer.drop_clip(self._clip_id)

    def finish(self, damage: str) -> None:
        """All frames that could be read have been taken."""
        self._writer.finish_clip(
            self._clip_id, fps=self._fps, status="salvaged" if damage else "complete"
        )


class _Intake:
    """One pass over the sources of this process."""

    def __init__(
        self,
        sources: Sequence[Source],
        writer: StoreWriter,
        batcher: Batcher,
        progress: Progress,
    ) -> None:
        self._sources, self._writer = sources, writer
        self._batcher, self._progress = batcher, progress
        self._reach = Reach(sources)
        self._digests: dict[str, str] = {}  # of sources that were opened, by name
        self._clips: dict[str, _Clip] = {}  # the clip that a source is at, by the source's name
        self._lengths: dict[str, int] = {}  # of these, as far as they were read
        self._owners: dict[str, str] = {}  # the source that gives a clip, by the clip's id
        self._copies: dict[str, list[Source]] = {}  # the other sources of the same bytes, by digest
        self._next_round: list[Source] = []  # copies of what could not be reached
        self.report = Report(num_sources=len(sources))

    def run(self, geometry: Geometry, *, reader: Reader, workers: int | None) -> None:
        """Read what the store lacks, the largest sources first."""
        new = [source for source in self._sources if not self._is_current(source)]
        new = [source for source in new if not self._is_own(source)]
        new.sort(key=lambda source: source.size, reverse=True)
        num_workers = choose_workers(workers, num_sources=len(new))
        with ReaderPool(geometry, reader=reader, num_workers=num_workers) as pool:
            while new:
                for event in pool.read(new, self._plan):
                    if event is not None:
                        self._take(event)
                    self._batcher.poll()
                    self._writer.commit_if_due()
                self._batcher.flush()
                new, self._next_round = self._next_round, []

    def _is_current(self, source: Source) -> bool:
        current = self._writer.is_current(source.name, size=source.size, mtime_ns=source.mtime_ns)
        if current:
            self.report.num_unchanged += 1
            self._reach.end(source)
        return current

    def _is_own(self, source: Source) -> bool:
        own = is_own(source)
        if own:
            self.report.num_own += 1
            self.report.num_sources -= 1
            self._reach.end(source)
        return own

    def _plan(self, source: Source, digest: str, num_clips: int | None) -> list[int]:
        """With which frame each clip of a source is to be begun."""
        self._digests[source.name] = digest
        clip_ids = ids_of(digest, num_clips)
        # Now, not when they are whole: so a later run knows which part has begun what.
        self._writer.set_source(
            source.name, size=source.size, mtime_ns=source.mtime_ns, clip_ids=clip_ids
        )
        if self._owners.setdefault(clip_ids[0], source.name) != source.name:
            self._copies.setdefault(digest, []).append(source)
            return [SKIP] * len(clip_ids)
        return [self._first_frame(clip_id) for clip_id in clip_ids]

    def _first_frame(self, clip_id: str) -> int:
        if self._writer.has_clip(clip_id):
            return SKIP
        return self._writer.committed_frames(clip_id)

    def _take(self, event: Event) -> None:
        source = event.source
        match event:
            case ClipBegun():
                self._begin_clip(event)
            case FramesRead():
                self._batcher.add(event.frames, to=self._clips[source.name].take)
                self._lengths[source.name] += len(event.frames)
                self._reach.at(source, event.position)
                self._progress.update(self.report.num_frames, share=self._reach.share)
            case ClipEnded():
                if event.damage:
                    self.report.salvaged.append((source.name, event.damage))
                if event.note:
                    self.report.noted.append((source.name, event.note))
                if self._lengths[source.name] == 1:
                    self._note_still(source)
                finish = self._clips.pop(source.name).finish
                self._batcher.then(partial(finish, event.damage))
            case SourceEnded():
                self._end(source, event.digest, event.num_clips)
            case SourceFailed():
                self._fail(event)

    def _begin_clip(self, event: ClipBegun) -> None:
        source = event.source
        if event.why_pyav:
            self.report.not_by_decord.append((source.name, event.why_pyav))
        self._lengths[source.name] = event.first_frame
        self._clips[source.name] = _Clip(
            self._writer,
            id_of(self._digests[source.name], event.index),
            event,
            on_new=self._count,
        )

    def _note_still(self, source: Source) -> None:
        if source.series is None and source.path.suffix.lower() in PICTURE_SUFFIXES:
            self.report.num_stills += 1
            self.report.still = self.report.still or source.name

    def _count(self, num_frames: int) -> None:
        self.report.num_frames += num_frames

    def _end(self, source: Source, digest: str, num_clips: int | None) -> None:
        self._reach.end(source)
        self._digests.pop(source.name, None)
        first = ids_of(digest, num_clips)[0]
        if self._owners.get(first) == source.name:
            self._batcher.then(partial(self._forget, first, digest))

    def _forget(self, clip_id: str, digest: str) -> None:
        """Leave a clip to the store."""
        self._owners.pop(clip_id, None)
        self._copies.pop(digest, None)

    def _fail(self, event: SourceFailed) -> None:
        self._reach.end(event.source)
        # Not now: rows are on their way, and a copy must go on behind them.
        self._batcher.then(
            partial(
                self._put_aside,
                event,
                digest=self._digests.pop(event.source.name, ""),
                begun=self._clips.pop(event.source.name, None),
            )
        )

    def _put_aside(self, event: SourceFailed, *, digest: str, begun: _Clip | None) -> None:
        """Put a source that failed in quarantine, and its copies if they are no better."""
        if begun is not None:
            begun.leave(are_rows_good=event.fault != "changed")
        failed = [event.source]
        for first in (digest, id_of(digest, 0)):
            if self._owners.get(first) == event.source.name:
                del self._owners[first]
                copies = self._copies.pop(digest, [])
                if event.fault == "content":
                    failed += copies
                else:
                    self._next_round += copies
        for source in failed:
            self.report.quarantined.append((source.name, event.reason))
            self._writer.quarantine(
                source.name, size=source.size, mtime_ns=source.mtime_ns, reason=event.reason
            )


def id_of(digest: str, index: int | None) -> str:
    """The id of a clip: the digest of its source, and its number in an array of clips."""
    return digest if index is None else f"{digest}#{index}"


def ids_of(digest: str, num_clips: int | None) -> list[str]:
    """The ids of all clips of a source."""
    if num_clips is None:
        return [digest]
    return [id_of(digest, index) for index in range(num_clips)]
