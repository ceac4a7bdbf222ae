"""Numbers of arrays become 8 bits: which of them is black, and which is white."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ldf_video.errors import ReadError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

_SMALL_SHARES = {65535: 1 / 4, 255: 1 / 16}  # of a range, by what is white, that is told
_OVERSHOOT = 1 / 8  # of a range, past which numbers are none of it: resampling rings by less
_SAY = "say which numbers are black and white: --levels LOW:HIGH"


class NotNumbersError(ReadError):
    """An array that holds something else than numbers."""


@dataclass
class Scale:
    """The numbers that become black and white; others between and beyond them are cut to these.

    Attributes:
        low: becomes 0.
        high: becomes 255.
        said: what a user must know of it, "" for nothing.
        is_told: whether it was told from some of the values, so that others may contradict it.
        used: the share of the range up to the largest number so far.
    """

    low: float
    high: float
    said: str = ""
    is_told: bool = False
    used: float = 0.0

    def to_8_bits(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Returns an array of the same shape, rounded; what is no number becomes black.

        Raises:
            ReadError: if the values contradict a range that was told from others.
        """
        if values.dtype == np.uint8 and (self.low, self.high) == (0, 255):
            self.used = max(self.used, float(values.max()) / 255)
            return values
        if values.dtype == np.bool_:
            return values.view(np.uint8) * np.uint8(255)
        span = self.high - self.low
        if values.dtype == np.uint16 and (self.low, self.high) == (0, 65535):
            self.used = max(self.used, float(values.max()) / span)
            return ((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
        is_short = values.dtype.kind == "f" and values.dtype.itemsize <= 4
        shares: NDArray[Any] = values.astype(np.float32 if is_short else np.float64)
        shares = (shares - self.low) / span
        shares = np.nan_to_num(shares, copy=False, nan=0.0, posinf=2.0, neginf=-1.0)
        low, high = float(shares.min()), float(shares.max())
        if self.is_told and (low < -_OVERSHOOT or high > 1 + _OVERSHOOT):
            found = self.low + span * (low if low < -_OVERSHOOT else high)
            raise ReadError(f"the number {found:.6g} among {self.said.partition(' (')[0]}; {_SAY}")
        self.used = max(self.used, high)
        return (np.clip(shares, 0, 1) * 255 + 0.5).astype(np.uint8)

    def note(self) -> str:
        """Returns what to say of what was read so far, "" for nothing."""
        share = 0 if self.said else _SMALL_SHARES.get(int(self.high), 0)
        if not 0 < self.used < share:
            return self.said
        top = 2 ** max(1, round(self.used * self.high)).bit_length() - 1
        return (
            f"uses {100 * self.used:.2g} % of the range of its numbers, so its frames are dark: "
            f"--levels 0:{top} stretches them"
        )


def choose_scale(
    dtype: np.dtype[Any], asked: tuple[float, float] | None, some: Iterable[NDArray[Any]]
) -> Scale:
    """Returns the scale of an array: as asked, else by its type, else told from some of its values.

    Args:
        dtype: of the array.
        asked: the numbers that are black and white, or None.
        some: parts of the array from all over it, taken only if they are needed.

    Raises:
        ReadError: if it cannot be told.
    """
    if asked is not None:
        return Scale(*asked)
    if dtype in (np.uint8, np.bool_):
        return Scale(0, 255)
    if dtype == np.uint16:
        return Scale(0, 65535)
    low, high = _range(some)
    if dtype.kind in "iu":
        if low >= 0 and high <= 255:
            top = 1 if high == 1 else 255  # a mask
            return Scale(0, top, f"{dtype} of 0 to {top} (as its values are; else --levels)", True)
        raise ReadError(f"{dtype} of {low:g} to {high:g}; {_SAY}")
    for bottom, top in ((0, 1), (-1, 1), (0, 255)):
        if bottom - 1e-3 * (top - bottom) <= low and high <= top + 1e-3 * (top - bottom):
            said = f"{dtype} of {bottom} to {top} (as its values are; else --levels)"
            return Scale(bottom, top, said, is_told=True)
    raise ReadError(f"{dtype} of {low:.6g} to {high:.6g}; {_SAY}")


def is_ragged(dtype: np.dtype[Any]) -> bool:
    """Whether h5py says that each element is a row of numbers of any length."""
    metadata: Any = dtype.metadata
    return bool(metadata) and isinstance(metadata.get("vlen"), np.dtype)


def check_dtype(dtype: np.dtype[Any]) -> None:
    """Raises a NotNumbersError for anything but real numbers and truth values.

    A ReadError for rows of numbers that are not equally long, as HDF5 keeps packed pictures.
    """
    if is_ragged(dtype):
        raise ReadError(
            "its rows have different lengths, as packed pictures have; write these as files, or "
            "unpack them into an array (T, height, width, 3)"
        )
    if dtype.hasobject:
        raise NotNumbersError("an array of Python objects, which only a program could open")
    if dtype.kind not in "buif":
        raise NotNumbersError(f"an array of {dtype}; expected numbers")


def _range(some: Iterable[NDArray[Any]]) -> tuple[float, float]:
    """The smallest and the largest finite number; a ReadError if there is none."""
    lows, highs = [], []
    for values in some:
        finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
        if finite.size:
            lows.append(float(finite.min()))
            highs.append(float(finite.max()))
    if not lows:
        raise ReadError("an array without a finite number")
    return min(lows), max(highs)
