"""Clips one after another out of a process that may crash, hang and take all memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import bad_reader
import fsspec
import numpy as np
import pytest
from clip_files import LOSSLESS, barcode, read_barcode, write_clip
from PIL import Image
from tiny_judge import moving_clips, write_judge
from tiny_models import save_pair, write_array
from typer.testing import CliRunner

from ldf_video.api import evaluate
from ldf_video.cli import app
from ldf_video.clips import probe as in_process
from ldf_video.clips import read
from ldf_video.errors import ReadError, TruncatedError
from ldf_video.readers import clips
from ldf_video.readers.clips import ClipReader, frame_size, probe
from ldf_video.readers.pool import ReaderPool
from ldf_video.recipes.adaptation import own_rates
from ldf_video.sources.search import find_sources
from ldf_video.video.geometry import Geometry

if TYPE_CHECKING:
    from pathlib import Path

    from ldf_video.sources.source import Source

SIZE = Geometry(48, 64)
Spoil = "Callable[..., None]"


@pytest.fixture(autouse=True)
def _read_in_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips, "NUM_READERS", 1)


@pytest.fixture
def spoil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spoil:
    """Has readers commit a fault, see `bad_reader`, and soon loses patience where they hang."""

    def spoil(fault: str, name: str = "*", frame: int = 0) -> None:
        (tmp_path / "marks").mkdir(exist_ok=True)
        command = bad_reader.command(tmp_path / "marks", fault, name, frame)
        seconds = 1 if fault in ("hang", "stop") else 60
        for key, value in (("command", command), ("stall_seconds", seconds)):
            monkeypatch.setitem(ReaderPool.__init__.__kwdefaults__, key, value)

    return spoil


@pytest.fixture
def three(tmp_path: Path) -> list[Source]:
    for name in ("a", "b", "c"):
        write_clip(tmp_path / "clips" / f"{name}.mkv", barcodes(), **LOSSLESS)
    return find_sources(tmp_path / "clips")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a pair of models, a judge and clips in two files."""
    monkeypatch.chdir(tmp_path)
    save_pair(tmp_path / "checkpoints")
    write_judge(tmp_path / "judge.pt")
    (tmp_path / "real").mkdir()
    for number in range(2):
        np.save(tmp_path / "real" / f"{number}.npy", moving_clips(30, seed=number))
    write_clip(tmp_path / "real" / "bad.mkv", barcodes(), **LOSSLESS)
    return tmp_path


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()


def barcodes() -> list[np.ndarray]:
    return [barcode(number) for number in range(40)]


def heard(reader: ClipReader, source: Source) -> tuple[list[int], str]:
    """The numbers of a video's frames, and why there are no more."""
    numbers: list[int] = []
    try:
        for clip in reader.open_clips(source):
            for frame in clip.frames:
                numbers.append(read_barcode(frame))
    except TruncatedError as error:
        return numbers, f"truncated: {error}"
    except ReadError as error:
        return numbers, str(error)
    return numbers, ""


def test_frames_are_those_of_this_process(tmp_path: Path, three: list[Source]) -> None:
    write_array(tmp_path / "clips" / "z.npy", 7)
    np.save(tmp_path / "clips" / "zz.npy", moving_clips(3))
    (tmp_path / "clips" / "empty.mkv").touch()
    with ClipReader(SIZE) as reader:
        for source in find_sources(tmp_path / "clips"):
            if source.name == "empty.mkv":
                assert heard(reader, source) == ([], "empty file")
                continue
            there = list(read.open_clips(source, SIZE))
            for clip, same in zip(reader.open_clips(source), there, strict=True):
                assert (clip.index, clip.fps) == (same.index, same.fps)
                frames = list(clip.frames)  # all are good, also after the next was asked for
                assert np.array_equal(np.stack(frames), np.stack(list(same.frames)))
                assert clip.position() > 0


def test_as_many_frames_as_are_wanted(tmp_path: Path, three: list[Source]) -> None:
    np.save(tmp_path / "clips" / "z.npy", moving_clips(3))
    with ClipReader(SIZE, most_frames=7) as reader:
        for source in find_sources(tmp_path / "clips"):
            counts = [len(list(clip.frames)) for clip in reader.open_clips(source)]
            assert counts == ([5, 2] if source.name == "z.npy" else [7])
        assert heard(reader, three[0]) == (list(range(7)), "")


def test_what_only_this_process_has_is_read_in_it(tmp_path: Path) -> None:
    with fsspec.open("memory://there/a.npy", "wb") as file:
        np.save(file, moving_clips(1)[0])
    (source,) = find_sources("memory://there")
    with ClipReader(SIZE) as reader:
        assert sum(len(list(clip.frames)) for clip in reader.open_clips(source)) == 5
    assert frame_size(source) == (32, 32)
    fsspec.filesystem("memory").store.clear()


