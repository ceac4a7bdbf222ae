"""How far one source has been read: the messages of its reader, checked, become events."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, get_args

import numpy as np
import numpy.typing as npt

from ldf_video.readers.wire import Header, Message, WireError, frame_bytes
from ldf_video.video.files import RemotePath
from ldf_video.video.read import SKIP
from ldf_video.video.sources import Source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ldf_video.video.geometry import Geometry

Fault: TypeAlias = Literal["content", "reach", "changed"]
Question: TypeAlias = Literal["look", "probe", "measure"]

_FAR_FRAMES = 512
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class SourceFound:
    """What a source holds is known; its clips follow, see `ReaderPool.choose`.

    Attributes:
        source: that holds the clips.
        digest: of the source, 64 hex digits.
        num_clips: of an array of clips, None where the source is one clip.
    """

    source: Source
    digest: str
    num_clips: int | None

    def clip_ids(self) -> list[str]:
        """Returns the ids of all its clips."""
        if self.num_clips is None:
            return [self.digest]
        return [f"{self.digest}#{index}" for index in range(self.num_clips)]


@dataclass(frozen=True)
class Clip:
    """A clip is open; its frames follow.

    Attributes:
        source: that holds the clip.
        clip_id: digest of the source, and number of the clip in an array of clips.
        index: of the clip in an array of clips, None where the source is one clip.
        fps: frames a second of the frames that follow.
        first_frame: number of the first of them.
        why_pyav: why decord, asked for, does not read it; else empty.
    """

    source: Source
    clip_id: str
    index: int | None
    fps: Fraction
    first_frame: int
    why_pyav: str


@dataclass(frozen=True)
class FramesRead:
    """The next frames of a clip.

    Attributes:
        clip: that they belong to.
        frames: uint8 (n, height, width, 3) RGB, n at least 1; valid until the next event is asked
            for.
        position: how much of the source has been read, in [0, 1].
    """

    clip: Clip
    frames: npt.NDArray[np.uint8]
    position: float


@dataclass(frozen=True)
class ClipEnded:
    """A clip has no more frames.

    Attributes:
        clip: that ended.
        num_frames: of the clip, those before its `first_frame` included.
        damage: why it is not whole, empty if it is.
        note: what a user must know of its frames, empty if nothing.
    """

    clip: Clip
    num_frames: int
    damage: str
    note: str = ""


@dataclass(frozen=True)
class SourceEnded:
    """All clips that were chosen of a source have ended."""

    found: SourceFound


@dataclass(frozen=True)
class SourceFailed:
    """Nothing, or nothing more, can be read of a source.

    Attributes:
        source: that failed.
        reason: in a few words, without the path.
        fault: "content": what it holds, so a copy is no better; "reach": it could not be reached,
            and the frames given are good; "changed": while it was read, so they may not be.
        found: what it holds; None if it failed before that was known.
        clip: that was open, and will not end; None if none was.
    """

    source: Source
    reason: str
    fault: Fault = "content"
    found: SourceFound | None = None
    clip: Clip | None = None


@dataclass(frozen=True)
class Answered:
    """The answer to a question that is not "look"; unchecked JSON."""

    source: Source
    answer: Header


Event: TypeAlias = (
    SourceFound | Clip | FramesRead | ClipEnded | SourceEnded | SourceFailed | Answered
)


class Reading:
    """A source on its way through a reader, or from a reader that died to the next.

    Attributes:
        source: that is read.
        is_second_try: whether a reader died of it, or beside it, not many frames ago.
        is_over: whether its last event has been given.
    """

    def __init__(
        self,
        source: Source,
        geometry: Geometry,
        *,
        question: Question = "look",
        options: Header | None = None,
    ) -> None:
        """Arguments as of `ReaderPool`."""
        self.source = source
        self.is_over = False
        self._geometry, self._question, self._options = geometry, question, options or {}
        self._num_frames = 0  # given in all
        self._died_at: int | None = None  # when so many were given
        self._found: SourceFound | None = None
        self._stamp = ""
        self._first_frames: list[int] = []  # of each clip; they advance as frames come
        self._clip: Clip | None = None  # that is open
        self._place = 0  # of the open clip, or of the next one that may be wanted

    @property
    def is_second_try(self) -> bool:
        # Far behind the frame of the last death it is another: no decoder reads so far ahead.
        return self._died_at is not None and self._num_frames < self._died_at + _FAR_FRAMES

    def begin_second_try(self) -> None:
        """Notes that a reader died: from here on the next one reads carefully.

        One thread, and each frame sent before the next is decoded: if the clip kills the decoder
        again, then at the same frame in every run.
        """
        self._died_at = self._num_frames

    def choose(self, first_frames: Sequence[int]) -> None:
        """Chooses clips, see `ReaderPool.choose`."""
        if len(first_frames) != len(self._first_frames):
            raise ValueError(
                f"got first frames of {len(first_frames)} clips, expected {len(self._first_frames)}"
            )
        self._first_frames = list(first_frames)

    def next_command(self) -> Header | None:
        """Returns what a reader is to do next for this source, None if that is nothing."""
        source = self.source.to_json()
        if self._found is None:
            return {"do": self._question, "source": source} | self._options
        if self._next_wanted() is None:
            return None
        return {
            "do": "open",
            "source": source,
            "stamp": self._stamp,
            "first_frames": self._first_frames,
            "threads": 1 if self.is_second_try else 0,
            "careful": self.is_second_try,
        } | self._options

    def on_message(self, message: Message) -> list[Event]:
        """Turns a message of a reader into events, in order.

        Raises:
            WireError: if it makes no sense.
        """
        header, kind = message.header, message.header.get("is")
        events: list[Event] = []
        try:
            if kind == "failed":
                reason, fault = _text(header["reason"]), _fault(header["fault"])
                events = self.salvage(reason) if fault == "content" else [self._fail(reason, fault)]
            elif kind == "answer" and self._question != "look":
                self.is_over = True
                events = [Answered(self.source, header)]
            elif kind == "digested" and self._found is None:
                events = [self._on_digest(header)]
            elif kind == "clip" and self._found is not None:
                events = self._on_clip(header, self._found)
            elif kind == "frames" and self._clip is not None:
                events = [self._on_frames(header, message.payload, self._clip)]
            elif kind == "clip_end" and self._clip is not None:
                damage, note = _text(header["damage"]), _text(header.get("note", ""))
                events = [self._end_clip(self._clip, damage, note)]
            elif kind == "source_end" and self._found is not None and self._clip is None:
                events = [self.end()]
            else:
                raise WireError(f"a message {kind!r} out of turn")
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            raise WireError(f"a message {kind!r} that makes no sense") from error
        return events

    def end(self) -> SourceEnded:
        """Returns the event that all has been given."""
        assert self._found is not None
        self.is_over = True
        return SourceEnded(self._found)

    def salvage(self, reason: str) -> list[Event]:
        """Returns the last events of a source of which no more can be read.

        An open clip is kept as far as it came, if it has a frame, given now or in an earlier run.
        """
        num_frames = 0 if self._clip is None else self._first_frames[self._place]
        if self._clip is None or num_frames == 0:
            return [self._fail(reason, "content")]
        damage = f"damaged after {num_frames} frames: {reason}"
        return [self._end_clip(self._clip, damage), self.end()]

    def on_hang(self, seconds: float) -> list[Event]:
        """Returns the last events of a source whose reader was silent for so long.

        Behind a URL it is more likely the network that hangs, so nothing is known of the clip.
        """
        if isinstance(self.source.root, RemotePath):
            return [self._fail(f"no answer for {seconds:g} s", "reach")]
        return self.salvage(f"the decoder hung for {seconds:g} s")

    def _fail(self, reason: str, fault: Fault) -> SourceFailed:
        self.is_over = True
        return SourceFailed(self.source, reason, fault, self._found, self._clip)

    def _next_wanted(self) -> int | None:
        """The first clip that was chosen and has not ended."""
        while self._place < len(self._first_frames):
            if self._first_frames[self._place] != SKIP:
                return self._place
            self._place += 1
        return None

    def _on_digest(self, header: Header) -> SourceFound:
        digest, num_clips = header["digest"], header["num_clips"]
        if not _DIGEST.fullmatch(digest) or (num_clips is not None and _count(num_clips) == 0):
            raise ValueError
        self._stamp = _text(header["stamp"])
        self._found = SourceFound(self.source, digest, num_clips)
        self._first_frames = [0] * (1 if num_clips is None else num_clips)
        return self._found

    def _on_clip(self, header: Header, found: SourceFound) -> list[Event]:
        place = self._next_wanted()
        if place is None or header["index"] != (None if found.num_clips is None else place):
            raise ValueError
        first_frame = self._first_frames[place]
        numerator, denominator = map(_count, header["fps"])
        fps, why_pyav = Fraction(numerator, denominator), _text(header["why_pyav"])
        if header["first_frame"] != first_frame or fps == 0:
            raise ValueError
        if self._clip is not None:  # the reader that died had opened it
            return []
        index = header["index"]
        clip_id = found.digest if index is None else f"{found.digest}#{index}"
        self._clip = Clip(self.source, clip_id, index, fps, first_frame, why_pyav)
        return [self._clip]

    def _on_frames(self, header: Header, payload: memoryview, clip: Clip) -> FramesRead:
        num_frames, position = _count(header["num_frames"]), float(header["position"])
        if num_frames == 0 or len(payload) != num_frames * frame_bytes(self._geometry):
            raise ValueError
        shape = (num_frames, self._geometry.height, self._geometry.width, 3)
        self._first_frames[self._place] += num_frames
        self._num_frames += num_frames
        frames = np.frombuffer(payload, np.uint8).reshape(shape)
        return FramesRead(clip, frames, position if 0 <= position <= 1 else 1.0)

    def _end_clip(self, clip: Clip, damage: str, note: str = "") -> ClipEnded:
        num_frames = self._first_frames[self._place]
        self._clip, self._first_frames[self._place] = None, SKIP
        return ClipEnded(clip, num_frames, damage, note)


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**31:
        raise ValueError
    return value


def _fault(value: Any) -> Fault:
    if value not in get_args(Fault):
        raise ValueError
    return cast("Fault", value)


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError
    return value
