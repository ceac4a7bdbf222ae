"""Sources on their way into a store: copies, what is gone on with, and what is read again."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from clip_files import LOSSLESS, barcode, read_barcode, write_clip
from tiny_models import make_frames, write_array

from ldf_video.intake import intake
from ldf_video.intake.batches import Plain
from ldf_video.intake.intake import take_in
from ldf_video.intake.report import Report
from ldf_video.progress import Progress
from ldf_video.readers.events import (
    ClipBegun,
    ClipEnded,
    Event,
    FramesRead,
    SourceEnded,
    SourceFailed,
)
from ldf_video.store.format import StoreSpec
from ldf_video.store.reader import StoreReader
from ldf_video.store.writer import StoreWriter
from ldf_video.video import arrays
from ldf_video.video.geometry import Geometry
from ldf_video.video.sources import Source, find_sources, source_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ldf_video.readers.events import Plan

GEOMETRY = Geometry(32, 32)
SPEC = StoreSpec("frames", (32, 32, 3), "uint8", GEOMETRY.settings())


def bring(root: Path, *, workers: int = 0, batch_size: int = 8, **options: Any) -> Report:
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
            batch_size=batch_size,
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
def begun(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The first frame of each clip that is begun."""
    seen: list[int] = []
    kept = intake._Intake._begin_clip

    def note(self: Any, event: Any) -> None:
        seen.append(event.first_frame)
        kept(self, event)

    monkeypatch.setattr(intake._Intake, "_begin_clip", note)
    return seen


@pytest.mark.parametrize("workers", [0, 1])
def test_a_long_clip_goes_on_behind_its_last_committed_row(
    tmp_path: Path, begun: list[int], workers: int
) -> None:
    long_video(tmp_path)
    bring(tmp_path)
    whole = frames_of(tmp_path, "long.mp4")
    assert [read_barcode(frame) for frame in whole] == [k % 256 for k in range(600)]
    (tmp_path / "store").rename(tmp_path / "straight")
    begun.clear()

    commit(tmp_path, whole[:421])
    report = bring(tmp_path, workers=workers)

    assert begun == [421]
    assert report == Report(num_sources=1, num_frames=600 - 421)
    assert frames_of(tmp_path, "long.mp4").tobytes() == whole.tobytes()


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


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_is_replaced_behind_its_hash_is_not_taken_for_what_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    path = write_array(tmp_path / "clips" / "a.npy", 40)
    before = path.read_bytes()
    kept = intake._Intake._plan

    def replace(self: Any, *what: Any) -> list[int]:
        write_array(tmp_path / "new.npy", 40, seed=7)
        (tmp_path / "new.npy").replace(path)
        return kept(self, *what)

    with monkeypatch.context() as patch:
        patch.setattr(intake._Intake, "_plan", replace)
        ((name, reason),) = bring(tmp_path, workers=workers).quarantined
    assert name == "a.npy"
    assert reason == "changed while it was read; run again when it is complete"

    (tmp_path / "clips" / "b.npy").write_bytes(before)
    assert bring(tmp_path, workers=workers) == Report(num_sources=2, num_frames=80)
    assert np.array_equal(frames_of(tmp_path, "a.npy"), make_frames(40, seed=7))
    assert np.array_equal(frames_of(tmp_path, "b.npy"), make_frames(40))


DIGEST = "0" * 64


class FakePool:
    """Two copies of one clip of 20 frames; what comes of the first is what `first` yields."""

    frames = np.stack([barcode(k, height=32, width=32) for k in range(20)])

    def __init__(self, first: Callable[[FakePool, Source], Iterator[Event]]) -> None:
        self._first = first

    def __call__(self, *_: Any, **__: Any) -> FakePool:
        return self

    def __enter__(self) -> FakePool:
        return self

    def __exit__(self, *_: object) -> None: ...

    def read(self, sources: list[Source], plan: Plan) -> Iterator[Event]:
        self._plan = plan
        first, self._first = self._first, FakePool.whole
        for number, source in enumerate(sources):
            yield from self.whole(source) if number else first(self, source)

    def begin(self, source: Source) -> ClipBegun:
        (self.wanted,) = self._plan(source, DIGEST, None)
        return ClipBegun(source, DIGEST, None, Fraction(25), self.wanted, "")

    def whole(self, source: Source) -> Iterator[Event]:
        begun = self.begin(source)
        if self.wanted >= 0:
            yield begun
            yield FramesRead(source, None, self.frames[self.wanted :], 1.0)
            yield ClipEnded(source, None, "")
        yield SourceEnded(source, DIGEST, None)


def out_of_reach(pool: FakePool, source: Source) -> Iterator[Event]:
    yield pool.begin(source)
    yield FramesRead(source, None, pool.frames[:12], 0.5)
    yield SourceFailed(source, DIGEST, "cannot be read: the network is gone", fault="reach")


def test_a_copy_goes_on_behind_what_was_read_before_the_network_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        (tmp_path / "clips").mkdir(exist_ok=True)
        (tmp_path / "clips" / name).write_bytes(b"clip")
    monkeypatch.setattr(intake, "ReaderPool", FakePool(out_of_reach))
    report = bring(tmp_path)
    assert report.quarantined == [("a", "cannot be read: the network is gone")]
    assert report.num_frames == 20
    assert np.array_equal(frames_of(tmp_path, "b"), FakePool.frames)
    assert [bad.source for bad in StoreReader(tmp_path / "store").quarantined()] == ["a"]


def test_rows_of_a_file_that_was_written_over_are_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_array(tmp_path / "clips" / "a.npy", 40)
    before = path.read_bytes()
    kept = arrays._MappedArray.frame

    def frame(self: Any, clip: int, number: int) -> np.ndarray:
        if number == 5:  # the same file, other bytes: the frames that follow are black
            path.write_bytes(before[:128] + bytes(40 * 32 * 32 * 3))
        return kept(self, clip, number)

    with monkeypatch.context() as patch:
        patch.setattr(arrays._MappedArray, "frame", frame)
        ((name, reason),) = bring(tmp_path).quarantined
    assert (name, reason) == ("a.npy", "changed while it was read; run again when it is complete")
    (tmp_path / "clips" / "b.npy").write_bytes(before)  # the bytes that were hashed
    report = bring(tmp_path)
    assert report.num_frames == 80  # both from their beginning
    assert np.array_equal(frames_of(tmp_path, "b.npy"), make_frames(40))
    assert not frames_of(tmp_path, "a.npy").any()
