"""Text, the paper's other example of objects of any length: chunks of characters as local parts.

    OMP_NUM_THREADS=1 python scripts/paper/text.py docs/paper [--short]

The text is what `help()` of Python says of the language (`pydoc_data.topics`), or that of --text
FILE, each paragraph once. It is cut into parts of 4,000 characters, of which every third is held
out. A local part is a chunk of four characters, a clip sixteen of them.

The lower level learns single chunks: a denoising autoencoder from four characters to eight numbers
and back, by cross-entropy, with the default preset's moments and noise on latents (`--latents`,
`--noise`). The paper's game is left out: D would tell a generated chunk by its characters not being
whole. The upper level is the default flow, on clips of such latents. `characters` is the same flow
on clips whose chunks are their characters themselves, a number for each that there could be. Both
have the same core time.

Made are texts as long as a clip, and longer ones, rolled forward. What is measured of them, and of
learned text that was encoded and decoded:

- bits: of a character, by a model of five characters (Witten-Bell) of the held-out texts.
- back: bits of a held-out character by such a model of the made texts; high where they are few.
- words: share of the words that held-out texts have, too.
- copied: share of stretches of 24 characters that are in the learned text.

Real text and texts of models of two, three and five characters of the learned text stand beside it.
Writes text.json, with the beginnings of some texts, and text.png.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import experiment
import numpy as np
import torch
import torch.nn.functional as F
from arrays import WindowsOf
from numpy.typing import NDArray
from torch import Tensor, nn

from ldf_video.errors import LdfError
from ldf_video.levels.latents import video_generator
from ldf_video.levels.top_settings import DEFAULTS as TOP_DEFAULTS
from ldf_video.models import build
from ldf_video.models.game import Game, Logs, Part, Player, Tick
from ldf_video.models.grid import GridGameConfig
from ldf_video.models.losses import RunningMoments
from ldf_video.models.rollout import Rollout
from ldf_video.models.top import TopModel
from ldf_video.output import write_atomically
from ldf_video.training.config import TrainConfig
from ldf_video.training.update import frame_indices

CHUNK, CLIP = 4, 16
"""Characters of a local part; parts of a clip."""
PART, EVERY = 4_000, 3
"""Characters of a part of the text; which of them is held out."""
WIDTH = 256
RAREST = 20
"""How often a character is there at least; a rarer one becomes a space."""
BLOCK = 4
HISTORY, STRETCH, BACK = 5, 24, 3
"""Characters that the models look back on; of a stretch; parts that "back" is measured on."""
LONG_CHUNKS = 128
SPACES = ("latents", "characters")

Numbers = NDArray[np.int64]


# -- text ------------------------------------------------------------------------------------------


def text_of(path: Path | None) -> str:
    """The text, each paragraph once, single spaces between its words, no rare character.

    Raises:
        LdfError: it cannot be read.
    """
    if path is None:
        from pydoc_data.topics import topics

        text = "\n\n".join(topics[name] for name in sorted(topics))
    else:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise LdfError(f"--text {path}: {error}; expected a file of text, in UTF-8") from error
    paragraphs = re.split(r"\n\s*\n", text)
    text = re.sub(r"\s+", " ", " ".join(dict.fromkeys(paragraphs)))
    counts = Counter(text)
    return "".join(c if counts[c] >= RAREST else " " for c in text)


def parted(text: str) -> tuple[list[str], list[str]]:
    """Parts to learn from, and those held out.

    Raises:
        LdfError: there is too little of it.
    """
    parts = [text[start : start + PART] for start in range(0, len(text) - PART + 1, PART)]
    if len(parts) < 2 * EVERY:
        raise LdfError(f"{len(text):,} characters: expected {2 * EVERY * PART:,} or more")
    held_out = parts[EVERY - 1 :: EVERY]
    return [part for n, part in enumerate(parts) if n % EVERY != EVERY - 1], held_out


def clips_of(parts: Sequence[str], alphabet: str) -> Numbers:
    """Clips (N, CLIP, CHUNK) of numbers of characters, one from every place of each part."""
    number = {character: n for n, character in enumerate(alphabet)}
    size = CLIP * CHUNK
    known = [np.array([number[c] for c in part]) for part in parts]
    clips = [np.lib.stride_tricks.sliding_window_view(part, size) for part in known]
    return np.concatenate(clips).reshape(-1, CLIP, CHUNK)


# -- the lower level -------------------------------------------------------------------------------


class Chunks(nn.Module):
    """E and G of chunks, numbers of characters (n, CHUNK) <-> latents (n, C, 1, 1)."""

    def __init__(self, characters: int, latents: int) -> None:
        super().__init__()
        self.characters, size = characters, CHUNK * characters
        self.encoder = nn.Sequential(*_perceptron(size), nn.Linear(WIDTH, latents))
        self.generator = nn.Sequential(*_perceptron(latents), nn.Linear(WIDTH, size))

    def encode(self, chunks: Tensor) -> Tensor:
        return self.encoder(one_hot(chunks, self.characters))[..., None, None]

    def logits(self, z: Tensor) -> Tensor:
        """Of each character of each place, (n, CHUNK, characters)."""
        return self.generator(z.flatten(1)).unflatten(1, (CHUNK, self.characters))

    def decode(self, z: Tensor) -> Tensor:
        return self.logits(z).argmax(2)


def _perceptron(size: int) -> list[nn.Module]:
    return [nn.Linear(size, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH), nn.SiLU()]


def one_hot(chunks: Tensor, characters: int) -> Tensor:
    """Chunks (n, CHUNK) -> (n, CHUNK * characters), 1 for each that is there."""
    return F.one_hot(chunks, characters).flatten(1).float()


class ChunkGame(Game):
    """A denoising autoencoder, whose latents are pulled to N(0, I) as in `GridGame`."""

    model: Chunks

    def __init__(self, model: Chunks, *, latents: int, noise: float) -> None:
        super().__init__()
        self.model, self.moments, self.noise = model, RunningMoments(latents), noise

    @property
    def players(self) -> Sequence[Player]:
        """E and G alone."""
        return (Player("encoder_generator", [self.model], self.loss),)

    def loss(self, chunks: Tensor, tick: Tick) -> tuple[Tensor, Logs]:
        """Cross-entropy, in nats a character, and the distance of moments."""
        z = self.model.encode(chunks)
        noisy = z + self.noise * tick.noise.normal(*z.shape)
        characters = F.cross_entropy(self.model.logits(noisy).flatten(0, 1), chunks.flatten())
        moments = self.moments(z)
        logs = {"characters": characters.detach(), "moments": moments.detach()}
        return characters + GridGameConfig().moments * moments, logs


class ChunksOf(WindowsOf):
    """The lower level on chunks (N, CHUNK)."""

    def batch(self, step: int, part: Part, device: torch.device) -> Any:
        """Random chunks."""
        count, size = len(self.latents), self.batch_size
        numbers = part.rows(frame_indices(self.seed, step, num_frames=count, batch_size=size))
        return self.latents[torch.from_numpy(numbers)].to(device)


# -- both levels -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Space:
    """What stands for a chunk: a table of all known ones, and the way back.

    Attributes:
        tokens: of each known chunk, (n, C, 1, 1).
        of_clips: numbers of the chunks of all clips, (N, CLIP).
        core_seconds: of learning it.
    """

    tokens: Tensor
    of_clips: Tensor
    decode: Any
    core_seconds: float = 0.0


class ClipsOf(WindowsOf):
    """The upper level on clips of chunks that a space knows."""

    def __init__(self, game: Game, space: Space, *, batch_size: int, seed: int) -> None:
        super().__init__(game, space.of_clips, batch_size=batch_size, seed=seed)
        self.space = space

    def batch(self, step: int, part: Part, device: torch.device) -> Any:
        """Random clips' tokens."""
        batch = super().batch(step, part, device)
        return batch._replace(latents=self.space.tokens[batch.latents])


