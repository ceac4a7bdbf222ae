"""interpolate: from the last frame of one clip to the first frame of another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clip_files import LOSSLESS, barcode, write_clip
from PIL import Image
from tiny_models import FLOW, FRAME, save_frame, save_pair, save_top

from ldf_video.api import interpolate, reconstruct
from ldf_video.clips.probe import probe
from ldf_video.errors import LdfError, ReadError, UsageError
from ldf_video.recipes.interpolate import Interpolated


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Own models, two clips and a picture of one shape."""
    monkeypatch.chdir(tmp_path)
    save_pair(tmp_path / "checkpoints")
    for name, first in (("a", 0), ("b", 40)):
        write_clip(tmp_path / f"{name}.mkv", [barcode(first + n) for n in range(9)], **LOSSLESS)
        np.save(tmp_path / f"{name}.npy", np.stack([barcode(first + n) for n in range(9)]))
    Image.fromarray(barcode(99)).save(tmp_path / "c.png")
    return tmp_path


def make(a: str = "a.npy", b: str = "b.npy", **options: Any) -> Interpolated:
    return interpolate(a, b, **{"quiet": True, "seed": 1, "upscale": 1} | options)


def cells(path: Path) -> np.ndarray:
    """The frames of a sheet of one row."""
    sheet = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return np.stack(np.split(sheet, sheet.shape[1] // 32, axis=1))


@pytest.mark.parametrize("num_frames", [1, 5, 12])
def test_the_ends_are_reconstructions_and_the_frames_between_are_made(
    root: Path, num_frames: int
) -> None:
    for name, frames in (("a", slice(-1, None)), ("b", slice(0, 1))):
        np.save(root / f"end-{name}.npy", np.load(root / f"{name}.npy")[frames])
        near = reconstruct(f"end-{name}.npy", out=f"{name}.png", upscale=1, quiet=True)
        assert np.isfinite(near.psnr_db)
    made = make(out="between.png", num_frames=num_frames)
    frames = cells(root / "between.png")
    assert len(frames) == num_frames + 2
    assert made.paths == (Path("between.png"),)
    assert np.abs(frames[0] - cells(root / "a.png")[0]).max() <= 1  # half floats
    assert np.abs(frames[-1] - cells(root / "b.png")[0]).max() <= 1
    expected = [reconstruct(f"end-{name}.npy", quiet=True).psnr_db for name in "ab"]
    assert made.ends_db == pytest.approx(expected, abs=0.05)
    steps = np.abs(np.diff(frames, axis=0)).mean((1, 2, 3))
    assert made.largest_step == pytest.approx(steps.max(), abs=0.001)
    assert made.usual_step == pytest.approx(np.median(steps), abs=0.001)


def test_what_hardly_changes_is_held_from_the_first_end_on_and_the_last_is_as_it_is(
    root: Path,
) -> None:
    make(out="plain.png", num_frames=5)
    config = replace(FRAME, hold=40)  # such as shows
    save_top(root / "top", save_frame(root / "frame", config=config))
    made = make(out="held.png", num_frames=5, top_model="top")
    plain, held = cells(root / "plain.png"), cells(root / "held.png")
    assert np.isfinite(made.ends_db).all()
    assert (held[[0, -1]] == plain[[0, -1]]).all()
    shown = held[0]
    for frame, expected in zip(plain[1:-1], held[1:-1], strict=True):
        stays = np.abs(frame - shown).max(-1, keepdims=True) <= 40
        shown = np.where(stays, shown, frame)
        assert (shown == expected).all()
    assert (held[1:-1] != plain[1:-1]).any()


def test_a_seed_gives_the_same_bytes_and_another_another_way(root: Path) -> None:
    files = {}
    for name, options in {
        "one": {},
        "same": {},
        "seed": {"seed": 2},
        "start": {"a": "b.npy"},
        "end": {"b": "c.png"},
        "films": {"a": "a.mkv", "b": "b.mkv"},
    }.items():
        made = make(out=f"{name}.mp4", **options)
        assert made.num_frames == 16
        files[name] = (root / f"{name}.mp4").read_bytes()
    assert files["one"] == files["same"] == files["films"]
    assert len(set(files.values())) == 4
    assert probe(root / "one.mp4").fps == 12


def test_pictures(root: Path) -> None:
    made = make("c.png", "c.png", out="sheet.png", num_frames=3)
    frames = cells(root / "sheet.png")
    assert (frames[0] == frames[-1]).all()
    assert (frames[1] != frames[0]).any()
    assert made.ends_db[0] == pytest.approx(made.ends_db[1])


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        (
            {"b": "wide.png"},
            UsageError,
            r"interpolate: a\.npy is 64 x 48 pixels and wide\.png 96 x 48: expected one shape; cut",
        ),
        (
            {"a": "none.mp4"},
            UsageError,
            r"interpolate none\.mp4: there is no such file; e",
        ),
        ({"b": "bad.mp4"}, ReadError, r"interpolate bad\.mp4: empty file"),
        ({"out": "c.png", "a": "c.png"}, UsageError, r"got output c\.png, which is the input"),
        ({"num_frames": 0}, UsageError, "--frames 0: expected 1 or more"),
        (
            {"out": "folder/"},
            UsageError,
            r"got output folder, expected one of \.mp4, \.gif, \.png; c",
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_wrong_use_is_one_line_and_nothing_is_written(
    root: Path, options: dict[str, Any], kind: type[LdfError], said: str
) -> None:
    Image.fromarray(np.zeros((48, 96, 3), np.uint8)).save(root / "wide.png")
    (root / "bad.mp4").touch()
    before = {path: path.read_bytes() for path in root.iterdir() if path.is_file()}
    with pytest.raises(kind, match=said) as caught:
        make(**options)
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in root.iterdir() if path.is_file()} == before


def test_an_mlp_leads_to_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_pair(tmp_path / "checkpoints", kind="mlp")
    Image.fromarray(barcode(1)).save(tmp_path / "c.png")
    with pytest.raises(UsageError, match=r"interpolate: checkpoints/top is of the kind mlp and ca"):
        make("c.png", "c.png")


def test_a_flow_that_makes_a_frame_at_a_time_leads_to_nothing(root: Path) -> None:
    save_top(root / "single", root / "checkpoints" / "frame", config=replace(FLOW, block=1))
    with pytest.raises(UsageError, match="interpolate: single makes one frame at a time and cann"):
        make(top_model="single")


def test_a_file_that_is_not_as_asked_is_said_so(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make(out="x.gif", fps=60, num_frames=1, quiet=False)
    assert "interpolate: gif plays at 50 frames a second" in capfd.readouterr().err


@pytest.mark.parametrize("order", [1, -1])
def test_clips_of_one_shape_and_other_sizes(root: Path, order: int) -> None:
    """64 x 48 pixels are 8 x 6, and a row less by rounding."""
    for rows in (5, 6):
        Image.fromarray(np.zeros((rows, 8, 3), np.uint8)).save(root / "small.png")
        make(*["small.png", "a.mkv"][::order], num_frames=2)
        assert probe(root / "out.mp4").width == 32


def test_the_shipped_pair_is_named_where_there_is_no_own_one(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (root / "checkpoints").rename(root / "mine")
    make(num_frames=1, quiet=False)
    assert "interpolate: no checkpoints/top, using the shipped pacman-32" in capfd.readouterr().err
