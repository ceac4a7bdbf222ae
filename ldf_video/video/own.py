"""What ldf-video wrote itself, and never takes for a clip that it finds."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container

    from ldf_video.video.files import Location

MARK = b"made by ldf-video"
"""Stands in a PNG before its pixels, and at the end of a GIF or an MP4."""

STORE_JSON = "store.json"
_SUFFIXES = (".png", ".gif", ".mp4")
_NEAR_BYTES = 512
_CONFIG_BYTES = 2**20
_KINDS = ("frame", "top", "joint")


def is_own_file(path: Location) -> bool:
    """Returns whether a file has the mark of what `generate` and others write; reads 1 KiB."""
    if path.suffix.lower() not in _SUFFIXES:
        return False
    try:
        with path.open("rb") as file:
            if MARK in file.read(_NEAR_BYTES):
                return True
            file.seek(max(file.seek(0, os.SEEK_END) - _NEAR_BYTES, 0))
            return MARK in file.read(_NEAR_BYTES)
    except OSError:
        return False


def is_own_folder(folder: Location, names: Container[str]) -> bool:
    """Returns whether a folder is a store or a checkpoint.

    Args:
        folder: where it is.
        names: of what is directly in it.
    """
    if STORE_JSON in names and "manifest.sqlite" in names:
        return True
    return "config.json" in names and _is_checkpoint(folder / "config.json")


def _is_checkpoint(config: Location) -> bool:
    try:
        with config.open("rb") as file:
            found = json.loads(file.read(_CONFIG_BYTES))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and "format_version" in found and found.get("kind") in _KINDS
