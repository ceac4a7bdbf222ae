from __future__ import annotations

import os
import re
import struct
import tracemalloc
import zlib
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from clip_files import barcode, read_barcode, salvaged_of, write_clip
from heif_files import write_tiles
from PIL import Image, PngImagePlugin

from ldf_video.clips.read import open_clips
from ldf_video.errors import ReadError
from ldf_video.video import pictures
from ldf_video.video.colour import over_white
from ldf_video.video.deep import low_bytes
from ldf_video.video.geometry import Geometry
from ldf_video.video.pictures import read_picture

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

NATIVE = Geometry(48, 64)
CODE = 0b10011010
IMAGE = barcode(CODE)
COLOURS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def _read(path: Path) -> NDArray[np.uint8]:
    return read_picture(path).pixels


def _numbers(path: Path) -> list[int]:
    (clip,) = open_clips(path, NATIVE)
    return [read_barcode(image) for image in clip.frames]


def _saved(path: Path, image: Image.Image, **options: object) -> Path:
    path.parent.mkdir(exist_ok=True)
    image.save(path, **options)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *(("a.png", {}), ("a.bmp", {}), ("a.tif", {}), ("a.webp", {"lossless": True})),
        ("a.tiff", {"big_tiff": True}),
        ("a.png", {"format": "BMP"}),  # the content decides, not the name
    ],
)
def test_lossless_pictures_come_out_bit_for_bit(
    tmp_path: Path, name: str, options: dict[str, object]
) -> None:
    path = _saved(tmp_path / name, Image.fromarray(COLOURS), **options)
    assert np.array_equal(_read(path), COLOURS)
    assert "big_tiff" not in options or path.read_bytes()[2] == 43


@pytest.mark.parametrize(
    ("name", "image", "expected"),
    [
        ("a.png", Image.fromarray(COLOURS[..., 0]), np.repeat(COLOURS[..., :1], 3, axis=2)),
        ("a.png", Image.fromarray(IMAGE).convert("1"), IMAGE),
        ("a.png", Image.fromarray(IMAGE).convert("P", palette=Image.Palette.ADAPTIVE), IMAGE),
        ("a.tif", Image.new("CMYK", (1, 1), (255, 0, 0, 0)), [[[0, 255, 255]]]),  # no alpha
    ],
    ids=["grey", "black and white", "palette", "cmyk"],
)
def test_all_colours_become_rgb(
    tmp_path: Path, name: str, image: Image.Image, expected: object
) -> None:
    assert np.array_equal(_read(_saved(tmp_path / name, image)), expected)


def test_what_is_transparent_is_laid_over_white(tmp_path: Path) -> None:
    image = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 100, 255, 51]]], np.uint8)
    expected = [[[10, 20, 30], [255, 255, 255], [204, 224, 255]]]
    assert over_white(image).tolist() == expected
    for name, options in (("a.png", {}), ("a.webp", {"lossless": True, "exact": True})):
        path = _saved(tmp_path / name, Image.fromarray(image), **options)
        assert _read(path).tolist() == expected


def test_a_transparent_palette_entry_is_white(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1]], np.uint8))
    image.putpalette([200, 0, 0, 0, 200, 0])
    read = _read(_saved(tmp_path / "a.png", image, transparency=1))
    assert read.tolist() == [[[200, 0, 0], [255, 255, 255]]]


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("orientation", range(10))  # of which 0 and 9 mean nothing
def test_exif_s_orientation_is_applied(
    tmp_path: Path, name: str, mode: str, orientation: int
) -> None:
    upright = Image.fromarray(COLOURS).convert(mode)
    # What was done to the upright picture, and the tag that undoes it (Exif 2.32, tag 274).
    stored = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,  # counter-clockwise; shown after a clockwise turn
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }.get(orientation)
    exif = Image.Exif()
    exif[274] = orientation
    image = upright if stored is None else upright.transpose(stored)
    options = {"lossless": True} if name == "a.webp" else {}
    read = _read(_saved(tmp_path / name, image, exif=exif, **options))
    assert np.array_equal(read, np.asarray(upright.convert("RGB")))


def test_what_is_behind_a_photograph_is_no_frame(tmp_path: Path) -> None:
    photograph, other = (Image.fromarray(barcode(k)) for k in (5, 6))
    path = _saved(tmp_path / "a.jpg", photograph, quality=95)
    film = write_clip(tmp_path / "a.mp4", [barcode(6)] * 3).read_bytes()
    path.write_bytes(path.read_bytes() + film)
    assert _numbers(path) == [5]
    views = {"format": "MPO", "save_all": True, "append_images": [other]}
    assert _numbers(_saved(tmp_path / "b.jpg", photograph, quality=95, **views)) == [5]


