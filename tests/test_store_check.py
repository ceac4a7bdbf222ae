"""Stores that are damaged or have lost rows: what is found, what is let go, what stays."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_data import (
    FPS,
    FRAMES,
    SPEC,
    STAMP,
    assert_holds,
    change_manifest,
    encode,
    make_clips,
    make_rows,
    opened,
    write_parts,
)

from ldf_video.errors import StoreError
from ldf_video.store import StoreReader, StoreWriter, check, drop_damaged, verify_store
from ldf_video.store.extents import read_extents
from ldf_video.store.shards import header, shard_path

if TYPE_CHECKING:
    from pathlib import Path

CLIPS = make_clips({"a": 6, "b": 5, "c": 9})
HEADER, ROW = 128, SPEC.row_bytes
encode_clips = partial(
    encode, clips=CLIPS, step=2, rows_per_shard=8, by_rounds=True, commit_seconds=1e9
)


def extents(path: Path) -> list[tuple[str, int, int, int, int]]:
    with closing(sqlite3.connect(path / "manifest.sqlite")) as connection:
        query = "SELECT clip_id, first_frame, shard, start, num_frames FROM extents"
        return connection.execute(query).fetchall()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store whose layout these tests cut."""
    encode_clips(tmp_path)
    assert sorted(extents(tmp_path), key=lambda row: row[2:4]) == [
        ("a", 0, 0, 0, 2), ("b", 0, 0, 2, 2), ("c", 0, 0, 4, 2), ("a", 2, 0, 6, 2),
        ("b", 2, 1, 0, 2), ("c", 2, 1, 2, 2), ("a", 4, 1, 4, 2), ("b", 4, 1, 6, 1),
        ("c", 4, 1, 7, 1), ("c", 5, 2, 0, 1), ("c", 6, 2, 1, 2), ("c", 8, 2, 3, 1),
    ]  # fmt: skip
    return tmp_path


def committed(writer: StoreWriter) -> list[int]:
    return [writer.committed_frames(clip_id) for clip_id in CLIPS]


def refuses(path: Path) -> str:
    with pytest.raises(StoreError) as caught:
        StoreReader(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("shard", "num_bytes", "left", "line"),
    [
        # the last extent of shard 1, and what of c follows in shard 2
        (1, HEADER + 8 * ROW - 1, [6, 5, 4], "1 clip lost 5 frames that data-00001.npy no"),
        (1, HEADER + 6 * ROW, [6, 4, 4], "2 clips lost 6 frames that data-00001.npy no"),
        (1, HEADER, [4, 2, 2], "3 clips lost 12 frames that data-00001.npy no longer holds"),
        (1, 100, [4, 2, 2], "3 clips lost 12 frames that data-00001.npy no longer holds"),
        (1, 0, [4, 2, 2], "3 clips lost 12 frames"),
        (2, HEADER + 2 * ROW, [6, 5, 6], "1 clip lost 3 frames that data-00002.npy no"),
        (0, HEADER + 3 * ROW, [2, 0, 0], "3 clips lost 18 frames that data-00000.npy no"),
        (0, 0, [0, 0, 0], "3 clips lost 20 frames"),
        (2, None, [6, 5, 5], "1 clip lost 4 frames that data-00002.npy no longer holds"),
        (0, None, [0, 0, 0], "3 clips lost 20 frames"),
    ],
)
def test_a_shard_cut_short_costs_what_it_lost_and_no_more(
    store, shard, num_bytes, left, line
) -> None:
    path = shard_path(store, shard)
    if num_bytes is None:
        path.unlink()
        assert f"data-0000{shard}.npy is missing" in refuses(store)
    else:
        path.write_bytes(path.read_bytes()[:num_bytes])
    assert "run the same encode again to repair it, or --verify" in refuses(store)
    with StoreWriter(store, SPEC) as writer:
        assert writer.repaired.startswith(line)
        assert writer.repaired.endswith("no longer holds: they are encoded anew")
        assert committed(writer) == left
        for (clip_id, rows), num_frames in zip(CLIPS.items(), left, strict=True):
            whole = num_frames == len(rows)
            assert writer.has_clip(clip_id) == whole
            assert writer.is_current(f"{clip_id}.mp4", **STAMP) == whole
    assert verify_store(store).num_problems == 0
    assert encode_clips(store).repaired == ""
    assert_holds(StoreReader(store), CLIPS)


