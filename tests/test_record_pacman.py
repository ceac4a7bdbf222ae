"""The Pac-Man recorder without the emulator: motion rule, windows, splits, files."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import record_pacman as recorder

from ldf_video.errors import LdfError


class CountingEmulator:
    """A game of `length` actions; its screen lights one pixel, at the count since the opening."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.actions: list[int] = []

    def reset_game(self) -> None:
        self.actions = []

    def act(self, action: int) -> int:
        self.actions.append(action)
        return 0

    def game_over(self) -> bool:
        return len(self.actions) >= self.length

    def getScreenRGB(self) -> np.ndarray:  # noqa: N802
        screen = np.zeros((210, 160, 3), np.uint8)
        # Lit in this raw frame alone, as a ghost that is drawn every so often.
        screen[0, len(self.actions) - 300] = 255
        return screen


def screens(num_frames: int = 20, *, seed: int = 0) -> np.ndarray:
    """Still noise, but for a square of 4 x 4 near the top left that is white every other frame."""
    still = np.random.default_rng(seed).integers(0, 256, (210, 160, 3), dtype=np.uint8)
    frames = np.repeat(still[None], num_frames, axis=0)
    frames[:, 10:14, 10:14] = 0
    frames[1::2, 10:14, 10:14] = 255
    return frames


def episode(out: Path, *, split: str = "train", index: int = 0, **changes: object) -> Any:
    options = recorder.parse_arguments(["--windows-per-episode", "2", "--size", "16"])
    vars(options).update(changes, out=out)
    return recorder.Episode(split, index, 3, options)


