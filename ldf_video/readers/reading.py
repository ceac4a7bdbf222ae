"""How far one source has been read: what its reader says, checked, becomes events."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, get_args

import numpy as np
import numpy.typing as npt

from ldf_video.arrays.conditions import MOST_COLUMNS, MOST_NAMES, Column, Conditions
from ldf_video.clips.read import SKIP
from ldf_video.files.remote import RemotePath
from ldf_video.readers.wire import Header, Message, WireError, describe_damage
from ldf_video.sources.source import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Fault: TypeAlias = Literal["content", "reach", "changed"]
Question: TypeAlias = Literal["look", "probe", "measure"]

_FAR_FRAMES = 512
_MOST_GIVEN_UP = 8
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class SourceFound:
    """What a source holds is known; its clips follow.

    Attributes:
        source: that holds the clips.
        digest: of the source, 64 hex digits.
        num_clips: of an array of clips, None where the source is one clip.
        first_frames: for each clip (one where the source is one) the number of the first frame that
            is read; may be changed in place before the next event is asked for, to SKIP for a clip
            that is not wanted.
    """

    source: Source
    digest: str
    num_clips: int | None
    first_frames: list[int] = field(default_factory=list, compare=False, repr=False)

    def clip_ids(self) -> list[str]:
        if self.num_clips is None:
            return [self.content]
        return [f"{self.content}#{index}" for index in range(self.num_clips)]

    @property
    def content(self) -> str:
        """What tells what is read of the source from all else: its digest, and the range."""
        part = self.source.part
        return self.digest if part is None else f"{self.digest}{part.suffix}"


@dataclass(frozen=True)
class Clip:
    """A clip is open; its frames follow.

    Attributes:
        source: that holds the clip.
        clip_id: digest of the source, and number of the clip in an array of clips.
        index: of the clip in an array of clips, None where the source is one clip.
        fps: frames a second of the frames that follow.
        why_pyav: why decord, asked for, does not read it; else empty.
        size: rows and columns of the source's own frames, upright; None where that is not known.
        name: of the clip within its source, "" where it has none.
        columns: what is known of its frames beside their pixels.
    """

    source: Source
    clip_id: str
    index: int | None
    fps: Fraction
    why_pyav: str
    size: tuple[int, int] | None = None
    name: str = ""
    columns: tuple[Column, ...] = ()

    @property
    def title(self) -> str:
        """What people call it: its source, and which of its clips it is."""
        if self.index is None:
            return self.source.title
        if not self.name:
            return f"{self.source.title}#{self.index}"
        return f"{self.source.title.removesuffix(f'::{self.source.inner}')}::{self.name}"


@dataclass(frozen=True)
class FramesRead:
    """The next frames of a clip.

    Attributes:
        clip: that they belong to.
        frames: uint8 (n, height, width, 3) RGB, n at least 1; valid until the next event is asked
            for.
        position: how much of the source has been read, in [0, 1].
        conditions: what is known of these frames, in the clip's columns; None where it has none.
    """

    clip: Clip
    frames: npt.NDArray[np.uint8]
    position: float
    conditions: Conditions | None = None


@dataclass(frozen=True)
class ClipEnded:
    """A clip has no more frames.

    Attributes:
        clip: that ended.
        num_frames: of the clip, those before the first that was asked for included; 0 for one clip
            of several of which nothing can be read.
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
    """The answer to a question that is not "look"; JSON that nobody has checked."""

    source: Source
    answer: Header


Event: TypeAlias = (
    SourceFound | Clip | FramesRead | ClipEnded | SourceEnded | SourceFailed | Answered
)


