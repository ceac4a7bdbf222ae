from __future__ import annotations

import importlib.util
import re
from fractions import Fraction
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
from clip_files import barcode, read_barcode, write_clip, write_sound
from PIL import Image

from ldf_video.errors import ReadError, TruncatedError, UsageError
from ldf_video.video import decord_reader, video_frames
from ldf_video.video.decord_reader import DecordMedia, NotForDecordError, examine
from ldf_video.video.geometry import Geometry
from ldf_video.video.read import check_reader, open_clips

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("decord") is None, reason="decord is not made for this platform"
)

NATIVE = Geometry(48, 64)
NUMBERS = list(range(40))


def _images(count: int = 40, *, height: int = 48, width: int = 64) -> list[NDArray[np.uint8]]:
    return [barcode(k, height=height, width=width) for k in range(count)]


def _numbers(path: Path, geometry: Geometry = NATIVE) -> tuple[list[int], str]:
    (clip,) = open_clips(path, geometry, reader="decord")
    return [read_barcode(image) for image in clip.frames], clip.why_pyav


def _refuse(*args: object) -> None:
    raise AssertionError("PyAV must not decode this")


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
        ("a.mp4", {"pts": [k * k for k in range(40)]}),
        ("a.mkv", {"pts": [k * k for k in range(40)]}),
        ("a.mp4", {"codec": "libx265", "codec_options": {"x265-params": "log-level=none"}}),
        ("a.mkv", {"codec": "libx265", "codec_options": {"x265-params": "log-level=none"}}),
    ],
)
def test_decord_gives_every_frame_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, options: dict[str, Any]
) -> None:
    path = write_clip(tmp_path / name, _images(), **options)
    assert len(examine(path).pts) == len(NUMBERS)
    monkeypatch.setattr(video_frames, "open_media", _refuse)
    monkeypatch.setattr(decord_reader, "open_media", _refuse)
    assert _numbers(path) == (NUMBERS, "")


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("fps", [10, 30, 45])
def test_times_are_those_of_pyav(tmp_path: Path, name: str, fps: int) -> None:
    path = write_clip(
        tmp_path / name, _images(20), fps=30, pts=[k * (k + 3) // 2 for k in range(20)]
    )
    geometry = Geometry(48, 64, fps=Fraction(fps))
    (clip,) = open_clips(path, geometry)
    expected = [read_barcode(image) for image in clip.frames]
    assert len(set(expected)) > 10
    assert _numbers(path, geometry) == (expected, "")


def test_rate_and_position(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", _images(4), fps=Fraction(30000, 1001))
    (clip,) = open_clips(path, NATIVE, reader="decord")
    assert clip.fps == Fraction(30000, 1001)
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


@pytest.mark.parametrize("size", [(360, 640), (640, 360), (96, 128), (30, 40)])
@pytest.mark.parametrize(
    "geometry",
    [
        Geometry(32, 32),
        Geometry(32, 20),
        Geometry(24, 40),
        Geometry(30, 40, crop="none"),
        Geometry(32, 32, crop="none"),
    ],
)
def test_pixels_agree_with_those_of_pyav(
    tmp_path: Path, size: tuple[int, int], geometry: Geometry
) -> None:
    path = write_clip(tmp_path / "a.mp4", _natural(6, *size))
    (by_pyav,) = open_clips(path, geometry)
    (by_decord,) = open_clips(path, geometry, reader="decord")
    assert by_decord.why_pyav == ""
    difference = np.subtract(list(by_decord.frames), list(by_pyav.frames), dtype=np.int64)
    assert np.abs(difference).mean() < 2
    assert np.abs(difference).max() <= 16


@pytest.mark.parametrize("width", range(8, 68, 4))
def test_padded_rows_are_no_channels(tmp_path: Path, width: int) -> None:
    path = write_clip(tmp_path / "a.mp4", _natural(3, 24, width))
    (by_pyav,) = open_clips(path, Geometry(24, width))
    (by_decord,) = open_clips(path, Geometry(24, width), reader="decord")
    assert by_decord.why_pyav == ""
    np.testing.assert_array_equal(list(by_decord.frames), list(by_pyav.frames))


def test_what_is_decoded_ahead_stays_small(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", _images(3, height=360, width=640))
    for geometry in (Geometry(32, 32), Geometry(32, 32, crop="none"), Geometry(20, 50)):
        frame = next(DecordMedia(path, geometry).frames())
        assert frame.height * frame.width * 3 <= 2**17
        assert frame.height >= 3 * geometry.height
        assert frame.width >= 3 * geometry.width
    with pytest.raises(NotForDecordError, match=r"^frames of 343x192 are too large to decode"):
        DecordMedia(path, Geometry(64, 64))
    (clip,) = open_clips(path, Geometry(64, 64), reader="decord")
    assert clip.why_pyav == "frames of 343x192 are too large to decode ahead"


# What decord must not read


def _edited(path: Path, images: list[NDArray[np.uint8]]) -> None:
    """An MP4 whose edit list leaves the first two frames out."""
    first = path.with_name("whole.mp4")
    write_clip(first, images, codec_options={"bf": "0"})
    options = {"avoid_negative_ts": "disabled"}
    with av.open(str(first)) as source, av.open(str(path), "w", options=options) as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.size:
                assert packet.pts is not None
                assert packet.dts is not None
                shift = 2 * round(1 / 25 / stream.time_base)  # type: ignore[operator]
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = copy
                target.mux(packet)


def _growing(path: Path, images: list[NDArray[np.uint8]]) -> None:
    """An MP4 whose second half is larger; each key frame says so."""
    options = {"x264-params": "repeat-headers=1:bframes=0"}
    halves = [images[:20], [image.repeat(2, axis=0) for image in images[20:]]]
    with av.open(str(path), "w") as target:
        copy = None
        for half, content in enumerate(halves):
            part = write_clip(path.with_name(f"{half}.mp4"), content, codec_options=options)
            with av.open(str(part)) as source:
                stream = source.streams.video[0]
                copy = copy or target.add_stream_from_template(stream)
                shift = half * round(20 / 25 / stream.time_base)  # type: ignore[operator]
                for packet in source.demux(stream):
                    if packet.size:
                        assert packet.pts is not None
                        assert packet.dts is not None
                        packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                        packet.stream = copy
                        target.mux(packet)


def _two_streams(path: Path, images: list[NDArray[np.uint8]]) -> None:
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=25) for _ in range(2)]
        for stream in streams:
            stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for image in images:
            for stream in streams:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        for stream in streams:
            container.mux(stream.encode())


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
    ],
)
def test_the_rest_is_read_by_pyav(
    tmp_path: Path,
    name: str,
    make: Callable[[Path, list[NDArray[np.uint8]]], None],
    reason: str,
) -> None:
    path = tmp_path / name
    make(path, _images())
    with pytest.raises(NotForDecordError, match=f"^{re.escape(reason)}$"):
        examine(path)
    geometry = Geometry(48, 64, crop="none")
    (by_pyav,) = open_clips(path, geometry)
    (asked,) = open_clips(path, geometry, reader="decord")
    assert asked.why_pyav == reason
    frames = list(asked.frames)
    assert np.array_equal(frames, list(by_pyav.frames))
    assert len(frames) >= 38


