"""reconstruct: a video -> G(E(x)), frame by frame, and how close it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ldf_video.errors import ReadError, TruncatedError, UsageError
from ldf_video.intake.report import Reach
from ldf_video.models.frame import FrameModel
from ldf_video.progress import Progress
from ldf_video.readers.clips import ClipReader
from ldf_video.runs.devices import choose_device, out_of_memory
from ldf_video.runs.framing import geometry_of
from ldf_video.runs.outputs import check_files
from ldf_video.runs.own_state import own_state
from ldf_video.runs.zoo import find_frame_model, load_frame_model
from ldf_video.training.ranks import check_alone
from ldf_video.video.files import locate
from ldf_video.video.geometry import Geometry
from ldf_video.video.pixels import from_model, psnr_db, to_model
from ldf_video.video.read import ClipStream
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
        truncated: names and reasons of sources of which only the readable beginning counts.
        unreadable: names and reasons of sources of which nothing could be read.
    """

    psnr_db: float
    num_frames: int
    path: Path | None
    truncated: tuple[tuple[str, str], ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()


@own_state()
@out_of_memory("--device cpu, a smaller --upscale, or .mp4 in place of .png")
def reconstruct(
    clips: str | Path,
    *,
    out: str | Path | None = None,
    frame_model: str | Path | None = None,
    upscale: int | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> Reconstructed:
    """Encode and decode every frame; see `ldf_video.api.reconstruct`."""
    check_alone("reconstruct")
    output = None if out is None else Path(out)
    if output is not None:
        check_output(output)
    device = choose_device(device)
    sources = find_sources(clips)
    check_files([("-o", output)], inputs=sources)
    if output is not None and locate(clips).is_dir() and not _is_one_series(sources):
        raise UsageError(
            f"-o with the directory {clips}: expected one video file, or a folder that holds one "
            "series of numbered pictures and nothing else"
        )
    directory, shipped = find_frame_model(frame_model)
    loaded = load_frame_model(directory, device=device)
    geometry = geometry_of(loaded.config)
    work = _Work(loaded.model, geometry, output, upscale=upscale, device=device)
    reach = Reach(sources)
    # The work finishes the file also where something stops it: what is written plays.
    with Progress("reconstruct", unit="frames", quiet=quiet) as progress, work:
        work.on_batch = lambda: progress.update(work.num_frames, share=reach.share)
        if frame_model is None and shipped:
            progress.say(f"reconstruct: no checkpoints/frame, using {directory.parent.name}")
        for source in sources:
            line = work.take(source, reach)
            reach.end(source)
            if line:
                progress.say(f"  {line}")
    if not work.num_frames:
        raise ReadError(work.first_reason(sources))
    mean = work.squared_error / (work.num_frames * 3 * geometry.height * geometry.width)
    return Reconstructed(
        psnr_db(mean), work.num_frames, output, tuple(work.truncated), tuple(work.unreadable)
    )


def _is_one_series(sources: list[Source]) -> bool:
    return len(sources) == 1 and sources[0].series is not None


class _Work:
    """One pass over the sources: what was measured, and what could not be."""

    def __init__(
        self,
        model: FrameModel,
        geometry: Geometry,
        output: Path | None,
        *,
        upscale: int | None,
        device: str,
    ) -> None:
        self.model, self.geometry, self.output = model, geometry, output
        self.upscale, self.device = upscale, device
        self.squared_error, self.num_frames = 0.0, 0
        self.truncated: list[tuple[str, str]] = []
        self.unreadable: list[tuple[str, str]] = []
        self.on_batch: Callable[[], None] = lambda: None
        self._writer: VideoWriter | None = None
        self._stack = ExitStack()
        self._reader: ClipReader

    def take(self, source: Source, reach: Reach) -> str:
        """Measure a source; returns a line about it where it did not come whole, or as it is."""
        before, note = self.num_frames, ""
        try:
            for stream in self._reader.open_clips(source):
                for _ in self._through_clip(stream):
                    reach.at(source, stream.position())
                    self.on_batch()
                note = note or stream.note()
        except ReadError as error:
            cut = self.num_frames > before
            (self.truncated if cut else self.unreadable).append((source.name, str(error)))
            return f"{'truncated' if cut else 'unreadable'} {source.name}: {error}"
        return f"{source.name}: {note}" if note else ""

    def _through_clip(self, stream: ClipStream) -> Iterator[None]:
        """Measure and write a batch at a time."""
        if self.output is not None and self._writer is None:
            writer = VideoWriter(self.output, fps=stream.fps, upscale=self.upscale)
            self._writer = self._stack.enter_context(writer)
        for frames in _batches(stream.frames, 64):
            decoded = _through(self.model, frames, device=self.device)
            self.squared_error += float(np.square(decoded.astype(np.float64) - frames).sum())
            self.num_frames += len(frames)
            if self._writer is not None:
                self._writer.write(decoded)
            yield

    def first_reason(self, sources: list[Source]) -> str:
        """Why nothing could be read."""
        if not self.unreadable:
            return f"{sources[0].path} has no frames"
        reason = f"{sources[0].path}: {self.unreadable[0][1]}"
        return reason if len(sources) == 1 else f"none of {len(sources):,} sources: {reason}"

    def __enter__(self) -> _Work:
        self._reader = self._stack.enter_context(ClipReader(self.geometry))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.__exit__(*error)  # type: ignore[arg-type]


@torch.inference_mode()
def _through(model: FrameModel, frames: Frames, *, device: str) -> Frames:
    """G(E(x)) of uint8 frames (B, H, W, 3), through latents as the store keeps them."""
    z = model.encoder(to_model(frames, device=device)).to(torch.float16).float()
    return from_model(model.generator(z))


def _batches(frames: Iterator[Frames], size: int) -> Iterator[Frames]:
    """Stack frames (H, W, 3) to (up to `size`, H, W, 3).

    Raises:
        TruncatedError: after the frames before the damage.
    """
    batch: list[Frames] = []
    damage: TruncatedError | None = None
    try:
        for frame in frames:
            batch.append(frame)
            if len(batch) == size:
                yield np.stack(batch)
                batch.clear()
    except TruncatedError as error:
        damage = error
    if batch:
        yield np.stack(batch)
    if damage is not None:
        raise damage
