"""Figure 2: a shape that moves a little in each frame, learned as pixels and as latents.

    OMP_NUM_THREADS=1 python scripts/paper/moving_shape.py docs/paper [--short]

Clips are five frames of 16 x 16 pixels, white on black: one of four shapes of 5 x 5 pixels, at a
start from which it takes one of eight steps of a pixel a frame. There are 2,560 such clips. A half
of them, chosen by the seed, is learned from, three times by the same network, and only what stands
for a frame differs:

- pixels: the 256 pixels themselves.
- latents: 16 numbers of the paper's networks, trained on the single frames before as an autoencoder
  (`game` 0): with ALI's game they took too long to show a shape of a few pixels where it is.
- factors: 6 numbers, which shape it is and where: what the figure assumes to be known.

The network is a perceptron over all five frames. `flow` trains it as a rectified flow that guesses
the clip, `mlp` plays the GAN of `--kind mlp`.

A generated clip is right if each frame is nearest to a possible one, off by less than a quarter of
the shape's pixels, the shape stays what it is, and all steps are the same one. What is *found* at
an update is the number of different right clips among 1,000 generated ones, as a share of the
number of different ones among 1,000 drawn from all: a model that makes one clip has found nothing.
Reported are the updates, and the seconds of one core with those of the frame model, until a tenth,
a quarter and a half are found.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import experiment
import numpy as np
import torch
from arrays import FramesOf, WindowsOf
from experiment import Clips
from numpy.typing import NDArray
from torch import Tensor, nn

from ldf_video.levels.frame_level import FrameLevel
from ldf_video.levels.latents import video_generator
from ldf_video.levels.top_settings import DEFAULTS as TOP_DEFAULTS
from ldf_video.models.ali import AliConfig, AliGame, AliGameConfig, AliModel
from ldf_video.models.condition import Windows
from ldf_video.models.game import Game, Logs, Player, Tick
from ldf_video.models.gan import GanConfig
from ldf_video.models.layers import fourier_features
from ldf_video.models.mlp import MlpConfig, MlpGame, MlpTop
from ldf_video.models.rollout import Rollout
from ldf_video.models.top import TopModel
from ldf_video.output import write_atomically
from ldf_video.training.config import TrainConfig
from ldf_video.training.loop import Trainer
from ldf_video.video.pixels import from_model, to_model
from ldf_video.video.sheet import write_sheet

SIDE, SHAPE, FRAMES = 16, 5, 5
PLACES = SIDE - SHAPE + 1
DRAWN = {
    "square": ("11111", "10001", "10001", "10001", "11111"),
    "cross": ("00100", "00100", "11111", "00100", "00100"),
    "diamond": ("00100", "01110", "11111", "01110", "00100"),
    "letter": ("11111", "00100", "00100", "00100", "00100"),
}
SHAPES = np.array([[list(row) for row in rows] for rows in DRAWN.values()]).astype(np.uint8)
STEPS = [step for step in itertools.product((-1, 0, 1), repeat=2) if any(step)]
TOLERANCE = 0.25
"""Squared error of a right frame, pixels in [0, 1], as a share of the shape's pixels."""
MADE, SHOWN = 1000, 5
TARGETS = (0.1, 0.25, 0.5)
SPACES, KINDS = ("pixels", "latents", "factors"), ("flow", "mlp")
LATENTS, WIDTH, FRAME_RATE = 16, 8, 1e-3
"""Of the frame model: numbers a frame, base width, learning rate."""
FRAME_GAME = AliGameConfig(game=0, shortcut=0, least_std=0.1)
OCTAVES, PASSES, FLOW_RATE = 4, 40, 2e-3
"""Of the flow: frequencies that its level is told in, passes of a sample, learning rate."""
LEAST_LEVEL = 0.1
"""Of noise, under which an error counts no more than there."""

Clip = tuple[int, int, int, int, int]
"""Number of the shape, row and column at first, rows and columns a step."""


@cache
def every_clip() -> NDArray[np.int64]:
    """All possible clips (2560, 5); see `Clip`."""
    found: list[Clip] = []
    for shape, (down, right) in itertools.product(range(len(SHAPES)), STEPS):
        rows, columns = (_starts(step) for step in (down, right))
        found += [(shape, row, column, down, right) for row in rows for column in columns]
    return np.array(found)


def _starts(step: int) -> range:
    reach = step * (FRAMES - 1)
    return range(max(0, -reach), PLACES - max(0, reach))


def factors_of(clips: NDArray[np.int64]) -> NDArray[np.int64]:
    """Shape, row and column of each frame (N, T, 3)."""
    times = np.arange(FRAMES)[:, None]
    places = clips[:, None, 1:3] + times * clips[:, None, 3:]
    shapes = np.broadcast_to(clips[:, :1, None], (len(clips), FRAMES, 1))
    return np.concatenate([shapes, places], axis=2)


