"""The upper level: windows of latents with their masks, and what is measured on held-out ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from latent_data import write_latents
from tiny_models import FLOW, flow, mlp_game

from ldf_video.levels.frechet import frechet_distance
from ldf_video.levels.top_level import TopLevel
from ldf_video.models.flow import FlowGame
from ldf_video.models.game import Noise, Part
from ldf_video.training.update import windows

if TYPE_CHECKING:
    from pathlib import Path

CPU = torch.device("cpu")


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
    clips, starts = windows(
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
