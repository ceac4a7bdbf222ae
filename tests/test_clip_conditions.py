"""Files of conditions beside clips: read with them, in step at any rate, and never in their way."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from clip_files import barcode, write_clip
from store_data import Function

from ldf_video.api import info, preview
from ldf_video.arrays.conditions import Column
from ldf_video.clips.condition_files import read_conditions
from ldf_video.intake.frames_store import frames_spec
from ldf_video.intake.ingest import Conversion, ingest, list_sources
from ldf_video.store import StoreReader, StoreWriter
from ldf_video.training.ranks import Ranks
from ldf_video.video.geometry import Geometry

if TYPE_CHECKING:
    from pathlib import Path

NAN = np.nan
ROWS = [["left", "right", "", "stay"][n % 4] for n in range(24)]
CODES = {"left": 0, "right": 1, "stay": 2, "": NAN}


def bring(clips: Path, store: Path, *, fps: int | None = None, workers: int = 0) -> list[str]:
    """Frames and conditions into a store; the lines of the report."""
    geometry = Geometry(8, 8, fps=fps)
    conversion = Conversion(
        geometry, Function(lambda frames, _: frames), batch_size=7, workers=workers
    )
    with StoreWriter(store, frames_spec(geometry)) as writer:
        found = list_sources(clips, Ranks())
        return ingest(found, writer, conversion, quiet=True).lines()


def told(store: Path) -> dict[str, Any]:
    """What is known of each source's frames, column by column."""
    reader, found = StoreReader(store), {}
    for source in reader.sources():
        clip = reader.index(source.clip_id)
        values = reader.conditions([clip], [0], length=int(reader.lengths[clip]))[0]
        number = source.clip_id.partition("#")[2]
        for place, column in enumerate(reader.columns):
            found[f"{source.source}{number}:{column.name}"] = values[:, place].tolist()
    return found


def film(path: Path, count: int = 24) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_clip(path, [barcode(n) for n in range(count)], fps=12)


def same(found: list[float], expected: list[float]) -> bool:
    return bool(np.array_equal(found, np.array(expected, np.float32), equal_nan=True))


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    film(tmp_path / "clips" / "a.mp4")
    (tmp_path / "clips" / "a.csv").write_text("\n".join(["action", *ROWS]) + "\n")
    return tmp_path / "clips"


@pytest.mark.parametrize("workers", [0, 1])
def test_a_row_a_frame_at_any_rate(tmp_path: Path, clips: Path, workers: int) -> None:
    lines = bring(clips, tmp_path / "own", workers=workers)
    assert not any("csv" in line for line in lines)
    expected = [CODES[row] for row in ROWS]
    assert same(told(tmp_path / "own")["a.mp4:action"], expected)
    if workers:
        return
    bring(clips, tmp_path / "half", fps=6)
    assert same(told(tmp_path / "half")["a.mp4:action"], expected[::2])
    bring(clips, tmp_path / "twice", fps=24)
    assert same(told(tmp_path / "twice")["a.mp4:action"], np.repeat(expected, 2).tolist())
    bring(clips / "a.mp4", tmp_path / "one")
    assert same(told(tmp_path / "one")["a.mp4:action"], expected)


def test_ranges_of_a_table_take_their_rows(tmp_path: Path, clips: Path) -> None:
    table = clips / "clips.csv"
    table.write_text("file,start,end\na.mp4,0.5,1\na.mp4,1.5,\n")
    bring(table, tmp_path / "store")
    found, expected = told(tmp_path / "store"), [CODES[row] for row in ROWS]
    assert same(found["a.mp4@0.5-1:action"], expected[6:12])
    assert same(found["a.mp4@1.5-:action"], expected[18:])


