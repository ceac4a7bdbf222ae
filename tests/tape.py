"""A CUDA graph's stand-in where there is no GPU: the operations of an update, done again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

if TYPE_CHECKING:
    from collections.abc import Callable

READS = (
    "_local_scalar_dense",
    "equal",
    "masked_select",
    "nonzero",
    "_unique2",
    "unique_consecutive",
    "unique_dim",
)
"""Operations whose result Python reads, or whose shape data decides: a capture refuses them."""


class Tape:
    """Records operations, and does them again on the same memory.

    As in a CUDA graph what Python decided or computed while it was recorded stays as it was, a
    learning rate for instance.
    """

    def __init__(self, *, broken: bool = False) -> None:
        """Args: whether recording fails."""
        self.broken = broken
        self.rehearsed = self.recorded = self.played = self.cleared = 0

    def rehearse(self, perform: Callable[[], Tensor]) -> Tensor:
        self.rehearsed += 1
        return perform()

    def record(self, perform: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """What does the work again. Unlike a GPU the first call has done it while recording."""
        if self.broken:
            raise RuntimeError("operation not permitted\nwhen stream is capturing")
        self.recorded += 1
        operations = _Operations()
        with operations:
            result = perform()
        done = True

        def again() -> Tensor:
            nonlocal done
            self.played += 1
            if not done:
                operations.repeat()
            done = False
            return result

        return again

    def clear(self) -> None:
        self.cleared += 1


class _Operations(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self._done: list[tuple[Any, Any, Any, list[tuple[int, Tensor]]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.name().removeprefix("aten::").partition(".")[0]
        boolean = any(t.dtype == torch.bool for t in _tensors(args)) and name == "index"
        if name in READS or boolean:
            raise AssertionError(f"a recorded update calls {name}")
        out = func(*args, **kwargs)
        known = {t.untyped_storage().data_ptr() for t in _tensors((args, kwargs))}
        made = [
            (number, t.detach())
            for number, t in enumerate(_tensors(out))
            if t.untyped_storage().data_ptr() not in known
        ]
        self._done.append((func, _detached(args), _detached(kwargs), made))
        return out

    @torch.no_grad()
    def repeat(self) -> None:
        for func, args, kwargs, made in self._done:
            outputs = _tensors(func(*args, **kwargs))
            for number, place in made:
                place.copy_(outputs[number])


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _detached(tree: Any) -> Any:
    return tree_map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, tree)
