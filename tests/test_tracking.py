"""Curves and pictures for TensorBoard, read back from its files."""

from __future__ import annotations

import importlib.util
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from ldf_video.errors import UsageError
from ldf_video.training.metrics import Tracker, check_tracker

if TYPE_CHECKING:
    from pathlib import Path

PICTURE = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


def tracker(directory: Path, name: str | None = "tensorboard", *, step: int = 0) -> Tracker:
    return Tracker(name, directory, step=step)


def read_back(directory: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(directory / "tensorboard"))
    events.Reload()
    return events


def points(directory: Path, name: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read_back(directory).Scalars(name)]


def test_scalars_and_a_picture_come_back(tmp_path: Path) -> None:
    made = tracker(tmp_path)
    made.log({"pixels": 0.5, "held_out/pixels": 0.25}, step=20)
    made.log({"pixels": 0.125}, step=40)
    made.show("samples", PICTURE, step=40)
    made.close()

    assert points(tmp_path, "pixels") == [(20, 0.5), (40, 0.125)]
    assert points(tmp_path, "held_out/pixels") == [(20, 0.25)]
    (event,) = read_back(tmp_path).Images("samples")
    assert (event.step, event.width, event.height) == (40, 6, 4)
    with Image.open(io.BytesIO(event.encoded_image_string)) as picture:
        assert np.array_equal(np.asarray(picture.convert("RGB")), PICTURE)


def test_what_an_earlier_sitting_told_of_later_updates_is_dropped(tmp_path: Path) -> None:
    first = tracker(tmp_path)
    for step in (10, 20, 30):
        first.log({"pixels": float(step)}, step=step)
    first.close()
    second = tracker(tmp_path, step=20)  # the state of update 20 was the last that was saved
    second.log({"pixels": 0.5}, step=30)
    second.close()
    assert points(tmp_path, "pixels") == [(10, 10.0), (20, 20.0), (30, 0.5)]


def test_none_does_nothing(tmp_path: Path) -> None:
    made = tracker(tmp_path, None)
    made.log({"pixels": 0.5}, step=20)
    made.show("samples", PICTURE, step=40)
    made.close()
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_and_an_unknown_name_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="--tracker wandb: expected tensorboard"):
        check_tracker("wandb")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    check_tracker(None)
    with pytest.raises(UsageError, match=r"not installed: pip install 'ldf-video\[tensorboard\]'"):
        tracker(tmp_path)
