"""HDF5 files and zarr stores: which arrays are clips, episodes, what is missing or damaged."""

from __future__ import annotations

import json
import math
import os
import pickle
import shutil
import tarfile
import tracemalloc
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from array_files import ALL, FRAMES, GREY, notes_of, numbers_of, write_push_t, write_robomimic
from clip_files import read_barcode

from ldf_video.arrays import frame_array, hdf5
from ldf_video.clips.identity import source_digest
from ldf_video.clips.probe import count_clips, probe
from ldf_video.clips.read import open_clips
from ldf_video.errors import ReadError
from ldf_video.readers.clips import probe as probe_apart
from ldf_video.sources.search import find_sources
from ldf_video.video.geometry import Geometry

if TYPE_CHECKING:
    from collections.abc import Callable

h5py = pytest.importorskip("h5py")
zarr = pytest.importorskip("zarr")

TOLD = "conditions: data/demo_*/actions, 7 columns: a row led to the next frame"
FRONT, HAND = [[1, 2, 3], [4, 5], [6, 7, 8, 9]], [[11, 12, 13], [14, 15], [16, 17, 18, 19]]


def test_demos_of_robomimic(tmp_path: Path) -> None:
    path = write_robomimic(h5py, tmp_path / "a.hdf5")
    both = [clip for pair in zip(FRONT, HAND, strict=True) for clip in pair]
    assert numbers_of(path) == both
    (note,) = notes_of(path)
    assert note.startswith("takes data/demo_*/obs/agentview_image, data/demo_*/obs/robot*_eye")
    for place in ("data/*/obs/agentview_image", "data/demo_*/obs/agent*"):
        assert numbers_of(f"{path}::{place}") == FRONT
        assert notes_of(f"{path}::{place}") == {TOLD}
    assert numbers_of(path, camera="robot0_eye_in_hand") == HAND
    assert numbers_of(f"{path}::data/demo_10/next_obs/agentview_image") == FRONT[2:]
    (source,) = find_sources(f"{path}::data/*/obs/agentview_image")
    assert (count_clips(source), probe(source).num_frames) == (3, 9)
    held = ("data/demo_*/obs/agentview_image: 3 arrays of uint8, axes TYXC, 64x48",)
    assert probe(source).told == probe_apart(source).told == (TOLD,)
    assert probe(source).held == probe_apart(source).held == held
    assert len(probe(path).held) == 2
    held = r"it holds data/demo_\*/next_obs/agentview_image, [^;]*_eye_in_hand_image$"  # no actions
    with pytest.raises(ReadError, match=f"nothing at ::data/rgb; {held}"):
        numbers_of(f"{path}::data/rgb")
    with pytest.raises(ReadError, match=f"no array of a camera wrist; {held}"):
        numbers_of(path, camera="wrist")


