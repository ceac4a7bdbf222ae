"""The commands as functions. Importing this is cheap: torch is loaded by the first call.

Every function but `info` takes `device` ("auto", "cpu", "cuda" or "mps") and `quiet`. All raise
`ldf_video.errors.LdfError`, whose message says what was got, what was expected and what to do.
Paths may be strings, with `~` for the home directory. Options left at None have the command line's
defaults; values that mean nothing raise `UsageError` before anything is made. `output` and `frames`
are taken for `out` and `num_frames`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ldf_video.options import (
    Crop,
    Device,
    Engine,
    Kind,
    Optimizer,
    Precision,
    Preset,
    Reader,
    TrackerName,
    checked,
)

if TYPE_CHECKING:
    from ldf_video.evaluation.report import Evaluated
    from ldf_video.recipes.encode import Encoded
    from ldf_video.recipes.generate import Generated
    from ldf_video.recipes.reconstruct import Reconstructed


@checked
def train_frame(
    clips: str | Path,
    *,
    out: str | Path = "checkpoints/frame",
    size: str | int | None = None,
    preset: Preset | None = None,
    width: int | None = None,
    latent_noise: float | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    optimizer: Optimizer | None = None,
    mixed_precision: Precision | None = None,
    gradient_checkpointing: bool | None = None,
    accumulate: int | None = None,
    fps: str | float | None = None,
    crop: Crop | None = None,
    seed: int | None = None,
    resume: bool = True,
    tracker: TrackerName | None = None,
    frames_store: str | Path | None = None,
    init: str | Path | None = None,
    max_memory: str | None = None,
    device: Device = "auto",
    quiet: bool = False,
) -> Path:
    """Train a frame model (encoder, generator, discriminator) on every frame of the clips.

    The clips are read once, streamed, into a store of uint8 frames; training draws random frames
    from that store. The same call again goes on with an unfinished run.

    Args:
        clips: a video or a directory of them; a path, or a URL that fsspec knows, as a string.
        out: directory of the checkpoint.
        size: "32" or "64x36" (width x height) in pixels, 8 and more; 32 by default. The preset
            "paper" wants multiples of 8 from 24 on.
        preset: "default", a grid of latents a frame; "paper", the networks of the paper, a vector.
        width: channels of encoder and generator at half resolution, a multiple of 8; 32 by default.
            Twice as many learn more in an update, which takes up to four times the arithmetic.
        latent_noise: largest standard deviation of the noise on latents that the generator learns
            from, 0.6 by default, which latents of a top model need. Less makes reconstructions
            sharper and latents that are off worse. `init` does not bring it along.
        steps: updates in all; or
        minutes: training time in all; neither means 10 minutes on a CPU, 5 on a GPU.
        batch_size: frames an update, 64 by default, at least 4.
        learning_rate: of Adam, 1e-3 by default, 2e-4 with the preset "paper"; that of Muon is in
            proportion.
        optimizer: "muon", the default but for the preset "paper", is Muon for the hidden layers of
            encoder and generator and Adam for all else; "adam"; or "adam8bit", whose state takes a
            quarter of Adam's.
        mixed_precision: "auto" is bf16 on GPUs that have it, none elsewhere; fp16 needs CUDA.
        gradient_checkpointing: compute inner results twice instead of keeping them.
        accumulate: parts of a batch that are taken one after the other to save memory, 1 by
            default. Batch norm (the preset "paper") and the moment penalty see each part alone.
        fps: frames a second to read, such as "15"; each video's own by default.
        crop: "centre" keeps the largest centred part of the target's shape, "none" squeezes.
        seed: of weights, batches and noise; drawn and printed by default.
        resume: False moves a run that is there aside and starts anew.
        tracker: "tensorboard" writes curves and pictures to `OUT/tensorboard`.
        frames_store: where the frames lie, `OUT/frames` by default.
        init: a directory or a shipped model's name, whose weights the run starts from instead of
            random ones. Its preset and widths are taken over, and without `size` its size.
        max_memory: a budget such as "900MiB" or "2GiB" that the training stays inside: main memory
            of all its processes on a CPU (Linux), what torch reserves on a GPU with CUDA. Parts of
            a batch, `gradient_checkpointing` and then "adam8bit" are picked by measuring a few
            updates, where they are not given.

    Returns:
        The directory of the checkpoint.

    Raises:
        UsageError: an option means nothing, there is nothing at `clips`, or no way of training
            stays inside `max_memory`.
        CheckpointError: the run in `out` was started with other options, or there is no model of
            the name `init`.
    """
    from ldf_video.recipes.train_frame import train_frame as run

    return run(
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
        gradient_checkpointing=gradient_checkpointing,
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


@checked
def encode(
    clips: str | Path,
    *,
    out: str | Path = "latents",
    frame_model: str | Path | None = None,
    fps: str | float | None = None,
    crop: Crop | None = None,
    batch_size: int = 64,
    mixed_precision: Precision = "auto",
    reader: Reader = "auto",
    workers: int | None = None,
    engine: Engine = "local",
    strict: bool = False,
    retry: bool = False,
    overwrite: bool = False,
    verify: bool = False,
    adapt_minutes: float | None = None,
    device: Device = "auto",
    quiet: bool = False,
) -> Encoded:
    """Stream every frame of the clips through the encoder into a store of float16 latents.

    Sources that the store already holds, unchanged, are not read again; a killed call goes on from
    its last commit. What cannot be read is listed and the rest goes on.

    Args:
        clips: as in `train_frame`.
        out: directory of the store.
        frame_model: a directory or a shipped model's name; checkpoints/frame by default, and
            without that the shipped model that brings a sample of the clips back best. Where that
            is under 20 dB, the model is first adapted to the clips in checkpoints/frame.
        fps: frames a second to read; as the frame model was trained by default.
        crop: as in `train_frame`; as the frame model was trained by default.
        batch_size: frames a batch.
        mixed_precision: as in `train_frame`.
        reader: of videos: "auto" and "pyav" are PyAV, "decord" reads what it reads right and PyAV
            the rest.
        workers: processes that read, so that a decoder that crashes or hangs costs its clip alone;
            one a core by default. 0 reads in this process.
        engine: "ray" encodes on a Ray cluster: an actor a GPU or node.
        strict: raise where any source could not be read whole.
        retry: read quarantined sources again though they have not changed.
        overwrite: move a store made by other settings aside instead of raising.
        verify: read every row of the store, compare it with its checksum, say what the store lacks
            of the clips, and encode nothing. With `retry` damaged rows are let go, so that the next
            call makes them anew.
        adapt_minutes: to adapt a model for, where that is needed; 10 on a CPU and 5 on a GPU by
            default, 0 for none.

    Returns:
        The store, what became of each source, and the PSNR of a sample of the frames.

    Raises:
        StoreError: the store was made by other settings, is in use, or the disk is full; with
            `verify`, something is wrong with it.
        LdfError: nothing could be read.
    """
    from ldf_video.recipes.encode import encode as run

    return run(
        clips,
        out=out,
        frame_model=frame_model,
        fps=fps,
        crop=crop,
        batch_size=batch_size,
        mixed_precision=mixed_precision,
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


@checked
def train_top(
    *,
    latents: str | Path = "latents",
    out: str | Path = "checkpoints/top",
    kind: Kind | None = None,
    window: int | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    optimizer: Optimizer | None = None,
    mixed_precision: Precision | None = None,
    seed: int | None = None,
    resume: bool = True,
    tracker: TrackerName | None = None,
    init: str | Path | None = None,
    device: Device = "auto",
    quiet: bool = False,
) -> Path:
    """Train a top model on windows of latents; the videos are not needed any more.

    Args:
        latents: the store that `encode` made.
        out: directory of the checkpoint.
        kind: "flow", a rectified flow that makes videos of any length; "mlp", the paper's fully
            connected GAN, which makes clips of exactly `window` frames.
        window: frames that the model sees at once, 16 (flow) or 5 (mlp) by default, fewer where
            clips are shorter.
        steps: updates in all; or
        minutes: training time in all; neither means 10 minutes on a CPU, 5 on a GPU.
        batch_size: windows an update, 64 by default.
        learning_rate: of Adam, 1e-3 (flow by Muon, whose own is in proportion), 2e-3 (flow by Adam)
            or 2e-4 (mlp) by default.
        optimizer: as in `train_frame`; "muon" by default for a flow, "adam" for an mlp.
        mixed_precision: as in `train_frame`.
        seed: of weights, batches and noise; drawn and printed by default.
        resume: False moves a run that is there aside and starts anew.
        tracker: as in `train_frame`.
        init: a directory or a shipped model's name, whose weights the run starts from. Its kind,
            window and widths are taken over; what latents are standardised by is not.

    Returns:
        The directory of the checkpoint.

    Raises:
        StoreError: there are no latents.
        CheckpointError: the run in `out` was started with other options or other latents, or there
            is no model of the name `init`.
    """
    from ldf_video.recipes.train_top import train_top as run

    return run(
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


@checked
def generate(
    out: str | Path,
    *,
    num_frames: int | None = None,
    num_videos: int = 1,
    seed: int | None = None,
    fps: str | float | None = None,
    upscale: int | None = None,
    start_from: str | Path | None = None,
    top_model: str | Path | None = None,
    frame_model: str | Path | None = None,
    device: Device = "auto",
    quiet: bool = False,
) -> Generated:
    """Generate videos of any length; memory does not grow with it.

    Args:
        out: .mp4, .gif or .png (a sheet); without a suffix a directory with an mp4 a video.
            Several videos in one file stand side by side.
        num_frames: of each video, at least 1; 16 by default, or what a top model of the kind "mlp"
            makes.
        num_videos: at least 1.
        seed: the same gives the same files; drawn and printed by default.
        fps: frames a second of the file; those of the training clips by default.
        upscale: integer factor; the smallest even one that gives 128 pixels by default.
        start_from: a video to go on from.
        top_model: a directory or a shipped model's name; checkpoints/top by default, and without
            that the shipped pacman-32.
        frame_model: a directory or a shipped model's name, where it is not found by itself; it must
            be the one whose latents the top model learned.

    Returns:
        The files and the seed.

    Raises:
        UsageError: an option means nothing, or `out` is the clip to go on from.
        CheckpointError: a model is missing or damaged.
    """
    from ldf_video.recipes.generate import generate as run

    return run(
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


@checked
def reconstruct(
    clips: str | Path,
    *,
    out: str | Path | None = None,
    frame_model: str | Path | None = None,
    upscale: int | None = None,
    device: Device = "auto",
    quiet: bool = False,
) -> Reconstructed:
    """Pass every frame through encoder and generator, and measure how close it comes back.

    Args:
        clips: as in `train_frame`; a directory can only be measured.
        out: .mp4, .gif or .png with the reconstructions; none by default.
        frame_model: as in `encode`.
        upscale: as in `generate`.

    Returns:
        PSNR in dB over all frames together, their number, the file, and which sources could not be
        read whole, with the reasons.

    Raises:
        UsageError: an option means nothing, or `out` is the input.
        ReadError: nothing could be read.
    """
    from ldf_video.recipes.reconstruct import reconstruct as run

    return run(
        clips,
        out=out,
        frame_model=frame_model,
        upscale=upscale,
        device=device,
        quiet=quiet,
    )


@checked
def evaluate(
    real: str | Path,
    *,
    generated: str | Path | None = None,
    top_model: str | Path | None = None,
    frame_model: str | Path | None = None,
    train: str | Path | None = None,
    num_clips: int = 5000,
    size: str | int | None = None,
    judge: str | Path | None = None,
    reference: str | Path | None = None,
    out: str | Path | None = None,
    json_file: str | Path | None = None,
    compare: str | Path | None = None,
    skip: int = 0,
    seed: int | None = None,
    device: Device = "auto",
    quiet: bool = False,
) -> Evaluated:
    """Compare clips of five frames with real ones, by the features of a network that judges.

    What is judged is any of `generated`, `top_model` and `frame_model`; without any, the top model
    that `generate` takes. docs/evaluation.md says what each figure means.

    Args:
        real: clips as in `train_frame`, best such that were not trained on. Half of what is drawn
            of them is the reference, the other half the floor, and what `frame_model` is given.
        generated: clips on disk, likewise.
        top_model: a directory or a shipped model's name: clips that it generates.
        frame_model: likewise: G(E(x)) of real clips that are not the reference's, the same with
            noise of 0.1 of the latents' spread, and frames from the prior N(0, I).
        train: the clips that were trained on, to tell copies by their nearness.
        num_clips: on each side; distances are biased by how many, so compare at equal numbers.
        size: as in `train_frame`, where no model says what clips are brought to; their own by
            default.
        judge: a TorchScript file in place of EfficientNet-Lite0. Loading it runs the code in it.
        reference: an .npz file that keeps the judged reference: written where it is not there, else
            read in place of judging the real clips again.
        out: .png, a sheet of real and judged clips.
        json_file: where all that was found is written as JSON.
        compare: what `json_file` kept of another model against the same real clips: how much
            farther this one's clips are, with the interval of the paired difference.
        skip: frames to leave out at the beginning of each video of `generated` and `top_model`.
        seed: of the clips that are drawn and generated; drawn and printed by default.

    Returns:
        The figures of each set, by name.

    Raises:
        UsageError: an option means nothing, or an output is an input.
        ReadError: nothing could be read.
        OutputError: a file cannot be written; what was found is its `result`.
        LdfError: the judge is not installed, there are too few clips, or the reference is of other
            clips or of another judge.
    """
    from ldf_video.recipes.evaluate import evaluate as run

    return run(
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


@checked
def info(path: str | Path) -> dict[str, Any]:
    """Say what a video, a store, a checkpoint or a shipped model is; its "summary" comes first.

    Raises:
        UsageError: it is none of these.
        ReadError: it looks like a video and cannot be read.
    """
    from ldf_video.recipes.info import info as run

    return run(path)
