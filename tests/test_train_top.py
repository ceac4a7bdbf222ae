"""train-top: windows that clips can fill, statistics, and latents that must stay the same."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
import torch
from tiny_cli import shrink
from tiny_models import FLOW, MLP, flow, mlp_game, save_frame, save_pair

from ldf_video.errors import CheckpointError, LdfError, StoreError, UsageError
from ldf_video.models.flow import FlowGame
from ldf_video.models.mlp import MlpTop
from ldf_video.models.noise import Noise, Part
from ldf_video.pipelines import train_top as room
from ldf_video.pipelines.frechet import frechet_distance
from ldf_video.pipelines.train_top import TopLevel, fit_window, latent_statistics, open_latents
from ldf_video.pipelines.zoo import load_top_model
from ldf_video.store.format import StoreSpec
from ldf_video.store.reader import StoreReader
from ldf_video.store.writer import StoreWriter
from ldf_video.training import checkpoints

if TYPE_CHECKING:
    from pathlib import Path

CPU = torch.device("cpu")


def write_latents(
    path: Path, lengths: list[int], *, weights: str = "ab" * 32, fps: int = 12
) -> StoreReader:
    """Latents whose mean is 3 and spread 2, but for channel 0, which is -1 always."""
    spec = StoreSpec("latents", (4, 4, 4), "float16", {"weights": weights, "fps": None})
    with StoreWriter(path, spec) as writer:
        for number, length in enumerate(lengths):
            rows = np.random.default_rng(number).normal(3, 2, (length, 4, 4, 4)).astype("f2")
            rows[:, 0] = -1
            name = f"{number:03}"
            writer.append(name, rows, fps=Fraction(fps))
            writer.finish_clip(name, fps=Fraction(fps))
            writer.set_source(name, size=1, mtime_ns=1, clip_ids=[name])
    return StoreReader(path)


@pytest.mark.parametrize(
    ("window", "longest", "expected"),
    [
        (16, 1000, (16, 4)),
        (16, 16, (16, 4)),
        (16, 15, (15, 3)),
        (16, 9, (9, 3)),
        (16, 5, (5, 1)),
        (16, 2, (2, 1)),
        (16, 1, (2, 1)),
        (2, 1000, (2, 1)),
        (3, 1000, (3, 1)),
        (30, 1000, (30, 3)),
    ],
)
def test_a_window_is_whole_blocks_that_clips_fill(
    window: int, longest: int, expected: tuple[int, int]
) -> None:
    assert fit_window(window, longest=longest) == expected


def test_a_window_of_one_frame_is_refused() -> None:
    with pytest.raises(UsageError, match="--window 1: expected 2 frames or more"):
        fit_window(1, longest=9)


def test_statistics_of_latents(tmp_path: Path) -> None:
    mean, std = latent_statistics(write_latents(tmp_path, [400, 600]), seed=0)
    assert mean.shape == std.shape == (4, 4, 4)
    assert (mean[0] == -1).all()
    assert (std[0] == 0).all()
    torch.testing.assert_close(mean[1:], torch.full((3, 4, 4), 3.0), atol=0.35, rtol=0)
    torch.testing.assert_close(std[1:], torch.full((3, 4, 4), 2.0), atol=0.25, rtol=0)


def test_statistics_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = write_latents(tmp_path, [5])
    rows = reader.read(0, 0, 5).astype(float)
    mean, std = latent_statistics(reader, seed=0)  # few enough: every frame once
    np.testing.assert_allclose(mean, rows.mean(0), rtol=1e-6)
    np.testing.assert_allclose(std, rows.std(0), rtol=1e-5, atol=1e-6)
    monkeypatch.setattr(room, "STATISTICS_FRAMES", 4)
    monkeypatch.setattr(room, "frame_indices", lambda *a, **k: np.array([4, 0, 2, 0]))
    mean, std = latent_statistics(reader, seed=0)  # too many: a sample
    np.testing.assert_allclose(mean, rows[[4, 0, 2, 0]].mean(0), rtol=1e-6)


def test_batches_are_windows_of_clips_with_their_masks(tmp_path: Path) -> None:
    reader = write_latents(tmp_path, [3, 40])
    level = TopLevel(FlowGame(flow()), reader, batch_size=64, seed=1)
    latents, mask = level.batch(0, Part(), CPU)
    assert latents.shape == (64, FLOW.window, 4, 4, 4)
    assert latents.dtype == torch.float32
    long = torch.from_numpy(reader.read(1, 0, 40).astype("f4"))
    short = torch.from_numpy(reader.read(0, 0, 3).astype("f4"))
    for window, real in zip(latents, mask, strict=True):
        if real.all():
            start = int((long == window[0]).flatten(1).all(1).nonzero()[0])
            assert torch.equal(window, long[start : start + FLOW.window])
        else:
            assert real.tolist() == [True] * 3 + [False] * 13
            assert torch.equal(window[:3], short)
    again, _ = level.batch(0, Part(), CPU)
    assert torch.equal(again, latents)
    assert not torch.equal(level.batch(1, Part(), CPU)[0], latents)
    parts = [level.batch(0, Part(i, 4), CPU) for i in range(4)]
    assert torch.equal(torch.cat([part[0] for part in parts]), latents)
    assert torch.equal(torch.cat([part[1] for part in parts]), mask)


def train(root: Path, latents: str = "latents", **options: Any) -> Path:
    asked = {"steps": 2, "batch_size": 4, "seed": 1, "quiet": True} | options
    return room.train_top(latents=root / latents, out=root / "top", **asked)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shrink(monkeypatch.setattr)
    return tmp_path


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


def test_what_is_no_store_of_latents(root: Path) -> None:
    with pytest.raises(StoreError, match=r"no latents at .*: run ldf-video encode CLIPS first"):
        open_latents(root / "nothing")
    frames = StoreSpec("frames", (8, 8, 3), "uint8", {})
    StoreWriter(root / "frames", frames).close()
    with pytest.raises(StoreError, match="holds frames, expected latents"):
        open_latents(root / "frames")
    write_latents(root / "empty", [])
    with pytest.raises(StoreError, match="holds no finished clip"):
        open_latents(root / "empty")


def test_other_clips_than_the_runs_are_refused_and_both_counted(root: Path) -> None:
    write_latents(root / "latents", [20])
    write_latents(root / "other", [20, 30])  # the same frame model's
    train(root)
    (root / "top" / checkpoints.STATE).unlink()  # not finished
    train(root)  # the same clips: it goes on
    (root / "top" / checkpoints.STATE).unlink()
    expected = r"began with 20 frames of 1 clips, .*other now gives 50 of 2.*--no-resume"
    with pytest.raises(CheckpointError, match=expected):
        train(root, "other")


def test_memory_that_runs_out_is_told_in_one_line(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhaust(*arguments: object, **options: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\n Tried to allocate 2 TiB")

    write_latents(root / "latents", [20])
    monkeypatch.setattr(room, "latent_statistics", exhaust)
    with pytest.raises(LdfError, match=r"out of memory: .* 2 TiB; try a smaller --batch-size"):
        train(root)


# -- held-out clips, and the kind mlp ------------------------------------------------------------


def test_the_flows_loss_on_held_out_windows_by_hand(tmp_path: Path) -> None:
    held_out = write_latents(tmp_path / "held", [1, 16])
    known = write_latents(tmp_path / "known", [20])
    level = TopLevel(FlowGame(flow()), known, batch_size=4, seed=1, held_out=held_out)
    assert level.score == "velocity"
    model = level.game.model
    found = level.evaluate(model)
    clips, starts = room.windows(
        0, 0, lengths=held_out.lengths, window=16, batch_size=8 * held_out.num_frames
    )
    latents, mask = held_out.windows(clips, starts, length=16)
    parts = [
        (torch.from_numpy(latents[i : i + 64]).float(), torch.from_numpy(mask[i : i + 64]))
        for i in range(0, len(clips), 64)
    ]
    with torch.no_grad():
        errors = [
            model.loss(x, m, noise=Noise(i))[1]["velocity"] * len(x)
            for i, (x, m) in enumerate(parts)
        ]
    assert found == {"velocity": pytest.approx(sum(errors).item() / len(clips), rel=1e-5)}
    assert level.evaluate(model) == found


def test_an_mlps_distance_from_held_out_sequences_by_hand(tmp_path: Path) -> None:
    held_out = write_latents(tmp_path / "held", [3, 5, 9])
    known = write_latents(tmp_path / "known", [20])
    level = TopLevel(mlp_game(), known, batch_size=4, seed=1, held_out=held_out)
    assert level.score == "latent_frechet"
    model = level.game.model
    clips, starts = room.windows(
        0, 0, lengths=held_out.lengths, window=5, batch_size=8 * held_out.num_frames
    )
    latents, mask = held_out.windows(clips, starts, length=5)
    whole = torch.from_numpy(latents[mask.all(1)]).float()  # those of the clip of 3 are not
    assert 2 <= len(whole) < len(clips)
    seeds = [torch.Generator().manual_seed(i) for i in range(len(whole))]
    clouds = [
        model.standardise(x).flatten(1).double().numpy()
        for x in (whole, next(model.sample(5, seeds)))
    ]
    found = level.evaluate(model)
    assert found == {"latent_frechet": pytest.approx(frechet_distance(*clouds), rel=1e-6)}


def test_nothing_is_measured_where_there_is_nothing_to_measure_on(tmp_path: Path) -> None:
    known = write_latents(tmp_path / "known", [20])
    short = write_latents(tmp_path / "short", [4, 4])  # no whole window of 5 frames
    for held_out in (None, short):
        level = TopLevel(mlp_game(), known, batch_size=4, seed=1, held_out=held_out)
        assert level.evaluate(level.game.model) == {}
    assert TopLevel(mlp_game(), known, batch_size=4, seed=1).calibration(CPU) is None


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


def test_an_unknown_kind_leaves_no_trace(root: Path) -> None:
    write_latents(root / "latents", [20])
    with pytest.raises(UsageError, match="--kind gru: expected flow or mlp"):
        train(root, kind="gru")
    assert [path.name for path in root.iterdir()] == ["latents"]
