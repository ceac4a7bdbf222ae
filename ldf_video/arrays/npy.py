"""NumPy's own files: `.npy`, of this machine or behind a URL, and the members of `.npz`."""

from __future__ import annotations

import contextlib
import math
import shutil
import struct
import tempfile
import zipfile
import zlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple

import numpy as np

from ldf_video.arrays.axes import is_frame
from ldf_video.arrays.frame_array import BLOCK_BYTES, NumberArray
from ldf_video.arrays.values import NotNumbersError, check_dtype
from ldf_video.errors import ReadError, reason_of
from ldf_video.files.archives import begin_of, fault_of
from ldf_video.files.not_clips import FOREIGN_BYTES, describe_foreign

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from ldf_video.arrays.frame_array import Index
    from ldf_video.files.locations import Location

ARRAY_SUFFIX, MEMBERS_SUFFIX = ".npy", ".npz"
MAGIC = b"\x93NUMPY"
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_DAMAGE = (
    *(ValueError, EOFError, zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError),
    *(TokenError, RecursionError),  # of headers, which numpy parses as Python
)


@contextlib.contextmanager
def open_npy(path: Location) -> Iterator[NumberArray]:
    """Opens a .npy array without loading it.

    Raises:
        ReadError: if it is none, or an array of anything but numbers.
    """
    with contextlib.ExitStack() as stack:
        with _errors("not a .npy array"):
            file = stack.enter_context(path.open("rb"))
            head = file.read(FOREIGN_BYTES)
            if not head.startswith(MAGIC) and (what := describe_foreign(head)):
                raise ReadError(what)
            file.seek(0)
            array = _array(file, path if isinstance(path, Path) else None, stack)
        yield array


@contextlib.contextmanager
def open_npz(path: Location) -> Iterator[list[NumberArray]]:
    """Opens the arrays of an .npz archive without loading one; those of objects stay closed.

    A member that is stored as it is, as `numpy.savez` does, is mapped; a deflated one is inflated
    as its frames are read, and first into a temporary file where its frames do not lie one behind
    another.

    Raises:
        ReadError: if it is no such archive.
    """
    with contextlib.ExitStack() as stack:
        with _errors("not a .npz archive"):
            file = stack.enter_context(path.open("rb"))
            archive = stack.enter_context(zipfile.ZipFile(file))
            found = []
            for info in archive.infolist():
                if not info.filename.endswith(ARRAY_SUFFIX) or info.flag_bits & 1:  # encrypted
                    continue
                mapped, begin = None, 0
                if info.compress_type == zipfile.ZIP_STORED and isinstance(path, Path):
                    mapped, begin = path, begin_of(file, info.header_offset)
                member = stack.enter_context(archive.open(info))
                name = info.filename.removesuffix(ARRAY_SUFFIX)
                array = _array(member, mapped, stack, name=name, begin=begin, size=info.file_size)
                if mapped is not None:
                    array = _checked(array, info, file)
                found.append(replace(array, stored=partial(packed_member, file, info)))
        yield found


