"""Models small enough for tests, and checkpoints of them that fit together."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ldf_video.models.flow import FlowConfig, FlowTop
from ldf_video.models.frame import FrameModel
from ldf_video.models.grid import GridConfig, GridModel
from ldf_video.models.grid_game import GridGame, GridGameConfig, build_grid_game
from ldf_video.training import checkpoints
from ldf_video.video.geometry import Geometry

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

FRAME = GridConfig(base_width=8, critic_width=8, depth=1)
FLOW = FlowConfig(width=32, depth=2, heads=2, sampling_steps=3)


def frame_model(seed: int = 0, config: GridConfig = FRAME) -> FrameModel:
    """A frame model of which no part is the identity or zero, as after some training."""
    return _shaken(lambda: GridModel(config), seed)


def frame_game(seed: int = 0, **changes: Any) -> GridGame:
    """A whole game of two players with every weight at work."""
    return _shaken(lambda: build_grid_game(FRAME, GridGameConfig(**changes)), seed)


def flow(seed: int = 0, config: FlowConfig = FLOW) -> FlowTop:
    """A flow whose velocities are not zero, with statistics that are not the standard ones."""
    top = _shaken(lambda: FlowTop(config), seed)
    numbers = torch.Generator().manual_seed(seed)
    top.set_statistics(
        torch.randn(config.latent_shape, generator=numbers),
        0.5 + torch.rand(config.latent_shape, generator=numbers),
    )
    return top


def _shaken(make: Any, seed: int) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: nn.Module = make()
        with torch.no_grad():
            for weight in network.parameters():  # many start at zero and would prove nothing
                weight.add_(0.05 * torch.randn_like(weight))
    return network


def frame_config(model: FrameModel, *, fps: str | None = None) -> dict[str, Any]:
    """config.json of a frame model."""
    frames = {**Geometry(model.config.height, model.config.width).settings(), "fps": fps}
    return {"kind": "frame", "model": asdict(model.config), "frames": frames, "options": {}}


def save_frame(directory: Path, *, seed: int = 0, fps: str | None = None) -> Path:
    """Write a finished frame model."""
    model = frame_model(seed)
    checkpoints.save_config(directory, frame_config(model, fps=fps))
    checkpoints.save_weights(directory, model.state_dict())
    return directory


def save_top(directory: Path, frame: Path, *, seed: int = 0) -> Path:
    """Write a finished top model that learned the latents of the frame model at `frame`."""
    top = flow(seed)
    config = {
        "kind": "top",
        "model": {"kind": "flow", **asdict(top.config)},
        "fps": "12",
        "frame_model": {"fingerprint": checkpoints.fingerprint_of(frame), "path": str(frame)},
        "options": {},
    }
    checkpoints.save_config(directory, config)
    checkpoints.save_weights(directory, top.state_dict())
    return directory


def save_pair(root: Path, *, seed: int = 0) -> Path:
    """Write `frame/` and `top/` under `root`, as commands look for them."""
    save_top(root / "top", save_frame(root / "frame", seed=seed), seed=seed)
    return root


def make_frames(num_frames: int, *, seed: int = 0, side: int = 32) -> np.ndarray:
    """Frames uint8 (T, side, side, 3) of smooth colour that moves; no two clips are alike."""
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 256, (1, 4, 4, 3)).repeat(num_frames, 0).astype(np.int64)
    low += np.arange(num_frames)[:, None, None, None] * rng.integers(1, 9, (1, 4, 4, 3))
    return (low % 256).astype(np.uint8).repeat(side // 4, 1).repeat(side // 4, 2)


def write_array(path: Path, num_frames: int, *, seed: int = 0) -> Path:
    """Write a clip whose pixels come back exactly."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, make_frames(num_frames, seed=seed))
    return path
