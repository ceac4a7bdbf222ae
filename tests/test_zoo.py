"""Which model a command means."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tiny_cli import shrink
from tiny_models import save_frame, save_pair, save_top, write_array

from ldf_video.api import encode, generate, train_top
from ldf_video.errors import CheckpointError
from ldf_video.runs import zoo
from ldf_video.runs.zoo import (
    Loaded,
    find_model,
    frame_model_of,
    load_frame_model,
    load_top_model,
    shipped_models,
)
from ldf_video.training import checkpoints

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with `frame/` and `top/`; the current one is empty."""
    frame = save_frame(tmp_path / "pair" / "frame")
    save_top(tmp_path / "pair" / "top", frame)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    return tmp_path / "pair"


def frame_of(top: Loaded[Any], asked: Path | None = None) -> Loaded[Any]:
    return frame_model_of(top.config, beside=top.directory, device="cpu", asked=asked)


def test_a_directory_is_a_checkpoint_or_a_pair(pair: Path) -> None:
    assert find_model(pair, "frame") == (pair / "frame", False)
    assert find_model(str(pair / "frame"), "frame") == (pair / "frame", False)
    assert find_model(pair, "top") == (pair / "top", False)
    assert find_model(pair / "top", "top") == (pair / "top", False)


def test_nothing_said_means_the_own_model_then_the_shipped_one(pair: Path) -> None:
    shipped = shipped_models()["pacman-32"]
    assert find_model(None, "frame") == (shipped / "frame", True)
    assert find_model(None, "top") == (shipped / "top", True)
    for name in ("pacman-32", "pacman-32/top"):  # of something else, which nobody named
        Path(name).mkdir()
    assert find_model(None, "top") == (shipped / "top", True)
    save_frame(pair.parent / "empty" / "checkpoints" / "frame")
    directory, is_shipped = find_model(None, "frame")
    assert (directory.as_posix(), is_shipped) == ("checkpoints/frame", False)


def test_an_unknown_name_lists_the_shipped_ones(pair: Path) -> None:
    del pair
    with pytest.raises(CheckpointError, match=r"no frame model tetris.*pacman-32"):
        find_model("tetris", "frame")
    with pytest.raises(
        CheckpointError,
        match=r"no top model tetris.* \(pacman-32, pacman-32-flow, pacman-32-play\)",
    ):
        find_model("tetris", "top")


