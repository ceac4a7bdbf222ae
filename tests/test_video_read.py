from __future__ import annotations

import importlib.util
import itertools
import random
import tracemalloc
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from clip_files import LOSSLESS, barcode, noisy_barcode, read_barcode, write_clip
from PIL import Image

from ldf_video.errors import ReadError, TruncatedError
from ldf_video.video.geometry import Geometry
from ldf_video.video.read import SKIP, VideoInfo, count_clips, frame_size, open_clips, probe
from ldf_video.video.sources import find_sources

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ldf_video.video.read import Reader

NATIVE = Geometry(48, 64)
# decord is not made for every platform
READERS = ["pyav", "decord"] if importlib.util.find_spec("decord") else ["pyav"]


def _frames(path: Path, geometry: Geometry = NATIVE) -> list[NDArray[np.uint8]]:
    (clip,) = open_clips(path, geometry)
    return list(clip.frames)


def _numbers(path: Path, geometry: Geometry = NATIVE) -> list[int]:
    return [read_barcode(image) for image in _frames(path, geometry)]


def _save_animation(path: Path, images: Sequence[NDArray[np.uint8]], **options: Any) -> None:
    first, *others = map(Image.fromarray, images)
    first.save(path, save_all=True, append_images=others, **options)


def _noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


# Exact frames and pixels


@pytest.mark.parametrize("pix_fmt", ["bgr0", "gbrp10le"])
def test_lossless_clips_come_out_bit_for_bit(tmp_path: Path, pix_fmt: str) -> None:
    images = _noise(3, 48, 64, 3)
    path = write_clip(tmp_path / "a.mkv", list(images), codec="ffv1", pix_fmt=pix_fmt)
    frames = _frames(path)
    assert np.array_equal(frames, images)
    assert all(frame.flags.c_contiguous and frame.dtype == np.uint8 for frame in frames)


@pytest.mark.parametrize(
    ("size", "part"),
    [
        ((48, 64), np.s_[:, :, 8:56]),  # landscape: left and right go
        ((64, 48), np.s_[:, 8:56, :]),  # portrait: top and bottom go
        ((48, 48), np.s_[:, :, :]),
    ],
)
def test_both_crops_of_landscape_and_portrait(
    tmp_path: Path, size: tuple[int, int], part: tuple[slice, ...]
) -> None:
    images = _noise(2, *size, 3)
    path = write_clip(tmp_path / "a.mkv", list(images), **LOSSLESS)
    centre = images[part].reshape(2, 24, 2, 24, 2, 3).mean((2, 4))
    cropped = np.stack(_frames(path, Geometry(24, 24, crop="centre")))
    assert np.abs(cropped - centre).max() <= 1
    assert np.array_equal(_frames(path, Geometry(48, 48, crop="centre")), images[part])
    rows, columns = size[0] // 16, size[1] // 16
    whole = images.reshape(2, 16, rows, 16, columns, 3).mean((2, 4))
    squeezed = np.stack(_frames(path, Geometry(16, 16, crop="none")))
    assert np.abs(squeezed - whole).max() <= 1


def test_a_thin_wide_frame_is_cut_before_it_grows(tmp_path: Path) -> None:
    image = np.zeros((2, 2000, 3), np.uint8)
    image[:, 999:1001] = 200
    path = write_clip(tmp_path / "a.mkv", [image], **LOSSLESS)
    (frame,) = _frames(path, Geometry(32, 32))
    assert (frame == 200).all()


def test_a_larger_picture_on_the_way_is_scaled_as_it_is(tmp_path: Path) -> None:
    streams, images = [], []
    for name, size in (("a.h264", (48, 64)), ("b.h264", (96, 128)), ("c.h264", (48, 128))):
        image = _noise(*size, 3)
        options: dict[str, Any] = {"codec_options": {"qp": "0"}, "pix_fmt": "rgb24"}
        path = write_clip(tmp_path / name, [image], codec="libx264rgb", **options)
        streams.append(path.read_bytes())
        images.append(image)
    (tmp_path / "all.h264").write_bytes(b"".join(streams))
    first, second, third = _frames(tmp_path / "all.h264")
    assert np.array_equal(first, images[0])
    assert np.abs(second - images[1].reshape(48, 2, 64, 2, 3).mean((1, 3))).max() <= 1
    assert np.array_equal(third, images[2][:, 32:96])


