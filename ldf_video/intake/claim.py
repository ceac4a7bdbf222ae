"""Which clips a store holds: those of one place, so that clips of another never replace them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from ldf_video.errors import StoreError
from ldf_video.store.format import STORE_JSON, find_parts, read_store_json, write_store_json
from ldf_video.store.manifest import select
from ldf_video.store.parts import write_error
from ldf_video.video.files import RemotePath, locate
from ldf_video.video.sources import Source

PLACE = "clips"
"""What store.json calls it, under `info`."""

LOOKED_UP = 100
"""Sources of a store that are looked for where they were."""


@dataclass(frozen=True)
class Missing:
    """Sources with clips in a store that a call does not name.

    Attributes:
        clips: of each its ids.
        is_kept: whether they stay in use, because the call named a single file.
    """

    clips: Mapping[str, Collection[str]]
    is_kept: bool

    def lost(self, store: Path) -> Missing:
        """Those whose clips no other source of the store points at, as one that was renamed does.

        Raises:
            StoreError: a manifest is damaged.
        """
        if self.is_kept or not self.clips:
            return self
        held = {clip_id for name, clip_id in _clips_of(store) if name not in self.clips}
        remaining = {name: ids for name, ids in self.clips.items() if not held.issuperset(ids)}
        return replace(self, clips=remaining)


def check_place(store: Path, sources: Sequence[Source]) -> None:
    """See that a store, if there is one, is not of clips of another place.

    The place is CLIPS, or the directory of a file. A store whose place is gone goes on with another
    where that has a source of the same name: it was moved. So does one that knows no place.

    Args:
        store: its directory.
        sources: found in one search, at least one.

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
    gone = dict[str, list[str]]()
    for name, clip_id in _clips_of(store):
        if name not in names:
            gone.setdefault(name, []).append(clip_id)
    return Missing(gone, is_kept=sources[0].is_named)


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
    some = (path / name for name in islice(names, LOOKED_UP))
    return any(one.exists() or ("*" in one.name and one.parent.exists()) for one in some)


def _shares(known: set[str], sources: Sequence[Source]) -> bool:
    """Whether a store knows a source, or a picture of a series, which was a still before."""
    return any(
        source.name in known
        or (
            source.series is not None
            and any(
                source.name.removesuffix(source.series.pattern) + name in known
                for name in source.series.names
            )
        )
        for source in sources
    )


def _place_of(sources: Sequence[Source]) -> str:
    root = sources[0].root
    return str(root.resolve()) if isinstance(root, Path) else str(root)
