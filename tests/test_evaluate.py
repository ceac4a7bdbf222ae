"""evaluate: from clips and models on disk to a table, JSON and a sheet."""

from __future__ import annotations

import json
import threading
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from tiny_judge import ClipFeatures, moving_clips, write_judge
from tiny_models import frame_model, save_frame, save_pair, save_top
from typer.testing import CliRunner

from ldf_video.api import evaluate, generate, reconstruct
from ldf_video.cli import app
from ldf_video.errors import CheckpointError, LdfError, ReadError, UsageError
from ldf_video.evaluation import comparison, figures, judged
from ldf_video.evaluation.clouds import Estimate, difference
from ldf_video.evaluation.figures import COMPARED, estimate
from ldf_video.evaluation.reference import Reference
from ldf_video.evaluation.report import Evaluated, _aligned
from ldf_video.evaluation.segments import Rollouts
from ldf_video.recipes import evaluate as recipe
from ldf_video.video.sheet import tile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ONE_SOURCE = (
    "real: all clips that were drawn are of one source: its first half is the reference, its "
    "second the floor, which then holds what changed in between"
)
ALL = ["real", "top model", "reconstruction", "noisy latents", "prior"]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with 60 real clips, a judge and a pair of models."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "real").mkdir()
    np.save(tmp_path / "real" / "clips.npy", moving_clips(60, seed=1))
    write_judge(tmp_path / "judge.pt")
    save_pair(tmp_path / "checkpoints")
    return tmp_path


def run(**options: Any) -> Evaluated:
    return evaluate(
        "real", **{"judge": "judge.pt", "num_clips": 30, "seed": 1, "quiet": True, **options}
    )


def test_everything_at_once(root: Path) -> None:
    np.save(root / "train.npy", moving_clips(40, seed=2))
    found = run(
        top_model="checkpoints",
        frame_model="checkpoints",
        train="train.npy",
        output="deep/sheet.png",
        json_file="deep/all.json",
    )
    assert list(found.rows) == ALL
    assert set(found.origins) == {*ALL, "training"}
    assert found.notes == (ONE_SOURCE,)
    assert (found.num_clips, found.size, found.seed) == (30, (32, 32), 1)
    for name, row in found.rows.items():
        assert row.num_clips == 30
        assert row.frame.low <= row.frame.value <= row.frame.high
        assert (row.psnr_db is not None) == (name in ("reconstruction", "noisy latents"))
        whole = name != "prior"
        for field in ("video", "motion", "video_plus", "diversity", "change", "memorisation"):
            assert (getattr(row, field) is not None) == whole
    assert found.rows["real"].frame.value < found.rows["reconstruction"].frame.value
    kept = json.loads((root / "deep" / "all.json").read_text())
    assert kept["judge_sha256"] == found.judge_sha256
    assert kept["reference_sha256"] == found.reference_sha256
    assert kept["versions"].keys() == {"ldf-video", "torch", "numpy"}
    assert kept["rows"]["real"]["frame"]["value"] == found.rows["real"].frame.value
    assert kept["rows"]["prior"]["video"] is None
    with Image.open(root / "deep" / "sheet.png") as sheet:
        # four clips of five frames and four gaps; three sets of eight rows, 30 single frames in
        # three rows, and three gaps
        assert sheet.size == (24 * (2 * 32 + 2) + 2, 30 * (2 * 32 + 2) + 2)


def test_the_same_seed_gives_the_same_figures_and_another_gives_others(root: Path) -> None:
    found = run()
    assert list(found.rows) == ["real", "top model"]  # the one that generate takes
    assert found.origins["top model"].startswith("checkpoints/top (")
    assert run().rows == found.rows
    assert run(seed=2).rows["top model"] != found.rows["top model"]


def test_top_clips_are_what_generate_makes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[np.ndarray] = []
    make = judged.generated
    monkeypatch.setattr(judged, "generated", lambda *a, **o: kept.append(make(*a, **o)) or kept[0])
    run()
    generate("out.png", num_frames=5, num_videos=30, seed=1, upscale=1, quiet=True)
    ours = np.concatenate(list(tile(kept[0])), axis=1)  # a sheet has its frames side by side
    assert np.array_equal(ours, np.asarray(Image.open("out.png")))


