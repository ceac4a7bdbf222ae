"""An evaluation from real clips to figures: what is drawn, judged, kept and compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ldf_video.errors import LdfError, ReadError, counted
from ldf_video.evaluation import judged
from ldf_video.evaluation.clouds import Estimate
from ldf_video.evaluation.draw import (
    CLIP_FRAMES,
    Drawn,
    all_clips,
    draw_clips,
    evenly,
    split_in_two,
    too_short,
)
from ldf_video.evaluation.figures import (
    Figures,
    evenly_spread,
    figures_from_json,
    measure,
    memorisation,
    nearest_levels,
    subtract,
)
from ldf_video.evaluation.judge import Judge
from ldf_video.evaluation.judged import ClipSet, Models
from ldf_video.evaluation.reference import Reference, reference_sha256
from ldf_video.evaluation.report import FLOOR, Earlier, Evaluated, sheet_rows, shown
from ldf_video.evaluation.segments import Drift, Plan, Rollouts, read_long
from ldf_video.evaluation.tracks import Moves
from ldf_video.progress import Progress
from ldf_video.sources.source import Source
from ldf_video.video.geometry import Geometry

Clips = npt.NDArray[np.uint8]

FEWEST_CLIPS = 20
SHEET_SEGMENTS = 8
"""Of long videos."""
MAX_BYTES = 2**32
"""Of clips that are held: what judges cheaply takes small frames."""


class Comparison:
    """One evaluation as it goes: real clips first, then the sets that are held against them."""

    reference: Reference
    held_out: Clips
    """Real clips that are not the reference."""

    def __init__(
        self,
        judge: Judge,
        geometry: Geometry,
        *,
        seed: int,
        num_frames: int = CLIP_FRAMES,
        skip: int,
        cuts: bool = True,
        quiet: bool,
    ) -> None:
        """Takes the judge, what clips are brought to, and options of the command."""
        self.judge, self.geometry, self.seed = judge, geometry, seed
        self.num_frames, self.skip, self.cuts, self.quiet = num_frames, skip, cuts, quiet
        self.rows: dict[str, Figures] = {}
        self.drifts: dict[str, Drift] = {}
        self.origins: dict[str, str] = {}
        self.notes: list[str] = []
        self._shown: list[Clips] = []
        self._looked_up: dict[str, Clips] = {}

    def check_generated(self, sources: list[Source]) -> None:
        """Refuse too few clips before any work: of as many as are needed, no more is read.

        Raises:
            LdfError: there are too few.
        """
        drawn = draw_clips(
            sources,
            self.geometry,
            count=FEWEST_CLIPS,
            most=FEWEST_CLIPS,
            seed=self.seed,
            num_frames=self.num_frames,
            skip=self.skip,
        )
        if len(drawn.clips) < FEWEST_CLIPS:
            raise LdfError(
                f"{sources[0].asked}: {counted(len(drawn.clips), 'clip')} of {self.num_frames} "
                f"frames, expected {FEWEST_CLIPS} or more"
                f"{self._too_short(drawn, skip=self.skip)}; generate more"
            )

    def read_real(self, sources: list[Source], num_clips: int, file: Path | None) -> None:
        """Draw real clips; judge a half as the reference, or read it, and the other as the floor.

        Raises:
            LdfError: there are too few clips, or the reference in `file` is of other clips.
        """
        root, known = sources[0].asked, None
        notes: dict[str, Any] = {"seed": self.seed, "num_clips": num_clips}
        if file is not None and file.exists():
            known, notes = Reference.load(file)
            there = notes["num_clips"]
            if there != num_clips:
                raise LdfError(
                    f"--reference {file}: made with --num-clips {there}, got {num_clips}; give "
                    f"--num-clips {there}, or name another file"
                )
        seed = int(notes["seed"])
        drawn = self._draw("real", sources, 2 * num_clips, seed)
        half, self.held_out = split_in_two(drawn, seed=seed)
        if len(half) < FEWEST_CLIPS:
            across = ", or give --cuts off" if drawn.lengths.cuts else ""
            raise LdfError(
                f"{root}: {counted(drawn.num_there, 'clip')} of {self.num_frames} frames that "
                f"share none, expected {2 * FEWEST_CLIPS} or more{self._too_short(drawn)}; bring "
                f"more video{across}"
            )
        if len(half) < num_clips:
            self.notes.append(
                f"real: {drawn.num_there:,} clips that share no frame, so {len(half):,} a side, "
                f"not {num_clips:,}: distances grow with fewer clips, compare only at equal numbers"
            )
        if not self.cuts:
            self.notes.append("real: clips may go across cuts")
        if drawn.places[0] == drawn.places[-1]:
            self.notes.append(
                "real: all clips that were drawn are of one source: its first half is the "
                "reference, its second the floor, which then holds what changed in between"
            )
        floor = ClipSet(FLOOR, self.held_out, str(root))
        if known is None:
            with self._bar("judge the reference", len(half) * self.num_frames) as progress:
                self.reference = Reference.of(half, self.judge, on_frames=progress.update)
            self._measure(floor)
            if file is not None:
                self.reference.save(file, notes={**notes, "floor": asdict(self.rows[FLOOR])})
            return
        known.check(self.judge, half.shape[1:])
        if reference_sha256(half, self.judge) != known.sha256:
            raise LdfError(
                f"--reference {file}: made of other real clips than those of {root}; name another "
                "file, or the clips it was made of"
            )
        if known.moves is None:
            known = replace(known, moves=Moves.of(half))
            self.notes.append(
                f"--reference {file}: an earlier version wrote it, so that the row {FLOOR} lacks "
                "figures; name another file, which is then written"
            )
        self.reference = known
        self._keep(floor, figures_from_json(notes["floor"]))

    def sets(self, sources: list[Source] | None, models: Models) -> Iterator[ClipSet]:
        """What is judged: clips on disk, then what each model makes; none is held for the next."""
        count, device = len(self.held_out), self.judge.device
        if sources is not None:
            drawn = self._draw("generated", sources, count, self.seed, skip=self.skip)
            if len(drawn.clips) < count:
                self.notes.append(
                    f"generated: {len(drawn.clips):,} clips that share no frame, not {count:,}: "
                    "its distances are too large beside the floor"
                )
            yield ClipSet("generated", drawn.clips, str(sources[0].asked))
            del drawn
        if models.top is not None:
            top, frame = models.top
            with self._bar("generate", count * self.num_frames) as progress:
                clips = judged.generated(
                    top.model,
                    frame.model,
                    count=count,
                    seed=self.seed,
                    num_frames=self.num_frames,
                    skip=self.skip,
                    stride=models.stride,
                    device=device,
                    on_frames=progress.update,
                )
            yield ClipSet("top model", clips, str(top))
            del clips
        if models.frame is not None:
            yield from judged.frame_model_sets(
                models.frame,
                self.held_out,
                seed=self.seed,
                whole_clips=self.judge.sees_clips,
                device=device,
            )
            if self.judge.sees_clips:
                self.notes.append("prior: left out, as the judge sees whole clips only")

    def judge_set(self, clip_set: ClipSet) -> None:
        """Measure a set of clips, and keep of it what the sheet shows."""
        self._measure(clip_set)
        clips = clip_set.clips
        if clips.shape[1] == 1:  # single frames stand together as if they were clips
            whole = len(clips) // self.num_frames * self.num_frames
            clips = clips[:whole].reshape(-1, self.num_frames, *clips.shape[2:])
        if len(clips):
            self._shown.append(clips[shown(len(clips))])

    def _measure(self, clip_set: ClipSet) -> None:
        clips = clip_set.clips
        with self._bar(f"judge {clip_set.name}", clips.shape[0] * clips.shape[1]) as progress:
            figures = measure(self.reference, clips, self.judge, on_frames=progress.update)
        self._keep(clip_set, replace(figures, psnr_db=clip_set.psnr_db))

    def _keep(self, clip_set: ClipSet, figures: Figures) -> None:
        self.rows[clip_set.name], self.origins[clip_set.name] = figures, clip_set.origin
        if clip_set.clips.shape[1] == self.num_frames:
            self._looked_up[clip_set.name] = evenly_spread(clip_set.clips)

    def judge_long(self, sources: list[Source] | None, models: Models, plan: Plan) -> None:
        """Measure each segment of long videos: those on disk, then what the top model makes.

        Raises:
            LdfError: videos on disk are too few, or too short.
        """
        if sources is not None:
            numbered = enumerate(read_long(sources, self.geometry, plan))
            videos = ((range(n, n + 1), frames) for n, frames in numbered)
            self._keep_long("generated", str(sources[0].asked), videos, plan)
        if models.top is not None:
            top, frame = models.top
            blocks = judged.rollouts(
                top.model,
                frame.model,
                count=plan.num_videos,
                seed=self.seed,
                num_frames=plan.length,
                stride=models.stride,
                device=self.judge.device,
            )
            with closing(blocks):  # what it does ahead ends with an error, too
                self._keep_long("top model", str(top), blocks, plan)

    def _keep_long(
        self, name: str, origin: str, videos: Iterable[tuple[range, Iterable[Clips]]], plan: Plan
    ) -> None:
        found = Rollouts(plan, self.reference, self.judge)
        in_sheet = evenly(plan.segments, min(SHEET_SEGMENTS, plan.segments)).tolist()
        sheet: dict[int, list[Clips]] = {segment: [] for segment in in_sheet}
        with self._bar(f"judge {name}", plan.num_videos * plan.length) as progress:
            for numbers, blocks in videos:
                segment = -1
                for segment, clips in enumerate(plan.cut(blocks)):
                    found.add(segment, numbers, clips)
                    done = numbers.start * plan.length
                    progress.update(done + len(numbers) * (plan.bounds(segment)[1] + 1))
                    if numbers.start < 2 and segment in sheet:  # two, of two videos if there are
                        two = clips[: 2 - numbers.start, 0] if plan.num_videos > 1 else clips[0, :2]
                        sheet[segment].append(two.copy())  # a view would hold all of them
                if segment + 1 < plan.segments:
                    raise LdfError(
                        f"{origin}: video {numbers.start} ends before frame {plan.length:,}; give "
                        "a lower --length, or longer videos"
                    )
        names = [f"{name}, {Drift.shown(*plan.bounds(n))}" for n in range(plan.segments)]
        self.rows |= dict(zip(names, found.all_figures(), strict=True))
        self.origins[name] = origin
        self.drifts[name] = found.drift([self.rows[row] for row in names])
        self._shown.append(np.concatenate([part for parts in sheet.values() for part in parts]))

    def look_up(self, trained_on: list[Source]) -> None:
        """Find the nearest training clip of clips of every set."""
        with self._bar("training clips", None, "clips") as progress:
            distances = nearest_levels(
                self._looked_up,
                all_clips(trained_on, self.geometry, num_frames=self.num_frames),
                device=self.judge.device,
                on_clips=progress.update,
            )
        if not np.isfinite(distances[FLOOR]).all():
            raise ReadError(f"--train {trained_on[0].root}: no clip of {self.num_frames} frames")
        self.origins["training"] = str(trained_on[0].root)
        for name, levels in distances.items():
            found = memorisation(levels, distances[FLOOR])
            self.rows[name] = replace(self.rows[name], memorisation=found)

    def result(self, earlier: Earlier | None, output: Path | None) -> Evaluated:
        """All that was found: two models of this call, or one and an earlier one, compared too."""
        differences: dict[str, dict[str, Estimate]] = {}
        for name, figures in self.rows.items():
            other = name.replace("top model", "generated", 1)  # or one of their segments
            there = self.rows.get(other)
            if other != name and there is not None and there.num_clips == figures.num_clips:
                differences[f"{name}, less {other}"] = subtract(figures, there)
        if earlier is not None:
            differences |= earlier.differences(self.rows)
            if not differences:
                self.notes.append(f"{earlier.file}: no set of its names and numbers is judged here")
        return Evaluated(
            rows=self.rows,
            origins=self.origins,
            reference_sha256=self.reference.sha256,
            judge=self.judge.name,
            judge_sha256=self.judge.sha256,
            num_clips=len(self.held_out),
            size=(self.geometry.width, self.geometry.height),
            seed=self.seed,
            num_frames=self.num_frames,
            skip=self.skip,
            differences=differences,
            drifts=self.drifts,
            notes=tuple(self.notes),
            versions={name: version(name) for name in ("ldf-video", "torch", "numpy")},
            output=output,
        )

    def sheet(self) -> list[Clips]:
        """Rows of a sheet: real clips beside those of each set."""
        return sheet_rows(self.held_out[shown(len(self.held_out))], self._shown)

    def _draw(
        self, name: str, sources: list[Source], count: int, seed: int, *, skip: int = 0
    ) -> Drawn:
        num_bytes = 3 * count * self.num_frames * self.geometry.height * self.geometry.width
        if num_bytes > MAX_BYTES:
            raise LdfError(
                f"{count:,} clips of {self.geometry.width} x {self.geometry.height} would take "
                f"{num_bytes / 2**30:.1f} GiB, expected {MAX_BYTES / 2**30:.0f} at most; give a "
                "smaller --size, --frames or --num-clips"
            )
        total = len(sources)
        with self._bar(f"read {name}", total, "sources") as progress:
            drawn = draw_clips(
                sources,
                self.geometry,
                count=count,
                seed=seed,
                num_frames=self.num_frames,
                skip=skip,
                cuts=self.cuts and name == "real",
                on_source=progress.update,
            )
            for line in drawn.unread:
                progress.say(f"  {line}")
        if drawn.unread:
            self.notes.append(
                f"{name}: {len(drawn.unread):,} of {counted(total, 'source')} not read whole, the "
                f"first {drawn.unread[0]}"
            )
        return drawn

    def _too_short(self, drawn: Drawn, *, skip: int = 0) -> str:
        """How many videos hold a clip, where that is not all."""
        if drawn.lengths.enough == drawn.lengths.there:
            return ""
        return f" ({too_short(drawn.lengths, num_frames=self.num_frames, skip=skip)})"

    def _bar(self, name: str, total: int | None, unit: str = "frames") -> Progress:
        return Progress(f"evaluate: {name}", unit=unit, total=total, quiet=self.quiet)
