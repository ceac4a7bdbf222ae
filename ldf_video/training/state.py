"""What a training moves, as one thing that is saved and gone on from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ldf_video.models.game import Game
from ldf_video.training.ema import Average


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
