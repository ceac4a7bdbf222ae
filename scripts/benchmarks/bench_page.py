"""A page of `ldf-video export --html`: its size, its rate, and how far it is from torch.

    python scripts/benchmarks/bench_page.py MODEL --runtime node_modules/onnxruntime-web

MODEL is a top model that `export` takes. Needs Chromium or Chrome, and the extra `export`. The page
is opened from its file with the network off, makes 100 blocks from known noise, and then as many
frames as it can for ten seconds. Pixels are compared with those that torch makes of the same noise,
with the weights as the page stores them; each block follows from the one before, so roundings grow.
Then the page is served on this machine with the headers that let a page have threads, and makes
frames with two. Prints MiB, for how long all pixels are within one level of 255, and frames a
second of both.
"""

from __future__ import annotations

import argparse
import base64
import json
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from headless import Browser, browsing

from ldf_video import api
from ldf_video.levels.latents import decode
from ldf_video.models.flow import FlowTop
from ldf_video.playing.graphs import BlockGraph, Chance, GraphFilm, Graphs
from ldf_video.recipes.export import round_weights
from ldf_video.runs.zoo import find_model, frame_model_of, load_top_model

SEED = 5
SECONDS = 10

MAKE = """(async () => {
  const model = film.model, all = [];
  await model.start(SEED);
  for (let i = 0; i < COUNT; i++) all.push(...await model.next(unknown()));
  const flat = new Uint8Array(all.length * all[0].length);
  all.forEach((rgb, i) => flat.set(rgb, i * rgb.length));
  let text = "";
  for (let i = 0; i < flat.length; i += 8192)
    text += String.fromCharCode(...flat.subarray(i, i + 8192));
  return btoa(text);
})()"""
RUN = """(async () => {
  const model = film.model, begun = performance.now();
  let made = 0;
  while (performance.now() - begun < SECONDS * 1000) made += (await model.next(unknown())).length;
  return 1000 * made / (performance.now() - begun);
})()"""


class Handler(SimpleHTTPRequestHandler):
    """Files of a folder, for a page that may have threads."""

    def end_headers(self) -> None:
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a folder on this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def ready(browser: Browser) -> None:
    """Wait for the model, and stop the film that plays by itself."""
    browser.wait("window.film && film.shown > 3")
    browser.value("source.ask({ pause: true })")
    before = -1
    while (shown := browser.value("film.shown")) != before:
        before = shown
        browser.value("new Promise(done => setTimeout(done, 300))")


def by_torch(model: str, weights: str, starts: npt.NDArray[np.float16], count: int) -> torch.Tensor:
    """Frames of the same noise."""
    directory, _ = find_model(model, "top")
    top = load_top_model(directory, device="cpu")
    frame = frame_model_of(top.config, beside=directory, device="cpu").model
    flow = top.model
    assert isinstance(flow, FlowTop)
    for part in (flow, frame):
        round_weights(part, weights)
    c, graph = flow.config, BlockGraph(flow).eval()
    passes = c.sampling_steps if c.renewed else 1
    names = tuple(str(n) for n in range(2 * c.depth))
    shape = (1, c.heads, c.reach * c.patches, c.width // c.heads)
    known = torch.from_numpy(starts[SEED % len(starts)]).float()
    with torch.no_grad():
        graphs = Graphs(b"", b"", names, shape, passes)
        film = GraphFilm(lambda inputs: graph(*inputs.values()), flow, graphs, known)
        chance = Chance(SEED)
        blocks = (film.make(chance.noise(flow, passes), None)[None] for _ in range(count))
        return torch.from_numpy(np.concatenate(list(decode(frame, blocks, at_once=1)), axis=1)[0])


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--runtime", default="node_modules/onnxruntime-web")
    parser.add_argument("--weights", default="int8", choices=("half", "int8"))
    parser.add_argument("--blocks", type=int, default=100)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        page, graphs = folder / "page.html", folder / "graphs"
        options = {"runtime": arguments.runtime, "weights": arguments.weights, "quiet": True}
        api.export(top_model=arguments.model, html=page, out=graphs, seed=1, **options)
        print(f"{page.stat().st_size / 2**20:.2f} MiB, weights as {arguments.weights}", flush=True)
        settings = json.loads((graphs / "model.json").read_text())
        make = MAKE.replace("SEED", str(SEED)).replace("COUNT", str(arguments.blocks))
        run = RUN.replace("SECONDS", str(SECONDS))
        with browsing(page.as_uri(), folder / "a", width=800, height=600) as browser:
            limits = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
            browser.ask("Network.enable")
            browser.ask("Network.emulateNetworkConditions", **limits)
            ready(browser)
            pixels = np.frombuffer(base64.b64decode(browser.value(make)), np.uint8)
            alone = browser.value(run)
        shape = (-1, settings["height"], settings["width"], 3)
        starts = np.load(graphs / "starts.npy")
        expected = by_torch(arguments.model, arguments.weights, starts, arguments.blocks).numpy()
        change = np.abs(pixels.reshape(shape).astype(int) - expected)
        apart = np.flatnonzero((change > 1).any((1, 2, 3)))
        same = len(expected) if not len(apart) else int(apart[0])
        print(
            f"{len(expected)} frames: within one level of torch for the first {same}; "
            f"{(change > 1).mean():.4%} of all numbers differ by more",
            flush=True,
        )
        url = served(folder)
        with (
            url as address,
            browsing(address + "/page.html", folder / "b", width=800, height=600) as b,
        ):
            ready(b)
            print(
                f"frames/s: {alone:.1f} with one thread, {b.value(run):.1f} with "
                f"{b.value('film.model.ort.env.wasm.numThreads')}"
            )


if __name__ == "__main__":
    main()
