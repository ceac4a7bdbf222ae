"""Frames to a file that plays: .mp4, .gif, or a .png sheet."""

from __future__ import annotations

import math
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from av.error import FFmpegError

from ldf_video.errors import LdfError, UsageError
from ldf_video.output import replacing, write_atomically, write_errors
from ldf_video.video.encoders import ENCODERS, Encoder, sheet, write_png

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from numpy.typing import NDArray

MIN_SHORT_SIDE = 128
_SHEET_GREY = 224


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
    return 2 * max(1, math.ceil(MIN_SHORT_SIDE / (2 * min(height, width))))


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
        """Checks the options and makes the parent directories.

        Args:
            path: ends in .mp4, .gif or .png.
            fps: frames a second, more than 0.
            upscale: how many times each pixel repeats each way; None chooses by `default_upscale`.

        Raises:
            UsageError: for another suffix, a rate or an upscale that is not positive.
            LdfError: if the parent directory cannot be made.
        """
        self.path = Path(path)
        check_output(self.path)
        rate = fps if isinstance(fps, Fraction) else Fraction(fps).limit_denominator(1001)
        if rate <= 0:
            raise UsageError(f"got {fps} frames a second, expected more than 0; give a higher rate")
        if upscale is not None and upscale < 1:
            raise UsageError(f"got upscale {upscale}, expected 1 or more; give a whole number")
        self.note: str | None = None
        self._fps = rate
        self._upscale = upscale
        self._shape: tuple[int, ...] = ()
        self._encoder: Encoder | None = None
        self._file = ExitStack()
        with _write_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, frames: NDArray[np.uint8]) -> None:
        """Appends frames; the first call fixes their size.

        Args:
            frames: uint8 (T, H, W, 3), RGB; T may be 0.

        Raises:
            ValueError: if the array has another type, or another size than the first.
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
                self._encoder = self._open(frames.shape[1], frames.shape[2])
            self._encoder.add(frames)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        encoder, self._encoder = self._encoder, None
        is_kept = error is None or isinstance(error, KeyboardInterrupt)
        # What stopped the block is raised, and not that its file could not be finished.
        ignored = _DroppedError if error is None else LdfError
        with suppress(ignored), _write_errors(self.path), self._file:
            if encoder is not None:
                encoder.close()
            if not is_kept or encoder is None or not encoder.num_frames:
                raise _DroppedError

    def _open(self, height: int, width: int) -> Encoder:
        make = ENCODERS[self.path.suffix.lower()]
        upscale = self._upscale or default_upscale(height, width)
        part = self._file.enter_context(replacing(self.path))
        encoder = make(part, fps=self._fps, upscale=upscale, size=(height, width))
        self.note = encoder.note
        return encoder


def write_sheet(
    path: Path | str, rows: Sequence[NDArray[np.uint8]], *, upscale: int = 2, gap: int = 2
) -> NDArray[np.uint8]:
    """Writes a PNG with one row a sequence and one column a frame, on light grey.

    Args:
        path: ends in .png; parents are made.
        rows: at least one of uint8 (T, H, W, 3); T may differ between them, H and W may not.
        upscale: how many times each pixel repeats each way, at least 1.
        gap: grey pixels between and around the frames.

    Returns:
        The picture, uint8 (height, width, 3).

    Raises:
        UsageError: for another suffix.
        ValueError: if there is no row, or a row has another type or size than the first.
        LdfError: if the file cannot be written.
    """
    path = Path(path)
    check_output(path)
    if path.suffix.lower() != ".png":
        raise UsageError(f"got sheet {path}, expected .png; change the suffix")
    if not rows:
        raise ValueError("got no rows, expected at least one")
    for row in rows:
        if row.dtype != np.uint8 or row.ndim != 4 or row.shape[1:] != (*rows[0].shape[1:3], 3):
            raise ValueError(f"got a row of {row.dtype} {row.shape}, expected uint8 (T, H, W, 3)")
    image = sheet(list(rows), upscale=upscale, gap=gap, background=_SHEET_GREY)
    write_atomically(path, lambda part: write_png(part, image))
    return image


def tile(videos: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lays several videos out in a near-square grid, for one file.

    Args:
        videos: uint8 (N, T, H, W, 3) with N at least 1.

    Returns:
        uint8 (T, rows * H, columns * W, 3), filled row by row; cells left over are black.
    """
    num_videos, num_frames, height, width, channels = videos.shape
    columns = math.isqrt(num_videos - 1) + 1
    rows = -(-num_videos // columns)
    cells = np.zeros((rows * columns, *videos.shape[1:]), np.uint8)
    cells[:num_videos] = videos
    # (rows * columns, T, H, W, C) -> (T, rows, H, columns, W, C) -> (T, rows * H, columns * W, C)
    grid = cells.reshape(rows, columns, num_frames, height, width, channels)
    return grid.transpose(2, 0, 3, 1, 4, 5).reshape(
        num_frames, rows * height, columns * width, channels
    )


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
