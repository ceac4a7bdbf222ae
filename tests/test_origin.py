"""`--init`: a fresh run that starts from a model's weights."""

from __future__ import annotations

from dataclasses import asdict, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from latent_data import write_latents
from tiny_cli import shrink
from tiny_models import FRAME, ali_model, frame_config, make_frames, save_frame, save_pair

from ldf_video.api import train_frame, train_top
from ldf_video.errors import CheckpointError, LdfError, UsageError
from ldf_video.levels.latents import latent_statistics
from ldf_video.models import build
from ldf_video.models.grid import GridConfig
from ldf_video.recipes import train_frame as frame_room
from ldf_video.recipes import train_top as top_room
from ldf_video.runs import training as run_room
from ldf_video.runs import zoo
from ldf_video.runs.zoo import load_frame_model
from ldf_video.store.format import StoreSpec
from ldf_video.store.writer import StoreWriter
from ldf_video.training import checkpoints
from ldf_video.training.loop import Trainer

if TYPE_CHECKING:
    from pathlib import Path

    from ldf_video.models.game import Logs

Weights = dict[str, torch.Tensor]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with clips/, latents/ and a pair of models; one is shipped; all are tiny."""
    monkeypatch.chdir(tmp_path)
    shrink(monkeypatch.setattr)
    (tmp_path / "clips").mkdir()
    np.save(tmp_path / "clips" / "all.npy", np.stack([make_frames(5, seed=i) for i in range(3)]))
    write_latents(tmp_path / "latents", [40, 30])
    save_pair(tmp_path / "pair", seed=7)
    shipped = save_pair(tmp_path / "installed" / "tiny-32", seed=8)
    for part in ("frame", "top"):
        weights = checkpoints.load_weights(shipped / part)
        checkpoints.save_weights(shipped / part, {k: v.half() for k, v in weights.items()})
    monkeypatch.setattr(zoo, "shipped_models", lambda: {"tiny-32": shipped})
    return tmp_path


def train(root: Path, out: str = "run", **options: Any) -> Path:
    asked = {"steps": 2, "batch_size": 4, "seed": 1, "quiet": True} | options
    return train_frame(root / "clips", out=root / out, **asked)


def train_latents(root: Path, out: str = "run", **options: Any) -> Path:
    asked = {"steps": 2, "batch_size": 4, "seed": 1, "quiet": True} | options
    return train_top(latents=root / "latents", out=root / out, **asked)


def starts_of(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Weights, Weights, int]]:
    """What each trainer begins with: all networks, the average, the step."""
    begun = []

    class Noted(Trainer):
        def run(self, progress: Any) -> None:
            copies = (self.level.game.state_dict(), self.average.module.state_dict())
            whole, average = ({k: v.clone() for k, v in copy.items()} for copy in copies)
            begun.append((whole, average, self.step))
            super().run(progress)

    monkeypatch.setattr(run_room, "Trainer", Noted)
    return begun


def of_model(weights: Weights) -> Weights:
    return {k.removeprefix("model."): v for k, v in weights.items() if k.startswith("model.")}


def assert_equal(first: Weights, second: Weights) -> None:
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name].float()), name


def test_weights_and_their_average_begin_as_the_models(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = starts_of(monkeypatch)
    run = train(root, init=root / "pair")
    known = checkpoints.load_weights(root / "pair" / "frame")
    weights, average, _ = begun[0]
    assert_equal(of_model(weights), known)
    assert_equal(average, known)
    config = checkpoints.load_config(run)
    assert config["init"] == {
        "from": str(root / "pair"),
        "fingerprint": checkpoints.fingerprint_of(root / "pair" / "frame"),
        "path": str(root / "pair" / "frame"),
        "relative": "../pair/frame",
    }
    moved = checkpoints.load_weights(run)
    assert any(not torch.equal(moved[name], known[name]) for name in known)


def test_a_shipped_model_of_16_bits_starts_a_run_by_its_name(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = starts_of(monkeypatch)
    run = train(root, init="tiny-32", steps=1)
    config = checkpoints.load_config(run)
    assert config["init"]["from"] == "tiny-32"
    shipped = load_frame_model(frame_room.find_origin("tiny-32", "frame").directory, device="cpu")
    assert config["model"] == asdict(shipped.model.config)
    assert_equal(begun[0][1], shipped.model.state_dict())
    kinds = {weight.dtype for weight in begun[0][0].values()}
    # Beside weights: whether D rests, and how often it has moved.
    assert kinds == {torch.float32, torch.bool, torch.int64}


def test_a_model_of_before_gets_a_linear_map_that_is_0(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = save_frame(root / "before", config=replace(FRAME, linear=False))
    begun = starts_of(monkeypatch)
    monkeypatch.setattr(build, "GridConfig", GridConfig)  # fresh ones are wide again
    config = checkpoints.load_config(train(root, init=before, steps=1))
    assert config["model"] == asdict(FRAME)  # the model's widths count
    weights, known = of_model(begun[0][0]), checkpoints.load_weights(before)
    new = weights.keys() - known.keys()
    assert new == {"encoder.linear.weight", "generator.linear.weight"}
    for name in new:
        assert not weights.pop(name).any()
    assert_equal(weights, known)


def test_another_size_takes_all_that_does_not_depend_on_it(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(root, "first", size="40x24")
    same = checkpoints.load_config(train(root, "same", init=first, steps=1))
    begun = starts_of(monkeypatch)
    config = checkpoints.load_config(train(root, init=first, size="48x24", steps=1))
    sizes = [(c["model"]["width"], c["model"]["height"]) for c in (same, config)]
    assert sizes == [(40, 24), (48, 24)]
    weights = begun[0][0]
    assert_equal(of_model(weights), checkpoints.load_weights(first))
    state = checkpoints.load_state(first)
    assert state is not None
    of_d = [name for name in weights if name.startswith("discriminator.")]
    saved = state["networks"]  # torch.equal is false for other shapes
    fits = {name for name in of_d if torch.equal(weights[name], saved[name])}
    assert fits == set(of_d) - {"discriminator.head.0.weight"}


def test_an_own_runs_discriminator_goes_on_and_the_best_weights_have_none(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = np.stack([make_frames(2, seed=i) for i in range(21)])
    np.save(root / "clips" / "all.npy", clips)
    first = train(root, "first")
    state = checkpoints.load_state(first)
    assert state is not None
    begun = starts_of(monkeypatch)
    train(root, "second", init=first)
    train(root, "third", init=first / "best")
    name = "discriminator.head.0.weight"
    assert torch.equal(begun[0][0][name], state["networks"][name])
    assert not torch.equal(begun[1][0][name], state["networks"][name])
    assert_equal(begun[1][1], checkpoints.load_weights(first / "best"))
    assert begun[0][0]["restraint.roth.pressure"] == 1


def test_a_run_goes_on_from_its_own_state_with_and_without_the_option(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = Trainer.update

    def cut(trainer: Trainer, share: float) -> Logs:
        if trainer.step == 2:
            raise LdfError("cut")
        return update(trainer, share)

    straight = train(root, "straight", init=root / "pair", steps=6)
    for given in ({"init": str(root / "pair")}, {}):
        out = f"cut-{len(given)}"
        with monkeypatch.context() as patched:
            patched.setattr(Trainer, "update", cut)
            with pytest.raises(LdfError, match="cut"):
                train(root, out, init=root / "pair", steps=6)
        begun = starts_of(monkeypatch)
        run = train(root, out, steps=6, **given)
        assert begun[0][2] == 2
        assert_equal(checkpoints.load_weights(run), checkpoints.load_weights(straight))


def test_another_model_is_a_changed_option(root: Path) -> None:
    train(root, init=root / "pair")
    for given, said in (
        ({"init": "tiny-32"}, f"has --init {root / 'pair'}, asked for --init tiny-32"),
        ({"init": "nowhere"}, "no frame model nowhere"),
    ):
        with pytest.raises(CheckpointError, match=said):
            train(root, **given)
    assert train(root, init=root / "pair" / "frame") == root / "run"  # the same model
    (root / "pair").rename(root / "gone")
    assert train(root, init=root / "pair") == root / "run"  # which needs it no more
    train(root, "plain", steps=1)
    with pytest.raises(CheckpointError, match="has no --init, asked for --init"):
        train(root, "plain", steps=1, init=root / "pair")


@pytest.mark.parametrize("change", ["moved", "changed"])
def test_a_run_that_was_killed_before_its_first_save_needs_the_very_model(
    root: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    def raise_now(*arguments: Any) -> None:
        raise LdfError("cut")

    monkeypatch.chdir(root / "clips")
    with monkeypatch.context() as patched:
        patched.setattr(frame_room, "start_from_origin", raise_now)
        with pytest.raises(LdfError, match="cut"):
            train(root, "both/run", init="../pair")
    (root / "pair").rename(root / "both" / "pair")
    (root / "both").rename(root / "moved")
    if change == "moved":
        begun = starts_of(monkeypatch)
        train(root, "moved/run")
        assert_equal(begun[0][1], checkpoints.load_weights(root / "moved" / "pair" / "frame"))
        return
    save_frame(root / "moved" / "pair" / "frame", seed=8)
    save_frame(root / "pair" / "frame", seed=8)
    with pytest.raises(CheckpointError, match=r"was \w{12} when the run began and is now \w{12}"):
        train(root, "moved/run")


@pytest.mark.parametrize("out", ["pair/frame", "pair"])
def test_a_run_does_not_stand_where_its_model_does(root: Path, out: str) -> None:
    with pytest.raises(UsageError, match=r"it stands in --out .*: name another --out"):
        train(root, out, init=root / "pair", resume=False)
    assert (root / "pair" / "frame" / checkpoints.WEIGHTS).is_file()
    assert [path.name for path in root.iterdir() if "old" in path.name] == []


def test_what_does_not_fit_a_frame_model_is_said(root: Path) -> None:
    paper = ali_model()
    config = frame_config(paper) | {"model": {"preset": "paper", **asdict(paper.config)}}
    checkpoints.save_config(root / "paper", config)
    checkpoints.save_weights(root / "paper", paper.state_dict())
    for options, said in (
        ({"init": "tiny-32", "preset": "paper"}, "has --preset default, asked for --preset pap"),
        ({"init": root / "paper", "preset": "default"}, "has --preset paper, asked for --preset"),
        ({"init": root / "paper", "size": "40"}, "fit one size, 32x32, asked for --size 40x40"),
        ({"init": "tiny-32", "size": "7x20"}, "--size: frame size 7x20"),
    ):
        with pytest.raises(UsageError) as error:
            train(root, **options)
        assert said in str(error.value)
    for name, said in (("tetris", "no frame model tetris"), ("pair/top", "holds a top model")):
        with pytest.raises(CheckpointError, match=said):
            train(root, init=name)
    assert not (root / "run").exists()
    assert checkpoints.load_config(train(root, init=root / "paper"))["model"]["preset"] == "paper"


# -- the upper level -----------------------------------------------------------------------------


def test_a_top_model_starts_from_weights_and_not_from_statistics(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = starts_of(monkeypatch)
    run = train_latents(root, init=root / "pair")
    known = checkpoints.load_weights(root / "pair" / "top")
    weights, average, _ = begun[0]
    mean, std = latent_statistics(top_room.open_latents(root / "latents"), seed=1)
    statistics = {"latent_mean": mean, "latent_std": std.clamp_min(0.1 * std.mean().item())}
    assert_equal(of_model(weights), known | statistics)
    assert_equal(average, known | statistics)
    config = checkpoints.load_config(run)
    origin = checkpoints.load_config(root / "pair" / "top")
    assert {k: v for k, v in config["model"].items() if k != "latent_shape"} == {
        k: v for k, v in origin["model"].items() if k != "latent_shape"
    }
    assert config["init"]["fingerprint"] == checkpoints.fingerprint_of(root / "pair" / "top")


def test_an_mlp_starts_from_an_mlp_with_its_discriminator(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train_latents(root, "first", kind="mlp")
    begun = starts_of(monkeypatch)
    second = train_latents(root, "second", init=first)
    assert checkpoints.load_config(second)["model"]["kind"] == "mlp"
    state = checkpoints.load_state(first)
    assert state is not None
    theirs = {n: w for n, w in state["networks"].items() if n.startswith("discriminator.")}
    mine = {n: w for n, w in begun[0][0].items() if n.startswith("discriminator.")}
    assert theirs
    assert_equal(mine, theirs)


def test_what_does_not_fit_a_top_model_is_said(root: Path) -> None:
    short = write_latents(root / "short", [5])
    for options, said in (
        ({"kind": "mlp"}, "it has --kind flow, asked for --kind mlp"),
        ({"window": 8}, "it has windows of 16 frames, --window and the longest clip give 8"),
    ):
        with pytest.raises(UsageError) as error:
            train_latents(root, init=root / "pair", **options)
        assert said in str(error.value)
    with pytest.raises(UsageError, match="the longest clip give 5"):
        train_top(latents=root / "short", out=root / "run", init=root / "pair", quiet=True)
    spec = StoreSpec("latents", (4, 3, 5), "float16", short.spec.settings)
    with StoreWriter(root / "other", spec) as writer:
        writer.append("a", np.zeros((20, 4, 3, 5), "f2"), fps=Fraction(12))
        writer.finish_clip("a", fps=Fraction(12))
        writer.set_source("a", size=1, mtime_ns=1, clip_ids=["a"])
    with pytest.raises(
        UsageError, match=r"it makes latents of \(4, 4, 4\), the store holds \(4, 3"
    ):
        train_top(latents=root / "other", out=root / "run", init=root / "pair", quiet=True)
    assert not (root / "run").exists()
