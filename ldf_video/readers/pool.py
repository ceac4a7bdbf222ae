"""Many sources read at once by processes that may crash and hang, each at the cost of one clip."""

from __future__ import annotations

import selectors
import time
from collections import deque
from typing import TYPE_CHECKING, Self

from ldf_video.errors import LdfError
from ldf_video.readers.handle import COMMAND, ReaderHandle
from ldf_video.readers.reading import Event, Question, Reading, SourceFound
from ldf_video.readers.wire import WireError
from ldf_video.video.read import Reader, check_reader

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from ldf_video.readers.wire import Header, Message
    from ldf_video.video.geometry import Geometry
    from ldf_video.video.sources import Source

STALL_SECONDS = 60.0
"""A reader that is silent for so long at its work hangs."""
_START_SECONDS = 120.0
_LISTEN_SECONDS = 0.25
_MAX_SECONDS_A_WAIT = 1.0  # what exceeds it this process did not run, and may not blame readers for
_MAX_MESSAGES_A_TURN = 8
_MAX_FAILED_STARTS = 3


class ReaderPool:
    """Reads sources in processes of their own; use it in a `with` block, from one thread.

    A reader that dies is replaced. Its source is gone on with once, carefully, from the frame
    reached; where that kills a reader too, the clip ends there, or fails if it has no frame. A
    reader that is silent while it is listened to is killed, and its clip ends at once.
    """

    def __init__(
        self,
        geometry: Geometry,
        *,
        reader: Reader = "auto",
        num_workers: int,
        stall_seconds: float = STALL_SECONDS,
        command: Sequence[str] = COMMAND,
        question: Question = "look",
        options: Header | None = None,
    ) -> None:
        """Starts nothing yet.

        Args:
            geometry: what frames are brought to.
            reader: of videos, see `open_clips`.
            num_workers: processes at most; 0 reads in a thread of this process, where nothing is
                isolated: for file systems that live in it, and to look for faults.
            stall_seconds: a reader that is silent for so long hangs.
            command: that starts a reader; tests have others.
            question: what is asked of each source: "look" reads it, "probe" and "measure" have one
                `Answered` event instead, with what `video.read` says.
            options: for readers: "hash": False where digests may be zeros; "most": frames to read
                of a source, after which its clip and it end.

        Raises:
            UsageError: if the reader of videos does not exist here.
        """
        check_reader(reader)
        self._geometry, self._reader_name = geometry, reader
        self._question, self._options = question, options
        self._num_workers, self._stall_seconds = max(num_workers, 1), stall_seconds
        self._command = command if num_workers else None
        self._retries: deque[Reading] = deque()  # second tries; they go first
        self._unread: deque[Source] = deque()
        self._found: Reading | None = None  # whose clips may be chosen now
        self._readers: list[ReaderHandle] = []
        self._selector = selectors.DefaultSelector()
        self._num_failed_starts = 0

    def read(self, sources: Sequence[Source]) -> Iterator[Event | None]:
        """Yields what is read of the sources, begun in their order and mingled as it comes.

        Yields:
            The events of each source in order: SourceFound; for each clip chosen one Clip, any
            number of FramesRead and one ClipEnded; at last SourceEnded; or SourceFailed at any
            point. None, at least twice a second, while there is no event.

        Raises:
            LdfError: if readers cannot be started.
        """
        for reader in list(self._readers):
            if reader.reading is not None:  # of a call whose events were not taken to their end
                self._end(reader)
        self._retries.clear()
        self._unread = deque(sources)
        while self._num_waiting() or self._num_busy():
            num_events = 0
            for event in self._turn():
                yield event
                num_events += 1
            if num_events == 0:
                yield None

    def choose(self, first_frames: Sequence[int]) -> None:
        """Chooses clips of the source of the `SourceFound` just given; by default all, whole.

        Args:
            first_frames: for each clip of the source the number of the first frame wanted, SKIP for
                a clip that is not; one number where the source is one clip.

        Raises:
            ValueError: if it is not as long as the source has clips.
        """
        assert self._found is not None
        self._found.choose(first_frames)

    def close(self) -> None:
        """Ends all readers, at once; does nothing the second time."""
        for reader in list(self._readers):
            self._end(reader)
        self._selector.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _num_busy(self) -> int:
        return sum(reader.reading is not None for reader in self._readers)

    def _num_waiting(self) -> int:
        return len(self._retries) + len(self._unread)

    def _next_reading(self) -> Reading:
        if self._retries:
            return self._retries.popleft()
        return Reading(
            self._unread.popleft(),
            self._geometry,
            question=self._question,
            options=self._options,
        )

    def _turn(self) -> Iterator[Event]:
        """Gives readers work, listens to them once, and ends those that hang."""
        self._start_readers()
        for reader in list(self._readers):
            yield from self._assign(reader)
        began = time.monotonic()
        ready = self._selector.select(_LISTEN_SECONDS)
        waited = min(time.monotonic() - began, _MAX_SECONDS_A_WAIT)
        speaking = [key.data for key, _ in ready]
        for reader in self._readers:
            reader.silent_seconds = 0.0 if reader in speaking else reader.silent_seconds + waited
        for reader in speaking:
            yield from self._receive(reader)
        for reader in list(self._readers):
            yield from self._end_if_stalled(reader)

    def _start_readers(self) -> None:
        wanted = min(self._num_workers, self._num_waiting() + self._num_busy())
        while len(self._readers) < wanted:
            try:
                reader = ReaderHandle(
                    self._geometry, reader=self._reader_name, command=self._command
                )
            except OSError as error:
                raise LdfError(
                    f"cannot start a reader: {error.strerror or error}; free memory and processes, "
                    "or use fewer --workers"
                ) from error
            self._readers.append(reader)
            self._selector.register(reader.channel, selectors.EVENT_READ, reader)

    def _assign(self, reader: ReaderHandle) -> Iterator[Event]:
        """Gives an idle reader the next source that needs one."""
        while self._num_waiting() and reader.is_idle and reader in self._readers:
            yield from self._send_next(reader, self._next_reading())

    def _send_next(self, reader: ReaderHandle, reading: Reading) -> Iterator[Event]:
        """Commands what is to be done next for a source, if anything is."""
        command = reading.next_command()
        if command is None:
            reader.reading = None
            yield reading.end()
            return
        reader.reading = reading
        try:
            reader.send(command)
        except OSError:
            yield from self._replace(reader)

    def _receive(self, reader: ReaderHandle) -> Iterator[Event]:
        """Takes messages of a reader, but leaves the others their turn."""
        for _ in range(_MAX_MESSAGES_A_TURN):
            reading, events = reader.reading, list[Event]()
            try:
                message = reader.channel.receive()
                if message is None:
                    return
                events = self._events_of(reader, message)
            except EOFError:
                yield from self._replace(reader)
            except WireError as error:
                yield from self._replace(reader, why=str(error))
            for event in events:
                self._found = reading
                yield event
                if isinstance(event, SourceFound) and reading is not None:
                    yield from self._send_next(reader, reading)
            if reader not in self._readers:
                return
            yield from self._assign(reader)

    def _events_of(self, reader: ReaderHandle, message: Message) -> list[Event]:
        kind, reading = message.header.get("is"), reader.reading
        if kind == "ready":
            reader.is_ready, self._num_failed_starts = True, 0
            return []
        if kind == "broken":
            raise LdfError(f"readers do not start: {message.header.get('reason')}")
        if kind == "alive":
            return []
        if reading is None:
            raise WireError(f"a message {kind!r} out of turn")
        events = reading.on_message(message)
        if reading.is_over:
            reader.reading = None
        return events

    def _replace(self, reader: ReaderHandle, *, why: str = "") -> Iterator[Event]:
        """Ends a reader that died, or whose messages make no sense, and saves its source."""
        reading = reader.reading
        how = self._end(reader, is_gone=not why)
        how = why or how
        if not reader.is_ready:
            self._num_failed_starts += 1
            if self._num_failed_starts == _MAX_FAILED_STARTS:
                raise LdfError(
                    f"readers do not start ({how}); free memory, or use --workers 0 to read without"
                )
        elif reading is not None and not reading.is_second_try:
            reading.begin_second_try()
            self._retries.appendleft(reading)
        elif reading is not None:
            yield from reading.salvage(f"the decoder crashed ({how})")

    def _end_if_stalled(self, reader: ReaderHandle) -> Iterator[Event]:
        if reader not in self._readers:
            return
        reading = reader.reading
        if reading is None:
            if not reader.is_ready and reader.silent_seconds >= _START_SECONDS:
                yield from self._replace(reader, why=f"no word for {_START_SECONDS:g} s")
        elif reader.silent_seconds >= self._stall_seconds:
            self._end(reader)
            yield from reading.on_hang(self._stall_seconds)

    def _end(self, reader: ReaderHandle, *, is_gone: bool = False) -> str:
        self._readers.remove(reader)
        self._selector.unregister(reader.channel)
        reader.reading = None
        return reader.end(is_gone=is_gone)
