"""A writer that is killed, or whose disk runs full, at any step: every commit is kept."""

from __future__ import annotations

import errno
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from store_data import FPS, SPEC, add_clip, assert_holds, encode, make_clips, make_rows

from ldf_video.errors import StoreError
from ldf_video.store import StoreReader, StoreWriter, parts, shards, verify_store
from ldf_video.store.manifest import Manifest
from ldf_video.store.parts import PartWriter
from ldf_video.store.shards import ShardWriter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CLIPS = make_clips({"a": 17, "b": 4, "c": 23, "d": 1})
encode_clips = partial(encode, clips=CLIPS, step=3, rows_per_shard=10)


def die_at(instant: int) -> None:
    """Send this process SIGKILL before or after the step of a commit with this number."""
    steps = count(1)

    def watch(function: Callable) -> Callable:
        def watched(*args: object, **kwargs: object) -> object:
            for before in (True, False):
                if next(steps) == instant:
                    signal.raise_signal(signal.SIGKILL)
                if before:
                    result = function(*args, **kwargs)
            return result

        return watched

    for owner, names in (
        (ShardWriter, ["append", "_write", "_open", "sync"]),
        (Manifest, ["put_clip", "put_source"]),
        (shards.os, ["fsync"]),
        (parts, ["create_manifest", "write_store_json", "cut_after"]),
    ):
        for name in names:
            setattr(owner, name, watch(getattr(owner, name)))


def start(path: Path, command: str) -> subprocess.Popen[str]:
    code = f"from test_store_faults import *; path = {str(path)!r}; {command}"
    environment = {"PYTHONPATH": ":".join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, **pipes)


def assert_consistent(path: Path) -> None:
    """After any kill: what is committed is sound, and no clip has frames too many."""
    assert verify_store(path).num_problems == 0
    manifest = Manifest(path)
    for clip_id, rows in CLIPS.items():
        record = manifest.clip(clip_id)
        assert record is None or record.num_frames <= len(rows)
    manifest.close()


def test_kills_at_any_step_of_a_commit_lose_no_commit(tmp_path) -> None:
    kills = 0
    for instant in (1, 3, 7, 13, 21, 31, 43, 57, 10**9):
        process = start(tmp_path, f"die_at({instant}); encode_clips(path, commit_seconds=0)")
        output, _ = process.communicate()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, output
        kills += 1
        if (tmp_path / "store.json").exists():
            assert_consistent(tmp_path)
    assert process.returncode == 0, output
    assert kills >= 6
    assert_holds(StoreReader(tmp_path), CLIPS)
    sources = [(f"{clip_id}.mp4", clip_id) for clip_id in CLIPS]
    assert [(row.source, row.clip_id) for row in StoreReader(tmp_path).sources()] == sources


def test_kills_by_the_clock_lose_no_commit(tmp_path) -> None:
    for wait_seconds in (0.0, 0.02, 0.05):
        process = start(
            tmp_path,
            "print('go', flush=True); [encode_clips(path, commit_seconds=0) for _ in count()]",
        )
        assert process.stdout.readline() == "go\n"
        time.sleep(wait_seconds)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    encode_clips(tmp_path)  # the lock is free
    assert_holds(StoreReader(tmp_path), CLIPS)


# Full disks

ROWS_A_COMMIT = 24


class FullAt:
    """Raises what a full disk does at the step with this number, and at each that follows.

    Attributes:
        steps: that were taken.
        committed: frames of each clip after the last commit.
    """

    def __init__(self, instant: int, patch: pytest.MonkeyPatch) -> None:
        self.instant, self.steps = instant, 0
        self.committed: dict[str, int] = {}
        patch.setattr(shards.os, "fsync", self.before(shards.os.fsync, self.no_space))
        for name in ("create_manifest", "write_store_json"):
            step = self.before(getattr(parts, name), self.no_space)
            patch.setattr(parts, name, step)
        opened, connected = ShardWriter._open, Manifest.__init__
        make_file = self.before(opened, self.no_space)
        patch.setattr(ShardWriter, "_open", lambda shard: FullFile(make_file(shard), self))

        def connect(manifest: Manifest, root: Path, **options: bool) -> None:
            connected(manifest, root, **options)
            manifest._connection = FullConnection(manifest._connection, self)

        patch.setattr(Manifest, "__init__", connect)
        commit = PartWriter.commit

        def committing(part: PartWriter) -> None:
            commit(part)
            self.committed = committed_frames(part._root)

        patch.setattr(PartWriter, "commit", committing)

    def is_full(self) -> bool:
        self.steps += 1
        return self.steps >= self.instant

    def no_space(self) -> None:
        if self.is_full():
            raise OSError(errno.ENOSPC, "No space left on device")

    def before(self, function: Callable[..., Any], check: Callable[[], None]) -> Callable[..., Any]:
        def checked(*args: Any, **kwargs: Any) -> Any:
            check()
            return function(*args, **kwargs)

        return checked


