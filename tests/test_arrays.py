"""Arrays of any layout, in .npy files and .npz archives: which axis is what, and which number."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from array_files import ALL, FRAMES, GREY, NATIVE, notes_of, numbers_of
from clip_files import read_barcode
from hypothesis import given
from hypothesis import strategies as st

from ldf_video.arrays.axes import choose_axes, readings
from ldf_video.arrays.values import choose_scale
from ldf_video.clips.probe import probe
from ldf_video.clips.read import open_clips
from ldf_video.errors import ReadError, TruncatedError
from ldf_video.sources.search import find_sources

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FIVE = np.stack([GREY] * 5)


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        ((20, 48, 64, 3), ["TYXC"]),
        ((5, 20, 48, 64, 3), ["NTYXC"]),
        ((1, 1, 1, 3), ["TYXC"]),  # colours at the end were never questioned
        ((20, 48, 64), ["TYX"]),
        ((20, 48, 64, 1), ["TYXC"]),
        ((20, 48, 64, 4), ["TYXC"]),
        ((20, 3, 48, 64), ["TCYX"]),
        ((20, 1, 48, 64), ["TCYX"]),
        ((20, 10_000, 64, 64), ["NTYX", "TNYX"]),  # Moving MNIST
        ((200, 384, 384, 49), ["NYXT"]),  # SEVIR
        ((200, 384, 384, 200), ["NTYX", "TNYX", "NYXT"]),
        ((3, 20, 48, 64), ["CTYX", "NTYX", "TNYX"]),
        ((20, 4, 48, 64), ["TCYX", "NTYX", "TNYX"]),
        ((8, 20, 3, 48, 64), ["NTCYX", "TNCYX"]),
        ((64, 64, 100), ["TYX", "YXT"]),
        ((100, 48, 64), ["TYX"]),
        ((1000, 7), []),
        ((100, 4, 4), []),
    ],
)
def test_how_a_shape_can_be_read(shape: tuple[int, ...], found: list[str]) -> None:
    assert readings(shape) == found
    if len(found) == 1:
        assert choose_axes(shape) == found[0]
    else:
        with pytest.raises(ReadError, match=f"--axes,? {'.*--axes '.join(found)}"):
            choose_axes(shape)


@pytest.mark.parametrize(
    ("array", "axes", "clips"),
    [
        (FIVE.transpose(1, 0, 2, 3), "TNYX", 5),
        (FIVE, "NTYX", 5),
        (FIVE.transpose(0, 2, 3, 1), "NYXT", 5),
        (np.stack([FRAMES] * 2).transpose(1, 0, 4, 2, 3), "TNCYX", 2),
        (FRAMES.transpose(3, 0, 1, 2), "CTYX", None),
        (GREY.transpose(2, 1, 0), "XYT", None),
        (GREY.transpose(1, 2, 0), "YXT", None),
        (FRAMES.transpose(0, 3, 1, 2), "", None),
        (GREY, "", None),
        (GREY[..., None], "", None),
        (np.asfortranarray(FRAMES), "", None),
    ],
    ids=lambda value: str(getattr(value, "shape", value)),
)
@pytest.mark.parametrize("save", ["npy", "npz", "deflated"])
def test_arrays_of_any_order_of_axes(
    tmp_path: Path, array: Any, axes: str, clips: int | None, save: str
) -> None:
    path = tmp_path / f"a.{'npy' if save == 'npy' else 'npz'}"
    if save == "npy":
        np.save(path, array)
    else:
        {"npz": np.savez, "deflated": np.savez_compressed}[save](path, obs=array, reward=np.ones(9))
    assert numbers_of(path, axes=axes) == [ALL] * (clips or 1)
    (source,) = find_sources(path)
    if not axes:
        info = probe(source)
        assert (info.num_frames, info.width, info.height) == (20, 64, 48)


@pytest.mark.parametrize(
    ("convert", "levels", "said"),
    [
        (lambda a: a > 0, "", ""),
        (lambda a: a.astype(np.uint16) * 257, "", ""),
        (lambda a: a.astype(">u2") * 257, "", ""),
        (lambda a: (a // 64).astype(np.uint16), "", "uses 0.0046 % of the range"),
        (lambda a: a.astype(np.uint16) * 16, "0:4080", ""),
        (lambda a: a.astype(np.float32) / 255, "", "float32 of 0 to 1 ("),
        (lambda a: a.astype(np.float16) / 255, "", "float16 of 0 to 1 ("),
        (lambda a: a / 127.5 - 1, "", "float64 of -1 to 1 ("),
        (lambda a: a.astype(np.float32), "", "float32 of 0 to 255 ("),
        (lambda a: a.astype(np.int64), "", "int64 of 0 to 255 ("),
        (lambda a: (a[..., 0] > 0).astype(np.int8), "", "int8 of 0 to 1 ("),
        (lambda a: (a[..., 0] > 0).astype(np.uint8), "", "uses 0.39 % of the range"),
        (lambda a: a * 7.5 - 100, "-100:1812.5", ""),
        (lambda a: 255 - a, "255:0", ""),
        (lambda a: np.where(a > 0, np.nan, 1.0), "1:0", ""),
    ],
)
def test_numbers_of_any_range(
    tmp_path: Path, convert: Callable[[Any], Any], levels: str, said: str
) -> None:
    np.save(tmp_path / "a.npy", convert(FRAMES))
    (note,) = notes_of(tmp_path, levels=levels)
    assert note.startswith(said)
    assert bool(note) == bool(said)
    if said.startswith("uses"):  # as dark as it is, until it is stretched as said
        (levels,) = note.split("--levels ")[1].split()[:1]
    if "nan" not in str(convert(FRAMES).max()):  # what is no number is black
        assert numbers_of(tmp_path, levels=levels) == [ALL]


@given(st.sampled_from([np.float32, np.float64]), st.sampled_from([(0, 1), (-1, 1), (0, 255)]))
def test_all_256_levels_come_through_floats(kind: Any, span: tuple[int, int]) -> None:
    levels = np.arange(256, dtype=np.uint8)
    values = (span[0] + levels.astype(np.float64) / 255 * (span[1] - span[0])).astype(kind)
    scale = choose_scale(values.dtype, None, [values])
    assert np.array_equal(scale.to_8_bits(values), levels)


def test_floats_that_contradict_their_beginning_end_the_clip(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((100, 48, 64)).astype(np.float32)
    values[30] = 200
    np.save(tmp_path / "a.npy", values)
    (clip,) = open_clips(tmp_path / "a.npy", NATIVE)
    with pytest.raises((ReadError, TruncatedError), match="the number 200 among float32 of 0 to 1"):
        list(clip.frames)


@pytest.mark.parametrize(
    ("array", "layout", "reason"),
    [
        (np.array(1.5), {}, "does not look like video"),
        (np.zeros((20, 7)), {}, "does not look like video"),
        (np.array(["a"]), {}, "an array of <U1; expected numbers"),
        (np.zeros((2, 48, 64, 3), np.complex64), {}, "an array of complex64"),
        (FRAMES[0], {}, r"is one frame: .* numpy\.save\(.*numpy\.stack"),
        (FRAMES, {"axes": "TYX"}, r"\(20, 48, 64, 3\): --axes TYX names 3 axes"),
        (FRAMES, {"axes": "NYXT"}, ""),
        (FRAMES, {"axes": "CTYX"}, "20 channels by --axes CTYX; expected 1, 3 or 4"),
        (FRAMES * -7.0, {}, "float64 of -1785 to -?0; say which .*: --levels LOW:HIGH"),
        (FRAMES.astype(int) * 1000, {}, "int64 of 0 to 255000; say which"),
    ],
    ids=lambda value: str(getattr(value, "shape", value)),
)
def test_what_is_no_video_says_so(
    tmp_path: Path, array: Any, layout: dict[str, str], reason: str
) -> None:
    np.save(tmp_path / "a.npy", array)
    if not reason:  # odd, but what was asked for
        assert len(numbers_of(tmp_path, **layout)) == 20
        return
    with pytest.raises(ReadError, match=reason):
        numbers_of(tmp_path, **layout)


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    alpha = np.full_like(FRAMES[..., :1], 255)
    alpha[:, :, :8] = 0
    np.save(tmp_path / "a.npy", np.concatenate([FRAMES, alpha], -1))
    (clip,) = open_clips(tmp_path / "a.npy", NATIVE)
    frames = np.stack(list(clip.frames))
    assert (frames[:, :, :8] == 255).all()
    assert [read_barcode(frame) for frame in frames] == [number | 1 for number in ALL]


# Archives


def test_members_of_an_archive_are_chosen_by_their_names(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, left=FRAMES[:3], right=FRAMES[4:6], action=np.zeros((20, 3)))
    assert numbers_of(path) == [[0, 1, 2], [4, 5]]
    assert notes_of(path, actions="off") == {"takes left, right; for one alone: PATH::left"}
    assert numbers_of(f"{path}::right") == [[4, 5]]
    assert numbers_of(f"{path}::*t") == [[0, 1, 2], [4, 5]]
    with pytest.raises(ReadError, match=r"^nothing at ::obs; it holds left, right$"):
        numbers_of(f"{path}::obs")
    with pytest.raises(ReadError, match="npz without an array that is video for sure: action"):
        numbers_of(f"{path}::action")
    np.save(tmp_path / "b.npy", FRAMES)
    with pytest.raises(ReadError, match="nothing in it has a path, so ::obs names nothing"):
        numbers_of(f"{tmp_path / 'b.npy'}::obs")


def test_objects_are_never_opened(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (tmp_path / "sprung").touch, ()

    np.savez(tmp_path / "a.npz", obs=FRAMES, info=np.array([Trap()]))
    np.savez(tmp_path / "b.npz", info=np.array([Trap()]))
    assert numbers_of(tmp_path / "a.npz") == [ALL]
    with pytest.raises(ReadError, match="it holds no array of numbers"):
        numbers_of(tmp_path / "b.npz")
    assert not (tmp_path / "sprung").exists()


def test_a_damaged_archive_gives_what_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    noise = np.random.default_rng(0).integers(0, 256, (200, 48, 64, 3), np.uint8)
    np.savez_compressed(path, obs=noise)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ReadError, match=r"not a \.npz archive"):
        numbers_of(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("obs.npy", b"notes")
    with pytest.raises(ReadError, match=r"not a \.npz archive"):
        numbers_of(path)
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes(64) + whole[middle + 64 :])
    (clip,) = open_clips(path, NATIVE)
    frames = []
    with pytest.raises((ReadError, TruncatedError)):
        frames += [frames.append(frame) for frame in clip.frames]
    assert 90 < len(frames) < 200  # what is wrong may show at the end alone, by the checksum
    assert np.array_equal(frames[:90], noise[:90])


# A file a frame


@pytest.mark.parametrize(
    "frames", [FRAMES, GREY, FRAMES.astype(np.float32) / 255], ids=["colours", "grey", "floats"]
)
def test_numbered_files_of_a_frame_each_are_one_clip(tmp_path: Path, frames: Any) -> None:
    for number in ALL:
        np.save(tmp_path / f"{number}.npy", frames[number])
    (source,) = find_sources(tmp_path)
    assert source.name == "*.npy"
    assert numbers_of(tmp_path) == [ALL]
    np.save(tmp_path / "12.npy", frames[12][1:])
    (clip,) = open_clips(source, NATIVE)
    seen = []
    with pytest.raises((ReadError, TruncatedError), match=r"^12\.npy: .* not "):
        seen += [seen.append(frame) for frame in clip.frames]
    assert [read_barcode(frame) for frame in seen] == ALL[:12]


@pytest.mark.parametrize("array", [np.zeros((20, 64)), FRAMES], ids=["features", "clips"])
def test_other_numbered_arrays_stay_alone(tmp_path: Path, array: Any) -> None:
    for number in range(3):
        np.save(tmp_path / f"{number}.npy", array)
    assert [source.name for source in find_sources(tmp_path)] == ["0.npy", "1.npy", "2.npy"]
