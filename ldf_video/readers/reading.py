"""How far one source has been read: what its reader says, checked, becomes events."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np

from ldf_video.readers.events import (
    ClipBegun,
    ClipEnded,
    Event,
    Fault,
    FramesRead,
    SourceEnded,
    SourceFailed,
)
from ldf_video.readers.wire import Header, Message, WireError, frame_bytes
from ldf_video.video.files import RemotePath
from ldf_video.video.read import SKIP

if TYPE_CHECKING:
    from ldf_video.readers.events import Plan
    from ldf_video.video.geometry import Geometry
    from ldf_video.video.sources import Source

_FAR_FRAMES = 512
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Reading:
    """A source on its way through a reader, or from a reader that died to the next.

    Attributes:
        source: that is read.
        is_second_try: whether a reader died of it, or beside it, not many frames ago.
        is_over: whether its last event has been given.
    """

    def __init__(
        self, source: Source, geometry: Geometry, *, options: Header | None = None
    ) -> None:
        """Knows nothing of the source yet.

        Args:
            source: to be read.
            geometry: what frames are brought to.
            options: see `ReaderPool`.
        """
        self.source = source
        self.is_over = False
        self._num_frames = 0  # given in all
        self._died_at: int | None = None  # when so many were given
        self._geometry, self._options = geometry, options or {}
        self._digest: str | None = None
        self._stamp = ""
        self._num_clips: int | None = None
        self._first_frames: list[int] | None = None  # moved on as frames come
        self._begun: int | None = None  # the clip that was begun and has not ended
        self._place = 0  # no clip before it is wanted

    @property
    def is_second_try(self) -> bool:
        # Far behind the frame of the last death it is another: no decoder reads so far ahead.
        return self._died_at is not None and self._num_frames < self._died_at + _FAR_FRAMES

    def begin_second_try(self) -> None:
        """Takes note that a reader died: from here on carefully.

        One thread, and each frame sent before the next is decoded: if the clip kills the decoder
        again, then at the same frame in every run.
        """
        self._died_at = self._num_frames

    def command(self, plan: Plan) -> Header | None:
        """Returns what a reader is to do next for this source, None if that is nothing."""
        source = self.source.to_json()
        if self._digest is None:
            return {"do": "look", "source": source} | self._options
        if self._first_frames is None:
            self._first_frames = list(plan(self.source, self._digest, self._num_clips))
            if len(self._first_frames) != self._num_places():
                raise ValueError(
                    f"got a plan of {len(self._first_frames)} clips, expected {self._num_places()}"
                )
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

    def hear(self, message: Message) -> list[Event]:
        """Turns what a reader says into events, in order.

        Raises:
            WireError: if it makes no sense.
        """
        header, kind = message.header, message.header.get("is")
        try:
            if kind == "digested" and self._digest is None:
                self._digested(header)
                return []
            if kind == "failed":
                reason = _text(header["reason"])
                fault = _fault(header["fault"])
                return self.break_off(reason) if fault == "content" else self.fail(reason, fault)
            if kind == "clip" and self._first_frames is not None:
                return self._clip(header)
            if kind == "frames" and self._begun is not None:
                return [self._frames(header, message.payload)]
            if kind == "clip_end" and self._begun is not None:
                note = _text(header.get("note", ""))
                return [self._clip_end(_text(header["damage"]), note)]
            if kind == "source_end" and self._first_frames is not None and self._begun is None:
                return [self.end()]
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            raise WireError(f"a message {kind!r} that makes no sense") from error
        raise WireError(f"a message {kind!r} out of turn")

    def end(self) -> SourceEnded:
        """Returns the event that all has been given."""
        assert self._digest is not None
        self.is_over = True
        return SourceEnded(self.source, self._digest, self._num_clips)

    def break_off(self, reason: str) -> list[Event]:
        """Returns the last events of a source that cannot be gone on with.

        A clip that had begun is kept as far as it came, where a frame of it was given, now or, as
        the plan says, before.
        """
        num_frames = 0
        if self._begun is not None and self._first_frames is not None:
            num_frames = self._first_frames[self._begun]
        if num_frames == 0:
            return self.fail(reason, "content")
        return [self._clip_end(f"damaged after {num_frames} frames: {reason}"), self.end()]

    def hang(self, seconds: float) -> list[Event]:
        """Returns the last events of a source at which its reader said nothing for so long.

        Behind a URL it is more likely the network that hangs, so nothing is known of the clip.
        """
        if isinstance(self.source.root, RemotePath):
            return self.fail(f"no answer for {seconds:g} s", "reach")
        return self.break_off(f"the decoder hung for {seconds:g} s")

    def fail(self, reason: str, fault: Fault) -> list[Event]:
        """Returns the last event of a source that failed; if out of reach, its clip may go on."""
        self.is_over = True
        return [SourceFailed(self.source, self._digest, reason, fault)]

    def _num_places(self) -> int:
        return 1 if self._num_clips is None else self._num_clips

    def _index(self, place: int) -> int | None:
        return None if self._num_clips is None else place

    def _next_wanted(self) -> int | None:
        """The first clip that has not been given to its end, of those wanted."""
        assert self._first_frames is not None
        while self._place < len(self._first_frames):
            if self._first_frames[self._place] != SKIP:
                return self._place
            self._place += 1
        return None

    def _digested(self, header: Header) -> None:
        digest, num_clips = header["digest"], header["num_clips"]
        if not _DIGEST.fullmatch(digest) or (num_clips is not None and _count(num_clips) == 0):
            raise ValueError
        self._digest, self._num_clips = digest, num_clips
        self._stamp = _text(header["stamp"])

    def _clip(self, header: Header) -> list[Event]:
        assert self._digest is not None
        assert self._first_frames is not None
        place = self._next_wanted()
        if place is None or header["index"] != self._index(place):
            raise ValueError
        if header["first_frame"] != self._first_frames[place]:
            raise ValueError
        numerator, denominator = map(_count, header["fps"])
        fps = Fraction(numerator, denominator)
        if fps == 0:
            raise ValueError
        if self._begun == place:  # by the reader that died
            return []
        if self._begun is not None:
            raise ValueError
        self._begun = place
        return [
            ClipBegun(
                self.source,
                self._digest,
                self._index(place),
                fps,
                self._first_frames[place],
                _text(header["why_pyav"]),
            )
        ]

    def _frames(self, header: Header, payload: memoryview) -> FramesRead:
        assert self._begun is not None
        assert self._first_frames is not None
        num_frames, position = _count(header["num_frames"]), float(header["position"])
        if num_frames == 0 or len(payload) != num_frames * frame_bytes(self._geometry):
            raise ValueError
        shape = (num_frames, self._geometry.height, self._geometry.width, 3)
        self._first_frames[self._begun] += num_frames
        self._num_frames += num_frames
        return FramesRead(
            self.source,
            self._index(self._begun),
            np.frombuffer(payload, np.uint8).reshape(shape),
            position if 0 <= position <= 1 else 1.0,
        )

    def _clip_end(self, damage: str, note: str = "") -> ClipEnded:
        assert self._begun is not None
        assert self._first_frames is not None
        place, self._begun = self._begun, None
        self._first_frames[place] = SKIP
        return ClipEnded(self.source, self._index(place), damage, note)


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
