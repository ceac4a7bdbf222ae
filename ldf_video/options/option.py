"""What an option is: type, default, unit, check and help; and the fields that commands share.

The command line, the Python API and the README's tables are made from dataclasses of options, whose
docstrings are the help; `commands` lists them. A value of one is checked as it is made, and None
stands for a default.
"""

import inspect
import re
import textwrap
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from ldf_video.checks import (
    WIDEST,
    Check,
    action_places,
    axis_letters,
    boolean,
    integer,
    level_range,
    number,
    one_of,
    place,
    text,
)

Place = str | Path
Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "no", "bf16", "fp16"]
Crop = Literal["centre", "none"]
Cuts = Literal["auto", "off"]

FRAME_MODEL, TOP_MODEL, LATENTS = "checkpoints/frame", "checkpoints/top", "latents"
START = "start"
DEFAULT_SHIPPED, PLAYED_SHIPPED = "pacman-32", "pacman-32-play"
"""Where commands read and write where nothing is named, and which shipped models they take."""
BATCH_SIZE = 64


@dataclass(frozen=True)
class Option:
    """What an option has beside its type, its default and its help.

    `options_of` fills in the latter: what stands below `name`.
    """

    unit: str = ""  # what stands for a value in help: N, DIR, FILE; choices and switches need none
    check: Check | None = None  # of a value; chosen by the type where it is None
    usual: str = ""  # what a default of None comes to
    names: tuple[str, ...] = ()
    """On the command line, the one of errors first; the dashed name of the field if empty. One that
    does not begin with a dash is an argument."""
    name: str = ""
    type: Any = None  # of a value, with None where that is the default
    default: Any = ...  # `...` where there is none
    help: str = ""  # in Markdown

    @property
    def flags(self) -> tuple[str, ...]:
        """All names on the command line."""
        return self.names or (flag(self.name),)

    @property
    def plain_type(self) -> Any:
        """The type without None; the first of several."""
        kinds = () if get_origin(self.type) is Literal else get_args(self.type)
        return kinds[0] if kinds else self.type

    @property
    def choices(self) -> tuple[str, ...]:
        """The values that it may have, where they are few."""
        return get_args(self.plain_type) if get_origin(self.plain_type) is Literal else ()

    @property
    def is_repeated(self) -> bool:
        """Whether it may be given several times."""
        return get_origin(self.plain_type) is tuple

    @property
    def required(self) -> bool:
        return self.default is ...

    def value_of(self, given: Any) -> Any:
        """The value that a command gets.

        Raises:
            UsageError: what was given means nothing.
        """
        if given is None and not self.required:
            return self.default
        by_type = one_of(self.plain_type) if self.choices else place
        check = self.check or (boolean if self.plain_type is bool else by_type)
        return check(self.flags[0], given)

    def row(self) -> str:
        unit = self.unit or r"\|".join(self.choices)
        names = f"`{self.flags[0]} {unit}`" if unit else f"`{self.flags[0]}`"
        if self.default is True:
            names += f", `--no-{self.name}`"
        has_none = self.required or self.default is None or isinstance(self.default, bool)
        default = "" if has_none else f"`{self.default}`"
        return f"| {names} | {self.usual or default} | {self.help} |"


def flag(name: str) -> str:
    """An option as users write it, where it has no other name."""
    return "--" + name.replace("_", "-")


def plain(markdown: str) -> str:
    """Text without links and quotes of code, for a terminal."""
    return re.sub(r" \(\[[^]]*\]\([^)]*\)\)|`", "", markdown)


