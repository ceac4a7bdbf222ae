"""Which model a command means (a directory, a shipped name, or nothing said), loaded for use."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

import ldf_video
from ldf_video.errors import CheckpointError, LdfError, UsageError
from ldf_video.files.layout import UNSAID, Layout, layout_of
from ldf_video.models import build
from ldf_video.models.frame import FrameModel
from ldf_video.models.top import TopModel
from ldf_video.options.option import DEFAULT_SHIPPED
from ldf_video.output import reason
from ldf_video.runs import hub
from ldf_video.training import checkpoints
from ldf_video.video.geometry import Geometry, geometry_of

Model = TypeVar("Model", bound=torch.nn.Module)

OWN_FRAME, OWN_TOP = Path("checkpoints/frame"), Path("checkpoints/top")


@dataclass(frozen=True)
class Loaded(Generic[Model]):
    """A model ready to use, where it came from and what its config says.

    Attributes:
        fingerprint: of the model.
        latents: of a frame model, the fingerprint by which its latents are known: that of the model
            that its E was taken over from, or its own.
    """

    model: Model
    directory: Path
    config: dict[str, Any]
    fingerprint: str
    latents: str

    def __str__(self) -> str:
        return f"{self.directory} ({self.fingerprint[:12]})"

    def geometry(self) -> Geometry:
        """How the frames were read that it learned, or whose latents it learned.

        Raises:
            CheckpointError: its config does not say.
        """
        try:
            return geometry_of(self.config)
        except (KeyError, TypeError, ValueError, ArithmeticError, UsageError) as error:
            found = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise self._damaged(
                f"frames has {found}, expected height, width, crop and fps; restore it from a copy"
            ) from None

    def fps(self) -> Fraction:
        """The rate of the clips that a top model learned.

        Raises:
            CheckpointError: its config does not say.
        """
        try:
            fps = Fraction(self.config["fps"])
        except (KeyError, TypeError, ValueError, ArithmeticError):
            fps = Fraction(0)
        if fps <= 0:
            raise self._damaged(
                f"fps is {self.config.get('fps')!r}, expected a positive rate; restore it from a "
                "copy, or give --fps"
            )
        return fps

    def _damaged(self, why: str) -> CheckpointError:
        return CheckpointError(f"{self.directory / checkpoints.CONFIG} is damaged: {why}")


def clip_geometry(top: Loaded[TopModel], frame: Loaded[FrameModel]) -> Geometry:
    """How a top model's latents were read: `encode` may have been given another rate or crop."""
    return (top if "frames" in top.config else frame).geometry()


def layout_of_model(asked: str | Path | None, kind: str) -> Layout:
    """How the clips were read that a model learned, as its config says; see `find_model`.

    Nothing is said by a model that cannot be found or read: loading it says why.
    """
    with contextlib.suppress(LdfError, LookupError, TypeError):
        directory, _ = find_model(asked, kind)
        return layout_of(checkpoints.load_config(directory, kind=kind)["frames"])
    return UNSAID


def shipped_models() -> dict[str, Path]:
    """Shipped models by name: directories that hold `frame/`, `top/` or both.

    A top model alone shares the frame model of another one, and its config says where that stands.
    They stand inside an installed package, and beside the package in a source tree.
    """
    package = Path(ldf_video.__file__).parent
    folders = [package]
    if (package.parent / "pyproject.toml").is_file():
        folders.insert(0, package.parent)
    found = {}
    for folder in folders:
        root = folder / "checkpoints"
        if root.is_dir():
            kinds = ("frame", "top")
            some = (at for at in root.iterdir() if any(_holds_model(at / kind) for kind in kinds))
            found.update({path.name: path for path in sorted(some)})
    return found


def shipped_of(kind: str) -> dict[str, Path]:
    """The shipped models of a kind, "frame" or "top", by name: where each stands."""
    shipped = shipped_models().items()
    return {name: at / kind for name, at in shipped if _holds_model(at / kind)}


def named(directory: Path) -> str:
    """What to type for a model: the name of the shipped one that stands there, or its directory.

    Of one of a model hub, `user/name@commit`.
    """
    return known_name(directory) or os.path.normpath(directory)


