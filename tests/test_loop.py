"""The training loop: resuming bit for bit, breaking down, being interrupted, its schedule."""

from __future__ import annotations

import io
import signal
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from float64 import float64
from tiny_models import ali_game, frame_game
from tiny_trainings import (
    STEPS,
    FrameGameLevel,
    Killed,
    OneNumber,
    assert_same,
    assert_same_state,
    metrics,
    raise_at,
    run,
    trainer_in,
    training_of,
)
from torch import nn

from ldf_video.errors import CheckpointError, LdfError, UsageError
from ldf_video.progress import Progress
from ldf_video.training import checkpoints
from ldf_video.training.loop import Cadence, Trainer
from ldf_video.training.ranks import Ranks

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 6 steps without any interruption."""
    directory = tmp_path_factory.mktemp("straight")
    run(trainer_in(directory))
    return directory


# -- resuming ------------------------------------------------------------------------------------


def test_a_run_that_was_killed_after_a_save_ends_the_same_bit_for_bit(
    tmp_path: Path, straight: Path
) -> None:
    first = trainer_in(tmp_path)
    first.level.on_batch = lambda step: first.save() if step == 3 else None
    first.level.on_second_player = raise_at(4, Killed())
    with pytest.raises(Killed):
        run(first)

    second = trainer_in(tmp_path)
    assert second.step == 3
    run(second)

    assert second.step == STEPS
    assert_same_state(tmp_path, straight)
    assert [line["step"] for line in metrics(tmp_path)] == [2, 4, 6]
    assert metrics(tmp_path)[2] == metrics(straight)[2]


def test_training_moves_every_weight_and_the_average_lags(straight: Path) -> None:
    fresh = frame_game().state_dict()
    state = checkpoints.load_state(straight)
    assert state is not None
    moved = {
        name for name, value in fresh.items() if not torch.equal(value, state["networks"][name])
    }
    assert moved >= fresh.keys() - {
        "restraint.roth.pressure",
        "restraint.resting",
        "restraint.moves",
        "discriminator.head.2.bias",
    }
    for name, value in state["average"].items():
        assert not torch.equal(value, state["networks"][f"model.{name}"])
    assert_same(checkpoints.load_weights(straight), state["average"])


def test_a_state_of_another_model_is_refused_in_one_line(tmp_path: Path, straight: Path) -> None:
    state = checkpoints.load_state(straight)
    assert state is not None
    state["networks"].pop("restraint.roth.pressure")
    checkpoints.save_state(tmp_path, state)
    with pytest.raises(CheckpointError, match="does not fit its config") as error:
        trainer_in(tmp_path)
    assert "\n" not in str(error.value)


def test_a_state_saved_in_another_order_of_memory_goes_on_the_same(tmp_path: Path) -> None:
    """As one from a machine without channels-last goes on on one that has them."""
    with float64():
        trainers = []
        for name in ("plain", "rearranged"):
            first = trainer_in(tmp_path / name)
            while first.step < 3:
                first.update(first.step / STEPS)
            first.save()
            level = FrameGameLevel()
            if name == "rearranged":
                level.game.to(memory_format=torch.channels_last)
            second = trainer_in(tmp_path / name, level)
            for weight, moments in second.optimizers[0].state.items():
                assert moments["exp_avg"].stride() == weight.stride()
            while second.step < STEPS:
                second.update(second.step / STEPS)
            trainers.append(second)
        for weight, other in zip(*(t.level.game.parameters() for t in trainers), strict=True):
            torch.testing.assert_close(weight, other, rtol=0, atol=1e-9)


def test_a_rehearsal_is_not_counted_not_even_by_the_penalty_of_d(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path)
    for _ in range(2):
        assert trainer.level.game.kind(trainer.step, 1.0).penalised
        trainer.rehearse()
    assert trainer.step == 0


# -- breaking down -------------------------------------------------------------------------------


NAN = float("nan")


@pytest.mark.parametrize(
    ("losses", "cadence"),
    [
        ([1.0, 1.0, NAN, 1.0, 1.0], Cadence(log_steps=2)),  # seen when the line is due
        ([1.0, 1.0, 1.0, 1.0, NAN], Cadence(log_steps=2)),  # no line is due any more
        ([1.0, 1.0, NAN, 1.0, 1.0], Cadence(log_steps=100, save_seconds=-1)),  # a save is due first
        ([1.0, 1.0, float("inf"), 1.0, 1.0], Cadence(log_steps=2)),
    ],
    ids=["line", "end", "save", "infinite"],
)
def test_a_loss_that_is_no_number_ends_the_run_and_what_was_saved_stays_good(
    tmp_path: Path, losses: list[float], cadence: Cadence
) -> None:
    trainer = trainer_in(tmp_path, OneNumber(losses), cadence=cadence, steps=len(losses))
    trainer.update(0.0)
    trainer.save()
    with pytest.raises(LdfError, match=r"broke down at step \d: .*loss not finite; .*--no-resume"):
        run(trainer)
    state = checkpoints.load_state(tmp_path)
    assert state is not None
    assert not state["done"]
    assert 1 <= state["step"] <= 2
    assert state["networks"]["model.weight"].isfinite().all()
    assert checkpoints.load_weights(tmp_path)["weight"].isfinite().all()


def test_a_model_of_no_numbers_is_not_measured(tmp_path: Path) -> None:
    level = OneNumber([1.0, NAN])
    level.errors = [0.5, 0.5]
    checkpoints.save_config(tmp_path, CONFIG)
    cadence = Cadence(sheet_seconds=-1, log_steps=100)
    with pytest.raises(LdfError, match=r"^training broke down at step 2: "):
        run(trainer_in(tmp_path, level, cadence=cadence))
    assert level.errors == [0.5]  # one look, before it broke


# -- Ctrl-C --------------------------------------------------------------------------------------


def send(number: int) -> Any:
    """Sends a signal in the middle of update 2, when one of two players has moved."""
    return lambda step: signal.raise_signal(number) if step == 2 else None


STOPS = {
    "between": ("on_batch", raise_at(4, KeyboardInterrupt()), 4),
    "SIGINT": ("on_second_player", send(signal.SIGINT), 3),  # held until the update is whole
    "SIGTERM": ("on_second_player", send(signal.SIGTERM), 3),
    "SIGHUP": ("on_second_player", send(signal.SIGHUP), 3),
    "cut": ("on_second_player", raise_at(2, KeyboardInterrupt()), 1),  # no half of it is kept
}


@pytest.mark.parametrize("stop", STOPS)
def test_a_training_that_is_told_to_stop_goes_on_bit_for_bit(
    tmp_path: Path, straight: Path, monkeypatch: pytest.MonkeyPatch, stop: str
) -> None:
    """Also where it is told again while it saves: launchers and shells send several signals."""
    place, event, kept = STOPS[stop]
    before = [signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGHUP)]
    first = trainer_in(tmp_path)
    first.update(0.0)
    first.save()
    setattr(first.level, place, event)
    save = checkpoints.save_weights

    def told_again(*arguments: Any) -> None:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.raise_signal(number)
        save(*arguments)

    monkeypatch.setattr(checkpoints, "save_weights", told_again)
    with pytest.raises(KeyboardInterrupt):
        run(first)
    monkeypatch.undo()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    for number, handler in zip((signal.SIGTERM, signal.SIGHUP), before, strict=True):
        assert signal.signal(number, handler) is signal.SIG_DFL
    second = trainer_in(tmp_path)
    assert second.step == kept
    run(second)
    assert_same_state(tmp_path, straight)


# -- several processes ---------------------------------------------------------------------------


class Second(Ranks):
    """The second of two: sums are with a first one that sees the same and for which all is due."""

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dtype == torch.float32 and tensor.ndim == 1 and len(tensor) in (2, 4):
            tensor[1:-1] += 1.0
            return tensor
        return tensor.mul_(2)

    def gather(self, value: Any) -> list[Any]:
        return [value, value]


def test_the_second_process_looks_when_the_first_does_and_writes_nothing(tmp_path: Path) -> None:
    run(trainer_in(tmp_path, OneNumber([1.0] * 8), steps=8))
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    level = OneNumber([1.0] * 12)
    config = training_of(steps=12, seed=5, batch_size=2)
    cadence = Cadence(log_steps=1, save_seconds=1e9)
    trainer = Trainer(level, tmp_path, config=config, cadence=cadence, ranks=Second(1, 2))
    looked: list[int] = []
    whole = trainer.look
    trainer.look = lambda: (looked.append(trainer.step), whole())[1]  # type: ignore[method-assign]
    level.batch = lambda step, part, device: level.whole_batch(step)  # type: ignore[method-assign]
    run(trainer)
    assert looked == [9, 10, 11, 12]
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


# -- what is written for people ------------------------------------------------------------------


@pytest.mark.parametrize("place", ["metrics", "curves", "pictures", "shown", "close"])
def test_a_report_that_cannot_be_written_is_told_once_and_ends_no_training(
    tmp_path: Path, straight: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    trainer = trainer_in(tmp_path, cadence=Cadence(log_steps=2, sheet_seconds=-1))
    trainer.level.draw = lambda model, path: np.zeros((1, 1, 3), np.uint8)  # type: ignore[method-assign]
    if place == "metrics":
        monkeypatch.setattr(checkpoints.Path, "open", full)
    elif place == "pictures":
        trainer.level.draw = full  # type: ignore[method-assign,assignment]
    else:
        name = {"curves": "log", "shown": "show", "close": "close"}[place]
        monkeypatch.setattr(trainer.tracker, name, full)
    monkeypatch.setattr(checkpoints, "save_weights", lambda *arguments: None)
    monkeypatch.setattr(checkpoints, "save_state", lambda *arguments: None)
    stream = io.StringIO()
    with Progress("test", unit="steps", stream=stream) as progress:
        trainer.run(progress)
    assert trainer.step == STEPS
    (line,) = [line for line in stream.getvalue().splitlines() if "warning" in line]
    assert "No space left on device" in line
    assert line.endswith("; the training goes on without it")


def test_a_kill_between_weights_and_state_never_leaves_old_weights_in_a_finished_run(
    tmp_path: Path, straight: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = trainer_in(tmp_path)
    with monkeypatch.context() as patched:
        whole = checkpoints.write_atomically
        written: list[str] = []

        def killed_after_one(path: Path, write: Any) -> None:
            if written:
                raise Killed
            whole(path, write)
            written.append(path.name)

        patched.setattr(checkpoints, "write_atomically", killed_after_one)
        with pytest.raises(Killed):
            run(first)
    run(trainer_in(tmp_path))
    assert_same_state(tmp_path, straight)


# -- schedule and budget -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "progress", "share"),
    [
        (0, 0.0, 0.1),  # warm-up: the first of ten
        (4, 0.0, 0.5),
        (9, 0.0, 1.0),
        (500, 0.6, 1.0),  # the plateau ends here
        (500, 0.8, 0.05 + 0.95 * 0.5),  # half of the cool-down
        (500, 1.0, 0.05),
    ],
)
def test_the_rate_at_known_points(step: int, progress: float, share: float) -> None:
    config = training_of(steps=1, learning_rate=2.0, warmup_steps=10, cooldown=0.4)
    assert config.rate(step=step, progress=progress) == pytest.approx(2.0 * share)


@pytest.mark.parametrize("steps", [3, 50, 400, 100_000])
def test_a_run_of_any_length_is_at_its_full_rate_after_a_tenth(steps: int) -> None:
    config = training_of(steps=steps, learning_rate=2.0)
    rates = [config.rate(step=i, progress=i / steps) for i in range(0, steps, max(steps // 50, 1))]
    assert max(rates) == 2.0
    assert rates[0] == pytest.approx(0.02)
    full = next(i for i in range(steps) if config.rate(step=i, progress=i / steps) == 2.0)
    assert full == (99 if steps > 1000 else -(-steps // 10))


def test_the_optimizer_gets_the_rate_of_its_step(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, OneNumber([1.0]), steps=1, learning_rate=0.3, warmup_steps=2)
    trainer.average.decay = 0.0
    before = trainer.level.weight.item()
    run(trainer)
    # Adam's first step is the rate, whatever the gradient.
    assert before - trainer.level.weight.item() == pytest.approx(0.15, rel=1e-4)


def test_minutes_count_over_all_sittings(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, OneNumber([1.0] * 9), steps=None, minutes=1.0)
    trainer.update(0.0)
    trainer.seconds_before = 60.0
    trainer.save()
    again = trainer_in(tmp_path, OneNumber([1.0] * 9), steps=None, minutes=1.0)
    assert again.seconds_before >= 60
    run(again)
    assert again.step == 1  # the minute was used


def test_sheets_come_by_the_clock_and_at_the_end_and_progress_is_told_of_every_step(
    tmp_path: Path,
) -> None:
    told: list[tuple[int, float | None]] = []

    class Listening(Progress):
        def update(self, count: int, *, share: float | None = None, note: str = "") -> None:
            told.append((count, share))

    level = OneNumber([1.0] * 2)
    trainer = trainer_in(tmp_path, level, cadence=Cadence(sheet_seconds=-1), steps=2)
    trainer.run(Listening("test", unit="steps", stream=io.StringIO()))
    assert told == [(1, 0.0), (2, 0.5)]
    drawn = [path.relative_to(tmp_path).as_posix() for path in level.drawn]
    assert drawn == [f"samples/step-000000{step}" for step in (1, 2)]


# -- parts of a batch ----------------------------------------------------------------------------


@pytest.mark.parametrize("accumulate", [3, 32])
def test_a_batch_that_cannot_be_divided_is_wrong_usage(tmp_path: Path, accumulate: int) -> None:
    with pytest.raises(UsageError) as error:
        trainer_in(tmp_path, batch_size=16, accumulate=accumulate)
    said = f"--batch-size 16 with --accumulate {accumulate}: expected a multiple of {accumulate}"
    assert str(error.value) == said


@pytest.mark.parametrize("optimizer", ["muon", "adam8bit"])
def test_other_optimizers_resume_bit_for_bit(tmp_path: Path, optimizer: str) -> None:
    run(trainer_in(tmp_path / "straight", optimizer=optimizer))
    first = trainer_in(tmp_path / "cut", optimizer=optimizer)
    while first.step < 3:
        first.update(first.step / STEPS)
    first.save()
    run(trainer_in(tmp_path / "cut", optimizer=optimizer))
    assert_same_state(tmp_path / "cut", tmp_path / "straight")


# -- the best weights, curves and pictures -------------------------------------------------------

CONFIG = {"kind": "frame", "model": {}, "options": {}} | {
    "frames": dict.fromkeys(("height", "width", "crop", "fps"))
}
ALWAYS = Cadence(log_steps=1, sheet_seconds=-1.0, save_seconds=-1.0)


def measured(directory: Path, errors: list[float], **options: Any) -> Trainer:
    """A trainer whose averaged weight is worth these errors, in turn."""
    directory.mkdir(exist_ok=True)
    checkpoints.save_config(directory, CONFIG)
    level = OneNumber([1.0] * 9)
    level.errors = errors
    return trainer_in(directory, level, cadence=ALWAYS, **options)


def test_the_weights_of_the_lowest_score_are_kept_as_a_checkpoint(tmp_path: Path) -> None:
    trainer = measured(tmp_path, [3.0, 1.0, 2.0], steps=3)
    averages: list[torch.Tensor] = []
    whole = trainer.average.update

    def note(module: nn.Module, *, step: int) -> None:
        whole(module, step=step)
        averages.append(trainer.average.module.weight.clone())

    trainer.average.update = note  # type: ignore[method-assign]
    run(trainer)
    best = tmp_path / "best"
    assert checkpoints.load_config(best, kind="frame")["best"] == {"step": 2, "error": 1.0}
    assert torch.equal(checkpoints.load_weights(best)["weight"], averages[1])
    assert not torch.equal(averages[1], averages[2])
    assert torch.equal(checkpoints.load_weights(tmp_path)["weight"], averages[2])
    lines = [(m["step"], m["held_out/error"]) for m in metrics(tmp_path) if "held_out/error" in m]
    assert lines == [(1, 3.0), (2, 1.0), (3, 2.0)]


def test_the_best_score_survives_a_resume(tmp_path: Path) -> None:
    first = measured(tmp_path, [1.0, 2.0], steps=4)
    first.level.on_batch = raise_at(2, Killed())
    with pytest.raises(Killed):
        run(first)
    before = (tmp_path / "best" / checkpoints.WEIGHTS).read_bytes()
    second = measured(tmp_path, [1.5, 2.0, 3.0], steps=4)
    assert (second.step, second.best) == (2, 1.0)
    run(second)
    assert (tmp_path / "best" / checkpoints.WEIGHTS).read_bytes() == before
    third = measured(tmp_path, [0.5], steps=5)
    run(third)
    assert checkpoints.load_config(tmp_path / "best")["best"] == {"step": 5, "error": 0.5}


@pytest.mark.parametrize("errors", [[], [NAN], [float("inf")]])
def test_without_a_score_there_is_no_best(tmp_path: Path, errors: list[float]) -> None:
    run(measured(tmp_path, errors, steps=1))
    assert not (tmp_path / "best").exists()


def test_a_tracker_gets_every_line_and_every_picture(tmp_path: Path) -> None:
    trainer = measured(tmp_path, [3.0, 1.0], steps=2)
    trainer.tracker = tracker = Mock()
    trainer.level.draw = lambda model, path: np.zeros((2, 2, 3), np.uint8)
    run(trainer)
    told = [(call.kwargs["step"], set(*call.args)) for call in tracker.log.call_args_list]
    trained, held_out = {"loss", "gradient_norm/one"}, {"held_out/error"}
    assert told == [(1, trained), (1, held_out), (2, trained), (2, held_out)]
    assert [call.kwargs["step"] for call in tracker.show.call_args_list] == [1, 2]
    tracker.close.assert_called_once_with()


def test_averaged_weights_are_calibrated_before_they_are_measured_drawn_or_kept(
    tmp_path: Path,
) -> None:
    game = ali_game()
    level = FrameGameLevel(game)
    x = level.whole_batch(0)
    level.calibration = lambda device: x
    run(trainer_in(tmp_path, level, steps=2))
    trainer = trainer_in(tmp_path, level, steps=2)
    weights = checkpoints.load_weights(tmp_path)
    game.calibrate(trainer.average.module, x)
    assert_same(weights, trainer.average.module.state_dict())
    assert not torch.equal(weights["encoder.trunk.0.1.running_mean"], torch.zeros(4))
