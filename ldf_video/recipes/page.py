"""The page of a preview: one HTML file with all that it shows inside, without scripts."""

from __future__ import annotations

import shlex
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from ldf_video.errors import counted
from ldf_video.intake.advice import MANY, SOME, WINDOW, Advice, Totals, about, enough_for, is_faint
from ldf_video.intake.seen import Seen, fresh
from ldf_video.video.geometry import Geometry
from ldf_video.video.strip import MEDIA_TYPE, shrink

PAGE_BYTES = 6_600_000
"""Of all strips together, which base64 makes a third larger: the page stays under 10 MB."""
STRIP_BYTES = 60_000
"""Of one strip at most."""
FEW_CLIPS = 60
"""So many are shown larger."""
LISTED = 200
"""Unreadable files that are listed one by one."""
ROUGH_DB, GOOD_DB = 20.0, 30.0
STYLE = Path(__file__).with_name("page.css")


@dataclass(frozen=True)
class Left:
    """What was not looked at.

    Attributes:
        unreadable: names and reasons.
        sidecars: how many files are no clips, by kind.
        num_own: files, stores and checkpoints that ldf-video wrote.
    """

    unreadable: Sequence[tuple[str, str]] = ()
    sidecars: Mapping[str, int] = field(default_factory=dict)
    num_own: int = 0


@dataclass(frozen=True)
class View:
    """What a page is about.

    Attributes:
        name: CLIPS, or the store.
        geometry: of the frames; a store has no other rate and crop than its own.
        seen: the clips, in natural order.
        left: what was not looked at.
        most_frames: that were read of each source, None for all.
        typed: options of the geometry, to be typed again.
        made_by: the frame model that latents come from.
        known: what is known of frames beside their pixels, in words.
        is_store: whether it is one.
    """

    name: str
    geometry: Geometry
    seen: Sequence[Seen]
    left: Left
    most_frames: int | None = None
    typed: Sequence[str] = ()
    made_by: str = ""
    known: str = ""
    is_store: bool = False


def write_page(
    view: View, sums: Totals, advice: Sequence[Advice], fits: Mapping[str, float]
) -> str:
    """The whole page.

    Args:
        view: what it is about.
        sums: of all clips.
        advice: what is wrong with them.
        fits: shipped frame models, in dB, the best first.
    """
    parts = [
        _head(view, sums),
        _verdict(view, sums, fits) if view.seen else "",
        _warnings(view, advice),
        _clips(view),
        _left_out(view.left),
        _method(view, sums),
    ]
    title = f"Preview of {escape(view.name)}"
    return _PAGE.format(title=title, style=STYLE.read_text(), body="\n".join(filter(None, parts)))


# -- parts ---------------------------------------------------------------------------------------


def _head(view: View, sums: Totals) -> str:
    size, known = view.geometry, sums.is_whole or view.is_store
    facts = [
        ("clips", about(sums.about_clips, exact=sums.num_clips == sums.about_clips)),
        ("frames", about(sums.about_frames, exact=known)),
        ("playing time", "about " * (not known) + _clock(sums.about_seconds)),
        ("different frames", about(sums.about_different, exact=sums.is_whole)),
        ("size", f"{size.width} &times; {size.height}"),
        ("frames a second", _rates(view.seen)),
    ]
    cells = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    what = "What the store holds" if view.is_store else "What will be trained on"
    made = ""
    if view.made_by:
        made = f", decoded by <code>{escape(view.made_by)}</code>, whose encoder made the latents"
    return (
        f"<header><p class=eyebrow>ldf-video preview</p><h1>{what}</h1>"
        f"<p class=path><code>{escape(view.name)}</code>{made}</p><dl>{cells}</dl></header>"
    )


