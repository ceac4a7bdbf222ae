"""`ldf-video` with tiny networks, and a signal to itself at a chosen moment.

    python tiny_cli.py ARGUMENTS... [+ ARGUMENTS...]

`TINY_SIGNAL=SIGKILL:3` sends the signal once: when three batches are in the store and the fourth is
being encoded, or in the middle of the fourth update of a training. States are saved after every
update, rows after every batch. Of several processes it goes to that of the rank `TINY_RANK`, 0 by
default.
"""

from __future__ import annotations

import itertools
import math
import os
import signal
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from ldf_video.cli import app, leave
from ldf_video.intake import batches, frame_encoder, ingest
from ldf_video.models import build
from ldf_video.models.ali import AliConfig
from ldf_video.models.flow_config import FlowConfig
from ldf_video.models.grid import GridConfig
from ldf_video.models.mlp import MlpConfig
from ldf_video.training import loop, optim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SMALL_FRAME = {"base_width": 8, "critic_width": 8, "depth": 1}
SMALL_FLOW = {
    "width": 32,
    "depth": 2,
    "heads": 2,
    "local_width": 8,
    "sampling_steps": 3,
    "first_steps": 3,
}
SMALL_ALI = {"base_width": 4, "latent_channels": 8}
SMALL_MLP = {"width": 32, "noise_size": 16}


def shrink(set_attribute: Callable[[Any, str, Any], None]) -> None:
    """Make fresh models tiny; what a config says still counts."""
    set_attribute(build, "GridConfig", partial(GridConfig, **SMALL_FRAME))
    set_attribute(build, "FlowConfig", partial(FlowConfig, **SMALL_FLOW))
    set_attribute(build, "AliConfig", partial(AliConfig, **SMALL_ALI))
    set_attribute(build, "MlpConfig", partial(MlpConfig, **SMALL_MLP))
    set_attribute(loop, "Cadence", partial(loop.Cadence, save_seconds=-1.0, log_steps=1))


def signal_after(number: int, count: int) -> None:
    """Send this process a signal when batch or update number `count` is under way.

    One batch is encoded at a time, and batches go when they are full, however slow the machine. The
    signal waits until those before are stored: one that cuts a commit leaves nothing of it.
    """
    stored = threading.Semaphore(0)

    def when_due(function: Callable[..., Any], *, wait: Callable[[], Any]) -> Callable[..., Any]:
        calls = itertools.count()

        def call(*arguments: Any, **options: Any) -> Any:
            if next(calls) == count:
                wait()
                os.kill(os.getpid(), number)
            return function(*arguments, **options)

        return call

    def counted(deliver: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        def call(*arguments: Any) -> Iterator[Any]:
            yield from deliver(*arguments)
            stored.release()

        return call

    def all_before() -> None:
        for _ in range(count):
            stored.acquire()

    encoder, batcher, average = frame_encoder.FrameEncoder, batches._Batcher, optim.Average
    encoder.__call__ = when_due(encoder.__call__, wait=all_before)  # type: ignore[method-assign]
    batcher._deliver = counted(batcher._deliver)  # type: ignore[method-assign]
    average.update = when_due(average.update, wait=lambda: None)  # type: ignore[method-assign]
    frame_encoder._choose_lanes = lambda device: 1
    batches.FLUSH_SECONDS = math.inf
    ingest.StoreWriter = partial(ingest.StoreWriter, commit_seconds=0.0)  # type: ignore[misc]


def commands(arguments: list[str]) -> Iterator[list[str]]:
    """What stands between each two `+`."""
    while "+" in arguments:
        at = arguments.index("+")
        yield arguments[:at]
        arguments = arguments[at + 1 :]
    yield arguments


if __name__ == "__main__":
    shrink(setattr)
    ours = os.environ.get("TINY_RANK", "0") == os.environ.get("RANK", "0")
    if ours and "TINY_SIGNAL" in os.environ:
        name, _, count = os.environ["TINY_SIGNAL"].partition(":")
        if signal.getsignal(signal.Signals[name]) is signal.SIG_IGN:  # as nohup leaves SIGHUP
            signal.signal(signal.Signals[name], signal.SIG_DFL)
        signal_after(signal.Signals[name], int(count))
    for command in commands(sys.argv[1:]):
        try:
            app(command)
        except SystemExit as end:
            if end.code:
                leave(int(end.code))
    leave(0)
