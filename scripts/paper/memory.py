"""Peak memory and time of a training against the number of frames of a clip.

    OMP_NUM_THREADS=1 python scripts/paper/memory.py clips/paper docs/paper [--short]

CLIPS holds train/*.npy, uint8 (N, T, H, W, 3). Its frames in their order, whatever clip they are
of, are cut into clips of 5 to 1,000 frames, 4,000 frames in all, and some updates are done on them:

- two levels: `train-frame`, `encode` and `train-top` as typed, with their usual batches of 64. What
  counts is the largest of the three. Windows are those that the trainings take: 16 frames, or 8
  of clips of 10, or 5 of clips of 5.
- paper: the same with `--preset paper` and `--kind mlp`, windows of 5.
- paper, one window: likewise, but the mlp makes the whole clip, as the paper's does.
- joint: the paper's baseline (`joint.py`), batches of 64 clips.
- readme, narrow: `video-diffusion-pytorch` (`diffusion_peer.py`), one clip at a time.

Each measurement is a process of its own with one thread. Memory is its VmHWM (Linux): all that it
ever held at once, with the libraries. Time is that of the processor. A process has an address space
of 24 GiB, so that a larger allocation really fails; it is ended once it holds --most, to spare the
machine, and what it would have taken is then estimated by a parabola through the points before.

OUT/memory.json and memory.png are written; what stands in the first is not measured again.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

GIB = 1 << 30
LENGTHS = (5, 10, 20, 50, 100, 200, 500, 1000)
SHORT_LENGTHS = (5, 20, 50)
TOTAL_FRAMES = 4000
ADDRESS_SPACE = 24 * GIB
UPDATES = {"frame": 6, "top": 3, "train": 2}
"""Of each command: enough for all losses, D joins in the second half, and the optimizers' state."""
PEERS = ("readme", "narrow")
COMMANDS = ("frame", "encode", "top")


@dataclass(frozen=True)
class Model:
    """What is measured: its commands, or the one training that it is."""

    name: str
    commands: tuple[str, ...]
    batch_size: int
    preset: str = "default"
    kind: str = "flow"
    whole: bool = False  # the top model's window is the clip


PAPER = Model("paper", COMMANDS, 64, "paper", "mlp")
MODELS = (
    Model("two levels", COMMANDS, 64),
    PAPER,
    Model("paper, one window", ("top",), 64, "paper", "mlp", whole=True),
    Model("joint", ("train",), 64),
    Model("readme", ("train",), 1),
    Model("narrow", ("train",), 1),
)


# -- one measurement, in a process of its own ------------------------------------------------------


def work(model: Model, command: str, frames: int, place: Path) -> dict[str, Any]:
    """Do some updates, or encode; how much memory and how many core seconds an update took."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    from ldf_video.training.loop import Trainer

    times: list[float] = []
    update = Trainer.update

    def timed(self: Trainer, share: float) -> Any:
        started = time.process_time()
        logs = update(self, share)
        times.append(time.process_time() - started)
        return logs

    Trainer.update = timed  # type: ignore[method-assign]
    Trainer.look = lambda self: None  # type: ignore[method-assign]  # sampling is no training
    try:
        if command == "train":
            train_whole(model, frames, place)
        else:
            train_level(model, command, frames, place)
    except (RuntimeError, MemoryError) as error:
        found = re.search(r"tried to allocate (\d+) bytes", str(error))
        if found is None and not isinstance(error, MemoryError):
            raise
        return {"refused_bytes": int(found[1]) if found else None}
    later = times[len(times) // 2 :]
    seconds = round(float(np.mean(later)), 4) if later else None
    return {"peak_bytes": high_water(), "seconds": seconds}


def high_water() -> int:
    """VmHWM of this process, bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.findall(r"VmHWM:\s+(\d+)", status)[0])


def train_level(model: Model, command: str, frames: int, place: Path) -> None:
    """One of the commands of ldf-video."""
    import ldf_video

    steps = UPDATES.get(command)
    frame, latents, top = (place / f"{model.preset}-{name}" for name in COMMANDS)
    usual: dict[str, Any] = {"device": "cpu", "quiet": True, "seed": 0}
    if command == "frame":
        ldf_video.train_frame(place / "clips", out=frame, preset=model.preset, steps=steps, **usual)
    elif command == "encode":
        del usual["seed"]
        # A clip here is one of several, whose cuts would shorten the windows.
        ldf_video.encode(place / "clips", out=latents, frame_model=frame, cuts="off", **usual)
    else:
        window = frames if model.whole else None
        top = top.with_name(f"{top.name}-{model.whole}")
        ldf_video.train_top(
            latents=latents, out=top, kind=model.kind, window=window, steps=steps, **usual
        )


