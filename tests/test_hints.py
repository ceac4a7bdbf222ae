"""The last line of each command, true also where options are not the usual ones."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from clip_files import barcode, write_clip
from tiny_cli import shrink
from tiny_models import save_frame, save_pair, write_array
from typer.testing import CliRunner

from ldf_video import api, hints
from ldf_video.cli import app
from ldf_video.evaluation.report import FLOOR
from ldf_video.recipes import evaluate

if TYPE_CHECKING:
    from click.testing import Result


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with clips/ and a pair of models."""
    monkeypatch.chdir(tmp_path)
    shrink(monkeypatch.setattr)
    save_pair(tmp_path / "checkpoints")
    for seed in range(2):
        write_array(tmp_path / "my clips" / f"{seed}.npy", 9, seed=seed)
    return tmp_path


def run(line: str) -> Result:
    result = CliRunner().invoke(app, shlex.split(line))
    assert result.exit_code == 0, (line, result.output)
    return result


def last(line: str) -> str:
    """The last line that a command prints, which is not among its results."""
    result = run(line)
    end = result.output.splitlines()[-1]
    assert end == result.stderr.splitlines()[-1]
    assert run(f"{line} --quiet").stderr == ""
    return str(end)


TRAIN = "--steps 1 --batch-size 4 --seed 1"


def test_train_frame(root: Path) -> None:
    assert last(f"train-frame 'my clips' --out new {TRAIN}") == (
        "look at new/sheet.png, new/curve.png; next: ldf-video encode 'my clips' --frame-model new"
    )
    (root / "checkpoints").rename("old")
    said = last(f"train-frame 'my clips' {TRAIN}")
    assert said.endswith("checkpoints/frame/curve.png; next: ldf-video encode 'my clips'")


def test_encode_and_train_top(root: Path) -> None:
    assert last("encode 'my clips'") == (
        "to look at it: ldf-video info latents; next: ldf-video train-top"
    )
    assert last("encode 'my clips' --out b/").endswith("next: ldf-video train-top --latents b/")
    assert last(f"train-top --out new {TRAIN}") == (
        "look at new/sheet.png, new/sheet.mp4, new/curve.png; "
        "next: ldf-video generate --top-model new"
    )
    (root / "checkpoints" / "top").rename("old")
    assert last(f"train-top {TRAIN}").endswith("curve.png; next: ldf-video generate")


def test_clips_of_which_something_is_known_may_be_played(root: Path) -> None:
    for clip in sorted((root / "my clips").glob("*.npy")):
        clip.with_suffix(".csv").write_text("key\n" + 9 * "left\n")
    assert last("preview 'my clips'") == (
        "look at preview.html in a browser; next: ldf-video start 'my clips', "
        "or to play it: ldf-video encode 'my clips'"
    )
    page = (root / "preview.html").read_text()
    assert "ldf-video train-top --block 1 --minutes" in page
    assert last("encode 'my clips' --out b").endswith(
        "next: ldf-video train-top --latents b, "
        "or to play it: ldf-video train-top --latents b --block 1"
    )


def test_generate(root: Path) -> None:
    assert last("generate --frames 2 --seed 7 -o a.gif") == (
        "look at a.gif, --seed 7 makes the same again; next: ldf-video evaluate --real CLIPS"
    )
    said = last("generate --frames 2 --num-videos 2 --seed 7 -o d --top-model ./checkpoints/top")
    assert said.startswith("look at d/0000.mp4 to d/0001.mp4, --seed 7 makes the same again; next")
    (root / "checkpoints").rename("mine")
    said = last("generate --frames 2 --seed 7 -o a.gif --top-model mine/top")
    assert said.endswith("next: ldf-video evaluate --real CLIPS --top-model mine/top")
    said = last("generate --frames 2 --seed 7 -o a.gif --top-model mine/top --frame-model mine")
    assert said.endswith(" --real CLIPS --top-model mine/top --frame-model mine")


def test_generate_names_both_models_that_are_to_be_judged_together(root: Path) -> None:
    paths = [root / "a.gif"]
    said = hints.after_generate(paths, 7, None, "other")
    assert said.endswith(" --real CLIPS --top-model checkpoints/top --frame-model other")
    (root / "checkpoints").rename("mine")
    said = hints.after_generate(paths, 7, None, "other")
    assert said.endswith(" --real CLIPS --top-model pacman-32 --frame-model other")


def test_interpolate(root: Path) -> None:
    assert last("interpolate 'my clips/0.npy' 'my clips/1.npy' --frames 2 --seed 7 -o a.gif") == (
        "look at a.gif, --seed 7 makes the same again, another --seed another way"
    )


def test_generate_says_what_evaluate_needs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hints, "find_spec", lambda name: None)
    assert last("generate --frames 2 --seed 7 -o a.gif").endswith(
        "next: pip install 'ldf-video[evaluate]', then ldf-video evaluate --real CLIPS"
    )


