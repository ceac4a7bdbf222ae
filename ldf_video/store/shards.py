"""The rows: `data-00000.npy` and on, each a valid npy file whose header counts its rows.

Conditions lie in files of the same kind, `conditions-00000.npy`, see `conditions`.
"""

from __future__ import annotations

import io
import os
import re
import zlib
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ldf_video.errors import StoreError
from ldf_video.output import sync
from ldf_video.store.format import sync_directory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

Rows = npt.NDArray[Any]

HEADER_BYTES = 128
"""Before the first row: room for any count, so that a header is rewritten in place."""

_BUFFER_BYTES = 1 << 20
_BLOCK_BYTES = 4 << 20

REPAIR = "run the same encode again to repair it, or --verify to see what is lost"


class RowSpec(Protocol):
    """What the rows of a file are: of a store's `StoreSpec`, or of its conditions."""

    @property
    def stem(self) -> str:
        """With which the names of its files begin."""

    @property
    def item_shape(self) -> tuple[int, ...]: ...

    @property
    def numpy_dtype(self) -> np.dtype[Any]: ...

    @property
    def row_bytes(self) -> int: ...


class Position(NamedTuple):
    """Where the next row goes: a shard's number and the row in it."""

    shard: int
    row: int


class Run(NamedTuple):
    """Rows `start` to `start + num_frames` of a shard, with the CRC-32 of their bytes."""

    shard: int
    start: int
    num_frames: int
    crc32: int


class ShardFile(NamedTuple):
    """What a shard's file holds."""

    num_rows: int  # whole rows that it has room for, whatever its header counts
    header_rows: int  # rows that its header counts; -1 where it is no header of these rows


def shard_path(root: Path, shard: int, *, stem: str = "data") -> Path:
    """The file of a shard of a part."""
    return root / f"{stem}-{shard:05d}.npy"


