"""Files that break video tools, each with what is right for it; `torture.py` runs them all.

Frames carry their numbers as bars (`clip_files.barcode`), and every file differs from every other
but for those that shall not.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import av
import numpy as np
from av.stream import Disposition
from clip_files import (
    LOSSLESS,
    barcode,
    noisy_barcode,
    remux,
    write_clip,
    write_margins,
    write_sound,
    write_tracks,
    write_with_times,
)
from heif_files import write_tiles
from PIL import Image

from ldf_video.video.write import VideoWriter

if TYPE_CHECKING:
    from numpy.typing import NDArray

Make = Callable[[Path], object]
NUM_FRAMES = 40
ALL = tuple(range(NUM_FRAMES))
CUT = r"^damaged after \d+ frames: "
NO_INDEX = r"^an mp4 that is cut short: its index, at its end, is missing; copy it again$"
NO_VIDEO = r"^not a video: Invalid data found when processing input$"
INDEX_FIRST = {"movflags": "faststart"}
EVERY_TENTH_IS_KEY = {"x264-params": "keyint=10:min-keyint=10:bframes=0:scenecut=0"}


@dataclass(frozen=True)
class BadClip:
    """One file, with what belongs to it, and what must become of it.

    Attributes:
        name: its path below CLIPS.
        make: writes it there.
        outcome: "begun" is stored or salvaged, of `numbers` as many as come; "holed" is salvaged,
            all of `numbers`; "any" is one of the three with any pictures, for what a flipped bit
            does is chance.
        numbers: on the bars of its frames; of an array's clips one after the other. Of one that is
            salvaged those of the whole file.
        at_least: frames to be salvaged.
        reason: pattern of why it was salvaged, or is in quarantine.
        source: what the store calls it, where that is not `name`.
        at_10_fps: the numbers after resampling to 10 frames a second; empty: not looked at.
    """

    name: str
    make: Make
    outcome: Literal["stored", "salvaged", "quarantined", "begun", "holed", "any", "ignored"]
    numbers: Sequence[int] = ()
    at_least: int = 1
    reason: str = ""
    source: str = ""
    at_10_fps: Sequence[int] = ()


def bad_clips() -> list[BadClip]:
    """All of them, in the order in which they are to be made."""
    rooms = (_codecs, _shapes, _times, _pictures, _arrays, _cut, _flipped, _no_videos)
    return [clip for room in (*rooms, _too_large, _names) for clip in room()]


def write_bad_clips(folder: Path, clips: Sequence[BadClip]) -> None:
    """Writes them below `folder`, which may exist."""
    for clip in clips:
        path = folder / clip.name
        path.parent.mkdir(parents=True, exist_ok=True)
        clip.make(path)


def _stored(name: str, make: Make, numbers: Sequence[int] = ALL, **more: Any) -> BadClip:
    return BadClip(name, make, "stored", numbers, **more)


def _quarantined(name: str, make: Make, reason: str) -> BadClip:
    return BadClip(name, make, "quarantined", reason=reason)


def _ignored(name: str, make: Make, **more: Any) -> BadClip:
    return BadClip(name, make, "ignored", **more)


# How they are made


def plain_clip(
    numbers: Sequence[int] = ALL, height: int = 48, width: int = 64, **options: Any
) -> Callable[[Path], Path]:
    """What writes numbered frames as `write_clip` does, to a path."""
    return lambda path: write_clip(path, _images(numbers, height, width), **options)


def _images(
    numbers: Sequence[int] = ALL, height: int = 48, width: int = 64
) -> list[NDArray[np.uint8]]:
    return [noisy_barcode(k, height=height, width=width) for k in numbers]


def _changed(change: Callable[..., NDArray[np.uint8]], **options: Any) -> Make:
    """A clip of which every frame is changed before it is written."""
    return lambda path: write_clip(
        path, [np.ascontiguousarray(change(image)) for image in _images()], **options
    )


def _edited(make: Make, edit: Callable[[bytes], bytes]) -> Make:
    """A file whose content is changed once it is made."""

    def write(path: Path) -> None:
        make(path)
        path.write_bytes(edit(path.read_bytes()))

    return write


def _cut_off(make: Make, share: float) -> Make:
    return _edited(make, lambda content: content[: int(len(content) * share)])


def _replaced(content: bytes, place: int, by: bytes) -> bytes:
    return content[:place] + by + content[place + len(by) :]


def _written(content: bytes) -> Make:
    return lambda path: path.write_bytes(content)


# What is right, but rare


def _codecs() -> Iterator[BadClip]:
    def stored(name: str, codec: str, pix_fmt: str = "yuv420p", **options: str) -> BadClip:
        return _stored(name, plain_clip(codec=codec, pix_fmt=pix_fmt, codec_options=options))

    yield stored("h264-b-frames.mp4", "libx264", bf="3")
    for suffix, codec in (("avi", "mpeg4"), ("mkv", "libx264"), ("mp4", "libx264")):
        titled = plain_clip(codec=codec, prepare=lambda c, _: c.metadata.update(title="TITLE"))
        latin = _edited(titled, lambda content: content.replace(b"TITLE", b"caf\xe9s"))
        yield _stored(f"title-in-latin-1.{suffix}", latin)
    tracks = [(_images(range(100, 140)), Disposition(0)), (_images(), Disposition.default)]
    yield _stored("proxy-before-default.mkv", lambda path: write_tracks(path, tracks))
    yield stored("h264.mkv", "libx264")
    yield stored("h264.flv", "libx264")
    yield stored("h265.mp4", "libx265", **{"x265-params": "log-level=none"})
    yield stored("vp8.webm", "libvpx")
    yield stored("vp9.webm", "libvpx-vp9")
    os.environ.setdefault("SVT_LOG", "1")  # else the encoder tells its life
    yield stored("av1.mp4", "libsvtav1", preset="11")
    yield stored("mpeg2.ts", "mpeg2video", bf="2", g="10")
    yield stored("b-frames.avi", "mpeg4", bf="2")
    yield stored("mjpeg.avi", "mjpeg", "yuvj420p")
    yield stored("raw.h264", "libx264", bf="3")
    yield stored("ten-bit.mkv", "libx264", "yuv420p10le")
    yield stored("grey.mkv", "ffv1", "gray")
    yield stored("grey-sixteen-bit.mkv", "ffv1", "gray16le")
    yield stored("planar-rgb.mkv", "ffv1", "gbrp10le")
    yield stored("interlaced.mp4", "libx264", flags="+ildct+ilme")
    yield stored("interlaced.ts", "mpeg2video", flags="+ildct+ilme")
    open_gop = {"x264-params": "open-gop=1:keyint=10:min-keyint=10:bframes=3:scenecut=0"}
    yield stored("open-gop.mp4", "libx264", **open_gop)
    yield stored("ten-bit-4-2-2.mkv", "ffv1", "yuv422p10le")
    yield stored("packed.avi", "rawvideo", "yuyv422")
    yield _stored("alpha.mov", partial(_holes, "png", "rgba"))
    yield _stored("alpha-prores.mov", partial(_holes, "prores_ks", "yuva444p10le"))
    for codec in ("libvpx", "libvpx-vp9"):
        yield _stored(f"alpha-{codec}.webm", partial(_holes, codec, "yuva420p"))


def _holes(codec: str, pix_fmt: str, path: Path) -> None:
    """Bars that are nothing at all, so that white shows, in black."""
    options = {"auto-alt-ref": "0", "b": "1M"} if codec.startswith("libvpx") else {}
    black = np.zeros((48, 64, 3), np.uint8)
    images = [np.dstack([black, 255 - barcode(k)[..., 0]]) for k in ALL]
    write_clip(path, images, codec=codec, pix_fmt=pix_fmt, codec_options=options)


def _shapes() -> Iterator[BadClip]:
    yield _stored("odd-63x47.mkv", plain_clip(ALL, 47, 63, **LOSSLESS))
    yield _stored("odd-17x241.mkv", plain_clip(ALL, 241, 17, **LOSSLESS))
    # The crop leaves the two bars in the middle, bits 3 and 4.
    wide = plain_clip([0, 8, 16, 24], 17, 241, **LOSSLESS)
    yield _stored("odd-241x17.mkv", wide, [0, 15, 240, 255])
    white = [np.full((1, 1, 3), 255, np.uint8)] * 3
    yield _stored("one-pixel.mkv", lambda path: write_clip(path, white, **LOSSLESS), [255] * 3)
    yield _stored("one-frame.mp4", plain_clip([77]), [77])
    for degrees in (0, 90, 180, 270):  # to be turned counter-clockwise to stand upright
        turned = _changed(partial(np.rot90, k=-degrees // 90), rotation=degrees)
        yield _stored(f"turned-{degrees}.mp4", turned)
    for name, flip, shown in (
        ("mirrored.mp4", np.fliplr, {"hflip": True}),
        ("upside-down.mp4", np.flipud, {"vflip": True}),
    ):
        flipped = partial(lambda shown, _, stream: stream.set_display_rotation(0, **shown), shown)
        yield _stored(name, _changed(flip, prepare=flipped))
    yield _stored("margins.mkv", _margins)
    tall = {"x264-params": "sar=1/2"}  # shown at half its width: the crop must leave all of it
    yield _stored("narrow-pixels.mp4", plain_clip(ALL, 48, 128, codec_options=tall))
    sizes = partial(_join, [plain_clip(range(20)), plain_clip(range(20), 96, 128)])
    for name in ("size-changes.h264", "size-changes.ts"):
        yield _stored(name, sizes, [*range(20), *range(20)])


def _margins(path: Path) -> None:
    """Bars between margins that Matroska cuts off, white, as wide as the bars."""

    def framed(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.pad(image, ((6, 10), (64, 64), (0, 0)), constant_values=255)

    _changed(framed, **LOSSLESS, says_colours=True)(path)
    write_margins(path, top=6, bottom=10, left=64, right=64)


def _join(makers: Sequence[Callable[[Path], Path]], path: Path) -> None:
    part = path.with_name(f".part{path.suffix}")
    path.write_bytes(b"".join(make(part).read_bytes() for make in makers))
    part.unlink()


def _times() -> Iterator[BadClip]:
    def stored(name: str, at_10_fps: Sequence[int] = ALL, **options: Any) -> BadClip:
        return _stored(name, plain_clip(fps=10, **options), at_10_fps=at_10_fps)

    gaps = [*range(10), *range(100, 110), *range(1000, 1020)]
    held = [*range(9), *[9] * 91, *range(10, 19), *[19] * 891, *range(20, 40)]
    yield stored("gaps.mkv", held, pts=gaps, **LOSSLESS)
    uneven = [k + k // 2 for k in range(NUM_FRAMES)]  # 0 1 3 4 6 7 ...
    held = [n for k in range(0, NUM_FRAMES, 2) for n in (k, k + 1, k + 1)]
    yield stored("uneven.mkv", held[:-1], pts=uneven, **LOSSLESS)
    for name in ("late.ts", "late.mkv", "late.mp4"):
        yield stored(name, pts=range(36_000, 36_040))  # from an hour on
    kept = {"avoid_negative_ts": "disabled"}
    for name in ("early.mkv", "early.ts"):
        yield stored(name, pts=range(-10, 30), container_options=kept)
    yield stored("b-frames-h264.avi", codec_options={"bf": "3"})
    # Ten frames a second, of which each tenth has the time of the one before.
    doubled = partial(
        write_with_times,
        images=_images(),
        times=[number - (number % 10 == 9) for number in ALL],
        fps=10,
        codec="mjpeg",
        pix_fmt="yuvj420p",
    )
    yield _stored("doubled.mkv", doubled, at_10_fps=ALL)
    clock = partial(_join, [plain_clip(range(20)), plain_clip(range(20, 40))])
    yield _stored("clock-jumps-back.ts", clock, ALL)
    yield _stored("edit-list.mp4", _edit_list, range(15, 40), at_10_fps=range(15, 40))
    yield _stored("starts-between-key-frames.mkv", _late_join, range(10, 40))


def _edit_list(path: Path) -> None:
    """Shows frames 15 to 40, which begin between two key frames."""
    content = plain_clip(fps=10, codec_options=EVERY_TENTH_IS_KEY)(path).read_bytes()
    # ISO/IEC 14496-12, 8.6.6: after the name version and flags, number of edits, then of the first
    # its length in units of the movie, and where it begins in units of the track.
    with av.open(str(path)) as container:
        ticks = 1 / (10 * container.streams.video[0].time_base)
    edit = struct.pack(">II", 2500, int(15 * ticks))
    path.write_bytes(_replaced(content, content.index(b"elst") + 12, edit))


def _late_join(path: Path) -> None:
    """A recording without its first 5 packets: nothing can be shown before frame 10."""
    whole = plain_clip(codec_options=EVERY_TENTH_IS_KEY)(path.with_name(f".whole{path.suffix}"))
    remux(path, [whole], lambda part, number, packet: number >= 5)
    whole.unlink()


def _pictures() -> Iterator[BadClip]:
    for name in ("still.png", "still.jpg", "still.webp"):
        yield _stored(name, _picture, [5])
    exif = Image.Exif()
    exif[274] = 6  # to be turned a quarter clockwise
    lying = Image.fromarray(np.ascontiguousarray(np.rot90(barcode(6), 1)))
    yield _stored("lying.jpg", lambda path: lying.save(path, exif=exif), [6])
    tiles = partial(write_tiles, image=barcode(5, height=192, width=256))
    for name in ("tiles.heic", "tiles.avif"):
        yield _stored(name, tiles, [5])
    gif = plain_clip(codec="gif", pix_fmt="rgb8")
    yield _stored("no-last-byte.gif", _edited(gif, lambda content: content[:-1]))
    yield _stored("more-behind.gif", _edited(gif, lambda content: content + b"<!-- served -->"))
    yield _stored("animated.gif", gif)
    for name, kind in (("avif", "AVIF"), ("apng", "PNG"), ("webp", "WEBP")):
        yield _stored(f"animated.{name}", partial(_animation, kind=kind))
    yield _stored("animated.png", partial(_animation, kind="PNG", first=1), range(1, 41))
    yield _stored("walk", _series, range(12), source="walk/step_*.png")
    for number, (form, pattern) in enumerate(
        {
            "frame ({k}).bmp": "frame (*).bmp",
            "shot-{k:06}.color.png": "shot-*.color.png",
            "{k:06}-{t:012}.png": "*-*.png",
            "2024-01-01_12-0{minute}-{second:02}.png": "*.png",
            "t_{share:g}.ppm": "t_*.ppm",
            "s{k}.tga": "s*.tga",
        }.items(),
        start=1,
    ):
        numbers, folder = range(12 * number, 12 * number + 12), f"recording-{number}"
        make = partial(_series, form=form, first=12 * number)
        yield _stored(folder, make, numbers, source=f"{folder}/{pattern}")
    for name, numbers in (("stack_1.tif", ALL), ("stack_2.tif", ALL[::-1])):
        yield _stored(name, partial(_stack, numbers), numbers)
    yield BadClip(
        "fall", partial(_series, broken=7), "holed", [*range(7), *range(8, 12)],
        reason=CUT + "step_7.png: .*; 4 more read$", source="fall/step_*.png",
    )  # fmt: skip


def _picture(path: Path) -> None:
    options = {"lossless": True} if path.suffix == ".webp" else {}
    Image.fromarray(barcode(5)).save(path, **options)


def _animation(path: Path, *, kind: str, first: int = 0) -> None:
    images = [Image.fromarray(barcode(k)) for k in range(first, first + NUM_FRAMES)]
    images[0].save(path, kind, save_all=True, append_images=images[1:], duration=100, lossless=True)


def _series(
    folder: Path, *, form: str = "step_{k}.png", first: int = 0, broken: int | None = None
) -> None:
    folder.mkdir()
    for k in range(12):
        height, width = 48 + 12 * (k % 2), 64 + 16 * (k % 2)
        image = Image.fromarray(barcode(first + k, height=height, width=width))
        minute, second = divmod(7 * k, 60)
        path = folder / form.format(k=k, t=k * 33369, share=k * 0.05, minute=minute, second=second)
        image.save(path)
        if k == broken:
            path.write_bytes(path.read_bytes()[:60])


def _stack(numbers: Sequence[int], path: Path) -> None:
    pages = [Image.fromarray(barcode(k)) for k in numbers]
    pages[0].save(path, save_all=True, append_images=pages[1:], compression="tiff_lzw")


def _arrays() -> Iterator[BadClip]:
    def saved(array: NDArray[Any]) -> Make:
        return lambda path: np.save(path, array, allow_pickle=True)

    pixels = np.stack([barcode(k) for k in range(60, 80)])
    yield _stored("clip.npy", saved(pixels), range(60, 80))
    numbers = np.arange(60, 80).reshape(4, 5)[::-1].ravel().tolist()
    yield _stored("clips.npy", saved(pixels.reshape(4, 5, *pixels.shape[1:])[::-1]), numbers)
    yield _stored("floats.npy", saved(pixels / 255), range(60, 80))
    yield _quarantined("no-frames.npy", saved(pixels[:0]), "holds no frame")
    whole = saved(np.stack([barcode(k) for k in ALL]))
    cut = _edited(whole, lambda content: content[:50_000])
    objects = saved(np.array([{}]))
    yield _quarantined("objects.npy", objects, "^an array of Python objects, ")
    for name, make in (("cut", cut), ("huge", _huge_array)):
        yield _quarantined(f"{name}.npy", make, "^not a .npy array: ")


def _huge_array(path: Path) -> None:
    """A header that says 2**40 frames, and then 40 of them."""
    with path.open("wb") as file:
        shape = {"descr": "|u1", "fortran_order": False, "shape": (2**40, 48, 64, 3)}
        np.lib.format.write_array_header_1_0(file, shape)
        file.write(b"".join(barcode(k).tobytes() for k in ALL))


# Damage


def _cut() -> Iterator[BadClip]:
    def cut(name: str, share: float, at_least: int, **options: Any) -> BadClip:
        make = _cut_off(plain_clip(**options), share)
        return BadClip(name, make, "salvaged", ALL, at_least, CUT)

    fragments = {"movflags": "frag_every_frame+empty_moov"}
    yield cut("cut-60.mp4", 0.6, 15, container_options=INDEX_FIRST)
    yield cut("cut-99.mp4", 0.99, 37, container_options=INDEX_FIRST)
    yield cut("cut-fragments.mp4", 0.6, 15, container_options=fragments)
    yield cut("cut.mkv", 0.6, 15)
    yield cut("cut-lossless.mkv", 0.9, 30, **LOSSLESS)
    yield cut("cut.webm", 0.6, 15, codec="libvpx-vp9")
    yield cut("cut.gif", 0.6, 15, codec="gif", pix_fmt="rgb8")
    yield cut("cut.avi", 0.85, 10, codec="mpeg4")
    yield cut("cut.flv", 0.6, 15)
    yield cut("cut.mov", 0.6, 15, codec="png", pix_fmt="rgb24", container_options=INDEX_FIRST)
    yield cut("cut.apng", 0.6, 15, codec="apng", pix_fmt="rgb24")
    reason = r"^damaged after \d+ frames: 1 missing, 19 more read$"
    for name in ("hole.mp4", "hole.mkv"):
        yield BadClip(name, _hole, "holed", [*range(20), *range(21, 40)], reason=reason)

    yield _quarantined("no-moov.mp4", _cut_off(plain_clip(), 0.6), NO_INDEX)
    moov = _edited(
        plain_clip(container_options=INDEX_FIRST),
        lambda content: content[: content.index(b"mdat") + 4],
    )
    yield _quarantined("moov-alone.mp4", moov, "^no frame could be decoded")
    header = _cut_off(plain_clip(), 0.02)
    yield _quarantined("header-alone.mkv", header, "^no(t a| frame| video)")
    webp = _cut_off(partial(_animation, kind="WEBP"), 0.6)
    yield _quarantined("cut.webp", webp, "^not a video: ")
    still = _cut_off(_picture, 0.6)
    yield _quarantined("cut.png", still, "^cannot be read: the file ends early$")
    yield _quarantined("cut.jpg", still, "^cannot be read: ")
    corrupt = _edited(_picture, lambda content: content[:40] + b"\xff" * (len(content) - 40))
    yield _quarantined("corrupt-still.webp", corrupt, "^cannot be read: ")
    # Neither format has an end of its own: what is there is whole, or the last picture is half one.
    stream = _cut_off(plain_clip(codec="mpeg2video"), 0.6)
    yield BadClip("cut.ts", stream, "begun", ALL, 15)
    yield BadClip("cut.h264", _cut_off(plain_clip(), 0.6), "any", ALL)
    more = random.Random(9).randbytes(5000)
    yield _stored("with-more-behind.mp4", _edited(plain_clip(), lambda content: content + more))


def _hole(path: Path) -> None:
    """A film of key frames without the 21st."""
    own_clusters = {"cluster_time_limit": "0"} if path.suffix == ".mkv" else {}
    plain_clip(codec="mjpeg", pix_fmt="yuvj420p", container_options=own_clusters)(path)
    with av.open(str(path)) as container:
        packets = container.demux(container.streams.video[0])
        positions = [(packet.pos or 0, packet.size) for packet in packets if packet.size]
    position, size = positions[20]
    path.write_bytes(_replaced(path.read_bytes(), position, bytes(size)))


def _flipped() -> Iterator[BadClip]:
    for suffix, options in {
        "mp4": {},
        "mkv": {},
        "avi": {"codec": "mpeg4"},
        "ts": {"codec": "mpeg2video"},
        "gif": {"codec": "gif", "pix_fmt": "rgb8"},
    }.items():
        for seed in range(3):
            make = _edited(plain_clip(**options), partial(_with_flips, seed))
            yield BadClip(f"flipped-{seed}.{suffix}", make, "any", ALL)


def _with_flips(seed: int, content: bytes) -> bytes:
    """Flips a bit in about one of 500 bytes, the headers among them."""
    flipped, chance = bytearray(content), random.Random(seed)
    for _ in range(len(flipped) // 500 + 1):
        flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
    return bytes(flipped)


def _no_videos() -> Iterator[BadClip]:
    def written(name: str, content: bytes, reason: str) -> BadClip:
        return _quarantined(name, _written(content), reason)

    yield _quarantined("zero-bytes.mp4", Path.touch, "^empty file$")
    yield written("zeros.mp4", bytes(1 << 20), "^not a video: ")
    text = b"these are the notes on my clips\n" * 20
    yield written("text.mp4", text, NO_VIDEO)
    yield written("notes.mov", b"# " + text, NO_VIDEO)
    for seed in range(3):
        noise = random.Random(seed).randbytes(100_000)
        reason = "^(not a video|no video stream|no frame could be decoded)"
        yield written(f"noise-{seed}.mp4", noise, reason)
    yield _quarantined("sound.mp4", write_sound, r"^no video stream \(audio only\)$")
    yield written("frames.zip", b"PK\3\4...", "^cannot be read: a damaged archive: ")
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1234567\n"
    yield written("pointer.mp4", pointer, "^a git-lfs pointer: ")
    yield written("demo.hdf5", b"\x89HDF\r\n\x1a\n and more", "^an HDF5 file that cannot be read: ")
    for name in ("dog.txt", "metadata.jsonl", "sound.wav"):
        yield _ignored(name, _written(b"a dog runs"))
    yield _ignored("generated.mp4", _generated)
    yield _ignored("generated.gif", _generated)
    yield _ignored("latents", _store, source="latents/data-00000.npy")
    for name, tag, codec in (
        ("raw-camera.mov", b"brhq", r"Blackmagic RAW \(brhq\)"),
        ("protected.mov", b"drmi", r"protected video \(drmi\)"),
        ("other-codec.mp4", b"abcd", r"an unknown codec \(abcd\)"),
    ):
        tagged = _edited(plain_clip(), partial(lambda tag, c: c.replace(b"avc1", tag), tag))
        yield _quarantined(name, tagged, f"^no decoder for {codec}$")
    yield _quarantined("list.m3u8", _playlist, "^not a video: ")
    yield _quarantined("list.ffconcat", _concat_script, "^not a video: ")


def _generated(path: Path) -> None:
    with VideoWriter(path, fps=25) as writer:
        writer.write(np.stack([barcode(k) for k in range(3)]))


def _store(folder: Path) -> None:
    folder.mkdir()
    for name in ("store.json", "manifest.sqlite"):
        (folder / name).touch()
    np.save(folder / "data-00000.npy", np.stack([barcode(k) for k in range(3)]))


def _playlist(path: Path) -> None:
    """Names a clip that is not below CLIPS and could be read."""
    other = plain_clip([1])(path.parent.parent / "not-below-clips.ts")
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{other}\n#EXT-X-ENDLIST\n")


def _concat_script(path: Path) -> None:
    plain_clip([2])(path.parent.parent / "neither-below-clips.mp4")
    path.write_text("ffconcat version 1.0\nfile ../neither-below-clips.mp4\n")


def _too_large() -> Iterator[BadClip]:
    def gif(side: int) -> Make:
        size = struct.pack("<HH", side, side)
        small = plain_clip([1], codec="gif", pix_fmt="rgb8")
        return _edited(small, lambda content: _replaced(content, 6, size))

    def avi(side: int) -> Make:
        """Raw pictures, whose size stands nowhere but in the header."""
        size = struct.pack("<ii", side, side)  # BITMAPINFOHEADER: after its own size
        small = plain_clip([1], codec="rawvideo", pix_fmt="bgr24")
        return _edited(small, lambda c: _replaced(c, c.index(b"strf") + 12, size))

    reason = r"^a frame of 16384x8192 pixels; at most"
    yield _quarantined("huge.png", Image.new("1", (2**14, 2**13)).save, reason)
    reason = "^a frame of 16000x16000 pixels; at most"
    yield _quarantined("large-said.gif", gif(16_000), reason)
    yield _quarantined("large-said.avi", avi(16_000), reason)
    reason = "^no frame could be decoded: Invalid"  # beyond FFmpeg's own limit
    yield _quarantined("huge-said.gif", gif(65_535), reason)
    yield _quarantined("huge-said.avi", avi(60_000), reason)


# Names, links and rights


def _names() -> Iterator[BadClip]:
    def stored(name: str, first: int) -> BadClip:
        numbers = range(first, first + 20)

        def write(path: Path) -> None:  # FFmpeg would not write to such a name
            plain_clip(numbers)(path.with_name(".part.mp4")).rename(path)

        return _stored(name, write, numbers)

    def link(name: str, target: str, reason: str) -> BadClip:
        reason = f"^cannot be read: {reason}$"
        return _quarantined(name, lambda path: path.symlink_to(target), reason)

    yield stored("directory.mp4/inside.mp4", 80)
    yield stored("\u00fcn\u00ef\u4f60\u597d \U0001f39e.mp4", 81)
    yield stored("new\nline.mp4", 82)
    yield stored("-dash 'quote\" %d.mp4", 83)
    yield stored("no_suffix", 84)
    if os.name == "posix" and os.uname().sysname == "Linux":  # macOS takes UTF-8 alone
        yield stored(os.fsdecode(b"latin-\xe9.mp4"), 85)
        yield _quarantined(os.fsdecode(b"latin-\xe8.mp4"), _written(b"no video" * 90), NO_VIDEO)
    yield link("circle-a.mp4", "circle-b.mp4", "Too many levels of symbolic links")
    yield link("circle-b.mp4", "circle-a.mp4", "Too many levels of symbolic links")
    yield link("leads-nowhere.mp4", "gone.mp4", "No such file or directory")
    yield _ignored("down/up", lambda path: path.symlink_to(".."))
    yield _ignored("pipe.mp4", os.mkfifo)
    yield _ignored(".hidden.mp4", plain_clip([1]))
    yield _stored("original.mp4", plain_clip(range(90, 110)), range(90, 110))
    copy = lambda path: shutil.copy(path.with_name("original.mp4"), path)  # noqa: E731
    yield _stored("duplicate.mp4", copy, range(90, 110))


LOCKED = _quarantined(
    "locked.mp4",
    lambda path: write_clip(path, [barcode(3)]).chmod(0),
    "^cannot be read: Permission denied$",
)
"""A file that its user may not read; means nothing to root."""