def space_of(name: str, clips: Numbers, alphabet: str, directory: Path, options: Any) -> Space:
    """What stands for chunks, learned where that is needed."""
    known, numbers = np.unique(clips.reshape(-1, CHUNK), axis=0, return_inverse=True)
    of_clips, chunks = torch.from_numpy(numbers.reshape(len(clips), CLIP)), torch.from_numpy(known)
    characters = len(alphabet)
    if name == "characters":
        tokens = one_hot(chunks, characters)[..., None, None]
        return Space(
            tokens, of_clips, lambda z: z.reshape(len(z), CHUNK, characters).argmax(2).numpy()
        )

    def chunk_model() -> Chunks:
        return Chunks(characters, options.latents)

    torch.manual_seed(options.seed)
    budget = {"minutes": options.chunk_minutes, "batch_size": 256, "seed": options.seed}
    config = TrainConfig(**budget, learning_rate=1e-3, optimizer="adam")
    seen = chunks[of_clips[:, 0]]  # as often as it is there
    game = ChunkGame(chunk_model(), latents=options.latents, noise=options.noise)
    level = ChunksOf(game, seen, batch_size=config.batch_size, seed=options.seed)
    mark = experiment.train(level, directory, config, mark_seconds=1e9)[-1]
    model: Any = mark.load(chunk_model())
    with torch.inference_mode():
        tokens = model.encode(chunks)

    @torch.inference_mode()
    def decode(z: Tensor) -> Numbers:
        return np.asarray(model.decode(z))

    return Space(tokens.clone(), of_clips, decode, mark.core_seconds)


