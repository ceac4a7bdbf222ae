"""What a store that is there knows of its clips: their place, which are missing, which are sound.

Those of one place, so that clips of another never replace them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ldf_video.errors import StoreError, counted
from ldf_video.files.locations import join, locate
from ldf_video.files.remote import RemotePath
from ldf_video.intake.report import Report
from ldf_video.progress import Progress
from ldf_video.sources.search import is_own
from ldf_video.sources.source import Source
from ldf_video.store.check import Verified, drop_damaged, verify_store
from ldf_video.store.format import STORE_JSON, find_parts, read_store_json, write_store_json
from ldf_video.store.manifest import select
from ldf_video.store.parts import write_error
from ldf_video.store.reader import StoreReader

PLACE = "clips"
"""What store.json calls it, under `info`."""
_LOOKED_UP = 100  # sources of a store that are looked for where they were


@dataclass(frozen=True)
class Missing:
    """Sources with clips in a store that a call does not name.

    Attributes:
        clips: of each its ids.
        is_kept: whether they stay in use, because the call named a single file.
    """

    clips: Mapping[str, Collection[str]]
    is_kept: bool

    def lost(self, store: Path) -> list[str]:
        """Names of those that stay, or whose clips no other source of the store points at.

        One that was renamed is not lost: its clips are those of its new name.

        Raises:
            StoreError: a manifest is damaged.
        """
        if self.is_kept or not self.clips:
            return list(self.clips)
        held = {clip_id for name, clip_id in _clips_of(store) if name not in self.clips}
        return [name for name, ids in self.clips.items() if not held.issuperset(ids)]


def check_place(store: Path, sources: Sequence[Source]) -> None:
    """See that a store, if there is one, is not of clips of another place.

    The place is CLIPS, or the directory of a file. A store whose place is gone goes on with another
    where that has a source of the same name: it was moved. So does one that knows no place.

    Raises:
        StoreError: it is.
    """
    try:
        spec, info = read_store_json(store)
        known = {name for name, _ in _clips_of(store)}
    except StoreError:  # there is none, or opening it will say more
        return
    place, before = _place_of(sources), info.get(PLACE)
    if known and before != place and (_are_there(before, known) or not _shares(known, sources)):
        option = "--out" if spec.kind == "latents" else "--out or --frames-store"
        raise StoreError(
            f"{store} holds {len(known):,} sources of {before or 'other clips'}, and {place} is "
            f"another place: name another {option}, or bring all clips under one directory and "
            "name it"
        )


def claim(store: Path, sources: Sequence[Source]) -> Missing:
    """Record the place of these clips as the store's; the caller holds the store's lock.

    Raises:
        StoreError: see `check_place`; or it cannot be written.
    """
    check_place(store, sources)
    spec, info = read_store_json(store)
    place, names = _place_of(sources), {source.name for source in sources}
    if info.get(PLACE) != place:
        try:
            write_store_json(store, spec, info={**info, PLACE: place})
        except OSError as error:
            raise write_error(store, error) from error
    missing = defaultdict[str, list[str]](list)
    for name, clip_id in _clips_of(store):
        if name not in names:
            missing[name].append(clip_id)
    return Missing(missing, is_kept=sources[0].is_named and sources[0].part is None)


def holds_clips(store: Path, sources: Sequence[Source]) -> bool:
    """Whether there is a store of some of these clips and of none of another place."""
    if not (store / STORE_JSON).is_file():
        return False
    before = read_store_json(store)[1].get(PLACE)
    known = {name for name, _ in _clips_of(store)}
    return before in (None, _place_of(sources)) and _shares(known, sources)


def _clips_of(store: Path) -> Iterator[tuple[str, str]]:
    """Sources and the clips that they point at."""
    return select(find_parts(store).values(), "SELECT source, clip_id FROM sources")


def _are_there(place: str | None, names: set[str]) -> bool:
    """Whether some of the sources may still be at a place; of a URL that is not asked."""
    if place is None:
        return False
    path = locate(place)
    if isinstance(path, RemotePath):
        return True
    for name in islice(names, _LOOKED_UP):
        # Also the file of a range, and that of a place in it.
        whole = name.rpartition("@")[0] or name
        for one in (join(path, text) for text in {name, whole, whole.rpartition("::")[0]} - {""}):
            if not isinstance(one, RemotePath) and (
                one.exists() or ("*" in one.name and one.parent.exists())
            ):
                return True
    return False


def _shares(known: set[str], sources: Sequence[Source]) -> bool:
    """Whether a store knows a source, or a picture of a series, which was a still before."""
    for source in sources:
        names = [source.name]
        if source.series is not None:
            folder = source.name.removesuffix(source.series.pattern)
            names += [folder + name for name in source.series.names]
        if not known.isdisjoint(names):
            return True
    return False


def _place_of(sources: Sequence[Source]) -> str:
    root = sources[0].root
    return str(root.resolve()) if isinstance(root, Path) else str(root)


def verify_clips(out: Path, sources: Sequence[Source], progress: Progress, *, drop: bool) -> Report:
    """Read every row of a store; say what is wrong, and which clips the store lacks.

    With `drop`, what is damaged is dropped, so that the next encode makes it again.

    Returns:
        How many sources there are, and how many the store has as they are now.

    Raises:
        StoreError: there is no store, or something is wrong with it and `drop` is not given.
    """
    found = drop_damaged(out) if drop else verify_store(out)
    for line in _lines(found):
        progress.say(line)
    if found.num_problems and not drop:
        raise StoreError(
            f"{out} has {counted(found.num_problems, 'problem')}: encode --verify --retry lets go"
            " of what is damaged, and the next encode makes it anew"
        )
    lacking = _find_lacking(out, sources)
    own = [source for source in lacking if is_own(source)]
    report = Report(len(sources) - len(own), len(sources) - len(lacking), num_own=len(own))
    missing = len(lacking) - len(own)
    state = (
        f"{missing:,} new or changed: encode brings them in" if missing else "none new or changed"
    )
    progress.say(f"{counted(report.num_sources, 'source')}, {state}")
    return report


def _lines(found: Verified) -> list[str]:
    lines = [f"  {problem}" for problem in found.problems]
    hidden = found.num_problems - len(found.problems)
    if hidden:
        lines.append(f"  and {hidden:,} more")
    lines.append(
        f"verified: {counted(found.num_clips, 'clip')}, {counted(found.num_frames, 'frame')}, "
        f"{found.num_bytes / 1e6:,.1f} MB: "
        + (counted(found.num_problems, "problem") if found.num_problems else "every row is sound")
    )
    if found.num_lost_clips:
        lines.append(
            f"let go: {counted(found.num_lost_frames, 'frame')} of "
            f"{counted(found.num_lost_clips, 'clip')}, which the next encode makes anew"
        )
    if found.num_unused_clips or found.num_unreachable_rows:
        lines.append(
            f"not used: {counted(found.num_unused_clips, 'clip')} that no source points at, "
            f"{counted(found.num_unreachable_rows, 'row')} of no clip"
        )
    return lines


def _find_lacking(out: Path, sources: Sequence[Source]) -> list[Source]:
    """The sources that the store does not have as they are now, whole or in quarantine."""
    store = StoreReader(out)
    finished = set(store.clip_ids)
    stamps = {bad.source: (bad.size, bad.mtime_ns) for bad in store.quarantined()}
    unfinished = set()
    for known in store.sources():
        stamps[known.source] = (known.size, known.mtime_ns)
        if known.clip_id not in finished:
            unfinished.add(known.source)
    return [
        source
        for source in sources
        if source.name in unfinished or stamps.get(source.name) != (source.size, source.mtime_ns)
    ]
