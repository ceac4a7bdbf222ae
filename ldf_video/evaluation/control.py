"""Control: whether what a top model makes follows what it is told.

Two measures, of a store of latents that nothing was trained on and whose frames come with
conditions. A small inverse model learns on one half of its clips to tell from two neighbouring
latents which name a column had (as Bruce et al. 2024, arXiv:2402.15391, and others read actions
back). Then it reads the other half, and what the top model makes of the same beginnings when it is
told the same. And a frame that is made from a real past with the true conditions should be nearer
to the real frame than one that is told those of another window.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldf_video.errors import LdfError, counted
from ldf_video.levels.conditions import told_of
from ldf_video.levels.latents import video_generator
from ldf_video.models.frame import FrameModel
from ldf_video.models.rollout import KnownConditions, Rollout
from ldf_video.models.top import TopModel
from ldf_video.progress import Progress
from ldf_video.store.reader import StoreReader
from ldf_video.video.pixels import from_model, psnr_db

UPDATES, BATCH, WIDTH, RATE = 600, 64, 64, 2e-3
"""Of the inverse model."""
MADE = 8
"""Frames that are made after each beginning."""
AT_ONCE = 32
IGNORED = -100
"""In place of a name that is not known: such rows count for nothing."""
MOVES = 0.01
"""Share of pixels that must change from the frame before, by SEEN levels or more."""
SEEN = 26


@dataclass(frozen=True)
class ColumnControl:
    """How well one column is followed.

    Attributes:
        name: of the column.
        real: share of real neighbours of which the inverse model tells the name.
        made: the same of what the top model made.
        guess: the share of the commonest name, which needs no look.
    """

    name: str
    real: float
    made: float
    guess: float


@dataclass(frozen=True)
class Control:
    """What was found.

    Attributes:
        columns: of names, each of which some are known.
        told_db: PSNR of one frame ahead that is told the truth, against the real one as it is
            decoded, over frames that move; None, like the next two, where none does.
        shuffled_db: of one that is told what led to another frame.
        untold_db: of one that is told nothing.
        num_windows: that were made.
    """

    columns: tuple[ColumnControl, ...]
    told_db: float | None
    shuffled_db: float | None
    untold_db: float | None
    num_windows: int

    def text(self) -> str:
        """In a few lines."""
        lines = [
            f"{one.name}: read back from {one.real:.1%} of real neighbours and {one.made:.1%} of "
            f"made ones, {one.made / max(one.real, 1e-9):.2f} of it (guessed: {one.guess:.1%})"
            for one in self.columns
        ]
        values = (self.told_db, self.shuffled_db, self.untold_db)
        told, shuffled, untold = ("none" if db is None else f"{db:.2f} dB" for db in values)
        ahead = (
            f"one frame ahead, where it moves: {told} PSNR where it is told the truth, {shuffled} "
            f"told what led to another frame, {untold} told nothing"
        )
        return "\n".join([*lines, ahead])


def measure_control(
    top: TopModel,
    frame: FrameModel,
    store: StoreReader,
    *,
    num_windows: int = 256,
    seed: int = 0,
    quiet: bool = True,
) -> Control:
    """Measure both, and say how far that is unless `quiet`.

    Raises:
        LdfError: the store has too few clips that are long enough.
    """
    length = top.config.window + MADE
    clips = np.flatnonzero(store.lengths >= length)
    if len(clips) < 2:
        raise LdfError(f"--control {store.path}: expected 2 clips of {length} frames or more")
    rng = np.random.default_rng(seed)
    rng.shuffle(clips)
    known, new = (Windows(store, part, top, rng) for part in np.array_split(clips, 2))
    latents, told = new.draw(num_windows, length)

    def begun(name: str, unit: str, total: int) -> Progress:
        progress = Progress(f"evaluate: control, {name}", unit=unit, total=total, quiet=quiet)
        progress.update(0)
        return progress

    with begun("windows", "frames", num_windows * MADE) as progress:
        progress.say(
            f"evaluate: control, of {counted(num_windows, 'beginning')} in {store.path}: whether "
            "what was told can be read back from what is made, and whether the next frame is "
            "nearer where it is told the truth"
        )
        made = _roll(top, latents, told, seed, progress)
    both = torch.cat([latents[:, -MADE - 1 : -MADE], made], dim=1)
    columns = []
    for place, column in enumerate(top.columns):
        names = told[:, -MADE:, place]
        if column.names and names.isfinite().any():
            with begun(f"learn to read {column.name}", "updates", UPDATES) as progress:
                inverse = _learn(known, place, progress)
            real, of_made = (
                _share(inverse, top, frames, names) for frames in (latents[:, -MADE - 1 :], both)
            )
            counts = torch.bincount(names[names.isfinite()].long())
            guess = float(counts.max() / counts.sum())
            columns.append(ColumnControl(column.name, real, of_made, guess))
    with begun("one frame ahead", "frames", 3 * num_windows) as progress:
        ahead = _one_ahead(top, frame, latents, told, rng, progress=progress)
    return Control(tuple(columns), *ahead, len(latents))


class Windows:
    """Random windows of some clips of a store, and what is known of their frames."""

    def __init__(
        self,
        store: StoreReader,
        clips: npt.NDArray[np.int64],
        top: TopModel,
        rng: np.random.Generator,
    ) -> None:
        self.top = top
        self._store, self._clips, self._rng = store, clips, rng

    def draw(self, count: int, length: int) -> tuple[Tensor, Tensor]:
        """Latents (count, length, C, H, W); conditions (count, length, columns) as of the model.

        Both are on its device.
        """
        store = self._store
        clips = self._rng.choice(self._clips, count)
        starts = self._rng.integers(0, store.lengths[clips] - length + 1)
        latents, _ = store.windows(clips, starts, length=length)
        told = told_of(store, clips, starts, length=length, columns=self.top.columns)
        device = self.top.latent_mean.device
        return torch.from_numpy(latents).to(device).float(), torch.from_numpy(told).to(device)


@torch.inference_mode()
def _roll(top: TopModel, latents: Tensor, told: Tensor, seed: int, progress: Progress) -> Tensor:
    """What is made in place of the last MADE frames of windows, told what led to them."""
    made = []
    for first in range(0, len(latents), AT_ONCE):
        part = slice(first, first + AT_ONCE)
        past, values = latents[part, :-MADE], told[part, -MADE:]
        made.append(_made(top, past, values, MADE, seed=seed + first, progress=progress))
    return torch.cat(made)


def _made(
    top: TopModel, past: Tensor, told: Tensor | None, count: int, *, seed: int, progress: Progress
) -> Tensor:
    generators = [video_generator(seed, number) for number in range(len(past))]
    conditions = None if told is None else KnownConditions(told)
    rollout = Rollout(count, past=past, conditions=conditions)
    made = []
    for block in top.sample(rollout, generators):
        made.append(block)
        progress.add(block.shape[0] * block.shape[1])
    return torch.cat(made, dim=1)


class InverseModel(nn.Module):
    """Two neighbouring latents (B, 2, C, H, W), standardised -> logits (B, names)."""

    def __init__(self, channels: int, rows: int, columns: int, names: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(2 * channels, WIDTH, 3, padding=1), nn.SiLU()),
            *(nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.SiLU(), nn.Flatten()),
            *(nn.Linear(WIDTH * rows * columns, 2 * WIDTH), nn.SiLU(), nn.Dropout(0.2)),
            nn.Linear(2 * WIDTH, names),
        )

    def forward(self, neighbours: Tensor) -> Tensor:
        return self.layers(neighbours.flatten(1, 2))


def _learn(windows: Windows, place: int, progress: Progress) -> InverseModel:
    top = windows.top
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = InverseModel(*top.config.latent_shape, len(top.columns[place].names))
        model.to(top.latent_mean.device)
        optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=UPDATES)
        for _ in range(UPDATES):
            latents, told = windows.draw(BATCH, 2)
            names = told[:, 1, place].nan_to_num(IGNORED).long()
            loss = F.cross_entropy(model(_standard(top, latents)), names, ignore_index=IGNORED)
            optimizer.zero_grad()
            loss.nan_to_num().backward()
            optimizer.step()
            schedule.step()
            progress.add(1)
    return model.eval()


def _standard(top: TopModel, latents: Tensor) -> Tensor:
    return (latents - top.latent_mean) / top.latent_std.clamp(min=1e-3)


@torch.inference_mode()
def _share(inverse: InverseModel, top: TopModel, latents: Tensor, names: Tensor) -> float:
    """Share of neighbours in latents (N, n + 1, ...) whose name (N, n) is told; of known ones."""
    pairs = torch.stack([latents[:, :-1], latents[:, 1:]], dim=2).flatten(0, 1)
    found = torch.cat([inverse(_standard(top, part)).argmax(1) for part in pairs.split(AT_ONCE)])
    names = names.flatten()
    return float((found == names)[names.isfinite()].float().mean())


@torch.inference_mode()
def _one_ahead(
    top: TopModel,
    frame: FrameModel,
    latents: Tensor,
    told: Tensor,
    rng: np.random.Generator,
    *,
    progress: Progress,
) -> tuple[float | None, float | None, float | None]:
    """PSNR of the frame after each window's beginning, over those that move; None where none does.

    Each is told the truth, then what led to another frame, then nothing.
    """
    past, truth = latents[:, :-MADE], told[:, -MADE, None]
    shuffled = truth[torch.from_numpy(rng.permutation(len(truth)))]
    shown, before = _pixels(frame, latents[:, -MADE]), _pixels(frame, past[:, -1])
    moves = (np.abs(shown - before).max(-1) >= SEEN).mean((1, 2)) >= MOVES
    if not moves.any():
        return (None, None, None)
    found = []
    for values in (truth, shuffled, None):
        errors = []
        for first in range(0, len(past), AT_ONCE):
            part = slice(first, first + AT_ONCE)
            of_part = None if values is None else values[part]
            made = _made(top, past[part], of_part, 1, seed=first, progress=progress)[:, 0]
            errors.append(np.square(_pixels(frame, made) - shown[part]).mean((1, 2, 3)))
        found.append(psnr_db(float(np.concatenate(errors)[moves].mean())))
    return found[0], found[1], found[2]


def _pixels(frame: FrameModel, latents: Tensor) -> npt.NDArray[np.float64]:
    parts = [from_model(frame.decode(part)) for part in latents.split(AT_ONCE)]
    return np.concatenate(parts).astype(np.float64)
