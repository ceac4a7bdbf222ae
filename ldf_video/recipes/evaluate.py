"""evaluate: how far generated clips are from real ones, and in what."""

from __future__ import annotations

import secrets
from pathlib import Path

from ldf_video.errors import LdfError, OutputError, UsageError
from ldf_video.evaluation.comparison import FEWEST_CLIPS, Comparison
from ldf_video.evaluation.judge import load_judge
from ldf_video.evaluation.judged import choose_geometry, load_models
from ldf_video.evaluation.report import Earlier, Evaluated
from ldf_video.output import json_text, write_atomically
from ldf_video.runs.devices import choose_device, out_of_memory
from ldf_video.runs.outputs import check_files
from ldf_video.runs.own_state import own_state
from ldf_video.training.ranks import check_alone
from ldf_video.video.sources import find_sources
from ldf_video.video.write import check_output, write_sheet

DEFAULT_CLIPS = 5000


@own_state()
@out_of_memory("a smaller --num-clips or --size")
def evaluate(
    real: str | Path,
    *,
    generated: str | Path | None = None,
    top_model: str | Path | None = None,
    frame_model: str | Path | None = None,
    train: str | Path | None = None,
    num_clips: int = DEFAULT_CLIPS,
    size: str | int | None = None,
    judge: str | Path | None = None,
    reference: str | Path | None = None,
    out: str | Path | None = None,
    json_file: str | Path | None = None,
    compare: str | Path | None = None,
    skip: int = 0,
    seed: int | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> Evaluated:
    """Compare clips with real ones; see `ldf_video.api.evaluate`."""
    check_alone("evaluate")
    output, json_file, reference, compare, judge = (
        None if path is None else Path(path) for path in (out, json_file, reference, compare, judge)
    )
    _check_options(num_clips=num_clips, skip=skip, output=output)
    device = choose_device(device)
    sources = find_sources(real)
    others = None if generated is None else find_sources(generated, own=True)
    trained_on = None if train is None else find_sources(train)
    earlier = None if compare is None else Earlier.load(compare)
    models = load_models(
        top_model, frame_model, default=generated is None, skip=skip, device=device
    )
    kept = reference is not None and reference.is_file()
    check_files(
        [("-o", output), ("--json", json_file), ("--reference", None if kept else reference)],
        inputs=[
            *(*sources, *(others or ()), *(trained_on or ()), *models.files()),
            *(path for path in (judge, compare, reference if kept else None) if path is not None),
        ],
    )
    geometry = choose_geometry(models, size, sources)
    if seed is None:
        seed = secrets.randbelow(2**31) if earlier is None else earlier.seed
    work = Comparison(load_judge(judge, device=device), geometry, seed=seed, skip=skip, quiet=quiet)
    work.read_real(sources, num_clips, reference)
    if earlier is not None:
        earlier.check(work.reference.sha256)
    for clip_set in work.sets(others, models):
        work.judge_set(clip_set)
    if trained_on is not None:
        work.look_up(trained_on)
    work.compare(earlier)
    found = work.result(output)
    try:
        if output is not None:
            write_sheet(output, work.sheet())
        if json_file is not None:
            text = json_text(found.to_json(), indent=2) + "\n"
            write_atomically(json_file, lambda partial: partial.write_text(text))
    except LdfError as error:
        raise OutputError(str(error), found) from error
    return found


def _check_options(*, num_clips: int, skip: int, output: Path | None) -> None:
    if skip < 0:
        raise UsageError(f"--skip {skip}: expected 0 or more")
    if num_clips < FEWEST_CLIPS:
        raise UsageError(f"--num-clips {num_clips}: expected {FEWEST_CLIPS} or more")
    if output is not None:
        check_output(output)
        if output.suffix.lower() != ".png":
            raise UsageError(f"-o {output}: expected a sheet of pictures, .png")
