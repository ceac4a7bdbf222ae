"""Clips in arrays: whichever axes and numbers they have, and whichever file holds them."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property, partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from ldf_video.arrays.axes import choose_axes, sizes_of
from ldf_video.arrays.values import Scale, check_dtype, choose_scale
from ldf_video.errors import ReadError, counted
from ldf_video.video.colour import over_white
from ldf_video.video.media import Media
from ldf_video.video.pictures import check_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from ldf_video.arrays.actions import ActionArrays
    from ldf_video.files.layout import Layout

BLOCK_BYTES = 2**20
"""What is read at once where no chunk is larger."""
_SHARED_BYTES = 2**26  # of chunks that hold several clips, so that each is read once
_SAMPLES = 8  # blocks of which a range of numbers is told
Index = tuple[slice, ...]


@dataclass(frozen=True)
class NumberArray:
    """An array in a file, of which parts can be read.

    Attributes:
        shape: of the array, no axis of it empty.
        dtype: of its numbers.
        read: gives a part, by a slice for each axis; raises a ReadError if it cannot.
        chunks: what is read at once at least, along each axis; None where that is a number.
        name: its path within the file; "" where it is all of it.
        note: returns what a user must know of it, "" for nothing.
        stored: gives the bytes that it is kept as in the file, packed where they are, a block at a
            time: all that decides its numbers beside its shape and dtype.
        parts: paths of the arrays of one frame each that it is made of, in order; none where it is
            an array of the file itself.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[Index], NDArray[Any]]
    chunks: tuple[int, ...] | None = None
    name: str = ""
    note: Callable[[], str] = str
    stored: Callable[[], Iterable[bytes]] = tuple
    parts: tuple[str, ...] = ()


