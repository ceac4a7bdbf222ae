"""The sources under CLIPS: found, in natural order, and identified by their content."""

from __future__ import annotations

import dataclasses
import fnmatch
import hashlib
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ldf_video.errors import ReadError, UsageError, reason_of
from ldf_video.files.archives import ArchivePath, is_archive_name, is_zarr_archive, read_archive
from ldf_video.files.entry import UNKNOWN, Entry
from ldf_video.files.folders import (
    LEROBOT_INFO,
    ZARR_FILES,
    camera_of,
    files_below,
    is_lerobot,
    is_zarr,
)
from ldf_video.files.layout import UNSAID, Layout, layout_of
from ldf_video.files.locations import Location, join, list_folder, locate, look_at, split_inner
from ldf_video.files.not_clips import (
    STORE_JSON,
    is_own_file,
    is_own_folder,
    sidecar_kind,
)
from ldf_video.files.remote import GONE_OR_CLOSED, RemoteError
from ldf_video.sources.clip_table import TABLE_SUFFIX, read_table
from ldf_video.sources.name_numbers import natural_key
from ldf_video.sources.ranges import Range
from ldf_video.sources.series import Series, all_pictures, find_series

if TYPE_CHECKING:
    from collections.abc import Iterator

_IMAGES = "observation.images."  # what LeRobot puts before the names of cameras


@dataclass(frozen=True, slots=True)
class Source:
    """One file that may hold clips, or one series of numbered pictures.

    There may be a million of them, so none keeps a path of its own.

    Attributes:
        root: CLIPS, or its folder where CLIPS is a file.
        name: POSIX path relative to `root`, with `::` between an archive and what lies in it. A
            series is named by the path of its folder and its pattern, such as `walk/frame_*.png`;
            one with an `inner` ends in `::` and this.
        size: in bytes, of all pictures together; -1 if the file could not be looked at.
        mtime_ns: as of `Entry`; of a series a number that changes with any picture's name, size or
            time.
        series: the pictures, None for a file.
        is_named: whether it is the file that the user named.
        inner: what is read in a file that holds several things: a path in it, or a pattern; "" for
            all that can be read.
        is_folder: whether it is a folder that is read as one, such as a zarr store.
        layout: what the user said of its clips.
        part: the range of the file that is the clip, of a row of a table; None for all of it. The
            name ends in its suffix.
    """

    root: Location
    name: str
    size: int
    mtime_ns: int
    series: Series | None = None
    is_named: bool = False
    inner: str = ""
    is_folder: bool = False
    layout: Layout = UNSAID
    part: Range | None = None

    @property
    def path(self) -> Location:
        """Where it is; of a series, its folder."""
        name = self.name
        if self.part is not None:
            name = name.removesuffix(self.part.suffix)
        if self.series is not None:
            name = name.removesuffix(self.series.pattern).rstrip("/")
        elif self.inner:
            name = name.removesuffix(f"::{self.inner}")
        return join(self.root, name)

    @property
    def asked(self) -> Location:
        """CLIPS as it was named: a file, or the folder that was searched."""
        return self.path if self.is_named else self.root

    def files(self) -> Iterator[Location]:
        """Yields the file, or those of a series or a folder in order."""
        if self.is_folder and isinstance(self.path, Path):
            return files_below(self.path)
        path, names = self.path, [""] if self.series is None else self.series.names
        return (path / name for name in names)

    def to_json(self) -> dict[str, Any]:
        """Returns plain values of which `from_json` makes the same source, in any process."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return fields | {
            "root": str(self.root),
            "layout": self.layout.settings(),
            "part": None if self.part is None else self.part.to_json(),
        }

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Source:
        """Returns the source that `to_json` described."""
        root, series = locate(fields["root"]), fields["series"]
        if series is not None:
            series = Series(tuple(series[0]), series[1])
        layout, part = layout_of(fields["layout"]), fields["part"]
        if part is not None:
            part = Range.from_json(part)
        return cls(**{**fields, "root": root, "series": series, "layout": layout, "part": part})


@dataclass
class Found:
    """What a search found.

    Attributes:
        sources: that may hold clips, in natural order of names.
        sidecars: how many files were left out as none, by their suffix or name.
        num_own: stores and checkpoints of ldf-video, left out with all that is below.
    """

    sources: list[Source] = field(default_factory=list)
    sidecars: Counter[str] = field(default_factory=Counter)
    num_own: int = 0


def find_sources(
    clips: str | Location, *, own: bool = False, layout: Layout = UNSAID
) -> list[Source]:
    """Lists what `search` finds, without the files that ldf-video wrote, or with them if `own`.

    Raises what `search` does, and a UsageError if there is nothing else.
    """
    found = search(clips, layout=layout).sources
    sources = [source for source in found if own or not is_own(source)]
    if not sources:
        raise UsageError(
            f"{clips} holds nothing but what ldf-video wrote itself, {len(found):,} files; "
            "expected clips; name one of these files to read it all the same"
        )
    return sources


def is_own(source: Source) -> bool:
    """Returns whether ldf-video wrote a source, or a series' first picture, that was not named."""
    first = next(source.files())
    # In an archive the mark may lie behind gigabytes that are to be unpacked first.
    return not (source.is_named or isinstance(first, ArchivePath)) and is_own_file(first)


