"""A flow that keeps its past: what is computed once, and what few passes do."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_models import FLOW, flow

from ldf_video.models.flow import FlowTop
from ldf_video.models.flow_layers import attention
from ldf_video.models.flow_loss import velocity_loss
from ldf_video.models.game import Noise
from ldf_video.models.keep_past import keep_past, with_block
from ldf_video.models.rollout import Rollout
from ldf_video.models.steady_pass import SteadyBlock, SteadyPasses

KEPT = replace(FLOW, kept=True)
BLOCKS, SIZE = 6, 64


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(i) for i in range(count)]


def by_blocks(top: FlowTop, noisy: torch.Tensor, past: torch.Tensor, level: float) -> torch.Tensor:
    """Velocities as the sampler meets them: a block after the other, each past kept."""
    seen, found = None, []
    for number in range(noisy.shape[1]):
        x = noisy[:, number]
        found.append(top.velocity(x, x.new_full((1, 1), level), past=seen))
        seen = top.remember_block(past[:, number], seen)
    return torch.stack(found, dim=1)


def at_once(
    top: FlowTop, noisy: torch.Tensor, past: torch.Tensor, level: float, mask: torch.Tensor
) -> torch.Tensor:
    b, blocks, block, _ = noisy.shape
    levels = torch.full((b, blocks, block), level)
    of_past = torch.full((b, blocks, block), KEPT.context_level)
    return top.after_blocks(past, of_past, mask=mask)(noisy, levels)


@torch.inference_mode()
def test_training_sees_what_the_sampler_sees() -> None:
    top = flow(config=KEPT)
    noisy, past = numbers(2, BLOCKS, 4, SIZE), numbers(2, BLOCKS, 4, SIZE, seed=1)
    mask = torch.ones(2, BLOCKS * 4, dtype=torch.bool)
    expected = by_blocks(top, noisy, past, 0.7)
    torch.testing.assert_close(at_once(top, noisy, past, 0.7, mask), expected)


@torch.inference_mode()
def test_a_padded_frame_is_seen_by_no_other() -> None:
    top, mask = flow(config=KEPT), torch.arange(BLOCKS * 4)[None] < 10
    noisy, past = numbers(1, BLOCKS, 4, SIZE), numbers(1, BLOCKS, 4, SIZE, seed=1)
    other, other_past = noisy.clone(), past.clone()
    for x in (other, other_past):
        x.view(1, -1, SIZE)[:, 10:] = 99
    before = at_once(top, noisy, past, 0.7, mask).view(1, -1, SIZE)
    after = at_once(top, other, other_past, 0.7, mask).view(1, -1, SIZE)
    assert torch.equal(before[:, :10], after[:, :10])
    assert not torch.equal(before[:, 10:], after[:, 10:])


@torch.inference_mode()
def test_a_block_sees_the_window_and_what_its_past_saw_but_no_later_block() -> None:
    top = flow(config=KEPT)
    noisy, past = numbers(1, BLOCKS, 4, SIZE), numbers(1, BLOCKS, 4, SIZE, seed=1)
    mask = torch.ones(1, BLOCKS * 4, dtype=torch.bool)
    before = at_once(top, noisy, past, 0.7, mask)
    for changed in range(BLOCKS):
        other = past.clone()
        other[:, changed] += 1
        after = at_once(top, noisy, other, 0.7, mask)
        assert torch.equal(after[:, : changed + 1], before[:, : changed + 1])
        for later in range(changed + 1, min(changed + 4, BLOCKS)):
            assert not torch.equal(after[:, later], before[:, later])


def test_a_block_costs_its_passes_and_one_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and values of the past are computed once: no pass ever sees more than a block."""
    top = flow(config=replace(KEPT, sampling_steps=2, first_steps=4))
    passes: list[tuple[int, int | str]] = []
    features, steady = FlowTop.features, SteadyBlock.__call__

    def counted(self: FlowTop, frames: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        past = kwargs.get("past")
        seen = 0 if past is None else past[0][0].shape[2] // KEPT.patches
        passes.append((frames.shape[1], seen))
        return features(self, frames, *args, **kwargs)

    def counted_steady(self: SteadyBlock, x: torch.Tensor, level: float) -> torch.Tensor:
        passes.append((x.shape[1], "steady"))
        return steady(self, x, level)

    monkeypatch.setattr(FlowTop, "features", counted)
    monkeypatch.setattr(SteadyBlock, "__call__", counted_steady)
    list(top.sample(Rollout(24), generators(1)))
    assert {frames for frames, _ in passes} == {KEPT.block}
    # Four of the first block; two of each later one, until the window is full with one before them
    # for the keys and values of the block that was done, then the first together with it.
    growing = [0, 4, 4, 4, 8, 8, 8, 12, 12]
    assert [seen for _, seen in passes] == [0, 0, 0, 0, *growing, *["steady"] * 4]


@torch.inference_mode()
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    "changes",
    [{}, {"patch": 0}, {"local_width": 0}, {"latent_shape": (2, 5, 3)}, {"window": 4, "block": 1}],
    ids=str,
)
def test_steady_passes_are_what_the_network_does_in_one_more(
    changes: dict[str, Any], count: int
) -> None:
    config = replace(KEPT, **changes)
    top, seen = flow(config=config), None
    size = math.prod(config.latent_shape)
    *before, newest, x = numbers(config.reach // config.block + 2, count, config.block, size)
    for block in before:
        seen = top.remember_block(block, seen)
    assert seen is not None
    block, expected = SteadyPasses(top).after(newest, seen), top.remember_block(newest, seen)
    found = []
    for level in top.sampling_levels(config.sampling_steps)[:-1]:
        found.append(block(x, level))
        wanted = top.velocity(x, torch.full((1, 1), level), past=expected)
        torch.testing.assert_close(found[-1], wanted, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(block.past, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found[0], found[1], atol=1e-3)


@torch.inference_mode()
@pytest.mark.parametrize("context", [0, 8, 12, 30])
def test_a_video_is_made_of_blocks_that_follow_each_other(context: int) -> None:
    """The sampler written plainly, each block's keys and values by a pass of their own."""
    top = flow(config=replace(KEPT, renewed=True, sampling_steps=2))
    known = numbers(2, context, *FLOW.latent_shape) if context else None
    video = torch.cat(list(top.sample(Rollout(24, past=known), generators(2))), dim=1)
    blocks = (
        [] if known is None else list(top.standardise(known[:, -min(context, 12) :]).split(4, 1))
    )
    seen, drawn = None, generators(2)
    for block in blocks[: context // 4]:
        seen = top.remember_block(block, seen)

    def noise() -> torch.Tensor:
        e = torch.stack([torch.randn(5, SIZE, generator=g) for g in drawn])
        return top.mixed(e[:, :1], e[:, 1:])

    made = []
    for _ in range(6):
        x = noise()
        levels = top.sampling_levels(2 if seen else 4)
        for u, following in pairwise(levels):
            x = x + u * top.velocity(x, x.new_full((1, 1), u), past=seen)
            x = (1 - following) * x + following * noise() if following else x
        made.append(x)
        seen = top.remember_block(x, seen)
    torch.testing.assert_close(video, top.restore(torch.cat(made, 1)), rtol=1e-3, atol=1e-3)


@torch.inference_mode()
def test_distances_make_up_for_places_in_the_mean() -> None:
    top, latents = flow(), numbers(64, FLOW.window, *FLOW.latent_shape)
    kept = keep_past(top, latents)
    assert kept.config == KEPT
    past = top.standardise(latents)[:, :12]
    seen = None
    for block in past.split(4, dim=1):
        seen = kept.remember_block(block, seen)
    assert seen is not None
    for layer, have, want in zip(kept.layers, seen, top.remember_window(past), strict=True):
        at_distance = layer._at_distance(have, FLOW.patches)
        for one, other in zip(at_distance, want, strict=True):
            mean, other_mean = (x.unflatten(2, (12, 4)).mean((0, 3)) for x in (one, other))
            torch.testing.assert_close(mean, other_mean, rtol=1e-4, atol=1e-4)
    x, level = numbers(64, 4, SIZE), torch.full((1, 1), 0.7)
    wanted = top.velocity(x, level, past=top.remember_window(past))
    error = (kept.velocity(x, level, past=seen) - wanted).square().mean()
    for layer in kept.layers:
        layer.distance.zero_()
    without = (kept.velocity(x, level, past=seen) - wanted).square().mean()
    assert error < without / 10


@pytest.mark.parametrize("masked", [True, False])
def test_written_attention_is_torchs_own(masked: bool) -> None:
    mask = numbers(3, 1, 4, 12) > -0.5 if masked else None
    both = []
    for attend in (attention, F.scaled_dot_product_attention):
        shapes = ((3, 2, 4, 8), (3, 2, 12, 8), (3, 2, 12, 8))
        parts = [numbers(*shape, seed=i).bfloat16() for i, shape in enumerate(shapes)]
        out = attend(*(part.requires_grad_() for part in parts), mask)
        out.backward(numbers(*out.shape, seed=9).bfloat16())
        both.append([out.detach(), *(part.grad for part in parts)])
    for written, own in zip(*both, strict=True):
        torch.testing.assert_close(written, own, rtol=0.05, atol=0.02)


def test_only_a_flow_that_does_not_keep_its_past_is_made_one_that_does() -> None:
    with pytest.raises(ValueError, match="kept True, windows of 16 frames: expected"):
        keep_past(flow(config=KEPT), numbers(2, 16, *FLOW.latent_shape))
    with pytest.raises(ValueError, match="kept False, windows of 12 frames: expected"):
        keep_past(flow(), numbers(2, 12, *FLOW.latent_shape))


@torch.inference_mode()
@pytest.mark.parametrize("block", [1, 2, 8])
def test_with_other_blocks_a_flow_knows_what_it_knew_of_places_and_distances(block: int) -> None:
    top = flow(config=KEPT)
    for layer in top.layers:
        layer.distance.normal_(generator=torch.Generator().manual_seed(3))
    made = with_block(top, block)
    assert made.config == replace(KEPT, block=block, shared_noise=KEPT.shared_noise * (block > 1))
    alike, reach = min(block, 4), min(12, made.config.reach)
    x, level = numbers(2, alike, SIZE), torch.full((1, 1), 0.7)
    torch.testing.assert_close(made.velocity(x, level), top.velocity(x, level))
    seen = None
    for part in numbers(2, 12, SIZE, seed=1).split(4, dim=1):
        seen = top.remember_block(part, seen)
    assert seen is not None
    newest = [tuple(y[:, :, -reach * KEPT.patches :] for y in layer) for layer in seen]
    wanted = top.velocity(x, level, past=newest)
    assert not torch.allclose(wanted, top.velocity(x, level))
    torch.testing.assert_close(made.velocity(x, level, past=newest), wanted)
    for old, new in zip(top.layers, made.layers, strict=True):
        further = new.distance[:, :, : made.config.reach - reach]
        torch.testing.assert_close(further, old.distance[:, :, :1].expand_as(further))
    assert with_block(top, KEPT.block) is top
    with pytest.raises(ValueError, match="expected a flow that keeps its past"):
        with_block(flow(), block)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_renewed_passes_sample_a_gaussian_whose_answer_is_known(
    monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """Data of N(m, s^2): a path of the flow leads from x at level u to m + (x - (1 - u) m) s / r.

    r^2 = (1 - u)^2 s^2 + u^2 is the variance at u.
    """
    m, s = 0.7, 0.3
    config = replace(KEPT, renewed=True, first_steps=steps, shared_noise=0.0)

    def velocity(self: FlowTop, x: torch.Tensor, level: torch.Tensor, **_: Any) -> torch.Tensor:
        u = level.item()
        spread = ((1 - u) ** 2 * s**2 + u**2) ** 0.5
        return (m + (x - (1 - u) * m) * s / spread - x) / u

    monkeypatch.setattr(FlowTop, "velocity", velocity)
    top = FlowTop(config)
    made = torch.cat(list(top.sample(Rollout(4), generators(200)))).flatten()
    assert made.mean().item() == pytest.approx(m, abs=0.01)
    assert made.std().item() == pytest.approx(s, abs=0.01)


def test_a_renewed_pass_from_noise_is_one_step_of_the_flow() -> None:
    one = replace(KEPT, first_steps=1, sampling_steps=1)
    videos = [
        torch.cat(list(flow(config=config).sample(Rollout(12), generators(2))), dim=1)
        for config in (one, replace(one, renewed=True))
    ]
    torch.testing.assert_close(*videos)


def test_the_loss_of_a_still_network_by_hand() -> None:
    """Velocity zero and latents at their mean: what is left is the mean of |e|^2, all counted."""
    top = FlowTop(KEPT)
    values, mask = top.latent_mean.expand(64, 16, *FLOW.latent_shape), torch.ones(64, 16) > 0
    drawn = Noise(3)
    shared, own = drawn.normal(64, 4, 1, SIZE), drawn.normal(64, 4, 4, SIZE)
    e = 0.75**0.5 * shared + 0.5 * own
    loss, logs = velocity_loss(top, values, mask, noise=Noise(3))
    assert loss.item() == pytest.approx(e.square().mean().item(), rel=1e-5)
    assert logs["velocity"].item() == pytest.approx(loss.item())