def packed_member(file: BinaryIO, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """Yields what identifies a member of a zip archive: name, way of packing, and packed bytes."""
    yield repr((info.filename, info.compress_type, info.compress_size)).encode()
    begin, num_left = begin_of(file, info.header_offset), info.compress_size
    while num_left:
        file.seek(begin)
        block = file.read(min(num_left, BLOCK_BYTES))
        if not block:
            return  # reading the member says so
        begin, num_left = begin + len(block), num_left - len(block)
        yield block


def is_frame_file(path: Location) -> bool:
    """Returns whether a .npy file holds one frame: in colours, or of bytes or truth values."""
    with contextlib.suppress(ReadError), open_npy(path) as array:
        is_grey = len(array.shape) == 2 and array.dtype in (np.uint8, np.bool_)
        return is_frame(array.shape) and (is_grey or len(array.shape) == 3)
    return False


@contextlib.contextmanager
def open_frames(paths: Sequence[Location]) -> Iterator[NumberArray]:
    """Opens .npy files of a frame each as one array, each file when it is read.

    Raises:
        ReadError: if the first is none.
    """
    with open_npy(paths[0]) as first:
        shape, dtype = first.shape, first.dtype

    def read(index: Index) -> NDArray[Any]:
        frames = []
        for path in paths[index[0]]:
            try:
                with open_npy(path) as array:
                    if (array.shape, array.dtype) != (shape, dtype):
                        raise ReadError(f"{array.dtype} {array.shape}, not {dtype} {shape}")
                    frames.append(array.read((slice(None),) * len(shape)))
            except ReadError as error:
                raise ReadError(f"{path.name}: {error}") from error
        return np.stack(frames)

    yield NumberArray((len(paths), *shape), dtype, read)


def _refuse(index: Index) -> NDArray[Any]:
    raise NotNumbersError("an array of Python objects, which only a program could open")


class _Header(NamedTuple):
    """What NumPy writes before an array."""

    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype[Any]


def _array(
    file: Any,
    mapped: Path | None,
    stack: contextlib.ExitStack,
    *,
    name: str = "",
    begin: int = 0,
    size: int | None = None,
) -> NumberArray:
    """An array in a file of a `size`; in one that can be mapped it lies from `begin` on."""
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ReadError(f"a .npy file of version {version}; versions 1 and 2 are read")
    header = _Header(*_HEADERS[version](file))
    if size is None:
        check_dtype(header.dtype)
    if min(header.shape, default=0) < 0:
        raise ReadError(f"not a .npy array: its header says a shape of {header.shape}")
    if header.dtype.hasobject:
        return NumberArray(header.shape, header.dtype, _refuse, name=name)
    offset = file.tell()
    num_bytes = math.prod(header.shape) * header.dtype.itemsize
    there = (file.seek(0, 2) if size is None else size) - offset
    if there < num_bytes:
        raise ReadError(f"not a .npy array: {there:,} bytes, its header says {num_bytes:,}")
    if mapped is None:
        frames = _Frames(file, offset, header)
        stack.callback(frames.close)
        return NumberArray(header.shape, header.dtype, frames.read, name=name)
    return _mapped(mapped, begin + offset, header, name)


def _mapped(file: Any, offset: int, header: _Header, name: str = "") -> NumberArray:
    """An array of which a part is in memory when it is read, by path or by open file."""
    shape, is_fortran, dtype = header
    array: Any = np.empty(shape, dtype)[:0] if 0 in shape else None
    if array is None:
        order: Literal["F", "C"] = "F" if is_fortran else "C"
        array = np.memmap(file, dtype, "r", offset, shape, order)
    return NumberArray(shape, dtype, lambda index: np.array(array[index]), name=name)


def _checked(array: NumberArray, info: zipfile.ZipInfo, file: BinaryIO) -> NumberArray:
    """A mapped member whose checksum is looked at as its numbers are read from first to last.

    zipfile does so for those that are unpacked. Where numbers do not lie in the order in which they
    are read, or only some of them are, nothing is known.
    """
    num_numbers = math.prod(array.shape)
    num_header = info.file_size - num_numbers * array.dtype.itemsize
    file.seek(begin_of(file, info.header_offset))
    crc, read_to = zlib.crc32(file.read(num_header)), 0

    def read(index: Index) -> NDArray[Any]:
        nonlocal crc, read_to
        part = array.read(index)
        run = _run_of(index, array.shape)
        if run is not None and run[0] == read_to < run[1] and part.flags.c_contiguous:
            so_far = zlib.crc32(part.data, crc)
            if run[1] == num_numbers and so_far != info.CRC:
                raise ReadError(f"cannot be read: Bad CRC-32 for file {info.filename!r}")
            crc, read_to = so_far, run[1]
        return part

    return replace(array, read=read)


class _Frames:
    """An array in a file that is read from its beginning on, and may go back at a price."""

    def __init__(self, file: BinaryIO, begin: int, header: _Header) -> None:
        self._file, self._begin, self._header = file, begin, header
        self._shape, self._dtype = header.shape, header.dtype
        self._whole: Any = None  # the file that it was unpacked to
        self._unpacked: NumberArray | None = None

    def read(self, index: Index) -> NDArray[Any]:
        with _errors("cannot be read"):
            run = None if self._header.is_fortran else _run_of(index, self._shape)
            if run is None:
                return self._unpack().read(index)
            self._file.seek(self._begin + run[0] * self._dtype.itemsize)
            data = self._file.read((run[1] - run[0]) * self._dtype.itemsize)
            part = [
                len(range(*taken.indices(size)))
                for taken, size in zip(index, self._shape, strict=True)
            ]
            return np.frombuffer(data, self._dtype).reshape(part)

    def close(self) -> None:
        """Removes what was unpacked."""
        if self._whole is not None:
            self._whole.close()

    def _unpack(self) -> NumberArray:
        if self._unpacked is None:
            self._whole = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the archive
            self._file.seek(self._begin)
            shutil.copyfileobj(self._file, self._whole, 2**20)
            self._unpacked = _mapped(self._whole, 0, self._header)
        return self._unpacked


def _run_of(index: Index, shape: tuple[int, ...]) -> tuple[int, int] | None:
    """From which to which number a part reaches that lies in one piece; None if it does not."""
    spans = [taken.indices(size)[:2] for taken, size in zip(index, shape, strict=True)]
    start, count, is_cut = 0, 1, False
    for axis, (first, stop) in enumerate(spans):
        if is_cut and (first, stop) != (0, shape[axis]):
            return None
        is_cut = is_cut or stop - first != 1
        start, count = start + first * math.prod(shape[axis + 1 :]), count * (stop - first)
    return start, start + count


@contextlib.contextmanager
def _errors(said: str) -> Iterator[None]:
    """Turns what NumPy and zipfile raise of damaged files into a ReadError."""
    try:
        yield
    except OSError as error:
        raise ReadError(f"cannot be read: {reason_of(error)}") from error
    except _DAMAGE as error:
        raise ReadError(f"{said}: {fault_of(error)}") from error
