"""Games against a discriminator D, and what keeps it from running away from its opponents.

A D that wins has no gradient left to teach by. So a penalty bounds its slope (the paper, section
3.1), weighs more while D's loss is low, and D sits updates out while its loss is lower still.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ldf_video.models.game import Game, Logs, Tick
from ldf_video.models.losses import binary_loss, roth_penalty

PENALTIES = ("roth", "pair", "r1r2")
TARGET = 0.8
"""Loss of D in nats that the penalty's weight aims at; 2 ln 2 is a D that cannot tell."""

Discriminator = Callable[..., Tensor]
"""From inputs, each (B, ...), to logits (B,)."""


@dataclass(frozen=True)
class RothConfig:
    """The penalty and its weight over a training.

    Attributes:
        penalty: what |grad D|^2 is weighted by, the square of
            "roth": D's own error, 1 - sigmoid(D) on real pairs and sigmoid(D) on generated ones
                (Algorithm 1), for binary cross-entropy;
            "pair": its error on the pair, sigmoid(D(fake) - D(real)), on both, which is the slope
                of the relativistic loss as Roth's is that of the binary one. A relativistic loss
                leaves D's common offset free: it drifts, and "roth" then switches one side off;
            "r1r2": 1 (R1 and R2, as in R3GAN, arXiv:2501.05441).
        gamma: the weight at the start; 0: no penalty.
        gamma_floor: the weight at the end, as a share of that at the start.
        target: D's loss in nats under which the weight is raised beyond that schedule.
        pressure_rate: how much it is raised, or lowered again, an update, as a share.
        pressure_limit: how many times the schedule it may become.
        interval: moves of D from one (lazy) penalty to the next, scaled up by as much.
    """

    gamma: float = 1.0
    gamma_floor: float = 0.2
    target: float = 0.4
    pressure_rate: float = 0.01
    pressure_limit: float = 100.0
    interval: int = 4
    penalty: str = "roth"

    def __post_init__(self) -> None:
        if self.penalty not in PENALTIES:
            raise ValueError(f"penalty {self.penalty!r}: expected {', '.join(PENALTIES)}")


class Restrained:
    """What the config of any game against D has; `roth` may come as config.json has it."""

    roth: RothConfig
    rest: float

    def __post_init__(self) -> None:
        if not isinstance(self.roth, RothConfig):
            object.__setattr__(self, "roth", RothConfig(**self.roth))


@dataclass(frozen=True)
class GanConfig(Restrained):
    """Weights of a game of G against D by binary cross-entropy.

    Attributes:
        roth: the penalty on D.
        rest: D's loss in nats under which D rests until the others have caught up.
    """

    roth: RothConfig = field(
        default_factory=lambda: RothConfig(gamma=2.0, gamma_floor=0.1, target=TARGET)
    )
    rest: float = 0.5 * TARGET


@dataclass(frozen=True)
class Turn:
    """What D does in an update: the kind of an update of a game against D."""

    plays: bool  # D takes part
    moves: bool  # its weights move; else it rests
    penalised: bool  # the penalty on its slope is computed


