"""What a reference is made of, and the file that keeps it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tiny_judge import ClipFeatures, moving_clips, write_judge

from ldf_video.errors import LdfError
from ldf_video.evaluation.clouds import Directions
from ldf_video.evaluation.figures import measure
from ldf_video.evaluation.judge import load_judge
from ldf_video.evaluation.reference import Basis, Reference, blurred, noised

if TYPE_CHECKING:
    from pathlib import Path


def test_views_by_hand() -> None:
    basis = Basis(
        real=Directions(np.zeros(3, np.float32), np.eye(3, 2, dtype=np.float32)),
        wide=Directions(np.ones(3, np.float32), np.eye(3, dtype=np.float32)[:, [2]]),
    )
    features = np.array([[[1, 2, 3], [4, 5, 6], [8, 9, 7]]], np.float32)
    views = basis.views(features)
    assert views["frame"].tolist() == [[1, 2, 3]]
    assert views["video"].tolist() == [[1, 2, 4, 5, 8, 9]]
    assert views["motion"].tolist() == [[3, 3, 4, 4]]
    assert views["video_plus"].tolist() == [[2, 5, 6]]


def test_blur_keeps_even_planes_and_levels() -> None:
    flat = np.full((1, 2, 32, 16, 3), 77, np.uint8)
    assert (blurred(flat) == flat).all()
    dot = np.zeros((1, 1, 33, 33, 3), np.uint8)
    dot[0, 0, 16, 16] = 255
    found = blurred(dot)[0, 0, :, :, 0].astype(float)
    assert (found == found.T).all()
    assert (found == found[::-1]).all()
    assert found[16, 16] == round(255 / (2 * np.pi * (33 / 32) ** 2))  # near a Gaussian's peak


def test_noise_is_the_same_every_time_and_of_its_size() -> None:
    flat = np.full((4, 5, 32, 32, 3), 128, np.uint8)
    found = noised(flat)
    assert (found == noised(flat)).all()
    assert found.astype(float).std() == pytest.approx(16, rel=0.05)


@pytest.mark.parametrize("sees_clips", [False, True])
def test_a_file_gives_the_same_figures(tmp_path: Path, sees_clips: bool) -> None:
    judge = load_judge(write_judge(tmp_path / "j.pt", ClipFeatures() if sees_clips else None))
    reference, others = Reference.of(moving_clips(40), judge), moving_clips(40, seed=1)
    path = tmp_path / "deep" / "reference.npz"
    reference.save(path, notes={"seed": 3})
    again, notes = Reference.load(path)
    assert notes == {"seed": 3}
    assert len(again.views["video"]) == 40
    assert (again.sha256, again.clip_shape) == (reference.sha256, (5, 32, 32, 3))
    assert measure(again, others, judge) == measure(reference, others, judge)
    assert [p.name for p in path.parent.iterdir()] == ["reference.npz"]


def test_files_that_are_no_references(tmp_path: Path) -> None:
    judge = load_judge(write_judge(tmp_path / "judge.pt"))
    Reference.of(moving_clips(20), judge).save(tmp_path / "whole.npz", notes={})
    np.savez(tmp_path / "pickled.npz", head=np.array([{}], object))
    (tmp_path / "text.npz").write_text("no arrays")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:1000])
    (tmp_path / "empty.npz").write_bytes(b"")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    np.save(tmp_path / "array.npy", np.zeros(3))
    for name in ("text.npz", "cut.npz", "empty.npz", "other.npz", "array.npy", "pickled.npz"):
        with pytest.raises(LdfError, match=f"--reference .*{name}: not a reference of this"):
            Reference.load(tmp_path / name)
    head = np.frombuffer(json.dumps({"format_version": 3}).encode(), np.uint8)
    np.savez(tmp_path / "later.npz", head=head)
    with pytest.raises(LdfError, match="format 3, expected 2"):
        Reference.load(tmp_path / "later.npz")
