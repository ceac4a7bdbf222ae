"""A reader process with a fault: `bad_reader.py FOLDER FAULT NAME FRAME DESCRIPTOR`.

It notes its process id in FOLDER. At frame FRAME of the source NAME (or of any, "*") it does what
FAULT says; with "once-" before it, only the first time. Where it is asked what a file is, it does
so at once.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ldf_video.clips import probe, read
from ldf_video.errors import ReadError, TruncatedError
from ldf_video.readers import worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

HERE = Path(__file__)


def command(folder: Path, fault: str = "none", name: str = "*", frame: int = 0) -> Sequence[str]:
    """What starts such a reader, but for its descriptor."""
    return [sys.executable, str(HERE), str(folder), fault, name, str(frame)]


def process_ids(folder: Path) -> list[int]:
    """Those of all readers that were started."""
    return [int(path.suffix[1:]) for path in folder.glob("reader.*")]


def is_alive(process_id: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        os.kill(process_id, 0)
        if sys.platform == "linux":
            return Path(f"/proc/{process_id}/stat").read_text().rsplit(")")[-1].split()[0] != "Z"
    except OSError:
        return False
    return True


def misbehave(fault: str, alive: Callable[[], None]) -> None:
    if fault == "die":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif fault == "exit":
        os._exit(3)
    elif fault == "hang":
        time.sleep(1000)
    elif fault == "stop":
        time.sleep(1)  # until all frames so far are sent
        os.kill(os.getpid(), signal.SIGSTOP)
    elif fault == "work":  # for long, without a frame
        for _ in range(60):
            time.sleep(0.05)
            alive()
    elif fault == "talk-nonsense":
        os.write(int(sys.argv[-1]), b"\0" * 64)
    elif fault == "raise":
        raise TypeError("a fault\nof two lines")
    elif fault == "truncated":
        raise TruncatedError("damaged after a while: bits")
    elif fault == "unreadable":
        raise ReadError("it cannot be read")


def main() -> None:
    folder, fault, name, at_frame = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
    (folder / f"reader.{os.getpid()}").touch()
    right_open_clips = read.open_clips

    def faulty(frames: Iterator[Any], first: int, alive: Callable[[], None]) -> Iterator[Any]:
        for number, frame in enumerate(frames, start=first):
            if number == at_frame and not (folder / "done").exists():
                if fault.startswith("once-"):
                    (folder / "done").touch()
                misbehave(fault.removeprefix("once-"), alive)
            if fault == "count":
                (folder / "count").write_text(str(number + 1))
            if fault == "look-around":
                (folder / "torch").write_text(str("torch" in sys.modules))
            if fault == "slow":
                time.sleep(0.05)
            yield frame

    def open_clips(source: Any, *arguments: Any, **options: Any) -> Iterator[Any]:
        for clip in right_open_clips(source, *arguments, **options):
            if name in ("*", source.name):
                frames = faulty(clip.frames, clip.first_frame, options["alive"])
                object.__setattr__(clip, "frames", frames)
            yield clip

    def answer(*arguments: Any, alive: Callable[[], None] = lambda: None) -> Any:
        misbehave(fault, alive)
        return right_probe(*arguments)

    right_probe, probe.probe = probe.probe, answer
    probe.frame_size = answer
    read.open_clips = open_clips
    worker.main()


if __name__ == "__main__":
    main()
