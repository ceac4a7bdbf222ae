"""Which items an update sees: a function of (seed, step), so resuming needs no memory of it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]


def frame_indices(seed: int, step: int, *, num_frames: int, batch_size: int) -> Integers:
    """Uniform frame numbers (batch_size,) in [0, num_frames), with replacement."""
    return np.random.default_rng([seed, step]).integers(num_frames, size=batch_size)


def windows(
    seed: int, step: int, *, lengths: Integers, window: int, batch_size: int
) -> tuple[Integers, Integers]:
    """Clips and first frames of random windows, every possible window equally likely.

    A clip shorter than the window has one window, which starts at its frame 0 and is padded.

    Args:
        seed: of the run.
        step: of the update.
        lengths: frames of each clip, (num_clips,), each at least 1.
        window: frames.
        batch_size: windows.

    Returns:
        Clip numbers and first frames, each (batch_size,).
    """
    starts = np.cumsum(np.maximum(lengths - window + 1, 1))
    drawn = np.random.default_rng([seed, step]).integers(starts[-1], size=batch_size)
    clips = np.searchsorted(starts, drawn, side="right")
    before = np.where(clips > 0, starts[clips - 1], 0)
    return clips.astype(np.int64), (drawn - before).astype(np.int64)
