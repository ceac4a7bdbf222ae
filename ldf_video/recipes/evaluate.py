"""evaluate: how far generated clips are from real ones, and in what."""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ldf_video.errors import LdfError, OutputError, ReadError, UsageError
from ldf_video.evaluation import judged, sheet
from ldf_video.evaluation.draw import (
    CLIP_FRAMES,
    Drawn,
    all_clips,
    draw_clips,
    split_in_two,
)
from ldf_video.evaluation.earlier import Earlier
from ldf_video.evaluation.figures import Figures, figures_from_json, less, measure
from ldf_video.evaluation.judge import Judge, load_judge
from ldf_video.evaluation.models import choose_geometry, load_models
from ldf_video.evaluation.nearest import compare, nearest_levels, some
from ldf_video.evaluation.reference import Reference, reference_sha256
from ldf_video.evaluation.table import table, table_of_differences
from ldf_video.models.frame import FrameModel
from ldf_video.models.top import TopModel
from ldf_video.output import json_text, write_atomically
from ldf_video.progress import Progress
from ldf_video.runs.devices import choose_device, out_of_memory
from ldf_video.runs.outputs import check_files
from ldf_video.runs.own_state import own_state
from ldf_video.runs.zoo import Loaded
from ldf_video.training.ranks import check_alone
from ldf_video.video.geometry import Geometry
from ldf_video.video.sources import Source, find_sources
from ldf_video.video.write import check_output, write_sheet

Clips = npt.NDArray[np.uint8]

