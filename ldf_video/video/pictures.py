"""Still pictures, read by imageio: upright, 8 bits, RGB."""

from __future__ import annotations

import struct
import warnings
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import imageio.v3 as iio
import numpy as np
from imageio.core.request import InitializationError
from PIL import Image

from ldf_video.errors import ReadError, TruncatedError
from ldf_video.video.files import is_remote_failure
from ldf_video.video.geometry import SQUARE
from ldf_video.video.orientation import exif_orientation, upright

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import BinaryIO

    from numpy.typing import NDArray

    from ldf_video.video.files import Location

DEFAULT_FPS = Fraction(25)
MAX_PIXELS = 2**26  # 8192 x 8192: a larger size is a broken header, and would not fit small memory
HEAD_BYTES = 32
_KINDS = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpeg",
    b"BM": "bmp",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
    b"II+\0": "tiff",  # its large form, with 64-bit offsets
    b"MM\0+": "tiff",
}


class PicturesMedia:
    """Still pictures of one folder as the frames of one clip; they carry no times."""

    container_name = "pictures"
    fps = DEFAULT_FPS
    sample_aspect_ratio = SQUARE

    def __init__(self, folder: Location, names: Sequence[str], *, first: int = 0) -> None:
        """Reads nothing yet.

        Args:
            folder: where they are.
            names: of the files, at least one, in order.
            first: number of the first picture to give.
        """
        self._folder, self._names, self._num_read = folder, names, first
        self.codec_name = Path(names[0]).suffix.lower().lstrip(".")

    def position(self) -> float:
        """Returns the share of the pictures that were read."""
        return min(self._num_read / len(self._names), 1.0)

    def frames(self) -> Iterator[av.VideoFrame]:
        """Yields the pictures, one in memory at a time.

        Raises:
            ReadError: if the first cannot be read.
            TruncatedError: at a later one.
        """
        for name in self._names[self._num_read :]:
            try:
                image = read_picture(self._folder / name)
            except ReadError as error:
                reason = f"{name}: {error}" if len(self._names) > 1 else str(error)
                # Where it is the network that failed, nothing is known to be wrong with the clip.
                if self._num_read == 0 or is_remote_failure(error):
                    raise ReadError(reason) from error
                raise TruncatedError(f"damaged after {self._num_read} frames: {reason}") from error
            self._num_read += 1
            yield av.VideoFrame.from_ndarray(image, format="rgb24")


def picture_kind(head: bytes) -> str | None:
    """Returns png, jpeg, bmp, tiff or webp by the first 32 bytes of a file, else None."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    return next((kind for magic, kind in _KINDS.items() if head.startswith(magic)), None)


def is_animated(path: Location) -> bool:
    """Returns whether a file is an APNG or an animated WebP; False if it cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
            if picture_kind(head) == "webp":
                return is_animated_webp(head)
            return picture_kind(head) == "png" and _is_apng(file)
    except OSError:
        return False


def is_animated_webp(head: bytes) -> bool:
    """Returns whether the first 32 bytes of a file are those of an animated WebP.

    WebP container specification, "Extended File Format": bit 1 of the byte after VP8X's size.
    """
    return (
        head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and len(head) > 20 and bool(head[20] & 2)
    )


def read_picture(path: Location) -> NDArray[np.uint8]:
    """Reads a still picture: PNG, JPEG, BMP, TIFF (its first page) or WebP, by its content.

    EXIF's orientation is applied. Grey is repeated, 16 bits are brought to 8, and what is
    transparent is laid over white.

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        ReadError: if it is no such picture, damaged, or larger than 2**26 pixels.
    """
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            # Pillow warns of large pictures, and of what is odd in their descriptions.
            warnings.simplefilter("ignore")
            head = file.read(HEAD_BYTES)
            if not head:
                raise ReadError("empty file")
            if picture_kind(head) is None:
                raise ReadError("not a PNG, JPEG, BMP, TIFF or WebP picture")
            file.seek(0)
            return _decoded(file)
    except ReadError:
        raise
    # What Pillow's decoders let through when they stumble.
    except (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError) as error:
        raise ReadError(_reason(error)) from error
    except (struct.error, OverflowError, MemoryError) as error:
        raise ReadError(_reason(error)) from error


def check_size(width: int, height: int) -> None:
    """Checks that a frame is one that fits memory.

    Raises:
        ReadError: for more than 2**26 pixels.
    """
    if width * height > MAX_PIXELS:
        raise ReadError(f"a frame of {width}x{height} pixels; at most {MAX_PIXELS:,} are read")


def over_white(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lays RGBA (H, W, 4), colours not multiplied by alpha, over white: RGB (H, W, 3)."""
    colours, alpha = image[..., :3], image[..., 3:]
    if alpha.min() == 255:
        return np.ascontiguousarray(colours)
    weighted = colours.astype(np.uint16) * alpha + np.uint16(255) * (255 - alpha).astype(np.uint16)
    return ((weighted.astype(np.uint32) + 127) // 255).astype(np.uint8)


def _reason(error: Exception) -> str:
    # imageio tells of an error while opening that it was unknown; Pillow's own is its cause.
    cause = error.__cause__ or error
    if isinstance(cause, Image.DecompressionBombError):
        return f"a picture too large; at most {MAX_PIXELS:,} pixels are read"
    if isinstance(cause, InitializationError):  # names an object in memory
        return "cannot be read: its header is broken"
    if isinstance(cause, struct.error):  # Pillow unpacked a number of which bytes are missing
        return "cannot be read: the file ends early"
    reason = str(getattr(cause, "strerror", None) or cause or type(cause).__name__)
    return f"cannot be read: {reason.splitlines()[0]}"


def _decoded(file: BinaryIO) -> NDArray[np.uint8]:
    opened: Any = iio.imopen(file, "r", plugin="pillow")  # typed without the plugin's own options
    with opened as reader:
        meta = reader.metadata(index=0, exclude_applied=False)
        height, width = reader.properties(index=0).shape[:2]
        check_size(width, height)
        mode = meta["mode"]
        if mode.startswith("I;16"):
            image = _grey_to_rgb(reader.read(index=0))
        elif mode in ("I", "F"):
            raise ReadError("pixels of 32 bits; 8 or 16 bits a channel are read")
        elif mode in ("CMYK", "YCbCr", "LAB", "HSV"):
            image = reader.read(index=0, mode="RGB")
        else:
            image = over_white(reader.read(index=0, mode="RGBA"))
    return np.ascontiguousarray(upright(image, exif_orientation(meta.get("Orientation"))))


def _grey_to_rgb(image: NDArray[np.uint16]) -> NDArray[np.uint8]:
    grey = ((image.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def _is_apng(file: BinaryIO) -> bool:
    """Returns whether the chunk acTL comes before the pixels (PNG, third edition, 11.3.6.1)."""
    position = 8
    file.seek(position)
    while len(header := file.read(8)) == 8 and header[4:] != b"IDAT":
        if header[4:] == b"acTL":
            return True
        position += 12 + int.from_bytes(header[:4], "big")
        file.seek(position)
    return False
