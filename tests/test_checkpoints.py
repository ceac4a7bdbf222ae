"""Checkpoints: whole or as before, refused in one line where damaged, never running code."""

from __future__ import annotations

import errno
import fcntl
import io
import json
import os
import pathlib
import pickle
import random
import resource
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tiny_models import frame_model, save_frame, save_pair

from ldf_video.api import info
from ldf_video.errors import CheckpointError, LdfError, StoreError, WriteError
from ldf_video.runs.curve import write_curve
from ldf_video.runs.zoo import load_frame_model, load_top_model
from ldf_video.store.format import StoreSpec
from ldf_video.store.writer import StoreWriter
from ldf_video.training import checkpoints

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STATE: dict[str, Any] = {
    "step": 3,
    "elapsed_seconds": 1.5,
    "done": False,
    "networks": {"w": torch.arange(3.0)},
    "average": {},
    "optimizers": [],
}


def message_of(error: pytest.ExceptionInfo[LdfError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


# -- writing -------------------------------------------------------------------------------------


@pytest.fixture
def _small_files() -> Iterator[None]:
    """No file may grow past 10 kB: a disk that is full, for real."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("kind", ["state", "weights", "metrics"])
def test_a_full_disk_is_a_clear_error_and_keeps_what_was_there(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    save = {
        "state": lambda size: checkpoints.save_state(tmp_path, STATE | {"x": torch.zeros(size)}),
        "weights": lambda size: checkpoints.save_weights(tmp_path, {"x": torch.zeros(size)}),
        "metrics": lambda size: checkpoints.append_metrics(tmp_path, [{"step": 1}] * size),
    }[kind]
    save(10)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    request.getfixturevalue("_small_files")

    with pytest.raises(WriteError, match=r"cannot write .*: File too large; make room") as error:
        save(100_000)

    message_of(error)
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert after.keys() == before.keys()
    assert all(after[name].startswith(content) for name, content in before.items())
    if kind != "metrics":  # lines are added to: a torn last one is cut when the run goes on
        assert after == before


# -- config and weights --------------------------------------------------------------------------


def test_config_comes_back_with_its_version(tmp_path: Path) -> None:
    save_frame(tmp_path)
    config = checkpoints.load_config(tmp_path, kind="frame")
    assert config["format_version"] == checkpoints.FORMAT_VERSION
    assert config["model"]["base_width"] == 8


def damaged(config: dict[str, Any], **changes: Any) -> str:
    changed = config | changes
    return json.dumps({k: v for k, v in changed.items() if v is not None})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: "", "is not a checkpoint's config"),
        (lambda c: "[1]", "is not a checkpoint's config"),
        (lambda c: json.dumps(c)[:-9], "is not a checkpoint's config"),
        (lambda c: damaged(c, kind=None), "is not a checkpoint's config"),
        (lambda c: damaged(c, format_version=99), "has format 99, expected 1"),
        (lambda c: damaged(c, kind="other"), "holds a other model, expected a frame model"),
        (lambda c: damaged(c, kind=["top"]), "expected a frame model"),
        (lambda c: damaged(c, model=None), "expected 'model'"),
        (lambda c: damaged(c, model="large"), "expected 'model'"),
        (lambda c: damaged(c, frames={"height": 32}), "expected 'frames' with height, width"),
        (lambda c: damaged(c, model={"depth": 1, "colour": 2}), "colour"),
        (lambda c: damaged(c, model=c["model"] | {"height": 4}), "expected sides of 8 or more"),
        (lambda c: damaged(c, model=c["model"] | {"height": "big"}), "config.json"),
        (lambda c: damaged(c, model=c["model"] | {"base_width": 16}), "does not fit its config"),
        (lambda c: damaged(c, model=c["model"] | {"base_width": 9}), "config.json"),
    ],
)
def test_a_damaged_config_is_refused_in_one_line(tmp_path: Path, change: Any, said: str) -> None:
    config = json.loads((save_frame(tmp_path) / checkpoints.CONFIG).read_text())
    (tmp_path / checkpoints.CONFIG).write_text(change(config))
    with pytest.raises(CheckpointError) as error:
        load_frame_model(tmp_path, device="cpu")
    assert said in message_of(error)


@pytest.mark.parametrize("part", ["model", "frame_model"])
def test_a_top_model_without_a_part_is_refused(tmp_path: Path, part: str) -> None:
    top = save_pair(tmp_path) / "top"
    config = json.loads((top / checkpoints.CONFIG).read_text())
    (top / checkpoints.CONFIG).write_text(damaged(config, **{part: None}))
    with pytest.raises(CheckpointError, match=f"expected '{part}'"):
        load_top_model(top, device="cpu")


def test_a_missing_checkpoint_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*nothing: expected a directory"):
        checkpoints.load_config(tmp_path / "nothing")


def test_the_wrong_kind_names_both(tmp_path: Path) -> None:
    save_frame(tmp_path)
    with pytest.raises(CheckpointError, match="holds a frame model, expected a top model"):
        load_top_model(tmp_path, device="cpu")


def test_weights_come_back_and_load_as_float32(tmp_path: Path) -> None:
    model = frame_model(seed=3)
    save_frame(tmp_path)
    half = {name: tensor.half() for name, tensor in model.state_dict().items()}
    checkpoints.save_weights(tmp_path, half)

    loaded = load_frame_model(tmp_path, device="cpu").model

    assert not any(p.requires_grad or loaded.training for p in loaded.parameters())
    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, half[name].float())


@pytest.mark.parametrize("damage", ["missing", "empty", "text", "cut", "header"])
def test_damaged_weights_are_refused_in_one_line(tmp_path: Path, damage: str) -> None:
    path = save_frame(tmp_path) / checkpoints.WEIGHTS
    whole = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(
            {
                "empty": b"",
                "text": b"not tensors" * 9,
                "cut": whole[:-100],
                "header": b"\xff" * 8 + whole[8:],
            }[damage]
        )
    with pytest.raises(CheckpointError) as error:
        load_frame_model(tmp_path, device="cpu")
    assert ("has no model.safetensors yet" if damage == "missing" else "is damaged") in message_of(
        error
    )


def test_the_fingerprint_is_of_weights_and_shape_alone(tmp_path: Path) -> None:
    prints = {
        name: checkpoints.fingerprint_of(save_frame(tmp_path / name, seed=seed))
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    }
    assert len(prints["a"]) == 64
    assert prints["a"] == prints["b"] != prints["c"]

    config = checkpoints.load_config(tmp_path / "a")
    checkpoints.save_config(tmp_path / "a", config | {"trained": {"steps": 5}, "options": {"x": 1}})
    assert checkpoints.fingerprint_of(tmp_path / "a") == prints["a"]

    checkpoints.save_config(tmp_path / "a", config | {"model": config["model"] | {"depth": 7}})
    assert checkpoints.fingerprint_of(tmp_path / "a") != prints["a"]

    weights = checkpoints.load_weights(tmp_path / "b")
    next(iter(weights.values())).view(-1)[0] += 1e-3
    checkpoints.save_weights(tmp_path / "b", weights)
    assert checkpoints.fingerprint_of(tmp_path / "b") != prints["b"]


# -- state ---------------------------------------------------------------------------------------


def test_state_comes_back_and_none_is_none(tmp_path: Path) -> None:
    assert checkpoints.load_state(tmp_path) is None
    checkpoints.save_state(tmp_path, STATE)
    state = checkpoints.load_state(tmp_path)
    assert state is not None
    assert torch.equal(state.pop("networks")["w"], torch.arange(3.0))
    assert state == {name: value for name, value in STATE.items() if name != "networks"}


class _Trap:
    """Unpickled, it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("form", ["torch", "pickle"])
def test_a_state_that_would_run_code_is_refused_and_runs_none(tmp_path: Path, form: str) -> None:
    state, sprung = STATE | {"trap": _Trap(tmp_path / "sprung")}, tmp_path / "sprung"
    path = tmp_path / checkpoints.STATE
    if form == "torch":
        torch.save(state, path)
    else:
        path.write_bytes(pickle.dumps(state))
    with pytest.raises(CheckpointError, match="cannot be resumed from") as error:
        checkpoints.load_state(tmp_path)
    message_of(error)
    assert not sprung.exists()
    if form == "pickle":  # made above: without it a trap that never springs would pass
        pickle.loads(path.read_bytes())
        assert sprung.exists()


def saved(state: Any) -> bytes:
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello world",
        b".",
        b"\x80",
        saved(torch.zeros(3)),
        saved({"a": 1}),
        saved(STATE)[:-99],
    ],
    ids=["empty", "text", "stop", "byte", "tensor", "other", "cut"],
)
def test_a_damaged_state_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / checkpoints.STATE).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"cannot be resumed from: .*--no-resume") as error:
        checkpoints.load_state(tmp_path)
    message_of(error)


