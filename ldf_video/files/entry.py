"""What a folder holds under one name, on any file system."""

from __future__ import annotations

from typing import NamedTuple

UNKNOWN = -1


class Entry(NamedTuple):
    """What a folder holds under one name.

    Attributes:
        name: without the folder.
        size: in bytes; -1 if unknown.
        mtime_ns: time of the last change in nanoseconds, or a number of 63 bits that changes with
            the content; 0 if the file system tells neither, -1 if the file could not be looked at.
        is_folder: whether it is one; else it is a file.
        identity: of a folder to which several ways may lead, what is the same on all of them.
    """

    name: str
    size: int
    mtime_ns: int
    is_folder: bool
    identity: tuple[int, int] | None = None
