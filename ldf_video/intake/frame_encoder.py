"""E as a transform of batches, with an eye on how well G undoes it; and the job that it is for."""

from __future__ import annotations

import platform
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from ldf_video.errors import counted
from ldf_video.files.layout import layout_of
from ldf_video.intake.batches import Frames, Transform
from ldf_video.intake.ingest import Conversion
from ldf_video.models.frame import FrameModel
from ldf_video.models.grid import GridEncoder
from ldf_video.models.inference import GridInference
from ldf_video.options.reading import Encode
from ldf_video.runs.command import choose_precision, num_cores
from ldf_video.runs.zoo import load_frame_model, reference_to
from ldf_video.sources.source import Source
from ldf_video.store.format import STORE_JSON, StoreSpec, read_store_json
from ldf_video.video.geometry import Geometry, geometry_of, with_options
from ldf_video.video.pixels import from_model, psnr_db, to_model

CUDA_LANES = 2
"""One batch is copied while another is computed."""

MAX_CPU_LANES = 16
WATCH_EVERY = 16
WATCHED_FRAMES = 16


class Fit(NamedTuple):
    """How well G undoes E: a sum of squared errors in levels of 255, over so many values."""

    squared_error: float
    num_values: int


def pooled_psnr_db(fits: Sequence[Fit]) -> float | None:
    """The PSNR of all frames that several encoders watched; None without any."""
    num_values = sum(fit.num_values for fit in fits)
    if not num_values:
        return None
    return psnr_db(sum(fit.squared_error for fit in fits) / num_values)


class FrameEncoder(Transform):
    """Latents of frames, a batch a lane.

    On a CPU each lane is one thread on one core: several batches at a time wait less for each other
    than the threads of one operation do, above all beside readers. On CUDA each lane has a stream,
    and its frames and latents travel from and to pinned memory.

    A latent depends on its frame alone, and not on its place in the batch, nor on how many lanes
    there are.
    """

    def __init__(self, model: FrameModel, *, device: str, precision: str) -> None:
        self.model, self.device, self.precision = model, device, precision
        # As pixels come, and quicker.
        self._encode = model.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if device == "cpu" and precision == "no" and isinstance(model.encoder, GridEncoder):
            self._encode = GridInference(model.encoder)
        self.num_lanes = _choose_lanes(device)
        self._gpu = torch.cuda.current_device() if device == "cuda" else 0
        self._lane = threading.local()
        self._lock = threading.Lock()
        self._num_batches, self._squared_error, self._num_values = 0, 0.0, 0

    def new_batch(self, shape: tuple[int, ...]) -> Frames:
        """Memory for a batch, pinned where a GPU reads it."""
        pinned = self.device == "cuda"
        batch: Frames = torch.zeros(shape, dtype=torch.uint8, pin_memory=pinned).numpy()
        return batch

    def begin_lane(self) -> None:
        if self.device == "cpu":
            torch.set_num_threads(1)  # of this lane; other threads keep theirs
        if self.device == "cuda":
            torch.cuda.set_device(self._gpu)  # which one is current, too, is a thread's own
            self._lane.stream = torch.cuda.Stream()
            self._lane.stream.wait_stream(torch.cuda.default_stream())  # the weights are there

    @torch.inference_mode()
    def __call__(self, frames: Frames, num_real: int) -> npt.NDArray[np.float16]:
        """uint8 frames (B, H, W, 3), the first `num_real` real -> float16 latents (B, C, h, w)."""
        with self._on_stream():
            x = to_model(torch.from_numpy(frames), self.device, channels_last=True)
            half = torch.float16 if self.precision == "fp16" else torch.bfloat16
            with torch.autocast(self.device, half, enabled=self.precision != "no"):
                z = self._encode(x)
            latents = z.to(torch.float16)
            if self._is_watched():
                watched = min(num_real, WATCHED_FRAMES)
                self._watch(frames[:watched], latents[:watched])
            return self._to_main_memory(latents)

    def _on_stream(self) -> AbstractContextManager[object]:
        return torch.cuda.stream(self._lane.stream) if self.device == "cuda" else nullcontext()

    def _to_main_memory(self, latents: torch.Tensor) -> npt.NDArray[np.float16]:
        if self.device != "cuda":
            return latents.cpu().contiguous().numpy()
        there = torch.empty(latents.shape, dtype=latents.dtype, pin_memory=True)
        there.copy_(latents, non_blocking=True)
        self._lane.stream.synchronize()
        return there.numpy()

    def _is_watched(self) -> bool:
        """A sample: one batch in 16, the first among them."""
        with self._lock:
            self._num_batches += 1
            return self._num_batches % WATCH_EVERY == 1

    def _watch(self, frames: Frames, latents: torch.Tensor) -> None:
        decoded = from_model(self.model.generator(latents.float())).astype(np.float64)
        squared_error = float(np.square(decoded - frames).sum())
        with self._lock:
            self._squared_error += squared_error
            self._num_values += decoded.size

    def fit(self) -> Fit:
        """How well G undid E on the frames that were watched."""
        with self._lock:
            return Fit(self._squared_error, self._num_values)


