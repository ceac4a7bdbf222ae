"""clips.csv: ranges of files, the very frames of them, and rows that make no sense."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from clip_files import LOSSLESS, NATIVE, at_rate, barcodes, read_barcode, write_clip
from store_data import rows_by_source
from tiny_models import save_frame

from ldf_video.api import encode, info, reconstruct, train_frame
from ldf_video.clips.identity import source_digest
from ldf_video.clips.read import open_clips
from ldf_video.errors import ReadError, TruncatedError, UsageError
from ldf_video.evaluation.draw import draw_clips
from ldf_video.files.layout import Layout
from ldf_video.readers.clips import frame_size
from ldf_video.readers.worker import answers
from ldf_video.sources.ranges import Range, clock, parse_seconds
from ldf_video.sources.search import find_sources
from ldf_video.sources.source import Source
from ldf_video.store import StoreReader
from ldf_video.video.geometry import Geometry
from ldf_video.video.seeking import find_entry

if TYPE_CHECKING:
    from pathlib import Path

GROUPS = {"x264-params": "keyint=25:min-keyint=25:scenecut=0:bframes=3:open-gop=1"}
NUM_FRAMES = 250


def table(path: Path, *rows: str, header: str = "file,start,end") -> Path:
    path.write_text("\n".join([header, *rows, ""]))
    return path


def numbers(source: Source, fps: int | None = None) -> list[int]:
    (clip,) = open_clips(source, at_rate(fps))
    return [read_barcode(frame) for frame in clip.frames]


def read_rows(path: Path, fps: int | None = None) -> list[list[int] | str]:
    """The numbers of the frames of each row, or why there are none."""
    found: list[list[int] | str] = []
    for source in find_sources(path):
        try:
            found.append(numbers(source, fps))
        except ReadError as error:
            found.append(str(error))
    return found


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds of barcodes, 25 a second, in files of every kind."""
    root = tmp_path_factory.mktemp("films")
    images = barcodes(range(NUM_FRAMES))
    uneven = [k + k // 7 + (40 if k > 200 else 0) for k in range(NUM_FRAMES)]
    write_clip(root / "b.mp4", images, codec_options=GROUPS)
    write_clip(root / "b.mkv", images, codec_options=GROUPS)
    write_clip(root / "vfr.mp4", images, codec_options=GROUPS, pts=uneven)
    write_clip(root / "late.mkv", images, codec_options=GROUPS, pts=[k + 9 for k in range(250)])
    write_clip(root / "vp9.webm", images, codec="libvpx-vp9", codec_options={"g": "30"})
    write_clip(root / "b.ts", images, codec_options=GROUPS)
    write_clip(root / "b.avi", images, codec="mpeg4", codec_options={"g": "30", "bf": "2"})
    write_clip(root / "one.mkv", images, codec_options={"g": "1000", "sc_threshold": "0"})
    write_clip(
        root / "refresh.mkv",
        images,
        codec_options={"x264-params": "intra-refresh=1:keyint=30:scenecut=0"},
    )
    write_clip(root / "exact.mkv", images, **LOSSLESS)
    return root


SEEKS = {"b.mp4", "b.mkv", "vfr.mp4", "late.mkv", "vp9.webm", "exact.mkv"}
NAMES = sorted(SEEKS | {"b.ts", "b.avi", "one.mkv", "refresh.mkv"})


@pytest.mark.parametrize("name", NAMES)
def test_a_range_has_the_very_frames_of_the_whole(films: Path, name: str) -> None:
    (whole,) = open_clips(films / name, NATIVE)
    pixels = list(whole.frames)
    assert [read_barcode(frame) for frame in pixels] == list(range(NUM_FRAMES))
    starts = [
        Fraction(k + k // 7 + (40 if k > 200 else 0) if name == "vfr.mp4" else k, 25)
        for k in range(NUM_FRAMES)
    ]
    for start, end in (("0", "1"), ("4.96", "5"), ("5", "7.08"), ("7.5", ""), ("8.001", "8.239")):
        low, high = Fraction(start), Fraction(end or 1000)
        path = table(films / f"{name}.csv", f"{name},{start},{end}")
        (source,) = find_sources(path)
        expected = [k for k, at in enumerate(starts) if low <= at < high]
        (clip,) = open_clips(source, NATIVE)
        found = list(clip.frames)
        assert [read_barcode(frame) for frame in found] == expected, (start, end)
        for frame, number in zip(found, expected, strict=True):
            np.testing.assert_array_equal(frame, pixels[number])
    entry = find_entry(films / name, Fraction(8), alive=bool)
    assert (entry is not None) == (name in SEEKS)


@pytest.mark.parametrize("name", ["b.mp4", "vfr.mp4", "b.avi"])
@pytest.mark.parametrize("fps", [5, 10, 60])
def test_a_range_at_another_rate_is_what_shows_then(films: Path, name: str, fps: int) -> None:
    (whole,) = open_clips(films / name, at_rate(100))
    shown = [read_barcode(frame) for frame in whole.frames]  # each hundredth of a second
    path = table(films / f"{name}.rate.csv", f"{name},6.5,8.1")
    (source,) = find_sources(path)
    got = numbers(source, fps)
    times = [650 + 100 * k / fps for k in range(len(got))]
    assert len(got) == -(-16 * fps // 10)
    for number, time in zip(got, times, strict=True):
        assert number in {shown[int(time)], shown[round(time)]}


def test_rows_are_read_and_what_makes_no_sense_is_one_line(films: Path) -> None:
    path = table(
        films / "rows.csv",
        "b.mp4,1,1.2,walk,",
        "b.mp4,0:00:02,0:02.2,,5",
        "gone.mp4,1,2,,",
        "b\0.mp4,1,2,,",
        "b.mp4,3,2,,",
        "b.mp4,12,13,,",
        "b.mp4,9.8,11,,",
        "b.mp4,soon,2,,",
        "b.mp4,1,2,,never",
        ",1,2,,",
        "",
        '"b.mkv", 3 ,3.12,"a, b",',
        header="file,start,end,label,fps",
    )
    found = find_sources(path)
    assert found[0].part is not None
    assert found[0].part.label == "walk"
    assert found[-1].part is not None
    assert found[-1].part.label == "a, b"
    assert read_rows(path) == [
        [25, 26, 27, 28, 29],
        [50],
        "there is no such file",
        "there is no such file",
        "its end, 0:02, is not behind its start, 0:03",
        "its start 0:12 is past the end, 0:10",
        "the file ends at 0:10, the range at 0:11",
        "'soon' is no time: expected seconds or h:mm:ss, such as 75.5 or 1:15",
        "fps never: expected a positive number such as 15 or 30000/1001",
        "it names no file",
        [75, 76, 77],
    ]
    (clip,) = open_clips(found[6], NATIVE)
    kept: list[int] = []
    with pytest.raises(TruncatedError, match="the file ends at 0:10"):
        kept.extend(read_barcode(frame) for frame in clip.frames)
    assert kept == [245, 246, 247, 248, 249]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has no column file, start, end"),
        ("a.mp4,0,1\n", "has no column file, start, end"),
        ("file,begin,end\na.mp4,0,1\n", "has no column start"),
        ("file,start,end\n", "has no row"),
        (
            "file;end;start;Lable\nb.mp4;1;0;x\n",
            "unknown column 'lable': expected file, start, end, label, fps; rename it",
        ),
        ("file,start,end,fps,fps\nb.mp4,0,1,5,6\n", "has the column fps twice"),
    ],
)
def test_a_table_without_its_columns_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "clips.csv").write_text(text)
    with pytest.raises(UsageError, match=reason):
        find_sources(tmp_path / "clips.csv")


