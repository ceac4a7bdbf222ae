"""Sources on their way into a store: copies, what is gone on with, and what is read again."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from clip_files import LOSSLESS, barcode, read_barcode, write_clip
from tiny_models import write_array

from ldf_video.pipelines import intake
from ldf_video.pipelines.batches import Plain
from ldf_video.pipelines.intake import OVERLAP, take_in
from ldf_video.pipelines.report import Report
from ldf_video.progress import Progress
from ldf_video.store.format import StoreSpec
from ldf_video.store.reader import StoreReader
from ldf_video.store.writer import StoreWriter
from ldf_video.video.geometry import Geometry
from ldf_video.video.sources import find_sources, source_digest

if TYPE_CHECKING:
    from pathlib import Path

GEOMETRY = Geometry(32, 32)
SPEC = StoreSpec("frames", (32, 32, 3), "uint8", GEOMETRY.settings())


def bring(root: Path, *, workers: int = 0, **options: Any) -> Report:
    sources = find_sources(root / "clips")
    with (
        StoreWriter(root / "store", SPEC, **options) as writer,
        Progress("read", unit="frames", quiet=True) as progress,
    ):
        return take_in(
            sources,
            writer,
            GEOMETRY,
            transform=Plain(lambda frames, num_real: frames),
            batch_size=8,
            progress=progress,
            workers=workers,
        )


def frames_of(root: Path, name: str) -> np.ndarray:
    reader = StoreReader(root / "store")
    (clip_id,) = [source.clip_id for source in reader.sources() if source.source == name]
    clip = reader.index(clip_id)
    return reader.read(clip, 0, int(reader.lengths[clip]))


def long_video(root: Path, num_frames: int = 600) -> np.ndarray:
    """A video with a key frame every 50 frames; each frame shows its number modulo 256."""
    (root / "clips").mkdir()
    frames = np.stack([barcode(k % 256, height=32, width=32) for k in range(num_frames)])
    write_clip(root / "clips" / "long.mp4", frames, codec_options={"g": "50", "qp": "0"})
    return frames


def commit(root: Path, frames: np.ndarray) -> None:
    """What a killed run had committed of the one clip there is."""
    (source,) = find_sources(root / "clips")
    with StoreWriter(root / "store", SPEC) as writer:
        writer.append(source_digest(source), frames, fps=Fraction(25))


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    """The first frame of each clip that is begun, and whether it was sought."""
    seen: list[tuple[int, bool]] = []
    kept = intake._Intake._begin_clip

    def note(self: Any, event: Any) -> None:
        seen.append((event.first_frame, event.sought))
        kept(self, event)

    monkeypatch.setattr(intake._Intake, "_begin_clip", note)
    return seen


@pytest.mark.parametrize("workers", [0, 1])
def test_a_long_clip_goes_on_from_the_key_frame_before(
    tmp_path: Path, begun: list[tuple[int, bool]], workers: int
) -> None:
    long_video(tmp_path)
    bring(tmp_path)
    whole = frames_of(tmp_path, "long.mp4")
    assert [read_barcode(frame) for frame in whole] == [k % 256 for k in range(600)]
    (tmp_path / "store").rename(tmp_path / "straight")
    begun.clear()

    commit(tmp_path, whole[:421])
    report = bring(tmp_path, workers=workers)

    assert begun == [(421 - OVERLAP, True)]
    assert report == Report(num_sources=1, num_frames=600 - 421)
    assert frames_of(tmp_path, "long.mp4").tobytes() == whole.tobytes()


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("held", [421, 599])
def test_where_a_seek_gives_other_rows_the_clip_is_read_from_its_beginning(
    tmp_path: Path, begun: list[tuple[int, bool]], workers: int, held: int
) -> None:
    long_video(tmp_path)
    bring(tmp_path)
    whole = frames_of(tmp_path, "long.mp4")
    (tmp_path / "store").rename(tmp_path / "straight")
    begun.clear()
    other = whole[:held].copy()
    other[-1] ^= 1  # as another machine may have made it

    commit(tmp_path, other)
    report = bring(tmp_path, workers=workers)

    assert begun == [(held - OVERLAP, True), (held - OVERLAP, False)]
    assert report == Report(num_sources=1, num_frames=600 - held)
    assert frames_of(tmp_path, "long.mp4").tobytes() == other.tobytes() + whole[held:].tobytes()


def test_what_is_on_its_way_is_not_read_twice(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_array(tmp_path / "clips" / f"{name}.npy", 40)
    report = bring(tmp_path, workers=3)
    assert report == Report(num_sources=3, num_frames=40)
    assert StoreReader(tmp_path / "store").num_clips == 1
    assert bring(tmp_path) == Report(num_sources=3, num_unchanged=3)


def test_copies_of_what_cannot_be_read_are_put_aside_with_it(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        (tmp_path / "clips" / name).write_text("no video")
    for workers in (0, 3):
        report = bring(tmp_path, workers=workers, retry=True)
        names = sorted(name for name, _ in report.quarantined)
        assert names == ["a.mp4", "b.mp4", "c.mp4"]
        assert len({reason for _, reason in report.quarantined}) == 1
        assert len(StoreReader(tmp_path / "store").quarantined()) == 3
        assert bring(tmp_path) == Report(num_sources=3, num_unchanged=3)


def test_many_clips_by_several_readers_come_whole(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    for n in range(12):
        numbers = range(20 * n, 20 * n + 5 + n)
        images = [barcode(k, height=32, width=32) for k in numbers]
        write_clip(tmp_path / "clips" / f"{n}.mkv", images, **LOSSLESS)
    report = bring(tmp_path, workers=3)
    assert report == Report(num_sources=12, num_frames=sum(5 + n for n in range(12)))
    for n in range(12):
        frames = frames_of(tmp_path, f"{n}.mkv")
        assert [read_barcode(frame) for frame in frames] == list(range(20 * n, 20 * n + 5 + n))


def test_which_part_has_begun_a_source_is_known_before_it_is_whole(tmp_path: Path) -> None:
    long_video(tmp_path)
    with StoreWriter(tmp_path / "store", SPEC):  # the first of them makes it
        pass

    class Stopped(BaseException):
        """Stands for a Ctrl-C in the middle."""

    def stop(frames: np.ndarray, num_real: int) -> np.ndarray:
        raise Stopped

    with (
        pytest.raises(Stopped),
        StoreWriter(tmp_path / "store", SPEC, rank=1, num_ranks=2) as writer,
        Progress("read", unit="frames", quiet=True) as progress,
    ):
        take_in(
            find_sources(tmp_path / "clips"),
            writer,
            GEOMETRY,
            transform=Plain(stop),
            batch_size=8,
            progress=progress,
            workers=0,
        )
    with StoreWriter(tmp_path / "store", SPEC, num_ranks=2) as writer:
        assert writer.owners(["long.mp4", "new.mp4"], [1, 1]) == [1, 0]
