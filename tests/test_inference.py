"""E as inference computes it agrees with E, and a latent depends on its frame alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ldf_video.models.grid import GridConfig, GridEncoder
from ldf_video.models.inference import GridInference


def encoder_of(**sizes: int | bool) -> GridEncoder:
    """E with every weight at random: at initialisation its blocks do nothing."""
    torch.manual_seed(0)
    encoder = GridEncoder(GridConfig(**sizes))
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.1)
    return encoder.eval()


@pytest.mark.parametrize(
    "sizes",
    [
        {"height": 32, "width": 32},
        {"height": 18, "width": 30, "linear": False},  # no multiples of a cell
        {"height": 24, "width": 16, "base_width": 64, "depth": 1},  # wide groups
        {"height": 32, "width": 24, "stride": 8, "latent_channels": 8, "base_width": 8},
    ],
)
def test_it_agrees_with_the_encoder_on_any_number_of_frames(sizes: dict[str, int]) -> None:
    encoder = encoder_of(**sizes)
    x = torch.rand(37, 3, sizes["height"], sizes["width"]) * 2 - 1
    with torch.inference_mode():
        expected = encoder(x)
        error = (GridInference(encoder)(x) - expected).abs().max()
    assert expected.std() > 0.05
    assert error < 1e-4 * expected.std()


def test_a_place_in_the_batch_changes_no_bit() -> None:
    inference = GridInference(encoder_of(height=64, width=64, base_width=8))
    x, order = torch.rand(70, 3, 64, 64) * 2 - 1, torch.randperm(70)  # in three parts of 24
    with torch.inference_mode():
        assert torch.equal(inference(x)[order], inference(x[order]))
