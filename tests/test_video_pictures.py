from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clip_files import barcode, read_barcode
from PIL import Image

from ldf_video.errors import ReadError, TruncatedError
from ldf_video.video.geometry import Geometry
from ldf_video.video.pictures import (
    PicturesMedia,
    is_animated,
    over_white,
    picture_kind,
    read_picture,
)
from ldf_video.video.read import open_clips

NATIVE = Geometry(48, 64)
CODE = 0b10011010
IMAGE = barcode(CODE)
COLOURS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def _saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.tiff"])
def test_lossless_pictures_come_out_bit_for_bit(tmp_path: Path, name: str) -> None:
    assert np.array_equal(read_picture(_saved(tmp_path / name, Image.fromarray(COLOURS))), COLOURS)


def test_a_big_tiff_is_a_tiff(tmp_path: Path) -> None:
    path = _saved(tmp_path / "a.tif", Image.fromarray(COLOURS), big_tiff=True)
    assert path.read_bytes()[2] == 43
    assert np.array_equal(read_picture(path), COLOURS)


def test_webp_and_jpeg_are_read(tmp_path: Path) -> None:
    webp = _saved(tmp_path / "a.webp", Image.fromarray(COLOURS), lossless=True)
    assert np.array_equal(read_picture(webp), COLOURS)
    for name in ("a.jpg", "a.jpeg"):
        assert read_barcode(read_picture(_saved(tmp_path / name, Image.fromarray(IMAGE)))) == CODE


def test_content_decides_and_not_the_name(tmp_path: Path) -> None:
    path = _saved(tmp_path / "a.png", Image.fromarray(COLOURS), format="BMP")
    assert np.array_equal(read_picture(path), COLOURS)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_become_eight_by_their_share(tmp_path: Path, name: str) -> None:
    levels = np.array([[0, 128, 129, 257, 32768, 65406, 65407, 65535]], np.uint16)
    read = read_picture(_saved(tmp_path / name, Image.fromarray(levels)))
    assert read[..., 0].tolist() == [[0, 0, 1, 1, 128, 254, 255, 255]]
    assert (read == read[..., :1]).all()


def test_grey_black_and_white_and_palettes_become_rgb(tmp_path: Path) -> None:
    grey = COLOURS[..., 0]
    read = read_picture(_saved(tmp_path / "grey.png", Image.fromarray(grey)))
    assert np.array_equal(read, np.repeat(grey[..., None], 3, axis=2))
    bits = Image.fromarray(IMAGE).convert("1")
    assert np.array_equal(read_picture(_saved(tmp_path / "bits.png", bits)), IMAGE)
    palette = Image.fromarray(IMAGE).convert("P", palette=Image.Palette.ADAPTIVE)
    assert np.array_equal(read_picture(_saved(tmp_path / "palette.png", palette)), IMAGE)


def test_cmyk_is_converted_and_not_taken_for_alpha(tmp_path: Path) -> None:
    cyan = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    read = read_picture(_saved(tmp_path / "a.tif", cyan))
    assert read.tolist() == [[[0, 255, 255]] * 8] * 8


def test_what_is_transparent_is_laid_over_white(tmp_path: Path) -> None:
    image = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 100, 255, 51]]], np.uint8)
    expected = [[[10, 20, 30], [255, 255, 255], [204, 224, 255]]]
    assert over_white(image).tolist() == expected
    for name, options in (("a.png", {}), ("a.webp", {"lossless": True, "exact": True})):
        path = _saved(tmp_path / name, Image.fromarray(image), **options)
        assert read_picture(path).tolist() == expected


def test_a_transparent_palette_entry_is_white(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1]], np.uint8), mode="P")
    image.putpalette([200, 0, 0, 0, 200, 0])
    read = read_picture(_saved(tmp_path / "a.png", image, transparency=1))
    assert read.tolist() == [[[200, 0, 0], [255, 255, 255]]]


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_s_orientation_is_applied(tmp_path: Path, mode: str, orientation: int) -> None:
    upright = Image.fromarray(COLOURS).convert(mode)
    # What was done to the upright picture, and the tag that undoes it (Exif 2.32, tag 274).
    stored = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,  # counter-clockwise; shown after a clockwise turn
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    exif = Image.Exif()
    exif[274] = orientation
    image = upright if stored is None else upright.transpose(stored)
    read = read_picture(_saved(tmp_path / "a.png", image, exif=exif))
    assert np.array_equal(read, np.asarray(upright.convert("RGB")))


