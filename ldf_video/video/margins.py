"""What Matroska says of a film's margins, which decoders leave in the picture and players cut off.

RFC 9559, 5.1.4.1.28: PixelCropBottom, PixelCropTop, PixelCropLeft and PixelCropRight. FFmpeg reads
them, PyAV does not pass them on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from av.filter import Graph
from av.video.reformatter import Colorspace

from ldf_video.video.resize import is_untagged_hd

if TYPE_CHECKING:
    from collections.abc import Iterator

    import av

_EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT, _CLUSTER, _TRACKS, _TRACK, _VIDEO = 0x18538067, 0x1F43B675, 0x1654AE6B, 0xAE, 0xE0
_CROPS = {0x54BB: "top", 0x54AA: "bottom", 0x54CC: "left", 0x54DD: "right"}


class Margins(NamedTuple):
    """Rows and columns of the stored picture that are not shown."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0


def matroska_margins(file: BinaryIO) -> list[Margins]:
    """Returns the margins of each track of pictures, in order; leaves `file` at its start.

    Empty for other files, and where the tracks come after the pictures.

    Raises:
        OSError: if the file cannot be read.
    """
    found: list[Margins] = []
    file.seek(0)
    if file.read(4) == _EBML:
        end = file.seek(0, 2)
        for segment, *part in _elements(file, 0, end):
            if segment == _SEGMENT:
                found = _track_margins(file, *part)
                break
    file.seek(0)
    return found


class Cropper:
    """Cuts the margins off frames, copying nothing."""

    def __init__(self, margins: Margins) -> None:
        self._margins = margins
        self._graph, self._shape = Graph(), ""

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        """Returns what is shown of a frame; the frame itself where that would be nothing."""
        top, bottom, left, right = self._margins
        width, height = frame.width - left - right, frame.height - top - bottom
        if width <= 0 or height <= 0:
            return frame
        if is_untagged_hd(frame):  # by all of its rows
            frame.colorspace = Colorspace.ITU709
        shape = (
            f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}"
            f":time_base={frame.time_base}:colorspace={frame.colorspace}:range={frame.color_range}"
        )
        if shape != self._shape:
            self._graph, self._shape = Graph(), shape
            self._graph.link_nodes(
                self._graph.add("buffer", shape),
                self._graph.add("crop", f"{width}:{height}:{left}:{top}:exact=1"),
                self._graph.add("buffersink"),
            ).configure()
        self._graph.vpush(frame)
        return self._graph.vpull()


def _track_margins(file: BinaryIO, begin: int, end: int) -> list[Margins]:
    found = []
    for element, *tracks in _elements(file, begin, end):
        if element == _CLUSTER:
            break
        if element != _TRACKS:
            continue
        for track, *fields in _elements(file, *tracks):
            for field, *video in _elements(file, *fields) if track == _TRACK else ():
                if field == _VIDEO:
                    found.append(_margins(file, *video))
    return found


def _margins(file: BinaryIO, begin: int, end: int) -> Margins:
    sides = {}
    for element, first, last in _elements(file, begin, end):
        if element in _CROPS:
            file.seek(first)
            sides[_CROPS[element]] = int.from_bytes(file.read(min(last - first, 8)), "big")
    return Margins(**sides)


def _elements(file: BinaryIO, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yields the elements between two positions: each its ID, and from where to where its data is.

    RFC 8794, 4 to 6: an ID and a size, both of variable length; all bits of a size set: to the end.
    """
    while begin < end:
        file.seek(begin)
        head = file.read(12)
        id_length = _length(head)
        size_length = _length(head[id_length:])
        if not 0 < id_length <= 4 or not 0 < size_length <= len(head) - id_length:
            return
        first = begin + id_length + size_length
        bits = 7 * size_length
        size = int.from_bytes(head[id_length : id_length + size_length], "big") & ((1 << bits) - 1)
        begin = end if size == (1 << bits) - 1 else min(first + size, end)
        yield int.from_bytes(head[:id_length], "big"), first, begin


def _length(head: bytes) -> int:
    """Bytes of a number that begins with as many zero bits as it has further bytes; 0 for none."""
    return 9 - head[0].bit_length() if head and head[0] else 0
