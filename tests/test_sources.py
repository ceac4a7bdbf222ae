"""What is found under CLIPS: files, series of numbered pictures, and what is left out."""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import tracemalloc
from dataclasses import replace
from datetime import date, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from clip_files import barcode, read_barcode, write_clip
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ldf_video.clips.identity import source_digest, source_stamp
from ldf_video.clips.probe import VideoInfo, probe
from ldf_video.clips.read import open_clips
from ldf_video.errors import ReadError, UsageError
from ldf_video.files.layout import Layout
from ldf_video.files.locations import split_inner
from ldf_video.files.not_clips import is_own_file
from ldf_video.files.remote import RemotePath
from ldf_video.sources.name_numbers import natural_key
from ldf_video.sources.search import find_sources, search
from ldf_video.sources.series import find_series
from ldf_video.sources.source import Source
from ldf_video.video.geometry import Geometry
from ldf_video.video.sheet import write_png
from ldf_video.video.write import VideoWriter

if TYPE_CHECKING:
    from collections.abc import Callable

    from ldf_video.files.locations import Location

NATIVE = Geometry(48, 64)


def _touch(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _names(clips: Path) -> list[str]:
    return [source.name for source in find_sources(clips)]


def test_names_come_in_natural_order_without_hidden_ones(tmp_path: Path) -> None:
    clips = tmp_path / ".clips"  # not hidden from who names it
    names = ["b/2.mp4", "b/10.mp4", "Clip1.mp4", "clip2.mp4", "clip10.mp4", "日本 é.mp4"]
    for name in [*names, ".a.mp4", ".git/b.mp4", "b/.d/e.mp4"]:
        _touch(clips / name)
    assert _names(clips) == names


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


def test_link_loops_end_each_directory_counts_once_and_pipes_do_not(tmp_path: Path) -> None:
    _touch(tmp_path / "a" / "1.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "again").symlink_to(tmp_path / "a", target_is_directory=True)
    assert _names(tmp_path) == ["a/1.mp4"]


def test_a_file_is_its_own_only_source(tmp_path: Path) -> None:
    path = _touch(tmp_path / "a.mp4", bytes(2**20))
    (source,) = find_sources(path)
    assert (source.path, source.name, source.size) == (path, "a.mp4", 2**20)
    assert source.mtime_ns == path.stat().st_mtime_ns
    beats: list[None] = []
    digest = source_digest(source, alive=lambda: beats.append(None))
    assert digest == hashlib.sha256(bytes(2**20)).hexdigest()
    assert len(beats) == 4


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


def test_nothing_to_read_is_a_usage_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    for name, said in (
        ("missing", "does not exist"),
        ("", "holds no file"),
        ("pipe.mp4", "neither a file nor a directory"),
    ):
        with pytest.raises(UsageError, match=said):
            find_sources(tmp_path / name)


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
    _touch(tmp_path / "deep" / "config.json", b"[" * 10**5)  # no decoder of JSON takes that
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


def test_a_zarr_store_is_one_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.zarr/0.0.0", "a.zarr/deep/0.0", "b/zarr.json", "b/c/0/0"):
        _touch(tmp_path / name)
    sources = find_sources(tmp_path)
    assert [source.name for source in sources] == ["a.zarr", "b"]
    files = [[path.relative_to(tmp_path).as_posix() for path in own.files()] for own in sources]
    assert files == [["a.zarr/0.0.0", "a.zarr/deep/0.0"], ["b/c/0/0", "b/zarr.json"]]
    for inside, named in (("a.zarr", "."), ("a.zarr/deep", "..")):
        monkeypatch.chdir(tmp_path / inside)
        assert find_sources(named) == [replace(sources[0], is_named=True)]
    assert [source.size for source in sources] == [2, 2]
    (named,) = find_sources(tmp_path / "b")
    assert (named.name, named.path, named.is_named) == ("b", tmp_path / "b", True)
    assert named.mtime_ns != sources[0].mtime_ns
    before = named.mtime_ns, source_stamp(named)
    _touch(tmp_path / "b/c/0/0", b"other")
    (changed,) = find_sources(tmp_path / "b")
    assert not set(before) & {changed.mtime_ns, source_stamp(changed)}


def test_arrays_whose_headers_are_nonsense_stay_alone(tmp_path: Path) -> None:
    for number in (1, 2):
        _touch(tmp_path / f"{number}.npy", b"\x93NUMPY\x01\0\x10\0" + b"(" * 15 + b"\n")
    assert _names(tmp_path) == ["1.npy", "2.npy"]
    with pytest.raises(ReadError, match=r"^not a \.npy array: "):
        next(open_clips(tmp_path / "1.npy", NATIVE))


# Series of numbered pictures: which names make a clip


def _pictures(folder: Path, numbers: dict[str, int]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, number in numbers.items():
        Image.fromarray(barcode(number)).save(folder / name)
    return folder


def _numbers(source: Source | Path) -> list[int]:
    (clip,) = open_clips(source, NATIVE)
    return [read_barcode(image) for image in clip.frames]


@pytest.mark.parametrize(
    ("names", "patterns"),
    [
        (["1.jpg", "2.jpg", "10.jpg"], {"*.jpg": 3}),
        (["a_1.png", "a_7.png", "b_1.png", "b_2.png"], {"a_*.png": 2, "b_*.png": 2}),
        (["1.png", "2.png", "1.jpg", "2.jpg"], {"*.png": 2, "*.jpg": 2}),
        (
            ["1_left.png", "2_left.png", "1_right.png", "2_right.png"],
            {"*_left.png": 2, "*_right.png": 2},
        ),
        (["take2_shot1.tif", "take2_shot2.tif"], {"take2_shot*.tif": 2}),
        (["v1.5.png", "v1.6.png"], {"v1.*.png": 2}),
        (["frame_1.png"], {}),
        (["beach.jpg", "dog.jpg"], {}),
        (["clip1.mp4", "clip2.mp4"], {}),
        (["clip1.gif", "clip2.gif"], {"clip*.gif": 2}),
        (["1", "2"], {}),
        (["1.jpg", "2.JPG", "3.jpg"], {"*.jpg": 3}),
        (["1.jpg", "2.jpeg", "3.JPG"], {"*.jpg": 3}),
        (["1.jpeg", "2.jpeg"], {"*.jpeg": 2}),
        (["1.jpg", "2.jpg", "1.jpeg", "2.jpeg"], {"*.jpg": 2, "*.jpeg": 2}),
        (["1.tif", "2.tiff"], {"*.tiff": 2}),
        (["1.jfif", "2.jfif"], {"*.jfif": 2}),
        (["1.JPG", "2.JPG"], {"*.JPG": 2}),
        (["1.jpg", "2.jpg", "1.JPG", "2.JPG"], {"*.jpg": 2, "*.JPG": 2}),  # two cameras
        (["frame_1.png", "frame_2.png", "frame_*.png"], {"frame_**.png": 2}),
        (["Walk_1.png", "walk_2.png", "WALK_3.PNG"], {"Walk_*.png": 3}),
        (["A_1.png", "A_2.png", "a_1.png", "a_2.png"], {"A_*.png": 2, "a_*.png": 2}),
        (["3f2a9c01.png", "77d01e5b.png", "12345678.png", "87654321.png", "5a5be02d.png"], {}),
        (["1.png", "1a.png", "2.png", "2a.png"], {"*.png": 2, "*a.png": 2}),
        (
            ["IMG_1.jpg", "IMG_1 (1).jpg", "IMG_2.jpg", "IMG_2 (1).jpg"],
            {"IMG_*.jpg": 2, "IMG_* (1).jpg": 2},
        ),
        (["run.png", "run1.png", "run2.png"], {"run*.png": 2}),  # a sheet of all, perhaps
        (["9.41.00 AM.png", "10.41.00 AM.png", "1.41.00 PM.png"], {"*M.png": 3}),
    ],
)
def test_names_that_differ_in_one_number_are_a_series(
    tmp_path: Path, names: list[str], patterns: dict[str, int]
) -> None:
    found = find_series(tmp_path, names)
    assert {series.pattern: len(series.names) for series in found} == patterns


def test_frames_come_by_number(tmp_path: Path) -> None:
    names = ["f10.png", "f9.png", "f0100.png", "f2.png", "f02.png"]
    (series,) = find_series(tmp_path, names)
    assert series.names == ("f02.png", "f2.png", "f9.png", "f10.png", "f0100.png")


def _days(form: str, num: int = 100) -> list[str]:
    return [(date(2024, 1, 1) + timedelta(days=k)).strftime(form) for k in range(num)]


def _half_days(form: str) -> list[str]:
    """Three hours and twenty minutes across noon, as macOS writes hours: 9 and 10 AM, 1 PM."""
    start = datetime(2024, 1, 1, 9, 41)
    moments = [start + timedelta(seconds=400 * k) for k in range(30)]
    return [form.format(m, hour=m.hour % 12 or 12, half="AP"[m.hour // 12]) for m in moments]


MINUTE_AND_SECOND = [f"{k * 7 // 60:02}-{k * 7 % 60:02}" for k in range(20)]


@pytest.mark.parametrize(
    "names",
    [
        [f"frame ({k})" for k in range(1, 13)],
        [f"frame-{k:06}.color" for k in range(12)],
        [f"{k:06}-{k * 33369:012}" for k in range(12)],
        [f"{k:06}_t{k // 7}" for k in range(30)],
        [f"{1305031102.175304 + k / 30:.6f}" for k in range(60)],
        [f"{1305031102 + k // 30}_{k % 30 * 33333333}" for k in range(60)],
        [f"2024-01-01_12-{time}" for time in MINUTE_AND_SECOND],
        [f"12h{time}" for time in MINUTE_AND_SECOND],
        [f"Screenshot 2024-01-01 at 12.{time.replace('-', '.')}" for time in MINUTE_AND_SECOND],
        [f"01-20240101120{k // 5:03}-{k % 5:02}" for k in range(20)],
        [f"2024-01-01_12-00-{k // 25:02}-{k % 25 * 40000:06}" for k in range(75)],
        [f"PXL_20240101_1200{k:02}{k * 31:03}" for k in range(30)],
        [f"2024-01-01_1{k // 60}-{k % 60:02}" for k in range(100)],
        [f"2024-0{1 + k // 28}-{1 + k % 28:02}" for k in range(60)],
        [f"density_{k * 0.05:g}" for k in range(45)],
        [f"t={k * 0.1:.1f}" for k in range(-20, 20)],
        [f"step_{k * 0.00002:g}" for k in range(20)],  # 2e-05
        [f"v1.{k}" for k in range(1, 15)],
        [f"scan {k}.2024-01-{k:02}" for k in range(1, 15)],
        [f"a_-{k}" for k in range(1, 12)],  # a dash
        _half_days("Screen Shot {0:%Y-%m-%d} at {hour}.{0:%M.%S} {half}M"),
        _half_days("Screenshot {0:%Y-%m-%d} at {hour}.{0:%M.%S}\u202f{half}M"),
        _days("%d-%m-%Y"),
        _days("%m.%d.%Y"),
        _days("%d%b%Y"),
        _days("%Y-%b-%d"),
        _days("%B %d, %Y"),
        [f"KTLX_{day}_{hour:02}00" for day in _days("%Y%m%d", 40) for hour in range(0, 24, 6)],
        [f"{2000 + k // 12}-{k % 12 + 1:02}" for k in range(60)],
        [f"A1_{k // 24:02}d{k % 24:02}h00m" for k in range(0, 60, 2)],
        [f"{k // 60}m{k % 60}s" for k in range(0, 200, 7)],
        [f"t_{k / 10:.1f}".replace(".", ",") for k in range(30)],
        [f"{k:04x}" for k in range(40)],
        [f"frame_0x{k:04X}" for k in range(40)],
        [f"{'Frame' if k % 2 else 'frame'}_{k:03}" for k in range(12)],
        ["scan", *(f"scan ({k})" for k in range(2, 12))],
        ["image", *(f"image ({k})" for k in range(1, 12))],
        ["Untitled", *(f"Untitled{k}" for k in range(2, 12))],
        [f"DSC_{k:04}" for k in (*range(9990, 10000), *range(1, 10))],
        ["".join(chr(0xFF10 + int(digit)) for digit in f"{k:02}") for k in range(12)],
    ],
    ids=lambda names: str(names[-1]),
)
def test_a_recording_is_one_clip_in_order(tmp_path: Path, names: list[str]) -> None:
    files = [f"{name}.png" for name in names]
    (series,) = find_series(tmp_path, files[::2] + files[1::2])
    assert list(series.names) == files


@pytest.mark.parametrize(
    ("form", "first", "second"),
    [
        ("take{take}_{k}", 1, 2),
        ("take{take}_{k:03}", 9, 10),
        ("cam{take}_{k:06}", 0, 1),
        ("{k:06}_cam{take}", 0, 1),
        ("{k:06}_{take}", "left", "right"),
        ("aachen_{take:06}_{k:06}_leftImg8bit", 0, 1),
        ("render_v{take}.{k:04}", 1, 2),
        ("clip{take}.{k}", 1, 2),
        ("ep{take}_{k:06}-{k:09}", 1, 2),
        ("20240101_12{take}00_{k:04}", "00", "30"),  # the takes' times
        ("{take:02}-202401011200{k:02}-01", 1, 2),
        ("scene_01_{take:02}_{k:02}", 1, 2),
        ("exp_t{k:03}_c{take}", 1, 2),
        ("frame{k}_crop{take}", 1, 2),
        ("t{take}_{k:04}", 1, 2),  # takes
        ("2024010{take}_{k:04}", 1, 2),
        ("marker{take}_{k}", 1, 2),
        ("{take}m_{k}", 1, 2),
    ],
)
def test_takes_and_cameras_stay_apart(
    tmp_path: Path, form: str, first: object, second: object
) -> None:
    takes = [
        tuple(form.format(take=take, k=k) + ".png" for k in range(12)) for take in (first, second)
    ]
    found = find_series(tmp_path, [name for both in zip(*takes, strict=True) for name in both])
    assert {series.names for series in found} == set(takes)
    assert len({series.pattern for series in found}) == 2


def test_all_pictures_of_a_folder_are_one_clip_if_the_user_says_so(tmp_path: Path) -> None:
    names = {
        "b.jpg": 4,
        "B2.png": 5,
        "a10.png": 3,
        "a9.PNG": 2,
        "1.bmp": 0,
        "x/1.png": 6,
        "2.png": 1,
    }
    for name, number in names.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(barcode(number)).save(tmp_path / name)
    images = [Image.fromarray(barcode(k)) for k in range(3)]
    images[0].save(tmp_path / "film.gif", save_all=True, append_images=images[1:])
    _touch(tmp_path / "notes.txt")
    found = search(tmp_path, layout=Layout(series="folder")).sources
    assert [source.name for source in found] == ["*", "film.gif", "x/1.png"]
    assert _numbers(Source.from_json(found[0].to_json())) == [0, 1, 2, 3, 4, 5]
    assert source_digest(found[0]) != source_digest(found[1])
    assert len(search(tmp_path).sources) > 4


@pytest.mark.parametrize("suffix", [".png", ".webp", ".gif", ".tif"])
def test_numbered_animations_are_clips_of_their_own(tmp_path: Path, suffix: str) -> None:
    images = [Image.fromarray(barcode(k)) for k in range(3)]
    for k in (1, 2):
        path = tmp_path / f"{k}{suffix}"
        images[0].save(path, save_all=True, append_images=images[1:], lossless=True)
    assert _names(tmp_path) == [f"1{suffix}", f"2{suffix}"]
    assert _numbers(find_sources(tmp_path)[0]) == [0, 1, 2]


def test_numbered_pictures_that_claim_too_many_pixels_are_found(tmp_path: Path) -> None:
    images = [Image.fromarray(barcode(k)) for k in range(2)]
    images[0].save(tmp_path / "1.gif", save_all=True, append_images=images[1:])
    content = (tmp_path / "1.gif").read_bytes()
    said, claimed = (b"\x2c" + struct.pack("<4H", 0, 0, *size) for size in ((64, 48), (65535,) * 2))
    assert said in content
    for name in ("1.gif", "2.gif"):
        _touch(tmp_path / name, content.replace(said, claimed))
    assert _names(tmp_path) == ["*.gif"]


# As sources


def test_a_folder_holds_series_and_other_files(tmp_path: Path) -> None:
    _pictures(tmp_path / "walk", {f"frame_{k:04}.png": k for k in range(1, 4)})
    _pictures(tmp_path / "walk", {"poster.png": 9})
    write_clip(tmp_path / "walk" / "2.mp4", [barcode(5)])
    _pictures(tmp_path, {"a1.png": 1, "a2.png": 2, "b1.png": 3, "b2.png": 4})
    sources = find_sources(tmp_path)
    assert [source.name for source in sources] == [
        "a*.png",
        "b*.png",
        "walk/2.mp4",
        "walk/frame_*.png",
        "walk/poster.png",
    ]
    assert [_numbers(source) for source in sources] == [[1, 2], [3, 4], [5], [1, 2, 3], [9]]


def test_the_folder_itself_may_be_named(tmp_path: Path) -> None:
    folder = _pictures(tmp_path / "walk", {"frame_2.png": 2, "frame_10.png": 10, "frame_7.png": 7})
    (source,) = find_sources(folder)
    assert (source.name, source.path) == ("frame_*.png", folder)
    assert source.size == sum(path.stat().st_size for path in folder.iterdir())
    os.mkfifo(folder / "frame_3.png")
    _pictures(folder, {".frame_4.png": 4})
    assert _numbers(find_sources(folder)[0]) == _numbers(folder) == [2, 7, 10]
    _pictures(folder, {"b1.png": 3, "b2.png": 4})
    with pytest.raises(ReadError, match=r"^a directory with 2 series of numbered pictures"):
        next(open_clips(folder, NATIVE))


def _swap(folder: Path) -> None:
    (folder / "1.png").rename(folder / "spare")
    (folder / "2.png").rename(folder / "1.png")
    (folder / "spare").rename(folder / "2.png")


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "3.png").unlink(),
        lambda folder: (folder / "3.png").rename(folder / "4.png"),
        lambda folder: os.utime(folder / "2.png", ns=(2, 2)),  # older than it was
        lambda folder: (folder / "4.png").touch(),
        _swap,
    ],
    ids=["one less", "renamed", "older", "one more", "swapped"],
)
def test_every_change_shows_in_size_and_time(
    tmp_path: Path, change: Callable[[Path], object]
) -> None:
    folder = _pictures(tmp_path / "walk", {f"{k}.png": 0b1001 for k in range(1, 4)})
    for k in range(1, 4):
        os.utime(folder / f"{k}.png", ns=(10**18 + k, 10**18 + k))
    (before,) = find_sources(folder)
    assert 0 <= before.mtime_ns < 2**63
    (folder / "notes.txt").write_text("a walk")  # what lies beside changes nothing
    assert find_sources(folder) == [before]
    change(folder)
    (after,) = find_sources(folder)
    assert (after.size, after.mtime_ns) != (before.size, before.mtime_ns)


def test_the_digest_is_of_the_pictures_in_order(tmp_path: Path) -> None:
    folder = _pictures(tmp_path / "walk", {"2.png": 2, "10.png": 10})
    files = [(folder / name).read_bytes() for name in ("2.png", "10.png")]
    expected = hashlib.sha256(b"".join(hashlib.sha256(file).digest() for file in files))
    (source,) = find_sources(folder)
    assert source_digest(source) == expected.hexdigest()
    (folder / "10.png").rename(folder / "11.png")
    assert source_digest(find_sources(folder)[0]) == expected.hexdigest()
    (folder / "11.png").rename(folder / "1.png")
    assert source_digest(find_sources(folder)[0]) != expected.hexdigest()
    (folder / "2.png").unlink()
    with pytest.raises(ReadError, match=r"^2\.png: cannot be read: No such file or directory$"):
        source_digest(source)


# Frames


def test_all_frames_are_given_at_any_rate(tmp_path: Path) -> None:
    _pictures(tmp_path, {f"{k}.png": k for k in range(5)})
    assert probe(tmp_path) == VideoInfo("pictures", "png", 64, 48, Fraction(25), 5, 0.2, 0)
    for fps, expected in ((None, 25), (Fraction(10), 10)):
        geometry = Geometry(48, 64, fps=fps)
        (clip,) = open_clips(tmp_path, geometry)
        assert (clip.index, clip.fps) == (None, expected)
        frames = list(clip.frames)
        assert np.array_equal(frames, [barcode(k) for k in range(5)])
        assert clip.position() == 1


@pytest.mark.parametrize(
    "suffix",
    ["png", "jpg", "jpeg", "bmp", "tif", "tiff", "webp", "PNG", "ppm", "tga", "gif", "jp2", "avif"],
)
def test_every_kind_of_picture_makes_clips(tmp_path: Path, suffix: str) -> None:
    _pictures(tmp_path, {f"{k}.{suffix}": k for k in (3, 200, 77)})
    assert _numbers(tmp_path) == [3, 77, 200]


def test_a_clip_whose_pictures_are_all_broken_is_none(tmp_path: Path) -> None:
    for number in range(1, 6):
        (tmp_path / f"frame_{number:04}.png").write_text("notes")
    with pytest.raises(ReadError, match=r"^frame_0001\.png: not a video: "):
        next(open_clips(tmp_path, NATIVE))


def test_one_picture_is_in_memory_at_a_time(tmp_path: Path) -> None:
    for k in range(40):
        Image.fromarray(barcode(k, height=240, width=320)).save(tmp_path / f"{k}.bmp")
    (clip,) = open_clips(tmp_path, NATIVE)
    next(clip.frames)
    tracemalloc.start()
    num_frames = 1 + sum(1 for _ in clip.frames)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert num_frames == 40
    assert peak_bytes < 8 * 240 * 320 * 3


@pytest.mark.parametrize(
    ("named", "location", "inner"),
    [
        ("play.h5::data/*/obs/image", Path("play.h5"), "data/*/obs/image"),
        (Path("clips.npz::obs"), Path("clips.npz"), "obs"),
        ("play.h5", Path("play.h5"), ""),
        ("s3://bucket/play.h5::data", RemotePath("s3://bucket/play.h5"), "data"),
        ("zip://a::s3://bucket/all.zip", RemotePath("zip://a::s3://bucket/all.zip"), ""),
    ],
)
def test_a_place_within_a_file(named: str | Path, location: Location, inner: str) -> None:
    assert split_inner(named) == (location, inner)


def test_a_source_remembers_what_is_read_in_it_and_how(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"a")
    (tmp_path / "a::b.h5").write_bytes(b"b")
    layout = Layout(axes="TNYX", levels="0:4095")
    (source,) = find_sources(f"{tmp_path}/a.h5::data/*", layout=layout)
    assert (source.name, source.path) == ("a.h5::data/*", tmp_path / "a.h5")
    assert Source.from_json(json.loads(json.dumps(source.to_json()))) == source
    (other,) = find_sources(tmp_path / "a::b.h5")
    assert other.path == tmp_path / "a::b.h5"
    names = [one.name for one in find_sources(f"{tmp_path}::x")]
    assert names == ["a.h5::x", "a::b.h5::x"]
