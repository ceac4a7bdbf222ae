"""How many threads a training takes beside others, by a clock that the test moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from tiny_trainings import Killed, OneNumber, run, trainer_in

from ldf_video.training.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _threads_kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _trained(
    most: int, seconds_of: Callable[[float, int], float], until: float
) -> dict[int, float]:
    """Seconds by number of threads, where an update begun at a time by so many takes so long."""
    torch.set_num_threads(most)
    now, spent = 0.0, dict.fromkeys(range(1, most + 1), 0.0)
    threads = Threads(clock=lambda: now)
    while now < until:
        count, seconds = torch.get_num_threads(), seconds_of(now, torch.get_num_threads())
        assert count == threads.count
        with threads.watched():
            now += seconds
        spent[count] += seconds
    return spent


ALONE = {1: 0.26, 2: 0.15}
BESIDE = {1: 0.27, 2: 0.45}


def test_alone_a_training_takes_all_and_tries_one_for_a_twentieth_of_the_time() -> None:
    spent = _trained(2, lambda now, count: ALONE[count], until=600)
    assert 0 < spent[1] < 0.05 * 600


def test_beside_a_busy_process_it_takes_one_from_the_start() -> None:
    spent = _trained(2, lambda now, count: BESIDE[count], until=600)
    assert spent[2] < 0.1 * 600


def test_it_follows_a_neighbour_that_comes_and_goes() -> None:
    def seconds_of(now: float, count: int) -> float:
        return BESIDE[count] if 300 <= now < 600 else ALONE[count]

    before, during, whole = (_trained(2, seconds_of, until=end)[1] for end in (300, 600, 900))
    assert before < 20
    assert during - before > 240
    assert whole - during < 60


def test_of_eight_it_leaves_one_to_a_neighbour() -> None:
    spent = _trained(8, lambda now, count: 0.2 if count == 8 else 0.8 / count, until=600)
    assert spent[7] > 0.8 * 600


@pytest.mark.parametrize(
    ("budget", "said", "tried"),
    [
        ({"steps": None, "minutes": 1.0}, {}, {1, 2}),
        ({"steps": None, "minutes": 1.0}, {"OMP_NUM_THREADS": "2"}, {2}),
        ({"steps": None, "minutes": 1.0}, {"MKL_NUM_THREADS": "2"}, {2}),
        ({"steps": 1000}, {}, {2}),  # it is to repeat, whatever else runs meanwhile
    ],
)
def test_a_training_by_the_clock_chooses_where_the_user_did_not(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    budget: dict[str, float],
    said: dict[str, str],
    tried: set[int],
) -> None:
    torch.set_num_threads(2)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    trainer, seen = trainer_in(tmp_path, OneNumber([1.0] * 13), **budget), set[int]()

    def look(step: int) -> None:
        seen.add(torch.get_num_threads())
        if step == 12:
            raise Killed

    trainer.level.on_batch = look
    with pytest.raises(Killed):
        run(trainer)
    assert seen == tried
