"""encode on Ray: the same clips and latents as by one process, also when an actor is killed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from store_data import rows_by_source
from tiny_models import save_frame, write_array

from ldf_video.api import encode
from ldf_video.errors import UsageError
from ldf_video.intake.ray_engine import _groups
from ldf_video.sources.search import find_sources
from ldf_video.store import StoreReader

if TYPE_CHECKING:
    from pathlib import Path

LENGTHS = (3, 40, 6, 1, 13, 30, 9, 22)
TOTAL = sum(LENGTHS)

COMMAND = """
import os, sys
from pathlib import Path
from ldf_video.intake import ray_engine
from ldf_video.intake.frame_encoder import plan_job
from ldf_video.intake.ingest import ALONE, list_sources
from ldf_video.options.reading import Encode
from ldf_video.progress import Progress

if os.environ.get("KILL"):
    ray_engine.EncodeActor = __import__("killed_actor").KilledActor
options = Encode("clips", mixed_precision="no", batch_size=8)
job = plan_job(options, Path("checkpoints/frame"), device="cpu")
with Progress("encode", unit="frames", quiet=True) as progress:
    report, fit_db = ray_engine.encode_on_ray(
        job, list_sources("clips", ALONE), progress, num_actors=int(sys.argv[1])
    )
print(report.num_sources, report.num_frames, report.num_unchanged, len(report.quarantined))
"""

KILLED_ACTOR = """
import os, signal
from pathlib import Path
from ldf_video.intake import ray_engine

class KilledActor(ray_engine.EncodeActor):
    def encode(self, sources):
        done = super().encode(sources)
        mark = Path(os.environ["KILL"])
        if self._index == 1 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)  # before it could answer
        return done

    def __init__(self, job, index, count):
        self._index = index
        super().__init__(job, index, count)
"""


FAULTS = """
import dataclasses, os, signal
import ray
from pathlib import Path
from ldf_video.errors import LdfError
from ldf_video.intake import ray_engine
from ldf_video.intake.frame_encoder import plan_job
from ldf_video.intake.ingest import ALONE, list_sources
from ldf_video.options.reading import Encode
from ldf_video.progress import Progress

class FailingActor(ray_engine.EncodeActor):
    def __init__(self, job, index, count):
        raise LdfError("the constructor failed")

class DyingActor(ray_engine.EncodeActor):
    def encode(self, sources):
        if any(source.name == "3.npy" for source in sources):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode(sources)

def run(actor, **changes):
    ray_engine.EncodeActor = actor
    with Progress("encode", unit="frames", quiet=True) as progress:
        return ray_engine.encode_on_ray(
            dataclasses.replace(job, **changes), list_sources("clips", ALONE), progress,
            num_actors=1,
        )[0]

def fail(actor, **changes):
    try:
        run(actor, **changes)
    except LdfError as error:
        said.append(f"{type(error).__name__}: {error}")

said = []
options = Encode("clips", mixed_precision="no", batch_size=8, workers=0)
job = plan_job(options, Path("checkpoints/frame"), device="cpu")
ray.init(log_to_driver=False, configure_logging=False, include_dashboard=False)
whole, ray_engine.MAX_RETRIES = ray_engine.EncodeActor, 0
fail(whole, frame_model=Path("nowhere"))
fail(FailingActor)
report = run(DyingActor)
said.append(f"{report.num_sources} {[name for name, _ in report.quarantined]}")
Path("said").write_text("\\n".join(said))  # Ray speaks on stdout
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a frame model, clips and a file that is none, encoded by one process."""
    monkeypatch.chdir(tmp_path)
    save_frame(tmp_path / "checkpoints" / "frame")
    for seed, length in enumerate(LENGTHS):
        write_array(tmp_path / "clips" / f"{seed}.npy", length, seed=seed)
    (tmp_path / "clips" / "bad.mp4").write_text("no video")
    encode("clips", out="one", batch_size=8, quiet=True)
    return tmp_path


def on_ray(root: Path, *arguments: str, **environment: str) -> str:
    """The last line that a script prints, run as a process of its own."""
    for name, text in (("on_ray", COMMAND), ("killed_actor", KILLED_ACTOR), ("faults", FAULTS)):
        (root / f"{name}.py").write_text(text)
    path = ":".join([str(root), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=root,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1] if done.stdout else ""  # Ray speaks there too


def test_actors_make_what_one_process_makes_also_where_one_is_killed(root: Path) -> None:
    printed = on_ray(root, "on_ray.py", "3", KILL=str(root / "killed"))
    assert (root / "killed").exists()
    assert contents(root / "latents") == contents(root / "one")
    assert len(StoreReader(root / "latents").parts) == 3
    sources, frames, unchanged, bad = map(int, printed.split())
    assert (sources, bad) == (len(LENGTHS) + 1, 1)
    assert 0 < frames < TOTAL  # what it had done, it found done when it did it again
    assert unchanged > 0
    again = on_ray(root, "on_ray.py", "2")  # parts go on with two
    assert again.split() == [str(sources), "0", str(sources), "0"]


def test_what_an_actor_fails_of_is_one_line_and_what_kills_it_is_put_aside(root: Path) -> None:
    on_ray(root, "faults.py")
    opening, constructor, summary = (root / "said").read_text().splitlines()
    assert opening.startswith("CheckpointError: no checkpoint at ")
    assert constructor == "LdfError: the constructor failed"
    assert summary == f"{len(LENGTHS) + 1} ['3.npy', 'bad.mp4']"
    there, whole = contents(root / "latents"), contents(root / "one")
    assert there == {name: rows for name, rows in whole.items() if name != "3.npy"}
    kept = {bad.source: bad.reason for bad in StoreReader(root / "latents").quarantined()}
    assert kept["3.npy"].startswith("it killed its process ")


def contents(store: Path) -> dict[str, bytes]:
    return {name: rows.tobytes() for name, rows in rows_by_source(store).items()}


def test_groups_are_of_about_equal_bytes_the_largest_first(tmp_path: Path) -> None:
    for number, size in enumerate((100, 1, 2, 700, 3, 50, 4, 60)):
        (tmp_path / f"{number}.mp4").write_bytes(b"x" * size)
    sources = find_sources(tmp_path)
    groups = [[source.size for source in group] for group in _groups(sources, 1)]
    assert groups == [[700], [100, 60], [50, 4, 3, 2, 1]]
    assert list(_groups([], 4)) == []


def test_without_ray_it_is_said_what_to_install(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "ray" else kept(name)
    )
    with pytest.raises(UsageError, match=r"the package ray is not installed; pip install"):
        encode("clips", engine="ray", quiet=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "spark"}, "--engine spark: expected local or ray"),
        ({"workers": -1}, "0 or more"),
    ],
)
def test_what_means_nothing_is_refused(root: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        encode("clips", quiet=True, **options)
