"""Files as exact frames: pixels, times, transparency, damage, first frames, and what a file is."""

from __future__ import annotations

import importlib.util
import itertools
import random
import tracemalloc
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest
from clip_files import (
    EXACT,
    LOSSLESS,
    NATIVE,
    at_rate,
    barcode,
    barcodes,
    frames_of,
    noise,
    noisy_barcode,
    numbers_of,
    read_barcode,
    salvaged_of,
    save_animation,
    write_clip,
)
from PIL import Image

from ldf_video.clips.probe import VideoInfo, count_clips, frame_size, probe
from ldf_video.clips.read import SKIP, open_clips
from ldf_video.errors import ReadError
from ldf_video.sources.search import find_sources
from ldf_video.video.geometry import Geometry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from ldf_video.options.reading import Reader

# decord is not made for every platform
READERS = ["pyav", "decord"] if importlib.util.find_spec("decord") else ["pyav"]


def _cut(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


# Exact frames and pixels


@pytest.mark.parametrize("pix_fmt", ["bgr0", "gbrp10le"])
def test_lossless_clips_come_out_bit_for_bit(tmp_path: Path, pix_fmt: str) -> None:
    images = noise(3, 48, 64, 3)
    frames = frames_of(write_clip(tmp_path / "a.mkv", images, codec="ffv1", pix_fmt=pix_fmt))
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
    images = noise(2, *size, 3)
    path = write_clip(tmp_path / "a.mkv", images, **LOSSLESS)
    centre = images[part].reshape(2, 24, 2, 24, 2, 3).mean((2, 4))
    assert np.abs(frames_of(path, Geometry(24, 24)) - centre).max() <= 1
    assert np.array_equal(frames_of(path, Geometry(48, 48)), images[part])
    rows, columns = size[0] // 16, size[1] // 16
    whole = images.reshape(2, 16, rows, 16, columns, 3).mean((2, 4))
    assert np.abs(frames_of(path, Geometry(16, 16, crop="none")) - whole).max() <= 1


def test_a_thin_wide_frame_is_cut_before_it_grows(tmp_path: Path) -> None:
    image = np.zeros((2, 2000, 3), np.uint8)
    image[:, 999:1001] = 200
    path = write_clip(tmp_path / "a.mkv", [image], **LOSSLESS)
    assert (frames_of(path, Geometry(32, 32))[0] == 200).all()


def test_a_larger_picture_on_the_way_is_scaled_as_it_is(tmp_path: Path) -> None:
    images = [noise(*size, 3) for size in ((48, 64), (96, 128), (48, 128))]
    streams = [write_clip(tmp_path / "a.h264", [image], **EXACT).read_bytes() for image in images]
    (tmp_path / "all.h264").write_bytes(b"".join(streams))
    first, second, third = frames_of(tmp_path / "all.h264")
    assert np.array_equal(first, images[0])
    assert np.abs(second - images[1].reshape(48, 2, 64, 2, 3).mean((1, 3))).max() <= 1
    assert np.array_equal(third, images[2][:, 32:96])


def test_both_fields_of_interlaced_frames_are_kept(tmp_path: Path) -> None:
    images = barcodes(range(20))
    for image, other in zip(images, barcodes(range(100, 120)), strict=True):
        image[1::2] = other[1::2]
    options = {"flags": "+ildct+ilme", "x264-params": "interlaced=1", "qp": "4"}
    path = write_clip(tmp_path / "a.mp4", images, codec_options=options, pix_fmt="yuv444p")
    frames = frames_of(path)
    assert [read_barcode(frame[::2]) for frame in frames] == list(range(20))
    assert [read_barcode(frame[1::2]) for frame in frames] == list(range(100, 120))


# Pixels that are not square


@pytest.mark.parametrize(
    ("name", "rotation"),
    [("a.mp4", 0), ("a.mp4", 90), ("a.mp4", 180), ("a.mp4", 270), ("a.mkv", 0), ("a.avi", 0)],
)
def test_wide_pixels_are_cut_by_what_is_shown(tmp_path: Path, name: str, rotation: int) -> None:
    image = noise(48, 64, 3)
    path = write_clip(
        tmp_path / name, [image] * 2, rotation=rotation, sample_aspect_ratio=Fraction(2), **EXACT
    )
    # 64 pixels are shown as 128: a square is 48 rows of 24 pixels.
    square = image[:, 20:44].reshape(24, 2, 24, 3).mean(1)
    frames = frames_of(path, Geometry(24, 24))
    assert np.abs(frames - np.rot90(square, rotation // 90)).max() <= 1
    assert np.array_equal(  # squeezing asks for no shape
        frames_of(path, Geometry(*np.rot90(image, rotation // 90).shape[:2], crop="none")),
        [np.rot90(image, rotation // 90)] * 2,
    )


@pytest.mark.parametrize("ratio", [Fraction(0), Fraction(1, 9), Fraction(100)])
def test_an_unlikely_shape_of_pixels_is_not_believed(tmp_path: Path, ratio: Fraction) -> None:
    image = noise(48, 64, 3)
    path = write_clip(tmp_path / "a.mp4", [image], sample_aspect_ratio=ratio, **EXACT)
    assert np.array_equal(frames_of(path, Geometry(48, 48)), [image[:, 8:56]])


# Time


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])  # Matroska rounds times to milliseconds
@pytest.mark.parametrize("first_pts", [0, 90])  # a late start is time zero
def test_another_rate_holds_the_last_frame(tmp_path: Path, name: str, first_pts: int) -> None:
    times = range(first_pts, first_pts + 30)
    path = write_clip(tmp_path / name, barcodes(range(30)), fps=30, pts=times)
    for fps in (30, 15, 60, 20):
        assert numbers_of(path, at_rate(fps)) == [k * 30 // fps for k in range(fps)]


def test_variable_rates_go_by_time(tmp_path: Path) -> None:
    images = barcodes(range(4))  # the first frame is time 0
    path = write_clip(tmp_path / "a.mkv", images, fps=10, pts=[5, 6, 9, 10], **LOSSLESS)
    assert numbers_of(path) == [0, 1, 2, 3]
    assert numbers_of(path, at_rate(10)) == [0, 1, 1, 1, 2, 3]


def test_a_still_picture_is_one_frame_at_any_rate(tmp_path: Path) -> None:
    Image.fromarray(barcode(77)).save(tmp_path / "a.png")
    for fps in (None, 5, 100):
        assert numbers_of(tmp_path / "a.png", at_rate(fps)) == [77]


# Transparency: parts of a picture, shown through, kept or cleared


def _squares(count: int) -> list[NDArray[np.uint8]]:
    """Two 8 x 8 squares a frame, each in its place and colour, on nothing at all."""
    images = np.zeros((count, 48, 64, 4), np.uint8)
    for k, image in enumerate(images):
        image[8:16, 8 * k : 8 * k + 8] = (200, 50 * k, 0, 255)
        image[24:32, 8 * k : 8 * k + 8] = (0, 50 * k, 200, 255)
    return list(images)


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("name", ["a.gif", "a.apng", "a.png", "a.webp"])
def test_animations_show_white_where_they_show_nothing(
    tmp_path: Path, name: str, kept: bool
) -> None:
    images = _squares(5)
    shown = [np.where(image[..., 3:], image[..., :3], np.uint8(255)) for image in images]
    for below, image in itertools.pairwise(shown) if kept else ():
        np.copyto(image, below, where=(image == 255).all(-1, keepdims=True))
    options: dict[str, object] = {"lossless": True, "exact": True}
    if name == "a.gif":
        options = {"disposal": 1 if kept else 2, "optimize": False}
    elif name.endswith("png"):
        options = {"disposal": 0 if kept else 1, "blend": 1, "format": "PNG"}
    elif kept:  # a WebP file keeps what Pillow composes
        for below, image in itertools.pairwise(images):
            image[image[..., 3] == 0] = below[image[..., 3] == 0]
    save_animation(tmp_path / name, images, duration=100, **options)
    (clip,) = open_clips(tmp_path / name, NATIVE)
    assert clip.fps == 10
    assert np.array_equal(list(clip.frames), shown)


@pytest.mark.parametrize("disposal", [1, 2])
def test_what_an_opaque_picture_of_a_gif_leaves_is_as_in_browsers(
    tmp_path: Path, disposal: int
) -> None:
    numbers = [0, 1, 0, 5, 2]  # of the bars that are holes; those with none are opaque
    black = np.zeros((48, 64, 3), np.uint8)
    images = [np.dstack([black, 255 - image[..., 0]]) for image in barcodes(numbers)]
    save_animation(tmp_path / "a.gif", images, duration=100, disposal=disposal)
    # Where nothing is cleared black stays black.
    assert numbers_of(tmp_path / "a.gif") == (numbers if disposal == 2 else [0] * 5)


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        *(("a.mov", "png", pix_fmt) for pix_fmt in ("rgba", "rgba64be")),
        ("a.mov", "qtrle", "argb"),
        ("a.mov", "prores_ks", "yuva444p10le"),
        *(("a.mkv", "ffv1", pix_fmt) for pix_fmt in ("yuva444p", "gbrap10le")),
        ("a.avi", "utvideo", "gbrap"),
        # FFmpeg's own decoders of the two leave the transparency out.
        ("a.webm", "libvpx", "yuva420p"),
        *((name, "libvpx-vp9", "yuva420p") for name in ("a.webm", "a.mkv")),
    ],
)
def test_half_transparent_films_are_laid_over_white(
    tmp_path: Path, name: str, codec: str, pix_fmt: str
) -> None:
    options = {"auto-alt-ref": "0", "b": "1M"} if "vpx" in codec else {}
    images = [np.full((48, 64, 4), (40, 100, 200, alpha), np.uint8) for alpha in (255, 51, 0)]
    path = write_clip(tmp_path / name, images, codec=codec, pix_fmt=pix_fmt, codec_options=options)
    expected = np.array([[40, 100, 200], [212, 224, 244], [255, 255, 255]])
    assert np.abs(np.stack(frames_of(path)).astype(int) - expected[:, None, None]).max() <= 4


# How far


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {}),  # its index is at the end, and read first
        ("a.mp4", "libx264", {"movflags": "frag_every_frame+empty_moov"}),
        ("a.mkv", "libx264", {}),
        ("a.ts", "libx264", {}),
        ("a.gif", "gif", {}),
        ("a.webp", "", {}),
    ],
)
def test_the_position_grows_with_the_frames(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    images, path = noise(40, 48, 64, 3), tmp_path / name
    if name == "a.webp":
        save_animation(path, images)
    else:
        pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        write_clip(path, images, codec=codec, pix_fmt=pix_fmt, container_options=options)
    (clip,) = open_clips(path, NATIVE)
    positions = [clip.position() for _ in clip.frames]
    assert positions == sorted(positions)
    # Decoders hold pictures back: what has been read runs ahead of what is shown, at most by half.
    assert positions[0] < 0.6
    assert len(set(positions)) > 10
    assert 0.9 < positions[-1] <= 1


def test_frames_are_made_as_they_are_asked_for(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", barcodes(range(250)))
    (clip,) = list(open_clips(path, NATIVE))  # a clip outlives the iterator that gave it
    next(clip.frames)
    tracemalloc.start()
    num_frames = 1 + sum(1 for _ in clip.frames)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert num_frames == 250
    assert peak_bytes < 20 * barcode(0).nbytes


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
def test_a_cut_file_gives_its_good_prefix(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    pix_fmt = {"gif": "rgb8", "ffv1": "bgr0"}.get(codec, "yuv420p")
    images = [noisy_barcode(k) for k in range(40)]
    path = write_clip(
        tmp_path / name, images, codec=codec, pix_fmt=pix_fmt, container_options=options
    )
    whole = frames_of(path)
    for share in (0.995, 0.8, 0.78):  # of what is left
        _cut(path, share)
        good, damage = salvaged_of(path)
        assert damage.startswith("damaged after ")
        assert 10 < len(good) < 40
        assert np.array_equal(good, whole[: len(good)])


@pytest.mark.parametrize("share", [0.6, 0.7, 0.8, 0.95])
@pytest.mark.parametrize(("name", "options"), [("a.mkv", {}), ("a.mp4", {"movflags": "faststart"})])
def test_a_cut_file_of_uneven_times_gives_the_same_with_any_threads(
    tmp_path: Path, name: str, options: dict[str, str], share: float
) -> None:
    images = [noisy_barcode(k) for k in range(40)]
    chance = random.Random(1)
    pts = np.cumsum([chance.choice([1, 1, 1, 2, 5]) for _ in images]).tolist()
    path = write_clip(tmp_path / name, images, fps=10, pts=pts, container_options=options)
    _cut(path, share)
    for threads in (1, 2, 4, 16):
        frames, damage = salvaged_of(path, threads=threads)
        numbers = [read_barcode(frame) for frame in frames]
        if threads == 1:
            alone = numbers
        assert numbers == alone == list(range(len(numbers)))
        assert 40 * share - 6 < len(numbers) < 40
        assert damage == f"damaged after {len(numbers)} frames: the file ends early"


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
    tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    images = barcodes(range(20))
    by_ffmpeg = write_clip(tmp_path / "a.gif", images, codec="gif", pix_fmt="rgb8")
    for path in (by_ffmpeg, save_animation(tmp_path / "b.gif", images, duration=40)):
        path.write_bytes(change(path.read_bytes()))
        assert numbers_of(path) == list(range(20))


def test_what_was_held_at_the_damage_is_still_given(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", barcodes(range(20)), fps=10, **LOSSLESS)
    _cut(path, 0.75)
    (native, damage), (doubled, same) = salvaged_of(path), salvaged_of(path, at_rate(20))
    assert damage == same != ""
    assert len(doubled) == 2 * len(native)


def test_what_is_not_there_says_so(tmp_path: Path) -> None:
    for name in ("none.mp4", "none.npy"):
        with pytest.raises(ReadError, match=r"^cannot be read: No such file or directory$"):
            next(open_clips(tmp_path / name, NATIVE))
    with pytest.raises(ReadError, match=r"^a directory with no series of numbered pictures"):
        next(open_clips(tmp_path, NATIVE))


# From a frame on


def _write_forty(folder: Path, kind: str) -> Path:
    """Frames of the numbers from 0 to 39."""
    images, path = barcodes(range(40)), folder / f"a.{kind}"
    match kind:
        case "mp4":
            return write_clip(path, images)
        case "gif":
            return write_clip(path, images, codec="gif", pix_fmt="rgb8")
        case "webp":
            return save_animation(path, images, duration=40, lossless=True)
        case "npy":
            np.save(path, images)
            return path
    for k, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{k}.{kind}")
    return folder


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("fps", [None, 10, 60])
@pytest.mark.parametrize("kind", ["mp4", "gif", "webp", "png", "npy"])
def test_frames_come_from_the_one_that_is_wanted(
    tmp_path: Path, kind: str, fps: int | None, reader: Reader
) -> None:
    source, geometry = _write_forty(tmp_path, kind), at_rate(fps)
    (whole,) = open_clips(source, geometry, reader=reader)
    expected = [read_barcode(image) for image in whole.frames]
    assert whole.first_frame == 0
    for first in (1, 7, len(expected) - 1, len(expected), len(expected) + 9):
        (clip,) = open_clips(source, geometry, reader=reader, first_frames=[first])
        assert (clip.first_frame, clip.fps, clip.index) == (first, whole.fps, None)
        assert [read_barcode(image) for image in clip.frames] == expected[first:]
        assert clip.position() <= 1
    assert list(open_clips(source, geometry, reader=reader, first_frames=[SKIP])) == []


def test_first_frames_must_fit_the_clips(tmp_path: Path) -> None:
    _write_forty(tmp_path, "mp4")
    np.save(tmp_path / "b.npy", noise(3, 2, 8, 8, 3))
    for name, firsts in (("a.mp4", []), ("a.mp4", [-2]), ("a.mp4", [0, 0]), ("b.npy", [0])):
        with pytest.raises(ValueError, match="first frames"):
            next(open_clips(tmp_path / name, NATIVE, first_frames=firsts))


def test_who_waits_hears_that_frames_are_decoded(tmp_path: Path) -> None:
    path, beats = _write_forty(tmp_path, "mp4"), list[int]()
    frames = frames_of(path, first_frames=[39], alive=lambda: beats.append(0))
    assert len(frames) == 1
    assert len(beats) == 3  # at frames 0, 16 and 32


# Arrays


def test_an_array_is_one_clip_or_several_each_with_its_own_first_frame(tmp_path: Path) -> None:
    images = noise(4, 5, 48, 64, 3)
    np.save(tmp_path / "a.npy", images)
    clips = list(open_clips(tmp_path / "a.npy", at_rate(8)))
    assert [(clip.index, clip.fps) for clip in clips] == [(k, 8) for k in range(4)]
    for number, clip in enumerate(clips):
        for count, (frame, image) in enumerate(zip(clip.frames, images[number], strict=True), 1):
            assert np.array_equal(frame, image)
            assert clip.position() == (5 * number + count) / 20
    clips = list(open_clips(tmp_path / "a.npy", NATIVE, first_frames=[2, SKIP, 5, 0]))
    assert [(clip.index, clip.first_frame) for clip in clips] == [(0, 2), (2, 5), (3, 0)]
    frames = [list(clip.frames) for clip in clips]
    assert [len(some) for some in frames] == [3, 0, 5]
    assert np.array_equal(frames[0] + frames[2], [*images[0, 2:], *images[3]])
    assert [clip.position() for clip in clips] == [0.25, 0.75, 1]


def test_clips_are_counted_where_there_are_several(tmp_path: Path) -> None:
    np.save(tmp_path / "several.npy", noise(3, 2, 8, 8, 3))
    (tmp_path / "broken.npy").write_text("notes")
    assert count_clips(tmp_path / "several.npy") == 3
    assert count_clips(_write_forty(tmp_path, "npy")) is None
    assert count_clips(tmp_path / "no-video.mp4") is None
    for content in (b"", b"notes", (tmp_path / "several.npy").read_bytes()[:200]):
        (tmp_path / "broken.npy").write_bytes(content)
        for read in (count_clips, frames_of):
            with pytest.raises(ReadError, match=r"^(not a .npy array|cannot be read): "):
                read(tmp_path / "broken.npy")


def test_an_array_of_many_clips_takes_no_memory_for_each(tmp_path: Path) -> None:
    path, count = tmp_path / "many.npy", 100_000
    np.save(path, np.zeros((count, 1, 1, 1, 3), np.uint8))
    firsts = np.full(count, SKIP).tolist()
    firsts[-1] = 0
    tracemalloc.start()
    (last,) = open_clips(path, NATIVE, first_frames=firsts)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert last.index == count - 1
    assert peak_bytes < 20 * count


def test_arrays_and_videos_scale_alike(tmp_path: Path) -> None:
    images = noise(2, 50, 70, 3)
    np.save(tmp_path / "a.npy", images)
    write_clip(tmp_path / "a.mkv", images, **LOSSLESS)
    for geometry in (Geometry(16, 16), Geometry(31, 17, crop="none"), Geometry(80, 80)):
        from_array = frames_of(tmp_path / "a.npy", geometry)
        assert np.array_equal(from_array, frames_of(tmp_path / "a.mkv", geometry))


# What a file is


def test_a_file_is_described_by_its_frames(tmp_path: Path) -> None:
    mp4 = write_clip(tmp_path / "a.mp4", barcodes(range(31)), fps=Fraction(30), rotation=90)
    h264 = VideoInfo("mov,mp4,m4a,3gp,3g2,mj2", "h264", 64, 48, Fraction(30), 31, 31 / 30, 90)
    assert probe(mp4) == h264
    uneven = write_clip(tmp_path / "a.mkv", barcodes(range(7)), pts=[*range(6), 10])
    info = probe(uneven)
    assert info.num_frames == 7
    assert info.duration_seconds == pytest.approx(11 / 25, abs=2e-3)
    np.save(tmp_path / "a.npy", np.zeros((3, 10, 8, 6, 3), np.uint8))
    assert probe(tmp_path / "a.npy") == VideoInfo("npy", "uint8", 6, 8, Fraction(25), 30, 1.2, 0)


def test_the_first_frame_has_an_upright_size(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 10, 8, 6, 3), np.uint8))
    write_clip(tmp_path / "b.mp4", [barcode(0)] * 3)
    write_clip(tmp_path / "c.mp4", [barcode(0)] * 3, rotation=90)
    for number in range(3):
        Image.fromarray(barcode(0, height=10, width=20)).save(tmp_path / f"d{number}.png")
    (tmp_path / "e.mp4").touch()
    *sources, bad = find_sources(tmp_path)
    assert [source.name for source in sources] == ["a.npy", "b.mp4", "c.mp4", "d*.png"]
    assert [frame_size(source) for source in sources] == [(8, 6), (48, 64), (64, 48), (10, 20)]
    with pytest.raises(ReadError, match=r"^empty file$"):
        frame_size(bad)
