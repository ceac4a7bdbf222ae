"""`--init`: the model whose weights a fresh run starts from instead of random ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from ldf_video.errors import CheckpointError, UsageError
from ldf_video.models import build
from ldf_video.models.frame import FrameModel
from ldf_video.models.game import Game
from ldf_video.models.top import TopModel
from ldf_video.options import Training
from ldf_video.progress import Progress
from ldf_video.runs.run import Run
from ldf_video.runs.zoo import (
    Loaded,
    find_model,
    find_reference,
    load_frame_model,
    load_top_model,
    reference_to,
)
from ldf_video.training import checkpoints
from ldf_video.video.geometry import Geometry


def find_origin(asked: str, kind: str, *, out: Path | None = None) -> Loaded[Any]:
    """The model that `--init` means: a shipped one by its name, or a directory.

    Args:
        asked: what `--init` says.
        kind: "frame" or "top".
        out: of the fresh run, which must not stand where the model does.

    Returns:
        The averaged model, in float32 on the CPU.

    Raises:
        UsageError: it stands in `out`, and would be moved aside or written over.
        CheckpointError: there is none of that name or kind, or it is damaged.
    """
    directory, _ = find_model(asked, kind)
    if out is not None and directory.resolve().is_relative_to(out.resolve()):
        raise UsageError(
            f"--init {asked}: it stands in --out {out}: name another --out for the new run"
        )
    load = load_frame_model if kind == "frame" else load_top_model
    return load(directory, device="cpu")


def origin_settings(options: Training, origin: Loaded[Any]) -> dict[str, dict[str, str]]:
    """What the config of a fresh run remembers of the model that it starts from."""
    where = reference_to(origin.directory, beside=Path(options.out))
    return {"init": {"from": str(options.init), "fingerprint": origin.fingerprint, **where}}


def check_frame_origin(
    asked: str, origin: Loaded[FrameModel], *, preset: str, geometry: Geometry
) -> None:
    """See that a frame model's weights fit what is to be trained.

    Raises:
        UsageError: they are of another preset, or of the paper's at another size.
    """
    has, shape = build.preset_of(origin.config["model"]), origin.model.config
    if preset != has:
        raise UsageError(f"--init {asked}: it has --preset {has}, asked for --preset {preset}")
    if preset == "paper" and (shape.height, shape.width) != (geometry.height, geometry.width):
        raise UsageError(
            f"--init {asked}: the paper's networks fit one size, {shape.width}x{shape.height}, "
            f"asked for --size {geometry.width}x{geometry.height}"
        )


def check_top_origin(
    asked: str,
    origin: Loaded[TopModel],
    *,
    kind: str,
    latent_shape: tuple[int, int, int],
    window: int,
) -> None:
    """See that a top model's weights fit what is to be trained.

    Raises:
        UsageError: they are of another kind, or for latents or windows of another shape.
    """
    has, shape = build.kind_of(origin.config["model"]), origin.model.config
    if kind != has:
        raise UsageError(f"--init {asked}: it has --kind {has}, asked for --kind {kind}")
    if tuple(shape.latent_shape) != latent_shape:
        raise UsageError(
            f"--init {asked}: it makes latents of {tuple(shape.latent_shape)}, the store holds "
            f"{latent_shape}: start without it, or encode at the size of its frame model"
        )
    if shape.window != window:
        raise UsageError(
            f"--init {asked}: it has windows of {shape.window} frames, --window and the longest "
            f"clip give {window}: start without it, or bring longer clips"
        )


def start_from_origin(game: Game, run: Run, progress: Progress) -> None:
    """Give a fresh game the weights of the model that its run's config names, if it names one.

    An own run's state also has what is trained beside the model, above all D: of that, what has
    the same name and shape is taken over. A run that has a state goes on from that instead.

    Args:
        game: freshly initialised, its model of the same shape but for the size of frames.
        run: that it is for.
        progress: to say it.

    Raises:
        CheckpointError: the model is gone, or is not the one that the run began with.
    """
    known = run.config.get("init")
    if known is None or (run.directory / checkpoints.STATE).is_file():
        return
    kind = run.config["kind"]
    found, _ = find_reference({"path": known["from"], **known}, kind, beside=run.directory)
    origin = find_origin(str(found or known["from"]), kind)
    if found is None:
        raise CheckpointError(
            f"--init {known['from']} was {known['fingerprint'][:12]} when the run began and is now "
            f"{origin.fingerprint[:12]}: start anew with --no-resume"
        )
    missing, unknown = game.model.load_state_dict(origin.model.state_dict(), strict=False)
    # An older model has no linear map: the new one stays 0.
    assert not unknown
    assert all(".linear." in name for name in missing)
    state = checkpoints.load_state(origin.directory)
    beside = {} if state is None else _beside_model(game, state["networks"])
    game.load_state_dict(beside, strict=False)
    also = "" if beside else ", what plays against it is new"
    progress.say(f"{progress.name}: the weights are those of {known['from']} at first{also}")


def _beside_model(game: Game, saved: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those of the saved weights that are not the model's, as far as they fit.

    D's last layer, where it sees the whole frame, fits no other size. The pressure on D is no
    weight and begins anew.
    """
    return {
        name: saved[name]
        for name, weight in game.named_parameters()
        if not name.startswith("model.") and name in saved and saved[name].shape == weight.shape
    }
