"""What is lost of a damaged film: frames that do not come, and those that a decoder made up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import av
    from av.packet import Packet
    from av.video.stream import VideoStream

# Between two blocks of Matroska there are at most some headers.
_MAX_HEADER_BYTES = 96
_NEAR = 4  # frames


class Damage:
    """Counts frames that do not come, and those that the decoder made up.

    A film may be uneven, so a gap in its times counts only where bytes of the file were passed
    over, the container says that a packet is not whole, or a frame beside it was concealed. What
    cannot be decoded before the first sound frame is no loss: a recording may start between key
    frames.
    """

    def __init__(self, stream: VideoStream, *, in_matroska: bool) -> None:
        self._stream, self._in_matroska = stream, in_matroska
        self._holes: list[tuple[int, int]] = []  # between two times, in the stream's units
        self._end_bytes = 0  # of the last packet of any stream
        self._is_hole = False
        self.has_errors = False  # whether any part of the file could not be understood
        self._last_packet: Packet[VideoStream] | None = None
        self._last_pts: int | None = None
        self._gap = (0, 0)  # times around the frames that were missing last in a hole
        self.num_frames = self._num_packets = 0
        self._num_before: int | None = None  # frames that came before the first damage
        self._num_failed = self._num_in_holes = self._num_near = self._num_concealed = 0
        self._num_since = _NEAR  # frames, since one was concealed
        self._has_key = self._has_sound = False

    def add_packet(self, packet: Packet[Any]) -> None:
        """Counts a packet of any stream, in the order of the file."""
        if self._in_matroska and packet.pos is not None:
            self._is_hole |= 0 < self._end_bytes < packet.pos - _MAX_HEADER_BYTES
            self._end_bytes = packet.pos + packet.size
        if packet.stream_index != self._stream.index:
            return
        last, self._last_packet = self._last_packet, packet
        if last is not None and (self._is_hole or last.is_corrupt):
            low, high = last.pts if last.dts is None else last.dts, packet.pts
            if low is not None and high is not None:
                self._holes.append((low, high))
        self._is_hole = False

    def add_hole(self) -> None:
        """Counts a part of the file that could not be understood, behind the last packet."""
        self._is_hole = self.has_errors = True

    def add_decoded(self, packet: Packet[VideoStream], *, is_decoded: bool) -> None:
        """Counts a packet that was given to the decoder, and whether that could decode it."""
        self._has_key |= packet.is_keyframe
        if not is_decoded and self._has_sound:
            self._begin()
            self._num_failed += 1
        if self._has_key and not packet.is_discard and (is_decoded or self._has_sound):
            self._num_packets += 1

    def add_frame(self, frame: av.VideoFrame, *, step: float) -> None:
        """Counts a frame, in order of display; `step` to the next, in the stream's units."""
        pts, last, is_corrupt = frame.pts, self._last_pts, frame.is_corrupt
        if last is not None and pts is not None:
            if self._gap[0] < pts < self._gap[1]:  # it came late: behind a hole times may step back
                self._num_in_holes -= 1
            elif pts - last > 1.5 * step and not self._gap[0] < last < self._gap[1]:
                num_missing = round((pts - last) / step) - 1
                if any(low < pts and last < high for low, high in self._holes):
                    self._begin()
                    self._num_in_holes += num_missing
                    self._gap = last, pts
                elif is_corrupt or self._num_since < _NEAR:
                    self._begin()
                    self._num_near += num_missing
        if is_corrupt and self._has_sound:
            self._begin()
            self._num_concealed += 1
            self._num_since = 0
        self._num_since += 1
        self._has_sound |= not is_corrupt
        self._last_pts = pts
        self.num_frames += 1

    def __str__(self) -> str:
        """What was lost, and how much was read behind it; empty if nothing was."""
        if self._num_before is None:
            return ""
        # What was fed and did not come is missing in the times too, unless these are made up.
        lost = max(self._num_failed, self._num_near, self._num_packets - self.num_frames)
        lost += self._num_in_holes
        counts = {"missing": lost, "concealed": self._num_concealed}
        losses = " and ".join(f"{count} {what}" for what, count in counts.items() if count > 0)
        rest = self.num_frames - self._num_before - self._num_concealed
        return f"damaged after {self._num_before} frames: {losses}, {max(rest, 0)} more read"

    def _begin(self) -> None:
        if self._num_before is None:
            self._num_before = self.num_frames
