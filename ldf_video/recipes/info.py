"""info: what a path is, how good it is, and the command that uses it, in a few lines."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ldf_video import hints
from ldf_video.errors import ReadError, UsageError, counted
from ldf_video.files.archives import ArchivePath
from ldf_video.files.layout import layout_of
from ldf_video.files.locations import look_at, split_inner
from ldf_video.options.reading import Info
from ldf_video.readers.clips import probe
from ldf_video.runs import hub
from ldf_video.runs.command import out_of_memory
from ldf_video.runs.curve import CURVE, SHEET
from ldf_video.runs.zoo import shipped_models
from ldf_video.sources.folder import named_source, told_by_file
from ldf_video.sources.ranges import clock
from ldf_video.sources.source import within
from ldf_video.store.reader import StoreReader
from ldf_video.training import checkpoints

Described = dict[str, Any]

_HELD_OUT = {
    "psnr_db": "held-out frames come back at {:.1f} dB",
    "velocity": "held-out windows: squared error of the velocity {:.3f}",
    "distance": "held-out windows: squared distance from the teacher {:.3f}",
    "latent_frechet": "held-out windows: Frechet distance {:.1f}",
}
"""What is said of the first of these figures that there is."""


@out_of_memory("a machine that has more")
def info(options: Info) -> Described:
    """Describe a video, a store, a checkpoint or a shipped model; see `ldf_video.api.info`."""
    asked, path = str(options.path), Path(options.path)
    if not path.exists() and asked in shipped_models():
        path = shipped_models()[asked]
    elif not path.exists() and hub.is_name(asked):
        path = hub.fetch(asked)
    place, inner = split_inner(path)
    if isinstance(place, ArchivePath) or (inner and isinstance(place, Path)):
        if not place.exists():
            raise UsageError(f"{path} does not exist: expected a video, a store or a checkpoint")
        return _video(path, options)
    if not path.exists():
        raise UsageError(f"{path} does not exist: expected a video, a store or a checkpoint")
    if (path / "store.json").is_file():
        return _store(path)
    if (path / checkpoints.CONFIG).is_file():
        found = described_model(path)
        return {"summary": _model_lines(found, asked=asked), **found}
    kinds = [kind for kind in ("frame", "top") if (path / kind / checkpoints.CONFIG).is_file()]
    if kinds:
        models, card = {kind: described_model(path / kind) for kind in kinds}, _card(path)
        summary = _models_lines(list(models.values()), asked=asked, card=card.get("card", []))
        return {"summary": summary, "what": "models", **card, **models}
    return _video(path, options)


def _video(path: Path, options: Info) -> Described:
    place, inner = split_inner(path)
    try:
        source = named_source(place)
    except ReadError as error:
        raise UsageError(
            f"{path} is a directory, and neither a store nor a checkpoint; as a clip: {error}"
        ) from None
    if isinstance(place, Path) and (entry := look_at(place)) and not entry.is_folder:
        source = told_by_file(source, place, entry)
    try:
        found = probe(within(source, inner, layout_of(options)))
    except ReadError as error:
        raise ReadError(f"{path}: {error}") from None
    described = {
        "what": "video",
        "path": str(path),
        "container": found.container,
        "codec": found.codec,
        "width": found.width,
        "height": found.height,
        "fps": str(found.fps),
        "num_frames": found.num_frames,
        "duration_seconds": round(found.duration_seconds, 3),
        "rotation": found.rotation,
        "truncated": found.truncated,
        **({"arrays": list(found.held)} if found.held else {}),
        **({"conditions": list(found.told)} if found.told else {}),
    }
    lines = [
        f"video of {counted(found.num_frames, 'frame')}, {found.width}x{found.height}, "
        f"{float(found.fps):.4g} frames a second, {described['duration_seconds']:,} seconds"
    ]
    lines += [*found.held, *found.told]
    if found.truncated:
        lines.append("it is damaged: these frames are what can be read")
    return {"summary": [*lines, f"next: {hints.encode_line(path, None)}"], **described}


def _store(path: Path) -> Described:
    reader = StoreReader(path)
    quarantined, salvaged = reader.quarantined(), len(reader.salvaged())
    files = [file for part in reader.parts for file in part.iterdir() if file.is_file()]
    num_bytes = sum(file.stat().st_size for file in files)
    described = {
        "what": f"store of {reader.spec.kind}",
        "path": str(path),
        "clips": reader.num_clips,
        "frames": reader.num_frames,
        "hours": round(reader.num_seconds / 3600, 4),
        **({"parts": len(reader.parts)} if len(reader.parts) > 1 else {}),
        "bytes": num_bytes,
        "item_shape": list(reader.spec.item_shape),
        "dtype": reader.spec.dtype,
        "fingerprint": reader.spec.fingerprint,
        "salvaged": salvaged,
        "quarantined_by_cause": _causes(bad.reason for bad in quarantined),
        "quarantined": [f"{reader.title(bad.source)}: {bad.reason}" for bad in quarantined],
    }
    size = f"{counted(reader.num_clips, 'clip')}, {counted(reader.num_frames, 'frame')}, "
    size += f"{num_bytes / 1e6:,.1f} MB"
    state = f"{counted(len(quarantined), 'source')} unreadable, {salvaged:,} cut short"
    if labels := reader.labels():
        described["labels"] = labels
    if reader.columns:
        told = described["conditions"] = _conditions(reader)
        state += f", conditions of {told['frames']:,} of {counted(reader.num_frames, 'frame')}: "
        state += _columns_line(reader)
    if cuts := _cuts(reader):
        described["cuts"] = cuts
        state += f", {sum(map(len, cuts.values())):,} cuts"
    elif reader.spec.kind == "latents" and reader.info.get("cuts") != "auto":
        anew = shlex.join(["ldf-video", "encode", "CLIPS", "--out", f"{path}-cuts"])
        state += f"\ncuts were not looked for; to have them, encode anew: {anew}"
    if reader.spec.kind == "latents":
        state = f"made by {reader.info.get('frame_model') or 'a model unknown'}, {state}"
        follows = hints.train_top_line(path)
    else:
        follows = shlex.join(["ldf-video", "train-frame", "CLIPS", "--frames-store", str(path)])
    lines = [f"{described['what']}: {size}", *state.split("\n"), f"next: {follows}"]
    return {"summary": lines, **described}


def _cuts(reader: StoreReader) -> dict[str, list[str]]:
    """When each source cuts from one shot to the next, from its first frame on."""
    times: dict[str, list[str]] = {}
    for clip, frame in zip(*(values.tolist() for values in reader.cuts()), strict=True):
        seconds = float(frame / reader.fps(clip))
        times.setdefault(reader.clip_id(clip), []).append(clock(seconds))
    listed: dict[str, list[str]] = {}
    for source in reader.sources() if times else ():
        number = source.clip_id.partition("#")[1:]
        if source.clip_id in times:
            listed[reader.title(source.source) + "".join(number)] = times[source.clip_id]
    return listed


def _conditions(reader: StoreReader) -> Described:
    """The columns that are known of frames, with the names that one of names has."""
    columns = {column.name: list(column.names) or "numbers" for column in reader.columns}
    return {"frames": reader.count_told(), "columns": columns}


def _columns_line(reader: StoreReader) -> str:
    """Such as `action (left, right), speed`."""
    return ", ".join(map(str, reader.columns))


def _causes(reasons: Iterable[str]) -> dict[str, int]:
    """How many there are of each reason, whatever its numbers; the most frequent first."""
    counts = Counter(re.sub(r"\d+(\.\d+)?", "N", reason) for reason in reasons)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


# -- models --------------------------------------------------------------------------------------


def described_model(path: Path) -> Described:
    """What is known of a model, by its config, its weights and the metrics of its training."""
    config = checkpoints.load_config(path)
    described: Described = {"what": f"{config['kind']} model", "path": str(path)}
    if (path / checkpoints.WEIGHTS).is_file():
        weights = checkpoints.load_weights(path)
        described["parameters"] = sum(tensor.numel() for tensor in weights.values())
        described["bytes"] = (path / checkpoints.WEIGHTS).stat().st_size
        described["fingerprint"] = checkpoints.fingerprint(config["model"], weights)
    state = None if hub.name_of(path) else checkpoints.load_state(path)
    if state is not None:
        described["steps_done"] = state["step"]
        described["minutes_trained"] = round(state["elapsed_seconds"] / 60, 1)
        described["finished"] = state["done"]
    described |= _learned(path)
    rest = {k: v for k, v in config.items() if k not in ("format_version", "kind", "best")}
    return described | _card(path) | rest


def _learned(path: Path) -> Described:
    """How a training went: its last losses, those on other data, and its pictures."""
    found: Described = {}
    lines = checkpoints.read_metrics(path)
    for line in lines:  # the last one stays
        if "progress" in line:
            hidden = ("seconds", "progress")
            found["last"] = {
                k: v for k, v in line.items() if k not in hidden and "gradient_norm" not in k
            }
    for line in lines:
        if any(name.startswith("held_out/") for name in line):
            found["held_out"] = {
                k.removeprefix("held_out/"): v
                for k, v in line.items()
                if k == "step" or k.startswith("held_out/")
            }
    best = path / checkpoints.BEST
    if (best / checkpoints.CONFIG).is_file():
        found["best"] = {"path": str(best), **checkpoints.load_config(best).get("best", {})}
    pictures = [str(path / name) for name in (SHEET, CURVE) if (path / name).is_file()]
    if pictures:
        found["pictures"] = pictures
    return found


def _card(path: Path) -> Described:
    """The model card beside a model: README.md, line by line."""
    card = path / "README.md"
    if not card.is_file():
        return {}
    return {"card": [line for line in card.read_text(errors="replace").splitlines() if line]}


def _model_lines(found: Mapping[str, Any], *, asked: str, on_card: bool = False) -> list[str]:
    """What a model is, how good it is, and the command that uses it by the name `asked`."""
    kind, model = found["what"].partition(" ")[0], found["model"]
    what = f"{found['what']}, {found.get('parameters', 0) / 1e6:.2f} million weights"
    if kind == "top":
        what += f", {model.get('kind', '')}, windows of {model.get('window')} frames"
        follows = hints.top_model_line(asked, model)
    else:
        what += f", {model.get('width')}x{model.get('height')} pixels"
        learned_from = found.get("options", {}).get("top_model") if "finished" in found else None
        follows = hints.frame_model_line("CLIPS", asked, learned_from)
    if found.get("finished") is False:
        clips = ["CLIPS"] if kind == "frame" else []
        follows = shlex.join(["ldf-video", f"train-{kind}", *clips, "--out", asked])
        follows += " goes on with it"
    return [what, quality(found, on_card=on_card), f"next: {follows}"]


def _models_lines(models: list[Described], *, asked: str, card: list[str]) -> list[str]:
    """Of a directory that holds a frame model, a top model or both, and perhaps a card."""
    measured = [line.strip("| ") for line in card if " dB" in line][:1]
    parts = [_model_lines(model, asked=asked, on_card=bool(measured)) for model in models]
    lines = [line for what, quality, _ in parts for line in (what, f"  {quality}")] + measured
    return [*lines, *(follows for *_, follows in parts)]


def quality(found: Mapping[str, Any], *, on_card: bool) -> str:
    """How good a model is on other clips, where its card does not say, and how much it learned."""
    held = found.get("held_out", {})
    name = next((name for name in _HELD_OUT if name in held), None)
    if name is None:
        parts = [] if on_card else ["not measured on held-out clips here"]
    elif held[name] is None:
        parts = ["held-out clips give no finite number"]
    else:
        parts = [_HELD_OUT[name].format(held[name])]
    steps = found.get("steps_done", found.get("trained", {}).get("steps"))
    minutes = found.get("minutes_trained", found.get("trained", {}).get("minutes"))
    if steps is not None:
        parts += [counted(steps, "step"), counted(minutes, "minute") + _epochs(found, steps)]
    if "finished" in found:
        parts.append("finished" if found["finished"] else "not finished")
    return ", ".join(parts)


def _epochs(found: Mapping[str, Any], steps: int) -> str:
    """How often each frame, or each window, was seen, on the average."""
    data, batch = found.get("data", {}), found.get("training", {}).get("batch_size")
    if not data or not batch:
        return ""
    extra = data["clips"] * (found["model"].get("window", 1) - 1)
    return f", {steps * batch / max(data['frames'] - extra, data['clips'], 1):.3g} epochs"
