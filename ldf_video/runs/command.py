"""What every command begins with: its device, torch's settings, and checks of where it writes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from ldf_video.errors import LdfError, UsageError
from ldf_video.files.locations import locate
from ldf_video.interrupts import launched, stops_raised
from ldf_video.sources.source import Source
from ldf_video.training.ranks import accelerate_kept

MAX_WORKERS = 16
"""Reader processes, and batches under way, at most."""
_NO_MEMORY = ("can't allocate memory", "out of memory", "status_alloc_failed")
"""What torch says in plain RuntimeErrors: on a CPU, of drivers and Apple's GPUs, of libraries."""

Outputs = Iterable[tuple[str, Path | None]]
"""Options, and what each names; None where it is not given."""
Identity = tuple[int, int]
"""Device and inode: equal for all names of a file."""


def choose_device(asked: str) -> str:
    """The device of `--device auto|cpu|cuda|mps`.

    Raises:
        UsageError: it is not there.
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if asked == "auto":
        return next(name for name, is_there in there.items() if is_there)
    if not there[asked]:
        raise UsageError(f"--device {asked}: this machine has none; use --device auto")
    return asked


def choose_precision(asked: str, *, device: str, cpu_gains: bool = False) -> str:
    """The precision of `--mixed-precision auto|no|bf16|fp16`: by itself bf16 where a GPU has it.

    So it is on a CPU that has products of bf16, if the work gains by them: those of matrices do,
    convolutions hardly.

    Raises:
        UsageError: fp16 anywhere but on CUDA.
    """
    if asked == "auto":
        has = {"cuda": torch.cuda.is_bf16_supported, "cpu": cpu_has_bf16}.get(device)
        gains = device != "cpu" or cpu_gains
        return "bf16" if gains and has is not None and has() else "no"
    if asked == "fp16" and device != "cuda":
        raise UsageError(
            f"--mixed-precision fp16: expected a CUDA device, got {device}; use bf16 or no"
        )
    return asked


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies in bf16; x86 alone says so."""
    known = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return known is not None and bool(known())


def num_cores() -> int:
    """Cores for this process: its share, where several were launched together on this machine."""
    usable = getattr(os, "sched_getaffinity", None)
    cores = len(usable(0)) if usable is not None else os.cpu_count() or 1
    here = os.environ.get("LOCAL_WORLD_SIZE", "") if launched()[1] > 1 else ""
    return max(1, cores // (int(here) if here.isdecimal() and int(here) else 1))


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


@contextmanager
def own_state() -> Iterator[None]:
    """Run as if in a process of its own, and leave the caller's settings unchanged; a decorator.

    Disabled gradients and inference mode, another default dtype or device, less exact products of
    matrices, and an autocast around the call are replaced by the defaults, then restored, like
    Accelerate's state, the global random generators and the number of threads. SIGTERM and SIGHUP
    are raised like Ctrl-C, where the caller does not handle them.
    """
    with ExitStack() as stack:
        stack.enter_context(stops_raised())
        stack.enter_context(accelerate_kept())
        _keep_freed_memory()
        gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
        stack.enter_context(torch.random.fork_rng(gpus))
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
        torch.set_float32_matmul_precision("highest")
        stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(torch.enable_grad())
        if torch.empty(0).device.type != "cpu":
            # No default device at all: before torch 2.7 one cannot be laid over another.
            stack.enter_context(torch._C.DisableTorchFunction())
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                # With its cache, in which cast weights would outlive their updates.
                stack.callback(torch.set_autocast_cache_enabled, torch.is_autocast_cache_enabled())
                stack.callback(torch.set_autocast_enabled, device, True)
                torch.set_autocast_cache_enabled(False)
                torch.set_autocast_enabled(device, False)
        yield


def _keep_freed_memory() -> None:
    """Let an update or a batch use what the one before freed, where glibc would give it back.

    It gives back at once what is larger than the largest block freed so far, up to 32 MiB, and then
    fetches it anew (M_MMAP_THRESHOLD in mallopt(3)). This block is never touched, so it takes none.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8, device="cpu")


def check_files(outputs: Outputs, *, inputs: Iterable[Source | str | Path]) -> None:
    """Check that files can be written and are no input, by whatever name; touches nothing.

    Raises:
        UsageError: one is an input, or what another option writes, or something else is in the way.
        LdfError: there may be no file at such a place.
    """
    written: dict[Identity | str, tuple[str, Path]] = {}
    for option, path in outputs:
        if path is None:
            continue
        there = _status(option, path)
        if there is not None and stat.S_ISDIR(there.st_mode):
            raise UsageError(f"got output {path}, which is a directory; give a file name")
        if there is not None and not stat.S_ISREG(there.st_mode):
            raise UsageError(f"got output {path}, which is no regular file; give another file name")
        _check_place(option, path)
        key = os.path.realpath(path) if there is None else (there.st_dev, there.st_ino)
        if key in written:
            raise UsageError(f"{option} {path}: {written[key][0]} writes it, too; name another")
        written[key] = option, path
    if all(isinstance(key, str) for key in written):
        return  # what is not there yet is no input
    for place in inputs:
        for file in place.files() if isinstance(place, Source) else [locate(place)]:
            identity = _identity(file) if isinstance(file, Path) else None
            if identity is not None and identity in written:
                which = f"which is the input {file}"
                if isinstance(place, Source) and place.series is not None:
                    which = f"a file of the input {place.path}"
                path = written[identity][1]
                raise UsageError(f"got output {path}, {which}; give another file name")


def check_folders(outputs: Outputs, *, inputs: Iterable[str | Path]) -> None:
    """Check that directories can be written in and are no input themselves; touches nothing.

    An output may lie within an input.

    Raises:
        UsageError: one is an input, or a file is in the way.
        LdfError: there may be no directory at such a place.
    """
    read = {_identity(path): path for path in inputs}
    for option, path in outputs:
        if path is None:
            continue
        there = _status(option, path)
        if there is not None and (there.st_dev, there.st_ino) in read:
            named = read[there.st_dev, there.st_ino]
            raise UsageError(f"{option} {path}: it is the input {named}; name another directory")
        if there is not None and not stat.S_ISDIR(there.st_mode):
            raise UsageError(f"{option} {path}: a file is in the way; name a directory")
        _check_place(option, path)


def _identity(path: str | Path) -> Identity | None:
    """None where nothing is there."""
    try:
        there = os.stat(path)
    except (OSError, ValueError):
        return None
    return there.st_dev, there.st_ino


def _status(option: str, path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:  # a null byte, a name too long, a closed directory
        raise _cannot(option, path, getattr(error, "strerror", None) or str(error)) from None


def _check_place(option: str, path: Path) -> None:
    """Check that what is to be at `path` can be made or replaced."""
    if path.exists() and not os.access(path, os.W_OK):
        raise _cannot(option, path, "it is there and may not be written")
    place = path.absolute().parent
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise UsageError(f"{option} {path}: {place} is a file; write elsewhere")
    if not os.access(place, os.W_OK | os.X_OK):
        raise _cannot(option, path, f"no permission to write in {place}")


def _cannot(option: str, path: Path, reason: str) -> LdfError:
    return LdfError(f"{option} {path}: {reason}; write elsewhere")
