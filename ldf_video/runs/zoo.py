"""Which model a command means: a directory, a shipped name, or nothing said."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

import ldf_video
from ldf_video.errors import CheckpointError
from ldf_video.models import build
from ldf_video.models.frame import FrameModel
from ldf_video.models.top import TopModel
from ldf_video.training import checkpoints

Model = TypeVar("Model", bound=torch.nn.Module)

DEFAULT_SHIPPED = "pacman-32"
OWN_FRAME, OWN_TOP = Path("checkpoints/frame"), Path("checkpoints/top")


@dataclass(frozen=True)
class Loaded(Generic[Model]):
    """A model ready to use, where it came from and what its config says."""

    model: Model
    directory: Path
    config: dict[str, Any]
    fingerprint: str


def shipped_models() -> dict[str, Path]:
    """Shipped models by name: directories that hold `frame/`, and `top/` where there is a pair.

    They stand inside an installed package, and beside the package in a source tree.
    """
    package = Path(ldf_video.__file__).parent
    found = {}
    for root in (package.parent / "checkpoints", package / "checkpoints"):
        if root.is_dir() and (
            root.parent == package or (package.parent / "pyproject.toml").is_file()
        ):
            pairs = (p for p in root.iterdir() if (p / "frame" / checkpoints.CONFIG).is_file())
            found.update({pair.name: pair for pair in sorted(pairs)})
    return found


def find_frame_model(asked: str | Path | None) -> tuple[Path, bool]:
    """The directory of `--frame-model`, and whether it is a shipped one.

    Without one asked for: checkpoints/frame, else the shipped default. A directory may be a
    checkpoint, or hold `frame/` and `top/`.

    Raises:
        CheckpointError: there is none of that name.
    """
    return _find(asked, part="frame", own=OWN_FRAME)


def find_top_model(asked: str | Path | None) -> tuple[Path, bool]:
    """The directory of `--top-model`, likewise."""
    return _find(asked, part="top", own=OWN_TOP)


def _find(asked: str | Path | None, *, part: str, own: Path) -> tuple[Path, bool]:
    shipped = shipped_models()
    if asked is None:
        if (own / checkpoints.CONFIG).is_file():
            return own, False
        asked = DEFAULT_SHIPPED
    directory = Path(asked)
    if directory.is_dir():
        pair = directory / part
        return (pair if (pair / checkpoints.CONFIG).is_file() else directory), False
    if str(asked) in shipped:
        model = shipped[str(asked)] / part
        if not (model / checkpoints.CONFIG).is_file():
            raise CheckpointError(
                f"the shipped {asked} has no {part} model: encode your clips with it and run "
                "ldf-video train-top"
            )
        return model, True
    having = (name for name, at in shipped.items() if (at / part / checkpoints.CONFIG).is_file())
    names = ", ".join(having) or "none"
    raise CheckpointError(
        f"no {part} model {asked}: expected a directory or a shipped model ({names})"
    )


def load_frame_model(directory: Path, *, device: str) -> Loaded[FrameModel]:
    """Load a frame model for use.

    Raises:
        CheckpointError: it is missing, damaged, or no frame model.
    """
    config = checkpoints.load_config(directory, kind="frame")
    model = _make(directory, lambda: build.frame_model(config["model"]))
    return _load(model, directory, config, device=device)


def load_top_model(directory: Path, *, device: str) -> Loaded[TopModel]:
    """Load a top model for use.

    Raises:
        CheckpointError: it is missing, damaged, or no top model.
    """
    config = checkpoints.load_config(directory, kind="top")
    top = _make(directory, lambda: build.top_model(config["model"]))
    return _load(top, directory, config, device=device)


def frame_model_of(
    top: Loaded[TopModel], *, device: str, asked: str | Path | None = None
) -> Loaded[FrameModel]:
    """The one frame model whose latents a top model learned.

    Args:
        top: the top model.
        device: to load it to.
        asked: a directory or shipped name to take it from; else it is searched.

    Raises:
        CheckpointError: it is nowhere to be found, with where was looked; or `asked` is another.
    """
    wanted = top.config["frame_model"]
    if asked is None:
        return load_matching_frame_model(wanted, beside=top.directory, device=device)
    frame = load_frame_model(find_frame_model(asked)[0], device=device)
    if frame.fingerprint != wanted["fingerprint"]:
        raise CheckpointError(
            f"--frame-model {asked} is {frame.fingerprint[:12]}, the top model {top.directory} "
            f"learned latents of {wanted['fingerprint'][:12]}: name that one, or encode and "
            "train-top again"
        )
    return frame


def load_matching_frame_model(
    wanted: Mapping[str, str], *, device: str, beside: Path
) -> Loaded[FrameModel]:
    """Load the frame model of a reference from wherever it is.

    Args:
        wanted: see `reference_to`.
        device: to load it to.
        beside: the top model's directory.

    Raises:
        CheckpointError: it is nowhere to be found.
    """
    found, looked = find_reference(wanted, "frame", beside=beside)
    if found is None:
        raise CheckpointError(
            f"no frame model {wanted['fingerprint'][:12]} (once at {wanted['path']}), whose "
            f"latents the top model learned, among {', '.join(looked) or 'any'}: "
            "name it by --frame-model, bring it back, or encode and train-top again"
        )
    return load_frame_model(found, device=device)


def reference_to(model: Path, *, beside: Path) -> dict[str, str]:
    """How a config or a store remembers where a model stands, so that both may be moved together.

    Args:
        model: its directory.
        beside: the directory of what refers to it.

    Returns:
        `path`, as seen from the current directory, and `relative`, as seen from `beside`.
    """
    relative = os.path.relpath(model.resolve(), beside.resolve())
    return {"path": str(model), "relative": Path(relative).as_posix()}


def find_reference(
    wanted: Mapping[str, str], part: str, *, beside: Path
) -> tuple[Path | None, list[str]]:
    """Where the model of a fingerprint stands now.

    Searched are where it stood, the own models, their neighbours (so also older ones that were
    moved aside), the best weights of each, and the shipped models.

    Args:
        wanted: its "fingerprint", and where it once was: see `reference_to`.
        part: "frame" or "top".
        beside: the directory of what refers to it.

    Returns:
        Its directory, None where it is nowhere; and the models that were looked at, with the
        reason where one cannot be read.
    """
    looked: dict[Path, str] = {}
    for place in _places(wanted, part, beside):
        model = place.resolve()
        if model in looked or not (model / checkpoints.WEIGHTS).is_file():
            continue
        with contextlib.suppress(CheckpointError):  # no model of this kind
            checkpoints.load_config(place, kind=part)
            looked[model] = str(place)
        try:
            if model in looked and checkpoints.fingerprint_of(place) == wanted["fingerprint"]:
                return place, list(looked.values())
        except CheckpointError as error:  # it may have been the one
            looked[model] = f"{place} ({error})"
    return None, list(looked.values())


def _places(wanted: Mapping[str, str], part: str, beside: Path) -> Iterator[Path]:
    """Directories that may hold a model, the likeliest first; most do not exist."""
    beside = beside.resolve()
    homes = [beside, beside.parent]  # best/ has the config of the run that it stands in
    near = [home / wanted["relative"] for home in homes if "relative" in wanted]
    near += [Path(wanted["path"]), OWN_FRAME if part == "frame" else OWN_TOP]
    near += [beside.parent / part]
    yield from near
    around = [place.parent for place in near] + [beside.parent.parent]
    for place in [*near, *(model for folder in around for model in _folders(folder))]:
        yield from (place, place / part, place / checkpoints.BEST)
    yield from (pair / part for pair in shipped_models().values())


def _folders(folder: Path) -> list[Path]:
    """What stands in a folder, the latest version of what was moved aside first."""
    try:
        return sorted((path for path in folder.iterdir() if path.is_dir()), reverse=True)
    except OSError:  # it is gone, or nobody's business
        return []


def _make(directory: Path, make: Callable[[], Model]) -> Model:
    try:
        return make()
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(f"{directory / checkpoints.CONFIG}: {reason}") from None


def _load(model: Any, directory: Path, config: dict[str, Any], *, device: str) -> Loaded[Any]:
    checkpoints.weights_into(model, directory)
    model.eval().requires_grad_(False).to(device)
    return Loaded(model, directory, config, checkpoints.fingerprint_of(directory))
