"""How fast `encode` is against its limit and against plain loops doing the same work, in one run.

    python scripts/benchmarks/bench_encode.py --video FILE --work DIR
    python scripts/benchmarks/bench_encode.py --against ../first   # another checkout, in turn

From one video (FILE, else a made one) come three sets of h264 clips, kept in DIR: 1280 x 720 in
clips of some 300 frames and in long ones, 640 x 360 and 64 x 64 in clips of some 300 frames. On
each set, several times in turn and each time in a process of its own:

- encode: `ldf_video.encode` into a new store
- decoding: our readers on all cores; nothing is done with the small frames that they give
- encoding: our encoder on all cores, of small frames that lie in memory
- pyav: the loop that most people write: av.open, to_ndarray at full size, crop and resize in torch,
  batches of 64 within the clip, one .npy a clip
- decord: the same with decord, which scales while it decodes

Everything counts but the imports, which a run over one short clip takes before: the model is
loaded, readers start, files are written. The limit is 1 / (1 / decoding + 1 / encoding) where both
share the cores, and the slower of the two where a GPU encodes. Prints JSON: medians in frames a
second, and of the ratios the medians over the rounds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import bench_clips
import numpy as np
from bench_tools import alone

BATCH_SIZE = 64
CLIP_FRAMES = 300
HERE = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Kind:
    """A set of clips: their size, how many frames are in clips, and how many in long ones."""

    height: int
    width: int
    num_frames: int
    num_long_frames: int = 0


# On two cores some 20 to 30 s each for `encode`.
KINDS = {
    "720p": Kind(720, 1280, 6_000, 6_000),
    "360p": Kind(360, 640, 18_000),
    "64x64": Kind(64, 64, 24_000),
}


@dataclass(frozen=True)
class Work:
    """What a contestant is given: clips, and where to leave what it makes of them."""

    clips: list[Path]
    out: Path
    frame_model: str
    device: str


def encode(work: Work) -> int:
    """The real thing; the clips are all that is in their folder."""
    import ldf_video

    done = ldf_video.encode(
        work.clips[0].parent,
        out=work.out,
        frame_model=work.frame_model,
        batch_size=BATCH_SIZE,
        device=work.device,
        quiet=True,
    )
    return done.report.num_frames


def decoding(work: Work) -> int:
    """Our readers alone."""
    from ldf_video.readers.pool import ReaderPool
    from ldf_video.readers.reading import FramesRead
    from ldf_video.sources.search import find_sources

    geometry = _load(work)[1]
    sources = find_sources(work.clips[0].parent)
    num_frames = 0
    with ReaderPool(geometry, num_workers=_num_cores()) as pool:
        for event in pool.read(sources):
            if isinstance(event, FramesRead):
                num_frames += len(event.frames)
    return num_frames


def encoding(work: Work) -> int:
    """Our encoder alone: the frames of the first clip again and again."""
    from ldf_video.clips.read import open_clips
    from ldf_video.intake.batches import RowsMade, make_rows
    from ldf_video.intake.frame_encoder import FrameEncoder
    from ldf_video.readers.reading import Clip, FramesRead
    from ldf_video.sources.search import find_sources

    model, geometry = _load(work)
    (stream,) = open_clips(work.clips[0], geometry)
    frames = np.stack(list(itertools.islice(stream.frames, 4 * BATCH_SIZE)))
    clip = Clip(find_sources(work.clips[0])[0], "0" * 64, None, stream.fps, "")
    encoder = FrameEncoder(model, device=work.device, precision=_precision(work))
    num_frames = sum(num_frames for _, num_frames in _index(work.clips[0].parent))
    events = (
        FramesRead(clip, frames[: num_frames - first], 0.0)
        for first in range(0, num_frames, len(frames))
    )
    items = make_rows(events, encoder, batch_size=BATCH_SIZE)
    return sum(len(item.rows) for item in items if isinstance(item, RowsMade))


def pyav(work: Work) -> int:
    """The loop that most people write, at its best: decoder threads on, pixels resized as bytes."""
    import av
    import torch
    from torch.nn import functional

    size = _load(work)[1].height

    def batches(path: Path) -> Iterator[torch.Tensor]:
        with av.open(str(path)) as container:
            container.streams.video[0].thread_type = "AUTO"
            batch = []
            for frame in container.decode(video=0):
                image = torch.from_numpy(frame.to_ndarray(format="rgb24"))  # (H, W, 3)
                image = _centre(image)[None].permute(0, 3, 1, 2)  # (1, 3, side, side)
                batch.append(
                    functional.interpolate(image, (size, size), mode="bilinear", antialias=True)
                )
                if len(batch) == BATCH_SIZE:
                    yield torch.cat(batch)
                    batch = []
            if batch:
                yield torch.cat(batch)

    return _plain_loop(work, batches)


def decord(work: Work) -> int:
    """The loop with decord, which scales each frame to the height; then the crop cuts the width."""
    import torch
    from decord import VideoReader

    size = _load(work)[1].height
    full = VideoReader(str(work.clips[0]))[0].shape  # of all clips of a set
    width = round(size * full[1] / full[0])

    def batches(path: Path) -> Iterator[torch.Tensor]:
        # With a size given its memory stays flat.
        video = VideoReader(str(path), width=width, height=size)
        for first in range(0, len(video), BATCH_SIZE):
            batch = video.get_batch(range(first, min(first + BATCH_SIZE, len(video))))
            yield _centre(torch.from_numpy(batch.asnumpy())).permute(0, 3, 1, 2)

    return _plain_loop(work, batches)


CONTESTANTS: dict[str, Callable[[Work], int]] = {
    "encode": encode,
    "decoding": decoding,
    "encoding": encoding,
    "pyav": pyav,
    "decord": decord,
}


def _plain_loop(work: Work, batches: Callable[[Path], Iterator[Any]]) -> int:
    """A clip at a time: uint8 tensors (B, 3, H, W) through E, one file of latents a clip."""
    import torch

    model, num_frames = _load(work)[0], 0
    work.out.mkdir()
    with torch.inference_mode():
        for path in work.clips:
            latents = []
            for batch in batches(path):
                x = batch.to(work.device).float() / 127.5 - 1
                latents.append(model.encoder(x).half().cpu().numpy())
            np.save(work.out / f"{path.stem}.npy", np.concatenate(latents))
            num_frames += sum(map(len, latents))
    return num_frames


def _centre(images: Any) -> Any:
    """The largest centred square of images (..., H, W, 3)."""
    height, width = images.shape[-3:-1]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return images[..., top : top + side, left : left + side, :]


def _load(work: Work) -> tuple[Any, Any]:
    """The frame model and the geometry of its frames."""
    from ldf_video.runs.zoo import find_model, load_frame_model
    from ldf_video.video.geometry import geometry_of

    loaded = load_frame_model(find_model(work.frame_model, "frame")[0], device=work.device)
    return loaded.model, geometry_of(loaded.config)


def _precision(work: Work) -> str:
    from ldf_video.runs.command import choose_precision

    return choose_precision("auto", device=work.device)


def _cpu_seconds() -> float:
    """Of this process and of those that it started and that have ended."""
    return sum(os.times()[:4])


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def run_one(name: str, folder: Path, options: argparse.Namespace) -> None:
    """Let one contestant run over one short clip, then over all clips; prints JSON."""
    clips = [folder / file for file, _ in _index(folder)]
    with tempfile.TemporaryDirectory() as directory:
        out, short = Path(directory) / "out", Path(directory) / "short"
        short.mkdir()
        (file, _), *_ = bench_clips.cut(clips[-1], short, num_frames=1, title="short")
        _write_index(short, [(file.name, 1)])
        contestant = CONTESTANTS[name]
        contestant(Work([file], Path(directory) / "warm", options.frame_model, options.device))
        start, cpu_start = time.perf_counter(), _cpu_seconds()
        num_frames = contestant(Work(clips, out, options.frame_model, options.device))
        found = {
            "num_frames": num_frames,
            "seconds": time.perf_counter() - start,
            "cpu_seconds": _cpu_seconds() - cpu_start,
        }
    print(json.dumps(found))


def compete(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """All contestants in turn over one set of clips, each round beginning with another."""
    names = list(CONTESTANTS)
    rounds: list[dict[str, float]] = []
    num_frames: dict[str, int] = {}
    for number in range(options.rounds):
        speeds = {}
        for name in names[number % len(names) :] + names[: number % len(names)]:
            found = _run(name, folder, options, checkout=HERE)
            num_frames[name] = found["num_frames"]
            speeds[name] = found["num_frames"] / found["seconds"]
        rounds.append(speeds | _ratios(speeds, shared=options.device == "cpu"))
    medians = {key: statistics.median(speeds[key] for speeds in rounds) for key in rounds[0]}
    return {
        "frames": num_frames,
        "frames_per_second": {key: round(medians[key], 1) for key in [*names, "limit"]},
        "ratios": {key: round(value, 3) for key, value in medians.items() if "/" in key},
        "rounds": rounds,
    }


def against(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """`encode` of this checkout and of another in turn, over one set of clips."""
    ratios, speeds = [], []
    for number in range(options.rounds):
        pair = {}
        for checkout in (HERE, options.against) if number % 2 else (options.against, HERE):
            found = _run("encode", folder, options, checkout=checkout)
            pair[checkout] = found["num_frames"] / found["seconds"]
        speeds.append(pair[HERE])
        ratios.append(pair[HERE] / pair[options.against])
    return {
        "frames_per_second": round(statistics.median(speeds), 1),
        "here/there": round(statistics.median(ratios), 3),
        "rounds": [round(ratio, 3) for ratio in ratios],
    }


def _run(
    name: str, folder: Path, options: argparse.Namespace, *, checkout: Path
) -> dict[str, float]:
    """What `run_one` found, in a process that imports the package of a checkout."""
    given = ["--device", options.device, "--frame-model", options.frame_model]
    found: dict[str, float] = alone(__file__, "--one", name, folder, *given, checkout=checkout)
    _say(
        f"  {folder.name} {name} of {checkout.name}: "
        f"{found['num_frames'] / found['seconds']:,.0f} frames/s "
        f"({found['seconds']:.1f} s, of all cores {found['cpu_seconds']:.1f} s)"
    )
    return found


def _ratios(speeds: dict[str, float], *, shared: bool) -> dict[str, float]:
    """The limit and what `encode` reaches of it, of one round."""
    parts = speeds["decoding"], speeds["encoding"]
    limit = 1 / sum(1 / part for part in parts) if shared else min(parts)
    ours = speeds["encode"]
    return {
        "limit": limit,
        "encode/limit": ours / limit,
        "encode/pyav": ours / speeds["pyav"],
        "encode/decord": ours / speeds["decord"],
    }


def make_clips(video: Path, kind: Kind, name: str, *, work: Path, scale: float) -> Path:
    """The folder of a set of clips, made if it is not there."""
    folder = work / f"{video.stem}-{name}-{scale:g}"
    if _index_of(folder).exists():
        return folder
    _say(f"making {folder}")
    whole = _whole(video, kind, name, work=work)
    folder.mkdir(parents=True, exist_ok=True)
    made: list[tuple[Path, int]] = []
    if kind.num_long_frames:
        num_frames = round(scale * kind.num_long_frames)
        made += _cut_to(whole, folder, num_frames=num_frames, each=num_frames // 2, title="long")
    num_frames = round(scale * kind.num_frames)
    made += _cut_to(whole, folder, num_frames=num_frames, each=CLIP_FRAMES, title="clip")
    _write_index(folder, [(path.name, count) for path, count in made])
    return folder


def _cut_to(
    whole: Path, folder: Path, *, num_frames: int, each: int, title: str
) -> list[tuple[Path, int]]:
    """Clips of a video until there are enough frames; a second turn makes other files."""
    made: list[tuple[Path, int]] = []
    for turn in itertools.count():
        for clip in bench_clips.cut(whole, folder, num_frames=each, title=f"{title}-{turn}"):
            made.append(clip)
            if sum(count for _, count in made) >= num_frames:
                return made
    raise AssertionError


def _whole(video: Path, kind: Kind, name: str, *, work: Path) -> Path:
    """The video at the size of a kind, up to 8,000 frames; itself where it has it."""
    import av

    with av.open(str(video)) as container:
        context = container.streams.video[0].codec_context
        if (context.name, context.height, context.width) == ("h264", kind.height, kind.width):
            return video
    path = work / f"{video.stem}-{name}.mp4"
    if not path.exists():
        unfinished = path.with_suffix(".part.mp4")
        bench_clips.rescale(
            video, unfinished, height=kind.height, width=kind.width, num_frames=8_000
        )
        unfinished.rename(path)
    return path


def _index_of(folder: Path) -> Path:
    """Which clips a folder holds, and their frames; hidden, so no source."""
    return folder / ".clips.json"


def _index(folder: Path) -> list[tuple[str, int]]:
    return [(name, count) for name, count in json.loads(_index_of(folder).read_text())]


def _write_index(folder: Path, clips: list[tuple[str, int]]) -> None:
    _index_of(folder).write_text(json.dumps(clips))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--video", type=Path, help="a real video; by default one is made")
    parser.add_argument("--work", type=Path, default=Path("bench_encode"), help="keeps the clips")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="so many times the frames")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--frame-model", default="pacman-32", help="of square frames")
    parser.add_argument("--against", type=Path, help="another checkout of ldf-video")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        run_one(options.one[0], Path(options.one[1]), options)
        return 0
    options.work.mkdir(parents=True, exist_ok=True)
    video = options.video
    if video is None:
        video = options.work / "scene.mp4"
        if not video.exists():
            bench_clips.make_scene(video.with_suffix(".part.mp4"), num_frames=4_800)
            video.with_suffix(".part.mp4").rename(video)
    results: dict[str, Any] = {
        "video": video.name,
        "cores": _num_cores(),
        "device": options.device,
        "kinds": {name: asdict(KINDS[name]) for name in options.kinds},
    }
    folders = {}
    for name in options.kinds:
        folders[name] = make_clips(video, KINDS[name], name, work=options.work, scale=options.scale)
    for name, folder in folders.items():
        results[name] = (against if options.against else compete)(folder, options)
    print(json.dumps(results, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
