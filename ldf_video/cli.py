"""The command line: options to one call of the API, errors to exit codes. Imports no torch."""

from __future__ import annotations

import inspect
import json as jsonlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Annotated, Any, NoReturn, TextIO

import typer

from ldf_video import api, hints
from ldf_video.errors import LdfError, OutputError, UsageError, counted
from ldf_video.interrupts import Stopped, launched, stops_raised
from ldf_video.options.commands import COMMANDS
from ldf_video.options.option import Option, options_of, plain
from ldf_video.output import reason, remedy

app = typer.Typer(
    name="ldf-video",
    help="Train a video generator on your own clips, in memory that does not grow with length.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

GO_ON = ("start", "train-frame", "encode", "train-top")
"""Commands that go on where they were interrupted."""
WAITING = {"GOMP_SPINCOUNT": "2500", "KMP_BLOCKTIME": "1"}
"""How long an idle thread spins: some 30 us by GNU's OpenMP, 1 ms by Intel's and LLVM's."""
FIGURES = ("reconstruct", "evaluate")
"""Commands that print all that they found: where nobody can hear it, they fail."""


def parameter(option: Option) -> inspect.Parameter:
    """An option of a command as a parameter that Typer reads: text, which the API checks."""
    default, is_switch = option.default, option.plain_type is bool
    said = plain(option.help)
    if option.usual and not is_switch and not option.required:
        said += plain(f"  [default: {option.usual}]")
    kind: Any = str if default is not None else str | None
    if option.is_repeated:
        kind = list[str] | None
    if is_switch:
        switch = option.flags[0] + (f"/--no-{option.name}" if default else "")
        kind, shown = bool, typer.Option(bool(default), switch, help=said)
    elif option.flags[0].startswith("-"):
        metavar = option.unit or f"<{'|'.join(option.choices)}>"
        default = default if default in (None, ...) else str(default)
        shown = typer.Option(default, *option.flags, help=said, metavar=metavar)
    else:
        shown = typer.Argument(..., metavar=option.flags[0], help=said)
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(option.name, keyword, default=shown, annotation=kind)


def add_command(name: str) -> None:
    """All that is typed goes to the API; what comes back is printed, and what to type next."""
    known = options_of(COMMANDS[name])

    def run(**typed: Any) -> None:
        given = SimpleNamespace(**typed)
        with errors_shown(goes_on=_same_command(given) if name in GO_ON else ""):
            result = getattr(api, name.replace("-", "_"))(**_asked(typed, known))
            found, following = _results(name, result, given)
            for line in found:
                (typer.echo if name in FIGURES else _echo_once)(line)
            if not given.quiet:
                _echo_once(following, err=True)

    parameters = [parameter(option) for option in known.values()]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    about = "" if sys.flags.optimize > 1 else COMMANDS[name].__doc__ or ""  # -OO drops it
    app.command(name, help=about.partition("\n")[0])(run)


def _results(name: str, result: Any, typed: Any) -> tuple[Sequence[Any], str]:
    """The lines that a command gives, and the last one: where to look and what to type next."""
    found: Sequence[Any] = [result]
    match name:
        case "start":
            found = [result.sheet, result.video]
            last = hints.after_start(typed.clips, typed.out, result)
        case "preview":
            found = [*result.lines(), result.path]
            last = hints.after_preview(typed.clips, result.path, is_told=bool(result.conditions))
        case "train-frame":
            last = hints.after_train_frame(typed.clips, typed.out, typed.top_model)
        case "encode":
            found, last = [result.store], hints.after_encode(typed.out)
        case "train-top":
            last = hints.after_train_top(typed.out)
        case "generate":
            asked = typed.top_model, typed.frame_model
            found, last = result.paths, hints.after_generate(result.paths, result.seed, *asked)
        case "interpolate":  # what is between two clips is no clip to be judged by
            found, last = result.paths, hints.after_interpolate(result.paths[0], result.seed)
        case "play":
            found, last = result.paths, hints.after_play(result.seed)
        case "export":
            found, last = result.paths, hints.after_export(result.paths, result.page_bytes)
        case "publish":
            found = [result.folder] if result.address is None else [result.folder, result.address]
            last = hints.after_publish(result.folder, result.address)
        case "reconstruct":
            psnr, path = result.psnr_db, result.path
            said = f"{psnr:.2f} dB PSNR over {counted(result.num_frames, 'frame')}"
            found = [said] if path is None else [said, path]
            last = hints.after_reconstruct(psnr, typed.clips, path, typed.frame_model)
        case _:
            found, last = [result.table()], hints.after_evaluate(typed.out, typed.real)
    return found, last


def _asked(typed: dict[str, Any], known: Mapping[str, Option]) -> dict[str, Any]:
    """What was typed, numbers as such, without switches that were not and whose default is None."""
    asked = {}
    for name, value in typed.items():
        option = known[name]
        if value is False and option.default is None:
            continue
        if option.is_repeated and not value:
            continue
        asked[name] = value
        if value is not None and option.plain_type in (int, float):
            with suppress(ValueError):  # what is no number is refused as every wrong value is
                asked[name] = option.plain_type(value)
    return asked


def _same_command(typed: Any) -> str:
    if getattr(typed, "verify", False):
        return ""
    return "the same command" + ("" if getattr(typed, "resume", True) else " without --no-resume")


for _name in COMMANDS:
    if _name != "info":
        add_command(_name)


@app.command()
def info(
    path: Annotated[str, typer.Argument(help=options_of(COMMANDS["info"])["path"].help)],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but the result.")] = False,
) -> None:
    """Say what a video, a store or a checkpoint is."""
    del quiet  # all that it prints is the result
    with errors_shown():
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


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as version_of  # takes longer than all help

        typer.echo(version_of("ldf-video"))
        raise typer.Exit


# -- errors, and what is printed ------------------------------------------------------------------


@contextmanager
def errors_shown(*, goes_on: str = "") -> Iterator[None]:
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
    except OutputError as error:  # hours of work, of which the table is the result
        _echo(error.result.table())
        _fail(error, code=1)
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


def _fail(error: Exception, *, code: int) -> None:
    if not getattr(error, "reported_elsewhere", False):
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


# -- the process ---------------------------------------------------------------------------------


def main() -> None:
    """Entry point."""
    _open_standard_streams()
    _let_waiting_threads_sleep()
    try:
        with errors_shown():  # of what is printed before any command: help, the version
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


def _let_waiting_threads_sleep() -> None:
    """Tell OpenMP, before torch loads it, unless the user has said how threads are to wait.

    By itself a thread that waits for another one spins for milliseconds. Where a core is busy with
    another process, it keeps from that core the very thread that it waits for.
    """
    if not any(name in os.environ for name in (*WAITING, "OMP_WAIT_POLICY", "OMP_NUM_THREADS")):
        os.environ.update(WAITING)


def _open_standard_streams() -> None:
    """Where a standard stream is closed, keep its number from a file, which would get its lines."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
