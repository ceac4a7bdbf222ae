"""evaluate: how far generated clips are from real ones, and in what."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from ldf_video.clips.probe import has_times
from ldf_video.errors import LdfError, OutputError, UsageError, counted
from ldf_video.evaluation.comparison import FEWEST_CLIPS, Comparison
from ldf_video.evaluation.control import measure_control
from ldf_video.evaluation.judge import load_judge
from ldf_video.evaluation.judged import Models, choose_geometry, load_models
from ldf_video.evaluation.report import Earlier, Evaluated
from ldf_video.evaluation.segments import Plan
from ldf_video.files.layout import layout_of
from ldf_video.files.locations import Location
from ldf_video.levels.latents import maker_of, open_latents
from ldf_video.models.frame import FrameModel
from ldf_video.models.top import TopModel
from ldf_video.options.judging import Evaluate
from ldf_video.options.option import flag
from ldf_video.output import json_text, write_atomically
from ldf_video.recipes.ends import known_stride
from ldf_video.runs.command import check_files, choose_device, out_of_memory, own_state
from ldf_video.runs.curve import write_panels
from ldf_video.runs.zoo import Loaded, named
from ldf_video.sources.search import find_sources
from ldf_video.sources.source import Source
from ldf_video.store.reader import StoreReader
from ldf_video.training.ranks import check_alone
from ldf_video.video.geometry import with_options
from ldf_video.video.sheet import write_sheet
from ldf_video.video.write import check_output

NUM_CLIPS = 5000


@own_state()
@out_of_memory("a smaller --num-clips or --size")
def evaluate(options: Evaluate) -> Evaluated:
    """Compare clips with real ones; see `ldf_video.api.evaluate`."""
    check_alone("evaluate")
    output, json_file, reference, compare, judge, curve = (
        None if path is None else Path(path)
        for path in (
            options.out,
            options.json_file,
            options.reference,
            options.compare,
            options.judge,
            options.curve,
        )
    )
    generated, seed = options.generated, options.seed
    num_frames, skip = options.num_frames, options.skip
    _check_options(options, output, curve)
    plan, num_clips = None, options.num_clips or NUM_CLIPS
    if options.segments is not None:
        plan = _plan(options, options.segments)
        num_clips = plan.num_clips
    device = choose_device(options.device)
    layout = layout_of(options)
    sources = find_sources(options.real, layout=layout)
    others = None if generated is None else find_sources(generated, own=True)
    trained_on = None if options.train is None else find_sources(options.train, layout=layout)
    earlier = None if compare is None else Earlier.load(compare)
    models = load_models(
        options.top_model,
        options.frame_model,
        default=generated is None,
        num_frames=num_frames if plan is None else plan.length - skip,
        skip=skip,
        segments=plan is not None,
        device=device,
    )
    pair, told = models.top, _told(options.control, models.top)
    kept = reference is not None and reference.is_file()
    check_files(
        [
            ("--out", output),
            ("--json", json_file),
            ("--curve", curve),
            ("--reference", None if kept else reference),
        ],
        inputs=[
            *(*sources, *(others or ()), *(trained_on or ()), *models.files()),
            *(path for path in (judge, compare, reference if kept else None) if path is not None),
        ],
    )
    models = _at_rate(models, options.fps, [*sources, *(others or ()), *(trained_on or ())])
    geometry = choose_geometry(models, options.size, sources)
    geometry = with_options(geometry, fps=options.fps, crop=None)
    if seed is None:
        seed = secrets.randbelow(2**31) if earlier is None else earlier.seed
    judging = load_judge(
        judge, device=device, num_frames=num_frames, size=(geometry.height, geometry.width)
    )
    work = Comparison(
        judging,
        geometry,
        seed=seed,
        num_frames=num_frames,
        skip=skip,
        cuts=options.cuts == "auto",
        quiet=options.quiet,
    )
    if others is not None and plan is None:
        work.check_generated(others)
    work.read_real(sources, num_clips, reference)
    if earlier is not None:
        earlier.check(work.reference.sha256)
    if plan is not None:
        work.judge_long(others, models, _as_few(plan, len(work.held_out), sources[0].asked))
        others, models = None, replace(models, top=None)
    for clip_set in work.sets(others, models):
        work.judge_set(clip_set)
        del clip_set  # while the next one is made
    if trained_on is not None:
        work.look_up(trained_on)
    found = work.result(earlier, output)
    if told is not None and pair is not None:
        top, frame = pair
        found = replace(
            found,
            control=measure_control(top.model, frame.model, told, seed=seed, quiet=options.quiet),
        )
    _write(found, work, output, curve=curve, json_file=json_file)
    return found


def _write(
    found: Evaluated,
    work: Comparison,
    output: Path | None,
    *,
    curve: Path | None,
    json_file: Path | None,
) -> None:
    try:
        if output is not None:
            write_sheet(output, work.sheet())
        if curve is not None:
            write_panels(curve, found.panels(), label="frame of the video")
        if json_file is not None:
            text = json_text(found.to_json(), indent=2) + "\n"
            write_atomically(json_file, lambda partial: partial.write_text(text))
    except LdfError as error:
        raise OutputError(str(error), found) from error


def _told(
    asked: str | Path | None, pair: tuple[Loaded[TopModel], Loaded[FrameModel]] | None
) -> StoreReader | None:
    """The latents of `--control`, which the frame model of the judged top model made.

    Raises:
        UsageError: no top model is judged, it learned without conditions, or other latents; or
            nothing is known of their frames.
        StoreError: there are none.
    """
    if asked is None:
        return None
    path = Path(asked)
    if pair is None or not pair[0].model.columns:
        raise UsageError(f"--control {path}: no top model is judged that learned with conditions")
    store = open_latents(path)
    if not store.is_told:
        raise UsageError(
            f"--control {path}: nothing is known of its frames; give latents that were encoded "
            "from clips with conditions beside them"
        )
    if maker_of(store)["fingerprint"] != pair[1].latents:
        raise UsageError(
            f"--control {path}: another frame model made these latents; make them by "
            f"encode --frame-model {named(pair[1].directory)}"
        )
    return store


def _at_rate(models: Models, fps: str | float | None, sources: Sequence[Source]) -> Models:
    """Models that generate at a rate.

    Raises:
        UsageError: the top model does not know it, or a source is an array or a series of pictures:
            without times, all of its frames would be read at any rate.
    """
    if models.top is None:
        return models
    stride = known_stride(models.top[0], fps)
    untimed = (source for source in sources if not has_times(source))
    if stride > 1 and (found := next(untimed, None)) is not None:
        raise UsageError(
            f"--fps {float(Fraction(fps or 0)):g}: {found.path} has no frame rate of its own and "
            "would be read frame by frame; drop --fps, or give videos"
        )
    return replace(models, stride=stride)


def _check_options(options: Evaluate, output: Path | None, curve: Path | None) -> None:
    if options.num_clips is not None and options.num_clips < FEWEST_CLIPS:
        raise UsageError(f"--num-clips {options.num_clips}: expected {FEWEST_CLIPS} or more")
    for name, path, what in (
        ("--out", output, "a sheet of pictures"),
        ("--curve", curve, "curves"),
    ):
        if path is not None:
            if path.suffix.lower() != ".png":
                raise UsageError(f"{name} {path}: expected {what}, .png")
            check_output(path)
    if options.segments is None:
        for name in ("length", "num_videos", "curve"):
            if getattr(options, name) is not None:
                raise UsageError(f"{flag(name)}: of long videos; give --segments, too")
        return
    if options.train is not None:
        raise UsageError("--train: clips of --segments are not looked up; leave one of the two out")
    if options.frame_model is not None and options.top_model is None and options.generated is None:
        raise UsageError("--segments: of long videos; give --top-model or --generated, too")


def _plan(options: Evaluate, segments: int) -> Plan:
    """Where long videos are cut."""
    plan = Plan.of(
        segments,
        length=options.length,
        skip=options.skip,
        num_videos=options.num_videos,
        num_frames=options.num_frames,
        num_clips=options.num_clips,
    )
    if not plan.clips:
        raise UsageError(
            f"--num-videos {plan.num_videos}: more than a segment has clips; give fewer, or a "
            "higher --num-clips"
        )
    if plan.num_clips < FEWEST_CLIPS:
        raise UsageError(
            f"--segments {segments}: {counted(plan.num_clips, 'clip')} a segment of "
            f"{counted(plan.num_videos, 'video')}, expected {FEWEST_CLIPS} or more; give a higher "
            "--length, --num-videos or --num-clips"
        )
    return plan


def _as_few(plan: Plan, num_real: int, root: Location) -> Plan:
    """The same with no more clips a segment than there are real ones."""
    fewer = replace(plan, clips=min(plan.clips, num_real // plan.num_videos))
    if fewer.num_clips < FEWEST_CLIPS:
        raise LdfError(
            f"{root}: {counted(num_real, 'real clip')} a side, so {fewer.num_clips} a segment of "
            f"{counted(plan.num_videos, 'video')}, expected {FEWEST_CLIPS} or more; give fewer "
            "--num-videos, or bring more video"
        )
    return fewer
