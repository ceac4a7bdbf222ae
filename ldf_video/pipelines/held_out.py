"""Clips that training never sees, to tell by whether it learns or remembers."""

from __future__ import annotations

import numpy as np

from ldf_video.store.reader import StoreReader

FEWEST_CLIPS = 20
"""With fewer, all are learned from."""
SHARE = 20
"""One clip in so many is held out."""


def split(store: StoreReader) -> tuple[StoreReader, StoreReader | None]:
    """Clips to learn from and clips to measure on, a function of what the store holds.

    Clips are ordered by the hash of their content, so that every twentieth is a random choice that
    stays the same. Pieces of one recording under different names may fall on both sides.

    Returns:
        The two parts; the second is None where there are too few clips to spare any.
    """
    if store.num_clips < FEWEST_CLIPS:
        return store, None
    numbers = np.arange(store.num_clips)
    held = numbers % SHARE == 0
    return store.select(numbers[~held]), store.select(numbers[held])
