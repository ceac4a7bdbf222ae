"""Which process brings which source in, where several write one store."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from ldf_video.store.manifest import source_names
from ldf_video.store.parts import find_parts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


NOBODY = -1


def share_sources(
    root: Path, sources: Sequence[str], sizes: Sequence[int], *, num_ranks: int
) -> list[int]:
    """Give each source to a process: a known one to its part's, new ones by size.

    New sources go largest first to whoever has the fewest bytes so far, which comes close to equal
    shares (Graham, 1969), and a long video is not what all wait for in the end. See
    `StoreWriter.owners`.

    Args:
        root: the store's directory.
        sources: names, each once.
        sizes: bytes of each; one of none or of unknown size counts one, so that these spread too.
        num_ranks: number of processes.

    Returns:
        A rank for each source.

    Raises:
        StoreError: a manifest is damaged.
    """
    if num_ranks == 1:
        return [0] * len(sources)
    owners = known_owners(root, sources, num_ranks=num_ranks)
    weights = [max(size, 1) for size in sizes]
    loads = [0] * num_ranks
    for owner, weight in zip(owners, weights, strict=True):
        if owner != NOBODY:
            loads[owner] += weight
    heap = [(load, rank) for rank, load in enumerate(loads)]
    heapq.heapify(heap)
    new = [place for place, owner in enumerate(owners) if owner == NOBODY]
    for place in sorted(new, key=lambda place: -weights[place]):  # stable: equal ones in order
        load, rank = heap[0]
        owners[place] = rank
        heapq.heapreplace(heap, (load + weights[place], rank))
    return owners


def known_owners(root: Path, sources: Sequence[str], *, num_ranks: int) -> list[int]:
    """The process that has the part of each source; NOBODY for one that no part knows.

    Args:
        root: the store's directory.
        sources: names, each once.
        num_ranks: number of processes; part p is that of process p mod `num_ranks`.

    Raises:
        StoreError: a manifest is damaged.
    """
    owners = [NOBODY] * len(sources)
    places = {source: place for place, source in enumerate(sources)}
    for part, path in reversed(find_parts(root).items()):  # the lowest part has it
        for source in source_names(path):
            if source in places:
                owners[places[source]] = part % num_ranks
    return owners
