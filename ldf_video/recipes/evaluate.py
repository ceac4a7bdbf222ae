"""evaluate: how far generated clips are from real ones, and in what."""

from __future__ import annotations

import secrets
from pathlib import Path

from ldf_video.errors import LdfError, OutputError, UsageError
from ldf_video.evaluation.comparison import FEWEST_CLIPS, Comparison
from ldf_video.evaluation.judge import load_judge
from ldf_video.evaluation.judged import choose_geometry, load_models
from ldf_video.evaluation.report import Earlier, Evaluated
from ldf_video.options import Evaluate
from ldf_video.output import json_text, write_atomically
from ldf_video.runs.command import check_files, choose_device, out_of_memory, own_state
from ldf_video.training.ranks import check_alone
from ldf_video.video.sources import find_sources
from ldf_video.video.write import check_output, write_sheet


@own_state()
@out_of_memory("a smaller --num-clips or --size")
def evaluate(options: Evaluate) -> Evaluated:
    """Compare clips with real ones; see `ldf_video.api.evaluate`."""
    check_alone("evaluate")
    output, json_file, reference, compare, judge = (
        None if path is None else Path(path)
        for path in (
            options.out,
            options.json_file,
            options.reference,
            options.compare,
            options.judge,
        )
    )
    generated, seed = options.generated, options.seed
    num_frames, skip = options.num_frames, options.skip
    _check_options(options.num_clips, output)
    device = choose_device(options.device)
    sources = find_sources(options.real)
    others = None if generated is None else find_sources(generated, own=True)
    trained_on = None if options.train is None else find_sources(options.train)
    earlier = None if compare is None else Earlier.load(compare)
    models = load_models(
        options.top_model,
        options.frame_model,
        default=generated is None,
        num_frames=num_frames,
        skip=skip,
        device=device,
    )
    kept = reference is not None and reference.is_file()
    check_files(
        [("--out", output), ("--json", json_file), ("--reference", None if kept else reference)],
        inputs=[
            *(*sources, *(others or ()), *(trained_on or ()), *models.files()),
            *(path for path in (judge, compare, reference if kept else None) if path is not None),
        ],
    )
    geometry = choose_geometry(models, options.size, sources)
    if seed is None:
        seed = secrets.randbelow(2**31) if earlier is None else earlier.seed
    judging = load_judge(judge, device=device, num_frames=num_frames)
    work = Comparison(
        judging, geometry, seed=seed, num_frames=num_frames, skip=skip, quiet=options.quiet
    )
    if others is not None:
        work.check_generated(others)
    work.read_real(sources, options.num_clips, reference)
    if earlier is not None:
        earlier.check(work.reference.sha256)
    for clip_set in work.sets(others, models):
        work.judge_set(clip_set)
        del clip_set  # while the next one is made
    if trained_on is not None:
        work.look_up(trained_on)
    found = work.result(earlier, output)
    try:
        if output is not None:
            write_sheet(output, work.sheet())
        if json_file is not None:
            text = json_text(found.to_json(), indent=2) + "\n"
            write_atomically(json_file, lambda partial: partial.write_text(text))
    except LdfError as error:
        raise OutputError(str(error), found) from error
    return found


def _check_options(num_clips: int, output: Path | None) -> None:
    if num_clips < FEWEST_CLIPS:
        raise UsageError(f"--num-clips {num_clips}: expected {FEWEST_CLIPS} or more")
    if output is not None:
        check_output(output)
        if output.suffix.lower() != ".png":
            raise UsageError(f"--out {output}: expected a sheet of pictures, .png")
