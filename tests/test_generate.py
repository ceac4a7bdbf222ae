"""generate: as many frames as asked for, from a seed, in every kind of file."""

from __future__ import annotations

import json
import re
import signal
import threading
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from clip_files import LOSSLESS, barcode, write_clip, write_sound
from launch_variables import as_launched
from PIL import Image
from tiny_models import FLOW, save_frame, save_pair, save_top, write_array

from ldf_video.api import generate, interpolate, reconstruct
from ldf_video.clips.probe import probe
from ldf_video.errors import CheckpointError, ReadError, UsageError
from ldf_video.levels import latents as latents_room
from ldf_video.levels.latents import DECODED_AT_ONCE, video_generator
from ldf_video.models.rollout import Rollout
from ldf_video.progress import Progress
from ldf_video.recipes import generate as room
from ldf_video.recipes.generate import Generated
from ldf_video.runs.zoo import load_frame_model, load_top_model
from ldf_video.training import checkpoints
from ldf_video.video.geometry import Geometry
from ldf_video.video.pixels import from_model


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a pair of own models where commands look for them."""
    monkeypatch.chdir(tmp_path)
    save_pair(tmp_path / "checkpoints")
    return tmp_path


def make(output: Any = "out.mp4", **options: Any) -> Generated:
    return generate(output, **{"quiet": True, "seed": 1, "upscale": 1} | options)


def count_decoded(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def pixels_of(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        images = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack(images).astype(int)


@pytest.mark.parametrize("num_frames", [1, 37])
def test_a_video_decodes_to_as_many_frames_as_asked_for(root: Path, num_frames: int) -> None:
    made = make(num_frames=num_frames)
    assert [str(path) for path in made.paths] == ["out.mp4"]
    assert count_decoded(root / "out.mp4") == num_frames
    info = probe(root / "out.mp4")
    assert (info.width, info.height, info.fps) == (32, 32, Fraction(12))


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(root: Path) -> None:
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        make(f"{name}.mp4", seed=seed, num_frames=6)
    a, b, c = ((root / f"{name}.mp4").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_without_a_seed_one_is_drawn_and_printed(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = generate("a.mp4", num_frames=2, upscale=1)
    (printed,) = re.findall(r"seed (\d+)", capfd.readouterr().err)
    assert first.seed == int(printed)
    assert make("b.mp4", seed=None, num_frames=2).seed != first.seed
    make("c.mp4", seed=first.seed, num_frames=2)
    assert (root / "c.mp4").read_bytes() == (root / "a.mp4").read_bytes()


def test_frames_are_decoded_from_what_the_flow_samples(root: Path) -> None:
    """A gif is exact up to 256 colours a frame; a sheet always: the pixels can be checked."""
    make("sheet.png", num_frames=5, seed=3)
    top = load_top_model(root / "checkpoints" / "top", device="cpu").model
    frame = load_frame_model(root / "checkpoints" / "frame", device="cpu").model
    with torch.no_grad():
        latents = torch.cat(list(top.sample(Rollout(5), [video_generator(3, 0)])), dim=1)[0]
        first = frame.generator(latents).clamp(-1, 1)
        frames = from_model(frame.generator(frame.encoder(first)))  # by way of a frame
    sheet = np.asarray(Image.open(root / "sheet.png").convert("RGB"))
    assert sheet.shape == (32, 5 * 32, 3)
    for number, expected in enumerate(frames):
        shown = sheet[:, number * 32 : (number + 1) * 32].astype(int)
        assert np.abs(shown - expected).max() <= 1  # other batch, other rounding
    assert np.abs(frames[0].astype(int) - frames[1]).max() > 3


def test_a_directory_gets_a_file_a_video(root: Path) -> None:
    made = make("videos", num_videos=3, num_frames=5, seed=2)
    assert [str(path) for path in made.paths] == [f"videos/000{i}.mp4" for i in range(3)]
    assert [count_decoded(root / path) for path in made.paths] == [5, 5, 5]
    contents = {(root / path).read_bytes() for path in made.paths}
    assert len(contents) == 3


def test_a_directory_with_other_films_is_left_alone(root: Path) -> None:
    """Ten new films among ninety old ones would be judged together."""
    make("videos", num_videos=3, num_frames=2)
    (root / "videos" / ".hidden").touch()
    before = {path.name: path.read_bytes() for path in (root / "videos").iterdir()}
    with pytest.raises(UsageError, match=r"--out videos: it holds 1 other file, such as 0002\.mp4"):
        make("videos", num_videos=2, num_frames=2, seed=2)
    assert {path.name: path.read_bytes() for path in (root / "videos").iterdir()} == before
    make("videos", num_videos=4, num_frames=2)  # the same and one more
    with pytest.raises(UsageError, match="--out checkpoints: it holds 2 other files, such as f"):
        make("checkpoints")
    (root / "file").touch()
    with pytest.raises(UsageError, match="--out file: a file is in the way; name a directory"):
        make("file")


def test_a_directory_is_filled_a_few_videos_at_a_time(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    shares: list[float] = []
    whole = latents_room.decode

    def look(model: Any, blocks: Any) -> Any:
        for frames in whole(model, blocks):
            batches.append(len(frames))
            yield frames

    def note(progress: Progress, count: int) -> None:
        assert progress.total is not None
        shares.append(count / progress.total)

    monkeypatch.setattr(latents_room, "decode", look)
    monkeypatch.setattr(Progress, "update", note)
    assert room.VIDEOS_AT_ONCE == 16
    monkeypatch.setattr(room, "VIDEOS_AT_ONCE", 2)
    few = make("few", num_videos=5, num_frames=FLOW.block)
    assert batches == [2, 2, 1]
    assert shares == [0.4, 0.8, 1.0]
    monkeypatch.setattr(room, "VIDEOS_AT_ONCE", 16)
    batches.clear()
    many = make("many", num_videos=5, num_frames=FLOW.block)
    assert batches == [5]
    for one, other in zip(few.paths, many.paths, strict=True):
        assert one.name == other.name
        assert np.abs(pixels_of(root / one) - pixels_of(root / other)).mean() < 1
    assert np.abs(pixels_of(root / few.paths[0]) - pixels_of(root / few.paths[2])).mean() > 3


def test_the_clip_to_go_on_from_is_not_written_over(root: Path) -> None:
    write_clip(root / "a.mp4", [barcode(n) for n in range(3)])
    (root / "videos").mkdir()
    write_clip(root / "videos" / "0001.mp4", [barcode(n) for n in range(3)])
    before = (root / "a.mp4").read_bytes()
    with pytest.raises(UsageError, match=r"got output a\.mp4, which is the input"):
        make("a.mp4", start_from="./a.mp4")
    with pytest.raises(UsageError, match=r"0001\.mp4, which is the input"):
        make("videos", num_videos=2, start_from="videos/0001.mp4")
    assert (root / "a.mp4").read_bytes() == before
    assert [path.name for path in (root / "videos").iterdir()] == ["0001.mp4"]


def test_several_videos_in_one_file_stand_side_by_side(root: Path) -> None:
    make("grid.png", num_videos=3, num_frames=2)
    make("one.png", num_videos=1, num_frames=2)
    grid = np.asarray(Image.open(root / "grid.png").convert("RGB")).astype(int)
    one = np.asarray(Image.open(root / "one.png").convert("RGB")).astype(int)
    assert grid.shape == (64, 2 * 64, 3)  # two frames of 2 x 2 cells
    assert not grid[32:, 32:64].any()  # the fourth is empty
    # The first video is the same with and without others.
    assert np.abs(grid[:32, :32] - one[:, :32]).max() <= 1
    assert np.abs(grid[:32, 64:96] - one[:, 32:]).max() <= 1
    assert np.abs(grid[:32, :32] - grid[:32, 32:64]).max() > 3


def test_fps_and_upscale(root: Path) -> None:
    make(num_frames=2, fps="30000/1001", upscale=3)
    info = probe(root / "out.mp4")
    assert (info.width, info.height, info.fps) == (96, 96, Fraction(30000, 1001))
    make(num_frames=2, upscale=None)
    assert probe(root / "out.mp4").width == 128


@pytest.mark.parametrize(
    ("fps", "said"),
    [
        (None, ""),
        ("12", ""),
        (
            "30",
            "generate: checkpoints/top knows one rate, 12 frames a second: --fps changes the "
            "file's alone, which plays 2.5 times as fast",
        ),
        ("4", "plays 0.333 times as fast"),
        ("12000/1001", ""),
    ],
)
def test_another_rate_than_the_learned_one_is_said_to_change_the_file_alone(
    root: Path, capfd: pytest.CaptureFixture[str], fps: str | None, said: str
) -> None:
    make(num_frames=2, fps=fps, quiet=False)
    lines = [line for line in capfd.readouterr().err.splitlines() if "one rate" in line]
    assert len(lines) == bool(said)
    assert said in "".join(lines)


def test_no_rate_is_said_to_change_of_a_sheet_or_from_a_time_base(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make("sheet.png", num_frames=2, fps="30", quiet=False)
    path = root / "checkpoints" / "top"
    checkpoints.save_config(path, checkpoints.load_config(path) | {"fps": "1000"})
    make(num_frames=2, fps="30", quiet=False)
    assert "one rate" not in capfd.readouterr().err


def test_going_on_from_a_clip(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clip(root / "a.mkv", [barcode(n) for n in range(30)])
    write_clip(root / "b.mkv", [barcode(255 - n) for n in range(3)])
    for name, clip in (("none", None), ("a", "a.mkv"), ("a2", "a.mkv"), ("b", "b.mkv")):
        make(f"{name}.mp4", start_from=clip, num_frames=5, num_videos=2)
    files = {name: (root / f"{name}.mp4").read_bytes() for name in ("none", "a", "a2", "b")}
    assert files["a"] == files["a2"]
    assert len(set(files.values())) == 3
    assert count_decoded(root / "a.mp4") == 5
    monkeypatch.setattr(room, "VIDEOS_AT_ONCE", 2)
    made = make("videos", num_videos=3, num_frames=2, start_from="a.mkv")
    assert [count_decoded(root / path) for path in made.paths] == [2, 2, 2]


def test_only_the_last_window_of_a_long_clip_counts(root: Path) -> None:
    write_array(root / "long.npy", 60)
    frames = np.load(root / "long.npy")
    np.save(root / "end.npy", frames[-FLOW.window :])
    seen = frames.copy()
    seen[FLOW.block - FLOW.window] += 99  # the oldest frame that the network has room for
    np.save(root / "seen.npy", seen)
    for name in ("long", "end", "seen"):
        make(f"{name}.mp4", start_from=f"{name}.npy", num_frames=3)
    assert (root / "long.mp4").read_bytes() == (root / "end.mp4").read_bytes()
    assert (root / "long.mp4").read_bytes() != (root / "seen.mp4").read_bytes()


def test_a_clip_is_read_as_the_latents_were(root: Path) -> None:
    """Every second frame of a clip is what encode --fps 12 took of one at 24."""
    images = [barcode(n) for n in range(60)]
    write_clip(root / "fast.mkv", images, fps=24, **LOSSLESS)
    write_clip(root / "slow.mkv", images[::2], fps=12, **LOSSLESS)
    path = root / "checkpoints" / "top"
    config = checkpoints.load_config(path)
    checkpoints.save_config(
        path, config | {"frames": Geometry(32, 32, fps=Fraction(12)).settings()}
    )
    for name in ("fast", "slow"):
        make(f"{name}.mp4", start_from=f"{name}.mkv", num_frames=3)
    assert (root / "fast.mp4").read_bytes() == (root / "slow.mp4").read_bytes()


def test_a_clip_is_laid_out_as_those_of_the_latents_were(root: Path) -> None:
    images = np.stack([barcode(n) for n in range(12)])
    np.save(root / "a.npy", images)
    np.save(root / "turned.npy", np.moveaxis(images, 0, 2))
    np.savez(root / "b.npz", view=np.moveaxis(images, 0, 2), other=images[:, :24])
    make("expected.mp4", start_from="a.npy", num_frames=3)
    path = root / "checkpoints" / "top"
    frames = {**Geometry(32, 32).settings(), "axes": "YXTC"}
    checkpoints.save_config(path, checkpoints.load_config(path) | {"frames": frames})
    for name in ("turned.npy", "b.npz::view"):
        make(start_from=name, num_frames=3)
        assert (root / "out.mp4").read_bytes() == (root / "expected.mp4").read_bytes()
    interpolate("turned.npy", "turned.npy", num_frames=4, quiet=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_interrupted_leaves_files_that_play(
    root: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    whole = room.rolled_frames

    def some(frames: Any) -> Any:
        yield from islice(frames, 2)
        signal.raise_signal(number)

    @contextmanager
    def interrupted(*arguments: Any) -> Any:
        with whole(*arguments) as frames:
            yield some(frames)

    monkeypatch.setattr(room, "rolled_frames", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make("videos", num_videos=2, num_frames=50)
    assert sorted(path.name for path in (root / "videos").iterdir()) == ["0000.mp4", "0001.mp4"]
    assert count_decoded(root / "videos" / "0001.mp4") == DECODED_AT_ONCE  # two of half that
    assert "ahead" not in [thread.name for thread in threading.enumerate()]


def test_a_cut_clip_is_gone_on_from_where_it_ends(root: Path) -> None:
    whole = write_clip(root / "a.mkv", [barcode(n) for n in range(60)]).read_bytes()
    (root / "cut.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    make(start_from="cut.mkv", num_frames=3)
    assert count_decoded(root / "out.mp4") == 3


def test_a_folder_of_numbered_pictures_is_gone_on_from(root: Path) -> None:
    images = [barcode(n) for n in range(12)]
    (root / "walk").mkdir()
    for n, image in enumerate(images):
        Image.fromarray(image).save(root / "walk" / f"{n}.png")
    np.save(root / "walk.npy", np.stack(images))
    for name in ("walk", "walk.npy"):
        make(f"from-{name}.mp4", start_from=name, num_frames=3)
    assert (root / "from-walk.mp4").read_bytes() == (root / "from-walk.npy.mp4").read_bytes()
    with pytest.raises(UsageError, match=r"walk.3\.png, a file of the input walk"):
        make("walk/3.png", start_from="walk", num_frames=3)
    with pytest.raises(ReadError, match="--from checkpoints: a directory with no series of"):
        make("new.mp4", start_from="checkpoints")


def test_a_clip_without_pictures_is_named(root: Path) -> None:
    write_sound(root / "sound.mp4")
    with pytest.raises(ReadError, match=r"--from sound\.mp4: no video stream"):
        make(start_from="sound.mp4")
    with pytest.raises(UsageError, match=r"--from none\.mp4: there is no such file; expected a v"):
        make(start_from="none.mp4")
    assert not (root / "out.mp4").exists()


def test_a_directory_with_a_dot_in_its_name(root: Path) -> None:
    assert make("out.v2/", num_videos=2).paths == (Path("out.v2/0000.mp4"), Path("out.v2/0001.mp4"))
    assert make("out.v2", num_videos=2).paths[1] == Path("out.v2/0001.mp4")  # it is there
    assert make("made.mp4/").paths == (Path("made.mp4/0000.mp4"),)
    with pytest.raises(UsageError, match="is a directory"):
        make("made.mp4")
    for name in ("out.avi", "out.mp4.txt"):
        with pytest.raises(
            UsageError, match=r"expected \.mp4, \.gif, \.png or a directory; .* in /"
        ):
            make(name)


# -- loops ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_frames", [4, 9])
def test_a_loop_says_how_far_its_ends_are_apart(
    root: Path, capfd: pytest.CaptureFixture[str], num_frames: int
) -> None:
    made = make("loop.png", num_frames=num_frames, loop=True, quiet=False)
    frames = np.asarray(Image.open(root / "loop.png").convert("RGB")).astype(int)
    frames = np.stack(np.split(frames, num_frames, axis=1))
    steps = np.abs(np.diff(frames, axis=0)).mean((1, 2, 3))
    seam = np.abs(frames[-1] - frames[0]).mean()
    assert made.seams is not None
    assert made.seams.distances == pytest.approx([seam], abs=0.001)
    expected = pytest.approx(np.percentile(steps, [5, 95]), abs=0.001)
    assert (made.seams.low, made.seams.high) == expected
    said = f"generate: seam {seam:.2f} of 255, neighbouring frames {made.seams.low:.2f} to "
    assert said in capfd.readouterr().err
    assert make("plain.png", num_frames=num_frames).seams is None


def test_loops_of_a_directory_are_measured_together(
    root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(room, "VIDEOS_AT_ONCE", 2)
    made = make("loops", num_videos=3, num_frames=6, loop=True, quiet=False)
    assert [count_decoded(root / path) for path in made.paths] == [6, 6, 6]
    assert made.seams is not None
    alone = [make("a.png", num_frames=6, loop=True).seams]
    assert made.seams.distances[:1] == pytest.approx(alone[0].distances, rel=0.01)  # type: ignore[union-attr]
    within = sum(made.seams.low <= seam <= made.seams.high for seam in made.seams.distances)
    assert f"(5th to 95th percentile): {within} of 3 within" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"num_frames": 3},
            "--loop --frames 3: checkpoints/top closes a loop in a block of 4 frames; give "
            "--frames 4 or more",
        ),
        (
            {"start_from": "a.npy"},
            "got --loop and --from: a loop has no beginning that a clip could stand before; give "
            "one of the two",
        ),
    ],
    ids=["less than a block", "from a clip"],
)
def test_loops_that_cannot_be(root: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as error:
        make(loop=True, **options)
    assert str(error.value) == said
    assert not (root / "out.mp4").exists()


@pytest.mark.parametrize("num_frames", [1, 16])
def test_a_flow_that_makes_a_frame_at_a_time_makes_no_loop(root: Path, num_frames: int) -> None:
    save_top(
        root / "single", root / "checkpoints" / "frame", config=replace(FLOW, block=1, window=7)
    )
    with pytest.raises(UsageError) as error:
        make(top_model="single", loop=True, num_frames=num_frames)
    assert str(error.value) == (
        "--loop: single makes one frame at a time and cannot lead to a known one; train-top "
        "--window 8 or more can, on clips of as many frames"
    )


# -- how many passes -------------------------------------------------------------------------------


def test_a_block_takes_as_many_passes_as_asked_for(root: Path) -> None:
    """A first block takes its share more, and as many as trained are what is made without."""
    usual, first = FLOW.sampling_steps, FLOW.first_steps
    assert first > usual
    for name, steps in (("as-trained", None), ("same", usual), ("more", 2 * usual)):
        make(f"{name}.png", num_frames=6, steps_per_block=steps)
    shown = [
        np.asarray(Image.open(root / f"{name}.png")) for name in ("as-trained", "same", "more")
    ]
    assert (shown[0] == shown[1]).all()
    assert (shown[0] != shown[2]).any()
    config = replace(FLOW, sampling_steps=2 * usual, first_steps=2 * first)
    save_top(root / "longer" / "top", root / "checkpoints" / "frame", config=config)
    make("trained-so.png", num_frames=6, top_model="longer/top")
    assert (shown[2] == np.asarray(Image.open(root / "trained-so.png"))).all()


def test_a_student_takes_no_other_number_of_passes(root: Path) -> None:
    save_top(
        root / "student",
        root / "checkpoints" / "frame",
        config=replace(FLOW, kept=True, renewed=True, sampling_steps=1),
    )
    settings = json.loads((root / "student" / checkpoints.CONFIG).read_text())
    origin = {"from": "teacher/top", "fingerprint": "0" * 64, "path": "top"}
    checkpoints.save_config(root / "student", settings | {"init": origin})
    with pytest.raises(UsageError) as error:
        make(top_model="student", steps_per_block=5)
    assert str(error.value) == (
        "--steps-per-block 5: student learned to make a block in 1, no other number; name the flow "
        "that it learned from, teacher/top, as --top-model"
    )


# -- which models --------------------------------------------------------------------------------


def test_a_damaged_model_in_one_place_does_not_hide_the_right_one_in_another(root: Path) -> None:
    save_top(root / "other" / "top", save_frame(root / "other" / "frame", seed=4))
    (root / "checkpoints" / "frame" / "config.json").write_text("{")
    (root / "other").rename(root / "moved")
    make(top_model="moved/top", num_frames=2)
    assert count_decoded(root / "out.mp4") == 2


@pytest.mark.parametrize(("fps", "shown"), [("1000", 25), ("120", 120)])
def test_a_time_base_is_no_rate_to_watch_a_video_at(root: Path, fps: str, shown: int) -> None:
    path = root / "checkpoints" / "top"
    checkpoints.save_config(path, checkpoints.load_config(path) | {"fps": fps})
    make(num_frames=4)
    assert probe(root / "out.mp4").fps == shown


@pytest.mark.parametrize("fps", [None, "fast", "0", []])
def test_a_top_model_that_does_not_know_its_rate(root: Path, fps: Any) -> None:
    path = root / "checkpoints" / "top"
    config = {k: v for k, v in checkpoints.load_config(path).items() if k != "fps"}
    checkpoints.save_config(path, config | ({} if fps is None else {"fps": fps}))
    with pytest.raises(CheckpointError, match=r"config\.json is damaged: fps is .*give --fps$"):
        make()
    make(fps="5", num_frames=1)


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        ({"height": 32, "width": 32, "fps": None}, "no 'crop'"),
        ({"height": 0, "width": 32, "fps": None, "crop": "none"}, "got a frame size of 0x32"),
        ({"height": 32, "width": 32, "fps": "fast", "crop": "none"}, "Fraction: 'fast'"),
        ([], "indices"),
    ],
)
def test_a_top_model_that_does_not_know_its_frames(root: Path, frames: Any, said: str) -> None:
    write_array(root / "a.npy", 3)
    path = root / "checkpoints" / "top"
    checkpoints.save_config(path, checkpoints.load_config(path) | {"frames": frames})
    with pytest.raises(CheckpointError, match=rf"is damaged: frames has .*{said}.*, expected"):
        make(start_from="a.npy")


# -- a top model of the kind mlp -----------------------------------------------------------------


@pytest.fixture
def mlp_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As `root`, the top model being one that makes 5 frames."""
    monkeypatch.chdir(tmp_path)
    save_pair(tmp_path / "checkpoints", kind="mlp")
    return tmp_path


