"""The paper's frame model (`--preset paper`), one vector of latents a frame, and its game.

Adversarially learned inference (ALI, Dumoulin et al. 2017, arXiv:1606.00704, table 5, CIFAR-10):
all convolutions without padding, so that 32 x 32 pixels end in one cell. Larger frames end in a
wider last kernel; 16 x 16 pixels, which may be patches of images, have one halving less. Left out
is ALI's dropout in D: Roth's penalty does its work.

The game is ALI's by binary cross-entropy, the paper's for one pair of levels (section 2.2), with
reconstruction and the shortcut reconstruction through E's last hidden layer (section 3.1), and
Roth's penalty over both inputs of D.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from ldf_video.models.frame import FrameConfig, FrameGame, FrameModel, every
from ldf_video.models.game import Logs, Noise, Player, Tick
from ldf_video.models.gan import GanConfig, Turn
from ldf_video.models.layers import BatchNorm, Stack, recompute_statistics
from ldf_video.models.losses import RunningMoments, binary_loss


@dataclass(frozen=True)
class AliConfig(FrameConfig):
    """Shape of the paper's frame model.

    Attributes:
        height: a multiple of 8 from 24 on; or both are 16.
        width: likewise.
        latent_channels: length of a frame's vector of latents.
        base_width: channels of the first layer; ALI's are 32.
    """

    latent_channels: int = 64
    base_width: int = 32

    def __post_init__(self) -> None:
        if self.is_small:
            return
        if self.height % 8 or self.width % 8 or min(self.height, self.width) < 24:
            raise ValueError(
                f"frame size {self.width}x{self.height}: the paper's networks expect 16x16 or "
                "multiples of 8 from 24 on"
            )

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        return (self.latent_channels, 1, 1)

    @property
    def is_small(self) -> bool:
        """Whether frames are 16 x 16, and are halved once."""
        return self.height == self.width == 16

    @property
    def last_kernel(self) -> tuple[int, int]:
        """What 5/1, 4/2, 4/1 and 4/2 leave of a frame: 4 x 4 of 32 x 32; 2 x 2 of 16 x 16."""
        return (2, 2) if self.is_small else (self.height // 4 - 4, self.width // 4 - 4)

    @property
    def last_width(self) -> int:
        """Channels of what they leave."""
        return (4 if self.is_small else 8) * self.base_width


class AliEncoder(nn.Module):
    """E: frames (B, 3, H, W) in [-1, 1] -> means of Gaussian latents (B, C, 1, 1)."""

    def __init__(self, config: AliConfig) -> None:
        super().__init__()
        w = config.base_width
        self.trunk = Stack(*_to_a_cell(_conv, config), _conv(16 * w, 16 * w, 1))
        self.head = nn.Conv2d(16 * w, 2 * config.latent_channels, 1)
        initialise(self)

    def gaussian(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latents, each (B, C, 1, 1), of the trunk's output."""
        mean, log_std = self.head(hidden).float().chunk(2, dim=1)
        return mean, log_std.clamp(-8, 2).exp()

    def forward(self, x: Tensor) -> Tensor:
        return self.gaussian(self.trunk(x))[0]


class AliGenerator(nn.Module):
    """G: latents (B, C, 1, 1) -> frames (B, 3, H, W), about [-1, 1], not clamped."""

    def __init__(self, config: AliConfig) -> None:
        super().__init__()
        w = config.base_width
        self.stem = _deconv(config.latent_channels, config.last_width, config.last_kernel)
        doubling = [] if config.is_small else [_deconv(8 * w, 4 * w, 4, stride=2)]
        self.trunk = Stack(
            *doubling,
            _deconv(4 * w, 2 * w, 4),
            _deconv(2 * w, w, 4, stride=2),
            _deconv(w, w, 5),
            _conv(w, w, 1),
            nn.Conv2d(w, 3, 1),
        )
        initialise(self)

    def forward(self, z: Tensor) -> Tensor:
        return self.trunk(self.stem(z))


