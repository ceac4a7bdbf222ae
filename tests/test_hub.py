"""Models of a model hub: by name wherever a model is named, from the cache without a network."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_hub import COMMIT, TinyHub
from tiny_models import save_frame, save_pair, write_array

from ldf_video.api import encode, generate, info, train_frame, train_top
from ldf_video.errors import CheckpointError, LdfError
from ldf_video.runs import zoo
from ldf_video.training import checkpoints

NAME = "someone/tiny"
FILES = ["frame/config.json", "frame/model.safetensors", "top/config.json", "top/model.safetensors"]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A hub with one pair of models, and an empty directory to work in."""
    made, work = TinyHub(), tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    made.hold(NAME, save_pair(tmp_path / "pair"))
    made.repositories[NAME] |= {"top/state.pt": b"a pickle", "README.md": b"# Tiny\n"}
    with made.reached(monkeypatch, tmp_path / "cache"):
        yield made


def test_a_pair_of_the_hub_makes_what_the_pair_itself_makes(hub: TinyHub, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"num_frames": 5, "seed": 1, "upscale": 1, "quiet": True}
    generate("here.gif", top_model=tmp_path / "pair", **asked)
    generate("hub.gif", top_model=NAME, **asked)
    assert Path("hub.gif").read_bytes() == Path("here.gif").read_bytes()
    assert hub.fetched() == ["README.md", *FILES]  # the pickle is not among them
    assert zoo.named(zoo.find_model(NAME, "top")[0]) == f"{NAME}@{COMMIT}"


def test_only_what_is_needed_is_fetched_and_only_once(hub: TinyHub) -> None:
    for revision in ("", "@main", f"@{COMMIT}"):
        zoo.find_model(NAME + revision, "frame")
    weights = [path for path in hub.asked if path.endswith(".safetensors")]
    assert len(weights) == 2  # its head, and its content
    assert "frame/model.safetensors" in weights[0]


def test_without_a_network_what_was_fetched_is_found(
    hub: TinyHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = zoo.find_model(NAME, "top")
    with TinyHub().reached(monkeypatch, tmp_path / "cache"):
        pass  # gone again: nobody answers there
    assert zoo.find_model(NAME, "top") == (found, False)
    with pytest.raises(CheckpointError, match=r"no model other/one: .* the hub cannot be reached"):
        zoo.find_model("other/one", "top")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("someone/else", "no model someone/else: there is no such directory here, and on the hub"),
        (f"{NAME}@v2", "has no revision v2: name a branch, a tag or a commit"),
        ("a/frame", "a/frame on the hub has no top/config.json: expected what ldf-video publish"),
        ("a/foreign", r"config\.json is not a checkpoint's config: it has no 'format_version'"),
        ("a/torn", "model.safetensors is damaged"),
        ("a/half", "frame/model.safetensors is neither on the hub nor in the cache"),
    ],
)
def test_what_cannot_be_had_is_one_line(hub: TinyHub, tmp_path: Path, name: str, said: str) -> None:
    hub.hold("a/frame", save_frame(tmp_path / "alone" / "frame").parent)
    hub.repositories["a/foreign"] = {"config.json": b'{"kind": "?"}', "model.safetensors": b"x"}
    hub.repositories["a/torn"] = hub.repositories[NAME] | {"top/model.safetensors": b"x" * 99}
    half = hub.repositories[NAME].copy()
    del half["frame/model.safetensors"]
    hub.repositories["a/half"] = half
    with pytest.raises(LdfError, match=said) as error:
        generate("out.gif", top_model=name, quiet=True)
    assert "\n" not in str(error.value)
    assert list(Path().iterdir()) == []


def test_a_foreign_model_is_refused_before_its_weights_are_fetched(hub: TinyHub) -> None:
    hub.repositories["a/foreign"] = {"config.json": b'{"kind": "?"}', "model.safetensors": b"x"}
    with pytest.raises(CheckpointError):
        zoo.find_model("a/foreign", "frame")
    assert hub.fetched() == ["config.json"]


def test_a_directory_comes_first_and_a_mistyped_path_asks_nobody(hub: TinyHub) -> None:
    save_pair(Path(NAME))
    assert zoo.find_model(NAME, "top") == (Path(NAME, "top"), False)
    with pytest.raises(CheckpointError, match=r"no top model someone/tyni: expected a directory"):
        zoo.find_model("someone/tyni", "top")
    for name in ("tiny", "a/b/c", "../a", "./a", "s3://a/b", "checkpoints/frame"):
        with pytest.raises(CheckpointError, match="no frame model"):
            zoo.find_model(name, "frame")
    assert hub.asked == []


def test_without_the_package_it_is_said_what_to_install(
    hub: TinyHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(LdfError, match=r"pip install 'ldf-video\[hub\]'"):
        zoo.find_model(NAME, "top")


def test_trainings_begin_with_a_model_of_the_hub(hub: TinyHub, tmp_path: Path) -> None:
    write_array(Path("clips/a.npy"), 30)
    asked: dict[str, Any] = {"steps": 1, "batch_size": 4, "seed": 1, "quiet": True}
    run = train_frame("clips", init=NAME, out="frame", **asked)
    known = checkpoints.load_config(run)["init"]
    assert known["from"] == f"{NAME}@{COMMIT}"
    assert known["fingerprint"] == checkpoints.fingerprint_of(tmp_path / "pair" / "frame")
    encode("clips", frame_model=NAME, quiet=True)
    run = train_top(init=NAME, **asked)
    assert checkpoints.load_config(run)["init"]["from"] == f"{NAME}@{COMMIT}"
    generate("out.gif", num_frames=2, quiet=True)  # with the frame model of the hub


def test_no_state_of_the_hub_is_opened(hub: TinyHub, monkeypatch: pytest.MonkeyPatch) -> None:
    write_array(Path("clips/a.npy"), 30)
    found, _ = zoo.find_model(NAME, "frame")
    (found / checkpoints.STATE).write_bytes(b"what another program fetched")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was opened"))
    train_frame("clips", init=NAME, out="run", steps=1, batch_size=4, seed=1, quiet=True)
    assert info(NAME)["frame"]["fingerprint"] == checkpoints.fingerprint_of(found)


def test_info_shows_a_model_of_the_hub(hub: TinyHub) -> None:
    found = info(NAME)
    assert found["card"] == ["# Tiny"]
    assert found["summary"][-1] == f"next: ldf-video generate --top-model {NAME}"
