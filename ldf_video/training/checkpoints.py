"""Checkpoints on disk: a directory that is complete at any instant.

    config.json         what the model is and how it was trained; readable by people
    model.safetensors   the averaged weights, all that is needed to use the model
    state.pt            while training: weights, averages, optimizers, step (loaded weights_only)
    metrics.jsonl       a line every few updates
    samples/            pictures made while training
    best/               config.json and weights of the lowest held-out loss: a checkpoint too

Every file is written beside its place and moved into it. Nothing here can run code on loading.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ldf_video.errors import CheckpointError
from ldf_video.output import PARTS, json_text, reason, remedy, write_atomically, write_errors

FORMAT_VERSION = 1
CONFIG, WEIGHTS, STATE, METRICS = "config.json", "model.safetensors", "state.pt", "metrics.jsonl"
BEST = "best"

_PARTS: dict[str, dict[str, tuple[str, ...]]] = {
    "frame": {"model": (), "frames": ("height", "width", "crop", "fps")},
    "top": {"model": (), "frame_model": ("fingerprint", "path")},
}
"""What the config of each kind holds at least, part by part."""
_UNREADABLE: tuple[type[Exception], ...] = (
    *(OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError, zipfile.BadZipFile),
    *(TypeError, AttributeError, LookupError),
)
"""What torch raises on damaged states, documented or seen."""
_STATE_PARTS = {"step", "elapsed_seconds", "done", "networks", "average", "optimizers"}


def save_config(directory: Path, config: Mapping[str, Any]) -> None:
    """Write config.json with the format's version."""
    text = json_text({"format_version": FORMAT_VERSION, **config}, indent=2) + "\n"
    write_atomically(directory / CONFIG, lambda path: path.write_text(text))


def load_config(directory: Path, *, kind: str | None = None) -> dict[str, Any]:
    """Read config.json of a checkpoint, of a `kind` ("frame" or "top") if one is given.

    Raises:
        CheckpointError: there is none, it is damaged, newer than this program, or of another kind.
    """
    path = directory / CONFIG
    try:
        config = json.loads(path.read_text())
        version, found = config["format_version"], str(config["kind"])
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(
            f"no checkpoint at {directory}: expected a directory with {CONFIG}"
        ) from None
    except OSError as error:
        raise _unreadable(path, error) from None
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is not a checkpoint's config: {reason(error)}") from None
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format {version}, expected {FORMAT_VERSION}: "
            "use the ldf-video that wrote it"
        )
    if found not in _PARTS or kind not in (None, found):
        expected = f"a {kind} model" if kind else "a frame or top model"
        raise CheckpointError(f"{directory} holds a {found} model, expected {expected}")
    for part, names in _PARTS[found].items():
        held = config.get(part)
        if not isinstance(held, dict) or not held.keys() >= set(names):
            raise CheckpointError(
                f"{path} is damaged: expected {part!r} with {', '.join(names) or 'its shape'}; "
                "restore it from a copy"
            )
    return dict(config)


