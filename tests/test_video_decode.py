"""Damage that the decoder meets: what is given, and that it does not depend on threads."""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest
from clip_files import barcode, read_barcode, write_clip

from ldf_video.errors import ReadError, TruncatedError
from ldf_video.video.geometry import Geometry
from ldf_video.video.read import open_clips

if TYPE_CHECKING:
    from pathlib import Path

NATIVE = Geometry(48, 64)


def _numbers_before_damage(path: Path, *, threads: int) -> list[int]:
    (clip,) = open_clips(path, NATIVE, threads=threads)
    numbers = []
    with pytest.raises(TruncatedError, match=r"^damaged after \d+ frames: the file ends early$"):
        numbers.extend(read_barcode(frame) for frame in clip.frames)
    return numbers


@pytest.mark.parametrize("share", [0.6, 0.7, 0.8, 0.95])
@pytest.mark.parametrize(("name", "options"), [("a.mkv", {}), ("a.mp4", {"movflags": "faststart"})])
def test_a_cut_file_of_uneven_times_gives_the_same_with_any_threads(
    tmp_path: Path, name: str, options: dict[str, str], share: float
) -> None:
    images = [barcode(k) for k in range(40)]
    for k, image in enumerate(images):  # give every frame some weight in the file
        image[:12] = np.random.default_rng(k).integers(0, 256, image[:12].shape)
    chance = random.Random(1)
    pts = np.cumsum([chance.choice([1, 1, 1, 2, 5]) for _ in images]).tolist()
    path = write_clip(tmp_path / name, images, fps=10, pts=pts, container_options=options)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])

    numbers = _numbers_before_damage(path, threads=1)
    assert numbers == list(range(len(numbers)))
    assert 40 * share - 6 < len(numbers) < 40
    for threads in (2, 4, 16):
        assert _numbers_before_damage(path, threads=threads) == numbers


def test_where_no_frame_comes_the_decoder_s_reason_is_told(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.gif", [barcode(1)], codec="gif", pix_fmt="rgb8")
    content = bytearray(path.read_bytes())
    struct.pack_into("<HH", content, 6, 65535, 65535)  # its width and height
    path.write_bytes(content)
    with pytest.raises(ReadError, match=r"^no frame could be decoded: Invalid argument$"):
        next(open_clips(path, NATIVE))


def test_what_follows_the_last_box_of_an_mp4_is_nobody_s(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", [barcode(k) for k in range(20)])
    with path.open("ab") as file:
        file.write(random.Random(9).randbytes(5000))
    (clip,) = open_clips(path, NATIVE)
    assert [read_barcode(frame) for frame in clip.frames] == list(range(20))
