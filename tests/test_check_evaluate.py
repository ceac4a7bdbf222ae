"""The script that spoils real clips, and what its table says of a small judge."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import check_evaluate as script
import numpy as np
import pytest
from tiny_judge import moving_clips, write_judge


def test_each_way_of_spoiling() -> None:
    real, others, train = (moving_clips(40, seed=seed) for seed in range(3))
    sets = script.spoilt(real, others, train, seed=0)
    assert {clips.shape for clips in sets.values()} == {real.shape}
    assert sets["identical"] is real
    assert sets["disjoint"] is others
    assert sets["memorised"] is train
    assert len({clip.tobytes() for clip in sets["repeated"]}) == 10
    assert (sets["frozen"] == others[:, :1]).all()
    assert (sets["slower"] == others[:, [0, 0, 1, 1, 2]]).all()
    assert (sets["drifting"][:, 3, :, 3:] == others[:, 3, :, :-3]).all()
    assert (sets["blinking"][:, ::2] == others[:, ::2]).all()
    assert (sets["blinking"][:, 1] == sets["blinking"][:, 3]).all()
    for clip, original in zip(sets["shuffled"], others, strict=True):
        assert sorted(frame.tobytes() for frame in clip) == sorted(f.tobytes() for f in original)
    orders = [script.shuffled_order(3, np.random.default_rng(seed)).tolist() for seed in range(9)]
    assert [0, 1, 2] not in orders
    assert [2, 1, 0] not in orders


def test_the_table_tells_them_apart(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("clips.npy", moving_clips(330))
    write_judge(tmp_path / "judge.pt")
    options = ["clips.npy", "--num-clips", "110", "--judge", "judge.pt", "--json", "all.json"]
    monkeypatch.setattr(sys, "argv", ["check_evaluate.py", *options])
    assert script.main() == 0
    said = capsys.readouterr().out
    assert "| disjoint  |" in said
    assert "- disjoint: none" in said
    lines = dict(line[2:].split(": ") for line in said.splitlines() if line.startswith("- "))
    for name, places in (
        ("blurred", {"change.moving_percent"}),
        ("repeated", {"diversity.recall"}),
        ("frozen", {"motion", "kernel.motion", "change.still_clips_percent"}),
        ("slower", {"change.moving_percent"}),
        ("drifting", {"tracks.direction_degrees", "tracks.step_pixels"}),
        ("blinking", {"tracks.vanish_percent", "tracks.appear_percent"}),
    ):
        assert places <= set(lines[name].split(", "))
    rows = json.loads(Path("all.json").read_text())
    assert rows["identical"]["video"]["value"] == pytest.approx(0, abs=1e-6)
    assert rows["frozen"]["motion"]["low"] > rows["disjoint"]["motion"]["high"]
    assert rows["memorised"]["memorisation"]["copied_percent"] == 100
    assert rows["disjoint"]["memorisation"]["copied_percent"] < 5
    monkeypatch.setattr(sys, "argv", ["check_evaluate.py", "clips.npy", "--num-clips", "111"])
    with pytest.raises(SystemExit):
        script.main()