def options_of(command: Any) -> Mapping[str, Option]:
    """The options of a command by their names in Python, its own before those of its bases."""
    hints = get_type_hints(command, include_extras=True)
    known, helps = {field.name: field for field in fields(command)}, {}
    for base in reversed(command.__mro__):
        listed = inspect.cleandoc(base.__doc__ or "").partition("Attributes:\n")[2]
        for name, said in re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", listed, re.MULTILINE):
            helps[name] = " ".join(said.split())
    found: dict[str, Option] = {}
    for base in command.__mro__:
        for name in [name for name in inspect.get_annotations(base) if name in known]:
            kind, option = get_args(hints[name])
            default = known[name].default
            about = {"default": ... if default is MISSING else default, "help": helps.get(name, "")}
            found.setdefault(name, replace(option, name=name, type=kind, **about))
    return found


def argument_lines(command: type["Command"]) -> str:
    """The options of a command as the "Args:" of its function in Python."""
    lines = ["Args:"]
    for option in options_of(command).values():
        usual = f" Default: {option.usual}." if option.usual else ""
        line = plain(f"{option.name}: {option.help}{usual}")
        lines += textwrap.wrap(line, 96, initial_indent="    ", subsequent_indent="        ")
    return "\n".join(lines)


# -- what commands share ------------------------------------------------------------------------

POSITIVE = number("more than 0", lambda value: value > 0)

OUT = ("--out", "-o", "--output")
Out = Annotated[Place, Option("DIR", names=OUT)]
OutFile = Annotated[Place | None, Option("FILE", names=OUT)]
OutFolder = Annotated[Place | None, Option("DIR", names=OUT)]
Clips = Annotated[Place, Option(names=("CLIPS",))]
OtherClips = Annotated[Place | None, Option("CLIPS")]
File = Annotated[Place | None, Option("FILE")]
Model = Annotated[Place | None, Option("MODEL")]
Seed = Annotated[int | None, Option("N", integer(0), "drawn and printed")]
Upscale = Annotated[int | None, Option("N", integer(1, WIDEST), "to at least 128 pixels")]
Switch = Annotated[bool, Option()]


@dataclass(frozen=True)
class Command:
    """The options of one call of a command, checked as it is made.

    Attributes:
        clips: A video, or a directory searched recursively; a path, or a URL as text.
    """

    def __post_init__(self) -> None:
        for name, option in options_of(type(self)).items():
            object.__setattr__(self, name, option.value_of(getattr(self, name)))


@dataclass(frozen=True, kw_only=True)
class Quiet(Command):
    """A command that says what it does.

    Attributes:
        quiet: Print nothing but results and errors.
    """

    quiet: Switch = False


@dataclass(frozen=True, kw_only=True)
class Computation(Quiet):
    """A command that computes where it is told to.

    Attributes:
        device: Where to compute; auto takes a GPU if there is one.
    """

    device: Annotated[Device, Option()] = "auto"


@dataclass(frozen=True, kw_only=True)
class ClipLayout(Command):
    """A command that reads clips, of which files do not say all; see `files.layout`.

    Attributes:
        axes: Of arrays whose shape can be read in several ways, in the letters of microscopy: N
            clips, T frames, Y rows, X columns, C channels ([arrays](docs/data.md#arrays)).
        levels: Of arrays: the numbers that are black and white, such as `0:4095`, or `auto`.
        camera: The camera to read, where there are several: of LeRobot, or of datasets that are
            named by it; `all` for every one.
        actions: Of arrays and LeRobot: what tells of frames beside their pixels, such as
            `data/*/actions`; several with commas between; `off` for nothing
            ([conditions](docs/data.md#conditions)).
        series: Of pictures: make all those of a folder one clip, in natural order of their names
            ([pictures](docs/data.md#pictures)), or go by number.
    """

    axes: Annotated[
        str | None, Option("AXES", axis_letters, "told from the shape where it has one reading")
    ] = None
    levels: Annotated[
        str | None, Option("LOW:HIGH", level_range, "the range of the type; of floats, by values")
    ] = None
    camera: Annotated[str | None, Option("NAME", text, "all")] = None
    actions: Annotated[
        str | None, Option("PLACE", action_places, "what is called an action beside the frames")
    ] = None
    series: Annotated[Literal["folder", "number"] | None, Option(usual="by number")] = None