def _verdict(view: View, sums: Totals, fits: Mapping[str, float]) -> str:
    words, minutes = enough_for(sums.about_different)
    level, _, why = words.partition(": ")
    exact = sums.is_whole
    lines = [
        f"<p class=verdict><strong>{level.capitalize()}.</strong> "
        f"{about(sums.about_different, exact=exact)} different frames: {why}. "
        f"Some {SOME:,} are a start, {MANY:,} are comfortable.</p>",
        f"<p>The top model learns from {about(sums.about_windows, exact=exact or view.is_store)} "
        f"windows of {WINDOW} frames.</p>",
    ]
    if view.known:
        lines.append(f"<p>{escape(view.known[0].upper() + view.known[1:])}.</p>")
    if fits:
        (name, fit), *others = fits.items()
        known = "as good as known" if fit >= GOOD_DB else "rough" if fit >= ROUGH_DB else "unknown"
        rest = "".join(f", {other} at {its:.1f} dB" for other, its in others)
        lines.append(
            f"<p>Of the shipped models <b>{escape(name)}</b> shows a sample of the clips best, at "
            f"{fit:.1f} dB{rest}. Under {ROUGH_DB:g} dB a model does not know such frames, from "
            f"{GOOD_DB:g} dB on it shows them well: they are {known} to it. A training begins with "
            "it and adapts it.</p>"
        )
        whole = ["ldf-video", "start", view.name, "--minutes", str(2 * minutes), *view.typed]
        lines.append(
            f"<p>On a CPU, {minutes} minutes for each of the two trainings are sensible. The whole "
            f"way, which goes on wherever it is stopped:</p>{_code(shlex.join(whole))}"
            "<details><summary>The same in single steps</summary>"
            f"{_code(_steps(view, name, minutes))}</details>"
        )
        if view.known:
            played = _steps(view, name, minutes).splitlines()[:2]
            played += [f"ldf-video train-top --block 1 --minutes {minutes}", "ldf-video play"]
            lines.append(
                "<p>What is known of the frames can be held by keys while a model plays, if it is "
                f"trained so:</p>{_code(chr(10).join(played))}"
            )
    return _section("enough", "What it is enough for", "".join(lines))


def _steps(view: View, name: str, minutes: int) -> str:
    """The commands from clips to a video, a line each."""
    size = [] if "--size" in view.typed else ["--size", _size(view.geometry)]
    pairs = list(zip(view.typed[::2], view.typed[1::2], strict=True))
    read = [word for pair in pairs if pair[0] != "--size" for word in pair]
    for_minutes = ["--minutes", str(minutes)]
    commands = [
        ["train-frame", view.name, "--init", name, *for_minutes, *size, *view.typed],
        ["encode", view.name, *read],
        ["train-top", *for_minutes],
        ["generate", "--frames", "64", "-o", "out.mp4"],
    ]
    return "\n".join(shlex.join(["ldf-video", *words]) for words in commands)


def _warnings(view: View, advice: Sequence[Advice]) -> str:
    if not advice:
        nothing = "<p>Nothing was found: no still, black, repeated or faint clips, no bars.</p>"
        return _section("warnings", "Warnings", nothing) if view.seen else ""
    items = []
    for one in advice:
        some = one.clips[:5] if len(one.clips) < len(view.seen) else ()
        links = ", ".join(f'<a href="#c{n}">{escape(view.seen[n].name)}</a>' for n in some)
        more = f" and {len(one.clips) - len(some):,} more" if len(one.clips) > len(some) else ""
        where = f"<p class=where>{links}{more}</p>" if links else ""
        command = _code(one.command) if one.command else ""
        items.append(
            f"<li><p><strong>{escape(one.what)}</strong> {escape(one.todo)}</p>"
            f"{command}{where}</li>"
        )
    return _section("warnings", "Warnings", f"<ul class=warnings>{''.join(items)}</ul>")


