"""The joint model and the two levels by core time: what is counted, shared and compared."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import experiment
import few_clips
import numpy as np
import pacman
import pytest
import two_levels
from tiny_judge import moving_clips, write_judge

from ldf_video.errors import LdfError
from ldf_video.evaluation.judge import load_judge

if TYPE_CHECKING:
    from pathlib import Path

TOY = "--minutes 0.0001 --marks 1 --judged 20 --on-the-way 20 --encoded 24 --seeds 3"


def run(script: Any, options: str, *, clips: Path, out: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "argv", [script.__file__])
    parser = pacman.add_budget(experiment.parser(""))
    parser.add_argument("--arms", nargs="+", default=())
    parser.add_argument("--name", default="pacman")
    parser.add_argument("--counts", nargs="+", type=int)
    words = [str(clips), str(out), "--runs", str(out / "runs"), *options.split()]
    script.main(parser.parse_args(words))


def test_a_toy_of_both_figures_end_to_end(tmp_path: Path, monkeypatch: Any) -> None:
    judge = write_judge(tmp_path / "judge.pt")
    monkeypatch.setattr(experiment, "load_judge", lambda: load_judge(judge))
    for seed, part in enumerate(("train", "test")):
        (tmp_path / "clips" / part).mkdir(parents=True)
        np.save(tmp_path / "clips" / part / "paper-5.npy", moving_clips(64, seed=seed))
    where = {"clips": tmp_path / "clips", "out": tmp_path / "out", "monkeypatch": monkeypatch}
    run(pacman, f"{TOY} --arms joint-gan two-flow", **where)
    found = json.loads((tmp_path / "out" / "pacman.json").read_text())
    assert set(found["arms"]) == {"joint-gan", "two-flow"}
    (two,) = found["arms"]["two-flow"].values()
    runs = tmp_path / "out" / "runs" / "pacman-0.0001"
    (encoded,) = runs.glob("frame-default-3/encode.json")
    # Of the lower level, of encoding and of the upper level.
    parts = [experiment.marks_of(runs / name)[-1] for name in ("frame-default-3", "two-flow-3")]
    seconds = sum(part.core_seconds for part in parts) + experiment.seconds_in(encoded)
    assert two["end"]["core_seconds"] == pytest.approx(seconds)
    assert np.load(runs / "frame-default-3" / "latents.npy").shape[:2] == (24, 5)
    assert (tmp_path / "out" / "pacman-clips.png").is_file()

    run(few_clips, f"{TOY} --counts 4 0", **where)  # it goes on with those runs
    found = json.loads((tmp_path / "out" / "few-clips.json").read_text())["clips"]
    assert set(found) == {"4", "24"}
    assert found["4"]["3"]["copying"]["median_levels"] == 0
    assert found["4"]["3"]["two-flow"]["median_levels"] > 0

    with pytest.raises(LdfError, match="latents of 24 clips, asked for 16: name other --runs"):
        run(pacman, f"{TOY} --arms two-flow --encoded 16", **where)


def test_fewer_clips_are_among_more() -> None:
    few, more = (set(two_levels.few_of(100, count, 0)) for count in (8, 32))
    assert len(few) == 8
    assert few < more
    assert few != set(two_levels.few_of(100, 8, 1))


def points(*values: tuple[float, float]) -> list[dict[str, float]]:
    return [{"core_seconds": seconds, "video": video} for seconds, video in values]


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        (points((10, 90), (20, 40)), 20),
        (points((10, 70), (20, 40)), 10),
        (points((10, 70), (20, 60)), None),  # it does not stay under it
        (points((10, 90), (20, 60)), None),
    ],
)
def test_the_crossover_is_where_a_curve_stays_under_the_joint_one(
    curve: list[dict[str, float]], expected: float | None
) -> None:
    assert pacman.crossover(points((0, 110), (20, 50)), curve) == expected
