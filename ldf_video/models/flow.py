"""The default top model: rectified flow over windows of latents, rolled forward to any length.

A block-causal transformer over the patches of frames, each frame with a noise level of its own
(Diffusion Forcing, Chen et al. 2024, arXiv:2407.01392). It is trained on what it meets when it is
rolled forward: a clean or nearly clean past and a noisy block after it. When it samples, it keeps
the keys and values of the past and integrates the noisy block in a few steps, so that memory and
time a frame do not depend on the length of the video.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldf_video.models.flow_network import KeysValues, LocalPath, TransformerLayer
from ldf_video.models.game import Game, Logs, Noise, Player, Tick
from ldf_video.models.layers import fourier_features, patchify, unpatchify
from ldf_video.models.top import TopModel


@dataclass(frozen=True)
class FlowConfig:
    """Shape and schedule of a flow.

    Attributes:
        latent_shape: of one frame, (channels, rows, columns).
        patch: cells along each side of a token (Peebles & Xie 2023); 0 for one token a frame.
        window: frames that the network sees at once, a multiple of `block`.
        block: frames that are integrated together; a block sees itself and the past.
        width: of a token, a multiple of `heads`.
        depth: transformer layers.
        heads: of the attention.
        local_width: channels of a cell in the convolutions around the transformer; 0 for none.
        local_depth: such convolutions before the transformer, and as many after it.
        sampling_steps: steps a block when sampling, each one pass of the network.
        first_steps: the same for the first block of a video, which has no past and has most to
            decide (docs/log.md).
        level_shift: how much denser the steps lie at the noisy end, where a frame is decided (Esser
            et al. 2024, arXiv:2403.03206); 1 for even steps.
        shared_noise: share of the noise's variance that is the same in all frames of a block (Ge et
            al. 2023, arXiv:2305.10474): what stands still then has nearly the same noise, too.
        prefix_noise: highest noise level of the clean past in training.
        context_level: noise level that the network takes the past to have when sampling.
        kept: a frame's place is that in its block, of which a video's first one has its own, and
            the past is known by its distance, so that keys and values of the past are computed once
            and kept from block to block. Otherwise a frame's place is that in the window, and they
            are computed for each block anew.
        renewed: each pass guesses the data, and the next one starts from that guess with new noise
            (Song et al. 2023, arXiv:2303.01469, algorithm 1), as a flow does that was distilled to
            few passes. Otherwise the velocity is integrated.
        warm_up: blocks before a video's beginning that are made and not shown: a video that goes on
            from a past of its own is better than one that begins from nothing.
    """

    latent_shape: tuple[int, int, int] = (4, 8, 8)
    patch: int = 4
    window: int = 16
    block: int = 4
    width: int = 192
    depth: int = 4
    heads: int = 4
    local_width: int = 64
    local_depth: int = 2
    sampling_steps: int = 5
    first_steps: int = 16
    level_shift: float = 2.0
    shared_noise: float = 0.75
    prefix_noise: float = 0.2
    context_level: float = 0.05
    kept: bool = False
    renewed: bool = False
    warm_up: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "latent_shape", tuple(self.latent_shape))
        if self.block < 1 or self.window % self.block or self.window < 2 * self.block:
            raise ValueError(
                f"window {self.window}, block {self.block}: "
                "expected a window of two blocks or more, a whole number of them"
            )
        if not 0 <= self.shared_noise <= 1:
            raise ValueError(f"shared_noise {self.shared_noise}: expected 0 to 1")
        for name in ("sampling_steps", "first_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: expected 1 or more")
        if not 0.01 <= self.level_shift <= 100:  # far outside of it steps have no length
            raise ValueError(f"level_shift {self.level_shift}: expected 0.01 to 100")
        if self.patch < 0:
            raise ValueError(f"patch {self.patch}: expected 1 cell or more, or 0 for a whole frame")

    @property
    def reach(self) -> int:
        """Frames of the past that a block sees."""
        return self.window - self.block

    @property
    def patch_shape(self) -> tuple[int, int]:
        """Rows and columns of cells in a token."""
        _, rows, columns = self.latent_shape
        return (self.patch, self.patch) if self.patch else (rows, columns)

    @property
    def patches(self) -> int:
        """Tokens a frame; where the grid is no whole number of patches, zeros fill the last."""
        _, rows, columns = self.latent_shape
        height, width = self.patch_shape
        return math.ceil(rows / height) * math.ceil(columns / width)


class FlowTop(TopModel):
    """Velocity network, its loss and its sampler."""

    config: FlowConfig

    def __init__(self, config: FlowConfig) -> None:
        super().__init__(config)
        size, w = config.latent_shape[0] * math.prod(config.patch_shape), config.width
        self.embed = nn.Linear(size, w)
        self.position = nn.Parameter(
            0.02 * torch.randn(2 * config.block if config.kept else config.window, w)
        )
        if config.patches > 1:
            self.place = nn.Parameter(0.02 * torch.randn(config.patches, w))
        if config.local_width:
            self.local = LocalPath(
                config.latent_shape,
                config.patch_shape,
                token_width=w,
                width=config.local_width,
                depth=config.local_depth,
            )
        self.level = nn.Sequential(nn.Linear(16, w), nn.SiLU(), nn.Linear(w, w), nn.SiLU())
        self.modulate = nn.Linear(w, 6 * w)
        self.layers = nn.ModuleList(
            [
                TransformerLayer(w, config.heads, reach=config.reach if config.kept else 0)
                for _ in range(config.depth)
            ]
        )
        self.norm = nn.LayerNorm(w)
        self.head = nn.Linear(w, size)
        for linear in (self.modulate, self.head):  # the identity, and velocity zero, at the start
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)

    # -- training --------------------------------------------------------------------------------

    def loss(self, latents: Tensor, mask: Tensor, *, noise: Noise) -> tuple[Tensor, Logs]:
        """Mean squared error of the velocity, over real and noisy frames.

        Rectified flow (Liu et al. 2022, arXiv:2209.03003, eq. 1): at level u a frame is
        (1 - u) x + u e, its velocity x - e.

        Args:
            latents: (B, window, C, H, W); what stands under the mask changes nothing.
            mask: (B, window) bool, True where a frame is real; real frames come first.
            noise: source of levels and noise.

        Returns:
            A scalar, summed over what counts and divided by all frames of the batch, so that it is
            the mean of its parts' however the batch is split; to log, the mean over what counts.
        """
        b, t = mask.shape
        clean = self.standardise(
            torch.where(mask[:, :, None, None, None], latents, self.latent_mean)
        )
        if self.config.kept:
            return self._loss_of_blocks(clean, mask, noise=noise)
        levels, counted = (part.to(clean.device) for part in self._levels(b, t, noise))
        block, size = self.config.block, clean.shape[-1]
        shared = noise.normal(b, t // block, 1, size, device=clean.device)
        own = noise.normal(b, t // block, block, size, device=clean.device)
        e = self.mixed(shared, own).flatten(1, 2)
        u = levels.unsqueeze(-1)
        velocity = self._velocity((1 - u) * clean + u * e, levels, mask=mask)
        error = (velocity.float() - (clean - e)).square().mean(-1)  # (B, window)
        weight = (mask & counted).float()
        total = (error * weight).sum()
        velocity_error = total.detach() / weight.sum().clamp_min(1)
        return total / weight.numel(), {"velocity": velocity_error}

    def _loss_of_blocks(self, clean: Tensor, mask: Tensor, *, noise: Noise) -> tuple[Tensor, Logs]:
        """The same where the past is kept: every block counts, after its own nearly clean past.

        The network goes over a window twice, once for the keys and values of its frames and once
        for noisy blocks that look at them, each with a level of its own; in every fourth block each
        frame has one.
        """
        b, t = mask.shape
        blocks, block, device = t // self.config.block, self.config.block, clean.device
        e = self.mixed(
            noise.normal(b, blocks, 1, clean.shape[-1], device=device),
            noise.normal(b, blocks, block, clean.shape[-1], device=device),
        )
        level = torch.sigmoid(noise.normal(b, blocks, 1)).expand(b, blocks, block)
        own = noise.uniform(b, blocks, 1) < 0.25
        u = torch.where(own, noise.uniform(b, blocks, block), level).to(device)
        of_past = self.config.prefix_noise * noise.uniform(b, 1, 1) * noise.uniform(b, 1, 1)
        of_past = of_past.to(device).expand_as(u)
        x = clean.unflatten(1, (blocks, block))
        other = noise.normal(b, blocks, block, clean.shape[-1], device=device)
        past = (1 - of_past.unsqueeze(-1)) * x + of_past.unsqueeze(-1) * other
        noisy = (1 - u.unsqueeze(-1)) * x + u.unsqueeze(-1) * e
        velocity = self.after_blocks(past, of_past, mask=mask)(noisy, u)
        error = (velocity.float() - (x - e)).square().mean(-1).flatten(1)
        total = (error * mask).sum()
        velocity_error = total.detach() / mask.sum().clamp_min(1)
        return total / mask.numel(), {"velocity": velocity_error}

    def after_blocks(
        self, past: Tensor, levels: Tensor, *, mask: Tensor
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """The network on all blocks of windows, each after the blocks before it.

        Args:
            past: what later blocks see of each block, (B, blocks, block, size), standardised.
            levels: of its noise, (B, blocks, block).
            mask: real frames, (B, blocks * block).

        Returns:
            From noisy blocks like `past`, and their levels like `levels`, to their velocities.
        """
        b, blocks, block, _ = past.shape
        visible = self.visible(mask)
        level = self.level(fourier_features(levels.flatten(0, 1), 8))
        seen = self._transform(past.flatten(0, 1), level, block, visible, None, sequence=blocks)[2]
        first = block * (torch.arange(blocks, device=mask.device) > 0).repeat(b)

        def velocities(noisy: Tensor, levels: Tensor) -> Tensor:
            flat = self._network(noisy.flatten(0, 1), levels.flatten(0, 1), first, visible, seen)
            return flat.unflatten(0, (-1, blocks))

        return velocities

    def visible(self, mask: Tensor) -> Tensor:
        """Which frames of its past and of itself each frame of the blocks of windows sees.

        Args:
            mask: real frames, (B, blocks * block).

        Returns:
            (B * blocks, block, reach + block) bool; no row is empty.
        """
        block, reach = self.config.block, self.config.reach
        known = torch.cat([mask.new_zeros(mask.shape[0], reach), mask], dim=1)
        seen = known.unfold(1, reach + block, block).flatten(0, 1)  # (B * blocks, reach + block)
        itself = F.pad(torch.eye(block, dtype=torch.bool, device=mask.device), (reach, 0))
        return seen[:, None] | itself

    def mixed(self, shared: Tensor, own: Tensor) -> Tensor:
        """Noise of variance 1 for the frames of blocks, part of it the same in a block's frames.

        Args:
            shared: N(0, 1), (..., 1, size).
            own: N(0, 1), (..., block, size).
        """
        share = self.config.shared_noise
        return math.sqrt(share) * shared + math.sqrt(1 - share) * own

    def _levels(self, b: int, t: int, noise: Noise) -> tuple[Tensor, Tensor]:
        """Noise levels (B, T) as the sampler will meet them, and which frames count in the loss.

        In equal parts: one level for the whole window; a nearly clean past of random length with
        one level after it; an independent level a frame.
        """
        shared = self._shared_level(b, noise).expand(b, t)
        blocks = t // self.config.block
        prefix = self.config.block * (1 + (noise.uniform(b, 1) * (blocks - 1)).floor())
        past = torch.arange(t) < prefix  # (B, T)
        nearly_clean = self.config.prefix_noise * noise.uniform(b, 1) * noise.uniform(b, 1)
        continued = torch.where(past, nearly_clean, shared)
        part = noise.uniform(b, 1) * 3
        levels = torch.where(
            part < 1, shared, torch.where(part < 2, continued, noise.uniform(b, t))
        )
        return levels, ~(past & (part >= 1) & (part < 2))

    def _shared_level(self, b: int, noise: Noise) -> Tensor:
        """A noise level a window (B, 1), logit-normal (Esser et al. 2024)."""
        return torch.sigmoid(noise.normal(b, 1))

    def _velocity(self, frames: Tensor, levels: Tensor, *, mask: Tensor) -> Tensor:
        """The network on whole windows (B, T, size), T at most `window`, blocks seeing the past."""
        t = frames.shape[1]
        itself = torch.eye(t, dtype=torch.bool, device=frames.device)
        attention = (self._causal(t) & mask[:, None, :]) | itself  # (B, T, T); no row is empty
        return self._network(frames, levels, 0, attention, None)

    def _causal(self, t: int) -> Tensor:
        """Which frames (T, T) see which: those of their own block and of earlier ones."""
        block = torch.arange(t, device=self.position.device) // self.config.block
        return block[:, None] >= block[None, :]

    def _network(
        self,
        frames: Tensor,
        levels: Tensor,
        first: int | Tensor,
        mask: Tensor | None,
        past: KeysValues | None,
    ) -> Tensor:
        """Velocities of frames `first`... of a window.

        Args:
            frames: (B, T, size), standardised.
            levels: (B, T), or (1, 1) where all frames have one.
            first: number of the first frame in its window, an int or (B,); where the past is kept,
                `block` after a past and 0 without one.
            mask: which frames see which, (T, T) or (B, T, T); None where all see all.
            past: keys and values of frames 0 to `first`, which all of these see.
        """
        level = self.level(fourier_features(levels, 8))
        tokens, features, _ = self._transform(frames, level, first, mask, past)
        return self._head(tokens, features, level)

    def _head(self, tokens: Tensor, features: Tensor | None, level: Tensor) -> Tensor:
        """Velocities (B, T, size) from what `_transform` gives."""
        c, tokens = self.config, self.norm(tokens)
        velocities = unpatchify(self.head(tokens), c.latent_shape, c.patch_shape)
        if features is not None:
            velocities = velocities + self.local.decode(features, tokens, level)
        return velocities.flatten(-3)

    def _transform(
        self,
        frames: Tensor,
        level: Tensor,
        first: int | Tensor,
        mask: Tensor | None,
        past: KeysValues | None,
        *,
        sequence: int = 0,
    ) -> tuple[Tensor, Tensor | None, KeysValues]:
        """Tokens that leave the transformer, features that go around it, keys and values a layer.

        `level` holds features of the noise levels, (B, T, width) or (1, 1, width); `sequence` is
        that of `TransformerLayer`.
        """
        c = self.config
        noisy = frames.unflatten(-1, c.latent_shape)
        h, features = self.embed(patchify(noisy, c.patch_shape)), None
        if c.local_width:
            features, of_cells = self.local.encode(noisy, level)
            h = h + of_cells
        number = torch.as_tensor(first, device=h.device).unsqueeze(-1)
        number = number + torch.arange(frames.shape[1], device=h.device)  # (T,) or (B, T)
        h = h + self.position[number].unsqueeze(-2)
        if c.patches > 1:
            h = h + self.place
        modulation = self.modulate(level).unsqueeze(2)
        if mask is not None:  # of frames -> (..., 1, tokens, keys), for all heads
            mask = mask.repeat_interleave(c.patches, -1).repeat_interleave(c.patches, -2)
            mask = mask.unsqueeze(-3)
        seen: KeysValues = []
        for i, layer in enumerate(self.layers):
            of_layer = None if past is None else past[i]
            h, keys_values = layer(h, modulation, mask, of_layer, sequence=sequence)
            seen.append(keys_values)
        return h, features, seen

    # -- sampling --------------------------------------------------------------------------------

    @torch.inference_mode()
    def sample(
        self,
        num_frames: int,
        generators: Sequence[torch.Generator],
        *,
        context: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """Roll the flow forward, a block at a time.

        The first frames of a longer video are those of a shorter one with the same generators.

        Args:
            num_frames: frames a video, at least 1.
            generators: one a video, N of them: the only source of chance.
            context: latents (N, n, C, H, W) to go on from, n at least 1, not yielded again.

        Yields:
            Latents (N, up to `block`, C, H, W), float32, `num_frames` of them in all.
        """
        past = self._context(context, len(generators))
        seen: KeysValues | None = None
        new = past.split(self.config.block, dim=1) if past.shape[1] else ()
        before = self.config.warm_up * self.config.block if context is None else 0
        for done in range(-before, num_frames, self.config.block):
            if not self.config.kept:
                seen = self.remember_window(past) if past.shape[1] else None
                tokens, _ = self._next_block(seen, generators, first=past.shape[1])
                past = torch.cat([past, tokens], dim=1)[:, -self.config.reach :]
            else:
                for block in new[:-1]:
                    seen = self.remember_block(block, seen)
                first = self.config.block if new else 0
                tokens, seen = self._next_block(
                    seen, generators, first=first, newest=new[-1] if new else None
                )
                new = (tokens,)
            if done >= 0:
                yield self.restore(tokens[:, : num_frames - done])

    def _context(self, context: Tensor | None, n: int) -> Tensor:
        """What is known of the past, standardised (N, whole blocks, size): the newest frames."""
        c = self.config
        if context is None:
            return self.latent_mean.new_zeros((n, 0, math.prod(c.latent_shape)))
        tokens = self.standardise(context)
        if tokens.shape[1] < c.block:  # too short for a block: its first frame stood still before
            missing = c.block - tokens.shape[1]
            tokens = torch.cat([tokens[:, :1].expand(-1, missing, -1), tokens], dim=1)
        kept = min(tokens.shape[1] // c.block * c.block, c.window - c.block)
        return tokens[:, -kept:]

    def _next_block(
        self,
        seen: KeysValues | None,
        generators: Sequence[torch.Generator],
        *,
        first: int,
        newest: Tensor | None = None,
    ) -> tuple[Tensor, KeysValues | None]:
        """Make one block (N, block, size) from noise, after a past if there is one.

        Args:
            seen: keys and values of the past.
            generators: sources of chance, one a video.
            first: number of the block's first frame in its window.
            newest: the block before, where `seen` does not hold it yet.

        Returns:
            The block, and keys and values of all that stands before it.
        """
        if newest is not None and (seen is None or not self._is_full(seen)):
            seen, newest = self.remember_block(newest, seen), None

        def velocity(x: Tensor, level: float) -> Tensor:
            nonlocal seen, newest
            if newest is not None and seen is not None:
                velocity, seen = self._follow(newest, x, level, seen)
                newest = None
                return velocity
            return self._network(x, x.new_full((1, 1), level), first, None, seen)

        def noise() -> Tensor:
            shape = (1 + self.config.block, math.prod(self.config.latent_shape))
            e = torch.stack([torch.randn(shape, generator=g, device=g.device) for g in generators])
            return self.mixed(e[:, :1], e[:, 1:]).to(self.latent_mean.device)

        steps = self.config.first_steps if seen is None else self.config.sampling_steps
        levels = self.sampling_levels(steps)
        if self.config.renewed:
            return renew(noise, levels, velocity), seen
        return integrate(noise(), levels, velocity), seen

    def _is_full(self, seen: KeysValues) -> bool:
        """Whether as much of the past is seen as there is room for."""
        return seen[0][0].shape[2] == self.config.reach * self.config.patches

    def _follow(
        self, newest: Tensor, x: Tensor, level: float, seen: KeysValues
    ) -> tuple[Tensor, KeysValues]:
        """A block's keys and values and the first velocity of the block behind it, in one pass.

        Args:
            newest: the block that is done, (N, block, size).
            x: the noisy block behind it.
            level: its noise.
            seen: keys and values of what stands before both, as much as there is room for.

        Returns:
            The velocity of x; keys and values of what stands before it.
        """
        both = torch.stack([newest, x], dim=1).flatten(0, 1)  # (2 N, block, size)
        levels = x.new_tensor([self.config.context_level, level]).repeat(len(x))
        of_level = self.level(fourier_features(levels[:, None], 8)).expand(-1, x.shape[1], -1)
        tokens, features, before = self._transform(
            both, of_level, self.config.block, None, seen, sequence=2
        )
        if features is not None:
            features = features.unflatten(0, (len(x), 2, -1))[:, 1].flatten(0, 1)
        velocity = self._head(tokens[1::2], features, of_level[1::2])
        return velocity, [(keys[1::2], values[1::2]) for keys, values in before]

    def sampling_levels(self, steps: int) -> list[float]:
        """Noise levels that a block passes through in a number of steps, from 1 to 0."""
        shift = self.config.level_shift
        even = (1 - step / steps for step in range(steps + 1))
        return [shift * u / (1 + (shift - 1) * u) for u in even]

    def remember_block(self, block: Tensor, seen: KeysValues | None) -> KeysValues:
        """Keys and values of the newest frames, once a block (N, block, size) stands behind them.

        Each block's are computed here and never again.
        """
        level = self.level(fourier_features(block.new_full((1, 1), self.config.context_level), 8))
        new = self._transform(block, level, self.config.block, None, seen)[2]
        if seen is None:
            return new
        kept = self.config.reach * self.config.patches
        return [
            (torch.cat([k, of_k], dim=2)[:, :, -kept:], torch.cat([v, of_v], dim=2)[:, :, -kept:])
            for (k, v), (of_k, of_v) in zip(seen, new, strict=True)
        ]

    def remember_window(self, past: Tensor) -> KeysValues:
        """Keys and values of the past, at `context_level`."""
        level = self.level(fourier_features(past.new_full((1, 1), self.config.context_level), 8))
        return self._transform(past, level, 0, self._causal(past.shape[1]), None)[2]


Velocity = Callable[[Tensor, float], Tensor]
"""From a noisy block and its level to the direction of the data."""


def integrate(x: Tensor, levels: Sequence[float], velocity: Velocity) -> Tensor:
    """Lead a block from noise to data, or part of the way.

    By the two-step method of Adams and Bashforth, which takes the last velocity with the one before
    it, so that a step is still one pass (as Liu et al. 2022, arXiv:2202.09778, with four steps);
    the first is Euler's. Steps may differ in length.
    """
    before = None
    for high, low in pairwise(levels):
        slope = now = velocity(x, high)
        step = high - low
        if before is not None:
            last_velocity, last_step = before
            slope = now + step / last_step / 2 * (now - last_velocity)
        x, before = x + step * slope, (now, step)
    return x


def renew(noise: Callable[[], Tensor], levels: Sequence[float], velocity: Velocity) -> Tensor:
    """Guess the data at each level, from the last guess with new noise.

    Song et al. (2023), arXiv:2303.01469, algorithm 1, with our levels: the path from x at level u
    is taken to be straight, x + u v.
    """
    x = noise()
    for high, low in pairwise(levels):
        guess = x + high * velocity(x, high)
        x = guess if low == 0 else (1 - low) * guess + low * noise()
    return x


class FlowGame(Game):
    """A game of one player."""

    model: FlowTop

    def __init__(self, top: FlowTop) -> None:
        super().__init__()
        self.model = top

    @property
    def players(self) -> Sequence[Player]:
        """The flow alone."""
        return (Player("flow", [self.model], self._loss),)

    def _loss(self, batch: tuple[Tensor, Tensor], tick: Tick) -> tuple[Tensor, Logs]:
        return self.model.loss(*batch, noise=tick.noise)
