"""What a packet tells before it is decoded: whether decoding may begin at it, and what is odd."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from av.packet import Packet
    from av.video.stream import VideoStream

# Each packet is one frame, and at a key frame begins nothing that leans on what came before.
_PLAIN_CODECS = ("av1", "ffv1", "mjpeg", "prores")
# ITU-T H.264, table 7-1, and H.265, table 7-1.
_H264_IDR, _H264_SEI, _H264_SEQUENCE_SET, _H264_SETS = 5, 6, 7, (7, 8)
_HEVC_CLEAN = (19, 20, 21)  # IDR with and without leading pictures, CRA
_HEVC_SEQUENCE_SET, _HEVC_SETS = 33, (32, 33, 34)
# Broken links and ends of a sequence, after which a decoder leaves frames out.
_HEVC_BREAKS = (16, 17, 18, 36, 37)
_RECOVERY_POINT = 6  # H.264, D.1.1


class TimesError(Exception):
    """Why the packets of a file do not tell which frame shows when; a short reason."""


def require(holds: bool, reason: str) -> None:
    """Raises TimesError with `reason` unless a condition holds."""
    if not holds:
        raise TimesError(reason)


def packet_inspector(stream: VideoStream) -> Callable[[Packet[VideoStream]], bool]:
    """Returns a function that looks into the packets of a stream, one after the other.

    It returns whether decoding may begin at a packet, so that this frame and all that show after it
    come out as in a decoding from the start. It raises TimesError at a packet after which frames
    may change in size, or be left out.

    Raises:
        TimesError: for a codec whose packets it does not know.
    """
    codec_name = stream.codec_context.codec.canonical_name
    if codec_name in _PLAIN_CODECS:
        return lambda packet: packet.is_keyframe
    if codec_name == "vp9":
        return _inspect_vp9
    require(codec_name in ("h264", "hevc"), f"the codec {codec_name}")
    return _UnitInspector(stream.codec_context.extradata or b"", hevc=codec_name == "hevc")


class _UnitInspector:
    """Looks at the units that a packet of h264 or hevc is made of, as MP4 and Matroska have them.

    Args:
        extradata: parameter sets and the size of lengths (ISO/IEC 14496-15, 5.3.3.1, 8.3.3.1).
        hevc: whether it is hevc.
    """

    def __init__(self, extradata: bytes, *, hevc: bool) -> None:
        length_at = 21 if hevc else 4
        whole = len(extradata) > length_at and extradata[0] == 1
        require(whole, "no parameter sets up front")
        self._extradata, self._hevc = extradata, hevc
        self._length_size = (extradata[length_at] & 3) + 1

    def __call__(self, packet: Packet[VideoStream]) -> bool:
        clean = False
        for kind, unit in self._units(bytes(packet)):
            if kind in (_HEVC_SETS if self._hevc else _H264_SETS) and unit not in self._extradata:
                sequence = kind == (_HEVC_SEQUENCE_SET if self._hevc else _H264_SEQUENCE_SET)
                what = "frames that may change in size" if sequence else "headers that change"
                raise TimesError(what)
            if self._hevc:
                require(kind not in _HEVC_BREAKS, "a broken link between pictures")
                clean = clean or kind in _HEVC_CLEAN
            else:
                recovers = kind == _H264_SEI and _recovers_at_once(unit)
                clean = clean or kind == _H264_IDR or recovers
        return clean and packet.is_keyframe

    def _units(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yields the type of each unit, and the unit; lengths precede them."""
        position = 0
        while position + self._length_size < len(data):
            begin = position + self._length_size
            position = begin + int.from_bytes(data[position:begin], "big")
            kind = data[begin] >> 1 & 0x3F if self._hevc else data[begin] & 0x1F
            yield kind, data[begin:position]


def _recovers_at_once(unit: bytes) -> bool:
    """Whether supplemental information says that all from this picture on comes out exactly.

    H.264, 7.3.2.3.1 and D.1.8: recovery_frame_cnt is 0 (a bit of 1), exact_match_flag is 1.
    """
    data = unit[1:].replace(b"\0\0\3", b"\0\0")
    position = 0
    while position + 2 < len(data):
        kind = size = 0
        while position < len(data) and data[position] == 0xFF:
            kind, position = kind + 255, position + 1
        kind, position = kind + int.from_bytes(data[position : position + 1], "big"), position + 1
        while position < len(data) and data[position] == 0xFF:
            size, position = size + 255, position + 1
        size, position = size + int.from_bytes(data[position : position + 1], "big"), position + 1
        if kind == _RECOVERY_POINT:
            return position < len(data) and data[position] >> 6 == 0b11
        position += size
    return False


def _inspect_vp9(packet: Packet[VideoStream]) -> bool:
    """VP9 bitstream 0.6, 6.2 and annex B: a packet that shows no frame would count as one."""
    data = bytes(packet)
    is_superframe = data[-1] >> 5 == 0b110
    bits = int.from_bytes(data[:2].ljust(2, b"\0"), "big")
    at = 11 if bits >> 12 & 0b11 < 0b11 else 10  # show_existing_frame; profile 3 has a bit more
    shown = bool(bits >> at & 1 or bits >> (at - 2) & 1)
    require(is_superframe or shown, "packets without a frame")
    return packet.is_keyframe
