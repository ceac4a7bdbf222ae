"""Many sources read at once by processes that may crash and hang, each at the cost of one clip."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Self, TypeAlias

from ldf_video.clips.read import check_reader
from ldf_video.errors import LdfError
from ldf_video.readers.process import COMMAND, LISTEN_SECONDS, START_SECONDS, Process
from ldf_video.readers.reading import Event, Question, Reading
from ldf_video.readers.wire import Header, WireError, block_bytes
from ldf_video.readers.worker import answers, geometry_to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ldf_video.options.reading import Reader
    from ldf_video.sources.source import Source
    from ldf_video.video.geometry import Geometry

STALL_SECONDS = 60.0
"""A reader that is silent for so long at its work hangs."""
_MAX_FAILED_STARTS = 3


class ReaderPool:
    """Reads sources in processes of their own; use it in a `with` block, from one thread.

    A thread for each process waits for its messages. A reader that dies is replaced. Its source is
    gone on with once, carefully, from the frame reached; where that kills a reader too, the clip
    ends there, or fails if it has no frame, and the clips behind it in the source are read. A
    reader that is silent while it is listened to is killed, and its clip ends at once.
    """

    def __init__(
        self,
        geometry: Geometry,
        *,
        num_workers: int,
        reader: Reader = "auto",
        stall_seconds: float = STALL_SECONDS,
        command: Sequence[str] = COMMAND,
        hashed: bool = True,
        most_frames: int | None = None,
    ) -> None:
        """Starts nothing yet.

        Args:
            geometry: what frames are brought to.
            num_workers: processes at most; 0 reads in the caller's thread, where nothing is
                isolated: for file systems that live in it, and to look for faults.
            reader: of videos, see `open_clips`.
            stall_seconds: a reader that is silent for so long hangs.
            command: that starts a reader.
            hashed: whether digests are wanted; else they are zeros.
            most_frames: to read of a source, after which its clip and it end.

        Raises:
            UsageError: if the reader of videos does not exist here.
        """
        check_reader(reader)
        self._num_workers, self._stall_seconds, self._command = num_workers, stall_seconds, command
        self._wishes: Header = {
            "geometry": geometry_to_json(geometry),
            "reader": reader,
            "hashed": hashed,
            "most_frames": most_frames,
        }
        self._block_bytes = block_bytes(geometry.height * geometry.width * 3)
        self._idle: deque[Process] = deque()
        self._threads: list[_Thread] = []  # of the last call

    def read(
        self, sources: Sequence[Source], *, question: Question = "look"
    ) -> Iterator[Event | None]:
        """Yields what is read of the sources, begun in their order and mingled as it comes.

        Args:
            sources: any number; a call that is not taken to its end is ended by the next one.
            question: "look" reads them, "probe" and "measure" have one `Answered` event of each
                instead, with what `clips.read` says.

        Yields:
            The events of each source in order: SourceFound; for each clip wanted one Clip, any
            number of FramesRead and one ClipEnded; at last SourceEnded; or SourceFailed at any
            point. None, at least twice a second, while there is no event of a process.

        Raises:
            LdfError: if readers cannot be started.
        """
        self._stop(self._threads)
        # Of a million sources each is begun when its turn comes. Threads can share a map.
        readings = map(partial(Reading, wishes=self._wishes, question=question), sources)
        if not self._num_workers:
            for reading in readings:
                while not reading.has_ended:
                    yield from reading.events(answers)
            return
        given: _Given = queue.SimpleQueue()
        threads = [
            _Thread(readings, given, idle=self._idle, start=self._start)
            for _ in range(min(self._num_workers, len(sources)))
        ]
        self._threads = threads
        try:
            for thread in threads:
                try:
                    thread.start()
                except RuntimeError as error:
                    raise _cannot_start(str(error)) from error
            num_open = len(threads)
            while num_open:
                try:
                    thread, event = given.get(timeout=LISTEN_SECONDS)
                except queue.Empty:
                    yield None
                    continue
                if isinstance(event, BaseException):
                    raise event
                if event is None:
                    num_open -= 1
                    continue
                yield event
                thread.used.release()
        finally:
            self._stop(threads)

    def close(self) -> None:
        """Ends all readers, at once; does nothing the second time."""
        self._stop(self._threads)
        while self._idle:
            self._idle.pop().end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _start(self) -> Process:
        try:
            return Process(
                self._command, block_bytes=self._block_bytes, stall_seconds=self._stall_seconds
            )
        except OSError as error:
            raise _cannot_start(error.strerror or str(error)) from error

    @staticmethod
    def _stop(threads: Sequence[_Thread]) -> None:
        for thread in threads:
            thread.stop()
        for thread in threads:
            if thread.ident is not None:  # else it was never started
                thread.join()


def _cannot_start(reason: str) -> LdfError:
    return LdfError(
        f"cannot start a reader: {reason}; free memory and processes, or use fewer --workers"
    )


_Given: TypeAlias = "queue.SimpleQueue[tuple[_Thread, Event | BaseException | None]]"


class _Thread(threading.Thread):
    """Reads sources by a process, one after another.

    Attributes:
        used: to be released when an event that it gave has been used; then it goes on.
    """

    def __init__(
        self,
        readings: Iterator[Reading],
        given: _Given,
        *,
        idle: deque[Process],
        start: Callable[[], Process],
    ) -> None:
        super().__init__(name="reader", daemon=True)
        self._readings, self._given = readings, given
        self._idle, self._start_process = idle, start
        self._lock = threading.Lock()  # of these two
        self._process: Process | None = None
        self._is_stopped = False
        self.used = threading.Semaphore(0)

    def stop(self) -> None:
        """Ends its process, and soon itself."""
        with self._lock:
            self._is_stopped = True
            if self._process is not None:
                self._process.stop()
        self.used.release()

    def run(self) -> None:
        """Gives events, or the exception that ends the call; at last None."""
        try:
            for reading in self._readings:
                self._read(reading)
            with self._lock:
                if self._process is not None and not self._is_stopped:
                    self._idle.append(self._process)
                    self._process = None
        except _StoppedError:
            pass
        except BaseException as error:
            self._given.put((self, error))
        finally:
            self._end_process()
            self._given.put((self, None))

    def _read(self, reading: Reading) -> None:
        for event in self._events(reading):
            self._given.put((self, event))
            self.used.acquire()
            if self._is_stopped:
                raise _StoppedError

    def _events(self, reading: Reading) -> Iterator[Event]:
        """The events of a source, by one process after another until it has ended."""
        num_failed_starts = 0
        while not reading.has_ended:
            process = self._take_process()
            try:
                yield from reading.events(process.answers)
            except TimeoutError:
                self._end_process()
                if process.is_ready:
                    yield from reading.on_hang(process.stall_seconds)
                    continue
                how = f"no word for {START_SECONDS:g} s"
            except EOFError:
                how = self._end_process(is_gone=True)
            except WireError as error:
                self._end_process()
                how = str(error)
            else:
                continue
            if not process.is_ready:
                num_failed_starts += 1
                if num_failed_starts == _MAX_FAILED_STARTS:
                    raise LdfError(
                        f"readers do not start ({how}); free memory, or use --workers 0 to read "
                        "without"
                    )
            elif reading.is_second_try:
                yield from reading.salvage(f"the decoder crashed ({how})")
            else:
                reading.begin_second_try()

    def _take_process(self) -> Process:
        with self._lock:
            if self._is_stopped:
                raise _StoppedError
            if self._process is None:
                with contextlib.suppress(IndexError):  # another thread may take the last one
                    self._process = self._idle.pop()
            if self._process is None:
                self._process = self._start_process()
            return self._process

    def _end_process(self, *, is_gone: bool = False) -> str:
        with self._lock:
            process, self._process = self._process, None
        return "" if process is None else process.end(is_gone=is_gone)


class _StoppedError(Exception):
    """The caller wants no more events."""
