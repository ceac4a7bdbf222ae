"""A table of clips, `clips.csv`: a row a clip, which is a file or a range of it."""

from __future__ import annotations

import csv
import io
from fractions import Fraction
from typing import TYPE_CHECKING

from ldf_video.checks import frame_rate
from ldf_video.errors import UsageError
from ldf_video.sources.ranges import Range, clock, parse_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ldf_video.files.locations import Location

TABLE_SUFFIX = ".csv"
COLUMNS = ("file", "start", "end", "label", "fps")
_NEEDED = COLUMNS[:3]
_DELIMITERS = ",;\t"


def read_table(path: Location) -> Iterator[tuple[str, Range]]:
    """Yields of each row the file, and the range of it that is a clip.

    The first line names the columns: file, start and end, and label and fps if there are any, in
    any order. An empty start is the file's, and so is an empty end. A row that makes no sense, and
    a column that means nothing, come as a range with a `problem`, and the place in the table as
    the file.

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
    for name in names:
        if name not in COLUMNS or names.count(name) > 1:
            what = "twice" if name in COLUMNS else f"unknown, expected {', '.join(COLUMNS)}"
            problem = f"column {name!r} is {what}: it is passed over"
            yield f"{path.name}:1", Range(label=name, problem=problem)
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
