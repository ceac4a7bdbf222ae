"""Look-ups and transactions of the manifest."""

from __future__ import annotations

import sqlite3
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest

from ldf_video.errors import StoreError
from ldf_video.store.manifest import (
    ClipRecord,
    Manifest,
    SourceRecord,
    count_quarantined,
    create_manifest,
    last_position,
    look_into,
    reading,
    source_names,
)
from ldf_video.store.shards import Position, Run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def manifest(tmp_path: Path) -> Iterator[Manifest]:
    create_manifest(tmp_path)
    manifest = Manifest(tmp_path)
    yield manifest
    manifest.close()


def test_tables_are_those_of_the_contract(manifest, tmp_path) -> None:
    with reading(tmp_path) as connection:
        tables = {
            name: [column[1] for column in connection.execute(f"PRAGMA table_info({name})")]
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
    assert tables == {
        "clips": ["clip_id", "num_frames", "fps_num", "fps_den", "status"],
        "extents": ["clip_id", "first_frame", "shard", "start", "num_frames", "crc32"],
        "sources": ["source", "size", "mtime_ns", "clip_id"],
        "quarantine": ["source", "size", "mtime_ns", "reason"],
    }


def test_what_is_put_is_found(manifest, tmp_path) -> None:
    clip = ClipRecord(7, Fraction(24000, 1001), "complete")
    source = SourceRecord(5, 2**62, ("a#0", "a#1"))
    with manifest.transaction():
        manifest.put_clips({"a#0": clip, "b": ClipRecord(2, Fraction(1), "partial")})
        manifest.add_runs("a#0", [Run(0, 3, 5, 2**32 - 1), Run(1, 0, 2, 0)], first_frame=0)
        manifest.put_sources({"x/a.npy": source, "bad.mp4": SourceRecord(0, 1, (), "empty")})
    assert manifest.clip("a#0") == clip
    assert manifest.clip("c") is None
    assert manifest.source("x/a.npy") == source
    assert manifest.source("bad.mp4") == SourceRecord(0, 1, (), "empty")
    assert manifest.source("x") is None
    assert manifest.shard_ends() == {0: 8, 1: 2}
    assert sorted(source_names(tmp_path)) == ["bad.mp4", "x/a.npy"]
    assert count_quarantined(tmp_path) == 1


def test_a_source_moves_into_the_quarantine_and_out(manifest) -> None:
    for record in (
        SourceRecord(1, 1, ("a",)),
        SourceRecord(2, 2, (), "bad"),
        SourceRecord(3, 3, ("b",)),
    ):
        with manifest.transaction():
            manifest.put_sources({"s": record})
        assert manifest.source("s") == record


@pytest.mark.parametrize("name", ["ä/ö.mp4", "\udcff\udcfe.avi", "a'b\"c%.mp4", "日本"])
def test_any_file_name_comes_back(manifest, name) -> None:
    with manifest.transaction():
        manifest.put_sources(
            {name: SourceRecord(1, 2, ("c",)), "other": SourceRecord(1, 2, ("c",))}
        )
        manifest.keep_sources([name])
    assert manifest.source(name) == SourceRecord(1, 2, ("c",))
    assert manifest.source("other") is None
    reason = SourceRecord(1, 2, (), f"cannot read {name}")
    with manifest.transaction():
        manifest.put_sources({name: reason})
    assert manifest.source(name) == reason


def test_a_transaction_is_whole_or_nothing(manifest) -> None:
    def fail() -> None:
        with manifest.transaction():
            manifest.put_sources({"s": SourceRecord(1, 1, ("a",))})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert manifest.source("s") is None


def test_look_ups_keep_no_one_from_reading_and_end_with_a_transaction(manifest, tmp_path) -> None:
    with manifest.transaction():
        manifest.put_clips({"a": ClipRecord(1, Fraction(1), "partial")})
    assert manifest.clip("a").num_frames == 1
    other = look_into(tmp_path)
    assert other.clip("a").num_frames == 1
    with manifest.transaction():
        manifest.put_clips({"a": ClipRecord(2, Fraction(1), "complete")})
    assert manifest.clip("a").num_frames == other.clip("a").num_frames == 2
    other.close()


def test_a_reader_sees_one_moment_and_cannot_write(manifest, tmp_path) -> None:
    def write(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM clips")

    with reading(tmp_path) as connection, pytest.raises(sqlite3.OperationalError, match="readonly"):
        write(connection)


def test_a_damaged_or_missing_manifest_is_a_store_error(tmp_path) -> None:
    def count() -> None:
        with reading(tmp_path) as connection:
            connection.execute("SELECT count(*) FROM clips").fetchone()

    with pytest.raises(StoreError, match="damaged or missing"):
        count()
    assert not (tmp_path / "manifest.sqlite").exists()
    (tmp_path / "manifest.sqlite").write_bytes(b"no database at all, but long enough" * 100)
    with pytest.raises(StoreError, match="damaged or missing"):
        count()


def test_a_manifest_that_the_disk_does_not_give_is_not_called_damaged(
    manifest, tmp_path, monkeypatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        error = sqlite3.OperationalError("unable to open database file")
        error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
        raise error

    monkeypatch.setattr(sqlite3, "connect", refuse)
    said = (
        r"manifest.sqlite cannot be read \(unable to open database file\): see to its permissions"
    )
    with pytest.raises(StoreError, match=said):
        count_quarantined(tmp_path)
    with pytest.raises(StoreError, match=said):
        look_into(tmp_path)


@pytest.mark.parametrize(("shard", "start"), [(-1, 0), ("../x", 0), (0, -9), (1.5, 0)])
def test_impossible_shard_numbers_are_refused(manifest, tmp_path, shard, start) -> None:
    connection = sqlite3.connect(tmp_path / "manifest.sqlite")
    with connection:
        connection.execute("INSERT INTO extents VALUES ('a', 0, ?, ?, 5, 0)", (shard, start))
    connection.close()
    with pytest.raises(StoreError, match="damaged"):
        manifest.shard_ends()


def test_the_next_row_follows_the_last_committed_one() -> None:
    assert last_position({}) == Position(0, 0)
    assert last_position({0: 10, 2: 3, 1: 10}) == Position(2, 3)
