"""Trains the paper's baseline: one GAN over all frames of a clip, stacked as channels.

    python scripts/experiments/train_joint.py clips/pacman/paper/train --minutes 35

It exists to be compared with the two levels (docs/results.md). Only clips of at least --num-frames
frames take part. OUT is a run like those of ldf-video: the same command goes on with it, and
samples/ shows generated clips, a row each. Discriminator and gradients span the whole clip, so
memory grows with --num-frames: that is what the two levels do without.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
from joint_gan import JointConfig, JointGame, JointModel
from torch import Tensor

from ldf_video.checks import frame_rate, frame_size, integer
from ldf_video.errors import LdfError, UsageError
from ldf_video.intake.ingest import store_frames
from ldf_video.models.game import Noise, Part
from ldf_video.models.gan import GanConfig
from ldf_video.options.option import POSITIVE, Clips, Option, Out
from ldf_video.options.trainings import Training
from ldf_video.progress import Progress
from ldf_video.runs.command import choose_device
from ldf_video.runs.run import check_data, open_run
from ldf_video.runs.training import announce, training_config
from ldf_video.store.reader import StoreReader
from ldf_video.training.config import TrainConfig
from ldf_video.training.loop import Trainer
from ldf_video.training.ranks import Ranks, check_alone
from ldf_video.training.update import windows
from ldf_video.video.geometry import geometry_of, make_geometry
from ldf_video.video.pixels import from_model, to_model
from ldf_video.video.sheet import write_sheet

SHOWN = 9


@dataclass(frozen=True, kw_only=True)
class TrainJoint(Training):
    """The options of this script.

    Attributes:
        batch_size: Clips per update.
        size: Pixels.
        num_frames: Frames of a clip.
        fps: Frames per second to read.
        init: Not used.
        frames_store: Where the small frames lie.
    """

    clips: Clips
    out: Out = "checkpoints/joint"
    size: Annotated[Any, Option(check=frame_size)] = None
    num_frames: Annotated[int | None, Option(check=integer(1))] = None
    learning_rate: Annotated[float | None, Option(check=POSITIVE)] = None
    fps: Annotated[Any, Option(check=frame_rate)] = None
    frames_store: Annotated[Path | None, Option()] = None


class JointLevel:
    """The baseline as the training loop sees it: a game on whole clips."""

    score = "none"  # no loss of a GAN tells which of two generators is better

    def __init__(self, game: JointGame, clips: StoreReader, *, batch_size: int, seed: int) -> None:
        self.game = game
        self.clips, self.batch_size, self.seed = clips, batch_size, seed

    def batch(self, step: int, part: Part, device: torch.device) -> Tensor:
        """Random clips (B, T, 3, H, W) in [-1, 1]."""
        return self._read(self.seed, step, part, count=self.batch_size, device=device)

    def calibration(self, device: torch.device) -> Tensor:
        """The same random clips each time."""
        return self._read(0, 0, Part(), count=256, device=device)

    def evaluate(self, model: JointModel) -> Mapping[str, float]:
        """Nothing: there is no loss on held-out data."""
        return {}

    def describe(self, model: JointModel, values: Mapping[str, float]) -> str:
        """Nothing, likewise."""
        del model, values
        return ""

    def draw(self, model: JointModel, path: Path) -> npt.NDArray[np.uint8]:
        """Generated clips, a row each."""
        videos = generate_clips(model, SHOWN, seed=0)
        return write_sheet(path.with_suffix(".png"), list(videos), upscale=3)

    def _read(
        self, seed: int, step: int, part: Part, *, count: int, device: torch.device
    ) -> Tensor:
        length = self.game.model.config.num_frames
        clips, starts = windows(
            seed, step, lengths=self.clips.lengths, window=length, batch_size=count
        )
        frames, _ = self.clips.windows(part.rows(clips), part.rows(starts), length=length)
        pixels = to_model(frames.reshape(-1, *frames.shape[2:]), device=device)
        return pixels.unflatten(0, (-1, length))


@torch.inference_mode()
def generate_clips(model: JointModel, count: int, *, seed: int) -> npt.NDArray[np.uint8]:
    """Clips (count, T, H, W, 3) of a trained baseline."""
    device = next(model.parameters()).device
    noise = Noise(seed).normal(count, model.config.noise_size, device=device)
    clips = model(noise)
    frames = from_model(clips.flatten(0, 1))
    return frames.reshape(*clips.shape[:2], *frames.shape[1:])


def main(arguments: argparse.Namespace) -> None:
    """Train, or go on with training."""
    check_alone("train_joint")
    device = choose_device(arguments.device)
    asked = TrainJoint(**vars(arguments))

    def build(options: TrainJoint) -> dict[str, Any]:
        geometry = make_geometry(size=options.size or "32x32", fps=options.fps, crop=None)
        frames = options.num_frames or JointConfig.num_frames
        try:
            model = JointConfig(geometry.height, geometry.width, frames)
            JointModel(model)
        except (ValueError, RuntimeError) as error:
            raise UsageError(f"--size, --num-frames: {error}") from None
        defaults = {"optimizer": "adam", "learning_rate": 2e-4, "beta2": 0.999}
        training = training_config(options, device=device, ranks=Ranks(), defaults=defaults)
        return {
            "model": asdict(model),
            "game": asdict(GanConfig()),
            "training": asdict(training),
            "frames": geometry.settings(),
        }

    with (
        open_run(asked, "joint", make=build) as run,
        Progress("train-joint", unit="steps") as progress,
    ):
        if run.done:
            progress.say(f"{arguments.out} is finished; --no-resume starts anew")
            return
        store = arguments.frames_store or run.directory / "frames"
        frames = store_frames(arguments.clips, store, geometry_of(run.config), progress, Ranks())
        check_data(run, frames, source=str(arguments.clips))
        config = JointConfig(**run.config["model"])
        long_enough = np.flatnonzero(frames.lengths >= config.num_frames)
        if not len(long_enough):
            raise LdfError(f"no clip of {arguments.clips} has {config.num_frames} frames")
        clips = frames.select(long_enough)
        announce(progress, run, data=f"{clips.num_clips:,} clips", held_out="none held out")
        training = TrainConfig(**run.config["training"])
        torch.manual_seed(training.seed)
        game = JointGame(JointModel(config), GanConfig(**run.config["game"]))
        level = JointLevel(game, clips, batch_size=training.batch_size, seed=training.seed)
        trainer = Trainer(
            level, run.directory, config=training, device=device, tracker=arguments.tracker
        )
        trainer.run(progress)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The options; those of train-frame mean the same."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", type=Path)
    parser.add_argument("--out", type=Path, default=Path("checkpoints/joint"))
    parser.add_argument("--size")
    parser.add_argument("--num-frames", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--mixed-precision", choices=("auto", "no", "bf16", "fp16"))
    parser.add_argument("--fps")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--resume", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--tracker", choices=("tensorboard",))
    parser.add_argument("--frames-store", type=Path)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    return parser.parse_args(argv)


if __name__ == "__main__":
    try:
        main(parse())
    except LdfError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
