"""Which arrays of a file tell of the frames of a clip: those asked for, else its actions."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

from ldf_video.arrays.actions import ActionArray, ActionArrays, AlikeArrays, column_names
from ldf_video.arrays.frame_array import is_at, pattern_of, stacked
from ldf_video.errors import ReadError
from ldf_video.sources.name_numbers import natural_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ldf_video.arrays.frame_array import FrameArray, NumberArray

ACTION, OFF = "action", "off"
ACTIONS = (ACTION, "actions")
"""What recorders call them."""
REPEATED = {"next_obs", "next_observations"}
"""Groups that hold each frame once more, one step later: after the action of its row."""
_SEEN = {"obs", "observation", "observations", "state", "states"}  # what is of its own frame
_STARS = set("*?[")
_SHOWN = 5


class Asked(NamedTuple):
    """A place of `--actions`, and by how many frames what a row led to comes behind it, if said."""

    place: str
    lead: int | None = None


def asked_actions(text: str) -> tuple[Asked, ...]:
    """The places in `data/*/actions,data/*/obs/state@0`."""
    found = []
    for part in text.split(","):
        place, at, lead = part.strip().rpartition("@")
        found.append(Asked(place, int(lead)) if at else Asked(lead))
    return tuple(found)


def lead_of(name: str, video: str, asked: int | None) -> int:
    """By how many frames a row's comes behind its own: as asked, else by what things are called."""
    if asked is not None:
        return asked
    words = set(re.split(r"[/._]", name.casefold()))
    if words & {*ACTIONS} or not words & _SEEN:
        return 0 if REPEATED & set(video.split("/")) else 1
    return 0


