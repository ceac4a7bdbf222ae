"""The pass that each block of a long video costs, with all that never changes computed before.

In a video that goes on, the first pass of a block is always of one kind: the block before it is
clean, the block itself pure noise, and as much past as there is room for stands before both. So
what the noise levels say to each layer is constant. The pass gives what the network itself gives in
two, in a third of the operations: on a CPU one costs more to start than many of them have to do.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldf_video.models.condition import Condition
from ldf_video.models.flow_layers import KeysValues, ModulatedBlock, TransformerLayer
from ldf_video.models.flow_network import FlowNetwork
from ldf_video.models.layers import patchify, unpatchify

NEWEST, NEW = 0, 1
"""The two blocks of a pass, in this order along the first axis: the one that is done, and noise."""


class SteadyPass:
    """`remember_block` of a block and `velocity` of the noise behind it, in one pass.

    Of a flow that keeps its past, with the weights that it has now, of one stride for all rows.
    """

    def __init__(self, flow: FlowNetwork, condition: Condition | None = None) -> None:
        """Compute what does not change."""
        c = flow.config
        self._flow = flow
        levels = flow.latent_mean.new_tensor([[c.context_level], [1.0]])
        level = flow.level_features(levels, condition)  # (2, 1, width)
        places = flow.position[c.block :].unsqueeze(1)  # (block, 1, width)
        self._place = places + flow.place if c.patches > 1 else places
        self._place = self._place + flow.embed.bias
        modulation = flow.modulate(level).unsqueeze(1)  # (2, 1, 1, 6 * width)
        self._layers = [_Layer(layer, modulation, c.patches) for layer in _layers(flow)]
        if c.local_width:
            self._place = self._place + flow.local.to_tokens.bias
            self._before = [_Cells(block, level) for block in _blocks(flow.local.before)]
            self._after = [_Cells(block, level[NEW:]) for block in _blocks(flow.local.after)]

    def __call__(
        self,
        newest: Tensor,
        x: Tensor,
        past: KeysValues,
        *,
        told: tuple[Condition, Condition] | None = None,
        visible: Tensor | None = None,
    ) -> tuple[Tensor, KeysValues]:
        """A pass.

        Args:
            newest: the block that is done, (N, block, size).
            x: noise for the block behind it.
            past: what stands before both, `reach` frames.
            told: what the frames of both blocks are told, if anything.
            visible: what is added to the attention to each frame of the past, (2, reach): for
                `newest`, and for x, whose past ends with `newest`. None where all are seen.

        Returns:
            The velocity of x; what stands before x, `reach` frames.
        """
        flow, c, n = self._flow, self._flow.config, len(x)
        both = torch.stack([newest, x]).unflatten(-1, c.latent_shape)  # (2, N, T, C, H, W)
        h = F.linear(patchify(both, c.patch_shape), flow.embed.weight) + self._place
        if told is not None:
            h = self._with_told(h, told)
        cells = None
        if c.local_width:
            cells = flow.local.stem(both.flatten(0, 2))  # (2 N T, width, H, W)
            for block in self._before:
                cells = block(cells)
            patches = patchify(cells, c.patch_shape).unflatten(0, (2, n, c.block))
            h = h + F.linear(patches, flow.local.to_tokens.weight)
            cells = cells[len(cells) // 2 :]
        h, seen = h.flatten(2, 3), []  # (2, N, T * patches, width)
        mask = None
        if visible is not None:
            own = visible.new_zeros(2, c.block)
            mask = torch.cat([visible, own], dim=1).repeat_interleave(c.patches, dim=1)
            mask = mask[:, None, None, None]  # (2, N, heads, tokens, keys)
        for number, layer in enumerate(self._layers):
            h, kept = layer(h, past[number], mask, is_last=number + 1 == len(self._layers))
            seen.append(kept)
        tokens = flow.norm(h[-1]).unflatten(1, (c.block, c.patches))
        velocity = unpatchify(flow.head(tokens), c.latent_shape, c.patch_shape)
        if cells is not None:
            shape = (c.local_width, *c.latent_shape[1:])
            of_tokens = unpatchify(flow.local.from_tokens(tokens), shape, c.patch_shape)
            cells = cells + of_tokens.flatten(0, 1)
            for block in self._after:
                cells = block(cells)
            velocity = velocity + flow.local.head(F.silu(cells)).unflatten(0, (n, c.block))
        return velocity.flatten(-3), seen

    def _with_told(self, h: Tensor, told: tuple[Condition, Condition]) -> Tensor:
        """Tokens of both blocks, (2, N, T, patches, width), and what their frames are told."""
        if self._flow.condition is None:
            return h
        of_blocks = [self._flow.condition.of_frames(condition) for condition in told]
        if all(of_block is None for of_block in of_blocks):
            return h
        parts = [
            part if of_block is None else part + of_block.unsqueeze(-2)
            for part, of_block in zip(h, of_blocks, strict=True)
        ]
        return torch.stack(parts)


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
        self, h: Tensor, past: tuple[Tensor, Tensor], mask: Tensor | None, *, is_last: bool
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Tokens of both blocks, (2, N, tokens, width), of the last layer only those of the new."""
        layer, (_, n, t, w) = self._layer, h.shape
        (shift, scale), gate = self._of_attention
        parts = (2, n, t, 3, layer.heads, w // layer.heads)
        normed = torch.addcmul(shift, F.layer_norm(h, (w,)), scale)
        q, *own = layer.qkv(normed).view(parts).permute(3, 0, 1, 4, 2, 5)
        own = torch.stack(own)  # (keys and values, 2, N, heads, tokens, size)
        before = torch.stack(past)
        kept = torch.cat([before[..., t:, :], own[:, NEWEST]], dim=-2)
        k, v = torch.cat([torch.stack([before, kept], dim=1) + self._distance, own], dim=-2)
        if is_last:
            h, q, k, v, gate = h[NEW:], q[NEW:], k[NEW:], v[NEW:], gate[NEW:]
            mask = None if mask is None else mask[NEW:]
        if mask is not None:
            mask = mask.expand(-1, n, -1, -1, -1).flatten(0, 1)
        q, k, v = (part.flatten(0, 1) for part in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        out = out.transpose(1, 2).reshape(h.shape)
        h = torch.addcmul(h, gate, layer.project(out))
        (shift, scale), gate = self._of_mlp
        if is_last:
            shift, scale, gate = shift[NEW:], scale[NEW:], gate[NEW:]
        h = torch.addcmul(h, gate, layer.mlp(torch.addcmul(shift, F.layer_norm(h, (w,)), scale)))
        return h, (kept[0], kept[1])


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


def _layers(flow: FlowNetwork) -> list[TransformerLayer]:
    return [layer for layer in flow.layers if isinstance(layer, TransformerLayer)]


def _blocks(blocks: nn.ModuleList) -> list[ModulatedBlock]:
    return [block for block in blocks if isinstance(block, ModulatedBlock)]
