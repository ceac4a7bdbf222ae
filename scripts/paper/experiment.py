"""What the experiments of this folder share: clips, trainings by core time, the judge, results.

**Core time** is what a budget counts: seconds of the processor that the training process has had
(`time.process_time`), summed over its stretches. Experiments run in one thread, so that this is the
wall clock of an idle core, and neighbours on the machine change nothing. All that a way of making
clips needs counts: both levels, encoding in between, what is measured and kept while training.
Judging does not.

A training is a directory. The same command goes on with what it finds there: end it at any time by
Ctrl-C, or let `--stretch MINUTES` do so.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ldf_video.errors import LdfError
from ldf_video.evaluation.figures import Figures, figure, measure
from ldf_video.evaluation.judge import load_judge
from ldf_video.evaluation.reference import Reference, reference_sha256
from ldf_video.output import json_text, write_atomically
from ldf_video.progress import Progress
from ldf_video.training import checkpoints
from ldf_video.training.config import Cadence, TrainConfig
from ldf_video.training.loop import Trainer
from ldf_video.training.update import Level

Clips = NDArray[np.uint8]

FIGURES = ("frame", "video", "motion", "diversity.precision", "diversity.recall")
"""What is kept of a judgement, beside how much moves and stands still."""


# -- the command -----------------------------------------------------------------------------------


def parser(doc: str | None, *, clips: bool = True) -> argparse.ArgumentParser:
    """The options of every experiment: CLIPS, if it takes any, OUT, --short, --runs, --stretch."""
    made = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if clips:
        made.add_argument("clips", type=Path, help="folder with train/*.npy and test/*.npy")
    made.add_argument("out", type=Path, help="where results, plots and sheets go")
    made.add_argument("--short", action="store_true", help="minutes in place of hours")
    made.add_argument("--runs", type=Path, default=Path("runs"), help="where trainings lie")
    made.add_argument("--stretch", type=float, help="minutes after which to stop and keep all")
    return made


def run(main: Callable[[argparse.Namespace], None], arguments: argparse.Namespace) -> None:
    """Run an experiment, for a stretch if one is asked for; what is wrong is said in one line."""
    torch.set_num_threads(1)
    for place in (arguments.out, arguments.runs):
        if place.exists() and not place.is_dir():
            sys.exit(f"error: {place}: a file, expected a folder")
    if arguments.stretch is not None:
        timer = threading.Timer(60 * arguments.stretch, os.kill, (os.getpid(), signal.SIGINT))
        timer.daemon = True
        timer.start()
    try:
        main(arguments)
    except LdfError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("stopped; the same command goes on")
        sys.exit(130)


def clips_of(root: Path) -> tuple[Clips, Clips]:
    """Clips (N, T, H, W, 3) to train on, and others to test on, mapped from `root`/train and test.

    Raises:
        LdfError: they are not there.
    """
    found = []
    for part in ("train", "test"):
        paths = sorted((root / part).glob("*.npy"))
        if len(paths) != 1:
            raise LdfError(f"{root / part}: {len(paths)} .npy files, expected one")
        found.append(np.load(paths[0], mmap_mode="r", allow_pickle=False))
    return found[0], found[1]


# -- training --------------------------------------------------------------------------------------


class Marked:
    """A level whose averaged weights are kept whenever the loop looks, in folders of samples/."""

    score = "none"  # all that is kept is judged, and no checkpoint is chosen

    def __init__(self, level: Level) -> None:
        self._level = level

    def __getattr__(self, name: str) -> Any:
        return getattr(self._level, name)

    def evaluate(self, model: Any) -> Mapping[str, float]:
        """What the level says; one number at least, so that the look has a line of metrics."""
        return {"looked": 1.0, **self._level.evaluate(model)}

    def draw(self, model: Any, path: Path) -> Any:
        """Keep the weights, then draw as the level does."""
        path.mkdir(parents=True, exist_ok=True)
        checkpoints.save_weights(path, model.state_dict())
        return self._level.draw(model, path)


@dataclass(frozen=True)
class Mark:
    """A model as it was at a time: averaged weights."""

    core_seconds: float
    step: int
    directory: Path

    def load(self, model: torch.nn.Module) -> torch.nn.Module:
        """These weights in `model`."""
        checkpoints.weights_into(model, self.directory)
        return model.eval()


def train(
    level: Level, directory: Path, config: TrainConfig, *, mark_seconds: float = 60.0
) -> list[Mark]:
    """Train until the budget of a config is used, or go on to there; `minutes` are core minutes.

    Returns:
        Its marks, one every `mark_seconds` of core time and one at the end.

    Raises:
        LdfError: it was finished with a smaller budget, whose schedule is another one.
    """
    directory.mkdir(parents=True, exist_ok=True)
    state = checkpoints.load_state(directory)
    is_done = state is not None and state["done"]
    if state is not None and is_done:
        step, seconds = state["step"], state["elapsed_seconds"]
        if config.progress(step=step, elapsed_seconds=seconds) < 1:
            raise LdfError(f"{directory} was trained for less: name other --runs, or remove it")
    if not is_done:
        trainer = Trainer(
            Marked(level),
            directory,
            config=config,
            cadence=Cadence(sheet_seconds=mark_seconds),
            clock=time.process_time,
        )
        with Progress(directory.name, unit="steps") as progress:
            trainer.run(progress)
    return marks_of(directory)


def marks_of(directory: Path) -> list[Mark]:
    """What a training has kept on its way, in order."""
    seconds = {
        line["step"]: line["seconds"]
        for line in checkpoints.read_metrics(directory)
        if "held_out/looked" in line
    }
    samples = directory / "samples"
    return [
        Mark(seconds[step], step, samples / f"step-{step:07d}")
        for step in sorted(seconds)
        if (samples / f"step-{step:07d}" / checkpoints.WEIGHTS).is_file()
    ]


@contextmanager
def counted(path: Path) -> Iterator[None]:
    """Add the core seconds of what happens inside to those in a file, also where it is stopped."""
    before = seconds_in(path)
    started = time.process_time()
    try:
        yield
    finally:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(before + time.process_time() - started) + "\n")


def seconds_in(path: Path) -> float:
    """Core seconds that `counted` has counted; 0 without the file."""
    return float(json.loads(path.read_text())) if path.is_file() else 0.0


# -- judging ---------------------------------------------------------------------------------------


class Judged:
    """The judge of `ldf-video evaluate` and real clips that nothing was trained on."""

    def __init__(self, real: Clips, cache: Path) -> None:
        """Judge real clips (N, T, H, W, 3), or read what was found of them from `cache`, a folder.

        Others are judged in the same number, as distances grow with fewer.
        """
        self.judge = load_judge()
        self.num_clips, self.cache = len(real), cache
        digest = reference_sha256(real, self.judge)
        path = cache / f"reference-{digest[:12]}.npz"
        if path.is_file():
            self.reference, _ = Reference.load(path)
        else:
            with Progress(
                "judge the reference", unit="frames", total=real.shape[0] * real.shape[1]
            ) as bar:
                self.reference = Reference.of(real, self.judge, on_frames=bar.update)
            cache.mkdir(parents=True, exist_ok=True)
            self.reference.save(path, notes={})

    def of(self, name: str, make: Callable[[], Clips]) -> dict[str, float]:
        """The figures of clips (N, T, H, W, 3) that `make` makes, kept in the cache by a name."""
        path = self.cache / f"{name}-{self.num_clips}-{self.reference.sha256[:12]}.json"
        if path.is_file():
            return dict(json.loads(path.read_text()))
        clips = make()
        if len(clips) != self.num_clips:
            raise ValueError(f"{name}: {len(clips)} clips, expected {self.num_clips}")
        with Progress(f"judge {name}", unit="frames", total=clips.shape[0] * clips.shape[1]) as bar:
            figures = measure(self.reference, clips, self.judge, on_frames=bar.update)
        found = figures_of(figures) | {"spread_levels": round(spread(clips), 3)}
        write_atomically(path, lambda partial: partial.write_text(json.dumps(found) + "\n"))
        return found


def figures_of(found: Figures) -> dict[str, float]:
    """What is kept of figures, as numbers by their names."""
    known: dict[str, float] = {"num_clips": found.num_clips}
    for place in FIGURES:
        value = figure(found, place)
        known[place.rpartition(".")[2]] = round(float(getattr(value, "value", value)), 4)
    for name in ("moving_percent", "still_clips_percent"):
        value = figure(found, f"change.{name}")
        known[name] = round(float(getattr(value, "value", value)), 3)
    return known


def spread(clips: Clips) -> float:
    """Mean root mean square distance of two different clips, in levels of 255.

    Of a model that makes one clip for every noise it is 0. Clips are (N, T, H, W, 3), paired with
    the one after them.
    """
    x = clips.astype(np.float32).reshape(len(clips), -1)
    return float(np.sqrt(np.square(x - np.roll(x, 1, axis=0)).mean(1)).mean())


# -- results ---------------------------------------------------------------------------------------


def write_results(path: Path, results: Mapping[str, Any]) -> None:
    """Write what was found as JSON, whole, with the command and the machine."""
    known = {"command": command(), "machine": machine(), **results}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda partial: partial.write_text(json_text(known, indent=1) + "\n"))


def command() -> str:
    """This process's command line, paths by their last part."""
    words = [Path(word).name if word.startswith("/") else word for word in sys.argv[1:]]
    return shlex.join(["python", f"scripts/paper/{Path(sys.argv[0]).name}", *words])


