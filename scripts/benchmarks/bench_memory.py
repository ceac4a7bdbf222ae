"""Peak memory of every long command against the length of the video, in one run.

    python scripts/benchmarks/bench_memory.py
    python scripts/benchmarks/bench_memory.py --encode-video FILE
    python scripts/benchmarks/bench_memory.py --train-hours 10

The first makes a short and a long 320 x 240 video, and on each in turn encodes, trains both levels
for a few updates and generates as many frames, every command in a process of its own. The second
repeats a real video, without encoding it anew, until it is an hour long, and encodes that and its
first ten seconds: as it is, and with a model made to take 0.2 s a batch, stopped after five
minutes, when all queues have long been full. Ten seconds are over so soon that what was in memory
at one time is a matter of luck: their median of five runs counts.
The third trains on ten seconds and on so many hours at 15 frames a second, 64 x 64, an effective
batch of 128 in parts of 32: their frames are written straight into a store (12,288 bytes each), as
decoding is what the first measures.

Memory is RssAnon + RssShmem summed over the process tree, sampled every 10 ms (Linux only): pages
of mapped files can be dropped and do not count; their peak (RssFile, libraries included, a page
that two processes map counted twice) stands beside it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import bench_clips
import numpy as np
from bench_tools import MIB, peak_bytes

from ldf_video.store.writer import StoreWriter
from ldf_video.video.write import VideoWriter

SHORT_RUNS = 5


def ldf_video(arguments: list[str]) -> list[str]:
    """A command line."""
    return [sys.executable, "-m", "ldf_video", *arguments, "--quiet", "--device", "cpu"]


def make_video(path: Path, *, num_frames: int) -> None:
    """A moving pattern, 320 x 240 at 30 frames a second."""
    rows, columns = np.mgrid[:120, :160]
    with VideoWriter(path, fps=30, upscale=2) as writer:
        for number in range(num_frames):
            wave = (2 * rows + columns + 3 * number) % 256
            frame = np.stack([wave, np.roll(wave, number, axis=1), 255 - wave], axis=-1)
            writer.write(frame[None].astype(np.uint8))


def commands(length: int) -> dict[str, list[str]]:
    """The jobs for a video of `length` frames, in the order in which they need each other."""
    video, latents = f"{length}.mp4", f"latents-{length}"
    few = ["--seed", "0", "--batch-size", "16", "--steps"]
    return {
        "train-frame": ["train-frame", video, "--out", f"frame-{length}", *few, "10"],
        "encode": ["encode", video, "--frame-model", "pacman-32", "--out", latents],
        "train-top": ["train-top", "--latents", latents, "--out", f"top-{length}", *few, "20"],
        "generate": ["generate", "--frames", str(length), "-o", f"out-{length}.mp4"],
    }


def peaks_by_length(short: int, long: int) -> dict[str, dict[str, float]]:
    """Peaks of every command for a made video of so many frames and of so many."""
    peaks: dict[str, list[int]] = {}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for length in (short, long):
            make_video(directory / f"{length}.mp4", num_frames=length)
            for job, arguments in commands(length).items():
                peak = peak_bytes(ldf_video(arguments), directory=directory)
                peaks.setdefault(job, []).append(peak.own)
    return {
        job: {
            f"mib_for_{short}_frames": round(own_short / MIB, 1),
            f"mib_for_{long}_frames": round(own_long / MIB, 1),
            "mib_more": round((own_long - own_short) / MIB, 1),
            "ratio": round(own_long / own_short, 3),
        }
        for job, (own_short, own_long) in peaks.items()
    }


def peaks_of_train_frame(hours: float, *, steps: int) -> dict[str, object]:
    """Peaks of `train-frame` on frames of ten seconds and of hours."""
    results: dict[str, object] = {}
    for name, seconds in (("10 seconds", 10.0), (f"{hours:g} hours", 3600 * hours)):
        with tempfile.TemporaryDirectory() as parent:
            directory = Path(parent)
            make_video(directory / "clip.mp4", num_frames=30)
            num_frames = round(15 * seconds)
            make_frames_store(directory / "frames", directory / "clip.mp4", num_frames=num_frames)
            options = "--size 64 --batch-size 128 --accumulate 4 --seed 0 --frames-store frames"
            command = ["train-frame", "clip.mp4", *options.split(), "--steps", str(steps)]
            peak = peak_bytes(ldf_video(command), directory=directory)
            config = json.loads((directory / "checkpoints/frame/config.json").read_text())
            results[name] = {
                "frames": config["data"]["frames"],
                "mib": round(peak.own / MIB, 1),
                "mapped_mib": round(peak.mapped / MIB, 1),
            }
    return results


def make_frames_store(path: Path, clip: Path, *, num_frames: int) -> None:
    """A store of frames (64 x 64) that a clip, whatever it holds, counts as having been read into.

    Noise, 500 frames at a time.
    """
    from ldf_video.intake.frames_store import frames_spec
    from ldf_video.video.geometry import make_geometry

    rng, name = np.random.default_rng(0), "0" * 64
    with StoreWriter(path, frames_spec(make_geometry(size="64x64", fps=None, crop=None))) as writer:
        for start in range(0, num_frames, 500):
            shape = (min(500, num_frames - start), 64, 64, 3)
            writer.append(name, rng.integers(0, 256, shape, dtype=np.uint8), fps=Fraction(15))
        writer.finish_clip(name, fps=Fraction(15))
        found = clip.stat()
        writer.set_source(
            clip.name, size=found.st_size, mtime_ns=found.st_mtime_ns, clip_ids=[name]
        )


def peaks_of_encode(
    video: Path, *, minutes: float, stop_after: float, device: str
) -> dict[str, object]:
    """Peaks of `encode` for the first ten seconds of a video and for it repeated to `minutes`."""
    results: dict[str, object] = {"video": video.name, "minutes": minutes, "device": device}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        videos = {"short": directory / "short.mp4", "long": directory / "long.mp4"}
        bench_clips.repeat(video, videos["short"], seconds=10)
        results["long_frames"] = bench_clips.repeat(video, videos["long"], seconds=60 * minutes)
        for speed, batch_seconds in (("as it is", 0.0), ("slow model", 0.2)):
            runs = {
                length: [
                    _peak_of_encode(
                        path,
                        batch_seconds=batch_seconds,
                        stop_after=stop_after if batch_seconds else None,
                        device=device,
                    )
                    for _ in range(SHORT_RUNS if length == "short" else 1)
                ]
                for length, path in videos.items()
            }
            usual = statistics.median(run["mib"] for run in runs["short"])
            results[speed] = {**runs, "mib_more": round(runs["long"][0]["mib"] - usual, 1)}
    results["slow model stopped after seconds"] = stop_after
    return results


def _peak_of_encode(
    video: Path, *, batch_seconds: float, stop_after: float | None, device: str
) -> dict[str, float]:
    report = video.with_suffix(".json")
    out = Path(tempfile.mkdtemp(dir=video.parent)) / "latents"  # a new store each time
    child = [str(batch_seconds), str(video), str(out), device, str(report)]
    command = [sys.executable, str(Path(__file__).resolve()), "--child", *child]
    started = time.monotonic()
    peak = peak_bytes(command, directory=video.parent, stop_after=stop_after)
    return {
        "mib": round(peak.own / MIB, 1),
        "mapped_mib": round(peak.mapped / MIB, 1),
        "seconds": round(time.monotonic() - started, 1),
        **json.loads(report.read_text()),
    }


def encode_in_child(batch_seconds: float, video: str, out: str, device: str, report: str) -> int:
    """Encode here, each batch taking so long more; the last argument is a file for the figures.

    Readers are processes of their own, which this does not touch.
    """
    import torch

    import ldf_video
    from ldf_video.intake.frame_encoder import FrameEncoder

    call, num_batches = FrameEncoder.__call__, 0

    def slow(self: FrameEncoder, frames: np.ndarray, num_real: int) -> np.ndarray:
        nonlocal num_batches
        num_batches += 1
        time.sleep(batch_seconds)
        return call(self, frames, num_real)

    FrameEncoder.__call__ = slow  # type: ignore[method-assign]
    try:
        ldf_video.encode(video, out=out, frame_model="pacman-32", device=device, quiet=True)
    except KeyboardInterrupt:
        return 130
    finally:
        gpu = torch.cuda.max_memory_reserved() if device == "cuda" else 0
        figures = {"gpu_mib": round(gpu / MIB, 1), "batches": num_batches}
        Path(report).write_text(json.dumps(figures))
    return 0


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", type=int, default=300, help="frames of the short video")
    parser.add_argument("--long", type=int, default=18_000, help="frames of the long one")
    parser.add_argument("--encode-video", type=Path, metavar="FILE", help="a real video, to repeat")
    parser.add_argument("--minutes", type=float, default=60.0, help="how long to make that")
    parser.add_argument("--stop-after", type=float, default=300.0, help="seconds of the slow model")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="with a FILE")
    parser.add_argument("--train-hours", type=float, metavar="HOURS", help="of frames to train on")
    parser.add_argument("--steps", type=int, default=6, help="updates with HOURS")
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return encode_in_child(float(options.child[0]), *options.child[1:])
    if options.train_hours:
        results: object = peaks_of_train_frame(options.train_hours, steps=options.steps)
    elif options.encode_video:
        results = peaks_of_encode(
            options.encode_video,
            minutes=options.minutes,
            stop_after=options.stop_after,
            device=options.device,
        )
    else:
        results = peaks_by_length(options.short, options.long)
    print(json.dumps(results, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
