"""E as a CPU computes it quickest, without gradients: the same function in fewer passes.

The convolutions are all that has to be computed, and oneDNN's reach what a core can. What lies
between them reads and writes memory: here less often, in place, and in parts of a batch that stay
near the core. It agrees with E to rounding (1e-5; tests/test_inference.py).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldf_video.models.grid import GridEncoder
from ldf_video.models.layers import Down, NormedBlock, pad_to_multiple

_MOST_PIXELS = 2**17
"""Of frames that pass through E together: 128 of 32 x 32, 32 of 64 x 64. Fewer use the weights less
often than they are read; with more, what lies between layers is out of reach of the caches."""
_NARROW = 8
"""Channels of a group; with fewer torch's GroupNorm takes several times as long as it should."""


class GridInference(nn.Module):
    """E of a grid model, for inference on a CPU: frames (B, 3, H, W) -> latents (B, C, h, w).

    The weights of its cells are copies, all others are E's own: it is for an E that learns no more.
    All parts of a batch have the same size, so that a latent does not depend on its place.
    """

    def __init__(self, encoder: GridEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.cells = nn.ModuleList(
            _of_cells(layer) for layer in encoder.trunk if isinstance(layer, Down)
        )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        count, _, height, width = x.shape
        num_parts = max(-(-count * height * width // _MOST_PIXELS), 1)
        size = -(-count // num_parts)
        if missing := num_parts * size - count:
            x = torch.cat([x, x[-1:].expand(missing, *x.shape[1:])])
        x = x.contiguous(memory_format=torch.channels_last)
        return torch.cat([self._part(part) for part in x.split(size)])[:count]

    def _part(self, frames: Tensor) -> Tensor:
        x = frames = pad_to_multiple(frames, self.encoder.stride)
        cells = iter(self.cells)
        norm: nn.GroupNorm | None = None
        for layer in self.encoder.trunk:
            match layer:
                case Down():
                    x = next(cells)(x)
                case NormedBlock():
                    h = layer.conv1(norm_silu(x, layer.norm1))
                    x = layer.conv2(norm_silu(h, layer.norm2)).add_(x)
                case nn.GroupNorm():
                    norm = layer
                case _:  # SiLU
                    assert norm is not None
                    x = norm_silu(x, norm)
        z: Tensor = self.encoder.head(x)
        return z if self.encoder.linear is None else z.add_(self.encoder.linear(frames))


def _of_cells(down: Down) -> nn.Conv2d:
    """Cells of 2 x 2 to channels and a 3 x 3 convolution, as one of 6 x 6 that moves by a cell."""
    out, channels = down.conv.weight.shape[0], down.conv.weight.shape[1] // 4
    whole = nn.utils.skip_init(nn.Conv2d, channels, out, 6, stride=2, padding=2)
    apart = down.conv.weight.unflatten(1, (channels, 2, 2))  # (out, channel, row, column, 3, 3)
    with torch.no_grad():
        whole.weight.copy_(apart.permute(0, 1, 4, 2, 5, 3).reshape(whole.weight.shape))
        assert down.conv.bias is not None
        whole.bias.copy_(down.conv.bias)
    return whole


def norm_silu(x: Tensor, norm: nn.GroupNorm) -> Tensor:
    """silu(norm(x)) of x (B, C, H, W), whose channels lie side by side in memory."""
    b, c, h, w = x.shape
    groups, each = norm.num_groups, c // norm.num_groups
    if each >= _NARROW:
        return F.silu(norm(x), inplace=True)
    rows = x.permute(0, 2, 3, 1).reshape(b, h * w, c)
    sums, squares = rows.sum(1), rows.square().sum(1)
    mean = sums.view(b, groups, each).sum(2, keepdim=True) / (h * w * each)
    square = squares.view(b, groups, each).sum(2, keepdim=True) / (h * w * each)
    spread = (square - mean.square()).clamp_min_(0) + norm.eps
    scale = spread.rsqrt() * norm.weight.view(groups, each)  # (B, groups, each)
    shift = norm.bias.view(groups, each) - mean * scale
    y = torch.addcmul(shift.view(b, 1, c), rows, scale.view(b, 1, c))
    return F.silu(y, inplace=True).view(b, h, w, c).permute(0, 3, 1, 2)
