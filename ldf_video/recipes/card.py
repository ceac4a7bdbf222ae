"""The card of a published folder: README.md with the head that a model hub reads.

All of it comes from the models' own configs and metrics, and from what `evaluate` wrote. It names
no path and no clip.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ldf_video.errors import UsageError
from ldf_video.evaluation.control import ColumnControl, Control
from ldf_video.evaluation.figures import Figures as Row
from ldf_video.evaluation.figures import figures_from_json
from ldf_video.evaluation.judge import USUAL_JUDGE
from ldf_video.evaluation.report import FLOOR, heading, table
from ldf_video.levels.conditions import described
from ldf_video.models import build
from ldf_video.options.commands import COMMANDS
from ldf_video.options.option import options_of
from ldf_video.output import reason
from ldf_video.recipes.info import Described, quality
from ldf_video.runs.published import public_config, public_name
from ldf_video.runs.zoo import Loaded

Models = Sequence[tuple[Loaded[Any], Described]]
"""A frame model, and behind it its top model if there is one, with what `info` says of each."""

SAMPLE, SAMPLE_VIDEOS, SAMPLE_FRAMES, SAMPLE_SEED = "sample.gif", 4, 64, 0
SAMPLE_PIXELS = 96
"""Of the longer side of a video, about, where its own are fewer."""
UNNAMED = "USER/NAME"
"""In commands, where nobody said yet under which name the folder will be found."""


@dataclass(frozen=True)
class Figures:
    """What an evaluation found of some models.

    Attributes:
        heading: what all of it depends on, in a line.
        rows: of the models, the floor first.
        control: how well the top model does what it is told, if that was measured.
        command: what measured it.
    """

    heading: str
    rows: Mapping[str, Row]
    control: Control | None
    command: str

    @classmethod
    def load(cls, file: Path, models: Sequence[Loaded[Any]]) -> Figures:
        """Read what `evaluate --json` wrote, as far as it is about the models.

        Raises:
            UsageError: it is something else, or about others.
        """
        try:
            found = json.loads(file.read_text())
            marks = tuple(f"({model.fingerprint[:12]})" for model in models)
            judged = {name for name, said in found["origins"].items() if said.endswith(marks)}
            rows = {
                name: figures_from_json(fields)
                for name, fields in found["rows"].items()
                if name == FLOOR or name.partition(",")[0] in judged
            }
            head = heading(found)
            control = _control(found.get("control")) if "top model" in judged else None
            words = ["evaluate", "--real", "CLIPS"]
            words += ["--top-model", UNNAMED] if "top model" in judged else []
            words += ["--frame-model", UNNAMED] if judged - {"top model"} else []
            for name, typed in (
                ("num_clips", "num-clips"),
                ("num_frames", "frames"),
                ("seed", "seed"),
            ):
                words += [f"--{typed}", str(int(found[name]))]
            words += ["--skip", str(int(found["skip"]))] if found["skip"] else []
            words += ["--judge", "FILE"] if found["judge"] != USUAL_JUDGE else []
            words += _of_long_videos(found.get("drifts"))
            words += ["--control", "LATENTS"] if control is not None else []
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise UsageError(
                f"--figures {file}: {reason(error)}; expected what evaluate --json wrote"
            ) from None
        if not judged:
            raise UsageError(
                f"--figures {file}: it is not about {' or '.join(map(str, models))}; run evaluate "
                "with that model and --json"
            )
        return cls(head, rows, control, _command(*words))

    def lines(self) -> Iterator[str]:
        """For the card, in Markdown."""
        yield f"By `{self.command}`:"
        yield ""
        yield f"{self.heading}."
        yield ""
        yield (
            f"The row `{FLOOR}` is of real clips against other real clips: the floor, which no "
            "model can beat. Of frame, video, motion, video+ and MMD less is better, of recall, "
            "coverage, precision and density more, of all else what is near that row. Brackets "
            "hold 95 % intervals. Compare at equal numbers of clips and by the same judge only."
        )
        yield ""
        yield table(self.rows)
        if self.control is not None:
            yield ""
            yield from (f"- {line}" for line in self.control.text().splitlines())


@dataclass(frozen=True)
class Card:
    """What is said of published models.

    Attributes:
        title: of the card.
        asked: the name on the hub under which others find them, if it is known.
        models: which they are.
        pictures: files beside the card, and what they show.
        figures: of an evaluation, if there is one.
        license: under which others may use them, by the hub's name for it.
    """

    title: str
    asked: str | None
    models: Models
    pictures: Mapping[str, str]
    figures: Figures | None
    license: str | None

    def text(self) -> str:
        """All of it, in Markdown."""
        parts = [
            self._head(),
            f"# {' '.join(self.title.split())}\n\n{self._what()}",
            *(f"![{said}]({file})\n\n{said}." for file, said in self.pictures.items()),
            *(
                f"## {title}\n\n" + "\n".join(lines)
                for title, lines in (
                    ("Use", self._use()),
                    ("Models", self._models()),
                    ("Training", self._trained()),
                    ("Figures", self._figures()),
                    ("Licence", self._licence()),
                )
            ),
        ]
        return "\n\n".join(parts).replace(UNNAMED, self.asked or UNNAMED) + "\n"

    @property
    def _top(self) -> Loaded[Any] | None:
        return self.models[1][0] if len(self.models) > 1 else None

    def _head(self) -> str:
        """What the hub reads, in YAML."""
        names = (public_name(m.config["init"]) for m, _ in self.models if "init" in m.config)
        bases = {name.partition("@")[0] for name in names if name is not None and "/" in name}
        lines = ["library_name: ldf-video"]
        lines += [] if self.license is None else [f"license: {self.license}"]
        lines += ["base_model:", *(f"- {base}" for base in sorted(bases))] if bases else []
        tags = ["video-generation", "ldf-video"]
        if self._top is not None and self._top.config["model"].get("columns"):
            tags.append("world-model")
        return "\n".join(["---", *lines, "tags:", *(f"- {tag}" for tag in tags), "---"])

    def _what(self) -> str:
        frame, _ = self.models[0]
        shape = frame.model.config
        size = f"{shape.width} x {shape.height} pixels"
        if self._top is None:
            return f"A frame model of {size}, made by ldf-video: frames to latents and back."
        rate = f"{float(self._top.fps()):g} frames a second"
        return f"A video generator of {size}, {rate}, made by ldf-video from clips alone."

    def _use(self) -> Iterator[str]:
        yield "With ldf-video installed (`pip install 'ldf-video[hub]'`):"
        yield ""
        yield "```"
        if self._top is None:
            yield _command("train-frame", "CLIPS", "--init", UNNAMED)
            yield _command("encode", "CLIPS", "--frame-model", UNNAMED)
        else:
            frames = () if self._top.model.fixed_frames else ("--frames", str(SAMPLE_FRAMES))
            videos = ("--num-videos", str(SAMPLE_VIDEOS), "--seed", str(SAMPLE_SEED))
            upscale = ("--upscale", str(sample_upscale(self.models[0][0])))
            sample = (*videos, *upscale, "-o", SAMPLE)
            yield _command("generate", "--top-model", UNNAMED, *frames, *sample)
            if not self._top.model.fixed_frames:
                yield _command("play", "--top-model", UNNAMED)
            yield _command("train-top", "--init", UNNAMED)
        yield "```"
        yield ""
        yield f"The directory of a copy of this folder does in place of `{UNNAMED}`."
        columns = () if self._top is None else self._top.model.columns
        if columns:
            said = ", ".join(f"`{described(column)}`" for column in columns)
            yield ""
            yield (
                f"Each frame can be told {said}: by keys in `play`, by `--condition NAME=VALUE` or "
                "`--conditions FILE` in `generate`. It also works untold."
            )

    def _models(self) -> Iterator[str]:
        """A table, a column each."""
        rows: dict[str, list[str]] = {}
        for model, about in self.models:
            for name, value in _facts(model, about).items():
                rows.setdefault(name, []).append(value)
        kinds = [f"{model.config['kind']} model" for model, _ in self.models]
        yield f"| | {' | '.join(kinds)} |"
        yield "|---" * (len(self.models) + 1) + "|"
        for name, values in rows.items():
            yield f"| {name} | {' | '.join(values)} |"
        yield ""
        yield "The clips are not in this folder. They are counted here, and not named."

    def _trained(self) -> Iterator[str]:
        if commands := _commands([model for model, _ in self.models]):
            yield from ("```", *commands, "```")
        for model, _ in self.models:
            kind, config = model.config["kind"], model.config
            if (name := _name_of(model)) is not None:
                yield ""
                yield f"The {kind} model is `{name}` as it is."
            elif "init" in config:
                known = public_name(config["init"])
                origin = f"`{known}`" if known else "another one, which is not published here"
                yield ""
                yield f"The {kind} model began with the weights of {origin}."

    def _figures(self) -> Iterator[str]:
        for model, about in self.models:
            yield f"- {model.config['kind']} model: {quality(about, on_card=True)}"
        if self.figures is not None:
            yield ""
            yield from self.figures.lines()

    def _licence(self) -> Iterator[str]:
        if self.license is None:
            yield (
                "**None is said yet.** Before you share this, say under which licence others may "
                "use it: `ldf-video publish` with `--license`, such as `--license mit`."
            )
        else:
            yield f"`{self.license}`."
        yield "It covers the weights. What they were learned from belongs to its owners."


def sample_upscale(frame: Loaded[Any]) -> int:
    """By how much videos stand enlarged in the sample."""
    shape = frame.model.config
    return max(1, SAMPLE_PIXELS // max(shape.height, shape.width))


def _name_of(model: Loaded[Any]) -> str | None:
    """The name of a model that others have already: a shipped one, or one of a hub."""
    return public_name({"fingerprint": model.fingerprint, "path": str(model.directory)})


def _facts(model: Loaded[Any], about: Described) -> dict[str, str]:
    """A model's column of the table, by the titles of its rows."""
    config, shape = model.config, model.config["model"]
    latent = " x ".join(map(str, model.model.config.latent_shape))
    frames, data = config.get("frames", {}), config.get("data", {})
    if config["kind"] == "frame":
        what = f"preset {build.preset_of(shape)}, latents {latent}"
    else:
        what = f"{build.kind_of(shape)}, windows of {shape['window']} frames"
        what += f", blocks of {shape['block']}" if "block" in shape else ""
    return {
        "what": what,
        "weights": f"{about.get('parameters', 0):,}",
        "clips": f"{data['clips']:,}, {data['frames']:,} frames" if data else "not known",
        "read at": _layout(frames),
        "fingerprint": f"`{model.fingerprint[:12]}`",
    }


