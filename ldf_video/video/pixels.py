"""The one crossing between pixels (uint8) and what models see (float in [-1, 1]), exact."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

_HALF_RANGE = 127.5


def to_model(
    frames: NDArray[np.uint8] | torch.Tensor,
    device: torch.device | str | None = None,
    *,
    channels_last: bool = False,
) -> torch.Tensor:
    """Turns pixels into a model's input: x / 127.5 - 1.

    Args:
        frames: uint8 (N, H, W, 3), RGB; left as it is.
        device: where to put the result; None keeps a tensor's own (the CPU for an array). The bytes
            are moved before they grow to floats, and without waiting where they are pinned.
        channels_last: leave the channels of a pixel side by side in memory, as they come.

    Returns:
        float32 (N, 3, H, W) in [-1, 1].
    """
    if isinstance(frames, np.ndarray):
        # A copy where the memory is read-only (a mapped file): torch has no read-only tensors.
        frames = torch.from_numpy(frames if frames.flags.writeable else frames.copy())
    if frames.dtype != torch.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        raise ValueError(f"got {frames.dtype} {tuple(frames.shape)}, expected uint8 (N, H, W, 3)")
    pixels = frames.to(device, non_blocking=True) if device is not None else frames
    layout = torch.channels_last if channels_last else torch.contiguous_format
    levels = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=layout)
    return levels.div_(_HALF_RANGE).sub_(1)


def from_model(images: torch.Tensor) -> NDArray[np.uint8]:
    """Turns a model's output into pixels: (x + 1) * 127.5, rounded and clamped.

    From floats (N, 3, H, W) of any precision, on any device, to uint8 (N, H, W, 3), RGB,
    C-contiguous, in main memory.
    """
    if not images.is_floating_point() or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"got {images.dtype} {tuple(images.shape)}, expected float (N, 3, H, W)")
    levels = images.detach().to(torch.float32).add(1).mul_(_HALF_RANGE).round_().clamp_(0, 255)
    return levels.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def psnr_db(mean_squared_error: float) -> float:
    """Peak signal-to-noise ratio of 8-bit pixels, in dB; 99 where there is no error."""
    return 99.0 if mean_squared_error <= 0 else float(10 * np.log10(255**2 / mean_squared_error))
