"""Figures as a table for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ldf_video.evaluation.clouds import Estimate
from ldf_video.evaluation.figures import Figures

Cell = Callable[[Figures], str]


def _estimate(name: str) -> Cell:
    def cell(figures: Figures) -> str:
        estimate: Estimate | None = getattr(figures, name)
        if estimate is None:
            return ""
        return f"{estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})"

    return cell


def _number(part: str, name: str, digits: int) -> Cell:
    def cell(figures: Figures) -> str:
        holder = figures if not part else getattr(figures, part)
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


def table_of_differences(rows: Mapping[str, Figures]) -> str:
    """A table in Markdown of how much farther one set is than another."""
    return _aligned(rows, DISTANCES, title="difference")


def _aligned(
    rows: Mapping[str, Figures], columns: Mapping[str, Cell], *, title: str = "clips of"
) -> str:
    """Columns in which no set has a figure are left out."""
    filled = {name: [cell(figures) for figures in rows.values()] for name, cell in columns.items()}
    grid = [[title, *rows]]
    grid += [[name, *cells] for name, cells in filled.items() if any(cells)]
    widths = [max(map(len, column)) for column in grid]
    lines = []
    for cells in zip(*grid, strict=True):
        first, *others = (
            cell.ljust(width) if number == 0 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        lines.append("| " + " | ".join([first, *others]) + " |")
    rule = [f"{'-' * (width + 1)}:" for width in widths[1:]]
    lines.insert(1, "|".join(["", "-" * (widths[0] + 2), *rule, ""]))
    return "\n".join(lines)
