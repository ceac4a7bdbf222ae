"""One player's step on a batch: from its loss on each part to weights that have moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from ldf_video.models.game import Batch, Game, Logs, Player, Tick
from ldf_video.training.config import TrainConfig
from ldf_video.training.optimizers import make_optimizer
from ldf_video.training.ranks import Ranks


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