def test_reconstruct(root: Path) -> None:
    assert last("reconstruct 'my clips'") == "next: ldf-video train-frame 'my clips'"
    assert last("reconstruct 'my clips/0.npy' -o a.gif").startswith("look at a.gif; next: ")
    still = np.full((9, 64, 64, 3), 90, np.uint8)
    np.save(root / "still.npy", still + np.arange(64, dtype=np.uint8)[:, None])
    assert last("reconstruct still.npy --frame-model film-64") == (
        "next: ldf-video encode still.npy --frame-model film-64"
    )


def test_evaluate(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = SimpleNamespace(table=lambda: "a table")
    monkeypatch.setattr(evaluate, "evaluate", lambda *given, **options: table)
    assert last("evaluate --real 'my clips'") == (
        "to see such clips, next: ldf-video evaluate --real 'my clips' -o sheet.png"
    )
    shown = last("evaluate --real 'my clips' -o s.png")
    assert shown.startswith("look at s.png; next: train for")
    assert shown.endswith(f"the row '{FLOOR}'")


def begins(line: str) -> list[str]:
    """The lines of `info` before the details."""
    before, _, details = run(line).stdout.partition("\n\n")
    assert details.startswith("what: ")
    return before.splitlines()


def test_info_begins_with_what_it_is_how_good_and_how_to_use_it(root: Path) -> None:
    write_clip(root / "a.mp4", [barcode(n) for n in range(6)], fps=12)
    assert begins("info a.mp4") == [
        "video of 6 frames, 64x48, 12 frames a second, 0.5 seconds",
        "next: ldf-video encode a.mp4",
    ]
    run("encode 'my clips'")
    what, good, follows = begins("info latents")
    assert what.startswith("store of latents: 2 clips, 18 frames, ")
    assert good == "made by checkpoints/frame, 0 sources unreadable, 0 cut short"
    assert follows == "next: ldf-video train-top"
    for number in range(20):
        write_array(root / "my clips" / f"more-{number}.npy", 9, seed=number + 2)
    run(f"train-frame 'my clips' --out new {TRAIN}")
    what, good, follows = begins("info new")
    assert what.startswith("frame model, 0.")
    assert what.endswith("million weights, 32x32 pixels")
    assert good.startswith("held-out frames come back at ")
    assert " dB, 1 step, 0 minutes, 0." in good
    assert good.endswith(" epochs, finished")
    assert follows == "next: ldf-video encode CLIPS --frame-model new"
    run(f"train-top --out top {TRAIN}")
    what, good, follows = begins("info top")
    assert "million weights, flow, windows of 8 frames" in what
    assert good.startswith("not measured on held-out clips here, 1 step")
    assert follows == "next: ldf-video generate --top-model top"


def test_info_of_shipped_models_names_what_their_cards_measured() -> None:
    lines = begins("info pacman-32")
    assert lines[0] == "frame model, 0.64 million weights, 32x32 pixels"
    assert any("40.2 dB PSNR" in line for line in lines)
    assert not any("not measured" in line for line in lines)
    assert lines[-1] == "next: ldf-video generate --top-model pacman-32"
    assert begins("info pacman-32-play")[-1] == "next: ldf-video play --top-model pacman-32-play"
    assert begins("info film-64")[-1] == "next: ldf-video encode CLIPS --frame-model film-64"


def test_another_rate_than_the_clips_have_is_said(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    save_frame(root / "slow", fps="15")
    (root / "videos").mkdir()
    write_clip(root / "videos" / "a.mp4", [barcode(n) for n in range(30)], fps=30)
    frames = np.load(write_array(root / "videos" / "b.npy", 9))
    np.savez(root / "videos" / "c.npz", frames=frames)  # arrays have no rate
    api.encode("videos", out="one", frame_model="slow", device="cpu")
    assert (
        "15 frames a second are read, as slow was trained, of clips that have 30: --fps 30 takes"
    ) in capfd.readouterr().err
    api.encode("videos", out="film", frame_model="film-64", device="cpu")
    said = capfd.readouterr().err
    assert "24 frames a second are read, as film-64 was trained, of clips that have 30" in said
    assert "the frame model reaches" in said or "come back from film-64 at" in said
    api.encode("videos", out="two", frame_model="slow", fps="10", device="cpu")
    api.encode("videos", out="three", device="cpu")
    assert "frames a second are read" not in capfd.readouterr().err


def test_trainings_say_how_good_they_are_and_where_their_pictures_lie(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    api.train_frame("my clips", out="new", steps=1, batch_size=4, seed=1, device="cpu")
    assert "train-frame: 1 step: frames that it learns from come back at " in (
        said := capfd.readouterr().err
    )
    assert " dB, picture in new/samples/step-0000001.png" in said


def test_what_encode_knows_of_the_frame_model_is_not_to_be_typed(tmp_path: Path) -> None:
    config = {"frames": {"height": 32, "axes": "TNYX", "levels": "0:4095"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    line = hints.after_train_frame("a.npy", tmp_path)
    assert line == f"next: ldf-video encode a.npy --frame-model {tmp_path}"
