"""start: clips -> a page, both models, a sheet and a video, by the other commands in turn."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ldf_video.errors import CheckpointError, UsageError, counted
from ldf_video.files.layout import OFF, layout_of
from ldf_video.levels.frame_level import frame_run_config
from ldf_video.options.option import DEFAULT_SHIPPED, flag
from ldf_video.options.reading import Encode, Preview, Start
from ldf_video.options.sampling import Generate
from ldf_video.options.trainings import TrainFrame, TrainTop
from ldf_video.output import json_text, write_atomically
from ldf_video.progress import Progress
from ldf_video.recipes.adaptation import SLOW_BATCH
from ldf_video.recipes.encode import encode
from ldf_video.recipes.generate import generate
from ldf_video.recipes.preview import TYPED, preview
from ldf_video.recipes.train_frame import train_frame
from ldf_video.recipes.train_top import train_top
from ldf_video.runs import zoo
from ldf_video.runs.command import check_folders, choose_device, out_of_memory, own_state
from ldf_video.sources.search import is_own, search
from ldf_video.store.reader import StoreReader
from ldf_video.training import checkpoints
from ldf_video.training.ranks import Ranks, check_alone

PLAN, PAGE, SHEET, VIDEO = "start.json", "preview.html", "sheet.png", "out.mp4"
STAGES = ("preview", "train-frame", "encode", "train-top", "generate")
USUAL_MINUTES = 60.0
SIZE = "32x32"
GOOD_DB, POOR_DB = 30.0, 20.0
"""From the one on a shipped frame model is taken as it is; under the other it learns the most."""
ADAPTED, LEARNED = 1 / 3, 1 / 2
"""Of the minutes, what the frame model gets: from one that shows the clips roughly, or hardly."""
TOP_BATCH = 32
"""Windows of an update on a CPU."""
VIDEOS, FRAMES = 9, 64
FORMAT_VERSION = 1


@dataclass
class Plan:
    """What a start in a directory is, kept in its start.json.

    Attributes:
        clips: what it was begun with, as an absolute path or a URL.
        minutes: of both trainings together.
        read: options of how clips are read.
        seed: of the videos.
        digest: of the names and sizes of the clips' files.
        init: the shipped frame model that is the nearest, and how well it shows a sample, in dB.
        fit_db: see `init`.
        frame_minutes: of the minutes, those of the frame model; it stays when more are asked for.
        done: stages that ended; of trainings, after how many minutes.
    """

    clips: str
    minutes: float
    read: dict[str, Any]
    seed: int
    digest: str = ""
    init: str = ""
    fit_db: float = 0.0
    frame_minutes: float = 0.0
    done: dict[str, float] = field(default_factory=dict)

    @property
    def top_minutes(self) -> float:
        """Those of the top model."""
        return self.minutes - self.frame_minutes


@dataclass(frozen=True)
class Started:
    """What a start made.

    Attributes:
        page: what was trained on.
        frame_model, latents, top_model: directories.
        sheet, video: what the models make.
        minutes: of both trainings together.
    """

    page: Path
    frame_model: Path
    latents: Path
    top_model: Path
    sheet: Path
    video: Path
    minutes: float


@own_state()
@out_of_memory("a smaller --size")
def start(options: Start) -> Started:
    """Go the whole way from clips to a video; see `ldf_video.api.start`."""
    check_alone("start")
    out, clips = Path(options.out), options.clips
    # A mistyped size, or path, fails before anything is written.
    frame_run_config(TrainFrame(clips, size=options.size), device="cpu", ranks=Ranks())
    digest_of(clips, vars(options))
    check_folders([("--out", out)], inputs=[clips])
    device = choose_device(options.device)
    with Progress("start", unit="stages", quiet=options.quiet) as progress:
        run = _Stages(options, _open_plan(options, out, progress), out, device, progress)
        run.all()
    return Started(
        out / PAGE,
        run.frame_model,
        out / "latents",
        out / "top",
        out / SHEET,
        out / VIDEO,
        run.plan.minutes,
    )


# -- the plan ------------------------------------------------------------------------------------


def digest_of(clips: str | Path, read: Mapping[str, Any]) -> str:
    """What changes with the names and sizes of the clips' files, read with these options.

    Raises:
        UsageError: there are none.
    """
    found = search(clips, layout=layout_of(dict(read)))
    files = sorted((one.name, one.size) for one in found.sources if not is_own(one))
    return hashlib.sha256(repr(files).encode(errors="surrogateescape")).hexdigest()


def _open_plan(options: Start, out: Path, progress: Progress) -> Plan:
    """The plan of a directory, or a new one; a directory where no stage ended belongs to no clips.

    Raises:
        UsageError: it is of other clips, or was begun with other options.
        CheckpointError: something else is there, or it is damaged.
    """
    place = _absolute(options.clips)
    asked = {name: getattr(options, name) for name in TYPED}
    asked = {name: value for name, value in asked.items() if value is not None}
    plan = _load(out) if (out / PLAN).is_file() else None
    if plan is None or not plan.done:
        others = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
        if others and plan is None:
            raise CheckpointError(
                f"{out} holds {others[0]} and no {PLAN}: name an empty or a new directory by -o"
            )
        minutes = USUAL_MINUTES if options.minutes is None else options.minutes
        plan = Plan(place, minutes, asked, secrets.randbelow(2**31))
        _save(plan, out)
        return plan
    if plan.clips != place:
        raise UsageError(
            f"{out} was begun with {plan.clips}, asked for {options.clips}: name another directory "
            "by -o"
        )
    for name, value in asked.items():
        if plan.read.get(name, SIZE if name == "size" else OFF.get(name)) != value:
            has = plan.read.get(name)
            begun = f"no {flag(name)}" if has is None else f"{flag(name)} {has}"
            raise UsageError(
                f"{out} was begun with {begun}, asked for {flag(name)} {value}: drop it, or name "
                "another directory by -o"
            )
    if plan.digest and plan.digest != digest_of(options.clips, plan.read):
        raise UsageError(
            f"{options.clips} holds other files than when {out} was begun: name another directory "
            "by -o, or bring those back"
        )
    if options.minutes is not None:
        if options.minutes < plan.minutes:
            raise UsageError(
                f"{out} was begun with --minutes {plan.minutes:g}, asked for {options.minutes:g}: "
                "ask for as many or more, or name another directory by -o"
            )
        plan.minutes = options.minutes
        _save(plan, out)
    progress.say(f"start: going on in {out}; done: {', '.join(plan.done)}")
    return plan


def _absolute(clips: str | Path) -> str:
    return str(clips) if "://" in str(clips) else str(Path(clips).resolve())


def _save(plan: Plan, out: Path) -> None:
    text = json_text({"format_version": FORMAT_VERSION, **asdict(plan)}, indent=2)
    write_atomically(out / PLAN, lambda part: part.write_text(text + "\n"))


def _load(out: Path) -> Plan:
    try:
        known = json.loads((out / PLAN).read_text())
        if known.pop("format_version") != FORMAT_VERSION:
            raise CheckpointError(f"{out / PLAN} is of a newer ldf-video: install that one")
        return Plan(**known)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(
            f"{out / PLAN} is damaged ({error}): restore it, or name another directory by -o"
        ) from None


def share_of_frames(init: str, fit_db: float, *, size: str) -> tuple[float, str]:
    """The share of all minutes that the frame model gets, and why.

    Args:
        init: the nearest shipped frame model.
        fit_db: how well it shows a sample of the clips.
        size: of the frames.

    Measured (docs/results.md): from a shipped model four minutes do what 27 do from nothing, and a
    top model goes on learning for hours.
    """
    known = f"{init} shows a sample of the clips at {fit_db:.1f} dB"
    shape = checkpoints.load_config(zoo.shipped_of("frame")[init], kind="frame")["model"]
    if fit_db >= GOOD_DB and size == f"{shape['width']}x{shape['height']}":
        return 0.0, f"{known} and is taken as it is"
    if fit_db >= POOR_DB:
        return ADAPTED, f"{known}, roughly, and is adapted"
    return LEARNED, f"{known}, hardly, and has much to learn"


def flow_for(init: str, latents: StoreReader) -> str | None:
    """The shipped flow to begin with: that of the frame model `init`, where it fits the latents.

    One of another frame model means nothing by these latents, one of few passes does not learn on,
    and one that was told something would be told nothing.
    """
    longest = int(latents.lengths.max())
    made_by = checkpoints.latents_fingerprint_of(zoo.shipped_of("frame")[init])
    for name, place in zoo.shipped_of("top").items():
        config = checkpoints.load_config(place, kind="top")
        model = config["model"]
        fits = (
            config["frame_model"]["fingerprint"] == made_by
            and model["kind"] == "flow"
            and not (model.get("renewed") or model.get("columns"))
            and tuple(model["latent_shape"]) == tuple(latents.spec.item_shape)
            and model["window"] <= longest
        )
        if fits:
            return name
    return None


def _is_trained(run: Path, minutes: float) -> bool:
    """Whether a run that was asked for another time has trained for so many minutes already."""
    if not (run / checkpoints.CONFIG).is_file():
        return False
    asked = checkpoints.load_config(run)["training"]["minutes"]
    state = checkpoints.load_state(run, mapped=True)
    return state is not None and asked != minutes and state["elapsed_seconds"] >= 60 * minutes


# -- the stages ----------------------------------------------------------------------------------


class _Stages:
    """The stages of a plan, of which those that are not done are done.

    Attributes:
        plan: what is to be done.
        frame_model: the directory of the own one, or that of a shipped one that is taken as it is.
    """

    def __init__(
        self, options: Start, plan: Plan, out: Path, device: str, progress: Progress
    ) -> None:
        self.plan, self._out, self._progress = plan, out, progress
        self._common: dict[str, Any] = {"device": options.device, "quiet": options.quiet}
        self._clips, self._on_cpu = options.clips, device == "cpu"

    @property
    def frame_model(self) -> Path:
        if self.plan.frame_minutes:
            return self._out / "frame"
        return zoo.find_model(self.plan.init, "frame")[0]

    def all(self) -> None:
        """Do what is not done, and say so."""
        plan = self.plan
        does: tuple[Callable[[], str], ...] = (
            self._preview,
            self._train_frame,
            self._encode,
            self._train_top,
            self._generate,
        )
        for number, (name, do) in enumerate(zip(STAGES, does, strict=True), start=1):
            wanted = plan.top_minutes if name in STAGES[3:] else 1.0
            if plan.done.get(name, 0.0) >= wanted:
                continue
            self._say(f"{number} of {len(STAGES)}, {name}")
            result = do()
            plan.done[name] = plan.top_minutes if name in STAGES[3:] else 1.0
            _save(plan, self._out)
            follows = f"; next: {STAGES[number]}" if number < len(STAGES) else ""
            self._say(f"{name} done: {result}{follows}")

    def _say(self, text: str) -> None:
        self._progress.say(f"start: {text}")

    def _preview(self) -> str:
        plan = self.plan
        done = preview(Preview(self._clips, out=self._out / PAGE, **plan.read, **self._common))
        for line in done.lines():
            self._say(line)
        plan.digest = digest_of(self._clips, plan.read)
        plan.init, plan.fit_db = next(iter(done.fits.items()), (DEFAULT_SHIPPED, 0.0))
        size = plan.read.get("size", SIZE)
        share, why = share_of_frames(plan.init, plan.fit_db, size=size)
        plan.frame_minutes = round(share * plan.minutes, 3)
        self._say(
            f"{counted(plan.minutes, 'minute')} of training: {plan.frame_minutes:g} for the frame "
            f"model, {plan.top_minutes:g} for the top model, as {why}; reading and encoding come "
            "on top"
        )
        return str(done.path)

    def _train_frame(self) -> str:
        plan = self.plan
        if not plan.frame_minutes:
            return f"nothing to do, {plan.init} is taken as it is"
        asked = {"size": SIZE, **plan.read, **self._common, "minutes": plan.frame_minutes}
        asked["batch_size"] = SLOW_BATCH if self._on_cpu else None
        done = train_frame(
            TrainFrame(self._clips, out=self._out / "frame", init=plan.init, **asked)
        )
        return f"{done}, see {done / SHEET}"

    def _encode(self) -> str:
        asked = {**self.plan.read, **self._common, "frame_model": self.frame_model}
        asked.pop("size", None)  # that of the model
        return str(encode(Encode(self._clips, out=self._out / "latents", **asked)).store)

    def _train_top(self) -> str:
        latents, out, minutes = self._out / "latents", self._out / "top", self.plan.top_minutes
        if _is_trained(out, minutes):  # an update may end seconds behind its time
            return f"{out} has trained for as long already"
        flow = flow_for(self.plan.init, StoreReader(latents).at_cuts())
        if not (out / checkpoints.CONFIG).is_file():
            self._say(f"train-top begins {'from nothing' if flow is None else f'with {flow}'}")
        asked = {**self._common, "batch_size": TOP_BATCH if self._on_cpu else None}
        done = train_top(TrainTop(latents=latents, out=out, init=flow, minutes=minutes, **asked))
        return f"{done}, see {done / SHEET}"

    def _generate(self) -> str:
        asked: dict[str, Any] = {
            "top_model": self._out / "top",
            "num_frames": FRAMES,
            "seed": self.plan.seed,
        }
        for path, count in ((self._out / SHEET, 1), (self._out / VIDEO, VIDEOS)):
            generate(Generate(path, num_videos=count, **asked, **self._common))
        return f"{self._out / VIDEO}, {self._out / SHEET}"
