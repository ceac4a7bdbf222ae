"""Small files in the layouts of known data sets, of barcoded frames."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from clip_files import barcode, read_barcode, write_clip

from ldf_video.clips.read import open_clips
from ldf_video.files.layout import Layout
from ldf_video.sources.search import find_sources
from ldf_video.video.geometry import Geometry

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

NATIVE = Geometry(48, 64)
FRAMES = np.stack([barcode(number) for number in range(20)])
GREY = FRAMES[..., 0]
ALL = list(range(20))


def numbers_of(place: Path | str, **layout: str) -> list[list[int]]:
    """The numbers on the frames of each clip under a place."""
    return [numbers for numbers, _ in read(place, **layout)]


def notes_of(place: Path | str, **layout: str) -> set[str]:
    """What is said of the clips under a place."""
    return {note for _, note in read(place, **layout)}


def read(place: Path | str, **layout: str) -> list[tuple[list[int], str]]:
    """The numbers on the frames of each clip under a place, and what is said of it."""
    found = []
    for source in find_sources(place, layout=Layout(**layout)):
        for clip in open_clips(source, NATIVE):
            numbers = [read_barcode(frame) for frame in clip.frames]
            found.append((numbers, clip.note()))
    return found


def seen_at(numbers: Iterable[int], width: int) -> NDArray[np.float32]:
    """A row of actions for each frame, which say on which frame's sight they were taken."""
    return np.repeat(np.array([*numbers], np.float32)[:, None], width, axis=1)


def write_push_t(zarr: Any, path: Path, *, version: int = 2) -> Path:
    """A store of diffusion policy: float32 of 0 to 255, episodes of 5, 7 and 8 frames."""
    root = zarr.open_group(path, mode="w", zarr_format=version)
    root.create_array("data/img", data=FRAMES.astype(np.float32), chunks=(6, 48, 64, 3))
    root.create_array("data/action", data=seen_at(range(20), 2))
    root.create_array("meta/episode_ends", data=np.array([5, 12, 20]))
    return path


def write_robomimic(h5py: Any, path: Path) -> Path:
    """A file of robomimic: demos of 3, 2 and 4 frames by two cameras, each with its next ones."""
    with h5py.File(path, "w") as file:
        for demo, numbers in ((0, [1, 2, 3]), (2, [4, 5]), (10, [6, 7, 8, 9])):
            group = file.create_group(f"data/demo_{demo}")
            group["actions"] = seen_at(numbers, 7)
            for kind in ("obs", "next_obs"):
                group[f"{kind}/agentview_image"] = FRAMES[numbers]
                group[f"{kind}/robot0_eye_in_hand_image"] = FRAMES[[10 + n for n in numbers]]
                group[f"{kind}/robot0_eef_pos"] = np.zeros((len(numbers), 3))
    return path


def write_lerobot(parquet: Any, root: Path) -> Path:
    """A LeRobot data set of version 3: two films a camera, of episodes of 5, 7 and 3 frames."""
    import pyarrow

    films = ([(0, 5), (5, 12)], [(12, 15)])
    (root / "meta" / "episodes" / "chunk-000").mkdir(parents=True)
    names = {"motors": ["pan", "lift"]}
    action = {"dtype": "float32", "shape": [2], "names": names}
    state = {"dtype": "float32", "shape": [1], "names": None}
    image = {"dtype": "video", "shape": [48, 64, 3], "names": None}
    features = {"observation.images.top": image, "observation.state": state, "action": action}
    info = {"codebase_version": "v3.0", "fps": 10, "features": features}
    (root / "meta" / "info.json").write_text(json.dumps(info))
    rows: dict[str, list[Any]] = {"episode_index": [0, 1, 2], "length": [5, 7, 3]}
    for offset, camera in enumerate(("top", "wrist")):
        key = f"observation.images.{camera}"
        for number, episodes in enumerate(films):
            path = root / "videos" / key / "chunk-000" / f"file-{number:03}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            numbers = range(episodes[0][0], episodes[-1][1])
            write_clip(path, [barcode(100 * offset + k) for k in numbers], fps=10)
        rows[f"videos/{key}/chunk_index"] = [0, 0, 0]
        rows[f"videos/{key}/file_index"] = [0, 0, 1]
        rows[f"videos/{key}/from_timestamp"] = [0.0, 0.5, 0.0]
        rows[f"videos/{key}/to_timestamp"] = [0.5, 1.2, 0.3]
    rows |= {"data/chunk_index": [0, 0, 0], "data/file_index": [0, 0, 1]}
    rows |= {"dataset_from_index": [0, 5, 12], "dataset_to_index": [5, 12, 15]}
    parquet.write_table(pyarrow.table(rows), root / "meta/episodes/chunk-000/file-000.parquet")
    (root / "data" / "chunk-000").mkdir(parents=True)
    for number, (begin, end) in enumerate([(0, 12), (12, 15)]):
        table = {
            "episode_index": [0] * 5 + [1] * 7 if number == 0 else [2] * 3,
            "action": seen_at(range(begin, end), 2).tolist(),
            "observation.state": [float(k) for k in range(begin, end)],
        }
        path = root / f"data/chunk-000/file-{number:03}.parquet"
        parquet.write_table(pyarrow.table(table), path, row_group_size=4)
    return root
