"""Reading a store: clips, single frames and masked windows, straight from the mapped shards."""

from __future__ import annotations

import copy
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ldf_video.errors import StoreError
from ldf_video.store.columns import Columns, Ints, UsedShard, read_columns, take
from ldf_video.store.format import read_store_json
from ldf_video.store.manifest import Quarantined, Source, reading
from ldf_video.store.parts import find_differing_part, find_parts
from ldf_video.store.shards import REPAIR, Rows, count_rows, map_rows
from ldf_video.store.span import Span
from ldf_video.store.verify import verify_store

if TYPE_CHECKING:
    from collections.abc import Iterator


class StoreReader:
    """Reads what a store had committed when it was opened; any number at once, beside a writer.

    It holds the finished clips of current sources, ordered by `clip_id`, so that neither the order
    of encoding, nor that of rows on disk, nor how many parts there are shows. Clips and frames are
    numbered from 0 in that order.

    Attributes:
        path: the store's directory.
        parts: the directories of its parts, its own first.
        spec: what the store holds.
        info: what only informs.
        num_clips: number of clips.
        num_frames: frames of all clips.
        lengths: frames of each clip, int64 (num_clips,).
    """

    def __init__(self, path: Path) -> None:
        """Open a store.

        Args:
            path: the store's directory.

        Raises:
            StoreError: no store, a damaged one, one of a newer format, or one that points outside.
        """
        self.path = Path(path)
        self.spec, self.info = read_store_json(self.path)
        problem = find_differing_part(self.path, self.spec)
        if problem:
            raise StoreError(f"{problem}; use another store")
        self.parts = tuple(find_parts(self.path).values())
        clips, shards = read_columns(self.parts)
        self._shards = [self._map(shard) for shard in shards]
        self._shard_rows = np.array([len(rows) for rows in self._shards], np.int64)
        self._span = Span(self._shards, self.spec)
        self._hold(clips)

    def _hold(self, clips: Columns) -> None:
        self._clips = clips
        self.lengths = clips.lengths
        self.num_clips = len(self.lengths)
        self.num_frames = int(self.lengths.sum())
        # A block of rows from a frame on may be copied if it ends before its extent's `stop`, in
        # the order of all frames; it lies at the extent's `offset` + the frame's bytes in the span.
        # Behind a clip's end follows the rest of the map.
        row = clips.extent_row - clips.extent_frame
        self._extent_offset = self._span.offsets[clips.extent_shard] + row * self.spec.row_bytes
        self._extent_stop = clips.extent_end.copy()
        last = clips.first_extent + clips.num_extents - 1
        self._extent_stop[last] = (self._shard_rows[clips.extent_shard] - row)[last]
        # the same of each clip's first extent, from the clip's first frame on
        first = clips.first_frame
        self._clip_offset = self._extent_offset[clips.first_extent] + first * self.spec.row_bytes
        self._clip_stop = self._extent_stop[clips.first_extent] - first

    def _map(self, used: UsedShard) -> Rows:
        part, shard, num_rows = used
        held = count_rows(part, self.spec, shard=shard)
        if num_rows > held:
            raise StoreError(
                f"{part} is damaged: its manifest points at row {num_rows - 1}"
                f" of shard {shard}, which holds {held}; {REPAIR}"
            )
        return map_rows(part, self.spec, shard=shard, num_rows=num_rows)

    @property
    def clip_ids(self) -> list[str]:
        """All ids, in order; made anew at each call, since a million of them are 100 MB."""
        return [clip_id.decode() for clip_id in self._clips.ids.tolist()]

    def clip_id(self, clip: int) -> str:
        """The id of one clip."""
        return bytes(self._clips.ids[self._checked(clip)]).decode()

    def index(self, clip_id: str) -> int:
        """The number of the clip with this id.

        Raises:
            KeyError: no such clip.
        """
        key = clip_id.encode()
        clip = int(np.searchsorted(self._clips.ids, np.bytes_(key)))
        if clip == self.num_clips or self._clips.ids[clip] != key:
            raise KeyError(clip_id)
        return clip

    def select(self, clips: npt.ArrayLike) -> StoreReader:
        """See some of the clips as a reader of their own, numbered from 0; the maps are shared.

        `sources`, `quarantined`, `salvaged` and `verify` of it are still about the whole store.

        Args:
            clips: integers (n,), each in 0 to `num_clips`, strictly increasing.

        Returns:
            A reader of these n clips, in the same order.

        Raises:
            IndexError: no such clip.
            ValueError: not strictly increasing.
        """
        chosen = _integers(clips)
        _check_range("clip", chosen, self.num_clips)
        if (chosen[1:] <= chosen[:-1]).any():
            raise ValueError("clips to select: expected each number to be above the one before")
        view = copy.copy(self)
        view._hold(take(self._clips, chosen))
        return view

    @property
    def num_seconds(self) -> float:
        """How long all clips last together, in seconds."""
        return float((self.lengths * (self._clips.fps_den / self._clips.fps_num)).sum())

    def fps(self, clip: int) -> Fraction:
        """Frames a second of one clip."""
        number = self._checked(clip)
        return Fraction(int(self._clips.fps_num[number]), int(self._clips.fps_den[number]))

    def read(self, clip: int, first: int, stop: int) -> Rows:
        """Copy frames `first` to `stop` of a clip.

        Returns:
            Shape (stop - first, *item_shape).

        Raises:
            IndexError: not 0 <= first <= stop <= length, or no such clip.
        """
        number = self._checked(clip)
        if not 0 <= first <= stop <= self.lengths[number]:
            raise IndexError(
                f"frames {first} to {stop} of clip {clip}:"
                f" expected 0 <= first <= stop <= {self.lengths[number]}"
            )
        base = int(self._clips.first_frame[number])
        values = np.empty((stop - first, *self.spec.item_shape), self.spec.numpy_dtype)
        for rows, begin in self._pieces(base + first, base + stop):
            values[begin : begin + len(rows)] = rows
        return values

    def _pieces(self, first: int, stop: int) -> Iterator[tuple[Rows, int]]:
        clips, frame = self._clips, first
        extent = int(np.searchsorted(clips.extent_frame, first, "right")) - 1
        while frame < stop:
            row = int(clips.extent_row[extent] - clips.extent_frame[extent]) + frame
            end = min(stop, int(clips.extent_end[extent]))
            yield self._shards[clips.extent_shard[extent]][row : row + end - frame], frame - first
            frame, extent = end, extent + 1

    def frames_at(self, indices: npt.ArrayLike) -> Rows:
        """Copy single frames, by their number in the order of all clips' frames.

        Args:
            indices: integers (B,), each in 0 to `num_frames`, in any order, repeats allowed.

        Returns:
            Shape (B, *item_shape).

        Raises:
            IndexError: an index out of range.
        """
        frames = _integers(indices)
        _check_range("frame", frames, self.num_frames)
        return self._frames(frames)

    def windows(
        self, clips: npt.ArrayLike, starts: npt.ArrayLike, *, length: int
    ) -> tuple[Rows, npt.NDArray[np.bool_]]:
        """Copy windows of `length` frames; what lies past the end of a clip is zero.

        Args:
            clips: integers (B,), each in 0 to `num_clips`.
            starts: integers (B,), each in 0 to its clip's length.
            length: frames of a window, at least 1.

        Returns:
            Values (B, length, *item_shape) and the mask (B, length), True where a frame is real.

        Raises:
            IndexError: no such clip, or a start outside it.
            ValueError: clips and starts of different lengths, or a length below 1.
        """
        clip, start = _integers(clips), _integers(starts)
        if clip.shape != start.shape or length < 1:
            raise ValueError(
                f"{len(clip)} clips, {len(start)} starts, length {length}:"
                " expected as many starts as clips, and a length of 1 or more"
            )
        if not len(clip):
            return self._empty(0, length), np.ones((0, length), np.bool_)
        _check_range("clip", clip, self.num_clips)
        left = self.lengths[clip] - start  # frames from the start to the clip's end
        least = np.minimum.reduce(left)
        if least < 1 or np.minimum.reduce(start) < 0:
            raise IndexError(
                "a window starts outside its clip: expected 0 <= start < length of the clip"
            )
        values = self._windows(clip, start, left, length)
        if least >= length:
            return values, np.ones((len(clip), length), np.bool_)
        mask = np.arange(length) < left[:, None]
        short = np.flatnonzero(left < length)
        tails = values[short]
        tails[~mask[short]] = 0
        values[short] = tails
        return values, mask

    def _windows(self, clip: Ints, start: Ints, left: Ints, length: int) -> Rows:
        # Nearly every window lies in one extent: its rows are one block of bytes. What follows a
        # clip's end there is copied along, to be masked, unless the map ends first. Every call of
        # numpy counts: the copy itself takes no longer than a few dozen of them.
        row_bytes = self.spec.row_bytes
        offset = self._clip_offset[clip] + start * row_bytes
        (rest,) = (start + length > self._clip_stop[clip]).nonzero()
        if not len(rest):
            return self._span.copy(offset, length)
        # not in its clip's first extent, the only one of most
        first = self._clips.first_frame[clip[rest]] + start[rest]
        extent = self._extent_of(first)
        offset[rest] = self._extent_offset[extent] + first * row_bytes
        apart = first + length > self._extent_stop[extent]
        rest, first = rest[apart], first[apart]
        if not len(rest):
            return self._span.copy(offset, length)
        if len(rest) < len(offset):  # these copy some other window, cheaper than to leave them out
            offset[rest] = np.delete(offset, rest)[0]
            values = self._span.copy(offset, length)
        else:
            values = self._empty(len(rest), length)
        steps = np.minimum(np.arange(length), left[rest, None] - 1)  # stay in the clip
        frames = self._frames((first[:, None] + steps).reshape(-1))
        values[rest] = frames.reshape(-1, length, *self.spec.item_shape)
        return values

    def _frames(self, frames: Ints) -> Rows:
        extent = self._extent_of(frames)
        return self._span.copy(self._extent_offset[extent] + frames * self.spec.row_bytes, 1)[:, 0]

    def _extent_of(self, frames: Ints) -> Ints:
        return np.searchsorted(self._clips.extent_frame, frames, "right") - 1

    def _empty(self, num_windows: int, length: int) -> Rows:
        return np.empty((num_windows, length, *self.spec.item_shape), self.spec.numpy_dtype)

    def sources(self) -> list[Source]:
        """All sources and their clips, as of now.

        Raises:
            StoreError: the manifest is damaged.
        """
        query = "SELECT source, size, mtime_ns, clip_id FROM sources"
        return sorted(Source(*row) for row in self._rows(query))

    def quarantined(self) -> list[Quarantined]:
        """All sources that could not be read, as of now.

        Raises:
            StoreError: the manifest is damaged.
        """
        query = "SELECT source, size, mtime_ns, reason FROM quarantine"
        return sorted(Quarantined(*row) for row in self._rows(query))

    def salvaged(self) -> list[str]:
        """Names of all sources of which only the readable beginning is here, in order, as of now.

        Raises:
            StoreError: the manifest is damaged.
        """
        cut = {
            clip_id
            for (clip_id,) in self._rows("SELECT clip_id FROM clips WHERE status = 'salvaged'")
        }
        if not cut:
            return []
        pairs = self._rows("SELECT source, clip_id FROM sources")
        return sorted({source for source, clip_id in pairs if clip_id in cut})

    def _rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        for part in find_parts(self.path).values():
            with reading(part) as connection:
                yield from connection.execute(query)

    def verify(self) -> list[str]:
        """List what is wrong with the store as it is now; see `verify_store`, which says more."""
        return list(verify_store(self.path).problems)

    def _checked(self, clip: int) -> int:
        if not 0 <= clip < self.num_clips:
            raise IndexError(f"clip {clip}: expected 0 to {self.num_clips}, the end excluded")
        return clip


def _integers(values: npt.ArrayLike) -> Ints:
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise IndexError(f"{array.ndim} dimensions of {array.dtype}: expected one, of integers")
    return array.astype(np.int64, copy=False)


def _check_range(what: str, values: Ints, stop: int) -> None:
    # unsigned, a negative number is a huge one: a single pass
    if len(values) and np.maximum.reduce(values.view(np.uint64)) >= stop:
        raise IndexError(
            f"{what}s from {values.min()} to {values.max()}: expected 0 to {stop}, the end excluded"
        )
