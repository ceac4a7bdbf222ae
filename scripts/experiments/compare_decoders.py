"""What ways of decoding make of the same latents that a top model rolled, without any network.

    python scripts/experiments/compare_decoders.py CLIPS FRAME... --top-model TOP [--sheet OUT.png]

Each FRAME is a frame model of the latents that TOP makes. Its frames G(z) and G(E(G(z))) are two
rows, what `generate` shows is the third. Distances are Frechet distances in principal components of
pixels of real clips: of a frame (64), of five frames (16 each) and of their four changes; `real` is
the other half of the clips. `moving`, `still` and `flicker` are those of `evaluate`, recall that of
five frames, and `dB` how close G(E(x)) comes to frames of the clips. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ldf_video.evaluation.change import change, count_changes
from ldf_video.evaluation.clouds import diversity
from ldf_video.evaluation.draw import draw_clips
from ldf_video.levels.frechet import frechet_distance
from ldf_video.levels.latents import decode, video_generator
from ldf_video.models.frame import FrameModel
from ldf_video.models.rollout import Rollout
from ldf_video.runs.zoo import find_model, frame_model_of, load_top_model
from ldf_video.sources.search import find_sources
from ldf_video.video.pixels import from_model, psnr_db, to_model
from ldf_video.video.sheet import write_sheet

Clips = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]

CLIP, AT_ONCE = 5, 64
COMPONENTS, COMPONENTS_OF_CLIP = 64, 16
FITTED = 2000
"""Frames that components are fitted to."""
SHOWN, SHOWN_FRAMES = 4, 16


class Judge:
    """Compares clips with real ones."""

    def __init__(self, real: Clips) -> None:
        pixels = self._pixels(real).reshape(-1, real[0, 0].size)
        fitted = np.random.default_rng(0).permutation(len(pixels))[:FITTED]
        self.mean = pixels.mean(0)
        _, _, axes = np.linalg.svd(pixels[fitted] - self.mean, full_matrices=False)
        self.axes = axes[:COMPONENTS].T
        self.known = self.views(real)

    def _pixels(self, clips: Clips) -> Points:
        return clips.reshape(*clips.shape[:2], -1).astype(np.float64) / 127.5 - 1

    def views(self, clips: Clips) -> dict[str, Points]:
        """Points (N, d) of clips (N, CLIP, H, W, 3)."""
        points = (self._pixels(clips) - self.mean) @ self.axes
        few = points[..., :COMPONENTS_OF_CLIP]
        return {
            "frame": points[:, 0],
            "video": few.reshape(len(few), -1),
            "motion": (few[:, 1:] - few[:, :-1]).reshape(len(few), -1),
        }

    def __call__(self, clips: Clips) -> dict[str, float]:
        """The figures of clips (N, CLIP, H, W, 3)."""
        views, changed = self.views(clips), change(count_changes(clips))
        found = {name: frechet_distance(self.known[name], views[name]) for name in views}
        found["recall"] = diversity(self.known["video"][: len(clips)], views["video"]).recall
        found["moving"], found["still"] = changed.moving_percent, changed.still_clips_percent
        return {k: round(v, 3) for k, v in (found | {"flicker": changed.flicker_levels}).items()}


@torch.inference_mode()
def through(G: Callable[[Tensor], Tensor], z: Tensor) -> Clips:
    """Frames (N, T, H, W, 3) of latents (N, T, C, h, w)."""
    frames = [from_model(G(part)) for part in z.flatten(0, 1).split(AT_ONCE)]
    return np.concatenate(frames).reshape(*z.shape[:2], *frames[0].shape[1:])


def reconstruction_db(model: FrameModel, real: Clips) -> float:
    """PSNR of G(E(x))."""
    frames = real.reshape(-1, *real.shape[2:])
    squares = 0.0
    for start in range(0, len(frames), AT_ONCE):
        part = frames[start : start + AT_ONCE]
        with torch.inference_mode():
            made = from_model(model.generator(model.encoder(to_model(part))))
        squares += float(np.square(made.astype(np.float64) - part).sum())
    return psnr_db(squares / frames.size)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path)
    parser.add_argument("frame_models", nargs="+")
    parser.add_argument("--top-model", required=True)
    parser.add_argument("--videos", type=int, default=300)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--sheet", type=Path)
    asked = parser.parse_args()

    top = load_top_model(find_model(asked.top_model, "top")[0], device="cpu")
    seeds = [video_generator(asked.seed, number) for number in range(asked.videos)]
    rolled = []
    with torch.inference_mode():
        for start in range(0, asked.videos, AT_ONCE):
            part = seeds[start : start + AT_ONCE]
            rolled.append(torch.cat([*top.model.sample(Rollout(asked.frames), part)], dim=1))
    z = torch.cat(rolled)
    frames = [
        frame_model_of(top.config, beside=top.directory, device="cpu", asked=name)
        for name in asked.frame_models
    ]
    sources = find_sources(asked.clips)
    real = draw_clips(sources, frames[0].geometry(), count=3 * asked.videos, seed=0).clips
    order = np.random.default_rng(1).permutation(len(real))
    judge, others = Judge(real[order[: -asked.videos]]), real[order[-asked.videos :]]
    found: dict[str, Any] = {"real": judge(others)}
    drawn = []
    for name, frame in zip(asked.frame_models, frames, strict=True):
        G, E = frame.model.generator, frame.model.encoder
        found[name] = {"dB": round(reconstruction_db(frame.model, others), 2)}
        ways = {
            "G(z)": through(G, z),
            "G(E(G(z)))": through(lambda z, G=G, E=E: G(E(G(z).clamp(-1, 1))), z),
            "shown": np.concatenate([*decode(frame.model, iter(z.split(4, dim=1)))], axis=1),
        }
        for way, clips in ways.items():
            spans = {0: judge(clips[:, :CLIP]), asked.frames - CLIP: judge(clips[:, -CLIP:])}
            found[name][way] = {f"frames {first} on": row for first, row in spans.items()}
            drawn.append(clips[:SHOWN, :SHOWN_FRAMES])
            print(name, way, json.dumps(found[name][way]), flush=True)
    if asked.sheet is not None:
        rows = [way[number] for number in range(SHOWN) for way in drawn]
        write_sheet(asked.sheet, rows, upscale=3)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
