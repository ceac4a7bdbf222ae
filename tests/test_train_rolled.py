"""train-frame --top-model: G learns to decode what a top model makes, and E stays."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from ship_model import ship
from tiny_cli import shrink
from tiny_models import (
    FRAME,
    ali_model,
    frame_config,
    frame_model,
    rolled_game,
    save_frame,
    save_top,
    tick,
    write_array,
)

from ldf_video import hints
from ldf_video.api import encode, generate, info, train_frame, train_top
from ldf_video.errors import CheckpointError, LdfError, StoreError, UsageError
from ldf_video.evaluation.judged import load_models
from ldf_video.levels import frame_level, rolled_level
from ldf_video.levels.latents import decode
from ldf_video.levels.rolled_level import pairs
from ldf_video.models.rolled import restless
from ldf_video.recipes import train_frame as recipe
from ldf_video.runs.zoo import find_reference, load_frame_model, load_top_model
from ldf_video.store.reader import StoreReader
from ldf_video.training import checkpoints
from ldf_video.training.loop import Trainer

if TYPE_CHECKING:
    from pathlib import Path

VIDEOS = 20


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pair of models, and clips."""
    monkeypatch.chdir(tmp_path)
    shrink(monkeypatch.setattr)
    monkeypatch.setattr(recipe, "VIDEOS", VIDEOS)
    monkeypatch.setattr(rolled_level, "FRAMES", 10)
    monkeypatch.setattr(rolled_level, "MEASURED", 16)
    monkeypatch.setattr(frame_level, "MEASURED_FRAMES", 16)
    save_top(tmp_path / "top", save_frame(tmp_path / "frame"))
    write_array(tmp_path / "clips" / "a.npy", 40)
    return tmp_path


def train(root: Path, out: str = "new", **options: Any) -> Path:
    asked = {"steps": 4, "batch_size": 4, "seed": 1, "quiet": True}
    asked |= {"init": root / "frame", "top_model": root / "top"} | options
    return train_frame(root / "clips", out=root / out, **asked)


