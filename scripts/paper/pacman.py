"""Figures 4, 5 and 7: the joint model and the two levels after equal core time, on Pac-Man.

    python scripts/paper/pacman.py clips/paper docs/paper

Trains each arm with each seed for the same core minutes, keeps its averaged weights on the way, and
judges clips of each: the square {joint, two levels} x {GAN, flow}, and the paper's own two levels.

- joint-gan: frames stacked as channels, R3GAN's recipe (joint.py)
- joint-flow: the same, a rectified flow in pixels (joint_flow.py)
- two-gan: the default frame model with a fully connected GAN of latents (`--kind mlp`)
- two-flow: the default frame model with the default flow
- paper: `--preset paper` with `--kind mlp`

Both levels and the encoding count. Arms of two levels have nothing to show before their top model
begins; two-gan and two-flow share frame models. Judged are clips of the test games, 5,000 a side at
the end and fewer on the way; distances grow with fewer, so only equal numbers compare.

Writes pacman.json, pacman-curves.png and pacman-clips.png from all arms and seeds that are there.
`--arms` and `--seeds` leave some for later.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joint
import joint_flow
import numpy as np
import torch
from experiment import (
    Clips,
    Judged,
    Mark,
    clips_of,
    parser,
    plot_clips,
    plot_curves,
    run,
    spread_of,
    train,
    write_results,
)
from two_levels import PRECISION, Lower, train_lower, train_upper

from ldf_video.levels.top_settings import DEFAULTS as TOP_DEFAULTS
from ldf_video.training import checkpoints
from ldf_video.training.config import TrainConfig

ARMS = ("joint-gan", "joint-flow", "two-gan", "two-flow", "paper")
FRAME_SHARE = 0.4
"""Of the core time, for the frame model."""
SAMPLE_SEED = 1_000
SHOWN = 12


@dataclass(frozen=True)
class Point:
    """An arm at a time: what it can make by then."""

    core_seconds: float
    step: int
    sample: Callable[[int], Clips]
    parameters: dict[str, int]


@dataclass(frozen=True)
class Budget:
    """How long each arm is trained, how many of its clips are judged.

    Attributes:
        minutes: core minutes of each arm and seed.
        marks: times at which an arm is judged, evenly spread.
        judged: clips at the end.
        on_the_way: clips at the other times.
        encoded: clips whose latents the top models learn: where time is short the others are left
            out, as encoding costs some 0.5 ms a frame.
    """

    minutes: float
    marks: int
    judged: int
    on_the_way: int
    encoded: int

    @property
    def mark_seconds(self) -> float:
        return 60 * self.minutes / self.marks


LONG = Budget(minutes=20, marks=8, judged=5_000, on_the_way=1_000, encoded=20_000)
SHORT = Budget(minutes=1, marks=3, judged=200, on_the_way=200, encoded=2_000)


def points_of(
    arm: str, clips: Clips, test: Clips, runs: Path, *, budget: Budget, seed: int
) -> list[Point]:
    """Train an arm, or go on with it."""
    directory = runs / f"{arm}-{seed}"
    if arm == "joint-gan":
        marks, model = train_joint_gan(clips, directory, budget=budget, seed=seed)
        sample: Any = joint.sample
    elif arm == "joint-flow":
        marks, model = train_joint_flow(clips, directory, budget=budget, seed=seed)
        sample = joint_flow.sample
    else:
        lower = lower_of(arm, clips, test, runs, budget=budget, seed=seed)
        kind = "flow" if arm == "two-flow" else "mlp"
        pairs = train_upper(
            kind,
            lower,
            directory,
            minutes=budget.minutes,
            seed=seed,
            mark_seconds=budget.mark_seconds,
        )
        return [
            Point(
                pair.core_seconds,
                pair.mark.step,
                lambda count, pair=pair: pair.sample(count, seed=SAMPLE_SEED + seed),
                {"frame model": size_of(pair.frame), "top model": size_of(pair.top)},
            )
            for pair in pairs
        ]

    def made(mark: Mark) -> Callable[[int], Clips]:
        return lambda count: sample(mark.load(model), count, seed=SAMPLE_SEED + seed)

    parameters = {"model": size_of(model)}
    return [Point(mark.core_seconds, mark.step, made(mark), parameters) for mark in marks]


def train_joint_gan(
    clips: Clips, directory: Path, *, budget: Budget, seed: int
) -> tuple[list[Mark], torch.nn.Module]:
    """The joint GAN on clips (N, T, H, W, 3)."""
    torch.manual_seed(seed)
    model = joint.JointModel(joint.JointConfig(size=clips.shape[2], num_frames=clips.shape[1]))
    game = joint.JointGame(model, joint.JointGameConfig())
    config = TrainConfig(minutes=budget.minutes, seed=seed, **joint.TRAINING)
    level = joint.JointLevel(game, clips, batch_size=config.batch_size, seed=seed)
    marks = train(level, directory, config, mark_seconds=budget.mark_seconds)
    return marks, model


def train_joint_flow(
    clips: Clips, directory: Path, *, budget: Budget, seed: int
) -> tuple[list[Mark], torch.nn.Module]:
    """The joint flow on clips (N, T, H, W, 3)."""
    torch.manual_seed(seed)
    game = joint_flow.JointFlowGame(joint_flow.joint_flow(clips))
    settings = {"mixed_precision": PRECISION, **TOP_DEFAULTS["flow"]}
    config = TrainConfig(minutes=budget.minutes, seed=seed, **settings)
    level = joint_flow.JointFlowLevel(game, clips, batch_size=config.batch_size, seed=seed)
    marks = train(level, directory, config, mark_seconds=budget.mark_seconds)
    return marks, game.model


def lower_of(
    arm: str, clips: Clips, test: Clips, runs: Path, *, budget: Budget, seed: int
) -> Lower:
    """The lower level of an arm of two levels."""
    preset = "paper" if arm == "paper" else "default"
    minutes = FRAME_SHARE * budget.minutes
    directory = runs / f"frame-{preset}-{seed}"
    return train_lower(
        preset, clips, test, directory, minutes=minutes, seed=seed, encoded=budget.encoded
    )


def size_of(model: torch.nn.Module) -> int:
    """Numbers that are learned."""
    return sum(parameter.numel() for parameter in model.parameters())


def add_budget(options: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Options that change a budget, and the seeds."""
    options.add_argument("--seeds", nargs="+", type=int)
    options.add_argument("--minutes", type=float, help="core minutes of each arm and seed")
    options.add_argument("--marks", type=int, help="times at which an arm is judged")
    options.add_argument("--judged", type=int, help="clips that are judged at the end")
    options.add_argument("--on-the-way", type=int, help="clips that are judged before")
    options.add_argument("--encoded", type=int, help="clips whose latents are learned")
    return options


