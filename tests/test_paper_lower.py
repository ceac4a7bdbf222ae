"""The experiments on the lower level: figures, arms, toy runs from end to end."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import arrays
import experiment
import images
import lower_level
import moving_shape
import numpy as np
import pytest
import torch
from torch import Tensor

from ldf_video.errors import LdfError
from ldf_video.evaluation.judge import Judge
from ldf_video.models import build
from ldf_video.models.ali import AliGameConfig


def pooled(frames: Tensor) -> Tensor:
    """What a judge of tests sees: means of 4 x 4 cells."""
    return torch.nn.functional.adaptive_avg_pool2d(frames.float(), 4).flatten(1)


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Judge:
    """A quick judge in place of EfficientNet-Lite0."""
    made = Judge("means", "0" * 64, 64, "cpu", pooled)
    monkeypatch.setattr(experiment, "load_judge", lambda: made)
    return made


def clips(count: int, seed: int, side: int = 32) -> experiment.Clips:
    """Clips of five frames that change."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 5, side, side, 3)).astype(np.uint8)


def test_frames_and_windows_of_arrays_are_those_of_the_clips() -> None:
    known = clips(3, 0, side=8)
    frames = arrays.FramesOf(known)
    assert frames.num_frames == 15
    np.testing.assert_array_equal(
        frames.frames_at(np.array([0, 7, 14])), known[[0, 1, 2], [0, 2, 4]]
    )
    latents = torch.randn(6, 5, 4, 1, 1)
    level = arrays.WindowsOf(torch.nn.Identity(), latents, batch_size=4, seed=1)  # type: ignore[arg-type]
    batch = level.batch(0, arrays.Part(), torch.device("cpu"))
    assert batch.latents.shape == (4, 5, 4, 1, 1)
    assert batch.mask.all()
    assert all(any(torch.equal(row, known) for known in latents) for row in batch.latents)


def test_every_arm_is_a_game_and_one_setting_apart_from_its_neighbours() -> None:
    preset = lower_level.ARMS["preset paper"]
    assert preset == ("paper", AliGameConfig())
    for arm in lower_level.ARMS:
        config = lower_level.frame_config(arm, clips(1, 0), {"steps": 1}, base_width=8)
        assert build.frame_game(config["model"], config["game"]) is not None
    for arm in ("R1 + R2", "no penalty", "deterministic E", "Gaussian E, free"):
        ours = asdict(lower_level.ARMS[arm][1])
        assert sum(ours[name] != value for name, value in asdict(preset[1]).items()) == 1, arm


