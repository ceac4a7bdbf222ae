"""encode --verify: a store against its checksums, and against the clips; encodes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ldf_video.errors import StoreError
from ldf_video.intake.report import Report
from ldf_video.progress import Progress
from ldf_video.store.check import Verified, drop_damaged, verify_store
from ldf_video.store.reader import StoreReader
from ldf_video.video.sources import Source, is_own


def verify_clips(out: Path, sources: Sequence[Source], progress: Progress, *, drop: bool) -> Report:
    """Read every row of a store; report what is wrong, and which clips the store lacks.

    Args:
        out: the store's directory.
        sources: all that there are.
        progress: where the lines go.
        drop: drop what is damaged, so that the next encode makes it again.

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
            f"{out} has {_counted(found.num_problems, 'problem')}: encode --verify --retry lets go"
            " of what is damaged, and the next encode makes it anew"
        )
    lacking = _find_lacking(out, sources)
    own = [source for source in lacking if is_own(source)]
    report = Report(len(sources) - len(own), len(sources) - len(lacking), num_own=len(own))
    missing = len(lacking) - len(own)
    state = (
        f"{missing:,} new or changed: encode brings them in" if missing else "none new or changed"
    )
    progress.say(f"{_counted(report.num_sources, 'source')}, {state}")
    return report


def _lines(found: Verified) -> list[str]:
    lines = [f"  {problem}" for problem in found.problems]
    hidden = found.num_problems - len(found.problems)
    if hidden:
        lines.append(f"  and {hidden:,} more")
    lines.append(
        f"verified: {_counted(found.num_clips, 'clip')}, {_counted(found.num_frames, 'frame')}, "
        f"{found.num_bytes / 1e6:,.1f} MB: "
        + (_counted(found.num_problems, "problem") if found.num_problems else "every row is sound")
    )
    if found.num_lost_clips:
        lines.append(
            f"let go: {_counted(found.num_lost_frames, 'frame')} of "
            f"{_counted(found.num_lost_clips, 'clip')}, which the next encode makes anew"
        )
    if found.num_unused_clips or found.num_unreachable_rows:
        lines.append(
            f"not used: {_counted(found.num_unused_clips, 'clip')} that no source points at, "
            f"{_counted(found.num_unreachable_rows, 'row')} of no clip"
        )
    return lines


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


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
