"""What becomes of a decoded frame: part, size, levels, colours, transparency, orientation."""

from __future__ import annotations

import io
import json
import random
import sys
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from clip_files import LOSSLESS, barcode, frames_of, noise, numbers_of, write_clip, write_margins
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ldf_video.clips.probe import probe
from ldf_video.errors import UsageError
from ldf_video.video.colour import to_sdr
from ldf_video.video.geometry import Box, Geometry
from ldf_video.video.headers import Margins, read_headers
from ldf_video.video.presentation import (
    Cropper,
    Orientation,
    Resizer,
    frame_orientation,
    matrix_orientation,
    upright,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

# The part of a frame


def test_settings_survive_json_and_name_everything() -> None:
    settings = Geometry(32, 48, crop="none", fps=Fraction(30)).settings()
    expected = {"height": 32, "width": 48, "crop": "none", "filter": "area", "fps": "30/1"}
    assert json.loads(json.dumps(settings)) == expected


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        *((size, "sides from 1 to 4096") for size in ((0, 32), (32, -1), (4097, 32))),
        ((32, 32, "centre", Fraction(0)), "more than 0"),
        ((32, 32, "left"), "centre or none"),
    ],
)
def test_settings_out_of_range_are_refused(settings: tuple[Any, ...], expected: str) -> None:
    with pytest.raises(UsageError, match=f"expected {expected}"):
        Geometry(*settings)


@pytest.mark.parametrize(
    ("source", "ratio", "target", "box"),
    [
        ((720, 1280), Fraction(1), (32, 32), Box(0, 280, 720, 720)),
        ((210, 160), Fraction(1), (32, 32), Box(25, 0, 160, 160)),
        ((33, 32), Fraction(1), (32, 32), Box(0, 0, 32, 32)),
        ((48, 64), Fraction(1), (48, 64), Box(0, 0, 48, 64)),
        ((100, 100), Fraction(1), (9, 16), Box(22, 0, 56, 100)),
        ((1, 1), Fraction(1), (16, 9), Box(0, 0, 1, 1)),
        # As television has it: 720 x 576 shown as 1024 x 576 (16:9) and as 768 x 576 (4:3).
        ((576, 720), Fraction(64, 45), (32, 32), Box(0, 157, 576, 405)),
        ((576, 720), Fraction(16, 15), (32, 32), Box(0, 90, 576, 540)),
        ((576, 720), Fraction(64, 45), (36, 64), Box(0, 0, 576, 720)),
        ((576, 720), Fraction(16, 15), (36, 64), Box(72, 0, 432, 720)),
        # Upright pixels, as of a turned phone: shown 160 x 180.
        ((180, 320), Fraction(1, 2), (32, 32), Box(10, 0, 160, 320)),
        ((100, 100), Fraction(2), (50, 100), Box(0, 0, 100, 100)),
        ((3, 5), Fraction(8), (32, 32), Box(0, 2, 3, 1)),
    ],
)
def test_the_box_is_the_largest_centred_part_of_what_is_shown(
    source: tuple[int, int], ratio: Fraction, target: tuple[int, int], box: Box
) -> None:
    assert Geometry(*target).box(*source, sample_aspect_ratio=ratio) == box
    whole = Geometry(*target, crop="none").box(*source, sample_aspect_ratio=ratio)
    assert whole == Box(0, 0, *source)


SIDES = st.integers(1, 4096)


@given(SIDES, SIDES, SIDES, SIDES, st.fractions(Fraction(1, 8), Fraction(8), max_denominator=99))
def test_a_box_lies_inside_and_has_the_target_s_shape_to_half_a_pixel(
    source_height: int, source_width: int, height: int, width: int, ratio: Fraction
) -> None:
    box = Geometry(height, width).box(source_height, source_width, sample_aspect_ratio=ratio)
    assert (box.top, box.left) == (
        (source_height - box.height) // 2,
        (source_width - box.width) // 2,
    )
    shape = Fraction(width, height) / ratio  # columns a row
    most = min(source_height, source_width / shape), min(source_width, source_height * shape)
    for side, exact in zip((box.height, box.width), most, strict=True):
        assert side == 1 or abs(side - exact) <= Fraction(1, 2)


