"""encode: clips -> a store of latents."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ldf_video.errors import LdfError
from ldf_video.models.frame import FrameModel
from ldf_video.pipelines.devices import choose_device, choose_precision
from ldf_video.pipelines.geometry import geometry_of, with_options
from ldf_video.pipelines.ingest import Report, ingest, open_store
from ldf_video.pipelines.quality import psnr_db
from ldf_video.pipelines.zoo import find_frame_model, load_frame_model
from ldf_video.progress import Progress
from ldf_video.store.format import StoreSpec
from ldf_video.store.reader import StoreReader
from ldf_video.training.ranks import Ranks, join_ranks
from ldf_video.video.pixels import from_model, to_model
from ldf_video.video.read import Reader, check_reader
from ldf_video.video.sources import find_sources

POOR_FIT_DB = 20.0
"""Below this a frame model plainly does not know such frames."""


@dataclass(frozen=True)
class Encoded:
    """What an encode did.

    Attributes:
        store: the directory of the latents.
        report: what became of each source.
        psnr_db: of a sample of the frames just read against G(E(x)), None where none was read.
    """

    store: Path
    report: Report
    psnr_db: float | None


class FrameEncoder:
    """E as a transform of batches, with an eye on how well G undoes it."""

    def __init__(self, model: FrameModel, *, device: str, precision: str) -> None:
        self.model, self.device, self.precision = model, device, precision
        self.squared_error, self.num_values, self._batches = 0.0, 0, 0

    @torch.inference_mode()
    def __call__(self, frames: npt.NDArray[np.uint8], num_real: int) -> npt.NDArray[np.float16]:
        """uint8 frames (B, H, W, 3), the first `num_real` real -> float16 latents (B, C, h, w)."""
        x = to_model(frames, device=self.device)
        half = torch.float16 if self.precision == "fp16" else torch.bfloat16
        with torch.autocast(self.device, half, enabled=self.precision != "no"):
            z = self.model.encoder(x)
        latents = z.to(torch.float16)
        if self._batches % 16 == 0:  # a sample: one batch in 16, the first among them
            watched = min(num_real, 16)
            self._watch(frames[:watched], latents[:watched])
        self._batches += 1
        return latents.cpu().numpy()

    def _watch(self, frames: npt.NDArray[np.uint8], latents: torch.Tensor) -> None:
        decoded = from_model(self.model.generator(latents.float())).astype(np.float64)
        self.squared_error += float(np.square(decoded - frames).sum())
        self.num_values += decoded.size

    def psnr_db(self, ranks: Ranks) -> float | None:
        """Of the frames that all processes sampled, squared errors pooled; None without any."""
        samples = ranks.gather((self.squared_error, self.num_values))
        num_values = sum(values for _, values in samples)
        if not num_values:
            return None
        return psnr_db(sum(error for error, _ in samples) / num_values)


def encode(
    clips: str | Path,
    *,
    out: str | Path = "latents",
    frame_model: str | Path | None = None,
    fps: str | None = None,
    crop: str | None = None,
    batch_size: int = 64,
    mixed_precision: str = "auto",
    reader: Reader = "auto",
    strict: bool = False,
    retry: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    quiet: bool = False,
) -> Encoded:
    """Encode every readable clip into a store of latents; see `ldf_video.api.encode`."""
    check_reader(reader)
    device = choose_device(device)
    ranks = join_ranks(device)
    precision = choose_precision(mixed_precision, device=device)
    num_sources, num_bytes = ranks.of_first(lambda: _measure(Path(clips)))
    directory, shipped = ranks.of_first(lambda: find_frame_model(frame_model))
    loaded = load_frame_model(directory, device=device)
    geometry = with_options(geometry_of(loaded.config), fps=fps, crop=crop)
    settings: dict[str, Any] = {"weights": loaded.fingerprint, **geometry.settings()}
    spec = StoreSpec("latents", loaded.model.config.latent_shape, "float16", settings)
    info = {
        "frame_model": str(directory),
        "precision": precision,
        "device": device,
        "reader": reader,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    encoder = FrameEncoder(loaded.model, device=device, precision=precision)
    with Progress("encode", unit="frames", quiet=quiet or not ranks.is_first) as progress:
        if frame_model is None and shipped:
            progress.say(f"encode: no checkpoints/frame, using the shipped {directory.parent.name}")
        progress.say(
            f"encode: {num_sources:,} sources, {num_bytes / 1e6:,.1f} MB, "
            f"to {spec.row_bytes} bytes a frame in {out}"
        )
        with open_store(
            Path(out), spec, ranks=ranks, info=info, overwrite=overwrite, retry=retry
        ) as writer:
            if writer.moved_to is not None:
                progress.say(f"encode: the store that was there is kept as {writer.moved_to}")
            report = ingest(
                Path(clips),
                writer,
                geometry,
                transform=encoder,
                batch_size=batch_size,
                name="encode",
                quiet=quiet,
                ranks=ranks,
                reader=reader,
            )
        store = StoreReader(Path(out))
        _report_whole_store(report, store)
        fit_db = encoder.psnr_db(ranks)
        for line in report.lines():
            progress.say(line)
        if fit_db is not None and fit_db < POOR_FIT_DB:
            progress.say(
                f"encode: warning: the frame model reaches {fit_db:.1f} dB on these "
                "clips: run ldf-video train-frame on them, or for longer"
            )
    ranks.of_first(lambda: _check_outcome(clips, report, store, strict=strict))
    return Encoded(Path(out), report, fit_db)


def _measure(clips: Path) -> tuple[int, int]:
    """How many sources there are, and their bytes."""
    sources = find_sources(clips)
    return len(sources), sum(source.size for source in sources)


def _report_whole_store(report: Report, store: StoreReader) -> None:
    """List also what an earlier call put there, and this one had no reason to read again."""
    report.quarantined = [(bad.source, bad.reason) for bad in store.quarantined()]
    reasons = dict(report.salvaged)
    report.salvaged = [
        (name, reasons.get(name, "cut short when it was read")) for name in store.salvaged()
    ]


def _check_outcome(clips: str | Path, report: Report, store: StoreReader, *, strict: bool) -> None:
    if not store.num_clips:
        raise LdfError(f"nothing under {clips} could be read: {report.first_reason()}")
    missed = len(report.quarantined) + len(report.salvaged)
    if strict and missed:
        raise LdfError(
            f"--strict: {missed:,} of {report.num_sources:,} sources were not read whole"
        )
