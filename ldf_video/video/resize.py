"""Crop, scale and turn one decoded frame; videos and arrays go through the same filter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from ldf_video.video.geometry import SQUARE
from ldf_video.video.pictures import over_white

if TYPE_CHECKING:
    from fractions import Fraction

    from numpy.typing import NDArray

    from ldf_video.video.geometry import Box, Geometry

# Area averages; the other flags stop libswscale from sharing chroma between neighbours when
# scaling.
_SCALE = (
    Interpolation.AREA
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.BITEXACT
)
# At equal size they would smear chroma across blocks; plain conversion repeats it, as players do.
_CONVERT = Interpolation.AREA


class Resizer:
    """Turns decoded frames of any shape into RGB arrays of one geometry.

    A scaler is dear to make, so one is kept for each of the two passes; libswscale remakes it only
    when the source's shape changes.
    """

    def __init__(
        self,
        geometry: Geometry,
        *,
        source_size: tuple[int, int] | None = None,
        sample_aspect_ratio: Fraction = SQUARE,
    ) -> None:
        """Makes no scaler yet.

        Args:
            geometry: what frames become.
            source_size: rows and columns of the source's frames, where a reader that applies no
                rotation may give them smaller, whole; the crop goes by it.
            sample_aspect_ratio: width of a pixel as shown, over its height, before rotation.
        """
        self._geometry, self._source_size = geometry, source_size
        self._sample_aspect_ratio = sample_aspect_ratio
        self._whole = VideoReformatter()
        self._part = VideoReformatter()
        self._alpha = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """Returns the frame as uint8 (height, width, 3) RGB, C-contiguous.

        Equal sizes move no pixel: lossless RGB comes out bit for bit. What is transparent is laid
        over white, as FFmpeg does where a GIF shows nothing.
        """
        turns = quarter_turns(frame.rotation)
        frame = self._opaque(frame)
        sideways = turns % 2 == 1
        height, width = (frame.width, frame.height) if sideways else (frame.height, frame.width)
        height, width = self._source_size or (height, width)
        aspect = 1 / self._sample_aspect_ratio if sideways else self._sample_aspect_ratio
        box = self._geometry.box(height, width, sample_aspect_ratio=aspect)
        whole = whole_size(self._geometry, height, width, box=box)
        if whole is None:
            # Enlarging: cut first, so that a thin part of a wide frame does not enlarge all of it.
            cut = _slice(
                upright(self._rgb(frame, height=frame.height, width=frame.width), turns), box
            )
            return self._enlarge(cut)
        # Reducing: scale the whole to where the box has the target's size, then cut. One pass, few
        # pixels.
        target = (self._geometry.height, self._geometry.width)
        stored = whole[::-1] if sideways else whole
        small = upright(self._rgb(frame, height=stored[0], width=stored[1]), turns)
        top, left = (whole[0] - target[0]) // 2, (whole[1] - target[1]) // 2
        return np.ascontiguousarray(small[top : top + target[0], left : left + target[1]])

    def _opaque(self, frame: av.VideoFrame) -> av.VideoFrame:
        if not any(component.is_alpha for component in frame.format.components):
            return frame
        rgba = self._alpha.reformat(frame, format="rgba", interpolation=_CONVERT, threads=1)
        image = np.asarray(rgba.to_ndarray(), dtype=np.uint8)
        if image[..., 3].min() == 255:
            return frame
        return av.VideoFrame.from_ndarray(over_white(image), format="rgb24")

    def _rgb(self, frame: av.VideoFrame, *, height: int, width: int) -> NDArray[np.uint8]:
        return _reformat(self._whole, frame, height=height, width=width)

    def _enlarge(self, cut: NDArray[np.uint8]) -> NDArray[np.uint8]:
        frame = av.VideoFrame.from_ndarray(cut, format="rgb24")
        return _reformat(
            self._part, frame, height=self._geometry.height, width=self._geometry.width
        )


def whole_size(geometry: Geometry, height: int, width: int, *, box: Box) -> tuple[int, int] | None:
    """Returns rows and columns of a whole frame where its box has the target's size.

    None where the box has fewer pixels than the target: frames are enlarged, and cut before.
    """
    if box.height * box.width < geometry.height * geometry.width:
        return None
    return (
        _scaled(height, geometry.height, box.height),
        _scaled(width, geometry.width, box.width),
    )


def quarter_turns(rotation_degrees: int) -> int:
    """Returns how many counter-clockwise quarter turns set a frame upright, in [0, 4)."""
    return round(rotation_degrees / 90) % 4


def upright(image: NDArray[np.uint8], turns: int) -> NDArray[np.uint8]:
    """Returns `image` (H, W, 3) turned counter-clockwise by quarter turns; may be a view."""
    return np.rot90(image, turns) if turns else image


def _reformat(
    scaler: VideoReformatter, frame: av.VideoFrame, *, height: int, width: int
) -> NDArray[np.uint8]:
    # One thread: on small pictures more threads double the work and gain no time.
    flags = _CONVERT if (height, width) == (frame.height, frame.width) else _SCALE
    scaled = scaler.reformat(
        frame, width=width, height=height, format="rgb24", interpolation=flags, threads=1
    )
    return np.ascontiguousarray(scaled.to_ndarray(), dtype=np.uint8)


def _slice(image: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    top, left, height, width = box
    return np.ascontiguousarray(image[top : top + height, left : left + width])


def _scaled(side: int, target: int, box_side: int) -> int:
    """Returns the size at which `box_side` of `side` pixels becomes `target`."""
    return max(target, (2 * side * target + box_side) // (2 * box_side))
