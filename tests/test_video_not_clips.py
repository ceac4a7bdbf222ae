from __future__ import annotations

import gzip
import io
import pickle
import tarfile
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from ldf_video.errors import ReadError
from ldf_video.video.arrays import open_array
from ldf_video.video.geometry import Geometry
from ldf_video.video.read import open_clips

if TYPE_CHECKING:
    from pathlib import Path

POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a21460000000000000000000000000000000000000000000000000000000000\nsize 1234567\n"
)
HDF5 = b"\x89HDF\r\n\x1a\n"
FRAMES = np.random.default_rng(0).integers(0, 256, (7, 6, 8, 3), np.uint8)


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("0.png", b"")


def _tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("0.png"), io.BytesIO(b""))


@pytest.mark.parametrize(
    ("name", "make", "reason"),
    [
        ("a.mp4", lambda path: path.write_text(POINTER), "^a git-lfs pointer: run git lfs pull$"),
        ("a.npy", lambda path: path.write_text(POINTER), "^a git-lfs pointer: run git lfs pull$"),
        ("a.png", lambda path: path.write_text(POINTER), "^a git-lfs pointer: run git lfs pull$"),
        ("a.zip", _zip, r"^an archive: name a file in it, as a\.zip::0\.png$"),
        ("a.bin", _zip, "^a zip archive: unpack it$"),
        ("a.npy", _zip, "^a zip archive: unpack it$"),
        ("a.npz", lambda path: np.savez(path, obs=FRAMES), r"^a \.npz archive of arrays: "),
        ("a.dat", lambda path: torch.save(FRAMES, path), "^a file of torch.save: save its frames"),
        ("a.hdf5", lambda path: path.write_bytes(HDF5), "^an HDF5 file: "),
        ("a.mat", lambda path: path.write_bytes(bytes(512) + HDF5), "^an HDF5 file: "),
        ("a.mat", lambda path: path.write_bytes(b"MATLAB 5.0 MAT-file"), "^a MATLAB "),
        ("a.tar", _tar, r"^an archive: name a file in it, as a\.tar::0\.png$"),
        ("a.bin", _tar, "^a tar archive: unpack it$"),
        ("a.gz", lambda path: path.write_bytes(gzip.compress(b"x")), "^a gzip archive: unpack it$"),
        ("a.parquet", lambda path: path.write_bytes(b"PAR1" + bytes(99)), "^a Parquet table: "),
        ("a.pdf", lambda path: path.write_bytes(b"%PDF-1.7" + bytes(99)), "^a PDF document: "),
        ("a.pkl", lambda path: path.write_bytes(pickle.dumps(FRAMES)), "^a pickle: "),
        ("a.mp4", lambda path: path.write_text("<!DOCTYPE html><html>"), "^a web page, perhaps "),
        (
            "a.dat",
            lambda path: path.write_bytes(b"\x93NUMPY\x01\0"),
            r"^a \.npy array under another suffix: rename it to \.npy$",
        ),
    ],
)
def test_what_is_no_clip_is_named(tmp_path: Path, name: str, make: object, reason: str) -> None:
    assert callable(make)
    make(tmp_path / name)
    with pytest.raises(ReadError, match=reason):
        next(open_clips(tmp_path / name, Geometry(6, 8)))


GREY = FRAMES[..., 0]
AS_RGB = np.repeat(GREY[..., None], 3, -1)


@pytest.mark.parametrize(
    ("array", "right"),
    [
        (GREY, AS_RGB),
        (GREY[..., None], AS_RGB),
        (GREY > 99, np.repeat((GREY > 99)[..., None] * np.uint8(255), 3, -1)),
        (FRAMES.transpose(0, 3, 1, 2), FRAMES),
        (GREY[:, None], AS_RGB),
        (np.stack([FRAMES] * 2).transpose(0, 1, 4, 2, 3), np.stack([FRAMES] * 2)),
        ((FRAMES / 255).astype(np.float32), FRAMES),
        (FRAMES / 127.5 - 1, FRAMES),
        (FRAMES.astype(np.float32), FRAMES),
        (FRAMES.astype(np.int64), FRAMES),
        (FRAMES.astype(np.uint16) * 257, FRAMES),
        (np.concatenate([FRAMES, np.full_like(FRAMES[..., :1], 255)], -1), FRAMES),
        ((FRAMES / 255).transpose(0, 3, 1, 2), FRAMES),
        (np.stack([GREY] * 5), np.stack([AS_RGB] * 5)),
        (FRAMES[0], FRAMES[:1]),
    ],
    ids=lambda array: f"{array.dtype} {array.shape}",
)
def test_a_refused_array_is_told_what_to_write(
    tmp_path: Path, array: np.ndarray, right: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", array)
    with pytest.raises(ReadError, match=r"or \(N, T, H, W, 3\); for a, the array: ") as told:
        open_array(tmp_path / "a.npy")
    advice = str(told.value).partition("; for a, the array: ")[2].partition("; ")[0]
    exec(advice, {"numpy": np, "a": array})  # the words of the product, not of a file
    assert np.array_equal(np.load("x.npy"), right)
    open_array(tmp_path / "x.npy")


@pytest.mark.parametrize(
    "array", [np.array(1.5), np.array(["a"]), np.zeros((2, 4, 4, 3), np.complex64)], ids=str
)
def test_an_array_of_no_pictures_is_refused(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ReadError, match=r"or \(N, T, H, W, 3\)$"):
        open_array(tmp_path / "a.npy")
