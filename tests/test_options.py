"""Options that become values: numbers, paths, devices, precisions, sizes, rates."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from ldf_video import api, cli
from ldf_video.cli import app
from ldf_video.errors import CheckpointError, UsageError
from ldf_video.levels.frame_level import frame_run_config
from ldf_video.models.grid import GridConfig, GridGameConfig
from ldf_video.models.rolled import RolledConfig
from ldf_video.options.commands import COMMANDS, option_table
from ldf_video.options.option import POSITIVE, Option, options_of
from ldf_video.options.sampling import Generate
from ldf_video.options.trainings import TrainFrame, TrainTop
from ldf_video.runs import command
from ldf_video.runs.command import choose_device, choose_precision
from ldf_video.runs.run import kept_options, open_run
from ldf_video.training.ranks import Ranks
from ldf_video.video.geometry import Geometry, geometry_of, make_geometry, with_options


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_takes_the_best_device_that_is_there(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device("auto") == expected
    assert choose_device("cpu") == "cpu"
    for name, there in (("cuda", cuda), ("mps", mps)):
        if not there:
            with pytest.raises(UsageError, match=f"--device {name}: this machine has none"):
                choose_device(name)


def test_precisions(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_precision("auto", device="cpu") == "no"
    assert choose_precision("bf16", device="cpu") == "bf16"
    for has in (True, False):
        monkeypatch.setattr(command, "cpu_has_bf16", lambda has=has: has)
        assert choose_precision("auto", device="cpu") == "no"
        gaining = choose_precision("auto", device="cpu", cpu_gains=True)
        assert gaining == ("bf16" if has else "no")
        assert choose_precision("auto", device="mps", cpu_gains=True) == "no"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert choose_precision("auto", device="cuda") == "bf16"
    assert choose_precision("fp16", device="cuda") == "fp16"
    for device in ("cpu", "mps"):
        said = f"--mixed-precision fp16: expected a CUDA device, got {device}; use bf16 or no"
        with pytest.raises(UsageError, match=said):
            choose_precision("fp16", device=device)


def test_geometry_goes_to_a_config_and_back() -> None:
    geometry = make_geometry(size="64x32", fps="30000/1001", crop="none")
    assert geometry == Geometry(32, 64, crop="none", fps=Fraction(30000, 1001))
    assert geometry_of({"frames": geometry.settings()}) == geometry
    assert with_options(geometry, fps=None, crop=None) == geometry
    assert with_options(geometry, fps="5/1", crop="centre") == Geometry(32, 64, fps=Fraction(5))
    with pytest.raises(UsageError, match="99999"):
        make_geometry(size="99999x99999", fps=None, crop=None)


# -- values, as the API and the command line take them -------------------------------------------


def taken(name: str, value: Any) -> Any:
    """What a command that has such an option gets."""
    command = next(kind for kind in COMMANDS.values() if name in options_of(kind))
    required = {n: "x" for n, o in options_of(command).items() if o.required}
    return getattr(command(**{**required, name: value}), name)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("size", 32, "32x32"),
        ("size", "64X8", "64x8"),
        ("size", "32", "32x32"),
        ("size", np.int16(32), "32x32"),
        ("size", "064X36", "64x36"),
        ("axes", "tnyx", "TNYX"),
        ("levels", "0:4095.0", "0:4095"),
        ("levels", "-1:1", "-1:1"),
        ("fps", 15, "15/1"),
        ("fps", "29.97", "2997/100"),
        ("fps", "30000/1001", "30000/1001"),
        ("fps", 29.97, "2997/100"),
        ("fps", np.float64(12.5), "25/2"),
        ("fps", Fraction(30000, 1001), "30000/1001"),
        ("steps", np.int64(7), 7),
        ("steps", 1e4, 10_000),
        ("steps", np.float32(8), 8),
        ("seed", 0, 0),
        ("seed", np.uint64(2**63 - 1), 2**63 - 1),
        ("minutes", 1, 1.0),
        ("minutes", np.float16(0.5), 0.5),
        ("latent_noise", 0, 0.0),
        ("workers", 0, 0),
        ("resume", np.False_, False),
        ("out", b"run", "run"),
        ("out", Path("~/run"), Path.home() / "run"),
        ("out", "~/run.v2/", str(Path.home() / "run.v2") + "/"),
        ("clips", "s3://bucket/clips", "s3://bucket/clips"),
        ("optimizer", "adam", "adam"),
        ("axes", "auto", "auto"),
        ("levels", "auto", "auto"),
    ],
)
def test_values_that_mean_something_are_taken(name: str, value: Any, expected: Any) -> None:
    got = taken(name, value)
    assert got == expected
    assert type(got) is type(expected)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        *(
            ("size", text, f"--size {text}: expected a number or WIDTHxHEIGHT")
            for text in ("", "x", "0", "64x", "64x0", "-8", "8.5", "1x2x3", "big", True)
        ),
        *(
            ("fps", text, f"--fps {text}: expected a positive number")
            for text in ("", "0", "-1", "fast", "1/0", "1.2.3", "nan", "inf", "1e9", "9" * 6000)
        ),
        *(("axes", text, f"--axes {text}: expected letters") for text in ("TN", "TYXX", "TYXZ")),
        *(("levels", text, f"--levels {text}: expected LOW:HIGH") for text in ("9", "1:1", "a:b")),
        ("fps", "9" * 30, "--fps 999"),
        ("width", 20, "--width 20: expected a multiple of 8"),
        ("size", 32.5, "--size 32.5: expected"),
        ("size", (32, 32), "--size (32, 32): expected"),
        ("size", "9" * 5000, "--size 9"),
        ("fps", 0, "--fps 0: expected a positive number"),
        ("fps", float("nan"), "--fps nan: expected"),
        ("fps", True, "--fps True: expected"),
        ("steps", 2.5, "--steps 2.5: expected 1 or more, a whole number"),
        ("steps", True, "--steps True: expected 1 or more, a whole number"),
        ("steps", "9", "--steps '9': expected 1 or more, a whole number"),
        ("steps", float("inf"), "--steps inf: expected"),
        ("steps", float("nan"), "--steps nan: expected"),
        ("seed", -1, "--seed -1: expected 0 or more"),
        ("seed", 2**64, "--seed 18446744073709551616: expected 0 or more, at most"),
        ("seed", np.uint64(2**63), "--seed 9223372036854775808: expected 0 or more, at most"),
        ("batch_size", 2**62, "--batch-size 4611686018427387904: expected 1 or more, at most"),
        ("width", 2**62, "--width 4611686018427387904: expected 8 or more, at most 65,536"),
        ("minutes", 10**400, "--minutes 1000"),
        ("latent_noise", 10**400, "--latent-noise 1000"),
        ("fps", "1/100000", "--fps 1/100000: expected a positive number such as 15"),
        ("minutes", float("nan"), "--minutes nan: expected more than 0"),
        ("minutes", float("inf"), "--minutes inf: expected more than 0"),
        ("minutes", 0.0, "--minutes 0: expected more than 0"),
        ("minutes", True, "--minutes True: expected more than 0"),
        ("minutes", "1", "--minutes '1': expected more than 0, a number"),
        ("learning_rate", 0, "--learning-rate 0: expected more than 0"),
        *(
            ("latent_noise", value, f"--latent-noise {value}: expected 0 to 10")
            for value in (float("nan"), -0.1, 11.5)
        ),
        ("preset", "cubist", "--preset cubist: expected default or paper"),
        ("accumulate", 0, "--accumulate 0: expected 1 or more"),
        ("num_frames", 0, "--frames 0: expected 1 or more"),
        ("workers", -1, "--workers -1: expected 0 or more"),
        ("resume", "no", "--resume no: expected True or False"),
        ("quiet", 1, "--quiet 1: expected True or False"),
        ("out", "", "--out '': expected a path"),
        ("out", 3, "--out 3: expected a path"),
        ("out", "a\0b", "--out 'a\\x00b': expected a path"),
        ("out", "x" * 300 + ".mp4", "--out xxx"),
        ("clips", None, "CLIPS None: expected a path"),
        ("mixed_precision", "fp4", "--mixed-precision fp4: expected auto, no, bf16 or fp16"),
        ("crop", "middle", "--crop middle: expected centre or none"),
        ("reader", "opencv", "--reader opencv: expected auto, pyav or decord"),
        ("optimizer", "sgd", "--optimizer sgd: expected muon, adam or adam8bit"),
        ("device", "abacus", "--device abacus: expected auto, cpu, cuda or mps"),
        ("tracker", "wandb", "--tracker wandb: expected tensorboard"),
        ("kind", 1, "--kind 1: expected flow or mlp"),
        ("max_memory", 2**30, "--max-memory 1073741824: expected text"),
    ],
)
def test_values_that_mean_nothing_name_the_option(name: str, value: Any, said: str) -> None:
    with pytest.raises(UsageError) as error:
        taken(name, value)
    assert str(error.value).startswith(said)


@pytest.mark.parametrize(
    ("command", "option", "value"),
    [
        ("train-frame clips", "--seed", "-1"),
        ("train-frame clips", "--batch-size", "0"),
        ("train-frame clips", "--minutes", "nan"),
        ("train-frame clips", "--out", ""),
        ("train-top", "--seed", str(2**64)),
        ("train-top", "--window", "1"),
        ("encode clips", "--fps", "0"),
        ("encode clips", "--workers", "-1"),
        ("encode clips", "--workers", "few"),
        ("train-frame clips", "--optimizer", "sgd"),
        ("generate", "--num-videos", "0"),
        ("generate", "--upscale", "0"),
    ],
)
def test_the_command_line_and_the_api_say_the_same_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, option: str, value: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, [*command.split(), option, value])
    assert result.exit_code == 2
    numbers: dict[str, Any] = {"--minutes": float, "--out": str, "--fps": str, "--optimizer": str}
    meant = value if value == "few" else numbers.get(option, int)(value)
    given = {option[2:].replace("-", "_"): meant}
    name, *arguments = command.split()
    arguments += ["out.mp4"] if name == "generate" else []
    with pytest.raises(UsageError) as error:
        getattr(api, name.replace("-", "_"))(*arguments, **given)
    assert result.stderr == f"error: {error.value}\n"
    assert list(tmp_path.iterdir()) == []


def test_old_names_are_taken_and_none_is_the_default() -> None:
    @api.takes(Generate)
    def command(options: Generate) -> Any:
        return options.out, options.num_frames, options.device

    assert command(None, num_frames=np.int8(3), device=None) == ("out.mp4", 3, "auto")
    old: Any = command
    assert old(output="there", frames=4) == ("there", 4, "auto")
    with pytest.raises(UsageError, match="got out and output: give one name"):
        old(out="here", output="there")
    with pytest.raises(TypeError, match="unexpected keyword argument 'frobnicate'"):
        old(frobnicate=1)


def test_a_budget_is_of_steps_or_of_minutes() -> None:
    with pytest.raises(UsageError, match="got --steps and --minutes: give one of the two"):
        TrainTop(steps=5, minutes=1.0)


def test_usual_values_are_those_of_the_networks() -> None:
    known = options_of(TrainFrame)
    assert known["width"].usual == str(GridConfig.base_width)
    assert known["latent_noise"].usual == (
        f"{GridGameConfig.latent_noise}, with `--top-model`: {RolledConfig.latent_noise}"
    )


def test_an_option_is_one_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting of a training becomes an option everywhere by its field and its line of help."""

    @dataclass(frozen=True)
    class More(TrainFrame):
        """Learn single frames.

        Attributes:
            gradient_norm: Largest norm of a gradient.
        """

        gradient_norm: Annotated[float | None, Option("R", POSITIVE, "10")] = None

    monkeypatch.setitem(COMMANDS, "train-frame", More)
    row = "| `--gradient-norm R` | 10 | Largest norm of a gradient. |"
    assert row in option_table("train-frame").splitlines()
    shown = api.takes(More)(lambda options: options.gradient_norm)
    assert inspect.signature(shown).parameters["gradient_norm"].annotation == float | None
    assert "gradient_norm: Largest norm of a gradient. Default: 10." in str(shown.__doc__)
    assert shown("clips", gradient_norm=3) == 3.0
    assert cli.parameter(options_of(More)["gradient_norm"]).default.param_decls == (
        "--gradient-norm",
    )
    asked = More("clips", out=tmp_path, gradient_norm=3, seed=1)
    config = frame_run_config(asked, device="cpu", ranks=Ranks())
    assert config["training"]["gradient_norm"] == 3.0
    assert kept_options(asked) == {"gradient_norm": 3.0, "seed": 1}
    with open_run(asked, "frame", make=lambda _: config):
        pass
    with (
        pytest.raises(CheckpointError, match=r"has --gradient-norm 3\.0, asked for"),
        open_run(replace(asked, gradient_norm=4), "frame", make=lambda _: config),
    ):
        pass


def test_the_command_line_works_without_docstrings() -> None:
    command = [sys.executable, "-OO", "-m", "ldf_video", "train-frame", "--help"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "--latent-noise" in done.stdout
    assert "TrainFrame" not in done.stdout  # what dataclasses say where nothing is said