def test_odd_sizes_are_not_for_decord() -> None:
    for width, height in ((63, 48), (64, 47)):
        with pytest.raises(NotForDecordError, match=r"^an odd size$"):
            decord_reader._check_frame(av.VideoFrame(width, height, "yuv420p"), full_range=False)


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
    assert decord_reader._in_display_order(np.array([0, 8, 4, 2, 6])).tolist() == [0, 2, 4, 6, 8]
    with pytest.raises(NotForDecordError, match=f"^{reason}$"):
        decord_reader._in_display_order(np.array(pts))


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
    stream: Any = SimpleNamespace(codec_context=context)
    check = decord_reader._UnitCheck(stream)
    check(bytes([0, len(known), *known, 0, 2, 2, 1]))
    with pytest.raises(NotForDecordError, match=f"^{reason}$"):
        check(bytes([0, len(known), *known, 0, len(unit), *unit]))


def test_a_cut_file_gives_its_good_prefix(tmp_path: Path) -> None:
    images = [np.random.default_rng(k).integers(0, 256, (48, 64, 3), np.uint8) for k in range(40)]
    for k, image in enumerate(images):
        image[12:] = barcode(k)[12:]
    path = write_clip(tmp_path / "a.mkv", images)
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(NotForDecordError, match=r"^the file ends early$"):
        examine(path)
    (clip,) = open_clips(path, NATIVE, reader="decord")
    good: list[NDArray[np.uint8]] = []
    with pytest.raises(TruncatedError, match=r"^damaged after \d+ frames: the file ends early$"):
        good.extend(clip.frames)
    assert [read_barcode(image[12:]) for image in good] == list(range(len(good)))
    assert len(good) > 10


