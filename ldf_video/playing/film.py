"""A film that is made while it is watched, a block of frames at a time."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ldf_video.levels.latents import decode, video_generator
from ldf_video.models.flow import FlowTop
from ldf_video.models.frame import FrameModel
from ldf_video.models.rollout import Rollout
from ldf_video.playing.keys import Held, actions_of

Frames = npt.NDArray[np.uint8]


class Film:
    """Frames without end. Memory and time a frame do not grow; `restart` begins another film.

    Nothing is made ahead: a block is sampled and decoded when its first frame is asked for, so what
    is held by then acts on it.

    Attributes:
        size: height and width of a frame in pixels.
        actions: that can be held.
        seed: of the film that plays.
        acted: the number of the newest `hold` that acted on the frame that came last.
    """

    def __init__(self, top: FlowTop, frame: FrameModel, *, seed: int) -> None:
        """A film of a flow and the frame model that decodes it."""
        self._top, self._frame = top, frame
        self.size = frame.config.height, frame.config.width
        self.actions = actions_of(top.columns)
        self.restart(seed)

    def restart(self, seed: int) -> None:
        """Begin the film that `generate --seed` makes as its first video; nothing is held."""
        self.seed, self.acted, self._newest = seed, 0, 0
        self._held = Held(self._top.columns)
        rollout = Rollout(sys.maxsize, conditions=self if self._top.columns else None)
        blocks = self._top.sample(rollout, [video_generator(seed, 0)])
        self._frames = _one_by_one(decode(self._frame, blocks, at_once=1))

    def hold(self, names: Iterable[object], *, number: int = 0) -> None:
        """Hold these actions, and no others, from the next block on; what is none means nothing."""
        self._held.hold(names)
        self._newest = number

    def conditions_in(self, first: int, count: int) -> Tensor:
        """What is held, for the sampler (`ConditionSource`), which asks just before each block."""
        self.acted = self._newest
        row = self._held.row if first >= 0 else [math.nan] * len(self._top.columns)
        return torch.tensor(row).expand(1, count, -1)

    def __iter__(self) -> Iterator[Frames]:
        """The film itself, from where it stands."""
        return self

    def __next__(self) -> Frames:
        """The next frame, uint8 (H, W, 3)."""
        return next(self._frames)


def _one_by_one(parts: Iterator[Frames]) -> Iterator[Frames]:
    for part in parts:
        yield from part[0]
