"""From what config.json says to networks: presets, kinds, and what older configs leave out."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from ldf_video.models import build
from ldf_video.models.ali import AliGame, AliModel
from ldf_video.models.flow import FlowTop
from ldf_video.models.flow_loss import FlowGame
from ldf_video.models.grid import GridGame, GridModel
from ldf_video.models.mlp import MlpGame, MlpTop


def through_json(settings: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(settings))


FRAMES = {"default": (GridModel, GridGame), "paper": (AliModel, AliGame)}
TOPS = {"flow": (FlowTop, FlowGame), "mlp": (MlpTop, MlpGame)}


def test_every_preset_and_kind_is_tested_here() -> None:
    assert set(FRAMES) == set(build.PRESETS)
    assert set(TOPS) == set(build.KINDS)


def games_of(build_game: Any, settings: tuple[dict[str, Any], dict[str, Any]]) -> list[Any]:
    """The same seed's, of settings and of what JSON makes of them; equal in all."""
    made = []
    for model, game in (settings, map(through_json, settings)):
        torch.manual_seed(3)
        made.append(build_game(model, game))
    assert made[0].model.config == made[1].model.config
    first, second = (game.state_dict() for game in made)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    return made


@pytest.mark.parametrize("preset", build.PRESETS)
def test_a_frame_models_settings_survive_json_and_build_the_same(preset: str) -> None:
    settings = build.frame_settings(preset, height=32, width=40)
    one, other = games_of(build.frame_game, settings)
    assert (type(one.model), type(one)) == FRAMES[preset]
    assert one.config == other.config == build.frame_game(settings[0], {}).config
    assert one.model.config.latent_shape == ((64, 1, 1) if preset == "paper" else (4, 8, 10))


@pytest.mark.parametrize("kind", build.KINDS)
def test_a_top_models_settings_survive_json_and_build_the_same(kind: str) -> None:
    settings = build.top_settings(kind, latent_shape=(4, 4, 4), window=8, block=2)
    assert settings[0]["kind"] == kind
    one, two = games_of(lambda model, game: build.top_game(build.top_model(model), game), settings)
    assert getattr(one, "config", None) == getattr(two, "config", None)
    assert (type(one.model), type(one)) == TOPS[kind]
    assert one.model.config.latent_shape == (4, 4, 4)
    assert one.model.config.window == 8


def test_a_config_without_a_preset_or_kind_is_the_default() -> None:
    model, game = build.frame_settings("default", height=32, width=32)
    assert "preset" not in model  # as shipped models have it: the fingerprint is of it
    assert isinstance(build.frame_model(model), GridModel)
    assert isinstance(build.frame_game(model, game), GridGame)
    top, _ = build.top_settings("flow", latent_shape=(4, 4, 4), window=8, block=2)
    del top["kind"]
    assert isinstance(build.top_model(top), FlowTop)
    assert isinstance(build.top_game(build.top_model(top), {}), FlowGame)


def test_a_game_of_before_keeps_its_loss() -> None:
    model, game = build.frame_settings("default", height=32, width=32)
    assert game.pop("squared") == 10
    assert model.pop("linear")
    del model["stride"]
    older = build.frame_game(model, game)
    assert not any(".linear." in name for name in older.model.state_dict())
    again, _ = build.frame_settings("default", height=64, width=64, like=model)
    assert again == model | {"stride": 8, "linear": True, "height": 64, "width": 64}
    assert older.model.config.latent_shape == (4, 4, 4)  # of cells of 8
    assert isinstance(older, GridGame)
    assert older.config.squared == 1


@pytest.mark.parametrize(
    ("make", "model", "error", "said"),
    [
        (build.frame_model, {"preset": "cubist"}, ValueError, "preset 'cubist': expected default"),
        (build.top_model, {"kind": "gan"}, ValueError, "kind 'gan': expected flow or mlp"),
        (build.frame_model, {"colour": 3}, TypeError, "colour"),
        (build.top_model, {"kind": "mlp", "colour": 3}, TypeError, "colour"),
    ],
)
def test_what_is_unknown_is_named(make: Any, model: Any, error: Any, said: str) -> None:
    with pytest.raises(error, match=said):
        make(model)


@pytest.mark.parametrize(
    ("latent_shape", "patch", "patches"),
    [((4, 8, 8), 4, 4), ((4, 8, 10), 4, 6), ((8, 8, 8), 4, 4), ((16, 8, 8), 2, 16)],
    ids=str,
)
def test_a_flow_of_grids_has_a_token_a_patch(
    latent_shape: tuple[int, int, int], patch: int, patches: int
) -> None:
    model, _ = build.top_settings("flow", latent_shape=latent_shape, window=8, block=2)
    config = build.top_model(model).config
    assert (config.patch, config.patches) == (patch, patches)
    assert latent_shape[0] * patch * patch < config.width


def test_a_flow_of_vectors_has_a_wide_token_a_frame() -> None:
    model, _ = build.top_settings("flow", latent_shape=(64, 1, 1), window=8, block=2)
    config = build.top_model(model).config
    assert (config.patch_shape, config.patches, config.width) == ((1, 1), 1, 256)
    assert config.local_width == 0  # a vector's one cell has no neighbours


def test_a_flows_config_without_a_patch_means_a_token_a_frame() -> None:
    model, _ = build.top_settings("flow", latent_shape=(4, 8, 8), window=8, block=2)
    assert model.pop("local_width") == 64
    for later in ("patch", "shared_noise", "level_shift", "first_steps", "local_depth"):
        del model[later]
    model["sampling_steps"] = 7
    top = build.top_model(model)
    assert top.config.first_steps == 7  # a seed gives the video that it gave before
    assert (top.config.patch_shape, top.config.patches) == ((8, 8), 1)
    assert (top.config.shared_noise, top.config.level_shift) == (0, 1)
    # the first models' weights fit
    assert not any(name.startswith(("place", "local")) for name in top.state_dict())
    like = {**model, "width": 64}
    again, _ = build.top_settings("flow", latent_shape=(4, 4, 4), window=8, block=2, like=like)
    assert (again["patch"], again["width"], again["shared_noise"]) == (0, 64, 0)
    assert (again["first_steps"], again["local_width"]) == (7, 0)
