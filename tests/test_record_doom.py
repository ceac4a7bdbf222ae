"""The Doom recorder without the engine: the player, what clips are kept, splits, files."""

from __future__ import annotations

import contextlib
import itertools
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import record_doom as recorder
import record_pacman

from ldf_video.errors import LdfError

if TYPE_CHECKING:
    from collections.abc import Iterator


class FakeGame:
    """A level with three things; its screen is noise that follows the seed, place and steps.

    A `still` one stays the same from one jump to the next.
    """

    def __init__(self, seed: int = 0, *, still: bool = False, ends_after: int = 10**9) -> None:
        self.seed, self.still, self.ends_after = seed, still, ends_after
        self.commands: list[str] = []
        self.moves: list[tuple[list[float], int]] = []
        self.levels = 1
        self.depth = np.full((120, 160), 200, np.uint8)

    def get_state(self) -> SimpleNamespace:
        key = (self.seed, len(self.commands), 0 if self.still else len(self.moves))
        blocks = np.random.default_rng(key).integers(0, 256, (15, 20, 3), dtype=np.uint8)
        screen = blocks.repeat(8, axis=0).repeat(8, axis=1)  # coarse: shrinking leaves contrast
        things = [SimpleNamespace(position_x=100.0 * n, position_y=1 - 8.0 * n) for n in range(3)]
        return SimpleNamespace(screen_buffer=screen, depth_buffer=self.depth, objects=things)

    def make_action(self, action: list[float], tics: int) -> float:
        self.moves.append((action, tics))
        return 0.0

    def is_episode_finished(self) -> bool:
        return len(self.moves) >= self.ends_after * self.levels

    def new_episode(self) -> None:
        self.levels += 1

    def send_game_command(self, command: str) -> None:
        self.commands.append(command)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, int]]:
    """Games of fakes; returns the maps and seeds that were opened."""
    games = []

    @contextlib.contextmanager
    def open_fake(iwad: str, name: str, *, seed: int) -> Iterator[FakeGame]:
        games.append((iwad, name, seed))
        yield FakeGame(seed)

    monkeypatch.setattr(recorder, "open_game", open_fake)
    monkeypatch.setattr(recorder, "SETTLE_STEPS", 1)
    return games


def player(game: FakeGame, seed: int = 0) -> object:
    return recorder.Player(game, np.random.default_rng(seed))


def arguments(out: Path, *more: str) -> list[str]:
    clips = ["--clips", "6", "--test-clips", "3", "--clip-frames", "4", "--size", "16"]
    return [str(out), *clips, "--jobs", "1", *more]


# -------------------- the player


def test_wishes_are_held() -> None:
    first = list(itertools.islice(recorder.actions(np.random.default_rng(5)), 4000))
    turns = [action[2] for action in first]
    num_runs = sum(1 for _ in itertools.groupby(turns))
    assert len(turns) / num_runs == pytest.approx(10, rel=0.2)
    assert {len(action) for action in first} == {5}


@pytest.mark.parametrize(
    ("left", "middle", "right", "turn"),
    [(40, 3, 3, -6.0), (3, 3, 40, 6.0), (0, 10, 0, 1.5), (0, 9, 0, 6.0)],
    ids=["open to the left", "open to the right", "open ahead", "a wall ahead"],
)
def test_a_wall_ahead_turns_the_player_to_the_open_side(
    left: int, middle: int, right: int, turn: float
) -> None:
    depth = np.zeros((120, 160), np.uint8)
    depth[60] = np.repeat([left, middle, right], [53, 54, 53])
    action = [16.0, 8.0, 1.5, 1.0, 0.0]
    assert recorder.turned_from_walls(action, depth) == [16.0, 8.0, turn, 1.0, 0.0]


def test_a_jump_goes_to_things_looks_around_and_settles() -> None:
    game = FakeGame()
    someone = player(game)
    for _ in range(50):
        someone.jump()
    assert game.commands[0] == "god"
    assert set(game.commands[1:]) == {"warp 0 1", "warp 100 -7", "warp 200 -15"}
    assert len(game.moves) == 50 * (1 + recorder.SETTLE_STEPS)
    looks = [action for action, tics in game.moves if tics == 1]
    assert len({look[2] for look in looks}) > 30
    assert all(look[:2] + look[3:] == [0.0] * 4 for look in looks)
    assert {tics for _, tics in game.moves} == {1, 2}


def test_a_level_that_was_left_begins_anew() -> None:
    game = FakeGame(ends_after=10)
    someone = player(game)
    for _ in range(25):
        assert someone.step().shape == (120, 160, 3)
    assert game.levels == 3
    assert game.commands == ["god"] * 3


# -------------------- clips


def test_a_frame_is_the_centred_square_by_area() -> None:
    screen = np.zeros((120, 160, 3), np.uint8)
    screen[:, :20] = screen[:, 140:] = 255  # outside of the square
    screen[:60:2, 20:80] = 100  # every other row of its first quarter
    frame = recorder.shrunk(screen, size=4)
    assert frame.dtype == np.uint8
    expected = np.zeros((4, 4, 3), np.uint8)
    expected[:2, :2] = 50
    assert np.array_equal(frame, expected)


