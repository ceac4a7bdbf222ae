"""The layers of a flow: a transformer over patches of frames, and convolutions around it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldf_video.models.layers import patchify, unpatchify

KeyValue = tuple[Tensor, Tensor]
"""Each (B, heads, tokens, width / heads)."""
KeysValues = list[KeyValue]
"""Of each layer."""


def earlier(of_blocks: KeyValue, *, blocks: int, tokens: int) -> KeyValue:
    """What stands before each block of sequences; zeros before their beginning.

    Args:
        of_blocks: keys and values, (B * blocks, heads, tokens of a block, size).
        blocks: of a sequence.
        tokens: that a block looks back, a multiple of those of a block.

    Returns:
        (B * blocks, heads, tokens, size) each.
    """
    keys, values = (_earlier(x.unflatten(0, (-1, blocks)), tokens) for x in of_blocks)
    return keys, values


def _earlier(x: Tensor, tokens: int) -> Tensor:
    """(B, blocks, heads, n, size) -> (B * blocks, heads, tokens, size)."""
    blocks, n = x.shape[1], x.shape[3]
    line = x.movedim(1, 2).flatten(2, 3)  # (B, heads, blocks * n, size)
    padded = F.pad(line, (0, 0, tokens, 0))
    rows = [padded[:, :, i * n : i * n + tokens] for i in range(blocks)]
    return torch.stack(rows, dim=1).flatten(0, 1)


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Scaled dot-product attention, (B, heads, n, size) each; `mask` is True where a key is seen.

    Written out where a CPU learns in half precision: there the backward pass of torch's own takes
    several times as long (docs/log.md, "Attention in half precision on a CPU").
    """
    learns = torch.is_grad_enabled() and q.requires_grad
    if not (learns and q.device.type == "cpu" and q.dtype in (torch.bfloat16, torch.float16)):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return scores.float().softmax(-1).to(v.dtype) @ v