def test_flipped_bytes_never_raise_anything_else(tmp_path: Path) -> None:
    whole, rng = saved(STATE), random.Random(0)
    refused = 0
    for _ in range(100):
        damaged_bytes = bytearray(whole)
        for _ in range(4):
            damaged_bytes[rng.randrange(len(whole))] = rng.randrange(256)
        (tmp_path / checkpoints.STATE).write_bytes(damaged_bytes)
        try:
            checkpoints.load_state(tmp_path)
        except CheckpointError:
            refused += 1
    assert refused > 10


# -- metrics, moving, locking --------------------------------------------------------------------


def test_metrics_are_cut_to_the_saved_step(tmp_path: Path) -> None:
    checkpoints.append_metrics(tmp_path, [{"step": 20, "a": 1.0}, {"step": 40}])
    checkpoints.append_metrics(tmp_path, [{"step": 60}])
    with (tmp_path / checkpoints.METRICS).open("a") as file:
        file.write('{"step": 8')  # torn by a kill
    checkpoints.cut_metrics(tmp_path, after_step=40)
    lines = (tmp_path / checkpoints.METRICS).read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"step": 20, "a": 1.0}, {"step": 40}]
    checkpoints.cut_metrics(tmp_path / "nothing", after_step=0)
    assert not (tmp_path / "nothing").exists()