def test_arrays_take_theirs_clip_by_clip_and_npy_beside_films(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    film(folder / "b.mp4")
    np.save(folder / "b.npy", np.arange(24.0))
    film(folder / "d.mp4", 8)
    np.save(folder / "d.npy", np.array([(n,) for n in range(8)], dtype=[("speed", "i4")]))
    frames = np.stack([barcode(n, height=8, width=8) for n in range(10)])
    np.save(folder / "c.npy", frames.reshape(2, 5, 8, 8, 3))
    (folder / "c.csv").write_text("frame;speed\n" + "".join(f"{n};{n / 2}\n" for n in range(10)))
    lines = bring(folder, tmp_path / "store")
    found = told(tmp_path / "store")
    columns = [key for key in found if not np.isnan(found[key]).all()]
    assert sorted(columns) == ["c.npy0:speed", "c.npy1:speed", "d.mp4:speed"]
    assert found["c.npy1:speed"] == [2.5, 3, 3.5, 4, 4.5]
    assert any("b.npy: column 'value', expected speed" in line for line in lines)
    assert found["d.mp4:speed"] == list(range(8))


def test_a_changed_file_encodes_its_clip_anew_and_one_without_stays(
    tmp_path: Path, clips: Path
) -> None:
    film(clips / "b.mp4", 10)
    store = tmp_path / "store"
    bring(clips, store)
    assert "0 new frames, 2 sources unchanged" in bring(clips, store)[-1]
    (clips / "a.csv").write_text("\n".join(["action", *ROWS[::-1]]) + "\n")
    assert "24 new frames, 1 source unchanged" in bring(clips, store)[-1]
    assert same(told(store)["a.mp4:action"], [CODES[row] for row in ROWS[::-1]])
    (clips / "a.csv").unlink()
    assert "24 new frames, 1 source unchanged" in bring(clips, store)[-1]
    assert np.isnan(told(store)["a.mp4:action"]).all()
    (clips / "a.csv").write_text("\n".join(["action", *ROWS]) + "\n")
    assert "0 new frames, 1 source unchanged" in bring(clips, store)[-1]  # known from before
    assert same(told(store)["a.mp4:action"], [CODES[row] for row in ROWS])


def test_in_an_archive_they_are_found_too(tmp_path: Path, clips: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in clips.iterdir():
            archive.write(path, path.name)
    bring(tmp_path / "all.zip", tmp_path / "store")
    (found,) = told(tmp_path / "store").values()
    assert same(found, [CODES[row] for row in ROWS])


@pytest.mark.parametrize(
    ("text", "line", "known"),
    [
        ("action\n" + "left\n" * 20, "w.csv has 20 rows for 24 frames: the rest is unknown", 20),
        ("action\n" + "left\n" * 30, "w.csv has 30 rows for 24 frames: the rest is passed", 24),
        ("speed\n1\nnan\n", "not used, w.csv: line 3: speed is nan: leave the cell empty", 0),
        ("speed\n1\n1e39\n", "not used, w.csv: line 3: speed is 1e39: leave the cell empty", 0),
        ("speed\n1\nfast\n", "not used, w.csv: line 3: speed is 'fast', expected a number", 0),
        ("acton\n" + "left\n" * 24, "not used, w.csv: column 'acton', expected action, which", 0),
        ("action\n" + "1\n" * 24, "not used, w.csv: action holds numbers, in other clips names", 0),
        ("left\n1,2\n", "not used, w.csv: line 2 has 2 values, for 1 columns", 0),
        ("", "not used, w.csv: its first line is to name the columns", 0),
        ("1\n2\n", "not used, w.csv: its first line is 1: it is to name the columns", 0),
        (b"action\n\xff\xfe\n", "not used, w.csv: no text in UTF-8", 0),
    ],
)
def test_a_wrong_file_is_one_line_and_costs_no_frame(
    tmp_path: Path, clips: Path, text: str | bytes, line: str, known: int
) -> None:
    film(clips / "w.mp4")
    film(clips / "z.mp4", 6)
    (clips / "z.csv").write_text("action\n" + "left\n" * 6)
    (clips / "w.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    lines = [one for one in bring(clips, tmp_path / "store") if "w.mp4" in one]
    assert len(lines) == 1
    assert line in lines[0]
    found = told(tmp_path / "store")
    assert StoreReader(tmp_path / "store").num_frames == 24 + 24 + 6
    assert same(found["a.mp4:action"], [CODES[row] for row in ROWS])
    assert np.isfinite(found["w.mp4:action"]).sum() == known


def test_names_in_bytes_that_are_no_text_are_names_all_the_same(tmp_path: Path) -> None:
    values = np.array([(b"\xff",), (b"left",)], dtype=[("action", "S4")])
    np.save(tmp_path / "a.npy", values)
    assert read_conditions(tmp_path / "a.npy").columns == (Column("action", ("\ufffd", "left")),)


def test_info_and_preview_say_what_is_known(tmp_path: Path, clips: Path) -> None:
    film(clips / "b.mp4", 6)
    found = info(clips / "a.mp4")
    assert found["conditions"] == ["conditions: a.csv, 24 rows: action (left, right, stay)"]
    assert found["conditions"][0] in found["summary"]
    assert "conditions" not in info(clips / "b.mp4")
    line = "conditions of 18 of 30 frames that were looked at: action (left, right, stay)"
    found = preview(clips, out=tmp_path / "a.html", quiet=True)
    assert found.conditions == line
    assert line in found.lines()
    assert f"C{line[1:]}." in (tmp_path / "a.html").read_text()
    bring(clips, tmp_path / "store")
    assert preview(tmp_path / "store", out=tmp_path / "b.html", quiet=True).conditions == line
    (clips / "a.csv").write_text("action\n1\nleft\n")
    assert "not used, a.csv: line 3: action is 'left'" in info(clips / "a.mp4")["conditions"][0]
