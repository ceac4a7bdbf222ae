"""HDF5 files, read by h5py: the arrays in them."""

from __future__ import annotations

import contextlib
import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ldf_video.errors import ReadError
from ldf_video.video.arrays import NumberArray
from ldf_video.video.files import reason_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ldf_video.video.arrays import Index
    from ldf_video.video.files import Location

MAGIC = b"\x89HDF\r\n\x1a\n"
_CACHE_BYTES = 2**20  # of chunks, which are read whole and once
_CUT_SHORT = re.compile(r"truncated file: eof = (\d+), .*stored_eof = (\d+)")


@contextlib.contextmanager
def open_hdf5(path: Location) -> Iterator[list[NumberArray]]:
    """Opens the arrays of an HDF5 file; links out of it are not followed.

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
            arrays = list[NumberArray]()

            def visit(name: str, item: Any) -> None:
                if isinstance(item, h5py.Dataset) and item.shape:
                    arrays.append(_array(name, item))

            file.visititems(visit)
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            raise ReadError(_reason(error)) from error
        yield arrays


def _array(name: str, item: Any) -> NumberArray:
    # MATLAB, whose files since version 7.3 are HDF5, writes its axes from the last to the first.
    step = -1 if "MATLAB_class" in item.attrs else 1

    def read(index: Index) -> NDArray[Any]:
        try:
            part: NDArray[Any] = item[index[::step]]
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            raise ReadError(f"{name}: {_reason(error)}") from error
        return part.T if step < 0 else part

    chunks = item.chunks and item.chunks[::step]
    return NumberArray(item.shape[::step], item.dtype, read, chunks, name)


def _reason(error: Exception) -> str:
    said = reason_of(error)
    if cut := _CUT_SHORT.search(said):
        return f"an HDF5 file that is cut short: {int(cut[1]):,} of {int(cut[2]):,} bytes"
    return f"an HDF5 file that cannot be read: {said}"
