"""The commands as functions. Importing this is cheap: torch is loaded by the first call.

Their arguments are the fields of the dataclasses in `ldf_video.options`. Paths may be strings, with
`~` for the home directory. None stands for a default; values that mean nothing raise `UsageError`
before anything is made. All raise `ldf_video.errors.LdfError`, whose message says what was got,
what was expected and what to do. `output` and `frames` are taken for `out` and `num_frames`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from ldf_video.errors import UsageError
from ldf_video.options.commands import OLD_NAMES
from ldf_video.options.judging import Evaluate, Reconstruct
from ldf_video.options.option import Command, argument_lines, options_of
from ldf_video.options.reading import Encode, Info, Preview, Start
from ldf_video.options.sampling import Export, Generate, Interpolate, Play, Publish
from ldf_video.options.trainings import TrainFrame, TrainTop

if TYPE_CHECKING:
    from ldf_video.evaluation.report import Evaluated
    from ldf_video.recipes.encode import Encoded
    from ldf_video.recipes.export import Exported
    from ldf_video.recipes.generate import Generated
    from ldf_video.recipes.interpolate import Interpolated
    from ldf_video.recipes.play import Played
    from ldf_video.recipes.preview import Previewed
    from ldf_video.recipes.publish import Published
    from ldf_video.recipes.reconstruct import Reconstructed
    from ldf_video.recipes.start import Started

Parameters = ParamSpec("Parameters")
Options = TypeVar("Options", bound=Command)
Result = TypeVar("Result")


def takes(
    command: Callable[Parameters, Options],
) -> Callable[[Callable[[Options], Result]], Callable[Parameters, Result]]:
    """Make a function of a command's options one of its arguments, with their types and help.

    Args:
        command: a dataclass of options.
    """
    assert isinstance(command, type)
    known, parameters = options_of(command), []
    for name, parameter in inspect.signature(command).parameters.items():
        parameters.append(parameter.replace(annotation=known[name].type))

    def decorate(function: Callable[[Options], Result]) -> Callable[Parameters, Result]:
        returned = inspect.signature(function).return_annotation
        signature = inspect.Signature(parameters, return_annotation=returned)

        @functools.wraps(function)
        def call(*arguments: Parameters.args, **given: Parameters.kwargs) -> Result:
            renamed = {name: OLD_NAMES.get(name, name) for name in given}
            if len(set(renamed.values())) < len(renamed):
                raise UsageError(f"got {' and '.join(renamed)}: give one name of an option only")
            new = {renamed[name]: value for name, value in given.items()}
            bound = signature.bind(*arguments, **new)
            return function(command(*bound.args, **bound.kwargs))

        summary, _, rest = inspect.cleandoc(function.__doc__ or "").partition("\n\nReturns:")
        call.__doc__ = f"{summary}\n\n{argument_lines(command)}\n\nReturns:{rest}"
        call.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": returned}
        call.__signature__ = signature  # type: ignore[attr-defined]
        return call

    return decorate


@takes(Start)
def start(options: Start) -> Started:
    """Go the whole way: preview, train-frame, encode, train-top, generate, each in turn.

    How the minutes are split is said at the start. A call that was stopped or killed goes on.

    Returns:
        The page, the models, the latents, a sheet and a video.

    Raises:
        UsageError: an option means nothing, there is nothing at `clips`, or `out` was begun with
            other clips or options.
        CheckpointError: `out` holds something else, or is damaged.
        LdfError: nothing could be read.
    """
    from ldf_video.recipes import start as recipe

    return recipe.start(options)


@takes(Preview)
def preview(options: Preview) -> Previewed:
    """Write one page that shows clips as a model will see them, and what they are enough for.

    Files are read by processes of their own, as `encode` does. What cannot be read is listed.

    Returns:
        The page, the sums over all clips, and what is wrong with them.

    Raises:
        UsageError: an option means nothing, there is nothing at `clips`, or `out` is an input.
        StoreError: the store is damaged.
        CheckpointError: the frame model that made the latents is gone.
        LdfError: nothing could be read; the page says why.
    """
    from ldf_video.recipes import preview as recipe

    return recipe.preview(options)


@takes(TrainFrame)
def train_frame(options: TrainFrame) -> Path:
    """Train a frame model (encoder, generator, discriminator) on every frame of the clips.

    The clips are read once, streamed, into a store of uint8 frames; training draws random frames
    from that store. The same call again goes on with an unfinished run.

    Returns:
        The directory of the checkpoint.

    Raises:
        UsageError: an option means nothing, there is nothing at `clips`, or no way of training
            stays inside `max_memory`.
        CheckpointError: the run in `out` was started with other options, or there is no model of
            the name `init`.
    """
    from ldf_video.recipes import train_frame as recipe

    return recipe.train_frame(options)


@takes(Encode)
def encode(options: Encode) -> Encoded:
    """Stream every frame of the clips through the encoder into a store of float16 latents.

    Sources that the store already holds, unchanged, are not read again; a killed call goes on from
    its last commit. What cannot be read is listed and the rest goes on.

    Returns:
        The store, what became of each source, and the PSNR of a sample of the frames.

    Raises:
        StoreError: the store was made by other settings, is in use, or the disk is full; with
            `verify`, something is wrong with it.
        LdfError: nothing could be read.
    """
    from ldf_video.recipes import encode as recipe

    return recipe.encode(options)


@takes(TrainTop)
def train_top(options: TrainTop) -> Path:
    """Train a top model on windows of latents; the videos are not needed any more.

    Returns:
        The directory of the checkpoint.

    Raises:
        StoreError: there are no latents.
        CheckpointError: the run in `out` was started with other options or other latents, or there
            is no model of the name `init`.
    """
    from ldf_video.recipes import train_top as recipe

    return recipe.train_top(options)


@takes(Generate)
def generate(options: Generate) -> Generated:
    """Generate videos of any length; memory does not grow with it.

    Returns:
        The files and the seed.

    Raises:
        UsageError: an option means nothing, or `out` is the clip to go on from.
        CheckpointError: a model is missing or damaged.
    """
    from ldf_video.recipes import generate as recipe

    return recipe.generate(options)


@takes(Interpolate)
def interpolate(options: Interpolate) -> Interpolated:
    """Make a video that leads from the last frame of one clip to the first frame of another.

    Returns:
        The file, the seed, and how close its first and last frames come to those of the clips.

    Raises:
        UsageError: an option means nothing, the clips differ in shape, or `out` is one of them.
        ReadError: a clip cannot be read.
        CheckpointError: a model is missing or damaged.
    """
    from ldf_video.recipes import interpolate as recipe

    return recipe.interpolate(options)


@takes(Play)
def play(options: Play) -> Played:
    """Serve a page on this machine that shows what a top model makes, until Ctrl-C.

    Memory does not grow with the time that it plays.

    Returns:
        The recordings that were made, and the seed of the last film.

    Raises:
        UsageError: an option means nothing, the port is taken, or the top model makes a fixed
            number of frames.
        CheckpointError: a model is missing or damaged.
    """
    from ldf_video.recipes import play as recipe

    return recipe.play(options)


@takes(Export)
def export(options: Export) -> Exported:
    """Write a top model and its frame model as ONNX graphs, or as one page that plays by itself.

    Returns:
        What was written.

    Raises:
        UsageError: an option means nothing, or the top model cannot go on frame after frame.
        CheckpointError: a model is missing or damaged.
        LdfError: a package of the extra `export` is not installed.
    """
    from ldf_video.recipes import export as recipe

    return recipe.export(options)


@takes(Publish)
def publish(options: Publish) -> Published:
    """Make a folder of models that stands alone: weights, configs, a card and pictures.

    It is written beside nothing else: what `publish` did not make is never overwritten. Nothing
    leaves this machine without `push`.

    Returns:
        The folder, and its address on the hub where it was pushed.

    Raises:
        UsageError: an option means nothing, there is no model, the folder holds something else, or
            the figures are of other models.
        CheckpointError: a model is missing or damaged.
        LdfError: the hub refuses, or a package of the extra `hub` is not installed.
    """
    from ldf_video.recipes import publish as recipe

    return recipe.publish(options)


@takes(Reconstruct)
def reconstruct(options: Reconstruct) -> Reconstructed:
    """Pass every frame through encoder and generator, and measure how close it comes back.

    Returns:
        PSNR in dB over all frames together, their number, the file, and which sources could not be
        read whole, with the reasons.

    Raises:
        UsageError: an option means nothing, or `out` is the input.
        ReadError: nothing could be read.
    """
    from ldf_video.recipes import reconstruct as recipe

    return recipe.reconstruct(options)


@takes(Evaluate)
def evaluate(options: Evaluate) -> Evaluated:
    """Compare clips of a few frames with real ones, by the features of a network that judges.

    What is judged is any of `generated`, `top_model` and `frame_model`; without any, the top model
    that `generate` takes. docs/evaluation.md says what each figure means.

    Returns:
        The figures of each set, by name.

    Raises:
        UsageError: an option means nothing, or an output is an input.
        ReadError: nothing could be read.
        OutputError: a file cannot be written; what was found is its `result`.
        LdfError: the judge is not installed, there are too few clips, or the reference is of other
            clips or of another judge.
    """
    from ldf_video.recipes import evaluate as recipe

    return recipe.evaluate(options)


@takes(Info)
def info(options: Info) -> dict[str, Any]:
    """Say what a video, a store, a checkpoint or a shipped model is.

    Returns:
        Plain values by name, a "summary" first.

    Raises:
        UsageError: it is none of these.
        ReadError: it looks like a video and cannot be read.
    """
    from ldf_video.recipes import info as recipe

    return recipe.info(options)
