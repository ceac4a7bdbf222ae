"""Records Ms. Pac-Man as training clips: small windows of the screen, followed through whole games.

A seeded player holds a random direction for a random number of steps, through all lives, deaths
included; in another game (--game riverraid) any action there is. Needs the optional dependency
ale-py (GPL-2, brings the games along): pip install "ldf-video[pacman]". Neither ale-py nor a game
is part of ldf-video.

    OUT/train/episode-0000-window-00.mp4      lossless RGB, size x size, 15 frames a second
    OUT/test/...                              the same from other episodes
    OUT/screens/{train,test}/episode-0000.mp4 whole screens, with --screens
    OUT/paper/{train,test}/paper-5.npy        uint8 (N, 5, size, size, 3), with --paper-clips N;
                                              longer ones, paper-T.npy, with --clip-frames T
    OUT/.recording.json                       the options that decide the pixels

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
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import av
import numpy as np
from numpy.typing import NDArray

from ldf_video.errors import LdfError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Frames = NDArray[np.uint8]
Rng = np.random.Generator

SPLITS = ("train", "test")
SCREEN_HEIGHT, SCREEN_WIDTH = 210, 160
MAZE_HEIGHT = 172  # rows below hold the score and the lives, which hardly move
FRAME_SKIP = 4
FPS = 60 // FRAME_SKIP
START_FRAMES = 300  # raw frames of the opening tune, in which nothing moves
MAX_FRAMES = 10_000  # 1 GB: cuts a game that would not end; a usual one has about 400

CLIP_FRAMES = 5
# Cooper's rule sums squared differences in [-1, 1] and asks for more than 100. In levels of 0..255
# that is 100 * (255 / 2)^2 = 1,625,625, a whole number: the rule is decided exactly.
MIN_MOTION = 1_625_625
MAX_TRIES = 100
UNFILTERED_SHARE = 0.05

PACMAN = "ms_pacman"
DIRECTIONS = (2, 3, 4, 5)  # the console's numbers for up, right, left and down

PLAY, WINDOWS, PAPER = range(3)  # one stream of random numbers each


@dataclass(frozen=True)
class Settings:
    """What decides the pixels of a recording.

    Attributes:
        seed: of everything random.
        size: side of a window in pixels, 2 to 160.
        hold_steps: mean number of steps (4 raw frames each) that a direction is held, at least 1.
        moving_share: share of a window's 5-frame spans that must move for it to be taken, 0 to 1.
            0.1 sets aside the stillest 28 % of random 32 x 32 windows.
        merge_frames: how many of a step's last raw frames make the kept one, 1 to 4.
        game: by the emulator's name for it.
    """

    seed: int = 0
    size: int = 32
    hold_steps: float = 8.0
    moving_share: float = 0.1
    merge_frames: int = 2
    game: str = PACMAN

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            UsageError: a value is out of its range.
        """
        checks = (
            ("--seed", self.seed, self.seed >= 0, "0 or more"),
            ("--size", self.size, 2 <= self.size <= SCREEN_WIDTH, f"2 to {SCREEN_WIDTH}"),
            ("--hold-steps", self.hold_steps, self.hold_steps >= 1, "1 or more"),
            ("--moving-share", self.moving_share, 0 <= self.moving_share <= 1, "0 to 1"),
            ("--merge-frames", self.merge_frames, 1 <= self.merge_frames <= FRAME_SKIP, "1 to 4"),
        )
        for name, value, good, expected in checks:
            if not good:
                raise UsageError(f"{name} is {value}, expected {expected}: give such a value")


@dataclass(frozen=True)
class Window:
    """A square window: its top row, left column and side in pixels, its share of moving spans."""

    top: int
    left: int
    size: int
    moving_share: float

    def cut(self, frames: Frames) -> Frames:
        """The window of frames of shape (T, H, W, 3), as (T, size, size, 3), a view."""
        return frames[:, self.top : self.top + self.size, self.left : self.left + self.size]


@dataclass(frozen=True)
class Episode:
    """One game to play, and what to write of it."""

    out: Path
    split: str
    index: int
    num_windows: int
    num_paper_clips: int
    clip_frames: int
    screens: bool
    codec: Codec
    settings: Settings

    def window_path(self, window: int) -> Path:
        name = f"episode-{self.index:04d}-window-{window:02d}{self.codec.suffix}"
        return self.out / self.split / name

    def screen_path(self) -> Path:
        name = f"episode-{self.index:04d}{self.codec.suffix}"
        return self.out / "screens" / self.split / name

    def missing(self) -> list[Path]:
        """The files of this episode that are not there yet."""
        paths = [self.window_path(w) for w in range(self.num_windows)]
        paths += [self.screen_path()] if self.screens else []
        return [path for path in paths if not path.exists()]

    def rng(self, stream: int, item: int = 0) -> Rng:
        """Random numbers of this episode and split alone: more episodes change none."""
        key = (self.settings.seed, SPLITS.index(self.split), self.index, stream, item)
        return np.random.default_rng(key)


