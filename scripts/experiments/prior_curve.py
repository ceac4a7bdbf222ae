"""How frames decay on the way from a frame model's own latents to its prior N(0, I).

    python scripts/experiments/prior_curve.py clips/paper/test --frame-model pacman-32

The generator is sharp on latents like E's, which a top model samples; a frame drawn from the prior
is as good as E's latents are like the prior. This measures the trade: for several s, frames of

    z = mean + sqrt(1 - s^2) (E(x) - mean) + s spread e,   e from N(0, I),

which keeps each number's mean and spread and takes away how numbers depend on each other, from all
of it (s = 0, reconstructions) to none (s = 1). Beside them frames of a Gaussian that has the means
and the whole covariance of E's latents, and frames of the prior itself. Printed as JSON: the frame
figure of evaluate with its interval, real frames against real ones first, and how far E's latents
are from N(0, I).
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ldf_video.evaluation import judged
from ldf_video.evaluation.draw import draw_clips, split_in_two
from ldf_video.evaluation.figures import measure
from ldf_video.evaluation.judge import load_judge
from ldf_video.evaluation.reference import Reference
from ldf_video.progress import Progress
from ldf_video.runs.zoo import find_model, load_frame_model
from ldf_video.sources.search import find_sources
from ldf_video.video.geometry import geometry_of

SHARES = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)


def mixed(latents: Tensor, share: float, *, generator: torch.Generator) -> Tensor:
    """Latents (B, C, h, w) of which a share is noise; each number's mean and spread stay."""
    mean, spread = latents.mean(0), latents.std(0)
    noise = torch.randn(latents.shape, generator=generator)
    return mean + math.sqrt(1 - share**2) * (latents - mean) + share * spread * noise


def gaussian(latents: Tensor, *, generator: torch.Generator) -> Tensor:
    """As many latents of the Gaussian that has the mean and covariance of these (B, C, h, w)."""
    flat = latents.flatten(1).double()
    values, vectors = torch.linalg.eigh(torch.cov(flat.T))
    noise = torch.randn(flat.shape, generator=generator, dtype=torch.float64)
    drawn = flat.mean(0) + (noise * values.clamp_min(0).sqrt()) @ vectors.T
    return drawn.float().view_as(latents)


def from_the_prior(latents: Tensor) -> dict[str, float]:
    """How far latents (B, C, h, w) are from N(0, I).

    Returns:
        The largest distance of a number's mean from 0 and of its spread from 1, and the root mean
        square of the correlations of numbers: within a cell, and of one channel in cells side by
        side (0 where there is one of them only).
    """
    standard = (latents - latents.mean(0)) / latents.std(0).clamp_min(1e-6)
    channels = latents.shape[1]
    within = torch.einsum("bchw,bdhw->cdhw", standard, standard) / len(latents)
    within = within[~torch.eye(channels, dtype=torch.bool)]
    beside = (standard[..., 1:] * standard[..., :-1]).mean(0)
    found = {
        "mean": latents.mean(0).abs().max(),
        "spread": (latents.std(0) - 1).abs().max(),
        "correlation_in_a_cell": within.square().mean().sqrt() if channels > 1 else torch.zeros(()),
        "correlation_of_neighbours": beside.square().mean().sqrt()
        if beside.numel()
        else torch.zeros(()),
    }
    return {name: round(value.item(), 3) for name, value in found.items()}


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", help="real clips, twice NUM_FRAMES of them")
    parser.add_argument("--frame-model", default="pacman-32")
    parser.add_argument("--num-frames", type=int, default=2500, help="on each side")
    parser.add_argument("--judge", help="TorchScript in place of EfficientNet-Lite0")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    count, seed = arguments.num_frames, arguments.seed
    found = load_frame_model(find_model(arguments.frame_model, "frame")[0], device="cpu")
    model, sources = found.model, find_sources(arguments.clips)
    drawn = draw_clips(sources, geometry_of(found.config), count=2 * count, seed=seed)
    if len(drawn.clips) < 2 * count:
        parser.error(f"{len(drawn.clips):,} clips that share no frame, expected {2 * count:,}")
    half, others = (part[:, :1] for part in split_in_two(drawn, seed=seed))  # a frame of each
    judge = load_judge(arguments.judge)
    reference = Reference.of(half, judge)
    latents = judged.encoded(model, others, device="cpu")
    generator = torch.Generator().manual_seed(seed)
    sets = {f"{share} noise": mixed(latents, share, generator=generator) for share in SHARES}
    sets["Gaussian"] = gaussian(latents, generator=generator)
    sets["N(0, I)"] = judged.prior(model.config.latent_shape, count=len(latents), seed=seed)
    frames: dict[str, npt.NDArray[np.uint8]] = {"real": others}
    for name, z in sets.items():
        frames[name] = judged.decoded(model, z, num_frames=1, device="cpu")
    figures = {}
    for name, clips in frames.items():
        with Progress(name, unit="frames", total=len(clips)) as progress:
            estimate = measure(reference, clips, judge, on_frames=progress.update).frame
        assert estimate is not None
        kept = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
        figures[name] = {key: round(value, 2) for key, value in kept.items()}
    text = json.dumps({"frame": figures, "latents": from_the_prior(latents)}, indent=2)
    print(text)
    if arguments.json is not None:
        arguments.json.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
