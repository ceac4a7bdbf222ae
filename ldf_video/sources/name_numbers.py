"""The numbers in names of files: which belong together, as a decimal, a date or a time."""

from __future__ import annotations

import calendar
import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from itertools import chain, pairwise
from statistics import median
from typing import NamedTuple, TypeAlias

Key: TypeAlias = tuple[Decimal, ...]

# A decimal may have an exponent, as in 1e-05; a minus counts where no other sign can be meant.
NUMBER = re.compile(r"((?:(?<![^_= (])-)?\d+(?:\.\d+)?(?:[eE][+-]\d+)?)")
_DIGITS = re.compile(r"([0-9]+)")
_VIEW = re.compile(r"(?i)(cam|camera|view)[-_ ]?$")
_FRAME = re.compile(r"(?i)(?<![a-z])(f|fr|frame|t|time|timepoint)[-_ ]?$")
_UNIT = re.compile(r"(?i)(d|days?|h|hrs?|m|min|s|sec|ms)(?![a-z])")
_UNITS = "dhms"
_COUNTER_SHARE = 0.9
_SAME_RECORDING_SECONDS = 10
_EVEN_STEPS = 3

_YEAR = r"(19|20)[0-9]{2}"
_MONTH, _DAY = r"(0[1-9]|1[0-2])", r"(0[1-9]|[12][0-9]|3[01])"
_HOUR, _MINUTE, _SECOND = r"([01][0-9]|2[0-3])", r"[0-5][0-9]", r"([0-5][0-9]|60)"
_MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_abbr) if name}
_NAMED_MONTH = rf"({'|'.join(filter(None, (*calendar.month_name, *calendar.month_abbr)))})"
_HALF_DAY = re.compile(
    r"(?i)(?<![0-9])(1[0-2]|0?[1-9])(([-.:_])[0-5][0-9](?:\3[0-5][0-9])?)"
    r"[-_ \u00a0\u202f]?([ap])m(?![a-z])"
)
_NAMED_DATES = (
    re.compile(rf"(?i)(?P<d>(?<!\d)\d\d?)[-_. ]?{_NAMED_MONTH}[-_. ]?(?P<y>{_YEAR})(?!\d)"),
    re.compile(rf"(?i)(?P<y>(?<!\d){_YEAR})[-_. ]?{_NAMED_MONTH}[-_. ]?(?P<d>\d\d?)(?!\d)"),
    re.compile(rf"(?i)(?<![a-z]){_NAMED_MONTH}[-_. ]?(?P<d>\d\d?)[-_., ]+(?P<y>{_YEAR})(?!\d)"),
)
_YEAR_LAST = re.compile(rf"(?<!\d)(\d\d?)([-_. ])(\d\d?)\2({_YEAR})(?!\d)")


class _Shape(NamedTuple):
    """The numbers that make a date or a time, and how their digits are read."""

    patterns: Sequence[str]
    format: str
    is_common: bool = False  # a scene and a shot may look so: a time only where steps are even


_TO_THE_SECOND = [
    _Shape([_YEAR, _MONTH, _DAY, _HOUR, _MINUTE, _SECOND], "%Y%m%d%H%M%S"),
    _Shape([_YEAR + _MONTH + _DAY, _HOUR, _MINUTE, _SECOND], "%Y%m%d%H%M%S"),
    _Shape([_YEAR, _MONTH, _DAY, _HOUR + _MINUTE + _SECOND], "%Y%m%d%H%M%S"),
    _Shape([_YEAR + _MONTH + _DAY, _HOUR + _MINUTE + _SECOND], "%Y%m%d%H%M%S"),
    _Shape([_YEAR + _MONTH + _DAY + _HOUR + _MINUTE + _SECOND], "%Y%m%d%H%M%S"),
    _Shape([_HOUR, _MINUTE, _SECOND], "%H%M%S", is_common=True),
    _Shape([r"1[0-9]{9}"], ""),  # seconds since 1970
]
_COARSER = [
    _Shape([_YEAR + _MONTH + _DAY, _HOUR + _MINUTE + _SECOND + r"[0-9]{3}"], "%Y%m%d%H%M%S%f"),
    _Shape([_YEAR, _MONTH, _DAY, _HOUR, _MINUTE], "%Y%m%d%H%M"),
    _Shape([_YEAR + _MONTH + _DAY, _HOUR, _MINUTE], "%Y%m%d%H%M"),
    _Shape([_YEAR + _MONTH + _DAY, _HOUR + _MINUTE], "%Y%m%d%H%M", is_common=True),
    _Shape([_YEAR, _MONTH, _DAY], "%Y%m%d"),
    _Shape([_YEAR, _MONTH], "%Y%m", is_common=True),
]


