"""The one training loop, for both levels: alternating players on Accelerate.

What an update sees and the noise it uses are functions of (seed, step), so a resumed run continues
bit for bit where the hardware does arithmetic that way.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from ldf_video.errors import CheckpointError, LdfError
from ldf_video.progress import Progress
from ldf_video.training import checkpoints
from ldf_video.training.ema import Average

Logs = dict[str, Tensor]
Batch = Any


@dataclass(frozen=True)
class Tick:
    """Where a training is: what a loss may depend on beside its batch.

    Attributes:
        step: update number, from 0.
        progress: share of the budget that is used, in [0, 1].
        noise: this update's source of chance, on the CPU.
    """

    step: int
    progress: float
    noise: torch.Generator


@dataclass(frozen=True)
class Player:
    """One side of a game: the networks that its step moves, and what it minimises."""

    name: str
    networks: Sequence[nn.Module]
    loss: Callable[[Batch, Tick], tuple[Tensor, Logs]]


class Level(Protocol):
    """What a level of the hierarchy gives to the loop."""

    players: Sequence[Player]
    networks: nn.Module
    """Everything that is trained, players of all sides; its weights are saved in the state."""
    exported: nn.Module
    """The part whose average becomes model.safetensors; inside `networks`."""

    def batch(self, step: int, device: torch.device) -> Batch:
        """The batch of an update."""

    def draw(self, exported: nn.Module, path: Path) -> None:
        """Write a picture (PNG) of what the averaged model does."""


@dataclass(frozen=True)
class TrainConfig:
    """How a level is trained, beside what is trained.

    Attributes:
        steps: updates in all, or None where minutes rule.
        minutes: time in all, or None where steps rule.
        batch_size: items an update.
        learning_rate: of Adam, after the warm-up.
        beta1: of Adam.
        beta2: of Adam.
        warmup_steps: updates over which the learning rate rises.
        cooldown: last share of the budget over which the learning rate falls to a twentieth.
        average: decay of the averaged weights.
        gradient_norm: largest norm of a player's gradient.
        mixed_precision: "bf16" or "no".
        seed: of weights, batches and noise.
    """

    steps: int | None = None
    minutes: float | None = None
    batch_size: int = 64
    learning_rate: float = 3e-4
    beta1: float = 0.5
    beta2: float = 0.99
    warmup_steps: int = 100
    cooldown: float = 0.4
    average: float = 0.999
    gradient_norm: float = 10.0
    mixed_precision: str = "no"
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise ValueError("expected either steps or minutes")

    def progress(self, *, step: int, elapsed_seconds: float) -> float:
        """Share of the budget used when update `step` starts, in [0, 1]."""
        if self.steps is not None:
            return min(step / self.steps, 1.0)
        assert self.minutes is not None
        return min(elapsed_seconds / (60 * self.minutes), 1.0)

    def rate(self, *, step: int, progress: float) -> float:
        """Learning rate of an update: warm-up, plateau, cosine cool-down."""
        warm = min((step + 1) / self.warmup_steps, 1.0)
        left = min((1 - progress) / self.cooldown, 1.0)
        return self.learning_rate * warm * (0.05 + 0.95 * 0.5 * (1 - math.cos(math.pi * left)))


@dataclass(frozen=True)
class Cadence:
    """When the loop does what is not training. Seconds, as runs differ in speed.

    Attributes:
        save_seconds: between saved states.
        sheet_seconds: between sheets.
        log_steps: updates averaged in a line of metrics.jsonl.
    """

    save_seconds: float = 60.0
    sheet_seconds: float = 120.0
    log_steps: int = 20


@dataclass
class _Clock:
    """Training time over all sittings, in seconds."""

    before: float = 0.0
    started: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        return self.before + time.monotonic() - self.started


def make_accelerator(device: str, *, mixed_precision: str) -> Accelerator:
    """An accelerator for one training on one device; Accelerate keeps one such state a process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(cpu=device == "cpu", mixed_precision=mixed_precision)


