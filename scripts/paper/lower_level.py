"""What the lower level needs: ways to train a frame model, at equal core time.

    OMP_NUM_THREADS=1 python scripts/paper/lower_level.py CLIPS docs/paper [--short]

CLIPS/train and CLIPS/test hold clips as `scripts/data/record_pacman.py` writes them. Each arm is a
frame model trained by one thread for the same core time (bf16, batches of 16), from an autoencoder
to the paper's preset and beyond, then a fully connected top model (`--kind mlp`) on its latents,
again for the same core time. Measured on test clips:

- psnr: of G(E(x)), in dB.
- reconstruction, prior, off: frame distance (`ldf-video evaluate`) of G(E(x)), of G(z) with z from
  N(0, I), and of G(E(x) + noise of 0.3 of each number's spread).
- prior_own: the same as prior where G's batch norms take their statistics from such z.
- video, top: video distance of G(E(x)), and of what the top model makes, decoded.

`--run NAME=DIRECTORY` measures a frame model that exists, without a top model; `--arms none` no
other. Writes lower_level.json, lower_level.png and lower_level_frames.png.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import experiment
import numpy as np
import torch
from arrays import FramesOf, WindowsOf
from experiment import Clips
from torch import Tensor

from ldf_video.evaluation import judged
from ldf_video.evaluation.figures import measure
from ldf_video.evaluation.judge import Judge
from ldf_video.evaluation.reference import Reference
from ldf_video.levels.frame_level import DEFAULTS as FRAME_DEFAULTS
from ldf_video.levels.frame_level import FrameLevel
from ldf_video.levels.latents import video_generator
from ldf_video.levels.top_settings import DEFAULTS as TOP_DEFAULTS
from ldf_video.models import build
from ldf_video.models.ali import AliGameConfig
from ldf_video.models.frame import FrameModel
from ldf_video.models.grid import GridGameConfig
from ldf_video.models.layers import BatchNorm, recompute_statistics
from ldf_video.models.rollout import Rollout
from ldf_video.models.top import TopModel
from ldf_video.output import write_atomically
from ldf_video.runs.zoo import load_frame_model
from ldf_video.training import checkpoints
from ldf_video.training.config import TrainConfig
from ldf_video.video.geometry import Geometry
from ldf_video.video.pixels import from_model, to_model

OFF = 0.3
TICKS = (100, 200, 400, 800, 1600)
SHOWN = 12
FIGURES = ("psnr", "reconstruction", "prior", "prior_own", "off", "video", "top")
ALI = AliGameConfig()
R1_R2 = replace(ALI.roth, penalty="r1r2", gamma=ALI.roth.gamma / 4)
"""As heavy as Roth's where D cannot tell: its errors are a half there, and squared."""
GRID = GridGameConfig()
ARMS: dict[str, tuple[str, AliGameConfig | GridGameConfig]] = {
    "autoencoder": (
        "paper",
        replace(ALI, game=0, shortcut=0, moments=0, deterministic=True),
    ),
    "autoencoder, moments": ("paper", replace(ALI, game=0, shortcut=0, deterministic=True)),
    "autoencoder, moments, noise": ("paper", replace(ALI, game=0, shortcut=0)),
    "ALI alone": ("paper", replace(ALI, reconstruction=0, shortcut=0, moments=0)),
    "ALI, reconstruction": ("paper", replace(ALI, shortcut=0)),
    "preset paper": ("paper", ALI),
    "R1 + R2": ("paper", replace(ALI, roth=R1_R2)),
    "no penalty": ("paper", replace(ALI, roth=replace(ALI.roth, gamma=0))),
    "deterministic E": ("paper", replace(ALI, deterministic=True)),
    "Gaussian E, free": ("paper", replace(ALI, least_std=0)),
    "default autoencoder": ("default", replace(GRID, game_start=1, moments=0, latent_noise=0)),
    "preset default": ("default", GRID),
}
"""An arm's preset and game; "preset paper" is ALI with reconstruction and shortcut."""


