"""What is judged: clips that models make, and the models."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ldf_video.errors import ReadError, UsageError
from ldf_video.evaluation.draw import CLIP_FRAMES
from ldf_video.levels.latents import rolled_frames, video_generator
from ldf_video.models.frame import FrameModel
from ldf_video.models.rollout import Rollout
from ldf_video.models.top import TopModel
from ldf_video.readers.clips import frame_size
from ldf_video.runs.zoo import (
    Loaded,
    clip_geometry,
    find_model,
    frame_model_of,
    load_frame_model,
    load_top_model,
)
from ldf_video.sources.source import Source
from ldf_video.training import checkpoints
from ldf_video.video.geometry import Geometry, parse_size
from ldf_video.video.pixels import from_model, psnr_db, to_model

Clips = npt.NDArray[np.uint8]

NOISE_SHARE = 0.1
"""Of each latent dimension's spread: how wrong a latent is that should still decode well."""
FRAMES_AT_ONCE = 64
VIDEOS_AT_ONCE = {"cpu": 64}
VIDEOS_ON_GPU = 512


@dataclass(frozen=True)
class ClipSet:
    """Clips uint8 (N, T, H, W, 3) to be judged, T = 1 where they are single frames."""

    name: str
    clips: Clips
    origin: str
    psnr_db: float | None = None  # of reconstructions


@dataclass(frozen=True)
class Models:
    """The models that are judged: a top model with its frame model, a frame model.

    `stride` is what the top model is asked for, as of `Rollout`.
    """

    top: tuple[Loaded[TopModel], Loaded[FrameModel]] | None
    frame: Loaded[FrameModel] | None
    stride: int = 1

    def files(self) -> list[Path]:
        """What they were read from."""
        loaded: tuple[Loaded[Any] | None, ...] = (*(self.top or ()), self.frame)
        names = (checkpoints.CONFIG, checkpoints.WEIGHTS)
        return [model.directory / name for model in loaded if model is not None for name in names]


def load_models(
    top_model: str | Path | None,
    frame_model: str | Path | None,
    *,
    default: bool,
    num_frames: int = CLIP_FRAMES,
    skip: int,
    segments: bool = False,
    device: str,
) -> Models:
    """The models that were asked for; by `default`, without any, the top model of `generate`.

    A frame model of the latents that the top model learned decodes what it makes; so, too, where a
    third stage took over their E. With another one, or none, the top model's own is searched.

    Raises:
        UsageError: the top model only makes clips too short to be judged after `skip` frames.
    """
    pair = frame = None
    if frame_model is not None:
        frame = load_frame_model(find_model(frame_model, "frame")[0], device=device)
    if top_model is not None or (default and frame_model is None):
        top = load_top_model(find_model(top_model, "top")[0], device=device)
        _check_length(top, num_frames, skip, segments=segments)
        decoder = frame
        if decoder is None or decoder.latents != top.config["frame_model"]["fingerprint"]:
            decoder = frame_model_of(top.config, beside=top.directory, device=device)
        pair = top, decoder
    return Models(pair, frame)


def _check_length(top: Loaded[TopModel], num_frames: int, skip: int, *, segments: bool) -> None:
    fixed = top.model.fixed_frames
    if fixed is None or fixed >= skip + num_frames:
        return
    if segments:
        raise UsageError(
            f"--top-model {top.directory}: it makes clips of {fixed} frames, expected "
            f"{skip + num_frames:,}; give --length {fixed} or less, and fewer --segments"
        )
    if skip and fixed >= num_frames:
        or_less = " or less" if fixed > num_frames else ""
        raise UsageError(
            f"--skip {skip}: {top.directory} makes clips of {fixed} frames, of which "
            f"{num_frames} are judged; give --skip {fixed - num_frames}{or_less}"
        )
    raise UsageError(
        f"--top-model {top.directory}: it makes clips of {fixed} frames, expected "
        f"{num_frames} or more; give a lower --frames, or train-top --window {num_frames}"
    )


def choose_geometry(models: Models, size: str | int | None, sources: list[Source]) -> Geometry:
    """What all clips are brought to: as a model's were (a top model's first), SIZE, or as they are.

    Raises:
        UsageError: the models, or a model and SIZE, want frames of different sizes.
    """
    asked = None if size is None else parse_size(size)
    wanted = [] if models.top is None else [clip_geometry(*models.top)]
    wanted += [] if models.frame is None else [models.frame.geometry()]
    if not wanted:
        return Geometry(*(asked or _size_of_first(sources)))
    height, width = wanted[0].height, wanted[0].width
    if (wanted[-1].height, wanted[-1].width) != (height, width):
        raise UsageError(
            f"--frame-model: its frames are {wanted[-1].width}x{wanted[-1].height}, the top "
            f"model's {width}x{height}; evaluate one after the other"
        )
    if asked not in (None, (height, width)):
        raise UsageError(f"--size {size}: the model makes {width}x{height}; leave it out")
    return wanted[0]


