"""What a training of a top model knows of a store of latents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from latent_data import write_latents

from ldf_video.levels import latents as room
from ldf_video.levels.latents import latent_statistics

if TYPE_CHECKING:
    from pathlib import Path


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
