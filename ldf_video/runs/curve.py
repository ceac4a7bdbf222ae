"""What a finished training shows of itself: its curves, drawn from its metrics."""

from __future__ import annotations

import math
from pathlib import Path

from ldf_video.training import checkpoints
from ldf_video.video.chart import Panel, write_chart

CURVE, SHEET = "curve.png", "sheet.png"
"""The pictures that a finished training leaves in its checkpoint."""

_GROUPS = (
    ("reconstruction", ("pixels", "held_out/pixels", "shortcut", "features"), True),
    ("error of the velocity", ("velocity", "held_out/velocity"), True),
    ("the game: losses in nats", ("discriminator", "encoder_generator", "generator"), False),
    ("held-out frames: PSNR in dB", ("held_out/psnr_db",), False),
    ("held-out sequences: Frechet distance of latents", ("held_out/latent_frechet",), True),
)
"""Title, values, and whether on a logarithmic axis, of each panel; empty ones are left out."""


def write_curve(directory: Path) -> Path | None:
    """Draw `curve.png` of the run in a checkpoint; None where nothing was logged yet.

    Raises:
        LdfError: it cannot be written.
    """
    lines = checkpoints.read_metrics(directory)
    panels = []
    for title, names, is_log in _GROUPS:
        curves = {}
        for name in names:
            points = [(line["step"], line[name]) for line in lines if _is_shown(line.get(name))]
            if points:
                steps, values = zip(*points, strict=True)
                curves[name.replace("held_out/", "held out: ")] = steps, values
        if curves:
            panels.append(Panel(title, curves, is_log))
    if not panels:
        return None
    restarts = [line["step"] for line in lines if "restart" in line]
    label = "updates" if not restarts else "updates; grey lines: restarts"
    write_chart(directory / CURVE, panels, x_label=label, marks=restarts)
    return directory / CURVE


def _is_shown(value: float | None) -> bool:
    """Whether a value has a place on any axis."""
    return value is not None and 0 < value < math.inf
