"""Whether this process is one of several that a launcher started, by what it put there to tell."""

from __future__ import annotations

import os

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def launched() -> tuple[int, int]:
    """The number of this process, from 0, and how many there are; (0, 1) without a launcher.

    A launcher (torchrun, accelerate launch, srun with a script) sets all of the variables. Some of
    them alone are left over from something else, and mean nothing.
    """
    try:
        rank, count, local = (int(os.environ[name]) for name in VARIABLES[:3])
    except (KeyError, ValueError):
        return 0, 1
    complete = all(os.environ.get(name) for name in VARIABLES) and 0 <= rank < count and local >= 0
    return (rank, count) if complete else (0, 1)
