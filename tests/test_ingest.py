"""Clips into a store: every frame once, in its place, whatever happens around it."""

from __future__ import annotations

import json
import os
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from clip_files import LOSSLESS, barcode, read_barcode, write_clip
from PIL import Image
from store_data import Function, rows_by_source
from tiny_models import make_frames, write_array

from ldf_video.arrays.frame_array import FrameArray
from ldf_video.clips.identity import source_digest
from ldf_video.errors import StoreError
from ldf_video.intake.frames_store import store_frames
from ldf_video.intake.ingest import ALONE, Conversion, ingest, ingest_sources, list_sources
from ldf_video.intake.report import Report
from ldf_video.progress import Progress
from ldf_video.readers.pool import ReaderPool
from ldf_video.readers.reading import Event, SourceFound
from ldf_video.sources.search import Found, find_sources
from ldf_video.sources.source import Source
from ldf_video.store.format import StoreSpec
from ldf_video.store.reader import StoreReader
from ldf_video.store.writer import StoreWriter
from ldf_video.video.geometry import Geometry
from ldf_video.video.write import VideoWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

GEOMETRY = Geometry(32, 32)
SPEC = StoreSpec("frames", (32, 32, 3), "uint8", GEOMETRY.settings())
LENGTHS = {"a.npy": 1, "b.npy": 9, "c.npy": 4, "d.npy": 21}


def bring(clips: Path, store: Path, **options: Any) -> Report:
    retry = options.pop("retry", False)
    conversion = Conversion(GEOMETRY, **{"batch_size": 4, "workers": 0, **options})
    with StoreWriter(store, SPEC, retry=retry) as writer:
        return ingest(list_sources(clips, ALONE), writer, conversion, quiet=True)


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    for seed, (name, length) in enumerate(LENGTHS.items()):
        write_array(tmp_path / "clips" / name, length, seed=seed)
    return tmp_path / "clips"


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_every_frame_comes_whole_whatever_the_batch(
    clips: Path, tmp_path: Path, batch_size: int
) -> None:
    report = bring(clips, tmp_path / "store", batch_size=batch_size)
    found = rows_by_source(tmp_path / "store")
    assert found.keys() == LENGTHS.keys()
    for seed, (name, length) in enumerate(LENGTHS.items()):
        assert np.array_equal(found[name], make_frames(length, seed=seed))
    assert report == Report(num_sources=4, num_frames=sum(LENGTHS.values()))


