"""The real clips that others are compared with, as a judge sees them; kept in a file."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ldf_video.errors import LdfError
from ldf_video.evaluation.clouds import Array, Cloud, Directions
from ldf_video.evaluation.draw import CLIP_FRAMES, evenly
from ldf_video.evaluation.judge import Judge, judge_clips
from ldf_video.evaluation.kernel import KernelCloud
from ldf_video.evaluation.tracks import Moves
from ldf_video.output import reason, write_atomically

Clips = npt.NDArray[np.uint8]

FORMAT_VERSION = 2
NUM_DIRECTIONS = 64
FRAMES_AT_ONCE = 25_000
"""Frames of which features are held: points then take their place."""
NOISE_LEVELS = 16
"""Spread of the noise on frames that the wider directions are fitted to, of 255."""
BLUR_SHARE = 1 / 32
"""Spread of the blur, of a frame's height."""
VIEWS = ("frame", "video", "motion", "video_plus")
"""Points of clips by name, as far as the judge and the clips have them.

frame: of each clip's first frame, all features, (N, d). video: of all frames, each projected on the
directions of real frames, (N, T * k); of a judge that sees clips, its points (N, d). motion:
differences of successive frames in `video`, (N, (T - 1) * k). video_plus: as `video`, on the wider
directions. Of clips of more than CLIP_FRAMES frames these three are projected once more, on as many
directions of real clips as five frames have numbers.
"""

KERNEL_VIEWS = ("frame", "video", "motion")
"""Those of which there is a kernel distance, too."""

Views = dict[str, Array]


