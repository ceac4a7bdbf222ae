"""encode on a Ray cluster: an actor a GPU, or a node, each the writer of its part of the store.

Groups of sources go to whichever actor is free. Ray restarts lost actors and repeats their work. An
actor commits before it answers, so what is answered is never lost, and repeated work goes on where
its part stands. Of a group that kills its actor each time the sources go one by one, and the one
that does it is put in quarantine.
"""

from __future__ import annotations

import importlib.util
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from ldf_video.errors import LdfError, UsageError
from ldf_video.intake.frame_encoder import EncodeJob, Fit, FrameEncoder, pooled_psnr_db
from ldf_video.intake.ingest import ingest_sources, lines_on_opening
from ldf_video.intake.known import claim
from ldf_video.intake.report import Report, merge_reports
from ldf_video.progress import Progress
from ldf_video.sources.search import Found
from ldf_video.sources.source import Source
from ldf_video.store.parts import NOBODY, known_owners
from ldf_video.store.writer import StoreWriter

GROUPS_AN_ACTOR = 8
"""Into how many groups an actor's share of the sources falls: the last ones are spread evenly."""
MAX_RETRIES = 2
"""Of what an actor died of: a node may be lost, but not again and again at the same work."""
MAX_RESTARTS = 24
"""Of an actor, after which something else than single sources is wrong."""


class EncodeActor:
    """One process of the cluster: its frame model, and the writer of the part of its index."""

    def __init__(self, job: EncodeJob, index: int, count: int) -> None:
        # No more here: of what a constructor raises Ray passes on a text.
        self._job, self._index, self._count = job, index, count
        self._opened: tuple[FrameEncoder, StoreWriter] | None = None

    def encode(self, sources: Sequence[Source]) -> Report:
        job = self._job
        encoder, writer = self._open()
        with Progress("encode", unit="frames", quiet=True) as progress:
            report = ingest_sources(sources, writer, job.conversion(encoder), progress)
        writer.commit()
        return report

    def give_up(self, source: Source) -> Report:
        """Put a source in quarantine that kills actors."""
        _, writer = self._open()
        reason = f"it killed its process {1 + MAX_RETRIES} times: see Ray's logs"
        writer.quarantine(source.name, size=source.size, mtime_ns=source.mtime_ns, reason=reason)
        writer.commit()
        return Report(num_sources=1, quarantined=[(source.name, reason)])

    def end(self, present: Sequence[str] | None) -> Fit:
        """Forget sources that are gone, none if `present` is None, and close the part."""
        encoder, writer = self._open()
        if present is not None:
            writer.forget_missing(present)
        writer.close()
        return encoder.fit()

    def begin(self) -> None:
        """Load the model and open the part: only then may another actor look for it."""
        self._open()

    def _open(self) -> tuple[FrameEncoder, StoreWriter]:
        """The frame model and the part, also after Ray has restarted this actor."""
        if self._opened is None:
            job = self._job
            encoder = job.make_encoder()
            writer = StoreWriter(
                job.out,
                job.spec,
                info=job.info(),
                retry=job.options.retry,
                rank=self._index,
                num_ranks=self._count,
            )
            self._opened = encoder, writer
        return self._opened


