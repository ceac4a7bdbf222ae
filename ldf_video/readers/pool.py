"""Many sources read at once by processes that may crash and hang, each at the cost of one clip."""

from __future__ import annotations

import selectors
import time
from collections import deque
from typing import TYPE_CHECKING, Self

from ldf_video.errors import LdfError
from ldf_video.readers.events import (
    ClipBegun,
    ClipEnded,
    Event,
    FramesRead,
    Plan,
    SourceEnded,
    SourceFailed,
)
from ldf_video.readers.handle import COMMAND, STALL_SECONDS, START_SECONDS, ReaderHandle
from ldf_video.readers.reading import Reading
from ldf_video.readers.wire import WireError
from ldf_video.video.read import Reader, check_reader

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from ldf_video.readers.wire import Header, Message
    from ldf_video.video.geometry import Geometry
    from ldf_video.video.sources import Source

__all__ = [
    "ClipBegun",
    "ClipEnded",
    "Event",
    "FramesRead",
    "Plan",
    "ReaderPool",
    "SourceEnded",
    "SourceFailed",
]

_LISTEN_SECONDS = 0.25
_MAX_SECONDS_A_WAIT = 1.0  # what exceeds it this process did not run, and may not blame readers for
_MAX_MESSAGES_A_TURN = 8
_MAX_FAILED_STARTS = 3


