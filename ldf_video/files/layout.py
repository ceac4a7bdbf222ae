"""How the files of CLIPS are to be understood, in what they do not say themselves."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Layout:
    """What a user says of clips beside their geometry; an empty field is told from the files.

    It decides pixels, or what is known of frames, and so belongs to what a store remembers. To add
    to it, add a field here and an option of the same name to `options.option.ClipLayout`.

    Attributes:
        axes: of arrays, in the letters of microscopy, each once: N clips, T frames, Y rows, X
            columns, C channels.
        levels: of arrays, LOW:HIGH, the numbers that are black and white.
        camera: the camera that is read, where there are several.
        actions: what tells of frames beside their pixels, of arrays and LeRobot: paths, or "off".
        series: "folder" where all pictures of a folder are one clip, in natural order.
    """

    axes: str = ""
    levels: str = ""
    camera: str = ""
    actions: str = ""
    series: str = ""

    @property
    def range(self) -> tuple[float, float] | None:
        """The numbers of `levels`; None if it is empty."""
        low, _, high = self.levels.partition(":")
        return (float(low), float(high)) if self.levels else None

    def settings(self) -> dict[str, Any]:
        """Returns the fields that are set, ready for JSON and so for fingerprints."""
        return {name: value for name, value in asdict(self).items() if value}


OFF = {"axes": "auto", "levels": "auto", "camera": "all", "actions": "auto", "series": "number"}
"""What says nothing again, where a frame model would say something."""
UNSAID = Layout()
"""Nothing is said: all is told from the files."""


def layout_of(settings: Any) -> Layout:
    """The layout in an object that has its fields, such as options, or in a mapping of settings.

    What is not there, None or `OFF` is empty.
    """
    known = settings if isinstance(settings, dict) else vars(settings)
    said = {one.name: known.get(one.name) or "" for one in fields(Layout)}
    return Layout(**{name: "" if value == OFF[name] else value for name, value in said.items()})
