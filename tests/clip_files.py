"""Test clips: every frame shows its number as bars, so that a wrong frame is seen."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from PIL import Image

from ldf_video.clips.read import open_clips
from ldf_video.errors import TruncatedError
from ldf_video.video.geometry import Geometry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from av.stream import Disposition
    from numpy.typing import NDArray

NUM_BARS = 8
LOSSLESS: dict[str, Any] = {"codec": "ffv1", "pix_fmt": "bgr0"}
# Bit for bit, in a container that says the sample aspect ratio.
EXACT: dict[str, Any] = {"codec": "libx264rgb", "pix_fmt": "rgb24", "codec_options": {"qp": "0"}}
NATIVE = Geometry(48, 64)
"""The size of `barcode`, so that no pixel moves."""


def at_rate(fps: Fraction | int | None) -> Geometry:
    """Returns the size of `barcode` at a rate."""
    return replace(NATIVE, fps=None if fps is None else Fraction(fps))


def barcode(number: int, *, height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    """Draws `number` (below 256) as 8 vertical bars, the lowest bit leftmost."""
    image = np.zeros((height, width, 3), np.uint8)
    for bit in range(NUM_BARS):
        if number >> bit & 1:
            image[:, bit * width // NUM_BARS : (bit + 1) * width // NUM_BARS] = 255
    return image


def noisy_barcode(number: int, *, height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    """Draws bars with noise above them, which gives every frame some weight in a file."""
    image = barcode(number, height=height, width=width)
    top = image[: height // 4]
    top[:] = np.random.default_rng(number).integers(0, 256, top.shape)
    return image


def read_barcode(image: NDArray[np.uint8]) -> int:
    """Reads what `barcode` drew, in any size and after lossy coding."""
    width = image.shape[1]
    centres = [(2 * bit + 1) * width // (2 * NUM_BARS) for bit in range(NUM_BARS)]
    return sum(1 << bit for bit, x in enumerate(centres) if image[:, x].mean() > 127)


def barcodes(numbers: Iterable[int], **size: int) -> list[NDArray[np.uint8]]:
    """Draws a frame for each number."""
    return [barcode(number, **size) for number in numbers]


def noise(*shape: int) -> NDArray[np.uint8]:
    """Returns the same random pixels for the same shape."""
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def frames_of(path: Path, geometry: Geometry = NATIVE, **options: Any) -> list[NDArray[np.uint8]]:
    """Reads the one clip of a file, which is whole."""
    (clip,) = open_clips(path, geometry, **options)
    return list(clip.frames)


def numbers_of(path: Path, geometry: Geometry = NATIVE, **options: Any) -> list[int]:
    """Reads the numbers on the frames of a file."""
    return [read_barcode(image) for image in frames_of(path, geometry, **options)]


def salvaged_of(
    path: Path, geometry: Geometry = NATIVE, **options: Any
) -> tuple[list[NDArray[np.uint8]], str]:
    """Reads frames up to the damage of a file, and what is said of that, "" where it is whole."""
    (clip,) = open_clips(path, geometry, **options)
    frames: list[NDArray[np.uint8]] = []
    try:
        frames.extend(clip.frames)
    except TruncatedError as error:
        return frames, str(error)
    return frames, ""


def save_animation(path: Path, images: Sequence[NDArray[np.uint8]], **options: Any) -> Path:
    """Writes a GIF, a WebP, an APNG or an AVIF by Pillow."""
    first, *others = map(Image.fromarray, images)
    first.save(path, save_all=True, append_images=others, **options)
    return path


@contextlib.contextmanager
def usual_priority() -> Iterator[None]:
    """Give this thread its scheduling back.

    SVT-AV1, where it may (as root), leaves the thread that encodes with it at the highest real-time
    priority. Threads and processes begun later inherit that, and starve all others for minutes.
    """
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def write_clip(
    path: Path,
    images: Sequence[NDArray[np.uint8]],
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    fps: Fraction | int = 25,
    pts: Sequence[int] | None = None,
    rotation: int = 0,
    sample_aspect_ratio: Fraction | None = None,
    codec_options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    says_colours: bool = False,
    prepare: Callable[[Any, Any], object] | None = None,
) -> Path:
    """Encodes `images`, RGB or RGBA.

    Args:
        path: of the file.
        images: its frames.
        codec: FFmpeg's name of it, as `pix_fmt` and all options.
        pix_fmt: of the pixels.
        fps: frames a second.
        pts: in units of 1 / fps seconds, by default 0, 1, 2, ...
        rotation: counter-clockwise degrees that set frames upright.
        sample_aspect_ratio: width of a pixel, over its height.
        codec_options: of the codec.
        container_options: of the container.
        says_colours: whether the file names its matrix and its transfer.
        prepare: called with the container and the stream before anything is encoded.
    """
    height, width, _ = images[0].shape
    options = container_options or {}
    with usual_priority(), av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=fps, options=codec_options or {})
        stream.height, stream.width, stream.pix_fmt = height, width, pix_fmt
        stream.codec_context.time_base = 1 / Fraction(fps)
        if says_colours:
            context = stream.codec_context
            context.colorspace, context.color_range = 1, 2
            context.color_primaries, context.color_trc = 1, 1
        if sample_aspect_ratio is not None:
            stream.codec_context.sample_aspect_ratio = sample_aspect_ratio
        if rotation:
            stream.set_display_rotation(rotation)
        if prepare is not None:
            prepare(container, stream)
        for index, image in enumerate(images):
            given = "rgb24" if image.shape[2] == 3 else "rgba"
            # With several threads, what is transparent may differ.
            threads = 1 if given == "rgba" else None
            frame = av.VideoFrame.from_ndarray(image, format=given)
            frame = frame.reformat(format=pix_fmt, threads=threads)
            frame.pts = index if pts is None else pts[index]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_with_times(
    path: Path,
    images: Sequence[NDArray[np.uint8]],
    times: Sequence[int],
    *,
    fps: int = 25,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    **options: str,
) -> Path:
    """Encodes `images` into packets with these times, in units of 1 / fps seconds, as decoded."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options=options)
        stream.height, stream.width, stream.pix_fmt = *images[0].shape[:2], pix_fmt
        left = iter(times)
        frames = [av.VideoFrame.from_ndarray(image, format="rgb24") for image in images]
        for frame in (*frames, None):
            for packet in stream.encode(frame):
                packet.time_base, packet.duration = Fraction(1, fps), 0
                packet.pts = packet.dts = next(left)
                container.mux(packet)
    return path


