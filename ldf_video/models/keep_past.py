"""A flow that keeps its past, made of one that computes it anew, and its blocks."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ldf_video.models.flow import FlowTop
from ldf_video.models.flow_layers import KeysValues, TransformerLayer


@torch.inference_mode()
def keep_past(top: FlowTop, latents: Tensor) -> FlowTop:
    """The same flow with `kept`, without any training.

    A block becomes one that always stands at the end of its window, a first block one at its
    beginning. What a frame's place in the window made of its keys and values is known only in the
    mean from now on: each layer's vector for a distance is the mean, over given windows, of what
    the flow's own keys and values have more than those that are kept.

    Args:
        top: a flow without `kept`.
        latents: whole windows (N, window, C, H, W); some hundreds are enough.

    Raises:
        ValueError: the flow keeps its past already, or the windows are of another length.
    """
    c = top.config
    if c.kept or latents.shape[1] != c.window:
        raise ValueError(
            f"kept {c.kept}, windows of {latents.shape[1]} frames: "
            f"expected a flow that does not keep its past, and windows of {c.window}"
        )
    kept = FlowTop(replace(c, kept=True)).to(top.latent_mean.device).eval()
    weights = top.state_dict()
    place = weights.pop("position")
    weights["position"] = torch.cat([place[: c.block], place[-c.block :]])
    kept.load_state_dict(weights, strict=False)  # all but the distances, which are zero
    past = top.standardise(latents)[:, : c.reach]
    wanted = top.remember_window(past)
    for number, layer in enumerate(kept.layers):  # a layer changes what later ones see
        assert isinstance(layer, TransformerLayer)
        keys, values = _remembered(kept, past)[number]
        for i, (have, want) in enumerate(zip((keys, values), wanted[number], strict=True)):
            more = (want - have).unflatten(2, (c.reach, c.patches))  # (N, heads, T, P, w)
            layer.distance[i].copy_(more.mean((0, 3)))
    return kept


@torch.inference_mode()
def with_block(top: FlowTop, block: int) -> FlowTop:
    """The same flow with blocks of so many frames, as a beginning for training.

    What it knows of a place in a block it says of the same place, and of the last place where a
    block is now longer. Frames further back than it has seen are as far as the furthest.

    Args:
        top: a flow that keeps its past.
        block: frames, at most half of its window and a divisor of it.

    Raises:
        ValueError: the flow does not keep its past, or the window holds no such blocks.
    """
    c = top.config
    if not c.kept:
        raise ValueError("expected a flow that keeps its past")
    if block == c.block:
        return top
    shared = c.shared_noise if block > 1 else 0.0
    made = FlowTop(replace(c, block=block, shared_noise=shared)).to(top.latent_mean.device).eval()
    weights = top.state_dict()
    places = torch.arange(block, device=top.latent_mean.device).clamp(max=c.block - 1)
    weights["position"] = weights["position"][torch.cat([places, c.block + places])]
    reach = made.config.reach
    back = torch.arange(reach, 0, -1, device=places.device).clamp(max=c.reach)  # newest last
    for name, vectors in weights.items():
        if name.endswith(".distance"):
            weights[name] = vectors[:, :, c.reach - back]
    made.load_state_dict(weights)
    return made


def _remembered(kept: FlowTop, past: Tensor) -> KeysValues:
    seen: KeysValues | None = None
    for block in past.split(kept.config.block, dim=1):
        seen = kept.remember_block(block, seen)
    assert seen is not None
    return seen
