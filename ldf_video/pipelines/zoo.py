"""Which model a command means: a directory, a shipped name, or nothing said."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
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
    names = ", ".join(shipped) or "none"
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


def frame_model_of(top: Loaded[TopModel], *, device: str) -> Loaded[FrameModel]:
    """The one frame model whose latents a top model learned.

    Raises:
        CheckpointError: it is nowhere to be found, with where was looked.
    """
    wanted = top.config["frame_model"]
    return load_matching_frame_model(wanted, beside=top.directory, device=device)


def load_matching_frame_model(
    wanted: dict[str, str], *, device: str, beside: Path | None = None
) -> Loaded[FrameModel]:
    """Load the frame model of a fingerprint from wherever it is.

    Args:
        wanted: its "fingerprint", and the "path" where it once was.
        device: to load it to.
        beside: a top model in whose neighbourhood to look too.

    Raises:
        CheckpointError: it is nowhere to be found.
    """
    places = [Path(wanted["path"]), OWN_FRAME]
    places += [beside.parent / "frame"] if beside else []
    places += [pair / "frame" for pair in shipped_models().values()]
    looked: list[Path] = []
    for place in places:
        if (place / checkpoints.WEIGHTS).is_file() and place not in looked:
            looked.append(place)
            with contextlib.suppress(CheckpointError):  # one that is damaged is not the one
                if checkpoints.fingerprint_of(place) == wanted["fingerprint"]:
                    return load_frame_model(place, device=device)
    raise CheckpointError(
        f"no frame model {wanted['fingerprint'][:12]} (once at {wanted['path']}), whose latents "
        f"the top model learned, among {', '.join(map(str, looked)) or 'any'}: "
        "bring that model back, or encode and train-top again"
    )


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
