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

import torch
from torch import Tensor

from ldf_video.models.game import Logs, StaticNoise
from ldf_video.training.config import TrainConfig
from ldf_video.training.ranks import Ranks
from ldf_video.training.update import Players, Update

Perform = Callable[[], Tensor]
REHEARSALS = 2
"""Updates of a kind that run as they are before one is recorded: libraries choose their kernels."""


class CudaGraphs:
    """Records CUDA graphs, which share their memory: they are never played at the same time."""

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()
        self.clear()

    def rehearse(self, perform: Perform) -> Tensor:
        """Do the work as it will be recorded, on the stream of the recording."""
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            result = perform()
        current.wait_stream(self._stream)
        return result

    def record(self, perform: Perform) -> Perform:
        """Record the work without doing it; what does it again, into the same result.

        Raises:
            RuntimeError: it cannot be recorded.
        """
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
        """All recordings are dropped: a pool that lost its last graph is not used again."""
        self._pool = torch.cuda.graph_pool_handle()

    def _abandon(self) -> None:
        """Take the allocator out of a capture that failed; torch before 2.12 leaves it there.

        Where torch has done so, the first call says that there is none, and the second is not due.
        """
        device = torch.cuda.current_device()
        with contextlib.suppress(RuntimeError):
            torch._C._cuda_endAllocateToPool(device, self._pool)
            torch._C._cuda_releasePool(device, self._pool)


def find_recorder(device: str, config: TrainConfig, ranks: Ranks) -> CudaGraphs | None:
    """The recorder for a training, if its updates can be recorded at all.

    fp16's scaler decides on the host whether weights move, 8-bit Adam counts its steps there, and
    several processes wait for each other in between.
    """
    whole = ranks.count == 1 and config.mixed_precision != "fp16" and config.optimizer != "adam8bit"
    return CudaGraphs() if whole and device == "cuda" else None


class Recordings:
    """Does updates in the place of `Players`, from a recording of their kind where there is one.

    Attributes:
        trouble: why updates are not recorded any more, if so.
    """

    def __init__(self, players: Players, recorder: CudaGraphs, say: Callable[[str], None]) -> None:
        """Record updates of `players`, whose optimizers were made for it; `say` what goes wrong."""
        self._players, self._recorder, self._say = players, recorder, say
        self._recordings: dict[Hashable, _Recording] = {}
        self.trouble: str | None = None

    def forget(self) -> None:
        """Drop all recordings: weights or optimizers stand elsewhere now."""
        self._erase()
        self._recordings.clear()

    def _erase(self) -> None:
        """Drop what was recorded and give its memory back; it is recorded again when it is due."""
        for recording in self._recordings.values():
            recording.play_back = None
        self._players.game.zero_grad(set_to_none=True)  # gradients lie in that memory
        self._recorder.clear()

    def update(self, update: Update) -> Logs:
        """Do an update; its logs."""
        if update.kind is None or self.trouble:
            return self._players.update(update)
        if update.kind not in self._recordings:
            self._recordings[update.kind] = _Recording(self._players, update)
        recording = self._recordings[update.kind]
        if recording.rehearsals < REHEARSALS:
            # That takes memory of its own. Beside recordings an update would need twice as much:
            # whoever joins a training halfway would break it.
            self._erase()
            recording.rehearsals += 1
            recording.set(update)
            return recording.named(self._recorder.rehearse(recording.perform))
        recording.set(update)
        if recording.play_back is None:
            self._players.game.zero_grad(set_to_none=True)
            try:
                recording.play_back = self._recorder.record(recording.perform)
            except RuntimeError as error:  # no weight has moved
                self.trouble = " ".join(str(error).split())[:160]
                self._say(f"updates cannot be recorded here, so they are slower: {self.trouble}")
        if recording.play_back is None:
            self.forget()
            return self._players.update(update)
        return recording.named(recording.play_back().clone())  # the next one writes over it


class _Recording:
    """Updates of one kind: what they are a function of, in memory that stays where it is.

    Attributes:
        rehearsals: that were done.
        play_back: does the update that was set again; None until it is recorded.
    """

    def __init__(self, players: Players, update: Update) -> None:
        self._players = players
        self._progress = torch.zeros((), dtype=torch.float64, device=players.device)
        self._batches = [torch.empty_like(batch) for batch in update.batches]
        self._noises = [[StaticNoise(0, part) for part in players.parts] for _ in update.noises]
        self._update = replace(
            update, batches=self._batches, noises=self._noises, progress=self._progress
        )
        self._names: list[str] = []
        self.rehearsals = 0
        self.play_back: Perform | None = None

    def set(self, update: Update) -> None:
        """Write what an update is a function of to where it is read."""
        for static, batch in zip(self._batches, update.batches, strict=True):
            static.copy_(batch)
        for static_noises, noises in zip(self._noises, update.noises, strict=True):
            for static_noise, noise in zip(static_noises, noises, strict=True):
                static_noise.renew(noise.seed)
        self._progress.fill_(update.progress)

    def perform(self) -> Tensor:
        """All steps; the values that they log, (number of values,)."""
        with warnings.catch_warnings():  # of optimizers that are made for it and rehearse
            warnings.filterwarnings("ignore", message=".*capturable=True")
            logs = self._players.update(self._update)
        self._names = list(logs)
        return torch.stack([value.float() for value in logs.values()])

    def named(self, values: Tensor) -> Logs:
        """The values that `perform` gave, by their names."""
        return dict(zip(self._names, values.unbind(), strict=True))
