"""Clips behind URLs: on fsspec's memory and local file systems, and on ones that fail."""

from __future__ import annotations

import io
import json
import os
from datetime import UTC, datetime, timedelta, timezone
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import fsspec
import numpy as np
import pytest
from clip_files import LOSSLESS, barcode, save_animation, write_clip
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry, known_implementations
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem
from PIL import Image

from ldf_video.clips.identity import source_digest
from ldf_video.clips.probe import count_clips, probe
from ldf_video.clips.read import SKIP, open_clips
from ldf_video.errors import ReadError, UsageError
from ldf_video.files.layout import Layout
from ldf_video.files.locations import locate
from ldf_video.files.remote import BLOCK_BYTES, RemoteError, RemotePath
from ldf_video.sources.folder import folder_series
from ldf_video.sources.search import find_sources
from ldf_video.sources.source import Source
from ldf_video.video.geometry import Geometry

if TYPE_CHECKING:
    from collections.abc import Iterator

NATIVE = Geometry(48, 64)
GOP_8 = {"codec": "libx264", "codec_options": {"g": "8", "bf": "2"}}


@pytest.fixture(autouse=True)
def _empty_memory() -> Iterator[None]:
    """The memory file system is one for the whole process."""
    yield
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


@pytest.fixture
def protocol() -> Iterator[Any]:
    """Registers a file system under the protocol `odd` for one test."""

    def register(system: type[AbstractFileSystem] | str, errtxt: str | None = None) -> None:
        fsspec.register_implementation("odd", system, clobber=True, errtxt=errtxt)

    yield register
    _registry.pop("odd", None)
    known_implementations.pop("odd", None)


class Odd(MemoryFileSystem):
    """The memory file system under another name, to be changed."""

    protocol = "odd"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        stripped: str = MemoryFileSystem._strip_protocol(path.removeprefix("odd://"))
        return stripped


def _many_kinds(folder: Path) -> Path:
    """A folder with a source of each kind that is read in a way of its own."""
    images = [barcode(number) for number in range(20)]
    for name in ("b", "walk", "arrays"):
        (folder / name).mkdir(parents=True)
    write_clip(folder / "clip10.mp4", images, **GOP_8)
    write_clip(folder / "clip2.mkv", images[:5], **LOSSLESS)
    write_clip(folder / "b" / "moving.gif", images[:4], codec="gif", pix_fmt="rgb8")
    first, *rest = [Image.fromarray(image) for image in images[:3]]
    first.save(folder / "b" / "moving.webp", save_all=True, append_images=rest, lossless=True)
    first.save(folder / "b" / "still.png")
    first.save(folder / "b" / "still.jpg")
    for number in (1, 2, 10):
        Image.fromarray(images[number]).save(folder / "walk" / f"f{number}.png")
    np.save(folder / "arrays" / "one.npy", np.stack(images[:6]))
    np.save(folder / "arrays" / "many.npy", np.stack(images[:12]).reshape(3, 4, 48, 64, 3))
    (folder / ".hidden").write_bytes(b"x")
    (folder / "b" / "notes.txt").write_bytes(b"x")
    return folder


def _in_memory(folder: Path, url: str = "memory://clips") -> str:
    """Copies a folder there, also hidden files."""
    memory = fsspec.filesystem("memory")
    for path in folder.rglob("*"):
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            memory.pipe_file(f"/{url.split('://')[1]}/{name}", path.read_bytes())
    return url


def _frames(source: Source | Path | RemotePath, **options: Any) -> list[np.ndarray]:
    frames = []
    for clip in open_clips(source, NATIVE, **options):
        frames += [(clip.index, image.tobytes()) for image in clip.frames]
    return frames


# Where


@pytest.mark.parametrize("place", ["clips", "/clips", "s3:/clips", "a::b.mp4", "C:/clips", "a:b"])
def test_what_has_no_protocol_is_a_path(place: str) -> None:
    assert locate(place) == locate(Path(place)) == Path(place)


