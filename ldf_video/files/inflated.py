"""Parts of files, and what was deflated, to be read at any place in memory that does not grow."""

from __future__ import annotations

import errno
import io
import os
import zlib
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any

RAW, GZIP = -zlib.MAX_WBITS, zlib.MAX_WBITS | 16
"""Formats: as in a zip archive; of one gzip file, or several behind each other."""

_BLOCK_BYTES = 2**16
_SPACING = 2**22
_MOST_CHECKPOINTS = 128  # of about 50 KiB each


@dataclass
class Checkpoints:
    """Places from which inflating can go on, each with what that takes.

    They are 4 MiB apart, further where that would make more than 128, so that a jump back costs
    this much inflating at most, or a hundredth of the file.
    """

    spacing: int = _SPACING
    places: list[int] = field(default_factory=list)  # in what comes out, rising
    _states: list[tuple[int, Any]] = field(default_factory=list)

    def add(self, place: int, state: tuple[int, Any]) -> None:
        """Keeps a place, if it is far enough behind the last one."""
        if place < (self.places[-1] if self.places else 0) + self.spacing:
            return
        self.places.append(place)
        self._states.append((state[0], state[1].copy()))
        if len(self.places) > _MOST_CHECKPOINTS:
            self.spacing *= 2
            self.places, self._states = self.places[1::2], self._states[1::2]

    def before(self, place: int) -> tuple[int, tuple[int, Any] | None]:
        """The last place up to the given one, and its state; 0 and None for the beginning."""
        index = bisect_right(self.places, place) - 1
        if index < 0:
            return 0, None
        begin, inflater = self._states[index]
        return self.places[index], (begin, inflater.copy())


class Part(io.RawIOBase):
    """Something with a size, if that is known, and a position; closes the file that it lies in."""

    def __init__(self, file: Any, size: int | None) -> None:
        super().__init__()
        self._file, self._size, self._position = file, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END and self._size is None:
            raise OSError(errno.EINVAL, "its size is not known")
        position = offset + (0, self._position, self._size or 0)[whence]
        if position < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._position = position
        return position

    def readinto(self, buffer: Any) -> int:
        left = len(buffer) if self._size is None else self._size - self._position
        data = self._bytes(min(len(buffer), left)) if left > 0 else b""
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        try:
            if not self.closed:
                self._file.close()
        finally:
            super().close()

    def _bytes(self, num_bytes: int) -> bytes:
        """The bytes from the position on, so many at most."""
        raise NotImplementedError


class Window(Part):
    """A run of bytes of a file."""

    def __init__(self, file: Any, begin: int, size: int) -> None:
        super().__init__(file, size)
        self._begin = begin

    def _bytes(self, num_bytes: int) -> bytes:
        self._file.seek(self._begin + self._position)
        data: bytes = self._file.read(num_bytes)
        if not data:
            raise OSError("the archive ends early")
        return data


class Inflated(Part):
    """What was deflated; a jump goes on from the last of the checkpoints before it."""

    def __init__(
        self,
        file: Any,
        size: int | None,
        format: int,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        """Reads nothing yet.

        Args:
            file: that begins with what was deflated.
            size: in bytes of what comes out, where it is known; what comes behind is left out.
            format: RAW or GZIP.
            checkpoints: that are shared by those who read the same.
        """
        super().__init__(file, size)
        self._format = format
        self._checkpoints = Checkpoints() if checkpoints is None else checkpoints
        self._go_on(0, None)

    def _bytes(self, num_bytes: int) -> bytes:
        self._go_to(self._position)
        if self._reached != self._position:
            return b""
        data = self._next(num_bytes)
        if not data and self._size is not None:
            raise OSError("it ends early")
        return data

    def _go_on(self, reached: int, state: tuple[int, Any] | None) -> None:
        self._reached = reached
        self._inflater: Any
        self._begin, self._inflater = state or (0, zlib.decompressobj(self._format))
        self._waiting = b""  # read, not inflated yet

    def _go_to(self, place: int) -> None:
        """Inflates up to a place, or to the end before it."""
        if place == self._reached:
            return
        begin, state = self._checkpoints.before(place)
        if place < self._reached or begin > self._reached:
            self._go_on(begin, state)
        while self._reached < place and self._next(min(place - self._reached, _BLOCK_BYTES)):
            pass

    def _next(self, num_bytes: int) -> bytes:
        """The next bytes, so many at most; none at the end."""
        while True:
            if not self._waiting:
                self._file.seek(self._begin)
                self._waiting = self._file.read(_BLOCK_BYTES)
                self._begin += len(self._waiting)
            if self._inflater.eof:
                if self._format != GZIP or not self._waiting.strip(b"\0"):
                    return b""  # padding, or bytes of others
                self._inflater = zlib.decompressobj(self._format)
            if not self._waiting:
                return b""
            try:
                data = self._inflater.decompress(self._waiting, num_bytes)
            except zlib.error as error:
                raise OSError("it is damaged") from error
            self._waiting = self._inflater.unconsumed_tail or self._inflater.unused_data
            if data:
                self._reached += len(data)
                if not self._inflater.eof:
                    state = self._begin - len(self._waiting), self._inflater
                    self._checkpoints.add(self._reached, state)
                return data
