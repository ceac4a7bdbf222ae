"""Outputs: checked before the work, and never an input, under whatever name."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from PIL import Image
from tiny_models import save_pair, write_array

from ldf_video.api import encode, train_frame, train_top
from ldf_video.errors import LdfError, StoreError, UsageError
from ldf_video.runs.command import check_files, check_folders
from ldf_video.video.sources import find_sources

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_array(tmp_path / "clips" / "a.npy", 5)
    (tmp_path / "clips" / "walk").mkdir()
    for number in range(3):
        Image.new("RGB", (8, 8)).save(tmp_path / "clips" / "walk" / f"{number}.png")
    return tmp_path


def test_new_files_anywhere_pass_and_nothing_is_made(root: Path) -> None:
    names = ("new.mp4", "clips/new.mp4", "deep/er/new.mp4")
    check_files([("-o", root / name) for name in names], inputs=find_sources("clips"))
    check_folders([("--out", root / "deep" / "new")], inputs=["clips", "s3://bucket/clips"])
    assert sorted(os.listdir(root)) == ["clips"]


def test_an_input_is_known_by_every_name(root: Path) -> None:
    (root / "hard.png").hardlink_to(root / "clips" / "walk" / "1.png")
    (root / "soft").symlink_to("clips")
    sources = find_sources("clips")
    for name in ("clips/a.npy", "clips/../clips/a.npy", "soft/a.npy"):
        with pytest.raises(UsageError, match=r"which is the input clips.a\.npy; give another"):
            check_files([("-o", root / name)], inputs=sources)
    for name in ("hard.png", "soft/walk/2.png"):
        with pytest.raises(UsageError, match=r"a file of the input clips.walk; give another"):
            check_files([("-o", root / name)], inputs=sources)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("clips/a.npy/new.png", r"clips.a\.npy is a file; write elsewhere"),
        ("x" * 300, "File name too long; write elsewhere"),
        ("\0.png", "null (byte|character).*; write elsewhere"),
    ],
)
def test_places_where_nothing_can_be_made(root: Path, name: str, said: str) -> None:
    with pytest.raises(LdfError, match=f"(?s)-o .*{said}"):
        check_files([("-o", root / name)], inputs=[])
    with pytest.raises(LdfError, match=f"(?s)--out .*{said}"):
        check_folders([("--out", root / name)], inputs=[])


def test_what_may_not_be_written(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "closed").mkdir()
    (root / "old.png").touch()
    kept = os.access  # root may write everywhere

    def access(path: Path, mode: int) -> bool:
        return path.name not in ("closed", "old.png") and kept(path, mode)

    monkeypatch.setattr(os, "access", access)
    with pytest.raises(LdfError, match=r"no permission to write in .*closed; write elsewhere"):
        check_files([("-o", root / "closed" / "deep" / "new.png")], inputs=[])
    with pytest.raises(LdfError, match="it is there and may not be written; write elsewhere"):
        check_files([("-o", root / "old.png")], inputs=[])


def test_no_command_writes_into_what_it_reads(root: Path) -> None:
    save_pair(root / "models")
    encode("clips", out="latents", frame_model="models", quiet=True)
    before = sorted(path for path in root.rglob("*") if path.is_file())
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
    assert sorted(path for path in root.rglob("*") if path.is_file()) == before