@dataclass(frozen=True)
class Basis:
    """What features are projected on."""

    real: Directions  # of real frames
    wide: Directions
    """Of real, blurred and noised real frames: those of real frames alone hide what they lack."""
    across: Mapping[str, Directions] = field(default_factory=dict)
    """Of real clips, for the views of many frames."""

    @classmethod
    def fit(cls, features: Array, clips: Clips, judge: Judge) -> Self:
        """Of features (N, t, d) of some frames of real clips, t odd or all frames there are.

        The wider directions are those of the middle one of these as it is and made worse.
        """
        _, t, d = features.shape
        place = int(evenly(clips.shape[1], t)[t // 2])
        middle = clips[:, place : place + 1]
        worse = [judge_clips(judge, made)[:, 0] for made in (blurred(middle), noised(middle))]
        wide = np.concatenate([features[:, t // 2], *worse])
        return cls(
            Directions.fit(features.reshape(-1, d), count=NUM_DIRECTIONS),
            Directions.fit(wide, count=NUM_DIRECTIONS),
        )

    def views(self, features: Array) -> Views:
        """The points of clips, from a judge's features (N, T, d) of their frames."""
        n, t, _ = features.shape
        if t == 1:
            return {"frame": features[:, 0]}
        video = self.real.project(features)  # (N, T, k)
        views = {
            "frame": features[:, 0],
            "video": video.reshape(n, -1),
            "motion": (video[:, 1:] - video[:, :-1]).reshape(n, -1),
            "video_plus": self.wide.project(features).reshape(n, -1),
        }
        return views | {name: to.project(views[name]) for name, to in self.across.items()}

    def with_across(self, views: Views) -> Self:
        """The same, with directions of real clips' views of many frames."""
        k = self.real.axes.shape[1]
        counts = {"video": CLIP_FRAMES, "motion": CLIP_FRAMES - 1, "video_plus": CLIP_FRAMES}
        fitted = {n: Directions.fit(views[n], count=k * frames) for n, frames in counts.items()}
        return replace(self, across=fitted)


@dataclass(frozen=True)
class Reference:
    """Real clips as a judge sees them; figures against references of one `sha256` compare."""

    judge_name: str
    judge_sha256: str  # of its weights
    clip_shape: tuple[int, ...]  # (T, H, W, 3)
    sha256: str  # of the clips' pixels, the judge and how features become points
    basis: Basis | None  # None of a judge that sees clips
    views: Views
    moves: Moves | None  # None of a file that an earlier version wrote

    @classmethod
    def of(
        cls, clips: Clips, judge: Judge, *, on_frames: Callable[[int], None] = lambda count: None
    ) -> Self:
        """Judge real clips (N, T, H, W, 3), T at least 2, neighbours in time side by side."""
        digest, t = reference_sha256(clips, judge), clips.shape[1]
        head = judge.name, judge.sha256, clips.shape[1:], digest
        if judge.sees_clips:
            views = _judged(None, clips, judge, on_frames)
            return cls(*head, None, views, Moves.of(clips))
        if t <= CLIP_FRAMES:
            features = judge_clips(judge, clips, on_batch=on_frames)
            basis = Basis.fit(features, clips, judge)
            return cls(*head, basis, basis.views(features), Moves.of(clips))
        some = judge_clips(judge, clips[:, evenly(t, CLIP_FRAMES)])
        basis = Basis.fit(some, clips, judge)
        views = _judged(basis, clips, judge, on_frames)
        basis = basis.with_across(views)
        views |= {name: to.project(views[name]) for name, to in basis.across.items()}
        return cls(*head, basis, views, Moves.of(clips))

    @cached_property
    def clouds(self) -> dict[str, Cloud]:
        """A cloud for each of the views, by its name."""
        return {name: Cloud(points) for name, points in self.views.items()}

    @cached_property
    def kernels(self) -> dict[str, KernelCloud]:
        """The views that have a kernel distance, by name."""
        names = (name for name in KERNEL_VIEWS if name in self.views)
        return {name: KernelCloud(self.views[name]) for name in names}

    def check(self, judge: Judge, clip_shape: tuple[int, ...]) -> None:
        """Refuse what cannot be compared with it.

        Raises:
            LdfError: the judge is another, or the clips are of another length or size.
        """
        if judge.sha256 != self.judge_sha256:
            raise LdfError(
                f"the reference was judged by {self.judge_name} ({self.judge_sha256[:12]}), "
                f"expected {judge.name} ({judge.sha256[:12]}); make another --reference"
            )
        if tuple(clip_shape) not in (self.clip_shape, (1, *self.clip_shape[1:])):
            got, expected = (
                f"{t} frames of {width} x {height}"
                for t, height, width, _ in (clip_shape, self.clip_shape)
            )
            raise LdfError(
                f"got clips of {got}, expected {expected} as in the reference; make another "
                "--reference"
            )

    def views_of(
        self, clips: Clips, judge: Judge, *, on_frames: Callable[[int], None] = lambda count: None
    ) -> Views:
        """The points of clips (N, T, H, W, 3); `on_frames` gets the number of frames judged."""
        return _judged(self.basis, clips, judge, on_frames)

    def save(self, path: Path, *, notes: dict[str, Any]) -> None:
        """Write it, and notes of plain values, to an .npz file, at once or not at all."""
        head = {
            "format_version": FORMAT_VERSION,
            "judge_name": self.judge_name,
            "judge_sha256": self.judge_sha256,
            "clip_shape": self.clip_shape,
            "sha256": self.sha256,
            "notes": notes,
        }
        arrays: dict[str, npt.NDArray[Any]] = {**self.views}
        if self.basis is not None:
            known = {"real": self.basis.real, "wide": self.basis.wide}
            known |= {f"across_{name}": to for name, to in self.basis.across.items()}
            for name, directions in known.items():
                arrays |= {f"{name}_origin": directions.origin, f"{name}_axes": directions.axes}
        if self.moves is not None:
            arrays |= {"moves": self.moves.counts, "moves_scale": np.array(self.moves.scale)}
        arrays["head"] = np.frombuffer(json.dumps(head).encode(), np.uint8)

        def write(partial: Path) -> None:
            with partial.open("wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]  # no name is one of its options

        write_atomically(path, write)

    @classmethod
    def load(cls, path: Path) -> tuple[Self, dict[str, Any]]:
        """Read what `save` wrote, and its notes; runs no code from it.

        Raises:
            LdfError: it is another kind of file, or of another version.
        """
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
                arrays = {name: found[name] for name in found.files}
            head = json.loads(arrays.pop("head").tobytes())
            if head["format_version"] != FORMAT_VERSION:
                raise ValueError(f"format {head['format_version']}, expected {FORMAT_VERSION}")
            basis = None
            if "real_axes" in arrays:
                known = {
                    name.removesuffix("_axes"): Directions(arrays[f"{name[:-5]}_origin"], axes)
                    for name, axes in arrays.items()
                    if name.endswith("_axes")
                }
                real, wide = known.pop("real"), known.pop("wide")
                across = {name.removeprefix("across_"): to for name, to in known.items()}
                basis = Basis(real, wide, across)
            views = {name: arrays[name] for name in VIEWS if name in arrays}
            judge, shape = (head["judge_name"], head["judge_sha256"]), tuple(head["clip_shape"])
            moves = None
            if "moves" in arrays:
                moves = Moves(arrays["moves"], int(arrays["moves_scale"]))
            return cls(*judge, shape, head["sha256"], basis, views, moves), dict(head["notes"])
        except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise LdfError(
                f"--reference {path}: not a reference of this version ({reason(error)}); "
                "name another file, which is then written"
            ) from error


def reference_sha256(clips: Clips, judge: Judge) -> str:
    """What identifies a reference: pixels (N, T, H, W, 3) and shape, judge, recipe."""
    recipe = [FORMAT_VERSION, NUM_DIRECTIONS, NOISE_LEVELS, BLUR_SHARE, judge.sha256, *clips.shape]
    recipe += ["across"] if clips.shape[1] > CLIP_FRAMES else []
    digest = hashlib.sha256(json.dumps(recipe).encode())
    digest.update(np.ascontiguousarray(clips).data)
    return digest.hexdigest()


def _judged(
    basis: Basis | None, clips: Clips, judge: Judge, on_frames: Callable[[int], None]
) -> Views:
    """The points of clips, of a judge that sees frames by a basis."""
    t = clips.shape[1]
    size = max(1, FRAMES_AT_ONCE // t)
    parts: list[Views] = []
    for start in range(0, len(clips), size):

        def on_batch(count: int, done: int = start * t) -> None:
            on_frames(done + count)

        features = judge_clips(judge, clips[start : start + size], on_batch=on_batch)
        parts.append({"video": features[:, 0]} if basis is None else basis.views(features))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def blurred(clips: Clips) -> Clips:
    """Clips (N, T, H, W, 3) under a Gaussian blur of BLUR_SHARE of their height."""
    spread = max(0.5, BLUR_SHARE * clips.shape[2])
    reach = int(np.ceil(3 * spread))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / spread) ** 2)
    weights /= weights.sum()
    made = np.empty_like(clips)
    for number, clip in enumerate(clips):
        levels = clip.astype(np.float64)
        for axis in (1, 2):
            margins = [(reach, reach) if a == axis else (0, 0) for a in range(4)]
            padded = np.pad(levels, margins, mode="edge")
            moved = np.moveaxis(padded, axis, -1)
            windows = np.lib.stride_tricks.sliding_window_view(moved, len(weights), axis=-1)
            levels = np.moveaxis(windows @ weights, -1, axis)
        made[number] = levels.round()
    return made


def noised(clips: Clips) -> Clips:
    """Clips (N, T, H, W, 3) with Gaussian noise of NOISE_LEVELS, the same at every call."""
    rng = np.random.default_rng(0)
    made = np.empty_like(clips)
    for number, clip in enumerate(clips):
        noise = NOISE_LEVELS * rng.standard_normal(clip.shape, dtype=np.float32)
        made[number] = (clip + noise).round().clip(0, 255)
    return made
