"""How clips change from frame to frame, and whether what should stand still does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Clips = npt.NDArray[np.uint8]

CHANGED_LEVELS = 40
"""A pixel that differs by more than this in any colour has changed, of 255."""
STILL_SHARE = 0.001
_CLIPS = 256


@dataclass(frozen=True)
class Change:
    """How clips change from frame to frame.

    Attributes:
        moving_percent: pixels that differ visibly from the frame before.
        still_clips_percent: clips in which under 0.1 % of the pixels do: frozen ones, too.
        flicker_levels: mean absolute difference of the pixels that do not, in levels of 255: what
            a background that stands still has at 0. 0 also where every pixel moves.
    """

    moving_percent: float
    still_clips_percent: float
    flicker_levels: float


def change(clips: Clips) -> Change:
    """How clips (N, T, H, W, 3) change, T at least 2."""
    moving, still, flicker, num_pixels = 0, 0, 0, 0
    for start in range(0, len(clips), _CLIPS):
        part = clips[start : start + _CLIPS]
        difference = np.abs(part[:, 1:].astype(np.int16) - part[:, :-1]).max(-1)  # (n, T - 1, H, W)
        changed = difference > CHANGED_LEVELS
        moving += int(changed.sum())
        still += int((changed.mean((1, 2, 3)) < STILL_SHARE).sum())
        flicker += int(difference[~changed].sum(dtype=np.int64))
        num_pixels += changed.size
    return Change(
        moving_percent=100 * moving / num_pixels,
        still_clips_percent=100 * still / len(clips),
        flicker_levels=flicker / max(1, num_pixels - moving),
    )
