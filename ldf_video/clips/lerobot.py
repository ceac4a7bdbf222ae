"""Episodes of a LeRobot data set of version 3: many in one mp4, from a time to a time.

Where they lie is in `meta/episodes`, which pyarrow reads:
https://huggingface.co/docs/lerobot/lerobot-dataset-v3
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import re
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

from ldf_video.errors import ReadError, TruncatedError, counted, reason_of
from ldf_video.files.folders import LEROBOT_INFO
from ldf_video.files.locations import list_folder
from ldf_video.video.decode import FilmMedia, open_media
from ldf_video.video.media import Media

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import av

    from ldf_video.files.locations import Location

_FILE = re.compile(r"/videos/([^/]+)/chunk-(\d+)/file-(\d+)\.mp4$")
_INFO_BYTES = 2**24


class Episode(NamedTuple):
    """A run of frames of a film, half-open, in frames from its beginning."""

    start: int
    stop: int


def is_lerobot(path: Location) -> bool:
    """Returns whether a file is one of the films of such a data set."""
    return _FILE.search(f"/{path}") is not None and (_root(path) / "meta" / "episodes").is_dir()


@contextlib.contextmanager
def open_episodes(path: Location, *, threads: int = 0) -> Iterator[Sequence[Media]]:
    """Opens the episodes of one film, in their order; each is decoded where the last one ended.

    Those that begin behind the end of the film are left out; the others say so.

    Raises:
        ReadError: if the film or what describes its episodes cannot be read.
    """
    fps, episodes = episodes_of(path)
    with contextlib.closing(_Film(path, fps, threads)) as film:
        num_frames = film.num_frames()
        there = [episode for episode in episodes if episode.start < num_frames]
        missing = counted(len(episodes) - len(there), "episode")
        said = f"the film ends before {missing} of {len(episodes):,}"
        if not there:
            raise ReadError(said)
        said = said if len(there) < len(episodes) else ""
        yield [EpisodeMedia(film, episode, index, said) for index, episode in enumerate(there)]


def episodes_of(path: Location) -> tuple[Fraction, list[Episode]]:
    """Returns the rate of a film and where its episodes lie, as the data set says.

    Raises:
        ReadError: if it says nothing of this film, or that cannot be read.
    """
    try:
        with (_root(path) / LEROBOT_INFO).open("rb") as file:
            fps = Fraction(str(json.loads(file.read(_INFO_BYTES))["fps"]))
        episodes = _episodes(path, fps)
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise ReadError(f"its episodes cannot be read: {reason_of(error)}") from error
    if not episodes:
        raise ReadError("no episode of the data set lies in this file")
    return fps, episodes


class _Film:
    """The frames of a film, each with its number by its time, read on from where one stopped."""

    def __init__(self, path: Location, fps: Fraction, threads: int) -> None:
        self._path, self.fps, self._threads = path, fps, threads
        self._stack = contextlib.ExitStack()
        self._frames: Iterator[av.VideoFrame] = iter(())
        self._next: tuple[int, av.VideoFrame] | None = None
        self._begin_seconds = Fraction(0)
        self._num_read, self._last = 0, -1  # the number of the last frame that was given
        self.media = self._open()

    def num_frames(self) -> float:
        """How many there are by the film's own header; without end where that does not say.

        Of a film that is cut short, how many its packets are good for.
        """
        media = self.media
        if not isinstance(media, FilmMedia):
            return math.inf
        if media.is_cut_short:
            # None shows before its dts, so all that shows up to the last one's is there.
            first, last = math.inf, -math.inf
            for packet in media.packets:
                if packet.pts is not None and packet.dts is not None:
                    first, last = min(first, packet.pts), max(last, packet.dts)
            self.media = self._open()
            if last < first:
                return 0
            return math.floor((int(last) - int(first)) * media.time_base * self.fps) + 1
        if not media.stream.duration:
            return math.inf
        return round(media.stream.duration * media.time_base * self.fps)

    def close(self) -> None:
        self._stack.close()

    def part(self, episode: Episode) -> Iterator[av.VideoFrame]:
        """Yields the frames of an episode; the first that does not belong to it is kept.

        Where another episode was read on the way, the film is read again.
        """
        wanted = episode.start
        while wanted < episode.stop:
            if self._last >= wanted:
                self.media = self._open()
            numbered = self._peek()
            if numbered is None or numbered[0] >= episode.stop:
                return
            self._last, self._next = numbered[0], None
            if numbered[0] >= wanted:
                wanted = numbered[0] + 1
                yield numbered[1]

    def _open(self) -> Media:
        self._stack.close()
        media = self._stack.enter_context(open_media(self._path, threads=self._threads))
        self._frames, self._next, self._num_read, self._last = media.frames(), None, 0, -1
        return media

    def _peek(self) -> tuple[int, av.VideoFrame] | None:
        if self._next is None:
            frame = None
            with contextlib.suppress(TruncatedError):  # each episode says what it lacks
                frame = next(self._frames, None)
            if frame is not None:
                self._next = self._number(frame), frame
        return self._next

    def _number(self, frame: av.VideoFrame) -> int:
        number = self._num_read
        self._num_read += 1
        if frame.pts is None or frame.time_base is None:
            return number
        seconds = frame.pts * frame.time_base
        if number == 0:
            self._begin_seconds = seconds
        return round((seconds - self._begin_seconds) * self.fps)


class EpisodeMedia(Media):
    """One episode as a clip."""

    def __init__(self, film: _Film, episode: Episode, index: int, said: str) -> None:
        """Reads nothing yet; `said` is what a user must know of the film."""
        self._film, self._episode, self._said = film, episode, said
        media = film.media
        self.container_name, self.codec_name = media.container_name, media.codec_name
        self.sample_aspect_ratio, self.source_size = media.sample_aspect_ratio, media.source_size
        self.fps, self.index = film.fps, index

    def position(self) -> float:
        return self._film.media.position()

    def note(self) -> str:
        return self._said

    def frames(self, first: int = 0) -> Iterator[av.VideoFrame]:
        count, expected = 0, self._episode.stop - self._episode.start
        for frame in self._film.part(self._episode):
            count += 1
            yield frame
        if count < expected:
            why = f"{expected - count:,} of {expected:,} frames of the episode are not in the file"
            raise TruncatedError(why) if count else ReadError(why)


def _root(path: Location) -> Location:
    """The data set that a film lies in."""
    return path.parent.parent.parent.parent


def _episodes(path: Location, fps: Fraction) -> list[Episode]:
    """The episodes of a film, in order."""
    found = _FILE.search(f"/{path}")
    assert found is not None
    camera, place = found[1], (int(found[2]), int(found[3]))
    names = ["chunk_index", "file_index", "from_timestamp"]
    columns = [f"videos/{camera}/{name}" for name in names]
    parquet: Any = importlib.import_module("pyarrow.parquet")
    episodes = []
    for table in _tables(_root(path) / "meta" / "episodes"):
        with table.open("rb") as file:
            rows = parquet.read_table(file, columns=[*columns, "length"])
        held = [rows.column(name).to_pylist() for name in (*columns, "length")]
        for chunk, number, begin, length in zip(*held, strict=True):
            if (chunk, number) == place:
                start = round(begin * fps)
                episodes.append(Episode(start, start + int(length)))
    return sorted(episodes)


def _tables(folder: Location) -> Iterator[Location]:
    for entry in sorted(list_folder(folder), key=lambda entry: entry.name):
        if entry.is_folder:
            yield from _tables(folder / entry.name)
        elif entry.name.endswith(".parquet"):
            yield folder / entry.name
