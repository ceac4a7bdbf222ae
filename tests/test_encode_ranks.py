"""Clips into one store by several processes: the same store as by one, whatever stops them."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from clip_files import barcode, write_clip
from store_data import Function, assert_holds, rows_by_source
from tiny_models import make_frames, save_frame, write_array

from ldf_video.api import encode
from ldf_video.clips.identity import source_digest
from ldf_video.errors import LdfError, StoreError, UsageError
from ldf_video.files.layout import Layout
from ldf_video.intake import ingest as ingest_room
from ldf_video.intake.ingest import UNCHANGED, Conversion, ingest, list_sources, open_store
from ldf_video.intake.report import Report
from ldf_video.recipes import encode as room
from ldf_video.recipes.encode import Encoded
from ldf_video.sources.search import Found, find_sources
from ldf_video.store import StoreReader, StoreSpec, StoreWriter
from ldf_video.training.ranks import Ranks
from ldf_video.video.geometry import Geometry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GEOMETRY = Geometry(32, 32)
FRAMES = StoreSpec("frames", (32, 32, 3), "uint8", GEOMETRY.settings())
LENGTHS = (3, 10, 6, 1, 13)
TOTAL = sum(LENGTHS)


@dataclass(frozen=True)
class Threads(Ranks):
    """Ranks that are threads of this process."""

    barrier: threading.Barrier = field(default_factory=lambda: threading.Barrier(1))
    rounds: list[dict[int, bytes]] = field(default_factory=list)  # shared: each gather's values
    passed: list[None] = field(default_factory=list)  # one for each gather of this rank

    def gather(self, value: Any) -> list[Any]:
        values = self.rounds[len(self.passed)]
        self.passed.append(None)
        values[self.index] = pickle.dumps(value)
        try:
            self.barrier.wait(timeout=30)
        except threading.BrokenBarrierError:
            if len(values) < self.count:  # else another was only quicker to fail after this
                raise
        # Copies, as between processes; of nothing but this test's own values.
        return [pickle.loads(values[rank]) for rank in range(self.count)]


def together(count: int, work: Callable[[Ranks], Any]) -> list[Any]:
    """What `work` returns, or the error that it raises, in each of the ranks."""
    barrier, rounds = threading.Barrier(count), [{} for _ in range(100)]

    def run(index: int) -> Any:
        try:
            return work(Threads(index, count, barrier, rounds))
        except BaseException as error:
            barrier.abort()  # as a launcher ends the others
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def bring(
    store: Path, count: int, transform: Callable[[Ranks], Callable[..., Any]] | None = None
) -> list[Any]:
    """Frames of `clips/` into a store; each rank's report."""

    def work(ranks: Ranks) -> Report:
        with open_store(store, FRAMES, ranks=ranks) as writer:
            changed = UNCHANGED if transform is None else Function(transform(ranks))
            conversion = Conversion(GEOMETRY, changed, batch_size=4, workers=0)
            sources = list_sources(store.parent / "clips", ranks)
            return ingest(sources, writer, conversion, quiet=True, ranks=ranks)

    return together(count, work)


def encode_in(root: Path, count: int, **options: Any) -> list[Any]:
    """`encode` in each of the ranks."""
    local = threading.local()

    def work(ranks: Ranks) -> Encoded:
        local.ranks = ranks
        return encode(root / "clips", quiet=True, device="cpu", **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "join_ranks", lambda device: local.ranks)
        return together(count, work)


