"""How stored pictures become upright: the eight ways of EXIF's tag and of a display matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from av.sidedata.sidedata import SideDataContainer, Type

if TYPE_CHECKING:
    from collections.abc import Sequence

    import av
    from numpy.typing import NDArray


class Orientation(NamedTuple):
    """What is done to a stored picture: transposed first, then rows, columns reversed."""

    transposed: bool = False
    rows: bool = False
    columns: bool = False


UPRIGHT = Orientation()
_EXIF = {
    2: Orientation(columns=True),
    3: Orientation(rows=True, columns=True),
    4: Orientation(rows=True),
    5: Orientation(transposed=True),
    6: Orientation(transposed=True, columns=True),
    7: Orientation(transposed=True, rows=True, columns=True),
    8: Orientation(transposed=True, rows=True),
}

_TURNS = (UPRIGHT, _EXIF[8], _EXIF[3], _EXIF[6])  # counter-clockwise, by quarters


def exif_orientation(tag: object) -> Orientation:
    """Returns what EXIF's tag 274 says (Exif 2.32, 4.6.4 A); values out of [1, 8] mean nothing."""
    return _EXIF.get(tag, UPRIGHT) if isinstance(tag, int) else UPRIGHT


def frame_orientation(frame: av.VideoFrame) -> Orientation:
    """Returns what a decoded frame's display matrix says, upright where it has none."""
    # Not frame.side_data: that holds the frame that holds it, and memory waits for a collection.
    try:
        known = SideDataContainer(frame)  # type: ignore[call-arg]
    except ValueError:  # PyAV knows not every kind, EXIF is one; its own look sees no mirror
        return _TURNS[round(frame.rotation / 90) % 4]
    for index in range(len(known)):  # going through it gives data, from PyAV 19 on their types
        data = known[index]
        if data.type == Type.DISPLAYMATRIX:
            return matrix_orientation(np.frombuffer(bytes(data), np.int32).tolist())
    return UPRIGHT


def matrix_orientation(matrix: Sequence[float]) -> Orientation:
    """Returns the nearest of the eight orientations; only the first five numbers count.

    ISO/IEC 14496-12, 6.2.2: the pixel (p, q), q downwards, of the stored picture is shown at
    (a p + c q + x, b p + d q + y), where the matrix is a b u, c d v, x y w.
    """
    a, b, _, c, d = matrix[:5]
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(rows=d < 0, columns=a < 0)
    return Orientation(transposed=True, rows=b < 0, columns=c < 0)


def upright(image: NDArray[np.uint8], orientation: Orientation) -> NDArray[np.uint8]:
    """Returns `image` (H, W, 3) as it is shown; may be a view."""
    transposed, rows, columns = orientation
    image = image.transpose(1, 0, 2) if transposed else image
    image = image[::-1] if rows else image
    return image[:, ::-1] if columns else image