class Actions:
    """The arrays of a file that tell of frames, of each array of frames those that belong to it."""

    def __init__(self, known: Mapping[str, NumberArray], asked: str) -> None:
        """Reads nothing.

        Args:
            known: all arrays of the file.
            asked: places (see `asked_actions`), "off", or "" for what is called an action.
        """
        self._known, self._asked = known, asked
        self._alike: dict[str, AlikeArrays] = defaultdict(AlikeArrays)
        self._places: dict[str, tuple[int, dict[tuple[str, ...], list[str]]]] = {}
        self._patterns = {name: _pattern_of(name) for name in known}
        self._shapes: dict[str, Counter[tuple[int, ...]]] = defaultdict(Counter)
        for name, array in known.items():
            self._shapes[self._patterns[name]][array.shape[1:]] += 1

    def beside(self, video: FrameArray, *, is_cut: bool) -> ActionArrays | None:
        """Returns what tells of an array of frames, which may be cut where episodes end.

        Raises:
            ReadError: what is there, or was asked for, does not fit.
        """
        if self._asked == OFF or "T" not in video.axes:
            return None
        places = asked_actions(self._asked) if self._asked else self._usual(video.array)
        parts = [
            self._part(array, video, one.lead)
            for one in places
            for array in self._at(one.place, video.array)
        ]
        if not parts:
            return None
        return ActionArrays(parts, axes=video.axes, shape=video.array.shape, is_cut=is_cut)

    def said(self, found: ActionArrays) -> str:
        return f"conditions: {found.said(self._patterns)}"

    def _part(self, array: NumberArray, video: FrameArray, asked: int | None) -> ActionArray:
        leading = sum(axis in "NT" for axis in video.axes)
        names = column_names(array, _name_of(array), leading=leading)
        pattern = self._patterns.setdefault(array.name, _pattern_of(array.name))
        for usual, _ in self._shapes[pattern].most_common(1):
            if leading == 1 and array.shape[1:] != usual:
                raise ReadError(
                    f"{array.name} has shape {array.shape}: expected (frames, "
                    f"{', '.join(map(str, usual))}), as most of {pattern}"
                )
        alike = self._alike[pattern]
        alike.add(array)
        return ActionArray(array, lead_of(array.name, video.array.name, asked), names, alike)

    def _usual(self, video: NumberArray) -> list[Asked]:
        """The nearest array, or group, that is called an action; or each frame's own."""
        if video.parts and video.name.endswith("_x"):
            return [Asked(f"{video.name[:-1]}y")]
        folders = video.name.split("/")[:-1]
        for depth in range(len(folders), -1, -1):
            places = ["/".join([*folders[:depth], word]) for word in ACTIONS]
            found = [place for place in places if place in self._called]
            if len(found) > 1:
                raise ReadError(
                    f"{found[0]} and {found[1]} are there: say which, --actions {found[0]}"
                )
            if found:
                return [Asked(found[0])]
        return []

    @cached_property
    def _called(self) -> dict[str, list[str]]:
        """The arrays and groups that are called an action, and the arrays there or below."""
        found: dict[str, list[str]] = {}
        for name in sorted(self._known, key=natural_key):
            parts = name.split("/")
            for depth, part in enumerate(parts, 1):
                if part in ACTIONS:
                    found.setdefault("/".join(parts[:depth]), []).append(name)
        return found

    def _at(self, place: str, video: NumberArray) -> list[NumberArray]:
        """The arrays at a place that belong to an array of frames.

        A star stands for what the path of the frames has, but for one in the last part.

        Raises:
            ReadError: nothing is there, though it was asked for.
        """
        if video.parts and _STARS & set(place.rpartition("/")[2]):
            if stacked := self._stacked(place, video):
                return [stacked]
        elif not self._asked:
            return [self._known[name] for name in self._called[place]]
        stars, matched = self._matched(place)
        own = dict.fromkeys(video.name.split("/"))
        found = [name for key in product(own, repeat=stars) for name in matched.get(key, ())]
        if not found and self._asked:
            raise ReadError(f"nothing at --actions {place}; it holds {self._listed()}")
        return [self._known[name] for name in found]

    def _matched(self, place: str) -> tuple[int, dict[tuple[str, ...], list[str]]]:
        """How many parts of a place but the last have stars; all that is there, by these parts."""
        if place not in self._places:
            wanted = [part for part in place.split("/") if part]
            stars = [k for k, part in enumerate(wanted[:-1]) if _STARS & set(part)]
            matched: dict[tuple[str, ...], list[str]] = {}
            for name in sorted(self._known, key=natural_key):
                if is_at(name, place):
                    parts = name.split("/")
                    matched.setdefault(tuple(parts[k] for k in stars), []).append(name)
            self._places[place] = len(stars), matched
        return self._places[place]

    def _stacked(self, place: str, video: NumberArray) -> NumberArray | None:
        """The arrays of a frame each at a place, in the order of the frames, as one array.

        Raises:
            ReadError: a frame has none, or one of another shape or type.
        """
        of_frame = {tuple(re.findall(r"\d+", n)): n for n in self._known if is_at(n, place)}
        if not of_frame:
            return None
        names = [of_frame.get(tuple(re.findall(r"\d+", name)), "") for name in video.parts]
        if not all(names):
            raise ReadError(f"nothing at {place} for {video.parts[names.index('')]}")
        rows = [self._known[name] for name in names]
        first = rows[0]
        for row in rows:
            if (row.shape, row.dtype) != (first.shape, first.dtype):
                raise ReadError(
                    f"{row.name} is {row.dtype} {row.shape}, and {first.name} {first.dtype} "
                    f"{first.shape}"
                )
        return stacked(rows, place)

    def _listed(self) -> str:
        """What else than frames is there."""
        found = [pattern_of(name) for name, one in self._known.items() if len(one.shape) <= 2]
        return ", ".join(list(dict.fromkeys(found))[:_SHOWN]) or "no array of rows"


def _pattern_of(name: str) -> str:
    """A path with stars for the numbers in all its parts but the last."""
    folder, slash, last = name.rpartition("/")
    return f"{pattern_of(folder)}{slash}{last}"


def _name_of(array: NumberArray) -> str:
    """What the columns of an array are called."""
    last = array.name.rpartition("/")[2]
    if last in ACTIONS or (array.parts and last.endswith("_y")):
        return ACTION
    return re.sub(r"[*_.]+", "_", last).strip("_") or ACTION
