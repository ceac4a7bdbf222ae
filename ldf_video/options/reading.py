"""The options of commands that read clips, or say what a file is: start, preview, encode, info."""

from dataclasses import KW_ONLY, dataclass
from typing import Annotated, Literal

from ldf_video.checks import MOST, frame_rate, frame_size, integer, number
from ldf_video.errors import UsageError
from ldf_video.options.option import (
    BATCH_SIZE,
    FRAME_MODEL,
    LATENTS,
    OUT,
    POSITIVE,
    START,
    ClipLayout,
    Clips,
    Computation,
    Crop,
    Cuts,
    Option,
    Out,
    Place,
    Precision,
    Switch,
)
from ldf_video.options.trainings import MINUTES

Reader = Literal["auto", "pyav", "decord"]
Engine = Literal["local", "ray"]


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


@dataclass(frozen=True)
class Info(ClipLayout):
    """Say what a video, a store or a checkpoint is.

    Attributes:
        path: A video, store, checkpoint or shipped name.
    """

    path: Annotated[Place, Option(names=("PATH",))]
