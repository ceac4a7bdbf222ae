"""export: graphs that make what torch makes, weights that come back, a page that holds it all."""

from __future__ import annotations

import json
import math
import re
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from tiny_models import FLOW, flow, frame_model, save_frame, save_pair, save_top
from torch import Tensor

from ldf_video.api import export
from ldf_video.errors import UsageError
from ldf_video.levels.latents import decode
from ldf_video.models.flow_config import ColumnConfig
from ldf_video.models.rollout import KnownConditions, Rollout
from ldf_video.playing.graphs import BlockGraph, Chance, GraphFilm, Graphs
from ldf_video.playing.html import CODE, LARGEST_BYTES, WASM, apart, coded, scales_of
from ldf_video.playing.keys import Held, actions_of
from ldf_video.playing.packing import FORBIDDEN, pack
from ldf_video.runs.zoo import shipped_models
from ldf_video.training.checkpoints import fingerprint_of

KEPT = replace(FLOW, kept=True)
COLUMNS = (ColumnConfig("stick", ("left", "noop", "right")), ColumnConfig("speed", (), 0.5, 0.2))
FLOWS = {
    "a student": replace(KEPT, renewed=True, sampling_steps=2),
    "a flow": replace(KEPT, sampling_steps=3),
    "told": replace(KEPT, renewed=True, sampling_steps=1, block=1, columns=COLUMNS),
}


# -- keys ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "actions", "rest"),
    [
        (
            ColumnConfig("stick", ("down", "left", "noop", "right", "up")),
            {"down": "ArrowDown", "left": "ArrowLeft", "right": "ArrowRight", "up": "ArrowUp"},
            2.0,
        ),
        (
            ColumnConfig("stick", ("left", "right")),
            {"left": "ArrowLeft", "right": "ArrowRight"},
            None,
        ),
        (ColumnConfig("a", ("spin", "FIRE")), {"spin": "Digit1", "FIRE": "Space"}, None),
        (ColumnConfig("jump", (), 0.1, 0.3, 0.0, 1.0), {"jump": "Space"}, 0.0),
        (
            ColumnConfig("steer", (), 0, 1, -1.0, 1.0),
            {"steer -": "Digit1", "steer +": "Digit2"},
            0.0,
        ),
        (ColumnConfig("heat", (), 30, 5, 20.0, 40.0), {"heat": "Digit1"}, 20.0),
    ],
)
def test_columns_become_actions_with_keys(
    column: ColumnConfig, actions: dict[str, str], rest: float | None
) -> None:
    assert {one.name: one.keys[0] for one in actions_of([column])} == actions
    held = Held([column])
    (first,) = held.row
    assert first == rest if rest is not None else math.isnan(first)
    for one in actions_of([column]):
        held.hold([one.name, "no action", 7])
        assert held.row == [one.value]
        held.hold([])
        assert held.row == [one.value if rest is None else rest]


def test_no_key_holds_two_actions() -> None:
    columns = [ColumnConfig(str(n), ("left", "right", *map(str, range(9)))) for n in range(4)]
    keys = [key for action in actions_of(columns) for key in action.keys]
    assert len(keys) == len(set(keys))
    assert len(actions_of(columns)) == 44


def test_actions_of_one_name_in_two_columns_are_told_apart() -> None:
    columns = [ColumnConfig("one", ("left", "right")), ColumnConfig("two", ("left", "up"))]
    names = [action.name for action in actions_of(columns)]
    assert names == ["one: left", "right", "two: left", "up"]
    held = Held(columns)
    held.hold(["one: left"])
    assert held.row[0] == 0
    assert math.isnan(held.row[1])
    held.hold(["right", "two: left"])
    assert held.row == [1, 0]


# -- bytes in a page -----------------------------------------------------------------------------


def unpack(text: str, length: int) -> bytes:
    sevens = []
    for code in map(ord, text):
        sevens += [code] if code < 128 else [ord(FORBIDDEN[(code - 128) >> 7]), (code - 128) & 127]
    bits = "".join(f"{seven:07b}" for seven in sevens)
    return bytes(int(bits[8 * i : 8 * i + 8], 2) for i in range(length))