def search(clips: str | Location, *, layout: Layout = UNSAID) -> Found:
    """Finds all that may be read in `clips`, or that file itself; opens no video.

    `clips` may end in a place within a file, or within each file of a folder, such as
    `play.h5::data/*/obs/image`. Each source has the `layout`. An archive is searched as a folder,
    and so is a place in it; `clips.zip::walk/*.png` takes the files that match.

    Each series of numbered pictures (see `find_series`) is one source, each other regular file is
    one. Names that start with a dot are hidden, with all below. Links are followed, each real
    directory once, so loops end; behind a URL links to directories are not. A file that cannot be
    looked at is listed all the same (size and time -1): reading it will say why. Texts, tables and
    sound are left out, and so are stores and checkpoints. A zarr store, whose files are pieces of
    arrays, is one source.

    Raises:
        UsageError: if `clips` does not exist, is neither file nor directory, is a store, or holds
            no file; if fsspec does not know the URL or lacks the package for it.
        ReadError: if what is behind a URL cannot be listed.
    """
    clips, inner = split_inner(clips)
    root, place, pattern = clips, "", ""
    if isinstance(clips, Path) and _is_archive(clips.parent, clips.name):
        clips = ArchivePath(clips)
    if isinstance(clips, ArchivePath):
        clips, pattern = _before_pattern(clips)
        root, place = clips.archive.parent, f"{clips.archive.name}::{clips.member}"
    try:
        entry = look_at(clips)
        if entry is not None and not entry.is_folder:
            if not place and entry.name.lower().endswith(TABLE_SUFFIX):
                return Found(_table_sources(clips, entry, layout))
            if not place:
                root, place = clips.parent, entry.name
            named = Source(root, place, entry.size, entry.mtime_ns, is_named=True)
            return Found([within(named, inner, layout)])
        found = Found() if entry is None else _search_folder(root, place, entry, pattern, layout)
    except RemoteError as error:
        raise ReadError(
            f"{clips} cannot be listed: {reason_of(error)}; check the address, the access and the "
            "network, then try again"
        ) from error
    if entry is None:
        special = isinstance(clips, Path) and clips.exists()
        state = "is neither a file nor a directory" if special else "does not exist"
        raise UsageError(
            f"{clips} {state}; expected a video or a directory of videos; check the path"
        )
    if not found.sources:
        holds = "holds no file"
        if found.num_own:
            holds = "holds nothing but stores and checkpoints of ldf-video"
        elif found.sidecars:
            kinds = ", ".join(f"{n:,} {kind}" for kind, n in found.sidecars.most_common(3))
            holds = f"holds no clip, {found.sidecars.total():,} other files ({kinds}) only"
        raise UsageError(f"{clips} {holds}; expected at least one video; put your clips there")
    found.sources.sort(key=lambda source: natural_key(source.name))
    if inner or layout != UNSAID:
        found.sources = [within(source, inner, layout) for source in found.sources]
    return found


def _table_sources(table: Location, entry: Entry, layout: Layout) -> list[Source]:
    """A source a row of a table of clips, whose files are relative to its folder."""
    sources: dict[str, Source] = {}
    try:
        for name, row in read_table(table):
            part = row
            source = Source(table.parent, name, entry.size, entry.mtime_ns, is_named=True)
            if not row.problem:
                source, problem = _file_of_row(source, layout)
                part = replace(row, problem=problem)
            source = replace(source, name=source.name + part.suffix, part=part)
            sources.setdefault(source.name, source)
    except OSError as error:
        raise ReadError(f"{table} cannot be read: {reason_of(error)}") from error
    if not sources:
        raise UsageError(f"{table} has no row: name a file in each line below the first")
    return list(sources.values())


def _file_of_row(row: Source, layout: Layout) -> tuple[Source, str]:
    """The file, zarr store or folder with a series of a row; and what is wrong with it, or ""."""
    path, inner = split_inner(row.root / row.name)
    entry = look_at(path)
    if entry is None:
        return row, "there is no such file"
    name = row.name.removesuffix(f"::{inner}") if inner else row.name
    if entry.is_folder and isinstance(path, Path) and is_zarr(path.name, _hidden(path)):
        store = replace(_zarr_source(path), root=row.root, name=name.rstrip("/"))
        return within(store, inner, layout), ""
    if entry.is_folder:
        try:
            series = folder_series(path)
        except ReadError as error:
            return row, str(error)
        name = f"{row.name.rstrip('/')}/{series.name}"
        return replace(series, root=row.root, name=name, is_named=True), ""
    file = replace(row, name=name, size=entry.size, mtime_ns=entry.mtime_ns)
    return within(file, inner, layout), ""


