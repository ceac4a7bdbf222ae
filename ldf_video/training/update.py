"""One update, from the items of a batch to weights that have moved.

Which items it sees and the noise that it uses are functions of (seed, step): a training resumes
bit for bit from its weights and the number of the step alone. `Players.draw` gives the batch, the
noise and the learning rates of a step; `Players.update` takes every player's step on them, one
after the other; `GradientStep.apply` is one player's: its loss (`ldf_video.models`), gradients that
are accumulated over the parts of the batch and averaged over processes, clipping, the optimizer.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

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
Strides = Sequence[int]


def frame_indices(seed: int, step: int, *, num_frames: int, batch_size: int) -> Integers:
    """Uniform frame numbers (batch_size,) in [0, num_frames), with replacement."""
    return np.random.default_rng([seed, step]).integers(num_frames, size=batch_size)


def windows(
    seed: int, step: int, *, lengths: Integers, window: int, batch_size: int
) -> tuple[Integers, Integers]:
    """Clip numbers and first frames, each (batch_size,), of random windows of `window` frames.

    Every possible window is equally likely. A clip shorter than the window has one, which starts at
    its frame 0 and is padded. `lengths` are frames of each clip, (num_clips,), each at least 1.
    """
    starts = np.cumsum(np.maximum(lengths - window + 1, 1))
    drawn = np.random.default_rng([seed, step]).integers(starts[-1], size=batch_size)
    clips = np.searchsorted(starts, drawn, side="right")
    before = np.where(clips > 0, starts[clips - 1], 0)
    return clips.astype(np.int64), (drawn - before).astype(np.int64)


def strided_windows(
    seed: int, step: int, *, lengths: Integers, window: int, batch_size: int, strides: Strides
) -> tuple[Integers, Integers, Integers]:
    """The same of windows that hold every so-manyth frame, and as third how far apart these are.

    Each stride is equally likely, and which one a row has depends on seed, step and row alone. A
    window of stride 1 is what it would be without others.
    """
    drawn = np.random.default_rng([seed, step, 2]).integers(len(strides), size=batch_size)
    clips, starts = np.zeros((2, batch_size), np.int64)
    for number, stride in enumerate(strides):
        found = windows(
            seed, step, lengths=lengths, window=span(window, stride), batch_size=batch_size
        )
        here = drawn == number
        clips[here], starts[here] = (values[here] for values in found)
    return clips, starts, np.array(strides)[drawn]


def span(window: int, stride: int) -> int:
    """Frames of a clip from the first to the last of a window."""
    return stride * (window - 1) + 1


def noise_seed(seed: int, step: int, turn: int) -> int:
    """A 63-bit seed of the noise of one player's step, `turn` its number among the players."""
    mixed = np.random.SeedSequence((seed, step, turn)).generate_state(1, np.uint64)
    return int(mixed[0] >> np.uint64(1))


class Level(Protocol):
    """What a level of the hierarchy gives to the loop: a game, and data to play it on."""

    @property
    def game(self) -> Game: ...

    @property
    def score(self) -> str:
        """Which value of `evaluate` decides between checkpoints; the lower the better."""
        ...

    def batch(self, step: int, part: Part, device: torch.device) -> Batch:
        """One part of the batch of update `step`, a function of (seed, step)."""

    def calibration(self, device: torch.device) -> Batch:
        """A large batch, always the same, for `Game.calibrate`."""

    def evaluate(self, model: Any) -> Mapping[str, float]:
        """Losses on data that is never trained on; nothing where there is none."""

    def describe(self, model: Any, values: Mapping[str, float]) -> str:
        """How good a model is, in a few words with units, from what `evaluate` gave."""

    def draw(self, model: Any, path: Path) -> npt.NDArray[np.uint8] | None:
        """Write what a model does to `path`.png and beside it; the picture (H, W, 3), if any."""


@dataclass(frozen=True)
class Update:
    """All that an update is a function of, beside weights and learning rates.

    Attributes:
        progress: share of the budget that is used, in [0, 1], as in `Tick`.
        kind: as the game says.
        batches: the parts of the batch that this process takes.
        noises: for each player, one a part.
    """

    progress: float | Tensor
    kind: Hashable
    batches: Sequence[Batch]
    noises: Sequence[Sequence[Noise]]


