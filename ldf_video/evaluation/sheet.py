"""Pictures of real and judged clips side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Clips = npt.NDArray[np.uint8]

ROWS = 8
"""Of a set of judged clips."""
_GREY = 224


def side_by_side(real: Clips, judged: Clips) -> list[Clips]:
    """Rows of a sheet: two real clips, a wider gap, two judged ones.

    Args:
        real: uint8 (N, T, H, W, 3), N even.
        judged: as many, of any number of frames.
    """
    gap = np.full((1, *real.shape[2:]), _GREY, np.uint8)
    pairs = zip(real[::2], real[1::2], judged[::2], judged[1::2], strict=True)
    return [np.concatenate([a, gap, b, gap, gap, c, gap, d]) for a, b, c, d in pairs]


def places(count: int) -> npt.NDArray[np.intp]:
    """Which clips of `count` are shown: 2 * ROWS of them, evenly spread, or all of an even number.

    Nobody chooses, and a reconstruction stands beside its original.
    """
    shown = min(2 * ROWS, count - count % 2)
    return np.linspace(0, count - 1, shown).round().astype(np.intp)


def rows_of(real: Clips, sets: Sequence[Clips]) -> list[Clips]:
    """Rows for several sets of judged clips, a grey one between them; `real` as in `places`."""
    rows: list[Clips] = []
    for judged in sets:
        if rows:
            rows.append(np.full((1, *real.shape[2:]), _GREY, np.uint8))
        rows += side_by_side(real[: len(judged)], judged)
    return rows


def as_clips(clips: Clips, num_frames: int) -> Clips:
    """Single frames (N, 1, H, W, 3) put together to clips of `num_frames`; clips as they are."""
    if clips.shape[1] > 1:
        return clips
    whole = len(clips) // num_frames * num_frames
    return clips[:whole].reshape(-1, num_frames, *clips.shape[2:])
