"""What a frame of Ms. Pac-Man holds, told by its colours: maze, pellets, sprites; no command.

The console has few colours. A kept frame is the maximum of two raw ones (`record_pacman.py`), so
that a sprite drawn in one of them alone has the maximum of its colour and what lies behind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]
Masks = NDArray[np.bool_]

FLOOR_RGB, WALL_RGB = (0, 28, 136), (228, 111, 111)
SPRITE_RGB = {
    "pacman": (210, 164, 74),
    "red": (200, 72, 72),
    "pink": (198, 89, 179),
    "cyan": (84, 184, 153),
    "orange": (180, 122, 48),
    "edible": (66, 114, 194),
    "white": (214, 214, 214),
}
FLOOR, WALL, SEVERAL = range(3)
"""Kinds of a pixel: floor, wall or pellet, sprites over each other; then each of the sprites."""
SPRITES = tuple(SPRITE_RGB)
FIRST_SPRITE = 3
UNCLEAR_LEVELS = 40
"""Distance from the nearest colour of the game behind which a pixel is of none of them."""
SAME_LEVELS = 30
LEAST_WALL = 36
"""Pixels of a wall's part: an energizer, the largest pellet, has 28."""
LEAST_SPRITE = 10
AT_ONCE = 256
SPACE = 32
"""Pixels each way that hold any sprite."""


