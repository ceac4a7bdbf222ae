"""Trainings that go wrong: what is taken for trouble, and how they go on from a good state."""

from __future__ import annotations

import io
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tiny_models import ali_game, frame_game
from tiny_trainings import (
    Killed,
    OneNumber,
    SmallLevel,
    assert_same_state,
    raise_at,
    run,
    trainer_in,
)
from torch import nn

from ldf_video.errors import LdfError
from ldf_video.models.game import Game, Player, Tick
from ldf_video.progress import Progress
from ldf_video.training import checkpoints, guard, loop
from ldf_video.training.guard import BreakdownError, Guard, GuardConfig, pressure_limit
from ldf_video.training.loop import Cadence, Trainer
from ldf_video.training.ranks import Ranks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

QUICK = GuardConfig(settle=7, memory=7, patience=3, runaway_patience=3, span=100)
EVERY = Cadence(log_steps=1, save_seconds=-1.0, sheet_seconds=1e9)
NAN = float("nan")


# -- judging lines -------------------------------------------------------------------------------


def watching(values: Sequence[float], *, config: GuardConfig = QUICK, name: str = "loss") -> Guard:
    watched = Guard("loss", config=config)
    for step, value in enumerate(values):
        watched.see({name: value}, step=step)
    return watched


@pytest.mark.parametrize(
    ("values", "value", "is_high"),
    [
        ([1.0] * 7, 2.1, True),
        ([1.0] * 7, 1.9, False),
        ([1.0] * 6, 99.0, False),  # it has not settled
        ([9.0] * 3 + [1.0] * 7, 2.1, True),  # what was long ago does not count
        ([0.1, 9.0, 0.1, 9.0, 0.1, 1.0, 1.0], 90.0, False),  # its values vary as much
        ([1.0] * 6 + [0.0], 9.0, False),  # zero has no logarithm
    ],
)
def test_a_loss_is_high_by_its_latest_values(
    values: list[float], value: float, is_high: bool
) -> None:
    watched = watching(values)
    assert watched.high({"loss": value}) == (["loss"] if is_high else [])
    assert watched.is_well({"loss": value}) is not is_high
    assert not watched.is_well({"loss": NAN})


def test_the_norm_of_a_gradient_may_vary_more() -> None:
    watched = watching([1.0] * 7, name="gradient_norm/one")
    assert watched.high({"gradient_norm/one": 29.0}) == []
    assert watched.high({"gradient_norm/one": 31.0}) == ["gradient_norm/one"]


def test_a_player_that_joins_later_begins_a_new_judgement() -> None:
    watched = watching([1.0] * 7 + [5.0, 5.0])
    joined = {"loss": 5.0, "gradient_norm/late": 1.0}
    for step in range(QUICK.settle):
        watched.see(joined, step=9 + step)
        assert not watched.in_trouble
    watched.see(joined | {"loss": 11.0}, step=20)
    assert watched.in_trouble
    watched = watching([1.0] * 7)
    watched.see(joined, step=7)
    for step in range(QUICK.settle):  # resting in between is not joining
        watched.see({"loss": 1.0} if step % 2 else joined | {"loss": 1.0}, step=8 + step)
    assert watched.high({"loss": 5.0}) == ["loss"]


def test_other_values_are_not_judged_but_must_be_numbers() -> None:
    watched = watching([1.0] * 9, name="features")
    watched.see({"features": 1e9}, step=9)
    assert not watched.in_trouble
    with pytest.raises(BreakdownError, match="at step 10: features, roth not finite"):
        watched.see({"features": NAN, "loss": 1.0, "roth": float("inf")}, step=10)


def test_a_spike_that_passes_breaks_nothing_and_one_that_stays_does() -> None:
    watched = watching([1.0] * 7 + [5.0, 5.0])
    assert watched.in_trouble
    watched.see({"loss": 1.0}, step=9)
    assert not watched.in_trouble
    watched = watching([1.0] * 7 + [5.0, 5.0])
    with pytest.raises(BreakdownError) as error:
        watched.see({"loss": 5.0}, step=9)
    assert error.value.reason == "loss far above what it was"
    assert error.value.player is None


def run_away(watched: Guard, lines: int, *, loss: float = 0.01, pressure: float = 100.0) -> None:
    for step in range(lines):
        watched.see({"discriminator": loss, "pressure": pressure}, step=step)


def test_a_discriminator_that_no_pressure_holds_has_run_away() -> None:
    watched = Guard("loss", config=QUICK, limit=100.0)
    run_away(watched, QUICK.settle + 1)
    assert watched.in_trouble
    with pytest.raises(BreakdownError) as error:
        run_away(watched, 3)
    assert (error.value.reason, error.value.player) == (
        "the discriminator has run away",
        "discriminator",
    )


