"""Files of conditions: `NAME.csv`, or `NAME.npy`, a row a frame, beside a clip or of its own.

A CSV begins with the columns' names. A cell is a number, or a name such as that of an action; an
empty one is not known, nor is an empty row. A column `frame` is passed over: rows count by
themselves. A `.npy` array has shape (frames,), (frames, columns), or both with clips before them;
of a structured one the fields are the columns.
"""

from __future__ import annotations

import contextlib
import csv
import io
import math
from array import array
from collections import Counter
from dataclasses import dataclass, field
from tokenize import TokenError
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ldf_video.arrays.conditions import MOST_COLUMNS, MOST_NAMES, Column, Conditions
from ldf_video.errors import ReadError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from ldf_video.files.locations import Location
    from ldf_video.sources.source import Source

FRAME = "frame"
"""A column that only counts."""
_DELIMITERS = ",;\t"
_MOST_LETTERS = 100
_ALIVE_ROWS = 4096
_LONGEST_LINE = 1 << 16
_LARGEST = float(np.finfo(np.float32).max)


@dataclass
class _Cells:
    """One column while it is read."""

    name: str
    values: array[float] = field(default_factory=lambda: array("f"))
    codes: dict[str, int] = field(default_factory=dict)
    holds_numbers: bool = False

    def add(self, cell: str, place: str) -> None:
        """The next cell, from a place that errors name."""
        text = cell.strip()
        if not text:
            self.values.append(math.nan)
            return
        try:
            number = float(text)
        except ValueError:
            self.values.append(self._code(text, place))
            return
        if not abs(number) <= _LARGEST:  # nor is nan
            raise ReadError(f"{place}: {self.name} is {text}: leave the cell empty where unknown")
        if self.codes:
            raise ReadError(f"{place}: {self.name} is {text}, a number, and was a name before")
        self.holds_numbers = True
        self.values.append(number)

    def column(self) -> tuple[Column, NDArray[np.float32]]:
        return Column(self.name, tuple(self.codes)), np.frombuffer(self.values, np.float32)

    def _code(self, name: str, place: str) -> int:
        shown = name[:_MOST_LETTERS]
        if self.holds_numbers:
            raise ReadError(f"{place}: {self.name} is {shown!r}, expected a number as before")
        if len(name) > _MOST_LETTERS or not name.isprintable():
            raise ReadError(f"{place}: {self.name} is {shown!r}, expected a short name")
        code = self.codes.setdefault(name, len(self.codes))
        if code >= MOST_NAMES:
            raise ReadError(f"{place}: {self.name} has more than {MOST_NAMES} different names")
        return code


