"""Lanes: latents that depend on their frame alone, and nothing left behind."""

from __future__ import annotations

import threading
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from tiny_models import make_frames, save_frame, write_array

from ldf_video.api import encode
from ldf_video.intake import frame_encoder
from ldf_video.intake.batches import RowsMade, make_rows
from ldf_video.intake.frame_encoder import Fit, FrameEncoder, pooled_psnr_db
from ldf_video.readers.reading import Clip, FramesRead
from ldf_video.runs.zoo import load_frame_model
from ldf_video.sources.source import Source
from ldf_video.store.reader import StoreReader

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save_frame(tmp_path / "checkpoints" / "frame")
    return tmp_path


def encoder_of(root: Path, num_lanes: int, *, precision: str = "no") -> FrameEncoder:
    model = load_frame_model(root / "checkpoints" / "frame", device="cpu").model
    encoder = FrameEncoder(model, device="cpu", precision=precision)
    encoder.num_lanes = num_lanes
    return encoder


def latents(encoder: FrameEncoder, frames: np.ndarray, *, batch_size: int = 8) -> np.ndarray:
    clip = Clip(Source(Path("clips"), "a", 1, 1), "a", None, Fraction(25), "")
    items = make_rows([FramesRead(clip, frames, 1.0)], encoder, batch_size=batch_size)
    return np.concatenate([item.rows.copy() for item in items if isinstance(item, RowsMade)])


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_neither_lanes_nor_places_change_a_bit(root: Path, precision: str) -> None:
    frames = make_frames(40)
    alone = latents(encoder_of(root, 1, precision=precision), frames)
    assert alone.dtype == np.float16
    for num_lanes in (2, 3):
        assert latents(encoder_of(root, num_lanes, precision=precision), frames).tobytes() == (
            alone.tobytes()
        )
    order = np.random.default_rng(0).permutation(40)
    mixed = latents(encoder_of(root, 2, precision=precision), frames[order])
    assert mixed.tobytes() == alone[order].tobytes()


def test_batches_that_are_filled_again_change_no_latent_on_its_way(root: Path) -> None:
    frames = make_frames(200)
    expected = latents(encoder_of(root, 1), frames, batch_size=4)
    assert latents(encoder_of(root, 4), frames, batch_size=4).tobytes() == expected.tobytes()


def test_torch_has_its_threads_back(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_encoder, "num_cores", lambda: 2)
    write_array(root / "clips" / "a.npy", 9)
    encode("clips", quiet=True, batch_size=4)
    assert StoreReader(root / "latents").num_frames == 9
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert [torch.get_num_threads(), *seen] == [2, 2]


def test_a_lane_for_each_core_that_torch_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, threads, lanes in ((8, 2, 2), (1, 2, 1), (2, 2, 2)):
        monkeypatch.setattr(frame_encoder, "num_cores", lambda cores=cores: cores)
        torch.set_num_threads(threads)
        assert frame_encoder._choose_lanes("cpu") == lanes
    assert frame_encoder._choose_lanes("cuda") == 2
    assert frame_encoder._choose_lanes("mps") == 1


def test_every_lane_is_on_the_gpu_of_its_process(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which GPU is current is a matter of each thread, and the first where none was chosen."""
    chosen: dict[int, int] = {}
    made_on: list[int] = []

    class Stream:
        def __init__(self) -> None:
            made_on.append(chosen.get(threading.get_ident(), 0))

        def wait_stream(self, other: object) -> None: ...

    def choose(number: int) -> None:
        chosen[threading.get_ident()] = number

    cuda = frame_encoder.torch.cuda
    monkeypatch.setattr(cuda, "current_device", lambda: chosen.get(threading.get_ident(), 0))
    monkeypatch.setattr(cuda, "set_device", choose)
    monkeypatch.setattr(cuda, "Stream", Stream)
    monkeypatch.setattr(cuda, "default_stream", lambda: None)
    choose(3)  # as Accelerate does in the fourth process
    model = load_frame_model(root / "checkpoints" / "frame", device="cpu").model
    encoder = FrameEncoder(model, device="cuda", precision="no")
    lane = threading.Thread(target=encoder.begin_lane)
    lane.start()
    lane.join()
    assert made_on == [3]


def test_the_fit_is_pooled_over_all_that_was_watched(root: Path) -> None:
    encoder = encoder_of(root, 2)
    frames = make_frames(8 * 17)
    latents(encoder, frames)
    fit = encoder.fit()
    assert fit.num_values == 2 * 8 * 32 * 32 * 3  # the first of 17 batches, and the last
    assert pooled_psnr_db([]) is None
    assert pooled_psnr_db([Fit(0, 0)]) is None
    # Mean squared errors of 255^2 / 10 and 0 over as many values each: a twentieth of 255^2.
    pooled = pooled_psnr_db([Fit(100 * 255**2 / 10, 100), Fit(0.0, 100)])
    assert pooled == pytest.approx(10 * np.log10(20))
