"""The lower level: frames of an update, wherever they wait for it; what is measured and drawn."""

from __future__ import annotations

import threading
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import frame_game, make_frames

from ldf_video.levels import frame_level
from ldf_video.levels.frame_level import FrameLevel, FrameSupply, resident
from ldf_video.models.frame import every
from ldf_video.models.game import Part
from ldf_video.models.losses import pixel_loss
from ldf_video.store.format import StoreSpec
from ldf_video.store.reader import StoreReader
from ldf_video.store.writer import StoreWriter
from ldf_video.video.pixels import from_model, to_model

if TYPE_CHECKING:
    from pathlib import Path

CPU = torch.device("cpu")


def store_of(path: Path, lengths: list[int], *, first_seed: int = 0) -> StoreReader:
    with StoreWriter(path, StoreSpec("frames", (32, 32, 3), "uint8", {})) as writer:
        for number, length in enumerate(lengths):
            name = f"{number:03}"
            writer.append(name, make_frames(length, seed=first_seed + number), fps=Fraction(12))
            writer.finish_clip(name, fps=Fraction(12))
            writer.set_source(name, size=1, mtime_ns=1, clip_ids=[name])
    return StoreReader(path)


def level_of(path: Path, **options: Any) -> FrameLevel:
    known = store_of(path / "known", [30, 12])
    return FrameLevel(frame_game(), known, batch_size=8, seed=1, **options)


# -- the level -----------------------------------------------------------------------------------


def test_without_held_out_clips_nothing_is_measured(tmp_path: Path) -> None:
    level = level_of(tmp_path)
    assert level.evaluate(level.game.model) == {}
    assert torch.equal(level.calibration(CPU), level.calibration(CPU))
    assert len(level.calibration(CPU)) == 256
    assert level.batch(3, Part(1, 4), CPU).shape == (2, 3, 32, 32)


def test_measures_are_those_of_held_out_frames_by_hand(tmp_path: Path) -> None:
    held_out = store_of(tmp_path / "held_out", [3], first_seed=50)
    level = level_of(tmp_path, held_out=held_out)
    model = level.game.model
    found = level.evaluate(model)
    frames = level._held_out
    assert {frame.tobytes() for frame in frames} == {f.tobytes() for f in held_out.read(0, 0, 3)}
    with torch.no_grad():
        x = to_model(frames, device="cpu")
        y = model.generator(model.encoder(x))
        error = from_model(y).astype(float) - frames
    assert found.keys() == {"pixels", "psnr_db"}
    assert found["pixels"] == pytest.approx(pixel_loss(y, x, squared=10).item(), rel=1e-4)
    expected = 10 * np.log10(255**2 / np.square(error).mean())
    assert found["psnr_db"] == pytest.approx(expected, abs=1e-3)
    assert level.score in found
    assert level.evaluate(model) == found


def test_a_sheet_has_frames_their_reconstructions_and_samples(tmp_path: Path) -> None:
    level = level_of(tmp_path)
    picture = level.draw(level.game.model, tmp_path / "samples" / "step-1")
    with Image.open(tmp_path / "samples" / "step-1.png") as image:
        assert np.array_equal(np.asarray(image.convert("RGB")), picture)
    assert picture.shape[0] < picture.shape[1]  # 3 rows of 16


