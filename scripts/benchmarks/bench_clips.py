"""Videos for benchmarks: made, scaled, cut and repeated; not a command."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream


def make_scene(path: Path, *, num_frames: int, height: int = 720, width: int = 1280) -> None:
    """Write a textured picture that drifts under a moving one, with a cut every 10 s; h264."""
    random = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = _h264(container, height=height, width=width, rate=Fraction(24))
        for number in range(num_frames):
            if number % 240 == 0:  # a cut: another picture, another way to drift
                far, near = (_texture(random, height, width) for _ in range(2))
                step = random.integers(-4, 5, 2)
            picture = np.roll(far, tuple(number * step), axis=(0, 1))
            part = np.roll(near, 3 * number, axis=1)[: height // 2, : width // 2]
            top, left = height // 4, (5 * number) % (width // 2)
            picture[top : top + height // 2, left : left + width // 2] = part
            _write(container, stream, picture)
        container.mux(stream.encode())


def rescale(source: Path, path: Path, *, height: int, width: int, num_frames: int) -> None:
    """Write the first frames of a video at another size; h264 as x264 makes it by default.

    The largest centred part of the shape asked for is taken, so pixels stay square.
    """
    with av.open(str(source)) as video, av.open(str(path), "w") as container:
        frames = video.decode(video=0)
        video.streams.video[0].thread_type = "AUTO"
        rate = video.streams.video[0].average_rate or Fraction(25)
        stream = _h264(container, height=height, width=width, rate=Fraction(rate))
        for frame in itertools.islice(frames, num_frames):
            whole = max(Fraction(height, frame.height), Fraction(width, frame.width))
            picture = frame.to_ndarray(
                format="rgb24", height=round(frame.height * whole), width=round(frame.width * whole)
            )
            top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
            _write(container, stream, picture[top : top + height, left : left + width])
        container.mux(stream.encode())


def cut(source: Path, folder: Path, *, num_frames: int, title: str) -> Iterator[tuple[Path, int]]:
    """Cut a video at key frames into clips, without re-encoding.

    Args:
        source: a video.
        folder: where the clips go.
        num_frames: a clip has at least; only the last may have fewer.
        title: of each clip. Another title makes another file of the same pictures.

    Yields:
        The clips and how many frames each has.
    """
    with av.open(str(source)) as video:
        for number, packets in enumerate(_groups(_packets(video), num_frames)):
            path = folder / f"{title}-{number:04d}.mp4"
            with av.open(str(path), "w") as container:
                stream = container.add_stream_from_template(video.streams.video[0])
                container.metadata["title"] = title
                start = packets[0].dts
                for packet in packets:
                    _mux(container, stream, packet, shift=-start)
            yield path, len(packets)


def repeat(source: Path, path: Path, *, seconds: float) -> int:
    """Write a video again and again, the last time in part, until it is so long.

    Nothing is encoded anew; what is not the first video stream is left out.

    Returns:
        How many frames were written.
    """
    num_frames, shift = 0, 0
    with av.open(str(path), "w") as container:
        stream: VideoStream | None = None
        while True:
            end = 0
            with av.open(str(source)) as video:
                template = video.streams.video[0]
                stream = stream or container.add_stream_from_template(template)
                assert template.time_base is not None
                for packet in _packets(video):
                    if (packet.dts + shift) * template.time_base >= seconds:
                        return num_frames
                    end = max(end, packet.pts + (packet.duration or 1))
                    _mux(container, stream, packet, shift=shift)
                    num_frames += 1
            shift += end


def _packets(video: InputContainer) -> Iterator[Packet[VideoStream]]:
    return (packet for packet in video.demux(video=0) if packet.size)


def _groups(
    packets: Iterator[Packet[VideoStream]], num_frames: int
) -> Iterator[list[Packet[VideoStream]]]:
    """Packets in groups of at least so many; each begins with a key frame."""
    group: list[Packet[VideoStream]] = []
    for packet in packets:
        if packet.is_keyframe and len(group) >= num_frames:
            yield group
            group = []
        if group or packet.is_keyframe:
            group.append(packet)
    if group:
        yield group


def _mux(
    container: OutputContainer, stream: VideoStream, packet: Packet[VideoStream], *, shift: int
) -> None:
    packet.pts += shift
    packet.dts += shift
    packet.stream = stream
    container.mux(packet)


def _h264(container: OutputContainer, *, height: int, width: int, rate: Fraction) -> VideoStream:
    stream = container.add_stream("libx264", rate=rate, options={"preset": "veryfast"})
    stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
    return stream


def _write(container: OutputContainer, stream: VideoStream, picture: np.ndarray) -> None:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    container.mux(stream.encode(frame))


def _texture(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Smooth shapes and some grain, uint8 (height, width, 3)."""
    shapes = random.integers(0, 224, (height // 40 + 1, width // 40 + 1, 3), dtype=np.uint8)
    large = av.VideoFrame.from_ndarray(shapes, format="rgb24").to_ndarray(
        format="rgb24", height=height, width=width, interpolation="BICUBIC"
    )
    grain = random.integers(0, 16, (height // 4, width // 4, 1), dtype=np.uint8)
    return np.clip(large, 0, 239) + grain.repeat(4, axis=0).repeat(4, axis=1)
