"""The manifest, `manifest.sqlite`: the truth about which rows belong to which clip and source."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ldf_video.errors import StoreError
from ldf_video.store.shards import Position, Run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    import numpy.typing as npt

MANIFEST = "manifest.sqlite"
BUSY_SECONDS = 60.0
FINISHED = ("complete", "salvaged")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS clips (
    clip_id TEXT NOT NULL PRIMARY KEY, num_frames INTEGER NOT NULL,
    fps_num INTEGER NOT NULL, fps_den INTEGER NOT NULL, status TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS extents (
    clip_id TEXT NOT NULL, first_frame INTEGER NOT NULL, shard INTEGER NOT NULL,
    start INTEGER NOT NULL, num_frames INTEGER NOT NULL, crc32 INTEGER NOT NULL,
    PRIMARY KEY (clip_id, first_frame)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sources (
    source TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, clip_id TEXT NOT NULL,
    PRIMARY KEY (source, clip_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS quarantine (
    source TEXT NOT NULL PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    reason TEXT NOT NULL) WITHOUT ROWID;
"""

# an extent that ends before a frame; whatever its types are, it is one or it is not
_BEFORE = """
typeof(first_frame) = 'integer' AND typeof(num_frames) = 'integer'
AND first_frame >= 0 AND num_frames > 0 AND first_frame + num_frames <= ?"""

_DISK_ERRORS = {
    *(sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_READONLY),
    *(sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN),
}
"""SQLite's error codes where the file system is the cause."""


class Source(NamedTuple):
    """One clip of one source, relative to CLIPS; a source of several clips has a row for each."""

    source: str
    size: int
    mtime_ns: int
    clip_id: str


class Quarantined(NamedTuple):
    """A source that could not be read, with its size in bytes, its time and why."""

    source: str
    size: int
    mtime_ns: int
    reason: str


@dataclass(frozen=True)
class ClipRecord:
    """A clip's row; the status is "partial" until all its frames are there."""

    num_frames: int
    fps: Fraction
    status: str


@dataclass(frozen=True)
class SourceRecord:
    """What a source of this size and time gave: clips, or a reason why it is in quarantine."""

    size: int
    mtime_ns: int
    clip_ids: tuple[str, ...]
    reason: str | None = None


def encode_name(name: str) -> bytes:
    """A file name as bytes for a query: SQLite takes no text that is not UTF-8."""
    return name.encode("utf-8", "surrogateescape")


