from __future__ import annotations

import contextlib
import os
import resource
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from clip_files import barcodes, frames_of, noise, read_barcode
from PIL import Image

from ldf_video.errors import LdfError, UsageError
from ldf_video.video.colour import yuv420_planes
from ldf_video.video.geometry import Geometry
from ldf_video.video.pixels import psnr_db
from ldf_video.video.sheet import tile, write_sheet
from ldf_video.video.write import VideoWriter, check_output, default_upscale

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

PALETTE = np.array(
    [[0, 0, 0], [255, 255, 0], [255, 0, 0], [0, 255, 255], [33, 33, 255], [222, 161, 133]], np.uint8
)


def _pixel_art(num_frames: int, *, height: int = 32, width: int = 32) -> NDArray[np.uint8]:
    """Blocks of saturated colours that move: what 4:2:0 treats worst."""
    indices = np.random.default_rng(0).integers(0, len(PALETTE), (16, 16))
    base = PALETTE[np.kron(indices, np.ones((4, 4), int))]
    return np.stack([base[k : k + height, 2 * k : 2 * k + width] for k in range(num_frames)])


def _write(path: Path, frames: NDArray[np.uint8], *, fps: float = 25, upscale: int = 2) -> Path:
    with VideoWriter(path, fps=fps, upscale=upscale) as writer:
        writer.write(frames)
    return path


def _decoded(path: Path) -> NDArray[np.uint8]:
    with av.open(str(path)) as container:
        frames = container.decode(video=0)
        return np.stack([frame.to_ndarray(format="rgb24") for frame in frames]).astype(np.uint8)