def test_g_decodes_at_once_and_e_makes_the_same_latents(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train(root, quiet=False)
    assert "makes 20 videos in" in (said := capfd.readouterr().err)
    assert "dB from G(E(G(z)))" in said
    old, new = (load_frame_model(root / name, device="cpu") for name in ("frame", "new"))
    known, kept = (m.model.encoder.state_dict() for m in (old, new))
    assert all(torch.equal(weight, kept[name]) for name, weight in known.items())
    assert new.fingerprint != old.fingerprint == old.latents == new.latents
    z = torch.randn(2, *FRAME.latent_shape)
    assert torch.equal(new.model.decode(z), new.model.generator(z))
    assert not torch.equal(new.model.generator(z), old.model.generator(z))
    lines = checkpoints.read_metrics(root / "new")
    assert "discriminator" not in lines[0]  # D joins after half
    assert {"pixels", "teacher", "flicker", "generator", "discriminator"} <= lines[2].keys()
    assert {"held_out/teacher", "held_out/flicker_levels"} <= lines[-1].keys()


def test_what_needs_the_old_ones_latents_takes_the_new_one(root: Path) -> None:
    encode(root / "clips", out=root / "latents", frame_model=root / "frame", quiet=True)
    train(root, steps=1)
    write_array(root / "clips" / "b.npy", 9, seed=1)
    found = encode(root / "clips", out=root / "latents", frame_model=root / "new", quiet=True)
    assert StoreReader(found.store).num_clips == 2
    (root / "frame").rename(root / "gone")
    (root / "new").rename(root / "frame")
    made = generate(root / "a.mp4", top_model=root / "top", num_frames=4, quiet=True)
    assert made.num_frames == 4
    options = {"steps": 1, "batch_size": 4, "quiet": True}
    run = train_top(latents=root / "latents", out=root / "top-2", **options)
    assert (run / "sheet.png").exists()  # a frame model was found
    wanted = checkpoints.load_config(run)["frame_model"]["fingerprint"]
    assert wanted == checkpoints.fingerprint_of(root / "gone")


def test_it_may_be_learned_again_from_another_top_model(root: Path) -> None:
    weights = checkpoints.load_weights(root / "frame")
    checkpoints.save_weights(root / "frame", {k: v.half() for k, v in weights.items()})
    made_by = checkpoints.fingerprint_of(root / "frame")
    save_top(root / "top", root / "frame")
    save_top(root / "top-2", root / "frame", seed=3)
    train(root, steps=1)
    again = train(root, out="again", init=root / "new", top_model=root / "top-2", steps=1)
    ship("frame", again, root / "shipped")
    found = [checkpoints.latents_fingerprint_of(place) for place in (again, root / "shipped")]
    assert found == [made_by, made_by]


def test_another_e_makes_other_latents(root: Path) -> None:
    train(root, steps=1)
    weights = checkpoints.load_weights(root / "new")
    made_by, own = checkpoints.fingerprint_of(root / "frame"), checkpoints.fingerprint_of
    with pytest.raises(LdfError, match=r"has the E of .*, which float16 rounds"):
        ship("frame", root / "new", root / "shipped")
    checkpoints.save_weights(root / "new", {k: v.double() for k, v in weights.items()})
    assert checkpoints.latents_fingerprint_of(root / "new") == made_by
    name = next(name for name in weights if name.startswith("encoder."))
    weights[name] = weights[name] + 0.01
    checkpoints.save_weights(root / "new", weights)
    assert checkpoints.latents_fingerprint_of(root / "new") == own(root / "new") != made_by
    with pytest.raises(CheckpointError, match=r"--frame-model .*new is \w{12}, the top model"):
        generate(root / "a.mp4", top_model=root / "top", frame_model=root / "new", quiet=True)
    encode(root / "clips", out=root / "latents", frame_model=root / "frame", quiet=True)
    with pytest.raises(StoreError, match="was made by other settings"):
        encode(root / "clips", out=root / "latents", frame_model=root / "new", quiet=True)


def test_the_model_that_made_the_latents_is_preferred_and_evaluate_takes_the_named_one(
    root: Path,
) -> None:
    train(root, out="checkpoints/frame", steps=1)
    new = root / "checkpoints" / "frame"
    top = load_top_model(root / "top", device="cpu")
    wanted = {**top.config["frame_model"], "path": "gone", "relative": "gone"}
    beside = root / "top" / "best"
    of_latents = checkpoints.latents_fingerprint_of
    found, _ = find_reference(wanted, "frame", beside=beside, known_by=of_latents)
    assert found is not None
    assert found.resolve() == root / "frame"

    def pair(frame: Path | None) -> tuple[Path, Path]:
        made = load_models(root / "top", frame, default=False, num_frames=4, skip=0, device="cpu")
        assert made.top is not None
        return made.top[0].directory, made.top[1].directory.resolve()

    assert pair(new) == (root / "top", new)
    assert pair(None) == (root / "top", root / "frame")
    assert pair(save_frame(root / "far" / "away" / "other", seed=9))[1] == root / "frame"
    (root / "frame").rename(root / "far" / "away" / "frame")
    found, _ = find_reference(wanted, "frame", beside=beside, known_by=of_latents)
    assert found is not None
    assert found.resolve() == new


def test_a_run_that_goes_on_says_what_the_first_call_said(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = train(root, steps=1)
    said = hints.after_train_frame("clips", run, root / "top")
    assert said.endswith(f"generate --top-model {root / 'top'} --frame-model {run}")
    assert hints.after_train_frame("clips", run, None) == said
    capfd.readouterr()
    train(root, init=None, top_model=None, steps=2, quiet=False)
    said = capfd.readouterr().err
    assert "train-frame: the decoder as it was is kept in" in said
    assert "go on with" not in said


def test_ordinary_training_goes_on_by_way_of_frames(root: Path) -> None:
    train(root, steps=1)
    run = train(root, out="usual", init=root / "new", top_model=None, steps=1)
    config = checkpoints.load_config(run)
    assert config["model"]["refines"] is True
    assert "encoder" not in config
    assert checkpoints.latents_fingerprint_of(run) == checkpoints.fingerprint_of(run)


def test_killed_anywhere_it_goes_on_to_the_same_weights(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = checkpoints.load_weights(train(root))
    write, update = rolled_level._write, Trainer.update

    def killed_while_rolling(writer: Any, name: str, rows: Any, fps: Any) -> None:
        if name == "000017":
            writer.append(name, rows, fps=fps)  # and not finished
            writer.commit()
            raise KeyboardInterrupt
        write(writer, name, rows, fps)

    def killed_while_training(self: Trainer, share: float) -> Any:
        if self.step == 2:
            raise KeyboardInterrupt
        return update(self, share)

    with monkeypatch.context() as patch:
        patch.setattr(rolled_level, "_write", killed_while_rolling)
        with pytest.raises(KeyboardInterrupt):
            train(root, out="cut")
        assert StoreReader(root / "cut" / "rolled").num_clips == 17
        patch.setattr(rolled_level, "_write", write)
        patch.setattr(Trainer, "update", killed_while_training)
        with pytest.raises(KeyboardInterrupt):
            train(root, out="cut")
    (root / "top").rename(root / "gone")  # all that it makes is there
    again = checkpoints.load_weights(train(root, out="cut", top_model=None, init=None))
    assert all(torch.equal(weight, again[name]) for name, weight in whole.items())


def test_a_top_model_that_is_gone_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    save_top(root / "top", root / "frame", seed=11)  # such as stands in no neighbouring folder
    with monkeypatch.context() as patch:
        patch.setattr(rolled_level, "_write", killed)
        with pytest.raises(KeyboardInterrupt):
            train(root)
    (root / "top" / checkpoints.WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=r"^--top-model .*top was \w{12} .* is gone: bring"):
        train(root, top_model=None, init=None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"init": None}, r"--top-model top without --init: name the frame model whose latents"),
        ({"init": "other"}, r"--top-model top: it learned latents .* --init other makes those of"),
        ({"init": "paper"}, r"--top-model top: --init paper has --preset paper"),
        (
            {"size": "64"},
            r"--top-model top with --size 64x64: the frames of --init frame have",
        ),
        ({"max_memory": "2GiB"}, r"--top-model top with --max-memory 2GiB: it is not measured"),
    ],
)
def test_what_does_not_go_together_leaves_no_trace(
    root: Path, options: dict[str, Any], said: str
) -> None:
    save_frame(root / "other", seed=4)
    paper = ali_model()
    config = frame_config(paper)
    config["model"]["preset"] = "paper"
    checkpoints.save_config(root / "paper", config)
    checkpoints.save_weights(root / "paper", paper.state_dict())
    with pytest.raises(UsageError, match=f"^{said}[^\n]*$"):
        train(root, **{"init": "frame", "top_model": "top"} | options)
    assert not (root / "new").exists()


