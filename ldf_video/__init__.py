"""ldf-video: train a video generator on your own clips, in memory that does not grow with length.

The functions of `ldf_video.api` are found here too, and loaded when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ldf_video.api import (
        encode,
        evaluate,
        export,
        generate,
        info,
        interpolate,
        play,
        preview,
        publish,
        reconstruct,
        start,
        train_frame,
        train_top,
    )

__all__ = [
    "encode",
    "evaluate",
    "export",
    "generate",
    "info",
    "interpolate",
    "play",
    "preview",
    "publish",
    "reconstruct",
    "start",
    "train_frame",
    "train_top",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from ldf_video import api

        return getattr(api, name)
    if name == "__version__":
        from importlib.metadata import version  # takes as long as all else here

        return version("ldf-video")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
