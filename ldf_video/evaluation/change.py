"""How much of clips moves, how many stand still, and how much what stands still flickers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ldf_video.evaluation.clouds import GROUPS, tenths_of

Clips = npt.NDArray[np.uint8]
Changes = npt.NDArray[np.int64]
"""Of each clip, (N, 4): its pixels behind the first frame, those that moved, the levels by which
the others differ together, and whether it stands still."""

CHANGED_LEVELS = 40
"""A pixel that differs by more than this in any colour has changed, of 255."""
STILL_SHARE = 0.001
FRAMES_AT_ONCE = 1280
"""As whole clips: memory does not grow with these."""


@dataclass(frozen=True)
class Change:
    """How clips change from frame to frame."""

    moving_percent: float  # pixels that differ visibly from the frame before
    still_clips_percent: float  # clips in which under 0.1 % of the pixels do: frozen ones, too
    flicker_levels: float
    """Mean difference, in the colour that differs most, of the pixels that do not move, of 255: 0
    where a background stands still, and where every pixel moves."""
    left: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Each without each tenth of the clips; empty of fewer than 20."""


def some_clips(clips: Clips) -> Iterator[slice]:
    """All of clips (N, T, ...), in runs of FRAMES_AT_ONCE frames or of one clip."""
    size = max(1, FRAMES_AT_ONCE // clips.shape[1])
    return (slice(start, start + size) for start in range(0, len(clips), size))


def count_changes(clips: Clips) -> Changes:
    """How clips (N, T, H, W, 3) change, T at least 2: what `change` sums up."""
    counts = np.empty((len(clips), 4), np.int64)
    for some in some_clips(clips):
        part = clips[some]
        steps = np.abs(part[:, 1:].astype(np.int16) - part[:, :-1]).max(-1)  # (n, T - 1, H, W)
        changed = steps > CHANGED_LEVELS
        axes = (1, 2, 3)
        levels = np.where(changed, 0, steps).sum(axes, dtype=np.int64)
        still = changed.mean(axes) < STILL_SHARE
        sums = [changed[0].size, changed.sum(axes), levels, still]
        counts[some] = np.stack(np.broadcast_arrays(*sums), axis=1)
    return counts


def still(changes: Changes) -> npt.NDArray[np.bool_]:
    """Which clips stand still, (N,)."""
    return changes[:, 3].astype(bool)


def change(changes: Changes) -> Change:
    """How clips change, and how all but each tenth of them do."""

    def shares(of: Changes) -> dict[str, Any]:
        pixels, moved, levels, still = (int(count) for count in of.sum(0))
        return {
            "moving_percent": 100 * moved / pixels,
            "still_clips_percent": 100 * still / len(of),
            "flicker_levels": levels / max(1, pixels - moved),
        }

    whole, left = shares(changes), dict[str, tuple[float, ...]]()
    if len(changes) >= 2 * GROUPS:
        parts = [shares(np.delete(changes, tenth, axis=0)) for tenth in tenths_of(len(changes))]
        left = {name: tuple(part[name] for part in parts) for name in whole}
    return Change(**whole, left=left)
