"""What one process of several computes, for test_processes.py to compare with one process alone.

    python rank_worker.py DIRECTORY

Launched with two processes, or run alone. Each writes `DIRECTORY/COUNT-RANK.pt`.
"""

from __future__ import annotations

import signal
import sys
import time
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from float64 import float64
from tiny_models import ali_game, flow, frame_game, mlp_game
from tiny_trainings import SmallLevel, training_of
from torch import Tensor, nn

from ldf_video.cli import leave
from ldf_video.errors import LdfError, UsageError
from ldf_video.interrupts import Stopped
from ldf_video.models.flow_loss import FlowGame
from ldf_video.models.game import Part
from ldf_video.models.layers import (
    BatchNorm,
    apart,
    gathered,
    joined,
    mean_over_processes,
    recompute_statistics,
)
from ldf_video.models.losses import RunningMoments
from ldf_video.progress import Progress
from ldf_video.training import checkpoints
from ldf_video.training.config import Cadence
from ldf_video.training.loop import Trainer
from ldf_video.training.ranks import Ranks, join_ranks

if TYPE_CHECKING:
    from collections.abc import Callable

    from ldf_video.models.game import Game

COUNT = 8
"""Items in the whole batch."""

GAMES: dict[str, tuple[Callable[[], Game], dict[str, Any]]] = {
    "grid": (frame_game, {}),
    "paper": (ali_game, {}),
    "paper checkpointed": (ali_game, {"gradient_checkpointing": True}),
    "flow": (lambda: FlowGame(flow()), {}),
    "mlp": (mlp_game, {}),
    "mlp accumulated": (mlp_game, {"accumulate": 2}),
}


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Level(SmallLevel):
    """A function of the step for a game of either level."""

    def batch(self, step: int, part: Part, device: torch.device) -> Any:
        config = self.game.model.config
        if hasattr(config, "window"):
            t = config.window
            mask = torch.arange(t) < 1 + torch.arange(COUNT)[:, None] % t
            return part.rows(numbers(COUNT, t, *config.latent_shape, seed=step)), part.rows(mask)
        return part.rows(numbers(COUNT, 3, 32, 32, seed=step).tanh())


def statistics(ranks: Ranks) -> dict[str, Tensor]:
    """Values and gradients, these as they are after their mean over the processes."""
    part = Part(ranks.index, ranks.count)
    found: dict[str, Tensor] = {"joined": torch.tensor(joined())}
    with apart():
        found["apart"] = torch.tensor(joined())

    x = part.rows(numbers(COUNT, 3)).clone().requires_grad_()
    rows = gathered(x)
    found["gathered"] = rows
    (rows.prod(1) * torch.arange(1.0, COUNT + 1)).sum().backward()
    found["gathered gradient"] = ranks.sum(whole(x.grad, part)) / ranks.count

    x = part.rows(numbers(COUNT, 3)).clone().requires_grad_()
    mean = mean_over_processes(x.square().mean(0))
    found["mean"] = mean
    # Each process has a loss of its own, the mean of which is the loss of the whole batch.
    (mean.prod() * part.rows(numbers(COUNT, 3)).mean()).backward()
    found["mean gradient"] = ranks.sum(whole(x.grad, part)) / ranks.count

    z = part.rows(numbers(COUNT, 2, 3)).clone().requires_grad_()
    moments = RunningMoments(2)
    found["moments"] = moments(z)
    found["moments"].backward()
    found["moments second"] = moments.second
    found["moments gradient"] = ranks.sum(whole(z.grad, part)) / ranks.count
    return {**found, **batch_norm(ranks, part)}


def batch_norm(ranks: Ranks, part: Part) -> dict[str, Tensor]:
    norm = BatchNorm(3)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, 0.5]))
        norm.bias.copy_(torch.tensor([0.0, 1.0, -1.0]))
    shift = 100 * torch.arange(3.0).view(3, 1, 1)
    x = (part.rows(numbers(COUNT, 3, 4, 4)) + shift).requires_grad_()
    y = norm(x)
    (y.pow(3) * part.rows(numbers(COUNT, 3, 4, 4, seed=1))).mean().backward()
    found = {
        "norm": ranks.sum(whole(y.detach(), part)),
        "norm mean": norm.running_mean.clone(),
        "norm var": norm.running_var.clone(),
        "norm gradient": ranks.sum(whole(x.grad, part)) / ranks.count,
        "norm weight gradient": ranks.sum(norm.weight.grad) / ranks.count,
        "norm bias gradient": ranks.sum(norm.bias.grad) / ranks.count,
    }
    if ranks.is_first:  # one alone need not wait for the others
        recompute_statistics(norm, numbers(COUNT, 3, 4, 4))
    return found


def whole(rows: Tensor, part: Part) -> Tensor:
    """The rows at their place in a batch of zeros."""
    filled = torch.zeros(len(rows) * part.count, *rows.shape[1:])
    part.rows(filled).copy_(rows)
    return filled


