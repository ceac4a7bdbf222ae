"""The joint baseline: all frames at once as channels."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from joint_gan import JointConfig, JointGame, JointModel
from tiny_models import tick

from ldf_video.models.gan import GanConfig
from ldf_video.models.layers import BatchNorm

TINY = JointConfig(num_frames=3, noise_size=8, base_width=4)


def game(config: JointConfig = TINY) -> JointGame:
    torch.manual_seed(0)
    made = JointGame(JointModel(config), GanConfig())
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return made


def clips(count: int = 4) -> torch.Tensor:
    return torch.rand(count, 3, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_shapes_and_that_frames_are_channels() -> None:
    made = game()
    assert made.model(torch.randn(2, 8)).shape == (2, 3, 3, 32, 32)
    assert made.discriminator(clips(2)).shape == (2,)
    assert made.model.generator.trunk[-1].out_channels == 9
    assert made.discriminator.features.layers[0].conv.in_channels == 9
    # A frame is three channels next to each other: that is what D sees too.
    x = clips(1)
    torch.testing.assert_close(x.flatten(1, 2)[0, 3:6], x[0, 1])


def test_it_starts_undecided() -> None:
    torch.manual_seed(0)
    fresh = JointGame(JointModel(TINY), GanConfig())
    loss, logs = fresh.discriminator_loss(clips(), tick(fresh, step=0))
    assert loss.item() == pytest.approx(2 * math.log(2))
    assert logs["roth"].item() == 0
    assert fresh.generator_loss(clips(), tick(fresh))[0].item() == pytest.approx(math.log(2))


def test_calibrated_averages_give_what_batch_statistics_give() -> None:
    made = game()
    average = copy.deepcopy(made.model).eval()
    noise = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))  # what calibrates
    with torch.no_grad():
        stale = average(noise)
        made.calibrate(average, torch.zeros(64, 3, 3, 32, 32))
        calibrated, by_batch = average(noise), copy.deepcopy(average).train()(noise)
    assert not torch.allclose(calibrated, stale, rtol=0.1)
    assert (calibrated - by_batch).abs().max() < 0.1 * by_batch.std()
    assert sum(isinstance(part, BatchNorm) for part in average.modules()) == 6