@dataclass(frozen=True)
class Column:
    """One number of every name of a group: the text before it, its own text, its value."""

    before: str
    texts: tuple[str, ...]
    values: tuple[Key, ...]

    def num_values(self, rows: Sequence[int]) -> int:
        return len({self.values[row] for row in rows})

    def is_counter(self, rows: Sequence[int]) -> bool:
        """Whether hardly two of the names have the same number."""
        return self.num_values(rows) >= _COUNTER_SHARE * len(rows)

    @property
    def is_view(self) -> bool:
        return _VIEW.search(self.before) is not None

    @property
    def is_frame(self) -> bool:
        return _FRAME.search(self.before) is not None


def natural_key(name: str) -> tuple[str, str]:
    """Returns a sort key that puts clip2 before clip10; ties fall back to code points."""
    parts = _DIGITS.split(name.casefold())
    # A number counts by its value: first by how many digits it has, then by these. The zero ends
    # the text before it, so that text which goes on comes later.
    for index in range(1, len(parts), 2):
        digits = parts[index].lstrip("0")
        parts[index] = f"\0{chr(1 + len(digits))}{digits}"
    return "".join(parts), name


def with_standard_times(name: str) -> str:
    """Writes a date with a named month as year-month-day, and an hour as one from 0 to 23."""
    return _with_named_months(_with_24_hours(name))


def _with_24_hours(name: str) -> str:
    return _HALF_DAY.sub(
        lambda m: f"{int(m[1]) % 12 + 12 * (m[4] in 'pP'):02}{m[2]}",
        name,
    )


def _with_named_months(name: str) -> str:
    for pattern in _NAMED_DATES:
        if found := pattern.search(name):
            month = next(_MONTHS[text[:3].lower()] for text in found.groups() if _is_month(text))
            day = f"{found['y']}-{month:02}-{int(found['d']):02}"
            return name[: found.start()] + day + name[found.end() :]
    return name


def _is_month(text: str | None) -> bool:
    return text is not None and text[:3].lower() in _MONTHS


def with_year_first(names: list[str]) -> list[str]:
    """Turns dates with the year behind, where all names have them, and all in the same way."""
    found = [match for name in names if (match := _YEAR_LAST.search(name))]
    readings = list[list[date]]()
    for day, month in ((1, 3), (3, 1)) if len(found) == len(names) else ():
        with contextlib.suppress(ValueError):  # no such month
            readings.append([date(int(m[4]), int(m[month]), int(m[day])) for m in found])
    if not readings:
        return names
    days = min(readings, key=lambda days: max(days) - min(days))
    return [
        f"{name[: match.start()]}{day.isoformat()}{name[match.end() :]}"
        for name, match, day in zip(names, found, days, strict=True)
    ]


def columns_of(texts: Sequence[str], numbers: Sequence[Sequence[str]]) -> list[Column]:
    """The numbers of names whose other parts are the same, those that belong together as one."""
    columns = []
    for place, before in enumerate(texts[:-1]):
        columns += _numbers(before, [own[place] for own in numbers])
    return _with_decimals(_with_times(_with_units(columns, texts[-1])))


def _numbers(before: str, texts: Sequence[str]) -> list[Column]:
    """One column of numbers; two where each has a dot, which may only separate two integers."""
    if all(text[0] == "-" for text in texts):
        before, texts = before + "-", [text[1:] for text in texts]
    halves = [text.partition(".") for text in texts]
    if all(whole.isdigit() and part.isdigit() for whole, _, part in halves):
        wholes, _, parts = zip(*halves, strict=True)
        return [_column(before, wholes), _column(".", parts)]
    return [_column(before, texts)]


def _column(before: str, texts: Sequence[str]) -> Column:
    return Column(before, tuple(texts), tuple((Decimal(text),) for text in texts))


def _joined(columns: Sequence[Column]) -> Column:
    """Several numbers as one, the first of the greatest weight."""
    first, *others = columns
    texts = tuple(
        first.texts[row] + "".join(other.before + other.texts[row] for other in others)
        for row in range(len(first.texts))
    )
    values = zip(*(column.values for column in columns), strict=True)
    return Column(first.before, texts, tuple(tuple(chain(*value)) for value in values))


