"""Actions in the files of clips: which are found, which frame each led to, what is wrong with them.

Frames carry their number, and each action the number of the frame on whose sight it was taken.
"""

from __future__ import annotations

import json
import math
import shutil
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from array_files import ALL, FRAMES, seen_at, write_lerobot, write_push_t, write_robomimic
from clip_files import read_barcode
from test_clip_conditions import bring, told

from ldf_video.clips.identity import source_digest
from ldf_video.clips.probe import probe
from ldf_video.clips.read import open_clips
from ldf_video.errors import UsageError
from ldf_video.files.layout import Layout
from ldf_video.options.reading import Encode
from ldf_video.sources.search import find_sources
from ldf_video.store import StoreReader
from ldf_video.video.geometry import Geometry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

h5py = pytest.importorskip("h5py")
zarr = pytest.importorskip("zarr")
parquet = pytest.importorskip("pyarrow.parquet")

NATIVE = Geometry(48, 64)
GAME = [0, 1, 2, 1, 0, 10, 2, 1, 1, 0, 2, 2, 1, 0, 0, 1, 2, 10, 1, 0]


def read(
    place: Path | str, geometry: Geometry = NATIVE, **layout: str
) -> list[tuple[list[int], dict[str, list[Any]], str]]:
    """Of each clip the numbers on its frames, what is known of them by column, and the note."""
    found = []
    for source in find_sources(place, layout=Layout(**layout)):
        for clip in open_clips(source, geometry):
            numbers, rows = [], []
            for frame in clip.frames:
                numbers.append(read_barcode(frame))
                rows.append(clip.told())
            columns = {
                column.name: [
                    row[k] if row[k] is None or not column.names else column.names[int(row[k])]
                    for row in rows
                ]
                for k, column in enumerate(clip.columns)
            }
            found.append((numbers, columns, clip.note()))
    return found


def _npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, obs=FRAMES, **arrays)
    return path


