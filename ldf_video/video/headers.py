"""What the headers of Matroska and MP4 files say that FFmpeg, or PyAV, does not pass on."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ldf_video.video.containers import Readable

_EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT, _CLUSTER, _TRACKS, _TRACK, _VIDEO = 0x18538067, 0x1F43B675, 0x1654AE6B, 0xAE, 0xE0
# RFC 9559, 5.1.4.1.28: PixelCropTop, PixelCropBottom, PixelCropLeft and PixelCropRight.
_CROPS = {0x54BB: "top", 0x54AA: "bottom", 0x54CC: "left", 0x54DD: "right"}
_MAX_BOXES = 100_000
# ISO/IEC 14496-12, table 1, and QuickTime's: other bytes behind the last box are nobody's.
_TOP_BOXES = frozenset(
    b"ftyp pdin moov moof mfra mdat free skip meta styp sidx ssix prft emsg uuid".split()
    + b"wide udta pnot PICT".split()
)


class Margins(NamedTuple):
    """Rows and columns of the stored picture that decoders leave in it and players cut off."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0


@dataclass(frozen=True)
class Headers:
    """What a file says of itself.

    Attributes:
        num_bytes: how large it is.
        is_cut_short: whether a Matroska or MP4 file lacks bytes at its end, which FFmpeg reports as
            an ordinary end.
        margins: of each track of pictures of a Matroska file, in order, where they come before the
            pictures.
    """

    num_bytes: int
    is_cut_short: bool = False
    margins: Sequence[Margins] = ()


def read_headers(file: BinaryIO) -> Headers:
    """Reads a few headers and leaves `file` at its beginning; an OSError if it cannot be read."""
    num_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(12)
    headers = Headers(num_bytes)
    if head.startswith(_EBML):
        for element, begin, end in _elements(file, 0, num_bytes):
            if element == _SEGMENT:
                tracks = _inside(file, begin, end, _TRACKS, _TRACK, _VIDEO)
                margins = [_margins(file, *video) for video in tracks]
                headers = Headers(num_bytes, end > num_bytes, margins)
                break
    elif head[4:8] == b"ftyp":
        known = takewhile(lambda box: box[0] in _TOP_BOXES, _boxes(file, num_bytes))
        headers = Headers(num_bytes, any(end > num_bytes for _, end in known))
    file.seek(0)
    return headers


def lacks_index(file: Readable) -> bool:
    """Returns whether an MP4 or QuickTime film ends before its index, the box `moov`, does."""
    with suppress(OSError):
        num_bytes = file.seek(0, os.SEEK_END)
        boxes = list(_boxes(file, num_bytes))
        kinds = [kind for kind, _ in boxes]
        return kinds[:1] == [b"ftyp"] and b"moov" not in kinds[:-1] and boxes[-1][1] > num_bytes
    return False


def _boxes(file: Readable, num_bytes: int) -> Iterator[tuple[bytes, int]]:
    """The kinds of top-level boxes, and where each says that it ends, up to the end of the file."""
    position = 0
    for _ in range(_MAX_BOXES):
        file.seek(position)
        header = file.read(16)
        kind, box_size = header[4:8], int.from_bytes(header[:4], "big")
        if box_size == 1:  # a 64-bit size follows
            box_size = int.from_bytes(header[8:16], "big")
        # A size of 0: up to the end of the file; 2 to 7: no box.
        if len(header) < 8 or box_size < 8:
            return
        position += box_size
        yield kind, position
        if position > num_bytes:
            return


def _inside(file: BinaryIO, begin: int, end: int, *path: int) -> Iterator[tuple[int, int]]:
    """Where the elements lie to which a path of IDs leads, before any frames."""
    if not path:
        yield begin, end
        return
    for element, *data in _elements(file, begin, end):
        if element == _CLUSTER:
            return
        if element == path[0]:
            yield from _inside(file, *data, *path[1:])


def _margins(file: BinaryIO, begin: int, end: int) -> Margins:
    sides = {}
    for element, first, last in _elements(file, begin, end):
        if element in _CROPS:
            file.seek(first)
            sides[_CROPS[element]] = int.from_bytes(file.read(min(last - first, 8)), "big")
    return Margins(**sides)


def _elements(file: BinaryIO, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The elements between two positions: each its ID, and from where to where its data is.

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
        begin = end if size == (1 << bits) - 1 else first + size
        yield int.from_bytes(head[:id_length], "big"), first, begin


def _length(head: bytes) -> int:
    """Bytes of a number that begins with as many zero bits as it has further bytes; 0 for none."""
    return 9 - head[0].bit_length() if head and head[0] else 0