@dataclass(frozen=True)
class Recorded:
    """What came of one episode; its clips have shape (n, T, size, size, 3)."""

    num_frames: int
    num_files: int
    num_bytes: int
    moving_share: float
    paper_clips: Frames


# -------------------- play


class Emulator(Protocol):
    """The part of ale_py.ALEInterface that a game needs."""

    def reset_game(self) -> None: ...
    def act(self, action: Any, /) -> int: ...
    def game_over(self) -> bool: ...
    def getScreenRGB(self) -> Frames: ...  # noqa: N802 (the emulator's name)
    def getMinimalActionSet(self) -> Sequence[Any]: ...  # noqa: N802


def open_emulator(game: str = PACMAN) -> Emulator:
    """A game without sticky actions, so that how it goes is a function of the actions alone.

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


def held_directions(
    rng: Rng, *, hold_steps: float, actions: Sequence[int] = DIRECTIONS
) -> Iterator[int]:
    """Endless actions, one a step: each drawn evenly, held for a geometric number of steps.

    Args:
        rng: source of the draws.
        hold_steps: mean number of steps for which one draw is held, at least 1.
        actions: the console's numbers for them.
    """
    while True:
        action = actions[int(rng.integers(len(actions)))]
        yield from repeat(action, int(rng.geometric(1 / hold_steps)))


def play(emulator: Emulator, directions: Iterator[int], *, merge_frames: int = 2) -> Frames:
    """Play one whole game and keep one frame of each step of 4 raw frames.

    The console draws ghosts on alternate raw frames, so a kept frame is the pixelwise maximum of
    the last two. Three ghosts in one row, as in their house, take turns of three, and one is still
    missing now and then: over six games in 9 % of sightings, 23 % with one raw frame, 1 % with
    three, which makes what moves a little wider.

    The first 300 raw frames, the opening, are skipped without touching the stick. A step that the
    end of the game cuts short is dropped.

    Args:
        emulator: the game; it is reset first.
        directions: action numbers, one a step, at least as many as the game has steps.
        merge_frames: how many of the last raw frames make a kept one, 1 to 4.

    Returns:
        uint8 RGB of shape (T, 210, 160, 3).

    Raises:
        LdfError: the game ended within 5 frames of the opening.
    """
    emulator.reset_game()
    for _ in range(START_FRAMES):
        emulator.act(0)
    kept: list[Frames] = []
    for direction in directions:
        raw = []
        for _ in range(FRAME_SKIP):
            emulator.act(direction)
            raw.append(emulator.getScreenRGB())
            if emulator.game_over():
                break
        if len(raw) == FRAME_SKIP:
            kept.append(np.maximum.reduce(raw[-merge_frames:]))
        if emulator.game_over() or len(kept) == MAX_FRAMES:
            break
    if len(kept) < CLIP_FRAMES:
        raise LdfError(
            f"got a game of {len(kept)} frames, expected {CLIP_FRAMES} or more: try another --seed"
        )
    return np.stack(kept)


# -------------------- motion


def motion_energy(frames: Frames) -> NDArray[np.int32]:
    """Squared difference of neighbouring frames, summed over the colours, in levels of 0..255.

    Args:
        frames: shape (T, H, W, 3), T at least 1.

    Returns:
        Shape (T - 1, H, W), each value at most 3 * 255^2.
    """
    t, h, w, _ = frames.shape
    energy = np.empty((t - 1, h, w), np.int32)
    for i in range(
        t - 1
    ):  # a frame at a time: the differences of a whole game are four times its size
        difference = frames[i + 1].astype(np.int32) - frames[i]
        energy[i] = np.square(difference).sum(axis=-1)
    return energy


def moving_spans(energy: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Which 5-frame spans pass the movement rule of Cooper (2017): more than 100 in [-1, 1].

    Args:
        energy: of one window, as `motion_energy` gives it, shape (T - 1, h, w).

    Returns:
        Shape (T - 4,), one value for the span that starts at each frame; empty below 5 frames.
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
    moving_share: float,
    max_tries: int = MAX_TRIES,
) -> Window:
    """Draw windows until one moves often enough, or take the liveliest of all that were drawn.

    Args:
        energy: of the whole screen, shape (T - 1, 210, 160).
        rng: source of the draws.
        size: side in pixels.
        moving_share: share of 5-frame spans that must pass the rule, 0 to 1.
        max_tries: number of draws, at least 1.
    """
    best: Window | None = None
    for _ in range(max_tries):
        top, left = draw_corner(rng, size=size)
        spans = moving_spans(energy[:, top : top + size, left : left + size])
        window = Window(top, left, size, float(spans.mean()))
        if best is None or window.moving_share > best.moving_share:
            best = window
        if window.moving_share >= moving_share:
            return window
    assert best is not None
    return best


def cut_paper_clips(
    frames: Frames,
    energy: NDArray[np.int32],
    rng: Rng,
    *,
    size: int,
    num_clips: int,
    num_frames: int = CLIP_FRAMES,
) -> Frames:
    """Short clips as Cooper (2017) cuts them: 5 frames, a random window, kept if it moves.

    Up to 100 draws a clip, then the last is taken as it is; 5 % are taken unfiltered at the first.
    Longer clips must move as much from frame to frame.

    Args:
        frames: one game, shape (T, 210, 160, 3).
        energy: its motion, shape (T - 1, 210, 160).
        rng: source of the draws.
        size: side of the windows in pixels.
        num_clips: how many, 0 or more.
        num_frames: of a clip, 2 or more.

    Returns:
        uint8 of shape (num_clips, num_frames, size, size, 3).

    Raises:
        LdfError: the game is shorter than a clip.
    """
    if num_clips and len(frames) < num_frames:
        raise LdfError(
            f"got a game of {len(frames)} frames, expected {num_frames} or more: "
            "try another --seed or shorter --clip-frames"
        )
    clips = np.empty((num_clips, num_frames, size, size, 3), np.uint8)
    steps, usual_steps = num_frames - 1, CLIP_FRAMES - 1
    for clip in clips:
        tries = 1 if rng.random() < UNFILTERED_SHARE else MAX_TRIES
        for _ in range(tries):
            start = int(rng.integers(len(frames) - num_frames + 1))
            top, left = draw_corner(rng, size=size)
            area = (slice(top, top + size), slice(left, left + size))
            motion = energy[(slice(start, start + steps), *area)].sum(dtype=np.int64)
            if motion * usual_steps > MIN_MOTION * steps:
                break
        clip[:] = frames[(slice(start, start + num_frames), *area)]
    return clips


# -------------------- writing


@dataclass(frozen=True)
class Codec:
    """A way to write RGB without loss."""

    name: str
    pixel_format: str
    options: tuple[tuple[str, str], ...]
    container: str
    suffix: str


# Neither reorders frames; a key frame every 60 (4 s) keeps seeking cheap.
H264 = Codec("libx264rgb", "rgb24", (("qp", "0"), ("bf", "0"), ("g", "60")), "mp4", ".mp4")
FFV1 = Codec("ffv1", "bgr0", (("level", "3"), ("g", "60")), "matroska", ".mkv")


def write_video(path: Path, frames: Frames, *, codec: Codec, comment: str = "") -> int:
    """Write frames as a lossless video, 15 a second; the name appears once the file is whole.

    Args:
        path: the file; its directory is made.
        frames: uint8 RGB, shape (T, H, W, 3), T at least 1.
        codec: how.
        comment: goes into the container's comment.

    Returns:
        The number of bytes written.
    """
    _, h, w, _ = frames.shape
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with av.open(str(part), "w", format=codec.container) as container:
        container.metadata["comment"] = comment
        stream = container.add_stream(codec.name, rate=Fraction(FPS), options=dict(codec.options))
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = w, h, codec.pixel_format
        stream.codec_context.thread_count = 1  # the processes share the cores, and the bytes repeat
        for frame in frames:
            image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(image))
        container.mux(stream.encode(None))
    part.replace(path)
    return path.stat().st_size


def read_video(path: Path) -> Frames:
    """All frames of a video as uint8 RGB of shape (T, H, W, 3)."""
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def choose_codec(folder: Path) -> Codec:
    """The first codec here that gives every level of every colour back: H.264 in RGB, else FFV1.

    Args:
        folder: where a small file is written, read and removed.

    Raises:
        LdfError: neither does.
    """
    noise = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    for codec in (H264, FFV1):
        path = folder / f".probe{codec.suffix}"
        try:
            write_video(path, noise, codec=codec)
            exact = np.array_equal(read_video(path), noise)
        except (av.FFmpegError, ValueError):  # this build has no such encoder
            exact = False
        finally:
            path.unlink(missing_ok=True)
            path.with_name(f".{path.name}.part").unlink(missing_ok=True)
        if exact:
            return codec
    raise LdfError(
        "got no lossless video from this PyAV, expected libx264rgb or ffv1: pip install -U av"
    )


# -------------------- recording


def record_episode(episode: Episode) -> Recorded:
    """Play one game and write what is missing of it."""
    settings = episode.settings
    emulator = open_emulator(settings.game)
    actions = actions_of(emulator, settings.game)
    frames = play(
        emulator,
        held_directions(episode.rng(PLAY), hold_steps=settings.hold_steps, actions=actions),
        merge_frames=settings.merge_frames,
    )
    return write_episode(episode, frames)


def write_episode(episode: Episode, frames: Frames) -> Recorded:
    """Write the missing windows and screens of a game and cut its short clips.

    Args:
        episode: what to write.
        frames: the game, shape (T, 210, 160, 3).
    """
    settings, missing = episode.settings, set(episode.missing())
    energy = motion_energy(frames)
    num_bytes, shares = 0, []
    for w in range(episode.num_windows):
        path = episode.window_path(w)
        if path not in missing:
            continue
        window = choose_window(
            energy, episode.rng(WINDOWS, w), size=settings.size, moving_share=settings.moving_share
        )
        comment = f"{settings.game}, seed {settings.seed}, top {window.top}, left {window.left}"
        num_bytes += write_video(path, window.cut(frames), codec=episode.codec, comment=comment)
        shares.append(window.moving_share)
    if episode.screen_path() in missing:
        num_bytes += write_video(episode.screen_path(), frames, codec=episode.codec)
    clips = cut_paper_clips(
        frames,
        energy,
        episode.rng(PAPER),
        size=settings.size,
        num_clips=episode.num_paper_clips,
        num_frames=episode.clip_frames,
    )
    moving = float(np.mean(shares)) if shares else 0.0
    return Recorded(len(frames), len(missing), num_bytes, moving, clips)


def keep_settings(out: Path, settings: Settings, *, suffix: str) -> None:
    """Note in OUT what decides the pixels, or check that what lies there was made alike.

    Raises:
        UsageError: the files there were recorded with other options.
    """
    try:
        ale_version = version("ale-py")
    except PackageNotFoundError:
        ale_version = "none"
    now = {**asdict(settings), "suffix": suffix, "ale_py": ale_version}
    path = out / ".recording.json"
    if not path.exists():
        part = path.with_name(".recording.json.part")
        part.write_text(json.dumps(now, indent=2) + "\n")
        part.replace(path)
        return
    then = {"game": PACMAN} | json.loads(path.read_text())
    changed = [f"{k} {then.get(k)} there, {v} now" for k, v in now.items() if then.get(k) != v]
    if changed:
        raise UsageError(
            f"{out} was recorded with other options ({'; '.join(changed)}): choose another --out"
        )


def plan_split(args: argparse.Namespace, split: str, *, codec: Codec) -> list[Episode]:
    """The episodes of a split with work left; the short clips are spread evenly over them all."""
    num_episodes = args.episodes if split == "train" else args.test_episodes
    clips_left = 0 if paper_clips_done(args, split) else args.paper_clips
    episodes = []
    for index in range(num_episodes):
        num_clips = clips_left // num_episodes + (index < clips_left % num_episodes)
        episode = Episode(
            args.out,
            split,
            index,
            args.windows_per_episode,
            num_clips,
            args.clip_frames,
            args.screens,
            codec,
            settings_of(args),
        )
        if episode.missing() or num_clips:
            episodes.append(episode)
    return episodes


def paper_path(args: argparse.Namespace, split: str) -> Path:
    return args.out / "paper" / split / f"paper-{args.clip_frames}.npy"


def paper_clips_done(args: argparse.Namespace, split: str) -> bool:
    path = paper_path(args, split)
    return path.exists() and len(np.load(path, mmap_mode="r")) == args.paper_clips


def settings_of(args: argparse.Namespace) -> Settings:
    """What decides the pixels, out of all options.

    Raises:
        UsageError: a value is out of its range.
    """
    names = ("seed", "size", "hold_steps", "moving_share", "merge_frames", "game")
    return Settings(**{name: getattr(args, name) for name in names})


def run_split(args: argparse.Namespace, split: str, *, codec: Codec) -> None:
    """Record one split with `args.jobs` processes, a line of progress for each episode."""
    episodes = plan_split(args, split, codec=codec)
    if not episodes:
        print(f"{split}: all files are there")
        return
    start_seconds = time.monotonic()
    results = []
    for episode, result in zip(episodes, play_all(episodes, jobs=args.jobs), strict=True):
        results.append(result)
        print(
            f"{split} {len(results)}/{len(episodes)}: episode {episode.index}, "
            f"{result.num_frames} frames, {result.num_files} files, "
            f"{result.moving_share:.0%} of spans move, {time.monotonic() - start_seconds:.0f} s",
            flush=True,
        )
    clips = np.concatenate([result.paper_clips for result in results])
    if len(clips):
        write_array(paper_path(args, split), clips)
    print(
        f"{split}: {sum(r.num_frames for r in results)} frames played, "
        f"{sum(r.num_files for r in results)} videos, {sum(r.num_bytes for r in results)} bytes, "
        f"{len(clips)} short clips, {time.monotonic() - start_seconds:.1f} s"
    )


def play_all(episodes: Sequence[Episode], *, jobs: int) -> Iterator[Recorded]:
    """Record episodes in order, several at a time; the results do not depend on `jobs`."""
    if jobs == 1:
        yield from map(record_episode, episodes)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(record_episode, episodes)


def write_array(path: Path, array: Frames) -> None:
    """Write a .npy file; the name appears once the file is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        np.save(file, array)
    part.replace(path)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; numbers that count must not be negative, and --jobs is at least 1."""
    defaults = Settings()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )

    def add(name: str, kind: Any, default: Any, text: str) -> None:
        parser.add_argument(name, type=kind, default=default, help=f"{text} (default: {default})")

    add("--game", str, PACMAN, "which of ale-py's games")
    add("--out", Path, Path("clips/pacman"), "directory to write to")
    add("--episodes", int, 80, "games in train/, about 400 frames each")
    add("--test-episodes", int, 12, "games in test/")
    add("--windows-per-episode", int, 12, "windows followed through each game, one video each")
    add("--size", int, defaults.size, "side of a window in pixels, 2 to 160")
    add("--seed", int, defaults.seed, "of every random choice")
    add("--hold-steps", float, defaults.hold_steps, "mean steps for which a direction is held")
    add(
        "--moving-share",
        float,
        defaults.moving_share,
        "share of a window's 5-frame spans that must move: summed squared difference of "
        "neighbouring frames over 100, pixels in [-1, 1]; after 100 draws the liveliest is taken",
    )
    add("--paper-clips", int, 0, "5-frame clips a split, kept if they move, 5 %% unfiltered")
    add("--clip-frames", int, CLIP_FRAMES, "frames of each of these clips")
    add("--jobs", int, os.cpu_count() or 1, "processes")
    parser.add_argument("--screens", action="store_true", help="write the whole screens as well")
    add(
        "--merge-frames",
        int,
        defaults.merge_frames,
        "how many of the last raw frames of each 4 make the kept one, by their pixelwise maximum: "
        "3 shows all ghosts but what moves is wider",
    )
    parser.add_argument(
        "--raw-frames",
        action="store_const",
        const=1,
        dest="merge_frames",
        help="as --merge-frames 1: the last raw frame alone; ghosts flicker",
    )
    args = parser.parse_args(argv)
    for name, least in (
        ("episodes", 0),
        ("test_episodes", 0),
        ("windows_per_episode", 0),
        ("paper_clips", 0),
        ("clip_frames", 2),
        ("jobs", 1),
    ):
        if getattr(args, name) < least:
            parser.error(
                f"--{name.replace('_', '-')} is {getattr(args, name)}, expected {least} or more"
            )
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Record both splits; returns the exit code: 0 done, 1 the work failed, 2 wrong usage."""
    args = parse_arguments(argv)
    try:
        settings = settings_of(args)
        if settings.game != PACMAN:
            open_emulator(settings.game)  # a mistyped one fails before anything is made
        args.out.mkdir(parents=True, exist_ok=True)
        codec = choose_codec(args.out)
        keep_settings(args.out, settings, suffix=codec.suffix)
        for split in SPLITS:
            run_split(args, split, codec=codec)
    except LdfError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        print("stopped: the same command goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