def test_tables_come_in_several_kinds(films: Path) -> None:
    rows = "File;END;start;Label\r\nb.mp4;1,2;1;x\r\n"
    (films / "excel.csv").write_bytes(rows.encode("utf-8-sig"))
    (row,) = read_rows(films / "excel.csv")
    assert row == [25, 26, 27, 28, 29]
    (films / "latin.csv").write_bytes("file,start,end\né.mp4,,\n".encode("latin-1"))
    with pytest.raises(UsageError, match="UTF-8"):
        find_sources(films / "latin.csv")


def test_arrays_and_series_have_ranges_by_their_rate(tmp_path: Path) -> None:
    images = np.stack(barcodes(range(60)))
    np.save(tmp_path / "a.npy", images)
    np.save(tmp_path / "many.npy", images.reshape(2, 30, 48, 64, 3))
    path = table(tmp_path / "c.csv", "a.npy,1,1.2", "many.npy,1,1.2", "many.npy,,", "a.npy,2,9")
    found = find_sources(path)
    assert numbers(found[0]) == [25, 26, 27, 28, 29]
    assert numbers(found[0], 10) == [10, 11]
    with pytest.raises(ReadError, match="it holds several clips"):
        list(open_clips(found[1], NATIVE))
    assert len(list(open_clips(found[2], NATIVE))) == 2
    with pytest.raises(TruncatedError, match=r"ends at 0:02\.4, the range at 0:09"):
        numbers(found[3])


