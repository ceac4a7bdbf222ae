"""What the frames of a video are told: from options and files to a top model's columns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ldf_video.arrays.conditions import Conditions
from ldf_video.clips.condition_files import read_conditions
from ldf_video.errors import ReadError, UsageError, counted
from ldf_video.levels.conditions import as_columns, told_frames
from ldf_video.models.rollout import KnownConditions
from ldf_video.models.top import TopModel
from ldf_video.options.sampling import Generate
from ldf_video.output import reason
from ldf_video.runs.zoo import Loaded


def told_after(
    told: KnownConditions | None, known: Conditions, top: TopModel, clip: str
) -> tuple[KnownConditions | None, str | None]:
    """The same where a video goes on from a clip; and what to say of it, if anything.

    What is known of the clip's frames is told where the frames behind them are told something: a
    top model learned from windows that are told of, or are not.

    Args:
        told: of the frames that are made.
        known: of the clip's.
        top: the top model.
        clip: its name.
    """
    own = as_columns(top.columns)
    values = known.of_columns(own)
    if not np.isfinite(values).any():
        return told, None
    if told is None:
        listed = ", ".join(map(str, known.columns))
        return None, f"{clip} has conditions, {listed}: told with --condition or --conditions alone"
    past = torch.from_numpy(values)[None]
    return replace(told, past=past), f"the frames of {clip} are told by its own conditions"


def told_by(
    top: Loaded[TopModel], options: Generate, num_frames: int
) -> tuple[KnownConditions | None, str | None]:
    """What is told by `--conditions` and `--condition`; and what to say of it, if anything.

    Raises:
        UsageError: the top model knows no conditions, or not these; or they cannot be read.
    """
    if options.conditions is None and not options.condition:
        return None, None
    said = "--condition" if options.conditions is None else f"--conditions {options.conditions}"
    if not top.model.columns:
        raise UsageError(
            f"{said}: {top.directory} learned without conditions; train-top learns with them where "
            "clips have some beside them"
        )
    if options.conditions is None:
        values = told_frames(top.model.columns, None, options.condition or (), count=num_frames)
        return KnownConditions(torch.from_numpy(values)), None
    try:
        known = read_conditions(Path(options.conditions))
    except (ReadError, OSError) as error:
        raise UsageError(f"{said}: {reason(error)}") from None
    values = told_frames(
        top.model.columns, known, options.condition or (), count=num_frames, of_known=said
    )
    note, rows = None, len(known.values)
    if rows < num_frames:
        note = f"{options.conditions} has {counted(rows, 'row')}: the frames behind its end are "
        note += "told nothing by it"
    return KnownConditions(torch.from_numpy(values)), note
