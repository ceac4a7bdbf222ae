"""The peer that the two levels are measured beside: `video-diffusion-pytorch`.

It is what people would take instead: a 3D U-Net that sees all frames of a clip at once, trained to
remove noise (Ho et al. 2022, arXiv:2204.03458). Its version is pinned and its code is as it comes:

    pip install --no-deps video-diffusion-pytorch==0.7.0 einops==0.8.2 einops-exts==0.0.4 \
      rotary-embedding-torch==0.9.1

MIT, like this project, of which it is no dependency. (`--no-deps` leaves out transformers and what
reads text, which no model here uses.) The package imports torchvision, for a reader of GIFs. Where
that is not there, an empty module stands for it: the wheel on PyPI is made for a CUDA build of
torch alone.

Network and loss are the package's. The training loop is ours, with the warm-up, cool-down and
averaged weights that the two levels have: its own wants a GPU and folders of GIFs. Its own sampler
takes 1,000 passes and no fewer, so `respaced` is ours.
"""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldf_video.errors import LdfError
from ldf_video.models.game import Game, Logs, Noise, Part, Player, Tick
from ldf_video.training.update import frame_indices
from ldf_video.video.sheet import write_sheet

Clips = NDArray[np.uint8]

PACKAGE, VERSION = "video-diffusion-pytorch", "0.7.0"
PASSES = 1000
"""Of its own sampler, and noise levels in training."""
SHOWN, SHOWN_PASSES = 8, 16
MEASURED_CLIPS = 64


@dataclass(frozen=True)
class PeerConfig:
    """Shape of the peer; what is not given is as the package has it.

    Attributes:
        dim: channels at full size.
        dim_mults: the same at each size below, as multiples.
        attn_heads: of each attention.
        attn_dim_head: channels of a head.
        num_frames: of a clip.
        size: of a frame in pixels.
    """

    dim: int = 64
    dim_mults: tuple[int, ...] = (1, 2, 4, 8)
    attn_heads: int = 8
    attn_dim_head: int = 32
    num_frames: int = 5
    size: int = 32


README = PeerConfig()
"""The model of its README, at the frames that a clip has."""
NARROW = PeerConfig(dim=32, dim_mults=(1, 2, 4), attn_heads=2, attn_dim_head=16)
"""One that a CPU can train: 2.3 million weights, fewer than the two levels have together.

Its cost at full width is the attention's, 8 heads of 32 channels whatever `dim` is.
"""


def make(config: PeerConfig) -> Any:
    """A fresh `GaussianDiffusion` around its `Unet3D`, on clips (B, 3, T, H, W) in [-1, 1].

    Raises:
        LdfError: the package is not installed.
    """
    package = _package()
    network = package.Unet3D(
        dim=config.dim,
        dim_mults=config.dim_mults,
        attn_heads=config.attn_heads,
        attn_dim_head=config.attn_dim_head,
    )
    for module in network.modules():  # one is shared, and safetensors keeps no tensor twice
        if getattr(module, "rotary_emb", None) is not None:
            module.rotary_emb = copy.deepcopy(module.rotary_emb)  # its frequencies never change
    return package.GaussianDiffusion(
        network, image_size=config.size, num_frames=config.num_frames, timesteps=PASSES
    )


def _package() -> Any:
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):  # not there, or made for another torch
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        reader = ModuleType("torchvision")
        reader.transforms = ModuleType("torchvision.transforms")  # type: ignore[attr-defined]
        reader.transforms.ToTensor = object
        reader.utils = ModuleType("torchvision.utils")  # type: ignore[attr-defined]
        sys.modules["torchvision"] = reader
    try:
        import video_diffusion_pytorch
    except ImportError as error:
        raise LdfError(
            f"{error}: the peer is not installed; the head of scripts/paper/diffusion_peer.py says "
            "what to type"
        ) from None
    return video_diffusion_pytorch


