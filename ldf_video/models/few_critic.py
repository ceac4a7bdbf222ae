"""What judges the windows that a student of few passes makes."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldf_video.models.condition import Condition
from ldf_video.models.flow_config import FlowConfig
from ldf_video.models.flow_network import FlowNetwork


class Critic(nn.Module):
    """Scores windows by a flow's own features, at every cell and every patch of every frame.

    It begins with the flow's weights, which know what moves and what belongs together at any level
    of noise (Sauer et al. 2024, arXiv:2403.12015). A block is scored after the blocks before it.
    """

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        if not config.local_width:
            raise ValueError("a critic: expected a flow with convolutions (local_width)")
        self.flow = FlowNetwork(replace(config, kept=True))
        del self.flow.head, self.flow.local.head  # no velocities are asked for
        self.of_cell = nn.Conv2d(config.local_width, 1, 1)
        self.of_patch = nn.Linear(config.width, 1)

    def forward(self, blocks: Tensor, level: Tensor, condition: Condition | None = None) -> Tensor:
        """Logits.

        Args:
            blocks: noisy windows, (B, blocks, block, size), standardised.
            level: their noise, (B,).
            condition: what it is told of them.

        Returns:
            (B, blocks * block, cells + patches).
        """
        flow, (b, n, block, _) = self.flow, blocks.shape
        visible = flow.visible(torch.ones(b, n * block, dtype=torch.bool, device=blocks.device))
        told = None if condition is None else condition.frames(0, n * block).repeated(n)
        of_level = flow.level_features(level.repeat_interleave(n)[:, None], told)
        of_level = of_level.expand(-1, block, -1)
        first = flow.first_of_blocks(b, n)
        tokens, cells, _ = flow.features(
            blocks.flatten(0, 1), of_level, condition=told, first=first, mask=visible, sequence=n
        )
        assert cells is not None
        tokens = flow.norm(tokens)
        joined = flow.local.join(cells, tokens, of_level)
        of_cells = self.of_cell(F.silu(joined)).flatten(1)  # (B * blocks * block, cells)
        of_patches = self.of_patch(tokens).squeeze(-1).flatten(0, 1)
        return torch.cat([of_cells, of_patches], dim=1).unflatten(0, (b, n * block))
