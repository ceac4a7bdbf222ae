"""A writer that is killed, in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from store_data import assert_holds, encode, make_clips

from ldf_video.store import StoreReader, parts, shards, verify_store
from ldf_video.store.manifest import Manifest
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
    code = f"from test_store_kill import *; path = {str(path)!r}; {command}"
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
