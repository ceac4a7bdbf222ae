"""A container that FFmpeg opens: which stream is the film, who decodes it, at what rate."""

from __future__ import annotations

import contextlib
import itertools
import re
import statistics
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol, cast

import av.logging
from av.codec.codec import UnknownCodecError
from av.codec.context import CodecContext
from av.error import FFmpegError
from av.stream import Disposition

from ldf_video.errors import ReadError, reason_of
from ldf_video.files.remote import RemoteError
from ldf_video.video.geometry import SQUARE
from ldf_video.video.headers import lacks_index
from ldf_video.video.media import DEFAULT_FPS
from ldf_video.video.pictures import check_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from av.container import InputContainer
    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext
    from av.video.stream import VideoStream

ANIMATIONS = ("gif", "apng")
"""FFmpeg's names of animations, each frame of which says how long it shows."""

_MAX_FPS = 1000
_LARGE_PIXELS = 256 * 256  # below, threads cost more than they gain
_LARGE_THREADS = 4
_MAX_SAMPLE_ASPECT = 8
_STILL_FRAMES = 1.5
_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
# Covers, thumbnails, and the tiles of a picture.
_NO_FILM = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.dependent
_UNDECODED = {"drmi": "protected video", "encv": "protected video"} | dict.fromkeys(
    ("brhq", "brlt", "brst", "brvn", "brxq"), "Blackmagic RAW"
)
_USUAL_FPS = [Fraction(n) for n in (5, 6, 8, 10, 12, 15, 20, 24, 25, 30, 48, 50, 60, 100, 120)] + [
    Fraction(n, 1001) for n in (24_000, 30_000, 60_000, 120_000)
]
_TICK = Fraction(1, 100)  # of a GIF: a delay of one at most shows for longer
_SHORT_DELAY = Fraction(1, 10)
_HEAD_PACKETS, _HEAD_BYTES = 256, 2**23
_REGULAR_SHARE = 0.9  # of the steps between frames, in a film of a constant rate
# Titles may be in any encoding, or none. From 19.0 on PyAV takes them all, and no such argument.
_ANY_TITLE: dict[str, Any] = (
    {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
)


class Readable(Protocol):
    """What FFmpeg reads."""

    def read(self, num_bytes: int, /) -> bytes: ...
    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def tell(self) -> int: ...


def open_container(file: Readable) -> InputContainer:
    """Opens a file for PyAV as bytes without a name.

    Without a name FFmpeg can guess no format from it, expand no pattern in it, and open no second
    file.

    Raises:
        ReadError: if it is no container that FFmpeg knows.
    """
    try:
        # No protocol is called "none": playlists and the like cannot open what they name.
        options = {"protocol_whitelist": "none", "default_fps": "10"}  # of APNG without delays
        return av.open(_Bytes(file), mode="r", options=options, **_ANY_TITLE)
    except RemoteError as error:
        raise unreachable(error) from error
    except (FFmpegError, OSError, ValueError) as error:
        if lacks_index(file):
            raise ReadError(
                "an mp4 that is cut short: its index, at its end, is missing; copy it again"
            ) from error
        raise ReadError(f"not a video: {reason_of(error)}") from error


def unreachable(error: RemoteError) -> ReadError:
    """Returns the error of a file that could not be reached, which says nothing about the file."""
    return ReadError(f"cannot be read: {reason_of(error)}")


class _Bytes:
    """The part of a file that FFmpeg gets to see: no name, no descriptor.

    FFmpeg tries again after an error. PyAV raises the first and prints the others, so there is one.
    """

    def __init__(self, file: Readable) -> None:
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


def picture_stream(container: InputContainer) -> VideoStream:
    """Returns the stream that is the film: the default one, else the largest and longest.

    Covers, streams without a decoder, and posters of one frame beside a film are left out.

    Raises:
        ReadError: if there is none, or its frames are too large.
    """
    films = [stream for stream in container.streams.video if not stream.disposition & _NO_FILM]
    decoded = [stream for stream in films if stream.codec_context is not None]
    if decoded:
        stream = max(decoded, key=_preference)
        check_size(stream.codec_context.width, stream.codec_context.height)
        return stream
    if films:
        raise ReadError(f"no decoder for {_codec_names(container)}")
    kinds = {stream.type for stream in container.streams}
    others = " and ".join(sorted(kinds - {"video"}))
    raise ReadError(f"no video stream ({others} only)" if others else "no video stream")


def _preference(stream: VideoStream) -> tuple[bool, bool, int, int]:
    seconds = _seconds(stream)
    is_short = 0 < seconds * (stream.average_rate or 0) < _STILL_FRAMES
    is_still = stream.frames == 1 or bool(stream.disposition & Disposition.still_image)
    is_default = bool(stream.disposition & Disposition.default)
    pixels = stream.codec_context.width * stream.codec_context.height
    # Whole seconds: of two programmes of one length the first is the film.
    return not (is_still or is_short), is_default, pixels, round(seconds)


def _seconds(stream: VideoStream) -> Fraction:
    """Returns how long a stream is, 0 if unknown; in Matroska a tag says it, as 00:01:02.345."""
    tags = (text for name, text in stream.metadata.items() if name.startswith("DURATION"))
    parts = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", next(tags, ""))
    if parts is None:
        return Fraction(stream.duration or 0) * Fraction(stream.time_base or 0)
    hours, minutes, seconds = map(Fraction, parts.groups())
    return 3600 * hours + 60 * minutes + seconds


def _codec_names(container: InputContainer) -> str:
    """Returns names, and four-character codes, of the codecs that FFmpeg cannot decode."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)  # the description is printed into the log
    try:
        text = container.dumps_format()  # type: ignore[attr-defined]  # not in PyAV's types
    finally:
        av.logging.set_level(level)
    names = []
    for codec, tag in re.findall(r"Video: (\w+).*?(?: \((\S{4}) / 0x|,|\n)", text):
        known = _UNDECODED.get(tag, "an unknown codec" if codec == "none" else codec)
        names.append(f"{known} ({tag})" if tag else known)
    return " and ".join(dict.fromkeys(names)) or "an unknown codec"


def sample_aspect_ratio(stream: VideoStream) -> Fraction:
    """Returns the width of a pixel as shown, over its height; 1 where it is unsaid or unlikely.

    Browsers ignore that of a GIF.
    """
    if stream.codec_context.name in ANIMATIONS:
        return SQUARE
    ratio = stream.sample_aspect_ratio or 0
    return Fraction(ratio) if 1 / _MAX_SAMPLE_ASPECT <= ratio <= _MAX_SAMPLE_ASPECT else SQUARE


def stream_decoder(stream: VideoStream, threads: int) -> VideoCodecContext:
    """Returns what decodes a stream, by a number of threads, 0 to go by the size of the pictures.

    How a damaged picture is concealed depends on the number of threads: it must not be the
    machine's, nor that of the readers that happen to be busy.
    """
    context = stream.codec_context
    if stream.metadata.get("alpha_mode") == "1" and context.name in _WITH_ALPHA:
        # FFmpeg's own decoder leaves out the transparency that lies beside the pictures.
        with contextlib.suppress(UnknownCodecError):
            size = context.width, context.height
            context = cast("VideoCodecContext", CodecContext.create(_WITH_ALPHA[context.name], "r"))
            context.width, context.height = size
    is_large = context.width * context.height >= _LARGE_PIXELS
    context.thread_type = "AUTO"
    context.thread_count = threads or (_LARGE_THREADS if is_large else 1)
    return context


def frame_rate(
    stream: VideoStream, packets: Iterator[Packet[VideoStream]]
) -> tuple[Fraction, Iterator[Packet[VideoStream]]]:
    """Returns at what rate a stream plays, in frames a second, and its packets again, all of them.

    What the headers say is checked against the times of the packets of the first seconds: FFmpeg
    guesses where a file says nothing, and then takes a time base, or two frames, for a rate.
    """
    head: list[Packet[VideoStream]] = []
    num_bytes, is_whole = 0, True
    for packet in packets:
        head.append(packet)
        num_bytes += packet.size
        if len(head) >= _HEAD_PACKETS or num_bytes >= _HEAD_BYTES:
            is_whole = False
            break
    rate = _rate(stream, head, is_whole=is_whole) if head else DEFAULT_FPS
    return rate, itertools.chain(head, packets)


def _rate(stream: VideoStream, head: Sequence[Packet[VideoStream]], *, is_whole: bool) -> Fraction:
    time_base = Fraction(stream.time_base or 0)
    seconds = Fraction(stream.duration or 0) * time_base
    whole = _plausible(stream.frames / seconds if seconds else None)
    if stream.container.format.name in ANIMATIONS:
        delays = [(packet.duration or 0) * time_base for packet in head]
        if not is_whole and whole and min(delays) > _TICK:
            return _nearest_rate(stream.frames, seconds, tick=time_base)
        return _nearest_rate(
            len(head), sum(map(shown_delay, delays), Fraction(0)), tick=min(time_base, _TICK)
        )
    named = [_plausible(stream.average_rate), _plausible(stream.guessed_rate)]
    steps = _steps(head, is_whole=is_whole)
    if not any(steps) or not time_base:
        # A bare stream has no times, and its first rate is FFmpeg's own.
        has_times = any(packet.pts is not None for packet in head)
        first, second = named if has_times else named[::-1]
        return first or second or DEFAULT_FPS
    middle = statistics.median(steps)
    # Times are rounded to ticks, so that a step may be one more or less.
    regular = [step for step in steps if step and abs(step - middle) <= 1 + middle / 50]
    if len(regular) >= _REGULAR_SHARE * len(steps):
        rate = _nearest_rate(
            len(regular), sum(regular) * time_base, tick=2 * time_base, preferred=named
        )
        if whole is None or whole > rate * Fraction(4, 5):
            return rate
    mean = len(steps) / (sum(steps) * time_base)
    return whole if whole and not is_whole else min(mean, Fraction(_MAX_FPS))


def _steps(head: Sequence[Packet[VideoStream]], *, is_whole: bool) -> list[int]:
    """Returns the times between frames as they show; in joined recordings, within each."""
    runs: list[list[int]] = [[]]
    last_dts: int | None = None
    for packet in head:
        if packet.dts is not None:
            if last_dts is not None and packet.dts < last_dts:
                runs.append([])
            last_dts = packet.dts
        if packet.pts is not None:
            runs[-1].append(packet.pts)
    if not is_whole and last_dts is not None:  # what shows later is not all here
        runs[-1] = [pts for pts in runs[-1] if pts <= last_dts]
    return [after - before for run in runs for before, after in itertools.pairwise(sorted(run))]


def shown_delay(seconds: Fraction) -> Fraction:
    """Returns how long browsers show a frame of an animation: they lengthen short delays."""
    return seconds if seconds > _TICK else _SHORT_DELAY


def _nearest_rate(
    num_frames: int, seconds: Fraction, *, tick: Fraction, preferred: Sequence[Fraction | None] = ()
) -> Fraction:
    """Returns the rate of so many frames in so long, a usual one if rounding may have moved it.

    `seconds` are rounded to multiples of `tick`; preferred rates are taken first.
    """
    exact = num_frames / seconds
    low, high = num_frames / (seconds + tick / 2), num_frames / max(seconds - tick / 2, tick / 2)
    usual = sorted(
        _USUAL_FPS, key=lambda rate: (rate not in preferred, rate % 1 != 0, abs(rate - exact))
    )
    for rate in (*usual, *preferred, Fraction(round(exact))):
        if rate is not None and low <= rate <= high:
            return rate
    return min(exact, Fraction(_MAX_FPS))


def _plausible(rate: Fraction | None) -> Fraction | None:
    return Fraction(rate) if rate is not None and 0 < rate <= _MAX_FPS else None
