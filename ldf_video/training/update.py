"""Which items an update sees: a function of (seed, step), so resuming needs no memory of it.

One player's step on a batch: from its loss on each part to weights that have moved.

One update: every player's step on one batch, and what the game makes of how they went.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ldf_video.models.game import Batch, Game, Logs, Noise, Part, Player, Tick
from ldf_video.training.config import TrainConfig
from ldf_video.training.optim import make_optimizer
from ldf_video.training.ranks import Ranks

Integers = npt.NDArray[np.int64]


def frame_indices(seed: int, step: int, *, num_frames: int, batch_size: int) -> Integers:
    """Uniform frame numbers (batch_size,) in [0, num_frames), with replacement."""
    return np.random.default_rng([seed, step]).integers(num_frames, size=batch_size)


def windows(
    seed: int, step: int, *, lengths: Integers, window: int, batch_size: int
) -> tuple[Integers, Integers]:
    """Clips and first frames of random windows, every possible window equally likely.

    A clip shorter than the window has one window, which starts at its frame 0 and is padded.

    Args:
        seed: of the run.
        step: of the update.
        lengths: frames of each clip, (num_clips,), each at least 1.
        window: frames.
        batch_size: windows.

    Returns:
        Clip numbers and first frames, each (batch_size,).
    """
    starts = np.cumsum(np.maximum(lengths - window + 1, 1))
    drawn = np.random.default_rng([seed, step]).integers(starts[-1], size=batch_size)
    clips = np.searchsorted(starts, drawn, side="right")
    before = np.where(clips > 0, starts[clips - 1], 0)
    return clips.astype(np.int64), (drawn - before).astype(np.int64)


class GradientStep:
    """Gradients are accumulated over the parts of a batch, averaged over processes and clipped.

    They reach the player's own weights and no others.

    Attributes:
        player: who moves.
        optimizer: of its weights.
    """

    def __init__(
        self,
        player: Player,
        game: Game,
        *,
        config: TrainConfig,
        accelerator: Accelerator,
        ranks: Ranks,
        recorded: bool = False,
    ) -> None:
        """Make the player's optimizer.

        Args:
            player: who moves.
            game: all networks.
            config: of the training.
            accelerator: of the training.
            ranks: the processes that train together.
            recorded: its steps are to be recorded and played back, so that the learning rate and
                the optimizer's count of steps stand on the device.

        Raises:
            UsageError: there is none of the config's name.
        """
        self.player, self._game = player, game
        self._config, self._accelerator, self._ranks = config, accelerator, ranks
        self._parameters = [p for network in player.networks for p in network.parameters()]
        self._rate = None
        if recorded:  # float32 is what fused Adam reads
            self._rate = torch.zeros((), dtype=torch.float32, device=accelerator.device)
        self.optimizer: Any = accelerator.prepare(
            make_optimizer(
                "adam" if player.adam and config.optimizer == "muon" else config.optimizer,
                self._parameters,
                learning_rate=config.learning_rate,
                beta1=config.beta1,
                beta2=config.beta2,
            )
        )

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the next steps, in an optimizer that was loaded too."""
        if self._rate is not None:
            self._rate.fill_(rate)
        for group in self.optimizer.param_groups:
            group["lr"] = rate if self._rate is None else self._rate
            if "capturable" in group:
                group["capturable"] = self._rate is not None

    def take(self, parts: Sequence[tuple[Batch, Tick]]) -> Logs:
        """Move the player's weights, unless it sits this update out.

        Args:
            parts: of the batch that this process takes, one after the other, each with its tick.

        Returns:
            What its loss logs and the norm of its gradient, scalars of the whole batch.
        """
        self._game.requires_grad_(False)
        for parameter in self._parameters:
            parameter.requires_grad_(True)
        # The opponents' gradients too: they would only take memory.
        self._game.zero_grad(set_to_none=True)
        each: list[Logs] = []
        for batch, tick in parts:
            with self._accelerator.autocast():
                loss, logs = self.player.loss(batch, tick)
            if loss.requires_grad:
                self._accelerator.backward(loss / len(parts))
            each.append(logs)
        norm = self._move() if loss.requires_grad else {}
        return self._means(each) | norm

    def _move(self) -> Logs:
        """Step by the gradients that are there; their norm, where there was a step."""
        self._ranks.mean([p.grad for p in self._parameters if p.grad is not None])
        # fp16's; by itself it takes every player's
        self._accelerator.unscale_gradients(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self._parameters, self._config.gradient_norm)
        self.optimizer.step()
        # fp16: where the loss was scaled too high the weights stay, and the next scale is lower. A
        # fused Adam sees to that itself, so that `step_was_skipped` does not always tell.
        if self._accelerator.scaler is None or bool(norm.isfinite()):
            return {f"gradient_norm/{self.player.name}": norm.detach()}
        return {}

    def _means(self, each: Sequence[Logs]) -> Logs:
        """Means over the parts of a batch, and over all processes."""
        if not each[0] or (len(each) == 1 and self._ranks.count == 1):
            return each[0]
        means = torch.stack(
            [torch.stack([logs[name].float() for logs in each]).mean() for name in each[0]]
        )
        self._ranks.mean([means])
        return dict(zip(each[0], means, strict=True))


@dataclass(frozen=True)
class Update:
    """All that an update is a function of, beside the weights.

    Attributes:
        step: its number, from 0.
        progress: share of the budget that is used, in [0, 1].
        kind: as the game says.
        batches: the parts of the batch that this process takes.
        seeds: of the noise of each player's step.
        rates: learning rate of each player.
    """

    step: int
    progress: float
    kind: Hashable
    batches: Sequence[Batch]
    seeds: Sequence[int]
    rates: Sequence[float]


class Players:
    """The players of a game, who take their steps one after the other."""

    def __init__(self, game: Game, steps: Sequence[GradientStep], parts: Sequence[Part]) -> None:
        """Args: the game, a step for each of its players, the parts of a batch that it takes."""
        self.game, self.steps, self.parts = game, steps, parts

    def update(self, update: Update) -> Logs:
        """Do an update; its logs."""
        self.set_rates(update)
        noises = [[Noise(seed, part) for part in self.parts] for seed in update.seeds]
        return self.play(update, update.batches, noises=noises, share=update.progress)

    def set_rates(self, update: Update) -> None:
        """Set the learning rates of an update."""
        for step, rate in zip(self.steps, update.rates, strict=True):
            step.set_rate(rate)

    def play(
        self,
        update: Update,
        batches: Sequence[Batch],
        *,
        noises: Sequence[Sequence[Noise]],
        share: float | Tensor,
    ) -> Logs:
        """Take everyone's step.

        Args:
            update: which one.
            batches: the parts of its batch.
            noises: for each player, one a part.
            share: its progress, for arithmetic.
        """
        logs: Logs = {}
        left: list[dict[str, Any]] = [{} for _ in batches]
        for step, chances in zip(self.steps, noises, strict=True):
            ticks = [
                Tick(update.step, update.progress, noise, update.kind, share, shared)
                for noise, shared in zip(chances, left, strict=True)
            ]
            logs |= step.take(list(zip(batches, ticks, strict=True)))
        self.game.after_update(logs)
        return logs