def test_both_fields_of_interlaced_frames_are_kept(tmp_path: Path) -> None:
    images = []
    for k in range(20):
        image = barcode(k)
        image[1::2] = barcode(k + 100)[1::2]  # the other field, another picture
        images.append(image)
    options = {"flags": "+ildct+ilme", "x264-params": "interlaced=1", "qp": "4"}
    path = write_clip(tmp_path / "a.mp4", images, codec_options=options, pix_fmt="yuv444p")
    frames = _frames(path)
    assert [read_barcode(frame[::2]) for frame in frames] == list(range(20))
    assert [read_barcode(frame[1::2]) for frame in frames] == list(range(100, 120))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_a_late_start_is_time_zero(tmp_path: Path, name: str) -> None:
    path = write_clip(tmp_path / name, [barcode(k) for k in range(40)], pts=range(90, 130))
    for fps, step in ((25, 1), (5, 5)):
        assert _numbers(path, Geometry(48, 64, fps=Fraction(fps))) == list(range(0, 40, step))


# Pixels that are not square


# Bit for bit, in a container that says the sample aspect ratio.
EXACT: dict[str, Any] = {
    "codec": "libx264rgb",
    "pix_fmt": "rgb24",
    "codec_options": {"qp": "0"},
}


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_wide_pixels_are_cut_by_what_is_shown(tmp_path: Path, rotation: int) -> None:
    image = _noise(48, 64, 3)
    path = write_clip(
        tmp_path / "a.mp4", [image] * 2, rotation=rotation, sample_aspect_ratio=Fraction(2), **EXACT
    )
    # 64 pixels are shown as 128: a square is 48 rows of 24 pixels.
    square = image[:, 20:44].reshape(24, 2, 24, 3).mean(1)
    frames = np.stack(_frames(path, Geometry(24, 24)))
    assert np.abs(frames - np.rot90(square, rotation // 90)).max() <= 1


def test_squeezing_asks_for_no_shape(tmp_path: Path) -> None:
    image = _noise(48, 64, 3)
    path = write_clip(tmp_path / "a.mp4", [image], sample_aspect_ratio=Fraction(16, 11), **EXACT)
    assert np.array_equal(_frames(path, Geometry(48, 64, crop="none")), [image])


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
@pytest.mark.parametrize("side", [32, 64, 300])  # smaller and larger than the source
@pytest.mark.parametrize("ratio", [Fraction(16, 11), Fraction(3, 8), Fraction(1)])
def test_what_is_round_on_the_screen_stays_round(
    tmp_path: Path, name: str, side: int, ratio: Fraction
) -> None:
    rows, columns = np.mgrid[:96, :128] + 0.5
    disc = (rows - 48) ** 2 + ((columns - 64) * float(ratio)) ** 2 < 16**2
    image = np.where(disc[..., None], np.uint8(255), np.zeros(3, np.uint8))
    codec = "mpeg4" if name == "a.avi" else "libx264"
    path = write_clip(tmp_path / name, [image], codec=codec, sample_aspect_ratio=ratio)
    seen = _frames(path, Geometry(side, side))[0][..., 0] > 127
    height = np.flatnonzero(seen.any(1)).size
    width = np.flatnonzero(seen.any(0)).size
    shown = min(96, 128 * ratio)  # the side of the square that is cut
    assert height == pytest.approx(32 * side / shown, abs=1 + side / 48)
    assert width == pytest.approx(height, abs=1 + side / 48)


@pytest.mark.parametrize("ratio", [Fraction(0), Fraction(1, 9), Fraction(100)])
def test_an_unlikely_shape_of_pixels_is_not_believed(tmp_path: Path, ratio: Fraction) -> None:
    image = _noise(48, 64, 3)
    path = write_clip(tmp_path / "a.mp4", [image], sample_aspect_ratio=ratio, **EXACT)
    assert np.array_equal(_frames(path, Geometry(48, 48)), [image[:, 8:56]])


# Time


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])  # Matroska rounds times to milliseconds
@pytest.mark.parametrize(
    ("fps", "expected"),
    [
        (30, list(range(30))),
        (15, list(range(0, 30, 2))),
        (60, [k // 2 for k in range(60)]),
        (20, [k * 3 // 2 for k in range(20)]),
    ],
)
def test_another_rate_holds_the_last_frame(
    tmp_path: Path, name: str, fps: int, expected: list[int]
) -> None:
    path = write_clip(tmp_path / name, [barcode(k) for k in range(30)], fps=30)
    assert _numbers(path, Geometry(48, 64, fps=Fraction(fps))) == expected


def test_variable_rates_go_by_time(tmp_path: Path) -> None:
    path = write_clip(
        tmp_path / "a.mkv",
        [barcode(k) for k in range(4)],
        fps=10,
        pts=[5, 6, 9, 10],  # the first frame is time 0
        **LOSSLESS,  # type: ignore[arg-type]
    )
    assert _numbers(path) == [0, 1, 2, 3]
    assert _numbers(path, Geometry(48, 64, fps=Fraction(10))) == [0, 1, 1, 1, 2, 3]


def test_a_still_picture_is_one_frame_at_any_rate(tmp_path: Path) -> None:
    Image.fromarray(barcode(77)).save(tmp_path / "a.png")
    for fps in (None, Fraction(5), Fraction(100)):
        assert _numbers(tmp_path / "a.png", Geometry(48, 64, fps=fps)) == [77]


@pytest.mark.parametrize(
    ("durations_ms", "fps"),
    [
        ([100] * 5, Fraction(10)),
        ([100, 40, 40, 20, 50], Fraction(20)),
        ([33, 33, 34, 33, 33], Fraction(5000, 166)),
        ([0] * 5, Fraction(10)),  # as in browsers
        ([10, 1, 100, 100, 100], Fraction(10)),
        ([16, 17, 17, 16, 17], Fraction(5000, 83)),
    ],
)
def test_animated_webp_says_its_rate_by_its_frames(
    tmp_path: Path, durations_ms: list[int], fps: Fraction
) -> None:
    path, images = tmp_path / "a.webp", [barcode(k) for k in range(5)]
    _save_animation(path, images, duration=durations_ms, lossless=True)
    (clip,) = open_clips(path, NATIVE)
    assert clip.fps == fps
    for number, frame in enumerate(clip.frames):
        assert np.array_equal(frame, images[number])
        assert clip.position() == (number + 1) / 5


# Animations: parts of a picture, shown through, kept or cleared


def _squares(count: int) -> list[NDArray[np.uint8]]:
    """Two 8 x 8 squares a frame, each in its place and colour, on nothing at all."""
    images = np.zeros((count, 48, 64, 4), np.uint8)
    for k, image in enumerate(images):
        image[8:16, 8 * k : 8 * k + 8] = (200, 50 * k, 0, 255)
        image[24:32, 8 * k : 8 * k + 8] = (0, 50 * k, 200, 255)
    return list(images)


def _on_white(count: int, *, kept: bool) -> NDArray[np.uint8]:
    frames = np.full((count, 48, 64, 3), 255, np.uint8)
    for k in range(count):
        for frame in frames[k : count if kept else k + 1]:
            frame[8:16, 8 * k : 8 * k + 8] = (200, 50 * k, 0)
            frame[24:32, 8 * k : 8 * k + 8] = (0, 50 * k, 200)
    return frames


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("name", ["a.gif", "a.apng", "a.png", "a.webp"])
def test_animations_show_white_where_they_show_nothing(
    tmp_path: Path, name: str, kept: bool
) -> None:
    images = _squares(5)
    options: dict[str, object] = {"lossless": True, "exact": True}
    if name == "a.gif":
        options = {"disposal": 1 if kept else 2, "optimize": False}
    elif name.endswith("png"):
        options = {"disposal": 0 if kept else 1, "blend": 1, "format": "PNG"}
    elif kept:  # a WebP file keeps what Pillow composes
        for below, image in itertools.pairwise(images):
            image[image[..., 3] == 0] = below[image[..., 3] == 0]
    _save_animation(tmp_path / name, images, duration=100, **options)
    (clip,) = open_clips(tmp_path / name, NATIVE)
    assert clip.fps == 10
    assert np.array_equal(list(clip.frames), _on_white(5, kept=kept))


@pytest.mark.parametrize("disposal", [1, 2])
def test_what_an_opaque_picture_of_a_gif_leaves_is_as_in_browsers(
    tmp_path: Path, disposal: int
) -> None:
    numbers = [0, 1, 0, 5, 2]  # of the bars that are holes; those with none are opaque
    black = np.zeros((48, 64, 3), np.uint8)
    images = [np.dstack([black, 255 - barcode(number)[..., 0]]) for number in numbers]
    _save_animation(tmp_path / "a.gif", images, duration=100, disposal=disposal)
    # Where nothing is cleared black stays black.
    assert _numbers(tmp_path / "a.gif") == (numbers if disposal == 2 else [0] * 5)


TRANSPARENT_CODECS: list[tuple[str, str, str, dict[str, str]]] = [
    ("a.mov", "png", "rgba", {}),
    ("a.mov", "png", "rgba64be", {}),
    ("a.mov", "qtrle", "argb", {}),
    ("a.mov", "prores_ks", "yuva444p10le", {"qscale": "2"}),
    ("a.mkv", "ffv1", "yuva444p", {}),
    ("a.mkv", "ffv1", "gbrap10le", {}),
    ("a.avi", "utvideo", "gbrap", {}),
    # FFmpeg's own decoders of the two leave the transparency out.
    ("a.webm", "libvpx-vp9", "yuva420p", {"auto-alt-ref": "0", "crf": "10", "b": "0"}),
    ("a.webm", "libvpx", "yuva420p", {"auto-alt-ref": "0", "b": "1M"}),
    ("a.mkv", "libvpx-vp9", "yuva420p", {"auto-alt-ref": "0", "crf": "10", "b": "0"}),
]


@pytest.mark.parametrize(("name", "codec", "pix_fmt", "options"), TRANSPARENT_CODECS)
def test_half_transparent_videos_are_laid_over_white(
    tmp_path: Path, name: str, codec: str, pix_fmt: str, options: dict[str, str]
) -> None:
    colour = np.full((48, 64, 3), (40, 100, 200), np.uint8)
    images = [np.dstack([colour, np.full((48, 64), a, np.uint8)]) for a in (255, 51, 0)]
    write_clip(tmp_path / name, images, codec=codec, pix_fmt=pix_fmt, codec_options=options)
    frames = np.stack(_frames(tmp_path / name)).astype(int)
    expected = np.array([[40, 100, 200], [212, 224, 244], [255, 255, 255]])
    assert np.abs(frames - expected[:, None, None]).max() <= 4


# How far


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {}),  # its index is at the end, and read first
        ("a.mp4", "libx264", {"movflags": "frag_every_frame+empty_moov"}),
        ("a.mkv", "libx264", {}),
        ("a.ts", "libx264", {}),
        ("a.gif", "gif", {}),
    ],
)
def test_the_position_grows_with_the_frames(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    images = [_noise(40, 48, 64, 3)[k] for k in range(40)]
    pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
    write_clip(tmp_path / name, images, codec=codec, pix_fmt=pix_fmt, container_options=options)
    (clip,) = open_clips(tmp_path / name, NATIVE)
    positions = [clip.position() for _ in clip.frames]
    assert positions == sorted(positions)
    # Decoders hold pictures back: what has been read runs ahead of what is shown, at most by half.
    assert positions[0] < 0.6
    assert len(set(positions)) > 10
    assert 0.9 < positions[-1] <= 1


# Damage


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {"movflags": "faststart"}),
        ("a.mp4", "libx264", {"movflags": "frag_every_frame+empty_moov"}),
        ("a.mkv", "libx264", {}),
        ("a.mkv", "ffv1", {}),
        ("a.webm", "libvpx-vp9", {}),
        ("a.gif", "gif", {}),
    ],
)
@pytest.mark.parametrize("share", [0.62, 0.8, 0.995])
def test_a_cut_file_gives_its_good_prefix(
    tmp_path: Path, name: str, codec: str, options: dict[str, str], share: float
) -> None:
    pix_fmt = {"gif": "rgb8", "ffv1": "bgr0"}.get(codec, "yuv420p")
    images = [noisy_barcode(k) for k in range(40)]
    path = write_clip(
        tmp_path / name, images, codec=codec, pix_fmt=pix_fmt, container_options=options
    )
    whole = _frames(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])

    (clip,) = open_clips(path, NATIVE)
    good = []
    with pytest.raises(TruncatedError, match=r"^damaged after \d+ frames: "):
        good.extend(clip.frames)
    assert 10 < len(good) < 40
    assert np.array_equal(good, whole[: len(good)])


