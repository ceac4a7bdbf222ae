"""Clips into a store: what `encode` and the frame store of `train-frame` share.

Frames of successive clips fill batches of one fixed shape, so neighbours do not matter and short
clips waste nothing; what a clip becomes is committed in the order in which its frames came.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from ldf_video.errors import ReadError, TruncatedError
from ldf_video.progress import Progress
from ldf_video.store.format import StoreSpec
from ldf_video.store.writer import StoreWriter
from ldf_video.training.ranks import Ranks
from ldf_video.video.geometry import Geometry
from ldf_video.video.read import ClipStream, Reader, open_clips
from ldf_video.video.sources import Source, find_sources, natural_key, source_digest

ALONE = Ranks()
NO_INFO: Mapping[str, Any] = MappingProxyType({})

Frames = npt.NDArray[np.uint8]
Transform = Callable[[Frames, int], npt.NDArray[Any]]
"""A batch of frames and how many of them are real -> a row for each frame of the batch."""


@dataclass
class Report:
    """What became of the sources.

    Attributes:
        num_sources: found under CLIPS.
        num_unchanged: known to the store from before and not read again.
        num_frames: added to the store now.
        salvaged: names and reasons of sources of which the readable beginning was kept.
        quarantined: names and reasons of sources of which nothing could be read.
        not_by_decord: names and reasons of videos that PyAV read where decord was asked for.
    """

    num_sources: int = 0
    num_unchanged: int = 0
    num_frames: int = 0
    salvaged: list[tuple[str, str]] = field(default_factory=list)
    quarantined: list[tuple[str, str]] = field(default_factory=list)
    not_by_decord: list[tuple[str, str]] = field(default_factory=list)

    def first_reason(self) -> str:
        """Why nothing could be read, from the first source that could not."""
        if not self.quarantined:
            return "no source gave a frame"
        name, reason = self.quarantined[0]
        return f"{name}: {reason}"

    def lines(self) -> list[str]:
        """A line for every source that did not come whole, one on the reader, then the sum."""
        listed = [f"  salvaged {name}: {reason}" for name, reason in self.salvaged]
        listed += [f"  unreadable {name}: {reason}" for name, reason in self.quarantined]
        if self.not_by_decord:
            counts = Counter(reason for _, reason in self.not_by_decord)
            reasons = "; ".join(f"{count:,} {reason}" for reason, count in counts.most_common())
            listed.append(
                f"  decord was not right for {len(self.not_by_decord):,} of "
                f"{self.num_sources:,} sources ({reasons}): read by PyAV"
            )
        total = (
            f"{self.num_sources:,} sources: {self.num_frames:,} new frames, "
            f"{self.num_unchanged:,} sources unchanged, {len(self.salvaged):,} salvaged, "
            f"{len(self.quarantined):,} unreadable"
        )
        return [*listed, total]


def merge_reports(reports: Sequence[Report]) -> Report:
    """What became of the sources of several processes, listed as one process lists them."""

    def in_order(listed: list[tuple[str, str]]) -> list[tuple[str, str]]:
        return sorted(listed, key=lambda item: natural_key(item[0]))

    return Report(
        num_sources=sum(report.num_sources for report in reports),
        num_unchanged=sum(report.num_unchanged for report in reports),
        num_frames=sum(report.num_frames for report in reports),
        salvaged=in_order([item for report in reports for item in report.salvaged]),
        quarantined=in_order([item for report in reports for item in report.quarantined]),
        not_by_decord=in_order([item for report in reports for item in report.not_by_decord]),
    )


class Reach:
    """How far through all sources the reading is, by their bytes."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._total = max(sum(max(source.size, 0) for source in sources), 1)
        self._before = self._current = 0

    def begin(self, source: Source) -> None:
        """Leave the last source behind and come to this one."""
        self._before += self._current
        self._current = max(source.size, 0)

    def share(self, position: float) -> float:
        """The share of all bytes at a `position` in [0, 1] of the current source."""
        return (self._before + position * self._current) / self._total


