"""What becomes of long rollouts of Ms. Pac-Man: pictures far out, and figures by thousand frames.

    python scripts/experiments/pacman_rollouts.py strip.png --frames 54000 --real clips/paper/test

Rolls all videos as one batch, an hour of each at 15 frames a second, and holds no more than 20
frames of them. Frames 0, 100, 1,000, 10,000, 50,000 and the last of four become rows of a sheet.
Prints a line for each thousand frames as soon as they are made, and then what became of each video:

    moving     pixels that change by more than 40 levels from frame to frame
    still      windows of 20 frames in which under 0.1 % of them do
    maze       pixels of walls in common with frame 0, of those that are wall in either
    and figures of pacman_physics.py, of every fourth window

A video is frozen if all of its last windows are still, and of one colour if its last frame is.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pacman_physics import Counts, cut, figures, physics
from pacman_sprites import Frames, Masks, kinds_of, walls_of

from ldf_video.errors import LdfError
from ldf_video.evaluation.change import CHANGED_LEVELS, STILL_SHARE
from ldf_video.levels.latents import rolled_frames, video_generator
from ldf_video.models.rollout import Rollout
from ldf_video.runs.zoo import find_model, frame_model_of, load_top_model
from ldf_video.video.sheet import write_sheet

SHOWN = (0, 100, 1_000, 10_000, 50_000)
ROWS = 4
WINDOW = 20
STRETCH = 1_000
LOOKED_AT = 4
"""Of so many windows one is looked at for physics, which takes as long as to make it."""
ONE_COLOUR_LEVELS = 8
"""Standard deviation over the pixels of a frame below which it has one colour."""
PRINTED = (
    "sprites",
    "ghosts stand",
    "teleports",
    "vanishes",
    "appears",
    "changes colour",
    "odd size",
    "wall changes",
    "unclear, elsewhere, later",
)
Values = NDArray[np.float64]


@dataclass
class Stretch:
    """What is known of the same frames of N videos, added window by window."""

    first: int
    moving: list[Values] = field(default_factory=list)  # (N,) a window: share of pixels
    maze: list[Values] = field(default_factory=list)  # (N,) a window
    counts: list[Counts] = field(default_factory=list)

    def row(self) -> dict[str, float | None]:
        """Its figures, over all videos."""
        found = figures(self.counts)
        moving = np.array(self.moving)
        return {
            "moving %": float(100 * moving.mean()),
            "still %": float(100 * (moving < STILL_SHARE).mean()),
            "maze %": float(100 * np.mean(self.maze)),
            **{name: found[name]["value"] for name in PRINTED},
        }


# -------------------- measuring


def stretches(
    frames: Iterator[Frames], *, length: int = STRETCH, looked_at: int = LOOKED_AT
) -> Iterator[Stretch]:
    """Figures of frames (N, H, W, 3) in their order, for every `length` of them.

    `length` is a number of whole windows. Less than that is left out at the end, unless it is all.
    """
    at_first, number, stretch = None, 0, Stretch(0)
    while len(window := list(islice(frames, WINDOW))) == WINDOW:
        clips = np.stack(window, axis=1)
        at_first = _walls(clips[:, 0]) if at_first is None else at_first
        add(stretch, clips, at_first, look=number % looked_at == 0)
        number += 1
        if number * WINDOW % length == 0:
            yield stretch
            stretch = Stretch(number * WINDOW)
    if stretch.moving and stretch.first == 0:
        yield stretch


def add(stretch: Stretch, clips: Frames, at_first: Masks, *, look: bool) -> None:
    """Add a window of all videos (N, T, H, W, 3), whose mazes began as `at_first`, (N, H, W)."""
    steps = np.abs(clips[:, 1:].astype(np.int16) - clips[:, :-1]).max(-1)
    stretch.moving.append((steps > CHANGED_LEVELS).mean((1, 2, 3)))
    walls = _walls(clips[:, -1])
    both, either = (walls & at_first).sum((1, 2)), (walls | at_first).sum((1, 2))
    stretch.maze.append(both / np.maximum(1, either))
    if look:
        stretch.counts += [physics(clip, first=WINDOW) for clip in clips]


def _walls(frames: Frames) -> Masks:
    return walls_of(kinds_of(frames)[0])[0]


def real_row(clips: str, *, most: int) -> dict[str, float | None]:
    """The same figures of real clips, a window each."""
    stretch = Stretch(0)
    for clip in cut(clips, skip=0, frames=WINDOW, most=most):
        add(stretch, clip[None], _walls(clip[:1]), look=True)
    return stretch.row()


def verdict(early: Stretch, late: Stretch, last: Frames) -> list[str]:
    """A line on each video: how it moved in its first and its last stretch, and how it ended."""
    lines = []
    for video, frame in enumerate(last):
        begins, ends = (np.array(stretch.moving)[:, video] for stretch in (early, late))
        faults = ["frozen"] if (ends < STILL_SHARE).all() else []
        if frame.std((0, 1)).max() < ONE_COLOUR_LEVELS:
            faults.append("of one colour")
        lines.append(
            f"video {video}: {100 * begins.mean():.2f} % of its pixels move at first, "
            f"{100 * ends.mean():.2f} % at last; {' and '.join(faults) or 'alive'}"
        )
    return lines


# -------------------- rolling


def rolled(name: str, *, num_frames: int, num_videos: int, seed: int) -> Iterator[Frames]:
    """Frames (N, H, W, 3) of a model's videos, those that `generate --seed` makes."""
    top = load_top_model(find_model(name, "top")[0], device="cpu")
    frame = frame_model_of(top.config, beside=top.directory, device="cpu")
    generators = [video_generator(seed, video) for video in range(num_videos)]
    blocks = top.model.sample(Rollout(num_frames), generators)
    with rolled_frames(frame.model, blocks) as made:
        for frames in made:
            yield from np.moveaxis(frames, 1, 0)


