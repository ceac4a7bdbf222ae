"""The script that trains a shipped model anew: what it refuses before it begins."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "experiments" / "train_shipped.sh"


@pytest.mark.parametrize(
    "arguments",
    ["", "pacman-32", "tetris out", "film-64 out", "pacman-32 out film.mp4"],
)
def test_wrong_usage_is_said_in_one_line(tmp_path: Path, arguments: str) -> None:
    (tmp_path / "film.mp4").touch()
    done = subprocess.run(
        ["bash", SCRIPT, *arguments.split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "expected pacman-32 OUT, or film-64 OUT FILM..." in done.stderr
    assert done.stderr.count("\n") == 1