def test_reconstructions_are_of_clips_that_are_not_the_reference(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray] = []
    encode = judged.encoded
    monkeypatch.setattr(
        judged, "encoded", lambda m, clips, **o: seen.append(clips) or encode(m, clips, **o)
    )
    references: list[np.ndarray] = []
    make = Reference.of
    monkeypatch.setattr(
        Reference,
        "of",
        lambda clips, *a, **o: references.append(clips) or make(clips, *a, **o),
    )
    found = run(frame_model="checkpoints")
    ((held_out,), (reference,)) = seen, references
    everything = {clip.tobytes() for clip in np.load("real/clips.npy")}
    ours, theirs = ({clip.tobytes() for clip in half} for half in (held_out, reference))
    assert len(ours) == len(theirs) == 30
    assert ours | theirs == everything
    np.save("held_out.npy", held_out)
    expected = reconstruct("held_out.npy", frame_model="checkpoints", quiet=True).psnr_db
    assert found.rows["reconstruction"].psnr_db == pytest.approx(expected, abs=1e-5)
    assert found.rows["noisy latents"].psnr_db != found.rows["reconstruction"].psnr_db


def test_noise_is_a_tenth_of_each_dimensions_spread() -> None:
    clips = moving_clips(100)
    latents = judged.encoded(frame_model(), clips, device="cpu")
    assert latents.shape == (500, 4, 4, 4)
    added = judged.noisy(latents, seed=3) - latents
    np.testing.assert_allclose(added.std(0), 0.1 * latents.std(0), rtol=0.2)
    assert (judged.prior((4, 2, 2), count=3000, seed=1).std(0) - 1).abs().max() < 0.1


def test_generated_clips_on_disk(root: Path) -> None:
    generate("made", num_frames=5, num_videos=30, seed=3, quiet=True)  # upscaled mp4
    found = run(generated="made", frame_model="checkpoints")
    assert found.rows["generated"].frame.value > found.rows["real"].frame.value


