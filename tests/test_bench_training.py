"""The benchmark of train-frame's memory and time: one row of it, small."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "bench_training.py"


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_row_has_memory_time_and_state() -> None:
    options = "--size 16 --batch-size 8 --steps 6 --only 0"
    done = subprocess.run(
        [sys.executable, SCRIPT, *options.split()], capture_output=True, text=True, check=True
    )
    *_, row = done.stdout.splitlines()
    name, peak_mib, ratio, _, seconds, time_ratio, state = (c.strip() for c in row[1:-1].split("|"))
    assert name == "as it is"
    assert 100 < float(peak_mib) < 4000  # torch is in it
    assert float(seconds) > 0
    assert (ratio, time_ratio) == ("1.00", "1.00")
    assert float(state) == pytest.approx(8, abs=0.1)  # Adam's two moments in float32
