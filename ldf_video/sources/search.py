"""The sources under CLIPS: found, in natural order of names; no video is opened."""

from __future__ import annotations

import fnmatch
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ldf_video.errors import ReadError, UsageError, reason_of
from ldf_video.files.archives import ArchivePath, is_archive_name, is_zarr_archive, read_archive
from ldf_video.files.entry import Entry
from ldf_video.files.folders import is_lerobot, is_zarr
from ldf_video.files.layout import UNSAID, Layout
from ldf_video.files.locations import Location, join, list_folder, look_at, split_inner
from ldf_video.files.not_clips import STORE_JSON, is_own_file, is_own_folder
from ldf_video.files.remote import GONE_OR_CLOSED, RemoteError
from ldf_video.sources.clip_table import TABLE_SUFFIX, table_sources
from ldf_video.sources.folder import (
    below,
    file_sources,
    hidden,
    lerobot_sources,
    told_by_file,
    zarr_source,
)
from ldf_video.sources.name_numbers import natural_key
from ldf_video.sources.source import Source, within


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
    first = next(source.files(), None)  # a folder that is one thing may be empty
    if first is None or source.is_named:
        return False
    # In an archive the mark may lie behind gigabytes that are to be unpacked first.
    return not isinstance(first, ArchivePath) and is_own_file(first)


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
    is_nameless = isinstance(clips, Path) and clips.name in ("", "..")  # `.`, whose name may count
    clips = Path(os.path.abspath(str(clips))) if is_nameless else clips
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
                return Found(table_sources(clips, entry, layout))
            if not place:
                root, place = clips.parent, entry.name
            named = Source(root, place, entry.size, entry.mtime_ns, is_named=True)
            if isinstance(clips, Path):
                named = told_by_file(named, clips, entry)
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
        elif is_zarr(folder.name, names | hidden(folder)):
            found.sources.append(zarr_source(root, place))
        elif is_lerobot(folder, names):
            found.sources += lerobot_sources(root, place, layout)
        else:
            prefix = below(place)
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
            sources, sidecars = file_sources(root, prefix, rest, layout)
            found.sources += sources
            found.sidecars += sidecars
            if isinstance(folder, ArchivePath) and not folder.member:
                _add_fault(found, root, place.removesuffix("::"))
    return found


def _add_fault(found: Found, root: Location, name: str) -> None:
    """Adds an archive itself where there is something to say of it: reading it says that."""
    path = root / name
    if isinstance(path, Path) and read_archive(path).fault:
        status = path.stat()
        found.sources.append(Source(root, name, status.st_size, status.st_mtime_ns))


def _matches(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name.partition("::")[2], pattern)
