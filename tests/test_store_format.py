"""The files of a store: store.json and fingerprints, the manifest's tables, npy files."""

from __future__ import annotations

import hashlib
import json
import pathlib
import sqlite3
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from store_data import FRAMES, SPEC, assert_holds, change_manifest, make_rows, write_store

from ldf_video.errors import StoreError
from ldf_video.store import Quarantined, Source, StoreReader, StoreWriter
from ldf_video.store.format import (
    FORMAT_VERSION,
    StoreSpec,
    canonical_json,
    describe_difference,
    read_store_json,
    write_store_json,
)
from ldf_video.store.manifest import reading
from ldf_video.store.shards import header, shard_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_fingerprint_is_the_hash_of_sorted_json() -> None:
    spec = replace(SPEC, settings={"b": {"d": "é", "c": None}, "a": (1, 2)})
    expected = hashlib.sha256(b'{"a":[1,2],"b":{"c":null,"d":"\\u00e9"}}').hexdigest()
    assert spec.fingerprint == expected
    settings = [{"fps": 12}, {"fps": 12.0}, {"fps": "12"}, {"fps": None}, {}]
    assert len({replace(SPEC, settings=each).fingerprint for each in settings}) == len(settings)


@pytest.mark.parametrize(
    ("value", "error"), [(float("nan"), ValueError), (float("inf"), ValueError), ({1}, TypeError)]
)
def test_canonical_json_refuses_what_json_lacks(value, error) -> None:
    with pytest.raises(error):
        canonical_json({"x": value})


def test_spec_gives_types_and_sizes() -> None:
    assert SPEC.row_bytes == 12
    assert SPEC.numpy_dtype.str == "<f2"
    assert StoreSpec("latents", (3, 2), "float16", {**SPEC.settings, "size": (32, 32)}) == SPEC


@pytest.mark.parametrize(
    ("kind", "shape", "dtype"),
    [
        ("videos", (3,), "uint8"),
        ("frames", (3,), "float32"),
        ("frames", (0, 3), "uint8"),
        ("frames", (2.0,), "uint8"),
    ],
)
def test_spec_refuses_what_no_store_holds(kind, shape, dtype) -> None:
    with pytest.raises(ValueError, match="expected"):
        StoreSpec(kind, shape, dtype, {})


def test_store_json_round_trip(tmp_path: Path) -> None:
    write_store_json(tmp_path, SPEC, info={"device": "cpu", "versions": {"torch": "2.13"}})
    assert read_store_json(tmp_path) == (SPEC, {"device": "cpu", "versions": {"torch": "2.13"}})
    document = json.loads((tmp_path / "store.json").read_text())
    assert document["format_version"] == FORMAT_VERSION
    assert document["fingerprint"] == SPEC.fingerprint
    assert [path.name for path in tmp_path.iterdir()] == ["store.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"format_version": 2}, "has format 2, this ldf-video reads 1"),
        ({"settings": {"size": [64, 64]}}, "was changed"),
        ({"dtype": "object"}, "is damaged"),
        ({"item_shape": 3}, "is damaged"),
        ({"info": 3}, "is damaged"),
        ({"settings": None}, "is damaged"),
        ({"format_version": None}, "is damaged"),
        *((text, "is damaged") for text in ("", "{", "[]", "\x00\xff", '{"format_version": 1}')),
        (None, "no store at"),
    ],
)
def test_store_json_that_is_edited_damaged_or_missing(tmp_path, content, message) -> None:
    write_store_json(tmp_path, SPEC, info={})
    path = tmp_path / "store.json"
    if isinstance(content, dict):
        content = json.dumps({**json.loads(path.read_text()), **content})
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with pytest.raises(StoreError, match=message):
        read_store_json(tmp_path)


def test_difference_names_hashes_and_settings_nested_ones_too() -> None:
    asked = StoreSpec(
        "latents",
        (3, 4),
        "float16",
        {"size": [64, 64], "fps": None, "weights": "cd" * 32, "crop": "none"},
    )
    assert describe_difference(SPEC, SPEC) == ""
    assert describe_difference(SPEC, asked) == (
        f"fingerprint {SPEC.fingerprint[:8]}, not {asked.fingerprint[:8]}:"
        " crop nothing here, none asked; item_shape 3x2 here, 3x4 asked;"
        " size 32x32 here, 64x64 asked; weights abababab here, cdcdcdcd asked"
    )
    here, asked = (
        StoreSpec("frames", (3,), "uint8", {"filter": {"name": "area", "taps": n}, "kind": kind})
        for n, kind in ((2, "a"), (4, "b"))
    )
    difference = describe_difference(here, asked)
    assert difference.endswith("filter.taps 2 here, 4 asked; settings.kind a here, b asked")


# manifest.sqlite


