"""`encode` killed at random instants, again and again: nothing is lost but seconds of work.

    python scripts/checks/kill_test.py [--kills 100] [--seed 0] [--out FOLDER] [--json FILE]

Makes a corpus of mixed clips, encodes it once undisturbed, then encodes it anew while SIGKILL hits
it: while it starts, while it works, and as it commits; by turns all its processes and the main one
alone, whose readers must then end by themselves. After each kill the same command starts again.

At the end both stores must hold the same clips, each with the same bytes; extents must not overlap,
the lock must be free and no process left. Of each kill the work lost is measured: the time from the
last commit, or from the opening of the store where that is later. Linux only. Exit code 1 if
anything is wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock, Timeout

from ldf_video.store import StoreReader, verify_store
from ldf_video.store.manifest import MANIFEST, reading
from ldf_video.store.parts import LOCK

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))
sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
from bad_clips import plain_clip
from bench_clips import make_scene, repeat
from clip_files import barcode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LIMIT_SECONDS = 5.0
ORPHAN_SECONDS = 10.0
POLL_SECONDS = 0.005


# Clips


def make_corpus(folder: Path, *, scale: float) -> None:
    """Long and short videos of several sizes, arrays, pictures, a duplicate and broken files."""
    folder.mkdir(parents=True)
    scene = folder / ".scene.mp4"
    make_scene(scene, num_frames=480, height=360, width=640)
    repeat(scene, folder / "long.mp4", seconds=480 * scale)
    repeat(scene, folder / "long.mkv", seconds=120 * scale)
    scene.unlink()
    for number in range(round(120 * scale)):
        chance = random.Random(number)
        numbers = [chance.randrange(256) for _ in range(chance.randrange(20, 300))]
        suffix = chance.choice(["mp4", "mkv", "avi"])
        codec = "mpeg4" if suffix == "avi" else "libx264"
        plain_clip(numbers, codec=codec)(folder / f"short-{number:03d}.{suffix}")
    small = folder / ".small.mp4"
    plain_clip(range(250))(small)
    repeat(small, folder / "small.mp4", seconds=1200 * scale)
    small.unlink()
    images = np.stack([barcode(k, height=64, width=64) for k in range(256)])
    np.save(folder / "clips.npy", np.stack([np.roll(images, k, axis=2) for k in range(10)]))
    shutil.copy(folder / "long.mkv", folder / "duplicate.mkv")
    whole = (folder / "short-000.mkv", folder / "short-001.mkv")
    for path in whole:
        plain_clip(range(200))(path)
    (folder / "cut.mkv").write_bytes(whole[0].read_bytes()[:20_000])
    (folder / "text.mp4").write_text("not a video\n" * 50)


# One run of encode


class Run:
    """An `encode` in a session of its own, so that all its processes can be found.

    Attributes:
        opened_at: time.time() when it was first seen to have the store, None before.
        committed_at: time of the last commit that was seen to end, 0 before any.
        is_committing: whether rows or a journal are being written.
    """

    def __init__(self, clips: Path, store: Path, log: Path) -> None:
        self.store, self.opened_at, self.committed_at = store, None, 0.0
        self.is_committing = False
        self._num_bytes = data_bytes(store)
        options = ["--out", str(store), "--frame-model", "pacman-32", "--device", "cpu"]
        self.started_at = time.time()
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ldf_video", "encode", str(clips), *options],
                stdout=file, stderr=file, start_new_session=True,
            )  # fmt: skip

    def look(self) -> bool:
        """Looks at the process and its store; returns whether it still runs."""
        if self.process.poll() is not None:
            return False
        if self.opened_at is None:
            if self._has_lock():
                self.opened_at = time.time()
            return True
        num_bytes = data_bytes(self.store)
        has_journal = is_hot(self.store)
        self.is_committing = has_journal or num_bytes != self._num_bytes
        self._num_bytes = num_bytes
        if not has_journal:
            self.committed_at = commit_time(self.store)
        return True

    def _has_lock(self) -> bool:
        lock = str((self.store / LOCK).resolve())
        descriptors = Path(f"/proc/{self.process.pid}/fd")
        with contextlib.suppress(OSError):
            return any(_link(path) == lock for path in descriptors.iterdir())
        return False

    def kill(self, *, everything: bool) -> float:
        """Sends SIGKILL to all processes of the session, or to the main one; returns when."""
        victims = session_members(self.process.pid) if everything else [self.process.pid]
        killed_at = time.time()
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        return killed_at

    def wait_until_empty(self) -> float:
        """Waits until no process of the session is left, or too long; returns for how long."""
        began = time.monotonic()
        while session_members(self.process.pid):
            if time.monotonic() - began > ORPHAN_SECONDS:
                break
            time.sleep(POLL_SECONDS)
        return time.monotonic() - began


def session_members(session: int) -> list[int]:
    """Returns the processes of a session, those apart that have ended and wait for their parent."""
    members = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # man 5 proc: after the name in brackets state, parent, group, session
            state, _, _, its_session = path.read_text().rpartition(")")[2].split()[:4]
            if int(its_session) == session and state not in "ZX":
                members.append(int(path.parent.name))
    return members


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def data_bytes(store: Path) -> int:
    """Bytes of all shards, committed or not."""
    total = 0
    for path in store.glob("data-*.npy"):
        with contextlib.suppress(OSError):
            total += path.stat().st_size
    return total


def is_hot(store: Path) -> bool:
    """Whether a transaction is under way, or was when its writer was killed."""
    with contextlib.suppress(OSError):
        return (store / f"{MANIFEST}-journal").stat().st_size > 0
    return False


def commit_time(store: Path) -> float:
    """When the manifest was last written to; 0 if there is none."""
    with contextlib.suppress(OSError):
        return (store / MANIFEST).stat().st_mtime
    return 0.0


def committed_frames(store: Path, scratch: Path) -> int:
    """Frames that would survive; looks at a copy, which leaves a hot journal to the next writer."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    if not (store / "store.json").exists():
        return 0
    for name in (MANIFEST, f"{MANIFEST}-journal"):
        with contextlib.suppress(FileNotFoundError):
            shutil.copy(store / name, scratch / name)
    with reading(scratch) as connection:
        (total,) = connection.execute("SELECT sum(num_frames) FROM extents").fetchone()
    return total or 0


