"""What a single folder is: a zarr store, a data set of LeRobot, or series and other files."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Container
from dataclasses import replace
from pathlib import Path

from ldf_video.errors import ReadError, UsageError, reason_of
from ldf_video.files.archives import ArchivePath, files_below, read_archive
from ldf_video.files.entry import UNKNOWN, Entry
from ldf_video.files.folders import LEROBOT_INFO, ZARR_FILES, camera_of, is_zarr
from ldf_video.files.layout import UNSAID, Layout
from ldf_video.files.locations import Location, join, list_folder, look_at
from ldf_video.files.not_clips import sidecar_kind
from ldf_video.sources.series import all_pictures, find_series
from ldf_video.sources.source import Source

CSV, NPY = ".csv", ".npy"
"""Suffixes of files that tell of the frames of the clip of their name."""
TABLE = "clips.csv"
"""A table of clips, and no conditions."""
_NPY_HEADER = 4096
_IMAGES = "observation.images."  # what LeRobot puts before the names of cameras


def below(place: str) -> str:
    """What the names of all begin with that lies in a folder, or in an archive."""
    return f"{place}/" if place and not place.endswith("::") else place


def file_sources(
    root: Location, prefix: str, files: list[Entry], layout: Layout
) -> tuple[list[Source], Counter[str]]:
    """Sorts the files of one folder into series of pictures and others, and counts sidecars.

    Args:
        root: CLIPS, or its folder.
        prefix: what leads from there to the folder; see `below`.
        files: what the folder holds, without folders.
        layout: which says what is a series.
    """
    by_name = {entry.name: entry for entry in files}
    sources, sidecars, in_series = list[Source](), Counter[str](), set[str]()
    find = all_pictures if layout.series == "folder" else find_series
    folder = join(root, prefix.rstrip("/"))
    for series in find(folder, by_name):
        in_series.update(series.names)
        size, stamp = _series_stamp([by_name[name] for name in series.names])
        sources.append(Source(root, prefix + series.pattern, size, stamp, series))
    clips = [e.name for e in files if not sidecar_kind(e.name) and e.name not in in_series]
    told = {name: one for name in clips if (one := _conditions_beside(folder, name, by_name))}
    used = {*told.values(), *in_series}
    for entry in files:
        if entry.name in used:
            continue
        if kind := sidecar_kind(entry.name):
            sidecars[kind] += 1
            continue
        source = Source(root, prefix + entry.name, entry.size, entry.mtime_ns)
        if beside := told.get(entry.name):
            source = _with_conditions(source, entry, by_name[beside], prefix + beside)
        sources.append(source)
    return sources, sidecars


def _with_conditions(source: Source, entry: Entry, beside: Entry, name: str) -> Source:
    """A source whose frames a file beside it tells of."""
    size, stamp = _series_stamp([entry, beside])
    return replace(source, size=size, mtime_ns=stamp, conditions=name)


def told_by_file(source: Source, path: Path, entry: Entry) -> Source:
    """The source of a file of this machine that was named, with the conditions beside it."""
    beside = {one for one in (path.stem + CSV, path.stem + NPY) if (path.parent / one).is_file()}
    name = _conditions_beside(path.parent, path.name, beside)
    there = look_at(path.parent / name) if name else None
    if there is None:
        return source
    folder, _, _ = source.name.rpartition("/")
    return _with_conditions(source, entry, there, f"{folder}/{name}" if folder else name)


def _conditions_beside(folder: Location, name: str, names: Container[str]) -> str:
    """Which of the names beside a clip's is that of its conditions; "" for none."""
    stem, _, suffix = name.rpartition(".")
    if not stem:
        return ""
    if stem + CSV in names and stem + CSV != TABLE:
        return stem + CSV
    may_tell = stem + NPY in names and f".{suffix.lower()}" != NPY
    return stem + NPY if may_tell and _is_no_clip(folder / (stem + NPY)) else ""


def _is_no_clip(path: Location) -> bool:
    """Whether a `.npy` array has too few axes for a clip, by its first bytes."""
    try:
        with path.open("rb") as file:
            start = file.read(_NPY_HEADER)
    except OSError:
        return False
    shape = re.search(rb"'shape': \(([0-9, ]*)\)", start)
    return shape is not None and len(re.findall(rb"\d+", shape[1])) <= 2


def _series_stamp(pictures: list[Entry]) -> tuple[int, int]:
    """The bytes of all pictures, and a number that changes with any one's name, size or time."""
    total_bytes, listing = 0, hashlib.sha256()
    for name, size, mtime_ns, *_ in pictures:
        total_bytes += max(size, 0)
        listing.update(f"{name}/{size}/{mtime_ns}/".encode(errors="surrogateescape"))
    # The latest time alone would not change with a swap of two pictures, or with an older one in
    # place of another. 63 bits: SQLite's integers have a sign.
    return total_bytes, int.from_bytes(listing.digest()[:8], "big") >> 1


def zarr_source(root: Location, place: str = "") -> Source:
    """A zarr store; one that is named itself lies in the folder that holds it."""
    if not place:
        return replace(zarr_source(root.parent, root.name), is_named=True)
    size, stamp = 0, 0
    folder = join(root, place)
    if isinstance(folder, Path | ArchivePath):
        files = ((str(path).removeprefix(f"{root}/"), path) for path in files_below(folder))
        found = [entry._replace(name=name) for name, path in files if (entry := look_at(path))]
        size, stamp = _series_stamp(found)
    return Source(root, place, size, stamp, is_folder=True)


def lerobot_sources(root: Location, place: str, layout: Layout) -> list[Source]:
    """The films of a data set of LeRobot, of one camera if one is named."""
    films, prefix = dict[str, list[Source]](), f"{below(place)}videos/"
    camera = layout.camera
    # The same film is other clips, or is told of otherwise, where the data set says so.
    described = [
        entry
        for entry in all_below(join(root, f"{below(place)}meta"))
        if entry.name == LEROBOT_INFO.rpartition("/")[2] or entry.name.startswith("episodes/")
    ]
    if layout.actions != "off" and join(root, data := f"{below(place)}data").is_dir():
        described += all_below(join(root, data))
    for entry in all_below(join(root, prefix.rstrip("/"))):
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


def all_below(folder: Location) -> list[Entry]:
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


def hidden(folder: Location) -> set[str]:
    """The hidden names that a folder of this machine holds: those of zarr's version 2."""
    if isinstance(folder, ArchivePath):
        return {*ZARR_FILES} & read_archive(folder.archive).folders.get(folder.member, set())
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
    if isinstance(path, Path) and is_zarr(path.name, hidden(path)):
        return Source(path.parent, path.name, UNKNOWN, UNKNOWN, is_folder=True)
    return folder_series(path)


def folder_series(folder: Location, *, layout: Layout = UNSAID) -> Source:
    """Returns the only series of numbered pictures in a folder; a ReadError if there is no such."""
    try:
        files = [entry for entry in list_folder(folder) if not entry.is_folder]
        sources, _ = file_sources(folder, "", files, layout)
    except OSError as error:
        raise ReadError(f"cannot be read: {reason_of(error)}") from error
    series = [source for source in sources if source.series is not None]
    if len(series) != 1:
        number = f"{len(series):,} series" if series else "no series"
        raise ReadError(f"a directory with {number} of numbered pictures, expected one")
    return series[0]


def as_source(place: Source | Location) -> Source:
    """Returns the source that is named by where it is; a source as it is."""
    if not isinstance(place, Source):
        return named_source(place)
    known = place.series is not None or place.is_folder or place.part is not None
    return place if known or not place.path.is_dir() else named_source(place.path)
