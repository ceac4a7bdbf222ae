"""Several writers of one store: who writes what, what each sees of the others, the union."""

from __future__ import annotations

import errno
import json
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_data import (
    FPS,
    OTHER,
    SPEC,
    STAMP,
    add_clip,
    assert_holds,
    make_clips,
    make_rows,
    opened,
    write_parts,
    write_store,
)

from ldf_video.errors import StoreError
from ldf_video.store import StoreReader, StoreWriter, manifest, verify_store
from ldf_video.store.format import find_parts, part_path
from ldf_video.store.manifest import Manifest, connect
from ldf_video.store.parts import share_sources

if TYPE_CHECKING:
    from pathlib import Path


def names(path: Path) -> set[str]:
    return {entry.name for entry in path.iterdir() if entry.is_dir()}


# The union


@settings(max_examples=15, deadline=None)
@given(
    lengths=st.dictionaries(st.sampled_from("abcdefg"), st.integers(1, 9), min_size=1),
    num_ranks=st.integers(1, 4),
    rows_per_shard=st.integers(1, 12),
)
def test_readers_see_the_same_store_whatever_the_number_of_parts(
    tmp_path_factory, lengths, num_ranks, rows_per_shard
) -> None:
    path, clips = tmp_path_factory.mktemp("store"), make_clips(lengths)
    shuffled = {clip_id: clips[clip_id] for clip_id in lengths}  # in the order of the draw
    write_parts(path, shuffled, num_ranks, shard_bytes=rows_per_shard * SPEC.row_bytes)
    write_store(path / "one", clips)
    reader, one = StoreReader(path), StoreReader(path / "one")
    assert_holds(reader, clips)
    assert len(reader.parts) == num_ranks
    assert reader.sources() == one.sources()
    frames = np.random.default_rng(0).permutation(reader.num_frames)
    assert reader.frames_at(frames).tobytes() == one.frames_at(frames).tobytes()
    numbers = np.repeat(np.arange(reader.num_clips), reader.lengths)
    starts = np.concatenate([np.arange(length) for length in reader.lengths])
    for length in (1, 5):
        values, mask = reader.windows(numbers, starts, length=length)
        expected_values, expected_mask = one.windows(numbers, starts, length=length)
        np.testing.assert_array_equal(values, expected_values)
        np.testing.assert_array_equal(mask, expected_mask)
    every_other = np.arange(0, reader.num_clips, 2)
    assert_holds(reader.select(every_other), {i: clips[i] for i in sorted(clips)[::2]})


def test_the_root_is_the_first_part_and_the_rest_lie_in_it(tmp_path) -> None:
    write_parts(tmp_path, make_clips({"a": 2, "b": 3, "c": 4}), 3, info={"device": "cpu"})
    assert names(tmp_path) == {"part-0001", "part-0002"}
    places = {0: tmp_path, 1: tmp_path / "part-0001", 2: tmp_path / "part-0002"}
    assert find_parts(tmp_path) == places
    for part, path in places.items():
        assert part_path(tmp_path, part) == path
        assert len(np.load(path / "data-00000.npy")) == 2 + part
        assert json.loads((path / "store.json").read_text())["info"] == {"device": "cpu"}
        assert (path / "manifest.sqlite").is_file()


def test_a_clip_of_two_parts_is_seen_once(tmp_path) -> None:
    clips = make_clips({"a": 4, "b": 2})
    with opened(tmp_path, 2) as writers:
        for writer in writers:
            writer.append("a", clips["a"], fps=FPS)
        for writer, source in zip(writers, "xy", strict=True):
            writer.finish_clip("a", fps=FPS)
            writer.set_source(source, **STAMP, clip_ids=["a"])
        add_clip(writers[1], "b", clips["b"])
    reader = StoreReader(tmp_path)
    assert_holds(reader, clips)
    sources = [("b.mp4", "b"), ("x", "a"), ("y", "a")]
    assert [(row.source, row.clip_id) for row in reader.sources()] == sources
    with StoreWriter(tmp_path, SPEC) as writer:
        assert writer.is_current("x", **STAMP)


def test_a_part_left_by_a_kill_before_it_was_born_is_none(tmp_path) -> None:
    clips = make_clips({"a": 4, "b": 2})
    write_store(tmp_path, {"a": clips["a"]})
    (tmp_path / "part-0001").mkdir()
    for name in (".lock", "manifest.sqlite", ".store.0123abcd.part.json"):
        (tmp_path / "part-0001" / name).touch()
    assert_holds(StoreReader(tmp_path), {"a": clips["a"]})
    with opened(tmp_path, 2) as writers:
        add_clip(writers[1], "b", clips["b"])
    assert_holds(StoreReader(tmp_path), clips)


