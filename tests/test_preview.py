"""preview: what is counted, what is warned of, and the page."""

from __future__ import annotations

import io
import re
from base64 import b64decode
from dataclasses import replace
from fractions import Fraction
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from browser import picture_of
from clip_files import write_clip
from PIL import Image
from tiny_models import save_frame
from typer.testing import CliRunner

from ldf_video.api import encode, preview
from ldf_video.cli import app
from ldf_video.errors import LdfError, UsageError
from ldf_video.intake import advice
from ldf_video.intake.seen import Look, Seen, fresh
from ldf_video.recipes import far_frames, page
from ldf_video.recipes import preview as recipe
from ldf_video.runs import zoo
from ldf_video.store.reader import StoreReader
from ldf_video.video.geometry import Geometry
from ldf_video.video.strip import pack, shrink

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

VOID = {"meta", "img", "br"}


def moving(num_frames: int, *, seed: int = 0, size: int = 32) -> NDArray[np.uint8]:
    """Frames of which each is another one: a texture that drifts."""
    tile = np.random.default_rng(seed).integers(20, 250, (size, size, 3), dtype=np.uint8)
    return np.stack([np.roll(tile, 3 * number, axis=1) for number in range(num_frames)])


def look(frames: NDArray[np.uint8], *, strip: int = 8, name: str = "clip") -> Seen:
    """What is seen of a clip whose frames come in two parts."""
    seen = Look(Fraction(10), strip=strip)
    for part in np.array_split(frames, min(2, len(frames))):
        seen.add(part)
    return seen.end(name)


# -- what is counted ------------------------------------------------------------------------------


def test_different_frames_are_those_in_which_something_is_to_be_seen() -> None:
    still = moving(1).repeat(9, axis=0)
    noisy = still + np.random.default_rng(1).integers(0, 3, still.shape, dtype=np.uint8)
    sprite = np.full((9, 32, 32, 3), 60, np.uint8)
    for number in range(9):
        sprite[number, 10:13, 3 * number : 3 * number + 3] = 250
    slow = (
        np.full((9, 32, 32, 3), 100, np.uint8) + np.arange(9, dtype=np.uint8)[:, None, None, None]
    )
    black = np.full((9, 32, 32, 3), 5, np.uint8)
    counts = [
        look(frames).num_different for frames in (still, noisy, sprite, slow, black, moving(9))
    ]
    assert counts == [1, 1, 9, 3, 0, 9]
    assert look(still).is_still
    assert not look(moving(1)).is_still  # a picture
    assert look(black).is_black
    assert not look(sprite).is_black


@pytest.mark.parametrize("size", [5, 12, 33])
def test_frames_of_any_size_are_compared(size: int) -> None:
    assert look(moving(4, size=size)).num_different == 4


def test_what_several_clips_have_counts_once() -> None:
    some = [look(moving(6)), look(moving(9)), look(moving(4, seed=1)), look(moving(5))]
    assert fresh(some).tolist() == [6, 3, 4, 0]
    assert fresh([]).tolist() == []


