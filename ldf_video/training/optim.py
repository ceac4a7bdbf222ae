"""Optimizers by name, Muon, and averaged weights."""

from __future__ import annotations

import copy
import importlib.util
import logging
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ldf_video.errors import UsageError

OPTIMIZERS = ("muon", "adam", "adam8bit")
RATE = 20.0
"""Muon's learning rate, as a multiple of Adam's beside it."""
MOMENTUM = 0.95
ITERATIONS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of Newton and Schulz's iteration, Jordan's: singular values from 0.003 on come near 1."""
NARROWEST = 16
"""Rows and columns that a weight of Muon's has at least: Adam moves narrower ones.

That goes by shape alone, so position embeddings of 16 rows or more, and first and last layers of 16
numbers or more, are also moved by Muon. By role, with Adam for all of these, a flow learned no
sooner (docs/log.md).
"""


def check_optimizer(name: str) -> None:
    """Check that an optimizer can be had.

    Raises:
        UsageError: there is none of that name, or its package is not installed.
    """
    if name not in OPTIMIZERS:
        raise UsageError(f"--optimizer {name}: expected muon, adam or adam8bit")
    if name == "adam8bit" and importlib.util.find_spec("bitsandbytes") is None:
        raise UsageError(
            "--optimizer adam8bit: bitsandbytes is not installed (it is made for Linux): "
            "use --optimizer adam"
        )


def make_optimizer(
    name: str, parameters: Iterable[nn.Parameter], *, lr: float, betas: tuple[float, float]
) -> torch.optim.Optimizer:
    """Muon, or Adam (Kingma & Ba 2015, arXiv:1412.6980) with 32-bit or with 8-bit state.

    The state of "adam8bit" takes some 2 bytes a parameter instead of 8 (Dettmers et al. 2022,
    arXiv:2110.02861); tensors of fewer than 4,096 numbers keep a 32-bit state. On a CPU an 8-bit
    state has no zero: weights with a ten-thousandth of their block's largest gradient hardly move.

    Raises:
        UsageError: as `check_optimizer`.
    """
    check_optimizer(name)
    if name == "muon":
        return Muon(parameters, lr=lr, betas=betas)
    if name == "adam":  # fused is 3 times faster on CPU
        return torch.optim.Adam(list(parameters), lr=lr, betas=betas, fused=True)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of 4-bit kernels
    import bitsandbytes  # only where it is asked for: it takes seconds and is not everywhere

    make: Any = bitsandbytes.optim.Adam8bit  # type: ignore[attr-defined]
    optimizer: torch.optim.Optimizer = make(list(parameters), lr=lr, betas=betas)
    return optimizer


def load_moments(optimizer: Any, state: Mapping[str, Any]) -> None:
    """Load an optimizer's state, its moments laid out in memory as its weights are here.

    A loaded state keeps the order in which it was saved, on a machine that may use another, and a
    fused optimizer takes both for numbers side by side.
    """
    optimizer.load_state_dict(state)
    for parameter, moments in optimizer.state.items():
        for name, value in moments.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                moments[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Memory of an optimizer's state, the tensors of all parameters together."""
    return sum(
        value.numel() * value.element_size()
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    )