class Batcher:
    """Fills batches of one shape across clips and hands their rows to the store in order."""

    def __init__(self, writer: StoreWriter, transform: Transform, *, batch_size: int) -> None:
        self.writer, self.transform, self.batch_size = writer, transform, batch_size
        self._frames: Frames | None = None
        self._count = 0
        self._waiting: list[tuple[str, Fraction, int] | Callable[[], None]] = []
        self._waiting_clips: set[str] = set()

    def add(self, clip_id: str, frame: Frames, *, fps: Fraction) -> None:
        """Take the next frame (H, W, 3) of a clip."""
        if self._frames is None:
            self._frames = np.zeros((self.batch_size, *frame.shape), np.uint8)
        self._frames[self._count] = frame
        self._count += 1
        self._waiting_clips.add(clip_id)
        last = self._waiting[-1] if self._waiting else None
        if isinstance(last, tuple) and last[0] == clip_id:
            self._waiting[-1] = (clip_id, fps, last[2] + 1)
        else:
            self._waiting.append((clip_id, fps, 1))
        if self._count == self.batch_size:
            self.flush()

    def holds(self, clip_id: str) -> bool:
        """Whether frames of a clip, or what is to follow them, wait for the batch to fill."""
        return clip_id in self._waiting_clips

    def then(self, action: Callable[[], None], *, clip_id: str | None = None) -> None:
        """Do something to the store, or to one clip of it, once all rows so far are in it."""
        self._waiting.append(action)
        if clip_id is not None:
            self._waiting_clips.add(clip_id)
        if self._count == 0:
            self.flush()

    def flush(self) -> None:
        """Transform what is there, the rest of the batch being whatever was there before."""
        rows = None
        if self._frames is not None and self._count:
            rows = self.transform(self._frames, self._count)
        first = 0
        for event in self._waiting:
            if isinstance(event, tuple):
                clip_id, fps, count = event
                assert rows is not None
                self.writer.append(clip_id, rows[first : first + count], fps=fps)
                first += count
            else:
                event()
        self._count = 0
        self._waiting.clear()
        self._waiting_clips.clear()


@contextmanager
def open_store(
    path: Path,
    spec: StoreSpec,
    *,
    ranks: Ranks,
    info: Mapping[str, Any] = NO_INFO,
    overwrite: bool = False,
    retry: bool = False,
) -> Iterator[StoreWriter]:
    """Open a store for all processes, each the writer of its parts; see `StoreWriter`.

    Yields:
        The writer of this process, once every process has one. When it is closed, and the `with`
        is left, those of all processes are.

    Raises:
        StoreError: in every process where the first cannot open the store, else in one.
    """
    writers: list[StoreWriter] = []

    def open_own() -> None:
        writers.append(
            StoreWriter(
                path,
                spec,
                info=info,
                overwrite=overwrite,
                retry=retry,
                rank=ranks.index,
                num_ranks=ranks.count,
            )
        )

    ranks.of_first(open_own)  # makes the store, or moves another aside, before anyone looks
    if not ranks.is_first:
        open_own()
    with writers[0] as writer:
        ranks.wait()
        yield writer
    ranks.wait()


