r"""The three penalties on D's slope, in the default game at equal updates, with several seeds.

    python scripts/data/record_pacman.py --episodes 24 --test-episodes 12 --windows-per-episode 2 \
        --seed 18
    python scripts/experiments/compare_penalties.py clips/pacman/train --test clips/pacman/test

Trains the default frame model small, with D in the game for most of the run, once a seed and
penalty (`penalty` of the game's `roth` in config.json), and prints a table: means over the seeds
with their standard deviation. PSNR on frames of clips that are not trained on, of their latents and
of latents off by 0.3 of their spread; the judge's Frechet distance of such frames and of mixtures
with the prior (`prior_curve.py`), on 64 directions fitted to real frames; and of the last
fifth of the updates D's loss, the mean logit, the pressure, the share of updates D rested, and the
penalty on each side. Run again, it goes on where it was.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from prior_curve import mixed
from torch import Tensor

from ldf_video.evaluation import judged
from ldf_video.evaluation.judge import Judge, judge_clips, load_judge
from ldf_video.intake.frames_store import store_frames
from ldf_video.levels.frame_level import FrameLevel
from ldf_video.levels.frechet import frechet_distance
from ldf_video.models import build
from ldf_video.models.gan import PENALTIES, RothConfig
from ldf_video.models.grid import GridConfig, GridGameConfig
from ldf_video.progress import Progress
from ldf_video.store.reader import StoreReader
from ldf_video.training import checkpoints
from ldf_video.training.config import Cadence, TrainConfig
from ldf_video.training.loop import Trainer
from ldf_video.training.ranks import Ranks
from ldf_video.video.geometry import Geometry

GAMMA = {"roth": 1.0, "pair": 1.0, "r1r2": 0.25}
"""At the start: errors are squared and a half where D cannot tell, and 1 with R1 and R2."""
SHARES = (0.0, 0.3, 0.6, 1.0)
"""Of noise in the prior curve."""
DIRECTIONS = 64
D_LOGS = ("discriminator", "logit", "pressure", "resting", "roth_real", "roth_fake")


def settings(penalty: str, options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """The "model" and "game" of a run's config."""
    model = GridConfig(base_width=options.width, critic_width=options.width)
    roth = replace(RothConfig(), penalty=penalty, gamma=options.gamma or GAMMA[penalty])
    game = GridGameConfig(game_start=options.game_start, game_share=0.5, roth=roth)
    return asdict(model), asdict(game)


def train(directory: Path, known: StoreReader, config: dict[str, Any]) -> Any:
    """Train, or go on, in a checkpoint directory; the averaged model."""
    checkpoints.save_config(directory, {"kind": "frame", "options": {}, **config})
    training = TrainConfig(**config["training"])
    torch.manual_seed(training.seed)
    level = FrameLevel(
        build.frame_game(config["model"], config["game"]),
        known,
        batch_size=training.batch_size,
        seed=training.seed,
    )
    trainer = Trainer(level, directory, config=training, cadence=Cadence(save_seconds=30))
    with Progress(directory.name, unit="steps") as progress:
        trainer.run(progress)
    return trainer.average.module


@torch.inference_mode()
def measure(model: Any, frames: Any, judge: Judge) -> dict[str, float]:
    """What the averaged model does with frames (N, 1, H, W, 3) that it never saw."""
    latents = judged.encoded(model, frames, device="cpu")
    generator = torch.Generator().manual_seed(0)
    real = _features(judge, frames)
    _, _, directions = np.linalg.svd(real - real.mean(0), full_matrices=False)
    basis = directions[:DIRECTIONS].T

    def decoded(z: Tensor) -> Any:
        return judged.decoded(model, z, num_frames=1, device="cpu")

    off = latents + 0.3 * latents.std(0) * torch.randn(latents.shape, generator=generator)
    found = {
        "psnr": judged.psnr_of(decoded(latents), frames),
        "psnr_off": judged.psnr_of(decoded(off), frames),
        "frechet_off": frechet_distance(real @ basis, _features(judge, decoded(off)) @ basis),
    }
    for share in SHARES:
        made = _features(judge, decoded(mixed(latents, share, generator=generator)))
        found[f"frechet_{share}"] = frechet_distance(real @ basis, made @ basis)
    return found


def _features(judge: Judge, frames: Any) -> Any:
    return judge_clips(judge, frames)[:, 0].astype(np.float64)


def discriminator_means(directory: Path) -> dict[str, float]:
    """Means over the last fifth of the updates."""
    lines = checkpoints.read_metrics(directory)
    last = max(line["step"] for line in lines)
    lines = [line for line in lines if line["step"] > 0.8 * last]
    return {name: mean(line[name] for line in lines if name in line) for name in D_LOGS}


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path, help="to learn from")
    parser.add_argument("--test", type=Path, required=True, help="clips to measure on")
    parser.add_argument("--out", type=Path, default=Path("penalties"), help="where runs are kept")
    parser.add_argument("--penalties", nargs="+", default=list(PENALTIES), choices=PENALTIES)
    parser.add_argument("--gamma", type=float, help="in place of each penalty's own")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--width", type=int, default=16, help="of E, G and D")
    parser.add_argument("--game-start", type=float, default=0.15)
    parser.add_argument("--frames", type=int, default=400, help="to measure on")
    options = parser.parse_args()
    with Progress("frames", unit="frames") as progress:
        known, test = (
            store_frames(clips, options.out / name, Geometry(32, 32), progress, Ranks())
            for clips, name in ((options.clips, "train-frames"), (options.test, "test-frames"))
        )
    some = np.linspace(0, test.num_frames - 1, options.frames).astype(np.int64)
    frames, judge = test.frames_at(some)[:, None], load_judge()

    def run(directory: Path, penalty: str, seed: int) -> dict[str, float]:
        model, game = settings(penalty, options)
        training = TrainConfig(
            steps=options.steps,
            batch_size=options.batch_size,
            learning_rate=1e-3,
            optimizer="muon",
            seed=seed,
        )
        config = {"model": model, "game": game, "training": asdict(training)}
        config["frames"] = Geometry(32, 32).settings()
        trained = train(directory, known, config)
        return measure(trained, frames, judge) | discriminator_means(directory)

    print(compare(options.penalties, options.seeds, run, out=options.out))
    return 0


def compare(
    ways: list[str], seeds: int, run: Callable[[Path, str, int], dict[str, float]], *, out: Path
) -> str:
    """A table: a row a value that `run` finds, a column a way, mean and deviation over the seeds.

    `run` is given a directory of its own, the way and the seed. What it found is kept there.
    """
    results: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for seed in range(seeds):  # all ways before the next seed: a table at any time
        for way in ways:
            kept = out / f"{way}-{seed}" / "result.json"
            if not kept.exists():
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_text(json.dumps(run(kept.parent, way, seed), indent=2) + "\n")
            results[way].append(json.loads(kept.read_text()))
    lines = [f"| | {' | '.join(results)} |", "|---" * (1 + len(results)) + "|"]
    for name in next(iter(results.values()))[0]:
        cells = [[found[name] for found in runs] for runs in results.values()]
        shown = [f"{mean(c):.4g} ({stdev(c) if len(c) > 1 else 0:.2g})" for c in cells]
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
