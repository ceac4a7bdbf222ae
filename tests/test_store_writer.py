"""One writer: commits, resumption, sources, the quarantine, mismatches."""

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
from ldf_video.store import StoreReader, StoreWriter
from ldf_video.store.manifest import Manifest
from ldf_video.store.shards import header

if TYPE_CHECKING:
    from pathlib import Path

ROWS = make_rows(0, 9)


def load(path: Path, shard: int = 0) -> np.ndarray:
    return np.load(path / f"data-{shard:05d}.npy", mmap_mode="r")


def test_a_partial_clip_goes_on_and_the_npy_file_counts_its_rows(tmp_path) -> None:
    for start, stop in ((0, 1), (1, 4), (4, 8)):
        with StoreWriter(tmp_path, SPEC) as writer:
            assert writer.committed_frames("a") == start
            assert not writer.has_clip("a")
            writer.append("a", ROWS[start:stop], fps=FPS)
            assert writer.committed_frames("a") == start
            writer.commit()
            assert writer.committed_frames("a") == stop
            assert load(tmp_path).tobytes() == ROWS[:stop].tobytes()
    with StoreWriter(tmp_path, SPEC) as writer:
        add_clip(writer, "a", ROWS[8:])
        assert writer.has_clip("a")
    assert_holds(StoreReader(tmp_path), {"a": ROWS})


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
        add_clip(writer, "a", make_rows(0, 4))
        assert StoreReader(tmp_path).clip_ids == ["a"]


def test_interleaved_clips_are_one_run_each_within_a_commit(tmp_path) -> None:
    clips = make_clips({"a": 6, "b": 6})
    with StoreWriter(tmp_path, SPEC) as writer:
        for frame in range(6):
            for clip_id, rows in clips.items():
                writer.append(clip_id, rows[frame : frame + 1], fps=FPS)
    assert load(tmp_path).tobytes() == clips["a"].tobytes() + clips["b"].tobytes()


def test_a_salvaged_clip_counts_as_finished(tmp_path) -> None:
    with StoreWriter(tmp_path, SPEC) as writer:
        writer.append("a", ROWS, fps=FPS)
        writer.finish_clip("a", fps=FPS, status="salvaged")
        writer.set_source("a.mp4", **STAMP, clip_ids=["a"])
    with StoreWriter(tmp_path, SPEC, retry=True) as writer:
        assert writer.has_clip("a")
        assert writer.is_current("a.mp4", **STAMP)
    assert_holds(StoreReader(tmp_path), {"a": ROWS})


def test_an_exception_keeps_what_was_added(tmp_path) -> None:
    def interrupted() -> None:
        with StoreWriter(tmp_path, SPEC) as writer:
            add_clip(writer, "a", ROWS)
            writer.append("b", ROWS, fps=FPS)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert_holds(StoreReader(tmp_path), {"a": ROWS})
    with StoreWriter(tmp_path, SPEC) as writer:
        assert writer.committed_frames("b") == 9


