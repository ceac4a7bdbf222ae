"""The upper level: a top model's game on windows of latents, measured and drawn."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ldf_video.levels.frechet import frechet_distance
from ldf_video.models.flow import FlowTop
from ldf_video.models.frame import FrameModel
from ldf_video.models.game import Game, Noise, Part
from ldf_video.models.top import TopModel
from ldf_video.runs.zoo import Loaded
from ldf_video.store.reader import StoreReader
from ldf_video.training.update import Integers, windows
from ldf_video.video.pixels import from_model
from ldf_video.video.write import VideoWriter, tile, write_sheet

MEASURED_WINDOWS = 1024
"""Held-out windows that a loss is taken over."""
SHOWN = 9
"""Videos in a sheet and an mp4 of a training."""

Batch = tuple[Tensor, Tensor]


class TopLevel:
    """The upper level as the training loop sees it: a game on windows of latents."""

    def __init__(
        self,
        game: Game,
        latents: StoreReader,
        *,
        batch_size: int,
        seed: int,
        held_out: StoreReader | None = None,
        frame_model: Loaded[FrameModel] | None = None,
        fps: Fraction = Fraction(25),
    ) -> None:
        """Args: latents to learn from and others to measure on; what decodes them, at what rate."""
        assert isinstance(game.model, TopModel)
        self.game = game
        self.latents, self.batch_size, self.seed = latents, batch_size, seed
        self.score = "velocity" if isinstance(game.model, FlowTop) else "latent_frechet"
        self._window = game.model.config.window
        self._held_out = held_out
        self._frame_model, self._fps = frame_model, fps

    def batch(self, step: int, part: Part, device: torch.device) -> Batch:
        """Random windows (B, window, C, H, W) and which of their frames are real (B, window)."""
        clips, starts = windows(
            self.seed,
            step,
            lengths=self.latents.lengths,
            window=self._window,
            batch_size=self.batch_size,
        )
        return self._read(self.latents, part.rows(clips), part.rows(starts), device)

    def _read(
        self, store: StoreReader, clips: Integers, starts: Integers, device: torch.device
    ) -> Batch:
        values, mask = store.windows(clips, starts, length=self._window)
        latents = torch.from_numpy(values).to(device).float()
        return latents, torch.from_numpy(mask).to(device)

    def calibration(self, device: torch.device) -> None:
        """No top model has batch statistics."""

    @torch.inference_mode()
    def evaluate(self, model: TopModel) -> Mapping[str, float]:
        """The flow's loss on held-out windows; of an mlp, how far its sequences are from them."""
        if self._held_out is None:
            return {}
        device = model.latent_mean.device
        count = min(MEASURED_WINDOWS, 8 * self._held_out.num_frames)
        clips, starts = windows(
            0, 0, lengths=self._held_out.lengths, window=self._window, batch_size=count
        )
        latents, mask = self._read(self._held_out, clips, starts, device)
        if isinstance(model, FlowTop):
            parts = zip(latents.split(64), mask.split(64), strict=True)
            errors = [
                (len(x), model.loss(x, m, noise=Noise(i))[1]["velocity"].item())
                for i, (x, m) in enumerate(parts)
            ]
            return {"velocity": sum(n * value for n, value in errors) / count}
        whole = latents[mask.all(1)]
        if len(whole) < 2:
            return {}
        real = model.standardise(whole).flatten(1)
        made = torch.cat([*model.sample(self._window, [_generator(i) for i in range(len(whole))])])
        fake = model.standardise(made).flatten(1)
        distance = frechet_distance(real.double().cpu().numpy(), fake.double().cpu().numpy())
        return {"latent_frechet": distance}

    def describe(self, model: TopModel, values: Mapping[str, float]) -> str:
        """How far it is from held-out windows, in standardised latents."""
        del model
        if "velocity" in values:
            return f"held-out windows: squared error of the velocity {values['velocity']:.3f}"
        if "latent_frechet" in values:
            return f"held-out windows: Frechet distance {values['latent_frechet']:.1f}"
        return ""

    @torch.inference_mode()
    def draw(self, model: TopModel, path: Path) -> npt.NDArray[np.uint8] | None:
        """Generated clips: a sheet with a row each, and an mp4 of them side by side.

        Nothing where the frame model that decodes them is gone.
        """
        if self._frame_model is None:
            return None
        generators = [_generator(i) for i in range(SHOWN)]
        latents = torch.cat(list(model.sample(self._window, generators)), dim=1)
        decode = self._frame_model.model.decode
        videos = np.stack([from_model(decode(sequence)) for sequence in latents])
        with VideoWriter(path.with_suffix(".mp4"), fps=self._fps) as writer:
            writer.write(tile(videos))
        return write_sheet(path.with_suffix(".png"), list(videos), upscale=3)


def _generator(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)
