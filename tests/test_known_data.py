"""Small files in the layouts of known data sets, read as docs/data.md says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from array_files import ALL, FRAMES, GREY, read, write_lerobot, write_push_t, write_robomimic
from clip_files import LOSSLESS, write_clip

from ldf_video.files.layout import layout_of
from ldf_video.options.option import options_of
from ldf_video.options.reading import Encode

if TYPE_CHECKING:
    from collections.abc import Callable

h5py = pytest.importorskip("h5py")
zarr = pytest.importorskip("zarr")
parquet = pytest.importorskip("pyarrow.parquet")

TABLE = (Path(__file__).parents[1] / "docs" / "data.md").read_text()
COMMANDS = re.findall(
    r"^\| ([^|]+) \|[^|]+\|[^|]+\| `ldf-video encode ([^`]+)` \|$", TABLE, re.MULTILINE
)


def _videos(root: Path) -> None:
    for kind in ("Archery", "Biking"):
        (root / "UCF-101" / kind).mkdir(parents=True)
        write_clip(root / "UCF-101" / kind / "v_g01_c01.avi", FRAMES, **LOSSLESS)


def _sevir(root: Path) -> None:
    with h5py.File(root / "SEVIR_VIL.h5", "w") as file:
        file["vil"] = np.stack([GREY.transpose(1, 2, 0)] * 2)
        file["id"] = [b"S1", b"S2"]


def _world_models(root: Path) -> None:
    (root / "rollouts").mkdir()
    for name, save in (("1", np.savez), ("2", np.savez_compressed)):
        path = root / "rollouts" / f"{name}.npz"
        save(path, obs=FRAMES, action=np.zeros((20, 3)), reward=np.zeros(20), done=np.zeros(20))


def _minari(root: Path) -> None:
    with h5py.File(root / "main_data.hdf5", "w") as file:
        for number in (0, 2, 10):
            file[f"episode_{number}/observations"] = FRAMES[number : number + 3]
            file[f"episode_{number}/actions"] = np.zeros((2, 4))


def _csgo(root: Path) -> None:
    (root / "csgo").mkdir()
    with h5py.File(root / "csgo" / "hdf5_dm_july2021_1.hdf5", "w") as file:
        for number in reversed(range(20)):
            file[f"frame_{number}_x"] = FRAMES[number]
            file[f"frame_{number}_y"] = np.zeros(51)
            file[f"frame_{number}_xaux"] = np.zeros(57)


MADE: dict[str, tuple[Callable[[Path], object], list[list[int]]]] = {
    "Moving MNIST": (
        lambda root: np.save(root / "mnist_test_seq.npy", np.stack([GREY] * 3, 1)),
        [ALL] * 3,
    ),
    "KTH, UCF-101": (_videos, [ALL] * 2),
    "SEVIR": (_sevir, [ALL] * 2),
    "World Models": (_world_models, [ALL] * 2),
    "Push-T": (
        lambda root: write_push_t(zarr, root / "pusht_cchi_v7_replay.zarr"),
        [ALL[:5], ALL[5:12], ALL[12:]],
    ),
    "robomimic": (
        lambda root: write_robomimic(h5py, root / "image.hdf5"),
        [[1, 2, 3], [4, 5], [6, 7, 8, 9]],
    ),
    "Minari": (_minari, [[0, 1, 2], [2, 3, 4], [10, 11, 12]]),
    "DIAMOND's CS:GO": (_csgo, [ALL]),
    "LeRobot": (
        lambda root: write_lerobot(parquet, root / "pusht"),
        [ALL[:5], ALL[5:12], ALL[12:15]],
    ),
}


def test_the_table_has_the_data_sets_that_are_tested() -> None:
    assert [name for name, _ in COMMANDS] == list(MADE)


@pytest.mark.parametrize(("name", "command"), COMMANDS)
def test_known_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    make, expected = MADE[name]
    make(tmp_path)
    place, *rest = shlex.split(command)
    flags = {option.flags[0]: key for key, option in options_of(Encode).items()}
    given = {flags[flag]: value for flag, value in zip(rest[::2], rest[1::2], strict=True)}
    options = Encode(place, **given)
    found = read(options.clips, **layout_of(options).settings())
    assert [numbers for numbers, _ in found] == expected