def _psnr_db(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    return psnr_db(float(np.mean((first.astype(np.float64) - second) ** 2)))


# Colour


def test_primaries_become_the_numbers_of_the_standard() -> None:
    colours = [[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]]
    planes = yuv420_planes(np.array(colours, np.uint8).reshape(5, 1, 1, 3), upscale=2)
    # ITU-R BT.709 colour bars at 8 bits: (Y, Cb, Cr).
    expected = [(235, 128, 128), (16, 128, 128), (63, 102, 240), (173, 42, 26), (32, 240, 118)]
    assert planes.shape == (5, 3, 2)
    for plane, (luma, blue, red) in zip(planes, expected, strict=True):
        assert plane.tolist() == [[luma, luma], [luma, luma], [blue, red]]


def test_an_even_upscale_is_conversion_then_repetition() -> None:
    frames = noise(2, 3, 5, 3)
    small, large = yuv420_planes(frames, upscale=2), yuv420_planes(frames, upscale=4)
    assert small.shape == (2, 9, 10)
    assert np.array_equal(large[:, :12], small[:, :6].repeat(2, 1).repeat(2, 2))
    chroma = small[:, 6:].reshape(2, 2, 3, 5).repeat(2, 2).repeat(2, 3)
    assert np.array_equal(large[:, 12:].reshape(2, 2, 6, 10), chroma)


def test_without_upscale_chroma_is_the_mean_of_four_and_odd_sizes_repeat_their_edge() -> None:
    red, blue = [255, 0, 0], [0, 0, 255]
    frames = np.array([[red, red], [blue, blue]], np.uint8)[None]
    (planes,) = yuv420_planes(frames, upscale=1)
    assert planes.tolist() == [[63, 63], [32, 32], [171, 179]]
    frames = noise(1, 3, 5, 3)
    padded = np.pad(frames, ((0, 0), (0, 1), (0, 1), (0, 0)), mode="edge")
    assert np.array_equal(yuv420_planes(frames, upscale=1), yuv420_planes(padded, upscale=1))


# mp4


@pytest.mark.parametrize("num_frames", [1, 5, 60])
def test_an_mp4_holds_each_frame_once(tmp_path: Path, num_frames: int) -> None:
    frames = np.stack(barcodes(range(num_frames), height=32, width=32))
    decoded = _decoded(_write(tmp_path / "new" / "dir" / "a.mp4", frames))
    assert decoded.shape == (num_frames, 64, 64, 3)
    assert [read_barcode(image) for image in decoded] == list(range(num_frames))


def test_an_mp4_keeps_pixels_where_players_look_and_reads_back_as_it_was(tmp_path: Path) -> None:
    frames = _pixel_art(16)
    path = _write(tmp_path / "a.mp4", frames)
    assert _psnr_db(_decoded(path), frames.repeat(2, 1).repeat(2, 2)) > 45
    for upscale in (2, 4):
        path = _write(tmp_path / "a.mp4", frames, upscale=upscale)
        assert _psnr_db(np.stack(frames_of(path, Geometry(32, 32))), frames) > 48


def test_an_mp4_says_how_to_show_it(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.mp4", _pixel_art(3), fps=Fraction(30000, 1001))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == Fraction(30000, 1001)
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        frame = next(container.decode(stream))
        assert (frame.colorspace, frame.color_primaries, frame.color_trc) == (1, 1, 1)
        assert frame.color_range == 1


@pytest.mark.parametrize(
    ("name", "options", "size", "note"),
    [
        ("a.mp4", (25, 1), (16, 18), "padded 17x15 to 18x16: mp4 needs even sides"),
        ("a.mp4", (25, 2), (30, 34), None),
        ("a.mp4", (25, None), (150, 170), None),
        ("a.gif", (100, 1), (15, 17), "gif plays at 50 frames a second"),
        ("a.gif", (50, 1), (15, 17), None),
    ],
)
def test_what_differs_from_what_was_asked_is_said(
    tmp_path: Path, name: str, options: tuple[int, int | None], size: tuple[int, int], note: str
) -> None:
    fps, upscale = options
    with VideoWriter(tmp_path / name, fps=fps, upscale=upscale) as writer:
        writer.write(noise(2, 15, 17, 3))
        assert writer.note == note
    assert _decoded(tmp_path / name).shape == (2, *size, 3)


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".png"])
def test_the_same_frames_give_the_same_bytes_however_they_come(tmp_path: Path, suffix: str) -> None:
    frames = _pixel_art(16)
    first = _write(tmp_path / f"a{suffix}", frames).read_bytes()
    for size in range(1, 16):
        with VideoWriter(tmp_path / f"b{suffix}", fps=25, upscale=2) as writer:
            for start in range(0, 16, size):
                writer.write(frames[start : start + size])
        assert (tmp_path / f"b{suffix}").read_bytes() == first


def test_the_default_upscale_is_even_and_enough() -> None:
    sizes = [(32, 32), (32, 64), (128, 128), (720, 1280), (1, 9), (21, 32)]
    assert [default_upscale(*size) for size in sizes] == [4, 4, 2, 2, 128, 8]


# gif


@pytest.mark.parametrize("upscale", [1, 3])
def test_a_gif_is_exact_up_to_256_colours(tmp_path: Path, upscale: int) -> None:
    frames = np.stack([noise(16, 16, 3)] * 3 + [noise(17, 16, 3)[1:]])  # three are alike
    path = _write(tmp_path / "a.gif", frames, upscale=upscale)
    assert np.array_equal(_decoded(path), frames.repeat(upscale, 1).repeat(upscale, 2))


def test_more_colours_come_close(tmp_path: Path) -> None:
    y, x = np.mgrid[:64, :64]
    frame = np.stack([4 * x, 4 * y, 2 * (x + y)], axis=-1).astype(np.uint8)
    assert _psnr_db(_decoded(_write(tmp_path / "a.gif", frame[None], upscale=1))[0], frame) > 28


