"""Margins that Matroska's headers cut off."""

from __future__ import annotations

import io
import random
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest

from ldf_video.video.geometry import Geometry
from ldf_video.video.margins import Margins, matroska_margins
from ldf_video.video.probe import probe
from ldf_video.video.read import open_clips

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MARGINS = Margins(top=6, bottom=2, left=8, right=4)
IDS = {"top": b"\x54\xbb", "bottom": b"\x54\xaa", "left": b"\x54\xcc", "right": b"\x54\xdd"}


def _write(path: Path, images: list[NDArray[np.uint8]], margins: Margins) -> Path:
    """Bit for bit; the margins take the place of what Matroska says of the colours."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = *images[0].shape[:2], "bgr0"
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.color_range = 1, 1, 2
        context.colorspace = 1
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    content = path.read_bytes()
    begin = content.index(b"\x55\xb0")  # Colour, and its size in one byte
    size = 3 + (content[begin + 2] & 0x7F)
    crops = b"".join(
        IDS[side] + bytes([0x81, value]) for side, value in margins._asdict().items() if value
    )
    void = size - len(crops) - 2
    fields = crops + b"\xec" + bytes([0x80 | void]) + bytes(void)
    path.write_bytes(content[:begin] + fields + content[begin + size :])
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