@pytest.mark.parametrize("by", ["FFmpeg", "Pillow"])
@pytest.mark.parametrize(
    "change",
    [
        lambda content: content[:-1],
        lambda content: content[:-1] + bytes(10),
        lambda content: content + bytes(1000),
        lambda content: content + np.random.default_rng(0).bytes(5000),
        lambda content: content + b"<!-- served -->;",
        lambda content: content + content,
    ],
)
def test_a_gif_is_whole_wherever_its_last_byte_is(
    tmp_path: Path, by: str, change: Callable[[bytes], bytes]
) -> None:
    path, images = tmp_path / "a.gif", [barcode(k) for k in range(20)]
    if by == "FFmpeg":
        write_clip(path, images, codec="gif", pix_fmt="rgb8")
    else:
        _save_animation(path, images, duration=40)
    path.write_bytes(change(path.read_bytes()))
    assert _numbers(path) == list(range(20))


def test_what_was_held_at_the_damage_is_still_given(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", [barcode(k) for k in range(20)], fps=10, **LOSSLESS)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 4])
    counts = []
    for fps in (None, Fraction(20)):
        (clip,) = open_clips(path, Geometry(48, 64, fps=fps))
        good = []
        with pytest.raises(TruncatedError):
            good.extend(clip.frames)
        counts.append(len(good))
    assert counts[1] == 2 * counts[0]


# Streams


def test_what_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=r"^cannot be read: No such file or directory$"):
        next(open_clips(tmp_path / "none.mp4", NATIVE))
    with pytest.raises(ReadError, match=r"^a directory with no series of numbered pictures"):
        next(open_clips(tmp_path, NATIVE))


