"""Frames to a file that plays: .mp4, .gif, or a .png sheet."""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from PIL import Image

from ldf_video.errors import LdfError, UsageError
from ldf_video.files.not_clips import MARK
from ldf_video.output import replacing, write_errors
from ldf_video.video.colour import yuv420_planes
from ldf_video.video.sheet import enlarged, sheet_of, write_png

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_MIN_SHORT_SIDE = 128
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


def check_output(path: Path) -> None:
    """Checks that `path` names a kind of file that can be written; touches nothing.

    Raises:
        UsageError: if the suffix is not .mp4, .gif or .png, or a directory is in the way.
    """
    if path.suffix.lower() not in ENCODERS:
        kinds = ", ".join(ENCODERS)
        raise UsageError(f"got output {path}, expected one of {kinds}; change the suffix")
    if path.is_dir():
        raise UsageError(f"got output {path}, which is a directory; give a file name")


def default_upscale(height: int, width: int) -> int:
    """Returns the smallest even factor that makes the short side at least 128 pixels."""
    return 2 * max(1, math.ceil(_MIN_SHORT_SIDE / (2 * min(height, width))))


class VideoWriter:
    """Writes frames as they come; use it in a `with` block.

    The file appears under its name when the block ends, whole. If the block ends by Ctrl-C, what
    was written so far is finished and kept; if by another exception, it is dropped, and a file that
    was there before stays. No frame, no file. mp4 and gif stream; a png sheet keeps its frames
    until the end. The same frames give the same bytes.

    Attributes:
        path: where the file will be.
        note: one line for the user where the file differs from what was asked, else None.
    """

    def __init__(
        self, path: Path | str, *, fps: Fraction | float, upscale: int | None = None
    ) -> None:
        """Makes the parent directories of a path that ends in .mp4, .gif or .png.

        At `fps` frames a second each pixel repeats `upscale` times each way, by default as often as
        `default_upscale` says.

        Raises:
            UsageError: for another suffix, a rate or an upscale that is not positive.
            LdfError: if the parent directory cannot be made.
        """
        self.path = Path(path)
        check_output(self.path)
        self._fps = fps if isinstance(fps, Fraction) else Fraction(fps).limit_denominator(1001)
        if self._fps <= 0:
            raise UsageError(f"got {fps} frames a second, expected more than 0; give a higher rate")
        if upscale is not None and upscale < 1:
            raise UsageError(f"got upscale {upscale}, expected 1 or more; give a whole number")
        self.note: str | None = None
        self._upscale = upscale
        self._shape: tuple[int, ...] = ()
        self._encoder: _Encoder | None = None
        self._file = ExitStack()
        with _write_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, frames: NDArray[np.uint8]) -> None:
        """Appends uint8 (T, H, W, 3) RGB frames, T >= 0; the first call fixes their size.

        Raises:
            ValueError: if the array has another type, or another size than the first.
            UsageError: if frames are larger than such a file can have them.
            WriteError: if the file cannot be written, as on a full disk.
        """
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
            raise ValueError(f"got {frames.dtype} {frames.shape}, expected uint8 (T, H, W, 3)")
        if self._shape and frames.shape[1:] != self._shape:
            raise ValueError(f"got frames of {frames.shape[1:]} after frames of {self._shape}")
        self._shape = frames.shape[1:]
        if len(frames) == 0:
            return
        with _write_errors(self.path):
            if self._encoder is None:
                self._encoder = self._open(*frames.shape[1:3])
            self._encoder.add(frames)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        encoder, self._encoder = self._encoder, None
        is_kept = error is None or isinstance(error, KeyboardInterrupt)
        # What stopped the block is raised, and not that its file could not be finished.
        ignored = _DroppedError if error is None else LdfError
        with suppress(ignored), _write_errors(self.path), self._file:
            if encoder is not None:
                encoder.close()
            if not is_kept or encoder is None or not encoder.num_frames:
                raise _DroppedError

    def _open(self, height: int, width: int) -> _Encoder:
        upscale = self._upscale or default_upscale(height, width)
        height, width = height * upscale, width * upscale
        make = ENCODERS[self.path.suffix.lower()]
        if max(height, width) > make.longest:
            raise UsageError(
                f"{self.path}: got frames of {width:,}x{height:,}, expected {make.longest:,} "
                "pixels a side at most; give a smaller --upscale, or fewer videos in one file"
            )
        part = self._file.enter_context(replacing(self.path))
        encoder = make(part, self._fps, upscale, (height, width))
        self.note = encoder.note
        return encoder


