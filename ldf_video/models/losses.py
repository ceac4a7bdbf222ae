"""Losses of the adversarial games, and what keeps a discriminator from running away.

All losses take logits, none takes probabilities. Every discriminator has a penalty on its slope, as
in the paper (section 3.1), whose penalty is that of Roth et al. (2017), arXiv:1705.09367.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldf_video.models.game import Batch, Game, Logs, Player, Tick
from ldf_video.models.layers import gathered

PENALTIES = ("roth", "pair", "r1r2")
TARGET = 0.8
"""Loss of D in nats that the penalty's weight aims at; 2 ln 2 is a D that cannot tell."""


def relativistic_loss(winner: Tensor, loser: Tensor) -> Tensor:
    """Mean softplus(loser - winner): falls as `winner` is scored above `loser`, pair by pair.

    Jolicoeur-Martineau (2018), arXiv:1807.00734; R3GAN (2024), arXiv:2501.05441, eq. 2.
    D minimises it with the inferred pairs winning, E and G with the generated pairs winning.

    Args:
        winner: logits (B,).
        loser: logits (B,).

    Returns:
        A scalar in nats; ln 2 where the two are equal.
    """
    return F.softplus(loser - winner).mean()


def binary_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Mean softplus(-real) + mean softplus(fake): binary cross-entropy of a discriminator.

    Goodfellow et al. (2014), arXiv:1406.2661, eq. 1, with the sign changed. Its opponents minimise
    it with the two exchanged.

    Args:
        real: logits (B,) of what is to be scored high.
        fake: logits (B,) of what is to be scored low.

    Returns:
        A scalar in nats; 2 ln 2 where D cannot tell the two apart.
    """
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def roth_penalty(logits: Tensor, inputs: Sequence[Tensor], *, error: Tensor) -> Tensor:
    """Gradient-norm regularizer of a discriminator, weighted by its own error.

    Roth et al. (2017), arXiv:1705.09367, Algorithm 1: error^2 |grad|^2, the gradient taken over all
    inputs together.

    Args:
        logits: D's output, shape (B,), unbounded, with a graph to every input.
        inputs: what D saw, each of shape (B, ...), requiring gradients.
        error: how wrong D is about each, (B,) in [0, 1].

    Returns:
        Mean penalty, a scalar, in squared nats per squared unit of input.
    """
    gradients = torch.autograd.grad(logits.sum(), list(inputs), create_graph=True)
    squared_norm = torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0)
    return (error.square() * squared_norm).mean()


def moment_penalty(z: Tensor) -> Tensor:
    """Distance of mean and covariance from those of N(0, I), without a small batch's bias.

    |mean|^2 + |cov - I|^2 over the number of dimensions d, each square taken as the product of two
    estimates from the two halves of the batch: the plain square of one estimate is too large by
    about d^2 / B and would shrink the latents. The batch is that of all processes together.

    Rows must be independent, and cells of one frame are not: each covariance is then too small by
    the share of variance that is between frames, over the frames of a half. A share of 0.9 adds 0.2
    to the value with 4 frames and 0.05 with 8; that of a trained E, 0.02 to 0.04, adds 0.001.

    Args:
        z: latents (B, ...), B at least 4.

    Returns:
        A scalar; of independent rows its expectation is at least 0, and 0 only where the moments
        agree.
    """
    flat = gathered(z.flatten(1).float())
    half = flat.shape[0] // 2
    if half < 2:
        raise ValueError(f"moment_penalty: got a batch of {flat.shape[0]}, expected at least 4")
    with torch.autocast(flat.device.type, enabled=False):
        (mean_a, cov_a), (mean_b, cov_b) = (_moments(part) for part in (flat[:half], flat[half:]))
    dimensions = flat.shape[1]
    eye = torch.eye(dimensions, device=flat.device)
    product = (mean_a * mean_b).sum() + ((cov_a - eye) * (cov_b - eye)).sum()
    return product / dimensions


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (d,) and unbiased covariance (d, d) of rows (B, d), written as a product."""
    mean = x.mean(0)
    centred = x - mean
    return mean, centred.T @ centred / (x.shape[0] - 1)


# -- the penalty on a discriminator's slope ------------------------------------------------------


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
        gamma: the weight at the start.
        gamma_floor: the weight at the end, as a share of that at the start.
        target: D's loss in nats under which the weight is raised beyond that schedule, so that D
            does not run away from its opponents.
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


def as_roth(config: RothConfig | Mapping[str, Any]) -> RothConfig:
    """A config, also from what config.json has in its place."""
    return config if isinstance(config, RothConfig) else RothConfig(**config)


