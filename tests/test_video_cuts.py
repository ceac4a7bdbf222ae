"""Cuts: found where a film jumps, and nowhere else, however its frames are handed over."""

from __future__ import annotations

from fractions import Fraction
from itertools import chain, islice
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ldf_video.errors import TruncatedError
from ldf_video.video.cuts import MOST_AHEAD, CutFinder, shots

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE = 32


def scene(seed: int, count: int, *, speed: float = 0.5, size: int = SIZE) -> np.ndarray:
    """Frames (count, size, size, 3) of a window that moves to and fro over a picture of shapes."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(40, 215, (8, 24, 3))
    picture = np.kron(coarse, np.ones((size // 4, size // 4, 1)))
    room = picture.shape[1] - size
    moved = [round(speed * k * size / 32) % (2 * room) for k in range(count)]
    starts = [min(at, 2 * room - at) for at in moved]
    return np.stack([picture[:size, at : at + size] for at in starts]).astype(np.uint8)


def faded(frames: np.ndarray, gains: np.ndarray) -> np.ndarray:
    return (frames * gains[:, None, None, None]).astype(np.uint8)


def dissolved(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    share = np.linspace(0, 1, len(one))[:, None, None, None]
    return ((1 - share) * one + share * other).astype(np.uint8)


def flicker(count: int) -> np.ndarray:
    """A maze with large sprites that are drawn on alternate frames alone."""
    frames = np.zeros((count, SIZE, SIZE, 3), np.uint8)
    frames[:, ::4] = (0, 0, 180)
    for k in range(0, count, 2):
        frames[k, 4:20, 8:24] = (250, 180, 60)
    return frames


def level(value: int, count: int) -> np.ndarray:
    return np.full((count, SIZE, SIZE, 3), value, np.uint8)


WHOLE = scene(1, 60)
DRAWINGS = np.concatenate([scene(k, 1) for k in range(5)])
CASES = {
    "two scenes": (25, [scene(1, 30), scene(2, 30)], [30]),
    "three, the second short": (25, [scene(1, 30), scene(2, 8), scene(3, 30)], [30, 38]),
    "fast motion on one side": (25, [scene(1, 30, speed=5), scene(2, 30)], [30]),
    "motion": (25, [scene(1, 90, speed=2)], []),
    "fast motion": (25, [scene(1, 90, speed=8)], []),
    "a flash": (25, [WHOLE[:30], level(255, 2), WHOLE[30:]], []),
    "flickering sprites": (15, [flicker(80)], []),
    "a fade out": (25, [WHOLE[:30], faded(WHOLE[30:45], np.linspace(1, 0, 15)), level(0, 20)], []),
    "a fade in": (25, [level(0, 20), faded(WHOLE[:15], np.linspace(0, 1, 15)), WHOLE[15:]], []),
    "out of black at once": (25, [level(0, 30), WHOLE], [30]),
    "a dissolve": (
        25,
        [scene(1, 30), dissolved(scene(1, 42)[30:], scene(2, 12)), scene(2, 42)[12:]],
        [],
    ),
    "drawings held for six frames": (24, [np.repeat(scene(1, 24, speed=6), 6, axis=0)], []),
    "drawings, then others": (
        24,
        [np.repeat(scene(1, 12, speed=2), 3, axis=0), np.repeat(scene(2, 12, speed=2), 3, axis=0)],
        [36],
    ),
    "a time lapse": (2, [np.concatenate([scene(k, 1) for k in range(30)])], []),
    "a slide show": (25, [np.repeat(DRAWINGS, 50, axis=0)], [50, 100, 150, 200]),
    "a still picture": (25, [scene(1, 1)], []),
    "the same frame": (25, [level(90, 60)], []),
    "five different frames": (15, [DRAWINGS], []),
    "a short clip with a cut": (15, [scene(1, 3), scene(2, 2)], []),
    "a short clip that turns from black to white": (15, [level(0, 3), level(255, 2)], [3]),
    "a small picture": (
        25,
        [scene(1, 30, speed=0)[:, :5, :3], scene(2, 30, speed=0)[:, :5, :3]],
        [30],
    ),
    "a large picture": (25, [scene(1, 30, size=96), scene(2, 30, size=96)], [30]),
}


def find_cuts(frames: np.ndarray, fps: Fraction) -> list[int]:
    finder = CutFinder(fps)
    return [*finder.add(frames), *finder.end()]


@pytest.mark.parametrize("name", CASES)
def test_cuts_are_found_and_nothing_else_is(name: str) -> None:
    fps, parts, cuts = CASES[name]
    assert find_cuts(np.concatenate(parts), Fraction(fps)) == cuts


@pytest.mark.parametrize("step", [1, 7, 32])
@pytest.mark.parametrize("fps", [2, 12, 25, 240])
def test_it_does_not_matter_how_frames_are_handed_over(fps: int, step: int) -> None:
    film = np.concatenate([scene(k, 9 + 31 * (k % 3), speed=k % 4) for k in range(12)])
    finder, found = CutFinder(Fraction(fps)), []
    for start in range(0, len(film), step):
        found += finder.add(film[start : start + step])
    assert found + finder.end() == find_cuts(film, Fraction(fps))


def test_a_clip_that_is_gone_on_with_has_the_same_cuts() -> None:
    film = np.concatenate([scene(k, 23 + 11 * (k % 4), speed=k % 3) for k in range(14)])
    whole = find_cuts(film, Fraction(25))
    assert len(whole) == 13
    for known in (1, 60, 200, 333, 450):
        before, first = CutFinder(Fraction(25)), max(0, known - 2 * MOST_AHEAD)
        kept = before.add(film[:known])
        after = CutFinder(Fraction(25), first=first)
        again = [*after.add(film[first:]), *after.end()]
        assert sorted({*kept, *again}) == whole


def test_memory_does_not_grow_with_a_clip() -> None:
    finder, block = CutFinder(Fraction(25)), scene(1, 32)
    sizes = []
    for _ in range(40):
        finder.add(block)
        sizes.append(sum(v.nbytes for v in vars(finder).values() if isinstance(v, np.ndarray)))
    assert max(sizes[8:]) <= max(sizes[:8])


def test_shots_are_what_lies_between_cuts_and_what_is_raised_comes_behind_them() -> None:
    frames = np.concatenate([scene(1, 50), scene(2, 90), scene(3, 30)])
    fps = Fraction(24)
    found = [np.stack(list(shot)) for shot in shots(iter(frames), fps)]
    assert np.cumsum([len(shot) for shot in found])[:-1].tolist() == find_cuts(frames, fps)
    assert np.array_equal(np.concatenate(found), frames)

    def broken() -> Iterator[np.ndarray]:
        yield from frames[:100]
        raise TruncatedError("it ends early")

    given = chain.from_iterable(shots(broken(), fps))
    assert len(list(islice(given, 100))) == 100
    with pytest.raises(TruncatedError):
        next(given)
    assert list(shots([], fps)) == []
    assert [len(list(shot)) for shot in shots(frames[:5], fps)] == [5]