def updates(name: str, ranks: Ranks, directory: Path) -> dict[str, Any]:
    """The gradients of both players in two updates, and the weights after them, in float64."""
    make, options = GAMES[name]
    config = training_of(steps=9, batch_size=COUNT, seed=3, warmup_steps=1, **options)
    gradients: list[Tensor] = []
    whole_clip = nn.utils.clip_grad_norm_

    def look(parameters: list[nn.Parameter], norm: float) -> Tensor:
        gradients.append(torch.cat([p.grad.flatten() for p in parameters]))
        return whole_clip(parameters, norm)

    nn.utils.clip_grad_norm_ = look
    with float64():
        trainer = Trainer(Level(make()), directory, config=config, ranks=ranks)
        logs = [trainer.update(0.0) for _ in range(2)]
    nn.utils.clip_grad_norm_ = whole_clip
    weights = {n: p.detach().clone() for n, p in trainer.level.game.named_parameters()}
    return {"gradients": gradients, "weights": weights, "logs": logs}


class BreakingLevel(Level):
    """The last process alone has numbers that are none, in one update."""

    def batch(self, step: int, part: Part, device: torch.device) -> Any:
        batch = super().batch(step, part, device)
        return batch * float("nan") if step == 5 and part.index == part.count - 1 else batch


def broken(ranks: Ranks, directory: Path) -> dict[str, Any]:
    """Why a training ends that breaks down, who says so, and the step of the state then."""
    directory.mkdir(exist_ok=True)
    config = training_of(steps=9, batch_size=COUNT, seed=3, warmup_steps=1)
    cadence = Cadence(log_steps=2, save_seconds=-1.0)
    level = BreakingLevel(frame_game())
    trainer = Trainer(level, directory, config=config, ranks=ranks, cadence=cadence)
    why, elsewhere = "", None
    try:
        with Progress("test", unit="steps", quiet=True) as progress:
            trainer.run(progress)
    except LdfError as error:
        why, elsewhere = str(error), error.reported_elsewhere
    state = checkpoints.load_state(directory)
    return {"why": why, "elsewhere": elsewhere, "step": state and state["step"]}


def failures_of_the_first(ranks: Ranks) -> list[str]:
    """What each process sees of an error in the first one, whatever its kind."""

    def fail(error: BaseException) -> None:
        raise error

    seen = []
    for error in (UsageError("no such thing"), ZeroDivisionError("a bug"), Stopped(15)):
        try:
            ranks.of_first(partial(fail, error))
        except (LdfError, ZeroDivisionError, Stopped) as raised:
            elsewhere = getattr(raised, "reported_elsewhere", "")
            seen.append(f"{type(raised).__name__} {raised} {elsewhere}".strip())
    return seen


def last_works(ranks: Ranks, directory: Path) -> list[bool]:
    """Whether the last work of the first was done as this process ended."""
    seen = []
    for name, seconds, patience in (("short", 0.3, 60), ("long", 3.0, 0.1)):

        def work(name: str = name, seconds: float = seconds) -> None:
            time.sleep(seconds)
            (directory / name).touch()

        ranks.wait()
        ranks.end_after_first(work, patience=timedelta(seconds=patience))
        seen.append((directory / name).exists())
    return seen


def stopped(ranks: Ranks, directory: Path) -> dict[str, Any]:
    """The state that is there as a process ends, where the last one was told to."""
    directory.mkdir(exist_ok=True)
    level = BreakingLevel(frame_game())
    config = training_of(steps=4, batch_size=COUNT, seed=3, warmup_steps=1)
    trainer = Trainer(level, directory, config=config, ranks=ranks)
    update, save_state = trainer.update, checkpoints.save_state

    def signalled(share: float) -> Any:
        if trainer.step == 1 and ranks.index == ranks.count - 1:
            signal.raise_signal(signal.SIGTERM)
        return update(share)

    def slow(*arguments: Any) -> None:
        time.sleep(0.5)
        save_state(*arguments)

    trainer.update, checkpoints.save_state = signalled, slow  # type: ignore[method-assign]
    try:
        with Progress("test", unit="steps", quiet=True) as progress:
            trainer.run(progress)
    except KeyboardInterrupt as stop:
        state = checkpoints.load_state(directory)
        return {"by": type(stop).__name__, "step": state and state["step"]}
    finally:
        checkpoints.save_state = save_state
    return {}


if __name__ == "__main__":
    directory, ranks = Path(sys.argv[1]), join_ranks("cpu")
    found: dict[str, Any] = statistics(ranks)
    for name in GAMES:
        found[name] = updates(name, ranks, directory)
    found["broken"] = broken(ranks, directory / "broken")
    found["failures"] = failures_of_the_first(ranks)
    found["last works"] = last_works(ranks, directory)
    found["stopped"] = stopped(ranks, directory / "stopped")
    torch.save(found, directory / f"{ranks.count}-{ranks.index}.pt")
    ranks.wait()
    leave(0)
