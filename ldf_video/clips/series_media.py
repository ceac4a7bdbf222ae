"""Numbered pictures, of which each may be of another kind, as one clip."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ldf_video.arrays.tiff_stack import needs_tifffile, open_tiff
from ldf_video.errors import ReadError
from ldf_video.files.remote import RemoteError
from ldf_video.video.decode import open_media
from ldf_video.video.pictures import PictureMedia, is_picture, read_picture

if TYPE_CHECKING:
    from collections.abc import Iterator

    import av

    from ldf_video.files.layout import Layout
    from ldf_video.files.locations import Location
    from ldf_video.sources.series import Series


class SeriesMedia(PictureMedia):
    """Numbered pictures as one clip, all of them at any rate."""

    has_times = False

    def __init__(self, folder: Location, series: Series, layout: Layout) -> None:
        super().__init__(folder / series.names[0])
        self._layout = layout
        self._folder, self._names = folder, series.names
        self._num_all = len(series.names)

    def _pictures(self) -> Iterator[av.VideoFrame]:
        for name in self._names[self._num_read :]:
            path = self._folder / name
            try:
                if is_picture(path) and not needs_tifffile(path):
                    frame = self._frame(read_picture(path))
                elif is_picture(path):
                    with open_tiff(path, self._layout) as clips:
                        frame = next(clips[0].frames())
                else:
                    with open_media(path) as media:
                        frame = next(media.frames())
            except RemoteError as error:
                raise ReadError(f"{name}: cannot be read: {error}") from error
            except ReadError as error:
                raise ReadError(f"{name}: {error}") from error
            yield frame
