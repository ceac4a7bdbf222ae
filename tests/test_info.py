"""info: each kind of path, and what is none."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest
from clip_files import barcode, write_clip
from PIL import Image
from store_data import SPEC, make_clips, make_rows, write_parts
from tiny_models import save_pair, write_array

from ldf_video.api import encode, info
from ldf_video.errors import ReadError, UsageError
from ldf_video.store import StoreWriter
from ldf_video.store.format import find_parts
from ldf_video.training import checkpoints

if TYPE_CHECKING:
    from pathlib import Path


def test_a_video(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", [barcode(n) for n in range(6)], fps=12)
    described = info(path)
    assert described["what"] == "video"
    assert (described["width"], described["height"]) == (64, 48)
    assert (described["num_frames"], described["fps"]) == (6, "12")
    assert described["duration_seconds"] == 0.5
    assert described["truncated"] is False


def test_a_cut_video_says_so(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "a.mkv", [barcode(n) for n in range(60)]).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    described = info(tmp_path / "cut.mkv")
    assert described["truncated"] is True
    assert 0 < described["num_frames"] < 60


def test_a_folder_of_numbered_pictures(tmp_path: Path) -> None:
    for k in range(6):
        Image.fromarray(barcode(k)).save(tmp_path / f"{k}.png")
    described = info(tmp_path)
    assert (described["what"], described["container"]) == ("video", "pictures")
    assert (described["num_frames"], described["width"]) == (6, 64)
    Image.fromarray(barcode(9)).save(tmp_path / "b1.png")
    Image.fromarray(barcode(9)).save(tmp_path / "b2.png")
    with pytest.raises(UsageError, match="as a clip: a directory with 2 series of numbered"):
        info(tmp_path)


def test_a_store(tmp_path: Path) -> None:
    pair = save_pair(tmp_path / "pair")
    write_array(tmp_path / "clips" / "a.npy", 50)
    (tmp_path / "clips" / "b.mp4").write_bytes(b"")
    encode(tmp_path / "clips", out=tmp_path / "latents", frame_model=pair / "frame", quiet=True)
    described = info(tmp_path / "latents")
    assert described["what"] == "store of latents"
    assert (described["clips"], described["frames"]) == (1, 50)
    assert described["hours"] == pytest.approx(2 / 3600, abs=1e-4)
    assert described["item_shape"] == [4, 4, 4]
    assert described["quarantined"] == ["b.mp4: empty file"]
    assert described["quarantined_by_cause"] == {"empty file": 1}
    assert described["salvaged"] == 0
    assert "parts" not in described
    json.dumps(described)


def test_a_store_counts_its_quarantine_by_cause_and_its_hours(tmp_path: Path) -> None:
    reasons = ["cut at 12 s", "no video", "cut at 3.5 s", "empty file", "no video", "cut at 0 s"]
    with StoreWriter(tmp_path, SPEC) as writer:
        for number, reason in enumerate(reasons):
            writer.quarantine(f"{number}.mp4", size=1, mtime_ns=1, reason=reason)
        for clip_id, fps, status in (("a", 25, "complete"), ("b", "30000/1001", "salvaged")):
            writer.append(clip_id, make_rows(0, 3600), fps=Fraction(fps))
            writer.finish_clip(clip_id, fps=Fraction(fps), status=status)
            writer.set_source(clip_id, size=1, mtime_ns=1, clip_ids=[clip_id])
    described = info(tmp_path)
    causes = list(described["quarantined_by_cause"].items())
    assert causes == [("cut at N s", 3), ("no video", 2), ("empty file", 1)]
    assert described["quarantined"] == [f"{n}.mp4: {reason}" for n, reason in enumerate(reasons)]
    assert described["salvaged"] == 1
    assert described["hours"] == round(1 / 25 + 1001 / 30000, 4)


def test_a_store_in_parts(tmp_path: Path) -> None:
    write_parts(tmp_path, make_clips({"a": 2, "b": 3, "c": 4}), 3)
    described = info(tmp_path)
    assert (described["parts"], described["clips"], described["frames"]) == (3, 3, 9)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert described["bytes"] == sum(path.stat().st_size for path in files)
    assert {path.parent for path in files} == set(find_parts(tmp_path).values())


@pytest.mark.parametrize("kind", ["frame", "top"])
def test_a_checkpoint(tmp_path: Path, kind: str) -> None:
    path = save_pair(tmp_path) / kind
    described = info(path)
    weights = checkpoints.load_weights(path)
    assert described["what"] == f"{kind} model"
    assert described["parameters"] == sum(tensor.numel() for tensor in weights.values())
    assert described["fingerprint"] == checkpoints.fingerprint_of(path)
    assert "finished" not in described
    json.dumps(described)
    pair = info(tmp_path)
    assert (pair["what"], pair[kind]["fingerprint"]) == ("models", described["fingerprint"])
    assert pair["top"]["frame_model"]["fingerprint"] == pair["frame"]["fingerprint"]
    empty = {"networks": {}, "average": {}, "optimizers": []}
    checkpoints.save_state(path, {"step": 70, "elapsed_seconds": 90.0, "done": False, **empty})
    described = info(path)
    assert (described["steps_done"], described["minutes_trained"]) == (70, 1.5)
    assert described["finished"] is False


def test_what_is_nothing_of_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing does not exist: expected a video, a store"):
        info(tmp_path / "nothing")
    with pytest.raises(UsageError, match="neither a store nor a checkpoint"):
        info(tmp_path)
    (tmp_path / "text.txt").write_text("no video")
    with pytest.raises(ReadError, match=r"text\.txt: not a video"):
        info(tmp_path / "text.txt")
    film = write_clip(tmp_path / "a.mov", [barcode(1)] * 3)
    film.write_bytes(film.read_bytes().replace(b"avc1", b"drmi"))
    with pytest.raises(ReadError, match=r"a\.mov: no decoder for protected video \(drmi\)$"):
        info(film)


def test_a_model_says_what_is_on_its_card_and_how_it_does(tmp_path: Path) -> None:
    save_pair(tmp_path)
    frame = tmp_path / "frame"
    assert not {"card", "held_out", "best"} & info(frame).keys()
    (frame / "README.md").write_text("# a card\n\nTrained on nothing.\n")
    checkpoints.append_metrics(
        frame,
        [
            {"step": 20, "seconds": 1.0, "pixels": 0.5},
            {"step": 30, "seconds": 2.0, "held_out/pixels": 0.4},
            {"step": 60, "seconds": 3.0, "held_out/pixels": 0.3, "held_out/psnr_db": 20.0},
            {"step": 80, "seconds": 4.0, "pixels": 0.2},
        ],
    )
    weights = checkpoints.load_weights(frame)
    checkpoints.save_best(frame, weights, known={"step": 60, "pixels": 0.3})
    described = info(frame)
    assert described["card"] == ["# a card", "Trained on nothing."]
    assert described["held_out"] == {"step": 60, "pixels": 0.3, "psnr_db": 20.0}
    assert described["best"] == {"path": str(frame / "best"), "step": 60, "pixels": 0.3}
    best = info(frame / "best")
    assert (best["what"], best["fingerprint"]) == ("frame model", described["fingerprint"])


def test_a_student_says_how_far_it_is_from_its_teacher(tmp_path: Path) -> None:
    save_pair(tmp_path)
    values = {"step": 60, "held_out/distance": 0.25, "held_out/moves": 0.9}
    checkpoints.append_metrics(tmp_path / "top", [values])
    said = "held-out windows: squared distance from the teacher 0.250"
    assert said in info(tmp_path / "top")["summary"][1]


def test_a_held_out_figure_that_is_no_finite_number_is_said(tmp_path: Path) -> None:
    frame = save_pair(tmp_path) / "frame"
    checkpoints.append_metrics(frame, [{"step": 60, "held_out/psnr_db": math.inf}])
    assert "held-out clips give no finite number" in info(frame)["summary"][1]


def test_a_run_says_what_it_came_from_its_last_losses_and_pictures(tmp_path: Path) -> None:
    save_pair(tmp_path)
    frame = tmp_path / "frame"
    assert not {"last", "pictures", "init"} & info(frame).keys()
    config = checkpoints.load_config(frame)
    checkpoints.save_config(frame, config | {"init": {"from": "pacman-32", "fingerprint": "ab"}})
    line = {"seconds": 1.0, "progress": 0.5, "gradient_norm/one": 3.0}
    checkpoints.append_metrics(
        frame,
        [
            {"step": 20, "pixels": 0.5, **line},
            {"step": 40, "pixels": 0.4, **line},
            {"step": 40, "seconds": 3.0, "held_out/pixels": 0.45},
        ],
    )
    (frame / "sheet.png").write_bytes(b"")
    described = info(frame)
    assert described["last"] == {"step": 40, "pixels": 0.4}
    assert described["pictures"] == [str(frame / "sheet.png")]
    assert described["init"]["from"] == "pacman-32"
    (frame / "curve.png").write_bytes(b"")
    assert info(frame)["pictures"] == [str(frame / name) for name in ("sheet.png", "curve.png")]
