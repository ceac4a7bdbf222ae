"""A browser without a window, driven by the DevTools protocol."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


class NoBrowserError(Exception):
    """This machine has none."""


class PageError(Exception):
    """A page cannot do what it was asked for, as yet or at all."""


def program(profile: Path, *, width: int, height: int) -> list[str]:
    """How a browser is started.

    Raises:
        NoBrowserError: there is none.
    """
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        raise NoBrowserError(f"no browser: none of {', '.join(NAMES)}")
    command = [found, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    return [*command, f"--user-data-dir={profile}", f"--window-size={width},{height}"]


class Browser:
    """A window that stays open, driven by the DevTools protocol."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection, self._number = connection, 0

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and wait for what it gives."""
        self._number += 1
        request = {"id": self._number, "method": method, "params": parameters}
        self._connection.send(json.dumps(request))
        while True:
            answer = json.loads(self._connection.recv(timeout=60))
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise PageError(str(answer["error"]))
                return answer["result"]

    def value(self, script: str) -> Any:
        """What an expression of JavaScript gives on the page."""
        found = self.ask(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in found:
            raise PageError(str(found["exceptionDetails"]))
        return found["result"].get("value")

    def wait(self, script: str, *, seconds: float = 60) -> Any:
        """The same, as soon as it is true; a page that is still loading says nothing."""
        end = time.monotonic() + seconds
        while True:
            with suppress(PageError):
                if found := self.value(script):
                    return found
            if time.monotonic() > end:
                raise PageError(f"never true: {script}")
            time.sleep(0.02)

    def key(self, code: str, *, is_down: bool) -> None:
        """Press a key, or let it go."""
        kind = "keyDown" if is_down else "keyUp"
        self.ask("Input.dispatchKeyEvent", type=kind, code=code, key=code)

    def click(self, selector: str) -> None:
        """Click the middle of an element with the mouse."""
        self.value(f"document.querySelector({selector!r}).scrollIntoView()")
        box = f"document.querySelector({selector!r}).getBoundingClientRect()"
        x, y = self.value(f"(r => [r.x + r.width / 2, r.y + r.height / 2])({box})")
        for kind in ("mousePressed", "mouseReleased"):
            at = {"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1}
            self.ask("Input.dispatchMouseEvent", **at)

    def picture(self) -> NDArray[np.uint8]:
        """What the window shows, (height, width, 3)."""
        data = base64.b64decode(self.ask("Page.captureScreenshot")["data"])
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))


@contextmanager
def browsing(url: str, profile: Path, *, width: int, height: int) -> Iterator[Browser]:
    """A window that shows a page.

    Raises:
        NoBrowserError: there is none.
    """
    command = [*program(profile, width=width, height=height), "--remote-debugging-port=0", url]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while not (listening := profile / "DevToolsActivePort").is_file():
            assert time.monotonic() < end, "the browser did not start"
            time.sleep(0.05)
        port = listening.read_text().split()[0]
        with urlopen(f"http://127.0.0.1:{port}/json") as answer:
            (page,) = (target for target in json.load(answer) if target["type"] == "page")
        with connect(
            page["webSocketDebuggerUrl"], max_size=None, compression=None, ping_interval=None
        ) as connection:
            yield Browser(connection)
    finally:
        process.terminate()
        process.wait(60)