def _palette() -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Colours (N, 3) of the game, and the kind of each."""
    floor, wall, *sprites = (np.array(c) for c in (FLOOR_RGB, WALL_RGB, *SPRITE_RGB.values()))
    colours, kinds = [floor, 0 * floor, wall, *sprites], [FLOOR, FLOOR, WALL]
    of_sprites = range(FIRST_SPRITE, FIRST_SPRITE + len(sprites))
    kinds += of_sprites
    for behind in (floor, wall, *sprites):
        for kind, sprite in zip(of_sprites, sprites, strict=True):
            both = np.maximum(sprite, behind)
            if min(np.linalg.norm(both - colour) for colour in colours) > SAME_LEVELS:
                colours.append(both)
                kinds.append(kind if behind is floor or behind is wall else SEVERAL)
    return np.array(colours, float), np.array(kinds, np.uint8)


def _tables() -> tuple[NDArray[np.uint8], Masks]:
    """Kind, and whether it is unclear, of each colour of 32 levels a channel: (32768,) each.

    Blends of floor and wall, as at a blurred edge, are the nearer of the two and no sprite.
    """
    colours, kinds = _palette()
    share = np.linspace(0, 1, 17)[:, None]
    blends = (1 - share) * FLOOR_RGB + share * WALL_RGB
    of_blends = np.where(share[:, 0] < 0.5, FLOOR, WALL).astype(np.uint8)
    level = np.arange(32, dtype=float) * 8 + 4
    grid = np.stack(np.meshgrid(level, level, level, indexing="ij"), axis=-1).reshape(-1, 1, 3)
    clear = np.square(grid - colours).sum(-1)  # (32768, N)
    distance = np.concatenate([clear, np.square(grid - blends).sum(-1)], axis=1)
    nearest = np.concatenate([kinds, of_blends])[distance.argmin(1)]
    return nearest, clear.min(1) > UNCLEAR_LEVELS**2


_KIND, _UNCLEAR = _tables()


def kinds_of(frames: Frames) -> tuple[NDArray[np.uint8], Masks]:
    """The kind of each pixel of frames (..., H, W, 3), and whether it has no colour of the game."""
    r, g, b = np.moveaxis(frames >> 3, -1, 0).astype(np.int32)
    code = (r << 10) | (g << 5) | b
    return _KIND[code], _UNCLEAR[code]


def parts_of(masks: Masks) -> NDArray[np.int16]:
    """Connected parts of masks (N, H, W), corners too: 0 outside, a number each in its frame."""
    n, h, w = masks.shape
    own = np.arange(1, h * w + 1, dtype=np.int16).reshape(h, w)
    parts = [_spread(own * part, part) for part in np.array_split(masks, n // AT_ONCE + 1)]
    return np.concatenate(parts)


def _spread(number: NDArray[np.int16], masks: Masks) -> NDArray[np.int16]:
    """The highest number of a part all over it."""
    while True:
        rows = np.pad(number, ((0, 0), (1, 1), (0, 0)))
        rows = np.maximum(np.maximum(rows[:, :-2], rows[:, 2:]), number)
        columns = np.pad(rows, ((0, 0), (0, 0), (1, 1)))
        spread = np.maximum(np.maximum(columns[..., :-2], columns[..., 2:]), rows) * masks
        if np.array_equal(spread, number):
            return number
        number = spread


def walls_of(kinds: NDArray[np.uint8]) -> tuple[Masks, Masks]:
    """Pixels of walls and of pellets, each (N, H, W): walls are the larger parts of one colour."""
    pink = kinds == WALL
    parts = parts_of(pink)
    first = np.arange(len(parts))[:, None, None] * (parts[0].size + 1)
    large = np.bincount((first + parts).ravel())[first + parts] >= LEAST_WALL
    return pink & large, pink & ~large


def grown(masks: Masks, *, by: int) -> Masks:
    """Masks (N, H, W) and all within `by` pixels of them."""
    _, h, w = masks.shape
    padded = np.pad(masks, ((0, 0), (by, by), (by, by)))
    rows = np.logical_or.reduce([padded[:, i : i + h] for i in range(2 * by + 1)])
    return np.logical_or.reduce([rows[..., i : i + w] for i in range(2 * by + 1)])


class Sprite(NamedTuple):
    """A part of a frame that is no maze; rows and columns of its box are inclusive."""

    kind: int
    top: int
    bottom: int
    left: int
    right: int
    rows: NDArray[np.intp]  # of its pixels
    columns: NDArray[np.intp]
    is_whole: bool  # away from the border of the frame

    @property
    def height(self) -> int:
        return self.bottom - self.top + 1

    @property
    def width(self) -> int:
        return self.right - self.left + 1

    @property
    def centre(self) -> tuple[float, float]:
        """Of its box: eyes and mouths move about in it."""
        return (self.top + self.bottom) / 2, (self.left + self.right) / 2


def sprites_of(kinds: NDArray[np.uint8]) -> list[list[Sprite]]:
    """The sprites of each frame, (N, H, W) kinds; the kind of one is that of most of its pixels."""
    parts = parts_of(kinds >= SEVERAL)
    return [list(_sprites(*frame)) for frame in zip(kinds, parts, strict=True)]


def _sprites(kinds: NDArray[np.uint8], parts: NDArray[np.int32]) -> Iterator[Sprite]:
    h, w = kinds.shape
    for number in np.unique(parts[parts > 0]):
        rows, columns = np.nonzero(parts == number)
        if len(rows) < LEAST_SPRITE:
            continue
        kind = int(np.bincount(kinds[rows, columns]).argmax())
        top, bottom, left, right = rows.min(), rows.max(), columns.min(), columns.max()
        whole = bool(top > 0 and left > 0 and bottom < h - 1 and right < w - 1)
        yield Sprite(kind, int(top), int(bottom), int(left), int(right), rows, columns, whole)


def match(before: Sequence[Sprite], after: Sequence[Sprite], *, reach: float) -> dict[int, int]:
    """Which sprites of one frame are which of the next, by number: nearest first.

    Those are at most `reach` apart; one of the same kind comes before any of another.
    """
    options = sorted(
        (one.kind != other.kind, distance(one, other), i, j)
        for i, one in enumerate(before)
        for j, other in enumerate(after)
        if distance(one, other) <= reach
    )
    pairs: dict[int, int] = {}
    for _, _, i, j in options:
        if i not in pairs and j not in pairs.values():
            pairs[i] = j
    return pairs


def distance(one: Sprite, other: Sprite) -> float:
    """Between the middles of their boxes, in pixels, along the farther axis: the maze has two."""
    return max(abs(a - b) for a, b in zip(one.centre, other.centre, strict=True))


def overlap(one: Sprite, other: Sprite) -> float:
    """Pixels that two have in common, of those that either has, their boxes in one another."""
    shapes = []
    for sprite in (one, other):
        shape = np.zeros((SPACE, SPACE), bool)
        up, left = (SPACE - sprite.height) // 2, (SPACE - sprite.width) // 2
        shape[sprite.rows - sprite.top + up, sprite.columns - sprite.left + left] = True
        shapes.append(shape)
    still, moving = shapes
    shifts = [np.roll(moving, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    return max(float((still & shape).sum() / (still | shape).sum()) for shape in shifts)
