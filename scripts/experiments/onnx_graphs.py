"""What ONNX Runtime would gain: the first pass of a block and decoding as graphs, in turns.

    pip install onnxruntime onnx onnxscript
    python scripts/experiments/onnx_graphs.py MODEL [--frames 3000] [--num-videos 1] [--rounds 3]

MODEL is a flow that keeps its past, such as a student of `train-top --few`. Exports both graphs and
prints how long that takes and how far their results are from torch's; then, round by round, frames
a second of sampling and decoding as `generate` does them, without the start of the process and
without writing, by torch and by graphs of one thread each. Models are loaded once and not timed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ldf_video.levels.latents import rolled_frames, video_generator
from ldf_video.models.flow import FlowTop
from ldf_video.models.frame import FrameModel
from ldf_video.models.rollout import Rollout
from ldf_video.models.steady_pass import Seen, SteadyBlock, SteadyPasses
from ldf_video.runs.zoo import find_model, frame_model_of, load_top_model

AT_ONCE = 16
"""Frames that are decoded together."""


class Pass(nn.Module):
    """A first pass from tensors to tensors."""

    def __init__(self, flow: FlowTop) -> None:
        super().__init__()
        self.flow, self.steady = flow, SteadyPasses(flow)

    def forward(self, newest: Tensor, x: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        pairs = list(zip(past[::2], past[1::2], strict=True))
        block = self.steady.after(newest, pairs)
        velocity = block(x, 1.0)
        return velocity, *(part for seen in block.seen for part in (*seen.past, seen.at_distance))


class Decoding(nn.Module):
    """Latents to frames."""

    def __init__(self, frame: FrameModel) -> None:
        super().__init__()
        self.frame = frame

    def forward(self, z: Tensor) -> Tensor:
        return self.frame.decode(z)


def graph(module: nn.Module, inputs: tuple[Tensor, ...]) -> Callable[..., list[Tensor]]:
    """A module as a graph for one thread; prints what it took and how exact it is."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path, begun = Path(folder) / "graph.onnx", time.perf_counter()
        torch.onnx.export(module, inputs, dynamo=True, verbose=False).save(path)
        exported = time.perf_counter()
        size = sum(file.stat().st_size for file in path.parent.iterdir())
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        loaded = time.perf_counter()
        wanted = module(*inputs)
    names = [each.name for each in session.get_inputs()]

    def run(*tensors: Tensor) -> list[Tensor]:
        feed = {name: x.numpy() for name, x in zip(names, tensors, strict=True)}
        return [torch.from_numpy(x) for x in session.run(None, feed)]

    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    errors = [(a - b).abs().max().item() for a, b in zip(wanted, run(*inputs), strict=True)]
    print(
        f"{type(module).__name__}: exported in {exported - begun:.1f} s, {size / 1e6:.1f} MB, "
        f"loaded in {loaded - exported:.2f} s, largest difference {max(errors):.1e}",
        flush=True,
    )
    return run


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description="Graphs of ONNX Runtime beside torch.")
    parser.add_argument("model")
    parser.add_argument("--frames", type=int, default=3000)
    parser.add_argument("--num-videos", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # of the exporter
    directory, _ = find_model(arguments.model, "top")
    loaded = load_top_model(directory, device="cpu")
    frame = frame_model_of(loaded.config, beside=directory, device="cpu").model
    top, n = loaded.model, arguments.num_videos
    if not isinstance(top, FlowTop) or not top.config.kept:
        raise SystemExit(f"{arguments.model}: expected a flow that keeps its past")
    c = top.config
    size = top.latent_mean.numel()
    past = (n, c.heads, c.reach * c.patches, c.width // c.heads)
    shapes = [(n, c.block, size)] * 2 + [past] * (2 * c.depth)
    steady = graph(Pass(top), tuple(torch.randn(shape) for shape in shapes))
    count = max(AT_ONCE, n * c.block)
    decoding = graph(Decoding(frame), (torch.randn(count, *c.latent_shape),))
    by_torch: tuple[Any, Any] = SteadyBlock.__call__, frame.decode

    def call(self: SteadyBlock, x: Tensor, level: float) -> Tensor:
        if self.seen[0].at_distance is not None:
            return by_torch[0](self, x, level)
        velocity, *found = steady(self.newest, x, *(part for pair in self.past for part in pair))
        parts = zip(found[::3], found[1::3], found[2::3], strict=True)
        self.seen = [Seen((keys, values), at_distance) for keys, values, at_distance in parts]
        return velocity

    def decode(z: Tensor) -> Tensor:
        return decoding(z)[0] if len(z) == count else by_torch[1](z)

    def rate() -> float:
        generators = [video_generator(0, number) for number in range(n)]
        begun = time.perf_counter()
        blocks = top.sample(Rollout(arguments.frames), generators)
        with rolled_frames(frame, blocks) as made:
            frames = sum(part.shape[0] * part.shape[1] for part in made)
        return frames / (time.perf_counter() - begun)

    rates = []
    for _ in range(arguments.rounds):
        pair = []
        for of_pass, of_latents in (by_torch, (call, decode)):
            SteadyBlock.__call__ = of_pass  # type: ignore[method-assign]
            frame.decode = of_latents  # type: ignore[method-assign]
            pair.append(rate())
        rates.append(pair)
        print(f"frames a second: torch {pair[0]:,.0f}, graphs {pair[1]:,.0f}", flush=True)
    gains = [with_graphs / without for without, with_graphs in rates]
    print(f"graphs: {statistics.median(gains):.2f} times as many frames a second as torch")


if __name__ == "__main__":
    main()
