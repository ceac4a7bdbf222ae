from __future__ import annotations

import importlib.util
import os
import struct
from fractions import Fraction
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from av.stream import Disposition
from clip_files import (
    NATIVE,
    at_rate,
    barcode,
    barcodes,
    frames_of,
    noisy_barcode,
    numbers_of,
    read_barcode,
    remux,
    salvaged_of,
    write_clip,
    write_sound,
    write_tracks,
)
from PIL import Image

from ldf_video.clips.read import open_clips
from ldf_video.errors import ReadError, UsageError
from ldf_video.video import decord_reader
from ldf_video.video.decord_reader import DecordMedia, NotForDecordError, check_units, display_order
from ldf_video.video.geometry import Geometry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("decord") is None, reason="decord is not made for this platform"
)

NUMBERS = list(range(40))


def _numbers(path: Path, geometry: Geometry = NATIVE) -> tuple[list[int], str]:
    (clip,) = open_clips(path, geometry, reader="decord")
    return [read_barcode(image) for image in clip.frames], clip.why_pyav


# What decord reads, frame for frame


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {}),  # B-frames
        ("a.mov", {}),
        ("a.mkv", {}),
        ("a.mp4", {"codec_options": {"g": "7"}}),
        ("a.mp4", {"codec_options": {"x264-params": "open-gop=1:keyint=8:bframes=3"}}),
        ("a.mp4", {"codec_options": {"x264-params": "repeat-headers=1:keyint=8"}}),
        ("a.mp4", {"container_options": {"movflags": "frag_every_frame+empty_moov"}}),
        ("a.mp4", {"pts": range(10, 50)}),
        ("a.mp4", {"pts": [k * (k + 3) // 2 for k in range(40)]}),
        ("a.mkv", {"pts": [k * (k + 3) // 2 for k in range(40)]}),
        ("a.mp4", {"codec": "libx265", "codec_options": {"x265-params": "log-level=none"}}),
        ("a.mkv", {"codec": "libx265", "codec_options": {"x265-params": "log-level=none"}}),
    ],
)
def test_decord_gives_every_frame_once_at_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, options: dict[str, Any]
) -> None:
    path = write_clip(tmp_path / name, barcodes(NUMBERS), **options)
    for fps in (10, 45):
        assert _numbers(path, at_rate(fps)) == (numbers_of(path, at_rate(fps)), "")
    (clip,) = open_clips(path, NATIVE, reader="decord")
    assert clip.why_pyav == ""
    monkeypatch.delattr(decord_reader, "open_media")  # PyAV is not to go on for it
    assert [read_barcode(image) for image in clip.frames] == NUMBERS


def test_rate_and_position_and_any_path(tmp_path: Path) -> None:
    for name in ("http:frame%d é.mp4", "-i.mp4"):
        path = write_clip(tmp_path / name, barcodes(range(4)), fps=Fraction(30000, 1001))
        (clip,) = open_clips(path, NATIVE, reader="decord")
        assert (clip.fps, clip.why_pyav) == (Fraction(30000, 1001), "")
        assert [clip.position() for _ in clip.frames] == [0.25, 0.5, 0.75, 1]


# The same pixels, nearly


def _natural(count: int, height: int, width: int) -> list[NDArray[np.uint8]]:
    """A drifting picture with as much detail at each scale, as photographs have."""
    rng = np.random.default_rng(0)
    total = np.zeros((height + count, width + count, 3))
    for scale in (64, 32, 16, 8, 4, 2):
        shape = (total.shape[0] // scale + 2, total.shape[1] // scale + 2)
        for channel in range(3):
            coarse = Image.fromarray(rng.normal(size=shape).astype(np.float32) * scale)
            size = (total.shape[1], total.shape[0])
            total[..., channel] += np.asarray(coarse.resize(size, Image.Resampling.BICUBIC))
    picture = ((total - total.min()) / np.ptp(total) * 255).astype(np.uint8)
    return [np.ascontiguousarray(picture[k : k + height, k : k + width]) for k in range(count)]


def _difference(path: Path, geometry: Geometry) -> NDArray[np.int64]:
    """By how much decord's levels are other than PyAV's."""
    (clip,) = open_clips(path, geometry, reader="decord")
    assert clip.why_pyav == ""
    return np.abs(np.subtract(list(clip.frames), frames_of(path, geometry), dtype=np.int64))


@pytest.mark.parametrize("size", [(360, 640), (640, 360), (96, 128), (30, 40)])
def test_pixels_agree_with_those_of_pyav(tmp_path: Path, size: tuple[int, int]) -> None:
    path = write_clip(tmp_path / "a.mp4", _natural(6, *size))
    cut = (Geometry(32, 32), Geometry(32, 20), Geometry(24, 40))
    for geometry in (*cut, Geometry(30, 40, crop="none"), Geometry(32, 32, crop="none")):
        difference = _difference(path, geometry)
        assert difference.mean() < 2
        assert difference.max() <= 16


def test_padded_rows_are_no_channels(tmp_path: Path) -> None:
    for width in range(8, 68, 4):
        path = write_clip(tmp_path / f"{width}.mp4", _natural(3, 24, width))
        assert _difference(path, Geometry(24, width)).max() == 0


def test_what_is_decoded_ahead_stays_small(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", barcodes(range(3), height=360, width=640))
    for geometry in (Geometry(32, 32), Geometry(32, 32, crop="none"), Geometry(20, 50)):
        frame = next(DecordMedia(path, geometry).frames())
        assert frame.height * frame.width * 3 <= 2**17
        assert frame.height >= 3 * geometry.height
        assert frame.width >= 3 * geometry.width
    (clip,) = open_clips(path, Geometry(64, 64), reader="decord")
    assert clip.why_pyav == "frames of 343x192 are too large to decode ahead"


# What decord must not read


def _edited(path: Path, images: list[NDArray[np.uint8]]) -> None:
    """An MP4 whose edit list leaves the first two frames out."""

    def earlier(part: int, number: int, packet: Any) -> None:
        shift = 2 * round(1 / 25 / packet.time_base)
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift

    whole = write_clip(path.with_name("whole.mp4"), images, codec_options={"bf": "0"})
    remux(path, [whole], earlier, options={"avoid_negative_ts": "disabled"})


def _growing(path: Path, images: list[NDArray[np.uint8]]) -> None:
    """An MP4 whose second half is larger; each key frame says so."""

    def later(part: int, number: int, packet: Any) -> None:
        shift = part * round(20 / 25 / packet.time_base)
        packet.pts, packet.dts = packet.pts + shift, packet.dts + shift

    options = {"x264-params": "repeat-headers=1:bframes=0"}
    halves = [images[:20], [image.repeat(2, axis=0) for image in images[20:]]]
    parts = [
        write_clip(path.with_name(f"{k}.mp4"), half, codec_options=options)
        for k, half in enumerate(halves)
    ]
    remux(path, parts, later)


def _two_streams(path: Path, images: list[NDArray[np.uint8]]) -> None:
    write_tracks(path, [(images, Disposition(0)), (images, Disposition(0))])


def _odd(path: Path, images: list[NDArray[np.uint8]]) -> None:
    """Writes 64 x 48 pixels, of which the container shows 63 x 47."""
    content = bytearray(write_clip(path, images).read_bytes())
    # ISO/IEC 14496-12, 8.3.2.2 and 12.1.3.2: sizes of the track and of its pictures.
    struct.pack_into(">II", content, content.index(b"tkhd") + 80, 63 << 16, 47 << 16)
    struct.pack_into(">HH", content, content.index(b"avc1", content.index(b"stsd")) + 28, 63, 47)
    path.write_bytes(content)


def _cut(path: Path, images: list[NDArray[np.uint8]]) -> None:
    write_clip(path, [noisy_barcode(k) for k in range(40)])
    path.write_bytes(path.read_bytes()[:-4000])


def _as(**options: Any) -> Callable[[Path, list[NDArray[np.uint8]]], None]:
    def make(path: Path, images: list[NDArray[np.uint8]]) -> None:
        write_clip(path, images, **options)

    return make


@pytest.mark.parametrize(
    ("name", "make", "reason"),
    [
        ("a.ts", _as(), "the container mpegts"),
        ("a.avi", _as(codec="mpeg4", codec_options={"bf": "2"}), "the container avi"),
        ("a.h264", _as(), "the container h264"),
        ("a.gif", _as(codec="gif", pix_fmt="rgb8"), "the container gif"),
        ("a.webm", _as(codec="libvpx-vp9"), "the codec vp9"),  # sizes may change unseen
        ("a.mp4", _as(codec="libsvtav1"), "the codec libdav1d"),
        ("a.mp4", _as(codec="mpeg4"), "the codec mpeg4"),
        ("a.mkv", _as(pix_fmt="yuv420p10le"), "pixels of yuv420p10le"),
        ("a.mp4", _as(pix_fmt="yuv444p"), "pixels of yuv444p"),
        ("a.mp4", _as(pix_fmt="yuvj420p"), "pixels of yuvj420p"),
        ("a.mp4", _as(rotation=180), "a rotation"),
        ("a.mp4", _as(sample_aspect_ratio=Fraction(4, 3)), "pixels that are not square"),
        ("a.mp4", _edited, "an edit list that leaves frames out"),
        ("a.mp4", _growing, "frames that may change in size"),
        ("a.mp4", _two_streams, "several video streams"),
        ("a.mp4", _odd, "an odd size"),
        ("a.mkv", _cut, "the file ends early"),
    ],
)
def test_the_rest_is_read_by_pyav(
    tmp_path: Path,
    name: str,
    make: Callable[[Path, list[NDArray[np.uint8]]], None],
    reason: str,
) -> None:
    path = tmp_path / name
    make(path, barcodes(NUMBERS))
    geometry = Geometry(48, 64, crop="none")
    (asked,) = open_clips(path, geometry, reader="decord")
    assert asked.why_pyav == reason
    frames, damage = salvaged_of(path, geometry, reader="decord")
    by_pyav, same_damage = salvaged_of(path, geometry)
    assert np.array_equal(frames, by_pyav)
    assert damage == same_damage
    assert (damage == "") == (len(frames) >= 38)
    assert len(frames) > 10


@pytest.mark.parametrize(
    ("pts", "reason"),
    [
        ([2, 0, 1], "frames before the first key frame"),
        ([0, 2, 1, 2], "two frames at one time"),
        ([*range(0, 200, 2), *range(1, 200, 2)], "times that jump back"),
        ([0, 1, 2, 3, 5000, 5, 6, 7], "times that leap"),
    ],
)
def test_times_out_of_order_are_not_for_decord(pts: list[int], reason: str) -> None:
    assert display_order(np.array([0, 8, 4, 2, 6])).tolist() == [0, 2, 4, 6, 8]
    with pytest.raises(NotForDecordError, match=f"^{reason}$"):
        display_order(np.array(pts))


@pytest.mark.parametrize(
    ("hevc", "unit", "reason"),
    [
        (False, [0x67, 9, 8], "frames that may change in size"),
        (False, [0x68, 9, 8], "headers that change"),
        (True, [33 << 1, 1, 7], "frames that may change in size"),
        (True, [34 << 1, 1, 7], "headers that change"),
        (True, [16 << 1, 1, 7], "a broken link between pictures"),
    ],
)
def test_headers_that_change_are_not_for_decord(hevc: bool, unit: list[int], reason: str) -> None:
    known = [33 << 1, 9] if hevc else [0x67, 9]
    head = [1, *[0] * 20, 0xFD] if hevc else [1, 0, 0, 0, 0xFD]  # lengths of two bytes
    context = SimpleNamespace(name="hevc" if hevc else "h264", extradata=bytes([*head, *known]))
    check_units(context, bytes([0, len(known), *known, 0, 2, 2, 1]))
    with pytest.raises(NotForDecordError, match=f"^{reason}$"):
        check_units(context, bytes([0, len(known), *known, 0, len(unit), *unit]))


def test_what_is_no_video_says_what_pyav_says(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "notes.mp4").write_text("notes")
    write_sound(tmp_path / "sound.m4a")
    reasons = {"empty.mp4": "^empty file$", "notes.mp4": "^not a video: ", "none.mp4": "^cannot be"}
    for name, reason in {**reasons, "sound.m4a": "^no video stream"}.items():
        with pytest.raises(ReadError, match=reason):
            next(open_clips(tmp_path / name, NATIVE, reader="decord"))


def test_pictures_and_arrays_are_nobody_s_failure(tmp_path: Path) -> None:
    Image.fromarray(barcode(7)).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", np.stack([barcode(7)]))
    for name in ("a.png", "a.npy"):
        assert _numbers(tmp_path / name) == ([7], "")


# Where decord fails all the same


@pytest.mark.parametrize("kind", ["StopIteration", "RuntimeError", "DECORDError", "limit"])
def test_pyav_goes_on_where_decord_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    import decord
    from decord._ffi.base import DECORDLimitReachedError

    kinds = {"StopIteration": StopIteration, "RuntimeError": RuntimeError}
    kinds |= {"DECORDError": decord.DECORDError, "limit": DECORDLimitReachedError}
    whole = decord.VideoReader.next
    for size, geometry in (((48, 64), NATIVE), ((360, 640), Geometry(32, 32, crop="none"))):
        calls = iter(range(100))

        def fails(reader: Any, calls: Iterator[int] = calls) -> Any:
            if next(calls) < 7:
                return whole(reader)
            raise kinds[kind]

        monkeypatch.setattr(decord.VideoReader, "next", fails)
        path = write_clip(
            tmp_path / f"{size[0]}.mp4", barcodes(NUMBERS, height=size[0], width=size[1])
        )
        assert _numbers(path, geometry) == (NUMBERS, "")


def test_what_decord_cannot_open_or_counts_otherwise_is_read_by_pyav(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import decord

    path = write_clip(tmp_path / "a.mp4", barcodes(NUMBERS))
    odd = path.rename(tmp_path / os.fsdecode(b"latin-\xe9.mp4"))
    numbers, reason = _numbers(odd)
    assert (numbers, reason.startswith("decord cannot open it: ")) == (NUMBERS, True)
    path = odd.rename(path)
    monkeypatch.setattr(decord.VideoReader, "__len__", lambda self: 41)
    assert _numbers(path) == (NUMBERS, "it counts other frames")


# Which reader


def test_auto_and_pyav_need_no_decord(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / "a.mp4", barcodes(NUMBERS))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for reader in ("auto", "pyav"):
        assert numbers_of(path, reader=reader) == NUMBERS
    with pytest.raises(UsageError, match=r"^--reader decord: the package decord is not installed"):
        next(open_clips(path, NATIVE, reader="decord"))
