"""Frame rates: windows that hold every so-manyth frame, from the clips to the files."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from clip_files import LOSSLESS, write_clip
from latent_data import write_latents
from tiny_cli import shrink
from tiny_judge import moving_clips, write_judge
from tiny_models import FEW, FLOW, flow, mlp, save_frame, save_top, write_array

from ldf_video.api import evaluate, generate, interpolate, train_top
from ldf_video.clips.probe import probe
from ldf_video.errors import UsageError
from ldf_video.evaluation import judged
from ldf_video.levels.top_level import TopLevel
from ldf_video.models.bridge import loop
from ldf_video.models.condition import Condition
from ldf_video.models.few import FewGame, student_config
from ldf_video.models.few_teacher import distances
from ldf_video.models.flow import FlowTop
from ldf_video.models.flow_config import FlowConfig
from ldf_video.models.flow_loss import FlowGame, velocity_loss
from ldf_video.models.game import Noise, Part, Tick
from ldf_video.models.rollout import Rollout
from ldf_video.models.steady_pass import SteadyPasses
from ldf_video.runs.zoo import load_top_model
from ldf_video.store.format import StoreSpec
from ldf_video.store.reader import StoreReader
from ldf_video.store.writer import StoreWriter
from ldf_video.training import checkpoints
from ldf_video.training.loop import Trainer
from ldf_video.training.optim import make_optimizer
from ldf_video.training.update import strided_windows, windows

if TYPE_CHECKING:
    from pathlib import Path

CPU = torch.device("cpu")
STRIDES = (1, 2, 4)
RATES = replace(FLOW, strides=STRIDES)
KEPT = replace(RATES, kept=True)
FORMS = {"anew": RATES, "kept": KEPT, "few": replace(KEPT, renewed=True, sampling_steps=1)}
EACH_FORM = pytest.mark.parametrize("config", FORMS.values(), ids=FORMS)


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(i) for i in range(count)]


def sample(top: FlowTop, stride: int, count: int = 25, **settings: Any) -> torch.Tensor:
    rollout = Rollout(count, stride=stride, **settings)
    return torch.cat(list(top.sample(rollout, generators(2))), dim=1)


# -- the network ---------------------------------------------------------------------------------


@EACH_FORM
def test_strides_change_nothing_before_any_training_and_each_its_own_after(
    config: FlowConfig,
) -> None:
    before = flow(config=replace(config, strides=(1,)))
    top = FlowTop(config)
    missing, unknown = top.load_state_dict(before.state_dict(), strict=False)
    assert (missing, unknown) == (["condition.stride.weight"], [])
    expected = sample(before, 1)
    for stride in STRIDES:
        assert torch.equal(sample(top, stride), expected)
    assert top.condition is not None
    with torch.no_grad():
        top.condition.stride.weight[2] += 0.1 * torch.randn(FLOW.width)
    past = torch.randn(2, 16, *FLOW.latent_shape)
    for known in ({}, {"past": past}):
        first = sample(top, 1, **known)
        assert torch.equal(sample(top, 2, **known), first)
        changed = (sample(top, 4, **known) != first).flatten(2).any(2)
        assert changed.all()


@pytest.mark.parametrize("top", [flow(), flow(config=RATES), mlp()], ids=["one", "three", "mlp"])
def test_a_stride_that_a_model_does_not_know_is_refused(top: Any) -> None:
    count = top.fixed_frames or 8
    assert next(top.sample(Rollout(count), generators(1))) is not None
    with pytest.raises(ValueError, match="stride 3: expected 1"):
        next(top.sample(Rollout(count, stride=3), generators(1)))


@pytest.mark.parametrize("strides", [(), (2, 4), (1, 1), (1, 4, 2)], ids=str)
def test_strides_that_cannot_be_are_refused(strides: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected 1, then larger and larger"):
        replace(FLOW, strides=strides)


def test_the_passes_of_a_long_video_are_told_its_stride() -> None:
    top, condition = flow(config=KEPT), Condition.of(4)
    numbers = torch.Generator().manual_seed(0)
    blocks = [torch.randn(2, 4, 64, generator=numbers) for _ in range(5)]
    with torch.no_grad():
        seen = None
        for block in blocks[:3]:
            seen = top.remember_block(block, seen, condition)
        assert seen is not None
        x, past = blocks[4], top.remember_block(blocks[3], seen, condition)
        steady = SteadyPasses(top, condition).after(blocks[3], seen)
        other = SteadyPasses(top, Condition.of(1)).after(blocks[3], seen)
        for level in top.sampling_levels(KEPT.sampling_steps)[:-1]:
            u = torch.full((1, 1), level)
            expected = top.velocity(x, u, condition=condition, past=past)
            torch.testing.assert_close(steady(x, level), expected, rtol=1e-4, atol=1e-5)
            assert not torch.allclose(other(x, level), expected, atol=1e-3)
        torch.testing.assert_close(steady.past[-1], past[-1], rtol=1e-4, atol=1e-5)


def test_a_loop_is_of_one_stride_throughout() -> None:
    top, made = flow(config=KEPT), {}
    for stride in (1, 4):
        blocks = list(loop(top, 11, generators(1), stride=stride))
        made[stride] = torch.cat(blocks, dim=1)
    assert made[1].shape == made[4].shape == (1, 11, *FLOW.latent_shape)
    assert (made[1] != made[4]).flatten(2).any(2).all()  # the frames of the last block, too


# -- the loss, and a student's -------------------------------------------------------------------


@pytest.mark.parametrize("config", [RATES, KEPT], ids=["anew", "kept"])
def test_the_loss_of_windows_of_several_strides_is_the_mean_of_each(config: FlowConfig) -> None:
    top, strides = flow(config=config), torch.tensor([1, 4, 2, 4])
    latents = torch.randn(4, 16, *FLOW.latent_shape, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(4, 16, dtype=torch.bool)

    def loss(strides: torch.Tensor, part: Part = Part()) -> float:  # noqa: B008
        rows = (part.rows(latents), part.rows(mask), Condition(part.rows(strides)))
        return velocity_loss(top, *rows, noise=Noise(0, part))[0].item()

    whole = loss(strides)
    assert np.mean([loss(strides, Part(i, 4)) for i in range(4)]) == pytest.approx(whole, rel=1e-5)
    assert loss(torch.tensor([1, 4, 2, 2])) != whole


def test_teacher_student_and_critic_are_told_the_same_stride() -> None:
    one = replace(FEW, first_steps=1, teacher_first_steps=1, teacher_steps=1)
    teacher = flow(config=replace(KEPT, sampling_steps=1, first_steps=1))
    game = FewGame(FlowTop(student_config(teacher.config, one)), one)
    game.teach(teacher)
    assert game.model.strides == game.teacher.strides == game.critic.flow.strides == STRIDES
    latents = torch.randn(3, 16, *FLOW.latent_shape, generator=torch.Generator().manual_seed(0))
    mask, told = torch.ones(3, 16, dtype=torch.bool), Condition(torch.tensor([1, 2, 4]))
    x, real, _ = game._blocks(latents, mask)
    off = [d.item() for d in distances(game.model, game.teacher, x, real, told, noise=Noise(0))]
    assert off == pytest.approx([0, 0], abs=1e-8)  # nowhere, where both take one pass
    level = torch.full((3,), 0.3)
    with torch.no_grad():
        scores = [game.critic(x, level, Condition.of(stride)) for stride in STRIDES]
        mixed = game.critic(x, level, told)
    for row in range(3):
        torch.testing.assert_close(mixed[row], scores[row][row])
        assert not torch.allclose(mixed[row], scores[row - 1][row], atol=1e-4)


# -- windows -------------------------------------------------------------------------------------


def write_rows(path: Path, clips: list[np.ndarray]) -> StoreReader:
    spec = StoreSpec("latents", clips[0].shape[1:], "float16", {"weights": "ab" * 32, "fps": None})
    with StoreWriter(path, spec) as writer:
        for number, rows in enumerate(clips):
            name = f"{number:03}"
            writer.append(name, rows.astype("f2"), fps=Fraction(12))
            writer.finish_clip(name, fps=Fraction(12))
            writer.set_source(name, size=1, mtime_ns=1, clip_ids=[name])
    return StoreReader(path)


def test_windows_hold_every_so_manyth_frame_of_one_clip(tmp_path: Path) -> None:
    lengths = [9, 70, 100]
    clips = [
        np.broadcast_to(np.arange(n)[:, None, None, None] + 200 * i, (n, 4, 4, 4))
        for i, n in enumerate(lengths)
    ]
    level = TopLevel(
        FlowGame(flow(config=RATES)), write_rows(tmp_path, clips), batch_size=96, seed=1
    )
    latents, mask, told = level.batch(5, Part(), CPU)
    assert told is not None
    for window, real, stride in zip(latents[:, :, 0, 0, 0], mask, told.stride, strict=True):
        clip, first = divmod(int(window[0]), 200)
        count = min(16, math.ceil((lengths[clip] - first) / stride))
        assert real.tolist() == [True] * count + [False] * (16 - count)
        assert window[:count].tolist() == [200 * clip + first + n * stride for n in range(count)]
        assert clip == 0 or real.all()  # what is shorter than its window is padded, nothing else
    assert all(16 < (told.stride == stride).sum() < 48 for stride in STRIDES)
    parts = [level.batch(5, Part(i, 4), CPU) for i in range(4)]
    assert torch.equal(torch.cat([part.latents for part in parts]), latents)
    assert torch.equal(torch.cat([part.condition.stride for part in parts]), told.stride)  # type: ignore[union-attr]


def test_a_rows_stride_is_a_function_of_seed_step_and_row_alone() -> None:
    def drawn(
        lengths: list[int], batch_size: int = 40, step: int = 3, strides: Any = STRIDES
    ) -> Any:
        return strided_windows(
            7, step, lengths=np.array(lengths), window=16, batch_size=batch_size, strides=strides
        )

    clips, starts, strides = drawn([70, 90])
    assert (drawn([100] * 5)[2] == strides).all()
    assert (drawn([70, 90], 20)[2] == strides[:20]).all()
    assert (drawn([70, 90], step=4)[2] != strides).any()
    alone = windows(7, 3, lengths=np.array([70, 90]), window=16, batch_size=40)
    own = strides == 1
    assert (clips[own] == alone[0][own]).all()
    assert (starts[own] == alone[1][own]).all()
    assert all((a == b).all() for a, b in zip(drawn([70, 90], strides=(1,)), alone, strict=False))


def test_a_dot_moves_twice_as_far_a_frame_at_half_the_rate(tmp_path: Path) -> None:
    """A dot goes round at constant speed; a flow learns that at three rates."""
    speed, rng = 0.25, np.random.default_rng(0)
    places = [rng.uniform(0, 7) + speed * np.arange(40) for _ in range(60)]
    clips = [np.stack([np.cos(p), np.sin(p)], 1)[:, :, None, None] for p in places]
    torch.manual_seed(0)
    top = FlowTop(
        FlowConfig(
            latent_shape=(2, 1, 1),
            patch=0,
            window=8,
            block=2,
            width=32,
            depth=2,
            heads=2,
            local_width=0,
            shared_noise=0.0,
            strides=STRIDES,
        )
    )
    level = TopLevel(FlowGame(top), write_rows(tmp_path, clips), batch_size=64, seed=0)
    optimizer = make_optimizer("muon", list(top.parameters()), lr=3e-3, betas=(0.9, 0.99))
    for step in range(200):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1, (200 - step) / 100)
        optimizer.zero_grad()
        level.game.players[0].loss(level.batch(step, Part(), CPU), Tick(0, Noise(step), None))[
            0
        ].backward()
        optimizer.step()
    for stride in STRIDES:
        blocks = top.sample(Rollout(20, stride=stride), generators(64))
        x, y = torch.cat(list(blocks), dim=1).flatten(2).unbind(-1)
        turned = torch.complex(x, y)
        step_length = (turned[:, 1:] / turned[:, :-1]).angle().median().item() / speed
        assert step_length == pytest.approx(stride, rel=0.15)


# -- the commands --------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A flow of one rate, one of three, and latents of their frame model, at 12 frames a second."""
    monkeypatch.chdir(tmp_path)
    shrink(monkeypatch.setattr)
    frame = save_frame(tmp_path / "frame")
    save_top(tmp_path / "one", frame)
    save_top(tmp_path / "rates", frame, config=RATES)
    write_latents(
        tmp_path / "latents", [70, 70, 3, 90] * 3, weights=checkpoints.fingerprint_of(frame)
    )
    return tmp_path