def test_lively_is_to_move_and_to_show_something() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 200, (8, 8, 3), dtype=np.uint8)
    moving = np.stack([picture + np.uint8(4 * (n % 2)) for n in range(5)])
    assert recorder.is_lively(moving)
    assert not recorder.is_lively(np.stack([picture] * 5))
    walls = np.stack([np.full((8, 8, 3), 40 * n, np.uint8) for n in range(5)])
    assert not recorder.is_lively(walls)
    one_wall = moving.copy()
    one_wall[2] = 100
    assert not recorder.is_lively(one_wall)


def test_a_lively_clip_is_taken_at_once_and_a_still_one_after_ten_tries() -> None:
    for still, tries in ((False, 1), (True, 10)):
        game = FakeGame(still=still)
        clip, done = player(game).clip(num_frames=5, size=8)
        assert clip.shape == (5, 8, 8, 3)
        assert done.tolist() == np.float32([action for action, _ in game.moves[-5:]]).tolist()
        assert len(game.commands) == 1 + tries


# -------------------- splits and files


@pytest.mark.parametrize(
    ("clips", "episodes"), [(0, 0), (5, 5), (68, 68), (1000, 68), (20_000, 500)]
)
def test_clips_are_spread_evenly_over_episodes(clips: int, episodes: int) -> None:
    found = recorder.plan("train", recorder.parse_arguments(["out", "--clips", str(clips)]))
    counts = [episode.num_clips for episode in found]
    assert len(found) == episodes
    assert sum(counts) == clips
    assert max(counts, default=0) - min(counts, default=0) <= 1
    assert [episode.index for episode in found] == list(range(episodes))


def test_clips_are_written_in_order_of_maps_that_are_shared_and_seeds_that_are_not(
    tmp_path: Path, opened: list[tuple[str, str, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(set(recorder.MAPS)) == len(recorder.MAPS) == 32 + 36
    assert {("freedoom2.wad", "MAP09"), ("freedoom1.wad", "E4M9")} < set(recorder.MAPS)
    assert recorder.main(arguments(tmp_path)) == 0
    assert [game[:2] for game in opened] == recorder.MAPS[:6] + recorder.MAPS[:3]
    assert len({seed for *_, seed in opened}) == 9
    options = recorder.parse_arguments(arguments(tmp_path))
    for split, count in (("train", 6), ("test", 3)):
        clips = np.load(tmp_path / split / "doom-4.npy")
        assert (clips.shape, clips.dtype) == ((count, 4, 16, 16, 3), np.uint8)
        for index, clip in enumerate(clips):
            alone = recorder.record_episode(recorder.Episode(split, index, 1, options))
            assert np.array_equal(clip, alone.frames[0])
            rows = np.loadtxt(tmp_path / split / "doom-4.csv", delimiter=",", skiprows=1)
            np.testing.assert_allclose(rows[4 * index : 4 * index + 4], alone.actions[0], rtol=1e-4)
        names = sorted(path.name for path in (tmp_path / split).iterdir())
        assert names == ["doom-4.csv", "doom-4.npy"]
    out = capsys.readouterr().out
    assert "train 6/6: MAP06, 6 of 6 clips" in out
    assert "test 3/3: MAP03, 3 of 3 clips" in out


def test_the_same_options_write_the_same_bytes(tmp_path: Path, opened: list[object]) -> None:
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        assert recorder.main(arguments(tmp_path / name, "--seed", seed)) == 0
    for split in ("train", "test"):
        first, again, other = (
            (tmp_path / name / split / "doom-4.npy").read_bytes() for name in "abc"
        )
        assert first == again != other


def test_a_split_of_no_clips_is_left_out_and_a_game_that_fails_leaves_what_was_there(
    tmp_path: Path,
    opened: list[object],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert recorder.main(arguments(tmp_path, "--test-clips", "0")) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["train"]
    before = (tmp_path / "train" / "doom-4.npy").read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise LdfError("got a broken engine")

    monkeypatch.setattr(recorder, "open_game", fail)
    assert recorder.main(arguments(tmp_path, "--seed", "1")) == 1
    assert (tmp_path / "train" / "doom-4.npy").read_bytes() == before
    assert capsys.readouterr().err == "error: got a broken engine\n"


@pytest.mark.parametrize(
    ("script", "option", "value"),
    [
        *((recorder, name, "-1") for name in ("--clips", "--test-clips", "--seed")),
        *((recorder, "--size", value) for value in ("1", "121")),
        *((recorder, name, value) for name, value in (("--jobs", "two"), ("--unknown", "1"))),
        *((record_pacman, name, "-1") for name in ("--episodes", "--paper-clips", "--seed")),
        *((record_pacman, "--size", value) for value in ("1", "161")),
        *((script, "--clip-frames", "1") for script in (recorder, record_pacman)),
        *((script, "--jobs", "0") for script in (recorder, record_pacman)),
    ],
)
def test_wrong_options_are_one_line_and_exit_2(
    script: ModuleType, option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["out"] if script is recorder else []
    with pytest.raises(SystemExit, match="2"):
        script.main([*out, option, value])
    (line,) = capsys.readouterr().err.splitlines()
    assert option in line


def test_without_the_engine_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for package in ("vizdoom", "ale_py"):
        monkeypatch.setitem(sys.modules, package, None)
    for script, options, extra in (
        (recorder, ["out", "--jobs", "1"], "doom"),
        (record_pacman, [], "pacman"),
    ):
        assert script.main(options) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert f'pip install "ldf-video[{extra}]"' in line