class Average:
    """A copy of a module whose weights follow the module's slowly (Polyak averaging).

    Buffers are copied. The decay rises with the number of updates, so that the average forgets
    the initial weights early: min(decay, (1 + step) / (10 + step)).
    """

    def __init__(self, module: nn.Module, *, decay: float) -> None:
        self.decay = decay
        self.module = copy.deepcopy(module).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, module: nn.Module, *, step: int) -> None:
        """Move towards `module` after update number `step`, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averages: list[Tensor] = list(self.module.parameters())
        weights: list[Tensor] = list(module.parameters())
        torch._foreach_lerp_(averages, weights, 1 - decay)
        for mine, theirs in zip(self.module.buffers(), module.buffers(), strict=True):
            mine.copy_(theirs)


class Muon(torch.optim.Optimizer):
    """Moves hidden layers' weights by their orthogonalised momentum, all others as Adam does.

    Jordan et al. (2024), "Muon: An optimizer for hidden layers in neural networks". Adam's steps
    lie mostly along few directions of a weight; Muon's have the same length along all of them, and
    a frame model or a flow learns sooner (docs/log.md). torch's own Muon takes nothing but matrices
    and computes in bfloat16, which processors without it emulate.

    Convolutions (out, in, rows, columns) count as matrices (out, in * rows * columns), transposed
    ones as (in, out * rows * columns). The state of a hidden layer is half as large as Adam's.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], *, lr: float, betas: tuple[float, float]
    ) -> None:
        """Move `parameters`; `lr`, to which Muon's rate is proportional, and `betas` are Adam's."""
        given = list(parameters)
        self._adam = torch.optim.Adam(given, lr=lr, betas=betas, fused=True)
        groups = [
            {"params": [p for p in given if is_hidden(p) == hidden], "hidden": hidden}
            for hidden in (False, True)
        ]
        super().__init__(groups, self._adam.defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Move all weights that have a gradient. The rate may be a tensor on their device."""
        assert closure is None, "gradients are there before the step"
        self._adam.state = self.state
        self._adam.param_groups = [group for group in self.param_groups if not group["hidden"]]
        self._adam.step()
        for group in self.param_groups:
            moved = [weight for weight in group["params"] if weight.grad is not None]
            if group["hidden"] and moved:
                self._move(moved, group["lr"])
        return None

    def _move(self, weights: list[Tensor], rate: float | Tensor) -> None:
        for weight in weights:
            if not self.state[weight]:
                self.state[weight]["momentum"] = torch.zeros_like(weight)
        grads = [weight.grad for weight in weights if weight.grad is not None]
        momenta = [self.state[weight]["momentum"] for weight in weights]
        torch._foreach_lerp_(momenta, grads, 1 - MOMENTUM)
        ahead = torch._foreach_lerp(grads, momenta, MOMENTUM)  # Nesterov's
        steps = orthogonalised([step.flatten(1) for step in ahead])
        aspects = [len(weight) / weight[0].numel() for weight in weights]
        torch._foreach_mul_(steps, [RATE * max(1.0, aspect) ** 0.5 for aspect in aspects])
        torch._foreach_mul_(steps, rate)
        shaped = [step.reshape(weight.shape) for step, weight in zip(steps, weights, strict=True)]
        torch._foreach_sub_(weights, shaped)


def is_hidden(weight: Tensor) -> bool:
    """Whether a weight is a hidden layer's: a matrix or convolution that is not narrow."""
    return weight.ndim >= 2 and min(len(weight), weight[0].numel()) >= NARROWEST


def orthogonalised(matrices: list[Tensor]) -> list[Tensor]:
    """Near the nearest semi-orthogonal matrices: the singular values between 0.7 and 1.2.

    Each iteration multiplies a matrix by a polynomial of its Gram matrix. These are gathered on
    the Gram matrix alone, which is small and square: a third of the time, where the other is long.
    Gram matrices of one size are multiplied together: a GPU waits for launches otherwise.

    `matrices` are (rows, columns) each, at least one, float32 or float64: in bfloat16 gradients of
    low rank diverge this way.
    """
    norms = torch._foreach_add(torch._foreach_norm(matrices), 1e-7)
    wide = [m / norm for m, norm in zip(matrices, norms, strict=True)]
    wide = [m.mT if len(m) > m.shape[1] else m for m in wide]
    of_side: dict[int, list[int]] = {}
    for number, m in enumerate(wide):
        of_side.setdefault(len(m), []).append(number)
    results = list(wide)
    for numbers in of_side.values():
        grams = torch.stack([wide[n] @ wide[n].mT for n in numbers])
        for n, product in zip(numbers, _gathered(grams), strict=True):
            x = product @ wide[n]
            results[n] = x.mT if len(matrices[n]) > len(x) else x
    return results


def _gathered(gram: Tensor) -> Tensor:
    """What the iterations multiply matrices by, (N, side, side), by their Gram matrices."""
    a, b, c = COEFFICIENTS
    product = identity = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    for _ in range(ITERATIONS):
        factor = a * identity + torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        product = factor @ product
        gram = factor @ gram @ factor
    return product
