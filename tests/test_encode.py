"""encode: latents of every frame, alone, and a store that any stop leaves whole."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from clip_files import barcode, write_clip
from store_data import rows_by_source
from tiny_models import make_frames, save_frame, write_array

from ldf_video.api import encode
from ldf_video.errors import LdfError, StoreError, UsageError
from ldf_video.intake.frame_encoder import FrameEncoder
from ldf_video.recipes.encode import Encoded
from ldf_video.runs.zoo import load_frame_model
from ldf_video.store.reader import StoreReader
from ldf_video.training import checkpoints
from ldf_video.video.pixels import from_model, psnr_db, to_model

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a frame model and three clips."""
    monkeypatch.chdir(tmp_path)
    save_frame(tmp_path / "checkpoints" / "frame")
    for seed, length in enumerate((3, 10, 6)):
        write_array(tmp_path / "clips" / f"{seed}.npy", length, seed=seed)
    return tmp_path


def run(clips: Any = "clips", **options: Any) -> Encoded:
    return encode(clips, quiet=True, **options)


def test_latents_are_e_applied_to_each_frame(root: Path) -> None:
    run()
    model = load_frame_model(root / "checkpoints" / "frame", device="cpu").model
    found = rows_by_source(root / "latents")
    assert found.keys() == {"0.npy", "1.npy", "2.npy"}
    for seed, length in enumerate((3, 10, 6)):
        latents = found[f"{seed}.npy"]
        assert latents.dtype == np.float16
        assert latents.shape == (length, 4, 4, 4)
        for frame, latent in zip(make_frames(length, seed=seed), latents, strict=True):
            expected = model.encoder(to_model(frame[None]))[0]
            np.testing.assert_allclose(latent, expected.numpy(), rtol=2e-3, atol=1e-3)


