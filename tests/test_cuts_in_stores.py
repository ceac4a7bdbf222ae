"""Cuts on their way: found by encode, kept in the manifest, crossed by no window of train-top."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest
from store_data import (
    FPS,
    SPEC,
    STAMP,
    change_manifest,
    make_clips,
    opened,
    rows_by_source,
    write_store,
)
from test_video_cuts import scene
from tiny_cli import shrink
from tiny_models import save_frame

from ldf_video.api import encode, info, train_top
from ldf_video.errors import CheckpointError
from ldf_video.runs.held_out import split
from ldf_video.store import StoreReader, StoreWriter
from ldf_video.training import checkpoints
from ldf_video.training.update import span, strided_windows

if TYPE_CHECKING:
    from pathlib import Path

CUTS = {"a": [3, 9], "c#1": [1, 2, 11], "c#10": [5]}
LENGTHS = {"a": 14, "b": 6, "c#1": 12, "c#10": 8, "c#2": 4}


def write_with_cuts(path: Path, *, rows_per_shard: int = 1000) -> dict[str, np.ndarray]:
    clips = make_clips(LENGTHS)
    with StoreWriter(path, SPEC, shard_bytes=rows_per_shard * SPEC.row_bytes) as writer:
        for clip_id, rows in clips.items():
            writer.append(clip_id, rows[:4], fps=FPS)
            writer.add_cuts(clip_id, CUTS.get(clip_id, []))
            writer.commit()
            writer.append(clip_id, rows[4:], fps=FPS)
            writer.add_cuts(clip_id, CUTS.get(clip_id, [])[-1:])  # found again behind a kill
            writer.finish_clip(clip_id, fps=FPS)
            writer.set_source(f"{clip_id}.mp4", **STAMP, clip_ids=[clip_id])
    return clips


@pytest.mark.parametrize("rows_per_shard", [3, 1000])
def test_between_cuts_lie_clips_that_together_are_the_store(
    tmp_path: Path, rows_per_shard: int
) -> None:
    clips = write_with_cuts(tmp_path, rows_per_shard=rows_per_shard)
    store = StoreReader(tmp_path)
    view = store.at_cuts()
    assert view.clip_ids == sorted(view.clip_ids)
    assert view.num_frames == store.num_frames
    runs = [view.read(k, 0, int(length)) for k, length in enumerate(view.lengths)]
    assert [len(run) for run in runs] == [3, 6, 5, 6, 1, 1, 9, 1, 5, 3, 4]
    whole = np.concatenate([clips[clip_id] for clip_id in store.clip_ids])
    np.testing.assert_array_equal(np.concatenate(runs), whole)
    np.testing.assert_array_equal(view.frames_at(np.arange(50 - 6)), whole)
    for number, clip_id in enumerate(view.clip_ids):
        assert view.index(clip_id) == number
        assert view.fps(number) == FPS
        owner, _, first = clip_id.partition("+")
        np.testing.assert_array_equal(
            runs[number], clips[owner][int(first or 0) :][: len(runs[number])]
        )


def test_no_window_crosses_a_cut(tmp_path: Path) -> None:
    clips = write_with_cuts(tmp_path)
    view = StoreReader(tmp_path).at_cuts()
    place = {
        row.tobytes(): (clip_id, sum(frame >= cut for cut in CUTS.get(clip_id, [])))
        for clip_id, rows in clips.items()
        for frame, row in enumerate(rows)
    }
    assert len(place) == view.num_frames  # a row tells its shot
    seen = set()
    for step in range(20):
        numbers, starts, strides = strided_windows(
            7, step, lengths=view.lengths, window=4, batch_size=32, strides=[1, 2]
        )
        for number, start, stride in zip(numbers, starts, strides, strict=True):
            rows, mask = view.windows([number], [start], length=span(4, int(stride)))
            shots = {place[row.tobytes()] for row in rows[0][mask[0]]}
            assert len(shots) == 1
            assert not rows[0][~mask[0]].any()
            seen |= shots
    assert len(seen) == view.num_clips


def test_stores_without_cuts_are_as_they_were(tmp_path: Path) -> None:
    write_store(tmp_path, make_clips(LENGTHS))
    reader = StoreReader(tmp_path)
    assert [len(values) for values in reader.cuts()] == [0, 0]
    assert reader.at_cuts() is reader


@pytest.mark.parametrize(
    "lie",
    [
        "INSERT INTO cuts VALUES ('a', 0), ('a', 14), ('a', -3), ('a', 4000000000)",
        "INSERT INTO cuts VALUES ('gone', 2)",
    ],
)
def test_cuts_that_cannot_be_are_passed_over(tmp_path: Path, lie: str) -> None:
    write_with_cuts(tmp_path)
    expected = StoreReader(tmp_path).at_cuts().lengths.tolist()
    change_manifest(tmp_path, lie)
    assert StoreReader(tmp_path).at_cuts().lengths.tolist() == expected


def test_cuts_of_all_parts_count_once(tmp_path: Path) -> None:
    clips = make_clips({"a": 9, "b": 5, "c": 7})
    with opened(tmp_path, 2) as writers:
        for writer, clip_id in zip([*writers, writers[1]], clips, strict=True):
            add = [clip_id] if clip_id != "b" else ["b", "a"]  # "a" was encoded by both
            for one in add:
                writer.append(one, clips[one], fps=FPS)
                writer.add_cuts(one, [4])
                writer.finish_clip(one, fps=FPS)
                writer.set_source(f"{one}.mp4", **STAMP, clip_ids=[one])
    assert StoreReader(tmp_path).at_cuts().lengths.tolist() == [4, 5, 4, 1, 4, 3]


def test_one_film_spares_its_first_shots(tmp_path: Path) -> None:
    rows = make_clips({"film": 200})["film"]
    with StoreWriter(tmp_path, SPEC) as writer:
        writer.append("film", rows, fps=FPS)
        writer.add_cuts("film", list(range(5, 200, 5)))
        writer.finish_clip("film", fps=FPS)
        writer.set_source("film.mp4", **STAMP, clip_ids=["film"])
    parts = split(StoreReader(tmp_path).at_cuts())
    assert parts.held_out is not None
    assert parts.held_out.clip_ids == ["film+000000000000", "film+000000000005"]
    assert parts.known.num_clips == 38
    assert split(StoreReader(tmp_path)).held_out is None


def test_damage_takes_the_cuts_behind_it_along(tmp_path: Path) -> None:
    write_with_cuts(tmp_path, rows_per_shard=10)
    (tmp_path / "data-00001.npy").unlink()
    with StoreWriter(tmp_path, SPEC, shard_bytes=10 * SPEC.row_bytes) as writer:
        assert writer.repaired
    left = StoreReader(tmp_path)
    clip, frame = left.cuts()
    assert len(frame) < sum(map(len, CUTS.values()))
    assert (frame < left.lengths[clip]).all()
    with (
        StoreWriter(tmp_path, SPEC) as writer,
        pytest.raises(ValueError, match="expected one that is being added"),
    ):
        writer.add_cuts("new", [3])


FILM = [40, 33, 70, 90, 61]
FILM_CUTS = np.cumsum(FILM)[:-1].tolist()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a frame model and a film of five scenes."""
    monkeypatch.chdir(tmp_path)
    shrink(monkeypatch.setattr)
    save_frame(tmp_path / "checkpoints" / "frame")
    (tmp_path / "clips").mkdir()
    film = np.concatenate([scene(k, length) for k, length in enumerate(FILM)])
    np.save(tmp_path / "clips" / "film.npy", film)
    return tmp_path