# Kills


@dataclass(frozen=True)
class Kill:
    """One SIGKILL; seconds.

    Attributes:
        aim: "start-up", "work", "long" or "commit".
        everything: all processes were killed, not the main one alone.
        after_seconds: from the start of the command.
        lost_seconds: work since the last commit or the opening of the store; 0 before that.
        has_hot_journal: whether it hit a transaction.
        has_torn_rows: whether it left rows that are not committed.
        orphan_seconds: until no process was left.
        num_committed: frames that were committed by then.
    """

    aim: str
    everything: bool
    after_seconds: float
    lost_seconds: float
    has_hot_journal: bool
    has_torn_rows: bool
    orphan_seconds: float
    num_committed: int


@dataclass(frozen=True)
class Undisturbed:
    """What the run without kills took: seconds to the opening, seconds of work, and its pace."""

    startup_seconds: float
    work_seconds: float
    bytes_by_second: Sequence[int]

    def seconds_left(self, num_bytes: int) -> float:
        """How long the work would go on where the shards have so many bytes."""
        return max(self.work_seconds - bisect_left(self.bytes_by_second, num_bytes), 0.0)


def run_undisturbed(clips: Path, store: Path, log: Path) -> Undisturbed:
    """Encodes once, to its end.

    Raises:
        RuntimeError: it failed.
    """
    run, pace = Run(clips, store, log), [0]
    while run.look():
        if run.opened_at is not None and time.time() - run.opened_at > len(pace):
            pace.append(data_bytes(store))
        time.sleep(POLL_SECONDS)
    if run.process.returncode or run.opened_at is None:
        raise RuntimeError(f"encode ended with {run.process.returncode}, see {log}")
    ended = time.time()
    return Undisturbed(run.opened_at - run.started_at, ended - run.opened_at, pace)


