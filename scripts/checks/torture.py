"""Bad files made, encoded, and each accounted for; a table of what was right and what came.

    python scripts/checks/torture.py [--out FOLDER] [--json FILE]

Makes the files of `tests/bad_clips.py`, runs `ldf-video encode` on them, and reads them once more
into a store of frames, where the bars drawn into each picture tell its number. Then one file is
renamed, one changed and one removed, and `encode` runs again. Last, readers are made to crash and
to hang in the middle of a clip. Ends with exit code 1 if one thing is wrong.

Root may read everything: run by root, the work is done without root's rights over files.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ldf_video.intake.frames_store import store_frames
from ldf_video.progress import Progress
from ldf_video.store import StoreReader
from ldf_video.training.ranks import Ranks
from ldf_video.video.geometry import Geometry

HERE = Path(__file__).resolve().parents[2]
TESTS = HERE / "tests"
sys.path.append(str(TESTS))
from bad_clips import LOCKED, BadClip, bad_clips, plain_clip, write_bad_clips  # noqa: E402
from clip_files import read_barcode  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HEIGHT, WIDTH = 48, 64


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    file: str
    expected: str
    came: str
    ok: bool


@dataclass(frozen=True)
class Found:
    """What a store says of one source; `numbers` are None for a store of latents."""

    outcome: str
    num_frames: int = 0
    numbers: tuple[int, ...] | None = None
    reason: str = ""
    clip_ids: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.outcome == "quarantined":
            return f"quarantined: {self.reason}"
        text = f"{self.outcome} {self.num_frames} frames"
        return f"{text}: {self.reason}" if self.reason else text


@dataclass
class Work:
    """A folder with `clips/` and a frame model, and how processes are started on it.

    `said` is what the last `encode` printed.
    """

    folder: Path
    options: dict[str, Any]
    environment: dict[str, str] = field(default_factory=dict)
    said: str = ""

    def encode(self) -> dict[str, Found]:
        """Runs `ldf-video encode`, and says what the store holds then."""
        model = ["--frame-model", "frame", "--device", "cpu"]
        self.said = self._run("-m", "ldf_video", "encode", "clips", "--out", "latents", *model)
        return found_in(self.folder / "latents", self.said)

    def frames(self, name: str = "frames", fps: str = "") -> dict[str, Found]:
        """Makes a store of frames in a process of its own, and says what it holds."""
        return found_in(self.folder / name, self._run(__file__, "--frames", "clips", name, fps))

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=False,
            **self.options,
        )
        if done.returncode:
            said = f"{done.stdout}{done.stderr}".strip()
            raise RuntimeError(f"exit {done.returncode} of {arguments}: {said[-3000:]!a}")
        return done.stdout + done.stderr


def read_frames(clips: Path, store: Path, fps: str) -> None:
    """Makes a store of frames; see `Work.frames`."""
    geometry = Geometry(HEIGHT, WIDTH, fps=Fraction(fps) if fps else None)
    with Progress("torture", unit="frames", quiet=False) as progress:
        store_frames(clips, store, geometry, progress, Ranks())


def found_in(path: Path, said: str = "") -> dict[str, Found]:
    """What a store holds of each source; why one was salvaged is `said` alone, not stored."""
    store = StoreReader(path)
    salvaged = set(store.salvaged())
    clip_ids: dict[str, list[str]] = {}
    for record in store.sources():
        clip_ids.setdefault(record.source, []).append(record.clip_id)
    found = {}
    for source, ids in clip_ids.items():
        ids.sort(key=lambda clip_id: int(clip_id.partition("#")[2] or 0))
        clips = list(map(store.index, ids))
        reason = re.search(f"  salvaged {re.escape(source)}: (.*)", said)
        found[source] = Found(
            "salvaged" if source in salvaged else "stored",
            int(sum(store.lengths[clip] for clip in clips)),
            _numbers(store, clips) if store.spec.kind == "frames" else None,
            reason[1] if reason else "",
            tuple(ids),
        )
    for bad in store.quarantined():
        found[bad.source] = Found("quarantined", reason=bad.reason)
    return found


def _numbers(store: StoreReader, clips: Sequence[int]) -> tuple[int, ...]:
    return tuple(
        read_barcode(frame) for clip in clips for frame in store.read(clip, 0, store.lengths[clip])
    )


# What is right


def expectation(clip: BadClip) -> str:
    """What must become of a file, in words."""
    num_frames = len(clip.numbers)
    return {
        "stored": f"stored {num_frames} frames",
        "salvaged": f"salvaged {clip.at_least} to {num_frames - 1} frames: {clip.reason}",
        "quarantined": f"quarantined: {clip.reason}",
        "begun": f"{clip.at_least} to {num_frames} frames",
        "holed": f"salvaged {num_frames} frames: {clip.reason}",
        "any": f"at most {num_frames} frames, or quarantined",
        "ignored": "no source",
    }[clip.outcome]


def is_right(clip: BadClip, found: Found | None) -> bool:
    """Whether a file became what it must."""
    if found is None or clip.outcome == "ignored":
        return found is None and clip.outcome == "ignored"
    if clip.outcome == "any":
        return found.num_frames <= len(clip.numbers) and (found.num_frames > 0) != (
            found.outcome == "quarantined"
        )
    outcomes = {"begun": ("stored", "salvaged"), "holed": ("salvaged",)}
    allowed = outcomes.get(clip.outcome, (clip.outcome,))
    if found.outcome not in allowed or not re.search(clip.reason, found.reason):
        return False
    if found.outcome == "quarantined":
        return True
    expected = tuple(clip.numbers)
    if clip.outcome in ("stored", "holed"):
        return found.numbers == expected
    limit = len(expected) + (clip.outcome == "begun")
    return (
        found.numbers == expected[: found.num_frames] and clip.at_least <= found.num_frames < limit
    )


def compare(
    clips: Sequence[BadClip], frames: dict[str, Found], latents: dict[str, Found]
) -> Iterator[Row]:
    """Yields a row for each file, and one for each source that nobody expects.

    A store of frames says what became of each source; that of `encode` must say the same.
    """
    for clip in clips:
        name = clip.source or clip.name
        found, encoded = frames.get(name), latents.get(name)
        ok, came = is_right(clip, found), str(found or "no source")
        if found is not None and not ok and found.numbers is not None:
            came += f" {list(found.numbers)}"
        if _same(found) != _same(encoded):
            ok, came = False, f"{came}; encode: {encoded or 'no source'}"
        yield Row(clip.name, expectation(clip), came, ok)
    for name in sorted((set(frames) | set(latents)) - {clip.source or clip.name for clip in clips}):
        yield Row(name, "no source", str(frames.get(name) or latents[name]), False)


def _same(found: Found | None) -> tuple[str, int, str] | None:
    return None if found is None else (found.outcome, found.num_frames, found.reason)


# Rights


def rights() -> dict[str, Any] | None:
    """Options for a process that permissions mean something to; None where there is no way."""
    ways: list[dict[str, Any]] = [{}]
    if os.geteuid() == 0:
        ways = [{"user": "nobody", "extra_groups": []}, {"preexec_fn": _be_no_master_of_files}]
    check = "import sys, ldf_video.cli\ntry: open(sys.argv[1])\nexcept PermissionError: sys.exit(7)"
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        locked = Path(folder) / "locked"
        locked.touch(0)
        for way in ways:
            # nobody may not be there, nor reach this Python
            with contextlib.suppress(OSError, LookupError, subprocess.SubprocessError):
                command = [sys.executable, "-c", check, str(locked)]
                done = subprocess.run(command, cwd="/", capture_output=True, check=False, **way)
                if done.returncode == 7:
                    return way
    return None


def _be_no_master_of_files() -> None:
    """Takes from this process, for good, what root may do with other people's files (Linux)."""
    pr_capbset_drop, cap_dac_override, cap_dac_read_search = 24, 1, 2
    for capability in (cap_dac_override, cap_dac_read_search):
        if ctypes.CDLL(None).prctl(pr_capbset_drop, capability, 0, 0, 0):
            raise OSError("the capability cannot be given up")