@pytest.mark.parametrize("num_frames", [None, 5])
def test_an_mlp_makes_its_own_number_of_frames(mlp_root: Path, num_frames: int | None) -> None:
    made = make(num_frames=num_frames)
    assert made.num_frames == 5
    assert count_decoded(mlp_root / "out.mp4") == 5


def test_a_flow_makes_16_frames_unless_told_otherwise(root: Path) -> None:
    assert make().num_frames == count_decoded(root / "out.mp4") == 16


def test_an_mlp_makes_no_other_number_and_goes_on_from_nothing(mlp_root: Path) -> None:
    write_array(mlp_root / "a.npy", 9)
    with pytest.raises(UsageError) as error:
        make(num_frames=7)
    assert str(error.value) == (
        "--frames 7: checkpoints/top is of the kind mlp and makes 5 frames, always; "
        "train-top --kind flow makes any number"
    )
    with pytest.raises(UsageError) as error:
        make(start_from="a.npy")
    assert str(error.value) == (
        "--from: checkpoints/top is of the kind mlp and cannot go on from a clip; "
        "train-top --kind flow can"
    )
    with pytest.raises(UsageError, match="--loop: checkpoints/top is of the kind mlp and cannot"):
        make(loop=True)
    assert not (mlp_root / "out.mp4").exists()


@pytest.mark.parametrize("rank", ["0", "1"])
def test_several_processes_are_refused_and_one_of_them_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: str
) -> None:
    as_launched(monkeypatch, rank=int(rank))
    with pytest.raises(UsageError, match="generate takes one process") as caught:
        generate(tmp_path / "a.mp4", num_frames=2)
    assert caught.value.reported_elsewhere == (rank == "1")
    with pytest.raises(UsageError, match="reconstruct takes one process"):
        reconstruct(tmp_path)
    assert not list(tmp_path.iterdir())