@pytest.mark.parametrize(
    ("url", "parent", "name"),
    [
        ("s3://bucket/clips/a.MP4", "s3://bucket/clips/", "a.MP4"),
        ("memory://a.MP4", "memory://", "a.MP4"),
        ("s3://bucket/clips/", "s3://bucket/", "clips"),
        ("zip://in/a.npy::s3://b/all.zip", "zip://in/::s3://b/all.zip", "a.npy"),
        ("simplecache::s3://b/c.npy", "simplecache::s3://b/", "c.npy"),
    ],
)
def test_a_url_is_taken_apart_like_a_path(url: str, parent: str, name: str) -> None:
    place = locate(url)
    assert isinstance(place, RemotePath)
    assert (str(place), place.name, place.parent) == (url, name, RemotePath(parent))
    assert place.suffix == os.path.splitext(name)[1]
    below = place / "a/b" / "c.tar.gz"
    assert (below.name, below.suffix, below.parent.name) == ("c.tar.gz", ".gz", "b")
    assert below.parent.parent.parent == place / "" == place
    first, *links = url.split("::")
    assert str(below) == "::".join([first.rstrip("/") + "/a/b/c.tar.gz", *links])


# What is there


@pytest.mark.parametrize("scheme", ["memory", "file", "zip"])
def test_sources_are_those_of_the_folder(tmp_path: Path, scheme: str) -> None:
    folder = _many_kinds(tmp_path / "clips")
    url = f"file://{folder}"
    if scheme == "memory":
        url = _in_memory(folder)
    elif scheme == "zip":
        fsspec.filesystem("zip", fo=str(tmp_path / "all.zip"), mode="w").put(
            str(folder), "clips", recursive=True
        )
        url = f"zip://clips::file://{tmp_path}/all.zip"
    local, remote = find_sources(folder), find_sources(url)
    assert [(s.name, s.size) for s in remote] == [(s.name, s.size) for s in local]
    assert remote[-1].name == "walk/f*.png"
    assert remote[-1].series is not None
    assert remote[-1].series.names == ("f1.png", "f2.png", "f10.png")
    for here, there in zip(local, remote, strict=True):
        assert source_digest(here) == source_digest(there), there.name
        if here.path.suffix != ".txt":
            assert _frames(here) == _frames(there), there.name
            assert count_clips(here) == count_clips(there)


def test_one_file_and_a_folder_of_pictures_may_be_named(tmp_path: Path) -> None:
    folder = _many_kinds(tmp_path / "clips")
    url = _in_memory(folder)
    assert len(find_sources("memory://")) == len(find_sources(folder))  # root of a file system
    (source,) = find_sources(f"{url}/clip2.mkv")
    assert (source.name, str(source.path)) == ("clip2.mkv", "memory://clips/clip2.mkv")
    assert folder_series(locate(f"{url}/walk")).series == folder_series(folder / "walk").series
    for name in ("clip2.mkv", "walk"):
        assert _frames(locate(f"{url}/{name}")) == _frames(folder / name)
        assert probe(locate(f"{url}/{name}")) == probe(folder / name)


