"""TIFF stacks that Pillow would read wrongly or not at all, read by tifffile page by page.

They are hyperstacks of ImageJ and OME, with channels or depths beside time; stacks of ImageJ beyond
4 GB, of which only the first page is listed; and numbers or compressions that Pillow lacks.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import math
import re
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ldf_video.arrays.frame_array import ArrayClips, FrameArray, NumberArray
from ldf_video.errors import ReadError, counted, reason_of
from ldf_video.video.pictures import check_size, tiff_tags

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from ldf_video.arrays.frame_array import Index
    from ldf_video.files.layout import Layout
    from ldf_video.files.locations import Location

# TIFF 6.0, 22: the tags that are looked at.
_COMPRESSION, _DESCRIPTION, _SAMPLES, _PLANAR, _BITS, _FORMAT = 259, 270, 277, 284, 258, 339
_BY_PILLOW = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 34925, 50000})  # compressions
_NUMBERS_BY_PILLOW = frozenset({(1, 1), (1, 8), (1, 16), (2, 16), (3, 32)})  # formats and bits
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _YCBCR = 0, 1, 2, 6
_ERRORS = (
    *(OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, MemoryError),
    *(ArithmeticError, NotImplementedError, struct.error),
)


def needs_tifffile(path: Location) -> bool:
    """Returns whether a TIFF is one that Pillow reads wrongly or not at all."""
    tags = tiff_tags(path)
    if tags is None:
        return False
    bits = _first(tags, _BITS, 1)
    numbers = _first(tags, _FORMAT, 1), bits
    is_deep_planar = _first(tags, _PLANAR, 1) == 2 and bits > 8
    return (
        _first(tags, _COMPRESSION, 1) not in _BY_PILLOW
        or (numbers not in _NUMBERS_BY_PILLOW and not bits < 8)
        or is_deep_planar
        or _is_hyperstack(str(tags.get(_DESCRIPTION, "")), _first(tags, _SAMPLES, 1), tags["pages"])
    )


def _first(tags: Mapping[Any, Any], tag: int, default: int) -> int:
    value = tags.get(tag, default)
    return int(value[0] if isinstance(value, tuple) else value)


def _is_hyperstack(description: str, samples: int, num_pages: int) -> bool:
    """Whether pages are more than the frames of one clip, by what a program wrote of them."""
    if description.startswith("ImageJ="):
        said = dict(re.findall(r"^(\w+)=(\d+)\s*$", description, re.MULTILINE))
        sizes = [int(said.get(name, 1)) for name in ("channels", "slices", "frames")]
        is_cut = num_pages == 1 and int(said.get("images", 1)) > 1
        return is_cut or sizes[0] > 1 or min(sizes[1:]) > 1
    if "<OME" in description[:2048]:
        sizes = [
            int((re.findall(rf'\bSize{axis}="(\d+)"', description) or [1])[0]) for axis in "CZT"
        ]
        return sizes[0] > samples or min(sizes[1:]) > 1
    if description.startswith('{"shape"'):  # tifffile's own
        with contextlib.suppress(ValueError, AttributeError):
            return len(re.sub("[YXS]", "", json.loads(description).get("axes", ""))) > 1
    return False


@contextlib.contextmanager
def open_tiff(path: Location, layout: Layout) -> Iterator[ArrayClips]:
    """Opens the clips of a TIFF: one for each depth or position, with its frames in time.

    Three channels are red, green and blue, two are red and green; of more one has to be named.

    Raises:
        ReadError: if it cannot be read; the message names the package that is missing.
    """
    try:
        tifffile: Any = importlib.import_module("tifffile")
    except ImportError:
        raise ReadError("which tifffile reads: pip install 'ldf-video[tiff]'") from None
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # of what is odd in descriptions
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("rb"))
            # The other files that an OME data set names are not opened.
            tiff = stack.enter_context(tifffile.TiffFile(file, _multifile=False))
            pages = _Pages(tiff, layout)
        except _ERRORS as error:
            raise ReadError(_reason(error)) from error
        sizes = pages.num_clips, pages.num_frames, *pages.frame_shape
        axes, shape = ("TYXC", sizes[1:]) if pages.num_clips == 1 else ("NTYXC", sizes)
        array = NumberArray(shape, pages.dtype, pages.read)
        yield ArrayClips([FrameArray(array, replace(layout, axes=axes))], container="tiff")


class _Pages:
    """The largest series of pages of a file, as clips of frames.

    Attributes:
        num_clips: one for each index of the axes that are neither time, channels nor pixels.
        num_frames: of each clip; of a stack without time its depths.
        frame_shape: rows, columns and channels.
        dtype: of the numbers.
    """

    def __init__(self, tiff: Any, layout: Layout) -> None:
        self._tiff = tiff
        self._series = series = max(tiff.series, key=lambda series: series.size)
        page = series.keyframe
        check_size(page.imagewidth, page.imagelength)
        axes = series.axes[: -len(page.axes)] if series.ndim > page.ndim else ""
        self._sizes = series.shape[: len(axes)]
        if series.axes[len(axes) :] != page.axes or page.axes not in ("YX", "YXS", "SYX"):
            raise ReadError(f"a TIFF with axes {series.axes}: its pages are no frames")
        if page.photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _YCBCR):
            raise ReadError(f"a TIFF with colours of {page.photometric.name}; save it as RGB")
        self._is_inverted = page.photometric == _WHITE_IS_ZERO
        # What counts the frames: time, else depth, else what no program has named.
        time = next((axes.index(axis) for axis in "TZQI" if axis in axes), None)
        channels = axes.index("C") if "C" in axes and page.axes == "YX" else None
        self._time, self._channels = time, channels
        self._others = [k for k in range(len(axes)) if k not in (time, channels)]
        self.num_frames = self._sizes[time] if time is not None else 1
        self.num_clips = math.prod(self._sizes[k] for k in self._others)
        num_channels = self._sizes[channels] if channels is not None else page.samplesperpixel
        self._chosen = list(range(num_channels))
        if channels is not None:
            self._chosen = _chosen(num_channels, layout.camera)
        shown = {2: 3}.get(len(self._chosen), len(self._chosen))
        self.frame_shape = page.imagelength, page.imagewidth, shown
        self.dtype = np.dtype(series.dtype)
        self._page_axes, self._page_shape = page.axes, page.shape

    def read(self, index: Index) -> NDArray[Any]:
        clips = range(self.num_clips)[index[0]] if len(index) == 5 else range(1)
        frames = range(self.num_frames)[index[-4]]
        part = [[self._frame(clip, frame) for frame in frames] for clip in clips]
        rows, columns, channels = index[-3:]
        whole = np.asarray(part)[..., rows, columns, channels]
        return whole if len(index) == 5 else whole[0]

    def _frame(self, clip: int, frame: int) -> NDArray[Any]:
        """A frame's numbers (H, W, C)."""
        place = [0] * len(self._sizes)
        others = np.unravel_index(clip, [self._sizes[k] for k in self._others] or [1])
        for axis, number in zip(self._others, others, strict=False):
            place[axis] = int(number)
        if self._time is not None:
            place[self._time] = frame
        image = np.zeros(self.frame_shape, self.dtype)
        if self._channels is None:
            page = self._page(place)
            image[...] = (
                np.moveaxis(page, 0, -1)
                if self._page_axes == "SYX"
                else (page if page.ndim == 3 else page[..., None])
            )
        else:
            for shown, channel in enumerate(self._chosen):
                place[self._channels] = channel
                image[..., shown] = self._page(place)
        if self._is_inverted and self.dtype.kind in "u":
            return np.iinfo(self.dtype).max - image
        return image

    def _page(self, place: list[int]) -> NDArray[Any]:
        number = int(np.ravel_multi_index(place, self._sizes)) if place else 0
        try:
            if (
                self._series.dataoffset is not None
            ):  # pages that lie behind each other, listed or not
                size = math.prod(self._page_shape)
                dtype = self.dtype.newbyteorder(self._tiff.byteorder)
                file = self._tiff.filehandle
                file.seek(self._series.dataoffset + number * size * dtype.itemsize)
                data = file.read(size * dtype.itemsize)
                if len(data) < size * dtype.itemsize:
                    raise ReadError("the file ends early")
                return np.frombuffer(data, dtype).reshape(self._page_shape)
            page = self._series.pages[number]
            if page is None:
                raise ReadError(f"page {number} lies in another file of its OME data set")
            image: NDArray[Any] = page.asarray()
        except _ERRORS as error:
            raise ReadError(_reason(error)) from error
        return image.reshape(self._page_shape)


def _chosen(num_channels: int, named: str) -> list[int]:
    """The channels that are read, by number; one that is named counts from 1."""
    if named.isdigit() and 1 <= int(named) <= num_channels:
        return [int(named) - 1]
    if named or num_channels > 3:
        raise ReadError(
            f"a TIFF of {counted(num_channels, 'channel')}: choose one by --camera 1 to "
            f"--camera {num_channels}"
        )
    return list(range(num_channels))


def _reason(error: Exception) -> str:
    said = reason_of(error)
    if "imagecodecs" in said:
        return f"{said.partition(' requires')[0]}: pip install 'ldf-video[tiff]'"
    return f"a TIFF that cannot be read: {said}"
