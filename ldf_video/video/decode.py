"""Decode a file frame by frame with PyAV, whatever is wrong with it.

Nothing that a header says about counts is believed.
"""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from av.error import FFmpegError

from ldf_video.errors import ReadError, TruncatedError, reason_of
from ldf_video.files.not_clips import FOREIGN_BYTES, describe_foreign
from ldf_video.files.remote import RemoteError
from ldf_video.video.animations import AnimationMedia, WholeGif
from ldf_video.video.colour import UNSPECIFIED
from ldf_video.video.containers import (
    ANIMATIONS,
    frame_rate,
    open_container,
    picture_stream,
    sample_aspect_ratio,
    shown_delay,
    stream_decoder,
    unreachable,
)
from ldf_video.video.damage import Damage
from ldf_video.video.headers import read_headers
from ldf_video.video.media import Media
from ldf_video.video.pictures import (
    HEAD_BYTES,
    JPEG_SUFFIXES,
    PictureMedia,
    check_size,
    is_animated,
    is_animated_webp,
    picture_kind,
)
from ldf_video.video.presentation import Cropper

if TYPE_CHECKING:
    from collections.abc import Iterator

    import av
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

    from ldf_video.files.locations import Location
    from ldf_video.video.containers import Readable
    from ldf_video.video.headers import Headers

_CUT_SHORT = "the file ends early"


@contextlib.contextmanager
def open_media(path: Location, *, threads: int = 0) -> Iterator[Media]:
    """Opens a video, an animation or a still picture; for `threads` see `stream_decoder`.

    Raises:
        ReadError: if it is none of them; the message says what it is instead.
    """
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("rb"))
            head = file.read(FOREIGN_BYTES + HEAD_BYTES)
            readable, headers = _for_ffmpeg(file, head)
            is_picture = _is_picture(path, head)
        except OSError as error:
            raise ReadError(f"cannot be read: {reason_of(error)}") from error
        if not head:
            raise ReadError("empty file")
        if is_animated_webp(head):
            yield AnimationMedia(file, "WEBP")
        elif is_picture:
            yield PictureMedia(path)
        elif picture_kind(head) == "avif":
            yield AnimationMedia(file, "AVIF")
        elif what := describe_foreign(head):
            raise ReadError(what)
        else:
            container = stack.enter_context(open_container(readable))
            if container.format.name == "jpeg_pipe":  # a stream of JPEGs is "mjpeg"
                yield PictureMedia(path)
            else:
                yield FilmMedia(container, headers, threads)


def _for_ffmpeg(file: BinaryIO, head: bytes) -> tuple[Readable, Headers]:
    """Returns what FFmpeg is to read of a file, from its beginning, and what its headers say."""
    headers = read_headers(file)
    if not head.startswith(b"GIF8"):
        return file, headers
    try:
        return WholeGif(file), headers
    except ValueError:
        file.seek(0)
        return file, replace(headers, is_cut_short=True)


def _is_picture(path: Location, head: bytes) -> bool:
    """Returns whether a file is no film for sure; a JPEG may be the first of a stream of them.

    Phones put a film, a map of brightness or a second view behind the JPEG of a photograph.
    """
    kind = picture_kind(head, path.suffix)
    if kind == "jpeg":
        return path.suffix.lower() in JPEG_SUFFIXES
    return kind == "tiff" or (kind is not None and not is_animated(path))


