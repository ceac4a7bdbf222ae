"""The options of all commands that are no training, and which commands there are.

To add an option to a command, add a field and its line of help to its dataclass, and use it in the
recipe.
"""

from dataclasses import KW_ONLY, dataclass
from typing import Annotated, ClassVar, Literal

from ldf_video.checks import (
    MOST,
    frame_rate,
    frame_size,
    integer,
    license_id,
    number,
    pairs,
    repository,
    text,
)
from ldf_video.errors import UsageError
from ldf_video.options.option import (
    BATCH_SIZE,
    DEFAULT_SHIPPED,
    FRAME_MODEL,
    LATENTS,
    OUT,
    PLAYED_SHIPPED,
    POSITIVE,
    START,
    TOP_MODEL,
    ClipLayout,
    Clips,
    Command,
    Computation,
    Crop,
    Cuts,
    File,
    Model,
    Option,
    OtherClips,
    Out,
    OutFile,
    OutFolder,
    Place,
    Precision,
    Quiet,
    Seed,
    Switch,
    Upscale,
    options_of,
)
from ldf_video.options.trainings import MINUTES, TrainFrame, TrainTop

Reader = Literal["auto", "pyav", "decord"]
Engine = Literal["local", "ray"]
OLD_NAMES = {"output": "out", "frames": "num_frames"}
"""What parameters were called before, or are on the command line; still taken by name."""


@dataclass(frozen=True)
class Start(ClipLayout, Computation):
    """Go the whole way from clips to a video, in so many minutes of training.

    Attributes:
        out: All that is made, with `start.json`, which says what was done. The same command goes
            on where it was stopped.
        minutes: Of both trainings together; reading and encoding come on top. More than before goes
            on with the top model.
        size: Pixels, `32` or `64x36` (width x height), as for `train-frame`.
        fps: Frames per second to read, such as `15` or `30000/1001`.
        crop: centre: the largest centred part of the shape of the frames; none: squeeze.
    """

    clips: Clips
    _: KW_ONLY
    out: Out = START
    minutes: Annotated[float | None, Option("M", POSITIVE, "60")] = None
    size: Annotated[str | int | None, Option("WxH", frame_size, "32")] = None
    fps: Annotated[str | float | None, Option("F", frame_rate, "each video's own")] = None
    crop: Annotated[Crop | None, Option(usual="centre")] = None


@dataclass(frozen=True)
class Preview(ClipLayout, Computation):
    """Show what will be trained on, on one page.

    Attributes:
        clips: A video, a directory searched recursively, or a store of latents or frames; a path,
            or a URL as text.
        out: The page, .html; it needs no other file and no network.
        size: Pixels, `32` or `64x36` (width x height), as for `train-frame`.
        fps: Frames per second to read, such as `15` or `30000/1001`.
        crop: centre: the largest centred part of the shape of the frames; none: squeeze.
        full: Read every frame of every clip, so that all counts are exact. Without it the first
            frames of each are read, 40,000 in all or 32 of each, and of at most 1,000 files.
    """

    clips: Clips
    _: KW_ONLY
    out: Annotated[Place, Option("FILE", names=OUT)] = "preview.html"
    size: Annotated[str | int | None, Option("WxH", frame_size, "32")] = None
    fps: Annotated[str | float | None, Option("F", frame_rate, "each video's own")] = None
    crop: Annotated[Crop | None, Option(usual="centre")] = None
    full: Switch = False


