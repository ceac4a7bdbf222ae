"""What `info` begins with: what a thing is, how good it is, and the command that uses it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from ldf_video import hints

Described = Mapping[str, Any]


def of_video(found: Described) -> list[str]:
    """Of a video, an animation, an array or pictures."""
    said = f"video of {found['num_frames']:,} frames, {found['width']}x{found['height']}"
    rate = float(Fraction(found["fps"]))
    lines = [f"{said}, {rate:.4g} frames a second, {found['duration_seconds']:,} seconds"]
    if found["truncated"]:
        lines.append("it is damaged: these frames are what can be read")
    return [*lines, f"next: {hints.encode_line(found['path'], None)}"]


def of_store(found: Described, *, made_by: str | None) -> list[str]:
    """Of a store; `made_by` is the frame model of latents."""
    size = f"{found['clips']:,} clips, {found['frames']:,} frames, {found['bytes'] / 1e6:,.1f} MB"
    missed = f"{len(found['quarantined']):,} sources unreadable, {found['salvaged']:,} cut short"
    if found["what"] != "store of latents":
        clips = shlex.join(["ldf-video", "train-frame", "CLIPS", "--frames-store", found["path"]])
        return [f"{found['what']}: {size}", missed, f"next: {clips}"]
    made = f"made by {made_by or 'a model unknown'}, {missed}"
    return [f"{found['what']}: {size}", made, f"next: {hints.train_top_line(found['path'])}"]


def of_model(found: Described, *, kind: str, asked: str) -> list[str]:
    """Of a checkpoint, by the name that it was asked for."""
    model = found["model"]
    what = f"{found['what']}, {found.get('parameters', 0) / 1e6:.2f} million weights"
    if kind == "top":
        what += f", {model.get('kind', '')}, windows of {model.get('window')} frames"
        line = hints.generate_line(asked)
    else:
        what += f", {model.get('width')}x{model.get('height')} pixels"
        line = hints.encode_line("CLIPS", asked)
    if found.get("finished") is False:
        clips = ["CLIPS"] if kind == "frame" else []
        line = shlex.join(["ldf-video", f"train-{kind}", *clips, "--out", asked])
        line += " goes on with it"
    return [what, _quality(found), f"next: {line}"]


def of_models(
    frame: Described | None, top: Described | None, *, asked: str, card: list[str]
) -> list[str]:
    """Of a directory that holds a frame model, a top model or both, and perhaps a card."""
    parts = [of_model(part, kind=kind, asked=asked) for kind, part in _there(frame, top)]
    said = [line for what, quality, _ in parts for line in (what, f"  {quality}")]
    said += [line.strip("| ") for line in card if " dB" in line][:1]
    return [*said, *(follows for *_, follows in parts)]


def _there(frame: Described | None, top: Described | None) -> list[tuple[str, Described]]:
    return [(kind, part) for kind, part in (("frame", frame), ("top", top)) if part is not None]


def _quality(found: Described) -> str:
    """How good a model is on clips that it did not learn from, and how much it has learned."""
    held, said = found.get("held_out", {}), []
    if "psnr_db" in held:
        said.append(f"held-out frames come back at {held['psnr_db']:.1f} dB")
    elif "velocity" in held:
        said.append(f"held-out windows: squared error of the velocity {held['velocity']:.3f}")
    elif "latent_frechet" in held:
        said.append(f"held-out windows: Frechet distance {held['latent_frechet']:.1f}")
    else:
        said.append("not measured on held-out clips here")
    steps = found.get("steps_done", found.get("trained", {}).get("steps"))
    minutes = found.get("minutes_trained", found.get("trained", {}).get("minutes"))
    if steps is not None:
        said.append(f"{steps:,} steps, {minutes:g} minutes{_epochs(found, steps)}")
    if "finished" in found:
        said.append("finished" if found["finished"] else "not finished")
    return ", ".join(said)


def _epochs(found: Described, steps: int) -> str:
    """How often each frame, or each window, was seen, on the average."""
    data, batch = found.get("data", {}), found.get("training", {}).get("batch_size")
    if not data or not batch:
        return ""
    extra = data["clips"] * (found["model"].get("window", 1) - 1)
    return f", {steps * batch / max(data['frames'] - extra, data['clips'], 1):.3g} epochs"