def budget_of(arguments: argparse.Namespace) -> Budget:
    """The budget that is asked for."""
    usual = vars(SHORT if arguments.short else LONG)
    given = {name: getattr(arguments, name) for name in usual}
    return Budget(**usual | {name: value for name, value in given.items() if value is not None})


# -- what came of it -------------------------------------------------------------------------------


def judge_points(name: str, points: Sequence[Point], few: Judged, many: Judged) -> dict[str, Any]:
    """The curve of an arm and seed, and the figures at its end."""
    curve = []
    for point in points:
        count = few.num_clips
        found = few.of(f"{name}-{point.step}", lambda point=point, n=count: point.sample(n))
        curve.append({"core_seconds": point.core_seconds, "step": point.step, **found})
    last = points[-1]
    end = many.of(f"{name}-{last.step}", lambda: last.sample(many.num_clips))
    told = {"core_seconds": last.core_seconds, "parameters": last.parameters}
    return {"curve": curve, "end": {**told, **end}}


def crossover(joint_curve: Sequence[Any], curve: Sequence[Any]) -> float | None:
    """Core seconds from which on a curve stays under the joint one, at its own marks; or None."""
    times = [point["core_seconds"] for point in joint_curve]
    values = [point["video"] for point in joint_curve]
    crossed = None
    for point in curve:
        beside = np.interp(point["core_seconds"], times, values)
        if point["video"] >= beside:
            crossed = None
        elif crossed is None:
            crossed = point["core_seconds"]
    return crossed


