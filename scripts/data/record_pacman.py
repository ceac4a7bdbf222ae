"""Records Ms. Pac-Man as training clips: small windows of the screen, followed through whole games.

    python scripts/data/record_pacman.py --out clips/pacman

A seeded player holds a random direction for a random number of steps, through all lives; in another
game (--game riverraid) any action there is. Needs the optional dependency ale-py (GPL-2, brings the
games along): pip install "ldf-video[pacman]". Neither ale-py nor a game is part of ldf-video.

    OUT/train/episode-0000-window-00.mp4      lossless RGB, size x size, 15 frames a second
    OUT/train/episode-0000-window-00.csv      the joystick, a row a frame: how it was held from the
                                              frame before on
    OUT/test/...                              the same from other episodes
    OUT/paper/{train,test}/paper-5.npy        uint8 (N, 5, size, size, 3), with --paper-clips N;
                                              longer ones, paper-T.npy, with --clip-frames T;
                                              paper-5.csv: the joystick, clip by clip
    OUT/.recording.json                       what decides the pixels

With --follow each game gives one window, which keeps Ms. Pac-Man in its middle: for a model that is
played (`ldf-video play`).

Same options and same ale-py, same pixels, whatever --jobs is. The same command again writes only
what is missing; more --episodes or --windows-per-episode add files and change none. After a change
of --episodes, remove OUT/paper to have the short clips drawn from all games.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import av
import numpy as np
from numpy.typing import NDArray
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

from ldf_video.errors import LdfError, UsageError
from ldf_video.output import replacing

Rng = np.random.Generator

SCREEN_WIDTH = 160
MAZE_HEIGHT = 172  # rows below hold the score and the lives, which hardly move
FRAME_SKIP = 4
FPS = 60 // FRAME_SKIP
MERGE_FRAMES = 2  # of each step; the console draws its ghosts on alternate raw frames
START_FRAMES = 300  # raw frames of the opening tune, in which nothing moves
MAX_FRAMES = 10_000  # 1 GB: cuts a game that would not end; a usual one has about 400

CLIP_FRAMES = 5
# Cooper's rule sums squared differences in [-1, 1] and asks for more than 100. In levels of 0..255
# that is 100 * (255 / 2)^2 = 1,625,625, a whole number: the rule is decided exactly.
MIN_MOTION = 1_625_625
MOVING_SHARE = 0.1  # of a window's 5-frame spans; sets the stillest 28 % of random windows aside
MAX_TRIES = 100
UNFILTERED_SHARE = 0.05

PACMAN = "ms_pacman"
DIRECTIONS = (2, 3, 4, 5)  # the console's numbers for up, right, left and down
HOLD_STEPS = 8.0  # mean number of steps for which a direction is held

ACTIONS = (
    *("none", "fire", "up", "right", "left", "down", "upright", "upleft", "downright", "downleft"),
    *("upfire", "rightfire", "leftfire", "downfire"),
    *("uprightfire", "upleftfire", "downrightfire", "downleftfire"),
)
"""What the console's numbers mean."""
COLUMNS = ("action",)

PLAYER_ROW, PLAYER_COLUMN = 16, 10  # where the console's memory says that Ms. Pac-Man stands
PLAYER_CENTRE = (6, -8)  # rows and columns from there to her middle on the screen
STUCK_STEPS = 2

PLAY, WINDOWS, PAPER = range(3)  # one stream of random numbers each


class Episode(NamedTuple):
    """One game to play, and what to write of it; `options` are those of the command."""

    split: str
    index: int
    num_paper_clips: int
    options: argparse.Namespace

    def window_path(self, window: int) -> Path:
        name = f"episode-{self.index:04d}-window-{window:02d}.mp4"
        return Path(self.options.out) / self.split / name

    def missing(self) -> list[int]:
        """The windows whose files are not there yet."""
        windows = range(self.options.windows_per_episode)
        paths = map(self.window_path, windows)
        return [
            window
            for window, path in zip(windows, paths, strict=True)
            if not (path.exists() and path.with_suffix(".csv").exists())
        ]

    def rng(self, stream: int, item: int = 0) -> Rng:
        """Random numbers of this episode and split alone: more episodes change none."""
        key = (self.options.seed, SPLITS.index(self.split), self.index, stream, item)
        return np.random.default_rng(key)


class Played(NamedTuple):
    """A game: frames (T, 210, 160, 3), and the action that was held up to each of them, (T,)."""

    frames: Frames
    actions: NDArray[np.int64]


