"""Animations of pictures: a GIF up to its end as browsers show it; those that Pillow reads."""

from __future__ import annotations

import os
from fractions import Fraction
from typing import TYPE_CHECKING, BinaryIO, Literal

import av
import numpy as np
from PIL import Image, UnidentifiedImageError

from ldf_video.errors import ReadError, TruncatedError, reason_of
from ldf_video.files.remote import RemoteError
from ldf_video.video.colour import over_white
from ldf_video.video.containers import open_container, shown_delay, unreachable
from ldf_video.video.media import DEFAULT_FPS, Media
from ldf_video.video.pictures import check_size

if TYPE_CHECKING:
    from collections.abc import Iterator

_DECODER_ERRORS = (OSError, ValueError, EOFError, RuntimeError)  # of Pillow
_GIF_TRAILER = b"\x3b"


class AnimationMedia(Media):
    """An animation that Pillow puts together, of which FFmpeg reads but a poster, or nothing."""

    def __init__(self, file: BinaryIO, kind: Literal["WEBP", "AVIF"]) -> None:
        """Reads the headers; a ReadError if they are broken, or the frames too large."""
        self.container_name = self.codec_name = kind.lower()
        try:
            self.fps = _webp_fps(file) if kind == "WEBP" else _avif_fps(file)
            file.seek(0)
            self._image = Image.open(file, formats=[kind])
        except RemoteError as error:
            raise unreachable(error) from error
        except UnidentifiedImageError as error:
            raise ReadError("not a video: its header is broken") from error
        except (*_DECODER_ERRORS, Image.DecompressionBombError) as error:
            raise ReadError(f"not a video: {reason_of(error)}") from error
        check_size(*self._image.size)
        self._num_all = getattr(self._image, "n_frames", 1)

    def frames(self, first: int = 0) -> Iterator[av.VideoFrame]:
        """Yields the frames, laid over white, with the times at which browsers show them."""
        start_ms = 0
        for index in range(self._num_all):
            try:
                self._image.seek(index)
                pixels = over_white(np.asarray(self._image.convert("RGBA")))
            except RemoteError as error:
                raise unreachable(error) from error
            except _DECODER_ERRORS as error:
                kind = TruncatedError if index else ReadError
                raise kind(f"damaged after {index} frames: {error}") from error
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = start_ms, Fraction(1, 1000)
            delay = Fraction(round(self._image.info.get("duration", 0)), 1000)
            frame.duration = int(1000 * shown_delay(delay))
            start_ms += frame.duration
            self._num_read = index + 1
            yield frame


def _webp_fps(file: BinaryIO) -> Fraction:
    """The mean rate, from the headers of the frames.

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
    return num_frames / seconds if num_frames else DEFAULT_FPS


def _avif_fps(file: BinaryIO) -> Fraction:
    """The mean rate of the animation, beside which a film of one frame is the poster."""
    with open_container(file) as container:
        film = max(container.streams.video, key=lambda stream: stream.frames, default=None)
        seconds = film.duration * film.time_base if film and film.duration and film.time_base else 0
        return Fraction(film.frames / seconds if film and seconds else DEFAULT_FPS)


class WholeGif:
    """A GIF up to its last picture, with a trailer behind that, to be read as a file.

    FFmpeg loses the last picture where the file's last byte is missing or is not the trailer, and
    takes a comment behind the last picture for one more frame.

    Where an opaque picture is to be cleared before the next, FFmpeg leaves the background's colour,
    and browsers nothing. Such a picture is given a transparent colour that it does not use, with
    which FFmpeg does as browsers do.
    """

    def __init__(self, file: BinaryIO) -> None:
        """Looks at all blocks; a ValueError where the file ends in one, or has what is none."""
        self._file, self._position = file, 0
        self._changes: dict[int, int] = {}  # bytes that FFmpeg is given instead, by position
        self._end = self._find_end()

    def read(self, num_bytes: int) -> bytes:
        begin = self._position
        self._file.seek(min(begin, self._end))
        data = bytearray(self._file.read(min(num_bytes, max(self._end - begin, 0))))
        for position, byte in self._changes.items():
            if begin <= position < begin + len(data):
                data[position - begin] = byte
        if begin + len(data) == self._end and len(data) < num_bytes:
            data += _GIF_TRAILER
        self._position += len(data)
        return bytes(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        begins = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._end + 1}
        self._position = begins[whence] + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def _find_end(self) -> int:
        """Where the last picture ends (GIF89a, 18 to 27); fills `_changes`."""
        file = self._file
        file.seek(10)
        global_colours = _skip_colours(file, file.read(3))
        control = 0  # where the last control block has its flags
        announced = False  # a picture, by the block that says how long it shows
        end = file.tell()
        while (kind := file.read(1)) not in (_GIF_TRAILER, b""):
            if kind == b"\x2c":
                num_colours = _skip_colours(file, file.read(9)[-1:]) or global_colours
                if control and num_colours < 256:
                    self._clear_as_browsers_do(control)
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

    def _clear_as_browsers_do(self, control: int) -> None:
        """Makes colour 255 transparent in an opaque picture which is to be cleared."""
        here = self._file.tell()
        self._file.seek(control)
        flags = self._file.read(1)[0]
        self._file.seek(here)
        # Bits 2 to 4: 2 to clear to the background; bit 0: a colour is transparent.
        if flags & 0x1D == 2 << 2:
            self._changes |= {control: flags | 1, control + 3: 255}


def _skip_colours(file: BinaryIO, packed: bytes) -> int:
    """Skips a table of colours; their number: bit 7 says if there is one, bits 0 to 2 how many."""
    if not packed or not packed[0] & 0x80:
        return 0
    num_colours = 2 << (packed[0] & 7)
    file.seek(3 * num_colours, os.SEEK_CUR)
    return num_colours
