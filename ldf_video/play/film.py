"""A film that is made while it is watched, a block of frames at a time."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ldf_video.levels.latents import decode, video_generator
from ldf_video.models.flow import FlowTop
from ldf_video.models.frame import FrameModel
from ldf_video.models.rollout import Rollout

Frames = npt.NDArray[np.uint8]


class Film:
    """Frames without end. Memory and time a frame do not grow; `restart` begins another film.

    Nothing is made ahead: a block is sampled and decoded when its first frame is asked for, so what
    is held by then acts on it.
    """

    def __init__(self, top: FlowTop, frame: FrameModel, *, seed: int) -> None:
        """A film of a flow and the frame model that decodes it."""
        self._top, self._frame = top, frame
        self.size = frame.config.height, frame.config.width
        self.restart(seed)

    def restart(self, seed: int) -> None:
        """Begin the film that `generate --seed` makes as its first video."""
        self.seed = seed
        rollout = Rollout(sys.maxsize)
        blocks = self._top.sample(rollout, [video_generator(seed, 0)])
        self._frames = _one_by_one(decode(self._frame, blocks, at_once=1))

    def __iter__(self) -> Iterator[Frames]:
        """The film itself, from where it stands."""
        return self

    def __next__(self) -> Frames:
        """The next frame, uint8 (H, W, 3)."""
        return next(self._frames)


def _one_by_one(parts: Iterator[Frames]) -> Iterator[Frames]:
    for part in parts:
        yield from part[0]