def test_a_gif_keeps_the_mean_rate_and_loops(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.gif", _pixel_art(6), fps=30)
    with Image.open(path) as image:
        assert image.info["loop"] == 0
        durations_ms = []
        for index in range(6):
            image.seek(index)
            durations_ms.append(image.info["duration"])
    assert durations_ms == [30, 40, 30, 30, 40, 30]


# png


def test_a_png_lays_frames_out_sixteen_to_a_row(tmp_path: Path) -> None:
    frames = noise(18, 4, 5, 3)
    image = np.asarray(Image.open(_write(tmp_path / "a.png", frames, upscale=2)))
    assert image.shape == (16, 160, 3)
    assert np.array_equal(image[:8, 150:], frames[15].repeat(2, 0).repeat(2, 1))
    assert np.array_equal(image[8:, 10:20], frames[17].repeat(2, 0).repeat(2, 1))
    assert (image[8:, 20:] == 0).all()


def test_a_sheet_has_a_row_for_each_sequence(tmp_path: Path) -> None:
    first, second = noise(3, 4, 5, 3), noise(1, 4, 5, 3) // 2
    path = tmp_path / "new" / "sheet.png"
    write_sheet(path, [first, second], upscale=1)
    image = np.asarray(Image.open(path))
    assert image.shape == (2 * (4 + 2) + 2, 3 * (5 + 2) + 2, 3)
    assert np.array_equal(image[2:6, 9:14], first[1])
    assert np.array_equal(image[8:12, 2:7], second[0])
    assert (image[:2] == 224).all()
    assert (image[8:12, 7:] == 224).all()


def test_a_sheet_that_cannot_be_written_keeps_the_one_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(path: Path, image: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    (tmp_path / "a.png").write_bytes(b"before")
    monkeypatch.setattr("ldf_video.video.sheet.write_png", half)
    with pytest.raises(LdfError, match="No space left on device; make room"):
        write_sheet(tmp_path / "a.png", [noise(2, 8, 8, 3)])
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"before"]


def test_a_sheet_refuses_what_it_cannot_lay_out(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected \.png"):
        write_sheet(tmp_path / "a.mp4", [noise(1, 4, 4, 3)])
    with pytest.raises(ValueError, match="no rows"):
        write_sheet(tmp_path / "a.png", [])
    with pytest.raises(ValueError, match="got a row of"):
        write_sheet(tmp_path / "a.png", [noise(1, 4, 4, 3), noise(1, 4, 5, 3)])


@pytest.mark.parametrize(
    ("num_videos", "rows", "columns"), [(1, 1, 1), (2, 1, 2), (4, 2, 2), (5, 2, 3), (10, 3, 4)]
)
def test_tiles_fill_a_near_square_row_by_row(num_videos: int, rows: int, columns: int) -> None:
    videos = noise(num_videos, 2, 3, 4, 3)
    tiled = tile(videos)
    assert tiled.shape == (2, rows * 3, columns * 4, 3)
    for index, video in enumerate(videos):
        top, left = index // columns * 3, index % columns * 4
        assert np.array_equal(tiled[:, top : top + 3, left : left + 4], video)
    assert tiled.sum(dtype=np.int64) == videos.sum(dtype=np.int64)  # the rest is black


# Interruptions and mistakes


def _stopped_by(error: type[BaseException] | None, path: Path, num_frames: int = 7) -> None:
    """Write frames, and be stopped before the block ends."""

    def stopped() -> None:
        with VideoWriter(path, fps=25, upscale=2) as writer:
            frames = barcodes(range(num_frames), height=32, width=32)
            writer.write(np.array(frames, np.uint8).reshape(-1, 32, 32, 3))
            if error is not None:
                raise error

    with contextlib.nullcontext() if error is None else pytest.raises(error):
        stopped()


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_an_interrupted_file_keeps_its_frames_and_plays(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    _stopped_by(KeyboardInterrupt, path)
    assert [read_barcode(image) for image in _decoded(path)] == list(range(7))
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".png"])
@pytest.mark.parametrize(
    ("error", "num_frames"),
    [(RuntimeError, 7), (LdfError, 7), (SystemExit, 7), (KeyboardInterrupt, 0), (None, 0)],
)
def test_an_error_or_no_frame_keeps_the_file_of_before_and_leaves_no_stub(
    tmp_path: Path, suffix: str, error: type[BaseException] | None, num_frames: int
) -> None:
    path = tmp_path / f"a{suffix}"
    _stopped_by(error, path, num_frames)
    assert os.listdir(tmp_path) == []
    path.write_bytes(b"before")
    _stopped_by(error, path, num_frames)
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("kind", ["Mp4", "Gif", "Sheet"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_what_stops_the_first_frame_leaves_nothing(
    tmp_path: Path, kind: str, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise error

    suffix = {"Mp4": ".mp4", "Gif": ".gif", "Sheet": ".png"}[kind]
    for place in ("add", "__init__"):
        with monkeypatch.context() as patch:
            patch.setattr(f"ldf_video.video.write._{kind}Encoder.{place}", stop)
            _stopped_by(error, tmp_path / f"a{suffix}")
        assert os.listdir(tmp_path) == []


def test_an_interrupt_while_the_disk_is_full_is_still_the_interrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(encoder: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ldf_video.video.write._Mp4Encoder.close", full)
    (tmp_path / "a.mp4").write_bytes(b"before")
    _stopped_by(KeyboardInterrupt, tmp_path / "a.mp4")
    assert (tmp_path / "a.mp4").read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_frames_of_another_size_are_refused_and_an_old_file_is_replaced_at_the_end(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.mp4").write_bytes(b"before")
    with VideoWriter(tmp_path / "a.mp4", fps=25, upscale=2) as writer:
        writer.write(_pixel_art(2))
        with pytest.raises(ValueError, match=r"got frames of \(16, 32, 3\) after frames of"):
            writer.write(noise(1, 16, 32, 3))
        with pytest.raises(ValueError, match=r"expected uint8 \(T, H, W, 3\)"):
            writer.write(np.zeros((1, 32, 32, 3), np.float32))  # type: ignore[arg-type]
        writer.write(_pixel_art(1))
        assert (tmp_path / "a.mp4").read_bytes() == b"before"
    assert len(_decoded(tmp_path / "a.mp4")) == 3


def test_bad_options_are_refused_before_any_work(tmp_path: Path) -> None:
    for name in ("a.avi", "a"):
        with pytest.raises(UsageError, match=r"expected one of \.mp4, \.gif, \.png"):
            VideoWriter(tmp_path / name, fps=25)
    (tmp_path / "dir.mp4").mkdir()
    with pytest.raises(UsageError, match="is a directory"):
        check_output(tmp_path / "dir.mp4")
    with pytest.raises(UsageError, match="expected more than 0"):
        VideoWriter(tmp_path / "a.mp4", fps=0)
    with pytest.raises(UsageError, match="expected 1 or more"):
        VideoWriter(tmp_path / "a.mp4", fps=25, upscale=0)
    check_output(tmp_path / "A.MP4")
    assert os.listdir(tmp_path) == ["dir.mp4"]


@pytest.mark.parametrize(("suffix", "longest"), [(".mp4", 16_384), (".gif", 65_535)])
def test_frames_that_a_format_cannot_have_are_refused(
    tmp_path: Path, suffix: str, longest: int
) -> None:
    path = tmp_path / f"a{suffix}"
    with VideoWriter(path, fps=10, upscale=1) as writer:
        writer.write(np.zeros((1, 16, longest, 3), np.uint8))
    before = path.read_bytes()
    said = f"got frames of {longest + 1:,}x16, expected {longest:,} pixels a side at most"
    with pytest.raises(UsageError, match=said), VideoWriter(path, fps=10, upscale=1) as writer:
        writer.write(np.zeros((1, 16, longest + 1, 3), np.uint8))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LdfError, match=r"cannot write .*: File exists .*something else"):
        VideoWriter(tmp_path / "file" / "a.mp4", fps=25)


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".png"])
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(LdfError, match=r"cannot write .*: File too large; make room"):
            _write(path, noise(40, 64, 64, 3), upscale=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == []
