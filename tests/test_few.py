"""Learning few passes: what a student learns from its teacher, and the game on its own past."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from tiny_models import FEW, FLOW, few_game, flow

from ldf_video.models.few import TURNS, FewConfig, FewGame, _moves, student_config
from ldf_video.models.few_critic import Critic
from ldf_video.models.few_rolling import Rolling, next_block, roll
from ldf_video.models.few_teacher import distances, paths
from ldf_video.models.flow import FlowTop
from ldf_video.models.game import Noise, Part, Tick
from ldf_video.models.solvers import integrate

B, BLOCKS, SIZE = 4, 4, 64
ROLLING = Rolling(plays=True, moves=True, penalised=True, from_nothing=False, depth=0)


def batch(b: int = B, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    numbers = torch.Generator().manual_seed(seed)
    latents = torch.randn(b, BLOCKS * 4, *FLOW.latent_shape, generator=numbers)
    return latents, torch.ones(b, BLOCKS * 4, dtype=torch.bool)


def tick(turn: Rolling = ROLLING, seed: int = 0, part: Part | None = None) -> Tick:
    return Tick(0.5, Noise(seed, part), turn)


def test_a_path_ends_where_the_sampler_ends_and_passes_the_students_levels() -> None:
    teacher = flow(config=replace(FLOW, kept=True, sampling_steps=4))
    past, e = torch.randn(2, BLOCKS, 4, SIZE), torch.randn(2, BLOCKS, 4, SIZE)
    levels = torch.full((2, BLOCKS, 4), FLOW.context_level)
    with torch.no_grad():
        on_path, end = paths(teacher, e, past, levels, torch.ones(2, 16) > 0, passes=1)
        assert torch.equal(on_path[0], e)
        seen = None
        for number in range(BLOCKS):

            def velocity(x: torch.Tensor, u: float, seen: object = seen) -> torch.Tensor:
                return teacher.velocity(x, x.new_full((1, 1), u), past=seen)  # type: ignore[arg-type]

            expected = integrate(e[:, number], teacher.sampling_levels(4), velocity)
            torch.testing.assert_close(end[:, number], expected, rtol=1e-4, atol=1e-4)
            seen = teacher.remember_block(past[:, number], seen)


def test_a_student_that_is_its_teacher_is_nowhere_off_where_both_take_one_pass() -> None:
    one = FewConfig(first_steps=1, sampling_steps=1, teacher_first_steps=1, teacher_steps=1)
    teacher = flow(config=replace(FLOW, kept=True, sampling_steps=1, first_steps=1))
    made = FewGame(FlowTop(student_config(teacher.config, one)), one)
    made.teach(teacher)
    x, mask, _ = made._blocks(*batch())
    first, later = distances(made.model, made.teacher, x, mask, noise=Noise(0))
    assert (first.item(), later.item()) == pytest.approx((0, 0), abs=1e-8)


def test_losses_are_means_over_the_parts_of_a_batch() -> None:
    made, batch_of = few_game(), batch()
    batch_of[1][1, 9:] = False

    def loss_of(number: int, part: Part | None = None) -> torch.Tensor:
        one = tick(part=part)
        values = batch_of if part is None else tuple(part.rows(value) for value in batch_of)
        if number == 1:
            made.players[0].loss(values, one)  # the student moves first
        return made.players[number].loss(values, one)[0]

    for number in (0, 1):
        of_parts = torch.stack([loss_of(number, Part(index, 2)) for index in range(2)])
        torch.testing.assert_close(of_parts.mean(), loss_of(number), rtol=1e-4, atol=1e-5)


def test_what_lies_under_the_mask_changes_nothing() -> None:
    made, (latents, mask) = few_game(), batch()
    mask[0, 6:] = False
    other = latents.clone()
    other[0, 6:] = float("nan")
    for values in (latents, other):
        one = tick()
        values_losses = [player.loss((values, mask), one)[0] for player in made.players]
        if values is latents:
            expected = values_losses
    assert all(torch.equal(a, b) for a, b in zip(values_losses, expected, strict=True))


def test_a_players_loss_reaches_its_own_weights_alone() -> None:
    made, one = few_game(), tick()
    made.requires_grad_(False)
    for player, others in zip(made.players, ([made.critic], [made.model]), strict=True):
        for network in player.networks:
            network.requires_grad_(True)
        player.loss(batch(), one)[0].backward()
        own = [weight for network in player.networks for weight in network.parameters()]
        assert all(weight.grad is not None for weight in own)
        assert all(weight.grad is None for network in others for weight in network.parameters())
        assert all(weight.grad is None for weight in made.teacher.parameters())
        made.zero_grad(set_to_none=True)
        made.requires_grad_(False)


@pytest.mark.parametrize(("from_nothing", "depth"), [(True, 0), (True, 3), (False, 0), (False, 3)])
def test_a_window_is_what_the_sampler_makes(from_nothing: bool, depth: int) -> None:
    made, x = few_game(), torch.randn(B, BLOCKS, 4, SIZE)
    turn = replace(ROLLING, from_nothing=from_nothing, depth=depth)
    window = roll(made.model, x[:, :1], noise=Noise(3), turn=turn, blocks=BLOCKS)
    assert window.shape == x.shape
    noise, blocks, seen = Noise(3), [] if from_nothing else [x[:, 0]], None
    with torch.no_grad():
        for number in range(BLOCKS + depth):
            if number == len(blocks):
                levels = made.model.sampling_levels(1 if seen else 2)
                z = made.model.noise_of_blocks(B, 1, noise)[:, 0]
                for u, following in pairwise(levels):
                    z = z + u * made.model.velocity(z, z.new_full((1, 1), u), past=seen)
                    if following:
                        again = made.model.noise_of_blocks(B, 1, noise)[:, 0]
                        z = (1 - following) * z + following * again
                blocks.append(z)
            seen = made.model.remember_block(blocks[number], seen)
    torch.testing.assert_close(window.detach(), torch.stack(blocks[-BLOCKS:], 1))
    given = window.grad_fn is None
    assert not given


def test_no_gradient_crosses_blocks() -> None:
    made, x = few_game(), torch.randn(B, BLOCKS, 4, SIZE)
    for block in range(1, BLOCKS):
        x.requires_grad_(True)
        window = roll(made.model, x[:, :1], noise=Noise(0), turn=ROLLING, blocks=BLOCKS)
        (grad,) = torch.autograd.grad(window[:, block].sum(), x, allow_unused=True)
        assert grad is None or not grad.any()


def test_a_critic_scores_a_block_after_the_blocks_before_it() -> None:
    critic = few_game().critic
    x, level = torch.randn(2, BLOCKS, 4, SIZE), torch.full((2,), 0.2)
    scores = critic(x, level)
    assert scores.shape == (2, BLOCKS * 4, 16 + FLOW.patches)
    other = x.clone()
    other[:, 2] += 1
    changed = (critic(other, level) != scores).flatten(2).any(2)[0].view(BLOCKS, 4)
    assert changed.tolist() == [[False] * 4] * 2 + [[True] * 4] * 2
    with pytest.raises(ValueError, match="expected a flow with convolutions"):
        Critic(replace(FLOW, local_width=0))


def test_a_guess_of_a_first_block_is_what_a_pass_of_its_sampler_leads_to() -> None:
    made = few_game(replace(FEW, first_steps=3))
    levels, noise, x = made.model.sampling_levels(3), Noise(3), None
    for number, u in enumerate(levels[:-1]):
        guess = next_block(made.model, None, B, Noise(3), passes=number + 1)
        assert guess.grad_fn is not None
        e = made.model.noise_of_blocks(B, 1, noise)[:, 0]
        x = e if x is None else (1 - u) * x + u * e
        with torch.no_grad():
            x = x + u * made.model.velocity(x, x.new_full((1, 1), u))
        torch.testing.assert_close(guess.detach(), x)


def test_what_moves_too_much_is_slowed_and_what_freezes_is_woken() -> None:
    made, (latents, mask) = few_game(), batch()
    slopes = []
    for moving in ((0.3, 0.2), (0.2, 0.2), (0.1, 0.2)):
        made.moving.copy_(torch.tensor(moving))
        loss, logs = made._student_loss((latents, mask), tick())
        slopes.append(loss.item())
    assert slopes[0] - slopes[1] == pytest.approx(
        0.1 * FEW.balance * logs["moves"].item(), rel=1e-3
    )
    assert slopes[1] - slopes[2] == pytest.approx(
        0.1 * FEW.balance * logs["moves"].item(), rel=1e-3
    )


def test_how_much_moves_is_followed_from_the_first_update_on() -> None:
    made = few_game()
    for moves, expected in ((0.5, 0.5), (1.5, 0.53)):
        made.after_update({"moves": torch.tensor(moves), "moves_real": torch.tensor(1.0)})
        assert made.moving.tolist() == pytest.approx([expected, 1.0])
    x = torch.zeros(1, BLOCKS, 4, SIZE)
    x[0, 0, 1:] = 9  # the first block is given
    x[0, 0, 3] = 0
    x[0, 2, 1:] = 2  # one step up in twelve, one down
    assert _moves(x, torch.ones(1)).item() == pytest.approx(4 / 12)


def test_the_kinds_of_updates() -> None:
    made = few_game(FewConfig(game_start=0.3))
    assert not made.kind(0, 0.29).plays
    kinds = [made.kind(step, 0.3) for step in range(4 * 5 * TURNS)]
    assert all(kind.plays and kind.moves for kind in kinds)
    first = [kind for kind in kinds if kind.from_nothing]
    later = [kind for kind in kinds if not kind.from_nothing]
    assert len(first) / len(kinds) == pytest.approx(4 / 7)
    assert Counter(kind.depth for kind in first) == {0: 64, 3: 16}
    assert Counter(kind.depth for kind in later) == {0: 36, 3: 12, 9: 12}
    assert Counter(kind.first_pass for kind in first) == dict.fromkeys(range(4), 20)
    assert all(kind.first_pass is None for kind in later)
    # the penalty comes every so many updates and falls on both kinds
    interval = made.config.roth.interval
    assert {kind.from_nothing for kind in kinds[::interval]} == {True, False}
