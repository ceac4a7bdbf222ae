"""Files and folders that are no clips: sidecars, what ldf-video wrote, and other formats."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from ldf_video.files.folders import read_object

if TYPE_CHECKING:
    from collections.abc import Container

    from ldf_video.files.locations import Location

MARK = b"made by ldf-video"  # in a PNG before its pixels, at the end of a GIF or an MP4
STORE_JSON = "store.json"

_NEAR_BYTES = 512
_CHECKPOINT_KINDS = ("frame", "top", "joint")

_SIDECAR_NAMES = frozenset({"readme", "license", "licence", "copying", "notice", "makefile"})
# Texts, tables, subtitles, sound and weights, and what cameras write beside a film: edits,
# chapters, a thumbnail, a small copy of the film.
_SIDECAR_SUFFIXES = frozenset(
    (
        *(".txt", ".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".caption", ".tags", ".xml"),
        *(".yaml", ".yml", ".toml", ".ini", ".cfg", ".conf", ".log", ".md", ".rst", ".html"),
        *(".htm", ".srt", ".vtt", ".ass", ".ssa", ".sbv", ".lrc", ".nfo", ".url", ".lnk", ".db"),
        *(".py", ".sh", ".ipynb", ".md5", ".sha1", ".sha256", ".wav", ".mp3", ".flac", ".aac"),
        *(".m4a", ".opus", ".oga", ".wma", ".mka", ".aiff", ".pt", ".pth", ".ckpt", ".onnx"),
        *(".safetensors", ".webvtt", ".ttml", ".sub", ".idx", ".lst", ".description", ".geojson"),
        *(".xmp", ".aae", ".ifo", ".bup", ".thm", ".lrv"),
    )
)
FOREIGN_BYTES = 512  # how much of a file's beginning `describe_foreign` needs

_UNPACK = "unpack it"
_SAVE = "save its frames by numpy.save"
_WRITE = "write the videos or pictures in it as files"
_FORMATS: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"version https://git-lfs.github.com/spec/v1", "a git-lfs pointer", "run git lfs pull"),
    (0, b"PK\x03\x04", "a zip archive", _UNPACK),
    (0, b"PK\x05\x06", "an empty zip archive", "bring the files themselves"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file under another suffix", "rename it to .h5"),
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


def sidecar_kind(name: str) -> str:
    """Returns the suffix of a file that holds no pictures, or its name; "" for any other."""
    lower = name.lower()
    suffix = os.path.splitext(lower)[1]
    if suffix in _SIDECAR_SUFFIXES:
        return suffix
    return name if lower in _SIDECAR_NAMES else ""


def is_own_file(path: Location) -> bool:
    """Returns whether a file has the mark of what `generate` and others write; reads 1 KiB."""
    if path.suffix.lower() not in (".png", ".gif", ".mp4"):
        return False
    try:
        with path.open("rb") as file:
            if MARK in file.read(_NEAR_BYTES):
                return True
            file.seek(max(file.seek(0, os.SEEK_END) - _NEAR_BYTES, 0))
            return MARK in file.read(_NEAR_BYTES)
    except OSError:
        return False


def is_own_folder(folder: Location, names: Container[str]) -> bool:
    """Returns whether a folder, which directly holds `names`, is a store or a checkpoint."""
    if STORE_JSON in names and "manifest.sqlite" in names:
        return True
    if "config.json" not in names:
        return False
    try:
        config = read_object(folder / "config.json")
    except (OSError, ValueError):
        return False
    return "format_version" in config and config.get("kind") in _CHECKPOINT_KINDS


def describe_foreign(head: bytes) -> str:
    """Says what a file is and what to do, by its first 512 bytes or more; "" if that is not sure.

    A zip archive goes by its first member: NumPy's and torch's own are named as such.
    """
    if head.startswith(b"PK\x03\x04"):
        member = head[30 : 30 + int.from_bytes(head[26:28], "little")]
        if member.endswith(b".npy"):
            return "an .npz archive under another suffix: rename it to .npz"
        if member.endswith(b"data.pkl"):
            return f"a file of torch.save: {_SAVE}"
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "a web page, perhaps instead of a download: bring the file itself"
    if re.match(rb"\x80[\2-\5]", head) and b"numpy" in head:
        return f"a pickle: {_SAVE}"
    known = (what for place, magic, *what in _FORMATS if head.startswith(magic, place))
    return ": ".join(next(known, ()))
