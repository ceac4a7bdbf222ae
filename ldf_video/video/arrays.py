"""Clips in .npy files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av
import numpy as np

from ldf_video.errors import ReadError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

ARRAY_SUFFIX = ".npy"


def open_array(path: Path) -> NDArray[np.uint8]:
    """Maps a .npy array of clips into memory, read-only, without loading it.

    Raises:
        ReadError: if it is no uint8 array (T, H, W, 3) or (N, T, H, W, 3) with at least one frame.
    """
    try:
        array: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise ReadError(f"cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise ReadError(f"not a .npy array: {str(error).splitlines()[0]}") from error
    expected = "expected uint8 (T, H, W, 3) or (N, T, H, W, 3)"
    if array.dtype != np.uint8 or array.ndim not in (4, 5) or array.shape[-1] != 3:
        raise ReadError(f"an array of {array.dtype} {array.shape}; {expected}")
    if array.size == 0:
        raise ReadError(f"an array of shape {array.shape} holds no frame; {expected}")
    return array


class ArrayClip:
    """A clip that is the `share` of an array from `offset` on, both in [0, 1]."""

    def __init__(self, clip: NDArray[np.uint8], *, first: int, offset: float, share: float) -> None:
        """Reads nothing yet.

        Args:
            clip: uint8 (T, H, W, 3), RGB.
            first: number of the first frame to give.
            offset: how much of the array lies before the clip.
            share: how much of the array is the clip.
        """
        self._clip, self._offset, self._share = clip, offset, share
        self._num_read = first

    def position(self) -> float:
        """Returns how much of the array has been read, in [0, 1]."""
        return min(self._offset + self._share * min(self._num_read / len(self._clip), 1.0), 1.0)

    def frames(self) -> Iterator[av.VideoFrame]:
        """Yields the frames from the first that is wanted to the last."""
        for image in self._clip[self._num_read :]:
            self._num_read += 1
            yield av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