@pytest.mark.parametrize(
    "options", [{"loss": 0.03}, {"pressure": 90.0}, {"loss": 0.6, "pressure": 1.0}]
)
def test_a_discriminator_that_is_held_has_not(options: dict[str, float]) -> None:
    watched = Guard("loss", config=QUICK, limit=100.0)
    run_away(watched, 30, **options)
    assert not watched.in_trouble


def test_a_training_whose_restarts_are_used_goes_on_with_its_discriminator() -> None:
    watched = Guard("loss", config=QUICK, limit=100.0)
    for _ in range(QUICK.restarts):
        watched.restart(step=10, player="discriminator")
    run_away(watched, 30)
    assert not watched.in_trouble


def test_the_limit_is_that_of_the_games_regularizer() -> None:
    assert pressure_limit(frame_game()) == pressure_limit(ali_game()) == 100.0
    assert pressure_limit(OneNumber([1.0]).game) == float("inf")


def test_rates_are_halved_and_have_a_floor() -> None:
    watched = Guard("loss")
    assert watched.rate("one") == 1.0
    watched.restart(step=1, player=None)
    watched.restart(step=2, player="one")
    assert (watched.rate("one"), watched.rate("other")) == (0.25, 0.5)
    for step in range(9):
        watched.restart(step=step, player=None)
    assert watched.rate("other") == 1 / 16


def test_restarts_long_ago_do_not_count() -> None:
    watched = Guard("loss", config=QUICK)
    for step in (10, 20, 30):
        assert watched.may_restart(step)
        watched.restart(step=step, player=None)
    assert not watched.may_restart(40)
    assert watched.may_restart(10 + QUICK.span)


def test_seeds_are_the_plain_ones_until_a_restart_and_others_after_each() -> None:
    watched = Guard("loss")
    plain = int(np.random.SeedSequence((5, 3, 0)).generate_state(1, np.uint64)[0] >> np.uint64(1))
    seeds, draws = [watched.seed(5, 3, 0)], [watched.draw(3)]
    assert (seeds, draws) == ([plain], [3])
    for step in range(3):
        watched.restart(step=step, player=None)
        seeds.append(watched.seed(5, 3, 0))
        draws.append(watched.draw(3))
    assert len(set(seeds)) == len(set(draws)) == 4
    assert watched.draw(4) != watched.draw(3)


def test_a_guard_goes_on_from_its_numbers() -> None:
    first = watching([1.0] * 7 + [5.0, 5.0])
    first.restarts, first._rates = [7], {"*": 0.5}
    second = Guard("loss", config=QUICK)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert second.state_dict() == first.state_dict()
    with pytest.raises(BreakdownError):
        second.see({"loss": 5.0}, step=9)


# -- trainings -----------------------------------------------------------------------------------


class TwoNumbersGame(Game):
    """A game of two players, one weight each; their losses are what the batch says."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.Linear(1, 1, bias=False)
        self.discriminator = nn.Linear(1, 1, bias=False)

    @property
    def players(self) -> Sequence[Player]:
        return [
            Player("discriminator", [self.discriminator], partial(self._loss, "discriminator")),
            Player("one", [self.model], partial(self._loss, "loss")),
        ]

    def _loss(self, name: str, batch: dict[str, torch.Tensor], tick: Tick) -> Any:
        network = self.model if name == "loss" else self.discriminator
        loss = network.weight.sum() * tick.noise.normal(1).mean() + batch[name].mean()
        shown = {"pressure": batch["pressure"].mean()} if name == "discriminator" else {}
        return loss, {name: batch[name].mean(), **shown}


class TwoNumbers(SmallLevel):
    """A level whose losses depend on the update until the first restart, and on nothing after."""

    score = "loss"

    def __init__(self, said: Callable[[int], dict[str, float]]) -> None:
        super().__init__(TwoNumbersGame())
        self.said = said
        self.draws: list[int] = []

    def batch(self, step: int, part: Any, device: torch.device) -> Any:
        self.draws.append(step)
        self.on_batch(step)
        whole = {"loss": 1.0, "discriminator": 0.6, "pressure": 1.0, **self.said(step)}
        return {name: torch.tensor([value]) for name, value in whole.items()}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings are judged by few lines."""
    monkeypatch.setattr(guard, "GuardConfig", lambda: QUICK)


def said_at(steps: range, **values: float) -> Callable[[int], dict[str, float]]:
    return lambda step: values if step in steps else {}


def training(directory: Path, said: Callable[[int], dict[str, float]], **options: Any) -> Trainer:
    return trainer_in(directory, TwoNumbers(said), cadence=EVERY, **{"steps": 20} | options)


def lines(directory: Path) -> list[dict[str, Any]]:
    return checkpoints.read_metrics(directory)


