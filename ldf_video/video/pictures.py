"""Still pictures and stacks of pages, read by Pillow: upright, 8 bits, RGB."""

from __future__ import annotations

import contextlib
import math
import struct
import warnings
from itertools import count, islice
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pi_heif
from PIL import Image, PngImagePlugin
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from ldf_video.errors import ReadError, TruncatedError, counted
from ldf_video.files.remote import GONE_OR_CLOSED, RemoteError, is_remote_failure
from ldf_video.video.colour import over_white
from ldf_video.video.deep import Levels, from_16_bits, from_grey, full_range, low_bytes, range_note
from ldf_video.video.media import Media
from ldf_video.video.presentation import UPRIGHT, Orientation, exif_orientation, upright

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from ldf_video.files.locations import Location

MAX_PIXELS = 2**26  # 8192 x 8192, whole in memory for a while: 4 bytes each
MAX_JPEG_PIXELS = 2**28  # 16384 x 16384, of which a half, quarter or eighth of the rows is decoded
FULL_PIXELS = 2**24  # 4096 x 4096: a larger picture is made smaller, by a whole factor, when read
HEAD_BYTES = 32
JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo")
_BAND_PIXELS = 2**20
_MAX_TEXT_BYTES = 2**28
_KINDS = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpeg",
    b"BM": "bmp",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
    b"II+\0": "tiff",  # its large form, with 64-bit offsets
    b"MM\0+": "tiff",
}
# ISO/IEC 23008-12, 10, and AV1 Image File Format, 6: what a file is, by what it says it is like.
_AVIF, _HEIF = {b"avif", b"avis"}, {b"heic", b"heix", b"heim", b"heis", b"mif1"}
_SEQUENCES = {b"avis", b"msf1", b"hevc", b"hevx"}
# What Pillow's decoders raise for damaged files.
_DECODER_ERRORS: tuple[type[Exception], ...] = (
    *(OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, ArithmeticError),
    *(struct.error, MemoryError, AttributeError, RuntimeError, Image.DecompressionBombError),
)


class PictureMedia(Media):
    """A still picture as a clip of one frame, or a TIFF as a clip of its pages; without times.

    A picture or page that cannot be read is left out; what comes behind it is given.
    """

    container_name = "pictures"

    def __init__(self, path: Location) -> None:
        self._path = path
        self._used = 0.0
        self.codec_name = path.suffix.lower().lstrip(".")

    def note(self) -> str:
        return range_note(self._used)

    def frames(self, first: int = 0) -> Iterator[av.VideoFrame]:
        num_frames, num_before, num_lost, first_lost = 0, 0, 0, None
        for picture in self._attempts(first):
            self._num_read += 1
            if not isinstance(picture, ReadError):
                num_frames += 1
                yield picture
                continue
            # Where it is the network that failed, nothing is known to be wrong with the clip.
            if is_remote_failure(picture):
                raise picture
            num_lost += 1
            if first_lost is None:
                first_lost, num_before = picture, num_frames
        if first_lost is None:
            return
        if num_frames == 0:
            raise first_lost
        more = f", and {num_lost - 1:,} more like it" if num_lost > 1 else ""
        raise TruncatedError(
            f"damaged after {counted(num_before, 'frame')}: {first_lost}{more}; "
            f"{num_frames - num_before:,} more read"
        ) from first_lost

    def _attempts(self, first: int) -> Iterator[av.VideoFrame | ReadError]:
        try:
            yield from self._pictures(first)
        except ReadError as error:
            yield failure(str(error), error)

    def _pictures(self, first: int) -> Iterator[av.VideoFrame | ReadError]:
        """Yields every picture from a number on, or why it cannot be read."""
        with _opened(self._path) as image:
            with _quietly():
                self._num_all = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
            for _ in islice(_pages(image), first, None):
                try:
                    picture: av.VideoFrame | ReadError = self._frame(_levels(image))
                except ReadError as error:
                    picture = error
                except _DECODER_ERRORS as error:
                    picture = failure(f"cannot be read: {_reason(error)}", error)
                yield picture

    def _frame(self, levels: Levels) -> av.VideoFrame:
        self._used = max(self._used, levels.used)
        return av.VideoFrame.from_ndarray(levels.pixels, format="rgb24")


def failure(reason: str, cause: Exception) -> ReadError:
    """Returns the error of one picture, which may be kept: it keeps no picture in memory."""
    error: BaseException | None = cause
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
    failed = ReadError(reason)
    failed.__cause__ = cause
    return failed


