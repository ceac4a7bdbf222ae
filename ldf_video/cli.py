"""The command line: options to one call of the API, errors to exit codes. Imports no torch."""

from __future__ import annotations

import json as jsonlib
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version as package_version
from typing import Annotated, Any, NoReturn, TextIO

import typer

from ldf_video import api, hints, options
from ldf_video.errors import LdfError, OutputError, UsageError
from ldf_video.interrupts import Stopped, stops_raised
from ldf_video.launch import launched
from ldf_video.output import reason, remedy

app = typer.Typer(
    name="ldf-video",
    help="Train a video generator on your own clips, in memory that does not grow with length.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

OUT = ("--out", "-o", "--output")
"""Where a command writes to, by all its names."""

Device = Annotated[options.Device, typer.Option(help="Where to compute.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but results and errors.")]
Clips = Annotated[
    str,  # a Path would take the second slash out of s3://
    typer.Argument(help="A video, or a directory searched recursively; a path or a URL."),
]
Steps = Annotated[int | None, typer.Option(help="Updates in all.")]
Minutes = Annotated[
    float | None, typer.Option(help="Training time in all; 10 on a CPU, 5 on a GPU by default.")
]
Rate = Annotated[float | None, typer.Option(help="Learning rate of Adam; muon's is in proportion.")]
Precision = Annotated[
    options.Precision | None, typer.Option(help="auto: bf16 on a GPU that has it, none elsewhere.")
]
Optimizer = Annotated[
    options.Optimizer | None,
    typer.Option(help="muon learns fastest; the state of adam8bit takes a quarter of adam's."),
]
Tracker = Annotated[
    options.TrackerName | None, typer.Option(help="Curves and pictures in OUT/tensorboard.")
]
Seed = Annotated[int | None, typer.Option(help="Drawn and printed when absent.")]
Resume = Annotated[
    bool, typer.Option(help="Go on with the run in OUT, or move it aside and start anew.")
]
Init = Annotated[
    str | None, typer.Option(help="Directory or shipped name of a model to start from.")
]
Fps = Annotated[str | None, typer.Option(help="Frames a second, such as 15 or 30000/1001.")]
Crop = Annotated[
    options.Crop | None, typer.Option(help="centre: the largest centred part; none: squeeze.")
]
FrameModel = Annotated[
    str | None,
    typer.Option(help="Directory or shipped name; checkpoints/frame, else pacman-32."),
]
Upscale = Annotated[
    int | None, typer.Option(help="Integer factor; at least 128 pixels by default.")
]


@contextmanager
def _errors(*, goes_on: str = "") -> Iterator[None]:
    """Turn the package's errors into one line and an exit code.

    Args:
        goes_on: what goes on with work that was interrupted, if anything does.
    """
    kept = f": what was done is kept, {goes_on} goes on" if goes_on else ""
    try:
        with stops_raised():
            yield
    except UsageError as error:
        _fail(error, code=2)
    except LdfError as error:
        _fail(error, code=1)
    except Stopped as stop:
        _echo_once(f"stopped by {signal.Signals(stop.number).name}{kept}", err=True)
        raise typer.Exit(128 + stop.number) from None
    except KeyboardInterrupt:
        _echo_once(f"interrupted{kept}", err=True)
        raise typer.Exit(130) from None
    except BrokenPipeError:
        _silence(sys.stdout)
        raise typer.Exit(1) from None
    except OSError as error:  # a disk that fails, a name that may not be written
        _silence(sys.stdout)
        where = f"{error.filename}: " if error.filename else ""
        todo = remedy(error, elsewhere="name another place")
        _fail(LdfError(f"{where}{reason(error)}; {todo}"), code=1)


def _same_command(resume: bool = True) -> str:
    return "the same command" + ("" if resume else " without --no-resume")


def _fail(error: Exception, *, code: int) -> None:
    if not getattr(error, "told", False):
        _echo("error: " + " ".join(str(error).split()), err=True)
    raise typer.Exit(code) from None


def _echo_once(said: object, *, err: bool = False) -> None:
    """Print from the first of the processes that were launched together, or the only one."""
    if launched()[0] == 0:
        _echo(said, err=err)


def _echo(said: object, *, err: bool = False) -> None:
    """Print; where nobody can hear it, the work is done all the same."""
    try:
        typer.echo(said, err=err)
    except (OSError, ValueError):
        _silence(sys.stderr if err else sys.stdout)


def _silence(stream: TextIO | None) -> None:
    """Let what a stream still holds go nowhere: Python would try again at its end, and fail."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # type: ignore[union-attr]


def _say_last(line: str, *, quiet: bool) -> None:
    """Print where to look and what to type next, after the results and beside them."""
    if not quiet:
        _echo_once(line, err=True)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(package_version("ldf-video"))
        raise typer.Exit


@app.command("train-frame")
def train_frame(
    clips: Clips,
    out: Annotated[str, typer.Option(*OUT, help="Checkpoint directory.")] = "checkpoints/frame",
    size: Annotated[str | None, typer.Option(help="32 or WIDTHxHEIGHT, in pixels.")] = None,
    preset: Annotated[
        options.Preset | None, typer.Option(help="paper: the paper's networks, a vector a frame.")
    ] = None,
    width: Annotated[
        int | None,
        typer.Option(help="Channels of encoder and generator; 32 by default."),
    ] = None,
    latent_noise: Annotated[
        float | None,
        typer.Option(help="On the latents that the generator learns from; 0.6, less is sharper."),
    ] = None,
    steps: Steps = None,
    minutes: Minutes = None,
    batch_size: Annotated[int | None, typer.Option(help="Frames an update.")] = None,
    learning_rate: Rate = None,
    optimizer: Optimizer = None,
    mixed_precision: Precision = None,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Less memory, more time.")
    ] = False,
    accumulate: Annotated[
        int | None, typer.Option(help="Take a batch in so many parts: less memory.")
    ] = None,
    fps: Fps = None,
    crop: Crop = None,
    seed: Seed = None,
    resume: Resume = True,
    tracker: Tracker = None,
    frames_store: Annotated[
        str | None, typer.Option(help="Where frames are kept; OUT/frames by default.")
    ] = None,
    init: Init = None,
    max_memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Stay inside, such as 900MiB or 2GiB.")
    ] = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Learn single frames: encoder, generator and discriminator."""
    with _errors(goes_on=_same_command(resume)):
        path = api.train_frame(
            clips,
            out=out,
            size=size,
            preset=preset,
            width=width,
            latent_noise=latent_noise,
            steps=steps,
            minutes=minutes,
            batch_size=batch_size,
            learning_rate=learning_rate,
            optimizer=optimizer,
            mixed_precision=mixed_precision,
            gradient_checkpointing=gradient_checkpointing or None,
            accumulate=accumulate,
            fps=fps,
            crop=crop,
            seed=seed,
            resume=resume,
            tracker=tracker,
            frames_store=frames_store,
            init=init,
            max_memory=max_memory,
            device=device,
            quiet=quiet,
        )
        _echo_once(path)
        _say_last(hints.after_train_frame(clips, out), quiet=quiet)


@app.command()
def encode(
    clips: Clips,
    out: Annotated[str, typer.Option(*OUT, help="Directory of the latents.")] = "latents",
    frame_model: Annotated[
        str | None,
        typer.Option(
            help="Directory or shipped name; checkpoints/frame, else the shipped one that shows "
            "the clips best, adapted to them where that is poor."
        ),
    ] = None,
    fps: Fps = None,
    crop: Crop = None,
    batch_size: Annotated[int, typer.Option(help="Frames a batch.")] = 64,
    mixed_precision: Precision = None,
    reader: Annotated[
        options.Reader, typer.Option(help="Of videos; auto: PyAV, which is the faster.")
    ] = "auto",
    workers: Annotated[
        int | None, typer.Option(help="Processes that read; one a core by default.")
    ] = None,
    engine: Annotated[
        options.Engine, typer.Option(help="ray: on a Ray cluster, an actor a GPU or node.")
    ] = "local",
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 1 where a source was not read whole.")
    ] = False,
    retry: Annotated[
        bool, typer.Option("--retry", help="Read again what could not be read before.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Move a store made otherwise aside.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check every row of the store; encode nothing.")
    ] = False,
    adapt_minutes: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="For clips that no shipped model knows: training time of one that does; "
            "10 on a CPU, 5 on a GPU by default.",
        ),
    ] = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Stream clips through the encoder into memory-mapped latents."""
    with _errors(goes_on="" if verify else _same_command()):
        encoded = api.encode(
            clips,
            out=out,
            frame_model=frame_model,
            fps=fps,
            crop=crop,
            batch_size=batch_size,
            mixed_precision=mixed_precision or "auto",
            reader=reader,
            workers=workers,
            engine=engine,
            strict=strict,
            retry=retry,
            overwrite=overwrite,
            verify=verify,
            adapt_minutes=adapt_minutes,
            device=device,
            quiet=quiet,
        )
        _echo_once(encoded.store)
        _say_last(hints.after_encode(out), quiet=quiet)


@app.command("train-top")
def train_top(
    latents: Annotated[str, typer.Option(help="What encode made.")] = "latents",
    out: Annotated[str, typer.Option(*OUT, help="Checkpoint directory.")] = "checkpoints/top",
    kind: Annotated[
        options.Kind | None, typer.Option(help="flow: any length; mlp: the paper's, WINDOW frames.")
    ] = None,
    window: Annotated[
        int | None, typer.Option(help="Frames seen at once; 16 (flow), 5 (mlp).")
    ] = None,
    steps: Steps = None,
    minutes: Minutes = None,
    batch_size: Annotated[int | None, typer.Option(help="Windows an update.")] = None,
    learning_rate: Rate = None,
    optimizer: Optimizer = None,
    mixed_precision: Precision = None,
    seed: Seed = None,
    resume: Resume = True,
    tracker: Tracker = None,
    init: Init = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Learn how latents follow each other."""
    with _errors(goes_on=_same_command(resume)):
        path = api.train_top(
            latents=latents,
            out=out,
            kind=kind,
            window=window,
            steps=steps,
            minutes=minutes,
            batch_size=batch_size,
            learning_rate=learning_rate,
            optimizer=optimizer,
            mixed_precision=mixed_precision,
            seed=seed,
            resume=resume,
            tracker=tracker,
            init=init,
            device=device,
            quiet=quiet,
        )
        _echo_once(path)
        _say_last(hints.after_train_top(out), quiet=quiet)


