"""Checking a store's rows against its manifest, and dropping those that are damaged or lost."""

from __future__ import annotations

import heapq
import sqlite3
import zlib
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ldf_video.errors import StoreError
from ldf_video.store.format import StoreSpec, read_store_json
from ldf_video.store.manifest import FINISHED, Manifest, read_records, reading
from ldf_video.store.parts import acquire, find_difference, find_parts, write_error
from ldf_video.store.shards import HEADER_BYTES, ShardFile, cut_rows, inspect_shard, shard_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_MOST_LINES = 1000  # of problems that are spelled out
_MOST_EXTENTS = 1 << 18  # in memory at a time, unless one shard has more
_BLOCK_BYTES = 4 << 20
_FILE_BYTES = 1 << 20  # read ahead: most extents are smaller
_NUMBERS = ("first_frame", "shard", "start", "num_frames", "crc32")
_NO_FILE = ShardFile(num_rows=0, header_rows=-1)

_VALID_ID = "typeof(clip_id) = 'text' AND clip_id GLOB '?*' AND clip_id NOT GLOB '*[^ -~]*'"
# values that can be; sums of two of an extent's cannot overflow
_VALID_EXTENT = f"{_VALID_ID} AND num_frames > 0" + "".join(
    f" AND typeof({name}) = 'integer' AND {name} BETWEEN 0 AND {1 << 48}" for name in _NUMBERS
)
_VALID_CLIP = f"{_VALID_ID} AND status IN {('partial', *FINISHED)}" + "".join(
    f" AND typeof({name}) = 'integer' AND {name} > 0"
    for name in ("num_frames", "fps_num", "fps_den")
)


@dataclass
class Verified:
    """What a check of a store found.

    Attributes:
        num_clips: in all parts, also those not finished and those that no source points at.
        num_frames: of all extents, each of which was read where its shard holds it.
        num_bytes: of those frames' rows.
        num_unused_clips: to which no source points; no problem, their sources may come back.
        num_unreachable_rows: inside the shards, of clips that were dropped; no problem.
        num_problems: all that is wrong.
        problems: a line for each of the first 1,000.
        num_lost_clips: of which `drop_damaged` dropped frames.
        num_lost_frames: that it dropped.
    """

    num_clips: int = 0
    num_frames: int = 0
    num_bytes: int = 0
    num_unused_clips: int = 0
    num_unreachable_rows: int = 0
    num_problems: int = 0
    problems: tuple[str, ...] = ()
    num_lost_clips: int = 0
    num_lost_frames: int = 0


def verify_store(path: Path) -> Verified:
    """Read every committed row of a store and find what is wrong with it; change nothing.

    Checked: each extent lies inside its shard, overlaps no other and has its checksum; each clip's
    extents cover it without a gap; all parts are made by the same settings. A store that
    `StoreReader` refuses can be checked too, and one that is being written. Reads as much as the
    store holds; memory does not grow with it.

    Returns:
        What was found; no problems in a sound store.

    Raises:
        StoreError: there is no store here, or a store.json or manifest cannot be read.
    """
    return _verify(Path(path), drop=False)


def drop_damaged(path: Path) -> Verified:
    """Verify a store and drop what is damaged, so that the next writer encodes it again.

    A clip keeps the frames before its first damaged extent and is then partial; without any it is
    forgotten. Sound clips stay. In the shards only wrong headers are rewritten.

    Returns:
        What was found, and how much was dropped.

    Raises:
        StoreError: as for `verify_store`, or a part is in use, made otherwise, or not writable.
    """
    return _verify(Path(path), drop=True)


