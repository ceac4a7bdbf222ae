"""Two real processes train as one does: statistics, gradients, whole runs, and after a kill.

Sums over two halves round otherwise than sums over the whole: what is compared with one process is
compared up to rounding, updates in float64; what is compared between two processes, bit for bit.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rank_worker
import tiny_cli
import torch
from tiny_models import make_frames, save_frame
from tiny_trainings import assert_same
from typer.testing import CliRunner

from ldf_video.api import encode
from ldf_video.cli import app
from ldf_video.training import checkpoints
from ldf_video.training.ranks import Ranks

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).parent
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
ACCELERATE = [
    *("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"),
    *("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"),
    *("--main_process_port", "0"),
]


def launch(launcher: Sequence[str], *arguments: str, **variables: str) -> int:
    """The exit code of a launcher of two processes."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | variables
    command = [sys.executable, *launcher, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr)  # shown where a test fails
    return done.returncode


# -- what one update is made of ------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What one process computes alone, and the two of two."""
    directory = tmp_path_factory.mktemp("ranks")
    assert launch(TORCHRUN, str(HERE / "rank_worker.py"), str(directory)) == 0
    alone = rank_worker.statistics(Ranks())
    alone |= {name: rank_worker.updates(name, Ranks(), directory) for name in rank_worker.GAMES}
    return [alone, *(torch.load(directory / f"2-{rank}.pt") for rank in range(2))]


def test_two_processes_are_two_until_one_works_apart(found: list[dict[str, Any]]) -> None:
    assert [int(one["joined"]) for one in found] == [1, 2, 2]
    assert [int(one["apart"]) for one in found] == [1, 1, 1]


@pytest.mark.parametrize("name", ["gathered", "mean", "moments", "norm"])
def test_statistics_and_their_gradients_are_those_of_the_whole_batch(
    found: list[dict[str, Any]], name: str
) -> None:
    alone, first, second = found
    parts = [key for key in alone if key.split()[0] == name]
    assert f"{name} gradient" in parts
    for key in parts:
        assert torch.equal(first[key], second[key]), key
        largest = alone[key].abs().max()
        assert largest > 0
        assert (first[key] - alone[key]).abs().max() <= 1e-5 * largest, key


@pytest.mark.parametrize("name", rank_worker.GAMES)
def test_updates_of_two_processes_are_those_of_one(found: list[dict[str, Any]], name: str) -> None:
    """Two updates of each player, in float64, so that rounding is little.

    Adam divides by a gradient's own size, and by 1e-8 where it is nothing but rounding: weights
    differ by a little more than gradients do.
    """
    alone, first, second = (one[name] for one in found)
    assert_same(first["weights"], second["weights"])
    assert_same(first["gradients"], second["gradients"])
    assert len(alone["gradients"]) == 2 * len(rank_worker.GAMES[name][0]().players)
    for mine, theirs in zip(alone["gradients"], first["gradients"], strict=True):
        assert mine.dtype == torch.float64
        assert (mine - theirs).abs().max() <= 1e-10 * mine.abs().max()
    for key, weight in alone["weights"].items():
        assert (weight - first["weights"][key]).abs().max() <= 1e-9, key


@pytest.mark.parametrize("name", rank_worker.GAMES)
def test_what_is_logged_is_of_the_whole_batch(found: list[dict[str, Any]], name: str) -> None:
    for mine, first, second in zip(*(one[name]["logs"] for one in found), strict=True):
        assert mine.keys() == first.keys()
        assert_same(first, second)
        for key in mine.keys() - {"velocity"}:  # a mean over what counts in each part
            assert first[key].item() == pytest.approx(mine[key].item(), rel=1e-9), key


def test_recomputing_twice_with_batch_norm_over_processes_changes_no_bit(
    found: list[dict[str, Any]],
) -> None:
    for one in found:
        assert_same(one["paper"]["gradients"], one["paper checkpointed"]["gradients"])


def test_all_processes_stop_where_one_breaks_down(found: list[dict[str, Any]]) -> None:
    """The sixth update of the second process has no numbers; the save before it is kept."""
    _, first, second = (one.get("broken", {}) for one in found)
    assert first | {"elsewhere": True} == second
    assert first["elsewhere"] is False  # the user reads it once
    assert first["why"].startswith("training broke down at step 6: discriminator, ")
    assert first["step"] == 5


def test_whatever_fails_in_the_first_process_fails_in_all(found: list[dict[str, Any]]) -> None:
    """Else the others would wait for it for a day; it alone tells the user."""
    _, first, second = (one.get("failures") for one in found)
    assert first == ["UsageError no such thing False", "ZeroDivisionError a bug", "Stopped 15"]
    assert second == [
        "UsageError no such thing True",
        "LdfError the first process failed: ZeroDivisionError('a bug') True",
        "Stopped 15",
    ]


