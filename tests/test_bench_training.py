"""The benchmark of train-frame's memory and time: two rows of it, small."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "benchmarks" / "bench_training.py"


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_rows_have_memory_time_and_state() -> None:
    options = "--size 16 --batch-size 8 --steps 6 --only 0 1"
    done = subprocess.run(
        [sys.executable, SCRIPT, *options.split()], capture_output=True, text=True, check=True
    )
    rows = [[c.strip() for c in row[1:-1].split("|")] for row in done.stdout.splitlines()[-2:]]
    for _, peak_mib, _, _, seconds, _, _ in rows:
        assert 100 < float(peak_mib) < 4000  # torch is in it
        assert float(seconds) > 0
    (usual, _, ratio, _, _, time_ratio, state), (adam, _, _, _, _, _, other) = rows
    assert (usual, adam) == ("as it is", "--optimizer adam")
    assert (ratio, time_ratio) == ("1.00", "1.00")
    assert float(other) == pytest.approx(8, abs=0.1)  # Adam's two moments in float32
    assert 4 < float(state) < 7  # one of Muon's, and two of D's
