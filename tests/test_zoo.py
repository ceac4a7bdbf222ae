"""Which model a command means."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from tiny_models import ali_model, frame_config, mlp, save_frame, save_pair, save_top

from ldf_video.errors import CheckpointError
from ldf_video.models.ali import AliModel
from ldf_video.models.mlp import MlpTop
from ldf_video.pipelines import zoo
from ldf_video.pipelines.zoo import (
    find_frame_model,
    find_top_model,
    frame_model_of,
    load_frame_model,
    load_top_model,
    shipped_models,
)
from ldf_video.training import checkpoints

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with `frame/` and `top/`; the current one is empty."""
    frame = save_frame(tmp_path / "pair" / "frame")
    save_top(tmp_path / "pair" / "top", frame)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    return tmp_path / "pair"


def test_a_directory_is_a_checkpoint_or_a_pair(pair: Path) -> None:
    assert find_frame_model(pair) == (pair / "frame", False)
    assert find_frame_model(str(pair / "frame")) == (pair / "frame", False)
    assert find_top_model(pair) == (pair / "top", False)
    assert find_top_model(pair / "top") == (pair / "top", False)


def test_nothing_said_means_the_own_model_then_the_shipped_one(pair: Path) -> None:
    shipped = shipped_models()["pacman-32"]
    assert find_frame_model(None) == (shipped / "frame", True)
    assert find_top_model(None) == (shipped / "top", True)
    save_frame(pair.parent / "empty" / "checkpoints" / "frame")
    directory, is_shipped = find_frame_model(None)
    assert (directory.as_posix(), is_shipped) == ("checkpoints/frame", False)


def test_an_unknown_name_lists_the_shipped_ones(pair: Path) -> None:
    del pair
    with pytest.raises(CheckpointError, match=r"no frame model tetris.*pacman-32"):
        find_frame_model("tetris")


def test_a_shipped_frame_model_without_a_top_model_says_what_to_do(
    pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = save_frame(pair.parent / "alone" / "frame").parent
    monkeypatch.setattr(zoo, "shipped_models", lambda: {"alone": alone})
    assert find_frame_model("alone") == (alone / "frame", True)
    with pytest.raises(CheckpointError, match=r"alone has no top model: encode .* train-top"):
        find_top_model("alone")


def test_the_papers_models_load_as_what_they_are(tmp_path: Path) -> None:
    model = ali_model()
    config = frame_config(model)
    config["model"] = {"preset": "paper", **config["model"]}
    checkpoints.save_config(tmp_path / "frame", config)
    checkpoints.save_weights(tmp_path / "frame", model.state_dict())
    save_top(tmp_path / "top", tmp_path / "frame", kind="mlp")

    frame = load_frame_model(tmp_path / "frame", device="cpu").model
    top = load_top_model(tmp_path / "top", device="cpu")

    assert isinstance(frame, AliModel)
    assert not frame.training  # running statistics, not those of a batch
    x = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(frame.encoder(x)[:1], frame.encoder(x[:1]))
        assert torch.equal(frame.encoder(x), model.eval().encoder(x))
    assert isinstance(top.model, MlpTop)
    assert frame_model_of(top, device="cpu").directory == tmp_path / "frame"
    expected = mlp().state_dict()
    assert all(torch.equal(v, expected[name]) for name, v in top.model.state_dict().items())


@pytest.mark.parametrize(("part", "key"), [("frame", "preset"), ("top", "kind")])
def test_a_model_of_an_unknown_kind_is_refused_in_one_line(
    tmp_path: Path, part: str, key: str
) -> None:
    directory = save_pair(tmp_path) / part
    config = checkpoints.load_config(directory)
    checkpoints.save_config(directory, config | {"model": config["model"] | {key: "cubist"}})
    load = {"frame": load_frame_model, "top": load_top_model}[part]
    with pytest.raises(CheckpointError, match=rf"config\.json: {key} 'cubist': expected"):
        load(directory, device="cpu")