def write_tracks(
    path: Path,
    tracks: Sequence[tuple[Sequence[NDArray[np.uint8]], Disposition]],
    *,
    codec: str = "libx264",
) -> Path:
    """Encodes tracks of images into one file, each with what it says that it is for."""
    with av.open(str(path), "w") as container:
        streams = []
        for images, disposition in tracks:
            stream = container.add_stream(codec, rate=25)
            stream.height, stream.width, stream.pix_fmt = *images[0].shape[:2], "yuv420p"
            stream.disposition = disposition
            streams.append(stream)
        for stream, (images, _) in zip(streams, tracks, strict=True):
            for image in images:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
    return path


def remux(
    path: Path,
    films: Sequence[Path],
    change: Callable[[int, int, Any], object],
    *,
    options: dict[str, str] | None = None,
) -> Path:
    """Copies the packets of films, of one stream each, one behind the other.

    `change` is called with the number of a film, that of a packet in it, and the packet, whose
    times it may change; False leaves the packet out.
    """
    with av.open(str(path), "w", options=options or {}) as container:
        copy = None
        for part, film in enumerate(films):
            with av.open(str(film)) as given:
                stream = given.streams.video[0]
                copy = copy or container.add_stream_from_template(stream)
                for number, packet in enumerate(given.demux(stream)):
                    if packet.size and change(part, number, packet) is not False:
                        packet.stream = copy
                        container.mux(packet)
    return path


def write_margins(path: Path, **margins: int) -> None:
    """Has a Matroska file that says its colours say its margins instead (RFC 9559, PixelCrop...).

    These are some of top, bottom, left, right; in pixels, at most 255.
    """
    ids = {"top": b"\x54\xbb", "bottom": b"\x54\xaa", "left": b"\x54\xcc", "right": b"\x54\xdd"}
    content = path.read_bytes()
    begin = content.index(b"\x55\xb0")  # Colour, and its size in one byte
    size = 3 + (content[begin + 2] & 0x7F)
    crops = b"".join(ids[side] + bytes([0x81, value]) for side, value in margins.items())
    void = size - len(crops) - 2
    fields = crops + b"\xec" + bytes([0x80 | void]) + bytes(void)
    path.write_bytes(content[:begin] + fields + content[begin + size :])


def write_sound(path: Path) -> Path:
    """Writes a tenth of a second of silence and no picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        samples = np.zeros((1, 1024), np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
