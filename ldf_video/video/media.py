"""What every kind of open file gives: one clip's frames, once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from ldf_video.video.geometry import SQUARE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import av

DEFAULT_FPS = Fraction(25)


class Media(ABC):
    """One clip of an open file.

    Attributes:
        container_name: FFmpeg's name of the format, "pictures" or "npy".
        codec_name: FFmpeg's name of the codec; the suffix of pictures; "uint8" for arrays.
        fps: nominal frames a second.
        sample_aspect_ratio: width of a pixel as shown, over its height, before rotation.
        source_size: rows and columns of the file's frames, where these may come smaller, whole.
        index: which clip of an array of clips, 0-based; None where a file is one clip.
        name: of the clip within a file that holds several; "" where they have none.
        has_times: whether frames are resampled in time; else all are given.
        knows_place: whether the number of a frame tells where it lies in the file; else those
            before it may be bad, which shows when they are read.
        known: gives the `KnownFrames` that the file tells of the clip, None where it tells nothing.
        known_said: that in words, or why it is not used.
    """

    container_name: str
    codec_name: str
    fps: Fraction = DEFAULT_FPS
    sample_aspect_ratio: Fraction = SQUARE
    source_size: tuple[int, int] | None = None
    index: int | None = None
    name: str = ""
    has_times = True
    knows_place = True
    known: Callable[[], Any] | None = None
    known_said: str = ""
    _num_read, _num_all = 0, 1  # of frames or bytes

    def position(self) -> float:
        """Returns how much of the file has been read, in [0, 1]; it never goes back."""
        return min(self._num_read / self._num_all, 1.0)

    def note(self) -> str:
        """Returns what a user must know of the frames that were given, else ""."""
        return ""

    @abstractmethod
    def frames(self, first: int = 0) -> Iterator[av.VideoFrame]:
        """Yields every whole frame from number `first` on, once; `first` is 0 where it has times.

        Where a frame's place is not known, `first` counts those that cannot be read, too.

        Raises:
            ReadError: if there is none.
            TruncatedError: after all frames that can be read, if the file is damaged.
        """
