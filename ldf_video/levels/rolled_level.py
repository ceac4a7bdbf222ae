"""What a top model rolled forward: a store of it, and the game in which G learns to decode that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ldf_video.errors import UsageError
from ldf_video.levels.frame_level import SHOWN, FrameLevel, Frames
from ldf_video.levels.latents import video_generator
from ldf_video.models import build
from ldf_video.models.frame import FrameModel
from ldf_video.models.game import Part
from ldf_video.models.rolled import RolledBatch, RolledConfig, RolledGame, restless
from ldf_video.models.rollout import Rollout
from ldf_video.models.top import TopModel
from ldf_video.options.trainings import TrainFrame
from ldf_video.progress import Progress
from ldf_video.runs.run import Settings
from ldf_video.runs.zoo import Loaded, reference_to
from ldf_video.store.format import StoreSpec
from ldf_video.store.reader import StoreReader
from ldf_video.store.writer import StoreWriter
from ldf_video.training import checkpoints
from ldf_video.video.pixels import from_model, psnr_db, to_model
from ldf_video.video.sheet import write_sheet

VIDEOS, FRAMES = 512, 64
"""What is rolled: enough to begin anew hundreds of times, and deep enough to be far from that."""
AT_ONCE = 16
"""Videos that are rolled side by side."""
FIRST_FRAMES = 16
"""From among them half of the frames of an update are drawn: where most videos are looked at."""
HELD_OUT = 16
"""Every so many videos one is never learned from."""
HOLD = 2
"""Levels within which a pixel is shown as it was in the frame before: rounding alone makes that."""
MEASURED = 64
"""Held-out pairs of rolled latents that a value is the mean of."""

Integers = npt.NDArray[np.int64]


# -- the config ----------------------------------------------------------------------------------


def rolled_settings(
    options: TrainFrame,
    origin: Loaded[FrameModel] | None,
    top: Loaded[TopModel],
    *,
    frames: Settings,
) -> Settings:
    """The parts of a fresh run's config by which G learns to decode what `top` makes.

    `frames` is how the run reads frames.

    Raises:
        UsageError: options do not go together, or not with these models.
    """
    named = f"--top-model {options.top_model}"
    made_by = top.config["frame_model"]["fingerprint"]
    if origin is None:
        raise UsageError(f"{named} without --init: name the frame model whose latents it makes")
    if build.preset_of(origin.config["model"]) != "default":
        raise UsageError(
            f"{named}: --init {options.init} has --preset paper, whose G learned with the prior's "
            "latents; expected one of --preset default"
        )
    if made_by != origin.latents:
        raise UsageError(
            f"{named}: it learned latents of the frame model {made_by[:12]}, --init "
            f"{options.init} makes those of {origin.latents[:12]}: name the one that it learned"
        )
    shape = origin.model.config
    if (frames["width"], frames["height"]) != (shape.width, shape.height):
        raise UsageError(
            f"{named} with --size {options.size}: the frames of --init {options.init} have "
            f"{shape.width}x{shape.height}, and its E stays as it is: drop --size"
        )
    if options.max_memory is not None:
        raise UsageError(
            f"{named} with --max-memory {options.max_memory}: it is not measured for this training;"
            " give --accumulate and --gradient-checkpointing instead"
        )
    game = RolledConfig()
    if options.latent_noise is not None:
        game = replace(game, latent_noise=options.latent_noise)
    weights = origin.model.state_dict()
    return {
        "model": asdict(origin.model.config) | {"refines": False, "hold": HOLD},
        "game": asdict(game),
        "encoder": checkpoints.encoder_of(origin.config["model"], weights, like=origin.latents),
        "top_model": {
            "fingerprint": top.fingerprint,
            "fps": str(top.fps()),
            **reference_to(top.directory, beside=Path(options.out)),
        },
    }


# -- the store -----------------------------------------------------------------------------------


def rolled_spec(config: Settings, latent_shape: tuple[int, ...], num_frames: int) -> StoreSpec:
    """What the store of a run's rolled videos holds."""
    settings = {
        "weights": config["encoder"]["fingerprint"],
        "top_model": config["top_model"]["fingerprint"],
        "seed": config["training"]["seed"],
        "num_frames": num_frames,
        **config["frames"],
    }
    return StoreSpec("latents", latent_shape, "float16", settings)


