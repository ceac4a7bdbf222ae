"""How a flow is trained: the loss of its velocities, and the game of one player."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ldf_video.models.condition import Condition, Windows
from ldf_video.models.flow import FlowTop
from ldf_video.models.flow_config import FlowConfig
from ldf_video.models.flow_network import FlowNetwork
from ldf_video.models.game import Game, Logs, Noise, Player, Tick

UNTOLD = 0.15
"""Share of windows in training of whose frames a flow is told nothing."""
DrawLevel = Callable[[int, Noise], Tensor]
"""From a number of windows and a source of chance to a noise level each, (B, 1)."""


def logit_normal(b: int, noise: Noise) -> Tensor:
    """A noise level a window (B, 1), logit-normal (Esser et al. 2024, arXiv:2403.03206)."""
    return torch.sigmoid(noise.normal(b, 1))


class FlowGame(Game):
    """A game of one player."""

    model: FlowTop

    def __init__(self, top: FlowTop, draw_level: DrawLevel = logit_normal) -> None:
        """Make the game of a flow; `draw_level` gives the level that a window's frames share."""
        super().__init__()
        self.model, self.draw_level = top, draw_level

    @property
    def players(self) -> Sequence[Player]:
        """The flow alone."""
        return (Player("flow", [self.model], self._loss),)

    def _loss(self, batch: Windows, tick: Tick) -> tuple[Tensor, Logs]:
        latents, mask, condition = Windows(*batch)
        told = sometimes_untold(condition, len(mask), tick.noise)
        return velocity_loss(
            self.model, latents, mask, told, noise=tick.noise, draw_level=self.draw_level
        )


def sometimes_untold(condition: Condition | None, b: int, noise: Noise) -> Condition | None:
    """What b windows are told, and nothing in some of them, so that a flow also works untold.

    Where nothing is known of any frame no number is drawn.
    """
    if condition is None or condition.values is None:
        return condition
    return condition.untold(noise.uniform(b, device=condition.values.device) < UNTOLD)


def velocity_loss(
    flow: FlowNetwork,
    latents: Tensor,
    mask: Tensor,
    condition: Condition | None = None,
    *,
    noise: Noise,
    draw_level: DrawLevel = logit_normal,
) -> tuple[Tensor, Logs]:
    """Mean squared error of the velocity, over real and noisy frames.

    Rectified flow (Liu et al. 2022, arXiv:2209.03003, eq. 1): at level u a frame is
    (1 - u) x + u e, its velocity x - e.

    Args:
        flow: that is trained or measured.
        latents: (B, window, C, H, W); what stands under the mask changes nothing.
        mask: (B, window) bool, True where a frame is real; real frames come first.
        condition: what the flow is told of them.
        noise: source of levels and noise.
        draw_level: gives the level that the frames of a window share; where the past is kept it is
            always the default.

    Returns:
        A scalar, summed over what counts and divided by all frames of the batch, so that it is the
        mean of its parts' however the batch is split; to log, the mean over what counts.
    """
    b, t = mask.shape
    clean = flow.standardise(torch.where(mask[:, :, None, None, None], latents, flow.latent_mean))
    if flow.config.kept:
        return _loss_of_blocks(flow, clean, mask, condition, noise=noise)
    drawn = draw_levels(flow.config, b, t, noise, draw_level=draw_level)
    levels, counted = (part.to(clean.device) for part in drawn)
    e = flow.noise_of_blocks(b, t // flow.config.block, noise).flatten(1, 2)
    u = levels.unsqueeze(-1)
    noisy = (1 - u) * clean + u * e
    velocity = flow.window_velocity(noisy, levels, mask=mask, condition=condition)
    error = (velocity.float() - (clean - e)).square().mean(-1)  # (B, window)
    weight = (mask & counted).float()
    total = (error * weight).sum()
    velocity_error = total.detach() / weight.sum().clamp_min(1)
    return total / weight.numel(), {"velocity": velocity_error}


def _loss_of_blocks(
    flow: FlowNetwork, clean: Tensor, mask: Tensor, condition: Condition | None, *, noise: Noise
) -> tuple[Tensor, Logs]:
    """The same where the past is kept: every block counts, after its own nearly clean past.

    The network goes over a window twice, once for the keys and values of its frames and once for
    noisy blocks that look at them, each with a level of its own; in every fourth block each frame
    has one.
    """
    b, t = mask.shape
    blocks, block, device = t // flow.config.block, flow.config.block, clean.device
    e = flow.noise_of_blocks(b, blocks, noise)
    level = torch.sigmoid(noise.normal(b, blocks, 1)).expand(b, blocks, block)
    own = noise.uniform(b, blocks, 1) < 0.25
    u = torch.where(own, noise.uniform(b, blocks, block), level).to(device)
    of_past = flow.config.prefix_noise * noise.uniform(b, 1, 1) * noise.uniform(b, 1, 1)
    of_past = of_past.to(device).expand_as(u)
    x = clean.unflatten(1, (blocks, block))
    other = noise.normal(b, blocks, block, clean.shape[-1], device=device)
    past = (1 - of_past.unsqueeze(-1)) * x + of_past.unsqueeze(-1) * other
    noisy = (1 - u.unsqueeze(-1)) * x + u.unsqueeze(-1) * e
    velocity = flow.after_blocks(past, of_past, mask=mask, condition=condition)(noisy, u)
    error = (velocity.float() - (x - e)).square().mean(-1).flatten(1)
    total = (error * mask).sum()
    velocity_error = total.detach() / mask.sum().clamp_min(1)
    return total / mask.numel(), {"velocity": velocity_error}


def draw_levels(
    config: FlowConfig, b: int, t: int, noise: Noise, *, draw_level: DrawLevel = logit_normal
) -> tuple[Tensor, Tensor]:
    """Noise levels (B, T) as the sampler will meet them, and which frames count in the loss.

    In equal parts: one level for the whole window; a nearly clean past of random length with one
    level after it; an independent level a frame.
    """
    shared = draw_level(b, noise).expand(b, t)
    blocks = t // config.block
    prefix = config.block * (1 + (noise.uniform(b, 1) * (blocks - 1)).floor())
    past = torch.arange(t) < prefix  # (B, T)
    nearly_clean = config.prefix_noise * noise.uniform(b, 1) * noise.uniform(b, 1)
    continued = torch.where(past, nearly_clean, shared)
    part = noise.uniform(b, 1) * 3
    levels = torch.where(part < 1, shared, torch.where(part < 2, continued, noise.uniform(b, t)))
    return levels, ~(past & (part >= 1) & (part < 2))