def test_latents_of_two_precisions_in_one_store_are_told(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    encode("clips", mixed_precision="bf16")
    assert "warning" not in capfd.readouterr().err.replace("warning: the frame model reaches", "")
    write_array(root / "clips" / "new.npy", 4, seed=9)
    encode("clips")
    said = "latents was begun with --mixed-precision bf16, what is new is encoded with no: give"
    assert said in capfd.readouterr().err


def test_the_store_says_which_reader_was_asked_for(root: Path) -> None:
    write_clip(root / "clips" / "a.mp4", [barcode(k, height=32, width=32) for k in range(9)])
    for reader in ("auto", "decord"):
        encoded = run(out=reader, reader=reader)
        assert encoded.report.not_by_decord == []
        assert json.loads((root / reader / "store.json").read_text())["info"]["reader"] == reader
    # The reader is no part of the fingerprint: either goes on with a store of the other.
    again = run(out="decord", reader="pyav")
    assert (again.report.num_unchanged, again.report.num_frames, again.psnr_db) == (4, 0, None)
    first, second = (rows_by_source(root / reader)["a.mp4"] for reader in ("auto", "decord"))
    assert np.abs(first.astype(float) - second).mean() < 0.02 * np.abs(first).mean()
    with pytest.raises(UsageError, match="--reader opencv: expected auto, pyav or decord"):
        run(reader="opencv")


def test_neighbours_change_no_bit_of_a_clip_and_batches_little(root: Path) -> None:
    run(out="all")
    run(out="small", batch_size=3)
    for name in ("0.npy", "1.npy", "2.npy"):
        run(f"clips/{name}", out=f"only-{name}")
        assert rows_by_source(root / f"only-{name}")[name].tobytes() == (
            rows_by_source(root / "all")[name].tobytes()
        )
        small, whole = (rows_by_source(root / out)[name] for out in ("small", "all"))
        np.testing.assert_allclose(small, whole, rtol=2e-3, atol=1e-3)


def test_psnr_is_that_of_the_real_frames_alone(root: Path) -> None:
    frames = make_frames(10, seed=1)
    model = load_frame_model(root / "checkpoints" / "frame", device="cpu").model
    z = model.encoder(to_model(frames)).half().float()
    error = (from_model(model.generator(z)).astype(float) - frames) ** 2
    encoded = run("clips/1.npy")  # 10 frames in a batch of 64
    assert encoded.psnr_db == pytest.approx(10 * np.log10(255**2 / error.mean()), abs=0.01)


def test_psnr_by_hand() -> None:
    assert psnr_db(0) == 99
    assert psnr_db(255.0**2) == 0
    assert psnr_db(255.0**2 / 1000) == pytest.approx(30)


def test_a_poor_fit_is_warned_of(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    encode("clips", device="cpu")
    said = capfd.readouterr().err
    assert "run ldf-video train-frame on them, or for longer" in said
    assert "3 sources: 19 new frames" in said


def test_a_video_an_unreadable_and_a_cut_one(root: Path) -> None:
    images = [barcode(n) for n in range(60)]
    write_clip(root / "clips" / "whole.mkv", images)
    whole = (root / "clips" / "whole.mkv").read_bytes()
    (root / "clips" / "cut.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    (root / "clips" / "text.mp4").write_text("no video")

    encoded = run()

    assert [name for name, _ in encoded.report.salvaged] == ["cut.mkv"]
    assert [name for name, _ in encoded.report.quarantined] == ["text.mp4"]
    found = rows_by_source(root / "latents")
    assert found.keys() == {"0.npy", "1.npy", "2.npy", "whole.mkv", "cut.mkv"}
    assert len(found["whole.mkv"]) == 60
    kept = len(found["cut.mkv"])
    assert 0 < kept < 60
    assert found["cut.mkv"].tobytes() == found["whole.mkv"][:kept].tobytes()


def test_memory_that_runs_out_is_one_line(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(FrameEncoder, "__call__", fail)
    with pytest.raises(LdfError, match=r"^out of memory: .*; try a smaller --batch-size$"):
        run()


def test_strict_fails_where_a_source_is_not_whole_the_second_time_too(root: Path) -> None:
    whole = write_clip(root / "whole.mkv", [barcode(n) for n in range(60)]).read_bytes()
    for name in ("cut.mkv", "same.mkv"):
        (root / "clips" / name).write_bytes(whole[: len(whole) * 2 // 3])
    (root / "clips" / "text.mp4").write_text("no video")
    for _ in range(2):
        with pytest.raises(LdfError, match="--strict: 3 of 6 sources not read whole"):
            run(strict=True)
    again = run().report
    assert again.num_unchanged == 6
    assert [name for name, _ in again.quarantined] == ["text.mp4"]
    assert [name for name, _ in again.salvaged] == ["cut.mkv", "same.mkv"]


def test_nothing_readable_is_an_error_with_the_reason_each_time_and_leaves_no_store(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (root / "bad").mkdir()
    for number in range(12):
        (root / "bad" / f"{number}.mp4").write_bytes(b"")
    for _ in range(2):
        with pytest.raises(LdfError, match=r"nothing under bad could be read: 0\.mp4: empty"):
            encode("bad")
        assert "  unreadable 0.mp4 and 11 more: empty" in capfd.readouterr().err
        assert not (root / "latents").exists()


@pytest.mark.parametrize("change", ["model", "fps", "crop"])
def test_a_store_made_otherwise_is_refused_and_names_the_way_on(root: Path, change: str) -> None:
    run()
    options = {"model": {}, "fps": {"fps": "5"}, "crop": {"crop": "none"}}[change]
    if change == "model":
        save_frame(root / "checkpoints" / "frame", seed=1)
    with pytest.raises(StoreError, match=r"made by other settings.*another --out.*--overwrite"):
        run(**options)

    encoded = run(overwrite=True, **options)

    assert encoded.report.num_frames == 19
    (old,) = root.glob("latents.old-*")
    assert len(rows_by_source(old)) == len(rows_by_source(root / "latents")) == 3


def test_the_model_says_how_frames_are_read(root: Path) -> None:
    write_clip(root / "a.mkv", [barcode(n) for n in range(50)])
    save_frame(root / "slow", fps="5")
    run("a.mkv", out="native")
    run("a.mkv", out="slow-latents", frame_model="slow")
    run("a.mkv", out="given", frame_model="slow", fps="10")
    counts = [StoreReader(root / s).num_frames for s in ("native", "slow-latents", "given")]
    assert counts == [50, 10, 20]


def test_clips_are_laid_out_as_those_of_the_model_were(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    frames = make_frames(3, seed=9)
    np.save(root / "a.npy", np.moveaxis(frames, 0, 2))  # (H, W, T, C)
    config = checkpoints.load_config(save_frame(root / "turned"))
    frames = config["frames"] | {"axes": "YXTC"}
    checkpoints.save_config(root / "turned", config | {"frames": frames})
    said = "clips are read as those of the frame model: --axes YXTC"
    encode("a.npy", out="learned", frame_model="turned")
    assert said in capfd.readouterr().err
    encode("a.npy", out="given", axes="YXTC")
    run("a.npy", out="other", frame_model="turned", axes="XYTC")
    run("a.npy", out="told", frame_model="turned", axes="auto")  # as if nothing had been said
    assert StoreReader(root / "told").num_frames == len(np.load(root / "a.npy")) > 3
    assert said not in capfd.readouterr().err
    found = [rows_by_source(root / name)["a.npy"] for name in ("learned", "given", "other")]
    assert (found[0] == found[1]).all()
    assert (found[0] != found[2]).any()
    assert StoreReader(root / "learned").spec.settings["axes"] == "YXTC"