def frame_config(
    arm: str, clips: Clips, training: Mapping[str, Any], *, base_width: int | None = None
) -> dict[str, Any]:
    """The config of an arm's run, for clips (N, T, H, W, 3)."""
    preset, game = ARMS[arm]
    height, width = clips.shape[2:4]
    model, _ = build.frame_settings(preset, height=height, width=width)
    model |= {} if base_width is None else {"base_width": base_width}
    chosen = TrainConfig(**{**FRAME_DEFAULTS[preset], "mixed_precision": "bf16", **training})
    frames = Geometry(height, width).settings()
    config = {"kind": "frame", "model": model, "game": asdict(game), "frames": frames}
    return {**config, "training": asdict(chosen)}


def train_frames(directory: Path, config: dict[str, Any], clips: Clips) -> tuple[Any, int]:
    """The averaged frame model of a run, trained or gone on with, and its updates."""
    training = begun(directory, config)
    game = build.frame_game(config["model"], config["game"])
    frames = FramesOf(clips)
    level = FrameLevel(game, frames, batch_size=training.batch_size, seed=training.seed)
    mark = experiment.train(level, directory, training, mark_seconds=math.inf)[-1]
    return mark.load(build.frame_model(config["model"])), mark.step


def train_top(directory: Path, latents: Tensor, training: Mapping[str, Any]) -> tuple[Any, int]:
    """The same of a fully connected top model of latents (N, T, C, h, w)."""
    shape: Any = tuple(latents.shape[2:])
    model, settings = build.top_settings(
        "mlp", latent_shape=shape, window=latents.shape[1], block=1
    )
    chosen = asdict(TrainConfig(**{**TOP_DEFAULTS["mlp"], **training}))
    config = {"kind": "top", "model": model, "game": settings, "training": chosen}
    training = begun(directory, config)
    top = build.top_model(model)
    top.set_statistics(latents.mean((0, 1)), latents.std((0, 1)))
    game = build.top_game(top, settings)
    level = WindowsOf(game, latents, batch_size=training.batch_size, seed=training.seed)
    mark = experiment.train(level, directory, training, mark_seconds=math.inf)[-1]
    return mark.load(build.top_model(model)), mark.step


def begun(directory: Path, config: dict[str, Any]) -> TrainConfig:
    """Make a directory a run, and set the seed of its networks."""
    directory.mkdir(parents=True, exist_ok=True)
    checkpoints.save_config(directory, {"options": {}, **config})
    training = TrainConfig(**config["training"])
    torch.manual_seed(training.seed)
    return training


@torch.inference_mode()
def decoded(model: FrameModel, latents: Tensor) -> Clips:
    """Frames (N, 1, H, W, 3) as the product shows them, of latents (N, C, h, w)."""
    parts = [from_model(model.decode(z)) for z in latents.split(judged.FRAMES_AT_ONCE)]
    return np.concatenate(parts)[:, None]


@dataclass(frozen=True)
class Scales:
    """What models are measured by: a reference of real clips, and others (N, T, H, W, 3)."""

    reference: Reference
    judge: Judge
    clips: Clips

    def distance(self, clips: Clips, name: str = "frame") -> float:
        """A figure of clips (N, T, H, W, 3), T = 1 where they are frames."""
        return float(getattr(measure(self.reference, clips, self.judge), name).value)

    def measured(self, model: FrameModel, *, seed: int) -> dict[str, float]:
        """The figures of a frame model; `prior_own` where it has batch norms."""
        clips, t = self.clips, self.clips.shape[1]
        latents = judged.encoded(model, clips, device="cpu")
        back = judged.decoded(model, latents, num_frames=t, device="cpu")
        first = latents.unflatten(0, clips.shape[:2])[:, 0]
        z, noise = judged.prior(first.shape[1:], count=2 * len(first), seed=seed).chunk(2)
        of_back: Any = measure(self.reference, back, self.judge)
        found = {"psnr": judged.psnr_of(back, clips)}
        found |= {"reconstruction": of_back.frame.value, "video": of_back.video.value}
        found["prior"] = self.distance(decoded(model, z))
        found["off"] = self.distance(decoded(model, first + OFF * latents.std(0) * noise))
        kept = {name: value.clone() for name, value in model.state_dict().items()}
        if any(isinstance(part, BatchNorm) for part in model.generator.modules()):
            recompute_statistics(model.generator, z)
            found["prior_own"] = self.distance(decoded(model, z))
            model.load_state_dict(kept)
        return found