def test_several_shards_are_named_by_the_first(store) -> None:
    for shard in range(3):
        shard_path(store, shard).unlink()
    with StoreWriter(store, SPEC) as writer:
        assert writer.repaired == (
            "3 clips lost 20 frames that data-00000.npy and 2 more shards no longer hold:"
            " they are encoded anew"
        )


@pytest.mark.parametrize("shard", [0, 1, 2])
@pytest.mark.parametrize("wrong", [bytes(HEADER), header(FRAMES, 8), header(SPEC, 10**6)])
def test_a_header_that_lies_is_mended_and_no_row_lost(store, shard, wrong) -> None:
    path = shard_path(store, shard)
    data = path.read_bytes()
    path.write_bytes(wrong + data[HEADER:])
    with StoreWriter(store, SPEC) as writer:
        if shard == 2 and wrong == header(SPEC, 10**6):  # as any kill leaves it
            assert writer.repaired == ""
        else:
            assert writer.repaired == (
                f"the header of data-0000{shard}.npy was wrong and is mended: no frame is lost"
            )
    assert path.read_bytes() == data
    assert np.load(path).tobytes() == data[HEADER:]
    assert_holds(StoreReader(store), CLIPS)


def test_in_a_shard_that_is_not_whole_each_extent_answers_for_itself(store) -> None:
    path = shard_path(store, 1)
    data = bytearray(path.read_bytes())
    data[HEADER + 2 * ROW] ^= 1  # c, frame 2: not at the end
    path.write_bytes(data[: HEADER + 7 * ROW])  # c, frame 4
    with StoreWriter(store, SPEC) as writer:
        assert writer.repaired.startswith("1 clip lost 7 frames that data-00001.npy")
        assert committed(writer) == [6, 5, 2]
    encode_clips(store)
    assert_holds(StoreReader(store), CLIPS)


def test_a_link_to_a_disk_that_is_not_there_loses_nothing(store, tmp_path) -> None:
    path, elsewhere = shard_path(store, 1), tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(tmp_path / "not mounted")
    with pytest.raises(StoreError, match=r"data-00001\.npy cannot be read \(No such file"):
        StoreWriter(store, SPEC)
    assert "cannot be read" in verify_store(store).problems[0]
    found = drop_damaged(store)
    assert (found.num_problems, found.num_lost_frames) == (1, 0)
    path.unlink()
    elsewhere.rename(path)
    assert_holds(StoreReader(store), CLIPS)


def test_each_process_repairs_its_parts_and_names_them(tmp_path) -> None:
    write_parts(tmp_path, CLIPS, 2)
    for part in (tmp_path, tmp_path / "part-0001"):
        path = shard_path(part, 0)
        path.write_bytes(path.read_bytes()[:-1])
    with opened(tmp_path, 2) as writers:
        assert [writer.repaired for writer in writers] == [
            "1 clip lost 9 frames that data-00000.npy no longer holds: they are encoded anew",
            "part-0001: 1 clip lost 5 frames that data-00000.npy no longer holds:"
            " they are encoded anew",
        ]
    assert StoreReader(tmp_path).clip_ids == ["a"]


@settings(max_examples=15, deadline=None)
@given(cuts=st.dictionaries(st.integers(0, 2), st.integers(0, HEADER + 8 * ROW), max_size=3))
def test_after_any_cut_the_next_encode_completes_the_store(tmp_path_factory, cuts) -> None:
    store = tmp_path_factory.mktemp("store")
    encode_clips(store)
    sound = set(extents(store))
    for shard, num_bytes in cuts.items():
        path = shard_path(store, shard)
        path.write_bytes(path.read_bytes()[:num_bytes])
    StoreWriter(store, SPEC).close()
    assert set(extents(store)) <= sound
    assert verify_store(store).num_problems == 0
    encode_clips(store)
    assert_holds(StoreReader(store), CLIPS)


