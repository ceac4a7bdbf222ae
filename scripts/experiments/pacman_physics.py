"""Physics of Ms. Pac-Man in generated clips beside real ones: told by colours, without a network.

    python scripts/experiments/pacman_physics.py clips/paper/test out/ --json physics.json

The first clips named are real, the others generated (`ldf-video generate -o out/`); all are cut to
the same stretch, frames SKIP to SKIP + FRAMES of each clip. Prints a table, with intervals of 90 %
over clips. Real figures are not zero: the console draws its ghosts in turns, ghosts cross and are
eaten, energizers blink. What is far from the real column is wrong. With --frame-model the real
clips stand there reconstructed, too: what is no better there is the frame model's fault.
`check_physics.py` shows which figure sees which fault.

    px a step              how far a sprite, whole and alone, moves from frame to frame
    stands                 moves half a pixel or less
    long steps             5 to 6 px, longer than any of the game's
    teleports              is found again farther away
    vanishes, appears      in the middle of the window, with no other sprite in reach
    changes colour         another sprite stands where it was
    ghosts change shape    under two thirds of the pixels stay when both are laid over each other
    odd size               whole sprites, alone, that have not the size of one
    in a wall              a tenth of its pixels or more where most frames have a wall
    wall changes           pixels of a wall, away from sprites, that come or go between two frames
    walls lost or gained   the same between the first frame and the last
    pellets change         as wall changes, of pellets
    unclear                pixels that have no colour of the game: blurred, or blended
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pacman_sprites import (
    FIRST_SPRITE,
    FLOOR,
    WALL,
    Frames,
    Masks,
    Sprite,
    distance,
    grown,
    kinds_of,
    match,
    overlap,
    sprites_of,
    walls_of,
)

from ldf_video.errors import LdfError, UsageError
from ldf_video.progress import Progress
from ldf_video.readers.clips import ClipReader
from ldf_video.runs.zoo import find_model, load_frame_model
from ldf_video.sources.search import find_sources
from ldf_video.video.geometry import Geometry
from ldf_video.video.pixels import from_model, to_model

Counts = Counter[str]
Row = dict[str, dict[str, float | None]]
SIZE = 32
BLOCK = 4
"""Frames that a top model makes from nothing at a video's beginning."""
CORNER = 8
REACH = 6.0
"""Pixels: real sprites step up to 4.5 in a direction, and their boxes jitter."""
LONG_STEP = 5.0
HEIGHTS, WIDTHS = (8, 12), (6, 10)
"""Of one sprite: a ghost has 10 x 8 pixels, Ms. Pac-Man's mouth opens."""
ALONE = 3
"""Free pixels around a sprite that is judged by itself."""
NEAR_SPRITES = 2
SAME_SHAPE = 0.65
IN_WALL = 0.1
DRAWS = 400
PERCENTILES = (5, 95)


class Figure(NamedTuple):
    """A ratio of two counts, as it is printed."""

    name: str
    of: str
    among: str
    scale: float
    unit: str


FIGURES = (
    Figure("sprites", "sprites", "frames", 1, "a frame"),
    Figure("Ms. Pac-Man", "pacman path", "pacman steps", 1, "px a step"),
    Figure("Ms. Pac-Man stands", "pacman stands", "pacman steps", 100, "%"),
    Figure("ghosts", "ghost path", "ghost steps", 1, "px a step"),
    Figure("ghosts stand", "ghost stands", "ghost steps", 100, "%"),
    Figure("long steps", "long steps", "judged", 100, "%"),
    Figure("teleports", "teleports", "judged", 100, "%"),
    Figure("vanishes", "vanishes", "judged", 100, "%"),
    Figure("appears", "appears", "judged", 100, "%"),
    Figure("changes colour", "recoloured", "judged", 100, "%"),
    Figure("ghosts change shape", "reshaped", "ghost steps", 100, "%"),
    Figure("odd size", "odd", "whole", 100, "%"),
    Figure("in a wall", "in walls", "single", 100, "%"),
    Figure("wall changes", "wall changes", "steady pixels", 1e4, "in 10,000"),
    Figure("walls lost or gained", "walls moved", "kept pixels", 1e4, "in 10,000"),
    Figure("pellets change", "pellet changes", "steady pixels", 1e4, "in 10,000"),
    Figure("unclear, corners, first block", "unclear corner first", "corner first", 100, "%"),
    Figure("unclear, corners, later", "unclear corner later", "corner later", 100, "%"),
    Figure("unclear, elsewhere, first block", "unclear middle first", "middle first", 100, "%"),
    Figure("unclear, elsewhere, later", "unclear middle later", "middle later", 100, "%"),
)

_EDGE = (np.arange(SIZE) < CORNER) | (np.arange(SIZE) >= SIZE - CORNER)
REGIONS = {"corner": _EDGE[:, None] & _EDGE, "middle": ~(_EDGE[:, None] & _EDGE)}


# -------------------- one clip


