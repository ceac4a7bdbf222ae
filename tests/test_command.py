"""What every command begins with: settings of its own, and outputs that are no input."""

from __future__ import annotations

import os
import random
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import GradientAccumulationPlugin
from latent_data import write_latents
from PIL import Image
from tiny_cli import shrink
from tiny_models import make_frames, save_pair, write_array

from ldf_video.api import encode, generate, reconstruct, train_frame, train_top
from ldf_video.errors import LdfError, StoreError, UsageError
from ldf_video.runs.command import check_files, check_folders, own_state
from ldf_video.sources.search import find_sources
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


# -- where it writes ----------------------------------------------------------------------------


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_array(tmp_path / "clips" / "a.npy", 5)
    (tmp_path / "clips" / "walk").mkdir()
    for number in range(3):
        Image.new("RGB", (8, 8)).save(tmp_path / "clips" / "walk" / f"{number}.png")
    return tmp_path


def test_new_files_anywhere_pass_and_nothing_is_made(clips: Path) -> None:
    names = ("new.mp4", "clips/new.mp4", "deep/er/new.mp4")
    check_files([("-o", clips / name) for name in names], inputs=find_sources("clips"))
    check_folders([("--out", clips / "deep" / "new")], inputs=["clips", "s3://bucket/clips"])
    assert sorted(os.listdir(clips)) == ["clips"]


def test_an_input_is_known_by_every_name(clips: Path) -> None:
    (clips / "hard.png").hardlink_to(clips / "clips" / "walk" / "1.png")
    (clips / "soft").symlink_to("clips")
    sources = find_sources("clips")
    for name in ("clips/a.npy", "clips/../clips/a.npy", "soft/a.npy"):
        with pytest.raises(UsageError, match=r"which is the input clips.a\.npy; give another"):
            check_files([("-o", clips / name)], inputs=sources)
    for name in ("hard.png", "soft/walk/2.png"):
        with pytest.raises(UsageError, match=r"a file of the input clips.walk; give another"):
            check_files([("-o", clips / name)], inputs=sources)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("clips/a.npy/new.png", r"clips.a\.npy is a file; write elsewhere"),
        ("x" * 300, "File name too long; write elsewhere"),
        ("\0.png", "null (byte|character).*; write elsewhere"),
    ],
)
def test_places_where_nothing_can_be_made(clips: Path, name: str, said: str) -> None:
    with pytest.raises(LdfError, match=f"(?s)-o .*{said}"):
        check_files([("-o", clips / name)], inputs=[])
    with pytest.raises(LdfError, match=f"(?s)--out .*{said}"):
        check_folders([("--out", clips / name)], inputs=[])


def test_what_may_not_be_written(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (clips / "closed").mkdir()
    (clips / "old.png").touch()
    kept = os.access  # root may write everywhere

    def access(path: Path, mode: int) -> bool:
        return path.name not in ("closed", "old.png") and kept(path, mode)

    monkeypatch.setattr(os, "access", access)
    with pytest.raises(LdfError, match=r"no permission to write in .*closed; write elsewhere"):
        check_files([("-o", clips / "closed" / "deep" / "new.png")], inputs=[])
    with pytest.raises(LdfError, match="it is there and may not be written; write elsewhere"):
        check_files([("-o", clips / "old.png")], inputs=[])


def test_no_command_writes_into_what_it_reads(clips: Path) -> None:
    save_pair(clips / "models")
    encode("clips", out="latents", frame_model="models", quiet=True)
    before = sorted(path for path in clips.rglob("*") if path.is_file())
    with pytest.raises(UsageError, match="--out clips: it is the input clips; name another"):
        train_frame("clips", out="clips", size="16", steps=1, quiet=True)
    with pytest.raises(UsageError, match="--frames-store clips: it is the input clips"):
        train_frame("clips", frames_store="clips", size="16", steps=1, quiet=True)
    with pytest.raises(StoreError, match=r"models/frame holds files but no store.* another --out"):
        encode("clips", out="models/frame", frame_model="models", quiet=True)
    with pytest.raises(UsageError, match="--out latents: it is the input latents"):
        train_top(latents="latents", out="latents", steps=1, quiet=True)
    with pytest.raises(UsageError, match=r"--out clips/a\.npy: a file is in the way"):
        encode("clips", out="clips/a.npy", frame_model="models", quiet=True)
    assert sorted(path for path in clips.rglob("*") if path.is_file()) == before
