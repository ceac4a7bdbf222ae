"""Which arrays of a file are clips: those that are named, else all that can be video."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from ldf_video.arrays.axes import is_frame
from ldf_video.arrays.frame_array import (
    ArrayClips,
    Beside,
    FrameArray,
    NumberArray,
    is_at,
    pattern_of,
    stacked,
)
from ldf_video.arrays.values import NotNumbersError, is_ragged
from ldf_video.clips.actions import REPEATED, Actions
from ldf_video.errors import ReadError, counted
from ldf_video.sources.name_numbers import natural_key
from ldf_video.sources.series import find_numbered

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ldf_video.sources.source import Source

EPISODE_ENDS = "meta/episode_ends"
"""Of diffusion policy's stores: behind which frame each episode ends, in all arrays of `data`."""
_SHOWN = 5


def clips_of(
    arrays: Iterable[NumberArray], source: Source, *, container: str, actions: str
) -> ArrayClips:
    """Returns the clips of a file that holds arrays, in natural order of their paths.

    Without a place in the source, all arrays that can be video are taken, but for those that repeat
    others. Arrays of one frame whose names differ in a number are one clip. Where the file says
    where episodes end, each is a clip.

    Args:
        arrays: all of the file.
        source: the file, the place in it, and what the user said of it.
        container: the format's name, for people.
        actions: what of the file tells of its frames, see `Layout.actions`.

    Raises:
        ReadError: if there is no such array, or none that can be video; names those that are there.
    """
    known = {array.name: array for array in arrays}
    names = _chosen(known, source)
    joined = {array.name: array for array in _joined([known[name] for name in names])}
    found, refused, others = list[FrameArray](), dict[str, str](), dict[str, str]()
    for name in sorted(joined, key=natural_key):
        try:
            found.append(FrameArray(joined[name], source.layout))
        except NotNumbersError as error:
            others.setdefault(pattern_of(name), f"{name}: {error}")
        except ReadError as error:
            refused.setdefault(pattern_of(name), f"{name}: {error}")
    if not found:
        likely = [said for said in refused.values() if "does not look" not in said]
        listed = "; ".join((likely or [*refused.values()] or [*others.values()])[:_SHOWN])
        raise ReadError(f"{container} without an array that is video for sure: {listed}")
    ends = [_ends(known.get(EPISODE_ENDS), array) for array in found]
    said = [_unused_camera(names, source.layout.camera), _unused_frames(known, found, ends)]
    if len(patterns := dict.fromkeys(pattern_of(array.array.name) for array in found)) > 1:
        said += [f"takes {_listed(patterns)}; for one alone: PATH::{next(iter(patterns))}"]
    told = Actions(known, actions)
    beside = [_beside(told, *pair) for pair in zip(found, ends, strict=True)]
    return ArrayClips(
        found, container=container, ends=ends, beside=beside, said="; ".join(filter(None, said))
    )


def _beside(actions: Actions, array: FrameArray, ends: tuple[int, ...]) -> Beside:
    """What tells of the frames of an array; what is wrong with it costs no frame."""
    try:
        found = actions.beside(array, is_cut=bool(ends))
    except ReadError as error:
        return Beside(said=f"conditions are not used, {error}")
    return Beside() if found is None else Beside(found, actions.said(found))


def _chosen(known: Mapping[str, NumberArray], source: Source) -> list[str]:
    """The paths of arrays that the user means, in natural order."""
    of_objects = (name for name, a in known.items() if a.dtype.hasobject and not is_ragged(a.dtype))
    names = list(known.keys() - set(of_objects))
    names.sort(key=natural_key)
    if not names:
        raise ReadError("it holds no array of numbers")
    found = [name for name in names if is_at(name, source.inner)]
    likely = [name for name in names if len(known[name].shape) > 2] or names  # no actions
    if not found:
        raise ReadError(f"nothing at ::{source.inner}; it holds {_listed(likely)}")
    if not source.inner:
        found = [name for name in found if not REPEATED & set(name.split("/"))]
    camera = source.layout.camera
    if camera and len(found) > 1:
        found = [name for name in found if _is_of_camera(name, camera)]
        if not found:
            raise ReadError(f"no array of a camera {camera}; it holds {_listed(likely)}")
    return found


def _is_of_camera(name: str, camera: str) -> bool:
    return re.search(rf"(^|[/._]){re.escape(camera)}($|[/._])", name) is not None


def _unused_camera(names: Sequence[str], camera: str) -> str:
    """That the only array is not of the camera that was named, if so."""
    if not camera or len(names) > 1 or _is_of_camera(names[0], camera):
        return ""
    return f"--camera {camera}: takes {names[0]}, the only one there"


def _joined(arrays: Sequence[NumberArray]) -> list[NumberArray]:
    """All arrays, those of one frame whose names differ in a number as one."""
    frames = {array.name: array for array in arrays if is_frame(array.shape)}
    joined = [array for array in arrays if array.name not in frames]
    folders = dict[str, list[str]]()
    for name in frames:
        folder, _, last = name.rpartition("/")
        folders.setdefault(folder, []).append(last)
    for folder, lasts in folders.items():
        prefix, alone = f"{folder}/" if folder else "", set(lasts)
        for series in find_numbered(lasts):
            own = [frames[prefix + last] for last in series.names]
            alone -= set(series.names)
            joined.append(_stacked(own, prefix + series.pattern))
        joined += [frames[prefix + last] for last in alone]
    return joined


def _stacked(frames: Sequence[NumberArray], name: str) -> NumberArray:
    """Arrays of one frame each as one; those of another shape or type than the first end it."""
    first = frames[0]
    others = ((one.shape, one.dtype) != (first.shape, first.dtype) for one in frames)
    alike = next((k for k, is_other in enumerate(others) if is_other), len(frames))
    other = alike < len(frames) and frames[alike].name
    note = f"ends before {other}, which has another shape" if other else ""
    return stacked(frames[:alike], name, note=lambda: note, axes=4)


def _ends(ends: NumberArray | None, array: FrameArray) -> tuple[int, ...]:
    """Behind which frames of an array episodes end; empty where that is not said of it."""
    if ends is None or "N" in array.axes or len(ends.shape) != 1 or ends.dtype.kind not in "iuf":
        return ()
    read = ends.read((slice(None),))
    numbers = sorted({int(number) for number in read[np.isfinite(read)] if number > 0})
    if not numbers or numbers[-1] > array.num_frames:
        return ()
    return tuple(numbers)


def _unused_frames(
    known: Mapping[str, NumberArray], arrays: Sequence[FrameArray], ends: Sequence[tuple[int, ...]]
) -> str:
    """That a file says where episodes end and an array has other frames, if so."""
    for array, own in zip(arrays, ends, strict=True) if EPISODE_ENDS in known else ():
        if own and own[-1] < array.num_frames:
            counts = f"{own[-1]:,} of {counted(array.num_frames, 'frame')}"
            return f"{EPISODE_ENDS} names {counts}: those behind are left out"
        if not own and "N" not in array.axes:
            return f"{EPISODE_ENDS} does not fit {array.array.name}, which is taken for one episode"
    return ""


def _listed(names: Iterable[str]) -> str:
    """Some of many names, those alike but for numbers as one."""
    patterns = list(dict.fromkeys(map(pattern_of, names)))
    more = f" and {len(patterns) - _SHOWN:,} more" if len(patterns) > _SHOWN else ""
    return (", ".join(patterns[:_SHOWN]) or "no array") + more
