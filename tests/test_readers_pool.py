"""Readers that crash, hang and are killed, and what their parent makes of it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import bad_reader
import numpy as np
import pytest
from bad_reader import is_alive, process_ids
from clip_files import LOSSLESS, barcode, barcodes, read_barcode, write_clip

from ldf_video.clips.identity import source_digest
from ldf_video.clips.read import SKIP, open_clips
from ldf_video.errors import LdfError
from ldf_video.readers.pool import ReaderPool
from ldf_video.readers.reading import (
    Clip,
    ClipEnded,
    Event,
    FramesRead,
    SourceEnded,
    SourceFailed,
    SourceFound,
)
from ldf_video.readers.worker import MEMORY_MIB, OOM_SCORE
from ldf_video.sources.search import find_sources
from ldf_video.video.geometry import Geometry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ldf_video.sources.source import Source

SIZE = Geometry(48, 64)
NUM_FRAMES = 100


def source_of(event: Event) -> Source:
    if isinstance(event, FramesRead | ClipEnded):
        return event.clip.source
    return event.found.source if isinstance(event, SourceEnded) else event.source


class Heard:
    """Events of sources, with the frames read as barcodes before the next event.

    Of sources in `firsts` the clips chosen are those that it names.
    """

    def __init__(
        self,
        pool: ReaderPool,
        sources: Sequence[Source],
        firsts: Mapping[str, list[int]] = MappingProxyType({}),
    ) -> None:
        self.events: list[Event] = []
        self.num_nothing = 0
        self.numbers: dict[tuple[str, int | None], list[int]] = {}
        for event in pool.read(sources):
            if event is None:
                self.num_nothing += 1
                continue
            self.events.append(event)
            if isinstance(event, FramesRead):
                numbers = self.numbers.setdefault((event.clip.source.name, event.clip.index), [])
                numbers += [read_barcode(frame) for frame in event.frames]
            if isinstance(event, SourceFound) and event.source.name in firsts:
                event.first_frames[:] = firsts[event.source.name]

    def of(self, name: str) -> list[Event]:
        """The events of one source once it was found, without its frames."""
        found = [event for event in self.events if source_of(event).name == name]
        return [event for event in found if not isinstance(event, FramesRead | SourceFound)]

    def assert_ended(self, name: str, num_frames: int = NUM_FRAMES, damage: str = "") -> None:
        clip, ended, source_ended = self.of(name)
        assert isinstance(clip, Clip)
        assert ended == ClipEnded(clip, num_frames, damage)
        assert isinstance(source_ended, SourceEnded)
        assert self.numbers[name, None] == list(range(num_frames))


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    (tmp_path / "notes").mkdir()
    return tmp_path / "notes"


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[Source]:
    clips = tmp_path_factory.mktemp("clips")
    for name in ("a.mkv", "b.mkv", "c.mkv"):
        write_clip(clips / name, [barcode(k) for k in range(NUM_FRAMES)], **LOSSLESS)
    return find_sources(clips)


def array_source(path: Path, num_frames: int) -> Source:
    """One clip that is long without work: every frame's barcode is its number modulo 256."""
    frames = np.lib.format.open_memmap(
        path, mode="w+", dtype=np.uint8, shape=(num_frames, 48, 64, 3)
    )
    for number in range(256):
        frames[number::256] = barcode(number)
    (source,) = find_sources(path)
    return source


