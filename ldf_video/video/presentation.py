"""From a decoded frame to RGB as it is shown: margins off, upright, cropped, scaled, SDR, opaque.

Videos, pictures and arrays go through the same filter.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import av
import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import SideDataContainer, Type
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from ldf_video.video.colour import HDR_TRANSFERS, has_alpha, is_untagged_hd, over_white, to_sdr
from ldf_video.video.geometry import SQUARE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ldf_video.video.geometry import Box, Geometry
    from ldf_video.video.headers import Margins

# Area averages; the other flags stop libswscale from sharing chroma between neighbours when
# scaling.
_SCALE = (
    Interpolation.AREA
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.BITEXACT
)
# At equal size averages would smear chroma, which players repeat; without the other flags white
# comes out as 253.
_CONVERT = (
    Interpolation.POINT
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.BITEXACT
)
# For these, at an even height and without those flags, libswscale takes another way, which is twice
# as fast, repeats chroma and gets greys right to a level.
_DIRECT = frozenset({"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuva420p"})
_CONVERT_DIRECT = Interpolation.AREA
_LIMITED_WHITE = 65283  # what libswscale makes of it in 16 bits


class Orientation(NamedTuple):
    """What is done to a stored picture: transposed first, then rows, columns reversed."""

    transposed: bool = False
    rows: bool = False
    columns: bool = False


UPRIGHT = Orientation()
_EXIF = {
    2: Orientation(columns=True),
    3: Orientation(rows=True, columns=True),
    4: Orientation(rows=True),
    5: Orientation(transposed=True),
    6: Orientation(transposed=True, columns=True),
    7: Orientation(transposed=True, rows=True, columns=True),
    8: Orientation(transposed=True, rows=True),
}
_TURNS = (UPRIGHT, _EXIF[8], _EXIF[3], _EXIF[6])  # counter-clockwise, by quarters


def exif_orientation(tag: object) -> Orientation:
    """Returns what EXIF's tag 274 says (Exif 2.32, 4.6.4 A); values out of [1, 8] mean nothing."""
    return _EXIF.get(tag, UPRIGHT) if isinstance(tag, int) else UPRIGHT


def frame_orientation(frame: av.VideoFrame) -> Orientation:
    """Returns what a decoded frame's display matrix says, upright where it has none."""
    # Not frame.side_data: that holds the frame that holds it, and memory waits for a collection.
    try:
        known = SideDataContainer(frame)  # type: ignore[call-arg]
    except ValueError:  # PyAV does not know all kinds, such as EXIF; `rotation` has no mirror
        return _TURNS[round(frame.rotation / 90) % 4]
    for index in range(len(known)):  # iterating gives data, from PyAV 19 on types
        data = known[index]
        if data.type == Type.DISPLAYMATRIX:
            return matrix_orientation(np.frombuffer(bytes(data), np.int32).tolist())
    return UPRIGHT


def upright_size(frame: av.VideoFrame) -> tuple[int, int]:
    """Returns rows and columns of a decoded frame as it is shown."""
    size = frame.height, frame.width
    return size[::-1] if frame_orientation(frame).transposed else size


def matrix_orientation(matrix: Sequence[float]) -> Orientation:
    """Returns the nearest of the eight orientations; only the first five numbers count.

    ISO/IEC 14496-12, 6.2.2: the pixel (p, q), q downwards, of the stored picture is shown at
    (a p + c q + x, b p + d q + y), where the matrix is a b u, c d v, x y w.
    """
    a, b, _, c, d = matrix[:5]
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(rows=d < 0, columns=a < 0)
    return Orientation(transposed=True, rows=b < 0, columns=c < 0)


def upright(image: NDArray[np.uint8], orientation: Orientation) -> NDArray[np.uint8]:
    """Returns `image` (H, W, 3) as it is shown; may be a view."""
    transposed, rows, columns = orientation
    image = image.transpose(1, 0, 2) if transposed else image
    image = image[::-1] if rows else image
    return image[:, ::-1] if columns else image


