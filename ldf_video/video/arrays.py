"""Clips in .npy files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from ldf_video.errors import ReadError
from ldf_video.video.files import reason_of
from ldf_video.video.media import Media
from ldf_video.video.not_clips import FOREIGN_BYTES, describe_foreign

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from ldf_video.video.files import Location

ARRAY_SUFFIX = ".npy"
_CHANNELS = (1, 3, 4)
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclass(frozen=True)
class ClipArray:
    """A file with an array of uint8 (T, H, W, 3), or (N, T, H, W, 3) with N clips.

    Attributes:
        shape: of the array.
        frame: gives a frame (H, W, 3), C-contiguous, by its clip, 0 where the array is one, and its
            number; raises a ReadError if it cannot be read.
    """

    shape: tuple[int, ...]
    frame: Callable[[int, int], NDArray[np.uint8]]


def open_array(path: Location) -> ClipArray:
    """Opens a .npy array of clips without loading it.

    Raises:
        ReadError: if it is no uint8 array (T, H, W, 3) or (N, T, H, W, 3) with at least one frame.
    """
    try:
        with path.open("rb") as file:
            head = file.read(FOREIGN_BYTES)
        if not head.startswith(b"\x93NUMPY") and (what := describe_foreign(head)):
            raise ReadError(what)
        return _mapped(path) if isinstance(path, Path) else _streamed(path)
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


class ArrayClips(Sequence[ArrayClip]):
    """The clips of an array, each made when it is asked for: there may be a million."""

    def __init__(self, array: ClipArray) -> None:
        """Reads nothing yet."""
        self._array = array

    def __len__(self) -> int:
        return num_clips(self._array) or 1

    def __getitem__(self, number: int) -> ArrayClip:  # type: ignore[override]
        return ArrayClip(self._array, range(len(self))[number])


def _mapped(path: Path) -> ClipArray:
    """A file of this machine, mapped into memory."""
    array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    _check(array.dtype, array.shape, array)
    clips = array[None] if array.ndim == 4 else array
    return ClipArray(array.shape, lambda clip, number: np.ascontiguousarray(clips[clip, number]))


def _streamed(path: Location) -> ClipArray:
    """A file behind a URL, of which a frame is in memory at a time, and what fsspec keeps."""
    file = path.open("rb")
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ReadError(f"a .npy file of version {version}; versions 1 and 2 are read")
    shape, fortran_order, dtype = _HEADERS[version](file)
    _check(dtype, shape)
    if fortran_order:
        raise ReadError("an array in Fortran order; save it in C order to read it from a URL")
    begin, size = file.tell(), math.prod(shape)
    num_bytes = file.seek(0, 2) - begin
    if num_bytes < size:
        raise ReadError(f"not a .npy array: {num_bytes:,} bytes, its header says {size:,}")
    num_frames, *frame_shape = shape[-4:]
    frame_bytes = math.prod(frame_shape)

    def frame(clip: int, number: int) -> NDArray[np.uint8]:
        try:
            file.seek(begin + (clip * num_frames + number) * frame_bytes)
            return np.frombuffer(file.read(frame_bytes), np.uint8).reshape(frame_shape)
        except OSError as error:
            raise ReadError(f"cannot be read: {reason_of(error)}") from error

    return ClipArray(shape, frame)


def _check(dtype: np.dtype[Any], shape: tuple[int, ...], array: NDArray[Any] | None = None) -> None:
    """Refuses another array, with what to write instead, as far as its values, if given, tell."""
    expected = "expected uint8 (T, H, W, 3) or (N, T, H, W, 3)"
    if math.prod(shape) == 0:
        raise ReadError(f"an array of shape {shape} holds no frame; {expected}")
    if dtype == np.uint8 and len(shape) in (4, 5) and shape[-1] == 3:
        return
    frame = array
    while frame is not None and frame.ndim > 2:  # from the middle: the first is often black
        frame = frame[len(frame) // 2]
    levels, layout = _as_levels(dtype, frame), _with_channels(shape)
    advice = ""
    if levels and layout:
        advice = f'; for a, the array: numpy.save("x.npy", {layout.format(levels)})'
        if len(shape) < 4 and layout.endswith("[None]"):
            advice += "; a clip's frames belong in one file, put together by numpy.stack"
        elif len(shape) == 4 and "[..., None]" in layout:
            advice += "; if time comes first, a = a.swapaxes(0, 1) before"
    raise ReadError(f"an array of {dtype} {shape}; {expected}{advice}")


def _as_levels(dtype: np.dtype[Any], frame: NDArray[Any] | None) -> str:
    """NumPy's words for bringing an array `a` to uint8, by the values of a frame; "" if none."""
    if dtype.kind not in "buif":
        return ""
    low, high = (0.0, 255.0) if frame is None else (float(frame.min()), float(frame.max()))
    match dtype.kind:
        case "u" if dtype == np.uint8:
            return "a"
        case "b":
            return "(a * numpy.uint8(255))"
        case "f" if high <= 1:
            scaled = "a * 255" if low >= 0 else "(a + 1) * 127.5"
            return f'({scaled}).round().astype("uint8")'
        case "f":
            return 'a.round().clip(0, 255).astype("uint8")'
        case _:
            return 'a.clip(0, 255).astype("uint8")' if high <= 255 else '(a // 257).astype("uint8")'


def _with_channels(shape: tuple[int, ...]) -> str:
    """NumPy's words for bringing "{}" to (..., T, H, W, 3); "" where that is not clear."""
    words = "{}"
    if not shape:
        return ""
    if len(shape) > 3 and shape[-1] not in _CHANNELS and shape[-3] in _CHANNELS:
        words, shape = "numpy.moveaxis({}, -3, -1)", (*shape[:-3], *shape[-2:], shape[-3])
    if shape[-1] not in _CHANNELS:
        words, shape = f"numpy.repeat({words}[..., None], 3, -1)", (*shape, 3)
    elif shape[-1] == 1:
        words = f"numpy.repeat({words}, 3, -1)"
    elif shape[-1] == 4:
        words = f"{words}[..., :3]"
    return {3: f"{words}[None]", 4: words, 5: words}.get(len(shape), "")
