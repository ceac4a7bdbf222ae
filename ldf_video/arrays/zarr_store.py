"""Zarr stores of version 2 and 3, folders and zip archives, read by zarr: the arrays in them."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import math
import zipfile
import zlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ldf_video.arrays.frame_array import BLOCK_BYTES, NumberArray
from ldf_video.arrays.npy import packed_member
from ldf_video.errors import ReadError, reason_of
from ldf_video.files.archives import ArchivePath, files_below

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from ldf_video.arrays.frame_array import Index
    from ldf_video.files.locations import Location

    Place = Path | ArchivePath

_MANY = 2**16  # chunks
_BLOSC_HEADER = 16  # bytes, of which 12 to 15 say how many there are of the whole chunk
_DAMAGE = (
    *(OSError, ValueError, KeyError, TypeError, RuntimeError, ArithmeticError, MemoryError),
    zipfile.BadZipFile,
    zlib.error,
)


@contextlib.contextmanager
def open_zarr(path: Location) -> Iterator[list[NumberArray]]:
    """Opens the arrays of a store; no object is unpickled.

    Raises:
        ReadError: if it is none, or damaged.
    """
    inner, file = "", path
    if isinstance(path, ArchivePath):
        inner, file = path.member, path.archive
    if not isinstance(file, Path) or not isinstance(path, Path | ArchivePath):
        raise ReadError("a zarr store behind a URL: copy it to a folder to read it")
    if inner and file.suffix.lower() != ".zip":
        raise ReadError("a zarr store in a tar archive: unpack it, or pack it as a zip")
    zarr: Any = importlib.import_module("zarr")
    with contextlib.ExitStack() as stack:
        try:
            store: Any = str(file)
            if not file.is_dir():
                store = zarr.storage.ZipStore(file, mode="r")
                stack.callback(store.close)
            root = zarr.open(store, path=inner or None, mode="r")
            found = [("", root)] if isinstance(root, zarr.Array) else _members(root, zarr)
            arrays = [_array(name, array, path) for name, array in found if array.ndim]
        except _DAMAGE as error:
            raise ReadError(f"a zarr store that cannot be read: {_said(error)}") from error
        yield arrays


def _members(root: Any, zarr: Any) -> list[tuple[str, Any]]:
    members = root.members(max_depth=None)
    return [(name, item) for name, item in members if isinstance(item, zarr.Array)]


def _array(name: str, array: Any, path: Place) -> NumberArray:
    if array.nchunks > _MANY:  # it may claim years, of which nothing is there
        num_files = sum(1 for _ in _below(path, name))
        if num_files < array.nchunks // _MANY:
            raise ValueError(f"{name}: {array.nchunks:,} chunks in {num_files:,} files")

    files = _blosc_files(array, path / name) if path.is_dir() else None

    def read(index: Index) -> NDArray[Any]:
        try:
            for file in files(index) if files is not None else ():
                _check_blosc(file)
            part: NDArray[Any] = array[index]
        except _DAMAGE as error:
            raise ReadError(f"{name or 'the array'}: {_said(error)}") from error
        return part

    def note() -> str:
        missing, num_all = _missing(array, chunks)
        if missing <= 0:
            return ""
        return (
            f"{missing:,} of {num_all:,} chunks are not there: they read as "
            f"{array.fill_value} (of which zarr may leave out whole chunks)"
        )

    # A codec of numcodecs unpickles what it reads; no array of numbers needs it.
    is_pickled = "pickle" in str(array.metadata.to_dict()).lower()
    dtype = np.dtype(object) if is_pickled else array.dtype
    chunks = getattr(array, "shards", None) or array.chunks
    if isinstance(path, Path) and not path.is_dir():
        stored = partial(_members_of_zip, path, name)
    else:
        stored = partial(_files, path, name)
    return NumberArray(tuple(array.shape), dtype, read, tuple(chunks), name, note, stored)


def _missing(array: Any, chunks: Sequence[int]) -> tuple[int, int]:
    """How many of an array's chunks are not there, and of how many; shards count as one each.

    Args:
        array: zarr's.
        chunks: the shape of what lies in one file: a shard, or a chunk where there are none.
    """
    num_all = math.prod(-(-size // chunk) for size, chunk in zip(array.shape, chunks, strict=True))
    # zarr counts as many chunks for each shard, also for those that the array's end cuts.
    in_one = math.prod(shard // chunk for shard, chunk in zip(chunks, array.chunks, strict=True))
    return num_all - array.nchunks_initialized // in_one, num_all


def _blosc_files(array: Any, folder: Place) -> Callable[[Index], Iterator[Place]] | None:
    """What gives the files of a part whose chunks blosc packed; None where they are others."""
    said = array.metadata.to_dict()
    packed_by = (said.get("compressor") or {}).get("id") or said.get("codecs", [{}])[-1].get("name")
    if packed_by != "blosc":
        return None

    def files(index: Index) -> Iterator[Place]:
        spans = [
            range(taken.start // chunk, -(-taken.stop // chunk))
            for taken, chunk in zip(
                (range(*part.indices(size)) for part, size in zip(index, array.shape, strict=True)),
                array.chunks,
                strict=True,
            )
        ]
        for place in itertools.product(*spans):
            yield folder / array.metadata.encode_chunk_key(place)

    return files


def _check_blosc(file: Place) -> None:
    """Sees that a chunk is as long as it says: numcodecs unpacks one that is cut short, too.

    Raises:
        ValueError: if it is not.
    """
    with contextlib.suppress(FileNotFoundError), file.open("rb") as opened:
        head, num_bytes = opened.read(_BLOSC_HEADER), opened.seek(0, 2)
        if len(head) < _BLOSC_HEADER or num_bytes < int.from_bytes(head[12:], "little"):
            raise ValueError(f"the chunk {file.name} is cut short")


def _below(store: Place, name: str) -> Iterable[Place]:
    """All files of an array, in an order that is the same everywhere."""
    if isinstance(store, Path) and not store.is_dir():
        return files_below(ArchivePath(store, name))
    return files_below(store / name)


def _files(store: Place, name: str) -> Iterator[bytes]:
    """The names and bytes of an array's own files: what describes it, and its chunks."""
    start = f"{store.member if isinstance(store, ArchivePath) else store.as_posix()}/"
    for path in _below(store, name):
        own = path.member if isinstance(path, ArchivePath) else path.as_posix()
        yield own.removeprefix(start).encode(errors="surrogateescape")
        try:
            with path.open("rb") as file:
                yield str(file.seek(0, 2)).encode()
                file.seek(0)
                while block := file.read(BLOCK_BYTES):
                    yield block
        except OSError:
            if not isinstance(path, ArchivePath):
                raise
            yield b"damaged"  # reading it says so


def _members_of_zip(store: Path, name: str) -> Iterator[bytes]:
    """The same of an array in a zip archive, packed."""
    with store.open("rb") as file, zipfile.ZipFile(file) as archive:
        for info in sorted(archive.infolist(), key=lambda info: info.filename):
            if info.filename.startswith(f"{name}/" if name else ""):
                yield from packed_member(file, info)


def _said(error: Exception) -> str:
    return (
        f"{type(error).__name__}: {reason_of(error)}"
        if isinstance(error, KeyError)
        else reason_of(error)
    )