def contents(store: Path) -> dict[str, bytes]:
    return {name: rows.tobytes() for name, rows in rows_by_source(store).items()}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a frame model and five clips."""
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    save_frame(tmp_path / "checkpoints" / "frame")
    for seed, length in enumerate(LENGTHS):
        write_array(tmp_path / "clips" / f"{seed}.npy", length, seed=seed)
    return tmp_path


def frames_of_all() -> dict[str, bytes]:
    return {f"{n}.npy": make_frames(length, seed=n).tobytes() for n, length in enumerate(LENGTHS)}


# In the threads of one process


SHARES = {1: [33], 2: [13 + 3 + 1, 10 + 6], 3: [13, 10, 6 + 3 + 1], 7: [13, 10, 6, 3, 1, 0, 0]}
"""Largest first, each to whoever has the fewest."""


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_each_source_is_read_by_one_of_them(root: Path, count: int) -> None:
    reports = bring(root / "store", count)
    assert reports == [Report(num_sources=5, num_frames=TOTAL)] * count
    assert contents(root / "store") == frames_of_all()
    rows = [
        sum(len(np.load(shard)) for shard in part.glob("data-*.npy"))
        for part in StoreReader(root / "store").parts
    ]
    assert rows == SHARES[count]
    for again in (count, 1, 2):  # whoever comes next has nothing to read
        assert bring(root / "store", again) == [Report(num_sources=5, num_unchanged=5)] * again


def test_latents_are_the_same_bytes_as_by_one(root: Path) -> None:
    one = encode(root / "clips", out="one", batch_size=4, quiet=True)
    two = encode_in(root, 2, out="two", batch_size=4)
    assert contents(root / "two") == contents(root / "one")
    assert [each.report for each in two] == [one.report] * 2
    assert two[0].psnr_db == two[1].psnr_db == pytest.approx(one.psnr_db, abs=3)


def test_the_fit_is_that_of_all_frames_together(root: Path) -> None:
    for seed in (2, 3, 4):  # 13 frames are left, so that a batch holds all and all are sampled
        (root / "clips" / f"{seed}.npy").unlink()
    alone = encode(root / "clips", out="alone", quiet=True)
    both = encode_in(root, 2, out="both")
    assert both[0].psnr_db == both[1].psnr_db == pytest.approx(alone.psnr_db, abs=1e-9)


def test_what_changes_is_read_by_whose_it_is(root: Path) -> None:
    bring(root / "store", 2)
    (root / "clips" / "0.npy").unlink()  # each of the rest is now at another position
    write_array(root / "clips" / "3.npy", 8, seed=30)
    (root / "clips" / "2.npy").rename(root / "clips" / "renamed.npy")
    (root / "clips" / "5.npy").write_bytes((root / "clips" / "1.npy").read_bytes())
    for count, gone in ((2, 1), (1, 0)):
        (report,) = {repr(report) for report in bring(root / "store", count)}
        known = 2 if count == 2 else 5
        changed = 8 if count == 2 else 0
        expected = Report(5, num_unchanged=known, num_frames=changed, num_gone=gone)
        expected.gone = "0.npy" if gone else ""  # the other was renamed
        assert report == repr(expected)
        expected = frames_of_all()
        expected["renamed.npy"], expected["5.npy"] = expected["2.npy"], expected["1.npy"]
        expected["3.npy"] = make_frames(8, seed=30).tobytes()
        assert contents(root / "store") == {
            name: expected[name] for name in ("1.npy", "3.npy", "4.npy", "5.npy", "renamed.npy")
        }


def test_copies_that_meet_are_both_whole_and_one_to_readers(root: Path) -> None:
    for name in ("copy", "other"):
        (root / "clips" / f"{name}.npy").write_bytes((root / "clips" / "4.npy").read_bytes())
    bring(root / "store", 4)
    expected = frames_of_all()
    assert contents(root / "store") == {
        **expected,
        "copy.npy": expected["4.npy"],
        "other.npy": expected["4.npy"],
    }
    assert StoreReader(root / "store").num_clips == 5


def test_reports_are_merged_in_the_order_of_one_process(root: Path) -> None:
    for number in (2, 10, 1):
        (root / "clips" / f"bad{number}.mp4").write_text("no video")
    whole = write_clip(root / "whole.mkv", [barcode(n) for n in range(60)]).read_bytes()
    (root / "clips" / "cut.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    (expected,) = bring(root / "one", 1)
    assert [name for name, _ in expected.quarantined] == ["bad1.mp4", "bad2.mp4", "bad10.mp4"]
    assert bring(root / "three", 3) == [expected] * 3
    encoded = encode_in(root, 2)
    assert [e.report.quarantined for e in encoded] == [sorted(expected.quarantined)] * 2
    assert [e.report.salvaged for e in encoded] == [expected.salvaged] * 2


def test_all_agree_on_what_there_is_to_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Path] = []

    def look(clips: Path, *, layout: Layout) -> Found:
        sources = find_sources(clips, layout=layout)
        looks.append(clips)
        return Found(sources[len(looks) - 1 :])  # one is seen by the first look alone

    monkeypatch.setattr(ingest_room, "search", look)
    reports = bring(root / "store", 2)
    assert len(looks) == 2
    assert reports[0] == reports[1]
    assert reports[0].num_sources in (4, 5)
    found = contents(root / "store")
    assert len(found) == reports[0].num_sources
    assert found == {name: rows for name, rows in frames_of_all().items() if name in found}


class Stopped(BaseException):
    """Stands for a Ctrl-C in the middle."""


@pytest.mark.parametrize("count", [1, 2, 3])
def test_what_was_stopped_in_one_goes_on_with_any_number(root: Path, count: int) -> None:
    def stop(ranks: Ranks) -> Callable[[np.ndarray, int], np.ndarray]:
        batches = 0

        def transform(frames: np.ndarray, num_real: int) -> np.ndarray:
            nonlocal batches
            batches += 1
            if ranks.index == 1 and batches > 2:
                raise Stopped
            return frames

        return transform

    first = bring(root / "store", 2, transform=stop)
    assert [type(error) for error in first] == [threading.BrokenBarrierError, Stopped]
    had = len(np.load(root / "store" / "part-0001" / "data-00000.npy"))
    assert had == 8  # of a clip of 10
    reports = bring(root / "store", count)
    assert contents(root / "store") == frames_of_all()
    left = SHARES[2][1] - had  # whoever comes, no frame twice
    assert {report.num_frames for report in reports} == {left}


def test_a_clip_begun_in_a_part_of_another_is_read_anew(root: Path) -> None:
    source = find_sources(root / "clips")[0]
    with StoreWriter(root / "store", FRAMES):
        pass
    with StoreWriter(root / "store", FRAMES, rank=1, num_ranks=2) as writer:
        writer.append(source_digest(source), make_frames(3, seed=0)[:2], fps=Fraction(25))
    assert bring(root / "store", 2)[0].num_frames == TOTAL
    assert contents(root / "store") == frames_of_all()


def test_what_the_first_refuses_is_raised_in_all_and_told_once(root: Path) -> None:
    encode_in(root, 2)
    cases = [
        (StoreError, "made by other settings", {"crop": "none"}),
        (LdfError, "--strict: 1 of 6", {"strict": True}),
    ]
    (root / "clips" / "bad.mp4").write_text("no video")
    for kind, message, options in cases:
        errors = encode_in(root, 2, **options)
        assert [type(error) for error in errors] == [kind] * 2
        assert all(message in str(error) for error in errors)
        assert [error.reported_elsewhere for error in errors] == [False, True]
    shutil.rmtree(root / "clips")
    errors = encode_in(root, 2)
    assert [type(error) for error in errors] == [UsageError] * 2
    assert [error.reported_elsewhere for error in errors] == [False, True]


def test_nothing_readable_is_an_error_in_all(root: Path) -> None:
    shutil.rmtree(root / "clips")
    (root / "clips").mkdir()
    (root / "clips" / "bad.mp4").write_text("no video")
    errors = encode_in(root, 2, out="empty")
    assert [error.reported_elsewhere for error in errors] == [False, True]
    assert all("could be read: bad.mp4" in str(error) for error in errors)


def test_overwrite_is_of_the_whole_store(root: Path) -> None:
    encode_in(root, 2)
    before = contents(root / "latents")
    done = encode_in(root, 2, crop="none", overwrite=True)
    assert [each.report.num_frames for each in done] == [TOTAL] * 2
    (aside,) = root.glob("latents.old-*")
    assert contents(aside) == before
    assert len(StoreReader(aside).parts) == len(StoreReader(root / "latents").parts) == 2


def test_one_that_cannot_open_its_part_ends_alone(root: Path) -> None:
    bring(root / "store", 2)
    with StoreWriter(root / "store", FRAMES, rank=1, num_ranks=2):
        errors = bring(root / "store", 2)
    assert isinstance(errors[0], threading.BrokenBarrierError)  # the launcher ends it
    assert "part-0001 is in use by another process" in str(errors[1])
    assert not errors[1].reported_elsewhere


def test_a_process_that_has_ended_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(values: list[Any], value: Any) -> None:
        raise RuntimeError("[gloo/transport/tcp/pair.cc] Connection closed by peer")

    monkeypatch.setattr(torch.distributed, "all_gather_object", closed)
    with pytest.raises(LdfError, match="launched together has ended: see what it says"):
        Ranks(0, 2).wait()


# In processes of their own

KILLED = """
import os, signal, sys
from ldf_video import api
from ldf_video.intake import frame_encoder
from ldf_video.intake import ingest
from ldf_video.intake.frame_encoder import FrameEncoder
from ldf_video.store.writer import StoreWriter

