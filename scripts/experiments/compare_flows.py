r"""Ways of training the flow at equal updates, by the errors that its sampler makes of them.

    python scripts/data/record_pacman.py --episodes 24 --test-episodes 12 --windows-per-episode 1 \
        --seed 18 --paper-clips 1500 --clip-frames 16
    ldf-video encode clips/pacman/paper/train --frame-model pacman-32 --out latents
    ldf-video encode clips/pacman/paper/test --frame-model pacman-32 --out test-latents
    python scripts/experiments/compare_flows.py latents --test test-latents

Trains a small flow once a seed and way: "now", as it is; "shifted", the level that the frames of a
window share denser at the noisy end, as the sampler's steps are (`level_shift`); "role", Muon for
hidden layers by what they are and not by their shape: embeddings, first and last layers are Adam's.
Prints a table, means over the seeds with their standard deviation, on windows that are not trained
on: `velocity`, the training's loss; the velocity's squared error in a video's first block and in a
second one after a clean past, at the levels of the sampler above and below 0.8; by how much of a
spread the guess of the clean first block follows the noise where there is nothing else (0 is
right); how far the first block after 16 passes is from that after 100; and the Frechet distance of
generated first frames. Run again, it goes on where it was.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from itertools import chain
from pathlib import Path

import torch
from compare_penalties import compare
from torch import Tensor

from ldf_video.levels.frechet import frechet_distance
from ldf_video.levels.latents import latent_shape, latent_statistics
from ldf_video.levels.top_level import TopLevel
from ldf_video.models.flow import FlowTop
from ldf_video.models.flow_config import FlowConfig
from ldf_video.models.flow_loss import FlowGame, logit_normal, velocity_loss
from ldf_video.models.game import Noise
from ldf_video.progress import Progress
from ldf_video.store.reader import StoreReader
from ldf_video.training.config import Cadence, TrainConfig
from ldf_video.training.loop import Trainer
from ldf_video.training.update import windows

WAYS = ("now", "shifted", "role")
HIGH = 0.8


def shifted_level(b: int, noise: Noise) -> Tensor:
    """A level in training as the sampler's lie."""
    u, shift = logit_normal(b, noise), FlowConfig().level_shift
    return shift * u / (1 + (shift - 1) * u)


def flow_of(way: str, options: argparse.Namespace, latents: StoreReader) -> FlowTop:
    """A fresh flow."""
    torch.manual_seed(0)
    config = FlowConfig(
        latent_shape=latent_shape(latents),
        width=options.width,
        depth=3,
        local_width=options.width // 3,
    )
    top = FlowTop(config)
    top.set_statistics(*latent_statistics(latents, seed=0))
    return top


def by_role(trainer: Trainer, top: FlowTop) -> None:
    """Give embeddings, first and last layers to Adam."""
    layers = (top.embed, top.head, top.level[0], top.local.stem, top.local.head)
    outer = {id(p) for p in chain(*(layer.parameters() for layer in layers))}
    outer |= {id(top.position), id(top.place)}
    rest, hidden = trainer.optimizers[0].param_groups
    rest["params"] += [p for p in hidden["params"] if id(p) in outer]
    hidden["params"] = [p for p in hidden["params"] if id(p) not in outer]


def train(directory: Path, way: str, seed: int, options: argparse.Namespace) -> FlowTop:
    """Train, or go on, in a directory; the averaged flow."""
    latents = StoreReader(options.latents)
    top = flow_of(way, options, latents)
    config = TrainConfig(
        steps=options.steps,
        batch_size=options.batch_size,
        learning_rate=1e-3,
        beta1=0.9,
        average=0.99,
        optimizer="muon",
        seed=seed,
    )
    game = FlowGame(top, shifted_level if way == "shifted" else logit_normal)
    level = TopLevel(game, latents, batch_size=options.batch_size, seed=seed)
    trainer = Trainer(level, directory, config=config, cadence=Cadence(save_seconds=30))
    if way == "role":
        by_role(trainer, top)
    with Progress(directory.name, unit="steps") as progress:
        trainer.run(progress)
    averaged: FlowTop = trainer.average.module
    return averaged


@torch.inference_mode()
def measure(top: FlowTop, test: StoreReader, *, count: int) -> dict[str, float]:
    """What the sampler meets, on `count` whole windows."""
    c = top.config
    clips, starts = windows(0, 0, lengths=test.lengths, window=c.window, batch_size=count)
    values, real = test.windows(clips, starts, length=c.window)
    latents = torch.from_numpy(values).float()[torch.from_numpy(real).all(1)]
    clean, mask = top.standardise(latents), torch.ones(len(latents), c.window, dtype=torch.bool)
    found = {"velocity": velocity_loss(top, latents, mask, noise=Noise(0))[1]["velocity"].item()}
    numbers, errors = Noise(1), dict[str, list[float]]()
    for u in top.sampling_levels(c.sampling_steps)[:-1]:
        for name, past in (("first", 0), ("second", c.block)):
            x = clean[:, : past + c.block]
            e = top.mixed(numbers.normal(len(x), 1, x.shape[2]), numbers.normal(*x.shape))
            levels = torch.full(x.shape[:2], u)
            levels[:, :past] = c.context_level
            noisy = torch.cat([x[:, :past], ((1 - u) * x + u * e)[:, past:]], dim=1)
            velocity = top.window_velocity(noisy, levels, mask=mask[:, : x.shape[1]])
            error = (velocity - (x - e))[:, past:].square().mean().item()
            errors.setdefault(f"{name}_{'high' if u > HIGH else 'low'}", []).append(error)
    found |= {name: sum(each) / len(each) for name, each in errors.items()}
    guesses = []
    for _ in range(8):
        e = top.mixed(
            numbers.normal(1, 1, clean.shape[2]), numbers.normal(1, c.block, clean.shape[2])
        )
        guesses.append(e + top.window_velocity(e, torch.ones(1, c.block), mask=mask[:1, : c.block]))
    found["noise_at_1"] = torch.cat(guesses).std(0).mean().item()
    few = _first_blocks(top, count)
    top.config = replace(c, first_steps=100)
    found["unlike_100_passes"] = (few - _first_blocks(top, count)).square().mean().sqrt().item()
    top.config = c
    real_frames, made = (part[:, 0].double().numpy() for part in (clean, few))
    return found | {"frechet": frechet_distance(real_frames, made)}


def _first_blocks(top: FlowTop, count: int) -> Tensor:
    generators = [torch.Generator().manual_seed(number) for number in range(count)]
    return top._next_block(top._context(None, count), generators)


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("latents", type=Path, help="to learn from")
    parser.add_argument("--test", type=Path, required=True, help="latents to measure on")
    parser.add_argument("--out", type=Path, default=Path("flows"), help="where runs are kept")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--width", type=int, default=96, help="of a token")
    parser.add_argument("--windows", type=int, default=96, help="to measure on")
    options = parser.parse_args()
    test = StoreReader(options.test)

    def run(directory: Path, way: str, seed: int) -> dict[str, float]:
        return measure(train(directory, way, seed, options), test, count=options.windows)

    print(compare(options.ways, options.seeds, run, out=options.out))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
