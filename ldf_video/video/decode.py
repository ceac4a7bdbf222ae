"""Decode a file frame by frame with PyAV, whatever is wrong with it.

Nothing that a header says about counts is believed. The file is handed over as a bare byte stream:
without a name FFmpeg can guess no format from it, expand no pattern in it, and open no second file.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from fractions import Fraction
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, cast

import av
import numpy as np
from av.error import FFmpegError
from PIL import Image, UnidentifiedImageError

from ldf_video.errors import ReadError, TruncatedError
from ldf_video.video.files import RemoteError
from ldf_video.video.foreign import FOREIGN_BYTES, describe_foreign
from ldf_video.video.geometry import SQUARE
from ldf_video.video.losses import Losses
from ldf_video.video.margins import Cropper, matroska_margins
from ldf_video.video.pictures import (
    DEFAULT_FPS,
    HEAD_BYTES,
    JPEG_SUFFIXES,
    PictureMedia,
    check_size,
    is_animated,
    is_animated_webp,
    over_white,
    picture_kind,
)
from ldf_video.video.resize import UNSPECIFIED
from ldf_video.video.streams import (
    ANIMATIONS,
    decoder_of,
    first_packets,
    frame_rate,
    picture_stream,
    sample_aspect_ratio,
    shown_delay,
)
from ldf_video.video.tail import WholeGif, is_cut_short

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

    from ldf_video.video.files import Location
    from ldf_video.video.losses import Losses
from ldf_video.video.margins import Margins

_STUMBLES = (OSError, ValueError, EOFError, RuntimeError)  # of Pillow's decoders


class Media(Protocol):
    """An open file with one stream of pictures."""

    container_name: str
    codec_name: str
    fps: Fraction
    sample_aspect_ratio: Fraction

    def position(self) -> float:
        """Returns how much of the file has been read, in [0, 1]; it never goes back."""
        ...

    def frames(self) -> Iterator[av.VideoFrame]:
        """Yields every whole frame, once.

        Raises:
            ReadError: if there is none.
            TruncatedError: after the frames before the damage.
        """
        ...


@contextlib.contextmanager
def open_media(path: Location, *, threads: int = 0) -> Iterator[Media]:
    """Opens a video, an animation or a still picture for decoding.

    Args:
        path: of the file.
        threads: of the decoder, 0 to choose by the size of the pictures, alike on every machine.

    Raises:
        ReadError: if it is none of them; the message says what it is instead.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise ReadError(f"cannot be read: {error.strerror or error}") from error
    with file:
        try:
            head = file.read(FOREIGN_BYTES + HEAD_BYTES)
            cut_short, whole_gif = is_cut_short(file), None
            if head.startswith(b"GIF8"):
                try:
                    whole_gif = WholeGif(file)
                except ValueError:
                    cut_short = True
            margins = matroska_margins(file)
            num_bytes = file.seek(0, os.SEEK_END)
            file.seek(0)
        except OSError as error:
            raise ReadError(f"cannot be read: {error.strerror or error}") from error
        if not head:
            raise ReadError("empty file")
        if is_animated_webp(head):
            yield _AnimationMedia(file, "WEBP", fps=_webp_fps)
            return
        if picture_kind(head) == "avif" and is_animated(path):
            yield _AnimationMedia(file, "AVIF", fps=_avif_fps)
            return
        if _is_picture(path, head):
            yield PictureMedia(path)
            return
        if what := describe_foreign(head):
            raise ReadError(what)
        with open_container(whole_gif or file) as container:
            if container.format.name == "jpeg_pipe":  # a stream of JPEGs is "mjpeg"
                yield PictureMedia(path)
                return
            media = _AvMedia(
                container,
                num_bytes=num_bytes,
                cut_short=cut_short,
                threads=threads,
                margins=margins,
            )
            yield media


class _Readable(Protocol):
    """What FFmpeg reads."""

    def read(self, num_bytes: int, /) -> bytes: ...
    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def tell(self) -> int: ...


class _Bytes:
    """The part of a file that FFmpeg gets to see: no name, no descriptor.

    FFmpeg tries again after an error. PyAV raises the first and prints the others, so there is one.
    """

    def __init__(self, file: _Readable) -> None:
        self._file, self.seek, self.tell = file, file.seek, file.tell
        self._has_failed = False

    def read(self, num_bytes: int) -> bytes:
        if self._has_failed:
            return b""
        try:
            return self._file.read(num_bytes)
        except OSError:
            self._has_failed = True
            raise


