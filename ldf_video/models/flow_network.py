"""The flow's network: the velocity of noisy frames after a past, and what it keeps of that past.

A block-causal transformer over the patches of frames, each frame with a noise level of its own
(Diffusion Forcing, Chen et al. 2024, arXiv:2407.01392). A pass is `velocity`: noisy frames, their
levels and the past they follow. What frames leave for later ones is a past: keys and values a
layer, which `remember_block` or `remember_window` computes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldf_video.models.condition import Condition, ConditionFeatures
from ldf_video.models.flow_config import ColumnConfig, FlowConfig
from ldf_video.models.flow_layers import KeysValues, LocalPath, TransformerLayer
from ldf_video.models.game import Noise
from ldf_video.models.layers import fourier_features, patchify, unpatchify
from ldf_video.models.top import TopModel


class Features(NamedTuple):
    """What a pass finds in frames before its last layers.

    Attributes:
        tokens: that leave the transformer, (B, T, patches, width), not yet through `norm`.
        cells: features that go around it, (B * T, local_width, rows, columns); None without
            `local_width`.
        past: keys and values of each layer: the frames' own, or with a `sequence` those of what
            stands before each row.
    """

    tokens: Tensor
    cells: Tensor | None
    past: KeysValues


class FlowNetwork(TopModel):
    """Velocities of noisy frames, (B, T, size) with `size` numbers a frame, standardised."""

    config: FlowConfig

    def __init__(self, config: FlowConfig) -> None:
        super().__init__(config)
        size, w = config.latent_shape[0] * math.prod(config.patch_shape), config.width
        self.embed = nn.Linear(size, w)
        self.position = nn.Parameter(
            0.02 * torch.randn(2 * config.block if config.kept else config.window, w)
        )
        if config.patches > 1:
            self.place = nn.Parameter(0.02 * torch.randn(config.patches, w))
        if config.local_width:
            self.local = LocalPath(
                config.latent_shape,
                config.patch_shape,
                token_width=w,
                width=config.local_width,
                depth=config.local_depth,
            )
        self.level = nn.Sequential(nn.Linear(16, w), nn.SiLU(), nn.Linear(w, w), nn.SiLU())
        self.condition: ConditionFeatures | None = None
        if config.strides != (1,) or config.columns:
            self.condition = ConditionFeatures(config)
        self.modulate = nn.Linear(w, 6 * w)
        self.layers = nn.ModuleList(
            [
                TransformerLayer(w, config.heads, reach=config.reach if config.kept else 0)
                for _ in range(config.depth)
            ]
        )
        self.norm = nn.LayerNorm(w)
        self.head = nn.Linear(w, size)
        for linear in (self.modulate, self.head):  # the identity, and velocity zero, at the start
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)

    @property
    def strides(self) -> tuple[int, ...]:
        return self.config.strides

    @property
    def columns(self) -> tuple[ColumnConfig, ...]:
        return self.config.columns

    # -- a pass ----------------------------------------------------------------------------------

    def velocity(
        self,
        frames: Tensor,
        levels: Tensor,
        *,
        condition: Condition | None = None,
        past: KeysValues | None = None,
        first: int | Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """One pass: from noisy frames to the direction of the data.

        Args:
            frames: (B, T, size), standardised.
            levels: of their noise, (B, T), or (1, 1) where all frames have one.
            condition: what it is told of them, and of each of these frames.
            past: what stands before the first of them and all of them see, if anything does.
            first: number of the first frame in its window, or of each row's, (B,). By default the
                one that follows the past: 0 without one, and always `block` where it is `kept`.
            mask: which frames see which, the past's first, (T, T) or (B, T, past + T); None where
                all see all.

        Returns:
            Velocities like `frames`.
        """
        level = self._levels(frames, levels, condition)
        found = self.features(frames, level, condition=condition, past=past, first=first, mask=mask)
        return self._head(found.tokens, found.cells, level)

    def window_velocity(
        self, frames: Tensor, levels: Tensor, *, mask: Tensor, condition: Condition | None = None
    ) -> Tensor:
        """The same of whole windows (B, T, size), T at most `window`, blocks seeing the past."""
        t = frames.shape[1]
        itself = torch.eye(t, dtype=torch.bool, device=frames.device)
        seen = (self._causal(t) & mask[:, None, :]) | itself  # (B, T, T); no row is empty
        return self.velocity(frames, levels, mask=seen, condition=condition)

    def after_blocks(
        self, past: Tensor, levels: Tensor, *, mask: Tensor, condition: Condition | None = None
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """The network on all blocks of windows, each after the blocks before it.

        Args:
            past: what later blocks see of each block, (B, blocks, block, size), standardised.
            levels: of its noise, (B, blocks, block).
            mask: real frames, (B, blocks * block).
            condition: what it is told of the windows.

        Returns:
            From noisy blocks like `past`, and their levels like `levels`, to their velocities.
        """
        b, blocks, block, _ = past.shape
        visible, first = self.visible(mask), self.first_of_blocks(b, blocks)
        told = None if condition is None else condition.repeated(blocks)
        level = self.level_features(levels.flatten(0, 1), told)
        flat = past.flatten(0, 1)
        seen = self.features(
            flat, level, condition=told, first=block, mask=visible, sequence=blocks
        ).past

        def velocities(noisy: Tensor, levels: Tensor) -> Tensor:
            x, u = noisy.flatten(0, 1), levels.flatten(0, 1)
            found = self.velocity(x, u, condition=told, past=seen, first=first, mask=visible)
            return found.unflatten(0, (-1, blocks))

        return velocities

    # -- what blocks leave for later ones --------------------------------------------------------

    def remember_block(
        self, block: Tensor, past: KeysValues | None, condition: Condition | None = None
    ) -> KeysValues:
        """The newest `reach` frames, once a block (N, block, size) stands behind a past.

        Each block's keys and values are computed here, at `context_level`, and never again.
        """
        level = self._levels(block, block.new_full((1, 1), self.config.context_level), condition)
        new = self.features(
            block, level, condition=condition, past=past, first=self.config.block
        ).past
        if past is None:
            return new
        kept = self.config.reach * self.config.patches
        return [
            (torch.cat([k, of_k], dim=2)[:, :, -kept:], torch.cat([v, of_v], dim=2)[:, :, -kept:])
            for (k, v), (of_k, of_v) in zip(past, new, strict=True)
        ]

    def remember_window(self, frames: Tensor, condition: Condition | None = None) -> KeysValues:
        """A past (N, T, size) computed anew, at `context_level`; where it is not `kept`."""
        level = self._levels(frames, frames.new_full((1, 1), self.config.context_level), condition)
        mask = self._causal(frames.shape[1])
        return self.features(frames, level, condition=condition, mask=mask).past

    def is_full(self, past: KeysValues) -> bool:
        """Whether as much of the past is seen as there is room for."""
        return past[0][0].shape[2] == self.config.reach * self.config.patches

    # -- what noise is ---------------------------------------------------------------------------

    def mixed(self, shared: Tensor, own: Tensor) -> Tensor:
        """Noise of variance 1 for the frames of blocks, part of it the same in a block's frames.

        Args:
            shared: N(0, 1), (..., 1, size).
            own: N(0, 1), (..., block, size).
        """
        share = self.config.shared_noise
        return math.sqrt(share) * shared + math.sqrt(1 - share) * own

    def noise_of_blocks(self, b: int, blocks: int, noise: Noise) -> Tensor:
        """Such noise for a batch of windows, (B, blocks, block, size)."""
        size, device = self.latent_mean.numel(), self.latent_mean.device
        shared = noise.normal(b, blocks, 1, size, device=device)
        return self.mixed(shared, noise.normal(b, blocks, self.config.block, size, device=device))

    def sampling_levels(self, steps: int) -> list[float]:
        """Noise levels that a block passes through in a number of steps, from 1 to 0."""
        shift = self.config.level_shift
        even = (1 - step / steps for step in range(steps + 1))
        return [shift * u / (1 + (shift - 1) * u) for u in even]

    # -- the parts of a pass ---------------------------------------------------------------------

    def level_features(self, levels: Tensor, condition: Condition | None = None) -> Tensor:
        """What the network knows of noise levels (B, ...), and is told of windows (B,).

        Returns:
            (B, ..., width). Where one of the two is the same for all, its B may be 1.
        """
        of_levels = self.level(fourier_features(levels, 8))
        if self.condition is None:
            return of_levels
        told = self.condition(condition)
        if told is None:
            return of_levels
        return of_levels + told.view(len(told), *(1,) * (levels.ndim - 1), -1)

    def _levels(self, frames: Tensor, levels: Tensor, condition: Condition | None) -> Tensor:
        """The same of frames (B, T, size), as `features` takes it."""
        found = self.level_features(levels, condition)
        return found if len(found) == 1 else found.expand(-1, frames.shape[1], -1)

    def features(
        self,
        frames: Tensor,
        level: Tensor,
        *,
        condition: Condition | None = None,
        past: KeysValues | None = None,
        first: int | Tensor | None = None,
        mask: Tensor | None = None,
        sequence: int = 0,
    ) -> Features:
        """All of a pass but its last layers.

        Args:
            frames: as of `velocity`, and so are `past`, `first` and `mask`.
            level: of `level_features`, (B, T, width) or (1, 1, width).
            condition: of whose frames' values what they say is added to the frames' tokens.
            past: see there.
            first: see there.
            mask: see there.
            sequence: where it is not 0, so many rows in turn are the blocks of one sequence; see
                `TransformerLayer`.
        """
        c = self.config
        noisy = frames.unflatten(-1, c.latent_shape)
        h, cells = self.embed(patchify(noisy, c.patch_shape)), None
        if c.local_width:
            cells, of_cells = self.local.encode(noisy, level)
            h = h + of_cells
        first = self._first_after(past) if first is None else first
        number = torch.as_tensor(first, device=h.device).unsqueeze(-1)
        number = number + torch.arange(frames.shape[1], device=h.device)  # (T,) or (B, T)
        h = h + self.position[number].unsqueeze(-2)
        if c.patches > 1:
            h = h + self.place
        told = None if self.condition is None else self.condition.of_frames(condition)
        if told is not None:
            h = h + told.unsqueeze(-2)
        modulation = self.modulate(level).unsqueeze(2)
        if mask is not None:  # of frames -> (..., 1, tokens, keys), for all heads
            mask = mask.repeat_interleave(c.patches, -1).repeat_interleave(c.patches, -2)
            mask = mask.unsqueeze(-3)
        seen: KeysValues = []
        for i, layer in enumerate(self.layers):
            of_layer = None if past is None else past[i]
            h, keys_values = layer(h, modulation, mask, of_layer, sequence=sequence)
            seen.append(keys_values)
        return Features(h, cells, seen)

    def first_of_blocks(self, b: int, blocks: int) -> Tensor:
        """Numbers (B * blocks,) of the first frames of blocks: only a window's first has 0."""
        later = torch.arange(blocks, device=self.position.device) > 0
        return self.config.block * later.repeat(b)

    def visible(self, mask: Tensor) -> Tensor:
        """Which frames of its past and of itself each frame of the blocks of windows sees.

        Args:
            mask: real frames, (B, blocks * block).

        Returns:
            (B * blocks, block, reach + block) bool; no row is empty.
        """
        block, reach = self.config.block, self.config.reach
        known = torch.cat([mask.new_zeros(mask.shape[0], reach), mask], dim=1)
        seen = known.unfold(1, reach + block, block).flatten(0, 1)  # (B * blocks, reach + block)
        itself = F.pad(torch.eye(block, dtype=torch.bool, device=mask.device), (reach, 0))
        return seen[:, None] | itself

    def _first_after(self, past: KeysValues | None) -> int:
        if past is None:
            return 0
        return self.config.block if self.config.kept else past[0][0].shape[2] // self.config.patches

    def _head(self, tokens: Tensor, cells: Tensor | None, level: Tensor) -> Tensor:
        """Velocities (B, T, size) from what `features` gives."""
        c, tokens = self.config, self.norm(tokens)
        velocities = unpatchify(self.head(tokens), c.latent_shape, c.patch_shape)
        if cells is not None:
            velocities = velocities + self.local.decode(cells, tokens, level)
        return velocities.flatten(-3)

    def _causal(self, t: int) -> Tensor:
        """Which frames (T, T) see which: those of their own block and of earlier ones."""
        block = torch.arange(t, device=self.position.device) // self.config.block
        return block[:, None] >= block[None, :]
