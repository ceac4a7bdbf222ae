"""Films cut into clips: whole spans, windows of the right place, and no frame in both splits."""

from __future__ import annotations

import sys
from pathlib import Path

import cut_films as films
import numpy as np
import pytest
from clip_files import LOSSLESS, barcode, read_barcode, write_clip
from recording import write_clips


def test_spans_are_whole_and_follow_each_other(tmp_path: Path) -> None:
    film = tmp_path / "film.mkv"
    write_clip(film, [barcode(n) for n in range(40)], **LOSSLESS)
    found = [
        [read_barcode(frame.to_ndarray(format="rgb24")) for frame in frames]
        for _, _, frames in films.spans(film, length=16)
    ]
    assert found == [list(range(16)), list(range(16, 32))]  # the last 8 are no whole span


@pytest.mark.parametrize(
    ("first", "last", "split"),
    [
        (0.0, 0.6, "train"),
        (59.4, 59.9, "train"),
        (59.7, 60.3, None),
        (60.0, 60.6, "test"),
        (69.7, 70.3, None),
        (70.0, 70.6, "train"),
        (9.7, 10.3, "train"),  # a border of two blocks of one split
        (130.0, 130.6, "test"),
    ],
)
def test_every_seventh_block_is_for_testing(first: float, last: float, split: str | None) -> None:
    assert films.split_of(first, last) == split


def test_a_window_is_one_part_of_the_picture_in_all_frames() -> None:
    rows, columns = np.mgrid[:40, :60]
    picture = np.stack([4 * rows, 4 * columns, np.zeros_like(rows)], axis=-1).astype(np.uint8)
    frames = [np.ascontiguousarray(picture + np.uint8(n)) for n in range(16)]
    box = films.place(40, 60, np.random.default_rng(0), size=16)
    assert box[2] - box[0] == box[3] - box[1]
    assert 0 <= min(box) < box[2] <= 60
    assert box[3] <= 40
    cut = films.cut(frames, box, size=16)
    assert cut.shape == (16, 16, 16, 3)
    assert cut.dtype == np.uint8
    for number in range(16):  # the same place: what moves is the brightness alone
        difference = cut[number].astype(int) - cut[0]
        assert set(np.unique(difference)) <= {number}
    across = np.diff(cut[0, :, :, 1].astype(int), axis=1)  # 4 levels a pixel, side of 20 to 40
    assert 4 * 20 / 16 - 1 <= across.mean() <= 4 * 40 / 16 + 1


def run(monkeypatch: pytest.MonkeyPatch, film: Path, out: Path, *more: str) -> None:
    arguments = ["cut_films", str(film), "--out", str(out), "--size", "32", "--jobs", "1", *more]
    monkeypatch.setattr(sys, "argv", arguments)
    assert films.main() == 0


def test_films_become_arrays_of_both_splits_whatever_the_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    film = tmp_path / "film.mkv"  # blocks of ten frames, of which 60..69 and 130..139 are to test
    write_clip(film, [barcode(n) for n in range(140)], fps=1, **LOSSLESS)
    run(monkeypatch, film, tmp_path / "one", "--frames", "5")
    assert "film.mkv: 96 clips for train" in capsys.readouterr().out
    run(monkeypatch, film, tmp_path / "two", "--frames", "5", "--jobs", "2")
    for split, count in (("train", 96), ("test", 16)):
        clips = [np.load(tmp_path / jobs / split / "film.npy") for jobs in ("one", "two")]
        assert clips[0].shape == (count, 5, 32, 32, 3)
        assert np.array_equal(*clips)
        assert len(np.unique(clips[0], axis=0)) > 0.9 * count  # two may fall on one place


def test_clips_are_as_long_as_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film = tmp_path / "film.mkv"
    write_clip(film, [barcode(n) for n in range(18)], **LOSSLESS)
    run(monkeypatch, film, tmp_path / "out", "--frames", "4", "--windows", "2")
    assert np.load(tmp_path / "out" / "train" / "film.npy").shape == (8, 4, 32, 32, 3)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--size", "0"], "--size is 0, expected 1 or more"),
        (["--frames", "0"], "--frames is 0, expected 1 or more"),
        (["--windows", "0"], "--windows is 0, expected 1 or more"),
        (["--jobs", "0"], "--jobs is 0, expected 1 or more"),
        (["no/film.mp4"], "no/film.mp4: expected a video file"),
        (["b/film.mkv"], "two films have one name"),
    ],
)
def test_what_cannot_be_cut_is_said(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in "ab":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "film.mkv").touch()
    monkeypatch.setattr(sys, "argv", ["cut_films", "a/film.mkv", *arguments])
    with pytest.raises(SystemExit, match="2"):
        films.main()
    assert said in capsys.readouterr().err


def test_a_write_that_is_cut_short_leaves_no_array(tmp_path: Path) -> None:
    path, whole = tmp_path / "film.npy", np.ones((2, 1, 8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="broadcast"):
        write_clips(path, [whole, np.ones((1, 1, 9, 9, 3), np.uint8)], shape=(3, 1, 8, 8, 3))
    assert list(tmp_path.iterdir()) == []
    write_clips(path, [whole, whole], shape=(4, 1, 8, 8, 3))
    assert [file.name for file in tmp_path.iterdir()] == ["film.npy"]
    assert np.array_equal(np.load(path), np.ones((4, 1, 8, 8, 3)))