def test_a_set_that_was_judged_is_let_go(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(root / "generated.npy", moving_clips(40, seed=3))
    monkeypatch.setattr(figures, "MOST_LOOKED_UP", 10)  # that are kept, as copies
    sets: list[weakref.ref[np.ndarray]] = []
    held: list[list[bool]] = []
    measure = comparison.measure

    def noted(reference: Any, clips: np.ndarray, *others: Any, **more: Any) -> Any:
        held.append([known() is not None for known in sets])
        sets.append(weakref.ref(clips))
        return measure(reference, clips, *others, **more)

    monkeypatch.setattr(comparison, "measure", noted)
    found = run(generated="generated.npy", top_model="checkpoints", frame_model="checkpoints")
    assert list(found.rows)[:4] == ["real", "generated", "top model", "reconstruction"]
    assert held[2:4] == [[True, False], [True, False, False]]


def test_clips_that_copy_the_training_clips_are_told(root: Path) -> None:
    train = moving_clips(80, seed=5)
    np.save(root / "train.npy", train)
    np.save(root / "copies.npy", train[10:40] ^ 1)
    np.save(root / "new.npy", moving_clips(30, seed=6))
    copies = run(generated="copies.npy", train="train.npy").rows
    new = run(generated="new.npy", train="train.npy").rows
    assert copies["generated"].memorisation.copied_percent == 100
    assert list(copies) == ["real", "generated"]
    assert copies["generated"].memorisation.median_levels == 1
    assert new["generated"].memorisation.copied_percent < 20
    assert copies["real"].memorisation.median_levels > 20


def test_fewer_real_clips_are_shared_evenly_and_said(root: Path) -> None:
    found = run(num_clips=50, generated="real")
    assert found.num_clips == 30
    assert found.notes == (
        "real: 60 clips that share no frame, so 30 a side, not 50: distances grow with fewer "
        "clips, compare only at equal numbers",
        ONE_SOURCE,
    )
    assert "\n\n".join(found.notes) in found.table()


def test_fewer_generated_clips_and_what_could_not_be_read_are_said(root: Path) -> None:
    np.save(root / "few.npy", moving_clips(21, seed=3))
    (root / "real" / "bad.mp4").write_bytes(b"")
    found = run(generated="few.npy")
    assert found.rows["generated"].num_clips == 21
    unread, one_source, few = found.notes
    assert one_source == ONE_SOURCE  # the second one, as the first has none
    assert unread == "real: 1 of 2 sources not read whole, the first bad.mp4: empty file"
    assert few.startswith("generated: 21 clips that share no frame, not 30")


def test_sizes(root: Path) -> None:
    assert run(generated="real", size="16x24").size == (16, 24)
    np.save(root / "real" / "clips.npy", moving_clips(60, seed=1, side=24))
    assert run(generated="real").size == (24, 24)
    assert run(generated="real", frame_model="checkpoints").size == (32, 32)


def test_a_reference_is_kept_and_taken(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"frame_model": "checkpoints", "reference": "kept/reference.npz", "train": "real"}
    first = run(**options)
    monkeypatch.setattr(Reference, "of", None)  # it is not made again
    second = run(**options)
    assert second.rows == first.rows
    assert second.reference_sha256 == first.reference_sha256
    other = run(**options, seed=9)  # which draws the same real clips, and other noise
    assert other.rows["real"] == first.rows["real"]
    assert other.rows["reconstruction"] == first.rows["reconstruction"]
    assert other.rows["prior"] != first.rows["prior"]


def test_a_reference_of_something_else_is_refused(root: Path) -> None:
    run(reference="kept.npz")
    with pytest.raises(LdfError, match="made with --num-clips 30, got 29; give --num-clips 30"):
        run(reference="kept.npz", num_clips=29)
    write_judge(root / "other.pt", seed=1)
    with pytest.raises(LdfError, match=r"judged by judge\.pt .* expected other\.pt"):
        run(reference="kept.npz", judge="other.pt")
    with pytest.raises(LdfError, match=r"got clips of 5 frames of 16 x 16, expected 5 frames of"):
        run(reference="kept.npz", generated="real", size="16")
    np.save(root / "real" / "clips.npy", moving_clips(60, seed=4))
    with pytest.raises(LdfError, match="made of other real clips than those of real"):
        run(reference="kept.npz")
    np.savez_compressed(root / "damaged.npz", head=np.arange(1000))
    packed = bytearray((root / "damaged.npz").read_bytes())
    packed[60] ^= 255
    for content in (b"nothing", bytes(packed)):
        (root / "kept.npz").write_bytes(content)
        with pytest.raises(LdfError, match=r"--reference kept\.npz: not a reference of this"):
            run(reference="kept.npz")


def without_what_is_new(path: Path) -> None:
    """Make a file as it was written before kernel distances and tracks."""
    new = ("kernel", "tracks")

    def older(rows: dict[str, Any]) -> dict[str, Any]:
        kept = {name: value for name, value in rows.items() if name not in new}
        for name in ("diversity", "change"):
            kept[name] = {n: v for n, v in kept[name].items() if n != "left"}
        return kept

    if path.suffix == ".json":
        found = json.loads(path.read_text())
        found["rows"] = {name: older(row) for name, row in found["rows"].items()}
        path.write_text(json.dumps({n: v for n, v in found.items() if n != "num_frames"}))
        return
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files if not name.startswith("moves")}
    head = json.loads(arrays["head"].tobytes())
    head["notes"]["floor"] = older(head["notes"]["floor"])
    np.savez(path, **{**arrays, "head": np.frombuffer(json.dumps(head).encode(), np.uint8)})


def test_files_of_before_are_taken(root: Path) -> None:
    np.save("made.npy", moving_clips(30, seed=3))
    options = {"generated": "made.npy", "reference": "kept.npz"}
    first = run(**options, json_file="a.json")
    for name in ("a.json", "kept.npz"):
        without_what_is_new(root / name)
    second = run(**options, compare="a.json")
    assert second.rows["generated"] == first.rows["generated"]
    assert second.rows["real"].frame == first.rows["real"].frame
    assert second.rows["real"].kernel is None
    assert second.notes[-1].startswith("--reference kept.npz: an earlier version wrote it, so that")
    (difference,) = second.differences.values()
    assert set(difference) == {"frame", "video", "motion", "video_plus"}


def test_a_judge_of_clips(root: Path) -> None:
    write_judge(root / "i3d.pt", ClipFeatures())
    found = run(judge="i3d.pt", frame_model="checkpoints")
    assert list(found.rows) == ["real", "reconstruction", "noisy latents"]
    assert found.notes[1:] == ("prior: left out, as the judge sees whole clips only",)
    assert found.rows["real"].frame is None
    assert found.rows["reconstruction"].video.value > 0