def _with_units(columns: list[Column], end: str) -> list[Column]:
    """Joins numbers that units follow, each a smaller one, as 2d03h or 1m5s."""
    found, units = list[Column](), list[int]()
    for column, after in zip(columns, [*(c.before for c in columns[1:]), end], strict=True):
        unit = _UNIT.match(after)
        units.append(_UNITS.index(unit[1][0].lower()) + (unit[1].lower() == "ms") if unit else -1)
        if len(units) > 1 and -1 < units[-2] < units[-1]:
            column = _joined([found.pop(), column])  # noqa: PLW2901
        found.append(column)
    return found


def _with_times(columns: list[Column]) -> list[Column]:
    """Joins the numbers of each date and time."""
    found = list[Column]()
    while columns:
        length = _length_of(_TO_THE_SECOND, columns)
        if length and len(columns) > length and _is_within_a_second(columns[: length + 1]):
            length += 1
        length = max(length, _length_of(_COARSER, columns), 1)
        found.append(_joined(columns[:length]))
        columns = columns[length:]
    return found


def _length_of(shapes: Sequence[_Shape], columns: Sequence[Column]) -> int:
    """How many columns the longest date or time takes that they begin with; 0 for none."""

    def fits(shape: _Shape) -> bool:
        own = columns[: len(shape.patterns)]
        return (
            len(own) == len(shape.patterns)
            and all(
                re.fullmatch(pattern, text)
                for pattern, column in zip(shape.patterns, own, strict=True)
                for text in set(column.texts)
            )
            and (not shape.is_common or _is_even(_stamps(own, shape.format)))
        )

    return max((len(shape.patterns) for shape in shapes if fits(shape)), default=0)


def _is_within_a_second(columns: Sequence[Column]) -> bool:
    """Whether the last number is a part of a second, behind a time to the second.

    Where the times lie far apart and the number begins again in each, it counts a clip's frames.
    """
    *time, part = columns
    if not re.fullmatch(r"[-_., s]+", part.before):
        return False
    digits = sum(len(column.texts[0]) for column in time)
    steps = _steps(_stamps(time, {14: "%Y%m%d%H%M%S", 6: "%H%M%S"}.get(digits, "")))
    if not steps or part.is_counter(range(len(part.texts))):
        return True
    return median(steps) <= _SAME_RECORDING_SECONDS


def _stamps(time: Sequence[Column], format: str) -> set[Decimal]:
    """Dates and times as numbers of seconds; without a format they are such. Empty if one is none.

    Months count as equal, where there is nothing smaller.
    """
    stamps = set[Decimal]()
    for texts in set(zip(*(column.texts for column in time), strict=True)):
        digits = "".join(texts)
        if not format:
            stamps.add(Decimal(digits))
        elif format == "%Y%m":
            stamps.add(Decimal(int(digits[:4]) * 12 + int(digits[4:])))
        else:
            try:
                moment = datetime.strptime(digits, format)
            except ValueError:  # the 30th of February
                return set()
            stamps.add(Decimal(moment.toordinal() * 86_400 + _second_of_day(moment)))
    return stamps


def _second_of_day(moment: datetime) -> int:
    return (moment.hour * 60 + moment.minute) * 60 + moment.second


def _steps(values: set[Decimal]) -> list[Decimal]:
    return [b - a for a, b in pairwise(sorted(values))]


def _is_even(values: set[Decimal]) -> bool:
    steps = _steps(values)
    return bool(values) and (not steps or max(steps) <= _EVEN_STEPS * median(steps))


def _with_decimals(columns: list[Column]) -> list[Column]:
    """Joins whole numbers and what follows their dots or commas, where these are decimals."""
    found = list[Column]()
    for column in columns:
        last = column
        if found and column.before in (".", ",") and _is_fraction(found[-1], column):
            whole = found.pop()
            texts = [f"{a}.{b}" for a, b in zip(whole.texts, column.texts, strict=True)]
            last = _column(whole.before, texts)
        found.append(last)
    return found


def _is_fraction(whole: Column, part: Column) -> bool:
    """Whether what follows a dot is a part of the number before, not a counter of its own.

    1.9 and 1.10 are no decimals. Nor are 1.0001, 1.0002, ... and then 2.0001: they count.
    """
    if not all(text.isdigit() for text in (*whole.texts, *part.texts)):
        return False
    widths = {len(text) for text in part.texts}
    if len(widths) > 1:
        return not any(len(text) > 1 and text[-1] == "0" for text in part.texts)
    if whole.num_values(range(len(whole.texts))) == 1:
        return False  # either way their order is the same
    values = {Decimal(f"{a}.{b}") for a, b in zip(whole.texts, part.texts, strict=True)}
    return _is_even(values) or median(_steps(values)) != Decimal(1).scaleb(-widths.pop())