def _verify(path: Path, *, drop: bool) -> Verified:
    spec, _ = read_store_json(path)
    parts = find_parts(path)
    found = Verified()
    with ExitStack() as locks:
        for number, part in parts.items():
            if drop:
                locks.callback(acquire(part).release)
            check = _PartCheck(part, spec, found, prefix=f"{part.name}: " if number else "")
            problem = find_difference(part, spec)
            if problem:  # rows of another size: nothing in them can be checked
                check.add(problem)
                continue
            check.run()
            if drop:
                num_clips, num_frames = _drop(part, spec, check.lost)
                found.num_lost_clips += num_clips
                found.num_lost_frames += num_frames
        found.num_unused_clips = _count_unused(list(parts.values()))
    found.num_bytes = found.num_frames * spec.row_bytes
    return found


def _drop(part: Path, spec: StoreSpec, lost: dict[str, int]) -> tuple[int, int]:
    manifest = Manifest(part, foreign=True)
    try:
        with manifest.transaction():
            dropped = manifest.drop_frames(lost)
        with suppress(StoreError):  # what cannot be read now is among the problems
            repair_shards(part, spec, manifest)  # headers: so that readers open it
    except (OSError, sqlite3.Error) as error:
        raise write_error(part, error) from error
    finally:
        manifest.close()
    return dropped


def _count_unused(parts: Sequence[Path]) -> int:
    """Count the clips to which no source of any part points."""
    num_unused = 0
    wanted = "SELECT DISTINCT clip_id, 0 FROM sources ORDER BY clip_id"
    held = "SELECT clip_id, 1 FROM clips ORDER BY clip_id"
    with ExitStack() as stack:
        connections = [stack.enter_context(reading(part)) for part in parts]
        rows = [connection.execute(query) for connection in connections for query in (wanted, held)]
        for _, group in groupby(heapq.merge(*rows), key=itemgetter(0)):
            kinds = [kind for _, kind in group]
            num_unused += len(kinds) if min(kinds) else 0
    return num_unused