@pytest.mark.parametrize(
    "name", ["part-1", "part-00001", "part-0000", "part-000x", "part-0001.old"]
)
def test_other_names_are_no_parts(tmp_path, name) -> None:
    clips = make_clips({"a": 4, "b": 2})
    write_store(tmp_path, {"a": clips["a"]})
    write_store(tmp_path / name, {"b": clips["b"]})
    assert_holds(StoreReader(tmp_path), {"a": clips["a"]})


def test_damage_in_a_part_names_it(tmp_path) -> None:
    write_parts(tmp_path, make_clips({"a": 4, "b": 5}), 2)
    shard = tmp_path / "part-0001" / "data-00000.npy"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    assert verify_store(tmp_path).problems == (
        "part-0001: clip b, frames 0 to 5, in shard 0 from row 0: its checksum is wrong",
    )
    shard.write_bytes(data[:-1])
    with pytest.raises(StoreError, match=r"part-0001 is damaged: .* row 4 of shard 0, which holds"):
        StoreReader(tmp_path)


def test_a_part_that_lost_its_manifest_is_named(tmp_path) -> None:
    write_parts(tmp_path, make_clips({"a": 4, "b": 5}), 2)
    (tmp_path / "part-0001" / "manifest.sqlite").unlink()
    with StoreWriter(tmp_path, SPEC, num_ranks=2) as writer:
        for look in (lambda: writer.has_clip("b"), lambda: writer.owners(["b.mp4"], [1])):
            with pytest.raises(StoreError, match=r"part-0001/manifest.sqlite is damaged or miss"):
                look()
    with pytest.raises(StoreError, match=r"part-0001 has no manifest.sqlite"):
        StoreWriter(tmp_path, SPEC)
    with pytest.raises(StoreError, match=r"part-0001/manifest.sqlite is damaged or missing"):
        StoreReader(tmp_path)


# Who writes what


def test_a_known_source_stays_with_its_part_and_equal_ones_go_in_turn(tmp_path) -> None:
    def owners(num_ranks: int, sources: list[str], sizes: list[int]) -> list[int]:
        with opened(tmp_path, num_ranks) as writers:
            first, *others = [writer.owners(sources, sizes) for writer in writers]
        assert all(other == first for other in others)
        return first

    assert owners(3, list("abcd"), [5] * 4) == [0, 1, 2, 0]
    assert owners(3, list("abcd"), [0, -1, 1, 0]) == [0, 1, 2, 0]
    # 9 to 0, 8 to 1, 7 to 2; 3 to 2 (10), 2 to 1 (10), 1 to 0 (10)
    assert owners(3, list("abcdef"), [1, 2, 3, 7, 8, 9]) == [0, 1, 2, 2, 1, 0]
    with opened(tmp_path, 3) as writers:
        writers[2].set_source("a", **STAMP, clip_ids=["x"])
        writers[1].quarantine("\udcff", **STAMP, reason="empty")
    sources = ["\udcff", "a", "b", "c", "d"]
    assert owners(1, sources, [1] * 5) == [0] * 5
    assert owners(2, sources, [1] * 5) == [1, 0, 0, 1, 0]
    assert owners(4, sources, [1] * 5) == [1, 2, 0, 3, 0]
    # what part 1 has counts at its size now; what is gone from CLIPS does not
    assert owners(2, ["\udcff", "b", "c", "d"], [10, 3, 4, 5]) == [1, 0, 0, 0]
    assert owners(2, ["b", "c", "d"], [3, 4, 5]) == [1, 1, 0]


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(1, 1000), min_size=1, max_size=30), num_ranks=st.integers(2, 5))
def test_no_share_exceeds_the_mean_by_more_than_one_source(
    tmp_path_factory, sizes, num_ranks
) -> None:
    path = tmp_path_factory.mktemp("store")
    StoreWriter(path, SPEC).close()
    sources = [str(place) for place in range(len(sizes))]
    owners = share_sources(path, sources, sizes, num_ranks=num_ranks)
    loads = np.bincount(owners, weights=sizes, minlength=num_ranks)
    assert loads.max() <= sum(sizes) / num_ranks + max(sizes)
    assert len(set(owners)) == min(num_ranks, len(sizes))


