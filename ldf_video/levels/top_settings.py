"""How a top model is trained: everything that a fresh run is made by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ldf_video.errors import UsageError
from ldf_video.levels.conditions import columns_of
from ldf_video.levels.latents import latent_shape, usual_fps
from ldf_video.models import build
from ldf_video.models.top import TopModel
from ldf_video.options.trainings import (
    BLOCK,
    FEW_RATE,
    FLOW_BY_ADAM,
    PAPER_RATE,
    RATE,
    WINDOWS,
    TrainTop,
)
from ldf_video.runs.run import Settings
from ldf_video.runs.training import check_top_origin, origin_settings, training_config
from ldf_video.runs.zoo import Loaded, find_beginning, named
from ldf_video.store.reader import StoreReader
from ldf_video.training.ranks import Ranks
from ldf_video.training.update import span

DEFAULTS = {
    "flow": {"optimizer": "muon", "learning_rate": RATE, "beta1": 0.9},
    "few": {"optimizer": "adam", "learning_rate": FEW_RATE, "beta1": 0.5, "average": 0.998},
    "mlp": {"optimizer": "adam", "learning_rate": PAPER_RATE, "beta1": 0.5, "beta2": 0.999},
}
"""Settings of a training, by kind."""


def top_run_config(
    options: TrainTop,
    latents: StoreReader,
    *,
    device: str,
    ranks: Ranks,
    origin: Loaded[TopModel] | None = None,
) -> Settings:
    """Everything that a fresh run is made by, from its options and the model of `--init`.

    Raises:
        UsageError: options do not go together, or not with that model.
    """
    like = {} if origin is None else origin.config["model"]
    kind = options.kind or build.kind_of(like)
    longest = int(latents.lengths.max())
    asked = options.window or like.get("window", WINDOWS[kind])
    other_block = options.block is not None and like.get("block", options.block) != options.block
    if options.block is not None and (kind != "flow" or (other_block and options.few)):
        raise UsageError(_no_block(options, kind, like))
    window, block = window_of(
        asked, like={**like, "kind": kind}, longest=longest, block=options.block
    )
    shape = latent_shape(latents)
    if origin is not None:
        check_top_origin(str(options.init), origin, kind=kind, latent_shape=shape, window=window)
        block = options.block or like.get("block", block)
    defaults: Settings = DEFAULTS[kind]
    if kind == "flow" and options.optimizer not in (None, "muon"):
        defaults = defaults | {"learning_rate": FLOW_BY_ADAM}
    if options.few:
        defaults = DEFAULTS["few"]
    training = training_config(
        options, device=device, ranks=ranks, defaults=defaults, cpu_gains=kind == "flow"
    )
    model, game = build.top_settings(
        kind, latent_shape=shape, window=window, block=block, like=like
    )
    if origin is not None and like.get("renewed"):
        flow = find_beginning(origin)
        raise UsageError(
            f"--init {options.init}: it takes few passes, and training begins with a flow that "
            f"takes many: name the one it came from{'' if flow is None else f', {named(flow)}'}"
        )
    if kind == "flow":
        model["strides"] = _strides_of(options, like, window=window, longest=longest)
        if other_block or (options.block == 1 and origin is None):
            model |= {"kept": True} | ({"shared_noise": 0.0} if block == 1 else {})
        model["columns"] = _columns_of(options, like, latents)
    elif options.strides not in (None, "1"):
        raise UsageError(f"--strides {options.strides}: a flow alone can know several; drop it")
    if options.few:
        model, game = _student_settings(options, like)
        _check_teacher(options, latents, origin)
    begun = {} if origin is None else origin_settings(options, origin)
    return {
        "model": model,
        "game": game,
        "training": asdict(training),
        "latents": {"fingerprint": latents.spec.fingerprint},
        "frames": {k: v for k, v in latents.spec.settings.items() if k != "weights"},
        "fps": str(usual_fps(latents)),
        **begun,
    }


def _student_settings(options: TrainTop, like: Mapping[str, Any]) -> tuple[Settings, Settings]:
    """The "model" and "game" of `--few`.

    Raises:
        UsageError: there is no flow to learn from.
    """
    wanted = "name a flow to learn from with --init, such as pacman-32-flow"
    if options.init is None:
        raise UsageError(f"--few without --init: {wanted}")
    try:
        return build.few_settings(like)
    except ValueError as error:
        raise UsageError(f"--few --init {options.init}: {error}: {wanted}") from None


def _check_teacher(
    options: TrainTop, latents: StoreReader, teacher: Loaded[TopModel] | None
) -> None:
    """Refuse a teacher of other latents: it is held still, and would teach noise.

    Raises:
        UsageError: it learned those of another frame model than the store's.
    """
    if teacher is None:
        return
    made_by, learned = (
        latents.spec.settings["weights"],
        teacher.config["frame_model"]["fingerprint"],
    )
    if learned != made_by:
        raise UsageError(
            f"--few --init {options.init}: it learned latents of the frame model {learned[:12]}, "
            f"the store holds those of {made_by[:12]}: name a flow of these, or encode with that "
            "frame model"
        )


def _no_block(options: TrainTop, kind: str, like: Mapping[str, Any]) -> str:
    """Why blocks cannot be of so many frames."""
    if kind != "flow":
        return f"--block {options.block}: a flow alone has blocks; drop it"
    return (
        f"--block {options.block}: --init {options.init} makes blocks of {like['block']}, and a "
        "student's are its teacher's: drop the option, or train a flow with it first, without --few"
    )


def _columns_of(
    options: TrainTop, like: Mapping[str, Any], latents: StoreReader
) -> list[dict[str, Any]]:
    """What a flow is told of frames: what the flow that it starts from was, else what is stored.

    Raises:
        UsageError: that flow was told something, and this one is to be told nothing; or a student
            is to be told what its teacher was not.
    """
    known = list(like.get("columns", ()))
    if options.conditions == "off":
        if known:
            raise UsageError(
                f"--conditions off: --init {options.init} is told of frames; drop the option, or "
                "start without --init"
            )
        return []
    return known or ([] if options.few else columns_of(latents))


def _strides_of(
    options: TrainTop, like: Mapping[str, Any], *, window: int, longest: int
) -> list[int]:
    """Strides of a flow, as asked for, or those of the flow that it starts from.

    Raises:
        UsageError: that flow knows others, or no clip is long enough.
    """
    known = list(like.get("strides", (1,)))
    asked = known if options.strides is None else list(map(int, options.strides.split(",")))
    if asked != known and like and (len(known) > 1 or options.few):
        raise UsageError(
            f"--strides {options.strides}: --init {options.init} has --strides "
            f"{','.join(map(str, known))}: drop the option, or name a flow without strides to "
            "--init and drop --few"
        )
    for stride in asked[1:]:
        if span(window, stride) > longest:
            fits = (longest - 1) // stride + 1
            other = f", or give --window {fits} or less" if fits > 1 and not like else ""
            raise UsageError(
                f"--strides {','.join(map(str, asked))}: a window of {window} frames with stride "
                f"{stride} takes {span(window, stride)} frames of a clip, the longest has "
                f"{longest}: bring longer clips, or leave {stride} out{other}"
            )
    return asked


def window_of(
    window: int, *, like: Mapping[str, Any], longest: int, block: int | None = None
) -> tuple[int, int]:
    """Window and block (frames) of a top model that may be asked for more than clips can fill.

    An mlp has no blocks, and a model like another one has its window.

    Raises:
        UsageError: the window holds no two blocks of so many frames.
    """
    if block is not None and like.get("kind") != "mlp":
        usable = max(min(window, longest), 2)
        if usable < 2 * block:
            raise UsageError(
                f"--block {block}: windows of {usable} frames hold no two such blocks, the longest "
                f"clip has {longest}: give a smaller --block, or a larger --window and longer clips"
            )
        return usable - usable % block, block
    if like.get("kind") == "mlp" or (window == like.get("window") and window <= longest):
        return max(min(window, longest), 2), 1
    return fit_window(window, longest=longest)


def fit_window(window: int, *, longest: int) -> tuple[int, int]:
    """Window and block (frames) of a flow that training can fill: at most the longest clip.

    A position of the window that no clip ever reaches would stay untrained, and a video that is
    rolled forward would meet it. From 8 frames on the window is rounded down to whole blocks of 4:
    a block of 1 frame takes four times the passes and has no noise that its frames share. Under
    that the block is the largest of which the window holds two or more, and a whole number.
    """
    usable = max(min(window, longest), 2)
    if usable >= 2 * BLOCK:
        return usable - usable % BLOCK, BLOCK
    return usable, max(b for b in range(1, BLOCK) if usable % b == 0 and usable >= 2 * b)
