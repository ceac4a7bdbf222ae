"""Films that are damaged in their middle: what is read behind that, and what is counted."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
from clip_files import at_rate, barcodes, noisy_barcode, read_barcode, salvaged_of, write_clip

from ldf_video.clips.probe import probe

if TYPE_CHECKING:
    from pathlib import Path

NUM_FRAMES = 60
GROUPS = {"g": "15", "bf": "2", "sc_threshold": "0"}


def _film(path: Path, *, size: int = 1, **options: Any) -> Path:
    images = [noisy_barcode(k, height=96 * size, width=128 * size) for k in range(NUM_FRAMES)]
    return write_clip(path, images, **{"codec_options": GROUPS, **options})


def _packets(path: Path) -> list[tuple[int, int]]:
    """Where each packet is in the file, and its size."""
    with av.open(str(path)) as container:
        packets = container.demux(container.streams.video[0])
        return [(packet.pos or 0, packet.size) for packet in packets if packet.size]


def _overwrite(path: Path, packets: range, *, value: int = 255) -> None:
    content, places = bytearray(path.read_bytes()), _packets(path)
    for number in packets:
        position, size = places[number]
        content[position : position + size] = bytes([value]) * size
    path.write_bytes(content)


def _read(path: Path, *, threads: int = 0, fps: int | None = None) -> tuple[list[int], str]:
    frames, damage = salvaged_of(path, at_rate(fps), threads=threads)
    return [read_barcode(image[24:]) for image in frames], damage


HEVC = {"codec": "libx265", "codec_options": {"x265-params": "log-level=none:keyint=15"}}
MJPEG = {"codec": "mjpeg", "pix_fmt": "yuvj420p", "codec_options": {}}


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("a.mp4", {}, "damaged after 18 frames: 2 missing, 40 more read"),
        ("a.mov", {}, "damaged after 18 frames: 2 missing, 40 more read"),
        ("a.avi", {"codec": "mpeg4"}, "damaged after 19 frames: 2 missing, 39 more read"),
        # it leaves out what leans on the missing ones
        ("a.mp4", HEVC, "damaged after 18 frames: 10 missing, 32 more read"),
        ("a.mkv", MJPEG, "damaged after 20 frames: "),
    ],
)
def test_what_is_behind_the_damage_is_read(
    tmp_path: Path, name: str, options: dict[str, Any], said: str
) -> None:
    path = _film(tmp_path / name, **options)
    assert _read(path) == (list(range(NUM_FRAMES)), "")
    _overwrite(path, range(20, 22))
    numbers, damage = _read(path)
    assert numbers[:18] == list(range(18))
    assert numbers[-30:] == list(range(30, 60))
    assert damage.startswith(said)
    assert f": {NUM_FRAMES - len(numbers)} missing" in damage
    info = probe(path)
    assert (info.num_frames, info.truncated) == (len(numbers), True)
    # By time those that are there stay in their places.
    resampled, same_damage = _read(path, fps=25)
    assert (len(resampled), same_damage) == (NUM_FRAMES, damage)
    assert resampled[-30:] == list(range(30, 60))


@pytest.mark.parametrize("codec", ["libx264", "libvpx-vp9"])
@pytest.mark.parametrize("with_sound", [False, True])
def test_a_jump_in_matroska_is_told(tmp_path: Path, codec: str, with_sound: bool) -> None:
    path = tmp_path / "a.mkv"
    _film(path, codec=codec, container_options={"cluster_time_limit": "400"})
    if with_sound:
        path = _with_sound(path)
    _overwrite(path, range(22, 23), value=0)  # its header too, so that the demuxer passes it over
    numbers, damage = _read(path)
    assert 3 <= NUM_FRAMES - len(numbers) <= 12
    assert f": {NUM_FRAMES - len(numbers)} missing" in damage
    assert numbers[-20:] == list(range(40, 60))


def _with_sound(path: Path) -> Path:
    """Adds a track of sound, between whose packets those of the film are."""
    target = path.with_name("sound.mkv")
    with av.open(str(path)) as source, av.open(str(target), "w") as container:
        film = container.add_stream_from_template(source.streams.video[0])
        sound = container.add_stream("aac", rate=8000)
        for number, packet in enumerate(source.demux(source.streams.video[0])):
            if packet.size:
                packet.stream = film
                container.mux(packet)
                samples = np.zeros((1, 320), np.float32)
                frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
                frame.sample_rate, frame.pts = 8000, 320 * number
                container.mux(sound.encode(frame))
        container.mux(sound.encode())
    return target


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.flv", "a.ts"])
def test_an_uneven_film_is_not_damaged(tmp_path: Path, name: str) -> None:
    times = [k * (k + 3) // 2 for k in range(NUM_FRAMES)]
    path = write_clip(tmp_path / name, barcodes(range(NUM_FRAMES)), pts=times, codec_options=GROUPS)
    assert _read(path)[1] == ""


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.ts", "libx264"), ("a.ts", "mpeg2video"), ("a.flv", "libx264"), ("a.avi", "libx264")],
)
def test_a_part_that_is_cut_out_is_told(tmp_path: Path, name: str, codec: str) -> None:
    path = _film(tmp_path / name, codec=codec)
    content = path.read_bytes()
    begin, size = len(content) // 2, 3000
    if name == "a.ts":  # whole packets
        begin, size = len(content) // 188 // 3 * 188, 40 * 188
    path.write_bytes(content[:begin] + content[begin + size :])
    numbers, damage = _read(path)
    assert len(numbers) < NUM_FRAMES
    assert damage.startswith("damaged after ")
    assert "missing and 1 concealed" in damage
    assert numbers[-10:] == list(range(50, 60))


def test_concealed_frames_are_counted(tmp_path: Path) -> None:
    path = _film(tmp_path / "a.mp4")
    content, (position, size) = bytearray(path.read_bytes()), _packets(path)[20]
    for place in range(position + size // 2, position + size // 2 + 40):
        content[place] ^= 0x55
    path.write_bytes(content)
    numbers, damage = _read(path)
    assert len(numbers) == NUM_FRAMES
    assert damage == "damaged after 19 frames: 1 concealed, 40 more read"
    _overwrite(path, range(40, 41))
    numbers, damage = _read(path)
    assert len(numbers) == NUM_FRAMES - 1
    assert damage == "damaged after 19 frames: 1 missing and 1 concealed, 39 more read"


def test_several_threads_find_what_one_finds(tmp_path: Path) -> None:
    path = _film(tmp_path / "a.mp4", size=3)
    _overwrite(path, range(20, 22))
    alone, together = _read(path, threads=1), _read(path, threads=4)
    assert alone == together
    assert alone[1] == "damaged after 18 frames: 2 missing, 40 more read"


def test_all_that_is_missing_at_the_end_is_counted(tmp_path: Path) -> None:
    path = _film(tmp_path / "a.mp4", codec_options={"g": "15", "bf": "0"})
    _overwrite(path, range(40, 60), value=0)
    assert _read(path) == (list(range(40)), "damaged after 40 frames: 20 missing, 0 more read")


def test_a_recording_that_begins_between_key_frames_is_whole(tmp_path: Path) -> None:
    whole, path = _film(tmp_path / "whole.ts"), tmp_path / "a.ts"
    content = whole.read_bytes()
    path.write_bytes(content[len(content) // 10 // 188 * 188 :])
    numbers, damage = _read(path)
    assert damage == ""
    assert all(after == before + 1 for before, after in itertools.pairwise(numbers))


def test_frames_that_come_late_behind_a_hole_are_not_missing(tmp_path: Path) -> None:
    path = _film(tmp_path / "a.mkv", container_options={"cluster_time_limit": "400"})
    _overwrite(path, range(13, 16), value=0)  # times step back behind it, and cross it again
    numbers, damage = _read(path)
    assert len(numbers) == 47
    assert damage == "damaged after 12 frames: 13 missing, 35 more read"