@pytest.mark.parametrize("count", [1, 2, 4, 8, 12])
def test_a_share_of_a_batch_is_the_same_however_it_is_split(count: int) -> None:
    rows, chosen, total = torch.arange(24.0), [], 0.0
    for index, part in enumerate(rows.split(24 // count)):
        few, weight = every(len(part), 0.25, Part(index, count))
        chosen += part[few].tolist() if weight else []
        total += weight * part[few].mean().item() / count
    assert chosen == [0, 4, 8, 12, 16, 20]
    assert total == pytest.approx(10)  # the mean of the parts is that of the whole
    assert every(24, 1.0, Part()) == (slice(0, None, 1), 1.0)
    assert every(1, 0.25, Part()) == (slice(0, None, 4), 1.0)


# -- where frames wait ---------------------------------------------------------------------------

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


class Array:
    """Frames in an array, that notes which are asked for."""

    def __init__(self, num_frames: int = 20) -> None:
        self.num_frames = num_frames
        self.array = make_frames(num_frames)
        self.asked: list[int] = []

    def frames_at(self, numbers: np.ndarray) -> np.ndarray:
        self.asked += numbers.tolist()
        return self.array[numbers]


def test_a_batch_is_a_function_of_seed_number_and_part() -> None:
    frames = Array()
    supply = FrameSupply(frames, batch_size=8, seed=1)
    whole = supply.batch(3, Part(), CPU)
    assert whole.shape == (8, 3, 32, 32)
    assert whole.is_contiguous(memory_format=torch.channels_last)
    assert np.array_equal(from_model(whole), frames.array[frames.asked])
    assert torch.equal(torch.cat([supply.batch(3, Part(i, 4), CPU) for i in range(4)]), whole)
    assert torch.equal(FrameSupply(frames, batch_size=8, seed=1).batch(3, Part(), CPU), whole)
    assert not torch.equal(supply.batch(4, Part(), CPU), whole)
    assert not torch.equal(FrameSupply(frames, batch_size=8, seed=2).batch(3, Part(), CPU), whole)


def test_reading_ahead_gives_what_reading_gives_and_reads_each_once() -> None:
    frames, parts = Array(), (Part(0, 2), Part(1, 2))
    supply, threads = FrameSupply(frames, batch_size=8, seed=1), []
    expected = {
        (number, part): from_model(supply.batch(number, part, CPU))
        for number in range(78)
        for part in parts
    }
    read = frames.frames_at

    def noticed(numbers: np.ndarray) -> np.ndarray:
        threads.append(threading.current_thread().name)
        return read(numbers)

    frames.frames_at = noticed  # type: ignore[method-assign]
    for number in range(5):
        for part in parts:
            assert np.array_equal(supply.read_ahead(number, part), expected[number, part])
    supply._pool.shutdown(wait=True)
    assert len(threads) == 2 * 6  # and the next one
    assert sum(name.startswith("read-ahead") for name in threads) == 10
    again = FrameSupply(frames, batch_size=8, seed=1)
    for number in (4, 5, 77, 5, 31, 31):  # what was not foreseen is read all the same
        assert np.array_equal(again.read_ahead(number, parts[0]), expected[number, parts[0]])


def test_an_error_while_reading_ahead_comes_with_its_update() -> None:
    frames, read = Array(), []

    def failing(numbers: np.ndarray) -> np.ndarray:
        read.append(numbers)
        if len(read) == 2:
            raise OSError("the disk is gone")
        return frames.array[numbers]

    frames.frames_at = failing  # type: ignore[method-assign]
    supply = FrameSupply(frames, batch_size=8, seed=1)
    supply.read_ahead(0, Part())
    with pytest.raises(OSError, match="the disk is gone"):
        supply.read_ahead(1, Part())


def test_all_frames_are_copied_in_chunks_if_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_level, "CHUNK_FRAMES", 7)
    frames = Array(20)
    bytes_of_all = frames.array.nbytes
    held = resident(frames, CPU, limit=bytes_of_all)
    assert held is not None
    assert np.array_equal(held.numpy(), frames.array)
    assert resident(frames, CPU, limit=bytes_of_all - 1) is None


@pytest.mark.needs_cuda
@needs_cuda
@pytest.mark.parametrize("share", [0.0, 0.5], ids=["read ahead", "resident"])
def test_a_gpu_is_given_the_frames_that_a_cpu_is(share: float) -> None:
    frames = Array()
    there, here = (FrameSupply(frames, batch_size=8, seed=1, share=s) for s in (share, 0.0))
    for number in range(3):
        batch = there.batch(number, Part(), torch.device("cuda"))
        assert batch.is_cuda
        expected = here.batch(number, Part(), CPU)
        torch.testing.assert_close(batch.cpu(), expected, rtol=0, atol=2e-7)  # it divides otherwise
        assert np.array_equal(from_model(batch), from_model(expected))
    assert (there._resident is not None) == (share > 0)
