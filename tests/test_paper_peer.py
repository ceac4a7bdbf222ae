"""What the two levels are measured beside: the peer, memory, clips of any length."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import diffusion_peer
import experiment
import lengths
import memory
import numpy as np
import peer
import pytest
import torch
from clip_files import EXACT, NATIVE, barcodes, read_barcode, write_clip
from tiny_trainings import training_of
from torch import Tensor, nn
from two_levels import Pair

from ldf_video.clips.read import open_clips
from ldf_video.models.flow import FlowTop
from ldf_video.models.flow_config import FlowConfig
from ldf_video.models.game import Noise
from ldf_video.sources.search import find_sources

if TYPE_CHECKING:
    from pathlib import Path

MEAN, SPREAD = 0.1, 0.2


class TinyPeer(nn.Module):
    """The parts of the package's model that are used, of data that is N(MEAN, SPREAD^2).

    Its network is the one that is exact for them, times a number that can be trained.
    """

    def __init__(self) -> None:
        super().__init__()
        self.num_frames, self.image_size, self.num_timesteps = 5, 8, 1000
        angle = torch.linspace(0.01, 0.5 * math.pi - 1e-3, 1000)
        self.register_buffer("alphas_cumprod", angle.cos().square())
        self.scale = nn.Parameter(torch.ones(()))

    def denoise_fn(self, x: Tensor, levels: Tensor) -> Tensor:
        signal = self.alphas_cumprod[levels][:, None, None, None, None]
        variance = signal * SPREAD**2 + 1 - signal
        return self.scale * (1 - signal).sqrt() / variance * (x - signal.sqrt() * MEAN)

    def p_losses(self, clips: Tensor, levels: Tensor, *, noise: Tensor) -> Tensor:
        assert levels.dtype == torch.int64
        assert 0 <= int(levels.min()) <= int(levels.max()) < self.num_timesteps
        signal = self.alphas_cumprod[levels][:, None, None, None, None]
        noisy = signal.sqrt() * clips + (1 - signal).sqrt() * noise
        return (noise - self.denoise_fn(noisy, levels)).abs().mean()


def moving(count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, 5, 8, 8, 3), dtype=np.uint8)


def test_clips_come_back_from_the_peers_form_at_every_level() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16, 1).repeat(3, axis=-1)
    clips = diffusion_peer.to_clips(levels)
    assert clips.shape == (1, 3, 1, 16, 16)
    assert (float(clips.min()), float(clips.max())) == (-1, 1)
    np.testing.assert_array_equal(diffusion_peer.from_clips(clips), levels)


def test_fewer_passes_of_an_exact_network_make_what_the_data_are() -> None:
    made = diffusion_peer.respaced(TinyPeer(), 12, passes=250, seed=0)
    values = made / 127.5 - 1
    assert values.mean() == pytest.approx(MEAN, abs=0.01)
    assert values.std() == pytest.approx(SPREAD, rel=0.03)
    one = diffusion_peer.respaced(TinyPeer(), 12, passes=1, seed=0)  # the mean, all alike
    assert abs(one / 127.5 - 1 - MEAN).max() < 0.02
    fewer = diffusion_peer.respaced(TinyPeer(), 3, passes=250, seed=0)
    np.testing.assert_array_equal(fewer, made[:3])


def test_the_peer_trains_in_our_loop(tmp_path: Path) -> None:
    def level() -> diffusion_peer.PeerLevel:
        game = diffusion_peer.PeerGame(TinyPeer())
        known, held_out = np.split(moving(16), 2)
        return diffusion_peer.PeerLevel(game, known, batch_size=4, seed=0, held_out=held_out)

    fresh = level()
    before = fresh.evaluate(fresh.game.model)["noise"]
    assert fresh.evaluate(fresh.game.model)["noise"] == before  # always the same noise
    *_, mark = experiment.train(level(), tmp_path, training_of(steps=2, seed=0))
    assert (mark.step, (tmp_path / "samples" / "step-0000002.png").is_file()) == (2, True)
    model: Any = mark.load(TinyPeer())
    assert float(model.scale.detach()) != 1


def test_the_loss_is_a_function_of_the_noise() -> None:
    clips = diffusion_peer.to_clips(moving(4))
    one, same, other = (
        diffusion_peer.noise_loss(TinyPeer(), clips, Noise(seed)).item() for seed in (0, 0, 1)
    )
    assert one == same != other


# -- memory ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("law", "most"),
    [
        (lambda n: 3.0 + 0.5 * n + 0.01 * n * n, 23),
        (lambda n: 3.0 + 0.5 * n, 34),
        (lambda n: 3.0 + 0.0 * n, None),
    ],
)
def test_a_parabola_says_where_memory_ends(law: Any, most: int | None) -> None:
    estimate = memory.parabola([(n, law(n)) for n in (5, 10, 20, 50)])
    assert estimate(200) == pytest.approx(law(200))
    assert memory.reach(estimate, limit=20.0) == most


def test_memory_that_falls_by_chance_is_not_said_to_be_endless_growth() -> None:
    estimate = memory.parabola([(5, 1.02), (50, 1.0), (500, 1.01)])
    assert estimate(1000) == pytest.approx(1.01, abs=0.02)


def test_the_largest_command_counts_and_the_ratio_is_to_it() -> None:
    def row(model: str, command: str, **found: Any) -> dict[str, Any]:
        return {"model": model, "command": command, "frames": 50, **found}

    gib = memory.GIB
    rows = [
        row("two levels", "frame", peak_bytes=gib, seconds=1.0),
        row("two levels", "encode", peak_bytes=gib // 2, seconds=None),
        row("two levels", "top", peak_bytes=2 * gib, seconds=0.5),
        row("readme", "train", peak_bytes=8 * gib, seconds=9.0),
        row("narrow", "train", stopped_at_bytes=12 * gib),
        row("paper", "frame", peak_bytes=3 * gib, seconds=1.0),
        row("paper", "encode", peak_bytes=gib, seconds=None),
        row("paper, one window", "top", peak_bytes=gib, seconds=0.5),
    ]
    found = memory.summary(rows)
    assert found["models"]["two levels"]["gib"] == {50: 2.0}
    assert found["models"]["two levels"]["core_seconds"] == {50: 1.5}
    assert found["models"]["paper, one window"]["gib"] == {50: 3.0}  # the frame model's
    assert "paper" not in found["models"]  # its top model is still to be measured
    assert found["ratio_at_50"] == {"two levels": 1.0, "readme": 4.0, "paper, one window": 1.5}


def test_clips_of_a_length_are_the_frames_in_their_order() -> None:
    clips = np.arange(10).repeat(5).reshape(10, 5, 1, 1, 1).astype(np.uint8)
    made = memory.cut(clips, 20)
    assert made.shape == (2, 20, 1, 1, 1)
    np.testing.assert_array_equal(made.ravel(), clips.ravel()[:40])


def test_a_process_says_what_it_holds_at_most() -> None:
    before = memory.high_water()
    held = bytearray(64 << 20)
    held[::4096] = b"1" * len(held[::4096])
    assert memory.high_water() >= before
    del held
    grown = memory.high_water()
    assert grown >= 64 << 20
    assert memory.high_water() == grown  # what was let go counts


# -- lengths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_frames", [4, 5, 37, 5000])
def test_a_video_is_cut_into_pieces_that_touch(num_frames: int) -> None:
    found = list(lengths.pieces(num_frames, np.random.default_rng(0)))
    ends = [0, *(end for _, end in found)]
    assert [start for start, _ in found] == ends[:-1]
    assert 0 <= num_frames - ends[-1] < lengths.SHORTEST
    sizes = [end - start for start, end in found]
    assert all(lengths.SHORTEST <= size <= lengths.LONGEST for size in sizes)


def test_lengths_are_even_in_their_logarithm() -> None:
    found = lengths.pieces(400_000, np.random.default_rng(0))
    sizes = np.log([end - start for start, end in found])
    low, high = np.log(lengths.SHORTEST), np.log(lengths.LONGEST)
    share = (sizes < (low + high) / 2).mean()
    assert share == pytest.approx(0.5, abs=0.05)


def test_rows_of_the_table_are_the_very_frames_of_the_pieces(tmp_path: Path) -> None:
    video = write_clip(tmp_path / "game.mp4", barcodes(range(120)), fps=lengths.FPS, **EXACT)
    sizes = lengths.write_table([video], tmp_path / "runs" / "clips.csv")
    found = []
    for source in find_sources(tmp_path / "runs" / "clips.csv"):
        (clip,) = open_clips(source, NATIVE)
        found.append([read_barcode(frame) for frame in clip.frames])
    assert [len(numbers) for numbers in found] == sizes
    assert [n for numbers in found for n in numbers] == list(range(sum(sizes)))
    assert all(np.diff(numbers).tolist() == [1] * (len(numbers) - 1) for numbers in found)


# -- quality by time -------------------------------------------------------------------------------


def test_clips_and_their_time_are_kept(tmp_path: Path) -> None:
    kept, made = peer.Sets(tmp_path / "clips"), []

    def make() -> np.ndarray:
        made.append(sum(range(300_000)))
        return moving(4)

    clips, seconds = kept.of("narrow-4", 4, make)
    again, the_same = kept.of("narrow-4", 4, make)
    np.testing.assert_array_equal(clips, again)
    assert seconds == the_same > 0
    assert len(made) == 1


def test_passes_of_a_flow_are_those_of_all_blocks_and_its_own_come_back() -> None:
    config = FlowConfig(latent_shape=(4, 2, 2), patch=2, window=5, block=1, width=16, depth=1)
    torch.manual_seed(0)
    top = FlowTop(config).eval()
    passes: list[int] = []
    count, velocity = 3, top.velocity

    def counted(x: Tensor, *others: Any, **more: Any) -> Tensor:
        passes.append(len(x))
        return velocity(x, *others, **more)

    top.velocity = counted  # type: ignore[method-assign]
    frame: Any = SimpleNamespace(
        hold=0, decode=lambda latents: torch.zeros((len(latents), 3, 8, 8)), parameters=None
    )
    clips = peer.sample_two_levels(frame, top, count, first=4, later=2, seed=0)
    assert clips.shape == (3, 5, 8, 8, 3)
    assert passes == [count] * (4 + 4 * 2)
    assert top.config is config
    pair = Pair(frame, top, SimpleNamespace(load=lambda model: model), 0.0)  # type: ignore[arg-type]
    asked = peer.samples_of("two levels", pair, replace(peer.SHORT, num_clips=3), seed=0)
    assert {name: told for name, (told, _) in asked.items()} == {
        "two levels-2-1": 6,
        "two levels-4-2": 12,
        "two levels-16-5": 36,
        "two levels-32-10": 72,
    }