# -- whole sources -----------------------------------------------------------------------------


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_every_source_comes_whole(three: list[Source], num_workers: int) -> None:
    with ReaderPool(SIZE, num_workers=num_workers) as pool:
        heard = Heard(pool, three[::-1])
        assert list(pool.read([])) == []
    if num_workers < 2:
        begun = [event.source.name for event in heard.events if isinstance(event, Clip)]
        assert begun == ["c.mkv", "b.mkv", "a.mkv"]
    for source in three:
        heard.assert_ended(source.name)
        found = SourceFound(source, source_digest(source), None)
        clip = Clip(source, found.digest, None, 25, "", (48, 64))
        assert heard.of(source.name) == [clip, ClipEnded(clip, NUM_FRAMES, ""), SourceEnded(found)]
        assert found in heard.events
    positions = [e.position for e in heard.events if isinstance(e, FramesRead)]
    assert 0 < min(positions) < max(positions) <= 1


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_pool_reads_again_and_what_is_chosen(three: list[Source], num_workers: int) -> None:
    firsts = {"a.mkv": [97], "b.mkv": [SKIP], "c.mkv": [NUM_FRAMES]}
    with ReaderPool(SIZE, num_workers=num_workers) as pool:
        Heard(pool, three)
        heard = Heard(pool, three, firsts)
    assert heard.numbers == {("a.mkv", None): [97, 98, 99]}
    assert [type(event) for event in heard.of("a.mkv")] == [Clip, ClipEnded, SourceEnded]
    skipped = SourceFound(three[1], source_digest(three[1]), None)
    assert heard.of("b.mkv") == [SourceEnded(skipped)]
    clip, ended, source_ended = heard.of("c.mkv")  # has fewer frames: gives none
    assert isinstance(clip, Clip)
    assert ended == ClipEnded(clip, NUM_FRAMES, "")
    assert isinstance(source_ended, SourceEnded)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_array_gives_the_clips_that_are_chosen(tmp_path: Path, num_workers: int) -> None:
    clips = [[barcode(20 * clip + frame) for frame in range(5)] for clip in range(6)]
    np.save(tmp_path / "a.npy", np.array(clips))
    (source,) = find_sources(tmp_path)
    with ReaderPool(SIZE, num_workers=num_workers) as pool:
        heard = Heard(pool, [source], {"a.npy": [SKIP, 0, SKIP, 3, 9, SKIP]})
    assert heard.numbers == {("a.npy", 1): [20, 21, 22, 23, 24], ("a.npy", 3): [63, 64]}
    found = SourceFound(source, source_digest(source), 6)
    assert found.clip_ids() == [f"{found.digest}#{index}" for index in range(6)]
    expected: list[Event] = [found]
    shown = (48, 64)
    for index, num_frames, size in ((1, 5, shown), (3, 5, shown), (4, 9, None)):
        clip = Clip(source, f"{found.digest}#{index}", index, 25, "", size)
        expected += [clip, ClipEnded(clip, num_frames, "")]
    events = [event for event in heard.events if not isinstance(event, FramesRead)]
    assert events == [*expected, SourceEnded(found)]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_crop_and_rate_go_to_a_reader(three: list[Source], num_workers: int) -> None:
    geometry = Geometry(48, 48, crop="none", fps=Fraction(10, 3))
    (clip,) = open_clips(three[0], geometry)
    with ReaderPool(geometry, num_workers=num_workers) as pool:
        events = list(pool.read(three[:1]))
    frames = np.concatenate([event.frames for event in events if isinstance(event, FramesRead)])
    np.testing.assert_array_equal(frames, list(clip.frames))
    assert [event.fps for event in events if isinstance(event, Clip)] == [Fraction(10, 3)]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_rate_of_many_digits_is_read(tmp_path: Path, num_workers: int) -> None:
    pts = [0, *(40_000_003 * k + k * k + 1 for k in range(1, 9))]  # ns, no step like another
    ticks = {"video_track_timescale": str(10**9)}
    write_clip(tmp_path / "a.mp4", barcodes(range(9)), fps=10**9, pts=pts, container_options=ticks)
    with ReaderPool(SIZE, num_workers=num_workers) as pool:
        heard = Heard(pool, find_sources(tmp_path))
    (clip,) = (event for event in heard.events if isinstance(event, Clip))
    assert clip.fps == Fraction(8 * 10**9, pts[-1])
    assert clip.fps.numerator > 2**31
    heard.assert_ended("a.mp4", 9)


def test_any_name_goes_to_a_reader_and_back(tmp_path: Path) -> None:
    names = ["two\nlines.mkv", "\N{SNOWMAN}.mkv", " .mkv"]
    if sys.platform == "linux":  # other file systems have no such names
        names.append(os.fsdecode(b"\xff\xfe.mkv"))
    for name in names:
        path = write_clip(tmp_path / "plain.mkv", [barcode(7)], **LOSSLESS)
        path.rename(tmp_path / name)
    sources = find_sources(tmp_path)
    with ReaderPool(SIZE, num_workers=1) as pool:
        heard = Heard(pool, sources)
    assert heard.numbers == {(name, None): [7] for name in names}
    assert set(map(source_of, heard.events)) == set(sources)