class FrameArray:
    """An array whose axes are known: frames by clip and number, from blocks that are read whole.

    Attributes:
        array: that is read.
        axes: of it, see `Layout.axes`.
        num_clips: of the axis N.
        num_frames: of a clip.
        frame_size: rows and columns.
    """

    def __init__(self, array: NumberArray, layout: Layout) -> None:
        """Reads nothing yet.

        Raises:
            ReadError: if its axes or its numbers are not those of clips.
        """
        check_dtype(array.dtype)
        if 0 in array.shape:
            raise ReadError(f"an array of shape {array.shape} holds no frame")
        self.array, self.axes = array, choose_axes(array.shape, layout.axes)
        sizes = sizes_of(self.axes, array.shape)
        check_size(sizes["X"], sizes["Y"])
        self._dtype = array.dtype.newbyteorder("=")
        self.num_clips, self.num_frames = sizes["N"], sizes["T"]
        self.frame_size = sizes["Y"], sizes["X"]
        self._asked = layout.range
        frame_bytes = sizes["Y"] * sizes["X"] * sizes["C"] * array.dtype.itemsize
        chunk = sizes_of(self.axes, array.chunks or (1,) * len(array.shape))
        whole = chunk["T"] * max(1, BLOCK_BYTES // (chunk["T"] * frame_bytes))
        self._clips_a_block, self._frames_a_block = 1, min(whole, self.num_frames)
        self._least_frames = min(chunk["T"], self.num_frames)
        clips = min(chunk["N"], self.num_clips)
        if clips > 1 and clips * self.num_frames * frame_bytes <= _SHARED_BYTES:
            self._clips_a_block, self._frames_a_block = clips, self.num_frames
        self._place, self._block = (-1, -1), np.empty(0)

    def image(self, clip: int, number: int) -> NDArray[np.uint8]:
        """Returns a frame, RGB (H, W, 3), C-contiguous.

        Raises:
            ReadError: if it cannot be read, or its numbers are of another range than those before.
        """
        image = self.scale.to_8_bits(self._values(clip, number))
        match image.shape[-1]:
            case 1:
                return np.repeat(image, 3, axis=-1)
            case 4:
                return over_white(image)
        return np.ascontiguousarray(image)

    @cached_property
    def scale(self) -> Scale:
        """Which numbers are black and white; reads some of them where it takes that to tell."""
        return choose_scale(self._dtype, self._asked, self._some())

    @cached_property
    def array_note(self) -> str:
        return self.array.note()

    def _some(self) -> Iterator[NDArray[Any]]:
        total, first_error, is_told = self.num_clips * self.num_frames, None, False
        for place in sorted({total * k // _SAMPLES for k in range(_SAMPLES)}):
            clip, number = divmod(place, self.num_frames)
            try:
                yield self._values(clip, number)
                is_told = True
            except ReadError as error:  # what is not damaged can be read all the same
                first_error = first_error or error
        if first_error is not None and not is_told:
            raise first_error

    def _values(self, clip: int, number: int) -> NDArray[Any]:
        """A frame's own numbers (H, W, C)."""
        place = clip // self._clips_a_block, number // self._frames_a_block
        if place != self._place:
            self._place, self._block = (-1, -1), np.empty(0)  # before there are two
            try:
                self._block = self._read(*place)
            except ReadError:
                if (1, self._least_frames) == (self._clips_a_block, self._frames_a_block):
                    raise
                # What comes before the damage is good.
                self._clips_a_block, self._frames_a_block = 1, self._least_frames
                return self._values(clip, number)
            self._place = place
        values: NDArray[Any] = self._block[
            clip - place[0] * self._clips_a_block, number - place[1] * self._frames_a_block
        ]
        return values

    def _read(self, clips: int, frames: int) -> NDArray[Any]:
        """A block (N, T, H, W, C)."""
        taken = {
            "N": slice(clips * self._clips_a_block, (clips + 1) * self._clips_a_block),
            "T": slice(frames * self._frames_a_block, (frames + 1) * self._frames_a_block),
        }
        block = self.array.read(tuple(taken.get(axis, slice(None)) for axis in self.axes))
        ordered = [axis for axis in "NTYXC" if axis in self.axes]
        block = block.astype(self._dtype, copy=False).transpose(
            [self.axes.index(axis) for axis in ordered]
        )
        missing = tuple(k for k, axis in enumerate("NTYXC") if axis not in self.axes)
        return np.expand_dims(block, missing)


def stacked(
    arrays: Sequence[NumberArray], name: str, *, note: Callable[[], str] = str, axes: int = 0
) -> NumberArray:
    """Arrays of one shape and type as one, (n, *shape), with axes of 1 behind up to so many."""
    first = arrays[0]
    num_own = 1 + len(first.shape)
    shape = (len(arrays), *first.shape, *(1,) * (axes - num_own))

    def read(index: Index) -> NDArray[Any]:
        part = np.stack([array.read(index[1:num_own]) for array in arrays[index[0]]])
        return part.reshape(*part.shape, *shape[num_own:])

    def stored() -> Iterator[bytes]:
        for array in arrays:
            yield array.name.encode()
            yield from array.stored()

    parts = tuple(array.name for array in arrays)
    return NumberArray(shape, first.dtype, read, name=name, note=note, stored=stored, parts=parts)


def is_at(name: str, place: str) -> bool:
    """Returns whether an array lies at a place, or below it; each part of that may be a pattern."""
    parts, wanted = name.split("/"), [part for part in place.split("/") if part]
    return len(wanted) <= len(parts) and all(map(fnmatchcase, parts, wanted))


def pattern_of(name: str) -> str:
    """Returns a path with stars in place of its numbers, as a user may name it."""
    return re.sub(r"\d+", "*", name)


class ArrayClip(Media):
    """A run of frames of one clip of an array.

    Attributes:
        said: what a user must know of the choice of arrays.
    """

    has_times = False

    def __init__(self, array: FrameArray, clip: int, frames: range) -> None:
        self._array, self._clip, self._frames = array, clip, frames
        self.codec_name = str(array.array.dtype)
        self.said = ""

    def note(self) -> str:
        said = (self._array.scale.note(), self._array.array_note, self.said)
        return "; ".join(filter(None, said))

    def frames(self, first: int = 0) -> Iterator[av.VideoFrame]:
        self._num_read += min(first, len(self._frames))
        for number in self._frames[first:]:
            image = self._array.image(self._clip, number)
            self._num_read += 1
            yield av.VideoFrame.from_ndarray(image, format="rgb24")


@dataclass(frozen=True)
class _Part:
    """An array of several clips, or one clip cut where episodes end."""

    array: FrameArray
    ends: tuple[int, ...]
    beside: Beside

    def __len__(self) -> int:
        return len(self.ends) or self.array.num_clips

    @property
    def num_frames(self) -> int:
        """In all of its clips."""
        return self.ends[-1] if self.ends else self.array.num_clips * self.array.num_frames

    def clip(self, number: int) -> tuple[int, range, int]:
        """Returns a clip of the array, which of its frames, and how many come before these."""
        if not self.ends:
            frames = range(self.array.num_frames)
            return number, frames, number * len(frames)
        start = self.ends[number - 1] if number else 0
        return 0, range(start, self.ends[number]), start


@dataclass(frozen=True)
class Beside:
    """What stands beside an array of frames.

    Attributes:
        actions: that tell of its frames, None for nothing.
        said: what a user must know of them.
    """

    actions: ActionArrays | None = None
    said: str = ""


class ArrayClips(Sequence[ArrayClip]):
    """The clips of some arrays, each made when it is asked for: there may be a million.

    Attributes:
        arrays: in the order of their clips.
        num_frames: of all clips.
    """

    def __init__(
        self,
        arrays: Sequence[FrameArray],
        *,
        container: str,
        ends: Sequence[tuple[int, ...]] = (),
        beside: Sequence[Beside] = (),
        said: str = "",
    ) -> None:
        """Reads nothing yet.

        Args:
            arrays: that hold the clips.
            container: the format's name, for people.
            ends: of the episodes in each array, rising; empty where it is one.
            beside: what stands beside each array.
            said: what a user must know of the choice of arrays.
        """
        self.arrays = arrays
        self._container, self._said = container, said
        self._parts = [
            _Part(array, ends[k] if ends else (), beside[k] if beside else Beside())
            for k, array in enumerate(arrays)
        ]
        self._starts = [0, *accumulate(map(len, self._parts))]
        self._frames_before = [0, *accumulate(part.num_frames for part in self._parts)]
        self.num_frames = self._frames_before[-1]
        (only, *others) = self._parts
        self._is_one = not others and "N" not in only.array.axes and not only.ends

    def describe(self) -> tuple[str, ...]:
        """Returns a line for all arrays whose paths differ in numbers alone; none for one array."""
        groups = dict[str, list[FrameArray]]()
        for array in self.arrays if self.arrays[0].array.name else ():
            groups.setdefault(pattern_of(array.array.name), []).append(array)
        return tuple(
            f"{name}: {counted(len(alike), 'array')} of {alike[0].array.dtype}, axes "
            f"{alike[0].axes}, {alike[0].frame_size[1]}x{alike[0].frame_size[0]}"
            for name, alike in groups.items()
        )

    def describe_known(self) -> tuple[str, ...]:
        """Returns what tells of their frames, alike arrays in a line."""
        told = {pattern_of(part.beside.said): part.beside.said for part in self._parts[::-1]}
        return tuple(filter(None, list(told.values())[::-1]))

    def content(self) -> Iterator[bytes]:
        """Yields what identifies the clips, of which the arrays are read and no others."""
        for part in self._parts:
            array = part.array.array
            yield repr((array.name, array.shape, array.dtype.str, part.ends)).encode()
            yield from array.stored()
            if part.beside.actions is not None:
                yield from part.beside.actions.content()

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, number: int) -> ArrayClip:  # type: ignore[override]
        number = range(len(self))[number]
        k = bisect_right(self._starts, number) - 1
        part = self._parts[k]
        clip, frames, before = part.clip(number - self._starts[k])
        media = ArrayClip(part.array, clip, frames)
        media.container_name = self._container
        media.said = self._said
        media.known_said = part.beside.said
        if part.beside.actions is not None:
            media.known = partial(part.beside.actions.of, clip, frames)
        media.index = None if self._is_one else number
        media.name = part.array.array.name
        if media.name and len(part) > 1:
            media.name += f"#{number - self._starts[k]}"
        media._num_read, media._num_all = self._frames_before[k] + before, self.num_frames
        return media