class Kept:
    """The frames that are shown, and the last one, of frames that pass."""

    def __init__(self, frames: Iterator[Frames]) -> None:
        self.shown: list[Frames] = []
        self.last: Frames | None = None
        self._frames = frames

    def rows(self) -> list[Frames]:
        """A row (T, H, W, 3) of each video: what is shown, and where it has come to."""
        columns = self.shown if self.last is None else [*self.shown, self.last[:ROWS]]
        return list(np.stack(columns, axis=1))

    def __iter__(self) -> Iterator[Frames]:
        for number, frame in enumerate(self._frames):
            if number in SHOWN:
                self.shown.append(frame[:ROWS])
            self.last = frame
            yield frame


def line(cells: Sequence[str]) -> str:
    """A row of a table in Markdown."""
    return "| " + " | ".join(cells) + " |"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("strip", type=Path, help="PNG to write")
    parser.add_argument("--top-model", default="pacman-32")
    parser.add_argument("--frames", type=int, default=54_000, help=f"{WINDOW} or more")
    parser.add_argument("--num-videos", type=int, default=8)
    parser.add_argument("--real", help="directory of real clips, for a line above the others")
    parser.add_argument("--num-clips", type=int, default=1000, help="real ones, at most")
    parser.add_argument("--json", type=Path, help="write all lines there too")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    if arguments.frames < WINDOW or min(arguments.num_videos, arguments.num_clips) < 1:
        parser.error(f"expected --frames {WINDOW} or more, --num-videos and --num-clips 1 or more")
    rows: dict[str, dict[str, float | None]] = {}

    def tell(name: str, row: dict[str, float | None]) -> None:
        if not rows:
            print(line(["frames", *row]) + "\n|---" + "|---:" * len(row) + "|")
        rows[name] = row
        cells = ["" if value is None else f"{value:.2f}" for value in row.values()]
        print(line([name, *cells]), flush=True)

    try:
        if arguments.real is not None:
            tell("real", real_row(arguments.real, most=arguments.num_clips))
        made = {"num_frames": arguments.frames, "num_videos": arguments.num_videos}
        frames = Kept(rolled(arguments.top_model, **made, seed=arguments.seed))
        early = late = None
        for late in stretches(iter(frames)):
            early = early or late
            tell(f"from {late.first:,}", late.row())
            write_sheet(arguments.strip, frames.rows(), upscale=4)
    except LdfError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    assert early is not None
    assert late is not None
    assert frames.last is not None
    write_sheet(arguments.strip, frames.rows(), upscale=4)
    lines = verdict(early, late, frames.last)
    print("\n" + "\n".join(lines))
    if arguments.json is not None:
        found = {"made": made, "seed": arguments.seed, "rows": rows, "videos": lines}
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
