"""train-frame: clips -> a store of frames -> a frame model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ldf_video.errors import LdfError, StoreError, UsageError
from ldf_video.models.frame import FrameConfig, FrameModel
from ldf_video.models.frame_game import FrameGame, FrameGameConfig, build_frame_game
from ldf_video.pipelines.devices import choose_device, choose_precision, out_of_memory
from ldf_video.pipelines.geometry import geometry_of, make_geometry
from ldf_video.pipelines.ingest import ingest
from ldf_video.pipelines.runs import Options, budget, check_data, open_run
from ldf_video.progress import Progress
from ldf_video.store.format import (
    STORE_JSON,
    StoreSpec,
    describe_difference,
    read_store_json,
)
from ldf_video.store.reader import StoreReader
from ldf_video.store.writer import StoreWriter
from ldf_video.training import checkpoints
from ldf_video.training.loop import Cadence, Logs, Player, Tick, TrainConfig, Trainer
from ldf_video.training.samplers import frame_indices
from ldf_video.video.geometry import Geometry
from ldf_video.video.pixels import from_model, to_model
from ldf_video.video.sources import find_sources
from ldf_video.video.write import write_sheet


class FrameLevel:
    """The lower level as the training loop sees it."""

    def __init__(self, game: FrameGame, frames: StoreReader, *, batch_size: int, seed: int) -> None:
        self.frames, self.batch_size, self.seed = frames, batch_size, seed
        self.networks: nn.Module = game
        self.exported: nn.Module = game.model
        self.players: Sequence[Player] = (
            Player("discriminator", [game.discriminator], self._discriminator_loss),
            Player("encoder_generator", [game.model], self._encoder_generator_loss),
        )
        self._game = game
        shown = frame_indices(0, 0, num_frames=frames.num_frames, batch_size=16)
        self._shown = frames.frames_at(shown)

    def batch(self, step: int, device: torch.device) -> Tensor:
        """Random frames (B, 3, H, W) in [-1, 1]."""
        indices = frame_indices(
            self.seed, step, num_frames=self.frames.num_frames, batch_size=self.batch_size
        )
        return to_model(self.frames.frames_at(indices), device=device)

    def _discriminator_loss(self, batch: Tensor, tick: Tick) -> tuple[Tensor, Logs]:
        return self._game.discriminator_loss(
            batch, noise=tick.noise, step=tick.step, progress=tick.progress
        )

    def _encoder_generator_loss(self, batch: Tensor, tick: Tick) -> tuple[Tensor, Logs]:
        return self._game.encoder_generator_loss(batch, noise=tick.noise)

    @torch.no_grad()
    def draw(self, exported: nn.Module, path: Path) -> None:
        """Rows of real frames, their reconstructions, and frames decoded from the prior."""
        model = cast("FrameModel", exported)
        device = next(model.parameters()).device
        x = to_model(self._shown, device=device)
        noise = torch.Generator().manual_seed(0)
        z = torch.randn((len(x), *model.config.latent_shape), generator=noise).to(device)
        rows = [x, model.generator(model.encoder(x)), model.generator(z)]
        write_sheet(path, [from_model(row) for row in rows], upscale=3)


@out_of_memory("a smaller --batch-size or --size")
def train_frame(
    clips: str | Path,
    *,
    out: str | Path = "checkpoints/frame",
    size: str | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    mixed_precision: str | None = None,
    fps: str | None = None,
    crop: str | None = None,
    seed: int | None = None,
    resume: bool = True,
    frames_store: str | Path | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> Path:
    """Train a frame model on every readable frame of the clips; see `ldf_video.api.train_frame`."""
    device = choose_device(device)
    given = {
        "size": size,
        "steps": steps,
        "minutes": minutes,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "mixed_precision": mixed_precision,
        "fps": fps,
        "crop": crop,
        "seed": seed,
    }
    find_sources(Path(clips))  # a mistyped path fails before anything is written

    def build(options: Options) -> dict[str, Any]:
        config = frame_run_config(options, device=device)
        starts = not resume or not (Path(out) / checkpoints.CONFIG).exists()
        if starts and frames_store is not None:  # before an old run is moved aside for it
            _check_frames_store(Path(frames_store), _frames_spec(geometry_of(config)))
        return config

    with open_run(Path(out), "frame", given=given, resume=resume, build=build) as run:
        config = run.config
        progress = Progress("train-frame", unit="steps", quiet=quiet)
        with progress:
            if run.done:
                progress.say(f"{out} is finished; --no-resume starts anew and keeps it aside")
                return run.directory
            store = Path(frames_store) if frames_store else run.directory / "frames"
            frames = _store_frames(Path(clips), store, geometry_of(config), progress)
            check_data(run, frames, source=str(clips))
            training = TrainConfig(**config["training"])
            _announce(progress, run.directory, config, frames, resumed=not run.fresh)
            torch.manual_seed(training.seed)
            game = build_frame_game(
                FrameConfig(**config["model"]), FrameGameConfig(**config["game"])
            )
            level = FrameLevel(game, frames, batch_size=training.batch_size, seed=training.seed)
            trainer = Trainer(
                level, run.directory, config=training, device=device, cadence=Cadence()
            )
            trainer.run(progress)
    return Path(out)


def frame_run_config(options: Options, *, device: str) -> dict[str, Any]:
    """Everything that a fresh run is made by, from the options that were given."""
    geometry = make_geometry(
        size=options.get("size", "32"), fps=options.get("fps"), crop=options.get("crop")
    )
    try:
        model = FrameConfig(height=geometry.height, width=geometry.width)
    except ValueError as error:
        raise UsageError(f"--size: {error}") from None
    chosen = budget(options, device=device)
    training = TrainConfig(
        steps=chosen.get("steps"),
        minutes=chosen.get("minutes"),
        batch_size=options.get("batch_size", TrainConfig.batch_size),
        learning_rate=options.get("learning_rate", TrainConfig.learning_rate),
        mixed_precision=choose_precision(options.get("mixed_precision", "auto"), device=device),
        seed=options["seed"],
    )
    return {
        "model": asdict(model),
        "game": asdict(FrameGameConfig()),
        "training": asdict(training),
        "frames": geometry.settings(),
    }


def _frames_spec(geometry: Geometry) -> StoreSpec:
    shape = (geometry.height, geometry.width, 3)
    return StoreSpec("frames", shape, "uint8", geometry.settings())


def _check_frames_store(path: Path, spec: StoreSpec) -> None:
    """See that a store of frames that is there was made as this one would be.

    Raises:
        StoreError: it was not; names the differences and the option.
    """
    if not (path / STORE_JSON).exists():
        return
    found, _ = read_store_json(path)
    difference = describe_difference(found, spec)
    if difference:
        raise StoreError(f"{path} was made otherwise, {difference}: name another --frames-store")


def _store_frames(clips: Path, path: Path, geometry: Geometry, progress: Progress) -> StoreReader:
    """Bring the store of frames up to date with the clips."""
    spec = _frames_spec(geometry)
    _check_frames_store(path, spec)
    with StoreWriter(path, spec, retry=True) as writer:  # a fault may have passed
        report = ingest(clips, writer, geometry, name="read", quiet=progress.quiet)
    for line in report.lines():
        progress.say(line)
    reader = StoreReader(path)
    if not reader.num_frames:
        raise LdfError(f"no frame could be read from {clips}: {report.first_reason()}")
    return reader


def _announce(
    progress: Progress, out: Path, config: dict[str, Any], frames: StoreReader, *, resumed: bool
) -> None:
    training = config["training"]
    length = (
        f"{training['steps']:,} steps" if training["steps"] else f"{training['minutes']:g} minutes"
    )
    model = config["model"]
    progress.say(
        f"train-frame: {'going on' if resumed else 'starting'} in {out}: "
        f"{frames.num_frames:,} frames of {frames.num_clips:,} clips, "
        f"{model['width']}x{model['height']}, {length}, batches of {training['batch_size']}, "
        f"seed {training['seed']}"
    )
