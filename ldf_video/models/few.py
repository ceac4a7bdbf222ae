"""How a flow learns to make a block in few passes: from a teacher, and in a game.

The student starts as a flow that was trained and keeps its past (`keep_past`). It learns two things
at once. From the teacher, that same flow with its weights held still: where a noise is led to by
many passes, to guess by one (Luhman & Luhman 2021, arXiv:2101.02388); so each noise keeps its own
outcome and none is left out. From a critic: that windows which it rolled forward on its own past
look like real ones (Self Forcing, Huang et al. 2025, arXiv:2506.08009; adversarial post-training,
Lin et al. 2025, arXiv:2501.08316); so outcomes are not blended and what moves goes on moving.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ldf_video.models.condition import Condition, Windows
from ldf_video.models.few_critic import Critic
from ldf_video.models.few_rolling import Rolling, next_block, roll
from ldf_video.models.few_teacher import distances
from ldf_video.models.flow import FlowTop
from ldf_video.models.flow_config import FlowConfig
from ldf_video.models.flow_loss import sometimes_untold
from ldf_video.models.game import Game, Logs, Noise, Player, Tick
from ldf_video.models.gan import Restrained, Restraint, RothConfig

FOLLOWED = 0.03
"""Share of an update in the mean of how much moves."""
TURNS = 7
"""Updates, of which every other one begins from nothing. Odd, and no multiple of the penalty's
interval: else the penalty would fall on one kind alone."""
WARM_UP = 32
"""Frames that a student makes before those that are shown. Its first blocks are its weakest, and a
pass each is soon made (docs/results.md)."""


@dataclass(frozen=True)
class FewConfig(Restrained):
    """Weights of the two lessons, and what is rolled forward.

    Attributes:
        first_steps: passes of a video's first block.
        sampling_steps: passes of a later one.
        teacher_first_steps: the teacher's passes of a first block, at least.
        teacher_steps: the teacher's of a later one.
        distance: weight of the squared distance from where the teacher leads.
        game: weight of the game against the critic.
        game_start: share of the training after which the game begins.
        balance: weight of what moves too much or too little, in the mean over updates: alone, the
            game swings slowly between the two.
        depths: blocks that are rolled before those that are judged, one number an update, in turn,
            where videos go on from a block of real frames.
        first_depths: the same where they begin from nothing. Most are 0: a first block has most to
            decide, and loses sprites where it is judged seldom (docs/log.md).
        critic_rate: the critic's learning rate, as a share of the student's.
        critic_noise: highest noise level at which the critic sees windows (Wang et al. 2022,
            arXiv:2206.02262): what is off by less than the noise does not give them away.
        probe: how far from a window the critic's slope is measured, in spreads of a latent.
        roth: the penalty on that slope.
        rest: the critic's loss in nats under which it rests.
    """

    first_steps: int = 4
    sampling_steps: int = 1
    teacher_first_steps: int = 16
    teacher_steps: int = 5
    distance: float = 1.0
    game: float = 1.0
    game_start: float = 0.1
    balance: float = 32.0
    depths: tuple[int, ...] = (0, 0, 3, 0, 9)
    first_depths: tuple[int, ...] = (0, 0, 3, 0, 0)
    critic_rate: float = 4.0
    critic_noise: float = 0.7
    probe: float = 0.1
    roth: RothConfig = field(default_factory=lambda: RothConfig(gamma=3.0, penalty="r1r2"))
    rest: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("depths", "first_depths"):
            object.__setattr__(self, name, tuple(getattr(self, name)))


def student_config(flow: FlowConfig, config: FewConfig) -> FlowConfig:
    """What a student of a flow is."""
    return replace(
        flow,
        kept=True,
        renewed=True,
        first_steps=config.first_steps,
        sampling_steps=config.sampling_steps,
        warm_up=-(-WARM_UP // flow.block),
    )


class FewGame(Game):
    """A student and a critic, on batches of windows; with the teacher they are told the same.

    The student moves first; the critic judges the windows that it made.
    """

    model: FlowTop
    moving: Tensor

    def __init__(self, top: FlowTop, config: FewConfig) -> None:
        """Make the game of a student of `student_config`; `teach` gives it a teacher."""
        super().__init__()
        self.model, self.config = top, config
        teacher = replace(
            top.config,
            renewed=False,
            first_steps=config.teacher_first_steps,
            sampling_steps=config.teacher_steps,
        )
        self.teacher = FlowTop(teacher)
        self.critic = Critic(teacher)
        self.restraint = Restraint(config)
        self.register_buffer("moving", torch.zeros(2))  # how much moves in made and in real windows

    def teach(self, flow: FlowTop) -> None:
        """Begin from a flow that keeps its past, as the teacher; student and critic are alike."""
        weights = flow.state_dict()
        self.model.load_state_dict(weights)
        self.teacher.load_state_dict(weights)
        missing, _ = self.critic.flow.load_state_dict(weights, strict=False)
        assert not missing

    @property
    def players(self) -> Sequence[Player]:
        """The student moves first."""
        rate = self.config.critic_rate
        return (
            Player("student", [self.model], self._student_loss),
            Player("critic", [self.critic], self._critic_loss, rate=rate, adam=True),
        )

    def kind(self, step: int, progress: float) -> Rolling:
        """What the critic does, and what is rolled forward."""
        turn = self.restraint.turn(plays=progress >= self.config.game_start)
        round_, number = divmod(step, TURNS)
        from_nothing = number % 2 == 0
        depths = self.config.first_depths if from_nothing else self.config.depths
        depth = depths[step % len(depths)]
        first_pass = round_ % self.config.first_steps if from_nothing else None
        return Rolling(turn.plays, turn.moves, turn.penalised, from_nothing, depth, first_pass)

    def after_update(self, logs: Logs) -> None:
        """Restrain the critic by how it fared, and follow how much moves."""
        self.restraint.observe(logs)
        if "moves" in logs:
            now = torch.stack([logs["moves"], logs["moves_real"]]).to(self.moving)
            followed = self.moving.lerp(now, FOLLOWED)
            self.moving.copy_(torch.where(self.moving[1] > 0, followed, now))

    # -- the student -----------------------------------------------------------------------------

    def _student_loss(self, batch: Windows, tick: Tick) -> tuple[Tensor, Logs]:
        """Near where the teacher leads, and scored above real windows by the critic."""
        x, mask, told = self._blocks(*batch)
        told = sometimes_untold(told, len(x), tick.noise)
        tick.passed_on["told"] = told
        first, later = distances(self.model, self.teacher, x, mask, told, noise=tick.noise)
        loss = self.config.distance * (first + later)
        logs = {"distance_first": first.detach(), "distance": later.detach()}
        turn: Rolling = tick.kind
        if not turn.plays:
            return loss, logs
        whole = mask.all(1).float()
        made = roll(self.model, x[:, :1], told, noise=tick.noise, turn=turn, blocks=x.shape[1])
        level, e = self._critic_noise(x, tick.noise)
        contests = [(x, made)]
        if turn.first_pass is not None:
            passes = turn.first_pass + 1
            of_first = None if told is None else told.frames(0, x.shape[2])
            guess = next_block(self.model, None, len(x), tick.noise, of_first, passes=passes)
            contests.append((x[:, :1], guess.unsqueeze(1)))
        scores = self._scores(contests, level, e, told)
        games = [_contest(of_own, of_real, whole) for of_real, of_own in scores]
        game = torch.stack(games).mean()
        tick.passed_on.update(
            contests=[(real, own.detach()) for real, own in contests], level=level, e=e
        )
        moves = _moves(made, whole)
        too_much = self.config.balance * (self.moving[0] - self.moving[1]) * moves
        logs |= {"game": game.detach(), "moves": moves.detach(), "moves_real": _moves(x, whole)}
        return loss + self.config.game * game + too_much, logs

    # -- the critic ------------------------------------------------------------------------------

    def _critic_loss(self, batch: Windows, tick: Tick) -> tuple[Tensor, Logs]:
        """Real windows are scored above those that the student just made."""
        turn: Rolling = tick.kind
        x, mask, _ = self._blocks(*batch)
        if not turn.plays:
            return x.new_zeros(()), {}
        told = tick.passed_on["told"]
        contests, level, e = (tick.passed_on[name] for name in ("contests", "level", "e"))
        whole = mask.all(1).float()
        with (
            torch.set_grad_enabled(turn.moves),
            torch.autocast(x.device.type, enabled=False),  # a slope needs every digit
        ):
            scores = self._scores(contests, level, e, told)
            games = [_contest(of_real, of_own, whole) for of_real, of_own in scores]
            loss = torch.stack(games).mean()
            logs = {
                "discriminator": loss.detach(),
                "pressure": self.restraint.roth.pressure.clone(),
                "resting": self.restraint.resting.float(),
            }
            if turn.penalised:
                step = self.config.probe * tick.noise.normal(*x.shape, device=x.device)
                real, made = contests[0]
                moved = self._scores([(real + step, made + step)], level, e, told)[0]
                slopes = [
                    ((after - before).square().mean((1, 2)) * whole).mean()
                    for after, before in zip(moved, scores[0], strict=True)
                ]
                slope = torch.stack(slopes).sum() / self.config.probe**2
                loss = loss + self.restraint.roth.weight(tick.progress) * slope
                logs["slope"] = slope.detach()
        return loss, logs

    def _scores(
        self,
        contests: Sequence[tuple[Tensor, Tensor]],
        level: Tensor,
        e: Tensor,
        told: Condition | None,
    ) -> list[tuple[Tensor, Tensor]]:
        """The critic's logits of pairs of windows, at a level of noise (B,), the same in both."""
        return [
            (
                self.critic(_noisy(real, level, e), level, told),
                self.critic(_noisy(own, level, e), level, told),
            )
            for real, own in contests
        ]

    def _critic_noise(self, x: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """A level (B,), low ones more often, and noise like the windows x."""
        b, blocks, _, _ = x.shape
        level = self.config.critic_noise * noise.uniform(b) * noise.uniform(b)
        return level.to(x.device), self.model.noise_of_blocks(b, blocks, noise)

    @torch.no_grad()
    def measure(
        self,
        student: FlowTop,
        latents: Tensor,
        mask: Tensor,
        condition: Condition | None = None,
        *,
        noise: Noise,
    ) -> dict[str, float]:
        """How near a student is to the teacher, and how much of what moves in real windows moves.

        Args:
            student: of averaged weights.
            latents: real windows (B, window, C, H, W).
            mask: real frames.
            condition: what the student is told of them.
            noise: source of chance.
        """
        x, mask, told = self._blocks(latents, mask, condition)
        first, later = distances(student, self.teacher, x, mask, told, noise=noise)
        turn = Rolling(True, False, False, from_nothing=False, depth=0)
        made = roll(student, x[:, :1], told, noise=noise, turn=turn, blocks=x.shape[1])
        whole = mask.all(1).float()
        moves = _moves(made, whole) / _moves(x, whole).clamp_min(1e-6)
        return {
            "distance_first": first.item(),
            "distance": later.item(),
            "moves": moves.item(),
        }

    def _blocks(
        self, latents: Tensor, mask: Tensor, condition: Condition | None = None
    ) -> tuple[Tensor, Tensor, Condition | None]:
        """Standardised blocks (B, blocks, block, size); what stands under the mask is the mean."""
        known = torch.where(mask[:, :, None, None, None], latents, self.model.latent_mean)
        x = self.model.standardise(known).unflatten(1, (-1, self.model.config.block))
        return x, mask, condition


def _noisy(x: Tensor, level: Tensor, e: Tensor) -> Tensor:
    u = level[:, None, None, None]
    return (1 - u) * x + u * e[:, : x.shape[1]]


def _contest(winner: Tensor, loser: Tensor, whole: Tensor) -> Tensor:
    """Mean softplus(loser - winner) of logits (B, frames, n), score by score, over whole windows.

    As `relativistic_loss`, divided by all windows of the batch.
    """
    return (F.softplus(loser.float() - winner.float()).mean((1, 2)) * whole).mean()


def _moves(x: Tensor, whole: Tensor) -> Tensor:
    """Mean distance of frames from those before them, but in the first block, which is given."""
    frames, block = x.flatten(1, 2), x.shape[2]
    steps = (frames[:, block:] - frames[:, block - 1 : -1]).abs().mean((1, 2))
    return (steps * whole).sum() / whole.sum().clamp_min(1)
