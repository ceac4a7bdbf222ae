"""The pictures that a finished training leaves: a sheet and its curves."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest
from latent_data import write_latents
from PIL import Image
from test_train_frame import root, train
from tiny_models import save_pair

from ldf_video.errors import LdfError
from ldf_video.recipes.info import info
from ldf_video.recipes.train_top import train_top
from ldf_video.runs.curve import write_curve
from ldf_video.training import checkpoints
from ldf_video.video import chart
from ldf_video.video.chart import Panel, write_chart

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["root"]  # a fixture


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def places(path: Path, colour: str) -> np.ndarray:
    """(row, column) of the pixels near a colour, the legend left out."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    near = np.abs(pixels(path) - wanted).sum(2) < 30
    near[:, chart.WIDTH - chart.RIGHT + 1 :] = False
    return np.argwhere(near)


def test_a_line_rises_from_left_to_right(tmp_path: Path) -> None:
    xs = list(range(100))
    write_chart(tmp_path / "a.png", [Panel("rising", {"y": (xs, xs)})], x_label="updates")
    found = places(tmp_path / "a.png", chart.COLOURS[0])
    first, last = found[found[:, 1].argmin()], found[found[:, 1].argmax()]
    assert chart.LEFT < first[1] < chart.LEFT + 40
    assert last[1] > chart.WIDTH - chart.RIGHT - 40
    assert first[0] - last[0] > 100
    assert np.corrcoef(found[:, 0], found[:, 1])[0, 1] < -0.999


def test_on_a_logarithmic_axis_decades_are_equally_far_apart(tmp_path: Path) -> None:
    panel = Panel("falling", {"y": ([0, 1, 2], [100.0, 10.0, 1.0])}, is_log=True)
    write_chart(tmp_path / "a.png", [panel], x_label="updates")
    found = places(tmp_path / "a.png", chart.COLOURS[0])
    assert np.corrcoef(found[:, 0], found[:, 1])[0, 1] > 0.998


def test_panels_stand_below_each_other_and_empty_ones_are_left_out(tmp_path: Path) -> None:
    nan = float("nan")
    panels = [
        Panel("one", {"a": ([0.0, 1.0], [1.0, 2.0]), "b": ([0.0, 1.0], [2.0, 1.0])}),
        Panel("none", {"c": ([], [])}),
        Panel("no logarithm", {"c": ([0.0, 1.0], [0.0, -1.0])}, is_log=True),
        Panel("two", {"d": ([0.0, 0.5, 1.0], [1.0, nan, 1.0])}),
    ]
    write_chart(tmp_path / "a.png", panels, x_label="updates", marks=[0.5])
    height, width, _ = pixels(tmp_path / "a.png").shape
    assert (width, height) == (chart.WIDTH, 2 * chart.PANEL_HEIGHT + chart.BOTTOM)
    assert len(places(tmp_path / "a.png", chart.COLOURS[1]))
    middle = (chart.LEFT + chart.WIDTH - chart.RIGHT) // 2
    write_chart(tmp_path / "plain.png", panels, x_label="updates")
    marked = np.argwhere((pixels(tmp_path / "a.png") != pixels(tmp_path / "plain.png")).any(2))
    assert len(set(marked[:, 0])) > 300  # rows, of both panels
    assert np.abs(marked[:, 1] - middle).max() <= 5
    with pytest.raises(ValueError, match="got no values to draw"):
        write_chart(tmp_path / "b.png", panels[1:3], x_label="updates")


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 10.0, [0, 2, 4, 6, 8, 10]),
        (0.11, 0.34, [0.15, 0.2, 0.25, 0.3]),
        (-3.0, 9000.0, [0, 2000, 4000, 6000, 8000]),
    ],
)
def test_ticks_are_round_numbers(low: float, high: float, expected: list[float]) -> None:
    assert chart._ticks(low, high) == pytest.approx(expected)


def test_many_points_are_drawn_as_means_of_neighbours(tmp_path: Path) -> None:
    xs = np.arange(100_000)
    shown = chart._shown(Panel("p", {"y": (xs, xs % 2)}))["y"]
    assert len(shown[0]) == chart.WIDTH - chart.LEFT - chart.RIGHT
    np.testing.assert_allclose(shown[1], 0.5, atol=0.02)


def test_a_place_that_cannot_be_written_is_an_error_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LdfError, match=r"cannot write .*a\.png: File exists"):
        write_chart(tmp_path / "file" / "a.png", [Panel("p", {"y": ([0], [1])})], x_label="x")


def test_the_curve_has_a_panel_for_each_group_that_was_logged(tmp_path: Path) -> None:
    assert write_curve(tmp_path) is None
    lines = [{"step": s, "pixels": 1 / s, "features": 0.1, "pressure": 1.0} for s in (20, 40)]
    checkpoints.append_metrics(tmp_path, lines)
    assert write_curve(tmp_path) == tmp_path / "curve.png"
    assert len(pixels(tmp_path / "curve.png")) == chart.PANEL_HEIGHT + chart.BOTTOM
    held_out = {"step": 40, "held_out/psnr_db": 20.0}
    restart = {"step": 20, "restart": 1, "reason": "pixels not finite"}
    checkpoints.append_metrics(tmp_path, [held_out, restart, {"step": 60, "pixels": float("nan")}])
    write_curve(tmp_path)
    assert len(pixels(tmp_path / "curve.png")) == 2 * chart.PANEL_HEIGHT + chart.BOTTOM


def test_a_finished_frame_model_has_both(root: Path) -> None:
    run = train(root)
    # 4 pairs of rows and 4 of samples, 16 frames of 64 pixels each, gaps of 2
    assert pixels(run / "sheet.png").shape[:2] == (12 * 66 + 2, 16 * 66 + 2)
    assert len(pixels(run / "curve.png")) == 3 * chart.PANEL_HEIGHT + chart.BOTTOM
    assert info(run)["pictures"] == [os.fspath(run / n) for n in ("sheet.png", "curve.png")]


def test_a_finished_top_model_has_both(root: Path) -> None:
    save_pair(root / "pair")
    weights = checkpoints.fingerprint_of(root / "pair" / "frame")
    write_latents(root / "latents", [40, 30], weights=weights)
    (root / "checkpoints").mkdir()
    (root / "pair" / "frame").rename(root / "checkpoints" / "frame")
    run = train_top(
        latents=root / "latents", out=root / "top", steps=2, batch_size=4, seed=1, quiet=True
    )
    assert (run / "sheet.png").is_file()
    assert (run / "sheet.mp4").is_file()
    assert len(pixels(run / "curve.png")) == chart.PANEL_HEIGHT + chart.BOTTOM
