"""Ways from noise to data, whose steps are passes of a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor

Velocity = Callable[[Tensor, float], Tensor]
"""From a noisy block and its level to the direction of the data."""


def integrate(x: Tensor, levels: Sequence[float], velocity: Velocity) -> Tensor:
    """Lead a block from noise to data, or part of the way.

    By the two-step method of Adams and Bashforth, which takes the last velocity with the one before
    it, so that a step is still one pass (as Liu et al. 2022, arXiv:2202.09778, with four steps);
    the first is Euler's. Steps may differ in length.
    """
    before = None
    for high, low in pairwise(levels):
        slope = now = velocity(x, high)
        step = high - low
        if before is not None:
            last_velocity, last_step = before
            slope = now + step / last_step / 2 * (now - last_velocity)
        x, before = x + step * slope, (now, step)
    return x


def renew(noise: Callable[[], Tensor], levels: Sequence[float], velocity: Velocity) -> Tensor:
    """Guess the data at each level, from the last guess with new noise.

    Song et al. (2023), arXiv:2303.01469, algorithm 1, with our levels: the path from x at level u
    is taken to be straight, x + u v.
    """
    x = noise()
    for high, low in pairwise(levels):
        guess = x + high * velocity(x, high)
        x = guess if low == 0 else (1 - low) * guess + low * noise()
    return x
