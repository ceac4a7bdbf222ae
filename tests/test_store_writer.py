"""One writer: commits, resumption, sources, the quarantine, mismatches, a full disk."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest
from store_data import (
    FPS,
    FRAMES,
    OTHER,
    SPEC,
    STAMP,
    add_clip,
    assert_holds,
    make_clips,
    make_rows,
    write_store,
)

from ldf_video.errors import StoreError
from ldf_video.store import StoreReader, StoreWriter, verify_store
from ldf_video.store.manifest import Manifest
from ldf_video.store.shards import header

if TYPE_CHECKING:
    from pathlib import Path


def load(path: Path, shard: int = 0) -> np.ndarray:
    return np.load(path / f"data-{shard:05d}.npy", mmap_mode="r")


def test_an_empty_store_opens(tmp_path) -> None:
    write_store(tmp_path / "a" / "b", {}, info={"device": "cpu"})
    reader = StoreReader(tmp_path / "a" / "b")
    assert (reader.num_clips, reader.num_frames, reader.clip_ids) == (0, 0, [])
    assert reader.info == {"device": "cpu"}
    assert reader.spec == SPEC


def test_the_npy_file_counts_its_rows_after_each_commit(tmp_path) -> None:
    rows = make_rows(0, 9)
    with StoreWriter(tmp_path, SPEC) as writer:
        for stop in (1, 4, 9):
            writer.append("a", rows[len(load(tmp_path)) if stop > 1 else 0 : stop], fps=FPS)
            writer.commit()
            assert load(tmp_path).tobytes() == rows[:stop].tobytes()
            assert writer.committed_frames("a") == stop


def test_rows_are_copied_whatever_their_memory_layout(tmp_path) -> None:
    rows = make_rows(0, 6)
    with StoreWriter(tmp_path, SPEC) as writer:
        layouts = (rows.copy(), np.asfortranarray(rows), np.repeat(rows, 2, axis=0)[::2])
        for number, given in enumerate(layouts):
            writer.append(str(number), given, fps=FPS)
            given[:] = 0
    assert load(tmp_path).tobytes() == rows.tobytes() * 3


def test_commits_come_by_bytes(tmp_path) -> None:
    with StoreWriter(tmp_path, SPEC, commit_seconds=1e9, commit_bytes=5 * SPEC.row_bytes) as writer:
        writer.append("a", make_rows(0, 4), fps=FPS)
        assert writer.committed_frames("a") == 0
        writer.append("b", make_rows(1, 1), fps=FPS)
        assert (writer.committed_frames("a"), writer.committed_frames("b")) == (4, 1)
        writer.append("a", make_rows(0, 4), fps=FPS)
        assert writer.committed_frames("a") == 4


def test_commits_come_by_time(tmp_path) -> None:
    with StoreWriter(tmp_path, SPEC, commit_seconds=0) as writer:
        writer.append("a", make_rows(0, 4), fps=FPS)
        assert writer.committed_frames("a") == 4
        writer.finish_clip("a", fps=FPS)
        writer.set_source("a.mp4", **STAMP, clip_ids=["a"])
        assert StoreReader(tmp_path).clip_ids == ["a"]


def test_interleaved_clips_are_one_run_each_within_a_commit(tmp_path) -> None:
    clips = make_clips({"a": 6, "b": 6})
    with StoreWriter(tmp_path, SPEC) as writer:
        for frame in range(6):
            for clip_id, rows in clips.items():
                writer.append(clip_id, rows[frame : frame + 1], fps=FPS)
    assert load(tmp_path).tobytes() == clips["a"].tobytes() + clips["b"].tobytes()


def test_a_partial_clip_goes_on_where_its_commits_end(tmp_path) -> None:
    rows = make_rows(0, 10)
    with StoreWriter(tmp_path, SPEC) as writer:
        writer.append("a", rows[:4], fps=FPS)
    with StoreWriter(tmp_path, SPEC) as writer:
        assert not writer.has_clip("a")
        assert writer.committed_frames("a") == 4
        add_clip(writer, "a", rows[4:])
    assert_holds(StoreReader(tmp_path), {"a": rows})


def test_a_salvaged_clip_counts_as_finished(tmp_path) -> None:
    with StoreWriter(tmp_path, SPEC) as writer:
        writer.append("a", make_rows(0, 4), fps=FPS)
        writer.finish_clip("a", fps=FPS, status="salvaged")
        writer.set_source("a.mp4", **STAMP, clip_ids=["a"])
        assert writer.has_clip("a")
    with StoreWriter(tmp_path, SPEC, retry=True) as writer:
        assert writer.has_clip("a")
        assert writer.is_current("a.mp4", **STAMP)
    assert StoreReader(tmp_path).clip_ids == ["a"]


def test_an_exception_keeps_what_was_added(tmp_path) -> None:
    def interrupted() -> None:
        with StoreWriter(tmp_path, SPEC) as writer:
            add_clip(writer, "a", rows)
            writer.append("b", rows, fps=FPS)
            raise KeyboardInterrupt

    rows = make_rows(0, 4)
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert_holds(StoreReader(tmp_path), {"a": rows})
    with StoreWriter(tmp_path, SPEC) as writer:
        assert writer.committed_frames("b") == 4


def test_an_interrupt_inside_a_commit_leaves_the_last_one(tmp_path, monkeypatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    rows = make_rows(0, 4)
    with StoreWriter(tmp_path, SPEC) as writer:
        add_clip(writer, "a", rows)
        writer.commit()
        writer.append("b", rows, fps=FPS)
        monkeypatch.setattr(Manifest, "put_clip", interrupt)
        with pytest.raises(KeyboardInterrupt):
            writer.commit()
        with pytest.raises(StoreError, match="has ended"):
            writer.append("c", rows, fps=FPS)
    monkeypatch.undo()
    assert_holds(StoreReader(tmp_path), {"a": rows})
    with StoreWriter(tmp_path, SPEC) as writer:
        assert writer.committed_frames("b") == 0
    assert load(tmp_path).tobytes() == rows.tobytes()


@pytest.mark.parametrize("clip_id", ["", "ä", "a\n", "a" * 201])
def test_ids_that_cannot_be_are_refused(tmp_path, clip_id) -> None:
    with StoreWriter(tmp_path, SPEC) as writer:
        with pytest.raises(ValueError, match="clip id"):
            writer.append(clip_id, make_rows(0, 1), fps=FPS)
        with pytest.raises(ValueError, match="clip id"):
            writer.set_source("a", **STAMP, clip_ids=[clip_id])
        writer.commit()
        assert not (tmp_path / "data-00000.npy").exists()


def test_misuse_is_refused_and_changes_nothing(tmp_path) -> None:
    rows = make_rows(0, 4)
    with StoreWriter(tmp_path, SPEC) as writer:
        add_clip(writer, "a", rows)
        for wrong in (rows.astype(np.float32), rows[:, :2], rows[0]):
            with pytest.raises(ValueError, match=re.escape("expected (n, *(3, 2)) of float16")):
                writer.append("b", wrong, fps=FPS)
        for rate in (Fraction(0), Fraction(-1)):
            with pytest.raises(ValueError, match="positive"):
                writer.append("b", rows, fps=rate)
        with pytest.raises(ValueError, match="is complete"):
            writer.append("a", rows, fps=FPS)
        with pytest.raises(ValueError, match="is complete"):
            writer.finish_clip("a", fps=FPS)
        with pytest.raises(ValueError, match="no frames"):
            writer.finish_clip("b", fps=FPS)
        with pytest.raises(ValueError, match="no clips"):
            writer.set_source("b.mp4", **STAMP, clip_ids=[])
        writer.commit()
        with pytest.raises(ValueError, match="is complete"):
            writer.append("a", rows, fps=FPS)
    assert_holds(StoreReader(tmp_path), {"a": rows})


# Sources and the quarantine


def test_a_source_is_current_until_its_size_or_time_changes(tmp_path) -> None:
    with StoreWriter(tmp_path, SPEC) as writer:
        assert not writer.is_current("a.mp4", **STAMP)
        add_clip(writer, "a", make_rows(0, 2))
        for _ in range(2):  # pending, then committed
            assert writer.is_current("a.mp4", size=10, mtime_ns=20)
            assert not writer.is_current("a.mp4", size=11, mtime_ns=20)
            assert not writer.is_current("a.mp4", size=10, mtime_ns=21)
            assert not writer.is_current("b.mp4", size=10, mtime_ns=20)
            writer.commit()


def test_a_source_is_current_only_with_all_its_clips(tmp_path) -> None:
    with StoreWriter(tmp_path, SPEC) as writer:
        writer.set_source("x.npy", **STAMP, clip_ids=["x#0", "x#1", "x#0"])
        writer.append("x#0", make_rows(0, 2), fps=FPS)
        writer.finish_clip("x#0", fps=FPS)
        writer.append("x#1", make_rows(1, 2), fps=FPS)
        writer.commit()
        assert not writer.is_current("x.npy", **STAMP)
        assert StoreReader(tmp_path).clip_ids == ["x#0"]
        writer.finish_clip("x#1", fps=FPS)
        assert writer.is_current("x.npy", **STAMP)
    assert StoreReader(tmp_path).clip_ids == ["x#0", "x#1"]


def test_the_quarantine_holds_until_the_source_changes_or_a_retry(tmp_path) -> None:
    with StoreWriter(tmp_path, SPEC) as writer:
        writer.quarantine("bad.mp4", size=3, mtime_ns=4, reason="no video stream")
        for _ in range(2):
            assert writer.is_current("bad.mp4", size=3, mtime_ns=4)
            assert not writer.is_current("bad.mp4", size=3, mtime_ns=5)
            writer.commit()
    with StoreWriter(tmp_path, SPEC, retry=True) as writer:
        assert not writer.is_current("bad.mp4", size=3, mtime_ns=4)
        add_clip(writer, "a", make_rows(0, 2))
        writer.set_source("bad.mp4", size=3, mtime_ns=4, clip_ids=["a"])
    reader = StoreReader(tmp_path)
    assert reader.quarantined() == []
    assert reader.sources() == [("a.mp4", 10, 20, "a"), ("bad.mp4", 3, 4, "a")]


def test_a_source_gone_bad_points_at_no_clip(tmp_path) -> None:
    write_store(tmp_path, make_clips({"a": 2, "b": 2}))
    with StoreWriter(tmp_path, SPEC) as writer:
        writer.quarantine("a.mp4", size=1, mtime_ns=1, reason="empty")
    reader = StoreReader(tmp_path)
    assert reader.clip_ids == ["b"]
    assert reader.quarantined() == [("a.mp4", 1, 1, "empty")]


def test_a_changed_source_replaces_its_clip(tmp_path) -> None:
    write_store(tmp_path, make_clips({"a": 2, "b": 2}))
    with StoreWriter(tmp_path, SPEC) as writer:
        writer.append("c", make_rows(7, 3), fps=FPS)
        writer.finish_clip("c", fps=FPS)
        writer.set_source("a.mp4", size=11, mtime_ns=21, clip_ids=["c"])
        assert writer.has_clip("a")
    assert_holds(
        StoreReader(tmp_path), {"b": make_clips({"a": 2, "b": 2})["b"], "c": make_rows(7, 3)}
    )


def test_missing_sources_are_forgotten_and_cost_nothing_to_bring_back(tmp_path) -> None:
    clips = make_clips({"a": 2, "b": 3})
    write_store(tmp_path, clips)
    with StoreWriter(tmp_path, SPEC) as writer:
        writer.quarantine("gone.txt", size=1, mtime_ns=1, reason="text")
        writer.quarantine("bad.txt", size=1, mtime_ns=1, reason="text")
        writer.forget_missing(["b.mp4", "bad.txt", "new.mp4"])
        assert not writer.is_current("a.mp4", **STAMP)
        assert writer.has_clip("a")
        reader = StoreReader(tmp_path)
        assert reader.clip_ids == ["b"]
        assert [row.source for row in reader.quarantined()] == ["bad.txt"]
        writer.set_source("moved/a.mp4", **STAMP, clip_ids=["a"])
    assert_holds(StoreReader(tmp_path), clips)


# Opening


def test_a_second_writer_is_refused_until_the_first_ends(tmp_path) -> None:
    with StoreWriter(tmp_path, SPEC):
        for spec, overwrite in ((SPEC, False), (OTHER, True)):
            with pytest.raises(StoreError, match="in use by another process"):
                StoreWriter(tmp_path, spec, overwrite=overwrite)
    StoreWriter(tmp_path, SPEC).close()


def test_close_twice_is_once(tmp_path) -> None:
    writer = StoreWriter(tmp_path, SPEC)
    writer.close()
    writer.close()
    with pytest.raises(StoreError, match="has ended"):
        writer.commit()


def test_other_settings_are_refused_by_name(tmp_path) -> None:
    path = tmp_path / "latents"
    write_store(path, make_clips({"a": 2}))
    with pytest.raises(StoreError) as caught:
        StoreWriter(path, OTHER)
    message = str(caught.value)
    assert SPEC.fingerprint[:8] in message
    assert OTHER.fingerprint[:8] in message
    assert "size 32x32 here, 64x64 asked" in message
    assert message.endswith("; use another --out, or --overwrite to move it aside")
    assert "\n" not in message
    assert_holds(StoreReader(path), make_clips({"a": 2}))


@pytest.mark.parametrize(
    "spec", [FRAMES, replace(SPEC, item_shape=(2, 3)), replace(SPEC, kind="frames")]
)
def test_another_kind_or_shape_is_refused(tmp_path, spec) -> None:
    write_store(tmp_path, {})
    with pytest.raises(StoreError, match="made by other settings"):
        StoreWriter(tmp_path, spec)


def test_overwrite_moves_a_differing_store_aside_whole(tmp_path) -> None:
    path, clips = tmp_path / "latents", make_clips({"a": 2})
    write_store(path, clips)
    moved = []
    for spec in (OTHER, SPEC, OTHER):  # within one second: the names are numbered
        with StoreWriter(path, spec, overwrite=True) as writer:
            moved.append(writer.moved_to)
            assert not writer.has_clip("a")
    assert len(set(moved)) == 3
    for aside in moved:
        assert aside.parent == tmp_path
        assert re.fullmatch(r"latents\.old-\d{8}-\d{6}(-\d+)?", aside.name)
    assert_holds(StoreReader(moved[0]), clips)
    assert StoreReader(path).spec == OTHER


def test_overwrite_keeps_a_store_that_fits(tmp_path) -> None:
    clips = make_clips({"a": 2})
    write_store(tmp_path / "s", clips)
    with StoreWriter(tmp_path / "s", SPEC, overwrite=True) as writer:
        assert writer.moved_to is None
    assert_holds(StoreReader(tmp_path / "s"), clips)
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_overwrite_behind_a_link_stays_on_the_linked_disk(tmp_path) -> None:
    disk, link = tmp_path / "disk", tmp_path / "link"
    disk.mkdir()
    link.symlink_to(disk / "store")
    write_store(link, {})
    with StoreWriter(link, OTHER, overwrite=True) as writer:
        assert writer.moved_to.parent == disk
    assert link.is_symlink()
    assert StoreReader(disk / "store").spec == OTHER


def test_overwrite_moves_an_unreadable_store_aside(tmp_path) -> None:
    path = tmp_path / "s"
    write_store(path, {})
    (path / "store.json").write_text("{")
    with pytest.raises(StoreError, match="is damaged"):
        StoreWriter(path, SPEC)
    with StoreWriter(path, SPEC, overwrite=True) as writer:
        assert (writer.moved_to / "store.json").read_text() == "{"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_directory_of_other_files_is_left_alone(tmp_path, overwrite) -> None:
    (tmp_path / "holiday.mp4").write_bytes(b"x")
    with pytest.raises(StoreError, match=r"no store \(for instance holiday.mp4\)"):
        StoreWriter(tmp_path, SPEC, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.mp4"]


def test_a_file_is_no_directory(tmp_path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    with pytest.raises(StoreError, match="is a file"):
        StoreWriter(tmp_path / "f", SPEC)
    with pytest.raises(StoreError, match="cannot write"):
        StoreWriter(tmp_path / "f" / "store", SPEC)


def test_a_store_that_was_being_born_is_taken_up(tmp_path) -> None:
    for name in (".lock", "manifest.sqlite", ".store.0123abcd.part.json"):
        (tmp_path / name).touch()
    write_store(tmp_path, make_clips({"a": 2}))
    assert_holds(StoreReader(tmp_path), make_clips({"a": 2}))


@pytest.mark.parametrize("count", [1, 4, 9])
def test_rows_past_the_commit_are_cut_and_headers_repaired(tmp_path, count) -> None:
    clips = make_clips({"a": 2, "b": 2})
    write_store(tmp_path, clips, shard_bytes=3 * SPEC.row_bytes)
    path = tmp_path / "data-00001.npy"
    rows = path.read_bytes()[128:]
    path.write_bytes(header(SPEC, count) + rows + b"uncommitted rows and a half" * 3)
    (tmp_path / "data-00002.npy").write_bytes(header(SPEC, 0) + b"more")
    StoreWriter(tmp_path, SPEC).close()
    assert path.read_bytes() == header(SPEC, 1) + rows
    assert not (tmp_path / "data-00002.npy").exists()
    assert_holds(StoreReader(tmp_path), clips)


def test_a_store_without_its_manifest_keeps_its_rows(tmp_path) -> None:
    write_store(tmp_path, make_clips({"a": 4}))
    (tmp_path / "manifest.sqlite").unlink()
    with pytest.raises(StoreError, match="has no manifest"):
        StoreWriter(tmp_path, SPEC)
    with pytest.raises(StoreError, match="damaged or missing"):
        StoreReader(tmp_path)
    assert load(tmp_path).tobytes() == make_clips({"a": 4})["a"].tobytes()


def test_a_clip_that_was_begun_can_be_let_go(tmp_path: Path) -> None:
    rows = make_rows(1, 9)
    with StoreWriter(tmp_path / "store", SPEC) as writer:
        writer.append("a", rows[:5], fps=FPS)
        writer.commit()
        writer.append("a", rows[5:7], fps=FPS)
        writer.append("b", rows, fps=FPS)
        writer.drop_clip("a")
        assert writer.committed_frames("a") == 0
        assert writer.committed_frames("b") == 9
        add_clip(writer, "a", rows[3:])
        writer.finish_clip("b", fps=FPS)
        writer.set_source("b.mp4", size=1, mtime_ns=1, clip_ids=["b"])
        with pytest.raises(ValueError, match="clip a is complete"):
            writer.drop_clip("a")
    assert_holds(StoreReader(tmp_path / "store"), {"a": rows[3:], "b": rows})
    assert verify_store(tmp_path / "store").problems == ()
