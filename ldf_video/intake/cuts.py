"""The cuts of clips that are read at the same time, whose frames come mingled and run ahead."""

from __future__ import annotations

from collections import defaultdict

from ldf_video.readers.reading import ClipEnded, FramesRead
from ldf_video.video.cuts import MOST_AHEAD, CutFinder


class CutsOfClips:
    """Finds cuts as frames go by; they wait here until the rows of these frames are written.

    A clip that is gone on with is read again from some frames before its last row that was kept, so
    that the same cuts are found as without a break.
    """

    def __init__(self) -> None:
        self._first: dict[str, int] = {}  # frame of each clip that was begun
        self._known: dict[str, int] = {}  # frames of each that are read again
        self._finders: dict[str, CutFinder] = {}
        self._found = defaultdict[str, list[int]](list)

    def begin(self, clip_id: str, known: int) -> int:
        """Returns the frame from which a clip is to be read whose first `known` rows are kept."""
        for state in (self._first, self._known, self._finders, self._found):
            state.pop(clip_id, None)  # of a source that failed: this is a copy
        first = max(known - 2 * MOST_AHEAD, 0)
        if known:
            self._first[clip_id], self._known[clip_id] = first, known - first
        return first

    def look(self, event: FramesRead | ClipEnded) -> None:
        """Look at the next frames of a clip, or note its end."""
        clip = event.clip
        finder = self._finders.get(clip.clip_id)
        if isinstance(event, FramesRead):
            if finder is None:
                finder = CutFinder(clip.fps, first=self._first.get(clip.clip_id, 0))
                self._finders[clip.clip_id] = finder
            self._found[clip.clip_id] += finder.add(event.frames)
        elif finder is not None:
            self._found[clip.clip_id] += finder.end()
            del self._finders[clip.clip_id]

    def drop_known(self, clip_id: str, count: int) -> int:
        """Returns how many of the next `count` rows of a clip are kept already."""
        known = min(self._known.get(clip_id, 0), count)
        if known:
            self._known[clip_id] -= known
        return known

    def take(self, clip_id: str) -> list[int]:
        """Returns the cuts that have been found since the last call."""
        return self._found.pop(clip_id, [])
