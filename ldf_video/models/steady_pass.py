"""The passes that each block of a long video costs, with all that never changes computed before.

In a video that goes on, as much past as there is room for stands before each block, and the noise
levels of its passes are always the same. So what they say to each layer is constant. The first pass
takes the block before along, which is clean, and leaves what the later ones see of the past. They
give what the network itself gives in one pass more, in a third of the operations: on a CPU one
costs more to start than many of them have to do.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldf_video.models.condition import Condition
from ldf_video.models.flow_layers import KeysValues, KeyValue, ModulatedBlock, TransformerLayer
from ldf_video.models.flow_network import FlowNetwork
from ldf_video.models.layers import patchify, unpatchify

NEWEST, NEW = 0, slice(-1, None)
"""Roles of blocks, the first axis of a pass: one that is done, in a first pass; a noisy one."""
Told = tuple[Condition, Condition]


class SteadyPasses:
    """`remember_block` of a block, and each `velocity` that the block behind it takes.

    Of a flow that keeps its past, with the weights that it has now, of one stride for all rows.
    """

    def __init__(self, flow: FlowNetwork, condition: Condition | None = None) -> None:
        """Compute what does not change."""
        c = flow.config
        self._flow = flow
        noisy = flow.sampling_levels(c.sampling_steps)[:-1]
        levels = flow.latent_mean.new_tensor([c.context_level, *noisy]).unsqueeze(-1)
        features = flow.level_features(levels, condition)  # (1 + passes, 1, width)
        of_passes = features.split([2] + [1] * (len(noisy) - 1))
        self._passes = {u: _Pass(flow, of_u) for u, of_u in zip(noisy, of_passes, strict=True)}
        places = flow.position[c.block :].unsqueeze(1)  # (block, 1, width)
        self._place = places + flow.place if c.patches > 1 else places
        self._place = self._place + flow.embed.bias
        if c.local_width:
            self._place = self._place + flow.local.to_tokens.bias

    def after(
        self,
        newest: Tensor,
        past: KeysValues,
        *,
        told: Told | None = None,
        visible: Tensor | None = None,
    ) -> SteadyBlock:
        """The passes of a block.

        Args:
            newest: the block before it, which is done, (N, block, size).
            past: what stands before that, `reach` frames.
            told: what the frames of both blocks are told, if anything.
            visible: what is added to the attention to each frame of the past, (2, reach): for
                `newest`, and for the block, whose past ends with `newest`. None where all are seen.
        """
        c, mask = self._flow.config, None
        if visible is not None:
            own = visible.new_zeros(2, c.block)
            mask = torch.cat([visible, own], dim=1).repeat_interleave(c.patches, dim=1)
            mask = mask[:, None, None, None].expand(-1, len(newest), -1, -1, -1)
        seen = [Seen(before) for before in past]
        return SteadyBlock(self._passes, newest, seen, self._places(told), mask)

    def _places(self, told: Told | None) -> Tensor:
        """What both blocks' tokens begin with, (2, N or 1, block, patches, width)."""
        place, condition = self._place.expand(2, 1, -1, -1, -1), self._flow.condition
        if told is None or condition is None:
            return place
        of_blocks = [condition.of_frames(of_block) for of_block in told]
        known = [x for x in of_blocks if x is not None]
        if not known:
            return place
        return place + torch.stack(torch.broadcast_tensors(*known)).unsqueeze(-2)


class SteadyBlock:
    """Velocities of a block, level by level from pure noise on; see `SteadyPasses.after`."""

    def __init__(
        self,
        passes: dict[float, _Pass],
        newest: Tensor,
        seen: list[Seen],
        places: Tensor,
        mask: Tensor | None,
    ) -> None:
        self._passes, self.newest, self.seen = passes, newest, seen
        self._places, self._mask = places, mask

    def __call__(self, x: Tensor, level: float) -> Tensor:
        """The velocity of x, (N, block, size), at one of the levels."""
        is_first = self.seen[0].at_distance is None
        blocks = torch.stack([self.newest, x]) if is_first else x.unsqueeze(0)
        velocity, self.seen = self._passes[level](blocks, self.seen, self._places, self._mask)
        return velocity

    @property
    def past(self) -> KeysValues:
        """What stands before the block, `reach` frames, once its first pass is done."""
        return [seen.past for seen in self.seen]


class Seen(NamedTuple):
    """What a layer sees of the past.

    Attributes:
        past: keys and values: before a first pass what stands before both blocks, then before the
            noisy one.
        at_distance: the latter with what says how long ago each frame was, (keys and values, 1, N,
            heads, tokens, size); None before a first pass.
    """

    past: KeyValue
    at_distance: Tensor | None = None


