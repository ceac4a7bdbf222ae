"""Margins that Matroska's headers cut off."""

from __future__ import annotations

import io
import random
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from clip_files import LOSSLESS, write_clip, write_margins

from ldf_video.video.geometry import Geometry
from ldf_video.video.margins import Cropper, Margins, matroska_margins
from ldf_video.video.probe import probe
from ldf_video.video.read import open_clips

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MARGINS = Margins(top=6, bottom=2, left=8, right=4)


def _write(path: Path, images: list[NDArray[np.uint8]], margins: Margins) -> Path:
    write_clip(path, images, **LOSSLESS, says_colours=True)
    write_margins(path, **margins._asdict())
    return path


@pytest.mark.parametrize("margins", [MARGINS, Margins(left=1), Margins(top=47)])
@pytest.mark.parametrize("fps", [None, 50])
def test_what_is_cut_off_is_not_shown(tmp_path: Path, margins: Margins, fps: int | None) -> None:
    images = list(np.random.default_rng(0).integers(0, 256, (4, 48, 64, 3), dtype=np.uint8))
    path = _write(tmp_path / "a.mkv", images, margins)
    top, bottom, left, right = margins
    shown = [image[top : 48 - bottom, left : 64 - right] for image in images]
    (clip,) = open_clips(path, Geometry(*shown[0].shape[:2], fps=fps))
    assert np.array_equal(list(clip.frames), np.repeat(shown, 2 if fps else 1, axis=0))
    assert (probe(path).height, probe(path).width) == shown[0].shape[:2]


def _frame(height: int) -> av.VideoFrame:
    frame = av.VideoFrame(64, height, "yuv420p")
    frame.time_base = Fraction(1, 25)
    return frame


def test_rows_that_are_cut_off_count_for_the_matrix() -> None:
    cut = Cropper(Margins(top=92, bottom=92))(_frame(720))
    assert (cut.height, cut.colorspace) == (536, 1)  # BT.709
    cut = Cropper(Margins(top=92, bottom=92))(_frame(718))
    assert (cut.height, cut.colorspace) == (534, 2)  # not said


def test_broken_headers_end_the_search(tmp_path: Path) -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    content = _write(tmp_path / "a.mkv", [image], MARGINS).read_bytes()
    assert matroska_margins(io.BytesIO(content)) == [MARGINS]
    chance = random.Random(0)
    for _ in range(300):
        broken = bytearray(content[: chance.randrange(len(content))])
        for _ in range(min(len(broken), 5)):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        file = io.BytesIO(broken)
        assert isinstance(matroska_margins(file), list)
        assert file.tell() == 0
    assert matroska_margins(io.BytesIO(b"")) == []