def physics(clip: Frames, *, first: int = 0) -> Counts:
    """What is counted in one clip (T, 32, 32, 3), T at least 2, cut from frame `first` on."""
    kinds, unclear = kinds_of(clip)
    sprites = sprites_of(kinds)
    counts = Counter[str]({"frames": len(clip), "sprites": sum(map(len, sprites))})
    counts += _steps(sprites)
    counts += _places(sprites, kinds)
    counts += _maze(kinds)
    is_first = (np.arange(len(clip)) + first < BLOCK)[:, None, None]
    for region, mask in REGIONS.items():
        for when, frames in (("first", is_first), ("later", ~is_first)):
            where = frames & mask
            counts[f"{region} {when}"] = int(where.sum())
            counts[f"unclear {region} {when}"] = int((unclear & where).sum())
    return counts


def _steps(sprites: Sequence[Sequence[Sprite]]) -> Counts:
    """How sprites go on from each frame to the next."""
    counts: Counts = Counter()
    for before, after in pairwise(sprites):
        pairs = match(before, after, reach=REACH)
        lost = [s for i, s in enumerate(before) if i not in pairs]
        new = [s for j, s in enumerate(after) if j not in pairs.values()]
        jumped = {id(s) for s in lost if s.kind in {other.kind for other in new}}
        jumped |= {id(s) for s in new if s.kind in {other.kind for other in lost}}
        for i, sprite in enumerate(before):
            if not is_judged(sprite, before):
                continue
            counts["judged"] += 1
            if i in pairs:
                counts += _step(sprite, after[pairs[i]], after)
            elif id(sprite) in jumped:
                counts["teleports"] += 1
            elif not _near(sprite, after):
                counts["vanishes"] += 1
        for sprite in new:
            if is_judged(sprite, after) and id(sprite) not in jumped:
                counts["appears"] += not _near(sprite, before)
    return counts


def _step(sprite: Sprite, then: Sprite, after: Sequence[Sprite]) -> Counts:
    """One that is judged, and what stands at its place in the next frame."""
    counts: Counts = Counter()
    if not is_judged(then, after):
        return counts
    if sprite.kind != then.kind:
        counts["recoloured"] += min(sprite.kind, then.kind) >= FIRST_SPRITE
        return counts
    is_ghost, moved = sprite.kind != FIRST_SPRITE, distance(sprite, then)
    name = "ghost" if is_ghost else "pacman"
    counts[f"{name} steps"] += 1
    counts[f"{name} path"] += moved  # type: ignore[assignment]
    counts[f"{name} stands"] += moved <= 0.5
    counts[f"{name} step {round(moved)}"] += 1
    counts["long steps"] += moved >= LONG_STEP
    counts["reshaped"] += is_ghost and overlap(sprite, then) < SAME_SHAPE
    return counts


def _is_single(sprite: Sprite) -> bool:
    """Whether it is seen whole and has the size of one."""
    return (
        sprite.is_whole
        and HEIGHTS[0] <= sprite.height <= HEIGHTS[1]
        and WIDTHS[0] <= sprite.width <= WIDTHS[1]
    )


def is_judged(sprite: Sprite, frame: Sequence[Sprite]) -> bool:
    """Whether it is one sprite, seen whole, with none of the others of its frame beside it."""
    return _is_single(sprite) and not _near(sprite, frame, by=ALONE)


def _near(sprite: Sprite, others: Sequence[Sprite], *, by: float = REACH) -> bool:
    """Whether another's box is within `by` pixels of its own."""
    return any(
        other is not sprite
        and other.top <= sprite.bottom + by
        and sprite.top <= other.bottom + by
        and other.left <= sprite.right + by
        and sprite.left <= other.right + by
        for other in others
    )


def _places(sprites: Sequence[Sequence[Sprite]], kinds: NDArray[np.uint8]) -> Counts:
    """Sizes of sprites, and which stand in walls."""
    wall, _ = walls_of(np.where((kinds == WALL).mean(0) > 0.5, WALL, FLOOR)[None])
    counts: Counts = Counter()
    for frame in sprites:
        for sprite in frame:
            if sprite.is_whole and not _near(sprite, frame, by=ALONE):
                counts["whole"] += 1
                counts["odd"] += not _is_single(sprite)
            if _is_single(sprite):
                counts["single"] += 1
                counts["in walls"] += wall[0, sprite.rows, sprite.columns].mean() >= IN_WALL
    return counts


def _maze(kinds: NDArray[np.uint8]) -> Counts:
    """How steady walls and pellets are, away from sprites."""
    wall, pellet = walls_of(kinds)
    away = ~grown(kinds > WALL, by=NEAR_SPRITES)
    steady, kept = away[1:] & away[:-1], away[0] & away[-1]
    return Counter(
        {
            "steady pixels": int(steady.sum()),
            "kept pixels": int(kept.sum()),
            "wall changes": int((steady & _changed(wall, kinds)).sum()),
            "pellet changes": int((steady & _changed(pellet, kinds)).sum()),
            "walls moved": int((kept & _changed(wall[[0, -1]], kinds[[0, -1]])[0]).sum()),
        }
    )