def test_a_clip_that_is_left_costs_the_next_one_nothing(three: list[Source]) -> None:
    with ClipReader(SIZE) as reader:
        for source in three:
            clip = next(reader.open_clips(source))
            assert read_barcode(next(clip.frames)) == 0
        assert heard(reader, three[0]) == (list(range(40)), "")


def test_a_crash_costs_its_clip(three: list[Source], spoil: Spoil) -> None:
    spoil("die", "b.mkv", 20)
    with ClipReader(SIZE) as reader:
        found = [heard(reader, source) for source in three]
    damage = "truncated: damaged after 20 frames: the decoder crashed (signal 11)"
    whole = list(range(40))
    assert found == [(whole, ""), (whole[:20], damage), (whole, "")]


def test_a_crash_at_once_and_a_hang_cost_theirs(three: list[Source], spoil: Spoil) -> None:
    spoil("die", "a.mkv", 0)
    with ClipReader(SIZE) as reader:
        assert heard(reader, three[0]) == ([], "the decoder crashed (signal 11)")
        assert heard(reader, three[1]) == (list(range(40)), "")
    spoil("stop", "a.mkv", 20)
    with ClipReader(SIZE) as reader:
        damage = "truncated: damaged after 20 frames: the decoder hung for 1 s"
        assert heard(reader, three[0]) == (list(range(20)), damage)
        assert heard(reader, three[1]) == (list(range(40)), "")


def test_what_needs_too_much_memory_is_said(
    tmp_path: Path, three: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (6000, 6000)).save(tmp_path / "clips" / "0.png", compress_level=1)
    large, *_ = find_sources(tmp_path / "clips")
    monkeypatch.setenv("LDF_READER_MIB", "250")
    with ClipReader(SIZE) as reader:
        said = "it needs more than 250 MiB of memory, see LDF_READER_MIB"
        assert heard(reader, large) == ([], said)
        assert heard(reader, three[0]) == (list(range(40)), "")
    monkeypatch.setenv("LDF_READER_MIB", "0")
    with ClipReader(SIZE) as reader:
        assert heard(reader, large) == ([0], "")


def test_what_a_file_is(tmp_path: Path, three: list[Source], spoil: Spoil) -> None:
    path = three[0].path
    assert probe(path) == in_process.probe(path)
    assert frame_size(three[0]) == (48, 64)
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(ReadError, match=r"^empty file$"):
        probe(tmp_path / "empty.mp4")
    for fault, said in (
        ("die", r"the decoder crashed \(signal 11\)"),
        ("hang", r"the decoder hung for 1 s"),
    ):
        spoil(fault)
        with pytest.raises(ReadError, match=said):
            probe(path)
    spoil("talk-nonsense")
    with pytest.raises(ReadError, match=r"the decoder crashed \(a message"):
        frame_size(three[0])


def test_a_crash_of_the_clip_that_was_named_is_one_line(root: Path, spoil: Spoil) -> None:
    said = "the decoder crashed (signal 11)"
    for frame, command in (
        (0, "reconstruct real/bad.mkv --quiet"),
        (0, "generate --from real/bad.mkv --quiet"),
        (0, "info real/bad.mkv"),
        (0, "evaluate --real real/bad.mkv --judge judge.pt --quiet"),
    ):
        spoil("die", "*", frame)
        done = CliRunner().invoke(app, command.split())
        assert done.exit_code == 1, (command, done.output)
        assert done.stderr.count("\n") == 1
        assert said in done.stderr
    assert not (root / "out.mp4").exists()


def test_a_crash_beside_good_clips_costs_its_clip(root: Path, spoil: Spoil) -> None:
    spoil("die", "bad.mkv", 0)
    options: dict[str, Any] = {"judge": "judge.pt", "num_clips": 30, "seed": 1, "quiet": True}
    found = evaluate("real", train="real", **options)
    assert found.num_clips == 30
    assert found.notes == (
        "real: 1 of 3 sources not read whole, the first bad.mkv: the decoder crashed (signal 11)",
    )
    done = CliRunner().invoke(app, ["reconstruct", "real"])
    assert "  unreadable bad.mkv: the decoder crashed (signal 11)" in done.stderr
    assert "over 300 frames" in done.stdout


def test_a_look_at_the_rates_survives_a_crash(three: list[Source], spoil: Spoil) -> None:
    spoil("die", "b.mkv", 0)
    assert own_rates(three) == [25]


def test_what_was_read_before_a_crash_is_gone_on_from(root: Path, spoil: Spoil) -> None:
    spoil("die", "bad.mkv", 20)
    command = "generate --from real/bad.mkv --frames 2 --quiet"
    assert CliRunner().invoke(app, command.split()).exit_code == 0
    done = CliRunner().invoke(app, ["reconstruct", "real/bad.mkv"])
    assert "truncated bad.mkv: damaged after 20 frames: the decoder crashed" in done.stderr
    assert "over 20 frames" in done.stdout