def picture_kind(head: bytes, suffix: str = "") -> str | None:
    """Returns png, jpeg, bmp, tiff, webp, avif or heif by the first 32 bytes, tga by its suffix."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if _brands(head) & _AVIF:
        return "avif"
    if _brands(head) & _HEIF:
        return "heif"
    kinds = (kind for magic, kind in _KINDS.items() if head.startswith(magic))
    return next(kinds, "tga" if suffix.lower() == ".tga" else None)


def _brands(head: bytes) -> set[bytes]:
    """What a file says that it is like (ISO/IEC 14496-12, 4.3); empty if it is another format."""
    if head[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return {head[8:12], *(head[place : place + 4] for place in range(16, end, 4))}


def is_picture(path: Location) -> bool:
    """Returns whether `read_picture` reads such a file; True if it cannot be opened."""
    try:
        with path.open("rb") as file:
            return picture_kind(file.read(HEAD_BYTES), path.suffix) is not None
    except OSError:
        return True


def is_animated(path: Location) -> bool:
    """Returns whether a file has more than one frame; False if it cannot be read.

    It is looked for in APNG, WebP and GIF, in sequences of AVIF and HEIF, and in a TIFF's pages.

    Raises:
        RemoteError: if the file system behind a URL fails, which tells nothing of the file.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
            match "gif" if head[:4] == b"GIF8" else picture_kind(head):
                case "png":
                    return _is_apng(file)
                case "gif":
                    return bool(getattr(_open_as("GIF", file), "is_animated", False))
                case "tiff":
                    return _has_pages(path, file)
            return is_animated_webp(head) or bool(_brands(head) & _SEQUENCES)
    except _DECODER_ERRORS as error:
        if isinstance(error, RemoteError) and error.errno not in GONE_OR_CLOSED:
            raise
        return False


def _has_pages(path: Location, file: BinaryIO) -> bool:
    """Whether a TIFF has several, also one that Pillow cannot open."""
    with contextlib.suppress(*_DECODER_ERRORS):
        return len(list(islice(_pages(_open_as("TIFF", file)), 2))) > 1
    tags = tiff_tags(path)
    return tags is not None and tags["pages"] > 1


def is_animated_webp(head: bytes) -> bool:
    """Returns whether the first 32 bytes of a file are those of an animated WebP."""
    # WebP container specification, "Extended File Format": the byte after VP8X's size.
    is_extended = head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and len(head) > 20
    return is_extended and bool(head[20] & 2)


def _is_apng(file: BinaryIO) -> bool:
    """Whether the chunk acTL comes before the pixels (PNG, third edition, 11.3.6.1)."""
    position = 8
    file.seek(position)
    while len(header := file.read(8)) == 8 and header[4:] != b"IDAT":
        if header[4:] == b"acTL":
            return True
        position += 12 + int.from_bytes(header[:4], "big")
        file.seek(position)
    return False


def _pages(image: Any) -> Iterator[int]:
    """Goes to each page of a TIFF that is one of its own; another picture has one page.

    TIFF 6.0, tag 254, NewSubfileType: bit 0 for a smaller version of another page, 2 for a mask.
    """
    yield 0
    for page in count(1) if image.format == "TIFF" else ():
        try:
            with _quietly():
                image.seek(page)
        except EOFError:
            return
        if not image.tag_v2.get(254, 0) & 5:
            yield page


def read_picture(path: Location) -> Levels:
    """Reads a still picture: PNG, JPEG, BMP, TIFF (its first page), WebP, AVIF, HEIF or TGA.

    EXIF's orientation is applied. Grey is repeated, 16 bits and floats are rounded to 8 bits, and
    what is transparent is laid over white. A picture of more than 2**24 pixels comes smaller by a
    whole factor.

    Returns:
        RGB (H, W, 3).

    Raises:
        ReadError: if it is no such picture, damaged, or larger than 2**26 pixels (JPEG: 2**28).
    """
    with _opened(path) as image:
        return _levels(image)


def tiff_tags(path: Location) -> dict[Any, Any] | None:
    """Returns the tags of a TIFF's first page by number, and "pages", 2 for several; else None.

    The page is not opened: Pillow may not know what it holds.

    Raises:
        RemoteError: if the file system behind a URL fails.
    """
    try:
        with path.open("rb") as file, _quietly():
            head = file.read(HEAD_BYTES)
            if picture_kind(head) != "tiff":
                return None
            num_bytes = 16 if b"+" in head[2:4] else 8  # of a header with 64-bit offsets
            tags: Any = ImageFileDirectory_v2(head[:num_bytes])
            file.seek(tags.next)
            tags.load(file)
            return {**tags, "pages": 2 if tags.next else 1}
    except _DECODER_ERRORS as error:
        if isinstance(error, RemoteError):
            raise
        return None


def check_size(width: int, height: int) -> None:
    """Raises a ReadError for a frame of more than 2**26 pixels, which would not fit memory."""
    if width * height > MAX_PIXELS:
        raise ReadError(f"a frame of {width}x{height} pixels; at most {MAX_PIXELS:,} are read")


