"""Verification finds every kind of damage, and none where there is none."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from store_data import FPS, SPEC, make_clips, make_rows, write_store

from ldf_video.errors import StoreError
from ldf_video.store import StoreWriter, verify_store


@pytest.fixture
def store(tmp_path):
    write_store(tmp_path, make_clips({"a": 3, "b": 5}), shard_bytes=6 * SPEC.row_bytes)
    return tmp_path


def change(path, script: str) -> None:
    with closing(sqlite3.connect(path / "manifest.sqlite")) as connection:
        connection.executescript(script)


def test_a_sound_store_has_no_problems_partial_clips_included(store) -> None:
    with StoreWriter(store, SPEC) as writer:
        writer.append("c", make_rows(2, 4), fps=FPS)
        writer.commit()
        writer.append("c", make_rows(2, 4), fps=FPS)
        assert verify_store(store).problems == ()
    assert verify_store(store).problems == ()


@pytest.mark.parametrize(
    ("shard", "offset", "extent"),
    [
        (0, 128, "clip a, frames 0 to 3, in shard 0 from row 0"),
        (0, 128 + 3 * 12, "clip b, frames 0 to 3, in shard 0 from row 3"),
        (1, 128 + 2 * 12 - 1, "clip b, frames 3 to 5, in shard 1 from row 0"),
    ],
)
def test_one_flipped_bit_is_found(store, shard, offset, extent) -> None:
    path = store / f"data-{shard:05d}.npy"
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)
    assert verify_store(store).problems == (f"{extent}: its checksum is wrong",)


def test_a_checksum_covers_an_extent_longer_than_a_block(store, monkeypatch) -> None:
    monkeypatch.setattr("ldf_video.store.extents._BLOCK_BYTES", 2 * SPEC.row_bytes)
    assert verify_store(store).problems == ()


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        (
            # with the checksum of the rows that it lies over: only that they are had twice is wrong
            "UPDATE extents SET start = 0, crc32 = (SELECT crc32 FROM extents WHERE clip_id = 'a')"
            " WHERE clip_id = 'b' AND shard = 0",
            "overlaps the one before",
        ),
        ("UPDATE extents SET start = 1 WHERE shard = 1", "the shard holds 2 rows"),
        ("UPDATE extents SET shard = 9 WHERE shard = 1", "data-00009.npy is missing"),
        ("UPDATE extents SET start = -1 WHERE shard = 1", "cannot be"),
        ("UPDATE extents SET shard = '../x' WHERE shard = 1", "cannot be"),
        ("UPDATE extents SET first_frame = 4 WHERE shard = 1", "expected frame 3 next"),
        ("UPDATE clips SET num_frames = 6 WHERE clip_id = 'b'", "has 6 frames, its extents 5"),
        ("DELETE FROM extents WHERE clip_id = 'a'", "clip a has 3 frames, its extents 0"),
        ("DELETE FROM clips WHERE clip_id = 'a'", "clip a has extents but no row"),
    ],
)
def test_a_manifest_that_lies_is_found(store, script, problem) -> None:
    change(store, script)
    assert problem in "\n".join(verify_store(store).problems)


def test_no_store_raises(tmp_path) -> None:
    with pytest.raises(StoreError, match="no store at"):
        verify_store(tmp_path)