def train(root: Path, out: str = "top", **options: Any) -> Path:
    asked = {"steps": 4, "batch_size": 4, "seed": 1, "quiet": True, "strides": "1,2,4"} | options
    return train_top(latents=root / "latents", out=root / out, **asked)


@pytest.mark.parametrize(
    "options", [{"init": "one"}, {"few": True, "init": "rates"}], ids=["flow", "few"]
)
def test_a_run_that_was_stopped_goes_on_to_the_same_weights(
    root: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    whole = checkpoints.load_weights(train(root, **options))
    assert whole["condition.stride.weight"].any()
    update = Trainer.update

    def stopped(self: Trainer, share: float) -> Any:
        if self.step == 2:
            raise KeyboardInterrupt
        return update(self, share)

    monkeypatch.setattr(Trainer, "update", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(root, out="cut", **options)
    monkeypatch.setattr(Trainer, "update", update)
    again = checkpoints.load_weights(train(root, out="cut", **options))
    assert all(torch.equal(weight, again[name]) for name, weight in whole.items())
    assert load_top_model(root / "cut", device="cpu").model.strides == STRIDES


def test_a_flow_of_one_rate_starts_one_of_three_and_strides_are_taken_over(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train(root, init="one", steps=1, learning_rate=1e-12, quiet=False)
    assert "strides 1, 2, 4" in capfd.readouterr().err
    one, three = (checkpoints.load_weights(root / name) for name in ("one", "top"))
    assert three.keys() - one.keys() == {"condition.stride.weight"}
    torch.testing.assert_close(three["position"], one["position"])
    train(root, out="next", init=root / "top", steps=1, strides=None)
    assert load_top_model(root / "next", device="cpu").model.strides == STRIDES


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"strides": "1,8"},
            r"stride 8 takes 121 .* has 90: bring longer .* 8 out, or .*window 12",
        ),
        ({"strides": "1,8", "init": "one"}, r"longest has 90: bring longer clips, or leave 8 out$"),
        ({"strides": "1,2", "init": "rates"}, "rates has --strides 1,2,4: drop the option"),
        ({"few": True, "init": "one"}, "one has --strides 1: drop the option, or"),
        ({"kind": "mlp"}, "--strides 1,2,4: a flow alone can know several"),
        ({"strides": "2,4"}, "--strides 2,4: expected 1, then larger"),
    ],
    ids=str,
)
def test_strides_that_do_not_fit_are_refused_in_one_line(
    root: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said) as error:
        train(root, **options)
    assert "\n" not in str(error.value)
    assert not (root / "top").exists()


