"""The command line: what it says, what it imports, how it exits."""

from __future__ import annotations

import inspect
import json
import os
import re
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer
from tiny_models import save_frame, save_pair, write_array
from typer.testing import CliRunner

from ldf_video import api
from ldf_video.cli import app
from ldf_video.options import commands
from ldf_video.options.option import options_of, plain
from ldf_video.store.reader import StoreReader

if TYPE_CHECKING:
    from click.testing import Result

COMMANDS = ["start", "preview", "train-frame", "encode", "train-top", "generate", "interpolate"]
COMMANDS += ["play", "export", "publish", "reconstruct", "evaluate", "info"]
DRIVER = [sys.executable, str(Path(__file__).parent / "tiny_cli.py")]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with clips and a frame model."""
    monkeypatch.chdir(tmp_path)
    save_frame(tmp_path / "checkpoints" / "frame")
    write_array(tmp_path / "clips" / "a.npy", 9)
    return tmp_path


# -- help ----------------------------------------------------------------------------------------

HELP = """
import sys
from ldf_video.cli import app
from ldf_video.options.option import options_of
for arguments in (["--help"], *([name, "--help"] for name in sys.argv[1:]), ["--version"]):
    try:
        app(arguments)
    except SystemExit as end:
        assert not end.code, arguments