def train_whole(model: Model, frames: int, place: Path) -> None:
    """A training that sees whole clips."""
    import torch

    from ldf_video.progress import Progress
    from ldf_video.training.config import Cadence, TrainConfig
    from ldf_video.training.loop import Trainer

    clips = np.load(place / "clips" / "clips.npy", mmap_mode="r", allow_pickle=False)
    torch.manual_seed(0)
    level: Any
    if model.name == "joint":
        from joint import JointConfig, JointGame, JointGameConfig, JointLevel, JointModel

        game = JointGame(JointModel(JointConfig(num_frames=frames)), JointGameConfig())
        level = JointLevel(game, clips, batch_size=model.batch_size, seed=0)
    else:
        import diffusion_peer as peer

        shape = peer.README if model.name == "readme" else peer.NARROW
        denoiser = peer.PeerGame(peer.make(replace(shape, num_frames=frames)))
        level = peer.PeerLevel(denoiser, clips, batch_size=model.batch_size, seed=0)
    config = TrainConfig(
        steps=UPDATES["train"],
        batch_size=model.batch_size,
        learning_rate=1e-4,
    )
    out = place / model.name
    out.mkdir()
    trainer = Trainer(level, out, config=config, cadence=Cadence(1e9, 1e9))
    trainer.run(Progress("memory", unit="steps", quiet=True))


# -- all of them -----------------------------------------------------------------------------------


