"""Which axis of an array is time, and which are clips, rows, columns and channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ldf_video.errors import ReadError, counted

if TYPE_CHECKING:
    from collections.abc import Mapping

CHANNELS = (1, 3, 4)
"""Sizes of an axis of channels: grey, RGB, and RGB with transparency."""
COLOURS = 3
_LEAST_SIDE, _MOST_ASPECT = 8, 2.4  # of frames, where axes are guessed
_LEAST_TIME_LAST, _MOST_ASPECT_TIME_LAST = 5, 1.5  # fewer may be channels; nobody films with these
_USUAL = {
    3: ("TYX", "YXT"),
    4: ("TYXC", "TCYX", "CTYX", "NTYX", "TNYX", "NYXT"),
    5: ("NTYXC", "NTCYX", "TNCYX", "NCTYX"),
}
"""Orders that data sets have, by number of axes; of one frame there are no axes to guess."""


def readings(shape: tuple[int, ...]) -> list[str]:
    """Returns in which orders of axes a shape may be meant, in the letters of `Layout.axes`.

    Colours that come last leave one reading, as ever: (T, H, W, 3) and (N, T, H, W, 3).
    """
    if len(shape) in (4, 5) and shape[-1] == COLOURS:
        return ["NTYXC"[-len(shape) :]]
    found = [axes for axes in _USUAL.get(len(shape), ()) if _is_likely(axes, shape)]
    # Before the rows one or three are channels; four may be frames.
    return ["TCYX"] if "TCYX" in found and shape[1] in (1, COLOURS) else found


def choose_axes(shape: tuple[int, ...], asked: str = "") -> str:
    """Returns the order of an array's axes: as asked, else the only one that is possible.

    Raises:
        ReadError: if what is asked does not fit, or there are several or no possible orders.
    """
    if asked:
        if len(asked) != len(shape):
            raise ReadError(f"an array of shape {shape}: --axes {asked} names {len(asked)} axes")
        sizes = sizes_of(asked, shape)
        if sizes["C"] not in CHANNELS:
            channels = counted(sizes["C"], "channel")
            raise ReadError(
                f"an array of shape {shape}: {channels} by --axes {asked}; expected 1, 3 or 4"
            )
        return asked
    found = readings(shape)
    if len(found) == 1:
        return found[0]
    if found:
        said = "; ".join(f"--axes {axes}: {describe(axes, shape)}" for axes in found)
        raise ReadError(f"an array of shape {shape} can be read in several ways: {said}")
    if is_frame(shape):
        raise ReadError(
            f"an array of shape {shape} is one frame: put those of a clip into one "
            'file: numpy.save("clip.npy", numpy.stack(frames))'
        )
    raise ReadError(
        f"an array of shape {shape} does not look like video; if it is, say what its axes are: "
        "--axes, with N clips, T frames, Y rows, X columns, C channels"
    )


def is_frame(shape: tuple[int, ...]) -> bool:
    """Returns whether a shape is that of one frame: (H, W), or (H, W, 3), (H, W, 4), (H, W, 1)."""
    if len(shape) == 3 and shape[-1] not in CHANNELS:
        return False
    return len(shape) in (2, 3) and _is_likely("YXC"[: len(shape)], shape)


def sizes_of(axes: str, shape: tuple[int, ...]) -> Mapping[str, int]:
    """Returns the size of each of the five axes by its letter, 1 for those that are not there."""
    return {**dict.fromkeys("NTYXC", 1), **dict(zip(axes, shape, strict=True))}


def describe(axes: str, shape: tuple[int, ...]) -> str:
    """Returns what an array holds, such as "20 frames of 64x48, grey"."""
    sizes = sizes_of(axes, shape)
    clips = f"{counted(sizes['N'], 'clip')} of " if "N" in axes else ""
    frames = f"{counted(sizes['T'], 'frame')} of {sizes['X']}x{sizes['Y']}"
    return clips + frames + {1: ", grey", 3: "", 4: ", RGBA"}.get(sizes["C"], "")


def _is_likely(axes: str, shape: tuple[int, ...]) -> bool:
    """Whether a video may have such sizes: frames neither tiny nor slivers."""
    sizes = sizes_of(axes, shape)
    low, high = sorted((sizes["Y"], sizes["X"]))
    most = _MOST_ASPECT
    if axes.endswith("T"):
        most = _MOST_ASPECT_TIME_LAST if sizes["T"] >= _LEAST_TIME_LAST else 0
    return sizes["C"] in CHANNELS and low >= _LEAST_SIDE and high < most * low