# What verification finds, on request


def flip(store: Path, shard: int, row: int, byte: int = 0) -> None:
    path = shard_path(store, shard)
    data = bytearray(path.read_bytes())
    data[HEADER + row * ROW + byte] ^= 1
    path.write_bytes(data)


def test_a_sound_store_has_no_problems_partial_clips_included(store) -> None:
    with pytest.raises(StoreError, match="no store at"):
        verify_store(store / "elsewhere")
    with StoreWriter(store, SPEC) as writer:
        writer.append("d", make_rows(2, 4), fps=FPS)
        writer.commit()
        writer.append("d", make_rows(2, 4), fps=FPS)
        assert verify_store(store).problems == ()
    assert verify_store(store).problems == ()


@pytest.mark.parametrize(
    ("shard", "place", "extent"),
    [
        (0, 0, "clip a, frames 0 to 2, in shard 0 from row 0"),
        (0, 3 * ROW + 5, "clip b, frames 0 to 2, in shard 0 from row 2"),
        (2, 4 * ROW - 1, "clip c, frames 8 to 9, in shard 2 from row 3"),
    ],
)
def test_one_flipped_bit_in_any_block_is_found(store, monkeypatch, shard, place, extent) -> None:
    monkeypatch.setattr("ldf_video.store.shards._BLOCK_BYTES", 5)
    flip(store, shard, *divmod(place, ROW))
    assert verify_store(store).problems == (f"{extent}: its checksum is wrong",)


@pytest.mark.parametrize(("most", "num_passes"), [(1 << 18, 1), (12, 4), (1, 40)])
def test_many_shards_take_few_passes_over_the_manifest(
    tmp_path, monkeypatch, most, num_passes
) -> None:
    write_parts(tmp_path, {"a": make_rows(0, 40)}, 1, shard_bytes=ROW)
    flip(tmp_path, 25, 0)
    passes: list[object] = []
    monkeypatch.setattr(check, "_MOST_EXTENTS", most)
    monkeypatch.setattr(check, "read_extents", lambda *a: passes.append(a) or read_extents(*a))
    found = verify_store(tmp_path)
    assert found.problems == (
        "clip a, frames 25 to 26, in shard 25 from row 0: its checksum is wrong",
    )
    assert (found.num_frames, len(passes)) == (40, num_passes)


def test_what_is_damaged_is_let_go_and_encoded_anew(store) -> None:
    flip(store, 0, 6)  # a, frame 2
    flip(store, 2, 3)  # c, frame 8
    assert verify_store(store).num_lost_frames == 0
    found = drop_damaged(store)
    assert found.problems == (
        "clip a, frames 2 to 4, in shard 0 from row 6: its checksum is wrong",
        "clip c, frames 8 to 9, in shard 2 from row 3: its checksum is wrong",
    )
    assert (found.num_problems, found.num_lost_clips, found.num_lost_frames) == (2, 2, 5)
    assert StoreReader(store).clip_ids == ["b"]
    with StoreWriter(store, SPEC) as writer:
        assert writer.repaired == ""
        assert committed(writer) == [2, 5, 8]
        assert not writer.is_current("a.mp4", **STAMP)
    left = verify_store(store)
    # a 2-4 in shard 0, a 4-6 in shard 1; c 8-9 was the end of shard 2 and is cut
    assert (left.num_problems, left.num_unreachable_rows, left.num_frames) == (0, 4, 15)
    encode_clips(store)
    assert_holds(StoreReader(store), CLIPS)


