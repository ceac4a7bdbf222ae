"""A part of a store: its lock, opening it to write, its commits; and which process writes which."""

from __future__ import annotations

import errno
import sqlite3
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from ldf_video.errors import StoreError
from ldf_video.output import FULL, PARTS, reason, remedy
from ldf_video.store.conditions import ConditionWriter, is_short, lost_conditions
from ldf_video.store.extents import read_extents
from ldf_video.store.format import (
    STORE_JSON,
    StoreSpec,
    find_difference,
    find_parts,
    write_store_json,
)
from ldf_video.store.manifest import MANIFEST, Manifest, create_manifest, select
from ldf_video.store.records import ClipRecord, SourceRecord
from ldf_video.store.shards import (
    ShardFile,
    ShardWriter,
    cut_after,
    cut_rows,
    find_damage,
    inspect_shard,
    shard_path,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

LOCK = ".lock"
NOBODY = -1

_UNBORN = {LOCK, MANIFEST, f"{MANIFEST}-journal"}
"""What a kill can leave before a new part has its store.json."""


def check_directory(path: Path, *, option: str = "--out") -> None:
    """See that a directory, which `option` names, is a store or empty, or that there is none.

    Raises:
        StoreError: a file is there, or other files are in it.
        OSError: it cannot be read.
    """
    if not path.exists():
        return
    if not path.is_dir():
        raise StoreError(f"{path} is a file: expected a directory, use another {option}")
    names = {entry.name for entry in path.iterdir() if not entry.match(PARTS)}
    if STORE_JSON not in names and not names <= _UNBORN:
        raise StoreError(
            f"{path} holds files but no store (for instance {min(names - _UNBORN)}):"
            f" expected an empty directory or a store, use another {option}"
        )


def acquire(path: Path) -> FileLock:
    """Take the lock of a part's directory, which exists."""
    lock = FileLock(path.resolve() / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise StoreError(
            f"{path} is in use by another process: wait for it to end, or use another --out"
        ) from None
    except OSError as error:
        raise write_error(path, error) from error
    return lock


def move_aside(path: Path) -> Path:
    """Rename a store to `NAME.old-DATE` beside it, or what a link points at; return where it is."""
    root = path.resolve()
    base = path if path.name else root
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    endings = ("", *(f"-{number}" for number in range(2, 1000)))
    names = (f"{base.name}.old-{stamp}{ending}" for ending in endings)
    with ExitStack() as locks:
        for part in find_parts(path).values():
            locks.callback(acquire(part).release)
        aside = next(name for name in names if not root.with_name(name).exists())
        root.rename(root.with_name(aside))
    return root.with_name(aside) if path.is_symlink() else base.with_name(aside)


def write_error(path: Path, error: OSError | sqlite3.Error) -> StoreError:
    """Say in one line why a store could not be written, and whether its disk is full."""
    if isinstance(error, sqlite3.Error):
        full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        error = OSError(errno.ENOSPC if full else None, str(error))
    what = "disk full" if error.errno in FULL else "cannot write"
    todo = remedy(error, elsewhere="use another --out")
    return StoreError(f"{what} at {path} ({reason(error)}): what was committed is safe, {todo}")


def repair_shards(root: Path, spec: StoreSpec, manifest: Manifest) -> str:
    """Make a part's manifest and headers agree with the rows that its shards still hold.

    Shards that are missing, too short or have a wrong header are read: each extent whose checksum
    is right stays. A clip that lost an extent keeps the frames before it and is then partial.
    Returns one line on what was dropped or mended, "" if nothing was.
    """
    torn: dict[int, int] = {}  # shards that do not hold what they should, with the rows they have
    ends = manifest.shard_ends()
    for shard, num_rows in ends.items():
        file = inspect_shard(root, spec, shard=shard) or ShardFile(num_rows=0, header_rows=-1)
        # the last shard's header is behind or ahead after any kill
        is_wrong = file.header_rows != file.num_rows and shard != max(ends)
        if is_wrong or file.header_rows < 0 or file.num_rows < num_rows:
            torn[shard] = file.num_rows
    told_is_torn = is_short(root, manifest)
    if not torn and not told_is_torn:
        return ""
    lost: dict[str, int] = {}
    for shard, num_rows in torn.items():
        extents, path = read_extents(root, shard, shard), shard_path(root, shard)
        for extent, _ in find_damage(path, spec, extents, num_rows=num_rows):
            clip_id, frame = extent["id"].decode(), int(extent["first_frame"])
            lost[clip_id] = min(frame, lost.get(clip_id, frame))
    for extent, _ in lost_conditions(root) if told_is_torn else ():
        clip_id, frame = extent["id"].decode(), int(extent["first_frame"])
        lost[clip_id] = min(frame, lost.get(clip_id, frame))
    with manifest.transaction():
        num_frames = manifest.drop_frames(lost)
    remaining = manifest.shard_ends()
    for shard, num_rows in torn.items():  # the manifest first: a kill between leaves headers alone
        if shard in remaining:
            cut_rows(root, spec, shard=shard, num_rows=num_rows)
    more = max(len(torn) - 1, 0)
    names = shard_path(root, min(torn)).name if torn else "the files of conditions"
    if more:
        names += f" and {more:,} more shard{'s' * (more > 1)}"
    if not lost:
        return f"the header of {names} was wrong and is mended: no frame is lost"
    clips = f"{len(lost):,} clip{'s' * (len(lost) > 1)}"
    frames = f"{num_frames:,} frame{'s' * (num_frames != 1)}"
    return (
        f"{clips} lost {frames} that {names} no longer {'hold' if more or not torn else 'holds'}:"
        " they are encoded anew"
    )


class PartWriter:
    """One part, open to be written; it knows nothing of the others.

    `clips` and `sources` are what the next commit changes, `pending_bytes` is of its rows.
    `repaired` is what `repair_shards` said.
    """

    def __init__(
        self, path: Path, spec: StoreSpec, *, info: Mapping[str, Any], shard_bytes: int
    ) -> None:
        self._path, self._root, self._spec = path, path.resolve(), spec
        self._usable = True
        try:
            check_directory(path)
            self._root.mkdir(parents=True, exist_ok=True)
            with ExitStack() as stack:
                stack.callback(acquire(path).release)
                self._prepare(info)
                self._manifest = Manifest(self._root)
                stack.callback(self._manifest.close)
                self.repaired = repair_shards(self._root, spec, self._manifest)
                position = self._manifest.end()
                cut_after(self._root, spec, position=position)
                self._shards = ShardWriter(
                    self._root, spec, position=position, shard_bytes=shard_bytes
                )
                stack.callback(self._shards.close)
                self.conditions = ConditionWriter(self._root, self._manifest, position=position)
                stack.callback(self.conditions.close)
                self._opened = stack.pop_all()
        except (OSError, sqlite3.Error) as error:
            raise write_error(self._path, error) from error
        self._start_afresh()

    def _prepare(self, info: Mapping[str, Any]) -> None:
        for abandoned in self._root.glob(PARTS):
            abandoned.unlink(missing_ok=True)
        if not (self._root / STORE_JSON).exists():
            create_manifest(self._root)
            write_store_json(self._root, self._spec, info=info)
            return
        problem = find_difference(self._path, self._spec)
        if problem:
            raise StoreError(f"{problem}; use another --out, or --overwrite to move it aside")
        if not (self._root / MANIFEST).exists():
            raise StoreError(
                f"{self._path} has no {MANIFEST}: the store is damaged, use another --out"
            )

    def _start_afresh(self) -> None:
        # What is committed is looked up in the manifest: memory does not grow with it.
        self.clips: dict[str, ClipRecord] = {}
        self.sources: dict[str, SourceRecord] = {}
        self.pending_bytes = 0

    def clip(self, clip_id: str) -> ClipRecord | None:
        """A clip of this part as of the next commit; a change counts once it is in `clips`."""
        return self.clips.get(clip_id) or self._manifest.clip(clip_id)

    def source(self, source: str) -> SourceRecord | None:
        """What a source of this part gave, as of the next commit."""
        return self.sources.get(source) or self._manifest.source(source)

    def commit(self) -> None:
        """Make all that was added durable; after an error nothing of it is, and the part ends."""
        self.check_usable()
        if not (self.clips or self.sources):
            return
        with self._writing():
            runs = [self._shards.append(clip.blocks) for clip in self.clips.values()]
            self._shards.sync()  # rows are on disk before the manifest points at them
            told = self.conditions.write(self.clips.values(), runs)
            with self._manifest.transaction():
                self.conditions.put(self._manifest)
                for (clip_id, clip), its_runs, its_told in zip(
                    self.clips.items(), runs, told, strict=True
                ):
                    self._manifest.put_clip(clip_id, clip, its_runs, its_told)
                for source, record in self.sources.items():
                    self._manifest.put_source(source, record)
            self._start_afresh()

    @contextmanager
    def changing(self) -> Iterator[Manifest]:
        """Commit, then change the manifest, all at once or not at all."""
        self.commit()
        with self._writing(), self._manifest.transaction():
            yield self._manifest

    @contextmanager
    def _writing(self) -> Iterator[None]:
        # Whatever interrupts a commit, Ctrl-C included, what is in memory may be half-committed: it
        # must not be committed again. The next open starts from what the manifest says.
        self._usable = False
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            with suppress(OSError, StoreError):
                self._shards.close()
                self.conditions.close()
                cut_after(self._root, self._spec, position=self._manifest.end())
            raise write_error(self._path, error) from error
        self._usable = True

    def check_usable(self) -> None:
        """Raise StoreError where a commit has failed or the part is closed."""
        if not self._usable:
            raise StoreError(f"the writer of {self._path} has ended: open the store again to go on")

    def close(self) -> None:
        """Commit, unless a commit has failed, and free the part; a second time does nothing."""
        with self._opened:
            if self._usable:
                self.commit()
            self._usable = False


def share_sources(
    root: Path, sources: Sequence[str], sizes: Sequence[int], *, num_ranks: int
) -> list[int]:
    """Give each source to a process: a known one to its part's, new ones by size.

    New sources go, the largest first, to the process with the fewest bytes so far, those of known
    sources included: shares come close to equal (Graham, 1969), and no long video is begun last. A
    source of no or of unknown size counts one byte, so that these spread too.
    """
    if num_ranks == 1:
        return [0] * len(sources)
    owners = known_owners(root, sources, num_ranks=num_ranks)
    weights = [max(size, 1) for size in sizes]
    loads = [0] * num_ranks
    # stable: equal ones in order
    for place in sorted(range(len(sources)), key=lambda i: (owners[i] == NOBODY, -weights[i])):
        if owners[place] == NOBODY:
            owners[place] = loads.index(min(loads))
        loads[owners[place]] += weights[place]
    return owners


def known_owners(root: Path, sources: Sequence[str], *, num_ranks: int) -> list[int]:
    """The process that has the part of each source; NOBODY for one that no part knows.

    Part p is that of process p mod `num_ranks`.
    """
    owners = [NOBODY] * len(sources)
    places = {source: place for place, source in enumerate(sources)}
    query = "SELECT source FROM sources UNION SELECT source FROM quarantine"
    for part, path in reversed(find_parts(root).items()):  # the lowest part has it
        for (source,) in select([path], query):
            if source in places:
                owners[places[source]] = part % num_ranks
    return owners
