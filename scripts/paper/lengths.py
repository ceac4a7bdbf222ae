"""Clips of any length: one top model trained on clips of 5 to several hundred frames.

    python scripts/data/record_pacman.py --out clips/games --follow --episodes 160 \
      --test-episodes 100 --seed 5
    OMP_NUM_THREADS=1 python scripts/paper/lengths.py clips/games docs/paper [--short]

CLIPS holds train/ and test/, videos that follow Ms. Pac-Man through whole games, all lives of them.
The training videos are cut into clips whose lengths are drawn evenly in their logarithm, from 5
frames to 600 or what is left of a game; each frame is in one clip. They are encoded by the frame
model `pacman-32`. A flow begins as `pacman-32-flow`, which knows windows of 16-frame clips that
stand still, and learns windows of these.

That one model makes videos of 5, 50 and 500 frames, and `ldf-video evaluate --frames` judges them
beside as many real ones that are cut alike from other games; of long ones there are fewer. Figures
of two lengths do not compare; those of other real clips (the floor), of real clips that were
encoded and decoded, and of the model do. OUT/lengths.json, lengths.png and lengths-500.png are what
comes of it.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from experiment import parser, run, write_results

import ldf_video
from ldf_video.errors import LdfError
from ldf_video.evaluation.figures import figure
from ldf_video.evaluation.judged import generated
from ldf_video.output import write_atomically
from ldf_video.runs.zoo import frame_model_of, load_top_model
from ldf_video.video.sheet import write_sheet

FPS = 15
LENGTHS = (5, 50, 500)
LONGEST_LIFE = 400
"""Frames; hardly a life has more, and real clips that do go on into the next one."""
SHORTEST, LONGEST = 5, 600
KEPT = ("frame", "video", "motion", "kernel.video", "diversity.recall", "diversity.coverage")
CHANGES = ("change.moving_percent", "change.still_clips_percent")
SHOWN, SHOWN_FRAMES = 8, 16


@dataclass(frozen=True)
class Form:
    """How long it is trained, from what, and how many clips of each of LENGTHS are judged."""

    minutes: float
    init: str
    num_clips: Mapping[int, int]


SHORT = Form(2.0, "pacman-32-flow", {5: 200, 50: 40, 500: 20})
LONG = Form(60.0, "pacman-32-flow", {5: 1_000, 50: 200, 500: 24})


def pieces(num_frames: int, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    """First frames and ends of the clips that a video of `num_frames` is cut into.

    What is left at the end and shorter than SHORTEST is left out.
    """
    start = 0
    while num_frames - start >= SHORTEST:
        length = int(np.exp(rng.uniform(np.log(SHORTEST), np.log(LONGEST + 1))))
        end = min(start + length, num_frames)
        yield start, end
        start = end


def write_table(videos: Sequence[Path], path: Path) -> list[int]:
    """Write clips.csv of the pieces of some videos; their lengths."""
    rng, rows, lengths = np.random.default_rng(0), [], []
    for video in videos:
        try:
            with av.open(str(video)) as container:
                num_frames = container.streams.video[0].frames
        except (av.error.FFmpegError, OSError, IndexError) as error:
            raise LdfError(f"{video}: {error}; record it anew") from error
        for start, end in pieces(num_frames, rng):
            # half a frame early: the times of a range are compared with those of frames
            times = [f"{max(0.0, (frame - 0.5) / FPS):.4f}" for frame in (start, end)]
            rows.append([str(video.resolve()), *times])
            lengths.append(end - start)

    def write(partial: Path) -> None:
        with partial.open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["file", "start", "end"])
            table.writerows(rows)

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, write)
    return lengths


def judged(real: Path, top: Path, length: int, form: Form, cache: Path) -> dict[str, Any]:
    """The figures at a length, by set: other real clips, the model's, real ones decoded."""
    path = cache / f"judged-{length}-{form.num_clips[length]}.json"
    if path.is_file():
        return dict(json.loads(path.read_text()))
    found = ldf_video.evaluate(
        real=real,
        top_model=top,
        frame_model="pacman-32",
        num_clips=form.num_clips[length],
        num_frames=length,
        cuts="auto" if length <= LONGEST_LIFE else "off",
        seed=0,
        device="cpu",
        quiet=True,
    )
    sets: dict[str, Any] = {}
    for name, figures in found.rows.items():
        if figures.video is None:  # single frames from the prior
            continue
        values = {place: figure(figures, place) for place in (*KEPT, *CHANGES)}
        sets[name] = {
            place: round(float(getattr(value, "value", value)), 4)
            for place, value in values.items()
        }
        sets[name]["video_interval"] = [round(figures.video.low, 2), round(figures.video.high, 2)]
    write_atomically(path, lambda partial: partial.write_text(json.dumps(sets) + "\n"))
    return sets


