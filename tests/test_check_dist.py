"""What may and must be in the archives that are published."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import check_dist as checker
import pytest


def write_dist(folder: Path, *, wheel: list[str], sdist: list[str]) -> None:
    with zipfile.ZipFile(folder / "ldf_video-1-py3-none-any.whl", "w") as archive:
        for name in wheel:
            archive.writestr(name, b"")
    with tarfile.open(folder / "ldf_video-1.tar.gz", "w:gz") as archive:
        for name in sdist:
            archive.addfile(tarfile.TarInfo(f"ldf_video-1/{name}"))


def test_archives_with_all_that_is_expected_pass(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = "checkpoints/pacman-32/README.md"
    wheel = [*checker.WHEEL, f"ldf_video/{card}", "ldf_video/training/checkpoints.py"]
    write_dist(tmp_path, wheel=wheel, sdist=[*checker.SDIST, card])
    assert checker.main([str(tmp_path)]) == 0
    assert "hold what they should" in capsys.readouterr().out


def test_a_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gone = "ldf_video/checkpoints/pacman-32/top/model.safetensors"
    wheel = [name for name in checker.WHEEL if name != gone]
    write_dist(tmp_path, wheel=wheel, sdist=checker.SDIST)
    assert checker.main([str(tmp_path)]) == 1
    assert capsys.readouterr().out == f"ldf_video-1-py3-none-any.whl: {gone} is missing\n"


@pytest.mark.parametrize(
    "stray",
    [
        "checkpoints/frame/model.safetensors",
        "checkpoints/top/config.json",
        "checkpoints/pacman-32/frame/state.pt",
        "checkpoints/pacman-32/top/samples/step-0000100.png",
        "checkpoints/mine/frame/model.safetensors",
    ],
)
def test_a_checkpoint_of_somebodys_own_is_found(stray: str) -> None:
    wheel = checker.problems([*checker.WHEEL, f"ldf_video/{stray}"], expected=checker.WHEEL)
    sdist = checker.problems([*checker.SDIST, stray], expected=checker.SDIST)
    assert wheel == [f"ldf_video/{stray} does not belong there"]
    assert sdist == [f"{stray} does not belong there"]


def test_two_wheels_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_dist(tmp_path, wheel=checker.WHEEL, sdist=checker.SDIST)
    (tmp_path / "ldf_video-2-py3-none-any.whl").touch()
    assert checker.main([str(tmp_path)]) == 1
    assert "got 2 wheels and 1 sdists" in capsys.readouterr().err
