"""train-top --few: from a flow to a student, resumed bit for bit, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from latent_data import write_latents
from ship_model import ship
from tiny_cli import shrink
from tiny_models import FLOW, save_frame, save_top

from ldf_video.api import generate, train_top
from ldf_video.errors import CheckpointError, StoreError, UsageError
from ldf_video.runs import zoo
from ldf_video.runs.zoo import load_top_model
from ldf_video.training import checkpoints
from ldf_video.training.loop import Trainer

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A flow and latents of its frame model."""
    monkeypatch.chdir(tmp_path)
    shrink(monkeypatch.setattr)
    frame = save_frame(tmp_path / "frame")
    save_top(tmp_path / "flow", frame)
    lengths = [20, 20, 3, 40] * 6
    write_latents(tmp_path / "latents", lengths, weights=checkpoints.fingerprint_of(frame))
    return tmp_path


def train(root: Path, out: str = "top", **options: Any) -> Path:
    asked = {"steps": 6, "batch_size": 4, "seed": 1, "quiet": True, "few": True}
    asked |= {"init": root / "flow"} | options
    return train_top(latents=root / "latents", out=root / out, **asked)


def test_a_student_makes_videos_of_any_length_in_few_passes(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train(root, quiet=False)
    said = capfd.readouterr().err
    assert "is the teacher" in said
    assert "squared distance from the teacher" in said
    flow, student = (load_top_model(root / name, device="cpu").model for name in ("flow", "top"))
    c = student.config
    assert (c.kept, c.renewed, c.first_steps, c.sampling_steps) == (True, True, 4, 1)
    assert c.warm_up == 8
    assert torch.equal(student.latent_mean, flow.latent_mean)
    assert not torch.equal(student.head.weight, flow.head.weight)
    lines = checkpoints.read_metrics(root / "top")
    assert not {"game", "discriminator"} & lines[0].keys()  # the first tenth is the teacher's
    assert {"distance", "game", "discriminator", "moves"} <= lines[4].keys()
    made = generate(out=root / "a.mp4", top_model=root / "top", num_frames=21, quiet=True)
    assert made.num_frames == 21


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = checkpoints.load_weights(train(root))
    update = Trainer.update

    def stopped(self: Trainer, share: float) -> Any:
        if self.step == 4:
            raise KeyboardInterrupt
        return update(self, share)

    monkeypatch.setattr(Trainer, "update", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(root, out="cut")
    monkeypatch.setattr(Trainer, "update", update)
    state = checkpoints.load_state(root / "cut")
    assert state is not None
    assert state["step"] == 4
    again = checkpoints.load_weights(train(root, out="cut"))
    assert all(torch.equal(weight, again[name]) for name, weight in whole.items())


def test_a_student_goes_on_without_few_typed_again(root: Path) -> None:
    train(root, steps=1)
    train(root, steps=2, few=None, init=None)
    state = checkpoints.load_state(root / "top")
    assert state is not None
    assert state["step"] == 2
    train(root, "flow-again", steps=1, few=None)
    for few, out in ((False, "top"), (True, "flow-again")):
        with pytest.raises(CheckpointError, match=f"asked for --few {few}: drop the option"):
            train(root, out, steps=3, few=few, init=None)


def test_a_flow_that_keeps_its_past_is_a_teacher_as_it_is(root: Path) -> None:
    save_top(root / "kept", root / "frame", config=replace(FLOW, kept=True))
    train(root, init=root / "kept", steps=1)
    state = checkpoints.load_state(root / "top")
    assert state is not None
    flow = load_top_model(root / "kept", device="cpu").model
    for name, weight in flow.state_dict().items():
        assert torch.equal(state["networks"][f"teacher.{name}"], weight)


def test_what_is_no_teacher_is_refused(root: Path) -> None:
    with pytest.raises(UsageError, match="--few without --init: name a flow to learn from"):
        train(root, init=None)
    train(root, steps=1)
    for few in (True, False):
        with pytest.raises(UsageError, match=r"takes few passes.*: name the one it .*/flow$"):
            train(root, out="again", init=root / "top", few=few)
    (root / "flow").rename(root / "gone")
    save_top(root / "flow", root / "frame", seed=9)
    with pytest.raises(
        UsageError, match=r"takes few passes.*: name the one it came from, /.*/gone$"
    ):
        train(root, out="again", init=root / "top")
    config = checkpoints.load_config(root / "top")
    config["init"]["fingerprint"] = "0" * 64
    checkpoints.save_config(root / "top", config)
    with pytest.raises(UsageError, match=r"takes few passes.*: name the one it came from$"):
        train(root, out="again", init=root / "top")
    save_top(root / "mlp", root / "frame", kind="mlp")
    with pytest.raises(UsageError, match=r"--few --init .*mlp: expected a flow"):
        train(root, out="again", init=root / "mlp")


def test_a_flow_that_is_shipped_under_another_name_is_found(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = root / "shipped"
    one, flow = shipped / "one", shipped / "one-flow"
    save_top(one / "top", save_frame(one / "frame"), seed=5)
    models = {"one": one}
    monkeypatch.setattr(zoo, "shipped_models", lambda: models)
    train(root, out="own", init="one", few=False, steps=1)
    train(root, out="student", init="one", steps=1)
    before = {out: checkpoints.load_weights(root / out) for out in ("own", "student")}
    (flow).mkdir()
    (one / "top").rename(flow / "top")
    models["one-flow"] = flow
    ship("top", root / "student", one / "top")
    ship("top", root / "own", shipped / "two" / "top", frame_model="one")
    for out, weights in before.items():  # without a state a run begins again
        (root / out / checkpoints.STATE).unlink()
        train(root, out=out, init="one", few=out == "student", steps=1)
        again = checkpoints.load_weights(root / out)
        assert all(torch.equal(weight, again[name]) for name, weight in weights.items())
    with pytest.raises(UsageError, match=r"--init one: .*: name the one it came from, one-flow$"):
        train(root, out="again", init="one", few=False)
    known = checkpoints.load_config(one / "top")
    assert known["init"].keys() == {"from", "fingerprint"}
    assert (known["init"]["from"], known["options"]["init"]) == ("one-flow", "one-flow")
    places = [
        checkpoints.load_config(at)["frame_model"]["relative"]
        for at in (one / "top", shipped / "two" / "top")
    ]
    assert places == ["../frame", "../../one/frame"]


def test_clips_that_are_shorter_than_the_window_are_refused(root: Path) -> None:
    weights = checkpoints.fingerprint_of(root / "frame")
    write_latents(root / "short", [9, 9], weights=weights)
    with pytest.raises((UsageError, StoreError), match="bring longer clips"):
        train_top(
            latents=root / "short",
            out=root / "top",
            init=root / "flow",
            few=True,
            steps=1,
            quiet=True,
        )


def test_a_teacher_of_other_latents_is_refused(root: Path) -> None:
    other = save_frame(root / "other", seed=5)
    save_top(root / "stranger", other)
    with pytest.raises(UsageError, match=r"stranger: it learned latents of .*, the store"):
        train(root, init=root / "stranger")
    assert not (root / "top").exists()
