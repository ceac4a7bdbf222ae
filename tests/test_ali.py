"""The paper's networks: ALI's table layer by layer, sizes, and that items do not see each other."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_models import ALI, ali_model
from torch import nn

from ldf_video.models.ali import (
    AliConfig,
    AliDiscriminator,
    AliEncoder,
    AliGenerator,
    AliModel,
    Shortcut,
)
from ldf_video.models.layers import BatchNorm


def layers_of(network: nn.Module) -> list[tuple[int, int, int, int]]:
    """(inputs, outputs, kernel, stride) of each convolution and linear layer, in order."""
    found = []
    for part in network.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            assert part.kernel_size[0] == part.kernel_size[1]
            found.append((part.in_channels, part.out_channels, part.kernel_size[0], part.stride[0]))
        elif isinstance(part, nn.Linear):
            found.append((part.in_features, part.out_features, 1, 1))
    return found


# ALI's table 5 (CIFAR-10), from the input on; E's last layer gives a mean and a spread of each of
# the 64 latents, and a maxout of two pieces has two convolutions in one.
ENCODER = [
    (3, 32, 5, 1),
    (32, 64, 4, 2),
    (64, 128, 4, 1),
    (128, 256, 4, 2),
    (256, 512, 4, 1),
    (512, 512, 1, 1),
    (512, 128, 1, 1),
]
GENERATOR = [
    (64, 256, 4, 1),
    (256, 128, 4, 2),
    (128, 64, 4, 1),
    (64, 32, 4, 2),
    (32, 32, 5, 1),
    (32, 32, 1, 1),
    (32, 3, 1, 1),
]
OF_FRAME = [
    (3, 2 * 32, 5, 1),
    (32, 2 * 64, 4, 2),
    (64, 2 * 128, 4, 1),
    (128, 2 * 256, 4, 2),
    (256, 2 * 512, 4, 1),
]
OF_LATENT = [(64, 512, 1, 1), (512, 512, 1, 1)]
JOINT = [(1024, 1024, 1, 1), (1024, 1024, 1, 1), (1024, 1, 1, 1)]


def numbers_in(layers: list[tuple[int, int, int, int]]) -> int:
    return sum(inputs * outputs * kernel**2 for inputs, outputs, kernel, _ in layers)


def test_the_layers_are_those_of_alis_table() -> None:
    config = AliConfig()
    E, G, D = AliEncoder(config), AliGenerator(config), AliDiscriminator(config)
    assert layers_of(E) == ENCODER
    assert layers_of(G) == GENERATOR
    assert layers_of(D.of_frame) == OF_FRAME
    assert layers_of(D.of_latent) == OF_LATENT
    assert layers_of(D.joint) == JOINT


def test_the_numbers_of_parameters_follow_from_the_table() -> None:
    E, D = AliEncoder(AliConfig()), AliDiscriminator(AliConfig())
    # A layer with batch norm has its scale and shift, another one its bias.
    normed, plain = 32 + 64 + 128 + 256 + 512 + 512, 128
    assert sum(p.numel() for p in E.parameters()) == numbers_in(ENCODER) + 2 * normed + plain
    biases = sum(outputs for _, outputs, _, _ in OF_FRAME + OF_LATENT + JOINT)
    assert sum(p.numel() for p in D.parameters()) == (
        numbers_in(OF_FRAME + OF_LATENT + JOINT) + biases
    )


def test_e_and_g_have_batch_norm_and_d_has_none() -> None:
    def norms(network: nn.Module) -> int:
        return sum(isinstance(part, BatchNorm) for part in network.modules())

    assert norms(AliEncoder(ALI)) == 6
    assert norms(AliGenerator(ALI)) == 6
    assert norms(AliDiscriminator(ALI)) == 0


@pytest.mark.parametrize(("height", "width"), [(32, 32), (24, 40), (64, 64)])
def test_shapes(height: int, width: int) -> None:
    config = replace(ALI, height=height, width=width)
    model, D, shortcut = AliModel(config), AliDiscriminator(config), Shortcut(config)
    x = torch.randn(2, 3, height, width)

    z = model.encoder(x)
    hidden = model.encoder.hidden(x)

    assert z.shape == (2, *config.latent_shape) == (2, 8, 1, 1)
    assert hidden.shape == (2, 16 * config.base_width, 1, 1)
    assert model.generator(z).shape == x.shape
    assert shortcut(hidden, model.generator).shape == x.shape
    assert D(x, z).shape == (2,)


@pytest.mark.parametrize(("height", "width"), [(16, 32), (32, 16), (36, 32), (32, 50), (0, 32)])
def test_sizes_that_the_networks_cannot_have_are_refused(height: int, width: int) -> None:
    with pytest.raises(ValueError, match=f"{height}x{width}: .* multiples of 8 from 24 on"):
        AliConfig(height=height, width=width)


def test_e_gives_the_mean_and_a_spread_that_is_positive_and_bounded() -> None:
    model = ali_model()
    hidden = 0.1 * model.encoder.hidden(torch.randn(4, 3, 32, 32))
    mean, std = model.encoder.gaussian(hidden)
    assert mean.shape == std.shape == (4, 8, 1, 1)
    assert torch.equal(mean, model.encoder.eval().gaussian(hidden)[0])
    raw = model.encoder.head(hidden)
    torch.testing.assert_close(mean, raw[:, :8])
    torch.testing.assert_close(std, raw[:, 8:].exp())
    with torch.no_grad():
        model.encoder.head.bias.add_(1e6)
    assert model.encoder.gaussian(hidden)[1].max() == torch.tensor(2.0).exp()
    with torch.no_grad():
        model.encoder.head.bias.sub_(2e6)
    assert model.encoder.gaussian(hidden)[1].min() == torch.tensor(-8.0).exp()


def test_a_frame_is_encoded_and_decoded_alone_once_training_is_over() -> None:
    model = ali_model().eval()
    x = torch.rand(5, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        z = model.encoder(x)
        others = torch.cat([x[2:3], -x])
        torch.testing.assert_close(model.encoder(others)[:1], z[2:3], rtol=1e-4, atol=1e-6)
        decoded = model.generator(z)
        torch.testing.assert_close(model.generator(z[4:]), decoded[4:], rtol=1e-4, atol=1e-6)
        assert not torch.allclose(z[0], z[1])
        model.train()
        assert not torch.allclose(model.encoder(others)[:1], z[2:3])  # batch statistics
    assert torch.equal(model.encoder(x), model.encoder(x))  # the mean: there is no chance in it


def test_d_sees_both_parts_of_a_pair_and_begins_undecided() -> None:
    D = AliDiscriminator(ALI)
    x, z = torch.randn(3, 3, 32, 32), torch.randn(3, *ALI.latent_shape)
    assert D(x, z).abs().max() == 0
    nn.init.ones_(D.joint[-1].weight)
    with torch.no_grad():
        logits = D(x, z)
        assert not torch.allclose(D(x.flip(0), z)[0], logits[0])
        assert not torch.allclose(D(x, z.flip(0))[0], logits[0])


def test_weights_start_as_said() -> None:
    torch.manual_seed(0)
    E = AliEncoder(AliConfig())
    weights = E.trunk[4][0].weight  # before batch norm
    assert weights.std().item() == pytest.approx(0.01, rel=0.02)
    D = AliDiscriminator(AliConfig())
    weights = D.of_latent[2][0].weight  # He's, for leaky ReLU of slope 0.1 after 512 inputs
    assert weights.std().item() == pytest.approx((2 / (1 + 0.1**2) / 512) ** 0.5, rel=0.02)
    assert all(p.abs().max() == 0 for name, p in D.named_parameters() if name.endswith("bias"))
