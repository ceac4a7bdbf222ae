"""Random windows from a store against the layouts of other tools, and a store of a million clips.

    python scripts/benchmarks/bench_store.py                 both; about 3 GB of disk, some minutes
    python scripts/benchmarks/bench_store.py --clips 0       the windows alone
    python scripts/benchmarks/bench_store.py --windows 0     the million clips alone

Windows: batches of 64 windows of 16 frames, each frame 64 float16, from 1,000 clips in several
shards, all of it in the page cache. All contestants copy the same windows of each batch into one
new array; rounds of all contestants alternate, and each ratio is a median over the rounds.

- store: `StoreReader.windows`, which also checks its arguments and makes the mask
- raw: one numpy fancy index a batch, `map[rows]`, on the map of one of the same shards, with
  (64, 16) row numbers made before the clock starts; each batch is of one shard, the shards in turn
- raw, as blocks: the same with (64,) numbers into a view of the map as overlapping blocks of 16
  rows: one memcpy a window, the fastest that numpy can
- safetensors: a file a clip, `safe_open(...).get_slice(...)[start:stop]` for each window
- npy: a file a clip, `np.load(mmap_mode="r")[start:stop]` for each window
- npy, kept open: the same with all maps made before the clock starts

The million clips: a store that `StoreWriter` wrote, 4 frames a clip; every figure is of a process
of its own. Memory is RssAnon + RssShmem at its peak (Linux only), that after the imports beside it.

Prints JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
from bench_tools import MIB, resident_bytes
from safetensors import safe_open
from safetensors.numpy import save_file

from ldf_video.store import StoreReader, StoreSpec, StoreWriter, verify_store

SPEC = StoreSpec("latents", (64,), "float16", {"made by": "scripts/benchmarks/bench_store.py"})
FPS = Fraction(25)
BATCH, LENGTH = 64, 16
NUM_CLIPS = 1000
FRAMES_PER_CLIP = (100, 600)  # of the windows' clips
SHARD_BYTES = 8 * MIB
STAMP = {"size": 1_000_000, "mtime_ns": 10**18}

Batch = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]  # clips (B,), starts (B,)
Contestant = Callable[[int], Any]  # the number of a batch -> its windows


def clip_id(number: int) -> str:
    """An id as `encode` makes them."""
    return hashlib.sha256(str(number).encode()).hexdigest()


def write_clips(root: Path) -> StoreReader:
    """The same clips as a store, as safetensors files and as npy files, named by their number."""
    rng = np.random.default_rng(0)
    with StoreWriter(root / "store", SPEC, shard_bytes=SHARD_BYTES) as writer:
        for number in range(NUM_CLIPS):
            shape = (int(rng.integers(*FRAMES_PER_CLIP)), *SPEC.item_shape)
            add_clip(writer, number, rng.standard_normal(shape).astype(np.float16))
    reader = StoreReader(root / "store")
    for clip in range(reader.num_clips):
        values = reader.read(clip, 0, int(reader.lengths[clip]))
        np.save(root / f"{clip}.npy", values)
        save_file({"latents": values}, root / f"{clip}.safetensors")
    return reader


def add_clip(writer: StoreWriter, number: int, rows: npt.NDArray[np.float16]) -> None:
    """A whole clip with its source."""
    name = clip_id(number)
    writer.append(name, rows, fps=FPS)
    writer.finish_clip(name, fps=FPS)
    writer.set_source(source_name(number), **STAMP, clip_ids=[name])


def source_name(number: int) -> str:
    return f"folder {number // 1000:04d}/clip {number:07d}.mp4"


def draw(reader: StoreReader, num_batches: int, rng: np.random.Generator) -> list[Batch]:
    """Windows that lie inside their clips, any clip and start alike."""
    batches = []
    for _ in range(num_batches):
        clips = rng.integers(0, reader.num_clips, BATCH)
        batches.append((clips, rng.integers(0, reader.lengths[clips] - LENGTH + 1)))
    return batches


class Raw:
    """The maps of a store's shards, and the rows of random windows in them."""

    def __init__(self, root: Path, num_batches: int, rng: np.random.Generator) -> None:
        self.maps = [np.load(path, mmap_mode="r") for path in sorted(root.glob("data-*.npy"))]
        self.arrays = [np.asarray(rows) for rows in self.maps]  # the subclass itself is slower
        self.blocks = [as_blocks(rows) for rows in self.arrays]
        self.places = [int(place) for place in rng.permutation(num_batches) % len(self.maps)]
        self.starts = [
            rng.integers(0, len(self.maps[place]) - LENGTH + 1, BATCH) for place in self.places
        ]
        self.rows = [starts[:, None] + np.arange(LENGTH) for starts in self.starts]

    def by_rows(self, batch: int) -> Any:
        """(64, 16, 64) by one fancy index of (64, 16) row numbers."""
        return self.arrays[self.places[batch]][self.rows[batch]]

    def by_blocks(self, batch: int) -> Any:
        """(64,) blocks by one fancy index of (64,) row numbers."""
        return self.blocks[self.places[batch]][self.starts[batch]]