def test_what_cannot_be_read_fails_with_its_reason(tmp_path: Path, three: list[Source]) -> None:
    (tmp_path / "text.mp4").write_bytes(b"hello")
    (tmp_path / "gone.mp4").write_bytes(b"hello")
    gone, text = find_sources(tmp_path)
    (tmp_path / "gone.mp4").unlink()
    with ReaderPool(SIZE, num_workers=1) as pool:
        heard = Heard(pool, [gone, text, three[0]])
    assert heard.of("gone.mp4") == [SourceFailed(gone, "cannot be read: No such file or directory")]
    (failed,) = heard.of("text.mp4")
    assert isinstance(failed, SourceFailed)
    assert failed.found == SourceFound(text, source_digest(text), None)
    assert failed.reason.startswith("not a video: ")
    heard.assert_ended("a.mkv")


# -- how many readers --------------------------------------------------------------------------


@pytest.mark.parametrize(("num_sources", "num_workers"), [(0, 2), (1, 4), (3, 2)])
def test_no_more_readers_than_work(
    three: list[Source], notes: Path, num_sources: int, num_workers: int
) -> None:
    command = bad_reader.command(notes)
    with ReaderPool(SIZE, num_workers=num_workers, command=command) as pool:
        heard = Heard(pool, three[:num_sources])
    for source in three[:num_sources]:
        heard.assert_ended(source.name)
    assert len(process_ids(notes)) <= min(num_sources, num_workers)


def test_a_source_takes_memory_once_it_is_begun(three: list[Source]) -> None:
    tracemalloc.start()
    with ReaderPool(SIZE, num_workers=1) as pool:
        next(pool.read(three * 100_000))
        _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 2**23


