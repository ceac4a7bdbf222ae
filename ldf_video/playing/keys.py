"""Actions: what a viewer can hold, by which keys, and what a model is told of it.

A model's columns say what it can be told. Of a column of names each name is an action, and without
any the model is told the name that means none; where no name does, the last one goes on, as the
direction of a joystick that is let go does in a maze. Of a column of numbers the highest one is an
action, and the lowest where it is below zero; without them it is told the number nearest to zero.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ldf_video.models.flow_config import ColumnConfig

NONE = ("noop", "none", "nothing", "idle", "stay", "stop", "no-op", "")
"""Names of actions that mean that nothing is held."""
USUAL = {
    "left": ("ArrowLeft", "KeyA"),
    "right": ("ArrowRight", "KeyD"),
    "up": ("ArrowUp", "KeyW"),
    "down": ("ArrowDown", "KeyS"),
    "forward": ("ArrowUp", "KeyW"),
    "back": ("ArrowDown", "KeyS"),
    "backward": ("ArrowDown", "KeyS"),
    "fire": ("Space",),
    "jump": ("Space",),
    "attack": ("Space",),
    "shoot": ("Space",),
    "button": ("Space",),
}
"""Keys by the names of actions, as browsers name keys by their places (KeyboardEvent.code)."""
OTHERS = (*(f"Digit{n}" for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 0)), *(f"Key{x}" for x in "QERTYUIOP"))
"""For other actions, in this order."""


@dataclass(frozen=True)
class Action:
    """What can be held.

    Attributes:
        name: of the action, behind that of its column where other columns have it, too.
        keys: that hold it; none where there are more actions than keys.
        column: its place among the model's columns.
        value: that the model is told.
    """

    name: str
    keys: tuple[str, ...]
    column: int
    value: float


def actions_of(columns: Sequence[ColumnConfig]) -> tuple[Action, ...]:
    """All actions of a model, in the order of its columns, each by a name of its own."""
    found = [
        (name, place, value)
        for place, column in enumerate(columns)
        for name, value in _choices(column)
    ]
    times = Counter(name for name, *_ in found)
    free = list(OTHERS)
    used: set[str] = set()
    actions = []
    for name, place, value in found:
        usual = tuple(key for key in USUAL.get(name.lower(), ()) if key not in used)
        keys = usual or tuple(free[:1])
        free = [key for key in free if key not in keys]
        used |= set(keys)
        named = name if times[name] == 1 else f"{columns[place].name}: {name}"
        actions.append(Action(named, keys, place, value))
    return tuple(actions)


def _choices(column: ColumnConfig) -> list[tuple[str, float]]:
    if column.names:
        named = enumerate(column.names)
        return [(name, float(code)) for code, name in named if name.lower() not in NONE]
    if column.low < 0:
        return [(f"{column.name} -", column.low), (f"{column.name} +", column.high)]
    return [(column.name, column.high)]


def rest_of(column: ColumnConfig) -> float | None:
    """What a model is told of a column while nothing is held; None: what was held last."""
    if not column.names:
        return min(max(0.0, column.low), column.high)
    none = [float(code) for code, name in enumerate(column.names) if name.lower() in NONE]
    return none[0] if none else None


class Held:
    """What is held, as a row of a model's columns.

    Attributes:
        row: what the model is told of a frame, one number a column; NaN is unknown.
    """

    def __init__(self, columns: Sequence[ColumnConfig]) -> None:
        """Nothing is held, and nothing was."""
        self._rests = [rest_of(column) for column in columns]
        self._actions = {action.name: action for action in actions_of(columns)}
        self.row = [math.nan] * len(columns)
        self.hold(())

    def hold(self, names: Iterable[object]) -> None:
        """Hold these actions and no others; of one column the last of them. Others mean nothing."""
        self.row = [
            last if rest is None else rest for last, rest in zip(self.row, self._rests, strict=True)
        ]
        for name in names:
            if isinstance(name, str) and (action := self._actions.get(name)) is not None:
                self.row[action.column] = action.value
