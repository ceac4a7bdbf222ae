"""Readers: the same bytes however they were written, masked windows, manifests that lie."""

from __future__ import annotations

import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_data import (
    FPS,
    FRAMES,
    SPEC,
    STAMP,
    add_clip,
    assert_holds,
    change_manifest,
    make_clips,
    make_rows,
    write_store,
)

from ldf_video.errors import StoreError
from ldf_video.store import Quarantined, Source, StoreReader, StoreSpec, StoreWriter


def assert_windows(reader: StoreReader, clips: dict[str, np.ndarray], *, length: int) -> None:
    """Every window there is, at once and in a shuffled order, against its definition."""
    rows = [clips[clip_id] for clip_id in reader.clip_ids]
    pairs = [(clip, start) for clip, each in enumerate(rows) for start in range(len(each))]
    order = np.random.default_rng(0).permutation(len(pairs))
    numbers, starts = np.array(pairs)[order].T
    values, mask = reader.windows(numbers, starts, length=length)
    assert values.dtype == reader.spec.numpy_dtype
    assert values.shape == (len(pairs), length, *reader.spec.item_shape)
    for clip, start, window, is_real in zip(numbers, starts, values, mask, strict=True):
        real = rows[clip][start : start + length]
        np.testing.assert_array_equal(window[: len(real)], real)
        assert not window[len(real) :].any()
        assert is_real.tolist() == [True] * len(real) + [False] * (length - len(real))


# Which of the unfinished clips gets how many frames, and what comes after.
steps = st.tuples(
    st.integers(0, 5), st.integers(0, 7), st.sampled_from(["", "", "commit", "close"])
)


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.dictionaries(
        st.sampled_from(["a", "b", "c#0", "c#1", "c#10", "d"]), st.integers(1, 12), min_size=1
    ),
    plan=st.lists(steps, max_size=12),
    spec=st.sampled_from([SPEC, FRAMES]),
    rows_per_shard=st.integers(1, 20),
    length=st.integers(1, 40),
)
def test_any_chunking_and_interleaving_gives_the_same_store(
    lengths, plan, spec, rows_per_shard, length
) -> None:
    clips = make_clips(lengths, spec=spec)
    with tempfile.TemporaryDirectory() as directory:
        path, shard_bytes = Path(directory), rows_per_shard * spec.row_bytes
        write_by_plan(path, clips, plan, spec=spec, shard_bytes=shard_bytes)
        reader = StoreReader(path)
        assert_holds(reader, clips)
        assert reader.lengths.tolist() == [lengths[clip_id] for clip_id in sorted(lengths)]
        assert reader.num_frames == sum(lengths.values())
        everything = np.concatenate([clips[clip_id] for clip_id in reader.clip_ids])
        order = np.random.default_rng(1).permutation(np.repeat(np.arange(len(everything)), 2))
        np.testing.assert_array_equal(reader.frames_at(order), everything[order])
        assert_windows(reader, clips, length=length)


def write_by_plan(
    path: Path, clips: dict[str, np.ndarray], plan, *, spec: StoreSpec, shard_bytes: int
) -> None:
    done = dict.fromkeys(clips, 0)
    writer = StoreWriter(path, spec, shard_bytes=shard_bytes)
    for pick, num_frames, after in [*plan, *((0, 100, "") for _ in clips)]:
        if not done:
            break
        clip_id = sorted(done)[pick % len(done)]
        rows = clips[clip_id][done[clip_id] :][:num_frames]
        done[clip_id] += len(rows)
        if done[clip_id] == len(clips[clip_id]):
            add_clip(writer, clip_id, rows)
            del done[clip_id]
        else:
            writer.append(clip_id, rows, fps=FPS)
        if after == "commit":
            writer.commit()
        if after == "close":
            writer.close()
            writer = StoreWriter(path, spec, shard_bytes=shard_bytes)
    writer.close()


def test_what_is_read_is_a_copy(tmp_path) -> None:
    clips = make_clips({"a": 4})
    write_store(tmp_path, clips)
    reader = StoreReader(tmp_path)
    values, _ = reader.windows([0], [0], length=4)
    for copy in (values, reader.read(0, 0, 4), reader.frames_at([0, 1])):
        copy[:] = 0
    assert_holds(reader, clips)


