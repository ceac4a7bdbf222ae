"""HDF5 files, read by h5py: the arrays in them."""

from __future__ import annotations

import contextlib
import importlib
import math
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ldf_video.arrays.frame_array import BLOCK_BYTES, NumberArray
from ldf_video.errors import ReadError, reason_of
from ldf_video.files.remote import is_remote_failure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ldf_video.arrays.frame_array import Index
    from ldf_video.files.locations import Location

MAGIC = b"\x89HDF\r\n\x1a\n"
_CACHE_BYTES = 2**20  # of chunks, which are read whole and once
_LARGE_BYTES = 2**26
_MANY = 2**16  # chunks
_DAMAGE = (OSError, RuntimeError, KeyError, ValueError)
_CUT_SHORT = re.compile(r"truncated file: eof = (\d+), .*stored_eof = (\d+)")


@contextlib.contextmanager
def open_hdf5(path: Location) -> Iterator[list[NumberArray]]:
    """Opens the arrays of an HDF5 file; links out of it are not followed, nor raw files beside it.

    Raises:
        ReadError: if it is none, or damaged.
    """
    h5py: Any = importlib.import_module("h5py")
    with contextlib.ExitStack() as stack:
        try:
            # No lock: another process may write to another file beside it, and networks have none.
            name = str(path) if isinstance(path, Path) else stack.enter_context(path.open("rb"))
            file = stack.enter_context(
                h5py.File(name, "r", locking=False, rdcc_nbytes=_CACHE_BYTES)
            )
            names = list[str]()

            def visit(name: str, item: Any) -> None:
                if isinstance(item, h5py.Dataset) and item.shape and not item.external:
                    names.append(name)

            file.visititems(visit)
            arrays = [_array(name, _opened(h5py, file, name)) for name in names]
        except _DAMAGE as error:
            raise ReadError(_reason(error)) from error
        yield arrays


def _opened(h5py: Any, file: Any, name: str) -> Any:
    """An array of a file, of which one chunk is kept if it is a large one.

    To take such a chunk out whole would need its memory twice.
    """
    item = file[name]
    if not _is_large(item):
        return item
    num_bytes = math.prod(item.chunks) * item.dtype.itemsize
    del item  # one that is open decides how much is kept
    how = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
    how.set_chunk_cache(1, num_bytes, 1.0)
    return h5py.Dataset(h5py.h5d.open(file.id, name.encode(), how))


def _is_large(item: Any) -> bool:
    """Whether an array is packed in large chunks, each of which lies in one piece of it."""
    if item.chunks is None or item.chunks[1:] != item.shape[1:]:
        return False
    return bool(math.prod(item.chunks) * item.dtype.itemsize > _LARGE_BYTES)


def _array(name: str, item: Any) -> NumberArray:
    # MATLAB, whose files since version 7.3 are HDF5, writes its axes from the last to the first.
    step = -1 if "MATLAB_class" in item.attrs else 1

    missing, is_large = _Missing(item), _is_large(item)

    def read(index: Index) -> NDArray[Any]:
        try:
            if missing.is_all:
                raise ReadError(f"{name}: {missing}")
            part: NDArray[Any] = item[index[::step]]
        except _DAMAGE as error:
            if is_large:  # a MemoryError, where it is that which HDF5 calls damage
                np.empty(math.prod(item.chunks) * item.dtype.itemsize, np.uint8)
            raise ReadError(f"{name}: {_reason(error)}") from error
        return part.T if step < 0 else part

    chunks = item.chunks and item.chunks[::step]
    if is_large:
        chunks = None  # it is kept, and may be taken out by parts
    stored = partial(_stored, name, item, missing)
    return NumberArray(item.shape[::step], item.dtype, read, chunks, name, missing.__str__, stored)


class _Missing:
    """What of an array was never written, or lies in files that are not there.

    Attributes:
        is_all: whether hardly anything is there: of what claims to be as long as years, nothing.
    """

    def __init__(self, item: Any) -> None:
        self._fill, self.is_all = item.fillvalue, False
        self._what, self._num, self._num_all = "", 0, 0
        if item.is_virtual:
            folder = Path(item.file.filename).parent
            names = {source.file_name for source in item.virtual_sources()} - {"."}
            self._what, self._num_all = "files that it is made of are not there", len(names)
            self._num = sum(not (folder / name).exists() for name in names)
        elif item.chunks is not None:
            sizes = zip(item.shape, item.chunks, strict=True)
            self._what = "chunks were never written"
            self._num_all = math.prod(-(-size // chunk) for size, chunk in sizes)
            there = item.id.get_num_chunks()
            self._num = max(self._num_all - there, 0)
            self.is_all = self._num_all > _MANY and there < self._num_all // _MANY
        elif item.id.get_storage_size() == 0:
            self._what, self._num, self._num_all = "parts were never written", 1, 1

    def __str__(self) -> str:
        """It in words; "" if nothing is missing."""
        if not self._num:
            return ""
        counts = f"{self._num:,} of {self._num_all:,} {self._what}"
        return counts if self.is_all else f"{counts}: they read as {self._fill}"


def _stored(name: str, item: Any, missing: _Missing) -> Iterator[bytes]:
    """The chunks of an array as they are packed, or its numbers, where they are in no chunks."""
    plist = item.id.get_create_plist()
    filters = [plist.get_filter(k) for k in range(plist.get_nfilters())]
    yield repr((filters, item.fillvalue, item.shape)).encode()
    if missing.is_all:
        return  # reading it says so
    chunked = item.chunks is not None and not item.is_virtual
    for place in item.iter_chunks() if chunked else _blocks(item.shape, item.dtype.itemsize):
        try:
            if not chunked:
                yield item[place].tobytes()
                continue
            corner = tuple(taken.start for taken in place)
            # None where a chunk is not there: it reads as the fill value.
            if item.id.get_chunk_info_by_coord(corner).byte_offset is not None:
                mask, packed = item.id.read_direct_chunk(corner)
                yield repr((corner, mask)).encode()
                yield bytes(packed)
        except _DAMAGE as error:
            if is_remote_failure(error):
                raise ReadError(f"{name}: {_reason(error)}") from error
            yield b"damaged"  # reading it says so, and gives what comes before


def _blocks(shape: tuple[int, ...], item_bytes: int) -> Iterator[Index]:
    """Cuts an array into blocks of `BLOCK_BYTES` or less, in order."""
    axis, inner_bytes = len(shape), item_bytes  # of one place on the axis before it
    while axis and inner_bytes * shape[axis - 1] <= BLOCK_BYTES:
        axis -= 1
        inner_bytes *= shape[axis]
    if not axis:
        yield tuple(slice(0, size) for size in shape)
        return
    step, rest = max(1, BLOCK_BYTES // inner_bytes), (slice(None),) * (len(shape) - axis)
    for outer in np.ndindex(shape[: axis - 1]):
        before = tuple(slice(place, place + 1) for place in outer)
        for start in range(0, shape[axis - 1], step):
            yield (*before, slice(start, start + step), *rest)


def _reason(error: Exception) -> str:
    said = reason_of(error)
    if cut := _CUT_SHORT.search(said):
        return f"an HDF5 file that is cut short: {int(cut[1]):,} of {int(cut[2]):,} bytes"
    return f"an HDF5 file that cannot be read: {said}"
