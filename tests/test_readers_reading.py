"""What a reader says is checked: a clip may have taken it over."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ldf_video.clips.read import SKIP
from ldf_video.files.remote import RemotePath
from ldf_video.readers.reading import (
    Clip,
    ClipEnded,
    FramesRead,
    Reading,
    SourceEnded,
    SourceFailed,
    SourceFound,
)
from ldf_video.readers.wire import Message, WireError
from ldf_video.sources.source import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ldf_video.readers.reading import Event

WISHES = {"geometry": {"height": 2, "width": 3}}
SOURCE = Source(Path("clips"), "a.npy", 10, 20)
DIGEST = "0123456789abcdef" * 4
FOUND = SourceFound(SOURCE, DIGEST, 4)
OPEN, LAST = (Clip(SOURCE, f"{DIGEST}#{k}", k, Fraction(30000, 1001), "") for k in (1, 3))

LOOKED = {"is": "digested", "digest": DIGEST, "num_clips": 4, "stamp": "now"}
CLIP = {"is": "clip", "index": 1, "fps": [30000, 1001], "why_pyav": ""}
FRAMES = {"is": "frames", "num_frames": 2, "position": 0.5}
CLIP_END = {"is": "clip_end", "damage": "", "note": ""}
END = {"is": "source_end"}
PIXELS = bytes(range(36))
WHOLE = [CLIP, FRAMES, CLIP_END, CLIP | {"index": 3}, CLIP_END, END]


class DiedError(Exception):
    pass


class Played:
    """A reading of a reader that says this, and then dies; of four clips two are wanted."""

    def __init__(self, source: Source = SOURCE) -> None:
        self.reading = Reading(source, WISHES)
        self.events: list[Event] = []
        self.commands: list[dict[str, Any]] = []

    def play(self, *said: dict[str, Any], payload: bytes = PIXELS) -> list[Event]:
        """The new events."""
        words, before = iter(said), len(self.events)

        def ask(command: dict[str, Any]) -> Iterator[Message]:
            self.commands.append(command | {"first_frames": [*command.get("first_frames", ())]})
            for header in words:
                yield Message(header, memoryview(payload if header.get("is") == "frames" else b""))
            raise DiedError

        try:
            for event in self.reading.events(ask):
                self.events.append(event)
                if isinstance(event, SourceFound):
                    event.first_frames[:] = [SKIP, 5, SKIP, 0]
        except DiedError:
            pass
        return self.events[before:]


def begun(source: Source = SOURCE, *more: dict[str, Any]) -> Played:
    played = Played(source)
    played.play(LOOKED)
    played.play(CLIP, *more)
    return played


def test_messages_become_events() -> None:
    played = Played()
    found, clip, read, *rest = played.play(LOOKED, *WHOLE)
    assert (found, clip) == (FOUND, OPEN)
    assert isinstance(read, FramesRead)
    assert (read.clip, read.position) == (OPEN, 0.5)
    assert np.array_equal(read.frames, np.arange(36, dtype=np.uint8).reshape(2, 2, 3, 3))
    assert rest == [ClipEnded(OPEN, 7, ""), LAST, ClipEnded(LAST, 0, ""), SourceEnded(FOUND)]
    looked, opened = played.commands
    assert looked["do"] == "look"
    assert (opened["do"], opened["stamp"]) == ("open", "now")
    assert (opened["first_frames"], opened["careful"]) == ([SKIP, 5, SKIP, 0], False)


def test_nothing_is_asked_for_where_no_clip_is_wanted() -> None:
    played = begun(SOURCE, CLIP_END, CLIP | {"index": 3}, CLIP_END)
    assert played.play() == [SourceEnded(FOUND)]
    assert [command["do"] for command in played.commands] == ["look", "open", "open"]


def test_a_second_try_goes_on_with_care_where_the_first_came() -> None:
    played = begun(SOURCE, FRAMES)
    played.reading.begin_second_try()
    read, ended, clip = played.play(CLIP, FRAMES, CLIP_END, CLIP | {"index": 3})
    assert isinstance(read, FramesRead)  # the clip is open already
    assert (ended, clip) == (ClipEnded(OPEN, 9, ""), LAST)
    assert played.commands[-1]["first_frames"] == [SKIP, 7, SKIP, 0]
    assert played.commands[-1]["careful"]
    played.play()
    assert played.commands[-1]["first_frames"] == [SKIP, SKIP, SKIP, 0]


def test_a_death_far_behind_the_last_one_is_another() -> None:
    played = begun(SOURCE, FRAMES)
    assert not played.reading.is_second_try
    played.reading.begin_second_try()
    played.play(CLIP, *[FRAMES] * 255)
    assert played.reading.is_second_try
    played.play(CLIP, FRAMES)  # the 512th frame behind it
    assert not played.reading.is_second_try


@pytest.mark.parametrize("fault", ["content", "reach", "changed"])
def test_a_failure_ends_a_clip_only_where_it_is_the_clips_own(fault: Any) -> None:
    failed = {"is": "failed", "reason": "why", "fault": fault}
    assert Played().play(failed) == [SourceFailed(SOURCE, "why", fault)]
    played = Played()
    played.play(LOOKED)
    assert played.play(failed) == [SourceFailed(SOURCE, "why", fault, FOUND)]
    nothing = begun(SOURCE, CLIP_END, CLIP | {"index": 3})
    first = begun(SOURCE, FRAMES)
    if fault != "content":
        assert nothing.play(failed) == [SourceFailed(SOURCE, "why", fault, FOUND, LAST)]
        assert first.play(failed) == [SourceFailed(SOURCE, "why", fault, FOUND, OPEN)]
        return
    assert nothing.play(failed) == [ClipEnded(LAST, 0, "why")]
    assert not nothing.reading.has_ended
    assert nothing.play() == [SourceEnded(FOUND)]
    assert first.play(failed) == [ClipEnded(OPEN, 7, "damaged after 7 frames: why")]
    assert first.play(CLIP | {"index": 3}, CLIP_END, END) == [
        LAST,
        ClipEnded(LAST, 0, ""),
        SourceEnded(FOUND),
    ]
    assert nothing.reading.has_ended
    assert first.reading.has_ended


def test_a_source_of_which_every_clip_kills_its_reader_ends() -> None:
    reading = Reading(SOURCE, WISHES)
    events: list[Event] = []

    def ask(command: dict[str, Any]) -> Iterator[Message]:
        if command["do"] == "look":
            yield Message(LOOKED | {"num_clips": 100})
        else:
            index = command["first_frames"].index(0)
            yield Message(CLIP | {"index": index})
            raise DiedError

    while not reading.has_ended:
        try:
            events += reading.events(ask)
        except DiedError:
            events += reading.salvage("it crashed")
    assert [event.damage for event in events if isinstance(event, ClipEnded)] == ["it crashed"] * 8
    assert isinstance(events[-1], SourceEnded)


def test_where_the_network_may_hang_nothing_is_known_of_the_clip() -> None:
    damage = "damaged after 7 frames: the decoder hung for 60 s"
    hung = list(begun(SOURCE, FRAMES).reading.on_hang(60.0))
    assert hung == [ClipEnded(OPEN, 7, damage)]
    remote = Source(RemotePath("memory://clips"), "a.npy", 10, 20)
    (failed,) = begun(remote, FRAMES).reading.on_hang(60.0)
    assert isinstance(failed, SourceFailed)
    assert (failed.reason, failed.fault) == ("no answer for 60 s", "reach")


NONSENSE = {
    "at first": (
        [],
        [
            *(LOOKED | {"digest": digest} for digest in (DIGEST[1:], DIGEST.upper(), 7)),
            *(LOOKED | {"num_clips": count} for count in (0, 2.0, True)),
            LOOKED | {"stamp": 7},
            *({"is": kind} for kind in ("digested", "failed", ["failed"], None)),
            {"is": "failed", "reason": None, "fault": "reach"},
            {"is": "failed", "reason": "", "fault": "x"},
            *({}, CLIP, FRAMES, CLIP_END, END),
        ],
    ),
    "before a clip": (
        [LOOKED],
        [
            *(CLIP | {"index": index} for index in (0, None, 3)),
            *(CLIP | {"fps": [numerator, 1]} for numerator in (0, -1, 1.5, 2**63)),
            *(CLIP | {"fps": fps} for fps in (25, [25, 0], [1, 2, 3])),
            CLIP | {"why_pyav": None},
            *({"is": "clip"}, LOOKED, FRAMES, CLIP_END),
        ],
    ),
    "within a clip": (
        [LOOKED, CLIP],
        [
            *(FRAMES | {"num_frames": count} for count in (3, 1, 0, -2, "2")),
            *(FRAMES | {"position": position} for position in ("x", None)),
            CLIP | {"index": 3},
            CLIP_END | {"damage": 1},
            *({"is": "clip_end"}, END),
        ],
    ),
    "behind the last": ([LOOKED, *WHOLE[:-1]], [CLIP, CLIP | {"index": 0}, FRAMES]),
}


@pytest.mark.parametrize(
    ("before", "nonsense"),
    [(before, one) for before, many in NONSENSE.values() for one in many],
    ids=[f"{where} {one}"[:60] for where, (_, many) in NONSENSE.items() for one in many],
)
def test_nonsense_is_refused(before: list[dict[str, Any]], nonsense: dict[str, Any]) -> None:
    played = Played()
    with pytest.raises(WireError):
        played.play(*before, nonsense)
    assert len(played.events) == len(before)


def test_frames_of_another_size_are_refused() -> None:
    with pytest.raises(WireError):
        Played().play(LOOKED, CLIP, FRAMES, payload=PIXELS[:-1])


@pytest.mark.parametrize("position", [-1, 1.01, float("nan"), float("inf")])
def test_a_position_is_never_out_of_range(position: float) -> None:
    read = Played().play(LOOKED, CLIP, FRAMES | {"position": position})[-1]
    assert isinstance(read, FramesRead)
    assert read.position == 1