def restarts(directory: Path) -> list[tuple[int, int, str]]:
    found = [line for line in lines(directory) if "restart" in line]
    return [(line["step"], line["restart"], line["reason"]) for line in found]


def said_of_restarts(stream: io.StringIO) -> list[str]:
    """Those lines alone: a slow machine says in between how far it is."""
    return [line for line in stream.getvalue().splitlines() if ": restart " in line]


def test_one_loss_that_is_no_number_costs_a_restart_from_the_save_before(tmp_path: Path) -> None:
    trainer = training(tmp_path, said_at(range(8, 9), loss=NAN))
    stream = io.StringIO()
    trainer.run(Progress("test", unit="steps", stream=stream))
    assert trainer.step == 20
    assert restarts(tmp_path) == [(8, 1, "loss not finite")]
    assert [line["step"] for line in lines(tmp_path)] == [*range(1, 9), *range(8, 21)]
    state = checkpoints.load_state(tmp_path)
    assert state is not None
    assert state["done"]
    assert state["guard"]["restarts"] == [9]
    assert all(value.isfinite().all() for value in state["networks"].values())
    assert said_of_restarts(stream) == [
        "test: loss not finite at step 9: restart 1, from step 8 with other batches and half the "
        "learning rate"
    ]


def test_batches_noise_and_rate_are_others_after_a_restart(tmp_path: Path) -> None:
    trainer = training(tmp_path, said_at(range(8, 9), loss=NAN), warmup_steps=1, cooldown=0.001)
    seen: list[tuple[float, ...]] = []
    whole = trainer.accelerator.backward

    def look(loss: torch.Tensor) -> None:
        whole(loss)
        game = trainer.level.game
        grads = [
            n.weight.grad for n in (game.model, game.discriminator) if n.weight.grad is not None
        ]
        seen.append((grads[0].item(), trainer.optimizers[0].param_groups[0]["lr"]))

    trainer.accelerator.backward = look  # type: ignore[method-assign]
    run(trainer)
    draws = trainer.level.draws
    assert draws[:9] == list(range(9))
    assert len(set(draws)) == len(draws) == 21
    assert min(draws[9:]) > 20
    first, again = seen[2 * 8 + 1], seen[2 * 9 + 1]  # the second player's, of update 8
    assert first[0] != again[0]
    assert [rate for _, rate in seen[:18:2]] == [3e-4] * 9
    assert [rate for _, rate in seen[18::2]] == [1.5e-4] * 12


def test_a_training_without_trouble_is_not_touched(tmp_path: Path) -> None:
    run(training(tmp_path, said_at(range(8, 10), loss=5.0)))  # a spike that passes
    assert restarts(tmp_path) == []
    state = checkpoints.load_state(tmp_path)
    assert state is not None
    assert state["guard"]["rates"] == {}


def test_a_state_in_the_middle_of_a_spike_is_not_kept(tmp_path: Path) -> None:
    saved: list[int] = []
    trainer = training(tmp_path, said_at(range(8, 10), loss=5.0))
    whole = trainer.save

    def note(**options: Any) -> None:
        saved.append(trainer.step)
        whole(**options)

    trainer.save = note  # type: ignore[method-assign]
    run(trainer)
    assert saved == [*range(1, 9), *range(11, 21), 20]


def test_a_spike_that_stays_goes_back_to_before_it(tmp_path: Path) -> None:
    run(training(tmp_path, said_at(range(8, 20), loss=5.0)))
    assert restarts(tmp_path) == [(8, 1, "loss far above what it was")]


def test_a_spike_between_two_lines_is_seen_before_a_save(tmp_path: Path) -> None:
    trainer = training(tmp_path, said_at(range(29, 30), loss=4.5), steps=36)
    trainer.cadence = Cadence(log_steps=4, save_seconds=-1.0)
    saved: list[int] = []
    trainer.save = lambda **options: saved.append(trainer.step)  # type: ignore[method-assign]
    run(trainer)
    assert saved == [*range(1, 30), *range(32, 37), 36]  # 30 and 31 are in its line


