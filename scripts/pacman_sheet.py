"""Look at the shipped pair: generated clips beside real ones, and whether the maze stands still.

    python scripts/pacman_sheet.py clips/pacman/test docs/pictures/pacman-32.png

Writes a sheet of 32 real clips of five frames (left half) and 32 generated ones (right half), drawn
without choosing, and prints how much the picture changes from frame to frame, for real,
reconstructed and generated clips.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ldf_video.pipelines.generate import decode, video_generator
from ldf_video.pipelines.geometry import geometry_of
from ldf_video.pipelines.zoo import find_top_model, frame_model_of, load_top_model
from ldf_video.video.pixels import from_model, to_model
from ldf_video.video.read import open_clips
from ldf_video.video.sources import find_sources
from ldf_video.video.write import write_sheet

Clips = npt.NDArray[np.uint8]
NUM_FRAMES = 5
CHANGED_LEVELS = 40
"""A pixel that differs by more than this in any colour has changed, of 255."""


def real_clips(directory: Path, geometry: object, *, num_clips: int, seed: int) -> Clips:
    """Random clips (N, 5, H, W, 3), each from another random file, at a random place."""
    rng = np.random.default_rng(seed)
    sources = find_sources(directory)
    chosen = rng.choice(len(sources), size=num_clips, replace=num_clips > len(sources))
    clips = []
    for number in chosen:
        stream = next(iter(open_clips(sources[number].path, geometry)))
        frames = np.stack(list(stream.frames))
        start = rng.integers(len(frames) - NUM_FRAMES + 1)
        clips.append(frames[start : start + NUM_FRAMES])
    return np.stack(clips)


def side_by_side(real: Clips, generated: Clips) -> list[Clips]:
    """Rows of a sheet: two real clips, a wider gap, two generated ones."""
    gap = np.full((1, *real.shape[2:]), 224, np.uint8)
    pairs = zip(real[::2], real[1::2], generated[::2], generated[1::2], strict=True)
    return [np.concatenate([a, gap, b, gap, gap, c, gap, d]) for a, b, c, d in pairs]


def change(clips: Clips) -> dict[str, float]:
    """How clips change from frame to frame.

    Returns:
        moving_percent: pixels that differ visibly from the frame before.
        still_clips_percent: clips in which under 0.1 % of the pixels do.
        flicker_levels: mean absolute difference of the pixels that do not, in levels of 255: what
            a background that stands still has at 0.
    """
    difference = np.abs(clips[:, 1:].astype(np.int16) - clips[:, :-1]).max(-1)  # (N, 4, H, W)
    changed = difference > CHANGED_LEVELS
    return {
        "moving_percent": round(100 * float(changed.mean()), 3),
        "still_clips_percent": round(100 * float((changed.mean((1, 2, 3)) < 0.001).mean()), 1),
        "flicker_levels": round(float(difference[~changed].mean()), 3),
    }


@torch.inference_mode()
def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("real", type=Path, help="directory of held-out clips")
    parser.add_argument("sheet", type=Path, help="PNG to write")
    parser.add_argument("--top-model", default="pacman-32")
    parser.add_argument("--num-measured", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    top = load_top_model(find_top_model(arguments.top_model)[0], device="cpu")
    frame = frame_model_of(top, device="cpu")
    count, seed = arguments.num_measured, arguments.seed
    real = real_clips(arguments.real, geometry_of(frame.config), num_clips=count, seed=seed)
    generators = [video_generator(seed, number) for number in range(count)]
    blocks = top.model.sample(NUM_FRAMES, generators)
    generated = np.concatenate(list(decode(frame.model, blocks)), axis=1)
    coded = [frame.model.generator(frame.model.encoder(to_model(clip))) for clip in real]
    reconstructed = np.stack([from_model(images) for images in coded])
    write_sheet(arguments.sheet, side_by_side(real[:32], generated[:32]))
    kinds = {"real": real, "reconstructed": reconstructed, "generated": generated}
    print(json.dumps({name: change(clips) for name, clips in kinds.items()}, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