def test_tables_are_those_of_the_contract(tmp_path: Path) -> None:
    write_store(tmp_path, {})
    with reading(tmp_path) as connection:
        tables = {
            name: [column[1] for column in connection.execute(f"PRAGMA table_info({name})")]
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM clips")
    assert tables == {
        "clips": ["clip_id", "num_frames", "fps_num", "fps_den", "status"],
        "extents": ["clip_id", "first_frame", "shard", "start", "num_frames", "crc32"],
        "sources": ["source", "size", "mtime_ns", "clip_id"],
        "quarantine": ["source", "size", "mtime_ns", "reason"],
    }


@pytest.mark.parametrize("name", ["ä/ö.mp4", "\udcff\udcfe.avi", "a'b\"c%.mp4", "日本"])
def test_any_file_name_comes_back(tmp_path: Path, name: str) -> None:
    stamp = {"size": 2**40, "mtime_ns": 2**62}
    with StoreWriter(tmp_path, SPEC) as writer:
        writer.set_source(name, **stamp, clip_ids=["a#0", "a#1"])
        writer.set_source("other", **stamp, clip_ids=["a#0"])
        writer.forget_missing([name])
    reader = StoreReader(tmp_path)
    assert reader.sources() == [Source(name, 2**40, 2**62, clip) for clip in ("a#0", "a#1")]
    with StoreWriter(tmp_path, SPEC) as writer:
        writer.quarantine(name, **stamp, reason=f"cannot read {name}")
    assert reader.sources() == []
    assert reader.quarantined() == [Quarantined(name, 2**40, 2**62, f"cannot read {name}")]


def refuse(error: Exception) -> Callable[..., Any]:
    def refused(*arguments: object, **options: object) -> None:
        raise error

    return refused


def test_damage_is_told_from_what_the_disk_does_not_give(tmp_path, monkeypatch) -> None:
    def check(said: str) -> None:
        for opened in (StoreReader, lambda path: StoreWriter(path, SPEC)):
            with pytest.raises(StoreError, match=said):
                opened(tmp_path)

    write_store(tmp_path, {})
    with monkeypatch.context() as patch:
        refused = refuse(PermissionError(13, "Permission denied"))
        patch.setattr(pathlib.Path, "read_text", refused)
        check(r"store.json cannot be read: Permission denied; see to the permissions")
    with monkeypatch.context() as patch:
        error = sqlite3.OperationalError("unable to open database file")
        error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
        patch.setattr(sqlite3, "connect", refuse(error))
        check(r"manifest.sqlite cannot be read \(unable to open database file\): see to its perm")
    (tmp_path / "manifest.sqlite").write_bytes(b"no database at all, but long enough" * 100)
    check("manifest.sqlite is damaged or missing")


@pytest.mark.parametrize(("shard", "start"), [(-1, 0), ("'../x'", 0), (0, -9), (1.5, 0)])
def test_a_writer_refuses_impossible_shard_numbers(tmp_path: Path, shard, start) -> None:
    write_store(tmp_path, {})
    change_manifest(tmp_path, f"INSERT INTO extents VALUES ('a', 0, {shard}, {start}, 5, 0)")
    with pytest.raises(StoreError, match="it is damaged, encode --verify says where"):
        StoreWriter(tmp_path, SPEC)


# data-00000.npy


@pytest.mark.parametrize("spec", [SPEC, FRAMES, StoreSpec("latents", (), "float16", {})])
@pytest.mark.parametrize("num_rows", [0, 7, 10**17])
def test_header_is_numpys_own_format_at_a_fixed_size(spec, num_rows, tmp_path) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(header(spec, num_rows))
    with path.open("rb") as file:
        assert np.lib.format.read_magic(file) == (1, 0)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        assert file.tell() == path.stat().st_size == 128
    assert (shape, fortran, dtype) == ((num_rows, *spec.item_shape), False, spec.numpy_dtype)


def test_a_shape_too_long_for_a_header_is_refused() -> None:
    with pytest.raises(ValueError, match="too long for a header"):
        header(StoreSpec("frames", tuple(range(100, 130)), "uint8", {}), 0)


def test_extents_name_rows_of_npy_files_with_their_checksums(tmp_path: Path) -> None:
    rows = make_rows(0, 11)
    write_store(tmp_path, {"a": rows}, shard_bytes=4 * SPEC.row_bytes)
    with reading(tmp_path) as connection:
        extents = connection.execute("SELECT * FROM extents ORDER BY first_frame").fetchall()
    pieces = [rows[:4], rows[4:8], rows[8:]]
    assert extents == [
        ("a", 4 * shard, shard, 0, len(piece), zlib.crc32(piece.tobytes()))
        for shard, piece in enumerate(pieces)
    ]
    for shard, piece in enumerate(pieces):
        loaded = np.load(shard_path(tmp_path, shard), mmap_mode="r")
        assert loaded.dtype == np.dtype("<f2")
        assert loaded.tobytes() == piece.tobytes()


def test_a_header_that_counts_too_little_hides_no_row(tmp_path: Path) -> None:
    rows = make_rows(0, 5)
    write_store(tmp_path, {"a": rows})
    shard_path(tmp_path, 0).write_bytes(header(SPEC, 1) + rows.tobytes() + b"half a row")
    assert_holds(StoreReader(tmp_path), {"a": rows})