class Window(NamedTuple):
    """A square window: its top row and left column, and the share of its spans that move."""

    top: int
    left: int
    moving_share: float


class Recorded(NamedTuple):
    """What came of one episode; its clips have shape (n, T, size, size, 3), actions (n, T)."""

    num_frames: int
    num_files: int
    moving_share: float
    paper_clips: Frames
    paper_actions: NDArray[np.int64]


# -------------------- play


class Emulator(Protocol):
    """The part of ale_py.ALEInterface that a game needs."""

    def reset_game(self) -> None: ...
    def act(self, action: Any, /) -> int: ...
    def game_over(self) -> bool: ...
    def getScreenRGB(self) -> Frames: ...  # noqa: N802 (the emulator's name)
    def getRAM(self) -> NDArray[np.uint8]: ...  # noqa: N802
    def getMinimalActionSet(self) -> Sequence[Any]: ...  # noqa: N802


def open_emulator(game: str) -> Emulator:
    """A game without sticky actions, so that its course is a function of the actions alone.

    Raises:
        LdfError: ale-py is not installed, or without the game, or cannot play it.
    """
    try:
        import ale_py
        from ale_py import roms
    except ImportError as error:
        raise LdfError(
            f'got no ale-py ({error}), expected the Atari emulator: pip install "ldf-video[pacman]"'
        ) from error
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    emulator = ale_py.ALEInterface()
    emulator.setInt("random_seed", 0)
    emulator.setFloat("repeat_action_probability", 0.0)
    with warnings.catch_warnings():  # it says the same in more lines
        warnings.simplefilter("ignore")
        rom = roms.get_rom_path(game)
    if rom is None:
        raise LdfError(
            f"got no game {game} from ale-py, expected the name of one that it has, such as "
            f"{PACMAN} or riverraid, and ale-py 0.11 or newer"
        )
    if not ale_py.ALEInterface.isSupportedROM(rom):  # loading it would end this process
        raise LdfError(
            f"ale-py has {game} and cannot play it, as it has no game for one player; expected "
            f"another, such as {PACMAN} or riverraid"
        )
    emulator.loadROM(rom)
    return emulator


def actions_of(emulator: Emulator, game: str) -> Sequence[int]:
    """What the player may do: steer Ms. Pac-Man, or whatever else a game knows but nothing, 0."""
    if game == PACMAN:
        return DIRECTIONS
    return [int(action.value) for action in emulator.getMinimalActionSet() if action.value]


def held_directions(rng: Rng, actions: Sequence[int] = DIRECTIONS) -> Iterator[int]:
    """Endless actions, one a step: each drawn evenly, held for a geometric number of steps."""
    while True:
        action = actions[int(rng.integers(len(actions)))]
        yield from repeat(action, int(rng.geometric(1 / HOLD_STEPS)))


def play(emulator: Emulator, directions: Iterator[int]) -> Played:
    """Play one whole game and keep one frame of each step of 4 raw frames.

    A kept frame is the pixelwise maximum of the last two raw frames. Three ghosts in one row, as in
    their house, take turns of three, so that one is still missing now and then.

    The first 300 raw frames, the opening, are skipped without touching the stick. A step that the
    end of the game cuts short is dropped. `directions` are one a step.

    Raises:
        LdfError: the game ended within 5 frames of the opening.
    """
    emulator.reset_game()
    for _ in range(START_FRAMES):
        emulator.act(0)
    kept: list[Frames] = []
    held: list[int] = []
    for direction in directions:
        raw = []
        for _ in range(FRAME_SKIP):
            emulator.act(direction)
            raw.append(emulator.getScreenRGB())
            if emulator.game_over():
                break
        if len(raw) == FRAME_SKIP:
            kept.append(np.maximum.reduce(raw[-MERGE_FRAMES:]))
            held.append(direction)
        if emulator.game_over() or len(kept) == MAX_FRAMES:
            break
    if len(kept) < CLIP_FRAMES:
        raise LdfError(
            f"got a game of {len(kept)} frames, expected {CLIP_FRAMES} or more: try another --seed"
        )
    return Played(np.stack(kept), np.array(held))


# -------------------- the player in the middle


def place_of(emulator: Emulator) -> tuple[int, int]:
    """Row and column of the screen where Ms. Pac-Man's middle is."""
    memory = emulator.getRAM()
    return (
        int(memory[PLAYER_ROW]) + PLAYER_CENTRE[0],
        int(memory[PLAYER_COLUMN]) + PLAYER_CENTRE[1],
    )


