"""Clips that training never sees: every twentieth, and the same ones each time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from store_data import make_clips, write_parts

from ldf_video.pipelines.held_out import split
from ldf_video.store.reader import StoreReader

if TYPE_CHECKING:
    from pathlib import Path


def store_of(path: Path, count: int, parts: int = 1) -> StoreReader:
    write_parts(path, make_clips({f"clip{i:03}": 1 + i % 3 for i in range(count)}), parts)
    return StoreReader(path)


@pytest.mark.parametrize("count", [1, 19])
def test_few_clips_are_all_learned_from(tmp_path: Path, count: int) -> None:
    store = store_of(tmp_path, count)
    assert split(store) == (store, None)


@pytest.mark.parametrize(("count", "held"), [(20, 1), (21, 2), (40, 2), (61, 4)])
def test_every_twentieth_clip_is_held_out_and_none_is_in_both(
    tmp_path: Path, count: int, held: int
) -> None:
    store = store_of(tmp_path, count)
    known, held_out = split(store)
    assert held_out is not None
    assert (known.num_clips, held_out.num_clips) == (count - held, held)
    assert sorted([*known.clip_ids, *held_out.clip_ids]) == sorted(store.clip_ids)
    assert known.num_frames + held_out.num_frames == store.num_frames


def test_it_depends_on_the_clips_and_not_on_how_they_came_to_lie(tmp_path: Path) -> None:
    one, many = store_of(tmp_path / "one", 45), store_of(tmp_path / "many", 45, parts=3)
    ids = [sorted(split(store)[1].clip_ids) for store in (one, many)]
    assert ids[0] == ids[1]