def test_links_are_followed_to_files_alone(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.mp4").write_bytes(b"abc")
    (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "again.mp4").symlink_to(tmp_path / "a" / "1.mp4")
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    found = {source.name: source for source in find_sources(f"file://{tmp_path}")}
    assert {name: source.size for name, source in found.items()} == {
        "a/1.mp4": 3,
        "again.mp4": 3,
        "gone.mp4": -1,
    }
    assert found["again.mp4"].mtime_ns == found["a/1.mp4"].mtime_ns
    with pytest.raises(ReadError, match="cannot be read: No such file or directory"):
        source_digest(found["gone.mp4"])


NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
NOON_NS = int(NOON.timestamp()) * 10**9
ABC = 0xBA7816BF8F01CFEA  # the first 8 bytes of sha256("abc"), as in FIPS 180-2


@pytest.mark.parametrize(
    ("told", "mtime_ns"),
    [
        ({"mtime": NOON.timestamp()}, NOON_NS),
        ({"LastModified": NOON, "ETag": "abc"}, NOON_NS),
        ({"LastModified": NOON.astimezone(timezone(timedelta(hours=5)))}, NOON_NS),
        ({"LastModified": NOON.replace(tzinfo=None)}, NOON_NS),
        ({"updated": "2026-01-02T12:00:00.000Z"}, NOON_NS),
        ({"LastModified": "Fri, 02 Jan 2026", "ETag": "abc"}, ABC >> 1),
        ({"ETag": "abc"}, ABC >> 1),
        ({"CRC": 0, "size": 5}, 0),
        ({}, 0),
    ],
)
def test_the_time_is_what_the_file_system_tells(
    protocol: Any, told: dict[str, Any], mtime_ns: int
) -> None:
    class Told(Odd):
        def ls(self, path: str, detail: bool = True, **_: Any) -> list[dict[str, Any]]:
            return [{"name": "/clips/a.mp4", "size": 5, "type": "file", **told}]

        def info(self, path: str, **_: Any) -> dict[str, Any]:
            return {"name": "/clips", "size": 0, "type": "directory"}

    protocol(Told)
    (source,) = find_sources("odd://clips")
    assert (source.mtime_ns, source.size) == (mtime_ns, 5)


def test_listings_of_object_stores_are_taken_as_they_come(protocol: Any) -> None:
    """Markers of folders, what lies elsewhere, sizes that are not told, files beside folders."""
    asked = []

    class Store(Odd):
        def ls(self, path: str, detail: bool = True, **_: Any) -> list[dict[str, Any]]:
            asked.append(path)
            return {
                "clips": [
                    {"name": "clips/", "size": 0, "type": "directory"},
                    {"name": "clips", "size": 0, "type": "file"},
                    {"name": "clips/a", "size": 7, "type": "file"},
                    {"name": "clips/a/", "size": 0, "type": "directory"},
                    {"name": "clips/.git", "size": 0, "type": "directory"},
                    {"name": "elsewhere/b.mp4", "size": 7, "type": "file"},
                    {"name": "clips/socket", "size": 7, "type": "other"},
                ],
                "clips/a": [{"name": "clips/a/c.mp4", "size": None, "type": "file"}],
            }[path]

        def info(self, path: str, **_: Any) -> dict[str, Any]:
            return {"name": path, "size": 0, "type": "directory"}

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return path.removeprefix("odd://")

    protocol(Store)
    found = find_sources("odd://clips")
    assert [(source.name, source.size) for source in found] == [("a", 7), ("a/c.mp4", -1)]
    assert asked == ["clips", "clips/a"]


def test_sources_pass_between_processes_as_plain_values(tmp_path: Path) -> None:
    folder = _many_kinds(tmp_path / "clips")
    if os.name == "posix":
        Path(os.fsdecode(os.fsencode(str(folder)) + b"/b/\xff\n.mp4")).write_bytes(b"x")
    one = find_sources(folder / "clip2.mkv")
    for source in [*find_sources(folder), *find_sources(_in_memory(folder)), *one]:
        again = Source.from_json(json.loads(json.dumps(source.to_json())))
        assert again == source
        assert again.path == source.path


# Reading


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_clips_of_remote_arrays_are_read_from_any_frame_on() -> None:
    images = [barcode(number) for number in range(12)]
    array = np.stack(images).reshape(3, 4, *images[0].shape)
    fsspec.filesystem("memory").pipe_file("/clips/many.npy", _npy(array))
    place = locate("memory://clips/many.npy")
    first, second, third = open_clips(place, NATIVE)
    for clip, start in ((third, 8), (first, 0), (second, 4)):  # after the next was asked for
        assert np.array_equal(next(clip.frames), images[start])
    found = open_clips(place, NATIVE, first_frames=[SKIP, 3, 9])
    clips = [(clip.index, list(clip.frames), clip.position()) for clip in found]
    assert [(index, len(frames), share) for index, frames, share in clips] == [
        (1, 1, 2 / 3),
        (2, 0, 1.0),
    ]
    assert np.array_equal(clips[0][1], [images[7]])


WHOLE = _npy(np.zeros((2, 8, 8, 3), np.uint8))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (_npy(np.zeros((0, 8, 8, 3), np.uint8)), "holds no frame"),
        (_npy(np.zeros((2, 7), np.uint8)), "does not look like video"),
        (_npy(np.array([object()])), "an array of Python objects"),
        (WHOLE[:-1], "383 bytes, its header says 384"),
        *((content, "not a .npy array") for content in (WHOLE[:40], b"text", b"")),
        (WHOLE[:6] + b"\3" + WHOLE[7:], r"version \(3, 0\)"),
    ],
)
def test_a_remote_array_that_is_none_says_so(content: bytes, reason: str) -> None:
    fsspec.filesystem("memory").pipe_file("/clips/a.npy", content)
    for read in (count_clips, lambda place: next(open_clips(place, NATIVE))):
        with pytest.raises(ReadError, match=reason):
            read(locate("memory://clips/a.npy"))


