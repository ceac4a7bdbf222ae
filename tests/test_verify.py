"""encode --verify: what is damaged is named, let go when asked, and made anew by the next call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from launch_variables import as_launched
from tiny_models import save_frame, write_array

from ldf_video.api import encode
from ldf_video.errors import StoreError, UsageError
from ldf_video.intake.report import Report
from ldf_video.store.reader import StoreReader

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a frame model, three clips and a file that is none, all encoded."""
    monkeypatch.chdir(tmp_path)
    save_frame(tmp_path / "checkpoints" / "frame")
    for seed, length in enumerate((3, 10, 6)):
        write_array(tmp_path / "clips" / f"{seed}.npy", length, seed=seed)
    (tmp_path / "clips" / "notes.mp4").write_text("no video")
    encode("clips", quiet=True)
    return tmp_path


def latents(root: Path) -> dict[str, bytes]:
    reader = StoreReader(root / "latents")
    clips = {source.source: reader.index(source.clip_id) for source in reader.sources()}
    return {name: reader.read(c, 0, int(reader.lengths[c])).tobytes() for name, c in clips.items()}


def damage(root: Path) -> None:
    """Change one byte of the last row."""
    with (root / "latents" / "data-00000.npy").open("r+b") as file:
        file.seek(-1, 2)
        byte = file.read(1)[0]
        file.seek(-1, 2)
        file.write(bytes([byte ^ 1]))


def files(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / "latents").iterdir()}


def verify(root: Path, **options: Any) -> Report:
    return encode(root / "clips", verify=True, **options).report


def test_a_sound_store_is_left_as_it_is(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = files(root)
    assert verify(root) == Report(num_sources=4, num_unchanged=4)
    assert files(root) == before
    assert capfd.readouterr().err.splitlines() == [
        "verified: 3 clips, 19 frames, 0.0 MB: every row is sound",
        "4 sources, none new or changed",
    ]


def test_what_the_store_lacks_is_said(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_array(root / "clips" / "0.npy", 4, seed=9)  # changed
    write_array(root / "clips" / "new.npy", 4, seed=8)
    (root / "clips" / "1.npy").rename(root / "clips" / "renamed.npy")
    before = files(root)
    assert verify(root) == Report(num_sources=5, num_unchanged=2)
    assert files(root) == before
    said = capfd.readouterr().err
    assert "5 sources, 3 new or changed: encode brings them in" in said


def test_damage_is_named_let_go_when_asked_and_made_anew(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = latents(root)
    damage(root)
    assert latents(root) != whole
    before = files(root)
    with pytest.raises(StoreError, match="latents has 1 problem: encode --verify --retry lets go"):
        verify(root)
    assert files(root) == before
    assert "its checksum is wrong" in capfd.readouterr().err
    assert verify(root, retry=True) == Report(num_sources=4, num_unchanged=3)
    assert "of 1 clip, which the next encode makes anew" in capfd.readouterr().err
    assert StoreReader(root / "latents").num_clips == 2
    report = encode("clips", quiet=True).report
    assert report.num_unchanged == 3
    assert latents(root) == whole
    assert verify(root).num_unchanged == 4


def test_no_store_is_an_error(root: Path) -> None:
    with pytest.raises(StoreError, match="no store at nowhere"):
        verify(root, out="nowhere")


def test_it_is_the_work_of_one_process(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_launched(monkeypatch, rank=0)
    with pytest.raises(UsageError, match="encode --verify takes one process"):
        verify(root)
