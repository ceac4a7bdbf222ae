"""One class for each kind of file that frames can go to: mp4, gif, and a png sheet."""

from __future__ import annotations

import os
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol

import av
import imageio.v3 as iio
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from PIL import Image, PngImagePlugin

from ldf_video.video.colour import yuv420_planes
from ldf_video.video.not_clips import MARK

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

# Flat pixel art has strong colour edges: as many bits for chroma as for luma, and no bits moved to
# where eyes look first. One thread, as the number of threads shows in the bytes; no macroblock
# tree, as with it equal frames were seen to give different bytes. The chroma of `yuv420_planes`
# stands in the centre of its block (location 1); a reader that assumes the left edge smears it.
_X264 = {
    "crf": "12",
    "preset": "veryfast",
    "threads": "1",
    "x264-params": "no-psy=1:aq-mode=0:mbtree=0:chroma-qp-offset=-6:chromaloc=1",
}
_BATCH = 32
_GIF_TICKS = 100  # the format counts hundredths of a second ...
_GIF_MAX_FPS = 50  # ... and viewers slow down what claims to be faster than this
_SHEET_COLUMNS = 16


class Encoder(Protocol):
    """Writes frames of one size to one file.

    Attributes:
        note: one line for the user where the file differs from what was asked, else None.
        num_frames: that were written.
    """

    note: str | None
    num_frames: int

    def add(self, frames: NDArray[np.uint8]) -> None:
        """Appends uint8 (T, H, W, 3) RGB frames."""
        ...

    def close(self) -> None:
        """Finishes the file, so that it plays."""
        ...


class Mp4Encoder:
    """H.264 in 4:2:0, tagged BT.709: plays everywhere, and loses little (see `yuv420_planes`)."""

    def __init__(self, path: Path, *, fps: Fraction, upscale: int, size: tuple[int, int]) -> None:
        height, width = (side * upscale for side in size)
        even = (height + height % 2, width + width % 2)
        self.note: str | None = None
        if even != (height, width):
            self.note = f"padded {width}x{height} to {even[1]}x{even[0]}: mp4 needs even sides"
        self.num_frames = 0
        self._upscale = upscale
        self._container = av.open(str(path), "w", options={"fflags": "+bitexact"})
        self._container.metadata["comment"] = MARK.decode()
        self._stream = self._container.add_stream("libx264", rate=fps, options=_X264)
        self._stream.height, self._stream.width = even
        self._stream.pix_fmt = "yuv420p"
        context = self._stream.codec_context
        context.time_base = 1 / fps
        context.colorspace = Colorspace.ITU709
        context.color_primaries = ColorPrimaries.BT709
        context.color_trc = ColorTrc.BT709
        context.color_range = ColorRange.MPEG

    def add(self, frames: NDArray[np.uint8]) -> None:
        for start in range(0, len(frames), _BATCH):
            for planes in yuv420_planes(frames[start : start + _BATCH], upscale=self._upscale):
                frame = av.VideoFrame.from_numpy_buffer(planes, format="yuv420p")
                frame.pts = self.num_frames
                self._container.mux(self._stream.encode(frame))
                self.num_frames += 1

    def close(self) -> None:
        with self._container:
            self._container.mux(self._stream.encode())


class GifEncoder:
    """An endless GIF with a palette a frame: exact up to 256 colours a frame."""

    def __init__(self, path: Path, *, fps: Fraction, upscale: int, size: tuple[int, int]) -> None:
        self.note = None if fps <= _GIF_MAX_FPS else f"gif plays at {_GIF_MAX_FPS} frames a second"
        self.num_frames = 0
        self._path = path
        self._fps = min(fps, Fraction(_GIF_MAX_FPS))
        self._upscale = upscale
        self._container = av.open(str(path), "w", options={"loop": "0"})
        self._stream = self._container.add_stream("gif", rate=_GIF_TICKS)
        self._stream.height, self._stream.width = (side * upscale for side in size)
        self._stream.pix_fmt = "pal8"
        self._stream.codec_context.time_base = Fraction(1, _GIF_TICKS)

    def add(self, frames: NDArray[np.uint8]) -> None:
        for image in frames:
            indices, palette = indexed(image)
            large = indices.repeat(self._upscale, axis=0).repeat(self._upscale, axis=1)
            pair: Any = (large, palette)  # PyAV takes the two together, its types do not say so
            frame = av.VideoFrame.from_ndarray(pair, format="pal8")
            start, end = self._tick(self.num_frames), self._tick(self.num_frames + 1)
            frame.pts, frame.time_base = start, Fraction(1, _GIF_TICKS)
            for packet in self._stream.encode(frame):
                packet.duration = end - start
                self._container.mux(packet)
            self.num_frames += 1

    def close(self) -> None:
        with self._container:
            self._container.mux(self._stream.encode())
        if self.num_frames:
            with self._path.open("rb+") as file:
                # A comment before the last byte (GIF89a, 24 and 27); FFmpeg writes none.
                file.seek(-1, os.SEEK_END)
                file.write(b"\x21\xfe" + bytes([len(MARK)]) + MARK + b"\0\x3b")

    def _tick(self, index: int) -> int:
        # Rounding start times, not delays, keeps the mean rate: 30 a second is 3, 4, 3, ... ticks.
        return round(index * _GIF_TICKS / self._fps)


