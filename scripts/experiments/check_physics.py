"""Whether the figures of pacman_physics.py see each fault, and that fault only.

    python scripts/experiments/check_physics.py clips/paper/test

Takes the real clips in which a ghost goes its way alone, at one moment at least, and prints the
table of pacman_physics.py for them as they are and spoilt in one way at a time:

    moved        the ghost is 10 px beside its way, in one frame
    removed      it is missing in one frame
    recoloured   it has another ghost's colour in one frame
    hollow       it is the outline of its box in one frame
    halved       it has lost its lower half in one frame
    walled       a wall has always been where it is in that frame
    breached     a hole of 4 x 4 px opens in a wall in that frame, and stays
    blurred      the corners of the first four frames are blurred
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pacman_physics import (
    BLOCK,
    REACH,
    REGIONS,
    SIZE,
    Counts,
    cut,
    figures,
    is_judged,
    physics,
    table,
)
from pacman_sprites import (
    FIRST_SPRITE,
    FLOOR_RGB,
    SPRITE_RGB,
    SPRITES,
    WALL,
    WALL_RGB,
    Frames,
    Sprite,
    grown,
    kinds_of,
    match,
    sprites_of,
    walls_of,
)

JUMP = 10
HOLE = 4


class Scene(NamedTuple):
    """A real clip (T, 32, 32, 3) and what may be spoilt in it."""

    clip: Frames
    number: int  # of the frame in which the ghost is alone, as in those beside it
    ghost: Sprite
    jump: tuple[int, int]  # rows and columns to a place where it may stand as well
    hole: tuple[int, int]  # top row and left column of a piece of wall


def scene_of(clip: Frames) -> Scene | None:
    """The first frame of a clip in which something may be spoilt, if there is one."""
    kinds, _ = kinds_of(clip)
    wall, pellet = walls_of(kinds)
    sprites = sprites_of(kinds)
    hole = _hole(np.logical_and.reduce(wall & ~grown(kinds > WALL, by=3)))
    followed = [_is_followed(*pair) for pair in pairwise(sprites)]
    free = ~grown(np.logical_or.reduce(wall | pellet)[None], by=1)[0]
    for number in range(1, len(clip) - 1):
        if hole is None or not (followed[number - 1] and followed[number]):
            continue
        (ghost,) = sprites[number]
        for jump in ((0, JUMP), (0, -JUMP), (JUMP, 0), (-JUMP, 0)):
            rows, columns = ghost.rows + jump[0], ghost.columns + jump[1]
            inside = (np.minimum(rows, columns) > 0).all() and (
                np.maximum(rows, columns) < SIZE - 1
            ).all()
            if inside and free[rows, columns].all():
                return Scene(clip, number, ghost, jump, hole)
    return None


def _is_followed(before: Sequence[Sprite], after: Sequence[Sprite]) -> bool:
    """Whether one ghost alone is seen in two frames."""
    return (
        len(before) == len(after) == 1
        and before[0].kind == after[0].kind > FIRST_SPRITE
        and is_judged(before[0], before)
        and is_judged(after[0], after)
        and match(before, after, reach=REACH) == {0: 0}
    )


def _hole(wall: NDArray[np.bool_]) -> tuple[int, int] | None:
    """Top row and left column of a square of wall."""
    squares = np.lib.stride_tricks.sliding_window_view(wall, (HOLE, HOLE)).all((2, 3))
    found = np.argwhere(squares)
    return (int(found[0, 0]), int(found[0, 1])) if len(found) else None


# -------------------- ways of spoiling


def moved(scene: Scene) -> Frames:
    """The ghost beside its way."""
    clip, ghost = removed(scene), scene.ghost
    rows, columns = ghost.rows + scene.jump[0], ghost.columns + scene.jump[1]
    clip[scene.number, rows, columns] = scene.clip[scene.number, ghost.rows, ghost.columns]
    return clip


def removed(scene: Scene) -> Frames:
    """No ghost."""
    clip, ghost = scene.clip.copy(), scene.ghost
    clip[scene.number, ghost.rows, ghost.columns] = FLOOR_RGB
    return clip


def recoloured(scene: Scene) -> Frames:
    """Another ghost."""
    clip, ghost = scene.clip.copy(), scene.ghost
    colours = list(SPRITE_RGB.values())[1:5]
    other = colours[(ghost.kind - FIRST_SPRITE) % len(colours)]
    clip[scene.number, ghost.rows, ghost.columns] = other
    return clip


def hollow(scene: Scene) -> Frames:
    """The outline of the ghost's box."""
    clip, ghost = removed(scene), scene.ghost
    box = np.s_[scene.number, ghost.top : ghost.bottom + 1, ghost.left : ghost.right + 1]
    edge = np.ones((ghost.height, ghost.width), bool)
    edge[1:-1, 1:-1] = False
    clip[box][edge] = SPRITE_RGB[SPRITES[ghost.kind - FIRST_SPRITE]]
    return clip


def halved(scene: Scene) -> Frames:
    """Half a ghost."""
    clip, ghost = scene.clip.copy(), scene.ghost
    lower = ghost.rows > (ghost.top + ghost.bottom) // 2
    clip[scene.number, ghost.rows[lower], ghost.columns[lower]] = FLOOR_RGB
    return clip


def walled(scene: Scene) -> Frames:
    """Wall in place of the floor around the ghost, in all frames."""
    clip, ghost = scene.clip.copy(), scene.ghost
    box = (slice(None), slice(ghost.top, ghost.bottom + 1), slice(ghost.left, ghost.right + 1))
    is_maze = kinds_of(clip)[0][box] <= WALL
    clip[box][is_maze] = WALL_RGB
    return clip


def breached(scene: Scene) -> Frames:
    """A hole in a wall."""
    clip, (top, left) = scene.clip.copy(), scene.hole
    clip[scene.number :, top : top + HOLE, left : left + HOLE] = FLOOR_RGB
    return clip


def blurred(scene: Scene) -> Frames:
    """Unsharp corners: means of 3 x 3 pixels."""
    clip = scene.clip.copy()
    padded = np.pad(clip[:BLOCK].astype(np.float32), ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    corner = REGIONS["corner"]
    clip[:BLOCK, corner] = windows.mean((-2, -1)).round()[:, corner]
    return clip


WAYS: tuple[Callable[[Scene], Frames], ...] = (
    moved,
    removed,
    recoloured,
    hollow,
    halved,
    walled,
    breached,
    blurred,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", help="real clips of Ms. Pac-Man")
    parser.add_argument("--frames", type=int, default=16, help="of each clip")
    parser.add_argument("--num-clips", type=int, default=1500, help="to look at, at most")
    arguments = parser.parse_args(argv)
    clips = cut(arguments.clips, skip=0, frames=arguments.frames, most=arguments.num_clips)
    scenes = [scene for clip in clips if (scene := scene_of(clip)) is not None]
    if not scenes:
        parser.error(f"{arguments.clips}: no clip in which a ghost goes its way alone")
    rows = {f"real ({len(scenes)})": _counted([scene.clip for scene in scenes])}
    for way in WAYS:
        rows[way.__name__] = _counted([way(scene) for scene in scenes])
    print(table({name: figures(counts) for name, counts in rows.items()}, intervals=False))
    return 0


def _counted(clips: Sequence[Frames]) -> list[Counts]:
    return [physics(clip) for clip in clips]


if __name__ == "__main__":
    raise SystemExit(main())
