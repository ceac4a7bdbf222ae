"""TIFF stacks of the programs that write them: which pages are frames, in which numbers."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from clip_files import NATIVE, barcodes, read_barcode

from ldf_video.clips import formats
from ldf_video.clips.read import open_clips
from ldf_video.errors import ReadError
from ldf_video.files.layout import Layout
from ldf_video.sources.folder import folder_series
from ldf_video.sources.search import find_sources

if TYPE_CHECKING:
    from pathlib import Path

tifffile = pytest.importorskip("tifffile")
NUMBERS = list(range(10))
RGB = np.stack(barcodes(NUMBERS))
GREY = RGB[..., 0]
PAIR = np.stack([GREY, 255 - GREY], 1)  # (T, 2, H, W)
GREYS: dict[str, Any] = {"photometric": "minisblack"}


def _read(path: Path, **layout: str) -> list[list[int]]:
    (source,) = find_sources(path, layout=Layout(**layout))
    return [[read_barcode(image) for image in clip.frames] for clip in open_clips(source, NATIVE)]


@pytest.mark.parametrize(
    ("frames", "options"),
    [
        (GREY, {"imagej": True, "metadata": {"axes": "TYX"}}),
        (GREY, {"imagej": True, "metadata": {"axes": "ZYX"}}),
        (RGB, {"imagej": True, "metadata": {"axes": "TYXS"}}),
        (GREY, {"ome": True, "metadata": {"axes": "TYX"}, **GREYS}),
        (RGB, {"ome": True, "metadata": {"axes": "TYXS"}, "photometric": "rgb"}),
        (GREY, {"bigtiff": True, **GREYS}),
        (GREY.astype(np.uint16) * 257, {"imagej": True, "metadata": {"axes": "TYX"}}),
        (RGB.astype(np.uint16) * 257, {"photometric": "rgb"}),
        (
            np.moveaxis(RGB, -1, 1).astype(np.uint16) * 257,
            {"photometric": "rgb", "planarconfig": "separate"},
        ),
        (GREY / 255, GREYS),
        ((GREY / 255).astype(np.float16), GREYS),
        (GREY > 0, GREYS),
        (255 - GREY, {"photometric": "miniswhite"}),
        (255 - GREY, {"photometric": "miniswhite", "imagej": False, "compression": "zstd"}),
        (RGB, {"photometric": "rgb", "tile": (16, 16), "compression": "zlib"}),
        *(
            (RGB, {"photometric": "rgb", "compression": kind})
            for kind in ("lzw", "packbits", "zstd", "jpeg", "jpeg2000", "webp")
        ),
    ],
    ids=lambda value: str(value.dtype if hasattr(value, "dtype") else value),
)
def test_a_stack_is_a_clip_of_its_pages(
    tmp_path: Path, frames: np.ndarray, options: dict[str, Any]
) -> None:
    if "compression" in options and importlib.util.find_spec("imagecodecs") is None:
        pytest.skip("imagecodecs is not installed")
    tifffile.imwrite(tmp_path / "a.tif", frames, **options)
    assert _read(tmp_path) == [NUMBERS]


def test_numbered_pictures_of_compressions_that_pillow_lacks(tmp_path: Path) -> None:
    pytest.importorskip("imagecodecs")
    for number in range(3):
        options = {"photometric": "rgb", "compression": "jpeg2000"}
        tifffile.imwrite(tmp_path / f"still_{number}.tif", RGB[number], **options)
        tifffile.imwrite(tmp_path / f"stack_{number}.tif", RGB, **options)
    series, *stacks = sorted(find_sources(tmp_path), key=lambda source: source.series is None)
    (clip,) = open_clips(series, NATIVE)
    assert [read_barcode(image) for image in clip.frames] == [0, 1, 2]
    assert [_read(source.path) for source in stacks] == 3 * [[NUMBERS]]


@pytest.mark.parametrize("kind", ["imagej", "ome"])
def test_depths_are_clips_and_channels_are_colours(tmp_path: Path, kind: str) -> None:
    options: dict[str, Any] = {kind: True} | (GREYS if kind == "ome" else {})
    tifffile.imwrite(tmp_path / "depths.tif", PAIR, metadata={"axes": "TZYX"}, **options)
    tifffile.imwrite(tmp_path / "colours.tif", PAIR, metadata={"axes": "TCYX"}, **options)
    inverse = [255 - number for number in NUMBERS]
    assert _read(tmp_path / "depths.tif") == [NUMBERS, inverse]
    (clip,) = open_clips(tmp_path / "colours.tif", NATIVE)
    image = list(clip.frames)[5]
    assert np.array_equal(image, np.dstack([GREY[5], 255 - GREY[5], np.zeros_like(GREY[5])]))
    assert _read(tmp_path / "colours.tif", camera="2") == [inverse]


def test_too_many_channels_and_unknown_numbers_are_told_what_to_type(tmp_path: Path) -> None:
    four = np.concatenate([PAIR, PAIR], 1)
    tifffile.imwrite(tmp_path / "a.tif", four, imagej=True, metadata={"axes": "TCYX"})
    with pytest.raises(ReadError, match="a TIFF of 4 channels: choose one by --camera 1 to "):
        _read(tmp_path)
    assert _read(tmp_path, camera="3") == [NUMBERS]
    tifffile.imwrite(tmp_path / "a.tif", GREY.astype(np.uint32) * 9, **GREYS)
    with pytest.raises(ReadError, match="say which numbers are black and white: --levels "):
        _read(tmp_path)
    assert _read(tmp_path, levels="0:2295") == [NUMBERS]
    tifffile.imwrite(tmp_path / "a.tif", GREY.astype(np.uint16) * 16, **GREYS)
    assert _read(tmp_path, levels="0:4080") == [NUMBERS]


def test_a_stack_of_imagej_of_which_one_page_is_listed(tmp_path: Path) -> None:
    """As it writes them where they have more than 4 GB."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GREY, imagej=True, byteorder=">", metadata={"axes": "TYX"})
    data = bytearray(path.read_bytes())
    begin = int.from_bytes(data[4:8], "big")
    end = begin + 2 + 12 * int.from_bytes(data[begin : begin + 2], "big")
    data[end : end + 4] = bytes(4)  # where the next page's tags would be
    path.write_bytes(data)
    assert _read(tmp_path) == [NUMBERS]


def test_a_damaged_stack_and_a_missing_package_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PAIR, ome=True, metadata={"axes": "TZYX"}, **GREYS)
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(ReadError, match="cannot be read: ") as told:
        _read(tmp_path)
    assert "\n" not in str(told.value)
    tifffile.imwrite(path, PAIR, imagej=True, metadata={"axes": "TZYX"})
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ReadError, match=r"^a TIFF stack, .*: pip install 'ldf-video\[tiff\]'$"):
        _read(tmp_path)
    with pytest.raises(ReadError, match="no series"):
        folder_series(tmp_path)
