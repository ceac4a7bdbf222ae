"""Clips in .npy files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import av
import numpy as np

from ldf_video.errors import ReadError
from ldf_video.video.files import reason_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedReader

    from numpy.typing import NDArray

    from ldf_video.video.files import Location, RemotePath

ARRAY_SUFFIX = ".npy"
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class ClipArray(Protocol):
    """A file with an array of uint8 (T, H, W, 3), or (N, T, H, W, 3) with N clips."""

    shape: tuple[int, ...]

    def frame(self, clip: int, number: int) -> NDArray[np.uint8]:
        """Returns a frame (H, W, 3), C-contiguous, of a clip, 0 where the array is one.

        Raises:
            ReadError: if it cannot be read.
        """
        ...


def open_array(path: Location) -> ClipArray:
    """Opens a .npy array of clips without loading it.

    Raises:
        ReadError: if it is no uint8 array (T, H, W, 3) or (N, T, H, W, 3) with at least one frame.
    """
    try:
        return _MappedArray(path) if isinstance(path, Path) else _StreamedArray(path)
    except OSError as error:
        raise ReadError(f"cannot be read: {reason_of(error)}") from error
    except (ValueError, EOFError) as error:
        raise ReadError(f"not a .npy array: {reason_of(error)}") from error


def num_clips(array: ClipArray) -> int | None:
    """Returns how many clips an array (N, T, H, W, 3) holds, None where it is one clip."""
    return array.shape[0] if len(array.shape) == 5 else None


class ArrayClip:
    """One clip of an array, from a frame on."""

    def __init__(self, array: ClipArray, clip: int, *, first: int) -> None:
        """Reads nothing yet.

        Args:
            array: that holds it.
            clip: its number, 0 where the array is one clip.
            first: number of the first frame to give.
        """
        self._array, self._clip, self._num_read = array, clip, first

    def position(self) -> float:
        """Returns how much of the array has been read, in [0, 1]."""
        read = min(self._num_read / self._array.shape[-4], 1.0)
        return min((self._clip + read) / (num_clips(self._array) or 1), 1.0)

    def frames(self) -> Iterator[av.VideoFrame]:
        """Yields the frames from the first that is wanted to the last.

        Raises:
            ReadError: if one cannot be read.
        """
        for number in range(self._num_read, self._array.shape[-4]):
            image = self._array.frame(self._clip, number)
            self._num_read += 1
            yield av.VideoFrame.from_ndarray(image, format="rgb24")


class _MappedArray:
    """A file of this machine, mapped into memory, read-only."""

    def __init__(self, path: Path) -> None:
        array: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
        _check(array.dtype, array.shape)
        self.shape: tuple[int, ...] = array.shape
        self._clips = array[None] if array.ndim == 4 else array

    def frame(self, clip: int, number: int) -> NDArray[np.uint8]:
        return np.ascontiguousarray(self._clips[clip, number])


class _StreamedArray:
    """A file behind a URL, of which a frame is in memory at a time, and what fsspec keeps."""

    def __init__(self, path: RemotePath) -> None:
        self._file: BufferedReader = path.open("rb")
        version = np.lib.format.read_magic(self._file)
        if version not in _HEADERS:
            raise ReadError(f"a .npy file of version {version}; versions 1 and 2 are read")
        self.shape, fortran_order, dtype = _HEADERS[version](self._file)
        _check(dtype, self.shape)
        if fortran_order:
            raise ReadError("an array in Fortran order; save it in C order to read it from a URL")
        self._begin = self._file.tell()
        num_bytes = self._file.seek(0, 2) - self._begin
        if num_bytes < math.prod(self.shape):
            raise ReadError(
                f"not a .npy array: {num_bytes:,} bytes, its header says {math.prod(self.shape):,}"
            )

    def frame(self, clip: int, number: int) -> NDArray[np.uint8]:
        num_frames, *frame_shape = self.shape[-4:]
        frame_bytes = math.prod(frame_shape)
        try:
            self._file.seek(self._begin + (clip * num_frames + number) * frame_bytes)
            data = self._file.read(frame_bytes)
        except OSError as error:
            raise ReadError(f"cannot be read: {reason_of(error)}") from error
        return np.frombuffer(data, np.uint8).reshape(frame_shape)


def _check(dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> None:
    expected = "expected uint8 (T, H, W, 3) or (N, T, H, W, 3)"
    if dtype != np.uint8 or len(shape) not in (4, 5) or shape[-1] != 3:
        raise ReadError(f"an array of {dtype} {shape}; {expected}")
    if math.prod(shape) == 0:
        raise ReadError(f"an array of shape {shape} holds no frame; {expected}")