def test_a_strip_shows_first_and_last_frames_and_those_between_evenly() -> None:
    frames = np.arange(200, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
    seen = look(frames.repeat(8, axis=1).repeat(8, axis=2))
    shown = np.asarray(Image.open(io.BytesIO(seen.strip)).convert("RGB"))[0, ::8, 0].astype(int)
    assert seen.strip_shape == (8, 8, 8)
    assert shown[0] == 0
    assert shown[-1] >= 180
    assert set(np.diff(shown)) <= set(range(16, 40))
    assert look(frames[:3]).strip_shape[0] == 3


def test_bars_are_what_is_black_all_the_time() -> None:
    barred = moving(6)
    barred[:, :4] = barred[:, 28:] = 3
    assert look(barred).bars == (0.125, 0.125, 0.0, 0.0)
    assert look(barred).has_bars
    night = moving(6)
    night[:3, :4] = night[3:, 28:] = 0
    assert not look(night).has_bars
    assert not look(np.zeros((3, 8, 8, 3), np.uint8)).has_bars


def test_bars_beside_a_part_of_a_frame_are_cut_from_the_whole() -> None:
    pillars = moving(6)
    pillars[:, :, :8] = pillars[:, :, 24:] = 0  # of the middle 90 columns of 160
    seen = [replace(look(pillars), size=(90, 160))]
    (found,) = [one for one in advice.advise(seen, Geometry(32, 32)) if "bars" in one.what]
    assert "left and right" in found.what
    assert "crop=iw*0.281:ih*1:iw*0.359:ih*0 " in found.command


def test_cuts_are_times_in_the_clip() -> None:
    shots = [np.full((15, 32, 32, 3), level, np.uint8) for level in (40, 200, 90)]
    assert look(np.concatenate(shots)).cuts == (1.5, 3.0)
    assert look(moving(40)).cuts == ()


def test_strips_shrink_to_what_there_is_room_for() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
    exact = pack(frames)
    opened = np.asarray(Image.open(io.BytesIO(exact)).convert("RGB"))
    assert np.array_equal(opened, frames.transpose(1, 0, 2, 3).reshape(64, 512, 3))
    assert shrink(exact, most_bytes=len(exact)) == exact
    for most in (20_000, 3_000, 600):
        assert len(shrink(exact, most_bytes=most)) <= most


def test_strips_are_no_larger_than_webp_can_be() -> None:
    frames = np.zeros((4, 8, 5_000, 3), np.uint8)
    frames[2:] = 200
    with Image.open(io.BytesIO(pack(frames))) as opened:
        assert opened.size == (10_000, 4)
        pixels = np.asarray(opened.convert("RGB"))
    assert np.array_equal(pixels, frames.transpose(1, 0, 2, 3).reshape(8, 20_000, 3)[::2, ::2])


# -- clips ----------------------------------------------------------------------------------------


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with clips of every fault; the shipped model is a tiny one."""
    shipped = {"film-64": save_frame(tmp_path / "shipped" / "frame").parent}
    monkeypatch.setattr(zoo, "shipped_models", lambda: shipped)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "clips"
    folder.mkdir()
    barred = moving(20, seed=2)
    barred[:, :6] = barred[:, 26:] = 0
    for name, frames in {
        "a <b>&.npy": moving(20),
        "bars.npy": barred,
        "copy.npy": moving(20),
        "dark.npy": np.zeros((12, 32, 32, 3), np.uint8),
        "still.npy": moving(1, seed=3).repeat(12, axis=0),
    }.items():
        np.save(folder / name, frames)
    (folder / "broken.mp4").write_bytes(b"no film")
    (folder / "notes.txt").write_text("one")
    return folder


def seen_by(monkeypatch: pytest.MonkeyPatch) -> list[page.View]:
    """The views of which pages are made from now on."""
    views: list[page.View] = []
    write = page.write_page

    def spy(view: page.View, *rest: Any) -> str:
        views.append(view)
        return write(view, *rest)

    monkeypatch.setattr(recipe, "write_page", spy)
    return views


class Page(HTMLParser):
    """A page as a reader of HTML takes it apart: its text, pictures and links; tags must match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.ids: set[str | None] = set()
        self.links: list[str | None] = []
        self.words = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.ids.add(known.get("id"))
        self.images += [known] if tag == "img" else []
        self.links += [known["href"]] if tag == "a" else []
        assert tag not in ("script", "link", "iframe", "object", "b2")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def test_what_is_to_be_known_of_a_file_stands_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an array with black frames, for which ffmpeg is no help."""
    monkeypatch.chdir(tmp_path)
    black = np.zeros((4, 32, 32, 3), np.uint8)
    np.savez("two.npz", left=np.concatenate([moving(6), black]), right=moving(9, seed=1))
    done = CliRunner().invoke(app, ["preview", "two.npz", "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert "2 clips, 19 frames, 1 second, 15 different frames" in done.stdout
    assert "Name the ranges without them in a table of file,start,end" in done.stdout
    assert "ffmpeg" not in done.stdout
    assert "two.npz::left: takes left, right; for one alone: " in done.stdout
    words = Page((tmp_path / "preview.html").read_text()).words
    assert words.count("takes left, right; for one alone: ") == 1
    assert "two.npz::right" in words


def test_a_page_shows_clips_and_says_what_is_wrong_with_them(clips: Path) -> None:
    done = CliRunner().invoke(app, ["preview", "clips", "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert "5 clips, 84 frames, 3 seconds, 41 different frames" in done.stdout
    assert "next: ldf-video start clips" in done.stderr
    text = (clips.parent / "preview.html").read_text()
    read = Page(text)
    assert read.open == []
    assert "notes" not in read.words
    for said in (
        "a <b>&.npy",  # as it is called, and no tag
        "41 different frames",
        "1 clip of 5 have black bars above and below",
        "1 clip of 5 show nothing but frames of other clips",
        "14% of the frames read are black, in 1 clip",
        "broken.mp4",
        "1 .txt",
        "Every frame was read",
        "film-64 shows a sample of the clips best",
        "ldf-video start clips --minutes 20",
        "crop=iw*1:ih*0.625:iw*0:ih*0.188",
    ):
        assert said in " ".join(read.words.split()), said
    assert len(read.images) == 5
    assert all(image["alt"] for image in read.images)
    assert all(link and link[1:] in read.ids for link in read.links)
    addresses = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"'\s)>]+)""", text)
    assert all(address.startswith(("data:image/webp;base64,", "#c")) for address in addresses)
    assert "http:" not in text
    assert "https:" not in text
    (source,) = [i["src"] for i in read.images if str(i["alt"]).endswith("a <b>&.npy")]
    picture = Image.open(io.BytesIO(b64decode(str(source).partition(",")[2])))
    assert np.array_equal(np.asarray(picture.convert("RGB"))[:, :32], moving(1)[0])


