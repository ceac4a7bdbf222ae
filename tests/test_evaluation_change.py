"""How clips change, on pixels set by hand."""

from __future__ import annotations

import numpy as np
import pytest

from ldf_video.evaluation import change as room
from ldf_video.evaluation.change import Change, change


def grey(count: int) -> np.ndarray:
    return np.full((count, 3, 10, 10, 3), 100, np.uint8)


def test_by_hand() -> None:
    clips = grey(2)
    clips[0, 1, 0, :5] += 41  # five pixels move, and move back
    clips[0, 2, 9, 0, 1] -= 40  # one flickers, in one colour
    # 2 clips x 2 steps x 100 pixels; flicker: 40 over the 390 that do not move
    assert change(clips) == Change(
        moving_percent=pytest.approx(100 * 10 / 400),
        still_clips_percent=50,
        flicker_levels=pytest.approx(40 / 390),
    )


def test_levels_do_not_wrap_round() -> None:
    clips = grey(1)
    clips[0, :, 0, 0] = np.array([0, 255, 0])[:, None]
    assert change(clips).moving_percent == 1


def test_where_every_pixel_moves_there_is_no_flicker() -> None:
    clips = grey(1)
    clips[:, 1] = 200
    assert change(clips) == Change(100, 0, 0)


def test_many_clips_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    clips = np.random.default_rng(0).integers(0, 80, (7, 3, 4, 4, 3), np.uint8)
    whole = change(clips)
    monkeypatch.setattr(room, "_CLIPS", 2)
    assert change(clips) == whole
