"""Options that become values: devices, precisions, sizes, rates."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch

from ldf_video.errors import UsageError
from ldf_video.pipelines.devices import choose_device, choose_precision
from ldf_video.pipelines.geometry import (
    geometry_of,
    make_geometry,
    parse_fps,
    parse_size,
    with_options,
)
from ldf_video.video.geometry import Geometry


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_takes_the_best_device_that_is_there(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device("auto") == expected
    assert choose_device("cpu") == "cpu"
    for name, there in (("cuda", cuda), ("mps", mps)):
        if not there:
            with pytest.raises(UsageError, match=f"--device {name}: this machine has none"):
                choose_device(name)


def test_precisions(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_precision("auto", device="cpu") == "no"
    assert choose_precision("bf16", device="cpu") == "bf16"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert choose_precision("auto", device="cuda") == "bf16"
    with pytest.raises(UsageError, match="--mixed-precision fp4: expected auto, no, bf16 or fp16"):
        choose_precision("fp4", device="cpu")
    assert choose_precision("fp16", device="cuda") == "fp16"
    for device in ("cpu", "mps"):
        said = f"--mixed-precision fp16: expected a CUDA device, got {device}; use bf16 or no"
        with pytest.raises(UsageError, match=said):
            choose_precision("fp16", device=device)


@pytest.mark.parametrize(
    ("text", "expected"), [("32", (32, 32)), ("64x36", (36, 64)), ("64X8", (8, 64))]
)
def test_sizes_are_width_by_height(text: str, expected: tuple[int, int]) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "x", "0", "64x", "64x0", "-8", "8.5", "1x2x3", "big"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match=f"--size {text}: expected a number or WIDTHxHEIGHT"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("15", Fraction(15)), ("29.97", Fraction(2997, 100)), ("30000/1001", Fraction(30000, 1001))],
)
def test_rates(text: str, expected: Fraction) -> None:
    assert parse_fps(text) == expected


@pytest.mark.parametrize("text", ["", "0", "-1", "fast", "1/0", "nan", "inf", "0.0000001"])
def test_rates_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match=f"--fps {text}: expected a positive number"):
        parse_fps(text)


def test_geometry_goes_to_a_config_and_back() -> None:
    geometry = make_geometry(size="64x32", fps="30000/1001", crop="none")
    assert geometry == Geometry(32, 64, crop="none", fps=Fraction(30000, 1001))
    assert geometry_of({"frames": geometry.settings()}) == geometry
    assert with_options(geometry, fps=None, crop=None) == geometry
    assert with_options(geometry, fps="5", crop="centre") == Geometry(32, 64, fps=Fraction(5))
    with pytest.raises(UsageError, match="--crop middle: expected centre or none"):
        with_options(geometry, fps=None, crop="middle")
    with pytest.raises(UsageError, match="99999"):
        make_geometry(size="99999", fps=None, crop=None)
