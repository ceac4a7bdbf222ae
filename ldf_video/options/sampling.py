"""The options of commands that make frames with a pair of models, or hand the pair on."""

from dataclasses import KW_ONLY, dataclass
from typing import Annotated, ClassVar, Literal

from ldf_video.checks import MOST, frame_rate, integer, license_id, pairs, repository, text
from ldf_video.errors import UsageError
from ldf_video.options.option import (
    DEFAULT_SHIPPED,
    OUT,
    PLAYED_SHIPPED,
    TOP_MODEL,
    Computation,
    File,
    Option,
    Out,
    OutFolder,
    Place,
    Quiet,
    Seed,
    Switch,
    Upscale,
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
        name: What the game is called.
        weights: half: as they are shipped, two bytes each; int8: one byte each for those of large
            layers, which changes a little what the models make.
        runtime: The npm package onnxruntime-web, which goes into the page.
        seed: Of the first film.
        fps: Frames per second.
    """

    _: KW_ONLY
    out: OutFolder = None
    html: File = None
    name: Annotated[str | None, Option("NAME", text, "that of the file")] = None
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
