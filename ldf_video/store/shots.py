"""Clips as the runs of frames between their cuts, in the records of a `StoreReader`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Records = npt.NDArray[np.void]

_DIGITS = 12


def split_records(
    clips: Records, extents: Records, clip: Ints, frame: Ints
) -> tuple[Records, Records]:
    """Records of clips and extents, divided before frames of clips.

    Args:
        clips: (n,) of `id`, `num_frames`, `fps_num` and `fps_den`, ordered by id.
        extents: (m,) of `clip`, `shard`, `start` and `num_frames`, in the order of the frames.
        clip: numbers (k,) of the clips that are divided.
        frame: (k,) in each of them, after its first; in order of clip and frame, none twice.

    Returns:
        The same of the pieces, in the same order: an id is the clip's, and of a divided one `+` and
        the number of its first frame behind it.
    """
    clip_starts = _starts(clips["num_frames"])
    stop = int(clips["num_frames"].sum())
    cuts = clip_starts[clip] + frame  # in the order of all frames
    starts = np.union1d(clip_starts, cuts)
    owner = np.searchsorted(clip_starts, starts, "right") - 1
    pieces = _with_longer_ids(clips[owner])
    pieces["num_frames"] = np.diff(np.append(starts, stop))
    divided = np.isin(owner, clip)
    firsts = (starts - clip_starts[owner])[divided]
    suffixes = np.char.add(b"+", np.char.zfill(firsts.astype(f"S{_DIGITS}"), _DIGITS))
    pieces["id"][divided] = np.char.add(pieces["id"][divided], suffixes)

    extent_starts = _starts(extents["num_frames"])
    edges = np.union1d(extent_starts, cuts)
    extent = np.searchsorted(extent_starts, edges, "right") - 1
    places = extents[extent]
    places["start"] += edges - extent_starts[extent]
    places["num_frames"] = np.diff(np.append(edges, stop))
    places["clip"] = np.searchsorted(starts, edges, "right") - 1
    return pieces, places


def _with_longer_ids(clips: Records) -> Records:
    fields: dict[str, Any] = {name: clips.dtype[name] for name in clips.dtype.names or ()}
    fields["id"] = np.dtype(f"S{clips.dtype['id'].itemsize + 1 + _DIGITS}")
    return clips.astype(np.dtype(list(fields.items())))


def _starts(lengths: Ints) -> Ints:
    return np.cumsum(lengths) - lengths
