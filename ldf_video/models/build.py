"""Models and games from what a config.json says: the one list of presets and kinds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ldf_video.models.ali import AliConfig, AliModel
from ldf_video.models.ali_game import AliGame, AliGameConfig
from ldf_video.models.flow import FlowConfig, FlowGame, FlowTop
from ldf_video.models.frame import FrameGame, FrameModel
from ldf_video.models.game import Game
from ldf_video.models.gan import GanConfig
from ldf_video.models.grid import CHANNELS_AT, GridConfig, GridModel, stride_of
from ldf_video.models.grid_game import GridGame, GridGameConfig
from ldf_video.models.mlp import MlpConfig, MlpGame, MlpTop
from ldf_video.models.top import TopModel

Settings = dict[str, Any]

PRESETS = ("default", "paper")
KINDS = ("flow", "mlp")


def frame_settings(preset: str, *, height: int, width: int) -> tuple[Settings, Settings]:
    """The "model" and "game" of a fresh frame model's config.

    Raises:
        ValueError: the networks cannot have that size.
    """
    if preset == "paper":
        model = asdict(AliConfig(height=height, width=width))
        return {"preset": "paper", **model}, asdict(AliGameConfig())
    stride = stride_of(height, width)
    grid = GridConfig(height, width, stride=stride, latent_channels=CHANNELS_AT[stride])
    return asdict(grid), asdict(GridGameConfig())


def frame_model(model: Mapping[str, Any]) -> FrameModel:
    """The networks of a frame model, freshly initialised; without a "preset" the default ones.

    Raises:
        ValueError: there is no such preset, or no such size.
        TypeError: a setting is unknown or of another type.
    """
    preset, settings = _kind_of(model, "preset", PRESETS)
    if preset == "paper":
        return AliModel(AliConfig(**settings))
    # The first models' configs name no stride: it was 8.
    return GridModel(GridConfig(**{"stride": 8, **settings}))


def frame_game(model: Mapping[str, Any], game: Mapping[str, Any]) -> FrameGame:
    """A fresh frame model with its discriminator, initialised from torch's global generator."""
    networks = frame_model(model)
    if isinstance(networks, AliModel):
        return AliGame(networks, AliGameConfig(**game))
    assert isinstance(networks, GridModel)
    return GridGame(networks, GridGameConfig(**game))


def top_settings(
    kind: str, *, latent_shape: tuple[int, int, int], window: int, block: int
) -> tuple[Settings, Settings]:
    """The "model" and "game" of a fresh top model's config; `block` is the flow's."""
    if kind == "mlp":
        mlp = MlpConfig(latent_shape=latent_shape, window=window)
        return {"kind": "mlp", **asdict(mlp)}, asdict(GanConfig())
    flow = FlowConfig(latent_shape=latent_shape, window=window, block=block)
    return {"kind": "flow", **asdict(flow)}, {}


def top_model(model: Mapping[str, Any]) -> TopModel:
    """The networks of a top model, freshly initialised.

    Raises:
        ValueError: there is no such kind, or no such shape.
        TypeError: a setting is unknown or of another type.
    """
    kind, settings = _kind_of(model, "kind", KINDS)
    if kind == "mlp":
        return MlpTop(MlpConfig(**settings))
    return FlowTop(FlowConfig(**settings))


def top_game(top: TopModel, game: Mapping[str, Any]) -> Game:
    """A top model's game, with a fresh discriminator where there is one."""
    if isinstance(top, MlpTop):
        return MlpGame(top, GanConfig(**game))
    assert isinstance(top, FlowTop)
    return FlowGame(top)


def _kind_of(model: Mapping[str, Any], key: str, known: tuple[str, ...]) -> tuple[str, Settings]:
    settings = dict(model)
    kind = settings.pop(key, known[0])
    if kind not in known:
        raise ValueError(f"{key} {kind!r}: expected {' or '.join(known)}")
    return kind, settings