def test_info_says_what_follows(root: Path) -> None:
    run = train(root, steps=1)
    follows = f"generate --top-model {root / 'top'} --frame-model {run}"
    assert info(run)["summary"][-1] == f"next: ldf-video {follows}"


def test_an_mlp_can_be_learned_from(root: Path) -> None:
    save_top(root / "mlp", root / "frame", kind="mlp")
    run = train(root, top_model=root / "mlp", steps=1)
    assert set(StoreReader(run / "rolled").lengths) == {5}


# -- the game ------------------------------------------------------------------------------------


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    numbers = torch.Generator().manual_seed(2)
    x = torch.rand(4, 3, 32, 32, generator=numbers) * 2 - 1
    return x, torch.randn(4, 2, *FRAME.latent_shape, generator=numbers)


def test_gradients_reach_g_or_d_and_neither_e_nor_the_teacher() -> None:
    made, now = rolled_game(), None
    for player in made.players:
        made.requires_grad_(False)
        made.zero_grad()
        for network in player.networks:
            network.requires_grad_(True)
        now = now or tick(made)
        loss, _ = player.loss(batch(), now)
        loss.backward()
        moved = {name.split(".")[0] for name, p in made.named_parameters() if p.grad is not None}
        assert moved == {"model" if player.name == "generator" else "discriminator"}
    assert all(p.grad is None for p in made.model.encoder.parameters())