# Titles may be in any encoding, or none. From 19.0 on PyAV takes them all, and no such argument.
_ANY_TITLE: dict[str, Any] = (
    {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
)


def open_container(file: _Readable) -> InputContainer:
    """Opens a file for PyAV as bytes without a name.

    Raises:
        ReadError: if it is no container that FFmpeg knows.
    """
    try:
        # No protocol is called "none": playlists and the like cannot open what they name.
        options = {"protocol_whitelist": "none", "default_fps": "10"}  # of APNG without delays
        return av.open(_Bytes(file), mode="r", options=options, **_ANY_TITLE)
    except RemoteError as error:
        raise _unreachable(error) from error
    except (FFmpegError, OSError, ValueError) as error:
        raise ReadError(f"not a video: {_reason(error)}") from error


class _AvMedia:
    def __init__(
        self,
        container: InputContainer,
        *,
        num_bytes: int,
        cut_short: bool,
        threads: int,
        margins: Sequence[Margins],
    ) -> None:
        self._container = container
        self._num_bytes, self._num_read = max(num_bytes, 1), 0
        self._stream = picture_stream(container)
        self._decoder = decoder_of(self._stream, threads)
        self._crop = _cropper(container, self._stream, margins)
        # What the container says of colours: HEVC's decoder forgets it where the stream says none.
        context = self._stream.codec_context
        self._matrix, self._transfer = context.colorspace, context.color_trc
        self._damage = "the file ends early" if cut_short else ""
        self._last_dts: int | None = None
        self._shown = 0
        self._failure: ReadError | None = None
        self._losses = Losses(self._stream, in_matroska="matroska" in container.format.name)
        self._packets: Iterator[Packet[VideoStream]] = self._whole_packets()
        head, is_whole = first_packets(self._packets)
        self._packets = itertools.chain(head, self._packets)
        self.container_name = container.format.name
        self.codec_name = self._stream.codec_context.name
        self.fps = frame_rate(container, self._stream, head, is_whole=is_whole)
        self.sample_aspect_ratio = sample_aspect_ratio(self._stream)

    def position(self) -> float:
        """Returns where in the file the last packet ends, as a share."""
        return min(self._num_read / self._num_bytes, 1.0)

    def frames(self) -> Iterator[av.VideoFrame]:
        num_frames, first_error, error = 0, "", ""
        step = float(1 / (self.fps * cast("Fraction", self._stream.time_base)))
        for packet in self._packets:
            frames, error = self._decode(packet)
            self._losses.fed(packet, is_decoded=not error)
            self._note(packet, is_decoded=not error)
            first_error = first_error or error
            for frame in frames:
                self._losses.shown(frame, step=step)
                num_frames += 1
                yield frame
        if self._failure is not None:
            raise self._failure
        rest, last_error = self._decode(None)
        # What the decoder still holds may lean on a picture that is broken, or not there.
        damage = self._damage or error or last_error
        for frame in self._before_losses(rest) if damage else rest:
            self._losses.shown(frame, step=step)
            num_frames += 1
            yield frame
        if num_frames == 0:
            reason = damage or first_error or "the stream is empty"
            raise ReadError(f"no frame could be decoded: {reason}")
        losses = str(self._losses)
        if damage and not losses:
            raise TruncatedError(f"damaged after {num_frames} frames: {damage}")
        if losses:
            raise TruncatedError(losses + (f", until {self._damage}" if self._damage else ""))

    def _whole_packets(self) -> Iterator[Packet[VideoStream]]:
        """Yields the packets in order, without a last one that the end of the file cuts in half."""
        previous: Packet[VideoStream] | None = None
        try:
            for packet in self._all_packets():
                self._losses.demuxed(packet)
                # Another stream's, the end, or nothing to decode.
                if packet.stream_index != self._stream.index or packet.size == 0:
                    continue
                if previous is not None:
                    yield previous
                previous = cast("Packet[VideoStream]", packet)
        except RemoteError as error:  # the frames before it may be there, the clip is not cut short
            self._failure = _unreachable(error)
            return
        except (FFmpegError, OSError) as error:
            self._damage = self._damage or _reason(error)
        if previous is not None and previous.is_corrupt:
            self._damage = self._damage or "the file ends early"
        if previous is not None and not self._damage:
            yield previous

    def _all_packets(self) -> Iterator[Packet[Any]]:
        """Yields the packets of all streams, also those behind what cannot be understood."""
        goes_on = True
        while goes_on:
            goes_on = False
            try:
                for packet in self._container.demux():
                    goes_on = packet.size > 0 and not self._damage
                    yield packet
                return
            except FFmpegError:
                if not goes_on:
                    raise
                self._losses.broken()

    def _note(self, packet: Packet[VideoStream], *, is_decoded: bool) -> None:
        if packet.dts is not None and is_decoded:
            self._last_dts = packet.dts
        # Not the file's own position: FFmpeg reads ahead, and looks at the end first.
        if packet.pos is not None:
            self._num_read = max(self._num_read, packet.pos + packet.size)

    def _decode(self, packet: Packet[VideoStream] | None) -> tuple[list[av.VideoFrame], str]:
        try:
            frames = self._decoder.decode(packet)
        except (FFmpegError, OSError) as error:
            return [], _reason(error)
        for frame in frames:
            check_size(frame.width, frame.height)
            # PyAV takes it from the packet, and the last call has none.
            if frame.time_base is None:
                frame.time_base = cast("Fraction", self._stream.time_base)
            if frame.colorspace == UNSPECIFIED:
                frame.colorspace = self._matrix
            if frame.color_trc == UNSPECIFIED:
                frame.color_trc = self._transfer
            if self.container_name in ANIMATIONS:
                self._set_shown(frame, frame.time_base)
        return frames if self._crop is None else list(map(self._crop, frames)), ""

    def _set_shown(self, frame: av.VideoFrame, time_base: Fraction) -> None:
        """Lets a frame of an animation follow the one before, as long as browsers show it."""
        frame.duration = round(shown_delay(frame.duration * time_base) / time_base)
        frame.pts, self._shown = self._shown, self._shown + frame.duration

    def _before_losses(self, frames: list[av.VideoFrame]) -> list[av.VideoFrame]:
        """Drops what a cut file may hold of the frames behind a lost one.

        Packets come in order of dts and none shows before its dts: what shows up to the last one's
        is all there. How much the decoder still holds depends on its threads; this does not.
        """
        last_dts = self._last_dts
        if last_dts is None:
            return frames
        return list(
            itertools.takewhile(lambda frame: frame.pts is None or frame.pts <= last_dts, frames)
        )


class _AnimationMedia:
    """An animation that Pillow puts together, of which FFmpeg reads but a poster, or nothing."""

    sample_aspect_ratio = SQUARE

    def __init__(self, file: BinaryIO, kind: str, *, fps: Callable[[BinaryIO], Fraction]) -> None:
        self.container_name = self.codec_name = kind.lower()
        try:
            self.fps = fps(file)
            self._image = Image.open(file, formats=[kind])
        except RemoteError as error:
            raise _unreachable(error) from error
        except UnidentifiedImageError as error:
            raise ReadError("not a video: its header is broken") from error
        except (*_STUMBLES, Image.DecompressionBombError) as error:
            raise ReadError(f"not a video: {error}") from error
        check_size(*self._image.size)
        self._num_frames, self._num_read = getattr(self._image, "n_frames", 1), 0

    def position(self) -> float:
        """Returns the share of the frames that were read."""
        return self._num_read / self._num_frames

    def frames(self) -> Iterator[av.VideoFrame]:
        start_ms = 0
        for index in range(self._num_frames):
            try:
                self._image.seek(index)
                pixels = over_white(np.asarray(self._image.convert("RGBA")))
            except RemoteError as error:
                raise _unreachable(error) from error
            except _STUMBLES as error:
                kind = TruncatedError if index else ReadError
                raise kind(f"damaged after {index} frames: {error}") from error
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = start_ms, Fraction(1, 1000)
            delay = Fraction(round(self._image.info.get("duration", 0)), 1000)
            frame.duration = int(1000 * shown_delay(delay))
            start_ms += frame.duration
            self._num_read = index + 1
            yield frame


def _cropper(
    container: InputContainer, stream: VideoStream, margins: Sequence[Margins]
) -> Cropper | None:
    streams = container.streams.video
    if len(margins) != len(streams):
        return None
    own = margins[streams.index(stream)]
    return Cropper(own) if any(own) else None


def _is_picture(path: Location, head: bytes) -> bool:
    """Whether a file is a picture or a TIFF for sure; a JPEG may be the first of a stream.

    Phones put a film, a map of brightness or a second view behind the JPEG of a photograph.
    """
    kind = picture_kind(head, path.suffix)
    if kind == "jpeg":
        return path.suffix.lower() in JPEG_SUFFIXES
    return kind == "tiff" or (kind is not None and not is_animated(path))


def _webp_fps(file: BinaryIO) -> Fraction:
    """The mean rate of an animation, from the headers of its frames; leaves `file` at its start.

    WebP container specification, "Animation": a frame is a chunk ANMF, whose bytes 12 to 14 are how
    long it shows, in milliseconds.
    """
    num_frames, seconds = 0, Fraction(0)
    position = 12  # after "RIFF", a size and "WEBP"
    file.seek(position)
    while len(header := file.read(23)) == 23:  # a chunk's name and size, then its first 15 bytes
        if header[:4] == b"ANMF":
            num_frames += 1
            seconds += shown_delay(Fraction(int.from_bytes(header[20:23], "little"), 1000))
        size = int.from_bytes(header[4:8], "little")
        if size == 0:  # nothing but damage has no content
            break
        position += 8 + size + size % 2
        file.seek(position)
    file.seek(0)
    return num_frames / seconds if num_frames else DEFAULT_FPS


def _avif_fps(file: BinaryIO) -> Fraction:
    """The mean rate of an animation, whose poster is a film of one frame; rewinds `file`."""
    with open_container(file) as container:
        film = max(container.streams.video, key=lambda stream: stream.frames, default=None)
        seconds = film.duration * film.time_base if film and film.duration and film.time_base else 0
        fps = film.frames / seconds if film and seconds else DEFAULT_FPS
    file.seek(0)
    return Fraction(fps)


def _unreachable(error: RemoteError) -> ReadError:
    return ReadError(f"cannot be read: {_reason(error)}")


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
