"""Two levels beside `video-diffusion-pytorch`, at equal core time of training, by time of sampling.

    OMP_NUM_THREADS=1 python scripts/paper/peer.py clips/paper docs/paper [--short] [--stretch M]

CLIPS holds train/*.npy and test/*.npy, uint8 (N, 5, 32, 32, 3). Each way of making clips is trained
for the same core time, seed by seed:

- two levels: the default frame model and flow; encoding in between counts.
- narrow: the peer at a width that a CPU can train (`diffusion_peer.NARROW`).
- readme: the peer as in its README (`diffusion_peer.README`, 36 million weights).

Then each makes clips with few passes and with many. The time of the processor that a frame takes is
measured, and the clips are judged, as many of each. The peer's own sampler takes 1,000 passes; with
fewer it is sampled by DDIM, which is ours. OUT/peer.json, peer.png and peer-clips.png are what
comes of it. `--speed` measures the time of sampling alone and writes peer-speed.json. The peer is
installed as the head of diffusion_peer.py says.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import diffusion_peer
import numpy as np
import torch
from experiment import Clips, clips_of, parser, plot_clips, run, train, write_results
from two_levels import PRECISION, Pair, train_lower, train_upper, write_array

from ldf_video.evaluation.figures import figure, measure
from ldf_video.evaluation.judge import load_judge
from ldf_video.evaluation.reference import Reference
from ldf_video.levels.latents import decode, video_generator
from ldf_video.levels.top_settings import fit_window
from ldf_video.models import build
from ldf_video.models.frame import FrameModel
from ldf_video.models.rollout import Rollout
from ldf_video.models.top import TopModel
from ldf_video.output import write_atomically
from ldf_video.progress import Progress
from ldf_video.training import checkpoints
from ldf_video.training.config import TrainConfig

FRAME_SHARE = 0.4
"""Of the core time of the two levels, for the frame model."""
SHOWN = 12
AT_ONCE = 16
KEPT = ("frame", "video", "motion", "kernel.frame", "kernel.video", "diversity.recall")


@dataclass(frozen=True)
class Form:
    """How long, how often, how many.

    Attributes:
        minutes: of core time, for each way and seed.
        seeds: trainings of each way.
        num_real: clips that others are compared with.
        num_clips: clips judged, of each way and number of passes.
        encoded: clips whose latents the flow learns.
        passes: of the peer's network, narrow and readme.
        first_and_later: of the flow: passes of the first block and of a later one.
    """

    minutes: float
    seeds: int
    num_real: int
    num_clips: int
    encoded: int
    passes: Mapping[str, Sequence[int]]
    first_and_later: Sequence[tuple[int, int]] = ((2, 1), (4, 2), (16, 5), (32, 10))


SHORT = Form(1.0, 1, 300, 24, 2_000, {"narrow": (4, 16), "readme": (4,)})
LONG = Form(20.0, 3, 2_000, 100, 20_000, {"narrow": (4, 16, 64), "readme": (4, 16)})
"""100 clips of the peer with 64 passes take 12 core minutes, with its own 1,000 three hours."""


@dataclass(frozen=True)
class Peer:
    """One of the peers: its shape, and how it is trained."""

    config: diffusion_peer.PeerConfig
    batch_size: int
    learning_rate: float


PEERS = {
    "narrow": Peer(diffusion_peer.NARROW, 8, 1e-3),
    "readme": Peer(diffusion_peer.README, 4, 3e-4),
}
"""Batches small enough for hundreds of updates an hour. The README has 32 clips and 1e-4."""


# -- trainings -------------------------------------------------------------------------------------


def train_pair(clips: Clips, test: Clips, runs: Path, *, form: Form, seed: int) -> Pair:
    """Frame model, latents, flow; `form.minutes` of core time in all.

    They lie where pacman.py has its own of as many minutes, and are taken from there.
    """
    lower = train_lower(
        "default",
        clips,
        test,
        runs / f"frame-default-{seed}",
        minutes=FRAME_SHARE * form.minutes,
        seed=seed,
        encoded=form.encoded,
    )
    top = runs / f"two-flow-{seed}"
    every = 15 * form.minutes
    return train_upper("flow", lower, top, minutes=form.minutes, seed=seed, mark_seconds=every)[-1]


def sample_two_levels(
    frame: FrameModel, top: TopModel, count: int, *, first: int, later: int, seed: int
) -> Clips:
    """Clips (count, T, H, W, 3), with so many passes for a first block and for a later one."""
    usual, made = top.config, []
    top.config = replace(usual, first_steps=first, sampling_steps=later)  # type: ignore[type-var]
    try:
        for start in range(0, count, AT_ONCE):
            videos = range(start, min(start + AT_ONCE, count))
            chance = [video_generator(seed, video) for video in videos]
            blocks = top.sample(Rollout(usual.window), chance)
            made.append(np.concatenate(list(decode(frame, blocks)), axis=1))
    finally:
        top.config = usual
    return np.concatenate(made)


def train_peer(peer: Peer, clips: Clips, out: Path, *, minutes: float, seed: int) -> Any:
    """A trained `GaussianDiffusion` of averaged weights."""
    torch.manual_seed(seed)
    model = diffusion_peer.make(replace(peer.config, num_frames=clips.shape[1]))
    held = len(clips) // 20
    level = diffusion_peer.PeerLevel(
        diffusion_peer.PeerGame(model),
        clips[held:],
        batch_size=peer.batch_size,
        seed=seed,
        held_out=clips[:held],
    )
    config = TrainConfig(
        minutes=minutes,
        seed=seed,
        batch_size=peer.batch_size,
        learning_rate=peer.learning_rate,
        beta1=0.9,
        beta2=0.999,
        mixed_precision=PRECISION,
    )
    checkpoints.save_config(out, {"options": {}, "model": asdict(peer.config)})
    return train(level, out, config, mark_seconds=1e9)[-1].load(model)


# -- what comes of it ------------------------------------------------------------------------------


class Sets:
    """Clips that were made, with the time that they took; made once, kept in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, name: str, count: int, make: Callable[[], Clips]) -> tuple[Clips, float]:
        """Clips and core seconds a clip."""
        clips, times = self._folder / f"{name}.npy", self._folder / f"{name}.json"
        if not (clips.is_file() and times.is_file()):
            started = time.process_time()
            made = make()
            seconds = (time.process_time() - started) / count
            self._folder.mkdir(parents=True, exist_ok=True)
            write_array(clips, made)
            write_atomically(times, lambda partial: partial.write_text(json.dumps(seconds)))
        return np.load(clips, allow_pickle=False), float(json.loads(times.read_text()))