def test_a_stream_of_jpegs_is_still_a_video(tmp_path: Path) -> None:
    one = tmp_path / "one.jpg"
    parts = [_saved(one, Image.fromarray(barcode(k))).read_bytes() for k in range(3)]
    (tmp_path / "a.mjpeg").write_bytes(b"".join(parts))
    assert _numbers(tmp_path / "a.mjpeg") == [0, 1, 2]


def _cut(path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8))
    path.write_bytes(_saved(path, image).read_bytes()[:2000])


def _script(path: Path) -> None:
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")


@pytest.mark.parametrize(
    ("name", "make", "reason"),
    [
        ("a.png", lambda path: path.touch(), "^empty file$"),
        ("a.png", lambda path: path.write_text("notes"), "^not a PNG, JPEG, BMP, TIFF, WebP,"),
        ("a.png", _script, "^not a PNG, JPEG, BMP, TIFF, WebP,"),  # Pillow would run it
        ("a.png", lambda path: None, "^cannot be read: No such file or directory$"),
        *((f"a.{suffix}", _cut, "^cannot be read: ") for suffix in ("png", "jpg", "webp")),
        ("a.bmp", lambda path: path.write_bytes(b"BM" + bytes(60)), "^cannot be read: "),
        ("a.tif", lambda path: path.write_bytes(b"II*\0" + bytes(60)), "^cannot be read: "),
        (
            "a.png",
            lambda path: Image.new("1", (2**14, 2**14)).save(path),
            "^a frame of 16384x16384 pixels; at most 67,108,864 are read$",
        ),
        (
            "a.tif",
            lambda path: Image.fromarray(np.zeros((4, 4), np.int32)).save(path),
            "^whole numbers of 32 bits; 8 or 16 bits without a sign, and floats from 0 to 1, are ",
        ),
    ],
)
def test_what_is_no_picture_says_why(
    tmp_path: Path, name: str, make: Callable[[Path], object], reason: str
) -> None:
    make(tmp_path / name)
    with pytest.raises(ReadError, match=reason):
        _read(tmp_path / name)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.tif", "a.webp"])
def test_flipped_bytes_raise_nothing_but_read_errors(tmp_path: Path, name: str) -> None:
    path = _saved(tmp_path / name, Image.fromarray(barcode(CODE, height=12, width=16)))
    content = path.read_bytes()
    outcomes, reasons = set(), []
    for position in range(0, len(content), 1 + len(content) // 500):
        broken = bytearray(content)
        broken[position] ^= 0xFF
        path.write_bytes(broken)
        try:
            outcomes.add(_read(path).dtype)
        except ReadError as error:
            outcomes.add(ReadError)
            reasons.append(str(error))
    assert outcomes == {np.dtype(np.uint8), ReadError}
    assert not any("\n" in reason for reason in reasons)


# Pages


def _stack(path: Path, images: list[Image.Image], **options: object) -> Path:
    return _saved(path, images[0], save_all=True, append_images=images[1:], **options)


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (lambda image: image[..., 0], {}),
        (lambda image: image[..., 0].astype(np.uint16) * 257, {}),
        (lambda image: image, {"compression": "tiff_lzw"}),
        (lambda image: image, {"big_tiff": True}),
    ],
    ids=["grey", "deep", "rgb", "large form"],
)
def test_the_pages_of_a_tiff_are_frames(
    tmp_path: Path, change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]], options: dict
) -> None:
    images = [Image.fromarray(change(barcode(k))) for k in range(9)]
    assert _numbers(_stack(tmp_path / "movie_1.tif", images, **options)) == list(range(9))


def test_a_smaller_version_of_a_page_is_no_frame(tmp_path: Path) -> None:
    small = Image.fromarray(barcode(99, height=24, width=32))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    pages = [Image.fromarray(barcode(5)), small, Image.fromarray(barcode(6))]
    assert _numbers(_stack(tmp_path / "a.tif", pages)) == [5, 6]
    for number in (1, 2):  # one page each
        _stack(tmp_path / "series" / f"{number}.tif", pages[:2])
    assert _numbers(tmp_path / "series") == [5, 5]


