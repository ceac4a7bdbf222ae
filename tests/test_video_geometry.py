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


@pytest.mark.parametrize(
    ("source", "ratio", "target", "box"),
    [
        # As television has it: 720 x 576 shown as 1024 x 576 (16:9) and as 768 x 576 (4:3).
        ((576, 720), Fraction(64, 45), (32, 32), Box(0, 157, 576, 405)),
        ((576, 720), Fraction(16, 15), (32, 32), Box(0, 90, 576, 540)),
        ((576, 720), Fraction(64, 45), (36, 64), Box(0, 0, 576, 720)),
        ((576, 720), Fraction(16, 15), (36, 64), Box(72, 0, 432, 720)),
        # Upright pixels, as of a turned phone: shown 160 x 180.
        ((180, 320), Fraction(1, 2), (32, 32), Box(10, 0, 160, 320)),
        ((100, 100), Fraction(2), (50, 100), Box(0, 0, 100, 100)),
        ((3, 5), Fraction(8), (32, 32), Box(0, 2, 3, 1)),
    ],
)
def test_the_box_goes_by_what_is_shown(
    source: tuple[int, int], ratio: Fraction, target: tuple[int, int], box: Box
) -> None:
    assert Geometry(*target).box(*source, sample_aspect_ratio=ratio) == box
    whole = Geometry(*target, crop="none").box(*source, sample_aspect_ratio=ratio)
    assert whole == Box(0, 0, *source)


@given(SIDES, SIDES, SIDES, SIDES, st.fractions(Fraction(1, 8), Fraction(8), max_denominator=99))
def test_a_box_has_the_target_s_shape_to_half_a_pixel(
    source_height: int, source_width: int, height: int, width: int, ratio: Fraction
) -> None:
    geometry = Geometry(height, width)
    box = geometry.box(source_height, source_width, sample_aspect_ratio=ratio)
    assert 0 <= box.top <= source_height - box.height
    assert 0 <= box.left <= source_width - box.width
    assert box.height == source_height or box.width == source_width
    shown = Fraction(height, width)
    if box.height == source_height and box.width > 1:
        assert abs(box.width * ratio - box.height / shown) <= ratio / 2 or box.width == source_width
    if box.width == source_width and box.height > 1:
        assert abs(box.height - box.width * ratio * shown) <= Fraction(1, 2) or (
            box.height == source_height
        )
