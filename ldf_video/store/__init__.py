"""Memory-mapped stores of latents and frames: one writer, any number of readers, kill-safe."""

from __future__ import annotations

from ldf_video.store.check import Verified, drop_damaged, verify_store
from ldf_video.store.format import FORMAT_VERSION, StoreSpec
from ldf_video.store.reader import StoreReader
from ldf_video.store.records import Quarantined, Source
from ldf_video.store.writer import StoreWriter

__all__ = [
    "FORMAT_VERSION",
    "Quarantined",
    "Source",
    "StoreReader",
    "StoreSpec",
    "StoreWriter",
    "Verified",
    "drop_damaged",
    "verify_store",
]
