"""Conditions: from a store through a top model to videos that do what they are told."""

from __future__ import annotations

import math
import sys
from dataclasses import asdict, replace
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import label_share
import numpy as np
import pytest
import torch
from latent_data import write_latents
from tiny_cli import shrink
from tiny_models import FEW, FLOW, flow, mlp, save_frame, save_top

from ldf_video.api import generate, train_top
from ldf_video.arrays.conditions import Column, Conditions
from ldf_video.errors import CheckpointError, UsageError
from ldf_video.levels.conditions import columns_of, told_frames
from ldf_video.levels.top_level import TopLevel
from ldf_video.models.build import top_model
from ldf_video.models.condition import Condition, column_features
from ldf_video.models.few import FewGame, student_config
from ldf_video.models.flow import FlowTop
from ldf_video.models.flow_config import ColumnConfig, FlowConfig
from ldf_video.models.flow_loss import FlowGame, velocity_loss
from ldf_video.models.game import Noise, Part, Tick
from ldf_video.models.rollout import KnownConditions, Rollout
from ldf_video.models.steady_pass import SteadyPasses
from ldf_video.recipes import generate as generating
from ldf_video.store import StoreReader, StoreSpec, StoreWriter
from ldf_video.training import checkpoints
from ldf_video.training.optim import make_optimizer

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS = (
    ColumnConfig("action", ("left", "right", "stay")),
    ColumnConfig("speed", (), mean=3.0, spread=2.0, low=0.0, high=9.0),
)
TOLD = replace(FLOW, columns=COLUMNS)
KEPT = replace(TOLD, kept=True)
SINGLE = replace(KEPT, block=1, shared_noise=0.0)
FORMS = {
    "anew": TOLD,
    "kept": KEPT,
    "few": replace(KEPT, renewed=True, sampling_steps=1),
    "single": SINGLE,
    "warm": replace(SINGLE, warm_up=3),
}
EACH_FORM = pytest.mark.parametrize("config", [FORMS[n] for n in ("anew", "few", "warm")])
NAN = math.nan


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(i) for i in range(count)]


def sample(top: Any, values: torch.Tensor | None, count: int = 13, **known: Any) -> torch.Tensor:
    told = None if values is None else KnownConditions(values)
    rollout = Rollout(count, conditions=told, **known)
    return torch.cat(list(top.sample(rollout, generators(2))), dim=1)


def told_flow(config: FlowConfig) -> FlowTop:
    """A flow whose conditions matter."""
    top = flow(config=config)
    assert top.condition is not None
    assert top.condition.columns.abs().sum() > 0
    return top


# -- the network ---------------------------------------------------------------------------------


@EACH_FORM
def test_conditions_change_nothing_before_any_training(config: FlowConfig) -> None:
    before = flow(config=replace(config, columns=()))
    top = FlowTop(config)
    missing, unknown = top.load_state_dict(before.state_dict(), strict=False)
    assert (missing, unknown) == (["condition.columns"], [])
    expected = sample(before, None)
    for values in (None, torch.zeros(1, 13, 2), torch.full((2, 13, 2), NAN)):
        assert torch.equal(sample(top, values), expected)