def test_the_page_in_a_browser_in_light_and_dark_wide_and_narrow(clips: Path) -> None:
    red = np.zeros((20, 32, 32, 3), np.uint8)
    red[:] = (250, 10, 20)
    np.save(clips / "0.npy", red)
    done = preview("clips", device="cpu", quiet=True)
    for width, dark in ((1200, False), (390, True)):
        shown = picture_of(done.path, width=width, height=2400, dark=dark).astype(int)
        ground = shown[2, 2].mean()
        assert ground < 60 if dark else ground > 220
        is_red = (np.abs(shown - (250, 10, 20)) < 6).all(-1)
        rows, columns = np.flatnonzero(is_red.any(1)), np.flatnonzero(is_red.any(0))
        across = columns[-1] - columns[0]
        assert 0.8 * width < across < width  # a strip across the page and no farther
        assert (shown[:, -4:] == shown[2, 2]).all()  # nothing stands out beyond the margin
        assert is_red[rows[0] : rows[-1], columns[0] : columns[-1]].mean() > 0.9


def test_samples_are_called_so_and_full_counts_all(
    clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "FRAMES", 10)
    monkeypatch.setattr(recipe, "LEAST_FRAMES", 10)
    np.save(clips / "a <b>&.npy", moving(60, size=16))
    some = preview("clips/a <b>&.npy", device="cpu", size=16, quiet=True)
    assert (some.totals.num_frames, some.totals.about_frames) == (10, 60)
    assert "These are samples" in some.path.read_text()
    whole = preview("clips/a <b>&.npy", device="cpu", size=16, full=True, quiet=True)
    assert (whole.totals.num_frames, whole.totals.about_frames) == (60, 60)
    assert "all counts are exact" in whole.path.read_text()


def levels_of(seen: Seen) -> list[int]:
    """The mean level of each frame of a strip."""
    count, height, width = seen.strip_shape
    with Image.open(io.BytesIO(seen.strip)) as picture:
        strip = np.asarray(picture.convert("L")).reshape(height, count, width)
    return strip.mean((0, 2)).round().astype(int).tolist()


