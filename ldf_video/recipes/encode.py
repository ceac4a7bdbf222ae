"""encode: clips -> a store of latents."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ldf_video.clips.read import check_reader
from ldf_video.errors import LdfError, counted
from ldf_video.files.layout import layout_of
from ldf_video.intake.frame_encoder import EncodeJob, plan_job, pooled_psnr_db, threads_kept
from ldf_video.intake.ingest import ALONE, ingest, lines_on_opening, list_sources, open_store
from ldf_video.intake.known import check_place, verify_clips
from ldf_video.intake.report import Report
from ldf_video.options.option import flag
from ldf_video.options.reading import Encode
from ldf_video.progress import Progress
from ldf_video.recipes.adaptation import POOR_FIT_DB, Asked, own_or_adapted, own_rates
from ldf_video.runs.command import (
    check_folders,
    choose_device,
    choose_precision,
    out_of_memory,
    own_state,
)
from ldf_video.runs.zoo import find_model, layout_of_model, named
from ldf_video.sources.search import Found
from ldf_video.sources.source import Source
from ldf_video.store.parts import check_directory
from ldf_video.store.reader import StoreReader
from ldf_video.training.ranks import Ranks, check_alone, join_ranks


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
def encode(options: Encode) -> Encoded:
    """Encode every readable clip into a store of latents; see `ldf_video.api.encode`."""
    clips, out, frame_model = options.clips, Path(options.out), options.frame_model
    check_reader(options.reader)
    if options.engine == "ray":
        from ldf_video.intake.ray_engine import check_ray

        check_alone("encode --engine ray")
        check_ray()
    if options.verify:
        return _verify(options, out)
    device = choose_device(options.device)
    choose_precision(options.mixed_precision, device=device)  # before hours of adapting
    ranks = join_ranks(device)
    quiet = options.quiet or not ranks.is_first
    options = _as_learned(options, quiet=quiet)
    found = list_sources(clips, ranks, layout=layout_of(options))
    place = [("--out", out)]
    ranks.of_first(lambda: check_folders(place, inputs=[clips]))
    ranks.of_first(lambda: check_directory(out))  # before hours of adapting
    if not options.overwrite:
        ranks.of_first(lambda: check_place(out, found.sources))
    with Progress("encode", unit="frames", quiet=quiet) as progress:
        if frame_model is None:
            asked = Asked(options, found.sources, device)
            directory = own_or_adapted(asked, ranks, say=progress.say)
        else:
            directory, _ = ranks.of_first(lambda: find_model(frame_model, "frame"))
    ranks.of_first(lambda: check_folders(place, inputs=[directory]))
    is_new = ranks.of_first(lambda: not out.exists())
    job = plan_job(options, directory, device=device)
    with Progress("encode", unit="frames", quiet=quiet) as progress:
        progress.say(job.announce(found.sources))
        if (
            options.fps is None
            and not options.quiet
            and (said := ranks.of_first(lambda: _rates(job, found.sources)))
        ):
            progress.say(said)
        if mixing := ranks.of_first(job.mixing):
            progress.say(mixing)
        if options.engine == "ray":
            from ldf_video.intake.ray_engine import encode_on_ray

            report, fit_db = encode_on_ray(job, found, progress)
        else:
            report, fit_db = _encode_here(job, found, progress, ranks)
        store = StoreReader(job.out)
        _report_whole_store(report, store, found)
        # A clip that was begun has rows, to go on behind.
        is_empty = ranks.of_first(lambda: is_new and not any(job.out.rglob("data-*.npy")))
        for line in report.lines(listed=not is_empty):
            progress.say(line)
        if fit_db is not None:
            progress.say(_fit(fit_db, job.frame_model))
    if is_empty:  # and all have looked at it
        ranks.of_first(lambda: shutil.rmtree(job.out, ignore_errors=True))
    ranks.of_first(lambda: _check_outcome(clips, report, store, strict=options.strict))
    return Encoded(job.out, report, fit_db)


def _as_learned(options: Encode, *, quiet: bool) -> Encode:
    """The options with the layout of the clips that the frame model learned, where none is given.

    As with --fps and --crop, and said, because it decides which frames are read.
    """
    learned = layout_of_model(options.frame_model, "frame").settings()
    learned = {name: said for name, said in learned.items() if getattr(options, name) is None}
    if learned:
        listed = " ".join(f"{flag(name)} {said}" for name, said in learned.items())
        with Progress("encode", unit="frames", quiet=quiet) as progress:
            progress.say(f"encode: clips are read as those of the frame model: {listed}")
    return replace(options, **learned)


def _rates(job: EncodeJob, sources: Sequence[Source]) -> str:
    """That some clips are read at another rate than they have, if they are."""
    rate = job.geometry.fps
    others = [own for own in own_rates(sources) if own != rate] if rate is not None else []
    if rate is None or not others:
        return ""
    listed = ", ".join(f"{float(own):.4g}" for own in others)
    model = named(job.frame_model)
    return (
        f"encode: {float(rate):.4g} frames a second are read, as {model} was trained, of "
        f"clips that have {listed}: --fps {others[-1]} takes as many"
    )


def _fit(fit_db: float, frame_model: Path) -> str:
    if fit_db >= POOR_FIT_DB:
        return f"encode: frames come back from {named(frame_model)} at {fit_db:.1f} dB"
    return (
        f"encode: warning: the frame model reaches {fit_db:.1f} dB on these clips: "
        "run ldf-video train-frame on them, or for longer"
    )


def _verify(options: Encode, out: Path) -> Encoded:
    """Look at the store that is there, and encode nothing."""
    check_alone("encode --verify")
    with Progress("verify", unit="clips", quiet=options.quiet) as progress:
        layout = layout_of(_as_learned(options, quiet=True))
        found = list_sources(options.clips, ALONE, layout=layout)
        report = verify_clips(out, found.sources, progress, drop=options.retry)
        return Encoded(out, report, None)


def _encode_here(
    job: EncodeJob, found: Found, progress: Progress, ranks: Ranks
) -> tuple[Report, float | None]:
    """Encode in this process, which may be one of several that were launched together."""
    encoder = job.make_encoder()
    with open_store(
        job.out,
        job.spec,
        ranks=ranks,
        info=job.info(),
        overwrite=job.options.overwrite,
        retry=job.options.retry,
    ) as writer:
        for line in lines_on_opening(writer):
            progress.say(f"encode: {line}")
        with threads_kept():
            report = ingest(
                found,
                writer,
                job.conversion(encoder),
                name="encode",
                quiet=progress.quiet,
                ranks=ranks,
            )
    return report, pooled_psnr_db(ranks.gather(encoder.fit()))


def _report_whole_store(report: Report, store: StoreReader, found: Found) -> None:
    """List also what an earlier call put there, and this one had no reason to read again."""
    titles = {source.name: source.title for source in found.sources}
    report.quarantined = [
        (titles.get(bad.source, bad.source), bad.reason) for bad in store.quarantined()
    ]
    reasons = dict(report.salvaged)
    salvaged = [titles.get(name, name) for name in store.salvaged()]
    report.salvaged = [
        (title, reasons.get(title, "cut short when it was read")) for title in salvaged
    ]


def _check_outcome(clips: str | Path, report: Report, store: StoreReader, *, strict: bool) -> None:
    if not store.num_clips:
        raise LdfError(f"nothing under {clips} could be read: {report.first_reason()}")
    missed = len({name for name, _ in report.quarantined + report.salvaged})
    if strict and missed:
        raise LdfError(
            f"--strict: {missed:,} of {counted(report.num_sources, 'source')} not read whole"
        )
