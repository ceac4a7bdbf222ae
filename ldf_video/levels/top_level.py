"""The upper level: how a top model is trained, and its game on windows of latents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ldf_video.errors import UsageError
from ldf_video.levels.conditions import columns_of, told_of
from ldf_video.levels.frechet import frechet_distance
from ldf_video.levels.latents import latent_shape, usual_fps
from ldf_video.models import build
from ldf_video.models.condition import Condition, Windows
from ldf_video.models.few import FewGame
from ldf_video.models.flow import FlowTop
from ldf_video.models.flow_loss import velocity_loss
from ldf_video.models.frame import FrameModel
from ldf_video.models.game import Game, Noise, Part
from ldf_video.models.rollout import Rollout
from ldf_video.models.top import TopModel
from ldf_video.options.trainings import (
    BLOCK,
    FEW_RATE,
    FLOW_BY_ADAM,
    PAPER_RATE,
    RATE,
    WINDOWS,
    TrainTop,
)
from ldf_video.runs.run import Settings
from ldf_video.runs.training import check_top_origin, origin_settings, training_config
from ldf_video.runs.zoo import Loaded, find_beginning, named
from ldf_video.store.reader import StoreReader
from ldf_video.training.ranks import Ranks
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

DEFAULTS = {
    "flow": {"optimizer": "muon", "learning_rate": RATE, "beta1": 0.9},
    "few": {"optimizer": "adam", "learning_rate": FEW_RATE, "beta1": 0.5, "average": 0.998},
    "mlp": {"optimizer": "adam", "learning_rate": PAPER_RATE, "beta1": 0.5, "beta2": 0.999},
}
"""Settings of a training, by kind."""


def top_run_config(
    options: TrainTop,
    latents: StoreReader,
    *,
    device: str,
    ranks: Ranks,
    origin: Loaded[TopModel] | None = None,
) -> Settings:
    """Everything that a fresh run is made by, from its options and the model of `--init`.

    Raises:
        UsageError: options do not go together, or not with that model.
    """
    like = {} if origin is None else origin.config["model"]
    kind = options.kind or build.kind_of(like)
    longest = int(latents.lengths.max())
    asked = options.window or like.get("window", WINDOWS[kind])
    other_block = options.block is not None and like.get("block", options.block) != options.block
    if options.block is not None and (kind != "flow" or (other_block and options.few)):
        raise UsageError(_no_block(options, kind, like))
    window, block = window_of(
        asked, like={**like, "kind": kind}, longest=longest, block=options.block
    )
    shape = latent_shape(latents)
    if origin is not None:
        check_top_origin(str(options.init), origin, kind=kind, latent_shape=shape, window=window)
        block = options.block or like.get("block", block)
    defaults: Settings = DEFAULTS[kind]
    if kind == "flow" and options.optimizer not in (None, "muon"):
        defaults = defaults | {"learning_rate": FLOW_BY_ADAM}
    if options.few:
        defaults = DEFAULTS["few"]
    training = training_config(
        options, device=device, ranks=ranks, defaults=defaults, cpu_gains=kind == "flow"
    )
    model, game = build.top_settings(
        kind, latent_shape=shape, window=window, block=block, like=like
    )
    if origin is not None and like.get("renewed"):
        flow = find_beginning(origin)
        raise UsageError(
            f"--init {options.init}: it takes few passes, and training begins with a flow that "
            f"takes many: name the one it came from{'' if flow is None else f', {named(flow)}'}"
        )
    if kind == "flow":
        model["strides"] = _strides_of(options, like, window=window, longest=longest)
        if other_block or (options.block == 1 and origin is None):
            model |= {"kept": True} | ({"shared_noise": 0.0} if block == 1 else {})
        model["columns"] = _columns_of(options, like, latents)
    elif options.strides not in (None, "1"):
        raise UsageError(f"--strides {options.strides}: a flow alone can know several; drop it")
    if options.few:
        model, game = _student_settings(options, like)
        _check_teacher(options, latents, origin)
    begun = {} if origin is None else origin_settings(options, origin)
    return {
        "model": model,
        "game": game,
        "training": asdict(training),
        "latents": {"fingerprint": latents.spec.fingerprint},
        "frames": {k: v for k, v in latents.spec.settings.items() if k != "weights"},
        "fps": str(usual_fps(latents)),
        **begun,
    }


def _student_settings(options: TrainTop, like: Mapping[str, Any]) -> tuple[Settings, Settings]:
    """The "model" and "game" of `--few`.

    Raises:
        UsageError: there is no flow to learn from.
    """
    wanted = "name a flow to learn from with --init, such as pacman-32-flow"
    if options.init is None:
        raise UsageError(f"--few without --init: {wanted}")
    try:
        return build.few_settings(like)
    except ValueError as error:
        raise UsageError(f"--few --init {options.init}: {error}: {wanted}") from None


def _check_teacher(
    options: TrainTop, latents: StoreReader, teacher: Loaded[TopModel] | None
) -> None:
    """Refuse a teacher of other latents: it is held still, and would teach noise.

    Raises:
        UsageError: it learned those of another frame model than the store's.
    """
    if teacher is None:
        return
    made_by, learned = (
        latents.spec.settings["weights"],
        teacher.config["frame_model"]["fingerprint"],
    )
    if learned != made_by:
        raise UsageError(
            f"--few --init {options.init}: it learned latents of the frame model {learned[:12]}, "
            f"the store holds those of {made_by[:12]}: name a flow of these, or encode with that "
            "frame model"
        )


def _no_block(options: TrainTop, kind: str, like: Mapping[str, Any]) -> str:
    """Why blocks cannot be of so many frames."""
    if kind != "flow":
        return f"--block {options.block}: a flow alone has blocks; drop it"
    return (
        f"--block {options.block}: --init {options.init} makes blocks of {like['block']}, and a "
        "student's are its teacher's: drop the option, or train a flow with it first, without --few"
    )


def _columns_of(
    options: TrainTop, like: Mapping[str, Any], latents: StoreReader
) -> list[dict[str, Any]]:
    """What a flow is told of frames: what the flow that it starts from was, else what is stored.

    Raises:
        UsageError: that flow was told something, and this one is to be told nothing; or a student
            is to be told what its teacher was not.
    """
    known = list(like.get("columns", ()))
    if options.conditions == "off":
        if known:
            raise UsageError(
                f"--conditions off: --init {options.init} is told of frames; drop the option, or "
                "start without --init"
            )
        return []
    return known or ([] if options.few else columns_of(latents))


def _strides_of(
    options: TrainTop, like: Mapping[str, Any], *, window: int, longest: int
) -> list[int]:
    """Strides of a flow, as asked for, or those of the flow that it starts from.

    Raises:
        UsageError: that flow knows others, or no clip is long enough.
    """
    known = list(like.get("strides", (1,)))
    asked = known if options.strides is None else list(map(int, options.strides.split(",")))
    if asked != known and like and (len(known) > 1 or options.few):
        raise UsageError(
            f"--strides {options.strides}: --init {options.init} has --strides "
            f"{','.join(map(str, known))}: drop the option, or name a flow without strides to "
            "--init and drop --few"
        )
    for stride in asked[1:]:
        if span(window, stride) > longest:
            fits = (longest - 1) // stride + 1
            other = f", or give --window {fits} or less" if fits > 1 and not like else ""
            raise UsageError(
                f"--strides {','.join(map(str, asked))}: a window of {window} frames with stride "
                f"{stride} takes {span(window, stride)} frames of a clip, the longest has "
                f"{longest}: bring longer clips, or leave {stride} out{other}"
            )
    return asked


def window_of(
    window: int, *, like: Mapping[str, Any], longest: int, block: int | None = None
) -> tuple[int, int]:
    """Window and block (frames) of a top model that may be asked for more than clips can fill.

    An mlp has no blocks, and a model like another one has its window.

    Raises:
        UsageError: the window holds no two blocks of so many frames.
    """
    if block is not None and like.get("kind") != "mlp":
        usable = max(min(window, longest), 2)
        if usable < 2 * block:
            raise UsageError(
                f"--block {block}: windows of {usable} frames hold no two such blocks, the longest "
                f"clip has {longest}: give a smaller --block, or a larger --window and longer clips"
            )
        return usable - usable % block, block
    if like.get("kind") == "mlp" or (window == like.get("window") and window <= longest):
        return max(min(window, longest), 2), 1
    return fit_window(window, longest=longest)


def fit_window(window: int, *, longest: int) -> tuple[int, int]:
    """Window and block (frames) of a flow that training can fill: at most the longest clip.

    A position of the window that no clip ever reaches would stay untrained, and a video that is
    rolled forward would meet it. From 8 frames on the window is rounded down to whole blocks of 4:
    a block of 1 frame takes four times the passes and has no noise that its frames share. Under
    that the block is the largest of which the window holds two or more, and a whole number.
    """
    usable = max(min(window, longest), 2)
    if usable >= 2 * BLOCK:
        return usable - usable % BLOCK, BLOCK
    return usable, max(b for b in range(1, BLOCK) if usable % b == 0 and usable >= 2 * b)


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