def test_clips_outlive_the_iterator_that_gave_them(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", [barcode(k) for k in range(3)], **LOSSLESS)
    clips = list(open_clips(path, NATIVE))
    assert [read_barcode(image) for image in clips[0].frames] == [0, 1, 2]


def test_frames_are_made_as_they_are_asked_for(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", [barcode(k) for k in range(250)])
    (clip,) = open_clips(path, NATIVE)
    next(clip.frames)
    tracemalloc.start()
    num_frames = 1 + sum(1 for _ in clip.frames)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert num_frames == 250
    assert peak_bytes < 20 * barcode(0).nbytes


# From a frame on


def _gif(path: Path) -> None:
    write_clip(path / "a.gif", [barcode(k) for k in range(40)], codec="gif", pix_fmt="rgb8")


def _webp(path: Path) -> None:
    images = [barcode(k) for k in range(40)]
    _save_animation(path / "a.webp", images, duration=40, lossless=True)


def _series(path: Path) -> None:
    for k in range(40):
        Image.fromarray(barcode(k)).save(path / f"{k}.png")


def _array(path: Path) -> None:
    np.save(path / "a.npy", np.stack([barcode(k) for k in range(40)]))


def _mp4(path: Path) -> None:
    write_clip(path / "a.mp4", [barcode(k) for k in range(40)])


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("fps", [None, Fraction(25), Fraction(10), Fraction(60)])
@pytest.mark.parametrize("make", [_mp4, _gif, _webp, _series, _array])
def test_frames_come_from_the_one_that_is_wanted(
    tmp_path: Path, make: Callable[[Path], None], fps: Fraction | None, reader: Reader
) -> None:
    make(tmp_path)
    source = tmp_path if make is _series else next(tmp_path.iterdir())
    geometry = Geometry(48, 64, fps=fps)
    (whole,) = open_clips(source, geometry, reader=reader)
    expected = [read_barcode(image) for image in whole.frames]
    assert whole.first_frame == 0
    for first in (0, 1, 7, len(expected) - 1, len(expected), len(expected) + 9):
        (clip,) = open_clips(source, geometry, reader=reader, first_frames=[first])
        assert (clip.first_frame, clip.fps, clip.index) == (first, whole.fps, None)
        assert [read_barcode(image) for image in clip.frames] == expected[first:]
        assert clip.position() <= 1
    assert list(open_clips(source, geometry, reader=reader, first_frames=[SKIP])) == []


def test_each_clip_of_an_array_has_its_own_first_frame(tmp_path: Path) -> None:
    images = _noise(4, 5, 48, 64, 3)
    np.save(tmp_path / "a.npy", images)
    clips = list(open_clips(tmp_path / "a.npy", NATIVE, first_frames=[2, SKIP, 5, 0]))
    assert [(clip.index, clip.first_frame) for clip in clips] == [(0, 2), (2, 5), (3, 0)]
    frames = [list(clip.frames) for clip in clips]
    assert np.array_equal(frames[0], images[0, 2:])
    assert frames[1] == []
    assert np.array_equal(frames[2], images[3])
    assert [clip.position() for clip in clips] == [0.25, 0.75, 1]


def test_clips_are_counted_where_there_are_several(tmp_path: Path) -> None:
    _array(tmp_path)
    np.save(tmp_path / "several.npy", _noise(3, 2, 8, 8, 3))
    (tmp_path / "broken.npy").write_text("notes")
    assert count_clips(tmp_path / "several.npy") == 3
    assert count_clips(tmp_path / "a.npy") is None
    assert count_clips(tmp_path / "no-video.mp4") is None
    with pytest.raises(ReadError, match=r"^not a .npy array: "):
        count_clips(tmp_path / "broken.npy")


def test_first_frames_must_fit_the_clips(tmp_path: Path) -> None:
    _mp4(tmp_path)
    np.save(tmp_path / "a.npy", _noise(3, 2, 8, 8, 3))
    for name, firsts in (("a.mp4", []), ("a.mp4", [-2]), ("a.mp4", [0, 0]), ("a.npy", [0])):
        with pytest.raises(ValueError, match="first frames"):
            next(open_clips(tmp_path / name, NATIVE, first_frames=firsts))


def test_who_waits_hears_that_frames_are_decoded(tmp_path: Path) -> None:
    _mp4(tmp_path)
    beats: list[int] = []
    (clip,) = open_clips(
        tmp_path / "a.mp4", NATIVE, first_frames=[39], alive=lambda: beats.append(0)
    )
    assert len(list(clip.frames)) == 1
    assert len(beats) == 3  # at frames 0, 16 and 32


# Arrays


def test_an_array_is_one_clip_or_several(tmp_path: Path) -> None:
    images = _noise(3, 2, 48, 64, 3)
    np.save(tmp_path / "a.npy", images[0])
    (clip,) = open_clips(tmp_path / "a.npy", NATIVE)
    assert (clip.index, clip.fps) == (None, 25)
    assert np.array_equal(list(clip.frames), images[0])
    np.save(tmp_path / "a.npy", images)
    clips = list(open_clips(tmp_path / "a.npy", Geometry(48, 64, fps=Fraction(8))))
    assert [(clip.index, clip.fps) for clip in clips] == [(0, 8), (1, 8), (2, 8)]
    for number, clip in enumerate(clips):
        for count, (frame, image) in enumerate(zip(clip.frames, images[number], strict=True), 1):
            assert np.array_equal(frame, image)
            assert clip.position() == (2 * number + count) / 6


def test_arrays_and_videos_scale_alike(tmp_path: Path) -> None:
    images = _noise(2, 50, 70, 3)
    np.save(tmp_path / "a.npy", images)
    write_clip(tmp_path / "a.mkv", list(images), **LOSSLESS)
    for geometry in (Geometry(16, 16), Geometry(31, 17, crop="none"), Geometry(80, 80)):
        from_array = _frames(tmp_path / "a.npy", geometry)
        assert np.array_equal(from_array, _frames(tmp_path / "a.mkv", geometry))


def test_broken_array_files_say_why(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    with pytest.raises(ReadError, match=r"^cannot be read: No such file"):
        next(open_clips(path, NATIVE))
    np.save(path, _noise(5, 48, 64, 3))
    for content in (b"", b"text", path.read_bytes()[:1000]):
        path.write_bytes(content)
        with pytest.raises(ReadError, match=r"^(not a .npy array|cannot be read): "):
            next(open_clips(path, NATIVE))


def _numbers_before_damage(path: Path, *, threads: int) -> list[int]:
    (clip,) = open_clips(path, NATIVE, threads=threads)
    numbers = []
    with pytest.raises(TruncatedError, match=r"^damaged after \d+ frames: the file ends early$"):
        numbers.extend(read_barcode(frame) for frame in clip.frames)
    return numbers


@pytest.mark.parametrize("share", [0.6, 0.7, 0.8, 0.95])
@pytest.mark.parametrize(("name", "options"), [("a.mkv", {}), ("a.mp4", {"movflags": "faststart"})])
def test_a_cut_file_of_uneven_times_gives_the_same_with_any_threads(
    tmp_path: Path, name: str, options: dict[str, str], share: float
) -> None:
    images = [noisy_barcode(k) for k in range(40)]
    chance = random.Random(1)
    pts = np.cumsum([chance.choice([1, 1, 1, 2, 5]) for _ in images]).tolist()
    path = write_clip(tmp_path / name, images, fps=10, pts=pts, container_options=options)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])

    numbers = _numbers_before_damage(path, threads=1)
    assert numbers == list(range(len(numbers)))
    assert 40 * share - 6 < len(numbers) < 40
    for threads in (2, 4, 16):
        assert _numbers_before_damage(path, threads=threads) == numbers


# What a file is


def test_a_video_is_described(tmp_path: Path) -> None:
    images = [barcode(k) for k in range(31)]
    path = write_clip(tmp_path / "a.mp4", images, fps=Fraction(30), rotation=90)
    assert probe(path) == VideoInfo(
        container="mov,mp4,m4a,3gp,3g2,mj2",
        codec="h264",
        width=64,
        height=48,
        fps=Fraction(30),
        num_frames=31,
        duration_seconds=31 / 30,
        rotation=90,
    )


def test_frames_are_counted_where_the_header_does_not_say(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", [barcode(k) for k in range(7)], pts=[*range(6), 10])
    info = probe(path)
    assert info.num_frames == 7
    assert info.duration_seconds == pytest.approx(11 / 25, abs=2e-3)


def test_an_array_is_described(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 10, 8, 6, 3), np.uint8))
    info = probe(tmp_path / "a.npy")
    assert info == VideoInfo("npy", "uint8", 6, 8, Fraction(25), 30, 1.2, 0)


def test_the_first_frame_has_an_upright_size(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 10, 8, 6, 3), np.uint8))
    write_clip(tmp_path / "b.mp4", [barcode(0)] * 3)
    write_clip(tmp_path / "c.mp4", [barcode(0)] * 3, rotation=90)
    for number in range(3):
        Image.fromarray(barcode(0, height=10, width=20)).save(tmp_path / f"d{number}.png")
    (tmp_path / "e.mp4").touch()
    *sources, bad = find_sources(tmp_path)
    names = [source.name for source in sources]
    assert names == ["a.npy", "b.mp4", "c.mp4", "d*.png"]
    assert [frame_size(source) for source in sources] == [(8, 6), (48, 64), (64, 48), (10, 20)]
    with pytest.raises(ReadError, match=r"^empty file$"):
        frame_size(bad)
