"""A top model's latents to frames: the way back through both levels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ldf_video.models.frame import FrameModel
from ldf_video.video.pixels import from_model

Frames = npt.NDArray[np.uint8]

DECODED_AT_ONCE = 16
"""Frames, of all videos together: a block of one video is too few to keep a processor busy."""


def video_generator(seed: int, video: int) -> torch.Generator:
    """The source of chance of one video: it does not depend on how many others there are."""
    state = np.random.SeedSequence([seed, video]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


@torch.inference_mode()
def decode(model: FrameModel, blocks: Iterator[Tensor]) -> Iterator[Frames]:
    """Latents (N, n, C, H, W) a block -> frames (N, m, H, W, 3) uint8, of some blocks together."""
    for latents in _together(blocks):
        videos, count = latents.shape[:2]
        frames = from_model(model.decode(latents.flatten(0, 1)))
        yield frames.reshape(videos, count, *frames.shape[1:])


def _together(blocks: Iterator[Tensor]) -> Iterator[Tensor]:
    """The same latents, at least DECODED_AT_ONCE of them at a time but for the last."""
    held: list[Tensor] = []
    for latents in blocks:
        held.append(latents)
        if sum(block.shape[0] * block.shape[1] for block in held) >= DECODED_AT_ONCE:
            yield torch.cat(held, dim=1)
            held = []
    if held:
        yield torch.cat(held, dim=1)
