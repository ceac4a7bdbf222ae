"""What an evaluation found: as a table, as JSON, as a sheet of pictures, and as it was before."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ldf_video.errors import LdfError
from ldf_video.evaluation.draw import CLIP_FRAMES
from ldf_video.evaluation.figures import Figures, figures_from_json, subtract
from ldf_video.output import reason

Clips = npt.NDArray[np.uint8]
Cell = Callable[[Figures], str]

FLOOR = "real"
"""The row of real clips against other real clips."""
SHEET_ROWS = 8
"""Of a set of judged clips."""
GREY = 224


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
            tables.append(_aligned(self.differences, DISTANCES, title="difference"))
        origins = "\n".join(f"- {name}: {origin}" for name, origin in self.origins.items())
        return "\n\n".join([head, *tables, origins, *self.notes])

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {**asdict(self), "output": None if self.output is None else str(self.output)}


# -- tables --------------------------------------------------------------------------------------


def _estimate(name: str) -> Cell:
    def cell(figures: Figures) -> str:
        estimate = getattr(figures, name)
        if estimate is None:
            return ""
        return f"{estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})"

    return cell


def _number(part: str, name: str, digits: int) -> Cell:
    def cell(figures: Figures) -> str:
        holder = getattr(figures, part) if part else figures
        value = None if holder is None else getattr(holder, name)
        return "" if value is None else f"{value:.{digits}f}"

    return cell


DISTANCES: dict[str, Cell] = {
    "clips": lambda figures: f"{figures.num_clips:,}",
    "frame": _estimate("frame"),
    "video": _estimate("video"),
    "motion": _estimate("motion"),
    "video+": _estimate("video_plus"),
    "PSNR dB": _number("", "psnr_db", 2),
}
SHARES: dict[str, Cell] = {
    "recall": _number("diversity", "recall", 3),
    "coverage": _number("diversity", "coverage", 3),
    "precision": _number("diversity", "precision", 3),
    "density": _number("diversity", "density", 3),
    "moving %": _number("change", "moving_percent", 2),
    "still clips %": _number("change", "still_clips_percent", 1),
    "flicker": _number("change", "flicker_levels", 2),
    "to training": _number("memorisation", "median_levels", 2),
    "real to training": _number("memorisation", "real_median_levels", 2),
    "copied %": _number("memorisation", "copied_percent", 1),
}


def table(rows: Mapping[str, Figures]) -> str:
    """Two tables in Markdown, aligned: distances, then shares; a row for each set by its name."""
    return "\n\n".join(_aligned(rows, columns) for columns in (DISTANCES, SHARES))


def _aligned(
    rows: Mapping[str, Figures], columns: Mapping[str, Cell], *, title: str = "clips of"
) -> str:
    """A table without the columns in which no set has a figure."""
    grid = [[title, *rows]]
    for name, cell in columns.items():
        cells = [cell(figures) for figures in rows.values()]
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


# -- sheets --------------------------------------------------------------------------------------


def shown(count: int) -> npt.NDArray[np.intp]:
    """Which of `count` clips a sheet shows: two a row, evenly spread, an even number.

    Nobody chooses, and a reconstruction stands beside its original.
    """
    number = min(2 * SHEET_ROWS, count - count % 2)
    return np.linspace(0, count - 1, number).round().astype(np.intp)


def sheet_rows(real: Clips, sets: Sequence[Clips]) -> list[Clips]:
    """Rows of a sheet for several sets of judged clips, a grey row between them.

    Args:
        real: the clips `shown` of the real ones, uint8 (N, T, H, W, 3).
        sets: likewise of each set, N at most, of any number of frames.
    """
    rows: list[Clips] = []
    for judged in sets:
        if rows:
            rows.append(np.full((1, *real.shape[2:]), GREY, np.uint8))
        rows += side_by_side(real[: len(judged)], judged)
    return rows


def side_by_side(real: Clips, judged: Clips) -> list[Clips]:
    """Rows of a sheet: two real clips, a wider gap, two judged ones.

    Args:
        real: uint8 (N, T, H, W, 3), N even.
        judged: as many, of any number of frames.
    """
    gap = np.full((1, *real.shape[2:]), GREY, np.uint8)
    pairs = zip(real[::2], real[1::2], judged[::2], judged[1::2], strict=True)
    return [np.concatenate([a, gap, b, gap, gap, c, gap, d]) for a, b, c, d in pairs]


# -- an earlier evaluation -----------------------------------------------------------------------


@dataclass(frozen=True)
class Earlier:
    """An evaluation that `--json` kept, to be compared with.

    Attributes:
        file: where.
        reference_sha256: of the real clips that its figures are against.
        seed: of what it drew and generated.
        rows: its figures by name.
    """

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
                "--num-clips, --size, --judge and --seed, or the --reference, that it was made with"
            )

    def differences(self, rows: Mapping[str, Figures]) -> dict[str, Figures]:
        """How much farther sets are than its own of the same names and numbers of clips."""
        return {
            f"{name}, less that of {self.file.name}": subtract(figures, self.rows[name])
            for name, figures in rows.items()
            if name != FLOOR
            and name in self.rows
            # a distance grows as clips become fewer
            and self.rows[name].num_clips == figures.num_clips
        }
