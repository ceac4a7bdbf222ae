"""Frames of an update, wherever they wait for it."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import make_frames

from ldf_video.levels import frame_supply
from ldf_video.levels.frame_supply import FrameSupply, ReadAhead, resident
from ldf_video.models.game import Part
from ldf_video.video.pixels import from_model

CPU = torch.device("cpu")
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


class Read:
    """Reads numbers, and can be held up."""

    def __init__(self) -> None:
        self.begun: list[tuple[int, int]] = []
        self.threads: set[str] = set()

    def __call__(self, number: int, part: Part) -> np.ndarray:
        self.begun.append((number, part.index))
        self.threads.add(threading.current_thread().name)
        return np.array([number, part.index])


def test_reading_ahead_gives_what_reading_gives_and_reads_each_once() -> None:
    read = Read()
    ahead, parts = ReadAhead(read), (Part(0, 2), Part(1, 2))
    for number in range(5):
        for part in parts:
            assert ahead(number, part).tolist() == [number, part.index]
    ahead._pool.shutdown()
    assert sorted(read.begun) == [(number, index) for number in range(6) for index in (0, 1)]
    assert any(name.startswith("read-ahead") for name in read.threads)


def test_what_was_not_foreseen_is_read_all_the_same() -> None:
    ahead = ReadAhead(Read())
    for number in (4, 5, 77, 5, 31, 31):
        assert ahead(number, Part()).tolist() == [number, 0]


def test_an_error_while_reading_ahead_comes_with_its_update() -> None:
    def read(number: int, part: Part) -> Any:
        if number == 1:
            raise OSError("the disk is gone")
        return np.zeros(1)

    ahead = ReadAhead(read)
    ahead(0, Part())
    with pytest.raises(OSError, match="the disk is gone"):
        ahead(1, Part())


def test_all_frames_are_copied_in_chunks_if_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_supply, "CHUNK_FRAMES", 7)
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