def test_a_source_that_was_begun_stays_with_its_part(tmp_path) -> None:
    rows = make_rows(0, 9)
    with opened(tmp_path, 3) as writers:
        writers[2].set_source("long", **STAMP, clip_ids=["x"])
        writers[2].append("x", rows[:5], fps=FPS)
        writers[2].commit()
        assert not writers[2].is_current("long", **STAMP)
    assert StoreReader(tmp_path).num_clips == 0
    for num_ranks, owner in ((2, 0), (3, 2), (4, 2)):
        with opened(tmp_path, num_ranks) as writers:
            assert writers[0].owners(["new", "long"], [50, 1])[1] == owner
            assert writers[owner].committed_frames("x") == 5
            assert not writers[owner].is_current("long", **STAMP)
    with StoreWriter(tmp_path, SPEC) as writer:
        writer.append("x", rows[5:], fps=FPS)
        writer.finish_clip("x", fps=FPS)
        assert writer.is_current("long", **STAMP)
    assert_holds(StoreReader(tmp_path), {"x": rows})


def test_what_another_process_has_finished_is_had(tmp_path) -> None:
    rows = make_rows(0, 4)
    with opened(tmp_path, 2) as (first, second):
        first.append("a", rows, fps=FPS)
        first.commit()
        assert not second.has_clip("a")
        assert second.committed_frames("a") == 0  # it would begin anew
        first.finish_clip("a", fps=FPS)
        assert not second.has_clip("a")
        first.commit()
        assert second.has_clip("a")
        second.set_source("copy", **STAMP, clip_ids=["a"])
        assert second.is_current("copy", **STAMP)
    assert_holds(StoreReader(tmp_path), {"a": rows})
    with StoreWriter(tmp_path, SPEC) as writer:
        assert writer.is_current("copy", **STAMP)


def test_the_parts_of_other_processes_are_opened_once(tmp_path, monkeypatch) -> None:
    with opened(tmp_path, 3) as writers:
        add_clip(writers[1], "a", make_rows(0, 1))
        writers[1].commit()
        opened_paths = []
        monkeypatch.setattr(
            manifest, "connect", lambda path: opened_paths.append(path) or connect(path)
        )
        for number in range(20):
            assert writers[0].has_clip("a")
            assert not writers[0].has_clip(f"new {number}")
        add_clip(writers[2], "new 19", make_rows(1, 1))
        writers[2].commit()
        assert writers[0].has_clip("new 19")
    assert len(opened_paths) == 2


def test_one_process_goes_on_with_the_parts_of_several(tmp_path) -> None:
    rows, clips = make_rows(7, 9), make_clips({"a": 4, "b": 2})
    write_parts(tmp_path, clips, 2)
    with opened(tmp_path, 2) as writers:
        writers[1].append("begun", rows[:5], fps=FPS)
        writers[1].quarantine("bad", **STAMP, reason="empty")
    with StoreWriter(tmp_path, SPEC, retry=True) as writer:
        assert writer.is_current("b.mp4", **STAMP)
        assert not writer.is_current("bad", **STAMP)
        assert writer.committed_frames("begun") == 5
        add_clip(writer, "begun", rows[5:])
        writer.set_source("bad", **STAMP, clip_ids=["begun"])
        add_clip(writer, "new", rows)
    assert StoreReader(tmp_path).quarantined() == []
    assert_holds(StoreReader(tmp_path), {**clips, "begun": rows, "new": rows})
    assert len(np.load(tmp_path / "part-0001" / "data-00000.npy")) == 2 + 9  # where it was begun
    assert len(np.load(tmp_path / "data-00000.npy")) == 4 + 9
    with opened(tmp_path, 2) as writers:  # and each source is still where it was
        assert writers[0].owners(["b.mp4", "bad", "new.mp4"], [1, 1, 1]) == [1, 1, 0]
    more = make_clips({"x": 5})
    with opened(tmp_path, 3) as writers:  # more share the parts of fewer
        add_clip(writers[2], "x", more["x"])
    with opened(tmp_path, 2) as writers:  # part 2 goes with part 0
        assert [writer.is_current("x.mp4", **STAMP) for writer in writers] == [True, False]
    assert_holds(StoreReader(tmp_path), {**clips, "begun": rows, "new": rows, **more})


def test_sources_are_forgotten_in_all_parts(tmp_path) -> None:
    clips = make_clips({"a": 1, "b": 2, "c": 3, "d": 4})
    write_parts(tmp_path, clips, 2)
    with opened(tmp_path, 2) as writers:
        for writer in writers:
            writer.forget_missing(["c.mp4", "d.mp4"])
    assert StoreReader(tmp_path).clip_ids == ["c", "d"]
    with StoreWriter(tmp_path, SPEC) as writer:
        writer.forget_missing(["c.mp4"])
        assert StoreReader(tmp_path).clip_ids == ["c"]
        assert writer.has_clip("b")  # should it come back, it costs one hash


