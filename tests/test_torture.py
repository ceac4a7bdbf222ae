"""The bad files in one run of the reading pipeline; the table of torture.py can say no."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torture
from bad_clips import BadClip, bad_clips, write_bad_clips

from ldf_video.intake.frames_store import store_frames
from ldf_video.progress import Progress
from ldf_video.training.ranks import Ranks
from ldf_video.video.geometry import Geometry


def priority() -> tuple[int, int] | None:
    if not hasattr(os, "sched_getscheduler"):  # Linux has such a call
        return None
    return os.sched_getscheduler(0), os.sched_getparam(0).sched_priority


def test_every_bad_file_becomes_what_it_must(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = priority()
    clips = bad_clips()
    assert len(clips) >= 40
    write_bad_clips(tmp_path / "clips", clips)
    assert priority() == before  # which an encoder takes
    with Progress("read", unit="frames", quiet=False) as progress:
        store_frames(tmp_path / "clips", tmp_path / "frames", Geometry(48, 64), progress, Ranks())
    found = torture.found_in(tmp_path / "frames", "".join(capfd.readouterr()))
    assert [row for row in torture.compare(clips, found, found) if not row.ok] == []


STORED = BadClip("a.mp4", Path.touch, "stored", range(4))
CUT = BadClip("a.mp4", Path.touch, "salvaged", range(4), 2, "^damaged")
UNREADABLE = BadClip("a.mp4", Path.touch, "quarantined", reason="^not a video")
WHOLE = torture.Found("stored", 4, (0, 1, 2, 3))
PREFIX = torture.Found("salvaged", 3, (0, 1, 2), "damaged after 3 frames")
BAD = torture.Found("quarantined", reason="not a video: it is none")


@pytest.mark.parametrize(
    ("clip", "found", "right"),
    [
        (STORED, WHOLE, True),
        (STORED, replace(WHOLE, numbers=(0, 1, 3, 2)), False),
        (STORED, replace(WHOLE, num_frames=3, numbers=(0, 1, 2)), False),
        (STORED, PREFIX, False),
        (STORED, None, False),
        (CUT, PREFIX, True),
        (CUT, WHOLE, False),
        (CUT, replace(WHOLE, outcome="salvaged", reason="damaged"), False),  # then it is whole
        (CUT, replace(PREFIX, num_frames=1, numbers=(0,)), False),
        (CUT, replace(PREFIX, numbers=(1, 2, 3)), False),
        (CUT, replace(PREFIX, reason=""), False),
        (UNREADABLE, BAD, True),
        (UNREADABLE, replace(BAD, reason="empty file"), False),
        (UNREADABLE, PREFIX, False),
        (replace(STORED, outcome="begun"), WHOLE, True),
        (replace(STORED, outcome="begun"), PREFIX, True),
        (replace(STORED, outcome="begun", at_least=4), PREFIX, False),
        (replace(STORED, outcome="any"), replace(WHOLE, numbers=(9, 9, 9, 9)), True),
        (replace(STORED, outcome="any"), BAD, True),
        (replace(STORED, outcome="any"), replace(WHOLE, num_frames=5), False),
        (replace(STORED, outcome="any"), None, False),
        (replace(STORED, outcome="ignored"), None, True),
        (replace(STORED, outcome="ignored"), WHOLE, False),
    ],
)
def test_the_table_says_what_is_right_and_what_is_not(
    clip: BadClip, found: object, right: bool
) -> None:
    assert torture.is_right(clip, found) is right


def test_what_encode_made_otherwise_and_what_nobody_made_is_wrong() -> None:
    def rows(latents: dict) -> list[bool]:
        return [row.ok for row in torture.compare([STORED], {"a.mp4": WHOLE}, latents)]

    assert rows({"a.mp4": replace(WHOLE, numbers=None)}) == [True]
    assert rows({"a.mp4": replace(WHOLE, num_frames=3)}) == [False]
    assert rows({}) == [False]
    assert rows({"a.mp4": WHOLE, "b.mp4": WHOLE}) == [True, False]
