"""encode of clips behind a URL, on a file system that fails and comes back."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from store_data import rows_by_source
from test_files_urls import FlakyFile, Odd, protocol
from tiny_models import save_frame, write_array

from ldf_video.api import encode, reconstruct
from ldf_video.errors import LdfError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["protocol"]  # a fixture

LENGTHS = {"short.npy": 3, "long.npy": 300, "b/middle.npy": 40}


class Moody(Odd):
    """The memory file system, with files that end in an error after some bytes.

    Each is whole when it is opened first: its digest is there, the network fails while frames come.
    """

    allowed_bytes: ClassVar[dict[str, int]] = {}
    opened: ClassVar[set[str]] = set()

    def open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        allowed = self.allowed_bytes.get(path, 10**9) if path in self.opened else 10**9
        self.opened.add(path)
        return _File(super().open(path, mode), allowed)


class _File(FlakyFile):
    """Fails by where it is read, not by how much."""

    def read(self, num_bytes: int) -> bytes:
        if self._file.tell() + num_bytes > self._left:
            raise ConnectionResetError("connection reset by peer")
        data: bytes = self._file.read(num_bytes)
        return data


@pytest.fixture
def root(tmp_path: Path, protocol: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with a frame model, and the same clips in a folder and in memory."""
    monkeypatch.chdir(tmp_path)
    save_frame(tmp_path / "checkpoints" / "frame")
    protocol(Moody)
    for seed, (name, length) in enumerate(LENGTHS.items()):
        path = write_array(tmp_path / "clips" / name, length, seed=seed)
        fsspec.filesystem("memory").pipe_file(f"/clips/{name}", path.read_bytes())
    yield tmp_path
    MemoryFileSystem.store.clear()
    Moody.allowed_bytes.clear()
    Moody.opened.clear()


run = partial(encode, quiet=True)


def assert_equal(found: Path, expected: Path) -> None:
    """Two stores hold the same."""
    rows = [rows_by_source(store) for store in (found, expected)]
    assert rows[0].keys() == rows[1].keys()
    assert all(np.array_equal(rows[0][name], rows[1][name]) for name in rows[0])


def test_a_url_gives_the_store_that_a_folder_gives(root: Path) -> None:
    run("clips", out="local")
    for url, workers in (("memory://clips", 0), (f"file://{root}/clips", 2)):
        out = url.partition(":")[0]
        assert run(url, out=out, workers=workers).report.num_frames == sum(LENGTHS.values())
        assert_equal(root / out, root / "local")
        assert run(url, out=out).report.num_unchanged == len(LENGTHS)


def test_a_clip_that_the_network_broke_goes_on_where_it_was(root: Path) -> None:
    run("clips", out="local")
    Moody.allowed_bytes["/clips/long.npy"] = 2**19
    first = run("odd://clips", out="remote").report
    assert first.quarantined == [("long.npy", "cannot be read: connection reset by peer")]
    assert first.salvaged == []
    assert 43 < first.num_frames < 43 + 300
    assert "long.npy" not in rows_by_source(root / "remote")
    assert run("odd://clips", out="remote").report.num_frames == 0  # it has not changed
    Moody.allowed_bytes.clear()
    again = run("odd://clips", out="remote", retry=True).report
    assert again.quarantined == []
    assert first.num_frames + again.num_frames == sum(LENGTHS.values())
    assert_equal(root / "remote", root / "local")


def test_the_only_clip_goes_on_where_the_network_broke_it(root: Path) -> None:
    run("clips/long.npy", out="local")
    Moody.allowed_bytes["/clips/long.npy"] = 2**19
    for _ in range(2):
        with pytest.raises(LdfError, match=r"long\.npy: .* connection reset by peer"):
            run("odd://clips/long.npy", out="remote")
    Moody.allowed_bytes.clear()
    again = run("odd://clips/long.npy", out="remote", retry=True).report
    assert 0 < again.num_frames < 300
    assert_equal(root / "remote", root / "local")


def test_a_copy_goes_on_behind_what_was_read_before_the_network_failed(root: Path) -> None:
    run("clips", out="local")
    long = (root / "clips" / "long.npy").read_bytes()
    fsspec.filesystem("memory").pipe_file("/clips/longer.npy", long)
    Moody.allowed_bytes["/clips/long.npy"] = 2**19
    report = run("odd://clips", out="remote").report
    assert [name for name, _ in report.quarantined] == ["long.npy"]
    assert report.num_frames == sum(LENGTHS.values())  # no frame twice
    expected, found = (rows_by_source(root / out) for out in ("local", "remote"))
    assert found.keys() == {"short.npy", "longer.npy", "b/middle.npy"}
    assert found["longer.npy"].tobytes() == expected["long.npy"].tobytes()


def test_a_clip_behind_a_url_is_reconstructed(root: Path) -> None:
    local = reconstruct("clips/short.npy", quiet=True)
    remote = reconstruct("memory://clips/short.npy", output=root / "out.gif", quiet=True)
    assert (remote.psnr_db, remote.num_frames) == (local.psnr_db, local.num_frames)
    assert (root / "out.gif").is_file()
