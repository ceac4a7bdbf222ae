"""Clips into a store: what `encode` and the frame store of `train-frame` share.

Data goes one way: readers in processes of their own give clips and their frames, `make_rows` puts
rows in place of frames, and `_Intake` writes them to the store. What the store already has is not
asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ldf_video.arrays.conditions import Conditions
from ldf_video.clips.condition_files import usual_columns
from ldf_video.clips.read import SKIP
from ldf_video.files.layout import UNSAID, Layout
from ldf_video.intake.batches import Item, RowsMade, Transform, make_rows
from ldf_video.intake.cuts import CutsOfClips
from ldf_video.intake.known import claim
from ldf_video.intake.report import Reach, Report, merge_reports
from ldf_video.options.reading import Reader
from ldf_video.progress import Progress
from ldf_video.readers.pool import ReaderPool
from ldf_video.readers.reading import (
    Clip,
    ClipEnded,
    Event,
    FramesRead,
    SourceEnded,
    SourceFailed,
    SourceFound,
)
from ldf_video.runs.command import MAX_WORKERS, num_cores
from ldf_video.sources.search import Found, is_own, search
from ldf_video.sources.series import PICTURE_SUFFIXES
from ldf_video.sources.source import Source
from ldf_video.store.format import StoreSpec
from ldf_video.store.writer import StoreWriter
from ldf_video.training.ranks import Ranks
from ldf_video.video.geometry import Geometry

ALONE = Ranks()
NO_INFO: Mapping[str, Any] = MappingProxyType({})
UNCHANGED = Transform()


@dataclass(frozen=True)
class Conversion:
    """How clips become rows.

    Attributes:
        geometry: what frames are brought to.
        transform: of batches of frames to batches of rows.
        batch_size: frames a batch, of which the last may be stale and are dropped.
        reader: of videos, see `open_clips`.
        workers: processes that read, chosen by the cores if None; 0 reads in this process, where a
            decoder that crashes takes everything with it.
        cuts: whether cuts are looked for and kept in the store.
    """

    geometry: Geometry
    transform: Transform = UNCHANGED
    batch_size: int = 64
    reader: Reader = "auto"
    workers: int | None = None
    cuts: bool = False


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
        writer = StoreWriter(
            path,
            spec,
            info=info,
            overwrite=overwrite,
            retry=retry,
            rank=ranks.index,
            num_ranks=ranks.count,
        )
        writers.append(writer)

    ranks.of_first(open_own)  # makes the store, or moves another aside, before anyone looks
    if not ranks.is_first:
        open_own()
    with writers[0] as writer:
        ranks.wait()
        yield writer
    ranks.wait()


def lines_on_opening(writer: StoreWriter) -> list[str]:
    """What a user must know of what became of the store that was there."""
    moved = writer.moved_to and f"the store that was there is kept as {writer.moved_to}"
    return [line for line in (moved, writer.repaired) if line]


def list_sources(clips: str | Path, ranks: Ranks, *, layout: Layout = UNSAID) -> Found:
    """The same search in all processes, though files may come and go between their looks.

    Raises:
        UsageError: there is nothing at `clips`.
    """
    found: list[Found] = []

    def look() -> None:
        found.append(search(clips, layout=layout))

    ranks.of_first(look)  # so that a wrong path is reported once
    if ranks.count == 1:
        return found[0]
    if not ranks.is_first:
        look()
    digest = hashlib.sha256()
    for source in found[0].sources:
        digest.update(repr(source).encode("utf-8", "surrogateescape"))
    if len(set(ranks.gather(digest.digest()))) == 1:
        return found[0]
    return ranks.of_first(lambda: found[0])


def ingest(
    found: Found,
    writer: StoreWriter,
    conversion: Conversion,
    *,
    name: str = "read",
    quiet: bool = False,
    ranks: Ranks = ALONE,
) -> Report:
    """Bring a store up to date with the clips; goes on where a killed run stopped.

    Args:
        found: all that there is, the same in all processes; see `list_sources`.
        writer: of the store; what it holds of unchanged sources is not read again.
        conversion: of frames to rows of the store.
        name: of the work, for the progress line.
        quiet: report no progress.
        ranks: the processes that share the sources, each with its writer; the first reports.

    Returns:
        What became of each source, of all processes, in each of them.

    Raises:
        StoreError: the store is of clips of another place, or cannot be written.
    """
    sources = found.sources
    missing = ranks.of_first(lambda: claim(writer.path, sources))
    names = [source.name for source in sources]
    owners = writer.owners(names, [max(source.size, 0) for source in sources])
    mine = [source for source, owner in zip(sources, owners, strict=True) if owner == ranks.index]
    ranks.wait()  # until all know what is whose, nobody writes
    title = name if ranks.count == 1 else f"{name}, process 1 of {ranks.count}"
    with Progress(title, unit="frames", quiet=quiet or not ranks.is_first) as progress:
        report = ingest_sources(mine, writer, conversion, progress)
        if not missing.is_kept:
            writer.forget_missing(names)
        writer.commit()
        if ranks.count > 1:
            progress.say(f"{title}: done, waiting for the others")
    merged = merge_reports(ranks.gather(report))
    lost = ranks.of_first(lambda: missing.lost(writer.path))
    merged.add_search(found, lost, kept=missing.is_kept)
    return merged


def ingest_sources(
    sources: Sequence[Source], writer: StoreWriter, conversion: Conversion, progress: Progress
) -> Report:
    """Bring the store up to date with these sources, each a source of this writer; see `ingest`.

    The largest sources are begun first.
    """
    if labels := {one.name: one.part.label for one in sources if one.part is not None}:
        writer.set_labels(labels)
    intake = _Intake(sources, writer, progress, cuts=conversion.cuts)
    unread = sorted(intake.unread(), key=lambda source: source.size, reverse=True)
    num_workers = choose_workers(conversion.workers, num_sources=len(unread))
    with ReaderPool(conversion.geometry, reader=conversion.reader, num_workers=num_workers) as pool:
        while unread:
            events = intake.choose_clips(pool.read(unread))
            rows = make_rows(events, conversion.transform, batch_size=conversion.batch_size)
            with closing(rows) as items:
                for item in items:
                    intake.write(item)
            unread, intake.copies_to_read = intake.copies_to_read, []
    return intake.report


def choose_workers(asked: int | None, *, num_sources: int) -> int:
    """How many processes read: as asked, else one a core, 16 at most; no more than sources."""
    most = min(num_cores(), MAX_WORKERS) if asked is None else asked
    return min(most, num_sources)


class _Intake:
    """What is known of the sources of one process while they are brought into its store."""

    def __init__(
        self, sources: Sequence[Source], writer: StoreWriter, progress: Progress, *, cuts: bool
    ) -> None:
        self._sources, self._writer, self._progress = sources, writer, progress
        self._cuts = CutsOfClips() if cuts else None
        self._reach = Reach(sources)
        self._usual = usual_columns(sources)
        self._told: set[str] = set()  # clips that are open and whose conditions are kept
        self._lost: dict[str, list[ClipEnded]] = {}  # clips without a frame, by their source
        # By digest and number of clips: the source that is being read, and the others of its bytes.
        self._copies: dict[tuple[str, int | None], list[Source]] = {}
        self.report = Report(num_sources=len(sources))
        self.copies_to_read: list[Source] = []  # of sources that could not be reached

    def unread(self) -> Iterator[Source]:
        """What the store lacks, without what ldf-video wrote."""
        for source in self._sources:
            if self._writer.is_current(source.name, size=source.size, mtime_ns=source.mtime_ns):
                self.report.num_unchanged += 1
                self._reach.end(source)
            elif is_own(source):
                self.report.num_own += 1
                self.report.num_sources -= 1
                self._reach.end(source)
            else:
                yield source

    def choose_clips(self, events: Iterator[Event | None]) -> Iterator[Event | None]:
        """Pass events on; of the sources that are found what the store lacks is to be read."""
        for event in events:
            if isinstance(event, SourceFound):
                event.first_frames[:] = self._first_frames(event)
            else:
                if self._cuts is not None and isinstance(event, FramesRead | ClipEnded):
                    self._cuts.look(event)
                yield event

    def _first_frames(self, found: SourceFound) -> list[int]:
        """With which frame each clip of a source is to be begun."""
        source, clip_ids = found.source, found.clip_ids()
        # Now, not when they are whole: so a later run knows which part has begun what.
        self._writer.set_source(
            source.name, size=source.size, mtime_ns=source.mtime_ns, clip_ids=clip_ids
        )
        same = self._copies.setdefault((found.content, found.num_clips), [])
        same.append(source)
        if len(same) > 1:
            return [SKIP] * len(clip_ids)
        return [
            SKIP if self._writer.has_clip(clip_id) else self._first_frame(clip_id)
            for clip_id in clip_ids
        ]

    def _first_frame(self, clip_id: str) -> int:
        """That of a clip that is new, or gone on with: cuts are found by what lies around them."""
        known = self._writer.committed_frames(clip_id)
        return known if self._cuts is None else self._cuts.begin(clip_id, known)

    def write(self, item: Item) -> None:
        match item:
            case Clip():
                if item.why_pyav:
                    self.report.not_by_decord.append((item.source.title, item.why_pyav))
                self._begin_conditions(item)
            case RowsMade():
                self._write_rows(item)
            case ClipEnded():
                self._end_clip(item)
            case SourceEnded():
                self._reach.end(item.found.source)
                self._end_source(item.found)
            case SourceFailed():
                self._fail(item)
        self._writer.commit_if_due()

    def _begin_conditions(self, clip: Clip) -> None:
        """See that what is known of a clip's frames fits that of others; else it is not kept."""
        if not clip.columns:
            return
        problem = self._writer.begin_conditions(clip.clip_id, clip.columns, usual=self._usual)
        if problem:
            note = f"conditions are not used, {clip.source.conditions or 'its own'}: {problem}"
            self.report.noted.append((clip.source.title, note))
        else:
            self._told.add(clip.clip_id)

    def _write_rows(self, made: RowsMade) -> None:
        clip_id, rows, known = made.clip.clip_id, made.rows, made.conditions
        if self._cuts is not None:
            dropped = self._cuts.drop_known(clip_id, len(rows))
            rows = rows[dropped:]
            known = known and Conditions(known.columns, known.values[dropped:])
        if len(rows):
            told = known if clip_id in self._told else None
            self._writer.append(clip_id, rows, fps=made.clip.fps, conditions=told)
            self._add_cuts(clip_id)
        self.report.num_frames += len(rows)
        self._reach.at(made.clip.source, made.position)
        self._progress.update(self.report.num_frames, share=self._reach.share)

    def _add_cuts(self, clip_id: str) -> None:
        if self._cuts is not None and (found := self._cuts.take(clip_id)):
            self._writer.add_cuts(clip_id, found)
            self.report.num_cuts += len(found)

    def _end_clip(self, ended: ClipEnded) -> None:
        source = ended.clip.source
        self._told.discard(ended.clip.clip_id)
        self._add_cuts(ended.clip.clip_id)
        if not (ended.num_frames or self._writer.committed_frames(ended.clip.clip_id)):
            self._lost.setdefault(source.name, []).append(ended)
            return
        if ended.damage:
            self.report.salvaged.append((source.title, ended.damage))
        if ended.note:
            self.report.noted.append((source.title, ended.note))
        is_picture = source.series is None and source.path.suffix.lower() in PICTURE_SUFFIXES
        if is_picture and ended.num_frames == 1:
            self.report.num_stills += 1
            self.report.still = self.report.still or source.title
        self._writer.finish_clip(
            ended.clip.clip_id,
            fps=ended.clip.fps,
            status="salvaged" if ended.damage else "complete",
        )

    def _end_source(self, found: SourceFound) -> None:
        """Note of which of its clips nothing could be read: they alone are left out."""
        copies = self._end_copies(found)
        if not (lost := self._lost.pop(found.source.name, [])):
            return
        first, clip_ids = lost[0], found.clip_ids()
        bad = {ended.clip.clip_id for ended in lost}
        good, reason = [clip_id for clip_id in clip_ids if clip_id not in bad], first.damage
        if good:
            which = first.clip.name or f"clip {first.clip.index}"
            reason = f"{len(lost):,} of {len(clip_ids):,} clips cannot be read: {which}: {reason}"
            reason = reason.replace(f"{which}: {which}: ", f"{which}: ")  # arrays say it themselves
        for source in (found.source, *copies):
            self._quarantine(source, reason, good)

    def _quarantine(self, source: Source, reason: str, clip_ids: Sequence[str] = ()) -> None:
        self.report.quarantined.append((source.title, reason))
        self._writer.quarantine(
            source.name,
            size=source.size,
            mtime_ns=source.mtime_ns,
            reason=reason,
            clip_ids=clip_ids,
        )

    def _fail(self, event: SourceFailed) -> None:
        """Put a source in quarantine, and its copies if they are no better."""
        self._reach.end(event.source)
        self._lost.pop(event.source.name, None)
        if event.clip is not None:
            if event.fault != "changed":
                self._writer.commit()  # the clip, or a copy of it, is gone on with
            elif not self._writer.has_clip(event.clip.clip_id):
                self._writer.drop_clip(event.clip.clip_id)
        failed = [event.source]
        copies = [] if event.found is None else self._end_copies(event.found)
        if event.fault == "content":
            failed += copies
        else:
            self.copies_to_read += copies
        good: list[str] = []  # what came before it is as it was
        if event.found is not None and event.fault != "changed":
            good = [one for one in event.found.clip_ids() if self._writer.has_clip(one)]
        for source in failed:
            self._quarantine(source, event.reason, good)

    def _end_copies(self, found: SourceFound) -> list[Source]:
        """The other sources of the bytes of one that is no longer read; none of one of those."""
        key = found.content, found.num_clips
        if found.source not in self._copies.get(key, [])[:1]:
            return []
        return self._copies.pop(key)[1:]
