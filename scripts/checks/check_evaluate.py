"""Whether evaluate's figures catch what they should: real clips, spoilt in one way at a time.

    python scripts/checks/check_evaluate.py clips/paper/test --num-clips 1000

Draws three disjoint sets of real clips: a reference, one that is held against it, and one that
stands for what was trained on. Prints the table of evaluate, and which figures see what is wrong,
for clips that are

    identical   the reference itself
    disjoint    other real clips: the floor
    blurred     under a Gaussian blur of 1/32 of their height
    repeated    ten clips, again and again
    shuffled    each clip's frames in another order
    frozen      each clip's first frame, again and again
    slower      at half the speed: each frame stands for two
    drifting    moved to the right, one more pixel a frame
    blinking    without what moves in every other frame: there is what the clip mostly shows
    memorised   from what was trained on
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ldf_video.clips.probe import frame_size
from ldf_video.evaluation.draw import draw_clips
from ldf_video.evaluation.figures import (
    COMPARED,
    Figures,
    estimate,
    evenly_spread,
    measure,
    memorisation,
    nearest_levels,
)
from ldf_video.evaluation.judge import load_judge
from ldf_video.evaluation.reference import Reference, blurred
from ldf_video.evaluation.report import table
from ldf_video.progress import Progress
from ldf_video.sources.search import find_sources
from ldf_video.video.geometry import Geometry

Clips = npt.NDArray[np.uint8]


def spoilt(reference: Clips, others: Clips, train: Clips, *, seed: int) -> dict[str, Clips]:
    """What is judged, by name; all but the first of clips that are not in the reference."""
    rng = np.random.default_rng(seed)
    n, t = others.shape[:2]
    order = np.stack([shuffled_order(t, rng) for _ in range(n)])
    return {
        "identical": reference,
        "disjoint": others,
        "blurred": blurred(others),
        "repeated": others[rng.choice(n, 10, replace=False)][np.arange(n) * 10 // n],
        "shuffled": np.take_along_axis(others, order[:, :, None, None, None], axis=1),
        "frozen": others[:, :1].repeat(t, axis=1),
        "slower": others[:, np.arange(t) // 2],
        "drifting": np.stack([np.roll(others[:, k], k, axis=2) for k in range(t)], axis=1),
        "blinking": blinking(others),
        "memorised": train,
    }


def blinking(clips: Clips) -> Clips:
    """Every other frame is the median of its clip's frames."""
    made = clips.copy()
    made[:, 1::2] = np.median(clips, axis=1, keepdims=True).round()
    return made


def shuffled_order(num_frames: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """An order that is neither forwards nor backwards."""
    forwards = np.arange(num_frames)
    while True:
        order = rng.permutation(num_frames)
        if not (np.array_equal(order, forwards) or np.array_equal(order, forwards[::-1])):
            return order


def seen(rows: dict[str, Figures], *, floor: str = "disjoint") -> dict[str, list[str]]:
    """The figures, by place, whose interval does not touch that of other real clips, by set."""
    found: dict[str, list[str]] = {}
    for name, row in rows.items():
        pairs = {place: (estimate(row, place), estimate(rows[floor], place)) for place in COMPARED}
        found[name] = [
            place
            for place, (one, two) in pairs.items()
            if one is not None and two is not None and (one.low > two.high or one.high < two.low)
        ]
    return found


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", help="real clips, three times NUM_CLIPS of them")
    parser.add_argument("--num-clips", type=int, default=1000, help="in each set")
    parser.add_argument("--judge", help="TorchScript in place of EfficientNet-Lite0")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    count, seed = arguments.num_clips, arguments.seed
    sources = find_sources(arguments.clips)
    drawn = draw_clips(sources, Geometry(*frame_size(sources[0])), count=3 * count, seed=seed)
    if len(drawn.clips) < 3 * count:
        parser.error(f"{len(drawn.clips):,} clips that share no frame, expected {3 * count:,}")
    order = np.random.default_rng(seed).permutation(3 * count)
    real, others, train = (drawn.clips[np.sort(part)] for part in np.split(order, 3))
    judge = load_judge(arguments.judge)
    reference = Reference.of(real, judge)
    sets, rows = spoilt(real, others, train, seed=seed), {}
    for name, clips in sets.items():
        with Progress(name, unit="frames", total=clips.shape[0] * clips.shape[1]) as progress:
            rows[name] = measure(reference, clips, judge, on_frames=progress.update)
    distances = nearest_levels({name: evenly_spread(clips) for name, clips in sets.items()}, train)
    for name, levels in distances.items():
        found = memorisation(levels, distances["disjoint"])
        rows[name] = replace(rows[name], memorisation=found)
    print(f"judge {judge.name}, {count:,} clips of {arguments.clips} a set, seed {seed}\n")
    print(table(rows))
    print()
    for name, places in seen(rows).items():
        print(f"- {name}: {', '.join(places) or 'none'}")
    if arguments.json is not None:
        figures = {name: asdict(row) for name, row in rows.items()}
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
