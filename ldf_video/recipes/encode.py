"""encode: clips -> a store of latents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ldf_video.errors import LdfError, UsageError
from ldf_video.intake.claim import check_place
from ldf_video.intake.encode_job import EncodeJob, plan_job
from ldf_video.intake.frame_encoder import pooled_psnr_db, threads_kept
from ldf_video.intake.ingest import ALONE, ingest, lines_on_opening, list_sources, open_store
from ldf_video.intake.report import Report
from ldf_video.intake.verify import verify_clips
from ldf_video.progress import Progress
from ldf_video.recipes.adaptation import (
    POOR_FIT_DB,
    Asked,
    check_minutes,
    own_or_adapted,
    own_rates,
)
from ldf_video.runs.devices import choose_device, choose_precision, out_of_memory
from ldf_video.runs.outputs import check_folders
from ldf_video.runs.own_state import own_state
from ldf_video.runs.zoo import find_model
from ldf_video.store.parts import check_directory
from ldf_video.store.reader import StoreReader
from ldf_video.training.ranks import Ranks, check_alone, join_ranks
from ldf_video.video.read import Reader, check_reader
from ldf_video.video.sources import Found, Source

Engine = Literal["local", "ray"]


@dataclass(frozen=True)
class Encoded:
    """What an encode did.

    Attributes:
        store: the directory of the latents.
        report: what became of each source.
        psnr_db: of a sample of the frames just read against G(E(x)), None where none was read.
    """

    store: Path
    report: Report
    psnr_db: float | None


@own_state()
@out_of_memory("a smaller --batch-size")
def encode(
    clips: str | Path,
    *,
    out: str | Path = "latents",
    frame_model: str | Path | None = None,
    fps: str | float | None = None,
    crop: str | None = None,
    batch_size: int = 64,
    mixed_precision: str = "auto",
    reader: Reader = "auto",
    workers: int | None = None,
    engine: Engine = "local",
    strict: bool = False,
    retry: bool = False,
    overwrite: bool = False,
    verify: bool = False,
    adapt_minutes: float | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> Encoded:
    """Encode every readable clip into a store of latents; see `ldf_video.api.encode`."""
    _check_options(reader, workers, engine)
    check_minutes(adapt_minutes, frame_model=frame_model)
    if verify:
        return _verify(clips, Path(out), retry=retry, quiet=quiet)
    device = choose_device(device)
    choose_precision(mixed_precision, device=device)  # before hours of adapting
    ranks = join_ranks(device)
    found = list_sources(clips, ranks)
    place = [("--out", Path(out))]
    ranks.of_first(lambda: check_folders(place, inputs=[clips]))
    ranks.of_first(lambda: check_directory(Path(out)))  # before hours of adapting
    if not overwrite:
        ranks.of_first(lambda: check_place(Path(out), found.sources))
    with Progress("encode", unit="frames", quiet=quiet or not ranks.is_first) as progress:
        if frame_model is None:
            read = {k: v for k, v in (("fps", fps), ("crop", crop)) if v is not None}
            asked = Asked(clips, found.sources, Path(out), overwrite, adapt_minutes, read, device)
            directory = own_or_adapted(asked, ranks, say=progress.say, quiet=quiet)
        else:
            directory, _ = ranks.of_first(lambda: find_model(frame_model, "frame"))
    ranks.of_first(lambda: check_folders(place, inputs=[directory]))
    job = plan_job(
        directory,
        out=Path(out),
        fps=fps,
        crop=crop,
        device=device,
        mixed_precision=mixed_precision,
        batch_size=batch_size,
        reader=reader,
        workers=workers,
        retry=retry,
    )
    with Progress("encode", unit="frames", quiet=quiet or not ranks.is_first) as progress:
        progress.say(job.announce(found.sources))
        if (
            fps is None
            and not quiet
            and (said := ranks.of_first(lambda: _rates(job, found.sources)))
        ):
            progress.say(said)
        if mixing := ranks.of_first(job.mixing):
            progress.say(mixing)
        if engine == "ray":
            from ldf_video.intake.ray_engine import encode_on_ray

            report, fit_db = encode_on_ray(job, found, progress, overwrite=overwrite)
        else:
            report, fit_db = _encode_here(job, found, progress, ranks, overwrite=overwrite)
        store = StoreReader(job.out)
        _report_whole_store(report, store)
        for line in report.lines():
            progress.say(line)
        if fit_db is not None:
            progress.say(_fit(fit_db, job.frame_model))
    ranks.of_first(lambda: _check_outcome(clips, report, store, strict=strict))
    return Encoded(job.out, report, fit_db)


def _rates(job: EncodeJob, sources: Sequence[Source]) -> str:
    """That some clips are read at another rate than they have, if they are."""
    rate = job.geometry.fps
    others = [own for own in own_rates(sources) if own != rate] if rate is not None else []
    if rate is None or not others:
        return ""
    listed = ", ".join(f"{float(own):.4g}" for own in others)
    return (
        f"encode: {float(rate):.4g} frames a second are read, as {job.frame_model} was trained, of "
        f"clips that have {listed}: --fps {others[-1]} takes as many"
    )


def _fit(fit_db: float, frame_model: Path) -> str:
    if fit_db >= POOR_FIT_DB:
        return f"encode: frames come back from {frame_model} at {fit_db:.1f} dB"
    return (
        f"encode: warning: the frame model reaches {fit_db:.1f} dB on these clips: "
        "run ldf-video train-frame on them, or for longer"
    )


def _verify(clips: str | Path, out: Path, *, retry: bool, quiet: bool) -> Encoded:
    """Look at the store that is there, and encode nothing."""
    check_alone("encode --verify")
    with Progress("verify", unit="clips", quiet=quiet) as progress:
        found = list_sources(clips, ALONE)
        return Encoded(out, verify_clips(out, found.sources, progress, drop=retry), None)


def _check_options(reader: str, workers: int | None, engine: str) -> None:
    check_reader(reader)
    if workers is not None and workers < 0:
        raise UsageError(f"--workers {workers}: expected 0 or more")
    if engine not in ("local", "ray"):
        raise UsageError(f"--engine {engine}: expected local or ray")
    if engine == "ray":
        from ldf_video.intake.ray_engine import check_ray

        check_alone("encode --engine ray")
        check_ray()


def _encode_here(
    job: EncodeJob, found: Found, progress: Progress, ranks: Ranks, *, overwrite: bool
) -> tuple[Report, float | None]:
    """Encode in this process, which may be one of several that were launched together."""
    encoder = job.make_encoder()
    with open_store(
        job.out,
        job.spec,
        ranks=ranks,
        info=job.info(),
        overwrite=overwrite,
        retry=job.retry,
    ) as writer:
        for line in lines_on_opening(writer):
            progress.say(f"encode: {line}")
        with threads_kept():
            report = ingest(
                found,
                writer,
                job.geometry,
                transform=encoder,
                batch_size=job.batch_size,
                name="encode",
                quiet=progress.quiet,
                ranks=ranks,
                reader=job.reader,
                workers=job.workers,
            )
    return report, pooled_psnr_db(ranks.gather(encoder.fit()))


def _report_whole_store(report: Report, store: StoreReader) -> None:
    """List also what an earlier call put there, and this one had no reason to read again."""
    report.quarantined = [(bad.source, bad.reason) for bad in store.quarantined()]
    reasons = dict(report.salvaged)
    report.salvaged = [
        (name, reasons.get(name, "cut short when it was read")) for name in store.salvaged()
    ]


def _check_outcome(clips: str | Path, report: Report, store: StoreReader, *, strict: bool) -> None:
    if not store.num_clips:
        raise LdfError(f"nothing under {clips} could be read: {report.first_reason()}")
    missed = len(report.quarantined) + len(report.salvaged)
    if strict and missed:
        raise LdfError(
            f"--strict: {missed:,} of {report.num_sources:,} sources were not read whole"
        )
