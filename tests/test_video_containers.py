"""Which stream is the film, and at what rate it plays."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from av.stream import Disposition
from clip_files import (
    NATIVE,
    at_rate,
    barcodes,
    numbers_of,
    read_barcode,
    remux,
    save_animation,
    write_clip,
    write_tracks,
)

from ldf_video.clips.read import open_clips
from ldf_video.errors import ReadError
from ldf_video.video.write import VideoWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

MS = Fraction(1, 1000)


def _images(count: int, first: int = 0, **size: int) -> list[NDArray[np.uint8]]:
    return barcodes(range(first, first + count), **size)


def _read(path: Path, fps: int | None = None) -> tuple[list[int], Fraction]:
    (clip,) = open_clips(path, at_rate(fps))
    return [read_barcode(image) for image in clip.frames], clip.fps


# Metadata


@pytest.mark.parametrize(
    ("names", "codec"),
    [
        (("a.mp4", "a.mov", "a.mkv", "a.ts"), "libx264"),
        (("a.avi", "a.nut"), "mpeg4"),
        (("a.webm",), "libvpx"),
        (("a.flv",), "flv"),
    ],
)
def test_no_title_costs_a_clip(tmp_path: Path, names: Sequence[str], codec: str) -> None:
    key, title = b"TITLEHERE", b"caf\xe9 \x93\xae\xff"  # Latin-1, Shift JIS, and nothing at all
    chapter = {"id": 1, "start": 0, "end": 9, "time_base": Fraction(1)}

    def prepare(container: Any, stream: Any) -> None:
        container.metadata.update({"title": key.decode(), "service_name": key.decode()})
        stream.metadata["title"] = key.decode()
        container.set_chapters([{**chapter, "metadata": {"title": key.decode()}}])

    for name in names:
        path = write_clip(tmp_path / name, _images(30), codec=codec, prepare=prepare)
        content = path.read_bytes()
        path.write_bytes(content.replace(key, title.ljust(len(key))))
        assert key in content
        assert _read(path) == (list(range(30)), 25)


# Which stream

NONE, DEFAULT = Disposition(0), Disposition.default


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            lambda whole: whole[: whole.index(b"moov") - 9],
            "an mp4 that is cut short: its index, at its end, is missing",
        ),
        (lambda whole: whole[:200], "an mp4 that is cut short"),
        # A box that no standard names, as some cameras write before the frames.
        (lambda whole: whole.replace(b"free", b"frea")[:200], "an mp4 that is cut short"),
        (lambda whole: whole[:24] + bytes(200), "not a video: "),
        (lambda whole: b"no" + whole, "not a video: "),
    ],
)
def test_an_mp4_without_its_index_is_no_other_file(
    tmp_path: Path, content: Callable[[bytes], bytes], reason: str
) -> None:
    path = write_clip(tmp_path / "a.mp4", _images(8))
    path.write_bytes(content(path.read_bytes()))
    with pytest.raises(ReadError, match=f"^{reason}"):
        list(open_clips(path, NATIVE))


def _tracks(path: Path, *tracks: tuple[int, int, Disposition]) -> Path:
    """Writes tracks of (number of frames, size factor, disposition); the second begins at 40."""
    drawn = [
        (_images(count, 40 * number, height=48 * factor, width=64 * factor), disposition)
        for number, (count, factor, disposition) in enumerate(tracks)
    ]
    return write_tracks(path, drawn)


@pytest.mark.parametrize(
    ("names", "first", "second", "film"),
    [
        (("a.mkv", "a.mp4"), (30, 1, NONE), (30, 1, DEFAULT), 1),
        (("a.mkv", "a.mp4"), (30, 1, DEFAULT), (30, 2, NONE), 0),
        (("a.mp4",), (30, 1, DEFAULT), (30, 2, DEFAULT), 1),
        (("a.mkv",), (30, 1, NONE), (30, 2, NONE), 1),
        (("a.mkv",), (30, 2, NONE), (30, 1, NONE), 0),
        (("a.mkv",), (30, 1, NONE), (30, 1, NONE), 0),
        (("a.mkv", "a.mp4"), (10, 1, DEFAULT), (90, 1, DEFAULT), 1),  # the longer of two
        (("a.mkv", "a.mp4"), (1, 2, DEFAULT), (30, 1, NONE), 1),  # a poster of one frame
    ],
)
def test_the_default_track_is_the_film_else_the_largest(
    tmp_path: Path, names: tuple[str, ...], first: Any, second: Any, film: int
) -> None:
    count = (first, second)[film][0]
    for name in names:
        path = _tracks(tmp_path / name, first, second)
        assert numbers_of(path) == list(range(40 * film, 40 * film + count))


def test_pixels_of_a_gif_are_square_as_in_browsers(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    save_animation(path, _images(4))
    data = bytearray(path.read_bytes())
    data[12] = 200  # an aspect of 3.4
    path.write_bytes(data)
    assert _read(path)[0] == [0, 1, 2, 3]


def test_a_track_behind_one_without_a_decoder_is_read(tmp_path: Path) -> None:
    path = _tracks(tmp_path / "a.mkv", (30, 2, DEFAULT), (30, 1, NONE))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"V_MPEG4/ISO/AVC", b"V_UNKNOWN/CODEC", 1))
    assert _read(path) == (list(range(40, 70)), 25)


# The rate


@pytest.mark.parametrize("fps", [7, 12, 15, 24, 25, 30, 50])
def test_our_own_gif_is_read_at_its_rate(tmp_path: Path, fps: int) -> None:
    for count in (4, 60):
        with VideoWriter(tmp_path / "a.gif", fps=fps, upscale=1) as writer:
            writer.write(np.stack(_images(count)))
        assert _read(tmp_path / "a.gif") == (list(range(count)), fps)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
@pytest.mark.parametrize(
    ("delays", "fps", "at_10_fps"),
    [
        ([100, 40, 40, 20, 500, 100, 100, 100], 8, [0, 1, 4, 4, 4, 4, 4, 5, 6, 7]),
        ([100] * 7 + [900], 5, [*range(7), *[7] * 9]),
        ([10] * 8, 10, list(range(8))),
        ([0] * 8, 10, list(range(8))),
        ([10, 100] * 4, 10, list(range(8))),
        ([20] * 8, 50, [0, 5]),
    ],
)
def test_animations_show_each_frame_as_browsers_do(
    tmp_path: Path, name: str, delays: list[int], fps: int, at_10_fps: list[int]
) -> None:
    options: dict[str, Any] = {"lossless": True} if name == "a.webp" else {}
    save_animation(tmp_path / name, _images(8), duration=delays, **options)
    assert _read(tmp_path / name) == (list(range(8)), fps)
    assert _read(tmp_path / name, 10) == (at_10_fps, 10)


@pytest.mark.parametrize(
    ("name", "delays", "fps"),
    [
        ("a.webp", [33, 33, 34, 33, 33], Fraction(5000, 166)),
        ("a.webp", [16, 17, 17, 16, 17], Fraction(5000, 83)),
        ("a.gif", [160, 160, 150], Fraction(300, 47)),
    ],
)
def test_animations_of_no_usual_rate_play_at_their_mean(
    tmp_path: Path, name: str, delays: list[int], fps: Fraction
) -> None:
    save_animation(tmp_path / name, _images(len(delays)), duration=delays)
    assert _read(tmp_path / name) == (list(range(len(delays))), fps)


def _by_a_browser(path: Path, times_ms: Sequence[int]) -> Path:
    """A WebM as browsers record it: no duration of a frame, nor of the whole."""
    options = {"codec_options": {"deadline": "realtime"}, "container_options": {"live": "1"}}
    images = _images(len(times_ms))
    write_clip(path, images, codec="libvpx", fps=1000, pts=times_ms, **options)
    content = bytearray(path.read_bytes())
    at = content.index(bytes.fromhex("23e38383"))  # the default duration, of 3 bytes: make it void
    content[at : at + 7] = bytes.fromhex("ec850000000000")
    path.write_bytes(content)
    return path


def test_a_browser_s_recording_plays_at_the_rate_of_its_times(tmp_path: Path) -> None:
    path = _by_a_browser(tmp_path / "even.webm", range(0, 2400, 40))
    assert _read(path) == (list(range(60)), 25)
    assert _read(path, 25)[0] == list(range(60))
    times = [33 * k + 7 * k % 5 for k in range(60)]
    path = _by_a_browser(tmp_path / "uneven.webm", times)
    numbers, fps = _read(path)
    assert numbers == list(range(60))
    assert fps == Fraction(59_000, times[-1])
    assert len(_read(path, 30)[0]) == pytest.approx(60, abs=1)


@pytest.mark.parametrize("gap", [-2, -1, 0, 1])
def test_a_joined_film_keeps_the_rate_of_its_parts(tmp_path: Path, gap: int) -> None:
    """Two parts with B-frames one behind the other; the join is some frames too short or long."""
    parts = [
        write_clip(tmp_path / f"{k}.mp4", _images(20, 20 * k), codec_options={"bf": "2"})
        for k in range(2)
    ]
    last = -(10**9)

    def shift(part: int, _: int, packet: Any) -> None:
        nonlocal last
        packet.pts += part * (20 + gap) * 512
        last = packet.dts = max(packet.dts + part * (20 + gap) * 512, last + 1)

    remux(tmp_path / "a.mp4", parts, shift)
    assert _read(tmp_path / "a.mp4") == (list(range(40)), 25)


def test_a_clock_that_starts_again_is_no_higher_rate(tmp_path: Path) -> None:
    parts = [write_clip(tmp_path / f"{k}.ts", _images(20, 20 * k)).read_bytes() for k in (0, 1)]
    (tmp_path / "a.ts").write_bytes(b"".join(parts))
    assert _read(tmp_path / "a.ts") == (list(range(40)), 25)


@pytest.mark.parametrize("fps", [Fraction(24_000, 1001), Fraction(30_000, 1001), Fraction(25)])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.flv", "a.mov", "a.avi", "a.h264"])
def test_a_rate_that_is_right_is_left_as_it_is(tmp_path: Path, name: str, fps: Fraction) -> None:
    codec = "mpeg4" if name == "a.avi" else "libx264"
    path = write_clip(tmp_path / name, _images(60), fps=fps, codec=codec)
    assert _read(path) == (list(range(60)), fps)


def test_uneven_times_play_at_their_mean(tmp_path: Path) -> None:
    times = [k * (k + 3) // 2 for k in range(60)]
    for name in ("a.mkv", "a.mp4"):
        path = write_clip(tmp_path / name, _images(60), fps=100, pts=times)
        assert _read(path) == (list(range(60)), Fraction(59 * 100, times[-1]))
