"""A top model and the frame model that decodes it as two ONNX graphs, which a page can run.

`block` makes the next block of latents from noise and from what the blocks before it left; `frames`
turns it into pixels. Between two calls the caller keeps the past and nothing else. A film begins
from a known past: its blocks go through `block` one after the other, and what they leave of less
than the whole window is not visible yet.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ldf_video.errors import LdfError
from ldf_video.models.condition import Condition
from ldf_video.models.flow import FlowTop
from ldf_video.models.frame import FrameModel
from ldf_video.models.solvers import integrate, renew
from ldf_video.models.steady_pass import SteadyPasses

NOT_SEEN = -1e9
"""Added to what attention makes of a frame of the past that is not there."""
BlockCall = Callable[[dict[str, Tensor]], Sequence[Tensor]]
EXTRA = "pip install 'ldf-video[export]'"


class BlockGraph(nn.Module):
    """The next block of a film that has a past.

    Shapes, with `block` frames of `size` numbers, a past of `reach` frames, `passes` passes:

        newest  (1, block, size)          the block before, standardised
        noise   (passes, 1, block, size)  N(0, 1), mixed as `FlowNetwork.mixed` says
        visible (2, reach)                0 where a frame of the past is there, else NOT_SEEN: of
                                          the past, and of the past with the newest block
        told    (2, 1, block, columns)    conditions of both blocks, where there are columns
        past                              keys and values of each layer
        ->
        tokens  (1, block, size)          the block, standardised
        latents (block, C, H, W)          the same as the frame model knows it
        and the past of the block after it
    """

    def __init__(self, flow: FlowTop) -> None:
        super().__init__()
        self.flow, self.steady = flow, SteadyPasses(flow, Condition.of(1))

    def forward(
        self, newest: Tensor, noise: Tensor, visible: Tensor, *others: Tensor
    ) -> tuple[Tensor, ...]:
        c, told, rest = self.flow.config, None, list(others)
        if self.flow.columns:
            of_blocks, *rest = rest
            told = Condition.of(1, values=of_blocks[0]), Condition.of(1, values=of_blocks[1])
        past = list(zip(rest[::2], rest[1::2], strict=True))
        velocity = self.steady.after(newest, past, told=told, visible=visible)
        draws = iter(noise)
        levels = self.flow.sampling_levels(c.sampling_steps)
        if c.renewed:
            tokens = renew(lambda: next(draws), levels, velocity)
        else:
            tokens = integrate(next(draws), levels, velocity)
        latents = self.flow.restore(tokens).flatten(0, 1)
        return tokens, latents, *(part for pair in velocity.past for part in pair)


class FramesGraph(nn.Module):
    """Latents (block, C, H, W) -> pixels (block, H, W, 3), uint8, as `from_model` rounds them."""

    def __init__(self, frame: FrameModel) -> None:
        super().__init__()
        self.frame = frame

    def forward(self, latents: Tensor) -> Tensor:
        levels = self.frame.decode(latents).add(1).mul(127.5).round().clamp(0, 255)
        return levels.to(torch.uint8).permute(0, 2, 3, 1)


@dataclass(frozen=True)
class Graphs:
    """What a page needs to make a film.

    Attributes:
        block: an ONNX model.
        frames: another one.
        layers: names of the tensors that are kept from block to block; each comes out as `next_`.
        kept_shape: of each of them.
        passes: for which noise is needed.
    """

    block: bytes
    frames: bytes
    layers: tuple[str, ...]
    kept_shape: tuple[int, ...]
    passes: int


def make_graphs(flow: FlowTop, frame: FrameModel) -> Graphs:
    """Both graphs, of a flow that keeps its past.

    Raises:
        LdfError: what exports them is not installed.
    """
    c = flow.config
    names = tuple(f"{part}_{layer}" for layer in range(c.depth) for part in ("keys", "values"))
    kept_shape = (1, c.heads, c.reach * c.patches, c.width // c.heads)
    passes = c.sampling_steps if c.renewed else 1
    size = flow.latent_mean.numel()
    inputs = {
        "newest": torch.zeros(1, c.block, size),
        "noise": torch.zeros(passes, 1, c.block, size),
        "visible": torch.zeros(2, c.reach),
    }
    if flow.columns:
        inputs["told"] = torch.zeros(2, 1, c.block, len(flow.columns))
    inputs |= {name: torch.zeros(kept_shape) for name in names}
    outputs = ["tokens", "latents", *(f"next_{name}" for name in names)]
    block = _export(BlockGraph(flow), inputs, outputs)
    latents = {"latents": torch.zeros(c.block, *c.latent_shape)}
    frames = _export(FramesGraph(frame), latents, ["frames"])
    return Graphs(block, frames, names, kept_shape, passes)


def _export(module: nn.Module, inputs: dict[str, Tensor], outputs: Sequence[str]) -> bytes:
    usual = logging.root.manager.disable
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter
        logging.disable(logging.WARNING)  # it logs that there is no torchvision, which it can use
        try:
            program = torch.onnx.export(
                module.eval(),
                tuple(inputs.values()),
                input_names=list(inputs),
                output_names=list(outputs),
                dynamo=True,
                verbose=False,
            )
        except ImportError as error:
            raise LdfError(f"export needs a package that is not here ({error}): {EXTRA}") from None
        finally:
            logging.disable(usual)
    assert program is not None
    return bytes(program.model_proto.SerializeToString())


# -- a film as a page makes it -------------------------------------------------------------------


class Chance:
    """Normal numbers that `Chance` in `local.js` draws for the same seed.

    mulberry32 (Tommy Ettinger, public domain), and the transform of Box and Muller.
    """

    def __init__(self, seed: int) -> None:
        self._state = seed & 0xFFFFFFFF

    def _uniform(self) -> float:
        mask = 0xFFFFFFFF
        self._state = (self._state + 0x6D2B79F5) & mask
        t = self._state
        t = ((t ^ (t >> 15)) * (t | 1)) & mask
        t ^= (t + (t ^ (t >> 7)) * (t | 61)) & mask
        return ((t ^ (t >> 14)) + 1) / 2**32

    def normal(self, count: int) -> npt.NDArray[np.float32]:
        """(count,) numbers; an odd count leaves one of the last pair out."""
        draws = np.array([self._uniform() for _ in range(count + count % 2)]).reshape(-1, 2)
        radius, angle = np.sqrt(-2 * np.log(draws[:, 0])), 2 * np.pi * draws[:, 1]
        pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
        return pairs.astype(np.float32).reshape(-1)[:count]

    def noise(self, flow: FlowTop, passes: int) -> Tensor:
        """For a block, (passes, 1, block, size)."""
        block, size = flow.config.block, flow.latent_mean.numel()
        drawn = [self.normal((1 + block) * size).reshape(1 + block, size) for _ in range(passes)]
        e = torch.from_numpy(np.stack(drawn))[:, None]
        return flow.mixed(e[..., :1, :], e[..., 1:, :])


class GraphFilm:
    """A film by a block graph, as the page makes it: from a known past, then from chance alone."""

    def __init__(self, block: BlockCall, flow: FlowTop, graphs: Graphs, known: Tensor) -> None:
        """Go on from `known`, standardised, (frames, size), whole blocks, at most a window.

        `block` runs the graph: from inputs by name to outputs in order.
        """
        self._block, self._flow, self._graphs = block, flow, graphs
        self._past = {name: torch.zeros(graphs.kept_shape) for name in graphs.layers}
        self._seen, self._told = 0, self._unknown()
        first, *others = known.split(flow.config.block)
        self._newest = first[None]
        for tokens in others:
            self.make(torch.zeros(graphs.passes, 1, *first.shape), None)
            self._newest = tokens[None]

    def make(self, noise: Tensor, told: Tensor | None) -> Tensor:
        """Latents (block, C, H, W) of the next block; `told` is (1, block, columns), or unknown."""
        c = self._flow.config
        visible = torch.zeros(2, c.reach)
        visible[0, : max(0, c.reach - self._seen)] = NOT_SEEN
        visible[1, : max(0, c.reach - self._seen - c.block)] = NOT_SEEN
        inputs = {"newest": self._newest, "noise": noise, "visible": visible}
        told = self._unknown() if told is None else told
        if self._flow.columns:
            inputs["told"] = torch.stack([self._told, told])
        self._newest, latents, *past = self._block(inputs | self._past)
        self._past = dict(zip(self._graphs.layers, past, strict=True))
        self._seen, self._told = min(self._seen + c.block, c.reach), told
        return latents

    def _unknown(self) -> Tensor:
        return torch.full((1, self._flow.config.block, len(self._flow.columns)), torch.nan)
