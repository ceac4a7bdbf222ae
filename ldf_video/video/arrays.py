"""Clips in .npy files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import av
import numpy as np

from ldf_video.errors import ReadError
from ldf_video.video.files import reason_of
from ldf_video.video.media import Media
from ldf_video.video.not_clips import FOREIGN_BYTES, describe_foreign

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ldf_video.video.files import Location, RemotePath

ARRAY_SUFFIX = ".npy"
_MAGIC = b"\x93NUMPY"
_CHANNELS = (1, 3, 4)
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
        with path.open("rb") as file:
            head = file.read(FOREIGN_BYTES)
        if not head.startswith(_MAGIC) and (what := describe_foreign(head)):
            raise ReadError(what)
        return _MappedArray(path) if isinstance(path, Path) else _StreamedArray(path)
    except OSError as error:
        raise ReadError(f"cannot be read: {reason_of(error)}") from error
    except (ValueError, EOFError) as error:
        raise ReadError(f"not a .npy array: {reason_of(error)}") from error


def num_clips(array: ClipArray) -> int | None:
    """Returns how many clips an array (N, T, H, W, 3) holds, None where it is one clip."""
    return array.shape[0] if len(array.shape) == 5 else None


class ArrayClip(Media):
    """One clip of an array, 0 where the array is one."""

    container_name, codec_name = "npy", "uint8"
    has_times = False

    def __init__(self, array: ClipArray, clip: int) -> None:
        """Reads nothing yet."""
        self._array, self._clip, self._num_frames = array, clip, array.shape[-4]
        self.index = None if num_clips(array) is None else clip
        self._num_read, self._num_all = clip * self._num_frames, math.prod(array.shape[:-3])

    def frames(self, first: int = 0) -> Iterator[av.VideoFrame]:
        self._num_read += min(first, self._num_frames)
        for number in range(first, self._num_frames):
            image = self._array.frame(self._clip, number)
            self._num_read += 1
            yield av.VideoFrame.from_ndarray(image, format="rgb24")


class _MappedArray:
    """A file of this machine, mapped into memory, read-only."""

    def __init__(self, path: Path) -> None:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        _check(array.dtype, array.shape, array)
        self.shape: tuple[int, ...] = array.shape
        self._clips = array[None] if array.ndim == 4 else array

    def frame(self, clip: int, number: int) -> NDArray[np.uint8]:
        return np.ascontiguousarray(self._clips[clip, number])


class _StreamedArray:
    """A file behind a URL, of which a frame is in memory at a time, and what fsspec keeps."""

    def __init__(self, path: RemotePath) -> None:
        self._file = path.open("rb")
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


def _check(dtype: np.dtype[Any], shape: tuple[int, ...], array: NDArray[Any] | None = None) -> None:
    """Refuses another array, with what to write instead, as far as its values, if given, tell."""
    expected = "expected uint8 (T, H, W, 3) or (N, T, H, W, 3)"
    if math.prod(shape) == 0:
        raise ReadError(f"an array of shape {shape} holds no frame; {expected}")
    if dtype != np.uint8 or len(shape) not in (4, 5) or shape[-1] != 3:
        frame = array
        while frame is not None and frame.ndim > 2:  # from the middle: the first is often black
            frame = frame[len(frame) // 2]
        raise ReadError(f"an array of {dtype} {shape}; {expected}{_advice(dtype, shape, frame)}")


def _advice(dtype: np.dtype[Any], shape: tuple[int, ...], frame: NDArray[Any] | None) -> str:
    """What to write instead of an array, in NumPy's words; "" where that is not clear."""
    levels, layout = _as_levels(dtype, frame), _with_channels(shape)
    if not levels or not layout:
        return ""
    note = ""
    if len(shape) < 4 and layout.endswith("[None]"):
        note = "; a clip's frames belong in one file, put together by numpy.stack"
    elif len(shape) == 4 and "[..., None]" in layout:
        note = "; if time comes first, a = a.swapaxes(0, 1) before"
    return f'; for a, the array: numpy.save("x.npy", {layout.format(levels)}){note}'


def _as_levels(dtype: np.dtype[Any], frame: NDArray[Any] | None) -> str:
    """NumPy's words for bringing an array `a` to uint8, by the values of a frame; "" if none."""
    low, high = (0.0, 255.0) if frame is None else (float(frame.min()), float(frame.max()))
    if dtype == np.uint8:
        return "a"
    if dtype.kind == "b":
        return "(a * numpy.uint8(255))"
    if dtype.kind == "f" and high <= 1:
        scaled = "a * 255" if low >= 0 else "(a + 1) * 127.5"
        return f'({scaled}).round().astype("uint8")'
    if dtype.kind == "f":
        return 'a.round().clip(0, 255).astype("uint8")'
    if dtype.kind in "iu":
        return 'a.clip(0, 255).astype("uint8")' if high <= 255 else '(a // 257).astype("uint8")'
    return ""


def _with_channels(shape: tuple[int, ...]) -> str:
    """NumPy's words for bringing "{}" to (..., T, H, W, 3); "" where that is not clear."""
    words = "{}"
    if len(shape) > 3 and shape[-1] not in _CHANNELS and shape[-3] in _CHANNELS:
        words, shape = "numpy.moveaxis({}, -3, -1)", (*shape[:-3], *shape[-2:], shape[-3])
    if shape[-1] not in _CHANNELS:
        words, shape = f"numpy.repeat({words}[..., None], 3, -1)", (*shape, 3)
    elif shape[-1] == 1:
        words = f"numpy.repeat({words}, 3, -1)"
    elif shape[-1] == 4:
        words = f"{words}[..., :3]"
    return {3: f"{words}[None]", 4: words, 5: words}.get(len(shape), "")