class FrameFeatures(nn.Module):
    """D(x): frames (B, 3, H, W) -> features (B, 16 * base_width). No normalisation."""

    def __init__(self, config: AliConfig) -> None:
        super().__init__()
        self.layers = Stack(*_to_a_cell(_Maxout, config))
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).flatten(1)


class AliDiscriminator(nn.Module):
    """D: a pair (frame, latent) -> logit (B,), high for the inferred pair (x, E(x))."""

    def __init__(self, config: AliConfig) -> None:
        super().__init__()
        w = 16 * config.base_width
        self.of_frame = FrameFeatures(config)
        self.of_latent = nn.Sequential(
            nn.Flatten(), _linear(config.latent_channels, w), _linear(w, w)
        )
        head = nn.Linear(2 * w, 1)
        self.joint = nn.Sequential(_linear(2 * w, 2 * w), _linear(2 * w, 2 * w), head)
        initialise(self)
        nn.init.zeros_(head.weight)  # D begins undecided, and Roth's penalty at 0

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return self.joint(torch.cat([self.of_frame(x), self.of_latent(z)], dim=1)).squeeze(1)


class AliModel(FrameModel):
    config: AliConfig
    encoder: AliEncoder
    generator: AliGenerator

    def __init__(self, config: AliConfig) -> None:
        super().__init__(config, AliEncoder(config), AliGenerator(config))


def _conv(
    inputs: int,
    outputs: int,
    kernel: int | tuple[int, int],
    *,
    stride: int = 1,
    layer: type[nn.Conv2d] | type[nn.ConvTranspose2d] = nn.Conv2d,
) -> nn.Sequential:
    conv = layer(inputs, outputs, kernel, stride=stride, bias=False)
    return nn.Sequential(conv, BatchNorm(outputs), nn.LeakyReLU(0.1))


_deconv = partial(_conv, layer=nn.ConvTranspose2d)


class _Maxout(nn.Module):
    """A convolution, then the larger of each two channels (Goodfellow et al. 2013)."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int | tuple[int, int], *, stride: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, 2 * outputs, kernel, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.conv(x).chunk(2, dim=1)
        return torch.maximum(first, second)


def _to_a_cell(layer: Callable[..., nn.Module], config: AliConfig) -> list[nn.Module]:
    w = config.base_width
    halving = [] if config.is_small else [layer(4 * w, 8 * w, 4, stride=2)]
    return [
        layer(3, w, 5),
        layer(w, 2 * w, 4, stride=2),
        layer(2 * w, 4 * w, 4),
        *halving,
        layer(config.last_width, 16 * w, config.last_kernel),
    ]


def _linear(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.LeakyReLU(0.1))


def initialise(module: nn.Module) -> None:
    """Weights from N(0, 0.01^2) where batch norm follows (as ALI has it), He's elsewhere.

    Without batch norm 0.01 leaves nothing of the signal: there He et al. (2015), arXiv:1502.01852.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            if part.bias is None:
                nn.init.normal_(part.weight, std=0.01)
            else:
                nn.init.kaiming_normal_(part.weight, a=0.1)
                nn.init.zeros_(part.bias)


@dataclass(frozen=True)
class AliGameConfig(GanConfig):
    """Weights of the game, beside those of any by binary cross-entropy.

    Attributes:
        reconstruction: weight of |x - G(E(x))| + (x - G(E(x)))^2, means over pixels in [-1, 1].
        shortcut: weight of the same around z, through E's last hidden layer.
        shortcut_share: share of the batch on which the shortcut is computed.
        moments: weight of the distance of the latents' mean and covariance from those of the prior.
        least_std: standard deviation that E's Gaussian has at least, added to its own as
            independent noise is: reconstruction drives that to 0, and D then tells thin latents
            from N(0, I) at a glance.
        game: weight of the game itself; 0: an autoencoder, whose D neither plays nor takes time.
        deterministic: whether E's latents in the game are its means alone, whatever `least_std`.
    """

    reconstruction: float = 20.0
    shortcut: float = 20.0
    shortcut_share: float = 0.25
    moments: float = 0.5
    least_std: float = 0.2
    game: float = 1.0
    deterministic: bool = False


