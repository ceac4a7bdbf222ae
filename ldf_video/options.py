"""Every option of every command: type, default, unit, check and help. They stand here alone.

The command line, the Python API and the README's tables are made from the dataclasses below, whose
docstrings are the help. A value of one is checked as it is made, and None stands for a default. To
add an option, add a field and its line of help here, and use it in the recipe.
"""

import inspect
import re
import textwrap
from collections.abc import Mapping
from dataclasses import KW_ONLY, MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from ldf_video.checks import (
    MOST,
    WIDEST,
    Check,
    boolean,
    frame_rate,
    frame_size,
    integer,
    number,
    one_of,
    place,
    text,
)
from ldf_video.errors import UsageError

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "no", "bf16", "fp16"]
Preset = Literal["default", "paper"]
Kind = Literal["flow", "mlp"]
OptimizerName = Literal["muon", "adam", "adam8bit"]
TrackerName = Literal["tensorboard"]
Crop = Literal["centre", "none"]
Reader = Literal["auto", "pyav", "decord"]
Engine = Literal["local", "ray"]
Place = str | Path

FRAME_MODEL, TOP_MODEL, LATENTS = "checkpoints/frame", "checkpoints/top", "latents"
DEFAULT_SHIPPED = "pacman-32"
"""Where commands read and write where nothing is named."""
CPU_MINUTES, GPU_MINUTES = 10.0, 5.0
"""How long a training takes where neither steps nor minutes are given."""
BATCH_SIZE = 64
WINDOWS = {"flow": 16, "mlp": 5}
"""Frames that a top model sees at once, by kind."""
RATE, FLOW_BY_ADAM, PAPER_RATE, FEW_RATE, ROLLED_RATE = 1e-3, 2e-3, 2e-4, 5e-5, 2e-4
"""Learning rates: of default models, a flow without Muon, the paper's models, a student, a G that
learns to decode what a top model makes."""
OLD_NAMES = {"output": "out", "frames": "num_frames"}
"""What parameters were called before, or are on the command line; still taken by name."""


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
    def required(self) -> bool:
        """Whether it has no default."""
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
        """Its row in the README."""
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


def option_table(command: str) -> str:
    """A table of a command's options in Markdown; "all": of those that all commands share."""
    known = options_of(COMMANDS["train-frame" if command == "all" else command])
    rows = [
        option.row()
        for name, option in known.items()
        if (name in ("device", "quiet")) == (command == "all") and option.flags[0].startswith("-")
    ]
    return "\n".join(["| option | default | |", "|---|---|---|", *rows])


def argument_lines(command: type["Command"]) -> str:
    """The options of a command as the "Args:" of its function in Python."""
    lines = ["Args:"]
    for option in options_of(command).values():
        usual = f" Default: {option.usual}." if option.usual else ""
        line = plain(f"{option.name}: {option.help}{usual}")
        lines += textwrap.wrap(line, 96, initial_indent="    ", subsequent_indent="        ")
    return "\n".join(lines)


# -- the commands --------------------------------------------------------------------------------

MINUTES = f"{CPU_MINUTES:g} on a CPU, {GPU_MINUTES:g} on a GPU"
POSITIVE = number("more than 0", lambda value: value > 0)

OUT = ("--out", "-o", "--output")
Out = Annotated[Place, Option("DIR", names=OUT)]
OutFile = Annotated[Place | None, Option("FILE", names=OUT)]
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
class Computation(Command):
    """A command that computes.

    Attributes:
        device: Where to compute; auto takes a GPU if there is one.
        quiet: Print nothing but results and errors.
    """

    device: Annotated[Device, Option()] = "auto"
    quiet: Switch = False


