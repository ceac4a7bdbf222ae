"""Float64 in place of float32, for tests that compare sums taken in another order.

In float32 such sums differ by 1e-7, enough to take a number across a kink now and then (|x| at 0, a
leaky ReLU), where its share of a gradient jumps. In float64 they differ by 1e-16: what differs by
more is no rounding.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def float64() -> Iterator[None]:
    """Make and compute in float64 what is float32 by default, or by a call of `Tensor.float`."""
    dtype, to_float = torch.get_default_dtype(), Tensor.float
    torch.set_default_dtype(torch.float64)
    Tensor.float = Tensor.double  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        Tensor.float = to_float  # type: ignore[method-assign]
