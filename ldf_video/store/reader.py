"""Reading a store: clips, single frames and masked windows, straight from the mapped shards."""

from __future__ import annotations

import copy
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ldf_video.arrays.conditions import Column, Values
from ldf_video.errors import StoreError
from ldf_video.store.check import verify_store
from ldf_video.store.conditions import ConditionReader
from ldf_video.store.extents import read_cuts
from ldf_video.store.format import find_differing_part, find_parts, read_store_json
from ldf_video.store.index import Ints, Records, find, offsets, read_index
from ldf_video.store.manifest import read_labels, select
from ldf_video.store.records import Quarantined, Source
from ldf_video.store.shards import Rows
from ldf_video.store.shots import split_records

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_COUNTED_AT_ONCE = 1 << 18  # frames


class StoreReader:
    """Reads what a store had committed when it was opened; any number at once, beside a writer.

    It holds the finished clips of current sources, ordered by `clip_id`, so that neither the order
    of encoding, nor that of rows on disk, nor how many parts there are shows. Clips and frames are
    numbered from 0 in that order.

    Attributes:
        path: the store's directory.
        parts: the directories of its parts, its own first.
        spec, info: what the store holds, and what only informs.
        num_clips, num_frames: of all clips.
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
        self._told = ConditionReader(self.parts)
        clips, extents, self._shards = read_index(self.parts, self.spec, self._told)
        self._bytes = [shard.reshape(-1).view(np.uint8).data for shard in self._shards]
        self._set_clips(clips, extents)

    def _set_clips(self, clips: Records, extents: Records) -> None:
        self._clips, self._extents = clips, extents
        self.lengths = np.ascontiguousarray(clips["num_frames"])
        self.num_clips = len(self.lengths)
        self.num_frames = int(self.lengths.sum())
        # in the order of all frames: where clips begin and extents end, and how far rows are off
        self._clip_frame = offsets(self.lengths)
        self._extent_stop = np.cumsum(extents["num_frames"])
        self._extent_shard = np.ascontiguousarray(extents["shard"])
        self._extent_shift = extents["start"] - offsets(extents["num_frames"])
        self._extent_told = extents["told"].astype(np.bool_)

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

        `clips` are integers (n,), each in 0 to `num_clips`, strictly increasing. `sources`,
        `quarantined`, `salvaged` and `verify` of the reader are still about the whole store.

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

    def cuts(self) -> tuple[Ints, Ints]:
        """Clips (n,) and frames (n,) of them that begin another shot, in order, as known now.

        A store that was written before cuts were looked for has none.
        """
        parts = [read_cuts(part) for part in self.parts]
        clip = np.concatenate([find(found["id"], self._clips["id"]) for found in parts])
        frame = np.concatenate([found["frame"] for found in parts])
        known = clip >= 0
        clip, frame = clip[known], frame[known]
        inside = (frame > 0) & (frame < self.lengths[clip])
        pairs = np.unique(np.stack([clip[inside], frame[inside]], axis=1), axis=0)
        return pairs[:, 0], pairs[:, 1]

    def at_cuts(self) -> StoreReader:
        """See the runs of frames between cuts as clips, so that no window crosses one.

        The ids of a clip with cuts go on with `+` and the number of the first frame of each.
        """
        clip, frame = self.cuts()
        if not len(clip):
            return self
        view = copy.copy(self)
        view._set_clips(*split_records(self._clips, self._extents, clip, frame))
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
        """Copy frames `first` to `stop` of a clip: shape (stop - first, *item_shape).

        Raises:
            IndexError: not 0 <= first <= stop <= length, or no such clip.
        """
        number = self._checked(clip)
        if not 0 <= first <= stop <= self.lengths[number]:
            raise IndexError(
                f"frames {first} to {stop} of clip {clip}:"
                f" expected 0 <= first <= stop <= {self.lengths[number]}"
            )
        pieces = self._pieces(int(self._clip_frame[number]) + first, stop - first)
        return self._join(pieces, stop - first)

    def _pieces(self, frame: int, count: int) -> Iterator[memoryview]:
        """Rows of so many frames from one on, in the order of all frames, extent by extent."""
        extent = int(np.searchsorted(self._extent_stop, frame, "right"))
        while count:
            here = min(count, int(self._extent_stop[extent]) - frame)
            row = frame + int(self._extent_shift[extent])
            yield self._bytes[self._extent_shard[extent]][
                row * self.spec.row_bytes : (row + here) * self.spec.row_bytes
            ]
            frame, count, extent = frame + here, count - here, extent + 1

    def _join(self, pieces: Iterable[bytes | memoryview], *shape: int) -> Rows:
        """One copy of pieces of rows, as an array (*shape, *item_shape)."""
        data = bytearray().join(pieces)
        return np.ndarray((*shape, *self.spec.item_shape), self.spec.numpy_dtype, data)

    def frames_at(self, indices: npt.ArrayLike) -> Rows:
        """Copy single frames, by their number in the order of all clips' frames.

        `indices` are integers (B,), each in 0 to `num_frames`, in any order, repeats allowed.

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
        values = np.empty((len(frames), *self.spec.item_shape), self.spec.numpy_dtype)
        for shard in np.unique(shards):
            here = shards == shard
            values[here] = self._shards[shard][rows[here]]
        return values

    def _locate(self, frames: Ints) -> tuple[Ints, Ints, Ints]:
        """The extent, the shard and the row there of frames (B,) in the order of all frames."""
        extent = np.searchsorted(self._extent_stop, frames, "right")
        return extent, self._extent_shard[extent], frames + self._extent_shift[extent]

    def windows(
        self, clips: npt.ArrayLike, starts: npt.ArrayLike, *, length: int
    ) -> tuple[Rows, npt.NDArray[np.bool_]]:
        """Copy windows of `length` frames; what lies past the end of a clip is zero.

        `clips` and `starts` are integers (B,), in 0 to `num_clips` and 0 to the clip's length.

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
        # Nearly every window is one slice of a shard.
        size = length * self.spec.row_bytes
        places = zip(shards.tolist(), (rows * self.spec.row_bytes).tolist(), strict=True)
        pieces: list[bytes | memoryview] = [
            self._bytes[shard][begin : begin + size] for shard, begin in places
        ]
        for window in np.flatnonzero(~is_whole):
            real = self._pieces(int(first[window]), min(length, int(num_real[window])))
            pieces[window] = b"".join(real).ljust(size, b"\0")
        return self._join(pieces, len(clip), length), np.arange(length) < num_real[:, None]

    @property
    def columns(self) -> tuple[Column, ...]:
        """What is known of frames beside their rows, in the order of the columns' names."""
        return self._told.columns

    @property
    def is_told(self) -> bool:
        """Whether something may be known of any frame."""
        return bool(self._extent_told.any())

    def count_told(self) -> int:
        """Frames of which something is known; all conditions are read, a piece at a time."""
        frames = (
            np.arange(first, min(first + _COUNTED_AT_ONCE, self.num_frames))
            for first in range(0, self.num_frames if self.is_told else 0, _COUNTED_AT_ONCE)
        )
        return sum(int(np.isfinite(self._known(some)).any(axis=1).sum()) for some in frames)

    def conditions(self, clips: npt.ArrayLike, starts: npt.ArrayLike, *, length: int) -> Values:
        """What is known of the frames of windows, as of `windows`: (B, length, columns) float32.

        A number, or the place of a name among its column's `names`; NaN where it is not known and
        past the end of a clip.
        """
        clip, start = _integers(clips), _integers(starts)
        _check_range("clip", clip, self.num_clips)
        frame = start[:, None] + np.arange(length)
        is_real = (frame >= 0) & (frame < self.lengths[clip][:, None])
        flat = np.where(is_real, self._clip_frame[clip][:, None] + frame, 0).ravel()
        found = self._known(flat, is_real.ravel())
        return found.reshape(len(clip), length, len(self.columns))

    def _known(self, frames: Ints, wanted: npt.NDArray[np.bool_] | bool = True) -> Values:
        """What is known of frames (B,) in the order of all frames; NaN of those not `wanted`."""
        extent, shards, rows = self._locate(frames)
        return self._told.values(shards, np.where(self._extent_told[extent] & wanted, rows, -1))

    # As of now; where the manifest is damaged, these raise StoreError

    def sources(self) -> list[Source]:
        """All sources and their clips."""
        query = "SELECT source, size, mtime_ns, clip_id FROM sources"
        return sorted(Source(*row) for row in self._rows(query))

    def title(self, source: str) -> str:
        """What people call a source: of one that is all of CLIPS the name is empty."""
        is_all = not source or source.startswith("::")
        return Path(str(self.info.get("clips", ""))).name + source if is_all else source

    def labels(self) -> dict[str, str]:
        """What the user calls some of the sources, by name."""
        known: dict[str, str] = {}
        for part in find_parts(self.path).values():
            known |= read_labels(part)
        present = {row[0] for row in self._rows("SELECT source FROM sources")} if known else set()
        return {name: label for name, label in sorted(known.items()) if name in present}

    def quarantined(self) -> list[Quarantined]:
        """All sources that could not be read."""
        query = "SELECT source, size, mtime_ns, reason FROM quarantine"
        return sorted(Quarantined(*row) for row in self._rows(query))

    def salvaged(self) -> list[str]:
        """Names of all damaged sources, whose readable frames alone are here, in order."""
        cut = {row[0] for row in self._rows("SELECT clip_id FROM clips WHERE status = 'salvaged'")}
        pairs = self._rows("SELECT source, clip_id FROM sources") if cut else ()
        return sorted({source for source, clip_id in pairs if clip_id in cut})

    def _rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        return select(find_parts(self.path).values(), query)

    def verify(self) -> list[str]:
        """List what is wrong with the store; see `verify_store`, which says more."""
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