@pytest.mark.parametrize("length", [0, 1, 6, 7, 8, 500])
def test_packed_bytes_come_back_and_hold_nothing_that_a_page_changes(length: int) -> None:
    rng = np.random.default_rng(length)
    for data in (rng.bytes(length), bytes(length), b"\x3c" * length, b"\xff" * length):
        text = pack(data)
        assert unpack(text, length) == data
        assert not set(text) & set(FORBIDDEN)
        assert len(text.encode()) <= 8 * length / 7 + 3


def numbers_of(data: bytes, part: dict[str, Any], shape: tuple[int, ...]) -> Any:
    if part.get("kind") == "single":
        return np.frombuffer(data, np.float32).reshape(shape)
    if part.get("kind") == "half":
        return np.frombuffer(data, np.float16).astype(np.float32).reshape(shape)
    scales = np.frombuffer(data[: 4 * part["scales"]], np.float32)
    whole = np.frombuffer(data[4 * part["scales"] :], np.int8).reshape(shape[0], -1)
    scales = scales[None] if part["along"] else scales[:, None]
    return (whole * scales).reshape(shape)


def test_weights_are_stored_in_the_fewest_bytes_that_give_them_again() -> None:
    rng = np.random.default_rng(0)
    exact = rng.normal(size=(6, 5, 3)).astype(np.float32)
    half = exact.astype(np.float16).astype(np.float32)
    flat = exact.reshape(6, -1)
    rows = np.round(flat / scales_of(flat, 0)) * scales_of(flat, 0)
    for array, size in ((exact, 4 * 90), (half, 2 * 90), (rows, 90 + 4 * 6), (rows.T, 90 + 4 * 6)):
        data, part = coded(np.ascontiguousarray(array))
        assert len(data) == size
        assert np.allclose(numbers_of(data, part, array.shape), array, rtol=1e-6, atol=0)


# -- graphs --------------------------------------------------------------------------------------