def _h5(path: Path, **arrays: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in {"obs": FRAMES, **arrays}.items():
            file[name.replace("__", "/")] = values
    return path


def _minari(root: Path) -> Path:
    with h5py.File(root / "main_data.hdf5", "w") as file:
        for number in (0, 2, 10):
            numbers = range(number, number + 3)
            file[f"episode_{number}/observations"] = FRAMES[number : number + 3]
            file[f"episode_{number}/actions"] = seen_at(numbers, 4)[:2]  # between frames
    return root / "main_data.hdf5"


def _csgo(root: Path) -> Path:
    with h5py.File(root / "hdf5_dm_july2021_1.hdf5", "w") as file:
        for number in reversed(ALL):
            file[f"frame_{number}_x"] = FRAMES[number]
            file[f"frame_{number}_y"] = seen_at([number], 51)[0]
            file[f"frame_{number}_xaux"] = seen_at([number - 1], 57)[0]
    return root / "hdf5_dm_july2021_1.hdf5"


def _flat(root: Path) -> Path:
    return _h5(root / "a.h5", action=seen_at(ALL, 2), meta__episode_ends=np.array([5, 12, 20]))


def _many(root: Path) -> Path:
    frames = np.stack([FRAMES[:5], FRAMES[5:10]])
    with h5py.File(root / "a.h5", "w") as file:
        file["frames"] = frames
        file["actions"] = np.stack([seen_at(range(5), 1), seen_at(range(5, 10), 1)])[..., 0]
    return root / "a.h5"


LAYOUTS: dict[str, tuple[Callable[[Path], Path], str, int, dict[str, str]]] = {
    "robomimic": (lambda root: write_robomimic(h5py, root / "a.hdf5"), "data/*/obs/a*", 7, {}),
    "Minari": (_minari, "", 4, {}),
    "DIAMOND's CS:GO": (_csgo, "", 51, {}),
    "Push-T": (lambda root: write_push_t(zarr, root / "pusht.zarr"), "", 2, {}),
    "episode_ends in HDF5": (_flat, "", 2, {}),
    "World Models": (lambda root: _npz(root / "a.npz", action=seen_at(ALL, 3)), "", 3, {}),
    "LeRobot": (lambda root: write_lerobot(parquet, root / "set"), "", 2, {"camera": "top"}),
    "clips of an axis": (_many, "", 1, {}),
    "a group": (
        lambda root: _h5(root / "a.h5", actions__b=seen_at(ALL, 1), actions__a=seen_at(ALL, 1)),
        "",
        2,
        {},
    ),
    "by its place": (
        lambda root: _npz(root / "a.npz", keys=seen_at(ALL, 2), action=np.zeros(3)),
        "",
        2,
        {"actions": "keys"},
    ),
    "by a pattern": (_minari, "", 4, {"actions": "episode_*/actions"}),
    "packed": (lambda root: _packed(root / "a.npz"), "", 3, {}),
}


def _packed(path: Path) -> Path:
    np.savez_compressed(path, obs=FRAMES, action=seen_at(ALL, 3))
    return path


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_action_leads_to_the_frame_behind_the_one_it_was_taken_at(
    tmp_path: Path, name: str
) -> None:
    make, inner, width, layout = LAYOUTS[name]
    place = f"{make(tmp_path)}::{inner}" if inner else make(tmp_path)
    clips = read(place, **layout)
    assert clips
    for numbers, columns, note in clips:
        assert len(columns) == width
        for values in columns.values():
            assert values == [None, *numbers[:-1]]
        assert note.count("conditions: ") == 1
        assert "a row led to the next frame" in note
    for clip in read(place, **layout | {"actions": "off"}):
        assert clip[1] == {}
        assert "conditions" not in clip[2]


def test_what_else_may_be_asked_for(tmp_path: Path) -> None:
    path = write_robomimic(h5py, tmp_path / "a.hdf5")
    # What was seen after an action is its own frame.
    (numbers, columns, _), *_ = read(f"{path}::data/demo_10/next_obs/agentview_image")
    assert columns["action0"] == numbers
    asked = "data/*/actions@0,data/*/obs/robot0_eef_pos"
    for numbers, columns, note in read(f"{path}::data/*/obs/agentview_image", actions=asked):
        assert columns["action6"] == numbers
        assert columns["robot0_eef_pos2"] == [0] * len(numbers)
        assert note.count("a row is of its own frame") == 2
    ((numbers, columns, _),) = read(_csgo(tmp_path), actions="frame_*_xaux@0")
    assert columns["frame_xaux56"] == [n - 1 for n in numbers]
    root = write_lerobot(parquet, tmp_path / "set")
    clips = read(root, camera="top", actions="observation.state,action")
    assert list(clips[0][1]) == ["state", "pan", "lift"]
    for numbers, columns, _ in clips:
        assert columns["state"] == numbers
        assert columns["pan"] == [None, *numbers[:-1]]
    half = NATIVE.__class__(48, 64, fps=Fraction(5))
    clips = read(root, half, camera="top")
    assert [(numbers, columns["lift"]) for numbers, columns, _ in clips] == [
        ([0, 2, 4], [None, 1, 3]),
        ([5, 7, 9, 11], [None, 6, 8, 10]),
        ([12, 14], [None, 13]),
    ]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array(GAME), [None, *map(str, GAME[:-1])]),
        (np.array(GAME, np.uint8)[:, None], [None, *map(str, GAME[:-1])]),
        (np.array(GAME) - 1, [None, *(n - 1 for n in GAME[:-1])]),
        (np.arange(0, 2000, 100), [None, *(str(100 * n) for n in range(19))]),
        (np.array(GAME, float), [None, *GAME[:-1]]),
        (np.array(GAME) > 0, [None, *(n > 0 for n in GAME[:-1])]),
        (np.array(["left", "", "up", "up"] * 5), [None, *(["left", None, "up", "up"] * 5)[:-1]]),
        (np.array([b"left", b"up"] * 10), [None, *(["left", "up"] * 10)[:-1]]),
        (np.where(np.arange(20) == 3, np.nan, 2.0), [None, 2, 2, 2, None, *[2] * 15]),
    ],
)
def test_whole_numbers_are_names_where_they_may_be(
    tmp_path: Path, values: Any, expected: list[Any]
) -> None:
    ((_, columns, _),) = read(_npz(tmp_path / "a.npz", action=values))
    assert columns == {"action": expected}


