"""train-frame: batches, what is measured on held-out clips, presets, and what is kept."""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from tape import Tape
from tiny_cli import shrink
from tiny_models import make_frames

from ldf_video.api import train_frame
from ldf_video.errors import CheckpointError, StoreError, UsageError
from ldf_video.models.ali import AliGame, AliModel
from ldf_video.recipes import train_frame as pipeline
from ldf_video.runs.held_out import split
from ldf_video.runs.zoo import find_reference, load_frame_model
from ldf_video.store.reader import StoreReader
from ldf_video.training import checkpoints
from ldf_video.training.ranks import Ranks
from ldf_video.video.pixels import from_model

if TYPE_CHECKING:
    from pathlib import Path

    from ldf_video.training.config import TrainConfig

# -- the command ---------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with clips/, 21 of them; fresh models are tiny."""
    monkeypatch.chdir(tmp_path)
    shrink(monkeypatch.setattr)
    (tmp_path / "clips").mkdir()
    np.save(tmp_path / "clips" / "all.npy", np.stack([make_frames(2, seed=i) for i in range(21)]))
    return tmp_path


def train(root: Path, out: str = "run", **options: Any) -> Path:
    asked = {"steps": 2, "batch_size": 4, "seed": 1, "quiet": True} | options
    return train_frame(root / "clips", out=root / out, **asked)


def held_out_lines(run: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (run / checkpoints.METRICS).read_text().splitlines())
    return [line for line in lines if any(name.startswith("held_out/") for name in line)]


def test_held_out_losses_and_the_best_weights_are_kept(root: Path) -> None:
    run = train(root)
    (line,) = held_out_lines(run)
    assert line["step"] == 2
    assert line["held_out/pixels"] > 0
    assert line["held_out/psnr_db"] > 0
    best = load_frame_model(run / "best", device="cpu")
    assert best.config["best"] == {"step": 2, "pixels": line["held_out/pixels"]}
    assert best.fingerprint == checkpoints.fingerprint_of(run)  # the only ones measured
    picture = Image.open(run / "samples" / "step-0000002.png")
    picture.close()


@pytest.mark.parametrize(
    ("clips", "told"),
    [
        (41, "78 frames of 39 clips, 32x32, 2 more clips held out, the first ones of each array"),
        (19, "38 frames of 19 clips, 32x32, none held out of fewer than 20 clips, 1 step"),
    ],
)
def test_the_number_of_clips_held_out_is_told(
    root: Path, clips: int, told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    arrays = [make_frames(2, seed=i) for i in range(clips)]
    np.save(root / "clips" / "all.npy", np.stack(arrays))
    train(root, quiet=False, steps=1)
    assert told in capfd.readouterr().err
    assert (root / "run" / "best").exists() is (clips == 41)


def test_the_papers_preset_trains_and_loads(root: Path) -> None:
    run = train(root, preset="paper", size="24x32")
    config = checkpoints.load_config(run)
    assert config["model"]["preset"] == "paper"
    assert config["training"]["learning_rate"] == 2e-4
    assert config["training"]["optimizer"] == "adam"
    loaded = load_frame_model(run, device="cpu").model
    assert isinstance(loaded, AliModel)
    assert loaded.config.latent_shape == (8, 1, 1)
    assert not loaded.training  # running statistics, not those of a batch
    with torch.no_grad():
        x = torch.zeros(1, 3, 32, 24)
        assert loaded.generator(loaded.encoder(x)).shape == x.shape
    assert all(value.isfinite().all() for value in loaded.state_dict().values())
    # Its batch statistics were taken for the averaged weights: they are not the initial ones.
    assert not torch.equal(loaded.encoder.trunk[0][1].running_mean, torch.zeros(4))


def test_a_run_of_before_that_names_the_shortcut_goes_on(root: Path) -> None:
    run = train(root)
    config = checkpoints.load_config(run)
    assert config["training"]["optimizer"] == "muon"
    config["game"] |= {"shortcut": 0.0, "shortcut_share": 0.25}
    checkpoints.save_config(run, config)
    state = checkpoints.load_state(run)
    assert state is not None
    checkpoints.save_state(run, state | {"done": False})
    assert train(root) == run
    config["game"]["shortcut"] = 5.0
    checkpoints.save_config(run, config)
    checkpoints.save_state(run, state | {"done": False})
    with pytest.raises(CheckpointError, match=r"of another version: .*shortcut.*; --no-resume"):
        train(root)


def test_the_networks_are_the_same_for_the_same_seed_and_preset(root: Path) -> None:
    prints = [
        checkpoints.fingerprint_of(train(root, name, preset=preset, seed=seed, steps=1))
        for name, preset, seed in (
            ("a", "paper", 1),
            ("b", "paper", 1),
            ("c", "paper", 2),
        )
    ]
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"preset": "paper", "size": "8"}, "--size: frame size 8x8: the paper's networks"),
        ({"preset": "paper", "size": "64x20"}, "--size: frame size 64x20: the paper's networks"),
        ({"preset": "paper", "width": 32}, "--width 32: --preset paper has no such thing"),
        ({"preset": "paper", "latent_noise": 0.1}, "--latent-noise 0.1: --preset paper has no"),
        ({"accumulate": 3}, "--batch-size 4 with --accumulate 3: expected a multiple of 3"),
        ({"accumulate": 2}, "--batch-size 4 with --accumulate 2: expected 8 or more"),
        ({"batch_size": 3}, "--batch-size 3: expected 4 or more"),
        ({"mixed_precision": "fp16", "device": "cpu"}, "--mixed-precision fp16: expected a CUDA"),
    ],
)
def test_options_that_mean_nothing_leave_no_trace(
    root: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError) as error:
        train(root, **options)
    assert str(error.value).startswith(said)
    assert [path.name for path in root.iterdir()] == ["clips"]


