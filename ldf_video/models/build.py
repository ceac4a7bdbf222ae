"""Models and games from what a config.json says: the one list of presets and kinds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ldf_video.models.ali import AliConfig, AliGame, AliGameConfig, AliModel
from ldf_video.models.few import FewConfig, FewGame, student_config
from ldf_video.models.flow import FlowTop
from ldf_video.models.flow_config import FlowConfig
from ldf_video.models.flow_loss import FlowGame
from ldf_video.models.frame import FrameGame, FrameModel
from ldf_video.models.game import Game
from ldf_video.models.gan import GanConfig
from ldf_video.models.grid import GridConfig, GridGame, GridGameConfig, GridModel, stride_of
from ldf_video.models.mlp import MlpConfig, MlpGame, MlpTop
from ldf_video.models.rolled import RolledConfig, RolledGame
from ldf_video.models.top import TopModel

Settings = dict[str, Any]

OLD_GRID: Settings = {"stride": 8, "linear": False}
OLD_GRID_GAME: Settings = {"squared": 1.0}
OLD_FLOW: Settings = {"patch": 0, "shared_noise": 0.0, "local_width": 0, "level_shift": 1.0}
"""Values for keys that configs written before 2026-11-26 lack."""
REMOVED = ("shortcut", "shortcut_share")
"""Keys of a removed loss, ignored in old configs where its weight is 0."""
VECTORS: Settings = {"patch": 0, "width": 256, "depth": 5, "local_width": 0}
"""Shape of a flow for latents that are one vector a frame."""
LONGEST_PATCH = 128
"""Numbers in a patch at most: a token must hold more."""
PRESETS = ("default", "paper")
KINDS = ("flow", "mlp")


def preset_of(model: Mapping[str, Any]) -> str:
    """The preset of the "model" of a frame model's config; a ValueError where there is no such."""
    return _known(model, "preset", PRESETS)


def kind_of(model: Mapping[str, Any]) -> str:
    """The kind of the "model" of a top model's config; a ValueError where there is no such."""
    return _known(model, "kind", KINDS)


def _known(model: Mapping[str, Any], key: str, known: tuple[str, ...]) -> str:
    name: str = model.get(key, known[0])
    if name not in known:
        raise ValueError(f"{key} {name!r}: expected {' or '.join(known)}")
    return name


def frame_settings(
    preset: str,
    *,
    height: int,
    width: int,
    like: Mapping[str, Any] | None = None,
    base_width: int | None = None,
    latent_noise: float | None = None,
) -> tuple[Settings, Settings]:
    """The "model" and "game" of a fresh frame model's config, for frames of a size in pixels.

    Args:
        preset: one of PRESETS.
        height: of a frame.
        width: of a frame.
        like: the "model" of another config of this preset, whose shape is taken over but for the
            size; a linear map that it lacks is added, initialised to zero.
        base_width: of E and G, in place of the preset's own.
        latent_noise: of the game, likewise. The paper's preset has neither.

    Raises:
        ValueError: the networks cannot have that size.
    """
    shape = {**(like or {}), "height": height, "width": width}
    if preset == "paper":
        shape.pop("preset", None)
        return {"preset": "paper", **asdict(AliConfig(**shape))}, asdict(AliGameConfig())
    if like:
        shape = OLD_GRID | shape | {"linear": True, "refines": True, "hold": 0}
    else:
        stride = stride_of(height, width)
        shape |= {"stride": stride, "latent_channels": stride}
        shape |= {} if base_width is None else {"base_width": base_width}
    game: Settings = {} if latent_noise is None else {"latent_noise": latent_noise}
    return asdict(GridConfig(**shape)), asdict(GridGameConfig(**game))


def frame_model(model: Mapping[str, Any]) -> FrameModel:
    """The networks of a frame model, freshly initialised; without a "preset" the default ones.

    A ValueError or TypeError where no such model can be.
    """
    settings = {name: value for name, value in model.items() if name != "preset"}
    if preset_of(model) == "paper":
        return AliModel(AliConfig(**settings))
    return GridModel(GridConfig(**(OLD_GRID | settings)))


def frame_game(model: Mapping[str, Any], game: Mapping[str, Any]) -> FrameGame:
    """A fresh frame model with its discriminator, initialised from torch's global generator.

    A ValueError or TypeError as of `frame_model`, and for a weight of a removed loss.
    """
    networks = frame_model(model)
    if isinstance(networks, AliModel):
        return AliGame(networks, AliGameConfig(**game))
    assert isinstance(networks, GridModel)
    if not networks.config.refines:
        return RolledGame(networks, RolledConfig(**game))
    known = {k: v for k, v in game.items() if k not in REMOVED or game.get("shortcut")}
    return GridGame(networks, GridGameConfig(**(OLD_GRID_GAME | known if game else {})))


def top_settings(
    kind: str,
    *,
    latent_shape: tuple[int, int, int],
    window: int,
    block: int,
    like: Mapping[str, Any] | None = None,
) -> tuple[Settings, Settings]:
    """The "model" and "game" of a fresh top model's config.

    Args:
        kind: one of KINDS.
        latent_shape: of one frame, (channels, rows, columns).
        window: frames that the networks see at once.
        block: the flow's, frames.
        like: the "model" of another config of this kind, whose other settings are taken over.
    """
    shape = {**(like or {}), "latent_shape": latent_shape, "window": window}
    shape.pop("kind", None)
    if kind == "mlp":
        return {"kind": "mlp", **asdict(MlpConfig(**shape))}, asdict(GanConfig())
    shape["block"] = block
    if like:
        shape = _flow_settings(shape)
    elif latent_shape[1:] == (1, 1):
        shape |= VECTORS
    else:
        shape["patch"] = 4 if 16 * latent_shape[0] <= LONGEST_PATCH else 2
    return {"kind": "flow", **asdict(FlowConfig(**shape))}, {}


def few_settings(like: Mapping[str, Any]) -> tuple[Settings, Settings]:
    """The "model" and "game" of a flow's student, from the flow's own "model".

    Raises:
        ValueError: that is no flow, or one that was distilled already.
    """
    settings = {name: value for name, value in like.items() if name != "kind"}
    flow = FlowConfig(**_flow_settings(settings)) if kind_of(like) == "flow" else None
    if flow is None or flow.renewed:
        raise ValueError("expected a flow that takes many passes")
    few = FewConfig(teacher_first_steps=flow.first_steps, teacher_steps=flow.sampling_steps)
    return {"kind": "flow", **asdict(student_config(flow, few))}, {"few": asdict(few)}


def top_model(model: Mapping[str, Any]) -> TopModel:
    """The networks of a top model, freshly initialised; a ValueError or TypeError as above."""
    settings = {name: value for name, value in model.items() if name != "kind"}
    if kind_of(model) == "mlp":
        return MlpTop(MlpConfig(**settings))
    return FlowTop(FlowConfig(**_flow_settings(settings)))


def _flow_settings(settings: Settings) -> Settings:
    """A flow's settings, with those that old configs lack."""
    steps = settings.get("sampling_steps")
    return OLD_FLOW | ({} if steps is None else {"first_steps": steps}) | settings


def top_game(top: TopModel, game: Mapping[str, Any]) -> Game:
    """A top model's game, with a fresh discriminator where there is one."""
    if isinstance(top, MlpTop):
        return MlpGame(top, GanConfig(**game))
    assert isinstance(top, FlowTop)
    return FewGame(top, FewConfig(**game["few"])) if "few" in game else FlowGame(top)
