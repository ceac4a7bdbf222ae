"""The options of the two trainings, of single frames and of how latents follow each other."""

from dataclasses import KW_ONLY, dataclass
from typing import Annotated, Literal

from ldf_video.checks import MOST, WIDEST, frame_rate, frame_size, integer, number, rising, text
from ldf_video.errors import UsageError
from ldf_video.options.option import (
    BATCH_SIZE,
    FRAME_MODEL,
    LATENTS,
    POSITIVE,
    TOP_MODEL,
    ClipLayout,
    Clips,
    Computation,
    Crop,
    Cuts,
    Model,
    Option,
    Out,
    Place,
    Precision,
    Seed,
)

Preset = Literal["default", "paper"]
Kind = Literal["flow", "mlp"]
OptimizerName = Literal["muon", "adam", "adam8bit"]
TrackerName = Literal["tensorboard"]

CPU_MINUTES, GPU_MINUTES = 10.0, 5.0
"""How long a training takes where neither steps nor minutes are given."""
MINUTES = f"{CPU_MINUTES:g} on a CPU, {GPU_MINUTES:g} on a GPU"
WINDOWS = {"flow": 16, "mlp": 5}
"""Frames that a top model sees at once, by kind."""
BLOCK = 4
"""Frames of a block that a flow makes at once."""
RATE, FLOW_BY_ADAM, PAPER_RATE, FEW_RATE, ROLLED_RATE = 1e-3, 2e-3, 2e-4, 5e-5, 2e-4
"""Learning rates: of default models, a flow without Muon, the paper's models, a student, a G that
learns to decode what a top model makes."""


@dataclass(frozen=True, kw_only=True)
class Training(Computation):
    """What both trainings take.

    Attributes:
        out: The checkpoint.
        steps: Updates in all; this or `--minutes`.
        minutes: Training time in all; the pictures at the end come on top.
        learning_rate: Of Adam; Muon's is in proportion.
        mixed_precision: auto: bf16 on a GPU that has it, and for a flow on a CPU that has it; none
            elsewhere. fp16 needs CUDA.
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
class TrainFrame(ClipLayout, Training):
    """Learn single frames: encoder, generator and discriminator.

    Attributes:
        size: Pixels, `32` or `64x36` (width x height), 8 and more; multiples of 8 cost least for
            what they show. The preset paper needs 16 or multiples of 8 from 24 on.
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
        strides: Frame rates that a flow learns, as steps through its clips: `1,2,4` takes windows
            of all frames, of every second and of every fourth one, equally often, and `generate
            --fps` then knows the clips' rate, half and a quarter of it. A window of 16 frames and
            stride 4 needs clips of 61 frames ([rates](docs/models.md#frame-rates)).
        cuts: auto: no window crosses a cut that encode found ([cuts](docs/data.md#cuts)); off:
            windows may.
        block: Frames that a flow makes at once. 1: a flow for play, in which what it is told of a
            frame acts on that frame; it keeps its past, and each block costs passes of its own
            ([conditions](docs/models.md#conditions)).
        conditions: auto: where the latents come with what is known of each frame, a flow is told
            it, and is told nothing now and then, so that it also works without; off: never.
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
    strides: Annotated[
        str | None, Option("N,N,...", rising, "1, or those of the model of `--init`")
    ] = None
    cuts: Annotated[Cuts | None, Option(usual="auto")] = None
    block: Annotated[
        int | None, Option("N", integer(1, MOST), f"{BLOCK}, fewer where clips are short")
    ] = None
    conditions: Annotated[Literal["auto", "off"] | None, Option(usual="auto")] = None
    few: Annotated[bool | None, Option()] = None
