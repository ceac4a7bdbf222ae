"""Runs: going on with one, and what keeps two from mixing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ldf_video.errors import CheckpointError, UsageError
from ldf_video.options.trainings import TrainFrame, Training, TrainTop
from ldf_video.runs.run import Run, Settings, open_run
from ldf_video.runs.training import default_minutes
from ldf_video.training import checkpoints

if TYPE_CHECKING:
    from pathlib import Path


def make(options: Training) -> dict[str, Any]:
    """The config of a run, as far as it depends on options."""
    given = {name: value for name, value in vars(options).items() if value is not None}
    width, height = map(int, given.get("size", "32x32").split("x"))
    training = {"batch_size": 64, "learning_rate": 1e-3, "mixed_precision": "no"}
    names = (*training, "steps", "minutes", "seed")
    training |= {name: given.get(name, training.get(name)) for name in names}
    return {
        "model": {"base_width": 32},
        "game": {"latent_noise": 0.6},
        "frames": {"height": height, "width": width, "crop": "centre", "fps": given.get("fps")},
        "training": training,
    }


def opened(directory: Path, *, kind: str = "frame", **given: Any) -> Run:
    with open_run(TrainFrame("clips", out=directory, **given), kind, make=make) as run:
        return run


def save_state(directory: Path, *, done: bool) -> None:
    empty: dict[str, Any] = {"networks": {}, "average": {}, "optimizers": []}
    checkpoints.save_state(directory, {"step": 5, "elapsed_seconds": 1.0, "done": done, **empty})


def test_a_fresh_run_writes_its_config_and_draws_a_seed(tmp_path: Path) -> None:
    run = opened(tmp_path / "deep" / "run", size="64x64", seed=None)
    assert run.fresh
    assert not run.done
    config = checkpoints.load_config(run.directory, kind="frame")
    assert config["options"].keys() == {"size", "seed"}
    assert config["training"]["seed"] == config["options"]["seed"]
    assert config["frames"]["width"] == 64
    other = opened(tmp_path / "other", seed=None)
    assert other.config["options"]["seed"] != config["options"]["seed"]


def test_the_same_options_go_on_and_dropped_ones_keep_the_runs(tmp_path: Path) -> None:
    first = opened(tmp_path, size="64x64", seed=3)
    for given in ({"size": "64x64", "seed": 3}, {"size": None, "seed": None}, {"seed": 3}):
        again = opened(tmp_path, **given)
        assert not again.fresh
        assert again.config["options"] == first.config["options"] == {"size": "64x64", "seed": 3}


@pytest.mark.parametrize(
    "given",
    [
        {"size": 32},
        {"size": "32"},
        {"fps": "15.0"},
        {"fps": 15},
        {"crop": "centre"},
        {"series": "number"},
        {"camera": "all"},
        {"preset": "default"},
        {"width": 32},
        {"latent_noise": 0.6},
        {"batch_size": 64},
        {"learning_rate": 0.001},
        {"mixed_precision": "auto"},
        {"mixed_precision": "no"},
        {"seed": 3},
        {"minutes": 10},
    ],
)
def test_what_the_run_has_anyway_goes_on_whether_it_was_typed_or_not(
    tmp_path: Path, given: dict[str, Any]
) -> None:
    first = opened(tmp_path, seed=3, fps="15/1", minutes=10.0)
    assert opened(tmp_path, **given).config == first.config | {"format_version": 1}


def test_a_part_of_the_options_is_looked_at_with_the_runs_own(tmp_path: Path) -> None:
    def refuse(options: Training) -> dict[str, Any]:
        raise UsageError("--batch-size 64 with --accumulate 32")

    opened(tmp_path, batch_size=128, accumulate=32)
    with open_run(TrainFrame("clips", out=tmp_path, accumulate=32), "frame", make=refuse) as run:
        assert run.config["training"]["batch_size"] == 128


def test_conditions_that_a_run_has_anyway_may_be_typed(tmp_path: Path) -> None:
    def open_top(name: str, columns: list[Settings], asked: Any = None) -> Run:
        options = TrainTop(out=tmp_path / name, conditions=asked)
        config: Settings = {"model": {"kind": "flow", "columns": columns}, "training": {}}
        config |= {"fps": "12", "latents": {"fingerprint": "ab"}}
        config |= {"frame_model": {"fingerprint": "cd", "path": "frame"}}
        with open_run(options, "top", make=lambda _: config) as run:
            return run

    open_top("untold", [])
    assert not open_top("untold", [], "off").fresh
    open_top("told", [{"name": "action"}])
    with pytest.raises(CheckpointError, match="has --conditions auto, asked for --conditions off"):
        open_top("told", [], "off")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"size": "128x128"}, "has --size 64x64, asked for --size 128x128"),
        ({"seed": 4}, "has --seed 3, asked for --seed 4"),
        ({"batch_size": 8}, "has --batch-size 64, asked for --batch-size 8"),
        ({"fps": "15/1"}, "has no --fps, asked for --fps 15/1"),
        ({"init": "pair"}, "has no --init, asked for --init pair"),
        ({"camera": "left"}, "has --camera all, asked for --camera left"),
    ],
)
def test_a_changed_option_names_both_and_the_way_on(
    tmp_path: Path, given: dict[str, Any], said: str
) -> None:
    opened(tmp_path, size="64x64", seed=3)
    with pytest.raises(CheckpointError) as error:
        opened(tmp_path, **given)
    assert said in str(error.value)
    assert "--no-resume" in str(error.value)
    assert opened(tmp_path).config["options"] == {"size": "64x64", "seed": 3}


def test_no_resume_moves_the_run_aside_and_deletes_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    opened(directory, size="64x64", seed=3)
    save_state(directory, done=True)
    run = opened(directory, resume=False, size="128x128")
    assert run.fresh
    assert not run.done
    assert run.config["frames"]["width"] == 128
    assert run.aside == tmp_path / "run.old-1"
    assert checkpoints.load_config(run.aside)["options"]["size"] == "64x64"
    assert (tmp_path / "run.old-1" / checkpoints.STATE).is_file()


@pytest.mark.parametrize("resume", [True, False])
def test_nobody_takes_a_run_from_under_its_trainer(tmp_path: Path, resume: bool) -> None:
    for _ in ("begun", "gone on with"):
        with open_run(TrainFrame("clips", out=tmp_path / "run"), "frame", make=make):
            with pytest.raises(CheckpointError, match="in use by another training"):
                opened(tmp_path / "run", resume=resume)
            assert (tmp_path / "run" / checkpoints.CONFIG).is_file()


@pytest.mark.parametrize("first", [{"steps": 5}, {"minutes": 1 / 60}])
@pytest.mark.parametrize("more", [{"steps": 6}, {"minutes": 2 / 60}])
def test_a_finished_run_is_made_longer_by_more_steps_or_minutes(
    tmp_path: Path, first: Settings, more: Settings
) -> None:
    opened(tmp_path, **first)
    save_state(tmp_path, done=True)
    assert opened(tmp_path).done
    assert opened(tmp_path, **first).done
    longer = opened(tmp_path, **more)
    assert not longer.done
    assert {k: longer.config["training"][k] for k in ("steps", "minutes")} == {
        "steps": None,
        "minutes": None,
    } | more
    assert longer.config["options"] == {"seed": longer.config["training"]["seed"]} | more
    checkpoints.save_config(tmp_path, longer.config)
    assert not opened(tmp_path).done  # a kill came before it saved again


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("less", [{"steps": 4}, {"steps": 5}, {"minutes": 0.01}])
def test_a_run_is_not_made_shorter_than_it_is(tmp_path: Path, less: Settings, done: bool) -> None:
    opened(tmp_path, steps=9)
    save_state(tmp_path, done=done)
    with pytest.raises(CheckpointError, match=r"has trained for .*: ask for more to go on, or"):
        opened(tmp_path, **less)
    assert opened(tmp_path).config["training"]["steps"] == 9


@pytest.mark.parametrize("resume", [True, False])
def test_a_directory_of_something_else_is_left_alone(tmp_path: Path, resume: bool) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(CheckpointError, match=r"holds thesis\.txt and no config\.json"):
        opened(tmp_path, resume=resume)
    with pytest.raises(CheckpointError, match=r"thesis\.txt is a file, expected a directory"):
        opened(tmp_path / "thesis.txt", resume=resume)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_run_of_another_kind_is_refused(tmp_path: Path) -> None:
    opened(tmp_path)
    with pytest.raises(CheckpointError, match="holds a frame model, expected a top model"):
        opened(tmp_path, kind="top")


@pytest.mark.parametrize("name", ["run", "other"])
def test_options_that_mean_nothing_neither_make_nor_move_anything(
    tmp_path: Path, name: str
) -> None:
    def refuse(options: Training) -> dict[str, Any]:
        raise UsageError("no")

    opened(tmp_path / "run")
    options = TrainFrame("clips", out=tmp_path / name, resume=False)
    with pytest.raises(UsageError), open_run(options, "frame", make=refuse):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("training", "said"),
    [({"steps": 5}, "'learning_rate'"), ({}, "learning_rate"), (None, "no 'training'")],
)
def test_a_config_that_says_not_how_to_train_is_refused_in_one_line(
    tmp_path: Path, training: Any, said: str
) -> None:
    config = {**opened(tmp_path, steps=5).config, "training": training}
    checkpoints.save_config(tmp_path, {k: v for k, v in config.items() if v is not None})
    with pytest.raises(CheckpointError, match=f"cannot be gone on with, .*{said}.*--no-resume"):
        _ = opened(tmp_path).training


def test_a_fresh_run_that_was_killed_before_its_first_save_goes_on(tmp_path: Path) -> None:
    opened(tmp_path, seed=3)
    run = opened(tmp_path)
    assert (run.fresh, run.done, run.config["options"]["seed"]) == (False, False, 3)


@pytest.mark.parametrize(("device", "minutes"), [("cpu", 10.0), ("cuda", 5.0), ("mps", 5.0)])
def test_the_default_budget(device: str, minutes: float) -> None:
    assert default_minutes(device) == minutes
