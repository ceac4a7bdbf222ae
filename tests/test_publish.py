"""publish: a folder that stands alone, whose card says what the runs say, and no more."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_cli
import yaml
from tiny_hub import TinyHub
from tiny_judge import moving_clips, write_judge
from tiny_models import save_frame, save_pair, write_array
from typer.testing import CliRunner

from ldf_video.api import encode, evaluate, generate, info, publish, train_frame, train_top
from ldf_video.cli import app
from ldf_video.errors import LdfError, UsageError
from ldf_video.intake import ingest
from ldf_video.recipes import card as card_room
from ldf_video.runs.zoo import find_model
from ldf_video.training import checkpoints

SECRET = "alice"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with clips, a pair of models that were trained on them, and figures of it."""
    home = tmp_path_factory.mktemp("home") / SECRET
    asked: dict[str, Any] = {"steps": 2, "batch_size": 4, "seed": 1, "quiet": True}
    with pytest.MonkeyPatch.context() as patch:
        tiny_cli.shrink(patch.setattr)
        patch.setattr(ingest, "choose_workers", lambda asked, *, num_sources: 0)
        for seed in range(20):
            write_array(home / "clips" / f"{SECRET}-{seed}.npy", 9, seed=seed)
        start = train_frame(home / "clips", out=home / "first", **asked)
        store = home / "frames of it"
        frame = train_frame(
            home / "clips", out=home / "frame", init=start, frames_store=store, **asked
        )
        encode(home / "clips", out=home / "latents", frame_model=frame, quiet=True)
        train_top(latents=home / "latents", out=home / "top", **asked)
    np.save(home / "real.npy", moving_clips(60, seed=1))
    evaluate(
        home / "real.npy",
        top_model=home / "top",
        judge=write_judge(home / "judge.pt"),
        num_clips=30,
        seed=1,
        json_file=home / "figures.json",
        quiet=True,
    )
    return home


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory to work in; samples are short."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(card_room, "SAMPLE_FRAMES", 5)
    return tmp_path


def make(folder: str | Path, **options: Any) -> Path:
    return publish(folder, **{"quiet": True} | options).folder


def texts(folder: Path) -> dict[str, str]:
    kinds = (".md", ".json")
    return {p.name: p.read_text() for p in sorted(folder.rglob("*")) if p.suffix in kinds}


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def section(card: str, title: str) -> str:
    return card.partition(f"\n## {title}\n\n")[2].partition("\n\n## ")[0]


# -- the folder ----------------------------------------------------------------------------------


def test_a_folder_that_was_moved_makes_what_the_run_makes(trained: Path, work: Path) -> None:
    asked: dict[str, Any] = {"num_frames": 6, "num_videos": 2, "seed": 3, "quiet": True}
    generate("run.gif", top_model=trained / "top", **asked)
    copy = shutil.copytree(trained, work / "copy")
    made = make("made", top_model=copy / "top")
    (work / "elsewhere").mkdir()
    moved = made.rename(work / "elsewhere" / "moved")
    shutil.rmtree(copy)
    generate("moved.gif", top_model=moved, **asked)
    assert Path("moved.gif").read_bytes() == Path("run.gif").read_bytes()
    assert sorted(contents(moved)) == [
        "README.md",
        "frame/config.json",
        "frame/model.safetensors",
        "generated.png",
        "publish.json",
        "sample.gif",
        "top/config.json",
        "top/model.safetensors",
    ]
    assert (moved / "generated.png").read_bytes() == (trained / "top" / "sheet.png").read_bytes()
    found = info(moved)
    assert found["top"]["trained"]["steps"] == 2
    assert found["summary"][-1] == f"next: ldf-video generate --top-model {moved}"


def test_a_frame_model_that_learned_to_decode_is_the_one_that_decodes(work: Path) -> None:
    """Also where the model whose latents the top model learned is nearer at hand."""
    save_pair(Path("checkpoints"))
    config = checkpoints.load_config(Path("checkpoints/frame"))
    weights = checkpoints.load_weights(Path("checkpoints/frame"))
    like = checkpoints.fingerprint_of(Path("checkpoints/frame"))
    config["encoder"] = checkpoints.encoder_of(config["model"], weights, like=like)
    for name in weights:
        weights[name] = weights[name] + (0.1 if name.startswith("generator.") else 0)
    checkpoints.save_config(Path("tuned"), config)
    checkpoints.save_weights(Path("tuned"), weights)
    made = make("made", top_model="checkpoints/top", frame_model="tuned")
    asked: dict[str, Any] = {"num_frames": 4, "seed": 1, "quiet": True}
    generate("own.gif", **asked)
    generate("tuned.gif", frame_model="tuned", **asked)
    generate("made.gif", top_model=made, **asked)
    assert Path("made.gif").read_bytes() == Path("tuned.gif").read_bytes()
    assert Path("made.gif").read_bytes() != Path("own.gif").read_bytes()


