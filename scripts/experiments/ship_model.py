"""Turn finished runs into a shipped pair: half-precision weights, no training state.

    python scripts/experiments/ship_model.py frame RUN checkpoints/NAME/frame
    python scripts/experiments/ship_model.py top RUN checkpoints/NAME/top
    python scripts/experiments/ship_model.py top RUN checkpoints/NAME-flow/top --frame-model NAME

The order matters: ship the frame model first, encode with the shipped one, train the top on those
latents, ship the top. A frame model that then learned to decode what the top makes (train-frame
--top-model, from the shipped one) is shipped in its place: its E is the same. Two top models of the
same latents share one frame model, NAME's. A card (README.md) is written by hand beside them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from ldf_video.errors import LdfError
from ldf_video.runs.zoo import reference_to, shipped_of
from ldf_video.training import checkpoints

LIMIT_BYTES = 10_000_000


def ship(kind: str, run: Path, destination: Path, *, frame_model: str | None = None) -> None:
    """Write config.json and model.safetensors (float16) of a run to `destination`.

    The frame model of a top model is to stand beside it, or beside the other one that is named.

    Raises:
        LdfError: the run is of another kind, its weights are too large to ship, or their E, taken
            over from another model, would not be the same in half precision.
    """
    config = checkpoints.load_config(run, kind=kind)
    state = checkpoints.load_state(run)
    if state is None:
        raise LdfError(f"{run} has no state: expected a run that was trained there")
    weights = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in checkpoints.load_weights(run).items()
    }
    like = config.get("encoder", {}).get("fingerprint")
    if like and checkpoints.latents_fingerprint(config, weights) != like:
        raise LdfError(
            f"{run} has the E of {like[:12]}, which float16 rounds, so that its latents would be "
            "others: ship that one first, and train with --init from what is shipped"
        )
    if kind == "top":  # where its frame model stands once both are shipped
        pair = destination.parent
        frame = (pair if frame_model is None else pair.with_name(frame_model)) / "frame"
        config["frame_model"] |= reference_to(frame, beside=destination)
        for name in ("latent_mean", "latent_std"):
            weights[name] = weights[name].float()
    num_bytes = sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
    if num_bytes > LIMIT_BYTES:
        raise LdfError(f"{run} has {num_bytes:,} bytes of weights, at most {LIMIT_BYTES:,} ship")
    trained = {"steps": state["step"], "minutes": round(state["elapsed_seconds"] / 60, 1)}
    config.pop("format_version")
    shipped = [*shipped_of("frame").items(), *shipped_of("top").items()]
    names = {checkpoints.fingerprint_of(at): name for name, at in shipped}
    # where the models of one machine lie says nothing elsewhere
    for part, key in (("init", "from"), ("top_model", "path")):
        if part in config:
            known, options = config[part], config.get("options", {})
            name = names.get(known["fingerprint"], Path(known[key]).name)
            kept = {k: value for k, value in known.items() if k not in ("path", "relative")}
            config[part] = kept | {key: name}
            options |= {part: name} if part in options else {}
    checkpoints.save_weights(destination, weights)
    checkpoints.save_config(destination, config | {"trained": trained, "torch": torch.__version__})
    print(f"{destination}: {num_bytes:,} bytes, {trained['steps']:,} steps")


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=["frame", "top"])
    parser.add_argument("run", type=Path)
    parser.add_argument("destination", type=Path)
    parser.add_argument("--frame-model", metavar="NAME", help="of a top model that shares NAME's")
    arguments = parser.parse_args()
    try:
        frame_model = arguments.frame_model
        ship(arguments.kind, arguments.run, arguments.destination, frame_model=frame_model)
    except LdfError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
