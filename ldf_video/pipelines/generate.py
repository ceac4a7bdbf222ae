"""generate: a top model and its frame model -> videos."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ldf_video.errors import ReadError, TruncatedError, UsageError
from ldf_video.models.frame import FrameModel
from ldf_video.pipelines.devices import choose_device
from ldf_video.pipelines.geometry import geometry_of, parse_fps
from ldf_video.pipelines.zoo import find_top_model, frame_model_of, load_top_model
from ldf_video.progress import Progress
from ldf_video.video.geometry import Geometry
from ldf_video.video.pixels import from_model, to_model
from ldf_video.video.read import open_clips
from ldf_video.video.write import VideoWriter, check_output, tile

Frames = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Generated:
    """What was generated.

    Attributes:
        paths: the files, in the order of the videos.
        seed: that makes them again.
        num_frames: of each video.
    """

    paths: tuple[Path, ...]
    seed: int
    num_frames: int


def generate(
    output: str | Path,
    *,
    num_frames: int = 16,
    num_videos: int = 1,
    seed: int | None = None,
    fps: str | None = None,
    upscale: int | None = None,
    start_from: str | Path | None = None,
    top_model: str | Path | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> Generated:
    """Generate videos; see `ldf_video.api.generate`."""
    output = Path(output)
    _check_counts(num_frames=num_frames, num_videos=num_videos, upscale=upscale)
    rate = None if fps is None else parse_fps(fps)
    if output.suffix:
        check_output(output)
    device = choose_device(device)
    directory, shipped = find_top_model(top_model)
    top = load_top_model(directory, device=device)
    frame = frame_model_of(top, device=device)
    context = None
    if start_from is not None:
        # As the top model's latents were read: encode may have been told another rate or crop.
        geometry = geometry_of(top.config if "frames" in top.config else frame.config)
        count = top.model.config.window
        past = _last_latents(
            Path(start_from), frame.model, geometry=geometry, count=count, device=device
        )
        context = past.expand(num_videos, *past.shape)
    seed = secrets.randbelow(2**31) if seed is None else seed
    generators = [video_generator(seed, video) for video in range(num_videos)]
    with Progress("generate", unit="frames", total=num_frames, quiet=quiet) as progress:
        if top_model is None and shipped:
            progress.say(f"generate: no checkpoints/top, using the shipped {directory.parent.name}")
        progress.say(f"generate: {num_videos} x {num_frames:,} frames, seed {seed}")
        blocks = top.model.sample(num_frames, generators, context=context)
        rate = rate or Fraction(top.config["fps"])
        with _Outputs(output, num_videos, fps=rate, upscale=upscale) as outputs:
            done = 0
            for frames in decode(frame.model, blocks):
                outputs.write(frames)
                done += frames.shape[1]
                progress.update(done)
        for note in outputs.notes:
            progress.say(f"generate: {note}")
    return Generated(outputs.paths, seed, num_frames)


def video_generator(seed: int, video: int) -> torch.Generator:
    """The source of chance of one video: it does not depend on how many others there are."""
    state = np.random.SeedSequence([seed, video]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


@torch.inference_mode()
def decode(model: FrameModel, blocks: Iterator[Tensor]) -> Iterator[Frames]:
    """Latents (N, n, C, H, W) a block -> frames (N, n, H, W, 3) uint8 a block."""
    for latents in blocks:
        videos, count = latents.shape[:2]
        frames = from_model(model.generator(latents.flatten(0, 1)))
        yield frames.reshape(videos, count, *frames.shape[1:])


class _Outputs:
    """Where the frames go: one file, the videos tiled in it, or a directory with a file a video."""

    def __init__(
        self, output: Path, num_videos: int, *, fps: Fraction, upscale: int | None
    ) -> None:
        self.tiled = bool(output.suffix)
        self.paths = (
            (output,)
            if self.tiled
            else tuple(output / f"{number:04d}.mp4" for number in range(num_videos))
        )
        self._stack = ExitStack()
        self._writers = [VideoWriter(path, fps=fps, upscale=upscale) for path in self.paths]

    @property
    def notes(self) -> set[str]:
        return {writer.note for writer in self._writers if writer.note}

    def write(self, frames: Frames) -> None:
        parts = [tile(frames)] if self.tiled else frames
        for writer, part in zip(self._writers, parts, strict=True):
            writer.write(part)

    def __enter__(self) -> _Outputs:
        for writer in self._writers:
            self._stack.enter_context(writer)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.__exit__(*error)  # type: ignore[arg-type]


def _check_counts(*, num_frames: int, num_videos: int, upscale: int | None) -> None:
    for name, value in (("--frames", num_frames), ("--num-videos", num_videos)):
        if value < 1:
            raise UsageError(f"{name} {value}: expected 1 or more")
    if upscale is not None and upscale < 1:
        raise UsageError(f"--upscale {upscale}: expected 1 or more")


@torch.inference_mode()
def _last_latents(
    path: Path, model: FrameModel, *, geometry: Geometry, count: int, device: str
) -> Tensor:
    """Latents (n, C, H, W) of the last `count` frames of a video file's first clip."""
    if not path.is_file():
        raise UsageError(f"--from {path}: expected a video file")
    last: deque[Frames] = deque(maxlen=count)
    try:
        for clip in open_clips(path, geometry):
            last.extend(clip.frames)
            break
    except TruncatedError:
        pass  # its readable beginning is what there is to go on from
    except ReadError as error:
        raise ReadError(f"--from {path}: {error}") from None
    if not last:
        raise ReadError(f"--from {path}: it has no frames")
    return model.encoder(to_model(np.stack(last), device=device))
