"""One page on this machine: who may open it, and what it is given.

Other programs and other sites can reach a port of this machine, too. So the address holds a token
that is new each time, the Host must be this machine (a site whose name was made to point here sends
its own), and a connection must come from the page itself (its Origin). Nothing else is served.
"""

from __future__ import annotations

import errno
import secrets
import threading
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Self

from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

from ldf_video.errors import UsageError
from ldf_video.output import reason

HOST = "127.0.0.1"
PAGE, SOURCE = (Path(__file__).with_name(name) for name in ("page.html", "socket.js"))
MAX_MESSAGE = 4096
"""Bytes of what a page asks for at once."""
TAKEN_OVER = 4001
"""Why a connection ends (of the codes that are free for own use): another window was opened."""

Show = Callable[[ServerConnection], None]
"""Serves one viewer until the connection closes."""


class PageServer:
    """Serves the page and its one viewer while a `with` block lasts; `wait` in it.

    A viewer who comes while another one is there takes over.

    Attributes:
        url: of the page, with its token.
    """

    def __init__(self, show: Show, *, port: int = 0) -> None:
        """Listen on a port of this machine; 0: on a free one.

        Raises:
            UsageError: the port cannot be had.
        """
        self._show = show
        self._token = secrets.token_urlsafe(16)
        self._turn, self._viewer = threading.Lock(), threading.Lock()
        self._current: ServerConnection | None = None
        self._error: BaseException | None = None
        self._is_over = threading.Event()
        try:
            self._server: Server = serve(
                self._view,
                HOST,
                port,
                compression=None,  # frames change too much to be worth the time
                process_request=self._answer,
                max_size=MAX_MESSAGE,
                ping_interval=None,
            )
        except OSError as error:
            why = reason(error).partition(" (while ")[0]  # in brackets: the address
            if error.errno == errno.EADDRINUSE:
                why = "in use by another program"
            raise UsageError(f"--port {port}: {why}; name another, or none") from None
        self.port: int = self._server.socket.getsockname()[1]
        self.url = f"http://{HOST}:{self.port}/{self._token}/"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, name="page", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._turn:
            if self._current is not None:
                self._current.close()
        self._server.shutdown()
        with self._viewer:  # what a viewer records is finished
            pass

    def wait(self) -> None:
        """Wait for Ctrl-C, or for an error of the show, which is raised here."""
        self._is_over.wait()
        if self._error is not None:
            raise self._error

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """The page, a refusal, or None where the page connects."""
        names = self._names()
        if request.headers.get_all("Host") not in [[name] for name in names]:
            return connection.respond(HTTPStatus.FORBIDDEN, "not the name of this machine\n")
        token, _, rest = request.path.removeprefix("/").partition("/")
        if not secrets.compare_digest(token.encode(), self._token.encode()):
            return connection.respond(HTTPStatus.FORBIDDEN, "not the address that was printed\n")
        if rest == "":
            return self._page(connection)
        if rest != "film":
            return connection.respond(HTTPStatus.NOT_FOUND, "nothing here\n")
        if request.headers.get_all("Origin") not in [[f"http://{name}"] for name in names]:
            return connection.respond(HTTPStatus.FORBIDDEN, "not from the page itself\n")
        return None

    def _names(self) -> list[str]:
        """By which this machine may be addressed."""
        return [f"{name}:{self.port}" for name in (HOST, "localhost")]

    def _page(self, connection: ServerConnection) -> Response:
        nonce = secrets.token_urlsafe(16)
        # which 'self' means too, but not to Safari before 15.4
        sockets = " ".join(f"ws://{name}" for name in self._names())
        page = PAGE.read_text("utf-8").replace("SOURCE", SOURCE.read_text("utf-8"))
        response = connection.respond(HTTPStatus.OK, page.replace("NONCE", nonce))
        del response.headers["Content-Type"]
        response.headers.update(
            {
                "Content-Type": "text/html; charset=utf-8",
                "Content-Security-Policy": (
                    f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
                    f"connect-src 'self' {sockets}; img-src data:; base-uri 'none'; "
                    "form-action 'none'; frame-ancestors 'none'"
                ),
                "Cache-Control": "no-store",
                "Referrer-Policy": "no-referrer",
                "X-Content-Type-Options": "nosniff",
                "Cross-Origin-Resource-Policy": "same-origin",
            }
        )
        return response

    def _view(self, connection: ServerConnection) -> None:
        """Serve a viewer in a thread of its own, once the one before has gone."""
        with self._turn:
            before, self._current = self._current, connection
        if before is not None:
            before.close(TAKEN_OVER, "opened in another window")
        with self._viewer:
            try:
                self._show(connection)
            except ConnectionClosed:
                pass
            except BaseException as error:
                self._error = error
                self._is_over.set()
