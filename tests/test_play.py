"""play: who may open the page, what it shows, what it can ask for."""

from __future__ import annotations

import json
import re
import struct
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from fractions import Fraction
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from browser import browsing
from PIL import Image
from tiny_models import FLOW, flow, frame_model, save_pair
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from ldf_video.api import generate, play
from ldf_video.clips.probe import probe
from ldf_video.errors import UsageError
from ldf_video.levels.latents import decode, video_generator
from ldf_video.models.flow_config import ColumnConfig
from ldf_video.models.rollout import Rollout
from ldf_video.playing import server as server_room
from ldf_video.playing.film import Film
from ldf_video.playing.server import PageServer
from ldf_video.playing.show import AHEAD, Show

Frames = npt.NDArray[np.uint8]
WAIT = 30
"""Seconds for what takes milliseconds."""


def film(seed: int = 1) -> Film:
    return Film(flow(), frame_model(), seed=seed)


def begin(count: int, *, seed: int) -> Frames:
    """The first frames of a film, as `generate` makes them, in whole blocks of 4."""
    blocks = flow().sample(Rollout(-(-count // 4) * 4), [video_generator(seed, 0)])
    frames = np.concatenate(list(decode(frame_model(), blocks, at_once=1)), axis=1)[0]
    return frames[:count]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PageServer]:
    show = Show(film(), name="tiny", fps=Fraction(200), folder=tmp_path, upscale=1)
    with PageServer(show) as server:
        yield server


class Page:
    """What the page does, in Python."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.told: list[dict[str, Any]] = []

    def ask(self, **asked: Any) -> None:
        self.connection.send(json.dumps(asked))

    def frame(self, *, is_shown: bool = True) -> tuple[int, Frames]:
        """The next frame and its number; what is told before it goes to `told`."""
        while isinstance(message := self.connection.recv(WAIT), str):
            self.told.append(json.loads(message))
        number, self.acted = struct.unpack("<II", message[:8])
        if is_shown:
            self.ask(shown=number)
        self.newest = np.frombuffer(message[8:], np.uint8).reshape(32, 32, 3)
        return number, self.newest

    def comes_nothing(self) -> bool:
        """Whether no frame comes."""
        try:
            self.connection.recv(0.2)
        except TimeoutError:
            return True
        return False

    def until(self, name: str) -> Any:
        """Show frames until something is told, and the one that follows."""
        while not (found := [told[name] for told in self.told if name in told]):
            self.frame()
        self.told.clear()
        return found[-1]


@contextmanager
def opened(server: PageServer) -> Iterator[Page]:
    with browsed(server.url) as page:
        yield page


@contextmanager
def browsed(url: str) -> Iterator[Page]:
    origin: Any = url[: url.index("/", len("http://"))]
    film = url.replace("http", "ws") + "film"
    with connect(film, origin=origin, ping_interval=None) as connection:
        yield Page(connection)


def test_a_film_is_that_of_generate_and_goes_on_in_any_pieces() -> None:
    playing = film(seed=3)
    assert playing.size == (32, 32)
    made = np.stack([next(playing) for _ in range(11)])
    assert np.array_equal(made, begin(11, seed=3))
    playing.restart(4)
    assert np.array_equal(next(playing), begin(1, seed=4)[0])


def test_the_page_tells_what_plays_and_shows_each_frame_once(server: PageServer) -> None:
    with opened(server) as page:
        shown = [page.frame() for _ in range(9)]
        assert [number for number, _ in shown] == list(range(1, 10))
        assert np.array_equal(np.stack([frame for _, frame in shown]), begin(9, seed=1))
        about = {"name": "tiny", "height": 32, "width": 32, "fps": 200.0, "seed": 1, "actions": []}
        assert page.told == [about]


def told_film(seed: int = 1) -> Film:
    """One that makes a frame at a time and can be told a direction."""
    config = replace(FLOW, kept=True, block=1, columns=(ColumnConfig("stick", ("left", "right")),))
    return Film(flow(config=config), frame_model(), seed=seed)


def test_what_is_held_acts_on_the_next_frame_and_on_no_earlier_one(tmp_path: Path) -> None:
    show = Show(told_film(), name="told", fps=Fraction(200), folder=tmp_path)
    with PageServer(show) as server, opened(server) as page:
        page.frame()
        assert [one["name"] for one in page.told[0]["actions"]] == ["left", "right"]
        page.ask(hold={"names": ["right"], "number": 7})
        frames = {1: page.newest}
        while page.acted != 7:
            number, frames[number] = page.frame()
        first = number
        for number in range(first + 1, first + 5):
            assert page.frame()[0] == number
            frames[number] = page.newest
    expected = told_film()
    for number in range(1, first + 5):
        if number == first:
            expected.hold(["right"])
        assert np.array_equal(frames[number], next(expected)), number
    other = told_film()
    for _ in range(first):
        unheld = next(other)
    assert not np.array_equal(unheld, frames[first])


def test_no_frame_waits_behind_more_than_a_few_others(server: PageServer) -> None:
    with opened(server) as page:
        for number in range(1, AHEAD + 1):
            assert page.frame(is_shown=False)[0] == number
        assert page.comes_nothing()
        page.ask(shown=1)
        assert page.frame(is_shown=False)[0] == AHEAD + 1


def test_a_page_can_pause_slow_down_and_ask_for_another_film(server: PageServer) -> None:
    with opened(server) as page:
        page.ask(pause=True)
        page.ask(shown=10**6, restart=5)
        messages = [page.connection.recv(WAIT)]
        while messages[-1] != '{"seed": 5}':
            messages.append(page.connection.recv(WAIT))
        assert sum(isinstance(message, bytes) for message in messages) <= AHEAD
        assert page.comes_nothing()
        page.ask(pause=False)
        page.frame()
        assert np.array_equal(page.newest, begin(1, seed=5)[0])
        page.ask(restart=None)
        seed = page.until("seed")
        assert np.array_equal(page.newest, begin(1, seed=seed)[0])
        page.ask(speed=0.1)  # 20 frames a second
        before = time.monotonic()
        for _ in range(AHEAD + 11):  # some were on their way, some late
            page.frame()
        assert time.monotonic() - before > 0.2


@pytest.mark.parametrize(
    "message",
    [
        "",
        "{",
        "[1, 2]",
        "null",
        b"\xff\xfe",
        '{"restart": -1, "restart ": 4, "speed": "fast", "shown": true, "pause": 1}',
        '{"speed": NaN, "heard": -1, "record": "yes", "_listen": 1}',
        '{"restart": 4e99, "speed": -5, "shown": 1e9}',
        '{"hold": ["left"]}',
        '{"hold": {"names": [["left"], null, 3], "number": 1}}',
        '{"hold": {"names": "left", "number": -1}}',
        "[" * 2000,
        '{"speed": 1' + "0" * 2000 + "}",
    ],
)
def test_a_message_that_means_nothing_is_left_aside(
    server: PageServer, message: str | bytes
) -> None:
    with opened(server) as page:
        page.connection.send(message)
        numbers = [page.frame()[0] for _ in range(6)]
        assert numbers == list(range(1, 7))


def test_a_recording_holds_the_frames_that_were_shown(server: PageServer, tmp_path: Path) -> None:
    with opened(server) as page:
        page.ask(record=True)
        assert page.until("recording") is True
        first = page.frame()[0]
        for _ in range(20):
            last = page.frame()[0]
        page.ask(record=False)
        assert page.until("recording") is False
        page.ask(record=True)
        page.until("recording")
        page.frame()
    path = tmp_path / "played-0001.mp4"
    assert probe(path).fps == 200
    assert last - first <= probe(path).num_frames <= last - first + AHEAD + 2
    end = time.monotonic() + WAIT  # a page that goes leaves its recording whole
    while not (second := tmp_path / "played-0002.mp4").is_file():
        assert time.monotonic() < end
        time.sleep(0.01)
    assert probe(second).num_frames >= 1


def test_a_recording_without_a_frame_is_none(server: PageServer, tmp_path: Path) -> None:
    with opened(server) as page:
        page.ask(pause=True, record=True)
        page.ask(record=False, pause=False)
        while False not in [told.get("recording") for told in page.told]:
            page.frame()
        assert page.told[-1]["note"] == "nothing was recorded"
    assert list(tmp_path.iterdir()) == []


def test_a_recording_that_cannot_be_written_is_said_and_the_film_goes_on(
    server: PageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ldf_video.video.write.VideoWriter.write", _fail)
    with opened(server) as page:
        page.ask(record=True)
        while "no room for it" not in [told.get("note") for told in page.told]:
            page.frame()
        assert page.told[-1]["recording"] is False
        page.frame()
    assert list(tmp_path.iterdir()) == []


def _fail(*_: Any) -> None:
    from ldf_video.errors import WriteError

    raise WriteError("no room for it")


def test_a_second_window_takes_over(server: PageServer) -> None:
    with opened(server) as first:
        first.frame()
        with opened(server) as second:
            assert second.frame()[0] == 1
            with suppress(ConnectionClosed):
                for _ in range(1000):
                    first.frame()
            assert first.connection.close_reason == "opened in another window"
            second.frame()


def ask_for(server: PageServer, path: str, *, host: str | None = None) -> tuple[int, Any, str]:
    """Status, headers and text of what a program gets that knows the port."""
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=WAIT)) as connection:
        connection.putrequest("GET", path, skip_host=True)
        connection.putheader("Host", f"127.0.0.1:{server.port}" if host is None else host)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()


def test_the_page_alone_is_served_and_to_this_machine_alone(server: PageServer) -> None:
    path = "/" + server.url.split("/", 3)[3]
    status, headers, text = ask_for(server, path)
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    sockets = f"ws://127.0.0.1:{server.port} ws://localhost:{server.port}"
    assert f"connect-src 'self' {sockets};" in policy  # older Safari needs both named
    nonce = policy.partition("script-src 'nonce-")[2].partition("'")[0]
    assert text.count(f'nonce="{nonce}"') == 3
    assert not re.search(r"https?://|NONCE|SOURCE", text)
    assert ask_for(server, path, host=f"localhost:{server.port}")[0] == 200
    for wrong in (
        "/",
        path[:-2] + "/",
        path + "x",
        path + "../",
        "/%2e%2e/",
        path + "?",
        "/" + path,
    ):
        assert ask_for(server, wrong)[0] in (403, 404), wrong
    for host in ("example.com", f"example.com:{server.port}", "127.0.0.1", "", "127.0.0.1:1"):
        assert ask_for(server, path, host=host)[0] == 403, host


@pytest.mark.parametrize(
    ("origin", "tail"),
    [
        ("http://example.com", "film"),
        ("null", "film"),
        (None, "film"),
        ("https://127.0.0.1:{port}", "film"),
        ("http://127.0.0.1:{port}", "films"),
    ],
)
def test_another_site_cannot_connect(server: PageServer, origin: str | None, tail: str) -> None:
    said = origin and origin.format(port=server.port)
    with pytest.raises(InvalidStatus) as refused:
        connect(server.url.replace("http", "ws") + tail, origin=said)  # type: ignore[arg-type]
    assert refused.value.response.status_code in (403, 404)


def test_an_error_of_the_film_ends_the_server() -> None:
    def fail(connection: Any) -> None:
        raise ZeroDivisionError

    with PageServer(fail) as server, opened(server), pytest.raises(ZeroDivisionError):
        server.wait()


def test_play_shows_the_film_that_generate_makes_of_its_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_pair(tmp_path / "checkpoints")
    shown = []

    def watch(url: str) -> None:
        with browsed(url) as page:
            shown.extend(page.frame()[1] for _ in range(16))
        raise KeyboardInterrupt

    monkeypatch.setattr("webbrowser.open", watch)
    assert play(seed=3, fps=200, device="cpu", quiet=True).seed == 3
    generate("sheet.png", num_frames=16, seed=3, upscale=1, device="cpu", quiet=True)
    sheet = np.asarray(Image.open("sheet.png").convert("RGB")).astype(int)
    made = np.stack(np.split(sheet, 16, axis=1))
    assert np.abs(made - np.stack(shown)).max() <= 1  # other layout, other rounding
    assert np.abs(np.diff(made, axis=0)).max() > 3


def test_what_cannot_be_played_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_pair(tmp_path / "checkpoints")
    with PageServer(lambda connection: None) as other, pytest.raises(UsageError) as refused:
        play(port=other.port, browser=False, device="cpu")
    expected = f"--port {other.port}: in use by another program; name another, or none"
    assert str(refused.value) == expected

    def denied(*arguments: Any, **options: Any) -> None:
        raise PermissionError(13, "denied (while attempting to bind on address ('127.0.0.1', 1))")

    monkeypatch.setattr(server_room, "serve", denied)
    with pytest.raises(UsageError, match=r"^--port 1: denied; name another, or none$"):
        play(port=1, browser=False, device="cpu")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="a file is in the way"):
        play(out="file", browser=False)


def test_in_a_browser(server: PageServer, tmp_path: Path) -> None:
    with browsing(server.url, tmp_path / "profile", width=900, height=700) as browser:
        browser.wait("window.film && film.shown > 5")
        assert browser.value("document.title") == "tiny"
        assert "no key does anything" in browser.value(
            "document.querySelector('#note').textContent"
        )
        assert browser.value("document.documentElement.scrollHeight <= window.innerHeight")
        browser.click("#pause")
        browser.wait("document.querySelector('#pause').ariaPressed === 'true'")
        time.sleep(0.3)
        before = browser.value("film.shown")
        time.sleep(0.3)
        assert browser.value("film.shown") == before
        expected = begin(before, seed=1)[-1]
        pixels = browser.value("Array.from(context.getImageData(0, 0, 32, 32).data)")
        assert np.array_equal(np.reshape(pixels, (32, 32, 4))[..., :3], expected)
        browser.click("#record")
        browser.click("#pause")
        browser.wait("document.querySelector('#record').ariaPressed === 'true'")
        browser.wait(f"film.shown > {before + 20}")
        browser.click("#record")
        browser.wait("document.querySelector('#note').textContent.includes('recorded')")
        browser.click("#restart")
        browser.wait("document.querySelector('#seed').value !== '1'")
        browser.wait("document.querySelector('#rate').textContent.endsWith('frames/s')")
    assert probe(tmp_path / "played-0001.mp4").num_frames >= 15


def test_keys_and_buttons_in_a_browser(tmp_path: Path) -> None:
    show = Show(told_film(), name="told", fps=Fraction(60), folder=tmp_path)
    with (
        PageServer(show) as server,
        browsing(server.url, tmp_path / "profile", width=400, height=700) as browser,
    ):
        browser.wait("window.film && film.shown > 2")
        assert browser.value("document.querySelector('#actions').innerText").split() == [
            *("left", "←", "A"),
            *("right", "→", "D"),
        ]
        browser.key("ArrowLeft", is_down=True)
        browser.wait("film.acted === 1")
        assert browser.value("[...film.held].join()") == "left"
        browser.key("KeyD", is_down=True)
        browser.wait("film.acted === 2")
        browser.key("ArrowLeft", is_down=False)
        browser.key("KeyD", is_down=False)
        browser.wait("film.acted === 4")
        assert browser.value("film.held.size") == 0
        browser.click("#actions button")  # down and up
        browser.wait("film.acted === 6")
        browser.value("document.querySelector('#seed').focus()")
        browser.key("ArrowLeft", is_down=True)  # who types a number does not play
        browser.wait(f"film.shown > {browser.value('film.shown') + 5}")
        assert browser.value("film.heard") == 6
        browser.value("document.querySelector('#seed').dispatchEvent(new Event('change'))")
        assert browser.value("document.activeElement === document.body")
