"""Convolutions over the cells of single frames, around a transformer over their patches."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from ldf_video.models.layers import patchify, unpatchify


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

    What looks the same wherever it lies is learned once here, and not anew by each patch and place
    in it; the transformer says how frames and patches belong together. What enters and what leaves
    the transformer passes through convolutions, and features go from one to the other directly (as
    in U-ViT, Bao et al. 2023, arXiv:2209.12152, and Hoogeboom et al. 2023, arXiv:2301.11093).

    `enter` adds nothing to the tokens and `leave` gives zero at initialisation.
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

    def enter(self, grids: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """What the cells say before the transformer.

        Args:
            grids: (B, T, C, H, W), standardised and noisy.
            level: features of the noise level, (B, T, token_width) or (1, 1, token_width).

        Returns:
            Features (B * T, width, H, W) for `leave`, and what to add to the tokens
            (B, T, patches, token_width).
        """
        features = self.stem(grids.flatten(0, 1))
        for block in self.before:
            features = block(features, level.flatten(0, 1))
        patches = patchify(features.unflatten(0, grids.shape[:2]), self._patch_shape)
        return features, self.to_tokens(patches)

    def leave(self, features: Tensor, tokens: Tensor, level: Tensor) -> Tensor:
        """What the cells add to the transformer's velocities (B, T, C, H, W).

        Args:
            features: of `enter`.
            tokens: that leave the transformer, normed, (B, T, patches, token_width).
            level: as in `enter`.
        """
        told = unpatchify(self.from_tokens(tokens), self._shape, self._patch_shape)
        features = features + told.flatten(0, 1)
        for block in self.after:
            features = block(features, level.flatten(0, 1))
        return self.head(F.silu(features)).unflatten(0, tokens.shape[:2])