def drawn(factors: NDArray[np.int64]) -> Clips:
    """Frames (..., H, W, 3) of shapes and places (..., 3)."""
    flat = factors.reshape(-1, 3)
    frames = np.zeros((len(flat), SIDE, SIDE), np.uint8)
    for frame, (shape, row, column) in zip(frames, flat, strict=True):
        frame[row : row + SHAPE, column : column + SHAPE] = 255 * SHAPES[shape]
    return np.repeat(frames.reshape(*factors.shape[:-1], SIDE, SIDE, 1), 3, axis=-1)


@cache
def every_frame() -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Shapes and places (576, 3) of all possible frames, and their pixels (576, 256) in [0, 1]."""
    factors = np.array(
        list(itertools.product(range(len(SHAPES)), range(PLACES), range(PLACES))), np.int64
    )
    return factors, drawn(factors)[..., 0].reshape(len(factors), -1) / 255.0


def seen(clips: Clips) -> list[Clip | None]:
    """What clips (N, T, H, W, 3) show; None for those that are not right."""
    factors, known = every_frame()
    pixels = clips.mean(-1).reshape(-1, SIDE * SIDE) / 255.0
    squares = np.square(known).sum(1)
    errors = np.square(pixels).sum(1)[:, None] - 2 * pixels @ known.T + squares
    nearest = errors.argmin(1)
    near = errors[np.arange(len(errors)), nearest] < TOLERANCE * squares[nearest]
    found = factors[nearest].reshape(*clips.shape[:2], 3)
    steps = np.diff(found, axis=1)
    first = steps[:, 0]
    right = near.reshape(clips.shape[:2]).all(1) & (steps == first[:, None]).all((1, 2))
    right &= (first[:, 0] == 0) & (np.abs(first[:, 1:]).max(1) == 1)
    return [
        (*map(int, f[0]), *map(int, step[1:])) if ok else None  # type: ignore[misc]
        for f, step, ok in zip(found, first, right, strict=True)
    ]


def share_found(clips: Clips) -> float:
    """Different right clips among these, as a share of those among as many of all, expected."""
    count, total = len(clips), len(every_clip())
    expected = total * (1 - (1 - 1 / total) ** count)
    return len({clip for clip in seen(clips) if clip is not None}) / expected


@dataclass(frozen=True)
class Space:
    """What stands for a frame: tokens (N, T, C, 1, 1) of all known clips, and the way back."""

    tokens: Tensor
    frames: Callable[[Tensor], Clips]
    """Latents (n, C, 1, 1) -> frames (n, H, W, 3)."""
    core_seconds: float = 0.0
    """Of learning it."""


def pixels(clips: NDArray[np.int64]) -> Space:
    """A frame is its pixels, in [-1, 1]."""
    known = torch.from_numpy(drawn(factors_of(clips))[..., 0]).float() / 127.5 - 1

    def frames(tokens: Tensor) -> Clips:
        grey = tokens.reshape(-1, 1, SIDE, SIDE).expand(-1, 3, -1, -1)
        return from_model(grey)

    return Space(known.flatten(2)[..., None, None], frames)


def factors(clips: NDArray[np.int64]) -> Space:
    """A frame is one number a shape, of which the largest counts, and its row and column."""
    found = torch.from_numpy(factors_of(clips))
    shapes = torch.nn.functional.one_hot(found[..., 0], len(SHAPES))
    known = torch.cat([shapes, found[..., 1:]], dim=-1).float()

    def frames(tokens: Tensor) -> Clips:
        shape = tokens[:, : len(SHAPES), 0, 0].argmax(1, keepdim=True)
        places = tokens[:, len(SHAPES) :, 0, 0].round().clamp(0, PLACES - 1)
        return drawn(torch.cat([shape, places.long()], dim=1).numpy())

    return Space(known[..., None, None], frames)


def latents(clips: NDArray[np.int64], directory: Path, *, steps: int, seed: int) -> Space:
    """A frame is what the paper's E, trained on the single frames, makes of it."""
    known = drawn(factors_of(clips))
    config = TrainConfig(steps=steps, batch_size=64, learning_rate=FRAME_RATE, seed=seed)
    torch.manual_seed(seed)
    shape = AliConfig(SIDE, SIDE, latent_channels=LATENTS, base_width=WIDTH)
    game = AliGame(AliModel(shape), FRAME_GAME)
    level = FrameLevel(game, FramesOf(known), batch_size=config.batch_size, seed=seed)
    mark = experiment.train(level, directory, config, mark_seconds=1e9)[-1]
    model = mark.load(AliModel(shape))
    with torch.inference_mode():
        frames = to_model(known.reshape(-1, *known.shape[2:]))
        tokens = torch.cat([model.encoder(part) for part in frames.split(256)])

    @torch.inference_mode()
    def decoded(tokens: Tensor) -> Clips:
        return from_model(model.decode(tokens))

    return Space(tokens.unflatten(0, known.shape[:2]), decoded, mark.core_seconds)