class PeerGame(Game):
    """A game of one player: the network guesses the noise."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    @property
    def players(self) -> Sequence[Player]:
        """The network alone."""
        return (Player("denoiser", [self.model], self._loss),)

    def _loss(self, clips: Tensor, tick: Tick) -> tuple[Tensor, Logs]:
        loss = noise_loss(self.model, clips, tick.noise)
        return loss, {"noise": loss.detach()}


def noise_loss(model: Any, clips: Tensor, noise: Noise) -> Tensor:
    """The package's own loss: L1 of the noise, at a random level."""
    levels = (noise.uniform(len(clips)) * model.num_timesteps).long()
    return model.p_losses(clips, levels, noise=noise.normal(*clips.shape))


class PeerLevel:
    """The peer as the training loop sees it: a game on whole clips."""

    score = "none"  # nothing is chosen by it

    def __init__(
        self, game: Game, clips: Clips, *, batch_size: int, seed: int, held_out: Clips | None = None
    ) -> None:
        """Args: the game; clips (N, T, H, W, 3) to learn from, and others to measure on."""
        self.game, self.clips, self.batch_size, self.seed = game, clips, batch_size, seed
        self._held_out = None if held_out is None else to_clips(held_out[:MEASURED_CLIPS])

    def batch(self, step: int, part: Part, device: torch.device) -> Tensor:
        """Random clips (B, 3, T, H, W) in [-1, 1]."""
        numbers = frame_indices(
            self.seed, step, num_frames=len(self.clips), batch_size=self.batch_size
        )
        return to_clips(self.clips[part.rows(numbers)]).to(device)

    def calibration(self, device: torch.device) -> None:
        """There are no batch statistics."""

    @torch.inference_mode()
    def evaluate(self, model: Any) -> Mapping[str, float]:
        """Its loss on held-out clips, always with the same noise."""
        if self._held_out is None:
            return {}
        parts = self._held_out.split(8)
        losses = [noise_loss(model, part, Noise(n)).item() for n, part in enumerate(parts)]
        return {"noise": float(np.mean(losses))}

    def describe(self, model: Any, values: Mapping[str, float]) -> str:
        """The same, in words."""
        del model
        return f"held-out clips: error of the noise {values['noise']:.3f}" if values else ""

    def draw(self, model: Any, path: Path) -> NDArray[np.uint8]:
        """Clips of few passes, a row each."""
        clips = respaced(model, SHOWN, passes=SHOWN_PASSES, seed=0)
        return write_sheet(path.with_suffix(".png"), list(clips), upscale=3)


def to_clips(pixels: Clips) -> Tensor:
    """Clips uint8 (N, T, H, W, 3) -> (N, 3, T, H, W) in [-1, 1]."""
    clips = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 4, 1, 2, 3)
    return clips.float().div(127.5).sub(1).contiguous()


def from_clips(clips: Tensor) -> Clips:
    """The way back, rounded."""
    levels = clips.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
    return levels.permute(0, 2, 3, 4, 1).contiguous().numpy()


# -- sampling --------------------------------------------------------------------------------------


@torch.inference_mode()
def respaced(model: Any, count: int, *, passes: int, seed: int, at_once: int = 8) -> Clips:
    """Clips (count, T, H, W, 3) by DDIM: Song et al. 2021, arXiv:2010.02502, eq. 12, sigma 0.

    The levels are `passes` of the 1,000, evenly spread from the noisiest to the cleanest. A guess
    of the data is clamped to [-1, 1], as the package's own sampler does. The first clips are those
    of a smaller count.
    """
    shape = (3, model.num_frames, model.image_size, model.image_size)
    levels = np.linspace(model.num_timesteps - 1, 0, passes).round().astype(int)
    noise, made = torch.Generator().manual_seed(seed), []
    for start in range(0, count, at_once):
        x = torch.randn((at_once, *shape), generator=noise)[: count - start]
        for here, there in zip(levels, (*levels[1:], None), strict=True):
            signal = float(model.alphas_cumprod[here])
            guess = model.denoise_fn(x, torch.full((len(x),), int(here)))
            data = ((x - math.sqrt(1 - signal) * guess) / math.sqrt(signal)).clamp(-1, 1)
            if there is None:
                x = data
                continue
            guess = (x - math.sqrt(signal) * data) / math.sqrt(1 - signal)
            signal = float(model.alphas_cumprod[there])
            x = math.sqrt(signal) * data + math.sqrt(1 - signal) * guess
        made.append(from_clips(x))
    return np.concatenate(made)