class _Pass:
    """A pass whose levels are constant: of a block that is done and noise, or of noise alone."""

    def __init__(self, flow: FlowNetwork, level: Tensor) -> None:
        """Args: of a flow and the level features, (roles, 1, width)."""
        self._flow = flow
        modulation = flow.modulate(level).unsqueeze(1)  # (roles, 1, 1, 6 * width)
        self._layers = [
            _Layer(layer, modulation, flow.config.patches)
            for layer in flow.layers
            if isinstance(layer, TransformerLayer)
        ]
        if flow.config.local_width:
            self._before = _cells(flow.local.before, level)
            self._after = _cells(flow.local.after, level[NEW])

    def __call__(
        self, blocks: Tensor, seen: list[Seen], places: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, list[Seen]]:
        """The velocity of noise, (N, block, size), and what each layer sees of its past.

        Args:
            blocks: (roles, N, block, size).
            seen: of the past.
            places: what their tokens begin with, of both roles.
            mask: what is added to their attention, (2, N, 1, 1, keys).
        """
        flow, c, (roles, n) = self._flow, self._flow.config, blocks.shape[:2]
        grids = blocks.unflatten(-1, c.latent_shape)  # (roles, N, T, C, H, W)
        h = F.linear(patchify(grids, c.patch_shape), flow.embed.weight) + places[-roles:]
        cells = None
        if c.local_width:
            cells = flow.local.stem(grids.flatten(0, 2))  # (roles * N * T, width, H, W)
            for block in self._before:
                cells = block(cells)
            patches = patchify(cells, c.patch_shape).unflatten(0, (roles, n, c.block))
            h = h + F.linear(patches, flow.local.to_tokens.weight)
            cells = cells[-n * c.block :]
        h, after = h.flatten(2, 3), []  # (roles, N, T * patches, width)
        mask = None if mask is None else mask[-roles:].flatten(0, 1)
        for number, (layer, of_layer) in enumerate(zip(self._layers, seen, strict=True)):
            h, found = layer(h, of_layer, mask, is_last=number + 1 == len(self._layers))
            after.append(found)
        tokens = flow.norm(h[-1]).unflatten(1, (c.block, c.patches))
        velocity = unpatchify(flow.head(tokens), c.latent_shape, c.patch_shape)
        if cells is not None:
            shape = (c.local_width, *c.latent_shape[1:])
            of_tokens = unpatchify(flow.local.from_tokens(tokens), shape, c.patch_shape)
            cells = cells + of_tokens.flatten(0, 1)
            for block in self._after:
                cells = block(cells)
            velocity = velocity + flow.local.head(F.silu(cells)).unflatten(0, (n, c.block))
        return velocity.flatten(-3), after


class _Layer:
    """A transformer layer whose modulation is constant."""

    def __init__(self, layer: TransformerLayer, modulation: Tensor, patches: int) -> None:
        self._layer = layer
        shift1, scale1, gate1, shift2, scale2, gate2 = (modulation + layer.offset).chunk(6, dim=-1)
        self._of_attention = (shift1, 1 + scale1), gate1
        self._of_mlp = (shift2, 1 + scale2), gate2
        # (keys and values, 1, 1, heads, tokens, size)
        self._distance = layer.distance.repeat_interleave(patches, dim=2)[:, None, None]

    def __call__(
        self, h: Tensor, seen: Seen, mask: Tensor | None, *, is_last: bool
    ) -> tuple[Tensor, Seen]:
        """Tokens (roles, N, tokens, width), of the last layer only the noisy ones; see `_Pass`."""
        layer, (roles, n, t, w) = self._layer, h.shape
        (shift, scale), gate = self._of_attention
        normed = torch.addcmul(shift, F.layer_norm(h, (w,)), scale)
        q, *own = layer.qkv(normed).view(roles, n, t, 3, layer.heads, -1).permute(3, 0, 1, 4, 2, 5)
        own = torch.stack(own)  # (keys and values, roles, N, heads, tokens, size)
        past = seen.at_distance
        if past is None:
            before = torch.stack(seen.past)
            kept = torch.cat([before[..., t:, :], own[:, NEWEST]], dim=-2)
            past = torch.stack([before, kept], dim=1) + self._distance
            seen = Seen((kept[0], kept[1]), past[:, NEW])
        k, v = torch.cat([past, own], dim=-2)
        if is_last:
            h, q, k, v, gate = h[NEW], q[NEW], k[NEW], v[NEW], gate[NEW]
            mask = None if mask is None else mask[-n:]
        q, k, v = (part.flatten(0, 1) for part in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        out = out.transpose(1, 2).reshape(h.shape)
        h = torch.addcmul(h, gate, layer.project(out))
        (shift, scale), gate = self._of_mlp
        if is_last:
            shift, scale, gate = shift[NEW], scale[NEW], gate[NEW]
        h = torch.addcmul(h, gate, layer.mlp(torch.addcmul(shift, F.layer_norm(h, (w,)), scale)))
        return h, seen


class _Cells:
    """A block of convolutions whose modulation is constant."""

    def __init__(self, block: ModulatedBlock, level: Tensor) -> None:
        """Args: of a block and the level features, (roles, 1, width)."""
        scale, shift = block.modulate(level)[..., None, None].chunk(2, dim=2)  # (r, 1, C, 1, 1)
        weight, bias = block.norm.weight[:, None, None], block.norm.bias[:, None, None]
        self._conv, self._epsilon = block.conv, block.norm.eps
        self._scale, self._shift = weight * (1 + scale), bias * (1 + scale) + shift

    def __call__(self, x: Tensor) -> Tensor:
        """(roles * rows, C, H, W) -> the same."""
        normed = F.group_norm(x, 1, eps=self._epsilon).unflatten(0, (len(self._scale), -1))
        moved = torch.addcmul(self._shift, normed, self._scale)
        return x + self._conv(F.silu(moved, inplace=True).flatten(0, 1))


def _cells(blocks: nn.ModuleList, level: Tensor) -> list[_Cells]:
    return [_Cells(block, level) for block in blocks if isinstance(block, ModulatedBlock)]
