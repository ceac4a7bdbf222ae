"""Long videos: what is cut out of them, however their frames come."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ldf_video.errors import ReadError, TruncatedError
from ldf_video.evaluation import segments
from ldf_video.evaluation.change import Change
from ldf_video.evaluation.clouds import Estimate
from ldf_video.evaluation.figures import Figures
from ldf_video.evaluation.segments import Plan, Rollouts, read_long
from ldf_video.sources.source import Source
from ldf_video.video.geometry import Geometry

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.mark.parametrize("sizes", [[1] * 43, [43], [4] * 11, [20, 1, 30]])
def test_clips_are_evenly_spread_in_each_segment(sizes: list[int]) -> None:
    plan = Plan(skip=3, segments=4, frames=10, num_videos=2, num_frames=3, clips=2)
    assert plan.length == 43
    number, blocks = 0, []
    for size in sizes:
        frames = np.arange(number, number + size)
        blocks.append(np.stack([frames, frames + 100]).astype(np.uint8)[..., None, None, None])
        number += size
    found = [clips[..., 0, 0, 0].tolist() for clips in plan.cut(iter(blocks))]
    first = [[3, 4, 5], [10, 11, 12]]
    expected = [
        [[[n + 10 * s + v for n in clip] for clip in first] for v in (0, 100)] for s in range(4)
    ]
    assert found == expected
    assert [plan.bounds(segment) for segment in (0, 3)] == [(3, 12), (33, 42)]


def test_frames_that_are_not_there_are_not_made_up() -> None:
    plan = Plan(skip=0, segments=3, frames=4, num_videos=1, num_frames=2, clips=1)
    frames = np.zeros((1, 11, 8, 8, 3), np.uint8)
    assert len(list(plan.cut([frames[:, :1]]))) == 0
    assert len(list(plan.cut([frames]))) == 3  # its clip is the segment's first
    assert len(list(plan.cut([frames[:, :5]]))) == 1


def test_as_many_clips_as_share_no_frame() -> None:
    asked = {"length": 400, "skip": 0, "num_videos": 2, "num_frames": 5}
    assert Plan.of(4, **asked, num_clips=1000).num_clips == 2 * 20
    assert Plan.of(4, **asked, num_clips=31).num_clips == 2 * 15
    usual = Plan.of(54, length=None, skip=0, num_videos=None, num_frames=5, num_clips=None)
    assert (usual.length, usual.num_videos, usual.num_clips) == (54_000, 8, 400)


class OneAfterAnother:
    """Stands for a reader: three videos of a source, the third of which is damaged."""

    asked: list[int]

    def __init__(self, geometry: Geometry) -> None:
        type(self).asked = []

    def __enter__(self) -> OneAfterAnother:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def open_clips(self, source: Source) -> Iterator[Any]:
        for number in range(3):
            self.asked.append(number)
            yield SimpleNamespace(frames=self.frames(number))

    def frames(self, number: int) -> Iterator[np.ndarray]:
        yield np.full((8, 8, 3), number, np.uint8)
        if number == 2:
            raise TruncatedError("damaged after 1 frame")


def test_no_more_videos_are_read_than_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "ClipReader", OneAfterAnother)
    source = Source(Path("films"), "a.mp4", 0, 0)

    def read(num_videos: int) -> list[int]:
        plan = Plan(0, 1, 2, num_videos=num_videos, num_frames=2, clips=1)
        videos = read_long([source], Geometry(8, 8), plan)
        return [int(block.max()) for blocks in videos for block in blocks]

    assert read(2) == OneAfterAnother.asked == [0, 1]
    with pytest.raises(ReadError, match=r"^films: a\.mp4: damaged after 1 frame$"):
        read(3)


def test_how_long_figures_stay_within_the_first_ones() -> None:
    plan = Plan(skip=0, segments=3, frames=10, num_videos=2, num_frames=5, clips=2)
    rows = [
        Figures(4, frame=Estimate(value, 0, 20), change=Change(moving, 0, 0))
        for value, moving in ((10, 6), (11.9, 5.1), (12.1, 4.9))
    ]
    found: Any = Rollouts(plan, *[None] * 2).drift(rows)  # type: ignore[arg-type]
    assert found.within == {"frame": 19, "moving %": 19}
    assert found.beyond == {"frame": 1, "moving %": 1}
    found = Rollouts(plan, *[None] * 2).drift([rows[0], rows[2], rows[1]])  # type: ignore[arg-type]
    assert found.within == {"frame": 9, "moving %": 9}
    found = Rollouts(plan, *[None] * 2).drift(rows[:1] * 3)  # type: ignore[arg-type]
    assert found.within == {"frame": 29, "moving %": 29}
    assert found.beyond == {"frame": 0, "moving %": 0}