def measure(model: Model, command: str, frames: int, place: Path, *, most: int) -> dict[str, Any]:
    """What a process of its own says; if it held more than `most` bytes, that it was stopped."""
    arguments = [model.name, command, str(frames), str(place)]
    with subprocess.Popen(
        [sys.executable, __file__, "--child", *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        while process.poll() is None:
            if resident(process.pid) > most:
                process.kill()
                return {"stopped_at_bytes": most}
            time.sleep(0.05)
        assert process.stdout is not None
        output = process.stdout.read()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, arguments)
    return dict(json.loads(output.splitlines()[-1]))


def resident(pid: int) -> int:
    """Bytes of a process in memory; 0 once it is gone."""
    try:
        found = re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 1024 * int(found[0]) if found else 0


def cut(clips: NDArray[np.uint8], length: int) -> NDArray[np.uint8]:
    """The first TOTAL_FRAMES frames as clips (N, length, H, W, 3)."""
    t = clips.shape[1]
    frames = np.concatenate(list(clips[: -(-TOTAL_FRAMES // t)]))[:TOTAL_FRAMES]
    count = len(frames) // length
    return frames[: count * length].reshape(count, length, *frames.shape[1:])


Row = dict[str, Any]


def peaks(rows: Sequence[Row], model: Model) -> dict[int, Row]:
    """By length: the largest peak of a model's commands and the seconds of all; how it ended.

    A model whose latents are those of the one before shares its commands but for the last.
    """
    found: dict[int, Row] = {}
    for length in sorted({row["frames"] for row in rows if row["model"] == model.name}):
        own = [row for row in rows if _is(row, model, length)]
        if model.whole:
            own += [row for row in rows if _is(row, PAPER, length) and row["command"] != "top"]
        if {row["command"] for row in own} < set(COMMANDS if model.whole else model.commands):
            continue  # some are still to be measured
        found[length] = {
            "peak_bytes": max(row.get("peak_bytes") or 0 for row in own),
            "seconds": sum(row.get("seconds") or 0.0 for row in own),
            "is_whole": all("peak_bytes" in row for row in own),
        }
    return found


def parabola(points: Sequence[tuple[int, float]]) -> Callable[[float], float]:
    """What goes through points (n, y): a + b n + c n^2, b and c at least 0, by relative errors.

    Attention over time gives c; without it the rest is a line.
    """
    n, y = np.array(points, float).T
    for degree in (2, 1, 0):
        if len(points) > degree:
            fitted = np.polyfit(n, y, degree, w=1 / y)
            if (fitted[:-1] >= 0).all():
                break
    return lambda x: float(np.polyval(fitted, x))


def reach(estimate: Callable[[float], float], *, limit: float) -> int | None:
    """The most frames of which an estimate stays within a limit; None where it is endless."""
    if estimate(10**7) <= limit:
        return None
    low, high = 1, 10**7
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if estimate(middle) <= limit else (low, middle)
    return low


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """What the claim comes to, a value a model."""
    found: dict[str, Any] = {"models": {}}
    at = {model.name: peaks(rows, model) for model in MODELS}
    for name, points in at.items():
        known = [(n, p["peak_bytes"]) for n, p in points.items() if p["is_whole"]]
        if not known:
            continue
        estimate = parabola(known)
        values = [bytes_ for _, bytes_ in known]
        found["models"][name] = {
            "gib": {n: round(bytes_ / GIB, 3) for n, bytes_ in known},
            "core_seconds": {n: round(p["seconds"], 3) for n, p in points.items() if p["is_whole"]},
            "estimated_gib": {
                n: round(estimate(n) / GIB, 1) for n, p in points.items() if not p["is_whole"]
            },
            "spread_percent": round(100 * (max(values) / min(values) - 1), 1),
        }
        if name in (*PEERS, "joint") and len(known) >= len(SHORT_LENGTHS):  # those that grow
            most = reach(estimate, limit=ADDRESS_SPACE)
            found["models"][name]["most_frames_in_24_gib"] = most
    if at["two levels"].get(50, {}).get("is_whole"):
        own = at["two levels"][50]["peak_bytes"]
        found["ratio_at_50"] = {
            name: round(points[50]["peak_bytes"] / own, 2)
            for name, points in at.items()
            if points.get(50, {}).get("is_whole")
        }
    return found


def plot(found: dict[str, Any], path: Path) -> None:
    """Memory and time over frames; hollow marks are estimates."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    drawing, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5))
    for number, (name, values) in enumerate(found["models"].items()):
        color = f"C{number}"
        for axes, key in ((left, "gib"), (right, "core_seconds")):
            known = sorted((int(n), y) for n, y in values[key].items())
            axes.loglog(*zip(*known, strict=True), "o-", color=color, label=name, markersize=4)
        guessed = sorted((int(n), y) for n, y in values["estimated_gib"].items())
        if guessed:
            last = max((int(n), y) for n, y in values["gib"].items())
            left.loglog(*zip(last, *guessed, strict=True), "--", color=color, linewidth=0.8)
            left.loglog(*zip(*guessed, strict=True), "o", color=color, mfc="white", markersize=4)
    left.axhline(ADDRESS_SPACE / GIB, color="grey", linestyle="--", linewidth=0.8)
    left.annotate("24 GiB", (5, ADDRESS_SPACE / GIB), va="bottom", fontsize=8)
    left.set(xlabel="frames of a clip", ylabel="peak memory of training, GiB")
    right.set(xlabel="frames of a clip", ylabel="core seconds an update")
    for axes in (left, right):
        axes.grid(alpha=0.3, which="both")
    left.legend(fontsize=8)
    drawing.tight_layout()
    drawing.savefig(path, dpi=110)
    plt.close(drawing)


def main(arguments: argparse.Namespace) -> None:
    """Measure what is missing, write, print."""
    from experiment import clips_of, write_results

    clips, _ = clips_of(arguments.clips)
    path = arguments.out / "memory.json"
    rows: list[Row] = json.loads(path.read_text())["rows"] if path.is_file() else []
    lengths = arguments.lengths or (SHORT_LENGTHS if arguments.short else LENGTHS)
    most = int(arguments.most * GIB)
    for length in lengths:
        with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
            place = Path(scratch)
            (place / "clips").mkdir()
            np.save(place / "clips" / "clips.npy", cut(clips, length))
            for model in chosen(arguments.models):
                if {row["command"] for row in rows if _is(row, model, length)} >= {*model.commands}:
                    continue
                if model.whole:  # its latents are those of the model before
                    for command in ("frame", "encode"):
                        if not (place / f"{model.preset}-{command}").exists():
                            measure(model, command, length, place, most=most)
                rows = [row for row in rows if not _is(row, model, length)]
                for command in model.commands:
                    known = {"model": model.name, "command": command, "frames": length}
                    rows.append(known | measure(model, command, length, place, most=most))
                    print(json.dumps(rows[-1]), flush=True)
                    write_results(path, {"rows": rows, **summary(rows)})
    found = summary(rows)
    write_results(path, {"rows": rows, **found})
    plot(found, arguments.out / "memory.png")
    print(json.dumps(found, indent=1))


def chosen(names: Sequence[str] | None) -> tuple[Model, ...]:
    """The models of these names, or all; the peer where it is installed, else it is said."""
    asked = tuple(model for model in MODELS if names is None or model.name in names)
    if importlib.util.find_spec("video_diffusion_pytorch"):
        return asked
    print("video-diffusion-pytorch is not installed (head of diffusion_peer.py): left out")
    return tuple(model for model in asked if model.name not in PEERS)


def _is(row: Row, model: Model, length: int) -> bool:
    return (row["model"], row["frames"]) == (model.name, length)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        name, command, frames, place = sys.argv[2:]
        of_name = {model.name: model for model in MODELS}
        print(json.dumps(work(of_name[name], command, int(frames), Path(place))))
    else:
        from experiment import parser, run

        options = parser(__doc__)
        options.add_argument("--most", type=float, default=12, help="GiB at which to stop one")
        options.add_argument("--lengths", type=int, nargs="+", help="in place of the usual ones")
        options.add_argument("--models", nargs="+", choices=[model.name for model in MODELS])
        options.add_argument("--scratch", type=Path, help="where clips and runs lie meanwhile")
        run(main, options.parse_args())
