from __future__ import annotations

import json
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ldf_video.errors import UsageError
from ldf_video.video.geometry import Box, Geometry, centred_box

SIDES = st.integers(1, 4096)


def test_settings_survive_json_and_name_everything() -> None:
    settings = Geometry(32, 48, crop="none", fps=Fraction(30)).settings()
    expected = {"height": 32, "width": 48, "crop": "none", "filter": "area", "fps": "30/1"}
    assert json.loads(json.dumps(settings)) == expected
    assert Geometry(32, 48).settings()["fps"] is None


@pytest.mark.parametrize("size", [(0, 32), (32, -1), (4097, 32)])
def test_sizes_out_of_range_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="expected sides from 1 to 4096"):
        Geometry(*size)


def test_other_settings_out_of_range_are_refused() -> None:
    with pytest.raises(UsageError, match="expected more than 0"):
        Geometry(32, 32, fps=Fraction(0))
    with pytest.raises(UsageError, match="expected centre or none"):
        Geometry(32, 32, crop="left")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "target", "box"),
    [
        ((720, 1280), (32, 32), Box(0, 280, 720, 720)),
        ((210, 160), (32, 32), Box(25, 0, 160, 160)),
        ((33, 32), (32, 32), Box(0, 0, 32, 32)),
        ((48, 64), (48, 64), Box(0, 0, 48, 64)),
        ((100, 100), (9, 16), Box(22, 0, 56, 100)),
        ((1, 1), (16, 9), Box(0, 0, 1, 1)),
    ],
)
def test_the_box_is_the_largest_centred_part(
    source: tuple[int, int], target: tuple[int, int], box: Box
) -> None:
    assert Geometry(*target).box(*source) == box
    assert Geometry(*target, crop="none").box(*source) == Box(0, 0, *source)


@given(SIDES, SIDES, SIDES, SIDES)
def test_a_box_lies_inside_and_fills_one_side(
    source_height: int, source_width: int, height: int, width: int
) -> None:
    box = centred_box(source_height, source_width, height=height, width=width)
    assert box.height >= 1
    assert box.width >= 1
    assert box.height == source_height or box.width == source_width
    assert box.top == (source_height - box.height) // 2
    assert box.left == (source_width - box.width) // 2
    # The aspect is the target's to within half a pixel of the side that was rounded.
    error = abs(box.height * width - box.width * height)
    assert 2 * error <= max(height, width) or 1 in (box.height, box.width)
