"""Statistics over processes where there is one alone; test_processes.py has two real ones."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from ldf_video.models.layers import apart, gathered, joined, mean_over_processes


def test_of_one_process_everything_is_the_identity() -> None:
    x = torch.randn(4, 3, requires_grad=True)
    assert joined() == 1
    assert gathered(x) is x
    assert mean_over_processes(x) is x


def test_apart_a_process_is_alone_and_joined_again_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 3)
    assert joined() == 3
    with apart():
        with apart():
            assert joined() == 1
        assert joined() == 1
        assert mean_over_processes(x := torch.ones(2)) is x  # waits for nobody
    assert joined() == 3
    with pytest.raises(RuntimeError, match="on the way"), apart():
        raise RuntimeError("on the way")
    assert joined() == 3