@EACH_FORM
def test_the_frames_of_a_past_are_told_each_its_own(config: FlowConfig) -> None:
    top = told_flow(config)
    size = config.block * (config.window // config.block - 1)  # as much as is seen
    past = torch.randn(2, size, *config.latent_shape, generator=torch.Generator().manual_seed(1))
    values = torch.zeros(1, 5, len(COLUMNS))

    def after(told: torch.Tensor | None) -> torch.Tensor:
        rollout = Rollout(5, past=past, conditions=KnownConditions(values, told))
        return torch.cat(list(top.sample(rollout, generators(2))), dim=1)

    unknown = torch.full((1, size, len(COLUMNS)), NAN)
    plain = after(None)
    assert torch.equal(after(unknown), plain)
    found = []
    for block in range(0, size, config.block):
        told = unknown.clone()
        told[:, block : block + config.block] = 1
        found.append(after(told))
    assert all(not torch.equal(one, plain) for one in found)
    assert all(not torch.equal(*pair) for pair in pairwise(found))
    long = torch.cat([torch.ones(1, 3, len(COLUMNS)), unknown], dim=1)  # older than what is seen
    assert torch.equal(after(long), plain)


@EACH_FORM
def test_what_leads_to_a_frame_acts_on_its_block_and_on_later_ones_alone(
    config: FlowConfig,
) -> None:
    top, values = told_flow(config), torch.ones(1, 13, 2)
    past = torch.randn(2, 16, *FLOW.latent_shape)
    for known in ({}, {"past": past}):
        first = sample(top, values, **known)
        other = values.clone()
        other[:, 7:, 0] = 2
        changed = (sample(top, other, **known) != first).flatten(2).any(2)
        begin = 7 // config.block * config.block
        assert not changed[:, :begin].any()
        assert changed[:, begin:].all()
        unknown = torch.full_like(values, NAN)
        assert torch.equal(sample(top, unknown, **known), sample(top, None, **known))


def test_each_video_is_told_its_own() -> None:
    top = told_flow(KEPT)
    values = torch.randint(0, 3, (2, 13, 2), generator=torch.Generator().manual_seed(3)).float()
    both = sample(top, values)
    alone = [
        torch.cat(
            list(
                top.sample(
                    Rollout(13, conditions=KnownConditions(values[i : i + 1])),
                    generators(2)[i : i + 1],
                )
            ),
            dim=1,
        )
        for i in range(2)
    ]
    torch.testing.assert_close(both, torch.cat(alone), rtol=1e-4, atol=1e-5)


class Keys:
    """What is held when a block is made."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.held = 0.0

    def conditions_in(self, first: int, count: int) -> torch.Tensor:
        self.asked.append((first, count))
        return torch.tensor([[[self.held, NAN]] * count])


@pytest.mark.parametrize("name", ["kept", "single", "warm"])
def test_a_live_source_is_asked_just_before_each_block(name: str) -> None:
    config = FORMS[name]
    top, keys = told_flow(config), Keys()
    blocks = top.sample(Rollout(sys.maxsize, conditions=keys), generators(1))
    made = []
    for number in range(8):
        keys.held = float(number % 3)
        made.append(next(blocks))
        assert keys.asked[-1] == (number * config.block, config.block)
    assert keys.asked[0] == (-config.warm_up * config.block, config.block)
    held = torch.arange(8).remainder(3).repeat_interleave(config.block)
    values = torch.stack([held.float(), torch.full_like(held, NAN, dtype=torch.float)], dim=-1)
    rollout = Rollout(8 * config.block, conditions=KnownConditions(values[None]))
    known = list(top.sample(rollout, generators(1)))
    if not config.warm_up:  # before its beginning nothing is known, or a key is held already
        torch.testing.assert_close(torch.cat(made, dim=1), torch.cat(known, dim=1))


@pytest.mark.parametrize("top", [flow(), mlp()], ids=["flow", "mlp"])
def test_a_model_that_knows_no_conditions_refuses_them(top: Any) -> None:
    rollout = Rollout(top.fixed_frames or 4, conditions=KnownConditions(torch.zeros(1, 4, 1)))
    with pytest.raises(ValueError, match="conditions: expected none"):
        next(top.sample(rollout, generators(1)))


@pytest.mark.parametrize("config", [KEPT, SINGLE], ids=["kept", "single"])
def test_the_passes_of_a_long_video_are_told_what_others_are(config: FlowConfig) -> None:
    top, numbers, block = told_flow(config), torch.Generator().manual_seed(0), config.block
    count = config.reach // block + 2
    blocks = [torch.randn(2, block, 64, generator=numbers) for _ in range(count)]
    told = [
        Condition.of(1, values=torch.randint(0, 3, (2, block, 2), generator=numbers).float())
        for _ in range(count)
    ]
    with torch.no_grad():
        seen = None
        for one, of_one in zip(blocks[:-2], told[:-2], strict=True):
            seen = top.remember_block(one, seen, of_one)
        assert seen is not None
        assert top.is_full(seen)
        steady = SteadyPasses(top).after(blocks[-2], seen, told=(told[-2], told[-1]))
        past = top.remember_block(blocks[-2], seen, told[-2])
        for level in top.sampling_levels(config.sampling_steps)[:-1]:
            found, u = steady(blocks[-1], level), torch.full((1, 1), level)
            expected = top.velocity(blocks[-1], u, condition=told[-1], past=past)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(steady.past[-1], past[-1], rtol=1e-4, atol=1e-5)


def test_values_as_features() -> None:
    values = torch.tensor([[1.0, 5.0], [NAN, NAN], [7.0, 3.0], [0.5, math.inf]])
    assert column_features(values, COLUMNS).tolist() == [
        [0, 1, 0, 1, 1],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0],
    ]


def test_configs_come_back_from_json_and_old_ones_have_no_columns() -> None:
    import json

    again = top_model({"kind": "flow", **json.loads(json.dumps(asdict(TOLD)))})
    assert again.config == TOLD
    assert again.columns == COLUMNS
    old = {name: value for name, value in asdict(FLOW).items() if name != "columns"}
    assert top_model({"kind": "flow", **old}).columns == ()
    with pytest.raises(ValueError, match="column x: spread 0, expected more than 0"):
        ColumnConfig("x", spread=0)


# -- training ------------------------------------------------------------------------------------


def batch(config: FlowConfig, b: int = 4) -> tuple[torch.Tensor, torch.Tensor, Condition]:
    numbers = torch.Generator().manual_seed(5)
    latents = torch.randn(b, config.window, *config.latent_shape, generator=numbers)
    values = torch.randint(0, 3, (b, config.window, 2), generator=numbers).float()
    mask = torch.ones(b, config.window, dtype=torch.bool)
    return latents, mask, Condition(torch.ones(b, dtype=torch.long), values)


@pytest.mark.parametrize("config", [TOLD, KEPT, SINGLE], ids=["anew", "kept", "single"])
def test_the_loss_is_that_of_its_parts_and_depends_on_what_is_told(config: FlowConfig) -> None:
    top = told_flow(config)
    latents, mask, told = batch(config)

    def loss(values: torch.Tensor | None, part: Part = Part()) -> float:  # noqa: B008
        rows = None if values is None else part.rows(values)
        here = Condition(part.rows(told.stride), rows)
        given = part.rows(latents), part.rows(mask), here
        return velocity_loss(top, *given, noise=Noise(0, part))[0].item()

    whole = loss(told.values)
    parts = [loss(told.values, Part(i, 4)) for i in range(4)]
    assert np.mean(parts) == pytest.approx(whole, rel=1e-5)
    assert loss(2 - told.values) != whole
    assert loss(torch.full_like(told.values, NAN)) == pytest.approx(loss(None), rel=1e-6)


def test_some_windows_are_told_nothing_and_no_chance_is_drawn_where_nothing_is_known() -> None:
    top = told_flow(KEPT)
    latents, mask, told = batch(KEPT, 64)
    seen: list[Condition | None] = []
    real = top.after_blocks

    def watched(*args: Any, condition: Condition | None = None, **more: Any) -> Any:
        seen.append(condition)
        return real(*args, condition=condition, **more)

    top.after_blocks = watched  # type: ignore[method-assign]
    FlowGame(top)._loss((latents, mask, told), Tick(0.0, Noise(0), None))
    assert seen[0] is not None
    untold = seen[0].values.isnan().all(-1).all(-1)
    assert 2 <= untold.sum() <= 25
    assert torch.equal(seen[0].values[~untold], told.values[~untold])
    plain = Condition(told.stride)
    one = FlowGame(top)._loss((latents, mask, plain), Tick(0.0, Noise(1), None))[0]
    two = velocity_loss(top, latents, mask, plain, noise=Noise(1))[0]
    assert torch.equal(one, two)


@pytest.mark.parametrize("config", [KEPT, SINGLE], ids=["blocks", "single"])
def test_teacher_student_and_critic_are_told_the_same(config: FlowConfig) -> None:
    few = replace(FEW, depths=(1,), first_depths=(1,))
    teacher = told_flow(replace(config, window=8))
    game = FewGame(FlowTop(student_config(teacher.config, few)), few)
    game.teach(teacher)
    latents, mask, told = batch(teacher.config)
    watched: list[tuple[str, Any]] = []

    def losses(values: torch.Tensor) -> list[float]:
        tick = Tick(0.5, Noise(0), game.kind(1, 0.5))
        given = latents, mask, Condition(told.stride, values)
        return [player.loss(given, tick)[0].item() for player in game.players]

    first = losses(told.values)
    assert losses(told.values) == first
    assert all(a != b for a, b in zip(losses(2 - told.values), first, strict=True))
    del watched
    measured = game.measure(teacher, latents, mask, told, noise=Noise(0))
    assert all(map(math.isfinite, measured.values()))


def test_a_toy_flow_learns_to_move_a_dot_as_it_is_told() -> None:
    """A dot on a ring of 6 cells goes one cell left or right a frame, or stays."""
    torch.manual_seed(0)
    config = FlowConfig(
        latent_shape=(1, 1, 6),
        patch=0,
        window=2,
        block=1,
        width=64,
        depth=1,
        heads=2,
        local_width=0,
        shared_noise=0.0,
        kept=True,
        columns=(ColumnConfig("action", ("left", "right", "stay")),),
    )
    top = FlowTop(config)
    top.set_statistics(torch.full((1, 1, 6), 1 / 6), torch.full((1, 1, 6), 0.37))
    optimizer = make_optimizer("muon", top.parameters(), lr=3e-3, betas=(0.9, 0.99))
    game, numbers, b = FlowGame(top), np.random.default_rng(0), 128
    mask, stride = torch.ones(b, 2, dtype=torch.bool), torch.ones(b, dtype=torch.long)
    for step in range(150):
        places, actions = play(numbers, b, 2)
        told = Condition(stride, torch.from_numpy(actions).float().unsqueeze(-1))
        loss, _ = game._loss((dots(places), mask, told), Tick(0.0, Noise(step), None))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    n, t = 64, 12
    _, actions = play(numbers, n, t)
    values = torch.from_numpy(actions).float().unsqueeze(-1)
    rollout = Rollout(t, conditions=KnownConditions(values))
    made = torch.cat(list(top.sample(rollout, generators(n))), dim=1).flatten(2).argmax(-1)
    moved = (made[:, 1:] - made[:, :-1]) % 6
    wanted = torch.from_numpy(MOVES[actions[:, 1:]]) % 6
    assert (moved == wanted).float().mean() > 0.6
    assert (moved == wanted.roll(1, 0)).float().mean() < 0.45  # what others were told
    assert (moved[:, 1:] == wanted[:, :-1]).float().mean() < 0.45  # what led to the frame before


MOVES = np.array([-1, 1, 0])


def play(numbers: np.random.Generator, n: int, t: int) -> tuple[np.ndarray, np.ndarray]:
    """Places (n, t) of dots, and the actions that led to them; the first one led from nowhere."""
    actions = numbers.integers(3, size=(n, t))
    moves = MOVES[actions]
    moves[:, 0] = numbers.integers(6, size=n)
    return moves.cumsum(1) % 6, actions


def dots(places: np.ndarray) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.from_numpy(places), 6).float()[:, :, None, None]


# -- from a store to a file ----------------------------------------------------------------------


def write_told(path: Path, lengths: list[int], *, untold: int = 0, weights: str) -> StoreReader:
    """Latents with an action and a speed; of the first `untold` clips nothing is known."""
    write_latents(path, lengths[:untold], weights=weights)
    spec = StoreSpec("latents", (4, 4, 4), "float16", {"weights": weights, "fps": None})
    columns = (Column("action", ("stay", "left", "right")), Column("speed"))
    with StoreWriter(path, spec) as writer:
        for number, length in list(enumerate(lengths))[untold:]:
            chance, name = np.random.default_rng(number), f"{number:03}"
            rows = chance.normal(3, 2, (length, 4, 4, 4)).astype("f2")
            values = np.stack(
                [chance.integers(3, size=length), chance.integers(10, size=length)], axis=1
            )
            known = Conditions(columns, values.astype(np.float32))
            assert writer.begin_conditions(name, columns) == ""
            writer.append(name, rows, fps=Fraction(12), conditions=known)
            writer.finish_clip(name, fps=Fraction(12))
            writer.set_source(name, size=1, mtime_ns=1, clip_ids=[name])
    return StoreReader(path)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    save_frame(tmp_path / "checkpoints" / "frame")
    weights = checkpoints.fingerprint_of(tmp_path / "checkpoints" / "frame")
    write_told(tmp_path / "latents", [20, 30, 9], untold=1, weights=weights)
    monkeypatch.chdir(tmp_path)
    shrink(monkeypatch.setattr)
    return tmp_path


SMALL = {"steps": 1, "batch_size": 2, "seed": 0, "quiet": True, "optimizer": "adam"}


def test_windows_are_told_what_the_store_knows_in_the_flows_own_columns(tmp_path: Path) -> None:
    reader = write_told(tmp_path, [20, 30, 9], untold=1, weights="ab" * 32)
    learned = columns_of(reader)
    assert [column["name"] for column in learned] == ["action", "speed"]
    assert learned[0]["names"] == ("left", "right", "stay")
    values = np.concatenate(
        [reader.conditions([c], [0], length=n)[0] for c, n in ((1, 30), (2, 9))]
    )
    assert learned[1]["mean"] == pytest.approx(values[:, 1].mean())
    assert learned[1]["spread"] == pytest.approx(values[:, 1].std())
    assert (learned[1]["low"], learned[1]["high"]) == (0, 9)
    config = replace(
        FLOW,
        strides=(1, 2),
        columns=(ColumnConfig("other"), ColumnConfig("action", ("up", "stay", "left"))),
    )
    level = TopLevel(FlowGame(FlowTop(config)), reader, batch_size=32, seed=0)
    windows = level.batch(3, Part(), torch.device("cpu"))
    assert windows.condition is not None
    told = windows.condition.values
    assert told is not None
    assert told[..., 0].isnan().all()
    assert told[..., 1].isnan().all(1).any()  # the clip of which nothing is known
    of_clips = {}
    for clip in (1, 2):
        length = int(reader.lengths[clip])
        rows = reader.read(clip, 0, length)
        own = reader.conditions([clip], [0], length=length)[0][:, 0]
        of_clips |= {row.tobytes(): code for row, code in zip(rows, own, strict=True)}
    codes = {0.0: 2.0, 1.0: NAN, 2.0: 1.0}  # left, right, stay in the flow's codes
    for window, mask, values in zip(windows.latents, windows.mask, told[..., 1], strict=True):
        for row, value in zip(window[mask], values[mask], strict=True):
            code = of_clips.get(row.numpy().astype("f2").tobytes())
            expected = NAN if code is None else codes[code]
            assert value.item() == expected or (value.isnan() and math.isnan(expected))


def test_a_share_of_the_clips_keeps_its_conditions(tmp_path: Path) -> None:
    write_told(tmp_path / "latents", [20, 30, 9, 4], weights="")
    assert label_share.copy(tmp_path / "latents", tmp_path / "half", share=0.5, seed=0) == 2
    before, after = (StoreReader(tmp_path / name) for name in ("latents", "half"))
    assert (after.clip_ids, after.columns) == (before.clip_ids, before.columns)
    told = 0
    for clip, length in enumerate(before.lengths):
        assert np.array_equal(after.read(clip, 0, length), before.read(clip, 0, length))
        old, new = (store.conditions([clip], [0], length=length) for store in (before, after))
        told += not np.isnan(new).all()
        assert np.isnan(new).all() or np.array_equal(new, old, equal_nan=True)
    assert told == 2


@pytest.mark.parametrize("more", [{}, {"block": 1, "window": 6}, {"conditions": "off"}], ids=str)
def test_train_top_tells_what_is_stored_and_resumes(root: Path, more: dict[str, Any]) -> None:
    train_top(out="checkpoints/top", **SMALL, **more)
    model = checkpoints.load_config(root / "checkpoints" / "top")["model"]
    names = [column["name"] for column in model["columns"]]
    assert names == ([] if "conditions" in more else ["action", "speed"])
    if "block" in more:
        assert (model["block"], model["kept"], model["shared_noise"]) == (1, True, 0.0)
        assert model["window"] == 6
    other = {"conditions": "off"} if "conditions" not in more else {"block": 1}
    with pytest.raises(CheckpointError, match="drop the option to go on with the run"):
        train_top(out="checkpoints/top", **SMALL | {"steps": 3}, **other)
    if more:
        return
    train_top(out="checkpoints/top", **SMALL | {"steps": 2})
    train_top(out="again", init="checkpoints/top", **SMALL)
    assert checkpoints.load_config(root / "again")["model"]["columns"] == model["columns"]
    with pytest.raises(UsageError, match="--conditions off: --init checkpoints/top is told"):
        train_top(out="off", init="checkpoints/top", conditions="off", **SMALL)
    train_top(out="one", init="checkpoints/top", block=1, **SMALL)
    one = checkpoints.load_config(root / "one")["model"]
    assert (one["block"], one["kept"], one["shared_noise"]) == (1, True, 0.0)
    assert one["columns"] == model["columns"]
    with pytest.raises(UsageError, match="--block 1: --init checkpoints/top makes blocks of 4, an"):
        train_top(out="few", init="checkpoints/top", block=1, few=True, **SMALL)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "mlp", "block": 1}, "--block 1: a flow alone has blocks; drop it"),
        ({"block": 20}, "--block 20: windows of 16 frames hold no two such blocks"),
    ],
)
def test_blocks_that_cannot_be_are_refused(root: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        train_top(out="top", **SMALL, **options)
    assert not (root / "top").exists()


FILE = "action,speed\nleft,3\n,\nright,\n\nstay,2.5\n"


def test_generate_does_as_it_is_told(root: Path) -> None:
    save_top(root / "checkpoints" / "top", root / "checkpoints" / "frame", config=SINGLE)
    common: dict[str, Any] = {"num_frames": 8, "seed": 1, "quiet": True, "upscale": 1}

    def made(**options: Any) -> bytes:
        (path,) = generate("out.png", **common, **options).paths
        return path.read_bytes()

    plain = made()
    assert made(condition="action=left") == made(condition={"action": "left"}) != plain
    assert made(condition=["action=left", "speed=3"]) != made(condition="action=left")
    (root / "told.csv").write_text(FILE)
    by_file = made(conditions="told.csv")
    assert by_file != plain
    named = np.array(
        [("left", 3), ("", NAN), ("right", NAN), ("", NAN), ("stay", 2.5)],
        dtype=[("action", "U8"), ("speed", "f4")],
    )
    np.save(root / "told.npy", named)
    assert made(conditions="told.npy") == by_file
    assert made(conditions="told.csv", condition="action=stay") not in (by_file, plain)


def test_a_file_that_ends_early_is_said_before_the_frames_are_made(
    root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def sampled(*arguments: Any, **options: Any) -> Any:
        raise ZeroDivisionError

    save_top(root / "checkpoints" / "top", root / "checkpoints" / "frame", config=KEPT)
    (root / "few.csv").write_text(FILE)
    monkeypatch.setattr(generating, "_sampled", sampled)
    line = "generate: few.csv has 5 rows: the frames behind its end are told nothing by it\n"
    for num_frames in (5, 6):
        with pytest.raises(ZeroDivisionError):
            generate("out.png", num_frames=num_frames, conditions="few.csv")
        assert (line in capfd.readouterr().err) == (num_frames > 5)


def test_the_clip_that_is_gone_on_from_tells_its_own(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    save_top(root / "checkpoints" / "top", root / "checkpoints" / "frame", config=SINGLE)
    np.save(root / "a.npy", np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3), np.uint8))
    common: dict[str, Any] = {"num_frames": 4, "seed": 1, "upscale": 1, "start_from": "a.npy"}

    def made(rows: list[str] | None, **options: Any) -> tuple[bytes, str]:
        (root / "a.csv").unlink(missing_ok=True)
        if rows is not None:
            (root / "a.csv").write_text("\n".join(["action", *rows]))
        (path,) = generate("out.png", **common, **options).paths
        return path.read_bytes(), capfd.readouterr().err

    left, right = ["left"] * 8, ["left"] * 7 + ["right"]
    told = {"condition": "action=stay"}
    plain, _ = made(None, **told)
    files = [made(rows, **told) for rows in (left, right)]
    assert len({plain, *(file for file, _ in files)}) == 3
    assert all("the frames of a.npy are told by its own conditions" in said for _, said in files)
    untold, said = made(left)
    assert untold == made(None)[0]
    assert "a.npy has conditions, action (left): told with --condition or --conditions" in said
    assert made(["jump"] * 8, **told) == (plain, made(None, **told)[1])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"condition": "jump=1"}, r"--condition jump=1: the top model knows action \(left, right"),
        ({"condition": "action=up"}, "--condition action=up: action is one of left, right, stay"),
        ({"condition": "speed=fast"}, "--condition speed=fast: speed is a number, such as 9"),
        ({"condition": "speed=nan"}, "--condition speed=nan: speed is a number"),
        ({"condition": "speed"}, "--condition speed: expected NAME=VALUE"),
        ({"condition": "action=left", "loop": True}, "a loop is told nothing; drop one"),
        ({"conditions": "gone.csv"}, "--conditions gone.csv: No such file"),
        ("jump\n1\n", "--conditions told.csv: column 'jump': the top model knows action"),
        ("action\nup\n", "--conditions told.csv: action is 'up': the top model knows action"),
        ("speed\nfast\n", "--conditions told.csv: speed is 'fast': the top model knows"),
        ("speed\n\n1\nnan\n", "told.csv: line 4: speed is nan: leave the cell empty where unknown"),
        ("1,2\n1,2\n", "told.csv: its first line is 1,2: it is to name the columns"),
        ("speed\n1,2\n", "told.csv: line 2 has 2 values, for 1 columns"),
        ("speed\n1\nx\n", "told.csv: line 3: speed is 'x', expected a number as before"),
        ("a,a\n1,2\n", "told.csv: two columns 'a': each needs another name"),
    ],
)
def test_what_cannot_be_told_is_refused_in_one_line(root: Path, options: Any, said: str) -> None:
    save_top(root / "checkpoints" / "top", root / "checkpoints" / "frame", config=KEPT)
    if isinstance(options, str):
        (root / "told.csv").write_text(options)
        options = {"conditions": "told.csv"}
    with pytest.raises(UsageError, match=said):
        generate("out.mp4", num_frames=4, quiet=True, **options)
    assert not (root / "out.mp4").exists()


def test_a_model_without_conditions_is_told_none(root: Path) -> None:
    save_top(root / "checkpoints" / "top", root / "checkpoints" / "frame")
    with pytest.raises(UsageError, match="--condition: checkpoints/top learned without conditions"):
        generate("out.mp4", num_frames=4, quiet=True, condition="left=1")


def test_names_that_are_whole_numbers_are_told_by_numbers() -> None:
    columns = [ColumnConfig("action", ("0", "2", "11"))]
    known = Conditions((Column("action"),), np.array([[11], [0], [NAN]], np.float32))
    np.testing.assert_array_equal(told_frames(columns, known, [], count=3), [[[2.0], [0.0], [NAN]]])
    for wrong in (1, 2.5, 12, -1):
        known = Conditions((Column("action"),), np.array([[wrong]], np.float32))
        with pytest.raises(UsageError, match=rf"action is {wrong}: the top model knows action \(0"):
            told_frames(columns, known, [], count=1)


def test_told_frames_behind_the_end_of_a_file_are_unknown() -> None:
    known = Conditions((Column("speed"),), np.array([[1.0], [2.0]], np.float32))
    told = told_frames(COLUMNS, known, ["action=stay"], count=3)
    np.testing.assert_array_equal(told, [[[2, 1], [2, 2], [2, NAN]]])
