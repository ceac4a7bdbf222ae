"""What one viewer sees and asks for: frames at their rate, keys, a new film, a recording.

Messages of the page are JSON objects; each of their fields is one of `Show._asks`. Messages to the
page are JSON, or a frame: two little-endian uint32, its number and that of the newest message whose
keys acted on it, then RGB bytes, row by row.
"""

from __future__ import annotations

import json
import secrets
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection

from ldf_video.errors import LdfError
from ldf_video.playing.film import Film, Frames
from ldf_video.video.write import VideoWriter

AHEAD = 3
"""Frames that the page has not shown yet, at most: what waits there is delay."""
LATE_SECONDS = 0.1
"""A film that is later than this does not hurry to catch up."""
SPEEDS = (0.1, 10.0)
LARGEST_SEED = 2**31 - 1


class Show:
    """A film, and how it is watched; one viewer at a time.

    Attributes:
        recorded: files that were recorded so far.
    """

    def __init__(
        self,
        film: Film,
        *,
        name: str,
        fps: Fraction,
        folder: Path,
        upscale: int | None = None,
    ) -> None:
        """Show `film` at `fps` frames a second; recordings go to `folder`."""
        self._film, self._name, self._fps = film, name, fps
        self._folder, self._upscale = folder, upscale
        self.recorded: list[Path] = []
        self._recording: ExitStack | None = None
        self._begin()

    def _begin(self) -> None:
        """As a page finds it when it opens."""
        self._film.hold(())
        self._speed, self._is_paused = 1.0, False
        self._made = self._shown = 0

    def __call__(self, viewer: ServerConnection) -> None:
        """Show the film until the connection closes; what is recorded then is kept.

        Raises:
            ConnectionClosed: at the end.
        """
        self._begin()
        self._viewer = viewer
        try:
            self._tell_about()
            self._run()
        finally:
            self._stop_recording()

    def _run(self) -> None:
        due = time.monotonic()
        while True:
            self._listen(until=due)
            frame = next(self._film)
            if self._recording is not None:
                self._record_frame(frame)
            self._made += 1
            head = struct.pack("<II", self._made & 0xFFFFFFFF, self._film.acted)
            self._viewer.send(head + frame.tobytes())
            now = time.monotonic()
            due = max(due, now - LATE_SECONDS) + 1 / (float(self._fps) * self._speed)

    def _listen(self, *, until: float) -> None:
        """Take what the page sends until a frame is due and the page has room for it."""
        while True:
            is_held = self._is_paused or self._made - self._shown >= AHEAD
            wait = None if is_held else max(0.0, until - time.monotonic())
            try:
                message = self._viewer.recv(timeout=wait)
            except TimeoutError:
                return
            self._take(message)

    # -- what a page asks for

    def _take(self, message: str | bytes) -> None:
        """Do what a message asks for; what means nothing is left aside."""
        try:
            asked = json.loads(message)
        except (ValueError, RecursionError):
            return
        for name, value in asked.items() if isinstance(asked, dict) else ():
            if (ask := self._asks.get(name)) is not None:
                ask(self, value)

    def _see(self, value: Any) -> None:
        if _is_whole(value):
            self._shown = min(value, self._made)

    def _hold(self, value: Any) -> None:
        match value:
            case {"number": int(number), "names": list(names)} if 0 <= number < 1 << 32:
                self._film.hold(names, number=number)

    def _pause(self, value: Any) -> None:
        self._is_paused = value is True

    def _set_speed(self, value: Any) -> None:
        if isinstance(value, int | float) and SPEEDS[0] <= value <= SPEEDS[1]:
            self._speed = float(value)

    def _restart(self, value: Any) -> None:
        known = _is_whole(value) and value <= LARGEST_SEED
        self._film.restart(value if known else secrets.randbelow(LARGEST_SEED + 1))
        self._tell(seed=self._film.seed)

    def _record(self, value: Any) -> None:
        if value is not True:
            self._stop_recording()
        elif self._recording is None:
            try:
                writer = VideoWriter(self._free_path(), fps=self._fps, upscale=self._upscale)
            except LdfError as error:
                self._tell(recording=False, note=str(error))
                return
            self._recording, self._writer = ExitStack(), writer
            self._recording.enter_context(writer)
            self._tell(recording=True, note=f"recording {writer.path}")

    _asks: ClassVar[Mapping[str, Callable[[Show, Any], None]]] = {
        "shown": _see,
        "hold": _hold,
        "pause": _pause,
        "speed": _set_speed,
        "restart": _restart,
        "record": _record,
    }

    # -- what is told to the page

    def _tell_about(self) -> None:
        height, width = self._film.size
        self._tell(
            name=self._name,
            height=height,
            width=width,
            fps=float(self._fps),
            seed=self._film.seed,
            actions=[{"name": one.name, "keys": one.keys} for one in self._film.actions],
        )

    def _tell(self, **told: Any) -> None:
        self._viewer.send(json.dumps(told))

    # -- recordings

    def _free_path(self) -> Path:
        number = 1
        while (path := self._folder / f"played-{number:04d}.mp4").exists():
            number += 1
        return path

    def _record_frame(self, frame: Frames) -> None:
        try:
            self._writer.write(frame[None])
        except LdfError as error:
            assert self._recording is not None
            recording, self._recording = self._recording, None
            with suppress(LdfError), recording:  # so that nothing is left of the file
                raise
            self._tell(recording=False, note=str(error))

    def _stop_recording(self) -> None:
        """Finish the file, if one is being written."""
        if self._recording is None:
            return
        recording, self._recording = self._recording, None
        with suppress(ConnectionClosed):  # it may be over because the page has gone
            try:
                recording.close()
                path = self._writer.path
                if is_there := path.exists():  # not without any frame
                    self.recorded.append(path)
                note = f"recorded {path}" if is_there else "nothing was recorded"
                self._tell(recording=False, note=note)
            except LdfError as error:
                self._tell(recording=False, note=str(error))


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
