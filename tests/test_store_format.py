"""store.json and fingerprints."""

from __future__ import annotations

import hashlib
import json
import pathlib
from typing import TYPE_CHECKING

import pytest
from store_data import SPEC

from ldf_video.errors import StoreError
from ldf_video.store.format import (
    FORMAT_VERSION,
    StoreSpec,
    canonical_json,
    describe_difference,
    fingerprint,
    read_store_json,
    write_store_json,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_fingerprint_is_the_hash_of_sorted_json() -> None:
    expected = hashlib.sha256(b'{"a":[1,2],"b":{"c":null,"d":"\\u00e9"}}').hexdigest()
    assert fingerprint({"b": {"d": "é", "c": None}, "a": (1, 2)}) == expected


def test_fingerprint_tells_values_apart() -> None:
    settings = [{"fps": 12}, {"fps": 12.0}, {"fps": "12"}, {"fps": None}, {}]
    assert len({fingerprint(each) for each in settings}) == len(settings)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_canonical_json_refuses_what_json_lacks(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"x": value})
    with pytest.raises(TypeError):
        canonical_json({"x": {1, 2}})


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
    ("change", "message"),
    [
        (
            {"format_version": FORMAT_VERSION + 1},
            f"format {FORMAT_VERSION + 1}.*reads {FORMAT_VERSION}",
        ),
        ({"settings": {"size": [64, 64]}}, "changed"),
        ({"dtype": "object"}, "damaged"),
        ({"item_shape": 3}, "damaged"),
        ({"info": 3}, "damaged"),
        ({"settings": None}, "damaged"),
        ({"format_version": None}, "is damaged"),
    ],
)
def test_store_json_that_was_edited_is_refused(tmp_path: Path, change, message) -> None:
    write_store_json(tmp_path, SPEC, info={})
    path = tmp_path / "store.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(StoreError, match=message):
        read_store_json(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00\xff", '{"format_version": 1}'])
def test_store_json_that_is_damaged_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "store.json").write_text(text)
    with pytest.raises(StoreError):
        read_store_json(tmp_path)


def test_a_directory_without_store_json_is_no_store(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(StoreError, match=f"no store at {path}"):
            read_store_json(path)


def test_difference_names_hashes_and_settings() -> None:
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


def test_difference_names_nested_settings() -> None:
    here = StoreSpec("frames", (3,), "uint8", {"filter": {"name": "area", "taps": 2}, "kind": "a"})
    asked = StoreSpec("frames", (3,), "uint8", {"filter": {"name": "area", "taps": 4}, "kind": "b"})
    difference = describe_difference(here, asked)
    assert difference.endswith("filter.taps 2 here, 4 asked; settings.kind a here, b asked")


def test_a_store_that_may_not_be_read_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_store_json(tmp_path, SPEC, info={})

    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pathlib.Path, "read_text", refuse)
    with pytest.raises(StoreError, match=r"cannot be read: Permission denied; see to the perm"):
        read_store_json(tmp_path)
