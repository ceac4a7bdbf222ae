"""A source: one file that may hold clips, one series of pictures, or a range of a file."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ldf_video.files.archives import files_below
from ldf_video.files.layout import UNSAID, Layout, layout_of
from ldf_video.files.locations import Location, join, locate
from ldf_video.sources.ranges import Range
from ldf_video.sources.series import Series

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Source:
    """One file that may hold clips, or one series of numbered pictures.

    There may be a million of them, so none keeps a path of its own.

    Attributes:
        root: CLIPS, or its folder where CLIPS is a file.
        name: POSIX path relative to `root`, with `::` between an archive and what lies in it. A
            series is named by the path of its folder and its pattern, such as `walk/frame_*.png`;
            one with an `inner` ends in `::` and this.
        size: in bytes, of all pictures together; -1 if the file could not be looked at.
        mtime_ns: as of `Entry`; of a series a number that changes with any picture's name, size or
            time.
        series: the pictures, None for a file.
        is_named: whether it is the file that the user named.
        inner: what is read in a file that holds several things: a path in it, or a pattern; "" for
            all that can be read.
        is_folder: whether it is a folder that is read as one, such as a zarr store.
        layout: what the user said of its clips.
        conditions: POSIX path relative to `root` of the file that says what is known of its frames,
            "" for none. Its size and time are in `size` and `mtime_ns`.
        part: the range of the file that is the clip, of a row of a table; None for all of it. The
            name ends in its suffix.
    """

    root: Location
    name: str
    size: int
    mtime_ns: int
    series: Series | None = None
    is_named: bool = False
    inner: str = ""
    is_folder: bool = False
    layout: Layout = UNSAID
    conditions: str = ""
    part: Range | None = None

    @property
    def path(self) -> Location:
        """Where it is; of a series, its folder."""
        name = self.name
        if self.part is not None:
            name = name.removesuffix(self.part.suffix)
        if self.series is not None:
            name = name.removesuffix(self.series.pattern).rstrip("/")
        elif self.inner:
            name = name.removesuffix(f"::{self.inner}")
        return join(self.root, name)

    @property
    def title(self) -> str:
        """What people call it: its name, or that of CLIPS where this is the one thing read."""
        is_all = not self.name or self.name.startswith("::")
        return self.root.name + self.name if is_all else self.name

    @property
    def conditions_path(self) -> Location | None:
        """Where the file of its conditions is; None where there is none."""
        return join(self.root, self.conditions) if self.conditions else None

    @property
    def asked(self) -> Location:
        """CLIPS as it was named: a file, or the folder that was searched."""
        return self.path if self.is_named else self.root

    def files(self) -> Iterator[Location]:
        """Yields the file, or those of a series or a folder in order."""
        if self.is_folder and isinstance(self.path, Path):
            return files_below(self.path)
        path, names = self.path, [""] if self.series is None else self.series.names
        return (path / name for name in names)

    def to_json(self) -> dict[str, Any]:
        """Returns plain values of which `from_json` makes the same source, in any process."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return fields | {
            "root": str(self.root),
            "layout": self.layout.settings(),
            "part": None if self.part is None else self.part.to_json(),
        }

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Source:
        root, series = locate(fields["root"]), fields["series"]
        if series is not None:
            series = Series(tuple(series[0]), series[1])
        layout, part = layout_of(fields["layout"]), fields["part"]
        if part is not None:
            part = Range.from_json(part)
        return cls(**{**fields, "root": root, "series": series, "layout": layout, "part": part})


def within(source: Source, inner: str, layout: Layout) -> Source:
    """Returns a source of which a part is read, or all if `inner` is empty, as a user says."""
    name = f"{source.name}::{inner}" if inner else source.name
    return replace(source, name=name, inner=inner, layout=layout)
