"""Whether a file stops before its own end, for containers whose demuxer would not tell.

FFmpeg reports a cut Matroska or GIF file as an ordinary end, and decodes the half picture there. Of
a GIF it loses the last picture where its last byte is missing, or where others are behind that.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import BinaryIO

_GIF_TRAILER = b"\x3b"
_EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT = b"\x18\x53\x80\x67"
_MAX_BOXES = 100_000
# ISO/IEC 14496-12, table 1, and QuickTime's: other bytes behind the last box are nobody's.
_TOP_BOXES = frozenset(
    b"ftyp pdin moov moof mfra mdat free skip meta styp sidx ssix prft emsg uuid".split()
    + b"wide udta pnot PICT".split()
)


def is_cut_short(file: BinaryIO) -> bool:
    """Returns whether a Matroska or MP4 file lacks bytes at its end; False for other formats.

    Reads a few headers and leaves `file` at its beginning.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(12)
    cut = False
    if head.startswith(_EBML):
        cut = _matroska_end(file) > size
    elif head[4:8] == b"ftyp":
        cut = _mp4_end(file, size=size) > size
    file.seek(0)
    return cut


class WholeGif:
    """A GIF up to its last picture, with a trailer behind that, to be read as a file.

    Where a picture without transparency is to be cleared before the next, FFmpeg paints the
    background's colour and browsers nothing: here such a picture says of a colour that it has not
    that it is transparent, and FFmpeg does as browsers do.
    """

    def __init__(self, file: BinaryIO) -> None:
        """Looks at all blocks of the file.

        Raises:
            ValueError: if it ends within one, or goes on with what is none.
        """
        self._file, self._position = file, 0
        self._changes: dict[int, int] = {}
        self._end = _gif_end(file, self._changes)

    def read(self, num_bytes: int) -> bytes:
        self._file.seek(min(self._position, self._end))
        data = self._file.read(min(num_bytes, max(self._end - self._position, 0)))
        data = _changed(data, self._position, self._changes)
        if self._position + len(data) == self._end and len(data) < num_bytes:
            data += _GIF_TRAILER
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        begins = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._end + 1}
        self._position = begins[whence] + offset
        return self._position

    def tell(self) -> int:
        return self._position


def _changed(data: bytes, begin: int, changes: dict[int, int]) -> bytes:
    """Returns data from position `begin` on with other bytes at some positions."""
    end = begin + len(data)
    own = {position: byte for position, byte in changes.items() if begin <= position < end}
    if not own:
        return data
    changed = bytearray(data)
    for position, byte in own.items():
        changed[position - begin] = byte
    return bytes(changed)


def _gif_end(file: BinaryIO, changes: dict[int, int]) -> int:
    """Returns where the last picture of a GIF ends (GIF89a, 18 to 27).

    FFmpeg would take a comment behind that for one more frame.

    Args:
        file: the GIF.
        changes: gets the bytes by which opaque pictures are cleared as browsers do, by position.
    """
    file.seek(10)
    global_colours = _skip_colours(file, file.read(3))
    control = 0  # where the last control block has its flags
    announced = False  # a picture, by the block that says how long it shows
    end = file.tell()
    while (kind := file.read(1)) not in (_GIF_TRAILER, b""):
        if kind == b"\x2c":
            num_colours = _skip_colours(file, file.read(9)[-1:]) or global_colours
            if control and num_colours < 256:
                changes |= _cleared(file, control)
            control = 0
            file.seek(1, os.SEEK_CUR)  # bits of a code
            announced = False
        elif kind == b"\x21":
            if file.read(1) == b"\xf9":
                announced, control = True, file.tell() + 1
        elif kind != b"\0":  # some write more ends of blocks than blocks
            raise ValueError("no block of a GIF")
        while kind != b"\0" and (size := file.read(1)) != b"\0":
            if not size:
                raise ValueError("the file ends early")
            file.seek(size[0], os.SEEK_CUR)
        if kind == b"\x2c":
            end = file.tell()
    if announced:
        raise ValueError("the file ends early")
    return end


def _cleared(file: BinaryIO, control: int) -> dict[int, int]:
    """Bytes that make colour 255 transparent in an opaque picture which is to be cleared."""
    here = file.tell()
    file.seek(control)
    flags = file.read(1)[0]
    file.seek(here)
    # Bits 2 to 4: 2 to clear to the background; bit 0: a colour is transparent.
    return {control: flags | 1, control + 3: 255} if flags & 0x1D == 2 << 2 else {}


def _skip_colours(file: BinaryIO, packed: bytes) -> int:
    """Bit 7 says that there are colours, bits 0 to 2 how many; returns the number."""
    if not packed or not packed[0] & 0x80:
        return 0
    num_colours = 2 << (packed[0] & 7)
    file.seek(3 * num_colours, os.SEEK_CUR)
    return num_colours


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
