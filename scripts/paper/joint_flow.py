"""The other baseline: one rectified flow of whole clips in pixels, its frames stacked as channels.

The network is that of the default top model, given a clip as if it were one frame of 15 channels;
the loss is that of a rectified flow (Liu et al. 2022, arXiv:2209.03003, eq. 1) at logit-normal
levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from experiment import Clips, spread
from joint import JointLevel, to_clips
from torch import Tensor

from ldf_video.levels.latents import video_generator
from ldf_video.models.flow import FlowTop
from ldf_video.models.flow_config import FlowConfig
from ldf_video.models.flow_loss import logit_normal
from ldf_video.models.game import Game, Logs, Part, Player, Tick
from ldf_video.models.rollout import Rollout
from ldf_video.video.pixels import from_model
from ldf_video.video.sheet import write_sheet

FRAMES_OF_STATISTICS = 2_000
AT_ONCE, SHOWN = 64, 16


def joint_flow(clips: Clips) -> FlowTop:
    """A fresh flow of clips (N, T, H, W, 3)."""
    _, t, h, w, c = clips.shape
    # It has one block, the clip; a window of two is the least that a config allows.
    config = FlowConfig(latent_shape=(t * c, h, w), window=2, block=1, local_width=32)
    flow = FlowTop(config)
    some = to_clips(clips[:: max(1, len(clips) // FRAMES_OF_STATISTICS)]).flatten(1, 2)
    flow.set_statistics(some.mean(0), some.std(0))
    return flow


class JointFlowGame(Game):
    """A game of one player, on batches of clips (B, T, 3, H, W) in [-1, 1]."""

    model: FlowTop

    def __init__(self, flow: FlowTop) -> None:
        super().__init__()
        self.model = flow

    @property
    def players(self) -> Sequence[Player]:
        """The flow alone."""
        return (Player("flow", [self.model], self.loss),)

    def loss(self, clips: Tensor, tick: Tick) -> tuple[Tensor, Logs]:
        """Mean squared error of the velocity x - e at (1 - u) x + u e."""
        x = self.model.standardise(clips.flatten(1, 2)[:, None])  # (B, 1, size)
        u, e = logit_normal(len(x), tick.noise), tick.noise.normal(*x.shape)
        noisy = (1 - u[..., None]) * x + u[..., None] * e
        error = self.model.velocity(noisy, u).float() - (x - e)
        loss = error.square().mean()
        return loss, {"velocity": loss.detach()}


class JointFlowLevel(JointLevel):
    """The flow as the training loop sees it."""

    def batch(self, step: int, part: Part, device: torch.device) -> Any:
        """Random clips (B, T, 3, H, W) in [-1, 1]."""
        return super().batch(step, part, device).contiguous()

    def evaluate(self, model: Any) -> Mapping[str, float]:
        """How far made clips are from each other, as a share of how far real ones are."""
        return {"spread": spread(sample(model, SHOWN, seed=0)) / spread(self.clips[:SHOWN])}

    def draw(self, model: Any, path: Path) -> Any:
        """Made clips, a row each."""
        return write_sheet(path.with_suffix(".png"), list(sample(model, SHOWN, seed=0)), upscale=2)


def sample(model: FlowTop, count: int, *, seed: int) -> Clips:
    """Clips (count, T, H, W, 3), in as many passes as a first block takes."""
    channels, height, width = model.config.latent_shape
    parts = []
    for start in range(0, count, AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, count))
        generators = [video_generator(seed, number) for number in numbers]
        (clips,) = model.sample(Rollout(1), generators)
        frames = from_model(clips.reshape(-1, 3, height, width))
        parts.append(frames.reshape(len(numbers), channels // 3, height, width, 3))
    return np.concatenate(parts)
