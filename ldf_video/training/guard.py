"""Whether a training goes well, by what its updates log, and how it goes on where it does not.

A training that breaks down goes back to its last saved state and on from there with other batches,
other noise and a lower learning rate. What it decides by are means over a line of metrics.jsonl, so
that no update waits for the device, and means over all processes, so that all decide alike.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ldf_video.errors import LdfError
from ldf_video.models.game import Game
from ldf_video.models.losses import RothRegularizer

NORM = "gradient_norm/"
D, D_LOSS, PRESSURE = "discriminator", "discriminator", "pressure"


class BreakdownError(LdfError):
    """A training cannot go on from where it is.

    Attributes:
        reason: what was seen, for people.
        player: whose learning rate is to be lowered; that of all where None.
    """

    def __init__(self, reason: str, *, step: int, player: str | None = None) -> None:
        super().__init__(
            f"training broke down at step {step}: {reason}; --no-resume with a lower "
            "--learning-rate starts anew and keeps this run aside"
        )
        self.reason, self.player = reason, player


@dataclass(frozen=True)
class GuardConfig:
    """What is taken for trouble. A line is one of metrics.jsonl.

    Attributes:
        settle: lines before a run's values are judged, other than for being numbers; again so when
            a player joins later.
        memory: latest lines whose median a value is compared with.
        loss_factor: times the median from which a loss counts as high.
        norm_factor: the same for the norm of a gradient, which varies more.
        deviations: from the median, in logarithms and in scales of the latest lines, that a value
            must exceed as well.
        patience: lines in a row with high values after which a training is broken.
        runaway_loss: D's loss in nats under which it has run away, where the pressure is at its
            limit too.
        runaway_patience: lines in a row for that.
        restarts: how many there may be within `span`.
        span: updates.
    """

    settle: int = 25
    memory: int = 16
    loss_factor: float = 2.0
    norm_factor: float = 30.0
    deviations: float = 6.0
    patience: int = 5
    runaway_loss: float = 0.02
    runaway_patience: int = 15
    restarts: int = 3
    span: int = 5000


class Guard:
    """Judges a training line by line, and remembers how often it had to go back."""

    def __init__(self, loss: str, *, config: GuardConfig | None = None, limit: float = math.inf):
        """Watch a training.

        Args:
            loss: name of the logged value that tells how the training goes; the lower the better.
            config: what is taken for trouble.
            limit: of the pressure on D; infinite where there is none.
        """
        self.config, self.limit, self._loss = config or GuardConfig(), limit, loss
        self.restarts: list[int] = []
        self._lines = 0
        self._seen: dict[str, deque[float]] = {}
        self._high = self._runaway = 0
        self._rates: dict[str, float] = {}

    # -- judging ---------------------------------------------------------------------------------

    @property
    def in_trouble(self) -> bool:
        """Whether the last lines were not as they should be: nothing to go back to later."""
        return bool(self._high or self._runaway)

    def see(self, means: Mapping[str, float], *, step: int) -> None:
        """Take a line, after update number `step`.

        Raises:
            BreakdownError: the training cannot go on from here.
        """
        check_finite(means, step=step)
        if any(name not in self._seen for name in self._watched(means)):  # a player has joined
            self._lines = self._high = self._runaway = 0
            self._seen.clear()
        high = self.high(means)
        self._lines += 1
        for name in self._watched(means):
            seen = self._seen.setdefault(name, deque(maxlen=self.config.memory))
            seen.append(means[name])
        self._high = self._high + 1 if high else 0
        if self._high >= self.config.patience:
            raise BreakdownError(f"{', '.join(high)} far above what it was", step=step)
        self._runaway = self._runaway + 1 if self._has_run_away(means, step) else 0
        if self._runaway >= self.config.runaway_patience:
            raise BreakdownError("the discriminator has run away", step=step, player=D)

    def settle(self) -> None:
        """Judge nothing until there are lines of what comes now."""
        self._seen.clear()

    def high(self, means: Mapping[str, float]) -> list[str]:
        """Names of the values that are far above the latest ones."""
        if self._lines < self.config.settle:
            return []
        return [name for name in self._watched(means) if means[name] > self._bound(name)]

    def is_well(self, means: Mapping[str, float]) -> bool:
        """Whether all values are numbers, and none far above the latest ones."""
        return all(map(math.isfinite, means.values())) and not self.high(means)

    def _watched(self, means: Mapping[str, float]) -> list[str]:
        return [name for name in means if name == self._loss or name.startswith(NORM)]

    def _bound(self, name: str) -> float:
        """Median times a factor, or more where the latest values vary much."""
        c, seen = self.config, self._seen.get(name, ())
        if len(seen) < c.memory or min(seen) <= 0:
            return math.inf
        logs = [math.log(value) for value in seen]
        middle = statistics.median(logs)
        # 1.4826 times the median deviation is a normal distribution's standard deviation
        scale = 1.4826 * statistics.median(abs(value - middle) for value in logs)
        factor = c.norm_factor if name.startswith(NORM) else c.loss_factor
        return math.exp(middle + max(math.log(factor), c.deviations * scale))

    def _has_run_away(self, means: Mapping[str, float], step: int) -> bool:
        """Whether D is sure of everything though all that restrains it is used.

        A training whose restarts are used goes on like that: E and G still learn to reconstruct.
        """
        return (
            self._lines >= self.config.settle
            and means.get(D_LOSS, math.inf) < self.config.runaway_loss
            and means.get(PRESSURE, 0.0) >= 0.99 * self.limit
            and self.may_restart(step)
        )

    # -- going back ------------------------------------------------------------------------------

    def may_restart(self, step: int) -> bool:
        """Whether a training that breaks at a step may go back once more."""
        recent = [broke for broke in self.restarts if broke > step - self.config.span]
        return len(recent) < self.config.restarts

    def restart(self, *, step: int, player: str | None) -> None:
        """Note that a training broke at a step, and halve a player's learning rate, or all."""
        self.restarts.append(step)
        self._high = self._runaway = 0
        name = player or "*"
        self._rates[name] = max(self._rates.get(name, 1.0) / 2, 1 / 16)

    def rate(self, player: str) -> float:
        """What a player's learning rate is multiplied by."""
        return self._rates.get("*", 1.0) * self._rates.get(player, 1.0)

    def seed(self, *numbers: int) -> int:
        """A seed made of numbers, unlike after every restart."""
        return _mix(*numbers, *([len(self.restarts)] if self.restarts else []))

    def draw(self, step: int) -> int:
        """What stands for an update where its batch is drawn: its number, until a restart."""
        return self.seed(step) if self.restarts else step

    def state_dict(self) -> dict[str, Any]:
        """Numbers, as a saved state keeps them."""
        return {
            "restarts": list(self.restarts),
            "lines": self._lines,
            "seen": {name: list(seen) for name, seen in self._seen.items()},
            "high": self._high,
            "runaway": self._runaway,
            "rates": dict(self._rates),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        self.restarts, self._lines = list(state["restarts"]), state["lines"]
        self._seen = {n: deque(v, maxlen=self.config.memory) for n, v in state["seen"].items()}
        self._high, self._runaway = state["high"], state["runaway"]
        self._rates = dict(state["rates"])


def check_finite(means: Mapping[str, float], *, step: int) -> None:
    """See that all values are numbers; where one is not, the weights are none either.

    Raises:
        BreakdownError: one is not.
    """
    broken = [name for name, value in means.items() if not math.isfinite(value)]
    if broken:
        raise BreakdownError(f"{', '.join(broken)} not finite", step=step)


def pressure_limit(game: Game) -> float:
    """The most that the regularizer of a game's D may be raised; infinite without one."""
    limits = (m.config.pressure_limit for m in game.modules() if isinstance(m, RothRegularizer))
    return max(limits, default=math.inf)


def _mix(*numbers: int) -> int:
    """A 63-bit seed from several numbers, unlike for unlike ones."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
