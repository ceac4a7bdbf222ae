"""preview: clips, or a store of them, -> one page that shows what will be trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ldf_video.clips.read import SKIP
from ldf_video.errors import LdfError, StoreError, UsageError, counted
from ldf_video.files.layout import Layout, layout_of
from ldf_video.intake.advice import Advice, Totals, about, advise, totals
from ldf_video.intake.report import note_lines
from ldf_video.intake.seen import Look, Seen, told_line
from ldf_video.levels.latents import maker_of
from ldf_video.models.frame import FrameModel
from ldf_video.options.reading import Encode, Preview
from ldf_video.output import write_atomically
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
from ldf_video.recipes.adaptation import Asked, shipped_fits
from ldf_video.recipes.far_frames import spread_strips
from ldf_video.recipes.page import FEW_CLIPS, Left, View, write_page
from ldf_video.runs.command import (
    MAX_WORKERS,
    check_files,
    choose_device,
    num_cores,
    out_of_memory,
    own_state,
)
from ldf_video.runs.zoo import frame_model_of
from ldf_video.sources.name_numbers import natural_key
from ldf_video.sources.search import Found, is_own, search
from ldf_video.sources.source import Source
from ldf_video.store.format import STORE_JSON
from ldf_video.store.reader import StoreReader
from ldf_video.store.shards import Rows
from ldf_video.training.ranks import check_alone
from ldf_video.video.geometry import Geometry, make_geometry
from ldf_video.video.pixels import from_model

Frames = npt.NDArray[np.uint8]

SHOWN = 1_000
"""Clips that are shown at most, and looked at unless all are."""
FRAMES, LEAST_FRAMES = 40_000, 32
"""Read of all sources together unless all are, and of each at least."""
FAR = 1.5
"""Times the frames that were read, above which a clip goes on far behind them."""
STRIP, SHORT_STRIP = 12, 8
"""Frames of a strip: of few clips, of many."""
STORED, LEAST_STORED = 4_096, 8
"""Frames taken of a store in all, and of each clip at least."""
DECODED_AT_ONCE = 64
TYPED = ("size", "fps", "crop", *(one.name for one in fields(Layout)))
"""Options that say how clips are read."""


@dataclass(frozen=True)
class Previewed:
    """What a preview found.

    Attributes:
        path: the page.
        totals: of all clips.
        advice: what is wrong with them, the worst first.
        unreadable: names of sources that gave no frame, and the reasons.
        noted: names of clips of which something is to be known, such as that they are cut short,
            and what.
        conditions: what is known of frames, and of how many, in words; empty for nothing.
        fits: the shipped frame models and how well each brings a sample back, in dB, the best
            first; empty for a store.
    """

    path: Path
    totals: Totals
    advice: tuple[Advice, ...]
    unreadable: tuple[tuple[str, str], ...]
    noted: tuple[tuple[str, str], ...]
    conditions: str
    fits: dict[str, float]

    def lines(self) -> list[str]:
        """It in a few lines."""
        sums = self.totals
        exact = sums.is_whole
        lines = [
            f"{counted(sums.about_clips, 'clip')}, {about(sums.about_frames, exact=exact)} frames, "
            f"{counted(round(sums.about_seconds), 'second')}, "
            f"{about(sums.about_different, exact=exact)} different frames"
        ]
        lines += [self.conditions] if self.conditions else []
        lines += [
            f"warning: {advice.what} {advice.todo} {advice.command}" for advice in self.advice
        ]
        lines += note_lines(self.noted)
        if self.unreadable:
            lines.append(f"{counted(len(self.unreadable), 'file')} cannot be read, see the page")
        return [line.rstrip() for line in lines]


@own_state()
@out_of_memory("a smaller --size")
def preview(options: Preview) -> Previewed:
    """Write a page that shows clips as a model will see them; see `ldf_video.api.preview`."""
    check_alone("preview")
    out, clips = Path(options.out), options.clips
    if out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"got output {out}, expected .html; change the suffix")
    fits: dict[str, float] = {}
    with Progress("preview", unit="frames", quiet=options.quiet) as progress:
        if (Path(clips) / STORE_JSON).is_file():
            for name in TYPED:
                if getattr(options, name) is not None:
                    raise UsageError(f"--{name}: what a store holds is cut already; drop it")
            check_files([("--out", out)], inputs=[])
            view = _of_store(Path(clips), options, progress)
        else:
            found = search(clips, layout=layout_of(options))
            sources = [source for source in found.sources if not is_own(source)]
            check_files([("--out", out)], inputs=sources)
            view = _of_sources(found, sources, options, progress)
            if view.seen:
                how = {name: getattr(options, name) for name in TYPED if name != "size"}
                asked = Encode(clips, quiet=True, **how)
                device = choose_device(options.device)
                fits = shipped_fits(Asked(asked, sources, device, size=_size(options)))
        sums, advice = totals(view.seen), advise(view.seen, view.geometry)
        text = write_page(view, sums, advice, fits)
        write_atomically(out, lambda part: part.write_text(text, encoding="utf-8"))
    noted = tuple((clip.name, clip.trouble) for clip in view.seen if clip.trouble)
    unreadable = tuple(view.left.unreadable)
    done = Previewed(out, sums, tuple(advice), unreadable, noted, view.known, fits)
    if not view.seen:
        name, reason = (*view.left.unreadable, (str(clips), "it holds no clip"))[0]
        raise LdfError(f"nothing under {clips} could be read: {name}: {reason}")
    return done


def _size(options: Preview) -> str:
    return "32x32" if options.size is None else str(options.size)


# -- clips ---------------------------------------------------------------------------------------


def _of_sources(
    found: Found, sources: Sequence[Source], options: Preview, progress: Progress
) -> View:
    geometry = make_geometry(size=_size(options), fps=options.fps, crop=options.crop)
    shown = _spread(sources, SHOWN)
    chosen = sources if options.full else shown
    most = None if options.full else max(LEAST_FRAMES, FRAMES // max(len(chosen), 1))
    strip = STRIP if len(shown) <= FEW_CLIPS else SHORT_STRIP
    strips = dict.fromkeys((source.name for source in shown), strip)
    each = max(1, SHOWN // max(len(shown), 1))
    reading: dict[str, _Reading] = {}
    num_frames = num_ended = 0
    workers = min(num_cores(), MAX_WORKERS)
    with ReaderPool(geometry, num_workers=workers, hashed=False, most_frames=most) as pool:
        for event in pool.read(chosen):
            if event is None:
                continue
            name = _source_of(event).name
            now = reading.setdefault(name, _Reading(strips.get(name, 0), each, most))
            now.take(event)
            num_frames += len(event.frames) if isinstance(event, FramesRead) else 0
            num_ended += isinstance(event, SourceEnded | SourceFailed)
            progress.update(num_frames, share=num_ended / len(chosen))
    far = [source for source in chosen if reading[source.name].is_far()]
    beginnings = [(source, reading[source.name].seen[0]) for source in far]
    for source, clip in zip(far, spread_strips(beginnings, geometry, workers), strict=True):
        reading[source.name].seen = [clip]
    seen, unreadable = list[Seen](), list[tuple[str, str]]()
    for source in chosen:
        now = reading[source.name]
        weight = len(sources) / len(chosen) * max(now.num_clips / max(len(now.seen), 1), 1)
        seen += [replace(clip, weight=weight) for clip in now.seen]
        unreadable += [(source.title, now.failure)] if now.failure else []
    num_own = found.num_own + len(found.sources) - len(sources)
    left = Left(unreadable, dict(found.sidecars.most_common()), num_own)
    return View(
        str(options.clips),
        geometry,
        seen,
        left,
        most_frames=most,
        typed=_typed(options),
        known=told_line(seen),
    )


def _source_of(event: Event) -> Source:
    if isinstance(event, SourceEnded):
        return event.found.source
    return event.clip.source if isinstance(event, FramesRead | ClipEnded) else event.source


def _typed(options: Preview) -> list[str]:
    """What was typed of the geometry, to be typed again."""
    words = []
    for name in TYPED:
        value = getattr(options, name)
        words += [] if value is None else [f"--{name}", str(value).removesuffix("/1")]
    return words


def _spread(sources: Sequence[Source], most: int) -> Sequence[Source]:
    """All, or so many of them, evenly."""
    if len(sources) <= most:
        return sources
    return [sources[place] for place in np.linspace(0, len(sources) - 1, most).astype(int)]


class _Reading:
    """A source that is looked at while its frames come.

    Attributes:
        seen: its clips that ended.
        failure: why nothing, or nothing more, could be read; else empty.
        num_clips: that it holds.
        is_one: whether it is one clip, and holds none.
    """

    def __init__(self, strip: int, clips_each: int, most_frames: int | None) -> None:
        self._strip, self._clips_each, self._most = strip, clips_each, most_frames
        self._look: Look | None = None
        self._num_read, self._position, self._num_told = 0, 0.0, 0
        self.seen, self.failure, self.num_clips = list[Seen](), "", 1
        self.is_one = True
        self._notes = set[str]()

    def take(self, event: Event) -> None:
        """See what happens to it."""
        if isinstance(event, SourceFound):
            self.num_clips, self.is_one = event.num_clips or 1, event.num_clips is None
            if self._most is not None:
                self._choose(event.first_frames)
        elif isinstance(event, Clip):
            is_shown = len(self.seen) < self._clips_each
            self._look, self._num_told = Look(event.fps, strip=self._strip if is_shown else 0), 0
        elif isinstance(event, FramesRead) and self._look is not None:
            self._look.add(event.frames)
            self._num_read, self._position = self._num_read + len(event.frames), event.position
            if event.conditions is not None:
                self._num_told += int(np.isfinite(event.conditions.values).any(axis=1).sum())
        elif isinstance(event, ClipEnded):
            if event.damage and not event.num_frames:
                which = event.clip.name or f"clip {event.clip.index}"
                self.failure = self.failure or f"{which}: {event.damage}"
            self._end(event.clip, event.damage or self._new(event.note))
        elif isinstance(event, SourceFailed):
            if event.clip is not None and self._look is not None and self._look.num_frames:
                self._end(event.clip, event.reason)
            else:
                self.failure = event.reason

    def is_far(self) -> bool:
        """Whether it is one clip, with a strip, that goes on far behind what was read of it."""
        if not self.is_one or len(self.seen) != 1 or not self.seen[0].strip:
            return False
        return self.seen[0].about_frames > FAR * self.seen[0].num_frames

    def _choose(self, first_frames: list[int]) -> None:
        """Leave out clips of an array that are more than can be shown."""
        if len(first_frames) > self._clips_each:
            kept = np.linspace(0, len(first_frames) - 1, self._clips_each).astype(int).tolist()
            for index in set(range(len(first_frames))) - set(kept):
                first_frames[index] = SKIP

    def _new(self, note: str) -> str:
        """A note that an earlier clip of the source does not have; else nothing."""
        is_known = note in self._notes
        self._notes.add(note)
        return "" if is_known else note

    def _end(self, clip: Clip, trouble: str) -> None:
        if self._look is None or not self._look.num_frames:
            return
        is_cut = self._most is not None and self._num_read >= self._most
        length = max((other.num_frames for other in self.seen), default=0) if is_cut else 0
        if is_cut and clip.index is None:
            length = _about_frames(clip, self._num_read, self._position)
        label = "" if clip.source.part is None else clip.source.part.label
        one = self._look.end(
            clip.title, about_frames=length, trouble=trouble, size=clip.size, label=label
        )
        self.seen.append(replace(one, columns=clip.columns, num_told=self._num_told))


def _about_frames(clip: Clip, num_read: int, position: float) -> int:
    """How many frames a clip has of which so many were read, to this position in its file."""
    part = clip.source.part
    if part is not None and part.end is not None:
        return round((part.end - part.start) * clip.fps)
    before = 0 if part is None else float(part.start * clip.fps)
    return round((num_read + before) / position - before) if position else num_read


# -- stores --------------------------------------------------------------------------------------


def _of_store(place: Path, options: Preview, progress: Progress) -> View:
    """Look at some of the frames that a store holds, decoded where it holds latents."""
    reader = StoreReader(place)
    decoder: FrameModel | None = None
    if reader.spec.kind == "latents":
        wanted = {"frame_model": maker_of(reader)}
        device = choose_device(options.device)
        decoder = frame_model_of(wanted, beside=place, device=device).model
    elif reader.spec.kind != "frames":
        raise StoreError(f"{place} holds {reader.spec.kind}, expected frames or latents")
    clips = np.arange(reader.num_clips)
    if len(clips) > SHOWN:
        clips = clips[np.linspace(0, len(clips) - 1, SHOWN).astype(int)]
    names = {
        one.clip_id: reader.title(one.source) + "".join(one.clip_id.partition("#")[1:])
        for one in reader.sources()
    }
    strip = STRIP if len(clips) <= FEW_CLIPS else SHORT_STRIP
    each = max(strip, LEAST_STORED, STORED // max(len(clips), 1))
    first_rows = np.cumsum(reader.lengths) - reader.lengths
    cut_clips, cut_frames = reader.cuts()
    seen, shape = list[Seen](), (0, 0)
    for number, clip in enumerate(clips.tolist()):
        length = int(reader.lengths[clip])
        places = np.linspace(0, length - 1, min(each, length)).astype(int)
        look = Look(reader.fps(clip), strip=strip, cuts=False)  # frames are far apart
        for some in np.array_split(places, -(-len(places) // DECODED_AT_ONCE)):
            frames = _decoded(reader.frames_at(first_rows[clip] + some), decoder)
            look.add(frames)
            shape = frames.shape[1:3]
        name = names.get(reader.clip_id(clip), f"clip {clip}")
        weight = reader.num_clips / len(clips)
        one = look.end(name, about_frames=length, weight=weight)
        cuts = tuple(float(frame / one.fps) for frame in cut_frames[cut_clips == clip].tolist())
        values = reader.conditions(np.full(len(places), clip), places, length=1)
        num_told = int(np.isfinite(values).any(axis=2).sum())
        columns = reader.columns
        seen.append(replace(one, cuts=cuts, columns=columns, num_told=num_told))
        progress.update(number + 1, share=(number + 1) / len(clips))
    seen.sort(key=lambda one: natural_key(one.name))
    bad = [(reader.title(one.source), one.reason) for one in reader.quarantined()]
    made_by = str(reader.info.get("frame_model", "")) if decoder is not None else ""
    return View(
        str(place),
        Geometry(*shape),
        seen,
        Left(bad),
        most_frames=each,
        made_by=made_by,
        known=told_line(seen),
        is_store=True,
    )


@torch.inference_mode()
def _decoded(rows: Rows, decoder: FrameModel | None) -> Frames:
    """Frames (T, H, W, 3) of rows of a store, which are frames or latents."""
    if decoder is None:
        return np.asarray(rows, np.uint8)
    device = next(decoder.parameters()).device
    return from_model(decoder.decode(torch.from_numpy(rows).float().to(device)))
