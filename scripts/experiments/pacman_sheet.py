"""Look at the shipped pair: generated clips beside real ones, and whether the maze stands still.

    python scripts/experiments/pacman_sheet.py clips/paper/test docs/pictures/pacman-32.png

Writes a sheet of 32 real clips of five frames (left half) and 32 generated ones (right half), drawn
without choosing, and prints how much the picture changes from frame to frame, for real,
reconstructed and generated clips.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ldf_video.evaluation.change import change, count_changes
from ldf_video.evaluation.draw import CLIP_FRAMES, draw_clips
from ldf_video.evaluation.report import side_by_side
from ldf_video.levels.latents import decode, video_generator
from ldf_video.models.rollout import Rollout
from ldf_video.runs.zoo import find_model, frame_model_of, load_top_model
from ldf_video.sources.search import find_sources
from ldf_video.video.geometry import geometry_of
from ldf_video.video.pixels import from_model, to_model
from ldf_video.video.sheet import write_sheet

Clips = npt.NDArray[np.uint8]
SHOWN = ("moving_percent", "still_clips_percent", "flicker_levels")
ON_A_SHEET = 32


def rounded(clips: Clips) -> dict[str, float]:
    """How clips change, in few digits."""
    found = change(count_changes(clips))
    return {name: round(getattr(found, name), 3) for name in SHOWN}


@torch.inference_mode()
def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("real", type=Path, help="directory of held-out clips")
    parser.add_argument("sheet", type=Path, help="PNG to write")
    parser.add_argument("--top-model", default="pacman-32")
    parser.add_argument("--num-measured", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    top = load_top_model(find_model(arguments.top_model, "top")[0], device="cpu")
    frame = frame_model_of(top.config, beside=top.directory, device="cpu")
    count, seed = arguments.num_measured, arguments.seed
    sources, geometry = find_sources(arguments.real), geometry_of(frame.config)
    real = draw_clips(sources, geometry, count=count, seed=seed).clips
    generators = [video_generator(seed, number) for number in range(count)]
    blocks = top.model.sample(Rollout(CLIP_FRAMES), generators)
    generated = np.concatenate(list(decode(frame.model, blocks)), axis=1)
    coded = [frame.model.generator(frame.model.encoder(to_model(clip))) for clip in real]
    reconstructed = np.stack([from_model(images) for images in coded])
    write_sheet(arguments.sheet, side_by_side(real[:ON_A_SHEET], generated[:ON_A_SHEET]))
    kinds = {"real": real, "reconstructed": reconstructed, "generated": generated}
    print(json.dumps({name: rounded(clips) for name, clips in kinds.items()}, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
