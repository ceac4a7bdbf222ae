"""Colours: HDR to SDR, transparency over white, RGB to the planes of ordinary video."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, TypeVar

import av
import numpy as np
from av.video.reformatter import ColorTrc

if TYPE_CHECKING:
    from numpy.typing import NDArray

_Number = TypeVar("_Number", np.uint8, np.float32)

UNSPECIFIED = 2
"""FFmpeg's number of a matrix or a transfer that nobody named."""
_HD_ROWS = 720

_PQ, _HLG = int(ColorTrc.SMPTE2084), int(ColorTrc.ARIB_STD_B67)
HDR_TRANSFERS = frozenset({_PQ, _HLG})
"""FFmpeg's numbers of the transfer characteristics that `to_sdr` knows."""
_WHITE_NITS = 203
_HLG_PEAK_NITS = 1000  # of the screen that a system gamma of 1.2 is for
_LUMA_2020 = np.array([0.2627, 0.6780, 0.0593], np.float32)
# Linear BT.2020 to linear BT.709: the inverse of ITU-R BT.2087-0's M2.
_TO_709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)

# ITU-R BT.709-6, items 3.2 to 3.4, limited range, 8 bits: Y in [16, 235], Cb and Cr in [16, 240].
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


def is_untagged_hd(frame: av.VideoFrame) -> bool:
    """Returns whether a frame names no matrix and has so many rows that players take BT.709."""
    return frame.colorspace == UNSPECIFIED and frame.height >= _HD_ROWS


@cache
def has_alpha(pix_fmt: str) -> bool:
    """Returns whether pixels of FFmpeg's format `pix_fmt` may be transparent."""
    pixels = av.VideoFormat(pix_fmt)
    return pixels.has_palette or any(component.is_alpha for component in pixels.components)


def over_white(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lays RGBA (H, W, 4), colours not multiplied by alpha, over white: RGB (H, W, 3)."""
    colours, alpha = image[..., :3], image[..., 3:]
    if alpha.min() == 255:
        return np.ascontiguousarray(colours)
    weighted = colours.astype(np.uint16) * alpha + np.uint16(255) * (255 - alpha).astype(np.uint16)
    return ((weighted.astype(np.uint32) + 127) // 255).astype(np.uint8)


def to_sdr(codes: NDArray[np.uint16], transfer: int, *, full: int = 65535) -> NDArray[np.uint8]:
    """Maps pictures of PQ or HLG to sRGB, as players show them on an ordinary screen.

    ITU-R BT.2100-2 says what light a code value stands for; ITU-R BT.2408-7, 2.1, that diffuse
    white has 203 nits, which become white here, so that all up to it is as graded. What is lighter
    is cut as FFmpeg's `tonemap=clip` does (libavfilter/vf_tonemap.c): by the largest of red, green
    and blue, which keeps the hue.

    Args:
        codes: uint16 (H, W, 3), RGB of BT.2020's primaries.
        transfer: one of `HDR_TRANSFERS`.
        full: the code of a signal of 1.
    """
    light = _light(transfer, full)[codes]
    if transfer == _HLG:  # BT.2100-2, table 5: the OOTF, for a system gamma of 1.2
        light *= (_HLG_PEAK_NITS / _WHITE_NITS) * (light @ _LUMA_2020)[..., None] ** np.float32(0.2)
    light = light @ _TO_709.T
    light = (light / np.maximum(light.max(axis=-1, keepdims=True), 1)).clip(0, 1)
    # IEC 61966-2-1, rounded.
    signal = np.where(
        light <= 0.0031308, 12.92 * light, 1.055 * light ** np.float32(1 / 2.4) - 0.055
    )
    return (signal * 255 + 0.5).astype(np.uint8)


@cache
def _light(transfer: int, full: int) -> NDArray[np.float32]:
    """Of each code value of 16 bits: PQ's light over diffuse white's, HLG's scene light in [0, 1].

    BT.2100-2: table 4, the EOTF of PQ; table 5, the inverse of HLG's OETF.
    """
    signal = np.minimum(np.arange(2**16) / full, 1)
    if transfer == _PQ:
        root = signal ** (1 / 78.84375)
        ratio = np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)
        light = 10_000 * ratio ** (1 / 0.1593017578125) / _WHITE_NITS
    else:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    return light.astype(np.float32)


def yuv420_planes(frames: NDArray[np.uint8], *, upscale: int) -> NDArray[np.uint8]:
    """Enlarges frames by repeating pixels and converts them to planar 4:2:0.

    Chroma is the mean of each 2 x 2 block, taken before rounding: at an even upscale a block lies
    within one source pixel and loses nothing. An odd size gains one row or column, a copy of the
    last.

    Returns:
        uint8 (T, 3 * H' / 2, W') of (T, H, W, 3): the Y plane, then Cb and Cr packed as FFmpeg's
        yuv420p, where H' and W' are the enlarged sides rounded up to even.
    """
    num_frames, *size, _ = frames.shape
    full_height, full_width = (side * upscale + side * upscale % 2 for side in size)
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
