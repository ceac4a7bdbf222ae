"""The last line of each command: where to look, and what to type next. Imports nothing heavy."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ldf_video.options.option import DEFAULT_SHIPPED, FRAME_MODEL, LATENTS, START, TOP_MODEL

EVALUATE_EXTRA = "pip install 'ldf-video[evaluate]'"
"""What `evaluate` needs, unless it is given another judge."""


def after_start(clips: str | Path, out: str | Path, made: Any) -> str:
    """What follows on the whole way, by a `Started`: more of it, or more videos."""
    longer = _line(
        "start", clips, *_option("--out", out, START), "--minutes", f"{made.minutes * 2:g}"
    )
    return (
        f"look at {made.video}, {made.sheet}, {made.page}; for longer training: {longer}; "
        f"next: {_line('generate', '--top-model', made.top_model, '--frames', '256')}"
    )


def after_preview(clips: str | Path, page: Path, *, is_told: bool = False) -> str:
    """What follows on a page about clips, of whose frames something is known, or about a store."""
    if (Path(clips) / "store.json").is_file():
        return f"look at {page} in a browser; next: {_line('info', clips)}"
    played = f", or to play it: {_line('encode', clips)}" if is_told else ""
    return f"look at {page} in a browser; next: {_line('start', clips)}{played}"


def after_train_frame(
    clips: str | Path, out: str | Path, top_model: str | Path | None = None
) -> str:
    """What follows on a frame model, or on one that learned to decode what a top model makes.

    A run that goes on remembers its `top_model`. How its clips are read `encode` knows by itself.
    """
    with suppress(OSError, ValueError, AttributeError):  # no run, or one that is damaged
        config = json.loads((Path(out) / "config.json").read_text())
        top_model = top_model or config.get("options", {}).get("top_model")
    return f"{_pictures(Path(out))}next: {frame_model_line(clips, out, top_model)}"


def after_encode(out: str | Path) -> str:
    """What follows on a store of latents."""
    return f"to look at it: {_line('info', out)}; next: {train_top_line(out)}"


def after_train_top(out: str | Path) -> str:
    """What follows on a top model."""
    model: dict[str, Any] = {}
    with suppress(OSError):
        model = json.loads((Path(out) / "config.json").read_text())["model"]
    return f"{_pictures(Path(out))}next: {top_model_line(out, model)}"


def after_generate(
    paths: Sequence[Path], seed: int, top_model: str | None, frame_model: str | None = None
) -> str:
    """What follows on generated videos."""
    files = " to ".join(dict.fromkeys(map(str, (paths[0], paths[-1]))))
    chosen = _option("--top-model", top_model, TOP_MODEL)
    if frame_model is not None:  # alone, it would be judged alone
        own = (Path(TOP_MODEL) / "config.json").is_file()
        named = top_model or (TOP_MODEL if own else DEFAULT_SHIPPED)
        chosen = ["--top-model", named, "--frame-model", frame_model]
    needed = "" if find_spec("efficientnet_lite_pytorch") else f"{EVALUATE_EXTRA}, then "
    return (
        f"look at {files}, --seed {seed} makes the same again; "
        f"next: {needed}{_line('evaluate', '--real', 'CLIPS', *chosen)}"
    )


def after_interpolate(path: Path, seed: int) -> str:
    """What follows on the frames between two clips."""
    return f"look at {path}, --seed {seed} makes the same again, another --seed another way"


def after_play(seed: int) -> str:
    """What follows on a film that was watched."""
    return f"--seed {seed} plays the same again"


def after_export(paths: Sequence[Path], page_bytes: int | None) -> str:
    """What follows on graphs, or on a page."""
    if page_bytes is None:
        return f"{paths[0] / 'model.json'} says what the graphs take and give"
    return f"open {paths[-1]} in a browser, {page_bytes / 2**20:.1f} MiB; it needs no network"


def after_publish(folder: Path, address: str | None) -> str:
    """What follows on a folder of models, or on one that is on a hub."""
    if address is None:
        pushed = _line("publish", folder, "--push", "USER/NAME")
        return f"look at {folder / 'README.md'}; it can be moved anywhere; to a hub: {pushed}"
    return f"look at {address}; a new repository is private, its settings there make it public"


def after_reconstruct(
    psnr_db: float, clips: str | Path, output: Path | None, frame_model: str | None
) -> str:
    """What follows on reconstructions, by how good they are."""
    follows = encode_line(clips, frame_model)
    if psnr_db < 20:
        follows = _line("train-frame", clips)
    return f"{'' if output is None else f'look at {output}; '}next: {follows}"


def after_evaluate(output: str | Path | None, real: str | Path) -> str:
    """What follows on figures."""
    if output is not None:
        return f"look at {output}; next: train for longer what is far from the row 'real'"
    return f"to see such clips, next: {_line('evaluate', '--real', real, '-o', 'sheet.png')}"


def encode_line(clips: str | Path, frame_model: str | Path | None) -> str:
    """How to encode clips by a frame model."""
    return _line("encode", clips, *_option("--frame-model", frame_model, FRAME_MODEL))


def frame_model_line(
    clips: str | Path, frame_model: str | Path, top_model: str | Path | None
) -> str:
    """How to encode clips, or how to generate by the top model that a frame model learned from."""
    if top_model is None:
        return encode_line(clips, frame_model)
    named = _option("--frame-model", frame_model, FRAME_MODEL)
    return _line("generate", "--top-model", top_model, *named)


def train_top_line(latents: str | Path) -> str:
    """The command that trains on latents; where something is known of frames, also to play it."""
    words = "train-top", *_option("--latents", latents, LATENTS)
    is_told = any(Path(latents).glob("conditions-*.npy"))
    played = f", or to play it: {_line(*words, '--block', '1')}" if is_told else ""
    return _line(*words) + played


def top_model_line(top_model: str | Path, model: Mapping[str, Any]) -> str:
    """The command that uses a top model, whose "model" is given: one of single frames is played."""
    command = "play" if model.get("block") == 1 and model.get("kept") else "generate"
    return _line(command, *_option("--top-model", top_model, TOP_MODEL))


def _option(flag: str, value: str | Path | None, usual: str) -> list[str]:
    return [] if value is None or Path(value) == Path(usual) else [flag, str(value)]


def _line(command: str, *words: str | Path) -> str:
    return shlex.join(["ldf-video", command, *map(str, words)])


def _pictures(out: Path) -> str:
    """Those that a training left, in words."""
    names = [name for name in ("sheet.png", "sheet.mp4", "curve.png") if (out / name).is_file()]
    return f"look at {', '.join(str(out / name) for name in names)}; " if names else ""