def test_many_clips_by_several_readers_come_whole(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    for n in range(12):
        numbers = range(20 * n, 20 * n + 5 + n)
        images = [barcode(k, height=32, width=32) for k in numbers]
        write_clip(tmp_path / "clips" / f"{n}.mkv", images, **LOSSLESS)
    report = bring(tmp_path / "clips", tmp_path / "store", workers=3)
    assert report == Report(num_sources=12, num_frames=sum(5 + n for n in range(12)))
    found = rows_by_source(tmp_path / "store")
    for n in range(12):
        frames = found[f"{n}.mkv"]
        assert [read_barcode(frame) for frame in frames] == list(range(20 * n, 20 * n + 5 + n))


def test_a_second_time_reads_nothing(clips: Path, tmp_path: Path) -> None:
    bring(clips, tmp_path / "store")
    before = rows_by_source(tmp_path / "store")

    def never(frames: np.ndarray, num_real: int) -> np.ndarray:
        raise AssertionError("read again")

    report = bring(clips, tmp_path / "store", transform=Function(never))

    assert report == Report(num_sources=4, num_unchanged=4)
    assert rows_by_source(tmp_path / "store").keys() == before.keys()


@pytest.mark.parametrize("workers", [0, 3])
def test_copies_at_once_are_stored_once(tmp_path: Path, workers: int) -> None:
    for name in ("a", "b", "c"):
        write_array(tmp_path / "clips" / f"{name}.npy", 40)
    report = bring(tmp_path / "clips", tmp_path / "store", batch_size=64, workers=workers)
    assert report == Report(num_sources=3, num_frames=40)
    assert rows_by_source(tmp_path / "store").keys() == {"a.npy", "b.npy", "c.npy"}
    assert StoreReader(tmp_path / "store").num_clips == 1
    again = bring(tmp_path / "clips", tmp_path / "store")
    assert again == Report(num_sources=3, num_unchanged=3)


def test_copies_of_what_cannot_be_read_are_put_aside_with_it(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        (tmp_path / "clips" / name).write_text("no video")
    for workers in (0, 3):
        report = bring(tmp_path / "clips", tmp_path / "store", workers=workers, retry=True)
        assert sorted(name for name, _ in report.quarantined) == ["a.mp4", "b.mp4", "c.mp4"]
        assert len({reason for _, reason in report.quarantined}) == 1
        assert len(StoreReader(tmp_path / "store").quarantined()) == 3
        again = bring(tmp_path / "clips", tmp_path / "store")
        assert again == Report(num_sources=3, num_unchanged=3)


def test_an_array_of_clips_gives_each_its_own(tmp_path: Path) -> None:
    both = np.stack([make_frames(5, seed=0), make_frames(5, seed=1)])
    (tmp_path / "clips").mkdir()
    np.save(tmp_path / "clips" / "two.npy", both)
    bring(tmp_path / "clips", tmp_path / "store")
    found = rows_by_source(tmp_path / "store")
    assert found.keys() == {"two.npy0", "two.npy1"}
    assert np.array_equal(found["two.npy0"], both[0])
    assert np.array_equal(found["two.npy1"], both[1])
    reader = StoreReader(tmp_path / "store")
    digest = source_digest(find_sources(tmp_path / "clips")[0])
    assert reader.clip_ids == [f"{digest}#0", f"{digest}#1"]
    assert reader.fps(0) == Fraction(25)


def test_what_cannot_be_read_is_put_aside_and_the_rest_goes_on(clips: Path, tmp_path: Path) -> None:
    (clips / "0-empty.mp4").write_bytes(b"")
    (clips / "c-text.mp4").write_text("no video at all")
    report = bring(clips, tmp_path / "store")
    assert [name for name, _ in report.quarantined] == ["0-empty.mp4", "c-text.mp4"]
    assert dict(report.quarantined)["0-empty.mp4"] == "empty file"
    assert rows_by_source(tmp_path / "store").keys() == LENGTHS.keys()
    quarantined = StoreReader(tmp_path / "store").quarantined()
    assert {bad.source: bad.reason for bad in quarantined} == dict(report.quarantined)

    assert bring(clips, tmp_path / "store").num_unchanged == 6  # nor are these read again ...
    assert len(bring(clips, tmp_path / "store", retry=True).quarantined) == 2  # ... unless asked
    write_array(clips / "c-text.mp4.npy", 2)
    (clips / "c-text.mp4").unlink()
    (clips / "0-empty.mp4").unlink()
    assert bring(clips, tmp_path / "store").quarantined == []
    assert StoreReader(tmp_path / "store").quarantined() == []

    whole = (clips / "a.npy").read_bytes()
    (clips / "a.npy").write_bytes(whole[:40])
    assert len(bring(clips, tmp_path / "store").quarantined) == 1
    (clips / "a.npy").write_bytes(whole)
    os.utime(clips / "a.npy", ns=(1, 1))
    assert bring(clips, tmp_path / "store").num_frames == 0  # it is known
    assert StoreReader(tmp_path / "store").quarantined() == []


def test_a_copy_of_a_clip_that_lacks_only_its_end_mark(tmp_path: Path) -> None:
    """All its frames were committed, then came a kill; an earlier clip still fills the batch."""
    for seed, (name, length) in enumerate((("a", 1), ("b", 3))):
        write_array(tmp_path / "clips" / f"{name}.npy", length, seed=seed)
    (tmp_path / "clips" / "c.npy").write_bytes((tmp_path / "clips" / "b.npy").read_bytes())
    digest = source_digest(find_sources(tmp_path / "clips")[1])
    with StoreWriter(tmp_path / "store", SPEC) as writer:
        writer.append(digest, make_frames(3, seed=1), fps=Fraction(25))

    report = bring(tmp_path / "clips", tmp_path / "store")

    assert report == Report(num_sources=3, num_frames=1)
    found = rows_by_source(tmp_path / "store")
    assert found.keys() == {"a.npy", "b.npy", "c.npy"}
    assert np.array_equal(found["c.npy"], make_frames(3, seed=1))


def test_progress_goes_on_within_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shares: list[float] = []
    monkeypatch.setattr(
        Progress, "update", lambda self, count, *, share: shares.append(round(share, 6))
    )
    write_array(tmp_path / "clips" / "a.npy", 4)
    write_array(tmp_path / "clips" / "b.npy", 4, seed=1)
    bring(tmp_path / "clips", tmp_path / "store")
    assert shares == [0.5, 1]  # a block of frames at a time


class Stopped(BaseException):
    """Stands for a Ctrl-C in the middle."""


# Going on in the middle


def on_choice(monkeypatch: pytest.MonkeyPatch, act: Callable[[Sequence[int]], None]) -> None:
    """Does something when a source has been hashed and its clips are chosen."""
    kept = ReaderPool.read

    def read(self: ReaderPool, sources: Sequence[Source]) -> Iterator[Event | None]:
        for event in kept(self, sources):
            yield event
            if isinstance(event, SourceFound):
                act(event.first_frames)

    monkeypatch.setattr(ReaderPool, "read", read)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_long_clip_goes_on_behind_its_last_committed_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    clips, store = tmp_path / "clips", tmp_path / "store"
    clips.mkdir()
    frames = [barcode(k % 256, height=32, width=32) for k in range(600)]
    write_clip(clips / "long.mp4", frames, codec_options={"g": "50", "qp": "0"})
    bring(clips, tmp_path / "straight")
    whole = rows_by_source(tmp_path / "straight")["long.mp4"]
    assert [read_barcode(frame) for frame in whole] == [k % 256 for k in range(600)]
    begun: list[int] = []
    on_choice(monkeypatch, begun.extend)
    with StoreWriter(store, SPEC) as writer:  # what a killed run had committed
        writer.append(source_digest(find_sources(clips)[0]), whole[:421], fps=Fraction(25))

    report = bring(clips, store, workers=workers)

    assert begun == [421]
    assert report == Report(num_sources=1, num_frames=600 - 421)
    assert rows_by_source(store)["long.mp4"].tobytes() == whole.tobytes()


def test_which_part_has_begun_a_source_is_known_before_it_is_whole(tmp_path: Path) -> None:
    write_array(tmp_path / "clips" / "a.npy", 40)
    with StoreWriter(tmp_path / "store", SPEC):  # the first of them makes it
        pass

    def stop(frames: np.ndarray, num_real: int) -> np.ndarray:
        raise Stopped

    conversion = Conversion(GEOMETRY, Function(stop), batch_size=8, workers=0)
    with (
        pytest.raises(Stopped),
        StoreWriter(tmp_path / "store", SPEC, rank=1, num_ranks=2) as writer,
        Progress("read", unit="frames", quiet=True) as progress,
    ):
        ingest_sources(find_sources(tmp_path / "clips"), writer, conversion, progress)
    with StoreWriter(tmp_path / "store", SPEC, num_ranks=2) as writer:
        assert writer.owners(["a.npy", "new.mp4"], [1, 1]) == [1, 0]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_is_replaced_behind_its_hash_is_not_taken_for_what_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    clips, store = tmp_path / "clips", tmp_path / "store"
    path = write_array(clips / "a.npy", 40)
    before = path.read_bytes()

    def replace(first_frames: Sequence[int]) -> None:
        write_array(tmp_path / "new.npy", 40, seed=7)
        (tmp_path / "new.npy").replace(path)

    with monkeypatch.context() as patch:
        on_choice(patch, replace)
        ((name, reason),) = bring(
            tmp_path / "clips", tmp_path / "store", workers=workers
        ).quarantined
    assert name == "a.npy"
    assert reason == "changed while it was read; run again when it is complete"

    (clips / "b.npy").write_bytes(before)
    assert bring(clips, store, workers=workers) == Report(num_sources=2, num_frames=80)
    assert np.array_equal(rows_by_source(store)["a.npy"], make_frames(40, seed=7))
    assert np.array_equal(rows_by_source(store)["b.npy"], make_frames(40))


def test_rows_of_a_file_that_was_written_over_are_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_array(tmp_path / "clips" / "a.npy", 40)
    before = path.read_bytes()

    right_image = FrameArray.image

    def image(array: FrameArray, clip: int, number: int) -> np.ndarray:
        if number == 5:  # the same file, other bytes
            path.write_bytes(before[:128] + bytes(40 * 32 * 32 * 3))
        return right_image(array, clip, number)

    with monkeypatch.context() as patch:
        patch.setattr(FrameArray, "image", image)
        ((name, reason),) = bring(tmp_path / "clips", tmp_path / "store").quarantined
    assert (name, reason) == ("a.npy", "changed while it was read; run again when it is complete")
    (tmp_path / "clips" / "b.npy").write_bytes(before)  # the bytes that were hashed
    report = bring(tmp_path / "clips", tmp_path / "store")
    assert report.num_frames == 80  # both from their beginning
    assert np.array_equal(rows_by_source(tmp_path / "store")["b.npy"], make_frames(40))
    assert not rows_by_source(tmp_path / "store")["a.npy"].any()


# Pictures


def _write_walk(folder: Path, numbers: range) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for k in numbers:
        Image.fromarray(barcode(k, height=32, width=32)).save(folder / f"frame_{k:03}.png")


def _numbers_of(store: Path) -> dict[str, list[int]]:
    return {
        name: [read_barcode(frame) for frame in frames]
        for name, frames in rows_by_source(store).items()
    }


def test_a_folder_of_numbered_pictures_is_one_clip_and_read_again_when_it_changes(
    tmp_path: Path,
) -> None:
    clips, store, walk = tmp_path / "clips", tmp_path / "store", tmp_path / "clips" / "walk"
    _write_walk(walk, range(7))
    Image.fromarray(barcode(99, height=32, width=32)).save(clips / "still.png")
    report = bring(clips, store)
    assert (report.num_sources, report.num_frames) == (2, 8)
    assert _numbers_of(store) == {"walk/frame_*.png": list(range(7)), "still.png": [99]}
    assert bring(clips, store).num_unchanged == 2
    (walk / "frame_006.png").rename(walk / "frame_007.png")  # the same pictures in order
    report = bring(clips, store)
    assert (report.num_unchanged, report.num_frames) == (1, 0)
    (walk / "frame_003.png").unlink()
    assert bring(clips, store).num_frames == 6
    assert _numbers_of(store)["walk/frame_*.png"] == [0, 1, 2, 4, 5, 6]
    _write_walk(walk, range(20, 22))
    bring(clips, store)
    assert _numbers_of(store)["walk/frame_*.png"] == [0, 1, 2, 4, 5, 6, 20, 21]


def test_broken_pictures_leave_all_others(tmp_path: Path) -> None:
    _write_walk(tmp_path / "clips" / "walk", range(9))
    for number in (0, 4, 5):
        (tmp_path / "clips" / "walk" / f"frame_{number:03}.png").write_text("notes")
    report = bring(tmp_path / "clips", tmp_path / "store")
    ((name, reason),) = report.salvaged
    assert name == "walk/frame_*.png"
    assert reason.startswith("damaged after 0 frames: frame_000.png: not a video: ")
    assert reason.endswith(", and 2 more like it; 6 more read")
    assert _numbers_of(tmp_path / "store") == {"walk/frame_*.png": [1, 2, 3, 6, 7, 8]}


def test_what_decord_must_not_read_is_said_in_one_line(tmp_path: Path) -> None:
    images = [barcode(k, height=32, width=32) for k in range(9)]
    clips = tmp_path / "clips"
    clips.mkdir()
    write_clip(clips / "a.mp4", images)
    write_clip(clips / "b.ts", images)
    write_clip(clips / "c.ts", images[::-1])
    write_clip(clips / "d.mkv", images[2:], codec="ffv1", pix_fmt="bgr0")
    report = bring(clips, tmp_path / "store", reader="decord")
    assert [name for name, _ in report.not_by_decord] == ["b.ts", "c.ts", "d.mkv"]
    assert report.lines() == [
        "  decord was not right for 3 of 4 sources (2 the container mpegts; 1 the codec ffv1): "
        "read by PyAV",
        "4 sources: 34 new frames, 0 sources unchanged, 0 salvaged, 0 unreadable",
    ]
    assert _numbers_of(tmp_path / "store") == {
        "a.mp4": list(range(9)),
        "b.ts": list(range(9)),
        "c.ts": list(range(9))[::-1],
        "d.mkv": list(range(2, 9)),
    }


def test_the_report_counts_and_lists() -> None:
    report = Report(5, 1, 1234, [("cut.mp4", "ends early")], [("bad.mp4", "no video")])
    assert report.lines() == [
        "  salvaged cut.mp4: ends early",
        "  unreadable bad.mp4: no video",
        "5 sources: 1,234 new frames, 1 source unchanged, 1 salvaged, 1 unreadable",
    ]
    assert report.first_reason() == "bad.mp4: no video"
    bad = [(f"{k}.npy", "an array") for k in range(11)]
    report = Report(quarantined=[("a.mp4", "no video"), *bad])
    assert report.lines()[:-1] == [
        "  unreadable a.mp4: no video",
        "  unreadable 0.npy and 10 more, which info lists: an array",
    ]
    assert len(Report(quarantined=bad[1:]).lines()) == 11


# Clips of several places


def test_clips_of_another_place_are_refused(clips: Path, tmp_path: Path) -> None:
    bring(clips, tmp_path / "store")
    before = rows_by_source(tmp_path / "store")
    for seed, name in enumerate(LENGTHS, start=20):  # of the same names
        write_array(tmp_path / "others" / name, 3, seed=seed)
    write_array(tmp_path / "only" / "z.npy", 3, seed=30)
    for place in ("others", "only", "only/z.npy"):
        with pytest.raises(StoreError, match=r"holds 4 sources of .*clips, and .* another place"):
            bring(tmp_path / place, tmp_path / "store")
    found = rows_by_source(tmp_path / "store")
    assert found.keys() == before.keys()
    assert all(np.array_equal(found[name], before[name]) for name in before)


@pytest.mark.parametrize("row", ["a.npy,1,2", "a.npz::x,,"])
def test_ranges_and_places_in_files_of_another_place_are_refused(tmp_path: Path, row: str) -> None:
    for seed, place in enumerate(("clips", "others")):
        array = np.load(write_array(tmp_path / place / "a.npy", 60, seed=seed))
        np.savez(tmp_path / place / "a.npz", x=array)
        (tmp_path / place / "clips.csv").write_text(f"file,start,end\n{row}\n")
    bring(tmp_path / "clips" / "clips.csv", tmp_path / "store")
    with pytest.raises(StoreError, match=r"holds 1 sources of .*clips, and .* another place"):
        bring(tmp_path / "others" / "clips.csv", tmp_path / "store")
    (tmp_path / "clips").rename(tmp_path / "moved")
    assert bring(tmp_path / "moved" / "clips.csv", tmp_path / "store").num_unchanged == 1


def test_one_file_of_a_place_leaves_the_others(clips: Path, tmp_path: Path) -> None:
    bring(clips, tmp_path / "store")
    report = bring(clips / "b.npy", tmp_path / "store")
    assert (report.num_kept, report.num_gone, report.num_unchanged) == (3, 0, 1)
    assert "  other sources of the store, kept as they are: 3" in report.lines()
    write_array(clips / "new.npy", 2, seed=9)
    assert bring(clips / "new.npy", tmp_path / "store").num_frames == 2
    assert rows_by_source(tmp_path / "store").keys() == {*LENGTHS, "new.npy"}


def test_clips_that_are_gone_are_said_and_come_back(clips: Path, tmp_path: Path) -> None:
    bring(clips, tmp_path / "store")
    for name in ("b.npy", "d.npy"):
        (clips / name).rename(tmp_path / name)
    report = bring(clips, tmp_path / "store")
    assert (report.num_gone, report.gone) == (2, "b.npy")
    assert report.lines()[-2] == (
        "  of what the store had, 2 are not there any more, such as b.npy: it uses their clips "
        "no more; put back, they cost no encoding"
    )
    assert bring(clips, tmp_path / "store").num_gone == 0
    assert rows_by_source(tmp_path / "store").keys() == LENGTHS.keys() - {"b.npy", "d.npy"}
    for name in ("b.npy", "d.npy"):
        (tmp_path / name).rename(clips / name)
    assert bring(clips, tmp_path / "store").num_frames == 0
    assert rows_by_source(tmp_path / "store").keys() == LENGTHS.keys()


def test_clips_that_were_moved_are_known(clips: Path, tmp_path: Path) -> None:
    bring(clips, tmp_path / "store")
    clips.rename(tmp_path / "moved")
    clips.mkdir()  # the old place may still be there
    report = bring(tmp_path / "moved", tmp_path / "store")
    assert (report.num_unchanged, report.num_gone) == (4, 0)


def test_a_store_that_knows_no_place_goes_by_names(clips: Path, tmp_path: Path) -> None:
    bring(clips, tmp_path / "store")
    path = tmp_path / "store" / "store.json"
    document = json.loads(path.read_text())
    assert document["info"].pop("clips") == str(clips.resolve())
    path.write_text(json.dumps(document))
    write_array(tmp_path / "others" / "z.npy", 3, seed=30)
    with pytest.raises(StoreError, match="holds 4 sources of other clips, and "):
        bring(tmp_path / "others", tmp_path / "store")
    assert bring(clips, tmp_path / "store").num_unchanged == 4
    assert json.loads(path.read_text())["info"]["clips"] == str(clips.resolve())


def test_stills_that_are_a_series_now_are_the_same_clips_place(tmp_path: Path) -> None:
    _write_walk(tmp_path / "clips", range(3))
    stills = [
        Source(tmp_path / "clips", f"frame_{k:03}.png", 1, 1) for k in range(3)
    ]  # as an older version found them
    with StoreWriter(tmp_path / "store", SPEC) as writer:
        ingest(Found(stills), writer, Conversion(GEOMETRY, workers=0), quiet=True)
    report = bring(tmp_path / "clips", tmp_path / "store")
    assert (report.num_frames, report.num_gone) == (3, 3)
    assert _numbers_of(tmp_path / "store") == {"frame_*.png": [0, 1, 2]}


def test_a_store_of_frames_keeps_its_clips_too(clips: Path, tmp_path: Path) -> None:
    write_array(tmp_path / "others" / "a.npy", 3, seed=30)

    def frames(place: Path) -> StoreReader:
        with Progress("read", unit="frames", quiet=True) as progress:
            return store_frames(place, tmp_path / "frames", GEOMETRY, progress, ALONE, workers=0)

    assert frames(clips).num_clips == 4
    with pytest.raises(StoreError, match="is another place: name another --out or --frames-store"):
        frames(tmp_path / "others")
    assert frames(clips / "b.npy").num_clips == 4
    (clips / "d.npy").unlink()
    assert frames(clips).num_clips == 3


# What is not read


def test_what_lies_beside_clips_is_one_line(clips: Path, tmp_path: Path) -> None:
    for k in range(20):
        (clips / f"clip_{k}.txt").write_text("a dog runs")
    (clips / "meta.jsonl").write_text("{}")
    with VideoWriter(clips / "made.mp4", fps=25) as writer:
        writer.write(np.zeros((3, 32, 32, 3), np.uint8))
    bring(clips / "a.npy", clips / "latents")  # a store
    for num_frames in (35, 0):
        report = bring(clips, tmp_path / "store")
        assert report.lines() == [
            "  left out: 21 files beside clips (20 .txt, 1 .jsonl); 2 that ldf-video wrote itself",
            f"4 sources: {num_frames} new frames, {4 if not num_frames else 0} sources unchanged, "
            "0 salvaged, 0 unreadable",
        ]
    assert rows_by_source(tmp_path / "store").keys() == LENGTHS.keys()
    assert bring(clips / "made.mp4", tmp_path / "store").num_frames == 3  # named


def test_pictures_that_did_not_group_are_said(tmp_path: Path) -> None:
    _write_walk(tmp_path / "clips" / "walk", range(3))
    for number, name in enumerate(("dog.png", "cat.png", "owl.ppm")):
        Image.fromarray(barcode(number)).save(tmp_path / "clips" / name)
    report = bring(tmp_path / "clips", tmp_path / "store")
    assert report.num_stills == 3
    assert report.lines()[0].startswith("  3 pictures are clips of one frame, such as ")
    (tmp_path / "clips" / "bat.png").write_bytes((tmp_path / "clips" / "dog.png").read_bytes())
    assert len(bring(tmp_path / "clips", tmp_path / "store").lines()) == 1


FOUR = [make_frames(6, seed=seed) for seed in range(4)]


def _flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    for k in range(4):
        data[place + k] ^= 255
    path.write_bytes(data)


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _write_h5(path: Path, frame: int) -> None:
    """Four episodes, a frame of the second of which is wrong."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for k, frames in enumerate(FOUR):
            file.create_dataset(
                f"demo_{k}", data=frames, chunks=(1, 32, 32, 3), compression="gzip", fletcher32=True
            )
        chunk = file["demo_1"].id.get_chunk_info(frame % 6)
    if frame < 6:
        _flip(path, chunk.byte_offset + chunk.size // 2)


def _write_zarr(path: Path, frame: int) -> None:
    """The same as one array, where episodes end."""
    zarr = pytest.importorskip("zarr")
    root = zarr.open_group(path, mode="w", zarr_format=2)
    root.create_array("data/img", data=np.concatenate(FOUR), chunks=(1, 32, 32, 3))
    root.create_array("meta/episode_ends", data=np.array([6, 12, 18, 24]))
    if frame < 6:
        _cut(path / "data" / "img" / f"{6 + frame}.0.0.0")


def _write_npz(path: Path, frame: int) -> None:
    """The same, stored as it is, which only a checksum over an episode guards."""
    np.savez(path, *FOUR)
    if frame < 6:
        _flip(path, path.read_bytes().index(FOUR[1][frame].tobytes()) + 50)


@pytest.mark.parametrize(
    ("name", "write", "frame", "kept"),
    [
        ("a.h5", _write_h5, 0, 0),
        ("a.h5", _write_h5, 3, 3),
        ("a.zarr", _write_zarr, 0, 0),
        ("a.zarr", _write_zarr, 5, 5),
        ("a.npz", _write_npz, 0, 5),
    ],
)
def test_a_bad_clip_of_several_costs_itself_alone(
    tmp_path: Path, name: str, write: Callable[[Path, int], None], frame: int, kept: int
) -> None:
    (tmp_path / "clips").mkdir()
    path, store = tmp_path / "clips" / name, tmp_path / "store"
    write(path, frame)
    report = bring(tmp_path / "clips", store)
    assert report.num_frames == 18 + kept
    reader = StoreReader(store)
    assert sorted(reader.lengths.tolist()) == sorted([6, 6, 6, kept][: 3 + (kept > 0)])
    if kept:
        assert [reason[: len("damaged after")] for _, reason in report.salvaged] == [
            "damaged after"
        ]
        assert report.quarantined == []
    else:
        ((bad, reason),) = report.quarantined
        assert bad == name
        assert reason.startswith("1 of 4 clips cannot be read: ")
        assert [one.reason for one in reader.quarantined()] == [reason]
    again = bring(tmp_path / "clips", store)
    assert (again.num_frames, again.num_unchanged) == (0, 1)  # it is known
    if not kept:
        assert bring(tmp_path / "clips", store, retry=True).quarantined == report.quarantined
    write(path, 6)  # it is mended
    os.utime(path, (1, 1))
    mended = bring(tmp_path / "clips", store)
    assert (mended.quarantined, mended.salvaged) == ([], [])
    assert StoreReader(store).lengths.tolist() == [6] * 4


def test_a_source_of_which_no_clip_can_be_read_is_told_as_one(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    path = tmp_path / "clips" / "a.zarr"
    _write_zarr(path, 6)
    for number in range(24):
        _cut(path / "data" / "img" / f"{number}.0.0.0")
    report = bring(tmp_path / "clips", tmp_path / "store")
    assert report.quarantined == [("a.zarr", "data/img: the chunk 0.0.0.0 is cut short")]
    assert StoreReader(tmp_path / "store").num_clips == 0