@contextmanager
def threads_kept() -> Iterator[None]:
    """Leave torch's threads as they are after work in lanes: what one sets, new threads inherit."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _choose_lanes(device: str) -> int:
    """A lane a core that torch may use (`OMP_NUM_THREADS` says how many); two streams of a GPU."""
    if device == "cpu":
        return min(num_cores(), torch.get_num_threads(), MAX_CPU_LANES)
    return CUDA_LANES if device == "cuda" else 1


@dataclass(frozen=True)
class EncodeJob:
    """An encode, the same in every process that takes part.

    Its store is at `out`, its frame model at `frame_model`; device and precision are chosen.
    """

    options: Encode
    out: Path
    spec: StoreSpec
    geometry: Geometry
    frame_model: Path
    device: str
    precision: str

    def make_encoder(self) -> FrameEncoder:
        """The frame model's E, on the device of this process."""
        loaded = load_frame_model(self.frame_model, device=self.device)
        return FrameEncoder(loaded.model, device=self.device, precision=self.precision)

    def conversion(self, encoder: FrameEncoder) -> Conversion:
        return Conversion(
            self.geometry,
            encoder,
            batch_size=self.options.batch_size,
            reader=self.options.reader,
            workers=self.options.workers,
            cuts=self.options.cuts == "auto",
        )

    def info(self) -> Mapping[str, Any]:
        """What the store keeps beside its settings, for people."""
        return {
            "frame_model": str(self.frame_model),
            "frame_model_relative": reference_to(self.frame_model, beside=self.out)["relative"],
            "precision": self.precision,
            "device": self.device,
            "reader": self.options.reader,
            "cuts": self.options.cuts,
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
            f"encode: {counted(len(sources), 'source')}, {num_bytes / 1e6:,.1f} MB, "
            f"to {self.spec.row_bytes} bytes a frame in {self.out}"
        )


def plan_job(options: Encode, frame_model: Path, *, device: str) -> EncodeJob:
    """The job of these options, with a frame model and a device chosen.

    Raises:
        UsageError: one of them means nothing.
        CheckpointError: the frame model cannot be loaded.
    """
    loaded = load_frame_model(frame_model, device="cpu")
    geometry = with_options(geometry_of(loaded.config), fps=options.fps, crop=options.crop)
    read = {**geometry.settings(), **layout_of(options).settings()}
    settings = {"weights": loaded.latents, **read}
    return EncodeJob(
        options=options,
        out=Path(options.out),
        spec=StoreSpec("latents", loaded.model.config.latent_shape, "float16", settings),
        geometry=geometry,
        frame_model=frame_model,
        device=device,
        precision=choose_precision(options.mixed_precision, device=device),
    )
