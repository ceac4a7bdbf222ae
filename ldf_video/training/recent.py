"""What a few updates logged, until it becomes a line of metrics."""

from __future__ import annotations

import torch

from ldf_video.models.game import Logs


class Recent:
    """What was logged since the last line of metrics; on the device until it is asked for."""

    def __init__(self) -> None:
        self._logs: list[Logs] = []

    def add(self, logs: Logs) -> None:
        """Take an update's."""
        self._logs.append(logs)

    def means(self) -> dict[str, float]:
        """Of each name over the updates that logged it; waits for the device."""
        names = {name for logs in self._logs for name in logs}
        return {
            name: torch.stack([e[name].float() for e in self._logs if name in e]).mean().item()
            for name in sorted(names)
        }

    def clear(self) -> None:
        """Begin a new line."""
        self._logs.clear()