def turning_directions(
    rng: Rng, emulator: Emulator, places: list[tuple[int, int]]
) -> Iterator[int]:
    """The same by a player who turns another way where Ms. Pac-Man does not move any more.

    Before each step it notes in `places` where she is.
    """
    direction = DIRECTIONS[int(rng.integers(len(DIRECTIONS)))]
    while True:
        for _ in range(int(rng.geometric(1 / HOLD_STEPS))):
            places.append(place_of(emulator))
            yield direction
            newest = [*places[-STUCK_STEPS:], place_of(emulator)]
            if len(newest) > STUCK_STEPS and len(set(newest)) == 1:
                break
        others = [other for other in DIRECTIONS if other != direction]
        direction = others[int(rng.integers(len(others)))]


def follow(frames: Frames, places: Sequence[tuple[int, int]], *, size: int) -> Frames:
    """Windows (T, size, size, 3) of a game, each around the place of its frame, in the maze."""
    windows = np.empty((len(frames), size, size, 3), np.uint8)
    for window, frame, (row, column) in zip(windows, frames, places, strict=True):
        top = min(max(row - size // 2, 0), max(MAZE_HEIGHT - size, 0))
        left = min(max(column - size // 2, 0), SCREEN_WIDTH - size)
        window[:] = frame[top : top + size, left : left + size]
    return windows


# -------------------- motion


def motion_energy(frames: Frames) -> NDArray[np.int32]:
    """Squared difference of neighbouring frames, summed over the colours, in levels of 0..255.

    Of frames (T, H, W, 3): (T - 1, H, W).
    """
    t, h, w, _ = frames.shape
    energy = np.empty((t - 1, h, w), np.int32)
    for i in range(t - 1):  # the differences of a whole game would be four times its size
        difference = frames[i + 1].astype(np.int32) - frames[i]
        energy[i] = np.square(difference).sum(axis=-1)
    return energy


def moving_spans(energy: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Which 5-frame spans pass the movement rule of Cooper (2017): more than 100 in [-1, 1].

    Of the energy (T - 1, h, w) of one window: (T - 4,), the spans that start at each frame; empty
    below 5 frames.
    """
    steps = energy.sum(axis=(1, 2), dtype=np.int64)
    total = np.concatenate([np.zeros(1, np.int64), steps.cumsum()])
    spans = total[CLIP_FRAMES - 1 :] - total[: -(CLIP_FRAMES - 1)]
    moves: NDArray[np.bool_] = spans > MIN_MOTION
    return moves


def draw_corner(rng: Rng, *, size: int) -> tuple[int, int]:
    """A top row and a left column, even over the maze; a window larger than it starts at row 0."""
    top = int(rng.integers(max(MAZE_HEIGHT - size, 0) + 1))
    return top, int(rng.integers(SCREEN_WIDTH - size + 1))


def choose_window(
    energy: NDArray[np.int32],
    rng: Rng,
    *,
    size: int,
    moving_share: float = MOVING_SHARE,
    max_tries: int = MAX_TRIES,
) -> Window:
    """Draw windows until one moves often enough, or take the liveliest of all that were drawn.

    `energy` is of the whole screen; `moving_share` of the 5-frame spans must pass the rule.
    """
    best = Window(0, 0, -1.0)
    for _ in range(max_tries):
        top, left = draw_corner(rng, size=size)
        spans = moving_spans(energy[:, top : top + size, left : left + size])
        best = max(best, Window(top, left, float(spans.mean())), key=lambda w: w.moving_share)
        if best.moving_share >= moving_share:
            break
    return best


def cut_paper_clips(
    frames: Frames, energy: NDArray[np.int32], rng: Rng, *, size: int, num_clips: int, length: int
) -> tuple[Frames, NDArray[np.int64]]:
    """Short clips as Cooper (2017) cuts them: 5 frames, a random window, kept if it moves.

    Up to 100 draws a clip, then the last is taken as it is; 5 % are taken unfiltered at the first.
    Longer clips must move as much from frame to frame.

    Returns:
        uint8 of shape (num_clips, length, size, size, 3), and with which frame each begins.

    Raises:
        LdfError: the game is shorter than a clip.
    """
    if num_clips and len(frames) < length:
        raise LdfError(
            f"got a game of {len(frames)} frames, expected {length} or more: "
            "try another --seed or shorter --clip-frames"
        )
    clips = np.empty((num_clips, length, size, size, 3), np.uint8)
    starts = np.empty(num_clips, np.int64)
    steps, usual_steps = length - 1, CLIP_FRAMES - 1
    for number, clip in enumerate(clips):
        tries = 1 if rng.random() < UNFILTERED_SHARE else MAX_TRIES
        for _ in range(tries):
            start = int(rng.integers(len(frames) - length + 1))
            top, left = draw_corner(rng, size=size)
            area = (slice(top, top + size), slice(left, left + size))
            motion = energy[(slice(start, start + steps), *area)].sum(dtype=np.int64)
            if motion * usual_steps > MIN_MOTION * steps:
                break
        clip[:] = frames[(slice(start, start + length), *area)]
        starts[number] = start
    return clips, starts


# -------------------- recording


def write_video(path: Path, frames: Frames, *, comment: str = "") -> None:
    """Write frames (T, H, W, 3) as lossless H.264 in RGB; the name appears once the file is whole.

    Raises:
        LdfError: this PyAV has no such encoder.
    """
    if "libx264rgb" not in av.codecs_available:
        raise LdfError("got a PyAV without libx264rgb, expected its usual wheel: pip install -U av")
    _, h, w, _ = frames.shape
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part, av.open(str(part), "w", format="mp4") as container:
        container.metadata["comment"] = comment
        # No frames are reordered; a key frame every 60 (4 s) keeps seeking cheap.
        options = {"qp": "0", "bf": "0", "g": "60"}
        stream = container.add_stream("libx264rgb", rate=Fraction(FPS), options=options)
        stream.width, stream.height, stream.pix_fmt = w, h, "rgb24"
        stream.codec_context.thread_count = 1  # the processes share the cores, and the bytes repeat
        for frame in frames:
            image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(image))
        container.mux(stream.encode(None))


def record_episode(episode: Episode) -> Recorded:
    """Play one game and write what is missing of it."""
    emulator = open_emulator(episode.options.game)
    if episode.options.follow:
        return follow_episode(episode, emulator)
    actions = actions_of(emulator, episode.options.game)
    return write_episode(episode, play(emulator, held_directions(episode.rng(PLAY), actions)))


def write_episode(episode: Episode, played: Played) -> Recorded:
    """Write the missing windows of a game with its joystick, and cut its short clips."""
    frames, actions = played
    options, size, energy = episode.options, episode.options.size, motion_energy(frames)
    missing, shares = episode.missing(), []
    for number in missing:
        top, left, share = choose_window(energy, episode.rng(WINDOWS, number), size=size)
        comment = f"{options.game}, seed {options.seed}, top {top}, left {left}"
        window = frames[:, top : top + size, left : left + size]
        path = episode.window_path(number)
        write_conditions(path.with_suffix(".csv"), COLUMNS, named(actions))
        write_video(path, window, comment=comment)
        shares.append(share)
    clips, starts = cut_paper_clips(
        frames,
        energy,
        episode.rng(PAPER),
        size=size,
        num_clips=episode.num_paper_clips,
        length=options.clip_frames,
    )
    of_clips = actions[starts[:, None] + np.arange(options.clip_frames)]
    share = float(np.mean(shares or [0]))
    return Recorded(len(frames), len(missing), share, clips, of_clips)


def follow_episode(episode: Episode, emulator: Emulator) -> Recorded:
    """Play one game and write the window that follows Ms. Pac-Man, with its joystick."""
    places: list[tuple[int, int]] = []
    options = episode.options
    frames, actions = play(emulator, turning_directions(episode.rng(PLAY), emulator, places))
    places.append(place_of(emulator))
    window = follow(frames, places[1 : 1 + len(frames)], size=options.size)
    path = episode.window_path(0)
    write_conditions(path.with_suffix(".csv"), COLUMNS, named(actions))
    write_video(path, window, comment=f"{options.game}, seed {options.seed}, follows the player")
    share = float(moving_spans(motion_energy(window)).mean())
    return Recorded(len(frames), 1, share, window[:0, None], actions[:0, None])


def named(actions: NDArray[np.int64]) -> Iterator[tuple[str]]:
    """Rows of a table of them."""
    return ((ACTIONS[action],) for action in actions.ravel())


def keep_settings(args: argparse.Namespace) -> None:
    """Note in OUT what decides the pixels, or check that what lies there was made alike.

    Raises:
        UsageError: the files there were recorded with other options.
    """
    try:
        ale_version = version("ale-py")
    except PackageNotFoundError:
        ale_version = "none"
    now = {
        "seed": args.seed,
        "size": args.size,
        "hold_steps": HOLD_STEPS,
        "moving_share": MOVING_SHARE,
        "merge_frames": MERGE_FRAMES,
        "game": args.game,
        "follow": args.follow,
        "suffix": ".mp4",
        "ale_py": ale_version,
    }
    path = args.out / ".recording.json"
    if not path.exists():
        with replacing(path) as part:
            part.write_text(json.dumps(now, indent=2) + "\n")
        return
    then = {"game": PACMAN, "follow": False} | json.loads(path.read_text())
    changed = [f"{k} {then.get(k)} there, {v} now" for k, v in now.items() if then.get(k) != v]
    if changed:
        raise UsageError(
            f"{args.out} was recorded with other options ({'; '.join(changed)}): "
            "choose another --out"
        )


def paper_path(args: argparse.Namespace, split: str) -> Path:
    """Where the short clips of a split are written."""
    return args.out / "paper" / split / f"paper-{args.clip_frames}.npy"


def plan_split(args: argparse.Namespace, split: str) -> list[Episode]:
    """The episodes of a split with work left; the short clips are spread evenly over them all."""
    num_episodes = args.episodes if split == "train" else args.test_episodes
    path, clips_left = paper_path(args, split), args.paper_clips
    if (
        path.exists()
        and path.with_suffix(".csv").exists()
        and len(np.load(path, mmap_mode="r")) == clips_left
    ):
        clips_left = 0
    shares = (
        clips_left // num_episodes + (index < clips_left % num_episodes)
        for index in range(num_episodes)
    )
    episodes = [Episode(split, index, share, args) for index, share in enumerate(shares)]
    return [episode for episode in episodes if episode.missing() or episode.num_paper_clips]


def record_split(args: argparse.Namespace, split: str) -> None:
    """Record one split with `args.jobs` processes, a line of progress for each episode."""
    episodes = plan_split(args, split)
    if not episodes:
        print(f"{split}: all files are there")
        return
    began, clips, actions = time.monotonic(), [], []
    results = in_processes(record_episode, episodes, jobs=args.jobs)
    for number, (episode, result) in enumerate(zip(episodes, results, strict=True), start=1):
        clips.append(result.paper_clips)
        actions.append(result.paper_actions)
        print(
            f"{split} {number}/{len(episodes)}: episode {episode.index}, "
            f"{result.num_frames} frames, {result.num_files} files, "
            f"{result.moving_share:.0%} of spans move, {time.monotonic() - began:.0f} s",
            flush=True,
        )
    if count := sum(map(len, clips)):
        shape = (count, args.clip_frames, args.size, args.size, 3)
        path = paper_path(args, split)
        write_conditions(path.with_suffix(".csv"), COLUMNS, named(np.concatenate(actions)))
        write_clips(path, clips, shape=shape)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options, their ranges checked."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--game", default=PACMAN, help=f"of ale-py's (default: {PACMAN})")
    parser.add_argument(
        "--out", type=Path, default=Path("clips/pacman"), help="directory (default: clips/pacman)"
    )
    parser.add_argument(
        "--follow",
        action="store_true",
        help="one window a game, with Ms. Pac-Man in its middle, by a player who turns where she "
        "is stuck: for a model that is played",
    )
    numbers = (
        Number("--episodes", 80, 0, None, "games in train/, about 400 frames each"),
        Number("--test-episodes", 12, 0, None, "games in test/"),
        Number("--windows-per-episode", 12, 0, None, "windows of each game, one video each"),
        Number("--size", 32, 2, SCREEN_WIDTH, "side of a window in pixels"),
        Number("--seed", 0, 0, None, "of every random choice"),
        Number("--paper-clips", 0, 0, None, "short clips a split, of windows that move"),
        Number("--clip-frames", CLIP_FRAMES, 2, None, "frames of each short clip"),
        Number("--jobs", os.cpu_count() or 1, 1, None, "processes"),
    )
    args = parser.parse(numbers, argv)
    if args.follow:
        if args.game != PACMAN or args.paper_clips:
            parser.error("--follow: of Ms. Pac-Man, and not with --paper-clips")
        args.windows_per_episode = 1
    return args


def record(args: argparse.Namespace) -> None:
    """Record both splits."""
    open_emulator(args.game)  # one that is missing fails before anything is made
    args.out.mkdir(parents=True, exist_ok=True)
    keep_settings(args)
    for split in SPLITS:
        record_split(args, split)


def main(argv: Sequence[str] | None = None) -> int:
    """Record both splits; returns the exit code."""
    args = parse_arguments(argv)
    return exit_code(lambda: record(args), stopped="the same command goes on from here")


if __name__ == "__main__":
    sys.exit(main())
