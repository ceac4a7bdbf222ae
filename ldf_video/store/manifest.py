"""The manifest, `manifest.sqlite`: the truth about which rows belong to which clip and source."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from fractions import Fraction
from itertools import islice
from typing import TYPE_CHECKING, Any

from ldf_video.errors import StoreError
from ldf_video.store.records import ClipRecord, ColumnRecord, SourceRecord
from ldf_video.store.shards import Position

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from ldf_video.store.shards import Run

MANIFEST = "manifest.sqlite"
BUSY_SECONDS = 60.0

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

_CUTS = """
CREATE TABLE IF NOT EXISTS cuts (
    clip_id TEXT NOT NULL, frame INTEGER NOT NULL, PRIMARY KEY (clip_id, frame)) WITHOUT ROWID
"""
"""Made with the first cut: stores of earlier versions have none."""

_LABELS = """
CREATE TABLE IF NOT EXISTS labels (source TEXT NOT NULL PRIMARY KEY, label TEXT NOT NULL)
WITHOUT ROWID
"""

_CONDITIONS = (
    "CREATE TABLE IF NOT EXISTS columns (number INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL,"
    " kind TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS names (number INTEGER NOT NULL, code INTEGER NOT NULL,"
    " name TEXT NOT NULL, PRIMARY KEY (number, code)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS conditions (clip_id TEXT NOT NULL, first_frame INTEGER NOT NULL,"
    " crc32 INTEGER NOT NULL, PRIMARY KEY (clip_id, first_frame)) WITHOUT ROWID",
)
"""Made with the first conditions: of which columns they are, what the codes of names mean, and of
which extents something is known."""

# an extent that ends before a frame; whatever its types are, it is one or it is not
_BEFORE = """
typeof(first_frame) = 'integer' AND typeof(num_frames) = 'integer'
AND first_frame >= 0 AND num_frames > 0 AND first_frame + num_frames <= ?"""

_DISK_ERRORS = {
    *(sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_READONLY),
    *(sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN),
}
"""SQLite's error codes where the file system is the cause."""


def connect(root: Path) -> sqlite3.Connection:
    """Open a store's manifest, which exists, with explicit transactions."""
    # "rw" also for readers: only it can undo what a killed writer left half-written. Where nothing
    # may be written it falls back to reading.
    uri = f"{(root / MANIFEST).absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
    connection.text_factory = lambda name: name.decode("utf-8", "surrogateescape")
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
    """Give one consistent view of the manifest; what SQLite cannot read is a StoreError."""
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


def read_labels(part: Path) -> dict[str, str]:
    """Read the labels of a part's sources."""
    with reading(part) as connection:
        known = has_table(connection, "labels")
        return dict(connection.execute("SELECT source, label FROM labels")) if known else {}


def read_columns(part: Path) -> list[ColumnRecord]:
    """Read which columns a part's conditions have, in the order of their file."""
    with reading(part) as connection:
        if not has_table(connection, "columns"):
            return []
        return _columns(lambda query: connection.execute(query).fetchall())


def _columns(ask: Callable[[str], Sequence[Any]]) -> list[ColumnRecord]:
    """A ValueError or TypeError where they make no sense."""
    rows = ask("SELECT number, name, kind FROM columns ORDER BY number")
    columns = [ColumnRecord(str(name), str(kind)) for _, name, kind in rows]
    if [number for number, *_ in rows] != list(range(len(columns))):
        raise ValueError("columns are not numbered in turn")
    for number, code, name in ask("SELECT number, code, name FROM names ORDER BY number, code"):
        if not 0 <= number < len(columns) or code != len(columns[number].names):
            raise ValueError("codes of names are not in turn")
        columns[number].names.append(str(name))
    return columns


TOLD = (
    "SELECT e.clip_id, e.first_frame, e.shard, e.start, e.num_frames, c.crc32"
    " FROM extents e JOIN conditions c USING (clip_id, first_frame)"
)


def has_conditions(connection: sqlite3.Connection) -> bool:
    """Whether a manifest has a table of them."""
    return has_table(connection, "conditions")


