"""Frames side by side in one picture: sheets, and several videos in one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import imageio.v3 as iio
import numpy as np
from PIL import PngImagePlugin

from ldf_video.errors import UsageError
from ldf_video.files.not_clips import MARK
from ldf_video.output import write_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_GREY, _GAP = 224, 2  # its level; pixels between and around the frames


def write_sheet(
    path: Path | str, rows: Sequence[NDArray[np.uint8]], *, upscale: int = 2
) -> NDArray[np.uint8]:
    """Writes a PNG with one row a sequence and one column a frame, on light grey.

    Args:
        path: ends in .png; parents are made.
        rows: at least one of uint8 (T, H, W, 3); T may differ between them, H and W may not.
        upscale: how many times each pixel repeats each way, at least 1.

    Returns:
        The picture, uint8 (height, width, 3).

    Raises:
        UsageError: for another suffix.
        ValueError: if there is no row, or a row has another type or size than the first.
        LdfError: if the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise UsageError(f"got sheet {path}, expected .png; change the suffix")
    if not rows:
        raise ValueError("got no rows, expected at least one")
    for row in rows:
        if row.dtype != np.uint8 or row.ndim != 4 or row.shape[1:] != (*rows[0].shape[1:3], 3):
            raise ValueError(f"got a row of {row.dtype} {row.shape}, expected uint8 (T, H, W, 3)")
    image = sheet_of(rows, upscale=upscale, gap=_GAP, background=_GREY)
    write_atomically(path, lambda part: write_png(part, image))
    return image


def sheet_of(
    rows: Sequence[NDArray[np.uint8]], *, upscale: int, gap: int, background: int
) -> NDArray[np.uint8]:
    """Lays sequences of frames of one size under each other, each as a row."""
    _, height, width, _ = rows[0].shape
    step = (height * upscale + gap, width * upscale + gap)
    columns = max(len(row) for row in rows)
    canvas = np.full((len(rows) * step[0] + gap, columns * step[1] + gap, 3), background, np.uint8)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            top, left = gap + i * step[0], gap + j * step[1]
            large = enlarged(image, upscale)
            canvas[top : top + len(large), left : left + large.shape[1]] = large
    return canvas


def enlarged(image: NDArray[np.uint8], upscale: int) -> NDArray[np.uint8]:
    """Repeats each pixel so many times each way."""
    return image.repeat(upscale, axis=0).repeat(upscale, axis=1)


def write_png(path: Path, image: NDArray[np.uint8]) -> None:
    """Writes uint8 (H, W, 3) as a PNG."""
    info = PngImagePlugin.PngInfo()
    info.add_text("Software", MARK.decode())
    iio.imwrite(path, image, extension=".png", plugin="pillow", pnginfo=info)


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
