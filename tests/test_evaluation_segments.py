"""Long videos: what is cut out of them, however their frames come."""

from __future__ import annotations

import numpy as np
import pytest

from ldf_video.evaluation.segments import Plan


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
