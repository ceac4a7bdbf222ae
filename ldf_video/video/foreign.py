"""What a file is that is no clip, by its first bytes, and what to do with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ldf_video.video.files import Location

FOREIGN_BYTES = 512
"""How much of a file's beginning is needed to tell."""

ZARR = "a zarr store: save its frames by numpy.save, as uint8 (T, H, W, 3)"
"""A folder, known by its suffix or its zarr.json."""

_UNPACK = "unpack it"
_SAVE = "save its frames by numpy.save, as uint8 (T, H, W, 3)"
_WRITE = "write the videos or pictures in it as files"
_KINDS: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"version https://git-lfs.github.com/spec/v1", "a git-lfs pointer", "run git lfs pull"),
    (0, b"PK\x03\x04", "a zip archive", _UNPACK),
    (0, b"PK\x05\x06", "an empty zip archive", "bring the files themselves"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file", _SAVE),
    (512, b"\x89HDF\r\n\x1a\n", "an HDF5 file", _SAVE),
    (0, b"MATLAB ", "a MATLAB file", _SAVE),
    (0, b"\x93NUMPY", "a .npy array under another suffix", "rename it to .npy"),
    (0, b"PAR1", "a Parquet table", _WRITE),
    (0, b"ARROW1", "an Arrow table", _WRITE),
    (0, b"SQLite format 3\0", "an SQLite database", _WRITE),
    (16, b"\xde\xc0\xef\xbe", "an LMDB database", _WRITE),
    (0, b"#ROSBAG", "a ROS bag", _WRITE),
    (0, b"\x89MCAP0\r\n", "an MCAP log", _WRITE),
    (128, b"DICM", "a DICOM file", "write its frames as pictures"),
    (257, b"ustar", "a tar archive", _UNPACK),
    (0, b"\x1f\x8b\x08", "a gzip archive", _UNPACK),
    (0, b"BZh", "a bzip2 archive", _UNPACK),
    (0, b"\xfd7zXZ\0", "an xz archive", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "a zstd archive", _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (0, b"Rar!\x1a\x07", "a rar archive", _UNPACK),
    (0, b"%PDF-", "a PDF document", "write its pages as pictures"),
    (0, b"%!PS", "a PostScript document", "write its pages as pictures"),
    (0, b"<svg", "an SVG drawing", "write it as a PNG"),
)
_WEB_PAGE = (b"<!doctype html", b"<html")
_PICKLES = tuple(bytes([0x80, version]) for version in (2, 3, 4, 5))


def describe_foreign(head: bytes) -> str:
    """Says what a file is and what to do, by its first 512 bytes or more; "" where nothing is sure.

    A zip archive goes by its first member: NumPy's and torch's own are named as such.
    """
    if head.startswith(b"PK\x03\x04"):
        member = head[30 : 30 + int.from_bytes(head[26:28], "little")]
        if member.endswith(b".npy"):
            return "a .npz archive of arrays: save one by numpy.save, as uint8 (T, H, W, 3)"
        if member.endswith(b"data.pkl"):
            return f"a file of torch.save: {_SAVE}"
    if head.lstrip().lower().startswith(_WEB_PAGE):
        return "a web page, perhaps instead of a download: bring the file itself"
    if head.startswith(_PICKLES) and b"numpy" in head:
        return f"a pickle: {_SAVE}"
    return next(
        (
            f"{kind}: {advice}"
            for place, magic, kind, advice in _KINDS
            if head.startswith(magic, place)
        ),
        "",
    )


def foreign_file(path: Location) -> str:
    """Says the same of a file, "" also where it cannot be opened."""
    try:
        with path.open("rb") as file:
            return describe_foreign(file.read(FOREIGN_BYTES + 8))
    except OSError:
        return ""