# Levels

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


@pytest.mark.parametrize(("pix_fmt", "bits"), [("gray", 8), ("gray10le", 10), ("gray16le", 16)])
def test_grey_levels_are_kept(pix_fmt: str, bits: int) -> None:
    grey = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) % 256
    levels = (grey << (bits - 8) | grey >> (16 - bits)).astype("<u2" if bits > 8 else np.uint8)
    frame = av.VideoFrame(64, 48, pix_fmt)
    frame.planes[0].update(levels.tobytes())
    image = Resizer(Geometry(48, 64))(frame)
    assert np.abs(image.astype(int) - grey[..., None]).max() <= 1


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
    image = noise(720, 64, 3)
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


@pytest.mark.parametrize(("pix_fmt", "dtype"), [("ya8", "u1"), ("ya16le", "<u2")])
def test_transparent_grey_is_laid_over_white(pix_fmt: str, dtype: str) -> None:
    frame = av.VideoFrame(3, 1, pix_fmt)
    pairs = np.array([[100, 255], [100, 51], [100, 0]]) * (1 if pix_fmt == "ya8" else 257)
    data = pairs.astype(dtype).tobytes()
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


# High dynamic range

PQ, HLG = 16, 18
HDR = pytest.mark.parametrize("transfer", [PQ, HLG])
WHITE_NITS = 203
# sRGB as graded, and light in nits of linear BT.709 from its definition (IEC 61966-2-1).
PATCHES = [
    (255, 255, 255),
    (188, 188, 188),
    (128, 128, 128),
    (64, 64, 64),
    (0, 0, 0),
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (200, 140, 110),
    (60, 110, 200),
]
# ITU-R BT.2087-0, M2: linear BT.709 to linear BT.2020.
TO_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
LUMA_2020 = np.array([0.2627, 0.6780, 0.0593])


def _nits(srgb: Sequence[int]) -> NDArray[np.float64]:
    """Light (3,) of BT.2020's primaries."""
    signal = np.array(srgb) / 255
    linear = np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)
    return TO_2020 @ linear * WHITE_NITS


def _signal(nits: NDArray[np.float64], transfer: int) -> NDArray[np.float64]:
    """ITU-R BT.2100-2: the inverse EOTF of PQ; of HLG the inverse OOTF (1,000 nits), the OETF."""
    if transfer == PQ:
        y = (nits / 10_000) ** (2610 / 16384)
        c1, c2, c3 = 3424 / 4096, 2413 / 128, 2392 / 128
        return np.asarray(((c1 + c2 * y) / (1 + c3 * y)) ** (2523 / 32))
    luminance = max(float(nits @ LUMA_2020), 1e-9) / 1000
    scene = nits / 1000 * luminance ** ((1 - 1.2) / 1.2)
    log = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), log)