class RothRegularizer(nn.Module):
    """The buffer `pressure` is the factor by which the weight stands above its schedule."""

    pressure: Tensor

    def __init__(self, config: RothConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("pressure", torch.ones(()))

    def weight(self, progress: float | Tensor) -> Tensor:
        """What the penalty of one update is multiplied by, at `progress` in [0, 1], a scalar."""
        c = self.config
        scheduled = 0.5 * c.interval * c.gamma * c.gamma_floor**progress
        if isinstance(scheduled, Tensor):
            scheduled = scheduled.to(self.pressure)
        return scheduled * self.pressure

    @torch.no_grad()
    def press(self, loss: Tensor) -> None:
        """Raise the pressure on a D that wins by its loss, lower it on one that does not."""
        c = self.config
        rate = c.pressure_rate * torch.sign(c.target - loss.to(self.pressure))
        self.pressure.mul_(torch.exp(rate)).clamp_(1.0, c.pressure_limit)

    def penalty(
        self, D: Discriminator, *, real: Sequence[Tensor], fake: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The penalties of what is real and what is generated, in float32 under any autocast.

        On a GPU torch computes float32 convolutions in TF32, here too.
        """
        with torch.autocast(real[0].device.type, enabled=False):
            real, fake = (
                [part.detach().float().requires_grad_() for part in inputs]
                for inputs in (real, fake)
            )
            high, low = D(*real), D(*fake)
            if self.config.penalty == "roth":
                errors = 1 - torch.sigmoid(high), torch.sigmoid(low)
            elif self.config.penalty == "pair":
                errors = (torch.sigmoid(low - high),) * 2
            else:
                errors = torch.ones_like(high), torch.ones_like(low)
            return (
                roth_penalty(high, real, error=errors[0]),
                roth_penalty(low, fake, error=errors[1]),
            )


class Restraint(nn.Module):
    """The penalty on a D, which also sits updates out while its loss is low.

    A penalty that is weighted by D's error vanishes for a D that is sure of everything: no weight
    brings such a D back. So it rests, as in Larsen et al. (2016), arXiv:1512.09300.

    The buffer `resting` says whether D sits the next update out, `moves` how often it has moved.
    """

    resting: Tensor
    moves: Tensor

    def __init__(self, config: Restrained) -> None:
        super().__init__()
        self.rest = config.rest
        self.roth = RothRegularizer(config.roth)
        self.register_buffer("resting", torch.zeros((), dtype=torch.bool))
        self.register_buffer("moves", torch.zeros((), dtype=torch.int64))
        self.register_load_state_dict_pre_hook(_count_from_here)  # type: ignore[no-untyped-call]

    def turn(self, *, plays: bool) -> Turn:
        """What D does in an update; waits for the device that the last one ran on."""
        moves = plays and not bool(self.resting)
        roth = self.roth.config
        due = roth.gamma > 0 and int(self.moves) % roth.interval == 0
        return Turn(plays, moves, moves and due)

    @torch.no_grad()
    def observe(self, logs: Logs) -> None:
        """Decide about D's next update by the logs of the last one in which it took part."""
        if "discriminator" in logs:
            self.roth.press(logs["discriminator"])
            self.moves.add_(~self.resting)
            self.resting.copy_(logs["discriminator"] < self.rest)


def _count_from_here(restraint: Restraint, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """States that were saved before 2026-11-28 do not say how often D has moved."""
    state.setdefault(f"{prefix}moves", torch.zeros_like(restraint.moves))


class GanGame(Game):
    """A game against a D under restraint."""

    def __init__(self, model: nn.Module, discriminator: nn.Module, config: Restrained) -> None:
        super().__init__()
        self.model = model
        self.discriminator = discriminator
        self.restraint = Restraint(config)

    def kind(self, step: int, progress: float) -> Turn:
        """What D does; by default it plays from the first update on."""
        return self.restraint.turn(plays=True)

    def after_update(self, logs: Logs) -> None:
        """Restrain D by how it fared."""
        self.restraint.observe(logs)

    def judge(
        self, D: Discriminator, real: Sequence[Tensor], fake: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """D's logits (B,) of what is real and of what is generated."""
        return D(*real), D(*fake)

    def discriminate(
        self,
        D: Discriminator,
        *,
        real: Sequence[Tensor],
        fake: Sequence[Tensor],
        tick: Tick,
        contest: Callable[[Tensor, Tensor], Tensor] = binary_loss,
        weight: float = 1.0,
    ) -> tuple[Tensor, Logs]:
        """What D minimises, and what to log; without a gradient while D rests.

        Args:
            D: is to score `real` high and `fake` low, each (B, ...).
            real: of the data.
            fake: of D's opponents.
            tick: of the update, whose kind is a `Turn`.
            contest: D's loss, from its logits of the two.
            weight: of means over these inputs, as parts of a batch may have unlike numbers of them.
        """
        turn, roth = tick.kind, self.restraint.roth
        with torch.set_grad_enabled(turn.moves):
            logits = self.judge(D, real, fake)
            loss = weight * contest(*logits)
        logs = {
            "discriminator": loss.detach(),
            "logit": weight * torch.cat(logits).detach().float().mean(),
            "pressure": roth.pressure.clone(),
            "resting": self.restraint.resting.float(),
        }
        if turn.penalised:
            sides = [weight * side for side in roth.penalty(D, real=real, fake=fake)]
            penalty = sides[0] + sides[1]
            loss = loss + roth.weight(tick.progress) * penalty
            names = ("roth", "roth_real", "roth_fake")
            logs |= {n: v.detach() for n, v in zip(names, (penalty, *sides), strict=True)}
        return loss, logs