def test_a_run_has_the_width_and_the_noise_that_were_asked_for(root: Path) -> None:
    config = checkpoints.load_config(train(root, width=16, latent_noise=0.25), kind="frame")
    assert config["model"]["base_width"] == 16
    assert config["game"]["latent_noise"] == 0.25
    said = "^--width 24: the model of --init has 16, which stays: drop it$"
    with pytest.raises(UsageError, match=said):
        train(root, out="other", init=root / "run", width=24)
    again = train(root, out="other", init=root / "run", width=16, latent_noise=0.0)
    config = checkpoints.load_config(again, kind="frame")
    assert config["model"]["base_width"] == 16
    assert config["game"]["latent_noise"] == 0.0


def test_all_that_saves_memory_at_once(root: Path) -> None:
    options = {
        "batch_size": 16,
        "accumulate": 4,
        "gradient_checkpointing": True,
        "optimizer": "adam8bit",
        "mixed_precision": "bf16",
    }
    for preset in ("default", "paper"):
        run = train(root, preset, preset=preset, **options)
        training = checkpoints.load_config(run)["training"]
        assert {name: training[name] for name in options} == options
        assert all(w.isfinite().all() for w in checkpoints.load_weights(run).values())


def test_updates_are_recorded_where_they_can_be_and_no_budget_forbids(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tapes: list[Tape] = []

    def find_recorder(device: str, training: TrainConfig, ranks: Ranks) -> Tape:
        assert (device, training.steps, ranks.count) == ("cpu", 8, 1)
        tapes.append(Tape())
        return tapes[-1]

    monkeypatch.setattr(pipeline, "find_recorder", find_recorder)
    run = train(root, steps=8)
    assert tapes[0].played + tapes[0].rehearsed == 8
    assert tapes[0].played > 0
    assert all(weight.isfinite().all() for weight in checkpoints.load_weights(run).values())


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_run_with_a_budget_is_not_recorded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def find_recorder(*_: Any) -> None:
        raise AssertionError("a recorder was asked for")

    monkeypatch.setattr(pipeline, "find_recorder", find_recorder)
    train(root, max_memory="8GiB")


def test_a_tracker_gets_curves_and_pictures(root: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train(root, tracker="tensorboard")
    train(root, steps=3)  # it is remembered
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("pixels")] == [1, 2, 3]
    assert [event.step for event in events.Scalars("held_out/psnr_db")] == [2, 3]
    assert [event.step for event in events.Images("samples")] == [2, 3]


def test_held_out_clips_are_never_trained_on(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[bytes] = set()
    whole_loss = AliGame.discriminator_loss

    def look(game: AliGame, x: torch.Tensor, tick: Any) -> Any:
        seen.update(frame.tobytes() for frame in from_model(x))
        return whole_loss(game, x, tick)

    monkeypatch.setattr(AliGame, "discriminator_loss", look)
    train(root, preset="paper", batch_size=64, steps=9)
    held_out = split(StoreReader(root / "run" / "frames")).held_out
    assert held_out is not None
    held = {frame.tobytes() for frame in held_out.frames_at(np.arange(2))}
    frames = np.load(root / "clips" / "all.npy").reshape(-1, 32, 32, 3)
    assert len(held) == 2
    assert seen == {frame.tobytes() for frame in frames} - held


def test_a_run_that_began_by_the_old_rule_goes_on_by_it(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules: list[str | None] = []

    def noted(store: StoreReader, *, rule: str | None) -> Any:
        rules.append(rule)
        return split(store, rule=rule)

    monkeypatch.setattr(pipeline, "split", noted)
    config = checkpoints.load_config(train(root))
    assert config["data"].pop("held_out") == "recordings"
    checkpoints.save_config(root / "run", config)
    (root / "run" / checkpoints.STATE).unlink()
    train(root)
    assert rules == ["recordings", None]
    assert "held_out" not in checkpoints.load_config(root / "run")["data"]


def test_of_several_processes_the_first_looks_at_the_input_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Second(Ranks):
        def of_first(self, make: Any) -> Any:
            raise UsageError("what the first process says")

    monkeypatch.setattr(pipeline, "join_ranks", lambda device: Second(1, 2))
    with pytest.raises(UsageError, match=r"^what the first process says$"):
        train_frame(tmp_path / "nowhere", out=tmp_path / "run")


# -- going on ------------------------------------------------------------------------------------


def test_a_finished_run_goes_on_to_more_steps(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = train(root)
    before, made_by = checkpoints.load_weights(run), checkpoints.fingerprint_of(run)
    train(root, steps=4)
    state = checkpoints.load_state(run)
    assert state is not None
    assert (state["step"], state["done"]) == (4, True)
    config = checkpoints.load_config(run)
    assert (config["training"]["steps"], config["options"]["steps"]) == (4, 4)
    now = checkpoints.load_weights(run)
    assert any(not torch.equal(now[name], before[name]) for name in now)
    assert [line["step"] for line in held_out_lines(run)] == [2, 4]
    # What latents were made by is still there, and found.
    wanted = {"fingerprint": made_by, "path": str(run)}
    assert find_reference(wanted, "frame", beside=root)[0] == root / "run.old-1"
    train(root, steps=4, quiet=False)
    assert not (root / "run.old-2").exists()
    said = "run is finished (4 steps); more --steps or --minutes go on with it, --no-resume starts"
    assert said in capfd.readouterr().err


def test_a_model_without_a_state_is_kept_before_it_is_trained(root: Path) -> None:
    run = train(root)
    (run / checkpoints.STATE).unlink()  # as encode copies a shipped model
    made_by = checkpoints.fingerprint_of(run)
    train(root, steps=4)
    assert checkpoints.fingerprint_of(run) != made_by
    assert checkpoints.fingerprint_of(root / "run.old-1") == made_by


def test_a_finished_run_whose_clips_changed_names_both_and_the_way_on(root: Path) -> None:
    run = train(root)
    np.save(root / "clips" / "new.npy", make_frames(5, seed=99))
    said = r"began with 42 frames of 21 clips, .*clips now gives 47 of 22, .*--init .*run --out NEW"
    for longer in ({}, {"steps": 9}):
        with pytest.raises(CheckpointError, match=said):
            train(root, **longer)
    assert checkpoints.load_config(run)["training"]["steps"] == 2
    config = checkpoints.load_config(train(root, out="new", init=run))
    assert config["data"]["clips"] == 22


def test_a_finished_run_needs_its_frames_no_more(root: Path) -> None:
    run = train(root)
    shutil.rmtree(run / "frames")
    train(root)
    assert not (run / "frames").exists()


def test_frames_do_not_go_among_other_files(root: Path) -> None:
    (root / "big").mkdir()
    (root / "big" / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"big holds files .*use another --frames-store$"):
        train(root, frames_store=root / "big")
    assert not (root / "run").exists()


def test_a_run_remembers_where_its_frames_lie(root: Path) -> None:
    run = train(root, frames_store=root / "deep" / "big")
    state = checkpoints.load_state(run)
    assert state is not None
    checkpoints.save_state(run, state | {"step": 1, "done": False})
    assert train(root) == run
    assert not (run / "frames").exists()
    assert checkpoints.load_config(run)["options"]["frames_store"] == "../deep/big"
    checkpoints.save_state(run, state | {"step": 1, "done": False})
    (root / "deep").rename(root / "moved")
    train(root, frames_store=root / "moved" / "big")  # it may be named anew
    assert checkpoints.load_config(run)["options"]["frames_store"] == "../moved/big"


@pytest.mark.parametrize("store", [None, "big"])
def test_frames_that_do_not_depend_on_what_changed_are_not_read_again(
    root: Path, store: str | None
) -> None:
    run = train(root, frames_store=store)
    place = root / store if store else run / "frames"
    made = (place / "manifest.sqlite").stat()
    train(root, steps=1, resume=False, learning_rate=2e-3)
    assert (place / "manifest.sqlite").stat().st_ino == made.st_ino
    assert run.with_name("run.old-1").exists()
    train(root, steps=1, resume=False, size=16)
    assert StoreReader(run / "frames").spec.item_shape == (16, 16, 3)
    kept = root / store if store else root / "run.old-2" / "frames"
    assert (kept / "manifest.sqlite").stat().st_ino == made.st_ino


def test_frames_of_other_clips_and_of_a_damaged_run_stay_with_it(root: Path) -> None:
    run = train(root, steps=1)
    (root / "clips").rename(root / "before")
    shutil.copytree(root / "before", root / "clips" / "deep")
    train(root, steps=1, resume=False)
    assert (root / "run.old-1" / "frames").is_dir()
    assert {s.source for s in StoreReader(run / "frames").sources()} == {"deep/all.npy"}
    (run / checkpoints.CONFIG).write_text("{")
    train(root, steps=1, resume=False)
    assert (root / "run.old-2" / "frames").is_dir()
