"""Stores of latents for tests."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from ldf_video.store.format import StoreSpec
from ldf_video.store.reader import StoreReader
from ldf_video.store.writer import StoreWriter

if TYPE_CHECKING:
    from pathlib import Path


def write_latents(
    path: Path, lengths: list[int], *, weights: str = "ab" * 32, fps: int = 12
) -> StoreReader:
    """Latents whose mean is 3 and spread 2, but for channel 0, which is -1 always."""
    spec = StoreSpec("latents", (4, 4, 4), "float16", {"weights": weights, "fps": None})
    with StoreWriter(path, spec) as writer:
        for number, length in enumerate(lengths):
            rows = np.random.default_rng(number).normal(3, 2, (length, 4, 4, 4)).astype("f2")
            rows[:, 0] = -1
            name = f"{number:03}"
            writer.append(name, rows, fps=Fraction(fps))
            writer.finish_clip(name, fps=Fraction(fps))
            writer.set_source(name, size=1, mtime_ns=1, clip_ids=[name])
    return StoreReader(path)
