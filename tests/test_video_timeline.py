"""What packets tell of frames: their times, and where decoding may begin."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
from clip_files import barcode, write_clip

from ldf_video.video import timeline as timeline_module
from ldf_video.video.decode import open_container, picture_stream
from ldf_video.video.packets import TimesError, _inspect_vp9, _recovers_at_once, _UnitInspector
from ldf_video.video.timeline import Timeline, _in_display_order, read_timeline
from ldf_video.video.timing import find_midway, resample

if TYPE_CHECKING:
    from pathlib import Path

BY_X264 = "keyint=8:min-keyint=8:scenecut=0:bframes=3:"


def _timeline(path: Path, **options: Any) -> tuple[Timeline, av.VideoFrame]:
    with path.open("rb") as file, open_container(file) as container:
        return read_timeline(container, picture_stream(container), **options)


# Times


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_frames_come_in_the_order_in_which_they_show(tmp_path: Path, name: str) -> None:
    images = [barcode(k) for k in range(100)]
    path = write_clip(
        tmp_path / name, images, pts=range(5, 105), codec_options={"x264-params": BY_X264}
    )
    timeline, first = _timeline(path)
    seconds = timeline.pts * float(timeline.time_base)
    np.testing.assert_allclose(seconds, np.arange(5, 105) / 25, atol=1e-9)
    assert np.array_equal(timeline.entry_pts, timeline.pts[::8])
    assert timeline.last_duration * timeline.time_base == Fraction(1, 25)
    assert (first.pts, first.width, first.height) == (timeline.pts[0], 64, 48)
    assert timeline.pts.nbytes == 8 * 100


def test_who_waits_hears_of_it(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", [barcode(k % 256) for k in range(600)])
    beats: list[int] = []
    _timeline(path, alive=lambda: beats.append(0))
    assert len(beats) == 3  # at packets 0, 256 and 512


@pytest.mark.parametrize(
    ("pts", "reason"),
    [
        ([2, 0, 1], "frames before the first key frame"),
        ([0, 2, 1, 2], "two frames at one time"),
        ([*range(0, 200, 2), *range(1, 200, 2)], "times that jump back"),
    ],
)
def test_other_orders_tell_no_number(pts: list[int], reason: str) -> None:
    with pytest.raises(TimesError, match=f"^{reason}$"):
        _in_display_order(np.array(pts))


def test_pictures_may_wait_for_others() -> None:
    assert _in_display_order(np.array([0, 8, 4, 2, 6])).tolist() == [0, 2, 4, 6, 8]


def test_a_beginning_that_decodes_otherwise_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_clip(tmp_path / "a.mkv", [barcode(k) for k in range(30)])
    monkeypatch.setattr(
        timeline_module, "_packet_time", lambda packet, is_first: packet.pts + (not is_first)
    )
    with pytest.raises(TimesError, match=r"^packets that are no frames$"):
        _timeline(path)


# Where decoding may begin


@pytest.mark.parametrize(
    ("params", "step"),
    [
        ("open-gop=0", 8),
        ("open-gop=1", 8),
        ("intra-refresh=1", 100),  # its recovery points take a while to recover
        ("keyint=infinite", 100),
    ],
)
def test_entries_of_h264(tmp_path: Path, params: str, step: int) -> None:
    images = [barcode(k) for k in range(60)]
    path = write_clip(tmp_path / "a.mp4", images, codec_options={"x264-params": BY_X264 + params})
    timeline, _ = _timeline(path)
    assert np.array_equal(timeline.entry_pts, timeline.pts[::step])


@pytest.mark.parametrize("open_gop", [0, 1])
def test_entries_of_hevc(tmp_path: Path, open_gop: int) -> None:
    params = f"log-level=none:keyint=8:min-keyint=8:scenecut=0:bframes=3:open-gop={open_gop}"
    path = write_clip(
        tmp_path / "a.mkv",
        [barcode(k) for k in range(60)],
        codec="libx265",
        codec_options={"x265-params": params},
    )
    timeline, _ = _timeline(path)
    assert np.array_equal(timeline.entry_pts, timeline.pts[::8])


def test_entries_of_other_codecs_are_their_key_frames(tmp_path: Path) -> None:
    images = [barcode(k) for k in range(30)]
    path = write_clip(tmp_path / "a.webm", images, codec="libvpx-vp9", codec_options={"g": "10"})
    timeline, _ = _timeline(path)
    assert np.array_equal(timeline.entry_pts, timeline.pts[::10])


@pytest.mark.parametrize(
    ("unit", "recovers"),
    [
        ([0x06, 6, 1, 0b1100_0100, 0x80], True),  # recovery_frame_cnt 0, exact
        ([0x06, 6, 1, 0b1000_0100, 0x80], False),  # not exact
        ([0x06, 6, 1, 0b0101_0001, 0x80], False),  # after one frame
        ([0x06, 5, 3, 1, 2, 3, 6, 1, 0b1100_0100, 0x80], True),  # behind another message
        ([0x06, 5, 4, 1, 2, 3, 6, 1, 0b1100_0100, 0x80], False),  # within another message
        ([0x06, 5, 4, 0, 0, 3, 1, 9, 6, 1, 0b1100_0100, 0x80], True),  # a 3 that means nothing
        ([0x06, 255, 6, 1, 0b1100_0100, 0x80, 0x80], False),  # type 261
        ([0x06, 5, 255, 1, *[7] * 256, 6, 1, 0b1100_0100, 0x80], True),  # of 256 bytes
        ([0x06, 6], False),
        ([0x06, 255, 255, 255], False),  # damaged: a type without an end
        ([0x06], False),
    ],
)
def test_a_recovery_point_is_one_where_all_is_exact_at_once(
    unit: list[int], recovers: bool
) -> None:
    assert _recovers_at_once(bytes(unit)) is recovers


def _packet(data: list[int]) -> av.Packet:  # type: ignore[type-arg]
    packet = av.Packet(bytes(data))
    packet.is_keyframe = True
    return packet


HEVC_HEAD = bytes([1, *[0] * 20, 0xFC | 1])  # lengths of two bytes
H264_HEAD = bytes([1, 0, 0, 0, 0xFC | 1])
SEQUENCE = [0x67, 9, 9]


@pytest.mark.parametrize(
    ("units", "result"),
    [
        ([[0x65, 1]], True),
        ([[0x41, 1]], False),
        ([[0x06, 6, 1, 0xC4, 0x80], [0x41, 1]], True),
        ([SEQUENCE, [0x65, 1]], True),  # known
        ([[0x67, 9, 8], [0x65, 1]], "frames that may change in size"),
        ([[0x68, 9, 8], [0x65, 1]], "headers that change"),
    ],
)
def test_units_of_h264(units: list[list[int]], result: bool | str) -> None:
    inspect = _UnitInspector(H264_HEAD + bytes(SEQUENCE), hevc=False)
    packet = _packet([value for unit in units for value in (0, len(unit), *unit)])
    _check(inspect, packet, result)


@pytest.mark.parametrize(
    ("kind", "result"),
    [
        (1, False),
        (16, "a broken link between pictures"),
        (19, True),
        (20, True),
        (21, True),
        (33, "frames that may change in size"),
        (34, "headers that change"),
        (36, "a broken link between pictures"),
    ],
)
def test_units_of_hevc(kind: int, result: bool | str) -> None:
    _check(_UnitInspector(HEVC_HEAD, hevc=True), _packet([0, 3, kind << 1, 1, 7]), result)


@pytest.mark.parametrize(
    ("data", "result"),
    [
        ([0b1000_0010, 0], True),  # profile 0, key frame, shown
        ([0b1000_0000, 0], "packets without a frame"),
        ([0b1000_1000, 0], True),  # shows a frame that is there
        ([0b1011_0001, 0], True),  # profile 3 has a bit more
        ([0b1011_0000, 0b1000_0000], "packets without a frame"),
        ([0b1000_0000, 0, 0b1100_0000], True),  # several in one, the last of which is shown
    ],
)
def test_frames_of_vp9(data: list[int], result: bool | str) -> None:
    _check(_inspect_vp9, _packet(data), result)


def _check(inspect: Any, packet: Any, result: bool | str) -> None:
    if isinstance(result, str):
        with pytest.raises(TimesError, match=f"^{result}$"):
            inspect(packet)
    else:
        assert inspect(packet) is result
        packet.is_keyframe = False
        assert inspect(packet) is False


@pytest.mark.parametrize("extradata", [b"", b"\0\0\0\1\x67", b"\1\0"])
def test_units_need_their_parameter_sets_up_front(extradata: bytes) -> None:
    for hevc in (False, True):
        with pytest.raises(TimesError, match=r"^no parameter sets up front$"):
            _UnitInspector(extradata, hevc=hevc)


# Between two frames


def _frames(pts: list[int]) -> list[av.VideoFrame]:
    frames = []
    for value in pts:
        frame = av.VideoFrame(2, 2, "rgb24")
        frame.pts, frame.time_base = value, Fraction(1, 1000)
        frames.append(frame)
    return frames


@pytest.mark.parametrize(
    "fps", [Fraction(30000, 1001), Fraction(7), Fraction(1000), Fraction(1, 2)]
)
def test_outputs_go_on_midway_as_from_the_start(fps: Fraction) -> None:
    rng = np.random.default_rng(0)
    pts = np.cumsum(rng.integers(1, 300, 60)) + 12_345
    pts[30:] += 60_000  # one long still
    frames = _frames(pts.tolist())
    whole = list(resample(frames, native_fps=Fraction(10), fps=fps))
    for first in range(1, len(whole), max(1, len(whole) // 97)):
        try:
            midway = find_midway(pts, time_base=Fraction(1, 1000), first=first, fps=fps)
        except TimesError:
            assert whole[first] is frames[0]
            continue
        assert frames[midway.num_inputs] is whole[first]
        rest = resample(
            frames[midway.num_inputs :], native_fps=Fraction(10), fps=fps, midway=midway
        )
        assert all(a is b for a, b in zip(rest, whole[first:], strict=True))


def test_a_time_is_met_with_the_same_tolerance() -> None:
    pts = np.array([0, 33, 67, 100, 133, 167, 200])  # 30 a second, rounded to milliseconds
    for first in range(1, 7):
        midway = find_midway(pts, time_base=Fraction(1, 1000), first=first, fps=Fraction(30))
        assert midway.num_inputs == first


@pytest.mark.parametrize(("first", "fps"), [(0, None), (3, None), (9, None), (1, Fraction(100))])
def test_some_places_are_no_middle(first: int, fps: Fraction | None) -> None:
    with pytest.raises(TimesError, match=r"^no such frame$"):
        find_midway(np.array([0, 40, 80]), time_base=Fraction(1, 1000), first=first, fps=fps)
    with pytest.raises(TimesError, match=r"^no such frame$"):
        find_midway(np.array([0]), time_base=Fraction(1, 1000), first=1, fps=fps)
