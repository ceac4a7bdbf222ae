"""Pictures with more than 8 bits a channel."""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
from clip_files import frames_of
from PIL import Image

from ldf_video.clips.read import open_clips
from ldf_video.errors import ReadError
from ldf_video.intake.report import Report, merge_reports
from ldf_video.video.colour import over_white
from ldf_video.video.deep import range_note
from ldf_video.video.geometry import Geometry
from ldf_video.video.pictures import read_picture

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

# FFmpeg's names of pixels, each with its channels.
PNGS = [("rgb48be", 3), ("rgba64be", 4), ("ya16be", 2), ("gray16be", 1)]
TIFFS = [("rgb48le", 3), ("rgba64le", 4), ("gray16le", 1)]
ALGORITHMS = ("raw", "lzw", "deflate", "packbits")
FILES: list[tuple[str, str, int, dict[str, str]]] = [
    *(("png", *pixels, options) for pixels in PNGS for options in ({}, {"pred": "mixed"})),
    *(("tiff", *pixels, {"compression_algo": name}) for pixels in TIFFS for name in ALGORITHMS),
]


def _encode(
    path: Path, values: NDArray[np.uint16], codec: str, pix_fmt: str, options: dict[str, str]
) -> Path:
    """Writes (H, W, channels) by FFmpeg: Pillow cannot."""
    context: Any = av.CodecContext.create(codec, "w")
    height, width, _ = values.shape
    context.width, context.height, context.pix_fmt = width, height, pix_fmt
    context.time_base, context.options = Fraction(1, 25), options
    frame = av.VideoFrame(width, height, pix_fmt)
    (plane,) = frame.planes
    rows = np.zeros((height, plane.line_size), np.uint8)
    content = values.astype(">u2" if pix_fmt.endswith("be") else "<u2").view(np.uint8)
    rows[:, : content[0].size] = content.reshape(height, -1)
    plane.update(rows.tobytes())
    path.write_bytes(b"".join(map(bytes, [*context.encode(frame), *context.encode(None)])))
    return path


@pytest.mark.parametrize(("codec", "pix_fmt", "channels", "options"), FILES)
def test_sixteen_bits_are_rounded_whatever_the_channels(
    tmp_path: Path, codec: str, pix_fmt: str, channels: int, options: dict[str, str]
) -> None:
    values = np.random.default_rng(0).integers(0, 2**16, (9, 13, channels)).astype(np.uint16)
    values[0, :7, 0] = [0, 128, 129, 255, 65406, 65407, 65535]
    values[0, :7, 1:] = 65535
    path = _encode(tmp_path / f"a.{codec}", values, codec, pix_fmt, options)
    rounded = np.round(values / 257).astype(np.uint8)
    if channels <= 2:  # grey, and how far it hides white
        rounded = np.concatenate([rounded[..., :1]] * 3 + [rounded[..., 1:]], axis=2)
    expected = over_white(rounded) if rounded.shape[2] == 4 else rounded
    read = read_picture(path)
    assert np.array_equal(read.pixels, expected)
    assert read.pixels[0, :7, 0].tolist() == [0, 0, 1, 1, 254, 255, 255]
    assert read.used == 1


def _write_tiff(path: Path, pages: NDArray[Any], *, sample_format: int = 1) -> Path:
    """Writes pages (N, H, W, channels) raw, with a sign (2) or as floats (3): Pillow cannot."""
    content = struct.pack("<2sHI", b"II", 42, 8)
    for number, page in enumerate(pages):
        height, width, channels = page.shape
        bits = struct.pack(f"<{channels}H", *[8 * page.itemsize] * channels)
        begin = len(content) + 2 + 10 * 12 + 4  # behind the directory
        tags = [
            (256, 4, 1, width),
            (257, 4, 1, height),
            (258, 3, channels, 8 * page.itemsize if channels == 1 else begin),
            (259, 3, 1, 1),
            (262, 3, 1, 1 if channels == 1 else 2),
            (273, 4, 1, begin + len(bits)),
            (277, 3, 1, channels),
            (278, 4, 1, height),
            (279, 4, 1, page.nbytes),
            (339, 3, 1, sample_format),
        ]
        end = begin + len(bits) + page.nbytes
        content += struct.pack("<H", 10) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
        content += struct.pack("<I", end if number + 1 < len(pages) else 0) + bits + page.tobytes()
    path.write_bytes(content)
    return path


