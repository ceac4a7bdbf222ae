"""reconstruct: a video -> G(E(x)), frame by frame, and how close it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ldf_video.errors import ReadError, TruncatedError, UsageError
from ldf_video.models.frame import FrameModel
from ldf_video.pipelines.devices import choose_device
from ldf_video.pipelines.encode import psnr_db
from ldf_video.pipelines.geometry import geometry_of
from ldf_video.pipelines.zoo import find_frame_model, load_frame_model
from ldf_video.progress import Progress
from ldf_video.video.geometry import Geometry
from ldf_video.video.pixels import from_model, to_model
from ldf_video.video.read import ClipStream, open_clips
from ldf_video.video.sources import Source, find_sources
from ldf_video.video.write import VideoWriter, check_output

Frames = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Reconstructed:
    """What a reconstruction gave.

    Attributes:
        psnr_db: of all frames, their squared errors pooled.
        num_frames: reconstructed.
        path: of the video that was written, or None.
    """

    psnr_db: float
    num_frames: int
    path: Path | None


def reconstruct(
    clips: str | Path,
    *,
    output: str | Path | None = None,
    frame_model: str | Path | None = None,
    upscale: int | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> Reconstructed:
    """Encode and decode every frame; see `ldf_video.api.reconstruct`."""
    output = None if output is None else Path(output)
    if output is not None:
        check_output(output)
        if Path(clips).is_dir():
            raise UsageError(f"-o with the directory {clips}: expected one video file")
    device = choose_device(device)
    sources = find_sources(Path(clips))
    directory, shipped = find_frame_model(frame_model)
    loaded = load_frame_model(directory, device=device)
    geometry = geometry_of(loaded.config)
    squared_error, num_frames = 0.0, 0
    writer: VideoWriter | None = None
    # The stack finishes the file also where something stops the work: what is written plays.
    with Progress("reconstruct", unit="frames", quiet=quiet) as progress, ExitStack() as stack:
        if frame_model is None and shipped:
            progress.say(f"reconstruct: no checkpoints/frame, using {directory.parent.name}")
        for source in sources:
            for stream in _clips(source, geometry):
                if output is not None and writer is None:
                    writer = stack.enter_context(
                        VideoWriter(output, fps=stream.fps, upscale=upscale)
                    )
                for frames in _batches(stream.frames, 64):
                    decoded = _through(loaded.model, frames, device=device)
                    squared_error += float(np.square(decoded.astype(np.float64) - frames).sum())
                    num_frames += len(frames)
                    if writer is not None:
                        writer.write(decoded)
                    progress.update(num_frames)
    if not num_frames:
        raise ReadError(f"{clips} has no frames")
    mean = squared_error / (num_frames * 3 * geometry.height * geometry.width)
    return Reconstructed(psnr_db(mean), num_frames, output)


def _clips(source: Source, geometry: Geometry) -> Iterator[ClipStream]:
    """The clips of a source, with its name in the reason where it cannot be read."""
    try:
        yield from open_clips(source.path, geometry)
    except ReadError as error:
        raise ReadError(f"{source.path}: {error}") from None


@torch.inference_mode()
def _through(model: FrameModel, frames: Frames, *, device: str) -> Frames:
    """G(E(x)) of uint8 frames (B, H, W, 3), through latents as the store keeps them."""
    z = model.encoder(to_model(frames, device=device)).to(torch.float16).float()
    return from_model(model.generator(z))


def _batches(frames: Iterator[Frames], size: int) -> Iterator[Frames]:
    """Stack frames (H, W, 3) to (up to `size`, H, W, 3); a damaged end is left out."""
    batch: list[Frames] = []
    try:
        for frame in frames:
            batch.append(frame)
            if len(batch) == size:
                yield np.stack(batch)
                batch.clear()
    except TruncatedError:
        pass
    if batch:
        yield np.stack(batch)
