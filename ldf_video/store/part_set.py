"""The parts of a store as one of its writers sees them: those it writes, those of the others."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from ldf_video.store.manifest import FINISHED, Manifest, look_into
from ldf_video.store.part_writer import PartWriter
from ldf_video.store.parts import find_parts, part_path

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ldf_video.store.format import StoreSpec


class PartSet:
    """Opens the parts of process `rank` of `num_ranks`, and finds where something belongs.

    Attributes:
        own: the writers of this process's parts, by number: part `rank`, where what is new goes,
            and what an earlier run of more processes left.
        repaired: one line on what they had lost and let go; "" else.
    """

    def __init__(
        self,
        path: Path,
        spec: StoreSpec,
        *,
        info: Mapping[str, Any],
        shard_bytes: int,
        rank: int,
        num_ranks: int,
    ) -> None:
        """Open them all, or none.

        Raises:
            StoreError: see `PartWriter`.
        """
        self._root = path.resolve()
        self._others: list[Manifest] | None = None
        self.own: dict[int, PartWriter] = {}
        left = [part for part in find_parts(self._root) if part % num_ranks == rank]
        with ExitStack() as stack:
            for part in sorted({rank, *left}):
                writer = PartWriter(part_path(path, part), spec, info=info, shard_bytes=shard_bytes)
                self.own[part] = writer
                stack.callback(writer.close)
            self._opened = stack.pop_all()
        self._home = self.own[rank]
        self._left = [writer for part, writer in self.own.items() if part != rank]
        self.repaired = "; ".join(
            f"{part_path(path, part).name}: {writer.repaired}" if part else writer.repaired
            for part, writer in self.own.items()
            if writer.repaired
        )

    def of_clip(self, clip_id: str) -> PartWriter:
        """Where a clip was begun, else where new ones go."""
        return next((part for part in self._left if part.clip(clip_id) is not None), self._home)

    def of_source(self, source: str) -> PartWriter:
        """Where a source belongs, else where new ones go."""
        return next((part for part in self._left if part.source(source) is not None), self._home)

    def has_clip(self, clip_id: str) -> bool:
        """Whether a clip is finished in any part, of whatever process.

        Raises:
            StoreError: a manifest is damaged.
        """
        places: list[PartWriter | Manifest] = [*self.own.values(), *self._foreign()]
        records = (place.clip(clip_id) for place in places)
        return any(record is not None and record.status in FINISHED for record in records)

    def _foreign(self) -> list[Manifest]:
        # Not before the first look-up: by then every process has made its parts.
        if self._others is None:
            parts = find_parts(self._root).items()
            self._others = [look_into(path) for part, path in parts if part not in self.own]
            for manifest in self._others:
                self._opened.callback(manifest.close)
        return self._others

    def close(self) -> None:
        """Commit and free the parts; a second time does nothing.

        Raises:
            StoreError: the disk is full or fails.
        """
        self._opened.close()