class FilmMedia(Media):
    """A film that FFmpeg demuxes and decodes.

    Attributes:
        stream: that is the film.
        packets: of the stream, in the order of the file, to be read once, here or by `frames`.
        time_base: of the packets, in seconds.
        is_cut_short: whether the file lacks bytes at its end.
        has_margins: whether frames come without a part that their file cuts off.
    """

    def __init__(self, container: InputContainer, headers: Headers, threads: int) -> None:
        """Reads the packets of the first seconds."""
        self._container = container
        self.container_name = container.format.name
        self._num_all = max(headers.num_bytes, 1)
        self.stream = stream = picture_stream(container)
        self.time_base = cast("Fraction", stream.time_base)
        self._decoder = stream_decoder(stream, threads)
        self._crop: Cropper | None = None
        if len(headers.margins) == len(container.streams.video):
            margins = headers.margins[container.streams.video.index(stream)]
            self._crop = Cropper(margins) if any(margins) else None
        self.has_margins = self._crop is not None
        # What the container says of colours: HEVC's decoder forgets it where the stream says none.
        context = stream.codec_context
        self._matrix, self._transfer = context.colorspace, context.color_trc
        self.is_cut_short = headers.is_cut_short
        self._end_reason = _CUT_SHORT if self.is_cut_short else ""
        self._failure: ReadError | None = None
        self._damage = Damage(stream, in_matroska="matroska" in self.container_name)
        self._last_dts: int | None = None
        self._shown_ticks = 0
        self.codec_name = context.name
        self.sample_aspect_ratio = sample_aspect_ratio(stream)
        self.fps, self.packets = frame_rate(stream, self._whole_packets())
        self._step = float(1 / (self.fps * self.time_base))

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong with the packets that were read."""
        return not (self._end_reason or self._failure or self._damage.has_errors)

    def seek(self, ticks: int) -> None:
        """Go to the key frame at or before a time, in the stream's units, before any is decoded."""
        self._container.seek(ticks, stream=self.stream)
        self.packets = self._whole_packets()

    def frames(self, first: int = 0) -> Iterator[av.VideoFrame]:
        first_error, error = "", ""
        for packet in self.packets:
            frames, error = self._decode(packet)
            first_error = first_error or error
            self._damage.add_decoded(packet, is_decoded=not error)
            if packet.dts is not None and not error:
                self._last_dts = packet.dts
            # Not the file's own position: FFmpeg reads ahead, and looks at the end first.
            if packet.pos is not None:
                self._num_read = max(self._num_read, packet.pos + packet.size)
            yield from self._counted(frames)
        if self._failure is not None:
            raise self._failure
        rest, last_error = self._decode(None)
        reason = self._end_reason or error or last_error
        last_dts = self._last_dts
        if reason and last_dts is not None:
            # What the decoder still holds may lean on a picture that is broken, or not there.
            # Packets come in order of dts and none shows before its dts: what shows up to the last
            # one's is all there. How much is held depends on the threads; this does not.
            rest = list(
                itertools.takewhile(lambda frame: frame.pts is None or frame.pts <= last_dts, rest)
            )
        yield from self._counted(rest)
        if self._damage.num_frames == 0:
            reason = reason or first_error or "the stream is empty"
            raise ReadError(f"no frame could be decoded: {reason}")
        if damage := str(self._damage):
            until = f", until {self._end_reason}" if self._end_reason else ""
            raise TruncatedError(damage + until)
        if reason:
            raise TruncatedError(f"damaged after {self._damage.num_frames} frames: {reason}")

    def _counted(self, frames: list[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        for frame in frames:
            self._damage.add_frame(frame, step=self._step)
            yield frame

    def _whole_packets(self) -> Iterator[Packet[VideoStream]]:
        """Yields the packets in order, without a last one that the end of the file cuts in half."""
        previous: Packet[VideoStream] | None = None
        try:
            for packet in self._all_packets():
                self._damage.add_packet(packet)
                # Another stream's, the end, or nothing to decode.
                if packet.stream_index != self.stream.index or packet.size == 0:
                    continue
                if previous is not None:
                    yield previous
                previous = cast("Packet[VideoStream]", packet)
        except RemoteError as error:  # the frames before it may be there, the clip is not cut short
            self._failure = unreachable(error)
            return
        except (FFmpegError, OSError) as error:
            self._end_reason = self._end_reason or reason_of(error)
        if previous is not None and previous.is_corrupt:
            self._end_reason = self._end_reason or _CUT_SHORT
        if previous is not None and not self._end_reason:
            yield previous

    def _all_packets(self) -> Iterator[Packet[Any]]:
        """Yields the packets of all streams, also those behind what cannot be understood."""
        goes_on = True
        while goes_on:
            goes_on = False
            try:
                for packet in self._container.demux():
                    goes_on = packet.size > 0 and not self._end_reason
                    yield packet
                return
            except FFmpegError:
                if not goes_on:
                    raise
                self._damage.add_hole()

    def _decode(self, packet: Packet[VideoStream] | None) -> tuple[list[av.VideoFrame], str]:
        """Returns what comes out for a packet, None for the end; and why it failed, else ""."""
        try:
            frames = self._decoder.decode(packet)
        except (FFmpegError, OSError) as error:
            return [], reason_of(error)
        for frame in frames if packet is None else ():  # PyAV takes it from the packet
            if frame.time_base is None:
                frame.time_base = self.time_base
        return [self._completed(frame) for frame in frames], ""

    def _completed(self, frame: av.VideoFrame) -> av.VideoFrame:
        """Gives a frame what the container says of it, and takes its margins off."""
        check_size(frame.width, frame.height)
        if frame.colorspace == UNSPECIFIED:
            frame.colorspace = self._matrix
        if frame.color_trc == UNSPECIFIED:
            frame.color_trc = self._transfer
        if self.container_name in ANIMATIONS:  # one after the other, as long as browsers show each
            base = cast("Fraction", frame.time_base)
            frame.duration = round(shown_delay(frame.duration * base) / base)
            frame.pts, self._shown_ticks = self._shown_ticks, self._shown_ticks + frame.duration
        return frame if self._crop is None else self._crop(frame)
