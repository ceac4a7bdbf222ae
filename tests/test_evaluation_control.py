"""Control: told from one that does what it is told, and from one that does not listen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from latent_data import write_latents
from tiny_judge import write_judge
from tiny_models import FLOW, save_frame, save_top
from torch import Tensor

from ldf_video import progress
from ldf_video.api import evaluate
from ldf_video.arrays.conditions import Column, Conditions
from ldf_video.errors import LdfError, UsageError
from ldf_video.evaluation import control
from ldf_video.evaluation.control import measure_control
from ldf_video.models.flow_config import ColumnConfig
from ldf_video.models.rollout import Rollout
from ldf_video.models.top import TopModel
from ldf_video.store.format import StoreSpec
from ldf_video.store.reader import StoreReader
from ldf_video.store.writer import StoreWriter

MOVES = np.array([-1, 1, 0])
NAMES = ("left", "right", "stay")


def write_store(path: Path, lengths: Sequence[int]) -> StoreReader:
    """A dot on a ring of 6 cells, which goes left or right or stays as it is told."""
    columns = (Column("stick", NAMES), Column("speed"))
    with StoreWriter(path, StoreSpec("latents", (1, 1, 6), "float16", {"weights": ""})) as writer:
        for number, length in enumerate(lengths):
            chance, name = np.random.default_rng(number), f"{number:03}"
            actions = chance.integers(3, size=length)
            rows = np.eye(6, dtype="f2")[MOVES[actions].cumsum() % 6][:, None, None]
            values = np.stack([actions, np.zeros(length)], axis=1).astype(np.float32)
            values[::7] = np.nan
            writer.begin_conditions(name, columns)
            writer.append(name, rows, fps=Fraction(9), conditions=Conditions(columns, values))
            writer.finish_clip(name, fps=Fraction(9))
            writer.set_source(name, size=1, mtime_ns=1, clip_ids=[name])
    return StoreReader(path)


class Ring(TopModel):
    """The world itself, or one that does as it likes."""

    columns = (ColumnConfig("stick", NAMES), ColumnConfig("speed"))

    def __init__(self, *, listens: bool) -> None:
        super().__init__(SimpleNamespace(latent_shape=(1, 1, 6), window=4))
        self._listens = listens

    def sample(self, rollout: Rollout, generators: Sequence[torch.Generator]) -> Iterator[Tensor]:
        """Frame by frame."""
        assert rollout.past is not None
        place = rollout.past[:, -1].flatten(1).argmax(1)
        for frame in range(rollout.num_frames):
            own = torch.stack([torch.randint(3, (), generator=one) for one in generators])
            told = torch.full((len(own),), torch.nan)
            if rollout.conditions is not None:
                told = rollout.conditions.conditions_in(frame, 1)[:, 0, 0]
            action = torch.where(told.isfinite(), told, own) if self._listens else own
            place = (place + torch.from_numpy(MOVES)[action.long()]) % 6
            yield torch.nn.functional.one_hot(place, 6).float()[:, None, None, None]


class Pixels:
    """A frame model: a cell is four pixels, white or black."""

    def decode(self, z: Tensor) -> Tensor:
        """Frames of latents."""
        return (2 * z - 1).repeat(1, 3, 4, 1).repeat_interleave(4, dim=3)


def measured(store: StoreReader, *, listens: bool) -> control.Control:
    frame: Any = Pixels()
    return measure_control(Ring(listens=listens), frame, store, num_windows=96)


def test_who_listens_is_read_back_and_who_does_not_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "UPDATES", 150)
    store = write_store(tmp_path, [60] * 24)
    told, deaf = (measured(store, listens=listens) for listens in (True, False))
    (of_told,), (of_deaf,) = told.columns, deaf.columns  # numbers have no names to read back
    assert of_told.name == "stick"
    assert of_told.real > 0.99
    assert of_told.made > 0.99
    assert 0.3 < of_told.guess < 0.45
    assert of_deaf.real > 0.99
    assert of_deaf.made < 0.5
    assert told.told_db > told.shuffled_db + 5
    assert told.told_db > told.untold_db + 3
    assert abs(deaf.told_db - deaf.shuffled_db) < 2
    assert "stick: read back from 100.0% of real" in told.text()


def test_the_same_seed_finds_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "UPDATES", 5)
    store = write_store(tmp_path, [40] * 4)
    assert measured(store, listens=True) == measured(store, listens=True)


def test_what_is_measured_is_said_and_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(control, "UPDATES", 5)
    monkeypatch.setattr(progress, "PLAIN_LINE_SECONDS", -1.0)
    store, frame = write_store(tmp_path, [40] * 4), Pixels()
    options: Any = {"top": Ring(listens=True), "frame": frame, "store": store, "num_windows": 40}
    measure_control(**options, quiet=True)
    assert capsys.readouterr().err == ""
    measure_control(**options, quiet=False)
    said = capsys.readouterr().err
    assert f"evaluate: control, of 40 beginnings in {tmp_path}: whether what was told" in said
    for line in (
        "windows: 320/320 frames",
        "learn to read stick: 5/5 upd",
        "ahead: 120/120 frames",
    ):
        assert line in said


def test_where_nothing_moves_or_no_name_is_known_that_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told_of = control.told_of
    monkeypatch.setattr(control, "told_of", lambda *of, **how: np.nan * told_of(*of, **how))
    monkeypatch.setattr(control, "MOVES", 2.0)
    found = measured(write_store(tmp_path, [40] * 4), listens=True)
    assert found == control.Control((), None, None, None, 96)
    assert "where it moves: none PSNR where it is told the truth, none told" in found.text()


def test_windows_and_who_reads_them_lie_where_the_model_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "UPDATES", 2)
    store, top = write_store(tmp_path, [40] * 4), Ring(listens=True).to("meta")
    windows = control.Windows(store, np.arange(4), top, np.random.default_rng(0))
    inverse = control._learn(windows, 0, progress.Progress("", unit="updates", quiet=True))
    found = [*windows.draw(3, 9), *inverse.parameters()]
    assert {part.device.type for part in found} == {"meta"}


def test_a_store_of_short_clips_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LdfError, match="expected 2 clips of 12 frames or more"):
        measured(write_store(tmp_path, [40, 11, 5]), listens=True)


def test_control_of_what_cannot_be_told_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_store(tmp_path / "latents", [40, 40])
    np.save(tmp_path / "real.npy", np.zeros((9, 5, 32, 32, 3), np.uint8))
    options = {"judge": write_judge(tmp_path / "judge.pt"), "quiet": True, "control": "latents"}
    frame = save_frame(tmp_path / "frame")
    save_top(tmp_path / "deaf", frame)
    with pytest.raises(UsageError, match="no top model is judged that learned with conditions"):
        evaluate("real.npy", top_model="deaf", **options)
    told = {**FLOW.__dict__, "columns": Ring.columns}
    save_top(tmp_path / "told", frame, config=type(FLOW)(**told))
    with pytest.raises(UsageError, match=r"another frame model made .*--frame-model"):
        evaluate("real.npy", top_model="told", **options)
    write_latents(tmp_path / "untold", [40, 40])
    with pytest.raises(UsageError, match="--control untold: nothing is known of its frames; give"):
        evaluate("real.npy", top_model="told", **options | {"control": "untold"})
