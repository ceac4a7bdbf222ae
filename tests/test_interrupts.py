"""SIGTERM and SIGHUP are as Ctrl-C; between updates all wait; a caller's handlers stay.

And which variables of a cluster mean that this process is one of several.
"""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import pytest
from launch_variables import as_launched

from ldf_video import cli
from ldf_video.interrupts import LAUNCH_VARIABLES, Stopped, interrupts_held, launched, stops_raised
from ldf_video.runs.command import num_cores
from ldf_video.training.ranks import Ranks, check_alone, join_ranks

if TYPE_CHECKING:
    from collections.abc import Iterator

BOTH = [signal.SIGTERM, signal.SIGHUP]
ALL = [signal.SIGINT, *BOTH]


@pytest.fixture(autouse=True)
def _usual_handlers() -> Iterator[None]:
    """As in a fresh process, whatever the tests were started by."""
    before = {number: signal.getsignal(number) for number in ALL}
    for number in BOTH:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in ALL]


@pytest.mark.parametrize("number", BOTH)
def test_a_signal_is_raised_once_and_what_was_set_is_put_back(number: int) -> None:
    def stopped() -> None:
        with stops_raised():
            try:
                signal.raise_signal(number)
            finally:  # a shell and the kernel both say that the terminal is gone
                for other in BOTH:
                    signal.raise_signal(other)

    before = handlers()
    with pytest.raises(KeyboardInterrupt) as stop:
        stopped()
    assert isinstance(stop.value, Stopped)
    assert stop.value.number == number
    assert handlers() == before


@pytest.mark.parametrize("number", ALL)
def test_what_waits_is_raised_at_the_end(number: int) -> None:
    def held() -> None:
        with stops_raised(), interrupts_held() as interrupts:
            seen.append(interrupts.waiting)
            signal.raise_signal(number)
            for other in BOTH:  # of a launcher that ends all, say
                signal.raise_signal(other)
            seen.append(interrupts.waiting)

    seen: list[bool] = []
    before = handlers()
    with pytest.raises(KeyboardInterrupt) as stop:
        held()
    assert seen == [False, True]
    assert getattr(stop.value, "number", signal.SIGINT) == number
    assert handlers() == before


def test_the_second_ctrl_c_comes_through_at_once() -> None:
    def held() -> None:
        with interrupts_held():
            signal.raise_signal(signal.SIGINT)
            seen.append(1)
            signal.raise_signal(signal.SIGINT)
            seen.append(2)

    seen: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        held()
    assert seen == [1]


def test_a_launcher_s_second_ctrl_c_is_the_same_wish(monkeypatch: pytest.MonkeyPatch) -> None:
    """It passes on the one that its processes had from the terminal."""

    def held() -> None:
        with stops_raised(), interrupts_held():
            for place in (1, 2, 3):
                signal.raise_signal(signal.SIGINT)
                seen.append(place)

    def raised() -> None:
        with stops_raised():
            try:
                signal.raise_signal(signal.SIGINT)
            finally:
                signal.raise_signal(signal.SIGINT)
                seen.append(4)

    as_launched(monkeypatch, rank=0)
    seen: list[int] = []
    before = handlers()
    for work in (held, raised):
        with pytest.raises(KeyboardInterrupt):
            work()
    assert seen == [1, 2, 3, 4]
    assert handlers() == before


@pytest.mark.parametrize("own", [signal.SIG_IGN, lambda number, frame: None])
def test_what_a_caller_ignores_or_handles_stays(own: object) -> None:
    for number in ALL:
        signal.signal(number, own)  # type: ignore[arg-type]
    with stops_raised(), interrupts_held() as interrupts:
        assert handlers() == [own] * 3
        for number in ALL:
            signal.raise_signal(number)
        assert not interrupts.waiting


def test_another_thread_sets_none() -> None:
    seen, before = [], handlers()

    def work() -> None:
        with stops_raised(), interrupts_held():
            seen.append(handlers())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


# Whether a launcher started this process


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, text) for name in LAUNCH_VARIABLES for text in (None, "")),
        *(("RANK", text) for text in ("-1", "two", "9")),
    ],
)
def test_what_is_left_over_of_a_launch_means_one_process(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str | None
) -> None:
    as_launched(monkeypatch, rank=1)
    assert launched() == (1, 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "64")
    monkeypatch.delenv(name)
    if value is not None:
        monkeypatch.setenv(name, value)
    assert launched() == (0, 1)
    assert join_ranks("cpu") == Ranks()
    check_alone("generate")
    here = num_cores()
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    assert num_cores() == here


def test_of_several_processes_the_first_speaks(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for rank in (0, 1):
        as_launched(monkeypatch, rank=rank)
        cli._echo_once(f"said by {rank}")
    assert capfd.readouterr().out == "said by 0\n"