def test_a_toy_run_measures_trains_and_goes_on_where_it_was(
    tmp_path: Path, judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part, seed in (("train", 0), ("test", 1)):
        (tmp_path / part).mkdir()
        np.save(tmp_path / part / "clips.npy", clips(60, seed))

    def run(*more: str) -> dict[str, Any]:
        asked = [tmp_path, tmp_path / "out", "--runs", tmp_path / "runs", "--width", 8]
        asked += ["--minutes", 0.001, "--top-minutes", 0.001, "--count", 30, "--top-clips", 20]
        lower_level.main(lower_level.parse([*map(str, asked), *more]))
        found: dict[str, Any] = json.loads((tmp_path / "out" / "lower_level.json").read_text())
        return found["arms"]

    arms = ["--arms", "preset paper"]
    first = run(*arms)
    assert list(first) == arms[1:]
    for (found,) in first.values():
        assert set(lower_level.FIGURES) <= set(found)
        assert found["updates"] >= 1
        assert found["top_updates"] >= 1
        assert found["off"] >= 0
    monkeypatch.setattr(experiment, "train", None)  # nothing is trained again
    frame = tmp_path / "runs" / "lower_level" / "preset_paper-1" / "frame"
    monkeypatch.setattr(lower_level, "plot", lambda *_: None)
    again = run(*arms, "--run", f"it={frame}")
    assert {name: again[name] for name in first} == first
    assert again["it"][0]["psnr"] == pytest.approx(first["preset paper"][0]["psnr"])
    with pytest.raises(TypeError, match="'NoneType' object is not callable"):  # of other clips
        run(*arms, "--top-clips", "19")
    assert (tmp_path / "out" / "lower_level.png").stat().st_size > 1000
    assert (tmp_path / "out" / "lower_level_frames.png").stat().st_size > 1000


def test_measuring_leaves_a_model_as_it_was(judge: Judge) -> None:
    settings, _ = build.frame_settings("paper", height=32, width=32)
    torch.manual_seed(0)
    model = build.frame_model({**settings, "base_width": 4}).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    known = clips(20, 0)
    scales = lower_level.Scales(lower_level.Reference.of(known, judge), judge, clips(20, 1))
    scales.measured(model, seed=0)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


# -- a shape that moves ----------------------------------------------------------------------------


def test_every_clip_of_the_shape_is_seen_as_what_it_is() -> None:
    known = moving_shape.every_clip()
    assert len(known) == len({tuple(clip) for clip in known}) == 2560
    some = known[::7]
    assert moving_shape.seen(moving_shape.drawn(moving_shape.factors_of(some))) == [
        tuple(clip) for clip in some
    ]


def faulty(change: str) -> experiment.Clips:
    """Clips with a fault each that makes them no clip of the shape that moves."""
    factors = moving_shape.factors_of(moving_shape.every_clip()[::101])
    if change == "shape":
        factors[:, 3, 0] = (factors[:, 3, 0] + 1) % len(moving_shape.SHAPES)
    elif change == "step":
        factors[:, 4, 1:] = factors[:, 2, 1:]  # it turns back
    elif change == "stands":
        factors[:] = factors[:, :1]
    made = moving_shape.drawn(factors)
    if change == "grey":
        made[:, 2] //= 3
    return made


@pytest.mark.parametrize("change", ["shape", "step", "stands", "grey"])
def test_a_clip_with_a_fault_is_not_right(change: str) -> None:
    assert not any(moving_shape.seen(faulty(change)))
    assert all(moving_shape.seen(faulty("none")))


def test_what_is_found_is_1_of_draws_from_all_and_near_0_of_one_clip() -> None:
    known = moving_shape.every_clip()
    rng = np.random.default_rng(0)
    made = moving_shape.drawn(moving_shape.factors_of(known[rng.integers(len(known), size=400)]))
    assert moving_shape.share_found(made) == pytest.approx(1, abs=0.05)
    assert moving_shape.share_found(np.repeat(made[:1], 400, axis=0)) < 0.01


@pytest.mark.parametrize("space", [moving_shape.pixels, moving_shape.factors])
def test_frames_come_back_from_what_stands_for_them(space: Any) -> None:
    known = moving_shape.every_clip()[::50]
    made = space(known)
    back = made.frames(made.tokens.flatten(0, 1)).reshape(len(known), 5, 16, 16, 3)
    np.testing.assert_array_equal(back, moving_shape.drawn(moving_shape.factors_of(known)))


def test_the_flow_samples_a_gaussian_whose_denoiser_is_known() -> None:
    """Data of N(1, 0.5^2), for which E[x | x_u] is linear: samples have that mean and spread."""
    shape = moving_shape.MlpConfig((1, 1, 1), 5)
    top = moving_shape.Denoiser(shape)

    def guess(tokens: Tensor, level: Tensor) -> Tensor:
        u = level[:, None, None]
        gain = (1 - u) * 0.25 / ((1 - u) ** 2 * 0.25 + u**2)
        return 1 + gain * (tokens - (1 - u))

    top.forward = guess  # type: ignore[method-assign]
    generators = [torch.Generator().manual_seed(i) for i in range(400)]
    made = next(top.sample(moving_shape.Rollout(5), generators))
    assert made.shape == (400, 5, 1, 1, 1)
    assert made.mean().item() == pytest.approx(1, abs=0.05)
    assert made.std().item() == pytest.approx(0.5, rel=0.08)


def test_updates_to_a_target() -> None:
    curve = [{"step": 10.0, "found": 0.1}, {"step": 20.0, "found": 0.3}]
    assert moving_shape.reached(curve, 0.25, "step") == 20
    assert moving_shape.reached(curve, 0.5, "step") is None


def test_a_toy_run_of_the_shape_keeps_what_it_has_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving_shape, "MADE", 12)
    asked = [str(tmp_path / "out"), "--runs", str(tmp_path / "runs"), "--seeds", "1"]
    asked += ["--steps", "2", "--frame-steps", "2", "--every", "1", "--kinds", "flow", "mlp"]
    options = moving_shape.parse(asked)
    moving_shape.main(options)
    monkeypatch.setattr(experiment, "plot_curves", lambda *_, **__: None)
    found = json.loads((tmp_path / "out" / "moving_shape.json").read_text())
    assert len(found["arms"]) == 6
    for name, (run,) in found["arms"].items():
        assert [point["step"] for point in run["curve"]] == [1, 2]
        assert (run["right_of_real"] == 1) or "latents" in name
    assert (tmp_path / "out" / "moving_shape_clips.png").is_file()
    monkeypatch.setattr(moving_shape, "learn", None)
    moving_shape.main(options)


# -- images of patches -----------------------------------------------------------------------------


def test_patches_are_quarters_and_come_together_again() -> None:
    made = clips(3, 0)[:, 0]
    patches = images.cut(made)
    np.testing.assert_array_equal(patches[1, 1], made[1, :16, 16:])
    np.testing.assert_array_equal(images.joined(patches), made)