class ReaderPool:
    """Reads sources in processes of their own; use it in a `with` block, from one thread.

    A reader that dies is replaced. Its source is gone on with once, carefully, from the frame
    reached; where that kills a reader too, the clip ends there, or fails if it has no frame. A
    reader that says nothing while it is listened to is killed, and its clip ends at once.
    """

    def __init__(
        self,
        geometry: Geometry,
        *,
        reader: Reader = "auto",
        num_workers: int,
        stall_seconds: float = STALL_SECONDS,
        command: Sequence[str] = COMMAND,
        options: Header | None = None,
    ) -> None:
        """Starts nothing yet.

        Args:
            geometry: what frames are brought to.
            reader: of videos, see `open_clips`.
            num_workers: processes at most; 0 reads in a thread of this process, where nothing is
                isolated: for file systems that live in it, and to look for faults.
            stall_seconds: after so long without a word a reader hangs.
            command: that starts a reader; tests have others.
            options: told to readers: "hash": False where digests may be zeros; "most": frames to
                read of a source, after which its clip and it end.

        Raises:
            UsageError: if the reader of videos does not exist here.
        """
        check_reader(reader)
        self._geometry, self._reader_name, self._options = geometry, reader, options
        self._num_workers, self._stall_seconds = max(num_workers, 1), stall_seconds
        self._command = command if num_workers else None
        self._again: deque[Reading] = deque()  # second tries; they go first
        self._sources: Sequence[Source] = ()
        self._num_begun = 0  # of the sources
        self._readers: list[ReaderHandle] = []
        self._selector = selectors.DefaultSelector()
        self._num_failed_starts = 0

    def read(self, sources: Sequence[Source], plan: Plan) -> Iterator[Event | None]:
        """Yields what is read of the sources, begun in their order and mingled as it comes.

        Args:
            sources: to be read.
            plan: asked once a source's content is known which clips are wanted, from where on.

        Yields:
            The events of each source in order: for each clip wanted one ClipBegun, any number of
            FramesRead and one ClipEnded, at last SourceEnded; or SourceFailed at any point. None,
            at least twice a second, while there is no event.

        Raises:
            LdfError: if readers cannot be started.
        """
        for reader in list(self._readers):
            if reader.reading is not None:  # of a call that was not listened to until its end
                self._end(reader)
        self._again.clear()
        self._sources, self._num_begun = sources, 0
        while self._num_waiting() or self._num_busy():
            num_events = 0
            for event in self._turn(plan):
                yield event
                num_events += 1
            if num_events == 0:
                yield None

    def close(self) -> None:
        """Ends all readers, at once; does nothing the second time."""
        for reader in list(self._readers):
            self._end(reader)
        self._again.clear()
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
        return len(self._again) + len(self._sources) - self._num_begun

    def _next_reading(self) -> Reading:
        if self._again:
            return self._again.popleft()
        self._num_begun += 1
        source = self._sources[self._num_begun - 1]
        return Reading(source, self._geometry, options=self._options)

    def _turn(self, plan: Plan) -> Iterator[Event]:
        """Gives readers work, listens to them once, and ends those that hang."""
        self._start_readers()
        for reader in list(self._readers):
            if reader.is_idle:
                yield from self._hand_out(reader, plan)
        began = time.monotonic()
        ready = self._selector.select(_LISTEN_SECONDS)
        waited = min(time.monotonic() - began, _MAX_SECONDS_A_WAIT)
        heard = [key.data for key, _ in ready]
        for reader in self._readers:
            reader.silent_seconds = 0.0 if reader in heard else reader.silent_seconds + waited
        for reader in heard:
            yield from self._hear(reader, plan)
        for reader in list(self._readers):
            yield from self._end_if_stalled(reader)

    # -- work

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

    def _hand_out(self, reader: ReaderHandle, plan: Plan) -> Iterator[Event]:
        """Gives an idle reader the next source that needs one."""
        while self._num_waiting() and reader.is_idle and reader in self._readers:
            yield from self._go_on(reader, self._next_reading(), plan)

    def _go_on(self, reader: ReaderHandle, reading: Reading, plan: Plan) -> Iterator[Event]:
        """Tells a reader what is to be done next for a source, if anything is."""
        reader.reading = None
        command = reading.command(plan)
        if command is None:
            yield reading.end()
            return
        reader.reading = reading
        try:
            reader.tell(command)
        except OSError:
            yield from self._lost(reader)

    # -- what readers say

    def _hear(self, reader: ReaderHandle, plan: Plan) -> Iterator[Event]:
        """Takes what a reader has said, but leaves the others their turn."""
        for _ in range(_MAX_MESSAGES_A_TURN):
            if reader not in self._readers:  # ended by who got the last event
                return
            reading, events = reader.reading, list[Event]()
            try:
                message = reader.channel.receive()
                if message is not None:
                    events = self._understand(reader, message)
            except EOFError:
                yield from self._lost(reader)
                return
            except WireError as error:
                yield from self._lost(reader, why=str(error))
                return
            if message is None:
                return
            yield from events
            if reading is not None and message.header["is"] == "digested":
                yield from self._go_on(reader, reading, plan)
            if reader.is_idle:
                yield from self._hand_out(reader, plan)

    def _understand(self, reader: ReaderHandle, message: Message) -> list[Event]:
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
        events = reading.hear(message)
        if reading.is_over:
            reader.reading = None
        return events

    def _lost(self, reader: ReaderHandle, *, why: str = "") -> Iterator[Event]:
        """Ends a reader that died, or is to die as it talks nonsense, and saves what it was at."""
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
            self._again.appendleft(reading)
        elif reading is not None:
            yield from reading.break_off(f"the decoder crashed ({how})")

    def _end_if_stalled(self, reader: ReaderHandle) -> Iterator[Event]:
        if reader not in self._readers:
            return
        reading = reader.reading
        if reading is None:
            if not reader.is_ready and reader.silent_seconds >= START_SECONDS:
                yield from self._lost(reader, why=f"no word for {START_SECONDS:g} s")
            return
        if reader.silent_seconds < self._stall_seconds:
            return
        self._end(reader)
        yield from reading.hang(self._stall_seconds)

    def _end(self, reader: ReaderHandle, *, is_gone: bool = False) -> str:
        self._readers.remove(reader)
        self._selector.unregister(reader.channel)
        reader.reading = None
        return reader.end(is_gone=is_gone)
