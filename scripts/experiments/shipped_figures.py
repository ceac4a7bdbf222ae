"""Measure the shipped models of Ms. Pac-Man, and write docs/results.md and its pictures anew.

    python scripts/experiments/shipped_figures.py clips/final16 clips/final64

Runs the commands that stand on that page between its lines `<!-- figures -->`, each into OUT, from
the root of the repository; what stands in OUT already is not made again. Once all is there, the
page's commands and tables are written from it, and the pictures are copied beside it. `--models`
runs those of one model, so that two processes can share the work. `--list` only names what lacks.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pacman_physics import table as physics_table

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "results.md"
MODELS = ("pacman-32", "pacman-32-flow")
FRAME_MODEL = "pacman-32"
LATER = 50
"""Frames that are left out where videos are judged that have gone on for a while."""
MADE_FRAMES = 56
"""Of a video whose physics is looked at: frames 40 to 55 are its later ones."""
MARK = "<!-- figures -->"
PICTURES = ("clips", "rollouts")
COLUMNS = {
    "frame": ("frame", ".2f"),
    "video": ("video", ".1f"),
    "motion": ("motion", ".2f"),
    "recall": ("diversity.recall", ".2f"),
    "coverage": ("diversity.coverage", ".2f"),
    "moving %": ("change.moving_percent", ".2f"),
    "still clips %": ("change.still_clips_percent", ".1f"),
    "flicker": ("change.flicker_levels", ".2f"),
    "PSNR dB": ("psnr_db", ".2f"),
}
"""By its heading, where a figure of `evaluate` stands in its JSON, and how it is written."""


class Job(NamedTuple):
    """A command, and what is in OUT once it was run to its end."""

    made: Path
    command: str

    def run(self) -> None:
        """Run it, and see that it left what it should."""
        print(f"+ {self.command}", file=sys.stderr)
        program, *words = shlex.split(self.command)
        module = ["-m", "ldf_video"] if program == "ldf-video" else []
        subprocess.run([sys.executable, *module, *words], check=True)
        if not self.made.exists():
            raise SystemExit(f"{self.command}: it left no {self.made}")


def jobs(options: argparse.Namespace) -> list[Job]:
    """All of them, in their order: what belongs to one model begins with its name."""
    out, count = options.out, options.num_clips
    found = []
    for name in options.models:
        judge = f"ldf-video evaluate --real {options.clips} --top-model {name}"
        judge += f" --num-clips {count} --seed 0 --reference {out}/real.npz"
        also = f" --frame-model {FRAME_MODEL}" if name == MODELS[0] else ""
        physics = f"python scripts/experiments/pacman_physics.py {options.clips} {out}/{name}/"
        physics += f" --num-clips {min(count, 1500)}"
        physics += f" --frame-model {FRAME_MODEL}" if name == MODELS[0] else ""
        made = f"ldf-video generate --top-model {name} --num-videos {options.num_videos}"
        made += f" --frames {MADE_FRAMES} --seed 0 -o {out}/{name}/"
        clips, strip = (f"{out}/{name}-{kind}.png" for kind in PICTURES)
        sheet = f"python scripts/experiments/pacman_sheet.py {options.clips} {clips}"
        sheet += f" --top-model {name} --num-measured 32"
        long = f"python scripts/experiments/pacman_rollouts.py {strip} --top-model {name}"
        long += f" --real {options.long_clips} --frames {options.frames}"
        long += f" --num-videos {options.num_rollouts}"
        commands = {
            f"{name}-clips.png": sheet,
            f"{name}-first.json": f"{judge}{also} --json {out}/{name}-first.json",
            f"{name}-later.json": f"{judge} --skip {LATER} --json {out}/{name}-later.json",
            f"{name}/{options.num_videos - 1:04d}.mp4": made,
            f"{name}-physics.json": f"{physics} --json {out}/{name}-physics.json",
            f"{name}-rollouts.json": f"{long} --json {out}/{name}-rollouts.json",
        }
        found += [Job(out / file, command) for file, command in commands.items()]
    return found


# -------------------- tables


def figures(out: Path) -> str:
    """The page's part: tables, and nothing that is not in OUT."""
    first, later = (
        {name: json.loads((out / f"{name}-{part}.json").read_text()) for name in MODELS}
        for part in ("first", "later")
    )
    span = first[MODELS[0]]["num_frames"]
    rows = {"real": first[MODELS[0]]["rows"]["real"]}
    rows |= {f"`{name}`": found["rows"]["top model"] for name, found in first.items()}
    place = f"frames {LATER} to {LATER + span - 1}"
    rows |= {f"`{name}`, {place}": found["rows"]["top model"] for name, found in later.items()}
    rows |= {k: v for k, v in first[MODELS[0]]["rows"].items() if k not in ("real", "top model")}
    return "\n\n".join([distances(rows), physics(out), rollouts(out)])


