"""start: the whole way, stopped anywhere and gone on with, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tiny_cli import shrink
from tiny_models import save_shipped, write_array
from typer.testing import CliRunner

from ldf_video.api import start
from ldf_video.cli import app
from ldf_video.errors import CheckpointError, UsageError
from ldf_video.recipes import start as recipe
from ldf_video.runs import zoo
from ldf_video.store.reader import StoreReader
from ldf_video.training import checkpoints

MADE = {"preview.html", "frame", "latents", "top", "sheet.png", "out.mp4", "start.json"}
PLAN = Path("start/start.json")
STAGES = ("preview", "train_frame", "encode", "train_top", "generate")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with clips/, and two tiny models as shipped ones; trainings take a second."""
    monkeypatch.chdir(tmp_path)
    shrink(monkeypatch.setattr)
    shipped = save_shipped(tmp_path / "shipped")
    monkeypatch.setattr(zoo, "shipped_models", lambda: shipped)
    monkeypatch.setattr(recipe, "FRAMES", 8)
    monkeypatch.setattr(recipe, "VIDEOS", 2)
    for seed in range(3):
        write_array(tmp_path / "clips" / f"{seed}.npy", 18, seed=seed)
    return tmp_path


def test_one_command_goes_the_whole_way_and_says_how(root: Path) -> None:
    done = CliRunner().invoke(app, ["start", "clips", "--minutes", "0.02", "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert {path.name for path in (root / "start").iterdir()} == MADE
    said = " ".join(done.stderr.split())
    for number, name in enumerate(recipe.STAGES, start=1):
        assert f"start: {number} of 5, {name}" in said
        assert f"start: {name} done: " in said
    assert "start: 0.02 minutes of training: 0.01 for the frame model, 0.01 for the top" in said
    assert "hardly, and has much to learn" in said
    assert "start: warning: There are few different frames: 54." in said
    assert "next: ldf-video generate --top-model start/top --frames 256" in said
    assert "ldf-video start clips --minutes 0.04" in said
    assert done.stdout.split() == ["start/sheet.png", "start/out.mp4"]
    latents = StoreReader(root / "start" / "latents")
    assert latents.num_frames == 54
    frame = checkpoints.load_config(root / "start" / "frame")
    top = checkpoints.load_config(root / "start" / "top")
    assert frame["init"]["from"] == json.loads((root / "start/start.json").read_text())["init"]
    assert top["frame_model"]["fingerprint"] == checkpoints.fingerprint_of(root / "start" / "frame")
    assert recipe.flow_for("film-64", latents) is None  # there is no flow of that one

    state, plan = checkpoints.load_state(root / "start/top"), json.loads(PLAN.read_text())
    assert state is not None
    trained = plan["frame_minutes"] + state["elapsed_seconds"] / 60
    assert trained > 0.02
    more = ["start", "clips", "--minutes", str((trained + 0.02) / 2), "--device", "cpu"]
    done = CliRunner().invoke(app, more)
    assert done.exit_code == 0, done.output
    assert "start/top has trained for as long already" in " ".join(done.stderr.split())


def test_a_killed_start_goes_on(tmp_path: Path) -> None:
    """SIGKILL in the middle of an update, in a process of its own."""
    write_array(tmp_path / "clips" / "one.npy", 18)
    command = [sys.executable, str(Path(__file__).parent / "tiny_cli.py"), "start", "clips"]
    command += ["--minutes", "0.02", "--device", "cpu"]

    def run(**environment: str) -> subprocess.CompletedProcess[str]:
        known = os.environ | environment
        asked: dict[str, Any] = {"cwd": tmp_path, "env": known, "capture_output": True}
        return subprocess.run(command, text=True, check=False, **asked)

    assert run(TINY_SIGNAL="SIGKILL:1").returncode == -9
    before = list(json.loads((tmp_path / "start" / "start.json").read_text())["done"])
    assert before[0] == "preview"
    assert "train-top" not in before
    done = run()
    assert done.returncode == 0, done.stderr
    assert f"start: going on in start; done: {', '.join(before)}" in done.stderr
    assert "1 of 5" not in done.stderr
    assert {path.name for path in (tmp_path / "start").iterdir()} == MADE


# -- its own work, the stages being others' -------------------------------------------------------


class Stages:
    """Stands for the five commands: notes their options, and stops where it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.stop: tuple[str, str] | None = None
        self.fits = {"film-64": 24.0, "pacman-32": 9.0}
        for name in STAGES:
            monkeypatch.setattr(recipe, name, partial(self._run, name))
        store = SimpleNamespace(at_cuts=lambda: None)
        monkeypatch.setattr(recipe, "StoreReader", lambda path: store)
        monkeypatch.setattr(recipe, "flow_for", lambda *_: "a-flow")

    def _run(self, name: str, options: Any) -> Any:
        if self.stop == ("before", name):
            raise KeyboardInterrupt
        self.asked.append((name, options))
        if self.stop == ("behind", name):
            raise KeyboardInterrupt
        place = Path(options.out)
        return SimpleNamespace(path=place, store=place, fits=self.fits, lines=list)

    def names(self) -> list[str]:
        return [name for name, _ in self.asked]

    def options(self, name: str) -> Any:
        """Those of the last call of a command."""
        return [options for other, options in self.asked if other == name][-1]


@pytest.fixture
def stages(root: Path, monkeypatch: pytest.MonkeyPatch) -> Stages:
    stages = Stages(monkeypatch)

    def train_frame(options: Any) -> Path:
        return Path(stages._run("train_frame", options).path)

    def train_top(options: Any) -> Path:
        return Path(stages._run("train_top", options).path)

    monkeypatch.setattr(recipe, "train_frame", train_frame)
    monkeypatch.setattr(recipe, "train_top", train_top)
    return stages


def test_stopped_at_every_stage_it_goes_on_there(stages: Stages) -> None:
    for name in STAGES:
        for when in ("before", "behind"):
            stages.stop = when, name
            with pytest.raises(KeyboardInterrupt):
                start("clips", device="cpu", quiet=True)
    stages.stop = None
    start("clips", device="cpu", quiet=True)
    # what was stopped behind its work is asked once more, and its run finds nothing to do
    twice = [name for name in STAGES for _ in range(2)]
    assert stages.names() == [*twice[:-1], "generate", "generate"]
    start("clips", device="cpu", quiet=True)
    assert len(stages.names()) == 11


def test_options_reach_every_stage(stages: Stages) -> None:
    start("clips", minutes=30, size=16, fps=5, crop="none", device="cpu", quiet=True)
    for name in ("preview", "train_frame", "encode"):
        options = stages.options(name)
        assert (options.fps, options.crop, options.quiet) == ("5/1", "none", True)
    frame, top = stages.options("train_frame"), stages.options("train_top")
    assert (frame.init, frame.size, frame.minutes, frame.batch_size) == ("film-64", "16x16", 10, 16)
    assert (top.init, top.minutes, top.batch_size) == ("a-flow", 20, 32)
    assert stages.options("encode").frame_model == Path("start/frame")
    sheet, video = (options for name, options in stages.asked if name == "generate")
    assert sheet.seed == video.seed  # the first video of the one is that of the other
    start("clips", minutes=40, device="cpu", quiet=True)
    assert stages.names()[-3:] == ["train_top", "generate", "generate"]
    assert stages.options("train_top").minutes == 30


@pytest.mark.parametrize(
    ("fit_db", "size", "share"),
    [(33.0, "32x32", 0.0), (33.0, "64x64", 1 / 3), (24.0, "32x32", 1 / 3), (9.0, "32x32", 1 / 2)],
)
def test_how_the_minutes_are_split(
    root: Path, monkeypatch: pytest.MonkeyPatch, fit_db: float, size: str, share: float
) -> None:
    own = {"model": {"width": 32, "height": 32}}
    monkeypatch.setattr(checkpoints, "load_config", lambda *_, **__: own)
    found, why = recipe.share_of_frames("pacman-32", fit_db, size=size)
    assert found == share
    assert f"{fit_db:.1f} dB" in why


def test_a_model_that_shows_the_clips_well_is_taken_as_it_is(
    root: Path, stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "share_of_frames", lambda *_, **__: (0.0, "it is near"))
    done = start("clips", minutes=30, device="cpu", quiet=True)
    assert "train_frame" not in stages.names()
    assert done.frame_model == root / "shipped" / "film-64" / "frame"
    assert stages.options("encode").frame_model == done.frame_model
    assert stages.options("train_top").minutes == 30


def test_the_shipped_flow_of_the_frame_model_is_begun_with_where_it_fits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def latents(*shape: int, longest: int = 16) -> Any:
        return SimpleNamespace(lengths=np.array([longest]), spec=SimpleNamespace(item_shape=shape))

    assert recipe.flow_for("pacman-32", latents(4, 8, 8)) == "pacman-32-flow"
    assert recipe.flow_for("pacman-32", latents(4, 8, 8, longest=15)) is None
    assert recipe.flow_for("pacman-32", latents(4, 16, 16)) is None
    assert recipe.flow_for("film-64", latents(4, 8, 8)) is None
    tops = dict(reversed(zoo.shipped_of("top").items()))
    shipped = {"frame": zoo.shipped_of("frame"), "top": tops}
    monkeypatch.setattr(zoo, "shipped_of", shipped.__getitem__)
    assert recipe.flow_for("pacman-32", latents(4, 8, 8)) == "pacman-32-flow"


def test_wrong_input_is_one_line_and_leaves_no_trace(root: Path, stages: Stages) -> None:
    (root / "empty").mkdir()
    (root / "mine").mkdir()
    (root / "mine" / "letter.txt").write_text("dear")
    for error, said, clips, options in (
        (UsageError, "--minutes 0: expected more than 0", "clips", {"minutes": 0}),
        (UsageError, "--size: frame size 5x5: expected sides of 8", "clips", {"size": 5}),
        (UsageError, "nowhere does not exist", "nowhere", {}),
        (UsageError, "empty holds no file", "empty", {}),
        (UsageError, "--out clips: it is the input clips", "clips", {"out": "clips"}),
        (CheckpointError, "mine holds letter.txt and no start.json", "clips", {"out": "mine"}),
    ):
        with pytest.raises(error, match=re.escape(said)):
            start(clips, **options)  # type: ignore[arg-type]
    assert not (root / "start").exists()
    assert stages.names() == []


def test_where_no_stage_ended_other_clips_and_options_begin_anew(
    root: Path, stages: Stages
) -> None:
    """As after clips of which none can be read."""
    shutil.copytree("clips", "others")
    stages.stop = ("before", "preview")
    for clips, options in (
        ("clips", {"axes": "TYX", "minutes": 5}),
        ("others", {"minutes": 2}),
    ):
        with pytest.raises(KeyboardInterrupt):
            start(clips, **options, quiet=True)  # type: ignore[arg-type]
    plan = json.loads((root / "start" / "start.json").read_text())
    assert (plan["clips"], plan["read"]) == (str(root / "others"), {})
    stages.stop = None
    assert start("others", device="cpu", quiet=True, minutes=1).minutes == 1


def test_a_directory_belongs_to_its_clips_and_options(root: Path, stages: Stages) -> None:
    start("clips", minutes=5, device="cpu", quiet=True)
    shutil.copytree("clips", "others")
    for said, clips, options in (
        (f"start was begun with {root / 'clips'}, asked for others: name", "others", {}),
        ("begun with no --size, asked for --size 16x16: drop it", "clips", {"size": 16}),
        ("begun with no --fps, asked for --fps 5/1: drop it", "clips", {"fps": 5}),
        ("begun with --minutes 5, asked for 1: ask for as many", "clips", {"minutes": 1}),
    ):
        with pytest.raises(UsageError, match=re.escape(said)):
            start(clips, **options)  # type: ignore[arg-type]
    write_array(root / "clips" / "new.npy", 4)
    with pytest.raises(UsageError, match="clips holds other files than when start was begun"):
        start("clips")
    (root / "clips" / "new.npy").unlink()
    (root / "start" / "start.json").write_text('{"format_version": 1, "clips": 3')
    with pytest.raises(CheckpointError, match=r"start\.json is damaged"):
        start("clips")
    assert len(stages.names()) == 6
