"""What a store's manifest says of a clip, a source, a column of conditions."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ldf_video.store.shards import Rows

FINISHED = ("complete", "salvaged")


class Source(NamedTuple):
    """One clip of a source, whose path is relative to CLIPS; of several each has a row."""

    source: str
    size: int
    mtime_ns: int
    clip_id: str


class Quarantined(NamedTuple):
    """A source that could not be read, or clips of it, with its size in bytes, its time and why."""

    source: str
    size: int
    mtime_ns: int
    reason: str


class SourceRecord(NamedTuple):
    """What a source of this size and time gave: clips, or a reason why it is in quarantine.

    Both, where of some of its clips nothing could be read.
    """

    size: int
    mtime_ns: int
    clip_ids: tuple[str, ...]
    reason: str | None = None


@dataclass
class ClipRecord:
    """A clip's row, and what the next commit adds to it."""

    num_frames: int = 0  # that are committed
    fps: Fraction = Fraction(1)
    status: str = "partial"  # until all frames are there
    blocks: list[Rows] = field(default_factory=list)  # each (n, *item_shape) and contiguous
    cuts: list[int] = field(default_factory=list)  # frames that begin a shot
    conditions: list[Rows | None] = field(default_factory=list)  # of each block, if known


@dataclass
class ColumnRecord:
    """A column of conditions: its kind is "number", "name", or "" while it holds neither."""

    name: str
    kind: str = ""
    names: list[str] = field(default_factory=list)  # by their codes
