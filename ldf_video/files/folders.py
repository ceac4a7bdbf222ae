"""Folders that are one thing: zarr stores, and data sets of LeRobot."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container

    from ldf_video.files.locations import Location

ZARR_SUFFIX = ".zarr"
ZARR_FILES = ("zarr.json", ".zgroup", ".zarray")
"""One of which the folder of a store holds, in version 3 and 2."""


LEROBOT_INFO = "meta/info.json"
_INFO_BYTES = 2**24


def is_zarr(name: str, held: Container[str]) -> bool:
    """Returns whether a folder of this name, which holds these names, is a zarr store."""
    return name.lower().endswith(ZARR_SUFFIX) or any(file in held for file in ZARR_FILES)


def is_lerobot(folder: Location, held: Container[str]) -> bool:
    """Returns whether a folder, which holds these names, is a data set of LeRobot with videos."""
    if "meta" not in held or "videos" not in held:
        return False
    try:
        with (folder / LEROBOT_INFO).open("rb") as file:
            info = json.loads(file.read(_INFO_BYTES))
    except (OSError, ValueError):
        return False
    return isinstance(info, dict) and "codebase_version" in info


def camera_of(name: str) -> str:
    """The camera of a film of LeRobot, by its path in `videos`, of version 3 or 2."""
    first, _, rest = name.partition("/")
    return rest.partition("/")[0] if first.startswith("chunk-") else first
