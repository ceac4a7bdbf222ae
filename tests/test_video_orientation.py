"""The eight ways in which a stored picture may stand."""

from __future__ import annotations

import io
import sys
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from clip_files import barcode, read_barcode
from PIL import Image

from ldf_video.video.geometry import Geometry
from ldf_video.video.orientation import (
    Orientation,
    exif_orientation,
    frame_orientation,
    matrix_orientation,
    upright,
)
from ldf_video.video.read import open_clips

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
# EXIF's tag: a, b, c, d of the display matrix with the same meaning.
MATRICES = {
    1: (1, 0, 0, 1),
    2: (-1, 0, 0, 1),
    3: (-1, 0, 0, -1),
    4: (1, 0, 0, -1),
    5: (0, 1, 1, 0),
    6: (0, 1, -1, 0),
    7: (0, -1, -1, 0),
    8: (0, -1, 1, 0),
}


def _shown(image: np.ndarray, a: int, b: int, c: int, d: int) -> np.ndarray:
    """Moves each pixel to where the matrix shows it (ISO/IEC 14496-12, 6.2.2), from 0 on."""
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    x, y = a * columns + c * rows, b * columns + d * rows
    x, y = x - x.min(), y - y.min()
    shown = np.zeros((y.max() + 1, x.max() + 1, 3), np.uint8)
    shown[y, x] = image
    return shown


@pytest.mark.parametrize("tag", range(1, 9))
def test_all_display_matrices_are_applied(tmp_path: Path, tag: int) -> None:
    a, b, c, d = MATRICES[tag]
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264rgb", rate=25, options={"qp": "0"})
        stream.height, stream.width, stream.pix_fmt = 32, 64, "rgb24"
        # By its own words: the rotation first, counter-clockwise, then the mirror.
        degrees = {5: 90, 6: 270, 7: 90, 8: 90, 3: 180, 4: 0}.get(tag, 0)
        stream.set_display_rotation(degrees, hflip=tag in (2, 7), vflip=tag in (4, 5))
        container.mux(stream.encode(av.VideoFrame.from_ndarray(IMAGE, format="rgb24")))
        container.mux(stream.encode())
    with av.open(str(tmp_path / "a.mp4")) as container:
        known = next(container.decode(video=0)).side_data
        every = [known[index] for index in range(len(known))]  # also as PyAV 19 has them
        (data,) = [data for data in every if data.type.name == "DISPLAYMATRIX"] or [None]
    if data is not None:
        written = np.frombuffer(bytes(data), np.int32)[[0, 1, 3, 4]] // 2**16
        assert written.tolist() == [a, b, c, d]
    expected = _shown(IMAGE, a, b, c, d)
    (clip,) = open_clips(tmp_path / "a.mp4", Geometry(*expected.shape[:2]))
    assert np.array_equal(list(clip.frames), [expected])


@pytest.mark.parametrize("tag", range(1, 9))
def test_exif_and_matrices_say_the_same(tag: int) -> None:
    a, b, c, d = MATRICES[tag]
    orientation = matrix_orientation([a, b, 0, c, d, 0, 0, 0, 1])
    assert exif_orientation(tag) == orientation
    assert np.array_equal(upright(IMAGE, orientation), _shown(IMAGE, a, b, c, d))


@pytest.mark.parametrize("tag", [0, 9, None, "6"])
def test_other_tags_mean_nothing(tag: object) -> None:
    assert exif_orientation(tag) == Orientation()


@pytest.mark.parametrize(
    ("degrees", "turns"), [(0, 0), (90, 1), (-90, 3), (180, 2), (-180, 2), (44, 0), (46, 1)]
)
def test_other_angles_count_as_the_nearest_quarter_turn(degrees: int, turns: int) -> None:
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    orientation = matrix_orientation([cos, -sin, 0, sin, cos, 0, 0, 0, 1])
    assert np.array_equal(upright(IMAGE, orientation), np.rot90(IMAGE, turns))


def test_looking_keeps_no_frame_alive() -> None:
    frame = av.VideoFrame(64, 48, "yuv420p")
    holders = sys.getrefcount(frame)
    assert frame_orientation(frame) == Orientation()
    assert sys.getrefcount(frame) == holders


def test_motion_jpeg_with_exif_comes_upright(tmp_path: Path) -> None:
    # Of FFmpeg's kinds of side data PyAV 18 does not know EXIF, as cameras write it.
    exif, jpeg = Image.Exif(), io.BytesIO()
    exif[271], exif[274] = "a camera", 6
    turned = Image.fromarray(barcode(5)).transpose(Image.Transpose.ROTATE_90)
    turned.save(jpeg, "JPEG", exif=exif, quality=95)
    with av.open(str(tmp_path / "a.avi"), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = *turned.size, "yuvj420p"
        for number in range(3):
            packet = av.Packet(jpeg.getvalue())
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            packet.pts = packet.dts = number
            container.mux(packet)
    (clip,) = open_clips(tmp_path / "a.avi", Geometry(48, 64))
    assert [read_barcode(image) for image in clip.frames] == [5, 5, 5]
