"""What keeps a discriminator from running away: a regularizer on its slope, and rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

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
        penalised: the penalty on its slope is computed.
    """

    plays: bool
    moves: bool
    penalised: bool


class Restraint(nn.Module):
    """The regularizer on a D, which also sits updates out while its loss is low.

    A penalty that is weighted by D's error vanishes for a D that is sure of everything: no weight
    brings such a D back. So it rests, as in Larsen et al. (2016), arXiv:1512.09300.

    The buffer `resting` says whether D sits the next update out, `moves` how often it has moved.
    """

    resting: Tensor
    moves: Tensor

    def __init__(self, config: RothConfig, *, rest: float) -> None:
        """Args: the regularizer's config; D's loss in nats under which it rests."""
        super().__init__()
        self.rest = rest
        self.roth = RothRegularizer(config)
        self.register_buffer("resting", torch.zeros((), dtype=torch.bool))
        self.register_buffer("moves", torch.zeros((), dtype=torch.int64))
        self.register_load_state_dict_pre_hook(_count_from_here)  # type: ignore[no-untyped-call]

    def turn(self, *, plays: bool = True) -> Turn:
        """What D does in an update; waits for the device that the last one ran on."""
        moves = plays and not bool(self.resting)
        return Turn(plays, moves, moves and self.roth.is_due(int(self.moves)))

    def loss(
        self,
        judge: Callable[[], tuple[Tensor, Tensor]],
        contest: Callable[[Tensor, Tensor], Tensor],
        discriminator: Callable[..., Tensor],
        *,
        real: Sequence[Tensor],
        fake: Sequence[Tensor],
        tick: Tick,
        weight: float = 1.0,
    ) -> tuple[Tensor, Logs]:
        """What D minimises, and what to log; without a gradient while D rests.

        Args:
            judge: gives D's logits of `real` and of `fake`, (B,) each.
            contest: from those to D's loss against its opponents, a scalar.
            discriminator: from inputs to logits (B,).
            real: what it is to score high, each (B, ...).
            fake: what it is to score low.
            tick: of the update, whose kind is a `Turn`.
            weight: of means over these inputs, as parts of a batch may have unlike numbers of them.
        """
        turn: Turn = tick.kind
        with torch.set_grad_enabled(turn.moves):
            logits = judge()
            loss = weight * contest(*logits)
        logs = {
            "discriminator": loss.detach(),
            "logit": weight * torch.cat(logits).detach().float().mean(),
            "pressure": self.roth.pressure.clone(),
            "resting": self.resting.float(),
        }
        if turn.penalised:
            of_real, of_fake = (
                weight * side for side in self.roth.penalty(discriminator, real=real, fake=fake)
            )
            penalty = of_real + of_fake
            loss = loss + self.roth.weight(tick.share) * penalty
            logs |= {
                "roth": penalty.detach(),
                "roth_real": of_real.detach(),
                "roth_fake": of_fake.detach(),
            }
        return loss, logs

    @torch.no_grad()
    def note(self, logs: Logs) -> None:
        """Decide by an update's logs about the next one; by those without D nothing."""
        if "discriminator" in logs:
            self.roth.press(logs["discriminator"])
            self.moves.add_(~self.resting)
            self.resting.copy_(logs["discriminator"] < self.rest)


def _count_from_here(restraint: Restraint, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """States that were saved before 2026-11-28 do not say how often D has moved."""
    state.setdefault(f"{prefix}moves", torch.zeros_like(restraint.moves))
