"""Which model a command means."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tiny_models import save_frame, save_top

from ldf_video.errors import CheckpointError
from ldf_video.pipelines.zoo import find_frame_model, find_top_model, shipped_models

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with `frame/` and `top/`; the current one is empty."""
    frame = save_frame(tmp_path / "pair" / "frame")
    save_top(tmp_path / "pair" / "top", frame)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    return tmp_path / "pair"


def test_a_directory_is_a_checkpoint_or_a_pair(pair: Path) -> None:
    assert find_frame_model(pair) == (pair / "frame", False)
    assert find_frame_model(str(pair / "frame")) == (pair / "frame", False)
    assert find_top_model(pair) == (pair / "top", False)
    assert find_top_model(pair / "top") == (pair / "top", False)


def test_nothing_said_means_the_own_model_then_the_shipped_one(pair: Path) -> None:
    shipped = shipped_models()["pacman-32"]
    assert find_frame_model(None) == (shipped / "frame", True)
    assert find_top_model(None) == (shipped / "top", True)
    save_frame(pair.parent / "empty" / "checkpoints" / "frame")
    directory, is_shipped = find_frame_model(None)
    assert (directory.as_posix(), is_shipped) == ("checkpoints/frame", False)


def test_an_unknown_name_lists_the_shipped_ones(pair: Path) -> None:
    del pair
    with pytest.raises(CheckpointError, match=r"no frame model tetris.*pacman-32"):
        find_frame_model("tetris")