heavy = {"torch", "numpy", "av", "accelerate", "PIL", "safetensors"} & set(sys.modules)
assert not heavy, heavy
"""


def test_help_imports_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HELP, *COMMANDS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Train a video generator on your own clips" in done.stdout
    assert version("ldf-video") in done.stdout


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ldf_video", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == version("ldf-video")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, {"GOMP_SPINCOUNT": "2500", "KMP_BLOCKTIME": "1"}),
        ({"OMP_WAIT_POLICY": "active"}, {}),
        ({"OMP_NUM_THREADS": "2"}, {}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
        ({"KMP_BLOCKTIME": "200"}, {"KMP_BLOCKTIME": "200"}),
    ],
)
def test_how_threads_wait_is_set_before_torch_is_there_unless_the_user_said_so(
    said: dict[str, str], expected: dict[str, str]
) -> None:
    asked = (
        "import os, sys; sys.argv[1:] = ['--version']\n"
        "import ldf_video.cli; before = dict(os.environ)\n"
        "try: ldf_video.cli.main()\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules\n"
        "names = 'GOMP_SPINCOUNT', 'KMP_BLOCKTIME'\n"
        "print({n: os.environ[n] for n in names if n in os.environ}, 'GOMP_SPINCOUNT' in before)"
    )
    known = "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_WAIT_POLICY", "OMP_NUM_THREADS"
    environment = {n: v for n, v in os.environ.items() if n not in known} | said
    done = subprocess.run(
        [sys.executable, "-c", asked], env=environment, capture_output=True, text=True, check=True
    )
    # Importing changes nothing: Python's users have their environment as it was.
    assert done.stdout.splitlines()[1] == f"{expected} {'GOMP_SPINCOUNT' in said}"


def test_every_command_is_in_the_help_and_in_the_api() -> None:
    command = typer.main.get_command(app)
    assert list(command.commands) == COMMANDS  # type: ignore[attr-defined]
    shown = run("--help").stdout
    for name in COMMANDS:
        assert name in shown
        assert callable(getattr(api, name.replace("-", "_")))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_function_of_the_api_has_the_options_as_typed_arguments_with_help(name: str) -> None:
    function = getattr(api, name.replace("-", "_"))
    known = options_of(commands.COMMANDS[name])
    signature = inspect.signature(function)
    for parameter in signature.parameters.values():
        option = known[parameter.name]
        assert parameter.annotation == option.type
        assert parameter.default == (inspect.Parameter.empty if option.required else option.default)
        assert f"    {option.name}: {plain(option.help)[:60]}" in inspect.getdoc(function)
    assert signature.parameters.keys() == known.keys()
    assert signature.return_annotation in inspect.getsource(function)


def test_a_command_that_writes_takes_every_name_of_its_output() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name in COMMANDS[:-1]:
        (out,) = [parameter for parameter in commands[name].params if parameter.name == "out"]
        typed = {"out"} if name == "publish" else {"--out", "-o", "--output"}
        assert set(out.opts) == typed  # publish makes nothing but its DIR


def test_every_option_has_a_word_of_help() -> None:
    for name in COMMANDS:
        command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
        assert command.help
        assert all(parameter.help for parameter in command.params if parameter.name != "help")


# -- exit codes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "encode",
        "encode nothing/",
        "encode clips --frobnicate",
        "encode clips --batch-size 0",
        "train-frame nothing/ --out run",
        "train-frame clips --out run --size 64x4",
        "train-frame clips --out run --steps 5 --minutes 1",
        "train-frame clips --out run --batch-size 8 --accumulate 4",
        "train-frame clips --out clips/a.npy",
        "train-frame clips --out clips/a.npy/run",
        "train-frame clips --out clips",
        "encode clips --out clips/a.npy/latents",
        "encode clips --out clips",
        "generate --frames 7 --top-model mlp/top",
        "generate --from clips/a.npy --top-model mlp/top",
        "generate -o out.avi",
        "generate --from nothing.mp4 --top-model pair/top",
        "generate --loop --frames 3 --top-model pair/top",
        "generate --loop --from clips/a.npy --top-model pair/top",
        "interpolate clips/a.npy",
        "interpolate clips/a.npy nothing.png --top-model pair/top",
        "interpolate clips/a.npy clips/a.npy --top-model mlp/top",
        "reconstruct nothing.mp4",
        "reconstruct clips/a.npy -o out.txt",
        "info nothing",
        "frobnicate",
    ],
)
def test_wrong_usage_exits_2_and_writes_nothing(root: Path, line: str) -> None:
    save_pair(root / "pair")
    save_pair(root / "mlp", kind="mlp")
    result = run(*line.split())
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr
    assert "Traceback" not in result.stderr
    assert {path.name for path in root.iterdir()} == {"checkpoints", "clips", "mlp", "pair"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train-top", "no latents at latents: run ldf-video encode CLIPS first"),
        ("train-top --latents checkpoints", "no store at checkpoints"),
        ("generate --top-model nothing", "no top model nothing"),
        ("encode clips --frame-model nothing", "no frame model nothing"),
        ("encode bad", "nothing under bad could be read: empty.mp4: empty file"),
        ("reconstruct bad/empty.mp4", "bad/empty.mp4: empty file"),
        ("info bad/empty.mp4", "bad/empty.mp4: empty file"),
        ("info broken", "config.json is not a checkpoint's config"),
        ("train-frame bad --steps 1 --out run --quiet", "no frame could be read from bad"),
    ],
)
def test_failed_work_exits_1_with_one_line(root: Path, line: str, said: str) -> None:
    (root / "bad").mkdir()
    (root / "bad" / "empty.mp4").write_bytes(b"")
    (root / "broken").mkdir()
    (root / "broken" / "config.json").write_text("{")
    result = run(*line.split(), "--quiet")
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    (message,) = result.stderr.splitlines()
    assert message.startswith("error: ")
    assert said in message
    assert not Path("latents").exists()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train-frame clips --out a.txt", "--out a.txt: a file is in the way"),
        ("train-frame clips --out a.txt/run", "a.txt is a file"),
        ("encode clips --out a.txt/latents", "a.txt is a file"),
        ("encode clips --out clips", "--out clips: it is the input clips"),
    ],
)
def test_an_output_that_cannot_be_is_wrong_usage(root: Path, line: str, said: str) -> None:
    (root / "a.txt").touch()
    result = run(*line.split(), "--quiet")
    assert result.exit_code == 2, result.output
    (message,) = result.stderr.splitlines()
    assert said in message


def test_an_error_of_the_system_is_one_line_too(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(api, "info", fail)
    result = run("info", "clips")
    assert result.exit_code == 1
    assert (
        result.stderr == "error: clips: Input/output error; see to the disk or name another place\n"
    )


def test_unreadable_clips_are_listed_and_the_exit_is_0_unless_strict(root: Path) -> None:
    (root / "clips" / "bad.mp4").write_bytes(b"")
    result = run("encode", "clips")
    assert result.exit_code == 0
    assert "unreadable bad.mp4: empty file" in result.stderr
    assert result.stdout == "latents\n"
    assert run("encode", "clips", "--strict").exit_code == 1


def test_quiet_prints_results_and_nothing_else(root: Path) -> None:
    result = run("encode", "clips", "--quiet")
    assert (result.stdout, result.stderr) == ("latents\n", "")
    result = run("reconstruct", "clips", "--quiet")
    assert re.fullmatch(r"\d+\.\d\d dB PSNR over 9 frames\n", result.stdout)
    assert result.stderr == ""


def test_generate_prints_its_files(root: Path) -> None:
    save_pair(root / "pair")
    line = "generate --top-model pair/top --num-videos 2 --frames 2 --upscale 1 -o made --quiet"
    result = run(*line.split())
    assert (result.stdout, result.stderr) == ("made/0000.mp4\nmade/0001.mp4\n", "")


def test_info_as_lines_and_as_json(root: Path) -> None:
    save_pair(root / "pair")
    described = json.loads(run("info", "pair", "--json").stdout)
    assert described == json.loads(json.dumps(api.info("pair"))) | {
        part: described[part] for part in ("frame", "top")
    }
    lines = run("info", "pair").stdout.splitlines()
    assert lines[: len(described["summary"])] == described["summary"]
    rest = lines[len(described["summary"]) :]
    assert rest[:4] == ["", "what: models", "frame:", "  what: frame model"]
    assert "    height: 32" in lines


# -- nobody listens ------------------------------------------------------------------------------

REPORTS = """
import os, sys
from ldf_video import api, cli
from ldf_video.progress import Progress

