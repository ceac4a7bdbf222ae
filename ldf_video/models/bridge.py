"""Videos that lead to a frame that is known: from one clip to another, or round in a circle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ldf_video.models.flow import FlowTop
from ldf_video.models.rollout import Rollout


def bridge(
    top: FlowTop,
    past: Tensor,
    goal: Tensor,
    num_frames: int,
    generators: Sequence[torch.Generator],
    *,
    stride: int = 1,
) -> Iterator[Tensor]:
    """Frames between a past and a goal.

    The goal is the last frame of a block, and the other frames of that block are made to fit it.
    Earlier blocks go on from the past and know of no goal. Where the frames between and the goal do
    not fill blocks, the newest frames of the past are given as the first ones of the first block.

    Args:
        top: the flow, of blocks of 2 frames or more.
        past: latents (N, n, C, H, W), the newest last, n at least 1.
        goal: latents (N, 1, C, H, W).
        num_frames: to make, at least 1.
        generators: one a video, N of them: the only source of chance.
        stride: as of `Rollout`, also of the past's frames.

    Yields:
        Latents (N, up to a block, C, H, W), `num_frames` of them in all.

    Raises:
        ValueError: the flow makes a frame at a time.
    """
    _check_block(top)
    known = -(num_frames + 1) % top.config.block
    if past.shape[1] <= known:  # what is too short stood still before
        still = past[:, :1].expand(-1, known + 1 - past.shape[1], -1, -1, -1)
        past = torch.cat([still, past], dim=1)
    older, newest = past.split([past.shape[1] - known, known], dim=1)
    mask = torch.ones(known + num_frames + 1, dtype=torch.bool)
    mask[known:-1] = False
    given = torch.cat([newest, goal], dim=1)
    rollout = Rollout(len(mask), past=older, given=given, mask=mask, stride=stride)
    yield from stretch(top.sample(rollout, generators), known, num_frames)


def loop(
    top: FlowTop, num_frames: int, generators: Sequence[torch.Generator], *, stride: int = 1
) -> Iterator[Tensor]:
    """A video that plays in a circle: its last block leads to its first frame.

    It begins after a first block, which is not shown: that has no past, as no frame of a circle.

    Args:
        top: the flow, of blocks of 2 frames or more.
        num_frames: at least a block.
        generators: one a video, N of them: the only source of chance.
        stride: as of `Rollout`.

    Yields:
        Latents (N, up to a block, C, H, W), `num_frames` of them in all.

    Raises:
        ValueError: too few frames, or the flow makes a frame at a time.
    """
    _check_block(top)
    block = top.config.block
    if num_frames < block:
        raise ValueError(f"a loop of {num_frames} frames: expected a block, {block}, or more")
    closing = block - 1
    unseen = block + -(num_frames + 1) % block
    open_frames = num_frames - closing
    known: Tensor | None = None

    def remembered(blocks: Iterator[Tensor]) -> Iterator[Tensor]:
        nonlocal known
        for latents in blocks:
            known = latents if known is None else torch.cat([known, latents], dim=1)
            known = known[:, -top.config.window :]
            yield latents

    rolled = remembered(top.sample(Rollout(unseen + open_frames, stride=stride), generators))
    first: Tensor | None = None
    for latents in stretch(rolled, unseen, open_frames):
        first = latents[:, :1] if first is None else first
        yield latents
    assert known is not None
    assert first is not None
    yield from bridge(top, known, first, closing, generators, stride=stride)


def _check_block(top: FlowTop) -> None:
    if top.config.block == 1:
        raise ValueError("blocks of 1 frame hold none that could be made to fit a known one")


def stretch(blocks: Iterator[Tensor], first: int, count: int) -> Iterator[Tensor]:
    """The frames `first` to `first + count` of a video (N, some, ...) a block."""
    done = 0
    for block in blocks:
        part = block[:, max(first - done, 0) : max(first + count - done, 0)]
        done += block.shape[1]
        if part.shape[1]:
            yield part