class Reading:
    """A source on its way through a reader, or from a reader that died to the next.

    Attributes:
        has_ended: whether all has been said of it; else `events` goes on.
    """

    def __init__(self, source: Source, wishes: Header, *, question: Question = "look") -> None:
        """Begins with nothing known; for wishes and question see `ReaderPool`."""
        self._source, self._wishes, self._question = source, wishes, question
        self._num_frames = 0  # given in all
        self._died_at: int | None = None  # when so many were given
        self._found: SourceFound | None = None
        self._stamp = ""
        self._clip: Clip | None = None  # that is open
        self._place = 0  # of the open clip among those of the source
        self._num_given_up = 0  # clips that no reader came through
        self.has_ended = False

    @property
    def is_second_try(self) -> bool:
        """Whether a reader died of it, or beside it, not many frames ago."""
        # Far behind the frame of the last death it is another: no decoder reads so far ahead.
        return self._died_at is not None and self._num_frames < self._died_at + _FAR_FRAMES

    def begin_second_try(self) -> None:
        """Notes that a reader died: from here on the next one reads carefully.

        One thread, and each frame sent before the next is decoded: if the clip kills the decoder
        again, then at the same frame in every run.
        """
        self._died_at = self._num_frames

    def events(self, ask: Callable[[Header], Iterator[Message]]) -> Iterator[Event]:
        """Yields what a reader says of the source, from where the last one died to the end.

        `ask` gives a reader a command, and yields what it says to it.

        Raises:
            WireError: if that makes no sense.
        """
        try:
            yield from self._events(ask)
        except _FailedError as failed:
            if failed.fault == "content":
                yield from self.salvage(failed.reason)
            else:
                yield self._fail(failed.reason, failed.fault)
        except (LookupError, TypeError, ValueError, ArithmeticError) as error:
            raise WireError("a message that makes no sense") from error

    def salvage(self, reason: str) -> Iterator[Event]:
        """Yields the last events of a source of which no more can be read.

        An open clip is kept as far as it came, if it has a frame, given now or in an earlier run.
        The clips behind it are left to `events` of another reader, unless too many have ended so.
        """
        clip, found, num_frames = self._clip, self._found, 0
        if clip is not None and found is not None:
            num_frames = found.first_frames[self._place]
        if clip is None or found is None or (num_frames == 0 and clip.index is None):
            yield self._fail(reason, "content")
            return
        yield ClipEnded(clip, num_frames, describe_damage(num_frames, reason))
        self._clip, found.first_frames[self._place], self._died_at = None, SKIP, None
        self._num_given_up += 1
        if clip.index is None or self._num_given_up == _MOST_GIVEN_UP:
            self.has_ended = True
            yield SourceEnded(found)

    def on_hang(self, seconds: float) -> Iterator[Event]:
        """Yields the last events of a source whose reader was silent for so long.

        Behind a URL it is more likely the network that hangs, so nothing is known of the clip.
        """
        if isinstance(self._source.root, RemotePath):
            yield self._fail(f"no answer for {seconds:g} s", "reach")
        else:
            yield from self.salvage(f"the decoder hung for {seconds:g} s")

    def _fail(self, reason: str, fault: Fault) -> SourceFailed:
        self.has_ended = True
        return SourceFailed(self._source, reason, fault, self._found, self._clip)

    def _events(self, ask: Callable[[Header], Iterator[Message]]) -> Iterator[Event]:
        command = {"source": self._source.to_json(), "careful": self.is_second_try, **self._wishes}
        if self._question != "look":
            answer, _ = _next(ask(command | {"do": self._question}), "answer")
            self.has_ended = True
            yield Answered(self._source, answer)
            return
        if self._found is None:
            looked, _ = _next(ask(command | {"do": "look"}), "digested")
            yield self._look(looked)
        found = self._found
        assert found is not None
        if any(first != SKIP for first in found.first_frames):
            beginning = {"do": "open", "stamp": self._stamp, "first_frames": found.first_frames}
            yield from self._clips(ask(command | beginning), found)
        self.has_ended = True
        yield SourceEnded(found)

    def _look(self, header: Header) -> SourceFound:
        digest, num_clips = header["digest"], header["num_clips"]
        if not _DIGEST.fullmatch(digest) or (num_clips is not None and _count(num_clips) == 0):
            raise ValueError
        self._stamp = _text(header["stamp"])
        self._found = SourceFound(self._source, digest, num_clips, [0] * (num_clips or 1))
        return self._found

    def _clips(self, messages: Iterator[Message], found: SourceFound) -> Iterator[Event]:
        first_frames = found.first_frames  # they advance as frames come
        while True:
            header, _ = _next(messages, "clip", "source_end")
            if header["is"] == "source_end":
                return
            while first_frames[self._place] == SKIP:
                self._place += 1  # IndexError: one that was not asked for
            index = None if found.num_clips is None else self._place
            fps, why_pyav = Fraction(*map(_integer, header["fps"])), _text(header["why_pyav"])
            height, width = map(_count, header.get("size") or (0, 0))
            size = (height, width) if height and width else None
            if header["index"] != index or fps == 0:
                raise ValueError
            if self._clip is None:  # else the reader that died had opened it
                clip_id = found.content if index is None else f"{found.content}#{index}"
                name, columns = _text(header.get("name", "")), _columns(header.get("columns", ()))
                self._clip = Clip(self._source, clip_id, index, fps, why_pyav, size, name, columns)
                yield self._clip
            header, payload = _next(messages, "frames", "clip_end")
            while header["is"] == "frames":
                yield self._frames(header, payload, self._clip, first_frames)
                header, payload = _next(messages, "frames", "clip_end")
            damage, note = _text(header["damage"]), _text(header["note"])
            ended = ClipEnded(self._clip, first_frames[self._place], damage, note)
            self._clip, first_frames[self._place] = None, SKIP
            yield ended

    def _frames(
        self, header: Header, payload: memoryview, clip: Clip, first_frames: list[int]
    ) -> FramesRead:
        num_frames, position = _count(header["num_frames"]), float(header["position"])
        geometry = self._wishes["geometry"]
        frames = np.frombuffer(payload, np.uint8).reshape(
            num_frames, geometry["height"], geometry["width"], 3
        )
        if num_frames == 0:
            raise ValueError
        first_frames[self._place] += num_frames
        self._num_frames += num_frames
        known = _conditions(header.get("told", ()), clip.columns, num_frames)
        return FramesRead(clip, frames, position if 0 <= position <= 1 else 1.0, known)


