"""The one training loop, for both levels: when an update is done, and what is kept and reported.

`update.py` is what an update does. Trainings are by alternating players, on Accelerate.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from ldf_video.errors import CheckpointError, WriteError, counted
from ldf_video.interrupts import Interrupts, interrupts_held
from ldf_video.models.game import Logs
from ldf_video.models.layers import set_checkpointing
from ldf_video.output import reason
from ldf_video.progress import Progress
from ldf_video.training import checkpoints
from ldf_video.training.config import Cadence, TrainConfig
from ldf_video.training.graphs import CudaGraphs, Recordings
from ldf_video.training.metrics import BreakdownError, Guard, Tracker, check_finite, means_of
from ldf_video.training.optim import Average, load_moments
from ldf_video.training.ranks import Ranks, make_accelerator
from ldf_video.training.threads import Threads, may_choose
from ldf_video.training.update import Level, Players

LAST_SAVE = timedelta(minutes=5)
"""How long the other processes wait for the first one's save before all of them stop."""


class Trainer:
    """Trains one level in one checkpoint directory; `run` goes on from wherever that stands.

    Of several processes each makes its own, with the same arguments but for `ranks`. All move their
    weights alike; the first one writes.

    Attributes:
        step: of the next update, from 0.
        average: the model, of averaged weights, in `average.module`.
        seconds_before: of training, in earlier sittings.
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
        recorder: CudaGraphs | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare a training, on a `device` "cpu", "cuda" or "mps".

        A `recorder` records updates, to be played back, where the game says of which kind they are
        and batches are tensors. By the seconds of the `clock` the budget is used and the cadence is
        kept: by `time.process_time` they are those of the processor, whatever else it does.

        Raises:
            UsageError: the batch cannot be divided, or the optimizer or tracker is not there.
            CheckpointError: the state in the directory does not fit.
        """
        self.level, self.directory, self.config = level, directory, config
        self.cadence, self.ranks = cadence or Cadence(), ranks or Ranks()
        self.ranks.of_first(lambda: config.parts(self.ranks))  # what is wrong is said once
        self.accelerator = make_accelerator(device, mixed_precision=config.mixed_precision)
        level.game.to(self.accelerator.device)
        set_checkpointing(level.game, on=config.gradient_checkpointing)
        self.average = Average(level.game.model, decay=config.average)
        self.players = Players(
            level, config, self.accelerator, self.ranks, recorded=recorder is not None
        )
        self.recordings = recorder and Recordings(self.players, recorder, self._say)
        self.guard = Guard(level.score)
        self.step = 0
        self.clock = clock
        self.seconds_before, self._started = 0.0, clock()
        self.best: float | None = None
        self._logs: list[Logs] = []  # since the last line of metrics
        self._quality = ""
        self._in_update = False  # some weights have moved and not yet all
        self._all_stop = False  # all processes know that one of them was asked to stop
        self._progress: Progress | None = None
        self._has_complained = False
        self._resume()
        self.tracker = Tracker(tracker if self.ranks.is_first else None, directory, step=self.step)

    @property
    def optimizers(self) -> list[Any]:
        """One a player."""
        return [step.optimizer for step in self.players.steps]

    @property
    def elapsed_seconds(self) -> float:
        """Of training, in this sitting and those before."""
        return self.seconds_before + self.clock() - self._started

    def run(self, progress: Progress) -> None:
        """Train until the budget is used; safe to interrupt and to run again.

        Raises:
            BreakdownError: it broke down; the state that was saved last is from before.
        """
        self._started, self._progress = self.clock(), progress
        line = f"{progress.name}: stops after this update; a second Ctrl-C ends at once"
        with interrupts_held(lambda: progress.say_at_once(line)) as interrupts:
            try:
                self._train(progress, interrupts)
                self.look()
                self.save(done=True)
            except KeyboardInterrupt:
                if self._all_stop:
                    self.ranks.end_after_first(self._save_if_well, patience=LAST_SAVE)
                elif not self._in_update:
                    self._save_if_well()
                raise
            except BreakdownError as error:
                error.reported_elsewhere = not self.ranks.is_first  # all of them break down
                raise
            finally:
                with self.reporting():
                    self.tracker.close()
        self.ranks.wait()

    def _train(self, progress: Progress, interrupts: Interrupts) -> None:
        """Update until the budget is used, and do in between what is due."""
        saved = looked = self.clock()
        share, *_ = self._agree(interrupts)
        threads = self._threads()
        while share < 1:
            with threads.watched() if threads else nullcontext():
                logs = self.update(share)
            self._log(logs, share)
            progress.update(self.step, share=share, note=self._quality)
            now, c = self.clock(), self.cadence
            share, look_is_due, save_is_due = self._agree(
                interrupts, now - looked > c.sheet_seconds, now - saved > c.save_seconds
            )
            if look_is_due and share < 1:  # the last look comes at the end
                self.look()
                looked = self.clock()
            if save_is_due and self.guard.is_well(means_of(self._logs)):
                self.save()
                saved = self.clock()

    def _threads(self) -> Threads | None:
        """None where a run is to repeat, or where the threads are not this process's to choose."""
        on_cpu = self.accelerator.device.type == "cpu"
        is_free = self.config.steps is None and on_cpu and self.ranks.count == 1
        return Threads() if is_free and may_choose() else None

    def update(self, share: float) -> Logs:
        """Do one update at a share of the budget: a step of every player on one batch.

        Returns:
            What the losses log, scalars on the device, means over the whole batch.
        """
        update = self.players.draw(self.step, share)
        self._in_update = True
        logs = (self.recordings or self.players).update(update)
        self.average.update(self.level.game.model, step=self.step)
        self.step += 1
        self._in_update = False
        return logs

    def rehearse(self) -> None:
        """Do an update with every player and all lazy losses, and do not count it: to measure."""
        buffers = list(self.level.game.buffers())
        before = [buffer.clone() for buffer in buffers]  # by D's moves the penalty is due, or not
        self.update(1.0)  # who joins late plays at the end
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)
        self.step = 0

    def _agree(self, interrupts: Interrupts, *due: bool) -> tuple[float, ...]:
        """Share of the budget that is used, and what is due, the same in all processes.

        Raises:
            KeyboardInterrupt: Ctrl-C waits in one of them; all of them stop here.
        """
        share = self.config.progress(step=self.step, elapsed_seconds=self.elapsed_seconds)
        agreed, waiting = [share, *due], interrupts.waiting
        if self.ranks.count > 1:
            own = torch.tensor([*agreed, waiting], dtype=torch.float32)
            own[:-1] *= self.ranks.is_first
            *agreed, number_waiting = self.ranks.sum(own.to(self.accelerator.device)).tolist()
            agreed[0] = share if self.config.steps is not None else agreed[0]
            waiting = number_waiting > 0
        if waiting:
            self._all_stop = True
            raise interrupts.as_error()
        return tuple(agreed)

    # -- what is reported ------------------------------------------------------------------------

    def _log(self, logs: Logs, share: float) -> None:
        self._logs.append(logs)
        if self.step % self.cadence.log_steps:
            return
        means = means_of(self._logs)
        self._logs.clear()
        self._report(means, progress=share)
        self.guard.check(means, step=self.step)

    def _report(self, values: Mapping[str, float], **more: float) -> None:
        """Add a line to metrics.jsonl, and points to the tracker's curves."""
        if not self.ranks.is_first:
            return
        line = {"step": self.step, "seconds": round(self.elapsed_seconds, 1), **more, **values}
        with self.reporting():
            checkpoints.append_metrics(self.directory, [line])
        with self.reporting():
            self.tracker.log(values, step=self.step)

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """What is written for people alone does not end a training: a failure is said once."""
        try:
            yield
        except (OSError, WriteError) as error:
            if not self._has_complained and self._progress is not None:
                self._progress.say(f"warning: {reason(error)}; the training goes on without it")
            self._has_complained = True

    def look(self) -> None:
        """Evaluate the averaged model, and report it: on held-out data, a picture in samples/.

        The best so far by the level's score is kept in best/, a checkpoint of its own. Weights that
        are not finite raise a BreakdownError.
        """
        check_finite(means_of(self._logs), step=self.step)
        self.ranks.of_first(self._look)

    def _look(self) -> None:
        model = self._calibrated()
        values = dict(self.level.evaluate(model))
        if values:
            self._report({f"held_out/{name}": value for name, value in values.items()})
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
        found = [self._quality, "" if picture is None else f"picture in {path}.png"]
        if any(found):
            self._say(f"{counted(self.step, 'step')}: {', '.join(filter(None, found))}")

    def _say(self, text: str) -> None:
        if self._progress is not None:
            self._progress.say(f"{self._progress.name}: {text}")

    # -- what is kept ----------------------------------------------------------------------------

    def save(self, *, done: bool = False) -> None:
        """Write the averaged weights and the state to go on from, unless they are not finite."""
        check_finite(means_of(self._logs), step=self.step)
        self.ranks.of_first(lambda: self._write(done=done))

    def _save_if_well(self) -> None:
        """Save from the first process, unless the state that was saved last is the better one."""
        if self.ranks.is_first and self.guard.is_well(means_of(self._logs)):
            self._write(done=False)

    def _write(self, *, done: bool) -> None:
        """Write the weights, then the state.

        A kill between the two leaves an older state, which makes those weights again, and never a
        finished run with older weights.
        """
        weights = self._calibrated().state_dict()
        known = {"step": self.step, "elapsed_seconds": self.elapsed_seconds, "done": done}
        state = known | {"best": self.best, "guard": self.guard.state_dict(), **self.state_dict()}
        checkpoints.save_weights(self.directory, weights)
        checkpoints.save_state(self.directory, state)

    def _calibrated(self) -> Any:
        """The averaged model, ready for use."""
        batch = self.level.calibration(self.accelerator.device)
        self.level.game.calibrate(self.average.module, batch)
        return self.average.module

    def state_dict(self) -> dict[str, Any]:
        """All that updates move; tensors and numbers alone."""
        state = {
            "networks": self.level.game.state_dict(),
            "average": self.average.module.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        if self.accelerator.scaler is not None:  # fp16: how far the loss may be scaled
            state["scaler"] = self.accelerator.scaler.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set all that updates move to what a state has.

        Raises:
            RuntimeError, ValueError, KeyError, TypeError: the state is of another training.
        """
        self.level.game.load_state_dict(state["networks"])
        self.average.module.load_state_dict(state["average"])
        for optimizer, moments in zip(self.optimizers, state["optimizers"], strict=True):
            load_moments(optimizer, moments)
        if self.accelerator.scaler is not None and state.get("scaler"):
            self.accelerator.scaler.load_state_dict(state["scaler"])
        if self.recordings:
            self.recordings.forget()

    def _resume(self) -> None:
        state = checkpoints.load_state(self.directory)
        if state is not None:
            try:
                self.load_state_dict(state)
                self.guard.load_state_dict(state.get("guard", Guard("").state_dict()))
            except (RuntimeError, ValueError, KeyError, TypeError) as error:
                raise CheckpointError(
                    f"the state in {self.directory} does not fit its config: "
                    f"{' '.join(str(error).split())[:160]}; "
                    "--no-resume starts anew and keeps the old run"
                ) from None
            self.step, self.seconds_before = state["step"], state["elapsed_seconds"]
            if state["done"]:  # it is to be longer now: the learning rate rises, and losses may
                self.guard.settle()
            best = state.get("best")
            self.best = checkpoints.best_score(self.directory, self.level.score, best)
        if self.ranks.is_first:
            checkpoints.cut_metrics(self.directory, after_step=self.step)