class _DroppedError(LdfError):
    """Ends the writing of a file that does not get its name."""


@contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    """As `write_errors`, for FFmpeg's errors too."""
    with write_errors(path):
        try:
            yield
        except FFmpegError as error:  # some of them are none of the system's errors
            raise OSError(error.errno, error.strerror) from error


class _Encoder(ABC):
    """Writes frames, enlarged by repeating pixels to `size`, rows first, to one file."""

    note: str | None = None
    num_frames = 0
    longest: float = math.inf  # side in pixels

    def __init__(self, path: Path, fps: Fraction, upscale: int, size: tuple[int, int]) -> None:
        self._path, self._fps, self._upscale = path, fps, upscale
        self._open(*size)

    @abstractmethod
    def _open(self, height: int, width: int) -> None: ...

    @abstractmethod
    def add(self, frames: NDArray[np.uint8]) -> None: ...

    @abstractmethod
    def close(self) -> None: ...


class _Mp4Encoder(_Encoder):
    """H.264 in 4:2:0, tagged BT.709: plays everywhere, and loses little (see `yuv420_planes`)."""

    longest = 16_384  # of x264

    def _open(self, height: int, width: int) -> None:
        even = (height + height % 2, width + width % 2)
        if even != (height, width):
            self.note = f"padded {width}x{height} to {even[1]}x{even[0]}: mp4 needs even sides"
        self._container = av.open(str(self._path), "w", options={"fflags": "+bitexact"})
        self._container.metadata["comment"] = MARK.decode()
        self._stream = self._container.add_stream("libx264", rate=self._fps, options=_X264)
        self._stream.height, self._stream.width = even
        self._stream.pix_fmt = "yuv420p"
        context = self._stream.codec_context
        context.time_base = 1 / self._fps
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


class _GifEncoder(_Encoder):
    """An endless GIF with a palette a frame: exact up to 256 colours a frame."""

    longest = 65_535  # in two bytes

    def _open(self, height: int, width: int) -> None:
        if self._fps > _GIF_MAX_FPS:
            self.note = f"gif plays at {_GIF_MAX_FPS} frames a second"
            self._fps = Fraction(_GIF_MAX_FPS)
        self._container = av.open(str(self._path), "w", options={"loop": "0"})
        self._stream = self._container.add_stream("gif", rate=_GIF_TICKS)
        self._stream.height, self._stream.width, self._stream.pix_fmt = height, width, "pal8"
        self._stream.codec_context.time_base = Fraction(1, _GIF_TICKS)

    def add(self, frames: NDArray[np.uint8]) -> None:
        for image in frames:
            indices, palette = _indexed(image)
            pair: Any = (enlarged(indices, self._upscale), palette)  # PyAV takes the two together
            frame = av.VideoFrame.from_ndarray(pair, format="pal8")
            # Rounding start times, not delays, keeps the mean rate: 30 a second is 3, 4, 3, ...
            start, end = (
                round(number * _GIF_TICKS / self._fps)
                for number in (self.num_frames, self.num_frames + 1)
            )
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


class _SheetEncoder(_Encoder):
    """One PNG with the frames side by side, 16 to a row; holds all of them until closed."""

    def _open(self, height: int, width: int) -> None:
        self._frames: list[NDArray[np.uint8]] = []

    def add(self, frames: NDArray[np.uint8]) -> None:
        self._frames.extend(frames.copy())
        self.num_frames += len(frames)

    def close(self) -> None:
        starts = range(0, self.num_frames, _SHEET_COLUMNS)
        rows = [np.stack(self._frames[start : start + _SHEET_COLUMNS]) for start in starts]
        if rows:
            write_png(self._path, sheet_of(rows, upscale=self._upscale, gap=0, background=0))


ENCODERS: dict[str, type[_Encoder]] = {
    ".mp4": _Mp4Encoder,
    ".gif": _GifEncoder,
    ".png": _SheetEncoder,
}
"""What writes files, by their suffixes."""


def _indexed(image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Returns indices (H, W), and a palette (256, 4) of alpha, red, green, blue.

    Exact up to 256 colours, else by Pillow's median cut.
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
