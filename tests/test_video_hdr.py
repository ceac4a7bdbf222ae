"""HDR patches of known light against the SDR that they stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av
import numpy as np
import pytest

from ldf_video.video.geometry import Geometry
from ldf_video.video.hdr import to_sdr
from ldf_video.video.read import open_clips

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

PQ, HLG = 16, 18
TRANSFERS = pytest.mark.parametrize("transfer", [PQ, HLG])
WHITE_NITS = 203
# sRGB as graded, and light in nits of linear BT.709 from its definition (IEC 61966-2-1).
PATCHES = [
    (255, 255, 255),
    (188, 188, 188),
    (128, 128, 128),
    (64, 64, 64),
    (0, 0, 0),
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (200, 140, 110),
    (60, 110, 200),
]
# ITU-R BT.2087-0, M2: linear BT.709 to linear BT.2020.
TO_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
LUMA_2020 = np.array([0.2627, 0.6780, 0.0593])


def _nits(srgb: Sequence[int]) -> NDArray[np.float64]:
    """Light (3,) of BT.2020's primaries."""
    signal = np.array(srgb) / 255
    linear = np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)
    return TO_2020 @ linear * WHITE_NITS


def _signal(nits: NDArray[np.float64], transfer: int) -> NDArray[np.float64]:
    """ITU-R BT.2100-2: the inverse EOTF of PQ; of HLG the inverse OOTF (1,000 nits), the OETF."""
    if transfer == PQ:
        y = (nits / 10_000) ** (2610 / 16384)
        c1, c2, c3 = 3424 / 4096, 2413 / 128, 2392 / 128
        return np.asarray(((c1 + c2 * y) / (1 + c3 * y)) ** (2523 / 32))
    luminance = max(float(nits @ LUMA_2020), 1e-9) / 1000
    scene = nits / 1000 * luminance ** ((1 - 1.2) / 1.2)
    log = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), log)


def _write(
    path: Path,
    signals: Sequence[NDArray[np.float64]],
    transfer: int,
    *,
    pix_fmt: str,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
) -> Path:
    """A frame a signal (3,), flat, limited range, 10 bits, BT.2020 non-constant luminance."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options or {"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc = 9, 9, transfer
        for signal in signals:
            y = signal @ LUMA_2020
            chroma = (signal[2] - y) / 1.8814, (signal[0] - y) / 1.4746
            codes = [round(876 * y + 64), *(round(896 * c + 512) for c in chroma)]
            frame = av.VideoFrame(64, 48, pix_fmt)
            for plane, code in zip(frame.planes, codes, strict=True):
                plane.update(np.full(plane.buffer_size // 2, code, np.uint16).tobytes())
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@TRANSFERS
@pytest.mark.parametrize("patch", PATCHES)
def test_patches_come_out_as_graded(patch: tuple[int, ...], transfer: int) -> None:
    codes = np.round(_signal(_nits(patch), transfer) * 65535).astype(np.uint16)
    assert np.abs(to_sdr(codes[None, None], transfer)[0, 0].astype(int) - patch).max() <= 1


@TRANSFERS
@pytest.mark.parametrize("pix_fmt", ["yuv420p10le", "yuv444p10le"])
@pytest.mark.parametrize("size", [(12, 16), (48, 64), (96, 128)])
def test_films_come_out_as_graded(
    tmp_path: Path, transfer: int, pix_fmt: str, size: tuple[int, int]
) -> None:
    patches = [patch for patch in PATCHES if patch != (0, 255, 0)]
    signals = [_signal(_nits(patch), transfer) for patch in patches]
    path = _write(tmp_path / "a.mkv", signals, transfer, pix_fmt=pix_fmt)
    (clip,) = open_clips(path, Geometry(*size))
    for patch, frame in zip(patches, clip.frames, strict=True):
        assert np.abs(frame.astype(int) - patch).max() <= 6


@TRANSFERS
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_what_the_container_alone_says_counts(tmp_path: Path, name: str, transfer: int) -> None:
    said_nothing = "log-level=none:lossless=1:colorprim=2:transfer=2:colormatrix=2"
    path = _write(
        tmp_path / name,
        [_signal(_nits((200, 140, 110)), transfer)] * 3,
        transfer,
        pix_fmt="yuv420p10le",
        codec="libx265",
        options={"x265-params": said_nothing},
    )
    (clip,) = open_clips(path, Geometry(12, 16))
    assert np.abs(np.stack(list(clip.frames)).astype(int) - (200, 140, 110)).max() <= 2


@pytest.mark.parametrize(
    ("nits", "pq_percent", "hlg_percent"), [(26, 38, 38), (162, 56, 71), (179, 57, 73)]
)
def test_the_levels_of_test_charts_come_out_as_they_reflect(
    nits: int, pq_percent: int, hlg_percent: int
) -> None:
    # ITU-R BT.2408-7, table 1, whose percentages are rounded.
    reflectance = nits / WHITE_NITS
    expected = 255 * (1.055 * reflectance ** (1 / 2.4) - 0.055)
    for transfer, percent in ((PQ, pq_percent), (HLG, hlg_percent)):
        codes = np.full((1, 1, 3), round(percent / 100 * 65535), np.uint16)
        assert np.abs(to_sdr(codes, transfer).astype(float) - expected).max() <= 4


@TRANSFERS
def test_light_above_white_is_white_and_keeps_its_hue(transfer: int) -> None:
    for nits in (203.5, 500, 1000):
        codes = np.round(_signal(np.full(3, nits), transfer) * 65535).astype(np.uint16)
        assert to_sdr(codes[None, None], transfer).tolist() == [[[255] * 3]]
    orange = np.round(_signal(_nits((255, 128, 0)) * 4, transfer) * 65535).astype(np.uint16)
    assert np.abs(to_sdr(orange[None, None], transfer)[0, 0].astype(int) - (255, 128, 0)).max() <= 1