class _PartCheck:
    """Checks one part. Its writer may be at work: no read transaction on the manifest lasts long.

    Attributes:
        lost: the first damaged frame of each damaged clip; frames from there on are encoded again.
    """

    def __init__(self, part: Path, spec: StoreSpec, found: Verified, *, prefix: str) -> None:
        self._part, self._spec, self._found, self._prefix = part, spec, found, prefix
        self.lost: dict[str, int] = {}

    def add(self, problem: str, *, clip_id: str | None = None, frame: int = 0) -> None:
        """Add a problem, and the clip that it damages from a frame on."""
        self._found.num_problems += 1
        if len(self._found.problems) < _MOST_LINES:
            self._found.problems += (f"{self._prefix}{problem}",)
        if clip_id is not None:
            self.lost[clip_id] = min(frame, self.lost.get(clip_id, frame))

    def run(self) -> None:
        """Check all of it.

        Raises:
            StoreError: the manifest cannot be read.
        """
        with reading(self._part) as connection:
            for (line,) in connection.execute("PRAGMA quick_check"):
                # SQLite 3.40 finds NULL where a key's columns do not come first: there is none
                if line != "ok" and not line.startswith("NULL value in "):
                    self.add(f"the manifest: {line}")
            self._check_values(connection)
            self._check_coverage(connection)
            counted = f"extents WHERE {_VALID_EXTENT} GROUP BY shard ORDER BY shard"
            counts = dict(connection.execute(f"SELECT shard, count(*) FROM {counted}"))
        for first, last in _group_shards(counts):
            extents = _read_extents(self._part, first, last)
            borders = np.flatnonzero(np.diff(extents["shard"])) + 1
            for own in np.split(extents, borders):
                if len(own):  # else a writer has dropped them meanwhile
                    shard = int(own["shard"][0])
                    self._check_shard(shard, own, is_last=shard == max(counts))

    def _check_values(self, connection: sqlite3.Connection) -> None:
        for row in connection.execute(f"SELECT * FROM extents WHERE NOT ({_VALID_EXTENT})"):
            self.add(f"extent {row} cannot be", clip_id=row[0])
        for row in connection.execute(f"SELECT * FROM clips WHERE NOT ({_VALID_CLIP})"):
            self.add(f"clip {row} cannot be", clip_id=row[0])

    def _check_coverage(self, connection: sqlite3.Connection) -> None:
        """Each clip's extents follow each other from frame 0 to its end."""
        clips = connection.execute(
            f"SELECT clip_id, -1, num_frames FROM clips WHERE {_VALID_CLIP} ORDER BY clip_id"
        )
        extents = connection.execute(
            f"SELECT clip_id, first_frame, num_frames FROM extents WHERE {_VALID_EXTENT}"
            " ORDER BY clip_id, first_frame"
        )
        for clip_id, rows in groupby(heapq.merge(clips, extents), key=itemgetter(0)):
            (_, first, length), *its_extents = rows
            if first >= 0:
                self.add(f"clip {clip_id} has extents but no row", clip_id=clip_id)
                continue
            self._found.num_clips += 1
            frame = 0
            for _, first, num_frames in its_extents:
                if first != frame:
                    problem = f"clip {clip_id} has an extent from frame {first}: expected frame"
                    self.add(f"{problem} {frame} next", clip_id=clip_id, frame=min(first, frame))
                frame = first + num_frames
            if frame != length:
                problem = f"clip {clip_id} has {length} frames, its extents {frame}"
                self.add(problem, clip_id=clip_id, frame=min(frame, length))

    def _check_shard(self, shard: int, extents: npt.NDArray[np.void], *, is_last: bool) -> None:
        self._found.num_frames += int(extents["num_frames"].sum())
        path = shard_path(self._part, shard)
        try:
            file = inspect_shard(self._part, self._spec, shard=shard)
            if file is None:
                self.add(f"{path} is missing")
            elif file.header_rows < 0:
                self.add(f"{path} has no header of these rows")
            num_rows = 0 if file is None else file.num_rows
            for extent, problem in _find_damage(path, self._spec, extents, num_rows=num_rows):
                first, clip_id = int(extent["first_frame"]), extent["id"].decode()
                frames = f"{first} to {first + extent['num_frames']}"
                place = f"in shard {shard} from row {extent['start']}"
                line = f"clip {clip_id}, frames {frames}, {place}: {problem}"
                self.add(line, clip_id=clip_id, frame=first)
            # behind the last extent of the last shard a writer is at work
            stops = np.maximum.accumulate(extents["start"] + extents["num_frames"])
            end = 0 if is_last else num_rows
            starts = np.append(extents["start"], max(end, int(stops[-1])))
            gaps = starts - np.insert(stops, 0, 0)
            self._found.num_unreachable_rows += int(gaps.clip(min=0).sum())
        except (StoreError, OSError) as error:  # drop nothing: the disk may come back
            self.add(str(error))


def _group_shards(counts: Mapping[int, int]) -> Iterator[tuple[int, int]]:
    """Neighbouring shards whose extents fit into memory together: the first and the last.

    A manifest has no index by shard, so each group costs a pass over all extents.
    """
    group: list[int] = []
    num_extents = 0
    for shard, count in counts.items():
        if group and num_extents + count > _MOST_EXTENTS:
            yield group[0], group[-1]
            group, num_extents = [], 0
        group.append(shard)
        num_extents += count
    if group:
        yield group[0], group[-1]


def _read_extents(part: Path, first_shard: int, last_shard: int) -> npt.NDArray[np.void]:
    """The extents of some shards in the order of their rows, but for those that cannot be."""
    rows = f"extents WHERE {_VALID_EXTENT} AND shard BETWEEN ? AND ?"
    with reading(part) as connection:
        extents = read_records(connection, rows, *_NUMBERS, values=(first_shard, last_shard))
    return extents[np.lexsort((extents["start"], extents["shard"]))]


