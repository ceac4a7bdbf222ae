"""What writes the tests' clips leaves this process as it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from clip_files import barcode, write_clip


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="Linux has such a call")
def test_an_encoder_that_takes_real_time_priority_gives_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SVT_LOG", "1")
    before = os.sched_getscheduler(0), os.sched_getparam(0).sched_priority
    images = [barcode(number, height=64) for number in range(12)]
    write_clip(tmp_path / "av1.mp4", images, codec="libsvtav1", codec_options={"preset": "11"})
    assert (os.sched_getscheduler(0), os.sched_getparam(0).sched_priority) == before
