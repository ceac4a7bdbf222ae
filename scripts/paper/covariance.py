"""Section 3.2 by simulation: joint samples to learn a Gaussian, whole or in two levels.

    python scripts/paper/covariance.py docs/paper [--short]

The paper's example: zero-mean Gaussians of p variables, seen through noise of variance sigma^2.
Here they are videos: k = p / m frames of m variables, x_i = W z_i + noise, with r factors a frame,
whose correlation over time is rho^|i - j|. Three learners are given n joint samples; the last two
also learn W from single frames, as a frame model does, and those need not be joint.

- whole: the sample covariance, cut to its true rank (it is told rank and noise).
- two levels, free: a covariance of the k r factors, likewise cut.
- two levels, one number: rho alone, by the correlation of neighbouring frames' factors.

A second truth has one factor for the whole video (rank 1, of constant strength): each frame then
holds a k-th of it, and single frames tell little.

The error is |C' - C|^2 / |C|^2 (Frobenius, C the covariance without the noise). Of each learner the
script finds the n at which the median error over seeds is one half, for growing p and for growing
noise, and the slope of log n over log p and over log sigma^2; likewise the single frames that W
takes. Classic results (Johnstone 2001; Baik, Ben Arous & Peche 2005) say n ~ sigma^4 p / l^2 for an
eigenvalue l: for the whole slope 1 over p and 2 over sigma^2, for W slope 0 over p, as p / k is the
same. Where one factor spans k frames, each of them holds l / k of it: slope 2 over p for W.

Writes covariance.json and covariance.png; prints the table.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

HALF = 0.5
FRAME_VARIABLES, FACTORS, CORRELATION = 16, 2, 0.8
STRENGTH, NOISE = 4.0, 2.0
"""Variance of a factor along its unit direction, and usually of the noise of each variable."""
FRAMES_SEEN = 20_000
"""Single frames from which W is learned, where joint samples are what is counted."""
VARIABLES = 256
"""Where the noise is what grows."""


class Videos:
    """The first truth: factors of frames that follow each other."""

    name = "frames that follow each other"

    def __init__(self, num_variables: int, noise: float, rng: np.random.Generator) -> None:
        self.k, self.noise = num_variables // FRAME_VARIABLES, noise
        basis = np.linalg.qr(rng.normal(size=(FRAME_VARIABLES, FACTORS)))[0]
        self.weights = np.sqrt(STRENGTH) * basis
        steps = np.arange(self.k)
        over_time = CORRELATION ** np.abs(steps[:, None] - steps)
        self.covariance = np.kron(over_time, self.weights @ self.weights.T)
        self.rank = self.k * FACTORS

    def clean(self, n: int, rng: np.random.Generator) -> Matrix:
        """N joint samples without the noise, (n, p)."""
        z = rng.normal(size=(n, self.k, FACTORS))
        for i in range(1, self.k):
            z[:, i] = CORRELATION * z[:, i - 1] + np.sqrt(1 - CORRELATION**2) * z[:, i]
        return (z @ self.weights.T).reshape(n, -1)


class OneFactor:
    """The second truth: one direction of all p variables."""

    name = "one factor of all frames"

    def __init__(self, num_variables: int, noise: float, rng: np.random.Generator) -> None:
        self.k, self.noise = num_variables // FRAME_VARIABLES, noise
        # The same in every frame, so that one W serves all, as one frame model does.
        within = rng.normal(size=FRAME_VARIABLES)
        direction = np.tile(within / np.linalg.norm(within), self.k) / np.sqrt(self.k)
        self.direction = direction
        self.covariance = STRENGTH * np.outer(direction, direction)
        self.rank = 1

    def clean(self, n: int, rng: np.random.Generator) -> Matrix:
        """N joint samples without the noise, (n, p)."""
        return np.sqrt(STRENGTH) * rng.normal(size=(n, 1)) * self.direction


Truth = Videos | OneFactor


def joint(truth: Truth, n: int, rng: np.random.Generator) -> Matrix:
    """N joint samples (n, p), with the noise."""
    clean = truth.clean(n, rng)
    return clean + np.sqrt(truth.noise) * rng.normal(size=clean.shape)


def cut(covariance: Matrix, rank: int) -> Matrix:
    """The nearest covariance of that rank."""
    values, vectors = np.linalg.eigh(covariance)
    kept = vectors[:, -rank:] * np.maximum(values[-rank:], 0)
    return kept @ vectors[:, -rank:].T


def denoised(samples: Matrix, noise: float) -> Matrix:
    """The sample covariance without what the noise adds."""
    return samples.T @ samples / len(samples) - noise * np.eye(samples.shape[1])


def whole(samples: Matrix, truth: Truth, weights: Matrix) -> Matrix:
    """Learned as one Gaussian of p variables."""
    del weights
    return cut(denoised(samples, truth.noise), truth.rank)


def free(samples: Matrix, truth: Truth, weights: Matrix) -> Matrix:
    """W from single frames, and any covariance of the factors."""
    factors, lift = _factors(samples, weights)
    noise = truth.noise * np.kron(np.eye(truth.k), np.linalg.inv(weights.T @ weights))
    found = cut(factors.T @ factors / len(factors) - noise, min(truth.rank, factors.shape[1]))
    return lift @ found @ lift.T


def one_number(samples: Matrix, truth: Truth, weights: Matrix) -> Matrix:
    """W from single frames, and one number for how frames follow each other."""
    factors, lift = _factors(samples, weights)
    z = factors.reshape(len(factors), truth.k, -1)
    rho = float(np.clip((z[:, 1:] * z[:, :-1]).mean(), 0, 1))
    steps = np.arange(truth.k)
    if isinstance(truth, OneFactor):
        over_time = rho + (1 - rho) * np.eye(truth.k)  # alike at all distances
    else:
        over_time = rho ** np.abs(steps[:, None] - steps)
    return lift @ np.kron(over_time, np.eye(weights.shape[1])) @ lift.T


def _factors(samples: Matrix, weights: Matrix) -> tuple[Matrix, Matrix]:
    """Factors (n, k r) of joint samples by least squares, and what takes them back (p, k r)."""
    frames = samples.reshape(len(samples), -1, len(weights))
    z: Matrix = frames @ np.linalg.pinv(weights).T
    return z.reshape(len(samples), -1), np.kron(np.eye(frames.shape[1]), weights)


def single_frames(truth: Truth, n: int, rng: np.random.Generator) -> Matrix:
    """N frames (n, m) with the noise, each of another video."""
    pieces = []
    for first in range(0, n, 500):
        videos = joint(truth, min(500, n - first), rng)
        pieces.append(videos.reshape(len(videos), truth.k, -1)[:, rng.integers(truth.k)])
    return np.concatenate(pieces)


def learn_frames(frames: Matrix, truth: Truth) -> Matrix:
    """W (m, r) from single frames (n, m)."""
    values, vectors = np.linalg.eigh(denoised(frames, truth.noise))
    r = FACTORS if isinstance(truth, Videos) else 1
    return vectors[:, -r:] * np.sqrt(np.maximum(values[-r:], 1e-6))


LEARNERS: dict[str, Callable[[Matrix, Truth, Matrix], Matrix]] = {
    "whole": whole,
    "two levels, free": free,
    "two levels, one number": one_number,
}


ONE_FRAME = "W, of single frames"


def errors(
    kind: type[Truth], p: int, noise: float, counts: Sequence[int], seeds: int
) -> dict[str, list[list[float]]]:
    """Of each learner the errors by seed (rows) and number of samples (columns)."""
    found: dict[str, list[list[float]]] = {name: [] for name in (*LEARNERS, ONE_FRAME)}
    for seed in range(seeds):
        rng = np.random.default_rng([seed, p])
        truth = kind(p, noise, rng)
        frames = single_frames(truth, max(FRAMES_SEEN, *counts), rng)
        weights = learn_frames(frames[:FRAMES_SEEN], truth)
        samples = joint(truth, max(counts), rng)
        for name, learner in LEARNERS.items():
            learned = [learner(samples[:n], truth, weights) for n in counts]
            found[name].append([error(covariance, truth.covariance) for covariance in learned])
        m = FRAME_VARIABLES
        learned = [learn_frames(frames[:n], truth) for n in counts]
        of_frame = truth.covariance[:m, :m]
        found[ONE_FRAME].append([error(w @ w.T, of_frame) for w in learned])
    return found


def error(covariance: Matrix, truth: Matrix) -> float:
    """Squared distance, as a share of the truth."""
    return float(np.square(covariance - truth).sum() / np.square(truth).sum())


def crossing(counts: Sequence[int], rows: list[list[float]]) -> float | None:
    """Joint samples at which the median error falls to one half for good; None if it does not."""
    median = np.median(rows, axis=0)
    above = np.flatnonzero(median > HALF)
    if not len(above):
        return float(counts[0])  # at most so many
    i = int(above[-1])
    if i + 1 == len(counts):
        return None
    logs, values = np.log(counts[i : i + 2]), np.log(median[i : i + 2])
    share = (values[0] - np.log(HALF)) / (values[0] - values[1])
    return float(np.exp(logs[0] + share * (logs[1] - logs[0])))


def slope(sizes: Sequence[int], needed: Sequence[float | None], *, least: int) -> float | None:
    """Of log n over log p; None where it is known of fewer than three sizes.

    What is reached at `least`, the first number that was tried, may be less.
    """
    known = [(p, n) for p, n in zip(sizes, needed, strict=True) if n is not None and n > least]
    if len(known) < 3:
        return None
    p, n = np.log(known).T
    return float(np.polyfit(p, n, 1)[0])


def plot(results: dict[str, Any], path: Path) -> None:
    """Samples needed over p (above) and over the noise (below), a column a truth."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    sweeps = results["sweeps"]
    truths = list(sweeps[0]["truths"])
    figure, panels = plt.subplots(len(sweeps), len(truths), figsize=(9, 7), sharey=True)
    for row, sweep in zip(panels, sweeps, strict=True):
        for panel, truth in zip(row, truths, strict=True):
            for (name, found), mark in zip(sweep["truths"][truth].items(), "os^x", strict=True):
                known = [(x, n) for x, n in zip(sweep["values"], found["needed"], strict=True) if n]
                said = "" if found["slope"] is None else f", slope {found['slope']:.2f}"
                if known:
                    panel.loglog(*np.transpose(known), marker=mark, label=name + said)
            panel.set_title(truth, fontsize=9)
            panel.set_xlabel(sweep["over"])
            panel.set_xticks(sweep["values"], [f"{x:g}" for x in sweep["values"]])
            panel.minorticks_off()
            panel.grid(alpha=0.3)
            panel.legend(fontsize=7)
        row[0].set_ylabel("samples for an error of one half")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Simulate, write, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--short", action="store_true")
    arguments = parser.parse_args()
    short: bool = arguments.short
    counts = [2**i for i in range(10 if short else 15)]
    seeds = 3 if short else 10
    sizes = [32, 64, 128] if short else [64, 128, 256, 512]
    noises = [1.0, 2.0, 4.0] if short else [1.0, 2.0, 4.0, 8.0]
    middle = sizes[1] if short else VARIABLES
    sweeps: list[dict[str, Any]] = [
        {"over": "variables p", "values": sizes, "at": [(p, NOISE) for p in sizes]},
        {"over": "noise sigma^2", "values": noises, "at": [(middle, noise) for noise in noises]},
    ]
    kinds: tuple[type[Truth], ...] = (Videos, OneFactor)
    for sweep in sweeps:
        sweep["truths"] = {}
        for kind in kinds:
            runs = [errors(kind, p, noise, counts, seeds) for p, noise in sweep["at"]]
            rows = sweep["truths"][kind.name] = {}
            for name in (*LEARNERS, ONE_FRAME):
                needed = [crossing(counts, found[name]) for found in runs]
                medians = [np.median(found[name], axis=0).round(4).tolist() for found in runs]
                row = {"needed": needed, "slope": slope(sweep["values"], needed, least=counts[0])}
                rows[name] = row | {"median": medians}
                shown = " ".join(f"{'-' if n is None else round(n):>6}" for n in needed)
                said = "-" if row["slope"] is None else f"{row['slope']:.2f}"
                print(f"{sweep['over']:14} {kind.name:30} {name:24} {shown}   slope {said}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    results = {"counts": counts, "seeds": seeds, "sweeps": sweeps}
    (arguments.out / "covariance.json").write_text(json.dumps(results) + "\n")
    plot(results, arguments.out / "covariance.png")


if __name__ == "__main__":
    main()