def test_an_interrupt_inside_a_commit_leaves_the_last_one(tmp_path, monkeypatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with StoreWriter(tmp_path, SPEC) as writer:
        add_clip(writer, "a", ROWS)
        writer.commit()
        writer.append("b", ROWS, fps=FPS)
        monkeypatch.setattr(Manifest, "put_clip", interrupt)
        with pytest.raises(KeyboardInterrupt):
            writer.commit()
        with pytest.raises(StoreError, match="has ended"):
            writer.append("c", ROWS, fps=FPS)
    assert_holds(StoreReader(tmp_path), {"a": ROWS})
    with StoreWriter(tmp_path, SPEC) as writer:
        assert writer.committed_frames("b") == 0
    assert load(tmp_path).tobytes() == ROWS.tobytes()


@pytest.mark.parametrize("clip_id", ["", "ä", "a\n", "a" * 201])
def test_ids_that_cannot_be_are_refused(tmp_path, clip_id) -> None:
    with StoreWriter(tmp_path, SPEC) as writer:
        with pytest.raises(ValueError, match="clip id"):
            writer.append(clip_id, ROWS, fps=FPS)
        with pytest.raises(ValueError, match="clip id"):
            writer.set_source("a", **STAMP, clip_ids=[clip_id])
    assert not (tmp_path / "data-00000.npy").exists()


def test_misuse_is_refused_and_changes_nothing(tmp_path) -> None:
    with StoreWriter(tmp_path, SPEC) as writer:
        add_clip(writer, "a", ROWS)
        for wrong in (ROWS.astype(np.float32), ROWS[:, :2], ROWS[0]):
            with pytest.raises(ValueError, match=re.escape("expected (n, *(3, 2)) of float16")):
                writer.append("b", wrong, fps=FPS)
        for rate in (Fraction(0), Fraction(-1)):
            with pytest.raises(ValueError, match="positive"):
                writer.append("b", ROWS, fps=rate)
        with pytest.raises(ValueError, match="no frames"):
            writer.finish_clip("b", fps=FPS)
        with pytest.raises(ValueError, match="no clips"):
            writer.set_source("b.mp4", **STAMP, clip_ids=[])
        for _ in range(2):  # pending, then committed
            with pytest.raises(ValueError, match="is complete"):
                writer.append("a", ROWS, fps=FPS)
            with pytest.raises(ValueError, match="is complete"):
                writer.finish_clip("a", fps=FPS)
            with pytest.raises(ValueError, match="clip a is complete"):
                writer.drop_clip("a")
            writer.commit()
    assert_holds(StoreReader(tmp_path), {"a": ROWS})


def test_a_clip_that_was_begun_can_be_let_go(tmp_path) -> None:
    with StoreWriter(tmp_path, SPEC) as writer:
        writer.append("a", ROWS[:5], fps=FPS)
        writer.commit()
        writer.append("a", ROWS[5:7], fps=FPS)
        writer.append("b", ROWS, fps=FPS)
        writer.drop_clip("a")
        assert [writer.committed_frames(clip_id) for clip_id in "ab"] == [0, 9]
        add_clip(writer, "a", ROWS[3:])
        add_clip(writer, "b", ROWS[:0])
    assert_holds(StoreReader(tmp_path), {"a": ROWS[3:], "b": ROWS})


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
        for number, is_current in ((0, False), (1, True)):
            writer.append(f"x#{number}", make_rows(number, 2), fps=FPS)
            writer.finish_clip(f"x#{number}", fps=FPS)
            assert writer.is_current("x.npy", **STAMP) == is_current
            writer.commit()
            assert StoreReader(tmp_path).clip_ids == ["x#0", "x#1"][: number + 1]


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


def test_a_source_that_changed_points_at_its_new_clip_or_at_none(tmp_path) -> None:
    write_store(tmp_path, make_clips({"a": 2, "b": 2}))
    with StoreWriter(tmp_path, SPEC) as writer:
        writer.quarantine("a.mp4", size=1, mtime_ns=1, reason="empty")
        add_clip(writer, "c", ROWS)
        writer.set_source("b.mp4", size=11, mtime_ns=21, clip_ids=["c"])
        assert writer.has_clip("b")  # should it come back
    reader = StoreReader(tmp_path)
    assert_holds(reader, {"c": ROWS})
    assert reader.quarantined() == [("a.mp4", 1, 1, "empty")]


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
    writer = StoreWriter(tmp_path, SPEC)
    for spec, overwrite in ((SPEC, False), (OTHER, True)):
        with pytest.raises(StoreError, match="in use by another process"):
            StoreWriter(tmp_path, spec, overwrite=overwrite)
    writer.close()
    writer.close()  # a second time does nothing
    with pytest.raises(StoreError, match="has ended"):
        writer.commit()
    StoreWriter(tmp_path, SPEC).close()


def test_other_settings_are_refused_by_name(tmp_path) -> None:
    clips = make_clips({"a": 2})
    write_store(tmp_path, clips)
    with pytest.raises(StoreError) as caught:
        StoreWriter(tmp_path, OTHER)
    assert str(caught.value) == (
        f"{tmp_path} was made by other settings, fingerprint {SPEC.fingerprint[:8]}, not "
        f"{OTHER.fingerprint[:8]}: size 32x32 here, 64x64 asked; use another --out, or --overwrite"
        " to move it aside"
    )
    for spec in (FRAMES, replace(SPEC, item_shape=(2, 3)), replace(SPEC, kind="frames")):
        with pytest.raises(StoreError, match="made by other settings"):
            StoreWriter(tmp_path, spec)
    assert_holds(StoreReader(tmp_path), clips)


def test_overwrite_moves_a_store_aside_whole_unless_it_fits(tmp_path) -> None:
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
    with StoreWriter(path, OTHER, overwrite=True) as writer:
        assert writer.moved_to is None
    assert StoreReader(path).spec == OTHER
    assert len(list(tmp_path.iterdir())) == 4


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


def test_what_is_no_store_is_left_alone(tmp_path) -> None:
    (tmp_path / "holiday.mp4").write_bytes(b"x")
    for overwrite in (False, True):
        with pytest.raises(StoreError, match=r"no store \(for instance holiday.mp4\)"):
            StoreWriter(tmp_path, SPEC, overwrite=overwrite)
    with pytest.raises(StoreError, match="is a file"):
        StoreWriter(tmp_path / "holiday.mp4", SPEC)
    with pytest.raises(StoreError, match="cannot write"):
        StoreWriter(tmp_path / "holiday.mp4" / "store", SPEC)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.mp4"]


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
    write_store(tmp_path, {"a": ROWS})
    (tmp_path / "manifest.sqlite").unlink()
    with pytest.raises(StoreError, match="has no manifest"):
        StoreWriter(tmp_path, SPEC)
    with pytest.raises(StoreError, match="damaged or missing"):
        StoreReader(tmp_path)
    assert load(tmp_path).tobytes() == ROWS.tobytes()
