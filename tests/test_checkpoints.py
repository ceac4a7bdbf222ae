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


def damaged(config: dict[str, Any], **changes: Any) -> bytes:
    return json.dumps({k: v for k, v in (config | changes).items() if v is not None}).encode()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: b"", "is not a checkpoint's config"),
        (lambda c: b"[1]", "is not a checkpoint's config"),
        (lambda c: b"PK\xff" * 10_000, "is not a checkpoint's config"),
        (lambda c: damaged(c)[:-9], "is not a checkpoint's config"),
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
    (tmp_path / checkpoints.CONFIG).write_bytes(change(config))
    with pytest.raises(CheckpointError) as error:
        load_frame_model(tmp_path, device="cpu")
    assert said in message_of(error)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("frame", "holds a frame model, expected a top model"),
        ("nothing", "no checkpoint at .*nothing: expected a directory"),
        ("model", "expected 'model'"),
        ("frame_model", "expected 'frame_model'"),
    ],
)
def test_what_is_no_whole_top_model_is_refused(tmp_path: Path, part: str, said: str) -> None:
    pair = save_pair(tmp_path)
    top = pair / ("top" if "model" in part else part)
    if "model" in part:
        config = json.loads((top / checkpoints.CONFIG).read_text())
        (top / checkpoints.CONFIG).write_bytes(damaged(config, **{part: None}))
    with pytest.raises(CheckpointError, match=said):
        load_top_model(top, device="cpu")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda whole: None, "has no model.safetensors yet"),
        (lambda whole: b"", "is damaged"),
        (lambda whole: b"not tensors" * 9, "is damaged"),
        (lambda whole: whole[:-100], "is damaged"),
        (lambda whole: b"\xff" * 8 + whole[8:], "is damaged"),
    ],
    ids=["missing", "empty", "text", "cut", "header"],
)
def test_damaged_weights_are_refused_in_one_line(tmp_path: Path, damage: Any, said: str) -> None:
    path = save_frame(tmp_path) / checkpoints.WEIGHTS
    content = damage(path.read_bytes())
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        load_frame_model(tmp_path, device="cpu")
    assert said in message_of(error)


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


def test_where_nothing_can_be_locked_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def assert_refused(directory: Path, said: str) -> None:
        with pytest.raises(CheckpointError, match=said), checkpoints.lock(directory):
            pass

    def refuse(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    (tmp_path / "file").write_text("")
    assert_refused(tmp_path / "file" / "run", "cannot be used: Not a directory")
    monkeypatch.setattr(fcntl, "flock", refuse)
    assert_refused(tmp_path / "run", "No locks available; its file system has no such")
    spec = StoreSpec("latents", (4,), "float16", {})
    with pytest.raises(StoreError, match=r"No locks available.* its file system has no such"):
        StoreWriter(tmp_path / "store", spec)


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


@pytest.mark.parametrize(
    ("name", "known", "best"),
    [("pixels", None, 0.3), ("pixels", 0.5, 0.3), ("pixels", 0.2, 0.2), ("another", 0.2, 0.2)],
)
def test_the_best_score_is_the_lower_of_what_best_and_the_state_say(
    tmp_path: Path, name: str, known: float | None, best: float
) -> None:
    frame = save_frame(tmp_path)
    assert checkpoints.best_score(frame, name, known) == known
    weights = checkpoints.load_weights(frame)
    checkpoints.save_best(frame, weights, known={"step": 60, "pixels": 0.3})
    assert checkpoints.best_score(frame, name, known) == best