@pytest.mark.parametrize("chosen", ["", "a", "d", "bc", "acd", "abcd"])
@pytest.mark.parametrize("rows_per_shard", [3, 1000])
def test_some_clips_are_a_reader_of_their_own(tmp_path, chosen, rows_per_shard) -> None:
    clips = make_clips({"a": 7, "b": 2, "c": 12, "d": 5})
    with StoreWriter(tmp_path, SPEC, shard_bytes=rows_per_shard * SPEC.row_bytes) as writer:
        for clip_id in ("c", "a"):  # in several extents, and not in the order of the ids
            writer.append(clip_id, clips[clip_id][:3], fps=FPS)
        writer.commit()
        for number, clip_id in enumerate("cbad"):
            done = writer.committed_frames(clip_id)
            add_clip(writer, clip_id, clips[clip_id][done:], fps=Fraction(number + 1))
    reader = StoreReader(tmp_path)
    numbers = ["abcd".index(clip_id) for clip_id in chosen]
    view, held = reader.select(numbers), {clip_id: clips[clip_id] for clip_id in chosen}
    assert_holds(view, held)
    assert [view.clip_id(clip) for clip in range(view.num_clips)] == list(chosen)
    assert [view.index(clip_id) for clip_id in chosen] == list(range(len(chosen)))
    assert [view.fps(n) for n in range(len(chosen))] == [reader.fps(clip) for clip in numbers]
    assert view.lengths.tolist() == [len(rows) for rows in held.values()]
    assert view.num_frames == sum(map(len, held.values()))
    if held:
        everything = np.concatenate(list(held.values()))
        np.testing.assert_array_equal(view.frames_at(range(view.num_frames)), everything)
        for length in (1, 4, 20):
            assert_windows(view, held, length=length)
    last = view.select([view.num_clips - 1] if held else [])
    assert_holds(last, dict(list(held.items())[-1:]))
    assert last.sources() == reader.sources()
    assert_holds(reader, clips)  # the whole one is as it was


def test_only_finished_clips_of_sources_are_seen(tmp_path) -> None:
    rows = make_rows(0, 4)
    with StoreWriter(tmp_path, SPEC) as writer:
        add_clip(writer, "whole", rows)
        writer.append("orphan", rows, fps=FPS)
        writer.finish_clip("orphan", fps=FPS)
        writer.append("partial", rows, fps=FPS)
        writer.set_source("p.mp4", **STAMP, clip_ids=["partial"])
    assert StoreReader(tmp_path).clip_ids == ["whole"]


def test_a_reader_keeps_what_was_there_when_it_opened(tmp_path) -> None:
    clips = make_clips({"a": 3, "b": 4})
    with StoreWriter(tmp_path, SPEC) as writer:
        add_clip(writer, "b", clips["b"])
        writer.commit()
        before = StoreReader(tmp_path)
        add_clip(writer, "a", clips["a"])
        assert StoreReader(tmp_path).clip_ids == ["b"]
        writer.commit()
        assert_holds(StoreReader(tmp_path), clips)
        assert_holds(before, {"b": clips["b"]})


def test_clips_are_found_by_id_and_know_their_rate(tmp_path) -> None:
    with StoreWriter(tmp_path, SPEC) as writer:
        for number, clip_id in enumerate(["b", "a", "cc"]):
            add_clip(writer, clip_id, make_rows(number, 2), fps=Fraction(25 + number, 3))
    reader = StoreReader(tmp_path)
    assert [reader.index(clip_id) for clip_id in ("a", "b", "cc")] == [0, 1, 2]
    assert [reader.clip_id(clip) for clip in range(3)] == reader.clip_ids == ["a", "b", "cc"]
    assert [reader.fps(clip) for clip in range(3)] == [Fraction(26, 3), Fraction(25, 3), 9]
    assert reader.num_seconds == pytest.approx(2 * (3 / 26 + 3 / 25 + 1 / 9))
    for missing in ("", "c", "d", "ccc"):
        with pytest.raises(KeyError):
            reader.index(missing)


def test_sources_that_were_not_read_whole_are_listed(tmp_path) -> None:
    with StoreWriter(tmp_path, SPEC) as writer:
        add_clip(writer, "whole", make_rows(0, 2))
        writer.quarantine("\udcff.mp4", size=1, mtime_ns=2, reason="empty")
        writer.commit()
        reader = StoreReader(tmp_path)
        assert reader.salvaged() == []
        for clip_id in ("cut", "gone"):
            writer.append(clip_id, make_rows(1, 3), fps=FPS)
            writer.finish_clip(clip_id, fps=FPS, status="salvaged")
        for source, clip_ids in {"\udcff": ["cut"], "b": ["cut", "gone", "whole"]}.items():
            writer.set_source(source, **STAMP, clip_ids=clip_ids)
    assert reader.quarantined() == [Quarantined("\udcff.mp4", 1, 2, "empty")]
    assert reader.salvaged() == ["b", "\udcff"]  # each once
    assert Source("b", 10, 20, "cut") in reader.sources()
    assert len(reader.sources()) == 5