def known_name(directory: Path) -> str | None:
    """The name of a model that is known by it anywhere: shipped, or on a model hub; or None."""
    shipped = shipped_models().items()
    names = (name for name, at in shipped if directory.resolve().is_relative_to(at.resolve()))
    return next(names, hub.name_of(directory))


def find_model(
    asked: str | Path | None, kind: str, *, shipped: str = DEFAULT_SHIPPED
) -> tuple[Path, bool]:
    """The directory of `--frame-model` or `--top-model`, and whether it is a shipped one.

    `asked` is a checkpoint, a directory that holds `frame/` and `top/`, a shipped name, or
    `user/name` of a model hub; without one, the own model in checkpoints/ is meant, else the
    one named `shipped`. `kind` is "frame" or "top". With a top model of a hub its frame model
    comes.

    Raises:
        CheckpointError: there is none of that name.
        LdfError: it is on a hub, and huggingface_hub is not installed.
    """
    if asked is None:
        own = OWN_FRAME if kind == "frame" else OWN_TOP
        if _holds_model(own):
            return own, False
        asked = shipped
    else:
        directory = Path(asked)
        if not directory.is_dir() and hub.is_name(asked):
            directory = hub.fetch(str(asked), kind)
        if directory.is_dir():
            return (directory / kind if _holds_model(directory / kind) else directory), False
    name, of_kind = str(asked), shipped_of(kind)
    if name in of_kind:
        return of_kind[name], True
    if name not in shipped_models():
        raise CheckpointError(
            f"no {kind} model {asked}: expected a directory, a shipped model "
            f"({', '.join(of_kind) or 'none'}) or user/name of a model hub"
        )
    if kind == "frame":
        return _shared_frame_model(shipped_models()[name] / "top"), True
    raise CheckpointError(
        f"the shipped {asked} has no {kind} model: encode your clips with it and run "
        "ldf-video train-top"
    )


def _shared_frame_model(top: Path) -> Path:
    """The frame model of a shipped top model that has none beside it.

    Raises:
        CheckpointError: it is not there.
    """
    wanted = checkpoints.load_config(top, kind="top")["frame_model"]
    found, _ = find_reference(wanted, "frame", beside=top)
    if found is None:
        raise CheckpointError(f"{top}: its frame model is gone; install ldf-video again")
    return found


def _holds_model(directory: Path) -> bool:
    return (directory / checkpoints.CONFIG).is_file()


def load_frame_model(directory: Path, *, device: str) -> Loaded[FrameModel]:
    """Load a frame model for use.

    Raises:
        CheckpointError: it is missing, damaged, or no frame model.
    """
    return _load(directory, "frame", build.frame_model, device=device)


def load_top_model(directory: Path, *, device: str) -> Loaded[TopModel]:
    """Load a top model for use; errors likewise."""
    return _load(directory, "top", build.top_model, device=device)


def _load(
    directory: Path, kind: str, make: Callable[[dict[str, Any]], Model], *, device: str
) -> Loaded[Model]:
    config = checkpoints.load_config(directory, kind=kind)
    try:
        model = make(config["model"])
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        said = _unknown_setting(error) or reason(error)
        raise CheckpointError(f"{directory / checkpoints.CONFIG}: {said}") from None
    weights = checkpoints.weights_into(model, directory)
    model.eval().requires_grad_(False).to(device)
    return Loaded(
        model,
        directory,
        config,
        fingerprint=checkpoints.fingerprint(config["model"], weights),
        latents=checkpoints.latents_fingerprint(config, weights),
    )


def _unknown_setting(error: Exception) -> str | None:
    """What to say of a model that has a setting of a version to come."""
    if not isinstance(error, TypeError) or "unexpected keyword argument" not in str(error):
        return None
    name = str(error).split("'")[-2]
    return f"{name} is no setting that this version knows; a newer ldf-video may have written it"


