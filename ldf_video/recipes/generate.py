"""generate: a top model and its frame model -> videos."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ldf_video.arrays.conditions import Conditions
from ldf_video.errors import UsageError, counted
from ldf_video.levels.latents import rolled_frames, video_generator
from ldf_video.models.bridge import loop
from ldf_video.models.flow import FlowTop
from ldf_video.models.frame import FrameModel
from ldf_video.models.rollout import Rollout
from ldf_video.models.top import TopModel
from ldf_video.options.sampling import Generate
from ldf_video.progress import Progress
from ldf_video.recipes.ends import (
    flow_to_a_frame,
    last_frames,
    load_sampler,
    named_clip,
    others_than,
    refuse_fixed,
    shipped_line,
    shown_rate,
    speed_note,
    stride_of,
)
from ldf_video.recipes.told import told_after, told_by
from ldf_video.runs.command import (
    check_files,
    check_folders,
    choose_device,
    out_of_memory,
    own_state,
)
from ldf_video.runs.zoo import Loaded, clip_geometry, frame_model_of, layout_of_model
from ldf_video.sources.source import Source
from ldf_video.training.ranks import check_alone
from ldf_video.video.pixels import to_model
from ldf_video.video.sheet import tile
from ldf_video.video.steps import Seams, Steps
from ldf_video.video.write import ENCODERS, VideoWriter, check_output

Frames = npt.NDArray[np.uint8]

DEFAULT_FRAMES = 16
VIDEOS_AT_ONCE = 16
"""In a directory: each takes an open file, some 3 MB of encoder and its share of a batch."""
LOOP = "close a loop"


@dataclass(frozen=True)
class Generated:
    """What was generated.

    Attributes:
        paths: the files, in the order of the videos.
        seed: that makes them again.
        num_frames: of each video.
        seams: where loops close, else None.
    """

    paths: tuple[Path, ...]
    seed: int
    num_frames: int
    seams: Seams | None = None


@own_state()
@out_of_memory(
    "fewer --num-videos or --frames, or -o DIRECTORY, where 16 are made at a time, or a smaller "
    "--upscale"
)
def generate(options: Generate) -> Generated:
    """Generate videos; see `ldf_video.api.generate`."""
    check_alone("generate")
    out, num_videos, top_model = options.out, options.num_videos, options.top_model
    paths: tuple[Path, ...] = (Path(out),)
    if is_directory := _is_directory(out):
        paths = tuple(Path(out) / f"{number:04d}.mp4" for number in range(num_videos))
    check_output(paths[0])
    clip = _clip_of(options)
    if is_directory:
        _check_folder(Path(out), paths)
    check_files([("--out", path) for path in paths], inputs=[] if clip is None else [clip])
    device = choose_device(options.device)
    top, shipped = load_sampler(options, device=device)
    num_frames = _frames_of(top, options)
    rate, stride = shown_rate(top, options.fps), stride_of(top, options.fps)
    frame = frame_model_of(
        top.config, beside=top.directory, device=device, asked=options.frame_model
    )
    told, untold = told_by(top, options, num_frames)
    past, of_past = None, None
    if clip is not None:
        past, of_frames = _last_latents(clip, top, frame, stride=stride, device=device)
        told, of_past = told_after(told, of_frames, top.model, str(options.start_from))
    seed = secrets.randbelow(2**31) if options.seed is None else options.seed
    with Progress(
        "generate", unit="frames", total=num_videos * num_frames, quiet=options.quiet
    ) as progress:
        if top_model is None and shipped:
            progress.say(shipped_line("generate", top.directory.parent.name, frame.directory))
        progress.say(f"generate: {num_videos} x {num_frames:,} frames, seed {seed}")
        for line in filter(None, (untold, of_past)):
            progress.say(f"generate: {line}")
        done, notes = 0, {speed_note(top, options.fps, paths[0])}
        looped = Steps() if options.loop else None
        size = VIDEOS_AT_ONCE if is_directory else num_videos
        for first in range(0, num_videos, size):
            group = range(first, min(first + size, num_videos))
            generators = [video_generator(seed, video) for video in group]
            known = None if past is None else past.expand(len(group), *past.shape)
            rollout = Rollout(num_frames, past=known, stride=stride, conditions=told)
            blocks = _sampled(top.model, rollout, generators, looped=options.loop)
            files = paths[group.start : group.stop] if is_directory else paths
            with ExitStack() as stack:
                writers = [VideoWriter(path, fps=rate, upscale=options.upscale) for path in files]
                for writer in writers:
                    stack.enter_context(writer)
                for frames in stack.enter_context(rolled_frames(frame.model, blocks)):
                    if looped is not None:
                        looped.add(frames)
                    parts = frames if is_directory else [tile(frames)]
                    for writer, part in zip(writers, parts, strict=True):
                        writer.write(part)
                    done += frames.shape[0] * frames.shape[1]
                    progress.update(done)
            notes |= {writer.note for writer in writers}
            if looped is not None:
                looped.close()
        closed = None if looped is None else looped.seams()
        for note in [*sorted(filter(None, notes)), *([closed] if closed else [])]:
            progress.say(f"generate: {note}")
    return Generated(paths, seed, num_frames, closed)


def _sampled(
    top: TopModel, rollout: Rollout, generators: list[torch.Generator], *, looped: bool
) -> Iterator[Tensor]:
    """Latents of videos, a block at a time."""
    if not looped:
        return top.sample(rollout, generators)
    assert isinstance(top, FlowTop)
    return loop(top, rollout.num_frames, generators, stride=rollout.stride)


def _clip_of(options: Generate) -> Source | None:
    """The clip to go on from, read as the clips of the top model were."""
    if options.start_from is None:
        return None
    layout = layout_of_model(options.top_model, "top")
    return named_clip(options.start_from, "--from", layout=layout)


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


def _frames_of(top: Loaded[TopModel], options: Generate) -> int:
    """How many frames to make.

    Raises:
        UsageError: the top model cannot make so many, cannot go on from a clip, or cannot close a
            loop.
    """
    asked, fixed = options.num_frames, top.model.fixed_frames
    if isinstance(top.model, FlowTop):
        block, count = top.model.config.block, DEFAULT_FRAMES if asked is None else asked
        if options.loop:
            flow_to_a_frame(top, "--loop", LOOP)
            if count < block:
                raise UsageError(
                    f"--loop --frames {count}: {top.directory} closes a loop in a block of "
                    f"{block} frames; give --frames {block} or more"
                )
        return count
    if asked not in (None, fixed):
        raise UsageError(
            f"--frames {asked}: {top.directory} is of the kind {top.config['model']['kind']} and "
            f"makes {fixed} frames, always; {others_than(top)} makes any number"
        )
    if options.start_from is not None:
        refuse_fixed(top, "--from", "go on from a clip")
    if options.loop:
        flow_to_a_frame(top, "--loop", LOOP)
    assert fixed is not None
    return fixed


@torch.inference_mode()
def _last_latents(
    clip: Source, top: Loaded[TopModel], frame: Loaded[FrameModel], *, stride: int, device: str
) -> tuple[Tensor, Conditions]:
    """Latents (n, C, H, W) of as many of the last frames of a clip as the top model can see.

    And what is known of these frames.
    """
    count = top.model.config.window
    last = last_frames(clip, clip_geometry(top, frame), count, said="--from", stride=stride)
    return frame.model.encoder(to_model(last.frames, device=device)), last.known