def test_a_jpeg_with_an_orientation_comes_upright_as_a_clip(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    turned = Image.fromarray(IMAGE).transpose(Image.Transpose.ROTATE_90)
    path = _saved(tmp_path / "a.jpg", turned, exif=exif, quality=95)
    (clip,) = open_clips(path, NATIVE)
    assert [read_barcode(image) for image in clip.frames] == [CODE]
    assert clip.fps == 25


def test_a_stream_of_jpegs_is_still_a_video(tmp_path: Path) -> None:
    parts = []
    for k in range(3):
        parts.append(_saved(tmp_path / "one.jpg", Image.fromarray(barcode(k))).read_bytes())
    (tmp_path / "a.mjpeg").write_bytes(b"".join(parts))
    (clip,) = open_clips(tmp_path / "a.mjpeg", NATIVE)
    assert [read_barcode(image) for image in clip.frames] == [0, 1, 2]


def _cut(path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8))
    image.save(path)
    path.write_bytes(path.read_bytes()[:2000])


def _script(path: Path) -> None:
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")


@pytest.mark.parametrize(
    ("name", "make", "reason"),
    [
        ("a.png", lambda path: path.touch(), "^empty file$"),
        ("a.png", lambda path: path.write_text("notes"), "^not a PNG, JPEG, BMP, TIFF or WebP"),
        ("a.png", _script, "^not a PNG, JPEG, BMP, TIFF or WebP"),  # Pillow would run it
        ("a.png", lambda path: None, "^cannot be read: No such file or directory$"),
        ("a.png", _cut, "^cannot be read: "),
        ("a.jpg", _cut, "^cannot be read: "),
        ("a.webp", _cut, "^cannot be read: "),
        ("a.bmp", lambda path: path.write_bytes(b"BM" + bytes(60)), "^cannot be read: "),
        ("a.tif", lambda path: path.write_bytes(b"II*\0" + bytes(60)), "^cannot be read: "),
        (
            "a.png",
            lambda path: Image.new("1", (2**14, 2**13)).save(path),
            "^a frame of 16384x8192 pixels; at most 67,108,864 are read$",
        ),
        (
            "a.png",
            lambda path: Image.new("1", (2**14, 2**14)).save(path),
            "^a picture too large; at most 67,108,864 pixels are read$",
        ),
        (
            "a.tif",
            lambda path: Image.fromarray(np.zeros((4, 4), np.float32)).save(path),
            "^pixels of 32 bits; 8 or 16 bits a channel are read$",
        ),
    ],
)
def test_what_is_no_picture_says_why(tmp_path: Path, name: str, make: object, reason: str) -> None:
    assert callable(make)
    make(tmp_path / name)
    with pytest.raises(ReadError, match=reason):
        read_picture(tmp_path / name)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.tif", "a.webp"])
def test_flipped_bytes_raise_nothing_but_read_errors(tmp_path: Path, name: str) -> None:
    path = _saved(tmp_path / name, Image.fromarray(barcode(CODE, height=12, width=16)))
    content = path.read_bytes()
    outcomes, reasons = set(), []
    for position in range(len(content)):
        broken = bytearray(content)
        broken[position] ^= 0xFF
        path.write_bytes(broken)
        try:
            outcomes.add(read_picture(path).dtype)
        except ReadError as error:
            outcomes.add(ReadError)
            reasons.append(str(error))
    assert outcomes == {np.dtype(np.uint8), ReadError}
    assert not any("\n" in reason for reason in reasons)


def test_animations_are_told_from_pictures(tmp_path: Path) -> None:
    images = [Image.fromarray(barcode(k)) for k in range(3)]
    for name in ("a.png", "a.webp"):
        images[0].save(tmp_path / name, save_all=True, append_images=images[1:])
        assert is_animated(tmp_path / name)
        images[0].save(tmp_path / name)
        assert not is_animated(tmp_path / name)
    assert not is_animated(tmp_path / "missing.png")


def test_kinds_go_by_the_first_bytes() -> None:
    assert picture_kind(b"RIFF\0\0\0\0WEBPVP8 ") == "webp"
    assert picture_kind(b"RIFF\0\0\0\0AVI LIST") is None
    assert picture_kind(b"\xff\xd8\xff\xe0") == "jpeg"
    assert picture_kind(b"") is None


def test_pictures_are_frames_until_one_cannot_be_read(tmp_path: Path) -> None:
    names = [f"{k}.png" for k in range(5)]
    for k, name in enumerate(names):
        Image.fromarray(barcode(k)).save(tmp_path / name)
    (tmp_path / "3.png").write_text("notes")
    media = PicturesMedia(tmp_path, names)
    frames = media.frames()
    for k in range(3):
        assert read_barcode(next(frames).to_ndarray(format="rgb24")) == k
        assert media.position() == (k + 1) / 5
    reason = r"^damaged after 3 frames: 3\.png: not a PNG, JPEG, BMP, TIFF or WebP picture$"
    with pytest.raises(TruncatedError, match=reason):
        next(frames)
    (tmp_path / "0.png").unlink()
    with pytest.raises(ReadError, match=r"^0\.png: cannot be read: No such file or directory$"):
        next(PicturesMedia(tmp_path, names).frames())
