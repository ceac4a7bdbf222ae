"""Whether a file stops before its own end, for containers whose demuxer would not tell.

FFmpeg reports a cut Matroska or GIF file as an ordinary end, and decodes the half picture there.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import BinaryIO

_EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT = b"\x18\x53\x80\x67"
_MAX_BOXES = 100_000
# ISO/IEC 14496-12, table 1, and QuickTime's: other bytes behind the last box are nobody's.
_TOP_BOXES = frozenset(
    b"ftyp pdin moov moof mfra mdat free skip meta styp sidx ssix prft emsg uuid".split()
    + b"wide udta pnot PICT".split()
)


def is_cut_short(file: BinaryIO) -> bool:
    """Returns whether a Matroska, GIF or MP4 file lacks bytes at its end; False for other formats.

    Reads a few headers and leaves `file` at its beginning.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(12)
    cut = False
    if head.startswith(_EBML):
        cut = _matroska_end(file) > size
    elif head.startswith(b"GIF8"):
        cut = not _ends_with(file, b"\x3b", size=size)
    elif head[4:8] == b"ftyp":
        cut = _mp4_end(file, size=size) > size
    file.seek(0)
    return cut


def _ends_with(file: BinaryIO, trailer: bytes, *, size: int) -> bool:
    file.seek(max(0, size - 64))
    return file.read(64).rstrip(b"\0").endswith(trailer)


def _matroska_end(file: BinaryIO) -> int:
    """Returns where the first segment ends, in bytes; 0 if unsaid, as in a live recording."""
    file.seek(len(_EBML))
    header_size = _variable_int(file)
    file.seek(header_size or 0, os.SEEK_CUR)
    if header_size is None or file.read(4) != _SEGMENT:
        return 0
    segment_size = _variable_int(file)
    return 0 if segment_size is None else file.tell() + segment_size


def _variable_int(file: BinaryIO) -> int | None:
    """Reads an EBML size: leading zero bits count the further bytes, all ones mean unknown."""
    first = file.read(1)
    if not first or first[0] == 0:
        return None
    num_further = 8 - first[0].bit_length()
    mask = (1 << (7 - num_further)) - 1
    value = int.from_bytes(bytes([first[0] & mask]) + file.read(num_further), "big")
    unknown = (1 << (7 * (num_further + 1))) - 1
    return None if value == unknown else value


def _mp4_end(file: BinaryIO, *, size: int) -> int:
    """Returns where the last top-level box says it ends, in bytes; of what is no box, begins."""
    position = 0
    for _ in range(_MAX_BOXES):
        file.seek(position)
        header = file.read(16)
        if len(header) < 8 or header[4:8] not in _TOP_BOXES:
            break
        box_size = int.from_bytes(header[:4], "big")
        if box_size == 1:  # a 64-bit size follows
            box_size = int.from_bytes(header[8:16], "big")
        if box_size < 8:  # 0: up to the end of the file; 2 to 7: no box
            break
        position += box_size
        if position > size:
            break
    return position
