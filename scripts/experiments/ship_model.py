"""Turn finished runs into a shipped pair: half-precision weights, no training state.

    python scripts/experiments/ship_model.py frame RUN checkpoints/NAME/frame
    python scripts/experiments/ship_model.py top RUN checkpoints/NAME/top

The order matters: ship the frame model first, encode with the shipped one, train the top on those
latents, ship the top. A frame model that then learned to decode what the top makes (train-frame
--top-model, from the shipped one) is shipped in its place: its E is the same. A card (README.md) is
written by hand beside the two.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from ldf_video.errors import LdfError
from ldf_video.training import checkpoints

LIMIT_BYTES = 10_000_000


def ship(kind: str, run: Path, destination: Path) -> None:
    """Write config.json and model.safetensors (float16) of a run to `destination`.

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
    if kind == "top":  # where its frame model stands beside it once both are shipped
        config["frame_model"] |= {"path": str(destination.parent / "frame"), "relative": "../frame"}
        for name in ("latent_mean", "latent_std"):
            weights[name] = weights[name].float()
    num_bytes = sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
    if num_bytes > LIMIT_BYTES:
        raise LdfError(f"{run} has {num_bytes:,} bytes of weights, at most {LIMIT_BYTES:,} ship")
    trained = {"steps": state["step"], "minutes": round(state["elapsed_seconds"] / 60, 1)}
    config.pop("format_version")
    # where the models of one machine lie says nothing elsewhere
    for part in ("init", "options", "top_model"):
        for name in {"from", "init", "path", "top_model"} & set(config.get(part, {})):
            config[part][name] = Path(config[part][name]).name
        config.get(part, {}).pop("relative", None)
    checkpoints.save_weights(destination, weights)
    checkpoints.save_config(destination, config | {"trained": trained, "torch": torch.__version__})
    print(f"{destination}: {num_bytes:,} bytes, {trained['steps']:,} steps")


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=["frame", "top"])
    parser.add_argument("run", type=Path)
    parser.add_argument("destination", type=Path)
    arguments = parser.parse_args()
    try:
        ship(arguments.kind, arguments.run, arguments.destination)
    except LdfError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