def test_the_loss_is_the_sum_of_its_terms() -> None:
    """Each at the weight that the config says, by hand from G, E and the teacher."""
    made = rolled_game(latent_noise=0.0, game_start=1.0, still=7.0)
    x, z = batch()
    loss, logs = made.generator_loss((x, z), tick(made))
    E, G, both = made.model.encoder, made.model.generator, z.flatten(0, 1)
    with torch.no_grad():
        target = G(E(G(both).clamp(-1, 1))).clamp(-1, 1)
        off = (G(E(x)) - x, G(both) - target)
        distances = [d.abs().mean() + 10 * d.square().mean() for d in off]
        flicker = restless(G(both).unflatten(0, (4, 2)), target.unflatten(0, (4, 2)))
    torch.testing.assert_close(loss, 100 * distances[0] + 50 * distances[1] + 7 * flicker)
    assert logs.keys() == {"pixels", "teacher", "flicker"}


def test_only_what_should_stand_still_is_restless() -> None:
    standard = torch.zeros(1, 2, 3, 1, 2)
    standard[0, 1, 2, 0, 1] = 10 / 127.5  # one colour of the second pixel moves by 10 levels
    frames = torch.zeros(1, 2, 3, 1, 2)
    frames[0, 1, :, 0, 0] = 0.5
    frames[0, 1, :, 0, 1] = 0.25
    assert restless(frames, standard).item() == pytest.approx(0.25)  # 3 of 6 numbers by 0.5


def test_a_pixel_that_hardly_changes_is_shown_as_before_from_block_to_block() -> None:
    model = frame_model(config=replace(FRAME, hold=2))
    values = [[100, 101, 98, 103], [102, 105, 50, 52]]  # of one pixel, two blocks
    made = torch.tensor(values, dtype=torch.float32).reshape(2, 4, 1, 1, 1)
    frames = (made.expand(2, 4, 3, 8, 8) / 127.5 - 1).flatten(0, 1)
    model.decode = lambda z: frames[z.flatten().long()]  # latents are numbers of frames
    blocks = [torch.arange(4).reshape(1, 4, 1, 1, 1) + first for first in (0, 4)]
    shown = np.concatenate([*decode(model, iter(blocks))], axis=1)
    assert shown[0, :, 0, 0, 0].tolist() == [100, 100, 100, 103, 103, 103, 50, 50]
    plain = frame_model()
    plain.decode = model.decode
    assert np.concatenate([*decode(plain, iter(blocks))], axis=1)[0, 1, 0, 0, 0] == 101
    first = np.full((1, 8, 8, 3), 99, np.uint8)  # shown before all of them
    after = np.concatenate([*decode(model, iter(blocks), before=first)], axis=1)
    assert after[0, :, 0, 0, 0].tolist() == [99, 99, 99, 103, 103, 103, 50, 50]


def test_half_of_the_pairs_are_from_the_first_frames() -> None:
    videos, firsts = pairs(0, 3, lengths=np.full(8, 64), batch_size=4000)
    assert set(videos) == set(range(8))
    early, any_ = firsts[::2], firsts[1::2]
    assert (early.max(), any_.max(), any_.min()) == (14, 62, 0)
    assert 0.15 < (any_ < 15).mean() < 0.35
    short = pairs(0, 0, lengths=np.array([2, 5]), batch_size=100)
    assert (short[1] < np.array([1, 4])[short[0]]).all()
