"""Pictures with more than 8 bits a channel: all of their bits, and 8 bits of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from PIL import Image

from ldf_video.errors import ReadError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_READ = "8 or 16 bits without a sign, and floats from 0 to 1, are read; scale them to one of these"
_SMALL_SHARE = 1 / 4
# The names of raw modes end with the byte that Pillow takes of 16 bits, the high one by default.
_OTHER_BYTE = {"L": "B", "B": "L", "N": "B"} if np.little_endian else {"L": "B", "B": "L", "N": "L"}


class Levels(NamedTuple):
    """Pixels in 8 bits, and the share of the range of their numbers up to the largest of them."""

    pixels: NDArray[np.uint8]
    used: float = 1.0


def low_bytes(image: Any) -> Image.Image | None:
    """Decodes the low bytes of the current page of a picture whose colours have 16 bits.

    `image`, which is not decoded yet, will give the high bytes; None where that is all there is.
    """
    modes = {_raw_mode(tile) for tile in image.tile}
    if image.mode not in ("RGB", "RGBA") or not modes or not all(";16" in m for m in modes):
        return None
    file = image.fp
    position = file.tell()
    file.seek(0)
    again: Any = type(image)(file, "")
    if image.tell():
        again.seek(image.tell())
    if modes == {"LA;16B"}:  # of which Pillow takes no low byte: both bytes of both, as four
        again.tile = [_with_raw_mode(tile, "RGBA") for tile in again.tile]
        _, grey, _, alpha = again.split()
        again = Image.merge("RGBA", (grey, grey, grey, alpha))
    else:
        for index, tile in enumerate(again.tile):
            mode = _raw_mode(tile)
            again.tile[index] = _with_raw_mode(tile, mode[:-1] + _OTHER_BYTE[mode[-1]])
        again.load()
    file.seek(position)
    return cast("Image.Image", again)


def from_16_bits(high: NDArray[np.uint8], low: NDArray[np.uint8]) -> Levels:
    """Rounds high and low bytes of (H, W, 3), or with transparency of (H, W, 4), to 8 bits."""
    values = high.astype(np.uint16) << 8 | low
    return Levels(_rounded(values, 65535), int(values[..., :3].max()) / 65535)


def full_range(image: Image.Image) -> int | None:
    """Returns which number means white in one channel of more than 8 bits; None for other pictures.

    16 bits with a sign count from 0 to 32,767, floats to 1. `image` is not decoded yet. Whole
    numbers of 32 bits are refused.
    """
    if image.mode == "F":
        return 1
    if image.mode.startswith("I;16"):
        return 65535
    if image.mode != "I":
        return None
    (mode,) = {_raw_mode(tile) for tile in image.tile}  # type: ignore[attr-defined]
    if ";16" not in mode:
        raise ReadError(f"whole numbers of 32 bits; {_READ}")
    return 32767 if mode.endswith("S") else 65535


def from_grey(values: NDArray[Any], full: int) -> Levels:
    """Rounds numbers of any type, of which `full` means white, to 8 bits; others are refused."""
    lowest, highest = values.min(), values.max()
    if not (lowest >= 0 and highest <= full):  # or no number at all
        raise ReadError(f"numbers from {lowest:g} to {highest:g}; {_READ}")
    return Levels(_rounded(values, full), float(highest) / full)


def range_note(used: float) -> str:
    """Returns what to say of pictures that use this share of their range; "" for nothing."""
    if not 0 < used < _SMALL_SHARE:
        return ""
    factor = 1
    while 2 * factor * used <= 1.001:
        factor *= 2
    return (
        f"uses {100 * used:.2g} % of the range of its numbers, so its frames are dark; to stretch "
        f"all pictures alike: magick mogrify -path NEW -evaluate multiply {factor} *"
    )


def _rounded(values: NDArray[Any], full: int) -> NDArray[np.uint8]:
    if full == 1:
        return (values * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    return ((values.astype(np.uint32) * 255 + full // 2) // full).astype(np.uint8)


def _raw_mode(tile: Any) -> str:
    return str(tile.args if isinstance(tile.args, str) else tile.args[0])


def _with_raw_mode(tile: Any, mode: str) -> Any:
    return tile._replace(args=mode if isinstance(tile.args, str) else (mode, *tile.args[1:]))