def machine() -> dict[str, Any]:
    """What it ran on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    return {"cpu": cpu, "cores": os.cpu_count(), "threads": 1, "torch": torch.__version__}


def spread_of(values: Sequence[float]) -> dict[str, Any]:
    """Mean, lowest and highest of a figure over seeds, and each."""
    return {
        "mean": float(np.mean(values)),
        "low": float(np.min(values)),
        "high": float(np.max(values)),
        "each": [float(value) for value in values],
    }


def plot_curves(
    path: Path,
    curves: Mapping[str, Sequence[Sequence[tuple[float, float]]]],
    *,
    x: str,
    y: str,
    log_x: bool = False,
    log_y: bool = True,
    lines: Mapping[str, float] | None = None,
    times: Mapping[str, float] | None = None,
) -> None:
    """Draw a figure over another: a thin line a seed, a colour a curve.

    `lines` are drawn across at values of `y`, `times` upright at values of `x`.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    drawing, axes = plt.subplots(figsize=(7.5, 4.5))
    for number, (name, seeds) in enumerate(curves.items()):
        for seed, points in enumerate(seeds):
            if points:
                label = name if seed == 0 else None
                axes.plot(*zip(*points, strict=True), ".-", color=f"C{number}", label=label)
    for name, value in (lines or {}).items():
        axes.axhline(value, color="grey", linewidth=0.8, linestyle="--")
        axes.annotate(name, (1, value), xycoords=("axes fraction", "data"), ha="right", va="bottom")
    for name, value in (times or {}).items():
        axes.axvline(value, color="grey", linewidth=0.8, linestyle=":")
        axes.annotate(name, (value, 0.98), xycoords=("data", "axes fraction"), ha="right", va="top")
    axes.set(
        xlabel=x, ylabel=y, xscale="log" if log_x else "linear", yscale="log" if log_y else "linear"
    )
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8)
    drawing.tight_layout()
    drawing.savefig(path, dpi=110)
    plt.close(drawing)