class AliGame(FrameGame):
    """E and G against D. E's latents are Gaussian in the game, unless its config says otherwise."""

    model: AliModel
    discriminator: AliDiscriminator

    def __init__(self, model: AliModel, config: AliGameConfig) -> None:
        super().__init__(model, AliDiscriminator(model.config), config)
        self.config = config
        c = model.config
        stem = _deconv(16 * c.base_width, c.last_width, c.last_kernel)
        self.shortcut = nn.ModuleDict({"stem": stem})
        initialise(self.shortcut)
        self.moments = RunningMoments(c.latent_channels)

    @property
    def players(self) -> Sequence[Player]:
        """D moves first; the shortcut's own layer is E's and G's."""
        E_G = [self.model, self.shortcut]
        return (
            Player("discriminator", [self.discriminator], self.discriminator_loss, adam=True),
            Player("encoder_generator", E_G, self.encoder_generator_loss),
        )

    def kind(self, step: int, progress: float) -> Turn:
        """What D does; it plays where the game has a weight."""
        return self.restraint.turn(plays=self.config.game > 0)

    def discriminator_loss(self, x: Tensor, tick: Tick) -> tuple[Tensor, Logs]:
        """What D minimises: softplus(-D(x, E(x))) + softplus(D(G(z), z)) + Roth's penalty.

        ALI (2017), section 2, by `binary_loss`; the paper's objective in section 2.2.
        """
        if not tick.kind.plays:
            return torch.zeros(()), {}
        with torch.no_grad():
            inferred, _ = self._infer(self.model.encoder.trunk(x), tick.noise)
            z = tick.noise.normal(*inferred.shape, device=x.device)
            generated = self.model.generator(z)
        real, fake = (x, inferred), (generated, z)
        return self.discriminate(self.discriminator, real=real, fake=fake, tick=tick)

    def encoder_generator_loss(self, x: Tensor, tick: Tick) -> tuple[Tensor, Logs]:
        """What E and G minimise: D's loss with the two kinds of pair exchanged, and more.

        Reconstruction and shortcut reconstruction (the paper, section 3.1), moments of the latents.
        """
        c, D, G = self.config, self.discriminator, self.model.generator
        hidden = self.model.encoder.trunk(x)
        inferred, std = self._infer(hidden, tick.noise)
        logs = {"latent_std": std.mean()}
        loss = torch.zeros((), device=x.device)
        if tick.kind.plays:
            z = tick.noise.normal(*inferred.shape, device=x.device)
            logs["encoder_generator"] = binary_loss(D(G(z), z), D(x, inferred))
            loss = loss + c.game * logs["encoder_generator"]
        if c.reconstruction:
            logs["pixels"] = self.pixel_loss(G(inferred), x)
            loss = loss + c.reconstruction * logs["pixels"]
        if c.shortcut:
            few, weight = every(len(x), c.shortcut_share, tick.noise.part)
            logs["shortcut"] = weight * self.pixel_loss(self.around(hidden[few]), x[few])
            loss = loss + c.shortcut * logs["shortcut"]
        logs["moments"] = self.moments(inferred)
        loss = loss + c.moments * logs["moments"]
        return loss, {name: value.detach() for name, value in logs.items()}

    def around(self, hidden: Tensor) -> Tensor:
        """Frames (B, 3, H, W) by the shortcut from E's trunk into G's, around the latents."""
        return self.model.generator.trunk(self.shortcut["stem"](hidden))

    def calibrate(self, model: AliModel, batch: Tensor) -> None:
        """Give averaged weights the batch statistics that they have themselves.

        G's are those of decoding latents of real frames, which is what it will be used for.
        """
        recompute_statistics(model.encoder, batch)
        with torch.no_grad():
            latents = model.encoder(batch)
        recompute_statistics(model.generator, latents)

    def _infer(self, hidden: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """A draw from E's Gaussian, and its standard deviation."""
        mean, std = self.model.encoder.gaussian(hidden)
        if self.config.deterministic:
            return mean, torch.zeros_like(std)
        std = (std.square() + self.config.least_std**2).sqrt()  # a thin one still has a gradient
        return mean + std * noise.normal(*mean.shape, device=mean.device), std