def _layout(frames: Mapping[str, Any]) -> str:
    if not frames:
        return "not known"
    rate = frames.get("fps")
    said = f"{frames['width']} x {frames['height']}, crop {frames['crop']}"
    return said if rate is None else f"{said}, {rate.removesuffix('/1')} frames a second"


def _of_long_videos(drifts: Mapping[str, Any] | None) -> list[str]:
    """The options by which long videos were judged in segments, if they were."""
    if not drifts:
        return []
    drift, *_ = drifts.values()
    asked = {
        "segments": len(drift["segments"]),
        "length": drift["segments"][-1][1] + 1,
        "num-videos": drift["num_videos"],
    }
    return [word for name, number in asked.items() for word in (f"--{name}", str(int(number)))]


def _control(found: Mapping[str, Any] | None) -> Control | None:
    if found is None:
        return None
    columns = tuple(ColumnControl(**column) for column in found["columns"])
    return Control(**{**found, "columns": columns})


# -- commands ------------------------------------------------------------------------------------


def _commands(models: Sequence[Loaded[Any]]) -> list[str]:
    """What was typed to make the models; in capitals, what is not published."""
    frame, *tops = models
    name = _name_of(frame)
    first = [] if name else [_training("train-frame", frame, "CLIPS")]
    if not tops:
        return first
    (top,) = tops
    if name and _name_of(top):
        return []
    read, known = top.config.get("frames", {}), frame.config["frames"]
    encode = ["CLIPS", *([] if name is None else ["--frame-model", name])]
    for setting in ("fps", "crop"):
        if (value := read.get(setting)) not in (None, known.get(setting)):
            encode += [f"--{setting}", value.removesuffix("/1")]
    then = [_command("encode", *encode)]
    then += [] if _name_of(top) else [_training("train-top", top)]
    # one that learned to decode what a top model makes was trained behind it
    return [*then, *first] if "top_model" in frame.config else [*first, *then]


def _training(command: str, model: Loaded[Any], *words: str) -> str:
    """The call that trained a model, by the options that its run remembers."""
    given = public_config(model.config, trained={})["options"]
    hidden = model.config.get("options", {}).keys() - given.keys()
    given |= {name: "MODEL" for name in ("init", "top_model") if name in hidden}
    if not given.keys() & {"steps", "minutes"}:
        length = model.config.get("training", {})
        given |= {k: length[k] for k in ("steps", "minutes") if length.get(k) is not None}
    typed = list(words)
    for name, option in options_of(COMMANDS[command]).items():
        value = given.get(name)
        if value is None or value is False or value is option.default or name == "tracker":
            continue
        typed.append(option.flags[0])
        if value is not True:
            typed.append(f"{value:g}" if isinstance(value, float) else str(value))
    return _command(command, *typed)


def _command(*words: str) -> str:
    return shlex.join(["ldf-video", *words])
