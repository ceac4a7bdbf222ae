"""High dynamic range to the ordinary one, as players show it on an ordinary screen.

ITU-R BT.2100-2 says what light a code value stands for; ITU-R BT.2408-7, 2.1, that diffuse white
has 203 nits, which become white here, so that all up to it is as graded. What is lighter is cut as
FFmpeg's `tonemap=clip` does (libavfilter/vf_tonemap.c): by the largest of red, green and blue,
which keeps the hue.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from av.video.reformatter import ColorTrc

if TYPE_CHECKING:
    from numpy.typing import NDArray

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


def to_sdr(codes: NDArray[np.uint16], transfer: int, *, full: int = 65535) -> NDArray[np.uint8]:
    """Maps pictures of PQ or HLG to sRGB.

    Args:
        codes: uint16 (H, W, 3), RGB of BT.2020's primaries.
        transfer: one of `HDR_TRANSFERS`.
        full: the code of a signal of 1.

    Returns:
        uint8 (H, W, 3), RGB of sRGB, C-contiguous.
    """
    light = _light(transfer, full)[codes]
    if transfer == _HLG:  # BT.2100-2, table 5: the OOTF, for a system gamma of 1.2
        light *= (_HLG_PEAK_NITS / _WHITE_NITS) * (light @ _LUMA_2020)[..., None] ** np.float32(0.2)
    light = light @ _TO_709.T
    return _srgb(light / np.maximum(light.max(axis=-1, keepdims=True), 1))


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


def _srgb(light: NDArray[np.float32]) -> NDArray[np.uint8]:
    """IEC 61966-2-1, rounded."""
    light = light.clip(0, 1)
    signal = np.where(
        light <= 0.0031308, 12.92 * light, 1.055 * light ** np.float32(1 / 2.4) - 0.055
    )
    return (signal * 255 + 0.5).astype(np.uint8)