class Players:
    """The players of a game, who take their steps one after the other."""

    def __init__(
        self,
        level: Level,
        config: TrainConfig,
        accelerator: Accelerator,
        ranks: Ranks,
        *,
        recorded: bool = False,
    ) -> None:
        """Make an optimizer for each player.

        Where updates are to be `recorded` and played back, learning rates and the optimizers'
        counts of steps stand on the device.

        Raises:
            UsageError: there is no optimizer of the config's name, or a batch cannot be divided.
        """
        self.game, self.parts, self.device = level.game, config.parts(ranks), accelerator.device
        self._level, self._config = level, config
        self.steps = [
            GradientStep(player, level.game, config, accelerator, ranks, recorded=recorded)
            for player in level.game.players
        ]

    def draw(self, step: int, progress: float) -> Update:
        """The batch and the noise of a step; learning rates are set for it."""
        # Asking for the kind waits for the device: what does not need it comes before.
        batches = [self._level.batch(step, part, self.device) for part in self.parts]
        kind = self.game.kind(step, progress)
        rate = self._config.rate(step=step, progress=progress)
        noises = []
        for turn, player_step in enumerate(self.steps):
            player_step.set_rate(rate * player_step.player.rate)
            seed = noise_seed(self._config.seed, step, turn)
            noises.append([Noise(seed, part) for part in self.parts])
        return Update(progress, kind, batches, noises)

    def update(self, update: Update) -> Logs:
        """Move all weights; what the losses log, means over the whole batch."""
        logs: Logs = {}
        passed_on: list[dict[str, Any]] = [{} for _ in update.batches]
        for step, noises in zip(self.steps, update.noises, strict=True):
            ticks = [
                Tick(update.progress, noise, update.kind, of_part)
                for noise, of_part in zip(noises, passed_on, strict=True)
            ]
            logs |= step.apply(list(zip(update.batches, ticks, strict=True)))
        self.game.after_update(logs)
        return logs


class GradientStep:
    """Moves the weights of one player, and no others, by the gradient of its loss."""

    def __init__(
        self,
        player: Player,
        game: Game,
        config: TrainConfig,
        accelerator: Accelerator,
        ranks: Ranks,
        *,
        recorded: bool,
    ) -> None:
        self.player, self._game = player, game
        self._max_norm, self._accelerator, self._ranks = config.gradient_norm, accelerator, ranks
        self._parameters = [p for network in player.networks for p in network.parameters()]
        self._rate = None
        if recorded:  # float32 is what fused Adam reads
            self._rate = torch.zeros((), dtype=torch.float32, device=accelerator.device)
        name = "adam" if player.adam and config.optimizer == "muon" else config.optimizer
        betas = config.beta1, config.beta2
        optimizer = make_optimizer(name, self._parameters, lr=config.learning_rate, betas=betas)
        self.optimizer: Any = accelerator.prepare(optimizer)

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the next steps, in an optimizer that was loaded too."""
        if self._rate is not None:
            self._rate.fill_(rate)
        for group in self.optimizer.param_groups:
            group["lr"] = rate if self._rate is None else self._rate
            if "capturable" in group:
                group["capturable"] = self._rate is not None

    def apply(self, parts: Sequence[tuple[Batch, Tick]]) -> Logs:
        """Move the player's weights, unless it sits this update out.

        `parts` are those of the batch that this process takes, each with its tick. Returns what the
        loss logs and the norm of its gradient, scalars of the whole batch.
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
        norm = self._step() if loss.requires_grad else {}
        return self._means(each) | norm

    def _step(self) -> Logs:
        """Step by the gradients that are there; their norm, where there was a step."""
        self._ranks.mean([p.grad for p in self._parameters if p.grad is not None])
        # fp16's; by itself it takes every player's
        self._accelerator.unscale_gradients(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self._parameters, self._max_norm)
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
