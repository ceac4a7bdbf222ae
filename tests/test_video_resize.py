"""Levels and colours of every kind of pixel that films come in, at every size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter

from ldf_video.video.geometry import Geometry
from ldf_video.video.resize import Resizer, has_alpha

if TYPE_CHECKING:
    from numpy.typing import NDArray

BT601, BT709, UNTAGGED = 5, 1, 2
MATRICES = {BT601: (0.299, 0.114), BT709: (0.2126, 0.0722)}  # the shares of red and blue in luma
PIX_FMTS = [
    *("yuv420p", "yuv422p", "yuv444p", "nv12", "nv16", "yuyv422", "uyvy422", "yuv411p", "yuv440p"),
    *("yuv420p10le", "yuv422p10le", "yuv444p10le", "yuv420p12le", "p010le", "p210le", "yuva420p"),
]


def _rgb(yuv: NDArray[np.uint8], matrix: int, *, full: bool) -> NDArray[np.float64]:
    """Exact RGB (H, W, 3), in [0, 255], of 8-bit codes (3, H, W): BT.709-6, items 3.2 to 3.4."""
    red, blue = MATRICES[matrix]
    y, cb, cr = yuv.astype(float)
    y, scale = (y / 255, 255) if full else ((y - 16) / 219, 224)
    cb, cr = (cb - 128) / scale, (cr - 128) / scale
    r, b = y + 2 * (1 - red) * cr, y + 2 * (1 - blue) * cb
    g = (y - red * r - blue * b) / (1 - red - blue)
    return 255 * np.clip(np.stack([r, g, b], -1), 0, 1)


def _frame(
    yuv: NDArray[np.uint8], pix_fmt: str, *, matrix: int = BT709, full: bool = False
) -> av.VideoFrame:
    """Codes (3, H, W), equal within each chroma sample, as a frame of `pix_fmt`: only repacked."""
    frame = av.VideoFrame.from_ndarray(yuv, format="yuv444p", channel_last=False)
    frame.colorspace, frame.color_range = BT709, 2 if full else 1
    packed = VideoReformatter().reformat(frame, format=pix_fmt, interpolation="POINT", threads=1)
    packed.colorspace, packed.color_range = matrix, 2 if full else 1
    return packed


def _blocks(codes: NDArray[np.integer], *, height: int = 64) -> NDArray[np.uint8]:
    """Codes (3, 16, 16) as (3, height, 64), 4 x 4 pixels each."""
    return codes.astype(np.uint8).repeat(4, 1).repeat(4, 2)[:, :height]


GREYS = _blocks(np.stack([np.arange(256), np.full(256, 128), np.full(256, 128)]).reshape(3, 16, 16))
COLOURS = _blocks(np.random.default_rng(0).integers(60, 200, (3, 16, 16)))


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("pix_fmt", PIX_FMTS)
def test_at_its_own_size_levels_are_exact_and_chroma_is_not_smeared(
    pix_fmt: str, full: bool
) -> None:
    for codes, most in ((GREYS, 1.01), (COLOURS, 3)):
        image = Resizer(Geometry(64, 64))(_frame(codes, pix_fmt, full=full))
        assert np.abs(image - _rgb(codes, BT709, full=full)).max() <= most
    for height in (63, 64):
        white = np.full((3, height, 64), 128, np.uint8)
        white[0] = 255 if full else 235
        assert (Resizer(Geometry(height, 64))(_frame(white, pix_fmt, full=full)) == 255).all()


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("pix_fmt", PIX_FMTS)
def test_enlarged_and_reduced_levels_are_exact(pix_fmt: str, full: bool) -> None:
    for codes in (GREYS, COLOURS):
        expected = _rgb(codes, BT709, full=full)
        large = Resizer(Geometry(128, 128))(_frame(codes, pix_fmt, full=full))
        # The middles of enlarged blocks: between them it interpolates.
        middles = np.flatnonzero(np.isin(np.arange(128) % 8, (3, 4)))
        middle = large[np.ix_(middles, middles)]
        assert np.abs(middle - expected[np.ix_(middles // 2, middles // 2)]).max() <= 4
        small = Resizer(Geometry(16, 16))(_frame(codes, pix_fmt, full=full))
        assert np.abs(small - expected[::4, ::4]).max() <= 2


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p10le", "nv12"])
@pytest.mark.parametrize(
    ("tag", "height", "matrix"),
    [
        (UNTAGGED, 716, BT601),
        (UNTAGGED, 720, BT709),
        (UNTAGGED, 1080, BT709),
        (BT601, 720, BT601),
        (BT709, 480, BT709),
    ],
)
def test_untagged_films_are_bt_709_from_720_rows_on(
    pix_fmt: str, tag: int, height: int, matrix: int
) -> None:
    codes = np.empty((3, height, 64), np.uint8)
    codes[:] = np.array([60, 110, 220])[:, None, None]
    frame = _frame(codes, pix_fmt, matrix=tag)
    for geometry in (Geometry(32, 32), Geometry(height, 64)):
        image = Resizer(geometry)(frame)
        assert np.abs(image - _rgb(codes[:, :1, :1], matrix, full=False)).max() <= 3
    assert frame.colorspace == tag


def test_large_rgb_has_no_matrix() -> None:
    image = np.random.default_rng(0).integers(0, 256, (720, 64, 3), dtype=np.uint8)
    frame = av.VideoFrame.from_ndarray(image, format="rgb24")
    assert np.array_equal(Resizer(Geometry(720, 64))(frame), image)


# Transparency: a colour whole, at a fifth, not at all, and the white that shows through.
PARTS = [(255, (0, 100, 255)), (51, (204, 224, 255)), (0, (255, 255, 255))]
ALPHA = np.zeros((48, 48, 4), np.uint8)
ALPHA[..., :3] = (0, 100, 255)
for _part, (_alpha, _) in enumerate(PARTS):
    ALPHA[:, 16 * _part : 16 * _part + 16, 3] = _alpha
ALPHA_PIX_FMTS = [
    *("rgba", "bgra", "argb", "gbrap", "rgba64le", "gbrap16le", "yuva420p", "yuva444p"),
    *("yuva422p10le", "yuva444p10le", "yuva444p12le", "yuva444p16le", "ayuv64le"),
]


@pytest.mark.parametrize("size", [24, 48, 96])
@pytest.mark.parametrize("pix_fmt", ALPHA_PIX_FMTS)
def test_what_is_transparent_is_laid_over_white(pix_fmt: str, size: int) -> None:
    frame = av.VideoFrame.from_ndarray(ALPHA, format="rgba")
    frame = frame.reformat(format=pix_fmt, threads=1)  # with several, it may differ
    image = Resizer(Geometry(size, size))(frame)
    for part, (_, expected) in enumerate(PARTS):
        assert np.abs(image[:, (2 * part + 1) * size // 6].astype(int) - expected).max() <= 3


@pytest.mark.parametrize("pix_fmt", ["ya8", "ya16le"])
def test_transparent_grey_is_laid_over_white(pix_fmt: str) -> None:
    whole = 255 if pix_fmt == "ya8" else 65535
    frame = av.VideoFrame(3, 1, pix_fmt)
    pairs = np.array([[100, 255], [100, 51], [100, 0]]) * (whole // 255)
    data = pairs.astype(np.uint8 if pix_fmt == "ya8" else "<u2").tobytes()
    frame.planes[0].update(data.ljust(frame.planes[0].buffer_size, b"\0"))
    assert Resizer(Geometry(1, 3))(frame)[0, :, 0].tolist() == [100, 224, 255]


def test_a_transparent_entry_of_a_palette_is_white() -> None:
    frame = av.VideoFrame(4, 1, "pal8")
    frame.planes[0].update(bytes([0, 1, 2, 0]).ljust(frame.planes[0].buffer_size, b"\0"))
    palette = np.zeros(256, "<u4")
    palette[:3] = 0xFF0064FF, 0x330064FF, 0x000064FF  # alpha, red, green, blue
    frame.planes[1].update(palette.tobytes().ljust(frame.planes[1].buffer_size, b"\0"))
    image = Resizer(Geometry(1, 4))(frame)
    assert image[0].tolist() == [[0, 100, 255], [204, 224, 255], [255, 255, 255], [0, 100, 255]]


def test_only_some_pixels_may_be_transparent() -> None:
    assert all(map(has_alpha, ["yuva420p", "ya8", "pal8", "rgba64be", "gbrapf32le"]))
    assert not any(map(has_alpha, ["yuv420p", "gray", "bgr0", "rgb24", "p010le"]))
