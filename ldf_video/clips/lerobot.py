"""Episodes of a LeRobot data set of version 3: many in one mp4, from a time to a time.

Where they lie is in `meta/episodes`, which pyarrow reads:
https://huggingface.co/docs/lerobot/lerobot-dataset-v3
"""

from __future__ import annotations

import contextlib
import importlib
import math
import re
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ldf_video.arrays.frame_array import BLOCK_BYTES, Beside
from ldf_video.clips.actions import OFF
from ldf_video.clips.lerobot_actions import actions_of_episodes, episode_frames
from ldf_video.errors import ReadError, TruncatedError, counted, reason_of
from ldf_video.files.folders import lerobot_info
from ldf_video.sources.folder import all_below
from ldf_video.video.decode import FilmMedia, open_media
from ldf_video.video.media import Media

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import av

    from ldf_video.files.locations import Location

_FILE = re.compile(r"/videos/([^/]+)/chunk-(\d+)/file-(\d+)\.mp4$")
_OF_DATA = ["episode_index", "data/chunk_index", "data/file_index", "dataset_from_index"]
"""Columns of `meta/episodes` that say where an episode's rows are."""


class Episode(NamedTuple):
    """A run of frames of a film, half-open, in frames from its beginning."""

    start: int
    stop: int


def is_lerobot(path: Location) -> bool:
    """Returns whether a file is one of the films of such a data set."""
    return _FILE.search(f"/{path}") is not None and (root_of(path) / "meta" / "episodes").is_dir()


class Listed(NamedTuple):
    """An episode of a film, and where its rows are in the tables of the data set.

    Attributes:
        episode: where its frames are.
        number: of the episode in the data set.
        table: chunk and number of its file in `data`; None where that is not said.
        first_row: in that file.
    """

    episode: Episode
    number: int
    table: tuple[int, int] | None = None
    first_row: int = 0


@contextlib.contextmanager
def open_episodes(
    path: Location, *, threads: int = 0, actions: str = ""
) -> Iterator[Sequence[Media]]:
    """Opens the episodes of one film, in their order; each is decoded where the last one ended.

    Those that begin behind the end of the film are left out; the others say so.

    Args:
        path: of the film.
        threads: of its decoder, see `open_media`.
        actions: what tells of their frames, see `Layout.actions`.

    Raises:
        ReadError: if the film or what describes its episodes cannot be read.
    """
    fps, listed = listed_episodes(path)
    with contextlib.ExitStack() as stack:
        film = stack.enter_context(contextlib.closing(_Film(path, fps, threads)))
        num_frames = film.num_frames()
        there = [one.episode for one in listed if one.episode.start < num_frames]
        missing = counted(len(listed) - len(there), "episode")
        said = f"the film ends before {missing} of {len(listed):,}"
        if not there:
            raise ReadError(said)
        said = said if len(there) < len(listed) else ""
        beside = beside_episodes(path, listed, actions, stack)
        frames = episode_frames(listed)
        media = [EpisodeMedia(film, episode, index, said) for index, episode in enumerate(there)]
        for one, own in zip(media, frames, strict=False):
            one.known_said = beside.said
            if beside.actions is not None:
                one.known = partial(beside.actions.of, 0, own)
        yield media


def content_of_episodes(path: Location, *, actions: str = "") -> Iterator[bytes]:
    """Yields what identifies the episodes of a film, and what tells of their frames."""
    fps, listed = listed_episodes(path)
    yield repr((fps, [one.episode for one in listed])).encode()
    with path.open("rb") as film:
        while block := film.read(BLOCK_BYTES):
            yield block
    with contextlib.ExitStack() as stack:
        beside = beside_episodes(path, listed, actions, stack)
        if beside.actions is not None:
            yield from beside.actions.content()


def beside_episodes(
    path: Location, listed: Sequence[Listed], asked: str, stack: contextlib.ExitStack
) -> Beside:
    """What tells of the frames of a film's episodes; what is wrong with it costs no frame."""
    if asked == OFF:
        return Beside()
    try:
        root = root_of(path)
        found = actions_of_episodes(root, lerobot_info(root), listed, asked, stack)
    except ReadError as error:
        return Beside(said=f"conditions are not used, {error}")
    return Beside() if found is None else Beside(found, f"conditions: {found.said()}")


def listed_episodes(path: Location) -> tuple[Fraction, list[Listed]]:
    """Returns the rate of a film and its episodes, as the data set says.

    Raises:
        ReadError: if it says nothing of this film, or that cannot be read.
    """
    try:
        fps = Fraction(str(lerobot_info(root_of(path))["fps"]))
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


def root_of(path: Location) -> Location:
    """The data set that a film lies in."""
    return path.parent.parent.parent.parent


def _episodes(path: Location, fps: Fraction) -> list[Listed]:
    """The episodes of a film, in order."""
    found = _FILE.search(f"/{path}")
    assert found is not None
    camera, place = found[1], (int(found[2]), int(found[3]))
    names = ["chunk_index", "file_index", "from_timestamp"]
    columns = [*(f"videos/{camera}/{name}" for name in names), "length"]
    listed, first_rows = list[Listed](), dict[tuple[int, int], int]()
    for row in _rows(root_of(path) / "meta" / "episodes", columns):
        chunk, number, begin, length, *of_data = row
        start = round(begin * fps)
        episode, table = Episode(start, start + int(length)), None
        index, data_chunk, data_file, first = of_data
        if None not in of_data:
            table = int(data_chunk), int(data_file)
            first_rows[table] = min(first_rows.get(table, int(first)), int(first))
        if (chunk, number) == place:
            listed.append(Listed(episode, int(index or 0), table, int(first or 0)))
    found_in = [
        one if one.table is None else one._replace(first_row=one.first_row - first_rows[one.table])
        for one in listed
    ]
    return sorted(found_in, key=lambda one: (one.episode, one.number))


def _rows(folder: Location, columns: list[str]) -> Iterator[tuple[Any, ...]]:
    """What the tables of a folder hold in columns that are there and in those of `_OF_DATA`."""
    parquet: Any = importlib.import_module("pyarrow.parquet")
    tables = (entry.name for entry in all_below(folder) if entry.name.endswith(".parquet"))
    for table in tables:
        with (folder / table).open("rb") as file:
            reader = parquet.ParquetFile(file)
            there = [name for name in _OF_DATA if name in reader.schema_arrow.names]
            rows = reader.read(columns=[*columns, *there])
        held = [rows.column(name).to_pylist() for name in columns]
        for name in _OF_DATA:
            held.append(rows.column(name).to_pylist() if name in there else [None] * len(rows))
        yield from zip(*held, strict=True)