def draw_aim(
    chance: random.Random, whole: Undisturbed, *, seconds_left: float, kills_left: int
) -> tuple[str, Callable[[Run], bool]]:
    """Draws when the next kill is due, such that the work lasts for all of them.

    Returns:
        Its kind, and a function that says whether it is due now.
    """
    kind = chance.choices(["start-up", "work", "long", "commit"], [25, 45, 10, 20])[0]
    if seconds_left < 15 and kind in ("long", "commit"):
        kind = "work"
    # A kill loses what came after the last commit: about a second of what a run does.
    most = min(max(2 * seconds_left / kills_left + 2, 1.0), 6.0) if seconds_left > 5 else 1.0
    after = {
        "start-up": chance.uniform(0, whole.startup_seconds),
        "work": chance.uniform(0, most),
        "long": chance.uniform(4, 10),
        "commit": chance.uniform(0, 3),
    }[kind]

    def is_due(run: Run) -> bool:
        if kind == "start-up":
            return time.time() >= run.started_at + after
        if run.opened_at is None or time.time() < run.opened_at + after:
            return False
        if kind == "commit" and time.time() < run.opened_at + 8:
            if not run.is_committing:
                return False
            time.sleep(chance.uniform(0, 0.03))
        return True

    return kind, is_due


def kill_once(
    run: Run, aim: str, is_due: Callable[[Run], bool], *, everything: bool, scratch: Path
) -> Kill | None:
    """Kills a run when it is due; None where it came to its end before."""
    while not is_due(run):
        if not run.look():
            return None
        time.sleep(POLL_SECONDS if aim != "commit" else 0.001)
    if not run.look():
        return None
    killed_at = run.kill(everything=everything)
    orphan_seconds = run.wait_until_empty()
    hot = is_hot(run.store)
    lost = 0.0
    if run.opened_at is not None:
        committed_at = run.committed_at if hot else commit_time(run.store)
        lost = max(killed_at - max(run.opened_at, committed_at), 0.0)
    num_committed = committed_frames(run.store, scratch)
    return Kill(
        aim, everything, killed_at - run.started_at, lost, hot,
        _has_torn_rows(run.store, num_committed), orphan_seconds, num_committed,
    )  # fmt: skip


def _has_torn_rows(store: Path, num_committed: int) -> bool:
    # Headers are 128 bytes a shard; a row of latents of the shipped model is as long.
    num_shards = len(list(store.glob("data-*.npy")))
    return data_bytes(store) > 128 * (num_shards + num_committed)


def run_killed(
    clips: Path, store: Path, log: Path, whole: Undisturbed, *, num_kills: int, seed: int
) -> list[Kill]:
    """Encodes anew, killed as often as said if the work lasts, then to its end.

    Raises:
        RuntimeError: a run failed by itself.
    """
    chance, kills = random.Random(seed), list[Kill]()
    scratch = store.with_name("scratch")
    while len(kills) < num_kills:
        seconds_left = whole.seconds_left(data_bytes(store))
        aim, is_due = draw_aim(
            chance, whole, seconds_left=seconds_left, kills_left=num_kills - len(kills)
        )
        run = Run(clips, store, log)
        kill = kill_once(run, aim, is_due, everything=len(kills) % 2 == 0, scratch=scratch)
        if kill is None:
            break
        kills.append(kill)
        print(
            f"kill {len(kills):3d} {kill.aim:8s} {'all ' if kill.everything else 'main'} after "
            f"{kill.after_seconds:5.2f} s: lost {kill.lost_seconds:4.2f} s, "
            f"{kill.num_committed:,} frames committed, about {seconds_left:.0f} s left",
            flush=True,
        )
    else:
        run = Run(clips, store, log)
    if run.process.wait():
        raise RuntimeError(f"encode ended with {run.process.returncode}, see {log}")
    if run.wait_until_empty() > ORPHAN_SECONDS:
        raise RuntimeError("encode has ended and left processes behind")
    return kills


# What must hold


