"""Files that lie beside clips and hold no pictures."""

from __future__ import annotations

import os

_SUFFIXES = frozenset(
    {
        *(".txt", ".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".caption", ".tags", ".xml"),
        *(".yaml", ".yml", ".toml", ".ini", ".cfg", ".conf", ".log", ".md", ".rst", ".html"),
        *(".htm", ".srt", ".vtt", ".ass", ".ssa", ".sbv", ".lrc", ".nfo", ".url", ".lnk", ".db"),
        *(".py", ".sh", ".ipynb", ".md5", ".sha1", ".sha256", ".wav", ".mp3", ".flac", ".aac"),
        *(".m4a", ".opus", ".pt", ".pth", ".ckpt", ".safetensors", ".onnx"),
    }
)
"""Of texts, tables, subtitles, sound and weights."""

_NAMES = frozenset({"readme", "license", "licence", "copying", "notice", "makefile"})


def sidecar_kind(name: str) -> str:
    """Returns the suffix of a file that holds no pictures, or its name; "" for any other."""
    lower = name.lower()
    suffix = os.path.splitext(lower)[1]
    if suffix in _SUFFIXES:
        return suffix
    return name if lower in _NAMES else ""