def _write_hdr(
    path: Path,
    signals: Sequence[NDArray[np.float64]],
    transfer: int,
    *,
    pix_fmt: str,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
) -> Path:
    """A frame a signal (3,), flat, limited range, 10 bits, BT.2020 non-constant luminance."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options or {"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc = 9, 9, transfer
        for signal in signals:
            y = signal @ LUMA_2020
            chroma = (signal[2] - y) / 1.8814, (signal[0] - y) / 1.4746
            codes = [round(876 * y + 64), *(round(896 * c + 512) for c in chroma)]
            frame = av.VideoFrame(64, 48, pix_fmt)
            for plane, code in zip(frame.planes, codes, strict=True):
                plane.update(np.full(plane.buffer_size // 2, code, np.uint16).tobytes())
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@HDR
@pytest.mark.parametrize("patch", PATCHES)
def test_patches_come_out_as_graded(patch: tuple[int, ...], transfer: int) -> None:
    codes = np.round(_signal(_nits(patch), transfer) * 65535).astype(np.uint16)
    assert np.abs(to_sdr(codes[None, None], transfer)[0, 0].astype(int) - patch).max() <= 1


@pytest.mark.parametrize(("nits", "pq", "hlg"), [(26, 38, 38), (162, 56, 71), (179, 57, 73)])
def test_test_charts_come_out_as_they_reflect(nits: int, pq: int, hlg: int) -> None:
    """ITU-R BT.2408-7, table 1, whose percentages are rounded."""
    expected = 255 * (1.055 * (nits / WHITE_NITS) ** (1 / 2.4) - 0.055)
    for transfer, percent in ((PQ, pq), (HLG, hlg)):
        codes = np.full((1, 1, 3), round(percent / 100 * 65535), np.uint16)
        assert np.abs(to_sdr(codes, transfer).astype(float) - expected).max() <= 4


@HDR
@pytest.mark.parametrize("pix_fmt", ["yuv420p10le", "yuv444p10le"])
@pytest.mark.parametrize("size", [(12, 16), (48, 64), (96, 128)])
def test_films_come_out_as_graded(
    tmp_path: Path, transfer: int, pix_fmt: str, size: tuple[int, int]
) -> None:
    patches = [patch for patch in PATCHES if patch != (0, 255, 0)]
    signals = [_signal(_nits(patch), transfer) for patch in patches]
    path = _write_hdr(tmp_path / "a.mkv", signals, transfer, pix_fmt=pix_fmt)
    for patch, frame in zip(patches, frames_of(path, Geometry(*size)), strict=True):
        assert np.abs(frame.astype(int) - patch).max() <= 6


@HDR
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_what_the_container_alone_says_counts(tmp_path: Path, name: str, transfer: int) -> None:
    said_nothing = "log-level=none:lossless=1:colorprim=2:transfer=2:colormatrix=2"
    path = _write_hdr(
        tmp_path / name,
        [_signal(_nits((200, 140, 110)), transfer)] * 3,
        transfer,
        pix_fmt="yuv420p10le",
        codec="libx265",
        options={"x265-params": said_nothing},
    )
    frames = np.stack(frames_of(path, Geometry(12, 16))).astype(int)
    assert np.abs(frames - (200, 140, 110)).max() <= 2


@HDR
def test_light_above_white_is_white_and_keeps_its_hue(transfer: int) -> None:
    for nits in (203.5, 500, 1000):
        codes = np.round(_signal(np.full(3, nits), transfer) * 65535).astype(np.uint16)
        assert to_sdr(codes[None, None], transfer).tolist() == [[[255] * 3]]
    orange = np.round(_signal(_nits((255, 128, 0)) * 4, transfer) * 65535).astype(np.uint16)
    assert np.abs(to_sdr(orange[None, None], transfer)[0, 0].astype(int) - (255, 128, 0)).max() <= 1


# Margins that Matroska's headers cut off

MARGINS = Margins(top=6, bottom=2, left=8, right=4)


def _write_cut(path: Path, images: list[NDArray[np.uint8]], margins: Margins) -> Path:
    write_clip(path, images, **LOSSLESS, says_colours=True)
    write_margins(path, **margins._asdict())
    return path


@pytest.mark.parametrize("margins", [MARGINS, Margins(left=1), Margins(top=47)])
@pytest.mark.parametrize("fps", [None, 50])
def test_what_is_cut_off_is_not_shown(tmp_path: Path, margins: Margins, fps: int | None) -> None:
    images = list(noise(4, 48, 64, 3))
    path = _write_cut(tmp_path / "a.mkv", images, margins)
    top, bottom, left, right = margins
    shown = [image[top : 48 - bottom, left : 64 - right] for image in images]
    frames = frames_of(path, Geometry(*shown[0].shape[:2], fps=fps))
    assert np.array_equal(frames, np.repeat(shown, 2 if fps else 1, axis=0))
    assert (probe(path).height, probe(path).width) == shown[0].shape[:2]


@pytest.mark.parametrize(("rows", "matrix"), [(720, BT709), (718, UNTAGGED)])
def test_rows_that_are_cut_off_count_for_the_matrix(rows: int, matrix: int) -> None:
    frame = av.VideoFrame(64, rows, "yuv420p")
    frame.time_base = Fraction(1, 25)
    cut = Cropper(Margins(top=92, bottom=92))(frame)
    assert (cut.height, cut.colorspace) == (rows - 184, matrix)


def test_broken_headers_end_the_search(tmp_path: Path) -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    content = _write_cut(tmp_path / "a.mkv", [image], MARGINS).read_bytes()
    assert read_headers(io.BytesIO(content)).margins == [MARGINS]
    chance = random.Random(0)
    for _ in range(300):
        broken = bytearray(content[: chance.randrange(len(content))])
        for _ in range(min(len(broken), 5)):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        file = io.BytesIO(broken)
        read_headers(file)
        assert file.tell() == 0
    assert read_headers(io.BytesIO(b"")).margins == ()


# The eight ways in which a stored picture may stand

IMAGE = noise(32, 64, 3)
# EXIF's tag: a, b, c, d of the display matrix with the same meaning.
DISPLAY_MATRICES = {
    1: (1, 0, 0, 1),
    2: (-1, 0, 0, 1),
    3: (-1, 0, 0, -1),
    4: (1, 0, 0, -1),
    5: (0, 1, 1, 0),
    6: (0, 1, -1, 0),
    7: (0, -1, -1, 0),
    8: (0, -1, 1, 0),
}


def _shown(image: np.ndarray, a: int, b: int, c: int, d: int) -> np.ndarray:
    """Moves each pixel to where the matrix shows it (ISO/IEC 14496-12, 6.2.2), from 0 on."""
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    x, y = a * columns + c * rows, b * columns + d * rows
    x, y = x - x.min(), y - y.min()
    shown = np.zeros((y.max() + 1, x.max() + 1, 3), np.uint8)
    shown[y, x] = image
    return shown


@pytest.mark.parametrize("tag", range(1, 9))
def test_all_display_matrices_are_applied(tmp_path: Path, tag: int) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264rgb", rate=25, options={"qp": "0"})
        stream.height, stream.width, stream.pix_fmt = 32, 64, "rgb24"
        # By its own words: the rotation first, counter-clockwise, then the mirror.
        degrees = {5: 90, 6: 270, 7: 90, 8: 90, 3: 180, 4: 0}.get(tag, 0)
        stream.set_display_rotation(degrees, hflip=tag in (2, 7), vflip=tag in (4, 5))
        container.mux(stream.encode(av.VideoFrame.from_ndarray(IMAGE, format="rgb24")))
        container.mux(stream.encode())
    expected = _shown(IMAGE, *DISPLAY_MATRICES[tag])
    assert np.array_equal(frames_of(tmp_path / "a.mp4", Geometry(*expected.shape[:2])), [expected])


@pytest.mark.parametrize(
    ("degrees", "turns"), [(0, 0), (90, 1), (-90, 3), (180, 2), (-180, 2), (44, 0), (46, 1)]
)
def test_other_angles_count_as_the_nearest_quarter_turn(degrees: int, turns: int) -> None:
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    orientation = matrix_orientation([cos, -sin, 0, sin, cos, 0, 0, 0, 1])
    assert np.array_equal(upright(IMAGE, orientation), np.rot90(IMAGE, turns))


def test_looking_keeps_no_frame_alive() -> None:
    frame = av.VideoFrame(64, 48, "yuv420p")
    holders = sys.getrefcount(frame)
    assert frame_orientation(frame) == Orientation()
    assert sys.getrefcount(frame) == holders


def test_motion_jpeg_with_exif_comes_upright(tmp_path: Path) -> None:
    # Of FFmpeg's kinds of side data PyAV 18 does not know EXIF, as cameras write it.
    exif, jpeg = Image.Exif(), io.BytesIO()
    exif[271], exif[274] = "a camera", 6
    turned = Image.fromarray(barcode(5)).transpose(Image.Transpose.ROTATE_90)
    turned.save(jpeg, "JPEG", exif=exif, quality=95)
    with av.open(str(tmp_path / "a.avi"), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = *turned.size, "yuvj420p"
        for number in range(3):
            packet = av.Packet(jpeg.getvalue())
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            packet.pts = packet.dts = number
            container.mux(packet)
    assert numbers_of(tmp_path / "a.avi") == [5, 5, 5]
