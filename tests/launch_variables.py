"""The environment of a process that a launcher started."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def as_launched(patch: pytest.MonkeyPatch, *, rank: int, count: int = 2) -> None:
    """Set what launchers set, for a process that does not really join another."""
    for name, value in (
        ("RANK", str(rank)),
        ("LOCAL_RANK", str(rank)),
        ("WORLD_SIZE", str(count)),
        ("MASTER_ADDR", "127.0.0.1"),
        ("MASTER_PORT", "29500"),
    ):
        patch.setenv(name, value)