def test_the_same_command_makes_it_anew_and_keeps_what_was_changed(
    trained: Path, work: Path
) -> None:
    first = contents(make("made", top_model=trained / "top", show_clips=True))
    assert first["reconstructed.png"] == (trained / "frame" / "sheet.png").read_bytes()
    Path("made/.git").mkdir()
    assert contents(make("made", top_model=trained / "top", show_clips=True)) == first
    Path("made/README.md").write_text("my own words")
    again = contents(make("made", top_model=trained / "top"))
    assert again["README.old-1.md"] == b"my own words"
    assert "reconstructed.png" not in again  # it was made by the call before, and not by this one
    assert b"reconstructed" not in again["README.md"]
    assert "README.old-1.md" not in json.loads(again["publish.json"])["files"]


def test_a_frame_model_goes_alone(trained: Path, work: Path) -> None:
    made = make("made", frame_model=trained / "frame")
    assert {p.name for p in made.iterdir()} == {"README.md", "frame", "publish.json"}
    assert find_model(made, "frame")[0] == made / "frame"
    card = (made / "README.md").read_text()
    assert "ldf-video encode CLIPS --frame-model USER/NAME" in section(card, "Use")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"out": "other"}, r"publish other: it holds a\.txt and no publish\.json, so publish"),
        ({"out": "torn"}, r"publish torn: publish\.json is damaged"),
        ({"out": "out"}, r"publish out: publish\.json names files outside"),
        ({"out": "linked"}, "publish linked: top is a link out of it"),
        ({"out": "file"}, "a file is in the way"),
        ({"top_model": None}, "there is no checkpoints/top; name models by --top-model"),
        ({"figures": "file"}, "--figures file: .*expected what evaluate --json wrote"),
        ({"figures": "{home}/figures.json"}, r"it is not about .*pair/frame \(.*run evaluate with"),
        ({"license": "My own!"}, "--license My own!: expected a name such as mit"),
        ({"push": "name"}, "--push name: expected USER/NAME"),
    ],
)
def test_what_cannot_be_published_is_one_line_and_changes_nothing(
    trained: Path, work: Path, options: dict[str, Any], said: str
) -> None:
    save_pair(Path("pair"))
    for name in ("other", "torn", "out", "linked"):
        Path(name).mkdir()
    Path("file").write_text("{}")
    Path("other/a.txt").touch()
    Path("torn/publish.json").write_text("{")
    marked = {"format_version": 1, "files": {"../file": "0"}}
    Path("out/publish.json").write_text(json.dumps(marked))
    Path("linked/publish.json").write_text(json.dumps({"format_version": 1, "files": {}}))
    Path("linked/top").symlink_to(work / "pair" / "top")
    before = contents(work)
    asked = {"out": "new", "top_model": "pair", "quiet": True} | options
    if "figures" in asked:
        asked["figures"] = asked["figures"].format(home=trained)
    with pytest.raises(UsageError, match=said) as error:
        publish(**asked)
    assert "\n" not in str(error.value)
    assert contents(work) == before


# -- the card ------------------------------------------------------------------------------------


def test_the_card_says_what_the_runs_say(trained: Path, work: Path) -> None:
    made = make("made", top_model=trained / "top", figures=trained / "figures.json", license="mit")
    card = (made / "README.md").read_text()
    head = yaml.safe_load(card.split("---\n")[1])
    assert head == {
        "library_name": "ldf-video",
        "license": "mit",
        "tags": ["video-generation", "ldf-video"],
    }
    assert section(card, "Training").splitlines()[1:4] == [
        "ldf-video train-frame CLIPS --steps 2 --batch-size 4 --seed 1 --init MODEL",
        "ldf-video encode CLIPS",
        "ldf-video train-top --steps 2 --batch-size 4 --seed 1",
    ]
    top, frame = (info(trained / kind) for kind in ("top", "frame"))
    models = section(card, "Models")
    assert "| clips | 20, 180 frames | 20, 180 frames |" in models
    assert f"| weights | {frame['parameters']:,} | {top['parameters']:,} |" in models
    figures = section(card, "Figures")
    assert f"come back at {frame['held_out']['psnr_db']:.1f} dB, 2 steps" in figures
    found = json.loads((trained / "figures.json").read_text())
    names = [
        cell.strip() for cell in re.findall(r"^\| clips of.*", figures, re.MULTILINE)[0].split("|")
    ]
    for kind in ("real", "top model"):
        (row,) = re.findall(rf"^\| {kind} +\|.*\(.*", figures, re.MULTILINE)[:1]
        shown = float(row.split("|")[names.index("video")].split()[0])
        assert shown == pytest.approx(found["rows"][kind]["video"]["value"], abs=0.005)
    assert "clips of 5 frames of 32 x 32" in figures
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", card):
        assert (made / picture).is_file()