class Trainer:
    """Trains one level in one checkpoint directory; `run` goes on from wherever that stands."""

    def __init__(
        self,
        level: Level,
        directory: Path,
        *,
        config: TrainConfig,
        device: str = "cpu",
        cadence: Cadence | None = None,
    ) -> None:
        self.level, self.directory, self.config = level, directory, config
        self.cadence = cadence or Cadence()
        self.accelerator = make_accelerator(device, mixed_precision=config.mixed_precision)
        level.networks.to(self.accelerator.device)
        self.average = Average(level.exported, decay=config.average)
        self.optimizers = [self._optimizer(player) for player in level.players]
        self.step = 0
        self.clock = _Clock()
        self._pending: list[Logs] = []
        self._midway = False  # an update has moved some weights and not yet all
        self._resume()

    def run(self, progress: Progress) -> None:
        """Train until the budget is used; safe to interrupt and to run again."""
        saved = drawn = time.monotonic()
        self.clock = _Clock(before=self.clock.before)
        try:
            with _interrupts_held() as let_interrupt:
                while (share := self._progress()) < 1:
                    logs = self._update(share)
                    self._log(logs, share)
                    progress.update(self.step, share=share, note=self._note(logs))
                    let_interrupt()
                    if time.monotonic() - saved > self.cadence.save_seconds:
                        self.save()
                        saved = time.monotonic()
                    if time.monotonic() - drawn > self.cadence.sheet_seconds:
                        self.draw()
                        drawn = time.monotonic()
        except KeyboardInterrupt:
            if not self._midway:  # else what was saved last is what can be gone on from
                self.save()
            raise
        self.save(done=True)
        self.draw()

    def _progress(self) -> float:
        return self.config.progress(step=self.step, elapsed_seconds=self.clock.elapsed)

    def _update(self, share: float) -> Logs:
        """One step of every player on one batch."""
        device = self.accelerator.device
        noise = torch.Generator().manual_seed(_mix(self.config.seed, self.step))
        tick = Tick(self.step, share, noise)
        batch = self.level.batch(self.step, device)
        rate = self.config.rate(step=self.step, progress=share)
        logs: Logs = {}
        self._midway = True
        for player, optimizer in zip(self.level.players, self.optimizers, strict=True):
            logs |= self._move(player, optimizer, batch, tick, rate)
        self.average.update(self.level.exported, step=self.step)
        self.step += 1
        self._midway = False
        return logs

    def _move(self, player: Player, optimizer: Any, batch: Batch, tick: Tick, rate: float) -> Logs:
        """One player's step: gradients reach its own weights and no others."""
        self.level.networks.requires_grad_(False)
        for network in player.networks:
            network.requires_grad_(True)
        for group in optimizer.param_groups:
            group["lr"] = rate
        with self.accelerator.autocast():
            loss, logs = player.loss(batch, tick)
        optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        parameters = [p for network in player.networks for p in network.parameters()]
        norm = self.accelerator.clip_grad_norm_(parameters, self.config.gradient_norm)
        optimizer.step()
        return logs | {f"gradient_norm/{player.name}": norm.detach()}

    def _optimizer(self, player: Player) -> Any:
        parameters = [p for network in player.networks for p in network.parameters()]
        betas = (self.config.beta1, self.config.beta2)
        adam = torch.optim.Adam(parameters, lr=self.config.learning_rate, betas=betas)
        return self.accelerator.prepare(adam)

    # -- what is kept ----------------------------------------------------------------------------

    def _log(self, logs: Logs, share: float) -> None:
        self._pending.append(logs)
        if self.step % self.cadence.log_steps:
            return
        means = self._means()
        self._pending.clear()
        line = {"step": self.step, "seconds": round(self.clock.elapsed, 1), "progress": share}
        checkpoints.append_metrics(self.directory, [line | means])

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
        state = {
            "step": self.step,
            "elapsed_seconds": self.clock.elapsed,
            "done": done,
            "networks": self.level.networks.state_dict(),
            "average": self.average.module.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        checkpoints.save_weights(self.directory, self.average.module.state_dict())
        checkpoints.save_state(self.directory, state)

    def draw(self) -> None:
        """Add a picture to samples/."""
        picture = self.directory / "samples" / f"step-{self.step:07d}.png"
        self.level.draw(self.average.module, picture)

    def _resume(self) -> None:
        state = checkpoints.load_state(self.directory)
        if state is None:
            checkpoints.cut_metrics(self.directory, after_step=0)
            return
        try:
            self.level.networks.load_state_dict(state["networks"])
            self.average.module.load_state_dict(state["average"])
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            reason = " ".join(str(error).split())[:160]
            raise CheckpointError(
                f"the state in {self.directory} does not fit its config: {reason}; "
                "--no-resume starts anew and keeps the old run"
            ) from None
        self.step = state["step"]
        self.clock = _Clock(before=state["elapsed_seconds"])
        checkpoints.cut_metrics(self.directory, after_step=self.step)


@contextmanager
def _interrupts_held() -> Iterator[Callable[[], None]]:
    """Hold Ctrl-C back until the function that this gives is called, so that it cuts no update.

    A second Ctrl-C comes through at once. Where Ctrl-C is not Python's own, nothing is held.
    """
    waiting: list[int] = []

    def hold(number: int, frame: Any) -> None:
        if waiting:
            raise KeyboardInterrupt
        waiting.append(number)

    def let() -> None:
        if waiting:
            raise KeyboardInterrupt

    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if ours:
        signal.signal(signal.SIGINT, hold)
    try:
        yield let
        let()
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _mix(seed: int, step: int) -> int:
    """A 63-bit seed from two numbers, unlike for unlike pairs."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))