def test_an_interrupt_in_the_middle_of_a_spike_saves_nothing(tmp_path: Path) -> None:
    trainer = training(tmp_path, said_at(range(8, 20), loss=5.0))
    trainer.level.on_batch = raise_at(9, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run(trainer)
    state = checkpoints.load_state(tmp_path)
    assert state is not None
    assert state["step"] == 8


def test_a_runaway_discriminator_alone_is_slowed(tmp_path: Path) -> None:
    level = TwoNumbers(said_at(range(8, 20), discriminator=0.001, pressure=50.0))
    trainer = trainer_in(tmp_path, level, cadence=EVERY, steps=20)
    trainer.guard.limit = 50.0
    stream = io.StringIO()
    trainer.run(Progress("test", unit="steps", stream=stream))
    assert restarts(tmp_path) == [(8, 1, "the discriminator has run away")]
    (line,) = said_of_restarts(stream)
    assert line.endswith("half the learning rate of the discriminator")
    assert (trainer.guard.rate("discriminator"), trainer.guard.rate("one")) == (0.5, 1.0)


def test_a_failure_that_stays_ends_the_run_with_its_reason(tmp_path: Path) -> None:
    def said(step: int) -> dict[str, float]:
        return {"loss": NAN} if step >= 8 else {}

    with pytest.raises(LdfError, match=r"broke down at step 9: loss not finite; --no-resume with"):
        run(training(tmp_path, said))
    assert [line[:2] for line in restarts(tmp_path)] == [(8, 1), (8, 2), (8, 3)]
    state = checkpoints.load_state(tmp_path)
    assert state is not None
    assert (state["step"], state["done"], state["guard"]["restarts"]) == (8, False, [9, 9, 9])
    assert state["networks"]["model.weight"].isfinite().all()


def test_a_training_that_breaks_before_its_first_save_has_nothing_to_go_back_to(
    tmp_path: Path,
) -> None:
    trainer = training(tmp_path, said_at(range(1, 2), loss=NAN))
    trainer.cadence = Cadence(log_steps=1)
    with pytest.raises(LdfError, match="broke down at step 2"):
        run(trainer)
    assert checkpoints.load_state(tmp_path) is None


@pytest.mark.parametrize("killed_at", [3, 5, 9])
def test_a_kill_after_a_restart_ends_the_same_bit_for_bit(tmp_path: Path, killed_at: int) -> None:
    said = said_at(range(8, 9), loss=NAN)
    run(training(tmp_path / "straight", said))
    first = training(tmp_path / "killed", said)
    first.level.on_batch = lambda step: (
        raise_at(8 + 1 + killed_at, Killed())(len(first.level.draws)) if step > 20 else None
    )
    with pytest.raises(Killed):
        run(first)
    second = training(tmp_path / "killed", said)
    assert second.guard.restarts == [9]
    run(second)
    assert len(second.level.draws) < 20 - 8
    assert_same_state(tmp_path / "killed", tmp_path / "straight")
    assert restarts(tmp_path / "killed") == restarts(tmp_path / "straight")
    states = [checkpoints.load_state(tmp_path / name) for name in ("killed", "straight")]
    assert states[0]["guard"] == states[1]["guard"]


def test_time_that_was_used_stays_used(tmp_path: Path) -> None:
    trainer = training(tmp_path, said_at(range(8, 9), loss=NAN))
    trainer.clock.before = 60.0
    run(trainer)
    seconds = [line["seconds"] for line in lines(tmp_path)]
    assert seconds == sorted(seconds)
    assert seconds[0] >= 60


def test_a_state_from_before_there_was_a_guard_is_gone_on_from(tmp_path: Path) -> None:
    first = training(tmp_path, said_at(range(0)))
    first._update(0.0)
    first.save()
    state = checkpoints.load_state(tmp_path)
    assert state is not None
    del state["guard"]
    checkpoints.save_state(tmp_path, state)
    second = training(tmp_path, said_at(range(0)))
    assert second.step == 1
    run(second)


def test_of_several_processes_all_save_and_go_back_at_the_same_updates(tmp_path: Path) -> None:
    """The second one's clock is not asked, and what it writes is nothing."""

    class Second(Ranks):
        """Sums are those with a first process that sees the same and for which all is due."""

        def sum(self, tensor: torch.Tensor) -> torch.Tensor:
            first = torch.zeros_like(tensor)
            if tensor.dtype == torch.float32 and tensor.ndim == 1 and len(tensor) in (2, 4):
                first[1:-1] = 1.0
                return tensor.add_(first)
            return tensor.mul_(2)

        def gather(self, value: Any) -> list[Any]:
            return [value, value]

    run(training(tmp_path, said_at(range(0)), steps=8))  # what the first one saved
    before = (tmp_path / checkpoints.STATE).read_bytes()
    trainer = Trainer(
        TwoNumbers(said_at(range(10, 11), loss=NAN)),
        tmp_path,
        config=loop.TrainConfig(steps=20, seed=5, warmup_steps=3, batch_size=2),
        cadence=Cadence(log_steps=1, save_seconds=1e9),
        ranks=Second(1, 2),
    )
    looked: list[int] = []
    whole = trainer.look
    trainer.look = lambda *_: (looked.append(trainer.step), whole())[1]  # type: ignore[method-assign]
    run(trainer)
    assert trainer.guard.restarts == [11]
    assert looked[:3] == [9, 10, 9]
    assert (tmp_path / checkpoints.STATE).read_bytes() == before
