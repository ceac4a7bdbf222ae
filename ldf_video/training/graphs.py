"""Updates that are recorded once and played back, so that no step is bound by kernel launches.

An update of a small network is some thousand kernels of a few microseconds each, and Python takes
longer to launch them than a GPU to run them. A CUDA graph launches all of them at once. What is
recorded are addresses: batch, noise, learning rates and the progress of the schedules stand in
memory that stays where it is, and are written there before each playback. An update of each kind
(`Game.kind`) has a recording of its own: whole, with backward passes, the regularizer's second one,
optimizers and all.
"""

from __future__ import annotations

import contextlib
import gc
import warnings
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from ldf_video.models.game import Logs, StaticNoise
from ldf_video.training.config import TrainConfig
from ldf_video.training.ranks import Ranks
from ldf_video.training.update import Players, Update

Perform = Callable[[], Tensor]
REHEARSALS = 2
"""Updates of a kind that run as they are before one is recorded: libraries choose their kernels."""


class Recorder(Protocol):
    """What records work on a device."""

    def rehearse(self, perform: Perform) -> Tensor:
        """Do the work as it will be recorded, without recording it."""
        ...

    def record(self, perform: Perform) -> Perform:
        """Record the work without doing it; what does it again, into the same result.

        Raises:
            RuntimeError: it cannot be recorded.
        """
        ...

    def clear(self) -> None:
        """All recordings are dropped: the memory that they shared is free."""
        ...


class CudaGraphs:
    """Records CUDA graphs, which share their memory: they are never played at the same time."""

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()
        self.clear()

    def rehearse(self, perform: Perform) -> Tensor:
        """On the stream of the recording."""
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            result = perform()
        current.wait_stream(self._stream)
        return result

    def record(self, perform: Perform) -> Perform:
        """Memory that is free is given back to the device before."""
        gc.collect()  # an old graph that Python drops in the middle of a capture would end it
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        trouble: str | None = None
        try:
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                result = perform()
        except RuntimeError as error:
            trouble = str(error.__context__ or error)  # the first is why, the last says that
        if trouble is not None:  # by now nothing holds what the capture had made
            torch.cuda.set_stream(current)  # which a capture that fails at its end leaves changed
            self._abandon()
            raise RuntimeError(trouble)

        def again() -> Tensor:
            graph.replay()
            return result

        return again

    def clear(self) -> None:
        """A pool that lost its last graph is not to be used again."""
        self._pool = torch.cuda.graph_pool_handle()

    def _abandon(self) -> None:
        """Take the allocator out of a capture that failed; torch before 2.12 leaves it there.

        Where torch has done so, the first call says that there is none, and the second is not due.
        """
        device = torch.cuda.current_device()
        with contextlib.suppress(RuntimeError):
            torch._C._cuda_endAllocateToPool(device, self._pool)
            torch._C._cuda_releasePool(device, self._pool)


def find_recorder(device: str, config: TrainConfig, ranks: Ranks) -> Recorder | None:
    """The recorder for a training, if its updates can be recorded at all.

    fp16's scaler decides on the host whether weights move, 8-bit Adam counts its steps there, and
    several processes wait for each other in between.
    """
    whole = ranks.count == 1 and config.mixed_precision != "fp16" and config.optimizer != "adam8bit"
    return CudaGraphs() if whole and device == "cuda" else None


class Recordings:
    """Does updates, from a recording of their kind where there is one.

    Attributes:
        trouble: why updates are not recorded any more, if so.
    """

    def __init__(self, players: Players, recorder: Recorder, *, device: torch.device) -> None:
        """Args: who plays, with optimizers made to be recorded; what records; where."""
        self._players, self._recorder, self._device = players, recorder, device
        self._scenes: dict[Hashable, _Scene] = {}
        self.trouble: str | None = None
        self._told = False

    def news(self) -> str | None:
        """What has just gone wrong, for people, once."""
        if self.trouble is None or self._told:
            return None
        self._told = True
        return f"updates cannot be recorded here, so they are slower: {self.trouble}"

    def forget(self) -> None:
        """Drop all recordings: weights or optimizers stand elsewhere now."""
        self._erase()
        self._scenes.clear()

    def _erase(self) -> None:
        """Drop what was recorded and give its memory back; it is recorded again when it is due."""
        for scene in self._scenes.values():
            scene.erase()
        self._players.game.zero_grad(set_to_none=True)  # gradients lie in that memory
        self._recorder.clear()

    def update(self, update: Update) -> Logs:
        """Do an update; its logs."""
        if update.kind is None or self.trouble:
            return self._players.update(update)
        scene = self._scenes.get(update.kind)
        if scene is None:
            scene = self._scenes[update.kind] = _Scene(self._players, update, device=self._device)
        if scene.rehearses:
            # That takes memory of its own. Beside recordings an update would need twice as much:
            # whoever joins a training halfway would break it.
            self._erase()
        self._players.set_rates(update)
        scene.set(update)
        try:
            return scene.play(self._recorder)
        except RecordingError as error:
            self.trouble = str(error)
        self.forget()
        return self._players.update(update)


class RecordingError(RuntimeError):
    """An update could not be recorded; no weight has moved."""


class _Scene:
    """Updates of one kind: what they are a function of, in memory that stays where it is."""

    def __init__(self, players: Players, update: Update, *, device: torch.device) -> None:
        self._players, self._kind_of = players, replace(update, batches=())
        self._batches = [torch.empty_like(batch) for batch in update.batches]
        self._noises = [[StaticNoise(0, part) for part in players.parts] for _ in update.seeds]
        self._share = torch.zeros((), dtype=torch.float64, device=device)
        self._names: list[str] = []
        self._rehearsals = 0
        self._again: Perform | None = None

    def set(self, update: Update) -> None:
        """Write what an update is a function of to where it is read."""
        for mine, batch in zip(self._batches, update.batches, strict=True):
            mine.copy_(batch)
        for noises, seed in zip(self._noises, update.seeds, strict=True):
            for noise in noises:
                noise.renew(seed)
        self._share.fill_(update.progress)

    @property
    def rehearses(self) -> bool:
        """Whether the next update is still a rehearsal."""
        return self._rehearsals < REHEARSALS

    def erase(self) -> None:
        """Drop the recording, if there is one."""
        self._again = None

    def play(self, recorder: Recorder) -> Logs:
        """Do the update that was set.

        Raises:
            RecordingError: it cannot be recorded.
        """
        if self.rehearses:
            self._rehearsals += 1
            return self._named(recorder.rehearse(self._perform))
        if self._again is None:
            self._players.game.zero_grad(set_to_none=True)
            try:
                self._again = recorder.record(self._perform)
            except RuntimeError as error:
                raise RecordingError(" ".join(str(error).split())[:160]) from error
        return self._named(self._again().clone())  # the next playback writes over it

    def _perform(self) -> Tensor:
        """All steps; the values that they log, (number of values,)."""
        with warnings.catch_warnings():  # of optimizers that are made for it and rehearse
            warnings.filterwarnings("ignore", message=".*capturable=True")
            logs = self._players.play(
                self._kind_of, self._batches, noises=self._noises, share=self._share
            )
        self._names = list(logs)
        return torch.stack([value.float() for value in logs.values()])

    def _named(self, values: Tensor) -> Logs:
        return dict(zip(self._names, values.unbind(), strict=True))
