"""Records first-person clips in Freedoom's maps, from the eyes of a seeded player.

    python scripts/data/record_doom.py clips/doom --clips 20000 --test-clips 1000

The player is set down at a random thing's place of a random map, walks, turns from walls, opens
doors and shoots; a clip that hardly moves or shows a bare wall is played anew elsewhere. Needs the
optional dependency ViZDoom (MIT; the ZDoom engine inside has licences of its own), which brings the
68 maps of Freedoom 1 and 2 (BSD) along: pip install "ldf-video[doom]". None is part of ldf-video.

    OUT/train/doom-16.npy, OUT/test/doom-16.npy     uint8 (N, 16, SIZE, SIZE, 3), 17.5 a second
    OUT/train/doom-16.csv, OUT/test/doom-16.csv     what the player did up to each frame, clip by
                                                    clip: forward, right, turn, shoot, open

Every episode, a game with its own seed, is in one split alone; the maps are shared by both, so that
test/ shows known places from new points of view. The same options and the same ViZDoom give the
same bytes, whatever --jobs is.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from recording import (
    SPLITS,
    Frames,
    Number,
    Parser,
    exit_code,
    in_processes,
    write_clips,
    write_conditions,
)

from ldf_video.errors import LdfError

Rng = np.random.Generator

SCREEN_HEIGHT = 120
FRAME_SKIP = 2  # of 35 tics a second; every frame as long as the others, so that motion is even
CLIPS_PER_EPISODE = 40
SETTLE_STEPS = 12  # after a jump, before a clip: the player lands, turns from walls, wakes others
MAX_TRIES = 10
MIN_CHANGE = 2.0  # mean difference of neighbouring frames, in levels of 0..255
MIN_CONTRAST = 10.0  # standard deviation within every frame, in levels
HOLD_STEPS = 10.0
TURN_DEGREES = 2.5  # standard deviation, a tic
NEAR = 10  # of 0..255 in the depth buffer, where a wall fills the view
WALL_TURN_DEGREES = 6.0

COLUMNS = ("forward", "right", "turn", "shoot", "open")

MAPS = [("freedoom2.wad", f"MAP{number:02d}") for number in range(1, 33)]
MAPS += [("freedoom1.wad", f"E{part}M{number}") for part in range(1, 5) for number in range(1, 10)]


class Game(Protocol):
    """The part of vizdoom.DoomGame that the player needs."""

    def get_state(self) -> Any: ...
    def make_action(self, action: list[float], tics: int, /) -> float: ...
    def is_episode_finished(self) -> bool: ...
    def new_episode(self) -> None: ...
    def send_game_command(self, command: str, /) -> None: ...
    def close(self) -> None: ...


class Episode(NamedTuple):
    """One game to play for some clips; `options` are those of the command."""

    split: str
    index: int
    num_clips: int
    options: argparse.Namespace


class Recorded(NamedTuple):
    """Frames (..., T, SIZE, SIZE, 3), and what the player did up to each, (..., T, columns)."""

    frames: Frames
    actions: NDArray[np.float32]


# -------------------- play


@contextlib.contextmanager
def open_game(iwad: str, name: str, *, seed: int) -> Iterator[Game]:
    """A map of Freedoom, in a file of ViZDoom's, at its beginning; closed behind the block.

    `seed`, in [0, 2^32), is of the game's own chance.

    Raises:
        LdfError: ViZDoom is not installed, or does not start.
    """
    try:
        import vizdoom
    except ImportError as error:
        raise LdfError(
            f'got no vizdoom ({error}), expected the game engine: pip install "ldf-video[doom]"'
        ) from error
    game = vizdoom.DoomGame()
    game.set_doom_game_path(str(Path(vizdoom.__file__).with_name(iwad)))
    game.set_doom_map(name)
    game.set_doom_skill(3)
    game.set_seed(seed)
    game.set_screen_resolution(vizdoom.ScreenResolution.RES_160X120)
    game.set_screen_format(vizdoom.ScreenFormat.RGB24)
    game.set_depth_buffer_enabled(True)
    game.set_objects_info_enabled(True)
    game.set_render_hud(False)
    game.set_render_screen_flashes(False)
    game.set_window_visible(False)
    game.set_sound_enabled(False)
    game.set_mode(vizdoom.Mode.PLAYER)
    moves = ("MOVE_FORWARD_BACKWARD", "MOVE_LEFT_RIGHT", "TURN_LEFT_RIGHT")
    buttons = [*(f"{move}_DELTA" for move in moves), "ATTACK", "USE"]
    game.set_available_buttons([getattr(vizdoom.Button, button) for button in buttons])
    game.add_game_args("+sv_cheats 1 +sv_infiniteammo 1 +con_midtime 0.01 +cl_showsecretmessage 0")
    # The engine writes its settings and an empty directory where it starts and ends.
    with tempfile.TemporaryDirectory() as directory, contextlib.chdir(directory):
        try:
            game.init()
        except Exception as error:  # the engine's own classes, which share no parent
            raise LdfError(
                f"ViZDoom does not start with {iwad} {name}: {error}; "
                "pip install -U vizdoom, or look for free shared memory"
            ) from error
        try:
            yield game
        finally:
            game.close()


def actions(rng: Rng) -> Iterator[list[float]]:
    """Endless wishes of the player, one a step, each held for a geometric number of steps.

    Yields:
        Speed forwards and to the right in map units a tic, turn to the right in degrees a tic,
        whether to shoot, whether to open what is before the player.
    """
    while True:
        forward = float(rng.choice([0.0, 8.0, 12.0, 16.0], p=[0.1, 0.2, 0.4, 0.3]))
        sideways = float(rng.choice([-8.0, 0.0, 8.0], p=[0.1, 0.8, 0.1]))
        turn = float(rng.normal(0, TURN_DEGREES))
        shoot = float(rng.random() < 0.2)
        for _ in range(int(rng.geometric(1 / HOLD_STEPS))):
            yield [forward, sideways, turn, shoot, float(rng.random() < 0.2)]


def turned_from_walls(action: list[float], depth: Frames) -> list[float]:
    """An action that turns to the more open side where `depth` (H, W) has a wall close ahead."""
    height, width = depth.shape
    row = depth[height // 2].astype(np.float64)
    left, middle, right = (row[width * n // 3 : width * (n + 1) // 3].mean() for n in range(3))
    if middle >= NEAR:
        return action
    turn = WALL_TURN_DEGREES if right >= left else -WALL_TURN_DEGREES
    return [*action[:2], turn, *action[3:]]


def shrunk(screen: Frames, *, size: int) -> Frames:
    """The largest centred square of a screen (H, W, 3), scaled to (size, size, 3) by area."""
    height, width, _ = screen.shape
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    box = (left, top, left + side, top + side)
    picture = Image.fromarray(screen).resize((size, size), Image.Resampling.BOX, box=box)
    return np.asarray(picture)


class Player:
    """Plays one game, which was just opened, for clips."""

    def __init__(self, game: Game, rng: Rng) -> None:
        self.game, self.rng = game, rng
        things = game.get_state().objects
        self.places = [(thing.position_x, thing.position_y) for thing in things]
        self.actions = actions(rng)
        self.done: list[float] = []  # in the last step
        game.send_game_command("god")

    def step(self) -> Frames:
        """One step of two tics, and the screen (120, 160, 3) after it; a level left begins anew."""
        depth = self.game.get_state().depth_buffer
        self.done = turned_from_walls(next(self.actions), depth)
        self.game.make_action(self.done, FRAME_SKIP)
        if self.game.is_episode_finished():
            self.game.new_episode()
            self.game.send_game_command("god")
        screen: Frames = self.game.get_state().screen_buffer
        return screen

    def jump(self) -> None:
        """Go to the place of a random thing, look somewhere and walk a little."""
        x, y = self.places[self.rng.integers(len(self.places))]
        self.game.send_game_command(f"warp {x:.0f} {y:.0f}")
        self.game.make_action([0.0, 0.0, float(self.rng.integers(360)), 0.0, 0.0], 1)
        for _ in range(SETTLE_STEPS):
            self.step()

    def clip(self, *, num_frames: int, size: int) -> Recorded:
        """A clip (num_frames, size, size, 3) that moves; after ten tries, the last one."""
        for _ in range(MAX_TRIES):
            self.jump()
            steps = [(shrunk(self.step(), size=size), self.done) for _ in range(num_frames)]
            frames = np.stack([frame for frame, _ in steps])
            if is_lively(frames):
                break
        return Recorded(frames, np.array([done for _, done in steps], np.float32))


def is_lively(frames: Frames) -> bool:
    """Whether a clip (T, H, W, 3) moves, and shows more than a bare wall in every frame."""
    levels = frames.astype(np.float32)
    change = np.abs(np.diff(levels, axis=0)).mean()
    return bool(change >= MIN_CHANGE and levels.std(axis=(1, 2, 3)).min() >= MIN_CONTRAST)


# -------------------- recording


def plan(split: str, options: argparse.Namespace) -> list[Episode]:
    """The games of a split: all maps in turn, as many clips of each as of the others."""
    num_clips = options.clips if split == "train" else options.test_clips
    if not num_clips:
        return []
    num_episodes = min(num_clips, max(len(MAPS), math.ceil(num_clips / CLIPS_PER_EPISODE)))
    shares = [num_clips * number // num_episodes for number in range(num_episodes + 1)]
    return [
        Episode(split, index, end - start, options)
        for index, (start, end) in enumerate(pairwise(shares))
    ]


def record_episode(episode: Episode) -> Recorded:
    """Play one game; returns its clips, shape (n, T, size, size, 3)."""
    split, index, num_clips, options = episode
    rng = np.random.default_rng((options.seed, SPLITS.index(split), index))
    with open_game(*MAPS[index % len(MAPS)], seed=int(rng.integers(2**32))) as game:
        player = Player(game, rng)
        length, size = options.clip_frames, options.size
        clips = [player.clip(num_frames=length, size=size) for _ in range(num_clips)]
        return Recorded(*(np.stack(parts) for parts in zip(*clips, strict=True)))


def record_split(split: str, options: argparse.Namespace) -> None:
    """Write one split, a line of progress for each episode.

    Raises:
        LdfError: the engine is missing or fails.
    """
    episodes = plan(split, options)
    num_clips = sum(episode.num_clips for episode in episodes)
    began, done_in = time.monotonic(), list[NDArray[np.float32]]()

    def recorded() -> Iterator[Frames]:
        results = in_processes(record_episode, episodes, jobs=options.jobs)
        done = 0
        for episode, found in zip(episodes, results, strict=True):
            yield found.frames
            done_in.append(found.actions)
            done += len(found.frames)
            print(
                f"{split} {episode.index + 1}/{len(episodes)}: "
                f"{MAPS[episode.index % len(MAPS)][1]}, {done} of {num_clips} clips, "
                f"{time.monotonic() - began:.0f} s",
                flush=True,
            )

    if episodes:
        path = options.out / split / f"doom-{options.clip_frames}.npy"
        shape = (num_clips, options.clip_frames, options.size, options.size, 3)
        write_clips(path, recorded(), shape=shape)
        rows = ([f"{value:g}" for value in row] for part in done_in for row in part.reshape(-1, 5))
        write_conditions(path.with_suffix(".csv"), COLUMNS, rows)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options, their ranges checked."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="directory to write to")
    numbers = (
        Number("--clips", 20_000, 0, None, "in train/"),
        Number("--test-clips", 1_000, 0, None, "in test/"),
        Number("--clip-frames", 16, 2, None, "frames of a clip"),
        Number("--size", 32, 2, SCREEN_HEIGHT, "side of a frame in pixels"),
        Number("--seed", 0, 0, None, "of every random choice"),
        Number("--jobs", os.cpu_count() or 1, 1, None, "processes"),
    )
    return parser.parse(numbers, argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Record both splits; returns the exit code."""
    options = parse_arguments(argv)
    return exit_code(
        lambda: [record_split(split, options) for split in SPLITS],
        stopped="of the split that was being recorded nothing is kept",
    )


if __name__ == "__main__":
    sys.exit(main())
