"""encode where no frame model is named: the shipped one that knows the clips, or one made to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tiny_cli import shrink
from tiny_models import save_frame, save_shipped, write_array

from ldf_video.api import encode, generate, train_top
from ldf_video.errors import CheckpointError, LdfError, StoreError, UsageError
from ldf_video.options.reading import Encode
from ldf_video.options.trainings import TrainFrame
from ldf_video.recipes import adaptation
from ldf_video.recipes.adaptation import Asked, own_or_adapted
from ldf_video.recipes.encode import Encoded
from ldf_video.runs import zoo
from ldf_video.runs.zoo import shipped_models
from ldf_video.sources.search import find_sources
from ldf_video.store.reader import StoreReader
from ldf_video.training import checkpoints, config, optim
from ldf_video.training.ranks import Ranks
from ldf_video.video.geometry import Geometry

if TYPE_CHECKING:
    from pathlib import Path

OWN = zoo.OWN_FRAME


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with clips/ that neither of two shipped models knows; trainings are short."""
    monkeypatch.chdir(tmp_path)
    shrink(monkeypatch.setattr)
    shipped = save_shipped(tmp_path / "shipped")
    monkeypatch.setattr(zoo, "shipped_models", lambda: shipped)

    monkeypatch.setattr(config, "share_of_budget", lambda *_, step, **__: min(step / 3, 1.0))
    for seed in range(3):
        write_array(tmp_path / "clips" / f"{seed}.npy", 9, seed=seed)
    return tmp_path


def run(**options: Any) -> Encoded:
    return encode("clips", **{"device": "cpu", **options})


def weights_of(store: Path) -> str:
    return str(StoreReader(store).spec.settings["weights"])


def test_clips_that_a_shipped_model_knows_are_encoded_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        rng = np.random.default_rng(number)
        frames = np.full((24, 48, 48, 3), rng.integers(0, 90, 3), np.uint8)
        for k, frame in enumerate(frames):
            frame[k : k + 9, 2 * k % 40 : 2 * k % 40 + 9] = (220, 180, 30)
        (tmp_path / "clips").mkdir(exist_ok=True)
        np.save(tmp_path / "clips" / f"{number}.npy", frames)

    encoded = run()

    said = capfd.readouterr().err
    assert "no checkpoints/frame, using the shipped film-64, which shows a sample" in said
    assert "at 32x32 it is checkpoints/frame from now on" in said  # what a CPU can learn from
    assert encoded.psnr_db is not None
    assert encoded.psnr_db > 20
    config = checkpoints.load_config(OWN)
    assert (config["model"]["width"], config["frames"]["fps"]) == (32, None)
    film = checkpoints.load_weights(shipped_models()["film-64"] / "frame")
    kept = checkpoints.load_weights(OWN)
    assert all(np.array_equal(kept[name], film[name].float()) for name in film)
    assert weights_of(encoded.store) == checkpoints.fingerprint_of(OWN)
    assert run().report.num_frames == 0  # it is the own model now
    assert "using the shipped" not in capfd.readouterr().err


