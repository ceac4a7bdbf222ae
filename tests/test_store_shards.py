"""The npy files: always valid, cut and split exactly."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from store_data import FRAMES, SPEC, make_rows

from ldf_video.errors import StoreError
from ldf_video.store.format import StoreSpec
from ldf_video.store.shards import (
    Position,
    Run,
    ShardWriter,
    count_rows,
    cut_after,
    header,
    header_size,
    map_rows,
    shard_path,
)

if TYPE_CHECKING:
    from pathlib import Path


def open_shards(root: Path, *, rows_per_shard: int = 100) -> ShardWriter:
    shard_bytes = rows_per_shard * SPEC.row_bytes
    return ShardWriter(root, SPEC, position=Position(0, 0), shard_bytes=shard_bytes)


@pytest.mark.parametrize("spec", [SPEC, FRAMES, StoreSpec("latents", (), "float16", {})])
@pytest.mark.parametrize("num_rows", [0, 7, 10**17])
def test_header_is_numpys_own_format_at_a_fixed_size(spec, num_rows, tmp_path) -> None:
    text = header(spec, num_rows)
    assert len(text) == header_size(spec) == 128
    path = tmp_path / "x.npy"
    path.write_bytes(text)
    with path.open("rb") as file:
        assert np.lib.format.read_magic(file) == (1, 0)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    assert (shape, fortran, dtype) == ((num_rows, *spec.item_shape), False, spec.numpy_dtype)


def test_header_grows_for_a_long_shape() -> None:
    spec = StoreSpec("frames", tuple(range(100, 130)), "uint8", {})
    assert header_size(spec) % 64 == 0
    assert len(header(spec, 0)) == len(header(spec, 10**17)) == header_size(spec) > 128


def test_rows_are_split_over_shards_with_their_checksums(tmp_path) -> None:
    rows = make_rows(0, 11)
    shards = open_shards(tmp_path, rows_per_shard=4)
    runs = shards.append([rows[:3], rows[3:3], rows[3:11]])
    shards.sync()
    assert runs == [
        Run(0, 0, 4, zlib.crc32(rows[:4].tobytes())),
        Run(1, 0, 4, zlib.crc32(rows[4:8].tobytes())),
        Run(2, 0, 3, zlib.crc32(rows[8:].tobytes())),
    ]
    for shard, (first, stop) in enumerate([(0, 4), (4, 8), (8, 11)]):
        loaded = np.load(shard_path(tmp_path, shard), mmap_mode="r")
        assert loaded.dtype == np.dtype("<f2")
        assert loaded.tobytes() == rows[first:stop].tobytes()


def test_a_shard_smaller_than_a_row_holds_one(tmp_path) -> None:
    shards = ShardWriter(tmp_path, SPEC, position=Position(0, 0), shard_bytes=1)
    assert [run.shard for run in shards.append([make_rows(0, 3)])] == [0, 1, 2]
    shards.sync()


def test_undo_cuts_all_that_was_not_kept(tmp_path) -> None:
    rows = make_rows(0, 9)
    shards = open_shards(tmp_path, rows_per_shard=4)
    shards.append([rows[:3]])
    shards.sync()
    shards.keep()
    shards.append([rows[3:]])
    shards.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["data-00000.npy"]
    assert np.load(tmp_path / "data-00000.npy").tobytes() == rows[:3].tobytes()
    assert shard_path(tmp_path, 0).stat().st_size == 128 + 3 * SPEC.row_bytes


def test_undo_of_the_first_rows_leaves_no_file(tmp_path) -> None:
    shards = open_shards(tmp_path)
    shards.append([make_rows(0, 2)])
    shards.undo()
    assert list(tmp_path.iterdir()) == []


def test_cut_after_repairs_a_header_that_counts_too_little(tmp_path) -> None:
    rows = make_rows(0, 5)
    shard_path(tmp_path, 0).write_bytes(header(SPEC, 1) + rows.tobytes() + b"half a row")
    cut_after(tmp_path, SPEC, position=Position(0, 4))
    assert np.load(shard_path(tmp_path, 0)).tobytes() == rows[:4].tobytes()


def test_cut_after_refuses_a_shard_with_too_few_rows(tmp_path) -> None:
    shard_path(tmp_path, 0).write_bytes(header(SPEC, 2) + make_rows(0, 2).tobytes())
    with pytest.raises(StoreError, match="holds 2 rows, its manifest counts 3"):
        cut_after(tmp_path, SPEC, position=Position(0, 3))


@pytest.mark.parametrize("start", [b"", header(FRAMES, 2), b"\x93NUMPY" + bytes(122)])
def test_a_file_of_other_rows_is_refused(tmp_path, start) -> None:
    shard_path(tmp_path, 0).write_bytes(start + bytes(100))
    with pytest.raises(StoreError, match="damaged"):
        count_rows(tmp_path, SPEC, shard=0)


def test_a_missing_shard_is_refused(tmp_path) -> None:
    with pytest.raises(StoreError, match=r"data-00003\.npy is missing"):
        count_rows(tmp_path, SPEC, shard=3)


def test_count_and_map_go_by_the_file_not_its_header(tmp_path) -> None:
    rows = make_rows(0, 5)
    shard_path(tmp_path, 0).write_bytes(header(SPEC, 1) + rows.tobytes() + b"x")
    assert count_rows(tmp_path, SPEC, shard=0) == 5
    mapped = map_rows(tmp_path, SPEC, shard=0, num_rows=4)
    assert mapped.tobytes() == rows[:4].tobytes()
    assert not mapped.flags.writeable
