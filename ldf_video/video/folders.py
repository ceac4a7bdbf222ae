"""Folders that are one thing: zarr stores."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container

ZARR_SUFFIX = ".zarr"
ZARR_FILES = ("zarr.json", ".zgroup", ".zarray")
"""One of which the folder of a store holds, in version 3 and 2."""


def is_zarr(name: str, held: Container[str]) -> bool:
    """Returns whether a folder of this name, which holds these names, is a zarr store."""
    return name.lower().endswith(ZARR_SUFFIX) or any(file in held for file in ZARR_FILES)