def train_flow(space: Space, directory: Path, options: Any) -> tuple[Any, list[experiment.Mark]]:
    """The default flow on clips, for what is left of the core time."""
    shape: Any = tuple(space.tokens.shape[1:])
    model, settings = build.top_settings("flow", latent_shape=shape, window=CLIP, block=BLOCK)
    torch.manual_seed(options.seed)
    top = build.top_model(model)
    some = space.tokens[space.of_clips[:, 0]]
    top.set_statistics(some.mean(0), some.std(0).clamp_min(1e-2))
    minutes = options.minutes - space.core_seconds / 60
    settled = {"mixed_precision": "bf16", "seed": options.seed, **TOP_DEFAULTS["flow"]}
    config = TrainConfig(minutes=minutes, **settled)
    game = build.top_game(top, settings)
    level = ClipsOf(game, space, batch_size=config.batch_size, seed=options.seed)
    return top, experiment.train(level, directory, config, mark_seconds=60 * minutes / 4)


@torch.inference_mode()
def made(top: TopModel, space: Space, alphabet: str, *, count: int, chunks: int) -> list[str]:
    """Texts of so many chunks."""
    generators = [video_generator(0, number) for number in range(count)]
    tokens = torch.cat([*top.sample(Rollout(chunks), generators)], dim=1)
    return written(space, tokens.float(), alphabet)


def written(space: Space, tokens: Tensor, alphabet: str) -> list[str]:
    """Texts of tokens (N, T, C, 1, 1)."""
    numbers = space.decode(tokens.flatten(0, 1)).reshape(len(tokens), -1)
    return ["".join(alphabet[n] for n in row) for row in numbers]


# -- what is measured ------------------------------------------------------------------------------


class Characters:
    """A model of a character after those before it, by Witten and Bell (1991), method C."""

    def __init__(self, texts: Sequence[str], history: int, alphabet: str) -> None:
        self.history, self.alphabet = history, alphabet
        self.counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for text in texts:
            for place, character in enumerate(text):
                for length in range(min(history, place) + 1):
                    self.counts[text[place - length : place]][character] += 1

    def shares(self, before: str) -> NDArray[np.float64]:
        """Probabilities of all characters after others."""
        found = np.full(len(self.alphabet), 1 / len(self.alphabet))
        for length in range(min(self.history, len(before)) + 1):
            counts = self.counts.get(before[len(before) - length :])
            if counts is None:
                break
            seen = np.array([counts[c] for c in self.alphabet], float)
            found = (seen + len(counts) * found) / (seen.sum() + len(counts))
        return found

    def bits(self, texts: Sequence[str]) -> float:
        """Bits of a character, a mean."""
        total = sum(
            -np.log2(self.shares(text[max(0, place - self.history) : place])[number])
            for text in texts
            for place, number in enumerate(map(self.alphabet.index, text))
        )
        return float(total / sum(map(len, texts)))

    def text(self, length: int, rng: np.random.Generator) -> str:
        """Made by it."""
        found = ""
        for _ in range(length):
            shares = self.shares(found[max(0, len(found) - self.history) :])
            found += self.alphabet[rng.choice(len(shares), p=shares)]
        return found


def words_of(texts: Sequence[str]) -> list[str]:
    """Words of texts, but for the first and the last, which may be cut."""
    return [word for text in texts for word in re.findall(r"[A-Za-z]+", text)[1:-1]]


class Measures:
    """What is asked of made texts."""

    def __init__(self, learned: Sequence[str], held_out: Sequence[str], alphabet: str) -> None:
        """Every second held-out part is what others are measured by."""
        self.known, self.others = held_out[::2], held_out[1::2]
        self.model = Characters(self.known, HISTORY, alphabet)
        self.words = set(words_of(self.known))
        self.learned = "\n".join(learned)

    def of(self, texts: Sequence[str]) -> dict[str, float]:
        """The figures of some texts; those of unlike numbers of characters do not compare."""
        back = Characters(texts, HISTORY, self.model.alphabet)
        words = words_of(texts)
        stretches = [t[i : i + STRETCH] for t in texts for i in range(0, len(t) - STRETCH + 1, 8)]
        return {
            "bits": round(self.model.bits(texts), 3),
            "back": round(back.bits(self.known[:BACK]), 3),
            "words": round(sum(word in self.words for word in words) / max(1, len(words)), 3),
            "copied": round(sum(s in self.learned for s in stretches) / len(stretches), 3),
        }

    def cut(self, count: int, length: int) -> list[str]:
        """Other held-out text, as many texts as long."""
        whole = "".join(self.others)
        starts = np.linspace(0, len(whole) - length, count).astype(int)
        return [whole[start : start + length] for start in starts]


