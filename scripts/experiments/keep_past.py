"""A flow that computes its past anew becomes one that keeps it, without any training.

    python scripts/experiments/keep_past.py pacman-32 OUT --latents latents

`latents` are some of the clips that it learned from, encoded by its frame model; OUT is a top model
like any other, as large as before. No difference was seen in its videos; a block costs its passes
and one more, whatever the window.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from ldf_video.errors import LdfError
from ldf_video.levels.latents import open_latents, whole_windows
from ldf_video.models.flow import FlowTop
from ldf_video.models.keep_past import keep_past
from ldf_video.runs.zoo import find_model, load_top_model
from ldf_video.training import checkpoints


def convert(model: str, out: Path, *, latents: Path) -> None:
    """Write the flow in its new form.

    Raises:
        LdfError: the model is no flow that computes its past anew, or the latents do not fit it.
    """
    directory, _ = find_model(model, "top")
    top = load_top_model(directory, device="cpu")
    if not isinstance(top.model, FlowTop) or top.model.config.kept:
        raise LdfError(f"{model}: expected a flow that computes its past anew")
    reader = open_latents(latents)
    known, found = top.config["frame_model"]["fingerprint"], reader.spec.settings["weights"]
    if known != found:
        raise LdfError(f"{latents}: made by frame model {found[:12]}, {model} has {known[:12]}")
    kept = keep_past(top.model, whole_windows(reader, top.model.config.window))
    config = {**top.config, "model": {"kind": "flow", **asdict(kept.config)}}
    checkpoints.save_config(out, {k: v for k, v in config.items() if k != "format_version"})
    checkpoints.save_weights(out, kept.state_dict())


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="directory or shipped name")
    parser.add_argument("out", type=Path)
    parser.add_argument("--latents", type=Path, default=Path("latents"))
    arguments = parser.parse_args()
    try:
        convert(arguments.model, arguments.out, latents=arguments.latents)
    except LdfError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