def pixels(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def short_clips(frames: np.ndarray, *, size: int, num_clips: int, length: int = 5) -> np.ndarray:
    clips, _ = recorder.cut_paper_clips(
        frames,
        recorder.motion_energy(frames),
        np.random.default_rng(0),
        size=size,
        num_clips=num_clips,
        length=length,
    )
    return clips


# -------------------- play


def test_a_frame_is_the_maximum_of_the_last_two_raw_frames_of_four() -> None:
    frames, _ = recorder.play(CountingEmulator(300 + 20), itertools.repeat(3))
    assert frames.shape == (5, 210, 160, 3)
    lit = [np.flatnonzero(frame[0, :, 0]).tolist() for frame in frames]
    assert lit == [[3, 4], [7, 8], [11, 12], [15, 16], [19, 20]]


def test_the_opening_is_idle_and_a_step_cut_short_is_dropped() -> None:
    emulator = CountingEmulator(300 + 27)
    frames, held = recorder.play(emulator, iter([2, 3, 4, 5, 2, 3, 4]))
    assert len(frames) == 6
    assert held.tolist() == [2, 3, 4, 5, 2, 3]  # the frame shows what it led to
    assert emulator.actions[:300] == [0] * 300
    assert emulator.actions[300:] == np.repeat([2, 3, 4, 5, 2, 3, 4], 4)[:-1].tolist()
    with pytest.raises(LdfError, match="game of 4 frames"):
        recorder.play(CountingEmulator(300 + 19), itertools.repeat(3))


def test_directions_follow_their_seed_are_held_for_the_stated_mean_and_never_idle() -> None:
    steps, again, other = (
        list(itertools.islice(recorder.held_directions(np.random.default_rng(n)), 40_000))
        for n in (5, 5, 6)
    )
    assert steps == again != other
    assert set(steps) == {2, 3, 4, 5}
    # A draw repeats the last one in a quarter of cases, so a run lasts 8 / (3 / 4) steps.
    num_runs = sum(1 for _ in itertools.groupby(steps))
    assert len(steps) / num_runs == pytest.approx(8 * 4 / 3, rel=0.05)


# -------------------- motion


def test_the_rule_is_more_than_100_and_not_100() -> None:
    # 25 jumps from black to white, each 2 in [-1, 1], are exactly 100.
    energy = np.zeros((6, 5, 5), np.int32)
    energy[1] = 255**2
    assert recorder.moving_spans(energy).tolist() == [False, False, False]
    energy[4, 0, 0] = 1  # in the spans from 1 and 2; the jumps are in those from 0 and 1
    assert recorder.moving_spans(energy).tolist() == [False, True, False]
    assert recorder.moving_spans(energy[:3]).shape == (0,)
    frames = np.zeros((3, 2, 2, 3), np.uint8)
    frames[1, 0, 1], frames[2, 0, 1] = (1, 2, 3), (255, 0, 3)
    energy = recorder.motion_energy(frames)
    assert energy.tolist() == [[[0, 14], [0, 0]], [[0, 254**2 + 4], [0, 0]]]


# -------------------- windows


@pytest.mark.parametrize(
    ("moving_share", "max_tries", "chosen", "num_drawn"),
    [(0.0, 3, (0, 0), 1), (0.3, 3, (100, 90), 2), (1.0, 3, (100, 90), 3), (1.0, 1, (0, 0), 1)],
    ids=["none need move", "until one moves", "the liveliest of all", "one try"],
)
def test_windows_are_drawn_until_one_moves_often_enough(
    monkeypatch: pytest.MonkeyPatch,
    moving_share: float,
    max_tries: int,
    chosen: tuple[int, int],
    num_drawn: int,
) -> None:
    energy = np.zeros((19, 210, 160), np.int32)
    energy[:4] = 3 * 255**2  # 4 spans of 16 move, wherever the window is
    energy[8:12, 100:132, 90:122] = 3 * 255**2  # and here others too
    corners = [(0, 0), (100, 90), (50, 20)]
    drawn = iter(corners)
    monkeypatch.setattr(recorder, "draw_corner", lambda _rng, *, size: next(drawn))
    rng, options = np.random.default_rng(0), {"moving_share": moving_share, "max_tries": max_tries}
    window = recorder.choose_window(energy, rng, size=32, **options)
    assert (window.top, window.left) == chosen
    assert list(drawn) == corners[num_drawn:]


@pytest.mark.parametrize("size", [2, 32, 160])
def test_windows_stay_in_the_maze(size: int) -> None:
    rng = np.random.default_rng(0)
    corners = np.array([recorder.draw_corner(rng, size=size) for _ in range(20_000)])
    assert corners.min(axis=0).tolist() == [0, 0]
    assert corners.max(axis=0).tolist() == [172 - size, 160 - size]


# -------------------- short clips


def test_short_clips_move_but_for_one_in_twenty() -> None:
    frames = np.zeros((30, 210, 160, 3), np.uint8)
    frames[1::2, :, ::8] = 255  # every window of 16 moves, in every span
    frames[12:] = 0  # but nothing does from here on
    clips = short_clips(frames, size=16, num_clips=400)
    assert clips.shape == (400, 5, 16, 16, 3)
    assert clips.dtype == np.uint8
    still = sum(not recorder.moving_spans(recorder.motion_energy(clip))[0] for clip in clips)
    # 14 of the 26 starts are still, and only unfiltered clips (5 %) may have them: 10.8 expected.
    assert 3 <= still <= 22


def test_short_clips_of_a_still_game_are_taken_as_they_are_and_of_a_shorter_one_refused() -> None:
    frames = np.full((9, 210, 160, 3), 7, np.uint8)
    clips = short_clips(frames, size=8, num_clips=3)
    assert np.array_equal(clips, np.full((3, 5, 8, 8, 3), 7, np.uint8))
    with pytest.raises(LdfError, match="game of 9 frames, expected 10"):
        short_clips(frames, size=8, num_clips=1, length=10)
    assert len(short_clips(frames, size=8, num_clips=0, length=10)) == 0


def test_longer_clips_move_as_much_a_frame() -> None:
    frames = np.zeros((60, 210, 160, 3), np.uint8)
    frames[1::2, :, ::8] = 255  # every window of 16 moves by 6.2 million a frame
    frames[8:] = 0  # so in 9 frames, which must move by 3.3 million, one change is enough
    clips = short_clips(frames, size=16, num_clips=400, length=9)
    assert clips.shape == (400, 9, 16, 16, 3)
    changes = [int(recorder.motion_energy(clip).sum()) for clip in clips]
    assert 3 <= changes.count(0) <= 35  # 44 of 52 starts are still, and 5 % are unfiltered
    frames[8:] = np.arange(52)[:, None, None, None] % 2 * 20  # 307,200 a frame: 8 are too little
    assert recorder.MIN_MOTION * 2 > 16 * 16 * 3 * 400 * 8
    clips = short_clips(frames, size=16, num_clips=400, length=9)
    lively = sum(int(recorder.motion_energy(c).sum()) > 2 * recorder.MIN_MOTION for c in clips)
    assert lively > 365


def test_random_numbers_follow_the_seed_and_every_stream_is_its_own(tmp_path: Path) -> None:
    keys = list(itertools.product(range(2), ("train", "test"), range(3), range(3), range(3)))

    def draw(seed: int, split: str, index: int, stream: int, item: int) -> int:
        one = episode(tmp_path, split=split, index=index, seed=seed)
        return int(one.rng(stream, item).integers(2**62))

    draws = [draw(*key) for key in keys]
    assert len(set(draws)) == len(keys)
    assert draws == [draw(*key) for key in keys]


# -------------------- files


@pytest.mark.parametrize("size", [32, 17])
def test_a_video_gives_its_pixels_back(tmp_path: Path, size: int) -> None:
    path = tmp_path / "deep" / "clip.mp4"
    frames = np.random.default_rng(2).integers(0, 256, (70, size, size, 3), dtype=np.uint8)
    recorder.write_video(path, frames, comment="noise")
    assert np.array_equal(pixels(path), frames)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_without_a_lossless_encoder_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder.av, "codecs_available", {"libx264"})
    with pytest.raises(LdfError, match="libx264rgb"):
        recorder.write_video(tmp_path / "clip.mp4", screens())
    assert list(tmp_path.iterdir()) == []