def test_pages_may_differ_in_size_and_a_damaged_one_is_left_out(tmp_path: Path) -> None:
    pages = [Image.fromarray(barcode(k, height=48 << k, width=64 << k)) for k in range(3)]
    path = _stack(tmp_path / "a.tif", pages, compression="tiff_lzw")
    assert _numbers(path) == [0, 1, 2]
    with Image.open(path) as image:
        image.seek(1)
        (position,) = image.tag_v2[273][:1]
    content = bytearray(path.read_bytes())
    content[position : position + 40] = b"\xff" * 40
    path.write_bytes(content)
    frames, damage = salvaged_of(path)
    assert [read_barcode(frame) for frame in frames] == [0, 2]
    assert re.fullmatch(r"damaged after 1 frame: cannot be read: .*; 1 more read", damage)


@pytest.mark.parametrize("first", range(12))
def test_a_series_with_broken_pictures_goes_on_from_any_frame(tmp_path: Path, first: int) -> None:
    for number in range(10):
        Image.fromarray(barcode(number)).save(tmp_path / f"{number}.png")
    for number in (0, 3, 4, 9):
        (tmp_path / f"{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    frames, damage = salvaged_of(tmp_path, first_frames=[first])
    assert [read_barcode(frame) for frame in frames] == [1, 2, 5, 6, 7, 8][first:]
    assert damage.startswith("damaged after 0 frames: 0.png: ")


# Large pictures


def _halves(height: int, width: int, channels: int) -> np.ndarray:
    image = np.zeros((height, width, channels), np.uint8)
    image[:, : width // 2, :3] = 255
    image[..., 3:] = 200
    return image


@pytest.mark.parametrize(
    ("name", "shape", "factor"),
    [
        ("a.png", (70, 72, 4), 2),
        ("a.png", (21, 400, 3), 2),
        ("a.tif", (130, 132, 3), 3),
        ("a.jpg", (80, 96, 3), 2),
        ("a.jpg", (256, 160, 3), 4),  # more than is read of others
    ],
)
def test_a_large_picture_comes_smaller(
    tmp_path: Path,
    name: str,
    shape: tuple[int, int, int],
    factor: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pictures, "FULL_PIXELS", 2**12)
    monkeypatch.setattr(pictures, "MAX_PIXELS", 2**15)
    monkeypatch.setattr(pictures, "_BAND_PIXELS", 2**10)
    path = _saved(tmp_path / name, Image.fromarray(_halves(*shape)))
    image = _read(path)
    height, width, _ = image.shape
    assert (height, width) == (-(-shape[0] // factor), -(-shape[1] // factor))
    right = 55 if shape[2] == 4 else 0  # 200 of 255 black, the rest white
    near = 2 if name == "a.jpg" else 0
    assert np.abs(image[:, : width // 2].astype(int) - 255).max() <= near
    assert np.abs(image[:, width // 2 :].astype(int) - right).max() <= near


def test_most_of_a_large_picture_is_never_in_memory(tmp_path: Path) -> None:
    path = _saved(tmp_path / "a.png", Image.fromarray(_halves(4200, 4200, 4)), compress_level=1)
    tracemalloc.start()
    _read(path)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Pillow's own 4 bytes a pixel are not traced: half the sides, twice while it is put together.
    assert peak_bytes < 4 * 2100 * 2100 * 3


def test_pictures_too_large_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.new("L", (32, 32)).save(path, progressive=True)
    content = path.read_bytes()
    start = content.index(b"\xff\xc2") + 5  # its height and width
    path.write_bytes(content[:start] + b"\x40\x00\x40\x00" + content[start + 4 :])
    with pytest.raises(ReadError, match=r"^a frame of 16384x16384 pixels; at most 67,108,864 "):
        _read(path)
    content = content.replace(b"\xff\xc2", b"\xff\xc0")
    path.write_bytes(content[:start] + b"\x40\x01\x40\x00" + content[start + 4 :])
    with pytest.raises(ReadError, match=r"^a picture of 16384x16385 pixels; at most 268,435,456 "):
        _read(path)


def _with_chunk(path: Path, kind: bytes, content: bytes, *, count: int = 1) -> Path:
    """Puts chunks of a PNG before its pixels."""
    picture = _saved(path, Image.fromarray(IMAGE)).read_bytes()
    chunk = struct.pack(">I", len(content)) + kind + content
    chunk += struct.pack(">I", zlib.crc32(kind + content))
    at = picture.index(b"IDAT") - 4
    path.write_bytes(picture[:at] + chunk * count + picture[at:])
    return path


@pytest.mark.parametrize(
    ("kind", "content", "count"),
    [
        (b"iTXt", b"Title\0\0\0\0\0caf\xe9 \xff", 1),
        (b"tEXt", b"Title\0caf\xe9 \xff", 1),
        (b"zTXt", b"workflow\0\0" + zlib.compress(bytes(5_000_000)), 1),
        (b"zTXt", b"workflow\0\0" + zlib.compress(bytes(1_000_000)), 80),
        (b"zTXt", b"workflow\0\0no zlib", 1),
        (b"eXIf", b"nonsense", 1),
        (b"iCCP", b"profile\0\0nonsense", 1),
    ],
)
def test_nothing_that_is_written_in_a_picture_costs_it(
    tmp_path: Path, kind: bytes, content: bytes, count: int
) -> None:
    limit = PngImagePlugin.MAX_TEXT_CHUNK
    path = _with_chunk(tmp_path / "a.png", kind, content, count=count)
    assert np.array_equal(_read(path), IMAGE)
    assert limit == PngImagePlugin.MAX_TEXT_CHUNK


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_a_broken_orientation_is_none(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    image = Image.fromarray(IMAGE)
    image.save(path, exif=b"Exif\0\0nonsense", quality=95)
    assert read_barcode(_read(path)) == CODE


# AVIF and HEIF

os.environ.setdefault("SVT_LOG", "1")  # else the encoder tells its life


@pytest.mark.parametrize("suffix", [".heic", ".avif"])
@pytest.mark.parametrize("quarter_turns", [0, 1, 2, 3])
def test_tiles_are_put_together_upright(tmp_path: Path, suffix: str, quarter_turns: int) -> None:
    image = barcode(0b01100101, height=256, width=512)
    lying = np.ascontiguousarray(np.rot90(image, -quarter_turns))
    path = write_tiles(tmp_path / f"a{suffix}", lying, quarter_turns=quarter_turns)
    frame = _read(path)
    assert frame.shape == image.shape
    assert np.abs(np.subtract(frame, image, dtype=np.int16)).mean() < 4


@pytest.mark.parametrize("suffix", [".heic", ".avif"])
def test_what_is_transparent_in_tiles_is_laid_over_white(tmp_path: Path, suffix: str) -> None:
    image = np.zeros((256, 512, 3), np.uint8)
    alpha = np.full((256, 512), 255, np.uint8)
    alpha[:128], alpha[:, 256:] = 0, 128
    frame = _read(write_tiles(tmp_path / f"a{suffix}", image, alpha=alpha))
    assert [frame[row, column, 0] for row, column in ((32, 64), (200, 64), (200, 400))] == [
        pytest.approx(level, abs=3) for level in (255, 0, 127)
    ]


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_an_animated_avif_is_no_poster(tmp_path: Path, mode: str) -> None:
    images = [Image.fromarray(barcode(k)).convert(mode) for k in range(8)]
    if mode == "RGBA":
        for image in images:
            image.putalpha(Image.fromarray(255 - barcode(0b11110000)[..., 0]))
    delays = [100, 40, 40, 20, 500, 100, 100, 100]
    options = {"append_images": images[1:], "duration": delays, "quality": 95}
    path = _saved(tmp_path / "a.avif", images[0], save_all=True, **options)
    shown = 0b11110000 if mode == "RGBA" else 0
    for fps, numbers in ((None, range(8)), (Fraction(10), (0, 1, 4, 4, 4, 4, 4, 5, 6, 7))):
        (clip,) = open_clips(path, Geometry(48, 64, fps=fps))
        assert clip.fps == (fps or 8)
        assert [read_barcode(frame) for frame in clip.frames] == [k | shown for k in numbers]


@pytest.mark.parametrize("suffix", [".heic", ".avif"])
@pytest.mark.parametrize("share", [0.1, 0.6, 0.95])
def test_a_cut_picture_of_tiles_says_so(tmp_path: Path, suffix: str, share: float) -> None:
    image = np.random.default_rng(0).integers(0, 256, (256, 512, 3), np.uint8)
    path = write_tiles(tmp_path / f"a{suffix}", image)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ReadError):
        _read(path)


def test_pictures_of_8_bits_are_decoded_once(tmp_path: Path) -> None:
    for name in ("a.webp", "a.png", "a.avif"):
        with Image.open(_saved(tmp_path / name, Image.fromarray(IMAGE))) as image:
            assert low_bytes(image) is None
