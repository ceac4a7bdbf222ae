"""Files that break video tools, each with what is right for it; `torture.py` runs them all.

Frames carry their numbers as bars (`clip_files.barcode`), and every file differs from every other
but for those that shall not.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
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
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

NUM_FRAMES = 40
ALL = tuple(range(NUM_FRAMES))
CUT = r"^damaged after \d+ frames: "
NO_VIDEO = r"^not a video: Invalid data found when processing input$"


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
    make: Callable[[Path], object]
    outcome: Literal["stored", "salvaged", "quarantined", "begun", "holed", "any", "ignored"]
    numbers: Sequence[int] = ()
    at_least: int = 1
    reason: str = ""
    source: str = ""
    at_10_fps: Sequence[int] = ()


def bad_clips() -> list[BadClip]:
    """All of them, in the order in which they are to be made."""
    return [
        *_codecs(),
        *_shapes(),
        *_times(),
        *_pictures(),
        *_arrays(),
        *_cut(),
        *_flipped(),
        *_no_videos(),
        *_too_large(),
        *_names(),
    ]


def write_bad_clips(folder: Path, clips: Sequence[BadClip]) -> None:
    """Writes them below `folder`, which may exist."""
    for clip in clips:
        path = folder / clip.name
        path.parent.mkdir(parents=True, exist_ok=True)
        clip.make(path)


# What is right, but rare


def _stored(
    name: str, make: Callable[[Path], object], numbers: Sequence[int] = ALL, **more: Any
) -> BadClip:
    return BadClip(name, make, "stored", numbers, **more)


def _quarantined(name: str, make: Callable[[Path], object], reason: str) -> BadClip:
    return BadClip(name, make, "quarantined", reason=reason)


def _ignored(name: str, make: Callable[[Path], object], **more: Any) -> BadClip:
    return BadClip(name, make, "ignored", **more)


def _codecs() -> Iterator[BadClip]:
    def stored(name: str, codec: str, pix_fmt: str = "yuv420p", **options: str) -> BadClip:
        return _stored(name, plain_clip(codec=codec, pix_fmt=pix_fmt, codec_options=options))

    yield stored("h264-b-frames.mp4", "libx264", bf="3")
    for name in ("title-in-latin-1.avi", "title-in-latin-1.mkv", "title-in-latin-1.mp4"):
        yield _stored(name, _latin_title)
    yield _stored("proxy-before-default.mkv", _proxy_first)
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


def _shapes() -> Iterator[BadClip]:
    yield _stored("odd-63x47.mkv", plain_clip(ALL, 47, 63, **LOSSLESS))
    yield _stored("odd-17x241.mkv", plain_clip(ALL, 241, 17, **LOSSLESS))
    # The crop leaves the two bars in the middle, bits 3 and 4.
    wide = plain_clip([0, 8, 16, 24], 17, 241, **LOSSLESS)
    yield _stored("odd-241x17.mkv", wide, [0, 15, 240, 255])
    yield _stored("one-pixel.mkv", _one_pixel, [255] * 3)
    yield _stored("one-frame.mp4", plain_clip([77]), [77])
    for degrees in (0, 90, 180, 270):
        yield _stored(f"turned-{degrees}.mp4", partial(_turned, degrees))
    yield _stored("mirrored.mp4", partial(_mirrored, hflip=True))
    yield _stored("upside-down.mp4", partial(_mirrored, vflip=True))
    yield _stored("margins.mkv", _margins)
    tall = {"x264-params": "sar=1/2"}  # shown at half its width: the crop must leave all of it
    yield _stored("narrow-pixels.mp4", plain_clip(ALL, 48, 128, codec_options=tall))
    for name in ("size-changes.h264", "size-changes.ts"):
        yield _stored(name, _two_sizes, [*range(20), *range(20)])


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
    yield _stored("doubled.mkv", _doubled, at_10_fps=ALL)
    yield _stored("clock-jumps-back.ts", _two_streams, [*range(20), *range(20, 40)])
    yield _stored("edit-list.mp4", _edit_list, range(15, 40), at_10_fps=range(15, 40))
    yield _stored("starts-between-key-frames.mkv", _late_join, range(10, 40))


def _pictures() -> Iterator[BadClip]:
    for name in ("still.png", "still.jpg", "still.webp"):
        yield _stored(name, _picture, [5])
    yield _stored("lying.jpg", _lying, [6])
    yield _stored("tiles.heic", _tiles, [5])
    yield _stored("tiles.avif", _tiles, [5])
    for name, more in (("no-last-byte.gif", None), ("more-behind.gif", b"<!-- served -->")):
        yield _stored(name, partial(_gif_end, more=more))
    yield _stored("animated.gif", plain_clip(codec="gif", pix_fmt="rgb8"))
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
    yield _stored("stack_1.tif", partial(_stack, ALL))
    yield _stored("stack_2.tif", partial(_stack, ALL[::-1]), ALL[::-1])
    yield BadClip(
        "fall", partial(_series, broken=7), "salvaged", range(12), at_least=7,
        reason=CUT + "step_7.png: ", source="fall/step_*.png",
    )  # fmt: skip


def _arrays() -> Iterator[BadClip]:
    pixels = np.stack([barcode(k) for k in range(60, 80)])
    yield _stored("clip.npy", partial(_save, pixels), range(60, 80))
    clips = pixels.reshape(4, 5, *pixels.shape[1:])[::-1]
    numbers = [*range(75, 80), *range(70, 75), *range(65, 70), *range(60, 65)]
    yield _stored("clips.npy", partial(_save, clips), numbers)
    floats = r"^an array of float64 .*expected uint8 \(T, H, W, 3\)"
    yield _quarantined("floats.npy", partial(_save, pixels / 255), floats)
    yield _quarantined("no-frames.npy", partial(_save, pixels[:0]), "holds no frame")
    objects = partial(_save, np.array([{}]))
    for name, make in (("objects", objects), ("cut", _cut_array), ("huge", _huge_array)):
        yield _quarantined(f"{name}.npy", make, "^not a .npy array: ")


# Damage


def _cut() -> Iterator[BadClip]:
    def cut(name: str, share: float, at_least: int, **options: Any) -> BadClip:
        make = partial(_cut_file, make=plain_clip(ALL, **options), share=share)
        return BadClip(name, make, "salvaged", ALL, at_least, CUT)

    index_first = {"movflags": "faststart"}
    fragments = {"movflags": "frag_every_frame+empty_moov"}
    yield cut("cut-60.mp4", 0.6, 15, container_options=index_first)
    yield cut("cut-99.mp4", 0.99, 37, container_options=index_first)
    yield cut("cut-fragments.mp4", 0.6, 15, container_options=fragments)
    yield cut("cut.mkv", 0.6, 15)
    yield cut("cut-lossless.mkv", 0.9, 30, **LOSSLESS)
    yield cut("cut.webm", 0.6, 15, codec="libvpx-vp9")
    yield cut("cut.gif", 0.6, 15, codec="gif", pix_fmt="rgb8")
    yield cut("cut.avi", 0.85, 10, codec="mpeg4")
    yield cut("cut.flv", 0.6, 15)
    yield cut("cut.mov", 0.6, 15, codec="png", pix_fmt="rgb24", container_options=index_first)
    yield cut("cut.apng", 0.6, 15, codec="apng", pix_fmt="rgb24")
    reason = r"^damaged after \d+ frames: 1 missing, 19 more read$"
    for name in ("hole.mp4", "hole.mkv"):
        yield BadClip(name, _hole, "holed", [*range(20), *range(21, 40)], reason=reason)

    def quarantined(
        name: str, make: Callable[[Path], object], reason: str, share: float = 0.6
    ) -> BadClip:
        return _quarantined(name, partial(_cut_file, make=make, share=share), reason)

    yield quarantined("no-moov.mp4", plain_clip(), NO_VIDEO)
    yield _quarantined("moov-alone.mp4", _moov_alone, "^no frame could be decoded")
    yield quarantined("header-alone.mkv", plain_clip(), "^no(t a| frame| video)", share=0.02)
    yield quarantined("cut.webp", partial(_animation, kind="WEBP"), "^not a video: ")
    yield quarantined("cut.png", _picture, "^cannot be read: the file ends early$")
    yield quarantined("cut.jpg", _picture, "^cannot be read: ")
    yield _quarantined("corrupt-still.webp", _corrupt_webp, "^cannot be read: ")
    # Neither format has an end of its own: what is there is whole, or the last picture is half one.
    stream = partial(_cut_file, make=plain_clip(codec="mpeg2video"), share=0.6)
    yield BadClip("cut.ts", stream, "begun", ALL, 15)
    stream = partial(_cut_file, make=plain_clip(), share=0.6)
    yield BadClip("cut.h264", stream, "any", ALL)
    yield _stored("with-more-behind.mp4", _more_behind)


def _flipped() -> Iterator[BadClip]:
    for suffix, options in {
        "mp4": {},
        "mkv": {},
        "avi": {"codec": "mpeg4"},
        "ts": {"codec": "mpeg2video"},
        "gif": {"codec": "gif", "pix_fmt": "rgb8"},
    }.items():
        for seed in range(3):
            make = partial(_flip, make=plain_clip(**options), seed=seed)
            yield BadClip(f"flipped-{seed}.{suffix}", make, "any", ALL)


def _no_videos() -> Iterator[BadClip]:
    def written(name: str, content: bytes, reason: str) -> BadClip:
        return _quarantined(name, partial(_write, content), reason)

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
    yield written("frames.zip", b"PK\3\4...", "^a zip archive: ")
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1234567\n"
    yield written("pointer.mp4", pointer, "^a git-lfs pointer: ")
    yield written("demo.hdf5", b"\x89HDF\r\n\x1a\n and more", "^an HDF5 file: ")
    for name in ("dog.txt", "metadata.jsonl", "sound.wav"):
        yield _ignored(name, partial(_write, b"a dog runs"))
    yield _ignored("generated.mp4", _generated)
    yield _ignored("generated.gif", _generated)
    yield _ignored("latents", _store, source="latents/data-00000.npy")
    for name, tag, codec in (
        ("raw-camera.mov", b"brhq", r"Blackmagic RAW \(brhq\)"),
        ("other-codec.mp4", b"abcd", r"an unknown codec \(abcd\)"),
    ):
        yield _quarantined(name, partial(_other_codec, tag=tag), f"^no decoder for {codec}$")
    yield _quarantined("list.m3u8", _playlist, "^not a video: ")
    yield _quarantined("list.ffconcat", _concat_script, "^not a video: ")


def _too_large() -> Iterator[BadClip]:
    reason = r"^a frame of 16384x8192 pixels; at most"
    yield _quarantined("huge.png", Image.new("1", (2**14, 2**13)).save, reason)
    reason = "^a frame of 16000x16000 pixels; at most"
    yield _quarantined("large-said.gif", partial(_huge_gif, 16_000), reason)
    yield _quarantined("large-said.avi", partial(_huge_avi, 16_000), reason)
    reason = "^no frame could be decoded: Invalid"  # beyond FFmpeg's own limit
    yield _quarantined("huge-said.gif", partial(_huge_gif, 65_535), reason)
    yield _quarantined("huge-said.avi", partial(_huge_avi, 60_000), reason)


# Names, links and rights


def _names() -> Iterator[BadClip]:
    def stored(name: str, first: int) -> BadClip:
        numbers = range(first, first + 20)
        return _stored(name, partial(_renamed, plain_clip(numbers)), numbers)

    def link(name: str, target: str, reason: str) -> BadClip:
        reason = f"^cannot be read: {reason}$"
        return _quarantined(name, lambda path: path.symlink_to(target), reason)

    yield stored("directory.mp4/inside.mp4", 80)
    yield stored("\u00fcn\u00ef\u4f60\u597d \U0001f39e.mp4", 81)
    yield stored("new\nline.mp4", 82)
    yield stored("-dash 'quote\" %d.mp4", 83)
    yield stored("no_suffix", 84)
    if _takes_any_bytes():
        yield stored(os.fsdecode(b"latin-\xe9.mp4"), 85)
        no_video = partial(_write, b"no video" * 90)
        yield _quarantined(os.fsdecode(b"latin-\xe8.mp4"), no_video, NO_VIDEO)
    yield link("circle-a.mp4", "circle-b.mp4", "Too many levels of symbolic links")
    yield link("circle-b.mp4", "circle-a.mp4", "Too many levels of symbolic links")
    yield link("leads-nowhere.mp4", "gone.mp4", "No such file or directory")
    yield _ignored("down/up", lambda path: path.symlink_to(".."))
    yield _ignored("pipe.mp4", os.mkfifo)
    yield _ignored(".hidden.mp4", plain_clip([1]))
    yield _stored("original.mp4", plain_clip(range(90, 110)), range(90, 110))
    yield _stored("duplicate.mp4", _duplicate, range(90, 110))


LOCKED = _quarantined(
    "locked.mp4",
    lambda path: write_clip(path, [barcode(3)]).chmod(0),
    "^cannot be read: Permission denied$",
)
"""A file that its user may not read; means nothing to root."""


# How they are made


def _images(numbers: Sequence[int], height: int, width: int) -> list[NDArray[np.uint8]]:
    return [noisy_barcode(k, height=height, width=width) for k in numbers]


def plain_clip(
    numbers: Sequence[int] = ALL, height: int = 48, width: int = 64, **options: Any
) -> Callable[[Path], Path]:
    """What writes numbered frames as `write_clip` does, to a path."""
    return lambda path: write_clip(path, _images(numbers, height, width), **options)


def _holes(codec: str, pix_fmt: str, path: Path) -> None:
    """Bars that are nothing at all, so that white shows, in black."""
    options = {"auto-alt-ref": "0", "b": "1M"} if codec.startswith("libvpx") else {}
    black = np.zeros((48, 64, 3), np.uint8)
    images = [np.dstack([black, 255 - barcode(k)[..., 0]]) for k in ALL]
    write_clip(path, images, codec=codec, pix_fmt=pix_fmt, codec_options=options)


def _mirrored(path: Path, *, hflip: bool = False, vflip: bool = False) -> None:
    """Frames that players show mirrored: as the bars are drawn."""
    images = _images(ALL, 48, 64)
    stored = [image[:: -1 if vflip else 1, :: -1 if hflip else 1] for image in images]
    write_clip(
        path,
        [np.ascontiguousarray(image) for image in stored],
        prepare=lambda _, stream: stream.set_display_rotation(0, hflip=hflip, vflip=vflip),
    )


def _margins(path: Path) -> None:
    """Bars between margins that Matroska cuts off, white, as wide as the bars."""
    images = [np.full((64, 192, 3), 255, np.uint8) for _ in ALL]
    for image, shown in zip(images, _images(ALL, 48, 64), strict=True):
        image[6:54, 64:128] = shown
    write_clip(path, images, **LOSSLESS, says_colours=True)
    write_margins(path, top=6, bottom=10, left=64, right=64)


def _turned(degrees: int, path: Path) -> None:
    """Frames that must be turned `degrees` counter-clockwise to stand upright."""
    images = [np.rot90(image, -degrees // 90) for image in _images(ALL, 48, 64)]
    write_clip(path, [np.ascontiguousarray(image) for image in images], rotation=degrees)


def _one_pixel(path: Path) -> None:
    write_clip(path, [np.full((1, 1, 3), 255, np.uint8)] * 3, **LOSSLESS)


def _two_sizes(path: Path) -> None:
    _join(path, [plain_clip(range(20)), plain_clip(range(20), 96, 128)])


def _two_streams(path: Path) -> None:
    _join(path, [plain_clip(range(20)), plain_clip(range(20, 40))])


def _join(path: Path, makers: Sequence[Callable[[Path], Path]]) -> None:
    part = path.with_name(f".part{path.suffix}")
    path.write_bytes(b"".join(make(part).read_bytes() for make in makers))
    part.unlink()


def _edit_list(path: Path) -> None:
    """Shows frames 15 to 40, which begin between two key frames."""
    options = {"x264-params": "keyint=10:min-keyint=10:bframes=0:scenecut=0"}
    content = bytearray(plain_clip(fps=10, codec_options=options)(path).read_bytes())
    # ISO/IEC 14496-12, 8.6.6: after the name version and flags, number of edits, then of the first
    # its length in units of the movie, and where it begins in units of the track.
    with av.open(str(path)) as container:
        ticks = 1 / (10 * container.streams.video[0].time_base)
    struct.pack_into(">II", content, content.index(b"elst") + 12, 2500, int(15 * ticks))
    path.write_bytes(content)


def _late_join(path: Path) -> None:
    """A recording without its first 5 packets: nothing can be shown before frame 10."""
    options = {"x264-params": "keyint=10:min-keyint=10:bframes=0:scenecut=0"}
    whole = plain_clip(codec_options=options)(path.with_name(f".whole{path.suffix}"))
    remux(path, [whole], lambda part, number, packet: number >= 5)
    whole.unlink()


def _picture(path: Path) -> None:
    options = {"lossless": True} if path.suffix == ".webp" else {}
    Image.fromarray(barcode(5)).save(path, **options)


def _lying(path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6  # to be turned a quarter clockwise
    Image.fromarray(np.ascontiguousarray(np.rot90(barcode(6), 1))).save(path, exif=exif)


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
        name = form.format(k=k, t=k * 33369, share=k * 0.05, minute=minute, second=second)
        image.save(folder / name)
    if broken is not None:
        path = folder / f"step_{broken}.png"
        path.write_bytes(path.read_bytes()[:60])


def _stack(numbers: Sequence[int], path: Path) -> None:
    pages = [Image.fromarray(barcode(k)) for k in numbers]
    pages[0].save(path, save_all=True, append_images=pages[1:], compression="tiff_lzw")


def _generated(path: Path) -> None:
    with VideoWriter(path, fps=25) as writer:
        writer.write(np.stack([barcode(k) for k in range(3)]))


def _store(folder: Path) -> None:
    folder.mkdir()
    for name in ("store.json", "manifest.sqlite"):
        (folder / name).touch()
    np.save(folder / "data-00000.npy", np.stack([barcode(k) for k in range(3)]))


def _save(pixels: NDArray[Any], path: Path) -> None:
    np.save(path, pixels, allow_pickle=True)


def _cut_array(path: Path) -> None:
    np.save(path, np.stack([barcode(k) for k in ALL]))
    path.write_bytes(path.read_bytes()[:50_000])


def _huge_array(path: Path) -> None:
    """A header that says 2**40 frames, and then 40 of them."""
    with path.open("wb") as file:
        shape = {"descr": "|u1", "fortran_order": False, "shape": (2**40, 48, 64, 3)}
        np.lib.format.write_array_header_1_0(file, shape)
        file.write(b"".join(barcode(k).tobytes() for k in ALL))


def _cut_file(path: Path, *, make: Callable[[Path], object], share: float) -> None:
    make(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def _doubled(path: Path) -> None:
    """Ten frames a second, of which each tenth has the time of the one before."""
    times = [number - (number % 10 == 9) for number in ALL]
    options = {"codec": "mjpeg", "pix_fmt": "yuvj420p"}
    write_with_times(path, _images(ALL, 48, 64), times, fps=10, **options)


def _hole(path: Path) -> None:
    """A film of key frames without the 21st."""
    plain_clip(codec="mjpeg", pix_fmt="yuvj420p", container_options={"cluster_time_limit": "0"})(
        path
    )
    with av.open(str(path)) as container:
        packets = container.demux(container.streams.video[0])
        positions = [(packet.pos or 0, packet.size) for packet in packets if packet.size]
    content, (position, size) = bytearray(path.read_bytes()), positions[20]
    content[position : position + size] = bytes(size)
    path.write_bytes(content)


def _other_codec(path: Path, *, tag: bytes) -> None:
    plain_clip()(path)
    path.write_bytes(path.read_bytes().replace(b"avc1", tag))


def _latin_title(path: Path) -> None:
    plain_clip(
        codec="mpeg4" if path.suffix == ".avi" else "libx264",
        prepare=lambda container, _: container.metadata.update(title="TITLE"),
    )(path)
    path.write_bytes(path.read_bytes().replace(b"TITLE", b"caf\xe9s"))


def _proxy_first(path: Path) -> None:
    proxy, film = (_images(numbers, 48, 64) for numbers in (range(100, 140), ALL))
    write_tracks(path, [(proxy, Disposition(0)), (film, Disposition.default)])


def _tiles(path: Path) -> None:
    write_tiles(path, barcode(5, height=192, width=256))


def _gif_end(path: Path, *, more: bytes | None) -> None:
    content = plain_clip(codec="gif", pix_fmt="rgb8")(path).read_bytes()
    path.write_bytes(content[:-1] if more is None else content + more)


def _moov_alone(path: Path) -> None:
    plain_clip(container_options={"movflags": "faststart"})(path)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"mdat") + 4])


def _more_behind(path: Path) -> None:
    plain_clip()(path)
    with path.open("ab") as file:
        file.write(random.Random(9).randbytes(5000))


def _corrupt_webp(path: Path) -> None:
    _picture(path)
    content = path.read_bytes()
    path.write_bytes(content[:40] + b"\xff" * (len(content) - 40))


def _flip(path: Path, *, make: Callable[[Path], object], seed: int) -> None:
    """Flips a bit in about one of 500 bytes, the headers among them."""
    make(path)
    content, chance = bytearray(path.read_bytes()), random.Random(seed)
    for _ in range(len(content) // 500 + 1):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def _write(content: bytes, path: Path) -> None:
    path.write_bytes(content)


def _playlist(path: Path) -> None:
    """Names a clip that is not below CLIPS and could be read."""
    other = plain_clip([1])(path.parent.parent / "not-below-clips.ts")
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{other}\n#EXT-X-ENDLIST\n")


def _concat_script(path: Path) -> None:
    plain_clip([2])(path.parent.parent / "neither-below-clips.mp4")
    path.write_text("ffconcat version 1.0\nfile ../neither-below-clips.mp4\n")


def _huge_gif(side: int, path: Path) -> None:
    content = bytearray(plain_clip([1], codec="gif", pix_fmt="rgb8")(path).read_bytes())
    struct.pack_into("<HH", content, 6, side, side)
    path.write_bytes(content)


def _huge_avi(side: int, path: Path) -> None:
    """Raw pictures, whose size stands nowhere but in the header."""
    content = bytearray(plain_clip([1], codec="rawvideo", pix_fmt="bgr24")(path).read_bytes())
    place = content.index(b"strf") + 12  # BITMAPINFOHEADER: after its own size, width and height
    struct.pack_into("<ii", content, place, side, side)
    path.write_bytes(content)


def _renamed(make: Callable[[Path], object], path: Path) -> None:
    """For names that FFmpeg would not write to."""
    plain = path.with_name(".part.mp4")
    make(plain)
    plain.rename(path)


def _duplicate(path: Path) -> None:
    shutil.copy(path.with_name("original.mp4"), path)


def _takes_any_bytes() -> bool:
    """Whether names may be other than UTF-8: not on macOS."""
    return os.name == "posix" and os.uname().sysname == "Linux"
