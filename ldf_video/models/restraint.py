"""What keeps a discriminator from running away: Roth's regularizer, and rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ldf_video.models.game import Logs, Tick
from ldf_video.models.roth import RothConfig, RothRegularizer


@dataclass(frozen=True)
class Turn:
    """What D does in an update: the kind of an update of a restrained game.

    Attributes:
        plays: D takes part.
        moves: its weights move; else it rests.
        penalised: Roth's penalty is computed.
    """

    plays: bool
    moves: bool
    penalised: bool


class Restraint(nn.Module):
    """Roth's regularizer on a D, which also sits updates out while its loss is low.

    Roth's penalty is weighted by D's own error, so that it vanishes for a D that is sure of
    everything: no weight brings such a D back. So it rests, as in Larsen et al. (2016),
    arXiv:1512.09300.

    The buffer `resting` says whether D sits the next update out.
    """

    resting: Tensor

    def __init__(self, config: RothConfig, *, rest: float) -> None:
        """Args: the regularizer's config; D's loss in nats under which it rests."""
        super().__init__()
        self.rest = rest
        self.roth = RothRegularizer(config)
        self.register_buffer("resting", torch.zeros((), dtype=torch.bool))

    def turn(self, step: int, *, plays: bool = True) -> Turn:
        """What D does in an update; waits for the device that the last one ran on."""
        moves = plays and not bool(self.resting)
        return Turn(plays, moves, moves and self.roth.is_due(step))

    def loss(
        self,
        contest: Callable[[], Tensor],
        discriminator: Callable[..., Tensor],
        *,
        real: Sequence[Tensor],
        fake: Sequence[Tensor],
        tick: Tick,
    ) -> tuple[Tensor, Logs]:
        """What D minimises, and what to log; without a gradient while D rests.

        Args:
            contest: D's loss against its opponents, a scalar.
            discriminator: from inputs to logits (B,).
            real: what it is to score high, each (B, ...).
            fake: what it is to score low.
            tick: of the update, whose kind is a `Turn`.
        """
        turn: Turn = tick.kind
        with torch.set_grad_enabled(turn.moves):
            loss = contest()
        logs = {
            "discriminator": loss.detach(),
            "pressure": self.roth.pressure.clone(),
            "resting": self.resting.float(),
        }
        if turn.penalised:
            penalty = self.roth.penalty(discriminator, real=real, fake=fake)
            loss = loss + self.roth.weight(tick.share) * penalty
            logs["roth"] = penalty.detach()
        return loss, logs

    @torch.no_grad()
    def note(self, logs: Logs) -> None:
        """Decide by an update's logs about the next one; by those without D nothing."""
        if "discriminator" in logs:
            self.roth.press(logs["discriminator"])
            self.resting.copy_(logs["discriminator"] < self.rest)
