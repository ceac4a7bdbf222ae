"""Long rollouts: flat memory, figures by stretch, and what becomes of each video."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pacman_rollouts as script
import pacman_sheet
import pytest
from PIL import Image
from test_pacman_physics import window
from tiny_models import save_pair


def endless(alive: np.ndarray, *, dies_at: int) -> Iterator[np.ndarray]:
    """Two videos: one repeats a clip, the other stands still from some frame on, in one colour."""
    for number in range(80):
        frame = alive[number % len(alive)]
        yield np.stack([frame, frame if number < dies_at else np.full_like(frame, 7)])


def test_stretches_and_what_became_of_each_video() -> None:
    kept = script.Kept(endless(window(), dies_at=40))
    early, late = script.stretches(iter(kept), length=40, looked_at=1)
    assert (early.first, late.first) == (0, 40)
    assert early.row()["still %"] == 0
    assert early.row()["maze %"] == 100
    assert late.row()["still %"] == late.row()["maze %"] == 50
    assert late.row()["sprites"] == 0.5 * early.row()["sprites"] > 0
    assert kept.last is not None
    alive, dead = script.verdict(early, late, kept.last)
    assert alive.endswith("at last; alive")
    assert dead.endswith("0.00 % at last; frozen and of one colour")


def test_what_is_too_short_for_a_stretch_counts_only_if_it_is_all() -> None:
    frames = [frame[None] for frame in window(frames=75)]
    assert [s.first for s in script.stretches(iter(frames), length=40)] == [0]
    assert [s.first for s in script.stretches(iter(frames), length=1000)] == [0]
    assert len(next(script.stretches(iter(frames), length=1000)).moving) == 3


def test_a_wall_that_goes_is_missing_from_the_maze() -> None:
    clip = window(frames=20)
    clip[10:, 20:26, :16] = clip[10:, 30:31, :1]  # half of one of two walls
    (stretch,) = script.stretches(iter(clip[:, None]))
    assert stretch.row()["maze %"] == 75


def test_a_pair_is_rolled_as_generate_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    top = str(save_pair(tmp_path) / "top")
    monkeypatch.setattr(script, "SHOWN", (0, 30))
    np.save(tmp_path / "real.npy", np.stack([window(frames=20)] * 2))
    options = ["--frames", "45", "--num-videos", "2", "--top-model", top, "--seed", "3"]
    more = ["--real", str(tmp_path / "real.npy"), "--json", str(tmp_path / "all.json")]
    assert script.main([str(tmp_path / "strip.png"), *options, *more]) == 0
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "all.json").read_text())
    assert list(found["rows"]) == ["real", "from 0"]
    assert found["rows"]["real"]["still %"] == 0
    assert [text in printed for text in found["videos"]] == [True, True]
    frames = list(script.rolled(top, num_frames=45, num_videos=2, seed=3))
    assert (len(frames), frames[30].shape) == (45, (2, 32, 32, 3))
    picture = np.array(Image.open(tmp_path / "strip.png").convert("RGB"))
    assert picture.shape == (2 * 130 + 2, 3 * 130 + 2, 3)
    assert np.array_equal(picture[132:260:4, 132:260:4], frames[30][1])
    assert np.array_equal(picture[132:260:4, 262:390:4], frames[44][1])


def test_a_sheet_has_real_clips_beside_generated_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    top = str(save_pair(tmp_path) / "top")
    np.save(tmp_path / "real.npy", np.stack([window(frames=10)] * 40))
    files = [str(tmp_path / name) for name in ("real.npy", "sheet.png")]
    assert pacman_sheet.main([*files, "--top-model", top, "--num-measured", "32"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["real", "reconstructed", "generated"]
    assert found["real"]["still_clips_percent"] == found["real"]["flicker_levels"] == 0
    picture = np.array(Image.open(tmp_path / "sheet.png"))
    assert picture.shape[:2] == (16 * 66 + 2, 24 * 66 + 2)


@pytest.mark.parametrize("options", ["--frames 19", "--num-videos 0"])
def test_wrong_use(options: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        script.main([str(tmp_path / "strip.png"), *options.split()])
