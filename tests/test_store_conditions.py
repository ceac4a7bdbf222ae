"""Conditions in a store: in step with its rows, safe at any kill, NaN where nothing is known."""

from __future__ import annotations

import shutil
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_data import (
    FPS,
    SPEC,
    STAMP,
    add_clip,
    assert_holds,
    change_manifest,
    make_clips,
    opened,
    write_store,
)

from ldf_video.api import info
from ldf_video.arrays.conditions import Column, Conditions
from ldf_video.errors import StoreError
from ldf_video.store import StoreReader, StoreWriter, conditions, drop_damaged, verify_store
from ldf_video.store import reader as reading
from ldf_video.store.format import STORE_JSON
from ldf_video.store.manifest import Manifest
from ldf_video.store.shards import ShardWriter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LENGTHS = {"a": 7, "b": 4, "c": 9, "d": 3}
COLUMNS = {
    "a": (Column("action", ("left", "right")), Column("speed")),
    "c": (Column("speed"), Column("action", ("up", "left"))),
    "d": (Column("action", ("right",)),),
}
"""Of clip b nothing is known."""
ALL = (Column("action", ("left", "right", "up")), Column("speed"))
"""What a reader sees of them."""


def conditions_of(clip_id: str) -> Conditions:
    """A name or a number a frame, or nothing."""
    columns = COLUMNS[clip_id]
    rng = np.random.default_rng(ord(clip_id))
    values = rng.integers(0, 2, (LENGTHS[clip_id], len(columns))).astype(np.float32)
    for place, column in enumerate(columns):
        values[:, place] %= max(len(column.names), 1) if column.names else 9
    values[rng.random(values.shape) < 0.2] = np.nan
    return Conditions(columns, values)


NUM_KNOWN = sum(int(np.isfinite(conditions_of(one).values).any(axis=1).sum()) for one in COLUMNS)
"""Of 23 frames."""


def write(writer: StoreWriter, clip_id: str, rows: np.ndarray, *, step: int = 100) -> None:
    """What encode does: go on behind what is committed, then finish the clip."""
    if writer.is_current(f"{clip_id}.mp4", **STAMP):
        return
    known = conditions_of(clip_id) if clip_id in COLUMNS else None
    if known is not None:
        assert writer.begin_conditions(clip_id, known.columns, usual=["action", "speed"]) == ""
    for first in range(writer.committed_frames(clip_id), len(rows), step):
        here = slice(first, first + step)
        told = None if known is None else Conditions(known.columns, known.values[here])
        writer.append(clip_id, rows[here], fps=FPS, conditions=told)
    if not writer.has_clip(clip_id):
        writer.finish_clip(clip_id, fps=FPS)
    writer.set_source(f"{clip_id}.mp4", **STAMP, clip_ids=[clip_id])


def write_all(path: Path, *, step: int = 100, **options: int) -> None:
    with StoreWriter(path, SPEC, **options) as writer:
        for clip_id, rows in make_clips(LENGTHS).items():
            write(writer, clip_id, rows, step=step)


def assert_told(reader: StoreReader) -> None:
    assert_holds(reader, make_clips(LENGTHS))
    assert reader.columns == ALL
    for clip, clip_id in enumerate(reader.clip_ids):
        found = reader.conditions([clip], [0], length=LENGTHS[clip_id] + 2)[0]
        expected = np.full(found.shape, np.nan, np.float32)
        if clip_id in COLUMNS:
            expected[:-2] = conditions_of(clip_id).of_columns(ALL)
        np.testing.assert_array_equal(found, expected)


@settings(max_examples=5, deadline=None)
@given(st.integers(1, 9), st.integers(1, 4), st.booleans())
def test_a_reader_sees_what_was_written(
    tmp_path_factory, rows_per_shard: int, step: int, by_time: bool
) -> None:
    path = tmp_path_factory.mktemp("store")
    write_all(
        path,
        step=step,
        shard_bytes=rows_per_shard * SPEC.row_bytes,
        commit_seconds=0 if by_time else 1000,
    )
    reader = StoreReader(path)
    assert_told(reader)
    assert reader.count_told() == NUM_KNOWN
    first = np.load(path / "conditions-00000.npy", mmap_mode="r")
    assert first.shape[1] == 2
    assert len(first) <= len(np.load(path / "data-00000.npy", mmap_mode="r"))


