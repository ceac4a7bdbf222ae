"""What a flow is: its shape, and how it samples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class ColumnConfig:
    """One thing that a flow may be told of each frame, such as the action that leads to it.

    Attributes:
        name: as clips have it.
        names: that its values have, in the order of their codes; empty where they are numbers.
        mean: of numbers, in the latents that were learned.
        spread: their standard deviation, more than 0.
        low: their least.
        high: their largest.
    """

    name: str
    names: tuple[str, ...] = ()
    mean: float = 0.0
    spread: float = 1.0
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        if not self.spread > 0:
            raise ValueError(f"column {self.name}: spread {self.spread}, expected more than 0")

    @property
    def num_features(self) -> int:
        """Numbers that the network sees of it: one a name; or the value, and that there is one."""
        return len(self.names) or 2


@dataclass(frozen=True)
class FlowConfig:
    """Shape and schedule of a flow.

    Attributes:
        latent_shape: of one frame, (channels, rows, columns).
        patch: cells along each side of a token (Peebles & Xie 2023); 0 for one token a frame.
        window: frames that the network sees at once, a multiple of `block`.
        block: frames that are integrated together; a block sees itself and the past.
        width: of a token, a multiple of `heads`.
        depth: transformer layers.
        heads: of the attention.
        local_width: channels of a cell in the convolutions around the transformer; 0 for none.
        local_depth: such convolutions before the transformer, and as many after it.
        sampling_steps: steps a block when sampling, each one pass of the network.
        first_steps: the same for the first block of a video, which has no past and has most to
            decide (docs/log.md).
        level_shift: how much denser the steps lie at the noisy end, where a frame is decided (Esser
            et al. 2024, arXiv:2403.03206); 1 for even steps.
        shared_noise: share of the noise's variance that is the same in all frames of a block (Ge et
            al. 2023, arXiv:2305.10474): what stands still then has nearly the same noise, too.
        prefix_noise: highest noise level of the clean past in training.
        context_level: noise level that the network takes the past to have when sampling.
        kept: a frame's place is that in its block, of which a video's first one has its own, and
            the past is known by its distance, so that keys and values of the past are computed once
            and kept from block to block. Otherwise a frame's place is that in the window, and they
            are computed for each block anew.
        renewed: each pass guesses the data, and the next one starts from that guess with new noise
            (Song et al. 2023, arXiv:2303.01469, algorithm 1), as a flow does that was distilled to
            few passes. Otherwise the velocity is integrated.
        warm_up: blocks before a video's beginning that are made and not shown: a video that goes on
            from a past of its own is better than one that begins from nothing.
        columns: what it may be told of each frame beside its noise, see `ColumnConfig`.
        strides: how many frames of a clip a frame may be after the one before it, 1 first, rising:
            at R frames a second, (1, 2, 4) knows the rates R, R / 2 and R / 4.
    """

    latent_shape: tuple[int, int, int] = (4, 8, 8)
    patch: int = 4
    window: int = 16
    block: int = 4
    width: int = 192
    depth: int = 4
    heads: int = 4
    local_width: int = 64
    local_depth: int = 2
    sampling_steps: int = 5
    first_steps: int = 16
    level_shift: float = 2.0
    shared_noise: float = 0.75
    prefix_noise: float = 0.2
    context_level: float = 0.05
    kept: bool = False
    renewed: bool = False
    warm_up: int = 0
    strides: tuple[int, ...] = (1,)
    columns: tuple[ColumnConfig, ...] = ()

    def __post_init__(self) -> None:
        columns = (
            ColumnConfig(**column) if isinstance(column, Mapping) else column
            for column in self.columns
        )
        object.__setattr__(self, "columns", tuple(columns))
        for name in ("latent_shape", "strides"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.block < 1 or self.window % self.block or self.window < 2 * self.block:
            raise ValueError(
                f"window {self.window}, block {self.block}: "
                "expected a window of two blocks or more, a whole number of them"
            )
        if not 0 <= self.shared_noise <= 1:
            raise ValueError(f"shared_noise {self.shared_noise}: expected 0 to 1")
        for name in ("sampling_steps", "first_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: expected 1 or more")
        if not 0.01 <= self.level_shift <= 100:  # far outside of it steps have no length
            raise ValueError(f"level_shift {self.level_shift}: expected 0.01 to 100")
        if self.strides[:1] != (1,) or any(a >= b for a, b in pairwise(self.strides)):
            raise ValueError(f"strides {self.strides}: expected 1, then larger and larger numbers")
        if self.patch < 0:
            raise ValueError(f"patch {self.patch}: expected 1 cell or more, or 0 for a whole frame")

    @property
    def reach(self) -> int:
        """Frames of the past that a block sees."""
        return self.window - self.block

    @property
    def patch_shape(self) -> tuple[int, int]:
        """Rows and columns of cells in a token."""
        _, rows, columns = self.latent_shape
        return (self.patch, self.patch) if self.patch else (rows, columns)

    @property
    def patches(self) -> int:
        """Tokens a frame; where the grid is no whole number of patches, zeros fill the last."""
        _, rows, columns = self.latent_shape
        height, width = self.patch_shape
        return math.ceil(rows / height) * math.ceil(columns / width)
