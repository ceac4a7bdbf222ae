"""play: a top model and its frame model -> a page that shows what they make, as they make it."""

from __future__ import annotations

import secrets
import webbrowser
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from ldf_video.models.flow import FlowTop
from ldf_video.options.sampling import Play
from ldf_video.playing.film import Film
from ldf_video.playing.server import PageServer
from ldf_video.playing.show import Show
from ldf_video.progress import Progress
from ldf_video.recipes.ends import load_sampler, refuse_fixed, shipped_line, shown_rate
from ldf_video.runs.command import check_folders, choose_device, out_of_memory, own_state
from ldf_video.runs.zoo import frame_model_of, named
from ldf_video.training.ranks import check_alone


@dataclass(frozen=True)
class Played:
    """What was played.

    Attributes:
        paths: recordings that were made.
        seed: of the film that was played last.
    """

    paths: tuple[Path, ...]
    seed: int


@own_state()
@out_of_memory("--device cpu")
def play(options: Play) -> Played:
    """Show a film that is made as it plays, until Ctrl-C; see `ldf_video.api.play`."""
    check_alone("play")
    folder = Path(options.out)
    check_folders([("--out", folder)], inputs=[])
    device = choose_device(options.device)
    top, shipped = load_sampler(options, device=device)
    if not isinstance(top.model, FlowTop):
        refuse_fixed(top, "play", "play without end")
    frame = frame_model_of(
        top.config, beside=top.directory, device=device, asked=options.frame_model
    )
    # The film has a thread. A second one would gain little, and wait for any other busy process.
    torch.set_num_threads(1)
    # Quickest for one frame. Not for the flow: what it rounds otherwise grows from block to block,
    # and the film would not be the one that `generate` makes of this seed.
    frame.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    seed = secrets.randbelow(2**31) if options.seed is None else options.seed
    film = Film(top.model, frame.model, seed=seed)
    rate = shown_rate(top, options.fps)
    show = Show(film, name=named(top.directory), fps=rate, folder=folder, upscale=options.upscale)
    with (
        Progress("play", unit="frames") as progress,
        PageServer(show, port=options.port) as server,
        suppress(KeyboardInterrupt),  # which is how it ends
    ):
        if options.top_model is None and shipped and not options.quiet:
            progress.say(shipped_line("play", top.directory.parent.name, frame.directory))
        if not film.actions and not options.quiet:
            progress.say(
                "play: the model was told nothing when it learned, so no key does anything"
            )
        progress.say(f"play: {server.url} (Ctrl-C ends it)")  # also with --quiet: it is the result
        if options.browser:
            webbrowser.open(server.url)
        server.wait()
    return Played(tuple(show.recorded), film.seed)