def test_long_videos_are_not_held(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "MAX_BYTES", 3 * 60 * 5 * 32 * 32)
    assert run(generated="real").num_clips == 30
    with pytest.raises(LdfError, match="62 clips of 32 x 32 would take"):
        run(generated="real", num_clips=31)


def test_frames_further_on_are_judged(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[np.ndarray] = []
    make = judged.generated
    monkeypatch.setattr(judged, "generated", lambda *a, **o: kept.append(make(*a, **o)) or kept[0])
    found = run(skip=9)
    assert found.skip == 9
    assert "of generated videos from frame 9 on" in found.table()
    generate("out.png", num_frames=14, num_videos=30, seed=1, upscale=1, quiet=True)
    width = kept[0].shape[3] * 6  # 30 videos are a grid of 6 x 5
    shown = np.asarray(Image.open("out.png"))[:, 9 * width :]
    assert np.array_equal(np.concatenate(list(tile(kept[0])), axis=1), shown)
    frames = np.repeat(moving_clips(30, seed=3)[:, :1], 9, axis=1)  # still, then as made
    np.save("made.npy", np.concatenate([frames, moving_clips(30, seed=4)], axis=1))
    np.save("late.npy", moving_clips(30, seed=4))
    late = run(generated="late.npy").rows["generated"]
    assert run(generated="made.npy", skip=9).rows["generated"] == late
    assert run(generated="made.npy").rows["generated"] != late
    with pytest.raises(UsageError, match="--skip -1: expected 0 or more"):
        run(skip=-1)
    save_pair(root / "paper", kind="mlp")
    assert list(run(top_model="paper").rows) == ["real", "top model"]
    with pytest.raises(
        UsageError, match=r"--skip 1: .* makes clips of 5 frames, .*; give --skip 0$"
    ):
        run(top_model="paper", skip=1)


def test_longer_clips(root: Path) -> None:
    np.save(root / "real" / "clips.npy", moving_clips(60, seed=1, num_frames=9))
    np.save(root / "made.npy", moving_clips(30, seed=2, num_frames=12))
    options = {"num_frames": 9, "generated": "made.npy", "reference": "kept.npz"}
    found = run(**options, skip=3, top_model="checkpoints", output="sheet.png")
    assert found.num_frames == 9
    assert "clips of 9 frames of 32 x 32" in found.table()
    assert [row.num_clips for row in found.rows.values()] == [30, 30, 30]
    assert run(**options, skip=3).rows["generated"] == found.rows["generated"]  # by the file
    with pytest.raises(LdfError, match=r"got clips of 5 frames .* expected 9 frames of"):
        run(**{**options, "num_frames": 5})
    for wrong, said in (
        ({"num_frames": 10}, r"real: .* 0 of 60 videos have 10, .* has 9 in all; give --frames 9"),
        ({"num_frames": 9, "skip": 4}, "0 of 30 videos have 9 behind the first 4.* --skip 3 or"),
        ({"num_frames": 1}, "--frames 1: expected 2 or more"),
    ):
        with pytest.raises((ReadError, UsageError), match=said):
            run(**{"generated": "made.npy", **wrong})
    np.save(root / "real" / "short.npy", moving_clips(20, num_frames=8))
    np.save(root / "real" / "clips.npy", moving_clips(39, num_frames=9))
    with pytest.raises(LdfError, match=r"39 clips of 9 .* or more \(39 of 59 videos have 9\)"):
        run(num_frames=9, generated="made.npy")


def long_videos(count: int, num_frames: int) -> np.ndarray:
    """The second stands still from frame 40 on, the third is plain from frame 60 on."""
    clips = moving_clips(count, seed=3, num_frames=num_frames)
    clips[1, 40:] = clips[1, 40]
    clips[2, 60:] = 7
    return clips


def test_drift_of_long_videos(root: Path) -> None:
    np.save(root / "long.npy", long_videos(6, 80))
    options = {"generated": "long.npy", "segments": 4, "length": 80, "num_videos": 6}
    found = run(**options, json_file="a.json", curve="c.png", output="s.png")
    names = [f"generated, {n} to {n + 19}" for n in (0, 20, 40, 60)]
    assert list(found.rows) == ["real", *names]
    assert [row.num_clips for row in found.rows.values()] == [24] * 5
    drift = found.drifts["generated"]
    assert drift.segments == ((0, 19), (20, 39), (40, 59), (60, 79))
    stills = [found.rows[name].change.still_clips_percent for name in names]
    assert stills == pytest.approx([0, 0, 100 / 6, 200 / 6])
    assert drift.within["moving %"] in (39, 59)  # five or four of six still move
    assert drift.beyond["moving %"] >= 1
    said = found.table()
    assert "6 videos, 24 clips a segment; within 1.2 of frames 0 to 19" in said
    assert "- video 1 stands still in frames 40 to 79" in said
    assert "- video 2 is of one colour in frames 60 to 79" in said
    kept = json.loads((root / "a.json").read_text())["drifts"]["generated"]
    assert [stopped["video"] for stopped in kept["stopped"]] == [1, 2]
    with Image.open("c.png") as curve, Image.open("s.png") as sheet:
        assert curve.size[1] > 1000  # five panels
        assert sheet.size[1] > 4 * 64  # two clips of each segment, a row each beside real ones
    (itself, *others) = run(**options, compare="a.json").differences.values()
    assert len(others) == 3
    assert {found.value for found in itself.values()} == {0}
    for wrong, message in (
        ({"num_videos": 7}, ": 6 videos, expected 7; give --num-videos 6"),
        ({"length": 84}, r": video 0 ends before frame 84; give a lower --length"),
        ({"length": 12}, r"--length 12: 4 segments of 3 frames behind the first 0, expected 5"),
        ({"num_clips": 20}, r"--segments 4: 18 clips a segment of 6 videos, expected 20 or more"),
        ({"train": "long.npy"}, "--train: clips of --segments are not looked up"),
        ({"segments": None}, "--length: of long videos; give --segments, too"),
        ({"num_videos": 401}, "--num-videos 401: more than a segment has clips; give fewer, or"),
        (
            {"generated": None, "frame_model": "checkpoints"},
            "--segments: of long videos; give --top-model or --generated, too",
        ),
        ({"curve": "c.mp4"}, r"--curve c.mp4: expected curves, .png"),
    ):
        with pytest.raises((LdfError, UsageError), match=message):
            run(**{**options, **wrong})


def test_of_long_videos_two_are_shown(root: Path) -> None:
    np.save(root / "long.npy", moving_clips(20, seed=3, num_frames=15))
    shown: list[np.ndarray] = []
    options = {"generated": "long.npy", "segments": 3, "length": 15, "num_videos": 20}
    with pytest.MonkeyPatch.context() as patch:
        rows = comparison.sheet_rows
        patch.setattr(
            comparison, "sheet_rows", lambda real, sets: shown.extend(sets) or rows(real, sets)
        )
        found = run(**options, output="s.png")  # one clip of a video, of an odd number of segments
    videos = np.load(root / "long.npy")
    first = [videos[video, 5 * n : 5 * n + 5] for n in range(3) for video in (0, 1)]
    assert np.array_equal(shown[0], np.stack(first))
    assert [row.num_clips for row in found.rows.values()] == [20] * 4


def test_a_segment_has_no_more_clips_than_real_ones(root: Path) -> None:
    np.save(root / "real" / "clips.npy", moving_clips(46, seed=1))
    np.save(root / "long.npy", moving_clips(16, seed=3, num_frames=40))
    options = {"generated": "long.npy", "segments": 2, "length": 40, "num_clips": 32}
    found = run(**options, num_videos=10)
    assert [found.rows[name].num_clips for name in found.rows] == [23, 20, 20]
    with pytest.raises(LdfError, match=r"real: 23 real clips a side, so 16 a segment of 16 videos"):
        run(**options, num_videos=16)


def test_long_videos_of_two_models_in_one_call(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(root / "long.npy", moving_clips(10, seed=3, num_frames=20))
    held: list[int] = []
    add = Rollouts.add

    def watched(self: Rollouts, *found: Any) -> None:
        add(self, *found)
        held.append(sum(map(len, self._views)))

    monkeypatch.setattr(Rollouts, "add", watched)
    options = {"segments": 2, "length": 20, "num_videos": 10}
    found = run(**options, generated="long.npy", top_model="checkpoints")
    assert held == [*range(1, 19), 9, 0, 0, 0]  # points of videos, then of all in one go
    name = "top model, 10 to 19, less generated, 10 to 19"
    assert list(found.differences) == [name.replace("10 to 19", "0 to 9"), name]
    rows = [found.rows[f"{made}, 10 to 19"].frame for made in ("top model", "generated")]
    assert found.differences[name]["frame"] == difference(*rows)
    save_pair(root / "paper", kind="mlp")
    with pytest.raises(UsageError, match="of 5 frames, expected 20; give --length 5 or less, and"):
        run(**options, top_model="paper")


def test_skipped_frames_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []

    def rolled() -> Iterator[np.ndarray]:
        made: list[weakref.ref[np.ndarray]] = []
        for number in range(4):
            held.append(sum(block() is not None for block in made))
            block = np.full((1, 4, 8, 8, 3), number, np.uint8)
            made.append(weakref.ref(block))
            yield block
            del block

    monkeypatch.setattr(
        judged, "rollouts", lambda *_, **__: ((range(1), blocks) for blocks in [rolled()])
    )
    options: dict[str, Any] = {"count": 1, "seed": 0, "device": "cpu"}
    models: Any = (None, None)
    found = judged.generated(*models, **options, num_frames=5, skip=9, on_frames=lambda count: None)
    assert found[0, :, 0, 0, 0].tolist() == [2, 2, 2, 3, 3]
    assert held == [0, 1, 1, 1]  # the one before, until the next is there


def test_drift_of_what_a_model_makes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, range, np.ndarray]] = []
    add = Rollouts.add
    monkeypatch.setattr(
        Rollouts, "add", lambda self, *found: seen.append(found) or add(self, *found)
    )
    monkeypatch.setattr(judged, "VIDEOS_AT_ONCE", {"cpu": 6})
    found = run(segments=3, length=32, num_videos=10, skip=2)
    assert list(found.rows)[1:] == [f"top model, {n} to {n + 9}" for n in (2, 12, 22)]
    pair = judged.load_models("checkpoints", None, default=False, skip=0, device="cpu").top
    assert pair is not None
    top, frame = (loaded.model for loaded in pair)
    options = {"num_frames": 32, "device": "cpu", "on_frames": lambda count: None}
    whole = judged.generated(top, frame, count=10, seed=1, **options)
    assert [(segment, videos) for segment, videos, _ in seen] == [
        (segment, videos) for videos in (range(6), range(6, 10)) for segment in range(3)
    ]
    for segment, videos, clips in seen:  # two clips of ten frames: at both ends
        frames = whole[videos.start : videos.stop, 2 + 10 * segment : 12 + 10 * segment]
        assert np.array_equal(clips, np.stack([frames[:, :5], frames[:, 5:]], axis=1))


