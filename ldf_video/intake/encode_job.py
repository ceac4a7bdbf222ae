"""All that an encode is, wherever it runs: what it reads with, computes with and writes."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ldf_video.intake.frame_encoder import FrameEncoder
from ldf_video.runs.devices import choose_precision
from ldf_video.runs.framing import geometry_of, with_options
from ldf_video.runs.zoo import load_frame_model, reference_to
from ldf_video.store.format import STORE_JSON, StoreSpec, read_store_json
from ldf_video.video.geometry import Crop, Geometry
from ldf_video.video.read import Reader
from ldf_video.video.sources import Source


@dataclass(frozen=True)
class EncodeJob:
    """What every process of an encode is told.

    Attributes:
        out: directory of the store.
        spec: what the store holds and what produced it.
        geometry: what frames are brought to.
        frame_model: directory of the frame model.
        device: "cpu", "cuda" or "mps".
        precision: "no", "bf16" or "fp16".
        batch_size: frames a batch.
        reader: of videos.
        workers: processes that read, None to choose by the cores.
        retry: whether sources in quarantine are read again.
    """

    out: Path
    spec: StoreSpec
    geometry: Geometry
    frame_model: Path
    device: str
    precision: str
    batch_size: int
    reader: Reader
    workers: int | None
    retry: bool

    def make_encoder(self) -> FrameEncoder:
        """The frame model's E, on the device of this process."""
        loaded = load_frame_model(self.frame_model, device=self.device)
        return FrameEncoder(loaded.model, device=self.device, precision=self.precision)

    def info(self) -> Mapping[str, Any]:
        """What the store keeps beside its settings, for people."""
        return {
            "frame_model": str(self.frame_model),
            "frame_model_relative": reference_to(self.frame_model, beside=self.out)["relative"],
            "precision": self.precision,
            "device": self.device,
            "reader": self.reader,
            "torch": torch.__version__,
            "python": platform.python_version(),
        }

    def mixing(self) -> str | None:
        """What to say where the store that is there was encoded in another precision.

        The fingerprint does not tell: latents differ by some thousandths of their spread.
        """
        if not (self.out / STORE_JSON).is_file():
            return None
        spec, info = read_store_json(self.out)
        before = info.get("precision", self.precision)
        if spec.fingerprint != self.spec.fingerprint or before == self.precision:
            return None
        return (
            f"encode: warning: {self.out} was begun with --mixed-precision {before}, what is new "
            f"is encoded with {self.precision}: give --mixed-precision {before} for equal latents"
        )

    def announce(self, sources: Sequence[Source]) -> str:
        """One line on what it will read and write."""
        num_bytes = sum(max(source.size, 0) for source in sources)
        return (
            f"encode: {len(sources):,} sources, {num_bytes / 1e6:,.1f} MB, "
            f"to {self.spec.row_bytes} bytes a frame in {self.out}"
        )


def plan_job(
    frame_model: Path,
    *,
    out: Path,
    fps: str | float | None,
    crop: Crop | None,
    device: str,
    mixed_precision: str,
    batch_size: int,
    reader: Reader,
    workers: int | None,
    retry: bool,
) -> EncodeJob:
    """The job of these options.

    Raises:
        UsageError: one of them means nothing.
        CheckpointError: the frame model cannot be loaded.
    """
    loaded = load_frame_model(frame_model, device="cpu")
    geometry = with_options(geometry_of(loaded.config), fps=fps, crop=crop)
    settings = {"weights": loaded.fingerprint, **geometry.settings()}
    return EncodeJob(
        out=out,
        spec=StoreSpec("latents", loaded.model.config.latent_shape, "float16", settings),
        geometry=geometry,
        frame_model=frame_model,
        device=device,
        precision=choose_precision(mixed_precision, device=device),
        batch_size=batch_size,
        reader=reader,
        workers=workers,
        retry=retry,
    )
