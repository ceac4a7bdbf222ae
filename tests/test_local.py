"""The convolutions around the transformer: what a cell sees, and what changes nothing."""

from __future__ import annotations

import pytest
import torch
from tiny_models import FLOW, flow

from ldf_video.models.flow_layers import LocalPath
from ldf_video.models.flow_loss import velocity_loss
from ldf_video.models.game import Noise

SHAPE = (4, 5, 3)
LEVEL_WIDTH = 16


def path(*, shaken: bool = True) -> LocalPath:
    torch.manual_seed(0)
    made = LocalPath(SHAPE, (2, 2), token_width=LEVEL_WIDTH, width=8, depth=2)
    if shaken:
        for parameter in made.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return made.double()


def through(path: LocalPath, grids: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
    """Tokens beside velocities, each frame's numbers in a row: (B, T, numbers)."""
    features, added = path.encode(grids, level)
    tokens = torch.tanh(added)
    return torch.cat([added.flatten(2), path.decode(features, tokens, level).flatten(2)], dim=2)


def inputs(b: int = 2, t: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    grids = torch.randn(b, t, *SHAPE, generator=generator, dtype=torch.float64)
    return grids, torch.randn(b, t, LEVEL_WIDTH, generator=generator, dtype=torch.float64)


def test_shapes_and_nothing_at_initialisation() -> None:
    grids, level = inputs()
    features, added = path(shaken=False).encode(grids, level)
    assert features.shape == (6, 8, 5, 3)
    assert added.shape == (2, 3, 6, LEVEL_WIDTH)  # 3 x 2 patches, the last ones filled up
    assert not added.any()
    velocities = path(shaken=False).decode(features, torch.randn(added.shape).double(), level)
    assert velocities.shape == grids.shape
    assert not velocities.any()


def test_a_frame_sees_itself_alone() -> None:
    made, (grids, level) = path(), inputs()
    before = through(made, grids, level)
    grids[0, 1, 2, 4, 2] += 1
    level[1, 2] += 1
    changed = (before != through(made, grids, level)).any(2)
    assert changed.tolist() == [[False, True, False], [False, False, True]]


def test_a_cell_sees_its_neighbours_in_other_patches() -> None:
    made, (grids, level) = path(), inputs(1, 1)
    before, _ = made.encode(grids, level)
    grids[..., 1, 1] += 1  # of the first patch
    after, _ = made.encode(grids, level)
    moved = (before - after).abs().amax(1)[0]
    assert moved[2, 2] > 0.1  # across both borders of the patch
    assert moved[2, 2] > 3 * moved[4, 2]  # farther away it shows in the norm alone


def test_one_level_for_all_frames() -> None:
    made, (grids, _) = path(), inputs()
    level = torch.randn(1, 1, LEVEL_WIDTH, dtype=torch.float64)
    torch.testing.assert_close(
        through(made, grids, level), through(made, grids, level.expand(2, 3, -1))
    )


def test_every_weight_learns() -> None:
    made, (grids, level) = path(), inputs()
    through(made, grids, level).square().sum().backward()
    still = [name for name, p in made.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


@pytest.mark.parametrize("name", ["local.stem.weight", "local.head.weight"])
def test_the_flow_goes_through_it(name: str) -> None:
    top = flow()
    latents, mask = torch.randn(2, FLOW.window, *FLOW.latent_shape), torch.ones(2, FLOW.window) > 0
    velocity_loss(top, latents, mask, noise=Noise(0))[0].backward()
    assert top.get_parameter(name).grad.abs().max() > 1e-6