def ingest(
    clips: Path,
    writer: StoreWriter,
    geometry: Geometry,
    *,
    transform: Transform = lambda frames, num_real: frames,
    batch_size: int = 64,
    name: str = "read",
    quiet: bool = False,
    ranks: Ranks = ALONE,
    reader: Reader = "auto",
) -> Report:
    """Bring a store up to date with the clips; goes on where a killed run stopped.

    Args:
        clips: a file or a directory.
        writer: of the store; what it holds of unchanged sources is not read again.
        geometry: what frames are brought to.
        transform: uint8 frames (batch_size, H, W, 3), the first so many of them real, to rows
            (batch_size, *item_shape).
        batch_size: frames a batch, always full: its last rows may be stale and are dropped.
        name: of the work, for the progress line.
        quiet: report nothing.
        ranks: the processes that share the sources, each with its writer; the first reports.
        reader: of videos, see `open_clips`.

    Returns:
        What became of each source, of all processes, in each of them.

    Raises:
        UsageError: there is nothing at `clips`.
        StoreError: the store cannot be written.
    """
    sources = _list_sources(clips, ranks)
    names = [source.name for source in sources]
    owners = writer.owners(names)
    mine = [source for source, owner in zip(sources, owners, strict=True) if owner == ranks.index]
    ranks.wait()  # until all know what is whose, nobody writes
    batcher = Batcher(writer, transform, batch_size=batch_size)
    work = _Ingest(writer, geometry, batcher, reader=reader)
    reach = Reach(mine)
    title = name if ranks.count == 1 else f"{name}, process 1 of {ranks.count}"
    with Progress(title, unit="frames", quiet=quiet or not ranks.is_first) as progress:
        work.on_frame = lambda position: progress.update(
            work.report.num_frames, share=reach.share(position)
        )
        for source in mine:
            reach.begin(source)
            work.take(source)
        work.batcher.flush()
        writer.forget_missing(names)
        writer.commit()
        work.report.num_sources = len(mine)
        if ranks.count == 1:
            return work.report
        progress.say(f"{title}: done, waiting for the others")
    return merge_reports(ranks.gather(work.report))


def _list_sources(clips: Path, ranks: Ranks) -> list[Source]:
    """The same list in all processes, though files may come and go between their looks."""
    sources = find_sources(clips)
    if ranks.count == 1:
        return sources
    digest = hashlib.sha256()
    for source in sources:
        digest.update(repr(source).encode("utf-8", "surrogateescape"))
    if len(set(ranks.gather(digest.digest()))) == 1:
        return sources
    return ranks.of_first(lambda: sources)


class _Ingest:
    """One pass over the sources."""

    def __init__(
        self, writer: StoreWriter, geometry: Geometry, batcher: Batcher, *, reader: Reader
    ) -> None:
        self.writer, self.geometry, self.batcher = writer, geometry, batcher
        self.reader: Reader = reader
        self.report = Report()
        self.on_frame: Callable[[float], None] = lambda position: None

    def take(self, source: Source) -> None:
        """Bring one source in, or into the quarantine."""
        if self.writer.is_current(source.name, size=source.size, mtime_ns=source.mtime_ns):
            self.report.num_unchanged += 1
            return
        clip_ids: list[str] = []
        try:
            digest = source_digest(source)
            for stream in open_clips(source, self.geometry, reader=self.reader):
                if stream.why_pyav:
                    self.report.not_by_decord.append((source.name, stream.why_pyav))
                clip_id = digest if stream.index is None else f"{digest}#{stream.index}"
                self._take_clip(source, clip_id, stream)
                clip_ids.append(clip_id)
        except ReadError as error:
            reason = str(error)
            self.report.quarantined.append((source.name, reason))
            self.batcher.then(
                lambda: self.writer.quarantine(
                    source.name, size=source.size, mtime_ns=source.mtime_ns, reason=reason
                )
            )
            return
        self.batcher.then(
            lambda: self.writer.set_source(
                source.name, size=source.size, mtime_ns=source.mtime_ns, clip_ids=clip_ids
            )
        )

    def _take_clip(self, source: Source, clip_id: str, stream: ClipStream) -> None:
        """One clip's frames, from where the store has them."""
        if self.batcher.holds(clip_id) or self.writer.has_clip(clip_id):
            return  # the same bytes under another name
        skipped = self.writer.committed_frames(clip_id)
        status = "complete"
        try:
            for number, frame in enumerate(stream.frames):
                if number >= skipped:
                    self.batcher.add(clip_id, frame, fps=stream.fps)
                    self.report.num_frames += 1
                self.on_frame(stream.position())
        except TruncatedError as error:
            status = "salvaged"
            self.report.salvaged.append((source.name, str(error)))
        self.batcher.then(
            lambda: self.writer.finish_clip(clip_id, fps=stream.fps, status=status),  # type: ignore[arg-type]
            clip_id=clip_id,
        )