@pytest.mark.parametrize(
    ("script", "problem", "left"),
    [
        ("UPDATE extents SET start = 3 WHERE {b0}", "its checksum is wrong", [6, 0, 9]),
        ("UPDATE extents SET start = 7 WHERE {b4}", "its checksum is wrong", [6, 4, 9]),
        (
            # with the checksum of the rows that it lies over: only that they are had twice is wrong
            "UPDATE extents SET start = 0, crc32 = (SELECT crc32 FROM extents WHERE {a0})"
            " WHERE {b0}",
            "overlaps the one before",
            [6, 0, 9],
        ),
        ("UPDATE extents SET start = 7 WHERE {b2}", "the shard holds 8 rows", [6, 2, 9]),
        ("UPDATE extents SET shard = 9 WHERE {a4}", "data-00009.npy is missing", [4, 5, 9]),
        ("UPDATE extents SET start = -1 WHERE {a4}", "cannot be", [0, 5, 9]),
        ("UPDATE extents SET shard = '../x' WHERE clip_id = 'b'", "cannot be", [6, 0, 9]),
        ("UPDATE extents SET num_frames = 'x' WHERE clip_id = 'b'", "cannot be", [6, 0, 9]),
        ("UPDATE extents SET first_frame = 5 WHERE {a4}", "expected frame 4 next", [4, 5, 9]),
        ("UPDATE extents SET clip_id = 'é' WHERE clip_id = 'a'", "cannot be", [0, 5, 9]),
        ("DELETE FROM extents WHERE {c2}", "expected frame 2 next", [6, 5, 2]),
        ("DELETE FROM extents WHERE clip_id = 'a'", "has 6 frames, its extents 0", [0, 5, 9]),
        ("DELETE FROM clips WHERE clip_id = 'a'", "clip a has extents but no row", [0, 5, 9]),
        ("UPDATE clips SET num_frames = 7 {a}", "has 7 frames, its extents 6", [6, 5, 9]),
        ("UPDATE clips SET num_frames = 5 {a}", "has 5 frames, its extents 6", [4, 5, 9]),
        ("UPDATE clips SET num_frames = 'x' {a}", "cannot be", [0, 5, 9]),
        ("UPDATE clips SET fps_den = 0 {a}", "cannot be", [0, 5, 9]),
        ("UPDATE clips SET status = 'odd' {a}", "cannot be", [0, 5, 9]),
        ("UPDATE clips SET clip_id = 'é' {a}", "cannot be", [0, 5, 9]),
    ],
)
def test_a_manifest_that_lies_is_found_and_set_right(store, script, problem, left) -> None:
    names = ("a0", "a4", "b0", "b2", "b4", "c2")  # a clip and the first frame of an extent
    places = {name: f"clip_id = '{name[0]}' AND first_frame = {name[1]}" for name in names}
    change_manifest(store, script.format(a="WHERE clip_id = 'a'", **places))
    assert problem in "\n".join(drop_damaged(store).problems)
    assert verify_store(store).num_problems == 0
    with StoreWriter(store, SPEC) as writer:
        assert committed(writer) == left
    encode_clips(store)
    assert_holds(StoreReader(store), CLIPS)


@pytest.mark.parametrize("shard", [0, 2])
def test_a_wrong_header_is_mended_on_request_too(store, shard) -> None:
    path = shard_path(store, shard)
    data = path.read_bytes()
    path.write_bytes(bytes(HEADER) + data[HEADER:])
    assert f"data-0000{shard}.npy is damaged: expected rows" in refuses(store)
    found = drop_damaged(store)
    assert found.problems == (f"{path} has no header of these rows",)
    assert found.num_lost_clips == 0
    assert path.read_bytes() == data
    assert_holds(StoreReader(store), CLIPS)


def test_a_store_in_use_is_not_changed(store) -> None:
    flip(store, 0, 0)
    with (
        StoreWriter(store, SPEC),
        pytest.raises(StoreError, match="in use by another process"),
    ):
        drop_damaged(store)
    assert len(extents(store)) == 12
    assert drop_damaged(store).num_lost_frames == 6


def test_the_damage_of_a_part_is_let_go_there(tmp_path) -> None:
    write_parts(tmp_path, CLIPS, 2)
    flip(tmp_path / "part-0001", 0, 0)
    found = drop_damaged(tmp_path)
    assert (found.num_lost_clips, found.num_lost_frames) == (1, 5)
    assert StoreReader(tmp_path).clip_ids == ["a", "c"]
