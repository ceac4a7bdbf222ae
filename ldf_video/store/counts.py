"""How much a store holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ldf_video.store.columns import read_columns
from ldf_video.store.manifest import count_quarantined
from ldf_video.store.parts import find_parts

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Counts:
    """What readers that open now would see: finished clips of current sources, and their frames."""

    num_clips: int
    num_frames: int
    num_quarantined: int


def count_store(root: Path) -> Counts:
    """Count what all parts of a store hold, as of their last commits.

    Raises:
        StoreError: a manifest is damaged.
    """
    parts = list(find_parts(root).values())
    lengths = read_columns(parts)[0].lengths
    return Counts(len(lengths), int(lengths.sum()), sum(map(count_quarantined, parts)))
