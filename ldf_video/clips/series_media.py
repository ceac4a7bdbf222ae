"""Numbered pictures, of which each may be of another kind, as one clip."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ldf_video.arrays.tiff_stack import needs_tifffile, open_tiff
from ldf_video.errors import ReadError
from ldf_video.files.remote import RemoteError
from ldf_video.video.decode import open_media
from ldf_video.video.pictures import PictureMedia, failure, is_picture, read_picture

if TYPE_CHECKING:
    from collections.abc import Iterator

    import av

    from ldf_video.files.layout import Layout
    from ldf_video.files.locations import Location
    from ldf_video.sources.series import Series


class SeriesMedia(PictureMedia):
    """Numbered pictures as one clip, all of them at any rate."""

    has_times = False
    knows_place = False

    def __init__(self, folder: Location, series: Series, layout: Layout) -> None:
        super().__init__(folder / series.names[0])
        self._layout = layout
        self._folder, self._names = folder, series.names
        self._num_all = len(series.names)

    def _pictures(self, first: int) -> Iterator[av.VideoFrame | ReadError]:
        self._num_read = first
        for name in self._names[first:]:
            try:
                picture: av.VideoFrame | ReadError = self._picture(self._folder / name)
            except RemoteError as error:
                picture = failure(f"{name}: cannot be read: {error}", error)
            except ReadError as error:
                picture = failure(f"{name}: {error}", error)
            yield picture

    def _picture(self, path: Location) -> av.VideoFrame:
        if is_picture(path) and not needs_tifffile(path):
            return self._frame(read_picture(path))
        if is_picture(path):
            with open_tiff(path, self._layout) as clips:
                return next(clips[0].frames())
        with open_media(path) as media:
            return next(media.frames())
