"""Clips in zip and tar archives: read where they lie, as if they were unpacked."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest
from clip_files import NATIVE, barcode, barcodes, read_barcode, write_clip
from PIL import Image

from ldf_video import info
from ldf_video.clips.identity import source_digest
from ldf_video.clips.read import open_clips
from ldf_video.errors import ReadError, UsageError
from ldf_video.files.inflated import GZIP, Checkpoints, Inflated
from ldf_video.recipes.ends import named_clip
from ldf_video.sources.search import find_sources, search
from ldf_video.sources.source import Source

if TYPE_CHECKING:
    from pathlib import Path

KINDS = ("zip", "stored.zip", "tar", "tar.gz", "tgz")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three clips and a text."""
    folder = tmp_path_factory.mktemp("clips")
    write_clip(folder / "film.mp4", barcodes(range(20)))
    (folder / "walk").mkdir()
    for k in range(12):
        Image.fromarray(barcode(k)).save(folder / "walk" / f"f{k}.png")
    np.save(folder / "walk" / "array.npy", np.stack(barcodes(range(5))))
    (folder / "notes.txt").write_text("x")
    return folder


def _pack(clips: Path, path: Path) -> Path:
    if path.suffix == ".zip":
        method = zipfile.ZIP_STORED if ".stored" in path.name else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(path, "w", method) as archive:
            for file in sorted(clips.rglob("*")):
                archive.write(file, file.relative_to(clips))
    else:
        with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as tar:
            tar.add(clips, ".")
    return path


def _read(source: Source) -> list[int]:
    (clip,) = open_clips(source, NATIVE)
    return [read_barcode(image) for image in clip.frames]


def _reasons(clips: Path) -> dict[str, str]:
    """What is said of each source that cannot be read."""
    reasons = {}
    for source in find_sources(clips):
        try:
            _read(source)
        except ReadError as error:
            reasons[source.name] = str(error)
    return reasons


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_holds_what_its_files_would_be(clips: Path, tmp_path: Path, kind: str) -> None:
    path = _pack(clips, tmp_path / f"all.{kind}")
    unpacked = find_sources(clips)
    for place, found in ((tmp_path, search(tmp_path)), (path, search(str(path)))):
        sources = [Source.from_json(source.to_json()) for source in found.sources]
        assert [source.name for source in sources] == [f"{path.name}::{s.name}" for s in unpacked]
        assert found.sidecars == {".txt": 1}
        assert [source.size for source in sources] == [source.size for source in unpacked], place
        assert list(map(source_digest, sources)) == list(map(source_digest, unpacked))
        assert list(map(_read, sources)) == [list(range(n)) for n in (20, 5, 12)]


