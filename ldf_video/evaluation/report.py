"""What an evaluation found: as a table, as JSON, as a sheet of pictures, and as it was before."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ldf_video.errors import LdfError
from ldf_video.evaluation.clouds import Estimate
from ldf_video.evaluation.control import Control
from ldf_video.evaluation.draw import evenly
from ldf_video.evaluation.figures import Figures, figure, figures_from_json, number_of, subtract
from ldf_video.evaluation.segments import Drift
from ldf_video.output import reason
from ldf_video.runs.curve import Curve, Panel

Clips = npt.NDArray[np.uint8]
Columns = Mapping[str, tuple[str, str]]
"""By its heading, where a column stands among the figures, and how a number is written."""
Row: TypeAlias = Figures | Mapping[str, Estimate]
"""Of a table: what is known of a set, or of a difference by the same places."""

FLOOR = "real"
"""The row of real clips against other real clips."""
DISTANCES: Columns = {
    "clips": ("num_clips", ","),
    "frame": ("frame", ".2f"),
    "video": ("video", ".2f"),
    "motion": ("motion", ".2f"),
    "video+": ("video_plus", ".2f"),
    "PSNR dB": ("psnr_db", ".2f"),
}
KERNELS: Columns = {
    "frame MMD": ("kernel.frame", ".3f"),
    "video MMD": ("kernel.video", ".3f"),
    "motion MMD": ("kernel.motion", ".3f"),
    "steps px": ("tracks.step_pixels", ".2f"),
    "directions": ("tracks.direction_degrees", ".1f"),
    "vanish %": ("tracks.vanish_percent", ".1f"),
    "appear %": ("tracks.appear_percent", ".1f"),
}
SHARES: Columns = {
    "recall": ("diversity.recall", ".3f"),
    "coverage": ("diversity.coverage", ".3f"),
    "precision": ("diversity.precision", ".3f"),
    "density": ("diversity.density", ".3f"),
    "moving %": ("change.moving_percent", ".2f"),
    "still clips %": ("change.still_clips_percent", ".1f"),
    "flicker": ("change.flicker_levels", ".2f"),
    "to training": ("memorisation.median_levels", ".2f"),
    "real to training": ("memorisation.real_median_levels", ".2f"),
    "copied %": ("memorisation.copied_percent", ".1f"),
}
DRAWN = {
    "frame: Frechet distance": "frame",
    "video: Frechet distance": "video",
    "motion: Frechet distance": "motion",
    "pixels that move, %": "change.moving_percent",
    "clips that stand still, %": "change.still_clips_percent",
}
"""Places of the figures of which there are curves over long videos, by title."""
SHEET_ROWS, SHEET_FRAMES = 8, 16
"""Of a set of judged clips, and of a clip."""
GREY = 224


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation found.

    The first row, "real", is of real clips against other real clips: the floor under all distances.
    """

    rows: dict[str, Figures]
    origins: dict[str, str]  # where the clips of each row come from
    reference_sha256: str  # equal in two evaluations whose figures can be compared
    judge: str
    judge_sha256: str  # of its weights
    num_clips: int  # real clips on each side of the floor
    size: tuple[int, int]  # width and height at which clips were compared, in pixels
    seed: int  # with which the models generated; the same gives the same clips
    num_frames: int  # of a clip
    skip: int  # frames that were left out at the beginning of each generated video
    differences: dict[str, dict[str, Estimate]]
    """How much larger each figure is of one set than of another, by name and by place."""
    drifts: dict[str, Drift]  # of sets of long videos, the rows of whose segments are in `rows`
    notes: tuple[str, ...]  # a line each on what differs from what was asked
    versions: dict[str, str]  # of the packages that have a say
    output: Path | None = None  # the sheet of pictures
    control: Control | None = None  # how well the top model does what it is told

    def table(self) -> str:
        """All of it for people, in Markdown."""
        head = heading(vars(self))
        tables = [table(self.rows)]
        if self.differences:
            tables += [
                _aligned(self.differences, columns, title="difference")
                for columns in (DISTANCES, KERNELS, SHARES)
            ]
        tables += [drift.text(name) for name, drift in self.drifts.items()]
        tables += [self.control.text()] if self.control is not None else []
        origins = "\n".join(f"- {name}: {origin}" for name, origin in self.origins.items())
        return "\n\n".join([head, *tables, origins, *self.notes])

    def panels(self) -> list[Panel]:
        """Curves of the segments of long videos, beside the floor."""
        panels = []
        for title, place in DRAWN.items():
            curves: dict[str, Curve] = {}
            for name, drift in self.drifts.items():
                rows = [self.rows[f"{name}, {drift.shown(*bounds)}"] for bounds in drift.segments]
                middles = [(first + last) // 2 for first, last in drift.segments]
                curves[FLOOR] = middles, [number_of(self.rows[FLOOR], place)] * len(middles)
                curves[name] = middles, [number_of(row, place) for row in rows]
            panels.append(Panel(title, curves))
        return panels

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {**asdict(self), "output": None if self.output is None else str(self.output)}


def heading(found: Mapping[str, Any]) -> str:
    """What the figures depend on, in a line; `found` has the values of an `Evaluated` by name."""
    width, height = found["size"]
    said = (
        f"judge {found['judge']} ({found['judge_sha256'][:12]}), clips of {found['num_frames']} "
        f"frames of {width} x {height}, reference {found['reference_sha256'][:12]}, "
        f"seed {found['seed']}"
    )
    return f"{said}, of generated videos from frame {found['skip']} on" if found["skip"] else said


def table(rows: Mapping[str, Figures]) -> str:
    """Tables in Markdown, aligned: distances, then shares; a row for each set by its name."""
    return "\n\n".join(_aligned(rows, columns) for columns in (DISTANCES, KERNELS, SHARES))


def _aligned(rows: Mapping[str, Row], columns: Columns, *, title: str = "clips of") -> str:
    """A table without the columns in which no set has a figure."""
    grid = [[title, *rows]]
    for name, (place, form) in columns.items():
        cells = [_cell(figures, place, form) for figures in rows.values()]
        if any(cells):
            grid.append([name, *cells])
    widths = [max(map(len, column)) for column in grid]
    lines = []
    for first, *others in zip(*grid, strict=True):
        aligned = [text.rjust(width) for text, width in zip(others, widths[1:], strict=True)]
        lines.append("| " + " | ".join([first.ljust(widths[0]), *aligned]) + " |")
    rule = [f"{'-' * (width + 1)}:" for width in widths[1:]]
    lines.insert(1, "|".join(["", "-" * (widths[0] + 2), *rule, ""]))
    return "\n".join(lines)


def _cell(row: Row, place: str, form: str) -> str:
    value: Any = figure(row, place) if isinstance(row, Figures) else row.get(place)
    if isinstance(value, Estimate):
        if math.isnan(value.value):
            return "none"
        if math.isnan(value.low + value.high):  # some tenth of the clips has all there is of it
            return f"{value.value:{form}} (no interval)"
        return f"{value.value:{form}} ({value.low:{form}} to {value.high:{form}})"
    return "" if value is None else format(value, form)


# -- sheets ----------------------------------------------------------------------------------------


def shown(count: int) -> npt.NDArray[np.intp]:
    """Which of `count` clips a sheet shows: two a row, evenly spread, an even number.

    Nobody chooses, and a reconstruction stands beside its original.
    """
    return evenly(count, min(2 * SHEET_ROWS, count - count % 2))


def sheet_rows(real: Clips, sets: Sequence[Clips]) -> list[Clips]:
    """Rows of a sheet: the clips `shown` of the real ones (N, T, H, W, 3) beside those of each set.

    A grey row stands between two sets.
    """
    rows: list[Clips] = []
    for judged in sets:
        rows += [_gap(real)] if rows else []
        rows += side_by_side(real[: len(judged)], judged)
    return rows


def side_by_side(real: Clips, judged: Clips) -> list[Clips]:
    """Rows of a sheet: two real clips (T, H, W, 3), a wider gap, two judged ones of any length.

    Of longer clips, SHEET_FRAMES frames are shown.
    """
    gap = _gap(real)
    real, judged = (
        clips[:, evenly(clips.shape[1], min(SHEET_FRAMES, clips.shape[1]))]
        for clips in (real, judged)
    )
    pairs = zip(real[::2], real[1::2], judged[::2], judged[1::2], strict=True)
    return [np.concatenate([a, gap, b, gap, gap, c, gap, d]) for a, b, c, d in pairs]


def _gap(clips: Clips) -> Clips:
    return np.full((1, *clips.shape[2:]), GREY, np.uint8)


# -- an earlier evaluation -------------------------------------------------------------------------


@dataclass(frozen=True)
class Earlier:
    """An evaluation that `--json` kept in a file: its figures by name, and what they depend on."""

    file: Path
    reference_sha256: str
    seed: int
    rows: Mapping[str, Figures]

    @classmethod
    def load(cls, file: Path) -> Earlier:
        """Read it.

        Raises:
            LdfError: there is none, or the file is something else.
        """
        try:
            found = json.loads(file.read_text())
            rows = {name: figures_from_json(fields) for name, fields in found["rows"].items()}
            return cls(file, str(found["reference_sha256"]), int(found["seed"]), rows)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise LdfError(
                f"--compare {file}: {reason(error)}; expected what evaluate --json wrote"
            ) from error

    def check(self, reference_sha256: str) -> None:
        """Refuse figures against another reference.

        Raises:
            LdfError: they are.
        """
        if self.reference_sha256 != reference_sha256:
            raise LdfError(
                f"--compare {self.file}: its figures are against other real clips (reference "
                f"{self.reference_sha256[:12]}, here {reference_sha256[:12]}); give the --real, "
                "--num-clips, --frames, --size, --judge and --seed, or the --reference, that it "
                "was made with"
            )

    def differences(self, rows: Mapping[str, Figures]) -> dict[str, dict[str, Estimate]]:
        """How much larger figures are than its own of the same names and numbers of clips."""
        return {
            f"{name}, less that of {self.file.name}": subtract(figures, self.rows[name])
            for name, figures in rows.items()
            if name != FLOOR
            and name in self.rows
            # a distance grows as clips become fewer
            and self.rows[name].num_clips == figures.num_clips
        }
