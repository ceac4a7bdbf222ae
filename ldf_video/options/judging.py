"""The options of commands that compare frames with real ones: reconstruct, evaluate."""

from dataclasses import KW_ONLY, dataclass
from typing import Annotated

from ldf_video.checks import MOST, frame_rate, frame_size, integer
from ldf_video.options.option import (
    FRAME_MODEL,
    ClipLayout,
    Clips,
    Computation,
    Cuts,
    File,
    Model,
    Option,
    OtherClips,
    OutFile,
    Place,
    Seed,
    Upscale,
)


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
        cuts: auto: no real clip goes across a cut ([cuts](docs/data.md#cuts)); off: they may.
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
    cuts: Annotated[Cuts, Option()] = "auto"
    segments: Annotated[int | None, Option("N", integer(2, MOST))] = None
    length: Annotated[int | None, Option("N", integer(2), "1000 a segment, behind `--skip`")] = None
    num_videos: Annotated[int | None, Option("N", integer(1, MOST), "8")] = None
    curve: File = None
    control: Annotated[Place | None, Option("DIR")] = None
    seed: Seed = None