def _find_damage(
    path: Path, spec: StoreSpec, extents: npt.NDArray[np.void], *, num_rows: int
) -> Iterator[tuple[Any, str]]:
    """Read all rows of one shard's extents, in order, and find what is wrong with which.

    By ordinary reads: a file that is cut short meanwhile, or a bad sector, would be a bus error
    through a map. Memory does not grow with the extents' size.

    Yields:
        An extent and what is wrong with it.

    Raises:
        OSError: the file cannot be opened.
    """
    row_bytes, end = spec.row_bytes, 0
    with ExitStack() as stack:
        if num_rows:
            file = stack.enter_context(path.open("rb", buffering=_FILE_BYTES))
        for extent in extents:
            start, stop = int(extent["start"]), int(extent["start"] + extent["num_frames"])
            if stop > num_rows:
                problem = f"the shard holds {num_rows} rows"
            else:
                problem = _check_bytes(
                    file,
                    HEADER_BYTES + start * row_bytes,
                    (stop - start) * row_bytes,
                    crc32=int(extent["crc32"]),
                )
            if not problem and start < end:
                problem = f"overlaps the one before, which ends at row {end}"
            if problem:
                yield extent, problem
            else:  # what is wrong itself makes nothing else wrong
                end = stop


def _check_bytes(file: BinaryIO, offset: int, num_bytes: int, *, crc32: int) -> str:
    """Say what is wrong with bytes of a file; "" if they have this checksum."""
    found = 0
    try:
        file.seek(offset)
        while num_bytes:
            block = file.read(min(num_bytes, _BLOCK_BYTES))
            if not block:
                return "the shard was cut while it was read"
            found = zlib.crc32(block, found)
            num_bytes -= len(block)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return "" if found == crc32 else "its checksum is wrong"


def repair_shards(root: Path, spec: StoreSpec, manifest: Manifest) -> str:
    """Make a part's manifest and headers agree with the rows that its shards still hold.

    Shards that are missing, too short or have a wrong header are read: each extent whose checksum
    is right stays. A clip that lost an extent keeps the frames before it and is then partial.

    Returns:
        One line on what was dropped or mended, "" if nothing was.

    Raises:
        StoreError: the manifest is damaged, or a shard cannot be read.
        OSError, sqlite3.Error: the part cannot be read or written.
    """
    torn: dict[int, int] = {}  # shards that do not hold what they should, with the rows they have
    ends = manifest.shard_ends()
    for shard, num_rows in ends.items():
        file = inspect_shard(root, spec, shard=shard) or _NO_FILE
        # the last shard's header is behind or ahead after any kill
        is_wrong = file.header_rows != file.num_rows and shard != max(ends)
        if is_wrong or file.header_rows < 0 or file.num_rows < num_rows:
            torn[shard] = file.num_rows
    if not torn:
        return ""
    lost: dict[str, int] = {}
    for shard, num_rows in torn.items():
        extents, path = _read_extents(root, shard, shard), shard_path(root, shard)
        for extent, _ in _find_damage(path, spec, extents, num_rows=num_rows):
            clip_id, frame = extent["id"].decode(), int(extent["first_frame"])
            lost[clip_id] = min(frame, lost.get(clip_id, frame))
    with manifest.transaction():
        num_clips, num_frames = manifest.drop_frames(lost)
    remaining = manifest.shard_ends()
    for shard, num_rows in torn.items():  # the manifest first: a kill between leaves headers alone
        if shard in remaining:
            cut_rows(root, spec, shard=shard, num_rows=num_rows)
    more = len(torn) - 1
    names = shard_path(root, min(torn)).name + (
        f" and {more:,} more shard{'s' * (more != 1)}" if more else ""
    )
    if not lost:
        return f"the header of {names} was wrong and is mended: no frame is lost"
    clips = f"{num_clips:,} clip{'s' * (num_clips != 1)}"
    frames = f"{num_frames:,} frame{'s' * (num_frames != 1)}"
    hold = "hold" if more else "holds"
    return f"{clips} lost {frames} that {names} no longer {hold}: they are encoded anew"