def test_without_workers_there_is_no_process(
    three: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    with ReaderPool(SIZE, num_workers=0) as pool:
        Heard(pool, three).assert_ended("b.mkv")


@pytest.mark.parametrize("num_workers", [0, 2])
def test_nothing_is_left_of_a_pool(three: list[Source], notes: Path, num_workers: int) -> None:
    def descriptors() -> int:
        return len(os.listdir("/dev/fd"))

    command = bad_reader.command(notes, "once-die", "b.mkv", 50)
    if num_workers == 0:
        command = ()
    before = descriptors()
    with ReaderPool(SIZE, num_workers=num_workers, command=command) as pool:
        Heard(pool, three)
    with ReaderPool(SIZE, num_workers=num_workers, command=command) as pool:
        for event in pool.read(three):
            if isinstance(event, FramesRead):
                break  # in the middle
        heard = Heard(pool, three[1:])  # nothing of what was left comes in the next call
        assert {source_of(event).name for event in heard.events} == {"b.mkv", "c.mkv"}
        heard.assert_ended("c.mkv")
    assert descriptors() == before
    ids = process_ids(notes)
    assert bool(ids) == bool(num_workers)
    for process_id in ids:
        with pytest.raises(ProcessLookupError):  # no zombie either
            os.kill(process_id, 0)
    pool.close()  # again: nothing happens


# -- readers with faults -----------------------------------------------------------------------


def faulty_pool(notes: Path, fault: str, frame: int) -> ReaderPool:
    command = bad_reader.command(notes, fault, "b.mkv", frame)
    return ReaderPool(SIZE, num_workers=2, stall_seconds=2, command=command)


CRASHED = "the decoder crashed "
FAULTS = {
    "die": (20, CRASHED + "(signal 11)"),
    "exit": (20, CRASHED + "(exit code 3)"),
    "talk-nonsense": (20, CRASHED + "(a message that is no JSON)"),
    "hang": (45, "the decoder hung for 2 s"),
    "stop": (45, "the decoder hung for 2 s"),
    "raise": (40, "the reader failed: TypeError: a fault of two lines"),
    "unreadable": (40, "it cannot be read"),
}


@pytest.mark.parametrize(("fault", "frame", "reason"), [(f, *FAULTS[f]) for f in FAULTS])
def test_a_clip_with_a_fault_is_kept_up_to_there_and_no_other_is_touched(
    three: list[Source], notes: Path, fault: str, frame: int, reason: str
) -> None:
    with faulty_pool(notes, fault, frame) as pool:
        heard = Heard(pool, three)
    heard.assert_ended("b.mkv", frame, f"damaged after {frame} frames: {reason}")
    heard.assert_ended("a.mkv")
    heard.assert_ended("c.mkv")
    if fault in ("hang", "stop"):
        assert heard.num_nothing >= 4  # twice a second there is a chance to do something else
    if fault in ("raise", "unreadable"):
        assert len(process_ids(notes)) <= 2  # no reader died
    assert not any(map(is_alive, process_ids(notes)))


@pytest.mark.parametrize("fault", ["die", "hang", "raise"])
def test_a_clip_with_a_fault_at_once_has_failed(
    three: list[Source], notes: Path, fault: str
) -> None:
    with faulty_pool(notes, fault, 0) as pool:
        heard = Heard(pool, three[1:])
    failed = heard.of("b.mkv")[-1]
    assert isinstance(failed, SourceFailed)
    assert (failed.reason, failed.fault) == (FAULTS[fault][1], "content")
    assert failed.found == SourceFound(three[1], source_digest(three[1]), None)
    assert ("b.mkv", None) not in heard.numbers
    heard.assert_ended("c.mkv")


def test_damage_within_a_clip_is_what_the_reader_says(three: list[Source], notes: Path) -> None:
    with faulty_pool(notes, "truncated", 40) as pool:
        Heard(pool, [three[1]]).assert_ended("b.mkv", 40, "damaged after a while: bits")


@pytest.mark.parametrize(("fault", "num_readers"), [("once-die", 2), ("work", 1)])
def test_a_crash_that_does_not_come_again_and_long_work_cost_nothing(
    three: list[Source], notes: Path, fault: str, num_readers: int
) -> None:
    with faulty_pool(notes, fault, 77) as pool:  # the work takes 3 s
        heard = Heard(pool, [three[1]])
    heard.assert_ended("b.mkv")
    assert sum(isinstance(event, SourceFound) for event in heard.events) == 1
    assert len(process_ids(notes)) == num_readers


def test_a_clip_of_which_frames_are_known_is_kept_where_it_kills_at_its_first(
    three: list[Source], notes: Path
) -> None:
    with faulty_pool(notes, "die", 30) as pool:
        heard = Heard(pool, [three[1]], {"b.mkv": [30]})
    _, ended, source_ended = heard.of("b.mkv")
    assert isinstance(ended, ClipEnded)
    assert ended.damage == "damaged after 30 frames: the decoder crashed (signal 11)"
    assert isinstance(source_ended, SourceEnded)


def test_a_reader_killed_from_outside_loses_and_doubles_no_frame(
    tmp_path: Path, notes: Path
) -> None:
    source = array_source(tmp_path / "long.npy", 2000)
    numbers, num_killed, begun = [], 0, 0
    pool = ReaderPool(SIZE, num_workers=1, command=bad_reader.command(notes))
    with pool:
        for event in pool.read([source]):
            begun += isinstance(event, Clip)
            if isinstance(event, FramesRead):
                numbers += [read_barcode(frame) for frame in event.frames]
                if len(numbers) > 700 and num_killed == 0:
                    os.kill(process_ids(notes)[0], signal.SIGKILL)
                    num_killed += 1
            if isinstance(event, ClipEnded):
                assert event.damage == ""
    assert numbers == [number % 256 for number in range(2000)]
    assert (num_killed, begun, len(process_ids(notes))) == (1, 1, 2)


def test_a_slow_consumer_is_waited_for_and_memory_stays_bounded(
    tmp_path: Path, notes: Path
) -> None:
    source = array_source(tmp_path / "long.npy", 800)
    command = bad_reader.command(notes, "count")
    num_read = 0
    with ReaderPool(SIZE, num_workers=1, stall_seconds=1, command=command) as pool:
        for event in pool.read([source]):
            if isinstance(event, FramesRead):
                if num_read == 0:
                    time.sleep(3)
                    decoded = int((notes / "count").read_text())
                    # Here one block, in the socket 2 MiB at most, one half sent, four that wait.
                    assert 32 * 4 < decoded <= 32 * (1 + 8 + 1 + 4)
                num_read += len(event.frames)
            assert not isinstance(event, ClipEnded) or event.damage == ""
    assert num_read == 800
    assert len(process_ids(notes)) == 1


def test_a_reader_loads_no_torch_and_leaves_signals_to_its_parent(
    three: list[Source], notes: Path
) -> None:
    command = bad_reader.command(notes, "look-around")
    with ReaderPool(SIZE, num_workers=1, command=command) as pool:
        for event in pool.read([three[0]]):
            if isinstance(event, Clip):
                (process_id,) = process_ids(notes)
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # as to a whole job
                    os.kill(process_id, number)
                if sys.platform == "linux":  # which ends it first where memory runs out
                    score = Path(f"/proc/{process_id}/oom_score_adj").read_text()
                    assert int(score) == int(OOM_SCORE)
                    limit, _ = resource.prlimit(process_id, resource.RLIMIT_DATA)
                    assert limit == MEMORY_MIB * 2**20
        assert (notes / "torch").read_text() == "False"
        assert len(process_ids(notes)) == 1


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["/no/such/program"], "cannot start a reader: No such file or directory"),
        ([sys.executable, "-c", "raise SystemExit(7)"], r"readers do not start \(exit code 7\)"),
    ],
)
def test_readers_that_do_not_start_are_an_error(
    three: list[Source], command: Sequence[str], reason: str
) -> None:
    with (
        ReaderPool(SIZE, num_workers=2, command=command) as pool,
        pytest.raises(LdfError, match=reason),
    ):
        Heard(pool, three)


