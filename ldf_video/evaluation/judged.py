"""Clips that models make, to be judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ldf_video.evaluation.draw import CLIP_FRAMES
from ldf_video.levels.decoding import decode, video_generator
from ldf_video.models.frame import FrameModel
from ldf_video.models.top import TopModel
from ldf_video.video.pixels import from_model, psnr_db, to_model

Clips = npt.NDArray[np.uint8]
OnFrames = Callable[[int], None]

NOISE_SHARE = 0.1
"""Of each latent dimension's spread: how wrong a latent is that should still decode well."""
_FRAMES = 64
_VIDEOS = {"cpu": 64}
_VIDEOS_ON_GPU = 512


def generated(
    top: TopModel,
    frame: FrameModel,
    *,
    count: int,
    seed: int,
    skip: int = 0,
    device: str,
    on_frames: OnFrames,
) -> Clips:
    """Five frames of `count` generated videos, after the first `skip`, as `generate` makes them."""
    last = skip + CLIP_FRAMES
    num_frames = top.fixed_frames or last
    size = _VIDEOS.get(device, _VIDEOS_ON_GPU)
    parts = []
    for start in range(0, count, size):
        generators = [video_generator(seed, n) for n in range(start, min(start + size, count))]
        blocks = top.sample(num_frames, generators)
        parts.append(_frames_between(decode(frame, blocks), skip, last))
        on_frames((start + len(generators)) * CLIP_FRAMES)
    return np.concatenate(parts)


def _frames_between(blocks: Iterator[Clips], first: int, last: int) -> Clips:
    """Frames first to last - 1 of videos that come in blocks (N, n, H, W, 3); others are let go."""
    kept, number = [], 0
    for block in blocks:
        kept.append(block[:, max(0, first - number) : max(0, last - number)])
        number += block.shape[1]
    return np.concatenate(kept, axis=1)


@torch.inference_mode()
def encoded(model: FrameModel, clips: Clips, *, device: str) -> Tensor:
    """E(x) of all frames of clips (N, T, H, W, 3), rounded as the store keeps them.

    Returns:
        float32 (N * T, C, h, w) in main memory.
    """
    frames = clips.reshape(-1, *clips.shape[2:])
    latents = [
        model.encoder(to_model(frames[start : start + _FRAMES], device)).half().cpu()
        for start in range(0, len(frames), _FRAMES)
    ]
    return torch.cat(latents).float()


def noisy(latents: Tensor, *, seed: int) -> Tensor:
    """Latents (B, C, h, w) with Gaussian noise of NOISE_SHARE of each dimension's spread."""
    spread = latents.std(0)
    return latents + NOISE_SHARE * spread * _normal(latents.shape, seed)


def prior(latent_shape: tuple[int, ...], *, count: int, seed: int) -> Tensor:
    """`count` latents from N(0, I), (count, C, h, w)."""
    return _normal((count, *latent_shape), seed)


@torch.inference_mode()
def decoded(model: FrameModel, latents: Tensor, *, num_frames: int, device: str) -> Clips:
    """G of latents (N * num_frames, C, h, w) -> clips (N, num_frames, H, W, 3)."""
    parts = [
        from_model(model.generator(latents[start : start + _FRAMES].to(device)))
        for start in range(0, len(latents), _FRAMES)
    ]
    frames = np.concatenate(parts)
    return frames.reshape(-1, num_frames, *frames.shape[1:])


def psnr_of(clips: Clips, originals: Clips) -> float:
    """PSNR in dB, the squared error of all frames pooled."""
    squared = 0.0
    for clip, original in zip(clips, originals, strict=True):
        squared += float(np.square(clip.astype(np.int32) - original).sum(dtype=np.int64))
    return psnr_db(squared / clips.size)


def _normal(shape: tuple[int, ...] | torch.Size, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
