"""Still pictures of one folder as the frames of one clip."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av

from ldf_video.errors import ReadError, TruncatedError
from ldf_video.video.decode import open_media
from ldf_video.video.deep import range_note
from ldf_video.video.files import is_remote_failure
from ldf_video.video.geometry import SQUARE
from ldf_video.video.pictures import DEFAULT_FPS, is_picture, read_picture

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ldf_video.video.files import Location
    from ldf_video.video.series import Series


class SeriesMedia:
    """Numbered pictures as one clip; they carry no times."""

    container_name = "pictures"
    fps = DEFAULT_FPS
    sample_aspect_ratio = SQUARE

    def __init__(self, series: Series, *, first: int = 0) -> None:
        """Reads nothing yet.

        Args:
            series: the pictures.
            first: number of the first picture to give.
        """
        self._series, self._num_read, self._used = series, first, 0.0
        self.codec_name = series.names[0].rpartition(".")[2].lower()

    def position(self) -> float:
        """Returns the share of the pictures that were read."""
        return min(self._num_read / len(self._series.names), 1.0)

    def note(self) -> str:
        """Returns what a user must know of the pictures that were read, else ''."""
        return range_note(self._used)

    def frames(self) -> Iterator[av.VideoFrame]:
        """Yields the pictures, one in memory at a time.

        Raises:
            ReadError: if the first cannot be read.
            TruncatedError: at a later one.
        """
        for name in self._series.names[self._num_read :]:
            try:
                frame = self._read(self._series.folder / name)
            except ReadError as error:
                reason = f"{name}: {error}"
                # Where it is the network that failed, nothing is known to be wrong with the clip.
                if self._num_read == 0 or is_remote_failure(error):
                    raise ReadError(reason) from error
                raise TruncatedError(f"damaged after {self._num_read} frames: {reason}") from error
            self._num_read += 1
            yield frame

    def _read(self, path: Location) -> av.VideoFrame:
        if is_picture(path):
            levels = read_picture(path)
            self._used = max(self._used, levels.used)
            return av.VideoFrame.from_ndarray(levels.pixels, format="rgb24")
        with open_media(path) as media:
            return next(media.frames())
