"""Files that lie beside clips and hold no pictures."""

from __future__ import annotations

import os

_SUFFIXES = frozenset(
    {
        *(".txt", ".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".caption", ".tags", ".xml"),
        *(".yaml", ".yml", ".toml", ".ini", ".cfg", ".conf", ".log", ".md", ".rst", ".html"),
        *(".htm", ".srt", ".vtt", ".ass", ".ssa", ".sbv", ".lrc", ".nfo", ".url", ".lnk", ".db"),
        *(".py", ".sh", ".ipynb", ".md5", ".sha1", ".sha256", ".wav", ".mp3", ".flac", ".aac"),
        *(".m4a", ".opus", ".oga", ".wma", ".mka", ".aiff", ".pt", ".pth", ".ckpt", ".onnx"),
        *(".safetensors", ".webvtt", ".ttml", ".sub", ".idx", ".lst", ".description", ".geojson"),
        *(".xmp", ".aae", ".ifo", ".bup", ".thm", ".lrv"),
    }
)
"""Of texts, tables, subtitles, sound and weights, and what cameras lay beside a film.

That has edits, chapters, a thumbnail and a small copy of the film itself.
"""

_NAMES = frozenset({"readme", "license", "licence", "copying", "notice", "makefile"})


def sidecar_kind(name: str) -> str:
    """Returns the suffix of a file that holds no pictures, or its name; "" for any other."""
    lower = name.lower()
    suffix = os.path.splitext(lower)[1]
    if suffix in _SUFFIXES:
        return suffix
    return name if lower in _NAMES else ""