def test_windows_selections_and_cuts_see_the_same(tmp_path: Path) -> None:
    write_all(tmp_path)
    with StoreWriter(tmp_path, SPEC) as writer:
        writer.append("e", make_clips(LENGTHS)["a"], fps=FPS)
        writer.add_cuts("e", [3])
        writer.finish_clip("e", fps=FPS)
        writer.set_source("e.mp4", **STAMP, clip_ids=["e"])
    reader = StoreReader(tmp_path)
    wanted = conditions_of("c").of_columns(ALL)[4:7]
    for view, clip in ((reader, 2), (reader.select([2]), 0), (reader.at_cuts(), 2)):
        np.testing.assert_array_equal(view.conditions([clip], [4], length=3)[0], wanted)
    with pytest.raises(IndexError):
        reader.conditions([9], [0], length=1)


def test_info_shows_what_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_COUNTED_AT_ONCE", 5)
    write_all(tmp_path)
    described = info(tmp_path)
    assert described["conditions"] == {
        "frames": NUM_KNOWN,
        "columns": {"action": ["left", "right", "up"], "speed": "numbers"},
    }
    line = f"conditions of {NUM_KNOWN} of 23 frames: action (left, right, up), speed"
    assert any(line in part for part in described["summary"])


def test_stores_without_conditions_are_as_they_were(tmp_path: Path) -> None:
    write_store(tmp_path / "old", make_clips(LENGTHS))
    reader = StoreReader(tmp_path / "old")
    assert "conditions" not in info(tmp_path / "old")
    assert reader.columns == ()
    assert reader.conditions([0, 1], [0, 2], length=3).shape == (2, 3, 0)
    names = {path.name for path in (tmp_path / "old").iterdir()}
    assert not any("conditions" in name for name in names)
    write_all(tmp_path / "new")
    plain, told = ((tmp_path / name / STORE_JSON).read_bytes() for name in ("old", "new"))
    assert plain == told
    # and a store that begins without goes on with
    with StoreWriter(tmp_path / "old", SPEC) as writer:
        known = conditions_of("a")
        assert writer.begin_conditions("z", known.columns) == ""
        writer.append("z", make_clips(LENGTHS)["a"], fps=FPS, conditions=known)
        writer.finish_clip("z", fps=FPS)
        writer.set_source("z.mp4", **STAMP, clip_ids=["z"])
    reader = StoreReader(tmp_path / "old")
    np.testing.assert_array_equal(reader.conditions([4], [0], length=7)[0], known.values)
    assert np.isnan(reader.conditions([0], [0], length=7)).all()
    assert np.isnan(np.load(tmp_path / "old" / "conditions-00000.npy")[:-7]).all()


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ([Column("sped")], "column 'sped', expected action, speed, which the other clips have"),
        ([Column("action")], "action holds numbers, in other clips names"),
        ([Column("speed", ("slow",))], "speed holds names, in other clips numbers"),
        (
            [Column("action", tuple(map(str, range(256))))],
            "action has more than 256 different names in all clips",
        ),
        ([Column("action", ("down",))], ""),
    ],
)
def test_columns_that_do_not_fit_are_refused(
    tmp_path: Path, columns: list[Column], said: str
) -> None:
    write_all(tmp_path)
    with StoreWriter(tmp_path, SPEC) as writer:
        assert writer.begin_conditions("x", columns) == said


def test_too_many_columns_are_refused(tmp_path: Path) -> None:
    with StoreWriter(tmp_path, SPEC) as writer:
        said = writer.begin_conditions("x", [Column(str(number)) for number in range(65)])
        assert said == "65 columns, expected 64 at most"
        with pytest.raises(ValueError, match="conditions of 7 frames: expected 4"):
            writer.append("x", make_clips(LENGTHS)["b"], fps=FPS, conditions=conditions_of("a"))


