"""What a range near the end of a long film costs, against decoding the film up to there.

    python scripts/benchmarks/bench_ranges.py FILM [--repeat 10] [--rounds 3]

The film is first copied `--repeat` times into one MP4, one behind the other. Then two seconds, ten
seconds before its end, are read as a row of clips.csv is, by seeking and from the start, in turn.
Prints medians in seconds and their ratio, and whether the frames are the same bytes.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from unittest import mock

import av
import numpy as np

from ldf_video.clips.read import open_clips
from ldf_video.sources.ranges import Range
from ldf_video.sources.source import Source
from ldf_video.video import seeking
from ldf_video.video.geometry import Geometry


def repeated(film: Path, out: Path, count: int) -> Fraction:
    """Copy a film's packets several times into one file; returns its seconds."""
    offset = 0
    with av.open(str(out), "w") as container:
        copy = None
        for _ in range(count):
            with av.open(str(film)) as given:
                stream = given.streams.video[0]
                copy = copy or container.add_stream_from_template(stream)
                end = 0
                for packet in given.demux(stream):
                    if packet.size:
                        assert packet.pts is not None
                        assert packet.dts is not None
                        end = max(end, packet.pts + (packet.duration or 0))
                        packet.pts, packet.dts = packet.pts + offset, packet.dts + offset
                        packet.stream = copy
                        container.mux(packet)
                offset += end
                base = Fraction(stream.time_base or 1)
    return offset * base


def read(film: Path, part: Range) -> np.ndarray:
    """The small frames of a range."""
    source = Source(film.parent, film.name + part.suffix, -1, -1, is_named=True, part=part)
    return np.stack(
        [frame for clip in open_clips(source, Geometry(64, 64)) for frame in clip.frames]
    )


def main() -> None:
    """Parses the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("film", type=Path)
    parser.add_argument("--repeat", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        film = Path(directory) / "long.mp4"
        length = repeated(asked.film, film, asked.repeat)
        part = Range(Fraction(int(length) - 10), Fraction(int(length) - 8))
        seconds: dict[str, list[float]] = {"seeking": [], "from the start": []}
        frames: dict[str, np.ndarray] = {}
        for _ in range(asked.rounds):
            for way, taken in seconds.items():
                seeking._index.cache_clear()
                began = time.perf_counter()
                nearest = seeking.FROM_SECONDS if way == "seeking" else 10**9
                with mock.patch.object(seeking, "FROM_SECONDS", nearest):
                    frames[way] = read(film, part)
                taken.append(time.perf_counter() - began)
    medians = {way: statistics.median(values) for way, values in seconds.items()}
    one, other = medians.values()
    same = "the same" if np.array_equal(*frames.values()) else "NOT the same"
    print(
        f"2 s near the end of {float(length):,.0f} s: {one:.2f} s seeking, {other:.2f} s from the "
        f"start, {other / one:.0f} times; {len(frames['seeking'])} frames, {same}"
    )


if __name__ == "__main__":
    main()
