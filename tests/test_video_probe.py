from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest
from clip_files import barcode, write_clip
from PIL import Image

from ldf_video.errors import ReadError
from ldf_video.video.probe import VideoInfo, frame_size, probe
from ldf_video.video.sources import find_sources

if TYPE_CHECKING:
    from pathlib import Path


def test_a_video_is_described(tmp_path: Path) -> None:
    images = [barcode(k) for k in range(31)]
    path = write_clip(tmp_path / "a.mp4", images, fps=Fraction(30), rotation=90)
    assert probe(path) == VideoInfo(
        container="mov,mp4,m4a,3gp,3g2,mj2",
        codec="h264",
        width=64,
        height=48,
        fps=Fraction(30),
        num_frames=31,
        duration_seconds=31 / 30,
        rotation=90,
    )


def test_frames_are_counted_where_the_header_does_not_say(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", [barcode(k) for k in range(7)], pts=[*range(6), 10])
    info = probe(path)
    assert info.num_frames == 7
    assert info.duration_seconds == pytest.approx(11 / 25, abs=2e-3)


def test_a_cut_file_is_described_as_far_as_it_goes(tmp_path: Path) -> None:
    images = [np.random.default_rng(k).integers(0, 256, (48, 64, 3), np.uint8) for k in range(20)]
    path = write_clip(tmp_path / "a.mkv", images, codec="ffv1", pix_fmt="bgr0")
    path.write_bytes(path.read_bytes()[:-30_000])
    info = probe(path)
    assert info.truncated
    assert 10 < info.num_frames < 20


def test_an_array_is_described(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 10, 8, 6, 3), np.uint8))
    info = probe(tmp_path / "a.npy")
    assert info == VideoInfo("npy", "uint8", 6, 8, Fraction(25), 30, 1.2, 0)


def test_no_video_says_why(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    with pytest.raises(ReadError, match=r"^empty file$"):
        probe(tmp_path / "a.mp4")


def test_the_first_frame_has_an_upright_size(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 10, 8, 6, 3), np.uint8))
    write_clip(tmp_path / "b.mp4", [barcode(0)] * 3)
    write_clip(tmp_path / "c.mp4", [barcode(0)] * 3, rotation=90)
    for number in range(3):
        Image.fromarray(barcode(0, height=10, width=20)).save(tmp_path / f"d{number}.png")
    (tmp_path / "e.mp4").touch()
    *sources, bad = find_sources(tmp_path)
    names = [source.name for source in sources]
    assert names == ["a.npy", "b.mp4", "c.mp4", "d*.png"]
    assert [frame_size(source) for source in sources] == [(8, 6), (48, 64), (64, 48), (10, 20)]
    with pytest.raises(ReadError, match=r"^empty file$"):
        frame_size(bad)