def chance_for_torch(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    chance = Chance(seed)

    def randn(shape: tuple[int, ...], **_: Any) -> Tensor:
        return torch.from_numpy(chance.normal(math.prod(shape))).reshape(shape)

    monkeypatch.setattr(torch, "randn", randn)


@pytest.mark.parametrize("name", FLOWS)
def test_a_film_by_the_graph_is_that_of_the_sampler(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = flow(config=FLOWS[name])
    c, count = model.config, 5
    known = torch.randn(
        c.window, model.latent_mean.numel(), generator=torch.Generator().manual_seed(1)
    )
    told = torch.tensor([[0.0, 0.3], [2.0, math.nan], [math.nan, 0.9], [1.0, 0.1], [0.0, 0.0]])
    conditions = KnownConditions(told[None]) if model.columns else None
    chance_for_torch(monkeypatch, 5)
    past = model.restore(known[None])
    rollout = Rollout(count * c.block, past=past, conditions=conditions)
    expected = torch.cat(list(model.sample(rollout, [torch.Generator()])), dim=1)[0]
    names = tuple(str(n) for n in range(2 * c.depth))
    passes = c.sampling_steps if c.renewed else 1
    shape = (1, c.heads, c.reach * c.patches, c.width // c.heads)
    graph = BlockGraph(model).eval()
    with torch.no_grad():
        film = GraphFilm(
            lambda inputs: graph(*inputs.values()),
            model,
            Graphs(b"", b"", names, shape, passes),
            known,
        )
        chance = Chance(5)
        made = [
            film.make(chance.noise(model, passes), told[None, n : n + 1] if model.columns else None)
            for n in range(count)
        ]
    assert torch.allclose(torch.cat(made), expected, atol=1e-3)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A told pair as graphs and as a page, with a runtime that is none."""
    root = tmp_path_factory.mktemp("export")
    for name in (CODE, WASM):
        path = root / "runtime" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"not the real {name}".encode())
    frame = save_frame(root / "frame")
    save_top(root / "top", frame, config=FLOWS["told"])
    page = {"html": root / "page.html", "runtime": root / "runtime", "name": "a <b> & c"}
    half: Any = {"weights": "half", "seed": 3, "quiet": True}
    export(top_model=root / "top", out=root / "graphs", **half, **page)
    return root


def settings_of(page: Path) -> dict[str, Any]:
    found = re.search(r'id="settings">(.*?)</script>', page.read_text("utf-8"))
    assert found is not None
    return dict(json.loads(found[1]))


def test_a_page_takes_bytes_where_nothing_is_said(
    exported: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    place = {"html": tmp_path / "small.html", "runtime": exported / "runtime"}
    export(top_model=exported / "top", **place)
    assert "weights as int8" in capfd.readouterr().err
    assert settings_of(tmp_path / "small.html")["name"] == "small"


def test_exported_graphs_give_what_torch_gives(exported: Path) -> None:
    settings = json.loads((exported / "graphs" / "model.json").read_text())
    sessions = {
        name: onnxruntime.InferenceSession(exported / "graphs" / f"{name}.onnx")
        for name in ("block", "frames")
    }
    model, frame = flow(config=FLOWS["told"]), frame_model()
    known = torch.from_numpy(np.load(exported / "graphs" / "starts.npy")[3]).float()
    assert known.shape == (model.config.window, settings["size"])

    def call(inputs: dict[str, Tensor]) -> list[Tensor]:
        fed = {name: x.numpy() for name, x in inputs.items()}
        return [torch.from_numpy(x) for x in sessions["block"].run(None, fed)]

    graphs = Graphs(b"", b"", tuple(settings["layers"]), tuple(settings["kept"]["shape"]), 1)
    by_torch = BlockGraph(model).eval()
    with torch.no_grad():
        films = [
            GraphFilm(run, model, graphs, known)
            for run in (call, lambda inputs: by_torch(*inputs.values()))
        ]
        chance = Chance(settings["seed"])
        for n in range(10):
            noise, told = chance.noise(model, 1), torch.tensor([[[n % 3, math.nan]]])
            one, other = (film.make(noise, told) for film in films)
            assert torch.allclose(one, other, atol=1e-3)
            pixels = sessions["frames"].run(None, {"latents": other.numpy()})[0]
            expected = next(decode(frame, iter([other[None]])))[0]
            assert pixels.dtype == np.uint8
            assert np.abs(pixels.astype(int) - expected).max() <= 1


def test_the_page_of_the_docs_plays_the_shipped_model() -> None:
    page = Path(__file__).parents[1] / "docs" / "pacman.html"
    settings = settings_of(page)
    known = {"top": "pacman-32-play", "frame": "pacman-32"}
    assert settings["fingerprints"] == {
        kind: fingerprint_of(shipped_models()[name] / kind) for kind, name in known.items()
    }
    assert page.stat().st_size <= LARGEST_BYTES


def test_the_page_holds_all_that_it_needs(exported: Path) -> None:
    text = (exported / "page.html").read_text("utf-8")
    settings = settings_of(exported / "page.html")
    packed = settings["packing"]["parts"]
    found = dict(re.findall(r'id="part-([\w-]+)">(.*?)</script>', text, re.DOTALL))
    assert found.keys() == packed.keys()
    parts = {
        name: zlib.decompress(unpack(found[name], packed[name]["length"]))
        for name in ("runtime", "wasm", "starts", "frames", "frames-weights")
    }
    assert parts["runtime"].decode() == f"not the real {CODE}"
    assert parts["wasm"].decode() == f"not the real {WASM}"
    assert parts["starts"] == np.load(exported / "graphs" / "starts.npy").tobytes()
    graph, weights = apart((exported / "graphs" / "frames.onnx").read_bytes(), "frames.weights")
    assert (parts["frames"], parts["frames-weights"]) == (graph, weights.data)
    assert settings["weights"]["frames"] == weights.parts
    assert settings["name"] == "a <b> & c"
    assert [action["name"] for action in settings["actions"]] == ["left", "right", "speed"]
    assert not re.search(r"https?://", text)
    assert "NONCE" not in text
    assert "SOURCE" not in text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "give --html FILE, --out DIR or both"),
        ({"html": "page.txt"}, "expected .html"),
        ({"html": "page.html"}, "npm install onnxruntime-web"),
        ({"out": "graphs"}, "computes its past anew .* --few"),
        ({"out": "file"}, "a file is in the way"),
    ],
)
def test_what_cannot_be_exported_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    save_pair(tmp_path / "checkpoints")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=said):
        export(**options, quiet=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "file"]
