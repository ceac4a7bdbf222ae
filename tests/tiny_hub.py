"""A model hub on this machine that answers what huggingface_hub asks: repositories of files."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from huggingface_hub import constants

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

ADDRESS = "https://huggingface.co"
"""In answers alone; nobody is asked there."""
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class TinyHub:
    """Repositories by name, their files by path; every request that was made."""

    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    revisions: tuple[str, ...] = ("main", COMMIT)
    private: dict[str, bool] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def fetched(self) -> list[str]:
        """The files whose content was asked for."""
        found = (path.partition(f"/resolve/{COMMIT}/") for path in self.asked)
        return sorted({file for _, is_file, file in found if is_file})

    @contextmanager
    def reached(self, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[None]:
        """Let huggingface_hub ask this hub, and keep what it fetches in `cache`."""
        with ThreadingHTTPServer(("127.0.0.1", 0), self.handler()) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            endpoint = f"http://127.0.0.1:{server.server_port}"
            files = f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
            monkeypatch.setattr(constants, "ENDPOINT", endpoint)
            monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
            monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
            try:
                yield
            finally:
                server.shutdown()
                thread.join()

    def hold(self, name: str, folder: Path) -> None:
        """Make a repository of the files of a folder."""
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        held = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
        self.repositories[name] = held

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """What answers a request."""
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                hub.asked.append(self.path)
                self._answer(*hub.answer(self.path.partition("?")[0]))

            do_HEAD = do_GET  # noqa: N815

            def do_POST(self) -> None:
                hub.asked.append(self.path)
                said = self.rfile.read(int(self.headers["Content-Length"]))
                self._answer(200, hub.change(self.path, said), {})

            def _answer(self, code: int, body: bytes, headers: dict[str, str]) -> None:
                self.send_response(code)
                for name, value in ({"Content-Length": str(len(body))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

        return Handler

    def answer(self, path: str) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers of what is asked for at a path."""
        parts = path.strip("/").split("/")
        is_api = parts[:2] == ["api", "models"]
        name, rest = "/".join(parts[2:4] if is_api else parts[:2]), parts[4 if is_api else 2 :]
        files = self.repositories.get(name)
        if files is None:
            return 404, b"{}", {"X-Error-Code": "RepoNotFound"}
        if len(rest) > 1 and rest[1] not in self.revisions:
            return 404, b"{}", {"X-Error-Code": "RevisionNotFound"}
        if is_api and rest[0] == "tree":
            tree = [
                {"type": "file", "path": file, "size": len(data), "oid": _digest(data)}
                for file, data in files.items()
            ]
            return 200, json.dumps(tree).encode(), {}
        if is_api:
            siblings = [{"rfilename": file} for file in files]
            about = {"id": name, "sha": COMMIT, "siblings": siblings, "tags": []}
            return 200, json.dumps(about).encode(), {}
        data = files["/".join(rest[2:])]
        return 200, data, {"ETag": f'"{_digest(data)}"', "X-Repo-Commit": COMMIT}

    def change(self, path: str, said: bytes) -> bytes:
        """Make a repository, or put files into one; returns what is answered."""
        if path == "/api/repos/create":
            about = json.loads(said)
            name = f"{about['organization']}/{about['name']}"
            self.repositories.setdefault(name, {})
            self.private.setdefault(name, about.get("visibility") == "private")
            return json.dumps({"url": f"{ADDRESS}/{name}"}).encode()
        if path == "/api/validate-yaml":  # the head of a card
            return json.dumps({"errors": [], "warnings": []}).encode()
        if "/preupload/" in path:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(said)["files"]
            ]
            return json.dumps({"files": files}).encode()
        name = "/".join(path.split("/")[3:5])
        for line in map(json.loads, said.splitlines()):
            if line["key"] == "file":
                content = base64.b64decode(line["value"]["content"])
                self.repositories[name][line["value"]["path"]] = content
        done = {"commitUrl": f"{ADDRESS}/{name}/commit/{COMMIT}", "commitOid": COMMIT}
        return json.dumps(done).encode()


def _digest(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()