def test_the_card_names_the_options_that_its_figures_are_of(trained: Path, work: Path) -> None:
    evaluate(
        trained / "real.npy",
        top_model=trained / "top",
        judge=trained / "judge.pt",
        segments=2,
        length=21,
        num_videos=10,
        num_clips=20,
        skip=1,
        seed=1,
        json_file="long.json",
        quiet=True,
    )
    made = make("made", top_model=trained / "top", figures="long.json")
    command = re.findall("By `(.*)`:", (made / "README.md").read_text())[0]
    assert command == (
        "ldf-video evaluate --real CLIPS --top-model USER/NAME --num-clips 20 --frames 5 --seed 1 "
        "--skip 1 --judge FILE --segments 2 --length 21 --num-videos 10"
    )


def test_nothing_of_the_machine_is_in_the_folder(trained: Path, work: Path) -> None:
    make("made", top_model=trained / "top", figures=trained / "figures.json")
    for name, text in texts(Path("made")).items():
        assert SECRET not in text, name
        assert str(trained.parent) not in text, name
        assert "frames of it" not in text, name
    assert "frames_store" in checkpoints.load_config(trained / "frame")["options"]


def test_the_command_of_the_sample_makes_it(trained: Path, work: Path) -> None:
    made = make("made", top_model=trained / "top")
    card = (made / "README.md").read_text()
    line = section(card, "Use").splitlines()[3].replace("USER/NAME", "made")
    result = CliRunner().invoke(app, line.split()[1:])
    assert result.exit_code == 0, result.output
    assert Path("sample.gif").read_bytes() == (made / "sample.gif").read_bytes()


def test_without_a_licence_the_card_says_what_to_do(work: Path) -> None:
    save_pair(Path("checkpoints"))
    result = CliRunner().invoke(app, ["publish", "made"])
    assert result.exit_code == 0, result.output
    assert result.stdout == "made\n"
    assert "the card names no licence: give --license" in result.stderr
    assert result.stderr.splitlines()[-1] == (
        "look at made/README.md; it can be moved anywhere; "
        "to a hub: ldf-video publish made --push USER/NAME"
    )
    card = Path("made/README.md").read_text()
    assert "**None is said yet.**" in section(card, "Licence")
    assert "license:" not in card.split("---")[1]


# -- a hub ---------------------------------------------------------------------------------------


def test_what_is_pushed_comes_back(
    trained: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, asked = TinyHub(), {"num_frames": 6, "seed": 3, "quiet": True}
    hub.repositories["someone/other"] = {"README.md": b"mine"}
    with hub.reached(monkeypatch, work / "cache"):
        done = publish("made", top_model=trained / "top", push="someone/new", quiet=True)
        assert str(done.address).endswith("/someone/new")
        assert hub.private == {"someone/new": True}
        Path("made/notes.txt").write_text("of no use to others")
        make("made", top_model=trained / "top", push="someone/new", license="mit")
        assert hub.repositories["someone/new"] == {
            name: data for name, data in contents(Path("made")).items() if name != "notes.txt"
        }
        assert b"--top-model someone/new" in hub.repositories["someone/new"]["README.md"]
        generate("hub.gif", top_model="someone/new", **asked)
        with pytest.raises(LdfError, match=r"someone/other on the hub holds README\.md and no"):
            make("made", top_model=trained / "top", push="someone/other")
        assert hub.repositories["someone/other"] == {"README.md": b"mine"}
    generate("run.gif", top_model=trained / "top", **asked)
    assert Path("hub.gif").read_bytes() == Path("run.gif").read_bytes()
    with pytest.raises(LdfError, match="someone/new: the hub refused or failed"):
        make("made", top_model=trained / "top", push="someone/new")  # nobody answers there any more


def test_a_model_that_began_with_one_of_the_hub_names_it(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = TinyHub()
    hub.hold("someone/tiny", save_frame(work / "tiny" / "frame").parent)
    write_array(Path("clips/a.npy"), 30)
    with hub.reached(monkeypatch, work / "cache"):
        train_frame("clips", init="someone/tiny", steps=1, batch_size=4, seed=1, quiet=True)
    made = make("made", frame_model="checkpoints/frame")
    card = (made / "README.md").read_text()
    assert yaml.safe_load(card.split("---\n")[1])["base_model"] == ["someone/tiny"]
    assert re.search(r"--init someone/tiny@[0-9a-f]{40}\n", section(card, "Training"))