class Denoiser(TopModel):
    """Tokens (B, T, n) with a share of noise (B,) -> its guess of them without."""

    config: MlpConfig

    def __init__(self, config: MlpConfig) -> None:
        super().__init__(config)
        size, inputs = config.sequence_size, config.sequence_size + 2 * OCTAVES
        layers: list[nn.Module] = []
        for number in range(config.depth):
            layers += [nn.Linear(config.width if number else inputs, config.width), nn.SiLU()]
        self.network = nn.Sequential(*layers, nn.Linear(config.width, size))

    def forward(self, tokens: Tensor, level: Tensor) -> Tensor:
        told = torch.cat([tokens.flatten(1), fourier_features(level, OCTAVES)], dim=1)
        return self.network(told).view_as(tokens)

    @property
    def fixed_frames(self) -> int:
        return self.config.window

    @torch.inference_mode()
    def sample(self, rollout: Rollout, generators: Sequence[torch.Generator]) -> Iterator[Tensor]:
        """Whole clips by Euler's steps from noise, level 1, to the data, level 0."""
        size = (rollout.num_frames, self.config.sequence_size // self.config.window)
        x = torch.stack([torch.randn(size, generator=g) for g in generators])
        for left in range(PASSES, 0, -1):
            level = torch.full((len(x),), left / PASSES)
            x = x + (self(x, level) - x) / left
        yield self.restore(x)


class DenoiserGame(Game):
    """A rectified flow (Liu et al. 2022, arXiv:2209.03003): x_u = (1 - u) x + u noise."""

    model: Denoiser

    def __init__(self, model: Denoiser) -> None:
        super().__init__()
        self.model = model

    @property
    def players(self) -> Sequence[Player]:
        """The network alone."""
        return (Player("flow", [self.model], self.loss),)

    def loss(self, batch: Windows, tick: Tick) -> tuple[Tensor, Logs]:
        """Mean squared error of the velocity, which is that of the guess over the level."""
        tokens = self.model.standardise(batch.latents)
        u = torch.sigmoid(tick.noise.normal(len(tokens), 1, 1))
        noise = tick.noise.normal(*tokens.shape)
        guess = self.model((1 - u) * tokens + u * noise, u.flatten())
        loss = ((guess - tokens) / u.clamp_min(LEAST_LEVEL)).square().mean()
        return loss, {"velocity": loss.detach()}


def game_of(kind: str, space: Space) -> Game:
    """A fresh network on a space, and how it learns."""
    shape: Any = tuple(space.tokens.shape[2:])
    top: Any = (Denoiser if kind == "flow" else MlpTop)(MlpConfig(shape, FRAMES))
    top.set_statistics(space.tokens.mean((0, 1)), space.tokens.std((0, 1)))
    return DenoiserGame(top) if kind == "flow" else MlpGame(top, GanConfig())


def learn(
    space: Space, kind: str, directory: Path, *, steps: int, every: int, seed: int
) -> tuple[list[dict[str, float]], Clips]:
    """Train a network on a space, measured on the way; and a few clips of it at the end."""
    rates = {"learning_rate": FLOW_RATE, "beta1": 0.9} if kind == "flow" else TOP_DEFAULTS["mlp"]
    steady = {"cooldown": 1e-9, "steps": steps}  # so that a longer training is the same at first
    config = TrainConfig(**rates, **steady, batch_size=128, seed=seed)
    torch.manual_seed(seed)
    level = WindowsOf(game_of(kind, space), space.tokens, batch_size=config.batch_size, seed=seed)
    trainer = Trainer(level, directory, config=config)
    curve, seconds, made = [], 0.0, np.empty(0)
    for step in range(steps):
        began = time.process_time()
        trainer.update(step / steps)
        seconds += time.process_time() - began
        if (step + 1) % every == 0:
            made = sampled(trainer.average.module, space)
            found = {"step": step + 1, "core_seconds": space.core_seconds + seconds}
            right = sum(clip is not None for clip in seen(made)) / len(made)
            curve.append({**found, "right": right, "found": share_found(made)})
    return curve, made[:SHOWN]


def sampled(top: Any, space: Space) -> Clips:
    """Clips of a top model of a space."""
    generators = [video_generator(0, video) for video in range(MADE)]
    tokens = torch.cat([*top.sample(Rollout(FRAMES), generators)], dim=1)
    frames = space.frames(tokens.flatten(0, 1))
    return frames.reshape(MADE, FRAMES, *frames.shape[1:])


def reached(curve: Sequence[Mapping[str, float]], target: float, what: str) -> float | None:
    """Updates or seconds at which so much is found for the first time; None if it never is."""
    return next((point[what] for point in curve if point["found"] >= target), None)


def run_arm(kind: str, space: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One training, measured; at once where that was done."""
    place = options.runs / "moving_shape" / f"{kind}-{space}-{seed}"
    of_frames = f"-{options.frame_steps}" * (space == "latents")
    kept = place / f"result-{options.steps}{of_frames}.json"
    if kept.is_file():
        return dict(json.loads(kept.read_text()))
    every = every_clip()
    half = np.random.default_rng(seed).permutation(len(every))[: len(every) // 2]
    clips = every[np.sort(half)]
    if space == "latents":
        frame = options.runs / "moving_shape" / f"frame-{seed}{of_frames}"
        made = latents(clips, frame, steps=options.frame_steps, seed=seed)
    else:
        made = {"pixels": pixels, "factors": factors}[space](clips)
    curve, shown = learn(made, kind, place, steps=options.steps, every=options.every, seed=seed)
    back = made.frames(made.tokens[:MADE].flatten(0, 1)).reshape(-1, FRAMES, SIDE, SIDE, 3)
    right = sum(clip is not None for clip in seen(back)) / len(back)
    found = {"right_of_real": right, "space_seconds": made.core_seconds, "curve": curve}
    place.mkdir(parents=True, exist_ok=True)
    np.save(place / "clips.npy", shown)
    write_atomically(kept, lambda partial: partial.write_text(json.dumps(found) + "\n"))
    return found


def summary(arms: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Of each arm what is found at the end, and updates and seconds to each target, by seed."""
    rows: dict[str, Any] = {}
    for name, runs in arms.items():
        curves = [run["curve"] for run in runs]
        row: dict[str, Any] = {"right_of_real": [run["right_of_real"] for run in runs]}
        row |= {what: [curve[-1][what] for curve in curves] for what in ("right", "found")}
        for target in TARGETS:
            for what in ("step", "core_seconds"):
                row[f"{what}_to_{target}"] = [reached(curve, target, what) for curve in curves]
        rows[name] = row
    return rows


def table(rows: Mapping[str, Mapping[str, Sequence[float | None]]]) -> str:
    """A row an arm: each seed's values, "-" where a target was not reached."""
    columns = list(next(iter(rows.values())))
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, row in rows.items():
        cells = [", ".join("-" if v is None else f"{v:.4g}" for v in row[c]) for c in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(options: argparse.Namespace) -> None:
    """Train, measure, write, print."""
    names = [(kind, space) for kind in options.kinds for space in SPACES]
    arms: dict[str, list[dict[str, Any]]] = {f"{kind}, {space}": [] for kind, space in names}
    for seed in range(options.seeds):
        for kind, space in names:
            arms[f"{kind}, {space}"].append(run_arm(kind, space, seed, options))
            print(f"seed {seed}, {kind}, {space}: {arms[f'{kind}, {space}'][-1]['curve'][-1]}")
    rows = summary(arms)
    experiment.write_results(options.out / "moving_shape.json", {"summary": rows, "arms": arms})
    for x, what in (("updates", "step"), ("core seconds", "core_seconds")):
        curves = {
            name: [[(p[what], p["found"]) for p in run["curve"]] for run in runs]
            for name, runs in arms.items()
        }
        path = options.out / f"moving_shape_{what}.png"
        experiment.plot_curves(path, curves, x=x, y="found", log_y=False)
    places = [options.runs / "moving_shape" / f"{kind}-{space}-0" for kind, space in names]
    shown = [drawn(factors_of(every_clip()[:: len(every_clip()) // SHOWN]))]
    shown += [np.load(place / "clips.npy", allow_pickle=False) for place in places]
    strips = [np.concatenate(clips[:SHOWN]) for clips in shown]
    write_sheet(options.out / "moving_shape_clips.png", strips, upscale=2)
    print(table(rows))


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = experiment.parser(__doc__, clips=False)
    parser.add_argument("--kinds", nargs="+", default=KINDS[:1], choices=KINDS)
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--steps", type=int, help="updates of a top model")
    parser.add_argument("--frame-steps", type=int, help="updates of the frame model")
    parser.add_argument("--every", type=int, help="updates from one measurement to the next")
    options = parser.parse_args(argv)
    usual = (2, 2000, 2500, 250) if options.short else (5, 10_000, 10_000, 500)
    for name, value in zip(("seeds", "steps", "frame_steps", "every"), usual, strict=True):
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


if __name__ == "__main__":
    given = parse()
    experiment.run(main, given)
