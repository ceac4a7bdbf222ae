"""The upper level: stores of latents, windows of them with masks, and what is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from latent_data import write_latents
from tiny_models import FLOW, flow, mlp_game

from ldf_video.errors import StoreError
from ldf_video.levels import latents as room
from ldf_video.levels.frechet import frechet_distance
from ldf_video.levels.latents import latent_statistics, open_latents
from ldf_video.levels.top_level import TopLevel
from ldf_video.levels.top_settings import fit_window
from ldf_video.models.flow_loss import FlowGame, velocity_loss
from ldf_video.models.game import Noise, Part
from ldf_video.models.rollout import Rollout
from ldf_video.store.format import StoreSpec
from ldf_video.store.writer import StoreWriter
from ldf_video.training.update import windows

if TYPE_CHECKING:
    from pathlib import Path

CPU = torch.device("cpu")


def test_batches_are_windows_of_clips_with_their_masks(tmp_path: Path) -> None:
    reader = write_latents(tmp_path, [3, 40])
    level = TopLevel(FlowGame(flow()), reader, batch_size=64, seed=1)
    latents, mask, _ = level.batch(0, Part(), CPU)
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
    again = level.batch(0, Part(), CPU).latents
    assert torch.equal(again, latents)
    assert not torch.equal(level.batch(1, Part(), CPU)[0], latents)
    parts = [level.batch(0, Part(i, 4), CPU) for i in range(4)]
    assert torch.equal(torch.cat([part[0] for part in parts]), latents)
    assert torch.equal(torch.cat([part[1] for part in parts]), mask)


def test_the_flows_loss_on_held_out_windows_by_hand(tmp_path: Path) -> None:
    held_out = write_latents(tmp_path / "held", [1, 16])
    known = write_latents(tmp_path / "known", [20])
    level = TopLevel(FlowGame(flow()), known, batch_size=4, seed=1, held_out=held_out)
    assert level.score == "velocity"
    model = level.game.model
    found = level.evaluate(model)
    clips, starts = windows(
        0, 0, lengths=held_out.lengths, window=16, batch_size=8 * held_out.num_frames
    )
    latents, mask = held_out.windows(clips, starts, length=16)
    parts = [
        (torch.from_numpy(latents[i : i + 64]).float(), torch.from_numpy(mask[i : i + 64]))
        for i in range(0, len(clips), 64)
    ]
    with torch.no_grad():
        errors = [
            velocity_loss(model, x, m, noise=Noise(i))[1]["velocity"] * len(x)
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
    clips, starts = windows(
        0, 0, lengths=held_out.lengths, window=5, batch_size=8 * held_out.num_frames
    )
    latents, mask = held_out.windows(clips, starts, length=5)
    whole = torch.from_numpy(latents[mask.all(1)]).float()  # those of the clip of 3 are not
    assert 2 <= len(whole) < len(clips)
    seeds = [torch.Generator().manual_seed(i) for i in range(len(whole))]
    clouds = [
        model.standardise(x).flatten(1).double().numpy()
        for x in (whole, next(model.sample(Rollout(5), seeds)))
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


# -- the store -----------------------------------------------------------------------------------


def test_what_is_no_store_of_latents(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no latents at .*: run ldf-video encode CLIPS first"):
        open_latents(tmp_path / "nothing")
    frames = StoreSpec("frames", (8, 8, 3), "uint8", {})
    StoreWriter(tmp_path / "frames", frames).close()
    with pytest.raises(StoreError, match="holds frames, expected latents"):
        open_latents(tmp_path / "frames")
    write_latents(tmp_path / "empty", [])
    with pytest.raises(StoreError, match="holds no finished clip"):
        open_latents(tmp_path / "empty")


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


@pytest.mark.parametrize(
    ("window", "longest", "expected"),
    [
        (16, 1000, (16, 4)),
        (16, 16, (16, 4)),
        (16, 15, (12, 4)),
        (16, 13, (12, 4)),
        (17, 1000, (16, 4)),
        (16, 9, (8, 4)),
        (16, 7, (7, 1)),
        (16, 6, (6, 3)),
        (16, 5, (5, 1)),
        (16, 2, (2, 1)),
        (16, 1, (2, 1)),
        (2, 1000, (2, 1)),
        (3, 1000, (3, 1)),
        (30, 1000, (28, 4)),
    ],
)
def test_a_window_is_whole_blocks_that_clips_fill(
    window: int, longest: int, expected: tuple[int, int]
) -> None:
    assert fit_window(window, longest=longest) == expected
