"""Readers that crash and hang at frame 10 of clips with certain names.

Python imports this as it starts where PYTHONPATH names this directory: `torture.py` has
`ldf-video encode` and the readers that it starts do so. Marks are left in the current directory.
"""

from __future__ import annotations

import sys

STALL_SECONDS = 5.0


def _break_readers() -> None:
    import ctypes
    import dataclasses
    import os
    import signal
    import time
    from pathlib import Path

    from ldf_video.clips import read

    def is_first(mark: str) -> bool:
        try:
            Path(mark).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def fail(name: str) -> None:
        if name.startswith("crashes-once") and not is_first(f"{name}.mark"):
            return
        if name.startswith("crashes"):
            ctypes.string_at(0)
        elif name.startswith("hangs"):
            time.sleep(3600)
        elif name.startswith("is-killed"):
            os.kill(os.getpid(), signal.SIGKILL)

    def until_fault(clip, name):
        for number, frame in enumerate(clip.frames, clip.first_frame):
            if number == 10:
                fail(name)
            yield frame

    def open_clips(source, *args, **options):
        if source.name.startswith("at-once"):
            ctypes.string_at(0)
        for clip in whole_clips(source, *args, **options):
            yield dataclasses.replace(clip, frames=until_fault(clip, source.name))

    whole_clips, read.open_clips = read.open_clips, open_clips


def _lose_patience() -> None:
    from ldf_video.readers.pool import ReaderPool

    ReaderPool.__init__.__kwdefaults__["stall_seconds"] = STALL_SECONDS


# orig_argv: sys.argv is not there yet.
if any("readers.worker" in argument for argument in sys.orig_argv):
    _break_readers()
else:
    _lose_patience()
