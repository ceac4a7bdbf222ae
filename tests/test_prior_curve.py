"""The script that follows frames from a model's own latents to its prior."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import prior_curve as script
import pytest
import torch
from tiny_judge import moving_clips, write_judge
from tiny_models import save_frame


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def dependent(count: int) -> torch.Tensor:
    """Latents (count, 2, 1, 2): channel 1 is channel 0 times 3, plus 5; cells depend by half."""
    cells = torch.randn(count, 2, generator=seeded())
    cells[:, 1] = (cells[:, 0] + cells[:, 1]) / 2**0.5
    return torch.stack([cells, 3 * cells + 5], dim=1).unsqueeze(2)


def correlation(latents: torch.Tensor) -> torch.Tensor:
    return torch.corrcoef(latents.flatten(1).T)


def test_noise_keeps_means_and_spreads_and_takes_dependence_away() -> None:
    latents = dependent(20_000)
    assert torch.allclose(script.mixed(latents, 0.0, generator=seeded()), latents, atol=1e-5)
    for share, left in ((0.6, 0.64), (1.0, 0.0)):
        mixed = script.mixed(latents, share, generator=seeded())
        assert torch.allclose(mixed.mean(0), latents.mean(0), atol=0.1)
        assert torch.allclose(mixed.std(0), latents.std(0), rtol=0.03)
        assert correlation(mixed)[0, 2] == pytest.approx(left, abs=0.03)


def test_the_gaussian_has_the_whole_covariance() -> None:
    latents = dependent(20_000)
    drawn = script.gaussian(latents, generator=seeded())
    assert drawn.shape == latents.shape
    assert not torch.isclose(drawn, latents).all(1).any()
    assert torch.allclose(drawn.mean(0), latents.mean(0), atol=0.1)
    assert torch.allclose(torch.cov(drawn.flatten(1).T), torch.cov(latents.flatten(1).T), atol=0.3)


def test_the_distance_from_the_prior_by_hand() -> None:
    found = script.from_the_prior(dependent(20_000))
    assert found["mean"] == pytest.approx(5, abs=0.1)
    assert found["spread"] == pytest.approx(2, abs=0.1)
    assert found["correlation_in_a_cell"] == pytest.approx(1, abs=0.01)
    assert found["correlation_of_neighbours"] == pytest.approx(0.5**0.5, abs=0.02)
    one = script.from_the_prior(torch.randn(20_000, 1, 1, 1, generator=seeded()))
    assert one["correlation_in_a_cell"] == one["correlation_of_neighbours"] == 0
    assert one["mean"] < 0.05


def test_the_curve_begins_at_reconstructions_and_rises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("clips.npy", moving_clips(120))
    write_judge(tmp_path / "judge.pt")
    frame = str(save_frame(tmp_path / "frame"))
    options = f"clips.npy --num-frames 50 --judge judge.pt --json all.json --frame-model {frame}"
    monkeypatch.setattr(sys, "argv", ["prior_curve.py", *options.split()])
    assert script.main() == 0
    found = json.loads(Path("all.json").read_text())
    names = [f"{share} noise" for share in script.SHARES]
    assert list(found["frame"]) == ["real", *names, "Gaussian", "N(0, I)"]
    values = {name: figure["value"] for name, figure in found["frame"].items()}
    assert values["real"] < values["0.0 noise"]
    assert len(set(values.values())) == len(values)
    for figure in found["frame"].values():
        assert figure["low"] <= figure["value"] <= figure["high"]
    monkeypatch.setattr(sys, "argv", ["prior_curve.py", *options.replace("50", "61").split()])
    with pytest.raises(SystemExit):
        script.main()
