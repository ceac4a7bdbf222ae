"""Optimizers by name."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from ldf_video.errors import UsageError
from ldf_video.training.muon import Muon

OPTIMIZERS = ("muon", "adam", "adam8bit")


def check_optimizer(name: str) -> None:
    """See that an optimizer can be had.

    Raises:
        UsageError: there is none of that name, or its package is not installed.
    """
    if name not in OPTIMIZERS:
        raise UsageError(
            f"--optimizer {name}: expected {', '.join(OPTIMIZERS[:-1])} or {OPTIMIZERS[-1]}"
        )
    if name == "adam8bit" and importlib.util.find_spec("bitsandbytes") is None:
        raise UsageError(
            "--optimizer adam8bit: bitsandbytes is not installed (it is made for Linux): "
            "use --optimizer adam"
        )


def make_optimizer(
    name: str,
    parameters: Iterable[nn.Parameter],
    *,
    learning_rate: float,
    beta1: float,
    beta2: float,
) -> torch.optim.Optimizer:
    """Muon, or Adam (Kingma & Ba 2015, arXiv:1412.6980) with 32-bit or with 8-bit state.

    "muon" is for hidden layers, with Adam for the rest (`ldf_video.training.muon`). The state of
    "adam8bit" takes some 2 bytes a parameter instead of 8 (Dettmers et al. 2022,
    arXiv:2110.02861); tensors of fewer than 4,096 numbers keep a 32-bit state. On a CPU an 8-bit
    state has no zero: weights with a ten-thousandth of their block's largest gradient hardly move.

    Args:
        name: one of OPTIMIZERS.
        parameters: that it moves.
        learning_rate: to begin with.
        beta1: decay of the mean gradient.
        beta2: decay of the mean squared gradient.

    Raises:
        UsageError: as `check_optimizer`.
    """
    check_optimizer(name)
    settings: dict[str, Any] = {"lr": learning_rate, "betas": (beta1, beta2)}
    if name == "muon":
        return Muon(parameters, **settings)
    if name == "adam":
        return torch.optim.Adam(list(parameters), fused=True, **settings)  # 3 times faster on CPU
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it misses 4-bit kernels, aloud
    import bitsandbytes  # only where it is asked for: it takes seconds and is not everywhere

    make: Any = bitsandbytes.optim.Adam8bit  # type: ignore[attr-defined]
    optimizer: torch.optim.Optimizer = make(list(parameters), **settings)
    return optimizer


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Memory of an optimizer's state, the tensors of all parameters together."""
    return sum(
        value.numel() * value.element_size()
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, torch.Tensor)
    )
