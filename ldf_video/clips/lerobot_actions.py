"""What the tables of a LeRobot data set tell of a film's episodes: a row a frame, in `data`."""

from __future__ import annotations

import contextlib
import importlib
import math
from fnmatch import fnmatchcase
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ldf_video.arrays.actions import ROWS, ActionArray, ActionArrays, AlikeArrays, column_names
from ldf_video.arrays.frame_array import NumberArray
from ldf_video.clips.actions import ACTION, Asked, asked_actions, lead_of
from ldf_video.errors import ReadError, reason_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from ldf_video.arrays.frame_array import Index
    from ldf_video.clips.lerobot import Listed
    from ldf_video.files.locations import Location

_FAULTS = (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError)
_FRAMES = ("video", "image")
_EPISODE = "episode_index"


def episode_frames(episodes: Sequence[Listed]) -> list[range]:
    """Where the frames of episodes are among those of all of them, one after the other."""
    ends = [0, *accumulate(one.episode.stop - one.episode.start for one in episodes)]
    return [range(*pair) for pair in pairwise(ends)]


def actions_of_episodes(
    root: Location,
    info: Mapping[str, Any],
    episodes: Sequence[Listed],
    asked: str,
    stack: contextlib.ExitStack,
) -> ActionArrays | None:
    """Returns what is told of a film's episodes, as of one clip that is cut where they end.

    Reads no row yet.

    Args:
        root: the data set.
        info: what `meta/info.json` says.
        episodes: of the film.
        asked: columns, see `asked_actions`; "" for the action, if there is one.
        stack: that closes the tables.

    Raises:
        ReadError: the data set has no such columns, or does not say where their rows are.
    """
    try:
        features = {name: dict(feature) for name, feature in dict(info["features"]).items()}
        parts = []
        for one in asked_actions(asked) if asked else [Asked(ACTION)]:
            names = [name for name in features if fnmatchcase(name, one.place)]
            if asked and not names:
                listed = [k for k, v in features.items() if v.get("dtype") not in _FRAMES]
                there = ", ".join(listed) or "no such column"
                raise ReadError(f"nothing at --actions {one.place}; it holds {there}")
            for name in names:
                rows = _Rows(name, features[name], root, episodes)
                stack.callback(rows.close)
                parts.append(_part(rows.array(), features[name], lead_of(name, "", one.lead)))
    except _FAULTS as error:
        raise ReadError(f"meta/info.json says nothing of them: {reason_of(error)}") from error
    if not parts:
        return None
    shape = (episode_frames(episodes)[-1].stop,)
    return ActionArrays(parts, axes="T", shape=shape, is_cut=True)


def _part(array: NumberArray, feature: Mapping[str, Any], lead: int) -> ActionArray:
    names = column_names(array, array.name.rpartition(".")[2], leading=1)
    own = tuple(_flat(feature.get("names")))
    if len(names) > 1 and len(own) == len(set(own)) == len(names):
        names = own
    alike = AlikeArrays()
    alike.add(array)
    return ActionArray(array, lead, names, alike)


def _flat(names: Any) -> Iterator[str]:
    """The names of a feature, of which there may be lists by kind, such as {"motors": [...]}."""
    if isinstance(names, str):
        yield names
    for one in names.values() if isinstance(names, dict) else names or ():
        yield from [one] if isinstance(one, str) else _flat(one)


class _Rows:
    """One column of all episodes of a film, read on in its tables from where it was read last."""

    def __init__(
        self, name: str, feature: Mapping[str, Any], root: Location, episodes: Sequence[Listed]
    ) -> None:
        """Takes the feature that `meta/info.json` has of that name; reads nothing yet."""
        if any(one.table is None for one in episodes):
            raise ReadError(f"{name}: meta/episodes does not say where its rows are")
        self._name, self._root, self._episodes = name, root, episodes
        try:
            self._dtype = np.dtype(feature["dtype"])
        except TypeError:
            raise ReadError(f"{name} holds {feature['dtype']}: expected numbers") from None
        self._width = math.prod(feature.get("shape") or [1])
        self._frames = episode_frames(episodes)  # of each among those of all
        self._file = contextlib.ExitStack()
        self._table: tuple[int, int] | None = None  # that is open
        self._batches: Iterator[Any] = iter(())
        self._batch: Any = None
        self._begin = 0  # its first row

    def array(self) -> NumberArray:
        """All of it, (frames, numbers)."""
        shape = (self._frames[-1].stop, self._width)
        return NumberArray(shape, self._dtype, self.read, name=self._name, stored=self.stored)

    def close(self) -> None:
        self._file.close()
        self._table, self._batch = None, None

    def read(self, index: Index) -> NDArray[Any]:
        """Rows of all episodes, one after the other; see `NumberArray`."""
        first, stop, _ = index[0].indices(self._frames[-1].stop)
        parts = [np.empty((0, self._width), self._dtype)]
        for one, frames in zip(self._episodes, self._frames, strict=True):
            begin, end = max(first, frames.start), min(stop, frames.stop)
            if begin < end:
                try:
                    parts += self._of_episode(one, begin - frames.start, end - frames.start)
                except _FAULTS as error:
                    reason = reason_of(error)
                    raise ReadError(f"{self._name} of episode {one.number}: {reason}") from error
        return np.concatenate(parts)

    def stored(self) -> Iterator[bytes]:
        """All rows; what is damaged says so when it is read."""
        for first in range(0, self._frames[-1].stop, ROWS):
            try:
                yield self.read((slice(first, first + ROWS),)).tobytes()
            except ReadError:
                yield b"damaged"

    def _of_episode(self, one: Listed, first: int, stop: int) -> Iterator[NDArray[Any]]:
        row, end = one.first_row + first, one.first_row + stop
        while row < end:
            self._seek(one, row)
            part = self._batch.slice(row - self._begin, end - row)
            if set(part.column(_EPISODE).to_pylist()) != {one.number}:
                raise ValueError("its table has rows of another one there")
            row += len(part)
            listed = part.column(self._name).to_pylist()
            nothing = [None] * self._width
            rows = [nothing if v is None else v if isinstance(v, list) else [v] for v in listed]
            if any(len(v) != self._width for v in rows):
                raise ValueError(f"expected {self._width} numbers in each row")
            yield np.array(rows, self._dtype)

    def _seek(self, one: Listed, row: int) -> None:
        """Have the batch that holds a row of an episode's table."""
        if self._table != one.table or self._batch is None or row < self._begin:
            self._open(one, row)
        while row >= self._begin + len(self._batch):
            self._begin += len(self._batch)
            self._batch = next(self._batches, None)
            if self._batch is None:
                raise ValueError(f"its table ends before row {row:,}")

    def _open(self, one: Listed, row: int) -> None:
        parquet: Any = importlib.import_module("pyarrow.parquet")
        self.close()
        assert one.table is not None
        chunk, number = one.table
        path = self._root / "data" / f"chunk-{chunk:03}" / f"file-{number:03}.parquet"
        reader = parquet.ParquetFile(self._file.enter_context(path.open("rb")))
        groups = [reader.metadata.row_group(k).num_rows for k in range(reader.num_row_groups)]
        self._begin, skipped = 0, 0
        while skipped < len(groups) and row >= self._begin + groups[skipped]:
            self._begin += groups[skipped]
            skipped += 1
        self._batches = reader.iter_batches(
            ROWS, row_groups=list(range(skipped, len(groups))), columns=[_EPISODE, self._name]
        )
        self._table, self._batch = one.table, next(self._batches, None)
        if self._batch is None:
            raise ValueError(f"its table ends before row {row:,}")