def test_windows_are_seeded_and_only_missing_ones_written_again(tmp_path: Path) -> None:
    frames, one = screens(), episode(tmp_path)
    game = recorder.Played(frames, 2 + np.arange(20) % 4)
    result = recorder.write_episode(one, game)
    assert (result.num_frames, result.num_files) == (20, 2)
    assert result.paper_clips.shape == (3, 5, 16, 16, 3)
    energy = recorder.motion_energy(frames)
    for w in range(2):
        top, left, _ = recorder.choose_window(energy, one.rng(recorder.WINDOWS, w), size=16)
        path = tmp_path / "train" / f"episode-0000-window-{w:02d}.mp4"
        assert np.array_equal(pixels(path), frames[:, top : top + 16, left : left + 16])
        held = (tmp_path / "train" / f"episode-0000-window-{w:02d}.csv").read_text().split()
        assert held == ["action", *["up", "right", "left", "down"] * 5]
    assert result.paper_actions.shape == (3, 5)
    assert one.missing() == []
    lost, kept = one.window_path(0), one.window_path(1)
    before = lost.read_bytes()
    lost.unlink()
    kept.write_bytes(b"untouched")
    assert one.missing() == [0]
    assert recorder.write_episode(one, game).num_files == 1
    assert lost.read_bytes() == before
    assert kept.read_bytes() == b"untouched"


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Replaces the emulator by made frames; lists the episodes that were played."""
    episodes: list[Any] = []

    def record(one: Any) -> object:
        episodes.append(one)
        frames = screens(seed=one.index)
        return recorder.write_episode(one, recorder.Played(frames, 2 + np.arange(20) % 4))

    monkeypatch.setattr(recorder, "record_episode", record)
    monkeypatch.setattr(recorder, "open_emulator", lambda game: None)
    return episodes


def arguments(out: Path, *more: str) -> list[str]:
    common = "--episodes 3 --test-episodes 2 --windows-per-episode 2 --size 16 --jobs 1"
    return ["--out", str(out), *common.split(), *more]


def test_a_run_writes_both_splits_and_the_next_does_nothing(
    tmp_path: Path, played: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    assert recorder.main(arguments(tmp_path, "--paper-clips", "5")) == 0
    assert len(played) == 5
    assert len(list((tmp_path / "train").glob("*.mp4"))) == 6
    assert len(list((tmp_path / "test").glob("*.csv"))) == 4
    for split in ("train", "test"):
        clips = np.load(tmp_path / "paper" / split / "paper-5.npy")
        assert (clips.shape, clips.dtype) == ((5, 5, 16, 16, 3), np.uint8)
        name, *held = (tmp_path / "paper" / split / "paper-5.csv").read_text().split()
        assert (name, len(held)) == ("action", 25)
        for clip, row in zip(clips, np.reshape(held, (5, 5)), strict=True):
            start = ["up", "right", "left", "down"].index(row[0])  # its frames follow each other
            expected = [["up", "right", "left", "down"][(start + n) % 4] for n in range(5)]
            assert row.tolist() == expected
            assert clip.any()
    assert "train 3/3: episode 2, 20 frames, 2 files" in capsys.readouterr().out

    assert recorder.main(arguments(tmp_path, "--paper-clips", "5")) == 0
    assert len(played) == 5
    assert capsys.readouterr().out == "train: all files are there\ntest: all files are there\n"

    assert recorder.main(arguments(tmp_path, "--paper-clips", "4", "--clip-frames", "9")) == 0
    for split in ("train", "test"):  # beside the others, not in their place
        assert np.load(tmp_path / "paper" / split / "paper-9.npy").shape == (4, 9, 16, 16, 3)
        assert np.load(tmp_path / "paper" / split / "paper-5.npy").shape == (5, 5, 16, 16, 3)


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_the_same_options_write_the_same_bytes_and_more_episodes_change_none(
    tmp_path: Path, played: list[Any]
) -> None:
    for name in ("a", "b"):
        assert recorder.main(arguments(tmp_path / name, "--paper-clips", "4")) == 0
    before = contents(tmp_path / "a")
    assert before == contents(tmp_path / "b")
    assert (len(before), len(played)) == (2 * (6 + 4 + 2) + 1, 10)
    assert recorder.main(arguments(tmp_path / "b", "--paper-clips", "4", "--episodes", "4")) == 0
    after = contents(tmp_path / "b")
    assert (len(after), after | before) == (len(before) + 4, after)
    assert [one.index for one in played[10:]] == [3]


def test_another_game_is_played_by_all_that_it_knows_but_nothing() -> None:
    class Known(CountingEmulator):
        def getMinimalActionSet(self) -> list[Any]:  # noqa: N802
            return [SimpleNamespace(value=value) for value in (0, 1, 3, 11)]

    assert recorder.actions_of(Known(5), "riverraid") == [1, 3, 11]
    assert tuple(recorder.actions_of(Known(5), recorder.PACMAN)) == (2, 3, 4, 5)
    held = recorder.held_directions(np.random.default_rng(0), [1, 3, 11])
    assert set(itertools.islice(held, 500)) == {1, 3, 11}


def test_a_game_that_the_emulator_lacks_is_said_and_nothing_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    roms = {"combat": "combat.bin"}  # of two players, which ends the process that loads it

    class Interface:
        setLoggerMode = staticmethod(lambda mode: None)  # noqa: N815
        setInt = setFloat = lambda self, name, value: None  # noqa: N815
        isSupportedROM = staticmethod(lambda rom: None)  # noqa: N815

    fake = SimpleNamespace(
        ALEInterface=Interface,
        LoggerMode=SimpleNamespace(Error=0),
        roms=SimpleNamespace(get_rom_path=roms.get),
    )
    monkeypatch.setitem(sys.modules, "ale_py", fake)
    for game, said in (
        ("chess", "got no game chess from ale-py, expected the name"),
        ("combat", "ale-py has combat and cannot play it"),
    ):
        assert recorder.main([*arguments(tmp_path / "out"), "--game", game]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
        assert list(tmp_path.iterdir()) == []


def test_other_options_do_not_mix_into_a_recording_and_one_that_names_no_game_is_of_pacman(
    tmp_path: Path, played: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    assert recorder.main(arguments(tmp_path)) == 0
    path = tmp_path / ".recording.json"
    known = json.loads(path.read_text())
    del known["game"]
    path.write_text(json.dumps(known))
    assert recorder.main(arguments(tmp_path)) == 0
    assert recorder.main(arguments(tmp_path, "--game", "riverraid", "--seed", "3")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "seed 0 there, 3 now; game ms_pacman there, riverraid now" in line
    assert len(played) == 5


class Corridor(CountingEmulator):
    """A white dot that goes 3 pixels a step left or right, between two walls."""

    column = 80

    def act(self, action: int) -> int:
        if len(self.actions) >= 300:
            step = {3: 1, 4: -1}.get(action, 0) * (len(self.actions) % 4 > 0)
            self.column = min(max(self.column + step, 40), 120)
        return super().act(action)

    def getScreenRGB(self) -> np.ndarray:  # noqa: N802
        screen = np.zeros((210, 160, 3), np.uint8)
        screen[90, self.column] = 255
        return screen

    def getRAM(self) -> np.ndarray:  # noqa: N802
        memory = np.zeros(128, np.uint8)
        memory[16], memory[10] = 90 - 6, self.column + 8
        return memory


def test_a_window_that_follows_keeps_the_player_in_its_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "open_emulator", lambda game: Corridor(300 + 4 * 200 + 2))
    line = arguments(tmp_path, "--follow", "--episodes", "1", "--test-episodes", "0")
    assert recorder.main(line) == 0
    names = {path.name for path in (tmp_path / "train").iterdir()}
    assert names == {"episode-0000-window-00.mp4", "episode-0000-window-00.csv"}
    frames = pixels(tmp_path / "train" / "episode-0000-window-00.mp4")
    rows = (tmp_path / "train" / "episode-0000-window-00.csv").read_text().split()
    assert frames.shape == (200, 16, 16, 3)
    assert (frames[:, 8, 8] == 255).all()  # of the newest raw frame of each step
    held = np.array(rows[1:])
    assert len(held) == 200
    before = contents(tmp_path)
    assert recorder.main(line) == 0  # all is there
    assert contents(tmp_path) == before
    assert recorder.main(arguments(tmp_path)) != 0  # another kind of recording


def test_a_player_who_is_stuck_turns_another_way() -> None:
    emulator, places = Corridor(10**6), list[tuple[int, int]]()
    emulator.actions = [0] * 300
    directions = recorder.turning_directions(np.random.default_rng(1), emulator, places)
    held = []
    for direction in itertools.islice(directions, 400):
        held.append(direction)
        for _ in range(4):
            emulator.act(direction)
    moved = np.array([column for _, column in places[1:]]) != [column for _, column in places[:-1]]
    still = max(len(list(run)) for moves, run in itertools.groupby(moved) if not moves)
    runs = [(way, len(list(run))) for way, run in itertools.groupby(held)]
    assert max(length for way, length in runs if way in (2, 5)) <= 3  # walls above and below
    assert still < 40
    assert set(held) == {2, 3, 4, 5}


@pytest.mark.parametrize("other", [["--paper-clips", "4"], ["--game", "riverraid"]])
def test_what_cannot_follow_is_refused(
    tmp_path: Path, other: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        recorder.main(["--out", str(tmp_path / "out"), "--follow", *other])
    assert "--follow: of Ms. Pac-Man" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
