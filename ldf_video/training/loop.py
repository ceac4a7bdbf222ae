"""The one training loop, for both levels: alternating players on Accelerate.

What an update sees and the noise it uses are functions of (seed, step), so a resumed run continues
bit for bit where the hardware does arithmetic that way.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ldf_video.errors import CheckpointError, LdfError
from ldf_video.models.game import Batch, Game, Logs, Player, Tick
from ldf_video.models.layers import set_checkpointing
from ldf_video.models.noise import Noise, Part
from ldf_video.progress import Progress
from ldf_video.training import checkpoints
from ldf_video.training.config import Cadence, TrainConfig, check_parts
from ldf_video.training.ema import Average
from ldf_video.training.interrupts import Interrupts, interrupts_held
from ldf_video.training.optimizers import make_optimizer
from ldf_video.training.ranks import Ranks, make_accelerator
from ldf_video.training.tracking import Tracker


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
        """One part of the batch of an update."""

    def calibration(self, device: torch.device) -> Batch:
        """A large batch, always the same, for `Game.calibrate`."""

    def evaluate(self, model: Any) -> Mapping[str, float]:
        """Losses on data that is never trained on; nothing where there is none."""

    def draw(self, model: Any, path: Path) -> npt.NDArray[np.uint8] | None:
        """Write what a model does to `path`.png and beside it; the picture (H, W, 3), if any."""


@dataclass
class _Clock:
    """Training time over all sittings, in seconds."""

    before: float = 0.0
    started: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        return self.before + time.monotonic() - self.started


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
    ) -> None:
        """Prepare a training.

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
        self.optimizers = [self._optimizer(player) for player in level.game.players]
        self.step = 0
        self.clock = _Clock()
        self.best: float | None = None
        self._pending: list[Logs] = []
        self._midway = False  # an update has moved some weights and not yet all
        self._resume()
        self.tracker = Tracker(tracker, self.accelerator, directory, step=self.step)

    def run(self, progress: Progress) -> None:
        """Train until the budget is used; safe to interrupt and to run again."""
        saved = drawn = time.monotonic()
        self.clock = _Clock(before=self.clock.before)
        try:
            with interrupts_held() as interrupts:
                while (share := self._share(interrupts)) < 1:
                    logs = self._update(share)
                    self._log(logs, share)
                    progress.update(self.step, share=share, note=self._note(logs))
                    if time.monotonic() - drawn > self.cadence.sheet_seconds:
                        self.look()
                        drawn = time.monotonic()
                    if time.monotonic() - saved > self.cadence.save_seconds:
                        self.save()
                        saved = time.monotonic()
            self.look()
            self.save(done=True)
        except KeyboardInterrupt:
            if not self._midway:  # else what was saved last is what can be gone on from
                self.save()
            raise
        finally:
            self.tracker.close()
        self.ranks.wait()

    def _share(self, interrupts: Interrupts) -> float:
        """Share of the budget that is used, the same in all processes.

        Raises:
            KeyboardInterrupt: Ctrl-C waits in one of them; all of them stop here.
        """
        share = self.config.progress(step=self.step, elapsed_seconds=self.clock.elapsed)
        waiting = interrupts.waiting
        if self.ranks.count > 1:
            said = torch.tensor([share * self.ranks.is_first, float(waiting)], dtype=torch.float32)
            first_share, number_waiting = self.ranks.sum(said.to(self.accelerator.device)).tolist()
            share = share if self.config.steps is not None else first_share
            waiting = number_waiting > 0
        if waiting:
            raise KeyboardInterrupt
        return share

    def rehearse(self) -> None:
        """Do update 0, in which all lazy losses are due, and do not count it: to measure one."""
        self._update(0.0)
        self.step = 0

    def _update(self, share: float) -> Logs:
        """One step of every player on one batch."""
        device, parts = self.accelerator.device, self._parts()
        batches = [self.level.batch(self.step, part, device) for part in parts]
        rate = self.config.rate(step=self.step, progress=share)
        logs: Logs = {}
        self._midway = True
        for turn, (player, optimizer) in enumerate(
            zip(self.level.game.players, self.optimizers, strict=True)
        ):
            seed = _mix(self.config.seed, self.step, turn)
            ticks = [Tick(self.step, share, Noise(seed, part)) for part in parts]
            for group in optimizer.param_groups:
                group["lr"] = rate
            logs |= self._move(player, optimizer, list(zip(batches, ticks, strict=True)))
        self.level.game.after_update(logs)
        self.average.update(self.level.game.model, step=self.step)
        self.step += 1
        self._midway = False
        return logs

    def _parts(self) -> list[Part]:
        """The parts of each batch that this process takes, one after the other."""
        many = self.config.accumulate
        first = self.ranks.index * many
        return [Part(first + i, self.ranks.count * many) for i in range(many)]

    def _move(self, player: Player, optimizer: Any, parts: list[tuple[Batch, Tick]]) -> Logs:
        """One player's step: gradients reach its own weights and no others."""
        self.level.game.requires_grad_(False)
        for network in player.networks:
            network.requires_grad_(True)
        for other in self.optimizers:  # the opponents' gradients too: they would only take memory
            other.zero_grad(set_to_none=True)
        each: list[Logs] = []
        for batch, tick in parts:
            with self.accelerator.autocast():
                loss, logs = player.loss(batch, tick)
            if loss.requires_grad:
                self.accelerator.backward(loss / len(parts))
            each.append(logs)
        if not loss.requires_grad:  # the player sits this update out
            return self._mean_logs(each)
        parameters = [p for network in player.networks for p in network.parameters()]
        self._average_gradients(parameters)
        self.accelerator.unscale_gradients(optimizer)  # fp16's; by itself it takes every player's
        norm = nn.utils.clip_grad_norm_(parameters, self.config.gradient_norm)
        optimizer.step()
        logs = self._mean_logs(each)
        # fp16: where the loss was scaled too high the weights stay, and the next scale is lower. A
        # fused Adam sees to that itself, so that `step_was_skipped` does not tell.
        if self.accelerator.scaler is None or bool(norm.isfinite()):
            logs = logs | {f"gradient_norm/{player.name}": norm.detach()}
        return logs

    def _average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Make the gradients those of the whole batch: one message a player and step."""
        if self.ranks.count == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        self.ranks.sum(flat).div_(self.ranks.count)
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def _mean_logs(self, each: Sequence[Logs]) -> Logs:
        """Means over the parts of a batch, and over all processes."""
        if len(each) == 1 and self.ranks.count == 1:
            return each[0]
        means = torch.stack(
            [torch.stack([logs[name].float() for logs in each]).mean() for name in each[0]]
        )
        self.ranks.sum(means).div_(self.ranks.count)
        return dict(zip(each[0], means, strict=True))

    def _optimizer(self, player: Player) -> Any:
        c = self.config
        parameters = [p for network in player.networks for p in network.parameters()]
        optimizer = make_optimizer(
            c.optimizer, parameters, learning_rate=c.learning_rate, beta1=c.beta1, beta2=c.beta2
        )
        return self.accelerator.prepare(optimizer)

    # -- what is kept ----------------------------------------------------------------------------

    def _log(self, logs: Logs, share: float) -> None:
        self._pending.append(logs)
        if self.step % self.cadence.log_steps:
            return
        means = self._means()
        self._pending.clear()
        self._tell(means, progress=share)

    def _tell(self, values: Mapping[str, float], **more: float) -> None:
        """Add a line to metrics.jsonl, and points to the tracker's curves."""
        if not self.ranks.is_first:
            return
        line = {"step": self.step, "seconds": round(self.clock.elapsed, 1), **more, **values}
        checkpoints.append_metrics(self.directory, [line])
        self.tracker.log(dict(values), step=self.step)

    def _means(self) -> dict[str, float]:
        """Means of what was logged since the last line of metrics.

        Raises:
            LdfError: one is not finite, and neither are the weights then.
        """
        names = {name for entry in self._pending for name in entry}
        means = {
            name: torch.stack([e[name].float() for e in self._pending if name in e]).mean().item()
            for name in sorted(names)
        }
        broken = [name for name, value in means.items() if not math.isfinite(value)]
        if broken:
            raise LdfError(
                f"training broke down at step {self.step}: {', '.join(broken)} not finite; run the "
                "same command to go on from the last save, or --no-resume with a lower "
                "--learning-rate"
            )
        return means

    def _note(self, logs: Logs) -> str:
        if self.step % self.cadence.log_steps:
            return ""
        shown = [(n, v) for n, v in logs.items() if not n.startswith("gradient_norm")]
        return " ".join(f"{name} {value.item():.3f}" for name, value in shown)

    def save(self, *, done: bool = False) -> None:
        """Write the averaged weights and the state to go on from.

        The state comes last: a kill between the two leaves an older state, which makes those
        weights again, and never a finished run with older weights.

        Raises:
            LdfError: the weights are not finite; what was saved before is kept.
        """
        self._means()
        if not self.ranks.is_first:
            return
        self._calibrate()
        state = {
            "step": self.step,
            "elapsed_seconds": self.clock.elapsed,
            "done": done,
            "best": self.best,
            "networks": self.level.game.state_dict(),
            "average": self.average.module.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        if self.accelerator.scaler is not None:  # fp16: how far the loss may be scaled
            state["scaler"] = self.accelerator.scaler.state_dict()
        checkpoints.save_weights(self.directory, self.average.module.state_dict())
        checkpoints.save_state(self.directory, state)

    def look(self) -> None:
        """See how the averaged model does: losses on held-out data, a picture in samples/.

        The best so far by the level's score is kept in best/, a checkpoint of its own.

        Raises:
            LdfError: the weights are not finite.
        """
        self._means()
        if not self.ranks.is_first:
            return
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
        picture = self.level.draw(model, self.directory / "samples" / f"step-{self.step:07d}")
        if picture is not None:
            self.tracker.show("samples", picture, step=self.step)

    def _calibrate(self) -> None:
        batch = self.level.calibration(self.accelerator.device)
        self.level.game.calibrate(self.average.module, batch)

    def _resume(self) -> None:
        state = checkpoints.load_state(self.directory)
        if state is None:
            if self.ranks.is_first:
                checkpoints.cut_metrics(self.directory, after_step=0)
            return
        try:
            self.level.game.load_state_dict(state["networks"])
            self.average.module.load_state_dict(state["average"])
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            if self.accelerator.scaler is not None and state.get("scaler"):
                self.accelerator.scaler.load_state_dict(state["scaler"])
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            reason = " ".join(str(error).split())[:160]
            raise CheckpointError(
                f"the state in {self.directory} does not fit its config: {reason}; "
                "--no-resume starts anew and keeps the old run"
            ) from None
        self.step = state["step"]
        self.clock = _Clock(before=state["elapsed_seconds"])
        self.best = checkpoints.best_score(self.directory, self.level.score, state.get("best"))
        if self.ranks.is_first:
            checkpoints.cut_metrics(self.directory, after_step=self.step)


def _mix(*numbers: int) -> int:
    """A 63-bit seed from several numbers, unlike for unlike ones."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
