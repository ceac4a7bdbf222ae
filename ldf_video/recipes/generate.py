"""generate: a top model and its frame model -> videos."""

from __future__ import annotations

import os
import secrets
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ldf_video.errors import ReadError, TruncatedError, UsageError, counted
from ldf_video.levels.latents import rolled_frames, video_generator
from ldf_video.models.build import KINDS
from ldf_video.models.frame import FrameModel
from ldf_video.models.rollout import Rollout
from ldf_video.models.top import TopModel
from ldf_video.options import Generate
from ldf_video.progress import Progress
from ldf_video.readers.clips import ClipReader
from ldf_video.runs.command import (
    check_files,
    check_folders,
    choose_device,
    out_of_memory,
    own_state,
)
from ldf_video.runs.zoo import (
    OWN_FRAME,
    OWN_TOP,
    Loaded,
    clip_geometry,
    find_model,
    frame_model_of,
    load_top_model,
)
from ldf_video.training import checkpoints
from ldf_video.training.ranks import check_alone
from ldf_video.video.geometry import Geometry
from ldf_video.video.media import DEFAULT_FPS
from ldf_video.video.pixels import to_model
from ldf_video.video.sources import Source, find_sources, folder_series
from ldf_video.video.write import ENCODERS, VideoWriter, check_output, tile

Frames = npt.NDArray[np.uint8]

DEFAULT_FRAMES = 16
MAX_FPS = 120
"""Of a video that is watched: some stores hold a time base of 1/1000 s for a rate."""
VIDEOS_AT_ONCE = 16
"""In a directory: each takes an open file, some 3 MB of encoder and its share of a batch."""


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


@own_state()
@out_of_memory("fewer --num-videos or --frames, or -o DIRECTORY, where 16 are made at a time")
def generate(options: Generate) -> Generated:
    """Generate videos; see `ldf_video.api.generate`."""
    check_alone("generate")
    out, num_videos, top_model = options.out, options.num_videos, options.top_model
    rate = None if options.fps is None else Fraction(options.fps)
    paths: tuple[Path, ...] = (Path(out),)
    if is_directory := _is_directory(out):
        paths = tuple(Path(out) / f"{number:04d}.mp4" for number in range(num_videos))
    check_output(paths[0])
    clip = None if options.start_from is None else _named_clip(Path(options.start_from))
    if is_directory:
        _check_folder(Path(out), paths)
    check_files([("--out", path) for path in paths], inputs=[] if clip is None else [clip])
    device = choose_device(options.device)
    directory, shipped = find_model(top_model, "top")
    top = load_top_model(directory, device=device)
    num_frames = _frames_of(top, options.num_frames, continues=clip is not None)
    if rate is None:
        learned = top.fps()
        rate = learned if learned <= MAX_FPS else DEFAULT_FPS
    frame = frame_model_of(top.config, beside=directory, device=device, asked=options.frame_model)
    past = None
    if clip is not None:
        geometry, count = clip_geometry(top, frame), top.model.config.window
        past = _last_latents(clip, frame.model, geometry=geometry, count=count, device=device)
    seed = secrets.randbelow(2**31) if options.seed is None else options.seed
    total = num_videos * num_frames
    with Progress("generate", unit="frames", total=total, quiet=options.quiet) as progress:
        if top_model is None and shipped:
            progress.say(_shipped_line(directory.parent.name, frame.directory))
        progress.say(f"generate: {num_videos} x {num_frames:,} frames, seed {seed}")
        done, notes = 0, set[str | None]()
        size = VIDEOS_AT_ONCE if is_directory else num_videos
        for first in range(0, num_videos, size):
            group = range(first, min(first + size, num_videos))
            known = None if past is None else past.expand(len(group), *past.shape)
            generators = [video_generator(seed, video) for video in group]
            rollout = Rollout(num_frames, past=known)
            files = paths[group.start : group.stop] if is_directory else paths
            with ExitStack() as stack:
                writers = [VideoWriter(path, fps=rate, upscale=options.upscale) for path in files]
                for writer in writers:
                    stack.enter_context(writer)
                made = rolled_frames(top.model, frame.model, rollout, generators)
                for frames in stack.enter_context(made):
                    parts = frames if is_directory else [tile(frames)]
                    for writer, part in zip(writers, parts, strict=True):
                        writer.write(part)
                    done += frames.shape[0] * frames.shape[1]
                    progress.update(done)
            notes |= {writer.note for writer in writers}
        for note in sorted(filter(None, notes)):
            progress.say(f"generate: {note}")
    return Generated(paths, seed, num_frames)


