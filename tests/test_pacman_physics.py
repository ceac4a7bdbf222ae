"""Physics of Ms. Pac-Man by colours: each fault moves its own figures, and no others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import check_physics as check
import numpy as np
import pacman_physics as script
import pytest
from pacman_sprites import FLOOR_RGB, SPRITE_RGB, WALL_RGB, kinds_of, parts_of, sprites_of
from tiny_models import save_frame

GHOST = """\
..####..
.######.
.#..#..#
.#..#..#
########
########
########
########
########
#.#.##.#
""".splitlines()
STEP, FRAMES = 2, 8


def window(*, frames: int = FRAMES, colour: str = "cyan", left: int = 1) -> np.ndarray:
    """A ghost that crosses a corridor with pellets, between two walls."""
    clip = np.empty((frames, 32, 32, 3), np.uint8)
    clip[:] = FLOOR_RGB
    clip[:, :6] = clip[:, 20:26] = WALL_RGB
    clip[:, 29:31, 9:13] = clip[:, 29:31, 17:21] = WALL_RGB
    shape = np.array([[pixel == "#" for pixel in row] for row in GHOST])
    for number in range(frames):
        at = left + STEP * number
        seen = shape[:, : max(0, 32 - at)]
        clip[number, 8:18, at : at + 8][seen] = SPRITE_RGB[colour]
    return clip


def values(clip: np.ndarray) -> dict[str, float]:
    found = script.figures([script.physics(clip)])
    return {name: cell["value"] for name, cell in found.items() if cell["value"] is not None}


def test_a_ghost_that_goes_its_way() -> None:
    found = values(window())
    assert found["sprites"] == 1
    assert found["ghosts"] == STEP
    assert set(found.values()) == {0, 1, STEP}
    assert script.step_lengths([script.physics(window())])["ghost"] == [0, 0, FRAMES - 1, *[0] * 4]


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        (check.moved, {"teleports": 200 / 7}),
        (check.removed, {"sprites": 7 / 8, "vanishes": 100 / 6, "appears": 100 / 6}),
        (check.recoloured, {"changes colour": 200 / 7}),
        (check.hollow, {"ghosts change shape": 200 / 7}),
        (check.halved, {"odd size": 100 / 8}),
        (check.walled, {"in a wall": None}),
        (check.breached, {"wall changes": None, "walls lost or gained": None}),
        (check.blurred, {"unclear, corners, first block": None}),
    ],
)
def test_each_fault_moves_its_own_figures(
    way: Callable[[check.Scene], script.Frames], expected: dict[str, float | None]
) -> None:
    scene = check.scene_of(window())
    assert scene is not None
    before, after = values(scene.clip), values(way(scene))
    assert {name for name in before if after[name] != before[name]} == set(expected)
    for name, value in expected.items():
        assert after[name] > 0
        if value is not None:
            assert after[name] == pytest.approx(value)


def test_who_leaves_through_the_border_has_not_vanished() -> None:
    found = values(window(frames=16, left=1))
    assert found["vanishes"] == found["appears"] == found["teleports"] == 0
    assert found["sprites"] < 1


def test_a_sprite_drawn_in_one_of_two_raw_frames_is_the_same() -> None:
    clip = window(colour="orange")
    half = np.maximum(clip[3], FLOOR_RGB)
    assert (half != clip[3]).any()
    clip[3] = half
    assert values(clip) == values(window(colour="orange"))


def test_parts_touch_at_corners_and_stay_in_their_frame() -> None:
    masks = np.zeros((300, 4, 4), bool)
    masks[0, 0, 0] = masks[0, 1, 1] = masks[0, 3, 3] = masks[299, 0, 0] = True
    parts = parts_of(masks)
    assert parts[0, 0, 0] == parts[0, 1, 1] != parts[0, 3, 3]
    assert (parts[299] > 0).sum() == 1
    assert not parts[1:299].any()


def test_a_blend_of_floor_and_wall_is_no_sprite() -> None:
    share = np.linspace(0, 1, 32)[None, :, None]
    frame = ((1 - share) * FLOOR_RGB + share * WALL_RGB).round().astype(np.uint8)
    kinds, unclear = kinds_of(np.repeat(frame, 32, axis=0)[None])
    assert sprites_of(kinds) == [[]]
    assert 0.3 < unclear.mean() < 0.8


def test_sets_stand_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    real, spoilt, short = (tmp_path / f"{name}.npy" for name in ("real", "spoilt", "short"))
    np.save(real, np.stack([window()] * 3))
    scene = check.scene_of(window())
    assert scene is not None
    np.save(spoilt, np.stack([check.moved(scene), window()]))
    np.save(short, window(frames=6)[None])
    frame = str(save_frame(tmp_path / "frame"))
    options = ["--skip", "1", "--frames", "6", "--json", str(tmp_path / "all.json")]
    assert script.main([str(real), str(spoilt), "--frame-model", frame, *options]) == 0
    assert f"| {real} (3) | reconstructed (3) | {spoilt} (2) |" in capsys.readouterr().out
    found = json.loads((tmp_path / "all.json").read_text())
    unclear = [row["unclear, elsewhere, later"]["value"] for row in found["figures"].values()]
    assert unclear[0] == unclear[2] == 0 < unclear[1]
    jumps = [row["teleports"] for row in found["figures"].values()]
    assert jumps[0]["value"] == jumps[0]["high"] == 0
    assert jumps[2]["low"] < jumps[2]["value"] < jumps[2]["high"]
    assert script.main([str(real), str(short), *options]) == 1
    assert capsys.readouterr().err.count("no clip of 7 frames") == 1


def test_the_check_prints_a_column_a_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "clips.npy", np.stack([window()] * 2))
    assert check.main([str(tmp_path / "clips.npy"), "--frames", "8"]) == 0
    assert "| real (2) | moved | removed |" in capsys.readouterr().out
    np.save(tmp_path / "clips.npy", np.zeros((2, 8, 32, 32, 3), np.uint8))
    with pytest.raises(SystemExit):
        check.main([str(tmp_path / "clips.npy"), "--frames", "8"])
