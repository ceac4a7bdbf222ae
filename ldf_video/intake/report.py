"""What became of the sources of an `encode` or a `train-frame`, and how far the reading is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields

from ldf_video.errors import counted
from ldf_video.sources.name_numbers import natural_key
from ldf_video.sources.search import Found
from ldf_video.sources.source import Source

MANY = 10
"""Sources that cannot be read for one reason, above which they are not listed one by one."""


@dataclass
class Report:
    """What became of the sources.

    Attributes:
        num_sources: found under CLIPS.
        num_unchanged: known to the store from before and not read again.
        num_frames: added to the store now.
        salvaged: names and reasons of damaged sources whose readable frames were kept.
        quarantined: the same of sources of which nothing could be read.
        noted: the same of what a user must know of what was read.
        not_by_decord: the same of videos that PyAV read where decord was asked for.
        num_stills, still: pictures that came in as clips of one frame, and the first of them.
        sidecars: how many files were left out as none that hold pictures, by suffix.
        num_own: files, stores and checkpoints that ldf-video wrote and that were left out.
        num_gone, gone: sources that the store had and uses no more, and one of them.
        num_kept: sources of the store that this call was not asked about.
        num_cuts: that were found in the frames that were added.
    """

    num_sources: int = 0
    num_unchanged: int = 0
    num_frames: int = 0
    salvaged: list[tuple[str, str]] = field(default_factory=list)
    quarantined: list[tuple[str, str]] = field(default_factory=list)
    noted: list[tuple[str, str]] = field(default_factory=list)
    not_by_decord: list[tuple[str, str]] = field(default_factory=list)
    num_stills: int = 0
    still: str = ""
    sidecars: Counter[str] = field(default_factory=Counter)
    num_own: int = 0
    num_gone: int = 0
    gone: str = ""
    num_kept: int = 0
    num_cuts: int = 0

    def first_reason(self) -> str:
        """Why nothing could be read, from the first source that could not."""
        for name, reason in self.quarantined:
            return f"{name}: {reason}"
        if self.num_own:
            return "ldf-video wrote all of it itself; name one file to read it all the same"
        return "no source gave a frame"

    def add_search(self, found: Found, missing: Collection[str], *, kept: bool) -> None:
        """Note what the search left out, and which sources of the store it did not find."""
        self.sidecars = found.sidecars
        self.num_own += found.num_own
        if kept:
            self.num_kept = len(missing)
        else:
            self.num_gone, self.gone = len(missing), min(missing, default="")

    def lines(self, *, listed: bool = True) -> list[str]:
        """A line for every source that did not come whole, one for each thing to know, the sum.

        Where the store is not kept, nothing is `listed` in it.
        """
        lines = [f"  salvaged {name}: {reason}" for name, reason in self.salvaged]
        lines += self._unreadable(", which info lists" if listed else "")
        lines += [f"  {line}" for line in note_lines(self.noted)]
        if self.not_by_decord:
            counts = Counter(reason for _, reason in self.not_by_decord)
            reasons = "; ".join(f"{count:,} {reason}" for reason, count in counts.most_common())
            lines.append(
                f"  decord was not right for {len(self.not_by_decord):,} of "
                f"{counted(self.num_sources, 'source')} ({reasons}): read by PyAV"
            )
        lines += self._beside()
        if self.num_cuts:
            lines.append(
                f"  {counted(self.num_cuts, 'cut')}, listed by info: no window of train-top "
                "crosses one"
            )
        total = (
            f"{counted(self.num_sources, 'source')}: {counted(self.num_frames, 'new frame')}, "
            f"{counted(self.num_unchanged, 'source')} unchanged, {len(self.salvaged):,} salvaged, "
            f"{len(self.quarantined):,} unreadable"
        )
        return [*lines, total]

    def _unreadable(self, where: str) -> list[str]:
        """A line for each source; one for all where many have the same reason, and `where`."""
        counts = Counter(reason for _, reason in self.quarantined)
        lines = dict[str, str]()
        for name, reason in self.quarantined:
            many = counts[reason] > MANY
            more = f" and {counts[reason] - 1:,} more{where}" if many else ""
            lines.setdefault(reason if many else name, f"  unreadable {name}{more}: {reason}")
        return list(lines.values())

    def _beside(self) -> list[str]:
        """What was not read, and why; pictures that may be meant otherwise."""
        lines, left_out = list[str](), list[str]()
        if self.num_stills > 1:
            lines.append(
                f"  {self.num_stills:,} pictures are clips of one frame, such as {self.still}: "
                "name those of one clip alike but for a number: walk_0001.png, walk_0002.png"
            )
        if self.sidecars:
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in self.sidecars.most_common(4))
            count = self.sidecars.total()
            left_out.append(f"{count:,} {'files' if count > 1 else 'file'} beside clips ({kinds})")
        if self.num_own:
            left_out.append(f"{self.num_own:,} that ldf-video wrote itself")
        if left_out:
            lines.append(f"  left out: {'; '.join(left_out)}")
        if self.num_gone:
            lines.append(
                f"  of what the store had, {self.num_gone:,} are not there any more, such as "
                f"{self.gone}: it uses their clips no more; put back, they cost no encoding"
            )
        if self.num_kept:
            lines.append(f"  other sources of the store, kept as they are: {self.num_kept:,}")
        return lines


def note_lines(noted: Sequence[tuple[str, str]]) -> list[str]:
    """A line for each thing to be known of some sources, or clips, by name."""
    lines = list[str]()
    for note, names in _by_note(noted).items():
        others = f" (and {len(names) - 1:,} more)" if len(names) > 1 else ""
        lines.append(f"{names[0]}{others}: {note}")
    return lines


def _by_note(noted: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """The sources of each note, which are alike but for numbers; the first notes of all."""
    alike, found = dict[str, str](), dict[str, dict[str, None]]()
    for name, note in noted:
        first = alike.setdefault(re.sub(r"[\d.]+", "", note), note)
        found.setdefault(first, {})[name] = None
    return {note: list(names) for note, names in list(found.items())[:MANY]}


def merge_reports(reports: Sequence[Report]) -> Report:
    """What became of the sources of several processes, listed as one process lists them."""
    merged = Report()
    for one in fields(Report):
        values = [getattr(report, one.name) for report in reports]
        if isinstance(values[0], list):
            listed = [item for value in values for item in value]
            setattr(merged, one.name, sorted(listed, key=lambda item: natural_key(item[0])))
        elif isinstance(values[0], str):
            setattr(merged, one.name, next(filter(None, values), ""))
        else:
            setattr(merged, one.name, sum(values[1:], values[0]))
    return merged


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