def test_what_was_never_written_is_told_and_claims_are_not_believed(tmp_path: Path) -> None:
    (tmp_path / "empty.zarr").mkdir()
    with h5py.File(tmp_path / "a.h5", "w") as file:
        part = file.create_dataset("part", (20, 48, 64, 3), np.uint8, chunks=(4, 48, 64, 3))
        part[:8] = FRAMES[:8]
        file.create_dataset("all", (20, 48, 64, 3), np.uint8, chunks=(4, 48, 64, 3))
        file.create_dataset("years", (2**40, 48, 64, 3), np.uint8, chunks=(1, 48, 64, 3))
        raw = [(str(tmp_path / "other"), 0, 27648)]
        file.create_dataset("raw", (3, 48, 64, 3), np.uint8, external=raw)
        file.create_dataset("wide", (9, 2**14, 2**14, 3), np.uint8, chunks=(1, 64, 64, 3))
        layout = h5py.VirtualLayout((20, 48, 64, 3), np.uint8)
        layout[:] = h5py.VirtualSource("absent.h5", "v", (20, 48, 64, 3))
        file.create_virtual_dataset("virtual", layout)
    path = tmp_path / "a.h5"
    assert numbers_of(f"{path}::part") == [[*range(8), *12 * [0]]]
    assert notes_of(f"{path}::part") == {"3 of 5 chunks were never written: they read as 0"}
    assert notes_of(f"{path}::all") == {"5 of 5 chunks were never written: they read as 0"}
    said = "1 of 1 files that it is made of are not there: they read as 0"
    assert notes_of(f"{path}::virtual") == {said}
    for place, reason in {
        "years": "years: 1,099,511,627,776 of 1,099,511,627,776 chunks were never written",
        "wide": "a frame of 16384x16384 pixels",
        "raw": "nothing at ::raw",
    }.items():
        with pytest.raises(ReadError, match=reason):
            numbers_of(f"{path}::{place}")
    (source,) = find_sources(f"{path}::years")
    assert len(source_digest(source)) == 64
    root = zarr.open_group(tmp_path / "b.zarr", mode="w", zarr_format=2)
    root.create_array("img", data=FRAMES, chunks=(4, 48, 64, 3))
    described = tmp_path / "b.zarr" / "img" / ".zarray"
    known = json.loads(described.read_text())
    for changed, reason in (
        ({"shape": [2**50, 48, 64, 3]}, "281,474,976,710,656 chunks in . files"),
        ({"chunks": [0, 48, 64, 3]}, "a zarr store that cannot be read"),
    ):
        described.write_text(json.dumps(known | changed))
        with pytest.raises(ReadError, match=reason):
            numbers_of(tmp_path / "b.zarr")
    with pytest.raises(ReadError, match="a zarr store that cannot be read"):
        numbers_of(next(one for one in find_sources(tmp_path) if one.name == "empty.zarr").path)
    np.save(tmp_path / "c.npy", FRAMES)
    header = (tmp_path / "c.npy").read_bytes()[:128]
    (tmp_path / "c.npy").write_bytes(header.replace(b"(20, 48", b"(-2, 48"))
    with pytest.raises(ReadError, match=r"its header says a shape of \(-2, 48"):
        numbers_of(tmp_path / "c.npy")