def test_clips_that_no_shipped_model_knows_have_one_adapted_first(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    encoded = run()
    said = capfd.readouterr().err
    assert "no shipped model brings a sample of these clips back at 20 dB (" in said
    assert "first adapting" in said
    assert "for 10 minutes; --adapt-minutes M takes M, 0 goes on without" in said
    config, state = checkpoints.load_config(OWN), checkpoints.load_state(OWN)
    assert state is not None
    assert state["done"]
    assert config["init"]["from"] in said
    assert not (OWN / adaptation.MARK).exists()
    assert weights_of(encoded.store) == checkpoints.fingerprint_of(OWN)
    # With new clips the same model goes on.
    write_array(root / "clips" / "new.npy", 5, seed=7)
    assert run().report.num_frames == 5


def test_minutes_and_rate_are_handed_to_the_training(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[TrainFrame] = []
    monkeypatch.setattr(adaptation, "train_frame", asked.append)
    with pytest.raises(CheckpointError, match="no checkpoint at checkpoints/frame"):
        run(adapt_minutes=2.5, fps="5", crop="none", quiet=True)
    (options,) = asked
    assert (options.minutes, options.fps, options.crop) == (2.5, "5/1", "none")
    assert options.size == "32x32"


def test_an_adaptation_that_was_stopped_goes_on_with_the_same_call(
    root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    whole_update = optim.Average.update

    def stop(average: Any, model: Any, *, step: int) -> None:
        if step == 1:
            raise KeyboardInterrupt
        whole_update(average, model, step=step)

    with monkeypatch.context() as patch:
        patch.setattr(optim.Average, "update", stop)
        with pytest.raises(KeyboardInterrupt):
            run()
    assert (OWN / adaptation.MARK).is_file()
    state = checkpoints.load_state(OWN)
    assert state is not None
    assert state["step"] == 1
    assert not (root / "latents").exists()
    capfd.readouterr()

    encoded = run()

    assert "going on with adapting" in capfd.readouterr().err
    assert not (OWN / adaptation.MARK).exists()
    assert weights_of(encoded.store) == checkpoints.fingerprint_of(OWN)


def test_an_adaptation_of_other_clips_names_the_way_on(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(quiet=True)
    (OWN / adaptation.MARK).write_text("film-64")
    state = checkpoints.load_state(OWN)
    assert state is not None
    checkpoints.save_state(OWN, {**state, "done": False})
    write_array(root / "clips" / "new.npy", 5, seed=7)
    said = "does not go on: .*; ldf-video train-frame clips --init film-64 --no-resume begins anew"
    with pytest.raises(CheckpointError, match=said):
        run(overwrite=True, quiet=True)


def test_no_minutes_go_on_without_and_warn(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    encoded = run(adapt_minutes=0)
    said = capfd.readouterr().err
    assert "encode: warning: no checkpoints/frame, using the shipped" in said
    assert "under 20 dB, and --adapt-minutes 0 leaves it so" in said
    assert checkpoints.load_state(OWN) is None
    assert encoded.report.num_frames == 27


def test_a_model_that_is_named_is_never_adapted(root: Path) -> None:
    run(frame_model="film-64", quiet=True)
    assert not OWN.exists()
    with pytest.raises(UsageError, match=r"--adapt-minutes 2: the model of --frame-model is taken"):
        run(frame_model="film-64", adapt_minutes=2)
    for minutes in (-1, float("nan"), float("inf")):
        with pytest.raises(UsageError, match=f"--adapt-minutes {minutes}: expected 0 or more"):
            run(adapt_minutes=minutes)


def test_a_store_of_another_model_is_refused_before_anything_is_adapted(root: Path) -> None:
    save_frame(root / "other", seed=5)
    run(frame_model="other", quiet=True)
    with pytest.raises(StoreError, match=r"made by other settings.*another --out.*--overwrite"):
        run()
    assert not OWN.exists()
    run(overwrite=True, quiet=True)
    assert weights_of(root / "latents") == checkpoints.fingerprint_of(OWN)


def test_a_place_that_can_be_no_store_is_refused_before_anything_is_adapted(root: Path) -> None:
    (root / "latents").mkdir()
    (root / "latents" / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"holds files but no store \(for instance notes.txt\)"):
        run()
    assert not (root / "checkpoints").exists()


def test_a_store_of_a_shipped_model_goes_on_with_it(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run(frame_model="film-64", quiet=True)
    write_array(root / "clips" / "new.npy", 5, seed=7)
    assert run().report.num_frames == 5
    assert "using the shipped film-64 as before" in capfd.readouterr().err
    assert not OWN.exists()


def test_nothing_readable_is_told_as_ever(root: Path) -> None:
    for clip in (root / "clips").iterdir():
        clip.write_bytes(b"")
    with pytest.raises(LdfError, match="nothing under clips could be read"):
        run(quiet=True)


def test_a_sample_is_of_sources_all_over_and_has_no_empty_frames(tmp_path: Path) -> None:
    for number in range(40):
        frames = np.zeros((16, 16, 16, 3), np.uint8)
        frames[8:, :8] = 5 * number + 50
        np.save(tmp_path / f"{number:02}.npy", frames)
    (tmp_path / "00.npy").write_bytes(b"")
    sample = adaptation._sample(find_sources(tmp_path), Geometry(16, 16))
    assert {(int(frame.max()) - 50) // 5 for frame in sample} == {5, 11, 16, 22, 27, 33, 39}
    assert len(sample) == 7


def test_of_several_processes_the_first_chooses_and_all_adapt(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Second(Ranks):
        def of_first(self, make: Any) -> Any:
            return adaptation._Choice(OWN, "", "film-64")

    adapted: list[TrainFrame] = []
    monkeypatch.setattr(adaptation, "train_frame", adapted.append)
    asked = Asked(Encode("clips", out=root / "latents"), [], "cpu")
    assert own_or_adapted(asked, Second(1, 2), say=lambda line: None) == OWN
    assert [options.init for options in adapted] == ["film-64"]
    assert not OWN.exists()  # the first writes


def test_generate_says_that_the_shipped_pair_is_not_the_adapted_model(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run(quiet=True)
    generate("out.gif", num_frames=2, device="cpu")
    said = capfd.readouterr().err
    assert "using the shipped pacman-32 with its own frame model, not checkpoints/frame" in said
    top = checkpoints.load_config(train_top(steps=1, batch_size=4, device="cpu", quiet=True))
    assert top["frame_model"]["fingerprint"] == checkpoints.fingerprint_of(OWN)
    generate("out.gif", num_frames=2, device="cpu")
    assert "shipped" not in capfd.readouterr().err