def contents(path: Path) -> dict[str, Any]:
    """All that a store says of its clips and sources, with a digest of each clip's bytes."""
    store = StoreReader(path)
    clips = {}
    for clip, clip_id in enumerate(store.clip_ids):
        rows = store.read(clip, 0, int(store.lengths[clip]))
        digest = hashlib.sha256(rows.tobytes()).hexdigest()
        clips[clip_id] = (int(store.lengths[clip]), store.fps(clip), digest)
    return {
        "clips": clips,
        "sources": [tuple(source) for source in store.sources()],
        "salvaged": store.salvaged(),
        "quarantined": [(bad.source, bad.reason) for bad in store.quarantined()],
    }


def find_faults(whole: Path, killed: Path, kills: Sequence[Kill], *, num_kills: int) -> list[str]:
    """One line for each thing that is not as it must be."""
    faults = [f"verify: {problem}" for problem in verify_store(killed).problems]
    expected, came = contents(whole), contents(killed)
    faults += [f"other {key} than undisturbed" for key in expected if expected[key] != came[key]]
    if len(kills) < num_kills:
        faults.append(f"{len(kills)} of {num_kills} kills before the end: use a larger --scale")
    counts = [kill.num_committed for kill in kills]
    faults += [f"kill {k}: a commit is lost" for k in range(1, len(counts))
               if counts[k] < counts[k - 1]]  # fmt: skip
    for number, kill in enumerate(kills, 1):
        if kill.lost_seconds > LIMIT_SECONDS:
            faults.append(f"kill {number}: {kill.lost_seconds:.1f} s of work lost")
        if kill.orphan_seconds > ORPHAN_SECONDS:
            faults.append(f"kill {number}: processes go on without the main one")
    try:
        with FileLock(killed / LOCK, blocking=False):
            pass
    except Timeout:
        faults.append("the lock is held")
    if is_hot(killed):
        faults.append("a transaction is open")
    return faults


def summary(whole: Undisturbed, store: Path, kills: Sequence[Kill]) -> dict[str, Any]:
    """The figures."""
    reader = StoreReader(store)
    lost = [kill.lost_seconds for kill in kills if kill.lost_seconds]
    main_only = [kill.orphan_seconds for kill in kills if not kill.everything]
    return {
        "num_clips": reader.num_clips,
        "num_frames": reader.num_frames,
        "startup_seconds": round(whole.startup_seconds, 2),
        "work_seconds": round(whole.work_seconds, 2),
        "num_kills": len(kills),
        "num_kills_by_aim": {
            aim: sum(kill.aim == aim for kill in kills)
            for aim in ("start-up", "work", "long", "commit")
        },
        "num_kills_of_main_alone": len(main_only),
        "num_with_torn_rows": sum(kill.has_torn_rows for kill in kills),
        "num_with_hot_journal": sum(kill.has_hot_journal for kill in kills),
        "most_seconds_lost": round(max(lost, default=0.0), 2),
        "mean_seconds_lost": round(sum(lost) / max(len(lost), 1), 2),
        "most_seconds_of_orphans": round(max(main_only, default=0.0), 3),
    }


def main() -> None:
    """Print a line a kill, then the figures, and end with 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0, help="of the corpus")
    parser.add_argument("--out", type=Path, help="a folder to work in and keep; its clips are used")
    parser.add_argument("--json", type=Path, help="write figures and kills there, too")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = options.out or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        clips, log = folder / "clips", folder / "encode.log"
        if not clips.exists():
            make_corpus(clips, scale=options.scale)
        stores = [folder / "undisturbed", folder / "killed"]
        for store in stores:
            shutil.rmtree(store, ignore_errors=True)
        whole = run_undisturbed(clips, stores[0], log)
        print(f"undisturbed: {whole.startup_seconds:.1f} s to start, {whole.work_seconds:.1f} s")
        kills = run_killed(clips, stores[1], log, whole, num_kills=options.kills, seed=options.seed)
        faults = find_faults(*stores, kills, num_kills=options.kills)
        figures = summary(whole, stores[1], kills) | {"faults": faults}
    print(json.dumps(figures, indent=1))
    if options.json is not None:
        figures["kills"] = [asdict(kill) for kill in kills]
        options.json.write_text(json.dumps(figures, indent=1))
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
