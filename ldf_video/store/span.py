"""All mapped shards as one array of bytes, out of which any blocks of rows are copied at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ldf_video.store.shards import Rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ldf_video.store.columns import Ints
    from ldf_video.store.format import StoreSpec


class Span:
    """The memory from the first map to the last.

    Between the maps lies memory that is not theirs, or none: copy only what lies inside a map. The
    span does not keep the maps open.

    Attributes:
        offsets: of each map's first row, in bytes, int64.
    """

    def __init__(self, shards: Sequence[Rows], spec: StoreSpec) -> None:
        starts = np.array([rows.ctypes.data for rows in shards], np.int64)
        stop = max((rows.ctypes.data + rows.nbytes for rows in shards), default=0)
        start = int(starts.min()) if shards else 0
        self.offsets: Ints = starts - start
        self._bytes = np.asarray(_Addresses(start, stop)) if shards else np.empty(0, np.uint8)
        self._item_shape, self._dtype = spec.item_shape, spec.numpy_dtype
        self._row_bytes = spec.row_bytes
        self._blocks: dict[int, npt.NDArray[np.void]] = {}

    def copy(self, offsets: Ints, length: int) -> Rows:
        """Copy `length` rows from each offset on.

        Args:
            offsets: in bytes, (B,), not checked to lie inside a map.
            length: rows of each.

        Returns:
            Shape (B, length, *item_shape).
        """
        blocks = self._blocks.get(length)
        if blocks is None:
            blocks = self._blocks[length] = self._as_blocks(length * self._row_bytes)
        values: Rows = blocks[offsets]  # one fancy index
        return values.view(self._dtype).reshape((len(offsets), length, *self._item_shape))

    def _as_blocks(self, num_bytes: int) -> npt.NDArray[np.void]:
        """See the span as blocks of so many bytes.

        They overlap, one starts at every byte: each copy is one memcpy, several times faster than
        row by row, and no shard needs a pass of its own.
        """
        count = (max(0, len(self._bytes) - num_bytes + 1),)
        block = np.dtype((np.void, num_bytes))
        return np.ndarray(count, block, buffer=self._bytes.data, strides=(1,))


class _Addresses:
    """A range of this process's memory, for numpy to look at."""

    def __init__(self, start: int, stop: int) -> None:
        self.__array_interface__ = {
            "version": 3,
            "typestr": "|u1",
            "shape": (stop - start,),
            "data": (start, True),  # read-only
        }
