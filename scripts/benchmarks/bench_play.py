"""How soon a key shows in `ldf-video play`, and at what rate, alone and beside a busy process.

    python scripts/benchmarks/bench_play.py MODEL [--frames 3000] [--fps 30]

MODEL is a top model, best one that makes a frame at a time. The command runs as a user runs it. A
client does what its page does, and by a script of seeded times holds and lets go of actions. Of
each frame it takes the time since the newest key that had not acted on an earlier one. Prints
frames a second, the share of these keys that showed within 50 ms, and the median and 95th
percentile of their delays. A model that can be told nothing gives rates alone.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from bench_neighbour import busy_neighbour
from websockets.sync.client import connect

SOON = 0.05


@contextmanager
def playing(model: str, fps: int) -> Iterator[str]:
    """The address of a page."""
    command = [sys.executable, "-P", "-m", "ldf_video", "play", "--no-browser", "--seed", "1"]
    command += ["--top-model", model, "--fps", str(fps)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if found := re.search(r"http://\S+", line):
                yield found[0]
                break
        else:
            raise SystemExit("ldf-video play did not start")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def drive(url: str, num_frames: int) -> tuple[float, list[float]]:
    """Frames a second, and the delay of each key that a frame was the first to show."""
    chance, sent, delays = np.random.default_rng(0), dict[int, float](), list[float]()
    host = url.split("/")[2]
    with connect(url.replace("http", "ws") + "film", origin=f"http://{host}") as page:  # type: ignore[arg-type]
        actions = [action["name"] for action in json.loads(page.recv())["actions"]]
        begun = next_key = time.perf_counter()
        shown, newest, number = 0, 0, 0
        while shown < num_frames:
            if actions and time.perf_counter() >= next_key:
                number += 1
                names = [str(chance.choice(actions))]
                page.send(json.dumps({"hold": {"names": names, "number": number}}))
                sent[number] = time.perf_counter()
                next_key += chance.uniform(0.05, 0.4)
            try:
                message = page.recv(max(0.0, next_key - time.perf_counter()) if actions else None)
            except TimeoutError:
                continue
            if isinstance(message, str):
                continue
            now = time.perf_counter()
            shown, acted = struct.unpack("<II", message[:8])
            page.send(json.dumps({"shown": shown}))
            if acted > newest:
                delays += [now - sent[acted]]
                newest = acted
        return num_frames / (time.perf_counter() - begun), delays


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--frames", type=int, default=3000)
    parser.add_argument("--fps", type=int, default=30)
    arguments = parser.parse_args()
    for is_busy in (False, True):
        with busy_neighbour(wanted=is_busy), playing(arguments.model, arguments.fps) as url:
            rate, delays = drive(url, arguments.frames)
        said = f"{'beside a busy process' if is_busy else 'alone'}: {rate:.1f} frames/s"
        if delays:
            soon = np.mean(np.array(delays) <= SOON)
            middle, late = 1000 * np.quantile(delays, (0.5, 0.95))
            said += f", {soon:.1%} of {len(delays):,} keys within 50 ms (median {middle:.0f} ms, "
            said += f"95 % within {late:.0f} ms)"
        print(said, flush=True)


if __name__ == "__main__":
    main()
