"""A store of latents in which the conditions of only a share of the clips are known.

    python scripts/experiments/label_share.py LATENTS OUT --share 0.1 [--seed 0]

A top model of OUT beside one of LATENTS, trained as long, shows how many labels control takes
(`ldf-video evaluate --control`). Rows, rates and names of the clips stay as they are; which clips
keep what is known of their frames is drawn by the seed, and at least one does.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ldf_video.arrays.conditions import Conditions
from ldf_video.levels.latents import open_latents
from ldf_video.store.writer import StoreWriter

AT_ONCE = 4_096
"""Frames that are copied at once."""


def copy(latents: Path, out: Path, *, share: float, seed: int) -> int:
    """Copy a store, and say of how many clips the conditions were kept."""
    known = open_latents(latents)
    count = max(1, round(share * known.num_clips))
    told = set(np.random.default_rng(seed).permutation(known.num_clips)[:count].tolist())
    with StoreWriter(out, known.spec, info=known.info) as writer:
        for clip, name in enumerate(known.clip_ids):
            fps, length = known.fps(clip), int(known.lengths[clip])
            if clip in told:
                writer.begin_conditions(name, known.columns)
            for first in range(0, length, AT_ONCE):
                stop = min(first + AT_ONCE, length)
                conditions = None
                if clip in told:
                    values = known.conditions([clip], [first], length=stop - first)[0]
                    conditions = Conditions(known.columns, values)
                writer.append(name, known.read(clip, first, stop), fps=fps, conditions=conditions)
            writer.finish_clip(name, fps=fps)
            writer.set_source(name, size=0, mtime_ns=0, clip_ids=[name])
    return count


def main() -> None:
    """Copy."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("latents", type=Path)
    options.add_argument("out", type=Path)
    options.add_argument("--share", type=float, default=0.1, help="of the clips")
    options.add_argument("--seed", type=int, default=0)
    asked = options.parse_args()
    kept = copy(asked.latents, asked.out, share=asked.share, seed=asked.seed)
    print(f"{asked.out}: conditions of {kept:,} clips")


if __name__ == "__main__":
    main()