def check_ray() -> None:
    """See that Ray is there.

    Raises:
        UsageError: it is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise UsageError(
            "--engine ray: the package ray is not installed; pip install 'ldf-video[ray]'"
        )


def encode_on_ray(
    job: EncodeJob,
    found: Found,
    progress: Progress,
    *,
    num_actors: int | None = None,
) -> tuple[Report, float | None]:
    """Encode with the actors of a cluster: the one that RAY_ADDRESS names, else of this machine.

    Args:
        job: what to do; its store is a folder that all nodes share.
        found: all that there is, found alike on all nodes.
        progress: updated with each group that is done.
        num_actors: an actor a GPU or node by default.

    Returns:
        What became of the sources, and the PSNR of a sample in dB.

    Raises:
        UsageError: Ray is not installed.
        LdfError: an actor failed for a reason that a restart does not mend.
    """
    check_ray()
    import ray
    from ray.exceptions import RayError, RayTaskError

    job = replace(job, out=job.out.absolute(), frame_model=job.frame_model.absolute())
    started_here = not ray.is_initialized()
    if started_here:
        ray.init(log_to_driver=False, configure_logging=False, include_dashboard=False)
    try:
        return _encode(job, found, progress, num_actors=num_actors)
    except RayTaskError as error:
        if isinstance(error.cause, LdfError | MemoryError | RuntimeError):
            raise error.cause from None
        raise
    except RayError as error:
        raise LdfError(_line_of(error)) from error
    finally:
        if started_here:
            ray.shutdown()


def _encode(
    job: EncodeJob, found: Found, progress: Progress, *, num_actors: int | None
) -> tuple[Report, float | None]:
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    num_gpus = int(sum(node.get("GPU", 0) for node in nodes)) if job.device == "cuda" else 0
    if job.device == "cuda" and not num_gpus:
        raise UsageError("--engine ray --device cuda: the cluster has no GPU; use --device cpu")
    count = num_actors or num_gpus or len(nodes)
    cores = min(node.get("CPU", 1) for node in nodes) * len(nodes) / count
    if job.options.workers is None:
        job = replace(job, options=replace(job.options, workers=max(1, int(cores))))

    sources = found.sources
    names = [source.name for source in sources]
    with StoreWriter(
        job.out, job.spec, info=job.info(), overwrite=job.options.overwrite, num_ranks=count
    ) as writer:
        for line in lines_on_opening(writer):
            progress.say(f"encode: {line}")
        missing = claim(job.out, sources)
        owners = known_owners(job.out, names, num_ranks=count)
    own: list[list[Source]] = [[] for _ in range(count)]  # what each actor's part knows already
    shared: list[Source] = []
    for source, owner in zip(sources, owners, strict=True):
        (shared if owner == NOBODY else own[owner]).append(source)

    remote = ray.remote(EncodeActor).options(
        num_cpus=float(int(cores)) or cores,  # a share of one where there are more actors
        num_gpus=1 if num_gpus else 0,
        scheduling_strategy="SPREAD",
        max_restarts=MAX_RESTARTS,
        max_task_retries=MAX_RETRIES,
    )
    actors = [remote.remote(job, index, count) for index in range(count)]
    ray.get([actor.begin.remote() for actor in actors])
    reports: list[Report] = []
    for report in _reports(actors, own, shared):
        reports.append(report)
        num_done = sum(report.num_sources for report in reports)
        num_frames = sum(report.num_frames for report in reports)
        progress.update(num_frames, share=num_done / max(len(sources), 1))
    present = None if missing.is_kept else names
    fits = ray.get([actor.end.remote(present) for actor in actors])
    merged = merge_reports(reports)
    merged.add_search(found, missing.lost(job.out), kept=missing.is_kept)
    return merged, pooled_psnr_db(fits)


def _reports(
    actors: Sequence[Any], own: Sequence[list[Source]], shared: Sequence[Source]
) -> Iterator[Report]:
    """What became of each group as it is done; an actor encodes what is in its part first."""
    import ray
    from ray.exceptions import RayActorError

    own_groups = [deque([group] if group else []) for group in own]
    shared_groups = deque(_groups(shared, len(actors)))
    running: dict[Any, tuple[int, list[Source]]] = {}
    idle = set(range(len(actors)))
    while True:
        for index in sorted(idle):
            if groups := own_groups[index] or shared_groups:
                group = groups.popleft()
                running[actors[index].encode.remote(group)] = index, group
                idle.remove(index)
        if not running:
            return
        done, _ = ray.wait(list(running), num_returns=1)
        index, group = running.pop(done[0])
        idle.add(index)
        try:
            yield ray.get(done[0])
        except RayActorError:
            # Until the actor is there again; fails, too, where it is lost for good.
            ray.get(actors[index].begin.options(max_task_retries=-1).remote())
            if len(group) == 1:
                yield ray.get(actors[index].give_up.remote(group[0]))
            else:
                own_groups[index].extend([source] for source in group)


def _groups(sources: Sequence[Source], num_actors: int) -> Iterator[list[Source]]:
    """Groups of about equal bytes, the largest sources first and alone."""
    total = sum(max(source.size, 0) for source in sources)
    enough = total / (num_actors * GROUPS_AN_ACTOR)
    group: list[Source] = []
    num_bytes = 0
    for source in sorted(sources, key=lambda source: source.size, reverse=True):
        group.append(source)
        num_bytes += max(source.size, 0)
        if num_bytes >= enough:
            yield group
            group, num_bytes = [], 0
    if group:
        yield group


def _line_of(error: Exception) -> str:
    """One line of what Ray says of an actor that died; of a constructor's LdfError its own."""
    lines = str(error).strip().splitlines()
    name, _, said = lines[-1].partition(": ")
    if name.startswith("ldf_video.errors."):
        return said
    return f"--engine ray: {lines[0]}: see Ray's logs; the same command goes on"
