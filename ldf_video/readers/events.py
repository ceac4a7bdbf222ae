"""What reading many sources tells, event by event."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from ldf_video.video.sources import Source

Plan: TypeAlias = Callable[[Source, str, int | None], Sequence[int]]
"""(source, digest, number of clips of an array, else None) -> for each clip the first frame wanted,
SKIP for a clip that is not; one number where the source is one clip."""


Fault: TypeAlias = Literal["content", "reach", "changed"]


@dataclass(frozen=True)
class ClipBegun:
    """A clip of the source is open; its frames follow.

    Attributes:
        source: that holds the clip.
        digest: of the source, 64 hex digits.
        index: of the clip in an array of clips, None where the source is one clip.
        fps: frames a second of the frames that follow.
        first_frame: number of the first of them.
        why_pyav: why decord, asked for, does not read it; else empty.
    """

    source: Source
    digest: str
    index: int | None
    fps: Fraction
    first_frame: int
    why_pyav: str


@dataclass(frozen=True)
class FramesRead:
    """The next frames of the clip begun last of this source.

    Attributes:
        source: that holds the clip.
        index: of the clip in an array of clips, None where the source is one clip.
        frames: uint8 (n, height, width, 3) RGB, n at least 1; valid until the next event is asked
            for.
        position: how much of the source has been read, in [0, 1].
    """

    source: Source
    index: int | None
    frames: npt.NDArray[np.uint8]
    position: float


@dataclass(frozen=True)
class ClipEnded:
    """The clip begun last of this source has no more frames.

    Attributes:
        source: that holds the clip.
        index: of the clip in an array of clips, None where the source is one clip.
        damage: why it is not whole, empty if it is.
        note: what a user must know of its frames, empty if nothing.
    """

    source: Source
    index: int | None
    damage: str
    note: str = ""


@dataclass(frozen=True)
class SourceEnded:
    """All that was wanted of a source has been given.

    Attributes:
        source: that ended.
        digest: of the source, 64 hex digits.
        num_clips: of an array of clips, None where the source is one clip.
    """

    source: Source
    digest: str
    num_clips: int | None


@dataclass(frozen=True)
class SourceFailed:
    """Nothing, or nothing more, can be read of a source; a clip that was begun does not end.

    Attributes:
        source: that failed.
        digest: of the source; None if it failed before that was known.
        reason: in a few words, without the path.
        fault: "content": what it holds, so a copy is no better; "reach": it could not be reached,
            and the frames given are good; "changed": while it was read, so they may not be.
    """

    source: Source
    digest: str | None
    reason: str
    fault: Fault = "content"


Event: TypeAlias = ClipBegun | FramesRead | ClipEnded | SourceEnded | SourceFailed
