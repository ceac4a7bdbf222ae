"""What a training moves, as one thing that is saved and gone on from.

What is trained, as the loop sees it, and for how long it has been.

The one training loop, for both levels: alternating players on Accelerate.

What an update sees and the noise it uses are functions of (seed, step, restarts), so a resumed run
continues bit for bit where the hardware does arithmetic that way.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ldf_video.errors import CheckpointError, WriteError
from ldf_video.interrupts import Interrupts, interrupts_held
from ldf_video.models.game import Batch, Game, Logs, Part
from ldf_video.models.layers import set_checkpointing
from ldf_video.output import reason
from ldf_video.progress import Progress
from ldf_video.training import checkpoints
from ldf_video.training.config import Cadence, TrainConfig, check_parts, own_parts
from ldf_video.training.graphs import Recorder, Recordings
from ldf_video.training.guard import BreakdownError, Guard, check_finite, pressure_limit
from ldf_video.training.optim import Average
from ldf_video.training.ranks import Ranks, make_accelerator
from ldf_video.training.tracking import Recent, Tracker
from ldf_video.training.update import GradientStep, Players, Update


@dataclass(frozen=True)
class Learned:
    """All that updates move.

    Attributes:
        game: the networks.
        average: of the model's weights.
        optimizers: one a player.
        scaler: of the loss, where training is in fp16.
    """

    game: Game
    average: Average
    optimizers: Sequence[Any]
    scaler: Any = None

    def state_dict(self) -> dict[str, Any]:
        """Tensors and numbers alone."""
        state = {
            "networks": self.game.state_dict(),
            "average": self.average.module.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        if self.scaler is not None:  # fp16: how far the loss may be scaled
            state["scaler"] = self.scaler.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them back.

        Raises:
            RuntimeError, ValueError, KeyError, TypeError: they are of another training.
        """
        self.game.load_state_dict(state["networks"])
        self.average.module.load_state_dict(state["average"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
            _arrange(optimizer)
        if self.scaler is not None and state.get("scaler"):
            self.scaler.load_state_dict(state["scaler"])


def _arrange(optimizer: Any) -> None:
    """Lay moments out in memory as their weights are here.

    A loaded state keeps the order in which it was saved, on a machine that may use another, and a
    fused optimizer takes both for numbers side by side.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


class Level(Protocol):
    """What a level of the hierarchy gives to the loop: a game, and data to play it on."""

    @property
    def game(self) -> Game:
        """The networks and their losses."""
        ...

    @property
    def score(self) -> str:
        """Which value of `evaluate` decides between checkpoints; the lower the better."""
        ...

    def batch(self, step: int, part: Part, device: torch.device) -> Batch:
        """One part of the batch of an update; after a restart another number stands for it."""

    def calibration(self, device: torch.device) -> Batch:
        """A large batch, always the same, for `Game.calibrate`."""

    def evaluate(self, model: Any) -> Mapping[str, float]:
        """Losses on data that is never trained on; nothing where there is none."""

    def describe(self, model: Any, values: Mapping[str, float]) -> str:
        """How good a model is, in a few words with units, from what `evaluate` gave."""

    def draw(self, model: Any, path: Path) -> npt.NDArray[np.uint8] | None:
        """Write what a model does to `path`.png and beside it; the picture (H, W, 3), if any."""


@dataclass
class Clock:
    """Training time over all sittings, in seconds."""

    before: float = 0.0
    started: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        """Of this sitting and those before."""
        return self.before + time.monotonic() - self.started


LAST_SAVE = timedelta(minutes=5)
"""How long the other processes wait for the first one's save before all of them stop."""


class Trainer:
    """Trains one level in one checkpoint directory; `run` goes on from wherever that stands.

    Of several processes each makes its own, with the same arguments but for `ranks`. All move their
    weights alike; the first one writes.
    """

    def __init__(
        self,
        level: Level,
        directory: Path,
        *,
        config: TrainConfig,
        device: str = "cpu",
        cadence: Cadence | None = None,
        ranks: Ranks | None = None,
        tracker: str | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        """Prepare a training.

        Args:
            level: what is trained, on which data.
            directory: of the checkpoint.
            config: how it is trained.
            device: "cpu", "cuda" or "mps".
            cadence: when the loop does what is not training.
            ranks: the processes that train together.
            tracker: of curves and pictures, by name.
            recorder: of updates, to be played back where the game says of which kind they are and
                batches are tensors.

        Raises:
            UsageError: the batch cannot be divided, or the optimizer or tracker is not there.
            CheckpointError: the state in the directory does not fit.
        """
        self.level, self.directory, self.config = level, directory, config
        self.cadence, self.ranks = cadence or Cadence(), ranks or Ranks()
        self.ranks.of_first(lambda: check_parts(config, self.ranks))
        self.accelerator = make_accelerator(device, mixed_precision=config.mixed_precision)
        level.game.to(self.accelerator.device)
        set_checkpointing(level.game, on=config.gradient_checkpointing)
        self.average = Average(level.game.model, decay=config.average)
        self._parts = own_parts(config, self.ranks)
        self.players = self._players(recorded=recorder is not None)
        self._recordings = recorder and Recordings(
            self.players, recorder, device=self.accelerator.device
        )
        self.guard = Guard(level.score, limit=pressure_limit(level.game))
        self.step = 0
        self.clock = Clock()
        self.best: float | None = None
        self._recent = Recent()
        self._quality = ""
        self._midway = False  # an update has moved some weights and not yet all
        self._all_stop = False  # all processes know that one of them was asked to stop
        self._has_complained = False
        self._say: Callable[[str], None] = lambda line: None
        self._resume()
        self.tracker = Tracker(tracker, self.accelerator, directory, step=self.step)

    def _players(self, *, recorded: bool) -> Players:
        game = self.level.game
        steps = [
            GradientStep(
                player,
                game,
                config=self.config,
                accelerator=self.accelerator,
                ranks=self.ranks,
                recorded=recorded,
            )
            for player in game.players
        ]
        return Players(game, steps, self._parts)

    @property
    def optimizers(self) -> list[Any]:
        """One a player."""
        return [step.optimizer for step in self.players.steps]

    @property
    def averaged(self) -> Any:
        """The model, of averaged weights."""
        return self.average.module

    def run(self, progress: Progress) -> None:
        """Train until the budget is used; safe to interrupt and to run again.

        Raises:
            BreakdownError: it broke down, and there is nothing to go back to or it did so before.
        """
        self.clock = Clock(before=self.clock.before)
        self._say = progress.say
        with interrupts_held() as interrupts:
            try:
                while not self._finish(progress, interrupts):
                    pass
            except KeyboardInterrupt:
                if self._all_stop:
                    self.ranks.end_after_first(self._save_if_well, patience=LAST_SAVE)
                elif not self._midway:
                    self._save_if_well()
                raise
            finally:
                with self.reporting():
                    self.tracker.close()
        self.ranks.wait()

    def _finish(self, progress: Progress, interrupts: Interrupts) -> bool:
        """Train to the end; False where it broke down on the way and stands at a saved state."""
        try:
            self._train(progress, interrupts)
            self.look(progress)
            self.save(done=True)
        except BreakdownError as breakdown:
            self._go_back(breakdown, progress)
            return False
        return True

    def _train(self, progress: Progress, interrupts: Interrupts) -> None:
        """Update until the budget is used, and do in between what is due."""
        saved = drawn = time.monotonic()
        share, *_ = self._agree(interrupts)
        while share < 1:
            logs = self._update(share)
            self._log(logs, share)
            if self._recordings and (news := self._recordings.news()):
                progress.say(f"{progress.name}: {news}")
            progress.update(self.step, share=share, note=self._note())
            now, c = time.monotonic(), self.cadence
            share, look_is_due, save_is_due = self._agree(
                interrupts, now - drawn > c.sheet_seconds, now - saved > c.save_seconds
            )
            if look_is_due:
                self.look(progress)
                drawn = time.monotonic()
            if save_is_due and self._is_well():
                self.save()
                saved = time.monotonic()

    def _agree(self, interrupts: Interrupts, *due: bool) -> tuple[float, ...]:
        """Share of the budget that is used, and what is due, the same in all processes.

        Raises:
            KeyboardInterrupt: Ctrl-C waits in one of them; all of them stop here.
        """
        share = self.config.progress(step=self.step, elapsed_seconds=self.clock.elapsed)
        said, waiting = [share, *due], interrupts.waiting
        if self.ranks.count > 1:
            told = torch.tensor([*said, waiting], dtype=torch.float32)
            told[:-1] *= self.ranks.is_first
            *said, number_waiting = self.ranks.sum(told.to(self.accelerator.device)).tolist()
            said[0] = share if self.config.steps is not None else said[0]
            waiting = number_waiting > 0
        if waiting:
            self._all_stop = True
            raise interrupts.as_error()
        return tuple(said)

    def _go_back(self, breakdown: BreakdownError, progress: Progress) -> None:
        """Load the last saved state, to go on from there otherwise.

        Raises:
            BreakdownError: there is none, or it happened too often.
        """
        broke = self.step
        state = checkpoints.load_state(self.directory)
        if state is None or not self.guard.may_restart(broke):
            raise breakdown
        self._recent.clear()
        self._midway = True
        self._load(state)
        self.guard.restart(step=broke, player=breakdown.player)
        self._midway = False
        self.ranks.wait()  # until all have read what is now written over
        self.save()
        count = len(self.guard.restarts)
        if self.ranks.is_first:
            seconds = round(self.clock.elapsed, 1)
            line = {"step": self.step, "seconds": seconds, "restart": count}
            with self.reporting():
                checkpoints.append_metrics(self.directory, [line | {"reason": breakdown.reason}])
        progress.say(
            f"{progress.name}: {breakdown.reason} at step {broke:,}: restart {count}, from step "
            f"{self.step:,} with other batches and half the learning rate"
            + (f" of the {breakdown.player}" if breakdown.player else "")
        )

    def rehearse(self) -> None:
        """Do an update with every player and all lazy losses, and do not count it: to measure."""
        self._update(1.0)  # who joins late plays at the end
        self.step = 0

    def _update(self, share: float) -> Logs:
        """One step of every player on one batch."""
        game, guard, draw = self.level.game, self.guard, self.guard.draw(self.step)
        players = [step.player for step in self.players.steps]
        rate = self.config.rate(step=self.step, progress=share)
        # Asking for the kind waits for the device: what it does not need comes before.
        batches = [self.level.batch(draw, part, self.accelerator.device) for part in self._parts]
        update = Update(
            self.step,
            share,
            game.kind(self.step, share),
            batches,
            [guard.seed(self.config.seed, self.step, turn) for turn in range(len(players))],
            [rate * player.rate * guard.rate(player.name) for player in players],
        )
        self._midway = True
        logs = (self._recordings or self.players).update(update)
        self.average.update(game.model, step=self.step)
        self.step += 1
        self._midway = False
        return logs

    # -- what is kept ----------------------------------------------------------------------------

    def _log(self, logs: Logs, share: float) -> None:
        self._recent.add(logs)
        if self.step % self.cadence.log_steps:
            return
        means = self._recent.means()
        self._recent.clear()
        self._tell(means, progress=share)
        self.guard.see(means, step=self.step)

    def _tell(self, values: Mapping[str, float], **more: float) -> None:
        """Add a line to metrics.jsonl, and points to the tracker's curves."""
        if not self.ranks.is_first:
            return
        line = {"step": self.step, "seconds": round(self.clock.elapsed, 1), **more, **values}
        with self.reporting():
            checkpoints.append_metrics(self.directory, [line])
        with self.reporting():
            self.tracker.log(dict(values), step=self.step)

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """What is written for people alone does not end a training: a failure is said once."""
        try:
            yield
        except (OSError, WriteError) as error:
            if not self._has_complained:
                self._has_complained = True
                self._say(f"warning: {reason(error)}; the training goes on without it")

    def _is_well(self) -> bool:
        """Whether this is a state to go back to, should the training break down later."""
        return not self.guard.in_trouble and self.guard.is_well(self._recent.means())

    def _note(self) -> str:
        """How good the model was when it was last looked at."""
        return self._quality

    def save(self, *, done: bool = False) -> None:
        """Write the averaged weights and the state to go on from.

        The state comes last: a kill between the two leaves an older state, which makes those
        weights again, and never a finished run with older weights.

        Raises:
            BreakdownError: the weights are not finite; what was saved before is kept.
        """
        check_finite(self._recent.means(), step=self.step)
        self.ranks.of_first(lambda: self._write(done=done))

    def _save_if_well(self) -> None:
        """Save from the first process; else what was saved last is what can be gone on from."""
        if self.ranks.is_first and self._is_well():
            self._write(done=False)

    def _write(self, *, done: bool) -> None:
        self._calibrate()
        state = {
            "step": self.step,
            "elapsed_seconds": self.clock.elapsed,
            "done": done,
            "best": self.best,
            "guard": self.guard.state_dict(),
            **self._learned().state_dict(),
        }
        checkpoints.save_weights(self.directory, self.average.module.state_dict())
        checkpoints.save_state(self.directory, state)

    def look(self, progress: Progress | None = None) -> None:
        """See how the averaged model does, and say it: on held-out data, a picture in samples/.

        The best so far by the level's score is kept in best/, a checkpoint of its own.

        Raises:
            BreakdownError: the weights are not finite.
        """
        check_finite(self._recent.means(), step=self.step)
        self.ranks.of_first(lambda: self._look(progress))

    def _look(self, progress: Progress | None) -> None:
        self._calibrate()
        model = self.average.module
        values = dict(self.level.evaluate(model))
        if values:
            self._tell({f"held_out/{name}": value for name, value in values.items()})
        score = values.get(self.level.score, math.inf)
        if score < (math.inf if self.best is None else self.best):
            self.best = score
            known = {"step": self.step, self.level.score: score}
            checkpoints.save_best(self.directory, model.state_dict(), known=known)
        self._quality = self.level.describe(model, values)
        path, picture = self.directory / "samples" / f"step-{self.step:07d}", None
        with self.reporting():
            picture = self.level.draw(model, path)
            if picture is not None:
                self.tracker.show("samples", picture, step=self.step)
        seen = [self._quality, "" if picture is None else f"picture in {path}.png"]
        if progress is not None and any(seen):
            progress.say(f"{progress.name}: {self.step:,} steps: {', '.join(filter(None, seen))}")

    def _calibrate(self) -> None:
        batch = self.level.calibration(self.accelerator.device)
        self.level.game.calibrate(self.average.module, batch)

    def _resume(self) -> None:
        state = checkpoints.load_state(self.directory)
        if state is None:
            if self.ranks.is_first:
                checkpoints.cut_metrics(self.directory, after_step=0)
            return
        self._load(state)
        self.clock = Clock(before=state["elapsed_seconds"])
        if state["done"]:  # it is to be longer now: the learning rate rises, and so may the losses
            self.guard.settle()
        self.best = checkpoints.best_score(self.directory, self.level.score, state.get("best"))

    def _load(self, state: Mapping[str, Any]) -> None:
        """Stand where a state was saved; the time that was used stays used."""
        try:
            self._learned().load_state_dict(state)
            self.guard.load_state_dict(state.get("guard", Guard("").state_dict()))
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            reason = " ".join(str(error).split())[:160]
            raise CheckpointError(
                f"the state in {self.directory} does not fit its config: {reason}; "
                "--no-resume starts anew and keeps the old run"
            ) from None
        self.step = state["step"]
        if self._recordings:
            self._recordings.forget()
        if self.ranks.is_first:
            checkpoints.cut_metrics(self.directory, after_step=self.step)

    def _learned(self) -> Learned:
        game, scaler = self.level.game, self.accelerator.scaler
        return Learned(game, self.average, self.optimizers, scaler)