class FullFile:
    """A shard's file that takes half of what does not fit."""

    def __init__(self, file: Any, disk: FullAt) -> None:
        self.file, self.disk = file, disk

    def write(self, data: Any) -> int:
        if self.disk.is_full():
            self.file.write(bytes(data)[: len(bytes(data)) // 2])
            self.file.flush()
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.file.write(data)

    def flush(self) -> None:
        self.disk.no_space()
        self.file.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


class FullConnection:
    """A manifest's connection whose writing statements fail."""

    def __init__(self, connection: sqlite3.Connection, disk: FullAt) -> None:
        self.connection, self.disk = connection, disk

    def execute(self, query: str, *values: Any) -> Any:
        if query != "BEGIN" and not query.startswith(("SELECT", "ROLLBACK")):
            self.no_space()
        return self.connection.execute(query, *values)

    def executemany(self, query: str, rows: Any) -> Any:
        self.no_space()
        return self.connection.executemany(query, rows)

    def no_space(self) -> None:
        if self.disk.is_full():
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)


def committed_frames(path: Path) -> dict[str, int]:
    manifest = sqlite3.connect(path / "manifest.sqlite")
    found = dict(manifest.execute("SELECT clip_id, num_frames FROM clips"))
    manifest.close()
    return found


def test_a_disk_that_is_full_from_any_step_on_keeps_every_commit(tmp_path) -> None:
    options = {"commit_seconds": 1e9, "commit_bytes": ROWS_A_COMMIT * SPEC.row_bytes}
    stops = 0
    for instant in count(1):
        path = tmp_path / str(instant)
        with pytest.MonkeyPatch.context() as patch:
            disk = FullAt(instant, patch)
            try:
                encode_clips(path, **options)
                break
            except StoreError as error:
                message = str(error)
        stops += 1
        assert message.startswith(f"disk full at {path} (")
        assert message.endswith("what was committed is safe, make room or use another --out")
        assert "\n" not in message
        if (path / "store.json").exists():
            assert committed_frames(path) == disk.committed
            assert verify_store(path).num_problems == 0
            held = sum(disk.committed.values()) * SPEC.row_bytes
            files = [file.stat().st_size for file in path.glob("data-*.npy")]
            assert sum(files) == held + 128 * len(files)  # nothing of what failed takes room
        encode_clips(path, **options)
        assert_holds(StoreReader(path), CLIPS)
    assert disk.steps < disk.instant
    assert stops > 50
    assert_holds(StoreReader(path), CLIPS)


def limited(path: str, kind: str, num_bytes: int) -> None:
    """Add rows, or sources that touch many pages, with a limit on the size of any file."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))
    try:
        with StoreWriter(path, SPEC, commit_seconds=1e9) as writer:
            for step in range(5):
                if kind == "rows":
                    writer.append("b", ROWS[800 * step : 800 * (step + 1)], fps=FPS)
                for place in range(step, 1000, 5) if kind == "sources" else ():
                    writer.set_source(f"{place:04d}" * 20, size=1, mtime_ns=1, clip_ids=["a"])
                writer.commit()
                print("committed", flush=True)
    except StoreError as error:
        print(error)


ROWS = make_rows(1, 4000)


@pytest.mark.parametrize(
    ("kind", "num_bytes", "num_before"),
    [
        ("rows", 24_000, 0),
        ("rows", 33_000, 0),
        ("sources", 60_000, 0),  # the manifest
        ("sources", None, 1000),  # its journal: every page is changed and copied there first
    ],
)
def test_a_file_at_its_limit_ends_in_a_line_and_keeps_its_commits(
    tmp_path, kind, num_bytes, num_before
) -> None:
    def names() -> list[str]:
        return sorted(source.source for source in StoreReader(tmp_path).sources())

    with StoreWriter(tmp_path, SPEC) as writer:
        add_clip(writer, "a", make_rows(0, 4))
        for place in range(num_before):
            writer.set_source(f"{place:04d}" * 20, size=2, mtime_ns=2, clip_ids=["a"])
    manifest = (tmp_path / "manifest.sqlite").read_bytes()
    num_bytes = num_bytes or len(manifest) // 2
    process = start(tmp_path, f"limited(path, {kind!r}, {num_bytes})")
    output, _ = process.communicate()
    *committed, last = output.splitlines()
    assert process.returncode == 0, output
    assert last.startswith((f"disk full at {tmp_path} (", f"cannot write at {tmp_path} (")), output
    assert "what was committed is safe, " in last
    assert last.endswith(" or use another --out")
    assert committed == ["committed"] * len(committed)
    assert verify_store(tmp_path).num_problems == 0
    if num_before:
        assert (tmp_path / "manifest.sqlite").read_bytes() == manifest
    with StoreWriter(tmp_path, SPEC) as writer:
        num_frames = writer.committed_frames("b")
        if kind == "rows":
            assert num_frames == 800 * len(committed) == (num_bytes - 128 - 48) // 9600 * 800
            assert (tmp_path / "data-00000.npy").stat().st_size == 128 + 12 * (4 + num_frames)
        elif not num_before:
            assert len(names()) == 1 + 200 * len(committed) > 1
        add_clip(writer, "b", ROWS[num_frames:])
        for place in range(1000):
            writer.set_source(f"{place:04d}" * 20, size=1, mtime_ns=1, clip_ids=["a"])
    assert len(names()) == 1002
    assert_holds(StoreReader(tmp_path), {"a": make_rows(0, 4), "b": ROWS})