def frame_model_of(
    config: Mapping[str, Any], *, beside: Path, device: str, asked: str | Path | None = None
) -> Loaded[FrameModel]:
    """A frame model of those latents that the top model of a config, in `beside`, learned.

    It is the one that made them, or else one that took over its E.

    It is taken from the directory or shipped name that was `asked` for; else it is searched.

    Raises:
        CheckpointError: it is nowhere to be found, with where was looked; or `asked` is another.
    """
    wanted = config["frame_model"]
    if asked is None and "decoder" in wanted:  # of a published one, whose E this frame model has
        decoder = {**wanted, "fingerprint": wanted["decoder"]}
        found, _ = find_reference(decoder, "frame", beside=beside)
        if found is not None:
            return load_frame_model(found, device=device)
    if asked is None:
        found, looked = find_reference(
            wanted, "frame", beside=beside, known_by=checkpoints.latents_fingerprint_of
        )
        if found is None:
            raise CheckpointError(
                f"no frame model {wanted['fingerprint'][:12]} (once at {wanted['path']}), whose "
                f"latents the top model learned, among {', '.join(looked) or 'any'}: "
                "name it by --frame-model, bring it back, or encode and train-top again"
            )
        return load_frame_model(found, device=device)
    frame = load_frame_model(find_model(asked, "frame")[0], device=device)
    if frame.latents != wanted["fingerprint"]:
        raise CheckpointError(
            f"--frame-model {asked} is {frame.latents[:12]}, the top model {beside} "
            f"learned latents of {wanted['fingerprint'][:12]}: name that one, or encode and "
            "train-top again"
        )
    return frame


def reference_to(model: Path, *, beside: Path) -> dict[str, str]:
    """How what stands in `beside` remembers where a model is, so that both may move together.

    `path` is seen from the current directory, `relative` from `beside`.
    """
    relative = os.path.relpath(model.resolve(), beside.resolve())
    return {"path": str(model), "relative": Path(relative).as_posix()}


def find_beginning(top: Loaded[TopModel]) -> Path | None:
    """Where the model stands now that a top model began with (`--init`), if it is to be found."""
    known = top.config.get("init")
    if known is None:
        return None
    return find_reference(known, "top", beside=top.directory)[0]


def find_reference(
    wanted: Mapping[str, str],
    kind: str,
    *,
    beside: Path,
    known_by: Callable[[Path], str] = checkpoints.fingerprint_of,
) -> tuple[Path | None, list[str]]:
    """Where the model of a fingerprint stands now.

    Searched are where it stood, the own models, their neighbours (so also older ones that were
    moved aside), the best weights of each, and the shipped models.

    Args:
        wanted: its "fingerprint", and where it once was: see `reference_to`; without "path", "from"
            is what was typed for it.
        kind: "frame" or "top".
        beside: the directory of what refers to it.
        known_by: the fingerprint of the model in a directory: its own, or that of its latents.

    Returns:
        Its directory or None; the models that were looked at, and why one cannot be read. One that
        is only `known_by` the fingerprint is taken where none has it as its own.
    """
    looked: dict[Path, str] = {}
    spare: Path | None = None
    for place in _places(wanted, kind, beside.resolve()):
        model = place.resolve()
        if model in looked or not (model / checkpoints.WEIGHTS).is_file():
            continue
        with contextlib.suppress(CheckpointError):  # no model of this kind
            checkpoints.load_config(place, kind=kind)
            looked[model] = str(place)
        try:
            if model in looked and known_by(place) == wanted["fingerprint"]:
                if checkpoints.fingerprint_of(place) == wanted["fingerprint"]:
                    return place, list(looked.values())
                spare = spare or place
        except CheckpointError as error:  # it may have been the one
            looked[model] = f"{place} ({error})"
    return spare, list(looked.values())


def _places(wanted: Mapping[str, str], kind: str, beside: Path) -> Iterator[Path]:
    """Directories that may hold a model, the likeliest first; most do not exist."""
    homes = [beside, beside.parent]  # best/ has the config of the run that it stands in
    near = [home / wanted["relative"] for home in homes if "relative" in wanted]
    near += [
        Path(wanted.get("path") or wanted["from"]),
        OWN_FRAME if kind == "frame" else OWN_TOP,
        beside.parent / kind,
    ]
    yield from near
    around = [place.parent for place in near] + [beside.parent.parent]
    for place in [*near, *(model for folder in around for model in _folders(folder))]:
        yield from (place, place / kind, place / checkpoints.BEST)
    yield from shipped_of(kind).values()


def _folders(folder: Path) -> list[Path]:
    """What stands in a folder, the latest version of what was moved aside first."""
    try:
        return sorted((path for path in folder.iterdir() if path.is_dir()), reverse=True)
    except OSError:  # it is gone, or may not be read
        return []
