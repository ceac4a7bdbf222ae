"""Folders that are one thing: zarr stores, and data sets of LeRobot."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Container

    from ldf_video.files.locations import Location

ZARR_SUFFIX = ".zarr"
ZARR_FILES = ("zarr.json", ".zgroup", ".zarray")
"""One of which the folder of a store holds, in version 3 and 2."""


LEROBOT_INFO = "meta/info.json"
_JSON_BYTES = 2**24


def is_zarr(name: str, held: Container[str]) -> bool:
    """Returns whether a folder of this name, which holds these names, is a zarr store."""
    return name.lower().endswith(ZARR_SUFFIX) or any(file in held for file in ZARR_FILES)


def is_lerobot(folder: Location, held: Container[str]) -> bool:
    """Returns whether a folder, which holds these names, is a data set of LeRobot with videos."""
    if "meta" not in held or "videos" not in held:
        return False
    try:
        return "codebase_version" in lerobot_info(folder)
    except (OSError, ValueError):
        return False


def lerobot_info(folder: Location) -> dict[str, Any]:
    """What `meta/info.json` says of a data set of LeRobot.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON object.
    """
    return read_object(folder / LEROBOT_INFO)


def read_object(path: Location) -> dict[str, Any]:
    """Reads a small JSON object; see `lerobot_info` for errors."""
    with path.open("rb") as file:
        text = file.read(_JSON_BYTES)
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise ValueError("no JSON: it is nested too deep") from error
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    return found


def camera_of(name: str) -> str:
    """The camera of a film of LeRobot, by its path in `videos`, of version 3 or 2."""
    first, _, rest = name.partition("/")
    return rest.partition("/")[0] if first.startswith("chunk-") else first
