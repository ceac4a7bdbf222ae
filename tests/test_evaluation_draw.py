"""Drawing clips: places by chance, no frame twice, whatever the sources are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from clip_files import barcode, read_barcode, write_clip
from tiny_models import write_array

from ldf_video.errors import ReadError
from ldf_video.evaluation.draw import all_clips, draw_clips, split_in_two
from ldf_video.sources.search import find_sources
from ldf_video.video.geometry import Geometry

if TYPE_CHECKING:
    from pathlib import Path

GEOMETRY = Geometry(16, 32)


def numbered(path: Path, shape: tuple[int, ...]) -> Path:
    """An array of clips, each frame of one level: its number."""
    count = int(np.prod(shape))
    frames = np.arange(count, dtype=np.uint8).reshape(*shape, 1, 1, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.broadcast_to(frames, (*shape, 16, 32, 3)))
    return path


def numbers(clips: np.ndarray) -> list[list[int]]:
    assert clips.shape[2:] == (16, 32, 3)
    return clips[:, :, 0, 0, 0].tolist()


def test_clips_are_adjacent_frames_in_order_and_share_none(tmp_path: Path) -> None:
    numbered(tmp_path / "a.npy", (43,))
    seen = set()
    for seed in range(20):
        drawn = draw_clips(find_sources(tmp_path), GEOMETRY, count=99, seed=seed)
        found = numbers(drawn.clips)
        first = found[0][0]
        assert found == [list(range(n, n + 5)) for n in range(first, 39, 5)]
        assert drawn.num_there == len(found)
        seen.add(first)
    assert seen == {0, 1, 2, 3, 4}  # the first place is by chance


def test_clips_of_five_frames_are_taken_as_they_are(tmp_path: Path) -> None:
    numbered(tmp_path / "a.npy", (30, 5))
    drawn = draw_clips(find_sources(tmp_path), GEOMETRY, count=30, seed=1)
    assert numbers(drawn.clips) == np.arange(150).reshape(30, 5).tolist()


def test_each_clip_is_as_likely(tmp_path: Path) -> None:
    numbered(tmp_path / "a.npy", (12, 5))
    counts = np.zeros(12)
    sources = find_sources(tmp_path)
    for seed in range(300):
        drawn = draw_clips(sources, GEOMETRY, count=3, seed=seed)
        places = [clip[0] // 5 for clip in numbers(drawn.clips)]
        assert places == sorted(set(places))
        assert drawn.num_there == 12
        counts[places] += 1
    assert counts.sum() == 900
    assert counts.min() > 45  # 75 on average, with a spread of 7.5
    assert counts.max() < 105


def test_halves_are_of_other_sources_but_for_one_that_is_cut_in_time(tmp_path: Path) -> None:
    """Neighbours of one recording on both sides would be nearer than any model can come."""
    for level, count in enumerate((7, 12, 9, 13)):
        np.save(tmp_path / f"{level}.npy", np.full((count, 5, 16, 32, 3), level, np.uint8))
    drawn = draw_clips(find_sources(tmp_path), GEOMETRY, count=99, seed=0)
    assert np.bincount(drawn.places).tolist() == [7, 12, 9, 13]
    firsts = set()
    for seed in range(8):
        one, two = ({clip[0] for clip in numbers(half)} for half in split_in_two(drawn, seed=seed))
        assert len(one & two) <= 1
        firsts.add(frozenset(one))
    assert len(firsts) > 3  # by chance


def test_one_source_gives_its_first_half_and_its_second(tmp_path: Path) -> None:
    numbered(tmp_path / "a.npy", (41, 5))
    drawn = draw_clips(find_sources(tmp_path), GEOMETRY, count=41, seed=0)
    one, two = (numbers(half) for half in split_in_two(drawn, seed=0))
    assert [clip[0] for clip in one] == list(range(0, 100, 5))
    assert [clip[0] for clip in two] == list(range(100, 200, 5))


def test_first_frames_are_left_out(tmp_path: Path) -> None:
    numbered(tmp_path / "a.npy", (3, 60))
    drawn = draw_clips(find_sources(tmp_path), GEOMETRY, count=9, seed=0, skip=50)
    firsts = [clip[0] % 60 for clip in numbers(drawn.clips)]
    assert len(firsts) >= 3
    assert min(firsts) >= 50
    with pytest.raises(
        ReadError,
        match=r"0 of 3 videos have 5 behind the first 56, .* 60 in all; give --skip 55 or less",
    ):
        draw_clips(find_sources(tmp_path), GEOMETRY, count=9, seed=0, skip=56)


def test_no_more_is_read_than_is_to_be_looked_at(tmp_path: Path) -> None:
    numbered(tmp_path / "a.npy", (12, 5))
    numbered(tmp_path / "b.npy", (12, 5))
    done: list[int] = []
    sources, options = find_sources(tmp_path), {"count": 9, "seed": 0, "on_source": done.append}
    drawn = draw_clips(sources, GEOMETRY, most=9, **options)
    assert (drawn.num_there, numbers(drawn.clips)[-1][0], done) == (9, 40, [1])
    assert draw_clips(sources, GEOMETRY, most=15, **options).num_there == 15


def test_videos_are_scaled_and_resampled(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mkv", [barcode(n) for n in range(24)], codec="ffv1", pix_fmt="bgr0")
    drawn = draw_clips(find_sources(tmp_path), GEOMETRY, count=9, seed=0)
    frames = [read_barcode(frame) for clip in drawn.clips for frame in clip]
    assert frames == list(range(frames[0], frames[0] + 5 * len(drawn.clips)))


def test_what_cannot_be_read_is_told_and_costs_nothing_else(tmp_path: Path) -> None:
    write_array(tmp_path / "a.npy", 5)
    (tmp_path / "b.mp4").write_bytes(b"")
    write_array(tmp_path / "c.npy", 4)  # too short
    counts: list[int] = []
    sources = find_sources(tmp_path)
    drawn = draw_clips(sources, GEOMETRY, count=9, seed=0, on_source=counts.append)
    assert len(drawn.clips) == 1
    assert drawn.unread == ("b.mp4: empty file",)
    assert counts == [1, 2, 3]
    (tmp_path / "a.npy").unlink()
    with pytest.raises(ReadError, match=r"no clip of 5 frames: b\.mp4: empty file"):
        draw_clips(find_sources(tmp_path), GEOMETRY, count=9, seed=0)
    (tmp_path / "b.mp4").unlink()
    with pytest.raises(
        ReadError,
        match=r"no clip of 5 frames: 0 of 1 video have 5, .* 4 in all; give --frames 4 or less",
    ):
        draw_clips(find_sources(tmp_path), GEOMETRY, count=9, seed=0)


def test_all_clips_overlap(tmp_path: Path) -> None:
    numbered(tmp_path / "a.npy", (2, 7))
    (tmp_path / "b.mp4").write_bytes(b"")
    found = np.stack(list(all_clips(find_sources(tmp_path), GEOMETRY)))
    assert [clip[0] for clip in numbers(found)] == [0, 1, 2, 7, 8, 9]
    assert all(clip == list(range(clip[0], clip[0] + 5)) for clip in numbers(found))


def test_no_clip_has_frames_of_two_shots(tmp_path: Path) -> None:
    levels = np.repeat([10, 200, 90], [40, 33, 47])
    frames = np.zeros((120, 16, 32, 3), np.uint8) + levels[:, None, None, None].astype(np.uint8)
    frames[:, 0, 0, 0] = np.arange(120)  # a pixel tells which one it is
    np.save(tmp_path / "a.npy", frames)
    sources, edges = find_sources(tmp_path), np.array([40, 73])
    crossing = 0
    for seed in range(6):
        drawn = draw_clips(sources, GEOMETRY, count=99, seed=seed, cuts=True)
        for clip in numbers(drawn.clips):
            assert clip == list(range(clip[0], clip[0] + 5))
            assert not ((clip[0] < edges) & (edges <= clip[-1])).any()
        assert {clip[0] // 40 for clip in numbers(drawn.clips)} == {0, 1, 2}
        assert 20 <= drawn.num_there <= 23
        assert (drawn.lengths.there, drawn.lengths.enough) == (1, 1)
        crossed = draw_clips(sources, GEOMETRY, count=99, seed=seed)
        for clip in numbers(crossed.clips):
            crossing += bool(((clip[0] < edges) & (edges <= clip[-1])).any())
    assert crossing  # where nobody looks for cuts
    assert len(list(all_clips(sources, GEOMETRY))) == 36 + 29 + 43
    assert (drawn.lengths.cuts, crossed.lengths.cuts) == (2, 0)
    said = (
        r"0 of 1 video have 50 without a cut \(2 cuts\), the longest has 47 in all; "
        "give --frames 47 or less, or --cuts off"
    )
    with pytest.raises(ReadError, match=said):
        draw_clips(sources, GEOMETRY, count=9, seed=0, num_frames=50, cuts=True)
