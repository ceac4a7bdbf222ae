"""What benchmarks share: processes of their own, their memory, and updates by the clock."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np

MIB = 1 << 20


def alone(script: str, *arguments: object, checkout: Path | None = None) -> Any:
    """What a script prints in a process of its own, its last line as JSON.

    With `checkout` it finds the package there first, then where this process would.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    environment = dict(os.environ)
    if checkout is not None:
        paths = [str(checkout.resolve()), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    command = [sys.executable, script, *map(str, arguments)]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


class Resident(NamedTuple):
    """Bytes of a process tree in memory: its own, and pages of mapped files."""

    own: int
    mapped: int


def resident_bytes(pid: int, *, parent_command: bytes = b"") -> Resident:
    """What a process and its descendants hold, zeros once they are gone."""
    fields = {"RssAnon:": 0, "RssShmem:": 0, "RssFile:": 0}
    below = []
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        if command == parent_command:  # not exec'd yet: what it has is its parent's own memory
            return Resident(0, 0)
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            name, *value = line.split()
            if name in fields:
                fields[name] = 1024 * int(value[0])
        for task in Path(f"/proc/{pid}/task").iterdir():
            children = (task / "children").read_text().split()
            below += [resident_bytes(int(child), parent_command=command) for child in children]
    except (FileNotFoundError, ProcessLookupError):
        pass
    own = fields["RssAnon:"] + fields["RssShmem:"] + sum(child.own for child in below)
    return Resident(own, fields["RssFile:"] + sum(child.mapped for child in below))


def peak_bytes(
    command: list[str],
    *,
    directory: Path,
    stop_after: float | None = None,
    errors: TextIO | None = None,
) -> Resident:
    """Run a command and return its peaks, each at its own time.

    With `stop_after` it is interrupted, as by Ctrl-C, after so many seconds. What it says on
    standard error goes to `errors`, else to ours.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    started, stopped = time.monotonic(), False
    peak = Resident(0, 0)
    with subprocess.Popen(
        command, cwd=directory, stdout=subprocess.DEVNULL, stderr=errors
    ) as process:
        while process.poll() is None:
            now = resident_bytes(process.pid)
            peak = Resident(max(peak.own, now.own), max(peak.mapped, now.mapped))
            if stop_after and not stopped and time.monotonic() - started > stop_after:
                process.send_signal(signal.SIGINT)
                stopped = True
            time.sleep(0.01)
    if process.returncode and not (stopped and process.returncode == 130):
        raise subprocess.CalledProcessError(process.returncode, command)
    return peak


class RandomFrames:
    """Frames as a store of them gives them."""

    num_frames = 1024

    def __init__(self, size: int) -> None:
        shape = (self.num_frames, size, size, 3)
        self._frames = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

    def frames_at(self, indices: np.ndarray) -> np.ndarray:
        """Frames (B, size, size, 3)."""
        return self._frames[indices]


def timed_training(
    level: Any, config: Any, *, device: str, waits: range, **more: Any
) -> tuple[Any, list[float]]:
    """Train without looking and saving.

    Args:
        level: what is trained.
        config: how.
        device: where.
        waits: updates before which a GPU is waited for.
        more: for the trainer.

    Returns:
        The trainer, and the time at which each update began.
    """
    import torch

    from ldf_video.progress import Progress
    from ldf_video.training.config import Cadence
    from ldf_video.training.loop import Trainer

    begun: dict[int, float] = {}
    batch = level.batch

    def timed(step: int, part: Any, device: torch.device) -> Any:
        if device.type == "cuda" and step in waits:
            torch.cuda.synchronize()
        begun.setdefault(step, time.perf_counter())
        return batch(step, part, device)

    level.batch = timed
    with tempfile.TemporaryDirectory() as name:
        cadence = Cadence(save_seconds=1e9, sheet_seconds=1e9)
        trainer = Trainer(level, Path(name), config=config, device=device, cadence=cadence, **more)
        trainer.look = lambda *_: None  # type: ignore[method-assign]
        trainer.save = lambda done=False: None  # type: ignore[method-assign]
        trainer.run(Progress("bench", unit="steps", quiet=True))
    return trainer, [begun[step] for step in sorted(begun)]
