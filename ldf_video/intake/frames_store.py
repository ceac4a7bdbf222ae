"""The store of small frames that `train-frame` learns from."""

from __future__ import annotations

from pathlib import Path

from ldf_video.errors import LdfError, StoreError
from ldf_video.files.layout import UNSAID, Layout
from ldf_video.intake.ingest import Conversion, ingest, list_sources, open_store
from ldf_video.progress import Progress
from ldf_video.store.format import STORE_JSON, StoreSpec, describe_difference, read_store_json
from ldf_video.store.parts import check_directory
from ldf_video.store.reader import StoreReader
from ldf_video.training.ranks import Ranks
from ldf_video.video.geometry import Geometry


def frames_spec(geometry: Geometry, layout: Layout = UNSAID) -> StoreSpec:
    """What a store of frames (uint8) of a geometry holds."""
    shape = (geometry.height, geometry.width, 3)
    return StoreSpec("frames", shape, "uint8", {**geometry.settings(), **layout.settings()})


def check_frames_store(path: Path, spec: StoreSpec) -> None:
    """See that a store of frames that is there was made as this one would be.

    Raises:
        StoreError: it was not, or something else is there; names the differences and the option.
    """
    check_directory(path, option="--frames-store")
    if not (path / STORE_JSON).exists():
        return
    found, _ = read_store_json(path)
    difference = describe_difference(found, spec)
    if difference:
        raise StoreError(f"{path} was made otherwise, {difference}: name another --frames-store")


def store_frames(
    clips: str | Path,
    path: Path,
    geometry: Geometry,
    progress: Progress,
    ranks: Ranks,
    *,
    workers: int | None = None,
    layout: Layout = UNSAID,
) -> StoreReader:
    """Bring a store of uint8 frames up to date with the clips, all processes together.

    `workers` processes read, chosen by the cores if None.
    """
    spec = frames_spec(geometry, layout)
    ranks.of_first(lambda: check_frames_store(path, spec))
    found = list_sources(clips, ranks, layout=layout)
    with open_store(path, spec, ranks=ranks, retry=True) as writer:  # a fault may have passed
        conversion = Conversion(geometry, workers=workers)
        report = ingest(found, writer, conversion, quiet=progress.quiet, ranks=ranks)
    if ranks.is_first:
        for line in report.lines():
            progress.say(line)
    reader = StoreReader(path)

    def check() -> None:
        if not reader.num_frames:
            raise LdfError(f"no frame could be read from {clips}: {report.first_reason()}")

    ranks.of_first(check)
    return reader
