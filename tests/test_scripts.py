"""Scripts that have no test file of their own: what they print, and what they refuse."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import check_dist as checker
import pacman_physics
import pytest
import shipped_figures as shipped

SCRIPTS = Path(__file__).parents[1] / "scripts"


def imports_of(path: Path) -> set[tuple[str, str]]:
    """Modules and names that a script imports anywhere, but for what it tries after a failure."""
    tree = ast.parse(path.read_text())
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    handlers = [node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)]
    tried = {id(node) for handler in handlers for node in ast.walk(handler)}
    return {
        (node.module or "", alias.name)
        for node in nodes
        for alias in node.names
        if id(node) not in tried
    }


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*/*.py")), ids=lambda path: path.stem)
def test_every_script_finds_what_it_imports(path: Path) -> None:
    importlib.import_module(path.stem)
    for module, name in imports_of(path):
        if module.startswith("ldf_video"):  # the others may be extras
            found = hasattr(importlib.import_module(module), name)
            assert found or importlib.import_module(f"{module}.{name}")


# -------------------- bench_training.py and bench_updates.py


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_rows_have_memory_time_and_state() -> None:
    options = "--size 16 --batch-size 8 --steps 6 --only 0 1"
    command = [sys.executable, SCRIPTS / "benchmarks" / "bench_training.py", *options.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [[c.strip() for c in row[1:-1].split("|")] for row in done.stdout.splitlines()[-2:]]
    for _, peak_mib, _, _, seconds, _, _ in rows:
        assert 100 < float(peak_mib) < 4000  # torch is in it
        assert float(seconds) > 0
    (usual, _, ratio, _, _, time_ratio, state), (adam, _, _, _, _, _, other) = rows
    assert (usual, adam) == ("as it is", "--optimizer adam")
    assert (ratio, time_ratio) == ("1.00", "1.00")
    assert float(other) == pytest.approx(8, abs=0.1)  # Adam's two moments in float32
    assert 4 < float(state) < 7  # one of Muon's, and two of D's


def bench_updates(against: Path, **more: str) -> subprocess.CompletedProcess[str]:
    options = "--rounds 1 --steps 9 --batch-size 8 --width 8"
    script = SCRIPTS / "benchmarks" / "bench_updates.py"
    command = [sys.executable, script, "--against", against, *options.split()]
    environment = os.environ | more
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment)


def test_both_sides_train_and_see_the_packages_that_python_sees(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        f"open({str(tmp_path / 'seen')!r}, 'a').write('python ')"
    )
    done = bench_updates(SCRIPTS.parent, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    numbers = re.search(r"round 1: (\S+) and (\S+) images/s, (\S+) times", done.stdout)
    assert numbers is not None
    before, now, ratio = map(float, numbers.groups())
    assert 0.9 * now / before < ratio < 1.1 * now / before
    assert (tmp_path / "seen").read_text().split() == ["python"] * 3  # itself and two sides


def test_why_a_side_fails_is_told(tmp_path: Path) -> None:
    package = tmp_path / "ldf_video"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('no such luck')")
    done = bench_updates(tmp_path)
    assert done.returncode != 0
    assert "no such luck" in done.stderr


# -------------------- train_shipped.sh


@pytest.mark.parametrize(
    "arguments",
    ["", "pacman-32", "tetris out", "film-64 out", "pacman-32 out film.mp4"],
)
def test_wrong_usage_of_train_shipped_is_said_in_one_line(tmp_path: Path, arguments: str) -> None:
    (tmp_path / "film.mp4").touch()
    done = subprocess.run(
        ["bash", SCRIPTS / "experiments" / "train_shipped.sh", *arguments.split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "expected pacman-32 OUT, or film-64 OUT FILM..." in done.stderr
    assert done.stderr.count("\n") == 1


# -------------------- shipped_figures.py


def write_figures(out: Path) -> None:
    """What the commands of both models leave, with numbers of its own for each."""
    for number, name in enumerate(shipped.MODELS):
        value = {"value": 1.5 + number, "low": 1.0, "high": 3.0}
        share = {"recall": 0.5, "coverage": None}
        row = {"frame": value, "video": value, "motion": value, "diversity": share}
        sets = ("real", "top model", "reconstruction")[: 3 - number]
        judged = {"num_frames": 5, "rows": dict.fromkeys(sets, row)}
        clips = dict.fromkeys(("clips", "reconstructed", f"{name}/")[2 * number :], None)
        physics = {title: {f.name: value for f in pacman_physics.FIGURES} for title in clips}
        stretches = ["real", *(f"from {first:,}" for first in range(0, 54_000, 1000))]
        rows = {stretch: {"still %": 2.0} for stretch in stretches}
        long = {"rows": rows, "videos": ["video 0: alive"]}
        found = {"first": judged, "later": judged, "physics": {"figures": physics}}
        for part, figures in (found | {"rollouts": long}).items():
            (out / f"{name}-{part}.json").write_text(json.dumps(figures))
        for kind in shipped.PICTURES:
            (out / f"{name}-{kind}.png").write_bytes(b"")
        (out / name).mkdir()
        (out / name / "0199.mp4").touch()


def test_figures_and_commands_are_written_between_the_marks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, out = tmp_path / "docs" / "page.md", tmp_path / "out"
    (tmp_path / "docs" / "pictures").mkdir(parents=True)
    out.mkdir()
    parts = shipped.PAGE.read_text().split(shipped.MARK)
    assert len(parts) == 3
    page.write_text(f"above {shipped.MARK} old {shipped.MARK} below")
    asked = ["clips/a", "clips/b", "--out", str(out), "--page", str(page)]
    write_figures(out)
    assert shipped.main(asked) == 0
    text = page.read_text()
    assert text.startswith("above ")
    assert text.endswith(" below")
    assert " old " not in text
    assert "--top-model pacman-32-flow --num-clips 5000 --seed 0" in text
    assert "| `pacman-32-flow` | 2.50 (1.00 to 3.00) |" in text
    assert "| `pacman-32-flow`, frames 50 to 54 | 2.50 (1.00 to 3.00) |" in text
    assert "| | real | reconstruction | `pacman-32` | `pacman-32-flow` |" in text
    assert "| `pacman-32-flow`, from 53,000 | 2.00 |" in text
    pictures = re.findall(r"\]\((pictures/.*)\)", text)
    assert len(pictures) == 2
    assert all((page.parent / picture).exists() for picture in pictures)
    (out / "pacman-32-flow-later.json").unlink()
    assert shipped.main([*asked, "--list"]) == 0
    (command,) = capsys.readouterr().out.splitlines()
    assert command.endswith(f"--skip 50 --json {out}/pacman-32-flow-later.json")


# -------------------- check_dist.py


def write_dist(folder: Path, *, wheel: list[str], sdist: list[str]) -> None:
    with zipfile.ZipFile(folder / "ldf_video-1-py3-none-any.whl", "w") as archive:
        for name in wheel:
            archive.writestr(name, b"")
    with tarfile.open(folder / "ldf_video-1.tar.gz", "w:gz") as archive:
        for name in sdist:
            archive.addfile(tarfile.TarInfo(f"ldf_video-1/{name}"))


def test_archives_with_all_that_is_expected_pass(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = "checkpoints/pacman-32/README.md"
    wheel = [*checker.WHEEL, f"ldf_video/{card}", "ldf_video/training/checkpoints.py"]
    write_dist(tmp_path, wheel=wheel, sdist=[*checker.SDIST, card])
    assert checker.main([str(tmp_path)]) == 0
    assert "hold what they should" in capsys.readouterr().out


def test_a_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gone = "ldf_video/checkpoints/pacman-32/top/model.safetensors"
    wheel = [name for name in checker.WHEEL if name != gone]
    write_dist(tmp_path, wheel=wheel, sdist=checker.SDIST)
    assert checker.main([str(tmp_path)]) == 1
    assert capsys.readouterr().out == f"ldf_video-1-py3-none-any.whl: {gone} is missing\n"


@pytest.mark.parametrize(
    "stray",
    [
        "checkpoints/frame/model.safetensors",
        "checkpoints/top/config.json",
        "checkpoints/pacman-32/frame/state.pt",
        "checkpoints/pacman-32/top/samples/step-0000100.png",
        "checkpoints/mine/frame/model.safetensors",
    ],
)
def test_a_checkpoint_of_somebodys_own_is_found(stray: str) -> None:
    wheel = checker.problems([*checker.WHEEL, f"ldf_video/{stray}"], expected=checker.WHEEL)
    sdist = checker.problems([*checker.SDIST, stray], expected=checker.SDIST)
    assert wheel == [f"ldf_video/{stray} does not belong there"]
    assert sdist == [f"{stray} does not belong there"]


def test_two_wheels_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_dist(tmp_path, wheel=checker.WHEEL, sdist=checker.SDIST)
    (tmp_path / "ldf_video-2-py3-none-any.whl").touch()
    assert checker.main([str(tmp_path)]) == 1
    assert "got 2 wheels and 1 sdists" in capsys.readouterr().err