class RothRegularizer(nn.Module):
    """The buffer `pressure` is the factor by which the weight stands above its schedule."""

    pressure: Tensor

    def __init__(self, config: RothConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("pressure", torch.ones(()))

    def is_due(self, move: int) -> bool:
        """Whether a move of D, counted from 0, computes the penalty."""
        return move % self.config.interval == 0

    def weight(self, progress: float | Tensor) -> Tensor:
        """What the penalty of one update is multiplied by, at `progress` in [0, 1], a scalar."""
        c = self.config
        scheduled = 0.5 * c.interval * c.gamma * c.gamma_floor**progress
        if isinstance(scheduled, Tensor):
            scheduled = scheduled.to(self.pressure)
        return scheduled * self.pressure

    @torch.no_grad()
    def press(self, discriminator_loss: Tensor) -> None:
        """Raise the pressure on a D that is winning, lower it on one that is not."""
        c = self.config
        rate = c.pressure_rate * torch.sign(c.target - discriminator_loss.to(self.pressure))
        self.pressure.mul_(torch.exp(rate)).clamp_(1.0, c.pressure_limit)

    def penalty(
        self,
        discriminator: Callable[..., Tensor],
        *,
        real: Sequence[Tensor],
        fake: Sequence[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """The penalties of real and of generated inputs, scalars, in float32 under any autocast.

        On a GPU torch computes float32 convolutions in TF32, here too.

        Args:
            discriminator: from inputs to logits (B,).
            real: what D sees of the data, each (B, ...).
            fake: what D sees of its opponents, likewise.
        """
        with torch.autocast(real[0].device.type, enabled=False):
            of_real, of_fake = (
                [part.detach().float().requires_grad_() for part in inputs]
                for inputs in (real, fake)
            )
            high, low = discriminator(*of_real), discriminator(*of_fake)
            error_high, error_low = self._errors(high, low)
            return (
                roth_penalty(high, of_real, error=error_high),
                roth_penalty(low, of_fake, error=error_low),
            )

    def _errors(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """How wrong D is, by its logits of real and of generated inputs, (B,) each."""
        if self.config.penalty == "roth":
            return 1 - torch.sigmoid(real), torch.sigmoid(fake)
        if self.config.penalty == "pair":
            error = torch.sigmoid(fake - real)
            return error, error
        return torch.ones_like(real), torch.ones_like(fake)


# -- a discriminator that rests ------------------------------------------------------------------


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
    """The penalty on a D, which also sits updates out while its loss is low.

    A penalty that is weighted by D's error vanishes for a D that is sure of everything: no weight
    brings such a D back. So it rests, as in Larsen et al. (2016), arXiv:1512.09300.

    The buffer `resting` says whether D sits the next update out, `moves` how often it has moved.
    """

    resting: Tensor
    moves: Tensor

    def __init__(self, config: RothConfig, *, rest: float) -> None:
        """Make it from the penalty's config and D's loss in nats under which D rests."""
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
            loss = loss + self.roth.weight(tick.progress) * penalty
            logs |= {
                "roth": penalty.detach(),
                "roth_real": of_real.detach(),
                "roth_fake": of_fake.detach(),
            }
        return loss, logs

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


# -- games with a discriminator ------------------------------------------------------------------


@dataclass(frozen=True)
class GanConfig:
    """Weights of a game of G against D by binary cross-entropy.

    Attributes:
        roth: the penalty on D.
        rest: D's loss in nats under which D rests until the others have caught up.
    """

    roth: RothConfig = field(
        default_factory=lambda: RothConfig(gamma=2.0, gamma_floor=0.1, target=TARGET)
    )
    rest: float = 0.5 * TARGET

    def __post_init__(self) -> None:
        object.__setattr__(self, "roth", as_roth(self.roth))


class GanGame(Game):
    """A game against a D under restraint."""

    discriminator: nn.Module

    def __init__(
        self, model: nn.Module, discriminator: nn.Module, *, roth: RothConfig, rest: float
    ) -> None:
        super().__init__()
        self.model = model
        self.discriminator = discriminator
        self.restraint = Restraint(roth, rest=rest)

    @property
    def players(self) -> Sequence[Player]:
        """D moves first."""
        return (
            Player("discriminator", [self.discriminator], self.discriminator_loss, adam=True),
            Player("generator", [self.model], self.generator_loss),
        )

    def discriminator_loss(self, batch: Batch, tick: Tick) -> tuple[Tensor, Logs]:
        """What D minimises."""
        raise NotImplementedError

    def generator_loss(self, batch: Batch, tick: Tick) -> tuple[Tensor, Logs]:
        """What the other side minimises."""
        raise NotImplementedError

    def kind(self, step: int, progress: float) -> Turn:
        """What D does; by default it plays from the first update on."""
        return self.restraint.turn()

    def after_update(self, logs: Logs) -> None:
        """Restrain D by how it fared."""
        self.restraint.observe(logs)

    def contest(
        self,
        discriminator: Callable[..., Tensor],
        *,
        real: Sequence[Tensor],
        fake: Sequence[Tensor],
        tick: Tick,
    ) -> tuple[Tensor, Logs]:
        """What D minimises by `binary_loss`, with a penalty on its slope.

        Args:
            discriminator: from inputs to logits (B,).
            real: what it is to score high, each (B, ...).
            fake: what it is to score low.
            tick: of the update.
        """
        return self.restraint.loss(
            lambda: (discriminator(*real), discriminator(*fake)),
            binary_loss,
            discriminator,
            real=real,
            fake=fake,
            tick=tick,
        )
