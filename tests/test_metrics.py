"""What updates log: curves and pictures for TensorBoard, and trainings that go wrong."""

from __future__ import annotations

import importlib.util
import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_trainings import OneNumber, raise_at, run, trainer_in

from ldf_video.errors import LdfError, UsageError
from ldf_video.training import checkpoints, metrics
from ldf_video.training.loop import Cadence, Trainer
from ldf_video.training.metrics import BreakdownError, Guard, Tracker, check_tracker

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SETTLE = 7
EVERY = Cadence(log_steps=1, save_seconds=-1.0, sheet_seconds=1e9)
NAN = float("nan")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings are judged by few lines."""
    for name, value in {"SETTLE": SETTLE, "MEMORY": 7, "PATIENCE": 3}.items():
        monkeypatch.setattr(metrics, name, value)


# -- judging lines -------------------------------------------------------------------------------


def watching(values: Sequence[float], *, name: str = "loss") -> Guard:
    watched = Guard("loss")
    for step, value in enumerate(values):
        watched.check({name: value}, step=step)
    return watched


@pytest.mark.parametrize(
    ("name", "values", "value", "is_high"),
    [
        ("loss", [1.0] * 7, 2.1, True),
        ("loss", [1.0] * 7, 1.9, False),
        ("loss", [1.0] * 6, 99.0, False),  # it has not settled
        ("loss", [9.0] * 3 + [1.0] * 7, 2.1, True),  # what was long ago does not count
        ("loss", [0.1, 9.0, 0.1, 9.0, 0.1, 1.0, 1.0], 90.0, False),  # its values vary as much
        ("loss", [1.0] * 6 + [0.0], 9.0, False),  # zero has no logarithm
        ("gradient_norm/one", [1.0] * 7, 29.0, False),  # it may vary more
        ("gradient_norm/one", [1.0] * 7, 31.0, True),
    ],
)
def test_a_value_is_high_by_its_latest_ones(
    name: str, values: list[float], value: float, is_high: bool
) -> None:
    watched = watching(values, name=name)
    assert watched.high({name: value}) == ([name] if is_high else [])
    assert watched.is_well({name: value}) is not is_high
    assert not watched.is_well({name: NAN})


def test_a_player_that_joins_later_begins_a_new_judgement() -> None:
    watched = watching([1.0] * 7 + [5.0, 5.0])
    joined = {"loss": 5.0, "gradient_norm/late": 1.0}
    for step in range(SETTLE):
        watched.check(joined, step=9 + step)
        assert watched.is_well(joined)
    watched.check(joined | {"loss": 11.0}, step=20)
    assert not watched.is_well(joined)
    watched = watching([1.0] * 7)
    watched.check(joined, step=7)
    for step in range(SETTLE):  # resting in between is not joining
        watched.check({"loss": 1.0} if step % 2 else joined | {"loss": 1.0}, step=8 + step)
    assert watched.high({"loss": 5.0}) == ["loss"]


def test_other_values_are_not_judged_but_must_be_finite() -> None:
    watched = watching([1.0] * 9, name="features")
    watched.check({"features": 1e9}, step=9)
    assert watched.is_well({"features": 1.0})
    with pytest.raises(BreakdownError, match="at step 10: features, roth not finite"):
        watched.check({"features": NAN, "loss": 1.0, "roth": float("inf")}, step=10)


def test_a_run_that_is_lengthened_is_judged_by_new_lines() -> None:
    watched = watching([1.0] * 7)
    watched.settle()
    for step in range(30):
        watched.check({"loss": 5.0}, step=step)
    assert watched.is_well({"loss": 5.0})


def test_a_guard_goes_on_from_its_numbers() -> None:
    first, second = watching([1.0] * 7 + [5.0, 5.0]), Guard("loss")
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert second.state_dict() == first.state_dict()
    with pytest.raises(BreakdownError):
        second.check({"loss": 5.0}, step=9)


# -- trainings -----------------------------------------------------------------------------------


def training(directory: Path, losses: dict[int, float], **options: Any) -> Trainer:
    """A training of 20 updates whose loss is 1 but where told otherwise; it saves after each."""
    settings: dict[str, Any] = {"steps": 20, "learning_rate": 0.0, "cadence": EVERY} | options
    level = OneNumber([losses.get(step, 1.0) for step in range(settings["steps"])])
    level.score = "loss"
    with torch.no_grad():
        level.weight.fill_(1.0)
    return trainer_in(directory, level, **settings)


def saved_steps(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps at which a run saves, until it ends."""
    steps: list[int] = []
    save = checkpoints.save_state

    def noted(directory: Path, state: Any) -> None:
        steps.append(state["step"])
        save(directory, state)

    monkeypatch.setattr(checkpoints, "save_state", noted)
    run(trainer)
    return steps