def within(source: Source, inner: str, layout: Layout) -> Source:
    """Returns a source of which a part is read, or all if `inner` is empty, as a user says."""
    name = f"{source.name}::{inner}" if inner else source.name
    return replace(source, name=name, inner=inner, layout=layout)


def _is_archive(root: Location, name: str) -> bool:
    """Whether a file of this machine is an archive that can be searched: not one that is a store.

    Where it is damaged, or holds no file, reading it will say so.
    """
    if not isinstance(root, Path) or not is_archive_name(name) or "::" in name:
        return False
    try:
        return bool(read_archive(root / name).members) and not is_zarr_archive(root / name)
    except OSError:
        return False


def _before_pattern(place: ArchivePath) -> tuple[ArchivePath, str]:
    """Splits a pattern of members into the folder before its first star and the pattern.

    Raises:
        ReadError: if the archive is there and cannot be read.
    """
    try:
        if not place.archive.exists() or place.member in read_archive(place.archive).members:
            return place, ""
    except OSError as error:
        raise ReadError(f"{place.archive} cannot be read: {reason_of(error)}") from error
    parts = place.member.split("/")
    first = next((k for k, part in enumerate(parts) if set(part) & set("*?[")), len(parts))
    pattern = place.member if first < len(parts) else ""
    return ArchivePath(place.archive, "/".join(parts[:first])), pattern


def _search_folder(root: Location, start: str, entry: Entry, pattern: str, layout: Layout) -> Found:
    """Searches a folder, or place in an archive, and those below it, each once.

    With a pattern only the files whose path in the archive matches it are taken.

    Raises:
        UsageError: if it is a store.
    """
    found = Found()
    waiting, seen = [(start, entry.identity)], set[tuple[int, int] | None]()
    while waiting:
        place, identity = waiting.pop()
        if identity is not None and identity in seen:
            continue
        seen.add(identity)
        folder = join(root, place)
        try:
            entries = list_folder(folder)
        except OSError as error:
            is_gone = place != start and error.errno in GONE_OR_CLOSED
            if isinstance(error, RemoteError) and not is_gone:
                raise
            continue  # it vanished, or may not be read: nothing in it can be reported
        names = {entry.name for entry in entries}
        if is_own_folder(folder, names) and (place != start or STORE_JSON in names):
            if place == start:
                raise UsageError(
                    f"{folder} is a store that ldf-video wrote; expected clips; check the path"
                )
            found.num_own += 1
        elif is_zarr(folder.name, names | _hidden(folder)):
            found.sources.append(_zarr_source(root, place))
        elif is_lerobot(folder, names):
            found.sources += _lerobot_sources(root, place, layout.camera)
        else:
            prefix = _below(place)
            folders = [entry for entry in entries if entry.is_folder]
            # Reversed, as the last in is the first out: the first of two ways to one counts.
            folders.sort(key=lambda folder: natural_key(folder.name), reverse=True)
            waiting += [(prefix + folder.name, folder.identity) for folder in folders]
            files = [entry for entry in entries if not entry.is_folder]
            if pattern:
                files = [one for one in files if _matches(prefix + one.name, pattern)]
            archives = [one.name for one in files if _is_archive(root, prefix + one.name)]
            waiting += [(f"{prefix}{name}::", None) for name in archives]
            rest = [one for one in files if one.name not in archives]
            _add_files(found, root, prefix, rest, layout)
            if isinstance(folder, ArchivePath) and not folder.member:
                _add_fault(found, root, place.removesuffix("::"))
    return found


def _below(place: str) -> str:
    """What the names of all begin with that lies in a folder, or in an archive."""
    return f"{place}/" if place and not place.endswith("::") else place


def _add_fault(found: Found, root: Location, name: str) -> None:
    """Adds an archive itself where there is something to say of it: reading it says that."""
    path = root / name
    if isinstance(path, Path) and read_archive(path).fault:
        status = path.stat()
        found.sources.append(Source(root, name, status.st_size, status.st_mtime_ns))


def _matches(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name.partition("::")[2], pattern)