def test_a_camera_where_there_is_nothing_to_choose(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["frames"] = FRAMES
    assert notes_of(tmp_path / "a.h5", camera="wrist") == {
        "--camera wrist: takes frames, the only one there"
    }
    np.save(tmp_path / "b.npy", FRAMES)
    assert notes_of(tmp_path / "b.npy", camera="wrist") == {
        "--camera wrist: a .npy array has no cameras"
    }
    assert notes_of(tmp_path / "b.npy") == {""}


def _csgo(file: Any) -> None:
    for number in reversed(range(20)):
        file[f"frame_{number}_x"] = FRAMES[number]
        file[f"frame_{number}_y"] = np.zeros(51)
        file[f"frame_{number}_xaux"] = np.zeros(57)
        file[f"frame_{number}_helperarr"] = np.zeros(2)


def _minari(file: Any) -> None:
    for number in (0, 1, 10):
        file[f"episode_{number}/observations"] = FRAMES[number : number + 3]
        file[f"episode_{number}/actions"] = np.zeros((2, 4))


def _sevir(file: Any) -> None:
    file["vil"] = np.stack([GREY.transpose(1, 2, 0)] * 2)
    file["id"] = [b"S1", b"S2"]


def _chunked(file: Any) -> None:
    file.create_dataset("a/img", data=FRAMES, chunks=(7, 24, 64, 3), compression="gzip")


@pytest.mark.parametrize(
    ("fill", "axes", "clips"),
    [
        (_csgo, "", [ALL]),
        (_minari, "", [[0, 1, 2], [1, 2, 3], [10, 11, 12]]),
        (_sevir, "NYXT", [ALL, ALL]),
        (_chunked, "", [ALL]),
    ],
)
def test_layouts_of_hdf5(
    tmp_path: Path, fill: Callable[[Any], None], axes: str, clips: list[list[int]]
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        fill(file)
    assert numbers_of(tmp_path / "a.h5", axes=axes) == clips


def test_arrays_of_matlab_are_turned(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:
        file["video"] = FRAMES.transpose(1, 2, 3, 0).T  # in MATLAB (H, W, 3, T)
        file["video"].attrs["MATLAB_class"] = np.bytes_("uint8")
    assert numbers_of(tmp_path / "a.mat", axes="YXCT") == [ALL]


def test_what_is_wrong_with_an_hdf5_file_is_one_line(tmp_path: Path) -> None:
    path = write_robomimic(h5py, tmp_path / "a.hdf5")
    whole = path.read_bytes()
    path.write_bytes(whole[:9000])
    with pytest.raises(ReadError, match=f"^an HDF5 .* cut short: 9,000 of {len(whole):,} bytes$"):
        numbers_of(path)
    path.write_bytes(whole[:8] + bytes(100) + whole[108:])
    with pytest.raises(ReadError, match=r"^an HDF5 file that cannot be read: [^\n]*$"):
        numbers_of(path)
    with h5py.File(path, "w") as file:
        file["actions"] = np.zeros((20, 7))
        file["away"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/x")
    with pytest.raises(ReadError, match="hdf5 without an array that is video for sure: actions"):
        numbers_of(path)


@pytest.mark.parametrize("version", [2, 3])
def test_episodes_of_diffusion_policy(tmp_path: Path, version: int) -> None:
    path = write_push_t(zarr, tmp_path / "pusht.zarr", version=version)
    for place in (path, f"{path}::data/img", tmp_path):
        assert numbers_of(place) == [ALL[:5], ALL[5:12], ALL[12:]]
    scale = "float32 of 0 to 255 (as its values are; else --levels)"
    told = "conditions: data/action, 2 columns: a row led to the next frame"
    assert notes_of(path) == {f"{scale}; {told}"}
    assert notes_of(path, actions="off") == {scale}
    (source,) = find_sources(path)
    info = probe(source)
    assert (count_clips(source), info.num_frames, info.container) == (3, 20, "zarr")


@pytest.mark.parametrize("version", [2, 3])
def test_missing_chunks_are_told(tmp_path: Path, version: int) -> None:
    path = write_push_t(zarr, tmp_path / "a.zarr", version=version)
    (path / ("data/img/1.0.0.0" if version == 2 else "data/img/c/1/0/0/0")).unlink()
    assert numbers_of(path) == [ALL[:5], [5, *[0] * 6], ALL[12:]]
    (note,) = notes_of(path)
    assert "1 of 4 chunks are not there: they read as 0" in note


@pytest.mark.parametrize("shards", [(6, 48, 64, 3), (9, 48, 64, 3)])
def test_missing_shards_are_told(tmp_path: Path, shards: tuple[int, ...]) -> None:
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    root.create_array("img", data=FRAMES, chunks=(3, 24, 32, 3), shards=shards)
    assert (numbers_of(tmp_path), notes_of(tmp_path)) == ([ALL], {""})
    (tmp_path / "a.zarr" / "img" / "c" / "0" / "0" / "0" / "0").unlink()
    (note,) = notes_of(tmp_path)
    assert note.startswith(f"1 of {-(-20 // shards[0])} chunks are not there: they read as 0")


@pytest.mark.parametrize(
    ("ends", "found", "said"),
    [
        ([5.0, 20.0], [ALL[:5], ALL[5:]], ""),
        ([5, 12], [ALL[:5], ALL[5:12]], "meta/episode_ends names 12 of 20 frames: those behind"),
        ([5, 30], [ALL], "meta/episode_ends does not fit data/img"),
    ],
)
def test_episodes_that_do_not_fit_are_told(
    tmp_path: Path, ends: list[float], found: list[list[int]], said: str
) -> None:
    root = zarr.open_group(tmp_path / "a.zarr", mode="w")
    root.create_array("data/img", data=FRAMES)
    root.create_array("meta/episode_ends", data=np.array(ends))
    assert numbers_of(tmp_path) == found
    (note,) = notes_of(tmp_path)
    assert note.startswith(said)
    assert bool(note) == bool(said)


def test_hdf5_behind_others_bytes_and_without_video(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=2048) as file:
        file["img"] = FRAMES
    assert numbers_of(tmp_path) == [ALL]
    packed = h5py.vlen_dtype(np.uint8)
    for kind, reason in (
        (packed, "v: its rows have different lengths"),
        ("S3", "expected numbers"),
    ):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_dataset("v", (20,), kind)
        with pytest.raises(ReadError, match=reason):
            numbers_of(tmp_path)


@pytest.mark.parametrize("shards", [None, (10, 48, 64, 3)])
def test_zarr_in_a_zip_and_in_shards(tmp_path: Path, shards: tuple[int, ...] | None) -> None:
    for name in ("a.zarr.zip", "b.zip"):
        store = zarr.storage.ZipStore(tmp_path / name, mode="w")
        array = zarr.open_group(store, mode="w").create_array(
            "img", shape=FRAMES.shape, dtype="u1", chunks=(5, 24, 32, 3), shards=shards
        )
        array[:] = FRAMES
        store.close()
        assert numbers_of(tmp_path / name) == [ALL]


def _packed(folder: Path, archive: Path) -> Path:
    """A zip of a folder, under its own name, as `zip -r` makes it."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, path.relative_to(folder.parent))
    return archive


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("name", ["all.zip", "pusht.zarr.zip"])
def test_zarr_in_a_folder_of_a_zip(tmp_path: Path, version: int, name: str) -> None:
    folder = tmp_path / "pusht.zarr"
    (tmp_path / "zips").mkdir()
    archive = _packed(write_push_t(zarr, folder, version=version), tmp_path / "zips" / name)
    (source,) = find_sources(folder)
    episodes = [ALL[:5], ALL[5:12], ALL[12:]]
    inside = ("", "::pusht.zarr", "::pusht.zarr::data/img", "::pusht.zarr/data")
    for place in (archive.parent, *(f"{archive}{one}" for one in inside)):
        found = numbers_of(place)
        assert found == episodes if "/data" not in str(place) or "::data" in str(place) else [ALL]
    (packed,) = find_sources(archive)
    assert source_digest(packed) == source_digest(source)  # unpacked it is the same clips
    shutil.rmtree(folder / "data" / "action")
    _packed(folder, archive)
    (changed,) = find_sources(archive)
    assert (changed.size, changed.mtime_ns) != (packed.size, packed.mtime_ns)


def test_zarr_in_a_tar_is_named_and_a_damaged_chunk_in_a_zip_ends_the_clip(tmp_path: Path) -> None:
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    root.create_array("img", data=FRAMES, chunks=(4, 48, 64, 3))
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        file.add(tmp_path / "a.zarr", "a.zarr")
    with pytest.raises(ReadError, match="a zarr store in a tar archive: unpack it, or pack it as"):
        numbers_of(tmp_path / "a.tar")
    archive = _packed(tmp_path / "a.zarr", tmp_path / "a.zip")
    with zipfile.ZipFile(archive) as file:
        info = file.getinfo("a.zarr/img/c/3/0/0/0")
    content = bytearray(archive.read_bytes())
    begin = info.header_offset + 30 + len(info.filename)
    content[begin : begin + info.compress_size] = b"\xff" * info.compress_size
    archive.write_bytes(content)
    (source,) = find_sources(archive)
    assert source_digest(source)
    (clip,) = open_clips(source, Geometry(48, 64))
    kept: list[int] = []
    with pytest.raises(ReadError, match=r"^img: "):
        kept.extend(read_barcode(frame) for frame in clip.frames)
    assert kept == ALL[:12]


def test_a_codec_that_unpickles_is_never_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (tmp_path / "sprung").touch, ()

    path = tmp_path / "a.zarr"
    root = zarr.open_group(path, mode="w", zarr_format=2)
    root.create_array("img", data=FRAMES, chunks=FRAMES.shape, compressors=None)
    header = json.loads((path / "img/.zarray").read_text())
    (path / "img/.zarray").write_text(json.dumps(header | {"filters": [{"id": "pickle"}]}))
    (path / "img/0.0.0.0").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ReadError):
        numbers_of(path)
    assert not (tmp_path / "sprung").exists()


def test_a_store_that_is_none_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "zarr.json").write_text("{")
    with pytest.raises(ReadError, match=r"^a zarr store that cannot be read: [^\n]*$"):
        numbers_of(tmp_path / "a.zarr")


@pytest.mark.parametrize("kind", ["h5", "zarr"])
def test_a_store_of_ten_gigabytes_is_never_read_whole(tmp_path: Path, kind: str) -> None:
    path, shape, chunks = tmp_path / f"a.{kind}", (400_000, 96, 96, 3), (100, 96, 96, 3)
    if kind == "h5":
        with h5py.File(path, "w") as file:
            file.create_dataset("img", shape, "u1", chunks=chunks)
    else:
        zarr.open_group(path, mode="w").create_array("img", shape=shape, dtype="u1", chunks=chunks)
    (source,) = find_sources(path)
    tracemalloc.start()
    assert probe(source).num_frames == 400_000
    (clip,) = open_clips(source, Geometry(32, 32), first_frames=[399_990])
    assert len(list(clip.frames)) == 10
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 4 * math.prod(chunks)


def _write(kind: str, path: Path, seed: int, others: int) -> None:
    """Frames and, beside them, tracks of so many bytes, of which the files have holes."""
    frames = np.random.default_rng(seed).integers(0, 256, (6, 48, 64, 3), np.uint8)
    if kind == "npz":
        np.savez(path, img=frames, other=np.zeros(2**24, np.uint8))
    elif kind.startswith("h5"):
        with h5py.File(path, "w") as file:
            file.create_dataset("img", data=frames, chunks=(4, 48, 64, 3) if kind == "h5" else None)
            plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            space = h5py.h5s.create_simple((others,))
            h5py.h5d.create(file.id, b"other", h5py.h5t.NATIVE_UINT8, space, plist)
    else:
        folder = path if kind == "zarr" else path.with_suffix("")
        root = zarr.open_group(folder, mode="w", zarr_format=2)
        root.create_array("img", data=frames, chunks=(4, 48, 64, 3))
        root.create_array("other", data=np.ones(9, np.uint8))
        if kind == "zarr":
            os.truncate(path / "other" / "0", others)
        else:
            shutil.make_archive(str(folder), "zip", folder)
            with zipfile.ZipFile(path, "a") as archive:
                archive.writestr("other/1", bytes(2**24))


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="what is read is counted by Linux")
@pytest.mark.parametrize("kind", ["h5", "h5, no chunks", "zarr", "zarr.zip", "npz"])
def test_what_is_no_clip_is_not_read_to_identify_a_file(tmp_path: Path, kind: str) -> None:
    def digest_of(seed: int, others: int) -> str:
        path = tmp_path / f"{seed} {others}.{kind.partition(',')[0]}"
        _write(kind, path, seed, others)
        (source,), (part,) = find_sources(path), find_sources(f"{path}::img")
        assert source_digest(source) == source_digest(part)
        before = _bytes_read()
        digest = source_digest(source)
        assert _bytes_read() - before < 2**20
        return digest

    assert digest_of(0, 10 * 2**30) == digest_of(0, 10) != digest_of(1, 10)


def _bytes_read() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.parametrize("kind", ["h5", "zarr", "npz"])
def test_all_that_decides_frames_identifies_them(tmp_path: Path, kind: str) -> None:
    found = set()
    for number, (name, frames, ends) in enumerate(
        [
            ("img", FRAMES, [5, 20]),
            ("view", FRAMES, [5, 20]),
            ("img", FRAMES[::-1], [5, 20]),
            ("img", FRAMES[:, :24], [5, 20]),
            ("img", FRAMES, [6, 20]),
            ("img", FRAMES.astype(np.float32), [5, 20]),
        ]
    ):
        path = tmp_path / f"{number}.{kind}"
        arrays = {f"data/{name}": frames, "meta/episode_ends": np.array(ends)}
        if kind == "npz":
            np.savez(path, **arrays)
        elif kind == "h5":
            with h5py.File(path, "w") as file:
                for key, values in arrays.items():
                    file.create_dataset(key, data=values, compression="gzip")
        else:
            for key, values in arrays.items():
                zarr.open_group(path, mode="a").create_array(key, data=values)
        (source,) = find_sources(path)
        assert count_clips(source) == 2
        found.add(source_digest(source))
    assert len(found) == 6


def test_blocks_cover_an_array_once() -> None:
    for shape in ((7,), (3, 2_000_000), (2, 3, 5), (3, 2, 700, 1_000), (3_000_000, 2)):
        seen = np.zeros(shape, np.uint8)
        for place in hdf5._blocks(shape, 1):
            assert 0 < seen[place].size <= 2**20
            seen[place] += 1
        assert seen.min() == seen.max() == 1


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = write_robomimic(h5py, tmp_path / "a.hdf5")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ReadError, match=r"^an HDF5 file, .* pip install 'ldf-video\[hdf5\]'$"):
        numbers_of(path)


@pytest.mark.parametrize("chunk", [20, 7])
def test_large_chunks_of_hdf5_are_kept_and_read_by_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, frames in (("data/demo_0", FRAMES), ("data/demo_1", FRAMES[::-1])):
            how = {"compression": "gzip", "chunks": (chunk, 48, 64, 3)}
            file.create_dataset(name, data=frames, **how)
    digest = source_digest(find_sources(tmp_path)[0])
    monkeypatch.setattr(hdf5, "_LARGE_BYTES", 2**10)
    monkeypatch.setattr(frame_array, "BLOCK_BYTES", 2**15)
    assert numbers_of(tmp_path) == [ALL, ALL[::-1]]
    assert source_digest(find_sources(tmp_path)[0]) == digest