def samples_of(
    name: str, model: Any, form: Form, seed: int
) -> dict[str, tuple[int, Callable[[], Clips]]]:
    """What a model is asked for: passes of its network a clip, and how, by a name."""
    if isinstance(model, Pair):
        count, config = form.num_clips, model.top.config
        later_blocks = config.window // config.block - 1

        def make(first: int, later: int) -> Callable[[], Clips]:
            pair, top = model, model.mark.load(model.top)
            return lambda: sample_two_levels(
                pair.frame, top, count, first=first, later=later, seed=seed
            )

        return {
            f"{name}-{first}-{later}": (first + later_blocks * later, make(first, later))
            for first, later in form.first_and_later
        }
    return {
        f"{name}-{passes}": (
            passes,
            lambda passes=passes: diffusion_peer.respaced(
                model, form.num_clips, passes=passes, seed=seed
            ),
        )
        for passes in form.passes[name]
    }


def judged(reference: Reference, judge: Any, name: str, clips: Clips) -> dict[str, float]:
    """The figures of a set."""
    with Progress(f"judge {name}", unit="frames", total=clips.shape[0] * clips.shape[1]) as bar:
        found = measure(reference, clips, judge, on_frames=bar.update)
    values = {}
    for place in (*KEPT, "change.moving_percent", "change.still_clips_percent"):
        value = figure(found, place)
        values[place] = round(float(getattr(value, "value", value)), 4)
    return values


def speeds() -> list[dict[str, Any]]:
    """Core seconds a clip of 5 frames, by freshly made networks: weights change no time.

    Of the peer few passes are measured, and a thousand cost as much each.
    """
    found = []
    model, game = build.frame_settings("default", height=32, width=32)
    frame: Any = build.frame_game(model, game).model
    window, block = fit_window(5, longest=5)
    shape = frame.config.latent_shape
    model, _ = build.top_settings("flow", latent_shape=shape, window=window, block=block)
    top = build.top_model(model).eval()
    for first, later in ((1, 1), *LONG.first_and_later):
        started = time.process_time()
        sample_two_levels(frame.eval(), top, AT_ONCE, first=first, later=later, seed=0)
        seconds = (time.process_time() - started) / AT_ONCE
        found.append({"way": "two levels", "passes": f"{first}, {later}", "seconds": seconds})
    for way, peer in PEERS.items():
        network = diffusion_peer.make(peer.config).eval()
        diffusion_peer.respaced(network, 2, passes=1, seed=0)
        started = time.process_time()
        diffusion_peer.respaced(network, 2, passes=3, seed=0)
        a_pass = (time.process_time() - started) / 6
        for passes in (1, 4, 16, 64, diffusion_peer.PASSES):
            found.append({"way": way, "passes": f"{passes}", "seconds": passes * a_pass})
    for row in found[1:]:
        row["frames_a_second"] = round(5 / row["seconds"], 3)
        row["seconds"] = round(row["seconds"], 4)
    return found[1:]  # the first one warms up