def as_blocks(rows: npt.NDArray[Any]) -> npt.NDArray[np.void]:
    """See a map as blocks of 16 rows, one from every row on."""
    block = np.dtype((np.void, LENGTH * SPEC.row_bytes))
    count = (len(rows) - LENGTH + 1,)
    return np.ndarray(count, block, buffer=rows.data, strides=(SPEC.row_bytes,))


def file_contestants(root: Path, batches: list[Batch]) -> dict[str, Contestant]:
    """One file a clip: a new array (64, 16, 64) from 64 reads."""

    def collect(read: Callable[[int, int], Any], batch: int) -> Any:
        values = np.empty((BATCH, LENGTH, *SPEC.item_shape), np.float16)
        for place, (clip, start) in enumerate(
            zip(*map(np.ndarray.tolist, batches[batch]), strict=True)
        ):
            values[place] = read(clip, start)
        return values

    def by_safetensors(clip: int, start: int) -> Any:
        with safe_open(root / f"{clip}.safetensors", "numpy") as file:
            return file.get_slice("latents")[start : start + LENGTH]

    def by_npy(clip: int, start: int) -> Any:
        return np.load(root / f"{clip}.npy", mmap_mode="r")[start : start + LENGTH]

    kept = [np.asarray(np.load(root / f"{n}.npy", mmap_mode="r")) for n in range(NUM_CLIPS)]
    return {
        "safetensors": lambda batch: collect(by_safetensors, batch),
        "npy": lambda batch: collect(by_npy, batch),
        "npy, kept open": lambda batch: collect(
            lambda clip, start: kept[clip][start : start + LENGTH], batch
        ),
    }


def bench_windows(root: Path, *, rounds: int, seconds: float) -> dict[str, Any]:
    """Windows a second of each contestant, and ratios to the raw fancy index."""
    reader = write_clips(root)
    rng = np.random.default_rng(1)
    batches = draw(reader, 256, rng)
    raw = Raw(root / "store", len(batches), rng)
    contestants: dict[str, Contestant] = {
        "store": lambda batch: reader.windows(*batches[batch], length=LENGTH),
        "raw": raw.by_rows,
        "raw, as blocks": raw.by_blocks,
        **file_contestants(root, batches),
    }
    for name in ("safetensors", "npy", "npy, kept open"):  # all give what the store gives
        expected = reader.windows(*batches[0], length=LENGTH)[0]
        np.testing.assert_array_equal(contestants[name](0), expected)
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name in rng.permutation(list(contestants)).tolist():
            rate = measure(contestants[name], len(batches), seconds)
            if number:  # the first warms the cache
                rates[name].append(rate)
    ratios = {
        f"{name} / raw": median(a / b for a, b in zip(rates[name], rates["raw"], strict=True))
        for name in rates
    }
    return {
        "shards": len(raw.maps),
        "windows a second": {name: round(median(found)) for name, found in rates.items()},
        "ratios": {name: round(ratio, 4) for name, ratio in ratios.items()},
    }


def measure(contestant: Contestant, num_batches: int, seconds: float) -> float:
    """Windows a second over at least so many seconds."""
    begun = time.perf_counter()
    taken = 0.0
    done = 0
    while taken < seconds:
        for _ in range(4):
            contestant(done % num_batches)
            done += 1
        taken = time.perf_counter() - begun
    return done * BATCH / taken


def write_many(path: Path, num_clips: int, frames: int) -> None:
    """A store of short clips."""
    rows = np.arange(frames * SPEC.item_shape[0]).reshape(frames, -1).astype(np.float16)
    with StoreWriter(path, SPEC) as writer:
        for number in range(num_clips):
            add_clip(writer, number, rows)


