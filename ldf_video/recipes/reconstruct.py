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
from ldf_video.files.layout import layout_of
from ldf_video.files.locations import locate
from ldf_video.intake.report import Reach
from ldf_video.models.frame import FrameModel
from ldf_video.options.judging import Reconstruct
from ldf_video.progress import Progress
from ldf_video.readers.clips import ClipReader
from ldf_video.runs.command import check_files, choose_device, out_of_memory, own_state
from ldf_video.runs.zoo import find_model, load_frame_model
from ldf_video.sources.search import find_sources
from ldf_video.sources.source import Source
from ldf_video.training.ranks import check_alone
from ldf_video.video.pixels import from_model, psnr_db, to_model
from ldf_video.video.write import VideoWriter, check_output

Frames = npt.NDArray[np.uint8]

FRAMES_AT_ONCE = 64


@dataclass(frozen=True)
class Reconstructed:
    """What a reconstruction gave.

    Attributes:
        psnr_db: of all frames, their squared errors pooled.
        num_frames: reconstructed.
        path: of the video that was written, or None.
        truncated: names and reasons of sources of which only the frames that can be read count.
        unreadable: names and reasons of sources of which nothing could be read.
    """

    psnr_db: float
    num_frames: int
    path: Path | None
    truncated: tuple[tuple[str, str], ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()


@own_state()
@out_of_memory("--device cpu, a smaller --upscale, or .mp4 in place of .png")
def reconstruct(options: Reconstruct) -> Reconstructed:
    """Encode and decode every frame; see `ldf_video.api.reconstruct`."""
    check_alone("reconstruct")
    clips, frame_model = options.clips, options.frame_model
    output = None if options.out is None else Path(options.out)
    if output is not None:
        check_output(output)
    device = choose_device(options.device)
    sources = find_sources(clips, layout=layout_of(options))
    check_files([("--out", output)], inputs=sources)
    is_series = len(sources) == 1 and sources[0].series is not None
    is_table = len(sources) > 1 and sources[0].part is not None
    if output is not None and (is_table or (locate(clips).is_dir() and not is_series)):
        raise UsageError(
            f"--out with the {'table' if is_table else 'directory'} {clips}: expected one video "
            "file, or a folder that holds one series of numbered pictures and nothing else"
        )
    directory, shipped = find_model(frame_model, "frame")
    loaded = load_frame_model(directory, device=device)
    geometry, reach = loaded.geometry(), Reach(sources)
    squared_error, num_frames = 0.0, 0
    truncated, unreadable = list[tuple[str, str]](), list[tuple[str, str]]()
    # The stack ends the file also where something stops the work: what is written plays.
    with (
        Progress("reconstruct", unit="frames", quiet=options.quiet) as progress,
        ExitStack() as stack,
    ):
        if frame_model is None and shipped:
            progress.say(f"reconstruct: no checkpoints/frame, using {directory.parent.name}")
        reader = stack.enter_context(ClipReader(geometry))
        writer: VideoWriter | None = None
        for source in sources:
            before, line = num_frames, ""
            try:
                for stream in reader.open_clips(source):
                    if output is not None and writer is None:
                        writer = VideoWriter(output, fps=stream.fps, upscale=options.upscale)
                        stack.enter_context(writer)
                    for frames in _batches(stream.frames, FRAMES_AT_ONCE):
                        decoded = _through(loaded.model, frames, device=device)
                        squared_error += float(np.square(decoded.astype(np.float64) - frames).sum())
                        num_frames += len(frames)
                        if writer is not None:
                            writer.write(decoded)
                        reach.at(source, stream.position())
                        progress.update(num_frames, share=reach.share)
                    if not line and stream.note():
                        line = f"{source.name}: {stream.note()}"
            except ReadError as error:
                cut = num_frames > before
                kind, listed = ("truncated", truncated) if cut else ("unreadable", unreadable)
                listed.append((source.name, str(error)))
                line = f"{kind} {source.name}: {error}"
            reach.end(source)
            if line:
                progress.say(f"  {line}")
    if not num_frames:
        raise ReadError(_first_reason(sources, unreadable))
    mean = squared_error / (num_frames * 3 * geometry.height * geometry.width)
    return Reconstructed(psnr_db(mean), num_frames, output, tuple(truncated), tuple(unreadable))


def _first_reason(sources: list[Source], unreadable: list[tuple[str, str]]) -> str:
    """Why nothing could be read."""
    if not unreadable:
        return f"{sources[0].path} has no frames"
    reason = f"{sources[0].path}: {unreadable[0][1]}"
    return reason if len(sources) == 1 else f"none of {len(sources):,} sources: {reason}"


@torch.inference_mode()
def _through(model: FrameModel, frames: Frames, *, device: str) -> Frames:
    """G(E(x)) of uint8 frames (B, H, W, 3), through latents as the store keeps them."""
    z = model.encoder(to_model(frames, device=device)).to(torch.float16).float()
    return from_model(model.generator(z))


def _batches(frames: Iterator[Frames], size: int) -> Iterator[Frames]:
    """Stack frames (H, W, 3) to (up to `size`, H, W, 3).

    Raises:
        TruncatedError: after all frames that can be read, if the source is damaged.
    """
    batch: list[Frames] = []
    try:
        for frame in frames:
            batch.append(frame)
            if len(batch) == size:
                yield np.stack(batch)
                batch.clear()
    except TruncatedError:
        if batch:
            yield np.stack(batch)
        raise
    if batch:
        yield np.stack(batch)
