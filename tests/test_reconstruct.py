"""reconstruct: G(E(x)) of every frame, and how close it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from clip_files import barcode, write_clip
from PIL import Image
from tiny_models import make_frames, save_frame, write_array

from ldf_video.api import reconstruct
from ldf_video.clips.probe import probe
from ldf_video.errors import ReadError, UsageError
from ldf_video.progress import Progress
from ldf_video.recipes import reconstruct as room
from ldf_video.recipes.reconstruct import Reconstructed
from ldf_video.runs.zoo import load_frame_model
from ldf_video.video.pixels import from_model, to_model

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save_frame(tmp_path / "checkpoints" / "frame")
    return tmp_path


def run(clips: Any, **options: Any) -> Reconstructed:
    return reconstruct(clips, quiet=True, **options)


def squared_errors(root: Path, frames: np.ndarray) -> np.ndarray:
    model = load_frame_model(root / "checkpoints" / "frame", device="cpu").model
    decoded = from_model(model.generator(model.encoder(to_model(frames)).half().float()))
    return (decoded.astype(float) - frames) ** 2


def test_psnr_is_of_all_frames_together(root: Path) -> None:
    for seed, length in enumerate((3, 70)):  # more than one batch
        write_array(root / "clips" / f"{seed}.npy", length, seed=seed)
    frames = np.concatenate([make_frames(3, seed=0), make_frames(70, seed=1)])
    result = run("clips")
    expected = 10 * np.log10(255**2 / squared_errors(root, frames).mean())
    assert result == Reconstructed(pytest.approx(expected, abs=0.005), 73, None)


def test_the_video_has_every_frame_at_its_own_rate(root: Path) -> None:
    write_clip(root / "in.mkv", [barcode(n) for n in range(70)], fps=12)
    result = run("in.mkv", output="deep/out.mp4", upscale=2)
    info = probe(root / "deep" / "out.mp4")
    assert (info.num_frames, info.width, info.height, info.fps) == (70, 64, 64, 12)
    assert result.num_frames == 70


def test_a_folder_of_numbered_pictures_is_one_video(root: Path) -> None:
    (root / "walk").mkdir()
    for k in range(5):
        Image.fromarray(barcode(k)).save(root / "walk" / f"{k}.png")
    assert run("walk", output="out.mp4").num_frames == 5
    assert probe(root / "out.mp4").num_frames == 5
    with pytest.raises(UsageError, match="a file of the input walk; give another file name"):
        run("walk", output="walk/3.png")
    (root / "walk" / "other.mp4").touch()
    assert run("walk").num_frames == 5
    with pytest.raises(UsageError, match="--out with the directory walk: expected one video file"):
        run("walk", output="out.mp4")


def test_a_cut_video_gives_what_is_there(root: Path) -> None:
    whole = write_clip(root / "a.mkv", [barcode(n) for n in range(60)]).read_bytes()
    (root / "cut.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    result = run("cut.mkv", output="out.mp4", upscale=1)
    assert 0 < result.num_frames < 60
    assert probe(root / "out.mp4").num_frames == result.num_frames
    ((name, reason),) = result.truncated
    assert name == "cut.mkv"
    assert reason.startswith("damaged after ")


def test_one_bad_file_costs_no_other_its_measurement(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_array(root / "clips" / "a.npy", 3, seed=0)
    (root / "clips" / "b.mp4").write_bytes(b"")
    whole = write_clip(root / "whole.mkv", [barcode(n) for n in range(60)]).read_bytes()
    (root / "clips" / "c.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    write_array(root / "clips" / "d.npy", 5, seed=1)

    result = reconstruct("clips")

    assert result.unreadable == (("b.mp4", "empty file"),)
    assert [name for name, _ in result.truncated] == ["c.mkv"]
    cut = run("clips/c.mkv").num_frames
    assert result.num_frames == 3 + cut + 5
    said = capfd.readouterr().err.splitlines()
    assert "  unreadable b.mp4: empty file" in said
    assert any(line.startswith("  truncated c.mkv: damaged after ") for line in said)


def test_nothing_readable_is_an_error_with_the_first_reason(root: Path) -> None:
    (root / "clips").mkdir()
    for name in "ab":
        (root / "clips" / f"{name}.mp4").write_bytes(b"")
    with pytest.raises(ReadError, match=r"^none of 2 sources: clips/a\.mp4: empty file$"):
        run("clips")


def test_progress_goes_by_the_bytes_that_were_read(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[float] = []
    monkeypatch.setattr(Progress, "update", lambda self, count, *, share: shares.append(share))
    write_array(root / "in.npy", 128)
    run("in.npy")
    assert shares == [0.5, 1.0]


def test_the_input_is_not_written_over(root: Path) -> None:
    images = [barcode(n) for n in range(3)]
    before = write_clip(root / "in.mp4", images).read_bytes()
    (root / "link.mp4").symlink_to("in.mp4")
    for output in ("in.mp4", "./in.mp4", "link.mp4"):
        with pytest.raises(UsageError, match=r"which is the input in\.mp4; give another file name"):
            run("in.mp4", output=output)
    assert (root / "in.mp4").read_bytes() == before


def test_what_is_interrupted_leaves_a_file_that_plays(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_array(root / "in.npy", 150)
    whole, left = room._through, [2]

    def interrupted(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return whole(*arguments, **options)

    monkeypatch.setattr(room, "_through", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run("in.npy", output="out.mp4", upscale=1)
    assert probe(root / "out.mp4").num_frames == 128
    assert sorted(p.name for p in root.iterdir()) == ["checkpoints", "in.npy", "out.mp4"]


def test_wrong_usage(root: Path) -> None:
    write_array(root / "clips" / "a.npy", 2)
    with pytest.raises(UsageError, match="--out with the directory clips: expected one video file"):
        run("clips", output="out.mp4")
    with pytest.raises(UsageError, match="change the suffix"):
        run("clips/a.npy", output="out.avi")
    (root / "text.mp4").write_text("no video")
    with pytest.raises(ReadError, match=r"^text\.mp4: not a video"):
        run("text.mp4", output="out.mp4")
    assert not (root / "out.mp4").exists()
    with pytest.raises(UsageError, match="nothing does not exist"):
        run("nothing")
