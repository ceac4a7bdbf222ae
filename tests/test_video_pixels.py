from __future__ import annotations

import numpy as np
import pytest
import torch

from ldf_video.video.pixels import from_model, to_model


def test_all_levels_survive_the_round_trip_and_the_input_is_left_alone() -> None:
    levels = np.arange(256 * 3, dtype=np.uint32).astype(np.uint8).reshape(1, 16, 16, 3)
    before = levels.copy()
    levels.flags.writeable = False  # as mapped files are
    assert np.array_equal(from_model(to_model(levels)), before)
    assert np.array_equal(levels, before)


def test_levels_become_what_the_formula_says() -> None:
    frames = np.array([0, 51, 255], np.uint8).reshape(1, 1, 1, 3)
    images = to_model(frames)
    assert images.shape == (1, 3, 1, 1)
    assert images.dtype == torch.float32
    torch.testing.assert_close(images.flatten(), torch.tensor([-1.0, -0.6, 1.0]))


def test_channels_and_rows_land_where_they_belong() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), dtype=np.uint8)
    images = to_model(torch.from_numpy(frames))
    assert images.is_contiguous()
    assert images[1, 2, 3, 5].item() == pytest.approx(frames[1, 3, 5, 2] / 127.5 - 1)


def test_outputs_round_and_clamp() -> None:
    values = torch.tensor([-2.0, 0.2 / 127.5 - 1, 0.8 / 127.5 - 1]).reshape(1, 3, 1, 1)
    assert from_model(values).ravel().tolist() == [0, 0, 1]
    # Half precision is widened before it is rounded.
    pixels = from_model(torch.full((1, 3, 2, 2), 7.0, dtype=torch.bfloat16, requires_grad=True))
    assert pixels.flags.c_contiguous
    assert (pixels == 255).all()


def test_other_shapes_and_types_are_refused() -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        to_model(np.zeros((1, 3, 4, 4), np.uint8))
    with pytest.raises(ValueError, match="expected uint8"):
        to_model(np.zeros((1, 4, 4, 3), np.float32))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected float"):
        from_model(torch.zeros(1, 4, 4, 3))
