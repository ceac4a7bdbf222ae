"""What a reader says is checked: a clip may have taken it over."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ldf_video.readers.reading import (
    Clip,
    ClipEnded,
    Reading,
    SourceEnded,
    SourceFailed,
    SourceFound,
)
from ldf_video.readers.wire import Message, WireError
from ldf_video.video.files import RemotePath
from ldf_video.video.geometry import Geometry
from ldf_video.video.read import SKIP
from ldf_video.video.sources import Source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ldf_video.readers.reading import Event

SIZE = Geometry(2, 3)
SOURCE = Source(Path("clips"), "a.npy", 10, 20)
DIGEST = "0123456789abcdef" * 4
LOOKED = {"is": "digested", "digest": DIGEST, "num_clips": 4, "stamp": "now"}
FOUND = SourceFound(SOURCE, DIGEST, 4)
OPEN = Clip(SOURCE, f"{DIGEST}#1", 1, Fraction(30000, 1001), 5, "")
CLIP = {
    "is": "clip",
    "index": 1,
    "fps": [30000, 1001],
    "first_frame": 5,
    "why_pyav": "",
}
FRAMES = {"is": "frames", "num_frames": 2, "position": 0.5}
CLIP_END = {"is": "clip_end", "damage": ""}
PIXELS = bytes(range(36))


def hear(reading: Reading, header: dict[str, Any], payload: bytes = b"") -> Sequence[Event]:
    return reading.on_message(Message(header, memoryview(payload)))


def opened(source: Source = SOURCE) -> Reading:
    reading = Reading(source, SIZE)
    hear(reading, LOOKED)
    reading.choose([SKIP, 5, SKIP, 0])
    reading.next_command()
    return reading


def begun(source: Source = SOURCE) -> Reading:
    reading = opened(source)
    hear(reading, CLIP)
    return reading


def test_commands_follow_from_what_is_known() -> None:
    reading = Reading(SOURCE, SIZE)
    assert reading.next_command() == {"do": "look", "source": SOURCE.to_json()}
    assert hear(reading, LOOKED) == [FOUND]
    expected = {
        "do": "open",
        "source": SOURCE.to_json(),
        "stamp": "now",
        "first_frames": [0, 0, 0, 0],
        "threads": 0,
        "careful": False,
    }
    assert reading.next_command() == expected
    reading.choose([SKIP, 5, SKIP, 0])
    assert reading.next_command() == expected | {"first_frames": [SKIP, 5, SKIP, 0]}


def test_nothing_is_to_be_done_where_no_clip_is_wanted() -> None:
    reading = opened()
    reading.choose([SKIP] * 4)
    assert reading.next_command() is None
    assert reading.end() == SourceEnded(FOUND)
    assert reading.is_over


def test_messages_become_events() -> None:
    reading = opened()
    assert hear(reading, CLIP) == [OPEN]
    (read,) = hear(reading, FRAMES, PIXELS)
    assert (read.clip, read.position) == (OPEN, 0.5)  # type: ignore[union-attr]
    expected = np.arange(36, dtype=np.uint8).reshape(2, 2, 3, 3)
    assert np.array_equal(read.frames, expected)  # type: ignore[union-attr]
    assert hear(reading, {"is": "clip_end", "damage": "bits"}) == [ClipEnded(OPEN, 7, "bits")]
    assert not reading.is_over
    (last,) = hear(reading, CLIP | {"index": 3, "first_frame": 0})
    assert hear(reading, CLIP_END) == [ClipEnded(last, 0, "")]  # type: ignore[arg-type]
    assert hear(reading, {"is": "source_end"}) == [SourceEnded(FOUND)]
    assert reading.is_over


def test_a_second_try_goes_on_with_care_where_the_first_came() -> None:
    reading = begun()
    hear(reading, FRAMES, PIXELS)
    reading.begin_second_try()
    command = reading.next_command()
    assert command is not None
    assert command["first_frames"] == [SKIP, 7, SKIP, 0]
    assert (command["threads"], command["careful"]) == (1, True)
    assert hear(reading, CLIP | {"first_frame": 7}) == []  # it is open already
    hear(reading, CLIP_END)
    reading.begin_second_try()
    command = reading.next_command()
    assert command is not None
    assert command["first_frames"] == [SKIP, SKIP, SKIP, 0]


def test_what_had_no_frame_fails() -> None:
    assert Reading(SOURCE, SIZE).salvage("why") == [SourceFailed(SOURCE, "why")]
    assert opened().salvage("why") == [SourceFailed(SOURCE, "why", found=FOUND)]
    reading = begun()
    hear(reading, CLIP_END)
    (clip,) = hear(reading, CLIP | {"index": 3, "first_frame": 0})
    failed = {"is": "failed", "reason": "why", "fault": "content"}
    assert hear(reading, failed) == [SourceFailed(SOURCE, "why", "content", FOUND, clip)]  # type: ignore[arg-type]
    assert reading.is_over


@pytest.mark.parametrize("fault", ["content", "reach", "changed"])
def test_a_failure_ends_a_clip_only_where_it_is_the_clips_own(fault: Any) -> None:
    reading = begun()
    hear(reading, FRAMES, PIXELS)
    events = hear(reading, {"is": "failed", "reason": "why", "fault": fault})
    if fault == "content":
        assert events == [ClipEnded(OPEN, 7, "damaged after 7 frames: why"), SourceEnded(FOUND)]
    else:
        assert events == [SourceFailed(SOURCE, "why", fault, FOUND, OPEN)]
    assert reading.is_over


def test_where_the_network_may_hang_nothing_is_known_of_the_clip() -> None:
    reading = begun()
    hear(reading, FRAMES, PIXELS)
    damage = "damaged after 7 frames: the decoder hung for 60 s"
    assert reading.on_hang(60.0) == [ClipEnded(OPEN, 7, damage), SourceEnded(FOUND)]
    reading = begun(Source(RemotePath("memory://clips"), "a.npy", 10, 20))
    hear(reading, FRAMES, PIXELS)
    (failed,) = reading.on_hang(60.0)
    assert isinstance(failed, SourceFailed)
    assert (failed.reason, failed.fault) == ("no answer for 60 s", "reach")
    assert reading.is_over


@pytest.mark.parametrize(
    "header",
    [
        LOOKED | {"digest": DIGEST[1:]},
        LOOKED | {"digest": DIGEST.upper()},
        LOOKED | {"digest": 7},
        LOOKED | {"num_clips": 0},
        LOOKED | {"num_clips": 2.0},
        LOOKED | {"num_clips": True},
        LOOKED | {"stamp": 7},
        {"is": "digested"},
        {"is": "failed", "reason": None},
        {"is": "failed"},
        {"is": ["failed"]},
        {},
        CLIP,
        FRAMES,
        CLIP_END,
        {"is": "source_end"},
    ],
)
def test_nonsense_at_first_is_refused(header: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        hear(Reading(SOURCE, SIZE), header)


@pytest.mark.parametrize(
    "header",
    [
        LOOKED,
        CLIP | {"index": 0},
        CLIP | {"index": None},
        CLIP | {"index": 3},
        CLIP | {"first_frame": 4},
        CLIP | {"fps": [25, 0]},
        CLIP | {"fps": [0, 1]},
        CLIP | {"fps": [-1, 1]},
        CLIP | {"fps": [1.5, 1]},
        CLIP | {"fps": [2**31, 1]},
        CLIP | {"fps": 25},
        CLIP | {"fps": [1, 2, 3]},
        CLIP | {"why_pyav": None},
        {"is": "clip"},
        FRAMES,
        CLIP_END,
    ],
)
def test_nonsense_before_a_clip_is_refused(header: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        hear(opened(), header, PIXELS)


@pytest.mark.parametrize(
    ("header", "payload"),
    [
        (FRAMES, PIXELS[:-1]),
        (FRAMES, b""),
        (FRAMES | {"num_frames": 3}, PIXELS),
        (FRAMES | {"num_frames": -2}, PIXELS),
        (FRAMES | {"num_frames": 0}, b""),
        (FRAMES | {"position": "x"}, PIXELS),
        (FRAMES | {"position": None}, PIXELS),
        (CLIP | {"index": 3, "first_frame": 0}, b""),
        ({"is": "clip_end", "damage": 1}, b""),
        ({"is": "source_end"}, b""),
    ],
)
def test_nonsense_within_a_clip_is_refused(header: dict[str, Any], payload: bytes) -> None:
    with pytest.raises(WireError):
        hear(begun(), header, payload)


@pytest.mark.parametrize("position", [-1, 1.01, float("nan"), float("inf")])
def test_a_position_is_never_out_of_range(position: float) -> None:
    (read,) = hear(begun(), FRAMES | {"position": position}, PIXELS)
    assert read.position == 1  # type: ignore[union-attr]


def test_a_large_array_is_not_looked_through_at_every_word() -> None:
    num_clips = 50_000
    reading = Reading(SOURCE, SIZE)
    hear(reading, LOOKED | {"num_clips": num_clips})
    looked = 0

    class Counted(list[int]):
        def __getitem__(self, index: Any) -> Any:
            nonlocal looked
            looked += 1
            return super().__getitem__(index)

    reading._first_frames = Counted(reading._first_frames)
    for index in range(num_clips):
        hear(reading, CLIP | {"index": index, "first_frame": 0})
        hear(reading, CLIP_END)
    assert looked < 10 * num_clips


def test_a_death_far_behind_the_last_one_is_another() -> None:
    reading = begun()
    hear(reading, FRAMES, PIXELS)
    assert not reading.is_second_try
    reading.begin_second_try()
    assert reading.is_second_try
    num_frames = FRAMES["num_frames"]
    for _ in range(512 // num_frames):
        assert reading.is_second_try
        hear(reading, FRAMES, PIXELS)
    if 512 % num_frames:
        hear(reading, FRAMES, PIXELS)
    assert not reading.is_second_try
    reading.begin_second_try()
    assert reading.is_second_try
