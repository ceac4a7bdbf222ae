"""What becomes of a source and its clips while they are read: what is asked for, and written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ldf_video.arrays.conditions import Conditions
from ldf_video.clips.condition_files import usual_columns
from ldf_video.clips.read import SKIP
from ldf_video.intake.batches import Item, RowsMade
from ldf_video.intake.cuts import CutsOfClips
from ldf_video.intake.report import Reach, Report
from ldf_video.progress import Progress
from ldf_video.readers.reading import (
    Clip,
    ClipEnded,
    Event,
    FramesRead,
    SourceEnded,
    SourceFailed,
    SourceFound,
)
from ldf_video.sources.search import is_own
from ldf_video.sources.series import PICTURE_SUFFIXES
from ldf_video.sources.source import Source
from ldf_video.store.writer import StoreWriter


class Intake:
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