def test_all_parts_of_a_process_commit_together(tmp_path) -> None:
    write_parts(tmp_path, {}, 2)
    with opened(tmp_path, 2) as writers:
        writers[1].append("begun", make_rows(0, 1), fps=FPS)
    clips = {"new": make_rows(1, 3), "begun": make_rows(0, 4)}
    options = {"commit_seconds": 1e9, "commit_bytes": 5 * SPEC.row_bytes}
    with StoreWriter(tmp_path, SPEC, **options) as writer:
        writer.append("new", clips["new"], fps=FPS)
        assert writer.committed_frames("new") == 0
        writer.append("begun", clips["begun"][1:], fps=FPS)
        assert [writer.committed_frames(clip_id) for clip_id in ("new", "begun")] == [3, 4]


def test_after_a_commit_that_fails_no_part_takes_more(tmp_path, monkeypatch) -> None:
    def fill_disk(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    write_parts(tmp_path, {}, 2)
    with opened(tmp_path, 2) as writers:
        writers[1].append("begun", make_rows(1, 2), fps=FPS)
    with StoreWriter(tmp_path, SPEC) as writer:
        add_clip(writer, "a", make_rows(0, 4))
        writer.commit()
        writer.append("begun", make_rows(1, 2), fps=FPS)
        monkeypatch.setattr(Manifest, "put_clip", fill_disk)
        with pytest.raises(StoreError, match=r"^disk full at .*part-0001 .*use another --out$"):
            writer.commit()
        with pytest.raises(StoreError, match=r"part-0001 has ended"):
            writer.append("b", make_rows(1, 2), fps=FPS)
    assert_holds(StoreReader(tmp_path), {"a": make_rows(0, 4)})


# Opening


def test_each_part_has_its_lock_and_one_in_use_frees_the_others(tmp_path) -> None:
    StoreWriter(tmp_path, SPEC, num_ranks=2).close()
    with StoreWriter(tmp_path, SPEC, rank=1, num_ranks=2):
        with pytest.raises(StoreError, match="part-0001 is in use by another process"):
            StoreWriter(tmp_path, SPEC)
        with StoreWriter(tmp_path, SPEC, num_ranks=2):
            for rank in range(2):
                with pytest.raises(StoreError, match="in use by another process"):
                    StoreWriter(tmp_path, SPEC, rank=rank, num_ranks=2)
    StoreWriter(tmp_path, SPEC).close()


def test_another_process_makes_no_store(tmp_path) -> None:
    with pytest.raises(StoreError, match="no store at"):
        StoreWriter(tmp_path / "store", SPEC, rank=1, num_ranks=2)
    write_store(tmp_path / "store", {}, spec=OTHER)
    with pytest.raises(StoreError, match="made by other settings"):
        StoreWriter(tmp_path / "store", SPEC, rank=1, num_ranks=2, overwrite=True)
    assert names(tmp_path) == {"store"}
    assert names(tmp_path / "store") == set()


def test_a_part_made_otherwise_is_named(tmp_path) -> None:
    path = tmp_path / "latents"
    write_parts(path, make_clips({"a": 2, "b": 3}), 2)
    write_store(path / "part-0003", {}, spec=OTHER)
    expected = r"part-0003 was made by other settings, .* size 64x64 here, 32x32 asked; use another"
    with pytest.raises(StoreError, match=expected):
        StoreReader(path)
    for options in ({}, {"num_ranks": 2}):
        with pytest.raises(StoreError, match=expected + " --out, or --overwrite"):
            StoreWriter(path, SPEC, **options)
    assert re.search("part-0003 was made by other", verify_store(path).problems[0])
    with StoreWriter(path, SPEC, overwrite=True) as writer:
        aside = writer.moved_to
    assert StoreReader(path).num_clips == 0
    assert names(aside) == {"part-0001", "part-0003"}
    assert names(path) == set()


def test_overwrite_moves_all_parts_and_none_that_is_in_use(tmp_path) -> None:
    path, clips = tmp_path / "latents", make_clips({"a": 2, "b": 3})
    write_parts(path, clips, 2)
    with (
        StoreWriter(path, SPEC, rank=1, num_ranks=2),
        pytest.raises(StoreError, match="part-0001 is in use"),
    ):
        StoreWriter(path, OTHER, overwrite=True)
    with StoreWriter(path, OTHER, overwrite=True, num_ranks=2) as writer:
        aside = writer.moved_to
        with StoreWriter(path, OTHER, overwrite=True, rank=1, num_ranks=2) as second:
            assert second.moved_to is None
    assert_holds(StoreReader(aside), clips)
    assert StoreReader(path).spec == OTHER
    assert names(path) == {"part-0001"}