class _FailedError(Exception):
    """A reader says that a source cannot be read."""

    def __init__(self, reason: str, fault: Fault) -> None:
        super().__init__(reason)
        self.reason, self.fault = reason, fault


def _next(messages: Iterator[Message], *kinds: str) -> Message:
    message = next(messages)
    kind = message.header.get("is")
    if kind == "failed":
        fault = message.header["fault"]
        if fault not in get_args(Fault):
            raise ValueError
        raise _FailedError(_text(message.header["reason"]), cast("Fault", fault))
    if kind not in kinds:
        raise WireError(f"a message {kind!r} out of turn")
    return message


def _columns(listed: Any) -> tuple[Column, ...]:
    """What a reader says is known of frames."""
    columns = tuple(Column(_text(name), tuple(map(_text, names))) for name, names in listed)
    if len({column.name for column in columns}) < len(columns) or len(columns) > MOST_COLUMNS:
        raise ValueError
    if any(len(set(one.names)) < len(one.names) or len(one.names) > MOST_NAMES for one in columns):
        raise ValueError
    return columns


def _conditions(told: Any, columns: tuple[Column, ...], count: int) -> Conditions | None:
    """What a reader says of so many frames."""
    if not columns:
        return None
    rows = [[math.nan if value is None else float(value) for value in row] for row in told]
    values = np.array(rows, np.float32).reshape(count, len(columns))  # ValueError: too few
    for place, column in enumerate(columns):
        of_column = values[:, place]
        if column.names and not (np.isnan(of_column) | (of_column < len(column.names))).all():
            raise ValueError
    return Conditions(columns, values)


def _integer(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**63:  # as SQLite has them
        raise ValueError
    return value


def _count(value: Any) -> int:
    if _integer(value) >= 2**31:
        raise ValueError
    return value


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError
    return value
