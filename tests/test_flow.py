"""The flow: what masks hide, what a block may see, and rolling forward to any length."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from tiny_models import FLOW, flow

from ldf_video.models.flow import FlowTop
from ldf_video.models.flow_config import FlowConfig
from ldf_video.models.flow_loss import draw_levels, velocity_loss
from ldf_video.models.game import Noise
from ldf_video.models.rollout import Rollout

SHAPE = FLOW.latent_shape


def latents(b: int, t: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(b, t, *SHAPE, generator=torch.Generator().manual_seed(seed))


def generators(count: int, first: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(first + i) for i in range(count)]


def noise(seed: int = 0) -> Noise:
    return Noise(seed)


# -- loss ----------------------------------------------------------------------------------------


KEPT = replace(FLOW, kept=True)
FORMS = pytest.mark.parametrize("config", [FLOW, KEPT], ids=["anew", "kept"])


@FORMS
def test_a_real_frame_does_change_the_loss(config: FlowConfig) -> None:
    top, mask = flow(config=config), torch.ones(2, FLOW.window, dtype=torch.bool)
    values = latents(2, FLOW.window)
    changed = values.clone()
    changed[:, -1] += 1
    assert (
        velocity_loss(top, values, mask, noise=noise())[0]
        != velocity_loss(top, changed, mask, noise=noise())[0]
    )


def mixed_noise(drawn: Noise, b: int) -> torch.Tensor:
    """(b, window, 64): three quarters of its variance are the same in the frames of a block."""
    blocks = FLOW.window // FLOW.block
    shared, own = drawn.normal(b, blocks, 1, 64), drawn.normal(b, blocks, FLOW.block, 64)
    return (0.75**0.5 * shared + 0.5 * own).reshape(b, FLOW.window, 64)


def test_noise_is_standard_in_every_frame_and_alike_within_a_block() -> None:
    e = mixed_noise(noise(), 2000)
    assert FLOW.shared_noise == 0.75
    assert e.std(0).sub(1).abs().max() < 0.1
    alike = (e[:, :, None] * e[:, None]).mean((0, 3))  # (window, window)
    frame = torch.arange(FLOW.window)
    same = frame[:, None] // FLOW.block == frame // FLOW.block
    expected = torch.where(same, 0.75, 0.0) + 0.25 * torch.eye(FLOW.window)
    torch.testing.assert_close(alike, expected, atol=0.02, rtol=0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"shared_noise": -0.1}, "shared_noise -0.1: expected 0 to 1"),
        ({"shared_noise": 1.1}, "shared_noise 1.1: expected 0 to 1"),
        ({"sampling_steps": 0}, "sampling_steps 0: expected 1 or more"),
        ({"first_steps": 0}, "first_steps 0: expected 1 or more"),
        *(
            ({"level_shift": shift}, f"level_shift {shift}: expected 0.01 to 100")
            for shift in (0.0, -1.0, 1e20, float("nan"), float("inf"))
        ),
        ({"patch": -1}, "patch -1: expected"),
        *(
            ({"window": window, "block": block}, f"window {window}, block {block}: expected")
            for window, block in ((16, 5), (4, 4), (16, 0), (3, 2))
        ),
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        FlowConfig(**settings)


def test_levels_go_from_noise_to_data_and_lie_denser_at_the_noise() -> None:
    even = FlowTop(replace(FLOW, level_shift=1.0)).sampling_levels(5)
    assert even == pytest.approx([1, 0.8, 0.6, 0.4, 0.2, 0])
    shifted = FlowTop(replace(FLOW, level_shift=2.0)).sampling_levels(5)
    assert shifted == pytest.approx([1, 8 / 9, 3 / 4, 4 / 7, 1 / 3, 0])


def test_the_loss_of_a_still_network_by_hand() -> None:
    """Velocity zero and latents at their mean: what is left is the mean of |e|^2."""
    top = FlowTop(FLOW)  # fresh: its head is zero
    values = top.latent_mean.expand(64, FLOW.window, *SHAPE)
    mask = torch.ones(64, FLOW.window, dtype=torch.bool)
    drawn = noise(3)
    _, counted = draw_levels(FLOW, 64, FLOW.window, drawn)
    e = mixed_noise(drawn, 64)

    loss, logs = velocity_loss(top, values, mask, noise=noise(3))

    error = e.square().mean(-1)[counted]
    assert logs["velocity"].item() == pytest.approx(error.mean().item(), rel=1e-5)
    # The loss is over all frames: the mean of the losses of any parts of the batch.
    assert loss.item() == pytest.approx(error.sum().item() / counted.numel(), rel=1e-5)
    assert loss.item() < logs["velocity"].item()


@FORMS
def test_all_frames_masked_or_clean_gives_zero_and_no_nan(config: FlowConfig) -> None:
    loss, _ = velocity_loss(
        flow(config=config),
        latents(2, FLOW.window),
        torch.zeros(2, FLOW.window, dtype=torch.bool),
        noise=noise(),
    )
    assert loss.item() == 0


def test_levels_are_what_the_sampler_meets() -> None:
    levels, counted = draw_levels(FLOW, 600, FLOW.window, noise())
    assert levels.shape == counted.shape == (600, FLOW.window)
    assert levels.min() >= 0
    assert levels.max() <= 1
    continued = ~counted.all(1)
    assert 150 < continued.sum() < 250  # a third
    for level, count in zip(levels[continued], counted[continued], strict=True):
        past = int((~count).sum())
        assert not count[:past].any()  # the clean past comes first
        assert past % FLOW.block == 0
        assert FLOW.block <= past <= FLOW.window - FLOW.block
        assert level[0] <= FLOW.prefix_noise
        assert (level[:past] == level[0]).all()
        assert (level[past:] == level[-1]).all()
    shared = (levels[~continued] == levels[~continued][:, :1]).all(1)
    assert 150 < shared.sum() < 250
    independent = levels[~continued][~shared]
    assert all(len(level.unique()) == FLOW.window for level in independent)
    assert {int((~c).sum()) for c in counted[continued]} == {4, 8, 12}  # every length of past


# -- what sees what ------------------------------------------------------------------------------


def velocities(top: FlowTop, tokens: torch.Tensor, mask: torch.Tensor | None = None):
    b, t, _ = tokens.shape
    mask = torch.ones(b, t, dtype=torch.bool) if mask is None else mask
    with torch.no_grad():
        return top.window_velocity(tokens, torch.full((b, t), 0.5, dtype=tokens.dtype), mask=mask)


@pytest.mark.parametrize("changed", [4, 5, 8, 15])
def test_a_block_sees_itself_and_the_past_and_no_bit_of_later_blocks(changed: int) -> None:
    top, tokens = flow(), torch.randn(2, FLOW.window, 64)
    other = tokens.clone()
    other[:, changed] += 1
    before, after = velocities(top, tokens), velocities(top, other)
    own = changed // FLOW.block * FLOW.block
    assert torch.equal(before[:, :own], after[:, :own])
    for frame in range(own, FLOW.window):  # each frame of its own block and of every later one
        assert not torch.equal(before[:, frame], after[:, frame])


def test_every_patch_of_a_block_sees_every_other_and_they_have_places() -> None:
    top = flow().double()  # in float32 a small change of the input may change no bit of an output
    tokens = torch.randn(1, FLOW.window, 64, dtype=torch.float64)
    assert FLOW.patches == 4
    corner = tokens.clone().view(1, FLOW.window, *SHAPE)
    corner[0, 1, :, 3, 3] += 1  # the last patch
    before = velocities(top, tokens).view(1, FLOW.window, *SHAPE)
    after = velocities(top, corner.flatten(2)).view(1, FLOW.window, *SHAPE)
    assert (before != after).all()  # in every frame, at every cell, in all channels
    same = torch.ones(1, FLOW.window, 64, dtype=torch.float64)  # patches alike, but for their place
    patches = velocities(top, same).view(1, FLOW.window, *SHAPE)
    assert not torch.equal(patches[..., :2, :2], patches[..., 2:, 2:])


def test_a_token_a_frame_is_one_patch() -> None:
    top = flow(config=replace(FLOW, patch=0))
    assert (top.config.patches, top.config.patch_shape) == (1, (4, 4))
    assert top.embed.in_features == 64
    assert sample(top, 5, generators(1)).shape == (1, 5, *SHAPE)


def test_a_grid_that_is_no_whole_number_of_patches() -> None:
    config = replace(FLOW, latent_shape=(2, 5, 3))
    top = flow(config=config)
    assert config.patches == 6
    video = sample(top, 5, generators(1))
    assert video.shape == (1, 5, 2, 5, 3)
    assert video.isfinite().all()
    assert len(video[0, 0].unique()) == 30  # no cell is a copy of another, nor filled up


def test_a_padded_frame_is_seen_by_no_other() -> None:
    top, tokens = flow(), torch.randn(1, FLOW.window, 64)
    mask = torch.arange(FLOW.window)[None] < 6
    other = tokens.clone()
    other[:, 6:] = 99
    assert torch.equal(velocities(top, tokens, mask)[:, :6], velocities(top, other, mask)[:, :6])


def test_remembered_keys_give_what_the_whole_window_gives() -> None:
    top = flow()
    past, block = torch.randn(3, 8, 64), torch.randn(3, 4, 64)
    levels = torch.cat([torch.full((3, 8), FLOW.context_level), torch.full((3, 4), 0.7)], dim=1)
    mask = torch.ones(3, 12, dtype=torch.bool)
    with torch.no_grad():
        whole = top.window_velocity(torch.cat([past, block], dim=1), levels, mask=mask)[:, 8:]
        cached = top.velocity(block, levels[:, 8:], past=top.remember_window(past))
    torch.testing.assert_close(cached, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("known", "passed"),  # levels 2 t / (1 + t)
    [(8, [1, 4 / 5, 1 / 2, 0]), (0, [1, 6 / 7, 2 / 3, 2 / 5, 0])],
    ids=["with a past", "a first block"],
)
def test_sampling_is_adams_bashforth_on_the_whole_window(known: int, passed: list[float]) -> None:
    """The sampler, written plainly: no cache, the past at its level beside the noisy block."""
    top = flow()
    context = latents(2, known) if known else None
    sampled = next(top.sample(Rollout(4, past=context), generators(2)))
    past = torch.zeros(2, 0, 64) if context is None else top.standardise(context)
    e = torch.stack([torch.randn(5, 64, generator=g) for g in generators(2)])
    x = 0.75**0.5 * e[:, :1] + 0.5 * e[:, 1:]
    slopes, spans = [], []
    for i, (u, following) in enumerate(pairwise(passed)):
        spans.append(u - following)
        levels = torch.cat([torch.full((2, known), FLOW.context_level), torch.full((2, 4), u)], 1)
        mask = torch.ones(2, known + 4, dtype=torch.bool)
        with torch.no_grad():
            slopes.append(
                top.window_velocity(torch.cat([past, x], 1), levels, mask=mask)[:, known:]
            )
        # The line through the last two velocities, at the middle of the step.
        bend = (slopes[i] - slopes[i - 1]) / spans[i - 1] if i else torch.zeros_like(x)
        x = x + spans[i] * (slopes[i] + bend * spans[i] / 2)
    torch.testing.assert_close(sampled.clone(), top.restore(x).detach(), rtol=1e-4, atol=1e-4)


@FORMS
def test_blocks_before_the_beginning_are_not_shown(config: FlowConfig) -> None:
    longer = sample(flow(config=config), 30, generators(2))
    late = flow(config=replace(config, warm_up=2))
    assert torch.equal(sample(late, 22, generators(2)), longer[:, 8:])
    context = latents(2, 8)  # a video that goes on has its past
    expected = sample(flow(config=config), 5, generators(2), context)
    assert torch.equal(sample(late, 5, generators(2), context), expected)


# -- sampling ------------------------------------------------------------------------------------


def sample(top: FlowTop, num_frames: int, seeds, context=None) -> torch.Tensor:
    blocks = list(top.sample(Rollout(num_frames, past=context), seeds))
    assert all(1 <= b.shape[1] <= top.config.block for b in blocks)
    return torch.cat(blocks, dim=1)


@FORMS
def test_a_longer_video_begins_with_the_shorter(config: FlowConfig) -> None:
    top = flow(config=config)
    longest = sample(top, 37, generators(1))
    for num_frames in (1, 2, 5, 16):
        assert torch.equal(sample(top, num_frames, generators(1)), longest[:, :num_frames])
    assert longest.shape == (1, 37, *SHAPE)
    assert longest.dtype == torch.float32
    assert longest.isfinite().all()
    assert len({tuple(frame.flatten().tolist()) for frame in longest[0]}) == 37  # none repeats


@FORMS
def test_a_video_does_not_depend_on_how_many_are_made(config: FlowConfig) -> None:
    top = flow(config=config)
    together = sample(top, 10, generators(3))
    for i in range(3):
        alone = sample(top, 10, generators(1, first=i))
        torch.testing.assert_close(alone[0], together[i], rtol=1e-3, atol=1e-4)
    assert not torch.allclose(together[0], together[1], atol=0.1)


@FORMS
@pytest.mark.parametrize("length", [1, 3, 4, 5, 30])
def test_going_on_from_any_length(length: int, config: FlowConfig) -> None:
    top = flow(config=config)
    context = latents(2, length)
    video = sample(top, 9, generators(2), context)
    assert video.shape == (2, 9, *SHAPE)
    other = context.clone()
    other[:, -1] += 1
    assert not torch.equal(sample(top, 9, generators(2), other), video)  # it is seen
    assert not torch.equal(sample(top, 9, generators(2)), video)


def test_only_the_newest_frames_of_a_long_context_count() -> None:
    top = flow()
    context = latents(1, 30)
    video = sample(top, 5, generators(1), context)
    assert torch.equal(sample(top, 5, generators(1), context[:, -12:]), video)
    assert not torch.equal(sample(top, 5, generators(1), context[:, -8:]), video)


def test_a_short_context_stood_still_before() -> None:
    top = flow()
    context = latents(1, 2)
    longer = torch.cat([context[:, :1], context[:, :1], context], dim=1)
    video = sample(top, 5, generators(1), context)
    assert torch.equal(sample(top, 5, generators(1), longer), video)


def test_sampling_leaves_the_global_generator_and_the_network_alone() -> None:
    top = flow()
    state, weights = torch.get_rng_state(), [p.clone() for p in top.parameters()]
    sample(top, 5, generators(1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(weights, top.parameters(), strict=True))


def test_standardise_and_restore_are_inverse() -> None:
    top = flow()
    values = latents(2, 3)
    tokens = top.standardise(values)
    assert tokens.shape == (2, 3, 64)
    torch.testing.assert_close(top.restore(tokens), values)
    one = (values[0, 0, 1, 2, 3] - top.latent_mean[1, 2, 3]) / top.latent_std[1, 2, 3]
    assert tokens[0, 0, 1 * 16 + 2 * 4 + 3] == one


def test_statistics_travel_with_the_weights_and_never_divide_by_zero() -> None:
    top = flow()
    top.set_statistics(torch.full(SHAPE, 2.0), torch.zeros(SHAPE))
    other = flow(seed=1)
    other.load_state_dict(top.state_dict())
    assert (other.latent_mean == 2).all()
    assert other.standardise(torch.full(SHAPE, 2.0)).eq(0).all()


def test_what_hardly_varies_counts_as_varying_by_a_tenth_of_the_mean_spread() -> None:
    """As where a letterbox was, and another clip has a picture: 1 there is no 10,000 spreads."""
    top, std = flow(), torch.ones(SHAPE)
    std[:, 0] = 1e-4
    top.set_statistics(torch.zeros(SHAPE), std)
    floor = 0.1 * std.mean().item()
    assert top.standardise(torch.ones(SHAPE)).max().item() == pytest.approx(1 / floor)
    assert torch.equal(top.latent_std[:, 1:], std[:, 1:])
    top.set_statistics(torch.zeros(SHAPE), torch.linspace(0.5, 1.5, 64).view(SHAPE))
    assert torch.equal(top.latent_std.flatten(), torch.linspace(0.5, 1.5, 64))


def test_a_window_of_two_frames_works() -> None:
    top = flow(config=replace(FLOW, window=2, block=1))
    assert sample(top, 5, generators(1)).shape[1] == 5
    loss, _ = velocity_loss(top, latents(4, 2), torch.ones(4, 2, dtype=torch.bool), noise=noise())
    assert loss.item() > 0
