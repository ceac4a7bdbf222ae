"""--max-memory, the arithmetic: sizes, lines through measured peaks, and what is picked."""

from __future__ import annotations

import pytest

from ldf_video.errors import UsageError
from ldf_video.levels import memory_plan
from ldf_video.levels.memory_plan import MIB, Footprint, Means, Plan, with_spare

PLAIN, CHECKPOINTING = Means("adam", False), Means("adam", True)
PLAIN_8BIT, EVERYTHING = Means("adam8bit", False), Means("adam8bit", True)
ALL = [PLAIN, CHECKPOINTING, PLAIN_8BIT, EVERYTHING]
BYTES = {  # held anyhow, and for each frame
    PLAIN: (300 * MIB, 10 * MIB),
    CHECKPOINTING: (300 * MIB, 5 * MIB),
    PLAIN_8BIT: (250 * MIB, 10 * MIB),
    EVERYTHING: (250 * MIB, 5 * MIB),
}


def footprint(means: Means) -> Footprint:
    base, frame = BYTES[means]
    return Footprint((4, base + 4 * frame), (8, base + 8 * frame))


def pick(budget: int, *, device: str = "cpu", means: list[Means] = ALL) -> tuple[Plan | None, int]:
    sizes = memory_plan.part_sizes(64, fewest=4, accumulate=None)
    return memory_plan.choose(
        means,
        sizes,
        batch_size=64,
        budget=budget,
        device=device,
        measure=lambda way: (footprint(way), 0),
    )


def budget_of(way: Means, frames: int) -> int:
    return with_spare(footprint(way).at(frames))


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2GiB", 2 << 30),
        ("900MiB", 900 << 20),
        ("2GB", 2 * 10**9),
        ("1.5GiB", 3 << 29),
        ("1200 MB", 1_200_000_000),
    ],
)
def test_a_size_has_a_unit(text: str, size: int) -> None:
    assert memory_plan.bytes_of(text) == size


@pytest.mark.parametrize(
    "text", ["2", "2G", "2gib", "GiB", "-1GiB", "0GiB", "1e3MiB", "1,5GiB", "", "2GiB!", "nanGiB"]
)
def test_another_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as error:
        memory_plan.bytes_of(text)
    assert str(error.value) == (
        f"--max-memory {text}: expected a number with MiB, GiB, MB, GB, such as 2GiB"
    )


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (900 * MIB, "900 MiB"),
        (900 * MIB + 1, "901 MiB"),
        (1 << 30, "1.0 GiB"),
        (1229 * MIB, "1.3 GiB"),
    ],
)
def test_a_size_is_never_told_smaller_than_it_is(size: int, text: str) -> None:
    assert memory_plan.told(size) == text
    assert memory_plan.bytes_of(text) >= size


def test_peaks_lie_on_a_line_above_a_floor() -> None:
    found = Footprint((4, 140), (8, 180), floor=170)
    assert [found.at(frames) for frames in (4, 8, 16)] == [170, 180, 260]


def test_parts_divide_the_batch_and_have_enough_frames() -> None:
    assert memory_plan.part_sizes(48, fewest=4, accumulate=None) == [48, 24, 16, 12, 8, 6, 4]
    assert memory_plan.part_sizes(7, fewest=4, accumulate=None) == [7]
    assert memory_plan.part_sizes(48, fewest=4, accumulate=3) == [16]


def test_given_options_leave_less_to_pick_from() -> None:
    def left(**options: object) -> list[Means]:
        usual = {"optimizer": "adam", "fixed": False, "gradient_checkpointing": False}
        return memory_plan.all_means(**(usual | {"has_adam8bit": True} | options))  # type: ignore[arg-type]

    assert left() == ALL
    assert left(has_adam8bit=False) == [PLAIN, CHECKPOINTING]
    assert left(fixed=True) == [PLAIN, CHECKPOINTING]
    assert left(optimizer="adam8bit", fixed=True) == [PLAIN_8BIT, EVERYTHING]
    assert [way.optimizer for way in left(optimizer="muon")] == 2 * ["muon"] + 2 * ["adam8bit"]
    assert left(gradient_checkpointing=True) == [CHECKPOINTING, EVERYTHING]


@pytest.mark.parametrize(
    ("way", "frames"),
    [(PLAIN, 64), (PLAIN, 32), (PLAIN, 4), (CHECKPOINTING, 4), (PLAIN_8BIT, 4), (EVERYTHING, 4)],
)
def test_the_quickest_that_fits_is_picked(way: Means, frames: int) -> None:
    budget = budget_of(way, frames)
    plan, needed = pick(budget)
    assert plan == Plan(way, 64 // frames, footprint(way).at(frames))
    assert needed == budget


def test_a_byte_less_and_something_slower_is_picked() -> None:
    plan, _ = pick(budget_of(PLAIN, 64) - 1)
    assert plan is not None
    assert (plan.means, plan.accumulate) == (PLAIN, 2)
    plan, _ = pick(budget_of(PLAIN, 4) - 1)
    assert plan is not None
    assert (plan.means, plan.accumulate) == (CHECKPOINTING, 16)


def test_on_a_gpu_parts_cost_more_than_computing_twice() -> None:
    plan, _ = pick(budget_of(CHECKPOINTING, 64), device="cuda")
    assert plan is not None
    assert (plan.means, plan.accumulate) == (CHECKPOINTING, 1)
    plan, _ = pick(budget_of(CHECKPOINTING, 64), device="cpu")
    assert plan is not None
    assert (plan.means, plan.accumulate) == (PLAIN, 2)


def test_where_nothing_fits_the_least_budget_is_told() -> None:
    least = budget_of(EVERYTHING, 4)
    assert pick(least - 1) == (None, least)
    assert pick(least - 1, means=[PLAIN]) == (None, budget_of(PLAIN, 4))


def test_only_what_is_needed_is_measured() -> None:
    asked: list[Means] = []

    def measure(way: Means) -> tuple[Footprint, int]:
        asked.append(way)
        return footprint(way), 0

    options = {"batch_size": 64, "device": "cpu", "measure": measure}
    memory_plan.choose(ALL, [64, 4], budget=1 << 40, **options)  # type: ignore[arg-type]
    assert asked == [PLAIN]
    asked.clear()
    memory_plan.choose(ALL, [64, 4], budget=1, **options)  # type: ignore[arg-type]
    assert asked == ALL


def test_what_measuring_held_must_fit_too() -> None:
    held = budget_of(PLAIN, 64) + 1
    options = {"batch_size": 64, "device": "cpu", "measure": lambda way: (footprint(way), held)}
    assert memory_plan.choose(ALL, [64], budget=held - 1, **options) == (None, held)  # type: ignore[arg-type]
    plan, _ = memory_plan.choose(ALL, [64], budget=held, **options)  # type: ignore[arg-type]
    assert plan is not None


def test_what_was_picked_is_told_in_a_line() -> None:
    def line(means: Means, accumulate: int) -> str:
        return memory_plan.line("2GiB", Plan(means, accumulate, 900 * MIB), batch_size=64)

    assert line(PLAIN, 1) == "--max-memory 2GiB: the whole batch at once; about 900 MiB expected"
    assert line(EVERYTHING, 4) == (
        "--max-memory 2GiB: parts of 16 (--accumulate 4), --gradient-checkpointing, "
        "--optimizer adam8bit; about 900 MiB expected"
    )