@pytest.mark.parametrize(
    ("error", "call", "arguments"),
    [
        *((IndexError, "frames_at", [bad]) for bad in ([8], [-1], [0.5], [[0]], [True])),
        *((IndexError, "select", [bad]) for bad in ([2], [-1, 0], [0.5], [[0]])),
        *((ValueError, "select", [bad]) for bad in ([1, 0], [0, 0])),
        *((IndexError, "read", bad) for bad in ([0, -1, 2], [0, 0, 4], [0, 2, 1])),
        *((IndexError, "read", [clip, 0, 1]) for clip in (-1, 2)),
        *((IndexError, "fps", [clip]) for clip in (-1, 2)),
        *((IndexError, "windows", [[clip], [0], 2]) for clip in (-1, 2)),
        *((IndexError, "windows", [[0], [start], 2]) for start in (-1, 3)),
        (IndexError, "windows", [[1, 0], [3, 3], 2]),
        *((ValueError, "windows", bad) for bad in ([[0], [0, 1], 2], [[0], [0], 0])),
    ],
)
def test_what_is_not_there_is_refused(tmp_path, error, call, arguments) -> None:
    write_store(tmp_path, make_clips({"a": 3, "b": 5}))
    options = {"length": arguments.pop()} if call == "windows" else {}
    with pytest.raises(error, match="expected"):
        getattr(StoreReader(tmp_path), call)(*arguments, **options)


@pytest.mark.parametrize("lengths", [{}, {"a": 3}])
def test_nothing_asked_is_nothing_given(tmp_path, lengths) -> None:
    path = tmp_path / "made" / "with its parents"
    write_store(path, make_clips(lengths), info={"device": "cpu"})
    reader = StoreReader(path)
    assert (reader.spec, reader.info, reader.num_clips) == (SPEC, {"device": "cpu"}, len(lengths))
    values, mask = reader.windows([], [], length=5)
    assert (values.shape, mask.shape) == ((0, 5, 3, 2), (0, 5))
    assert reader.frames_at([]).shape == (0, 3, 2)
    assert all(reader.read(clip, 1, 1).shape == (0, 3, 2) for clip in range(len(lengths)))


def test_a_store_on_a_read_only_disk_opens(tmp_path) -> None:
    clips = make_clips({"a": 3})
    write_store(tmp_path, clips)
    for path in tmp_path.iterdir():
        path.chmod(0o444)
    tmp_path.chmod(0o555)
    try:
        assert_holds(StoreReader(tmp_path), clips)
    finally:
        tmp_path.chmod(0o755)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE extents SET shard = 1",
        "UPDATE extents SET shard = -1",
        "UPDATE extents SET shard = 4611686018427387904",
        "UPDATE extents SET shard = '../../etc/passwd'",
        "UPDATE extents SET shard = NULL",
        "UPDATE extents SET start = 4 WHERE clip_id = 'b'",
        "UPDATE extents SET start = -1",
        "UPDATE extents SET start = 9223372036854775807",
        "UPDATE extents SET num_frames = num_frames + 1",
        "UPDATE extents SET num_frames = 9223372036854775807",
        "UPDATE extents SET num_frames = -5",
        "UPDATE extents SET first_frame = 1",
        "UPDATE clips SET num_frames = 1000",
        "UPDATE clips SET num_frames = 0",
        "UPDATE clips SET num_frames = 1e300",
        "UPDATE clips SET num_frames = 'many'",
        "UPDATE clips SET fps_den = 0",
        "UPDATE clips SET fps_num = -1",
        "UPDATE clips SET num_frames = 50; UPDATE extents SET num_frames = 50",
        "DELETE FROM extents WHERE clip_id = 'b'",
        "DROP TABLE extents",
        "INSERT INTO extents VALUES ('b', 5, 0, 0, 1, 0)",
        "UPDATE clips SET clip_id = 'é' || clip_id; UPDATE extents SET clip_id = 'é' || clip_id;"
        " UPDATE sources SET clip_id = 'é' || clip_id",
    ],
)
def test_a_manifest_that_lies_is_refused(tmp_path, change) -> None:
    write_store(tmp_path, make_clips({"a": 3, "b": 5}))
    change_manifest(
        tmp_path,
        # without the columns' constraints, as in a file made by hand
        "PRAGMA synchronous = OFF; CREATE TABLE loose AS SELECT * FROM extents;"
        f"DROP TABLE extents; ALTER TABLE loose RENAME TO extents; BEGIN; {change}; COMMIT",
    )
    with pytest.raises(StoreError, match="damaged"):
        StoreReader(tmp_path)