class SheetEncoder:
    """One PNG with the frames side by side, 16 to a row; holds all of them until closed."""

    def __init__(self, path: Path, *, fps: Fraction, upscale: int, size: tuple[int, int]) -> None:
        del fps, size
        self.note: str | None = None
        self.num_frames = 0
        self._path, self._upscale = path, upscale
        self._frames: list[NDArray[np.uint8]] = []

    def add(self, frames: NDArray[np.uint8]) -> None:
        self._frames.append(frames.copy())
        self.num_frames += len(frames)

    def close(self) -> None:
        if not self._frames:
            return
        frames = np.concatenate(self._frames)
        rows = [frames[i : i + _SHEET_COLUMNS] for i in range(0, len(frames), _SHEET_COLUMNS)]
        write_png(self._path, sheet(rows, upscale=self._upscale, gap=0, background=0))


ENCODERS: dict[str, type[Mp4Encoder | GifEncoder | SheetEncoder]] = {
    ".mp4": Mp4Encoder,
    ".gif": GifEncoder,
    ".png": SheetEncoder,
}


def indexed(image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Turns RGB into palette indices: exact up to 256 colours, else by Pillow's median cut.

    Args:
        image: uint8 (H, W, 3).

    Returns:
        Indices, uint8 (H, W), and the palette, uint8 (256, 4) as alpha, red, green, blue.
    """
    height, width, _ = image.shape
    red, green, blue = np.moveaxis(image.astype(np.uint32), -1, 0)
    colours, inverse = np.unique(red << 16 | green << 8 | blue, return_inverse=True)
    palette = np.full((256, 4), (255, 0, 0, 0), np.uint8)
    if len(colours) <= 256:
        for channel, shift in enumerate((16, 8, 0), start=1):
            palette[: len(colours), channel] = colours >> shift & 255
        return inverse.reshape(height, width).astype(np.uint8), palette
    quantized = Image.fromarray(image).quantize(256, method=Image.Quantize.MEDIANCUT)
    rgb = np.array(quantized.getpalette() or [], np.uint8).reshape(-1, 3)
    palette[: len(rgb), 1:] = rgb
    return np.array(quantized, np.uint8), palette


def sheet(
    rows: list[NDArray[np.uint8]], *, upscale: int, gap: int, background: int
) -> NDArray[np.uint8]:
    """Lays sequences of frames of one size under each other, each as a row.

    Args:
        rows: uint8 (T, H, W, 3) each; T may differ.
        upscale: how many times each pixel repeats each way.
        gap: pixels of background between and around frames, after enlarging.
        background: grey level in [0, 255].

    Returns:
        uint8 (height, width, 3).
    """
    _, height, width, _ = rows[0].shape
    step = (height * upscale + gap, width * upscale + gap)
    columns = max(len(row) for row in rows)
    canvas = np.full((len(rows) * step[0] + gap, columns * step[1] + gap, 3), background, np.uint8)
    for i, row in enumerate(rows):
        large = row.repeat(upscale, axis=1).repeat(upscale, axis=2)
        for j, image in enumerate(large):
            top, left = gap + i * step[0], gap + j * step[1]
            canvas[top : top + len(image), left : left + image.shape[1]] = image
    return canvas


def write_png(path: Path, image: NDArray[np.uint8]) -> None:
    """Writes uint8 (H, W, 3) as a PNG."""
    info = PngImagePlugin.PngInfo()
    info.add_text("Software", MARK.decode())
    iio.imwrite(path, image, extension=".png", plugin="pillow", pnginfo=info)