def plot(found: Mapping[int, Mapping[str, Any]], lengths: Sequence[int], path: Path) -> None:
    """How long the training clips were; video distances at each length, with intervals."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    drawing, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    left.hist(lengths, bins=list(np.geomspace(SHORTEST, LONGEST + 1, 25)))
    left.set(xscale="log", xlabel="frames of a training clip", ylabel="clips")
    names = list(next(iter(found.values())))
    for number, name in enumerate(names):
        x = np.arange(len(found)) + 0.2 * (number - (len(names) - 1) / 2)
        y = np.array([sets[name]["video"] for sets in found.values()])
        interval = np.array([sets[name]["video_interval"] for sets in found.values()]).T
        errors = np.abs(interval - y)
        right.errorbar(x, y, yerr=errors, fmt="o", color=f"C{number}", label=name, capsize=3)
    right.set_xticks(np.arange(len(found)), [f"{length} frames" for length in found])
    right.set(ylabel="video distance", yscale="log")
    right.grid(alpha=0.3, axis="y")
    right.legend(fontsize=8)
    drawing.tight_layout()
    drawing.savefig(path, dpi=110)
    plt.close(drawing)


def main(arguments: argparse.Namespace) -> None:
    """Cut, encode, train, judge, write."""
    form = SHORT if arguments.short else LONG
    videos, test = (sorted((arguments.clips / part).glob("*.mp4")) for part in ("train", "test"))
    for part, there in (("train", videos), ("test", test)):
        if not there:
            raise LdfError(f"{arguments.clips / part}: no videos; the head of this file says how")
    runs = arguments.runs / ("lengths-short" if arguments.short else "lengths")
    lengths = write_table(videos, runs / "clips.csv")
    usual: dict[str, Any] = {"device": "cpu"}
    latents, top = runs / "latents", runs / "top"
    ldf_video.encode(runs / "clips.csv", out=latents, frame_model="pacman-32", **usual)
    ldf_video.train_top(
        latents=latents,
        out=top,
        init=form.init,
        minutes=form.minutes,
        batch_size=32,
        seed=0,
        **usual,
    )
    real = arguments.clips / "test"
    found = {length: judged(real, top, length, form, runs) for length in LENGTHS}
    results = {
        "form": vars(form),
        "training_clips": {
            "number": len(lengths),
            "frames": sum(lengths),
            "shortest": min(lengths),
            "median": float(np.median(lengths)),
            "longest": max(lengths),
        },
        "by_length": found,
    }
    write_results(arguments.out / "lengths.json", results)
    plot(found, lengths, arguments.out / "lengths.png")
    model = load_top_model(top, device="cpu")
    frame = frame_model_of(model.config, beside=top, device="cpu")
    clips = generated(
        model.model,
        frame.model,
        count=SHOWN,
        seed=0,
        num_frames=LENGTHS[-1],
        device="cpu",
        on_frames=lambda count: None,
    )
    shown = np.linspace(0, LENGTHS[-1] - 1, SHOWN_FRAMES).round().astype(int)
    write_sheet(arguments.out / "lengths-500.png", list(clips[:, shown]), upscale=2)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    run(main, parser(__doc__).parse_args())