def work(*arguments, **options):
    with Progress("work", unit="steps") as progress:
        for _ in range(3):
            progress.say("a line " * 2000)
    return "done"

setattr(api, "train_top", work)
sys.argv = ["ldf-video", "train-top"]
cli.main()
"""


@pytest.mark.parametrize("streams", ["2>/dev/full", ">/dev/full", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_command_that_nobody_hears_does_its_work_and_exits_0(streams: str) -> None:
    line = f'"$0" -c "$1" {streams}'
    done = subprocess.run(["sh", "-c", line, sys.executable, REPORTS], check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("numbers", [(1,), (2,), (1, 2)])
def test_a_command_whose_reader_has_gone_does_its_work_and_exits_0(numbers: tuple[int]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    streams = {{1: "stdout", 2: "stderr"}[number]: writing for number in numbers}
    done = subprocess.run([sys.executable, "-c", REPORTS], check=False, **streams)  # type: ignore[call-overload]
    os.close(writing)
    assert done.returncode == 0


def test_an_error_that_nobody_hears_keeps_its_exit_code() -> None:
    line = '"$0" -m ldf_video info nothing 2>/dev/full'
    done = subprocess.run(["sh", "-c", line, sys.executable], check=False)
    assert done.returncode == 2


@pytest.mark.parametrize("asked", ["--version", "--help", "train-top --help"])
def test_help_that_cannot_be_printed_is_one_line(asked: str) -> None:
    line = f'"$0" -m ldf_video {asked} >/dev/full'
    done = subprocess.run(
        ["sh", "-c", line, sys.executable], check=False, stderr=subprocess.PIPE, text=True
    )
    assert done.returncode == 1
    assert done.stderr == "error: No space left on device; make room or name another place\n"


# -- Ctrl-C --------------------------------------------------------------------------------------


def interrupted(
    *arguments: str, after: int, by: str = "SIGINT"
) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"TINY_SIGNAL": f"{by}:{after}"}
    return subprocess.run(
        [*DRIVER, *arguments], env=environment, capture_output=True, text=True, check=False
    )


STOPS = [
    ("SIGINT", 130, "interrupted"),
    ("SIGTERM", 143, "stopped by SIGTERM"),
    ("SIGHUP", 129, "stopped by SIGHUP"),
]


@pytest.mark.parametrize(("by", "code", "said"), STOPS)
def test_stopped_while_encoding_it_says_by_what_and_keeps_what_was_done(
    root: Path, by: str, code: int, said: str
) -> None:
    done = interrupted("encode", "clips", "--batch-size", "4", after=1, by=by)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == (
        f"{said}: what was done is kept, the same command goes on"
    )
    result = run("encode", "clips", "--batch-size", "4")
    (new,) = re.findall(r": (\d) new frames?,", result.stderr)
    # Of 9, in batches of 4, 4 and 1. The first was stored before Ctrl-C, the second encoded after
    # it; the last may not have begun.
    assert int(new) in (0, 1)
    assert StoreReader(root / "latents").num_frames == 9


@pytest.mark.parametrize(
    ("name", "line", "goes_on"),
    [
        ("train_frame", "clips", "the same command"),
        ("train_frame", "clips --no-resume", "the same command without --no-resume"),
        ("train_top", "", "the same command"),
        ("encode", "clips", "the same command"),
        ("encode", "clips --verify", ""),
        ("generate", "", ""),
        ("reconstruct", "clips", ""),
        ("evaluate", "--real clips", ""),
        ("info", "clips", ""),
    ],
)
def test_only_what_goes_on_is_said_to_go_on(
    monkeypatch: pytest.MonkeyPatch, name: str, line: str, goes_on: str
) -> None:
    def stopped(*arguments: object, **options: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(api, name, stopped)
    result = run(name.replace("_", "-"), *line.split())
    assert result.exit_code == 143
    kept = f": what was done is kept, {goes_on} goes on" if goes_on else ""
    assert result.stderr == f"stopped by SIGTERM{kept}\n"


@pytest.mark.parametrize(("by", "code", "said"), STOPS)
def test_stopped_while_training_it_ends_the_update_and_saves(
    root: Path, by: str, code: int, said: str
) -> None:
    line = "train-frame clips --steps 50 --batch-size 4 --out run"
    done = interrupted(*line.split(), after=2, by=by)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    first = lines.index("train-frame: stops after this update; a second Ctrl-C ends at once")
    assert first < lines.index(f"{said}: what was done is kept, the same command goes on")
    described = api.info("run")
    assert described["steps_done"] == 3  # the update that it came in is whole
    assert described["finished"] is False