def test_two_models_are_compared_by_the_paired_difference(root: Path) -> None:
    near, far = moving_clips(30, seed=7), moving_clips(30, seed=8)
    np.save("near.npy", near)
    np.save("far.npy", far // 2)
    one = run(generated="near.npy", json_file="near.json", seed=5)
    two = run(generated="far.npy", compare="near.json", seed=None)  # draws what near.json drew
    assert two.seed == 5
    (name,) = two.differences
    assert name == "generated, less that of near.json"
    assert set(two.differences[name]) == set(COMPARED)
    for place, found in two.differences[name].items():
        ours, theirs = (estimate(each.rows["generated"], place) for each in (two, one))
        assert found == difference(ours, theirs)
    assert two.differences[name]["frame"].low > 0
    assert two.differences[name]["diversity.recall"].high < 0
    assert f"| {name} |" in two.table()
    both = run(generated="far.npy", top_model="checkpoints")
    assert list(both.differences) == ["top model, less generated"]
    run(json_file="top.json")
    (itself,) = run(compare="top.json").differences.values()  # the same seed makes the same clips
    assert {(found.value, found.low, found.high) for found in itself.values()} == {(0, 0, 0)}
    np.save("few.npy", near[:25])
    few = run(generated="few.npy", compare="near.json", seed=5)
    assert few.differences == {}
    assert few.notes[-1] == "near.json: no set of its names and numbers is judged here"


def test_what_cannot_be_compared_with_is_refused(root: Path) -> None:
    run(generated="real", json_file="other.json", num_clips=20, seed=5)
    with pytest.raises(
        LdfError, match=r"--compare other\.json: its figures are against other real"
    ):
        run(generated="real", compare="other.json", num_clips=20, seed=6)
    with pytest.raises(
        LdfError, match=r"--compare none\.json: No such file or directory; expected"
    ):
        run(compare="none.json")
    for content in (b"{}", b"no JSON", b"[]", b'{"rows": {"real": 1}}', b"PK\xff" * 10_000):
        (root / "bad.json").write_bytes(content)
        with pytest.raises(LdfError, match=r"--compare bad\.json: .{1,80}; expected what evaluate"):
            run(compare="bad.json")


def test_outputs_are_checked_first_and_never_an_input(root: Path) -> None:
    (root / "folder").mkdir()
    np.save("made.npy", moving_clips(30, seed=7))
    Image.new("RGB", (8, 8)).save(root / "real" / "still.png")
    (root / "link.json").symlink_to("real/clips.npy")
    (root / "hard.json").hardlink_to(root / "made.npy")
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    made = {"generated": "made.npy"}
    for options, said in (
        ({"json_file": "real/clips.npy"}, "real/clips.npy, which is the input real/clips.npy"),
        ({"json_file": "link.json"}, "link.json, which is the input real/clips.npy"),
        ({"json_file": "hard.json"}, "hard.json, which is the input made.npy"),
        ({"output": "real/still.png"}, "real/still.png, which is the input real/still.png"),
        ({"json_file": "judge.pt"}, "judge.pt, which is the input judge.pt"),
        ({"json_file": "checkpoints/frame/config.json", "frame_model": "checkpoints"}, "the input"),
        ({"json_file": "folder", "output": "sheet.png"}, "folder, which is a directory"),
        ({"reference": "folder"}, "folder, which is a directory"),
        ({"json_file": "made.npy/a.json"}, "made.npy/a.json: .*made.npy is a file; write"),
        ({"json_file": "a.json", "reference": "a.json"}, "a.json: --json writes it, too"),
        ({"json_file": "/dev/null"}, "/dev/null, which is no regular file"),
    ):
        with pytest.raises(UsageError, match=said):
            run(**{**made, **options})
    assert before == {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_the_table_is_printed_whatever_becomes_of_the_files(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise LdfError("cannot write all.json: No space left on device")

    monkeypatch.setattr(recipe, "write_atomically", fail)
    line = "evaluate --real real --judge judge.pt --num-clips 30 --quiet --json all.json"
    done = CliRunner().invoke(app, line.split())
    assert done.exit_code == 1
    assert "| top model |" in done.stdout
    assert done.stderr == "error: cannot write all.json: No space left on device\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_clips": 19}, "--num-clips 19: expected 20 or more"),
        ({"output": "sheet.mp4"}, r"--out sheet\.mp4: expected a sheet of pictures, \.png"),
        ({"curve": "a.pdf", "segments": 2}, r"--curve a\.pdf: expected curves, \.png"),
        ({"size": "16"}, "--size 16x16: the model makes 32x32; leave it out"),
        ({"generated": "nothing"}, "nothing does not exist"),
        ({"train": "nothing"}, "nothing does not exist"),
        ({"judge": "nothing"}, "--judge nothing: expected a TorchScript file"),
        ({"frame_model": "nothing"}, "no frame model nothing"),
    ],
    ids=str,
)
def test_wrong_usage(root: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises((UsageError, CheckpointError), match=said):
        run(**options)
    assert [path.name for path in root.glob("*.png")] == []


def test_a_file_is_called_as_it_was_named(root: Path) -> None:
    np.save(root / "one.npy", moving_clips(1))
    with pytest.raises(LdfError, match=r"^one\.npy: 1 clip of 5 frames, expected 20 or more"):
        run(generated="one.npy")
    with pytest.raises(LdfError, match=r"^one\.npy: 1 clip of 5 frames that share none, expected"):
        evaluate("one.npy", judge="judge.pt", num_clips=30, quiet=True)
    np.save(root / "one.npy", moving_clips(1, num_frames=200))
    with pytest.raises(LdfError, match=r"^one\.npy: 1 video, expected 2; give --num-videos 1"):
        run(generated="one.npy", segments=2, length=200, num_videos=2)


def test_clips_go_across_cuts_where_that_is_asked_for(root: Path) -> None:
    """Forty of 45 videos have a cut in their middle."""
    films = moving_clips(45, num_frames=60) // 4
    films[5:, 30:] += 180
    np.save(root / "films.npy", films)
    options: dict[str, Any] = {"judge": "judge.pt", "num_frames": 50, "seed": 0, "quiet": True}
    said = (
        r"^films\.npy: 5 clips of 50 frames that share none, expected 40 or more \(5 of 45 videos "
        r"have 50 without a cut \(40 cuts\)\); bring more video, or give --cuts off$"
    )
    with pytest.raises(LdfError, match=said):
        evaluate("films.npy", num_clips=20, **options)
    found = evaluate(
        "films.npy", num_clips=20, frame_model="checkpoints/frame", cuts="off", **options
    )
    assert found.notes[0] == "real: clips may go across cuts"
    assert found.num_clips == 20


def test_a_figure_whose_interval_is_no_number_says_so() -> None:
    rows = {"made": {"steps": Estimate(2.0, float("nan"), float("nan"), ())}}
    columns = {"steps px": ("steps", ".2f")}
    assert _aligned(rows, columns).endswith("| made     | 2.00 (no interval) |")


def test_too_little_video(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(root / "real" / "clips.npy", moving_clips(39))
    with pytest.raises(LdfError, match="real: 39 clips of 5 frames that share none, expected 40"):
        run()
    np.save(root / "real" / "clips.npy", moving_clips(40))
    np.save(root / "few.npy", moving_clips(19))
    with monkeypatch.context() as patch:
        patch.setattr(comparison.Comparison, "read_real", None)  # it is said before any work
        with pytest.raises(LdfError, match=r"19 clips of 5 frames, expected 20 or more; generate"):
            run(generated="few.npy")
    np.save(root / "short.npy", moving_clips(30)[:, :4])
    with pytest.raises(ReadError, match=r"--train .*: no clip of 5 frames"):
        run(train="short.npy")
    (root / "real" / "clips.npy").write_bytes(b"")
    with pytest.raises(ReadError, match=r"^real: clips\.npy: "):
        run(generated="few.npy")


def test_models_that_do_not_fit(root: Path) -> None:
    save_frame(root / "other", seed=9)
    config = json.loads((root / "other" / "config.json").read_text())
    config["frames"]["height"] = 64
    (root / "other" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="--frame-model: its frames are 32x64, the top model's"):
        run(top_model="checkpoints", frame_model="other")
    del config["frames"]["height"]
    (root / "other" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="is damaged: expected 'frames' with height"):
        run(frame_model="other")
    save_top(root / "short", root / "checkpoints" / "frame", kind="mlp", window=4)
    with pytest.raises(UsageError, match="it makes clips of 4 frames, expected 5 or more"):
        run(top_model="short")


def test_the_command_prints_the_table_and_fails_in_one_line(root: Path) -> None:
    def command(*options: str) -> Any:
        line = ["evaluate", "--judge", "judge.pt", "--num-clips", "30", "--quiet", *options]
        return CliRunner().invoke(app, line)

    done = command("--real", "real", "--seed", "4", "--json", "all.json", "-o", "sheet.png")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[0].startswith("judge judge.pt (")
    assert "seed 4" in done.stdout
    assert "| top model |" in done.stdout
    assert json.loads((root / "all.json").read_text())["seed"] == 4
    assert (root / "sheet.png").exists()
    for options, code, said in (
        (["--real", "nothing"], 2, "error: nothing does not exist"),
        (["--real", "real", "--size", "x"], 2, "error: --size x: expected a number"),
        (["--real", "real", "--judge", "real/clips.npy"], 1, "error: --judge real/clips.npy: not"),
    ):
        failed = command(*options)
        assert failed.exit_code == code
        assert failed.stderr.startswith(said)
        assert len(failed.stderr.splitlines()) == 1
    assert command().exit_code == 2  # without --real


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_nothing_is_made_ahead_after_an_error(
    root: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    del root

    def fails(*_: Any) -> None:
        raise error

    monkeypatch.setattr(Rollouts, "add", fails)
    with pytest.raises((error, LdfError)) as caught:
        run(segments=3, length=32, num_videos=10)
    assert caught.tb is not None  # as long as it lives, so does what was suspended
    assert "ahead" not in [thread.name for thread in threading.enumerate()]