def has_table(connection: sqlite3.Connection, name: str) -> bool:
    """Whether there is a table that is made with its first row."""
    query = "SELECT count(*) FROM sqlite_master WHERE name = ?"
    return bool(connection.execute(query, (name,)).fetchone()[0])


class Manifest:
    """The writer's connection: look-ups, and transactions whose failure is a `sqlite3.Error`.

    Opening and look-ups raise StoreError where the manifest is missing or damaged. Of a `foreign`
    part, which another process writes, each look-up sees what is there by then.
    """

    def __init__(self, root: Path, *, foreign: bool = False) -> None:
        self._path, self._foreign = root / MANIFEST, foreign
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

    # Look-ups

    def _query(self, query: str, *values: Any) -> list[Any]:
        try:
            if not (self._foreign or self._connection.in_transaction):
                # One view for many look-ups: to lock and check the file for each takes longer.
                self._connection.execute("BEGIN")
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise _unreadable(self._path, error) from error

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

    def columns(self) -> list[ColumnRecord]:
        """Which columns conditions have."""
        try:
            if not has_table(self._connection, "columns"):
                return []
            return _columns(self._query)
        except (sqlite3.Error, ValueError, TypeError) as error:
            raise _unreadable(self._path, error) from error

    def told_ends(self) -> dict[int, int]:
        """Rows that have conditions, by shard."""
        if not self.columns():
            return {}
        query = f"SELECT shard, max(start + num_frames) FROM ({TOLD}) GROUP BY shard"
        return dict(self._query(query))

    def end(self) -> Position:
        """Where the row after the last committed one goes."""
        ends = self.shard_ends()
        return Position(max(ends, default=0), ends[max(ends)] if ends else 0)

    def clip(self, clip_id: str) -> ClipRecord | None:
        """Look a clip up."""
        query = "SELECT num_frames, fps_num, fps_den, status FROM clips WHERE clip_id = ?"
        for num_frames, numerator, denominator, status in self._query(query, clip_id):
            return ClipRecord(num_frames, Fraction(numerator, denominator), status)
        return None

    def source(self, source: str) -> SourceRecord | None:
        """Look a source up, in quarantine or not."""
        query = (
            "SELECT size, mtime_ns, clip_id, NULL FROM sources WHERE source = CAST(?1 AS TEXT)"
            " UNION ALL"
            " SELECT size, mtime_ns, NULL, reason FROM quarantine WHERE source = CAST(?1 AS TEXT)"
        )
        rows = self._query(query, _encoded(source))
        if not rows:
            return None
        size, mtime_ns, _, reason = rows[-1]
        clip_ids = (clip_id for _, _, clip_id, _ in rows if clip_id is not None)
        return SourceRecord(size, mtime_ns, tuple(clip_ids), reason)

    # Changes, inside a transaction

    def put_columns(self, columns: Sequence[ColumnRecord]) -> None:
        """Replace what the columns of conditions are."""
        execute = self._connection.execute
        for table in _CONDITIONS:
            execute(table)
        for number, column in enumerate(columns):
            row = number, column.name, column.kind
            execute("INSERT OR REPLACE INTO columns VALUES (?, ?, ?)", row)
            for code, name in enumerate(column.names):
                execute("INSERT OR REPLACE INTO names VALUES (?, ?, ?)", (number, code, name))

    def put_clip(
        self, clip_id: str, clip: ClipRecord, runs: Iterable[Run], told: Iterable[int] = ()
    ) -> None:
        """Add the extents of a clip's blocks, and replace its row.

        `told` are the checksums of their conditions, if any are known.
        """
        end = clip.num_frames
        told = iter(told)
        for run in runs:
            for crc32 in islice(told, 1):
                query = "INSERT OR REPLACE INTO conditions VALUES (?, ?, ?)"
                self._connection.execute(query, (clip_id, end, crc32))
            extent = (clip_id, end, *run)
            self._connection.execute("INSERT INTO extents VALUES (?, ?, ?, ?, ?, ?)", extent)
            end += run.num_frames
        row = (clip_id, end, clip.fps.numerator, clip.fps.denominator, clip.status)
        self._connection.execute("INSERT OR REPLACE INTO clips VALUES (?, ?, ?, ?, ?)", row)
        if clip.cuts:
            self._connection.execute(_CUTS)
            query = "INSERT OR IGNORE INTO cuts VALUES (?, ?)"  # found again where a kill was
            self._connection.executemany(query, ((clip_id, frame) for frame in clip.cuts))

    def put_source(self, source: str, record: SourceRecord) -> None:
        """Replace what a source pointed at, by clips or by a reason for the quarantine."""
        execute, name = self._connection.execute, _encoded(source)
        execute("DELETE FROM sources WHERE source = CAST(? AS TEXT)", (name,))
        execute("DELETE FROM quarantine WHERE source = CAST(? AS TEXT)", (name,))
        stamp = (name, record.size, record.mtime_ns)
        if record.reason is not None:
            row = (*stamp, _encoded(record.reason))
            execute("INSERT INTO quarantine VALUES (CAST(? AS TEXT), ?, ?, CAST(? AS TEXT))", row)
        for clip_id in record.clip_ids:
            execute("INSERT INTO sources VALUES (CAST(? AS TEXT), ?, ?, ?)", (*stamp, clip_id))

    def put_labels(self, labels: Mapping[str, str]) -> None:
        """Replace the labels of sources; one without a label has an empty one."""
        execute = self._connection.execute
        execute(_LABELS)
        for source, label in labels.items():
            name = _encoded(source)
            execute("DELETE FROM labels WHERE source = CAST(? AS TEXT)", (name,))
            if label:
                query = "INSERT INTO labels VALUES (CAST(? AS TEXT), CAST(? AS TEXT))"
                execute(query, (name, _encoded(label)))

    def keep_sources(self, present: Iterable[str]) -> None:
        """Forget every source, and every one in quarantine, that is not `present`."""
        execute = self._connection.execute
        execute("CREATE TEMP TABLE present (source TEXT PRIMARY KEY) WITHOUT ROWID")
        self._connection.executemany(
            "INSERT OR IGNORE INTO present VALUES (CAST(? AS TEXT))",
            ((_encoded(source),) for source in present),
        )
        for table in ("sources", "quarantine"):
            execute(f"DELETE FROM {table} WHERE source NOT IN (SELECT source FROM present)")
        execute("DROP TABLE present")

    def drop_frames(self, first_lost: Mapping[str, int]) -> int:
        """Forget the frames of clips from the first lost one of each on; returns how many.

        The clips are partial then. One without any extent is forgotten; its sources are not.
        """
        execute = self._connection.execute
        execute(_CUTS)
        num_frames = 0
        for clip_id, frame in first_lost.items():
            held = execute("SELECT num_frames FROM clips WHERE clip_id = ?", (clip_id,)).fetchone()
            execute(f"DELETE FROM extents WHERE clip_id = ? AND NOT ({_BEFORE})", (clip_id, frame))
            query = "SELECT max(first_frame + num_frames) FROM extents WHERE clip_id = ?"
            end = execute(query, (clip_id,)).fetchone()[0] or 0
            change = "UPDATE clips SET num_frames = ?, status = 'partial' WHERE clip_id = ?"
            execute(change, (end, clip_id))
            execute("DELETE FROM clips WHERE clip_id = ? AND num_frames = 0", (clip_id,))
            execute("DELETE FROM cuts WHERE clip_id = ? AND frame >= ?", (clip_id, end))
            if has_table(self._connection, "conditions"):
                query = "DELETE FROM conditions WHERE clip_id = ? AND first_frame >= ?"
                execute(query, (clip_id, end))
            if held is not None and isinstance(held[0], int):
                num_frames += max(0, held[0] - end)
        return num_frames


def _encoded(name: str) -> bytes:
    """A file name as bytes for a query: SQLite takes no text that is not UTF-8."""
    return name.encode("utf-8", "surrogateescape")


def _unreadable(path: Path, error: Exception, *, instead: str = "use another --out") -> StoreError:
    """Say what SQLite cannot read: the file is damaged, or the disk does not give it."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    if path.exists() and code & 0xFF in _DISK_ERRORS and code != sqlite3.SQLITE_IOERR_SHORT_READ:
        return StoreError(f"{path} cannot be read ({error}): see to its permissions and the disk")
    return StoreError(f"{path} is damaged or missing ({error}): {instead}")