class Cropper:
    """Cuts margins off frames, copying nothing."""

    def __init__(self, margins: Margins) -> None:
        self._margins = margins
        self._graph, self._shape = Graph(), ""

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        """Returns what is shown of a frame; the frame itself where that would be nothing."""
        top, bottom, left, right = self._margins
        width, height = frame.width - left - right, frame.height - top - bottom
        if width <= 0 or height <= 0:
            return frame
        if is_untagged_hd(frame):  # by all of its rows
            frame.colorspace = Colorspace.ITU709
        shape = (
            f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}"
            f":time_base={frame.time_base}:colorspace={frame.colorspace}:range={frame.color_range}"
        )
        if shape != self._shape:
            self._graph, self._shape = Graph(), shape
            self._graph.link_nodes(
                self._graph.add("buffer", shape),
                self._graph.add("crop", f"{width}:{height}:{left}:{top}:exact=1"),
                self._graph.add("buffersink"),
            ).configure()
        self._graph.vpush(frame)
        return self._graph.vpull()


class Resizer:
    """Turns decoded frames of any shape into RGB arrays of one geometry.

    Scalers are expensive to make and kept; libswscale remakes one when the source's shape changes.
    """

    def __init__(
        self,
        geometry: Geometry,
        source_size: tuple[int, int] | None = None,
        sample_aspect_ratio: Fraction = SQUARE,
    ) -> None:
        """Makes no scaler yet; for `source_size`, which the crop goes by, see `Media`."""
        self._geometry, self._source_size = geometry, source_size
        self._sample_aspect_ratio = sample_aspect_ratio
        self._whole, self._part, self._alpha = (VideoReformatter() for _ in range(3))
        self._planned: tuple[tuple[int, int, bool], Box, tuple[int, int] | None] | None = None

    def __call__(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """Returns the frame as uint8 (height, width, 3) RGB, C-contiguous.

        Equal sizes move no pixel: lossless RGB comes out bit for bit. What is transparent is laid
        over white, as FFmpeg does where a GIF shows nothing. HDR is mapped to SDR.
        """
        orientation = frame_orientation(frame)
        if has_alpha(frame.format.name):
            frame = self._over_white(frame)
        box, whole = self._plan(frame.height, frame.width, orientation.transposed)
        if whole is None:
            # Enlarging: cut first, so that a thin part of a wide frame does not enlarge all of it.
            image = upright(_rgb(self._whole, frame, frame.height, frame.width), orientation)
            cut = _slice(image, box.top, box.left, box.height, box.width)
            part = av.VideoFrame.from_ndarray(cut, format="rgb24")
            return _rgb(self._part, part, self._geometry.height, self._geometry.width)
        # Reducing: scale the whole to where the box has the target's size, then cut. One pass, few
        # pixels.
        stored = whole[::-1] if orientation.transposed else whole
        small = upright(_rgb(self._whole, frame, *stored), orientation)
        target_height, target_width = self._geometry.height, self._geometry.width
        top, left = (whole[0] - target_height) // 2, (whole[1] - target_width) // 2
        return _slice(small, top, left, target_height, target_width)

    def _plan(self, height: int, width: int, sideways: bool) -> tuple[Box, tuple[int, int] | None]:
        """Returns the box and the whole size for stored frames of a shape; the last is kept."""
        shape = height, width, sideways
        if self._planned is None or self._planned[0] != shape:
            height, width = self._source_size or ((width, height) if sideways else (height, width))
            aspect = 1 / self._sample_aspect_ratio if sideways else self._sample_aspect_ratio
            box = self._geometry.box(height, width, sample_aspect_ratio=aspect)
            self._planned = shape, box, self._geometry.whole_size(height, width, box=box)
        return self._planned[1:]

    def _over_white(self, frame: av.VideoFrame) -> av.VideoFrame:
        is_hdr = frame.color_trc in HDR_TRANSFERS
        pix_fmt = "rgba64le" if is_hdr else "rgba"
        image = _reformat(self._alpha, frame, frame.height, frame.width, pix_fmt)
        if image[..., 3].min() == np.iinfo(image.dtype).max:
            return frame
        if is_hdr:
            colours = _to_sdr(image[..., :3], frame)
            image = np.dstack([colours, (image[..., 3] >> 8).astype(np.uint8)])
        return av.VideoFrame.from_ndarray(over_white(image), format="rgb24")


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


def _slice(
    image: NDArray[np.uint8], top: int, left: int, height: int, width: int
) -> NDArray[np.uint8]:
    return np.ascontiguousarray(image[top : top + height, left : left + width])
