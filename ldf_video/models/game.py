"""What every training here is: players who take turns on the same batch, each with a loss."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from ldf_video.models.noise import Noise

Logs = dict[str, Tensor]
Batch = Any


@dataclass(frozen=True)
class Tick:
    """Where a training is: what a loss may depend on beside its batch.

    Attributes:
        step: update number, from 0.
        progress: share of the budget that is used, in [0, 1].
        noise: this update's chance, for this part of the batch.
        kind: of the update, as `Game.kind` said.
        share: `progress` for arithmetic: a float, or a scalar on the device where the update is
            recorded and played back, and no number may be part of the recording.
        left: what players who moved before left for those who move after them, in this update and
            on this part of the batch: tensors without a graph, and numbers.
    """

    step: int
    progress: float
    noise: Noise
    kind: Any
    share: float | Tensor
    left: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Player:
    """One side of a game: the networks that its step moves, and what it minimises.

    Attributes:
        name: for logs.
        networks: those that move; gradients reach no others.
        loss: from a batch and a tick to a scalar, a mean over items, and what to log. A scalar
            without a gradient means that the player sits this update out.
        rate: its learning rate, as a share of the training's.
        adam: it stays with Adam where the training is by Muon, as discriminators do: a game's
            balance depends on how fast they learn.
    """

    name: str
    networks: Sequence[nn.Module]
    loss: Callable[[Batch, Tick], tuple[Tensor, Logs]]
    rate: float = 1.0
    adam: bool = False


class Game(nn.Module):
    """All networks of one training, players of all sides among them.

    Attributes:
        model: the part whose averaged weights are kept.
    """

    model: nn.Module

    @property
    def players(self) -> Sequence[Player]:
        """Who moves, in turn."""
        raise NotImplementedError

    def kind(self, step: int, progress: float) -> Hashable:
        """Of which kind an update is; may wait for the device.

        Two updates of one kind do the same arithmetic on other numbers, so that a device may record
        one and play it back. None, as by default: nothing is known of it.

        Args:
            step: its number, from 0.
            progress: share of the budget that is used, in [0, 1].
        """
        return None

    def after_update(self, logs: Logs) -> None:
        """Take note of an update's logs, means over the whole batch; nothing by default."""

    def calibrate(self, model: Any, batch: Batch) -> None:
        """Fit what in an averaged model depends on its weights and on data; nothing by default.

        Args:
            model: like `self.model`, with averaged weights.
            batch: some real data.
        """