@dataclass(frozen=True, kw_only=True)
class Training(Computation):
    """What both trainings take.

    Attributes:
        out: The checkpoint.
        steps: Updates in all; this or `--minutes`.
        minutes: Training time in all.
        learning_rate: Of Adam; Muon's is in proportion.
        mixed_precision: auto: bf16 on a GPU that has it, none elsewhere; fp16 needs CUDA.
        seed: Of weights, batches and noise.
        tracker: Curves and pictures in `OUT/tensorboard`, beside `metrics.jsonl` and `samples/`.
        resume: Go on with the run in OUT, for longer where `--steps` or `--minutes` say more
            ([resuming](docs/training.md#a-run-is-a-directory)); or move it aside and start anew.
    """

    out: Out
    steps: Annotated[int | None, Option("N", integer(1))] = None
    minutes: Annotated[float | None, Option("M", POSITIVE, MINUTES)] = None
    batch_size: Annotated[int | None, Option("N", integer(1, MOST), str(BATCH_SIZE))] = None
    mixed_precision: Annotated[Precision | None, Option(usual="auto")] = None
    seed: Seed = None
    init: Model = None
    tracker: Annotated[TrackerName | None, Option()] = None
    resume: Annotated[bool, Option(usual="resume")] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps is not None and self.minutes is not None:
            raise UsageError("got --steps and --minutes: give one of the two")


@dataclass(frozen=True)
class TrainFrame(Training):
    """Learn single frames: encoder, generator and discriminator.

    Attributes:
        size: Pixels, `32` or `64x36` (width x height), 8 and more; multiples of 8 cost least for
            what they show. The preset paper needs multiples of 8 from 24 on.
        preset: default: a small grid of latents per frame; paper: the paper's networks, one vector
            per frame.
        width: Channels of encoder and generator at half resolution, a multiple of 8: more learn
            more per update and take more time ([GPU](docs/training.md#on-a-gpu)).
        latent_noise: Strength of the noise added to latents while the generator is trained, as a
            fraction of their standard deviation, 0 to 10. Lower: sharper reconstructions. Higher:
            the generator copes better with imprecise generated latents. `--init` does not bring
            it along.
        batch_size: Frames per update, at least 4.
        optimizer: muon: learns fastest, Muon for the hidden layers of encoder and generator, Adam
            for the rest; adam8bit: a quarter of Adam's memory for its state, on a CPU weights with
            tiny gradients hardly move ([less memory](docs/training.md#less-memory)).
        gradient_checkpointing: Compute inner results twice instead of keeping them: less memory,
            more time.
        accumulate: Parts of a batch that are computed one after the other: less memory. Batch norm
            (the preset paper) and the moment penalty see each part alone.
        max_memory: A budget such as `900MiB`, `2GiB` or `2GB`: of main memory of all processes on a
            CPU (Linux), of what torch reserves on a GPU with CUDA. It measures a few updates, picks
            `--accumulate`, `--gradient-checkpointing` and then adam8bit where they are not given,
            says so, and refuses before any clip is read where nothing fits
            ([a budget](docs/training.md#a-budget)).
        fps: Frames per second to read, such as `15` or `30000/1001`.
        crop: centre: the largest centred part of the shape of the frames; none: squeeze.
        init: Start from the weights of this model, a directory or a shipped name
            ([adapting](docs/training.md#starting-from-a-model)). Its preset and widths are taken
            over, and without `--size` its size.
        top_model: Learn to decode what this top model makes of the latents of `--init`, whose
            encoder stays as it is ([how](docs/training.md#decoding-what-a-top-model-makes)).
        frames_store: Where the small frames lie.
    """

    clips: Clips
    _: KW_ONLY
    out: Out = FRAME_MODEL
    size: Annotated[str | int | None, Option("WxH", frame_size, "32, or that of `--init`")] = None
    preset: Annotated[Preset | None, Option(usual="default")] = None
    width: Annotated[int | None, Option("N", integer(8, WIDEST, multiple_of=8), "32")] = None
    latent_noise: Annotated[
        float | None,
        Option(
            "S",
            number("0 to 10", lambda value: 0 <= value <= 10),
            "0.6, with `--top-model`: 0.3",
        ),
    ] = None
    learning_rate: Annotated[
        float | None,
        Option("R", POSITIVE, f"{RATE}, paper: {PAPER_RATE}, with `--top-model`: {ROLLED_RATE}"),
    ] = None
    optimizer: Annotated[
        OptimizerName | None, Option(usual="muon; paper and with `--top-model`: adam")
    ] = None
    gradient_checkpointing: Annotated[bool | None, Option()] = None
    accumulate: Annotated[int | None, Option("N", integer(1, MOST), "1")] = None
    max_memory: Annotated[str | None, Option("SIZE", text)] = None
    fps: Annotated[str | float | None, Option("F", frame_rate, "each video's own")] = None
    crop: Annotated[Crop | None, Option(usual="centre")] = None
    top_model: Model = None
    frames_store: Annotated[Place | None, Option("DIR", usual="`OUT/frames`")] = None