def test_a_remote_array_of_any_order_of_axes() -> None:
    images = np.stack([barcode(number) for number in range(3)])
    for array, axes in ((np.asfortranarray(images), ""), (images.transpose(1, 2, 0, 3), "YXTC")):
        fsspec.filesystem("memory").pipe_file("/clips/a.npy", _npy(array))
        (source,) = find_sources("memory://clips/a.npy", layout=Layout(axes=axes))
        (clip,) = open_clips(source, NATIVE)
        assert np.array_equal(list(clip.frames), images)


def test_decord_is_not_asked_to_read_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ldf_video.clips.read.check_reader", lambda name: None)
    write_clip(tmp_path / "a.mp4", [barcode(3)] * 2, **GOP_8)
    (source,) = find_sources(_in_memory(tmp_path))
    (clip,) = open_clips(source, NATIVE, reader="decord")
    assert clip.why_pyav == "a URL"
    assert len(list(clip.frames)) == 2


class RangeFile(AbstractBufferedFile):
    """As files of object stores: ranges of bytes, each a request."""

    requests: ClassVar[list[tuple[int, int]]] = []

    def _fetch_range(self, start: int, end: int) -> bytes:
        self.requests.append((start, end))
        return MemoryFileSystem.store[self.path].getvalue()[start:end]


def test_files_come_in_bounded_ranges_and_about_once(protocol: Any) -> None:
    class Ranges(Odd):
        def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
            return RangeFile(self, self._strip_protocol(path), mode, **options)

    protocol(Ranges)
    size = 12 * BLOCK_BYTES
    array = np.random.default_rng(0).integers(0, 256, (2, 32, 256, 256, 3), np.uint8)
    with fsspec.open("memory://clips/a.npy", "wb") as file:
        np.save(file, array)
    assert array.nbytes == size
    place = RemotePath("odd://clips") / "a.npy"
    frames = [list(clip.frames) for clip in open_clips(place, Geometry(256, 256))]
    assert np.array_equal(frames, array)
    lengths = [end - start for start, end in RangeFile.requests]
    assert max(lengths) <= 2 * BLOCK_BYTES
    assert sum(lengths) < 1.1 * size


