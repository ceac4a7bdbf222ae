"""Frames from the middle of a video on are those of a whole reading, wherever decoding begins."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
from clip_files import barcode, write_clip

from ldf_video.errors import ReadError, TruncatedError
from ldf_video.video import seek, video_frames
from ldf_video.video.decode import _AvMedia, open_container, picture_stream
from ldf_video.video.geometry import Geometry
from ldf_video.video.packets import TimesError
from ldf_video.video.read import open_clips
from ldf_video.video.seek import SoughtMedia, open_sought
from ldf_video.video.timeline import read_timeline
from ldf_video.video.timing import find_midway

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from av.packet import Packet
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

NATIVE = Geometry(48, 64)
NUM_FRAMES = 100
GROUPS = {"codec_options": {"g": "12", "bf": "3"}}
OPEN = {"x264-params": "open-gop=1:keyint=12:min-keyint=12:bframes=3:scenecut=0"}
HEVC = "log-level=none:keyint=12:min-keyint=12:bframes=4:open-gop="
UNEVEN = [k * (k + 3) // 2 for k in range(NUM_FRAMES)]


@pytest.fixture
def _seek_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_frames, "_MIN_SOUGHT", 0)


def _images(count: int = NUM_FRAMES) -> list[NDArray[np.uint8]]:
    """Each with noise of its own: no two are alike, and each has some weight in the file."""
    images = []
    for k in range(count):
        image = barcode(k % 256)
        image[:12] = np.random.default_rng(k).integers(0, 256, image[:12].shape)
        images.append(image)
    return images


def _read(path: Path, geometry: Geometry, first: int = 0) -> tuple[list[NDArray[np.uint8]], str]:
    """The frames from one on, and why there are no more."""
    (clip,) = open_clips(path, geometry, first_frames=[first])
    frames, damage = [], ""
    try:
        for frame in clip.frames:
            frames.append(frame)
    except TruncatedError as error:
        damage = str(error)
    return frames, damage


def _sought(path: Path, first: int, geometry: Geometry = NATIVE, **options: Any) -> bool:
    (clip,) = open_clips(path, geometry, first_frames=[first], **options)
    return clip.sought


def _why_not(path: Path, first: int, fps: Fraction | None = None) -> str:
    with pytest.raises(TimesError) as caught:
        _decode_from(path, first, fps)
    return str(caught.value)


def _decode_from(path: Path, first: int, fps: Fraction | None = None) -> None:
    with open_sought(path, first, fps=fps, threads=1, alive=lambda: None) as media:
        list(media.frames())


# The same frames, pixel for pixel


@pytest.mark.usefixtures("_seek_early")
@pytest.mark.parametrize("fps", [None, Fraction(10), Fraction(60)])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", GROUPS),
        ("a.mkv", GROUPS),
        ("a.mov", GROUPS),
        ("open.mp4", {"codec_options": OPEN}),
        ("open.mkv", {"codec_options": OPEN}),
        ("refresh.mp4", {"codec_options": {"x264-params": "intra-refresh=1:keyint=12"}}),
        ("open.mp4", {"codec": "libx265", "codec_options": {"x265-params": HEVC + "1"}}),
        ("closed.mkv", {"codec": "libx265", "codec_options": {"x265-params": HEVC + "0"}}),
        ("a.webm", {"codec": "libvpx-vp9", "codec_options": {"g": "12", "lag-in-frames": "16"}}),
        ("a.mp4", {"codec": "libsvtav1", "codec_options": {"g": "12"}}),
        ("a.mkv", {"codec": "ffv1", "pix_fmt": "bgr0", "codec_options": {"g": "12"}}),
        ("a.mkv", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
        ("a.mov", {"codec": "prores_ks", "pix_fmt": "yuv422p10le"}),
        ("late.mp4", {**GROUPS, "pts": range(50, 50 + NUM_FRAMES)}),
        ("ten.mp4", {**GROUPS, "pix_fmt": "yuv420p10le"}),
        ("turned.mp4", {**GROUPS, "rotation": 90}),
        ("pieces.mp4", {**GROUPS, "container_options": {"movflags": "frag_keyframe+empty_moov"}}),
        (
            "interlaced.mp4",
            {"codec_options": {"g": "12", "flags": "+ildct+ilme", "x264-params": "interlaced=1"}},
        ),
    ],
)
def test_frames_from_the_middle_are_those_of_a_whole_reading(
    tmp_path: Path, name: str, options: dict[str, Any], fps: Fraction | None
) -> None:
    path = write_clip(tmp_path / name, _images(), **options)
    geometry = Geometry(48, 64, fps=fps)
    whole, damage = _read(path, geometry)
    assert (len(whole) >= 40, damage) == (True, "")
    per_frame = len(whole) / NUM_FRAMES
    keys = [round(key * per_frame) for key in (12, 36, 84)]
    firsts = {first for key in keys for first in (key - 1, key, key + 1, key + 3)}
    for first in (1, *sorted(firsts), len(whole) - 1, len(whole), len(whole) + 9):
        frames, damage = _read(path, geometry, first)
        assert (len(frames), damage) == (max(0, len(whole) - first), "")
        assert np.array_equal(frames, whole[first:])
    assert _sought(path, keys[-1] + 3, geometry)
    assert not _sought(path, keys[-1] + 3, geometry, seek=False)
    assert not _sought(path, NUM_FRAMES + 9)


@pytest.mark.usefixtures("_seek_early")
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("fps", [None, Fraction(5), Fraction(24)])
def test_uneven_times_are_sought_by_time(tmp_path: Path, name: str, fps: Fraction | None) -> None:
    path = write_clip(tmp_path / name, _images(), fps=100, pts=UNEVEN, **GROUPS)  # type: ignore[arg-type]
    geometry = Geometry(48, 64, fps=fps)
    whole, _ = _read(path, geometry)
    assert len(whole) > 240 if fps else len(whole) == NUM_FRAMES
    share = len(whole) // 16
    for first in (*range(share, len(whole), share), len(whole) - 1, len(whole) + 1):
        frames, _ = _read(path, geometry, first)
        assert np.array_equal(frames, whole[first:])
    assert _sought(path, len(whole) - 2, geometry)


# Where it is not sure which frame is which, all are decoded


def _remuxed(
    path: Path, change: Callable[[Packet[VideoStream], int], bool], **options: Any
) -> None:
    """Copies a clip packet by packet; `change` alters one and says whether it stays."""
    whole = write_clip(path.with_name(f"whole{path.suffix}"), _images(), **{**GROUPS, **options})
    settings = {"avoid_negative_ts": "disabled"}
    with av.open(str(whole)) as source, av.open(str(path), "w", options=settings) as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        for number, packet in enumerate(source.demux(stream)):
            frame_ticks = round(1 / 25 / stream.time_base)  # type: ignore[operator]
            if packet.size and change(packet, frame_ticks * 1000 + number):
                packet.stream = copy
                target.mux(packet)


def _edited(path: Path) -> None:
    def change(packet: Packet[VideoStream], code: int) -> bool:
        ticks = code // 1000
        assert packet.pts is not None
        assert packet.dts is not None
        packet.pts, packet.dts = packet.pts - 2 * ticks, packet.dts - 2 * ticks
        return True

    _remuxed(path, change, codec_options={"g": "12", "bf": "0"})


def _all_keys(path: Path) -> None:
    def change(packet: Packet[VideoStream], code: int) -> bool:
        packet.is_keyframe = True
        return True

    _remuxed(path, change, codec_options={"g": "250", "sc_threshold": "0"})


def _begins_between(path: Path) -> None:
    _remuxed(path, lambda packet, code: code % 1000 > 5)


def _growing(path: Path) -> None:
    options = {"x264-params": "repeat-headers=1:bframes=0:keyint=12"}
    images = _images()
    halves = [images[:50], [image.repeat(2, axis=0) for image in images[50:]]]
    with av.open(str(path), "w") as target:
        copy = None
        for half, content in enumerate(halves):
            part = write_clip(path.with_name(f"{half}.mp4"), content, codec_options=options)
            with av.open(str(part)) as source:
                stream = source.streams.video[0]
                copy = copy or target.add_stream_from_template(stream)
                shift = half * round(50 / 25 / stream.time_base)  # type: ignore[operator]
                for packet in source.demux(stream):
                    if packet.size:
                        assert packet.pts is not None
                        assert packet.dts is not None
                        packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                        packet.stream = copy
                        target.mux(packet)


def _cut(path: Path) -> None:
    write_clip(path, _images(), **GROUPS)  # type: ignore[arg-type]
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 9 // 10])


def _as(**options: Any) -> Callable[[Path], object]:
    return lambda path: write_clip(path, _images(), **options)


@pytest.mark.usefixtures("_seek_early")
@pytest.mark.parametrize(
    ("name", "make", "reason"),
    [
        ("a.ts", _as(**GROUPS), "the container mpegts"),
        ("a.avi", _as(codec="mpeg4", codec_options={"g": "12", "bf": "2"}), "the container avi"),
        ("a.h264", _as(**GROUPS), "the container h264"),
        ("a.mp4", _as(codec="mpeg4", codec_options={"g": "12"}), "the codec mpeg4"),
        ("a.webm", _as(codec="libvpx", codec_options={"g": "12"}), "the codec vp8"),
        ("a.mp4", _edited, "an edit list that leaves frames out"),
        ("a.mp4", _growing, "frames that may change in size"),
        ("a.mp4", _all_keys, "no key frame before it but the first"),
        ("a.mkv", _begins_between, "no key frame at the beginning"),
        ("a.mkv", _cut, "the file ends early"),
        ("a.mp4", lambda path: path.write_text("notes"), "not a video: Invalid data found"),
    ],
)
def test_the_rest_is_decoded_from_the_start(
    tmp_path: Path, name: str, make: Callable[[Path], object], reason: str
) -> None:
    path = tmp_path / name
    make(path)
    assert _why_not(path, 40).startswith(reason)
    for fps in (None, Fraction(10)):
        geometry = Geometry(48, 64, crop="none", fps=fps)
        try:
            whole, damage = _read(path, geometry)
        except ReadError:
            assert path.read_bytes() == b"notes"
            return
        assert len(whole) > 30
        for first in (1, 12, 25, len(whole) - 1, len(whole)):
            frames, same_damage = _read(path, geometry, first)
            assert np.array_equal(frames, whole[first:])
            assert same_damage == damage
            assert not _sought(path, first, geometry)


@pytest.mark.usefixtures("_seek_early")
def test_a_leap_in_time_is_not_for_seeking_by_time(tmp_path: Path) -> None:
    pts = [k if k < 50 else k + 700 * 25 for k in range(NUM_FRAMES)]
    path = write_clip(tmp_path / "a.mkv", _images(), pts=pts, **GROUPS)  # type: ignore[arg-type]
    assert _why_not(path, 80, Fraction(25)) == "a leap in time"
    geometry = Geometry(48, 64, fps=Fraction(25))
    whole, _ = _read(path, geometry)
    assert len(whole) == NUM_FRAMES  # the clock makes the leap a step
    assert np.array_equal(_read(path, geometry, 80)[0], whole[80:])
    assert _sought(path, 80)  # without a rate, times do not matter


# Where it goes wrong on the way


def _false_from(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*args: Any, **options: Any) -> Any:
        timeline, first = read_timeline(*args, **options)
        pts = timeline.pts.copy()
        pts[number:] += 1
        return dataclasses.replace(timeline, pts=pts), first

    monkeypatch.setattr(seek, "read_timeline", read)


@pytest.mark.usefixtures("_seek_early")
@pytest.mark.parametrize("fps", [None, Fraction(10), Fraction(60)])
def test_another_frame_than_the_next_means_reading_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fps: Fraction | None
) -> None:
    path = write_clip(tmp_path / "a.mp4", _images(), **GROUPS)  # type: ignore[arg-type]
    geometry = Geometry(48, 64, fps=fps)
    whole, _ = _read(path, geometry)
    first = len(whole) // 2
    _false_from(70, monkeypatch)
    (clip,) = open_clips(path, geometry, first_frames=[first])
    assert clip.sought
    frames, positions = [], []
    for frame in clip.frames:
        frames.append(frame)
        positions.append(clip.position())
    assert np.array_equal(frames, whole[first:])
    assert positions == sorted(positions)
    assert 0.9 < positions[-1] <= 1
    _false_from(0, monkeypatch)
    assert not _sought(path, first, geometry)
    assert np.array_equal(_read(path, geometry, first)[0], whole[first:])


class _Elsewhere:
    """A container in which a seek ends elsewhere, as in a file with a broken index."""

    def __init__(self, container: Any, *, offset: int) -> None:
        self._container, self._offset = container, offset
        self.streams, self.demux = container.streams, container.demux

    def seek(self, pts: int, *, stream: VideoStream) -> None:
        self._container.seek(pts + self._offset, stream=stream)


@pytest.mark.parametrize("frames_off", [-500, -30, -1, 1, 24, 500])
def test_a_seek_that_ends_early_is_made_good_and_one_too_late_is_told(
    tmp_path: Path, frames_off: int
) -> None:
    path = write_clip(tmp_path / "a.mkv", _images(), **GROUPS)  # type: ignore[arg-type]
    with path.open("rb") as file, open_container(file) as container:
        timeline, _ = read_timeline(container, picture_stream(container))
        midway = find_midway(timeline.pts, time_base=timeline.time_base, first=40, fps=None)
        elsewhere: Any = _Elsewhere(container, offset=frames_off * 40)
        media = SoughtMedia(
            elsewhere, timeline, midway, num_bytes=path.stat().st_size, alive=lambda: None
        )
        if frames_off > 1:
            with pytest.raises(TimesError, match=r"^seeking ends behind the key frame$"):
                list(media.frames())
        else:
            assert [frame.pts for frame in media.frames()] == timeline.pts[40:].tolist()
            assert media.position() > 0.9


def test_a_decoder_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / "a.mp4", _images(), codec_options={"g": "12", "bf": "0"})
    packets = SoughtMedia._packets

    def broken(self: SoughtMedia) -> Iterator[Packet[VideoStream]]:
        for number, packet in enumerate(packets(self)):
            if number == 20:
                raise av.error.InvalidDataError(1, "broken")
            yield packet

    monkeypatch.setattr(SoughtMedia, "_packets", broken)
    assert _why_not(path, 40) == "broken"
    monkeypatch.setattr(SoughtMedia, "_packets", lambda self: iter(list(packets(self))[:-1]))
    assert _why_not(path, 40) == "fewer frames than packets"


@pytest.mark.usefixtures("_seek_early")
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("fps", [None, Fraction(10)])
def test_damage_behind_is_told_as_from_the_start(
    tmp_path: Path, name: str, fps: Fraction | None
) -> None:
    path = write_clip(tmp_path / name, _images(), **GROUPS)  # type: ignore[arg-type]
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(container.streams.video[0])]
    content = path.read_bytes()
    assert content.count(packets[80]) == 1
    path.write_bytes(content.replace(packets[80], b"\xff" * len(packets[80])))
    geometry = Geometry(48, 64, fps=fps)
    whole, damage = _read(path, geometry)
    assert damage.startswith("damaged after ")
    first = len(whole) // 2
    assert _sought(path, first, geometry)
    frames, same_damage = _read(path, geometry, first)
    assert np.array_equal(frames, whole[first:])
    assert same_damage == damage


# Whether it does seek


def test_a_far_frame_costs_the_packets_from_its_key_frame_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_clip(
        tmp_path / "a.mp4", _images(420), codec_options={"g": "12", "sc_threshold": "0"}
    )
    counts = {"sought": 0, "whole": 0}

    def count(kind: str, packets: Callable[[Any], Iterator[Any]]) -> Callable[[Any], Iterator[Any]]:
        def counted(self: Any) -> Iterator[Any]:
            for packet in packets(self):
                counts[kind] += 1
                yield packet

        return counted

    monkeypatch.setattr(SoughtMedia, "_packets", count("sought", SoughtMedia._packets))
    monkeypatch.setattr(_AvMedia, "_whole_packets", count("whole", _AvMedia._whole_packets))
    whole, _ = _read(path, NATIVE)
    assert counts == {"sought": 0, "whole": 420}
    counts["whole"] = 0
    (clip,) = open_clips(path, NATIVE, first_frames=[400], threads=1)
    assert clip.sought
    assert np.array_equal(list(clip.frames), whole[400:])
    assert counts["sought"] == 420 - 396
    assert counts["whole"] < 20  # to see that there is a frame
    beats: list[int] = []
    assert _sought(path, 400, alive=lambda: beats.append(0))
    assert len(beats) >= 3


def test_a_near_frame_is_not_sought(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", _images(320), codec_options={"g": "12"})
    assert _sought(path, 300)
    assert not _sought(path, 299)
    slow = Geometry(48, 64, fps=Fraction(5))
    assert _sought(path, 60, slow)  # frame 300 of the file
    assert not _sought(path, 59, slow)


def test_no_file_stays_open(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", _images(320), codec_options={"g": "12"})
    num_open = len(list(Path("/dev/fd").iterdir()))
    for first in (310, 319, 320):
        clips = list(open_clips(path, NATIVE, first_frames=[first]))
        next(clips[0].frames, None)
        del clips
    assert len(list(Path("/dev/fd").iterdir())) == num_open