def test_cifar10_files_are_read_as_their_makers_describe_them(tmp_path: Path) -> None:
    made = clips(4, 0)[:, 0]
    for name, part in (("data_batch_1.bin", made[:3]), ("test_batch.bin", made[3:])):
        records = [b"\x07" + image.transpose(2, 0, 1).tobytes() for image in part]
        (tmp_path / name).write_bytes(b"".join(records))
    train, test, kind = images.images_of(tmp_path, tmp_path / "cache", count=2)
    assert kind == "CIFAR-10"
    np.testing.assert_array_equal(train, made[:2])
    np.testing.assert_array_equal(test, made[3:])
    (tmp_path / "test_batch.bin").write_bytes(b"short")
    with pytest.raises(LdfError, match=r"test_batch.bin: 5 bytes, expected a multiple of 3,073"):
        images.images_of(tmp_path, tmp_path / "cache", count=2)


def test_the_score_is_1_of_one_class_and_the_number_of_classes_that_are_sure_and_even() -> None:
    assert images.score(np.tile([9.0, 0, 0], (5, 1))) == pytest.approx(1)
    assert images.score(1e3 * np.eye(4)) == pytest.approx(4)
    logits = np.log([[0.5, 0.5], [0.9, 0.1]])
    mean = np.array([0.7, 0.3])
    by_hand = np.mean([(p * np.log(p / mean)).sum() for p in np.exp(logits)])
    assert images.score(logits) == pytest.approx(np.exp(by_hand))


def test_a_toy_run_of_images_trains_both_levels_and_goes_on(
    tmp_path: Path, judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test = clips(16, 0)[:, 0], clips(24, 1)[:, 0]
    monkeypatch.setattr(images, "images_of", lambda *_, **__: (train, test, "noise"))
    monkeypatch.setattr(images, "load_judge", lambda: judge)
    rng = np.random.default_rng(0)
    monkeypatch.setattr(images, "_classes", lambda: (rng.normal(size=(5, 48)), np.zeros(5)))
    for name, value in (("EPOCHS", 2), ("LOOKED_AT", 16), ("DIRECTIONS", 4)):
        monkeypatch.setattr(images, name, value)
    arms = ["baseline", "pretrained, paper", "from scratch, default"]
    asked = [str(tmp_path), str(tmp_path / "out"), "--runs", str(tmp_path / "runs")]
    asked += ["--seeds", "1", "--count", "10", "--width", "8", "--batch-size", "8", "--arms", *arms]
    options = images.parse(asked)
    images.main(options)
    monkeypatch.setattr(experiment, "plot_curves", lambda *_, **__: None)
    found = json.loads((tmp_path / "out" / "images.json").read_text())
    assert list(found["arms"]) == arms
    for (run,) in found["arms"].values():
        assert [point["epoch"] for point in run["curve"]] == [1, 2]
    lower = tmp_path / "runs" / "images-16-8-8" / "from_scratch-default-0" / "lower"
    assert (lower / "model.safetensors").is_file()
    monkeypatch.setattr(images.ImageJudge, "of", None)  # nothing is judged again
    images.main(options)


def test_a_training_of_images_that_ends_while_it_is_judged_takes_that_epoch_again(
    tmp_path: Path,
) -> None:
    class Once:
        """A judge whose second epoch ends at the first try."""

        asked = 0

        def of(self, _: Any) -> dict[str, float]:
            self.asked += 1
            if self.asked == 2:
                raise KeyboardInterrupt
            return {}

    judge: Any = Once()

    def learn() -> tuple[int, list[int]]:
        trainer = images.baseline_trainer(
            clips(16, 0)[:, 0], tmp_path, images.Budget(16, batch_size=8, seed=0)
        )
        curve = images.learn(
            [trainer], lambda: clips(1, 0)[:, 0], judge, tmp_path / "curve.json", updates=2
        )
        return trainer.step, [int(point["epoch"]) for point in curve]

    with pytest.raises(KeyboardInterrupt):
        learn()
    assert learn() == (16, list(range(1, 9)))


def test_a_top_model_from_scratch_sees_latents_as_they_are_and_moves_no_encoder(
    tmp_path: Path,
) -> None:
    patches = images.cut(clips(16, 0)[:, 0])
    budget = images.Budget(steps=4, batch_size=16, seed=0)
    lower = images.lower_trainer("default", patches, tmp_path / "a", budget, width=8)
    upper = images.upper_trainer(lower, patches, tmp_path / "b", budget, scratch=True)
    before = [weight.clone() for weight in lower.level.game.parameters()]
    upper.update(0.0)
    for weight, was in zip(lower.level.game.parameters(), before, strict=True):
        assert torch.equal(weight, was)
        assert weight.grad is None
    batch: Any = upper.level.batch(0, arrays.Part(), torch.device("cpu"))
    lower.update(0.0)
    after: Any = upper.level.batch(0, arrays.Part(), torch.device("cpu"))
    assert not torch.equal(batch.latents, after.latents)