ingest.StoreWriter = lambda *a, **k: StoreWriter(*a, **k, commit_seconds=0.0)
kept = FrameEncoder.__call__
left = 2

def count(self, frames, num_real):
    global left
    left -= 1
    if left < 0 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return kept(self, frames, num_real)

FrameEncoder.__call__ = count
frame_encoder._choose_lanes = lambda device: 0  # so that each batch is committed before the next
api.encode("clips", out="killed", batch_size=4, device="cpu", quiet=True)
"""


def launch(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Two processes, as a user starts them."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    command += ["--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"]
    command += ["--dynamo_backend", "no", "--main_process_port", "0", *arguments]
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(root),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": ":".join(filter(None, sys.path)),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )


def test_a_killed_process_loses_no_commit(root: Path) -> None:
    encode("clips", out="one", batch_size=4, quiet=True)
    (root / "killed.py").write_text(KILLED)
    died = launch(root, "killed.py")
    assert died.returncode != 0
    assert "SIGKILL" in died.stderr
    assert len(np.load(root / "killed" / "part-0001" / "data-00000.npy")) == 8
    assert_holds(StoreReader(root / "killed"), finished(root / "killed", root / "one"))
    shutil.copytree(root / "killed", root / "alone")

    again = launch(
        root, "-m", "ldf_video", "encode", "clips", "--out", "killed", "--batch-size", "4",
        "--device", "cpu",
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert again.stdout == "killed\n"
    assert again.stderr.count(" new frame") == 1
    assert contents(root / "killed") == contents(root / "one")

    alone = encode("clips", out="alone", batch_size=4, quiet=True)
    assert contents(root / "alone") == contents(root / "one")
    assert 0 < alone.report.num_frames <= TOTAL - 8  # no frame that had been kept


def finished(store: Path, whole: Path) -> dict[str, np.ndarray]:
    """The clips that a store holds, as the whole one has them."""
    one = StoreReader(whole)
    numbers = {clip_id: one.index(clip_id) for clip_id in StoreReader(store).clip_ids}
    return {
        clip_id: one.read(number, 0, int(one.lengths[number]))
        for clip_id, number in numbers.items()
    }
