from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
from clip_files import barcode, write_clip
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ldf_video.errors import ReadError, UsageError
from ldf_video.video.encoders import write_png
from ldf_video.video.geometry import Geometry
from ldf_video.video.own import is_own_file
from ldf_video.video.read import open_clips
from ldf_video.video.sources import (
    find_sources,
    natural_key,
    search,
    source_digest,
    source_stamp,
)
from ldf_video.video.write import VideoWriter

if TYPE_CHECKING:
    from pathlib import Path


def _touch(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _names(clips: Path) -> list[str]:
    return [source.name for source in find_sources(clips)]


def test_names_come_in_natural_order(tmp_path: Path) -> None:
    for name in ("clip10.mp4", "clip2.mp4", "Clip1.mp4", "b/2.mp4", "b/10.mp4", "日本 é.mp4"):
        _touch(tmp_path / name)
    assert _names(tmp_path) == [
        "b/2.mp4",
        "b/10.mp4",
        "Clip1.mp4",
        "clip2.mp4",
        "clip10.mp4",
        "日本 é.mp4",
    ]


NAMES = st.text(st.sampled_from("019aAbß-._/ \x01é日"), max_size=8)


@given(NAMES, NAMES)
def test_numbers_in_names_count_by_their_value(first: str, second: str) -> None:
    def by_parts(name: str) -> tuple[list[str | int], str]:
        parts: list[str | int] = list(re.split("([0-9]+)", name.casefold()))
        parts[1::2] = [int(part) for part in parts[1::2]]
        return parts, name

    assert (natural_key(first) < natural_key(second)) == (by_parts(first) < by_parts(second))


def test_a_source_keeps_no_path_and_no_dictionary(tmp_path: Path) -> None:
    """A million of them must fit memory."""
    for number in range(3):
        _touch(tmp_path / "deep" / "er" / f"{number}.mp4")
    sources = find_sources(tmp_path)
    assert [source.path for source in sources] == [
        tmp_path / "deep" / "er" / f"{number}.mp4" for number in range(3)
    ]
    assert not any(hasattr(source, "__dict__") for source in sources)
    assert all(source.root is sources[0].root for source in sources)


def test_hidden_files_are_left_out_at_any_depth(tmp_path: Path) -> None:
    for name in (".a.mp4", ".git/b.mp4", "c/.d/e.mp4", "c/f.mp4"):
        _touch(tmp_path / name)
    assert _names(tmp_path) == ["c/f.mp4"]


def test_a_hidden_root_is_not_hidden_from_its_user(tmp_path: Path) -> None:
    _touch(tmp_path / ".cache" / "a.mp4")
    assert _names(tmp_path / ".cache") == ["a.mp4"]


def test_link_loops_end_and_each_directory_counts_once(tmp_path: Path) -> None:
    _touch(tmp_path / "a" / "1.mp4")
    (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "again").symlink_to(tmp_path / "a", target_is_directory=True)
    assert _names(tmp_path) == ["a/1.mp4"]


def test_what_cannot_be_looked_at_is_still_listed(tmp_path: Path) -> None:
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (source,) = find_sources(tmp_path)
    assert (source.name, source.size, source.mtime_ns) == ("gone.mp4", -1, -1)
    with pytest.raises(ReadError, match="cannot be read: No such file or directory"):
        source_digest(source)


def test_pipes_are_no_sources(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    _touch(tmp_path / "a.mp4")
    assert _names(tmp_path) == ["a.mp4"]


def test_a_file_is_its_own_only_source(tmp_path: Path) -> None:
    path = _touch(tmp_path / "a.mp4", b"abc")
    (source,) = find_sources(path)
    assert (source.path, source.name, source.size) == (path, "a.mp4", 3)
    assert source.mtime_ns == path.stat().st_mtime_ns
    assert source_digest(source) == hashlib.sha256(b"abc").hexdigest()


def test_a_stamp_tells_that_a_source_has_changed(tmp_path: Path) -> None:
    clip = _touch(tmp_path / "a.mp4")
    pictures = [_touch(tmp_path / "walk" / f"{number}.png") for number in range(3)]
    for path in (clip, *pictures):
        os.utime(path, ns=(5, 5))
    for source, path in zip(find_sources(tmp_path), (clip, pictures[1]), strict=True):
        stamps = [source_stamp(source)]
        assert source_stamp(source) == stamps[0]
        path.write_bytes(b"xy")
        os.utime(path, ns=(5, 5))
        stamps.append(source_stamp(source))
        os.utime(path, ns=(5, 6))
        stamps.append(source_stamp(source))
        path.unlink()
        stamps.append(source_stamp(source))
        assert len(set(stamps)) == 4


def test_who_waits_for_a_digest_hears_that_it_goes_on(tmp_path: Path) -> None:
    _touch(tmp_path / "a.mp4", bytes(2**20))
    (source,) = find_sources(tmp_path)
    beats: list[None] = []
    digest = source_digest(source, alive=lambda: beats.append(None))
    assert digest == hashlib.sha256(bytes(2**20)).hexdigest()
    assert len(beats) == 4


def test_nothing_to_read_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        find_sources(tmp_path / "missing")
    with pytest.raises(UsageError, match="holds no file"):
        find_sources(tmp_path)
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(UsageError, match="neither a file nor a directory"):
        find_sources(tmp_path / "pipe.mp4")


# What is left out


def test_texts_tables_and_sound_beside_clips_are_counted(tmp_path: Path) -> None:
    others = ("a.txt", "b/c.TXT", "meta.jsonl", "desktop.ini", "README", "a.wav", "a.LRV", "a.THM")
    for name in ("a.mp4", *others):
        _touch(tmp_path / name)
    _touch(tmp_path / "unknown.bin")
    found = search(tmp_path)
    assert [source.name for source in found.sources] == ["a.mp4", "unknown.bin"]
    kinds = {".txt": 2, ".jsonl": 1, ".ini": 1, "README": 1, ".wav": 1, ".lrv": 1, ".thm": 1}
    assert (found.sidecars, found.num_own) == (kinds, 0)
    assert [source.name for source in search(tmp_path / "a.txt").sources] == ["a.txt"]
    with pytest.raises(UsageError, match=r"holds no clip, 1 other files \(1 \.txt\) only"):
        search(tmp_path / "b")


def test_stores_and_checkpoints_are_left_out_whole(tmp_path: Path) -> None:
    _touch(tmp_path / "a.mp4")
    _touch(tmp_path / "config.json", b"{}")
    _touch(tmp_path / "others" / "config.json", b'{"kind": "frame"}')  # not of ours
    _touch(tmp_path / "others" / "b.mp4")
    for name in ("store.json", "manifest.sqlite", "data-00000.npy", "part-0001/data-00000.npy"):
        _touch(tmp_path / "latents" / name)
    run = tmp_path / "checkpoints" / "frame"
    _touch(run / "config.json", b'{"format_version": 1, "kind": "frame"}')
    for name in ("samples/000010.png", "sheet.png", "frames/data-00000.npy", "curve.png"):
        _touch(run / name)
    found = search(tmp_path)
    assert [source.name for source in found.sources] == ["a.mp4", "others/b.mp4"]
    assert found.num_own == 2
    assert _names(run / "samples") == ["000010.png"]  # asked for by name
    with pytest.raises(UsageError, match="is a store that ldf-video wrote; expected clips"):
        search(tmp_path / "latents")
    with pytest.raises(UsageError, match="holds nothing but stores and checkpoints"):
        search(tmp_path / "checkpoints")


def test_what_was_generated_is_left_out_unless_named(tmp_path: Path) -> None:
    names = ["out.gif", "out.mp4", "out.png"]
    for name in names:
        with VideoWriter(tmp_path / "made" / name, fps=25) as writer:
            writer.write(np.stack([barcode(k) for k in range(3)]))
        (source,) = find_sources(tmp_path / "made" / name)
        (clip,) = open_clips(source, Geometry(48, 64))
        assert len(list(clip.frames)) == (1 if name == "out.png" else 3)
    write_png(tmp_path / "made" / "curve.png", barcode(1))
    write_clip(tmp_path / "clip.mp4", [barcode(5)])
    Image.fromarray(barcode(6)).save(tmp_path / "clip.gif")
    for number in (1, 2):
        write_png(tmp_path / f"sheet{number}.png", barcode(number))
    assert _names(tmp_path) == ["clip.gif", "clip.mp4"]
    assert len(search(tmp_path).sources) == 7  # opens no file
    with pytest.raises(UsageError, match="holds nothing but what ldf-video wrote itself, 4 files"):
        find_sources(tmp_path / "made")
    made = find_sources(tmp_path / "made", own=True)
    assert [source.name for source in made] == ["curve.png", *names]
    assert not is_own_file(tmp_path / "gone.mp4")


def test_a_zarr_store_is_one_source(tmp_path: Path) -> None:
    for name in ("a.zarr/0.0.0", "a.zarr/deep/0.0", "b/zarr.json", "b/c/0/0"):
        _touch(tmp_path / name)
    sources = find_sources(tmp_path)
    assert [source.name for source in sources] == ["a.zarr", "b"]
    for source in sources:
        with pytest.raises(ReadError, match=r"^a zarr store: save its frames by "):
            source_digest(source)
    with pytest.raises(UsageError, match="is a zarr store"):
        find_sources(tmp_path / "b")