def header(spec: RowSpec, num_rows: int) -> bytes:
    """An npy header (format 1.0) of fixed size for an array of `num_rows` rows."""
    shape = (num_rows, *spec.item_shape)
    fields = {"descr": spec.numpy_dtype.str, "fortran_order": False, "shape": shape}
    if len(str(fields)) > HEADER_BYTES - 11:
        raise ValueError(f"item_shape {spec.item_shape}: too long for a header")
    text = str(fields).encode("ascii").ljust(HEADER_BYTES - 11) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def inspect_shard(root: Path, spec: RowSpec, *, shard: int) -> ShardFile | None:
    """Find out what a shard's file holds; None where there is none, not even a link to it."""
    path = shard_path(root, shard, stem=spec.stem)
    try:
        with path.open("rb") as file:
            start = file.read(HEADER_BYTES)
            num_bytes = os.fstat(file.fileno()).st_size
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not path.is_symlink():
            return None
        raise StoreError(
            f"{path} cannot be read ({error.strerror}): check the disk and the path"
        ) from error
    match = re.search(rb"'shape': \((\d{1,18}),", start)
    header_rows = int(match[1]) if match and start == header(spec, int(match[1])) else -1
    return ShardFile(max(0, num_bytes - HEADER_BYTES) // spec.row_bytes, header_rows)


def map_rows(root: Path, spec: RowSpec, *, shard: int, num_rows: int) -> Rows:
    """Map the first rows of a shard, (num_rows, *item_shape), whatever number its header counts."""
    path = shard_path(root, shard, stem=spec.stem)
    found = inspect_shard(root, spec, shard=shard)
    if found is None:
        raise StoreError(f"{path} is missing: the store is damaged, {REPAIR}")
    if found.header_rows < 0:
        raise StoreError(
            f"{path} is damaged: expected rows {spec.item_shape} of {spec.numpy_dtype}, {REPAIR}"
        )
    if found.num_rows < num_rows:
        raise StoreError(
            f"{root} is damaged: its manifest points at row {num_rows - 1}"
            f" of shard {shard}, which holds {found.num_rows}; {REPAIR}"
        )
    shape = (num_rows, *spec.item_shape)
    # A plain view: indexing the memmap subclass itself costs microseconds a call.
    return np.asarray(np.memmap(path, spec.numpy_dtype, "r", offset=HEADER_BYTES, shape=shape))


def cut_rows(root: Path, spec: RowSpec, *, shard: int, num_rows: int) -> None:
    """Keep the first rows of a shard and make its header count them."""
    with shard_path(root, shard, stem=spec.stem).open("r+b") as file:
        file.write(header(spec, num_rows))
        file.truncate(HEADER_BYTES + num_rows * spec.row_bytes)
        file.flush()
        sync(file.fileno())


def cut_after(root: Path, spec: RowSpec, *, position: Position) -> None:
    """Cut the rows at and after a position, which its shard reaches, and the shards that follow."""
    for path in sorted(root.glob(f"{spec.stem}-*.npy")):
        match = re.fullmatch(spec.stem + r"-(\d{5,})\.npy", path.name)
        if match and int(match[1]) > position.shard:
            path.unlink()
    if position.row:
        cut_rows(root, spec, shard=position.shard, num_rows=position.row)
    else:
        shard_path(root, position.shard, stem=spec.stem).unlink(missing_ok=True)


def find_damage(
    path: Path, spec: RowSpec, extents: npt.NDArray[np.void], *, num_rows: int
) -> Iterator[tuple[Any, str]]:
    """Read all rows of one shard's extents, in order, and find what is wrong with which.

    By ordinary reads: a file that is cut short meanwhile, or a bad sector, would be a bus error
    through a map.
    """
    row_bytes, end = spec.row_bytes, 0
    with ExitStack() as stack:
        if num_rows:
            file = stack.enter_context(path.open("rb", buffering=_BUFFER_BYTES))
        for extent in extents:
            start, stop = int(extent["start"]), int(extent["start"] + extent["num_frames"])
            if stop > num_rows:
                problem = f"the shard holds {num_rows} rows"
            else:
                problem = _check_bytes(
                    file,
                    HEADER_BYTES + start * row_bytes,
                    (stop - start) * row_bytes,
                    crc32=int(extent["crc32"]),
                )
            if not problem and start < end:
                problem = f"overlaps the one before, which ends at row {end}"
            if problem:
                yield extent, problem
            else:  # what is wrong itself makes nothing else wrong
                end = stop


def _check_bytes(file: BinaryIO, offset: int, num_bytes: int, *, crc32: int) -> str:
    """Say what is wrong with bytes of a file; "" if they have this checksum."""
    found = 0
    try:
        file.seek(offset)
        while num_bytes:
            block = file.read(min(num_bytes, _BLOCK_BYTES))
            if not block:
                return "the shard was cut while it was read"
            found = zlib.crc32(block, found)
            num_bytes -= len(block)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return "" if found == crc32 else "its checksum is wrong"


class ShardWriter:
    """Appends rows after a position, a new shard wherever one is full.

    Rows count only once the manifest points at them; `sync` makes them safe on disk before that.
    """

    def __init__(self, root: Path, spec: RowSpec, *, position: Position, shard_bytes: int) -> None:
        self._root, self._spec, self._position = root, spec, position
        self._rows_per_shard = max(1, shard_bytes // spec.row_bytes)
        self._file: BinaryIO | None = None

    def append(self, blocks: Iterable[Rows]) -> list[Run]:
        """Write one clip's blocks, each (n, *item_shape) and contiguous: a run for each shard."""
        runs: list[Run] = []
        for block in blocks:
            first = 0
            while first < len(block):
                if self._position.row >= self._rows_per_shard:
                    self.sync()
                    self._position = Position(self._position.shard + 1, 0)
                piece = block[first : first + self._rows_per_shard - self._position.row]
                self._write(piece, runs)
                first += len(piece)
        return runs

    def _write(self, piece: Rows, runs: list[Run]) -> None:
        if self._file is None:
            self._file = self._open()
        data = piece.reshape(-1).view(np.uint8).data
        self._file.write(data)
        shard, row = self._position
        self._position = Position(shard, row + len(piece))
        # within one call a shard's rows are contiguous
        last = runs.pop() if runs and runs[-1].shard == shard else Run(shard, row, 0, 0)
        num_frames = last.num_frames + len(piece)
        runs.append(Run(shard, last.start, num_frames, zlib.crc32(data, last.crc32)))

    def _open(self) -> BinaryIO:
        path = shard_path(self._root, self._position.shard)
        file = path.open("r+b" if self._position.row else "wb", buffering=_BUFFER_BYTES)
        self._file = file  # from now on `close` closes it, whatever fails
        if not self._position.row:
            file.write(header(self._spec, 0))
            file.flush()
            sync_directory(self._root)
        file.seek(0, io.SEEK_END)
        return file

    def sync(self) -> None:
        """Write what is buffered, make the header count it, and wait until it is on disk."""
        if self._file is None:
            return
        self._file.seek(0)
        self._file.write(header(self._spec, self._position.row))
        self._file.flush()
        sync(self._file.fileno())
        self.close()

    def close(self) -> None:
        """Close the file; what it still buffers is not wanted, so it may fail to be written."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                file.close()