@dataclass(frozen=True)
class Encode(Computation):
    """Stream clips through the encoder into memory-mapped latents.

    Attributes:
        out: The store of latents.
        frame_model: The encoder; a directory or a shipped name. Where none is named, a shipped one
            is adapted to the clips if it shows them poorly.
        adapt_minutes: Where none is named and no shipped one brings a sample back at 20 dB: how
            long one is adapted to the clips in `checkpoints/frame`; a killed adaptation goes on
            with the same command; 0 goes on without
            ([adapting](docs/training.md#starting-from-a-model)).
        fps: Frames per second to read, such as `15` or `30000/1001`.
        crop: centre: the largest centred part of the shape of the frames; none: squeeze.
        batch_size: Frames per batch.
        mixed_precision: auto: bf16 on a GPU that has it, none elsewhere; fp16 needs CUDA.
        reader: Of videos. auto and pyav: PyAV, which is the faster; decord: decord for what it
            reads right, PyAV for the rest ([readers](docs/data.md#readers)).
        workers: Processes that read: a decoder that crashes or hangs costs its clip alone; 0 reads
            in this process, unguarded.
        engine: ray: on a Ray cluster, an actor per GPU or node
            ([several machines](docs/store.md#parts-several-processes-one-store)).
        strict: Fail where a source was not read whole, now or by an earlier call.
        retry: Read again what could not be read before.
        overwrite: Move a store made by other settings aside.
        verify: Read every row of the store and compare it with its checksum, say what the store
            lacks of the clips, encode nothing. With `--retry` what is damaged is let go, so that
            the next call makes it anew.
    """

    clips: Clips
    _: KW_ONLY
    out: Out = LATENTS
    frame_model: Annotated[
        Place | None,
        Option("MODEL", usual=f"`{FRAME_MODEL}`, else the shipped one that shows the clips best"),
    ] = None
    adapt_minutes: Annotated[
        float | None, Option("M", number("0 or more", lambda value: value >= 0), MINUTES)
    ] = None
    fps: Annotated[
        str | float | None, Option("F", frame_rate, "as the frame model was trained")
    ] = None
    crop: Annotated[Crop | None, Option(usual="as the frame model was trained")] = None
    batch_size: Annotated[int, Option("N", integer(1, MOST))] = BATCH_SIZE
    mixed_precision: Annotated[Precision, Option()] = "auto"
    reader: Annotated[Reader, Option()] = "auto"
    workers: Annotated[int | None, Option("N", integer(0), "one per core, 16 at most")] = None
    engine: Annotated[Engine, Option()] = "local"
    strict: Switch = False
    retry: Switch = False
    overwrite: Switch = False
    verify: Switch = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.adapt_minutes and self.frame_model is not None:
            raise UsageError(
                f"--adapt-minutes {self.adapt_minutes:g}: the model of --frame-model is taken as "
                f"it is; drop one, or run ldf-video train-frame CLIPS --init {self.frame_model} "
                "first"
            )