def summary(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Of each arm the spread of its figures over seeds, and when it passed the joint GAN."""
    told = {}
    for arm, seeds in found.items():
        figures = {}
        for name in ("video", "frame", "motion", "recall", "precision", "spread_levels"):
            figures[name] = spread_of([seed["end"][name] for seed in seeds.values()])
        crossed = {
            seed: crossover(found["joint-gan"][seed]["curve"], known["curve"])
            for seed, known in seeds.items()
            if arm != "joint-gan" and seed in found.get("joint-gan", {})
        }
        told[arm] = {"seeds": len(seeds), "end": figures, "passes joint-gan at": crossed}
    return told


def main(arguments: argparse.Namespace) -> None:
    """Train, judge, write, arm by arm and seed by seed."""
    budget = budget_of(arguments)
    seeds = arguments.seeds or ([0] if arguments.short else [0, 1, 2])
    clips, test = clips_of(arguments.clips)
    runs = arguments.runs / f"pacman-{budget.minutes:g}"
    asked = [(arm, seed) for arm in arguments.arms for seed in seeds]
    points = {}
    for arm, seed in sorted({*asked, *finished(runs)}, key=lambda run: (ARMS.index(run[0]), run)):
        points[arm, seed] = points_of(arm, clips, test, runs, budget=budget, seed=seed)
    few, many = judges_of(test, runs, budget)
    floor = many.of("real", lambda: np.array(test[-many.num_clips :]))
    found: dict[str, dict[str, Any]] = {}
    for (arm, seed), known in points.items():
        found.setdefault(arm, {})[str(seed)] = judge_points(f"{arm}-{seed}", known, few, many)
        results = {"budget": vars(budget), "real": floor, "summary": summary(found), "arms": found}
        write_results(arguments.out / f"{arguments.name}.json", results)
    show(found, floor, arguments.out, name=arguments.name, budget=budget)
    rows = {"real, of other games": np.array(test[-SHOWN:])}
    for (arm, _), known in points.items():
        if arm not in rows:
            rows[arm] = known[-1].sample(SHOWN)
    plot_clips(arguments.out / f"{arguments.name}-clips.png", rows)


def finished(runs: Path) -> list[tuple[str, int]]:
    """Arms and seeds whose training is over."""
    found = []
    for arm in ARMS:
        for directory in runs.glob(f"{arm}-*"):
            seed = directory.name.removeprefix(f"{arm}-")
            state = checkpoints.load_state(directory, mapped=True) if seed.isdigit() else None
            if state is not None and state["done"]:
                found.append((arm, int(seed)))
    return found


def judges_of(test: Clips, runs: Path, budget: Budget) -> tuple[Judged, Judged]:
    """Judges of clips on the way and at the end, against clips evenly spread over the test games.

    The last ones are left out: they are the floor.
    """
    known = test[: len(test) // 2]
    few, many = (
        Judged(np.array(known[np.linspace(0, len(known) - 1, n).astype(int)]), runs / "judged")
        for n in (budget.on_the_way, budget.judged)
    )
    return few, many


def show(
    found: dict[str, dict[str, Any]], floor: dict[str, float], out: Path, *, name: str, budget: Any
) -> None:
    """Print the table and draw the curves."""
    print(f"{'':12} seed  minutes  video  frame  motion  recall  precision  spread  moving  still")
    rows = [("real", "", {"core_seconds": 0, **floor})]
    rows += [(arm, s, known["end"]) for arm, seeds in found.items() for s, known in seeds.items()]
    for arm, seed, end in rows:
        print(
            f"{arm:12} {seed:4} {end['core_seconds'] / 60:8.1f} {end['video']:6.0f} "
            f"{end['frame']:6.0f} {end['motion']:7.0f} {end['recall']:7.3f} "
            f"{end['precision']:10.3f} {end['spread_levels']:7.1f} {end['moving_percent']:7.1f} "
            f"{end['still_clips_percent']:6.1f}"
        )
    curves = {
        arm: [[(p["core_seconds"] / 60, p["video"]) for p in s["curve"]] for s in seeds.values()]
        for arm, seeds in found.items()
    }
    passed = {
        f"{arm} passes": float(np.mean([at for at in known.values() if at is not None])) / 60
        for arm, told in summary(found).items()
        if any((known := told["passes joint-gan at"]).values()) and arm == "two-flow"
    }
    plot_curves(
        out / f"{name}-curves.png",
        curves,
        times=passed,
        x="core minutes, both levels and encoding counted",
        y=f"video distance, {budget.on_the_way:,} clips",
    )


if __name__ == "__main__":
    options = add_budget(parser(__doc__))
    options.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS, metavar="ARM")
    options.add_argument("--name", default="pacman", help="of the files in OUT")
    run(main, options.parse_args())
