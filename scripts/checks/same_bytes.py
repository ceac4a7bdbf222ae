"""The same commands in two checkouts: every file that they write must be the same, byte for byte.

    python scripts/checks/same_bytes.py [--checkout DIR] [--against DIR [--takeover]] [--only WORD]

Makes clips of several kinds, runs every command on them with the package of each checkout (this
one by default), with a seed and one thread, and prints the SHA-256 of what each wrote: rows and
clips of stores, weights and configs of checkpoints, videos and pictures, what was printed. Exit
code 1 where the two differ. With --takeover the other checkout begins: its stores, checkpoints and
runs must open and go on here.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parents[2]

FRAME = "train-frame clips --steps 12 --batch-size 8 --seed 1 --fps 5"
TOP = "train-top --steps 12 --batch-size 4 --seed 2"
COMMANDS = {
    "frames": f"{FRAME} --out frame --size 32x24",
    "frames-again": f"{FRAME.replace('12', '20')} --out frame",
    "frames-of-paper": f"{FRAME} --out paper --size 24 --preset paper --crop none",
    "frames-of-parts": f"{FRAME} --out parts --size 16 --optimizer adam --accumulate 2 "
    "--gradient-checkpointing --width 16 --latent-noise 0.3",
    "frames-from-shipped": f"{FRAME} --out from --init pacman-32 --steps 3",
    "latents": "encode clips --frame-model frame --out latents",
    "latents-of-paper": "encode clips --frame-model paper --out latents-paper --fps 3",
    "latents-of-shipped": "encode clips --frame-model film-64 --out latents-film --crop none",
    "latents-by-decord": "encode clips --frame-model frame --out latents-decord --reader decord",
    "top": f"{TOP} --latents latents --out top",
    "top-again": f"{TOP.replace('12', '20')} --latents latents --out top",
    "top-mlp": f"{TOP} --latents latents-paper --out mlp --kind mlp --window 4",
    "top-of-film": f"{TOP} --latents latents-film --out top-film --window 8 --optimizer adam",
    "video": "generate --top-model top --frame-model frame --frames 21 --seed 3 -o a.mp4",
    "videos": "generate --top-model top --frame-model frame --num-videos 3 --seed 3 -o videos",
    "picture": "generate --top-model mlp --frame-model paper --seed 3 -o a.png",
    "gif": "generate --top-model top --frame-model frame --from clips/plain.mp4 --seed 3 -o a.gif",
    "shipped": "generate --frames 9 --seed 4 --upscale 2 -o shipped.mp4",
    "reconstruction": "reconstruct clips/plain.mp4 --frame-model frame -o b.mp4",
    "info-of-store": "info latents",
    "info-of-model": "info frame",
    "info-of-clip": "info clips/plain.mp4",
}


def make_clips(folder: Path) -> None:
    """A video, a variable rate, an animation, an array, a series of pictures, a broken file."""
    folder.mkdir()
    random = np.random.default_rng(0)
    texture = random.integers(0, 255, (90, 160, 3), np.uint8).repeat(2, 0).repeat(2, 1)
    pictures = [np.roll(texture, (2 * n, 3 * n), (0, 1))[:120, :160] for n in range(60)]
    for name, codec, pix_fmt, step in (
        ("plain.mp4", "libx264", "yuv420p", 1),
        ("uneven.mkv", "ffv1", "bgr0", 3),
        ("ten.mkv", "libx265", "yuv420p10le", 1),
    ):
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream(codec, rate=25)
            stream.thread_count = 1
            stream.height, stream.width, stream.pix_fmt = 120, 160, pix_fmt
            if codec == "libx265":
                stream.codec_context.options = {"x265-params": "pools=none:frame-threads=1"}
            for number, picture in enumerate(pictures):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts = number + number // 7 * (step - 1)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    np.save(folder / "array.npy", np.stack([pictures[:20], pictures[20:40]])[..., :64, :64, :])
    images = [Image.fromarray(picture) for picture in pictures[:15]]
    images[0].save(folder / "animation.gif", save_all=True, append_images=images[1:], duration=80)
    (folder / "series").mkdir()
    for number, image in enumerate(images):
        image.save(folder / "series" / f"{number:03d}.png")
    (folder / "cut.mp4").write_bytes((folder / "plain.mp4").read_bytes()[:4000])


def run_commands(
    checkout: Path, clips: Path, *, only: str, begun_by: Path | None = None
) -> dict[str, str]:
    """Run them all in a new folder; the hash of all that each left behind, by its name.

    Those that begin something, if asked, with the package of another checkout.
    """
    hashes: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(clips, Path(folder) / "clips")
        for name, command in COMMANDS.items():
            begins = begun_by and command.startswith(("train", "encode")) and "again" not in name
            package = begun_by if begins else checkout
            environment = os.environ | {"PYTHONPATH": str(package), "OMP_NUM_THREADS": "1"}
            ran = subprocess.run(
                [sys.executable, "-m", "ldf_video", *command.split(), "--device", "cpu", "--quiet"]
                if not command.startswith("info")
                else [sys.executable, "-m", "ldf_video", *command.split()],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            print(f"  {name}: {ran.stderr.strip()[-300:]}" if ran.returncode else f"  {name}")
            hashes |= {f"{name} (exit, printed)": digest([ran.returncode, ran.stdout])}
            known = {line.split(":")[0] for line in hashes}
            hashes |= {
                f"{path.relative_to(folder)}: {name}": content(path, Path(folder), package)
                for path in sorted(Path(folder).rglob("*"))
                if wanted(path, Path(folder)) and str(path.relative_to(folder)) not in known
            }
            if "again" in name:  # what went on has changed
                hashes |= {
                    f"{path.relative_to(folder)}: {name}": content(path)
                    for path in sorted(Path(folder).rglob("model.safetensors"))
                }
    return {name: value for name, value in hashes.items() if only in name}


def wanted(path: Path, folder: Path) -> bool:
    """Whether a file is a result: no lock, no log with times in it, no input."""
    return (
        path.is_file()
        and path.relative_to(folder).parts[0] != "clips"
        and path.suffix in (".npy", ".sqlite", ".safetensors", ".mp4", ".gif", ".png", ".json")
        and path.name != "curve.png"
    )


def content(path: Path, *places: Path) -> str:
    """The hash of what a file says: of a manifest its clips and rows, else its bytes.

    Args:
        path: of the file.
        places: whose names in a .json are no part of it.
    """
    if path.suffix == ".sqlite":
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as manifest:
            clips = manifest.execute(
                "SELECT clip_id, num_frames, fps_num, fps_den, status FROM clips ORDER BY 1"
            ).fetchall()
            extents = manifest.execute(
                "SELECT clip_id, shard, start, num_frames FROM extents "
                "ORDER BY clip_id, first_frame"
            ).fetchall()
            sources = manifest.execute("SELECT source, size, clip_id FROM sources ORDER BY 1, 3")
            lost = manifest.execute("SELECT source, size, reason FROM quarantine ORDER BY 1, 3")
            rows: dict[str, Any] = {}  # of each clip, wherever in the shards they lie
            for clip_id, shard, start, count in extents:
                part = np.load(path.parent / f"data-{shard:05d}.npy", mmap_mode="r")
                found = rows.setdefault(clip_id, hashlib.sha256())
                found.update(part[start : start + count].tobytes())
            hashes = {clip_id: found.hexdigest() for clip_id, found in rows.items()}
            return digest([clips, hashes, sources.fetchall(), lost.fetchall()])
    if path.suffix == ".npy":  # in no certain order where several readers work
        rows = np.load(path)
        return digest(sorted(hashlib.sha256(row.tobytes()).hexdigest() for row in rows))
    if path.suffix == ".json":
        said = path.read_text()
        for place in places:
            said = said.replace(str(place), "here")
        return digest(json.loads(said))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digest(value: object) -> str:
    """SHA-256 of a value as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description="Hashes of what every command writes.")
    parser.add_argument("--checkout", type=Path, default=HERE)
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--takeover", action="store_true", help="what that one began goes on here")
    parser.add_argument("--only", default="", help="show what has this in its name")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_clips(Path(folder) / "clips")
        mine = run_commands(
            options.checkout.resolve(),
            Path(folder) / "clips",
            only=options.only,
            begun_by=options.against.resolve() if options.takeover else None,
        )
        theirs = mine
        if options.against:
            against = options.against.resolve()
            theirs = run_commands(against, Path(folder) / "clips", only=options.only)
    for name in sorted(mine | theirs):
        one, other = mine.get(name, "nothing"), theirs.get(name, "nothing")
        print(f"{one[:16]} {name}" if one == other else f"{one[:16]} not {other[:16]} {name}")
    differ = [name for name in mine | theirs if mine.get(name) != theirs.get(name)]
    print(f"{len(mine)} results, {len(differ)} differ")
    sys.exit(bool(differ))


if __name__ == "__main__":
    main()
