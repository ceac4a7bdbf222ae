"""Crop, scale and turn one decoded frame; videos and arrays go through the same filter."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from ldf_video.video.geometry import SQUARE
from ldf_video.video.hdr import HDR_TRANSFERS, to_sdr
from ldf_video.video.orientation import frame_orientation, upright
from ldf_video.video.pictures import over_white

if TYPE_CHECKING:
    from fractions import Fraction

    from numpy.typing import NDArray

    from ldf_video.video.geometry import Box, Geometry

UNSPECIFIED = 2
"""FFmpeg's number of a matrix or a transfer that nobody named."""

# Area averages; the other flags stop libswscale from sharing chroma between neighbours when
# scaling.
_SCALE = (
    Interpolation.AREA
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.BITEXACT
)
# At equal size averages would smear chroma across blocks; players repeat it. Without the other
# flags white comes out as 253.
_CONVERT = (
    Interpolation.POINT
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.BITEXACT
)
# For these, at an even height and without those flags, libswscale has a way of its own: twice as
# fast, it repeats chroma and has greys right to a level.
_DIRECT = frozenset({"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuva420p"})
_CONVERT_DIRECT = Interpolation.AREA
_LIMITED_WHITE = 65283  # what libswscale makes of it in 16 bits
_HD_ROWS = 720  # from here on browsers and players take BT.709 where a file does not say


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
        over white, as FFmpeg does where a GIF shows nothing. HDR is mapped to SDR.
        """
        orientation = frame_orientation(frame)
        if has_alpha(frame.format.name):
            frame = self._over_white(frame)
        sideways = orientation.transposed
        height, width = (frame.width, frame.height) if sideways else (frame.height, frame.width)
        height, width = self._source_size or (height, width)
        aspect = 1 / self._sample_aspect_ratio if sideways else self._sample_aspect_ratio
        box = self._geometry.box(height, width, sample_aspect_ratio=aspect)
        whole = whole_size(self._geometry, height, width, box=box)
        if whole is None:
            # Enlarging: cut first, so that a thin part of a wide frame does not enlarge all of it.
            cut = _slice(
                upright(_rgb(self._whole, frame, frame.height, frame.width), orientation), box
            )
            return self._enlarge(cut)
        # Reducing: scale the whole to where the box has the target's size, then cut. One pass, few
        # pixels.
        target = (self._geometry.height, self._geometry.width)
        stored = whole[::-1] if sideways else whole
        small = upright(_rgb(self._whole, frame, *stored), orientation)
        top, left = (whole[0] - target[0]) // 2, (whole[1] - target[1]) // 2
        return np.ascontiguousarray(small[top : top + target[0], left : left + target[1]])

    def _over_white(self, frame: av.VideoFrame) -> av.VideoFrame:
        is_hdr = frame.color_trc in HDR_TRANSFERS
        image = _reformat(
            self._alpha, frame, frame.height, frame.width, "rgba64le" if is_hdr else "rgba"
        )
        if image[..., 3].min() == np.iinfo(image.dtype).max:
            return frame
        if is_hdr:
            colours = _to_sdr(image[..., :3], frame)
            image = np.dstack([colours, (image[..., 3] >> 8).astype(np.uint8)])
        return av.VideoFrame.from_ndarray(over_white(image), format="rgb24")

    def _enlarge(self, cut: NDArray[np.uint8]) -> NDArray[np.uint8]:
        frame = av.VideoFrame.from_ndarray(cut, format="rgb24")
        return _rgb(self._part, frame, self._geometry.height, self._geometry.width)


def is_untagged_hd(frame: av.VideoFrame) -> bool:
    """Returns whether a frame does not say its matrix and is so large that players take BT.709."""
    return frame.colorspace == UNSPECIFIED and frame.height >= _HD_ROWS


@cache
def has_alpha(pix_fmt: str) -> bool:
    """Returns whether pixels of FFmpeg's format `pix_fmt` may be transparent."""
    pixels = av.VideoFormat(pix_fmt)
    return pixels.has_palette or any(component.is_alpha for component in pixels.components)


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


def _rgb(
    scaler: VideoReformatter, frame: av.VideoFrame, height: int, width: int
) -> NDArray[np.uint8]:
    if frame.color_trc in HDR_TRANSFERS:
        return _to_sdr(_reformat(scaler, frame, height, width, "rgb48le"), frame)
    return _reformat(scaler, frame, height, width, "rgb24")


def _to_sdr(codes: NDArray[np.uint16], frame: av.VideoFrame) -> NDArray[np.uint8]:
    is_limited = not frame.format.is_rgb and frame.color_range != ColorRange.JPEG
    return to_sdr(codes, frame.color_trc, full=_LIMITED_WHITE if is_limited else 65535)


def _reformat(
    scaler: VideoReformatter, frame: av.VideoFrame, height: int, width: int, pix_fmt: str
) -> NDArray[Any]:
    flags = _SCALE
    if (height, width) == (frame.height, frame.width):
        is_direct = frame.format.name in _DIRECT and height % 2 == 0
        flags = _CONVERT_DIRECT if is_direct else _CONVERT
    scaled = scaler.reformat(
        frame,
        width=width,
        height=height,
        format=pix_fmt,
        src_colorspace=Colorspace.ITU709 if is_untagged_hd(frame) else None,
        interpolation=flags,
        threads=1,  # on small pictures more threads double the work and gain no time
    )
    return np.ascontiguousarray(scaled.to_ndarray())


def _slice(image: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    top, left, height, width = box
    return np.ascontiguousarray(image[top : top + height, left : left + width])


def _scaled(side: int, target: int, box_side: int) -> int:
    """Returns the size at which `box_side` of `side` pixels becomes `target`."""
    return max(target, (2 * side * target + box_side) // (2 * box_side))