DEFAULT_CLIPS = 5000
FEWEST_CLIPS = 20
MAX_BYTES = 2**32
"""Of clips that are held: what judges cheaply takes small frames."""
FLOOR = "real"
_VERSIONS = ("ldf-video", "torch", "numpy")


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation found.

    Attributes:
        rows: figures by name; the first, "real", is of real clips against other real clips: the
            floor under all distances.
        origins: where the clips of each row come from.
        reference_sha256: equal in two evaluations whose figures can be compared.
        judge: its name.
        judge_sha256: of its weights.
        num_clips: real clips on each side of the floor.
        size: width and height at which clips were compared, in pixels.
        seed: with which the models generated; the same gives the same clips.
        skip: frames that were left out at the beginning of each generated video.
        differences: how much farther one set is than another, distance by distance, by name.
        notes: a line each on what differs from what was asked.
        versions: of the packages that have a say.
        output: the sheet of pictures, or None.
    """

    rows: dict[str, Figures]
    origins: dict[str, str]
    reference_sha256: str
    judge: str
    judge_sha256: str
    num_clips: int
    size: tuple[int, int]
    seed: int
    skip: int
    differences: dict[str, Figures]
    notes: tuple[str, ...]
    versions: dict[str, str]
    output: Path | None = None

    def table(self) -> str:
        """All of it for people, in Markdown."""
        width, height = self.size
        head = (
            f"judge {self.judge} ({self.judge_sha256[:12]}), clips of {CLIP_FRAMES} frames of "
            f"{width} x {height}, reference {self.reference_sha256[:12]}, seed {self.seed}"
        )
        if self.skip:
            head += f", of generated videos from frame {self.skip} on"
        tables = [table(self.rows)]
        if self.differences:
            tables.append(table_of_differences(self.differences))
        origins = "\n".join(f"- {name}: {origin}" for name, origin in self.origins.items())
        return "\n\n".join([head, *tables, origins, *self.notes])

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {**asdict(self), "output": None if self.output is None else str(self.output)}


@own_state()
@out_of_memory("a smaller --num-clips or --size")
def evaluate(
    real: str | Path,
    *,
    generated: str | Path | None = None,
    top_model: str | Path | None = None,
    frame_model: str | Path | None = None,
    train: str | Path | None = None,
    num_clips: int = DEFAULT_CLIPS,
    size: str | int | None = None,
    judge: str | Path | None = None,
    reference: str | Path | None = None,
    out: str | Path | None = None,
    json_file: str | Path | None = None,
    compare: str | Path | None = None,
    skip: int = 0,
    seed: int | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> Evaluated:
    """Compare clips with real ones; see `ldf_video.api.evaluate`."""
    check_alone("evaluate")
    output, json_file, reference, compare, judge = (
        None if path is None else Path(path) for path in (out, json_file, reference, compare, judge)
    )
    _check_options(num_clips=num_clips, skip=skip, output=output)
    device = choose_device(device)
    sources = find_sources(real)
    others = None if generated is None else find_sources(generated, own=True)
    trained_on = None if train is None else find_sources(train)
    earlier = None if compare is None else Earlier.load(compare)
    models = load_models(
        top_model, frame_model, default=generated is None, skip=skip, device=device
    )
    kept = reference is not None and reference.is_file()
    check_files(
        [("-o", output), ("--json", json_file), ("--reference", None if kept else reference)],
        inputs=[
            *(*sources, *(others or ()), *(trained_on or ()), *models.files()),
            *(path for path in (judge, compare, reference if kept else None) if path is not None),
        ],
    )
    geometry = choose_geometry(models, size, sources)
    if seed is None:
        seed = secrets.randbelow(2**31) if earlier is None else earlier.seed
    work = _Work(load_judge(judge, device=device), geometry, seed, skip=skip, quiet=quiet)
    work.read_real(sources, num_clips, reference)
    if earlier is not None:
        earlier.check(work.reference.sha256)
    if others is not None:
        work.add_generated(others)
    if models.top is not None and models.frame_of_top is not None:
        work.add_top(models.top, models.frame_of_top.model)
    if models.frame is not None:
        work.add_frame(models.frame)
    if trained_on is not None:
        work.look_up(trained_on)
    work.compare(earlier)
    found = work.result(output)
    try:
        if output is not None:
            real_shown = work.held_out[sheet.places(work.num_clips)]
            write_sheet(output, sheet.rows_of(real_shown, list(work.shown.values())))
        if json_file is not None:
            text = json_text(found.to_json(), indent=2) + "\n"
            write_atomically(json_file, lambda partial: partial.write_text(text))
    except LdfError as error:
        raise OutputError(str(error), found) from error
    return found


def _check_options(*, num_clips: int, skip: int, output: Path | None) -> None:
    if skip < 0:
        raise UsageError(f"--skip {skip}: expected 0 or more")
    if num_clips < FEWEST_CLIPS:
        raise UsageError(f"--num-clips {num_clips}: expected {FEWEST_CLIPS} or more")
    if output is not None:
        check_output(output)
        if output.suffix.lower() != ".png":
            raise UsageError(f"-o {output}: expected a sheet of pictures, .png")


class _Work:
    """One evaluation as it goes."""

    def __init__(
        self, judge: Judge, geometry: Geometry, seed: int, *, skip: int, quiet: bool
    ) -> None:
        self.judge, self.geometry, self.seed, self.quiet = judge, geometry, seed, quiet
        self.skip = skip
        self.rows: dict[str, Figures] = {}
        self.differences: dict[str, Figures] = {}
        self.origins: dict[str, str] = {}
        self.notes: list[str] = []
        self.shown: dict[str, Clips] = {}
        self._looked_up: dict[str, Clips] = {}
        self.reference: Reference
        self.held_out: Clips

    @property
    def num_clips(self) -> int:
        """Real clips on each side, and of each judged set."""
        return len(self.held_out)

    def read_real(self, sources: list[Source], num_clips: int, file: Path | None) -> None:
        """Draw real clips, a half as the reference and a half to be held against it."""
        known = None if file is None or not file.exists() else Reference.load(file)
        seed = self.seed if known is None else int(known[1]["seed"])
        if known is not None and known[1]["num_clips"] != num_clips:
            there = known[1]["num_clips"]
            raise LdfError(
                f"--reference {file}: made with --num-clips {there}, got {num_clips}; give "
                f"--num-clips {there}, or name another file"
            )
        drawn = self._draw("real", sources, 2 * num_clips, seed)
        half, self.held_out = split_in_two(drawn, seed=seed)
        if len(half) < FEWEST_CLIPS:
            raise LdfError(
                f"{sources[0].root}: {drawn.num_there} clips of {CLIP_FRAMES} frames that share "
                f"none, expected {2 * FEWEST_CLIPS} or more; bring more video"
            )
        if len(half) < num_clips:
            self.notes.append(
                f"real: {drawn.num_there:,} clips that share no frame, so {len(half):,} a side, "
                f"not {num_clips:,}: distances grow with fewer clips, compare only at equal numbers"
            )
        if not drawn.places.any():  # all are of the first source
            self.notes.append(
                "real: all clips that were drawn are of one source: its first half is the "
                "reference, its second the floor, which then holds what changed in between"
            )
        self.origins[FLOOR] = str(sources[0].root)
        if known is None:
            self._judge_real(half)
            if file is not None:
                floor = asdict(self.rows[FLOOR])
                notes = {"seed": seed, "num_clips": num_clips, "floor": floor}
                self.reference.save(file, notes=notes)
        else:
            self.reference = known[0]
            self.reference.check(self.judge, half.shape[1:])
            if reference_sha256(half, self.judge) != self.reference.sha256:
                raise LdfError(
                    f"--reference {file}: made of other real clips than those of "
                    f"{sources[0].root}; name another file, or the clips it was made of"
                )
            self.rows[FLOOR] = figures_from_json(known[1]["floor"])
        self._keep(FLOOR, self.held_out, show=False)

    def add_generated(self, sources: list[Source]) -> None:
        """Judge clips on disk."""
        drawn = self._draw("generated", sources, self.num_clips, self.seed, skip=self.skip)
        if len(drawn.clips) < FEWEST_CLIPS:
            raise LdfError(
                f"{sources[0].root}: {len(drawn.clips)} clips of {CLIP_FRAMES} frames, expected "
                f"{FEWEST_CLIPS} or more; generate more"
            )
        if len(drawn.clips) < self.num_clips:
            self.notes.append(
                f"generated: {len(drawn.clips):,} clips that share no frame, not "
                f"{self.num_clips:,}: its distances are too large beside the floor"
            )
        self._judge("generated", drawn.clips, origin=str(sources[0].root))

    def add_top(self, top: Loaded[TopModel], frame: FrameModel) -> None:
        """Judge what a top model generates."""
        total = self.num_clips * CLIP_FRAMES
        with self._progress("generate", total) as progress:
            clips = judged.generated(
                top.model,
                frame,
                count=self.num_clips,
                seed=self.seed,
                skip=self.skip,
                device=self.judge.device,
                on_frames=progress.update,
            )
        self._judge("top model", clips, origin=_origin(top))

    def add_frame(self, frame: Loaded[FrameModel]) -> None:
        """Judge reconstructions, also of slightly wrong latents, and frames from the prior."""
        model, device, origin = frame.model, self.judge.device, _origin(frame)
        latents = judged.encoded(model, self.held_out, device=device)
        noise = judged.noisy(latents, seed=self.seed)
        for name, z in (("reconstruction", latents), ("noisy latents", noise)):
            clips = judged.decoded(model, z, num_frames=CLIP_FRAMES, device=device)
            psnr_db = judged.psnr_of(clips, self.held_out)
            self._judge(name, clips, origin=origin, psnr_db=psnr_db)
        if self.judge.sees_clips:
            self.notes.append("prior: left out, as the judge sees whole clips only")
            return
        z = judged.prior(model.config.latent_shape, count=self.num_clips, seed=self.seed)
        self._judge("prior", judged.decoded(model, z, num_frames=1, device=device), origin=origin)

    def look_up(self, trained_on: list[Source]) -> None:
        """Find the nearest training clip of clips of every set."""
        with self._progress("training clips", None, unit="clips") as progress:
            distances = nearest_levels(
                self._looked_up,
                all_clips(trained_on, self.geometry),
                device=self.judge.device,
                on_block=progress.update,
            )
        if not np.isfinite(distances[FLOOR]).all():
            raise ReadError(f"--train {trained_on[0].root}: no clip of {CLIP_FRAMES} frames")
        self.origins["training"] = str(trained_on[0].root)
        for name, levels in distances.items():
            memorisation = compare(levels, distances[FLOOR])
            self.rows[name] = replace(self.rows[name], memorisation=memorisation)

    def compare(self, earlier: Earlier | None) -> None:
        """Hold two models against each other: both of this call, and those of an earlier one."""
        if "generated" in self.rows and "top model" in self.rows:
            found = less(self.rows["top model"], self.rows["generated"])
            self.differences["top model, less generated"] = found
        if earlier is not None:
            self.differences |= earlier.differences(self.rows)
            if not self.differences:
                self.notes.append(f"{earlier.file}: no set of its names and numbers is judged here")

    def result(self, output: Path | None) -> Evaluated:
        """All that was found."""
        return Evaluated(
            rows=self.rows,
            origins=self.origins,
            reference_sha256=self.reference.sha256,
            judge=self.judge.name,
            judge_sha256=self.judge.sha256,
            num_clips=self.num_clips,
            size=(self.geometry.width, self.geometry.height),
            seed=self.seed,
            skip=self.skip,
            differences=self.differences,
            notes=tuple(self.notes),
            versions={name: version(name) for name in _VERSIONS},
            output=output,
        )

    def _draw(
        self, name: str, sources: list[Source], count: int, seed: int, *, skip: int = 0
    ) -> Drawn:
        num_bytes = 3 * count * CLIP_FRAMES * self.geometry.height * self.geometry.width
        if num_bytes > MAX_BYTES:
            raise LdfError(
                f"{count:,} clips of {self.geometry.width} x {self.geometry.height} would take "
                f"{num_bytes / 2**30:.1f} GiB, expected {MAX_BYTES / 2**30:.0f} at most; give a "
                "smaller --size or --num-clips"
            )
        total = len(sources)
        with self._progress(f"read {name}", total, unit="sources") as progress:
            drawn = draw_clips(
                sources,
                self.geometry,
                count=count,
                seed=seed,
                skip=skip,
                on_source=progress.update,
            )
            for line in drawn.unread:
                progress.say(f"  {line}")
        if drawn.unread:
            self.notes.append(
                f"{name}: {len(drawn.unread):,} of {total:,} sources were not read whole, the "
                f"first {drawn.unread[0]}"
            )
        return drawn

    def _judge_real(self, half: Clips) -> None:
        total = len(half) * CLIP_FRAMES
        with self._progress("judge the reference", total) as progress:
            self.reference = Reference.of(half, self.judge, on_frames=progress.update)
        with self._progress(f"judge {FLOOR}", total) as progress:
            self.rows[FLOOR] = measure(
                self.reference, self.held_out, self.judge, on_frames=progress.update
            )

    def _judge(self, name: str, clips: Clips, *, origin: str, psnr_db: float | None = None) -> None:
        with self._progress(f"judge {name}", clips.shape[0] * clips.shape[1]) as progress:
            figures = measure(self.reference, clips, self.judge, on_frames=progress.update)
        self.rows[name] = replace(figures, psnr_db=psnr_db)
        self.origins[name] = origin
        self._keep(name, clips, show=True)

    def _keep(self, name: str, clips: Clips, *, show: bool) -> None:
        """Keep of a set what is looked up among training clips, and what is shown."""
        if clips.shape[1] == CLIP_FRAMES:
            self._looked_up[name] = some(clips)
        if show:
            whole = sheet.as_clips(clips, CLIP_FRAMES)
            self.shown[name] = whole[sheet.places(len(whole))]

    def _progress(self, name: str, total: int | None, *, unit: str = "frames") -> Progress:
        return Progress(f"evaluate: {name}", unit=unit, total=total, quiet=self.quiet)


def _origin(model: Loaded[Any]) -> str:
    return f"{model.directory} ({model.fingerprint[:12]})"