# Rounds


SECOND = (
    BadClip("renamed-later.mp4", plain_clip(range(110, 130)), "stored", range(110, 130)),
    BadClip("changed-later.mp4", plain_clip(range(130, 150)), "stored", range(130, 150)),
    BadClip("removed-later.mp4", plain_clip(range(150, 170)), "stored", range(150, 170)),
)


def first_round(work: Work, clips: Sequence[BadClip]) -> list[Row]:
    """Everything once, and what has times once more at 10 frames a second."""
    write_bad_clips(work.folder / "clips", clips)
    latents = work.encode()
    rows = list(compare(clips, work.frames(), latents))
    at_10_fps = work.frames("frames-10", "10")
    for clip in clips:
        if clip.at_10_fps:
            found = at_10_fps.get(clip.name)
            ok = found is not None and found.numbers == tuple(clip.at_10_fps)
            came = "the frames shown then" if ok else str(found and list(found.numbers or ()))
            rows.append(Row(f"{clip.name} at 10 fps", "the frames shown then", came, ok))
    same = {latents[name].clip_ids for name in ("original.mp4", "duplicate.mp4")}
    rows.append(_fact("duplicate.mp4 and original.mp4", "1 clip", f"{len(same)} clip"))
    return rows


def second_round(work: Work) -> list[Row]:
    """A file renamed, one changed, one removed: nothing else is read, nothing twice encoded."""
    clips, before = work.folder / "clips", found_in(work.folder / "latents")
    (clips / "renamed-later.mp4").rename(clips / "renamed.mp4")
    plain_clip(range(170, 180))(clips / "changed-later.mp4")
    (clips / "removed-later.mp4").unlink()
    work.encode()
    after = found_in(work.folder / "latents")
    counts = re.search(r"([\d,]+) new frames, ([\d,]+) sources unchanged", work.said)
    changed = after["changed-later.mp4"]
    others = {name for name in before if not name.endswith("-later.mp4")}
    kept = [name for name in others if _same(before[name]) == _same(after.get(name))]
    is_known = after["renamed.mp4"].clip_ids == before["renamed-later.mp4"].clip_ids
    is_new = changed.clip_ids != before["changed-later.mp4"].clip_ids
    gone = {"renamed-later.mp4", "removed-later.mp4"} & set(after)
    return [
        _fact("renamed.mp4", "the same clip", "the same clip" if is_known else "another clip"),
        _fact("changed-later.mp4", "another clip of 10 frames",
              f"{'another' if is_new else 'the same'} clip of {changed.num_frames} frames"),
        _fact("removed and old name", "no source", ", ".join(sorted(gone)) or "no source"),
        _fact("all other files", f"{len(others)} kept", f"{len(kept)} kept"),
        _fact("the second encode", f"10 new frames, {len(others)} sources unchanged",
              counts[0] if counts else ascii(work.said[-200:])),
    ]  # fmt: skip


