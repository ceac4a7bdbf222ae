"""A real browser without a window, where this machine has one."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import headless
import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray


def picture_of(page: Path, *, width: int, height: int, dark: bool = False) -> NDArray[np.uint8]:
    """What a window of this size shows of a page, (height, width, 3); skips without a browser."""
    shot = page.with_suffix(".png")
    command = _program(page.parent / "profile", width=width, height=height)
    command += ["--blink-settings=preferredColorScheme=0"] if dark else []
    command += [f"--screenshot={shot}", page.resolve().as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    with Image.open(shot) as image:
        return np.asarray(image.convert("RGB"))


@contextmanager
def browsing(url: str, profile: Path, *, width: int, height: int) -> Iterator[headless.Browser]:
    """A window that shows a page; skips without a browser."""
    _program(profile, width=width, height=height)
    with headless.browsing(url, profile, width=width, height=height) as browser:
        yield browser


def _program(profile: Path, *, width: int, height: int) -> list[str]:
    try:
        return headless.program(profile, width=width, height=height)
    except headless.NoBrowserError as error:
        pytest.skip(str(error))
