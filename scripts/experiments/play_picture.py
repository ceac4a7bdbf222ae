"""One beginning, played four ways: what a model of `play` makes where each key is held.

    python scripts/experiments/play_picture.py docs/pictures/pacman-32-play.gif [--seed 1]

Four films of `pacman-32-play` begin alike, as one seed gives the same noise; then each holds
another direction, told by the arrow below it, until all turn another way.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ldf_video.levels.latents import decode, video_generator
from ldf_video.models.flow import FlowTop
from ldf_video.models.rollout import KnownConditions, Rollout
from ldf_video.runs.zoo import find_model, frame_model_of, load_top_model

Frames = NDArray[np.uint8]

MODEL = "pacman-32-play"
SCALE, EDGE, BELOW = 4, 6, 26
COLOURS = 32
HELD = 24
"""Frames for which each key is held."""
TURNS = (("up", "down", "left", "right"), ("right", "left", "down", "up"))
"""What each film holds, one after the other."""
ARROWS = {
    "up": ((0, -9), (8, 6), (-8, 6)),
    "down": ((0, 9), (8, -6), (-8, -6)),
    "left": ((-9, 0), (6, 8), (6, -8)),
    "right": ((9, 0), (-6, 8), (-6, -8)),
}


@torch.inference_mode()
def films(seed: int) -> tuple[Frames, float]:
    """Frames (films, T, H, W, 3), and how many play in a second."""
    directory, _ = find_model(MODEL, "top")
    top = load_top_model(directory, device="cpu")
    frame = frame_model_of(top.config, beside=directory, device="cpu")
    assert isinstance(top.model, FlowTop)
    (column,) = top.model.columns
    codes = [
        [column.names.index(key) for turn in TURNS for key in [turn[n]] * HELD] for n in range(4)
    ]
    conditions = KnownConditions(torch.tensor(codes, dtype=torch.float32).unsqueeze(-1))
    rollout = Rollout(len(codes[0]), conditions=conditions)
    blocks = top.model.sample(rollout, [video_generator(seed, 0) for _ in codes])
    found = np.concatenate(list(decode(frame.model, blocks)), axis=1)
    return found, float(top.config["fps"])


def panel(frame: Frames, key: str) -> Image.Image:
    """A frame (H, W, 3), enlarged, with the arrow of what is held below it."""
    height, width = (SCALE * size for size in frame.shape[:2])
    picture = Image.new("RGB", (width + EDGE, height + BELOW), "white")
    picture.paste(Image.fromarray(frame).resize((width, height), Image.Resampling.NEAREST))
    middle = (width // 2, height + BELOW // 2)
    corners = [(middle[0] + x, middle[1] + y) for x, y in ARROWS[key]]
    ImageDraw.Draw(picture).polygon(corners, fill="black")
    return picture


def together(frames: Sequence[Frames], keys: Sequence[str]) -> Image.Image:
    """One frame of each film, side by side."""
    panels = [np.asarray(panel(frame, key)) for frame, key in zip(frames, keys, strict=True)]
    return Image.fromarray(np.concatenate(panels, axis=1)).quantize(COLOURS)


def main() -> None:
    """Roll, draw, write."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("out", type=Path)
    options.add_argument("--seed", type=int, default=1)
    asked = options.parse_args()
    torch.set_num_threads(1)
    found, fps = films(asked.seed)
    pictures = [
        together(frames, TURNS[number // HELD])
        for number, frames in enumerate(found.swapaxes(0, 1))
    ]
    first, *others = pictures
    first.save(asked.out, save_all=True, append_images=others, duration=1000 / fps, loop=0)


if __name__ == "__main__":
    main()