def test_every_page_of_a_tiff_is_rounded(tmp_path: Path) -> None:
    pages = np.random.default_rng(0).integers(0, 2**16, (3, 9, 13, 3)).astype("<u2")
    frames = frames_of(_write_tiff(tmp_path / "a.tif", pages), Geometry(9, 13))
    assert np.array_equal(frames, np.round(pages / 257))


@pytest.mark.parametrize(
    ("values", "sample_format", "expected"),
    [
        ([0, 64, 16384, 32767], 2, [0, 0, 128, 255]),  # with a sign: to 32,767
        ([0, 0.002, 0.5, 1], 3, [0, 1, 128, 255]),
    ],
)
def test_signed_numbers_and_floats_are_shares_of_their_range(
    tmp_path: Path, values: list[float], sample_format: int, expected: list[int]
) -> None:
    page = np.array(values, "<i2" if sample_format == 2 else "<f4").reshape(1, 1, 4, 1)
    read = read_picture(_write_tiff(tmp_path / "a.tif", page, sample_format=sample_format))
    assert read.pixels.tolist() == [[[level] * 3 for level in expected]]


@pytest.mark.parametrize(
    ("page", "sample_format", "reason"),
    [
        (np.array([-5, 300], "<i2"), 2, "numbers from -5 to 300"),
        (np.array([0, 255], "<f4"), 3, "numbers from 0 to 255"),
        (np.array([0, np.nan], "<f4"), 3, "numbers from nan to nan"),
        (np.array([0, 70_000], "<i4"), 2, "whole numbers of 32 bits"),
    ],
)
def test_other_numbers_are_refused_with_the_way_on(
    tmp_path: Path, page: NDArray[Any], sample_format: int, reason: str
) -> None:
    path = _write_tiff(tmp_path / "a.tif", page.reshape(1, 1, 2, 1), sample_format=sample_format)
    way_on = "floats from 0 to 1, are read; scale them to one of these"
    with pytest.raises(ReadError, match=f"^{reason}; .*{way_on}$"):
        read_picture(path)


# Dark pictures


def _note(path: Path) -> str:
    (clip,) = open_clips(path, Geometry(4, 4))
    list(clip.frames)
    return clip.note()


def _grey(path: Path, highest: int) -> Path:
    Image.fromarray(np.linspace(0, highest, 16).astype(np.uint16).reshape(4, 4)).save(path)
    return path


def test_pictures_that_use_a_small_part_of_the_range_are_noted(tmp_path: Path) -> None:
    for highest, share, factor in ((4095, "6.2", 16), (1023, "1.6", 64), (7000, "11", 8)):
        note = _note(_grey(tmp_path / "a.png", highest))
        assert note.startswith(f"uses {share} % of the range of its numbers, so its frames are ")
        assert note.endswith(f" -evaluate multiply {factor} *")
    for highest in (0, 20_000, 65_535):
        assert _note(_grey(tmp_path / "a.png", highest)) == ""
    Image.fromarray(np.full((4, 4), 3, np.uint8)).save(tmp_path / "a.png")
    assert _note(tmp_path / "a.png") == ""


def test_a_series_is_noted_once_by_its_lightest(tmp_path: Path) -> None:
    for number, highest in enumerate([1000, 4095, 30]):
        _grey(tmp_path / f"{number}.png", highest)
    assert "6.2 %" in _note(tmp_path)
    _grey(tmp_path / "3.png", 60_000)
    assert _note(tmp_path) == ""
    pages = np.random.default_rng(0).integers(0, 4096, (3, 9, 13, 3)).astype("<u2")
    assert "6.2 %" in _note(_write_tiff(tmp_path / "a.tif", pages))


def test_the_report_says_it_in_a_line() -> None:
    reports = [Report(noted=[(name, range_note(0.06))]) for name in ("b", "a", "c")]
    (line,) = [line for line in merge_reports(reports).lines() if "dark" in line]
    assert line.startswith("  a (and 2 more): uses 6 % of the range of its numbers")
