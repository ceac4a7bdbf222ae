"""export: a top model and its frame model -> ONNX graphs, and one page that plays by itself."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ldf_video.errors import UsageError
from ldf_video.levels.latents import video_generator
from ldf_video.models.flow import FlowTop
from ldf_video.models.rollout import Rollout
from ldf_video.options.sampling import Export
from ldf_video.output import write_atomically
from ldf_video.playing.graphs import Graphs, make_graphs
from ldf_video.playing.html import LARGEST_BYTES, make_page, runtime_files, scales_of
from ldf_video.playing.keys import actions_of, rest_of
from ldf_video.progress import Progress
from ldf_video.recipes.ends import load_sampler, refuse_fixed, shown_rate
from ldf_video.runs.command import check_files, check_folders, out_of_memory, own_state
from ldf_video.runs.zoo import frame_model_of, known_name, named
from ldf_video.training.ranks import check_alone

GRAPHS = ("block.onnx", "frames.onnx")
SETTINGS, STARTS = "model.json", "starts.npy"
NUM_STARTS = 16
LARGE = 4096
"""Numbers of a weight that `--weights int8` stores in a byte each."""
MIB = 1 << 20


@dataclass(frozen=True)
class Exported:
    """What was exported.

    Attributes:
        paths: the directory of the graphs, the page, or both.
        page_bytes: size of the page, if there is one.
    """

    paths: tuple[Path, ...]
    page_bytes: int | None = None


@own_state()
@out_of_memory("a machine that has more")
def export(options: Export) -> Exported:
    """Write a pair of models as graphs or as a page; see `ldf_video.api.export`."""
    check_alone("export")
    folder = None if options.out is None else Path(options.out)
    page = None if options.html is None else Path(options.html)
    if folder is None and page is None:
        raise UsageError("export writes nothing: give --html FILE, --out DIR or both")
    if page is not None and page.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--html {page}: expected .html; change the suffix")
    check_files([("--html", page)], inputs=[])
    check_folders([("--out", folder)], inputs=[])
    runtime = None if page is None else runtime_files(Path(options.runtime))
    top, _ = load_sampler(options, device="cpu")
    flow = top.model
    if not isinstance(flow, FlowTop):
        refuse_fixed(top, "export", "go on frame after frame")
    if not flow.config.kept:
        raise UsageError(
            f"export: {top.directory} computes its past anew for each block; a student of it can "
            "be exported: train-top --few"
        )
    frame = frame_model_of(
        top.config, beside=top.directory, device="cpu", asked=options.frame_model
    )
    paths = list[Path]()
    with Progress("export", unit="graphs", quiet=options.quiet) as progress:
        stored = options.weights or ("half" if page is None else "int8")
        models = f"{named(top.directory)} and {named(frame.directory)}"
        progress.say(f"export: {models}, weights as {stored}; this takes a while")
        for model in (flow, frame.model):
            round_weights(model, stored)
        graphs = make_graphs(flow, frame.model)
        starts = known_starts(flow)
        settings = {
            "fingerprints": {"top": top.fingerprint, "frame": frame.fingerprint},
            "name": options.name or _name(top.directory, page),
            "height": frame.model.config.height,
            "width": frame.model.config.width,
            "fps": float(shown_rate(top, options.fps)),
            "seed": secrets.randbelow(2**31) if options.seed is None else options.seed,
            "hold": frame.model.hold,
            **_shape(flow, graphs),
        }
        if folder is not None:
            _write_folder(folder, graphs, starts, settings)
            paths.append(folder)
        if page is None or runtime is None:
            return Exported(tuple(paths))
        parts = {"runtime": runtime[0], "wasm": runtime[1], "starts": starts.tobytes()}
        made = make_page(settings, parts, {"block": graphs.block, "frames": graphs.frames})
        write_atomically(page, lambda path: path.write_bytes(made))
        if len(made) > LARGEST_BYTES and stored == "half":
            size = f"{len(made) / MIB:.1f} MiB"
            progress.say(f"export: {page} has {size}; --weights int8 halves the model")
    return Exported((*paths, page), len(made))


@torch.no_grad()
def round_weights(model: nn.Module, kind: str) -> None:
    """Round a model's weights to what they are stored in: "half" (float16) or "int8".

    With int8 a large weight becomes whole multiples, up to 127, of one number a row.
    """
    for parameter in model.parameters():
        if kind == "int8" and parameter.dim() > 1 and parameter.numel() >= LARGE:
            flat = parameter.reshape(len(parameter), -1).numpy()
            scales = scales_of(flat, 0)
            rounded = torch.from_numpy(np.round(flat / scales) * scales)
            parameter.copy_(rounded.view_as(parameter))
        else:
            parameter.copy_(parameter.half().float())


def known_starts(flow: FlowTop) -> npt.NDArray[np.float16]:
    """Ends of own videos, from which films go on: (NUM_STARTS, window, size), standardised."""
    window = flow.config.window
    generators = [video_generator(0, video) for video in range(NUM_STARTS)]
    made = torch.cat(list(flow.sample(Rollout(4 * window), generators)), dim=1)
    return flow.standardise(made[:, -window:]).half().numpy()


def _name(directory: Path, page: Path | None) -> str:
    """The page's, else that of the model."""
    if page is not None:
        return page.stem
    return known_name(directory) or directory.parent.name


def _shape(flow: FlowTop, graphs: Graphs) -> dict[str, Any]:
    c = flow.config
    return {
        "block": c.block,
        "size": flow.latent_mean.numel(),
        "reach": c.reach,
        "latent_shape": list(c.latent_shape),
        "passes": graphs.passes,
        "shared_noise": c.shared_noise,
        "layers": list(graphs.layers),
        "kept": {"shape": list(graphs.kept_shape), "count": int(np.prod(graphs.kept_shape))},
        "num_starts": NUM_STARTS,
        "threads": 2,
        "columns": [asdict(column) | {"rest": rest_of(column)} for column in flow.columns],
        "actions": [asdict(action) for action in actions_of(flow.columns)],
    }


def _write_folder(
    folder: Path, graphs: Graphs, starts: npt.NDArray[np.float16], settings: dict[str, Any]
) -> None:
    folder.mkdir(parents=True, exist_ok=True)

    def write(name: str, data: bytes) -> None:
        write_atomically(folder / name, lambda path: path.write_bytes(data))

    for name, graph in zip(GRAPHS, (graphs.block, graphs.frames), strict=True):
        write(name, graph)
    write_atomically(folder / STARTS, lambda path: np.save(path, starts))
    write(SETTINGS, json.dumps(settings, indent=2).encode() + b"\n")
