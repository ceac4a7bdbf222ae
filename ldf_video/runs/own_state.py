"""A command runs as if in a process of its own, and leaves its caller's settings unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from ldf_video.interrupts import stops_raised
from ldf_video.training.ranks import accelerate_kept


@contextmanager
def own_state() -> Iterator[None]:
    """Replace a caller's settings of torch and Accelerate by the defaults, then restore them.

    The settings are disabled gradients and inference mode, another default dtype or device, less
    exact products of matrices, and an autocast around the call. The states of the global random
    generators and the number of threads are restored. SIGTERM and SIGHUP are raised like Ctrl-C,
    where the caller does not handle them. Can be used as a decorator.
    """
    with ExitStack() as stack:
        stack.enter_context(stops_raised())
        stack.enter_context(accelerate_kept())
        stack.enter_context(_settings_kept())
        stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(torch.enable_grad())
        if torch.empty(0).device.type != "cpu":
            # No default device at all: before torch 2.7 one cannot be laid over another.
            stack.enter_context(torch._C.DisableTorchFunction())
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(_no_autocast(device))
        yield


@contextmanager
def _settings_kept() -> Iterator[None]:
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    precision = torch.get_float32_matmul_precision()
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(gpus):
        torch.set_default_dtype(torch.float32)
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)
            torch.set_float32_matmul_precision(precision)
            if torch.get_num_threads() != threads:
                torch.set_num_threads(threads)


@contextmanager
def _no_autocast(device: str) -> Iterator[None]:
    """Switch autocast off, and its cache, in which cast weights would outlive their updates."""
    cached = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    torch.set_autocast_enabled(device, False)
    try:
        yield
    finally:
        torch.set_autocast_enabled(device, True)
        torch.set_autocast_cache_enabled(cached)