def run_space(
    name: str, clips: Numbers, alphabet: str, measures: Measures, options: Any
) -> dict[str, Any]:
    """Train on a space, and measure on the way, and long texts at the end."""
    chosen = (options.minutes, options.latents, options.noise, options.seed)
    runs = options.runs / "-".join(["text", *(f"{one:g}" for one in chosen)])
    kept = runs / f"{name}.json"
    if kept.is_file():
        return dict(json.loads(kept.read_text()))
    space = space_of(name, clips, alphabet, runs / "chunks", options)
    back = space.decode(space.tokens).reshape(-1, CHUNK)
    known = np.unique(clips.reshape(-1, CHUNK), axis=0)
    times = np.bincount(space.of_clips[:, 0], minlength=len(known))
    right = float(np.average((back == known).mean(1), weights=times))
    top, marks = train_flow(space, runs / name, options)
    curve = []
    for mark in marks:
        mark.load(top)
        texts = made(top, space, alphabet, count=options.count, chunks=CLIP)
        at = {"core_seconds": space.core_seconds + mark.core_seconds, "step": mark.step}
        curve.append({**at, **measures.of(texts)})
        print(f"{name}: {curve[-1]}\n  {texts[0]}")
    count = max(1, options.count * CLIP // LONG_CHUNKS)
    rolled = made(top, space, alphabet, count=count, chunks=LONG_CHUNKS)
    some = space.of_clips[:: len(space.of_clips) // options.count][: options.count]
    decoded = written(space, space.tokens[some], alphabet)
    found = {"characters_back": right, "decoded": measures.of(decoded)}
    found |= {"curve": curve, "long": measures.of(rolled)}
    found |= {"texts": texts[:8], "long_texts": rolled[:2]}
    write_atomically(kept, lambda partial: partial.write_text(json.dumps(found) + "\n"))
    return found


def main(options: argparse.Namespace) -> None:
    """Train, measure, write."""
    text = text_of(options.text)
    learned, held_out = parted(text)
    alphabet = "".join(sorted(set(text)))
    measures, clips = Measures(learned, held_out, alphabet), clips_of(learned, alphabet)
    print(f"{len(text):,} characters, {len(alphabet)} of them different")
    arms = {name: run_space(name, clips, alphabet, measures, options) for name in options.spaces}
    rng, length = np.random.default_rng(0), CLIP * CHUNK
    beside: dict[str, Mapping[str, float]] = {}
    beside["real text"] = measures.of(measures.cut(options.count, length))
    for history in (2, 3, HISTORY):
        model = Characters(learned, history, alphabet)
        texts = [model.text(length, rng) for _ in range(options.count)]
        beside[f"{history} characters before"] = measures.of(texts)
    names = ("minutes", "chunk_minutes", "count", "latents", "noise")
    budget = {name: getattr(options, name) for name in names}
    told = {"characters": len(text), "different": len(alphabet), "learned": PART * len(learned)}
    results = {"budget": budget, "text": told, "beside": beside, "arms": arms}
    experiment.write_results(options.out / "text.json", results)
    curves = {
        name: [[(point["core_seconds"] / 60, point["bits"]) for point in arm["curve"]]]
        for name, arm in arms.items()
    }
    lines = {name: figures["bits"] for name, figures in beside.items()}
    y = "bits a character"
    path = options.out / "text.png"
    experiment.plot_curves(path, curves, x="core minutes", y=y, log_y=False, lines=lines)
    for name, figures in {**beside, **{n: arm["curve"][-1] for n, arm in arms.items()}}.items():
        print(name, figures)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = experiment.parser(__doc__, clips=False)
    parser.add_argument("--text", type=Path, help="a file of text to learn instead")
    parser.add_argument("--spaces", nargs="+", default=SPACES, choices=SPACES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--latents", type=int, default=8, help="numbers of a chunk")
    parser.add_argument("--noise", type=float, default=GridGameConfig().latent_noise)
    parser.add_argument("--minutes", type=float, help="core minutes of both levels")
    parser.add_argument("--chunk-minutes", type=float, help="of them, for the lower level")
    parser.add_argument("--count", type=int, help="texts to measure")
    options = parser.parse_args(argv)
    usual = (1.5, 0.4, 100) if options.short else (10.0, 2.0, 500)
    for name, value in zip(("minutes", "chunk_minutes", "count"), usual, strict=True):
        if getattr(options, name) is None:
            setattr(options, name, value)
    if not 0 < options.chunk_minutes < options.minutes:
        parser.error(
            f"--chunk-minutes {options.chunk_minutes:g}: expected more than 0, and less than "
            f"--minutes {options.minutes:g}"
        )
    if options.count < 1:
        parser.error(f"--count {options.count}: expected 1 or more")
    return options


if __name__ == "__main__":
    experiment.run(main, parse())
