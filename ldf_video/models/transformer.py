"""A transformer layer for the patches of frames at noise levels of their own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KeysValues = list[tuple[Tensor, Tensor]]
"""Of each layer, (B, heads, tokens, width / heads)."""


class TransformerLayer(nn.Module):
    """Attention over patches and frames, then an MLP, both modulated by a frame's noise level.

    Peebles & Xie (2023), arXiv:2212.09748, with one modulation network shared by all layers and a
    learned offset a layer (Chen et al. 2023, arXiv:2310.00426).

    Shapes: tokens (B, T, patches, width), modulation (B, T, 1, 6 * width); attention is over all
    T * patches tokens.
    """

    def __init__(self, w: int, heads: int) -> None:
        """Make a layer of tokens `w` wide, a multiple of `heads`."""
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(w, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(w, elementwise_affine=False)
        self.qkv = nn.Linear(w, 3 * w)
        self.project = nn.Linear(w, w)
        self.mlp = nn.Sequential(
            nn.Linear(w, 4 * w), nn.GELU(approximate="tanh"), nn.Linear(4 * w, w)
        )
        self.offset = nn.Parameter(torch.zeros(6 * w))

    def forward(
        self, h: Tensor, modulation: Tensor, mask: Tensor | None, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        shift1, scale1, gate1, shift2, scale2, gate2 = (modulation + self.offset).chunk(6, dim=-1)
        attended, seen = self._attend(self.norm1(h) * (1 + scale1) + shift1, mask, past)
        h = h + gate1 * attended
        h = h + gate2 * self.mlp(self.norm2(h) * (1 + scale2) + shift2)
        return h, seen

    def _attend(
        self, h: Tensor, mask: Tensor | None, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        b, t, s, w = h.shape
        parts = (b, t * s, 3, self.heads, w // self.heads)
        q, k, v = self.qkv(h).view(parts).permute(2, 0, 3, 1, 4)
        seen = (k, v)
        if past is not None:
            k, v = (torch.cat([old, new], dim=2) for old, new in zip(past, (k, v), strict=True))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.project(out.transpose(1, 2).reshape(b, t, s, w)), seen  # heads side by side
