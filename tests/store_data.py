"""Stores that the tests of the store share: rows that tell their clip and frame."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack, closing, contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from ldf_video.intake.batches import Transform
from ldf_video.store import StoreReader, StoreSpec, StoreWriter, verify_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

FPS = Fraction(30000, 1001)
SPEC = StoreSpec(
    "latents", (3, 2), "float16", {"size": [32, 32], "fps": None, "weights": "ab" * 32}
)
OTHER = StoreSpec("latents", (3, 2), "float16", {**SPEC.settings, "size": [64, 64]})
FRAMES = StoreSpec("frames", (2, 2, 3), "uint8", {"size": [2, 2]})
STAMP = {"size": 10, "mtime_ns": 20}


def make_rows(clip: int, num_frames: int, *, spec: StoreSpec = SPEC) -> np.ndarray:
    """Rows (num_frames, *item_shape) that no other clip shares; none is zero."""
    rng = np.random.default_rng(clip)
    shape = (num_frames, *spec.item_shape)
    return rng.integers(1, 255, shape).astype(spec.numpy_dtype)


def make_clips(lengths: Mapping[str, int], *, spec: StoreSpec = SPEC) -> dict[str, np.ndarray]:
    """Rows by clip id, in the order of the ids."""
    return {
        clip_id: make_rows(number, lengths[clip_id], spec=spec)
        for number, clip_id in enumerate(sorted(lengths))
    }


def add_clip(writer: StoreWriter, clip_id: str, rows: np.ndarray, *, fps: Fraction = FPS) -> None:
    """Append, finish and give a source of the same name."""
    writer.append(clip_id, rows, fps=fps)
    writer.finish_clip(clip_id, fps=fps)
    writer.set_source(f"{clip_id}.mp4", **STAMP, clip_ids=[clip_id])


def rows_by_source(store: Path) -> dict[str, np.ndarray]:
    """Rows by name of the source, of an array of clips with the clip's number behind it.

    The store must be sound.
    """
    assert verify_store(store).problems == ()
    reader, found = StoreReader(store), {}
    for source in reader.sources():
        clip = reader.index(source.clip_id)
        number = source.clip_id.partition("#")[2]
        found[source.source + number] = reader.read(clip, 0, int(reader.lengths[clip]))
    return found


def write_store(
    path: Path, clips: Mapping[str, np.ndarray], *, spec: StoreSpec = SPEC, **options: Any
) -> None:
    with StoreWriter(path, spec, **options) as writer:
        for clip_id, rows in clips.items():
            add_clip(writer, clip_id, rows)


def encode(
    path: Path,
    clips: Mapping[str, np.ndarray],
    *,
    step: int,
    rows_per_shard: int,
    by_rounds: bool = False,
    **options: Any,
) -> StoreWriter:
    """What a pipeline does: skip what is there, go on where a clip ends, `step` frames in turn.

    With `by_rounds` a commit comes after each round of all clips.
    """
    shard_bytes = rows_per_shard * SPEC.row_bytes
    with StoreWriter(path, SPEC, shard_bytes=shard_bytes, **options) as writer:
        todo = [c for c in clips if not writer.is_current(f"{c}.mp4", **STAMP)]
        for first in range(0, max(map(len, clips.values())), step):
            for clip_id in todo:
                rows, stop = clips[clip_id], first + step
                start = max(first, writer.committed_frames(clip_id))
                if start < min(stop, len(rows)):
                    writer.append(clip_id, rows[start:stop], fps=FPS)
                if first < len(rows) <= stop and not writer.has_clip(clip_id):
                    writer.finish_clip(clip_id, fps=FPS)
            if by_rounds:
                writer.commit()
        for clip_id in todo:
            writer.set_source(f"{clip_id}.mp4", **STAMP, clip_ids=[clip_id])
    return writer


@contextmanager
def opened(path: Path, num_ranks: int, **options: Any) -> Iterator[list[StoreWriter]]:
    """The writers of all processes, the first opened first."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(StoreWriter(path, SPEC, rank=rank, num_ranks=num_ranks, **options))
            for rank in range(num_ranks)
        ]


def write_parts(
    path: Path, clips: Mapping[str, np.ndarray], num_ranks: int, **options: Any
) -> None:
    """Clip i to process i % num_ranks."""
    with opened(path, num_ranks, **options) as writers:
        for number, (clip_id, rows) in enumerate(clips.items()):
            add_clip(writers[number % num_ranks], clip_id, rows)


def change_manifest(path: Path, script: str) -> None:
    """Run SQL on a store's manifest."""
    with closing(sqlite3.connect(path / "manifest.sqlite")) as connection:
        connection.executescript(script)


def assert_holds(reader: StoreReader, clips: Mapping[str, np.ndarray]) -> None:
    """The reader holds exactly these clips, byte for byte, and its checksums agree."""
    assert reader.clip_ids == sorted(clips)
    for number, clip_id in enumerate(reader.clip_ids):
        stored = reader.read(number, 0, int(reader.lengths[number]))
        assert stored.dtype == clips[clip_id].dtype
        assert stored.tobytes() == clips[clip_id].tobytes()
        assert stored.shape == clips[clip_id].shape
    assert reader.verify() == []


class Function(Transform):
    """A function of (frames, num_real) as a transform of batches."""

    def __init__(self, function: Callable[[Any, int], Any]) -> None:
        self.function = function

    def __call__(self, frames: Any, num_real: int) -> Any:
        return self.function(frames, num_real)