def test_a_video_is_made_at_the_rate_that_is_nearest(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = {"num_frames": 6, "seed": 3, "upscale": 1}
    expected = {}
    top = load_top_model(root / "rates", device="cpu").model
    for number, stride in enumerate(STRIDES):  # what a model makes that knows this stride alone
        save_top(root / "just", root / "frame", config=RATES)
        weights = dict(top.state_dict())
        weights["condition.stride.weight"] = weights["condition.stride.weight"][[number] * 3]
        checkpoints.save_weights(root / "just", weights)
        generate("just.png", top_model="just", quiet=True, **settings)
        expected[stride] = (root / "just.png").read_bytes()
    knows = "rates knows the rates 12, 6, 3 frames a second: the nearest to --fps is"
    for fps, stride, said in (
        (None, 1, None),
        (12, 1, None),
        (6, 2, None),
        (3, 4, None),
        (5, 2, f"{knows} 6, so the file plays 0.833 times as fast"),
        (1, 4, f"{knows} 3, so the file plays 0.333 times as fast"),
        (48, 1, f"{knows} 12, so the file plays 4 times as fast"),
    ):
        capfd.readouterr()
        generate("a.mp4", top_model="rates", fps=fps, **settings)
        told = [line for line in capfd.readouterr().err.splitlines() if " knows " in line]
        assert told == ([] if said is None else [f"generate: {said}"])
        generate("a.png", top_model="rates", fps=fps, quiet=True, **settings)
        assert (root / "a.png").read_bytes() == expected[stride]
        assert probe(root / "a.mp4").fps == (fps or 12)
    assert len(set(expected.values())) == len(STRIDES)


def test_clips_at_the_ends_are_taken_at_the_rate_too(root: Path) -> None:
    """What lies between the frames that count changes nothing."""
    clip = write_array(root / "a.npy", 70)
    frames = np.load(clip)
    other = frames.copy()
    other[np.arange(70) % 4 != 69 % 4] = 0
    np.save(root / "b.npy", other)
    made = {}
    for name in ("a.npy", "b.npy"):
        for fps in (3, 12):
            settings = {"top_model": "rates", "seed": 3, "fps": fps, "quiet": True, "upscale": 1}
            generate("g.png", start_from=name, num_frames=5, **settings)
            interpolate(name, "a.npy", out="i.png", num_frames=5, **settings)
            made[name, fps] = [(root / file).read_bytes() for file in ("g.png", "i.png")]
    assert made["a.npy", 3] == made["b.npy", 3]
    assert all(a != b for a, b in zip(made["a.npy", 12], made["b.npy", 12], strict=True))
    assert all(a != b for a, b in zip(made["a.npy", 12], made["a.npy", 3], strict=True))


def test_clips_are_compared_at_one_rate(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real clips of 12 frames a second are read at 6, and the flow makes 6."""
    write_judge(root / "judge.pt")
    (root / "real").mkdir()
    for number, frames in enumerate(moving_clips(20, num_frames=48, seed=1)):
        write_clip(root / "real" / f"{number}.mkv", list(frames), fps=12, **LOSSLESS)
    asked: list[int] = []
    make = judged.rollouts
    monkeypatch.setattr(
        judged, "rollouts", lambda *a, **o: asked.append(o["stride"]) or make(*a, **o)
    )

    def run(top: str, **options: Any) -> Any:
        settings = {"judge": "judge.pt", "num_clips": 20, "seed": 1, "quiet": True}
        return evaluate("real", top_model=top, **settings | options)

    whole, half = run("rates"), run("rates", fps=6)
    assert asked == [1, 2]
    moves = [found.rows["real"].change.moving_percent for found in (whole, half)]
    assert moves[1] > 1.2 * moves[0]
    for top, fps, knows in (
        ("rates", 5, "knows the rates 12, 6, 3 frames a second"),
        ("one", 6, "knows one rate, 12 frames a second"),
    ):
        with pytest.raises(UsageError, match=f"--fps {fps}: .*{top} {knows}; give one of these"):
            run(top, fps=fps)
    np.save(root / "real" / "untimed.npy", moving_clips(1, num_frames=48, seed=2)[0])
    with pytest.raises(UsageError, match=r"--fps 6: .*untimed\.npy has no frame rate of its own"):
        run("rates", fps=6)