def test_encode_finds_cuts_that_train_top_does_not_cross(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encode("clips")
    assert "4 cuts, listed by info" in capsys.readouterr().err
    store = StoreReader(root / "latents")
    assert store.num_clips == 1
    assert store.cuts()[1].tolist() == FILM_CUTS
    times = ["0:01.6", "0:02.92", "0:05.72", "0:09.32"]
    assert info("latents")["cuts"] == {"film.npy": times}

    train_top(steps=1, batch_size=2, seed=1)
    assert "294 latents of 5 clips between 4 cuts" in capsys.readouterr().err
    assert checkpoints.load_config(root / "checkpoints" / "top")["cuts"] == "auto"
    train_top(out="across", steps=1, batch_size=2, seed=1, cuts="off")
    assert "294 latents of 1 clip," in capsys.readouterr().err
    with pytest.raises(CheckpointError, match="--cuts"):
        train_top(steps=2, batch_size=2, seed=1, cuts="off", quiet=True)


def test_a_run_that_began_before_cuts_were_found_goes_on(root: Path) -> None:
    encode("clips", quiet=True)
    train_top(steps=1, batch_size=2, seed=1, cuts="off", quiet=True)
    top = root / "checkpoints" / "top"
    config = checkpoints.load_config(top)
    old = {k: v for k, v in config.items() if k not in ("cuts", "format_version")}
    old["options"] = {k: v for k, v in old["options"].items() if k != "cuts"}
    checkpoints.save_config(top, old)
    train_top(steps=2, quiet=True)
    assert checkpoints.load_state(top)["step"] == 2


def test_cuts_are_not_looked_for_if_not_asked(root: Path) -> None:
    encode("clips", cuts="off", quiet=True)
    assert len(StoreReader(root / "latents").cuts()[0]) == 0
    assert "encode anew: ldf-video encode CLIPS --out latents-cuts" in str(info("latents"))


@pytest.mark.parametrize("kept", [1, 39, 41, 128, 150, 293, 294])
def test_a_killed_encode_goes_on_to_the_same_cuts_and_bytes(root: Path, kept: int) -> None:
    encode("clips", out="straight", quiet=True, batch_size=16)
    whole = rows_by_source(root / "straight")["film.npy"]
    store = StoreReader(root / "straight")
    with StoreWriter(root / "cut", store.spec) as writer:  # what a killed run had committed
        clip_id = store.clip_id(0)
        writer.append(clip_id, whole[:kept], fps=Fraction(25))
        writer.add_cuts(clip_id, [cut for cut in FILM_CUTS if cut < kept - 25])
    found = encode("clips", out="cut", quiet=True, batch_size=16)
    assert found.report.num_frames == 294 - kept
    assert StoreReader(root / "cut").cuts()[1].tolist() == FILM_CUTS
    assert rows_by_source(root / "cut")["film.npy"].tobytes() == whole.tobytes()
