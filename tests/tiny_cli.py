"""`ldf-video` with tiny networks, and a signal to itself at a chosen moment.

    python tiny_cli.py ARGUMENTS... [+ ARGUMENTS...]

`TINY_SIGNAL=SIGKILL:3` sends the signal once three batches are encoded, or in the middle of the
fourth update of a training. States are saved after every update, and rows after every batch. Of
several processes it goes to that of the rank `TINY_RANK`, 0 by default.
"""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from ldf_video.cli import app, leave
from ldf_video.models import build
from ldf_video.models.ali import AliConfig
from ldf_video.models.flow import FlowConfig
from ldf_video.models.grid import GridConfig
from ldf_video.models.mlp import MlpConfig
from ldf_video.pipelines import frame_encoder, ingest, train_frame
from ldf_video.training import ema, loop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SMALL_FRAME = {"base_width": 8, "critic_width": 8, "depth": 1}
SMALL_FLOW = {"width": 32, "depth": 2, "heads": 2, "sampling_steps": 3}
SMALL_ALI = {"base_width": 4, "latent_channels": 8}
SMALL_MLP = {"width": 32, "noise_size": 16}


def shrink(set_attribute: Callable[[Any, str, Any], None]) -> None:
    """Make fresh models tiny; what a config says still counts."""
    set_attribute(build, "GridConfig", partial(GridConfig, **SMALL_FRAME))
    set_attribute(build, "FlowConfig", partial(FlowConfig, **SMALL_FLOW))
    set_attribute(build, "AliConfig", partial(AliConfig, **SMALL_ALI))
    set_attribute(build, "MlpConfig", partial(MlpConfig, **SMALL_MLP))
    always = partial(loop.Cadence, save_seconds=-1.0, log_steps=1)
    set_attribute(loop, "Cadence", always)
    set_attribute(train_frame, "Cadence", always)


def signal_after(number: int, count: int) -> None:
    """Send this process a signal when batch or update number `count` is under way."""
    left = [count]

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), number)
            return function(*arguments, **options)

        return call

    encoder = frame_encoder.FrameEncoder
    encoder.__call__ = counted(encoder.__call__)  # type: ignore[method-assign]
    ema.Average.update = counted(ema.Average.update)  # type: ignore[method-assign]
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
        signal_after(signal.Signals[name], int(count))
    for command in commands(sys.argv[1:]):
        try:
            app(command)
        except SystemExit as end:
            if end.code:
                leave(int(end.code))
    leave(0)
