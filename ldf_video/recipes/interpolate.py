"""interpolate: two clips -> a video that leads from one to the other."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ldf_video.errors import ReadError, UsageError, counted
from ldf_video.levels.latents import decode, video_generator
from ldf_video.models.bridge import bridge
from ldf_video.options.sampling import Interpolate
from ldf_video.progress import Progress
from ldf_video.readers.clips import frame_size
from ldf_video.recipes.ends import (
    first_frame,
    flow_to_a_frame,
    last_frames,
    load_sampler,
    named_clip,
    shipped_line,
    shown_rate,
    speed_note,
    stride_of,
)
from ldf_video.runs.command import check_files, choose_device, out_of_memory, own_state
from ldf_video.runs.zoo import clip_geometry, frame_model_of, layout_of_model
from ldf_video.sources.source import Source
from ldf_video.training.ranks import check_alone
from ldf_video.video.pixels import from_model, psnr_db, to_model
from ldf_video.video.steps import Steps
from ldf_video.video.write import VideoWriter, check_output

Frames = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Interpolated:
    """What was made between two clips.

    Attributes:
        paths: the file alone.
        seed: that makes it again.
        num_frames: between the two ends, which the file holds beside them.
        ends_db: PSNR of the first and the last frame of the file, before it is compressed, against
            the frames of the clips: that of a reconstruction.
        largest_step: between neighbouring frames, a mean absolute difference of pixels, 0 to 255.
        usual_step: the median of these steps.
    """

    paths: tuple[Path]
    seed: int
    num_frames: int
    ends_db: tuple[float, float]
    largest_step: float
    usual_step: float


@own_state()
@out_of_memory("fewer --frames, or .mp4 in place of .png")
def interpolate(options: Interpolate) -> Interpolated:
    """Make the frames between two clips; see `ldf_video.api.interpolate`."""
    check_alone("interpolate")
    out = Path(options.out)
    check_output(out)
    layout, named = layout_of_model(options.top_model, "top"), (options.start, options.end)
    a, b = (named_clip(clip, "interpolate", layout=layout) for clip in named)
    check_files([("--out", out)], inputs=[a, b])
    _check_shapes(a, b)
    device = choose_device(options.device)
    top, shipped = load_sampler(options, device=device)
    flow = flow_to_a_frame(top, "interpolate", "lead to a frame")
    rate, stride = shown_rate(top, options.fps), stride_of(top, options.fps)
    frame = frame_model_of(
        top.config, beside=top.directory, device=device, asked=options.frame_model
    )
    geometry, window = clip_geometry(top, frame), flow.config.window
    before = last_frames(a, geometry, window, said="interpolate", stride=stride).frames
    after = first_frame(b, geometry, said="interpolate")
    seed = secrets.randbelow(2**31) if options.seed is None else options.seed
    count = options.num_frames
    with (
        Progress("interpolate", unit="frames", total=count + 2, quiet=options.quiet) as progress,
        torch.inference_mode(),
        VideoWriter(out, fps=rate, upscale=options.upscale) as writer,
    ):
        if options.top_model is None and shipped:
            progress.say(shipped_line("interpolate", top.directory.parent.name, frame.directory))
        progress.say(
            f"interpolate: {counted(count, 'frame')} between {a.path} and {b.path}, seed {seed}"
        )
        past, goal = (
            frame.model.encoder(to_model(frames, device=device))[None] for frames in (before, after)
        )
        ends = from_model(frame.model.generator(torch.cat([past[0, -1:], goal[0]])))
        steps, done = Steps(), 0

        def write(frames: Frames) -> None:
            nonlocal done
            writer.write(frames)
            steps.add(frames[None])
            done += len(frames)
            progress.update(done)

        write(ends[:1])
        generators = [video_generator(seed, 0)]
        between = bridge(flow, past, goal, count, generators, stride=stride)
        for frames in decode(frame.model, between, before=ends[:1]):
            write(frames[0])
        write(ends[1:])  # as it is: a reconstruction, and no frame comes after it
        ends_db = tuple(
            psnr_db(float(np.square(made.astype(np.float64) - real).mean()))
            for made, real in zip(ends, (before[-1], after[0]), strict=True)
        )
        largest, usual = steps.percentile(100), steps.percentile(50)
        for note in sorted(filter(None, {writer.note, speed_note(top, options.fps, out)})):
            progress.say(f"interpolate: {note}")
        progress.say(
            f"interpolate: ends {ends_db[0]:.1f} and {ends_db[1]:.1f} dB from the clips, largest "
            f"step {largest:.2f} of 255, usual {usual:.2f}"
        )
    return Interpolated((out,), seed, count, (ends_db[0], ends_db[1]), largest, usual)


def _check_shapes(a: Source, b: Source) -> None:
    """Refuse clips of which one would be cut where the other is not.

    Raises:
        UsageError: they differ in shape.
        ReadError: one cannot be read.
    """
    (height, width), (other_height, other_width) = _size(a), _size(b)
    a_pixel = max(height, width, other_height, other_width)  # of the smaller clip is no shape
    if abs(width * other_height - height * other_width) > a_pixel:
        raise UsageError(
            f"interpolate: {a.path} is {width} x {height} pixels and {b.path} {other_width} x "
            f"{other_height}: expected one shape; cut one of them"
        )


def _size(clip: Source) -> tuple[int, int]:
    try:
        return frame_size(clip)
    except ReadError as error:
        raise ReadError(f"interpolate {clip.path}: {error}") from None
