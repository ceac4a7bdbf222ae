"""A table of clips, `clips.csv`: a row a clip, which is a file or a range of it."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from ldf_video.checks import frame_rate
from ldf_video.errors import ReadError, UsageError, reason_of
from ldf_video.files.folders import is_zarr
from ldf_video.files.locations import look_at, split_inner
from ldf_video.sources.folder import folder_series, hidden, told_by_file, zarr_source
from ldf_video.sources.ranges import Range, clock, parse_seconds
from ldf_video.sources.source import Source, within

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ldf_video.files.entry import Entry
    from ldf_video.files.layout import Layout
    from ldf_video.files.locations import Location

TABLE_SUFFIX = ".csv"
COLUMNS = ("file", "start", "end", "label", "fps")
_NEEDED = COLUMNS[:3]
_DELIMITERS = ",;\t"


def read_table(path: Location) -> Iterator[tuple[str, Range]]:
    """Yields of each row the file, and the range of it that is a clip.

    The first line names the columns: file, start and end, and label and fps if there are any, in
    any order. An empty start is the file's, and so is an empty end. A row that makes no sense comes
    as a range with a `problem`, and the place in the table as the file.

    Raises:
        UsageError: it is no such table.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        try:
            text = file.read().decode("utf-8-sig")
        except UnicodeDecodeError:
            raise UsageError(f"{path} is no text in UTF-8: save it as CSV in UTF-8") from None
    first = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=first.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    names = [name.strip().casefold() for name in next(rows, [])]
    lacking = [name for name in _NEEDED if name not in names]
    if lacking:
        raise UsageError(
            f"{path} has no column {', '.join(lacking)}: its first line is to name them, such as "
            f"{','.join(COLUMNS)}"
        )
    for name in names:  # a rate or an end under a misspelt name must not be passed over
        if name not in COLUMNS:
            raise UsageError(
                f"{path} has an unknown column {name!r}: expected {', '.join(COLUMNS)}; rename it, "
                "or take it out"
            )
        if names.count(name) > 1:
            raise UsageError(f"{path} has the column {name} twice: take one of them out")
    try:
        for row in rows:
            if any(value.strip() for value in row):
                yield _clip_of(row, names, f"{path.name}:{rows.line_num}")
    except csv.Error as error:
        problem = f"the rest of the table cannot be read: {error}"
        yield f"{path.name}:{rows.line_num}", Range(problem=problem)


def _clip_of(row: list[str], names: list[str], place: str) -> tuple[str, Range]:
    known = dict(zip(names, (value.strip() for value in row), strict=False))
    try:
        if len(row) > len(names):
            raise ValueError(f"{len(row)} values, for {len(names)} columns")
        if not known.get("file"):
            raise ValueError("it names no file")
        start = parse_seconds(known.get("start") or "0")
        end = parse_seconds(known["end"]) if known.get("end") else None
        if end is not None and end <= start:
            raise ValueError(f"its end, {clock(end)}, is not behind its start, {clock(start)}")
        fps = None
        if rate := known.get("fps"):
            try:
                fps = Fraction(frame_rate("fps", rate))
            except UsageError as error:
                raise ValueError(str(error)) from None
        return known["file"], Range(start, end, fps, known.get("label", ""))
    except ValueError as error:
        return place, Range(problem=str(error))


def table_sources(table: Location, entry: Entry, layout: Layout) -> list[Source]:
    """A source a row of a table of clips, whose files are relative to its folder."""
    sources: dict[str, Source] = {}
    try:
        for name, row in read_table(table):
            part = row
            source = Source(table.parent, name, entry.size, entry.mtime_ns, is_named=True)
            if not row.problem:
                source, problem = _file_of_row(source, layout)
                part = replace(row, problem=problem)
            source = replace(source, name=source.name + part.suffix, part=part)
            sources.setdefault(source.name, source)
    except OSError as error:
        raise ReadError(f"{table} cannot be read: {reason_of(error)}") from error
    if not sources:
        raise UsageError(f"{table} has no row: name a file in each line below the first")
    return list(sources.values())


def _file_of_row(row: Source, layout: Layout) -> tuple[Source, str]:
    """The file, zarr store or folder with a series of a row; and what is wrong with it, or ""."""
    path, inner = split_inner(row.root / row.name)
    entry = look_at(path)
    if entry is None:
        return row, "there is no such file"
    name = row.name.removesuffix(f"::{inner}") if inner else row.name
    if entry.is_folder and isinstance(path, Path) and is_zarr(path.name, hidden(path)):
        store = replace(zarr_source(path), root=row.root, name=name.rstrip("/"))
        return within(store, inner, layout), ""
    if entry.is_folder:
        try:
            series = folder_series(path)
        except ReadError as error:
            return row, str(error)
        name = f"{row.name.rstrip('/')}/{series.name}"
        return replace(series, root=row.root, name=name, is_named=True), ""
    file = replace(row, name=name, size=entry.size, mtime_ns=entry.mtime_ns)
    if isinstance(path, Path):
        file = told_by_file(file, path, entry)
    return within(file, inner, layout), ""
