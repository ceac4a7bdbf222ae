"""train-top: windows that clips can fill, and latents that must stay the same."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import av
import pytest
import torch
from latent_data import write_latents
from tiny_cli import shrink
from tiny_models import FLOW, MLP, save_frame, save_pair, save_top

from ldf_video.api import generate, train_top
from ldf_video.errors import CheckpointError, LdfError
from ldf_video.levels import top_settings
from ldf_video.models.flow_config import ColumnConfig
from ldf_video.models.mlp import MlpTop
from ldf_video.recipes import train_top as room
from ldf_video.runs.zoo import load_top_model
from ldf_video.training import checkpoints

if TYPE_CHECKING:
    from pathlib import Path

CPU = torch.device("cpu")


def train(root: Path, latents: str = "latents", **options: Any) -> Path:
    asked = {"steps": 2, "batch_size": 4, "seed": 1, "quiet": True} | options
    return train_top(latents=root / latents, out=root / "top", **asked)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shrink(monkeypatch.setattr)
    return tmp_path


@pytest.mark.parametrize(
    ("options", "is_said"),
    [({"steps": None, "minutes": 0.0001}, True), ({"steps": 2}, False)],
    ids=["by the clock", "as asked"],
)
def test_few_updates_are_said_with_the_way_on(
    root: Path, capsys: pytest.CaptureFixture[str], options: dict[str, Any], is_said: bool
) -> None:
    write_latents(root / "latents", [20, 20])
    train(root, quiet=False, **options)
    said = capsys.readouterr().err
    assert ("updates are few" in said) == is_said
    assert ("the same command with more --minutes goes on" in said) == is_said


ROUGH = "few to learn motion, so videos will be rough"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"conditions": "off"}, "few to learn these clips, so videos will be much like those of "),
        ({"conditions": "off", "block": 1}, f"{ROUGH}; the same command with more --minutes"),
        ({"conditions": "off", "few": True}, f"{ROUGH}; the same command with more --minutes"),
        ({}, f"{ROUGH} and may not do what they are told; the same command"),
    ],
    ids=["as it was", "other blocks", "a student", "told"],
)
def test_few_updates_from_another_model_are_said_by_what_it_lacks(
    root: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    said: str,
) -> None:
    columns = [asdict(ColumnConfig("action", ("left", "right")))]
    monkeypatch.setattr(top_settings, "columns_of", lambda latents: columns)
    frame = save_frame(root / "checkpoints" / "frame")
    write_latents(root / "latents", [20] * 2, weights=checkpoints.fingerprint_of(frame))
    asked = options | {"init": save_top(root / "before", frame), "steps": None, "minutes": 0.0001}
    train(root, quiet=False, **asked)
    assert said in capsys.readouterr().err
    monkeypatch.setattr(room, "FEW_MORE", 0)
    train(root, quiet=False, resume=False, **asked)
    assert ("updates are few" in capsys.readouterr().err) == (ROUGH in said)


@pytest.mark.parametrize("lengths", [[1, 1, 1], [1, 2, 7, 40]], ids=str)
def test_clips_of_any_length_can_be_learned(root: Path, lengths: list[int]) -> None:
    write_latents(root / "latents", lengths)
    train(root)
    weights = checkpoints.load_weights(root / "top")
    assert all(tensor.isfinite().all() for tensor in weights.values())
    config = checkpoints.load_config(root / "top", kind="top")
    assert config["model"]["window"] == (2 if max(lengths) == 1 else 16)
    assert config["fps"] == "12"
    assert config["frames"] == {"fps": None}


def test_clips_of_one_frame_are_warned_of(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_latents(root / "latents", [1, 1])
    train(root, quiet=False)
    assert "every clip is one frame long, there is no motion to learn" in capfd.readouterr().err


def test_a_window_is_told_with_its_blocks(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_latents(root / "latents", [13] * 3)
    train(root, window=17, quiet=False)
    assert "flow, windows of 12 frames in blocks of 4" in capfd.readouterr().err
    model = checkpoints.load_config(root / "top")["model"]
    assert (model["window"], model["block"]) == (12, 4)
    train(root, window=17)  # the same again: it is finished


def test_a_model_of_before_with_odd_blocks_starts_a_run_and_generates(root: Path) -> None:
    frame = save_frame(root / "checkpoints" / "frame")
    write_latents(root / "latents", [13], weights=checkpoints.fingerprint_of(frame))
    before = save_top(root / "before", frame, config=replace(FLOW, window=13, block=1))
    train(root, init=before)
    model = checkpoints.load_config(root / "top")["model"]
    assert (model["window"], model["block"]) == (13, 1)
    made = generate(root / "out.png", num_frames=15, top_model=root / "top", quiet=True)
    assert made.num_frames == 15


def test_other_latents_than_the_runs_are_refused_and_both_named(root: Path) -> None:
    first = write_latents(root / "latents", [20])
    other = write_latents(root / "other", [20], weights="cd" * 32)
    train(root)
    with pytest.raises(CheckpointError) as error:
        train(root, "other")
    for part in (first.spec.fingerprint[:12], other.spec.fingerprint[:12], "--no-resume"):
        assert part in str(error.value)


def test_a_sheet_is_drawn_where_the_frame_model_is_at_hand(root: Path) -> None:
    frame = save_pair(root / "checkpoints") / "frame"
    write_latents(root / "latents", [20], weights=checkpoints.fingerprint_of(frame))
    train(root)
    assert (root / "top" / "samples" / "step-0000002.png").is_file()
    with av.open(str(root / "top" / "samples" / "step-0000002.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 16
        assert container.streams.video[0].average_rate == 12


@pytest.mark.parametrize("finished", [True, False])
def test_other_clips_than_the_runs_are_refused_and_both_counted(root: Path, finished: bool) -> None:
    write_latents(root / "latents", [20])
    write_latents(root / "other", [20, 30])  # the same frame model's
    train(root)
    if not finished:
        (root / "top" / checkpoints.STATE).unlink()
        train(root)  # the same clips: it goes on
        (root / "top" / checkpoints.STATE).unlink()
    expected = r"began with 20 frames of 1 clip, .*other now gives 50 of 2.*--init .*--no-resume"
    with pytest.raises(CheckpointError, match=expected):
        train(root, "other")


@pytest.mark.parametrize("first", [{}, {"kind": "mlp", "window": 13}], ids=str)
@pytest.mark.parametrize("more", [{"steps": 4}, {"minutes": 1 / 600, "steps": None}], ids=str)
def test_a_finished_run_goes_on_for_longer(root: Path, first: Any, more: Any) -> None:
    write_latents(root / "latents", [20])
    train(root, **first)
    path = root / "top" / checkpoints.CONFIG
    assert checkpoints.load_config(root / "top")["model"]["window"] == first.get("window", 16)
    state = checkpoints.load_state(root / "top")
    assert state is not None
    if "minutes" in more:
        checkpoints.save_state(root / "top", state | {"elapsed_seconds": 0.01})
    train(root, **more)
    state = checkpoints.load_state(root / "top")
    assert state is not None
    assert state["done"]
    assert state["step"] == 4 if "minutes" not in more else state["step"] > 2
    weights = checkpoints.load_weights(root / "top")
    assert all(tensor.isfinite().all() for tensor in weights.values())
    before = path.read_text()
    train(root, **more)  # finished again
    assert path.read_text() == before


def test_options_that_the_run_has_anyway_go_on(root: Path) -> None:
    write_latents(root / "latents", [13] * 3)
    train(root)
    rate = {"learning_rate": 1e-3, "optimizer": "muon"}
    for given in ({"window": 16}, {"window": 12}, {"kind": "flow"}, rate, {"fps": None}):
        given.pop("fps", None)
        train(root, **given)
    with pytest.raises(CheckpointError, match="has --window 12, asked for --window 8"):
        train(root, window=8)


def test_memory_that_runs_out_is_told_in_one_line(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhaust(*arguments: object, **options: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\n Tried to allocate 2 TiB")

    write_latents(root / "latents", [20])
    monkeypatch.setattr(room, "latent_statistics", exhaust)
    with pytest.raises(LdfError, match=r"out of memory: .* 2 TiB; try a smaller --batch-size"):
        train(root)


# -- the kind mlp, and the best weights -----------------------------------------------------------


def test_an_mlp_trains_on_clips_of_any_length_and_is_drawn(root: Path) -> None:
    frame = save_frame(root / "checkpoints" / "frame")
    weights = checkpoints.fingerprint_of(frame)
    write_latents(root / "latents", [1, 2, 7, 40], weights=weights)
    train(root, kind="mlp")
    config = checkpoints.load_config(root / "top", kind="top")
    assert config["model"]["kind"] == "mlp"
    assert config["model"]["window"] == 5
    training = config["training"]
    assert (training["learning_rate"], training["beta1"]) == (2e-4, 0.5)
    assert training["optimizer"] == "adam"
    top = load_top_model(root / "top", device="cpu").model
    assert isinstance(top, MlpTop)
    assert top.fixed_frames == 5
    assert all(value.isfinite().all() for value in top.state_dict().values())
    assert not torch.equal(top.latent_mean, torch.zeros(MLP.latent_shape))
    with av.open(str(root / "top" / "samples" / "step-0000002.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 5


@pytest.mark.parametrize("kind", ["flow", "mlp"])
def test_held_out_losses_and_the_best_weights_are_kept(root: Path, kind: str) -> None:
    write_latents(root / "latents", [20] * 20)
    train(root, kind=kind)
    score = {"flow": "velocity", "mlp": "latent_frechet"}[kind]
    (line,) = [m for m in checkpoints.read_metrics(root / "top") if f"held_out/{score}" in m]
    best = load_top_model(root / "top" / "best", device="cpu")
    assert best.config["best"] == {"step": 2, score: line[f"held_out/{score}"]}
    assert best.fingerprint == checkpoints.fingerprint_of(root / "top")


@pytest.mark.parametrize(
    ("given", "optimizer", "rate"),
    [
        ({}, "muon", 1e-3),
        ({"optimizer": "adam"}, "adam", 2e-3),
        ({"learning_rate": 0.1}, "muon", 0.1),
    ],
)
def test_a_flow_is_moved_by_muon_and_by_adam_at_its_own_rate(
    root: Path, given: dict[str, Any], optimizer: str, rate: float
) -> None:
    frame = save_frame(root / "checkpoints" / "frame")
    write_latents(root / "latents", [40], weights=checkpoints.fingerprint_of(frame))
    train(root, steps=1, **given)
    training = checkpoints.load_config(root / "top", kind="top")["training"]
    assert (training["optimizer"], training["learning_rate"]) == (optimizer, rate)