@dataclass(frozen=True)
class TrainTop(Training):
    """Learn how latents follow each other.

    Attributes:
        latents: What `encode` made.
        kind: flow: a rectified flow, videos of any length; mlp: the paper's fully connected GAN,
            exactly WINDOW frames.
        window: Frames seen at once.
        batch_size: Windows per update.
        optimizer: muon: Muon for the hidden layers, Adam for the rest; adam8bit: a quarter of
            Adam's memory for its state.
        init: Start from the weights of this top model, a directory or a shipped name. Its kind,
            window and widths are taken over; what latents are standardised by is not.
        few: From the flow of `--init`, learn to make a block in one pass and a first block in four
            ([few passes](docs/models.md#few-passes)).
    """

    _: KW_ONLY
    latents: Annotated[Place, Option("DIR")] = LATENTS
    out: Out = TOP_MODEL
    kind: Annotated[Kind | None, Option(usual="flow")] = None
    window: Annotated[
        int | None,
        Option(
            "N",
            integer(2, MOST),
            f"{WINDOWS['flow']}, mlp: {WINDOWS['mlp']}, or the longest clip",
        ),
    ] = None
    learning_rate: Annotated[
        float | None,
        Option(
            "R", POSITIVE, f"{RATE}, by adam {FLOW_BY_ADAM}, mlp: {PAPER_RATE}, few: {FEW_RATE:g}"
        ),
    ] = None
    optimizer: Annotated[OptimizerName | None, Option(usual="muon, mlp and few: adam")] = None
    few: Switch = False


@dataclass(frozen=True, kw_only=True)
class Sampling(Computation):
    """What both commands take that sample a top model.

    Attributes:
        seed: The same gives the same files.
        fps: Frames per second of the file. A model knows one rate: at another the same frames play
            faster or slower.
        upscale: Integer factor.
        top_model: A directory or a shipped name; its own frame model is loaded with it.
        frame_model: The top model's own, where it is not found beside it or where it stood; another
            is refused.
    """

    seed: Seed = None
    fps: Annotated[str | float | None, Option("F", frame_rate, "of the training clips")] = None
    upscale: Upscale = None
    top_model: Annotated[
        Place | None, Option("MODEL", usual=f"`{TOP_MODEL}`, else `pacman-32`")
    ] = None
    frame_model: Annotated[Place | None, Option("MODEL", usual="found by itself")] = None


@dataclass(frozen=True)
class Generate(Sampling):
    """Generate videos of any length.

    Attributes:
        out: .mp4, .gif or .png (a sheet: time goes to the right, 16 frames a row); several videos
            in one file stand side by side. Without a suffix, or where it ends in `/`: a directory
            with an mp4 for each video, which may hold nothing else.
        num_frames: Frames per video.
        num_videos: Videos; many at once take less time a frame.
        start_from: A video to go on from.
        loop: Make a video that plays in a circle: its last frames lead to its first one. How far
            the last frame is from the first is said, beside how far neighbouring frames are.
    """

    out: Annotated[Place, Option("FILE", names=OUT)] = "out.mp4"
    _: KW_ONLY
    num_frames: Annotated[
        int | None,
        Option("N", integer(1), "16, or what an mlp makes", ("--frames", "--num-frames")),
    ] = None
    num_videos: Annotated[int, Option("N", integer(1, MOST))] = 1
    start_from: Annotated[Place | None, Option("CLIP", names=("--from", "--start-from"))] = None
    loop: Switch = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loop and self.start_from is not None:
            raise UsageError(
                "got --loop and --from: a loop has no beginning that a clip could stand before; "
                "give one of the two"
            )


@dataclass(frozen=True)
class Interpolate(Sampling):
    """Make the frames between two clips or pictures.

    Attributes:
        start: A video or a picture, whose last frame comes first.
        end: A video or a picture, whose first frame comes last.
        out: .mp4, .gif or .png of the last frame of A, the frames between and the first one of B.
        num_frames: Frames between.
    """

    start: Annotated[Place, Option(names=("A",))]
    end: Annotated[Place, Option(names=("B",))]
    _: KW_ONLY
    out: Annotated[Place, Option("FILE", names=OUT)] = "out.mp4"
    num_frames: Annotated[int, Option("N", integer(1), names=("--frames", "--num-frames"))] = 16


