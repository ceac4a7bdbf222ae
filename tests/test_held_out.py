"""Clips that training never sees: whole recordings, the same ones each time, never too much."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from store_data import make_clips, write_parts

from ldf_video.runs.held_out import Split, split
from ldf_video.store.reader import StoreReader

if TYPE_CHECKING:
    from pathlib import Path


def digest(name: object) -> str:
    return hashlib.sha256(str(name).encode()).hexdigest()


def store_of(path: Path, lengths: dict[str, int], parts: int = 1) -> StoreReader:
    write_parts(path, make_clips(lengths), parts)
    return StoreReader(path)


def array(name: object, count: int, frames: int = 3) -> dict[str, int]:
    """Clips of one array file."""
    return {f"{digest(name)}#{number}": frames for number in range(count)}


def videos(count: int, frames: int = 5) -> dict[str, int]:
    return {digest(f"video {number}"): frames for number in range(count)}


def held_ids(parts: Split) -> set[str]:
    assert parts.held_out is not None
    known, held = set(parts.known.clip_ids), set(parts.held_out.clip_ids)
    assert not known & held
    return held


def test_recordings_are_drawn_by_chance_and_none_is_on_both_sides(tmp_path: Path) -> None:
    lengths = videos(300) | {k: v for name in range(40) for k, v in array(name, 5).items()}
    store = store_of(tmp_path, lengths)
    parts = split(store)
    held = held_ids(parts)
    assert held | set(parts.known.clip_ids) == set(store.clip_ids)
    recordings = {clip.partition("#")[0] for clip in held}
    assert recordings.isdisjoint(clip.partition("#")[0] for clip in parts.known.clip_ids)
    assert 8 <= len(recordings) <= 26  # one in 20 of 340 by chance
    assert parts.said == f"{len(held):,} more clips held out"


@pytest.mark.parametrize(
    "lengths",
    [
        videos(400),
        videos(200) | array("one", 200),
        {k: v for name in range(16) for k, v in array(name, 25).items()},
        {k: v for name in range(4) for k, v in array(name, 50).items()} | videos(200),
    ],
    ids=["videos", "an array and videos", "arrays", "arrays and videos"],
)
@pytest.mark.parametrize("added", ["a video", "to an array"])
def test_one_clip_more_leaves_19_of_20_where_they_are(
    tmp_path: Path, lengths: dict[str, int], added: str
) -> None:
    before = held_ids(split(store_of(tmp_path / "before", lengths, parts=3)))
    more = {digest("new"): 5} if added == "a video" else array("another", 2)
    after = held_ids(split(store_of(tmp_path / "after", lengths | more)))
    assert len(before & after) >= 19 / 20 * len(before)
    assert len(after - before) <= max(2, len(before) / 20)


def test_an_array_alone_gives_its_first_clips_also_once_it_has_one_more(tmp_path: Path) -> None:
    for name, count in (("before", 400), ("after", 401)):
        parts = split(store_of(tmp_path / name, array(name, count)))
        assert held_ids(parts) == {f"{digest(name)}#{number}" for number in range(20)}
        assert parts.said == "20 more clips held out, the first ones of each array"


def test_the_only_clip_that_moves_is_learned_from(tmp_path: Path) -> None:
    for number in range(9):  # whichever hash it has
        moving = {digest(f"moving {number}"): 100}
        store = store_of(tmp_path / str(number), videos(19, frames=1) | moving)
        parts = split(store)
        assert (parts.known, parts.held_out) == (store, None)
        assert parts.said == "none held out: too few files have most of the frames"


def test_never_the_longest_clips_nor_much_of_the_frames(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(5):
        lengths = {digest((number, i)): int(n) for i, n in enumerate(rng.geometric(0.02, 60))}
        parts = split(store_of(tmp_path / str(number), lengths))
        held_ids(parts)
        known, held = parts.known.lengths, parts.held_out.lengths
        assert held.sum() <= (known.sum() + held.sum()) / 10
        assert (held - 1).sum() >= (known - 1).sum() / 100
        assert known.max() == max(lengths.values())


def test_pictures_among_videos_are_held_out_with_some_that_move(tmp_path: Path) -> None:
    stills = {digest(f"still {number}"): 1 for number in range(300)}
    parts = split(store_of(tmp_path, stills | videos(30)))
    held_ids(parts)
    assert parts.held_out.lengths.max() == 5
    assert parts.held_out.num_clips <= 33


def test_few_clips_are_learned_from_and_a_run_of_before_spares_each_twentieth(
    tmp_path: Path,
) -> None:
    few = store_of(tmp_path / "few", videos(19))
    parts = split(few)
    assert (parts.known, parts.held_out) == (few, None)
    assert parts.said == "none held out of fewer than 20 clips"
    store = store_of(tmp_path / "more", videos(61))
    parts = split(store, rule=None)
    assert held_ids(parts) == set(store.clip_ids[::20])