@torch.inference_mode()
def sampled(top: TopModel, frame: FrameModel, *, count: int, num_frames: int, seed: int) -> Clips:
    """Clips that the two levels make."""
    generators = [video_generator(seed, video) for video in range(count)]
    latents = torch.cat(list(top.sample(Rollout(num_frames), generators)), dim=1)
    frames = decoded(frame, latents.flatten(0, 1))[:, 0]
    return frames.reshape(count, num_frames, *frames.shape[1:])


def rows_of(model: FrameModel, frames: Clips) -> dict[str, Clips]:
    """What a model does to frames (n, H, W, 3), and as many of the prior."""
    z = judged.prior(model.config.latent_shape, count=len(frames), seed=0)
    with torch.inference_mode():
        back = from_model(model.generator(model.encoder(to_model(frames))))
    return {"reconstructed": back, "prior": decoded(model, z)[:, 0]}


def sheet(rows: Sequence[tuple[str, Clips]], path: Path) -> None:
    """Rows of frames (n, H, W, 3) with their names."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(len(rows), 1, figsize=(10, 0.62 * len(rows)), squeeze=False)
    for panel, (name, frames) in zip(panels[:, 0], rows, strict=True):
        apart = np.pad(frames, ((0, 0), (0, 0), (0, 2), (0, 0)), constant_values=255)
        panel.imshow(np.concatenate(list(apart), axis=1), interpolation="nearest")
        panel.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
        panel.set_xticks([])
        panel.set_yticks([])
    figure.subplots_adjust(left=0.3, right=0.99, top=0.99, bottom=0.01, hspace=0.08)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def plot(results: Mapping[str, Sequence[Mapping[str, float]]], path: Path) -> None:
    """A panel a figure, a line an arm: each seed's value and their mean."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels = {
        "PSNR, dB (more is better)": ("psnr",),
        "frame distance (less is better)": ("reconstruction", "off", "prior", "prior_own"),
        "video distance": ("video", "top"),
    }
    size = (11, 1.2 + 0.36 * len(results))
    figure, axes = plt.subplots(1, len(panels), figsize=size, sharey=True)
    names = list(results)
    for axis, (title, shown) in zip(axes, panels.items(), strict=True):
        for figure_name, mark in zip(shown, "osx+", strict=False):
            values = [[run[figure_name] for run in results[n] if figure_name in run] for n in names]
            points = [(v, y) for y, several in enumerate(values) for v in several]
            if points:
                axis.scatter(*np.transpose(points), marker=mark, label=figure_name)
        axis.set_title(title, fontsize=9)
        axis.grid(alpha=0.3)
        if len(shown) > 1:
            axis.set_xscale("log")
            axis.set_xticks(TICKS, map(str, TICKS))
            axis.set_xticks([], minor=True)
            axis.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=4)
    axes[0].set_yticks(range(len(names)), names, fontsize=8)
    axes[0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def table(results: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """A row an arm, means over its seeds."""
    columns = ("updates", *FIGURES, "top_updates")
    lines = [f"| arm | {' | '.join(columns)} | prior / reconstruction |"]
    lines.append("|---" * (len(columns) + 2) + "|")
    for name, runs in results.items():
        cells = []
        for column in columns:
            known = [run[column] for run in runs if column in run]
            cells.append(f"{mean(known):.4g}" if known else "")
        ratio = mean(run["prior"] / run["reconstruction"] for run in runs)
        lines.append(f"| {name} | {' | '.join(cells)} | {ratio:.2f} |")
    return "\n".join(lines)


def place_of(arm: str, seed: int, options: argparse.Namespace) -> Path:
    """Where an arm's two trainings lie."""
    return options.runs / "lower_level" / f"{arm.replace(', ', '-').replace(' ', '_')}-{seed}"


def run_arm(
    arm: str, seed: int, train: Clips, scales: Scales, options: argparse.Namespace
) -> dict[str, float]:
    """Train an arm and its top model, and measure them; at once where that is done."""
    directory = place_of(arm, seed, options)
    kept, test = directory / "result.json", scales.clips
    names = ("minutes", "top_minutes", "batch_size", "width", "top_clips", "count")
    chosen = {name: getattr(options, name) for name in names}
    if kept.exists():
        known: dict[str, Any] = json.loads(kept.read_text())
        if chosen.items() <= known.items():
            return known
    budget = {"minutes": options.minutes, "batch_size": options.batch_size, "seed": seed}
    config = frame_config(arm, train, budget, base_width=options.width)
    model, updates = train_frames(directory / "frame", config, train)
    found: dict[str, Any] = {"seed": seed, **chosen, "updates": updates}
    found |= scales.measured(model, seed=seed)
    some = train[: options.top_clips]
    latents = judged.encoded(model, some, device="cpu").unflatten(0, some.shape[:2])
    budget = {"minutes": options.top_minutes, "batch_size": 64, "seed": seed}
    top, found["top_updates"] = train_top(directory / "top", latents, budget)
    made = sampled(top, model, count=len(test), num_frames=test.shape[1], seed=seed)
    found["top"] = scales.distance(made, "video")
    write_atomically(kept, lambda partial: partial.write_text(json.dumps(found) + "\n"))
    return found


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; the budgets are those of the long form unless it is to be short."""
    parser = experiment.parser(__doc__)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=[*ARMS, "none"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--minutes", type=float, help="core minutes of a frame model")
    parser.add_argument("--top-minutes", type=float, help="core minutes of a top model")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--width", type=int, help="of the networks, in place of 32")
    parser.add_argument("--top-clips", type=int, help="that a top model learns from")
    parser.add_argument("--count", type=int, help="clips to measure on, and as many to compare")
    parser.add_argument("--run", nargs="+", default=[], help="NAME=DIRECTORY of a frame model")
    options = parser.parse_args(argv)
    usual = (0.4, 0.2, 1000, 100) if options.short else (10.0, 3.0, 20_000, 1000)
    for name, value in zip(("minutes", "top_minutes", "top_clips", "count"), usual, strict=True):
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def main(options: argparse.Namespace) -> None:
    """Train, measure, write, print."""
    train, both = experiment.clips_of(options.clips)
    places = np.linspace(0, len(both) - 1, 2 * options.count).astype(int)
    known, test = both[places[::2]], both[places[1::2]]
    real = experiment.Judged(known, options.runs / "lower_level")
    scales = Scales(real.reference, real.judge, test)
    of_real: Any = measure(scales.reference, test, scales.judge)
    floor = {name: getattr(of_real, name).value for name in ("frame", "video")}
    shown = test[:: max(1, len(test) // SHOWN), 0][:SHOWN]
    results: dict[str, list[dict[str, float]]] = {}
    rows = [("real", shown)]

    def write(name: str, found: dict[str, float], directory: Path) -> None:
        if name not in results:
            model = load_frame_model(directory, device="cpu").model
            rows.extend((f"{name}: {what}", made) for what, made in rows_of(model, shown).items())
        results.setdefault(name, []).append(found)
        written = {"budget": budget_of(options), "real": floor, "arms": results}
        experiment.write_results(options.out / "lower_level.json", written)

    for given in options.run:
        name, _, directory = given.partition("=")
        model = load_frame_model(Path(directory), device="cpu").model
        write(name, scales.measured(model, seed=0), Path(directory))
    for seed in options.seeds:
        for arm in [arm for arm in options.arms if arm in ARMS]:
            found = run_arm(arm, seed, train, scales, options)
            write(arm, found, place_of(arm, seed, options) / "frame")
    plot(results, options.out / "lower_level.png")
    sheet(rows, options.out / "lower_level_frames.png")
    print(f"real frames {floor['frame']:.1f}, real clips {floor['video']:.1f}")
    print(table(results))


def budget_of(options: argparse.Namespace) -> dict[str, Any]:
    """What each arm was given."""
    names = ("minutes", "top_minutes", "batch_size", "width", "top_clips", "count")
    return {name: getattr(options, name) for name in names}


if __name__ == "__main__":
    asked = parse()
    experiment.run(main, asked)
