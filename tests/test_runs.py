"""Runs: going on with one, and what keeps two from mixing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ldf_video.errors import CheckpointError, UsageError
from ldf_video.pipelines.runs import Options, Run, budget, open_run
from ldf_video.training import checkpoints

if TYPE_CHECKING:
    from pathlib import Path


def build(options: Options) -> dict[str, Any]:
    return {
        "model": {"size": options.get("size", "32")},
        "frames": dict.fromkeys(("height", "width", "crop", "fps")),
        "seed_was": options["seed"],
    }


def opened(directory: Path, *, resume: bool = True, kind: str = "frame", **given: Any) -> Run:
    with open_run(directory, kind, given=given, resume=resume, build=build) as run:
        return run


def save_state(directory: Path, *, done: bool) -> None:
    empty: dict[str, Any] = {"networks": {}, "average": {}, "optimizers": []}
    checkpoints.save_state(directory, {"step": 5, "elapsed_seconds": 1.0, "done": done, **empty})


def test_a_fresh_run_writes_its_config_and_draws_a_seed(tmp_path: Path) -> None:
    run = opened(tmp_path / "deep" / "run", size="64", seed=None)
    assert run.fresh
    assert not run.done
    config = checkpoints.load_config(run.directory, kind="frame")
    assert config["options"].keys() == {"size", "seed"}
    assert config["seed_was"] == config["options"]["seed"]
    assert config["model"] == {"size": "64"}
    other = opened(tmp_path / "other", seed=None)
    assert other.config["options"]["seed"] != config["options"]["seed"]


def test_the_same_options_go_on_and_dropped_ones_keep_the_runs(tmp_path: Path) -> None:
    first = opened(tmp_path, size="64", seed=3)
    for given in ({"size": "64", "seed": 3}, {"size": None, "seed": None}, {"seed": 3}):
        again = opened(tmp_path, **given)
        assert not again.fresh
        assert again.config["options"] == first.config["options"] == {"size": "64", "seed": 3}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"size": "128"}, "has --size 64, asked for --size 128"),
        ({"seed": 4}, "has --seed 3, asked for --seed 4"),
        ({"batch_size": 8}, "has no --batch-size, asked for --batch-size 8"),
    ],
)
def test_a_changed_option_names_both_and_the_way_on(
    tmp_path: Path, given: dict[str, Any], said: str
) -> None:
    opened(tmp_path, size="64", seed=3)
    with pytest.raises(CheckpointError) as error:
        opened(tmp_path, **given)
    assert said in str(error.value)
    assert "--no-resume" in str(error.value)
    assert opened(tmp_path).config["options"] == {"size": "64", "seed": 3}


def test_no_resume_moves_the_run_aside_and_deletes_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    opened(directory, size="64", seed=3)
    save_state(directory, done=True)
    run = opened(directory, resume=False, size="128")
    assert run.fresh
    assert not run.done
    assert run.config["model"] == {"size": "128"}
    assert checkpoints.load_config(tmp_path / "run.old-1")["options"]["size"] == "64"
    assert (tmp_path / "run.old-1" / checkpoints.STATE).is_file()


def test_no_resume_where_nothing_is_moves_nothing(tmp_path: Path) -> None:
    assert opened(tmp_path / "run", resume=False).fresh
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_no_resume_does_not_take_a_run_from_under_its_trainer(tmp_path: Path) -> None:
    opened(tmp_path / "run")
    with checkpoints.lock(tmp_path / "run"), pytest.raises(CheckpointError, match="in use"):
        opened(tmp_path / "run", resume=False)
    assert (tmp_path / "run" / checkpoints.CONFIG).is_file()


@pytest.mark.parametrize("done", [True, False])
def test_a_run_knows_whether_it_is_finished(tmp_path: Path, done: bool) -> None:
    opened(tmp_path)
    save_state(tmp_path, done=done)
    assert opened(tmp_path).done is done


@pytest.mark.parametrize("resume", [True, False])
def test_a_directory_of_something_else_is_left_alone(tmp_path: Path, resume: bool) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(CheckpointError, match=r"holds thesis\.txt and no config\.json"):
        opened(tmp_path, resume=resume)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="file is a file, expected a directory"):
        opened(tmp_path / "file")


@pytest.mark.parametrize("resume", [True, False])
def test_options_that_mean_nothing_neither_make_nor_move_anything(
    tmp_path: Path, resume: bool
) -> None:
    def refuse(options: Options) -> dict[str, Any]:
        raise UsageError("no")

    opened(tmp_path / "run")
    for name in ("run", "other"):
        with (
            pytest.raises(UsageError),
            open_run(tmp_path / name, "frame", given={}, resume=resume, build=refuse),
        ):
            pass
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_a_run_of_another_kind_is_refused(tmp_path: Path) -> None:
    opened(tmp_path)
    with pytest.raises(CheckpointError, match="holds a frame model, expected a top model"):
        opened(tmp_path, kind="top")


def test_a_fresh_run_that_was_killed_before_its_first_save_goes_on(tmp_path: Path) -> None:
    opened(tmp_path, seed=3)
    run = opened(tmp_path)
    assert (run.fresh, run.done, run.config["options"]["seed"]) == (False, False, 3)


def test_a_run_is_held_while_it_is_open(tmp_path: Path) -> None:
    with (
        open_run(tmp_path, "frame", given={}, resume=True, build=build),
        pytest.raises(CheckpointError, match="in use by another training"),
    ):
        opened(tmp_path)


# -- budget --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("device", "minutes"), [("cpu", 10.0), ("cuda", 5.0), ("mps", 5.0)])
def test_the_default_budget(device: str, minutes: float) -> None:
    assert budget({"seed": 1}, device=device) == {"seed": 1, "minutes": minutes}


@pytest.mark.parametrize("given", [{"steps": 5}, {"minutes": 0.5}])
def test_a_budget_that_is_given_stays(given: Options) -> None:
    assert budget(given, device="cpu") == given


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"steps": 5, "minutes": 1.0}, "got --steps and --minutes: give one of the two"),
        ({"steps": 0}, "--steps 0: expected more than 0"),
        ({"minutes": -1.0}, "--minutes -1.0: expected more than 0"),
        ({"minutes": float("nan")}, "--minutes nan: expected more than 0"),
        ({"learning_rate": 0.0}, "--learning-rate 0.0: expected more than 0"),
    ],
)
def test_a_budget_that_means_nothing_is_refused(given: Options, said: str) -> None:
    with pytest.raises(UsageError) as error:
        budget(given, device="cpu")
    assert str(error.value) == said