def spike(steps: range) -> dict[int, float]:
    return dict.fromkeys(steps, 5.0)


def test_a_state_in_the_middle_of_a_spike_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = training(tmp_path, spike(range(8, 10)))
    assert saved_steps(trainer, monkeypatch) == [*range(1, 9), *range(11, 21), 20]


def test_a_spike_between_two_lines_is_seen_before_a_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cadence = Cadence(log_steps=4, save_seconds=-1.0)
    steps = saved_steps(training(tmp_path, {29: 4.5}, steps=36, cadence=cadence), monkeypatch)
    assert steps == [*range(1, 30), *range(32, 37), 36]  # 30 and 31 are in its line


def test_a_spike_that_stays_ends_the_run_and_the_state_before_it_is_kept(tmp_path: Path) -> None:
    with pytest.raises(LdfError, match="broke down at step 11: loss far above what it was"):
        run(training(tmp_path, spike(range(8, 20))))
    state = checkpoints.load_state(tmp_path)
    assert state is not None
    assert (state["step"], state["done"]) == (8, False)


def test_an_interrupt_in_the_middle_of_a_spike_saves_nothing(tmp_path: Path) -> None:
    trainer = training(tmp_path, spike(range(8, 20)))
    trainer.level.on_batch = raise_at(9, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run(trainer)
    state = checkpoints.load_state(tmp_path)
    assert state is not None
    assert state["step"] == 8


def test_a_training_that_breaks_before_its_first_save_leaves_none(tmp_path: Path) -> None:
    with pytest.raises(LdfError, match="broke down at step 2"):
        run(training(tmp_path, {1: NAN}, cadence=Cadence(log_steps=1)))
    assert checkpoints.load_state(tmp_path) is None


def test_a_state_without_a_guard_s_numbers_is_gone_on_from(tmp_path: Path) -> None:
    first = training(tmp_path, {})
    first.update(0.0)
    first.save()
    state = checkpoints.load_state(tmp_path)
    assert state is not None
    del state["guard"]
    checkpoints.save_state(tmp_path, state)
    second = training(tmp_path, {})
    assert second.step == 1
    run(second)


# -- TensorBoard ---------------------------------------------------------------------------------


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


def test_a_run_without_a_tracker_writes_none(tmp_path: Path) -> None:
    made = tracker(tmp_path, None)
    made.log({"pixels": 0.5}, step=20)
    made.show("samples", PICTURE, step=40)
    made.close()
    assert list(tmp_path.iterdir()) == []


def test_what_an_earlier_sitting_told_of_later_updates_is_dropped(tmp_path: Path) -> None:
    first = tracker(tmp_path)
    for step in (10, 20, 30):
        first.log({"pixels": float(step)}, step=step)
    first.close()
    second = tracker(tmp_path, step=20)  # the state of update 20 was the last that was saved
    second.log({"pixels": 0.5}, step=30)
    second.close()
    assert points(tmp_path, "pixels") == [(10, 10.0), (20, 20.0), (30, 0.5)]


def test_a_missing_package_and_an_unknown_name_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="--tracker wandb: expected tensorboard"):
        check_tracker("wandb")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    check_tracker(None)
    with pytest.raises(UsageError, match=r"not installed: pip install 'ldf-video\[tensorboard\]'"):
        tracker(tmp_path)
