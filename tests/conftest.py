"""What every test shares: one thread, and no chance that leaks from one test into another."""

from __future__ import annotations

import os
import random
import signal
import sys
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded: tiny networks, equal sums

import numpy as np
import pytest

from ldf_video.intake import ingest
from ldf_video.readers import clips

if TYPE_CHECKING:
    from collections.abc import Iterator

# A shell starts what it puts in the background deaf to Ctrl-C, which some tests send; what a test
# starts hears it again too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_leaking_chance() -> Iterator[None]:
    """Fail where Python's or numpy's global generator is used; give each test torch's unused.

    Torch's own is set back instead: every fresh network takes its weights from it.
    """
    python, numpy = random.getstate(), np.random.get_state()[1].tobytes()
    torch = sys.modules.get("torch")
    before = None if torch is None else torch.get_rng_state()
    yield
    assert random.getstate() == python, "the test moved Python's global generator"
    assert np.random.get_state()[1].tobytes() == numpy, "the test moved numpy's global generator"
    if torch is not None:
        torch.set_rng_state(before)


@pytest.fixture(autouse=True)
def _read_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read in this process where a test does not say how many others do: they take long to start.

    Commands that tests run as processes of their own choose by themselves, as for a user.
    """
    kept = ingest.choose_workers

    def choose(asked: int | None, *, num_sources: int) -> int:
        return 0 if asked is None else kept(asked, num_sources=num_sources)

    monkeypatch.setattr(ingest, "choose_workers", choose)
    monkeypatch.setattr(clips, "NUM_READERS", 0)
