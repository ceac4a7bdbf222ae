"""The pictures that a finished training leaves: a sheet and its curves."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
import pytest
from PIL import Image
from test_train_frame import root, train

from ldf_video.api import info
from ldf_video.errors import WriteError
from ldf_video.files.not_clips import is_own_file
from ldf_video.runs.curve import write_curve
from ldf_video.training import checkpoints

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["root"]  # a fixture

WIDTH, PANEL, FOOT = 1100, 253, 38


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def drawn(directory: Path, lines: list[dict[str, Any]]) -> np.ndarray:
    directory.mkdir(exist_ok=True)
    checkpoints.append_metrics(directory, lines)
    path = write_curve(directory)
    assert path == directory / "curve.png"
    return pixels(path)


def blue(image: np.ndarray) -> np.ndarray:
    """(row, column) of the first curve's pixels, the legend left out."""
    near = np.abs(image - [0x00, 0x72, 0xB2]).sum(2) < 30
    near[:, int(0.78 * WIDTH) :] = False
    return np.argwhere(near)


@pytest.mark.parametrize(
    ("name", "value"),
    [("held_out/psnr_db", lambda k: k + 1), ("held_out/pixels", lambda k: 2.0**k)],
)
def test_a_line_rises_evenly_on_its_axis(tmp_path: Path, name: str, value: Any) -> None:
    """Decibels on a linear axis, errors on a logarithmic one."""
    image = drawn(tmp_path, [{"step": 10 * k, name: value(k)} for k in range(60)])
    found = blue(image)
    first, last = found[found[:, 1].argmin()], found[found[:, 1].argmax()]
    assert last[1] - first[1] > 0.65 * WIDTH
    assert first[0] - last[0] > 0.6 * PANEL
    assert np.corrcoef(found[:, 0], found[:, 1])[0, 1] < -0.999


def test_each_group_that_was_logged_has_a_panel(tmp_path: Path) -> None:
    assert write_curve(tmp_path) is None
    lines = [{"step": s, "pixels": 1 / s, "features": 0.1, "pressure": 1.0} for s in (20, 40)]
    assert drawn(tmp_path, lines).shape == (PANEL + FOOT, WIDTH, 3)
    student = [
        {"step": s, "distance": 1 / s, "held_out/distance": 0.1, "moves": 1.0} for s in (20, 40)
    ]
    assert drawn(tmp_path / "few", student).shape == (PANEL + FOOT, WIDTH, 3)
    odd = [{"step": 60, "pixels": value} for value in (float("nan"), float("inf"), 0.0, None)]
    image = drawn(tmp_path, [{"step": 40, "held_out/psnr_db": 20.0}, *odd])
    assert image.shape == (2 * PANEL + FOOT, WIDTH, 3)


def test_many_points_are_drawn_as_means_of_neighbours(tmp_path: Path) -> None:
    image = drawn(tmp_path, [{"step": s, "discriminator": 1 + s % 2} for s in range(60_000)])
    assert np.ptp(blue(image)[:, 0]) < 0.75 * PANEL
    rows = blue(drawn(tmp_path / "few", [{"step": s, "discriminator": 1.5} for s in range(60)]))
    assert abs(np.median(blue(image)[:, 0]) - np.median(rows[:, 0])) < 3


def test_a_caller_s_settings_neither_show_nor_change(tmp_path: Path) -> None:
    lines = [{"step": step, "velocity": 1.0} for step in (1, 2)]
    usual = drawn(tmp_path / "usual", lines)
    with matplotlib.rc_context({"axes.facecolor": "black", "text.usetex": True}):
        before = dict(matplotlib.rcParams)
        assert np.array_equal(drawn(tmp_path / "strange", lines), usual)
        assert dict(matplotlib.rcParams) == before
    assert is_own_file(tmp_path / "usual" / "curve.png")


def test_nothing_is_said_and_nothing_global_is_loaded(tmp_path: Path) -> None:
    """Not even where Matplotlib has no place for its cache."""
    checkpoints.append_metrics(tmp_path, [{"step": 1, "velocity": 1.0}])
    (tmp_path / "file").touch()
    code = (
        "import sys, pathlib; from ldf_video.runs.curve import write_curve; "
        "assert 'matplotlib' not in sys.modules; "
        "write_curve(pathlib.Path(sys.argv[1])); assert 'matplotlib.pyplot' not in sys.modules"
    )
    environment = os.environ | {"MPLCONFIGDIR": os.fspath(tmp_path / "file")}
    ran = subprocess.run(
        [sys.executable, "-c", code, tmp_path],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_a_place_that_cannot_be_written_is_an_error_in_one_line(tmp_path: Path) -> None:
    checkpoints.append_metrics(tmp_path, [{"step": 1, "velocity": 1.0}])
    (tmp_path / "curve.png").mkdir()
    with pytest.raises(WriteError, match=r"cannot write .*curve\.png: Is a directory"):
        write_curve(tmp_path)


def test_a_finished_frame_model_has_both(root: Path) -> None:
    run = train(root)
    # 4 pairs of rows and 4 of samples, 16 frames of 64 pixels each, gaps of 2
    assert pixels(run / "sheet.png").shape[:2] == (12 * 66 + 2, 16 * 66 + 2)
    assert len(pixels(run / "curve.png")) == 3 * PANEL + FOOT
    assert info(run)["pictures"] == [os.fspath(run / n) for n in ("sheet.png", "curve.png")]
