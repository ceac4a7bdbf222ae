"""LeRobot data sets: episodes out of films that hold many, by camera."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from array_files import ALL, NATIVE, numbers_of, write_lerobot
from clip_files import read_barcode, write_clip

from ldf_video.clips.identity import source_digest
from ldf_video.clips.probe import count_clips, has_times, probe
from ldf_video.clips.read import SKIP, open_clips
from ldf_video.errors import ReadError, UsageError
from ldf_video.readers.pool import ReaderPool
from ldf_video.readers.reading import ClipEnded, SourceEnded
from ldf_video.sources.search import find_sources

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

EPISODES = [ALL[:5], ALL[5:12], ALL[12:15]]


def test_episodes_are_clips_at_their_rate(tmp_path: Path) -> None:
    root = write_lerobot(parquet, tmp_path / "set")
    wrist = [[100 + number for number in numbers] for numbers in EPISODES]
    assert numbers_of(root) == numbers_of(tmp_path) == EPISODES + wrist
    for camera in ("wrist", "observation.images.wrist"):
        assert numbers_of(root, camera=camera) == wrist
    first, second, *_ = sources = find_sources(root)
    assert [count_clips(source) for source in sources] == [2, 1, 2, 1]
    assert has_times(first)
    assert {clip.fps for clip in open_clips(first, NATIVE)} == {Fraction(10)}
    assert [probe(source).num_frames for source in (first, second)] == [12, 3]
    halved = NATIVE.__class__(48, 64, fps=Fraction(5))
    found = [[read_barcode(f) for f in clip.frames] for clip in open_clips(first, halved)]
    assert found == [[0, 2, 4], [5, 7, 9, 11]]


@pytest.mark.parametrize("firsts", [[SKIP, 0], [SKIP, 3], [2, SKIP], [5, 6]])
def test_episodes_are_gone_on_with(tmp_path: Path, firsts: list[int]) -> None:
    root = write_lerobot(parquet, tmp_path / "set")
    source = find_sources(root)[0]
    found = {
        clip.index: [read_barcode(frame) for frame in clip.frames]
        for clip in open_clips(source, NATIVE, first_frames=firsts)
    }
    assert found == {k: EPISODES[k][first:] for k, first in enumerate(firsts) if first != SKIP}


def test_episodes_may_be_read_in_any_order(tmp_path: Path) -> None:
    root = write_lerobot(parquet, tmp_path / "set")
    clips = list(open_clips(find_sources(root)[0], NATIVE))
    found = [[read_barcode(frame) for frame in clip.frames] for clip in reversed(clips)]
    assert sorted(found) == EPISODES[:2]


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    root = write_lerobot(parquet, tmp_path / "set")
    with pytest.raises(UsageError, match=r"--camera left: .* it has observation.images.top, obs"):
        find_sources(root, layout=find_sources(root)[0].layout.__class__(camera="left"))
    (root / "meta/episodes/chunk-000/file-000.parquet").write_bytes(b"PAR1")
    with pytest.raises(ReadError, match=r"^its episodes cannot be read: [^\n]+$"):
        numbers_of(root)


def test_changed_episodes_are_seen_and_missing_ones_cost_a_line(tmp_path: Path) -> None:
    root = write_lerobot(parquet, tmp_path / "set")
    source, other, *_ = find_sources(root)
    digests = [source_digest(one) for one in (source, other)]
    table = root / "meta/episodes/chunk-000/file-000.parquet"
    rows = parquet.read_table(table).to_pydict()

    def change(name: str, values: list[float]) -> None:
        rows[name] = values
        parquet.write_table(pyarrow.table(rows), table)

    change("length", [4, 7, 3])
    assert source_digest(source) != digests[0]
    assert source_digest(other) == digests[1]
    assert find_sources(root)[0].mtime_ns != source.mtime_ns
    begin = "videos/observation.images.top/from_timestamp"
    change(begin, [0.0, 1.2, 0.0])  # as long as the film is
    with ReaderPool(NATIVE, num_workers=0) as pool:
        ended = [event for event in pool.read([source]) if isinstance(event, ClipEnded)]
    said = "the film ends before 1 episode of 2"
    (event,) = ended
    assert (event.num_frames, event.damage, event.note.partition(";")[0]) == (4, "", said)
    change(begin, [1.2, 7.0, 0.0])
    with pytest.raises(ReadError, match=r"^the film ends before 2 episodes of 2$"):
        count_clips(source)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.9])
def test_a_film_that_is_cut_short_keeps_the_episodes_before(tmp_path: Path, share: float) -> None:
    root = write_lerobot(parquet, tmp_path / "set")
    path, noise = Path(str(find_sources(root)[0].path)), np.random.default_rng(0)
    images = [noise.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(40)]
    write_clip(path, images, fps=10, container_options={"movflags": "faststart"})
    table = root / "meta/episodes/chunk-000/file-000.parquet"
    rows = dict.fromkeys(parquet.read_table(table).to_pydict(), [0] * 10)
    rows |= {name: [k / 2 for k in range(10)] for name in rows if name.endswith("timestamp")}
    rows["length"] = [5] * 10
    parquet.write_table(pyarrow.table(rows), table)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    (source,) = [one for one in find_sources(root) if one.path == path]
    with ReaderPool(NATIVE, num_workers=0) as pool:
        events = [event for event in pool.read([source]) if event is not None]
    ended = [event for event in events if isinstance(event, ClipEnded)]
    assert isinstance(events[-1], SourceEnded)
    assert 0 < len(ended) < 8
    assert all(event.num_frames == 5 for event in ended[:-1])
    assert "frames of the episode are not in the file" in ended[-1].damage or not ended[-1].damage
    assert ended[0].note.startswith(f"the film ends before {10 - len(ended)} episodes of 10")