def test_the_others_wait_for_the_last_save_of_the_first_but_not_for_ever(
    found: list[dict[str, Any]],
) -> None:
    assert [one.get("last works") for one in found[1:]] == [[True, True], [True, False]]


def test_all_processes_stop_where_one_is_told_to_and_the_state_is_saved(
    found: list[dict[str, Any]],
) -> None:
    assert [one.get("stopped") for one in found[1:]] == [
        {"by": "KeyboardInterrupt", "step": 2},
        {"by": "Stopped", "step": 2},
    ]


# -- whole runs ----------------------------------------------------------------------------------


OPTIONS = "--steps 4 --batch-size 8 --seed 1 --device cpu --mixed-precision no --quiet"


def frame_line(root: Path, name: str) -> str:
    return f"train-frame {root}/clips --out {root}/{name} {OPTIONS}"


def top_line(root: Path, name: str) -> str:
    return f"train-top --latents {root}/latents --out {root}/{name} {OPTIONS}"


def two(line: str, **variables: str) -> int:
    """The exit code of `ldf-video` with tiny networks in two processes."""
    return launch(ACCELERATE, str(HERE / "tiny_cli.py"), *line.split(), **variables)


def one(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in this process alone."""
    tiny_cli.shrink(monkeypatch.setattr)
    result = CliRunner().invoke(app, line.split())
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """clips/, of which two are held out, and latents/ of them."""
    root = tmp_path_factory.mktemp("runs")
    (root / "clips").mkdir()
    arrays = [make_frames(3, seed=i) for i in range(21)]
    np.save(root / "clips" / "all.npy", np.stack(arrays))
    save_frame(root / "frame")
    encode(root / "clips", out=root / "latents", frame_model=root / "frame", quiet=True)
    return root


@pytest.fixture(scope="module")
def straight(root: Path) -> Path:
    """A training of frames by two processes without any interruption, and one of the top."""
    assert two(f"{frame_line(root, 'straight')} + {top_line(root, 'top')}") == 0
    return root / "straight"


def assert_close_runs(one: Path, two: Path) -> None:
    """The same curves, and weights but for those that only rounding moved."""
    lines = [checkpoints.read_metrics(path) for path in (one, two)]
    assert [line["step"] for line in lines[0]] == [line["step"] for line in lines[1]]
    assert any("held_out" in name for line in lines[1] for name in line)
    for mine, theirs in zip(*lines, strict=True):
        assert mine.keys() == theirs.keys()
        for name in mine.keys() - {"seconds", "velocity", "held_out/latent_frechet"}:
            assert theirs[name] == pytest.approx(mine[name], rel=1e-2, abs=1e-4), name
    mine, theirs = (checkpoints.load_weights(path) for path in (one, two))
    assert mine.keys() == theirs.keys()
    differences = torch.cat([(mine[name] - theirs[name]).abs().flatten() for name in mine])
    assert (differences > 1e-5).float().mean() < 5e-3


def test_frames_are_trained_by_two_processes_as_by_one(
    root: Path, straight: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one(frame_line(root, "alone"), monkeypatch)
    assert_close_runs(root / "alone", straight)
    held = [line for line in checkpoints.read_metrics(straight) if "held_out/pixels" in line]
    assert [line["step"] for line in held] == [4]  # said once, by the first
    assert checkpoints.load_config(straight / "best")["best"]["step"] == 4


def test_a_killed_process_fails_the_launch_and_the_same_command_ends_the_same(
    root: Path, straight: Path
) -> None:
    assert two(frame_line(root, "killed"), TINY_SIGNAL="SIGKILL:2", TINY_RANK="1") != 0
    state = checkpoints.load_state(root / "killed")
    assert state is not None
    assert 2 <= state["step"] <= 3
    assert not state["done"]
    assert two(frame_line(root, "killed")) == 0
    states = [checkpoints.load_state(path) for path in (root / "killed", straight)]
    for part in ("step", "done", "networks", "average", "optimizers", "best"):
        assert_same(*(state[part] for state in states if state is not None))
    assert (root / "killed" / checkpoints.WEIGHTS).read_bytes() == (
        (straight / checkpoints.WEIGHTS).read_bytes()
    )


@pytest.mark.usefixtures("straight")
def test_latents_are_learned_by_two_processes_as_by_one(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one(top_line(root, "top-alone"), monkeypatch)
    assert_close_runs(root / "top-alone", root / "top")