def step_open(path: Path, num_clips: int) -> None:
    assert StoreReader(path).num_clips == num_clips


def step_open_to_write(path: Path, num_clips: int) -> None:
    del num_clips
    StoreWriter(path, SPEC).close()


def step_is_current(path: Path, num_clips: int) -> None:
    with StoreWriter(path, SPEC) as writer:
        assert all(writer.is_current(source_name(n), **STAMP) for n in range(num_clips))


def step_forget_missing(path: Path, num_clips: int) -> None:
    with StoreWriter(path, SPEC) as writer:
        writer.forget_missing([source_name(number) for number in range(num_clips)])


def step_owners(path: Path, num_clips: int) -> None:
    with StoreWriter(path, SPEC, num_ranks=2) as writer:
        owners = writer.owners([source_name(n) for n in range(num_clips)], [1] * num_clips)
        assert owners == [0] * num_clips


def step_verify(path: Path, num_clips: int) -> None:
    found = verify_store(path)
    assert (found.num_clips, found.num_problems) == (num_clips, 0)


def step_info(path: Path, num_clips: int) -> None:
    from ldf_video.api import info  # brings torch

    assert info(path)["clips"] == num_clips


STEPS = {
    "open": step_open,
    "open to write": step_open_to_write,
    "is_current of each source": step_is_current,
    "forget_missing": step_forget_missing,
    "owners": step_owners,
    "verify": step_verify,
    "info": step_info,
}


def run_step(name: str, path: Path, num_clips: int) -> None:
    """One step, in a process of its own: says when it begins, prints its seconds."""
    print("ready", flush=True)
    sys.stdin.readline()
    begun, begun_cpu = time.perf_counter(), time.process_time()
    STEPS[name](path, num_clips)
    print(time.perf_counter() - begun, time.process_time() - begun_cpu, flush=True)
    sys.stdin.readline()


def sample(process: subprocess.Popen[str]) -> Iterator[int]:
    """Its memory, every 5 ms until it prints something."""
    import select

    while not select.select([process.stdout], [], [], 0.005)[0]:
        yield resident_bytes(process.pid).own
    yield resident_bytes(process.pid).own


def measure_step(name: str, path: Path, num_clips: int) -> dict[str, float]:
    """Seconds and memory of one step."""
    command = [sys.executable, __file__, "--step", name, "--path", str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([*command, "--clips", str(num_clips)], **pipes) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        before = resident_bytes(process.pid).own
        process.stdin.write("go\n")
        process.stdin.flush()
        peak = max(sample(process))
        seconds, cpu_seconds = map(float, process.stdout.readline().split())
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return {
        "seconds": round(seconds, 2),
        "CPU seconds": round(cpu_seconds, 2),
        "peak MiB": round(peak / MIB),
        "MiB before": round(before / MIB),
    }


def bench_many(root: Path, num_clips: int, frames: int) -> dict[str, Any]:
    """A store of many clips: its files, and what each step takes."""
    path = root / "many"
    begun = time.perf_counter()
    write_many(path, num_clips, frames)
    written = time.perf_counter() - begun
    files = {"manifest MiB": (path / "manifest.sqlite").stat().st_size / MIB}
    files["rows MiB"] = sum(file.stat().st_size for file in path.glob("data-*.npy")) / MIB
    return {
        "clips": num_clips,
        "frames a clip": frames,
        "seconds to write": round(written, 1),
        **{name: round(size, 1) for name, size in files.items()},
        **{name: measure_step(name, path, num_clips) for name in STEPS},
    }


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, default=21, help="rounds; 0: leave them out")
    parser.add_argument("--seconds", type=float, default=0.1, help="a contestant and round")
    parser.add_argument("--clips", type=int, default=1_000_000, help="0: leave them out")
    parser.add_argument("--frames", type=int, default=4, help="of each of the many clips")
    parser.add_argument("--directory", type=Path, help="where to write; default: a temporary one")
    parser.add_argument("--step", choices=tuple(STEPS), help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        run_step(options.step, options.path, options.clips)
        return 0
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        if options.windows:
            found["windows"] = bench_windows(
                Path(name), rounds=options.windows, seconds=options.seconds
            )
        if options.clips:
            found["many clips"] = bench_many(Path(name), options.clips, options.frames)
    print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