def _add_files(
    found: Found, root: Location, prefix: str, files: list[Entry], layout: Layout
) -> None:
    """Sorts the files of one directory into series of pictures, other sources and sidecars."""
    by_name = {entry.name: entry for entry in files}
    in_series = set[str]()
    find = all_pictures if layout.series == "folder" else find_series
    for series in find(join(root, prefix.rstrip("/")), by_name):
        in_series.update(series.names)
        size, stamp = _series_stamp([by_name[name] for name in series.names])
        found.sources.append(Source(root, prefix + series.pattern, size, stamp, series))
    for entry in files:
        if kind := sidecar_kind(entry.name):
            found.sidecars[kind] += 1
        elif entry.name not in in_series:
            source = Source(root, prefix + entry.name, entry.size, entry.mtime_ns)
            found.sources.append(source)


def _series_stamp(pictures: list[Entry]) -> tuple[int, int]:
    """The bytes of all pictures, and a number that changes with any one's name, size or time."""
    total_bytes, listing = 0, hashlib.sha256()
    for name, size, mtime_ns, *_ in pictures:
        total_bytes += max(size, 0)
        listing.update(f"{name}/{size}/{mtime_ns}/".encode(errors="surrogateescape"))
    # The latest time alone would not change with a swap of two pictures, or with an older one in
    # place of another. 63 bits: SQLite's integers have a sign.
    return total_bytes, int.from_bytes(listing.digest()[:8], "big") >> 1


def _zarr_source(root: Location, place: str = "") -> Source:
    """A zarr store; one that is named itself lies in the folder that holds it."""
    if not place:
        return replace(_zarr_source(root.parent, root.name), is_named=True)
    size, stamp = 0, 0
    folder = join(root, place)
    if isinstance(root, Path) and isinstance(folder, Path):
        files = [(path.relative_to(root).as_posix(), path.stat()) for path in files_below(folder)]
        size, stamp = _series_stamp(
            [Entry(name, there.st_size, there.st_mtime_ns, False) for name, there in files]
        )
    return Source(root, place, size, stamp, is_folder=True)


def _lerobot_sources(root: Location, place: str, camera: str) -> list[Source]:
    """The films of a data set of LeRobot, of one camera if one is named."""
    films, prefix = dict[str, list[Source]](), f"{_below(place)}videos/"
    # The same film is other clips where the data set says so.
    described = [
        entry
        for entry in _all_below(join(root, f"{_below(place)}meta"))
        if entry.name == LEROBOT_INFO.rpartition("/")[2] or entry.name.startswith("episodes/")
    ]
    for entry in _all_below(join(root, prefix.rstrip("/"))):
        if not sidecar_kind(entry.name):
            _, stamp = _series_stamp([entry, *described])
            source = Source(root, prefix + entry.name, entry.size, stamp)
            films.setdefault(camera_of(entry.name), []).append(source)
    wanted = [name for name in films if not camera or name in (camera, f"{_IMAGES}{camera}")]
    if films and not wanted:
        raise UsageError(
            f"--camera {camera}: {root / place} has none of that name; it has "
            f"{', '.join(sorted(films))}"
        )
    return [source for name in wanted for source in films[name]]


def _all_below(folder: Location) -> list[Entry]:
    """All files below a folder, in order of names, which are their paths from there."""
    found, waiting = list[Entry](), [""]
    while waiting:
        inner = waiting.pop()
        for entry in list_folder(join(folder, inner.rstrip("/"))):
            name = inner + entry.name
            if entry.is_folder:
                waiting.append(f"{name}/")
            else:
                found.append(entry._replace(name=name))
    return sorted(found, key=lambda entry: entry.name)


def _hidden(folder: Location) -> set[str]:
    """The hidden names that a folder of this machine holds: those of zarr's version 2."""
    if not isinstance(folder, Path):
        return set()
    return {name for name in ZARR_FILES if (folder / name).is_file()}


def named_source(path: Location) -> Source:
    """Returns the file, or the folder that is one source: a zarr store, a series of pictures.

    Raises:
        ReadError: if it is another folder.
    """
    if not path.is_dir():
        return Source(path.parent, path.name, UNKNOWN, UNKNOWN)
    if isinstance(path, Path) and is_zarr(path.name, _hidden(path)):
        return Source(path.parent, path.name, UNKNOWN, UNKNOWN, is_folder=True)
    return folder_series(path)


def folder_series(folder: Location, *, layout: Layout = UNSAID) -> Source:
    """Returns the only series of numbered pictures in a folder; a ReadError if there is no such."""
    found = Found()
    try:
        files = [entry for entry in list_folder(folder) if not entry.is_folder]
        _add_files(found, folder, "", files, layout)
    except OSError as error:
        raise ReadError(f"cannot be read: {reason_of(error)}") from error
    series = [source for source in found.sources if source.series is not None]
    if len(series) != 1:
        number = f"{len(series):,} series" if series else "no series"
        raise ReadError(f"a directory with {number} of numbered pictures, expected one")
    return series[0]
