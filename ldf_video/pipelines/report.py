"""What became of the sources of an `encode` or a `train-frame`, and how far the reading is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from ldf_video.video.sources import Source, natural_key


@dataclass
class Report:
    """What became of the sources.

    Attributes:
        num_sources: found under CLIPS.
        num_unchanged: known to the store from before and not read again.
        num_frames: added to the store now.
        salvaged: names and reasons of sources of which the readable beginning was kept.
        quarantined: names and reasons of sources of which nothing could be read.
        noted: names of sources, and what a user must know of what was read of them.
        not_by_decord: names and reasons of videos that PyAV read where decord was asked for.
    """

    num_sources: int = 0
    num_unchanged: int = 0
    num_frames: int = 0
    salvaged: list[tuple[str, str]] = field(default_factory=list)
    quarantined: list[tuple[str, str]] = field(default_factory=list)
    noted: list[tuple[str, str]] = field(default_factory=list)
    not_by_decord: list[tuple[str, str]] = field(default_factory=list)

    def first_reason(self) -> str:
        """Why nothing could be read, from the first source that could not."""
        if not self.quarantined:
            return "no source gave a frame"
        name, reason = self.quarantined[0]
        return f"{name}: {reason}"

    def lines(self) -> list[str]:
        """A line for every source that did not come whole, one on notes, on the reader, the sum."""
        listed = [f"  salvaged {name}: {reason}" for name, reason in self.salvaged]
        listed += [f"  unreadable {name}: {reason}" for name, reason in self.quarantined]
        if self.noted:
            others = f" (and {len(self.noted) - 1:,} more)" if len(self.noted) > 1 else ""
            name, note = self.noted[0]
            listed.append(f"  {name}{others}: {note}")
        if self.not_by_decord:
            counts = Counter(reason for _, reason in self.not_by_decord)
            reasons = "; ".join(f"{count:,} {reason}" for reason, count in counts.most_common())
            listed.append(
                f"  decord was not right for {len(self.not_by_decord):,} of "
                f"{self.num_sources:,} sources ({reasons}): read by PyAV"
            )
        total = (
            f"{self.num_sources:,} sources: {self.num_frames:,} new frames, "
            f"{self.num_unchanged:,} sources unchanged, {len(self.salvaged):,} salvaged, "
            f"{len(self.quarantined):,} unreadable"
        )
        return [*listed, total]


def merge_reports(reports: Sequence[Report]) -> Report:
    """What became of the sources of several processes, listed as one process lists them."""

    def in_order(listed: list[tuple[str, str]]) -> list[tuple[str, str]]:
        return sorted(listed, key=lambda item: natural_key(item[0]))

    return Report(
        num_sources=sum(report.num_sources for report in reports),
        num_unchanged=sum(report.num_unchanged for report in reports),
        num_frames=sum(report.num_frames for report in reports),
        salvaged=in_order([item for report in reports for item in report.salvaged]),
        quarantined=in_order([item for report in reports for item in report.quarantined]),
        noted=in_order([item for report in reports for item in report.noted]),
        not_by_decord=in_order([item for report in reports for item in report.not_by_decord]),
    )


class Reach:
    """How far through all sources the reading is, by their bytes."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._total = max(sum(max(source.size, 0) for source in sources), 1)
        self._ended = 0
        self._open: dict[str, float] = {}

    def at(self, source: Source, position: float) -> None:
        """Come to a `position` in [0, 1] of a source; any number are read at once."""
        self._open[source.name] = position * max(source.size, 0)

    def end(self, source: Source) -> None:
        """Leave a source behind."""
        self._open.pop(source.name, None)
        self._ended += max(source.size, 0)

    @property
    def share(self) -> float:
        """Of all bytes, in [0, 1]."""
        return min((self._ended + sum(self._open.values())) / self._total, 1.0)