def _size_of_first(sources: list[Source]) -> tuple[int, int]:
    """Height and width of the first source that can be read."""
    reasons = []
    for source in sources:
        try:
            return frame_size(source)
        except ReadError as error:
            reasons.append(f"{source.name}: {error}")
    of_all = f"none of {len(sources):,} sources: " if len(sources) > 1 else ""
    raise ReadError(f"{sources[0].asked}: {of_all}{reasons[0]}")


def generated(
    top: TopModel,
    frame: FrameModel,
    *,
    count: int,
    seed: int,
    num_frames: int = CLIP_FRAMES,
    skip: int = 0,
    stride: int = 1,
    device: str,
    on_frames: Callable[[int], None],
) -> Clips:
    """Frames of `count` generated videos, after the first `skip`, as `generate` makes them."""
    last = skip + num_frames
    clips = []
    made = rollouts(
        top, frame, count=count, seed=seed, num_frames=last, stride=stride, device=device
    )
    with closing(made):
        for videos, blocks in made:
            number, kept = 0, []
            for block in blocks:  # the frames skip to last - 1 are kept, the others are let go
                part = block[:, max(0, skip - number) : max(0, last - number)]
                if part.shape[1]:
                    kept.append(part.copy())  # a view would hold the whole block
                number += block.shape[1]
            clips.append(np.concatenate(kept, axis=1))
            on_frames(videos.stop * num_frames)
    return np.concatenate(clips)


def rollouts(
    top: TopModel,
    frame: FrameModel,
    *,
    count: int,
    seed: int,
    num_frames: int,
    stride: int = 1,
    device: str,
) -> Generator[tuple[range, Iterator[Clips]], None, None]:
    """Numbers of some videos, and these in blocks (N, any number, H, W, 3), to be read at once.

    Whoever takes them closes it: until then, threads make more.
    """
    size = VIDEOS_AT_ONCE.get(device, VIDEOS_ON_GPU)
    for start in range(0, count, size):
        videos = range(start, min(start + size, count))
        generators = [video_generator(seed, video) for video in videos]
        rollout = Rollout(top.fixed_frames or num_frames, stride=stride)
        with rolled_frames(frame, top.sample(rollout, generators)) as blocks:
            yield videos, blocks


def frame_model_sets(
    frame: Loaded[FrameModel], real: Clips, *, seed: int, whole_clips: bool, device: str
) -> Iterator[ClipSet]:
    """Reconstructions of real clips, also from slightly wrong latents, and frames from the prior.

    The prior, which has single frames, is left out where a judge wants `whole_clips`.
    """
    model, origin = frame.model, str(frame)
    latents = encoded(model, real, device=device)
    noise = noisy(latents, seed=seed)
    for name, z in (("reconstruction", latents), ("noisy latents", noise)):
        clips = decoded(model, z, num_frames=real.shape[1], device=device)
        yield ClipSet(name, clips, origin, psnr_of(clips, real))
    if not whole_clips:
        z = prior(model.config.latent_shape, count=len(real), seed=seed)
        yield ClipSet("prior", decoded(model, z, num_frames=1, device=device), origin)


@torch.inference_mode()
def encoded(model: FrameModel, clips: Clips, *, device: str) -> Tensor:
    """E(x) of clips (N, T, H, W, 3), rounded as the store keeps it: (N * T, C, h, w) on the CPU."""
    frames = clips.reshape(-1, *clips.shape[2:])
    latents = [
        model.encoder(to_model(frames[start : start + FRAMES_AT_ONCE], device)).half().cpu()
        for start in range(0, len(frames), FRAMES_AT_ONCE)
    ]
    return torch.cat(latents).float()


def noisy(latents: Tensor, *, seed: int) -> Tensor:
    """Latents (B, C, h, w) with Gaussian noise of NOISE_SHARE of each dimension's spread."""
    noise = prior(latents.shape[1:], count=len(latents), seed=seed)
    return latents + NOISE_SHARE * latents.std(0) * noise


def prior(latent_shape: tuple[int, ...], *, count: int, seed: int) -> Tensor:
    """`count` latents from N(0, I), (count, C, h, w)."""
    return torch.randn((count, *latent_shape), generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def decoded(model: FrameModel, latents: Tensor, *, num_frames: int, device: str) -> Clips:
    """G of latents (N * num_frames, C, h, w) -> clips (N, num_frames, H, W, 3)."""
    parts = [from_model(model.generator(z.to(device))) for z in latents.split(FRAMES_AT_ONCE)]
    frames = np.concatenate(parts)
    return frames.reshape(-1, num_frames, *frames.shape[1:])


def psnr_of(clips: Clips, originals: Clips) -> float:
    """PSNR in dB, the squared error of all frames pooled."""
    squared = 0.0
    for clip, original in zip(clips, originals, strict=True):
        squared += float(np.square(clip.astype(np.int32) - original).sum(dtype=np.int64))
    return psnr_db(squared / clips.size)