def test_the_strip_of_a_long_clip_is_of_all_of_it(
    clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FRAMES", "LEAST_FRAMES"):
        monkeypatch.setattr(recipe, name, 12)
    for path in clips.iterdir():
        path.unlink()
    frames = np.arange(240, dtype=np.uint8)[:, None, None, None] + np.zeros((32, 32, 3), np.uint8)
    np.save(clips / "a.npy", frames)
    write_clip(clips / "b.mkv", frames, codec="ffv1", pix_fmt="bgr0")
    (clips / "c.csv").write_text("file,start,end\na.npy,4,\n")
    views = seen_by(monkeypatch)
    preview(clips, device="cpu", quiet=True)
    preview(clips / "c.csv", device="cpu", quiet=True)
    array, film, part = views[0].seen + views[1].seen
    assert levels_of(array) == list(range(0, 240, 20))
    assert sorted(levels_of(film)) == levels_of(film)
    assert levels_of(film)[0] == 0
    assert 120 < levels_of(film)[-1] < 240  # its length is an estimate
    assert array.num_frames == film.num_frames == 12
    starts = levels_of(part)
    assert starts[0] == 100
    assert 200 < starts[-1] < 240
    assert sorted(starts) == starts
    monkeypatch.setattr(far_frames, "SECONDS", 0)
    found = preview(clips / "a.npy", device="cpu", quiet=True)
    assert levels_of(views[2].seen[0]) == list(range(12))
    ((name, said),) = found.noted
    assert name == "a.npy"
    assert said.endswith(far_frames.TOLD)


def test_ranges_of_a_table_are_clips_with_their_labels(
    clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "LEAST_FRAMES", 5)
    monkeypatch.setattr(recipe, "FRAMES", 5)
    views = seen_by(monkeypatch)
    table = clips / "clips.csv"
    table.write_text("file,start,end,label\nbars.npy,0.08,0.6,walk & run\nbars.npy,0.2,,\n")
    preview(table, device="cpu", quiet=True)
    seen = {clip.name: (clip.num_frames, clip.about_frames) for clip in views[0].seen}
    assert seen == {"bars.npy@0.08-0.6": (5, 13), "bars.npy@0.2-": (5, 15)}
    text = (clips.parent / "preview.html").read_text()
    assert "label walk &amp; run" in text
    assert "32 &times; 32 pixels" in text


def test_of_very_many_clips_some_are_looked_at_and_the_page_stays_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(recipe, "SHOWN", 20)
    monkeypatch.setattr(recipe, "shipped_fits", lambda asked: {})
    monkeypatch.setattr(page, "PAGE_BYTES", 30_000)
    views = seen_by(monkeypatch)
    many = np.random.default_rng(0).integers(0, 256, (60, 4, 32, 32, 3), dtype=np.uint8)
    np.save(tmp_path / "many.npy", many)
    done = preview("many.npy", device="cpu", quiet=True)
    assert (done.totals.num_clips, done.totals.about_clips) == (20, 60)
    assert done.totals.about_frames == 240
    names = [clip.name for clip in views[0].seen]
    assert (names[0], names[-1]) == ("many.npy#0", "many.npy#59")
    assert done.path.stat().st_size < 30_000 * 4 / 3 + 40_000


def test_a_store_of_latents_shows_what_the_encoder_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_frame(tmp_path / "checkpoints" / "frame")
    (tmp_path / "clips").mkdir()
    for number, length in enumerate((5, 30)):
        np.save(tmp_path / "clips" / f"{number}.npy", moving(length, seed=number))
    encode("clips", device="cpu", quiet=True)
    views = seen_by(monkeypatch)
    done = preview("latents", device="cpu", quiet=True)
    assert (done.totals.num_clips, done.totals.about_frames) == (2, 35)
    assert [(c.name, c.about_frames) for c in views[0].seen] == [("0.npy", 5), ("1.npy", 30)]
    text = done.path.read_text()
    assert "What the store holds" in text
    assert "whose encoder made the latents" in text
    frame = zoo.load_frame_model(tmp_path / "checkpoints" / "frame", device="cpu").model
    decoded = recipe._decoded(StoreReader(tmp_path / "latents").read(0, 0, 1), frame)[0]
    assert any(
        np.array_equal(np.asarray(Image.open(io.BytesIO(c.strip)).convert("RGB"))[:, :32], decoded)
        for c in views[0].seen
    )
    with pytest.raises(UsageError, match="--size: what a store holds is cut already"):
        preview("latents", size=64)


def test_wrong_input_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips").mkdir()
    with pytest.raises(UsageError, match="nowhere does not exist"):
        preview("nowhere")
    (tmp_path / "clips" / "a.mp4").write_bytes(b"no film")
    with pytest.raises(UsageError, match=r"got output a\.png, expected \.html"):
        preview("clips", out="a.png")
    with pytest.raises(LdfError, match=r"nothing under clips could be read: a\.mp4: "):
        preview("clips", device="cpu", quiet=True)
    assert "a.mp4" in (tmp_path / "preview.html").read_text()  # where all reasons stand


@pytest.mark.parametrize(
    ("different", "level"),
    [(299, "too few"), (1_999, "a try"), (9_999, "a start"), (10_000, "comfortable")],
)
def test_what_so_many_frames_are_enough_for(different: int, level: str) -> None:
    words, minutes = advice.enough_for(different)
    assert words.startswith(level)
    assert minutes >= 10


@pytest.mark.parametrize(
    ("read", "frames", "cuts", "windows"),
    [(40, 40, (), 25), (40, 40, (2.0,), 10), (40, 40, (1.5, 2.5), 0), (40, 80, (2.0,), 35)],
)
def test_no_window_is_counted_that_crosses_a_cut(
    read: int, frames: int, cuts: tuple[float, ...], windows: int
) -> None:
    clip = Seen("a.mp4", Fraction(10), read, frames, np.zeros(1, np.uint64), cuts=cuts)
    assert advice.totals([clip]).about_windows == windows
