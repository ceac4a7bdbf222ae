"""Strips of small frames as WebP pictures of so many bytes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

MEDIA_TYPE = "image/webp"
_QUALITIES = (92, 80, 65, 45, 25)
_SMALLEST = 8
_LARGEST = 16_383  # pixels of a side that WebP can have


def pack(frames: NDArray[np.uint8]) -> bytes:
    """Lays frames side by side, bit for bit; smaller by a whole factor where WebP needs that.

    Args:
        frames: uint8 (T, H, W, 3) RGB, T at least 1.
    """
    count, height, width, _ = frames.shape
    side_by_side = np.ascontiguousarray(frames.transpose(1, 0, 2, 3))
    image = Image.fromarray(side_by_side.reshape(height, count * width, 3))
    factor = -(-max(image.size) // _LARGEST)
    return _webp(image.reduce(factor) if factor > 1 else image, lossless=True)


def shrink(strip: bytes, *, most_bytes: int) -> bytes:
    """Returns a strip of at most so many bytes, if that can be.

    As it is where that fits; else lossy, then at half the size and so on down to 8 pixels, where it
    is what it is.
    """
    if len(strip) <= most_bytes:
        return strip
    with Image.open(io.BytesIO(strip)) as opened:
        image = opened.convert("RGB")
    for quality in _QUALITIES:
        strip = _webp(image, quality=quality)
        if len(strip) <= most_bytes:
            return strip
    while image.height >= 2 * _SMALLEST:
        image = image.reduce(2)
        strip = _webp(image, quality=_QUALITIES[-1])
        if len(strip) <= most_bytes:
            break
    return strip


def _webp(image: Image.Image, **how: int) -> bytes:
    file = io.BytesIO()
    image.save(file, "WEBP", method=2, **how)
    return file.getvalue()
