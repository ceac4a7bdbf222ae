"""RGB to the luma and chroma of ordinary video, without the losses of the usual route.

ITU-R BT.709-6, items 3.2 to 3.4, limited range, 8 bits: Y in [16, 235], Cb and Cr in [16, 240]
around 128.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_Number = TypeVar("_Number", np.uint8, np.float32)
_RED, _GREEN, _BLUE = 0.2126, 0.7152, 0.0722
_LUMA = np.array([_RED, _GREEN, _BLUE])
_TO_YCBCR = np.stack(
    [
        _LUMA * 219,
        (np.array([0, 0, 1]) - _LUMA) / (2 * (1 - _BLUE)) * 224,
        (np.array([1, 0, 0]) - _LUMA) / (2 * (1 - _RED)) * 224,
    ]
).astype(np.float32) / np.float32(255)
_OFFSETS = np.array([16, 128, 128], np.float32)


def yuv420_planes(frames: NDArray[np.uint8], *, upscale: int) -> NDArray[np.uint8]:
    """Enlarges frames by repeating pixels and converts them to planar 4:2:0.

    Chroma is the mean of each 2 x 2 block, taken before rounding: at an even upscale a block lies
    within one source pixel and loses nothing. An odd size gains one row or column, a copy of the
    last.

    Args:
        frames: uint8 (T, H, W, 3), RGB.
        upscale: how many times each pixel repeats each way, at least 1.

    Returns:
        uint8 (T, 3 * H' / 2, W'): the Y plane, then Cb and Cr packed as FFmpeg's yuv420p, where H'
        and W' are the enlarged sides rounded up to even.
    """
    num_frames, height, width, _ = frames.shape
    full_height, full_width = _even(height * upscale), _even(width * upscale)
    # Convert before enlarging: the same numbers from upscale^2 times fewer pixels.
    ycbcr = frames.astype(np.float32) @ _TO_YCBCR.T + _OFFSETS
    planes = np.empty((num_frames, full_height * 3 // 2, full_width), np.uint8)
    planes[:, :full_height] = _enlarged(_rounded(ycbcr[..., 0]), upscale, full_height, full_width)
    chroma = planes[:, full_height:].reshape(num_frames, 2, full_height // 2, full_width // 2)
    for index in range(2):
        chroma[:, index] = _halved(ycbcr[..., index + 1], upscale, full_height, full_width)
    return planes


def _halved(
    plane: NDArray[np.float32], upscale: int, full_height: int, full_width: int
) -> NDArray[np.uint8]:
    if upscale % 2 == 0:
        return _enlarged(_rounded(plane), upscale // 2, full_height // 2, full_width // 2)
    full = _enlarged(plane, upscale, full_height, full_width)
    blocks = full.reshape(len(full), full_height // 2, 2, full_width // 2, 2)
    return _rounded(blocks.mean(axis=(2, 4)))


def _enlarged(
    plane: NDArray[_Number], upscale: int, full_height: int, full_width: int
) -> NDArray[_Number]:
    _, height, width = plane.shape
    large = plane.repeat(upscale, axis=1).repeat(upscale, axis=2)
    extra = (full_height - height * upscale, full_width - width * upscale)
    if extra == (0, 0):
        return large
    return np.pad(large, ((0, 0), (0, extra[0]), (0, extra[1])), mode="edge")


def _rounded(plane: NDArray[np.float32]) -> NDArray[np.uint8]:
    return (plane + np.float32(0.5)).astype(np.uint8)


def _even(side: int) -> int:
    return side + side % 2
