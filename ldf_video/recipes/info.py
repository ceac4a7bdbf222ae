"""info: what a path is, in a few lines."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ldf_video.errors import ReadError, UsageError
from ldf_video.readers.clips import probe
from ldf_video.runs import verdict
from ldf_video.runs.curve import CURVE, SHEET
from ldf_video.runs.devices import out_of_memory
from ldf_video.runs.zoo import shipped_models
from ldf_video.store.reader import StoreReader
from ldf_video.training import checkpoints
from ldf_video.video.sources import folder_series


@out_of_memory("a machine that has more")
def info(path: str | Path) -> dict[str, Any]:
    """Describe a video, a store, a checkpoint or a shipped model; see `ldf_video.api.info`."""
    asked, path = str(path), Path(path)
    if not path.exists() and str(path) in shipped_models():
        path = shipped_models()[str(path)]
    if not path.exists():
        raise UsageError(f"{path} does not exist: expected a video, a store or a checkpoint")
    if (path / "store.json").is_file():
        return _store(path)
    if (path / checkpoints.CONFIG).is_file():
        found = _checkpoint(path)
        kind = found["what"].partition(" ")[0]
        return {"summary": verdict.of_model(found, kind=kind, asked=asked), **found}
    parts = [part for part in ("frame", "top") if (path / part / checkpoints.CONFIG).is_file()]
    if parts:
        described = {part: _checkpoint(path / part) for part in parts}
        card = _card(path)
        pair = (described.get("frame"), described.get("top"))
        summary = verdict.of_models(*pair, asked=asked, card=card.get("card", []))
        return {"summary": summary, "what": "models", **card, **described}
    if path.is_dir():
        _check_series(path)
    return _video(path)


def _check_series(folder: Path) -> None:
    try:
        folder_series(folder)
    except ReadError as error:
        raise UsageError(
            f"{folder} is a directory, and neither a store nor a checkpoint; as a clip: {error}"
        ) from None


def _video(path: Path) -> dict[str, Any]:
    try:
        found = probe(path)
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
    }
    return {"summary": verdict.of_video(described), **described}


def _store(path: Path) -> dict[str, Any]:
    reader = StoreReader(path)
    quarantined = reader.quarantined()
    described = {
        "what": f"store of {reader.spec.kind}",
        "path": str(path),
        "clips": reader.num_clips,
        "frames": reader.num_frames,
        "hours": round(reader.num_seconds / 3600, 4),
        **({"parts": len(reader.parts)} if len(reader.parts) > 1 else {}),
        "bytes": sum(
            file.stat().st_size
            for part in reader.parts
            for file in part.iterdir()
            if file.is_file()
        ),
        "item_shape": list(reader.spec.item_shape),
        "dtype": reader.spec.dtype,
        "fingerprint": reader.spec.fingerprint,
        "salvaged": len(reader.salvaged()),
        "quarantined_by_cause": _causes(bad.reason for bad in quarantined),
        "quarantined": [f"{bad.source}: {bad.reason}" for bad in quarantined],
    }
    made_by = reader.info.get("frame_model")
    return {"summary": verdict.of_store(described, made_by=made_by), **described}


def _causes(reasons: Iterable[str]) -> dict[str, int]:
    """How many there are of each reason, the most frequent first; its numbers do not tell apart."""
    counts = Counter(re.sub(r"\d+(\.\d+)?", "N", reason) for reason in reasons)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _checkpoint(path: Path) -> dict[str, Any]:
    config = checkpoints.load_config(path)
    described: dict[str, Any] = {"what": f"{config['kind']} model", "path": str(path)}
    if (path / checkpoints.WEIGHTS).is_file():
        weights = checkpoints.load_weights(path)
        described["parameters"] = sum(tensor.numel() for tensor in weights.values())
        described["bytes"] = (path / checkpoints.WEIGHTS).stat().st_size
        described["fingerprint"] = checkpoints.fingerprint_of(path)
    state = checkpoints.load_state(path)
    if state is not None:
        described["steps_done"] = state["step"]
        described["minutes_trained"] = round(state["elapsed_seconds"] / 60, 1)
        described["finished"] = state["done"]
    described |= _learned(path)
    rest = {k: v for k, v in config.items() if k not in ("format_version", "kind", "best")}
    return described | _card(path) | rest


def _learned(path: Path) -> dict[str, Any]:
    """How a training went: its last losses, those on other data, restarts, and its pictures."""
    found: dict[str, Any] = {}
    lines = checkpoints.read_metrics(path)
    trained = [line for line in lines if "progress" in line]
    if trained:
        left_out = ("seconds", "progress")
        found["last"] = {
            k: v for k, v in trained[-1].items() if k not in left_out and "gradient_norm" not in k
        }
    restarts = [
        f"from step {line['step']}: {line['reason']}" for line in lines if "restart" in line
    ]
    if restarts:
        found["restarts"] = restarts
    held_out = [
        {k: v for k, v in line.items() if k == "step" or k.startswith("held_out/")}
        for line in lines
        if any(name.startswith("held_out/") for name in line)
    ]
    if held_out:
        found["held_out"] = {k.removeprefix("held_out/"): v for k, v in held_out[-1].items()}
    if (path / checkpoints.BEST / checkpoints.CONFIG).is_file():
        found["best"] = {
            "path": str(path / checkpoints.BEST),
            **checkpoints.load_config(path / checkpoints.BEST).get("best", {}),
        }
    pictures = [str(path / name) for name in (SHEET, CURVE) if (path / name).is_file()]
    if pictures:
        found["pictures"] = pictures
    return found


def _card(path: Path) -> dict[str, Any]:
    """The model card beside a model: README.md, line by line."""
    card = path / "README.md"
    if not card.is_file():
        return {}
    return {"card": [line for line in card.read_text(errors="replace").splitlines() if line]}