def test_parts_that_gave_names_other_codes_agree(tmp_path: Path) -> None:
    clips = make_clips(LENGTHS)
    with opened(tmp_path, 2) as writers:
        for number, clip_id in enumerate("cabd"):  # so that each part meets other names first
            write(writers[number % 2], clip_id, clips[clip_id])
    assert_told(StoreReader(tmp_path))


class Killed(BaseException):
    """What nothing catches, as a kill."""


def die_at(instant: int, patch: pytest.MonkeyPatch) -> None:
    """At the step with this number, and each that follows, all ends."""
    steps = count(1)

    def before(step: Callable[..., Any]) -> Callable[..., Any]:
        def dying(*arguments: object, **options: object) -> Any:
            if next(steps) >= instant:
                raise Killed
            return step(*arguments, **options)

        return dying

    for owner, names in (
        (conditions, ["sync"]),
        (conditions._RowFile, ["__init__", "put"]),
        (conditions.ConditionWriter, ["write", "put"]),
        (ShardWriter, ["append", "sync"]),
        (Manifest, ["put_clip", "put_columns"]),
    ):
        for name in names:
            patch.setattr(owner, name, before(getattr(owner, name)))


def test_kills_at_any_step_lose_no_commit(tmp_path: Path) -> None:
    for instant in count(2, 3):
        with pytest.MonkeyPatch.context() as patch:
            die_at(instant, patch)
            try:
                write_all(tmp_path, step=2, commit_seconds=0, shard_bytes=5 * SPEC.row_bytes)
                break
            except Killed:
                pass
        assert verify_store(tmp_path).problems == ()
    assert instant > 10
    assert_told(StoreReader(tmp_path))


@pytest.mark.parametrize("harm", ["cut", "gone", "changed"])
def test_lost_conditions_are_encoded_anew(tmp_path: Path, harm: str) -> None:
    write_all(tmp_path)
    path = tmp_path / "conditions-00000.npy"
    data = bytearray(path.read_bytes())
    if harm == "gone":
        path.unlink()
    elif harm == "cut":
        path.write_bytes(data[: len(data) - 5 * 8 - 3])
    else:
        data[-1] ^= 1
        path.write_bytes(data)
    problems = verify_store(tmp_path).problems
    assert any("conditions of frames 0 to 3" in line for line in problems)
    if harm == "changed":
        assert drop_damaged(tmp_path).num_lost_clips == 1
    with StoreWriter(tmp_path, SPEC) as writer:
        lost = {"cut": "2 clips lost 12 frames", "gone": "3 clips lost 19 frames", "changed": ""}
        assert writer.repaired.startswith(lost[harm])
        for clip_id, rows in make_clips(LENGTHS).items():
            write(writer, clip_id, rows)
    assert_told(StoreReader(tmp_path))


def test_rows_behind_the_last_commit_are_cut(tmp_path: Path) -> None:
    write_all(tmp_path)
    path = tmp_path / "conditions-00000.npy"
    whole = path.read_bytes()
    with path.open("ab") as file:
        file.write(b"\1" * 21)
    shutil.copy(path, tmp_path / "conditions-00001.npy")
    with StoreWriter(tmp_path, SPEC):
        pass
    assert path.read_bytes() == whole
    assert not (tmp_path / "conditions-00001.npy").exists()


@pytest.mark.parametrize(
    "lie",
    [
        "UPDATE columns SET number = 5 WHERE number = 1",
        "UPDATE names SET code = 7 WHERE code = 0",
        "UPDATE columns SET name = 7; UPDATE names SET number = 'x'",
    ],
)
def test_columns_that_cannot_be_are_refused_in_one_line(tmp_path: Path, lie: str) -> None:
    write_all(tmp_path)
    change_manifest(tmp_path, lie)
    for opening in (StoreReader, lambda path: StoreWriter(path, SPEC)):
        with pytest.raises(StoreError, match=r"manifest\.sqlite is damaged"):
            opening(tmp_path)


def test_add_clip_of_nothing_known_writes_no_file(tmp_path: Path) -> None:
    with StoreWriter(tmp_path, SPEC) as writer:
        assert writer.begin_conditions("a", COLUMNS["a"]) == ""
        add_clip(writer, "a", make_clips(LENGTHS)["a"])
    assert not (tmp_path / "conditions-00000.npy").exists()
