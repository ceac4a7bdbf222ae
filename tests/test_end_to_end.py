"""From clips to a video, as typed; and killed on the way."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import av
import pytest
import tiny_cli
import torch
from clip_files import barcode, write_clip
from tiny_models import save_pair
from typer.testing import CliRunner

from ldf_video.cli import app
from ldf_video.runs import zoo
from ldf_video.training import checkpoints, config

DRIVER = [sys.executable, str(Path(__file__).parent / "tiny_cli.py")]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory that holds nothing but clips/; fresh models are tiny."""
    monkeypatch.chdir(tmp_path)
    tiny_cli.shrink(monkeypatch.setattr)
    (tmp_path / "clips").mkdir()
    write_clip(tmp_path / "clips" / "up.mkv", [barcode(n) for n in range(40)], fps=12)
    write_clip(tmp_path / "clips" / "down.mp4", [barcode(250 - n) for n in range(20)], fps=12)
    return tmp_path


def ldf_video(line: str) -> str:
    result = CliRunner().invoke(app, shlex.split(line))
    assert result.exit_code == 0, (line, result.output)
    return result.stdout


def kill_at(update: int, line: str) -> None:
    environment = os.environ | {"TINY_SIGNAL": f"SIGKILL:{update}"}
    done = subprocess.run([*DRIVER, *shlex.split(line)], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL


def count_decoded(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def assert_same_run(first: Path, second: Path) -> None:
    states = [checkpoints.load_state(path) for path in (first, second)]
    for name in ("networks", "average"):
        one, other = (state[name] for state in states if state is not None)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)
    assert (first / checkpoints.WEIGHTS).read_bytes() == (
        (second / checkpoints.WEIGHTS).read_bytes()
    )


def test_own_models_from_clips_to_a_video(root: Path) -> None:
    assert (
        ldf_video("train-frame clips/ --steps 3 --batch-size 4 --seed 1") == "checkpoints/frame\n"
    )
    assert ldf_video("encode clips/") == "latents\n"
    assert ldf_video("train-top --steps 3 --batch-size 4 --seed 1") == "checkpoints/top\n"
    assert ldf_video("generate --frames 5 -o out.mp4") == "out.mp4\n"

    assert count_decoded(root / "out.mp4") == 5
    assert len(list((root / "checkpoints").glob("*/samples/*.png"))) == 2
    assert "fps: 12" in ldf_video("info out.mp4")
    assert "finished: True" in ldf_video("info checkpoints/top")
    assert "frames: 60" in ldf_video("info latents")
    # A finished run stays as it is.
    before = (root / "checkpoints" / "top" / checkpoints.WEIGHTS).read_bytes()
    ldf_video("train-top")
    assert (root / "checkpoints" / "top" / checkpoints.WEIGHTS).read_bytes() == before
    # The videos are not needed any more.
    for clip in (root / "clips").iterdir():
        clip.unlink()
    ldf_video("train-top --steps 2 --batch-size 4 --no-resume")
    ldf_video("generate --frames 2 -o more.gif")


def test_the_three_lines_in_a_directory_that_holds_nothing_but_clips(
    root: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = save_pair(tmp_path_factory.mktemp("shipped") / "pacman-32")
    monkeypatch.setattr(zoo, "shipped_models", lambda: {"pacman-32": pair})

    def share(steps: int | None, minutes: float | None, *, step: int, **_: float) -> float:
        assert (steps, minutes) == (None, 10.0)
        return step / 3

    monkeypatch.setattr(config, "share_of_budget", share)

    ldf_video("encode clips/")
    ldf_video("train-top")
    ldf_video("generate --frames 5 -o out.mp4")

    assert count_decoded(root / "out.mp4") == 5
    assert {path.name for path in root.iterdir()} == {"clips", "latents", "checkpoints", "out.mp4"}
    adapted = checkpoints.fingerprint_of(root / "checkpoints" / "frame")
    assert checkpoints.fingerprint_of(pair / "frame") != adapted
    top = checkpoints.load_config(root / "checkpoints" / "top")
    assert top["frame_model"]["fingerprint"] == adapted


def test_a_killed_training_of_frames_ends_the_same_bit_for_bit(root: Path) -> None:
    line = "train-frame clips --steps 6 --batch-size 4 --seed 1 --out {}"
    ldf_video(line.format("straight"))
    kill_at(3, line.format("killed"))
    state = checkpoints.load_state(root / "killed")
    assert state is not None
    assert state["step"] == 3
    ldf_video(line.format("killed"))
    assert_same_run(root / "killed", root / "straight")


def test_a_killed_training_of_the_top_ends_the_same_bit_for_bit(root: Path) -> None:
    save_pair(root / "pair")
    ldf_video("encode clips --frame-model pair/frame")
    line = "train-top --steps 6 --batch-size 4 --seed 1 --out {}"
    ldf_video(line.format("straight"))
    kill_at(2, line.format("killed"))
    ldf_video(line.format("killed"))
    assert_same_run(root / "killed", root / "straight")


def test_python_has_the_same_commands(root: Path) -> None:
    import ldf_video as package

    make = partial(package.train_frame, "clips", steps=1, batch_size=4, seed=1, quiet=True)
    assert make() == Path("checkpoints/frame")
    assert package.encode("clips", quiet=True).report.num_frames == 60
    assert package.train_top(steps=1, batch_size=4, seed=1, quiet=True) == Path("checkpoints/top")
    made = package.generate("out.mp4", num_frames=2, num_videos=2, seed=1, quiet=True)
    assert (made.seed, made.num_frames, made.paths) == (1, 2, (Path("out.mp4"),))
    assert package.reconstruct("clips", quiet=True).num_frames == 60
    assert package.info("latents")["frames"] == 60
    assert package.__version__


def fail(line: str) -> str:
    result = CliRunner().invoke(app, shlex.split(line))
    assert result.exit_code == 1, (line, result.output)
    return result.stderr


def test_a_run_that_goes_on_keeps_to_its_clips(root: Path) -> None:
    line = "train-frame {} --steps {} --batch-size 4 --seed 1 --out run"
    ldf_video(line.format("clips", 3))
    (root / "other").mkdir()
    write_clip(root / "other" / "one.mkv", [barcode(n) for n in range(9)], fps=12)
    said = fail(line.format("other", 6))
    assert "is another place: name another --out" in said
    state = checkpoints.load_state(root / "run")
    assert state is not None
    assert state["step"] == 3
    ldf_video(line.format("clips", 6))  # nothing was lost


def test_a_store_of_frames_made_otherwise_is_found_before_a_run_is_moved(root: Path) -> None:
    line = "train-frame clips --steps 1 --batch-size 4 --frames-store fs --out run --size {}"
    ldf_video(line.format("32"))
    said = fail(line.format("16 --no-resume"))
    assert "fs was made otherwise" in said
    assert "name another --frames-store" in said
    assert {path.name for path in root.iterdir()} == {"clips", "fs", "run"}
    assert checkpoints.load_config(root / "run")["model"]["height"] == 32
