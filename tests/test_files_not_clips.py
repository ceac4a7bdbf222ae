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

from ldf_video.clips.read import open_clips
from ldf_video.errors import ReadError
from ldf_video.video.geometry import Geometry

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


def _npz(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, obs=FRAMES)


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
        ("a.npy", _npz, r"^an \.npz archive under another suffix: rename it to \.npz$"),
        ("a.dat", lambda path: torch.save(FRAMES, path), "^a file of torch.save: save its frames"),
        ("a.npy", lambda path: path.write_bytes(HDF5), "^an HDF5 file .*: rename it to .h5$"),
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