@app.command()
def generate(
    out: Annotated[str, typer.Option(*OUT, help=".mp4, .gif, .png, or a directory.")] = "out.mp4",
    num_frames: Annotated[
        int | None, typer.Option("--frames", "--num-frames", help="Frames a video; 16.")
    ] = None,
    num_videos: Annotated[int, typer.Option(help="Videos, side by side in one file.")] = 1,
    seed: Seed = None,
    fps: Fps = None,
    upscale: Upscale = None,
    start_from: Annotated[
        str | None,
        typer.Option("--from", "--start-from", metavar="CLIP", help="A video to go on from."),
    ] = None,
    top_model: Annotated[
        str | None, typer.Option(help="Directory or shipped name; checkpoints/top, else pacman-32.")
    ] = None,
    frame_model: Annotated[
        str | None,
        typer.Option(help="The top model's, where it is not found; directory or shipped name."),
    ] = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Generate videos of any length."""
    with _errors():
        generated = api.generate(
            out,
            num_frames=num_frames,
            num_videos=num_videos,
            seed=seed,
            fps=fps,
            upscale=upscale,
            start_from=start_from,
            top_model=top_model,
            frame_model=frame_model,
            device=device,
            quiet=quiet,
        )
        for path in generated.paths:
            _echo(path)
        last = hints.after_generate(generated.paths, generated.seed, top_model)
        _say_last(last, quiet=quiet)


@app.command()
def reconstruct(
    clips: Clips,
    out: Annotated[str | None, typer.Option(*OUT, help=".mp4, .gif or .png of G(E(x)).")] = None,
    frame_model: FrameModel = None,
    upscale: Upscale = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Encode and decode frames, and say how close they come."""
    with _errors():
        result = api.reconstruct(
            clips,
            out=out,
            frame_model=frame_model,
            upscale=upscale,
            device=device,
            quiet=quiet,
        )
        typer.echo(f"{result.psnr_db:.2f} dB PSNR over {result.num_frames:,} frames")
        if result.path is not None:
            typer.echo(result.path)
        last = hints.after_reconstruct(result.psnr_db, clips, result.path, frame_model)
        _say_last(last, quiet=quiet)


@app.command()
def evaluate(
    real: Annotated[str, typer.Option(metavar="CLIPS", help="Real clips, not trained on.")],
    generated: Annotated[
        str | None, typer.Option(metavar="CLIPS", help="Judge these clips.")
    ] = None,
    top_model: Annotated[
        str | None, typer.Option(help="Judge what it generates; directory or shipped name.")
    ] = None,
    frame_model: Annotated[
        str | None, typer.Option(help="Judge how it reconstructs; directory or shipped name.")
    ] = None,
    train: Annotated[
        str | None, typer.Option(metavar="CLIPS", help="What was trained on, to find copies of.")
    ] = None,
    num_clips: Annotated[int, typer.Option(help="Clips on each side.")] = 5000,
    size: Annotated[
        str | None, typer.Option(help="32 or WIDTHxHEIGHT, where no model says it.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="TorchScript that judges; a program, which is run.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="Keep the judged real clips in this .npz, or take them.")
    ] = None,
    out: Annotated[str | None, typer.Option(*OUT, help="Sheet of pictures, .png.")] = None,
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write all of it as JSON.")
    ] = None,
    compare: Annotated[
        str | None, typer.Option(metavar="FILE", help="Another model's --json, to compare with.")
    ] = None,
    skip: Annotated[
        int, typer.Option(help="Leave out so many first frames of generated videos.")
    ] = 0,
    seed: Seed = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Say how far generated clips are from real ones, and in what."""
    with _errors():
        try:
            evaluated = api.evaluate(
                real,
                generated=generated,
                top_model=top_model,
                frame_model=frame_model,
                train=train,
                num_clips=num_clips,
                size=size,
                judge=judge,
                reference=reference,
                out=out,
                json_file=json_file,
                compare=compare,
                skip=skip,
                seed=seed,
                device=device,
                quiet=quiet,
            )
        except OutputError as error:  # hours of work, of which the table is the result
            _echo(error.result.table())
            raise
        typer.echo(evaluated.table())
        _say_last(hints.after_evaluate(out, real), quiet=quiet)


@app.command()
def info(
    path: Annotated[str, typer.Argument(help="A video, store, checkpoint or shipped name.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Say what a video, a store or a checkpoint is."""
    del quiet  # all that it prints is the result
    with _errors():
        described = api.info(path)
        if json:
            typer.echo(jsonlib.dumps(described, indent=2))
        else:
            summary = described.pop("summary")
            typer.echo("\n".join([*summary, "", _lines(described)]))


def _lines(described: dict[str, Any], *, indent: str = "") -> str:
    lines = []
    for name, value in described.items():
        if isinstance(value, dict):
            lines.append(f"{indent}{name}:\n{_lines(value, indent=indent + '  ')}")
        elif isinstance(value, list) and value and isinstance(value[0], str):
            lines.append(f"{indent}{name}:" + "".join(f"\n{indent}  {item}" for item in value))
        else:
            lines.append(f"{indent}{name}: {value}")
    return "\n".join(lines)


def main() -> None:
    """Entry point."""
    _open_standard_streams()
    try:
        with _errors():  # of what is printed before any command: help, the version
            app()
    except typer.Exit as end:
        leave(end.exit_code)
    except SystemExit as end:
        leave(end.code if isinstance(end.code, int) else int(end.code is not None))


def leave(code: int) -> NoReturn:
    """End this process; one of several at once.

    An interpreter that takes down the threads of a process group is aborted now and then, and the
    launcher then takes finished work for failed.
    """
    if launched()[1] > 1:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


def _open_standard_streams() -> None:
    """Where a standard stream is closed, keep its number from a file, which would get its lines."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
