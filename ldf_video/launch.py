"""Whether a launcher started this process as one of several, by the variables that it set."""

from __future__ import annotations

import os

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def launched() -> tuple[int, int]:
    """Returns the rank of this process and how many there are; (0, 1) without a launcher.

    A launcher (torchrun, accelerate launch, srun with a script) sets all of the variables. If only
    some are set, another program left them.
    """
    try:
        rank, count, local = (int(os.environ[name]) for name in VARIABLES[:3])
    except (KeyError, ValueError):
        return 0, 1
    complete = all(os.environ.get(name) for name in VARIABLES) and 0 <= rank < count and local >= 0
    return (rank, count) if complete else (0, 1)