def plot(rows: Sequence[Mapping[str, Any]], real: Mapping[str, float], path: Path) -> None:
    """Video distance over the time that a clip takes; a mark a number of passes, a line a seed."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    drawing, axes = plt.subplots(figsize=(7.5, 4.5))
    for number, way in enumerate(dict.fromkeys(row["way"] for row in rows)):
        for seed in sorted({row["seed"] for row in rows if row["way"] == way}):
            some = [row for row in rows if (row["way"], row["seed"]) == (way, seed)]
            x, y = ([row[key] for row in some] for key in ("seconds_a_clip", "video"))
            axes.loglog(x, y, "o-", color=f"C{number}", label=way if seed == 0 else None)
            for row in some:
                at = (row["seconds_a_clip"], row["video"])
                axes.annotate(f"{row['passes']}", at, textcoords="offset points", xytext=(4, 4))
    axes.axhline(real["video"], color="grey", linestyle="--", label="other real clips")
    axes.set(xlabel="core seconds a clip of 5 frames (numbers: passes)", ylabel="video distance")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8)
    drawing.tight_layout()
    drawing.savefig(path, dpi=110)
    plt.close(drawing)


def main(arguments: argparse.Namespace) -> None:
    """Train, sample, judge, write."""
    if arguments.speed:
        rows = speeds()
        write_results(arguments.out / "peer-speed.json", {"rows": rows})
        print("\n".join(json.dumps(row) for row in rows))
        return
    form: Form = SHORT if arguments.short else LONG
    given = {"minutes": arguments.minutes, "seeds": arguments.seeds}
    form = replace(form, **{name: value for name, value in given.items() if value is not None})
    if arguments.most_passes is not None:
        passes = {
            way: [n for n in ns if n <= arguments.most_passes] for way, ns in form.passes.items()
        }
        form = replace(form, passes=passes)
    clips, test = clips_of(arguments.clips)
    places = np.random.default_rng(0).permutation(len(test))
    real = np.ascontiguousarray(test[np.sort(places[: form.num_real])])
    others = np.ascontiguousarray(test[np.sort(places[-form.num_clips :])])
    sets: dict[str, tuple[str, int, int, Clips, float]] = {}
    for seed in range(form.seeds):
        out = arguments.runs / f"peer-{form.minutes:g}-{seed}"
        for way in ("two levels", *arguments.peers):
            model: Any
            if way == "two levels":
                place = arguments.runs / f"pacman-{form.minutes:g}"
                model = train_pair(clips, test, place, form=form, seed=seed)
            else:
                model = train_peer(PEERS[way], clips, out / way, minutes=form.minutes, seed=seed)
            kept = Sets(out / "clips")
            for title, (passes, draw) in samples_of(way, model, form, seed).items():
                found, seconds = kept.of(title.replace(" ", "-"), form.num_clips, draw)
                sets[f"{title}-seed{seed}"] = (way, seed, passes, found, seconds)
    judge = load_judge()
    with Progress("judge real clips", unit="frames", total=real.shape[0] * real.shape[1]) as bar:
        reference = Reference.of(real, judge, on_frames=bar.update)
    floor = judged(reference, judge, "other real clips", others)
    rows = []
    for title, (way, seed, passes, found, seconds) in sets.items():
        row = {"way": way, "seed": seed, "passes": passes, "seconds_a_clip": round(seconds, 4)}
        rows.append(row | judged(reference, judge, title, found))
        print(json.dumps(rows[-1]), flush=True)
    results = {
        "peer": f"{diffusion_peer.PACKAGE} {diffusion_peer.VERSION}",
        "form": asdict(form),
        "peers": {way: asdict(PEERS[way]) for way in arguments.peers},
        "real": floor,
        "rows": rows,
    }
    write_results(arguments.out / f"{arguments.name}.json", results)
    plot(rows, floor, arguments.out / f"{arguments.name}.png")
    shown = {"real, of other games": others[:SHOWN]}
    shown |= {way: clips[:SHOWN] for way, seed, _, clips, _ in sets.values() if seed == 0}
    # of each way with most passes
    plot_clips(arguments.out / f"{arguments.name}-clips.png", shown)


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--speed", action="store_true", help="of sampling alone, in a minute")
    options.add_argument("--minutes", type=float, help="core time of each way, in place of usual")
    options.add_argument("--seeds", type=int, help="trainings of each way, in place of usual")
    options.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS), metavar="PEER")
    options.add_argument("--most-passes", type=int, help="leave longer sampling of a peer out")
    options.add_argument("--name", default="peer", help="of the files in OUT")
    chosen = options.parse_args()
    run(main, chosen)
