"""Which device and precision a command runs on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ldf_video.errors import LdfError, UsageError
from ldf_video.launch import launched

MAX_WORKERS = 16
"""Reader processes, and batches under way, at most."""


def choose_device(asked: str) -> str:
    """The device of `--device auto|cpu|cuda|mps`.

    Raises:
        UsageError: it is not there.
    """
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if asked == "auto":
        return "cuda" if there["cuda"] else "mps" if there["mps"] else "cpu"
    if not there[asked]:
        raise UsageError(f"--device {asked}: this machine has none; use --device auto")
    return asked


def choose_precision(asked: str, *, device: str) -> str:
    """The precision of `--mixed-precision auto|no|bf16|fp16`: by itself bf16 where a GPU has it.

    Raises:
        UsageError: fp16 anywhere but on CUDA.
    """
    if asked == "auto":
        return "bf16" if device == "cuda" and torch.cuda.is_bf16_supported() else "no"
    if asked == "fp16" and device != "cuda":
        raise UsageError(
            f"--mixed-precision fp16: expected a CUDA device, got {device}; use bf16 or no"
        )
    return asked


def num_cores() -> int:
    """Cores for this process: its share, where several were launched together on this machine."""
    usable = getattr(os, "sched_getaffinity", None)
    cores = len(usable(0)) if usable is not None else os.cpu_count() or 1
    here = os.environ.get("LOCAL_WORLD_SIZE", "") if launched()[1] > 1 else ""
    return max(1, cores // (int(here) if here.isdecimal() and int(here) else 1))


_NO_MEMORY = ("can't allocate memory", "out of memory", "status_alloc_failed")
"""What torch says in plain RuntimeErrors: on a CPU, of drivers and Apple's GPUs, of libraries."""


@contextmanager
def out_of_memory(remedy: str) -> Iterator[None]:
    """Say in one line, on any device, that memory ran out; also a decorator.

    Raises:
        LdfError: in place of what torch or Python raised.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        reason = " ".join(str(error).split())
        known = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not known and not any(said in reason.lower() for said in _NO_MEMORY):
            raise
        raise LdfError(f"out of memory: {reason[:160] or 'none left'}; try {remedy}") from error