def test_names_are_those_of_all_episodes_and_fields_are_columns(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for number, actions in enumerate(([3, 3, 3], [10, 0, 3])):
            file[f"episode_{number}/observations"] = FRAMES[:3]
            file[f"episode_{number}/actions"] = np.array(actions)
    bring(tmp_path / "a.h5", tmp_path / "store")
    assert [c.names for c in StoreReader(tmp_path / "store").columns] == [("0", "3", "10")]
    fields = np.array([(n, n / 2) for n in ALL], [("steer", "f4"), ("gas", "f8")])
    ((numbers, columns, _),) = read(_h5(tmp_path / "b.h5", action=fields))
    assert columns["steer"] == [None, *numbers[:-1]]
    assert columns["gas"] == [None, *(n / 2 for n in numbers[:-1])]


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "too few rows": (
        {"action": np.zeros((7, 2))},
        "action has 7 rows for 20 frames: expected as many, or one less",
    ),
    "one more": ({"action": np.zeros((21, 2))}, "action has 21 rows for 20 frames: expected as"),
    "infinite": ({"action": np.where(seen_at(ALL, 2) == 4, np.inf, 0)}, "action0 is infinite at"),
    "too large": ({"action": np.full((20, 2), 1e300)}, "action0 is infinite at frame 1"),
    "an axis more": ({"action": np.zeros((20, 2, 2))}, "action has shape (20, 2, 2): expected (f"),
    "too many": ({"action": np.zeros((20, 65))}, "action has 65 columns: expected 1 to 64"),
    "objects": ({"action": np.array([{}] * 20)}, "action holds objects, which are not opened"),
    "complex": ({"action": np.zeros(20, complex)}, "action holds complex128: expected numbers"),
    "texts side by side": ({"action": np.full((20, 2), "a")}, "action has shape (20, 2): expected"),
    "two": ({"action": np.zeros(20), "actions": np.zeros(20)}, "action and actions are there: say"),
    "a number": ({"action": np.float32(1)}, "action has shape (), for 1 clips of 20"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arrays_are_a_line_and_cost_no_frame(tmp_path: Path, name: str) -> None:
    arrays, line = WRONG[name]
    ((numbers, columns, note),) = read(_npz(tmp_path / "a.npz", **arrays))
    assert numbers == ALL
    assert columns == {}
    assert note.startswith(f"conditions are not used, {line}")
    assert "\n" not in note


def test_what_is_asked_for_and_not_there_is_a_line(tmp_path: Path) -> None:
    path = _npz(tmp_path / "a.npz", action=np.zeros(20), reward=np.zeros(20))
    ((numbers, columns, note),) = read(path, actions="keys")
    assert (numbers, columns) == (ALL, {})
    assert note == "conditions are not used, nothing at --actions keys; it holds action, reward"
    np.save(tmp_path / "b.npy", FRAMES)
    ((*_, note),) = read(tmp_path / "b.npy", actions="keys")
    assert note == "--actions keys: a .npy array holds nothing beside its frames"
    root = write_lerobot(parquet, tmp_path / "set")
    ((*_, note), *_) = read(root, camera="top", actions="keys")
    assert note.endswith("nothing at --actions keys; it holds observation.state, action")
    for wrong in ("", "a,,b", "a@2", "@1"):
        with pytest.raises(UsageError, match="--actions"):
            Encode("clips", actions=wrong)


def test_episodes_of_another_width_and_damaged_ones_cost_their_own_actions(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for number, width in enumerate((6, 7, 7)):
            file[f"episode_{number}/observations"] = FRAMES[:3]
            file[f"episode_{number}/actions"] = np.zeros((2, width))
    lines = bring(tmp_path / "a.h5", tmp_path / "store")
    assert any("episode_0/actions has shape (2, 6): expected (frames, 7)" in one for one in lines)
    known = told(tmp_path / "store")
    finite = [np.isfinite(known[f"a.h5{n}:action0"]).sum() for n in range(3)]
    assert finite == [0, 2, 2]
    root = write_lerobot(parquet, tmp_path / "set")
    (root / "data/chunk-000/file-000.parquet").write_bytes(b"PAR1 no more")
    clips = read(root, camera="top")
    assert [len(numbers) for numbers, *_ in clips] == [5, 7, 3]
    assert [bool(columns) for _, columns, _ in clips] == [False, False, True]
    assert "conditions are not used, action of episode 0: " in clips[0][2]


@pytest.mark.parametrize(
    "change", ["rows of another episode", "no rows", "no place", "no features"]
)
def test_tables_of_lerobot_that_say_too_little(tmp_path: Path, change: str) -> None:
    import pyarrow

    root = write_lerobot(parquet, tmp_path / "set")
    table, episodes = root / "data/chunk-000/file-000.parquet", root / "meta/episodes/chunk-000"
    if change in ("rows of another episode", "no rows"):
        rows = parquet.read_table(table).to_pydict()
        rows["episode_index"] = [1] * 12
        few = {name: values[: 3 if change == "no rows" else 12] for name, values in rows.items()}
        parquet.write_table(pyarrow.table(few), table)
    elif change == "no place":
        rows = parquet.read_table(episodes / "file-000.parquet").to_pydict()
        del rows["data/file_index"]
        parquet.write_table(pyarrow.table(rows), episodes / "file-000.parquet")
    else:
        info = json.loads((root / "meta/info.json").read_text())
        info["features"] = [1]
        (root / "meta/info.json").write_text(json.dumps(info))
    numbers, columns, note = read(root, camera="top")[0]
    assert (numbers, columns) == (ALL[:5], {})
    assert "conditions are not used, " in note
    assert "\n" not in note


def test_clips_are_other_ones_where_their_actions_are(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"

    def digest(**layout: str) -> str:
        (source,) = find_sources(path, layout=Layout(**layout))
        return source_digest(source)

    _npz(path, action=seen_at(ALL, 2), reward=np.zeros(20))
    before = digest()
    assert digest(actions="off") != before != digest(actions="action@0")
    _npz(path, action=seen_at(ALL, 2), reward=np.ones(20))
    assert digest() == before
    _npz(path, action=seen_at(ALL, 2) + 1, reward=np.ones(20))
    assert digest() != before
    root = write_lerobot(parquet, tmp_path / "set")
    film, *_ = find_sources(root)
    off, *_ = find_sources(root, layout=Layout(actions="off"))
    table = root / "data/chunk-000/file-000.parquet"
    rows = parquet.read_table(table)
    index = rows.column_names.index("action")
    digests = [source_digest(film), source_digest(off)]
    changed = rows.set_column(index, "action", rows.column("action").take([1, *range(1, 12)]))
    parquet.write_table(changed, table)
    after, *_ = find_sources(root)
    assert after.mtime_ns != film.mtime_ns
    assert [source_digest(after) != digests[0], source_digest(off) != digests[1]] == [True, False]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_store_holds_them_and_a_file_beside_goes_before(tmp_path: Path, workers: int) -> None:
    path = write_push_t(zarr, tmp_path / "clips" / "pusht.zarr")
    lines = bring(tmp_path / "clips", tmp_path / "store", workers=workers)
    assert [line for line in lines if "conditions" in line] == [
        "  pusht.zarr: float32 of 0 to 255 (as its values are; else --levels); conditions: "
        "data/action, 2 columns: a row led to the next frame"
    ]
    known = told(tmp_path / "store")
    expected = [math.nan, *range(4), math.nan, *range(5, 11), math.nan, *range(12, 19)]
    found = [value for n in range(3) for value in known[f"pusht.zarr{n}:action1"]]
    assert np.array_equal(found, expected, equal_nan=True)
    shutil.rmtree(path)
    _npz(tmp_path / "clips" / "b.npz", action=seen_at(ALL, 2))
    (tmp_path / "clips" / "b.csv").write_text("key\n" + "left\n" * 20)
    ((_, columns, note),) = read(tmp_path / "clips")
    assert columns == {"key": ["left"] * 20}
    assert note == ""


def test_long_clips_are_told_in_blocks_and_damage_ends_it(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["frames"] = np.stack([np.zeros((10000, 8, 8), np.uint8)] * 3, -1)
        made = file.create_dataset("actions", (10000, 1), np.float32, chunks=(1000, 1))
        made[:] = np.arange(10000)[:, None]
    (source,) = find_sources(tmp_path / "a.h5")
    (clip,) = open_clips(source, Geometry(8, 8), first_frames=[4095])
    found = [clip.told()[0] for _ in clip.frames]
    assert found == list(range(4094, 9999))
    (said,) = probe(source).told
    assert said == "conditions: actions, 1 column: a row led to the next frame"