def save_weights(directory: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write model.safetensors."""
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}

    def write(path: Path) -> None:
        try:
            save_file(kept, path)
        except SafetensorError as error:  # it tells the system's number in words alone
            if number := re.search(r"(?:os error |code: )(\d+)", str(error)):
                raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
            raise OSError(str(error)) from error

    write_atomically(directory / WEIGHTS, write)


def save_best(
    directory: Path, tensors: Mapping[str, Tensor], *, known: Mapping[str, float]
) -> None:
    """Keep weights in best/, in place of those before, and what is `known` of them."""
    best = directory / BEST
    save_weights(best, tensors)
    save_config(best, {**load_config(directory), "best": dict(known)})


def best_score(directory: Path, name: str, known: float | None) -> float | None:
    """The lowest score so far: a kill may have come between best/ and the state that knows it."""
    if not (directory / BEST / CONFIG).is_file():
        return known
    scores = [load_config(directory / BEST).get("best", {}).get(name), known]
    return min((score for score in scores if score is not None), default=None)


def load_weights(directory: Path) -> dict[str, Tensor]:
    """Read model.safetensors, on the CPU, as it was stored.

    Raises:
        CheckpointError: there is none or it is damaged.
    """
    path = directory / WEIGHTS
    if not path.is_file():
        raise CheckpointError(f"{directory} has no {WEIGHTS} yet: let its training go on first")
    try:
        with path.open("rb"):  # without permission safetensors would report a missing file
            return load_file(path)
    except OSError as error:
        raise _unreadable(path, error) from None
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None


def weights_into(module: torch.nn.Module, directory: Path) -> dict[str, Tensor]:
    """Load model.safetensors into a module of float32 weights; returns them as they were stored.

    Raises:
        CheckpointError: names or shapes do not agree.
    """
    stored = load_weights(directory)
    try:
        module.load_state_dict({k: v.float() for k, v in stored.items()})
    except RuntimeError as error:
        raise CheckpointError(
            f"{directory / WEIGHTS} does not fit its config: {reason(error)}"
        ) from None
    return stored


def fingerprint_of(directory: Path) -> str:
    """The fingerprint of the model in a directory."""
    return fingerprint(load_config(directory)["model"], load_weights(directory))


def fingerprint(shape: Mapping[str, Any], weights: Mapping[str, Tensor]) -> str:
    """sha256 of a model's shape and stored weights: what makes two models the same."""
    digest = hashlib.sha256(json.dumps(shape, sort_keys=True).encode())
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def encoder_of(
    shape: Mapping[str, Any], weights: Mapping[str, Tensor], *, like: str
) -> dict[str, str]:
    """What a config says of an E that was taken over: whose latents it makes, and its digest.

    `shape` is the model's, `like` the fingerprint of the model whose E it was.
    """
    return {"fingerprint": like, "digest": _encoder_digest(shape, weights)}


def latents_fingerprint(config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> str:
    """The fingerprint of the model whose latents these weights make: what stores of them name.

    It is their own, unless their E was taken over from another model and is still the same.
    """
    like = config.get("encoder")
    if isinstance(like, dict) and like.get("digest") == _encoder_digest(config["model"], weights):
        return str(like["fingerprint"])
    return fingerprint(config["model"], weights)


def latents_fingerprint_of(directory: Path) -> str:
    """That of the model in a directory."""
    return latents_fingerprint(load_config(directory), load_weights(directory))


def _encoder_digest(shape: Mapping[str, Any], weights: Mapping[str, Tensor]) -> str:
    """Of E's weights, whatever the precision that they are stored in, and of the size of frames."""
    size = {name: shape.get(name) for name in ("height", "width")}
    return fingerprint(size, {k: v.float() for k, v in weights.items() if k.startswith("encoder.")})


def save_state(directory: Path, state: Mapping[str, Any]) -> None:
    """Write the one file that training resumes from."""

    def write(path: Path) -> None:
        try:
            with path.open("wb") as file:
                torch.save(dict(state), file)
        except RuntimeError as error:  # that its archive is cut short: the cause came before
            cause = error.__context__
            raise cause if isinstance(cause, OSError) else OSError(str(error)) from error

    write_atomically(directory / STATE, write)


def load_state(directory: Path, *, mapped: bool = False) -> dict[str, Any] | None:
    """Read it back on the CPU, or None where training has not saved one yet.

    With `mapped` tensors stay in the file until they are looked at.

    Raises:
        CheckpointError: it is damaged, or holds more than tensors and numbers.
    """
    path = directory / STATE
    if not path.is_file():
        return None
    try:
        if not zipfile.is_zipfile(path):  # what torch wrote before that is a bare pickle
            raise ValueError("it is damaged")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a damaged file may pass for another pickle protocol
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
        if not isinstance(state, dict) or not state.keys() >= _STATE_PARTS:
            raise ValueError("it holds something else")
    except PermissionError as error:
        raise _unreadable(path, error) from None
    except _UNREADABLE as error:
        raise CheckpointError(
            f"{path} cannot be resumed from: {reason(error)}; "
            "--no-resume starts anew and keeps the old run"
        ) from None
    return dict(state)


def append_metrics(directory: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Add lines to metrics.jsonl; a value that is no finite number is null there.

    Raises:
        WriteError: the disk is full or fails.
    """
    path = directory / METRICS
    with write_errors(path), path.open("a") as file:
        file.writelines(json_text(line) + "\n" for line in lines)


def read_metrics(directory: Path) -> list[dict[str, Any]]:
    """The whole lines of metrics.jsonl; what was no finite number is None, also in old files."""
    path = directory / METRICS
    if not path.is_file():
        return []
    lines = []
    for line in path.read_text().splitlines():
        with contextlib.suppress(ValueError):  # a line that a kill tore
            lines.append(dict(json.loads(line, parse_constant=lambda name: None)))
    return lines


def cut_metrics(directory: Path, *, after_step: int) -> None:
    """Drop the lines of updates that the saved state does not hold."""
    path = directory / METRICS
    if not path.is_file():
        return
    lines = [line for line in read_metrics(directory) if line["step"] <= after_step]
    kept = [json_text(line) + "\n" for line in lines]
    write_atomically(path, lambda partial: partial.write_text("".join(kept)))


def move_aside(path: Path) -> Path:
    """Rename a directory to a free name beside it; nothing is deleted.

    Raises:
        CheckpointError: it is the current directory, or all such names are taken.
    """
    aside = _free_name(path)
    with write_errors(aside):
        path.rename(aside)
    return aside


def keep_finished(directory: Path) -> Path | None:
    """Copy the model of a finished run to a free name beside it, before it is trained for longer.

    Latents and top models that were made with it go on with the copy. A model without a state, such
    as a copy of a shipped one, is finished too. Returns where the copy is, None without one.

    Raises:
        CheckpointError: the state or the model is damaged, or all such names are taken.
        WriteError: the copy cannot be written.
    """
    state = load_state(directory, mapped=True)
    if not (directory / WEIGHTS).is_file() or not (state is None or state["done"]):
        return None
    aside = _free_name(directory)
    save_weights(aside, load_weights(directory))
    save_config(aside, load_config(directory))
    return aside


def _free_name(path: Path) -> Path:
    if not path.name:
        raise CheckpointError(f"{path} cannot be moved aside: name another --out")
    for number in range(1, 10_000):
        aside = path.with_name(f"{path.name}.old-{number}")
        if not aside.exists():
            return aside
    raise CheckpointError(f"{path} has 9,999 old versions beside it: remove some")


@contextlib.contextmanager
def lock(directory: Path) -> Iterator[None]:
    """Hold a directory as the only trainer; what a kill, which frees it, left half written goes.

    Raises:
        CheckpointError: another process holds it, or it cannot be made.
    """
    held = FileLock(directory / ".lock", timeout=0)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        held.acquire()
    except Timeout:
        raise CheckpointError(
            f"{directory} is in use by another training: wait for it or name another --out"
        ) from None
    except OSError as error:
        raise CheckpointError(
            f"{directory} cannot be used: {reason(error)}; "
            f"{remedy(error, elsewhere='name another --out')}"
        ) from error
    try:
        for place in (directory, directory / BEST, directory / "samples"):
            for part in place.glob(PARTS):
                with contextlib.suppress(OSError):
                    part.unlink()
        yield
    finally:
        held.release()


def _unreadable(path: Path, error: OSError) -> CheckpointError:
    todo = remedy(error, elsewhere="restore it from a copy")
    return CheckpointError(f"{path} cannot be read: {reason(error)}; {todo}")