@torch.inference_mode()
def roll(
    top: TopModel, path: Path, config: Settings, progress: Progress, *, count: int = VIDEOS
) -> None:
    """Bring the store at `path` to `count` videos, each a function of the run's seed alone.

    Strides that the top model knows take turns. A killed call leaves what is finished, and the next
    one goes on.
    """
    num_frames = top.fixed_frames or FRAMES
    spec = rolled_spec(config, top.config.latent_shape, num_frames)
    fps, seed = Fraction(config["top_model"]["fps"]), config["training"]["seed"]
    with StoreWriter(path, spec) as writer:
        for numbers in _unfinished(writer, count):
            generators = [video_generator(seed, number) for number in numbers]
            stride = top.strides[numbers[0] // AT_ONCE % len(top.strides)]
            blocks = list(top.sample(Rollout(num_frames, stride=stride), generators))
            videos = torch.cat(blocks, dim=1).to(torch.float16).cpu().numpy()
            for number, rows in zip(numbers, videos, strict=True):
                _write(writer, _name(number), rows, fps)
            progress.update(numbers[-1] + 1, share=(numbers[-1] + 1) / count)


def _unfinished(writer: StoreWriter, count: int) -> Iterator[list[int]]:
    """Groups of videos of which some are to be rolled."""
    for first in range(0, count, AT_ONCE):
        numbers = list(range(first, min(first + AT_ONCE, count)))
        if not all(writer.is_current(_name(n), size=0, mtime_ns=0) for n in numbers):
            yield numbers


def _write(writer: StoreWriter, name: str, rows: npt.NDArray[np.float16], fps: Fraction) -> None:
    """Write what a killed call has not."""
    if not writer.has_clip(name):
        writer.append(name, rows[writer.committed_frames(name) :], fps=fps)
        writer.finish_clip(name, fps=fps)
    writer.set_source(name, size=0, mtime_ns=0, clip_ids=[name])


def _name(number: int) -> str:
    return f"{number:06}"


# -- the level -----------------------------------------------------------------------------------


class RolledLevel(FrameLevel):
    """The third stage as the training loop sees it: real frames beside rolled latents."""

    score = "teacher"
    game: RolledGame

    def __init__(
        self,
        game: RolledGame,
        frames: Frames,
        rolled: StoreReader,
        *,
        batch_size: int,
        seed: int,
        held_out: Frames | None = None,
    ) -> None:
        """Args: as of `FrameLevel`, and what a top model rolled."""
        super().__init__(game, frames, batch_size=batch_size, seed=seed, held_out=held_out)
        self._batch_size, self._seed = batch_size, seed
        numbers = np.arange(rolled.num_clips)
        is_held_out = numbers % HELD_OUT == HELD_OUT - 1
        self._rolled = rolled.select(numbers[~is_held_out])
        self._rolled_held_out = rolled.select(numbers[is_held_out])

    def batch(self, step: int, part: Part, device: torch.device) -> RolledBatch:
        """Random frames (B, 3, H, W) in [-1, 1], and latents of neighbours (B, 2, C, h, w)."""
        videos, firsts = pairs(
            self._seed, step, lengths=self._rolled.lengths, batch_size=self._batch_size
        )
        z = self._read(self._rolled, part.rows(videos), part.rows(firsts), device)
        return super().batch(step, part, device), z

    def _read(
        self, store: StoreReader, videos: Integers, firsts: Integers, device: torch.device
    ) -> Tensor:
        values, _ = store.windows(videos, firsts, length=2)
        return torch.from_numpy(values).to(device).float()

    @torch.inference_mode()
    def evaluate(self, model: FrameModel) -> Mapping[str, float]:
        """What `FrameLevel` says of held-out frames; and of videos that are not learned from.

        Of these, how far G(z) is from the teacher's frames, as the game has it and as a PSNR in dB,
        and how much moves where those stand still, in levels.
        """
        values = dict(super().evaluate(model))
        device = next(model.parameters()).device
        held = self._rolled_held_out
        drawn = pairs(0, 0, lengths=held.lengths, batch_size=MEASURED)
        distance, flicker, squares = 0.0, 0.0, 0.0
        for z in self._read(held, *drawn, device).split(16):
            target = self.game.teacher.decode(z.flatten(0, 1)).clamp(-1, 1)
            made = model.generator(z.flatten(0, 1))
            distance += len(z) / MEASURED * self.game.pixel_loss(made, target).item()
            both = [frames.unflatten(0, (-1, 2)) for frames in (made.clamp(-1, 1), target)]
            flicker += len(z) / MEASURED * 127.5 * restless(*both).item()
            error = from_model(made).astype(np.float64) - from_model(target)
            squares += len(z) / MEASURED * float(np.square(error).mean())
        return values | {
            "teacher": distance,
            "teacher_db": psnr_db(squares),
            "flicker_levels": flicker,
        }

    def describe(self, model: FrameModel, values: Mapping[str, float]) -> str:
        """What `FrameLevel` says, and how near rolled frames are to the teacher's."""
        return (
            f"{super().describe(model, values)}, rolled ones are {values['teacher_db']:.1f} dB "
            f"from G(E(G(z))) and flicker by {values['flicker_levels']:.2f} levels"
        )

    @torch.inference_mode()
    def _draw(
        self, model: FrameModel, path: Path, *, rows: int, upscale: int
    ) -> npt.NDArray[np.uint8]:
        """Rows of real frames and reconstructions; of rolled ones by way of frames and at once."""
        device, drawn = next(model.parameters()).device, []
        for row, frames in enumerate(np.split(self._shown[: rows * SHOWN], rows)):
            video = row % self._rolled_held_out.num_clips
            length = min(SHOWN, int(self._rolled_held_out.lengths[video]))
            z = torch.from_numpy(self._rolled_held_out.read(video, 0, length)).to(device).float()
            x = to_model(frames, device=device)
            made = [model.generator(model.encoder(x)), self.game.teacher.decode(z)]
            drawn += [frames, *map(from_model, [*made, model.generator(z)])]
        return write_sheet(path, drawn, upscale=upscale)


def pairs(seed: int, step: int, *, lengths: Integers, batch_size: int) -> tuple[Integers, Integers]:
    """Videos and first frames, each (batch_size,), of random pairs of neighbouring frames.

    Half are among the first `FIRST_FRAMES` of their video, half anywhere; `lengths` are frames of
    each video, (num_videos,), each at least 2.
    """
    rng = np.random.default_rng([seed, step, 1])
    videos = rng.integers(len(lengths), size=batch_size)
    last = lengths[videos] - 1
    last[::2] = np.minimum(last[::2], FIRST_FRAMES - 1)
    return videos, rng.integers(last)
