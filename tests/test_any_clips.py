"""Clips unlike the usual ones, from reading to a video: wide, grey, tiny, few."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
import tiny_cli
from clip_files import write_clip
from PIL import Image
from test_end_to_end import ldf_video
from tiny_models import make_frames

from ldf_video.store.reader import StoreReader
from ldf_video.training import checkpoints

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with an empty clips/; fresh models are tiny."""
    monkeypatch.chdir(tmp_path)
    tiny_cli.shrink(monkeypatch.setattr)
    (tmp_path / "clips").mkdir()
    return tmp_path


def sizes(path: Path) -> set[tuple[int, int]]:
    """(width, height) of the frames of a video, one of them counted for all."""
    with av.open(str(path)) as container:
        return {(frame.width, frame.height) for frame in container.decode(video=0)}


def test_a_size_that_is_no_multiple_of_8_goes_all_the_way(root: Path) -> None:
    rows = make_frames(40, side=64)[:, :48]
    np.save(root / "clips" / "a.npy", rows)
    ldf_video("train-frame clips/ --size 64x36 --steps 2 --batch-size 4 --seed 1")
    config = checkpoints.load_config(root / "checkpoints" / "frame")
    assert (config["model"]["width"], config["model"]["height"]) == (64, 36)
    assert StoreReader(root / "checkpoints" / "frame" / "frames").spec.item_shape == (36, 64, 3)
    picture = Image.open(next((root / "checkpoints" / "frame" / "samples").glob("*.png")))
    picture.close()

    assert "over 40 frames" in ldf_video("reconstruct clips/a.npy -o again.mp4 --upscale 1")
    assert sizes(root / "again.mp4") == {(64, 36)}
    ldf_video("encode clips/")
    assert StoreReader(root / "latents").spec.item_shape == (4, 9, 16)
    ldf_video("train-top --steps 2 --batch-size 4 --seed 1")
    ldf_video("generate --frames 5 --upscale 1 -o out.mp4 --seed 1")
    assert sizes(root / "out.mp4") == {(64, 36)}


def test_a_model_of_whole_cells_starts_one_of_64x36(root: Path) -> None:
    np.save(root / "clips" / "a.npy", make_frames(20, side=64))
    ldf_video("train-frame clips/ --steps 1 --batch-size 4 --seed 1 --out first")
    ldf_video("train-frame clips/ --init first --size 64x36 --steps 1 --batch-size 4 --seed 1")
    model = checkpoints.load_config(root / "checkpoints" / "frame")["model"]
    assert (model["width"], model["height"]) == (64, 36)


def test_grey_videos_and_pictures_become_three_equal_channels(root: Path) -> None:
    frames = np.random.default_rng(0).integers(64, 192, (20, 32, 32)).astype(np.uint8)
    images = list(np.repeat(frames[..., None], 3, axis=3))
    write_clip(root / "clips" / "a.mkv", images, codec="ffv1", pix_fmt="gray")
    Image.fromarray(frames[0]).save(root / "clips" / "b.png")
    ldf_video("train-frame clips/ --steps 2 --batch-size 4 --seed 1")
    stored = StoreReader(root / "checkpoints" / "frame" / "frames")
    assert stored.num_frames == 21
    pixels = stored.frames_at(np.arange(21)).astype(int)
    assert (pixels == pixels[..., :1]).all()
    found = {frame[..., 0].tobytes() for frame in pixels.astype(np.uint8)}
    assert found == {frame.tobytes() for frame in frames}


@pytest.mark.parametrize(("height", "width"), [(8, 8), (31, 17), (1, 2)])
def test_sources_smaller_than_a_frame_are_enlarged(root: Path, height: int, width: int) -> None:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (20, height, width, 3)).astype(np.uint8)
    np.save(root / "clips" / "a.npy", small)
    ldf_video("train-frame clips/ --steps 2 --batch-size 4 --seed 1 --crop none")
    stored = StoreReader(root / "checkpoints" / "frame" / "frames")
    frames = stored.frames_at(np.arange(20)).astype(float)
    assert frames.shape == (20, 32, 32, 3)
    np.testing.assert_allclose(frames.mean((1, 2)), small.mean((1, 2)), atol=2.0)


def test_one_clip_of_20_frames_fills_batches_of_64(root: Path) -> None:
    np.save(root / "clips" / "a.npy", make_frames(20))
    ldf_video("train-frame clips/ --steps 3 --batch-size 64 --seed 1")
    state = checkpoints.load_state(root / "checkpoints" / "frame")
    assert state is not None
    assert state["done"]
    ldf_video("encode clips/")
    ldf_video("train-top --steps 3 --batch-size 64 --seed 1")
    ldf_video("generate --frames 20 -o out.mp4 --seed 1")
    assert len(sizes(root / "out.mp4")) == 1