def test_a_zarr_store_has_ranges(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    images = np.stack(barcodes(range(30)))
    zarr.open_group(tmp_path / "a.zarr", mode="w")["img"] = images
    zarr.open_group(tmp_path / "b.zarr", mode="w")
    rows = ("a.zarr,0.2,0.4", "a.zarr::img,,0.08", f"{tmp_path}/a.zarr/,1.16,", "b.zarr,0,1")
    *ranges, problem = read_rows(table(tmp_path / "c.csv", *rows))
    assert ranges == [[5, 6, 7, 8, 9], [0, 1], [29]]
    assert isinstance(problem, str)
    assert len({source_digest(source) for source in find_sources(tmp_path / "c.csv")[:3]}) == 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("75.5", 75.5), ("1:15.5", 75.5), ("1:00:00.25", 3600.25), ("0:01:05", 65)],
)
def test_times(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds
    assert parse_seconds(clock(Fraction(seconds))) == seconds


@pytest.mark.parametrize("text", ["", "-1", "1:60", "1:75:00", "nan", "1e3", "1:2:3:4", "٣"])
def test_no_times(text: str) -> None:
    with pytest.raises(ValueError, match="no time"):
        parse_seconds(text)


def test_ranges_travel_to_readers_and_name_themselves() -> None:
    one = Range(Fraction(25, 2), Fraction(30), Fraction(30000, 1001), "a, b")
    assert one.suffix == "@12.5-30/30000:1001"
    assert Range.from_json(one.to_json()) == one
    assert [Range().suffix, Range(Fraction(1, 3)).suffix] == ["", "@0.333333-"]


@pytest.fixture
def root(films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save_frame(tmp_path / "checkpoints" / "frame")
    (tmp_path / "clips").mkdir()
    for name in ("b.mp4", "b.mkv"):
        (tmp_path / "clips" / name).write_bytes((films / name).read_bytes())
    return tmp_path


def test_a_changed_row_is_encoded_again_and_others_are_kept(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header = "file,start,end,label"
    path = table(
        root / "clips" / "clips.csv",
        "b.mp4,1,3,a",
        "b.mp4,3,6,b",
        "b.mkv,,1,",
        "x.mp4,1,2,",
        header=header,
    )
    done = encode(path, cuts="off", quiet=True)
    assert done.report.num_frames == 50 + 75 + 25
    assert done.report.quarantined == [("x.mp4@1-2", "there is no such file")]
    before = rows_by_source(root / "latents")
    assert {name: len(rows) for name, rows in before.items()} == {
        "b.mp4@1-3": 50,
        "b.mp4@3-6": 75,
        "b.mkv@0-1": 25,
    }
    whole = encode(root / "clips" / "b.mp4", out="whole", cuts="off", quiet=True)
    assert whole.report.num_frames == NUM_FRAMES
    rows = rows_by_source(root / "whole")["b.mp4"]
    np.testing.assert_array_equal(before["b.mp4@3-6"], rows[75:150])

    table(path, "b.mp4,1,3,renamed", "b.mp4,3,6.4,b", "b.mkv,,1,", header=header)
    again = encode(path, cuts="off", quiet=True).report
    assert (again.num_frames, again.num_unchanged, again.quarantined) == (85, 2, [])
    assert rows_by_source(root / "latents").keys() == {"b.mp4@1-3", "b.mp4@3-6.4", "b.mkv@0-1"}
    assert info("latents")["labels"] == {"b.mp4@1-3": "renamed", "b.mp4@3-6.4": "b"}
    assert StoreReader(root / "latents").labels()["b.mp4@1-3"] == "renamed"


def test_all_commands_take_a_table(root: Path) -> None:
    path = table(root / "clips" / "clips.csv", "b.mp4,1,3", "b.mkv,3,5", "b.mp4,8,9.6")
    assert reconstruct(path, quiet=True).num_frames == 140
    with pytest.raises(UsageError, match="expected one video"):
        reconstruct(path, out="x.mp4", quiet=True)
    options: dict[str, Any] = {"steps": 1, "batch_size": 4, "size": "32", "seed": 1}
    train_frame(path, out="frame", quiet=True, **options)
    assert StoreReader(root / "frame" / "frames").num_frames == 140


def test_geometry_of_a_row_with_a_rate(films: Path) -> None:
    path = table(films / "r.csv", "b.mp4,1,3,10", header="file,start,end,fps")
    (clip,) = open_clips(find_sources(path)[0], Geometry(48, 64, fps=Fraction(5)))
    assert clip.fps == 10
    assert len(list(clip.frames)) == 20


def test_evaluate_draws_clips_of_the_rows_alone(films: Path) -> None:
    path = table(films / "e.csv", "b.mp4,1,2", "gone.mp4,,", "b.mkv,4,5")
    sources = find_sources(path)
    drawn = draw_clips(sources, NATIVE, count=50, seed=1)
    inside = {*range(25, 50), *range(100, 125)}
    assert {read_barcode(frame) for clip in drawn.clips for frame in clip} <= inside
    assert len(drawn.unread) == 1
    assert frame_size(sources[0]) == (48, 64)


def test_rows_of_one_file_are_other_clips_for_another_camera(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", left=barcodes(range(1)), right=barcodes(range(2)))
    digests = set()
    for camera in ("left", "right"):
        layout = Layout(camera=camera)
        (source,) = find_sources(table(tmp_path / "clips.csv", "a.npz,,"), layout=layout)
        (found,) = answers({"source": source.to_json(), "do": "look", "hashed": True})
        digests.add(found.header["digest"])
    assert len(digests) == 2