# What goes wrong


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("memory://clips/gone", "memory://clips/gone does not exist; expected a video"),
        ("memory://clips", "memory://clips holds no file"),
        ("nowhere://clips", r"Protocol not known: nowhere; .*such as s3://"),
        ("zip://a::nowhere://b/all.zip", r"Protocol not known: nowhere; .*such as s3://"),
        ("odd://clips", r"odd://clips: Install oddfs to access Odd; .*with pip"),
    ],
)
def test_a_url_of_nothing_is_a_usage_error(protocol: Any, url: str, said: str) -> None:
    protocol("no_such_package.OddFileSystem", "Install oddfs to access Odd")
    fsspec.filesystem("memory").makedirs("/clips/empty")
    with pytest.raises(UsageError, match=said):
        find_sources(url)


class NetworkError(Exception):
    """What backends raise need not be an OSError."""


class FlakyFile:
    """A file of which a part can be read, and then never more."""

    def __init__(self, file: Any, allowed_bytes: int) -> None:
        self._file, self._left = file, allowed_bytes
        self.seek, self.tell, self.close = file.seek, file.tell, lambda: None

    def read(self, num_bytes: int) -> bytes:
        self._left -= num_bytes
        if self._left < 0:
            raise NetworkError("connection reset\nby peer")
        data: bytes = self._file.read(num_bytes)
        return data


class Flaky(Odd):
    """The memory file system over a bad network."""

    allowed_bytes = 0

    def open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        return FlakyFile(super().open(path, mode), self.allowed_bytes)


