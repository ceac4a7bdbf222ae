"""Which variables of a cluster mean that this process is one of several."""

from __future__ import annotations

import pytest
from launch_variables import as_launched

from ldf_video import cli
from ldf_video.launch import VARIABLES, launched
from ldf_video.runs.devices import num_cores
from ldf_video.training.ranks import Ranks, check_alone, join_ranks


def test_what_a_launcher_sets_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    as_launched(monkeypatch, rank=1, count=4)
    assert launched() == (1, 4)


@pytest.mark.parametrize("missing", VARIABLES)
def test_a_part_of_it_is_left_over_and_means_one_process(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    as_launched(monkeypatch, rank=1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "64")
    monkeypatch.delenv(missing)
    assert launched() == (0, 1)
    assert join_ranks("cpu") == Ranks()
    check_alone("generate")
    here = num_cores()
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    assert num_cores() == here


@pytest.mark.parametrize("value", ["", "-1", "two", "9"])
def test_nonsense_means_one_process(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    as_launched(monkeypatch, rank=1)
    monkeypatch.setenv("RANK", value)
    assert launched() == (0, 1)


def test_of_several_processes_the_first_speaks(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for rank in (0, 1):
        as_launched(monkeypatch, rank=rank)
        cli._echo_once(f"said by {rank}")
    assert capfd.readouterr().out == "said by 0\n"