def test_a_shipped_frame_model_without_a_top_model_says_what_to_do(
    pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = save_frame(pair.parent / "alone" / "frame").parent
    monkeypatch.setattr(zoo, "shipped_models", lambda: {"alone": alone})
    assert find_model("alone", "frame") == (alone / "frame", True)
    with pytest.raises(CheckpointError, match=r"alone has no top model: encode .* train-top"):
        find_model("alone", "top")


def test_two_shipped_top_models_share_a_frame_model(pair: Path) -> None:
    """By these fingerprints users' stores and top models know the first shipped pair."""
    del pair
    frame, few, flow = (
        find_model(name, kind)[0]
        for name, kind in (
            ("pacman-32", "frame"),
            ("pacman-32", "top"),
            ("pacman-32-flow", "top"),
        )
    )
    assert checkpoints.fingerprint_of(frame).startswith("68f520e54dbf39d1")
    assert checkpoints.fingerprint_of(flow).startswith("cbf53faeb1467d08")
    assert not (flow.parent / "frame").exists()
    assert find_model("pacman-32-flow", "frame")[0].resolve() == frame
    played, _ = find_model(None, "top", shipped="pacman-32-play")
    for top in (few, flow, played):
        loaded = load_top_model(top, device="cpu")
        assert frame_of(loaded).directory.resolve() == frame
    config = checkpoints.load_config(few)
    assert (config["init"]["from"], config["model"]["renewed"]) == ("pacman-32-flow", True)
    (column,) = checkpoints.load_config(played)["model"]["columns"]
    assert (column["name"], column["names"]) == ("action", ["down", "left", "right", "up"])


def trained(root: Path) -> Path:
    """A pair as the commands make it, from relative paths in the current directory."""
    frame = save_frame(Path("runs/frame-a"))
    encode(root / "clips", out="runs/latents", frame_model=frame, quiet=True)
    options = {"steps": 1, "batch_size": 4, "seed": 1, "quiet": True}
    return train_top(latents="runs/latents", out="runs/top-a", **options).absolute()


def renamed_together(runs: Path) -> Path:
    return runs.rename(runs.parent / "models")


def copied_to_another_machine(runs: Path) -> Path:
    for part in ("top-a", "frame-a"):
        shutil.copytree(runs / part, runs.parent / "usb" / "deep" / part)
    shutil.rmtree(runs)
    return runs.parent / "usb" / "deep"


def moved_aside(runs: Path) -> Path:
    checkpoints.move_aside(runs / "frame-a")
    save_frame(runs / "frame-a", seed=9)
    return runs


def only_its_best_weights_left(runs: Path) -> Path:
    (runs / "frame-a").rename(runs / "old")
    save_frame(runs / "frame-a", seed=9)
    (runs / "old").rename(runs / "frame-a" / "best")
    return runs


@pytest.mark.parametrize(
    "move",
    [
        lambda runs: runs,
        renamed_together,
        copied_to_another_machine,
        moved_aside,
        only_its_best_weights_left,
    ],
)
def test_a_frame_model_is_found_wherever_both_are_moved_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, move: Callable[[Path], Path]
) -> None:
    shrink(monkeypatch.setattr)
    monkeypatch.chdir(tmp_path)
    write_array(tmp_path / "clips" / "a.npy", 9)
    wanted = checkpoints.load_config(trained(tmp_path))["frame_model"]
    assert (wanted["path"], wanted["relative"]) == ("runs/frame-a", "../frame-a")
    runs = move(tmp_path / "runs")
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")
    top = load_top_model(runs / "top-a", device="cpu")
    assert frame_of(top).fingerprint == wanted["fingerprint"]


def test_latents_and_frame_model_that_were_moved_are_learned_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink(monkeypatch.setattr)
    monkeypatch.chdir(tmp_path)
    write_array(tmp_path / "clips" / "a.npy", 9)
    shutil.rmtree(trained(tmp_path))
    (tmp_path / "runs").rename(tmp_path / "models")
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")
    options = {"steps": 1, "batch_size": 4, "seed": 1, "quiet": True}
    run = train_top(latents="../models/latents", out="top", **options)
    config = checkpoints.load_config(run)
    assert config["frame_model"]["relative"] == "../../models/frame-a"
    assert list((run / "samples").glob("*.png"))  # so it was found


def test_a_frame_model_may_be_named_and_only_its_own_will_do(pair: Path) -> None:
    top = load_top_model(pair / "top", device="cpu")
    far = pair.parent / "far" / "away" / "deep"
    far.parent.mkdir(parents=True)
    (pair / "frame").rename(far)
    save_frame(pair / "frame", seed=9)  # another one in its place
    wanted = top.config["frame_model"]["fingerprint"][:12]
    said = rf"^no frame model {wanted} .*, among [^\n]*pair/frame.*: name it by --frame-model.*$"
    with pytest.raises(CheckpointError, match=said):
        frame_of(top)
    assert frame_of(top, asked=far).directory == far
    other = save_frame(pair / "other", seed=5)
    with pytest.raises(CheckpointError, match=r"--frame-model .*other is \w{12}, the top model"):
        frame_of(top, asked=other)
    made = generate("a.mp4", num_frames=2, top_model=pair / "top", frame_model=far, quiet=True)
    assert made.num_frames == 2


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


def test_a_setting_of_a_later_version_is_told_from_damage(tmp_path: Path) -> None:
    directory = save_pair(tmp_path) / "frame"
    config = checkpoints.load_config(directory)
    checkpoints.save_config(directory, config | {"model": config["model"] | {"colours": 7}})
    with pytest.raises(CheckpointError, match=r"config\.json: colours is no .* a newer ldf-video"):
        load_frame_model(directory, device="cpu")
