"""What a top model is asked to make, as one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ldf_video.models.condition import Condition


class ConditionSource(Protocol):
    """What the frames of a rollout are told, when they are made."""

    def conditions_in(self, first: int, count: int) -> Tensor:
        """Of `count` frames from `first` on, (N, count, columns) or (1, count, columns).

        It is asked once a block, in order, just before the block is made: so what is known only
        then, such as the keys that are held, can be told. Frames before 0 are made and not shown,
        or are those of the past, of which all are asked for before the first block.
        A number, or the code of a name, as the top model's `columns` have them; NaN for unknown.
        """


@dataclass(frozen=True, eq=False)
class KnownConditions:
    """What is told of frames that is known beforehand.

    Attributes:
        values: (N, T, columns) or (1, T, columns), of the frames from 0 on; behind them nothing is
            known.
        past: (1, P, columns), of the frames before 0, the newest last; None for nothing.
    """

    values: Tensor
    past: Tensor | None = None

    def conditions_in(self, first: int, count: int) -> Tensor:
        """See `ConditionSource`."""
        if first < 0 and self.past is not None:
            past = self.past.expand(len(self.values), -1, -1)
            known = KnownConditions(torch.cat([past, self.values], dim=1))
            return known.conditions_in(first + past.shape[1], count)
        n, length, columns = self.values.shape
        found = self.values.new_full((n, count, columns), float("nan"))
        start, stop = max(first, 0), min(first + count, length)
        if start < stop:
            found[:, start - first : stop - first] = self.values[:, start:stop]
        return found


@dataclass(frozen=True, eq=False)
class Rollout:
    """Sequences to be made: how long, after what, and which of their frames are known.

    To go on from a clip is a rollout with a past. To lead from one clip to another is one with a
    past whose last frames are given. A loop is one whose last frames are given and are its first.

    Attributes:
        num_frames: of each sequence, at least 1.
        past: latents (N, n, C, H, W) that stand before the first frame, the newest last, n at least
            1. They are not made again.
        given: latents (N, k, C, H, W) of those frames that are known already, in their order. They
            come out as they are, and the other frames of their block are made to fit them.
        mask: (num_frames,) bool, True at the k frames that `given` holds.
        stride: how many frames of a clip each frame is after the one before it, known ones too: one
            of the strides that the top model knows.
        conditions: what each frame is told: what leads to it from the frame before. None where
            nothing is known.
    """

    num_frames: int
    past: Tensor | None = None
    given: Tensor | None = None
    mask: Tensor | None = None
    stride: int = 1
    conditions: ConditionSource | None = None

    def __post_init__(self) -> None:
        if self.num_frames < 1:
            raise ValueError(f"{self.num_frames} frames: expected 1 or more")
        if self.past is not None and not self.past.shape[1]:
            raise ValueError("a past of no frames: expected 1 or more, or None")
        if (self.given is None) != (self.mask is None):
            raise ValueError("expected given frames and their mask, or neither")
        if self.given is not None and self.mask is not None:
            known = int(self.mask.sum())
            if self.mask.shape != (self.num_frames,) or known != self.given.shape[1]:
                raise ValueError(
                    f"{self.given.shape[1]} given frames, a mask of {tuple(self.mask.shape)} with "
                    f"{known}: expected ({self.num_frames},) with as many as are given"
                )

    def condition_in(self, first: int, count: int, device: torch.device) -> Condition:
        """What `count` frames from `first` on are told."""
        told = None if self.conditions is None else self.conditions.conditions_in(first, count)
        return Condition.of(self.stride, device, told)

    def given_in(self, first: int, count: int) -> tuple[Tensor, Tensor] | None:
        """Which of `count` frames from `first` on are given, (count,) bool, and their latents.

        Frames before the beginning or after the end are not given. None where none is.
        """
        if self.given is None or self.mask is None:
            return None
        start, stop = max(first, 0), min(first + count, self.num_frames)
        inside = self.mask.new_zeros(count)
        inside[start - first : max(stop, start) - first] = self.mask[start : max(stop, start)]
        before, known = int(self.mask[:start].sum()), int(inside.sum())
        return (inside, self.given[:, before : before + known]) if known else None