class TransformerLayer(nn.Module):
    """Attention over patches and frames, then an MLP, both modulated by a frame's noise level.

    Peebles & Xie (2023), arXiv:2212.09748, with one modulation network shared by all layers and a
    learned offset a layer (Chen et al. 2023, arXiv:2310.00426).

    With a `reach`, what a frame was is known by how long ago it was and by nothing else: keys and
    values of the past get a learned vector a frame of distance when they are looked at (Shaw et al.
    2018, arXiv:1803.02155), so that they are computed once, whatever the block that looks at them.

    Shapes: tokens (B, T, patches, width), modulation (B, T, 1, 6 * width); attention is over all
    T * patches tokens.
    """

    def __init__(self, w: int, heads: int, *, reach: int = 0) -> None:
        """Make a layer of tokens `w` wide, a multiple of `heads`; `reach` frames of a past."""
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
        if reach:
            self.distance = nn.Parameter(torch.zeros(2, heads, reach, w // heads))  # newest last

    def forward(
        self,
        h: Tensor,
        modulation: Tensor,
        mask: Tensor | None,
        past: KeyValue | None,
        *,
        sequence: int = 0,
    ) -> tuple[Tensor, KeyValue]:
        """One layer.

        Args:
            h: tokens.
            modulation: by the noise level.
            mask: True where a token sees a key, for all heads.
            past: keys and values that all tokens see, beside their own.
            sequence: where it is not 0, so many rows in turn are the blocks of one sequence, and
                each sees what stands before it and nothing else.

        Returns:
            Tokens; their keys and values, or with a `sequence` those of each row's past.
        """
        shift1, scale1, gate1, shift2, scale2, gate2 = (modulation + self.offset).chunk(6, dim=-1)
        attended, seen = self._attend(self.norm1(h) * (1 + scale1) + shift1, mask, past, sequence)
        h = h + gate1 * attended
        h = h + gate2 * self.mlp(self.norm2(h) * (1 + scale2) + shift2)
        return h, seen

    def _attend(
        self, h: Tensor, mask: Tensor | None, past: KeyValue | None, sequence: int
    ) -> tuple[Tensor, KeyValue]:
        b, t, s, w = h.shape
        parts = (b, t * s, 3, self.heads, w // self.heads)
        q, k, v = self.qkv(h).view(parts).permute(2, 0, 3, 1, 4)
        seen = (k, v)
        if sequence:
            tokens = self.distance.shape[2] * s
            past = seen = earlier((k, v), blocks=sequence, tokens=tokens)
        if past is not None:
            if hasattr(self, "distance"):
                past = self._at_distance(past, s)
            k, v = (torch.cat([old, new], dim=2) for old, new in zip(past, (k, v), strict=True))
        out = attention(q, k, v, mask)
        return self.project(out.transpose(1, 2).reshape(b, t, s, w)), seen  # heads side by side

    def _at_distance(self, past: KeyValue, patches: int) -> KeyValue:
        """Keys and values of a past with what says how long ago each frame was."""
        keys, values = past
        frames = keys.shape[2] // patches
        distance = self.distance[:, :, -frames:].to(keys.dtype)
        of_keys, of_values = distance.repeat_interleave(patches, dim=2)
        return keys + of_keys, values + of_values


class ModulatedBlock(nn.Module):
    """Pre-activation residual block of one convolution, modulated by the noise level.

    Shapes: (B, channels, H, W) and levels (B, level_width), or (1, level_width) where all frames
    have one, -> (B, channels, H, W).
    """

    def __init__(self, channels: int, level_width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, channels)
        self.modulate = nn.Linear(level_width, 2 * channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        scale, shift = self.modulate(level)[:, :, None, None].chunk(2, dim=1)
        return x + self.conv(F.silu(self.norm(x) * (1 + scale) + shift))


class LocalPath(nn.Module):
    """A way around the transformer on which a cell sees its neighbours in its own frame.

    Convolutions learn once what looks the same at all places; the transformer learns how frames and
    patches belong together. Convolutions stand before the transformer (`encode`) and after it
    (`decode`), and features go from one to the other directly (as in U-ViT, Bao et al. 2023,
    arXiv:2209.12152, and Hoogeboom et al. 2023, arXiv:2301.11093).

    At initialisation `encode` adds nothing to the tokens and `decode` gives zero.
    """

    def __init__(
        self,
        latent_shape: tuple[int, int, int],
        patch_shape: tuple[int, int],
        *,
        token_width: int,
        width: int,
        depth: int,
    ) -> None:
        """Make the networks.

        Args:
            latent_shape: of one frame, (channels, rows, columns).
            patch_shape: rows and columns of cells in a token.
            token_width: of the transformer, and of the noise level's features.
            width: channels of a cell.
            depth: blocks on each side of the transformer.
        """
        super().__init__()
        channels, rows, columns = latent_shape
        self._shape, self._patch_shape = (width, rows, columns), patch_shape
        size = width * math.prod(patch_shape)
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        self.before = nn.ModuleList([ModulatedBlock(width, token_width) for _ in range(depth)])
        self.to_tokens = nn.Linear(size, token_width)
        self.from_tokens = nn.Linear(token_width, size)
        self.after = nn.ModuleList([ModulatedBlock(width, token_width) for _ in range(depth)])
        self.head = nn.Conv2d(width, channels, 3, padding=1)
        for layer in (self.to_tokens, self.head):
            assert layer.bias is not None
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def encode(self, grids: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """What the cells say before the transformer.

        Args:
            grids: (B, T, C, H, W), standardised and noisy.
            level: features of the noise level, (B, T, token_width) or (1, 1, token_width).

        Returns:
            Features (B * T, width, H, W) for `decode`, and what to add to the tokens
            (B, T, patches, token_width).
        """
        features = self.stem(grids.flatten(0, 1))
        for block in self.before:
            features = block(features, level.flatten(0, 1))
        patches = patchify(features.unflatten(0, grids.shape[:2]), self._patch_shape)
        return features, self.to_tokens(patches)

    def decode(self, features: Tensor, tokens: Tensor, level: Tensor) -> Tensor:
        """What the cells add to the transformer's velocities (B, T, C, H, W); see `join`."""
        joined = self.join(features, tokens, level)
        return self.head(F.silu(joined)).unflatten(0, tokens.shape[:2])

    def join(self, features: Tensor, tokens: Tensor, level: Tensor) -> Tensor:
        """Features (B * T, width, H, W) of cells that know what the transformer found.

        Args:
            features: of `encode`.
            tokens: that leave the transformer, normed, (B, T, patches, token_width).
            level: as in `encode`.
        """
        of_tokens = unpatchify(self.from_tokens(tokens), self._shape, self._patch_shape)
        features = features + of_tokens.flatten(0, 1)
        for block in self.after:
            features = block(features, level.flatten(0, 1))
        return features
