"""What the paper's experiments share: core time, marks, what is kept of a judgement."""

from __future__ import annotations

import json
import time
from argparse import Namespace
from typing import TYPE_CHECKING, Any

import experiment
import numpy as np
import pytest
import torch
from tiny_judge import moving_clips, write_judge
from tiny_trainings import FrameGameLevel, training_of

from ldf_video.errors import LdfError
from ldf_video.evaluation.judge import load_judge

if TYPE_CHECKING:
    from pathlib import Path


def trained(directory: Path, **settings: Any) -> list[experiment.Mark]:
    config = training_of(**{"steps": 3, "seed": 5, **settings})
    return experiment.train(FrameGameLevel(), directory, config, mark_seconds=1e-6)


def test_a_training_keeps_its_averaged_weights_on_the_way(tmp_path: Path) -> None:
    marks = trained(tmp_path / "run")
    assert [mark.step for mark in marks] == [1, 2, 3]
    assert sorted(mark.core_seconds for mark in marks) == [mark.core_seconds for mark in marks]
    first, last = (mark.load(FrameGameLevel().game.model).state_dict() for mark in marks[::2])
    assert any(not torch.equal(first[name], last[name]) for name in first)
    assert trained(tmp_path / "run") == marks  # finished: nothing is done again
    with pytest.raises(LdfError, match="run was trained for less: name other --runs"):
        trained(tmp_path / "run", steps=4)


def test_minutes_are_of_the_core_and_not_of_the_wall(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = [0.0]
    monkeypatch.setattr(time, "process_time", lambda: core[0])
    level = FrameGameLevel()

    def work(step: int) -> None:
        core[0] += 1.0

    level.on_batch = work
    marks = experiment.train(level, tmp_path, training_of(steps=None, minutes=3 / 60, seed=5))
    assert marks[-1].step == 3  # of a second each, whatever the wall clock says
    assert marks[-1].core_seconds == 3.0


def test_core_seconds_add_up_over_stretches(tmp_path: Path) -> None:
    path = tmp_path / "encode.json"
    assert experiment.seconds_in(path) == 0
    for _ in range(2):
        before = experiment.seconds_in(path)
        with experiment.counted(path):
            sum(range(100_000))
        assert experiment.seconds_in(path) > before
    before = experiment.seconds_in(path)

    def stopped() -> None:
        with experiment.counted(path):
            sum(range(100_000))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert experiment.seconds_in(path) > before


def test_a_judgement_is_kept_and_real_clips_are_near(tmp_path: Path, monkeypatch: Any) -> None:
    path = write_judge(tmp_path / "judge.pt")
    monkeypatch.setattr(experiment, "load_judge", lambda: load_judge(path))
    real, others = np.split(moving_clips(80), 2)
    judged = experiment.Judged(real, tmp_path)
    near, far = judged.of("others", lambda: others), judged.of("dark", lambda: others // 8)
    assert near["video"] < far["video"]
    assert set(near) >= {"frame", "video", "motion", "recall", "precision", "moving_percent"}
    again = experiment.Judged(real, tmp_path)
    assert again.of("others", lambda: pytest.fail("judged twice")) == near
    with pytest.raises(ValueError, match="20 clips, expected 40"):
        judged.of("few", lambda: others[:20])


def test_one_clip_for_every_noise_has_no_spread() -> None:
    one = np.full((4, 5, 8, 8, 3), 9, np.uint8)
    assert experiment.spread(one) == 0
    two = np.concatenate([one[:2], one[:2] + 10])[[0, 2, 1, 3]]
    assert experiment.spread(two) == pytest.approx(10)


def test_results_say_by_which_command_and_where(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("sys.argv", ["/here/scripts/paper/pacman.py", "/data/paper", "out"])
    experiment.write_results(tmp_path / "a" / "pacman.json", {"seeds": [0, 1]})
    found = json.loads((tmp_path / "a" / "pacman.json").read_text())
    assert found["command"] == "python scripts/paper/pacman.py paper out"
    assert found["seeds"] == [0, 1]
    assert found["machine"]["cpu"]


def test_a_folder_without_clips_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(LdfError, match=r"train: 0 \.npy files, expected one"):
        experiment.clips_of(tmp_path)

    def fails(arguments: Namespace) -> None:
        experiment.clips_of(tmp_path)

    folders = {"out": tmp_path / "out", "runs": tmp_path / "runs"}
    with pytest.raises(SystemExit, match=r"error: .*train: 0 \.npy files"):
        experiment.run(fails, Namespace(stretch=None, **folders))
    for name, place in folders.items():
        place.touch()
        with pytest.raises(SystemExit, match=f"error: .*{name}: a file, expected a folder"):
            experiment.run(fails, Namespace(stretch=None, **folders))
        place.unlink()