def faults_round(work: Work) -> list[Row]:
    """Readers that crash or hang, among clips that nothing is wrong with."""
    clips = [
        BadClip(f"sound-{k}.mkv", plain_clip(range(20 * k, 20 * k + 20)), "stored",
                range(20 * k, 20 * k + 20)) for k in range(6)
    ]  # fmt: skip

    def fault(name: str, first: int, outcome: Any, reason: str = "") -> BadClip:
        numbers = range(first, first + 20)
        return BadClip(name, plain_clip(numbers), outcome, numbers, 10, reason)

    cut = "^damaged after 10 frames: the decoder "
    clips += [
        fault("crashes.mkv", 120, "salvaged", cut + r"crashed \(signal 11\)$"),
        fault("is-killed.mkv", 140, "salvaged", cut + r"crashed \(signal 9\)$"),
        fault("hangs.mkv", 160, "salvaged", cut + "hung for 5 s$"),
        fault("crashes-once.mkv", 180, "stored"),
        fault("at-once.mkv", 200, "quarantined", r"^the decoder crashed \(signal 11\)$"),
    ]
    write_bad_clips(work.folder / "clips", clips)
    path = [str(TESTS / "faulty_readers"), os.environ.get("PYTHONPATH", "")]
    work.environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    latents = work.encode()
    rows = compare(clips, work.frames(), latents)
    return [replace(row, file=f"reader: {row.file}") for row in rows]


def _fact(file: str, expected: str, came: str) -> Row:
    return Row(file, expected, came, expected == came)


def new_work(folder: Path, name: str, options: dict[str, Any]) -> Work:
    """A folder for one round, which the other user may write to."""
    work = Work(folder / name, options)
    (work.folder / "clips").mkdir(parents=True)
    model = work.folder / "frame"  # reads clips at their own rate, so that all frames are seen
    shutil.copytree(HERE / "checkpoints" / "pacman-32" / "frame", model)
    config = json.loads((model / "config.json").read_text())
    config["frames"]["fps"] = None
    (model / "config.json").write_text(json.dumps(config))
    if "user" in options:
        shutil.chown(work.folder, options["user"])
    return work


def torture(folder: Path) -> list[Row]:
    """All rounds, in an empty folder."""
    way = rights()
    clips = [*bad_clips(), *SECOND]
    if way is None:
        print(f"note: without {LOCKED.name}, nothing here can take root's rights away")
    else:
        clips.append(LOCKED)
    work = new_work(folder, "files", way or {})
    rows = [*first_round(work, clips), *second_round(work)]
    return [*rows, *faults_round(new_work(folder, "readers", way or {}))]


def print_table(rows: Sequence[Row]) -> None:
    """Prints all rows, then how many are wrong."""
    print("| file | expected | came | |\n|---|---|---|---|")
    for row in rows:
        cells = (ascii(row.file)[1:-1], row.expected, row.came)
        mark = "ok" if row.ok else "WRONG"
        print("| " + " | ".join(c.replace("|", "\\|") for c in cells) + f" | {mark} |")
    num_wrong = sum(not row.ok for row in rows)
    print(f"\n{len(rows)} rows, {num_wrong} wrong")


def main() -> None:
    """Print the table, and end with 1 if a row is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="an empty or new folder to work in and keep")
    parser.add_argument("--json", type=Path, help="write the rows there, too")
    parser.add_argument("--frames", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.frames:
        clips, store, fps = options.frames
        read_frames(Path(clips), Path(store), fps)
        return
    with contextlib.ExitStack() as stack:
        folder = options.out
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            folder.chmod(0o755)
        rows = torture(folder.resolve())
    print_table(rows)
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    sys.exit(any(not row.ok for row in rows))


if __name__ == "__main__":
    main()
