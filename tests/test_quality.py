"""Peak signal-to-noise ratio, by hand."""

from __future__ import annotations

import math

import pytest

from ldf_video.video.pixels import psnr_db


@pytest.mark.parametrize(
    ("mean_squared_error", "expected"),
    [
        (255.0**2, 0.0),  # black for white
        (1.0, 20 * math.log10(255)),  # each value off by one
        (650.25, 20.0),
        (0.0, 99.0),
    ],
)
def test_psnr(mean_squared_error: float, expected: float) -> None:
    assert psnr_db(mean_squared_error) == pytest.approx(expected)
