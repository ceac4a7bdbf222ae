"""Levels small enough for tests, trainings of them, and what becomes of these."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from tiny_models import FRAME, frame_game
from torch import nn

from ldf_video.models.game import Game, Player, Tick
from ldf_video.progress import Progress
from ldf_video.training import checkpoints
from ldf_video.training.config import Cadence, TrainConfig
from ldf_video.training.loop import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy as np

    from ldf_video.models.game import Part

STEPS = 6
LOGGED = Cadence(log_steps=2)


class SmallLevel:
    """What the levels here have in common."""

    score = "error"

    def __init__(self, game: Game) -> None:
        self.game = game
        self.on_batch: Callable[[int], None] = lambda step: None
        self.errors: list[float] = []
        self.drawn: list[Path] = []

    def batch(self, step: int, part: Part, device: torch.device) -> Any:
        self.on_batch(step)
        return part.rows(self.whole_batch(step)).to(device)

    def whole_batch(self, step: int) -> torch.Tensor:
        raise NotImplementedError

    def calibration(self, device: torch.device) -> Any:
        return None

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        return {"error": self.errors.pop(0)} if self.errors else {}

    def describe(self, model: nn.Module, values: Mapping[str, float]) -> str:
        return "".join(f"error {value:.1f} dB" for value in values.values())

    def draw(self, model: nn.Module, path: Path) -> np.ndarray | None:
        self.drawn.append(path)
        return None


class FrameGameLevel(SmallLevel):
    """The real game of two players on frames that are a function of the step."""

    def __init__(self, game: Any = None, *, count: int = 4) -> None:
        super().__init__(game or frame_game())
        self.count, self.step = count, 0
        self.on_second_player: Callable[[int], None] = lambda step: None
        second = self.game.players[1]

        def noticed(x: torch.Tensor, tick: Tick) -> Any:
            self.on_second_player(self.step)
            return second.loss(x, tick)

        setattr(self.game, f"{second.name}_loss", noticed)

    def whole_batch(self, step: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(step)
        self.step = step
        return torch.rand(self.count, 3, FRAME.height, FRAME.width, generator=generator) * 2 - 1


class LatentLevel(SmallLevel):
    """Windows of random latents, some of them padded."""

    count = 16

    def __init__(self, game: Game) -> None:
        super().__init__(game)
        self.config = game.model.config

    def batch(self, step: int, part: Part, device: torch.device) -> Any:
        shape, t = self.config.latent_shape, self.config.window
        generator = torch.Generator().manual_seed(step)
        mask = torch.arange(t) < torch.randint(1, t + 1, (16, 1), generator=generator)
        return part.rows(torch.randn(16, t, *shape, generator=generator)), part.rows(mask)


class OneNumberGame(Game):
    """A game of one weight, whose loss is the weight times what the batch says."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Linear(1, 1, bias=False)

    @property
    def players(self) -> Sequence[Player]:
        return [Player("one", [self.model], self._loss)]

    def _loss(self, batch: torch.Tensor, tick: Tick) -> Any:
        loss = self.model.weight.sum() * batch.mean()
        return loss, {"loss": loss.detach()}


class OneNumber(SmallLevel):
    """A level whose loss is what the test says."""

    def __init__(self, losses: list[float]) -> None:
        super().__init__(OneNumberGame())
        self.losses = losses

    @property
    def weight(self) -> nn.Parameter:
        return self.game.model.weight

    def whole_batch(self, step: int) -> torch.Tensor:
        return torch.tensor([self.losses[step]])


def training_of(**settings: Any) -> TrainConfig:
    """How a level is trained: by Adam at a low rate, where nothing else is said."""
    return TrainConfig(**{"optimizer": "adam", "learning_rate": 3e-4, **settings})


def trainer_in(
    directory: Path,
    level: Any = None,
    *,
    cadence: Cadence = LOGGED,
    device: str = "cpu",
    recorder: Any = None,
    **config: Any,
) -> Trainer:
    directory.mkdir(exist_ok=True)
    made = training_of(**{"steps": STEPS, "seed": 5, "warmup_steps": 3, **config})
    return Trainer(
        level or FrameGameLevel(),
        directory,
        config=made,
        device=device,
        cadence=cadence,
        recorder=recorder,
    )


def run(trainer: Trainer) -> None:
    with Progress("test", unit="steps", quiet=True) as progress:
        trainer.run(progress)


def assert_same_state(first: Path, second: Path) -> None:
    a, b = checkpoints.load_state(first), checkpoints.load_state(second)
    assert a is not None
    assert b is not None
    assert (a["step"], a["done"]) == (b["step"], b["done"])
    for part in ("networks", "average", "optimizers"):
        assert_same(a[part], b[part])
    assert_same(checkpoints.load_weights(first), checkpoints.load_weights(second))


def assert_same(a: Any, b: Any) -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for name in a:
            assert_same(a[name], b[name])
    elif isinstance(a, list | tuple):
        for one, other in zip(a, b, strict=True):
            assert_same(one, other)
    else:
        assert a == b


def metrics(directory: Path) -> list[dict[str, Any]]:
    lines = (directory / checkpoints.METRICS).read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


class Killed(BaseException):
    """Stands for a kill: nobody catches it."""


def raise_at(step: int, error: BaseException) -> Callable[[int], None]:
    def check(now: int) -> None:
        if now == step:
            raise error

    return check
