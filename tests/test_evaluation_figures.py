"""Each way of spoiling clips is caught by the figure that should catch it."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from tiny_judge import ClipFeatures, FrameFeatures, moving_clips, write_judge
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from ldf_video.errors import LdfError
from ldf_video.evaluation import change as changes
from ldf_video.evaluation import figures
from ldf_video.evaluation.change import Change
from ldf_video.evaluation.figures import (
    MOST_LOOKED_UP,
    Figures,
    Kernel,
    Memorisation,
    evenly_spread,
    figures_from_json,
    measure,
    memorisation,
    nearest_levels,
)
from ldf_video.evaluation.judge import Judge, load_judge
from ldf_video.evaluation.reference import Reference, blurred, noised
from ldf_video.evaluation.report import table
from ldf_video.output import json_text

if TYPE_CHECKING:
    from pathlib import Path

COUNT = 240


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    """A judge of 80 features, more than there are directions."""
    path = tmp_path_factory.mktemp("judge") / "judge.pt"
    return load_judge(write_judge(path, FrameFeatures(num_features=80)))


@pytest.fixture(scope="module")
def real() -> np.ndarray:
    return moving_clips(COUNT, seed=1)


@pytest.fixture(scope="module")
def others() -> np.ndarray:
    return moving_clips(COUNT, seed=2)


@pytest.fixture(scope="module")
def reference(real: np.ndarray, judge: Judge) -> Reference:
    return Reference.of(real, judge)


@pytest.fixture(scope="module")
def floor(reference: Reference, others: np.ndarray, judge: Judge) -> Figures:
    return measure(reference, others, judge)


def test_the_reference_is_at_no_distance_from_itself(
    reference: Reference, real: np.ndarray, judge: Judge
) -> None:
    found = measure(reference, real, judge)
    for name in ("frame", "video", "motion", "video_plus"):
        assert getattr(found, name).value == pytest.approx(0, abs=1e-3)
    assert found.diversity.recall == found.diversity.coverage == found.diversity.precision == 1


def test_other_real_clips_are_at_the_floor(floor: Figures, judge: Judge, real: np.ndarray) -> None:
    again = measure(Reference.of(moving_clips(COUNT, seed=3), judge), real, judge)
    for name in ("frame", "video", "motion", "video_plus"):
        one, two = getattr(floor, name), getattr(again, name)
        assert 0 < one.low < two.high
        assert two.low < one.high
    assert floor.diversity.recall > 0.8
    assert floor.diversity.coverage > 0.8


def test_each_way_of_spoiling_is_caught(
    reference: Reference, others: np.ndarray, judge: Judge, floor: Figures
) -> None:
    def spoilt(clips: np.ndarray) -> Figures:
        return measure(reference, clips, judge)

    soft = spoilt(blurred(others))
    assert soft.frame.low > floor.frame.high
    assert soft.video.low > floor.video.high
    repeated = spoilt(others[:10].repeat(COUNT // 10, axis=0)).diversity
    assert repeated.recall < 0.05
    assert repeated.coverage < 0.4
    assert repeated.precision > 0.7  # they are good clips
    shuffled = spoilt(others[:, [0, 3, 1, 4, 2]])
    assert shuffled.motion.low > floor.motion.high
    assert shuffled.video.value > floor.video.value
    assert shuffled.frame == floor.frame  # the first frame is where it was
    assert shuffled.change.moving_percent > 1.2 * floor.change.moving_percent
    assert shuffled.tracks.vanish_percent.low > floor.tracks.vanish_percent.high
    assert shuffled.tracks.step_pixels.value > 2 * floor.tracks.step_pixels.value
    for name in ("frame", "video", "motion"):
        assert getattr(floor.kernel, name).low < 0 < getattr(floor.kernel, name).high
    assert soft.kernel.frame.low > floor.kernel.frame.high
    assert shuffled.kernel.motion.low > floor.kernel.motion.high
    frozen = spoilt(others[:, :1].repeat(5, axis=1))
    assert frozen.motion.low > 3 * floor.motion.high
    assert frozen.video.value > floor.video.value
    assert frozen.frame == floor.frame
    assert frozen.kernel.motion.low > floor.kernel.motion.high
    assert math.isnan(frozen.tracks.vanish_percent.value)
    assert " none |" in table({"frozen": frozen})
    assert (frozen.change.moving_percent, frozen.change.still_clips_percent) == (0, 100)
    assert floor.change.still_clips_percent < 10
    noise = np.random.default_rng(0).integers(-3, 4, others.shape)
    flickering = spoilt((others + noise).clip(0, 255).astype(np.uint8))
    assert floor.change.flicker_levels == 0
    assert flickering.change.flicker_levels > 2


def of_patches(frames: Tensor) -> Tensor:
    """The mean of each patch of 8 x 8, and how far pixels are from it."""
    levels = frames.float()
    means = avg_pool2d(levels, 8)
    rough = levels - interpolate(means, scale_factor=8.0)
    return torch.cat([means.flatten(1), 20 * rough.flatten(1).std(1, keepdim=True)], dim=1)


def test_what_real_frames_never_have_shows_on_the_wider_directions_alone() -> None:
    judge = Judge("patches", "0" * 64, 16, "cpu", of_patches)
    rng = np.random.default_rng(0)
    flat = rng.integers(60, 190, (2, COUNT, 5, 5, 5, 3), np.uint8).repeat(8, 3).repeat(8, 4)
    reference = Reference.of(flat[0], judge)  # 75 colours of patches, of which 64 directions hold
    floor, found = (measure(reference, clips, judge) for clips in (flat[1], noised(flat[1])))
    assert found.video.value == pytest.approx(floor.video.value, rel=0.1)
    assert found.video_plus.low > 2 * floor.video_plus.high


def test_single_frames_have_the_frame_figure_alone(
    reference: Reference, others: np.ndarray, judge: Judge, floor: Figures
) -> None:
    expected = Figures(COUNT, frame=floor.frame, kernel=Kernel(frame=floor.kernel.frame))
    assert measure(reference, others[:, :1], judge) == expected


def test_a_judge_of_clips_gives_the_video_figure_alone(
    real: np.ndarray, others: np.ndarray, tmp_path: Path
) -> None:
    judge = load_judge(write_judge(tmp_path / "i3d.pt", ClipFeatures()))
    reference = Reference.of(real, judge)
    found = measure(reference, others, judge)
    assert found.video.value > 0
    assert (found.frame, found.motion, found.video_plus) == (None, None, None)
    assert found.diversity.recall > 0.7
    assert measure(reference, others[:, :1], judge) == Figures(COUNT)


def test_what_cannot_be_compared_is_refused(
    reference: Reference, others: np.ndarray, judge: Judge, tmp_path: Path
) -> None:
    with pytest.raises(LdfError, match="got clips of 4 frames of 32 x 32, expected 5 frames of"):
        measure(reference, others[:, :4], judge)
    with pytest.raises(LdfError, match="got clips of 5 frames of 32 x 16, expected 5 frames of"):
        measure(reference, others[:, :, :16], judge)
    other = load_judge(write_judge(tmp_path / "other.pt", seed=1))
    with pytest.raises(LdfError, match=r"the reference was judged by judge\.pt"):
        measure(reference, others, other)
    with pytest.raises(ValueError, match="got 19 points"):
        measure(reference, others[:19], judge)


def test_figures_go_to_json_and_back(floor: Figures) -> None:
    assert figures_from_json(json.loads(json_text(asdict(floor)))) == floor
    assert floor.frame is not None
    unknown = replace(floor, frame=replace(floor.frame, low=math.nan))
    back = figures_from_json(json.loads(json_text(asdict(unknown))))
    assert back.frame is not None
    assert math.isnan(back.frame.low)
    assert back.frame.value == floor.frame.value


def test_the_table_has_a_row_a_set_and_no_empty_column(floor: Figures) -> None:
    text = table({"real": floor, "prior": Figures(7, frame=floor.frame)})
    distances, _, shares = text.split("\n\n")
    lines = distances.splitlines()
    assert len({len(line) for line in lines}) == 1
    head = [cell.strip() for cell in lines[0].strip("|").split("|")]
    assert head == ["clips of", "clips", "frame", "video", "motion", "video+"]
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    frame = floor.frame
    assert cells[:3] == ["real", "240", f"{frame.value:.2f} ({frame.low:.2f} to {frame.high:.2f})"]
    cells = [cell.strip() for cell in lines[3].strip("|").split("|")]
    assert (cells[0], cells[1], cells[3]) == ("prior", "7", "")
    assert "PSNR" not in text
    assert "flicker" in shares
    assert "to training" not in shares


# -- on pixels set by hand -------------------------------------------------------------------------


def grey(count: int) -> np.ndarray:
    return np.full((count, 3, 10, 10, 3), 100, np.uint8)


@pytest.mark.parametrize("frames_at_once", [1280, 1])
def test_change_by_hand(monkeypatch: pytest.MonkeyPatch, frames_at_once: int) -> None:
    def change(clips: np.ndarray) -> Change:
        return changes.change(changes.count_changes(clips))

    monkeypatch.setattr(changes, "FRAMES_AT_ONCE", frames_at_once)
    clips = grey(2)
    clips[0, 1, 0, :5] += 41  # five pixels move, and move back
    clips[0, 2, 9, 0, 1] -= 40  # one flickers, in one colour
    # 2 clips x 2 steps x 100 pixels; flicker: 40 over the 390 that do not move
    assert change(clips) == Change(
        moving_percent=pytest.approx(100 * 10 / 400),
        still_clips_percent=50,
        flicker_levels=pytest.approx(40 / 390),
    )
    clips = grey(1)
    clips[0, :, 0, 0] = np.array([0, 255, 0])[:, None]  # levels do not wrap round
    assert change(clips).moving_percent == 1
    clips[:, 1] = 200
    clips[:, ::2] = 100
    assert change(clips) == Change(100, 0, 0)  # nothing stands still that could flicker


def test_the_nearest_training_clip_is_found_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    train, clips = moving_clips(33, seed=0), moving_clips(17, seed=1)
    clips[3] = train[20]
    clips[4] = train[5]
    clips[4, 2, 7, 7, 1] ^= 1  # one level of one pixel's green
    monkeypatch.setattr(figures, "CLIPS_AT_ONCE", 10)
    monkeypatch.setattr(figures, "LOOKED_UP_AT_ONCE", 7)
    counts: list[int] = []
    found = nearest_levels({"a": clips, "b": train[:2]}, iter(train), on_clips=counts.append)
    squared = np.square(clips[:, None].astype(float) - train).mean((2, 3, 4, 5))
    np.testing.assert_allclose(found["a"], np.sqrt(squared.min(1)), rtol=1e-12)
    assert found["a"][3] == 0
    assert found["a"][4] == pytest.approx(np.sqrt(1 / clips[4].size))
    assert found["b"].tolist() == [0, 0]
    assert counts == [10, 20, 30, 33]


def test_memorisation_by_hand() -> None:
    real = np.arange(100.0, 300.0)  # the nearest percent: below 101.99, by a clip that there is 101
    judged = np.array([1.0, 101.0, 102.0, 400.0])
    assert memorisation(judged, real) == Memorisation(
        median_levels=101.5, real_median_levels=199.5, copied_percent=50
    )
    assert memorisation(real, real).copied_percent == 1


def test_clips_that_are_looked_up_are_evenly_spread() -> None:
    clips = np.arange(2500)
    assert evenly_spread(clips[:1000]).tolist() == clips[:1000].tolist()
    spread = evenly_spread(clips)
    assert len(spread) == MOST_LOOKED_UP == len(set(spread.tolist()))
    assert (spread[0], spread[-1]) == (0, 2499)