def test_a_thread_that_does_not_start_is_an_error(
    three: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    said = "cannot start a reader: can't start new thread; .* use fewer --workers"
    with ReaderPool(SIZE, num_workers=2) as pool, pytest.raises(LdfError, match=said):
        Heard(pool, three)


HELD = """
import subprocess, sys
subprocess.run(["sleep", "20"], pass_fds=[int(sys.argv[-1])])
"""


def test_a_reader_that_the_kernel_does_not_let_go_of_is_not_waited_for(
    three: list[Source],
) -> None:
    """As where a network drive hangs; here another process holds its end of the socket."""
    with ReaderPool(SIZE, num_workers=2, command=[sys.executable, "-c", HELD]) as pool:
        events = pool.read(three)
        for _ in range(8):  # until it has begun
            assert next(events) is None
        began = time.monotonic()
    assert time.monotonic() - began < 5


def test_modules_of_the_current_directory_are_not_taken(
    three: list[Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "av.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    with ReaderPool(SIZE, num_workers=1) as pool:
        Heard(pool, three).assert_ended("a.mkv")


# -- a parent that ends ------------------------------------------------------------------------

PARENT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import bad_reader
from ldf_video.video.geometry import Geometry
from ldf_video.readers.pool import ReaderPool
from ldf_video.readers.reading import ClipEnded, FramesRead
from ldf_video.sources.search import find_sources

command = bad_reader.command(Path({notes!r}), {fault!r}, "*", 20)
try:
    with ReaderPool(Geometry(48, 64), num_workers=2, command=command) as pool:
        begun = set()
        for event in pool.read(find_sources(Path({clips!r}))):
            if isinstance(event, FramesRead):
                begun.add(event.clip.source.name)
                if len(begun) == 2:  # at once, so two readers are in the middle
                    print("begun", flush=True)
                    {then}
            elif isinstance(event, ClipEnded):
                begun.discard(event.clip.source.name)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.fixture
def parent(three: list[Source], notes: Path) -> Iterable[Callable[..., subprocess.Popen[str]]]:
    """Starts a process that reads, and returns once two of its readers are in the middle."""
    started = []

    def start(*, fault: str, then: str) -> subprocess.Popen[str]:
        script = PARENT.format(
            tests=str(Path(__file__).parent),
            notes=str(notes),
            clips=str(three[0].path.parent),
            fault=fault,
            then=then,
        )
        process = subprocess.Popen(
            [sys.executable, "-c", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_until_gone(ids: Sequence[int]) -> None:
    deadline = time.monotonic() + 20
    while any(map(is_alive, ids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_alive, ids))


@pytest.mark.parametrize("fault", ["slow", "hang"])
@pytest.mark.parametrize("then", ["import time; time.sleep(100)", "pass"])
def test_no_reader_outlives_a_killed_parent(
    parent: Callable[..., subprocess.Popen[str]], notes: Path, fault: str, then: str
) -> None:
    process = parent(fault=fault, then=then)
    process.kill()
    assert len(process_ids(notes)) == 2
    wait_until_gone(process_ids(notes))


@pytest.mark.parametrize("fault", ["slow", "hang"])
def test_ctrl_c_ends_readers_at_once_and_in_silence(
    parent: Callable[..., subprocess.Popen[str]], notes: Path, fault: str
) -> None:
    process = parent(fault=fault, then="import time; time.sleep(100)")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to all of the foreground
    printed, complaints = process.communicate(timeout=20)
    assert (printed, complaints, process.returncode) == ("interrupted\n", "", 0)
    wait_until_gone(process_ids(notes))
