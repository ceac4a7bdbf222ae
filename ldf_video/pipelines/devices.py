"""Which device and precision a command runs on."""

from __future__ import annotations

import torch

from ldf_video.errors import UsageError


def choose_device(asked: str) -> str:
    """The device of `--device auto|cpu|cuda|mps`.

    Raises:
        UsageError: it is unknown or not there.
    """
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if asked == "auto":
        return "cuda" if there["cuda"] else "mps" if there["mps"] else "cpu"
    if asked not in there:
        raise UsageError(f"--device {asked}: expected auto, cpu, cuda or mps")
    if not there[asked]:
        raise UsageError(f"--device {asked}: this machine has none; use --device auto")
    return asked


def choose_precision(asked: str, *, device: str) -> str:
    """The precision of `--mixed-precision auto|no|bf16`: bf16 where a GPU has it, none on CPU.

    Raises:
        UsageError: it is unknown.
    """
    if asked == "auto":
        return "bf16" if device == "cuda" and torch.cuda.is_bf16_supported() else "no"
    if asked not in ("no", "bf16"):
        raise UsageError(f"--mixed-precision {asked}: expected auto, no or bf16")
    return asked
