"""Clips into a store: what `encode` and the frame store of `train-frame` share.

Data goes one way: readers in processes of their own give clips and their frames, `make_rows` puts
rows in place of frames, and `Intake` writes them to the store. What the store already has is not
asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ldf_video.files.layout import UNSAID, Layout
from ldf_video.intake.batches import Transform, make_rows
from ldf_video.intake.intake import Intake
from ldf_video.intake.known import claim
from ldf_video.intake.report import Report, merge_reports
from ldf_video.options.reading import Reader
from ldf_video.progress import Progress
from ldf_video.readers.pool import ReaderPool
from ldf_video.runs.command import MAX_WORKERS, num_cores
from ldf_video.sources.search import Found, search
from ldf_video.sources.source import Source
from ldf_video.store.format import StoreSpec
from ldf_video.store.writer import StoreWriter
from ldf_video.training.ranks import Ranks
from ldf_video.video.geometry import Geometry

ALONE = Ranks()
NO_INFO: Mapping[str, Any] = MappingProxyType({})
UNCHANGED = Transform()


@dataclass(frozen=True)
class Conversion:
    """How clips become rows.

    Attributes:
        geometry: what frames are brought to.
        transform: of batches of frames to batches of rows.
        batch_size: frames a batch, of which the last may be stale and are dropped.
        reader: of videos, see `open_clips`.
        workers: processes that read, chosen by the cores if None; 0 reads in this process, where a
            decoder that crashes takes everything with it.
        cuts: whether cuts are looked for and kept in the store.
    """

    geometry: Geometry
    transform: Transform = UNCHANGED
    batch_size: int = 64
    reader: Reader = "auto"
    workers: int | None = None
    cuts: bool = False


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
        writer = StoreWriter(
            path,
            spec,
            info=info,
            overwrite=overwrite,
            retry=retry,
            rank=ranks.index,
            num_ranks=ranks.count,
        )
        writers.append(writer)

    ranks.of_first(open_own)  # makes the store, or moves another aside, before anyone looks
    if not ranks.is_first:
        open_own()
    with writers[0] as writer:
        ranks.wait()
        yield writer
    ranks.wait()


def lines_on_opening(writer: StoreWriter) -> list[str]:
    """What a user must know of what became of the store that was there."""
    moved = writer.moved_to and f"the store that was there is kept as {writer.moved_to}"
    return [line for line in (moved, writer.repaired) if line]


def list_sources(clips: str | Path, ranks: Ranks, *, layout: Layout = UNSAID) -> Found:
    """The same search in all processes, though files may come and go between their looks.

    Raises:
        UsageError: there is nothing at `clips`.
    """
    found: list[Found] = []

    def look() -> None:
        found.append(search(clips, layout=layout))

    ranks.of_first(look)  # so that a wrong path is reported once
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
    conversion: Conversion,
    *,
    name: str = "read",
    quiet: bool = False,
    ranks: Ranks = ALONE,
) -> Report:
    """Bring a store up to date with the clips; goes on where a killed run stopped.

    Args:
        found: all that there is, the same in all processes; see `list_sources`.
        writer: of the store; what it holds of unchanged sources is not read again.
        conversion: of frames to rows of the store.
        name: of the work, for the progress line.
        quiet: report no progress.
        ranks: the processes that share the sources, each with its writer; the first reports.

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
        report = ingest_sources(mine, writer, conversion, progress)
        if not missing.is_kept:
            writer.forget_missing(names)
        writer.commit()
        if ranks.count > 1:
            progress.say(f"{title}: done, waiting for the others")
    merged = merge_reports(ranks.gather(report))
    lost = ranks.of_first(lambda: missing.lost(writer.path))
    merged.add_search(found, lost, kept=missing.is_kept)
    return merged


def ingest_sources(
    sources: Sequence[Source], writer: StoreWriter, conversion: Conversion, progress: Progress
) -> Report:
    """Bring the store up to date with these sources, each a source of this writer; see `ingest`.

    The largest sources are begun first.
    """
    if labels := {one.name: one.part.label for one in sources if one.part is not None}:
        writer.set_labels(labels)
    intake = Intake(sources, writer, progress, cuts=conversion.cuts)
    unread = sorted(intake.unread(), key=lambda source: source.size, reverse=True)
    num_workers = choose_workers(conversion.workers, num_sources=len(unread))
    with ReaderPool(conversion.geometry, reader=conversion.reader, num_workers=num_workers) as pool:
        while unread:
            events = intake.choose_clips(pool.read(unread))
            rows = make_rows(events, conversion.transform, batch_size=conversion.batch_size)
            with closing(rows) as items:
                for item in items:
                    intake.write(item)
            unread, intake.copies_to_read = intake.copies_to_read, []
    return intake.report


def choose_workers(asked: int | None, *, num_sources: int) -> int:
    """How many processes read: as asked, else one a core, 16 at most; no more than sources."""
    most = min(num_cores(), MAX_WORKERS) if asked is None else asked
    return min(most, num_sources)