def test_move_aside_takes_the_next_free_name(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "file").write_text(str(number))
        assert checkpoints.move_aside(tmp_path / "run") == tmp_path / f"run.old-{number}"
    assert [p.read_text() for p in sorted(tmp_path.glob("*/file"))] == ["1", "2"]


HOLD = """
import sys
from pathlib import Path
from ldf_video.training.checkpoints import lock
with lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_directory_has_one_trainer_and_a_kill_frees_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with (
            pytest.raises(CheckpointError, match="in use by another training: wait"),
            checkpoints.lock(tmp_path),
        ):
            pass
        other.kill()
    with (
        checkpoints.lock(tmp_path),
        pytest.raises(CheckpointError, match="in use"),
        checkpoints.lock(tmp_path),
    ):
        pass


def test_a_file_system_without_locks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(CheckpointError, match=r"No locks available; its file system has no such"),
        checkpoints.lock(tmp_path / "run"),
    ):
        pass
    spec = StoreSpec("latents", (4,), "float16", {})
    with pytest.raises(StoreError, match=r"No locks available.* its file system has no such"):
        StoreWriter(tmp_path / "store", spec)


def test_a_directory_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(CheckpointError, match="cannot be used: Not a directory"),
        checkpoints.lock(tmp_path / "file" / "run"),
    ):
        pass


def test_what_may_not_be_read_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_frame(tmp_path)
    checkpoints.save_state(tmp_path, STATE)

    def refuse(path: Path, *arguments: Any, **options: Any) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(pathlib.Path, "open", refuse)
    monkeypatch.setattr(checkpoints.zipfile, "is_zipfile", refuse)
    for load, name in (
        (checkpoints.load_config, checkpoints.CONFIG),
        (checkpoints.load_weights, checkpoints.WEIGHTS),
        (checkpoints.load_state, checkpoints.STATE),
    ):
        with pytest.raises(CheckpointError) as error:
            load(tmp_path)
        assert message_of(error) == (
            f"{tmp_path / name} cannot be read: Permission denied; "
            "see to the permissions or restore it from a copy"
        )


def test_who_holds_a_directory_removes_what_a_kill_left_half_written(tmp_path: Path) -> None:
    left = [tmp_path / ".state.0a.part.pt", tmp_path / "best" / ".model.0b.part.safetensors"]
    (tmp_path / "best").mkdir()
    for path in left:
        path.write_text("half")
    with checkpoints.lock(tmp_path):
        assert not any(path.exists() for path in left)


def test_the_best_weights_are_a_checkpoint_inside_the_checkpoint(tmp_path: Path) -> None:
    save_frame(tmp_path)
    tensors = {name: t + 1 for name, t in frame_model().state_dict().items()}
    for step, score in ((5, 0.5), (9, 0.25)):
        checkpoints.save_best(tmp_path, tensors, known={"step": step, "pixels": score})
    best = load_frame_model(tmp_path / "best", device="cpu")
    assert best.config["best"] == {"step": 9, "pixels": 0.25}
    assert all(torch.equal(t, tensors[name]) for name, t in best.model.state_dict().items())
    assert "best" not in checkpoints.load_config(tmp_path)
    assert load_frame_model(tmp_path, device="cpu").fingerprint != best.fingerprint


def test_what_is_no_number_is_null_in_metrics_also_in_old_files(tmp_path: Path) -> None:
    nan, infinity = float("nan"), float("inf")
    checkpoints.append_metrics(tmp_path, [{"step": 1, "pixels": nan, "b": -infinity}])
    (line,) = (tmp_path / checkpoints.METRICS).read_text().splitlines()
    assert line == '{"step": 1, "pixels": null, "b": null}'
    with (tmp_path / checkpoints.METRICS).open("a") as file:
        file.write('{"step": 2, "pixels": NaN, "b": Infinity}\n{"step": 3, "pixels": 0.5}\n')
    assert checkpoints.read_metrics(tmp_path)[1] == {"step": 2, "pixels": None, "b": None}
    checkpoints.cut_metrics(tmp_path, after_step=3)
    assert "NaN" not in (tmp_path / checkpoints.METRICS).read_text()
    assert write_curve(tmp_path) == tmp_path / "curve.png"
    save_frame(tmp_path)
    assert json.dumps(info(tmp_path), allow_nan=False)


def test_the_best_score_is_the_lower_of_what_best_and_the_state_say(tmp_path: Path) -> None:
    save_pair(tmp_path)
    frame = tmp_path / "frame"
    assert checkpoints.best_score(frame, "pixels", None) is None
    assert checkpoints.best_score(frame, "pixels", 0.5) == 0.5
    weights = checkpoints.load_weights(frame)
    checkpoints.save_best(frame, weights, known={"step": 60, "pixels": 0.3})
    assert checkpoints.best_score(frame, "pixels", None) == 0.3
    assert checkpoints.best_score(frame, "pixels", 0.5) == 0.3
    assert checkpoints.best_score(frame, "pixels", 0.2) == 0.2
    assert checkpoints.best_score(frame, "another", 0.2) == 0.2


def test_a_config_that_is_no_text_is_named_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"PK\xff" * 10_000)
    with pytest.raises(
        CheckpointError, match=r"config\.json is not a checkpoint's config: .{1,80}$"
    ):
        checkpoints.load_config(tmp_path)
