"""The benchmark of updates: a round of it, small, against the code itself."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "scripts" / "benchmarks" / "bench_updates.py"
OPTIONS = "--rounds 1 --steps 9 --batch-size 8 --width 8"


def bench(against: Path, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPT, "--against", against, *OPTIONS.split()]
    environment = os.environ | more
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment)


def test_both_sides_train_and_see_the_packages_that_python_sees(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        f"open({str(tmp_path / 'seen')!r}, 'a').write('python ')"
    )
    done = bench(SCRIPT.parents[2], PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    numbers = re.search(r"round 1: (\S+) and (\S+) images/s, (\S+) times", done.stdout)
    assert numbers is not None
    before, now, ratio = map(float, numbers.groups())
    assert 0.9 * now / before < ratio < 1.1 * now / before
    assert (tmp_path / "seen").read_text().split() == ["python"] * 3  # itself and two sides


def test_why_a_side_fails_is_told(tmp_path: Path) -> None:
    package = tmp_path / "ldf_video"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('no such luck')")
    done = bench(tmp_path)
    assert done.returncode != 0
    assert "no such luck" in done.stderr
