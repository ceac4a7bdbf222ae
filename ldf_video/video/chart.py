"""Line charts as PNG files: a panel below the other over one common horizontal axis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ldf_video.output import write_atomically
from ldf_video.video.encoders import write_png

Floats = NDArray[np.float64]

WIDTH, PANEL_HEIGHT, TOP, BOTTOM, LEFT, RIGHT = 900, 230, 34, 26, 74, 150
"""In pixels of the file; a panel's frame stands within these margins."""
FINER = 3
"""Drawn so many times larger and scaled down, so that lines are smooth."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Told apart by the colour-blind too (Okabe & Ito 2008)."""
INK, FAINT, MARK = "#333333", "#e4e4e4", "#999999"


@dataclass(frozen=True)
class Panel:
    """Curves that share axes.

    Attributes:
        title: what they are.
        curves: by name, x and y of equal length, x rising; what is not finite is left out.
        is_log: whether the vertical axis is logarithmic; what is not positive is left out then.
    """

    title: str
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    is_log: bool = False


def write_chart(
    path: Path, panels: Sequence[Panel], *, x_label: str, marks: Sequence[float] = ()
) -> None:
    """Draw panels into a PNG file.

    Args:
        path: of the file.
        panels: those with nothing to show are left out.
        x_label: what the horizontal axis counts.
        marks: places on it where a vertical line stands.

    Raises:
        ValueError: there is nothing to show at all.
        WriteError: the file cannot be written.
    """
    shown = [(panel, curves) for panel in panels if (curves := _shown(panel))]
    if not shown:
        raise ValueError("got no values to draw, expected one or more")
    size = (WIDTH * FINER, (PANEL_HEIGHT * len(shown) + BOTTOM) * FINER)
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    reach = _span(np.concatenate([x for _, curves in shown for x, _ in curves.values()]))
    for row, (panel, curves) in enumerate(shown):
        _Panel(draw, row * PANEL_HEIGHT, reach, panel, curves).draw(marks)
    x_middle, y = (LEFT + WIDTH - RIGHT) / 2, size[1] / FINER - 20
    _text(draw, (x_middle, y), x_label, "ma")
    whole = image.resize((WIDTH, size[1] // FINER), Image.Resampling.LANCZOS)
    write_atomically(path, lambda part: write_png(part, np.asarray(whole)))


def _shown(panel: Panel) -> dict[str, tuple[Floats, Floats]]:
    """What can be drawn of each curve, in at most as many points as there are pixels."""
    shown = {}
    for name, (xs, ys) in panel.curves.items():
        x, y = np.asarray(xs, float), np.asarray(ys, float)
        fine = np.isfinite(x) & np.isfinite(y) & ((y > 0) | (not panel.is_log))
        x, y = x[fine], y[fine]
        parts = max(1, min(len(x), WIDTH - LEFT - RIGHT))
        if len(x):  # means of neighbours
            pairs = zip(np.array_split(x, parts), np.array_split(y, parts), strict=True)
            means = np.array([(a.mean(), b.mean()) for a, b in pairs])
            shown[name] = means[:, 0], means[:, 1]
    return shown


class _Panel:
    """One panel while it is drawn: from values to pixels."""

    def __init__(
        self,
        draw: ImageDraw.ImageDraw,
        top: float,
        reach: tuple[float, float],
        panel: Panel,
        curves: dict[str, tuple[Floats, Floats]],
    ) -> None:
        self.on, self.panel, self.curves, self.x_reach = draw, panel, curves, reach
        self.top, self.bottom = top + TOP, top + PANEL_HEIGHT - BOTTOM
        values = np.concatenate([y for _, y in curves.values()])
        self.y_reach = _span(np.log10(values) if panel.is_log else values)

    def draw(self, marks: Sequence[float]) -> None:
        _text(self.on, (LEFT, self.top - 24), self.panel.title, "la", size=15)
        for value in _ticks(*self.x_reach):
            x = self._x(value)
            self._line([(x, self.top), (x, self.bottom)], FAINT)
            _text(self.on, (x, self.bottom + 6), _number(value), "ma")
        for value, y in self._y_ticks():
            self._line([(LEFT, y), (WIDTH - RIGHT, y)], FAINT)
            _text(self.on, (LEFT - 7, y), _number(value), "rm")
        for mark in marks:
            self._line([(self._x(mark), self.top), (self._x(mark), self.bottom)], MARK)
        for number, (name, (xs, ys)) in enumerate(self.curves.items()):
            colour = COLOURS[number % len(COLOURS)]
            points = list(zip(map(self._x, xs), map(self._y, ys), strict=True))
            self._line(points, colour, width=1.8)
            if len(points) <= 40:  # few values: each is seen
                for point in points:
                    self._dot(point, colour)
            height = self.top + 10 + 20 * number
            self._line([(WIDTH - RIGHT + 12, height), (WIDTH - RIGHT + 30, height)], colour, 3)
            _text(self.on, (WIDTH - RIGHT + 36, height), name, "lm")
        frame = [(LEFT, self.top), (LEFT, self.bottom), (WIDTH - RIGHT, self.bottom)]
        self._line(frame, INK)

    def _x(self, value: float) -> float:
        low, high = self.x_reach
        return LEFT + (value - low) / (high - low) * (WIDTH - RIGHT - LEFT)

    def _y(self, value: float) -> float:
        low, high = self.y_reach
        place = math.log10(value) if self.panel.is_log else value
        return self.bottom - (place - low) / (high - low) * (self.bottom - self.top)

    def _y_ticks(self) -> list[tuple[float, float]]:
        low, high = self.y_reach
        if not self.panel.is_log:
            return [(value, self._y(value)) for value in _ticks(low, high)]
        digits = (1,) if high - low > 2 else (1, 2, 5) if high - low > 0.5 else range(1, 10)
        powers = range(math.floor(low), math.ceil(high) + 1)
        values = [digit * 10.0**power for power in powers for digit in digits]
        return [(v, self._y(v)) for v in values if low <= math.log10(v) <= high]

    def _line(self, points: Sequence[tuple[float, float]], colour: str, width: float = 1.0) -> None:
        if len(points) > 1:
            finer = [(FINER * x, FINER * y) for x, y in points]
            self.on.line(finer, fill=colour, width=round(FINER * width), joint="curve")

    def _dot(self, point: tuple[float, float], colour: str) -> None:
        x, y = (FINER * place for place in point)
        r = 2.5 * FINER
        self.on.ellipse((x - r, y - r, x + r, y + r), fill=colour)


def _span(values: Floats) -> tuple[float, float]:
    """From the least to the largest value, with some room above and below."""
    low, high = float(values.min()), float(values.max())
    room = 0.04 * (high - low) or max(abs(high), 1.0) * 0.1
    return low - room, high + room


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers between two."""
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
    return [step * n for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _text(
    draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, anchor: str, size: int = 13
) -> None:
    x, y = place
    font = ImageFont.load_default(FINER * size)
    draw.text((FINER * x, FINER * y), text, fill=INK, font=font, anchor=anchor)