def _until_error(
    source: Source, geometry: Geometry, *, fail_after: int | None = None
) -> tuple[int, str]:
    """How many frames come until an error, and what it is."""
    num_frames = 0
    try:
        for clip in open_clips(source, geometry):
            for num_frames, _ in enumerate(clip.frames, start=1):
                if num_frames == fail_after:
                    Flaky.allowed_bytes = 0
    except ReadError as error:
        return num_frames, f"{type(error).__name__}: {error}"
    pytest.fail("it read all")


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts", "moving.webp", "a.npy"])
def test_a_network_that_fails_is_an_error_and_no_end_of_the_clip(
    tmp_path: Path, name: str, protocol: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    """At any byte it is a ReadError: what is there is not taken for all that there is."""
    noise = np.random.default_rng(0).integers(0, 256, (100, 128, 128, 3), np.uint8)
    path = tmp_path / name
    if name == "a.npy":
        np.save(path, noise)
    elif name == "moving.webp":
        first, *rest = [Image.fromarray(image) for image in noise]
        first.save(path, save_all=True, append_images=rest, lossless=True)
    else:
        write_clip(path, list(noise), codec_options={"g": "4"})
    _in_memory(tmp_path)
    protocol(Flaky)
    size = path.stat().st_size
    source = Source(RemotePath("odd://clips"), name, size, 0)
    numbers = set()
    for share in (0, 0.1, 0.3, 0.5, 0.8, 0.99):
        Flaky.allowed_bytes = int(share * size)
        num_frames, said = _until_error(source, Geometry(128, 128))
        assert said == "ReadError: cannot be read: connection reset"
        numbers.add(num_frames)
        with pytest.raises(ReadError, match=r"^cannot be read: connection reset$"):
            source_digest(source)
    assert len(numbers) > 1 or name == "moving.webp"  # some in the midst of it
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", ["png", "gif", "webp"])
def test_where_the_network_fails_once_an_animation_is_not_taken_for_a_picture(
    tmp_path: Path, suffix: str, protocol: Any
) -> None:
    class Once(Odd):
        failing: ClassVar[Iterator[bool]]

        def open(self, path: str, mode: str = "rb", **_: Any) -> Any:
            if next(self.failing):
                raise NetworkError("connection reset\nby peer")
            return super().open(path, mode)

    for number in (1, 2):
        save_animation(tmp_path / f"{number}.{suffix}", [barcode(k) for k in range(3)])
    _in_memory(tmp_path)
    protocol(Once)
    Once.failing = iter([True])
    with pytest.raises(ReadError, match="odd://clips cannot be listed: connection reset"):
        find_sources("odd://clips")
    if suffix == "gif":  # is opened once
        return
    Once.failing = chain([False, True], repeat(False))
    with pytest.raises(ReadError, match=r"^cannot be read: connection reset$"):
        next(open_clips(RemotePath(f"odd://clips/1.{suffix}"), NATIVE))


def test_a_network_that_fails_within_a_series_is_an_error(tmp_path: Path, protocol: Any) -> None:
    for number in range(5):
        Image.fromarray(barcode(number)).save(tmp_path / f"{number}.png")
    _in_memory(tmp_path)
    protocol(Flaky)
    Flaky.allowed_bytes = 10**6
    (source,) = find_sources("odd://clips")
    assert len(_frames(source)) == 5
    error = "ReadError: 3.png: cannot be read: connection reset"
    assert _until_error(source, NATIVE, fail_after=3) == (3, error)


def test_a_file_that_ends_before_its_size_is_a_failure_of_its_file_system(protocol: Any) -> None:
    class Short(Odd):
        def open(self, path: str, mode: str = "rb", **_: Any) -> Any:
            file = FlakyFile(super().open(path, mode), 10**9)
            file.read = lambda num_bytes: b""  # type: ignore[method-assign]
            return file

    fsspec.filesystem("memory").pipe_file("/clips/a.mp4", b"abc")
    protocol(Short)
    with RemotePath("odd://clips/a.mp4").open() as file, pytest.raises(RemoteError) as raised:
        file.read()
    assert str(raised.value) == "it ended after 0 of 3 bytes"


@pytest.mark.parametrize(
    ("closed", "error", "said"),
    [
        ("/clips/b", NetworkError("no route to host"), "no route to host; "),
        ("/clips", PermissionError("Access Denied"), "Permission denied; "),
        ("/clips/b", PermissionError("Access Denied"), None),
        ("/clips/b", FileNotFoundError("/clips/b"), None),
    ],
)
def test_a_folder_that_is_closed_is_left_out_and_one_that_is_out_of_reach_is_an_error(
    protocol: Any, closed: str, error: Exception, said: str | None
) -> None:
    class Closed(Odd):
        def ls(self, path: str, detail: bool = True, **_: Any) -> Any:
            if path == closed:
                raise error
            return super().ls(path, detail)

    memory = fsspec.filesystem("memory")
    memory.pipe_file("/clips/a.mp4", b"x")
    memory.pipe_file("/clips/b/c.mp4", b"x")
    protocol(Closed)
    if said is not None:
        with pytest.raises(ReadError, match=f"odd://clips cannot be listed: {said}"):
            find_sources("odd://clips")
    else:
        assert [source.name for source in find_sources("odd://clips")] == ["a.mp4"]


def test_a_root_that_cannot_be_looked_at_is_an_error(protocol: Any) -> None:
    class Closed(Odd):
        def info(self, path: str, **_: Any) -> Any:
            raise PermissionError("Access Denied")

    protocol(Closed)
    with pytest.raises(ReadError, match="odd://clips cannot be listed: Permission denied; "):
        find_sources("odd://clips")
    assert not RemotePath("odd://clips").is_dir()


def test_files_keep_positions_of_their_own() -> None:
    """The memory file system hands the same file to all."""
    fsspec.filesystem("memory").pipe_file("/clips/a", bytes(range(256)) * 1024)
    place = RemotePath("memory://clips/a")
    with place.open() as first, place.open() as second:
        assert first.read(3) == bytes(range(3))
        second.seek(-1, os.SEEK_END)
        assert (second.read(), second.read()) == (b"\xff", b"")
        first.seek(256 * 1000 - 3, os.SEEK_CUR)
        assert first.read(2) == b"\0\1"
        first.seek(-1, os.SEEK_CUR)
        assert first.read(1) == b"\1"
        with pytest.raises(OSError, match="Invalid argument"):
            first.seek(-1)