@dataclass(frozen=True)
class Encode(ClipLayout, Computation):
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
        cuts: auto: find where films cut from one shot to the next, so that no window of train-top
            crosses a cut ([cuts](docs/data.md#cuts)); off: do not look for cuts.
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
    cuts: Annotated[Cuts, Option()] = "auto"
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


@dataclass(frozen=True, kw_only=True)
class Pair(Quiet):
    """What commands take that use a top model and the frame model that decodes it.

    Attributes:
        seed: The same gives the same files.
        fps: Frames per second of the file. Where the model knows several rates (`train-top
            --strides`) the nearest of them is made. Where it knows one, the same frames play
            faster or slower.
        steps_per_block: Passes of a flow for each block of frames, in proportion more for a
            video's first one. More take more time. A student of few passes takes no others.
        top_model: A directory or a shipped name; its own frame model is loaded with it.
        frame_model: The top model's own, where it is not found beside it or where it stood; another
            is refused.
    """

    seed: Seed = None
    fps: Annotated[str | float | None, Option("F", frame_rate, "of the training clips")] = None
    steps_per_block: Annotated[
        int | None, Option("N", integer(1, MOST), "as the top model was trained")
    ] = None
    top_model: Annotated[
        Place | None, Option("MODEL", usual=f"`{TOP_MODEL}`, else `{DEFAULT_SHIPPED}`")
    ] = None
    frame_model: Annotated[Place | None, Option("MODEL", usual="found by itself")] = None
    shipped: ClassVar[str] = DEFAULT_SHIPPED


PLAYED = Option("MODEL", usual=f"`{TOP_MODEL}`, else `{PLAYED_SHIPPED}`")


@dataclass(frozen=True, kw_only=True)
class Sampling(Pair, Computation):
    """What commands take that make frames with such a pair.

    Attributes:
        upscale: Integer factor.
    """

    upscale: Upscale = None


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
        conditions: What leads to each frame, for a top model that learned with conditions: a CSV
            with the columns' names in its first line and a row a frame, or a .npy array. Frames
            behind its end are told nothing ([conditions](docs/models.md#conditions)).
        condition: The same for all frames, such as `left=1` or `action=left`; may be given several
            times.
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
    conditions: File = None
    condition: Annotated[tuple[str, ...] | None, Option("NAME=VALUE", pairs)] = None
    loop: Switch = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loop and (self.conditions is not None or self.condition):
            raise UsageError(
                "got --loop and --condition or --conditions: a loop is told nothing; drop one"
            )
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
class Play(Sampling):
    """Watch what a top model makes, in a browser, as it makes it.

    Attributes:
        out: Where recordings go, `played-0001.mp4` and so on.
        fps: Frames per second; the page can go slower and faster.
        port: Of this machine; nobody else can open the page.
        browser: Open the page, whose address is printed.
    """

    out: Out = "."
    _: KW_ONLY
    top_model: Annotated[Place | None, PLAYED] = None
    port: Annotated[int, Option("N", integer(0, 65535), "a free one")] = 0
    browser: Annotated[bool, Option(usual="browser")] = True
    shipped: ClassVar[str] = PLAYED_SHIPPED


@dataclass(frozen=True)
class Export(Pair):
    """Write a pair of models for other programs, or as a page that plays by itself.

    Attributes:
        out: The graphs in ONNX, with what a program needs to run them in `model.json`.
        html: One page with everything in it; it needs no network.
        name: What the page is called.
        weights: half: as they are shipped, two bytes each; int8: one byte each for those of large
            layers, which changes a little what the models make.
        runtime: The npm package onnxruntime-web, which goes into the page.
        seed: Of the first film.
        fps: Frames per second.
    """

    _: KW_ONLY
    out: OutFolder = None
    html: File = None
    name: Annotated[str | None, Option("NAME", text, "that of the model")] = None
    weights: Annotated[
        Literal["half", "int8"] | None, Option(usual="int8 in a page, else half")
    ] = None
    runtime: Annotated[Place, Option("DIR")] = "node_modules/onnxruntime-web"
    top_model: Annotated[Place | None, PLAYED] = None
    shipped: ClassVar[str] = PLAYED_SHIPPED


@dataclass(frozen=True)
class Publish(Computation):
    """Make a folder of models for others, with a card, and put it on a model hub.

    Attributes:
        out: What is made: models, card, pictures. The same command makes it anew.
        top_model: A directory or a shipped name; its frame model goes into the folder with it.
        frame_model: With a top model, the one that decodes what it makes; alone, it is published
            alone.
        figures: What `evaluate --json` wrote of these models, for the card.
        license: Under which others may use them, by the hub's name for it, such as `mit` or
            `cc-by-4.0`.
        show_clips: Also pictures in which frames of the clips can be seen.
        push: The repository on huggingface.co, `user/name`, that the folder goes to. A new one is
            private.
    """

    out: Annotated[Place, Option(names=("DIR",))]
    _: KW_ONLY
    top_model: Annotated[Place | None, Option("MODEL", usual=f"`{TOP_MODEL}`")] = None
    frame_model: Annotated[Place | None, Option("MODEL", usual="found by itself")] = None
    figures: File = None
    license: Annotated[str | None, Option("ID", license_id)] = None
    show_clips: Switch = False
    push: Annotated[str | None, Option("USER/NAME", repository)] = None


@dataclass(frozen=True)
class Reconstruct(ClipLayout, Computation):
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
class Evaluate(ClipLayout, Computation):
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
        fps: Frames per second at which clips are read and compared, and which the top model makes:
            one of the rates that it knows.
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
        control: A store of latents with conditions, of clips that nothing was trained on: how well
            the top model does what it is told ([control](docs/evaluation.md#control)).
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
    fps: Annotated[
        str | float | None, Option("F", frame_rate, "the model's, else the clips' own")
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
    control: Annotated[Place | None, Option("DIR")] = None
    seed: Seed = None


@dataclass(frozen=True)
class Info(ClipLayout):
    """Say what a video, a store or a checkpoint is.

    Attributes:
        path: A video, store, checkpoint or shipped name.
    """

    path: Annotated[Place, Option(names=("PATH",))]


COMMANDS: dict[str, type[Command]] = {
    "start": Start,
    "preview": Preview,
    "train-frame": TrainFrame,
    "encode": Encode,
    "train-top": TrainTop,
    "generate": Generate,
    "interpolate": Interpolate,
    "play": Play,
    "export": Export,
    "publish": Publish,
    "reconstruct": Reconstruct,
    "evaluate": Evaluate,
    "info": Info,
}


def option_table(command: str) -> str:
    """A table of a command's options in Markdown; "all": of those that all commands share."""
    known = options_of(COMMANDS["train-frame" if command == "all" else command])
    rows = [
        option.row()
        for name, option in known.items()
        if (name in ("device", "quiet")) == (command == "all") and option.flags[0].startswith("-")
    ]
    return "\n".join(["| option | default | |", "|---|---|---|", *rows])
