"""A caller's settings neither reach a command nor are changed by it."""

from __future__ import annotations

import os
import random
import signal
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import GradientAccumulationPlugin
from latent_data import write_latents
from tiny_cli import shrink
from tiny_models import make_frames, save_pair

from ldf_video.api import encode, generate, reconstruct, train_frame, train_top
from ldf_video.runs.command import own_state
from ldf_video.training import checkpoints
from ldf_video.training.ranks import make_accelerator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

STALE = {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "3", "PMI_SIZE": "4"}
ACCELERATE = {
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "7",
    "ACCELERATE_MIXED_PRECISION": "bf16",
    "ACCELERATE_USE_FSDP": "true",
    "ACCELERATE_USE_MEGATRON_LM": "true",
    "ACCELERATE_DYNAMO_BACKEND": "inductor",
    "ACCELERATE_TORCH_DEVICE": "meta",
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shrink(monkeypatch.setattr)
    write_latents(tmp_path / "latents", [20] * 3)
    np.save(tmp_path / "clip.npy", make_frames(12))
    save_pair(tmp_path / "pair")
    return tmp_path


@pytest.fixture
def _strange_caller(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a notebook may have set before."""
    threads = torch.get_num_threads()
    for name, value in (STALE | ACCELERATE).items():
        monkeypatch.setenv(name, value)
    with ExitStack() as stack:
        stack.callback(torch.set_grad_enabled, torch.is_grad_enabled())
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        stack.callback(torch.set_num_threads, threads)
        stack.callback(torch.set_default_device, None)
        stack.callback(torch.use_deterministic_algorithms, mode=False)
        stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
        stack.enter_context(torch.autocast("cpu", torch.bfloat16))
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        torch.use_deterministic_algorithms(mode=True)
        torch.set_float32_matmul_precision("medium")
        yield


def caller_state() -> list[Any]:
    return [
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.get_default_dtype(),
        torch.empty(0).device,
        torch.get_num_threads(),
        torch.is_autocast_enabled("cpu"),
        torch.is_autocast_cache_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_float32_matmul_precision(),
        torch.get_rng_state().tolist(),
        random.getstate(),
        np.random.get_state()[1].tolist(),
        dict(os.environ),
        [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
        [dict(s._shared_state) for s in (AcceleratorState, PartialState, GradientState)],
    ]


def trainings(out: Path) -> list[bytes]:
    """The weights that two trainings write."""
    options: dict[str, Any] = {"steps": 3, "batch_size": 4, "seed": 1, "device": "cpu"}
    top = train_top(out=out / "top", quiet=True, **options)
    frame = train_frame("clip.npy", out=out / "frame", quiet=True, **options)
    return [(run / checkpoints.WEIGHTS).read_bytes() for run in (top, frame)]


def results(out: Path) -> list[bytes]:
    """What the commands write that train nothing."""
    encode("clip.npy", out=out / "latents", frame_model="pair/frame", workers=0, quiet=True)
    generate(out / "a.png", top_model="pair/top", seed=1, num_frames=5, device="cpu", quiet=True)
    reconstruct("clip.npy", out=out / "b.png", frame_model="pair/frame", quiet=True)
    return [(out / name).read_bytes() for name in ("latents/data-00000.npy", "a.png", "b.png")]


@pytest.mark.parametrize("work", [trainings, results])
def test_what_commands_make_is_the_same_whatever_their_caller_has_set(
    root: Path, work: Callable[[Path], list[bytes]], request: pytest.FixtureRequest
) -> None:
    usual = work(root / "usual")
    request.getfixturevalue("_strange_caller")
    before = caller_state()
    assert work(root / "strange") == usual
    assert caller_state() == before


def test_a_training_inside_inference_mode_learns(root: Path) -> None:
    usual, before = trainings(root / "usual"), caller_state()
    with torch.inference_mode():
        assert trainings(root / "inside") == usual
    assert caller_state() == before


def test_the_threads_that_a_command_sets_are_its_own() -> None:
    before = torch.get_num_threads()
    with own_state():
        torch.set_num_threads(before + 1)
    assert torch.get_num_threads() == before


def test_the_environment_does_not_say_how_often_optimizers_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (STALE | ACCELERATE).items():
        monkeypatch.setenv(name, value)
    with own_state():
        made = make_accelerator("cpu")
        assert made.gradient_accumulation_steps == 1
        assert (made.mixed_precision, made.num_processes) == ("no", 1)
        assert made.distributed_type.value == "NO"
    assert {name: os.environ[name] for name in STALE} == STALE


def test_an_accelerator_of_the_caller_goes_on_as_it_was(root: Path) -> None:
    with own_state():  # of this test, so that it leaves none to the next
        theirs = Accelerator(
            cpu=True, gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=4)
        )
        theirs.sync_gradients = False  # in the middle of accumulating
        trainings(root)
        assert theirs.gradient_accumulation_steps == 4
        assert not theirs.sync_gradients
        assert theirs.device.type == "cpu"


def test_a_command_in_another_thread_runs(root: Path) -> None:
    made: list[bytes] = []
    thread = threading.Thread(target=lambda: made.extend(trainings(root)))
    thread.start()
    thread.join()
    assert len(made) == 2