def _clips(view: View) -> str:
    shown = [number for number, clip in enumerate(view.seen) if clip.strip]
    if not shown:
        return ""
    new = fresh(view.seen)
    each = min(STRIP_BYTES, PAGE_BYTES // len(shown))
    figures = [_figure(view, number, is_new=bool(new[number]), most_bytes=each) for number in shown]
    said = "Frames as a model sees them, from left to right in time, evenly over " + (
        "the clip." if view.most_frames is None or view.is_store else "what was read."
    )
    if len(shown) < len(view.seen):
        said += f" {len(shown):,} of {counted(len(view.seen), 'clip')} are shown."
    kind = "wide" if len(shown) <= 6 else "some" if len(shown) <= FEW_CLIPS else "many"
    return _section("clips", "Clips", f"<p>{said}</p><div class={kind}>{''.join(figures)}</div>")


def _figure(view: View, number: int, *, is_new: bool, most_bytes: int) -> str:
    clip = view.seen[number]
    count, height, width = clip.strip_shape
    picture = b64encode(shrink(clip.strip, most_bytes=most_bytes)).decode()
    exact = clip.num_frames == clip.about_frames
    known = exact or view.is_store
    facts = [
        f"{about(clip.about_frames, exact=known)} frames" if clip.about_frames > 1 else "1 frame",
        "about " * (not known) + _clock(clip.about_seconds),
        f"{clip.num_different:,} different"
        + (f" of {clip.num_frames:,} looked at" if not exact else ""),
    ]
    if clip.size is not None:
        facts.append(f"{clip.size[1]} &times; {clip.size[0]} pixels")
    if clip.label:
        facts.append(f"label {escape(clip.label)}")
    if clip.cuts:
        at = ", ".join(_clock(cut) for cut in clip.cuts[:12])
        more = ", ..." if len(clip.cuts) > 12 else ""
        facts.append(f"{counted(len(clip.cuts), 'cut')} at {at}{more}")
    tags = {
        "black": clip.is_black,
        "still": clip.is_still,
        "bars": clip.has_bars,
        "faint": is_faint(clip),
        "repeats others": clip.num_different and not is_new,
    }
    named = "".join(f"<span class=tag>{name}</span>" for name, holds in tags.items() if holds)
    trouble = f"<p class=trouble>{escape(clip.trouble)}</p>" if clip.trouble else ""
    return (
        f'<figure id="c{number}"><div class=strip style="--n:{count};--w:{width};--h:{height}">'
        f'<img loading=lazy width={count * width} height={height} alt="{count} frames of '
        f'{escape(clip.name)}" src="data:{MEDIA_TYPE};base64,{picture}"></div>'
        f"<figcaption><b>{escape(clip.name)}</b> {named}<span>{', '.join(facts)}</span>{trouble}"
        "</figcaption></figure>"
    )


def _left_out(left: Left) -> str:
    parts = []
    if left.unreadable:
        rows = "".join(
            f"<tr><td>{escape(name)}</td><td>{escape(reason)}</td></tr>"
            for name, reason in left.unreadable[:LISTED]
        )
        more = len(left.unreadable) - LISTED
        rest = f"<p>and {more:,} more.</p>" if more > 0 else ""
        parts.append(
            f"<p>{counted(len(left.unreadable), 'file')} cannot be read; a training goes on "
            "without.</p>"
            "<div class=scroll tabindex=0 role=region aria-label='Unreadable files'><table>"
            f"<thead><tr><th scope=col>file</th><th scope=col>why</th></tr></thead><tbody>{rows}"
            f"</tbody></table></div>{rest}"
        )
    if left.sidecars:
        kinds = ", ".join(f"{count:,} {escape(kind)}" for kind, count in left.sidecars.items())
        parts.append(f"<p>Beside clips, left out: {kinds}.</p>")
    if left.num_own:
        parts.append(f"<p>Written by ldf-video itself, left out: {left.num_own:,}.</p>")
    if not parts:
        return ""
    return _section("left", "Not read", "".join(parts))


def _method(view: View, sums: Totals) -> str:
    said = [
        "A frame is a <b>different</b> one where the mean colour of one of 8 &times; 8 cells is "
        "off by 4 of 255 levels or more from the last different one of its clip. Frames of several "
        "clips that are alike to within such a step count once, black ones not at all.",
        "How many are enough are rules of thumb (docs/training.md).",
    ]
    if view.is_store:
        said.insert(0, f"Up to {view.most_frames:,} frames of each clip were decoded, evenly.")
    elif view.most_frames is None:
        said.insert(0, "Every frame of every clip was read: all counts are exact.")
    else:
        rest = f", of {sums.num_clips:,} clips" if sums.num_clips < sums.about_clips else ""
        said.insert(
            0,
            f"<b>These are samples</b>: up to {view.most_frames:,} frames from the beginning of "
            f"each file were read, {sums.num_frames:,} in all{rest}. What stands behind "
            "<em>about</em> is an estimate by the share of the file that was read; all else is "
            "counted. Strips are of frames from all over a clip. <code>--full</code> reads "
            "everything."
            if not sums.is_whole
            else "Every frame was read: all counts are exact.",
        )
    body = "".join(f"<p>{line}</p>" for line in said)
    return f"<details><summary>How this was counted</summary>{body}</details>"


# -- words ---------------------------------------------------------------------------------------


def _section(name: str, title: str, body: str) -> str:
    return (
        f"<section id={name} aria-labelledby=h-{name}><h2 id=h-{name}>{title}</h2>{body}</section>"
    )


def _code(text: str) -> str:
    return f"<pre tabindex=0><code>{escape(text)}</code></pre>"


def _size(geometry: Geometry) -> str:
    if geometry.width == geometry.height:
        return str(geometry.width)
    return f"{geometry.width}x{geometry.height}"


def _rates(seen: Iterable[Seen]) -> str:
    rates = sorted({clip.fps for clip in seen})
    if not rates:
        return "none"
    first, last = (f"{float(rate):.4g}" for rate in (rates[0], rates[-1]))
    return first if first == last else f"{first} to {last}"


def _clock(seconds: float) -> str:
    """`4.2 s`, `1:05`, `2:00:07`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


_PAGE = """<!doctype html>
<html lang=en>
<meta charset=utf-8>
<meta name=viewport content="width=device-width,initial-scale=1">
<meta http-equiv=Content-Security-Policy
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
<main>
{body}
</main>
</html>
"""