def read_conditions(path: Location, *, alive: Callable[[], None] = lambda: None) -> Conditions:
    """The conditions of one clip in a CSV or a `.npy` file; columns that say nothing are left out.

    `alive` is called now and then.

    Raises:
        ReadError: it holds none; the message names the line and the column, and not the path.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        if path.suffix.lower() == ".npy":
            return _of_array(_loaded(file))
        text = io.TextIOWrapper(io.BufferedReader(file), "utf-8-sig", newline="")
        try:
            return _of_lines(text, alive)
        except UnicodeDecodeError:
            raise ReadError("no text in UTF-8: save it as CSV in UTF-8") from None
        except csv.Error as error:
            raise ReadError(f"no CSV: {error}") from None


def _delimiter(line: str) -> str:
    return max(_DELIMITERS, key=line.count)


def _names_of(line: str) -> list[str]:
    return [name.strip() for name in next(csv.reader([line], delimiter=_delimiter(line)), [])]


def _of_lines(lines: io.TextIOWrapper, alive: Callable[[], None]) -> Conditions:
    first = lines.readline(_LONGEST_LINE)
    names, delimiter = _names_of(first), _delimiter(first)
    columns = [_Cells(name) for name in names]
    kept = [cells for cells in columns if cells.name.casefold() != FRAME]
    _check_names([cells.name for cells in kept])
    num_rows = 0
    rows = csv.reader(lines, delimiter=delimiter)
    for row in rows:
        place = f"line {rows.line_num + 1}"  # the first one names the columns
        if len(row) > len(columns) and any(cell.strip() for cell in row[len(columns) :]):
            raise ReadError(f"{place} has {len(row)} values, for {len(columns)} columns")
        cells = [*row[: len(columns)], *[""] * (len(columns) - len(row))]
        for column, cell in zip(columns, cells, strict=True):
            if column.name.casefold() != FRAME:
                column.add(cell, place)
        num_rows += 1
        if num_rows % _ALIVE_ROWS == 0:
            alive()
    return _known((cells.column() for cells in kept), num_rows)


def usual_columns(sources: Iterable[Source]) -> list[str]:
    """The columns that most CSVs beside sources name; of several as usual, the first that comes.

    So one file with a slip in its first line does not decide for all. Empty where there is none.
    """
    counts: Counter[tuple[str, ...]] = Counter()
    for name in dict.fromkeys(one.conditions_path for one in sources if one.conditions):
        if name is not None and name.suffix.lower() == ".csv":
            with contextlib.suppress(OSError, UnicodeDecodeError, ReadError):
                with name.open("rb") as file:
                    names = _names_of(file.readline(_LONGEST_LINE).decode("utf-8-sig"))
                _check_names(kept := [one for one in names if one.casefold() != FRAME])
                counts[tuple(kept)] += 1
    return list(next((names for names, _ in counts.most_common(1)), ()))


def _check_names(names: Sequence[str]) -> None:
    """See that columns have names, each another; a ReadError if not."""
    if not names or not all(names):
        raise ReadError("its first line is to name the columns, such as left,right or action")
    if twice := [name for name in names if names.count(name) > 1]:
        raise ReadError(f"two columns {twice[0]!r}: each needs another name")
    if len(names) > MOST_COLUMNS:
        raise ReadError(f"{len(names)} columns: expected {MOST_COLUMNS} at most")
    if unfit := [name for name in names if len(name) > _MOST_LETTERS or not name.isprintable()]:
        raise ReadError(f"column {unfit[0][:_MOST_LETTERS]!r}: expected a short name")
    if all(_is_number(name) for name in names):
        raise ReadError(
            f"its first line is {','.join(names)[:_MOST_LETTERS]}: it is to name the columns, such "
            "as left,right or action"
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _known(found: Iterable[tuple[Column, NDArray[np.float32]]], num_rows: int) -> Conditions:
    """The columns of which something is known."""
    some = [(column, values) for column, values in found if np.isfinite(values).any()]
    known = np.empty((num_rows, len(some)), np.float32)
    for place, (_, values) in enumerate(some):
        known[:, place] = values
    return Conditions(tuple(column for column, _ in some), known)


def _loaded(file: BinaryIO) -> NDArray[Any]:
    """An array; no pickle."""
    try:
        array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, EOFError, MemoryError, OverflowError, TokenError, RecursionError) as error:
        said = " ".join(str(error).split())[:_MOST_LETTERS]
        raise ReadError(f"no array of numbers: {said}") from None
    return array


def _of_array(values: NDArray[Any]) -> Conditions:
    """Those in an array (frames,) or (frames, columns), or structured, of numbers or texts."""
    if values.dtype.names and values.ndim == 1:
        named = {name: values[name] for name in values.dtype.names}
    elif values.dtype.names:
        raise ReadError(f"shape {values.shape}: expected a row a frame")
    elif values.ndim == 2 and values.shape[1] > 1:
        named = {f"value{number}": column for number, column in enumerate(values.T)}
    elif values.ndim in (1, 2) and values.size == len(values):
        named = {"value": values.ravel()}
    else:
        raise ReadError(f"shape {values.shape}: expected (frames, columns)")
    _check_names(list(named))
    return _known([_of_vector(column, name) for name, column in named.items()], len(values))


def _of_vector(values: NDArray[Any], name: str) -> tuple[Column, NDArray[np.float32]]:
    kind = values.dtype.kind
    if kind in "SU":
        cells = _Cells(name)
        texts = np.char.decode(values, "utf-8", "replace") if kind == "S" else values
        for row, text in enumerate(texts.tolist(), 1):
            cells.add(text, f"row {row}")
        return cells.column()
    if kind not in "biuf" or values.ndim != 1:
        raise ReadError(f"{name} is {values.dtype} {values.shape[1:]}: expected numbers or names")
    with np.errstate(over="ignore"):  # what is too large is infinite
        found = values.astype(np.float32)
    if np.isinf(found).any():
        raise ReadError(f"{name} is infinite in row {int(np.isinf(found).argmax()) + 1}")
    return Column(name), found
