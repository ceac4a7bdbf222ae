"""Reading a store: clips, single frames and masked windows, straight from the mapped shards."""

from __future__ import annotations

import copy
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ldf_video.errors import StoreError
from ldf_video.store.check import verify_store
from ldf_video.store.format import read_store_json
from ldf_video.store.index import Ints, read_index
from ldf_video.store.manifest import Quarantined, Source, select
from ldf_video.store.parts import find_differing_part, find_parts
from ldf_video.store.shards import Rows, map_rows

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

        Raises:
            StoreError: no store, a damaged one, one of a newer format, or one that points outside.
        """
        self.path = Path(path)
        self.spec, self.info = read_store_json(self.path)
        problem = find_differing_part(self.path, self.spec)
        if problem:
            raise StoreError(f"{problem}; use another store")
        self.parts = tuple(find_parts(self.path).values())
        clips, extents, shards = read_index(self.parts)
        self._shards = [
            map_rows(part, self.spec, shard=shard, num_rows=num_rows)
            for part, shard, num_rows in shards
        ]
        self._set_clips(clips, extents)

    def _set_clips(self, clips: npt.NDArray[np.void], extents: npt.NDArray[np.void]) -> None:
        self._clips, self._extents = clips, extents
        self.lengths = np.ascontiguousarray(clips["num_frames"])
        self.num_clips = len(self.lengths)
        self.num_frames = int(self.lengths.sum())
        # in the order of all frames: where clips begin, where extents begin and end
        self._clip_frame = np.cumsum(self.lengths) - self.lengths
        self._extent_stop = np.cumsum(extents["num_frames"])
        self._extent_frame = self._extent_stop - extents["num_frames"]

    @property
    def clip_ids(self) -> list[str]:
        """All ids, in order; a new list at each call, since a million of them are 100 MB."""
        return [clip_id.decode() for clip_id in self._clips["id"].tolist()]

    def clip_id(self, clip: int) -> str:
        """The id of one clip."""
        return bytes(self._clips["id"][self._checked(clip)]).decode()

    def index(self, clip_id: str) -> int:
        """The number of the clip with this id.

        Raises:
            KeyError: no such clip.
        """
        ids, key = self._clips["id"], clip_id.encode()
        clip = int(np.searchsorted(ids, np.bytes_(key)))
        if clip == self.num_clips or ids[clip] != key:
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
        number = np.full(self.num_clips, -1)
        number[chosen] = np.arange(len(chosen))
        extents = self._extents[number[self._extents["clip"]] >= 0]
        extents["clip"] = number[extents["clip"]]
        view = copy.copy(self)
        view._set_clips(self._clips[chosen], extents)
        return view

    @property
    def num_seconds(self) -> float:
        """How long all clips last together, in seconds."""
        return float((self.lengths * (self._clips["fps_den"] / self._clips["fps_num"])).sum())

    def fps(self, clip: int) -> Fraction:
        """Frames a second of one clip."""
        record = self._clips[self._checked(clip)]
        return Fraction(int(record["fps_num"]), int(record["fps_den"]))

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
        values = self._empty(stop - first)
        self._fill(values, int(self._clip_frame[number]) + first)
        return values

    def _fill(self, values: Rows, frame: int) -> None:
        """Copy as many frames as `values` has, from one on in the order of all frames."""
        extent = int(np.searchsorted(self._extent_frame, frame, "right")) - 1
        filled = 0
        while filled < len(values):
            skipped = frame + filled - int(self._extent_frame[extent])
            place = self._extents[extent]
            count = min(int(place["num_frames"]) - skipped, len(values) - filled)
            row = int(place["start"]) + skipped
            values[filled : filled + count] = self._shards[place["shard"]][row : row + count]
            filled, extent = filled + count, extent + 1

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
        _, shards, rows = self._locate(frames)
        if len(self._shards) == 1:  # one copy, not two
            return self._shards[0][rows]
        values = self._empty(len(frames))
        for shard in np.unique(shards):
            here = shards == shard
            values[here] = self._shards[shard][rows[here]]
        return values

    def _locate(self, frames: Ints) -> tuple[Ints, Ints, Ints]:
        """The extent, the shard and the row there of frames (B,) in the order of all frames."""
        extent = np.searchsorted(self._extent_frame, frames, "right") - 1
        row = self._extents["start"][extent] + frames - self._extent_frame[extent]
        return extent, self._extents["shard"][extent], row

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
        _check_range("clip", clip, self.num_clips)
        num_real = self.lengths[clip] - start  # frames from the start to the clip's end
        if (num_real < 1).any() or (start < 0).any():
            raise IndexError(
                "a window starts outside its clip: expected 0 <= start < length of the clip"
            )
        first = self._clip_frame[clip] + start
        extent, shards, rows = self._locate(first)
        is_whole = (num_real >= length) & (first + length <= self._extent_stop[extent])
        values = self._empty(len(clip), length)
        # Nearly every window is one slice of a shard, which takes less than a microsecond.
        places = zip(shards.tolist(), rows.tolist(), is_whole.tolist(), strict=True)
        for window, (shard, row, is_slice) in enumerate(places):
            if is_slice:
                values[window] = self._shards[shard][row : row + length]
            else:
                stop = min(length, int(num_real[window]))
                self._fill(values[window, :stop], int(first[window]))
                values[window, stop:] = 0
        return values, np.arange(length) < num_real[:, None]

    def _empty(self, *shape: int) -> Rows:
        return np.empty((*shape, *self.spec.item_shape), self.spec.numpy_dtype)

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
        cut = {row[0] for row in self._rows("SELECT clip_id FROM clips WHERE status = 'salvaged'")}
        if not cut:
            return []
        pairs = self._rows("SELECT source, clip_id FROM sources")
        return sorted({source for source, clip_id in pairs if clip_id in cut})

    def _rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        return select(find_parts(self.path).values(), query)

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
    if len(values) and not 0 <= values.min() <= values.max() < stop:
        raise IndexError(
            f"{what}s from {values.min()} to {values.max()}: expected 0 to {stop}, the end excluded"
        )
