"""Figure 6: few whole clips, but all single frames.

    python scripts/paper/few_clips.py clips/paper docs/paper

The joint GAN and the upper level of the two levels (the default flow) see N clips of the training
games, the same ones: 64, 256, 1,024, and as many as are encoded. The lower level has seen all
frames, as in the paper. Both have had the same core time, lower level and encoding counted: budget
and frame models are those of pacman.py, whose runs are gone on with.

Beside each stands what copying scores: the N clips themselves, drawn again and again. It also says
how near made clips are to the N clips, beside real clips that were not trained on.

Writes few-clips.json, few-clips.png (curves over N) and few-clips-sheet.png.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import joint
import numpy as np
from experiment import Clips, Judged, clips_of, parser, plot_clips, plot_curves, run, write_results
from pacman import (
    SAMPLE_SEED,
    SHOWN,
    Budget,
    add_budget,
    budget_of,
    judges_of,
    lower_of,
    train_joint_gan,
)
from two_levels import few_of, train_upper

from ldf_video.evaluation.figures import evenly_spread, memorisation, nearest_levels

COUNTS = (64, 256, 1024, 0)
"""Whole clips that are seen; 0 for all."""


def made_by(
    few: int | None, clips: Clips, test: Clips, runs: Path, *, budget: Budget, seed: int, count: int
) -> dict[str, Clips]:
    """Clips (count, T, H, W, 3) of both models, trained on `few` clips, or on all of them."""
    seen = clips[: budget.encoded]
    name = f"-{few}" if few else ""
    few_seen = seen if few is None else seen[few_of(len(seen), few, seed)]
    marks, model = train_joint_gan(
        clips if few is None else np.array(few_seen),
        runs / f"joint-gan{name}-{seed}",
        budget=budget,
        seed=seed,
    )
    lower = lower_of("two-flow", clips, test, runs, budget=budget, seed=seed)
    pairs = train_upper(
        "flow",
        lower,
        runs / f"two-flow{name}-{seed}",
        minutes=budget.minutes,
        seed=seed,
        few=few,
        mark_seconds=budget.mark_seconds,
    )
    return {
        "joint-gan": joint.sample(marks[-1].load(model), count, seed=SAMPLE_SEED + seed),
        "two-flow": pairs[-1].sample(count, seed=SAMPLE_SEED + seed),
        "copying": np.array(
            few_seen[np.random.default_rng(seed).integers(len(few_seen), size=count)]
        ),
    }


def figures_of(
    made: dict[str, Clips], seen: Clips, unseen: Clips, judged: Judged, name: str
) -> dict[str, Any]:
    """The judge's figures of each set, and how near it comes to the clips that were seen."""
    shown = {kind: evenly_spread(clips) for kind, clips in made.items()}
    near = nearest_levels(shown | {"real": evenly_spread(unseen)}, seen)
    told = {}
    for kind, clips in made.items():
        found = judged.of(f"{kind}-{name}", lambda clips=clips: clips)
        told[kind] = found | vars(memorisation(near[kind], near["real"]))
    return told


def main(arguments: argparse.Namespace) -> None:
    """Train both on each number of clips, judge, write."""
    budget = budget_of(arguments)
    seeds = arguments.seeds or ([0] if arguments.short else [0, 1, 2])
    counts = arguments.counts or ([64, 256, 0] if arguments.short else list(COUNTS))
    clips, test = clips_of(arguments.clips)
    runs = arguments.runs / f"pacman-{budget.minutes:g}"
    _, judged = judges_of(test, runs, budget)
    unseen = np.array(test[-judged.num_clips :])
    found: dict[str, dict[str, Any]] = {}
    shown: dict[str, Clips] = {"real, of other games": unseen[:SHOWN]}
    for few in (count or None for count in counts):
        for seed in seeds:
            made = made_by(few, clips, test, runs, budget=budget, seed=seed, count=judged.num_clips)
            pool = clips[: budget.encoded]
            seen = pool if few is None else pool[few_of(len(pool), few, seed)]
            number = str(few or len(pool))
            figures = figures_of(made, seen, unseen, judged, f"few-{number}-{seed}")
            found.setdefault(number, {})[str(seed)] = figures
            write_results(
                arguments.out / "few-clips.json", {"budget": vars(budget), "clips": found}
            )
            if seed == seeds[0]:
                for kind in ("joint-gan", "two-flow"):
                    shown[f"{kind}, {int(number):,} clips"] = made[kind][:SHOWN]
    show(found)
    curves = {
        kind: [
            [
                (float(number), of_seeds[str(seed)][kind]["video"])
                for number, of_seeds in found.items()
            ]
            for seed in seeds
        ]
        for kind in ("joint-gan", "two-flow", "copying")
    }
    plot_curves(
        arguments.out / "few-clips.png",
        curves,
        x="whole clips seen",
        y=f"video distance, {judged.num_clips:,} clips",
        log_x=True,
    )
    plot_clips(arguments.out / "few-clips-sheet.png", shown)


def show(found: dict[str, dict[str, Any]]) -> None:
    """Print the table."""
    print(f"{'clips':>6} seed {'':10} video  recall  precision  nearest  real's  copied %")
    for number, of_seeds in found.items():
        for seed, kinds in of_seeds.items():
            for kind, f in kinds.items():
                print(
                    f"{number:>6} {seed:4} {kind:10} {f['video']:5.0f} {f['recall']:7.3f} "
                    f"{f['precision']:10.3f} {f['median_levels']:8.1f} "
                    f"{f['real_median_levels']:7.1f} {f['copied_percent']:9.1f}"
                )


if __name__ == "__main__":
    options = add_budget(parser(__doc__))
    options.add_argument("--counts", nargs="+", type=int, help="numbers of whole clips, 0 for all")
    run(main, options.parse_args())