def plot_clips(path: Path, sets: Mapping[str, Clips], *, in_a_row: int = 3) -> None:
    """Draw clips (N, T, H, W, 3) of some sets, some clips in a row, a panel with a title a set."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    pictures = {name: picture_of(clips, in_a_row) for name, clips in sets.items()}
    heights = [picture.shape[0] for picture in pictures.values()]
    width = next(iter(pictures.values())).shape[1]
    drawing, panels = plt.subplots(
        len(sets),
        squeeze=False,
        figsize=(9, 9 * sum(heights) / width + 0.3 * len(sets)),
        gridspec_kw={"height_ratios": heights},
    )
    for (name, picture), panel in zip(pictures.items(), panels.flat, strict=True):
        panel.imshow(picture, interpolation="nearest")
        panel.set_title(name, fontsize=9, loc="left")
        panel.axis("off")
    drawing.tight_layout(pad=0.4)
    drawing.savefig(path, dpi=120)
    plt.close(drawing)


def picture_of(clips: Clips, in_a_row: int) -> Clips:
    """Clips (N, T, H, W, 3) as one picture, with grey between frames and more between clips."""
    padded = np.pad(clips, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)), constant_values=128)
    strips = [np.concatenate(list(clip), axis=1) for clip in padded]
    strips = [np.pad(s, ((0, 0), (0, 6), (0, 0)), constant_values=255) for s in strips]
    rows = [
        strips[i : i + in_a_row] for i in range(0, len(strips) // in_a_row * in_a_row, in_a_row)
    ]
    return np.concatenate([np.concatenate(row, axis=1) for row in rows])