@dataclass(frozen=True)
class Reconstruct(Computation):
    """Encode and decode frames, and say how close they come.

    Attributes:
        out: .mp4, .gif or .png of the decoded frames of one clip.
        frame_model: A directory or a shipped name.
        upscale: Integer factor.
    """

    clips: Clips
    _: KW_ONLY
    out: OutFile = None
    frame_model: Annotated[
        Place | None, Option("MODEL", usual=f"`{FRAME_MODEL}`, else `pacman-32`")
    ] = None
    upscale: Upscale = None


@dataclass(frozen=True)
class Evaluate(Computation):
    """Say how far generated clips are from real ones, and in what.

    Attributes:
        real: Real clips, preferably not used in training. Half of those drawn are the reference,
            the other half shows the best score to expect.
        generated: Judge clips on disk.
        top_model: Judge what it generates; a directory or a shipped name.
        frame_model: Judge its reconstructions of real clips, the same from slightly wrong latents,
            and frames from the prior.
        train: The clips that were trained on, to find copies of them.
        num_frames: Frames of a clip; both sides are cut into such clips.
        num_clips: Clips on each side, or a segment; compare figures at equal numbers only.
        size: Pixels at which clips are compared, `32` or `64x36`.
        judge: A TorchScript file, such as your Inception or I3D; it is a program and is run.
        reference: An .npz that keeps the judged real clips: written where it is not there, else
            taken.
        out: .png, real clips beside judged ones.
        json_file: All of it as JSON; what is no finite number is `null`.
        compare: What `--json` wrote of another model against the same real clips: how much farther
            this one is, with an interval.
        skip: Frames to leave out at the beginning of each generated video.
        segments: Cut long videos in so many equal segments and judge each of them
            ([drift](docs/evaluation.md#drift)).
        length: Frames of each of these videos.
        num_videos: How many of them are judged.
        curve: A .png of the figures of all segments.
        seed: Of the clips that are drawn and generated.
    """

    real: Annotated[Place, Option("CLIPS", usual="required")]
    _: KW_ONLY
    generated: OtherClips = None
    top_model: Annotated[
        Place | None, Option("MODEL", usual="without any of the three: as for generate")
    ] = None
    frame_model: Model = None
    train: OtherClips = None
    num_frames: Annotated[
        int, Option("N", integer(2, MOST), names=("--frames", "--num-frames"))
    ] = 5
    num_clips: Annotated[
        int | None, Option("N", integer(1, MOST), "5000, with `--segments` 400")
    ] = None
    size: Annotated[
        str | int | None, Option("WxH", frame_size, "the model's, else the real clips' own")
    ] = None
    judge: Annotated[Place | None, Option("FILE", usual="EfficientNet-Lite0")] = None
    reference: File = None
    out: OutFile = None
    json_file: Annotated[Place | None, Option("FILE", names=("--json",))] = None
    compare: File = None
    skip: Annotated[int, Option("N", integer(0))] = 0
    segments: Annotated[int | None, Option("N", integer(2, MOST))] = None
    length: Annotated[int | None, Option("N", integer(2), "1000 a segment, behind `--skip`")] = None
    num_videos: Annotated[int | None, Option("N", integer(1, MOST), "8")] = None
    curve: File = None
    seed: Seed = None


@dataclass(frozen=True)
class Info(Command):
    """Say what a video, a store or a checkpoint is.

    Attributes:
        path: A video, store, checkpoint or shipped name.
    """

    path: Annotated[Place, Option(names=("PATH",))]


COMMANDS: dict[str, type[Command]] = {
    "train-frame": TrainFrame,
    "encode": Encode,
    "train-top": TrainTop,
    "generate": Generate,
    "interpolate": Interpolate,
    "reconstruct": Reconstruct,
    "evaluate": Evaluate,
    "info": Info,
}
