"""The upper level: a top model's game on windows of latents."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ldf_video.levels.conditions import told_of
from ldf_video.levels.frechet import frechet_distance
from ldf_video.models.condition import Condition, Windows
from ldf_video.models.few import FewGame
from ldf_video.models.flow import FlowTop
from ldf_video.models.flow_loss import velocity_loss
from ldf_video.models.frame import FrameModel
from ldf_video.models.game import Game, Noise, Part
from ldf_video.models.rollout import Rollout
from ldf_video.models.top import TopModel
from ldf_video.runs.zoo import Loaded
from ldf_video.store.reader import StoreReader
from ldf_video.training.update import Integers, span, strided_windows
from ldf_video.video.pixels import from_model
from ldf_video.video.sheet import tile, write_sheet
from ldf_video.video.write import VideoWriter

MEASURED_WINDOWS = 1024
"""Held-out windows that a loss is taken over."""
FEW_MEASURED = 128
"""The same of a student, whose teacher takes many passes."""
SHOWN = 9
"""Videos in a sheet and an mp4 of a training."""


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
        if isinstance(game, FewGame):
            self.score = "distance"
        self._window, self._strides = game.model.config.window, game.model.strides
        self._columns = game.model.columns
        self._held_out = held_out
        self._frame_model, self._fps = frame_model, fps

    def batch(self, step: int, part: Part, device: torch.device) -> Windows:
        """Random windows, with strides that the model knows, each equally likely."""
        drawn = self._draw(self.latents, self.batch_size, seed=self.seed, step=step)
        clips, starts, strides = map(part.rows, drawn)
        return self._read(self.latents, clips, starts, strides, device)

    def _draw(
        self, store: StoreReader, count: int, *, seed: int, step: int
    ) -> tuple[Integers, Integers, Integers]:
        return strided_windows(
            seed,
            step,
            lengths=store.lengths,
            window=self._window,
            batch_size=count,
            strides=self._strides,
        )

    def _read(
        self,
        store: StoreReader,
        clips: Integers,
        starts: Integers,
        strides: Integers,
        device: torch.device,
    ) -> Windows:
        values = np.empty((len(clips), self._window, *store.spec.item_shape), store.spec.dtype)
        mask = np.empty(values.shape[:2], np.bool_)
        known = np.empty((*values.shape[:2], len(self._columns)), np.float32)
        for stride in self._strides:
            here, length = strides == stride, span(self._window, stride)
            found = store.windows(clips[here], starts[here], length=length)
            values[here], mask[here] = (rows[:, ::stride] for rows in found)
            if self._columns:
                known[here] = told_of(
                    store, clips[here], starts[here], length=length, columns=self._columns
                )[:, ::stride]
        arrays = (values, mask, strides, known)
        latents, real, told, of_frames = (torch.from_numpy(x).to(device) for x in arrays)
        condition = Condition(told, of_frames if self._columns else None)
        return Windows(latents.float(), real, condition)

    def calibration(self, device: torch.device) -> None:
        """No top model has batch statistics."""

    @torch.inference_mode()
    def evaluate(self, model: TopModel) -> Mapping[str, float]:
        """The flow's loss on held-out windows; of an mlp, how far its sequences are from them."""
        if self._held_out is None:
            return {}
        count = min(MEASURED_WINDOWS, 8 * self._held_out.num_frames)
        drawn = self._draw(self._held_out, count, seed=0, step=0)
        latents, mask, told = self._read(self._held_out, *drawn, model.latent_mean.device)
        assert told is not None
        if isinstance(self.game, FewGame):
            assert isinstance(model, FlowTop)
            some, real = latents[:FEW_MEASURED], mask[:FEW_MEASURED]
            few = told.rows(0, FEW_MEASURED)
            return self.game.measure(model, some, real, few, noise=Noise(0))
        if isinstance(model, FlowTop):
            total = 0.0
            for i, first in enumerate(range(0, count, 64)):
                stop = first + 64
                x, m, here = latents[first:stop], mask[first:stop], told.rows(first, stop)
                loss = velocity_loss(model, x, m, here, noise=Noise(i))[1]["velocity"]
                total += len(x) * loss.item()
            return {"velocity": total / count}
        whole = latents[mask.all(1)]
        if len(whole) < 2:
            return {}
        seeds = [_generator(i) for i in range(len(whole))]
        made = torch.cat([*model.sample(Rollout(self._window), seeds)])
        clouds = (model.standardise(x).flatten(1).double().cpu().numpy() for x in (whole, made))
        return {"latent_frechet": frechet_distance(*clouds)}

    def describe(self, model: TopModel, values: Mapping[str, float]) -> str:
        """How far it is from held-out windows, in standardised latents."""
        del model
        if "distance" in values:
            return (
                f"held-out windows: squared distance from the teacher {values['distance']:.3f}, "
                f"{values['moves']:.2f} of what moves in them moves"
            )
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
        latents = torch.cat(list(model.sample(Rollout(self._window), generators)), dim=1)
        decode = self._frame_model.model.decode
        videos = np.stack([from_model(decode(sequence)) for sequence in latents])
        with VideoWriter(path.with_suffix(".mp4"), fps=self._fps) as writer:
            writer.write(tile(videos))
        return write_sheet(path.with_suffix(".png"), list(videos), upscale=3)


def _generator(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)