@contextlib.contextmanager
def _opened(path: Location) -> Iterator[Image.Image]:
    """Opens a picture, by its content alone; what is wrong with it is a ReadError."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
            if not head:
                raise ReadError("empty file")
            kind = picture_kind(head, path.suffix)
            if kind is None:
                raise ReadError("not a PNG, JPEG, BMP, TIFF, WebP, AVIF or HEIF picture")
            with _any_text():
                yield _open_as(kind.upper(), file)
    except _DECODER_ERRORS as error:
        raise ReadError(f"cannot be read: {_reason(error)}") from error


def _open_as(kind: str, file: BinaryIO) -> Image.Image:
    """Opens a picture of a kind; unlike Image.open, of any size."""
    Image.init()
    if kind == "HEIF":
        pi_heif.register_heif_opener()
    file.seek(0)
    make, _ = Image.OPEN[kind]
    with _quietly():
        return make(file, "")


@contextlib.contextmanager
def _any_text() -> Iterator[None]:
    """Lets a PNG carry more than a megabyte of text, as of programs that made it, for a while."""
    limits = PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY
    PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = _MAX_TEXT_BYTES
    try:
        yield
    finally:
        PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY = limits


def _quietly() -> warnings.catch_warnings[None]:
    """Keeps Pillow from warning of what is odd in a picture's descriptions."""
    return warnings.catch_warnings(action="ignore")


def _reason(error: Exception) -> str:
    if isinstance(error, (SyntaxError, LookupError, TypeError)):  # names an object in memory
        return "its header is broken"
    reason = str(getattr(error, "strerror", None) or error or type(error).__name__)
    # Pillow has several words for it, and unpacks numbers of which bytes are missing.
    if "truncated" in reason.lower() or isinstance(error, struct.error):
        return "the file ends early"
    return reason.splitlines()[0]


def _levels(image: Image.Image) -> Levels:
    """The current page, upright; Pillow holds all of it, the rest is done in bands of rows."""
    with _quietly():
        _prepare(image)
        full, low = full_range(image), low_bytes(image)
        image.load()
        orientation = _orientation(image)  # a TIFF stands upright once it is decoded, and says so
        width, height = image.size
        # Both sides are divided so that at most 2**24 pixels are left.
        factor = math.ceil(math.sqrt(width * height / FULL_PIXELS))
        rows = max(_BAND_PIXELS // width // factor, 1) * factor
        bands, used = [], 0.0
        for top in range(0, height, rows):
            box = (0, top, width, min(top + rows, height))
            pixels, band_used = _rgb(image.crop(box), None if low is None else low.crop(box), full)
            used = max(used, band_used)
            if factor > 1:
                pixels = np.asarray(Image.fromarray(pixels).reduce(factor))
            bands.append(pixels)
        return Levels(np.ascontiguousarray(upright(np.concatenate(bands), orientation)), used)


def _prepare(image: Image.Image) -> None:
    """Checks the size; has the JPEG decoder give 1/2, 1/4 or 1/8 of a large picture's sides."""
    width, height = image.size
    # Of a progressive JPEG all coefficients are in memory, whatever the size that is asked for.
    if not isinstance(image, JpegImageFile) or image.info.get("progressive"):
        check_size(width, height)
    elif width * height > MAX_JPEG_PIXELS:
        raise ReadError(
            f"a picture of {width}x{height} pixels; at most {MAX_JPEG_PIXELS:,} are read of a JPEG"
        )
    for factor in (2, 4, 8) if isinstance(image, JpegImageFile) else ():
        if math.prod(image.size) > FULL_PIXELS:
            image.draft(image.mode, (width // factor, height // factor))


def _orientation(image: Image.Image) -> Orientation:
    """How EXIF says that a picture stands; upright where that cannot be understood."""
    try:
        return exif_orientation(image.getexif().get(274))
    except _DECODER_ERRORS:
        return UPRIGHT


def _rgb(image: Image.Image, low: Image.Image | None, full: int | None) -> Levels:
    """Decoded pixels as (H, W, 3); see `low_bytes` and `full_range` for the arguments."""
    if full is not None:
        grey = from_grey(np.asarray(image), full)
        return grey._replace(pixels=np.repeat(grey.pixels[..., None], 3, axis=2))
    if low is not None:
        levels = from_16_bits(np.asarray(image), np.asarray(low))
        if levels.pixels.shape[2] == 4:
            levels = levels._replace(pixels=over_white(levels.pixels))
        return levels
    if image.mode in ("CMYK", "YCbCr", "LAB", "HSV") or (
        image.mode in ("RGB", "L") and "transparency" not in image.info
    ):
        return Levels(np.asarray(image.convert("RGB")))
    return Levels(over_white(np.asarray(image.convert("RGBA"))))
