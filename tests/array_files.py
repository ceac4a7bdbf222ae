"""Small files in the layouts of known data sets, of barcoded frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from clip_files import barcode, read_barcode

from ldf_video.video.geometry import Geometry
from ldf_video.video.layout import Layout
from ldf_video.video.read import open_clips
from ldf_video.video.sources import find_sources

if TYPE_CHECKING:
    from pathlib import Path

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


def write_push_t(zarr: Any, path: Path, *, version: int = 2) -> Path:
    """A store of diffusion policy: float32 of 0 to 255, episodes of 5, 7 and 8 frames."""
    root = zarr.open_group(path, mode="w", zarr_format=version)
    root.create_array("data/img", data=FRAMES.astype(np.float32), chunks=(6, 48, 64, 3))
    root.create_array("data/action", data=np.zeros((20, 2), np.float32))
    root.create_array("meta/episode_ends", data=np.array([5, 12, 20]))
    return path


def write_robomimic(h5py: Any, path: Path) -> Path:
    """A file of robomimic: demos of 3, 2 and 4 frames by two cameras, each with its next ones."""
    with h5py.File(path, "w") as file:
        for demo, numbers in ((0, [1, 2, 3]), (2, [4, 5]), (10, [6, 7, 8, 9])):
            group = file.create_group(f"data/demo_{demo}")
            group["actions"] = np.zeros((len(numbers), 7))
            for kind in ("obs", "next_obs"):
                group[f"{kind}/agentview_image"] = FRAMES[numbers]
                group[f"{kind}/robot0_eye_in_hand_image"] = FRAMES[[10 + n for n in numbers]]
                group[f"{kind}/robot0_eef_pos"] = np.zeros((len(numbers), 3))
    return path