def distances(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """A line a set of clips, with the intervals of all that have one."""
    lines = [_line(["clips of", *COLUMNS]), _line(["---"] * (1 + len(COLUMNS)))]
    for name, row in rows.items():
        cells = [_cell(_at(row, place), form) for place, form in COLUMNS.values()]
        lines.append(_line([name, *cells]))
    return "\n".join(lines)


def physics(out: Path) -> str:
    """The table of pacman_physics.py, real clips and reconstructions once."""
    columns: dict[str, Any] = {}
    for name in MODELS:
        found = json.loads((out / f"{name}-physics.json").read_text())["figures"]
        *known, last = found
        titles = ("real", "reconstruction")[: len(known)]
        columns |= {title: found[key] for title, key in zip(titles, known, strict=True)}
        columns[f"`{name}`"] = found[last]
    return physics_table({title: columns[title] for title in sorted(columns, key=_order)})


def _order(title: str) -> tuple[bool, bool]:
    return title.startswith("`"), title != "real"


def rollouts(out: Path) -> str:
    """Some lines of what pacman_rollouts.py prints: real, the first thousand, ..., the last."""
    lines = []
    for name in MODELS:
        found = json.loads((out / f"{name}-rollouts.json").read_text())
        (real, cells), *stretches = found["rows"].items()
        if not lines:
            lines = [_line(["frames", *cells]), _line(["---"] * (1 + len(cells)))]
            lines.append(_line([real, *(_cell(value, ".2f") for value in cells.values())]))
        middle = stretches[1 :: max(1, len(stretches) // 4)]
        for stretch, row in dict([stretches[0], *middle, stretches[-1]]).items():
            shown = [_cell(value, ".2f") for value in row.values()]
            lines.append(_line([f"`{name}`, {stretch}", *shown]))
    ends = [f"`{name}`, {line}" for name in MODELS for line in _ends(out, name)]
    shown = "Frames 0, 100, 1,000, 10,000, 50,000 and the last of four videos"
    pictures = [f"![{shown} of {name}](pictures/{name}-{PICTURES[1]}.png)" for name in MODELS]
    return "\n\n".join(["\n".join(lines), "\n".join(f"- {end}." for end in ends), *pictures])


def _ends(out: Path, name: str) -> list[str]:
    lines: list[str] = json.loads((out / f"{name}-rollouts.json").read_text())["videos"]
    return lines


def _at(row: Mapping[str, Any], place: str) -> Any:
    value: Any = row
    for part in place.split("."):
        value = None if value is None else value.get(part)
    return value


def _cell(value: Any, form: str) -> str:
    if isinstance(value, Mapping):
        if value["value"] is None:
            return ""
        return f"{value['value']:{form}} ({value['low']:{form}} to {value['high']:{form}})"
    return "" if value is None else format(value, form)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def with_figures(page: str, commands: Sequence[str], found: str) -> str:
    """The page with commands and tables between its two marks."""
    text = "\n".join(["```sh", *commands, "```", "", found])
    parts = page.split(MARK)
    if len(parts) != 3:
        raise SystemExit(f"the page has {len(parts) - 1} lines {MARK}, expected 2")
    return f"{parts[0]}{MARK}\n\n{text}\n\n{MARK}{parts[2]}"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", help="held-out clips of 16 frames")
    parser.add_argument("long_clips", help="clips of as many as a window of pacman_rollouts.py")
    parser.add_argument("--out", type=Path, default=Path("runs/figures"))
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--num-clips", type=int, default=5000, help="that are judged")
    parser.add_argument("--num-videos", type=int, default=200, help="whose physics is looked at")
    parser.add_argument("--frames", type=int, default=54_000, help="of a long video")
    parser.add_argument("--num-rollouts", type=int, default=8, help="long videos")
    parser.add_argument("--list", action="store_true", help="only name the commands that lack")
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    lacking = [job for job in jobs(options) if not job.made.exists()]
    if options.list:
        print("\n".join(job.command for job in lacking))
        return 0
    for job in lacking:
        job.run()
    everything = jobs(argparse.Namespace(**vars(options) | {"models": MODELS}))
    if any(not job.made.exists() for job in everything):
        print("the page is written once the other models are measured", file=sys.stderr)
        return 0
    commands = [job.command for job in everything]
    page = with_figures(options.page.read_text(), commands, figures(options.out))
    options.page.write_text(page)
    for name in MODELS:
        for kind in PICTURES:
            picture = f"{name}-{kind}.png"
            shutil.copy(options.out / picture, options.page.parent / "pictures" / picture)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