def _decode_name(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def connect(root: Path) -> sqlite3.Connection:
    """Open a store's manifest, which exists, with explicit transactions."""
    # "rw" also for readers: only it can undo what a killed writer left half-written. Where nothing
    # may be written it falls back to reading.
    uri = f"{(root / MANIFEST).absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
    connection.text_factory = _decode_name
    return connection


def create_manifest(root: Path) -> None:
    """Create an empty manifest where there is none."""
    (root / MANIFEST).touch()
    connection = connect(root)
    try:
        connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
    finally:
        connection.close()


@contextmanager
def reading(root: Path) -> Iterator[sqlite3.Connection]:
    """Give one consistent view of the manifest; what SQLite cannot read is a StoreError.

    Raises:
        StoreError: the manifest is missing or damaged.
    """
    try:
        connection = connect(root)
        try:
            connection.executescript("PRAGMA query_only = ON; BEGIN")
            yield connection
        finally:
            connection.close()
    except (sqlite3.Error, OverflowError, ValueError, TypeError) as error:
        raise _unreadable(root / MANIFEST, error, instead="use another store") from error


def select(parts: Iterable[Path], query: str) -> Iterator[tuple[Any, ...]]:
    """The rows that a query gives for each of some parts, one part after the other, as of now.

    Raises:
        StoreError: a manifest is missing or damaged.
    """
    for part in parts:
        with reading(part) as connection:
            yield from connection.execute(query)


def read_records(
    connection: sqlite3.Connection, rows: str, *numbers: str, values: tuple[int, ...] = ()
) -> npt.NDArray[np.void]:
    """Read rows of a table as records (n,) of the clip's `id` (bytes) and of numbers (int64).

    Args:
        connection: to a manifest.
        rows: the table, and which of its rows in which order, in SQL.
        numbers: columns to read.
        values: for the question marks in `rows`.

    Raises:
        sqlite3.Error: the manifest cannot be read.
        ValueError, OverflowError, TypeError: a value that is no such number, or no ASCII id.
    """
    query = f"SELECT max(length(CAST(clip_id AS BLOB))) FROM {rows}"
    width = connection.execute(query, values).fetchone()[0] or 1
    dtype = np.dtype([("id", f"S{width}"), *((name, np.int64) for name in numbers)])
    columns = ", ".join(("clip_id", *numbers))
    return np.fromiter(connection.execute(f"SELECT {columns} FROM {rows}", values), dtype)


class Manifest:
    """The writer's connection: look-ups, and transactions whose failure is a `sqlite3.Error`.

    Opening and look-ups raise StoreError where the manifest is missing or damaged.

    Args:
        root: the part's directory.
        foreign: another process may write it. If not, the view that look-ups share is kept until
            the next transaction: to lock and check the file for each takes longer than they do.
    """

    def __init__(self, root: Path, *, foreign: bool = False) -> None:
        self._path = root / MANIFEST
        self._foreign = foreign
        try:
            self._connection = connect(root)
            # A journal that is rolled back, not a write-ahead log: a store on a read-only disk must
            # open. FULL: a commit is on disk when it returns.
            self._connection.executescript("PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY")
        except sqlite3.Error as error:
            raise _unreadable(self._path, error) from error

    def close(self) -> None:
        """Drop an unfinished transaction and the connection."""
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all that is done inside visible at once, or nothing of it."""
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")  # only look-ups
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def shard_ends(self) -> dict[int, int]:
        """Rows that the manifest points at, by shard."""
        query = "SELECT shard, max(start + num_frames) FROM extents GROUP BY shard ORDER BY shard"
        ends = dict(self._query(query))
        for shard, num_rows in ends.items():
            if not (isinstance(shard, int) and isinstance(num_rows, int) and shard >= 0 < num_rows):
                raise StoreError(
                    f"the manifest points at rows to {num_rows!r} of shard {shard!r}:"
                    " it is damaged, encode --verify says where"
                )
        return ends

    def clip(self, clip_id: str) -> ClipRecord | None:
        """Look a clip up."""
        query = "SELECT num_frames, fps_num, fps_den, status FROM clips WHERE clip_id = ?"
        rows = self._query(query, clip_id)
        return ClipRecord(rows[0][0], Fraction(*rows[0][1:3]), rows[0][3]) if rows else None

    def source(self, source: str) -> SourceRecord | None:
        """Look a source up, in quarantine or not."""
        name = encode_name(source)
        query = "SELECT size, mtime_ns, clip_id FROM sources WHERE source = CAST(? AS TEXT)"
        if rows := self._query(query, name):
            return SourceRecord(rows[0][0], rows[0][1], tuple(row[2] for row in rows))
        query = "SELECT size, mtime_ns, reason FROM quarantine WHERE source = CAST(? AS TEXT)"
        rows = self._query(query, name)
        return SourceRecord(rows[0][0], rows[0][1], (), rows[0][2]) if rows else None

    def _query(self, query: str, *values: Any) -> list[Any]:
        try:
            if not (self._foreign or self._connection.in_transaction):
                self._connection.execute("BEGIN")
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise _unreadable(self._path, error) from error

    def drop_frames(self, first_lost: Mapping[str, int]) -> tuple[int, int]:
        """Forget the frames of clips from the first lost one on; the clips are partial then.

        A clip without any extent is forgotten; its sources are not.

        Args:
            first_lost: the first lost frame of each clip.

        Returns:
            How many clips lost something, and how many frames in all.
        """
        execute = self._connection.execute
        num_frames = 0
        for clip_id, frame in first_lost.items():
            record = execute(
                "SELECT num_frames FROM clips WHERE clip_id = ?", (clip_id,)
            ).fetchone()
            execute(f"DELETE FROM extents WHERE clip_id = ? AND NOT ({_BEFORE})", (clip_id, frame))
            query = "SELECT max(first_frame + num_frames) FROM extents WHERE clip_id = ?"
            end = execute(query, (clip_id,)).fetchone()[0] or 0
            change = "UPDATE clips SET num_frames = ?, status = 'partial' WHERE clip_id = ?"
            execute(change, (end, clip_id))
            execute("DELETE FROM clips WHERE clip_id = ? AND num_frames = 0", (clip_id,))
            if record is not None and isinstance(record[0], int):
                num_frames += max(0, record[0] - end)
        return len(first_lost), num_frames

    def put_clips(self, clips: Mapping[str, ClipRecord]) -> None:
        """Replace the rows of clips."""
        self._connection.executemany(
            "INSERT OR REPLACE INTO clips VALUES (?, ?, ?, ?, ?)",
            (
                (clip_id, clip.num_frames, clip.fps.numerator, clip.fps.denominator, clip.status)
                for clip_id, clip in clips.items()
            ),
        )

    def add_runs(self, clip_id: str, runs: Iterable[Run], *, first_frame: int) -> None:
        """Add the extents of a clip's frames from one on."""
        for run in runs:
            self._connection.execute(
                "INSERT INTO extents VALUES (?, ?, ?, ?, ?, ?)",
                (clip_id, first_frame, run.shard, run.start, run.num_frames, run.crc32),
            )
            first_frame += run.num_frames

    def put_sources(self, sources: Mapping[str, SourceRecord]) -> None:
        """Replace what each source pointed at, by clips or by a reason for the quarantine."""
        execute = self._connection.execute
        for source, record in sources.items():
            name = encode_name(source)
            execute("DELETE FROM sources WHERE source = CAST(? AS TEXT)", (name,))
            execute("DELETE FROM quarantine WHERE source = CAST(? AS TEXT)", (name,))
            stamp = (name, record.size, record.mtime_ns)
            if record.reason is not None:
                row = (*stamp, encode_name(record.reason))
                execute(
                    "INSERT INTO quarantine VALUES (CAST(? AS TEXT), ?, ?, CAST(? AS TEXT))", row
                )
            for clip_id in record.clip_ids:
                execute("INSERT INTO sources VALUES (CAST(? AS TEXT), ?, ?, ?)", (*stamp, clip_id))

    def keep_sources(self, present: Iterable[str]) -> None:
        """Forget every source, and every one in quarantine, that is not `present`."""
        execute = self._connection.execute
        execute("CREATE TEMP TABLE present (source TEXT PRIMARY KEY) WITHOUT ROWID")
        self._connection.executemany(
            "INSERT OR IGNORE INTO present VALUES (CAST(? AS TEXT))",
            ((encode_name(source),) for source in present),
        )
        execute("DELETE FROM sources WHERE source NOT IN (SELECT source FROM present)")
        execute("DELETE FROM quarantine WHERE source NOT IN (SELECT source FROM present)")
        execute("DROP TABLE present")


def _unreadable(path: Path, error: Exception, *, instead: str = "use another --out") -> StoreError:
    """Say what SQLite cannot read: the file is damaged, or the disk does not give it."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    if path.exists() and code & 0xFF in _DISK_ERRORS and code != sqlite3.SQLITE_IOERR_SHORT_READ:
        return StoreError(f"{path} cannot be read ({error}): see to its permissions and the disk")
    return StoreError(f"{path} is damaged or missing ({error}): {instead}")


def last_position(shard_ends: Mapping[int, int]) -> Position:
    """Where the row after the last committed one goes."""
    shard = max(shard_ends, default=0)
    return Position(shard, shard_ends.get(shard, 0))