def _shipped_line(name: str, decoded_by: Path) -> str:
    """Which shipped pair is used, and whether it leaves an own frame model aside."""
    line = f"generate: no {OWN_TOP}, using the shipped {name}"
    if decoded_by == OWN_FRAME:
        return f"{line}, decoded by {OWN_FRAME}"
    if not (OWN_FRAME / checkpoints.CONFIG).is_file():
        return line
    return f"{line} with its own frame model, not {OWN_FRAME}: train-top learns your clips"


def _is_directory(out: str | Path) -> bool:
    """Whether an output is a directory: it ends in a slash, has no suffix, or is there as one.

    Raises:
        UsageError: it is neither that nor a file that can be written.
    """
    suffix = Path(out).suffix.lower()
    if str(out).endswith(os.sep) or not suffix:
        return True
    if suffix in ENCODERS:
        return False
    if not Path(out).is_dir():
        raise UsageError(
            f"--out {out}: expected {', '.join(ENCODERS)} or a directory; the name of a new one "
            "that has a dot must end in /"
        )
    return True


def _check_folder(folder: Path, paths: tuple[Path, ...]) -> None:
    """Refuse a directory that holds other films: `evaluate` would judge old ones as new ones.

    Raises:
        UsageError: it does.
    """
    check_folders([("--out", folder)], inputs=[])
    written = {path.name for path in paths}
    there = os.listdir(folder) if folder.is_dir() else []
    others = sorted(name for name in there if name not in written and not name.startswith("."))
    if others:
        raise UsageError(
            f"--out {folder}: it holds {counted(len(others), 'other file')}, such as {others[0]}, "
            "among which the new videos could not be told; name an empty or a new directory"
        )


def _frames_of(top: Loaded[TopModel], asked: int | None, *, continues: bool) -> int:
    """How many frames to make.

    Raises:
        UsageError: the top model cannot make so many, or cannot go on from a clip.
    """
    fixed = top.model.fixed_frames
    if fixed is None:
        return DEFAULT_FRAMES if asked is None else asked
    kind = top.config["model"]["kind"]
    others = " or ".join(f"--kind {other}" for other in KINDS if other != kind)
    if asked not in (None, fixed):
        raise UsageError(
            f"--frames {asked}: {top.directory} is of the kind {kind} and makes {fixed} frames, "
            f"always; train-top {others} makes any number"
        )
    if continues:
        raise UsageError(
            f"--from: {top.directory} is of the kind {kind} and cannot go on from a clip; "
            f"train-top {others} can"
        )
    return fixed


def _named_clip(path: Path) -> Source:
    """The file, or the series of pictures in a folder, that `--from` names.

    Raises:
        UsageError: there is none.
        ReadError: the folder holds no series, or several.
    """
    if path.is_file():
        return find_sources(path)[0]
    if not path.is_dir():
        raise UsageError(f"--from {path}: expected a video file")
    try:
        return folder_series(path)
    except ReadError as error:
        raise ReadError(f"--from {path}: {error}") from None


@torch.inference_mode()
def _last_latents(
    clip: Source, model: FrameModel, *, geometry: Geometry, count: int, device: str
) -> Tensor:
    """Latents (n, C, H, W) of the last `count` frames of the first clip of a source."""
    path = clip.path
    last: deque[Frames] = deque(maxlen=count)
    try:
        with ClipReader(geometry) as reader:
            for stream in reader.open_clips(clip):
                last.extend(stream.frames)
                break
    except TruncatedError:
        pass  # the video goes on from the last frame that can be read
    except ReadError as error:
        raise ReadError(f"--from {path}: {error}") from None
    if not last:
        raise ReadError(f"--from {path}: it has no frames")
    return model.encoder(to_model(np.stack(last), device=device))