@pytest.mark.parametrize(
    ("place", "names"),
    [
        ("all.zip::film.mp4", ["film.mp4"]),
        ("all.zip::walk", ["walk/array.npy", "walk/f*.png"]),
        ("all.zip::walk/f1*.png", ["walk/f*.png"]),
        ("all.zip::*.mp4", ["film.mp4"]),
        ("zip://walk/::all.zip", ["walk/array.npy", "walk/f*.png"]),
        ("all.zip::walk/array.npy", ["walk/array.npy"]),
    ],
)
def test_a_place_in_an_archive_can_be_named(
    clips: Path, tmp_path: Path, place: str, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _pack(clips, tmp_path / "all.zip")
    monkeypatch.chdir(tmp_path)
    sources = find_sources(place)
    assert [source.name for source in sources] == [f"all.zip::{name}" for name in names]
    if "f1" in place:
        assert _read(sources[0]) == [1, 10, 11]
    with pytest.raises(UsageError, match=r"^all\.zip::gone does not exist"):
        find_sources("all.zip::gone")


def test_commands_of_one_clip_take_a_place_in_an_archive(clips: Path, tmp_path: Path) -> None:
    path = _pack(clips, tmp_path / "all.zip")
    for member, num_frames in (("film.mp4", 20), ("walk", 12)):
        assert info(f"{path}::{member}")["num_frames"] == num_frames
        clip = named_clip(f"{path}::{member}", said="--from")
        assert len(_read(Source.from_json(clip.to_json()))) == num_frames
    with pytest.raises(UsageError, match="does not exist"):
        info(f"{path}::gone")


def test_what_is_wrong_with_an_archive_is_one_line_and_the_rest_is_read(
    clips: Path, tmp_path: Path
) -> None:
    film = (clips / "film.mp4").read_bytes()
    whole = _pack(clips, tmp_path / "all.zip").read_bytes()
    os.remove(tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "odd.zip", "w") as archive:
        for name in ("ok.mp4", "../out.mp4", "/etc/out.mp4", "C:\\out.mp4"):
            archive.writestr(name, film)
        archive.writestr("in.zip", whole)
        archive.writestr("bomb.mp4", bytes(2**20), zipfile.ZIP_DEFLATED)
        archive.writestr("packed.mp4", film, zipfile.ZIP_LZMA)
        archive.infolist()[-2].file_size = 2**31  # what the directory will say
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "pointer.zip").write_text("version https://git-lfs.github.com/spec/v1\noid x")
    zipfile.ZipFile(tmp_path / "none.zip", "w").close()
    tar = _pack(clips, tmp_path / "cut.tar")
    tar.write_bytes(tar.read_bytes()[: tar.stat().st_size // 2])
    reasons = _reasons(tmp_path)
    assert "odd.zip::ok.mp4" not in reasons
    assert all("\n" not in reason for reason in reasons.values())
    for name, said in {
        "odd.zip": "3 of its files would lie outside of it, such as '../out.mp4': left out",
        "odd.zip::in.zip": "an archive in an archive: unpack it",
        "odd.zip::bomb.mp4": "as a zip bomb does",
        "odd.zip::packed.mp4": "it is packed by method 14 of zip: unpack the archive",
        "cut.zip": "cannot be read: a damaged archive: its list of files, at its end, is missing",
        "pointer.zip": "a git-lfs pointer: run git lfs pull",
        "none.zip": "an archive that holds no file",
        "cut.tar": "a damaged archive: unexpected end of data; what comes before is read",
    }.items():
        assert said in reasons.pop(name), name
    assert not {name for name in reasons if not name.startswith("cut.tar::")}
    with pytest.raises(ReadError, match=r"cut\.zip cannot be read: a damaged archive"):
        find_sources(f"{tmp_path}/cut.zip::walk")


def test_an_archive_of_a_zarr_store_is_no_folder(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "store.zip", "w") as archive:
        archive.writestr("zarr.json", "{}")
        archive.writestr("data/c/0", b"")
    assert [source.name for source in find_sources(tmp_path)] == ["store.zip"]


def test_inflating_goes_on_from_near_any_place() -> None:
    data = np.random.default_rng(0).integers(0, 4, 2**20, dtype=np.uint8).tobytes()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        info = tarfile.TarInfo("data")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    checkpoints = Checkpoints(spacing=2**15)
    file = Inflated(packed, None, GZIP, checkpoints)
    for place in (700_000, 5, 650_000, 1_000_000, 999_999, 2**30, 40_000):
        file.seek(512 + place)
        assert file.read(100) == data[place : place + 100]
    assert len(checkpoints.places) > 10
    again = Inflated(packed, None, GZIP, checkpoints)
    again.seek(512 + 800_000)
    again.read(1)
    assert again._begin > len(packed.getvalue()) // 2  # not read from the beginning


def test_a_member_without_a_name_is_left_out(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in ("a.mp4", ""):
            archive.writestr(zipfile.ZipInfo(name), b"x")
    assert [source.name for source in find_sources(tmp_path)] == ["all.zip", "all.zip::a.mp4"]


def test_a_packed_store_is_the_same_however_its_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("a.zarr/zarr.json", "{}")
    monkeypatch.chdir(tmp_path.parent)
    near, far = (find_sources(place)[0] for place in (tmp_path.name, tmp_path))
    assert (near.name, near.is_folder) == ("all.zip::a.zarr", True)
    assert (near.size, near.mtime_ns) == (far.size, far.mtime_ns)
