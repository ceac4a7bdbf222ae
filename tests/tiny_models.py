"""Models small enough for tests, and checkpoints of them that fit together."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ldf_video.models.ali import AliConfig, AliGame, AliGameConfig, AliModel
from ldf_video.models.few import FewConfig, FewGame, student_config
from ldf_video.models.flow import FlowTop
from ldf_video.models.flow_config import FlowConfig
from ldf_video.models.game import Noise, Part, Tick
from ldf_video.models.gan import GanConfig
from ldf_video.models.grid import GridConfig, GridGame, GridGameConfig, GridModel
from ldf_video.models.mlp import MlpConfig, MlpGame, MlpTop
from ldf_video.models.rolled import RolledConfig, RolledGame
from ldf_video.training import checkpoints
from ldf_video.video.geometry import Geometry

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from ldf_video.models.frame import FrameModel
    from ldf_video.models.game import Game
    from ldf_video.models.top import TopModel

FRAME = GridConfig(stride=8, base_width=8, critic_width=8, depth=1)
FLOW = FlowConfig(
    latent_shape=(4, 4, 4),
    patch=2,
    width=32,
    depth=2,
    heads=2,
    local_width=8,
    local_depth=1,
    sampling_steps=3,
    first_steps=4,
)
FEW = FewConfig(game_start=0.0, depths=(0,), first_depths=(0,), first_steps=2, teacher_steps=3)
ALI = AliConfig(latent_channels=8, base_width=4)
MLP = MlpConfig(latent_shape=(4, 4, 4), noise_size=16, width=32)


def tick(
    game: Game, seed: int = 0, *, step: int = 0, progress: float = 0.0, part: Part | None = None
) -> Tick:
    """The place and chance of an update of a game."""
    return Tick(progress, Noise(seed, part), game.kind(step, progress))


def frame_model(seed: int = 0, config: GridConfig = FRAME) -> GridModel:
    """A frame model of which no part is the identity or zero, as after some training."""
    return _shaken(lambda: GridModel(config), seed)


def frame_game(seed: int = 0, **changes: Any) -> GridGame:
    """A whole game of two players with every weight and every term at work."""
    settings = {"game_start": 0.0, **changes}
    return _shaken(lambda: GridGame(GridModel(FRAME), GridGameConfig(**settings)), seed)


def rolled_game(**changes: Any) -> RolledGame:
    """The game in which G learns to decode at once, with a teacher."""
    model = frame_model(config=replace(FRAME, refines=False))
    settings = {"game_start": 0.0, **changes}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = RolledGame(model, RolledConfig(**settings))
    made.teach()
    return made


def ali_model(seed: int = 0, config: AliConfig = ALI) -> AliModel:
    """The paper's frame model, small."""
    return _shaken(lambda: AliModel(config), seed)


def ali_game(seed: int = 0, config: AliConfig = ALI, **changes: Any) -> AliGame:
    """The paper's game, small, with every weight at work."""
    return _shaken(lambda: AliGame(AliModel(config), AliGameConfig(**changes)), seed)


def flow(seed: int = 0, config: FlowConfig = FLOW) -> FlowTop:
    """A flow whose velocities are not zero, with statistics that are not the standard ones."""
    return _with_statistics(_shaken(lambda: FlowTop(config), seed), seed)


def few_game(config: FewConfig = FEW) -> FewGame:
    """A game of a student that is not its teacher, and of a critic that can tell."""
    teacher = flow(config=replace(FLOW, kept=True))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        game = FewGame(FlowTop(student_config(teacher.config, config)), config)
        game.teach(teacher)
        with torch.no_grad():
            for network in (game.model, game.critic):
                for weight in network.parameters():
                    weight.add_(0.05 * torch.randn_like(weight))
    return game


def mlp(seed: int = 0, config: MlpConfig = MLP) -> MlpTop:
    """The paper's top model, small, with statistics that are not the standard ones."""
    return _with_statistics(_shaken(lambda: MlpTop(config), seed), seed)


def mlp_game(seed: int = 0, config: MlpConfig = MLP, **changes: Any) -> MlpGame:
    """The paper's game of the upper level, small."""
    top = mlp(seed, config)
    return _shaken(lambda: MlpGame(top, GanConfig(**changes)), seed)


def _with_statistics(top: Any, seed: int) -> Any:
    numbers = torch.Generator().manual_seed(seed)
    shape = top.config.latent_shape
    top.set_statistics(
        torch.randn(shape, generator=numbers), 0.5 + torch.rand(shape, generator=numbers)
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


def save_frame(
    directory: Path, *, seed: int = 0, fps: str | None = None, config: GridConfig = FRAME
) -> Path:
    """Write a finished frame model."""
    model = frame_model(seed, config)
    checkpoints.save_config(directory, frame_config(model, fps=fps))
    checkpoints.save_weights(directory, model.state_dict())
    return directory


def save_top(
    directory: Path,
    frame: Path,
    *,
    seed: int = 0,
    kind: str = "flow",
    window: int = MLP.window,
    config: FlowConfig = FLOW,
) -> Path:
    """Write a finished top model that learned the latents of the frame model at `frame`.

    `window` is an mlp's, `config` a flow's.
    """
    top: TopModel = mlp(seed, replace(MLP, window=window)) if kind == "mlp" else flow(seed, config)
    settings = {
        "kind": "top",
        "model": {"kind": kind, **asdict(top.config)},
        "fps": "12",
        "frame_model": {"fingerprint": checkpoints.fingerprint_of(frame), "path": str(frame)},
        "options": {},
    }
    checkpoints.save_config(directory, settings)
    checkpoints.save_weights(directory, top.state_dict())
    return directory


def save_pair(root: Path, *, seed: int = 0, kind: str = "flow") -> Path:
    """Write `frame/` and `top/` under `root`, as commands look for them."""
    save_top(root / "top", save_frame(root / "frame", seed=seed), seed=seed, kind=kind)
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


def save_shipped(root: Path) -> dict[str, Path]:
    """Two frame models, the first with a top model, by the names of shipped ones."""
    return {
        "pacman-32": save_pair(root / "pacman-32"),
        "film-64": save_frame(root / "film-64" / "frame", seed=1).parent,
    }
