"""Clips into a store: what `encode` and the frame store of `train-frame` share.

Readers in processes of their own give frames, `Batcher` has them transformed, and each clip's rows
go to the store in the order of its frames. What the store already has is not asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ldf_video.intake.batches import Plain, Transform
from ldf_video.intake.claim import claim
from ldf_video.intake.intake import take_in
from ldf_video.intake.report import Report, merge_reports
from ldf_video.progress import Progress
from ldf_video.store.format import StoreSpec
from ldf_video.store.writer import StoreWriter
from ldf_video.training.ranks import Ranks
from ldf_video.video.geometry import Geometry
from ldf_video.video.read import Reader
from ldf_video.video.sources import Found, search

ALONE = Ranks()
NO_INFO: Mapping[str, Any] = MappingProxyType({})
UNCHANGED = Plain(lambda frames, num_real: frames)


@contextmanager
def open_store(
    path: Path,
    spec: StoreSpec,
    *,
    ranks: Ranks,
    info: Mapping[str, Any] = NO_INFO,
    overwrite: bool = False,
    retry: bool = False,
) -> Iterator[StoreWriter]:
    """Open a store for all processes, each the writer of its parts; see `StoreWriter`.

    Yields:
        The writer of this process, once every process has one. When it is closed, and the `with`
        is left, those of all processes are.

    Raises:
        StoreError: in every process where the first cannot open the store, else in one.
    """
    writers: list[StoreWriter] = []

    def open_own() -> None:
        writers.append(
            StoreWriter(
                path,
                spec,
                info=info,
                overwrite=overwrite,
                retry=retry,
                rank=ranks.index,
                num_ranks=ranks.count,
            )
        )

    ranks.of_first(open_own)  # makes the store, or moves another aside, before anyone looks
    if not ranks.is_first:
        open_own()
    with writers[0] as writer:
        ranks.wait()
        yield writer
    ranks.wait()


def lines_on_opening(writer: StoreWriter) -> list[str]:
    """What a user must know of what became of the store that was there."""
    lines = []
    if writer.moved_to is not None:
        lines.append(f"the store that was there is kept as {writer.moved_to}")
    if writer.repaired:
        lines.append(writer.repaired)
    return lines


def list_sources(clips: str | Path, ranks: Ranks) -> Found:
    """The same search in all processes, though files may come and go between their looks.

    Raises:
        UsageError: there is nothing at `clips`.
    """
    found: list[Found] = []

    def look() -> None:
        found.append(search(clips))

    ranks.of_first(look)  # what is wrong with the path is told once
    if ranks.count == 1:
        return found[0]
    if not ranks.is_first:
        look()
    digest = hashlib.sha256()
    for source in found[0].sources:
        digest.update(repr(source).encode("utf-8", "surrogateescape"))
    if len(set(ranks.gather(digest.digest()))) == 1:
        return found[0]
    return ranks.of_first(lambda: found[0])


def ingest(
    found: Found,
    writer: StoreWriter,
    geometry: Geometry,
    *,
    transform: Transform = UNCHANGED,
    batch_size: int = 64,
    name: str = "read",
    quiet: bool = False,
    ranks: Ranks = ALONE,
    reader: Reader = "auto",
    workers: int | None = None,
) -> Report:
    """Bring a store up to date with the clips; goes on where a killed run stopped.

    Args:
        found: all that there is, the same in all processes; see `list_sources`.
        writer: of the store; what it holds of unchanged sources is not read again.
        geometry: what frames are brought to.
        transform: uint8 frames (batch_size, H, W, 3), the first so many of them real, to rows
            (batch_size, *item_shape).
        batch_size: frames a batch, of which the last may be stale and are dropped.
        name: of the work, for the progress line.
        quiet: report nothing.
        ranks: the processes that share the sources, each with its writer; the first reports.
        reader: of videos, see `open_clips`.
        workers: processes that read, chosen by the cores if None; 0 reads in this process, where a
            decoder that crashes takes everything with it.

    Returns:
        What became of each source, of all processes, in each of them.

    Raises:
        StoreError: the store is of clips of another place, or cannot be written.
    """
    sources = found.sources
    missing = ranks.of_first(lambda: claim(writer.path, sources))
    names = [source.name for source in sources]
    owners = writer.owners(names, [max(source.size, 0) for source in sources])
    mine = [source for source, owner in zip(sources, owners, strict=True) if owner == ranks.index]
    ranks.wait()  # until all know what is whose, nobody writes
    title = name if ranks.count == 1 else f"{name}, process 1 of {ranks.count}"
    with Progress(title, unit="frames", quiet=quiet or not ranks.is_first) as progress:
        report = take_in(
            mine,
            writer,
            geometry,
            transform=transform,
            batch_size=batch_size,
            progress=progress,
            reader=reader,
            workers=workers,
        )
        if not missing.is_kept:
            writer.forget_missing(names)
        writer.commit()
        if ranks.count > 1:
            progress.say(f"{title}: done, waiting for the others")
    merged = merge_reports(ranks.gather(report))
    merged.add_search(found, ranks.of_first(lambda: missing.lost(writer.path)))
    return merged