def test_what_is_no_video_says_what_pyav_says(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "notes.mp4").write_text("notes")
    write_sound(tmp_path / "sound.m4a")
    reasons = {"empty.mp4": "^empty file$", "notes.mp4": "^not a video: ", "none.mp4": "^cannot be"}
    for name, reason in {**reasons, "sound.m4a": "^no video stream"}.items():
        with pytest.raises(NotForDecordError):
            examine(tmp_path / name)
        with pytest.raises(ReadError, match=reason):
            next(open_clips(tmp_path / name, NATIVE, reader="decord"))


def test_pictures_and_arrays_are_nobody_s_failure(tmp_path: Path) -> None:
    Image.fromarray(barcode(7)).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", np.stack([barcode(7)]))
    for name in ("a.png", "a.npy"):
        assert _numbers(tmp_path / name) == ([7], "")


def test_any_path_will_do(tmp_path: Path) -> None:
    for name in ("http:frame%d é.mp4", "-i.mp4"):
        assert _numbers(write_clip(tmp_path / name, _images())) == (NUMBERS, "")


# Where decord fails all the same


def test_pyav_goes_on_where_decord_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / "a.mp4", _images())
    calls = iter(range(100))
    whole = decord_reader._next_image
    monkeypatch.setattr(
        decord_reader, "_next_image", lambda reader: whole(reader) if next(calls) < 7 else None
    )
    assert _numbers(path) == (NUMBERS, "")
    large = write_clip(tmp_path / "large.mp4", _images(height=360, width=640))
    calls = iter(range(100))
    assert _numbers(large, Geometry(32, 32, crop="none")) == (NUMBERS, "")


@pytest.mark.parametrize("error", ["StopIteration", "RuntimeError", "DECORDError", "limit"])
def test_what_decord_raises_ends_its_frames(error: str) -> None:
    import decord
    from decord._ffi.base import DECORDLimitReachedError

    kinds = {
        "StopIteration": StopIteration,
        "RuntimeError": RuntimeError,
        "DECORDError": decord.DECORDError,
        "limit": DECORDLimitReachedError,
    }

    class Broken:
        def next(self) -> None:
            raise kinds[error]

    assert decord_reader._next_image(Broken()) is None


def test_another_count_is_no_work_for_decord(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_clip(tmp_path / "a.mp4", _images())
    monkeypatch.setattr(decord_reader, "_open_reader", lambda path, height, width: range(41))
    assert _numbers(path) == (NUMBERS, "it counts other frames")


def test_a_file_that_decord_cannot_open_is_read_by_pyav(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_clip(tmp_path / "a.mp4", _images())
    facts = examine(path)
    monkeypatch.setattr(decord_reader, "examine", lambda path: facts)
    (tmp_path / "b.mp4").write_text("notes")
    with pytest.raises(NotForDecordError, match=r"^decord cannot open it: Error reading"):
        DecordMedia(tmp_path / "b.mp4", NATIVE)
    assert "ERROR opening" in capfd.readouterr().err  # its own line, which cannot be silenced


# Which reader


def test_auto_and_pyav_need_no_decord(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / "a.mp4", _images())
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for reader in ("auto", "pyav"):
        (clip,) = open_clips(path, NATIVE, reader=reader)  # type: ignore[arg-type]
        assert ([read_barcode(image) for image in clip.frames], clip.why_pyav) == (NUMBERS, "")
    with pytest.raises(UsageError, match=r"^--reader decord: the package decord is not installed"):
        next(open_clips(path, NATIVE, reader="decord"))


def test_other_readers_do_not_exist() -> None:
    check_reader("auto")
    with pytest.raises(UsageError, match=r"^--reader opencv: expected auto, pyav or decord$"):
        check_reader("opencv")
