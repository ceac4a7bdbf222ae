"""PCA as a baseline: exact on data of low rank, blocks where blocks are the structure."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pca_baseline as pca
import pytest


def low_rank(num: int, *, dims: int, rank: int, seed: int) -> np.ndarray:
    """Whole levels that lie in a mean plus `rank` directions: each switches its own values."""
    rng = np.random.default_rng(seed)
    switches = rng.integers(0, 2, (num, rank))
    return (100 + 40 * switches[:, np.arange(dims) % rank]).astype(np.uint8)


def block_frames(num: int, *, seed: int) -> np.ndarray:
    """Frames of 16 x 16: each of the four blocks mixes the same four patterns for itself."""
    patterns = np.random.default_rng(99).choice([-1, 1], (4, 8, 8, 3))
    amounts = np.random.default_rng(seed).integers(0, 25, (num, 2, 2, 4))
    blocks = 128 + np.einsum("nijk,khwc->nihjwc", amounts, patterns)
    return blocks.reshape(num, 16, 16, 3).astype(np.uint8)


def captured(vectors: np.ndarray, components: np.ndarray) -> float:
    """Share of the variance that components keep."""
    centred = vectors - vectors.mean(axis=0)
    return float(np.square(centred @ components).sum() / np.square(centred).sum())


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, object]:
    assert pca.main([str(argument) for argument in arguments]) == 0
    return json.loads(capsys.readouterr().out)


# -------------------- frames


def test_blocks_are_vectors_in_the_order_of_rows() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 16, 24, 3), dtype=np.uint8)
    found = pca.blocks(frames)
    assert found.shape == (3 * 6, 192)
    assert np.array_equal(found[4], frames[0, 8:, 8:16].ravel())
    assert np.array_equal(found[17], frames[2, 8:, 16:].ravel())


def test_a_sample_is_even_and_follows_its_seed() -> None:
    frames = [np.full((1, 1, 3), number, np.uint8) for number in range(100)]

    def drawn(seed: int) -> list[int]:
        sample = pca.sample_frames(iter(frames), (1, 1, 3), count=20, seed=seed)
        return [int(frame[0, 0, 0]) for frame in sample]

    assert drawn(1) == drawn(1) != drawn(2)
    assert len(set(drawn(1))) == 20  # without repeats
    counts = np.bincount([n for seed in range(500) for n in drawn(seed)], minlength=100)
    assert counts.sum() == 10_000
    assert 60 < counts.min() <= counts.max() < 140  # 100 expected, standard deviation 9
    few = pca.sample_frames(iter(frames[:7]), (1, 1, 3), count=9, seed=0)
    assert np.array_equal(few, frames[:7])


# -------------------- components


@pytest.mark.parametrize("exact_dims", [4096, 0])
def test_low_rank_comes_back_exactly_and_less_does_not(
    exact_dims: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pca, "EXACT_DIMS", exact_dims)
    train, test = (low_rank(400, dims=192, rank=6, seed=seed) for seed in (0, 1))
    assert np.array_equal(pca.fit(train, numbers=6).through(test), test)
    assert not np.array_equal(pca.fit(train, numbers=5).through(test), test)


@pytest.mark.parametrize("exact_dims", [4096, 0])
def test_components_are_orthonormal_and_keep_what_an_svd_keeps(
    exact_dims: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pca, "EXACT_DIMS", exact_dims)
    monkeypatch.setattr(pca, "OVERSAMPLING", 16)
    rng = np.random.default_rng(0)
    scales = 300 / np.arange(1, 193)  # as slow a decay as that of pictures
    turn, _ = np.linalg.qr(rng.standard_normal((192, 192)))
    vectors = (128 + rng.standard_normal((1500, 192)) * scales @ turn).clip(0, 255)
    vectors = vectors.astype(np.uint8)
    basis = pca.fit(vectors, numbers=20)
    assert np.allclose(basis.components.T @ basis.components, np.eye(20), atol=1e-5)
    assert np.allclose(basis.mean, vectors.mean(axis=0), atol=1e-3)
    _, _, directions = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    best = captured(vectors, directions[:20].T)
    share = 1e-6 if exact_dims else 0.01  # of what is lost
    assert 1 - captured(vectors, basis.components) <= (1 - best) * (1 + share)
    assert 0.5 < best < 0.99  # there is something to lose


def test_levels_are_whole_and_stay_in_range() -> None:
    vectors = np.array([[0, 10], [255, 20], [251, 0]], np.uint8)
    one = np.array([[1], [0]], np.float32)
    through = pca.Basis(np.array([0.4, 10.6], np.float32), 1.01 * one).through(vectors)
    assert through.tolist() == [[0, 11], [255, 11], [255, 11]]


# -------------------- the whole


def test_psnr_is_pooled_over_all_frames() -> None:
    frames = np.stack([np.full((8, 8, 3), level, np.uint8) for level in (100, 100, 106)])
    blank = pca.Basis(np.full(192, 100, np.float32), np.zeros((192, 1), np.float32))
    (psnr, same), count = pca.measure(iter(frames), {pca.whole: blank, pca.blocks: blank})
    assert count == 3
    assert psnr == same == pytest.approx(10 * np.log10(255**2 / 12))  # mean of 0, 0 and 36


def test_blocks_win_where_blocks_are_independent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split, seed in (("train", 0), ("test", 1)):
        (tmp_path / split).mkdir()
        clips = block_frames(300, seed=seed).reshape(20, 15, 16, 16, 3)
        np.save(tmp_path / split / "clips.npy", clips)
    test, train = tmp_path / "test", tmp_path / "train"
    options = (test, "--train", train, "--size", 16, "--numbers")
    found = printed(capsys, *options, 16, "--frames", 200)
    assert found["fitted_frames"] == 200
    assert found["measured_frames"] == 300
    assert found["whole"] == {"dims": 768, "numbers": 16, "psnr_db": 99.0}  # four a block: as good
    assert found["blocks"] == {"dims": 192, "numbers": 4, "psnr_db": 99.0}
    few = printed(capsys, *options, 16, "--frames", 10)  # 40 blocks are enough, 10 frames are not
    assert few["blocks"]["psnr_db"] == 99.0
    assert few["whole"]["psnr_db"] < 40


def test_whole_frames_win_where_blocks_go_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    shapes = rng.choice([-1, 1], (4, 16, 16, 3))  # four patterns over the whole frame
    amounts = rng.integers(0, 25, (200, 4))
    frames = (128 + np.einsum("nk,khwc->nhwc", amounts, shapes)).astype(np.uint8)
    np.save(tmp_path / "clips.npy", frames)
    found = printed(capsys, tmp_path, "--size", 16, "--numbers", 4)
    assert found["fitted_frames"] == found["measured_frames"] == 200
    assert found["whole"]["psnr_db"] == 99.0
    assert found["blocks"]["psnr_db"] < 40


def test_frames_are_read_at_the_size_that_is_asked_for(tmp_path: Path) -> None:
    clips = np.zeros((2, 3, 16, 32, 3), np.uint8)
    clips[:, :, :, 8:24] = 200  # the centred square
    np.save(tmp_path / "clips.npy", clips)
    geometry = pca.make_geometry(size="8x8", fps=None, crop=None)
    frames = list(itertools.chain(pca.read_frames(tmp_path, geometry)))
    assert len(frames) == 6
    assert all(np.array_equal(frame, np.full((8, 8, 3), 200)) for frame in frames)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("--numbers", "3", "--size", "16"), "--numbers is 3, expected 4 to 768"),
        (("--numbers", "769", "--size", "16"), "--numbers is 769, expected 4 to 768"),
        (("--numbers", "4", "--size", "20x16"), "--size is 20x16, expected multiples of 8"),
        (("--numbers", "4", "--size", "big"), "--size big"),
        (("--numbers", "4", "--frames", "0"), "--frames is 0"),
        (("--numbers", "4", "--seed", "-1"), "--seed is -1"),
        (("--numbers", "four"), "--numbers"),
        ((), "--numbers"),
    ],
)
def test_wrong_options_are_one_line_and_exit_2(
    tmp_path: Path, options: tuple[str, ...], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "clips.npy", np.zeros((3, 16, 16, 3), np.uint8))
    try:
        code = pca.main([str(tmp_path), *options])
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    said = capsys.readouterr().err
    assert error in said
    assert said.count("\n") == 1


def test_clips_that_are_not_there_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pca.main([str(tmp_path / "none"), "--numbers", "16"]) != 0
    said = capsys.readouterr().err
    assert "none" in said
    assert said.count("\n") == 1
