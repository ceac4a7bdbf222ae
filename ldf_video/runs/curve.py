"""Curves as one picture: the metrics of a finished training over updates, and others."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from ldf_video.output import write_atomically
from ldf_video.training import checkpoints
from ldf_video.video.sheet import write_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CURVE, SHEET = "curve.png", "sheet.png"
"""The pictures that a finished training leaves in its checkpoint."""

_FIRST = ("distance_first", "held_out/distance_first")
_ROLLED = ("teacher", "held_out/teacher")
_GROUPS = (
    ("reconstruction", ("pixels", "held_out/pixels", "shortcut", "features"), True),
    ("error of the velocity", ("velocity", "held_out/velocity"), True),
    ("distance from the teacher", ("distance", "held_out/distance", *_FIRST, *_ROLLED), True),
    ("the game: losses in nats", ("discriminator", "encoder_generator", "generator"), False),
    ("held-out frames: PSNR in dB", ("held_out/psnr_db",), False),
    ("held-out sequences: Frechet distance of latents", ("held_out/latent_frechet",), True),
)
"""Title, metrics, and whether on a logarithmic axis, of each panel; empty ones are left out."""

_WIDTH, _PANEL_HEIGHT, _FOOT, _DPI = 10.0, 2.3, 0.35, 110
"""In inches, and pixels an inch."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 0.07, 0.78, 0.32, 0.22
"""Of a panel: left and right edge as shares of the width; margins above and below in inches."""
_MAX_POINTS = 600
_FEW_POINTS = 40
_STYLE = {
    # Colours that the colour-blind tell apart (Okabe & Ito 2008).
    "axes.prop_cycle": "cycler('color', ['0072b2', 'd55e00', '009e73', 'cc79a7'])",
    "axes.edgecolor": "0.3",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titley": 1.0,  # where it is anyway; to find that out takes long
    "axes.xmargin": 0.02,
    "font.size": 9,
    "grid.color": "0.9",
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "lines.markersize": 4,
}


Curve: TypeAlias = tuple[Sequence[int], Sequence[float]]


class Panel(NamedTuple):
    """Curves that share their axes, by name."""

    title: str
    curves: Mapping[str, Curve]
    is_log: bool = False


def write_curve(directory: Path) -> Path | None:
    """Draw `curve.png` of the run in a checkpoint; None where nothing was logged yet.

    Raises:
        WriteError: it cannot be written.
    """
    lines = checkpoints.read_metrics(directory)
    panels = [Panel(title, _curves(lines, names), is_log) for title, names, is_log in _GROUPS]
    panels = [panel for panel in panels if panel.curves]
    if not panels:
        return None
    write_panels(directory / CURVE, panels, label="updates")
    return directory / CURVE


def write_panels(path: Path, panels: Sequence[Panel], *, label: str) -> None:
    """Draw panels below each other, over one axis with a label.

    Raises:
        WriteError: it cannot be written.
    """
    image = _drawn(panels, label)
    write_atomically(path, lambda part: write_png(part, image))


def _curves(lines: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Curve]:
    """Steps and values of each metric that was logged, where it has a place on any axis."""
    curves = dict[str, Curve]()
    for name in names:
        points = [
            (line["step"], line[name]) for line in lines if 0 < (line.get(name) or 0) < math.inf
        ]
        if points:
            steps, values = zip(*points, strict=True)
            curves[name.replace("held_out/", "held out: ")] = steps, values
    return curves


def _drawn(panels: Sequence[Panel], label: str) -> np.ndarray:
    """The panels below each other, uint8 (height, width, 3)."""
    with _matplotlib():
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import LogLocator

        height = _PANEL_HEIGHT * len(panels) + _FOOT
        figure = Figure((_WIDTH, height), dpi=_DPI)
        canvas = FigureCanvasAgg(figure)
        axes: Axes | None = None
        for row, panel in enumerate(panels):
            bottom = height - (row + 1) * _PANEL_HEIGHT + _BOTTOM
            size = _RIGHT - _LEFT, (_PANEL_HEIGHT - _TOP - _BOTTOM) / height
            axes = figure.add_axes((_LEFT, bottom / height, *size), sharex=axes)
            for name, (steps, values) in panel.curves.items():
                marker = "o" if len(steps) <= _FEW_POINTS else ""
                axes.plot(_means(steps), _means(values), label=name, marker=marker)
            axes.set_title(panel.title)
            if panel.is_log:
                axes.set_yscale("log")
                low, high = axes.get_ylim()
                digits = [1] if high > 100 * low else [1, 2, 5] if high > 3 * low else range(1, 10)
                axes.yaxis.set_major_locator(LogLocator(subs=digits))
                axes.yaxis.set_major_formatter("{x:g}")
                axes.minorticks_off()
            axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.05))
        figure.text((_LEFT + _RIGHT) / 2, 0.06 / height, label, horizontalalignment="center")
        canvas.draw()  # type: ignore[no-untyped-call]
        return np.array(canvas.buffer_rgba())[..., :3]  # type: ignore[no-untyped-call]


def _means(values: Sequence[float]) -> np.ndarray:
    """At most as many numbers as can be seen beside each other: means of neighbours."""
    parts = np.array_split(np.asarray(values, float), min(len(values), _MAX_POINTS))
    return np.array([part.mean() for part in parts])


@contextmanager
def _matplotlib() -> Iterator[None]:
    """Own settings instead of a user's, and no word of caches of fonts."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        from matplotlib import style

        with style.context(["default", _STYLE]):
            yield
    finally:
        logger.setLevel(level)