def _changed(part: Masks, kinds: NDArray[np.uint8]) -> Masks:
    """Pixels that belong to a part of the maze in one of two frames, and are floor in the other."""
    return (part[1:] | part[:-1]) & (kinds[1:] != kinds[:-1])


# -------------------- sets of clips


def cut(clips: str, *, skip: int, frames: int, most: int) -> Iterator[Frames]:
    """Frames `skip` to `skip + frames` of the first clips that have them, `most` clips at most.

    Raises:
        LdfError: there is no clip so long.
    """
    done = 0
    with (
        ClipReader(Geometry(SIZE, SIZE)) as reader,
        Progress(clips, unit="clips", total=most) as progress,
    ):
        for source in find_sources(clips, own=True):
            for stream in reader.open_clips(source):
                clip = list(islice(stream.frames, skip, skip + frames))
                if len(clip) == frames and done < most:
                    yield np.stack(clip)
                    done += 1
                    progress.update(done)
            if done == most:
                return
    if not done:
        raise UsageError(f"{clips}: no clip of {skip + frames} frames; fewer --frames or --skip")


@torch.inference_mode()
def reconstructed(clips: Iterator[Frames], name: str) -> Iterator[Frames]:
    """G(E(x)) of clips."""
    model = load_frame_model(find_model(name, "frame")[0], device="cpu").model
    for clip in clips:
        yield from_model(model.generator(model.encoder(to_model(clip))))


def figures(clips: Sequence[Counts], *, seed: int = 0) -> Row:
    """Each figure of a set of clips, its interval by bootstrap over clips; None without a count."""
    count = len(clips)
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), DRAWS)
    found: Row = {}
    for figure in FIGURES:
        of, among = (
            np.array([counts[name] for counts in clips], float)
            for name in (figure.of, figure.among)
        )
        if not among.sum():
            found[figure.name] = {"value": None, "low": None, "high": None, "among": 0}
            continue
        below = draws @ among
        drawn = figure.scale * (draws @ of)[below > 0] / below[below > 0]
        low, high = np.percentile(drawn, PERCENTILES)
        value = figure.scale * of.sum() / among.sum()
        found[figure.name] = {"value": value, "low": low, "high": high, "among": among.sum()}
    return found


def step_lengths(clips: Sequence[Counts]) -> dict[str, list[int]]:
    """How many steps have which length, 0 to REACH whole pixels."""
    total = sum(clips, Counter())
    lengths = range(int(REACH) + 1)
    return {
        name: [int(total[f"{name} step {length}"]) for length in lengths]
        for name in ("pacman", "ghost")
    }


def table(rows: Mapping[str, Row], *, intervals: bool = True) -> str:
    """A line a figure and a column a set, in Markdown."""
    form = "{value:.2f} ({low:.2f} to {high:.2f})" if intervals else "{value:.2f}"
    lines = ["| | " + " | ".join(rows) + " |", "|---" + "|---:" * len(rows) + "|"]
    for figure in FIGURES:
        cells = []
        for row in rows.values():
            cell = row[figure.name]
            known = cell["value"] is not None
            cells.append(form.format(**cell) if known else "")
        lines.append(f"| {figure.name}, {figure.unit} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("real", help="directory or file of real clips")
    parser.add_argument("generated", nargs="*", help="directories or files of generated clips")
    parser.add_argument("--frame-model", help="reconstruct the real clips with it, too")
    parser.add_argument("--skip", type=int, default=0, help="frames left out at the beginning")
    parser.add_argument("--frames", type=int, default=16, help="of each clip, 2 or more")
    parser.add_argument("--num-clips", type=int, default=1500, help="of each set, at most")
    parser.add_argument("--json", type=Path, help="write all figures there too")
    arguments = parser.parse_args(argv)
    if arguments.frames < 2 or arguments.skip < 0 or arguments.num_clips < 1:
        parser.error("expected --frames 2 or more, --skip 0 or more, --num-clips 1 or more")
    stretch = {"skip": arguments.skip, "frames": arguments.frames}
    rows, lengths = {}, {}

    def add(name: str, clips: Iterator[Frames]) -> None:
        counts = [physics(clip, first=arguments.skip) for clip in clips]
        rows[f"{name} ({len(counts)})"] = figures(counts)
        lengths[name] = step_lengths(counts)

    def cut_of(clips: str) -> Iterator[Frames]:
        return cut(clips, **stretch, most=arguments.num_clips)

    try:
        add(arguments.real, cut_of(arguments.real))
        if arguments.frame_model is not None:
            add("reconstructed", reconstructed(cut_of(arguments.real), arguments.frame_model))
        for clips in arguments.generated:
            add(clips, cut_of(clips))
    except LdfError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table(rows))
    if arguments.json is not None:
        found = {"stretch": stretch, "figures": rows, "step_lengths": lengths}
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
